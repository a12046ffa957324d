"""A record of our own evaluation, filled into what scores read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from countersteer.errors import UserError
from countersteer.evaluation.metrics import carla, navsim, nuplan, rad
from countersteer.evaluation.metrics.carla import Leaderboard
from countersteer.evaluation.metrics.displacement import score_plans
from countersteer.evaluation.metrics.from_record import drive_of_record, road_of_map
from countersteer.evaluation.records import DriveRecord
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import (
    ActorKind,
    MapFeature,
    MapKind,
    RoadMap,
    Scenario,
    Signals,
    SignalState,
)
from countersteer.worlds.interface import TerminationReason

PLAN_TIMES = np.array([0.5, 1.0])


def straight_road() -> Scenario:
    """A generated road whose recorded ego keeps its lane."""
    return procedural_road(7, RoadKind.STRAIGHT, lanes=2, length=400.0)


def record(
    scenario: Scenario, *, ticks: int = 41, aside: float = 0.0, ends: int | None = None
) -> DriveRecord:
    """A drive from where the scenario's ego was recorded at 10 m/s, `aside` [m] to its left, one car 30 m ahead."""
    assert scenario.route is not None
    assert scenario.ego is not None
    heading = float(scenario.tracks.heading[scenario.ego, 0])
    course = np.array([np.cos(heading), np.sin(heading)])
    length = float(scenario.tracks.size[scenario.ego, 0])
    start = scenario.tracks.position[scenario.ego, 0, :2] - rear_axle_to_center(length) * course
    left = np.array([-course[1], course[0]])
    times = np.arange(ticks) * 0.1
    position = start + aside * left + np.outer(10.0 * times, course)
    actors = np.zeros((ticks, 3, 7))
    actors[:, 0, :2], actors[:, 0, 6] = position, int(ActorKind.VEHICLE)
    actors[:, 1] = [0.0, 0.0, heading, 4.5, 2.0, 1.5, int(ActorKind.VEHICLE)]
    actors[:, 1, :2] = start + np.outer(30.0 + 10.0 * times, course)
    actors[:, 2, 6] = -1.0  # nobody
    alive = np.arange(ticks) < (ticks if ends is None else ends)
    zero, no = np.zeros(ticks), np.zeros(ticks, bool)
    whole = np.zeros(ticks, np.int64)
    return DriveRecord(
        times=times,
        position=position,
        heading=np.full(ticks, heading),
        speed=np.full(ticks, 10.0),
        curvature=zero,
        acceleration=zero,
        lateral=zero,
        heading_error=zero,
        arc=10.0 * times,
        command=whole,
        alive=alive,
        cause=whole,
        collision=no,
        off_road=no,
        red_light=no,
        wrong_way=no,
        uncomfortable=no,
        collided_with=whole - 1,
        plan=position[:, None] + (10.0 * PLAN_TIMES)[:, None] * course,
        actors=actors,
        path=scenario.route,
        size=(4.5, 2.0),
        scenario=scenario,
        plan_times=PLAN_TIMES,
    )


def test_a_clean_record_is_perfect():
    drive = drive_of_record(record(straight_road()))
    assert navsim.score_pdms(drive).value == 1.0
    assert navsim.score_epdms(drive).value == 1.0
    assert drive.actors.valid.tolist() == [[True] * 41, [False] * 41]
    assert np.hypot(*drive.actors.velocity[0].T) == pytest.approx(10.0)
    assert carla.score_driving(drive, Leaderboard.V2_1).parts.infractions == carla.Infractions()


def test_the_recorded_ego_is_the_expert():
    drive = drive_of_record(record(straight_road()))
    assert drive.expert is not None
    assert rad.score_clip(drive).parts.end is rad.ClipEnd.TIME
    # Both start at the same place and keep the same straight lane, so plans are off by the difference of
    # speeds: at the last of 31 plans, 3 s in, that of 3.5 and 4 s.
    error = score_plans(drive)
    assert error.parts.plans == 31
    slower = abs(10.0 - float(drive.expert.speed.mean()))
    assert error.value == pytest.approx(slower * (1.5 + 0.75), rel=0.02)
    assert nuplan.score_closed_loop(drive).parts.drivable_area == 1.0


def test_beside_the_road_is_off_it():
    drive = drive_of_record(record(straight_road(), aside=-12.0))
    assert navsim.score_pdms(drive).parts.drivable_area == 0.0


def test_what_follows_the_end_does_not_count():
    assert len(drive_of_record(record(straight_road(), ends=20)).times) == 20
    with pytest.raises(UserError, match="ended at once"):
        drive_of_record(record(straight_road(), ends=1))


def test_the_state_in_which_a_drive_ended_counts_where_it_shows_why():
    """A collision shows in the state after the last tick; after a drive that was lost, nothing does."""
    driven = record(straight_road(), ends=20)
    for cause, count in ((TerminationReason.COLLISION, 21), (TerminationReason.OFF_ROUTE, 20)):
        ended = dataclasses.replace(driven, cause=np.where(driven.alive, 0, int(cause)))
        assert len(drive_of_record(ended).times) == count


def test_the_expert_goes_on_after_the_drive_has_ended():
    """Whoever stops early has made less of the recorded way, not all of it."""
    scenario = straight_road()
    whole, half = (drive_of_record(record(scenario, ends=ends)) for ends in (41, 20))
    assert whole.expert is not None
    assert half.expert is not None
    assert half.expert.position.tolist() == whole.expert.position.tolist()
    assert (
        nuplan.score_closed_loop(half).parts.progress < 0.6 * nuplan.score_closed_loop(whole).parts.progress
    )


def test_a_light_closes_the_lane_behind_its_stop_point():
    scenario = straight_road()
    driven = record(scenario)
    stop = np.append(driven.position[20], 0.0)
    signals = Signals(
        ("lane",),
        stop[None],
        driven.heading[:1],
        np.full((1, len(scenario.times)), int(SignalState.STOP)),
    )
    lit = dataclasses.replace(driven, scenario=dataclasses.replace(scenario, signals=signals))
    assert navsim.score_epdms(drive_of_record(lit)).parts.traffic_light == 0.0
    green = dataclasses.replace(signals, state=np.full_like(signals.state, int(SignalState.GO)))
    free = dataclasses.replace(driven, scenario=dataclasses.replace(scenario, signals=green))
    assert navsim.score_epdms(drive_of_record(free)).parts.traffic_light == 1.0


def test_edges_are_turned_so_that_the_road_is_on_their_left():
    line = np.array([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0], [100.0, 0.0, 0.0]])
    right, left = line - [0.0, 2.0, 0.0], line + np.array([0.0, 2.0, 0.0])
    road = road_of_map(
        RoadMap(
            (
                MapFeature("lane", MapKind.LANE, line, width=4.0),
                MapFeature("right", MapKind.ROAD_EDGE, right),
                MapFeature("left", MapKind.ROAD_EDGE, left),
            )
        )
    )
    assert road.edges[0].tolist() == right[:, :2].tolist()
    assert road.edges[1].tolist() == left[::-1, :2].tolist()
    assert road.drivable[0].tolist() == road.lanes[0].area.tolist()


def test_a_lane_the_other_way_is_not_on_the_route():
    line = np.array([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0]])
    lanes = (
        MapFeature("with", MapKind.LANE, line, width=4.0),
        MapFeature("against", MapKind.LANE, line[::-1].copy(), width=4.0),
        MapFeature("aside", MapKind.LANE, line + np.array([0.0, 9.0, 0.0]), width=4.0),
    )
    route = np.stack([np.linspace(5, 95, 10), np.zeros(10)], -1)
    assert [lane.on_route for lane in road_of_map(RoadMap(lanes), route).lanes] == [True, False, False]
