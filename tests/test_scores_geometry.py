"""What all scores share: the record, polygons, contacts, areas, filters, displacement."""

from __future__ import annotations

import dataclasses
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from countersteer.errors import UserError
from countersteer.evaluation.metrics import comfort, contacts, displacement
from countersteer.evaluation.metrics.areas import ego_areas, intrusion, lanes_at
from countersteer.evaluation.metrics.contacts import ContactKind
from countersteer.evaluation.metrics.drive import Drive, Motion, Plans, RedLight, Road
from countersteer.geometry import polygons
from countersteer.scenarios.scenario import ActorKind
from drives import ROAD, actor, box, lane, moving, steady, straight

L_SHAPE = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 1.0], [1.0, 1.0], [1.0, 4.0], [0.0, 4.0]])


def test_a_point_in_the_notch_of_an_l_is_outside():
    points = np.array([[0.5, 3.0], [3.0, 0.5], [3.0, 3.0], [-1.0, 0.5]])
    assert polygons.contains(L_SHAPE, points).tolist() == [True, True, False, False]


def test_distance_to_an_l():
    # (3, 3) is 2 m above the foot and 2 m right of the upright; (0.5, 0.5) is inside.
    assert polygons.distance(L_SHAPE, np.array([[3.0, 3.0], [0.5, 0.5], [6.0, 0.5]])).tolist() == [
        2.0,
        0.0,
        2.0,
    ]


def test_polygons_that_cross_without_a_vertex_inside_overlap():
    assert polygons.overlap(box(-3, 3, -1, 1), box(-1, 1, -3, 3))
    assert not polygons.overlap(L_SHAPE, box(2, 3, 2, 3))
    assert polygons.overlap(box(0, 9, 0, 9), box(4, 5, 4, 5))


def test_the_side_of_a_bent_line():
    # Along +x, then +y: the left turn's inside is the left.
    bent = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0]])
    points = np.array([[2.0, 1.0], [2.0, -1.0], [5.0, -1.0], [5.0, 2.0], [3.0, 2.0]])
    expected = [-1.0, 1.0, 2**0.5, 1.0, -1.0]
    assert polygons.side_distance(bent, points) == pytest.approx(expected)


def test_distance_between_rectangles():
    square = box(-1, 1, -1, 1)
    assert polygons.rectangle_distance(square, square + np.array([5.0, 0.0])) == pytest.approx(3.0)
    assert polygons.rectangle_distance(square, square + np.array([5.0, 6.0])) == pytest.approx(
        5.0
    )  # a 3-4-5 triangle
    assert polygons.rectangle_distance(square, square + np.array([1.5, 0.3])) == pytest.approx(-0.5)
    # A square on its corner at x = 4: its near corner is sqrt(2) before its centre.
    tilted = polygons.rectangle(np.array([4.0, 0.0]), np.array(np.pi / 4), np.array([2.0, 2.0]))
    assert polygons.rectangle_distance(square, tilted) == pytest.approx(4 - 1 - 2**0.5)


@given(
    st.tuples(*[st.floats(-4, 4)] * 2),
    st.floats(-3, 3),
    st.tuples(*[st.floats(0.5, 4)] * 2),
)
def test_rectangles_are_apart_exactly_where_their_distance_is_positive(
    place: tuple[float, float], turn: float, size: tuple[float, float]
):
    center, heading, sides = np.array(place), np.array(turn), np.array(size)
    gap = polygons.rectangle_distance(
        polygons.rectangle(np.zeros(2), np.array(0.3), np.array([3.0, 1.5])),
        polygons.rectangle(center, heading, sides),
    )
    touch = contacts.boxes_touch(np.zeros(2), np.array(0.3), np.array([3.0, 1.5]), center, heading, sides)
    if abs(gap) > 1e-9:
        assert bool(touch) == bool(gap < 0)


def test_motion_from_poses_on_a_circle():
    # Radius 20 m at 10 m/s: yaw rate 0.5 rad/s, 5 m/s^2 to the left.
    t = np.arange(101) * 0.02
    angle = 0.5 * t
    circle = 20 * np.stack([np.sin(angle), 1 - np.cos(angle)], -1)
    motion = Motion.from_poses(t, circle, angle)
    inner = slice(2, -2)
    assert motion.speed[inner] == pytest.approx(10.0, abs=1e-3)
    assert motion.acceleration[inner, 1] == pytest.approx(5.0, abs=2e-3)
    assert motion.acceleration[inner, 0] == pytest.approx(0.0, abs=2e-3)
    assert motion.yaw_rate[inner] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"times": np.zeros(41)}, "times do not increase"),
        ({"ego": steady(40, 0.1)}, "differ in length"),
        ({"ego": moving(steady(41, 0.1), heading=np.full(41, np.nan))}, "not finite"),
        ({"size": (4.0, 0.0)}, "no size"),
        ({"route": np.zeros((1, 2))}, "route is no line"),
        ({"red_lights": (RedLight(box(0, 1, 0, 1), np.zeros(3, bool)),)}, "light and the times"),
    ],
)
def test_a_record_that_cannot_be_scored_is_refused(changes: dict[str, Any], says: str):
    with pytest.raises(UserError, match=says):
        straight(**changes)


def test_a_map_area_needs_three_points():
    with pytest.raises(UserError, match="no polygon"):
        Road(drivable=(np.zeros((2, 2)),))


def test_uneven_times_have_no_interval():
    drive = straight()
    times = drive.times.copy()
    times[20:] += 0.05
    with pytest.raises(UserError, match="equally spaced"):
        _ = dataclasses.replace(drive, times=times).dt


def test_corners_are_front_left_rear_left_rear_right_front_right():
    # Rear axle at 0, centre 1 m ahead, 4 m long: from x = -1 to 3.
    assert straight().corners[0].tolist() == [[3, 1], [-1, 1], [-1, -1], [3, -1]]


def contact(x: float, y: float, vx: float, vy: float = 0.0, *, speed: float = 10.0, kind=ActorKind.VEHICLE):
    drive = actor(straight(speed=speed), x=x, y=y, vx=vx, vy=vy, kind=kind)
    found = contacts.first_contacts(drive)
    return (found[0].tick, found[0].kind) if found else None


def test_whose_fault_a_contact_is():
    # The ego's centre is at 1 + 10 t, both boxes are 4 x 2 m, so boxes in one lane meet at 4 m.
    # Into a slower car: 10.2 + 5 t - 1 - 10 t < 4 from t = 1.04.
    assert contact(10.2, 0.0, 5.0) == (11, ContactKind.FRONT)
    # Into a standing car: 21.2 - 1 - 10 t < 4 from t = 1.62.
    assert contact(21.2, 0.0, 0.0) == (17, ContactKind.STANDING_ACTOR)
    # Hit by one from behind: 1 + 10 t - (-6.2 + 20 t) < 4 from t = 0.32.
    assert contact(-6.2, 0.0, 20.0) == (4, ContactKind.REAR)
    # Standing: the other comes at 5 m/s, 1 - (-6.2 + 5 t) < 4 from t = 0.64.
    assert contact(-6.2, 0.0, 5.0, speed=0.0) == (7, ContactKind.STANDING_EGO)
    # Alongside, half a metre behind the ego's centre, drifting in: 3.05 - t < 2 from t = 1.05.
    assert contact(0.5, 3.05, 10.0, -1.0) == (11, ContactKind.LATERAL)
    # A barrier that claims to move still stands.
    assert contact(10.2, 0.0, 5.0, kind=ActorKind.STATIC) == (11, ContactKind.STANDING_ACTOR)
    assert contact(30.0, 0.0, 10.0) is None


def test_a_sideways_contact_is_the_fault_of_who_straddles():
    assert contacts.at_fault(ContactKind.LATERAL, True)
    assert not contacts.at_fault(ContactKind.LATERAL, False)
    assert not contacts.at_fault(ContactKind.REAR, True)


def test_an_actor_that_is_not_there_is_not_touched():
    drive = actor(straight(), x=10.2, vx=5.0)
    gone = dataclasses.replace(drive.actors, valid=np.zeros_like(drive.actors.valid))
    assert not contacts.touching(dataclasses.replace(drive, actors=gone)).any()


def test_areas_of_a_lane_change():
    # The box is 2 m wide; the lane border is y = 2, the road's edges y = -2 and 6.
    for y, straddles, off in [
        (0.0, False, False),
        (1.5, True, False),
        (4.0, False, False),
        (-1.5, False, True),
    ]:
        areas = ego_areas(straight(y=y))
        assert (areas.straddling.all(), areas.off_drivable.all()) == (straddles, off), y
        assert areas.exposed.any() == (straddles or off)


def test_off_route_is_where_the_centre_leaves_the_routes_lanes():
    road = Road(ROAD.drivable, (lane("right", 0.0), lane("left", 4.0, on_route=False)), (box(20, 30, -2, 6),))
    areas = ego_areas(straight(y=4.0, road=road))
    assert areas.off_route.all()
    # The centre is at 1 + 10 t: in the intersection from t = 1.9 to 2.9; the axle a metre later.
    assert np.flatnonzero(areas.center_in_intersection)[[0, -1]] == pytest.approx([19.5, 28.5], abs=0.6)
    assert np.flatnonzero(areas.axle_in_intersection)[[0, -1]] == pytest.approx([20.5, 29.5], abs=0.6)


def test_of_two_lanes_the_aligned_one_counts():
    road = Road(ROAD.drivable, (lane("against", 0.0, back=True), lane("along", 0.0)))
    found = lanes_at(straight(road=road))
    assert {one.id for one in found if one is not None} == {"along"}
    assert lanes_at(straight(y=40.0))[0] is None


def test_a_red_light_is_run_only_while_it_is_red():
    # The front is at 3 + 10 t: over x = 20.2 from t = 1.72; the rear at -1 + 10 t passes 24.2 at t = 2.52.
    red = np.zeros(41, bool)
    red[:22] = True
    inside = intrusion(straight(red_lights=(RedLight(box(20.2, 24.2, -2, 2), red),)))
    assert np.flatnonzero(inside[:, 0]).tolist() == [18, 19, 20, 21]
    always = intrusion(straight(red_lights=(RedLight(box(20.2, 24.2, -2, 2), np.ones(41, bool)),)))
    assert np.flatnonzero(always[:, 0]).tolist() == [18, 19, 20, 21, 22, 23, 24, 25]
    green = intrusion(straight(red_lights=(RedLight(box(20, 24, -2, 2), np.zeros(41, bool)),)))
    assert not green.any()


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.sampled_from([5, 7, 8, 15]))
def test_a_parabola_passes_the_filter_and_its_slope_is_exact(terms: list[float], window: int):
    # Least squares of order 2 leaves a parabola alone. An even window answers half a sample late,
    # except at the ends, which come from the end windows.
    t = np.arange(30) * 0.1
    a, b, c = terms
    values = a + b * t + c * t**2
    late = np.zeros(30) if window % 2 else np.where((np.arange(30) >= 4) & (np.arange(30) < 26), 0.05, 0.0)
    at = t + late
    assert comfort.savitzky_golay(values, window, 2) == pytest.approx(a + b * at + c * at**2, abs=1e-9)
    slope = comfort.savitzky_golay(values, window, 2, derivative=1, dt=0.1)
    assert slope == pytest.approx(b + 2 * c * at, abs=1e-8)


def test_a_series_too_short_for_the_filter_is_refused():
    with pytest.raises(UserError, match="too short"):
        comfort.savitzky_golay(np.zeros(2), 8, 2)


def test_a_bound_itself_is_uncomfortable_but_for_hugsim():
    signals = comfort.ComfortSignals(*[np.zeros(3)] * 5, yaw_rate=np.full(3, 0.95))
    assert [f.note for f in comfort.violations(signals)] == ["yaw rate"]
    assert comfort.violations(signals, inclusive=True) == ()


def plans(error: list[list[float]], expert: Motion) -> Plans:
    """Two plans at ticks 0 and 10, 1 and 2 s ahead, off to the left of the expert by these distances."""
    ticks, steps = np.array([0, 10]), np.array([10, 20])
    place = expert.position[ticks[:, None] + steps].copy()
    place[..., 1] += error
    return Plans(ticks, np.array([1.0, 2.0]), place, np.zeros((2, 2)))


def test_displacement_of_two_plans():
    # ADE (1 + 3 + 0 + 1) / 4 = 1.25, FDE (3 + 1) / 2 = 2, one of two plans ends more than 2 m away.
    expert = steady(41, 0.1)
    drive = straight(expert=expert, plans=plans([[1, 3], [0, 1]], expert))
    score = displacement.score_plans(drive)
    assert score.value == pytest.approx(1.25)
    assert (score.parts.final, score.parts.missed, score.parts.plans) == (pytest.approx(2.0), 0.5, 2)
    assert [(f.tick, f.value) for f in score.findings] == [(0, pytest.approx(3.0))]


def test_plans_beyond_the_recording_do_not_count():
    expert = steady(41, 0.1)
    drive = straight(expert=expert, plans=plans([[1, 3], [0, 1]], expert))
    assert drive.plans is not None
    late = dataclasses.replace(drive.plans, tick=np.array([0, 30]))
    assert displacement.score_plans(dataclasses.replace(drive, plans=late)).parts.plans == 1
    none = dataclasses.replace(drive.plans, tick=np.array([30, 35]))
    with pytest.raises(UserError, match="no plan can be compared"):
        displacement.score_plans(dataclasses.replace(drive, plans=none))
    with pytest.raises(UserError, match="no expert"):
        displacement.score_plans(dataclasses.replace(drive, expert=None))


def test_the_two_conventions_of_l2():
    error, ahead = np.array([[1.0, 2.0, 6.0]]), np.array([1.0, 2.0, 3.0])
    assert displacement.error_at_horizon(error, ahead, 3.0) == 6.0
    assert displacement.error_up_to_horizon(error, ahead, 3.0) == 3.0
    assert displacement.minimum_average_displacement(np.array([[1.0, 5.0], [2.0, 2.0]])) == 2.0
    with pytest.raises(UserError, match="no point at the horizon"):
        displacement.error_at_horizon(error, ahead, 2.5)


@given(st.lists(st.floats(0, 9), min_size=2, max_size=6), st.floats(0, 3))
def test_a_larger_error_never_lowers_a_displacement(error: list[float], more: float):
    small, large = np.array([error]), np.array([error]) + more
    assert displacement.average_displacement(large) >= displacement.average_displacement(small)
    assert displacement.miss_rate(large) >= displacement.miss_rate(small)


def test_the_record_is_filled_by_hand_only_with_what_a_score_reads():
    bare = straight()
    minimal = Drive(bare.times, bare.ego, bare.size, bare.ahead, bare.actors)
    assert minimal.road.lanes == ()
