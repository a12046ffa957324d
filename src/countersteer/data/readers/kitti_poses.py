"""KITTI odometry poses: a text file (or gzipped) of camera poses, one a line, 10 Hz; an ego and nothing else.

A line is a 3 x 4 matrix [R | t], row by row: the pose of the left grey camera (camera 0: x right, y down, z forward) in
the frame of its first frame. That first frame is our world but for its axes: x = z of the camera, y = -x, z = -y.
The first camera is nearly, not exactly, upright, so "up" is wrong by its pitch and roll. Good for statistics of
trajectories and for camera worlds; there is no map and nobody else.

Times are read from a `times.txt` beside the poses or in `../sequences/NN/`, else they are 0.1 s apart.

Reference: Geiger, Lenz and Urtasun, "Are we ready for Autonomous Driving? The KITTI Vision Benchmark Suite", CVPR 2012.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.assembly import assemble, check_times, heading_of
from countersteer.data.readers.fields import MAX_STEPS, Field, numbers_of_text
from countersteer.data.readers.source import Reader, fingerprint, origin
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.scenarios.scenario import ActorKind, Scenario, Signals, Tracks
from countersteer.storage.files import head, read_bytes

__all__ = ["CAMERA_AHEAD_OF_REAR_AXLE", "CAMERA_HEIGHT", "CAR_SIZE", "READER"]

CAMERA_HEIGHT = 1.65
"""Height of the camera above the ground [m], as the data set's set-up states it."""

CAMERA_AHEAD_OF_REAR_AXLE = 0.95
"""Distance from the rear axle forward to the camera [m]: where the car does not slide sideways in turns; the median
of sequences 00, 02, 03, 05 to 08, in which it is 0.68 to 0.98 m."""

CAR_SIZE = (4.77, 1.82, 1.52)
"""Length, width and height of the recording car, a Passat estate [m]."""

LICENCE = "CC BY-NC-SA 3.0"
INTERVAL = 0.1  # [s]

_WORLD_FROM_CAMERA = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
_RESIDUES = (9.04368e-12, -1.822835e-10, 1.197625e-11)  # of sequences 00 to 02, 03, 04 to 10
_SLOW = 1.0  # below this speed the course says little about the heading [m/s]


def _is_pose(line: bytes) -> bool:
    """Whether a line of text is a pose: twelve numbers whose matrix is a rotation."""
    try:
        values = np.array([float(word) for word in line.split()])
    except ValueError:
        return False
    if len(values) != 12 or not np.isfinite(values).all() or np.abs(values).max() > 1e7:
        return False
    rotation = values.reshape(3, 4)[:, :3]
    return bool(np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-3 and np.linalg.det(rotation) > 0)


def _matches(path: Path) -> bool:
    lines = head(path).split(b"\n", 2)
    # A single pose is a calibration file more often than a drive.
    return len(lines) > 2 and len(lines[0]) < 1000 and _is_pose(lines[0]) and _is_pose(lines[1])


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".txt")


def _times(path: Path, count: int, notes: list[str]) -> tuple[ndarray, bytes]:
    """Times of the frames [s] and the bytes of their file."""
    beside = sorted(path.parent.glob("times*.txt")) if _stem(path) == "poses" else []
    for file in [*beside, path.parent.parent / "sequences" / _stem(path) / "times.txt"]:
        if file.is_file():
            data = read_bytes(file)
            times = numbers_of_text(file, "times", data, 1, most_rows=MAX_STEPS)[:, 0]
            if len(times) < count:
                Field(file, "the file", None).fail(
                    "has fewer times than there are poses", got=len(times), expected=f"{count}"
                )
            return times[:count], data
    notes.append(f"no times in the source: frames are {INTERVAL:g} s apart")
    return INTERVAL * np.arange(count), b""


def _read(path: Path) -> Scenario:
    data = read_bytes(path)
    pose = numbers_of_text(path, "poses", data, 12, most_rows=MAX_STEPS).reshape(-1, 3, 4)
    rotation, camera = pose[:, :, :3], pose[:, :, 3]
    wrong = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max((1, 2)) > 1e-3
    if (wrong | (np.linalg.det(rotation) < 0)).any():
        bad = int((wrong | (np.linalg.det(rotation) < 0)).argmax())
        Field(path, f"pose {bad}", None).fail(
            "holds no rotation", got=f"determinant {np.linalg.det(rotation[bad]):.4g}", expected="[R | t]"
        )
    notes: list[str] = []
    times, time_data = _times(path, len(pose), notes)
    check_times(path, times)

    forward = rotation[:, :, 2] @ _WORLD_FROM_CAMERA.T
    up = -rotation[:, :, 1] @ _WORLD_FROM_CAMERA.T
    position = camera @ _WORLD_FROM_CAMERA.T
    velocity = np.gradient(position, times, axis=0)
    _check_course(path, forward, velocity)
    length, width, height = CAR_SIZE
    # Positive where the camera is in front of the middle of the car.
    lever = CAMERA_AHEAD_OF_REAR_AXLE - rear_axle_to_center(length)
    center = position - lever * forward - (CAMERA_HEIGHT - height / 2) * up
    tracks = Tracks(
        ids=("ego",),
        kind=np.array([int(ActorKind.VEHICLE)]),
        position=center[None],
        heading=heading_of(path, forward)[None],
        velocity=np.gradient(center[:, :2], times, axis=0)[None],
        size=np.array([CAR_SIZE]),
        valid=np.ones((1, len(times)), bool),
    )
    notes += [
        f"assumed: the camera is {CAMERA_HEIGHT:g} m above the ground and {CAMERA_AHEAD_OF_REAR_AXLE:g} m ahead of "
        f"the rear axle, the car is {length:g} x {width:g} x {height:g} m",
        "the format has no map and no other road users; up is that of the first camera frame",
    ]
    # The first pose is one only up to rounding, which tells the data set's calibrations from others' ones.
    first = float(pose[0, 0, 1])
    proof = any(abs(first - residue) < 1e-5 * abs(residue) for residue in _RESIDUES)
    source, licence = origin(proof, "KITTI odometry", LICENCE, "poses as of KITTI")
    return assemble(
        path,
        path.parent.name if _stem(path) == "poses" else f"kitti-odometry-{_stem(path)}",
        times,
        tracks,
        [],
        Signals.none(len(times)),
        0,
        source=source,
        licence=licence,
        fingerprint=fingerprint(data, time_data),
        notes=notes,
    )


def _check_course(path: Path, forward: Float[ndarray, "n 3"], velocity: Float[ndarray, "n 3"]) -> None:
    """Refuse poses whose z axis is not where the car goes: those of a lidar, or of camera from world."""
    speed = np.linalg.norm(velocity, axis=1)
    moving = speed > _SLOW
    if not moving.any():
        return
    agreement = float(np.median((forward * velocity).sum(1)[moving] / speed[moving]))
    if agreement < 0.9:
        Field(path, "the poses", None).fail(
            "do not look where the car goes",
            got=f"a cosine of {agreement:.2f} between the z axis and the course",
            expected="poses of a camera in its first frame: x right, y down, z forward",
            fix="poses of a lidar (x forward) or inverted ones (camera from world) have to be converted first",
        )


READER = Reader(
    "kitti_poses",
    "a .txt or .txt.gz file with twelve numbers a line (camera poses of KITTI odometry)",
    _matches,
    _read,
)
