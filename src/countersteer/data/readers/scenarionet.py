"""ScenarioNet / MetaDrive scene pickles (.pkl or .pkl.gz), exported from nuScenes, Waymo and others.

No code of the pickle runs (`plain_pickle`).

nuScenes exports need five repairs (found in the files, confirmed in ScenarioNet's converter): the ego's
position is its rear axle on the ground and its length and width are swapped; its last few poses come from
another sensor than the rest and may jump back; velocities are zero at the ends of each observation; the
outlines of the drivable area are labelled as solid white lines.

Reference: Li et al., "ScenarioNet: Open-Source Platform for Large-Scale Traffic Scenario Simulation and
Modeling", NeurIPS 2023.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy import ndarray

from countersteer.data.readers.assembly import assemble, check_times, lane_width_of_area
from countersteer.data.readers.fields import Field, check_counts, check_lights
from countersteer.data.readers.lights import WAYMO_STATES, signal_state, signals_of
from countersteer.data.readers.physics import USUAL_SIZE, key_frame_interval
from countersteer.data.readers.plain_pickle import load_plain
from countersteer.data.readers.source import Reader, fingerprint
from countersteer.data.readers.units import stamps, velocity_of
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.geometry.polylines import arc_length
from countersteer.scenarios.scenario import ActorKind, MapFeature, MapKind, Scenario, SignalState, Tracks
from countersteer.storage.files import head, read_bytes

__all__ = ["READER"]

LICENCES = {
    "waymo": "Waymo Dataset License Agreement for Non-Commercial Use",
    "nuscenes": "CC BY-NC-SA 4.0 with the nuScenes terms of use",
    "nuplan": "CC BY-NC-SA 4.0 with the nuPlan terms of use",
}
"""By the data set that a file says it was made from; others are "unknown"."""

_ACTORS = {
    "VEHICLE": ActorKind.VEHICLE,
    "PEDESTRIAN": ActorKind.PEDESTRIAN,
    "CYCLIST": ActorKind.CYCLIST,
}
_AREAS = {
    "CROSSWALK": MapKind.CROSSWALK,
    "SPEED_BUMP": MapKind.SPEED_BUMP,
    "DRIVEWAY": MapKind.DRIVEWAY,
}

_HARDEST_JOLT = 12.0  # no car accelerates like this between two steps [m/s^2]


def _matches(path: Path) -> bool:
    start = head(path)[:4096]
    return start[:1] == b"\x80" and start[1:2] <= b"\x05" and b"version" in start and b"length" in start


def _read(path: Path) -> Scenario:
    data = read_bytes(path)
    whole = Field(path, "", load_plain(path, data))
    metadata = whole["metadata"]
    stated = metadata.get("dataset") or metadata.get("coordinate")
    dataset = stated.text() if stated else "unknown"
    # A system of coordinates is not a data set: others use Waymo's.
    of = metadata["dataset"].text() if metadata.get("dataset") else "unknown"
    nuscenes = dataset == "nuscenes"
    notes: list[str] = []

    times = _times(metadata, whole["length"].integer())
    check_counts(path, len(whole["tracks"].table()), len(times))
    tracks = _tracks(whole["tracks"], len(times), notes)
    sdc = metadata.get("sdc_id")
    ego = None
    if sdc is not None:
        if sdc.text() not in tracks.ids:
            sdc.fail("names no track", expected="the key of a track")
        ego = tracks.ids.index(sdc.text())
    if nuscenes:
        check_times(path, times)
        times, tracks = _drop_jump_at_end(times, tracks, ego, notes)
        tracks = _repair_nuscenes(tracks, ego, times, notes)
    bicycles: set[str] = set()
    features = _features(whole["map_features"], nuscenes, notes, bicycles)
    length = whole["length"].integer()
    signals = signals_of(
        _lights(whole["dynamic_map_states"], length, dataset, notes), length, features, notes, bicycles
    )
    signals = signals.at(slice(len(times)))
    version = whole.get("version")
    return assemble(
        path,
        whole["id"].text(),
        times,
        tracks,
        features,
        signals,
        ego,
        source=f"ScenarioNet ({of}{f' {version.text()}' if version else ''})",
        licence=LICENCES.get(of, "unknown"),
        fingerprint=fingerprint(data),
        notes=notes,
    )


def _times(metadata: Field, length: int) -> ndarray:
    stated = metadata.get("ts") or metadata["timestep"]
    times = stamps(stated)
    if len(times) != length:
        stated.fail("has the wrong length", got=len(times), expected=f"{length}, as `length` says")
    return times


def _tracks(tracks: Field, count: int, notes: list[str]) -> Tracks:
    ids, kinds, unsized = [], [], 0
    position, heading, velocity, size, valid = [], [], [], [], []
    for name, track in tracks.items():
        state = track["state"]
        seen = state["valid"].flags(count)
        kind = _ACTORS.get(track["type"].text(), ActorKind.STATIC)
        points = _planar_or_spatial(state["position"], count)
        extent = []
        whole = state.get("size")
        table = whole.numbers(count, 3) if whole else None  # as MetaDrive wrote it before version 0.4
        for axis, (key, default) in enumerate(
            zip(("length", "width", "height"), USUAL_SIZE[kind], strict=True)
        ):
            stated = state.get(key)
            if stated is None and whole is not None and table is not None:
                stated = whole.child(key, table[:, axis])
            values = np.zeros(0)
            if stated:
                column = stated.numbers(count, 1)[:, 0] if len(stated.shape()) == 2 else stated.numbers(count)
                values = column[seen & (column > 0)]
            unsized += len(values) == 0
            extent.append(float(np.median(values)) if len(values) else default)
        ids.append(name)
        kinds.append(int(kind))
        valid.append(seen)
        position.append(points)
        heading.append(state["heading"].numbers(count))
        velocity.append(state["velocity"].numbers(count, 2))
        size.append(extent)
    if not ids:
        tracks.fail("is empty", got="no tracks", expected="at least one track")
    if unsized:
        notes.append(f"{unsized} lengths, widths or heights are not stated: usual ones are assumed")
    where, extents = np.stack(position), np.array(size)
    where[..., 2] = np.where(np.isnan(where[..., 2]), extents[:, None, 2] / 2, where[..., 2])
    return Tracks(
        tuple(ids), np.array(kinds), where, np.stack(heading), np.stack(velocity), extents, np.stack(valid)
    )


def _planar_or_spatial(field: Field, count: int | None) -> ndarray:
    """Points [n, 3]; the height is NaN where the file has two coordinates."""
    shape = field.shape()
    if len(shape) == 2 and shape[1] == 2:
        points = field.numbers(count, 2)
        return np.concatenate([points, np.full((len(points), 1), np.nan)], axis=1)
    return field.numbers(count, 3)


def _drop_jump_at_end(
    times: ndarray, tracks: Tracks, ego: int | None, notes: list[str]
) -> tuple[ndarray, Tracks]:
    """The drive without its last steps if the ego jumps within the last second.

    The exporter takes poses at 10 Hz from the car's bus as far as they reach and fills the end with
    interpolated key frames; the two differ by some decimetres.
    """
    if ego is None or len(times) < 12:
        return times, tracks
    if tracks.valid[ego].all() and key_frame_interval(times, tracks.position[ego, :, :2]) is not None:
        return times, tracks  # it has a kink at every key frame, which is no jump
    step = np.diff(tracks.position[ego, -12:, :2], axis=0) / np.diff(times[-12:])[:, None]
    jolt = np.linalg.norm(np.diff(step, axis=0), axis=1) / np.diff(times[-11:])
    if not (jolt > _HARDEST_JOLT).any():
        return times, tracks
    keep = len(times) - 12 + 2 + int((jolt > _HARDEST_JOLT).argmax())
    notes.append(f"the last {len(times) - keep} steps are left out: the source's ego jumps there")
    return times[:keep], tracks.at(slice(keep))


def _repair_nuscenes(tracks: Tracks, ego: int | None, times: ndarray, notes: list[str]) -> Tracks:
    position, size = tracks.position.copy(), tracks.size.copy()
    if ego is not None:
        length, width = max(size[ego, :2]), min(size[ego, :2])
        if size[ego, 0] < size[ego, 1]:
            notes.append("the ego's length and width are swapped in the source: put right")
        size[ego, :2] = length, width
        ahead = np.stack([np.cos(tracks.heading[ego]), np.sin(tracks.heading[ego])], -1)
        position[ego, :, :2] += rear_axle_to_center(length) * ahead
        position[ego, :, 2] += size[ego, 2] / 2
        notes.append(
            "the ego's position is its rear axle on the ground in the source: moved to the box centre"
        )
    notes.append("velocities are taken from positions: the source's are zero at the ends of an observation")
    velocity = velocity_of(position, tracks.valid, times)
    return dataclasses.replace(tracks, position=position, size=size, velocity=velocity)


def _line_kind(name: str) -> MapKind:
    yellow = "YELLOW" in name
    if "BROKEN" in name or "PASSING" in name:
        return MapKind.LINE_DASHED_YELLOW if yellow else MapKind.LINE_DASHED_WHITE
    return MapKind.LINE_SOLID_YELLOW if yellow else MapKind.LINE_SOLID_WHITE


def _features(table: Field, nuscenes: bool, notes: list[str], bicycles: set[str]) -> list[MapFeature]:
    """The map; `bicycles` learns the lanes that are left out because they are for bicycles."""
    features: list[MapFeature] = []
    short, skipped, edges = 0, 0, 0
    for name, feature in table.items():
        kind = feature["type"].text()
        outline, line = feature.get("polygon"), feature.get("polyline")
        if kind in _AREAS and outline:
            found = [MapFeature(name, _AREAS[kind], _polygon(outline))]
        elif kind == "STOP_SIGN":
            found = [MapFeature(name, MapKind.STOP_SIGN, _planar_or_spatial(_as_row(feature["position"]), 1))]
        elif kind == "LANE_BIKE_LANE":
            bicycles.add(name)
            skipped += 1
            continue
        elif kind.startswith("LANE_") and line:
            found = _lane(name, feature, _planar_or_spatial(line, None), outline)
        elif kind.startswith(("ROAD_EDGE", "BOUNDARY_LINE", "GUARDRAIL")) and line:
            found = [MapFeature(name, MapKind.ROAD_EDGE, _planar_or_spatial(line, None))]
        elif kind.startswith(("ROAD_LINE", "LINE_")) and line:
            edge = nuscenes and name.startswith("boundary")
            edges += edge
            points = _planar_or_spatial(line, None)
            found = [MapFeature(name, MapKind.ROAD_EDGE if edge else _line_kind(kind), points)]
        else:
            skipped += 1
            continue
        min_agents = {MapKind.STOP_SIGN: 1, MapKind.LANE_AREA: 3, **dict.fromkeys(_AREAS.values(), 3)}
        kept = [item for item in found if len(item.points) >= min_agents.get(item.kind, 2)]
        short += len(found) - len(kept)
        features += kept
    if edges:
        notes.append(
            f"{edges} outlines of the drivable area, labelled as solid lines, are read as road edges"
        )
    if short:
        notes.append(f"{short} map features with too few points left out")
    if skipped:
        notes.append(f"{skipped} map features of other types (bicycle lanes, walkways) left out")
    return features


def _as_row(field: Field) -> Field:
    return field.child(0, [field.value])


def _polygon(field: Field) -> ndarray:
    points = _planar_or_spatial(field, None)
    closed = len(points) > 1 and np.array_equal(points[0, :2], points[-1, :2])
    return points[:-1] if closed else points


def _lane(name: str, feature: Field, points: ndarray, outline: Field | None) -> list[MapFeature]:
    limit = feature.get("speed_limit_kmh")
    speed = limit.number() / 3.6 if limit and not isinstance(limit.value, list) else None
    area = _polygon(outline) if outline else None
    width = None
    if (stated := feature.get("width")) and len(stated.shape()) == 2:
        # Distances to the boundary on either side; 0 where the lane has none there.
        sides = stated.numbers(None, 2)
        both = sides[(sides > 0).all(1)]
        width = float(np.median(both.sum(1))) if len(both) else None
    elif area is not None and len(points) > 1:
        width = lane_width_of_area(area, float(arc_length(points)[-1]))
    found = [MapFeature(name, MapKind.LANE, points, width, speed if speed and speed > 0 else None)]
    if area is not None:
        found.append(MapFeature(f"{name}/area", MapKind.LANE_AREA, area))
    return found


def _lights(table: Field, count: int, dataset: str, notes: list[str]) -> list[tuple[str, ndarray, ndarray]]:
    """Lane, stated stop points and states of each light.

    Lane and stop point are stated once or for every step, in the light or in its state; states are words, or
    numbers, of which only Waymo's meaning is known.
    """
    check_lights(table.path, len(table.table()), count)
    found, strange = [], 0
    for name, light in table.items():
        state = light["state"]
        shown = state["object_state"].entries()
        if len(shown) != count:
            light.fail("has the wrong number of states", got=len(shown), expected=count)
        codes = [_light_state(entry, dataset == "waymo") for entry in shown]
        strange += None in codes
        stop, lane = (light.get(key) or state.get(key) for key in ("stop_point", "lane"))
        named = [
            one
            for one in ([lane] if lane and not lane.is_list() else lane.entries() if lane else [])
            if one.value
        ]
        found.append(
            (
                named[0].text() if named else name,
                np.full((1, 3), np.nan) if stop is None else _stops(stop),
                np.array([int(code or SignalState.UNKNOWN) for code in codes], np.int64),
            )
        )
    if strange:
        notes.append(f"states of {strange} traffic lights have no known meaning: read as unknown")
    return found


def _light_state(entry: Field, waymo: bool) -> SignalState | None:
    """A state of a light; None for one that nobody has told us the meaning of."""
    value = entry.value
    if value is None or value != value or value == "":
        return SignalState.UNKNOWN
    if isinstance(value, float) and value.is_integer():
        entry = entry.child("number", int(value))
    if isinstance(entry.value, int):
        code = entry.integer()
        known = waymo and 0 <= code < len(WAYMO_STATES)
        return signal_state(WAYMO_STATES[code]) if known else SignalState.UNKNOWN if code == 0 else None
    word = entry.text()
    state = signal_state(word)
    return state if state or word.lower().endswith(("unknown", "none")) else None


def _stops(field: Field) -> ndarray:
    """Stop points [n, 3]: one, or one for each step that has one."""
    if field.is_list():
        stated = (
            [one for one in field.value if one is not None] if isinstance(field.value, list) else field.value
        )
        field = field.child("stated", stated)
    if field.shape() == (0,):
        return np.full((1, 3), np.nan)
    return _planar_or_spatial(_as_row(field) if len(field.shape()) == 1 else field, None)


READER = Reader(
    "scenarionet",
    "a .pkl or .pkl.gz file with one ScenarioNet / MetaDrive scene",
    _matches,
    _read,
)
