"""Polylines in the plane: arc length, resampling, curvature, offsets, projection (numpy)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

__all__ = [
    "arc_length",
    "close",
    "curvatures",
    "distinct",
    "follow",
    "halfway",
    "headings",
    "offset",
    "project",
    "resample",
    "segments_along",
]


def arc_length(points: Float[ndarray, "n d"]) -> Float[ndarray, "n"]:
    """Distance travelled along the polyline at each point [m], from 0."""
    steps = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def distinct(points: Float[ndarray, "n d"]) -> Float[ndarray, "m d"]:
    """The polyline without points that repeat the one before; a single point is left of one without length."""
    if len(points) < 2:
        return points
    return points[np.concatenate([[True], np.diff(arc_length(points)) > 1e-6])]


def close(points: Float[ndarray, "n d"]) -> Float[ndarray, "m d"]:
    """A line that ends where it begins, with its first point once more at its end; any other line as it is.

    It does if the way from its last point to its first is no longer than its longest step (or a metre), and turns by less than 45 degrees
    at either end.
    """
    steps = np.diff(points[:, :2], axis=0)
    gap = points[0, :2] - points[-1, :2]
    way, lengths = float(np.hypot(*gap)), np.hypot(*steps.T)
    if len(points) < 4 or not 1e-6 < way <= max(float(lengths.max()), 1.0) or lengths.sum() < 4 * way:
        return points
    ahead = [float(gap @ step) / max(way * float(np.hypot(*step)), 1e-12) for step in (steps[-1], steps[0])]
    return np.concatenate([points, points[:1]]) if min(ahead) > np.cos(np.pi / 4) else points


def resample(points: Float[ndarray, "n d"], spacing: float) -> Float[ndarray, "m d"]:
    """The polyline at equal arc length: `spacing` [m] apart, or a little less so that both ends stay."""
    s = arc_length(points)
    keep = np.concatenate([[True], np.diff(s) > 1e-6])
    s, points = s[keep], points[keep]
    if len(points) < 2:
        return points.copy()
    count = max(int(np.ceil(s[-1] / spacing - 1e-9)), 1) + 1
    at = np.linspace(0.0, s[-1], count)
    return np.stack([np.interp(at, s, points[:, k]) for k in range(points.shape[1])], axis=1)


def halfway(
    left: Float[ndarray, "n d"], right: Float[ndarray, "m d"], spacing: float = 1.0, most: int = 10_000
) -> Float[ndarray, "k d"]:
    """The line between two boundaries: means of points at equal shares of their lengths.

    Args:
        left, right: In the same direction, of the same dimension.
        spacing: Between points of the longer boundary [m].
        most: Points; a longer line has wider spaces.
    """
    lengths = [arc_length(side) for side in (left, right)]
    count = min(int(np.ceil(max(length[-1] for length in lengths) / spacing)) + 1, most)
    share = np.linspace(0.0, 1.0, max(count, 2))
    sides = [
        np.stack([np.interp(share * length[-1], length, side[:, k]) for k in range(side.shape[1])], -1)
        for side, length in zip((left, right), lengths, strict=True)
    ]
    return (sides[0] + sides[1]) / 2


def headings(points: Float[ndarray, "n d"]) -> Float[ndarray, "n"]:
    """Unwrapped course [rad] at each point, by central differences; that of the point before (else of the next) where
    points repeat. NaN all along a polyline without length, which leads nowhere."""
    gradient = np.gradient(points[:, :2], axis=0) if len(points) > 1 else np.zeros((len(points), 2))
    known = gradient.any(axis=1)
    if not known.any():
        return np.full(len(points), np.nan)
    if not known.all():
        before = np.maximum.accumulate(np.where(known, np.arange(len(points)), -1))
        gradient = gradient[np.where(before < 0, known.argmax(), before)]
    return np.unwrap(np.arctan2(gradient[:, 1], gradient[:, 0]))


def curvatures(points: Float[ndarray, "n d"]) -> Float[ndarray, "n"]:
    """Signed curvature [1/m] at each point, positive to the left."""
    if len(points) < 3:
        return np.zeros(len(points))
    return np.gradient(headings(points), np.maximum(arc_length(points), 1e-9 * np.arange(len(points))))


def offset(points: Float[ndarray, "n d"], left: float | Float[ndarray, "n"]) -> Float[ndarray, "n d"]:
    """The polyline moved sideways by `left` [m], positive to the left of its direction."""
    course = headings(points)
    moved = points.copy()
    moved[:, 0] -= left * np.sin(course)
    moved[:, 1] += left * np.cos(course)
    return moved


def project(
    points: Float[ndarray, "n d"], query: Float[ndarray, "q 2"], segment: Int[ndarray, "q"] | None = None
) -> tuple[Float[ndarray, "q"], Float[ndarray, "q"]]:
    """Arc length and signed lateral offset (left positive) [m] of the closest point to each query.

    The closest point may lie on another part of a line that comes back upon itself; `follow` keeps to a part.

    Args:
        points: The line.
        query: [m].
        segment: On which segment of the line to look for each; None for any.
    """
    along, length2, relative, t = _feet(points, query)
    if segment is None:
        segment = _gaps2(along, relative, t).argmin(1)
    rows = np.arange(len(query))
    s = arc_length(points)[segment] + t[rows, segment] * np.sqrt(length2[segment])
    cross = along[segment, 0] * relative[rows, segment, 1] - along[segment, 1] * relative[rows, segment, 0]
    return s, cross / np.sqrt(length2[segment])


def _feet(points: ndarray, query: ndarray) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Segments, their squared lengths, queries from their starts, and the share of each at which a query is closest."""
    start, end = points[:-1, :2], points[1:, :2]
    along = end - start
    length2 = np.maximum((along**2).sum(1), 1e-12)
    relative = query[:, None] - start[None]
    return along, length2, relative, np.clip((relative * along).sum(-1) / length2, 0.0, 1.0)


def _gaps2(along: ndarray, relative: ndarray, t: ndarray) -> ndarray:
    return ((relative - t[..., None] * along) ** 2).sum(-1)


def follow(
    points: Float[ndarray, "n d"], query: Float[ndarray, "q 2"]
) -> tuple[Float[ndarray, "q"], Float[ndarray, "q"]]:
    """`project` for somebody who goes along the line: `query` are places one after another, from `segments_along`."""
    return project(points, query, segments_along(points, query))


def segments_along(points: Float[ndarray, "n d"], query: Float[ndarray, "q 2"]) -> Int[ndarray, "q"]:
    """The segment of a line that somebody is at, at each of the places where he was one after another.

    It is the closest one that can have been reached since the place before: within 3 (m + d) + 2 metres of arc, where m is the
    way between two places and d how far aside he was (a closest point moves by at most 2 (m + d)). So lines may cross
    themselves, close, or come back beside themselves. Of the parts of the line that are less than a metre farther away at the first place
    than the closest one, that is taken which he then keeps to best and goes along; the earliest of equal ones.
    """
    along, length2, relative, t = _feet(points, query)
    gaps2 = _gaps2(along, relative, t)
    arcs = arc_length(points)[:-1] + t * np.sqrt(length2)
    gaps = np.sqrt(gaps2.min(1))
    near = np.flatnonzero(np.sqrt(gaps2[0]) <= gaps[0] + 1.0)
    parts = np.split(near, np.flatnonzero(np.diff(arcs[0, near]) > 6.0) + 1)
    moved = np.linalg.norm(np.diff(query, axis=0), axis=1)
    best, rows = gaps2.argmin(1), np.arange(len(query))
    reach = 3.0 * (moved + gaps[:-1]) + 2.0
    if len(parts) == 1 and (np.abs(np.diff(arcs[rows, best])) <= reach).all():
        return best
    ways = [_keep_to(gaps2, arcs, moved, int(part[gaps2[0, part].argmin()])) for part in parts]
    costs = [
        np.sqrt(gaps2[rows, way]).mean() + 10.0 * (arcs[-1, way[-1]] < arcs[0, way[0]] - 0.5) for way in ways
    ]
    return next(way for way, cost in zip(ways, costs, strict=True) if cost <= min(costs) + 0.3)


def _keep_to(gaps2: ndarray, arcs: ndarray, moved: ndarray, segment: int) -> Int[ndarray, "q"]:
    way = [segment]
    for row, step in enumerate(moved, 1):
        reach = 3.0 * (step + np.sqrt(gaps2[row - 1, segment])) + 2.0
        reached = np.abs(arcs[row] - arcs[row - 1, segment]) <= reach
        segment = int(np.where(reached, gaps2[row], np.inf).argmin())
        way.append(segment)
    return np.array(way)
