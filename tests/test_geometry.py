"""Geometry against closed forms: poses, boxes, polylines and the signs of camera angles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.geometry import boxes, polylines
from countersteer.geometry.cameras import Camera, ego_from_camera
from countersteer.geometry.poses import local_from_world, world_from_local, wrap_angle

angles = st.floats(-50.0, 50.0)
metres = st.floats(-1e4, 1e4)


# Poses


@given(angle=st.floats(-1e4, 1e4))
def test_wrapped_angles_name_the_same_direction_within_half_a_turn(angle: float):
    for wrapped in (
        wrap_angle(np.array([angle]))[0],
        wrap_angle(torch.tensor([angle], dtype=torch.float64))[0],
    ):
        assert -math.pi <= wrapped <= math.pi
        turns = (angle - float(wrapped)) / (2 * math.pi)
        assert turns == pytest.approx(round(turns), abs=1e-9)


def test_half_a_turn_wraps_to_minus_pi():
    for k in (-3, -1, 1, 3):
        assert wrap_angle(np.array([k * math.pi]))[0] == pytest.approx(-math.pi)
    assert wrap_angle(np.array([0.5]))[0] == pytest.approx(0.5)


@given(x=metres, y=metres, ox=metres, oy=metres, heading=angles)
def test_local_and_world_frames_undo_each_other(x: float, y: float, ox: float, oy: float, heading: float):
    points, origin, turn = np.array([[x, y]]), np.array([[ox, oy]]), np.array([heading])
    there = local_from_world(points, origin, turn)
    np.testing.assert_allclose(world_from_local(there, origin, turn), points, atol=1e-8)
    assert np.hypot(*there[0]) == pytest.approx(np.hypot(x - ox, y - oy), abs=1e-8)


@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_local_x_is_ahead_and_local_y_is_left(make):
    """A car at (10, 5) that faces north: north is ahead, west is left."""
    points, origin, heading = (
        make([[10.0, 8.0], [6.0, 5.0]]),
        make([[10.0, 5.0]] * 2),
        make([math.pi / 2] * 2),
    )
    local = np.asarray(local_from_world(points, origin, heading))
    np.testing.assert_allclose(local, [[3.0, 0.0], [0.0, 4.0]], atol=1e-6)


# Boxes


def test_corners_start_front_left_and_go_round_counter_clockwise():
    found = boxes.corners(torch.tensor([1.0, 2.0]), torch.tensor(0.0), torch.tensor([4.0, 2.0]))
    assert found.tolist() == [[3.0, 3.0], [-1.0, 3.0], [-1.0, 1.0], [3.0, 1.0]]
    turned = boxes.corners(torch.tensor([1.0, 2.0]), torch.tensor(math.pi / 2), torch.tensor([4.0, 2.0]))
    torch.testing.assert_close(turned[0], torch.tensor([0.0, 4.0]))


@pytest.mark.parametrize(
    ("x", "y", "heading", "expected"),
    [
        (0.0, 0.0, 0.0, True),  # the same box
        (3.9, 0.0, 0.0, True),
        (4.0, 0.0, 0.0, False),  # touching counts as apart
        (0.0, 2.1, 0.0, False),
        (0.0, 1.9, 0.0, True),
        (0.0, 0.0, math.pi / 2, True),  # a cross: no corner lies inside the other
        (0.0, 2.9, math.pi / 2, True),
        (0.0, 3.1, math.pi / 2, False),
        (2.0 + 3 / math.sqrt(2) - 0.05, 0.0, math.pi / 4, True),  # its corner region reaches the front
        (2.0 + 3 / math.sqrt(2) + 0.05, 0.0, math.pi / 4, False),
        # Along the slanted axis the boxes reach 2 + 3 / sqrt(2) = 4.12; along x and y they overlap anyway.
        (3.3, 2.4, math.pi / 4, True),  # 4.03 apart
        (3.5, 2.5, math.pi / 4, False),  # 4.24 apart
    ],
)
def test_overlap_of_a_4_by_2_box_at_the_origin(x: float, y: float, heading: float, expected: bool):
    size = torch.tensor([4.0, 2.0])
    other = (torch.tensor([x, y]), torch.tensor(heading), size)
    origin = (torch.zeros(2), torch.tensor(0.0), size)
    assert bool(boxes.overlap(*origin, *other)) == expected
    assert bool(boxes.overlap(*other, *origin)) == expected


def random_boxes(count: int, seed: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)

    def box() -> list[torch.Tensor]:
        center = 6 * torch.rand(count, 2, generator=draw, dtype=torch.float64) - 3
        heading = 2 * math.pi * torch.rand(count, generator=draw, dtype=torch.float64)
        return [center, heading, 0.3 + 4 * torch.rand(count, 2, generator=draw, dtype=torch.float64)]

    return box() + box()


def test_overlap_agrees_with_points_sampled_in_both_boxes():
    """A grid point of box a inside box b proves overlap; with no point near b there is none."""
    pairs = random_boxes(1500, seed=1)
    center_a, heading_a, size_a, center_b, heading_b, size_b = pairs
    steps = torch.linspace(-0.5, 0.5, 61, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)

    def sampled(grow: float) -> torch.Tensor:
        n, m = len(heading_a), len(grid)
        points = world_from_local(
            grid * size_a[:, None], center_a[:, None].expand(n, m, 2), heading_a[:, None].expand(n, m)
        )
        local = local_from_world(points, center_b[:, None].expand(n, m, 2), heading_b[:, None].expand(n, m))
        return (local.abs() < size_b[:, None] / 2 + grow).all(-1).any(-1)

    found = boxes.overlap(*pairs)
    assert 300 < int(found.sum()) < 1200, "the sample is one-sided"
    assert bool(found[sampled(0.0)].all()), "a shared point, but no overlap reported"
    cell = float(size_a.max()) / 60
    assert bool((~found[~sampled(cell)]).all()), "overlap reported, but no point of one is near the other"


def test_overlap_does_not_depend_on_the_frame():
    pairs = random_boxes(500, seed=2)
    center_a, heading_a, size_a, center_b, heading_b, size_b = pairs
    shift, turn = (
        torch.tensor([[40.0, -7.0]], dtype=torch.float64).expand(500, 2),
        torch.full((500,), 0.7).double(),
    )
    moved = boxes.overlap(
        world_from_local(center_a, shift, turn), heading_a + turn, size_a,
        world_from_local(center_b, shift, turn), heading_b + turn, size_b,
    )  # fmt: skip
    assert torch.equal(moved, boxes.overlap(*pairs))


def test_the_rear_axle_of_the_reference_car_is_where_nuplan_puts_it():
    assert boxes.rear_axle_to_center(5.176) == pytest.approx(1.461)


# Cameras. The pixel of a point p (ego axes, seen from the optical centre) is read off camera_from_ego @ p.


def seen(point: tuple[float, float, float], **mounting: float) -> ndarray:
    """Direction to `point` in camera axes: x right, y down, z forward."""
    angles = {"roll": 0.0, "pitch": 0.0, "yaw": 0.0} | mounting
    return ego_from_camera(**angles).T @ np.array(point)


def test_camera_axes_are_right_down_forward():
    np.testing.assert_allclose(seen((1, 0, 0)), [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(seen((0, 1, 0)), [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(seen((0, 0, 1)), [0, -1, 0], atol=1e-12)


def test_positive_pitch_looks_down():
    forward = ego_from_camera(0.0, 0.2, 0.0) @ [0.0, 0.0, 1.0]
    np.testing.assert_allclose(forward, [math.cos(0.2), 0.0, -math.sin(0.2)], atol=1e-12)
    assert seen((1, 0, 0), pitch=0.2)[1] < 0, "the horizon moves up in the image"


def test_positive_yaw_looks_left():
    forward = ego_from_camera(0.0, 0.0, 0.2) @ [0.0, 0.0, 1.0]
    np.testing.assert_allclose(forward, [math.cos(0.2), math.sin(0.2), 0.0], atol=1e-12)
    assert seen((1, 0, 0), yaw=0.2)[0] > 0, "what is straight ahead moves right in the image"


def test_positive_roll_lowers_the_right_side():
    right = ego_from_camera(0.2, 0.0, 0.0) @ [1.0, 0.0, 0.0]
    np.testing.assert_allclose(right, [0.0, -math.cos(0.2), -math.sin(0.2)], atol=1e-12)
    assert seen((1, -1, 0), roll=0.2)[1] < 0, "with the right side lowered, level things there look higher"


def test_angles_apply_as_roll_then_pitch_then_yaw_about_the_ego_axes():
    """A camera yawed to the left and pitched looks down along its own line of sight, not sideways."""
    forward = ego_from_camera(0.0, 0.3, math.pi / 2) @ [0.0, 0.0, 1.0]
    np.testing.assert_allclose(forward, [0.0, math.cos(0.3), -math.sin(0.3)], atol=1e-12)


@given(roll=angles, pitch=angles, yaw=angles)
def test_mountings_are_rotations(roll: float, pitch: float, yaw: float):
    rotation = ego_from_camera(roll, pitch, yaw)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def test_the_edge_of_the_image_is_half_the_field_of_view():
    camera = Camera(width=200, height=100, fov=math.radians(90))
    assert camera.focal == pytest.approx(100.0)
    assert math.atan(camera.width / 2 / camera.focal) == pytest.approx(camera.fov / 2)


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"height": -1}, {"fov": 0.0}, {"fov": math.pi}, {"fov": 80.0}]
)
def test_impossible_cameras_are_refused(wrong: dict):
    with pytest.raises(UserError, match="front"):
        Camera(**wrong)


# Polylines


def arc(radius: float, turn: float, spacing: float, left: bool = True) -> ndarray:
    """Arc from the origin that starts along +x and turns by `turn` [rad]."""
    angle = np.linspace(0.0, turn, max(int(radius * turn / spacing), 8))
    side = 1.0 if left else -1.0
    return np.stack([radius * np.sin(angle), side * radius * (1 - np.cos(angle))], 1)


@pytest.mark.parametrize("radius", [8.0, 50.0, 400.0])
@pytest.mark.parametrize("left", [True, False])
def test_a_circle_has_its_curvature_positive_to_the_left(radius: float, left: bool):
    found = polylines.curvatures(arc(radius, 2.0, 0.5, left))
    np.testing.assert_allclose(found[2:-2], (1 if left else -1) / radius, rtol=2e-3)


def test_curvature_error_falls_with_the_square_of_the_spacing():
    errors = [
        np.abs(polylines.curvatures(arc(20.0, 2.0, spacing))[5:-5] - 1 / 20).max()
        for spacing in (1.0, 0.5, 0.25)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 2.0, atol=0.25)


def test_arc_length_of_a_circle_and_of_a_climb():
    assert polylines.arc_length(arc(30.0, 2.0, 0.05))[-1] == pytest.approx(60.0, rel=1e-5)
    climb = np.array([[0.0, 0.0, 0.0], [3.0, 4.0, 100.0]])
    assert polylines.arc_length(climb).tolist() == [0.0, 5.0]  # in the plane


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=12),
    st.floats(0.1, 30),
)
def test_resampling_keeps_the_ends_and_spaces_evenly(corners: list, spacing: float):
    points = np.array(corners)
    total = polylines.arc_length(points)[-1]
    if total < 0.01:
        return
    found = polylines.resample(points, spacing)
    np.testing.assert_allclose(found[[0, -1]], points[[0, -1]], atol=1e-4)
    # A chord across a corner may be shorter than the way along the line, never longer.
    step = total / (len(found) - 1)
    assert step <= spacing + 1e-6
    assert np.linalg.norm(np.diff(found, axis=0), axis=1).max() <= step + 1e-4


def test_headings_do_not_jump_after_a_full_turn():
    course = polylines.headings(arc(10.0, 9.0, 0.1))
    np.testing.assert_allclose(course[[1, -2]], [0.0, 9.0], atol=0.03)
    assert np.abs(np.diff(course)).max() < 0.1


def test_an_offset_to_the_left_of_a_left_turn_is_the_smaller_circle():
    middle = np.array([0.0, 30.0])
    inside = polylines.offset(arc(30.0, 2.0, 0.1), 2.0)
    np.testing.assert_allclose(np.linalg.norm(inside[1:-1] - middle, axis=1), 28.0, atol=1e-3)


@given(along=st.floats(0.5, 9.5), left=st.floats(-5, 5), heading=angles)
def test_projection_gives_arc_length_and_left_positive_offset(along: float, left: float, heading: float):
    ahead, side = (
        np.array([math.cos(heading), math.sin(heading)]),
        np.array([-math.sin(heading), math.cos(heading)]),
    )
    line = np.linspace(0, 10, 21)[:, None] * ahead
    s, lateral = polylines.project(line, (along * ahead + left * side)[None])
    assert s[0] == pytest.approx(along, abs=1e-9)
    assert lateral[0] == pytest.approx(left, abs=1e-9)


def test_projection_of_offset_points_returns_the_offset():
    line = arc(40.0, 1.5, 0.05, left=False)
    for left in (-3.0, 0.0, 3.0):
        s, lateral = polylines.project(line, polylines.offset(line, left)[5:-5])
        np.testing.assert_allclose(lateral, left, atol=2e-3)
        np.testing.assert_allclose(s, polylines.arc_length(line)[5:-5], atol=0.06)


def test_projection_beyond_an_end_stays_at_the_end():
    line = np.array([[0.0, 0.0], [10.0, 0.0]])
    s, lateral = polylines.project(line, np.array([[-4.0, 1.0], [14.0, -2.0]]))
    assert s.tolist() == [0.0, 10.0]
    assert lateral.tolist() == [1.0, -2.0]


def test_angles_wrap_into_the_half_open_circle():
    tiny = np.array([-math.pi, math.pi, np.nextafter(-math.pi, -4), np.nextafter(math.pi, 4), -1e-17, 7.0])
    for angles in (tiny, torch.tensor(tiny), torch.tensor(tiny, dtype=torch.float32)):
        wrapped = wrap_angle(angles)
        assert bool((wrapped >= -math.pi - 1e-6).all())
        assert bool((wrapped < math.pi).all())
