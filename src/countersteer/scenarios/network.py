"""A street network: lanes, how they connect, who goes first, and the signals, without anybody on it.

A scenario is one drive; a network is a map that many drives are cut from. Readers of maps (`data/roads`) make
networks, `scenarios/streets` makes scenarios of them. The frame is a scenario's: x, y, z up, metres, near the origin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.scenarios.scenario import MapFeature, Provenance, SignalState

__all__ = ["Lane", "Phase", "RoadNetwork", "SignalProgram", "Turn"]


class Turn(IntEnum):
    """Where a lane through a junction leads."""

    STRAIGHT = 0
    LEFT = 1
    RIGHT = 2
    AROUND = 3


@dataclass(frozen=True)
class Lane:
    """One lane for cars, in its direction of travel.

    Attributes:
        id: Identifier within the network.
        centre: Centre line [m].
        width: Mean full width [m].
        speed_limit: [m/s], None where the map states none.
        left, right: Boundaries as the map draws them [m], None where it draws none.
        successors: Lanes that go on at the end, by their id.
        left_neighbour, right_neighbour: The lane beside it in the same direction that may be changed to.
        junction: The junction it runs through, None between junctions.
        turn: Where it leads; STRAIGHT between junctions.
        yields_to: Lanes through the same junction whose cars go first; of those with a signal, while it lets them go.
        signal: The signal program that governs its beginning, None without.
        stops: Whether a stop sign stands at its beginning.
    """

    id: str
    centre: Float[ndarray, "n 3"]
    width: float
    speed_limit: float | None = None
    left: Float[ndarray, "m 3"] | None = None
    right: Float[ndarray, "k 3"] | None = None
    successors: tuple[str, ...] = ()
    left_neighbour: str | None = None
    right_neighbour: str | None = None
    junction: str | None = None
    turn: Turn = Turn.STRAIGHT
    yields_to: tuple[str, ...] = ()
    signal: str | None = None
    stops: bool = False

    @property
    def length(self) -> float:
        """Of the centre line [m], seen from above."""
        return float(np.linalg.norm(np.diff(self.centre[:, :2], axis=0), axis=1).sum())


@dataclass(frozen=True)
class Phase:
    """A time in which a signal program's lights stay as they are.

    Attributes:
        duration: [s].
        states: What each lane's light shows, in the order of `SignalProgram.lanes`.
    """

    duration: float
    states: tuple[SignalState, ...]


@dataclass(frozen=True)
class SignalProgram:
    """The lights of one junction; phases follow each other for ever.

    Attributes:
        id: Identifier within the network.
        lanes: Lanes through the junction that it governs; a light stands at the beginning of each.
        phases: At least one; where the map states none, the reader makes usual ones and notes it.
        offset: When the first phase begins [s].
    """

    id: str
    lanes: tuple[str, ...]
    phases: tuple[Phase, ...]
    offset: float = 0.0


@dataclass(frozen=True)
class RoadNetwork:
    """A map that drives can be cut from.

    Attributes:
        name: For people: the place.
        lanes: By id.
        signals: Signal programs.
        features: What else the map draws: crosswalks, stop lines, edges, painted lines.
        left_hand: Whether people drive on the left.
        provenance: Where it is from, under which licence, and what was assumed or repaired.
    """

    name: str
    lanes: dict[str, Lane]
    provenance: Provenance
    signals: tuple[SignalProgram, ...] = ()
    features: tuple[MapFeature, ...] = ()
    left_hand: bool = False
    places: dict[str, str] = field(default_factory=dict)
    """Names of parts of the network, for splits by place, by lane id; lanes without one belong to `name`."""
