"""Road points of many scenes in a few flat tensors, with a grid that finds the nearest ones exactly.

The points of a scene are sorted by grid cell, row by row, so that the cells `[row, col0]` to `[row, col1]`
hold one contiguous run of points. Each cell stores its `reach`: the distance from its centre to the K-th
nearest point. The distance to the K-th nearest point changes by no more than the place moves, so the K
nearest points of any place p, in the cell of centre c or outside the grid, lie within reach + |p - c|
of p: a few runs of points. A list of candidates for each cell would take twenty times the memory, and hold more of
them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from countersteer.geometry import polylines
from countersteer.scenarios.scenario import MapFeature, MapKind, Scenario

__all__ = ["PIECE", "PointBank", "RoadBank", "edge_points", "lane_points"]

PIECE = 2.0
"""Longest piece that lanes and edges are cut into [m]."""
CELL = 10.0
"""Side of a grid cell [m]; larger where a scene would get more than _MAX_CELLS."""

_MAX_CELLS = 40_000
_LANE_HALF_WIDTH = 1.8
_SHOULDER = 0.5
_OUTSIDE = 0.25  # how far beside an outline it is looked whether another area goes on [m]


@dataclass(frozen=True)
class PointBank:
    """Points with a direction, of many scenes, and the grids over them.

    Attributes:
        nearest: K: how many nearest points the reach is for.
        longest: Points in the scene that has most of them.
        planes: x, y relative to the scene's origin [m], cosine and sine of the direction; `kernels.RUN` more than
            there are points, which belong to no scene.
        start, count: First point and number of points of each scene.
        cell_point: For each cell its first point, counted from `start`; one entry more than cells a scene.
        reach: For each cell the distance from its centre to the K-th nearest point [m], infinite where the
            scene has fewer.
        cell_point_start, reach_start: First entry of each scene.
        shape: Rows and columns of each scene's grid, whose corner is the scene's origin.
        cell: Side of its cells [m].
    """

    nearest: int
    longest: int
    planes: Float[Tensor, "4 point"]
    start: Int[Tensor, "scene"]
    count: Int[Tensor, "scene"]
    cell_point: Int[Tensor, "entry"]
    reach: Float[Tensor, "cell"]
    cell_point_start: Int[Tensor, "scene"]
    reach_start: Int[Tensor, "scene"]
    shape: Int[Tensor, "scene 2"]
    cell: Float[Tensor, "scene"]

    @classmethod
    def pack(cls, scenes: Iterable[Float[ndarray, "_ 4"]], nearest: int) -> Self:
        """The bank of these points (x, y from the scene's origin, not negative; cosine, sine), one set a scene."""
        from countersteer.worlds.sensors.vector import kernels

        planes, cell_points, reaches = [], [], []
        shapes, sides = [], []
        for points in scenes:
            points = np.asarray(points, np.float32)
            extent = points[:, :2].max(0, initial=0.0).astype(np.float64)
            side = max(CELL, math.sqrt(float((extent + CELL).prod()) / _MAX_CELLS))
            cols, rows = (int(n) for n in np.floor(extent / side) + 1)
            col, row = np.floor(points[:, :2].astype(np.float64) / side).astype(np.int64).T
            cell = row * cols + col
            order = np.argsort(cell, kind="stable")
            sorted_planes = np.ascontiguousarray(points[order].T)
            first = np.searchsorted(cell[order], np.arange(rows * cols + 1)).astype(np.int32)
            reach = np.empty(rows * cols, np.float32)
            kernels.fill_reach(reach, sorted_planes, first, rows, cols, side, nearest)
            planes.append(sorted_planes)
            cell_points.append(first)
            reaches.append(reach)
            shapes.append((rows, cols))
            sides.append(side)
        counts = [part.shape[1] for part in planes]
        planes.append(np.zeros((4, kernels.RUN), np.float32))

        def starts(parts: Sequence[ndarray]) -> Tensor:
            return torch.tensor(np.cumsum([0, *(part.shape[-1] for part in parts)])[:-1])

        return cls(
            nearest=nearest,
            longest=max(counts),
            planes=torch.from_numpy(np.concatenate(planes, 1)),
            start=starts(planes[:-1]),
            count=torch.tensor(counts),
            cell_point=torch.from_numpy(np.concatenate(cell_points)),
            reach=torch.from_numpy(np.concatenate(reaches)),
            cell_point_start=starts(cell_points),
            reach_start=starts(reaches),
            shape=torch.tensor(shapes),
            cell=torch.tensor(sides, dtype=torch.float64),
        )

    @property
    def nbytes(self) -> int:
        """Memory of all scenes [bytes]."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    def to(self, device: torch.device | str) -> Self:
        """The bank on another device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    @cached_property
    def arrays(self) -> tuple[ndarray | int, ...]:
        """What the kernel takes of the bank, in its order."""
        return (
            self.planes.numpy(),
            self.start.numpy(),
            self.cell_point.numpy(),
            self.reach.numpy(),
            self.cell_point_start.numpy(),
            self.reach_start.numpy(),
            self.shape.numpy(),
            self.cell.numpy(),
            self.longest,
        )


@dataclass(frozen=True)
class RoadBank:
    """Lane and edge points of many scenes.

    Attributes:
        origin: Corner of each scene's map [m, world]; points are stored relative to it, so that 32 bits keep
            millimetres far from the world's origin.
        lanes: Middles of the pieces of lanes' centre lines, with their driving direction.
        edges: Middles of the pieces of the road's border, with its direction.
    """

    origin: Float[Tensor, "scene 2"]
    lanes: PointBank
    edges: PointBank

    @classmethod
    def pack(cls, scenarios: Sequence[Scenario], lanes: int = 64, edges: int = 32) -> Self:
        """The bank of these scenarios, in this order.

        Args:
            scenarios: At least one; a map without points is fine.
            lanes, edges: How many nearest points will be asked for, at least 1.
        """
        points = [(lane_points(scenario), edge_points(scenario)) for scenario in scenarios]
        origins = []
        for both in points:
            xy = np.concatenate(both)[:, :2]
            origins.append(np.floor(xy.min(0)) if len(xy) else np.zeros(2))

        def relative(kind: int) -> list[ndarray]:
            return [
                both[kind] - np.append(origin, (0.0, 0.0))
                for both, origin in zip(points, origins, strict=True)
            ]

        return cls(
            origin=torch.tensor(np.stack(origins), dtype=torch.float64),
            lanes=PointBank.pack(relative(0), lanes),
            edges=PointBank.pack(relative(1), edges),
        )

    @property
    def nbytes(self) -> int:
        """Memory of all scenes [bytes]."""
        return self.origin.nbytes + self.lanes.nbytes + self.edges.nbytes

    def to(self, device: torch.device | str) -> Self:
        """The bank on another device."""
        return type(self)(self.origin.to(device), self.lanes.to(device), self.edges.to(device))

    def local(
        self, scene: Int[Tensor, "world"], position: Float[Tensor, "world agent 2"]
    ) -> Float[Tensor, "world agent 2"]:
        """Positions [m, world] relative to the origin of their scene [m]."""
        return (position.double() - self.origin[scene][:, None]).float()


def lane_points(scenario: Scenario) -> Float[ndarray, "n 4"]:
    """Middle [m, world] and direction (cosine, sine) of each piece of the lanes' centre lines."""
    return _pieces([lane.points[:, :2] for lane in scenario.road.of_kind(MapKind.LANE)])


def edge_points(scenario: Scenario) -> Float[ndarray, "n 4"]:
    """Middle [m, world] and direction (cosine, sine) of each piece of the road's border.

    The border is the map's road edges. Without any it is the outline of the drivable areas, of lane areas
    and driveways too, run counter-clockwise, without what lies inside or along another area; without
    areas it is half a metre beside the lanes.
    """
    road = scenario.road
    edges = road.of_kind(MapKind.ROAD_EDGE)
    if edges:
        return _pieces([edge.points[:, :2] for edge in edges])
    areas = [
        area.points[:, :2]
        for area in road.of_kind(MapKind.DRIVABLE_AREA, MapKind.LANE_AREA, MapKind.DRIVEWAY)
        if len(area.points) > 2
    ]
    if not areas:
        areas = [
            _ribbon(lane) for lane in road.of_kind(MapKind.LANE) if len(polylines.distinct(lane.points)) > 1
        ]
    outlines, owner = [], []
    for number, area in enumerate(areas):
        area = np.asarray(area, np.float64)
        x, y = area.T
        anticlockwise = float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) > 0
        closed = np.concatenate([area, area[:1]])
        outlines.append(_pieces([closed if anticlockwise else closed[::-1]]))
        owner.append(np.full(len(outlines[-1]), number))
    if not outlines:
        return np.zeros((0, 4))
    pieces, owners = np.concatenate(outlines), np.concatenate(owner)
    beside = pieces[:, :2] + _OUTSIDE * np.stack([pieces[:, 3], -pieces[:, 2]], -1)
    free = np.ones(len(pieces), bool)
    for number, area in enumerate(areas):
        near = ((beside >= area.min(0)) & (beside <= area.max(0))).all(1) & (owners != number) & free
        free[near] = ~_inside(beside[near], np.asarray(area, np.float64))
    return pieces[free]


def _pieces(lines: Sequence[ndarray]) -> Float[ndarray, "n 4"]:
    parts = [np.zeros((0, 4))]
    for line in lines:
        points = polylines.resample(np.asarray(line, np.float64), PIECE)
        if len(points) < 2:
            continue
        along = np.diff(points, axis=0)
        length = np.linalg.norm(along, axis=1)
        # A hairpin between two samples can bring them together.
        keep = length > 1e-6
        middle = (points[1:] + points[:-1]) / 2
        parts.append(np.concatenate([middle[keep], along[keep] / length[keep, None]], 1))
    return np.concatenate(parts)


def _ribbon(lane: MapFeature) -> ndarray:
    half = (lane.width / 2 if lane.width else _LANE_HALF_WIDTH) + _SHOULDER
    points = np.asarray(lane.points[:, :2], np.float64)
    return np.concatenate([polylines.offset(points, -half), polylines.offset(points, half)[::-1]])


def _inside(points: ndarray, area: ndarray) -> ndarray:
    """Whether each point lies in a polygon (even-odd rule)."""
    x, y = points[:, None].transpose(2, 0, 1)
    xa, ya = area.T
    xb, yb = np.roll(area, -1, 0).T
    crosses = (ya <= y) != (yb <= y)
    rise = np.where(yb == ya, 1.0, yb - ya)
    return ((xa + (xb - xa) * (y - ya) / rise > x) & crosses).sum(1) % 2 == 1
