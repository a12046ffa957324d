"""Scenes of TRI's DGP format (DDAD): `scene_*.json`, `calibration/*.json`, `rgb/`, `point_cloud/`.

Every datum has the pose of its sensor in the world, quaternions (w, x, y, z); calibration gives sensors in the
vehicle (x forward, y left, z up). Cameras look along +z, as ours. Sensors of a sample are taken at different
times, so the car's poses are taken from both cameras and scanner. Road users are the boxes annotated in the sweeps, with the
scanner's pose; `ontology/` says what their classes are called.

Reference: Guizilini et al., "3D packing for self-supervised monocular depth estimation", CVPR 2020.
"""

from __future__ import annotations

from datetime import datetime
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
from countersteer.geometry.rigid import inverse, matrix_from_quaternion, transform
from countersteer.scenarios.scenario import ActorKind, Provenance
from countersteer.storage.files import parse_json, read_bytes, read_npz

__all__ = ["READER"]

_BOXES = "1"  # how DGP's annotations and ontologies call boxes in space
_KINDS = {
    **dict.fromkeys(
        ("Car", "Truck", "Bus/RV/Caravan", "Train", "Trailer", "Towed Object"), ActorKind.VEHICLE
    ),
    **dict.fromkeys(("Motorcycle", "Bicycle", "Wheeled Slow"), ActorKind.CYCLIST),
    **dict.fromkeys(("Person", "Pedestrian"), ActorKind.PEDESTRIAN),
}  # all others are static


def _scene(path: Path) -> Path | None:
    return min(path.glob("scene_*.json"), default=None) if path.is_dir() else None


def _matches(path: Path) -> bool:
    return _scene(path) is not None and (path / "calibration").is_dir()


def _pose(field: Field) -> Float[ndarray, "4 4"]:
    rotation, shift = field["rotation"], field["translation"]
    quaternion = np.array([rotation[name].number() for name in ("qw", "qx", "qy", "qz")])
    if abs(np.linalg.norm(quaternion) - 1) > 1e-3:
        rotation.fail(
            "is not a rotation", got=f"length {np.linalg.norm(quaternion):.3g}", expected="a unit quaternion"
        )
    return transform(
        matrix_from_quaternion(quaternion), np.array([shift[name].number() for name in ("x", "y", "z")])
    )


class _Clouds:
    """Points of stored sweeps: `data`, columns x, y, z, intensity."""

    def __init__(self, files: list[Path]):
        self._files = files

    def __call__(self, number: int) -> Float[ndarray, "n 3"]:
        file = self._files[number]
        points = read_npz(file, ["data"])["data"]
        if points.ndim != 2 or points.shape[1] < 3:
            Field(file, "data", points).fail("has the wrong shape", expected="n x 3 or more")
        return points[:, :3].astype(np.float64)


def _kinds(path: Path, root: Field, read: list[bytes]) -> dict[int, ActorKind]:
    """What the numbers of classes mean; adds what it reads."""
    stated = root.get("ontologies")
    key = None if stated is None else stated.get(_BOXES)
    if key is None:
        return {}
    file = inside(path, key, f"ontology/{key.text()}.json")
    read.append(read_bytes(file))
    items = Field(file, "", parse_json(read[-1], file))["items"].entries()
    return {item["id"].integer(): _KINDS.get(item["name"].text(), ActorKind.STATIC) for item in items}


def _boxes(
    path: Path,
    datum: Field,
    time: float,
    world_from_sensor: ndarray,
    kinds: dict[int, ActorKind],
    read: list[bytes],
) -> list[AnnotatedBox]:
    """What is annotated in a sweep; adds what it reads."""
    annotated = datum.get("annotations")
    name = None if annotated is None else annotated.get(_BOXES)
    if name is None:
        return []
    file = inside(path, name, name.text())
    read.append(read_bytes(file))
    found = []
    for item in Field(file, "", parse_json(read[-1], file))["annotations"].entries():
        box = item["box"]
        length, width, height = (box[side].number() for side in ("length", "width", "height"))
        found.append(
            AnnotatedBox(
                time,
                item["instance_id"].text(),
                kinds.get(item["class_id"].integer(), ActorKind.STATIC),
                world_from_sensor @ _pose(box["pose"]),
                (length, width, height),
            )
        )
    return found


def _read(path: Path) -> CameraLog:
    scene = _scene(path)
    assert scene is not None
    data = read_bytes(scene)
    root = Field(scene, "", parse_json(data, scene))
    by_key = {datum["key"].text(): datum for datum in root["data"].entries()}
    calibrations: dict[str, dict[str, tuple[Field, Field]]] = {}
    rows: dict[str, list[tuple[float, Field, str]]] = {}
    read = [data]
    for sample in root["samples"].entries():
        key = sample["calibration_key"].text()
        if key not in calibrations:
            file = inside(path, sample["calibration_key"], f"calibration/{key}.json")
            read.append(read_bytes(file))
            table = Field(file, "", parse_json(read[-1], file))
            calibrations[key] = {
                name.text(): (intrinsics, extrinsics)
                for name, intrinsics, extrinsics in zip(
                    table["names"].entries(),
                    table["intrinsics"].entries(),
                    table["extrinsics"].entries(),
                    strict=False,
                )
            }
        for name in sample["datum_keys"].entries():
            if name.text() not in by_key:
                name.fail("names no datum", expected="a key of `data`")
            datum = by_key[name.text()]
            stamp = datum["id"]["timestamp"]
            try:
                time = datetime.fromisoformat(stamp.text().replace("Z", "+00:00")).timestamp()
            except (ValueError, OverflowError) as error:
                stamp.fail("is not a time", got=error, expected="ISO 8601")
            rows.setdefault(datum["id"]["name"].text(), []).append((time, datum["datum"], key))
    start = min((time for entries in rows.values() for time, _, _ in entries), default=0.0)
    ego: dict[float, ndarray] = {}
    cameras, lidar = [], None
    kinds = _kinds(path, root, read)
    boxes: list[AnnotatedBox] = []
    for name, entries in sorted(rows.items()):
        entries.sort(key=lambda entry: entry[0])
        times = np.array([time - start for time, _, _ in entries])
        kind = "image" if "image" in entries[0][1].table() else "point_cloud"
        sensors = [datum[kind] for _, datum, _ in entries]
        first = calibrations[entries[0][2]]
        if name not in first:
            entries[0][1].fail(f"is of a sensor {name!r} that is not calibrated", expected=", ".join(first))
        intrinsics, extrinsics = first[name]
        mounting = _pose(extrinsics)
        files = [inside(path, sensor["filename"], sensor["filename"].text()) for sensor in sensors]
        for time, sensor in zip(times, sensors, strict=True):
            ego.setdefault(float(time), _pose(sensor["pose"]) @ inverse(mounting))
        if kind == "point_cloud":
            lidar = LidarSweeps(times, mounting, _Clouds(files))
            for time, sensor in zip(times, sensors, strict=True):
                boxes += _boxes(path, sensor, float(time), _pose(sensor["pose"]), kinds, read)
            continue
        frames = PictureFiles(files, path / "rgb" / name)
        fx, fy, cx, cy = (intrinsics[key].number() for key in ("fx", "fy", "cx", "cy"))
        pinhole = Intrinsics(frames.width, frames.height, fx, fy, cx + 0.5, cy + 0.5)
        cameras.append(RecordedCamera(name, frames, times, pinhole, mounting))
    stamps = sorted(ego)
    world = np.stack([ego[time] for time in stamps]) if stamps else np.zeros((0, 4, 4))
    # Metres from far away are coarse; the first pose is the origin of the plane.
    if len(world):
        shift = world[0, :3, 3].round()
        world[:, :3, 3] -= shift
        for box in boxes:
            box.world_from_box[:3, 3] -= shift
    log = root.get("log")
    source, licence = origin(
        log is not None and log.text().startswith("TRI"), "DGP", "CC BY-NC-SA 4.0", "DGP"
    )
    return CameraLog(
        path.name,
        tuple(cameras),
        Poses(np.array(stamps), world) if stamps else None,
        Provenance(source, str(path), licence, fingerprint(*read), ("moved to the origin by whole metres",)),
        lidar,
        RoadUsers.of(path, boxes),
    )


READER = Reader("ddad", "a folder with scene_*.json and calibration/", _matches, _read)
