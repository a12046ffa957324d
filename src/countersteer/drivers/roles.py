"""Roles within a world: one driver for the first car, another for everybody else who is controlled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from countersteer.drivers.interface import Decision, Driver
from countersteer.experts.interface import Label
from countersteer.policies.interface import PolicyOutput
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.interface import Capability
from countersteer.worlds.world import World

__all__ = ["EgoAndOthersDriver"]


@dataclass(frozen=True)
class EgoAndOthersDriver(Driver):
    """The first car of every world is driven by `ego`, the others by `others`; both asked once for all cars.

    In Gigapixel (arXiv 2606.19641, App. B.2) the ego tracks the student's plan and the others take its discrete choice.
    """

    ego: Driver
    others: Driver

    @property
    def needs(self) -> frozenset[Capability]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What either of them relies on."""
        return self.ego.needs | self.others.needs

    @property
    def uses_policy(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether either of them asks the policy."""
        return self.ego.uses_policy or self.others.uses_policy

    @property
    def uses_expert(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether either of them asks the expert."""
        return self.ego.uses_expert or self.others.uses_expert

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
        ego, _ = self.ego.act(output, label, world, None, tick, progress, seed)
        others, _ = self.others.act(output, label, world, None, tick, progress, seed)
        first = torch.zeros_like(ego.policy_in_control)
        first[:, 0] = True
        action = _action(world, ego).map(lambda e, o: torch.where(first, e, o), _action(world, others))
        return Decision(action, torch.where(first, ego.policy_in_control, others.policy_in_control)), memory


def _action(world: World, decision: Decision) -> Action:
    taken = decision.action
    return world.command(taken) if isinstance(taken, JerkAction) else taken
