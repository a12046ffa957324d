"""The expert drives: what is recorded is what the expert's own states look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from countersteer.drivers.interface import Decision, Driver
from countersteer.experts.interface import Label
from countersteer.policies.interface import PolicyOutput
from countersteer.vehicles.plans import PlanSpec
from countersteer.vehicles.trackers import PurePursuit, Tracker
from countersteer.worlds.interface import Capability
from countersteer.worlds.world import World

__all__ = ["ExpertDriver"]


@dataclass(frozen=True)
class ExpertDriver(Driver):
    """Tracks the expert's plan."""

    tracker: Tracker = PurePursuit()
    plan: PlanSpec = PlanSpec()
    needs = frozenset({Capability.TRUTH})
    uses_policy = False
    uses_expert = True

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
        assert label is not None
        motion = world.motion()
        action = self.tracker.track(label.plan, self.plan, motion.speed, motion.curvature)
        return Decision(action, torch.zeros_like(motion.speed, dtype=torch.bool)), memory
