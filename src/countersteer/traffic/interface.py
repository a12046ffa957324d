"""The seam of traffic: how road users that nobody controls move."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.tensors import TensorTree

__all__ = ["Moved", "Traffic", "TrafficModel"]


@dataclass(frozen=True)
class Traffic(TensorTree):
    """All road users of each drive now, the controlled cars in the first slots, and what the recording says of the next tick.

    Attributes:
        drive, age: Identity and ticks since its start of each drive, to count random numbers by.
        pose: Box centre x, y [m, world] and heading [rad].
        speed: [m/s].
        size: Length, width, height [m].
        kind: `ActorKind`.
        present: Whether the actor is there now.
        movable: Whether a model may move it; controlled cars and scenery are not.
        logged_pose, logged_speed, logged_present: Where the recording has it a tick later.
    """

    drive: Int[Tensor, "world"]
    age: Int[Tensor, "world"]
    pose: Float[Tensor, "world actor 3"]
    speed: Float[Tensor, "world actor"]
    size: Float[Tensor, "world actor 3"]
    kind: Int[Tensor, "world actor"]
    present: Bool[Tensor, "world actor"]
    movable: Bool[Tensor, "world actor"]
    logged_pose: Float[Tensor, "world actor 3"]
    logged_speed: Float[Tensor, "world actor"]
    logged_present: Bool[Tensor, "world actor"]


@dataclass(frozen=True)
class Moved(TensorTree):
    """Where the road users are a tick later, as in `Traffic`; what is said of controlled cars is not used."""

    pose: Float[Tensor, "world actor 3"]
    speed: Float[Tensor, "world actor"]
    present: Bool[Tensor, "world actor"]


class TrafficModel(abc.ABC):
    """Moves everybody whom nobody controls, once a tick, before the controlled cars. A frozen dataclass.

    What it remembers lies in the state of the simulation, so forks, resets and saves carry it.
    """

    def begin(self, traffic: Traffic) -> TensorTree:
        """Memory of drives that begin, `[world ...]`; none by default."""
        return TensorTree()

    @abc.abstractmethod
    def step(self, traffic: Traffic, memory: Any, *, dt: float, seed: int) -> tuple[Moved, TensorTree]:
        """Where everybody is a tick later, and what to remember.

        Args:
            traffic: The tick before.
            memory: What `begin` or the last call returned.
            dt: Length of the tick [s].
            seed: Of randomness, which is counted by drive and age.
        """
