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
"""Pixels of a row that are drawn together."""
# Where a piece's quantities begin in its buffers.
NEAR, FROM_X, FROM_Y, SHARE_X, SHARE_Y, INSIDE, NOISE_FINE, NOISE_COARSE = (CHUNK * k for k in range(8))
PU_X, PU_Y, PV_X, PV_Y, ROADS, WHITES, YELLOWS, TEXTURE, AWAY = (CHUNK * k for k in range(8, 17))
QUANTITIES = 17
TILE_BITS = TILE.bit_length() - 1
CORNER, FINE, COARSE, PLACE = 0, CHUNK, 2 * CHUNK, 3 * CHUNK


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


@nb.njit(cache=True, error_model="numpy", fastmath=True)
@no_type_check
def _box_paint(kind, face, a, b, half_a, half_b, wide, high, body, light):
    """Colour of a point on a face. `wide` and `high` are one over the pixel's footprint along a and b [1/m].

    Faces: 0 front, 1 rear (a to the left, b up), 2 left, 3 right (a forward, b up), 4 top, 5 bottom
    (a forward, b left).
    """
    red, green, blue = body[0] * light, body[1] * light, body[2] * light
    if kind == K_VEHICLE:
        dark, glass, lamp = F(0.0), F(0.0), F(0.0)
        if face < 2:
            glass = _coverage(abs(b - F(0.40) * half_b), F(0.28) * half_b, high)
            glass *= _coverage(abs(a), F(0.82) * half_a, wide)
            lamp = _coverage(abs(b + F(0.14) * half_b), F(0.12) * half_b, high)
            lamp *= _coverage(abs(abs(a) - F(0.74) * half_a), F(0.18) * half_a, wide)
            dark = _coverage(abs(b + half_b), F(0.3) * half_b, high)
        elif face < 4:
            glass = _coverage(abs(b - F(0.40) * half_b), F(0.28) * half_b, high)
            glass *= _coverage(abs(a + F(0.12) * half_a), F(0.62) * half_a, wide)
            dark = _coverage(abs(b + half_b), F(0.42) * half_b, high)
            dark *= _coverage(abs(abs(a) - F(0.62) * half_a), F(0.17) * half_a, wide)
            dark = max(dark, _coverage(abs(b + half_b), F(0.14) * half_b, high))
        elif face == 4:
            glass = _coverage(abs(a - F(0.30) * half_a), F(0.11) * half_a, wide)
            glass = max(glass, _coverage(abs(a + F(0.72) * half_a), F(0.07) * half_a, wide))
            glass *= _coverage(abs(b), F(0.82) * half_b, high)
        else:
            dark = F(1.0)
        shine = F(1.9) if face == 0 else F(1.0)
        red += glass * (F(40.0) * shine * light - red)
        green += glass * (F(50.0) * shine * light - green)
        blue += glass * (F(60.0) * shine * light - blue)
        red += dark * (F(30.0) * light - red)
        green += dark * (F(30.0) * light - green)
        blue += dark * (F(33.0) * light - blue)
        red += lamp * ((F(250.0) if face == 0 else F(205.0)) - red)
        green += lamp * ((F(244.0) if face == 0 else F(28.0)) - green)
        blue += lamp * ((F(220.0) if face == 0 else F(30.0)) - blue)
    elif kind in (K_PEDESTRIAN, K_CYCLIST):
        if face < 4:
            head = _coverage(abs(b - half_b), F(0.28) * half_b, high)
            legs = F(0.55) * _coverage(abs(b + half_b), F(0.95) * half_b, high)
            red -= legs * red
            green -= legs * green
            blue -= legs * blue
        else:
            head, legs = F(1.0), F(0.0)
        red += head * (F(196.0) * light - red)
        green += head * (F(150.0) * light - green)
        blue += head * (F(122.0) * light - blue)
    elif kind == K_STATIC:
        if face < 4:
            band = _coverage(abs(b - F(0.15) * half_b), F(0.2) * half_b, high)
            red += band * (F(238.0) * light - red)
            green += band * (F(238.0) * light - green)
            blue += band * (F(236.0) * light - blue)
    else:
        lit = _coverage(abs(a), F(0.8) * half_a, wide) * _coverage(abs(b), F(0.8) * half_b, high)
        red = F(28.0) + lit * (body[0] - F(28.0))
        green = F(30.0) + lit * (body[1] - F(30.0))
        blue = F(32.0) + lit * (body[2] - F(32.0))
    return red, green, blue


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _project(quad, focal, width, height, outline):
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


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _rows(outline, count, height):
    """First row and one past the last with pixel centres inside the outline; fills in its slopes."""
    low, high = math.inf, -math.inf
    for k in range(count):
        other = k + 1 if k + 1 < count else 0
        low, high = min(low, outline[k, 1]), max(high, outline[k, 1])
        rise = outline[other, 1] - outline[k, 1]
        outline[k, 2] = (outline[other, 0] - outline[k, 0]) / rise if rise != 0.0 else 0.0
    first = math.ceil(min(max(low - 0.5, 0.0), float(height)))
    return first, math.floor(min(max(high - 0.5, -1.0), height - 1.0)) + 1


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _columns(outline, count, row, width):
    """First column and one past the last of a row with pixel centres inside the convex outline."""
    y = row + 0.5
    low, high = math.inf, -math.inf
    for k in range(count):
        other = k + 1 if k + 1 < count else 0
        if (outline[k, 1] <= y) != (outline[other, 1] <= y):
            x = outline[k, 0] + outline[k, 2] * (y - outline[k, 1])
            low, high = min(low, x), max(high, x)
    if low > high:
        return 0, 0
    first = math.ceil(min(max(low - 0.5, 0.0), float(width)))
    return first, math.floor(min(max(high - 0.5, -1.0), width - 1.0)) + 1


@nb.njit(cache=True, error_model="numpy")
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


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _outline_face(center, axes, half, axis, reach, grow, focal, width, height, quad, outline):
    """Outline on the screen of the rectangle across `axis`, `reach` [m] from the box's centre.

    Returns its number of corners (0 if it is turned away, or the camera is inside), and the nearness of
    its plane as an affine function: p_x (u - width / 2) + p_y (v - height / 2) + p.
    """
    sign = 1.0 if reach >= 0.0 else -1.0
    nx, ny, nz = sign * axes[axis, 0], sign * axes[axis, 1], sign * axes[axis, 2]
    fx, fy, fz = center[0] + abs(reach) * nx, center[1] + abs(reach) * ny, center[2] + abs(reach) * nz
    plane = nx * fx + ny * fy + nz * fz
    if plane >= -1e-9:
        return 0, 0.0, 0.0, 0.0
    e1, e2 = (1, 2) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
    for k in range(4):
        s1 = (half[e1] + grow) * (1.0 if k == 1 or k == 2 else -1.0)
        s2 = (half[e2] + grow) * (1.0 if k >= 2 else -1.0)
        for i in range(3):
            quad[k, i] = (fx, fy, fz)[i] + s1 * axes[e1, i] + s2 * axes[e2, i]
    count = _project(quad, focal, width, height, outline)
    return count, nx / plane / focal, ny / plane / focal, nz / plane


@nb.njit(cache=True, error_model="numpy", fastmath=True)
@no_type_check
def _draw_shadow(center, axes, half, eye_height, focal, quad, outline, shadow):
    """Darken the ground below a box and a little around it."""
    height, width = shadow.shape
    up_center = axes[2, 0] * center[0] + axes[2, 1] * center[1] + axes[2, 2] * center[2]
    # The ground lies `eye_height` below the camera; its upper side is what is seen.
    foot = np.array((0.0, 0.0, 0.0))
    for k in range(3):
        foot[k] = center[k] - (eye_height + up_center) * axes[2, k]
    count, p_x, p_y, p = _outline_face(
        foot, axes, half, 2, 0.0, SHADOW_REACH, focal, width, height, quad, outline
    )
    if count < 3:
        return
    a_x, a_y, a_z = F(axes[0, 0] / focal), F(axes[0, 1] / focal), F(axes[0, 2])
    b_x, b_y, b_z = F(axes[1, 0] / focal), F(axes[1, 1] / focal), F(axes[1, 2])
    a_0 = F(axes[0, 0] * foot[0] + axes[0, 1] * foot[1] + axes[0, 2] * foot[2])
    b_0 = F(axes[1, 0] * foot[0] + axes[1, 1] * foot[1] + axes[1, 2] * foot[2])
    half_a, half_b = F(half[0]), F(half[1])
    row0, row1 = _rows(outline, count, height)
    for row in range(row0, row1):
        first, last = _columns(outline, count, row, width)
        y = F(row + 0.5 - height / 2)
        q_row, a_row, b_row = F(p) + F(p_y) * y, a_z + a_y * y, b_z + b_y * y
        for col in range(first, last):
            x = F(col) + F(0.5 - width / 2)
            depth = F(1.0) / (q_row + F(p_x) * x)
            out_a = abs((a_row + a_x * x) * depth - a_0) - half_a
            out_b = abs((b_row + b_x * x) * depth - b_0) - half_b
            near = _unit(F(1.0) - max(out_a, out_b, F(0.0)) * F(1.0 / SHADOW_REACH))
            shadow[row, col] = max(shadow[row, col], F(SHADOW_DEPTH) * near)


@nb.njit(cache=True, error_model="numpy", fastmath=True)
@no_type_check
def _draw_box(
    center, axes, half, kind, instance, body, light, look, focal, quad, outline,
    nearness, rgb, depth, kinds, instances,
):  # fmt: skip
    """Draw the faces turned to the camera where they are nearer than what is there."""
    height, width = nearness.shape
    colours, depths, classes, identities = len(rgb) > 0, len(depth) > 0, len(kinds) > 0, len(instances) > 0
    haze = look[VISIBILITY]
    for face in range(6):
        axis = face // 2
        reach = half[axis] if face % 2 == 0 else -half[axis]
        count, p_x, p_y, p = _outline_face(
            center, axes, half, axis, reach, 0.0, focal, width, height, quad, outline
        )
        if count < 3:
            continue
        e1, e2 = (1, 2) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
        q_x, q_y = F(p_x), F(p_y)
        a_x, a_y, a_z = F(axes[e1, 0] / focal), F(axes[e1, 1] / focal), F(axes[e1, 2])
        b_x, b_y, b_z = F(axes[e2, 0] / focal), F(axes[e2, 1] / focal), F(axes[e2, 2])
        a_0 = F(axes[e1, 0] * center[0] + axes[e1, 1] * center[1] + axes[e1, 2] * center[2])
        b_0 = F(axes[e2, 0] * center[0] + axes[e2, 1] * center[1] + axes[e2, 2] * center[2])
        half_a, half_b = F(half[e1]), F(half[e2])
        row0, row1 = _rows(outline, count, height)
        for row in range(row0, row1):
            first, last = _columns(outline, count, row, width)
            y = F(row + 0.5 - height / 2)
            q_row, a_row, b_row = F(p) + q_y * y, a_z + a_y * y, b_z + b_y * y
            for col in range(first, last):
                x = F(col) + F(0.5 - width / 2)
                q = q_row + q_x * x
                if q <= nearness[row, col]:
                    continue
                nearness[row, col] = q
                if classes:
                    kinds[row, col] = kind
                if depths:
                    depth[row, col] = F(1.0) / q
                if identities:
                    instances[row, col] = instance
                if colours:
                    away = F(1.0) / q
                    a = (a_row + a_x * x) * away
                    b = (b_row + b_x * x) * away
                    wide = F(1.0) / max((abs(a_x - a * q_x) + abs(a_y - a * q_y)) * away, F(1e-3))
                    high = F(1.0) / max((abs(b_x - b * q_x) + abs(b_y - b * q_y)) * away, F(1e-3))
                    red, green, blue = _box_paint(
                        kind, face, a - a_0, b - b_0, half_a, half_b, wide, high, body, light[face]
                    )
                    far = F(1.0) / (F(1.0) + (haze * q) * (haze * q))
                    rgb[row, 3 * col + 0] = _byte(red + far * (look[HORIZON] - red))
                    rgb[row, 3 * col + 1] = _byte(green + far * (look[HORIZON + 1] - green))
                    rgb[row, 3 * col + 2] = _byte(blue + far * (look[HORIZON + 2] - blue))


@nb.njit(cache=True, error_model="numpy")
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


# The ground is drawn in pieces of CHUNK pixels of a row. What a piece needs lies in one flat buffer, a
# quantity every CHUNK entries, so that offsets and trip counts are constants: only then can the compiler
# see that nothing overlaps and turn the loops into vector code (measured: 4 to 8 times as fast as one scalar
# loop). Memory is read at computed places in `_gather` alone, which stays scalar.


@nb.njit(cache=True, error_model="numpy", fastmath=True)
@no_type_check
def _ground_points(ray, step, eye, texel, per_height, cell, rows, cols, first, data, index):
    """Where the rays of a piece meet the ground, and where to look it up.

    The ray is affine in the column: x and y in the world, s downwards. `texel` is where the camera stands
    in the coarse and the fine texture, reduced to one period so that single precision does.
    """
    ray_x, ray_y, ray_s = ray
    step_x, step_y, step_s = step
    eye_x, eye_y = eye
    per_cell = F(1.0) / cell
    coarse_x, coarse_y, fine_x, fine_y = texel
    last_x, last_y = F(cols - 2), F(rows - 2)
    tile_cols = np.int32((cols - 2) // TILE + 1)
    for i in range(CHUNK):
        u = F(np.int32(first + i))
        # Past the end of the span the ray may rise: the floor keeps those entries, which nobody reads, finite.
        near = max((ray_s + u * step_s) * per_height, F(1.0 / FAR_GROUND))
        t = F(1.0) / near
        x, y = (ray_x + u * step_x) * t, (ray_y + u * step_y) * t
        data[NEAR + i], data[AWAY + i] = near, t
        data[FROM_X + i] = x * per_height
        data[FROM_Y + i] = y * per_height
        j = np.int32(np.floor(x * F(COARSE_NOISE) + coarse_x)) & (NOISE_SIZE - 1)
        k = np.int32(np.floor(y * F(COARSE_NOISE) + coarse_y)) & (NOISE_SIZE - 1)
        index[COARSE + i] = k * NOISE_SIZE + j
        j = np.int32(np.floor(x * F(FINE_NOISE) + fine_x)) & (NOISE_SIZE - 1)
        k = np.int32(np.floor(y * F(FINE_NOISE) + fine_y)) & (NOISE_SIZE - 1)
        index[FINE + i] = k * NOISE_SIZE + j
        # The four cells whose centres surround the point, and where it lies between them.
        x, y = (eye_x + x) * per_cell, (eye_y + y) * per_cell
        inside = (x >= F(0.0)) & (y >= F(0.0)) & (x < F(cols)) & (y < F(rows))
        left = np.int32(max(F(0.0), min(x - F(0.5), last_x)))
        low = np.int32(max(F(0.0), min(y - F(0.5), last_y)))
        data[SHARE_X + i] = min(max(x - F(0.5) - F(left), F(-0.5)), F(1.5))
        data[SHARE_Y + i] = min(max(y - F(0.5) - F(low), F(-0.5)), F(1.5))
        data[INSIDE + i] = F(1.0) if inside else F(0.0)
        index[PLACE + i] = (low >> TILE_BITS) * tile_cols + (left >> TILE_BITS)
        index[CORNER + i] = (low & (TILE - 1)) * np.int32(TILE_SIDE) + (left & (TILE - 1))


@nb.njit(cache=True, error_model="numpy")
@no_type_check
def _gather(cells, tile, start, noise, index, words, data):
    """The cells and the texture of a piece; returns whether markings crowd in it."""
    seen = np.int32(0)
    for i in range(CHUNK):
        # Unsigned: no check for negative indices.
        here = np.uintp(tile[np.uintp(start + np.int64(index[PLACE + i]))])
        corner = here * np.uintp(TILE_SIDE * TILE_SIDE) + np.uintp(index[CORNER + i])
        above = corner + np.uintp(TILE_SIDE)
        w00, w01, w10, w11 = (
            cells[corner],
            cells[corner + np.uintp(1)],
            cells[above],
            cells[above + np.uintp(1)],
        )
        words[i], words[CHUNK + i], words[2 * CHUNK + i], words[3 * CHUNK + i] = w00, w01, w10, w11
        seen |= w00 | w01 | w10 | w11
        data[NOISE_COARSE + i] = noise[np.uintp(index[COARSE + i])]
        data[NOISE_FINE + i] = noise[np.uintp(index[FINE + i])]
    return (seen & (CROWDED << 8)) != 0


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
    code = (F(np.int32(word & 0xFF)) - F(128.0)) * F(1.0 / 127)
    distance = abs(code * abs(code) * F(PAINT_RANGE) - sin * off_x + cos * off_y)
    across = max(abs(cos * pu_y - sin * pu_x) + abs(cos * pv_y - sin * pv_x), F(1e-3))
    # A saturated code says only that no marking is near, however large the footprint.
    share = _coverage(distance, half, F(1.0) / across) if abs(code) < F(1.0) else F(0.0)
    s = (phase + F(0.5)) * F(DASH_PERIOD / PHASE_STEPS) - F(DASH_PERIOD / 2) + cos * off_x + sin * off_y
    along = max(abs(cos * pu_x + sin * pu_y) + abs(cos * pv_x + sin * pv_y), F(1e-3))
    dash = _coverage(abs(s), F(DASH_LENGTH / 2), F(1.0) / along)
    # A footprint of several dashes sees their mean.
    merged = _unit((along - F(DASH_LENGTH)) * F(1.0 / (DASH_PERIOD - DASH_LENGTH)))
    dash += merged * (F(DASH_LENGTH / DASH_PERIOD) - dash)
    return share if phase >= F(WIDE) else share * dash


@nb.njit(cache=True, error_model="numpy", fastmath=True)
@no_type_check
def _ground_surface(right, down, per_focal, cell, words, data):
    """Shares of road and paint and the texture of a piece."""
    du_x, du_y, du_z = right
    dv_x, dv_y, dv_z = down
    slope = F(EDGE_STEP) / cell
    for i in range(CHUNK):
        # How the ground point moves for one pixel to the right (pu) and down (pv) [m].
        scale = per_focal * data[AWAY + i]
        from_x, from_y = data[FROM_X + i], data[FROM_Y + i]
        pu_x, pu_y = scale * (du_x + du_z * from_x), scale * (du_y + du_z * from_y)
        pv_x, pv_y = scale * (dv_x + dv_z * from_x), scale * (dv_y + dv_z * from_y)
        data[PU_X + i], data[PU_Y + i] = pu_x, pu_y
        data[PV_X + i], data[PV_Y + i] = pv_x, pv_y
        extent = abs(pu_x) + abs(pu_y) + abs(pv_x) + abs(pv_y)
        inside = data[INSIDE + i]
        w00, w01 = words[i], words[CHUNK + i]
        w10, w11 = words[2 * CHUNK + i], words[3 * CHUNK + i]

        # The road's border: bilinear distance, and the footprint along its gradient.
        share_x, share_y = _unit(data[SHARE_X + i]), _unit(data[SHARE_Y + i])
        e00, e01 = F(np.int32((w00 >> 24) & 0xFF)), F(np.int32((w01 >> 24) & 0xFF))
        e10, e11 = F(np.int32((w10 >> 24) & 0xFF)), F(np.int32((w11 >> 24) & 0xFF))
        low, high = e00 + share_x * (e01 - e00), e10 + share_x * (e11 - e10)
        edge = (low + share_y * (high - low) - F(128.0)) * F(EDGE_STEP)
        slope_x = (e01 - e00 + share_y * ((e11 - e10) - (e01 - e00))) * slope
        slope_y = (high - low) * slope
        footprint = abs(slope_x * pu_x + slope_y * pu_y) + abs(slope_x * pv_x + slope_y * pv_y)
        data[ROADS + i] = inside * _unit(F(0.5) + edge / max(footprint, F(1e-3)))

        # The marking of the cell that the point is in.
        on_right, on_top = data[SHARE_X + i] >= F(0.5), data[SHARE_Y + i] >= F(0.5)
        word = (w11 if on_right else w10) if on_top else (w01 if on_right else w00)
        off_x = (data[SHARE_X + i] - (F(1.0) if on_right else F(0.0))) * cell
        off_y = (data[SHARE_Y + i] - (F(1.0) if on_top else F(0.0))) * cell
        paint = inside * _paint_share(word, off_x, off_y, pu_x, pu_y, pv_x, pv_y)
        on_yellow = word & (YELLOW << 16)
        data[YELLOWS + i] = paint if on_yellow else F(0.0)
        data[WHITES + i] = F(0.0) if on_yellow else paint

        fine, coarse = _unit(F(1.5) - extent), _unit(F(1.5) - F(0.125) * extent)
        data[TEXTURE + i] = F(0.4) * fine * data[NOISE_FINE + i] + F(0.6) * coarse * data[NOISE_COARSE + i]


@nb.njit(cache=True, error_model="numpy", fastmath=True)
@no_type_check
def _crowded_paint(count, cell, words, data):
    """Where markings crowd, take the most that any of the four surrounding cells knows of."""
    for i in range(count):
        share_x, share_y = data[SHARE_X + i], data[SHARE_Y + i]
        at = CHUNK * ((2 if share_y >= F(0.5) else 0) + (1 if share_x >= F(0.5) else 0))
        if not words[at + i] & (CROWDED << 8) or data[INSIDE + i] == F(0.0):
            continue
        white, yellow = F(0.0), F(0.0)
        for k in range(4):
            word = words[k * CHUNK + i]
            off_x, off_y = (share_x - F(k & 1)) * cell, (share_y - F(k >> 1)) * cell
            share = _paint_share(
                word, off_x, off_y, data[PU_X + i], data[PU_Y + i], data[PV_X + i], data[PV_Y + i]
            )
            if word & (YELLOW << 16):
                yellow = max(yellow, share)
            else:
                white = max(white, share)
        data[WHITES + i], data[YELLOWS + i] = white, yellow


@nb.njit(cache=True, error_model="numpy", fastmath=True)
@no_type_check
def _ground_colours(first, count, data, shadow, look, line):
    """Colours of a piece of ground; `line` holds the bytes of the row."""
    t0, t1, t2 = look[TERRAIN], look[TERRAIN + 1], look[TERRAIN + 2]
    r0, r1, r2 = look[ROAD], look[ROAD + 1], look[ROAD + 2]
    w0, w1, w2 = look[WHITE], look[WHITE + 1], look[WHITE + 2]
    y0, y1, y2 = look[YELLOW_PAINT], look[YELLOW_PAINT + 1], look[YELLOW_PAINT + 2]
    h0, h1, h2 = look[HORIZON], look[HORIZON + 1], look[HORIZON + 2]
    haze, rough_terrain, rough_road, opacity = (
        look[VISIBILITY],
        look[TERRAIN_TEXTURE],
        look[ROAD_TEXTURE],
        look[PAINT],
    )
    for i in range(count):
        column = np.uintp(first) + np.uintp(i)  # unsigned: no check for negative indices in the way
        road, texture = data[ROADS + i], data[TEXTURE + i]
        on_white, on_yellow = opacity * data[WHITES + i], opacity * data[YELLOWS + i]
        grass = F(1.0) + rough_terrain * texture
        tarmac = F(1.0) + rough_road * texture
        q = haze * data[NEAR + i]
        far = F(1.0) / (F(1.0) + q * q)
        lit = F(1.0) - shadow[column]
        c0, c1, c2 = t0 * grass, t1 * grass, t2 * grass
        c0 += road * (r0 * tarmac - c0)
        c1 += road * (r1 * tarmac - c1)
        c2 += road * (r2 * tarmac - c2)
        c0 += on_white * (w0 - c0)
        c1 += on_white * (w1 - c1)
        c2 += on_white * (w2 - c2)
        c0 = lit * (c0 + on_yellow * (y0 - c0))
        c1 = lit * (c1 + on_yellow * (y1 - c1))
        c2 = lit * (c2 + on_yellow * (y2 - c2))
        k = column * np.uintp(3)
        line[k] = _byte(c0 + far * (h0 - c0))
        line[k + np.uintp(1)] = _byte(c1 + far * (h1 - c1))
        line[k + np.uintp(2)] = _byte(c2 + far * (h2 - c2))


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
    nearness,
    shadow,
    rgb,
    depth,
    kinds,
):
    """The picture without boxes. `eye` is the camera relative to the raster's origin [m]."""
    height, width = nearness.shape
    colours, classes = len(rgb) > 0, len(kinds) > 0
    tall = eye[2] > 0.0
    eye_height = eye[2] if tall else 1.0
    per_height, per_focal, cell = F(1.0 / eye_height), F(1.0 / focal), F(resolution)
    near_eye = (F(eye[0]), F(eye[1]))
    step = (F(rotation[0, 0] / focal), F(rotation[1, 0] / focal), F(-rotation[2, 0] / focal))
    right = (F(rotation[0, 0]), F(rotation[1, 0]), F(rotation[2, 0]))
    down = (F(rotation[0, 1]), F(rotation[1, 1]), F(rotation[2, 1]))
    texel = (
        F((eye[0] * COARSE_NOISE + look[OFFSET] * NOISE_SIZE) % NOISE_SIZE),
        F((eye[1] * COARSE_NOISE + look[OFFSET + 1] * NOISE_SIZE) % NOISE_SIZE),
        F((eye[0] * FINE_NOISE + look[OFFSET] * NOISE_SIZE) % NOISE_SIZE),
        F((eye[1] * FINE_NOISE + look[OFFSET + 1] * NOISE_SIZE) % NOISE_SIZE),
    )
    data = np.empty(QUANTITIES * CHUNK, np.float32)
    index, words = np.empty(4 * CHUNK, np.int32), np.empty(4 * CHUNK, np.int32)
    for row in range(height):
        x, y = 0.5 - width / 2, row + 0.5 - height / 2
        ray_x = (rotation[0, 0] * x + rotation[0, 1] * y) / focal + rotation[0, 2]
        ray_y = (rotation[1, 0] * x + rotation[1, 1] * y) / focal + rotation[1, 2]
        ray_s = -((rotation[2, 0] * x + rotation[2, 1] * y) / focal + rotation[2, 2])
        first, last = _ground_span(ray_s, -rotation[2, 0] / focal, eye_height / FAR_GROUND, width)
        if not tall:
            first, last = 0, 0
        for left in range(first, last, CHUNK):
            count = min(CHUNK, last - left)
            ray = (F(ray_x), F(ray_y), F(ray_s))
            _ground_points(ray, step, near_eye, texel, per_height, cell, rows, cols, left, data, index)
            for i in range(count):
                # Boxes that stand on the ground keep their feet.
                nearness[row, left + i] = data[NEAR + i] * F(1.0 - SINKS)
            if len(depth):
                for i in range(count):
                    depth[row, left + i] = data[AWAY + i]
            if not (colours or classes):
                continue
            crowded = _gather(cells, tile, start, noise, index, words, data)
            _ground_surface(right, down, per_focal, cell, words, data)
            if crowded:
                _crowded_paint(count, cell, words, data)
            if classes:
                for i in range(count):
                    ground = K_ROAD if data[ROADS + i] >= F(0.5) else K_TERRAIN
                    painted = max(data[WHITES + i], data[YELLOWS + i]) >= F(0.5)
                    kinds[row, left + i] = K_MARKING if painted else ground
            if colours:
                _ground_colours(left, count, data, shadow[row], look, rgb[row])
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
            noise,
            width,
            height,
            rgb[n % len(rgb)],
            depth[n % len(depth)],
            kinds[n % len(kinds)],
            instances[n % len(instances)],
        )


@nb.njit(cache=True, error_model="numpy")
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
    nearness = np.zeros((height, width), np.float32)
    shadow = np.zeros((height, width), np.float32)
    instances[:] = -1
    # What may be seen of the boxes is placed once and drawn twice: shadows before the ground, faces after it.
    slots = len(box_present)
    placed, seen = np.empty(slots, np.int64), 0
    center, axes, half = np.empty((slots, 3)), np.empty((slots, 3, 3)), np.empty((slots, 3))
    quad, outline, light = np.empty((4, 3)), np.empty((8, 3)), np.empty(6, np.float32)
    for k in range(slots):
        if box_present[k] and k != ego_slot and _place_box(
            box_center[k], box_heading[k], box_size[k], position, rotation, 0.5 * width / focal,
            center[seen], axes[seen], half[seen],
        ):  # fmt: skip
            grounded = abs(box_center[k, 2] - half[seen, 2]) < 0.5 and box_kind[k] != K_SIGNAL
            if len(rgb) and grounded and position[2] > 0.0:
                _draw_shadow(center[seen], axes[seen], half[seen], position[2], focal, quad, outline, shadow)
            placed[seen] = k
            seen += 1
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
            center[i], axes[i], half[i], box_kind[k], box_instance[k], body_colours[box_colour[k]], light,
            look, focal, quad, outline, nearness, rgb, depth, kinds, instances,
        )  # fmt: skip
