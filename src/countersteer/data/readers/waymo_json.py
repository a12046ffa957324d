"""Scenes as JSON as written for Nocturne and GPUDrive, of the Waymo Open Motion Dataset mostly (.json or .json.gz).

A file holds `objects` (tracks of 91 steps at 10 Hz: 1.1 s of past, 8 s of future), `roads` and, in the
GPUDrive flavour, `metadata.sdc_track_index`, the ego. Positions are box centres. Invalid steps hold
-10000. Nocturne files give headings in degrees, have no heights and name no ego. The numbers of
`map_element_id` are the feature types of Waymo's motion data set.

Reference: Ettinger et al., "Large Scale Interactive Motion Forecasting for Autonomous Driving: The Waymo
Open Motion Dataset", ICCV 2021.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import numpy as np
from numpy import ndarray

from countersteer.data.readers.assembly import assemble
from countersteer.data.readers.fields import Field, check_counts, check_lights
from countersteer.data.readers.lights import signal_state, signals_of
from countersteer.data.readers.physics import USUAL_SIZE
from countersteer.data.readers.source import Reader, fingerprint, origin
from countersteer.scenarios.scenario import ActorKind, MapFeature, MapKind, Scenario, SignalState, Tracks
from countersteer.storage.files import head, parse_json, read_bytes

__all__ = ["LICENCE", "READER", "ROAD_LINES"]

LICENCE = "Waymo Dataset License Agreement for Non-Commercial Use"
INTERVAL = 0.1  # the files state no times [s]

_ACTORS = {
    "vehicle": ActorKind.VEHICLE,
    "pedestrian": ActorKind.PEDESTRIAN,
    "cyclist": ActorKind.CYCLIST,
}
_ROADS = {
    "lane": MapKind.LANE,
    "road_line": MapKind.LINE_SOLID_WHITE,
    "road_edge": MapKind.ROAD_EDGE,
    "crosswalk": MapKind.CROSSWALK,
    "speed_bump": MapKind.SPEED_BUMP,
    "driveway": MapKind.DRIVEWAY,
    "stop_sign": MapKind.STOP_SIGN,
}
ROAD_LINES = {
    6: MapKind.LINE_DASHED_WHITE,
    7: MapKind.LINE_SOLID_WHITE,
    8: MapKind.LINE_SOLID_WHITE,  # double
    9: MapKind.LINE_DASHED_YELLOW,
    10: MapKind.LINE_DASHED_YELLOW,  # double
    11: MapKind.LINE_SOLID_YELLOW,
    12: MapKind.LINE_SOLID_YELLOW,  # double
    13: MapKind.LINE_DASHED_YELLOW,  # double, passing allowed
}
_PUBLISHED = re.compile(r"tfrecord-\d{5}-of-\d{5}")
_BIKE_LANE = 3
_FEWEST_POINTS = {MapKind.STOP_SIGN: 1, MapKind.CROSSWALK: 3, MapKind.SPEED_BUMP: 3, MapKind.DRIVEWAY: 3}


def _matches(path: Path) -> bool:
    start = head(path).removeprefix(codecs.BOM_UTF8).lstrip()
    return start.startswith(b"{") and (b'"objects"' in start or b'"roads"' in start)


def _read(path: Path) -> Scenario:
    data = read_bytes(path)
    whole = Field(path, "", parse_json(data, path, "a JSON object with objects and roads"))
    notes = [f"no times in the source: steps are {INTERVAL:g} s apart"]
    tracks = _tracks(whole["objects"], notes)
    bicycles: set[str] = set()
    features = _features(whole["roads"], notes, bicycles)
    count = tracks.position.shape[1]
    lights = whole.get("tl_states")
    signals = signals_of(_lights(lights, count) if lights else [], count, features, notes, bicycles)
    ego = None
    if (metadata := whole.get("metadata")) and (index := metadata.get("sdc_track_index")):
        ego = index.integer()
        if not 0 <= ego < len(tracks.ids):
            index.fail("names no object", expected=f"0 to {len(tracks.ids) - 1}")
    named = [field.text() for key in ("name", "scenario_id") if (field := whole.get(key))]
    # Converters name the published file that they took the scene from.
    source, licence = origin(
        any(_PUBLISHED.search(text) for text in named),
        "Waymo Open Motion Dataset (JSON)",
        LICENCE,
        "JSON as for GPUDrive",
    )
    name = whole.get("scenario_id") or whole.get("name")
    return assemble(
        path,
        name.text().removesuffix(".json") if name else path.name.split(".json")[0],
        np.arange(count) * INTERVAL,
        tracks,
        features,
        signals,
        ego,
        source=source,
        licence=licence,
        fingerprint=fingerprint(data),
        notes=notes,
    )


def _points(field: Field) -> ndarray:
    """A list of {x, y, z} as [n, 3]; NaN for a height that is not stated."""
    try:
        rows = [[point["x"], point["y"], point.get("z", np.nan)] for point in field.value]
    except (TypeError, KeyError, AttributeError):
        field.fail("is not a list of points", expected="a list of {x, y} or {x, y, z}")
    return field.child("xyz", rows).numbers(None, 3)


def _tracks(objects: Field, notes: list[str]) -> Tracks:
    """All tracks, with headings in the file's unit."""
    entries = objects.entries()
    if not entries:
        objects.fail("is empty", got="no objects", expected="at least one object")
    count = len(entries[0]["valid"].entries())
    check_counts(objects.path, len(entries), count)
    ids, kinds, sizes = [], [], []
    unknown = flat = unsized = 0
    position, heading, velocity, valid = [], [], [], []
    for index, entry in enumerate(entries):
        name = entry.get("id")
        ids.append(name.text() if name else str(index))
        word = entry["type"].text()
        unknown += word not in _ACTORS
        kind = _ACTORS.get(word, ActorKind.STATIC)
        kinds.append(int(kind))
        stated = [float(entry["length"].numbers()), float(entry["width"].numbers())]
        height = entry.get("height")
        stated.append(float(height.numbers()) if height else 0.0)
        flat += height is None
        # Some objects have a size of zero: they were never seen well enough.
        sizes.append(
            [value if value > 0 else usual for value, usual in zip(stated, USUAL_SIZE[kind], strict=True)]
        )
        unsized += any(not value > 0 for value in stated[:2])
        valid.append(entry["valid"].flags(count))
        position.append(_points(entry["position"]))
        velocity.append(_points(entry["velocity"])[:, :2])
        heading.append(entry["heading"].numbers(count))
        for key, values in (("position", position), ("velocity", velocity)):
            if len(values[-1]) != count:
                entry[key].fail(
                    "has the wrong length", got=len(values[-1]), expected=f"{count}, as `valid` has"
                )
    if unknown:
        notes.append(f"{unknown} objects of other types are read as static")
    if flat:
        notes.append(f"{flat} objects state no height: usual ones, standing on z = 0, are assumed")
    if unsized:
        notes.append(f"{unsized} objects have no length or width: usual ones are assumed")
    size, seen = np.array(sizes), np.stack(valid)
    where = np.stack(position)
    where[..., 2] = np.where(np.isnan(where[..., 2]), size[:, None, 2] / 2, where[..., 2])
    # -10000 marks invalid steps; some writers forget the flag.
    seen &= ~(where[..., :2] == -10000.0).any(-1)
    return Tracks(tuple(ids), np.array(kinds), where, np.stack(heading), np.stack(velocity), size, seen)


def _features(roads: Field, notes: list[str], bicycles: set[str]) -> list[MapFeature]:
    """The map; `bicycles` learns the lanes that are left out because they are for bicycles."""
    features, short, bikes, unknown, plain = [], 0, 0, 0, 0
    taken: set[str] = set()
    for index, road in enumerate(roads.entries()):
        kind = _ROADS.get(road["type"].text())
        if kind is None:
            unknown += 1
            continue
        style = road.get("map_element_id")
        code = style.integer() if style else None
        if kind == MapKind.LANE and code == _BIKE_LANE:
            bikes += 1
            if number := road.get("id"):
                bicycles.add(number.text())
            continue
        if kind == MapKind.LINE_SOLID_WHITE:
            plain += code not in ROAD_LINES
            kind = ROAD_LINES.get(code, kind) if code is not None else kind
        geometry = road["geometry"]
        # Some writers give a single point as a bare object.
        points = _points(
            geometry if isinstance(geometry.value, list) else geometry.child(0, [geometry.value])
        )
        if len(points) < _FEWEST_POINTS.get(kind, 2):
            short += 1
            continue
        number = road.get("id")
        name = number.text() if number else str(index)
        name = name if name not in taken else f"{name}/{index}"
        taken.add(name)
        features.append(MapFeature(name, kind, points))
    if bikes:
        notes.append(f"{bikes} bicycle lanes left out")
    if short:
        notes.append(f"{short} map features with too few points left out")
    if unknown:
        notes.append(f"{unknown} map features of other types left out")
    if plain:
        notes.append(f"{plain} road lines state no colour: read as solid white")
    return features


def _lights(table: Field, count: int) -> list[tuple[str, ndarray, ndarray]]:
    """Lane, stated stop points and states of each light."""
    check_lights(table.path, len(table.table()), count)
    found = []
    for lane, light in table.items():
        ticks = light["time_index"].numbers(None)
        shown = light["state"].entries()
        x, y = light["x"].numbers(None), light["y"].numbers(None)
        if not len(ticks) == len(shown) == len(x) == len(y):
            light.fail("has lists of different lengths", expected="state, x, y and time_index of one length")
        if not len(ticks):
            continue
        height = light.get("z")
        z = height.numbers(len(ticks)) if height else np.full(len(ticks), np.nan)
        state = np.full(count, int(SignalState.UNKNOWN))
        for tick, word in zip(ticks, shown, strict=True):
            if not 0 <= tick < count:
                light["time_index"].fail("is outside the drive", got=tick, expected=f"0 to {count - 1}")
            state[int(tick)] = signal_state(word.text())
        found.append((lane, np.stack([x, y, z], -1), state))
    return found


READER = Reader(
    "waymo_json",
    "a .json or .json.gz file with `objects` and `roads` (Waymo Motion as written for Nocturne or GPUDrive)",
    _matches,
    _read,
)
