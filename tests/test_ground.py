"""The baked ground: distances against exact geometry, and look-ups against the rasters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from countersteer.errors import UserError
from countersteer.scenarios.scenario import MapFeature, MapKind
from countersteer.worlds.simulation.ground import (
    CROWDED,
    DASH_LENGTH,
    DASH_PERIOD,
    EDGE_RANGE,
    EDGE_STEP,
    HEADING_STEPS,
    PAINT_RANGE,
    PHASE_STEPS,
    SOLID,
    TILE,
    WIDE,
    YELLOW,
    Ground,
    GroundBank,
)
from countersteer.worlds.simulation.ground_baking import bake
from hand_made import scenario


def feature(kind: MapKind, points: list[tuple[float, float]], width: float | None = None) -> MapFeature:
    array = np.array([(x, y, 0.0) for x, y in points])
    return MapFeature(f"{kind.name}-{points[0]}", kind, array, width)


def centres(ground: Ground) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = ground.paint.shape
    x = ground.origin[0] + (np.arange(cols) + 0.5) * ground.resolution
    y = ground.origin[1] + (np.arange(rows) + 0.5) * ground.resolution
    return np.meshgrid(x, y)


def signed_distance(ground: Ground) -> np.ndarray:
    code = (ground.paint.astype(float) - 128) / 127
    return PAINT_RANGE * code * np.abs(code)


def edge_of(bank: GroundBank, *points: tuple[float, float], scene: int = 0) -> torch.Tensor:
    at = torch.tensor(points, dtype=torch.float64)
    return bank.edge_distance(torch.full((len(points),), scene), at)


LANE = feature(MapKind.LANE, [(0, 0), (60, 0)], width=4.0)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.7, 3.0, -2.0])
def test_paint_is_the_signed_distance_and_heading_of_the_line_whichever_way_it_runs(angle):
    ahead = np.array([math.cos(angle), math.sin(angle)])
    line = feature(MapKind.LINE_SOLID_YELLOW, [tuple(-20 * ahead), tuple(20 * ahead)])
    ground = bake(scenario(LANE, line, route=np.array([[-5.0, -5.0], [5.0, 5.0]])), margin=10.0)
    x, y = centres(ground)
    near = np.abs(ahead[0] * y - ahead[1] * x) < 1.9
    heading = (ground.kind & (HEADING_STEPS - 1)) * math.pi / HEADING_STEPS
    turn = (heading - angle + math.pi / 2) % math.pi - math.pi / 2
    assert np.abs(turn[near]).max() <= math.pi / HEADING_STEPS / 2 + 1e-6
    # With the line's own direction, left is positive.
    way = np.sign(np.cos(heading - angle))
    exact = (ahead[0] * y - ahead[1] * x) * way
    error = np.abs(signed_distance(ground) - exact)[near]
    assert error.max() < 0.016
    assert error[np.abs(exact[near]) < 0.2].max() < 0.006
    assert ((ground.kind[near] & YELLOW) > 0).all()
    assert (ground.phase[near] == SOLID).all()


def test_dashes_are_three_metres_of_every_nine():
    line = feature(MapKind.LINE_DASHED_WHITE, [(-20, 0.1), (3, 0.1), (20, 0.1)])
    ground = bake(scenario(LANE, line, route=np.array([[-9.0, 0.0], [9.0, 0.0]])), margin=5.0)
    x, _ = centres(ground)
    on_line = np.abs(signed_distance(ground)) < 0.15
    phase = ((ground.phase + 0.5) / PHASE_STEPS - 0.5) * DASH_PERIOD
    painted = np.abs(phase) < DASH_LENGTH / 2
    expected = np.abs((x + 20.0) % DASH_PERIOD - DASH_PERIOD / 2) < DASH_LENGTH / 2
    assert (painted == expected)[on_line].mean() > 0.97  # a cell is 0.25 m, a step 0.07 m
    assert painted[on_line].mean() == pytest.approx(DASH_LENGTH / DASH_PERIOD, abs=0.03)


def test_lines_closer_than_a_cell_are_marked_as_crowded_and_a_single_line_is_not():
    pair = [feature(MapKind.LINE_SOLID_YELLOW, [(-20, y), (20, y)]) for y in (0.0, 0.3)]
    single = feature(MapKind.LINE_SOLID_WHITE, [(-20, 5), (20, 5)])
    ground = bake(scenario(LANE, *pair, single, route=np.array([[-5.0, 0.0], [5.0, 0.0]])), margin=8.0)
    _, y = centres(ground)
    crowded = (ground.phase & CROWDED) > 0
    assert crowded[np.abs(y - 0.15) < 0.2].all()
    assert not crowded[np.abs(y - 5.0) < 1.5].any()


def test_stop_lines_and_crosswalks_are_wide_paint():
    walk = feature(MapKind.CROSSWALK, [(10, -4), (13, -4), (13, 4), (10, 4)])
    stop = feature(MapKind.STOP_LINE, [(5, -2), (5, 2)])
    ground = bake(scenario(LANE, walk, stop, route=np.array([[0.0, 0.0], [20.0, 0.0]])), margin=6.0)
    x, y = centres(ground)
    painted = (np.abs(signed_distance(ground)) < 0.25) & ((ground.phase & SOLID) == WIDE)
    assert painted[(np.abs(x - 5) < 0.15) & (np.abs(y) < 1.9)].all()
    inside = (x > 10.2) & (x < 12.8) & (np.abs(y) < 3.5)
    assert painted[inside].mean() == pytest.approx(0.5, abs=0.1)  # stripes of half a metre every metre
    rows = painted[:, np.abs(x[0] - 11.5) < 0.13].any(1)
    assert np.count_nonzero(np.diff(rows.astype(int)) == 1) in (8, 9)  # they lie along the way cars drive
    assert not painted[(x > 14) & (np.abs(y) < 4)].any()


def test_edge_distance_is_metres_to_the_border_positive_on_the_road():
    area = feature(MapKind.DRIVABLE_AREA, [(-30, -6.1), (90, -6.1), (90, 7.3), (-30, 7.3)])
    bank = GroundBank.pack(
        [bake(scenario(LANE, area, route=np.array([[0.0, 0.0], [60.0, 0.0]])), margin=30.0)]
    )
    for y in np.arange(-9.0, 10.0, 0.37):
        exact = min(y + 6.1, 7.3 - y)
        got = float(edge_of(bank, (20.0, y)))
        # The border is known to half a fine cell (0.0625 m), and beyond the blur to about half a cell.
        tolerance = 0.07 if abs(exact) < 0.3 else 0.17
        assert got == pytest.approx(np.clip(exact, -EDGE_RANGE, EDGE_RANGE), abs=tolerance)
    assert edge_of(bank, (20.0, -6.0), (20.0, -6.2)).sign().tolist() == [1.0, -1.0]


def test_outside_the_raster_and_at_no_place_there_is_no_road():
    bank = GroundBank.pack([bake(scenario(LANE, route=np.array([[0.0, 0.0], [60.0, 0.0]])), margin=5.0)])
    points = ((1e6, 0.0), (30.0, -40.0), (math.nan, 0.0))
    assert (edge_of(bank, *points) == -EDGE_RANGE).all()
    scene = torch.zeros(3, dtype=torch.long)
    assert (bank.directions(scene, torch.tensor(points)) == 0).all()
    assert float(edge_of(bank, (30.0, 0.0))) > 0


def test_lanes_alone_get_a_shoulder_and_touching_areas_have_no_seam():
    lanes = GroundBank.pack([bake(scenario(LANE))])
    assert edge_of(lanes, (30.0, 2.4), (30.0, 2.6)).sign().tolist() == [1.0, -1.0]  # 2 m and 0.5 m
    halves = [
        feature(MapKind.LANE_AREA, [(0, low), (60, low), (60, low + 4), (0, low + 4)]) for low in (-4.0, 0.0)
    ]
    areas = GroundBank.pack([bake(scenario(*halves))])
    assert float(edge_of(areas, (30.0, 0.0))) > 3.5


def test_road_edges_bound_the_road_where_the_map_has_no_areas():
    edges = [feature(MapKind.ROAD_EDGE, [(-200, y), (200, y)]) for y in (-3.0, 4.5)]
    across = feature(MapKind.LANE, [(-60, 0), (60, 0)])
    bank = GroundBank.pack([bake(scenario(across, *edges))])
    assert edge_of(bank, (0.0, -2.7), (0.0, -3.3), (0.0, 4.2), (0.0, 4.8)).sign().tolist() == [1, -1, 1, -1]
    open_side = GroundBank.pack([bake(scenario(across, edges[0]))])
    assert edge_of(open_side, (0.0, 5.7), (0.0, 6.3)).sign().tolist() == [1.0, -1.0]  # at most 6 m


@pytest.mark.parametrize("sector", range(8))
def test_directions_name_the_sector_of_the_lane_within_its_width(sector):
    course = sector * math.pi / 4 + 0.3
    ahead = np.array([math.cos(course), math.sin(course)])
    lane = feature(MapKind.LANE, [tuple(-50 * ahead), tuple(50 * ahead)], width=4.0)
    bank = GroundBank.pack([bake(scenario(lane))])
    left = np.array([-ahead[1], ahead[0]])
    points = torch.tensor(np.stack([3 * ahead, 3 * ahead + 0.9 * left, 3 * ahead + 3.5 * left]))
    assert bank.directions(torch.zeros(3, dtype=torch.long), points).tolist() == [1 << sector, 1 << sector, 0]


def test_a_bank_answers_for_each_scene_what_its_own_ground_holds():
    far = np.array([[60_000.0, -40_000.0], [60_050.0, -40_020.0]])
    lane = feature(MapKind.LANE, [tuple(p) for p in far])
    grounds = [
        bake(scenario(LANE), margin=20.0),
        bake(scenario(lane, route=far), resolution=0.5, margin=33.0),
        bake(scenario(LANE, route=np.array([[0.0, 0.0], [60.0, 0.0]])), margin=7.0),
    ]
    bank = GroundBank.pack(grounds)
    generator = np.random.default_rng(0)
    scene = torch.tensor(generator.integers(0, 3, (50, 4)))
    points = np.zeros((50, 4, 2))
    expected = np.zeros((50, 4))
    bits = np.zeros((50, 4), int)
    for index in np.ndindex(50, 4):
        ground = grounds[int(scene[index])]
        i, j = (int(generator.integers(n)) for n in ground.edge.shape)
        points[index] = ground.origin + ground.resolution * (np.array([j, i]) + 0.5)
        expected[index] = (int(ground.edge[i, j]) - 128) * EDGE_STEP
        coarse = (points[index] - ground.origin).astype(int)
        bits[index] = ground.directions[coarse[1], coarse[0]]
    at = torch.tensor(points)
    assert torch.allclose(bank.edge_distance(scene, at).double(), torch.tensor(expected), atol=1e-4)
    assert torch.equal(bank.directions(scene, at).long(), torch.tensor(bits))


def test_a_bank_keeps_only_tiles_that_hold_something():
    route = np.array([[0.0, 0.0], [300.0, 300.0]])
    ground = bake(scenario(feature(MapKind.LANE, [tuple(p) for p in route]), route=route))
    assert GroundBank.pack([ground]).nbytes < 0.15 * ground.nbytes


@pytest.mark.parametrize("side", range(TILE - 1, TILE + 4))
def test_a_bank_holds_every_cell_wherever_its_tiles_end(side):
    codes = np.random.default_rng(side).integers(0, 255, (4, side, side + 1), np.uint8)
    bank = GroundBank.pack([Ground(np.zeros(2), 1.0, *codes, np.zeros((2, 2), np.uint8))] * 2)
    row, col = np.indices((side - 1, side))
    corners = bank.corners(torch.ones(side - 1, side, dtype=torch.long), torch.tensor(row), torch.tensor(col))
    expected = np.stack([codes[:, row + (k >> 1), col + (k & 1)] for k in range(4)]).transpose(2, 3, 0, 1)
    assert np.array_equal(corners.numpy(), expected)


def test_a_long_scene_gets_coarser_cells_and_an_endless_one_is_refused():
    long = bake(scenario(LANE, route=np.array([[0.0, 0.0], [3000.0, 2000.0]])))
    assert 0.4 < long.resolution < 0.7
    assert long.paint.size < 24_100_000
    with pytest.raises(UserError, match="too large"):
        bake(scenario(LANE, route=np.array([[0.0, 0.0], [1e5, 1e5]])))


def test_a_scenario_without_a_road_is_refused_with_the_way_out():
    line = feature(MapKind.LINE_SOLID_WHITE, [(0, 0), (10, 0)])
    with pytest.raises(UserError, match="road_along"):
        bake(scenario(line, route=np.array([[0.0, 0.0], [10.0, 0.0]])))
