"""Camera logs: video and picture access, poses between poses, what is wrong with a log, and foreign frames."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import av
import numpy as np
import pytest

from countersteer.commands.cli import main
from countersteer.data.cameras import (
    CameraLog,
    Distortion,
    Poses,
    Problem,
    RecordedCamera,
    VideoFile,
    check,
    read,
)
from countersteer.data.cameras.frames import Frames
from countersteer.data.cameras.readers import comma2k19
from countersteer.data.samples import recorded_drive
from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics, ego_from_camera
from countersteer.geometry.rigid import (
    inverse,
    matrix_from_quaternion,
    quaternion_from_matrix,
    rotation_angle,
    slerp,
    transform,
    transform_points,
)
from countersteer.reconstruction.depth import project_points
from countersteer.scenarios.scenario import Provenance, Recording
from countersteer.scenarios.storage import load, save

CODECS = {"libx264": "mp4", "libx265": "mp4", "libsvtav1": "mkv"}
PROVENANCE = Provenance("test", "nowhere", "MIT", "")
MOUNTING = transform(ego_from_camera(0.0, 0.0, 0.0), np.array([1.0, 0.0, 1.5]))


def numbered(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A picture that says its number: eight bright or dark bars."""
    picture = np.full((height, width, 3), 40, np.uint8)
    for bit in range(8):
        if number >> bit & 1:
            picture[:, bit * width // 8 : (bit + 1) * width // 8] = 215
    return picture


def number_of(picture: np.ndarray) -> int:
    bars = picture[:, :, 1].reshape(picture.shape[0], 8, -1).mean((0, 2))
    return int(sum((bar > 128) << bit for bit, bar in enumerate(bars)))


def write_video(
    path: Path,
    count: int,
    codec: str = "libx264",
    rate: int = 20,
    gop: int = 12,
    grain: int = 0,
    options: dict | None = None,
) -> Path:
    noise = np.random.default_rng(0).integers(-grain, grain + 1, (count, 64, 96, 3))
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 96, 64, "yuv420p", gop
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none"}
        for number in range(count):
            picture = np.clip(numbered(number) + noise[number], 0, 255).astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.mark.parametrize("codec", CODECS)
def test_any_frame_of_a_video_in_any_order(tmp_path: Path, codec: str):
    try:
        path = write_video(tmp_path / f"drive.{CODECS[codec]}", 90, codec)
    except (av.error.FFmpegError, ValueError) as error:
        pytest.skip(f"this FFmpeg does not write {codec}: {error}")
    video = VideoFile(path, cache=4)
    assert len(video) == 90
    assert video.times is not None
    assert np.allclose(np.diff(video.times), 0.05, atol=1e-3)
    order = np.random.default_rng(0).integers(0, 90, 60).tolist()
    assert [number_of(video[number]) for number in [89, 0, *order, 5, 6, 7, 6]] == [89, 0, *order, 5, 6, 7, 6]
    assert len(video._cache) <= 4, "memory does not grow with what was read"
    with pytest.raises(IndexError):
        video[90]


def test_a_raw_stream_without_time_stamps_is_counted(tmp_path: Path):
    with av.open(str(tmp_path / "video.hevc"), "w", format="hevc") as container:
        stream = container.add_stream("libx265", rate=20)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 96, 64, "yuv420p", 10
        stream.options = {"x265-params": "log-level=none:bframes=0"}
        for number in range(45):
            for packet in stream.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    video = VideoFile(tmp_path / "video.hevc", cache=2)
    assert [number_of(video[number]) for number in (44, 3, 4, 30, 0)] == [44, 3, 4, 30, 0]


def test_a_damaged_video_is_refused_by_name(tmp_path: Path):
    whole = write_video(tmp_path / "whole.mp4", 40)
    for name, data in (("empty", b""), ("noise", bytes(range(256)) * 40), ("cut", whole.read_bytes()[:900])):
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(data)
        with pytest.raises(UserError, match=f"{name}.mp4"):
            VideoFile(path)


# Poses.


def test_quaternions_go_there_and_back_and_slerp_turns_evenly():
    quaternion = np.random.default_rng(0).normal(size=(200, 4))
    rotation = matrix_from_quaternion(quaternion)
    assert np.allclose(matrix_from_quaternion(quaternion_from_matrix(rotation)), rotation, atol=1e-12)
    turn = ego_from_camera(0.0, 0.0, 0.8) @ ego_from_camera(0.0, 0.0, 0.0).T
    first, second = quaternion_from_matrix(np.eye(3)), quaternion_from_matrix(turn)
    half = matrix_from_quaternion(slerp(first, -second, np.array(0.25)))
    assert rotation_angle(half) == pytest.approx(0.2)
    assert half[1, 0] > 0, "a turn to the left"


def circle(times: np.ndarray, radius: float = 50.0, speed: float = 10.0) -> np.ndarray:
    """Poses on a left-hand bend."""
    yaw = speed * times / radius
    turn = np.stack([np.stack([np.cos(yaw), -np.sin(yaw)], -1), np.stack([np.sin(yaw), np.cos(yaw)], -1)], -2)
    rotation = np.tile(np.eye(3), (len(times), 1, 1))
    rotation[:, :2, :2] = turn
    return transform(rotation, np.stack([radius * np.sin(yaw), radius * (1 - np.cos(yaw)), 0 * yaw], -1))


@pytest.mark.parametrize(("cubic", "error"), [(False, 0.03), (True, 0.002)])
def test_poses_between_poses_lie_on_the_bend(cubic: bool, error: float):
    times = np.arange(0.0, 5.0, 0.2)
    poses = Poses(times, circle(times), cubic)
    between = np.linspace(1.0, 4.0, 77)
    apart = np.linalg.norm(poses.at(between)[:, :3, 3] - circle(between)[:, :3, 3], axis=1)
    assert apart.max() < error
    assert np.abs(poses.at(between)[:, :3, :3] - circle(between)[:, :3, :3]).max() < 1e-6
    assert np.array_equal(poses.at(times), circle(times)), "recorded times give recorded poses"
    with pytest.raises(UserError, match="no pose at that time"):
        poses.at(5.0)


@pytest.mark.parametrize(
    ("times", "scale", "says"),
    [([0.0, 0.0], 1.0, "do not increase"), ([0.0, 1.0], math.nan, "finite"), ([0.0, 1.0], -1.0, "mirrored")],
)
def test_poses_that_are_none_are_refused(times, scale, says):
    world = np.tile(np.eye(4), (2, 1, 1))
    world[1, :3, :3] *= scale
    with pytest.raises(UserError, match=says):
        Poses(np.array(times), world)


# What is wrong with a log.


class Blank(Frames):
    def __init__(self, count: int):
        self.path, self.width, self.height, self._count = "blank", 160, 120, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> np.ndarray:
        return np.full((120, 160, 3), number % 200, np.uint8)


def log_of(
    times: np.ndarray, poses: np.ndarray | None = None, pose_times: np.ndarray | None = None
) -> CameraLog:
    pinhole = Intrinsics(160, 120, 120.0, 120.0, 80.0, 60.0)
    pose_times = times if pose_times is None else pose_times
    poses = circle(pose_times) if poses is None else poses
    camera = RecordedCamera("front", Blank(len(times)), times, pinhole, MOUNTING)
    return CameraLog("made", (camera,), Poses(pose_times, poses), PROVENANCE)


EVEN = np.arange(0.0, 6.0, 0.1)


def test_nothing_is_wrong_with_a_good_log():
    assert check(log_of(EVEN), pictures=True).findings == ()


def changed(**parts) -> CameraLog:
    log = log_of(EVEN)
    return dataclasses.replace(log, cameras=(dataclasses.replace(log.cameras[0], **parts),))


def moved(change) -> CameraLog:
    poses = circle(EVEN)
    change(poses)
    return log_of(EVEN, poses)


def scaled(factor: float):
    def change(poses):
        poses[:, :3, 3] *= factor

    return change


def jumped(poses):
    poses[30:, 0, 3] += 3.0


def backwards(poses):
    poses[:, :3, :2] *= -1


def inverted(poses):
    poses[:] = inverse(poses)


def standing(poses):
    poses[:] = poses[0]


WRONG = {
    "dropped": (log_of(np.delete(EVEN, [20, 21, 40]), pose_times=EVEN), Problem.DROPPED, 2, True),
    "gap": (log_of(np.delete(EVEN, slice(20, 45)), pose_times=EVEN), Problem.GAP, 1, True),
    "twice": (log_of(np.insert(EVEN, 7, EVEN[7]), pose_times=EVEN), Problem.DUPLICATE, 1, True),
    "back": (changed(times=np.where(EVEN > 3, EVEN - 1, EVEN)), Problem.TIME_ORDER, 1, False),
    "ms": (log_of(EVEN * 1e3, circle(EVEN), EVEN * 1e3), Problem.UNITS_TIME, 2, False),
    "mm": (moved(scaled(1e3)), Problem.UNITS_POSE, 1, False),
    "km": (moved(scaled(1e-3)), Problem.UNITS_POSE, 1, False),
    "jump": (moved(jumped), Problem.POSE_JUMP, None, False),
    "reverse axes": (moved(backwards), Problem.AXES, 1, False),
    "inverted": (moved(inverted), Problem.AXES, 1, False),
    "standing": (moved(standing), Problem.NO_MOTION, 1, True),
    "late poses": (log_of(EVEN, pose_times=EVEN[:50], poses=circle(EVEN[:50])), Problem.POSE_COVERAGE, 10, True),
    "uncalibrated": (changed(intrinsics=None), Problem.NO_CALIBRATION, 1, False),
    "swapped": (
        changed(intrinsics=Intrinsics(160, 120, 120.0, 120.0, 159.0, 119.0)), Problem.CALIBRATION, 1, False
    ),
    "poses in ms": (log_of(EVEN, circle(EVEN), EVEN * 1e3), Problem.UNITS_TIME, 1, False),
    "posed by nobody": (dataclasses.replace(log_of(EVEN), poses=None), Problem.NO_POSES, 1, False),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str):
    log, problem, count, usable = WRONG[name]
    report = check(log)
    found = report.of(problem)
    assert found, [str(finding) for finding in report.findings]
    if count is not None:
        assert sum(finding.count for finding in found) == count
    assert report.usable == usable, [str(finding) for finding in report.findings]


def test_pictures_that_come_twice_and_cameras_out_of_step_are_found():
    class Stuck(Blank):
        def __getitem__(self, number: int) -> np.ndarray:
            return super().__getitem__(9 if number == 10 else number)

    log = changed(frames=Stuck(len(EVEN)))
    assert check(log).findings == ()
    assert [f.times for f in check(log, pictures=True).of(Problem.DUPLICATE)] == [(pytest.approx(1.0),)]
    late = dataclasses.replace(log_of(EVEN).cameras[0], name="late", times=EVEN + 0.04)
    pair = dataclasses.replace(log_of(EVEN), cameras=(log_of(EVEN).cameras[0], late))
    assert check(pair).of(Problem.UNSYNCHRONISED)[0].where == "late"


# Recordings that are broken: what is said names the file and when, and nothing is left behind.


def broken(folder: Path, how: str) -> Path:
    """A recording of one's own, damaged."""
    poses = circle(EVEN)
    if how in ("jumps", "in mm", "standing"):
        {"jumps": jumped, "in mm": scaled(1e3), "standing": standing}[how](poses)
    made = rig(folder, poses, **({"fx_px": None} if how == "uncalibrated" else {}))
    video = made / "drive.mp4"
    if how.startswith("ends early"):
        whole = video.with_suffix(".mkv" if how.endswith("mkv") else ".mp4")
        write_video(whole, len(EVEN), rate=10, options={"movflags": "faststart"} if whole == video else {})
        data = whole.read_bytes()
        video.write_bytes(data[: len(data) // 2])
    elif how == "corrupt":
        data = bytearray(video.read_bytes())
        at = data.index(b"mdat") + 4
        size = (len(data) - at) // 2
        data[at + size // 2 : at + size] = np.random.default_rng(0).bytes(size - size // 2)
        video.write_bytes(data)
    elif how == "times in ms":
        rows = (made / "poses.csv").read_text().splitlines()
        late = [",".join([str(1e3 * float(row.split(",")[0])), *row.split(",")[1:]]) for row in rows[1:]]
        (made / "poses.csv").write_text("\n".join([rows[0], *late]))
    return made


BROKEN = {
    "ends early": ("mine/drive.mp4 ends early, at ", " of 60|60 frames, as its header"),
    "ends early.mkv": ("mine/drive.mp4 ends early, at ", "6.0.. s, as its header"),
    "corrupt": ("mine/drive.mp4 is not a video", r"frame \d+ of 60, at \d\.\d+ s, cannot be decoded"),
    "uncalibrated": ("mine/rig.json", "fx_px"),
    "jumps": ("mine cannot be rendered from yet", r"poses: the car jumps \(\d x at 3\.000"),
    "in mm": (
        "mine cannot be rendered from yet",
        r"positions are not in metres \(1 x at 0\.000 s\).*may be mm",
    ),
    "times in ms": ("mine cannot be", r"poses: times are not in seconds \(1 x at 0\.000 s\).*may be ms"),
    "standing": ("mine: the (car stands|camera does not move enough)", r"from 0\.000 to 5\.900 s"),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("command", ["view-metrics", "novel-view"])
def test_a_broken_recording_is_refused_by_file_and_time_and_leaves_nothing(
    tmp_path: Path, capsys, how: str, command: str
):
    made, out = broken(tmp_path / "mine", how), tmp_path / "out"
    rest = {
        "view-metrics": ["--json", str(out / "found.json")],
        "novel-view": ["--out", str(out / "film.mp4"), "--cache", str(out / "cache"), "--seconds", "4"],
    }[command]
    out.mkdir()
    assert main([command, str(made), *rest]) == 2
    said = capsys.readouterr().err
    for part in BROKEN[how]:
        assert re.search(part, said), said
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_damage_that_a_decoder_would_hide_is_an_error(tmp_path: Path):
    """FFmpeg shows a guess in the place of what it cannot decode."""
    path = write_video(tmp_path / "drive.mkv", 60, grain=20)
    with av.open(str(path)) as container:
        packet = [bytes(packet) for packet in container.demux(video=0)][30]
    data, size = path.read_bytes(), len(packet) // 2
    path.write_bytes(data.replace(packet, packet[:size] + np.random.default_rng(0).bytes(len(packet) - size)))
    video, said = VideoFile(path), []
    assert video.times is not None
    for number in range(len(video)):
        try:
            picture = video[number]
        except UserError as error:
            said.append(str(error))
        else:
            assert number_of(picture) == round(video.times[number] * 20)
    assert said
    assert all(re.search(r"drive.mkv.*\n.*frame \d+ of \d+, at \d\.\d+ s", text) for text in said)


# Lenses.


def test_distortion_is_taken_out():
    import cv2

    pinhole, bend = Intrinsics(200, 150, 120.0, 118.0, 97.0, 80.0), (-0.25, 0.06, 0.001, -0.002, 0.0)
    matrix = pinhole.matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    point = np.array([[0.5, 0.3, 1.0]])
    bent = cv2.projectPoints(point, np.zeros(3), np.zeros(3), matrix, np.array(bend))[0].reshape(2)
    picture = np.zeros((150, 200, 3), np.uint8)
    rows, columns = np.mgrid[:150, :200]
    picture[:] = (250 * np.exp(-((columns - bent[0]) ** 2 + (rows - bent[1]) ** 2) / 4.0))[..., None]

    class One(Blank):
        def __init__(self):
            self.path, self.width, self.height, self._count = "one", 200, 150, 1

        def __getitem__(self, number: int) -> np.ndarray:
            return picture

    camera = RecordedCamera("wide", One(), np.zeros(1), pinhole, MOUNTING, Distortion(bend))
    flat = camera.pinhole()
    assert flat.distortion is None
    light = flat.frames[0][..., 0].astype(float)
    at = (light[..., None] * np.stack(np.meshgrid(np.arange(200) + 0.5, np.arange(150) + 0.5), -1)).sum(
        (0, 1)
    )
    straight = project_points(point * 5, pinhole)[0][0]
    assert at / light.sum() == pytest.approx(straight, abs=0.3)
    assert np.linalg.norm(straight - bent) > 3


# Formats. Each test would fail for a mirrored or swapped axis.


def test_kitti_odometry_turns_right_and_has_its_right_camera_on_the_right(shared_data: Path):
    mono, stereo = (
        read(shared_data / "kitti_odometry_00_mono"),
        read(shared_data / "kitti_odometry_06_stereo"),
    )
    assert mono.poses is not None
    first, last = mono.poses.world_from_ego[[0, -1]]
    assert last[0, 3] > 80, "forward"
    assert last[1, 3] < -10, "to the right"
    assert math.atan2(last[1, 0], last[0, 0]) < -1.2
    assert np.allclose(first, np.eye(4), atol=1e-6)
    assert stereo.camera("image_1").ego_from_camera[:3, 3] - stereo.camera("image_0").ego_from_camera[
        :3, 3
    ] == (pytest.approx([0.0, -0.5372, 0.0], abs=1e-3))
    assert stereo.camera("image_0").calibrated().cx == pytest.approx(601.8873 + 0.5)
    for log in (mono, stereo):
        assert check(log).findings == ()


def edge_agreement(log: CameraLog, camera: str, frame: int, mirror: bool = False) -> float:
    """How much steeper the picture is where the laser sees depth jump along its line than where it does not."""
    import cv2

    assert log.lidar is not None
    assert log.poses is not None
    seen = log.camera(camera)
    now = seen.times[frame]
    sweep = int(np.abs(log.lidar.times - now).argmin())
    then = np.clip(log.lidar.times[sweep], log.poses.times[0], log.poses.times[-1])
    here, there = log.poses.at(np.array([now, then]))
    points = log.lidar.read(sweep)
    if mirror:
        points = points * [1.0, -1.0, 1.0]
    from_points = inverse(here @ seen.ego_from_camera) @ there @ log.lidar.ego_from_lidar
    pixel, depth = project_points(transform_points(from_points, points), seen.calibrated())
    height, width = seen.frames.height, seen.frames.width
    near = np.zeros((height, width), np.float32)
    np.maximum.at(near, (pixel[:, 1].astype(int), pixel[:, 0].astype(int)), 1 / depth.astype(np.float32))
    reach = max(width // 100, 5) | 1
    high = cv2.dilate(near, np.ones((3, reach)))
    far = np.where(near > 0, 1 / np.maximum(near, 1e-6), 0.0).astype(np.float32)
    low = 1 / np.maximum(cv2.dilate(far, np.ones((3, reach))), 1e-6)
    jump = (near > 0) & (high > 1.5 * low)
    grey = cv2.GaussianBlur(seen.frames[frame].astype(np.float32).mean(-1), (0, 0), 2)
    steep = cv2.dilate(np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)), np.ones((3, 5)))
    return float(steep[jump].mean() / steep[(near > 0) & ~jump].mean())


@pytest.mark.parametrize(
    ("folder", "camera"),
    [
        ("kitti_raw_0926_traffic", "image_02"),
        ("ddad_test_scene/scene_02", "CAMERA_01"),
        ("ddad_test_scene/scene_02", "CAMERA_05"),
    ],
)
def test_the_laser_falls_on_the_edges_of_the_picture(
    shared_data: Path, folder: str, camera: str, record_property
):
    log = read(shared_data / folder)
    right, wrong = edge_agreement(log, camera, 0), edge_agreement(log, camera, 0, mirror=True)
    record_property("steepness at jumps of depth, and mirrored", f"{right:.2f}, {wrong:.2f}")
    assert right > 1.15
    assert right > wrong + 0.1


@pytest.mark.parametrize(
    ("folder", "left", "right"),
    [
        ("ddad_test_scene/scene_02", "CAMERA_05", "CAMERA_06"),
        ("nuscenes_sample_scene0061", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT"),
        ("nuscenes_sample_scene0061", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"),
        ("radiate_tiny_foggy", "zed_left", "zed_right"),
    ],
)
def test_cameras_called_left_look_and_sit_left(shared_data: Path, folder: str, left: str, right: str):
    log = read(shared_data / folder)
    a, b = log.camera(left).ego_from_camera, log.camera(right).ego_from_camera
    assert a[1, 3] > b[1, 3]
    if folder != "radiate_tiny_foggy":
        assert a[1, 2] > 0.3 > -0.3 > b[1, 2]
    assert (a[2, 1] < -0.9) & (b[2, 1] < -0.9), "image rows go down"


@pytest.mark.parametrize(
    ("folder", "slowest", "fastest"),
    [("ddad_test_scene/scene_02", 1.0, 2.0), ("nuscenes_sample_scene0061", 2.0, 12.0)],
)
def test_between_pictures_and_sweep_the_car_drives_forward(shared_data: Path, folder, slowest, fastest):
    """The poses come from two kinds of sensors with times and mountings of their own, which have to agree."""
    log = read(shared_data / folder)
    assert check(log).of(Problem.AXES) == ()
    assert log.poses is not None
    poses = log.poses.world_from_ego
    ahead = (inverse(poses[0]) @ poses[-1])[:3, 3]
    speed = ahead[0] / (log.poses.times[-1] - log.poses.times[0])
    assert slowest < speed < fastest
    assert abs(ahead[1]) < 0.1 * ahead[0] + 0.02


def test_radiate_drives_forward_at_the_recorded_speed(shared_data: Path):
    log = read(shared_data / "radiate_tiny_foggy")
    assert log.poses is not None
    assert log.poses.world_from_ego[-1, 0, 3] == pytest.approx(62.0, abs=1.0)
    assert np.median(log.poses.speed()) == pytest.approx(10.5, abs=2.0)
    report = check(log)
    assert report.usable
    assert {finding.problem for finding in report.findings} == {Problem.DROPPED}


def test_a_comma2k19_segment_with_its_video(tmp_path: Path, shared_data: Path):
    segment = tmp_path / "40"
    segment.mkdir()
    (segment / "global_pose").symlink_to(shared_data / "comma2k19_example" / "global_pose")
    write_video(segment / "video.mp4", 1200, gop=100)
    log = read(segment)
    assert log.poses is not None
    assert check(log).findings == ()
    assert len(log.cameras[0].frames) == 1200
    assert log.poses.speed().mean() == pytest.approx(16.88, abs=0.05)
    # The scenario reader found the course of the same drive on its own.
    scenario = recorded_drive()
    heading = np.arctan2(log.poses.world_from_ego[:, 1, 0], log.poses.world_from_ego[:, 0, 0])
    turned, expected = np.unwrap(heading)[-1] - heading[0], np.unwrap(scenario.tracks.heading[0])
    assert turned == pytest.approx(expected[-1] - expected[0], abs=0.03)
    assert abs(log.cameras[0].ego_from_camera[2, 2]) < 0.1, "it looks ahead"
    assert number_of(log.cameras[0].frames[700]) == 700 % 256
    write_video(segment / "video.mp4", 1100, gop=100)
    with pytest.raises(UserError, match="differ in number"):
        read(segment)


def test_a_device_that_looks_down_is_turned_up():
    # Seen from a device that looks down and right, the car goes up and left.
    rotation = comma2k19.ego_from_device(np.array([1.0, -0.05, -0.06]))
    assert rotation @ np.array([1.0, -0.05, -0.06]) == pytest.approx(
        [np.linalg.norm([1.0, -0.05, -0.06]), 0, 0]
    )
    forward = rotation @ [1.0, 0.0, 0.0]
    assert forward[1] < 0
    assert forward[2] < 0


def rig(folder: Path, poses: np.ndarray, **changes) -> Path:
    folder.mkdir()
    write_video(folder / "drive.mp4", len(EVEN), rate=10)
    camera = {
        "name": "front", "video": "drive.mp4", "fx_px": 70, "fy_px": 70, "cx_px": 48, "cy_px": 32,
        "position_m": [1.5, 0, 1.4], "pitch_rad": 0.1,
    }  # fmt: skip
    camera = {key: value for key, value in {**camera, **changes}.items() if value is not None}
    (folder / "rig.json").write_text(json.dumps({"cameras": [camera], "licence": "mine"}))
    rows = np.concatenate([EVEN[:, None], poses[:, :3, 3], quaternion_from_matrix(poses[:, :3, :3])], 1)
    table = "\n".join(",".join(f"{value:.9f}" for value in row) for row in rows)
    (folder / "poses.csv").write_text(f"time_s,x_m,y_m,z_m,qw,qx,qy,qz\n{table}\n")
    return folder


def test_a_recording_of_ones_own(tmp_path: Path):
    log = read(rig(tmp_path / "mine", circle(EVEN)))
    assert log.provenance.licence == "mine"
    assert check(log).findings == ()
    assert log.poses is not None
    assert np.allclose(log.poses.world_from_ego, circle(EVEN), atol=1e-6)
    assert log.cameras[0].ego_from_camera[2, 2] == pytest.approx(-math.sin(0.1)), (
        "a positive pitch looks down"
    )
    assert np.allclose(
        log.world_from_camera("front", np.array([5])), circle(EVEN)[5] @ log.cameras[0].ego_from_camera
    )
    with pytest.raises(UserError, match="no camera 'frnt'"):
        log.camera("frnt")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"video": "../mine.mp4"}, "leads out of the recording"),
        ({"video": "other.mp4"}, "not there"),
        ({"video": None}, "names no frames"),
        ({"times_s": [0.0, 1.0]}, "wrong shape"),
        ({"fx_px": -3}, r"Intrinsics\.fx"),
        ({"fx_px": "wide"}, "fx_px"),
        ({"distortion": [0.1]}, "distortion"),
    ],
)
def test_a_wrong_rig_is_refused_and_named(tmp_path: Path, changes, says):
    with pytest.raises(UserError, match=says):
        read(rig(tmp_path / "mine", circle(EVEN), **changes))


@pytest.mark.parametrize(
    "damage", ["", "1,2,3\n", "a,b,c,d,e,f,g,h\n", "0,0,0,0,1,0,0,nan\n", "0,0,0,0,5,0,0,0\n"]
)
def test_a_wrong_table_of_poses_is_refused_and_named(tmp_path: Path, damage: str):
    folder = rig(tmp_path / "mine", circle(EVEN))
    (folder / "poses.csv").write_text("time_s,x_m,y_m,z_m,qw,qx,qy,qz\n" + damage)
    with pytest.raises(UserError, match="poses"):
        read(folder)


def test_a_bare_video_says_what_it_lacks(tmp_path: Path):
    report = check(read(write_video(tmp_path / "drive.mp4", 30)))
    assert {finding.problem for finding in report.findings} == {Problem.NO_CALIBRATION, Problem.NO_POSES}
    assert not report.usable


@pytest.mark.parametrize("text", ["", "{", '{"cameras": 3}', '{"cameras": []}', "[1]"])
def test_damaged_json_is_refused(tmp_path: Path, text: str):
    (tmp_path / "rig.json").write_text(text)
    with pytest.raises(UserError):
        read(tmp_path)


def test_unknown_folders_are_answered_with_what_is_known(tmp_path: Path):
    with pytest.raises(UserError, match="kitti_odometry"):
        read(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "nothing")


def test_a_scenario_remembers_where_its_frames_lie(tmp_path: Path):
    scenario = dataclasses.replace(recorded_drive(), cameras=Recording("/data/40", 2.5))
    cropped = scenario.crop(10.0, 20.0)
    assert cropped.cameras is not None
    assert (cropped.cameras.path, cropped.cameras.start) == ("/data/40", pytest.approx(12.5, abs=0.1))
    assert scenario.crop(0.0, 20.0).cameras == Recording("/data/40", 2.5)
    assert load(save(scenario, tmp_path / "kept")).cameras == Recording("/data/40", 2.5)
