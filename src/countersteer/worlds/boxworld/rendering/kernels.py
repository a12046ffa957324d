"""Numba kernels of the renderer: one picture a thread, rows of ground stepped affinely, boxes as faces.

Boxes come first: each face turned to the camera is clipped at the near plane and filled row by row. Its
inverse depth ("nearness") is affine on the screen, so the depth test is one multiply-add a pixel. Then each
row is walked once more for what no box covers: along a row the numerator and denominator of the ground
point are affine, so a pixel costs one division, one four-byte look-up and its colours.
`reference` says the same without any of this.
"""

from __future__ import annotations

import functools
import math
from typing import no_type_check

import numba as nb
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.worlds.boxworld.ground import (
    CROWDED,
    DASH_LENGTH,
    DASH_PERIOD,
    EDGE_STEP,
    HEADING_STEPS,
    LINE_HALF_WIDTH,
    PAINT_RANGE,
    PHASE_STEPS,
    SOLID,
    TILE,
    TILE_SIDE,
    WIDE,
    WIDE_HALF_WIDTH,
    YELLOW,
)
from countersteer.worlds.boxworld.rendering.decals import DECALS
from countersteer.worlds.boxworld.rendering.machine import load, on_stack, widest_vectors

__all__ = ["NEAR_PLANE", "draw_images", "noise_table"]

F = np.float32

NEAR_PLANE = 0.1
"""Nothing nearer is drawn [m]."""
FAR_GROUND = 2000.0
"""The ground ends here, along the optical axis [m]."""
SINKS = 1e-4
"""Ground hides a box only if nearer by this share, so that boxes standing on it keep their feet."""
SHADOW_REACH = 0.45
"""How far the contact shadow reaches beyond a box [m]."""
SHADOW_DEPTH = 0.6
"""Share of light that the contact shadow takes."""
NOISE_SIZE = 128
FINE_NOISE, COARSE_NOISE = 16.0, 2.0
"""Texels of the two octaves of texture [1/m]."""

# Columns of the appearance row, see appearance.looks_of.
SKY, HORIZON, TERRAIN, ROAD, WHITE, YELLOW_PAINT, LIGHT = 0, 3, 6, 9, 12, 15, 18
AMBIENT, TERRAIN_TEXTURE, ROAD_TEXTURE, OFFSET, VISIBILITY, PAINT = 21, 22, 23, 24, 26, 27
# Pixel classes, see rendering.PixelClass.
K_SKY, K_TERRAIN, K_ROAD, K_MARKING = 0, 1, 2, 3
K_VEHICLE, K_PEDESTRIAN, K_CYCLIST, K_STATIC, K_SIGNAL = 4, 5, 6, 7, 8

CHUNK = 64
"""Pixels of a row of ground that are drawn together."""
SPAN = 16
"""Pixels of a row of a face that are drawn together."""
_span, _span_colours, _span_bytes = (
    on_stack(SPAN, np.float32),
    on_stack(3 * SPAN, np.uint8),
    on_stack(SPAN, np.uint8),
)
_piece, _piece_indices = on_stack(CHUNK, np.float32), on_stack(CHUNK, np.int32)
_piece_words, _piece_colours = on_stack(4 * CHUNK, np.int32), on_stack(3 * CHUNK, np.uint8)
TILE_BITS = TILE.bit_length() - 1
WHOLE_PERIODS = 1024.0
"""Periods of the texture that are added before it is looked up, so that indices are positive [texel]."""


@functools.cache
def noise_table() -> Float[ndarray, "16384"]:
    """Periodic value noise of two octaves, features of 8 and 4 texels, in [-1, 1], row by row."""
    rng = np.random.default_rng(0)
    total = np.zeros((NOISE_SIZE, NOISE_SIZE))
    for texels, weight in ((8, 0.65), (4, 0.35)):
        values = rng.uniform(-1.0, 1.0, (NOISE_SIZE // texels,) * 2)
        at = np.arange(NOISE_SIZE) / texels
        low, share = at.astype(int), at % 1
        share = share * share * (3 - 2 * share)
        for axis in range(2):
            shape = (-1, 1) if axis == 0 else (1, -1)
            here, there = values.take(low, axis), values.take((low + 1) % (NOISE_SIZE // texels), axis)
            values = here + (there - here) * share.reshape(shape)
        total += weight * values
    return total.astype(np.float32).ravel()


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _coverage(distance, half, density):
    """Share of a footprint, `distance` from the middle of a band of half width `half`, that it covers.

    `density` is one over the footprint.
    """
    share = (half - distance) * density + F(0.5)
    return max(F(0.0), min(share, F(1.0), F(2.0) * half * density))


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _unit(x):
    return max(F(0.0), min(x, F(1.0)))


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _byte(x):
    return np.uint8(np.int32(max(F(0.0), min(x, F(255.0))) + F(0.5)))


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _clip(quad, focal, width, height, outline):
    """Clip a quadrangle (camera frame) at the near plane and project it; returns the number of corners."""
    count = 0
    for k in range(4):
        ax, ay, az = quad[k]
        bx, by, bz = quad[(k + 1) % 4]
        if az >= NEAR_PLANE:
            outline[count, 0] = width / 2 + focal * ax / az
            outline[count, 1] = height / 2 + focal * ay / az
            count += 1
        if (az >= NEAR_PLANE) != (bz >= NEAR_PLANE):
            share = (NEAR_PLANE - az) / (bz - az)
            outline[count, 0] = width / 2 + focal * (ax + share * (bx - ax)) / NEAR_PLANE
            outline[count, 1] = height / 2 + focal * (ay + share * (by - ay)) / NEAR_PLANE
            count += 1
    return count


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _columns(outline, count, width, height, spans):
    """Columns with pixel centres inside a convex outline: first and one past the last of each row it touches.

    Returns the first row and one past the last.
    """
    low, high = math.inf, -math.inf
    for k in range(count):
        low, high = min(low, outline[k, 1]), max(high, outline[k, 1])
    row0 = math.ceil(min(max(low - 0.5, 0.0), float(height)))
    row1 = math.floor(min(max(high - 0.5, -1.0), height - 1.0)) + 1
    for row in range(row0, row1):
        spans[row, 0], spans[row, 1] = math.inf, -math.inf
    for k in range(count):
        other = k + 1 if k + 1 < count else 0
        x, y, end = outline[k, 0], outline[k, 1], outline[other, 1]
        if y == end:
            continue
        slope = (outline[other, 0] - x) / (end - y)
        # Rows whose centres lie between the two corners; each belongs to one edge on either side.
        top, bottom = (y, end) if y < end else (end, y)
        begin = math.ceil(min(max(top - 0.5, float(row0)), float(row1)))
        stop = math.ceil(min(max(bottom - 0.5, float(row0)), float(row1)))
        for row in range(begin, stop):
            at = x + slope * (row + 0.5 - y)
            spans[row, 0], spans[row, 1] = min(spans[row, 0], at), max(spans[row, 1], at)
    for row in range(row0, row1):
        if spans[row, 0] > spans[row, 1]:
            spans[row, 0], spans[row, 1] = 0.0, 0.0
            continue
        spans[row, 0] = math.ceil(min(max(spans[row, 0] - 0.5, 0.0), float(width)))
        spans[row, 1] = math.floor(min(max(spans[row, 1] - 0.5, -1.0), width - 1.0)) + 1
    return row0, row1


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _place_box(where, heading, size, position, rotation, slant, center, axes, half):
    """Put a box into the camera frame; returns whether any of it (or of its shadow) may be seen."""
    radius = 0.0
    finite = math.isfinite(heading)
    for k in range(3):
        half[k] = 0.5 * size[k]
        radius += half[k] * half[k]
        finite = finite and math.isfinite(where[k]) and half[k] > 0.0 and math.isfinite(half[k])
    if not finite:
        return False
    radius = math.sqrt(radius) + 2.0 * SHADOW_REACH
    for k in range(3):
        center[k] = 0.0
        for i in range(3):
            center[k] += rotation[i, k] * (where[i] - position[i])
    beside = abs(center[0]) - radius * math.sqrt(1.0 + slant * slant)
    if center[2] < NEAR_PLANE - radius or beside > center[2] * slant:
        return False
    cos, sin = math.cos(heading), math.sin(heading)
    for k in range(3):
        axes[0, k] = rotation[0, k] * cos + rotation[1, k] * sin
        axes[1, k] = rotation[1, k] * cos - rotation[0, k] * sin
        axes[2, k] = rotation[2, k]
    return True


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _project(center, axes, half, focal, width, height, corners):
    """Corners of a box on the screen; corner k is on the far side of axis i if bit i of k is set.

    Returns whether all of it lies beyond the near plane, so that they mean anything, and whether it may be seen.
    """
    deep = center[2]
    for i in range(3):
        deep -= abs(axes[i, 2]) * half[i]
    if deep < NEAR_PLANE:
        return False, True
    left, right, top, bottom = math.inf, -math.inf, math.inf, -math.inf
    for k in range(8):
        a = half[0] if k & 1 else -half[0]
        b = half[1] if k & 2 else -half[1]
        c = half[2] if k & 4 else -half[2]
        scale = focal / (center[2] + a * axes[0, 2] + b * axes[1, 2] + c * axes[2, 2])
        u = 0.5 * width + scale * (center[0] + a * axes[0, 0] + b * axes[1, 0] + c * axes[2, 0])
        v = 0.5 * height + scale * (center[1] + a * axes[0, 1] + b * axes[1, 1] + c * axes[2, 1])
        left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
        corners[k, 0], corners[k, 1] = u, v
    return True, right > 0.5 and left < width - 0.5 and bottom > 0.5 and top < height - 0.5


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _outline(center, axes, half, corners, whole, face, focal, width, height, quad, outline):
    """Outline of a face on the screen; returns its number of corners. Arguments from `_project`."""
    axis, sign = face // 2, 1.0 - 2.0 * (face % 2)
    e1, e2 = (1, 2) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
    for k in range(4):
        right, up = k == 1 or k == 2, k >= 2
        if whole:
            corner = ((1 - face % 2) << axis) | (int(right) << e1) | (int(up) << e2)
            outline[k, 0], outline[k, 1] = corners[corner, 0], corners[corner, 1]
        else:
            s1, s2 = half[e1] if right else -half[e1], half[e2] if up else -half[e2]
            for i in range(3):
                quad[k, i] = (
                    center[i] + sign * half[axis] * axes[axis, i] + s1 * axes[e1, i] + s2 * axes[e2, i]
                )
    return 4 if whole else _clip(quad, focal, width, height, outline)


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _draw_shadow(center, axes, half, eye_height, focal, width, height, corners, quad, outline, spans, shadow):
    """Darken the ground below a box and a little around it."""
    # A box without height, where the ground lies `eye_height` below the camera.
    up_center = axes[2, 0] * center[0] + axes[2, 1] * center[1] + axes[2, 2] * center[2]
    foot, flat = np.empty(3), np.empty(3)
    for k in range(3):
        foot[k] = center[k] - (eye_height + up_center) * axes[2, k]
        flat[k] = half[k] + SHADOW_REACH if k < 2 else 0.0
    whole, seen = _project(foot, axes, flat, focal, width, height, corners)
    if not seen:
        return
    count = _outline(foot, axes, flat, corners, whole, 4, focal, width, height, quad, outline)
    plane = -eye_height
    p_x, p_y, p_z = F(axes[2, 0] / plane / focal), F(axes[2, 1] / plane / focal), F(axes[2, 2] / plane)
    a_x, a_y, a_z = F(axes[0, 0] / focal), F(axes[0, 1] / focal), F(axes[0, 2])
    b_x, b_y, b_z = F(axes[1, 0] / focal), F(axes[1, 1] / focal), F(axes[1, 2])
    a_0 = F(axes[0, 0] * foot[0] + axes[0, 1] * foot[1] + axes[0, 2] * foot[2])
    b_0 = F(axes[1, 0] * foot[0] + axes[1, 1] * foot[1] + axes[1, 2] * foot[2])
    half_a, half_b = F(half[0]), F(half[1])
    row0, row1 = _columns(outline, count, width, height, spans)
    for row in range(row0, row1):
        first, last = np.int64(spans[row, 0]), np.int64(spans[row, 1])
        y = F(row + 0.5 - height / 2)
        q_row, a_row, b_row = p_z + p_y * y, a_z + a_y * y, b_z + b_y * y
        # Beyond the outline the ground is lit, so a piece may reach beyond it.
        for left in range(first, last, SPAN):
            x = F(left) + F(0.5 - width / 2)
            for i in range(SPAN):
                u = x + F(np.int32(i))
                depth = F(1.0) / max(q_row + p_x * u, F(1.0 / FAR_GROUND))
                out_a = abs((a_row + a_x * u) * depth - a_0) - half_a
                out_b = abs((b_row + b_x * u) * depth - b_0) - half_b
                near = _unit(F(1.0) - max(out_a, out_b, F(0.0)) * F(1.0 / SHADOW_REACH))
                col = np.uintp(left) + np.uintp(i)
                shadow[row, col] = max(shadow[row, col], F(SHADOW_DEPTH) * near)


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _draw_box(
    center, axes, half, corners, whole, kind, instance, body, light, look, decals, focal, width, height,
    quad, outline, spans, nearness, rgb, depth, kinds, instances,
):  # fmt: skip
    """Draw the faces turned to the camera where they are nearer than what is there."""
    colours, depths, classes, identities = len(rgb) > 0, len(depth) > 0, len(kinds) > 0, len(instances) > 0
    show = _span_bytes()
    for axis in range(3):
        # How far the camera is beyond the face on its side, along the axis.
        away = axes[axis, 0] * center[0] + axes[axis, 1] * center[1] + axes[axis, 2] * center[2]
        plane = abs(away) - half[axis]
        if plane <= 1e-9:
            continue
        face = 2 * axis + int(away > 0.0)
        count = _outline(center, axes, half, corners, whole, face, focal, width, height, quad, outline)
        if count < 3:
            continue
        # The nearness of the face's plane is affine: p_x (u - width / 2) + p_y (v - height / 2) + p.
        turned = plane if away > 0.0 else -plane
        p_x, p_y, p = axes[axis, 0] / turned / focal, axes[axis, 1] / turned / focal, axes[axis, 2] / turned
        e1, e2 = (1, 2) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
        q_x, q_y = F(p_x), F(p_y)
        # Where a point lies on the face, in half sizes of it, and how that changes on the screen.
        a_x, a_y, a_z = _in_halves(axes[e1], half[e1], focal)
        b_x, b_y, b_z = _in_halves(axes[e2], half[e2], focal)
        a_0 = F((axes[e1, 0] * center[0] + axes[e1, 1] * center[1] + axes[e1, 2] * center[2]) / half[e1])
        b_0 = F((axes[e2, 0] * center[0] + axes[e2, 1] * center[1] + axes[e2, 2] * center[2]) / half[e2])
        half_a, half_b = F(half[e1]), F(half[e2])
        row0, row1 = _columns(outline, count, width, height, spans)
        for row in range(row0, row1):
            first, last = np.int64(spans[row, 0]), np.int64(spans[row, 1])
            y = F(row + 0.5 - height / 2)
            q_row, a_row, b_row = F(p) + q_y * y, a_z + a_y * y, b_z + b_y * y
            for left in range(first, last, SPAN):
                pixels, x = np.int32(min(SPAN, last - left)), F(left) + F(0.5 - width / 2)
                seen = np.int32(0)
                for i in range(SPAN):
                    col = np.uintp(left) + np.uintp(i)
                    q, before = q_row + q_x * (x + F(np.int32(i))), nearness[row, col]
                    nearer = (q > before) & (np.int32(i) < pixels)
                    nearness[row, col] = q if nearer else before
                    show[i] = np.uint8(nearer)
                    seen = np.int32(seen | np.int32(nearer))
                if seen == 0:
                    continue
                if classes:
                    for i in range(pixels):
                        kinds[row, left + i] = kind if show[i] else kinds[row, left + i]
                if depths:
                    for i in range(pixels):
                        if show[i]:
                            depth[row, left + i] = F(1.0) / (q_row + q_x * (x + F(np.int32(i))))
                if identities:
                    for i in range(pixels):
                        instances[row, left + i] = instance if show[i] else instances[row, left + i]
                if colours:
                    _colour_span(
                        left, pixels, x, (q_row, q_x, q_y), (a_row, a_x, a_y, a_0, half_a),
                        (b_row, b_x, b_y, b_0, half_b), decals[kind - K_VEHICLE, face], body, light[face], look,
                        show, rgb[row],
                    )  # fmt: skip


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _in_halves(axis, half, focal):
    """A direction in the camera's frame on the screen, in half sizes: for a pixel right, a pixel down, ahead."""
    return F(axis[0] / (focal * half)), F(axis[1] / (focal * half)), F(axis[2] / half)


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _colour_span(left, pixels, x, nearness, along_a, along_b, decals, body, light, look, show, line):
    """Colours of up to SPAN pixels of a face in a row, of those that `show` names."""
    q_row, q_x, q_y = nearness
    a_row, a_x, a_y, a_0, half_a = along_a
    b_row, b_x, b_y, b_0, half_b = along_b
    # One over the pixel's footprint is at most this, in half sizes.
    most_a, most_b = half_a * F(1e3), half_b * F(1e3)
    a, b, wide, high, haze = _span(), _span(), _span(), _span(), _span()
    red, green, blue, out = _span(), _span(), _span(), _span_colours()
    for i in range(SPAN):
        u = x + F(np.int32(i))
        q = q_row + q_x * u
        away = F(1.0) / q
        at_a, at_b = (a_row + a_x * u) * away, (b_row + b_x * u) * away
        wide[i] = min(q / (abs(a_x - at_a * q_x) + abs(a_y - at_a * q_y)), most_a)
        high[i] = min(q / (abs(b_x - at_b * q_x) + abs(b_y - at_b * q_y)), most_b)
        a[i], b[i] = at_a - a_0, at_b - b_0
        q *= look[VISIBILITY]
        haze[i] = F(1.0) / (F(1.0) + q * q)
    for i in range(SPAN):
        red[i], green[i], blue[i] = body[0] * light, body[1] * light, body[2] * light
    for k in range(DECALS):
        if decals[k, 5] == F(0.0):
            break
        shine, own, opacity = light if decals[k, 3] else F(1.0), decals[k, 4], decals[k, 5]
        tint_0, tint_1 = decals[k, 0] * shine + own * body[0], decals[k, 1] * shine + own * body[1]
        tint_2 = decals[k, 2] * shine + own * body[2]
        middle_a, extent_a, mirrored = decals[k, 6], decals[k, 7], decals[k, 8] != F(0.0)
        middle_b, extent_b = decals[k, 9], decals[k, 10]
        for i in range(SPAN):
            off = abs((abs(a[i]) if mirrored else a[i]) - middle_a)
            share = opacity * _coverage(off, extent_a, wide[i])
            share *= _coverage(abs(b[i] - middle_b), extent_b, high[i])
            red[i] += share * (tint_0 - red[i])
            green[i] += share * (tint_1 - green[i])
            blue[i] += share * (tint_2 - blue[i])
    h0, h1, h2 = look[HORIZON], look[HORIZON + 1], look[HORIZON + 2]
    for i in range(SPAN):
        out[3 * i] = _byte(red[i] + haze[i] * (h0 - red[i]))
        out[3 * i + 1] = _byte(green[i] + haze[i] * (h1 - green[i]))
        out[3 * i + 2] = _byte(blue[i] + haze[i] * (h2 - blue[i]))
    for i in range(pixels):
        if show[i]:
            k = np.uintp(3 * (left + i))
            line[k], line[k + np.uintp(1)], line[k + np.uintp(2)] = out[3 * i], out[3 * i + 1], out[3 * i + 2]


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _light_faces(heading, look, light):
    """Light on the six faces of a box: ambient, and the sun by Lambert's law."""
    cos, sin = math.cos(heading), math.sin(heading)
    ambient = look[AMBIENT]
    for face in range(6):
        if face < 2:
            facing = look[LIGHT] * cos + look[LIGHT + 1] * sin
        elif face < 4:
            facing = look[LIGHT + 1] * cos - look[LIGHT] * sin
        else:
            facing = look[LIGHT + 2]
        light[face] = ambient + (1.0 - ambient) * max(facing if face % 2 == 0 else -facing, 0.0)


# The ground of a row is drawn in pieces of CHUNK pixels, in passes over buffers of constant length: only then
# does the compiler turn the loops into vector code (measured: 4 to 8 times as fast as one scalar loop; one loop
# for all was slower than four, because what one pixel needs is a long chain).


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _cos_sin(code):
    """Cosine and sine of a line's heading: Taylor series about a quarter turn, good to 4e-6."""
    x = F(code) * F(math.pi / HEADING_STEPS) - F(math.pi / 2)
    x2 = x * x
    sin = x * (F(1.0) + x2 * (F(-1 / 6) + x2 * (F(1 / 120) + x2 * (F(-1 / 5040) + x2 * F(1 / 362880)))))
    cos = F(1.0) + x2 * (
        F(-1 / 2) + x2 * (F(1 / 24) + x2 * (F(-1 / 720) + x2 * (F(1 / 40320) + x2 * F(-1 / 3628800))))
    )
    return -sin, cos


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _paint_share(word, off_x, off_y, pu_x, pu_y, pv_x, pv_y):
    """Covered share of a cell's marking; `off` is the point's offset from the cell's centre [m]."""
    cos, sin = _cos_sin(np.int32((word >> 16) & (HEADING_STEPS - 1)))
    phase = F(np.int32((word >> 8) & SOLID))
    half = F(WIDE_HALF_WIDTH) if phase == F(WIDE) else F(LINE_HALF_WIDTH)
    code = F(np.int32(word & 0xFF)) - F(128.0)
    distance = abs(code * abs(code) * F(PAINT_RANGE / 127**2) - sin * off_x + cos * off_y)
    across = max(abs(cos * pu_y - sin * pu_x) + abs(cos * pv_y - sin * pv_x), F(1e-3))
    # A saturated code says only that no marking is near, however large the footprint.
    share = _coverage(distance, half, F(1.0) / across) if abs(code) < F(127.0) else F(0.0)
    s = (phase + F(0.5)) * F(DASH_PERIOD / PHASE_STEPS) - F(DASH_PERIOD / 2) + cos * off_x + sin * off_y
    along = max(abs(cos * pu_x + sin * pu_y) + abs(cos * pv_x + sin * pv_y), F(1e-3))
    dash = _coverage(abs(s), F(DASH_LENGTH / 2), F(1.0) / along)
    # A footprint of several dashes sees their mean.
    merged = _unit((along - F(DASH_LENGTH)) * F(1.0 / (DASH_PERIOD - DASH_LENGTH)))
    dash += merged * (F(DASH_LENGTH / DASH_PERIOD) - dash)
    return share if phase >= F(WIDE) else share * dash


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _crowded_paint(count, cell, words, at_x, at_y, pu_x, pu_y, pv_x, pv_y, inside, white, yellow):
    """Where markings crowd, take the most that any of the four surrounding cells knows of."""
    for i in range(count):
        own = CHUNK * ((2 if at_y[i] >= F(0.5) else 0) + (1 if at_x[i] >= F(0.5) else 0))
        if not words[own + i] & (CROWDED << 8) or inside[i] == F(0.0):
            continue
        for k in range(4):
            word = words[k * CHUNK + i]
            off_x, off_y = (at_x[i] - F(k & 1)) * cell, (at_y[i] - F(k >> 1)) * cell
            share = _paint_share(word, off_x, off_y, pu_x[i], pu_y[i], pv_x[i], pv_y[i])
            if word & (YELLOW << 16):
                yellow[i] = max(yellow[i], share)
            else:
                white[i] = max(white[i], share)


@nb.njit(cache=True, error_model="numpy", fastmath=True)
@no_type_check
def _draw_ground(
    cells, tile, start, rows, cols, cell, noise, look, eye, texel, ray, step, right, down, per_focal,
    row, first, last, nearness, shadow, rgb, depth, kinds,
):  # fmt: skip
    """Draw the ground of a row from column `first` to before `last`.

    The ray is affine in the column: x and y in the world, s downwards. `right` and `down` are how it moves for a
    pixel to the right and down. `texel` is where the camera stands in the coarse and the fine texture, reduced
    to one period so that single precision does.
    """
    widest_vectors()
    colours, depths, classes = len(rgb) > 0, len(depth) > 0, len(kinds) > 0
    eye_x, eye_y, eye_height = eye
    ray_x, ray_y, ray_s = ray
    step_x, step_y, step_s = step
    du_x, du_y, du_z = right
    dv_x, dv_y, dv_z = down
    coarse_x, coarse_y, fine_x, fine_y = texel
    per_height, per_cell = F(1.0) / eye_height, F(1.0) / cell
    lean_u, lean_v = du_z * per_height, dv_z * per_height
    eye_x, eye_y = eye_x * per_cell, eye_y * per_cell
    start, tile_cols = np.int32(start), np.int32((cols - 2) // TILE + 1)
    last_x, last_y, most_x, most_y = F(cols - 2), F(rows - 2), F(cols), F(rows)
    terrain_0, terrain_1, terrain_2 = look[TERRAIN], look[TERRAIN + 1], look[TERRAIN + 2]
    road_0, road_1, road_2 = look[ROAD], look[ROAD + 1], look[ROAD + 2]
    white_0, white_1, white_2 = look[WHITE], look[WHITE + 1], look[WHITE + 2]
    yellow_0, yellow_1, yellow_2 = look[YELLOW_PAINT], look[YELLOW_PAINT + 1], look[YELLOW_PAINT + 2]
    haze_0, haze_1, haze_2 = look[HORIZON], look[HORIZON + 1], look[HORIZON + 2]
    visibility, rough_terrain, rough_road = look[VISIBILITY], look[TERRAIN_TEXTURE], look[ROAD_TEXTURE]
    opacity = look[PAINT]

    near, away, from_x, from_y, at_x, at_y = _piece(), _piece(), _piece(), _piece(), _piece(), _piece()
    inside, fine, coarse = _piece(), _piece(), _piece()
    pu_x, pu_y, pv_x, pv_y = _piece(), _piece(), _piece(), _piece()
    roads, white, yellow, texture = _piece(), _piece(), _piece(), _piece()
    place, corner, of_fine, of_coarse = _piece_indices(), _piece_indices(), _piece_indices(), _piece_indices()
    words, out = _piece_words(), _piece_colours()
    for left in range(first, last, CHUNK):
        count = min(CHUNK, last - left)
        # Where the rays meet the ground, and where to look that up.
        for i in range(CHUNK):
            u = F(np.int32(left + i))
            # Past the end of the row the ray may rise: the floor keeps those entries, which nobody reads, finite.
            q = max((ray_s + u * step_s) * per_height, F(1.0 / FAR_GROUND))
            t = F(1.0) / q
            x, y = (ray_x + u * step_x) * t, (ray_y + u * step_y) * t
            near[i], away[i], from_x[i], from_y[i] = q, t, x, y
            # Truncation is a floor for what is above -WHOLE_PERIODS, and beyond that the texture has faded.
            j = np.int32(x * F(COARSE_NOISE) + coarse_x) & np.int32(NOISE_SIZE - 1)
            k = np.int32(y * F(COARSE_NOISE) + coarse_y) & np.int32(NOISE_SIZE - 1)
            of_coarse[i] = k * np.int32(NOISE_SIZE) + j
            j = np.int32(x * F(FINE_NOISE) + fine_x) & np.int32(NOISE_SIZE - 1)
            k = np.int32(y * F(FINE_NOISE) + fine_y) & np.int32(NOISE_SIZE - 1)
            of_fine[i] = k * np.int32(NOISE_SIZE) + j
            # The four cells whose centres surround the point, and where it lies between them.
            x, y = x * per_cell + eye_x, y * per_cell + eye_y
            inside[i] = F(1.0) if (x >= F(0.0)) & (y >= F(0.0)) & (x < most_x) & (y < most_y) else F(0.0)
            x, y = x - F(0.5), y - F(0.5)
            j, k = np.int32(max(F(0.0), min(x, last_x))), np.int32(max(F(0.0), min(y, last_y)))
            at_x[i] = min(max(x - F(j), F(-0.5)), F(1.5))
            at_y[i] = min(max(y - F(k), F(-0.5)), F(1.5))
            place[i] = start + np.int32(k >> TILE_BITS) * tile_cols + np.int32(j >> TILE_BITS)
            corner[i] = (k & (TILE - 1)) * np.int32(TILE_SIDE) + (j & (TILE - 1))
        for i in range(count):
            # Boxes that stand on the ground keep their feet.
            nearness[row, np.uintp(left) + np.uintp(i)] = near[i] * F(1.0 - SINKS)
        if depths:
            for i in range(count):
                depth[row, np.uintp(left) + np.uintp(i)] = away[i]
        if not (colours or classes):
            continue

        # The look-ups: four words and two texels a pixel.
        seen = np.int32(0)
        for i in range(CHUNK):
            at = np.int32(load(tile, place[i]) * np.int32(TILE_SIDE * TILE_SIDE) + corner[i])
            w00, w01 = load(cells, at), load(cells, np.int32(at + np.int32(1)))
            w10 = load(cells, np.int32(at + np.int32(TILE_SIDE)))
            w11 = load(cells, np.int32(at + np.int32(TILE_SIDE + 1)))
            words[i], words[CHUNK + i], words[2 * CHUNK + i], words[3 * CHUNK + i] = w00, w01, w10, w11
            seen = np.int32(seen | w00 | w01 | w10 | w11)
            fine[i], coarse[i] = load(noise, of_fine[i]), load(noise, of_coarse[i])

        # What lies there: shares of road and paint, and the texture.
        for i in range(CHUNK):
            # How the ground point moves for one pixel to the right (pu) and down (pv) [m].
            scale = per_focal * away[i]
            ux, uy = scale * (du_x + lean_u * from_x[i]), scale * (du_y + lean_u * from_y[i])
            vx, vy = scale * (dv_x + lean_v * from_x[i]), scale * (dv_y + lean_v * from_y[i])
            pu_x[i], pu_y[i], pv_x[i], pv_y[i] = ux, uy, vx, vy
            w00, w01, w10, w11 = words[i], words[CHUNK + i], words[2 * CHUNK + i], words[3 * CHUNK + i]

            # The road's border: bilinear distance in steps of its code, and the footprint along its gradient.
            x, y = _unit(at_x[i]), _unit(at_y[i])
            e00, e01 = F(np.int32((w00 >> 24) & 0xFF)), F(np.int32((w01 >> 24) & 0xFF))
            e10, e11 = F(np.int32((w10 >> 24) & 0xFF)), F(np.int32((w11 >> 24) & 0xFF))
            low, high = e00 + x * (e01 - e00), e10 + x * (e11 - e10)
            slope_x = (e01 - e00 + y * ((e11 - e10) - (e01 - e00))) * per_cell
            slope_y = (high - low) * per_cell
            footprint = abs(slope_x * ux + slope_y * uy) + abs(slope_x * vx + slope_y * vy)
            edge = low + y * (high - low) - F(128.0)
            roads[i] = inside[i] * _unit(F(0.5) + edge / max(footprint, F(1e-3 / EDGE_STEP)))

            # The marking of the cell that the point is in.
            on_right, on_top = at_x[i] >= F(0.5), at_y[i] >= F(0.5)
            word = (w11 if on_right else w10) if on_top else (w01 if on_right else w00)
            off_x = (at_x[i] - (F(1.0) if on_right else F(0.0))) * cell
            off_y = (at_y[i] - (F(1.0) if on_top else F(0.0))) * cell
            paint = inside[i] * _paint_share(word, off_x, off_y, ux, uy, vx, vy)
            on_yellow = (word & (YELLOW << 16)) != 0
            yellow[i] = paint if on_yellow else F(0.0)
            white[i] = F(0.0) if on_yellow else paint

            # Two octaves, each fading before its features get smaller than a pixel.
            extent = abs(ux) + abs(uy) + abs(vx) + abs(vy)
            fade, fade_coarse = _unit(F(1.5) - extent), _unit(F(1.5) - F(0.125) * extent)
            texture[i] = F(0.4) * fade * fine[i] + F(0.6) * fade_coarse * coarse[i]
        if seen & (CROWDED << 8):
            _crowded_paint(count, cell, words, at_x, at_y, pu_x, pu_y, pv_x, pv_y, inside, white, yellow)
        if classes:
            for i in range(count):
                ground = K_ROAD if roads[i] >= F(0.5) else K_TERRAIN
                kinds[row, np.uintp(left) + np.uintp(i)] = (
                    K_MARKING if max(white[i], yellow[i]) >= F(0.5) else ground
                )
        if not colours:
            continue

        # The colour is a mean of terrain, road, white, yellow and haze; these are their weights.
        for i in range(CHUNK):
            q = visibility * near[i]
            far = F(1.0) / (F(1.0) + q * q)
            lit = (F(1.0) - shadow[row, np.uintp(left) + np.uintp(i)]) * (F(1.0) - far)
            on_yellow = opacity * yellow[i] * lit
            lit -= on_yellow
            on_white = opacity * white[i] * lit
            lit -= on_white
            on_road = roads[i] * lit * (F(1.0) + rough_road * texture[i])
            on_terrain = (F(1.0) - roads[i]) * lit * (F(1.0) + rough_terrain * texture[i])
            red = on_terrain * terrain_0 + on_road * road_0 + on_white * white_0
            green = on_terrain * terrain_1 + on_road * road_1 + on_white * white_1
            blue = on_terrain * terrain_2 + on_road * road_2 + on_white * white_2
            out[3 * i] = _byte(red + on_yellow * yellow_0 + far * haze_0)
            out[3 * i + 1] = _byte(green + on_yellow * yellow_1 + far * haze_1)
            out[3 * i + 2] = _byte(blue + on_yellow * yellow_2 + far * haze_2)
        for i in range(3 * count):
            rgb[row, np.uintp(3 * left) + np.uintp(i)] = out[i]


@nb.njit(cache=True, error_model="numpy", fastmath=True)
@no_type_check
def _sky_colours(up_row, up_step, x_row, x_step, norm2, first, count, look, line):
    """Colours of a span of sky: horizon to zenith by the fourth power of one minus the sine of elevation."""
    s0, s1, s2 = look[SKY], look[SKY + 1], look[SKY + 2]
    h0, h1, h2 = look[HORIZON] - s0, look[HORIZON + 1] - s1, look[HORIZON + 2] - s2
    for i in range(count):
        u = F(np.int32(i + first))
        x = x_row + u * x_step
        share = F(1.0) - max(up_row + u * up_step, F(0.0)) / np.sqrt(norm2 + x * x)
        share *= share
        share *= share
        k = (np.uintp(first) + np.uintp(i)) * np.uintp(3)
        line[k] = _byte(s0 + share * h0)
        line[k + np.uintp(1)] = _byte(s1 + share * h1)
        line[k + np.uintp(2)] = _byte(s2 + share * h2)


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _ground_span(ray_s, step_s, limit, width):
    """First column and one past the last where the ray, affine in the column, falls faster than `limit`."""
    if step_s == 0.0:
        return (0, width) if ray_s > limit else (0, 0)
    at = min(max((limit - ray_s) / step_s, -1.0), width + 1.0)
    if step_s < 0.0:
        end = min(max(math.ceil(at), 0), width)
        return 0, end
    begin = min(max(math.floor(at) + 1, 0), width)
    return begin, width


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _draw_ground_and_sky(
    cells,
    tile,
    start,
    rows,
    cols,
    resolution,
    eye,
    rotation,
    focal,
    look,
    noise,
    width,
    height,
    nearness,
    shadow,
    rgb,
    depth,
    kinds,
):
    """The picture without boxes. `eye` is the camera relative to the raster's origin [m]."""
    colours, classes = len(rgb) > 0, len(kinds) > 0
    tall = eye[2] > 0.0
    eye_height = eye[2] if tall else 1.0
    per_focal, cell = F(1.0 / focal), F(resolution)
    near_eye = (F(eye[0]), F(eye[1]), F(eye_height))
    step = (F(rotation[0, 0] / focal), F(rotation[1, 0] / focal), F(-rotation[2, 0] / focal))
    right = (F(rotation[0, 0]), F(rotation[1, 0]), F(rotation[2, 0]))
    down = (F(rotation[0, 1]), F(rotation[1, 1]), F(rotation[2, 1]))
    shift_x, shift_y = look[OFFSET] * NOISE_SIZE, look[OFFSET + 1] * NOISE_SIZE
    texel = (
        F((eye[0] * COARSE_NOISE + shift_x) % NOISE_SIZE + WHOLE_PERIODS),
        F((eye[1] * COARSE_NOISE + shift_y) % NOISE_SIZE + WHOLE_PERIODS),
        F((eye[0] * FINE_NOISE + shift_x) % NOISE_SIZE + WHOLE_PERIODS),
        F((eye[1] * FINE_NOISE + shift_y) % NOISE_SIZE + WHOLE_PERIODS),
    )
    for row in range(height):
        x, y = 0.5 - width / 2, row + 0.5 - height / 2
        ray_x = (rotation[0, 0] * x + rotation[0, 1] * y) / focal + rotation[0, 2]
        ray_y = (rotation[1, 0] * x + rotation[1, 1] * y) / focal + rotation[1, 2]
        ray_s = -((rotation[2, 0] * x + rotation[2, 1] * y) / focal + rotation[2, 2])
        first, last = _ground_span(ray_s, -rotation[2, 0] / focal, eye_height / FAR_GROUND, width)
        if not tall:
            first, last = 0, 0
        _draw_ground(
            cells, tile, start, rows, cols, cell, noise, look, near_eye, texel, (F(ray_x), F(ray_y), F(ray_s)),
            step, right, down, per_focal, row, first, last, nearness, shadow, rgb, depth, kinds,
        )  # fmt: skip
        for side in range(2):
            left, end = (0, first) if side == 0 else (last, width)
            if classes:
                kinds[row, left:end] = K_SKY
            if len(depth):
                depth[row, left:end] = np.inf
            if colours and end > left:
                norm2 = F(1.0 + (y / focal) * (y / focal))
                _sky_colours(
                    F(-ray_s), -step[2], F(x / focal), per_focal, norm2, left, end - left, look, rgb[row]
                )


@nb.njit(cache=True, error_model="numpy", parallel=True)
@no_type_check
def draw_images(
    cells,
    tile,
    tile_start,
    cell_shape,
    origin,
    resolution,
    view_scene,
    view_world,
    position,
    rotation,
    focal,
    ego_slot,
    box_center,
    box_heading,
    box_size,
    box_kind,
    box_instance,
    box_colour,
    box_present,
    looks,
    body_colours,
    decals,
    noise,
    width,
    height,
    rgb,
    depth,
    kinds,
    instances,
):
    """Draw every image; arguments as prepared by `rendering.render`, pictures last: one without rows if not wanted."""
    for n in nb.prange(len(view_scene)):
        _draw_image(
            cells,
            tile,
            tile_start[view_scene[n]],
            cell_shape[view_scene[n], 0],
            cell_shape[view_scene[n], 1],
            origin[view_scene[n]],
            resolution[view_scene[n]],
            position[n],
            rotation[n],
            focal[n],
            ego_slot[n],
            box_center[view_world[n]],
            box_heading[view_world[n]],
            box_size[view_world[n]],
            box_kind[view_world[n]],
            box_instance[view_world[n]],
            box_colour[view_world[n]],
            box_present[view_world[n]],
            looks[view_world[n]],
            body_colours[view_world[n]],
            decals,
            noise,
            width,
            height,
            rgb[n % len(rgb)],
            depth[n % len(depth)],
            kinds[n % len(kinds)],
            instances[n % len(instances)],
        )


@nb.njit(cache=True, error_model="numpy", fastmath={"contract", "arcp", "nsz", "reassoc"})
@no_type_check
def _draw_image(
    cells,
    tile,
    start,
    rows,
    cols,
    origin,
    resolution,
    position,
    rotation,
    focal,
    ego_slot,
    box_center,
    box_heading,
    box_size,
    box_kind,
    box_instance,
    box_colour,
    box_present,
    look,
    body_colours,
    decals,
    noise,
    width,
    height,
    rgb,
    depth,
    kinds,
    instances,
):
    if not (np.isfinite(position).all() and np.isfinite(rotation).all() and math.isfinite(focal)):
        rgb[:] = 0
        depth[:] = np.inf
        kinds[:] = K_SKY
        instances[:] = -1
        return
    # Pieces of a row may reach beyond its end.
    nearness = np.zeros((height, width + SPAN), np.float32)
    shadow = np.zeros((height, width + CHUNK), np.float32)
    instances[:] = -1
    # What may be seen of the boxes is placed once and drawn twice: shadows before the ground, faces after it.
    slots = len(box_present)
    placed, seen = np.empty(slots, np.int64), 0
    center, axes, half = np.empty((slots, 3)), np.empty((slots, 3, 3)), np.empty((slots, 3))
    corners, whole = np.empty((slots + 1, 8, 2)), np.empty(slots, np.bool_)
    quad, outline, spans, light = np.empty((4, 3)), np.empty((8, 2)), np.empty((height, 2)), np.empty(6, F)
    for k in range(slots):
        if box_present[k] and k != ego_slot and _place_box(
            box_center[k], box_heading[k], box_size[k], position, rotation, 0.5 * width / focal,
            center[seen], axes[seen], half[seen],
        ):  # fmt: skip
            grounded = abs(box_center[k, 2] - half[seen, 2]) < 0.5 and box_kind[k] != K_SIGNAL
            if len(rgb) and grounded and position[2] > 0.0:
                _draw_shadow(
                    center[seen], axes[seen], half[seen], position[2], focal, width, height,
                    corners[slots], quad, outline, spans, shadow,
                )  # fmt: skip
            placed[seen] = k
            whole[seen], visible = _project(
                center[seen], axes[seen], half[seen], focal, width, height, corners[seen]
            )
            seen += int(visible)
    eye = np.empty(3)
    eye[0], eye[1], eye[2] = position[0] - origin[0], position[1] - origin[1], position[2]
    _draw_ground_and_sky(
        cells,
        tile,
        start,
        rows,
        cols,
        resolution,
        eye,
        rotation,
        focal,
        look,
        noise,
        width,
        height,
        nearness,
        shadow,
        rgb,
        depth,
        kinds,
    )
    # From the nearest on, so that little is drawn twice.
    for i in np.argsort(center[:seen, 2]):
        k = placed[i]
        _light_faces(box_heading[k], look, light)
        _draw_box(
            center[i], axes[i], half[i], corners[i], whole[i], box_kind[k], box_instance[k],
            body_colours[box_colour[k]], light, look, decals, focal, width, height, quad, outline, spans,
            nearness, rgb, depth, kinds, instances,
        )  # fmt: skip
