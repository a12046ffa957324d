"""Simple polygons and rectangles in the plane: containment, distance, overlap (numpy, double precision).

A polygon is its vertices `[n 2]` in order, either way round, not closed by a repeated vertex. Points
exactly on a border belong to one side or the other, as rounding has it; `within` says which do.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.geometry import boxes

__all__ = [
    "contains",
    "distance",
    "distance_to_segments",
    "line_distance",
    "overlap",
    "rectangle",
    "rectangle_distance",
    "side_distance",
    "within",
]


def contains(polygon: Float[ndarray, "n 2"], points: Float[ndarray, "*batch 2"]) -> Bool[ndarray, "*batch"]:
    """Whether each point lies in the polygon, by the even-odd rule."""
    x, y = points[..., 0, None], points[..., 1, None]
    start, end = polygon, np.roll(polygon, -1, axis=0)
    straddles = (start[:, 1] > y) != (end[:, 1] > y)
    rise = end[:, 1] - start[:, 1]
    crossing = start[:, 0] + (y - start[:, 1]) * (end[:, 0] - start[:, 0]) / np.where(rise == 0.0, 1.0, rise)
    return (straddles & (x < crossing)).sum(-1) % 2 == 1


def within(polygon: Float[ndarray, "n 2"], points: Float[ndarray, "*batch 2"]) -> Bool[ndarray, "*batch"]:
    """Whether each point lies inside and not on the border: GEOS's (shapely's) `contains` of a polygon and a point."""
    along = np.roll(polygon, -1, axis=0) - polygon
    relative = points[..., None, :] - polygon
    aside = along[:, 0] * relative[..., 1] - along[:, 1] * relative[..., 0]
    ahead = (along * relative).sum(-1)
    on_edge = (aside == 0.0) & (ahead >= 0.0) & (ahead <= (along**2).sum(-1))
    return contains(polygon, points) & ~on_edge.any(-1)


def distance_to_segments(
    start: Float[ndarray, "n 2"], end: Float[ndarray, "n 2"], points: Float[ndarray, "*batch 2"]
) -> Float[ndarray, "*batch n"]:
    """Distance from each point to each segment [m]."""
    along = end - start
    length2 = np.maximum((along**2).sum(-1), 1e-18)
    relative = points[..., None, :] - start
    t = np.clip((relative * along).sum(-1) / length2, 0.0, 1.0)
    return np.linalg.norm(relative - t[..., None] * along, axis=-1)


def distance(polygon: Float[ndarray, "n 2"], points: Float[ndarray, "*batch 2"]) -> Float[ndarray, "*batch"]:
    """Distance from each point to the polygon [m], 0 inside it."""
    border = distance_to_segments(polygon, np.roll(polygon, -1, axis=0), points).min(-1)
    return np.where(contains(polygon, points), 0.0, border)


def side_distance(
    line: Float[ndarray, "n 2"], points: Float[ndarray, "*batch 2"]
) -> Float[ndarray, "*batch"]:
    """Signed distance from each point to a polyline [m]: negative on its left, positive on its right.

    Where two segments are equally close (the point lies in the wedge of a vertex), the side is that of
    the segment it is farther aside of, which is right for convex and concave corners alike.
    """
    start, end = line[:-1], line[1:]
    along = (end - start) / np.maximum(np.linalg.norm(end - start, axis=-1, keepdims=True), 1e-12)
    gaps = distance_to_segments(start, end, points)
    relative = points[..., None, :] - start
    right = along[:, 1] * relative[..., 0] - along[:, 0] * relative[..., 1]
    nearest = gaps.min(-1, keepdims=True)
    tied = gaps <= nearest + 1e-9
    best = np.where(tied, np.abs(right), -1.0).argmax(-1)
    side = np.take_along_axis(right, best[..., None], -1)[..., 0]
    return np.where(side < 0.0, -nearest[..., 0], nearest[..., 0])


def overlap(a: Float[ndarray, "n 2"], b: Float[ndarray, "m 2"]) -> bool:
    """Whether two polygons share any point of their insides."""
    if contains(a, b).any() or contains(b, a).any():
        return True
    # No vertex lies in the other, so they overlap only if two edges cross.
    return bool(_cross(a, np.roll(a, -1, axis=0), b, np.roll(b, -1, axis=0)).any())


def _cross(
    start_a: Float[ndarray, "n 2"],
    end_a: Float[ndarray, "n 2"],
    start_b: Float[ndarray, "m 2"],
    end_b: Float[ndarray, "m 2"],
) -> Bool[ndarray, "n m"]:
    """Which segments cross, each at a point within both."""
    p, r = start_a[:, None], (end_a - start_a)[:, None]
    q, s = start_b[None], (end_b - start_b)[None]

    def turn(u: ndarray, v: ndarray) -> ndarray:
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    before, after = turn(r, q - p), turn(r, q + s - p)
    near, far = turn(s, p - q), turn(s, p + r - q)
    return (before * after < 0) & (near * far < 0)


def line_distance(polygon: Float[ndarray, "n 2"], line: Float[ndarray, "m 2"]) -> float:
    """Distance between a polygon and a polyline [m], 0 where they meet."""
    starts, ends = polygon, np.roll(polygon, -1, axis=0)
    if contains(polygon, line).any() or _cross(starts, ends, line[:-1], line[1:]).any():
        return 0.0
    to_border = distance_to_segments(starts, ends, line).min()
    return float(min(to_border, distance_to_segments(line[:-1], line[1:], polygon).min()))


def rectangle(
    center: Float[ndarray, "*batch 2"], heading: Float[ndarray, "*batch"], size: Float[ndarray, "*#batch 2"]
) -> Float[ndarray, "*batch 4 2"]:
    """Corners front-left, rear-left, rear-right, front-right [m], as `geometry.boxes.corners` orders them."""
    # One definition of a box for worlds (torch) and scores (numpy).
    place, turn = torch.tensor(center), torch.tensor(heading)
    sides = torch.tensor(size).expand(place.shape)
    return boxes.corners(place, turn, sides).numpy()


def rectangle_distance(
    a: Float[ndarray, "*batch 4 2"], b: Float[ndarray, "*batch 4 2"]
) -> Float[ndarray, "*batch"]:
    """Signed distance between two rectangles [m]: the gap, or minus the depth of their overlap.

    The depth is the smallest shift that would part them; for convex shapes it lies along the normal of
    an edge, so four axes suffice.
    """
    gaps = []
    for corners in (a, b):
        for edge in (corners[..., 0, :] - corners[..., 1, :], corners[..., 0, :] - corners[..., 3, :]):
            length = np.maximum(np.linalg.norm(edge, axis=-1, keepdims=True), 1e-12)
            axis = (edge / length)[..., None, :]
            on_a, on_b = (a * axis).sum(-1), (b * axis).sum(-1)
            gaps.append(np.maximum(on_b.min(-1) - on_a.max(-1), on_a.min(-1) - on_b.max(-1)))
    separation = np.max(np.stack(gaps, -1), -1)

    def reach(corners: ndarray, other: ndarray) -> ndarray:
        start, end = other, np.roll(other, -1, axis=-2)
        along = end - start
        length2 = np.maximum((along**2).sum(-1), 1e-18)
        relative = corners[..., :, None, :] - start[..., None, :, :]
        t = np.clip((relative * along[..., None, :, :]).sum(-1) / length2[..., None, :], 0.0, 1.0)
        return np.asarray(
            np.linalg.norm(relative - t[..., None] * along[..., None, :, :], axis=-1).min((-1, -2))
        )

    return np.where(separation > 0.0, np.minimum(reach(a, b), reach(b, a)), separation)
