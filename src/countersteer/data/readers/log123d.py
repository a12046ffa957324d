"""Logs of 123D, one form for many data sets: nuPlan, nuScenes, Waymo, Argoverse 2, KITTI-360, PandaSet, CARLA ...

A log is a folder of Arrow files, written by the converters of the `py123d` package and read through it (the extra
`data`). Its world is z up and its poses have x forward, y left: our frame. Boxes are given by their
centre. Maps come with the log or from the `maps` folder beside `logs`; of a city, what lies around the drive is read.

Reference: Dauner et al., "123D: Unifying Multi-Modal Autonomous Driving Data at Scale", github.com/kesai-labs/py123d.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from countersteer.data.readers import argoverse2, waymo_json
from countersteer.data.readers.assembly import assemble, check_times, lane_width_of_area
from countersteer.data.readers.fields import Field, check_counts, check_lights
from countersteer.data.readers.lights import signals_of
from countersteer.data.readers.source import Reader, fingerprint_of_files
from countersteer.data.readers.units import velocity_of
from countersteer.errors import MissingExtraError, reading
from countersteer.geometry.polylines import arc_length
from countersteer.scenarios.scenario import (
    ActorKind,
    MapFeature,
    MapKind,
    Scenario,
    Signals,
    SignalState,
    Tracks,
)

__all__ = ["READER"]

LICENCES = {
    "av2": argoverse2.LICENCE,
    "kitti360": "CC BY-NC-SA 3.0",
    "nuplan": "CC BY-NC-SA 4.0 with the nuPlan terms of use",
    "nuscenes": "CC BY-NC-SA 4.0 with the nuScenes terms of use",
    "pandaset": "CC BY 4.0 with the PandaSet terms of use",
    "wod": waymo_json.LICENCE,
}
"""By the first word of the data set's name; others are "unknown"."""

_ACTORS = {
    "VEHICLE": ActorKind.VEHICLE,
    "TRAIN": ActorKind.VEHICLE,
    "TWO_WHEELER": ActorKind.CYCLIST,
    "PERSON": ActorKind.PEDESTRIAN,
    "ANIMAL": ActorKind.PEDESTRIAN,
}
_LIGHTS = {"GREEN": SignalState.GO, "YELLOW": SignalState.CAUTION, "RED": SignalState.STOP}
_AREAS = {
    "INTERSECTION": MapKind.DRIVABLE_AREA,
    "GENERIC_DRIVABLE": MapKind.DRIVABLE_AREA,
    "CARPARK": MapKind.DRIVEWAY,
    "CROSSWALK": MapKind.CROSSWALK,
    "SPEED_BUMP": MapKind.SPEED_BUMP,
}
_AROUND = 150.0  # of the map that is read, beyond the ego's path [m]
_MOST_STATES = 20_000_000  # of one log, whose files are many and large; they take some gigabytes
_TABLES = ("sync.arrow", "ego_state_se3.arrow")


def _matches(path: Path) -> bool:
    return all((path / name).is_file() for name in _TABLES)


def _open(path: Path) -> Any:
    """The log as py123d's `SceneAPI`."""
    try:
        from py123d.api.scene.arrow.arrow_scene_api import (  # pyright: ignore[reportMissingImports]
            ArrowSceneAPI,
        )
    except ImportError as error:
        raise MissingExtraError("py123d", "data") from error
    root = path.absolute().parents[1]  # logs/split/log
    return ArrowSceneAPI(path, maps_root=root.parent / "maps" if root.name == "logs" else None)


def _read(path: Path) -> Scenario:
    scene = _open(path)
    with reading(
        path,
        "cannot be read by py123d",
        expected="a whole 123D log with ego states",
        fix="check that it was written by the same version of py123d; convert it again",
    ):
        return _scenario(path, scene)


def _scenario(path: Path, scene: Any) -> Scenario:
    about = scene.get_log_metadata()
    dataset = str(about.dataset)
    stamps = np.array([stamp.time_us for stamp in scene.get_all_iteration_timestamps()], np.int64)
    times = (stamps - stamps[:1]) / 1e6
    check_times(path, times)
    check_counts(path, 1, len(times))
    notes: list[str] = []
    tracks = _tracks(path, scene, len(times))
    velocity = velocity_of(tracks.position, tracks.valid, times)
    tracks = Tracks(
        tracks.ids, tracks.kind, tracks.position, tracks.heading, velocity, tracks.size, tracks.valid
    )
    notes.append("velocities are taken from positions")
    features = _features(path, scene, tracks.position[0, tracks.valid[0], :2], notes)
    return assemble(
        path,
        str(about.log_name),
        times,
        tracks,
        features,
        _signals(path, scene, len(times), features, notes),
        0,
        source=f"123D ({dataset})",
        licence=LICENCES.get(re.split("[-_]", dataset)[0], "unknown"),
        fingerprint=fingerprint_of_files(path.glob("*.arrow")),
        notes=notes,
    )


def _tracks(path: Path, scene: Any, count: int) -> Tracks:
    """The ego and everyone else, without velocities."""
    rows: dict[str, list[tuple[int, list[float]]]] = {"ego": []}
    kinds = {"ego": ActorKind.VEHICLE}
    for tick in range(count):
        if (ego := scene.get_ego_state_se3_at_iteration(tick)) is not None:
            rows["ego"].append((tick, _box(ego.bounding_box_se3)))
        for box in scene.get_box_detections_se3_at_iteration(tick) or ():
            name, label = str(box.attributes.track_token), box.attributes.default_label.name
            if label == "EGO":
                continue
            name = f"{name}/other" if name == "ego" else name
            if name in rows and rows[name] and rows[name][-1][0] == tick:
                Field(path, f"track {name!r}", None).fail(
                    f"is there twice at step {tick}", got="two boxes", expected="one box a step"
                )
            kinds.setdefault(name, _ACTORS.get(label, ActorKind.STATIC))
            rows.setdefault(name, []).append((tick, _box(box.bounding_box_se3)))
    if not rows["ego"]:
        Field(path, "the log", None).fail("has no ego state", got="none", expected="ego_state_se3 at a step")
    check_counts(path, len(rows), count, _MOST_STATES)
    table, valid = np.zeros((len(rows), count, 7)), np.zeros((len(rows), count), bool)
    for actor, states in enumerate(rows.values()):
        for tick, values in states:
            table[actor, tick], valid[actor, tick] = values, True
    size = np.array([np.median(table[actor, valid[actor], 4:7], axis=0) for actor in range(len(rows))])
    return Tracks(
        ids=tuple(rows),
        kind=np.array([int(kinds[name]) for name in rows]),
        position=table[..., 0:3],
        heading=table[..., 3],
        velocity=np.zeros((len(rows), count, 2)),
        size=size,
        valid=valid,
    )


def _box(box: Any) -> list[float]:
    """Centre x, y, z, yaw, length, width, height."""
    pose = box.center_se3
    return [pose.x, pose.y, pose.z, pose.yaw, box.length, box.width, box.height]


def _points(line: Any) -> ndarray:
    """A polyline of py123d as [n, 3]; NaN for heights of a flat map."""
    points = np.asarray(line.array, np.float64)
    return points if points.shape[1] == 3 else np.column_stack([points, np.full(len(points), np.nan)])


def _outline(surface: Any) -> ndarray:
    points = _points(surface.outline)
    return points[:-1] if len(points) > 1 and np.array_equal(points[0, :2], points[-1, :2]) else points


def _features(path: Path, scene: Any, driven: ndarray, notes: list[str]) -> list[MapFeature]:
    roads = scene.get_map_api()
    if roads is None:
        notes.append("the log has no map, or it was not found beside it")
        return []
    from py123d.geometry import Point2D  # pyright: ignore[reportMissingImports]

    low, high = driven.min(0), driven.max(0)
    middle, reach = (low + high) / 2, float(np.hypot(*(high - low))) / 2 + _AROUND
    layers = [layer for layer in roads.available_map_layers if layer.name not in ("LANE_GROUP", "WALKWAY")]
    found = roads.get_map_objects_in_radius(Point2D(*middle.tolist()), reach, layers)
    features: list[MapFeature] = []
    bikes = 0
    for layer in layers:
        for item in sorted(found.get(layer, ()), key=lambda item: str(item.object_id)):
            name, kind = f"{layer.name.lower()}/{item.object_id}", layer.name
            if kind == "LANE":
                if item.lane_type.name == "BIKE_LANE":
                    bikes += 1
                    continue
                features += _lane(str(item.object_id), item)
            elif kind in _AREAS:
                features.append(MapFeature(name, _AREAS[kind], _outline(item)))
            elif kind == "ROAD_EDGE":
                features.append(MapFeature(name, MapKind.ROAD_EDGE, _points(item.polyline)))
            elif (
                kind == "ROAD_LINE" and (style := argoverse2.MARKS.get(item.road_line_type.name)) is not None
            ):
                features.append(MapFeature(name, style, _points(item.polyline)))
    if bikes:
        notes.append(f"{bikes} bicycle lanes left out")
    areas = (*_AREAS.values(), MapKind.LANE_AREA)
    return [feature for feature in features if len(feature.points) >= (3 if feature.kind in areas else 2)]


def _lane(name: str, lane: Any) -> list[MapFeature]:
    center, area, limit = _points(lane.centerline), _outline(lane), lane.speed_limit_mps
    width = lane_width_of_area(area, float(arc_length(center[:, :2])[-1])) if len(center) > 1 else None
    speed = float(limit) if limit is not None and limit > 0 else None
    return [
        MapFeature(name, MapKind.LANE, center, width, speed),
        MapFeature(f"{name}/area", MapKind.LANE_AREA, area),
    ]


def _signals(path: Path, scene: Any, count: int, features: list[MapFeature], notes: list[str]) -> Signals:
    """Lights by lane; 123D keeps no stop points, a lane that a light governs begins at its stop line."""
    starts = {feature.id: feature.points[0] for feature in features if feature.kind is MapKind.LANE}
    states: dict[str, ndarray] = {}
    for tick in range(count):
        lights = scene.get_traffic_light_detections_at_iteration(tick)
        for light in lights.detections if lights is not None else ():
            check_lights(path, len(states) + 1, count)
            state = states.setdefault(str(light.lane_id), np.full(count, int(SignalState.UNKNOWN), np.int64))
            state[tick] = int(_LIGHTS.get(light.status.name, SignalState.UNKNOWN))
    if states:
        notes.append("stop points are the beginnings of the lanes that the lights govern")
    nowhere = np.full(3, np.nan)
    found = [(lane, starts.get(lane, nowhere)[None], state) for lane, state in states.items()]
    return signals_of(found, count, features, notes)


READER = Reader(
    "123d",
    f"a folder with {' and '.join(_TABLES)} (one log of 123D; needs the extra `data`)",
    _matches,
    _read,
)
