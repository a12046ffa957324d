"""The specification of departed views: plain Python, 64-bit, one pixel after the other, slow.

For every frame of a view, the most trusted first:

1. Each pixel centre, being a point in space, goes to a place in the view. It covers a rectangle around that
   place, as large as its magnification, at least a pixel, and towards its left and upper neighbour, if they are
   of the same surface, at least up to theirs. Of all points that cover a pixel's centre the nearest counts.
2. Gaps within a row of at most `WIDEST_CRACK` pixels between two of one surface get inverse depths between theirs.
3. A pixel that now has a depth, and had no colour, gets the colour at its place in the frame, bilinearly.

What then has no colour is painted, row by row from the top: the mean of the `BRUSH` pixels beside the gap on the
side that lies farther away, mixed one to three with what was painted above. Rows without anything repeat the row before.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy import ndarray

from countersteer.worlds.renderers.reprojection.drawing import (
    NOTHING,
    PAINTED,
    DepartedViews,
    FrameBank,
    Views,
    pixel_transforms,
)
from countersteer.worlds.renderers.reprojection.drawing.kernels import (
    BRUSH,
    LARGEST_FOOTPRINT,
    NEAREST,
    SAME_SURFACE,
    SAME_SURFACE_FLOOR,
    WIDEST_CRACK,
)

__all__ = ["render"]


def render(bank: FrameBank, views: Views, *, paint: bool = True) -> DepartedViews:
    """All views; arguments as in `rendering.render`."""
    there, back = pixel_transforms(bank, views)
    pictures, depths = bank.rgb.numpy(), bank.inverse_depth.numpy()
    made = []
    for view in range(len(views.frames)):
        rgb = np.zeros((views.height, views.width, 3), np.uint8)
        inverse = np.full((views.height, views.width), -1.0)
        source = np.full((views.height, views.width), NOTHING, np.int8)
        for number, frame in enumerate(views.frames[view].tolist()):
            if frame < 0 or (number > 0 and not (source == NOTHING).any()):
                continue
            ratio = (views.pinhole[view, :2] / bank.pinhole[frame, :2]).tolist()
            nearest = _depths(depths[frame].astype(np.float64), there[view, number], ratio, rgb.shape[:2])
            _close_cracks(nearest)
            for y, x in np.argwhere((nearest >= 0) & (source == NOTHING)).tolist():
                rgb[y, x] = _sample(pictures[frame], back[view, number], x, y, nearest[y, x])
                inverse[y, x], source[y, x] = nearest[y, x], number
        if paint:
            _paint(rgb, inverse, source)
        made.append((rgb, inverse.astype(np.float32), source))
    return DepartedViews(*(torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True)))


def _same(a: float, b: float) -> bool:
    return bool(abs(a - b) < SAME_SURFACE * max(a, b) + SAME_SURFACE_FLOOR)


def _depths(inverse: ndarray, m: ndarray, ratio: list[float], shape: tuple[int, int]) -> ndarray:
    nearest = np.full(shape, -1.0)
    places: dict[tuple[int, int], tuple[float, float]] = {}
    for row in range(inverse.shape[0]):
        for column in range(inverse.shape[1]):
            q = inverse[row, column]
            if not q >= 0:
                continue
            p = m @ [column + 0.5, row + 0.5, 1.0, q]
            if p[2] <= 1e-6 or q / p[2] > NEAREST:
                continue
            x, y = p[0] / p[2], p[1] / p[2]
            places[row, column] = x, y
            wide, high = (min(max(0.5 * r / p[2], 0.5), LARGEST_FOOTPRINT) for r in ratio)
            reach_x, reach_y = wide, high
            if (row, column - 1) in places and _same(q, inverse[row, column - 1]):
                reach_x = min(max(wide, x - places[row, column - 1][0] - wide), LARGEST_FOOTPRINT)
            if (row - 1, column) in places and _same(q, inverse[row - 1, column]):
                reach_y = min(max(high, y - places[row - 1, column][1] - high), LARGEST_FOOTPRINT)
            for v in range(max(math.ceil(y - reach_y - 0.5), 0), min(math.ceil(y + high - 0.5), shape[0])):
                for u in range(
                    max(math.ceil(x - reach_x - 0.5), 0), min(math.ceil(x + wide - 0.5), shape[1])
                ):
                    nearest[v, u] = max(nearest[v, u], q / p[2])
    return nearest


def _gaps(empty: ndarray) -> list[tuple[int, int]]:
    """First and one past the last of each run."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], empty.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _close_cracks(nearest: ndarray) -> None:
    for line in nearest:
        for start, end in _gaps(line < 0):
            if (
                start > 0
                and end < len(line)
                and end - start <= WIDEST_CRACK
                and _same(line[start - 1], line[end])
            ):
                line[start - 1 : end + 1] = np.linspace(line[start - 1], line[end], end - start + 2)


def _sample(picture: ndarray, m: ndarray, x: int, y: int, q: float) -> ndarray:
    rows, columns = picture.shape[:2]
    p = m @ [x + 0.5, y + 0.5, 1.0, q]
    a = min(max(p[0] / p[2] - 0.5, 0.0), columns - 1.0)
    b = min(max(p[1] / p[2] - 0.5, 0.0), rows - 1.0)
    column, row = min(int(a), columns - 2), min(int(b), rows - 2)
    near = picture[row : row + 2, column : column + 2].astype(np.float64)
    across = near[:, 0] + (near[:, 1] - near[:, 0]) * (a - column)
    return np.floor(across[0] + (across[1] - across[0]) * (b - row) + 0.5).astype(np.uint8)


def _paint(rgb: ndarray, inverse: ndarray, source: ndarray) -> None:
    height, width = source.shape
    hollow = [bool((source[y] == NOTHING).all()) for y in range(height)]
    if all(hollow):
        return
    for y in range(hollow.index(False), height):
        if hollow[y]:
            rgb[y], source[y] = rgb[y - 1], PAINTED
            continue
        for start, end in _gaps(source[y] == NOTHING):
            if end == width or (start > 0 and inverse[y, start - 1] <= inverse[y, end]):
                beside = range(start - 1, max(start - 1 - BRUSH, -1), -1)
            else:
                beside = range(end, min(end + BRUSH, width))
            usable = []
            for x in beside:
                if source[y, x] == NOTHING:
                    break
                usable.append(rgb[y, x].astype(int))
            colour = np.sum(usable, axis=0) // len(usable)
            for x in range(start, end):
                if y > 0 and source[y - 1, x] == PAINTED:
                    rgb[y, x] = (colour + 3 * rgb[y - 1, x].astype(int) + 2) // 4
                else:
                    rgb[y, x] = colour
                source[y, x] = PAINTED
    for y in range(hollow.index(False) - 1, -1, -1):
        rgb[y], source[y] = rgb[y + 1], PAINTED
