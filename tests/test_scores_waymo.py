"""Waymo's two scores on cases that can be checked on paper."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from countersteer.errors import UserError
from countersteer.evaluation.metrics import realism
from countersteer.evaluation.metrics.rater_feedback import score_rater_feedback, trust_region
from countersteer.scenarios.scenario import Tracks
from drives import ROAD, actor, straight

AHEAD = np.stack([np.arange(1, 21) * 0.5, np.zeros(20)], -1)
"""Straight on at 2 m/s, at 4 Hz."""


def off(along: float, aside: float) -> np.ndarray:
    """That, moved as a whole."""
    return AHEAD + np.array([along, aside])


def rate(
    plan: np.ndarray,
    ratings: list[float],
    trajectories: list[np.ndarray],
    speed: float = 11.0,
    **constants: Any,
):
    return score_rater_feedback(
        plan[None], np.ones(1), trajectories, np.array(ratings, float), speed, **constants
    )


def test_trust_region():
    # Half size up to 1.4 m/s, three quarters at 6.2, whole from 11.
    for speed, scale in [(0.0, 0.5), (1.4, 0.5), (6.2, 0.75), (11.0, 1.0), (30.0, 1.0)]:
        region = trust_region(speed)
        assert region.lateral == pytest.approx(scale * np.array([1.0, 1.8]))
        assert region.longitudinal == pytest.approx(scale * np.array([4.0, 7.2]))


def test_a_plan_within_the_region_gets_the_rating():
    assert rate(off(3.9, 0.9), [7.0], [AHEAD]).value == pytest.approx(7.0)


def test_a_plan_outside_decays_but_not_below_four():
    # 1.8 m aside: 1.8 half widths at 3 s, 1 at 5 s. Without the floor 10 x (0.1^0.8 + 1) / 2.
    plan = off(0.0, 1.8)
    assert rate(plan, [10.0], [AHEAD], floor=0.0).value == pytest.approx(5 * (0.1**0.8 + 1))
    assert rate(off(0.0, 9.0), [10.0], [AHEAD]).value == 4.0
    # The floor is no ceiling: rated 1 within the region is 1.
    assert rate(AHEAD, [1.0], [AHEAD]).value == 1.0


def test_the_best_trajectory_counts():
    score = rate(off(0.0, 5.0), [3.0, 9.0], [AHEAD, off(0.0, 5.0)])
    assert (score.value, score.parts.matched.tolist()) == (9.0, [[1, 1]])
    # A fourth is not looked at.
    assert rate(off(0.0, 5.0), [3.0, 3.0, 3.0, 9.0], [AHEAD] * 3 + [off(0.0, 5.0)]).value == 4.0


def test_directions_follow_the_trajectory():
    # Driving along +y: 3 m along is within 4 m, 3 m aside (along x) is not within 1 m.
    north = AHEAD[:, ::-1].copy()
    assert rate(north + np.array([0.0, 3.0]), [8.0], [north]).parts.trusted.all()
    assert not rate(north + np.array([3.0, 0.0]), [8.0], [north]).parts.trusted.any()
    # A car that stops keeps its direction; one that never moves looks along +x.
    stops = np.concatenate([north[:8], np.repeat(north[7:8], 12, axis=0)])
    assert rate(stops + np.array([0.0, 3.0]), [8.0], [stops]).parts.trusted.all()
    still = np.zeros((20, 2))
    assert rate(still + np.array([3.0, 0.0]), [8.0], [still]).parts.trusted.all()


def test_plans_are_weighted_by_probability():
    plans = np.stack([AHEAD, off(0.0, 9.0)])
    score = score_rater_feedback(plans, np.array([0.75, 0.25]), [AHEAD], np.array([8.0]), 11.0)
    assert score.value == pytest.approx(0.75 * 8 + 0.25 * 4)
    assert len(score.findings) == 1


def test_what_cannot_be_rated():
    with pytest.raises(UserError, match="5 s"):
        rate(AHEAD[:12], [8.0], [AHEAD])
    with pytest.raises(UserError, match="pair up"):
        rate(AHEAD, [8.0, 9.0], [AHEAD])


@given(st.floats(0, 4), st.floats(0, 4), st.floats(0, 30), st.floats(4, 10))
def test_farther_aside_is_never_better(aside: float, more: float, speed: float, rating: float):
    near, far = (rate(off(0.0, d), [rating], [AHEAD], speed) for d in (aside, aside + more))
    assert far.value <= near.value + 1e-12
    assert 4.0 <= far.value <= 10.0


# Realism


def scene(*cars: tuple[float, float, float], count: int = 9) -> Tracks:
    """Cars of 4 x 2 m along +x at (x, y, speed)."""
    drive = straight(count=count)
    for x, y, speed in cars:
        drive = actor(drive, x=x, y=y, vx=speed)
    return drive.actors


def features(tracks: Tracks, agents: list[int]) -> realism.AgentFeatures:
    return realism.agent_features(tracks, 0.1, ROAD, np.array(agents))


def test_features_of_a_car_that_follows():
    # Boxes 10 - 4 = 6 m apart, closing at 4 m/s: 6 / 4 - t; the edge is 1 m from the right corners.
    found = features(scene((0.0, 0.0, 10.0), (10.0, 0.0, 6.0)), [0])
    inner = slice(1, -1)
    times = np.arange(9) * 0.1
    assert found.linear_speed[0, inner] == pytest.approx(10.0)
    assert np.isnan(found.linear_speed[0, [0, -1]]).all()
    assert found.linear_acceleration[0, 2:-2] == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(found.linear_acceleration[0, [1, -2]]).all()
    assert found.distance_to_nearest_object[0] == pytest.approx(6.0 - 4 * times)
    assert found.time_to_collision[0, inner] == pytest.approx((1.5 - times)[inner])
    assert found.distance_to_road_edge[0] == pytest.approx(-1.0)


def test_time_to_collision_needs_a_leader():
    # Slower than the one ahead; one beside; one far: all at the cap of 5 s.
    for other in [(10.0, 0.0, 12.0), (10.0, 4.0, 0.0), (200.0, 0.0, 9.0)]:
        found = features(scene((0.0, 0.0, 10.0), other), [0])
        assert found.time_to_collision[0, 1:-1] == pytest.approx(5.0)


def test_a_slight_overlap_counts_only_for_the_same_direction():
    # 1.8 m aside the boxes overlap by 0.2 m. Turned by 0.5 rad the other is no leader; turned by 0.1 it is.
    tracks = scene((0.0, 0.0, 10.0), (10.0, 1.8, 6.0))
    for turn, leads in [(0.0, True), (0.1, True)]:
        turned = tracks.heading.copy()
        turned[1] += turn
        found = features(dataclasses.replace(tracks, heading=turned), [0])
        assert (found.time_to_collision[0, 4] < 5.0) == leads
    aside = scene((0.0, 0.0, 10.0), (10.0, 2.6, 6.0))  # turned, it reaches 2.6 - 1.84 = 0.76 m
    turned = aside.heading.copy()
    turned[1] += 0.5
    assert features(dataclasses.replace(aside, heading=turned), [0]).time_to_collision[0, 4] == 5.0


def test_turning_is_measured_across_the_jump_of_the_angle():
    tracks = scene((0.0, 0.0, 10.0))
    heading = (np.pi - 0.2 + 0.05 * np.arange(9) + np.pi) % (2 * np.pi) - np.pi
    found = features(dataclasses.replace(tracks, heading=heading[None]), [0])
    assert found.angular_speed[0, 1:-1] == pytest.approx(0.5)
    assert found.angular_acceleration[0, 2:-2] == pytest.approx(0.0, abs=1e-9)


def test_corners_are_rounded():
    # Diagonal neighbours, corners touching: the corner circles of radius 0.7 m are 0.7 (2 sqrt 2 - 2) apart.
    found = features(scene((0.0, 0.0, 10.0), (4.0, 2.0, 10.0)), [0])
    assert found.distance_to_nearest_object[0] == pytest.approx(0.7 * (2 * math.sqrt(2) - 2))


def test_a_simulator_that_repeats_the_log():
    # Each histogram is 32 x 7 equal samples in one bin: (224 + 0.1) / (224 + 1) and so on; flags
    # (32 + 0.001) / 32.002.
    log = features(scene((0.0, 0.0, 11.0), (20.0, 0.0, 11.0)), [0, 1])
    score = realism.score_realism(log, [log] * 32)
    assert score.parts.linear_speed == pytest.approx((224 + 0.1) / (224 + 1.0))
    assert score.parts.linear_acceleration == pytest.approx((160 + 0.1) / (160 + 1.1))
    assert score.parts.collision_indication == pytest.approx(32.001 / 32.002)
    assert 0.99 < score.value < 1.0
    assert set(realism.buckets(score.parts)) == {"kinematic", "interactive", "map"}


def test_a_simulator_that_crashes():
    # Nobody touches in the log; in all of four rollouts they do: 0.001 / 4.002.
    log = features(scene((0.0, 0.0, 10.0), (20.0, 0.0, 10.0)), [0])
    crash = features(scene((0.0, 0.0, 10.0), (3.0, 0.0, 10.0)), [0])
    score = realism.score_realism(log, [crash] * 4)
    assert score.parts.collision_indication == pytest.approx(0.001 / 4.002)
    assert score.parts.offroad_indication == pytest.approx(4.001 / 4.002)
    assert score.value < realism.score_realism(log, [log] * 4).value
    named = {f.part: f for f in score.findings}
    assert named["collision_indication"].actors == (0,)


def test_a_red_light_in_one_of_two_rollouts():
    log = features(scene((0.0, 0.0, 10.0)), [0])
    runs = dataclasses.replace(log, red_light=np.ones((1, 9), bool))
    score = realism.score_realism(log, [log, runs])
    assert score.parts.traffic_light_violation == pytest.approx(0.5)


def test_rollouts_must_fit_the_log():
    log = features(scene((0.0, 0.0, 10.0)), [0])
    with pytest.raises(UserError, match="same agents and steps"):
        realism.score_realism(log, [])
    with pytest.raises(UserError, match="same agents and steps"):
        realism.score_realism(log, [features(scene((0.0, 0.0, 10.0), count=12), [0])])


UNIT = st.floats(0, 1)


@given(st.tuples(*[UNIT] * 10), st.integers(0, 9), UNIT)
def test_no_likelihood_costs_when_it_grows(parts: tuple[float, ...], which: int, more: float):
    better = list(parts)
    better[which] = max(better[which], more)
    for weights in (realism.WEIGHTS_2024, realism.WEIGHTS_2025):
        low = realism.realism(realism.RealismParts(*parts), weights)
        assert realism.realism(realism.RealismParts(*better), weights) >= low - 1e-12


@given(st.lists(st.floats(-5, 30), min_size=1, max_size=20), st.integers(0, 19))
def test_the_order_of_rollouts_does_not_matter(samples: list[float], shift: int):
    speed = realism.Histogram(0.0, 25.0, 10)
    values = np.array([samples])
    logged = np.array([[3.0, 26.0]])
    one = realism.histogram_log_likelihood(logged, values, speed)
    assert np.array_equal(one, realism.histogram_log_likelihood(logged, np.roll(values, shift), speed))
    assert (one < 0).all()


def test_the_same_scene_gives_the_same_score_to_the_last_bit():
    log = features(scene((0.0, 0.0, 10.0), (10.0, 1.0, 6.0)), [0, 1])
    roll = features(scene((0.0, 0.3, 9.0), (10.0, 1.0, 7.0)), [0, 1])
    assert realism.score_realism(log, [roll] * 3) == realism.score_realism(log, [roll] * 3)
