"""Lanes that share ground: what a map of lanes between two borders does not say of its junctions, and of its pieces."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.roads.joints import turn_of
from countersteer.geometry.polylines import resample
from countersteer.scenarios.network import Lane

__all__ = ["pieces", "with_junctions"]

_SPACING = 2.0  # of the points that are compared [m]
_WITHIN = 0.6  # of the narrower lane's width: beside each other lanes are a whole one apart
_LEVEL = 3.0  # lanes this far above each other share no ground [m]
_SHARE = (
    0.2  # of a lane's length that others cross; of less, a long lane is a road with a junction at its end
)
_SHORT = 20.0  # a lane of less belongs to the junction it touches [m]
_APART = 300.0  # pieces of a map are further from each other [m]
_MOST_PAIRS = 2_000_000


def with_junctions(lanes: dict[str, Lane]) -> dict[str, Lane]:
    """The lanes, with the junction of those that share ground with others than their successors and neighbours.

    Lanes that share ground, and those that share ground with them, are one junction; lanes that end in one lane or begin
    in one do too, as far as they are close together. A long lane that is touched at its end only stays a road.
    The same ground driven the other way (`ID` and `ID/back`) is no other lane.
    """
    root = {key: key for key in lanes}

    def find(key: str) -> str:
        while root[key] != key:
            root[key] = root[root[key]]
            key = root[key]
        return key

    shared: dict[str, float] = dict.fromkeys(lanes, 0.0)
    meets: list[tuple[str, str]] = []
    for one, other, mine, its in _sharing(lanes):
        shared[one], shared[other] = max(shared[one], mine), max(shared[other], its)
        meets.append((one, other))
    inside = {
        key for key, share in shared.items() if share and (share >= _SHARE or lanes[key].length < _SHORT)
    }
    for one, other in meets:
        if one in inside and other in inside:
            root[find(one)] = find(other)
    names: dict[str, str] = {}
    made = {}
    for key, lane in lanes.items():
        if key in inside:
            junction = names.setdefault(find(key), f"junction {len(names)}")
            lane = dataclasses.replace(lane, junction=junction, turn=turn_of(lane.centre))
        made[key] = lane
    return made


def _sharing(lanes: dict[str, Lane]) -> Iterator[tuple[str, str, float, float]]:
    """Pairs of lanes that share ground, and the share of the points of each that lie on the other."""
    if not lanes:
        return
    keys = list(lanes)
    ground = {key: key.removesuffix("/back") for key in keys}
    follow: dict[str, set[str]] = {ground[key]: set() for key in keys}
    for key, lane in lanes.items():
        for after in lane.successors:
            if after in ground:
                follow[ground[key]].add(ground[after])
                follow[ground[after]].add(ground[key])
    lines = [resample(lanes[key].centre, _SPACING) for key in keys]
    low, high = (np.array([each(line[:, :2], 0) for line in lines]) for each in (np.min, np.max))
    order = np.argsort(low[:, 0], kind="stable")
    starts = low[order, 0]
    pairs = 0
    for place, first in enumerate(order.tolist()):
        last = int(np.searchsorted(starts, high[first, 0] + 4.0))
        near = order[place + 1 : last]
        near = near[(low[near, 1] < high[first, 1] + 4.0) & (high[near, 1] > low[first, 1] - 4.0)]
        pairs += len(near)
        if pairs > _MOST_PAIRS:
            return
        for second in near.tolist():
            a, b = keys[first], keys[second]
            if ground[a] == ground[b] or ground[b] in follow[ground[a]]:
                continue
            mine, its = _shares(lines[first], lines[second], _WITHIN * min(lanes[a].width, lanes[b].width))
            if mine > 0:
                yield a, b, mine, its


def _shares(one: Float[ndarray, "n 3"], other: Float[ndarray, "m 3"], within: float) -> tuple[float, float]:
    """Which shares of two lines' points are near a point of the other."""
    close = np.linalg.norm(one[:, None, :2] - other[None, :, :2], axis=-1) < within
    close &= np.abs(one[:, None, 2] - other[None, :, 2]) < _LEVEL
    return float(close.any(1).mean()), float(close.any(0).mean())


def pieces(lanes: dict[str, Lane]) -> dict[str, int]:
    """Which piece of the map each lane is of, where pieces lie apart from each other; the first lane is of piece 0."""
    cells: dict[tuple[int, int], list[str]] = {}
    for key, lane in lanes.items():
        for x, y in {tuple(cell) for cell in np.floor(lane.centre[:, :2] / _APART).astype(int).tolist()}:
            cells.setdefault((x, y), []).append(key)
    number: dict[tuple[int, int], int] = {}
    found: dict[str, int] = {}
    for cell in cells:
        if cell in number:
            continue
        mine, waiting = len(set(number.values())), [cell]
        number[cell] = mine
        while waiting:
            x, y = waiting.pop()
            for key in cells[x, y]:
                found.setdefault(key, mine)
            beside = [(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            for each in beside:
                if each in cells and each not in number:
                    number[each] = mine
                    waiting.append(each)
    return found
