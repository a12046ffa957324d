"""The seam of experts: they read a world, may fork it, and never change it."""

from __future__ import annotations

import abc
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from countersteer.ranges import Ranged
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Plan, PlanSpec
from countersteer.worlds.interface import Capability
from countersteer.worlds.world import World

__all__ = ["Expert", "Label"]


@dataclass(frozen=True)
class Label(TensorTree):
    """What the expert would do.

    Attributes:
        plan: From the state that was visited.
        valid: False where the expert is not defined or its plan cannot be driven.
        action_index: Number of the discrete action it takes first, of an expert that chooses among such.
    """

    plan: Plan
    valid: Bool[Tensor, "*batch"]
    action_index: Int[Tensor, "*batch"] | None = None


class Expert(Ranged, abc.ABC):
    """Labels visited states with plans. Concrete experts are frozen dataclasses."""

    plan: PlanSpec
    needs: frozenset[Capability]

    @abc.abstractmethod
    def label(self, world: World) -> Label:
        """A label for each controlled car, leading dimensions `[world agent]`."""
