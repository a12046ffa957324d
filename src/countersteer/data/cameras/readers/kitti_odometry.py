"""KITTI odometry sequences: `image_0` (left grey), optionally `image_1` to `image_3`, `calib.txt`, `poses.txt`.

Poses are those of camera 0 in camera 0's first frame, camera axes (right, down, forward); they are turned into
those of the car. Rectified, so that all cameras share their axes and differ by a shift along x, which the
fourth column of their projection states. Pixel centres lie at whole numbers there, at +0.5 here.

Reference: Geiger, Lenz and Urtasun, "Are we ready for autonomous driving?", CVPR 2012.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.cameras.frames import PictureFiles
from countersteer.data.cameras.log import CameraLog, RecordedCamera
from countersteer.data.cameras.poses import Poses
from countersteer.data.cameras.readers.files import number_of, pictures_in
from countersteer.data.readers.fields import Field, numbers_of_text
from countersteer.data.readers.source import Reader, fingerprint, origin
from countersteer.geometry.cameras import Intrinsics, ego_from_camera
from countersteer.geometry.rigid import inverse, transform
from countersteer.scenarios.scenario import Provenance
from countersteer.storage.files import exists, read_bytes

__all__ = ["CAMERA_AHEAD", "CAMERA_HEIGHT", "READER", "camera_of_projection", "of_kitti", "world_from_ego"]

CAMERA_HEIGHT = 1.65
"""Of the cameras above the road [m], from the published drawing of the car."""

CAMERA_AHEAD = 1.03
"""From the rear axle forward to the cameras [m], from the same drawing and the published extrinsics."""

_RATE = 10.0  # [Hz]
_FOCAL_LENGTHS = (718.856, 721.5377, 707.0912, 707.0493, 718.3351)  # of the five days of recording


def world_from_ego(
    first_from_camera: Float[ndarray, "pose 4 4"], ego_from_camera: Float[ndarray, "4 4"]
) -> Float[ndarray, "pose 4 4"]:
    """Poses of the car in a world that is its ego frame at the first pose."""
    return ego_from_camera @ inverse(first_from_camera[0]) @ first_from_camera @ inverse(ego_from_camera)


def of_kitti(projection: Float[ndarray, "3 4"]) -> bool:
    """Whether a projection is of one of the data set's calibrations, by its focal length [px]."""
    return any(abs(projection[0, 0] - focal) < 1e-3 for focal in _FOCAL_LENGTHS)


def camera_of_projection(
    projection: Float[ndarray, "3 4"], width: int, height: int
) -> tuple[Intrinsics, Float[ndarray, "3"]]:
    """Intrinsics, and the optical centre in the axes of the rectified reference camera [m]."""
    k = projection[:, :3]
    return (
        Intrinsics(width, height, k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5),
        -np.linalg.solve(k, projection[:, 3]),
    )


def _matches(path: Path) -> bool:
    return (path / "image_0").is_dir() and (path / "calib.txt").is_file()


def _projections(path: Path, data: bytes) -> dict[int, ndarray]:
    """Rows `P0: ...` by camera; rows without a name count from 0."""
    rows: dict[int, ndarray] = {}
    for line in data.decode("ascii", errors="replace").splitlines():
        name, _, values = line.rpartition(":")
        stated = number_of(name.strip()[1:]) if name.strip()[:1] == "P" else None
        if not values.strip() or (name and stated is None):
            continue  # Tr: of the laser scanner
        camera = len(rows) if stated is None else stated
        field = Field(path, f"P{camera}", None)
        row = numbers_of_text(path, f"P{camera}", values.encode(), 12)
        if len(row) != 1 or row[0, 0] <= 0 or row[0, 5] <= 0:
            field.fail(
                "is not a projection", got=values.strip()[:60], expected="12 numbers, focal lengths above 0"
            )
        rows[camera] = row[0].reshape(3, 4)
    return rows


def _read(path: Path) -> CameraLog:
    calibration, pose_bytes = read_bytes(path / "calib.txt"), read_bytes(path / "poses.txt")
    projections = _projections(path / "calib.txt", calibration)
    if 0 not in projections:
        Field(path / "calib.txt", "", None).fail("has no camera P0", got=f"{len(projections)} rows")
    rows = numbers_of_text(path / "poses.txt", "poses", pose_bytes, 12).reshape(-1, 3, 4)
    count = len(rows)
    first_from_camera = transform(rows[:, :, :3], rows[:, :, 3])
    mounting = transform(ego_from_camera(0.0, 0.0, 0.0), np.array([CAMERA_AHEAD, 0.0, CAMERA_HEIGHT]))
    notes = [
        f"assumed: camera 0 looks straight ahead, {CAMERA_AHEAD:g} m ahead of the rear axle and {CAMERA_HEIGHT:g} m high"
    ]
    stamps = path / "times.txt"
    if exists(stamps):
        times = numbers_of_text(stamps, "times", read_bytes(stamps), 1)[:, 0]
    else:
        times = np.arange(count) / _RATE
        notes.append(f"no times.txt: frames are taken to be {1 / _RATE:g} s apart")
    cameras = []
    for number in range(4):
        folder = path / f"image_{number}"
        if number not in projections or not folder.is_dir():
            continue
        files = pictures_in(folder)
        if len(files) > len(times):
            Field(path, f"image_{number}", None).fail(
                "has more pictures than there are times", got=len(files), expected=f"at most {len(times)}"
            )
        frames = PictureFiles(files, folder)
        intrinsics, center = camera_of_projection(projections[number], frames.width, frames.height)
        shift = center - camera_of_projection(projections[0], 1, 1)[1]
        cameras.append(
            RecordedCamera(
                f"image_{number}",
                frames,
                times[: len(files)],
                intrinsics,
                mounting @ transform(np.eye(3), shift),
            )
        )
    if len(times) != count:
        Field(path, "times.txt", None).fail("and poses.txt differ in length", got=len(times), expected=count)
    source, licence = origin(
        of_kitti(projections[0]), "KITTI odometry", "CC BY-NC-SA 3.0", "folders as of KITTI"
    )
    return CameraLog(
        path.name,
        tuple(cameras),
        Poses(times, world_from_ego(first_from_camera, mounting), cubic=True),
        Provenance(source, str(path), licence, fingerprint(calibration, pose_bytes), tuple(notes)),
    )


READER = Reader("kitti_odometry", "a folder with image_0/ and calib.txt", _matches, _read)
