"""What many maps leave out: who goes first in a junction, and when its lights are green.

Right of way is what most countries' law says where no sign does: whoever turns across oncoming traffic waits for it,
whoever has a stop sign waits for those without, else whoever comes from the side to which traffic keeps goes first.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from countersteer.geometry.polylines import arc_length, resample
from countersteer.scenarios.network import Lane, Phase, SignalProgram, Turn
from countersteer.scenarios.scenario import SignalState

__all__ = ["conflicting", "usual_program", "with_usual_priority"]

_NEAR = 2.2  # ways that come nearer than this cannot be driven at the same time [m]
_LONGEST = 1000.0  # way through a junction; a longer one is a mistake [m]
_MOST_WAYS = 400  # through one junction; more are no junction but a whole map
_GREEN, _CAUTION, _ALL_RED = 18.0, 3.0, 2.0  # [s]


def with_usual_priority(
    lanes: dict[str, Lane], *, left_hand: bool, waiting: Collection[str] = ()
) -> dict[str, Lane]:
    """The lanes, with `yields_to` for those through junctions that have none.

    Args:
        lanes: By id.
        left_hand: Whether people drive on the left.
        waiting: Ways through junctions at whose beginning a sign says to give way.
    """
    minor = {key for key, lane in lanes.items() if lane.stops} | set(waiting)
    junctions: dict[str, list[Lane]] = defaultdict(list)
    for lane in lanes.values():
        if lane.junction is not None and 0.0 < lane.length < _LONGEST:
            junctions[lane.junction].append(lane)
    before: dict[str, set[str]] = defaultdict(set)
    for key, lane in lanes.items():
        for after in lane.successors:
            before[after].add(key)
    made = dict(lanes)
    for ways in junctions.values():
        if len(ways) > _MOST_WAYS or any(way.yields_to for way in ways):
            continue
        rivals = conflicting(ways, before)
        for way in ways:
            first = tuple(other.id for other in rivals[way.id] if _goes_first(other, way, minor, left_hand))
            made[way.id] = dataclasses.replace(way, yields_to=first)
    return made


def conflicting(ways: Sequence[Lane], before: dict[str, set[str]]) -> dict[str, list[Lane]]:
    """Of each way through a junction the others that cannot be driven at the same time: they cross or merge.

    Ways that come from the same lane follow one another instead.

    Args:
        ways: Through one junction.
        before: From which lanes each way is entered.
    """
    lines = {way.id: resample(way.centre[:, :2], 1.0) for way in ways}
    found: dict[str, list[Lane]] = {way.id: [] for way in ways}
    for i, one in enumerate(ways):
        for other in ways[:i]:
            if before[one.id] & before[other.id] or other.id in one.successors or one.id in other.successors:
                continue
            a, b = lines[one.id], lines[other.id]
            if (a.min(0) > b.max(0) + _NEAR).any() or (b.min(0) > a.max(0) + _NEAR).any():
                continue
            if np.linalg.norm(a[:, None] - b[None], axis=-1).min() < _NEAR:
                found[one.id].append(other)
                found[other.id].append(one)
    return found


def _course(lane: Lane) -> float:
    """Of the first two metres [rad]."""
    line = lane.centre[:, :2]
    ahead = [float(np.interp(2.0, arc_length(line), line[:, k])) for k in range(2)] - line[0]
    return math.atan2(ahead[1], ahead[0])


def _goes_first(one: Lane, other: Lane, minor: Collection[str], left_hand: bool) -> bool:
    if (one.id in minor) != (other.id in minor):
        return other.id in minor
    comes = math.degrees(math.remainder(_course(one) - _course(other), math.tau))
    if abs(comes) > 135.0:  # oncoming
        return _rank(one.turn, left_hand) < _rank(other.turn, left_hand)
    if abs(comes) < 45.0:  # beside
        return one.turn is Turn.STRAIGHT and other.turn is not Turn.STRAIGHT
    # Who comes from the right drives to the left as I see it.
    return (comes > 0.0) != left_hand


def _rank(turn: Turn, left_hand: bool) -> int:
    across = Turn.RIGHT if left_hand else Turn.LEFT
    return 2 if turn is Turn.AROUND else int(turn is across)


def usual_program(name: str, lanes: Sequence[Lane], offset: float = 0.0) -> SignalProgram:
    """Lights in turn: roads that lie opposite each other have green together, for 18 s, then 3 s of amber and 2 s of red for all.

    Args:
        name: Of the program.
        lanes: Through one junction, that it governs.
        offset: When the first phase begins [s].
    """
    groups: list[tuple[float, list[str]]] = []
    for lane in lanes:
        course = _course(lane)
        for axis, members in groups:
            # Opposite roads have one axis.
            if abs(math.sin(course - axis)) < math.sin(math.radians(40.0)):
                members.append(lane.id)
                break
        else:
            groups.append((course, [lane.id]))
    names = tuple(lane.id for lane in lanes)

    def phase(duration: float, shown: Sequence[str], state: SignalState) -> Phase:
        return Phase(duration, tuple(state if name in shown else SignalState.STOP for name in names))

    phases = []
    for _, members in groups:
        phases += [phase(_GREEN, members, SignalState.GO), phase(_CAUTION, members, SignalState.CAUTION)]
        phases.append(phase(_ALL_RED, (), SignalState.GO))
    return SignalProgram(name, names, tuple(phases), offset)
