"""Causes of failed drives, on drives small enough to check on paper.

Lanes of 4 m along +x at y = 0 (the path's) and y = 4, one along -x at y = 8, and one that turns off to the right by
45 degrees at x = 40. The car is 4 m x 2 m, its box's middle 1 m before its rear axle, at 10 m/s unless said, ten ticks
a second: it leaves its lane where it is more than 1 m aside.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from countersteer.worlds.observations import Command

from countersteer.evaluation.failures import FailureKind, count_failures, explain, explain_suite
from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.scenarios.scenario import ActorKind, MapFeature, MapKind, Scenario, Tracks
from countersteer.worlds.interface import TerminationReason
from hand_made import scenario

TICKS = 60


def a_lane(name: str, *points: tuple[float, float]) -> MapFeature:
    return MapFeature(name, MapKind.LANE, np.array([[x, y, 0.0] for x, y in points]), width=4.0)


LANES = (
    a_lane("right", (-50, 0), (250, 0)),
    a_lane("left", (-50, 4), (250, 4)),
    a_lane("oncoming", (250, 8), (-50, 8)),
    a_lane("exit", (40, 0), (140, -100)),
)
PATH = np.stack([np.linspace(-50, 250, 301), np.zeros(301)], -1)
SCENE = dataclasses.replace(scenario(*LANES, route=PATH), lane_width=4.0)


def a_drive(
    x: np.ndarray, y: np.ndarray, *others: tuple[float, float, float, float], scene: Scenario = SCENE, **changes: object
) -> DriveRecord:  # fmt: skip
    """A drive through points; others start at (x, y) with speed v along +x, turned by h [rad]."""
    times = np.arange(TICKS) * 0.1
    position = np.stack([x, y], -1).astype(float)
    step = np.gradient(position, 0.1, axis=0)
    speed = np.hypot(*step.T)
    heading = np.where(speed > 0.1, np.arctan2(step[:, 1], step[:, 0]), 0.0)
    actors = np.zeros((TICKS, 1 + len(others), 7))
    actors[:, 0, :2], actors[:, 0, 2] = position, heading
    actors[:, 0, 3:6] = (4.0, 2.0, 1.5)
    for k, (x0, y0, v, h) in enumerate(others, 1):
        actors[:, k, 0], actors[:, k, 1], actors[:, k, 2] = x0 + v * times, y0, h
        actors[:, k, 3:] = (4.0, 2.0, 1.5, int(ActorKind.VEHICLE))
    zero, no = np.zeros(TICKS), np.zeros(TICKS, bool)
    whole = np.zeros(TICKS, np.int64)
    made = DriveRecord(
        times=times, position=position, heading=heading, speed=speed, curvature=zero,
        acceleration=np.gradient(speed, 0.1), lateral=y.astype(float), heading_error=heading, arc=x.astype(float),
        command=whole, alive=~no, cause=whole, collision=no, off_road=no, red_light=no, wrong_way=no,
        uncomfortable=no, collided_with=whole - 1, plan=np.zeros((TICKS, 2, 2)), actors=actors,
        path=PATH, size=(4.0, 2.0), scenario=scene,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


T = np.arange(TICKS) * 0.1
AHEAD, STRAIGHT = 10.0 * T, np.zeros(TICKS)


def verdict(when: float | None = None, passed: bool | None = False) -> CaseResult:
    return CaseResult("case", passed, "some rule" if passed is False else "", when, {})


def cause(record: DriveRecord, when: float | None = None):
    found = explain(record, verdict(when))
    assert found is not None
    return found


def test_only_failed_drives_have_a_cause():
    drive = a_drive(AHEAD, STRAIGHT)
    assert explain(drive, verdict(passed=True)) is None
    assert explain(drive, verdict(passed=None)) is None
    unexplained = cause(drive)
    assert unexplained.kind is FailureKind.OTHER
    assert unexplained.note == "some rule"


def test_drift_begins_where_the_lane_was_left_for_good():
    """0.5 m/s to the left from 2 s on: 1 m aside is reached at 4 s, tick 40."""
    found = cause(a_drive(AHEAD, np.maximum(0.5 * (T - 2.0), 0.0)), when=5.5)
    assert (found.kind, found.actor) == (FailureKind.DRIFT, None)
    assert found.tick == 41  # at tick 40 it touches the border
    # An excursion that it came back from is not the reason, being aside at the end is.
    out_and_back = np.where((T > 1) & (T < 2), 1.5, 0.0)
    again = cause(a_drive(AHEAD, out_and_back + np.maximum(0.5 * (T - 2.0), 0.0)), when=5.5)
    assert again.tick == 41


def test_being_beside_the_path_within_the_lane_is_drift_too():
    found = cause(a_drive(AHEAD, np.full(TICKS, 0.8)), when=1.0)
    assert (found.kind, found.tick) == (FailureKind.DRIFT, 10)
    assert "0.80 m" in found.note


def test_running_into_a_car_ahead_is_a_late_brake():
    """The car ahead stands with its rear at 28 m, the bumper begins 3 m ahead of the axle: 25 m or 2.5 s."""
    found = cause(a_drive(AHEAD, STRAIGHT, (30.0, 0.0, 0.0, 0.0)))
    assert (found.kind, found.actor) == (FailureKind.LATE_BRAKE, 1)
    assert found.tick in (25, 26)


def test_swerving_after_a_late_brake_is_not_drift():
    """Braking at 5 m/s^2 from 2 s on for a car 20 m ahead, and out of the lane at once."""
    x = np.where(T < 2, 10 * T, 20 + 10 * (T - 2) - 2.5 * np.minimum(T - 2, 1.5) ** 2)
    y = np.maximum(1.5 * (T - 2.0), 0.0)
    found = cause(a_drive(x, y, (45.0, 0.0, 0.0, 0.0)), when=5.0)
    assert (found.kind, found.actor) == (FailureKind.LATE_BRAKE, 1)
    assert cause(a_drive(AHEAD, y), when=5.0).kind is not FailureKind.LATE_BRAKE


def test_collisions_are_told_apart_by_fault():
    """A crossing car hit with the front is the ego's fault; one that comes from behind is not."""
    across = cause(a_drive(AHEAD, STRAIGHT, (30.0, 0.0, 0.01, np.pi / 2)))
    assert (across.kind, across.actor) == (FailureKind.AT_FAULT, 1)
    behind = cause(a_drive(AHEAD, STRAIGHT, (-9.0, 0.0, 20.0, 0.0)))
    assert (behind.kind, behind.actor) == (FailureKind.NOT_AT_FAULT, 1)
    # Gap of 9 + 1 - 4 = 6 m, closing at 10 m/s.
    assert behind.tick in (6, 7)


def test_what_came_first_is_the_cause():
    """Out of the lane at 4 s and into a parked car beside it at about 5 s: it drifted."""
    drifting = a_drive(AHEAD, np.maximum(0.5 * (T - 2.0), 0.0), (55.0, 3.0, 0.0, 0.0))
    assert cause(drifting).kind is FailureKind.DRIFT
    red = dataclasses.replace(drifting, red_light=np.arange(TICKS) == 30)
    assert (cause(red).kind, cause(red).tick) == (FailureKind.RED_LIGHT, 30)


@pytest.mark.parametrize(
    ("field", "kind"),
    [("red_light", FailureKind.RED_LIGHT), ("wrong_way", FailureKind.WRONG_WAY)],
)
def test_events_are_causes(field: str, kind: FailureKind):
    found = cause(a_drive(AHEAD, STRAIGHT, **{field: np.arange(TICKS) == 17}))
    assert (found.kind, found.tick) == (kind, 17)


def test_a_lane_that_was_asked_for_and_never_reached_is_a_wrong_lane():
    command = np.where(np.arange(TICKS) >= 10, int(Command.LEFT), int(Command.FOLLOW))
    stayed = a_drive(AHEAD, STRAIGHT, command=command, path=PATH + np.array([0.0, 4.0]))
    found = cause(stayed, when=5.0)
    assert (found.kind, found.tick) == (FailureKind.WRONG_LANE, 50)
    assert "4.0 m" in found.note


def test_keeping_a_neighbouring_lane_is_a_wrong_lane_and_a_road_that_leads_elsewhere_is_off_route():
    moved = np.clip(2.0 * (T - 1.0), 0.0, 4.0)  # in the left lane from 3 s on
    found = cause(a_drive(AHEAD, moved))
    assert found.kind is FailureKind.WRONG_LANE
    # Its axle is 1.8 m aside at 1.9 s, and its middle, ahead of that in a car that is turned by 0.2 rad, 2 m: on the line.
    assert found.tick == 19
    # From x = 40 along the exit, 45 degrees to the right at the same speed.
    along = np.maximum(T - 3.0, 0.0) * 10.0
    x, y = np.where(T < 3, 10 * T + 10, 40 + along / np.sqrt(2)), -along / np.sqrt(2)
    assert cause(a_drive(x, y)).kind is FailureKind.OFF_ROUTE
    # Across all lanes and on: no lane is kept.
    assert cause(a_drive(AHEAD, np.maximum(3.0 * (T - 1.0), 0.0))).kind is FailureKind.DRIFT


def test_an_untrusted_world_comes_before_what_follows_it():
    drift = np.maximum(0.5 * (T - 2.0), 0.0)
    found = cause(a_drive(AHEAD, drift, confidence=np.where(np.arange(TICKS) < 20, 1.0, 0.4)), when=5.5)
    assert (found.kind, found.tick) == (FailureKind.UNTRUSTED, 20)
    later = cause(a_drive(AHEAD, drift, confidence=np.where(np.arange(TICKS) < 50, 1.0, 0.4)), when=5.5)
    assert later.kind is FailureKind.DRIFT


def test_standing_where_the_recorded_driver_went_on_is_stuck():
    """It stops at 2 s after 20 m; the recorded driver made 59 m."""
    track = Tracks(
        ids=("ego",),
        kind=np.zeros(1, np.int64),
        position=np.stack([10 * T + 1, STRAIGHT, STRAIGHT], -1)[None],
        heading=STRAIGHT[None],
        velocity=np.tile([10.0, 0.0], (1, TICKS, 1)),
        size=np.array([[4.0, 2.0, 1.5]]),
        valid=np.ones((1, TICKS), bool),
    )
    signals = dataclasses.replace(SCENE.signals, state=np.zeros((0, TICKS), np.int64))
    scene = dataclasses.replace(SCENE, times=T, tracks=track, ego=0, signals=signals)
    found = cause(a_drive(np.minimum(AHEAD, 20.0), STRAIGHT, scene=scene))
    assert found.kind is FailureKind.STUCK
    assert found.tick in (20, 21)
    assert "20 m of the recorded 59 m" in found.note
    assert cause(a_drive(AHEAD, STRAIGHT, scene=scene)).kind is FailureKind.OTHER
    # The verdict fell for a corner beyond the road's edge, while in its lane; that it came less far is another matter.
    off = a_drive(np.minimum(AHEAD, 20.0), STRAIGHT, scene=scene, off_road=np.arange(TICKS) == 6)
    assert (cause(off, when=0.6).kind, cause(off, when=0.6).tick) == (FailureKind.OFF_ROAD, 6)


def test_a_drive_that_ended_at_once_and_numbers_that_are_none():
    alive = np.arange(TICKS) < 1
    ended = a_drive(AHEAD, STRAIGHT, alive=alive, cause=np.full(TICKS, int(TerminationReason.INVALID_STATE)))
    assert (cause(ended).kind, cause(ended).tick) == (FailureKind.NUMERIC, 0)


def test_causes_are_counted_most_frequent_first():
    records = (
        a_drive(AHEAD, np.full(TICKS, 0.8)),
        a_drive(AHEAD, STRAIGHT),
        a_drive(AHEAD, STRAIGHT, (30.0, 0.0, 0.0, 0.0)),
        a_drive(AHEAD, np.full(TICKS, 0.9)),
    )
    cases = (verdict(), verdict(passed=True), verdict(), verdict())
    result = SuiteResult("s", "d", "p", cases, records)
    failures = explain_suite(result)
    assert [failure is None for failure in failures] == [False, True, False, False]
    assert list(count_failures(failures).items()) == [(FailureKind.DRIFT, 2), (FailureKind.LATE_BRAKE, 1)]
    assert explain_suite(dataclasses.replace(result, records=())) == (None,) * 4
