"""Baking of the ground: the rasters of `ground` from the map of a scenario."""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.geometry import polylines
from countersteer.scenarios.coverage import BETWEEN_EDGES, SHOULDER, half_width
from countersteer.scenarios.scenario import MapFeature, MapKind, Scenario
from countersteer.worlds.simulation.ground import (
    DIRECTION_RESOLUTION,
    LINE_HALF_WIDTH,
    SOLID,
    WIDE,
    WIDE_HALF_WIDTH,
    YELLOW,
    Ground,
)

__all__ = ["bake"]

_MAX_CELLS = 24_000_000  # 96 MB; larger scenes get coarser cells, which extrapolation forgives
_MAX_RESOLUTION = 1.0
_FINE = 2  # the drivable area is filled at twice the resolution, then smoothed
_BLUR = 0.3  # standard deviation of that smoothing [m]; it rounds corners by about as much
_LINE_KINDS = {
    MapKind.LINE_SOLID_WHITE: (LINE_HALF_WIDTH, SOLID, 0),
    MapKind.LINE_DASHED_WHITE: (LINE_HALF_WIDTH, 0, 0),
    MapKind.LINE_SOLID_YELLOW: (LINE_HALF_WIDTH, SOLID, YELLOW),
    MapKind.LINE_DASHED_YELLOW: (LINE_HALF_WIDTH, 0, YELLOW),
    MapKind.STOP_LINE: (WIDE_HALF_WIDTH, WIDE, 0),
}


def bake(
    scenario: Scenario,
    resolution: float = 0.25,
    margin: float = 80.0,
    around: Float[ndarray, "n 2"] | None = None,
) -> Ground:
    """Bake the map of a scenario.

    The drivable area is the union of the map's areas and of its lanes with their width; a map without
    areas gets a shoulder of 0.5 m beside its lanes. A map with road edges but without areas (Waymo)
    is drivable within 6 m of a lane's centre line as far as no road edge lies between.

    Args:
        scenario: Its road needs lanes or areas.
        resolution: Size of a cell [m], above 0. Scenes that would take more than 96 MB get larger cells.
        margin: Ground around `around` [m], at least 0.
        around: Where the ground is needed [m, world]; None: the route, or lanes and tracks if there is none.

    Raises:
        UserError: There is no road, an argument is out of range, or the scene is larger than 24 km^2.
    """
    if not (resolution > 0 and margin >= 0):
        raise UserError(
            "a ground cannot be baked like this",
            got=f"resolution={resolution}, margin={margin}",
            expected="resolution > 0 and margin >= 0",
            fix="use the defaults",
        )
    road = scenario.road
    areas = road.of_kind(MapKind.DRIVABLE_AREA, MapKind.LANE_AREA)
    lanes = [
        dataclasses.replace(lane, points=polylines.close(lane.points))
        for lane in road.of_kind(MapKind.LANE)
        if len(polylines.distinct(lane.points)) > 1
    ]
    if not lanes and not areas:
        raise UserError(
            f"scenario {scenario.id!r} has no road",
            got=f"{len(road.features)} map features, no lanes or areas among them",
            expected="a map with lanes or drivable areas",
            fix="draw one along the drive: countersteer.scenarios.procedural.road_along(scenario)",
        )
    around = _needed(scenario, lanes, areas) if around is None else around
    low, high = around.min(0), around.max(0)
    origin, size = low - margin, high - low + 2 * margin
    resolution = max(resolution, math.sqrt(float(size.prod()) / _MAX_CELLS))
    if resolution > _MAX_RESOLUTION:
        raise UserError(
            f"scenario {scenario.id!r} is too large to bake",
            got=f"{size[0] / 1000:.1f} km x {size[1] / 1000:.1f} km",
            expected=f"at most {_MAX_CELLS * _MAX_RESOLUTION**2 / 1e6:.0f} km^2",
            fix="crop the drive: scenario.crop(start, end), and its route",
        )
    cols, rows = (max(int(n), 2) for n in np.ceil(size / resolution))
    paint, phase, kind = _paint(scenario, origin, resolution, rows, cols)
    drivable = _drivable(scenario, lanes, areas, origin, resolution / _FINE, _FINE * rows, _FINE * cols)
    return Ground(
        origin=origin,
        resolution=resolution,
        paint=paint,
        phase=phase,
        kind=kind,
        edge=_edge(drivable, resolution),
        directions=_directions(lanes, origin, size),
    )


def _needed(scenario: Scenario, lanes: list[MapFeature], areas: list[MapFeature]) -> ndarray:
    if scenario.route is not None:
        return np.asarray(scenario.route, np.float64)
    tracks = scenario.tracks
    features = [feature.points[:, :2] for feature in (lanes or areas)]
    return np.concatenate([tracks.position[tracks.valid][:, :2], *features]).astype(np.float64)


def _paint(
    scenario: Scenario, origin: ndarray, resolution: float, rows: int, cols: int
) -> tuple[ndarray, ndarray, ndarray]:
    from countersteer.worlds.simulation import ground_kernels as kernels

    paint = np.full((rows, cols), 255, np.uint8)
    phase = np.full((rows, cols), SOLID, np.uint8)
    kind = np.zeros((rows, cols), np.uint8)
    segments, styles = [np.zeros((0, 6))], [np.zeros((0, 3))]
    line = 0
    for feature in scenario.road.features:
        if feature.kind in _LINE_KINDS:
            paths, style = [feature.points[:, :2]], _LINE_KINDS[feature.kind]
        elif feature.kind is MapKind.CROSSWALK and len(feature.points) > 2:
            paths, style = _stripes(feature.points[:, :2]), (WIDE_HALF_WIDTH, WIDE, 0)
        else:
            continue
        for path in paths:
            path = np.asarray(path, np.float64)
            arc = polylines.arc_length(path)
            line += 1
            segments.append(np.column_stack([path[:-1], path[1:], arc[:-1], np.full(len(path) - 1, line)]))
            styles.append(np.tile(np.array(style, np.float64), (len(path) - 1, 1)))
    kernels.paint_segments(
        np.concatenate(segments), np.concatenate(styles), origin, resolution, paint, phase, kind
    )
    return paint, phase, kind


def _stripes(outline: ndarray) -> list[ndarray]:
    """Zebra stripes across the polygon: 0.5 m of paint every metre of the way people walk."""
    middle = outline.mean(0)
    center, size, angle = cv2.minAreaRect((outline - middle).astype(np.float32))
    walk = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    across = np.array([-walk[1], walk[0]])
    length, width = size
    if width > length:
        length, width, walk, across = width, length, across, walk
    count = max(int(length), 1)
    reach = max(width / 2 - WIDE_HALF_WIDTH, 0.05) * across  # the caps are round
    at = (np.arange(count) - (count - 1) / 2)[:, None] * walk + np.array(center) + middle
    return [np.stack([point - reach, point + reach]) for point in at]


def _drivable(
    scenario: Scenario,
    lanes: list[MapFeature],
    areas: list[MapFeature],
    origin: ndarray,
    cell: float,
    rows: int,
    cols: int,
) -> UInt8[ndarray, "rows cols"]:
    """Whether each (fine) cell is drivable."""
    from countersteer.worlds.simulation.ground_kernels import fill_polygon, fill_quads

    def cells(points: ndarray) -> ndarray:
        return (np.asarray(points[:, :2], np.float64) - origin) / cell

    def widen(mask: ndarray, lane: MapFeature, half: float) -> None:
        right, left = cells(polylines.offset(lane.points, -half)), cells(polylines.offset(lane.points, half))
        fill_quads(mask, np.stack([right[:-1], right[1:], left[1:], left[:-1]], 1))

    mask = np.zeros((rows, cols), np.uint8)
    edges = scenario.road.of_kind(MapKind.ROAD_EDGE)
    shoulder = 0.0 if areas else SHOULDER
    if edges and not areas:
        mask = _flood(lanes, edges, widen, cells, mask)
    else:
        for lane in lanes:
            widen(mask, lane, half_width(lane) + shoulder)
    for area in [*areas, *scenario.road.of_kind(MapKind.DRIVEWAY)]:
        if len(area.points) > 2:
            fill_polygon(mask, cells(area.points))
    return mask


def _flood(lanes: list[MapFeature], edges: list[MapFeature], widen, cells, mask: ndarray) -> ndarray:
    """Cells within 6 m of a lane's centre line that no road edge separates from one."""
    bits = 4  # cv2 draws with this many fractional bits

    def draw(image: ndarray, feature: MapFeature, value: int) -> None:
        points = np.round((cells(feature.points) - 0.5) * (1 << bits)).astype(np.int32)
        cv2.polylines(image, [points[:, None]], False, value, 1, cv2.LINE_8, bits)

    for lane in lanes:
        widen(mask, lane, BETWEEN_EDGES)
    wall, centre = np.zeros_like(mask), np.zeros_like(mask)
    for edge in edges:
        draw(wall, edge, 1)
    for lane in lanes:
        draw(centre, lane, 1)
    # Walls are 8-connected lines, which a 4-connected component cannot cross.
    _, label = cv2.connectedComponents(mask & (wall ^ 1), connectivity=4, ltype=cv2.CV_32S)
    reached = np.unique(label[(centre > 0) & (label > 0)])
    return np.isin(label, reached).astype(np.uint8)


def _edge(drivable: UInt8[ndarray, "fine_rows fine_cols"], resolution: float) -> UInt8[ndarray, "rows cols"]:
    """Codes of the signed distance to the border of the drivable cells.

    Near the border the distance is read off the blurred mask, whose profile across a straight border is
    the normal distribution function: smooth where the distance between cells would be stepped. Further
    away it is the distance between cells, which needs no such care.
    """
    from countersteer.worlds.simulation.ground_kernels import edge_codes

    sigma = _BLUR
    fine = resolution / _FINE
    # A blur narrower than the cells would leave their steps standing.
    sigma = max(sigma, 1.5 * fine)
    soft = cv2.GaussianBlur(drivable * np.uint8(255), (0, 0), sigma / fine, borderType=cv2.BORDER_REPLICATE)
    half = (soft.shape[1] // _FINE, soft.shape[0] // _FINE)
    share = np.asarray(cv2.resize(soft, half, interpolation=cv2.INTER_AREA), np.uint8)
    # The average over a cell widens the profile by the variance of a box.
    width = math.sqrt(sigma**2 + resolution**2 / 12)
    normal = NormalDist()
    near = np.array([width * normal.inv_cdf(min(max(k / 255, 0.002), 0.998)) for k in range(256)])
    inside = (share > 127).astype(np.uint8)
    far = [cv2.distanceTransform(side, cv2.DIST_L2, cv2.DIST_MASK_5) for side in (inside, 1 - inside)]
    codes = np.empty(share.shape, np.uint8)
    edge_codes(share, far[0], far[1], near, 1.6 * width, resolution, codes)
    return codes


def _directions(lanes: list[MapFeature], origin: ndarray, size: ndarray) -> UInt8[ndarray, "rows cols"]:
    from countersteer.worlds.simulation.ground_kernels import mark_directions

    cols, rows = (int(n) for n in np.ceil(size / DIRECTION_RESOLUTION))
    directions = np.zeros((rows, cols), np.uint8)
    pieces = [np.zeros((0, 5))]
    for lane in lanes:
        points = np.asarray(lane.points[:, :2], np.float64)
        half = np.full((len(points) - 1, 1), half_width(lane))
        pieces.append(np.concatenate([points[:-1], points[1:], half], 1))
    mark_directions(np.concatenate(pieces), origin, DIRECTION_RESOLUTION, directions)
    return directions
