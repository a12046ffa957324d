"""comma2k19 segments and openpilot-style folders: a video beside `global_pose/`.

The video is `video.hevc`, `fcamera.hevc` or one of another ending by these names; `global_pose` is described in
`scenarios.readers.comma2k19`. Device axes are forward, right, down. The device hangs askew by a constant
rotation, which is the one that turns the mean course of the drive into the ego's forward axis.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.data.cameras.frames import Frames, VideoFile
from countersteer.data.cameras.log import CameraLog, RecordedCamera
from countersteer.data.cameras.poses import Poses
from countersteer.data.readers.comma2k19 import (
    DEVICE_AHEAD_OF_REAR_AXLE,
    DEVICE_HEIGHT,
    east_north_up,
    find_array,
    of_data_set,
    read_array,
)
from countersteer.data.readers.fields import Field
from countersteer.data.readers.source import Reader, fingerprint, origin
from countersteer.geometry.cameras import Intrinsics
from countersteer.geometry.rigid import inverse, matrix_from_quaternion, transform
from countersteer.scenarios.scenario import Provenance

__all__ = ["FOCAL", "READER", "ego_from_device"]

FOCAL = 910.0
"""Focal length of the data set's cameras for pictures 1164 px wide [px]; the optical axis is in the middle."""

_WIDTH = 1164
_DEVICE_FROM_CAMERA = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
_SLOW = 3.0  # [m/s]


def _video(path: Path) -> Path | None:
    for stem in ("video", "fcamera"):
        for ending in ("hevc", "mp4", "mkv", "ts"):
            if (path / f"{stem}.{ending}").is_file():
                return path / f"{stem}.{ending}"
    return None


def _matches(path: Path) -> bool:
    poses = path.is_dir() and find_array(path / "global_pose", "frame_positions") is not None
    return poses and _video(path) is not None


def ego_from_device(course: Float[ndarray, "3"]) -> Float[ndarray, "3 3"]:
    """Rotation from device axes (forward, right, down) to ego axes (forward, left, up).

    Args:
        course: Direction of travel in device axes. It gets the ego's forward axis; roll is taken to be none.
    """
    forward = course / np.linalg.norm(course)
    up = np.array([0.0, 0.0, -1.0])
    up -= (up @ forward) * forward
    up /= np.linalg.norm(up)
    return np.stack([forward, np.cross(up, forward), up])


def _read(path: Path) -> CameraLog:
    pose, video = path / "global_pose", _video(path)
    assert video is not None
    times, time_bytes = read_array(pose, "frame_times", None)
    count = len(times)
    ecef, position_bytes = read_array(pose, "frame_positions", count, 3)
    velocity, velocity_bytes = read_array(pose, "frame_velocities", count, 3)
    quaternion, orientation_bytes = read_array(pose, "frame_orientations", count, 4)
    frames = VideoFile(video)
    if abs(len(frames) - count) > 2:
        Field(path, video.name, None).fail(
            "and the poses differ in number", got=f"{len(frames)} frames, {count} poses", expected="as many"
        )
    ecef_from_device = matrix_from_quaternion(quaternion)
    seen = np.swapaxes(ecef_from_device, 1, 2) @ velocity[..., None]
    moving = np.linalg.norm(velocity, axis=1) > _SLOW
    course = np.median(seen[moving, :, 0], axis=0) if moving.any() else np.array([1.0, 0.0, 0.0])
    rotation = ego_from_device(course)
    tilt = float(np.degrees(np.arccos(np.clip(course[0] / np.linalg.norm(course), -1, 1))))
    if tilt > 15:
        Field(path, "global_pose/frame_orientations", None).fail(
            "do not point where the car goes", got=f"{tilt:.0f} degrees off", expected="at most 15 degrees",
            fix="check the axes: device forward-right-down to ECEF, quaternion order w, x, y, z",
        )  # fmt: skip
    mounting = transform(rotation, np.array([DEVICE_AHEAD_OF_REAR_AXLE, 0.0, DEVICE_HEIGHT]))
    enu = east_north_up(ecef[0])
    world_from_device = transform(enu @ ecef_from_device, (ecef - ecef[0]) @ enu.T)
    world_from_ego = world_from_device @ inverse(mounting)
    world_from_ego[:, :3, 3] -= world_from_ego[0, :3, 3]
    shown = min(len(frames), count)
    start = float(times[0])
    focal = FOCAL * frames.width / _WIDTH
    camera = RecordedCamera(
        "front",
        _First(frames, shown),
        times[:shown] - start,
        Intrinsics(frames.width, frames.height, focal, focal, frames.width / 2, frames.height / 2),
        mounting @ transform(_DEVICE_FROM_CAMERA, np.zeros(3)),
    )
    source, licence = origin(of_data_set(ecef), "comma2k19", "MIT", "folders as of comma2k19")
    return CameraLog(
        f"{path.parent.name}--{path.name}" if path.name.isdigit() else path.name,
        (camera,),
        Poses(times - start, world_from_ego, cubic=True),
        Provenance(
            source, str(path), licence,
            fingerprint(time_bytes, position_bytes, velocity_bytes, orientation_bytes),
            (
                f"assumed: the device is {DEVICE_AHEAD_OF_REAR_AXLE:g} m ahead of the rear axle and "
                f"{DEVICE_HEIGHT:g} m above the ground; focal length {focal:g} px",
                f"the device points {tilt:.1f} degrees off the mean course: taken out"
                if moving.any()
                else "the car stands, so nobody knows how the device is turned: it is taken to look ahead",
                *frames.notes,
            ),
        ),
    )  # fmt: skip


class _First(Frames):
    """The first frames of a video."""

    def __init__(self, video: Frames, count: int):
        self._video, self._shown = video, count
        self.path, self.width, self.height = video.path, video.width, video.height

    def __len__(self) -> int:
        return self._shown

    def __getitem__(self, number: int) -> UInt8[ndarray, "height width 3"]:
        self._check(number)
        return self._video[number]


READER = Reader(
    "comma2k19", "a folder with video.hevc (or fcamera.hevc) and global_pose/frame_positions", _matches, _read
)
