"""A sample of nuScenes as MMDetection3D describes it: `infos.json` with `data_list`, pictures, one laser sweep.

`ego2global` and `cam2ego` are 4x4 matrices; the ego has x forward, y left, z up, its origin below the rear axle.
Every sensor has a time of its own. `lidar2cam` includes the car's motion between sweep and picture, so the
car's pose at each picture follows from it.

`instances` are boxes in the scanner's frame at its time: centre, length, width, height, yaw. They have no identity from
sample to sample, so each is a road user of its own, who moves on at its stated velocity. Boxes without laser or
radar points (not `bbox_3d_isvalid`) are left out: mostly nobody saw what is in them.

Reference: Caesar et al., "nuScenes: a multimodal dataset for autonomous driving", CVPR 2020.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.cameras.frames import PictureFiles
from countersteer.data.cameras.log import CameraLog, LidarSweeps, RecordedCamera
from countersteer.data.cameras.poses import Poses
from countersteer.data.cameras.readers.files import inside
from countersteer.data.cameras.road_users import AnnotatedBox, RoadUsers
from countersteer.data.readers.fields import Field
from countersteer.data.readers.source import Reader, fingerprint, origin
from countersteer.geometry.cameras import Intrinsics
from countersteer.geometry.rigid import inverse, transform
from countersteer.scenarios.scenario import ActorKind, Provenance
from countersteer.storage.files import head, parse_json, read_bytes

__all__ = ["READER"]

_KINDS = {
    **dict.fromkeys(("car", "truck", "trailer", "bus", "construction_vehicle"), ActorKind.VEHICLE),
    **dict.fromkeys(("bicycle", "motorcycle"), ActorKind.CYCLIST),
    "pedestrian": ActorKind.PEDESTRIAN,
}  # all others are static


def _matches(path: Path) -> bool:
    return path.is_dir() and b'"data_list"' in head(path / "infos.json")


def _stamp(field: Field) -> float:
    """Seconds since 1970."""
    if not isinstance(field.value, int | float) or not 0 <= field.value < 1e10:
        field.fail("is not a time", expected="seconds since 1970")
    return float(field.value)


def _matrix(field: Field) -> Float[ndarray, "4 4"]:
    matrix = field.numbers(4, 4)
    u, _, v = np.linalg.svd(matrix[:3, :3]) if np.isfinite(matrix).all() else (np.zeros((3, 3)),) * 3
    if np.abs(u @ v - matrix[:3, :3]).max() > 1e-3:
        field.fail("is no rotation and shift", expected="a rigid 4x4 transform")
    matrix[:3, :3] = u @ v  # stored with 32 bits
    return matrix


class _Clouds:
    """Points of stored sweeps: float32 x, y, z, intensity, ring."""

    def __init__(self, files: list[Path], columns: int):
        if columns < 3 and files:
            Field(files[0], "points", columns).fail("have too few columns", expected="x, y, z and more")
        self._files, self._columns = files, columns

    def __call__(self, number: int) -> Float[ndarray, "n 3"]:
        data = read_bytes(self._files[number])
        if len(data) % (4 * self._columns):
            Field(self._files[number], "points", None).fail(
                "are cut short", got=f"{len(data)} bytes", expected=f"rows of {4 * self._columns} bytes"
            )
        return np.frombuffer(data, np.float32).reshape(-1, self._columns)[:, :3].astype(np.float64)


def _kinds(root: Field) -> dict[int, ActorKind]:
    """What the numbers of labels mean."""
    stated = root.get("metainfo")
    categories = None if stated is None else stated.get("categories")
    if categories is None:
        return {}
    return {number.integer(): _KINDS.get(name, ActorKind.STATIC) for name, number in categories.items()}


def _boxes(
    sample: Field, number: int, time: float, world_from_lidar: ndarray, kinds: dict[int, ActorKind]
) -> list[AnnotatedBox]:
    """What is annotated in a sample."""
    found, instances = [], sample.get("instances")
    for place, instance in enumerate([] if instances is None else instances.entries()):
        if not instance["bbox_3d_isvalid"].value:
            continue
        row, velocity = instance["bbox_3d"].numbers(7), instance["velocity"].numbers(2)
        if not np.isfinite(row).all():
            instance["bbox_3d"].fail("is not finite", got=row, expected="seven finite numbers")
        cos, sin = np.cos(row[6]), np.sin(row[6])
        lidar_from_box = transform(np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]), row[:3])
        # Nobody knows the velocity of who is annotated once: such are taken to stand.
        velocity = world_from_lidar[:2, :2] @ np.nan_to_num(velocity)
        found.append(
            AnnotatedBox(
                time,
                f"{number}_{place}",
                kinds.get(instance["bbox_label_3d"].integer(), ActorKind.STATIC),
                world_from_lidar @ lidar_from_box,
                (row[3], row[4], row[5]),
                (velocity[0], velocity[1]),
            )
        )
    return found


def _read(path: Path) -> CameraLog:
    file = path / "infos.json"
    data = read_bytes(file)
    root = Field(file, "", parse_json(data, file))
    samples, kinds = root["data_list"].entries(), _kinds(root)
    if not samples:
        Field(file, "data_list", None).fail("is empty", expected="at least one sample")
    rows: dict[str, list[tuple[float, Path, ndarray, ndarray]]] = {}
    ego: dict[float, ndarray] = {}
    sweeps: list[tuple[float, Path]] = []
    lidar_mounting, columns = np.eye(4), 5
    for sample in samples:
        now, world_from_ego = _stamp(sample["timestamp"]), _matrix(sample["ego2global"])
        cloud = sample["lidar_points"]
        lidar_mounting, columns = _matrix(cloud["lidar2ego"]), cloud["num_pts_feats"].integer()
        sweeps.append((now, inside(path, cloud["lidar_path"], cloud["lidar_path"].text())))
        ego[now] = world_from_ego
        for name, camera in sample["images"].items():
            time = _stamp(camera["timestamp"])
            mounting = _matrix(camera["cam2ego"])
            picture = inside(path, camera["img_path"], camera["img_path"].text())
            rows.setdefault(name, []).append((time, picture, camera["cam2img"].numbers(3, 3), mounting))
            ego.setdefault(
                time,
                world_from_ego @ lidar_mounting @ inverse(_matrix(camera["lidar2cam"])) @ inverse(mounting),
            )
    start = min(time for entries in rows.values() for time, *_ in entries) if rows else sweeps[0][0]
    cameras = []
    for name, entries in rows.items():
        entries.sort(key=lambda entry: entry[0])
        frames = PictureFiles([picture for _, picture, _, _ in entries], path)
        k, mounting = entries[0][2], entries[0][3]
        pinhole = Intrinsics(frames.width, frames.height, k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5)
        times = np.array([time - start for time, *_ in entries])
        cameras.append(RecordedCamera(name, frames, times, pinhole, mounting))
    stamps = sorted(ego)
    world = np.stack([ego[time] for time in stamps])
    shift = world[0, :3, 3].round()
    world[:, :3, 3] -= shift
    boxes = []
    for number, (sample, (time, _)) in enumerate(zip(samples, sweeps, strict=True)):
        world_from_lidar = ego[time] @ lidar_mounting
        world_from_lidar[:3, 3] -= shift
        boxes += _boxes(sample, number, time - start, world_from_lidar, kinds)
    about = root.get("metainfo")
    dataset = about.get("dataset") if about else None
    source, licence = origin(
        dataset is not None and dataset.text() == "nuscenes",
        "nuScenes",
        "CC BY-NC-SA 4.0 with nuScenes terms",
        "MMDetection3D",
    )
    return CameraLog(
        path.name,
        tuple(cameras),
        Poses(np.array(stamps) - start, world),
        Provenance(
            source, str(path), licence, fingerprint(data),
            ("moved to the origin by whole metres",),
        ),
        LidarSweeps(
            np.array([time - start for time, _ in sweeps]), lidar_mounting, _Clouds([f for _, f in sweeps], columns)
        ),
        RoadUsers.of(file, boxes),
    )  # fmt: skip


READER = Reader("nuscenes", "a folder with infos.json that has a data_list", _matches, _read)
