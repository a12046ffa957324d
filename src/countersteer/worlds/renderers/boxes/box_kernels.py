"""Numba kernels of boxes: their shadows, and their faces filled row by row.

Each face turned to the camera is clipped at the near plane and filled row by row. Its inverse depth
("nearness") is affine on the screen, so the depth test is one multiply-add a pixel.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.kernels import inner
from countersteer.worlds.renderers.boxes.constants import (
    AMBIENT,
    FAR_GROUND,
    HORIZON,
    K_VEHICLE,
    LIGHT,
    NEAR_PLANE,
    SHADOW_DEPTH,
    SHADOW_REACH,
    VISIBILITY,
)
from countersteer.worlds.renderers.boxes.decals import DECALS
from countersteer.worlds.renderers.boxes.machine import LANES, on_stack
from countersteer.worlds.renderers.boxes.shading import as_byte, coverage, unit

__all__ = ["draw_box", "draw_shadow", "light_faces", "place_box", "project"]

F = np.float32

_span, _span_colours = on_stack(LANES, np.float32), on_stack(3 * LANES, np.uint8)
_span_bytes = on_stack(LANES, np.uint8)


@inner
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
def place_box(where, heading, size, position, rotation, slant, center, axes, half):
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
def project(center, axes, half, focal, width, height, corners):
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
    """Outline of a face on the screen; returns its number of corners. Arguments from `project`."""
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
def draw_shadow(
    center, axes, half, eye_height, focal, width, height, foot, flat, corners, quad, outline, spans, shadow,
):  # fmt: skip
    """Darken the ground below a box and a little around it."""
    # A box without height, where the ground lies `eye_height` below the camera.
    up_center = axes[2, 0] * center[0] + axes[2, 1] * center[1] + axes[2, 2] * center[2]
    for k in range(3):
        foot[k] = center[k] - (eye_height + up_center) * axes[2, k]
        flat[k] = half[k] + SHADOW_REACH if k < 2 else 0.0
    whole, seen = project(foot, axes, flat, focal, width, height, corners)
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
        for left in range(first, last, LANES):
            x = F(left) + F(0.5 - width / 2)
            for i in range(LANES):
                u = x + F(np.int32(i))
                depth = F(1.0) / max(q_row + p_x * u, F(1.0 / FAR_GROUND))
                out_a = abs((a_row + a_x * u) * depth - a_0) - half_a
                out_b = abs((b_row + b_x * u) * depth - b_0) - half_b
                near = unit(F(1.0) - max(out_a, out_b, F(0.0)) * F(1.0 / SHADOW_REACH))
                col = np.uintp(left) + np.uintp(i)
                shadow[row, col] = max(shadow[row, col], F(SHADOW_DEPTH) * near)


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def draw_box(
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
            for left in range(first, last, LANES):
                pixels, x = np.int32(min(LANES, last - left)), F(left) + F(0.5 - width / 2)
                seen = np.int32(0)
                for i in range(LANES):
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
    """Colours of up to LANES pixels of a face in a row, of those that `show` names."""
    q_row, q_x, q_y = nearness
    a_row, a_x, a_y, a_0, half_a = along_a
    b_row, b_x, b_y, b_0, half_b = along_b
    # One over the pixel's footprint is at most this, in half sizes.
    most_a, most_b = half_a * F(1e3), half_b * F(1e3)
    a, b, wide, high, haze = _span(), _span(), _span(), _span(), _span()
    red, green, blue, out = _span(), _span(), _span(), _span_colours()
    for i in range(LANES):
        u = x + F(np.int32(i))
        q = q_row + q_x * u
        away = F(1.0) / q
        at_a, at_b = (a_row + a_x * u) * away, (b_row + b_x * u) * away
        wide[i] = min(q / (abs(a_x - at_a * q_x) + abs(a_y - at_a * q_y)), most_a)
        high[i] = min(q / (abs(b_x - at_b * q_x) + abs(b_y - at_b * q_y)), most_b)
        a[i], b[i] = at_a - a_0, at_b - b_0
        q *= look[VISIBILITY]
        haze[i] = F(1.0) / (F(1.0) + q * q)
    for i in range(LANES):
        red[i], green[i], blue[i] = body[0] * light, body[1] * light, body[2] * light
    for k in range(DECALS):
        if decals[k, 5] == F(0.0):
            break
        shine, own, opacity = light if decals[k, 3] else F(1.0), decals[k, 4], decals[k, 5]
        tint_0, tint_1 = decals[k, 0] * shine + own * body[0], decals[k, 1] * shine + own * body[1]
        tint_2 = decals[k, 2] * shine + own * body[2]
        middle_a, extent_a, mirrored = decals[k, 6], decals[k, 7], decals[k, 8] != F(0.0)
        middle_b, extent_b = decals[k, 9], decals[k, 10]
        for i in range(LANES):
            off = abs((abs(a[i]) if mirrored else a[i]) - middle_a)
            share = opacity * coverage(off, extent_a, wide[i])
            share *= coverage(abs(b[i] - middle_b), extent_b, high[i])
            red[i] += share * (tint_0 - red[i])
            green[i] += share * (tint_1 - green[i])
            blue[i] += share * (tint_2 - blue[i])
    h0, h1, h2 = look[HORIZON], look[HORIZON + 1], look[HORIZON + 2]
    for i in range(LANES):
        out[3 * i] = as_byte(red[i] + haze[i] * (h0 - red[i]))
        out[3 * i + 1] = as_byte(green[i] + haze[i] * (h1 - green[i]))
        out[3 * i + 2] = as_byte(blue[i] + haze[i] * (h2 - blue[i]))
    for i in range(pixels):
        if show[i]:
            k = np.uintp(3 * (left + i))
            line[k], line[k + np.uintp(1)], line[k + np.uintp(2)] = out[3 * i], out[3 * i + 1], out[3 * i + 2]


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def light_faces(heading, look, light):
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
