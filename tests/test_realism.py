"""Realism of reprojected recordings: on real frames, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from countersteer.cli import main
from countersteer.errors import UserError
from countersteer.evaluation.realism import measure_realism
from countersteer.scenarios.cameras import Poses, read
from countersteer.scenarios.depth import DepthSource


def test_a_stereo_recording_reaches_what_it_should(shared_data: Path, tmp_path: Path, capsys):
    out = tmp_path / "realism.json"
    log = str(shared_data / "kitti_odometry_06_stereo")
    assert main(["realism", log, "--pairs", "4", "--size", "613x185", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {"ahead_correlation", "ahead_correlation_p10", "static_correlation", "valid_share"} <= set(found)
    assert found["depth"] == "stereo"
    assert found["ahead_correlation"] > 0.75  # few pairs; docs/experiments.md has all of them
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


def test_one_moving_camera_is_enough_and_the_ground_alone_is_worse(shared_data: Path):
    log = read(shared_data / "kitti_odometry_00_mono")
    sweep, ground = (
        measure_realism(log, pairs=3, size=(414, 125), depth=depth)
        for depth in (DepthSource.SWEEP, DepthSource.GROUND)
    )
    assert sweep.ahead_correlation > 0.86
    assert sweep.ahead_correlation > ground.ahead_correlation
    assert sweep.right_camera_correlation is None
    assert "right_camera_slope" not in sweep.to_json()


def test_poses_that_run_backwards_are_worse_than_no_motion(shared_data: Path):
    import dataclasses

    log = read(shared_data / "kitti_odometry_06_stereo")
    assert log.poses is not None
    world = log.poses.world_from_ego.copy()
    world[:, :3, 3] *= -1
    backwards = dataclasses.replace(log, poses=Poses(log.poses.times, world))
    wrong = measure_realism(backwards, pairs=2, size=(306, 92), depth=DepthSource.STEREO)
    right = measure_realism(log, pairs=2, size=(306, 92), depth=DepthSource.STEREO)
    assert wrong.ahead_correlation < right.ahead_correlation - 0.2


def test_a_log_that_cannot_be_measured_is_refused(shared_data: Path):
    log = read(shared_data / "kitti_odometry_06_stereo")
    with pytest.raises(UserError, match="too close"):
        measure_realism(log, ahead=2)
    with pytest.raises(UserError, match="does not move enough"):
        measure_realism(log, ahead=60)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "does not exist"),
        (["{folder}"], "no camera log of a known format"),
        (["{folder}", "--pairs", "0"], "without a pair"),
        (["{folder}", "--depth", "sonar"], "sonar"),
    ],
)
def test_mistakes_on_the_command_line_are_answered(tmp_path: Path, capsys, arguments, says):
    filled = [argument.format(folder=tmp_path) for argument in arguments]
    assert main(["realism", *filled]) == 2
    assert says in capsys.readouterr().err


def test_a_bare_video_cannot_be_measured(shared_data: Path, capsys):
    assert main(["realism", str(shared_data / "udacity_highway" / "solidWhiteRight.mp4")]) == 2
    assert "cannot be rendered from yet" in capsys.readouterr().err
