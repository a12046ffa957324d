"""Argoverse 2 motion-forecasting scenarios: a folder with a Parquet table of tracks and a map as JSON.

A row is a track at one of 110 steps, 0.1 s apart: position (of the box centre; of the rear axle for the
recording car, track `AV`), heading and velocity in the city's frame, which is ours but for its origin. The format
states no heights and no sizes: heights are those of the map nearby, sizes the usual ones of a kind. The first
50 steps are what a forecaster may see, which is of no concern here.

Reference: Wilson et al., "Argoverse 2: Next Generation Datasets for Self-Driving Perception and Forecasting",
NeurIPS Datasets and Benchmarks 2021.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy import ndarray

from countersteer.data.readers.angles import radians
from countersteer.data.readers.argoverse2 import CAR_SIZE, CITIES, LICENCE, read_map, read_table
from countersteer.data.readers.assembly import assemble
from countersteer.data.readers.fields import Field, check_counts
from countersteer.data.readers.physics import USUAL_SIZE
from countersteer.data.readers.source import Reader, fingerprint, origin
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.scenarios.scenario import ActorKind, MapFeature, MapKind, Scenario, Signals, Tracks
from countersteer.storage.files import open_regular

__all__ = ["READER"]

INTERVAL = 0.1  # between two steps; the data set is sampled at 10 Hz [s]

_ACTORS = {
    "vehicle": ActorKind.VEHICLE,
    "bus": ActorKind.VEHICLE,
    "pedestrian": ActorKind.PEDESTRIAN,
    "cyclist": ActorKind.CYCLIST,
    "motorcyclist": ActorKind.CYCLIST,
}
_BUS = (12.0, 2.6, 3.2)
_BICYCLE = USUAL_SIZE[ActorKind.CYCLIST]
_EGO = "AV"
_NEEDED = {"track_id", "object_type", "timestep", "position_x", "position_y", "focal_track_id"}
_MOST_STEPS = 10_000


def _tables(folder: Path) -> list[Path]:
    """Parquet files of a folder that have the columns of this format."""
    import pyarrow.parquet as pq

    found = []
    for path in sorted(folder.glob("*.parquet")):
        try:
            with open_regular(path) as file:
                if set(pq.read_schema(file).names) >= _NEEDED:
                    found.append(path)
        except Exception:
            continue  # damaged files are told from others by their name
    return found or sorted(path for path in folder.glob("scenario_*.parquet") if path.is_file())


def _matches(path: Path) -> bool:
    return path.is_dir() and bool(_tables(path))


def _read(path: Path) -> Scenario:
    files = _tables(path)
    if len(files) != 1:
        Field(path, "the folder", None).fail(
            "holds several scenarios", got=f"{len(files)} tables", expected="one scenario_*.parquet a folder"
        )
    table = read_table(files[0])
    notes: list[str] = []
    step = table.integers("timestep")
    if not len(step) or step.min() < 0 or step.max() >= _MOST_STEPS:
        Field(files[0], "column 'timestep'", None).fail(
            "is out of range",
            got=f"{step.min()} to {step.max()}" if len(step) else "no rows",
            expected=f"0 to {_MOST_STEPS - 1}",
        )
    names, words = table.text("track_id"), table.text("object_type")
    ids = list(dict.fromkeys(names))
    row_of = {name: row for row, name in enumerate(ids)}
    row = np.array([row_of[name] for name in names])
    count, steps = len(ids), int(step.max()) + 1
    check_counts(files[0], count, steps)
    valid = np.zeros((count, steps), bool)
    valid[row, step] = True
    if valid.sum() < len(row):
        Field(files[0], "the table", None).fail(
            "states a track twice at one step",
            got=f"{len(row)} rows, {int(valid.sum())} of them different",
            expected="one row a track and step",
        )
    states = np.zeros((count, steps, 5))
    states[row, step] = table.numbers("position_x", "position_y", "heading", "velocity_x", "velocity_y")

    kind, size = np.zeros(count, int), np.zeros((count, 3))
    for name, word in zip(names, words, strict=True):
        actor = _ACTORS.get(word, ActorKind.STATIC)
        kind[row_of[name]] = int(actor)
        usual = {"bus": _BUS, "riderless_bicycle": _BICYCLE}.get(word, USUAL_SIZE[actor])
        size[row_of[name]] = CAR_SIZE if name == _EGO else usual
    notes.append("the source states no sizes: usual ones are assumed")

    maps = sorted(path.glob("log_map_archive_*.json"))
    features, map_data = read_map(maps[0], notes) if maps else ([], b"")
    plane = states[..., :2]
    times = np.arange(steps) * INTERVAL
    ego = row_of.get(_EGO)
    spatial = np.concatenate([plane, np.zeros((count, steps, 1))], -1)
    raw = Tracks(tuple(ids), kind, spatial, states[..., 2], states[..., 3:5], size, valid)
    lanes = [feature.points for feature in features if feature.kind == MapKind.LANE]
    heading = radians(path, times, raw, lanes, notes).heading  # before the ego is moved along its own
    if ego is not None:
        turn = heading[ego]
        lever = rear_axle_to_center(CAR_SIZE[0])
        plane[ego] += lever * np.stack([np.cos(turn), np.sin(turn)], -1)
        notes.append("the ego's position is taken to be its rear axle: moved to the box centre")
    ground = _ground_below(plane[valid], features)
    height = np.zeros((count, steps))
    height[valid] = ground
    notes.append(
        "heights are those of the nearest lane boundary"
        if maps
        else "the scenario has no map, so everything stands on z = 0"
    )
    tracks = Tracks(
        tuple(ids),
        kind,
        np.concatenate([plane, (height + size[:, None, 2] / 2)[..., None]], -1),
        heading,
        states[..., 3:5],
        size,
        valid,
    )
    stated = table.text("scenario_id")[0]
    proof = table.has("city") and table.text("city")[0] in CITIES.values()
    source, licence = origin(proof, "Argoverse 2 motion forecasting", LICENCE, "scenario.parquet")
    return assemble(
        path,
        stated,
        times,
        tracks,
        features,
        Signals.none(steps),
        ego,
        source=source,
        licence=licence,
        fingerprint=fingerprint(table.data, map_data),
        notes=notes,
    )


def _ground_below(points: ndarray, features: list[MapFeature]) -> ndarray:
    """Height [m] of the map's vertex nearest to each point [n 2]; 0 without a map."""
    if not features:
        return np.zeros(len(points))
    vertices = np.concatenate([feature.points for feature in features])
    heights = [
        # In pieces: all distances at once would be gigabytes for a large scene.
        vertices[((piece[:, None] - vertices[None, :, :2]) ** 2).sum(-1).argmin(1), 2]
        for piece in np.array_split(points, max(len(points) // 256, 1))
    ]
    return np.concatenate(heights)


READER = Reader(
    "argoverse2_motion",
    "a folder with scenario_*.parquet and log_map_archive_*.json (one Argoverse 2 motion scenario)",
    _matches,
    _read,
)
