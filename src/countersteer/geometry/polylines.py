"""Polylines in the plane: arc length, resampling, curvature, offsets, projection (numpy)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

__all__ = ["arc_length", "curvatures", "distinct", "headings", "offset", "project", "resample"]


def arc_length(points: Float[ndarray, "n d"]) -> Float[ndarray, "n"]:
    """Distance travelled along the polyline at each point [m], from 0."""
    steps = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def distinct(points: Float[ndarray, "n d"]) -> Float[ndarray, "m d"]:
    """The polyline without points that repeat the one before; a single point is left of one without length."""
    if len(points) < 2:
        return points
    return points[np.concatenate([[True], np.diff(arc_length(points)) > 1e-6])]


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
    points: Float[ndarray, "n d"], query: Float[ndarray, "q 2"]
) -> tuple[Float[ndarray, "q"], Float[ndarray, "q"]]:
    """Arc length and signed lateral offset (left positive) [m] of the closest point to each query."""
    start, end = points[:-1, :2], points[1:, :2]
    along = end - start
    length2 = np.maximum((along**2).sum(1), 1e-12)
    relative = query[:, None] - start[None]
    t = np.clip((relative * along).sum(-1) / length2, 0.0, 1.0)
    gap = relative - t[..., None] * along
    best = (gap**2).sum(-1).argmin(1)
    rows = np.arange(len(query))
    s = arc_length(points)[best] + t[rows, best] * np.sqrt(length2[best])
    cross = along[best, 0] * relative[rows, best, 1] - along[best, 1] * relative[rows, best, 0]
    return s, cross / np.sqrt(length2[best])
