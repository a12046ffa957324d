"""Realism of reprojected recordings: on real frames, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from countersteer.commands.cli import main
from countersteer.data.cameras import Poses, read
from countersteer.errors import UserError
from countersteer.evaluation.realism import measure_realism
from countersteer.reconstruction.depth import DepthSource


def at_half_size(recording: Path, to: Path, frames: int = 21) -> Path:
    """The beginning of a KITTI odometry recording: depth costs by the pixel and by the frame."""
    import cv2

    rows = [np.array(row.split(), float) for row in (recording / "calib.txt").read_text().splitlines()]
    for row in rows:
        row[:8] /= 2
        row[[2, 6]] -= 0.25  # pixel centres lie at whole numbers
    for folder in sorted(recording.glob("image_*")):
        (to / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:frames]:
            picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            assert picture is not None
            half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(to / folder.name / f"{file.stem}.png"), half)
    (to / "calib.txt").write_text("".join(" ".join(map(repr, row.tolist())) + "\n" for row in rows))
    poses = (recording / "poses.txt").read_text().splitlines(keepends=True)
    (to / "poses.txt").write_text("".join(poses[:frames]))
    return to


@pytest.fixture(scope="module")
def two_cameras(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KITTI 06: a straight street, a stereo pair."""
    return at_half_size(shared_data / "kitti_odometry_06_stereo", tmp_path_factory.mktemp("stereo"))


@pytest.fixture(scope="module")
def one_camera(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KITTI 00."""
    return at_half_size(shared_data / "kitti_odometry_00_mono", tmp_path_factory.mktemp("mono"))


def test_a_stereo_recording_reaches_what_it_should(two_cameras: Path, tmp_path: Path, capsys):
    out = tmp_path / "realism.json"
    assert main(["view-metrics", str(two_cameras), "--pairs", "4", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {"ahead_correlation", "ahead_correlation_p10", "static_correlation", "valid_share"} <= set(found)
    assert found["depth"] == "stereo"
    assert found["ahead_correlation"] > 0.75  # few pairs; docs/log/2026-11-22-reprojection.md has all of them
    assert found["ahead_correlation"] > found["static_correlation"] + 0.2
    assert found["valid_share"] > 0.75
    assert found["around_valid_share"] > found["valid_share"]
    assert 0.0 < found["ahead_detail"] < found["ahead_correlation"], "detail is what suffers"
    fills = {fill["by"]: fill for fill in found["fills"]}
    assert fills["painting"]["correlation"] > fills["nothing"]["correlation"] + 0.1
    assert fills["nothing"]["hole_correlation"] == 0.0
    assert fills["the frame beyond"]["hole_detail"] > fills["painting"]["hole_detail"] + 0.1
    assert found["right_camera_correlation"] > 0.9
    assert found["right_camera_slope"] == pytest.approx(1.0, abs=0.06)


def test_one_moving_camera_is_enough_and_the_ground_alone_is_worse(one_camera: Path):
    log = read(one_camera)
    sweep, ground = (
        measure_realism(log, pairs=3, depth=depth) for depth in (DepthSource.SWEEP, DepthSource.GROUND)
    )
    assert sweep.ahead_correlation > 0.8
    assert sweep.ahead_correlation > ground.ahead_correlation
    assert sweep.right_camera_correlation is None
    assert "right_camera_slope" not in sweep.to_json()


def test_poses_that_run_backwards_are_worse_than_no_motion(two_cameras: Path):
    import dataclasses

    log = read(two_cameras)
    assert log.poses is not None
    world = log.poses.world_from_ego.copy()
    world[:, :3, 3] *= -1
    backwards = dataclasses.replace(log, poses=Poses(log.poses.times, world))
    wrong = measure_realism(backwards, pairs=2, depth=DepthSource.STEREO)
    right = measure_realism(log, pairs=2, depth=DepthSource.STEREO)
    assert wrong.ahead_correlation < right.ahead_correlation - 0.2


def test_a_log_that_cannot_be_measured_is_refused(two_cameras: Path):
    log = read(two_cameras)
    with pytest.raises(UserError, match="too close"):
        measure_realism(log, ahead=2)
    with pytest.raises(UserError, match="does not move enough"):
        measure_realism(log, ahead=60)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "does not exist"),
        (["{folder}"], "no camera log of a known format"),
        (["{folder}", "--pairs", "0"], "out of range"),
        (["{folder}", "--depth", "sonar"], "sonar"),
    ],
)
def test_mistakes_on_the_command_line_are_answered(tmp_path: Path, capsys, arguments, says):
    filled = [argument.format(folder=tmp_path) for argument in arguments]
    assert main(["view-metrics", *filled]) == 2
    assert says in capsys.readouterr().err


def test_a_bare_video_cannot_be_measured(shared_data: Path, capsys):
    assert main(["view-metrics", str(shared_data / "udacity_highway" / "solidWhiteRight.mp4")]) == 2
    assert "cannot be rendered from yet" in capsys.readouterr().err
