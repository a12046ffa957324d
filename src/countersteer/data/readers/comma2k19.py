"""comma2k19 segments: one minute of a commute, as a folder of numpy arrays.

Read are `global_pose/frame_{times,positions,velocities,orientations}` and, where present,
`processed_log/CAN/speed`; files may end in `.npy` or in nothing, as upstream. Positions are those of the
device at the windscreen, earth-centred (ECEF, WGS 84) [m]; orientations are quaternions (w, x, y, z) that
take device axes (forward, right, down) to ECEF. Steering angles of that data set are positive to the left.

The world frame is east-north-up at the first frame, its origin on the ground. The device hangs a little
askew: the constant angle between its forward axis and the course of the rear axle is taken out. The format
has no map, and the other road users in its radar log are not read.

Reference: Schafer, Santana, Haden and Biasini, "A Commute in Data: The comma2k19 Dataset", 2018.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.assembly import assemble, check_times, heading_of
from countersteer.data.readers.fields import Field
from countersteer.data.readers.source import Reader, fingerprint, origin
from countersteer.data.readers.units import seconds
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.geometry.poses import wrap_angle
from countersteer.scenarios.scenario import ActorKind, Scenario, Signals, Tracks
from countersteer.storage.files import parse_npy, read_bytes

__all__ = [
    "CAR_SIZE",
    "DEVICE_AHEAD_OF_REAR_AXLE",
    "DEVICE_HEIGHT",
    "READER",
    "east_north_up",
    "find_array",
    "of_data_set",
    "read_array",
]

CAR_SIZE = (4.6, 1.85, 1.5)
"""Length, width and height of the recording car [m]; assumed, the format states none."""

DEVICE_AHEAD_OF_REAR_AXLE = 1.7
"""Distance from the rear axle forward to the device at the windscreen [m]; assumed."""

DEVICE_HEIGHT = 1.2
"""Height of the device above the ground [m]; assumed."""

_COMMUTE = np.array([-2_697_000.0, -4_293_000.0, 3_857_000.0])  # its middle, earth-centred [m]
_LARGEST_MOUNT_ANGLE = 0.2  # a device turned further than this would not see the road [rad]
_SLOW = 3.0  # below this speed the course says little about the heading [m/s]


def find_array(folder: Path, name: str) -> Path | None:
    """The file of an array, with or without its ending."""
    for path in (folder / f"{name}.npy", folder / name):
        if path.is_file():
            return path
    return None


def _matches(path: Path) -> bool:
    return path.is_dir() and find_array(path / "global_pose", "frame_positions") is not None


def read_array(folder: Path, name: str, *shape: int | None) -> tuple[ndarray, bytes]:
    """A numpy array of finite numbers, and the bytes of its file."""
    path = find_array(folder, name)
    field = Field(folder, name, None)
    if path is None:
        field.fail("is missing", got="no such file", expected=f"{name} or {name}.npy")
    data = read_bytes(path)
    field = Field(path, name, None)
    values = parse_npy(data, f"{path}: {name}")
    numbers = field.child("values", values).numbers(*shape)
    if not np.isfinite(numbers).all():
        bad = int(np.argwhere(~np.isfinite(numbers))[0][0])
        field.fail(f"is not finite at row {bad}", got="NaN or infinity", expected="finite numbers")
    return numbers, data


def east_north_up(origin: Float[ndarray, "3"]) -> Float[ndarray, "3 3"]:
    """Rotation `enu_from_ecef` at an ECEF point [m] (rows: east, north, up), on the WGS 84 ellipsoid.

    Latitude by Bowring's fixed-point iteration, exact to nanoradians near the ground.
    """
    semi_major, flattening = 6378137.0, 1 / 298.257223563
    e2 = flattening * (2 - flattening)
    x, y, z = (float(value) for value in origin)
    longitude, planar = math.atan2(y, x), math.hypot(x, y)
    latitude = math.atan2(z, planar * (1 - e2))
    for _ in range(6):
        normal = semi_major / math.sqrt(1 - e2 * math.sin(latitude) ** 2)
        latitude = math.atan2(z + e2 * normal * math.sin(latitude), planar)
    sin_lon, cos_lon = math.sin(longitude), math.cos(longitude)
    sin_lat, cos_lat = math.sin(latitude), math.cos(latitude)
    return np.array(
        [
            [-sin_lon, cos_lon, 0.0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )


def of_data_set(ecef: Float[ndarray, "n 3"]) -> bool:
    """Whether positions [m] are on the data set's commute, between San Francisco and San Jose."""
    return bool((np.linalg.norm(ecef - _COMMUTE, axis=1) < 80_000.0).all())


def _forward(quaternion: ndarray) -> ndarray:
    """First column of the rotation matrix of unit quaternions (w, x, y, z): the device's forward axis."""
    w, x, y, z = quaternion.T
    return np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], -1)


def _read(path: Path) -> Scenario:
    pose = path / "global_pose"
    times, time_bytes = read_array(pose, "frame_times", None)
    count = len(times)
    ecef, position_bytes = read_array(pose, "frame_positions", count, 3)
    ecef_velocity, velocity_bytes = read_array(pose, "frame_velocities", count, 3)
    quaternion, orientation_bytes = read_array(pose, "frame_orientations", count, 4)
    check_times(path, times)
    notes: list[str] = []
    times, _ = seconds(times, ecef[None], np.ones((1, count), bool), notes)  # before yaw rates are taken
    if not (np.linalg.norm(ecef, axis=1) > 6.2e6).all():
        Field(path, "global_pose/frame_positions", ecef).fail(
            "are not on the surface of the earth",
            got=f"a distance of {np.linalg.norm(ecef, axis=1).min():.4g} m from its centre",
            expected="earth-centred positions (ECEF), about 6.37e6 m from the centre",
        )
    norm = np.linalg.norm(quaternion, axis=1)
    if np.abs(norm - 1).max() > 1e-3:
        Field(path, "global_pose/frame_orientations", quaternion).fail(
            "are not rotations",
            got=f"a quaternion of length {norm[np.abs(norm - 1).argmax()]:.4g}",
            expected="unit quaternions (w, x, y, z)",
        )

    enu_from_ecef = east_north_up(ecef[0])
    device = (ecef - ecef[0]) @ enu_from_ecef.T + np.array([0.0, 0.0, DEVICE_HEIGHT])
    velocity = (ecef_velocity @ enu_from_ecef.T)[:, :2]
    forward = _forward(quaternion) @ enu_from_ecef.T
    device_heading = np.unwrap(heading_of(path, forward))
    yaw_rate = np.gradient(device_heading, times)[:, None]
    mount = _mount_angle(path, device_heading, velocity, yaw_rate)
    heading = device_heading + (mount or 0.0)

    ahead = np.stack([np.cos(heading), np.sin(heading)], -1)
    left = np.stack([-np.sin(heading), np.cos(heading)], -1)
    length, width, height = CAR_SIZE
    # Positive where the device is in front of the middle of the car.
    lever = DEVICE_AHEAD_OF_REAR_AXLE - rear_axle_to_center(length)
    center = np.concatenate(
        [device[:, :2] - lever * ahead, device[:, 2:] - DEVICE_HEIGHT + height / 2], axis=1
    )
    tracks = Tracks(
        ids=("ego",),
        kind=np.array([int(ActorKind.VEHICLE)]),
        position=center[None],
        heading=heading[None],
        velocity=(velocity - lever * yaw_rate * left)[None],
        size=np.array([[length, width, height]]),
        valid=np.ones((1, count), bool),
    )
    notes += [
        f"assumed: the device is {DEVICE_AHEAD_OF_REAR_AXLE:g} m ahead of the rear axle and "
        f"{DEVICE_HEIGHT:g} m above the ground, the car is {length:g} x {width:g} x {height:g} m",
        "the car stands, so nobody knows how the device is turned: it is taken to look ahead"
        if mount is None
        else f"the device points {math.degrees(abs(mount)):.2f} degrees to the "
        f"{'right' if mount > 0 else 'left'} of the course of the rear axle: taken out",
        "the format has no map; the other road users in its radar log are not read",
        *_compare_with_wheels(path, times, velocity),
    ]
    name = f"{path.parent.name}--{path.name}" if path.name.isdigit() else path.name
    source, licence = origin(of_data_set(ecef), "comma2k19", "MIT", "folders as of comma2k19")
    return assemble(
        path,
        name or "comma2k19",
        times,
        tracks,
        [],
        Signals.none(count),
        0,
        source=source,
        licence=licence,
        fingerprint=fingerprint(time_bytes, position_bytes, velocity_bytes, orientation_bytes),
        notes=notes,
    )


def _mount_angle(path: Path, heading: ndarray, velocity: ndarray, yaw_rate: ndarray) -> float | None:
    """Constant angle from the device's forward axis to the car's [rad]; None, which is unknown, for a car that stands."""
    left = np.stack([-np.sin(heading), np.cos(heading)], -1)
    axle = velocity - DEVICE_AHEAD_OF_REAR_AXLE * yaw_rate * left
    moving = np.linalg.norm(axle, axis=1) > _SLOW
    if not moving.any():
        return None
    angle = float(np.median(wrap_angle(np.arctan2(axle[:, 1], axle[:, 0]) - heading)[moving]))
    if abs(angle) > _LARGEST_MOUNT_ANGLE:
        Field(path, "global_pose/frame_orientations", None).fail(
            "do not point where the car goes",
            got=f"{math.degrees(angle):.0f} degrees between the device's forward axis and the course",
            expected=f"at most {math.degrees(_LARGEST_MOUNT_ANGLE):.0f} degrees",
            fix="check the axes: device forward-right-down to ECEF, quaternion order w, x, y, z",
        )
    return angle


def _compare_with_wheels(path: Path, times: ndarray, velocity: ndarray) -> list[str]:
    """A note on how well pose and wheel speed agree, where the segment has wheel speeds."""
    folder = path / "processed_log" / "CAN" / "speed"
    if find_array(folder, "t") is None or find_array(folder, "value") is None:
        return []
    stamps, _ = read_array(folder, "t", None)
    extent = len(stamps)
    raw = Field(folder, "value", None)
    try:
        speed = read_array(folder, "value", extent)[0]
    except Exception:
        speed = read_array(folder, "value", extent, 1)[0][:, 0]
    if not extent or not np.all(np.diff(stamps) > 0):
        raw.fail("has times that do not increase", got=f"{extent} times", expected="increasing times")
    gap = np.linalg.norm(velocity, axis=1) - np.interp(times, stamps, speed)
    return [f"speed of the poses against the wheels: RMS {math.sqrt(float((gap**2).mean())):.2f} m/s"]


READER = Reader(
    "comma2k19",
    "a folder with global_pose/frame_positions (one segment of comma2k19)",
    _matches,
    _read,
)
