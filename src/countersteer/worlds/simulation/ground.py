"""The baked ground: what is painted, what is drivable and which way lanes lead, as small rasters.

A ground pixel then costs one ray-plane intersection and one look-up whatever the size of the map, and
"off road" is a look-up of the corners of a box. A cell does not hold a colour but *where the nearest
border lies*: for paint the signed distance to the nearest marking's centre line and that line's heading,
so that a reader extrapolates the distance to any point in the cell and lines stay crisp at a metre;
for the road the signed distance to its border. Both are anti-aliased analytically by whoever draws them.

Rasters are indexed `[row, col]`: rows run along +y, columns along +x, and the centre of cell `[i, j]` is
at `origin + resolution * (j + 0.5, i + 0.5)`. The world is flat (z = 0); heights of the map are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import Self

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from countersteer.errors import UserError
from countersteer.geometry import polylines
from countersteer.scenarios.scenario import MapFeature, MapKind, Scenario

__all__ = ["EDGE_RANGE", "PAINT_RANGE", "Ground", "GroundBank", "bake"]

PAINT_RANGE = 2.0
"""Greatest stored distance to a marking [m]."""
EDGE_STEP = 1.0 / 32
"""Step of the stored distance to the road's border [m]."""
EDGE_RANGE = 127 * EDGE_STEP
"""Greatest stored distance to the road's border [m]."""
HEADING_STEPS = 128
"""Headings of lines, over half a turn (a line has no direction)."""
YELLOW = 128
"""Bit of `Ground.kind` beside the heading."""
LINE_HALF_WIDTH, WIDE_HALF_WIDTH = 0.075, 0.25
"""Half width of lane lines, and of stop lines and crosswalk stripes [m]."""
DASH_LENGTH, DASH_PERIOD = 3.0, 9.0
"""A dashed line is 3 m of paint and 6 m of gap."""
PHASE_STEPS, WIDE, SOLID = 126, 126, 127
"""Steps of the position within a dash period, and the codes of wide paint and of lines without dashes."""
CROWDED = 128
"""Bit of `Ground.phase`: another marking passes through the cell or close by (double lines, crossings)."""
DIRECTION_RESOLUTION = 1.0
"""Cell of the lane direction raster [m]."""
TILE = 16
"""Cells along a tile of a `GroundBank`."""
TILE_SIDE = TILE + 1
"""Cells that are stored along a tile."""

_NOTHING = np.array([255, SOLID, 0, 1], np.uint8)  # what a cell far from paint and road holds
_MAX_CELLS = 24_000_000  # 96 MB; larger scenes get coarser cells, which extrapolation forgives
_MAX_RESOLUTION = 1.0
_FINE = 2  # the drivable area is filled at twice the resolution, then smoothed
_BLUR = 0.3  # standard deviation of that smoothing [m]; it rounds corners by about as much
_LANE_HALF_WIDTH = 1.8
_SHOULDER = 0.5
_LINE_KINDS = {
    MapKind.LINE_SOLID_WHITE: (LINE_HALF_WIDTH, SOLID, 0),
    MapKind.LINE_DASHED_WHITE: (LINE_HALF_WIDTH, 0, 0),
    MapKind.LINE_SOLID_YELLOW: (LINE_HALF_WIDTH, SOLID, YELLOW),
    MapKind.LINE_DASHED_YELLOW: (LINE_HALF_WIDTH, 0, YELLOW),
    MapKind.STOP_LINE: (WIDE_HALF_WIDTH, WIDE, 0),
}


@dataclass(frozen=True)
class Ground:
    """The ground of one scene.

    Attributes:
        origin: Corner of the rasters with the smallest x and y [m, world].
        resolution: Size of a cell [m].
        paint: Signed distance d from the nearest marking's centre line, positive to the left of its
            heading: d = sign(c) PAINT_RANGE (c / 127)^2 with c = code - 128; at |c| = 127 there is none near.
        phase: Position along a dashed line from the middle of its dash, in the direction of its heading:
            s = ((code + 0.5) / PHASE_STEPS - 0.5) DASH_PERIOD, code being bits 0 to 6; SOLID for lines
            without dashes, WIDE for stop lines and crosswalks. Bit CROWDED tells a reader to ask the
            neighbouring cells too.
        kind: Bits 0 to 6 hold the heading, code / HEADING_STEPS * pi, YELLOW the colour.
        edge: Signed distance from the border of the drivable area, positive inside:
            (code - 128) EDGE_STEP.
        directions: At DIRECTION_RESOLUTION from the same origin: bit k is set where a lane leads
            within 22.5 degrees of heading k pi / 4 and the cell's centre is within half its width.
    """

    origin: Float[ndarray, "2"]
    resolution: float
    paint: UInt8[ndarray, "rows cols"]
    phase: UInt8[ndarray, "rows cols"]
    kind: UInt8[ndarray, "rows cols"]
    edge: UInt8[ndarray, "rows cols"]
    directions: UInt8[ndarray, "coarse_rows coarse_cols"]

    @property
    def nbytes(self) -> int:
        """Memory of the rasters [bytes]."""
        return sum(r.nbytes for r in (self.paint, self.phase, self.kind, self.edge, self.directions))


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
    lanes = [lane for lane in road.of_kind(MapKind.LANE) if len(lane.points) > 1]
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


def _half_width(lane: MapFeature) -> float:
    return lane.width / 2 if lane.width else _LANE_HALF_WIDTH


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
    shoulder = 0.0 if areas else _SHOULDER
    if edges and not areas:
        mask = _flood(lanes, edges, widen, cells, mask)
    else:
        for lane in lanes:
            widen(mask, lane, _half_width(lane) + shoulder)
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
        widen(mask, lane, 6.0)
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
        half = np.full((len(points) - 1, 1), _half_width(lane))
        pieces.append(np.concatenate([points[:-1], points[1:], half], 1))
    mark_directions(np.concatenate(pieces), origin, DIRECTION_RESOLUTION, directions)
    return directions


@dataclass(frozen=True)
class GroundBank:
    """The grounds of many scenes, cut into square tiles of which only those that hold something are kept.

    A road fills a few percent of the rectangle around it. A tile holds TILE x TILE cells and a copy of the
    first row and column of its neighbours, so that the four cells around any point lie in one tile.

    Attributes:
        cells: Codes paint, phase, kind, edge of the cells of a tile, row by row. Tile 0 belongs to no scene:
            it is what lies outside the rasters, far from paint and road.
        tile: Which tile each place of each scene holds, `tile_rows * tile_cols` a scene, row by row; entry 0 is
            outside (tile 0).
        tile_start: First entry of each scene in `tile`.
        cell_shape: Rows and columns of each scene's raster; there are (cols - 1) // TILE + 1 tiles in a row.
        origin: [m, world].
        resolution: [m].
        direction_bits: Direction masks of every scene; entry 0 is outside (no lane).
        direction_start: First entry of each scene.
        direction_shape: Rows and columns.
    """

    cells: UInt8[Tensor, "tile 289 4"]
    tile: Int[Tensor, "place"]
    tile_start: Int[Tensor, "scene"]
    cell_shape: Int[Tensor, "scene 2"]
    origin: Float[Tensor, "scene 2"]
    resolution: Float[Tensor, "scene"]
    direction_bits: UInt8[Tensor, "entry"]
    direction_start: Int[Tensor, "scene"]
    direction_shape: Int[Tensor, "scene 2"]

    @classmethod
    def pack(cls, grounds: Iterable[Ground]) -> Self:
        """The bank of these grounds, in this order; each may be forgotten once the next is asked for."""
        cells, places = [np.tile(_NOTHING, (1, TILE_SIDE**2, 1))], [np.zeros(1, np.int32)]
        bits = [np.zeros(1, np.uint8)]
        shapes, coarse, origins, resolutions = [], [], [], []
        kept = 1
        for ground in grounds:
            tiles = _cut(np.stack([ground.paint, ground.phase, ground.kind, ground.edge], -1))
            holds = (tiles != _NOTHING).any((1, 2))
            places.append(np.where(holds, kept - 1 + holds.cumsum(), 0).astype(np.int32))
            cells.append(tiles[holds])
            kept += len(cells[-1])
            bits.append(ground.directions.ravel())
            shapes.append(ground.paint.shape)
            coarse.append(ground.directions.shape)
            origins.append(ground.origin)
            resolutions.append(ground.resolution)
        if not shapes:
            raise UserError("a ground bank was given no grounds", got=0, expected="at least one ground")
        return cls(
            cells=torch.from_numpy(np.concatenate(cells)),
            tile=torch.from_numpy(np.concatenate(places)),
            tile_start=torch.tensor(np.cumsum([len(part) for part in places[:-1]])),
            cell_shape=torch.tensor(shapes),
            origin=torch.tensor(np.stack(origins), dtype=torch.float64),
            resolution=torch.tensor(resolutions, dtype=torch.float64),
            direction_bits=torch.from_numpy(np.concatenate(bits)),
            direction_start=torch.tensor(np.cumsum([len(part) for part in bits[:-1]])),
            direction_shape=torch.tensor(coarse),
        )

    @property
    def nbytes(self) -> int:
        """Memory of the cells and directions of all scenes [bytes]."""
        return self.cells.nbytes + self.tile.nbytes + self.direction_bits.nbytes

    def to(self, device: torch.device | str) -> Self:
        """The bank on another device."""
        return type(self)(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def corners(
        self, scene: Int[Tensor, "*batch"], row: Int[Tensor, "*batch"], col: Int[Tensor, "*batch"]
    ) -> UInt8[Tensor, "*batch 4 4"]:
        """Codes of the cells [row, col], [row, col + 1], [row + 1, col] and [row + 1, col + 1].

        Args:
            scene: Which scene each cell is in.
            row, col: From 0 to two less than the rows and columns of the scene.
        """
        tile_cols = (self.cell_shape[scene][..., 1] - 1) // TILE + 1
        tile = self.tile[self.tile_start[scene] + row // TILE * tile_cols + col // TILE].long()
        first = row % TILE * TILE_SIDE + col % TILE
        corner = torch.arange(4, device=first.device)
        around = corner // 2 * TILE_SIDE + corner % 2
        return self.cells[tile[..., None], first[..., None] + around]

    def edge_distance(
        self, scene: Int[Tensor, "*batch"], points: Float[Tensor, "*batch 2"]
    ) -> Float[Tensor, "*batch"]:
        """Signed distance from the border of the drivable area [m], positive inside (bilinear).

        Saturates at +-EDGE_RANGE; outside the raster, and at points that are not finite, it is
        -EDGE_RANGE.

        Args:
            scene: Which scene each point is in.
            points: [m, world].
        """
        size = self.cell_shape[scene].flip(-1)
        at = (points.double() - self.origin[scene]) / self.resolution[scene][..., None]
        inside = ((at >= 0) & (at < size)).all(-1)
        at = torch.where(inside[..., None], at, 0.5) - 0.5
        at = torch.minimum(at.clamp(min=0.0), (size - 1).double())
        corner = torch.minimum(at.floor(), (size - 2).double())
        share = (at - corner).float()
        col, row = corner.long().unbind(-1)
        codes = self.corners(scene, row, col)[..., 3].float().unbind(-1)
        low = torch.lerp(codes[0], codes[1], share[..., 0])
        high = torch.lerp(codes[2], codes[3], share[..., 0])
        distance = (torch.lerp(low, high, share[..., 1]) - 128) * EDGE_STEP
        return torch.where(inside, distance, -EDGE_RANGE)

    def directions(
        self, scene: Int[Tensor, "*batch"], points: Float[Tensor, "*batch 2"]
    ) -> UInt8[Tensor, "*batch"]:
        """Which ways lanes lead at each point, as the bits of `Ground.directions`; 0 off the lanes.

        Args:
            scene: Which scene each point is in.
            points: [m, world].
        """
        shape = self.direction_shape[scene]
        at = (points.double() - self.origin[scene]) / DIRECTION_RESOLUTION
        inside = ((at >= 0) & (at < shape.flip(-1))).all(-1)
        col, row = torch.where(inside[..., None], at, 0.0).long().unbind(-1)
        index = self.direction_start[scene] + row * shape[..., 1] + col
        return self.direction_bits[torch.where(inside, index, 0)]


def _cut(codes: UInt8[ndarray, "rows cols 4"]) -> UInt8[ndarray, "tile 289 4"]:
    """Tiles of a raster as `GroundBank` keeps them, all of them, row by row."""
    rows, cols = ((size - 1) // TILE + 1 for size in codes.shape[:2])
    whole = np.tile(_NOTHING, (rows * TILE + 1, cols * TILE + 1, 1))
    whole[: codes.shape[0], : codes.shape[1]] = codes
    step = whole.strides
    tiles = np.lib.stride_tricks.as_strided(
        whole,
        (rows, cols, TILE_SIDE, TILE_SIDE, 4),
        (TILE * step[0], TILE * step[1], *step),
        writeable=False,
    )
    return tiles.reshape(rows * cols, TILE_SIDE**2, 4)
