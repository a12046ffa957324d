"""Numba kernels of departed views: one view a thread, rows in passes that the compiler turns into vector code.

A row of a frame is projected in one pass, its footprints are rounded to pixels in a second, and a third one
throws the depths into the view's depth buffer. Colours are then sampled backwards, two channels in one
multiplication. `reference` says the same without any of this.
"""

from __future__ import annotations

from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.kernels import njit
from countersteer.worlds.renderers.boxes.machine import load, on_stack, widest_vectors

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


PIECE = 64
"""Pixels of a row that go through the passes together."""
_numbers, _places = on_stack(PIECE + 1, np.float32), on_stack(PIECE + 1, np.int32)
_bytes = on_stack(3 * PIECE, np.uint8)


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _same(a, b):
    return abs(a - b) < F(SAME_SURFACE) * max(a, b) + F(SAME_SURFACE_FLOOR)


@njit(error_model="numpy")
@no_type_check
def _splat(inverse, m, magnified, nearest):
    """Throw the depths of a frame into the depth buffer of a view; the nearest wins."""
    widest_vectors()
    height, width = inverse.shape
    view_height, view_width = nearest.shape
    largest, w, h = F(LARGEST_FOOTPRINT), F(view_width), F(view_height)
    flat, stride = nearest.reshape(-1), np.uintp(view_width)
    flat[:] = F(-1.0)
    # Place 0 of each buffer is the pixel before the piece.
    xs, ys, qs, us, ups = _numbers(), _numbers(), _numbers(), _numbers(), _numbers()
    hx, hy, ya, qa = _numbers(), _numbers(), _numbers(), _numbers()
    left, right, top, bottom = _places(), _places(), _places(), _places()
    ys_above, qs_above = np.zeros(width, np.float32), np.full(width, F(-1.0))
    sx, sy, sz = m[0, 3], m[1, 3], m[2, 3]
    half_x, half_y = F(0.5) * magnified[0], F(0.5) * magnified[1]
    for row in range(height):
        v = F(row) + F(0.5)
        ax, bx = m[0, 0], m[0, 1] * v + m[0, 2]
        ay, by = m[1, 0], m[1, 1] * v + m[1, 2]
        az, bz = m[2, 0], m[2, 1] * v + m[2, 2]
        line, above = inverse[row], inverse[max(row - 1, 0)]
        xs[0], qs[0], us[0] = F(0.0), F(-1.0), F(-1.0)
        for start in range(0, width, PIECE):
            count = min(PIECE, width - start)
            for k in range(count):
                us[k + 1] = line[np.uintp(start) + np.uintp(k)]
                ups[k + 1] = above[np.uintp(start) + np.uintp(k)]
                ya[k] = ys_above[np.uintp(start) + np.uintp(k)]
                qa[k] = qs_above[np.uintp(start) + np.uintp(k)]
            # Where the pixels go, their inverse depths there, and half their sizes.
            for k in range(PIECE):
                q = us[k + 1]
                u = F(np.int32(start + k)) + F(0.5)
                p = az * u + bz + q * sz
                seen = (p > F(1e-6)) & (q >= F(0.0))
                nearer = F(1.0) / (p if seen else F(1.0))  # no NaN may reach a place
                there = q * nearer
                xs[k + 1] = (ax * u + bx + q * sx) * nearer if seen else F(0.0)
                ys[k + 1] = (ay * u + by + q * sy) * nearer if seen else F(0.0)
                seen &= there <= F(NEAREST)
                qs[k + 1] = there if seen else F(-1.0)
                hx[k + 1] = min(max(half_x * nearer, F(0.5)), largest)
                hy[k + 1] = min(max(half_y * nearer, F(0.5)), largest)
            # Pixels whose centres they cover; a surface that the view stretches reaches to its last pixel and row.
            for k in range(PIECE):
                x, y, q, here = xs[k + 1], ys[k + 1], qs[k + 1], us[k + 1]
                wide, high, before, up = hx[k + 1], hy[k + 1], us[k], ups[k + 1]
                same_x = (qs[k] >= F(0.0)) & _same(here, before)
                same_y = (qa[k] >= F(0.0)) & _same(here, up)
                gap_x, gap_y = x - xs[k] - wide, y - ya[k] - high
                reach_x = min(max(wide, gap_x), largest) if same_x else wide
                reach_y = min(max(high, gap_y), largest) if same_y else high
                x0, x1 = np.ceil(x - reach_x - F(0.5)), np.ceil(x + wide - F(0.5))
                y0, y1 = np.ceil(y - reach_y - F(0.5)), np.ceil(y + high - F(0.5))
                x1 = x1 if q >= F(0.0) else F(0.0)
                left[k], right[k] = np.int32(min(max(x0, F(0.0)), w)), np.int32(min(max(x1, F(0.0)), w))
                top[k], bottom[k] = np.int32(min(max(y0, F(0.0)), h)), np.int32(min(max(y1, F(0.0)), h))
            for k in range(count):
                ys_above[np.uintp(start) + np.uintp(k)] = ys[k + 1]
                qs_above[np.uintp(start) + np.uintp(k)] = qs[k + 1]
            for k in range(count):
                wide, high, q = right[k] - left[k], bottom[k] - top[k], qs[k + 1]
                if wide <= 0 or high <= 0:
                    continue
                at = np.uintp(top[k]) * stride + np.uintp(left[k])
                if wide == 1 and high == 1:
                    if q > flat[at]:
                        flat[at] = q
                    continue
                for _ in range(high):
                    for x in range(wide):
                        if q > flat[at + np.uintp(x)]:
                            flat[at + np.uintp(x)] = q
                    at += stride
            xs[0], qs[0], us[0] = xs[count], qs[count], us[count]


@njit(error_model="numpy")
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
            if x > 0 and end < width and end - x <= WIDEST_CRACK and _same(line[x - 1], line[end]):
                step = (line[end] - line[x - 1]) / F(end - x + 1)
                for k in range(x, end):
                    line[k] = line[x - 1] + step * F(k - x + 1)
            else:
                empty += end - x
            x = end
    return empty


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _blend(a, b, c, d, shift, along, down):
    """One channel between four texels."""
    a, b = F(np.int32(a >> shift) & np.int32(255)), F(np.int32(b >> shift) & np.int32(255))
    c, d = F(np.int32(c >> shift) & np.int32(255)), F(np.int32(d >> shift) & np.int32(255))
    upper, lower = a + (b - a) * along, c + (d - c) * along
    return np.int32(upper + (lower - upper) * down + F(0.5))


@njit(error_model="numpy")
@no_type_check
def _colour(texels, rows, columns, m, nearest, number, first, rgb, inverse, source):
    """Sample colours of a frame, bilinearly, for all pixels of the view that have none yet.

    The `first` frame of a view also writes what it does not see: black, depth -1, NOTHING.
    """
    widest_vectors()
    height, width = nearest.shape
    qs, fa, fb = _numbers(), _numbers(), _numbers()
    at = _places()
    w00, w01, w10, w11 = _places(), _places(), _places(), _places()
    red, green, blue, colours = _places(), _places(), _places(), _bytes()
    largest_a, largest_b = F(columns - 1), F(rows - 1)
    last_a, last_b = np.int32(columns - 2), np.int32(rows - 2)
    stride = np.int32(columns)
    one = np.int32(1)
    for y in range(height):
        v = F(y) + F(0.5)
        ax, bx = m[0, 0], m[0, 1] * v + m[0, 2]
        ay, by = m[1, 0], m[1, 1] * v + m[1, 2]
        az, bz = m[2, 0], m[2, 1] * v + m[2, 2]
        sx, sy, sz = m[0, 3], m[1, 3], m[2, 3]
        for start in range(0, width, PIECE):
            count = min(PIECE, width - start)
            for k in range(count):
                qs[k] = nearest[np.uintp(y), np.uintp(start) + np.uintp(k)]
            if not first:
                wanted = False
                for k in range(count):
                    wanted |= (qs[k] >= F(0.0)) & (source[np.uintp(y), np.uintp(start) + np.uintp(k)] < 0)
                if not wanted:
                    continue
            for k in range(count, PIECE):
                qs[k] = F(0.0)
            for k in range(PIECE):
                u = F(np.int32(start + k)) + F(0.5)
                q = qs[k]
                p = F(1.0) / (az * u + bz + q * sz)
                a = (ax * u + bx + q * sx) * p - F(0.5)
                b = (ay * u + by + q * sy) * p - F(0.5)
                a = min(max(a, F(0.0)), largest_a) if a == a else F(0.0)
                b = min(max(b, F(0.0)), largest_b) if b == b else F(0.0)
                column, row = min(np.int32(a), last_a), min(np.int32(b), last_b)
                fa[k], fb[k] = a - F(column), b - F(row)
                at[k] = row * stride + column
            for k in range(PIECE):
                w00[k] = load(texels, at[k])
                w01[k] = load(texels, np.int32(at[k] + one))
                w10[k] = load(texels, np.int32(at[k] + stride))
                w11[k] = load(texels, np.int32(at[k] + stride + one))
            for k in range(PIECE):
                red[k] = _blend(w00[k], w01[k], w10[k], w11[k], 0, fa[k], fb[k])
                green[k] = _blend(w00[k], w01[k], w10[k], w11[k], 8, fa[k], fb[k])
                blue[k] = _blend(w00[k], w01[k], w10[k], w11[k], 16, fa[k], fb[k])
            if first:  # nothing stands there yet, so that no pixel has to be asked
                for k in range(PIECE):
                    seen = qs[k] >= F(0.0)
                    colours[3 * k] = np.uint8(red[k]) if seen else np.uint8(0)
                    colours[3 * k + 1] = np.uint8(green[k]) if seen else np.uint8(0)
                    colours[3 * k + 2] = np.uint8(blue[k]) if seen else np.uint8(0)
                for k in range(3 * count):
                    rgb[np.uintp(y), np.uintp(3 * start) + np.uintp(k)] = colours[k]
                for k in range(count):
                    x = np.uintp(start) + np.uintp(k)
                    inverse[np.uintp(y), x] = qs[k]
                    source[np.uintp(y), x] = np.int8(number) if qs[k] >= F(0.0) else np.int8(NOTHING)
                continue
            for k in range(count):
                x = np.uintp(start) + np.uintp(k)
                if qs[k] >= F(0.0) and source[np.uintp(y), x] < 0:
                    rgb[np.uintp(y), np.uintp(3) * x] = red[k]
                    rgb[np.uintp(y), np.uintp(3) * x + np.uintp(1)] = green[k]
                    rgb[np.uintp(y), np.uintp(3) * x + np.uintp(2)] = blue[k]
                    inverse[np.uintp(y), x] = qs[k]
                    source[np.uintp(y), x] = number


@njit(error_model="numpy")
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


@njit(parallel=True, error_model="numpy")
@no_type_check
def draw_views(texels, inverses, frames, there, back, magnified, paint, rgb, inverse, source):
    """All views; arguments as in `rendering.render`."""
    count, sources = frames.shape
    height, width = inverse.shape[1:]
    for view in nb.prange(count):
        nearest = np.empty((height, width), np.float32)
        first, empty = True, 1
        for number in range(sources):
            frame = frames[view, number]
            if frame < 0 or empty == 0:
                continue
            _splat(inverses[frame], there[view, number], magnified[view, number], nearest)
            empty = _close_cracks(nearest)
            rows, columns = texels.shape[1:]
            _colour(
                texels[frame].reshape(-1), rows, columns, back[view, number], nearest, number, first,
                rgb[view].reshape(height, 3 * width), inverse[view], source[view],
            )  # fmt: skip
            first = False
        if first:
            rgb[view], inverse[view], source[view] = np.uint8(0), F(-1.0), NOTHING
        elif paint:
            _paint(rgb[view], inverse[view], source[view])
