"""`countersteer bench` measures what it says, and says what it cannot."""

from __future__ import annotations

import json

import pytest

from countersteer.commands import cli
from countersteer.errors import UserError
from countersteer.evaluation.speed import STAGES, crossroads, measure, with_cars
from countersteer.geometry.cameras import Camera


def test_every_stage_has_a_row_with_what_was_measured(tmp_path, capsys):
    file = tmp_path / "rows.json"
    sizes = ["--sizes", "16x8", "32x16", "--cameras", "2", "--threads", "1", "--seconds", "0.05"]
    world = ["--worlds", "3", "--agents", "2", "--count", "2"]
    assert cli.main(["bench", *world, *sizes, "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert [row["stage"] for row in rows] == ["state", "render", "render", "full", "full"]
    assert [(row["cameras"], row["width"]) for row in rows] == [(0, 0), (2, 16), (2, 32), (2, 16), (2, 32)]
    assert all(row["agent_steps_per_s"] > 0 and row["agent_steps_per_cpu_s"] > 0 for row in rows)
    assert all((row["worlds"], row["agents"], row["scenes"]) == (3, 2, 2) for row in rows)
    assert "car steps/s" in capsys.readouterr().out


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_how_many_actors_there_are(stage):
    scenes = crossroads(1, 1)
    row = measure(stage, scenes, worlds=2, agents=1, cameras=(Camera(width=8, height=4),), seconds=0.02)
    assert row.boxes == len(scenes[0].tracks.ids)


def test_what_cannot_be_measured_is_said(capsys):
    with pytest.raises(UserError, match="no scene has 500 cars"):
        with_cars(crossroads(1, 1), 500)
    with pytest.raises(UserError, match="no such stage"):
        measure("all", crossroads(1, 1), worlds=1, agents=1)
    assert cli.main(["bench", "--sizes", "128"]) == 2
    assert cli.main(["bench", "--threads", "4096", "--count", "1", "--agents", "1"]) == 2
    assert cli.main(["bench", "--device", "cuda:77"]) == 2
    assert "WIDTHxHEIGHT" in capsys.readouterr().err
