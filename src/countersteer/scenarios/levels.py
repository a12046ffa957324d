"""Roads above one another: which part of a map lies on the level that somebody drives on.

Heights count where a source knows them. One that does not gives every point the same, and then all is on one level.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.geometry.polylines import resample
from countersteer.scenarios.scenario import MapFeature, MapKind, RoadMap, Scenario

__all__ = ["APART", "ground_below", "on_level"]

APART = 2.5
"""Heights of one scene that differ by less are those of one level, and noise [m]; a storey of a car park is higher."""
_NEAR = 8.0  # from a way, within which its height says something of the map's [m]
_DENSE = 2.0  # between points of the map whose heights are looked at [m]
_AREAS = (MapKind.DRIVABLE_AREA, MapKind.LANE_AREA, MapKind.CROSSWALK, MapKind.SPEED_BUMP, MapKind.DRIVEWAY)


def ground_below(scenario: Scenario, track: int) -> Float[ndarray, "n 3"]:
    """Where a recorded box stood on the ground [m, world], two metres apart or more."""
    tracks = scenario.tracks
    points = tracks.position[track, tracks.valid[track]].astype(np.float64)
    points[:, 2] -= tracks.size[track, 2] / 2
    step = np.floor(np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points[:, :2], axis=0).T))]) / _DENSE)
    return points[np.unique(step, return_index=True)[1]]


def on_level(road: RoadMap, ways: Float[ndarray, "n 3"]) -> RoadMap:
    """The map without what lies above or below somebody's way.

    A point of the map is on another level if it is within 8 m of the way and more than `APART` higher or lower than all of it there.
    Lines lose such points, areas that have one are left out. A map whose lanes are mostly elsewhere than the way, or that has one
    height, says nothing of heights and comes back as it is.

    Args:
        road: The map.
        ways: Points on the ground that are driven on [m, world].
    """
    if not len(ways) or not road.features:
        return road
    heights = np.concatenate([feature.points[:, 2] for feature in road.features])
    if np.ptp(heights) <= APART:
        return road
    low, high = ways.min(0)[:2] - _NEAR, ways.max(0)[:2] + _NEAR

    def gaps(points: ndarray) -> ndarray:
        """Least difference of heights to the way near each point [m], NaN where there is none."""
        found = np.full(len(points), np.nan)
        inside = np.flatnonzero(((points[:, :2] > low) & (points[:, :2] < high)).all(1))
        for start in range(0, len(inside), 512):
            some = inside[start : start + 512]
            near = np.linalg.norm(points[some, None, :2] - ways[:, :2], axis=-1) < _NEAR
            apart = np.where(near, np.abs(points[some, None, 2] - ways[:, 2]), np.inf).min(1)
            found[some] = np.where(np.isfinite(apart), apart, np.nan)
        return found

    lanes = [gaps(resample(f.points, _DENSE)) for f in road.of_kind(MapKind.LANE) if len(f.points) > 1]
    known = np.concatenate([np.zeros(0), *lanes])
    known = known[np.isfinite(known)]
    if not len(known) or np.quantile(known, 0.25) > APART:
        return road
    kept: list[MapFeature] = []
    for feature in road.features:
        kept += _on_level(feature, gaps)
    return RoadMap(tuple(kept))


def _on_level(feature: MapFeature, gaps) -> list[MapFeature]:
    outline = feature.kind in _AREAS
    points = np.concatenate([feature.points, feature.points[:1]]) if outline else feature.points
    dense = resample(points, _DENSE) if len(points) > 1 else points
    away = np.nan_to_num(gaps(dense)) > APART
    if not away.any():
        return [feature]
    if outline or len(dense) < 2:
        return []
    runs = np.split(np.arange(len(dense)), np.flatnonzero(np.diff(away.astype(int))) + 1)
    pieces = [run for run in runs if not away[run[0]] and len(run) > 1]
    return [
        dataclasses.replace(
            feature, id=feature.id if len(pieces) == 1 else f"{feature.id}/{k}", points=dense[run]
        )
        for k, run in enumerate(pieces)
    ]
