"""Anybody's recording: videos or pictures with a `rig.json`, and poses as a table; or a bare video.

`rig.json`: {"cameras": [{"name", "video" or "pictures" (a file or folder beside it), "times_s" (a list; without it the
video's own, or with "rate_hz"), "start_s", "fx_px", "fy_px", "cx_px", "cy_px" (pixel centres at +0.5),
"distortion" (OpenCV's coefficients), "fisheye", "position_m" [x, y, z], "roll_rad", "pitch_rad", "yaw_rad"}],
"licence"}. Mounting and angles as in docs/conventions.md. `poses.csv`: columns time_s, x_m, y_m, z_m, qw, qx, qy, qz, the
pose of the ego in a world with z up, with a line of names.

A bare video file has neither calibration nor poses, which `check` says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from countersteer.data.cameras.frames import Frames, PictureFiles, VideoFile
from countersteer.data.cameras.log import CameraLog, Distortion, RecordedCamera
from countersteer.data.cameras.poses import Poses
from countersteer.data.cameras.readers.files import inside, pictures_in
from countersteer.data.readers.fields import Field, numbers_of_text
from countersteer.data.readers.source import Reader, fingerprint
from countersteer.geometry.cameras import Intrinsics, ego_from_camera
from countersteer.geometry.rigid import matrix_from_quaternion, transform
from countersteer.scenarios.scenario import Provenance
from countersteer.storage.files import exists, parse_json, read_bytes

__all__ = ["BARE_VIDEO", "READER"]

_VIDEOS = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".ts", ".hevc", ".h264", ".m4v"})
_COLUMNS = ["time_s", "x_m", "y_m", "z_m", "qw", "qx", "qy", "qz"]


def _matches(path: Path) -> bool:
    return (path / "rig.json").is_file()


def _frames(path: Path, field: Field) -> Frames:
    video, pictures = field.get("video"), field.get("pictures")
    if (video is None) == (pictures is None):
        field.fail("names no frames, or twice", expected='either "video" or "pictures"')
    if video is not None:
        return VideoFile(inside(path, video, video.text()))
    assert pictures is not None
    folder = inside(path, pictures, pictures.text())
    return PictureFiles(pictures_in(folder), folder)


def _camera(field: Field, frames: Frames, origin: float) -> RecordedCamera:
    """A camera; times of a video count from `origin`."""
    stated, rate, start = field.get("times_s"), field.get("rate_hz"), field.get("start_s")
    if stated is not None:
        times = stated.numbers(len(frames))
    elif rate is not None:
        if rate.number() < 1e-3:
            rate.fail("is no rate of frames", expected="frames a second, at least 0.001")
        times = np.arange(len(frames)) / rate.number()
    elif isinstance(frames, VideoFile) and frames.times is not None:
        times = frames.times - origin
    else:
        field.fail("says not when its frames were taken", expected='"times_s" or "rate_hz" above 0')
    times = times + (start.number() if start is not None else 0.0)
    fx, fy, cx, cy = (field[f"{name}_px"].number() for name in ("fx", "fy", "cx", "cy"))
    bend, fisheye = field.get("distortion"), field.get("fisheye")
    distortion = None
    if bend is not None:
        distortion = Distortion(tuple(bend.numbers(None).tolist()), bool(fisheye and fisheye.value))
    angles = [
        angle.number() if angle else 0.0 for angle in map(field.get, ("roll_rad", "pitch_rad", "yaw_rad"))
    ]
    return RecordedCamera(
        field["name"].text(),
        frames,
        times,
        Intrinsics(frames.width, frames.height, fx, fy, cx, cy),
        transform(ego_from_camera(*angles), field["position_m"].numbers(3)),
        distortion,
    )


def _read(path: Path) -> CameraLog:
    data = read_bytes(path / "rig.json")
    root = Field(path / "rig.json", "", parse_json(data, path / "rig.json"))
    fields = root["cameras"].entries()
    pictures = [_frames(path, field) for field in fields]
    # Videos of one recording share a clock: the log begins with the first of them.
    videos = [
        (field["name"].text(), each)
        for field, each in zip(fields, pictures, strict=True)
        if isinstance(each, VideoFile)
    ]
    starts = [float(video.times[0]) for _, video in videos if video.times is not None]
    origin = min(starts, default=0.0)
    cameras = tuple(_camera(field, each, origin) for field, each in zip(fields, pictures, strict=True))
    notes = [note for _, video in videos for note in video.notes]
    licence = root.get("licence")
    table, poses = path / "poses.csv", None
    pose_bytes = b""
    if exists(table):
        pose_bytes = read_bytes(table)
        names, _, rest = pose_bytes.partition(b"\n")
        if names.decode("ascii", errors="replace").strip().split(",") != _COLUMNS:
            Field(table, "line 1", None).fail(
                "does not name the columns",
                got=names[:80].decode(errors="replace"),
                expected=",".join(_COLUMNS),
            )
        rows = numbers_of_text(table, "poses", rest, len(_COLUMNS))
        if (np.abs(np.linalg.norm(rows[:, 4:], axis=1) - 1) > 1e-2).any():
            Field(table, "qw..qz", None).fail("is not a rotation", expected="unit quaternions (w, x, y, z)")
        poses = Poses(rows[:, 0], transform(matrix_from_quaternion(rows[:, 4:]), rows[:, 1:4]), cubic=True)
    return CameraLog(
        path.name,
        cameras,
        poses,
        Provenance(
            "rig",
            str(path),
            licence.text() if licence else "unknown",
            fingerprint(data, pose_bytes),
            tuple(notes),
        ),
    )


def _matches_video(path: Path) -> bool:
    return path.suffix.lower() in _VIDEOS and path.is_file()


def _read_video(path: Path) -> CameraLog:
    frames = VideoFile(path)
    times = np.arange(len(frames)) / 20.0 if frames.times is None else frames.times - frames.times[0]
    notes = frames.notes
    if frames.times is None:
        notes += ("the stream has no time stamps: frames are taken to be 0.05 s apart",)
    camera = RecordedCamera(
        "front", frames, times, None, transform(ego_from_camera(0.0, 0.0, 0.0), [0.0, 0.0, 1.4])
    )
    size = str(path.stat().st_size).encode()
    return CameraLog(
        path.stem, (camera,), None, Provenance("video", str(path), "unknown", fingerprint(size), notes)
    )


READER = Reader("rig", "a folder with rig.json", _matches, _read)
BARE_VIDEO = Reader("video", "a video file", _matches_video, _read_video)
