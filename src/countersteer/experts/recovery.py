"""The recovery plan: a quintic back to the path, IDM for speed.

From lateral offset e, relative heading psi and curvature kappa on a path of curvature kappa_r, the
lateral offset d(s) over the driven distance s is the quintic with

    d(0) = e,  d'(0) = tan(psi),  d''(0) = m (kappa - kappa_r),  d(S) = d'(S) = d''(S) = 0,

closed over S = v t_c with t_c = clip(|e| / rate, shortest, longest) (docs/log/2026-11-22-closed-loop.md has the values
tried). It is in the driven distance rather than in time, so that it stays drivable down to standstill.
Of a few stretched closing times the shortest within the bounds on lateral acceleration, curvature and
jerk is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from countersteer.experts.interface import Expert, Label
from countersteer.geometry.poses import local_from_world, wrap_angle
from countersteer.ranges import Positive, Share
from countersteer.traffic.idm import IDM
from countersteer.vehicles.plans import Plan, PlanSpec
from countersteer.worlds.interface import Capability
from countersteer.worlds.truth import Truth
from countersteer.worlds.world import World

__all__ = ["RecoveryExpert"]

_STRETCH = (1.0, 1.3, 1.7, 2.2, 3.0)


@dataclass(frozen=True)
class RecoveryExpert(Expert):
    """Back to the path within comfort, at the set speed as curves, leaders and lights allow.

    Attributes:
        plan: Times of the label.
        speed_model: Longitudinal model.
        rate: Lateral speed of a recovery [m/s].
        shortest, longest: Bounds of the closing time [s].
        lateral_acceleration: Bound on v^2 |curvature| while recovering [m/s^2].
        curve_acceleration: The path's own lateral acceleration that the speed is kept to [m/s^2].
        jerk: Bound on v^3 |d'''| [m/s^3].
        curvature: Bound on the plan's |curvature| [1/m].
        curvature_memory: Share of the present excess curvature that the plan begins with. At 0
            the label depends on where the car is and not on what its wheels happen to do, which no camera
            sees; steering that pulls to one side is then answered rather than accepted.
        braking: Deceleration towards curves [m/s^2].
    """

    plan: PlanSpec = PlanSpec()
    speed_model: IDM = IDM()
    rate: Positive = 1.1
    shortest: Positive = 1.2
    longest: Positive = 4.5
    lateral_acceleration: Positive = 4.0
    curve_acceleration: Positive = 3.0
    jerk: Positive = 8.0
    curvature: Positive = 0.15
    curvature_memory: Share = 0.0
    braking: Positive = 1.5
    needs = frozenset({Capability.TRUTH})

    def label(self, world: World) -> Label:
        """See `Expert.label`; not valid where no closing time keeps the bounds."""
        truth = world.truth()
        travelled, speed = self._speeds(world, truth)
        path = world.path_at(truth.arc[..., None] + travelled)
        offset, slope, feasible = self._lateral(world, truth, travelled, path.curvature)

        left = torch.stack([-path.heading.sin(), path.heading.cos()], -1)
        position = path.position + offset[..., None] * left
        heading = truth.heading[..., None].expand(path.heading.shape)
        plan = Plan(
            local_from_world(position, truth.position[..., None, :], heading),
            wrap_angle(path.heading + slope.atan() - heading),
            speed,
        )
        return Label(plan, feasible & truth.alive)

    def _speeds(self, world: World, truth: Truth) -> tuple[Tensor, Tensor]:
        """Distance along the path and speed at the plan's times."""
        ahead = torch.arange(0.0, 80.0, 4.0, device=truth.speed.device)
        bend = world.path_at(truth.arc[..., None] + ahead).curvature.abs().clamp(min=1e-4)
        allowed = (self.curve_acceleration / bend + 2 * self.braking * ahead).sqrt().amin(-1)
        desired = torch.minimum(truth.set_speed, allowed)
        stops_first = truth.stop_gap < truth.lead_gap
        gap = torch.minimum(truth.lead_gap, truth.stop_gap)
        lead_speed = torch.where(stops_first, torch.zeros_like(gap), truth.lead_speed)

        speed, distance = truth.speed, torch.zeros_like(truth.speed)
        distances, speeds = [], []
        dt = self.plan.interval
        for _ in range(self.plan.points):
            answer = self.speed_model.answer(speed, desired, gap, lead_speed)
            faster = (speed + answer * dt).clamp(min=0.0)
            moved = (speed + faster) / 2 * dt
            distance, speed, gap = distance + moved, faster, gap + lead_speed * dt - moved
            distances.append(distance)
            speeds.append(speed)
        return torch.stack(distances, -1), torch.stack(speeds, -1)

    def _lateral(
        self, world: World, truth: Truth, travelled: Tensor, path_curvature: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Offset and slope at the travelled distances, and whether the bounds hold."""
        here = world.path_at(truth.arc[..., None]).curvature[..., 0]
        offset = truth.lateral
        slope = truth.heading_error.clamp(-1.2, 1.2).tan()
        bend = self.curvature_memory * (truth.curvature - here).clamp(-0.1, 0.1)
        v = truth.speed.clamp(min=3.0)
        closing = (offset.abs() / self.rate).clamp(self.shortest, self.longest)
        length = torch.stack([v * closing * stretch for stretch in _STRETCH], -1)  # [*batch candidate]

        # d(x) with x = s / S: a0 + a1 x + a2 x^2 + a3 x^3 + a4 x^4 + a5 x^5
        a0 = offset[..., None].expand(length.shape)
        a1 = slope[..., None] * length
        a2 = bend[..., None] * length**2 / 2
        a3 = -10 * a0 - 6 * a1 - 3 * a2
        a4 = 15 * a0 + 8 * a1 + 3 * a2
        a5 = -6 * a0 - 3 * a1 - a2

        x = torch.linspace(0.0, 1.0, 9, device=v.device)
        k2, k3, k4, k5, size = (a[..., None] for a in (a2, a3, a4, a5, length))
        second = (2 * k2 + 6 * k3 * x + 12 * k4 * x**2 + 20 * k5 * x**3) / size**2
        third = (6 * k3 + 24 * k4 * x + 60 * k5 * x**2) / size**3
        speed = truth.speed[..., None, None]
        total = second + here[..., None, None]
        # What is being driven at this moment cannot be planned away, so the first point is not judged.
        within = (
            ((speed**2 * total).abs()[..., 1:] <= self.lateral_acceleration).all(-1)
            & (total.abs()[..., 1:] <= self.curvature).all(-1)
            & ((speed**3 * third).abs()[..., 1:] <= self.jerk).all(-1)
        )
        # argmax finds the first feasible candidate; with none, the gentlest is used and the label is void.
        choice = torch.where(within.any(-1), within.float().argmax(-1), len(_STRETCH) - 1)[..., None]
        a0, a1, a2, a3, a4, a5, length = (a.gather(-1, choice) for a in (a0, a1, a2, a3, a4, a5, length))
        x = (travelled / length).clamp(max=1.0)
        d = a0 + x * (a1 + x * (a2 + x * (a3 + x * (a4 + x * a5))))
        rise = (a1 + x * (2 * a2 + x * (3 * a3 + x * (4 * a4 + x * 5 * a5)))) / length
        rise = rise / (1 - path_curvature * d).clamp(min=0.2)
        return d, rise, within.any(-1)
