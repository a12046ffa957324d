"""Numba kernels of departed views: one view a thread, rows in passes that the compiler turns into vector code.

A row of a frame is projected in one pass, its footprints are rounded to pixels in a second, and a third one
throws the depths into the view's depth buffer. Colours are then sampled backwards, two channels in one
multiplication. `reference` says the same without any of this.
"""

from __future__ import annotations

from typing import no_type_check

import numba as nb
import numpy as np

__all__ = [
    "LARGEST_FOOTPRINT",
    "NEAREST",
    "PAINTED",
    "NOTHING",
    "SAME_SURFACE",
    "SAME_SURFACE_FLOOR",
    "WIDEST_CRACK",
    "BRUSH",
    "draw_views",
]

F = np.float32

NEAREST = 2.0
"""Largest inverse depth that is drawn [1/m]: half a metre."""
LARGEST_FOOTPRINT = 24
"""A point that would cover more pixels than this in a direction is cut to it [px]."""
SAME_SURFACE = 0.15
"""Neighbouring pixels whose inverse depths differ by less than this share are of one surface ..."""
SAME_SURFACE_FLOOR = 0.002
"""... or by less than this [1/m], where depth is a guess anyway."""
WIDEST_CRACK = 4
"""Gaps within one surface up to this width are closed with its own depth [px]."""
BRUSH = 4
"""Pixels of the background that a painted row takes its colour from."""
PAINTED, NOTHING = -1, -2  # see rendering


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _same(a, b):
    return abs(a - b) < F(SAME_SURFACE) * max(a, b) + F(SAME_SURFACE_FLOOR)


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _project(inverse, m, magnified, row, xs, ys, qs, hx, hy):
    """Where the pixels of a row go, their inverse depths there, and half their sizes."""
    y = F(row) + F(0.5)
    ax, bx = m[0, 0], m[0, 1] * y + m[0, 2]
    ay, by = m[1, 0], m[1, 1] * y + m[1, 2]
    az, bz = m[2, 0], m[2, 1] * y + m[2, 2]
    sx, sy, sz = m[0, 3], m[1, 3], m[2, 3]
    half_x, half_y = F(0.5) * magnified[0], F(0.5) * magnified[1]
    for u in range(len(inverse)):
        q = inverse[u]
        x = F(u) + F(0.5)
        p = az * x + bz + q * sz
        nearer = F(1.0) / p
        there = q * nearer
        seen = (p > F(1e-6)) & (q >= F(0.0)) & (there <= F(NEAREST))
        xs[u] = (ax * x + bx + q * sx) * nearer
        ys[u] = (ay * x + by + q * sy) * nearer
        qs[u] = there if seen else F(-1.0)
        hx[u] = max(half_x * nearer, F(0.5))
        hy[u] = max(half_y * nearer, F(0.5))


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _footprints(inverse, above, xs, ys, qs, hx, hy, ys_above, qs_above, width, height, left, right, top, bottom):
    """Pixels that each point covers; a surface that the view stretches reaches to its last pixel and row."""
    largest, w, h = F(LARGEST_FOOTPRINT), F(width), F(height)
    for u in range(len(inverse)):
        before = max(u - 1, 0)
        x, y, q = xs[u], ys[u], qs[u]
        same_x = (qs[before] >= F(0.0)) & _same(inverse[u], inverse[before])
        same_y = (qs_above[u] >= F(0.0)) & _same(inverse[u], above[u])
        reach_x = max(hx[u], x - xs[before] - hx[u]) if same_x else hx[u]
        reach_y = max(hy[u], y - ys_above[u] - hy[u]) if same_y else hy[u]
        reach_x, reach_y = min(reach_x, largest), min(reach_y, largest)
        wide, high = min(hx[u], largest), min(hy[u], largest)
        # Pixels whose centres lie inside; an empty range where the point is not seen.
        x0, x1 = np.ceil(x - reach_x - F(0.5)), np.ceil(x + wide - F(0.5))
        y0, y1 = np.ceil(y - reach_y - F(0.5)), np.ceil(y + high - F(0.5))
        x1 = x1 if q >= F(0.0) else F(0.0)
        left[u], right[u] = np.int32(min(max(x0, F(0.0)), w)), np.int32(min(max(x1, F(0.0)), w))
        top[u], bottom[u] = np.int32(min(max(y0, F(0.0)), h)), np.int32(min(max(y1, F(0.0)), h))


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _splat(inverse, m, magnified, nearest):
    """Throw the depths of a frame into the depth buffer of a view; the nearest wins."""
    height, width = inverse.shape
    view_height, view_width = nearest.shape
    numbers = np.empty((7, width), np.float32)
    cells = np.empty((4, width), np.int32)
    xs, ys, qs, hx, hy = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    ys_above, qs_above = numbers[5], numbers[6]
    left, right, top, bottom = cells[0], cells[1], cells[2], cells[3]
    nearest[:] = F(-1.0)
    qs_above[:] = F(-1.0)
    ys_above[:] = F(0.0)
    for row in range(height):
        _project(inverse[row], m, magnified, row, xs, ys, qs, hx, hy)
        above = inverse[max(row - 1, 0)]
        _footprints(
            inverse[row], above, xs, ys, qs, hx, hy, ys_above, qs_above,
            view_width, view_height, left, right, top, bottom,
        )  # fmt: skip
        for u in range(width):
            x0, x1, y0, y1, q = left[u], right[u], top[u], bottom[u], qs[u]
            for y in range(y0, y1):
                for x in range(x0, x1):
                    if q > nearest[y, x]:
                        nearest[y, x] = q
        ys_above[:] = ys
        qs_above[:] = qs


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _close_cracks(nearest):
    """Narrow gaps between two pixels of one surface get its depth; returns how many pixels stay empty."""
    height, width = nearest.shape
    empty = 0
    for y in range(height):
        line = nearest[y]
        x = 0
        while x < width:
            if line[x] >= F(0.0):
                x += 1
                continue
            end = x
            while end < width and line[end] < F(0.0):
                end += 1
            if 0 < x and end < width and end - x <= WIDEST_CRACK and _same(line[x - 1], line[end]):
                step = (line[end] - line[x - 1]) / F(end - x + 1)
                for k in range(x, end):
                    line[k] = line[x - 1] + step * F(k - x + 1)
            else:
                empty += end - x
            x = end
    return empty


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _spread(picture, y, x):
    """A pixel with room for a multiplication by 256 between its channels."""
    pixel = picture[y, x]
    return np.uint64(pixel[0]) | (np.uint64(pixel[1]) << np.uint64(16)) | (np.uint64(pixel[2]) << np.uint64(32))


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _colour(picture, m, nearest, number, rgb, inverse, source):
    """Sample colours of a frame for all pixels of the view that have none yet."""
    height, width = nearest.shape
    rows, columns = picture.shape[:2]
    keep, half = np.uint64(0x00FF00FF00FF), np.uint64(0x008000800080)
    for y in range(height):
        v = F(y) + F(0.5)
        for x in range(width):
            q = nearest[y, x]
            if q < F(0.0) or source[y, x] >= 0:
                continue
            u = F(x) + F(0.5)
            p = F(1.0) / (m[2, 0] * u + m[2, 1] * v + m[2, 2] + q * m[2, 3])
            a = (m[0, 0] * u + m[0, 1] * v + m[0, 2] + q * m[0, 3]) * p - F(0.5)
            b = (m[1, 0] * u + m[1, 1] * v + m[1, 2] + q * m[1, 3]) * p - F(0.5)
            a = min(max(a, F(0.0)), F(columns - 1))
            b = min(max(b, F(0.0)), F(rows - 1))
            column, row = np.int32(a), np.int32(b)
            wa = np.uint64(np.int32((a - F(column)) * F(256.0) + F(0.5)))
            wb = np.uint64(np.int32((b - F(row)) * F(256.0) + F(0.5)))
            right, below = min(column + 1, columns - 1), min(row + 1, rows - 1)
            va, vb = np.uint64(256) - wa, np.uint64(256) - wb
            upper = _spread(picture, row, column) * va + _spread(picture, row, right) * wa + half
            lower = _spread(picture, below, column) * va + _spread(picture, below, right) * wa + half
            upper, lower = (upper >> np.uint64(8)) & keep, (lower >> np.uint64(8)) & keep
            mixed = (upper * vb + lower * wb + half) >> np.uint64(8)
            rgb[y, x, 0] = np.uint8(mixed & np.uint64(255))
            rgb[y, x, 1] = np.uint8((mixed >> np.uint64(16)) & np.uint64(255))
            rgb[y, x, 2] = np.uint8((mixed >> np.uint64(32)) & np.uint64(255))
            inverse[y, x] = q
            source[y, x] = number


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _paint(rgb, inverse, source):
    """Paint in what nobody saw: the colour of the background beside a hole, running into the row above."""
    height, width = inverse.shape
    first = -1
    for y in range(height):
        x = 0
        while x < width:
            if source[y, x] != NOTHING:
                x += 1
                continue
            end = x
            while end < width and source[y, end] == NOTHING:
                end += 1
            if x == 0 and end == width:
                if first >= 0:
                    rgb[y] = rgb[y - 1]
                    source[y] = PAINTED
                break
            from_left = end == width or (x > 0 and inverse[y, x - 1] <= inverse[y, end])
            red, green, blue, count = 0, 0, 0, 0
            for k in range(BRUSH):
                at = x - 1 - k if from_left else end + k
                if at < 0 or at >= width or source[y, at] == NOTHING:
                    break
                red, green, blue = red + rgb[y, at, 0], green + rgb[y, at, 1], blue + rgb[y, at, 2]
                count += 1
            red, green, blue = red // count, green // count, blue // count
            for k in range(x, end):
                if y > 0 and source[y - 1, k] == PAINTED:
                    rgb[y, k, 0] = (red + 3 * rgb[y - 1, k, 0] + 2) >> 2
                    rgb[y, k, 1] = (green + 3 * rgb[y - 1, k, 1] + 2) >> 2
                    rgb[y, k, 2] = (blue + 3 * rgb[y - 1, k, 2] + 2) >> 2
                else:
                    rgb[y, k, 0], rgb[y, k, 1], rgb[y, k, 2] = red, green, blue
                source[y, k] = PAINTED
            x = end
        if first < 0 and source[y, 0] != NOTHING:
            first = y
    for y in range(first - 1, -1, -1):
        rgb[y] = rgb[y + 1]
        source[y] = PAINTED


@nb.njit(cache=True, parallel=True, error_model="numpy")
@no_type_check
def draw_views(pictures, inverses, frames, there, back, magnified, paint, rgb, inverse, source):
    """All views; arguments as in `rendering.render`."""
    count, sources = frames.shape
    height, width = inverse.shape[1:]
    for view in nb.prange(count):
        rgb[view] = np.uint8(0)
        inverse[view] = F(-1.0)
        source[view] = NOTHING
        nearest = np.empty((height, width), np.float32)
        for number in range(sources):
            frame = frames[view, number]
            if frame < 0:
                continue
            _splat(inverses[frame], there[view, number], magnified[view, number], nearest)
            empty = _close_cracks(nearest)
            _colour(
                pictures[frame], back[view, number], nearest, number, rgb[view], inverse[view], source[view]
            )
            if empty == 0:
                break
        if paint:
            _paint(rgb[view], inverse[view], source[view])
