"""nuPlan, CARLA, Bench2Drive, AlpaSim, HUGSIM and RAD on scenes that can be checked on paper.

As in the tests of NAVSIM's scores: a box of 4 x 2 m with its centre 1 m ahead of the axle, 10 m/s along +x.
"""

from __future__ import annotations

import dataclasses
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from countersteer.errors import UserError
from countersteer.evaluation.metrics import alpasim, bench2drive, carla, hugsim, nuplan, rad
from countersteer.evaluation.metrics.carla import Infractions, Leaderboard
from countersteer.evaluation.metrics.drive import Drive, Plans, RedLight, Road
from countersteer.scenarios.scenario import ActorKind
from drives import ROAD, actor, box, lane, moving, steady, straight

UNIT = st.floats(0, 1)


def with_expert(drive: Drive, **expert: float) -> Drive:
    """The drive beside a recorded one along the same lane."""
    return dataclasses.replace(drive, expert=steady(len(drive.times), drive.dt, **expert))


# nuPlan


def test_nuplan_on_a_free_road_is_perfect():
    score = nuplan.score_closed_loop(with_expert(straight()))
    assert (score.value, score.findings) == (1.0, ())
    assert set(dataclasses.astuple(score.parts)) == {1.0}


def test_nuplan_progress():
    # 20 of the expert's 40 m: (2.5 + 5 + 4 + 2) / 16. 4 of 40 m is no progress at all.
    half = nuplan.score_closed_loop(with_expert(straight(speed=5.0)))
    assert half.value == pytest.approx(13.5 / 16)
    assert nuplan.score_closed_loop(with_expert(straight(speed=1.0))).value == 0.0
    # A fifth is progress enough: 8.2 of 40 m, not 7.8.
    assert nuplan.score_closed_loop(with_expert(straight(speed=2.05))).parts.making_progress == 1.0
    assert nuplan.score_closed_loop(with_expert(straight(speed=1.95))).parts.making_progress == 0.0


@pytest.mark.parametrize(
    ("ego", "expert", "ratio"),
    [(20, 40, 0.5), (0, 0, 1.0), (0, 40, 0.05), (-3, 40, 0.0), (-1, 1, 1.0), (50, 40, 1.0)],
)
def test_progress_ratio(ego: float, expert: float, ratio: float):
    # Both count as 2 m at least; driving back by more than that is worth nothing.
    assert nuplan.progress_ratio(float(ego), float(expert)) == ratio


def test_nuplan_speed_limit():
    # 10 m/s where 9 are allowed: 41 samples x 1 m/s x 0.1 s = 4.1 m, over 2.23 m/s x 4 s.
    road = Road(ROAD.drivable, (lane("right", 0.0, limit=9.0), lane("left", 4.0)))
    score = nuplan.score_closed_loop(with_expert(straight(road=road)))
    assert score.parts.speed_limit == pytest.approx(1 - 4.1 / 8.92)
    assert score.value == pytest.approx((12 + 4 * (1 - 4.1 / 8.92)) / 16)
    assert [(f.part, f.value) for f in score.findings] == [("speed_limit", 1.0)]


def test_nuplan_forgives_a_corner_a_little_outside():
    # The road ends at -2: corners at -2.2 and at -2.4.
    assert nuplan.score_closed_loop(with_expert(straight(y=-1.2))).parts.drivable_area == 1.0
    far = nuplan.score_closed_loop(with_expert(straight(y=-1.4)))
    assert (far.parts.drivable_area, far.findings[0].value) == (0.0, pytest.approx(0.4))


@pytest.mark.parametrize(("speed", "value"), [(1.5, 1.0), (3.0, 0.5), (10.0, 0.0)])
def test_nuplan_driving_against_the_lane(speed: float, value: float):
    # Eleven steps: 1.65, 3.3 and 11 m against the lane.
    road = Road(ROAD.drivable, (lane("against", 0.0, back=True),))
    drive = with_expert(straight(speed=speed, road=road), speed=speed)
    assert nuplan.score_closed_loop(drive).parts.driving_direction == value


def test_nuplan_time_to_collision():
    # A car 20.1 m ahead of the ego's centre at 5 m/s: gap 16.1 - 5 t at 5 m/s, out of reach (3 s) until
    # 16.1 - 5 t < 14.5. At t = 1 it is 11.1 m, gone after 2.22 s, so at the step of 2.3 s.
    drive = actor(straight(), x=21.1, vx=5.0)
    times = nuplan.minimum_time_to_collision(drive)
    assert np.isinf(times[:3]).all()
    assert times[4] == pytest.approx(2.9)  # 14.1 / 5 = 2.82
    assert times[10] == pytest.approx(2.3)
    # It is reached at 3.22 s: an at-fault contact at tick 33, after which it does not count any more.
    assert times[33] == 0.0
    assert np.isinf(times[34:]).all()
    score = nuplan.score_closed_loop(with_expert(drive))
    assert (score.parts.time_to_collision, score.parts.no_collision) == (0.0, 0.0)


def test_nuplan_time_to_collision_passes_above_0_95_s():
    # Closing at 5 m/s with 9.1 m between at the end: 1.82 s, seen as 1.9.
    score = nuplan.score_closed_loop(with_expert(actor(straight(count=11), x=19.1, vx=5.0)))
    assert score.parts.time_to_collision == 1.0
    # With 5.1 m at the end: 1.02 s, seen as 1.1; with 4.4 m: 0.88, seen as 0.9.
    passing = actor(straight(count=11), x=15.1, vx=5.0)
    failing = actor(straight(count=11), x=14.4, vx=5.0)
    assert nuplan.score_closed_loop(with_expert(passing)).parts.time_to_collision == 1.0
    assert nuplan.score_closed_loop(with_expert(failing)).parts.time_to_collision == 0.0


def test_nuplan_counts_who_is_beside_only_while_straddling():
    # At (4, 6), 56 degrees off the axle's direction, heading right across the ego's path at 10 m/s.
    aside = actor(straight(count=2), x=4.0, y=6.0)
    across = dataclasses.replace(
        aside.actors, heading=np.full((1, 2), -0.6), velocity=np.tile([8.25, -5.65], (1, 2, 1))
    )
    drive = dataclasses.replace(aside, actors=across)
    assert np.isinf(nuplan.minimum_time_to_collision(drive)).all()
    straddled = Road(ROAD.drivable, (lane("lower", -1.5), lane("upper", 2.5)))
    times = nuplan.minimum_time_to_collision(dataclasses.replace(drive, road=straddled))
    assert np.isfinite(times).all()
    # The same holds with the axle in an intersection.
    crossing = Road(ROAD.drivable, ROAD.lanes, (box(-5, 5, -2, 6),))
    inside = nuplan.minimum_time_to_collision(dataclasses.replace(drive, road=crossing))
    assert np.array_equal(inside, times)


def test_nuplan_a_lane_and_its_successor_are_one():
    # The border between two lanes end to end is no straddling if one leads into the other.
    before = dataclasses.replace(lane("a", 0.0), area=box(-50, 20, -2, 2), successors=("b",))
    after = dataclasses.replace(lane("b", 0.0), area=box(20, 250, -2, 2))
    drive = actor(straight(road=Road(ROAD.drivable, (before, after))), x=0.5, y=3.05, vx=10.0, vy=-0.56)
    # Contact at 3.05 - 0.56 t < 2: t = 1.875, when the box reaches from 17.75 to 21.75 m.
    assert nuplan.score_closed_loop(with_expert(drive)).parts.no_collision == 1.0
    apart = (dataclasses.replace(before, successors=()), after)
    split = dataclasses.replace(drive, road=Road(ROAD.drivable, apart))
    assert nuplan.score_closed_loop(with_expert(split)).parts.no_collision == 0.0


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ActorKind.VEHICLE, 0.0),
        (ActorKind.PEDESTRIAN, 0.0),
        (ActorKind.CYCLIST, 0.0),
        (ActorKind.STATIC, 0.5),
    ],
)
def test_nuplan_collisions_by_kind(kind: ActorKind, value: float):
    drive = with_expert(actor(straight(), x=21.2, kind=kind))
    assert nuplan.score_closed_loop(drive).parts.no_collision == value


def test_nuplan_open_loop():
    # All errors 4 m and 0.4 rad: four times 1/2. No plan misses 6 m.
    score = nuplan.score_open_loop(np.full((4, 8), 4.0), np.full((4, 8), 0.4))
    assert (score.value, score.parts.miss_rate) == (pytest.approx(0.5), 1.0)
    # One of three plans is 7 m away at 1 s: it misses 6 m at all horizons but 8 and 16 m at none but the first.
    error = np.zeros((3, 8))
    error[0, 0] = 7.0
    missed = nuplan.score_open_loop(error, np.zeros((3, 8)))
    assert (missed.value, missed.parts.miss_rate) == (0.0, 0.0)
    # ADE: 7 / 3, 7 / 5, 7 / 8 of one plan in three; mean over horizons 0.5120.
    assert missed.parts.average_displacement == pytest.approx(1 - 7 * (1 / 3 + 1 / 5 + 1 / 8) / 9 / 8)


@given(st.tuples(*[UNIT] * 8), st.integers(0, 7), UNIT)
def test_no_part_of_nuplan_costs_when_it_grows(parts: tuple[float, ...], which: int, more: float):
    better = list(parts)
    better[which] = max(better[which], more)
    worse = nuplan.closed_loop(nuplan.ClosedLoopParts(*parts))
    assert nuplan.closed_loop(nuplan.ClosedLoopParts(*better)) >= worse - 1e-12


@given(*[st.integers(0, 3)] * 3)
def test_more_collisions_are_never_better(a: int, b: int, c: int):
    assert nuplan.collision_score(a, b, c) >= nuplan.collision_score(a + 1, b, c)
    assert nuplan.collision_score(a, b, c) >= nuplan.collision_score(a, b, c + 1)


# CARLA


def test_carla_scores_what_the_record_shows():
    # The centre drives from 1 to 41 m; the light's ground begins at 20.2 m, which the front at 3 + 10 t
    # passes at t = 1.72; the car is met when 35.2 - 1 - 10 t < 4, from t = 3.02 on.
    route = np.array([[1.0, 0.0], [81.0, 0.0]])
    light = RedLight(box(20.2, 24, -2, 2), np.ones(41, bool))
    drive = actor(straight(route=route, red_lights=(light,)), x=35.2)
    score = carla.score_driving(drive, Leaderboard.V2_0)
    # 40 of 80 m, 0.6 for the car, 0.7 for the light; in 2.1 1 / (1 + 0.7 + 0.4).
    assert score.value == pytest.approx(50 * 0.6 * 0.7)
    assert carla.score_driving(drive, Leaderboard.V2_1).value == pytest.approx(50 / 2.1)
    assert [(f.part, f.tick) for f in score.findings] == [
        ("vehicle_collisions", 31),
        ("red_lights", 18),
        ("completion", None),
    ]
    assert score.parts.status == "Failed"


def test_carla_status():
    whole = np.array([[1.0, 0.0], [41.0, 0.0]])
    perfect = carla.score_driving(straight(route=whole), Leaderboard.V2_0)
    assert (perfect.value, perfect.parts.status) == (100.0, "Perfect")
    hit = carla.score_driving(actor(straight(route=whole), x=35.2, kind=ActorKind.STATIC), Leaderboard.V1_0)
    assert (hit.value, hit.parts.status) == (65.0, "Completed")


def test_carla_takes_off_what_was_driven_outside_the_routes_lanes():
    # In the left lane, off the route, all the way: nothing is left.
    road = Road(ROAD.drivable, (lane("right", 0.0), lane("left", 4.0, on_route=False)))
    whole = np.array([[1.0, 0.0], [41.0, 0.0]])
    assert carla.score_driving(straight(route=whole, road=road, y=4.0), Leaderboard.V2_1).value == 0.0


def test_carla_editions():
    late = Infractions(scenario_timeouts=1, minimum_speed=(0.5,))
    assert carla.penalty(late, Leaderboard.V1_0) == 1.0  # neither existed
    assert carla.penalty(late, Leaderboard.V2_0) == pytest.approx(0.7 * 0.85)
    assert carla.penalty(late, Leaderboard.V2_1) == pytest.approx(1 / 1.6)
    with pytest.raises(UserError, match="out of range"):
        Infractions(minimum_speed=(60.0,))
    assert carla.infractions_per_km(3, [1000.0, 500.0], [1.0, 0.5]) == pytest.approx(2.4)


@given(
    st.sampled_from(list(Leaderboard)),
    st.tuples(*[st.integers(0, 3)] * 7),
    st.integers(0, 6),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_further_infraction_never_helps(
    edition: Leaderboard, counts: tuple[int, ...], which: int, slow: float, completion: float
):
    more = list(counts)
    more[which] += 1
    names = [f.name for f in dataclasses.fields(Infractions)][:7]
    few = dataclasses.replace(Infractions(), **dict(zip(names, counts, strict=True)))
    many = dataclasses.replace(few, **dict(zip(names, more, strict=True)), minimum_speed=(slow,))
    score = carla.driving_score(completion, few, edition)
    assert carla.driving_score(completion, many, edition) <= score + 1e-12
    assert 0.0 <= score <= 100.0


# Bench2Drive


def test_bench2drive_ignores_minimum_speed():
    slow = bench2drive.Route(1.0, Infractions(minimum_speed=(0.2,)))
    crash = bench2drive.Route(1.0, Infractions(vehicle_collisions=1))
    short = bench2drive.Route(0.9, Infractions())
    assert [bench2drive.success(route) for route in (slow, crash, short)] == [True, False, False]
    assert [bench2drive.driving_score(route) for route in (slow, crash)] == [100.0, 60.0]
    assert bench2drive.success_rate([slow, crash, short], routes=10) == pytest.approx(0.1)
    assert bench2drive.mean_over_routes([100.0, 60.0], routes=10) == 16.0


def test_bench2drive_efficiency():
    # 150 of the first route (the 5000 is dropped), 50 of the third: mean 100.
    assert bench2drive.efficiency([[100.0, 200.0, 5000.0], [], [50.0], [2000.0]]) == 100.0
    with pytest.raises(UserError, match="speed checkpoint"):
        bench2drive.efficiency([[], [2000.0]])


def test_bench2drive_comfort_of_chunks():
    # 50 steps: two chunks and a remainder that does not count. The second brakes at 5 m/s^2.
    motion = steady(50, 0.1)
    brakes = motion.acceleration.copy()
    brakes[20:40, 0] = -5.0
    score = bench2drive.comfortness(moving(motion, acceleration=brakes))
    assert (score.value, score.parts) == (0.5, (1.0, 0.0))
    assert all(f.tick is not None and 20 <= f.tick < 40 for f in score.findings)
    late = motion.acceleration.copy()
    late[40:, 0] = -5.0
    assert bench2drive.comfortness(moving(motion, acceleration=late)).value == 1.0
    assert bench2drive.comfortness(motion.part(slice(0, 12))).parts == (1.0,)


# AlpaSim


def test_alpasim_progress():
    # 20 m of a recorded path of 40 m: 0.5 / 0.8.
    score = alpasim.score_scene(with_expert(straight(speed=5.0)))
    assert score.value == pytest.approx(0.5 / 0.8)
    assert alpasim.score_scene(with_expert(straight())).value == 1.0


def test_alpasim_collision_ends_the_drive():
    # Standing car: boxes of 3.92 m meet at 21 - 1 - 10 t < 3.92: t = 1.608, tick 17.
    score = alpasim.score_scene(with_expert(actor(straight(), x=21.0)))
    assert (score.value, score.parts.collision_at_fault) == (0.0, True)
    assert [(f.part, f.tick, f.actors) for f in score.findings[:1]] == [("collision_at_fault", 17, (0,))]
    assert score.parts.progress == pytest.approx(17 / 40)


def test_alpasim_forgives_a_push_from_behind():
    # At 1 + 10 t - (-6.2 + 20 t) < 3.92: t = 0.328, tick 4. What follows does not count: progress 4 / 40.
    score = alpasim.score_scene(with_expert(actor(straight(), x=-6.2, vx=20.0)))
    assert not score.parts.collision_at_fault
    assert score.value == pytest.approx(4 / 40 / 0.8)


def test_alpasim_rounds_corners():
    # Corner to corner, 1.9 m aside: boxes 1.96 m wide overlap by 0.06 m at the side, but corners of
    # radius 0.49 m clear each other while they overlap little lengthwise too.
    near = actor(straight(speed=10.0, count=2), x=1.0 + 3.9, y=1.9, vx=10.0)
    assert alpasim.score_scene(with_expert(near)).parts.collision_at_fault is False
    full = actor(straight(speed=10.0, count=2), x=1.0 + 3.0, y=1.9, vx=10.0)
    assert alpasim.score_scene(with_expert(full)).parts.collision_at_fault is True


def test_alpasim_off_road():
    # In no lane as a whole and over the edge at y = -2; between two lanes is on the road.
    off = alpasim.score_scene(with_expert(straight(y=-1.5)))
    assert (off.value, off.parts.off_road) == (0.0, True)
    assert not alpasim.score_scene(with_expert(straight(y=2.0))).parts.off_road


def test_alpasim_refuses_what_is_not_a_number():
    with pytest.raises(UserError, match="finite progress"):
        alpasim.scene_score(alpasim.SceneParts(math.nan, 10.0, False, False))
    with pytest.raises(UserError, match="no expert"):
        alpasim.score_scene(straight())
    assert alpasim.metres_per_incident([300.0, 700.0], [True, False]) == 1000.0
    assert alpasim.metres_per_incident([300.0], [False]) == math.inf


@given(UNIT, UNIT, st.booleans())
def test_alpasim_grows_with_progress(progress: float, more: float, crash: bool):
    small, large = sorted((progress, more))
    low, high = (alpasim.scene_score(alpasim.SceneParts(p, 10.0, crash, False)) for p in (small, large))
    assert 0.0 <= low <= high <= 1.0


# HUGSIM


def planned(drive: Drive, tick: int = 0, *, speed: float = 10.0, aside: float = 0.0) -> Drive:
    """The drive with one plan of 2 s straight ahead, a point each half second, `aside` [m] to the left."""
    ahead = np.arange(1, 5) * 0.5
    place = drive.ego.position[tick] + np.stack([speed * ahead, np.full(4, aside)], -1)
    return dataclasses.replace(drive, plans=Plans(np.array([tick]), ahead, place[None], np.zeros((1, 4))))


WHOLE = np.array([[1.0, 0.0], [41.0, 0.0]])


def test_hugsim_on_a_free_road_is_perfect():
    score = hugsim.score_hd(planned(straight(route=WHOLE)))
    assert (score.value, score.findings) == (1.0, ())


def test_hugsim_scales_with_completion():
    # The centre drives from 1 to 41 m of a route from 1 to 81 m.
    route = np.array([[1.0, 0.0], [81.0, 0.0]])
    assert hugsim.score_hd(planned(straight(route=route))).value == pytest.approx(0.5)


def test_hugsim_collision_of_a_plan():
    # A car at 21.2 m that nobody reaches before 2 s: 21.2 - 1 - 20 = 0.2 m between the centres at 2 s.
    hit = hugsim.score_hd(planned(actor(straight(route=WHOLE), x=21.2)))
    assert hit.value == 0.0
    assert next((f.part, f.value) for f in hit.findings) == ("no_collision", 2.0)
    # At 27 m the plan ends 6 m short, but another second at 10 m/s reaches it: 2 / 7.
    near = hugsim.score_hd(planned(actor(straight(route=WHOLE), x=27.0)))
    assert near.parts.plans[0] == hugsim.PlanParts(1.0, 1.0, 0.0, 1.0)
    assert near.value == pytest.approx(2 / 7)
    # Only cars count.
    walker = hugsim.score_hd(planned(actor(straight(route=WHOLE), x=21.2, kind=ActorKind.PEDESTRIAN)))
    assert walker.value == 1.0


def test_hugsim_drivable_cover():
    # 2.2 m aside to the right: both right quarters and nearly all of the left ones are off the road (y > -2 holds
    # for the left 0.8 m of the left quarters). 3.2 m aside nothing is on it.
    assert hugsim.score_hd(planned(straight(route=WHOLE), aside=-2.2)).parts.plans[0].drivable_area == 1.0
    assert hugsim.score_hd(planned(straight(route=WHOLE), aside=-3.2)).parts.plans[0].drivable_area == 0.0
    assert [hugsim.cover_score(c) for c in (0.25, 0.4, 0.5)] == [0.0, 0.5, 1.0]


def test_hugsim_comfort_of_a_plan():
    # A plan that moves 5, 5, 0, 0 m in half seconds stops at 20 m/s^2.
    drive = planned(straight(route=WHOLE))
    assert drive.plans is not None
    stops = drive.plans.position.copy()
    stops[0, :, 0] = [5.0, 10.0, 10.0, 10.0]
    rough = dataclasses.replace(drive, plans=dataclasses.replace(drive.plans, position=stops))
    assert hugsim.score_hd(rough).parts.plans[0].comfort == 0.0
    assert hugsim.score_hd(rough).value == pytest.approx(5 / 7)


def test_hugsim_collides_with_points():
    wall = np.stack([np.full(101, 12.0), np.linspace(-0.5, 0.5, 101), np.full(101, 1.0)], -1)
    ground = np.stack(np.meshgrid(np.arange(-5, 60, 0.5), np.arange(-2, 6, 0.5)), -1).reshape(-1, 2)
    drive = planned(straight(route=WHOLE))
    assert hugsim.score_hd(drive, hugsim.Background(ground, wall)).parts.plans[0].no_collision == 0.0
    thin = hugsim.Background(ground, wall[:100])  # 100 points are not more than 100
    assert hugsim.score_hd(drive, thin).value == 1.0
    beside = hugsim.Background(ground + np.array([0.0, 30.0]), wall[:1])
    assert hugsim.score_hd(drive, beside).parts.plans[0].drivable_area == 0.0


def test_hugsim_needs_plans():
    with pytest.raises(UserError, match="no plans"):
        hugsim.score_hd(straight(route=WHOLE))
    with pytest.raises(UserError, match="needs plans"):
        hugsim.hd_score(hugsim.HdParts(1.0, ()))


@given(st.tuples(*[UNIT] * 4), st.integers(0, 3), UNIT, UNIT)
def test_no_part_of_hugsim_costs_when_it_grows(parts: tuple[float, ...], which: int, more: float, rc: float):
    better = list(parts)
    better[which] = max(better[which], more)
    low, high = (hugsim.hd_score(hugsim.HdParts(rc, (hugsim.PlanParts(*p),))) for p in (parts, better))
    assert high >= low - 1e-12


# RAD


def test_rad_ends_of_a_clip():
    def ends(drive: Drive) -> tuple[rad.ClipEnd, int]:
        parts = rad.score_clip(with_expert(drive)).parts
        return parts.end, parts.tick

    assert ends(straight()) == (rad.ClipEnd.TIME, 40)
    assert ends(actor(straight(), x=21.2)) == (rad.ClipEnd.DYNAMIC_COLLISION, 17)
    assert ends(actor(straight(), x=21.2, kind=ActorKind.STATIC)) == (rad.ClipEnd.STATIC_COLLISION, 17)
    # Drifting aside at 1 m/s: more than 2 m at 2.1 s.
    drift = straight().ego.position + np.stack([np.zeros(41), np.arange(41) * 0.1], -1)
    assert ends(straight(ego=moving(steady(41, 0.1), position=drift)))[0] == rad.ClipEnd.POSITION
    # Turning at 0.5 rad/s: 40 degrees are 0.698 rad, at 1.4 s.
    turning = straight(ego=moving(steady(41, 0.1), heading=0.5 * np.arange(41) * 0.1))
    assert ends(turning) == (rad.ClipEnd.HEADING, 14)


def test_rad_deviation_and_jerk():
    # One metre aside of the expert; the acceleration alternates 0 and 1 m/s^2, 10 m/s^3 either way.
    acceleration = np.stack([np.arange(41) % 2, np.zeros(41)], -1).astype(float)
    drive = straight(y=1.0, ego=moving(steady(41, 0.1, y=1.0), acceleration=acceleration))
    score = rad.score_clip(with_expert(drive))
    assert score.value == 1.0
    assert score.parts.deviation == pytest.approx(1.0)
    assert (score.parts.longitudinal_jerk, score.parts.lateral_jerk) == (pytest.approx(10.0), 0.0)


def test_rad_ratios():
    clips = [
        rad.score_clip(with_expert(d)).parts for d in (straight(), straight(y=3.0), actor(straight(), x=21.2))
    ]
    ratio = rad.ratios(clips)
    assert (ratio.collision, ratio.deviating) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert ratio.deviation == pytest.approx(1.0)  # 0, 3 and 0 m
    with pytest.raises(UserError, match="no clips"):
        rad.ratios([])


# All of them


def busy() -> Drive:
    """A drive in which much happens."""
    drive = planned(actor(actor(straight(y=0.7), x=15.2, vx=5.0), x=-6.2, y=0.5, vx=20.0))
    hard = drive.ego.acceleration + np.array([3.0, 0.0])
    ego = moving(drive.ego, heading=0.2 * np.sin(drive.times), acceleration=hard)
    return with_expert(dataclasses.replace(drive, ego=ego))


@pytest.mark.parametrize(
    "score",
    [
        nuplan.score_closed_loop,
        alpasim.score_scene,
        hugsim.score_hd,
        rad.score_clip,
        lambda drive: carla.score_driving(drive, Leaderboard.V2_1),
        lambda drive: bench2drive.comfortness(drive.ego),
    ],
)
def test_the_same_drive_gives_the_same_score_to_the_last_bit(score):
    first, second = score(busy()), score(busy())
    assert first == second
    assert first.findings
