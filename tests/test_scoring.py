"""Scores of a suite: means with intervals, what is not defined, comparisons, and what the command line says."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from countersteer.commands import cli
from countersteer.errors import UserError
from countersteer.evaluation.benchmarks import BENCHMARKS
from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.evaluation.replay import load_replay, save_replay
from countersteer.evaluation.results import (
    compare_scores,
    kept_evaluations,
    read_result,
    write_result,
    write_scores,
)
from countersteer.evaluation.scoring import DriveScore, SuiteScore, paired_difference, score_suite
from countersteer.evaluation.statistics import wilson_interval
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import ActorKind, RoadMap
from countersteer.worlds.interface import TerminationReason
from test_scores_from_record import record, straight_road

BY_NAME = {benchmark.name: benchmark for benchmark in BENCHMARKS}


def result(*records: DriveRecord, driver: str = "clone") -> SuiteResult:
    cases = tuple(CaseResult(f"case {k}", True, "", None, {}) for k in range(len(records)))
    return SuiteResult("keeping", driver, "keeping v1 01", cases, records)


def drives(*values: float | None, scenarios: tuple[str, ...] | None = None, best: float = 1.0) -> SuiteScore:
    """A score of drives with these values, each in a scenario of its own unless named."""
    names = scenarios or tuple(f"s{k}" for k in range(len(values)))
    scored = tuple(
        DriveScore(
            f"c{k}", name, True, value, {"part": value}, undefined="" if value is not None else "no map"
        )
        for k, (value, name) in enumerate(zip(values, names, strict=True))
    )
    return SuiteScore("nuplan", "v1", best, scored)


def at_log_speed(*, ticks: int = 45, **changes: object) -> DriveRecord:
    """A clean drive along a straight road, one car ahead."""
    return dataclasses.replace(record(straight_road(), ticks=ticks), **changes)


@pytest.fixture(scope="module")
def clean() -> tuple[SuiteScore, ...]:
    return score_suite(result(at_log_speed()), BENCHMARKS)


def test_every_score_of_a_drive_is_defined_and_says_which_parts_are_not(clean):
    assert [score.benchmark for score in clean] == list(BY_NAME)
    assert all(score.drives[0].undefined == "" for score in clean)
    by_name = {score.benchmark: score.drives[0] for score in clean}
    # No light stands on this road, and nobody planned two frames: neither is 1.
    assert by_name["navsim_v2"].parts["traffic_light"] is None
    assert by_name["navsim_v2"].parts["extended_comfort"] is None
    assert by_name["carla_2_1"].parts["red_lights"] is None
    assert by_name["navsim_v2"].parts["no_collision"] == 1.0
    assert by_name["navsim_v1"].parts["driven"] == 1.0


def test_what_a_drive_lacks_makes_a_score_not_defined_with_the_reason():
    driven = at_log_speed()
    bare = dataclasses.replace(driven.scenario, road=RoadMap())
    nobody = dataclasses.replace(driven.scenario, ego=None)
    for scenario, reason in ((bare, "lanes"), (nobody, "recorded driver")):
        (score,) = score_suite(result(dataclasses.replace(driven, scenario=scenario)), [BY_NAME["navsim_v1"]])
        assert score.value is None
        assert score.interval is None
        assert reason in score.drives[0].undefined
    (score,) = score_suite(result(dataclasses.replace(driven, plan_times=None)), [BY_NAME["hugsim"]])
    assert "plans" in score.drives[0].undefined


def test_a_drive_that_fails_early_is_not_better_than_one_that_goes_on():
    """Lost after 6 of 12 s: one of three scenes was driven, and the other two count 0."""
    half = dataclasses.replace(
        at_log_speed(ticks=121),
        alive=np.arange(121) < 60,
        cause=np.where(np.arange(121) < 60, 0, int(TerminationReason.OFF_ROUTE)),
    )
    (score,) = score_suite(result(half), [BY_NAME["navsim_v1"]])
    (drive,) = score.drives
    assert drive.value is not None
    assert drive.value <= 1 / 3
    (driven,) = [f for f in drive.findings if f.part == "driven"]
    assert driven.value == pytest.approx(1 / 3)
    assert "off route" in driven.note
    at_once = dataclasses.replace(
        half,
        alive=np.arange(121) < 1,
        cause=np.where(np.arange(121) < 1, 0, int(TerminationReason.OFF_ROUTE)),
    )
    for score in score_suite(result(at_once), BENCHMARKS):
        assert score.drives[0].value == (0.0 if score.best else None)


def test_actors_of_findings_are_slots_of_the_record():
    """The car ahead is slot 1 of the record, actor 0 of the drive that scores read."""
    driven = at_log_speed()
    actors = driven.actors.copy()
    actors[:, 1, :2] = driven.position[40]  # stands on the way
    hit = dataclasses.replace(driven, actors=actors)
    (score,) = score_suite(result(hit), [BY_NAME["nuplan"]])
    (contact,) = [f for f in score.drives[0].findings if f.part == "no_collision"]
    assert contact.actors == (1,)
    assert contact.tick is not None
    gap = np.linalg.norm(driven.position[contact.tick] - actors[0, 1, :2])
    assert gap < 6.0, "the tick is that of the contact"


def test_a_score_comes_back_from_its_file_and_from_a_replay_to_the_bit(tmp_path, clean):
    again = [SuiteScore.from_json(json.loads(json.dumps(score.to_json()))) for score in clean]
    assert repr(again) == repr(list(clean))
    driven = result(crash(FREE, 13))
    kept = save_replay(driven, tmp_path / "a.replay")
    once, twice = (score_suite(load_replay(kept, frames=False), BENCHMARKS) for _ in range(2))
    assert repr(once) == repr(twice) == repr(score_suite(driven, BENCHMARKS))
    assert any(
        f.part == "no_collision" for s in once if s.benchmark == "nuplan" for f in s.drives[0].findings
    )
    with pytest.raises(UserError, match="right fields"):
        SuiteScore.from_json({"benchmark": "nuplan"})


def test_the_mean_is_over_drives_that_count_and_its_interval_over_scenarios():
    """Two drives of one scenario are one piece of evidence, and drives without a value are none."""
    score = drives(0.5, 1.0, 0.0, None, scenarios=("a", "b", "a", "c"))
    assert score.value == pytest.approx(0.5)
    assert score.parts["part"] == (pytest.approx(0.5), 3)
    assert drives(0.2, 0.9).interval == pytest.approx(
        (0.2, 0.9)
    )  # of two scenarios, either may be drawn twice
    assert drives(0.2, 0.9, scenarios=("a", "a")).interval is None
    assert drives(None).value is None
    # All at the best value: a bootstrap would claim certainty.
    assert drives(*[100.0] * 8, best=100.0).interval == pytest.approx(
        tuple(100 * end for end in wilson_interval(8, 8))
    )


def test_drivers_are_compared_on_what_both_have(tmp_path):
    a = drives(1.0, 0.8, 0.6, None)
    b = drives(0.5, 0.5, 0.5, 0.5)
    paired = paired_difference([a], [b])
    assert paired.mean == pytest.approx(0.3)
    assert paired.scenarios == 3
    assert paired.p == pytest.approx(2 / 8)  # all of three signs alike
    with pytest.raises(UserError, match="different definitions"):
        paired_difference([a], [dataclasses.replace(b, reference="v2")])


def test_stored_scores_are_compared_unless_the_protocols_differ(tmp_path):
    for name, driver, value, protocol in (
        ("a", "clone", 0.5, "p1"),
        ("b", "on_policy", 0.9, "p1"),
        ("c", "perturb", 0.9, "p2"),
    ):
        one = dataclasses.replace(result(driver=driver), protocol=protocol)
        write_result(tmp_path / name / "evaluation" / "keeping.json", one, seed=1)
        write_scores(tmp_path / name, one, [drives(value, value / 2)])
        _, extra = read_result(tmp_path / name / "evaluation" / "keeping.json")
        assert extra["seed"] == 1, "what stood there stays"
    rows = compare_scores(kept_evaluations([tmp_path / "a", tmp_path / "b"]))
    assert [(row.driver, row.score.value) for row in rows] == [
        ("clone", 0.375),
        ("on_policy", pytest.approx(0.675)),
    ]
    assert rows[1].against["clone"].mean == pytest.approx(0.3)
    assert rows[0].to_json()["protocol"] == "p1"
    with pytest.raises(UserError, match="different protocols"):
        kept_evaluations([tmp_path / "a", tmp_path / "c"])
    with pytest.raises(UserError, match="has not been evaluated"):
        kept_evaluations([tmp_path / "a", tmp_path / "nowhere"])
    # What differs on one suite does not keep anybody from another.
    for name in ("a", "c"):
        changing = dataclasses.replace(result(), suite="changing", protocol="p1")
        write_result(tmp_path / name / "evaluation" / "changing.json", changing)
    both = kept_evaluations([tmp_path / "a", tmp_path / "c"], suite="changing")
    assert [one.result.suite for one in both] == ["changing"] * 2
    with pytest.raises(UserError, match="has not been evaluated on changing"):
        kept_evaluations([tmp_path / "a", tmp_path / "b"], suite="changing")


def test_kept_replays_are_compared_case_by_case(tmp_path, capsys):
    """Two folders of replays of the same three cases; one driver fails one of them and has a car on its way in it."""

    def kept(name: str, driver: str, failed: int | None, protocol: str = "keeping v1 01") -> str:
        roads = [procedural_road(k, RoadKind.STRAIGHT, lanes=2, length=400.0) for k in range(3)]
        driven = result(*(record(road, ticks=45) for road in roads), driver=driver)
        records = tuple(crash(one, 13) if k == failed else one for k, one in enumerate(driven.records))
        cases = tuple(dataclasses.replace(c, passed=k != failed) for k, c in enumerate(driven.cases))
        one = dataclasses.replace(driven, records=records, cases=cases, protocol=protocol)
        return str(save_replay(one, tmp_path / name / "keeping.replay").parent)

    clean, crashes = kept("a", "careful", None), kept("b", "bold", 1)
    table = tmp_path / "compare.json"
    line = ["compare", crashes, f"{clean}/keeping.replay", "--scores", "nuplan", "--json", str(table)]
    assert cli.main(line) == 0
    bold, careful = json.loads(table.read_text())
    assert (bold["recipe"], bold["passed"], careful["passed"]) == ("bold", 2, 3)
    # One of three cases: between none and all of three draws.
    mean, low, high = careful["against"]["bold"]
    assert (mean, low, high) == (pytest.approx(1 / 3), 0.0, pytest.approx(1.0))
    paired = careful["scores"][0]["against"]["bold"]
    assert paired["scenarios"] == 3
    assert paired["interval"][0] <= paired["mean"] <= paired["interval"][1]
    # The car on the way costs nuPlan's whole score of one of three drives.
    assert paired["mean"] == pytest.approx(careful["scores"][0]["value"] / 3, abs=0.02)
    assert "careful - bold on keeping: +33%" in capsys.readouterr().out
    other = kept("c", "bold", None, protocol="keeping v1 02")
    assert cli.main(["compare", clean, other]) == 2
    answer = capsys.readouterr().err
    assert all(word in answer for word in ("different protocols", "v1 01", "v1 02", "evaluate both again")), (
        answer
    )


def crash(driven: DriveRecord, tick: int) -> DriveRecord:
    """The drive with a car standing where it will be at a tick."""
    actors = driven.actors.copy()
    place = [*driven.position[tick], driven.heading[tick]]
    actors[:, 1] = [*place, 4.5, 2.0, 1.5, int(ActorKind.VEHICLE)]
    return dataclasses.replace(driven, actors=actors)


FREE = at_log_speed(actors=np.where(np.arange(3)[:, None] == 0, at_log_speed().actors, -1.0))
# Displacement and HD-Score judge plans, which a car on the way does not touch.
CRASHING = [b for b in BENCHMARKS if b.name not in ("displacement", "hugsim")]


def test_a_collision_never_raises_a_score():
    """A car put on the way, early and late, against the same drive on a free road."""
    free = [score.value for score in score_suite(result(FREE), CRASHING)]
    for tick in (0, 43):
        for score, without in zip(score_suite(result(crash(FREE, tick)), CRASHING), free, strict=True):
            assert score.value is not None
            assert without is not None
            assert score.value <= without, (score.benchmark, tick)
            assert score.value < score.best, (score.benchmark, tick)


def test_the_command_line_scores_a_replay_and_refuses_what_it_cannot(tmp_path, capsys):
    kept = str(save_replay(result(at_log_speed(), FREE), tmp_path / "a.replay"))
    table = tmp_path / "scores.json"
    assert cli.main(["evaluate", kept, "--scores", "nuplan,carla_2_1", "rad", "--json", str(table)]) == 0
    written = json.loads(table.read_text())
    assert written["protocol"] == "keeping v1 01"
    assert [score["benchmark"] for score in written["scores"]] == ["nuplan", "carla_2_1", "rad"]
    assert len(written["scores"][0]["drives"]) == 2
    assert "scores of each drive" in capsys.readouterr().out
    for line, words in (
        (f"evaluate {kept} --scores nupan", ["nupan", "nuplan"]),
        (f"evaluate {kept} --suite lane_keeping", ["not driven again", "--suite"]),
        ("evaluate expert --scores", ["needs a suite", "lane_keeping"]),
        (f"evaluate expert --suite recorded --keep {kept}/x.replay", ["cannot be written"]),
    ):
        assert cli.main(line.split()) == 2
        answer = capsys.readouterr().err
        assert all(word in answer for word in words), answer
