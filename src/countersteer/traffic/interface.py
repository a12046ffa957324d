"""The seam of traffic: how road users that nobody controls move."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.tensors import TensorTree

__all__ = ["Moved", "Past", "RoadPieces", "Traffic", "TrafficModel"]


@dataclass(frozen=True)
class RoadPieces(TensorTree):
    """Maps cut into short pieces, one row for each scene; `countersteer.scenarios.road_pieces` makes them.

    Attributes:
        pose: Middle x, y [m, world] and direction [rad] of each piece.
        about: Half its width [m], length [m], turn from begin to end [rad], and 1 or 0 for: a stop line, the end of a lane
            that nothing follows, a crosswalk.
        there: Whether the slot is used.
    """

    pose: Float[Tensor, "scene piece 3"]
    about: Float[Tensor, "scene piece 6"]
    there: Bool[Tensor, "scene piece"]


@dataclass(frozen=True)
class Past(TensorTree):
    """Where a recording had everybody before a drive began.

    Attributes:
        pose: Box centre x, y [m, world] and heading [rad], the latest first.
        present: Whether it was seen there.
    """

    pose: Float[Tensor, "world actor past 3"]
    present: Bool[Tensor, "world actor past"]


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
        controlled: Whether somebody drives it; what a model says of it is not used.
        tow: Slot of the vehicle that an actor hangs on; its own slot for all others.
        logged_pose, logged_speed, logged_present: Where the recording has it a tick later.
        stop_point, stop_heading, light: Traffic lights: where to stop [m, world], direction of who stops [rad, NaN where
            unknown], and the `SignalState` now.
        scene: Row of each drive in `roads`.
        roads: Maps of all scenes, for models that say `reads_roads`, else None. The drives share them.
        past: Where everybody was at the times that the model's `past` names, when a drive begins; else None.
    """

    drive: Int[Tensor, "world"]
    age: Int[Tensor, "world"]
    pose: Float[Tensor, "world actor 3"]
    speed: Float[Tensor, "world actor"]
    size: Float[Tensor, "world actor 3"]
    kind: Int[Tensor, "world actor"]
    present: Bool[Tensor, "world actor"]
    movable: Bool[Tensor, "world actor"]
    controlled: Bool[Tensor, "world actor"]
    tow: Int[Tensor, "world actor"]
    logged_pose: Float[Tensor, "world actor 3"]
    logged_speed: Float[Tensor, "world actor"]
    logged_present: Bool[Tensor, "world actor"]
    stop_point: Float[Tensor, "world light 2"]
    stop_heading: Float[Tensor, "world light"]
    light: Int[Tensor, "world light"]
    scene: Int[Tensor, "world"]
    roads: RoadPieces | None = None
    past: Past | None = None


@dataclass(frozen=True)
class Moved(TensorTree):
    """Where the road users are a tick later, as in `Traffic`; what is said of controlled cars is not used."""

    pose: Float[Tensor, "world actor 3"]
    speed: Float[Tensor, "world actor"]
    present: Bool[Tensor, "world actor"]


class TrafficModel(abc.ABC):
    """Moves everybody whom nobody controls, once a tick, before the controlled cars. A frozen dataclass.

    What it remembers lies in the state of the simulation, so forks, resets and saves carry it.

    Attributes:
        reads_roads: Whether it looks at the map.
        past: How long before the beginning of a drive it wants to know where everybody was, each time [s].
    """

    reads_roads: ClassVar[bool] = False
    past: ClassVar[tuple[float, ...]] = ()

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
