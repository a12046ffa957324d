"""Lights of a drive: the programs of its junctions over its time."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from countersteer.geometry.polylines import resample
from countersteer.scenarios.network import RoadNetwork, SignalProgram
from countersteer.scenarios.scenario import Signals, SignalState

__all__ = ["shown", "signals_of"]


def shown(program: SignalProgram, times: Float[ndarray, "time"], begin: float) -> Int[ndarray, "lane time"]:
    """What the light of each lane of a program shows.

    Args:
        program: The program.
        times: Of the drive [s].
        begin: What the clock of all programs shows at its beginning [s].
    """
    ends = np.cumsum([phase.duration for phase in program.phases])
    at = (times + begin - program.offset) % ends[-1]
    phase = np.minimum(np.searchsorted(ends, at, side="right"), len(ends) - 1)
    states = np.array([[int(state) for state in each.states] for each in program.phases])
    return states[phase].T


def signals_of(
    network: RoadNetwork,
    near: Collection[str],
    mine: Sequence[str],
    times: Float[ndarray, "time"],
    begin: float,
) -> tuple[Signals, dict[str, Int[ndarray, "time"]]]:
    """The lights of lanes near a drive.

    A light counts for whoever passes its stop point. Ways that begin at one point, such as a left turn with a phase
    of its own, would contradict each other there: one light stands for them, that of the driver's own way if it is
    among them.

    Returns:
        The lights, and what the light of every lane shows, by lane.
    """
    states: dict[str, ndarray] = {}
    for program in network.signals:
        rows = [row for row, lane in enumerate(program.lanes) if lane in near]
        if rows:
            all_of = shown(program, times, begin)
            states |= {program.lanes[row]: all_of[row] for row in rows}
    order = sorted(states, key=lambda name: (name not in mine, name))
    places: dict[tuple[int, int, int], str] = {}
    for name in order:
        point, heading = _begin(network, name)
        key = (round(point[0]), round(point[1]), round(heading / 0.8))
        places.setdefault(key, name)
    names = tuple(places.values())
    if not names:
        return Signals.none(len(times)), states
    begins = [_begin(network, name) for name in names]
    stop = np.array([(*point, 0.0) for point, _ in begins])
    state = np.stack([states[name] for name in names])
    state[(state < SignalState.UNKNOWN) | (state > SignalState.STOP)] = SignalState.UNKNOWN
    return Signals(names, stop, np.array([heading for _, heading in begins]), state), states


def _begin(network: RoadNetwork, name: str) -> tuple[Float[ndarray, 2], float]:
    """Where a lane begins, and its course there [rad, in [-pi, pi)]."""
    line = resample(network.lanes[name].centre[:, :2], 2.0)
    course = math.atan2(*(line[1] - line[0])[::-1])
    return line[0], course if course < math.pi else -math.pi
