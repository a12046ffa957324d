"""Argoverse 2 sensor logs: a folder with boxes (`annotations*.feather`), the car's poses and a map.

Boxes are cuboids in the ego frame of their lidar sweep (x forward, y left, z up); `city_SE3_egovehicle` takes
them to the city, which is our world but for its origin. The ego frame has its origin in the middle of the
rear axle, 0.33 m above the ground. Quaternions are (w, x, y, z). Pictures and lidar are not read.

Reference: Wilson et al., "Argoverse 2: Next Generation Datasets for Self-Driving Perception and Forecasting",
NeurIPS Datasets and Benchmarks 2021.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.argoverse2 import (
    AXLE_HEIGHT,
    CAR_SIZE,
    CITIES,
    LICENCE,
    Table,
    read_map,
    read_table,
)
from countersteer.data.readers.assembly import assemble, check_times, heading_of
from countersteer.data.readers.fields import Field, check_counts
from countersteer.data.readers.source import Reader, fingerprint, origin
from countersteer.data.readers.units import velocity_of
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.scenarios.scenario import ActorKind, Scenario, Signals, Tracks

__all__ = ["READER"]

_KINDS = {
    ActorKind.VEHICLE: """REGULAR_VEHICLE LARGE_VEHICLE BUS SCHOOL_BUS ARTICULATED_BUS BOX_TRUCK TRUCK
        TRUCK_CAB VEHICULAR_TRAILER RAILED_VEHICLE""",
    ActorKind.PEDESTRIAN: "PEDESTRIAN STROLLER WHEELCHAIR OFFICIAL_SIGNALER ANIMAL DOG",
    ActorKind.CYCLIST: "BICYCLE BICYCLIST MOTORCYCLE MOTORCYCLIST WHEELED_DEVICE WHEELED_RIDER",
}
_ACTORS = {word: kind for kind, words in _KINDS.items() for word in words.split()}  # all others are static
_POSE = "city_SE3_egovehicle.feather"
_QUATERNION, _TRANSLATION = ("qw", "qx", "qy", "qz"), ("tx_m", "ty_m", "tz_m")
_LARGEST_GAP = 50_000_000  # between a sweep and the pose before or after it [ns]


def _annotations(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("annotations*.feather") if path.is_file())


def _matches(path: Path) -> bool:
    return (path / _POSE).is_file() and bool(_annotations(path))


def _rotations(table: Table) -> Float[ndarray, "n 3 3"]:
    """Rotation matrices of the quaternions of a table."""
    quaternion = table.numbers(*_QUATERNION)
    norm = np.linalg.norm(quaternion, axis=1)
    if (bad := np.flatnonzero(np.abs(norm - 1) > 1e-3)).size:
        Field(table.path, f"the quaternion in row {bad[0]}", None).fail(
            "is not a rotation", got=f"length {norm[bad[0]]:.4g}", expected="a unit quaternion (w, x, y, z)"
        )
    w, x, y, z = (quaternion / norm[:, None]).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _read(path: Path) -> Scenario:
    files = _annotations(path)
    boxes, poses = read_table(files[0]), read_table(path / _POSE)
    notes = [
        f"the ego's box is assumed: {CAR_SIZE[0]:g} x {CAR_SIZE[1]:g} x {CAR_SIZE[2]:g} m, its rear axle "
        f"{AXLE_HEIGHT:g} m above the ground",
        "velocities are taken from positions: the source states none",
    ]
    stamps = boxes.integers("timestamp_ns")
    sweeps, tick = np.unique(stamps, return_inverse=True)
    times = (sweeps - sweeps[:1]) / 1e9
    check_times(path, times)
    check_counts(files[0], 1, len(times))
    city_from_ego, place = _poses_at(poses, sweeps)

    center = np.einsum("nij,nj->ni", city_from_ego[tick], boxes.numbers(*_TRANSLATION)) + place[tick]
    ahead = np.einsum("nij,nj->ni", city_from_ego[tick], _rotations(boxes)[:, :, 0])
    others = _tracks(boxes, tick, len(times), center, heading_of(path, ahead), notes)
    tracks = _with_ego(path, others, times, city_from_ego, place)
    maps = sorted(path.glob("map/log_map_archive_*.json"))
    features, map_data = read_map(maps[0], notes) if maps else ([], b"")
    if not maps:
        notes.append("the log has no map")
    proof = bool(maps) and re.search(f"____({'|'.join(CITIES)})_city_", maps[0].name) is not None
    source, licence = origin(proof, "Argoverse 2 sensor", LICENCE, "annotations.feather")
    return assemble(
        path,
        path.name,
        times,
        tracks,
        features,
        Signals.none(len(times)),
        0,
        source=source,
        licence=licence,
        fingerprint=fingerprint(boxes.data, poses.data, map_data),
        notes=notes,
    )


def _poses_at(poses: Table, sweeps: ndarray) -> tuple[Float[ndarray, "time 3 3"], Float[ndarray, "time 3"]]:
    """Pose of the ego frame in the city at each sweep: the stored one that is nearest in time.

    The data set stores a pose for every sweep; a log whose poses were thinned out is refused.
    """
    stamps, order = np.unique(poses.integers("timestamp_ns"), return_index=True)
    if not len(stamps):
        Field(poses.path, "the table", None).fail("is empty", got="no poses", expected="a pose a sweep")
    after = np.clip(np.searchsorted(stamps, sweeps), 1, max(len(stamps) - 1, 1))
    after = np.minimum(after, len(stamps) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(stamps[before] - sweeps) < np.abs(stamps[after] - sweeps), before, after)
    gap = np.abs(stamps[nearest] - sweeps)
    if (gap > _LARGEST_GAP).any():
        Field(poses.path, "timestamp_ns", None).fail(
            "do not cover the annotations",
            got=f"no pose within {gap.max() / 1e6:.0f} ms of the sweep at {sweeps[gap.argmax()]} ns",
            expected=f"a pose within {_LARGEST_GAP / 1e6:.0f} ms of every sweep",
        )
    rows = order[nearest]
    return _rotations(poses)[rows], poses.numbers(*_TRANSLATION)[rows]


def _with_ego(
    path: Path,
    others: Tracks,
    times: ndarray,
    city_from_ego: Float[ndarray, "time 3 3"],
    origin: Float[ndarray, "time 3"],
) -> Tracks:
    """The recording car before the others, and everyone's velocity."""
    to_center = np.array([rear_axle_to_center(CAR_SIZE[0]), 0.0, CAR_SIZE[2] / 2 - AXLE_HEIGHT])
    ahead = city_from_ego[:, :, 0]
    position = np.concatenate([(city_from_ego @ to_center + origin)[None], others.position])
    valid = np.concatenate([np.ones((1, len(times)), bool), others.valid])
    return Tracks(
        ids=("ego", *others.ids),
        kind=np.concatenate([[int(ActorKind.VEHICLE)], others.kind]),
        position=position,
        heading=np.concatenate([heading_of(path, ahead)[None], others.heading]),
        velocity=velocity_of(position, valid, times),
        size=np.concatenate([np.array(CAR_SIZE)[None], others.size]),
        valid=valid,
    )


def _tracks(
    boxes: Table, tick: ndarray, steps: int, center: ndarray, heading: ndarray, notes: list[str]
) -> Tracks:
    """The other actors, without velocities; rows that annotate the ego itself are left out."""
    names, categories = boxes.text("track_uuid"), boxes.text("category")
    if "EGO_VEHICLE" in categories:
        notes.append("annotations of the ego itself are left out: they put its box at the rear axle")
    kinds = {
        name: _ACTORS.get(category, ActorKind.STATIC)
        for name, category in zip(names, categories, strict=True)
        if category != "EGO_VEHICLE"
    }
    ids = list(kinds)
    check_counts(boxes.path, len(ids) + 1, steps)
    row_of = {name: row for row, name in enumerate(ids)}
    row = np.array([row_of.get(name, -1) for name in names], int)
    kept = row >= 0
    there, often = np.unique(row[kept] * steps + tick[kept], return_counts=True)
    if (often > 1).any():
        actor, sweep = divmod(int(there[often.argmax()]), steps)
        Field(boxes.path, f"track {ids[actor]!r}", None).fail(
            f"is annotated {often.max()} times at sweep {sweep}", got=often.max(), expected="one box a sweep"
        )

    def scattered(values: ndarray) -> ndarray:
        table = np.zeros((len(ids), steps, *values.shape[1:]), values.dtype)
        table[row[kept], tick[kept]] = values[kept]
        return table

    valid = scattered(np.ones(len(row), bool))
    extent = scattered(boxes.numbers("length_m", "width_m", "height_m"))
    size = [np.median(extent[actor, valid[actor]], axis=0) for actor in range(len(ids))]
    return Tracks(
        ids=tuple(ids),
        kind=np.array([int(kind) for kind in kinds.values()], int),
        position=scattered(center),
        heading=scattered(heading),
        velocity=np.zeros((len(ids), steps, 2)),
        size=np.array(size).reshape(-1, 3),
        valid=valid,
    )


READER = Reader(
    "argoverse2_sensor",
    f"a folder with annotations*.feather and {_POSE} (one Argoverse 2 sensor log)",
    _matches,
    _read,
)
