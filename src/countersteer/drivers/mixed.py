"""A mixture: the expert drives with a probability that falls as training goes on (DAgger, 1011.0686)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from countersteer import noise
from countersteer.drivers.expert import ExpertDriver
from countersteer.drivers.interface import Decision, Driver
from countersteer.drivers.policy import PolicyDriver
from countersteer.experts.interface import Label
from countersteer.policies.interface import PolicyOutput
from countersteer.vehicles.plans import Action
from countersteer.worlds.interface import Capability
from countersteer.worlds.world import World

__all__ = ["LinearSchedule", "MixedDriver"]


@dataclass(frozen=True)
class LinearSchedule:
    """A schedule: from `start` to `end` over the progress span `over`, constant outside it."""

    start: float = 1.0
    end: float = 0.0
    over: tuple[float, float] = (0.0, 1.0)

    def at(self, progress: float) -> float:
        """Value at a training progress in [0, 1]."""
        low, high = self.over
        part = min(max((progress - low) / max(high - low, 1e-9), 0.0), 1.0)
        return self.start + part * (self.end - self.start)


@dataclass(frozen=True)
class MixedDriver(Driver):
    """Each car is driven by the expert or the policy, drawn anew every `hold` seconds.

    Attributes:
        expert: Who drives in the expert's place: its plan is tracked, or a teacher drives itself.
        policy: Who takes turns with it; a driver that asks the policy.
        expert_probability: Probability of the expert, over training.
        hold: How long a draw lasts [s]; switching at every tick would hide the policy's drift.
    """

    expert: Driver = ExpertDriver()
    policy: Driver = PolicyDriver()
    expert_probability: LinearSchedule = LinearSchedule()
    hold: float = 4.0
    needs = frozenset({Capability.TRUTH})
    uses_policy = True

    @property
    def uses_expert(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether who drives in the expert's place needs its labels."""
        return self.expert.uses_expert

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
        by_expert, _ = self.expert.act(output, label, world, None, tick, progress, seed)
        by_policy, _ = self.policy.act(output, label, world, None, tick, progress, seed)
        turn = tick // max(round(self.hold / world.dt), 1)
        draw = noise.uniform(seed, world.drives(), turn, "mixed-driver", world.agents)
        policy_in_control = draw >= self.expert_probability.at(progress)
        assert isinstance(by_policy.action, Action)
        assert isinstance(by_expert.action, Action)
        action = by_policy.action.map(lambda p, e: torch.where(policy_in_control, p, e), by_expert.action)
        return Decision(action, policy_in_control), memory
