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
from jaxtyping import UInt8
from numpy import ndarray

from countersteer.worlds.boxworld.ground import (
    DASH_LENGTH,
    DASH_PERIOD,
    EDGE_STEP,
    HEADING_STEPS,
    LINE_HALF_WIDTH,
    PAINT_RANGE,
    PHASE_STEPS,
    SOLID,
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
"""Ground wins over a box only if nearer by this share, so that boxes standing on it keep their feet."""
SHADOW_REACH = 0.45
"""How far the contact shadow reaches beyond a box [m]."""
SHADOW_DEPTH = 0.6
"""Share of light that the contact shadow takes."""
NOISE_SIZE = 256
FINE_NOISE, COARSE_NOISE = 16.0, 2.0
"""Texels of the two octaves of texture [1/m]."""

# Columns of the appearance row, see rendering._looks.
SKY, HORIZON, TERRAIN, ROAD, WHITE, YELLOW_PAINT, LIGHT = 0, 3, 6, 9, 12, 15, 18
AMBIENT, TERRAIN_TEXTURE, ROAD_TEXTURE, OFFSET, VISIBILITY, PAINT = 21, 22, 23, 24, 26, 27
# Pixel classes, see rendering.PixelClass.
K_SKY, K_TERRAIN, K_ROAD, K_MARKING = 0, 1, 2, 3
K_VEHICLE, K_PEDESTRIAN, K_CYCLIST, K_STATIC, K_SIGNAL = 4, 5, 6, 7, 8

_code = np.arange(256) - 128
DISTANCE = (np.sign(_code) * PAINT_RANGE * (np.clip(np.abs(_code), 0, 127) / 127) ** 2).astype(np.float32)
_heading = (np.arange(HEADING_STEPS) + 0.5) / HEADING_STEPS * math.pi
COS, SIN = np.cos(_heading).astype(np.float32), np.sin(_heading).astype(np.float32)


@functools.cache
def noise_table() -> UInt8[ndarray, "256 256"]:
    """Periodic value noise of two octaves, features of 8 and 4 texels, mean 127.5."""
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
    return np.clip(np.round(127.5 + 127.5 * total), 0, 255).astype(np.uint8)


@nb.njit(inline="always", fastmath=True)
@no_type_check
def _coverage(distance, half, footprint):
    """Share of a footprint, `distance` from the middle of a band of half width `half`, that it covers."""
    share = (half + F(0.5) * footprint - distance) / footprint
    return max(F(0.0), min(share, F(1.0), F(2.0) * half / footprint))


@nb.njit(inline="always", fastmath=True)
@no_type_check
def _unit(x):
    return max(F(0.0), min(x, F(1.0)))


@nb.njit(inline="always", fastmath=True)
@no_type_check
def _byte(x):
    return np.uint8(max(F(0.0), min(x, F(255.0))) + F(0.5))


@nb.njit(cache=True, fastmath=True)
@no_type_check
def _box_paint(kind, face, a, b, half_a, half_b, wide, high, body, light):
    """Colour of a point on a face. `wide` and `high` are the pixel's footprint along a and b [m].

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
    elif kind == K_PEDESTRIAN or kind == K_CYCLIST:
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


@nb.njit(cache=True)
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


@nb.njit(cache=True)
@no_type_check
def _rows(outline, count, height):
    """First row and one past the last row with pixel centres inside the outline."""
    low, high = outline[0, 1], outline[0, 1]
    for k in range(1, count):
        low, high = min(low, outline[k, 1]), max(high, outline[k, 1])
    first = math.ceil(min(max(low - 0.5, 0.0), float(height)))
    return first, math.floor(min(max(high - 0.5, -1.0), height - 1.0)) + 1


@nb.njit(cache=True)
@no_type_check
def _columns(outline, count, row, width):
    """First column and one past the last column of a row with pixel centres inside the convex outline."""
    y = row + 0.5
    low, high = math.inf, -math.inf
    for k in range(count):
        other = k + 1 if k + 1 < count else 0
        xa, ya, xb, yb = outline[k, 0], outline[k, 1], outline[other, 0], outline[other, 1]
        if (ya <= y) != (yb <= y):
            x = xa + (xb - xa) * (y - ya) / (yb - ya)
            low, high = min(low, x), max(high, x)
    if low > high:
        return 0, 0
    first = math.ceil(min(max(low - 0.5, 0.0), float(width)))
    return first, math.floor(min(max(high - 0.5, -1.0), width - 1.0)) + 1


@nb.njit(cache=True, fastmath=True)
@no_type_check
def _draw_box(
    center,  # in the camera frame [m]
    axes,  # rows: forward, left, up of the box in the camera frame
    normals_world,  # light on each face
    half,
    kind,
    slot,
    body,
    look,
    focal,
    stands,  # whether it casts a contact shadow
    eye_height,
    quad,
    outline,
    nearness,
    owner,
    shadow,
    rgb,
):
    height, width = nearness.shape
    colours = rgb.shape[0] > 0
    inverse_focal = F(1.0 / focal)
    haze = look[VISIBILITY]
    for face in range(-1 if stands and colours else 0, 6):
        # Face -1 is the contact shadow: the foot of the box, a little larger, on the ground.
        axis = max(face, 0) // 2 if face >= 0 else 2
        sign = 1.0 if face % 2 == 0 else -1.0
        e1, e2 = (1, 2) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
        nx, ny, nz = sign * axes[axis, 0], sign * axes[axis, 1], sign * axes[axis, 2]
        reach = half[axis]
        grow = 0.0
        if face == -1:
            nx, ny, nz = axes[2, 0], axes[2, 1], axes[2, 2]
            # The plane z = 0 lies `eye_height` below the camera.
            reach = -eye_height - (nx * center[0] + ny * center[1] + nz * center[2])
            grow = SHADOW_REACH
        fx, fy, fz = center[0] + reach * nx, center[1] + reach * ny, center[2] + reach * nz
        plane = nx * fx + ny * fy + nz * fz
        if plane >= -1e-9:
            continue  # turned away, or the camera is inside
        for k in range(4):
            s1 = (half[e1] + grow) * (1.0 if k == 1 or k == 2 else -1.0)
            s2 = (half[e2] + grow) * (1.0 if k >= 2 else -1.0)
            quad[k, 0] = fx + s1 * axes[e1, 0] + s2 * axes[e2, 0]
            quad[k, 1] = fy + s1 * axes[e1, 1] + s2 * axes[e2, 1]
            quad[k, 2] = fz + s1 * axes[e1, 2] + s2 * axes[e2, 2]
        count = _project(quad, focal, width, height, outline)
        if count < 3:
            continue
        row0, row1 = _rows(outline, count, height)
        q_u, q_v = F(nx / plane / focal), F(ny / plane / focal)
        a_u, a_v = F(axes[e1, 0] / focal), F(axes[e1, 1] / focal)
        b_u, b_v = F(axes[e2, 0] / focal), F(axes[e2, 1] / focal)
        a_0 = F(axes[e1, 0] * center[0] + axes[e1, 1] * center[1] + axes[e1, 2] * center[2])
        b_0 = F(axes[e2, 0] * center[0] + axes[e2, 1] * center[1] + axes[e2, 2] * center[2])
        half_a, half_b = F(half[e1]), F(half[e2])
        light = normals_world[max(face, 0)]
        for row in range(row0, row1):
            first, last = _columns(outline, count, row, width)
            x, y = 0.5 - width / 2, row + 0.5 - height / 2
            q_row = F((nx * x / focal + ny * y / focal + nz) / plane)
            a_row = F(axes[e1, 0] * x / focal + axes[e1, 1] * y / focal + axes[e1, 2])
            b_row = F(axes[e2, 0] * x / focal + axes[e2, 1] * y / focal + axes[e2, 2])
            for col in range(first, last):
                u = F(col)
                q = q_row + u * q_u
                if face == -1:
                    depth = F(1.0) / q
                    out_a = abs((a_row + u * a_u) * depth - a_0) - half_a
                    out_b = abs((b_row + u * b_u) * depth - b_0) - half_b
                    dark = F(SHADOW_DEPTH) * _unit(F(1.0) - max(out_a, out_b, F(0.0)) * F(1.0 / SHADOW_REACH))
                    shadow[row, col] = max(shadow[row, col], dark)
                    continue
                if q <= nearness[row, col]:
                    continue
                nearness[row, col] = q
                owner[row, col] = slot
                if colours:
                    depth = F(1.0) / q
                    a = (a_row + u * a_u) * depth
                    b = (b_row + u * b_u) * depth
                    wide = (abs(a_u - a * q_u) + abs(a_v - a * q_v)) * depth
                    high = (abs(b_u - b * q_u) + abs(b_v - b * q_v)) * depth
                    wide, high = max(wide, F(1e-3)), max(high, F(1e-3))
                    red, green, blue = _box_paint(
                        kind, face, a - a_0, b - b_0, half_a, half_b, wide, high, body, light
                    )
                    far = F(1.0) / (F(1.0) + (haze * q) * (haze * q))
                    rgb[row, col, 0] = _byte(red + far * (look[HORIZON] - red))
                    rgb[row, col, 1] = _byte(green + far * (look[HORIZON + 1] - green))
                    rgb[row, col, 2] = _byte(blue + far * (look[HORIZON + 2] - blue))


@nb.njit(cache=True, fastmath=True)
@no_type_check
def _road_share(cells, start, rows, cols, gx, gy, per_cell, pu_x, pu_y, pv_x, pv_y):
    """Covered share of the road's border: bilinear distance, its gradient and the pixel's footprint."""
    at_x = max(F(0.0), min(gx - F(0.5), F(cols - 1)))
    at_y = max(F(0.0), min(gy - F(0.5), F(rows - 1)))
    col, row = np.int64(at_x), np.int64(at_y)
    right = np.int64(1) if col + 1 < cols else np.int64(0)
    up = cols if row + 1 < rows else np.int64(0)
    s, t = at_x - F(col), at_y - F(row)
    index = start + row * cols + col
    e00 = F(cells[index] >> 24)
    e01 = F(cells[index + right] >> 24)
    e10 = F(cells[index + up] >> 24)
    e11 = F(cells[index + up + right] >> 24)
    low, high = e00 + s * (e01 - e00), e10 + s * (e11 - e10)
    distance = (low + t * (high - low) - F(128.0)) * F(EDGE_STEP)
    slope_y = (high - low) * F(EDGE_STEP) * per_cell
    slope_x = ((e01 - e00) + t * ((e11 - e10) - (e01 - e00))) * F(EDGE_STEP) * per_cell
    footprint = abs(slope_x * pu_x + slope_y * pu_y) + abs(slope_x * pv_x + slope_y * pv_y)
    return _unit(F(0.5) + distance / max(footprint, F(1e-3)))


@nb.njit(cache=True, fastmath=True)
@no_type_check
def _paint_share(word, off_x, off_y, pu_x, pu_y, pv_x, pv_y):
    """Covered share of the nearest marking; `off` is the point's offset from the cell's centre [m]."""
    kind = (word >> 16) & 0xFF
    cos, sin = COS[kind & (HEADING_STEPS - 1)], SIN[kind & (HEADING_STEPS - 1)]
    half = F(WIDE_HALF_WIDTH) if kind & WIDE else F(LINE_HALF_WIDTH)
    distance = DISTANCE[word & 0xFF] - sin * off_x + cos * off_y
    footprint = abs(cos * pu_y - sin * pu_x) + abs(cos * pv_y - sin * pv_x)
    share = _coverage(abs(distance), half, max(footprint, F(1e-3)))
    phase = (word >> 8) & 0xFF
    if phase != SOLID and share > F(0.0):
        s = (F(phase) + F(0.5)) * F(DASH_PERIOD / PHASE_STEPS) - F(DASH_PERIOD / 2)
        s += cos * off_x + sin * off_y
        along = max(abs(cos * pu_x + sin * pu_y) + abs(cos * pv_x + sin * pv_y), F(1e-3))
        dash = _coverage(abs(s), F(DASH_LENGTH / 2), along)
        # A footprint of several dashes sees their mean.
        merged = _unit((along - F(DASH_LENGTH)) * F(1.0 / (DASH_PERIOD - DASH_LENGTH)))
        share *= dash + merged * (F(DASH_LENGTH / DASH_PERIOD) - dash)
    return share


@nb.njit(cache=True, fastmath=True)
@no_type_check
def _draw_ground_and_sky(
    cells, start, rows, cols, resolution, eye, rotation, focal, look, noise, nearness, owner, shadow, rgb, kinds
):
    """Everything that no box covers. `eye` is the camera relative to the raster's origin [m]."""
    height, width = nearness.shape
    colours, classes = rgb.shape[0] > 0, kinds.shape[0] > 0
    per_cell = F(1.0 / resolution)
    cell = F(resolution)
    eye_x, eye_y = F(eye[0]), F(eye[1])
    tall = eye[2] > 0.0
    per_height = F(1.0 / eye[2]) if tall else F(0.0)
    eye_height = F(eye[2])
    step_x, step_y = F(rotation[0, 0] / focal), F(rotation[1, 0] / focal)
    step_s = F(-rotation[2, 0] / focal)
    du_x, du_y, du_z = F(rotation[0, 0] / focal), F(rotation[1, 0] / focal), F(rotation[2, 0] / focal)
    dv_x, dv_y, dv_z = F(rotation[0, 1] / focal), F(rotation[1, 1] / focal), F(rotation[2, 1] / focal)
    haze = look[VISIBILITY]
    shift_x, shift_y = look[OFFSET] * F(NOISE_SIZE), look[OFFSET + 1] * F(NOISE_SIZE)
    for row in range(height):
        # Ray directions, world frame, unit along the optical axis: affine in the column; s points down.
        x, y = 0.5 - width / 2, row + 0.5 - height / 2
        ray_x = F((rotation[0, 0] * x + rotation[0, 1] * y) / focal + rotation[0, 2])
        ray_y = F((rotation[1, 0] * x + rotation[1, 1] * y) / focal + rotation[1, 2])
        ray_s = F(-((rotation[2, 0] * x + rotation[2, 1] * y) / focal + rotation[2, 2]))
        norm2 = F(1.0 + (y / focal) * (y / focal))
        x_row, x_step = F(x / focal), F(1.0 / focal)
        for col in range(width):
            u = F(col)
            s = ray_s + u * step_s
            near = s * per_height
            if near > F(1.0 / FAR_GROUND):
                if nearness[row, col] >= near * F(1.0 - SINKS):
                    continue
                nearness[row, col] = near
                owner[row, col] = -1
                t = F(1.0) / near
                # Offset from the camera's foot, per metre of its height: drives the footprint.
                from_x, from_y = (ray_x + u * step_x) * t, (ray_y + u * step_y) * t
                gx, gy = (eye_x + from_x) * per_cell, (eye_y + from_y) * per_cell
                inside = (gx >= F(0.0)) & (gy >= F(0.0)) & (gx < F(cols)) & (gy < F(rows))
                cell_x, cell_y = np.int64(gx), np.int64(gy)
                word = cells[start + cell_y * cols + cell_x] if inside else cells[0]
                from_x *= per_height
                from_y *= per_height
                pu_x, pu_y = t * (du_x + du_z * from_x), t * (du_y + du_z * from_y)
                pv_x, pv_y = t * (dv_x + dv_z * from_x), t * (dv_y + dv_z * from_y)
                extent = abs(pu_x) + abs(pu_y) + abs(pv_x) + abs(pv_y)

                edge = (F(word >> 24) - F(128.0)) * F(EDGE_STEP)
                if inside and abs(edge) < cell + extent:
                    road = _road_share(
                        cells, start, rows, cols, gx, gy, per_cell, pu_x, pu_y, pv_x, pv_y
                    )
                else:
                    road = F(1.0) if edge > F(0.0) else F(0.0)
                paint = F(0.0)
                if abs(DISTANCE[word & 0xFF]) < cell + extent + F(WIDE_HALF_WIDTH):
                    off_x = (gx - F(cell_x) - F(0.5)) * cell
                    off_y = (gy - F(cell_y) - F(0.5)) * cell
                    paint = _paint_share(word, off_x, off_y, pu_x, pu_y, pv_x, pv_y)
                if classes:
                    ground = K_ROAD if road >= F(0.5) else K_TERRAIN
                    kinds[row, col] = K_MARKING if paint >= F(0.5) else ground
                if colours:
                    fine = _unit(F(1.5) - extent)
                    coarse = _unit(F(1.5) - F(0.125) * extent)
                    at_x, at_y = gx * cell, gy * cell
                    i = np.int64(at_y * F(FINE_NOISE) + shift_y + F(4096 * 256)) & (NOISE_SIZE - 1)
                    j = np.int64(at_x * F(FINE_NOISE) + shift_x + F(4096 * 256)) & (NOISE_SIZE - 1)
                    fine *= (F(noise[i, j]) - F(127.5)) * F(1.0 / 127.5)
                    i = np.int64(at_y * F(COARSE_NOISE) + shift_y + F(4096 * 256)) & (NOISE_SIZE - 1)
                    j = np.int64(at_x * F(COARSE_NOISE) + shift_x + F(4096 * 256)) & (NOISE_SIZE - 1)
                    coarse *= (F(noise[i, j]) - F(127.5)) * F(1.0 / 127.5)
                    texture = F(0.4) * fine + F(0.6) * coarse
                    grass = F(1.0) + look[TERRAIN_TEXTURE] * texture
                    tarmac = F(1.0) + look[ROAD_TEXTURE] * texture
                    opacity = paint * look[PAINT]
                    tint = YELLOW_PAINT if (word >> 16) & YELLOW else WHITE
                    lit = F(1.0) - shadow[row, col]
                    far = F(1.0) / (F(1.0) + (haze * near) * (haze * near))
                    for k in range(3):
                        bare = look[TERRAIN + k] * grass
                        bare += road * (look[ROAD + k] * tarmac - bare)
                        bare += opacity * (look[tint + k] - bare)
                        bare *= lit
                        rgb[row, col, k] = _byte(bare + far * (look[HORIZON + k] - bare))
            elif nearness[row, col] <= F(0.0):
                if classes:
                    kinds[row, col] = K_SKY
                if colours:
                    xn = x_row + u * x_step
                    up = max(-s, F(0.0)) / math.sqrt(norm2 + xn * xn)
                    haze_share = F(1.0) - up
                    haze_share *= haze_share
                    haze_share *= haze_share
                    for k in range(3):
                        sky = look[SKY + k]
                        rgb[row, col, k] = _byte(sky + haze_share * (look[HORIZON + k] - sky))


@nb.njit(cache=True, parallel=True)
@no_type_check
def draw_images(
    cells,
    cell_start,
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
    """Draw every image; arguments as prepared by `rendering.render`, pictures last, empty if not wanted."""
    for n in nb.prange(len(view_scene)):
        _draw_image(
            cells,
            cell_start[view_scene[n]],
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
            rgb[n] if len(rgb) else rgb[:0, 0],
            depth[n] if len(depth) else depth[:0, 0],
            kinds[n] if len(kinds) else kinds[:0, 0],
            instances[n] if len(instances) else instances[:0, 0],
        )


@nb.njit(cache=True)
@no_type_check
def _draw_image(
    cells,
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
    owner = np.full((height, width), np.int16(-1))
    shadow = np.zeros((height, width), np.float32)
    quad, outline = np.empty((4, 3)), np.empty((8, 2))
    center, axes, half, light = np.empty(3), np.empty((3, 3)), np.empty(3), np.empty(6, np.float32)
    slant = width / 2 / focal
    slant_norm = math.sqrt(1.0 + slant * slant)
    for slot in range(len(box_present)):
        if not box_present[slot] or slot == ego_slot:
            continue
        radius = 0.0
        finite = math.isfinite(box_heading[slot])
        for k in range(3):
            half[k] = 0.5 * box_size[slot, k]
            radius += half[k] * half[k]
            finite = finite and math.isfinite(box_center[slot, k]) and half[k] > 0.0 and math.isfinite(half[k])
        if not finite:
            continue
        radius = math.sqrt(radius) + 2.0 * SHADOW_REACH
        for k in range(3):
            center[k] = 0.0
            for i in range(3):
                center[k] += rotation[i, k] * (box_center[slot, i] - position[i])
        if center[2] < NEAR_PLANE - radius or abs(center[0]) > center[2] * slant + radius * slant_norm:
            continue
        cos, sin = math.cos(box_heading[slot]), math.sin(box_heading[slot])
        for k in range(3):
            axes[0, k] = rotation[0, k] * cos + rotation[1, k] * sin
            axes[1, k] = rotation[1, k] * cos - rotation[0, k] * sin
            axes[2, k] = rotation[2, k]
        sun_x, sun_y, sun_z = look[LIGHT], look[LIGHT + 1], look[LIGHT + 2]
        ambient = look[AMBIENT]
        for face in range(6):
            if face < 2:
                facing = sun_x * cos + sun_y * sin
            elif face < 4:
                facing = sun_y * cos - sun_x * sin
            else:
                facing = sun_z
            facing = facing if face % 2 == 0 else -facing
            light[face] = ambient + (1.0 - ambient) * max(facing, 0.0)
        bottom = box_center[slot, 2] - half[2]
        _draw_box(
            center,
            axes,
            light,
            half,
            box_kind[slot],
            slot,
            body_colours[box_colour[slot]],
            look,
            focal,
            abs(bottom) < 0.5 and box_kind[slot] != K_SIGNAL,
            position[2],
            quad,
            outline,
            nearness,
            owner,
            shadow,
            rgb,
        )
    eye = np.empty(3)
    eye[0], eye[1], eye[2] = position[0] - origin[0], position[1] - origin[1], position[2]
    _draw_ground_and_sky(
        cells, start, rows, cols, resolution, eye, rotation, focal, look, noise, nearness, owner, shadow, rgb, kinds
    )
    if len(depth):
        for row in range(height):
            for col in range(width):
                near = nearness[row, col]
                depth[row, col] = F(1.0) / near if near > F(0.0) else F(np.inf)
    if len(kinds) or len(instances):
        for row in range(height):
            for col in range(width):
                slot = owner[row, col]
                if len(kinds) and slot >= 0:
                    kinds[row, col] = box_kind[slot]
                if len(instances):
                    instances[row, col] = box_instance[slot] if slot >= 0 else -1
