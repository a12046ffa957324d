"""Depth of made scenes, whose depth is known, and the sweep's kernel against its specification."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from countersteer.data.cameras import CameraLog, PicturesInMemory, Poses, RecordedCamera, read
from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics, ego_from_camera
from countersteer.geometry.rigid import inverse, transform
from countersteer.reconstruction.depth import (
    DepthSource,
    GroundPlane,
    LearningSettings,
    Neighbour,
    StereoPair,
    SweepSettings,
    depth_of_frame,
    ground_depth,
    ground_of_log,
    learn_depth,
    lidar_depth,
    network_depth,
    plane_sweep_depth,
    sources_of,
    stereo_depth,
    stereo_partner,
)
from countersteer.reconstruction.depth.depth_map import close_holes
from countersteer.reconstruction.depth.ground import pixel_rays
from countersteer.reconstruction.depth.stereo import fit_ground
from countersteer.reconstruction.depth.sweep_kernels import aggregate, aggregate_reference
from countersteer.scenarios.scenario import Provenance

CAMERA = Intrinsics(320, 160, 220.0, 220.0, 163.0, 70.0)
HEIGHT = 1.6
GROUND = GroundPlane((0.0, 1.0, 0.0), HEIGHT)


def street(at: np.ndarray, kerb: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Picture and inverse depth, seen from a camera at a place [m, camera axes of the first], of a textured road,
    walls 5 m to either side and one 45 m ahead. From 1.5 m to the left on the ground lies higher by a kerb [m]."""
    x = (np.arange(CAMERA.width) + 0.5 - CAMERA.cx) / CAMERA.fx + np.zeros((CAMERA.height, 1))
    y = ((np.arange(CAMERA.height) + 0.5 - CAMERA.cy) / CAMERA.fy)[:, None] + np.zeros(CAMERA.width)
    with np.errstate(divide="ignore"):
        surfaces = [
            np.where(y > 0, (HEIGHT - at[1]) / y, np.inf),
            np.where(x > 0, (5 - at[0]) / x, np.inf),
            np.where(x < 0, (-5 - at[0]) / x, np.inf),
            np.full(x.shape, 45.0 - at[2]),
        ]
        raised = np.where(y > 0, (HEIGHT - kerb - at[1]) / y, np.inf)
        surfaces[0] = np.where(x * raised + at[0] < -1.5, raised, surfaces[0])
    depth, which = np.min(surfaces, axis=0), np.argmin(surfaces, axis=0)
    place = np.stack([x * depth, y * depth, depth], -1) + at
    # Waves of many lengths and directions: something to match at every distance.
    rng, value = np.random.default_rng(5), np.zeros(depth.shape)
    for _ in range(60):
        wave = rng.normal(size=3) * rng.choice([0.5, 2.0, 6.0])
        length = 2 * math.pi / np.linalg.norm(wave)
        fade = np.clip(length / (3 * depth / CAMERA.fx) - 1, 0, 1)
        value += fade * np.sin(place @ wave + which + rng.uniform(0, 6.28))
    grey = np.clip(120 + 14 * value, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1), 1 / depth


def errors(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Relative error of depth, away from the picture's rim."""
    return np.abs(found / true - 1)[6:-6, 40:-6]


def test_stereo_finds_road_and_walls():
    left, true = street(np.zeros(3))
    right, _ = street(np.array([0.5, 0.0, 0.0]))
    found = stereo_depth(left, right, StereoPair(CAMERA, 0.5), GROUND)
    assert np.median(errors(found.inverse, true)) < 0.02
    assert np.percentile(errors(found.inverse, true), 90) < 0.15
    assert found.measured_share > 0.7
    swapped = stereo_depth(right, left, StereoPair(CAMERA, 0.5), None)
    assert swapped.measured_share < 0.5 * found.measured_share, "the cameras the wrong way round"


def test_a_plane_sweep_finds_road_and_walls_from_frames_before_and_after():
    here, true = street(np.zeros(3))
    others = []
    for ahead in (-2.0, -1.0, 1.0, 2.0):
        pose = transform(np.eye(3), np.array([0.0, 0.0, ahead]))
        others.append(Neighbour(street(pose[:3, 3])[0], inverse(pose)))
    settings = SweepSettings(scale=1.0)
    found = plane_sweep_depth(here, others, CAMERA, GROUND, settings)
    assert np.median(errors(found.inverse, true)) < 0.05
    mirrored = [Neighbour(n.picture, inverse(n.neighbour_from_here)) for n in others]
    wrong = plane_sweep_depth(here, mirrored, CAMERA, None, settings)
    assert np.median(errors(wrong.inverse, true)) > 0.15, "poses the wrong way round"
    alone = plane_sweep_depth(here, [], CAMERA, GROUND, settings)
    assert alone.measured_share == 0.0


def test_the_sweep_corrects_a_road_that_is_a_little_off():
    here, true = street(np.zeros(3))
    others = []
    for ahead in (-2.0, -1.0, 1.0, 2.0):
        pose = transform(np.eye(3), np.array([0.0, 0.0, ahead]))
        others.append(Neighbour(street(pose[:3, 3])[0], inverse(pose)))
    tilt = 0.012
    off = GroundPlane((0.0, math.cos(tilt), math.sin(tilt)), HEIGHT * 1.03)
    found = plane_sweep_depth(here, others, CAMERA, off, SweepSettings(scale=1.0))
    road = (
        (true > 1 / 15)
        & (GROUND.inverse_depth(CAMERA) > 1 / 15)
        & (np.abs(true - GROUND.inverse_depth(CAMERA)) < 1e-6)
    )
    for near, far in ((5.0, 7.0), (7.0, 9.0)):
        band = road & (true < 1 / near) & (true > 1 / far)
        before, after = (
            np.mean((depth / true - 1)[band]) for depth in (off.inverse_depth(CAMERA), found.inverse)
        )
        assert abs(after) < 0.015
        assert abs(after) < 0.5 * abs(before), f"{near} to {far} m"


def test_a_kerb_is_no_road():
    """8 % nearer than the road beside it: half of it would be lost if the sweep preferred the road."""
    kerb = 0.13
    here, true = street(np.zeros(3), kerb)
    others = []
    for ahead in (-2.0, -1.0, 1.0, 2.0):
        pose = transform(np.eye(3), np.array([0.0, 0.0, ahead]))
        others.append(Neighbour(street(pose[:3, 3], kerb)[0], inverse(pose)))
    found = plane_sweep_depth(here, others, CAMERA, GROUND, SweepSettings(scale=1.0))
    ratio = found.inverse / true
    x, _ = pixel_rays(CAMERA)
    on_it = np.abs(true * (1 - kerb / HEIGHT) / GROUND.inverse_depth(CAMERA) - 1) < 1e-4
    near = (true > 1 / 14) & (x < -2.0 * true)
    assert np.median(ratio[on_it & near]) == pytest.approx(1.0, abs=0.025)
    road = (np.abs(true / GROUND.inverse_depth(CAMERA) - 1) < 1e-4) & (true > 1 / 14)
    assert np.median(ratio[road]) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_the_aggregation_does_what_the_specification_says(seed: int):
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0, 1.2, (int(rng.integers(2, 14)), int(rng.integers(2, 17)), int(rng.integers(4, 20))))
    place, margin = aggregate(cost.astype(np.float32), np.float32(0.08), np.float32(0.6))
    expected, expected_margin = aggregate_reference(cost.astype(np.float32), 0.08, 0.6)
    assert np.abs(place - expected).max() < 1e-3
    finite = np.isfinite(expected_margin)  # without a second choice there is no margin
    assert np.array_equal(np.isfinite(margin), finite)
    assert np.abs(margin[finite] - expected_margin[finite]).max(initial=0.0) < 1e-4


def test_the_ground_is_affine_in_inverse_depth_and_ends():
    found = ground_depth(CAMERA, GROUND, reach=40.0)
    row = int(CAMERA.cy + 40)
    assert found.inverse[row, 50] == pytest.approx((row + 0.5 - CAMERA.cy) / CAMERA.fy / HEIGHT, rel=1e-5)
    assert (found.inverse[: int(CAMERA.cy)] == 0).all()
    assert found.inverse[found.inverse > 0].min() > 1 / 40
    with pytest.raises(UserError, match="ground plane"):
        GroundPlane((0.0, 1.0, 0.0), -1.0)


def test_the_fitted_plane_is_the_road_and_not_what_stands_on_it():
    tilted = GroundPlane((0.03, math.sqrt(1 - 0.03**2 - 0.02**2), 0.02), 1.45)
    rng = np.random.default_rng(0)
    inverse_depth = tilted.inverse_depth(CAMERA) + rng.normal(0, 5e-4, (160, 320)).astype(np.float32)
    inverse_depth[90:150, 130:170] = 0.2  # a car's back
    found = fit_ground(inverse_depth, inverse_depth > 0, CAMERA, 0.003)
    assert found is not None
    assert found.height == pytest.approx(1.45, rel=0.01)
    assert np.array(found.normal) == pytest.approx(np.array(tilted.normal), abs=0.005)
    assert fit_ground(np.full((160, 320), 0.1, np.float32), np.ones((160, 320), bool), CAMERA, 0.003) is None


def test_laser_points_give_depth_between_them_and_edges_follow_the_picture():
    picture, true = street(np.zeros(3))
    picture[:] = np.where(np.abs(np.gradient(true, axis=0)) + 0 * true > -1, 120, 0)[..., None]
    board = np.zeros(true.shape, bool)
    board[60:120, 140:200] = True
    picture[board], true = 220, np.where(board, 1 / 4.0, true)
    rows, columns = np.mgrid[62:160:5, 1:320:6]
    depth = 1 / true[rows, columns].ravel()
    x = (columns.ravel() + 0.5 - CAMERA.cx) / CAMERA.fx * depth
    y = (rows.ravel() + 0.5 - CAMERA.cy) / CAMERA.fy * depth
    scanner = np.stack([depth, -x, -y], -1)  # forward, left, up
    camera_from_scanner = transform(ego_from_camera(0.0, 0.0, 0.0).T, np.zeros(3))
    found = lidar_depth(picture, scanner, camera_from_scanner, CAMERA, GROUND)
    inside = np.abs(found.inverse / true - 1)[66:156, 4:-4]
    assert np.median(inside) < 0.03
    edge = np.abs(found.inverse / true - 1)[66:116, 137:143]
    assert np.abs(found.inverse / true - 1)[66:116, 188:199].mean() < 0.05
    assert np.median(edge) < 0.2, "the board ends where the picture says"
    mirrored = lidar_depth(picture, scanner * [1.0, -1.0, 1.0], camera_from_scanner, CAMERA, GROUND)
    assert np.abs(mirrored.inverse / true - 1)[66:116, 188:199].mean() > 0.15


def test_a_network_is_scaled_by_the_road_and_refused_where_it_is_none():
    picture, true = street(np.zeros(3))
    found = network_depth(picture, lambda picture: 7.0 * true - 0.3, CAMERA, GROUND)
    assert np.median(errors(found.inverse, true)) < 0.01
    with pytest.raises(UserError, match="falls towards the camera"):
        network_depth(picture, lambda picture: -true, CAMERA, GROUND)
    with pytest.raises(UserError, match="each pixel"):
        network_depth(picture, lambda picture: true[:50], CAMERA, GROUND)


def drive_down_the_street(count: int = 9) -> CameraLog:
    """0.8 m a frame."""
    mounting = transform(ego_from_camera(0.0, 0.0, 0.0), np.array([0.0, 0.0, HEIGHT]))
    pictures = np.stack([street(np.array([0.0, 0.0, 0.8 * k]))[0] for k in range(count)])
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = 0.8 * np.arange(count)
    times = 0.1 * np.arange(count)
    camera = RecordedCamera("front", PicturesInMemory(pictures, "street"), times, CAMERA, mounting)
    return CameraLog("street", (camera,), Poses(times, poses), Provenance("test", "street", "MIT", ""))


def test_a_recording_teaches_a_network_its_depth():
    """It finds the walls, which the road alone does not say, is surer where it is right, and is the same again."""
    log, settings = drive_down_the_street(), LearningSettings(height=64, steps=60, channels=(12, 16, 24, 24))
    true = street(np.array([0.0, 0.0, 0.8 * 4]))[1]
    picture, ground = log.cameras[0].frames[4], ground_of_log(log, "front", 4)
    state = torch.get_rng_state()
    learned = learn_depth(log, "front", settings)
    assert torch.equal(torch.get_rng_state(), state)
    found = learned(picture, CAMERA, ground)
    off, alone = errors(found.inverse, true), errors(ground_depth(CAMERA, ground).inverse, true)
    walls = alone > 0.2
    assert np.median(off[walls]) < 0.3 < np.median(alone[walls]), "poses the wrong way round leave 0.5"
    sure = found.confidence[6:-6, 40:-6]
    assert np.median(off[sure > np.median(sure)]) < np.median(off[sure <= np.median(sure)])
    again = learn_depth(log, "front", dataclasses.replace(settings, steps=2))
    twice = learn_depth(log, "front", dataclasses.replace(settings, steps=2))
    assert np.array_equal(again(picture, CAMERA, ground).inverse, twice(picture, CAMERA, ground).inverse)
    standing = dataclasses.replace(log, poses=Poses(log.cameras[0].times, np.tile(np.eye(4), (9, 1, 1))))
    with pytest.raises(UserError, match="street: there is nothing to learn depth from"):
        learn_depth(standing, "front", settings)


def test_holes_take_the_far_side_unless_the_picture_says_otherwise():
    inverse_depth = np.array([[0.5, 0.0, 0.0, 0.1], [0.5, 0.0, 0.0, 0.1], [0.5, 0.0, 0.0, 0.0]], np.float32)
    known = np.array([[1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]], bool)
    looks = np.array([[90, 90, 90, 90], [90, 90, 200, 200], [90, 90, 90, 200]], np.uint8)
    floor = np.zeros((3, 4), np.float32)
    filled = close_holes(inverse_depth, known, floor, looks)
    assert filled[0] == pytest.approx([0.5, 0.1, 0.1, 0.1])
    assert filled[1] == pytest.approx([0.5, 0.5, 0.1, 0.1])
    assert filled[2] == pytest.approx([0.5, 0.5, 0.5, 0.0]), "the sky lends its depth to nothing"
    floor[:] = 0.3
    assert close_holes(inverse_depth, known, floor, looks)[0, 1] == pytest.approx(0.3), (
        "nothing lies below the road"
    )


def test_recorded_stereo_and_sweep_agree_with_each_other(shared_data: Path, record_property):
    log = read(shared_data / "kitti_odometry_06_stereo")
    offered = (DepthSource.STEREO, DepthSource.SWEEP, DepthSource.LEARNED, DepthSource.GROUND)
    assert sources_of(log, "image_0") == offered
    assert stereo_partner(log, "image_1") is None, "nothing stands to the right of the right camera"
    both = [depth_of_frame(log, "image_0", 20, source) for source in (DepthSource.STEREO, DepthSource.SWEEP)]
    sure = (both[0].confidence > 0.9) & (both[0].inverse > 0.02) & (both[1].inverse > 0)
    ratio = both[1].inverse[sure] / both[0].inverse[sure]
    record_property(
        "median and spread of the ratio", f"{np.median(ratio):.3f}, {np.percentile(ratio, [10, 90])}"
    )
    assert np.median(ratio) == pytest.approx(1.0, abs=0.03)
    plane = ground_of_log(log, "image_0", 20)
    assert plane.height == pytest.approx(1.65)
    assert math.degrees(math.acos(plane.normal[1])) < 3


def test_what_a_log_does_not_offer_is_refused(shared_data: Path):
    log = read(shared_data / "kitti_odometry_00_mono")
    with pytest.raises(UserError, match="no depth by 'stereo'"):
        depth_of_frame(log, "image_0", 5, DepthSource.STEREO)
