"""The policy drives: the states are its own, mistakes included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from countersteer.drivers.interface import Decision, Driver
from countersteer.errors import UserError
from countersteer.experts.interface import Label
from countersteer.policies.interface import PolicyOutput
from countersteer.vehicles.plans import PlanSpec
from countersteer.vehicles.trackers import PurePursuit, Tracker
from countersteer.worlds.world import World

__all__ = ["PolicyDriver"]


@dataclass(frozen=True)
class PolicyDriver(Driver):
    """Tracks the policy's plan."""

    tracker: Tracker = PurePursuit()
    plan: PlanSpec = PlanSpec()
    uses_policy = True
    uses_expert = False

    def act(
        self,
        output: PolicyOutput | None,
        label: Label | None,
        world: World,
        memory: Any,
        tick: Tensor,
        progress: float,
        seed: int,
    ) -> tuple[Decision, Any]:
        """See `Driver.act`."""
        assert output is not None
        if output.plan is None:
            raise UserError(
                "the policy has no plan to track",
                got="choices only",
                expected="a policy that plans",
                fix="drive it with a CategoricalDriver",
            )
        motion = world.motion()
        action = self.tracker.track(output.plan, self.plan, motion.speed, motion.curvature)
        return Decision(action, torch.ones_like(motion.speed, dtype=torch.bool)), memory
