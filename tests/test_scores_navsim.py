"""PDMS and EPDMS on scenes that can be checked on paper.

The ego's box is 4 x 2 m and its centre 1 m ahead of the axle; it drives 10 m/s along +x from x = 0, so its
centre is at 1 + 10 t and it makes 40 m in 4 s.
"""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from countersteer.errors import UserError
from countersteer.evaluation.metrics import navsim, navsim_parts
from countersteer.evaluation.metrics.drive import Drive, RedLight, Road
from countersteer.evaluation.metrics.navsim import EpdmsParts, FollowUps, PdmsParts, Progress
from countersteer.scenarios.scenario import ActorKind
from drives import ROAD, actor, box, lane, moving, steady, straight

PERFECT = PdmsParts(1.0, 1.0, 1.0, 1.0, 1.0)
PERFECT_2 = EpdmsParts(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_a_free_road_is_perfect():
    score = navsim.score_pdms(straight())
    assert (score.value, score.parts, score.findings) == (1.0, PERFECT, ())
    extended = navsim.score_epdms(straight())
    assert (extended.value, extended.parts, extended.findings) == (1.0, PERFECT_2, ())


def test_half_the_progress_of_the_reference():
    # 40 of 80 m: (5 + 2.5 + 2) / 12; over 14 without extended comfort (2.5 + 5 + 2 + 2) / 14.
    fast = straight(speed=20.0)
    assert navsim.score_pdms(straight(), fast).value == pytest.approx(9.5 / 12)
    assert navsim.score_epdms(straight(), fast).value == pytest.approx(11.5 / 14)


def test_a_reference_that_crashes_does_not_count():
    crash = actor(straight(speed=20.0), x=40.0)
    assert navsim.score_pdms(straight(), crash).parts.progress == 1.0


def test_progress_of_the_two_versions():
    # v1 weighs the agent's metres too: 20 x 0.5 of 40; v2 does not: 20 of 40.
    agent, reference = Progress(20.0, 0.5), Progress(40.0, 1.0)
    assert navsim.progress_share_v1(agent, reference) == 0.25
    assert navsim.progress_share(agent, reference) == 0.5
    # Up to 5 m nobody is told apart, but v1 gives nothing where the multiplier is 0.
    assert navsim.progress_share_v1(Progress(1.0, 0.0), Progress(5.0, 1.0)) == 0.0
    assert navsim.progress_share(Progress(1.0, 0.0), Progress(5.0, 1.0)) == 1.0


def test_a_slower_car_is_hit():
    # 10.2 + 5 t - (1 + 10 t) < 4 from t = 1.04 on.
    score = navsim.score_pdms(actor(straight(), x=10.2, vx=5.0))
    assert score.value == 0.0
    assert next((f.part, f.tick, f.actors) for f in score.findings) == ("no_collision", 11, (0,))


def test_a_barrier_costs_half():
    # 0.5 x (5 x 0 + 5 x 1 + 2 x 1) / 12: the barrier is ahead, so time to collision fails too.
    score = navsim.score_pdms(actor(straight(), x=20.2, kind=ActorKind.STATIC, size=(0.5, 0.5)))
    assert score.parts == dataclasses.replace(PERFECT, no_collision=0.5, time_to_collision=0.0)
    assert score.value == pytest.approx(0.5 * 7 / 12)


def test_whether_an_actor_stands_is_read_where_it_appears():
    # It stops at 1 s, sideways of the ego; at its first tick it moved, so the contact is sideways, no fault.
    drive = actor(straight(), x=13.0, y=2.05, vy=-0.1)
    velocity = drive.actors.velocity.copy()
    velocity[:, 5:] = 0.0
    drive = dataclasses.replace(drive, actors=dataclasses.replace(drive.actors, velocity=velocity))
    still = dataclasses.replace(drive.actors, velocity=np.zeros_like(velocity))
    first = navsim.score_pdms(drive).findings
    second = navsim.score_pdms(dataclasses.replace(drive, actors=still)).findings
    assert [f.note for f in first if f.part == "no_collision"] == ["with the front bumper"]
    assert [f.note for f in second if f.part == "no_collision"] == ["the actor stood"]


def test_struck_from_behind():
    # Not the ego's fault. Time to collision looks at where the actor will be in 0.6 s, seen from where the
    # ego is now: 5.8 m ahead of the axle. So it fails, as it does in the reference: (5 + 2) / 12.
    score = navsim.score_pdms(actor(straight(), x=-6.2, vx=20.0))
    assert score.parts == dataclasses.replace(PERFECT, time_to_collision=0.0)
    assert score.value == pytest.approx(7 / 12)


def test_a_sideways_contact_counts_while_straddling():
    # The other drifts in at 1 m/s; its front stays behind the ego's, so the bumper is free.
    in_lane = actor(straight(), x=0.5, y=3.05, vx=10.0, vy=-1.0)
    assert navsim.score_pdms(in_lane).parts.no_collision == 1.0
    between = actor(straight(y=1.5), x=0.5, y=4.55, vx=10.0, vy=-1.0)
    assert navsim.score_pdms(between).parts.no_collision == 0.0


def test_time_to_collision_of_a_near_miss():
    # A car 13.2 m ahead leaves the lane's line at once, but for 0.9 s of 10 m/s the ego would reach
    # its place: 1 + 9 + 2 = 12 m front at tick 0 against the rear at 11.2 m. The car is gone by then in truth,
    # since boxes are taken where they will be: at tick 9 it is 5.4 m aside.
    leaves = actor(straight(), x=13.2, vy=6.0)
    assert navsim.score_pdms(leaves).parts.time_to_collision == 1.0
    # One that only brakes is 0.9 s away at the tick where 1 + 10 t + 9 + 2 > 11.2 + 8 (t + 0.9).
    slower = navsim.score_pdms(actor(straight(count=12), x=17.0, vx=8.0))
    assert slower.parts.no_collision == 1.0
    assert slower.parts.time_to_collision == 1.0
    close = navsim.score_pdms(actor(straight(count=16), x=9.0, vx=8.5))
    # Gap 9 + 8.5 s - (1 + 10 s) - 4 = 4 - 1.5 s at s = t + look: positive until s = 2.67, beyond 1.5 s.
    assert close.parts.time_to_collision == 1.0
    soon = navsim.score_pdms(actor(straight(count=16), x=6.2, vx=8.5))
    # Gap 1.2 - 1.5 s: gone at s = 0.8, so at tick 0 a look of 0.9 s sees it.
    finding = next(f for f in soon.findings if f.part == "time_to_collision")
    assert (finding.tick, finding.value) == (0, pytest.approx(0.9))


def test_version_1_looks_beyond_the_end():
    # Gap 10.2 - 2 s between the boxes: gone at s = 5.1. A drive of 4.5 s ends with 1.2 m; the look-ahead of
    # 0.9 s from 4.3 s on would see it, which is only asked if others are known until 5.4 s.
    whole = actor(straight(count=55), x=15.2, vx=8.0)
    rows = {name: getattr(whole.actors, name) for name in ("position", "heading", "velocity", "valid")}
    first, later = (
        dataclasses.replace(whole.actors, **{name: values[:, part] for name, values in rows.items()})
        for part in (slice(0, 46), slice(46, 55))
    )
    drive = dataclasses.replace(straight(count=46), actors=first)
    assert navsim.score_pdms(drive).parts.time_to_collision == 1.0
    score = navsim.score_pdms(drive, later=later)
    assert score.parts.time_to_collision == 0.0
    assert [f.tick for f in score.findings if f.part == "time_to_collision"] == [43]
    with pytest.raises(UserError, match="same actors"):
        navsim.score_pdms(straight(count=46), later=later)


def test_a_standing_ego_has_no_time_to_collision():
    assert navsim.score_pdms(actor(straight(speed=0.0), x=-6.2, vx=5.0)).parts.time_to_collision == 1.0


def test_a_corner_off_the_road():
    # y = -1.5: the right corners are at -2.5, the road ends at -2.
    score = navsim.score_pdms(straight(y=-1.5))
    assert (score.value, score.findings[0].part, score.findings[0].tick) == (0.0, "drivable_area", 0)


@pytest.mark.parametrize(("speed", "value"), [(1.5, 1.0), (3.0, 0.5), (10.0, 0.0)])
def test_driving_where_the_route_does_not_lead(speed: float, value: float):
    # Off the route all the time; eleven samples, so 1.1 s of driving count: 1.65, 3.3 and 11 m.
    road = Road(ROAD.drivable, (lane("right", 0.0), lane("left", 4.0, on_route=False)))
    drive = straight(speed=speed, y=4.0, road=road)
    assert navsim.score_epdms(drive).parts.driving_direction == value
    crossing = dataclasses.replace(road, intersections=(box(-50, 250, -2, 6),))
    assert navsim.score_epdms(dataclasses.replace(drive, road=crossing)).parts.driving_direction == 1.0


def test_lane_keeping_fails_after_two_seconds_aside():
    score = navsim.score_epdms(straight(y=0.6))
    assert score.parts.lane_keeping == 0.0
    assert [f.tick for f in score.findings if f.part == "lane_keeping"] == [19]
    assert navsim.score_epdms(straight(y=0.4)).parts.lane_keeping == 1.0
    # Ticks within an intersection neither count nor reset: the centre is in it from 1.0 to 2.0 s, ten or
    # eleven ticks, and the twentieth counted tick comes that much later.
    road = dataclasses.replace(ROAD, intersections=(box(10.95, 21.05, -2, 6),))
    held = navsim.score_epdms(straight(y=0.6, road=road))
    assert [f.tick for f in held.findings if f.part == "lane_keeping"] == [30]


def test_a_red_light():
    light = RedLight(box(20, 24, -2, 2), np.ones(41, bool))
    score = navsim.score_epdms(straight(red_lights=(light,)))
    assert (score.value, score.parts.traffic_light) == (0.0, 0.0)


def test_history_comfort_looks_back():
    # 3 m/s^2 before the plan, above 2.40; without a history the same plan is comfortable.
    hard = moving(steady(15, 0.1, x=-15.0), acceleration=np.tile([3.0, 0.0], (15, 1)))
    score = navsim.score_epdms(straight(history=hard))
    assert score.parts.history_comfort == 0.0
    assert all(f.tick is not None and f.tick < 4 for f in score.findings)
    assert navsim.score_pdms(straight(history=hard)).parts.comfort == 1.0


def test_version_1_hardly_sees_a_jerk():
    # An acceleration of 2 sin(pi t) breaks the bound of 4.13 m/s^3 in windows of 1.5 s; one parabola through
    # two whole periods is nearly flat.
    drive = straight()
    shaken = np.stack([2 * np.sin(np.pi * drive.times), np.zeros(41)], -1)
    drive = dataclasses.replace(drive, ego=moving(drive.ego, acceleration=shaken), history=steady(15, 0.1))
    assert navsim.score_pdms(drive).parts.comfort == 1.0
    score = navsim.score_epdms(drive)
    assert "longitudinal jerk" in {f.note for f in score.findings if f.part == "history_comfort"}


def test_the_human_filter_forgives_only_zeros():
    parts = dataclasses.replace(PERFECT_2, drivable_area=0.0, no_collision=0.5, lane_keeping=0.0)
    human = dataclasses.replace(PERFECT_2, drivable_area=0.0, no_collision=0.5)
    assert navsim.human_filter(parts, human) == dataclasses.replace(parts, drivable_area=1.0)


def test_a_scene_in_which_the_human_leaves_the_road_too():
    # Both are off the road and, 1.5 m aside, keep no lane; forgiven, the drive is perfect.
    score = navsim.score_epdms(straight(y=-1.5), human=straight(y=-1.5))
    assert (score.value, score.findings) == (1.0, ())


def test_extended_comfort_enters_the_score():
    # Only EC fails: 14 / 16.
    other = moving(steady(36, 0.1), acceleration=np.tile([1.0, 0.0], (36, 1)))
    score = navsim.score_epdms(straight(), before=other)
    assert (score.value, score.parts.extended_comfort) == (pytest.approx(14 / 16), 0.0)
    assert navsim.score_epdms(straight(), before=steady(36, 0.1)).value == 1.0
    with pytest.raises(UserError, match="equal lengths"):
        navsim_parts.extended_comfort(steady(35, 0.1), steady(36, 0.1), 0.1)


def test_two_stages():
    # Now: 0.8 x (0.5 x 1 + 0.5 x 0), both starts equally far; earlier: 1 x 0.6. Mean (0.4 + 0.6) / 2.
    now = FollowUps(0.8, np.zeros(2), np.array([[0.1, 0.0], [-0.1, 0.0]]), np.array([1.0, 0.0]))
    earlier = FollowUps(1.0, np.zeros(2), np.array([[0.3, 0.0]]), np.array([0.6]))
    assert navsim.pseudo_simulation(now, earlier) == pytest.approx(0.5)
    with pytest.raises(UserError, match="at least one scene"):
        navsim.follow_up_weights(np.zeros(2), np.zeros((0, 2)))


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=6), st.integers(0, 5))
def test_weights_are_a_distribution_that_follows_the_scenes(starts: list[tuple[float, float]], shift: int):
    places = np.array(starts)
    weights = navsim.follow_up_weights(np.zeros(2), places)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0).all()
    rolled = navsim.follow_up_weights(np.zeros(2), np.roll(places, shift, axis=0))
    assert rolled == pytest.approx(np.roll(weights, shift))


UNIT = st.floats(0, 1)


@given(st.tuples(*[UNIT] * 5), st.integers(0, 4), UNIT)
def test_no_part_of_pdms_costs_when_it_grows(parts: tuple[float, ...], which: int, more: float):
    better = list(parts)
    better[which] = max(better[which], more)
    assert navsim.pdms(PdmsParts(*better)) >= navsim.pdms(PdmsParts(*parts)) - 1e-12
    assert 0.0 <= navsim.pdms(PdmsParts(*parts)) <= 1.0 + 1e-12


@given(st.tuples(*[UNIT] * 9), st.integers(0, 8), UNIT, st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 9))
def test_no_part_of_epdms_costs_when_it_grows(
    parts: tuple[float, ...], which: int, more: float, human: tuple[float, ...]
):
    better = list(parts)
    better[which] = max(better[which], more)
    score = navsim.epdms(EpdmsParts(*parts))
    assert navsim.epdms(EpdmsParts(*better)) >= score - 1e-12
    assert navsim.epdms(navsim.human_filter(EpdmsParts(*parts), EpdmsParts(*human))) >= score - 1e-12


@given(st.floats(0, 60), st.floats(0, 60), st.floats(0, 60), st.sampled_from([0.0, 0.5, 1.0]))
def test_more_metres_are_never_worse(meters: float, more: float, reference: float, multiplier: float):
    near, far = Progress(meters, multiplier), Progress(meters + more, multiplier)
    against = Progress(reference, 1.0)
    for share in (navsim.progress_share_v1, navsim.progress_share):
        if max(meters * multiplier, reference) > 5.0:  # below, all are 1
            assert share(far, against) >= share(near, against) - 1e-12
        assert 0.0 <= share(near, against) <= 1.0


def busy() -> Drive:
    """A drive in which much happens."""
    drive = actor(actor(straight(y=0.7), x=10.2, vx=5.0), x=-6.2, y=0.5, vx=20.0)
    bent = 0.2 * np.sin(drive.times)
    return dataclasses.replace(drive, ego=moving(drive.ego, heading=bent))


def test_the_same_drive_gives_the_same_score_to_the_last_bit():
    assert navsim.score_epdms(busy(), straight()) == navsim.score_epdms(busy(), straight())
    assert navsim.score_pdms(busy(), straight()) == navsim.score_pdms(busy(), straight())


def test_a_drive_at_another_rate_is_refused():
    with pytest.raises(UserError, match="10 Hz"):
        navsim.score_pdms(straight(dt=0.2))
    with pytest.raises(UserError, match="no route"):
        navsim.score_pdms(straight(route=None))
