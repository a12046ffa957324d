"""A drive of KITTI raw with one rectified colour camera and laser sweeps, in the small form we store.

`image_02/*`, `calib.json` (`P_rect_02`, `R_rect_00`, `T_cam0_velo`), `poses_velo_icp.txt` (pose of the scanner in its
first frame), `velodyne_full/*.npz` and `velodyne_fov/*.npz` (`xyz_5mm`, int16 times 5 mm; x forward, y left, z up).
A pixel is P_rect_02 (R_rect_00 (T_cam0_velo X)). No times: 10 Hz. Road users are those of `tracklet_labels.xml`, if it lies
beside: KITTI's own file, boxes in the scanner's frame whose origin is in the middle of their bottom.

Reference: Geiger, Lenz, Stiller and Urtasun, "Vision meets robotics", IJRR 2013.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.cameras.frames import PictureFiles
from countersteer.data.cameras.log import CameraLog, LidarSweeps, RecordedCamera
from countersteer.data.cameras.poses import Poses
from countersteer.data.cameras.readers.files import PackedSweeps, number_of, pictures_in
from countersteer.data.cameras.readers.kitti_odometry import camera_of_projection, of_kitti
from countersteer.data.cameras.road_users import AnnotatedBox, RoadUsers
from countersteer.data.readers.fields import Field, numbers_of_text
from countersteer.data.readers.source import Reader, fingerprint, origin
from countersteer.geometry.rigid import inverse, transform
from countersteer.scenarios.scenario import ActorKind, Provenance
from countersteer.storage.files import exists, parse_json, read_bytes

__all__ = ["READER", "SCANNER_AHEAD", "SCANNER_HEIGHT"]

SCANNER_AHEAD = 0.76
"""From the rear axle forward to the scanner [m], from the published drawing of the car."""

SCANNER_HEIGHT = 1.73
"""Of the scanner above the road [m], from the same drawing."""

_RATE = 10.0
_LARGEST_XML = 1 << 25  # 32 MiB, which become twenty times as much in memory; KITTI's have 2 MB

_KINDS = {
    **dict.fromkeys(("Car", "Van", "Truck", "Tram"), ActorKind.VEHICLE),
    **dict.fromkeys(("Pedestrian", "Person (sitting)"), ActorKind.PEDESTRIAN),
    "Cyclist": ActorKind.CYCLIST,
}  # all others are static


def _matches(path: Path) -> bool:
    return (path / "image_02").is_dir() and (path / "calib.json").is_file()


def _orthonormal(matrix: Float[ndarray, "3 3"]) -> Float[ndarray, "3 3"]:
    """The nearest rotation: calibrations are printed with few digits."""
    u, _, v = np.linalg.svd(matrix)
    return u @ v


def _boxes(file: Path, data: bytes, first: int, world_from_lidar: ndarray) -> list[AnnotatedBox]:
    """Road users of `tracklet_labels.xml`.

    Args:
        file, data: Where it was read, and its bytes.
        first: Number of the first picture.
        world_from_lidar: Pose of the scanner at each picture.
    """
    try:
        if b"<!ENTITY" in data:
            raise ValueError("it defines entities")
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        Field(file, "", None).fail("is not XML", got=str(error)[:120], expected="KITTI's tracklets")

    def number(element: ElementTree.Element, tag: str, where: str) -> float:
        text = element.findtext(tag)
        try:
            return Field(file, f"{where}.{tag}", float(text or "")).number()
        except ValueError:
            Field(file, f"{where}.{tag}", text).fail("is not a number", expected="a number")

    found = []
    for track, item in enumerate(root.findall("tracklets/item")):
        where = f"tracklet {track}"
        height, width, length = (number(item, tag, where) for tag in ("h", "w", "l"))
        kind = _KINDS.get(item.findtext("objectType", ""), ActorKind.STATIC)
        begin = round(number(item, "first_frame", where)) - first
        for step, pose in enumerate(item.findall("poses/item")):
            if not 0 <= begin + step < len(world_from_lidar):
                continue
            x, y, z, yaw = (number(pose, tag, f"{where}, pose {step}") for tag in ("tx", "ty", "tz", "rz"))
            cos, sin = np.cos(yaw), np.sin(yaw)
            turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
            found.append(
                AnnotatedBox(
                    (begin + step) / _RATE,
                    str(track),
                    kind,
                    world_from_lidar[begin + step] @ transform(turn, np.array([x, y, z + height / 2])),
                    (length, width, height),
                )
            )
    return found


def _read(path: Path) -> CameraLog:
    calibration, pose_bytes = read_bytes(path / "calib.json"), read_bytes(path / "poses_velo_icp.txt")
    fields = Field(path / "calib.json", "", parse_json(calibration, path / "calib.json"))
    projection = fields["P_rect_02"].numbers(3, 4)
    rectify, camera_from_scanner = fields["R_rect_00"].numbers(3, 3), fields["T_cam0_velo"].numbers(3, 4)
    files = pictures_in(path / "image_02")
    frames = PictureFiles(files, path / "image_02")
    intrinsics, center = camera_of_projection(projection, frames.width, frames.height)
    # Rectified axes of camera 2 from the scanner's.
    turn, shift = _orthonormal(rectify), camera_from_scanner[:, 3]
    camera_from_velo = transform(turn @ _orthonormal(camera_from_scanner[:, :3]), turn @ shift - center)
    ego_from_lidar = transform(np.eye(3), np.array([SCANNER_AHEAD, 0.0, SCANNER_HEIGHT]))
    rows = numbers_of_text(path / "poses_velo_icp.txt", "poses", pose_bytes, 12).reshape(-1, 3, 4)
    count = min(len(rows), len(files))
    if len(rows) != len(files):
        Field(path, "poses_velo_icp.txt", None).fail(
            "and image_02 differ in number", got=f"{len(rows)} poses", expected=f"{len(files)}"
        )
    times = np.arange(count) / _RATE
    first_from_lidar = transform(rows[:, :, :3], rows[:, :, 3])
    poses = ego_from_lidar @ inverse(first_from_lidar[0]) @ first_from_lidar @ inverse(ego_from_lidar)
    folder = path / ("velodyne_fov" if (path / "velodyne_fov").is_dir() else "velodyne_full")
    sweeps = PackedSweeps(folder)
    lidar = None
    if sweeps.numbers:
        lidar = LidarSweeps(np.array(sweeps.numbers) / _RATE, ego_from_lidar, sweeps)
    tracklets, users, annotation = path / "tracklet_labels.xml", None, b""
    if exists(tracklets):
        annotation = read_bytes(tracklets, _LARGEST_XML)
        first = number_of(files[0].stem) or 0
        users = RoadUsers.of(tracklets, _boxes(tracklets, annotation, first, poses @ ego_from_lidar))
    source, licence = origin(of_kitti(projection), "KITTI raw", "CC BY-NC-SA 3.0", "folders as of KITTI raw")
    return CameraLog(
        path.name,
        (RecordedCamera("image_02", frames, times, intrinsics, ego_from_lidar @ inverse(camera_from_velo)),),
        Poses(times, poses),
        Provenance(
            source,
            str(path),
            licence,
            fingerprint(calibration, pose_bytes, annotation),
            (
                f"assumed: frames are {1 / _RATE:g} s apart; the scanner is level, {SCANNER_AHEAD:g} m ahead of the "
                f"rear axle and {SCANNER_HEIGHT:g} m high",
            ),
        ),
        lidar,
        users,
    )


READER = Reader("kitti_raw", "a folder with image_02/ and calib.json", _matches, _read)
