"""The seam of rewards: what one tick was worth to each car."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from countersteer.worlds.interface import Events, Truth

__all__ = ["Reward", "RewardInputs"]


@dataclass(frozen=True)
class RewardInputs:
    """What happened in a tick. What is said of cars that had ended before it (`before.alive` is False) is not used.

    Attributes:
        events: What happened in it.
        before, after: Truth before the tick and after it.
        dt: Its length [s].
        weights: The cars' reward weights in the order of `RewardWeights.names`, of rewards that have some.
    """

    events: Events
    before: Truth
    after: Truth
    dt: float
    weights: Float[Tensor, "world agent weight"] | None = None


@runtime_checkable
class Reward(Protocol):
    """What a tick was worth to each car."""

    def __call__(self, transition: RewardInputs, /) -> Float[Tensor, "world agent"]:
        """The reward of a tick."""
        ...
