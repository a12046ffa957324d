"""Traffic lights as far as a file and its map say who and where they are for."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from numpy import ndarray

from countersteer.geometry import polylines
from countersteer.scenarios.scenario import MapFeature, MapKind, Signals, SignalState

__all__ = ["WAYMO_STATES", "course_at", "signal_state", "signals_of"]

WAYMO_STATES = (
    "unknown", "arrow_stop", "arrow_caution", "arrow_go", "stop", "caution", "go", "flashing_stop",
    "flashing_caution",
)  # fmt: skip
"""Words for the numbers of a light's states in Waymo's messages."""

_AT_LANE = 10.0  # a stop point further than this from a lane is not on it [m]


def signal_state(text: str) -> SignalState:
    """State of a light in Waymo's or MetaDrive's words: arrows count like discs, flashing red like red."""
    word = text.lower()
    for prefix in ("lane_state_", "traffic_light_", "arrow_", "flashing_"):
        word = word.removeprefix(prefix)
    words = {
        "go": SignalState.GO,
        "caution": SignalState.CAUTION,
        "stop": SignalState.STOP,
        "green": SignalState.GO,
        "yellow": SignalState.CAUTION,
        "red": SignalState.STOP,
    }
    return words.get(word, SignalState.UNKNOWN)


def course_at(features: list[MapFeature], lane: str, point: ndarray) -> float:
    """Driving direction [rad] of a lane at its vertex closest to `point` [m].

    NaN where it is unknown: there is no such lane, it has no length, turns on the spot there, or is not within 10 m.
    """
    for feature in features:
        if feature.id == lane and feature.kind == MapKind.LANE:
            plane = polylines.distinct(feature.points[:, :2])
            if len(plane) < 2 or not _passes(plane, point):
                continue
            nearest = int(np.linalg.norm(plane - point, axis=1).argmin())
            along = plane[min(nearest + 1, len(plane) - 1)] - plane[max(nearest - 1, 0)]
            if np.hypot(*along) > 1e-6:
                return float(np.arctan2(along[1], along[0]))
    return math.nan


def _passes(line: ndarray, point: ndarray) -> bool:
    """Whether a polyline passes within `_AT_LANE` of a point."""
    at, _ = polylines.project(line, point[None])
    arc = polylines.arc_length(line)
    gap = [np.interp(at[0], arc, line[:, axis]) - point[axis] for axis in range(2)]
    return bool(np.hypot(*gap) <= _AT_LANE)


def signals_of(
    lights: list[tuple[str, ndarray, ndarray]],
    count: int,
    features: list[MapFeature],
    notes: list[str],
    bicycle_lanes: Collection[str] = (),
) -> Signals:
    """Traffic lights as far as they are known; `notes` learn what is not.

    A light whose place nobody states is left out, and so is one for bicycles. One whose direction nobody knows is kept with a heading of NaN.

    Args:
        lights: Lane, stated stop points `[n, 3]` (one, or one a step; NaN or all zero for none) and states by step.
        count: Steps of the drive.
        features: The map, in the frame of the stop points.
        notes: Quirks met so far.
        bicycle_lanes: Lanes of the source that the map leaves out, because no car drives there.
    """
    kept = []
    for_all = [light for light in lights if light[0] not in bicycle_lanes]
    if len(for_all) < len(lights):
        notes.append(f"{len(lights) - len(for_all)} traffic lights of bicycle lanes left out")
    lights = for_all
    lanes = [polylines.distinct(one.points[:, :2]) for one in features if one.kind == MapKind.LANE]
    for lane, points, states in lights:
        stated = points[~np.isnan(points[:, :2]).any(1)]
        places = stated[(stated[:, :2] != 0).any(1)]
        # Writers put zeros where they know no place; the origin is one only if a lane passes there.
        if not len(places) and any(len(line) > 1 and _passes(line, np.zeros(2)) for line in lanes):
            places = stated
        if len(places):
            kept.append((lane, places[0], course_at(features, lane, places[0, :2]), states))
    if len(kept) < len(lights):
        notes.append(f"{len(lights) - len(kept)} traffic lights state no place: left out")
    if unknown := sum(math.isnan(course) for _, _, course, _ in kept):
        notes.append(
            f"{unknown} traffic lights are of unknown direction, because the map has no such lane there: they count for "
            "whoever passes their stop point"
        )
    return Signals(
        tuple(lane for lane, *_ in kept),
        np.array([place for _, place, _, _ in kept], float).reshape(-1, 3),
        np.array([course for _, _, course, _ in kept], float),
        np.array([states for *_, states in kept], np.int64).reshape(-1, count),
    )
