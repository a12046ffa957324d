"""Trackers: from a plan to the action that follows it."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from countersteer.ranges import NonNegative, Positive, Ranged
from countersteer.vehicles.plans import Action, Plan, PlanSpec

__all__ = ["LQR", "PurePursuit", "Tracker"]


def _at(values: Float[Tensor, "*batch point"], spec: PlanSpec, time: float) -> Float[Tensor, "*batch"]:
    """Linear interpolation of a plan quantity at `time` ahead [s]; now it is 0."""
    place = min(max(time / spec.interval, 0.0), float(spec.points))
    after = min(int(place), spec.points - 1)
    part = place - after
    before = values[..., after - 1] if after > 0 else torch.zeros_like(values[..., 0])
    return before * (1 - part) + values[..., after] * part


def _acceleration(
    plan: Plan, spec: PlanSpec, speed: Float[Tensor, "*batch"], time: float
) -> Float[Tensor, "*batch"]:
    """Constant acceleration that covers the plan's distance in `time` [s].

    Distance counts along the plan's headings: what lies aside is no way to go, and a plan that begins
    behind the car (it has overtaken a recording) asks for less speed, not for more.
    """
    start = torch.zeros_like(plan.position[..., :1, :])
    course = torch.stack([plan.heading.cos(), plan.heading.sin()], -1)
    steps = ((plan.position - torch.cat([start, plan.position[..., :-1, :]], -2)) * course).sum(-1)
    distance = _at(steps.cumsum(-1), spec, time)
    return (2 * (distance - speed * time) / time**2).clamp(-6.0, 3.0)


class Tracker(Ranged, abc.ABC):
    """Turns a plan into an action. Concrete trackers are frozen dataclasses without state."""

    @abc.abstractmethod
    def track(
        self,
        plan: Plan,
        spec: PlanSpec,
        speed: Float[Tensor, "*batch"],
        curvature: Float[Tensor, "*batch"],
    ) -> Action:
        """The action for this tick.

        Args:
            plan: Made now, in the ego frame.
            spec: Its times.
            speed: Of the car [m/s].
            curvature: Being driven [1/m], as odometry gives it.
        """


@dataclass(frozen=True)
class PurePursuit(Tracker):
    """The arc through the point `lookahead` [s] ahead: kappa = 2 y / (x^2 + y^2) (Coulter 1992).

    Attributes:
        lookahead: For steering [s].
        speed_time: Time over which the distance of the plan is made good [s].
    """

    lookahead: Positive = 0.75
    speed_time: Positive = 1.0

    def track(
        self,
        plan: Plan,
        spec: PlanSpec,
        speed: Float[Tensor, "*batch"],
        curvature: Float[Tensor, "*batch"],
    ) -> Action:
        """See `Tracker.track`."""
        x = _at(plan.position[..., 0], spec, self.lookahead)
        y = _at(plan.position[..., 1], spec, self.lookahead)
        # Within half a metre the direction of the point is noise; steering fades out.
        reach = (x * x + y * y).clamp(min=0.25)
        return Action(2 * y / reach, _acceleration(plan, spec, speed, self.speed_time))


@dataclass(frozen=True)
class LQR(Tracker):
    """One-step linear-quadratic regulator with look-ahead, after NAVSIM's lateral tracker.

    With curvature changing at a constant rate u from the present kappa, the small-angle bicycle is at
    lateral y = v^2 (kappa T^2 / 2 + u T^3 / 6) and heading v (kappa T + u T^2 / 2) after T. The rate
    minimises q_y (y - y_plan)^2 + q_psi (psi - psi_plan)^2 + r u^2.

    Attributes:
        horizon: T [s].
        lateral_weight, heading_weight, rate_weight: q_y, q_psi, r.
        response: The command leads the present curvature by this time [s], about the actuation delay.
        speed_time: As in `PurePursuit`.
    """

    horizon: Positive = 0.75
    lateral_weight: NonNegative = 1.0
    heading_weight: NonNegative = 10.0
    rate_weight: Positive = 1.0
    response: NonNegative = 0.3
    speed_time: Positive = 1.0

    def track(
        self,
        plan: Plan,
        spec: PlanSpec,
        speed: Float[Tensor, "*batch"],
        curvature: Float[Tensor, "*batch"],
    ) -> Action:
        """See `Tracker.track`."""
        t, v = self.horizon, speed.clamp(min=0.5)
        lateral = _at(plan.position[..., 1], spec, t) - v**2 * curvature * t**2 / 2
        heading = _at(plan.heading, spec, t) - v * curvature * t
        by_lateral, by_heading = v**2 * t**3 / 6, v * t**2 / 2
        cost = self.lateral_weight * by_lateral**2 + self.heading_weight * by_heading**2 + self.rate_weight
        gain = self.lateral_weight * by_lateral * lateral + self.heading_weight * by_heading * heading
        rate = gain / cost
        return Action(curvature + rate * self.response, _acceleration(plan, spec, speed, self.speed_time))
