"""What is wrong with street networks of any form: found, mended where that is safe, and noted.

A reader gives what the file says. Here lanes become such that a drive can be cut from them: finite, with a length, a
width and a direction, connected to lanes that exist and begin where they end. What cannot be mended is left out with
a note; a network of which nothing is left is refused.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.geometry.polylines import arc_length, project
from countersteer.scenarios.network import Lane, RoadNetwork, SignalProgram
from countersteer.scenarios.scenario import MapFeature
from countersteer.storage.files import check_size

__all__ = ["USUAL_WIDTH", "checked", "oncoming_sides"]

USUAL_WIDTH = 3.2
"""Of a lane whose width is not stated or cannot be true [m]."""

_MOST_LANES, _MOST_POINTS = 200_000, 4_000_000
_EXTENT = 200e3  # no town and no motorway of one file is larger [m]
_SAME = 1e-3  # points nearer than this are one [m]
_SHORT = 0.05  # a lane of less has no direction [m]
_WIDTHS = (1.6, 30.0)  # of lanes; the start of a race track has 20 [m]
_LIMITS = (1.0, 100.0)  # of speed limits [m/s]
_ONE_PLACE, _TILE = 1500.0, 1000.0  # a network that is wider is cut into places of this side [m]
_MEETS, _GAP = 0.3, 3.0  # ends that are nearer meet; a connection over more is none [m]


def checked(network: RoadNetwork) -> RoadNetwork:
    """The network with what is wrong mended or left out, and notes of it.

    Raises:
        UserError: It has no lane that can be driven, is no map in metres, or is too large.
    """
    check_size(network.name, "lanes", len(network.lanes), _MOST_LANES)
    check_size(network.name, "points", sum(len(lane.centre) for lane in network.lanes.values()), _MOST_POINTS)
    found: Counter[str] = Counter()
    lanes = {key: fixed for key, lane in network.lanes.items() if (fixed := _finite(lane, found))}
    if not lanes:
        raise UserError(
            f"{network.name} has no lane that a car can drive on",
            got=f"{len(network.lanes)} lanes, none of a length" if network.lanes else "no lanes",
            expected="at least one lane with a centre line in metres",
            fix="choose another map",
        )
    _check_extent(network.name, lanes)
    network, lanes = _near_origin(network, lanes, found)
    for step in (_without_short, _connected, _measured, _bounded):
        lanes = step(lanes, found)
    signals = tuple(_signals(network.signals, lanes, found))
    programs = {program.id for program in signals}
    for key, lane in lanes.items():
        if lane.signal is not None and lane.signal not in programs:
            found["{} lanes name a signal that is not there: they have none"] += 1
            lanes[key] = dataclasses.replace(lane, signal=None)
    _count_loops(lanes, found)
    _count_side(lanes, network.left_hand, found)
    notes = tuple(text.format(count) for text, count in found.items())
    return dataclasses.replace(
        network,
        lanes=lanes,
        signals=signals,
        features=tuple(_features(network.features, found)),
        places={key: place for key, place in network.places.items() if key in lanes}
        or _tiles(network, lanes),
        provenance=dataclasses.replace(network.provenance, notes=(*network.provenance.notes, *notes)),
    )


def _tiles(network: RoadNetwork, lanes: dict[str, Lane]) -> dict[str, str]:
    """Squares of a kilometre as places of a large network, by the middle of each lane; none for a small one."""
    middles = {key: lane.centre[len(lane.centre) // 2, :2] for key, lane in lanes.items()}
    if np.ptp(np.array(list(middles.values())), axis=0).max() <= _ONE_PLACE:
        return {}
    tiles = {key: np.floor(middle / _TILE + 0.5).astype(int) for key, middle in middles.items()}
    return {key: f"{network.name} {x:+d} {y:+d}" for key, (x, y) in tiles.items()}


def _line(points: ndarray) -> ndarray:
    """A line without points that repeat the one before."""
    if len(points) < 2:
        return points
    steps = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
    keep = np.concatenate([[True], steps > _SAME])
    if not keep[-1] and keep.sum() > 1:  # ends stay where they are: others begin there
        keep[np.flatnonzero(keep)[-1]] = False
        keep[-1] = True
    return points[keep]


def _finite(lane: Lane, found: Counter[str]) -> Lane | None:
    """The lane without doubled points; None if it is no line in the plane."""
    if not np.isfinite(lane.centre).all():
        found["{} lanes have points that are not finite numbers: left out"] += 1
        return None
    centre = _line(lane.centre)
    if len(centre) < 2:
        centre = lane.centre[[0, -1]] if len(lane.centre) > 1 else np.zeros((0, 3))
    elif len(centre) < len(lane.centre):
        found["{} lanes have doubled points: taken once"] += 1
    if len(centre) < 2:
        found["{} lanes are no lines: left out"] += 1
        return None
    sides = {}
    for side in ("left", "right"):
        points = getattr(lane, side)
        if points is not None:
            points = _line(points) if np.isfinite(points).all() else points[:0]
            if len(points) < 2:
                found["{} boundaries of lanes are no lines: left out"] += 1
                points = None
        sides[side] = points
    return dataclasses.replace(lane, centre=centre, **sides)


def _check_extent(name: str, lanes: dict[str, Lane]) -> None:
    ends = np.concatenate([lane.centre[:, :2] for lane in lanes.values()])
    extent = float(np.ptp(ends, axis=0).max())
    if extent > _EXTENT or float(np.abs(ends).max()) > 1e8:
        raise UserError(
            f"{name} is no map in metres",
            got=f"lanes that lie {extent / 1000:.0f} km apart",
            expected=f"a map of at most {_EXTENT / 1000:.0f} km",
            fix="check its projection, or cut out a part",
        )


def _near_origin(
    network: RoadNetwork, lanes: dict[str, Lane], found: Counter[str]
) -> tuple[RoadNetwork, dict[str, Lane]]:
    """The network moved by whole metres so that (0, 0) is in its middle: single precision is fine there alone."""
    ends = np.concatenate([lane.centre[[0, -1]] for lane in lanes.values()])
    low, high = ends.min(0), ends.max(0)
    origin = np.array([*np.round((low + high) / 2)[:2], np.round(low[2])])
    if not origin.any():
        return network, lanes
    found["(0, 0, 0) is the file's ({:.0f}, {:.0f}, {:.0f}) m".format(*origin)] = 1
    moved = {
        key: dataclasses.replace(
            lane,
            centre=lane.centre - origin,
            left=None if lane.left is None else lane.left - origin,
            right=None if lane.right is None else lane.right - origin,
        )
        for key, lane in lanes.items()
    }
    features = tuple(
        dataclasses.replace(each, points=each.points - origin)
        for each in network.features
        if each.points.ndim == 2 and each.points.shape[1] == 3
    )
    return dataclasses.replace(network, features=features), moved


def _without_short(lanes: dict[str, Lane], found: Counter[str]) -> dict[str, Lane]:
    """Lanes with a length; who went on to a lane without goes on to what comes after it."""
    short = {key: lane for key, lane in lanes.items() if lane.length < _SHORT}
    if not short:
        return lanes
    found["{} lanes have no length: what they connect is connected directly"] += len(short)

    def beyond(key: str, seen: frozenset[str]) -> Iterable[str]:
        if key not in short:
            return (key,)
        return (
            (
                after
                for each in short[key].successors
                if each not in seen
                for after in beyond(each, seen | {key})
            )
            if len(seen) < 20
            else ()
        )

    kept = {}
    for key, lane in lanes.items():
        if key not in short:
            after = tuple(dict.fromkeys(each for way in lane.successors for each in beyond(way, frozenset())))
            kept[key] = dataclasses.replace(lane, successors=after)
    if not kept:
        raise UserError(
            "no lane has a length", got=f"{len(short)} lanes", expected="lanes that lead somewhere"
        )
    return kept


def _connected(lanes: dict[str, Lane], found: Counter[str]) -> dict[str, Lane]:
    """Lanes whose successors, neighbours and rivals exist; successors begin where they end."""

    def existing(ids: Iterable[str], text: str) -> tuple[str, ...]:
        ids = tuple(dict.fromkeys(ids))
        there = tuple(each for each in ids if each in lanes)
        found[text] += len(ids) - len(there)
        return there

    made = {}
    for key, lane in lanes.items():
        successors = existing(lane.successors, "{} successors of lanes are not there: left out")
        ways = []
        for after in successors:
            gap = float(np.linalg.norm(lanes[after].centre[0, :2] - lane.centre[-1, :2]))
            if gap > _GAP:
                found[f"{{}} successors begin more than {_GAP:g} m from where their lane ends: left out"] += 1
                continue
            if gap > _MEETS:
                found[f"{{}} successors begin {_MEETS:g} to {_GAP:g} m from where their lane ends"] += 1
            ways.append(after)
        beside = {
            side: near if (near := getattr(lane, side)) in lanes and near != key else None
            for side in ("left_neighbour", "right_neighbour")
        }
        yields = existing(lane.yields_to, "{} lanes that go first are not there: left out")
        made[key] = dataclasses.replace(lane, successors=tuple(ways), yields_to=yields, **beside)
    for text in [text for text, count in found.items() if not count]:
        del found[text]
    return made


def _measured(lanes: dict[str, Lane], found: Counter[str]) -> dict[str, Lane]:
    """Lanes whose width and limit can be true."""
    for key, lane in lanes.items():
        if not _WIDTHS[0] <= lane.width <= _WIDTHS[1]:
            found[f"{{}} lanes have a width that cannot be: taken as {USUAL_WIDTH:g} m"] += 1
            lane = dataclasses.replace(lane, width=USUAL_WIDTH)
        if lane.speed_limit is not None and not _LIMITS[0] <= lane.speed_limit <= _LIMITS[1]:
            found["{} lanes have a speed limit that cannot be: left out"] += 1
            lane = dataclasses.replace(lane, speed_limit=None)
        lanes[key] = lane
    return lanes


def _bounded(lanes: dict[str, Lane], found: Counter[str]) -> dict[str, Lane]:
    """Lanes with their left boundary on the left and the right one on the right."""
    for key, lane in lanes.items():
        sides = {}
        for side, sign in (("left", 1.0), ("right", -1.0)):
            points = getattr(lane, side)
            if points is None:
                continue
            inner = points[1:-1] if len(points) > 2 else points.mean(0, keepdims=True)
            aside = sign * project(lane.centre, inner[:, :2])[1]
            if aside.min() < -0.3:
                wrong = "cross their centre line" if aside.max() > 0.3 else "lie on the wrong side of it"
                found[f"{{}} boundaries of lanes {wrong}: left out"] += 1
                sides[side] = None
        lanes[key] = dataclasses.replace(lane, **sides) if sides else lane
    return lanes


def _signals(
    programs: Iterable[SignalProgram], lanes: dict[str, Lane], found: Counter[str]
) -> Iterable[SignalProgram]:
    """Programs that govern lanes which exist, in phases that last."""
    for program in programs:
        rows = [row for row, lane in enumerate(program.lanes) if lane in lanes]
        phases = tuple(
            dataclasses.replace(phase, states=tuple(phase.states[row] for row in rows))
            for phase in program.phases
            if np.isfinite(phase.duration) and phase.duration > 0 and len(phase.states) == len(program.lanes)
        )
        if len(phases) < len(program.phases):
            found["{} signals have phases without a length or of other lanes: left out"] += 1
        if not rows or not phases:
            found["{} signals govern no lane: left out"] += 1
            continue
        if len(rows) < len(program.lanes):
            found["{} signals govern lanes that are not there: those are left out"] += 1
        offset = program.offset if np.isfinite(program.offset) else 0.0
        kept = tuple(program.lanes[row] for row in rows)
        yield dataclasses.replace(program, lanes=kept, phases=phases, offset=offset)


def _features(features: Iterable[MapFeature], found: Counter[str]) -> Iterable[MapFeature]:
    for each in features:
        if len(each.points) and np.isfinite(each.points).all():
            yield each


def _count_loops(lanes: dict[str, Lane], found: Counter[str]) -> None:
    """Lanes from which no dead end and no other loop is reached: whoever is there drives round for ever."""
    before: dict[str, list[str]] = {key: [] for key in lanes}
    for key, lane in lanes.items():
        for after in lane.successors:
            before[after].append(key)
    ends = _reached([key for key, lane in lanes.items() if not lane.successors], lambda key: before[key])
    inside = [key for key in lanes if key not in ends]
    if inside and len(inside) < len(lanes):
        # In a closed network of streets everybody may go everywhere; a trap is small.
        around = _reached(inside[:1], lambda key: lanes[key].successors)
        if len(around) < 20:
            found["{} lanes lead into a loop that nothing leaves"] += len(inside)


def _reached(start: Iterable[str], onward: Callable[[str], Iterable[str]]) -> set[str]:
    reached, waiting = set(start), list(start)
    while waiting:
        for key in onward(waiting.pop()):
            if key not in reached:
                reached.add(key)
                waiting.append(key)
    return reached


def oncoming_sides(lanes: dict[str, Lane]) -> tuple[int, int]:
    """How many lanes between junctions have the nearest oncoming lane on their left, and how many on their right."""
    roads = [lane for lane in lanes.values() if lane.junction is None and lane.length > 5.0]
    if not roads:
        return 0, 0
    middles, courses = [], []
    for lane in roads:
        at = arc_length(lane.centre)
        here, ahead = (
            np.array([np.interp(s, at, lane.centre[:, k]) for k in range(2)])
            for s in (at[-1] / 2 - 1.0, at[-1] / 2 + 1.0)
        )
        middles.append((here + ahead) / 2)
        courses.append(np.arctan2(*(ahead - here)[::-1]))
    middle, course = np.array(middles), np.array(courses)
    order = np.argsort(middle[:, 0])
    left = right = 0
    for i, lane in enumerate(roads):
        reach = lane.length / 2 + 20.0
        first, last = np.searchsorted(middle[order, 0], middle[i, 0] + np.array([-reach, reach]))
        near = order[first:last]
        near = near[np.cos(course[near] - course[i]) < -0.9]
        near = near[np.argsort(np.linalg.norm(middle[near] - middle[i], axis=1))[:8]]
        best = (8.0, 0.0)
        for j in near:
            s, aside = (float(value[0]) for value in project(roads[j].centre, middle[i][None]))
            if 0.0 < s < roads[j].length and 1.5 < abs(aside) < best[0]:
                best = (abs(aside), aside)
        # Seen from the oncoming lane one is on the same side as it is seen from oneself.
        left += best[1] > 0.0
        right += best[1] < 0.0
    return left, right


def _count_side(lanes: dict[str, Lane], left_hand: bool, found: Counter[str]) -> None:
    left, right = oncoming_sides(lanes)
    right_way, wrong_way = (right, left) if left_hand else (left, right)
    if wrong_way > 5 and wrong_way > 2 * right_way:
        side = "left" if left_hand else "right"
        found[f"traffic should keep to the {side}, but {{}} lanes have the oncoming one on that side"] += (
            wrong_way
        )
