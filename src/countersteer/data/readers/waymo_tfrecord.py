"""Waymo Open Motion Dataset scenes as published: TFRecord files of `Scenario` protobuf messages.

A record is a drive: times, tracks, the lights of every step, and the map; a published file holds hundreds,
which are read one at a time as `file#0`, `file#1` ... Positions are box centres, headings radians
counter-clockwise from +x, z up: already our frame. The same data written as `tf.Example` has no whole map and is refused.

Reference: Ettinger et al., "Large Scale Interactive Motion Forecasting for Autonomous Driving: The Waymo
Open Motion Dataset", ICCV 2021.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from countersteer.data.readers.assembly import assemble
from countersteer.data.readers.fields import ENTRY, Field, check_counts, check_lights
from countersteer.data.readers.lights import WAYMO_STATES, signal_state, signals_of
from countersteer.data.readers.physics import USUAL_SIZE
from countersteer.data.readers.source import Reader, choose, fingerprint, numbered, origin, split_number
from countersteer.data.readers.tfrecord import is_tfrecord, read_record, record_offsets
from countersteer.data.readers.units import stamps
from countersteer.data.readers.waymo_json import LICENCE, ROAD_LINES
from countersteer.data.readers.waymo_proto import parse_scenario
from countersteer.geometry.polylines import project
from countersteer.scenarios.scenario import ActorKind, MapFeature, MapKind, Scenario, SignalState, Tracks

__all__ = ["READER"]

_ACTORS = {1: ActorKind.VEHICLE, 2: ActorKind.PEDESTRIAN, 3: ActorKind.CYCLIST}
_ID = re.compile("[0-9a-f]{12,16}")  # scenarios of the data set have 64-bit numbers for names
_AREAS = {"crosswalk": MapKind.CROSSWALK, "speed_bump": MapKind.SPEED_BUMP, "driveway": MapKind.DRIVEWAY}
_BIKE_LANE = 3
_FIRST_LINE = 5  # `ROAD_LINES` counts feature types: line type 1 of the map is number 6 there
_MOST_BOUNDARIES = 1000  # of one side of a lane; each is measured against the whole line
_MPH = 1609.344 / 3600  # [m/s]


def _read(path: Path) -> Scenario:
    file, number = split_number(path)
    records = record_offsets(file)
    number = choose(path, number, len(records), "records")
    data = read_record(file, number, *records[number])
    name = "" if len(records) == 1 else f"#{number}"
    place = Field(file.with_name(file.name + name), f"record {number} at byte {records[number][0]}", None)
    try:
        message = parse_scenario(data)
    except ValueError as error:
        place.fail(
            "is no Scenario message",
            got=error,
            expected="a waymo.open_dataset.Scenario",
            fix="take the Scenario files of the motion data set; its tf.Example files are not read",
        )
    return _scenario(place, message, fingerprint(data))


def _scenario(place: Field, message: Any, source_fingerprint: str) -> Scenario:
    check_counts(place.path, len(message.tracks), len(message.timestamps_seconds))
    times = stamps(place.child("timestamps_seconds", list(message.timestamps_seconds)))
    notes: list[str] = []
    tracks = _tracks(place, message.tracks, len(times), notes)
    bicycles: set[str] = set()
    features = _features(place, message.map_features, notes, bicycles)
    ego = message.sdc_track_index if message.HasField("sdc_track_index") else -1
    if not 0 <= ego < len(tracks.ids):
        place.child("sdc_track_index", ego).fail("names no track", expected=f"0 to {len(tracks.ids) - 1}")
    name = _text(place, "scenario_id", message.scenario_id)
    source, licence = origin(
        _ID.fullmatch(name) is not None, "Waymo Open Motion Dataset", LICENCE, "Scenario messages"
    )
    return assemble(
        place.path,
        name or place.path.name,
        times,
        tracks,
        features,
        signals_of(
            _lights(place, message.dynamic_map_states, len(times)), len(times), features, notes, bicycles
        ),
        ego,
        source=source,
        licence=licence,
        fingerprint=source_fingerprint,
        notes=notes,
    )


def _text(place: Field, name: str, data: bytes) -> str:
    """A text of the message, which the format leaves unchecked."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        place.child(name, data).fail("is not readable text", expected="text in UTF-8")


def _state(state: Any) -> tuple[float, ...]:
    return (
        state.center_x, state.center_y, state.center_z, state.length, state.width, state.height,
        state.heading, state.velocity_x, state.velocity_y, float(state.valid),
    )  # fmt: skip


def _tracks(place: Field, entries: Sequence[Any], count: int, notes: list[str]) -> Tracks:
    if not entries:
        place.child("tracks", []).fail("is empty", got="no tracks", expected="at least one track")
    rows, kinds, ids, sizes = [], [], [], []
    unsized = others = 0
    for index, track in enumerate(entries):
        kind = _ACTORS.get(track.object_type, ActorKind.STATIC)
        others += kind is ActorKind.STATIC
        states = place.child("tracks", None).child(index, None).child("states", None)
        if len(track.states) != count:
            states.fail("has the wrong shape", got=f"{len(track.states)} x 10", expected=f"{count} x 10")
        row = states.child("values", [_state(state) for state in track.states]).numbers(count, 10)
        seen = row[:, 9] != 0
        size = []
        for column, usual in zip((3, 4, 5), USUAL_SIZE[kind], strict=True):
            stated = row[seen & (row[:, column] > 0), column]
            unsized += len(stated) == 0
            size.append(float(np.median(stated)) if len(stated) else usual)
        ids.append(str(track.id))
        kinds.append(int(kind))
        rows.append(row)
        sizes.append(size)
    if others:
        notes.append(f"{others} objects of other types are read as static")
    if unsized:
        notes.append(f"{unsized} lengths, widths or heights are not stated: usual ones are assumed")
    table = np.stack(rows)
    return Tracks(
        tuple(ids),
        np.array(kinds),
        table[..., 0:3],
        table[..., 6],
        table[..., 7:9],
        np.array(sizes),
        table[..., 9] != 0,
    )


def _points(place: Field, points: Sequence[Any]) -> ndarray:
    """Map points as [n, 3]."""
    place.child("points", None).spend(3 * len(points))
    return place.child("points", [(p.x, p.y, p.z) for p in points]).numbers(None, 3)


def _features(place: Field, entries: Sequence[Any], notes: list[str], bicycles: set[str]) -> list[MapFeature]:
    """The map; `bicycles` learns the lanes that are left out because they are for bicycles."""
    features: list[MapFeature] = []
    lanes: dict[int, Any] = {}  # by their place in `features`
    bikes = short = others = plain = 0
    place.child("map_features", None).spend(ENTRY * len(entries))
    for index, entry in enumerate(entries):
        name, here = str(entry.id), place.child("map_features", None).child(index, None)
        min_points = 2
        if entry.HasField("lane"):
            body = entry.lane
            if body.type == _BIKE_LANE:
                bikes += 1
                bicycles.add(name)
                continue
            limit = body.speed_limit_mph * _MPH
            points = _points(here, body.polyline)
            lanes[len(features)] = body
            feature = MapFeature(name, MapKind.LANE, points, None, limit if limit > 0 else None)
        elif entry.HasField("road_line"):
            style = entry.road_line.type
            plain += style == 0
            kind = ROAD_LINES.get(style + _FIRST_LINE, MapKind.LINE_SOLID_WHITE)
            feature = MapFeature(name, kind, _points(here, entry.road_line.polyline))
        elif entry.HasField("road_edge"):
            feature = MapFeature(name, MapKind.ROAD_EDGE, _points(here, entry.road_edge.polyline))
        elif entry.HasField("stop_sign"):
            min_points = 1
            sign = entry.stop_sign
            place_of_sign = [sign.position] if sign.HasField("position") else []
            feature = MapFeature(name, MapKind.STOP_SIGN, _points(here, place_of_sign))
        elif area := next((area for area in _AREAS if entry.HasField(area)), None):
            min_points = 3
            points = _points(here, getattr(entry, area).polygon)
            closed = len(points) > 1 and np.array_equal(points[0], points[-1])
            feature = MapFeature(name, _AREAS[area], points[:-1] if closed else points)
        else:
            others += 1
            continue
        if len(feature.points) < min_points:
            short += 1
            lanes.pop(len(features), None)
            continue
        features.append(feature)
    lines = {feature.id: feature.points for feature in features if feature.kind != MapKind.LANE}
    for at, lane in lanes.items():
        feature = features[at]
        width = _width(feature.points, lane, lines)
        features[at] = MapFeature(feature.id, feature.kind, feature.points, width, feature.speed_limit)
    for number, what in (
        (bikes, "bicycle lanes left out"),
        (short, "map features with too few points left out"),
        (others, "map features of other types left out"),
        (plain, "road lines state no colour: read as solid white"),
    ):
        if number:
            notes.append(f"{number} {what}")
    return features


def _width(points: ndarray, lane: Any, lines: dict[str, ndarray]) -> float | None:
    """Width of a lane [m] from its boundaries: the median where it has one on either side, else None."""
    sides = np.full((2, len(points)), np.nan)
    for side, boundaries in enumerate((lane.left_boundaries, lane.right_boundaries)):
        for segment in boundaries[:_MOST_BOUNDARIES]:
            line = lines.get(str(segment.boundary_feature_id))
            first, last = segment.lane_start_index, segment.lane_end_index
            if line is None or len(line) < 2 or not 0 <= first <= last < len(points):
                continue
            part = points[first : last + 1, :2]
            if np.isfinite(line).all() and np.isfinite(part).all():
                sides[side, first : last + 1] = np.abs(project(line[:, :2], part)[1])
    widths = sides.sum(0)
    widths = widths[np.isfinite(widths)]
    width = float(np.median(widths)) if len(widths) else 0.0
    return width if 1.5 <= width <= 8.0 else None


def _lights(place: Field, steps: Sequence[Any], count: int) -> list[tuple[str, ndarray, ndarray]]:
    """Lane, stated stop points and states of each light. One that a step does not mention is unknown there."""
    if len(steps) > count:
        place.child("dynamic_map_states", steps).fail(
            "has the wrong number of steps", got=len(steps), expected=count
        )
    states: dict[str, ndarray] = {}
    stops: dict[str, list[list[float]]] = {}
    for tick, step in enumerate(steps):
        place.child("dynamic_map_states", None).spend(ENTRY * len(step.lane_states))
        for light in step.lane_states:
            lane, code, point = str(light.lane), light.state, light.stop_point
            if lane not in states:
                check_lights(place.path, len(states) + 1, count)
                states[lane], stops[lane] = np.full(count, int(SignalState.UNKNOWN), np.int64), []
            if light.HasField("stop_point"):
                stops[lane].append([point.x, point.y, point.z])
            states[lane][tick] = signal_state(WAYMO_STATES[code]) if 0 <= code < len(WAYMO_STATES) else 0
    field = place.child("dynamic_map_states", None)
    return [
        (lane, field.child("stop_point", stops[lane]).numbers(None, 3), state)
        for lane, state in states.items()
    ]


def _drives(path: Path) -> list[Path]:
    return numbered(path, len(record_offsets(path)))


READER = Reader(
    "waymo_tfrecord",
    "a TFRecord file of Waymo Motion `Scenario` messages (uncompressed, as published)",
    is_tfrecord,
    _read,
    _drives,
)
