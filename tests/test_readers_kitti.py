"""KITTI odometry poses: from the camera's frame to ours, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from countersteer.data.readers import kitti_poses as kitti
from countersteer.data.readers import read, scan
from countersteer.errors import UserError
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.geometry.polylines import curvatures
from countersteer.scenarios.scenario import Scenario
from fuzzing.mutations import damaged
from recordings import COUNT, ego_heading, ego_path, ego_velocity, kitti_poses
from test_readers_fuzz import answer

AHEAD = kitti.CAMERA_AHEAD_OF_REAR_AXLE - rear_axle_to_center(kitti.CAR_SIZE[0])


def story() -> str:
    return kitti_poses(ahead=AHEAD, height=kitti.CAMERA_HEIGHT)


def test_poses_are_read(tmp_path: Path):
    """Forward is x, left is y, up is z; the left turn stays a left turn; the box stands on the ground."""
    (tmp_path / "drive").mkdir()
    path = tmp_path / "drive" / "poses.txt"
    path.write_text(story())
    drive = read(path)
    start = np.array([AHEAD, 0.0])  # the source's origin is its first camera
    moved = drive.tracks.position[0, :, :2] + start
    assert drive.id == "drive"
    assert moved - moved[0] == pytest.approx(ego_path(), abs=1e-6)
    assert drive.tracks.heading[0] == pytest.approx(ego_heading(), abs=1e-6)
    assert drive.tracks.velocity[0, 5] == pytest.approx(ego_velocity()[5], abs=0.02)
    assert np.ptp(drive.tracks.position[0, :, 2]) == pytest.approx(0.0, abs=1e-6)
    assert drive.route is not None
    assert curvatures(drive.route)[5] == pytest.approx(0.2 / 8.0, rel=0.1)
    assert not drive.road.features


def test_gzip_names_and_times(tmp_path: Path):
    """`NN.txt.gz` is named by its number; times are read from where the data set keeps them."""
    (tmp_path / "poses").mkdir()
    path = tmp_path / "poses" / "04.txt.gz"
    path.write_bytes(gzip.compress(story().encode()))
    assert scan(tmp_path) == [path]
    drive = read(path)
    assert drive.id == "kitti-odometry-04"
    assert drive.times == pytest.approx(0.1 * np.arange(COUNT))
    folder = tmp_path / "sequences" / "04"
    folder.mkdir(parents=True)
    (folder / "times.txt").write_text("".join(f"{0.11 * k:e}\n" for k in range(COUNT)))
    assert read(path).times == pytest.approx(0.11 * np.arange(COUNT))
    (folder / "times.txt").write_text("0.0\n0.1\n")
    with pytest.raises(UserError, match=r"times.txt.*fewer times than there are poses"):
        read(path)


def edited(line: int, word: int, text: str) -> str:
    lines = [row.split() for row in story().splitlines()]
    lines[line][word] = text
    return "\n".join(" ".join(row) for row in lines)


def with_axes(turn: np.ndarray) -> str:
    """The poses with the axes of the camera turned by a rotation."""
    rows = [np.array(row.split(), float).reshape(3, 4) for row in story().splitlines()]
    turned = [np.concatenate([turn @ row[:, :3] @ turn.T, turn @ row[:, 3:]], 1) for row in rows]
    return "\n".join(" ".join(str(value) for value in row.ravel()) for row in turned)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (edited(5, 0, "0.5"), "pose 5 holds no rotation"),
        (edited(5, 3, "nan"), "line 6 is not finite"),
        (edited(5, 3, "x"), "line 6 is not a row of numbers"),
        (edited(5, 3, "1.0 2.0"), "line 6 has the wrong length"),
        (edited(5, 3, "1e9"), "line 6.*out of range"),
        (edited(5, 11, "500"), "position of track 'ego' jumps"),
        (with_axes(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]).T), "do not look where the car goes"),
    ],
)
def test_wrong_poses_are_named(tmp_path: Path, text: str, says: str):
    """Damage is named by its line or pose; poses of a lidar, x forward, are recognised."""
    path = tmp_path / "00.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=f"00.txt.*{says}"):
        read(path)


def test_damaged_files_are_refused_or_read(tmp_path: Path):
    rng = np.random.default_rng(24)
    plain = story().encode()
    packed = gzip.compress(plain)
    answers = set()
    for turn in range(200):
        path = tmp_path / "00.txt"
        path.write_bytes(damaged(packed if turn % 4 == 0 else plain, rng))
        answers.add(answer(kitti.READER.read, path))
        kitti.READER.matches(path)
    assert answers == {"read", "refused"}


def test_other_text_is_not_taken_for_poses(tmp_path: Path):
    """A calibration file, a table of numbers, a mirrored axis: none of them is a list of rotations."""
    mirrored = "\n".join(["-1 0 0 0 0 1 0 0 0 0 1 0"] * 3)
    for text in ("P0: 1 0 0 0 0 1 0 0 0 0 1 0\n", "1 2 3 4 5 6 7 8 9 10 11 12\n" * 3, mirrored, ""):
        (tmp_path / "a.txt").write_text(text)
        assert scan(tmp_path) == []


def real(shared_data: Path, name: str) -> Scenario:
    path = shared_data / name
    if not path.exists():
        pytest.skip(f"recorded poses are not here: {path}")
    return read(path)


def test_a_real_right_turn_is_one(shared_data: Path):
    """The residential street of sequence 00 bends 86 degrees to the right; its rear axle does not slide."""
    drive = real(shared_data, "kitti_odometry_00_mono/poses.txt")
    turn = np.unwrap(drive.tracks.heading[0])
    assert np.degrees(turn[-1] - turn[0]) == pytest.approx(-86.0, abs=2.0)
    whole = real(shared_data, "kitti_odometry_poses/00.txt.gz")
    assert whole.tracks.position[0, :151] == pytest.approx(drive.tracks.position[0], abs=1e-4)


@pytest.mark.parametrize("number", ["00", "02", "05", "06", "07", "08"])
def test_the_rear_axle_is_where_the_car_does_not_slide(shared_data: Path, number: str):
    drive = real(shared_data, f"kitti_odometry_poses/{number}.txt.gz")
    heading = np.unwrap(drive.tracks.heading[0])
    rate = np.gradient(heading, drive.times)
    velocity = np.gradient(drive.tracks.position[0, :, :2], drive.times, axis=0)
    sideways = velocity[:, 1] * np.cos(heading) - velocity[:, 0] * np.sin(heading)
    lever = float((sideways @ rate) / (rate @ rate))
    assert lever == pytest.approx(rear_axle_to_center(kitti.CAR_SIZE[0]), abs=0.35)
