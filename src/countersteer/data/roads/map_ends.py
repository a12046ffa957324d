"""Lanes beyond the ends of a map that is cut off where the filmed area ends, because the road goes on there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from countersteer.geometry.polygons import contains
from countersteer.scenarios.scenario import MapFeature, MapKind

__all__ = ["NOTE", "beyond_the_map"]

NOTE = (
    "the map ends where the filmed area does: lanes that lead nowhere go on straight for 40 m (`ID/end`), those that come from "
    "nowhere begin 10 m earlier (`ID/start`)"
)

_AHEAD, _BACK = 40.0, 10.0  # a route goes on for 30 m behind the recording [m]
_SAMPLES = np.array([0.1, 0.3, 0.6])  # shares of the way beyond that have to be off the map
_MEETS = 1.0  # a lane whose end is nearer to the beginning of another goes on [m]
_WIDEST = 6.0  # of such a lane [m]
_USUAL = 3.6  # width of a lane that states none [m]


def beyond_the_map(features: Sequence[MapFeature]) -> list[MapFeature]:
    """Lanes, and their areas, straight on from those with no other at their end (or beginning), where no other lane lies."""
    lanes = [one for one in features if one.kind == MapKind.LANE and len(one.points) > 1]
    areas = [one.points[:, :2] for one in features if one.kind == MapKind.LANE_AREA]
    found = []
    if not lanes:
        return found
    starts, ends = (np.array([lane.points[place, :2] for lane in lanes]) for place in (0, -1))
    for lane in lanes:
        for name, place, others, reach in (("end", -1, starts, _AHEAD), ("start", 0, ends, _BACK)):
            here = lane.points[place]
            if np.linalg.norm(others - here[:2], axis=1).min() > _MEETS:
                line = lane.points[::-1] if place else lane.points  # from the end inwards
                ahead = _outwards(line[:, :2])
                if not any(
                    contains(area, here[:2] + reach * _SAMPLES[:, None] * ahead).any() for area in areas
                ):
                    width = min(lane.width or _USUAL, _WIDEST)
                    aside = np.array([-ahead[1], ahead[0]]) * width / 2
                    far = here[:2] + reach * ahead
                    middle, outline = (
                        [here[:2], far],
                        [here[:2] + aside, here[:2] - aside, far - aside, far + aside],
                    )
                    key = f"{lane.id}/{name}"
                    line, area = (np.insert(each, 2, here[2], axis=1) for each in (middle, outline))
                    line = line if place else line[::-1]
                    found += [
                        MapFeature(key, MapKind.LANE, line, width, lane.speed_limit),
                        MapFeature(f"{key}/area", MapKind.LANE_AREA, area),
                    ]
    return found


def _outwards(line: ndarray) -> ndarray:
    """Unit vector from a point a few metres inside a line to its first point."""
    far = np.linalg.norm(line - line[0], axis=1) > 3.0
    way = line[0] - line[int(far.argmax()) if far.any() else -1]
    return way / max(float(np.hypot(*way)), 1e-9)
