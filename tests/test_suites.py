"""The protocol of a suite: what must be equal for two results to be comparable."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import Enum
from types import FunctionType
from typing import Any

import numpy as np
import pytest

from countersteer.errors import UserError
from countersteer.evaluation.metrics.drive import no_actors
from countersteer.evaluation.records import CaseResult, DriveRecord
from countersteer.evaluation.suites import Case, Suite, lane_keeping, run_suite, suite_for
from countersteer.geometry.cameras import Camera
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.policies.teacher import SetActorCriticSpec
from countersteer.rewards.weights import RewardWeights
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import MapFeature, MapKind, Scenario, Signals
from countersteer.traffic.idm import IDM
from countersteer.vehicles.jerk import JerkSpec
from countersteer.worlds.bridges.metadrive.simulation import MetaDriveSpec
from countersteer.worlds.observations import Command
from countersteer.worlds.renderers.boxes.camera_shift import CameraDomainShift
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.simulation.spec import StartSpec
from hand_made import scenario
from worlds import boxworld, reprojected


def rule(case: Case, record: DriveRecord) -> CaseResult:
    raise AssertionError("nobody drives")


def other_rule(case: Case, record: DriveRecord) -> CaseResult:
    raise AssertionError("nobody drives")


@dataclasses.dataclass(frozen=True)
class Within:
    """A rule with a number in it."""

    metres: float

    def __call__(self, case: Case, record: DriveRecord) -> CaseResult:
        raise AssertionError("nobody drives")


def a_scenario() -> Scenario:
    """Two actors, one lane, one light."""
    lane = MapFeature("lane", MapKind.LANE, np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]), speed_limit=9.0)
    one = no_actors(2)
    tracks = dataclasses.replace(
        one,
        ids=("a", "b"),
        **{
            f.name: np.ones((2, *getattr(one, f.name).shape[1:]), getattr(one, f.name).dtype)
            for f in dataclasses.fields(one)
            if f.name != "ids"
        },
    )
    signals = Signals(("lane",), np.zeros((1, 3)), np.zeros(1), np.zeros((1, 2), np.int64))
    road = scenario(lane, route=lane.points[:, :2])
    return dataclasses.replace(road, tracks=tracks, signals=signals, ego=0)


# Everything that may be absent is there, so that what is in it can be changed.
WORLD = boxworld(
    twin=BoxRendererSpec(shift=CameraDomainShift(0.0, 0.0, 0.0, 0.0)),
    cameras=(Camera(),),
    min_agents=1,
    traffic=IDM(),
    jerk=JerkSpec(),
    start=StartSpec(goal=(40.0, 110.0)),
    vector=VectorSpec(),
    shift=CameraDomainShift(texture=0.0, light=0.0, blur=0.0, noise=0.0),
)
SUITE = Suite("name", 1, WORLD, (Case("case", a_scenario(), command=Command.LEFT),), rule)


def test_cases_of_one_name_are_refused():
    with pytest.raises(UserError, match="share a name"):
        dataclasses.replace(SUITE, cases=(*SUITE.cases, dataclasses.replace(SUITE.cases[0], lateral=0.5)))


def changed(value: Any) -> Iterator[tuple[str, Any]]:
    """The value with one thing in it changed, for each thing, and where that lies."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            # Where a scenario was read from, and frames that no world of boxes looks at, decide nothing.
            if isinstance(value, Scenario) and field.name in ("provenance", "cameras"):
                continue
            for place, other in changed(getattr(value, field.name)):
                yield f"{field.name}.{place}", dataclasses.replace(value, **{field.name: other})
    elif isinstance(value, FunctionType):
        yield "", other_rule
    elif isinstance(value, Enum):
        yield "", next(member for member in type(value) if member is not value)
    elif isinstance(value, np.ndarray):
        yield "", ~value if value.dtype == bool else value + 1
    elif isinstance(value, tuple):
        for k, item in enumerate(value):
            for place, other in changed(item):
                yield f"{k}.{place}", (*value[:k], other, *value[k + 1 :])
        if value and not isinstance(value[0], float):  # of floats there are as many as there are
            yield "shorter", value[:-1]
    elif isinstance(value, bool):
        yield "", not value
    elif isinstance(value, str):
        yield "", value + "x"
    elif value is None:
        yield "", 1.0
    else:
        number: Any = value
        yield "", number * 0.9 if isinstance(number, float) and number else number + 1


def test_a_suite_that_differs_in_anything_has_another_protocol():
    """Every field of suite, cases, world and scenario, however deep, changed one at a time."""
    seen, places = {SUITE.protocol}, []
    for place, suite in changed(SUITE):
        places.append(place)
        assert suite.protocol not in seen, place
        seen.add(suite.protocol)
    for name in ("command_time", "counts", "reactive", "lateral"):
        assert f"cases.0.{name}." in places
    assert {
        "world.simulation.vehicle.limits.braking.",
        "world.simulation.terminate.0.",
        "seed.",
        "rule.",
    } <= set(places)
    assert "cases.0.scenario.signals.state." in places


def test_worlds_of_other_kinds_have_other_protocols_and_the_same_suite_the_same():
    assert lane_keeping().protocol == lane_keeping().protocol
    assert lane_keeping().protocol != lane_keeping(roads=1).protocol
    settings = WORLD.simulation
    fields = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    worlds = (
        WORLD,
        dataclasses.replace(WORLD, simulation=MetaDriveSpec(**fields)),
        dataclasses.replace(WORLD, simulation=MetaDriveSpec(**fields, own_camera=True)),
        reprojected(**fields),
    )
    assert len({dataclasses.replace(SUITE, world=world).protocol for world in worlds}) == 4


def test_numbers_of_a_rule_count_and_a_rule_without_a_name_is_refused():
    near, far = (dataclasses.replace(SUITE, rule=Within(metres)) for metres in (0.3, 0.4))
    assert near.protocol != far.protocol
    with pytest.raises(UserError, match="rule"):
        _ = dataclasses.replace(SUITE, rule=lambda case, record: rule(case, record)).protocol


def test_a_policy_is_told_what_it_was_trained_to_be_told_and_that_is_another_suite():
    plain, points, turns = CNNPlannerSpec(), CNNPlannerSpec(target_points=3), CNNPlannerSpec(navigation=True)
    suite = SUITE
    assert suite_for(plain, suite) is suite
    assert suite_for(points, suite).world.simulation.target_points
    assert not suite_for(points, suite).world.simulation.navigation
    assert suite_for(turns, suite).world.simulation.navigation
    assert not suite_for(turns, suite).world.simulation.target_points
    told = [suite_for(spec, suite) for spec in (plain, points, turns)]
    assert len({one.protocol for one in told}) == len({one.name for one in told}) == 3
    assert suite_for(turns, told[2]) is told[2], "told once is told"
    with pytest.raises(UserError, match="privileged"):
        suite_for(SetActorCriticSpec(vector=VectorSpec(), reward_weights=RewardWeights()), suite)


def judged(case: Case, record: DriveRecord) -> CaseResult:
    return CaseResult(case.id, True, "", None, {})


def test_a_policy_that_navigates_hears_of_a_turn_before_it_comes_and_another_does_not():
    """Whoever drives: the command is on record."""
    turning = next(
        road
        for seed in range(20)
        if abs(turned(road := procedural_road(seed, RoadKind.INTERSECTION, lanes=1, length=300.0))) > 1.0
    )
    world = boxworld(cameras=(), dt=0.25, duration=11.0, start=StartSpec(0.0, 0.0, 0.0, (1.0, 1.0)))
    suite = Suite("turn", 1, world, (Case("turn", turning),), judged)
    (silent,) = run_suite(suite, "expert", None).records
    (told,) = run_suite(suite_for(CNNPlannerSpec(navigation=True), suite), "expert", None).records
    asked = Command.LEFT if turned(turning) > 0 else Command.RIGHT
    assert set(silent.command.tolist()) == {Command.FOLLOW}
    assert set(told.command.tolist()) == {Command.FOLLOW, asked}
    first = int(np.argmax(told.command == asked))
    assert abs(told.heading[first] - told.heading[0]) < 0.1, "it was said before the turn"


def turned(road: Scenario) -> float:
    """By how much a route turns from its beginning to its end [rad], left positive."""
    steps = np.diff(road.route[:, :2], axis=0)
    headings = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    return float(headings[-1] - headings[0])
