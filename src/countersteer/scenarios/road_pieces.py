"""Maps cut into pieces of 5 m, as models of traffic read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from countersteer.geometry import polylines
from countersteer.geometry.poses import wrap_angle
from countersteer.scenarios.scenario import MapKind, RoadMap, Scenario
from countersteer.traffic.interface import RoadPieces

__all__ = ["pack_pieces", "pieces_of"]

PIECE = 5.0
"""About how long a piece of a lane is [m]."""
_JOINS = 1.0  # a lane that begins so near to another's end goes on from it [m]
_LANE_WIDTH = 3.6  # of a lane that states none [m]


def pieces_of(road: RoadMap) -> Float[ndarray, "piece 9"]:
    """Pieces of lanes, stop lines and crosswalks: x, y, direction, and what `RoadPieces.about` says."""
    rows: list[list[float]] = []
    lanes = []
    for feature in road.of_kind(MapKind.LANE):
        line = polylines.distinct(np.asarray(feature.points, np.float64)[:, :2])
        if len(line) > 1:
            lanes.append((line, feature.width or _LANE_WIDTH))
    begins = np.array([line[0] for line, _ in lanes]).reshape(-1, 2)
    for line, width in lanes:
        goes_on = bool((np.linalg.norm(begins - line[-1], axis=1) < _JOINS).any())
        rows += _along(line, width, goes_on)
    for feature in road.of_kind(MapKind.STOP_LINE):
        line = np.asarray(feature.points, np.float64)[:, :2]
        if len(line) > 1:
            across = line[-1] - line[0]
            middle = (line[0] + line[-1]) / 2
            rows.append(
                [*middle, np.arctan2(across[1], across[0]), 1.5, np.hypot(*across), 0.0, 1.0, 0.0, 0.0]
            )
    for feature in road.of_kind(MapKind.CROSSWALK):
        corners = np.asarray(feature.points, np.float64)[:, :2]
        if len(corners) > 2:
            rows.append([*corners.mean(0), *_longest(corners), 0.0, 0.0, 0.0, 1.0])
    return np.array(rows, np.float64).reshape(-1, 9)


def _along(line: ndarray, width: float, goes_on: bool) -> list[list[float]]:
    """The pieces of one lane, at least one."""
    arc = polylines.arc_length(line)
    count = max(1, round(arc[-1] / PIECE))
    at = np.linspace(0.0, arc[-1], 2 * count + 1)
    points = np.stack([np.interp(at, arc, line[:, k]) for k in range(2)], -1)
    rows = []
    for k in range(count):
        begin, middle, end = points[2 * k : 2 * k + 3]
        courses = [np.arctan2(*(b - a)[::-1]) for a, b in ((begin, middle), (middle, end), (begin, end))]
        turn = wrap_angle(courses[1] - courses[0])
        leaves = float(k == count - 1 and not goes_on)
        rows.append([*middle, courses[2], width / 2, arc[-1] / count, float(turn), 0.0, leaves, 0.0])
    return rows


def _longest(corners: ndarray) -> tuple[float, float, float]:
    """Direction of a polygon's longest side, half the extent across it, and the extent along it."""
    sides = np.roll(corners, -1, 0) - corners
    side = sides[np.linalg.norm(sides, axis=1).argmax()]
    course = float(np.arctan2(side[1], side[0]))
    axis = np.array([np.cos(course), np.sin(course)])
    along, across = np.ptp(corners @ axis), np.ptp(corners @ np.array([-axis[1], axis[0]]))
    return course, float(across) / 2, float(along)


def pack_pieces(scenarios: Sequence[Scenario]) -> RoadPieces:
    """The maps of scenarios as one tree; equal maps are cut once."""
    cut: dict[int, ndarray] = {}
    for scenario in scenarios:
        cut.setdefault(id(scenario.road), pieces_of(scenario.road))
    rows = [cut[id(scenario.road)] for scenario in scenarios]
    packed = np.zeros((len(rows), max(1, *(len(row) for row in rows)), 9), np.float32)
    there = np.zeros(packed.shape[:2], bool)
    for k, row in enumerate(rows):
        packed[k, : len(row)], there[k, : len(row)] = row, True
    return RoadPieces(
        torch.from_numpy(packed[..., :3]), torch.from_numpy(packed[..., 3:]), torch.from_numpy(there)
    )
