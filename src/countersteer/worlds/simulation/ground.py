"""The baked ground: what is painted, what is drivable and which way lanes lead, as small rasters.

A ground pixel then costs one ray-plane intersection and one look-up whatever the size of the map, and
"off road" is a look-up of the corners of a box. A cell does not hold a colour but *where the nearest
border lies*: for paint the signed distance to the nearest marking's centre line and that line's heading,
so that a reader extrapolates the distance to any point in the cell and lines stay crisp at a metre;
for the road the signed distance to its border. Both are anti-aliased analytically by whoever draws them.

Rasters are indexed `[row, col]`: rows run along +y, columns along +x, and the centre of cell `[i, j]` is
at `origin + resolution * (j + 0.5, i + 0.5)`. It is flat: of roads above one another it holds the one that the controlled cars drive on (`scenarios.levels`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from countersteer.errors import UserError

__all__ = ["EDGE_RANGE", "PAINT_RANGE", "Ground", "GroundBank"]

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
