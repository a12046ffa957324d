"""Whether a map has road where the recorded ego drove. Where it has none, nobody can be blamed for leaving it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.geometry import polygons, polylines
from countersteer.scenarios.scenario import MapFeature, MapKind, Scenario

__all__ = ["BETWEEN_EDGES", "MOST_OFF", "SHOULDER", "Coverage", "coverage", "half_width"]

MOST_OFF = 0.25
"""A map that has no road for a larger share of the recorded way lies elsewhere."""
SHOULDER = 0.5
"""What counts as road beside the lanes of a map without areas [m]."""
BETWEEN_EDGES = 6.0
"""What counts as road beside a lane's centre line in a map without areas whose road ends at edges [m]."""
_HALF_WIDTH = 1.8  # of a lane that states no width [m]
_SMOOTH = 0.5  # baked borders are off by less [m]; what is near one counts as road here
_PLACES = 1000  # of a drive that are looked at, half a metre apart or more
_STEP = 0.5
_MOST_PAIRS = 100_000_000  # of corners and pieces of the map: seconds
_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Coverage:
    """How much of the recorded ego's way a map has road for.

    Attributes:
        off: Share of the way on which a corner of its box is off the map's road, in [0, 1].
        begins, ends: How far from its first place its box stands on the road for the first and for the last time [m];
            infinite where that is its first and its last place.
    """

    off: float = 0.0
    begins: float = -np.inf
    ends: float = np.inf

    @property
    def elsewhere(self) -> bool:
        """Whether the map lies elsewhere than the drive."""
        return self.off > MOST_OFF

    @property
    def note(self) -> str:
        """What the map lacks, in words; nothing if it covers the drive."""
        lacks = [f"for the first {self.begins:.1f} m"] if np.isfinite(self.begins) else []
        lacks += [f"beyond {self.ends:.1f} m"] if np.isfinite(self.ends) else []
        if self.elsewhere:
            return (
                f"the map has no road for {self.off:.0%} of the ego's own way, so it lies elsewhere: leaving the road "
                "is not judged"
            )
        where = " and ".join(lacks)
        return where and f"the map has no road {where} of the ego's own way: leaving it there is not judged"

    def judges(self, way: Float[ndarray, "n"]) -> Bool[ndarray, "n"]:
        """Whether a car that has come so far [m] can be told to have left the road."""
        inside = (way > self.begins + 2 * _SMOOTH) & (way < self.ends - 2 * _SMOOTH)
        return inside & (not self.elsewhere)


def half_width(lane: MapFeature) -> float:
    """Half the width of a lane [m], the usual one where the map states none."""
    return lane.width / 2 if lane.width else _HALF_WIDTH


def coverage(scenario: Scenario, until: float = np.inf) -> Coverage:
    """Hold the boxes of the recorded ego against the map.

    A map without lanes and areas says nothing, and neither does a scenario without an ego.

    Args:
        scenario: With its map.
        until: Time [s] after which nothing is looked at.
    """
    tracks, ego = scenario.tracks, scenario.ego
    if ego is None or not scenario.road.of_kind(MapKind.LANE, MapKind.DRIVABLE_AREA, MapKind.LANE_AREA):
        return Coverage()
    seen = np.flatnonzero(tracks.valid[ego] & (scenario.times <= until))
    if not len(seen):
        return Coverage()
    place = tracks.position[ego, seen, :2].astype(np.float64)
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(place, axis=0).T))])
    _, some = np.unique(way // max(_STEP, way[-1] / _PLACES), return_index=True)
    some = np.union1d(some, len(way) - 1)
    seen, place, way = seen[some], place[some], way[some]
    heading = tracks.heading[ego, seen].astype(np.float64)
    size = np.broadcast_to(tracks.size[ego, :2].astype(np.float64), (len(seen), 2))
    corners = polygons.rectangle(place, heading, size)
    off = np.logical_not(_on_road(scenario, corners.reshape(-1, 2)).reshape(-1, 4).all(1))
    if not off.any():
        return Coverage()
    share = float(np.diff(way)[off[1:] & off[:-1]].sum() / max(way[-1], 1e-6))
    on = np.flatnonzero(~off) if not off.all() else np.array([len(way) - 1])
    return Coverage(
        off=1.0 if off.all() else share,
        begins=float(way[on[0]]) if off[0] else -np.inf,
        ends=float(way[on[-1]]) if off[-1] else np.inf,
    )


def _on_road(scenario: Scenario, points: Float[ndarray, "n 2"]) -> Bool[ndarray, "n"]:
    """Whether points lie in a lane or an area of the map, edges of the road left aside; so do all in one too large to look at."""
    road, pairs = scenario.road, 0
    on = np.zeros(len(points), bool)

    def look(line: ndarray, reach: float, holds: Callable[[ndarray, ndarray, float], ndarray]) -> None:
        nonlocal pairs
        near = ((points > line.min(0) - reach) & (points < line.max(0) + reach)).all(1)
        near = np.flatnonzero(near & ~on)
        pairs += len(near) * len(line)
        if pairs > _MOST_PAIRS:
            on[:] = True
        else:
            for part in np.array_split(near, -(-len(near) * len(line) // _AT_ONCE)) if len(near) else ():
                on[part] = holds(line, points[part], reach)

    for area in road.of_kind(MapKind.DRIVABLE_AREA, MapKind.LANE_AREA, MapKind.DRIVEWAY):
        outline = area.points[:, :2].astype(np.float64)
        if len(outline) > 2:
            look(outline, _SMOOTH, lambda line, some, reach: polygons.distance(line, some) < reach)
    beside = 0.0 if road.of_kind(MapKind.DRIVABLE_AREA, MapKind.LANE_AREA) else SHOULDER
    edges = bool(beside and road.of_kind(MapKind.ROAD_EDGE))
    for lane in road.of_kind(MapKind.LANE):
        line = polylines.close(polylines.distinct(lane.points[:, :2].astype(np.float64)))
        reach = (BETWEEN_EDGES if edges else half_width(lane) + beside) + _SMOOTH
        if len(line) > 1:
            look(line, reach, _beside)
    return on


def _beside(line: ndarray, points: ndarray, reach: float) -> Bool[ndarray, "n"]:
    """Whether points are within reach of a line; its ends are square."""
    arc, _ = polylines.project(line, points)
    s, steps = polylines.arc_length(line), np.diff(line, axis=0)
    apart = points - np.stack([np.interp(arc, s, line[:, axis]) for axis in (0, 1)], -1)
    ahead = apart @ (steps / np.hypot(*steps.T)[:, None])[[0, -1]].T
    beyond = ((arc <= 0) & (ahead[:, 0] < -_SMOOTH)) | ((arc >= s[-1]) & (ahead[:, 1] > _SMOOTH))
    return (np.hypot(*apart.T) <= reach) & ~beyond
