"""Judging self-play: rows, page and command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from countersteer.commands.cli import main
from countersteer.drivers.drivers import ConstantVelocityDriver
from countersteer.errors import UserError
from countersteer.evaluation.benchmarks import BENCHMARKS
from countersteer.evaluation.failures import explain_suite
from countersteer.evaluation.population import FAILURES, Population, SelfPlaySuite
from countersteer.evaluation.records import SuiteResult
from countersteer.evaluation.replay import load_replay, save_replay
from countersteer.evaluation.scoring import score_suite
from countersteer.policies.planner import CNNPlanner
from countersteer.policies.storage import load_policy, save_policy
from countersteer.policies.teacher import SetActorCritic, SetActorCriticSpec
from countersteer.recipes.self_play import roads, self_play_teacher, self_play_world
from countersteer.reporting.population_film import ego_of, film_population
from countersteer.reporting.population_report import PopulationRow, write_population_report
from countersteer.reporting.run_report import pretrained_policy
from countersteer.reporting.watch import write_viewer
from countersteer.rewards.weights import RewardWeights
from countersteer.worlds.interface import TerminationReason


def population(*causes: TerminationReason, progress: float = 0.5) -> Population:
    """One car a scene, ended so."""
    count = len(causes)
    made = np.where([cause == TerminationReason.GOAL for cause in causes], 1.0, progress)
    return Population(
        scene=np.arange(count),
        cause=np.array([int(cause) for cause in causes]),
        progress=made,
        red_lights=np.zeros(count, int),
        uncomfortable=np.zeros(count),
        speed=np.full(count, 8.0),
        score=np.where([cause in FAILURES for cause in causes], 0.0, made),
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


@pytest.fixture(scope="module")
def driven() -> tuple[SelfPlaySuite, SuiteResult]:
    """Two generated roads in which everybody keeps heading and speed."""
    world = self_play_world(4).simulate(vector_dropout=(0.0, 0.0))
    suite = SelfPlaySuite(world, tuple(roads(2, seed=3).load()))
    return suite, suite.drive("straight on", ConstantVelocityDriver())


def test_every_car_that_begins_is_a_case_with_its_record(driven: tuple[SelfPlaySuite, SuiteResult]):
    suite, result = driven
    assert len({case.case for case in result.cases}) == len(result.cases) == len(result.records) > 4
    assert len({record.slot for record in result.records}) == 4
    found = Population.of(suite, result)
    for case, record, score in zip(result.cases, result.records, found.score, strict=True):
        # The car itself is the actor `slot`; its box is ahead of its rear axle.
        place = record.actors[0, record.slot]
        assert 1.0 < np.linalg.norm(place[:2] - record.position[0]) < 8.0
        assert place[3:5].tolist() == list(record.size)
        assert record.slot not in record.others
        assert record.goal is not None
        arrived = record.cause[-1] == TerminationReason.GOAL
        assert case.passed is bool(arrived)
        assert arrived == (record.failure is None and record.arc[-1] > record.goal - 8.0)
        # The last row is how the drive ended.
        assert not record.alive[-1]
        share = 1.0 if arrived else min(max(record.arc[-1] / record.goal, 0.0), 1.0)
        assert score == pytest.approx(0.0 if record.failure else share * 0.7 ** record.red_light.sum())
    failed = [case.passed is False for case in result.cases]
    assert any(failed)
    assert [failure is not None for failure in explain_suite(result)] == failed


def test_cars_of_one_world_share_their_actors_in_a_replay_too(
    driven: tuple[SelfPlaySuite, SuiteResult], tmp_path: Path
):
    _, result = driven
    again = load_replay(save_replay(result, tmp_path / "all.replay"))
    assert again.cases == result.cases
    for before, after in zip(result.records, again.records, strict=True):
        for field in dataclasses.fields(before):
            kept, loaded = getattr(before, field.name), getattr(after, field.name)
            if isinstance(kept, np.ndarray):
                assert np.array_equal(kept, loaded, equal_nan=True), field.name
            elif field.name == "scenario":
                assert kept.fingerprint() == loaded.fingerprint()
            else:
                assert kept == loaded, field.name
    tables = {id(record.actors) for record in again.records}
    assert len(tables) == len({record.scenario.id for record in again.records})
    page = write_viewer(tmp_path / "watch.html", again)
    assert again.cases[0].case in page.read_text()
    values = {score.benchmark: score.value for score in score_suite(again, BENCHMARKS)}
    assert values["carla_2_0"] is not None
    assert 0.0 < values["carla_2_0"] < 100.0
    # There is no recorded driver to compare with.
    assert values["nuplan"] is None


def test_a_film_shows_every_car_from_the_records(driven: tuple[SelfPlaySuite, SuiteResult], tmp_path: Path):
    _, result = driven
    first = [record for record in result.records if record.actors is result.records[0].actors]
    ego = ego_of(first)
    film = film_population(first, ego, title="straight on", path=tmp_path / "film.mp4")
    assert film.stat().st_size > 10_000
    with pytest.raises(UserError, match=r"film\.gif"):
        film_population(first, ego, title="", path=tmp_path / "film.gif")


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
    spec = self_play_teacher().stage.policy
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
                "--keep",
                str(tmp_path / "teacher.replay"),
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
    assert load_replay(tmp_path / "teacher.replay").driver == names[2]
