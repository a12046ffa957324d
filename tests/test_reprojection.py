"""Departed views: the kernel against its specification, against geometry in closed form, and on real frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics, ego_from_camera
from countersteer.geometry.rigid import transform
from countersteer.worlds.renderers.reprojection.drawing import (
    NOTHING,
    PAINTED,
    FrameBank,
    Views,
    reference,
    render,
)

CAMERA = Intrinsics(48, 32, 40.0, 42.0, 25.3, 14.6)
LOOK = transform(ego_from_camera(0.0, 0.0, 0.0), np.array([0.0, 0.0, 1.5]))


def street(rng: np.random.Generator, camera: Intrinsics = CAMERA) -> tuple[np.ndarray, np.ndarray]:
    """A picture and inverse depth of a road, sky, two walls and a few boards, with unknown and jagged depth."""
    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    inverse = np.maximum((rows - camera.cy) / camera.fy / 1.5, 0.0)
    inverse = np.maximum(inverse, (np.abs(columns - camera.cx) / camera.fx - 0.3) / 4.0)
    for _ in range(4):
        x, y, wide, high = rng.integers(0, [camera.width, camera.height, 12, 14])
        inverse[y : y + high, x : x + wide] = rng.uniform(0.03, 0.5)
    inverse[rng.random(inverse.shape) < 0.02] = rng.uniform(0.0, 0.6)
    inverse[rng.random(inverse.shape) < 0.01] = -1.0
    inverse[rng.random(inverse.shape) < 0.002] = np.nan
    smooth = 128 + 90 * np.sin(columns / 3.0) * np.cos(rows / 4.0)
    picture = np.stack([smooth, 255 - smooth, rng.integers(0, 256, inverse.shape)], -1)
    return picture.astype(np.uint8), inverse.astype(np.float32)


def bank_of(frames: list[tuple[np.ndarray, np.ndarray]], poses: np.ndarray, camera=CAMERA) -> FrameBank:
    rgb = torch.from_numpy(np.stack([picture for picture, _ in frames]))
    inverse = torch.from_numpy(np.stack([depth for _, depth in frames]))
    return FrameBank.of(rgb, inverse, camera, torch.from_numpy(poses))


def drawn_pose(rng: np.random.Generator, far: float, turn: float) -> np.ndarray:
    return transform(
        ego_from_camera(*rng.uniform(-turn, turn, 3)), np.array([0.0, 0.0, 1.5]) + rng.uniform(-far, far, 3)
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("paint", [True, False])
def test_the_kernel_does_what_the_specification_says(seed: int, paint: bool):
    rng = np.random.default_rng(seed)
    poses = np.stack([drawn_pose(rng, 0.3, 0.05) for _ in range(3)])
    bank = bank_of([street(rng) for _ in range(3)], poses)
    frames = torch.tensor([[0, 1, -1], [-1, 2, 0], [1, -1, 2], [-1, -1, -1]])
    departed = np.stack([drawn_pose(rng, 1.2, 0.15) for _ in range(4)])
    seen_at = Intrinsics(
        int(rng.integers(2, 90)), int(rng.integers(2, 60)), rng.uniform(20, 60), 41.0, 30.0, 17.0
    )
    views = Views.of(seen_at, torch.from_numpy(departed), frames)
    fast, plain = render(bank, views, paint=paint), reference.render(bank, views, paint=paint)
    # A place that lies on the edge of a pixel rounds either way in 32 bits, and what is painted beside it follows.
    assert (fast.source != plain.source).double().mean() < 0.01
    same = (fast.source == plain.source) & (fast.source >= 0)
    close = (fast.inverse_depth - plain.inverse_depth).abs() < 1e-4
    assert close[same].double().mean() > 0.99
    wrong = (fast.rgb.int() - plain.rgb.int()).abs().amax(-1)
    assert (wrong[same & close] <= 1).double().mean() > 0.995
    painted = (fast.source == PAINTED) & (plain.source == PAINTED)
    if painted.any():
        assert (wrong[painted] <= 2).double().mean() > 0.9
    assert (plain.source[3] == NOTHING).all()
    assert (fast.rgb[3] == 0).all()


def test_from_the_recorded_pose_the_picture_comes_out_bit_by_bit():
    rng = np.random.default_rng(3)
    picture, inverse = street(rng)
    pose = transform(ego_from_camera(0.02, 0.1, 2.0), np.array([5123.0, -1807.0, 31.0]))[None]
    bank = bank_of([(picture, inverse)], pose)
    drawn = render(
        bank, Views.of(CAMERA, torch.from_numpy(pose), torch.zeros(1, 1, dtype=torch.long)), paint=False
    )
    known = torch.from_numpy(inverse >= 0)
    assert (drawn.source[0] >= 0)[known].all()
    assert torch.equal(drawn.rgb[0][known], bank.rgb[0][known])
    assert torch.equal(drawn.inverse_depth[0][known], bank.inverse_depth[0][known])


@pytest.mark.parametrize(
    ("move", "turn", "column", "row"),
    [
        ((0.0, 1.0, 0.0), (0.0, 0.0, 0.0), 20.0, 0.0),  # to the left: what is 10 m ahead goes right by f / 10
        ((0.0, 0.0, 1.0), (0.0, 0.0, 0.0), 0.0, 20.0),  # up: it goes down
        (
            (0.0, 0.0, 0.0),
            (0.0, 0.0, 0.05),
            200 * math.tan(0.05),
            0.0,
        ),  # yaw to the left: everything goes right
        ((0.0, 0.0, 0.0), (0.0, 0.05, 0.0), 0.0, -200 * math.tan(0.05)),  # pitch down: everything goes up
    ],
)
def test_signs_of_a_departure(move, turn, column, row):
    camera = Intrinsics(200, 100, 200.0, 200.0, 100.0, 50.0)
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[48:52, 98:102] = 255
    bank = bank_of([(picture, np.full((100, 200), 0.1, np.float32))], LOOK[None], camera)
    departed = transform(ego_from_camera(*turn), LOOK[:3, 3] + np.array(move))[None]
    views = Views.of(camera, torch.from_numpy(departed), torch.zeros(1, 1, dtype=torch.long))
    light = render(bank, views).rgb[0, ..., 0].double().numpy()
    at = (light[..., None] * np.stack(np.meshgrid(np.arange(200) + 0.5, np.arange(100) + 0.5), -1)).sum(
        (0, 1)
    )
    assert at / light.sum() == pytest.approx([100 + column, 50 + row], abs=0.2)


def test_the_sky_only_turns():
    rng = np.random.default_rng(0)
    picture, _ = street(rng)
    bank = bank_of([(picture, np.zeros((32, 48), np.float32))], LOOK[None])
    away = LOOK.copy()
    away[:3, 3] += [30.0, -20.0, 5.0]
    drawn = render(bank, Views.of(CAMERA, torch.from_numpy(away[None]), torch.zeros(1, 1, dtype=torch.long)))
    assert torch.equal(drawn.rgb[0], bank.rgb[0])


def test_the_nearer_surface_hides_the_farther_and_leaves_a_hole_that_history_fills():
    camera = Intrinsics(60, 20, 60.0, 60.0, 30.0, 10.0)
    far, near = np.full((20, 60), 1 / 20, np.float32), np.full((20, 60), 1 / 20, np.float32)
    near[:, 25:35] = 1 / 4
    grey, board = np.full((20, 60, 3), 90, np.uint8), np.full((20, 60, 3), 90, np.uint8)
    board[:, 25:35] = 250
    bank = bank_of([(board, near), (grey, far)], np.stack([LOOK, LOOK]), camera)
    left = LOOK.copy()
    left[1, 3] += 0.5  # the board goes right by 60 * 0.5 / 4 = 7.5 px, the wall by 1.5 px
    views = Views.of(camera, torch.from_numpy(left[None]), torch.tensor([[0, 1]]))
    alone = Views.of(camera, torch.from_numpy(left[None]), torch.tensor([[0, -1]]))
    hidden, filled = render(bank, alone, paint=False), render(bank, views, paint=False)
    assert (hidden.source[0, 10, 27:32] == NOTHING).all()
    assert (filled.source[0, 10, 27:32] == 1).all()
    assert (filled.rgb[0, 10, 34:41] == 250).all()
    assert (filled.rgb[0, 10, 27:32] == 90).all()
    painted = render(bank, alone)
    assert (painted.source[0, 10, 27:32] == PAINTED).all()
    assert (painted.rgb[0, 10, 27:32] == 90).all(), "painted from the wall, not from the board"
    assert filled.seen_share()[0] > hidden.seen_share()[0]


def test_rows_do_not_depend_on_their_neighbours():
    rng = np.random.default_rng(9)
    poses = np.stack([drawn_pose(rng, 0.3, 0.05) for _ in range(3)])
    bank = bank_of([street(rng) for _ in range(3)], poses)
    departed = torch.from_numpy(np.stack([drawn_pose(rng, 1.0, 0.1) for _ in range(5)]))
    frames = torch.from_numpy(rng.integers(-1, 3, (5, 2)))
    whole = render(bank, Views.of(CAMERA, departed, frames))
    for row in (4, 1):
        alone = render(bank, Views.of(CAMERA, departed[row : row + 1], frames[row : row + 1]))
        assert torch.equal(alone.rgb[0], whole.rgb[row])
        assert torch.equal(alone.source[0], whole.source[row])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frames": torch.tensor([[3]])}, "not in the bank"),
        ({"frames": torch.tensor([[-2]])}, "not in the bank"),
        ({"pinhole": torch.zeros(1, 4, dtype=torch.float64)}, "focal length"),
        ({"world_from_camera": torch.full((1, 4, 4), math.nan, dtype=torch.float64)}, "not finite"),
        ({"width": 0}, "no pixels"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change, says):
    bank = bank_of([street(np.random.default_rng(0))], LOOK[None])
    views = Views.of(CAMERA, torch.from_numpy(LOOK[None]), torch.zeros(1, 1, dtype=torch.long))
    with pytest.raises(UserError, match=says):
        render(bank, Views(**{**views.__dict__, **change}))
