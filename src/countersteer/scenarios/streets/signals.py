"""Lights of a drive: the programs of its junctions over its time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from countersteer.geometry.polylines import resample
from countersteer.scenarios.network import Lane, SignalProgram
from countersteer.scenarios.scenario import Signals, SignalState
from countersteer.scenarios.streets.ways import Streets

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
    streets: Streets,
    near: Collection[str],
    mine: Sequence[str],
    times: Float[ndarray, "time"],
    begin: float,
) -> tuple[Signals, dict[str, Int[ndarray, "time"]]]:
    """The lights of lanes near a drive.

    A light counts for whoever passes its stop point. Ways that come from one lane, such as a left turn with a phase
    of its own, would contradict each other there: one light stands for them. Where the driver comes from that lane, it is that
    of his way, and none if his way has none.

    Returns:
        The lights, and what the light of every lane shows, by lane.
    """
    states: dict[str, ndarray] = {}
    for program in streets.network.signals:
        rows = [row for row, lane in enumerate(program.lanes) if lane in near]
        if rows:
            all_of = shown(program, times, begin)
            states |= {program.lanes[row]: all_of[row] for row in rows}
    follows = dict(itertools.pairwise(mine))
    kept: dict[str, str] = {}
    for name in sorted(states):
        before = next(iter(streets.before[name]), name)
        kept.setdefault(before, name)
        if follows.get(before) == name:
            kept[before] = name
    names = tuple(name for before, name in kept.items() if follows.get(before, name) in states)
    if not names:
        return Signals.none(len(times)), states
    begins = [_begin(streets.lanes[name]) for name in names]
    stop = np.array([(*point, 0.0) for point, _ in begins])
    state = np.stack([states[name] for name in names])
    state[(state < SignalState.UNKNOWN) | (state > SignalState.STOP)] = SignalState.UNKNOWN
    return Signals(names, stop, np.array([heading for _, heading in begins]), state), states


def _begin(lane: Lane) -> tuple[Float[ndarray, 2], float]:
    """Where a lane begins, and its course there [rad, in [-pi, pi)]."""
    line = resample(lane.centre[:, :2], 2.0)
    course = math.atan2(*(line[1] - line[0])[::-1])
    return line[0], course if course < math.pi else -math.pi
