"""The log as an expert: do what the recorded driver did."""

from __future__ import annotations

from dataclasses import dataclass

from countersteer.experts.interface import Expert, Label
from countersteer.geometry.poses import local_from_world, wrap_angle
from countersteer.ranges import Positive
from countersteer.vehicles.plans import Plan, PlanSpec
from countersteer.worlds.interface import Capability
from countersteer.worlds.world import World

__all__ = ["LogExpert"]


@dataclass(frozen=True)
class LogExpert(Expert):
    """The recorded future, seen from the visited pose; no recovery is planned.

    Attributes:
        plan: Times of the label.
        reach: Further than this from where the recording is now, the label is not valid [m].
    """

    plan: PlanSpec = PlanSpec()
    reach: Positive = 4.0
    needs = frozenset({Capability.TRUTH, Capability.LOG})

    def label(self, world: World) -> Label:
        """See `Expert.label`."""
        truth = world.truth()
        times = self.plan.times(truth.speed.device)
        log = world.log_at(times)
        now = world.log_at(times[:1] * 0)
        heading = truth.heading[..., None].expand(log.heading.shape)
        plan = Plan(
            local_from_world(log.position, truth.position[..., None, :], heading),
            wrap_angle(log.heading - heading),
            log.speed,
        )
        near = (now.position[..., 0, :] - truth.position).norm(dim=-1) < self.reach
        return Label(plan, log.valid.all(-1) & near & truth.alive)
