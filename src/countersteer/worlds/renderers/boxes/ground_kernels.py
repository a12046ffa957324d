"""Numba kernels of the ground and the sky: rows stepped affinely, worked in pieces on the stack.

Along a row the numerator and denominator of the ground point are affine, so a pixel costs one division, one cell
of the raster and its colours. Most ground is far from the road's border and from paint, which its own cell tells: only
blocks of pixels with some that are not ask the four cells between which the border is interpolated, or work out paint.

A piece is worked in passes over buffers of constant length: only then does the compiler turn the loops into
vector code (measured: 4 to 8 times as fast as one scalar loop; one loop for all was slower than four, because what
one pixel needs is a long chain).
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.kernels import njit
from countersteer.worlds.renderers.boxes.constants import (
    COARSE_NOISE,
    FAR_GROUND,
    FINE_NOISE,
    HORIZON,
    K_MARKING,
    K_ROAD,
    K_SKY,
    K_TERRAIN,
    NOISE_SIZE,
    OFFSET,
    PAINT,
    ROAD,
    ROAD_TEXTURE,
    SINKS,
    SKY,
    TERRAIN,
    TERRAIN_TEXTURE,
    VISIBILITY,
    WHITE,
    YELLOW_PAINT,
)
from countersteer.worlds.renderers.boxes.machine import LANES, fetch, on_stack, widest_vectors
from countersteer.worlds.renderers.boxes.shading import as_byte, coverage, unit
from countersteer.worlds.simulation.ground import (
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

__all__ = ["CHUNK", "draw_ground_and_sky"]

F, Z = np.float32, np.int32

CHUNK = 128
"""Pixels of a row that are drawn together."""
_numbers, _indices = on_stack(CHUNK, np.float32), on_stack(CHUNK, np.int32)
_flags = on_stack(CHUNK // LANES, np.int32)
_four_words, _colours = on_stack(4 * CHUNK, np.int32), on_stack(3 * CHUNK, np.uint8)
TILE_BITS = TILE.bit_length() - 1
WHOLE_PERIODS = 1024.0
"""Periods of the texture that are added before it is looked up, so that indices are positive [texel]."""
MIN_FOOTPRINT = 1e-3


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
    cos, sin = _cos_sin(Z((word >> 16) & (HEADING_STEPS - 1)))
    phase = F(Z((word >> 8) & SOLID))
    half = F(WIDE_HALF_WIDTH) if phase == F(WIDE) else F(LINE_HALF_WIDTH)
    code = F(Z(word & 0xFF)) - F(128.0)
    distance = abs(code * abs(code) * F(PAINT_RANGE / 127**2) - sin * off_x + cos * off_y)
    across = max(abs(cos * pu_y - sin * pu_x) + abs(cos * pv_y - sin * pv_x), F(MIN_FOOTPRINT))
    # A saturated code says only that no marking is near, however large the footprint.
    share = coverage(distance, half, F(1.0) / across) if abs(code) < F(127.0) else F(0.0)
    s = (phase + F(0.5)) * F(DASH_PERIOD / PHASE_STEPS) - F(DASH_PERIOD / 2) + cos * off_x + sin * off_y
    along = max(abs(cos * pu_x + sin * pu_y) + abs(cos * pv_x + sin * pv_y), F(MIN_FOOTPRINT))
    dash = coverage(abs(s), F(DASH_LENGTH / 2), F(1.0) / along)
    # A footprint of several dashes sees their mean.
    merged = unit((along - F(DASH_LENGTH)) * F(1.0 / (DASH_PERIOD - DASH_LENGTH)))
    dash += merged * (F(DASH_LENGTH / DASH_PERIOD) - dash)
    return share if phase >= F(WIDE) else share * dash


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _crowded_paint(blocks, crowd, cell, own, words, at_x, at_y, pu_x, pu_y, pv_x, pv_y, white, yellow):
    """Where markings crowd, take the most that any of the four surrounding cells knows of."""
    for block in range(blocks):
        if crowd[np.uintp(block)] & (CROWDED << 8) == 0:
            continue
        for k in range(4):
            right, up = F(k & 1), F(k >> 1)
            for lane in range(LANES):
                i = np.uintp(LANES * block + lane)
                word = words[np.uintp(k * CHUNK) + i]
                off_x, off_y = (at_x[i] - right) * cell, (at_y[i] - up) * cell
                share = _paint_share(word, off_x, off_y, pu_x[i], pu_y[i], pv_x[i], pv_y[i])
                share = share if own[i] & (CROWDED << 8) else F(0.0)
                on_yellow = (word & (YELLOW << 16)) != 0
                yellow[i] = max(yellow[i], share if on_yellow else F(0.0))
                white[i] = max(white[i], F(0.0) if on_yellow else share)


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _texel(x, y, density, shift_x, shift_y):
    """Where a point lies in the texture, `shift` being where the camera does."""
    # Truncation is a floor for what is above -WHOLE_PERIODS, and beyond that the texture has faded.
    j = Z(x * F(density) + shift_x) & Z(NOISE_SIZE - 1)
    k = Z(y * F(density) + shift_y) & Z(NOISE_SIZE - 1)
    return Z(k * Z(NOISE_SIZE) + j)


@njit(error_model="numpy")
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


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def _draw_sky(up, up_step, x, x_step, norm2, row, first, end, look, rgb):
    """Colours of a span of sky: horizon to zenith by the fourth power of one minus the sine of elevation."""
    s0, s1, s2 = look[SKY], look[SKY + 1], look[SKY + 2]
    h0, h1, h2 = look[HORIZON] - s0, look[HORIZON + 1] - s1, look[HORIZON + 2] - s2
    out = _colours()
    for left in range(first, end, CHUNK):
        count = min(CHUNK, end - left)
        for block in range((count + (LANES - 1)) // LANES):
            for lane in range(LANES):
                u = F(Z(left + LANES * block + lane))
                across = x + u * x_step
                share = F(1.0) - max(up + u * up_step, F(0.0)) / np.sqrt(norm2 + across * across)
                share *= share
                share *= share
                k = np.uintp(3 * (LANES * block + lane))
                out[k] = as_byte(s0 + share * h0)
                out[k + np.uintp(1)] = as_byte(s1 + share * h1)
                out[k + np.uintp(2)] = as_byte(s2 + share * h2)
        for i in range(3 * count):
            rgb[row, np.uintp(3 * left) + np.uintp(i)] = out[i]


@njit(error_model="numpy", fastmath=True)
@no_type_check
def draw_ground_and_sky(
    cells, tile, start, rows, cols, resolution, eye, rotation, focal, look, noise, width, height,
    nearness, shadow, rgb, depth, kinds,
):  # fmt: skip
    """The picture without boxes. `eye` is the camera relative to the raster's origin [m]."""
    widest_vectors()
    colours, depths, classes = len(rgb) > 0, len(depth) > 0, len(kinds) > 0
    tall = eye[2] > 0.0
    eye_height = eye[2] if tall else 1.0
    per_focal, cell, per_cell = F(1.0 / focal), F(resolution), F(1.0 / resolution)
    per_height = F(1.0 / eye_height)
    eye_x, eye_y = F(eye[0] / resolution), F(eye[1] / resolution)
    # How a ray moves for a pixel to the right and down: x and y in the world, and downwards in camera heights.
    du_x, du_y, du_q = (
        F(rotation[0, 0] / focal),
        F(rotation[1, 0] / focal),
        F(-rotation[2, 0] / focal / eye_height),
    )
    dv_x, dv_y, dv_q = (
        F(rotation[0, 1] / focal),
        F(rotation[1, 1] / focal),
        F(-rotation[2, 1] / focal / eye_height),
    )
    # Where the camera stands in the two textures, reduced to one period so that single precision does.
    shift_x, shift_y = look[OFFSET] * NOISE_SIZE, look[OFFSET + 1] * NOISE_SIZE
    coarse_x = F((eye[0] * COARSE_NOISE + shift_x) % NOISE_SIZE + WHOLE_PERIODS)
    coarse_y = F((eye[1] * COARSE_NOISE + shift_y) % NOISE_SIZE + WHOLE_PERIODS)
    fine_x = F((eye[0] * FINE_NOISE + shift_x) % NOISE_SIZE + WHOLE_PERIODS)
    fine_y = F((eye[1] * FINE_NOISE + shift_y) % NOISE_SIZE + WHOLE_PERIODS)
    # A footprint is at most this times the distance, plus this times its square.
    slant = math.sqrt(1.0 + (width * width + height * height) / (4.0 * focal * focal))
    wide = F(2.0 / focal)
    long = F((abs(rotation[2, 0]) + abs(rotation[2, 1])) * slant / (focal * eye_height))
    # How far the road's border may be from a cell's centre and touch a point of the cell, in steps of its code.
    edge_margin = F(0.75 * resolution / EDGE_STEP + 2.0)
    # The same of the nearest marking [m].
    paint_margin = F(0.75 * resolution + WIDE_HALF_WIDTH + 0.01)
    start, tile_cols = Z(start), Z((cols - 1) // TILE + 1)
    cols_32, rows_32 = np.uint32(cols), np.uint32(rows)
    last_x, last_y = F(cols - 2), F(rows - 2)
    terrain_0, terrain_1, terrain_2 = look[TERRAIN], look[TERRAIN + 1], look[TERRAIN + 2]
    road_0, road_1, road_2 = look[ROAD], look[ROAD + 1], look[ROAD + 2]
    white_0, white_1, white_2 = look[WHITE], look[WHITE + 1], look[WHITE + 2]
    yellow_0, yellow_1, yellow_2 = look[YELLOW_PAINT], look[YELLOW_PAINT + 1], look[YELLOW_PAINT + 2]
    haze_0, haze_1, haze_2 = look[HORIZON], look[HORIZON + 1], look[HORIZON + 2]
    visibility, rough_terrain, rough_road = look[VISIBILITY], look[TERRAIN_TEXTURE], look[ROAD_TEXTURE]
    opacity = look[PAINT]

    near, away, from_x, from_y, off_x, off_y = (
        _numbers(), _numbers(), _numbers(), _numbers(), _numbers(), _numbers(),
    )  # fmt: skip
    fine, coarse, texture = _numbers(), _numbers(), _numbers()
    faded_fine, faded_coarse = _numbers(), _numbers()
    pu_x, pu_y, pv_x, pv_y = _numbers(), _numbers(), _numbers(), _numbers()
    roads, white, yellow, at_x, at_y, bright = (
        _numbers(), _numbers(), _numbers(), _numbers(), _numbers(), _numbers(),
    )  # fmt: skip
    place, corner, of_fine, of_coarse, own = _indices(), _indices(), _indices(), _indices(), _indices()
    mixed, words, out = _flags(), _four_words(), _colours()
    for row in range(height):
        x, y = 0.5 - width / 2, row + 0.5 - height / 2
        row_x = (rotation[0, 0] * x + rotation[0, 1] * y) / focal + rotation[0, 2]
        row_y = (rotation[1, 0] * x + rotation[1, 1] * y) / focal + rotation[1, 2]
        row_s = -((rotation[2, 0] * x + rotation[2, 1] * y) / focal + rotation[2, 2])
        first, last = _ground_span(row_s, -rotation[2, 0] / focal, eye_height / FAR_GROUND, width)
        if not tall:
            first, last = 0, 0
        for side in range(2):
            left, end = (0, first) if side == 0 else (last, width)
            if classes:
                kinds[row, left:end] = K_SKY
            if depths:
                depth[row, left:end] = np.inf
            if colours and end > left:
                norm2 = F(1.0 + (y / focal) * (y / focal))
                _draw_sky(
                    F(-row_s),
                    F(rotation[2, 0] / focal),
                    F(x / focal),
                    per_focal,
                    norm2,
                    row,
                    left,
                    end,
                    look,
                    rgb,
                )
        ray_x, ray_y, ray_q = F(row_x), F(row_y), F(row_s / eye_height)
        for left in range(first, last, CHUNK):
            count = min(CHUNK, last - left)
            blocks = (count + (LANES - 1)) // LANES
            # Where the rays meet the ground, and where to look that up.
            for block in range(blocks):
                for lane in range(LANES):
                    i = np.uintp(LANES * block + lane)
                    u = F(Z(left + LANES * block + lane))
                    # Past the end of the row the ray may rise: the floor keeps those entries, which nobody reads, finite.
                    q = max(ray_q + u * du_q, F(1.0 / FAR_GROUND))
                    t = F(1.0) / q
                    x, y = (ray_x + u * du_x) * t, (ray_y + u * du_y) * t
                    near[i], away[i], from_x[i], from_y[i] = q, t, x, y
                    # The cell that the point is in; truncation is a floor from -1 on.
                    x, y = x * per_cell + eye_x, y * per_cell + eye_y
                    j, k = Z(Z(x + F(1.0)) - Z(1)), Z(Z(y + F(1.0)) - Z(1))
                    off_x[i], off_y[i] = (x - F(0.5) - F(j)) * cell, (y - F(0.5) - F(k)) * cell
                    inside = (np.uint32(j) < cols_32) & (np.uint32(k) < rows_32)
                    where = Z(start + Z(Z(k >> TILE_BITS) * tile_cols) + Z(j >> TILE_BITS))
                    place[i] = where if inside else Z(0)
                    corner[i] = Z(Z(k & Z(TILE - 1)) * Z(TILE_SIDE)) + Z(j & Z(TILE - 1))
            for i in range(count):
                # Boxes that stand on the ground keep their feet.
                nearness[row, np.uintp(left) + np.uintp(i)] = near[i] * F(1.0 - SINKS)
            if depths:
                for i in range(count):
                    depth[row, np.uintp(left) + np.uintp(i)] = away[i]
            if not (colours or classes):
                continue

            # The texture in two octaves, each fading before its features get smaller than a pixel.
            if colours:
                # The point nearest to the camera is at one end of the piece.
                t = min(away[0], away[np.uintp(count - 1)])
                smallest = t * per_focal * (F(1.0) + t * per_height)
                for block in range(blocks):
                    for lane in range(LANES):
                        i = np.uintp(LANES * block + lane)
                        of_fine[i] = _texel(from_x[i], from_y[i], FINE_NOISE, fine_x, fine_y)
                        of_coarse[i] = _texel(from_x[i], from_y[i], COARSE_NOISE, coarse_x, coarse_y)
                        t = away[i]
                        extent = t * per_focal * (F(1.0) + t * per_height)
                        faded_fine[i] = F(0.4) * unit(F(1.5) - extent)
                        faded_coarse[i] = F(0.6) * unit(F(1.5) - F(0.125) * extent)
                if smallest < F(1.51):
                    for block in range(blocks):
                        for lane in range(LANES):
                            i = np.uintp(LANES * block + lane)
                            fine[i] = fetch(noise, of_fine[i])
                else:
                    for i in range(CHUNK):
                        fine[i] = F(0.0)
                if smallest < F(8.0 * 1.51):
                    for block in range(blocks):
                        for lane in range(LANES):
                            i = np.uintp(LANES * block + lane)
                            coarse[i] = fetch(noise, of_coarse[i])
                else:
                    for i in range(CHUNK):
                        coarse[i] = F(0.0)

            # The look-ups, and whether the road's border or a marking may reach into a pixel of the block, or markings
            # crowd there. A footprint is largest at one end of the piece. A saturated code says only that nothing is
            # near, however large the footprint.
            t = max(away[0], away[np.uintp(count - 1)])
            half_footprint = F(0.5) * t * (wide + t * long)
            reach = half_footprint * F(1.0 / EDGE_STEP) + edge_margin
            edge_reach = Z(math.ceil(min(reach, F(127.0))))
            # The code of paint grows with the root of its distance.
            reach = np.sqrt((half_footprint + paint_margin) * F(127**2 / PAINT_RANGE))
            paint_reach = Z(math.ceil(min(reach, F(127.0))))
            crowd = Z(0)
            for block in range(blocks):
                for lane in range(LANES):
                    i = np.uintp(LANES * block + lane)
                    own[i] = fetch(cells, Z(Z(fetch(tile, place[i]) * Z(TILE_SIDE * TILE_SIDE)) + corner[i]))
            for block in range(blocks):
                seen = Z(0)
                for lane in range(LANES):
                    i = np.uintp(LANES * block + lane)
                    word = own[i]
                    texture[i] = faded_fine[i] * fine[i] + faded_coarse[i] * coarse[i]
                    edge, code = Z(Z((word >> 24) & 0xFF) - Z(128)), Z(Z(word & 0xFF) - Z(128))
                    roads[i] = F(1.0) if edge > Z(0) else F(0.0)
                    touched, painted = Z(abs(edge) < edge_reach), Z(abs(code) < paint_reach)
                    seen = Z(seen | (word & (CROWDED << 8)) | touched | Z(painted << Z(1)))
                mixed[np.uintp(block)] = seen
                crowd = Z(crowd | seen)

            # The marking of the cell that the point is in.
            for block in range(blocks):
                if mixed[np.uintp(block)] == 0:
                    for lane in range(LANES):
                        i = np.uintp(LANES * block + lane)
                        white[i], yellow[i] = F(0.0), F(0.0)
                    continue
                for lane in range(LANES):
                    i = np.uintp(LANES * block + lane)
                    t, word = away[i], own[i]
                    # How the ground point moves for one pixel to the right (pu) and down (pv) [m].
                    ux, uy = t * (du_x - du_q * from_x[i]), t * (du_y - du_q * from_y[i])
                    vx, vy = t * (dv_x - dv_q * from_x[i]), t * (dv_y - dv_q * from_y[i])
                    pu_x[i], pu_y[i], pv_x[i], pv_y[i] = ux, uy, vx, vy
                    paint = _paint_share(word, off_x[i], off_y[i], ux, uy, vx, vy)
                    on_yellow = (word & (YELLOW << 16)) != 0
                    yellow[i] = paint if on_yellow else F(0.0)
                    white[i] = F(0.0) if on_yellow else paint
            # The road's border, from the four cells whose centres surround the point: bilinear distance in steps of
            # its code, and the footprint along its gradient.
            for block in range(blocks):
                if mixed[np.uintp(block)] & (CROWDED << 8 | 1) == 0:
                    continue
                for lane in range(LANES):
                    i = np.uintp(LANES * block + lane)
                    x, y = from_x[i] * per_cell + (eye_x - F(0.5)), from_y[i] * per_cell + (eye_y - F(0.5))
                    j, k = Z(max(F(0.0), min(x, last_x))), Z(max(F(0.0), min(y, last_y)))
                    at_x[i], at_y[i] = x - F(j), y - F(k)
                    place[i] = Z(start + Z(Z(k >> TILE_BITS) * tile_cols) + Z(j >> TILE_BITS))
                    corner[i] = Z(Z(k & Z(TILE - 1)) * Z(TILE_SIDE)) + Z(j & Z(TILE - 1))
            for block in range(blocks):
                if mixed[np.uintp(block)] & (CROWDED << 8 | 1) == 0:
                    continue
                for lane in range(LANES):
                    i = np.uintp(LANES * block + lane)
                    at = Z(Z(fetch(tile, place[i]) * Z(TILE_SIDE * TILE_SIDE)) + corner[i])
                    words[i] = fetch(cells, at)
                    words[np.uintp(CHUNK) + i] = fetch(cells, Z(at + Z(1)))
                    words[np.uintp(2 * CHUNK) + i] = fetch(cells, Z(at + Z(TILE_SIDE)))
                    words[np.uintp(3 * CHUNK) + i] = fetch(cells, Z(at + Z(TILE_SIDE + 1)))
            for block in range(blocks):
                if mixed[np.uintp(block)] & 1 == 0:
                    continue
                for lane in range(LANES):
                    i = np.uintp(LANES * block + lane)
                    w00, w01 = words[i], words[np.uintp(CHUNK) + i]
                    w10, w11 = words[np.uintp(2 * CHUNK) + i], words[np.uintp(3 * CHUNK) + i]
                    e00, e01 = F(Z((w00 >> 24) & 0xFF)), F(Z((w01 >> 24) & 0xFF))
                    e10, e11 = F(Z((w10 >> 24) & 0xFF)), F(Z((w11 >> 24) & 0xFF))
                    x, y = unit(at_x[i]), unit(at_y[i])
                    low, high = e00 + x * (e01 - e00), e10 + x * (e11 - e10)
                    slope_x = (e01 - e00 + y * ((e11 - e10) - (e01 - e00))) * per_cell
                    slope_y = (high - low) * per_cell
                    footprint = abs(slope_x * pu_x[i] + slope_y * pu_y[i]) + abs(
                        slope_x * pv_x[i] + slope_y * pv_y[i]
                    )
                    edge = low + y * (high - low) - F(128.0)
                    share = unit(F(0.5) + edge / max(footprint, F(MIN_FOOTPRINT / EDGE_STEP)))
                    edge = F(Z((own[i] >> 24) & 0xFF)) - F(128.0)
                    roads[i] = share if abs(edge) < F(127.0) else roads[i]
            if crowd & (CROWDED << 8):
                _crowded_paint(
                    blocks, mixed, cell, own, words, at_x, at_y, pu_x, pu_y, pv_x, pv_y, white, yellow
                )  # fmt: skip

            if classes:
                for i in range(count):
                    ground = K_ROAD if roads[i] >= F(0.5) else K_TERRAIN
                    kinds[row, np.uintp(left) + np.uintp(i)] = (
                        K_MARKING if max(white[i], yellow[i]) >= F(0.5) else ground
                    )
            if not colours:
                continue

            for i in range(count):
                bright[i] = F(1.0) - shadow[row, np.uintp(left) + np.uintp(i)]
            # The colour is a mean of terrain, road, white, yellow and haze; these are their weights.
            for block in range(blocks):
                if mixed[np.uintp(block)] == 0:
                    for lane in range(LANES):
                        i = np.uintp(LANES * block + lane)
                        q = visibility * near[i]
                        far = F(1.0) / (F(1.0) + q * q)
                        lit = bright[i] * (F(1.0) - far)
                        on_road = roads[i] * lit * (F(1.0) + rough_road * texture[i])
                        on_terrain = (F(1.0) - roads[i]) * lit * (F(1.0) + rough_terrain * texture[i])
                        k = np.uintp(3) * i
                        out[k] = as_byte(on_terrain * terrain_0 + on_road * road_0 + far * haze_0)
                        out[k + np.uintp(1)] = as_byte(
                            on_terrain * terrain_1 + on_road * road_1 + far * haze_1
                        )
                        out[k + np.uintp(2)] = as_byte(
                            on_terrain * terrain_2 + on_road * road_2 + far * haze_2
                        )
                    continue
                for lane in range(LANES):
                    i = np.uintp(LANES * block + lane)
                    q = visibility * near[i]
                    far = F(1.0) / (F(1.0) + q * q)
                    lit = bright[i] * (F(1.0) - far)
                    on_yellow = opacity * yellow[i] * lit
                    lit -= on_yellow
                    on_white = opacity * white[i] * lit
                    lit -= on_white
                    on_road = roads[i] * lit * (F(1.0) + rough_road * texture[i])
                    on_terrain = (F(1.0) - roads[i]) * lit * (F(1.0) + rough_terrain * texture[i])
                    red = on_terrain * terrain_0 + on_road * road_0 + on_white * white_0
                    green = on_terrain * terrain_1 + on_road * road_1 + on_white * white_1
                    blue = on_terrain * terrain_2 + on_road * road_2 + on_white * white_2
                    k = np.uintp(3) * i
                    out[k] = as_byte(red + on_yellow * yellow_0 + far * haze_0)
                    out[k + np.uintp(1)] = as_byte(green + on_yellow * yellow_1 + far * haze_1)
                    out[k + np.uintp(2)] = as_byte(blue + on_yellow * yellow_2 + far * haze_2)
            for i in range(3 * count):
                rgb[row, np.uintp(3 * left) + np.uintp(i)] = out[i]
