"""Judging self-play: rows, page and command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from countersteer.commands.cli import main
from countersteer.errors import UserError
from countersteer.evaluation.population import Population
from countersteer.policies.planner import CNNPlanner
from countersteer.policies.storage import load_policy, save_policy
from countersteer.policies.teacher import SetActorCritic, SetActorCriticSpec
from countersteer.recipes.self_play import self_play_teacher
from countersteer.reporting.population_report import PopulationRow, write_population_report
from countersteer.reporting.study import pretrained_policy
from countersteer.rewards.weights import RewardWeights
from countersteer.worlds.interface import TerminationReason


def population(*causes: TerminationReason, progress: float = 0.5) -> Population:
    """One car a scene, ended so."""
    count = len(causes)
    return Population(
        scene=np.arange(count),
        cause=np.array([int(cause) for cause in causes]),
        progress=np.where([cause == TerminationReason.GOAL for cause in causes], 1.0, progress),
        red_lights=np.zeros(count, int),
        uncomfortable=np.zeros(count),
        speed=np.full(count, 8.0),
    )


def test_a_row_says_who_arrived_and_who_failed_how():
    row = PopulationRow.of(
        "a",
        population(
            TerminationReason.GOAL,
            TerminationReason.GOAL,
            TerminationReason.COLLISION,
            TerminationReason.OFF_ROAD,
            TerminationReason.OFF_ROAD,
            TerminationReason.TIME,
        ),
    )
    assert row.cars == 6
    assert row.failed == pytest.approx(3 / 6)
    assert row.causes() == [("off_road", pytest.approx(2 / 6)), ("collision", pytest.approx(1 / 6))]
    # Two whole ways, half a way when the time was up, nothing for failures.
    assert row.shares["score"] == pytest.approx(2.5 / 6)
    assert row.intervals["goal"][0] < 2 / 6 < row.intervals["goal"][1]
    assert json.loads(json.dumps(row.to_json()))["score_interval"] == list(row.intervals["score"])
    assert "goals  33.3%" in str(row)


def test_the_page_shows_rows_and_film_and_loads_nothing(tmp_path: Path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"not looked at")
    rows = [
        PopulationRow.of("straight on", population(TerminationReason.GOAL)),
        PopulationRow.of("<b>", population(TerminationReason.OFF_ROUTE)),
        PopulationRow.of("in a hurry", population(TerminationReason.GOAL), {"velocity": 1.0}),
    ]
    page = write_population_report(
        tmp_path / "page.html", rows, where="2 roads", film=film, filmed="x", commits={"run": "abc"}
    ).read_text()
    assert "100.0" in page
    assert page.index("Asked to drive otherwise") < page.index("in a hurry")
    assert "8.0\u20138.0" in page  # [m/s]
    assert "&lt;b&gt;" in page
    assert "data:video/mp4;base64,bm90IGxvb2tlZCBhdA==" in page
    assert "http://" not in page and "https://" not in page  # noqa: PT018
    with pytest.raises(UserError, match="nothing to show"):
        write_population_report(tmp_path / "page.html", [], where="")
    with pytest.raises(UserError, match=r"page\.txt"):
        write_population_report(tmp_path / "page.txt", rows, where="")


def test_mistakes_are_answered_before_anything_is_driven(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", str(tmp_path / "nothing"), "--suite", "self_play"]) == 2
    assert "no finished policy" in capsys.readouterr().err
    assert main(["evaluate", "x", "--suite", "self_play", "--worlds", "0"]) == 2


def test_the_shipped_teacher_and_student_are_small_and_from_generated_roads_alone():
    size = 0
    for recipe, kind in (("self_play", CNNPlanner), ("self_play_teacher", SetActorCritic)):
        path = pretrained_policy(recipe)
        policy, metadata = load_policy(path)
        assert isinstance(policy, kind)
        assert metadata["recipe"] == recipe
        assert len(metadata["environment"]["commit"]) == 40
        roads = {name.split("-")[0] for name in metadata["environment"]["scenarios"]}
        assert roads <= {"gentle", "tight", "s_curve", "ramp", "street", "junction", "intersection"}, roads
        size += path.stat().st_size
    assert size < 10e6


@pytest.mark.slow
def test_the_command_drives_everybody_and_writes_page_table_and_film(tmp_path: Path):
    torch.manual_seed(0)
    spec = self_play_teacher().policy
    assert isinstance(spec, SetActorCriticSpec)
    save_policy(
        tmp_path / "teacher.safetensors", spec.build(), "self_play_teacher", 3, 0.0, {"commit": "abc"}
    )
    out = tmp_path / "page.html"
    assert (
        main(
            [
                "evaluate",
                str(tmp_path / "teacher.safetensors"),
                "--suite",
                "self_play",
                "--worlds",
                "2",
                "--conditions",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    rows = json.loads(out.with_suffix(".json").read_text())
    names = [row["name"] for row in rows]
    assert names[:3] == ["straight on", "rules", "self_play_teacher, seed 3"]
    low, high = RewardWeights().collision
    assert [names[3], names[7]] == [f"self_play_teacher, seed 3, collision {each:g}" for each in (low, high)]
    assert rows[7]["asked"] == {"collision": high}
    more, least, most = rows[7]["more"]["speed"]
    assert least <= more <= most
    assert more == pytest.approx(rows[7]["speed"] - rows[3]["speed"])
    assert "more" not in rows[3]
    assert len({row["cars"] for row in rows}) == 1
    assert out.with_suffix(".mp4").stat().st_size > 10_000
