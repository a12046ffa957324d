"""RADIATE sequences: `zed_left`, `zed_right` (not rectified), `velo_lidar`, `default-calib.yaml`, times in text files.

The scanner has x right, y forward, z up; sensor offsets are given in the radar's axes, which are the same. Poses are
those of the scanner in its first frame (`poses_velo_icp.txt`, a row a sweep), for the sweeps that
`velo_lidar.txt` dates. Small mounting angles of the cameras are not applied: the file does not say about which axes.

Reference: Sheeny et al., "RADIATE: a radar dataset for automotive perception", ICRA 2021.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.cameras.frames import PictureFiles
from countersteer.data.cameras.log import CameraLog, Distortion, LidarSweeps, RecordedCamera
from countersteer.data.cameras.poses import Poses
from countersteer.data.cameras.readers.files import PackedSweeps, number_of, pictures_in
from countersteer.data.readers.fields import Field, numbers_of_text
from countersteer.data.readers.source import Reader, fingerprint, origin
from countersteer.geometry.cameras import Intrinsics, ego_from_camera
from countersteer.geometry.rigid import inverse, transform
from countersteer.scenarios.scenario import Provenance
from countersteer.storage.files import exists, read_bytes

__all__ = ["EGO_FROM_SCANNER_AXES", "READER", "SCANNER_HEIGHT"]

EGO_FROM_SCANNER_AXES = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""Rotation from the scanner's axes (right, forward, up) to the ego's (forward, left, up)."""

SCANNER_AHEAD = 1.0
"""From the rear axle forward to the scanner on the roof [m]; assumed."""

SCANNER_HEIGHT = 1.9
"""Of the scanner above the road [m]; assumed."""

_FOCAL = 337.9191448899105  # of the data set's left camera [px]


def _matches(path: Path) -> bool:
    return (path / "zed_left").is_dir() and (path / "zed_left.txt").is_file()


def _stamps(path: Path) -> dict[int, float]:
    """Times [s] by frame, from lines `Frame: 000001 Time: 1574859772.427742418`."""
    found = {}
    for line in read_bytes(path).decode("ascii", errors="replace").splitlines():
        words = re.fullmatch(r"\s*Frame:\s*(\d{1,18})\s+Time:\s*(\d{1,18}(?:\.\d+)?)\s*", line)
        if words:
            found[int(words[1])] = float(words[2])
        elif line.strip():
            Field(path, "times", None).fail(
                "has a line that is none", got=line[:60], expected="Frame: N Time: T"
            )
    return found


def _sections(path: Path, data: bytes) -> dict[str, dict[str, ndarray]]:
    """`name:` followed by indented `key: number` or `key: [numbers]`; nothing else of YAML is used there."""
    found: dict[str, dict[str, ndarray]] = {}
    here: dict[str, ndarray] = {}
    for line in data.decode("ascii", errors="replace").splitlines():
        line = line.split("#")[0].rstrip()
        if re.fullmatch(r"\w+:", line):
            here = found.setdefault(line[:-1], {})
        elif words := re.fullmatch(r"\s+(\w+):\s*\[?([-+0-9.eE, ]+)\]?", line):
            here[words[1]] = numbers_of_text(path, words[1], words[2].encode(), words[2].count(",") + 1)[0]
    return found


def _value(
    path: Path, sections: dict[str, dict[str, ndarray]], section: str, key: str, count: int
) -> ndarray:
    value = sections.get(section, {}).get(key)
    if value is None or len(value) != count:
        Field(path, f"{section}.{key}", value).fail(
            "is missing or has the wrong length", expected=f"{count} numbers"
        )
    return value


def _camera(
    path: Path,
    name: str,
    section: str,
    sections: dict[str, dict[str, ndarray]],
    start: float,
    mounting: ndarray,
) -> RecordedCamera:
    stamps = _stamps(path / f"{name}.txt")
    files = [file for file in pictures_in(path / name) if number_of(file.stem) in stamps]
    frames = PictureFiles(files, path / name)
    place = path / "default-calib.yaml"

    def number(key: str) -> float:
        return float(_value(place, sections, section, key, 1)[0])

    width, height = _value(place, sections, section, "res", 2)
    intrinsics = Intrinsics(
        int(width), int(height), number("fx"), number("fy"), number("cx") + 0.5, number("cy") + 0.5
    )
    bend = Distortion(tuple(number(key) for key in ("k1", "k2", "p1", "p2", "k3")))
    offset = _value(place, sections, section, "T", 3) - _value(place, sections, "lidar_calib", "T", 3)
    ego_from = mounting @ transform(EGO_FROM_SCANNER_AXES.T @ ego_from_camera(0.0, 0.0, 0.0), offset)
    times = np.array([stamps[int(file.stem)] for file in files]) - start
    return RecordedCamera(name, frames, times, intrinsics, ego_from, bend)


def _read(path: Path) -> CameraLog:
    calibration = read_bytes(path / "default-calib.yaml")
    sections = _sections(path / "default-calib.yaml", calibration)
    start = min(_stamps(path / "zed_left.txt").values(), default=0.0)
    mounting = transform(EGO_FROM_SCANNER_AXES, np.array([SCANNER_AHEAD, 0.0, SCANNER_HEIGHT]))
    cameras = [_camera(path, "zed_left", "left_cam_calib", sections, start, mounting)]
    if (path / "zed_right").is_dir():
        cameras.append(_camera(path, "zed_right", "right_cam_calib", sections, start, mounting))
    stamps = _stamps(path / "velo_lidar.txt")
    sweeps = PackedSweeps(path / "velo_lidar")
    times = _sweep_times(sweeps.numbers, stamps) - start
    poses, pose_bytes = None, b""
    if exists(path / "poses_velo_icp.txt"):
        pose_bytes = read_bytes(path / "poses_velo_icp.txt")
        rows = numbers_of_text(path / "poses_velo_icp.txt", "poses", pose_bytes, 12).reshape(-1, 3, 4)
        if len(rows) != len(times):
            Field(path, "poses_velo_icp.txt", None).fail(
                "and velo_lidar differ in number", got=f"{len(rows)} poses", expected=f"{len(times)}"
            )
        first_from_lidar = transform(rows[:, :, :3], rows[:, :, 3])
        world = mounting @ inverse(first_from_lidar[0]) @ first_from_lidar @ inverse(mounting)
        poses = Poses(times, world)
    left = cameras[0].intrinsics
    proof = left is not None and abs(left.fx - _FOCAL) < 1e-6
    source, licence = origin(proof, "RADIATE", "CC BY-NC-SA 4.0", "folders as of RADIATE")
    return CameraLog(
        path.name,
        tuple(cameras),
        poses,
        Provenance(
            source,
            str(path),
            licence,
            fingerprint(calibration, pose_bytes),
            (
                f"assumed: the scanner is level, {SCANNER_AHEAD:g} m ahead of the rear axle and {SCANNER_HEIGHT:g} m high",
                "sweeps that the list of times does not name are 0.1 s apart, as the others are",
                "the GPS clock of this data set is a minute off and is not read",
            ),
        ),
        LidarSweeps(times, mounting, sweeps) if sweeps.numbers else None,
    )


def _sweep_times(numbers: list[int], stamps: dict[int, float]) -> Float[ndarray, "sweep"]:
    """Listed times, and 0.1 s steps from the first of them where the list begins late."""
    first = min(stamps, default=0)
    return np.array(
        [stamps.get(number, stamps.get(first, 0.0) + 0.1 * (number - first)) for number in numbers]
    )


READER = Reader("radiate", "a folder with zed_left/ and zed_left.txt", _matches, _read)
