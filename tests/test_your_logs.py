"""A user's own logs: two commands from recordings to a trained policy, and its report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import recordings
from countersteer.commands import cli
from countersteer.data.samples import recorded_drive
from countersteer.data.sources import ScenarioFolder
from countersteer.errors import UserError
from countersteer.policies.weights import Weights
from countersteer.recipes import closed_loop, reprojection, self_play
from countersteer.scenarios import storage
from countersteer.training.run import load_recipe

TINY = [
    "--policy.channels",
    "4",
    "8",
    "--policy.features",
    "8",
    "--policy.hidden",
    "16",
    "--policy.history",
    "1",
    "--rollouts.iterations",
    "2",
    "--rollouts.total_frames",
    "24",
    "--rollouts.num_worlds",
    "2",
    "--optim.sequence_length",
    "4",
    "--optim.batch_size",
    "2",
    "--optim.steps",
    "6",
    "--optim.warmup",
    "2",
]
"""A recipe in seconds."""


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Path:
    """A folder as a user may have it: two short drives, one without an ego, and one that stands."""
    folder = tmp_path_factory.mktemp("logs")
    whole = recorded_drive()
    for name, start in (("first", 3.0), ("second", 20.0)):
        part = whole.crop(start, start + 9.0)
        storage.save(dataclasses.replace(part, id=name), folder / name)
    part = whole.crop(30.0, 39.0)
    storage.save(dataclasses.replace(part, id="nobody", ego=None, route=None), folder / "nobody")
    parked = dataclasses.replace(
        part.tracks, position=0 * part.tracks.position, velocity=0 * part.tracks.velocity
    )
    storage.save(dataclasses.replace(part, id="parked", tracks=parked, route=None), folder / "parked")
    return folder


@pytest.fixture(scope="module")
def imported(logs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("imported")
    assert cli.main(["data", "import", str(logs), "--out", str(out)]) == 0
    return out


def test_recorded_scenarios_train_a_policy_that_is_evaluated_and_reported(imported, tmp_path, capsys):
    run = tmp_path / "run"
    line = ["train", "on_policy", "--scenarios", str(imported), "--out", str(run), *TINY]
    assert cli.main(line) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "2 of 4 scenarios" in told
    assert told.count("left out") == 2
    recipe, _ = load_recipe(run)
    assert recipe.stage.scenarios == ScenarioFolder(str(imported), left_out=("nobody", "parked"))
    assert [scenario.id for scenario in recipe.stage.scenarios.load()] == ["first", "second"]
    assert recipe.stage.optim.steps == 6
    trained_in = json.loads((run / "run.json").read_text())["scenarios"]
    assert set(trained_in) == {"first", "second"}

    table = tmp_path / "recorded.json"
    line = ["evaluate", str(run), "--suite", "recorded", "--scenarios", str(imported), "--json", str(table)]
    assert cli.main(line) == 0, capsys.readouterr().err
    cases = [case["case"] for case in json.loads(table.read_text())["cases"]]
    assert {"first replay", "first idm", "second replay", "second idm"} <= set(cases)
    assert cli.main(["compare", str(run)]) == 0


def test_other_recipes_drive_in_them_too(imported):
    told: list[str] = []
    recipe = self_play.on_scenarios(
        self_play.self_play_single(Weights("runs/teacher")), imported, told.append
    )
    assert isinstance(recipe.stage.scenarios, ScenarioFolder)
    assert len(told) == 3
    with pytest.raises(UserError, match="can be driven"):
        closed_loop.on_scenarios(closed_loop.clone(), imported / "nobody", told.append)


def test_a_camera_log_trains_a_policy_that_sees_with_its_camera(tmp_path, capsys):
    log, run = recordings.camera_log(tmp_path / "mine"), tmp_path / "run"
    assert cli.main(["train", "reprojection", "--scenarios", str(log), "--out", str(run), *TINY]) == 0, (
        capsys.readouterr().err
    )
    recipe, _ = load_recipe(run)
    (camera,) = recipe.stage.policy.cameras
    assert recipe.stage.equipped_world.cameras == (camera,)
    assert (camera.width, camera.height) == (128, 48)
    assert camera.position == pytest.approx((1.5, 0.0, 1.4))
    assert camera.pitch == pytest.approx(0.1)
    assert [source.path for source in recipe.stage.scenarios.sources] == [str(log)]
    assert cli.main(["evaluate", str(run), "--suite", "recorded"]) == 0, capsys.readouterr().err


def test_of_a_folder_of_camera_logs_those_that_lack_poses_are_left_out(tmp_path):
    told: list[str] = []
    good, bad = recordings.camera_log(tmp_path / "a"), recordings.camera_log(tmp_path / "b")
    (bad / "poses.csv").write_text("time_s,x_m,y_m,z_m,qw,qx,qy,qz\n")
    recipe = reprojection.on_scenarios(reprojection.reprojection(), tmp_path, told.append)
    assert [source.path for source in recipe.stage.scenarios.sources] == [str(good)]
    assert len(told) == 1
    assert "poses" in told[0]
    with pytest.raises(UserError, match="poses"):
        reprojection.on_scenarios(reprojection.reprojection(), bad, told.append)


def test_recordings_without_a_map_get_a_road(tmp_path):
    storage.save(recorded_drive().crop(0.0, 9.0), tmp_path / "drive")
    (scenario,) = ScenarioFolder(str(tmp_path)).load()
    assert scenario.road.features
    assert np.isfinite(scenario.route).all()
