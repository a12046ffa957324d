"""Triton kernels of the renderer: the pictures of `reference`, drawn where the tensors are.

One program a view puts its boxes into the camera's frame and lists those that may be seen, in double
precision; what it leaves in single precision is relative to the camera. Then one program a block of pixels
walks that list and skips boxes whose rectangle on the screen misses the block.

A box is the common part of three slabs. Where a ray meets the planes of a slab its inverse depth
("nearness") is affine on the screen, so a pixel tests a box without a division: it enters at the farthest of
the faces turned to it, and hits if it has left no slab by then. Only the nearest face is coloured.

Nothing is read back from the device and no shape depends on data. Indices are therefore not checked but
masked, see `draw_images`.
"""

from __future__ import annotations

import functools
import math
from typing import Any, no_type_check

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from countersteer.worlds.interface import Images, Outputs
from countersteer.worlds.renderers.boxes import Appearance, Boxes, Views, constants
from countersteer.worlds.renderers.boxes.appearance import looks_of
from countersteer.worlds.renderers.boxes.decals import COLUMNS, decal_table
from countersteer.worlds.renderers.boxes.decals import DECALS as MOST_DECALS
from countersteer.worlds.simulation import ground
from countersteer.worlds.simulation.ground import GroundBank

__all__ = ["draw_images"]

BLOCK = (8, 32)
"""Rows and columns of pixels that a program draws: wide, as pictures lie in memory row by row."""
BOXES = 32
"""Boxes that are placed together."""

# Triton compiles only those globals in that are marked so.
NEAR_PLANE = tl.constexpr(constants.NEAR_PLANE)
NEAREST = tl.constexpr(1.0 / constants.NEAR_PLANE)
FAR_GROUND = tl.constexpr(constants.FAR_GROUND)
SINKS = tl.constexpr(constants.SINKS)
SHADOW_REACH = tl.constexpr(constants.SHADOW_REACH)
SHADOW_DEPTH = tl.constexpr(constants.SHADOW_DEPTH)
NOISE_SIZE = tl.constexpr(constants.NOISE_SIZE)
FINE_NOISE, COARSE_NOISE = tl.constexpr(constants.FINE_NOISE), tl.constexpr(constants.COARSE_NOISE)
MIN_FOOTPRINT = tl.constexpr(1e-3)
INFINITE = tl.constexpr(math.inf)
HUGE = tl.constexpr(1e30)

COUNTS = ("scenes", "worlds", "slots", "shades", "height", "blocks", "blocks_across")
"""Arguments whose values (1, or a multiple of 16) are not worth a compilation of their own."""

LOOKS = tl.constexpr(constants.PAINT + 1)
SKY, HORIZON = tl.constexpr(constants.SKY), tl.constexpr(constants.HORIZON)
TERRAIN, ROAD = tl.constexpr(constants.TERRAIN), tl.constexpr(constants.ROAD)
WHITE, YELLOW_PAINT = tl.constexpr(constants.WHITE), tl.constexpr(constants.YELLOW_PAINT)
LIGHT, AMBIENT = tl.constexpr(constants.LIGHT), tl.constexpr(constants.AMBIENT)
TERRAIN_TEXTURE, ROAD_TEXTURE = tl.constexpr(constants.TERRAIN_TEXTURE), tl.constexpr(constants.ROAD_TEXTURE)
OFFSET, VISIBILITY = tl.constexpr(constants.OFFSET), tl.constexpr(constants.VISIBILITY)
PAINT = tl.constexpr(constants.PAINT)
DECALS, DECAL_COLUMNS = tl.constexpr(MOST_DECALS), tl.constexpr(COLUMNS)
K_TERRAIN, K_ROAD = tl.constexpr(constants.K_TERRAIN), tl.constexpr(constants.K_ROAD)
K_MARKING, K_VEHICLE = tl.constexpr(constants.K_MARKING), tl.constexpr(constants.K_VEHICLE)
K_SIGNAL = tl.constexpr(constants.K_SIGNAL)

TILE, TILE_SIDE = tl.constexpr(ground.TILE), tl.constexpr(ground.TILE_SIDE)
CROWDED, YELLOW = tl.constexpr(ground.CROWDED), tl.constexpr(ground.YELLOW)
WIDE, SOLID = tl.constexpr(ground.WIDE), tl.constexpr(ground.SOLID)
WIDE_HALF_WIDTH = tl.constexpr(ground.WIDE_HALF_WIDTH)
LINE_HALF_WIDTH = tl.constexpr(ground.LINE_HALF_WIDTH)
DASH_LENGTH, DASH_PERIOD = tl.constexpr(ground.DASH_LENGTH), tl.constexpr(ground.DASH_PERIOD)
PHASE_STEP = tl.constexpr(ground.DASH_PERIOD / ground.PHASE_STEPS)
EDGE_STEP, PAINT_RANGE = tl.constexpr(ground.EDGE_STEP), tl.constexpr(ground.PAINT_RANGE)
HEADING_MASK = tl.constexpr(ground.HEADING_STEPS - 1)
HEADING_STEP, QUARTER = tl.constexpr(math.pi / ground.HEADING_STEPS), tl.constexpr(math.pi / 2)

# Columns of a placed view. A direction is affine on the screen: its coefficients for a pixel to the right, a
# pixel down, and its value in the middle of the picture.
RAY_X, RAY_Y, RAY_S = tl.constexpr(0), tl.constexpr(3), tl.constexpr(6)  # world x, y and downwards
GOOD, PER_HEIGHT = tl.constexpr(9), tl.constexpr(10)  # PER_HEIGHT is 0 for cameras below the ground
EYE = tl.constexpr(11)  # camera from the raster's corner [m]
COARSE, FINE = tl.constexpr(13), tl.constexpr(15)  # where the camera stands in the two textures [texel]
PER_FOCAL = tl.constexpr(17)
VIEW_COLUMNS = tl.constexpr(18)
# Columns of a placed box.
RECTANGLE, SHADOW = (
    tl.constexpr(0),
    tl.constexpr(4),
)  # left, right, top, bottom from the picture's middle [px]
RAY = tl.constexpr(8)  # of each of the box's axes
EYE_AT = tl.constexpr(17)  # camera in the box's frame [m]
ENTRY, EXIT = tl.constexpr(20), tl.constexpr(23)  # nearness for each unit of RAY; ENTRY is 0 if there is none
HALF, LIT = tl.constexpr(29), tl.constexpr(32)  # half sizes [m]; light on the face turned to the camera
BOX_COLUMNS = tl.constexpr(35)


@functools.cache
def _noise(device: torch.device) -> Tensor:
    return torch.from_numpy(constants.noise_table()).to(device)


@functools.cache
def _decals(device: torch.device) -> Tensor:
    return torch.from_numpy(decal_table()).to(device)


@triton.jit
@no_type_check
def _finite(x):
    return tl.abs(x) < INFINITE


@triton.jit
@no_type_check
def _unit(x):
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
@no_type_check
def _affine(row, x, y):
    return tl.load(row) * x + (tl.load(row + 1) * y + tl.load(row + 2))


@triton.jit
@no_type_check
def _coverage(distance, half, density):
    """Share of a footprint, `distance` from the middle of a band of half width `half`, that it covers.

    `density` is one over the footprint.
    """
    share = -(distance - half) * density + 0.5
    return tl.maximum(tl.minimum(share, tl.minimum(density * (2.0 * half), 1.0)), 0.0)


@triton.jit
@no_type_check
def _rectangle(
    cx, cy, cz, fx, fy, fz, lx, ly, lz, ux, uy, uz, half_a, half_b, low, high, focal, wide, tall,
):  # fmt: skip
    """Rectangle on the screen around a box (camera frame) from `low` to `high` along its up axis.

    Empty (left > right) if it lies beside or behind the picture. `wide` and `tall` are half the picture [px].
    """
    left, right = cx * 0.0 + INFINITE, cx * 0.0 - INFINITE
    top, bottom = left, right
    nearest, farthest = left, right
    # How far the box reaches over each of the four planes through the optical centre and the picture's sides.
    in_left, in_right, in_top, in_bottom = right, right, right, right
    for k in tl.static_range(8):
        a = half_a * (2 * (k & 1) - 1)
        b = half_b * ((k & 2) - 1)
        c = high if k & 4 else low
        x, y = cx + a * fx + b * lx + c * ux, cy + a * fy + b * ly + c * uy
        z = cz + a * fz + b * lz + c * uz
        nearest, farthest = tl.minimum(nearest, z), tl.maximum(farthest, z)
        in_left, in_right = (
            tl.maximum(in_left, wide * z + focal * x),
            tl.maximum(in_right, wide * z - focal * x),
        )
        in_top, in_bottom = (
            tl.maximum(in_top, tall * z + focal * y),
            tl.maximum(in_bottom, tall * z - focal * y),
        )
        u, v = focal * x / tl.maximum(z, NEAR_PLANE), focal * y / tl.maximum(z, NEAR_PLANE)
        left, right = tl.minimum(left, u), tl.maximum(right, u)
        top, bottom = tl.minimum(top, v), tl.maximum(bottom, v)
    # What reaches through the near plane may be anywhere in the picture.
    through = nearest < NEAR_PLANE
    left, right = tl.where(through, -wide, left), tl.where(through, wide, right)
    top, bottom = tl.where(through, -tall, top), tl.where(through, tall, bottom)
    seen = (in_left >= 0.0) & (in_right >= 0.0) & (in_top >= 0.0) & (in_bottom >= 0.0)
    seen = seen & (farthest >= NEAR_PLANE)
    # A hundredth of a pixel for rounding.
    left, right = tl.where(seen, left - 0.01, INFINITE), tl.where(seen, right + 0.01, -INFINITE)
    return left, right, top - 0.01, bottom + 0.01


@triton.jit
@no_type_check
def _put_slab(row, axis: tl.constexpr, ray_x, ray_y, ray_0, eye, half, toward_light, ambient, mask):
    """Write what a pixel needs of the slab across one axis of a box."""
    tl.store(row + RAY + 3 * axis, ray_x, mask=mask)
    tl.store(row + RAY + 3 * axis + 1, ray_y, mask=mask)
    tl.store(row + RAY + 3 * axis + 2, ray_0, mask=mask)
    tl.store(row + EYE_AT + axis, eye, mask=mask)
    # A camera in the plane of a face (or a billionth of a metre before it) does not see it.
    outside = tl.abs(eye) > half + 1e-9
    sign = tl.where(eye < 0.0, -1.0, 1.0)
    gap_near, gap_far = sign * half - eye, -sign * half - eye
    gap_near = tl.where(outside, gap_near, sign * tl.maximum(sign * gap_near, 1e-9))
    near, far = 1.0 / gap_near, 1.0 / gap_far
    tl.store(row + ENTRY + axis, tl.where(outside, near, 0.0), mask=mask)
    tl.store(row + EXIT + 2 * axis, tl.where(outside, far, near), mask=mask)
    tl.store(row + EXIT + 2 * axis + 1, far, mask=mask)
    tl.store(row + HALF + axis, half, mask=mask)
    facing = tl.maximum(sign * toward_light, 0.0)
    tl.store(row + LIT + axis, ambient + (1.0 - ambient) * facing, mask=mask)


@triton.jit(do_not_specialize=[name for name in COUNTS if "blocks" not in name])
@no_type_check
def _place(
    origin, view_scene, view_world, position, rotation, focals, ego_slot,
    box_center, box_heading, box_size, box_kind, box_colour, box_present, looks,
    placed_view, placed_box, slot_of, placed,
    scenes, worlds, slots, shades, width, height, BOXES: tl.constexpr,
):  # fmt: skip
    """Put a view, and those of its boxes that may be seen, into the camera's frame."""
    n = tl.program_id(0).to(tl.int64)
    scene, world = tl.load(view_scene + n).to(tl.int64), tl.load(view_world + n).to(tl.int64)
    focal = tl.load(focals + n).to(tl.float64)
    eye_x = tl.load(position + 3 * n).to(tl.float64)
    eye_y = tl.load(position + 3 * n + 1).to(tl.float64)
    eye_z = tl.load(position + 3 * n + 2).to(tl.float64)
    r00 = tl.load(rotation + 9 * n).to(tl.float64)
    r01 = tl.load(rotation + 9 * n + 1).to(tl.float64)
    r02 = tl.load(rotation + 9 * n + 2).to(tl.float64)
    r10 = tl.load(rotation + 9 * n + 3).to(tl.float64)
    r11 = tl.load(rotation + 9 * n + 4).to(tl.float64)
    r12 = tl.load(rotation + 9 * n + 5).to(tl.float64)
    r20 = tl.load(rotation + 9 * n + 6).to(tl.float64)
    r21 = tl.load(rotation + 9 * n + 7).to(tl.float64)
    r22 = tl.load(rotation + 9 * n + 8).to(tl.float64)
    good = _finite(eye_x) & _finite(eye_y) & _finite(eye_z) & _finite(focal) & (focal > 0.0)
    good = good & _finite(r00) & _finite(r01) & _finite(r02)
    good = good & _finite(r10) & _finite(r11) & _finite(r12)
    good = good & _finite(r20) & _finite(r21) & _finite(r22)
    good = good & (scene >= 0) & (scene < scenes) & (world >= 0) & (world < worlds)
    scene, world = tl.where(good, scene, 0), tl.where(good, world, 0)
    # A view that is no good gets the sky of one without boxes; its pixels are overwritten.
    focal = tl.where(good, focal, 1.0)
    look = looks + world * LOOKS
    per_focal = 1.0 / focal

    view = placed_view + n * VIEW_COLUMNS
    tl.store(view + GOOD, tl.where(good, 1.0, 0.0))
    tl.store(view + PER_FOCAL, per_focal)
    tl.store(view + RAY_X, tl.where(good, r00 * per_focal, 0.0))
    tl.store(view + RAY_X + 1, tl.where(good, r01 * per_focal, 0.0))
    tl.store(view + RAY_X + 2, tl.where(good, r02, 0.0))
    tl.store(view + RAY_Y, tl.where(good, r10 * per_focal, 0.0))
    tl.store(view + RAY_Y + 1, tl.where(good, r11 * per_focal, 0.0))
    tl.store(view + RAY_Y + 2, tl.where(good, r12, 0.0))
    tl.store(view + RAY_S, tl.where(good, -r20 * per_focal, 0.0))
    tl.store(view + RAY_S + 1, tl.where(good, -r21 * per_focal, 0.0))
    tl.store(view + RAY_S + 2, tl.where(good, -r22, 1.0))
    above = good & (eye_z > 0.0)
    tl.store(view + PER_HEIGHT, tl.where(above, 1.0 / tl.where(above, eye_z, 1.0), 0.0))
    from_x = tl.where(good, eye_x - tl.load(origin + 2 * scene), 0.0)
    from_y = tl.where(good, eye_y - tl.load(origin + 2 * scene + 1), 0.0)
    tl.store(view + EYE, from_x)
    tl.store(view + EYE + 1, from_y)
    shift_x = tl.load(look + OFFSET).to(tl.float64) * NOISE_SIZE
    shift_y = tl.load(look + OFFSET + 1).to(tl.float64) * NOISE_SIZE
    # Reduced to one period, so that single precision does.
    x, y = from_x * COARSE_NOISE + shift_x, from_y * COARSE_NOISE + shift_y
    tl.store(view + COARSE, x - tl.floor(x / NOISE_SIZE) * NOISE_SIZE)
    tl.store(view + COARSE + 1, y - tl.floor(y / NOISE_SIZE) * NOISE_SIZE)
    x, y = from_x * FINE_NOISE + shift_x, from_y * FINE_NOISE + shift_y
    tl.store(view + FINE, x - tl.floor(x / NOISE_SIZE) * NOISE_SIZE)
    tl.store(view + FINE + 1, y - tl.floor(y / NOISE_SIZE) * NOISE_SIZE)

    ego = tl.load(ego_slot + n).to(tl.int64)
    light_x, light_y = tl.load(look + LIGHT).to(tl.float64), tl.load(look + LIGHT + 1).to(tl.float64)
    light_z, ambient = tl.load(look + LIGHT + 2).to(tl.float64), tl.load(look + AMBIENT).to(tl.float64)
    wide, tall = width * 0.5, height * 0.5
    count = tl.zeros((), tl.int32)
    drawn = tl.where(good, slots, 0)
    for first in range(0, drawn, BOXES):
        slot = first + tl.arange(0, BOXES)
        there = (slot < drawn) & (slot != ego)
        at = world * slots + slot
        there = there & (tl.load(box_present + at, mask=there, other=0) != 0)
        colour = tl.load(box_colour + at, mask=there, other=-1)
        where_z = tl.load(box_center + 3 * at + 2, mask=there, other=0.0).to(tl.float64)
        dx = tl.load(box_center + 3 * at, mask=there, other=0.0).to(tl.float64) - eye_x
        dy = tl.load(box_center + 3 * at + 1, mask=there, other=0.0).to(tl.float64) - eye_y
        dz = where_z - eye_z
        heading = tl.load(box_heading + at, mask=there, other=0.0).to(tl.float64)
        half_a = tl.load(box_size + 3 * at, mask=there, other=0.0).to(tl.float64) * 0.5
        half_b = tl.load(box_size + 3 * at + 1, mask=there, other=0.0).to(tl.float64) * 0.5
        half_c = tl.load(box_size + 3 * at + 2, mask=there, other=0.0).to(tl.float64) * 0.5
        there = there & _finite(dx) & _finite(dy) & _finite(dz) & _finite(heading)
        there = there & _finite(half_a) & _finite(half_b) & _finite(half_c)
        there = there & (half_a > 0.0) & (half_b > 0.0) & (half_c > 0.0)
        there = there & (colour >= 0) & (colour < shades)

        cos, sin = tl.cos(heading), tl.sin(heading)
        fx, fy, fz = r00 * cos + r10 * sin, r01 * cos + r11 * sin, r02 * cos + r12 * sin
        lx, ly, lz = r10 * cos - r00 * sin, r11 * cos - r01 * sin, r12 * cos - r02 * sin
        cx, cy = r00 * dx + r10 * dy + r20 * dz, r01 * dx + r11 * dy + r21 * dz
        cz = r02 * dx + r12 * dy + r22 * dz
        left, right, top, bottom = _rectangle(
            cx, cy, cz, fx, fy, fz, lx, ly, lz, r20, r21, r22,
            half_a, half_b, -half_c, half_c, focal, wide, tall,
        )  # fmt: skip
        # The ground lies `where_z` below the centre.
        s_left, s_right, s_top, s_bottom = _rectangle(
            cx, cy, cz, fx, fy, fz, lx, ly, lz, r20, r21, r22,
            half_a + SHADOW_REACH, half_b + SHADOW_REACH, -where_z, -where_z, focal, wide, tall,
        )  # fmt: skip
        kind = tl.load(box_kind + at, mask=there, other=0)
        casts = (tl.abs(where_z - half_c) < tl.where(above, 0.5, 0.0)) & (kind != K_SIGNAL)
        s_left, s_right = tl.where(casts, s_left, INFINITE), tl.where(casts, s_right, -INFINITE)

        seen = there & ((left <= right) | (s_left <= s_right))
        place = n * slots + count + tl.cumsum(seen.to(tl.int32), 0) - 1
        tl.store(slot_of + place, slot, mask=seen)
        row = placed_box + place * BOX_COLUMNS
        tl.store(row + RECTANGLE, left, mask=seen)
        tl.store(row + RECTANGLE + 1, right, mask=seen)
        tl.store(row + RECTANGLE + 2, top, mask=seen)
        tl.store(row + RECTANGLE + 3, bottom, mask=seen)
        tl.store(row + SHADOW, s_left, mask=seen)
        tl.store(row + SHADOW + 1, s_right, mask=seen)
        tl.store(row + SHADOW + 2, s_top, mask=seen)
        tl.store(row + SHADOW + 3, s_bottom, mask=seen)
        _put_slab(
            row, 0, fx * per_focal, fy * per_focal, fz, -(dx * cos + dy * sin), half_a,
            light_x * cos + light_y * sin, ambient, seen,
        )  # fmt: skip
        _put_slab(
            row, 1, lx * per_focal, ly * per_focal, lz, dx * sin - dy * cos, half_b,
            light_y * cos - light_x * sin, ambient, seen,
        )  # fmt: skip
        _put_slab(
            row, 2, r20 * per_focal + 0.0 * dx, r21 * per_focal + 0.0 * dx, r22 + 0.0 * dx, -dz, half_c,
            light_z + 0.0 * dx, ambient, seen,
        )  # fmt: skip
        count += tl.sum(seen.to(tl.int32), 0)
    tl.store(placed + n, count)


@triton.jit
@no_type_check
def _meets(rectangle, left, right, top, bottom):
    """Whether a rectangle on the screen meets a block with these outermost pixel centres."""
    across = (tl.load(rectangle) <= right) & (tl.load(rectangle + 1) >= left)
    return across & (tl.load(rectangle + 2) <= bottom) & (tl.load(rectangle + 3) >= top)


@triton.jit
@no_type_check
def _exit(box, axis: tl.constexpr, ray):
    """Nearness of the plane where a ray leaves a slab."""
    return tl.maximum(ray * tl.load(box + EXIT + 2 * axis), ray * tl.load(box + EXIT + 2 * axis + 1))


@triton.jit
@no_type_check
def _entry(box, axis: tl.constexpr, ray):
    """Nearness of the face of a slab that is turned to the camera; huge if it is inside."""
    steep = tl.load(box + ENTRY + axis)
    return tl.where(steep != 0.0, ray * steep, HUGE)


@triton.jit
@no_type_check
def _paint_share(word, off_x, off_y, pu_x, pu_y, pv_x, pv_y):
    """Covered share of a cell's marking; `off` is the point's offset from the cell's centre [m]."""
    # Taylor series about a quarter turn, good to 4e-6. The library's functions, which reduce large angles,
    # made the kernel half as large again and took half as many registers more.
    turn = ((word >> 16) & HEADING_MASK).to(tl.float32) * HEADING_STEP - QUARTER
    turn2 = turn * turn
    cos = -turn * (1.0 + turn2 * (-1 / 6 + turn2 * (1 / 120 + turn2 * (-1 / 5040 + turn2 * (1 / 362880)))))
    sin = 1 / 40320 + turn2 * (-1 / 3628800)
    sin = 1.0 + turn2 * (-1 / 2 + turn2 * (1 / 24 + turn2 * (-1 / 720 + turn2 * sin)))
    phase = ((word >> 8) & SOLID).to(tl.float32)
    code = ((word & 0xFF).to(tl.float32) - 128.0) * (1.0 / 127)
    distance = tl.abs(code * tl.abs(code) * PAINT_RANGE - sin * off_x + cos * off_y)
    half = tl.where(phase == WIDE, WIDE_HALF_WIDTH, LINE_HALF_WIDTH)
    across = tl.abs(cos * pu_y - sin * pu_x) + tl.abs(cos * pv_y - sin * pv_x)
    share = _coverage(distance, half, 1.0 / tl.maximum(across, MIN_FOOTPRINT))
    # A saturated code says only that no marking is near, however large the footprint.
    share = tl.where(tl.abs(code) < 1.0, share, 0.0)
    s = (phase + 0.5) * PHASE_STEP - 0.5 * DASH_PERIOD + cos * off_x + sin * off_y
    along = tl.maximum(tl.abs(cos * pu_x + sin * pu_y) + tl.abs(cos * pv_x + sin * pv_y), MIN_FOOTPRINT)
    dash = _coverage(tl.abs(s), 0.5 * DASH_LENGTH, 1.0 / along)
    # A footprint of several dashes sees their mean.
    merged = _unit((along - DASH_LENGTH) * (1.0 / (DASH_PERIOD - DASH_LENGTH)))
    dash -= merged * (dash - DASH_LENGTH / DASH_PERIOD)
    return tl.where(phase >= WIDE, share, share * dash)


@triton.jit
@no_type_check
def _over(under, tint, opacity):
    return under + opacity * (tint - under)


@triton.jit
@no_type_check
def _box_paint(decal, a, b, wide, high, body_0, body_1, body_2, light, painted):
    """Colours of points on faces: the body in this light, and over it the decals of the face in their order.

    Args:
        decal: Row of the face's first decal in `decals.decal_table`.
        a, b: The point in half sizes of the face.
        wide, high: One over the pixel's footprint along a and b, in the same unit.
        body_0, body_1, body_2: Colour of the body.
        light: On the face.
        painted: Where there is a face.
    """
    c0, c1, c2 = body_0 * light, body_1 * light, body_2 * light
    for k in tl.static_range(DECALS):
        row = decal + k * DECAL_COLUMNS
        shine = tl.where(tl.load(row + 3, mask=painted, other=0.0) != 0.0, light, 1.0)
        own = tl.load(row + 4, mask=painted, other=0.0)
        mirrored = tl.load(row + 8, mask=painted, other=0.0) != 0.0
        off = tl.abs(tl.where(mirrored, tl.abs(a), a) - tl.load(row + 6, mask=painted, other=0.0))
        share = tl.load(row + 5, mask=painted, other=0.0)
        share *= _coverage(off, tl.load(row + 7, mask=painted, other=1.0), wide)
        off = tl.abs(b - tl.load(row + 9, mask=painted, other=0.0))
        share *= _coverage(off, tl.load(row + 10, mask=painted, other=1.0), high)
        c0 = _over(c0, tl.load(row, mask=painted, other=0.0) * shine + own * body_0, share)
        c1 = _over(c1, tl.load(row + 1, mask=painted, other=0.0) * shine + own * body_1, share)
        c2 = _over(c2, tl.load(row + 2, mask=painted, other=0.0) * shine + own * body_2, share)
    return c0, c1, c2


@triton.jit
@no_type_check
def _put_byte(at, value, good, mask):
    value = tl.minimum(tl.maximum(tl.where(good, value, 0.0), 0.0), 255.0) + 0.5
    tl.store(at, value.to(tl.int32).to(tl.uint8), mask=mask)


@triton.jit(do_not_specialize=COUNTS)
@no_type_check
def _draw_block(
    cells, tile, tile_start, cell_shape, resolution, view_scene, view_world,
    box_kind, box_instance, box_colour, looks, body_colours, decals, noise,
    placed_view, placed_box, slot_of, placed, rgb, depth, kinds, instances,
    scenes, worlds, slots, shades, width, height, blocks, blocks_across,
    ROWS: tl.constexpr, COLS: tl.constexpr,
    RGB: tl.constexpr, DEPTH: tl.constexpr, KIND: tl.constexpr, INSTANCE: tl.constexpr,
):  # fmt: skip
    """Draw one block of one picture."""
    program = tl.program_id(0)
    n = (program // blocks).to(tl.int64)
    block = program % blocks
    row = block // blocks_across * ROWS + tl.arange(0, ROWS)[:, None]
    col = block % blocks_across * COLS + tl.arange(0, COLS)[None, :]
    # Pixel centres from the middle of the picture, and the outermost ones of the block.
    x, y = col.to(tl.float32) + (0.5 - 0.5 * width), row.to(tl.float32) + (0.5 - 0.5 * height)
    left = block % blocks_across * COLS + (0.5 - 0.5 * width)
    top = block // blocks_across * ROWS + (0.5 - 0.5 * height)
    right, bottom = left + (COLS - 1), top + (ROWS - 1)

    view = placed_view + n * VIEW_COLUMNS
    good = tl.load(view + GOOD) > 0.0
    ray_x, ray_y = _affine(view + RAY_X, x, y), _affine(view + RAY_Y, x, y)
    ray_s = _affine(view + RAY_S, x, y)
    per_height = tl.load(view + PER_HEIGHT)
    near = ray_s * per_height
    ground = near > 1.0 / FAR_GROUND
    # Elsewhere the ground's numbers, which nobody reads, stay finite.
    near = tl.where(ground, near, 1.0)
    away = 1.0 / near

    # The nearest face of each pixel. Ground hides a box only if clearly nearer: boxes keep their feet.
    nearness = tl.where(ground, near * (1.0 - SINKS), 0.0)
    best = tl.full((ROWS, COLS), -1, tl.int32)
    across = tl.zeros((ROWS, COLS), tl.int32)
    dark = tl.zeros((ROWS, COLS), tl.float32)
    boxes = placed_box + n * slots * BOX_COLUMNS
    for k in range(tl.load(placed + n)):
        box = boxes + k * BOX_COLUMNS
        if _meets(box + RECTANGLE, left, right, top, bottom):
            ray_0, ray_1 = _affine(box + RAY, x, y), _affine(box + RAY + 3, x, y)
            ray_2 = _affine(box + RAY + 6, x, y)
            in_0, in_1, in_2 = _entry(box, 0, ray_0), _entry(box, 1, ray_1), _entry(box, 2, ray_2)
            out = tl.maximum(_exit(box, 0, ray_0), tl.maximum(_exit(box, 1, ray_1), _exit(box, 2, ray_2)))
            last = tl.minimum(in_1, in_2)
            enter = tl.minimum(in_0, last)
            hit = (enter > nearness) & (enter >= out) & (enter <= NEAREST)
            axis = tl.where(in_0 <= last, 0, tl.where(in_1 <= in_2, 1, 2))
            nearness, best = tl.where(hit, enter, nearness), tl.where(hit, k, best)
            across = tl.where(hit, axis, across)
        if RGB:  # noqa: SIM102 - what is known at compile time stands alone
            if _meets(box + SHADOW, left, right, top, bottom):
                a = tl.abs(_affine(box + RAY, x, y) * away + tl.load(box + EYE_AT)) - tl.load(box + HALF)
                b = _affine(box + RAY + 3, x, y) * away + tl.load(box + EYE_AT + 1)
                beyond = tl.maximum(tl.maximum(a, tl.abs(b) - tl.load(box + HALF + 1)), 0.0)
                dark = tl.maximum(dark, _unit(1.0 - beyond * (1.0 / SHADOW_REACH)) * SHADOW_DEPTH)

    on_box = best >= 0
    on_ground = ground & (best < 0)
    pixel = (n * height + row) * width + col
    inside_picture = (row < height) & (col < width)
    if DEPTH:
        far_away = tl.where(ground, away, INFINITE)
        far_away = tl.where(on_box, 1.0 / tl.where(on_box, nearness, 1.0), far_away)
        tl.store(depth + pixel, far_away, mask=inside_picture)

    world = tl.load(view_world + n).to(tl.int64)
    world = tl.minimum(tl.maximum(world, 0), worlds - 1)
    of_box = world * slots + tl.load(slot_of + n * slots + best, mask=on_box, other=0)
    if INSTANCE:
        name = tl.load(box_instance + of_box, mask=on_box, other=-1)
        tl.store(instances + pixel, name, mask=inside_picture)

    if RGB or KIND:
        kind = tl.load(box_kind + of_box, mask=on_box, other=0).to(tl.int32)
        look = looks + world * LOOKS
        c0, c1, c2 = dark, dark, dark
        if RGB:
            # Sky, by elevation.
            norm2 = ray_x * ray_x + ray_y * ray_y + ray_s * ray_s
            low = 1.0 - tl.maximum(-ray_s, 0.0) / tl.sqrt(norm2)
            low *= low
            low *= low
            c0 = _over(tl.load(look + SKY), tl.load(look + HORIZON), low)
            c1 = _over(tl.load(look + SKY + 1), tl.load(look + HORIZON + 1), low)
            c2 = _over(tl.load(look + SKY + 2), tl.load(look + HORIZON + 2), low)
        if tl.max(on_ground.to(tl.int32)) > 0:
            # Where the ray meets the ground, from the camera, and how that moves for one pixel to the right
            # (pu) and down (pv) [m].
            x_at, y_at = ray_x * away, ray_y * away
            lean_x, lean_y = x_at * per_height, y_at * per_height
            right_s, down_s = tl.load(view + RAY_S), tl.load(view + RAY_S + 1)
            pu_x = away * (tl.load(view + RAY_X) - right_s * lean_x)
            pu_y = away * (tl.load(view + RAY_Y) - right_s * lean_y)
            pv_x = away * (tl.load(view + RAY_X + 1) - down_s * lean_x)
            pv_y = away * (tl.load(view + RAY_Y + 1) - down_s * lean_y)

            # The four cells whose centres surround the point, and where it lies between them.
            scene = tl.load(view_scene + n).to(tl.int64)
            scene = tl.minimum(tl.maximum(scene, 0), scenes - 1)
            rows = tl.load(cell_shape + 2 * scene).to(tl.int32)
            cols = tl.load(cell_shape + 2 * scene + 1).to(tl.int32)
            cell = tl.load(resolution + scene).to(tl.float32)
            at_x, at_y = (tl.load(view + EYE) + x_at) / cell, (tl.load(view + EYE + 1) + y_at) / cell
            inside = (at_x >= 0.0) & (at_y >= 0.0) & (at_x < cols) & (at_y < rows)
            i = tl.minimum(tl.maximum(at_x - 0.5, 0.0), (cols - 2).to(tl.float32)).to(tl.int32)
            j = tl.minimum(tl.maximum(at_y - 0.5, 0.0), (rows - 2).to(tl.float32)).to(tl.int32)
            share_x, share_y = at_x - 0.5 - i.to(tl.float32), at_y - 0.5 - j.to(tl.float32)
            place = tl.load(tile_start + scene) + j // TILE * ((cols - 1) // TILE + 1) + i // TILE
            corner = tl.load(tile + place, mask=on_ground, other=0).to(tl.int64) * (TILE_SIDE * TILE_SIDE)
            corner += j % TILE * TILE_SIDE + i % TILE
            w00 = tl.load(cells + corner, mask=on_ground, other=0)
            w01 = tl.load(cells + corner + 1, mask=on_ground, other=0)
            w10 = tl.load(cells + corner + TILE_SIDE, mask=on_ground, other=0)
            w11 = tl.load(cells + corner + TILE_SIDE + 1, mask=on_ground, other=0)

            # The road's border: bilinear distance, and the footprint along its gradient.
            s, t = _unit(share_x), _unit(share_y)
            e00, e01 = ((w00 >> 24) & 0xFF).to(tl.float32), ((w01 >> 24) & 0xFF).to(tl.float32)
            e10, e11 = ((w10 >> 24) & 0xFF).to(tl.float32), ((w11 >> 24) & 0xFF).to(tl.float32)
            e_low, e_high = e00 + s * (e01 - e00), e10 + s * (e11 - e10)
            edge = (e_low + t * (e_high - e_low) - 128.0) * EDGE_STEP
            slope_x = (e01 - e00 + t * ((e11 - e10) - (e01 - e00))) * (EDGE_STEP / cell)
            slope_y = (e_high - e_low) * (EDGE_STEP / cell)
            footprint = tl.abs(slope_x * pu_x + slope_y * pu_y) + tl.abs(slope_x * pv_x + slope_y * pv_y)
            road = _unit(0.5 + edge / tl.maximum(footprint, MIN_FOOTPRINT))
            on_right, on_top = share_x >= 0.5, share_y >= 0.5
            own = tl.where(on_top, tl.where(on_right, w11, w10), tl.where(on_right, w01, w00))
            # A saturated code says only that the border is not near, however large the footprint.
            own_edge = ((own >> 24) & 0xFF) - 128
            road = tl.where(tl.abs(own_edge) < 127, road, tl.where(own_edge > 0, 1.0, 0.0))
            road = tl.where(inside, road, 0.0)

            # Paint: of the point's own cell; where markings crowd, the most of the four around.
            off_x = (share_x - tl.where(on_right, 1.0, 0.0)) * cell
            off_y = (share_y - tl.where(on_top, 1.0, 0.0)) * cell
            paint = _paint_share(own, off_x, off_y, pu_x, pu_y, pv_x, pv_y)
            paint = tl.where(inside, paint, 0.0)
            is_yellow = (own & (YELLOW << 16)) != 0
            white, yellow = tl.where(is_yellow, 0.0, paint), tl.where(is_yellow, paint, 0.0)
            crowded = on_ground & inside & ((own & (CROWDED << 8)) != 0)
            if tl.max(crowded.to(tl.int32)) > 0:
                for around in tl.static_range(4):
                    word = w00 if around == 0 else (w01 if around == 1 else (w10 if around == 2 else w11))
                    off_x, off_y = (share_x - (around & 1)) * cell, (share_y - (around >> 1)) * cell
                    paint = _paint_share(word, off_x, off_y, pu_x, pu_y, pv_x, pv_y)
                    paint = tl.where(crowded, paint, 0.0)
                    is_yellow = (word & (YELLOW << 16)) != 0
                    white = tl.maximum(white, tl.where(is_yellow, 0.0, paint))
                    yellow = tl.maximum(yellow, tl.where(is_yellow, paint, 0.0))
            surface = tl.where(road >= 0.5, K_ROAD, K_TERRAIN)
            surface = tl.where(tl.maximum(white, yellow) >= 0.5, K_MARKING, surface)
            kind = tl.where(on_ground, surface, kind)
            if RGB:
                # Texture in two octaves, each fading before its features get smaller than a pixel.
                extent = away * tl.load(view + PER_FOCAL) * (1.0 + away * per_height)
                i = tl.floor(x_at * FINE_NOISE + tl.load(view + FINE)).to(tl.int32) & (NOISE_SIZE - 1)
                j = tl.floor(y_at * FINE_NOISE + tl.load(view + FINE + 1)).to(tl.int32) & (NOISE_SIZE - 1)
                texture = 0.4 * _unit(1.5 - extent) * tl.load(noise + j * NOISE_SIZE + i)
                i = tl.floor(x_at * COARSE_NOISE + tl.load(view + COARSE)).to(tl.int32) & (NOISE_SIZE - 1)
                j = tl.floor(y_at * COARSE_NOISE + tl.load(view + COARSE + 1)).to(tl.int32) & (NOISE_SIZE - 1)
                texture += 0.6 * _unit(1.5 - 0.125 * extent) * tl.load(noise + j * NOISE_SIZE + i)
                grass = 1.0 + tl.load(look + TERRAIN_TEXTURE) * texture
                tarmac = 1.0 + tl.load(look + ROAD_TEXTURE) * texture
                opacity = tl.load(look + PAINT)
                haze = tl.load(look + VISIBILITY) * near
                far = 1.0 / (1.0 + haze * haze)
                g0 = _over(tl.load(look + TERRAIN) * grass, tl.load(look + ROAD) * tarmac, road)
                g1 = _over(tl.load(look + TERRAIN + 1) * grass, tl.load(look + ROAD + 1) * tarmac, road)
                g2 = _over(tl.load(look + TERRAIN + 2) * grass, tl.load(look + ROAD + 2) * tarmac, road)
                g0 = _over(g0, tl.load(look + WHITE), opacity * white)
                g1 = _over(g1, tl.load(look + WHITE + 1), opacity * white)
                g2 = _over(g2, tl.load(look + WHITE + 2), opacity * white)
                g0 = (1.0 - dark) * _over(g0, tl.load(look + YELLOW_PAINT), opacity * yellow)
                g1 = (1.0 - dark) * _over(g1, tl.load(look + YELLOW_PAINT + 1), opacity * yellow)
                g2 = (1.0 - dark) * _over(g2, tl.load(look + YELLOW_PAINT + 2), opacity * yellow)
                c0 = tl.where(on_ground, _over(g0, tl.load(look + HORIZON), far), c0)
                c1 = tl.where(on_ground, _over(g1, tl.load(look + HORIZON + 1), far), c1)
                c2 = tl.where(on_ground, _over(g2, tl.load(look + HORIZON + 2), far), c2)
        if KIND:
            tl.store(kinds + pixel, kind.to(tl.uint8), mask=inside_picture)
        if RGB:
            if tl.max(best) >= 0:
                # Faces: where each pixel's lies, and how it moves under the pixel.
                box = boxes + tl.maximum(best, 0) * BOX_COLUMNS
                e1, e2 = tl.where(across == 0, 1, 0), tl.where(across == 2, 1, 2)
                q = tl.where(on_box, nearness, 1.0)
                t = 1.0 / q
                steep = tl.load(box + ENTRY + across, mask=on_box, other=0.0)
                q_x = tl.load(box + RAY + 3 * across, mask=on_box, other=0.0) * steep
                q_y = tl.load(box + RAY + 3 * across + 1, mask=on_box, other=0.0) * steep
                a_x = tl.load(box + RAY + 3 * e1, mask=on_box, other=0.0)
                a_y = tl.load(box + RAY + 3 * e1 + 1, mask=on_box, other=0.0)
                b_x = tl.load(box + RAY + 3 * e2, mask=on_box, other=0.0)
                b_y = tl.load(box + RAY + 3 * e2 + 1, mask=on_box, other=0.0)
                a = (a_x * x + a_y * y + tl.load(box + RAY + 3 * e1 + 2, mask=on_box, other=0.0)) * t
                b = (b_x * x + b_y * y + tl.load(box + RAY + 3 * e2 + 2, mask=on_box, other=0.0)) * t
                wide = tl.maximum((tl.abs(a_x - a * q_x) + tl.abs(a_y - a * q_y)) * t, MIN_FOOTPRINT)
                high = tl.maximum((tl.abs(b_x - b * q_x) + tl.abs(b_y - b * q_y)) * t, MIN_FOOTPRINT)
                shade = world * shades + tl.load(box_colour + of_box, mask=on_box, other=0)
                behind = tl.load(box + EYE_AT + across, mask=on_box, other=0.0) < 0.0
                face = 2 * across + behind.to(tl.int32)
                half_a = tl.load(box + HALF + e1, mask=on_box, other=1.0)
                half_b = tl.load(box + HALF + e2, mask=on_box, other=1.0)
                b0, b1, b2 = _box_paint(
                    decals + ((kind - K_VEHICLE) * 6 + face) * (DECALS * DECAL_COLUMNS),
                    (a + tl.load(box + EYE_AT + e1, mask=on_box, other=0.0)) / half_a,
                    (b + tl.load(box + EYE_AT + e2, mask=on_box, other=0.0)) / half_b,
                    half_a / wide,
                    half_b / high,
                    tl.load(body_colours + 3 * shade, mask=on_box, other=0.0),
                    tl.load(body_colours + 3 * shade + 1, mask=on_box, other=0.0),
                    tl.load(body_colours + 3 * shade + 2, mask=on_box, other=0.0),
                    tl.load(box + LIT + across, mask=on_box, other=0.0),
                    on_box,
                )
                haze = tl.load(look + VISIBILITY) * q
                far = 1.0 / (1.0 + haze * haze)
                c0 = tl.where(on_box, _over(b0, tl.load(look + HORIZON), far), c0)
                c1 = tl.where(on_box, _over(b1, tl.load(look + HORIZON + 1), far), c1)
                c2 = tl.where(on_box, _over(b2, tl.load(look + HORIZON + 2), far), c2)
            _put_byte(rgb + 3 * pixel, c0, good, inside_picture)
            _put_byte(rgb + 3 * pixel + 1, c1, good, inside_picture)
            _put_byte(rgb + 3 * pixel + 2, c2, good, inside_picture)


def draw_images(
    bank: GroundBank,
    views: Views,
    boxes: Boxes,
    appearance: Appearance,
    outputs: Outputs,
    block: tuple[int, int] = BLOCK,
) -> Images:
    """Draw every view on the device where all tensors lie.

    Reading indices back to check them would make the host wait for the device. So a view that names no scene
    or world, or whose focal length is not positive, is drawn as one whose pose is not finite, and a box
    whose colour is not there is not drawn.

    Args:
        bank, views, boxes, appearance, outputs: As in `rendering.render`.
        block: Rows and columns of pixels that one program draws, powers of two.
    """
    count, height, width = len(views.scene), views.height, views.width
    worlds, slots = boxes.present.shape
    shades = appearance.colours.shape[1]
    device = views.position.device

    def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    def picture(wanted: bool, dtype: torch.dtype, *channels: int) -> Tensor:
        return numbers(*((count, height, width, *channels) if wanted else (1,)), dtype=dtype)

    rgb = picture(outputs.rgb, torch.uint8, 3)
    depth = picture(outputs.depth, torch.float32)
    kind = picture(outputs.kind, torch.uint8)
    instance = picture(outputs.instance, torch.int32)
    if count:
        looks = looks_of(appearance)
        placed_view, placed_box = (
            numbers(count, VIEW_COLUMNS.value),
            numbers(count, max(slots, 1), BOX_COLUMNS.value),
        )
        slot_of = numbers(count, max(slots, 1), dtype=torch.int32)
        placed = numbers(count, dtype=torch.int32)
        scene, world = views.scene.contiguous(), views.world.contiguous()
        kinds, colour = boxes.kind.contiguous(), boxes.colour.contiguous()
        blocks_across = triton.cdiv(width, block[1])
        blocks = blocks_across * triton.cdiv(height, block[0])
        # Launchers take options that no signature names.
        place: Any = _place
        draw: Any = _draw_block
        with torch.cuda.device_of(views.position):
            place[(count,)](
                bank.origin.contiguous(), scene, world,
                views.position.contiguous(), views.rotation.contiguous(), views.focal.contiguous(),
                views.ego_slot.contiguous(), boxes.center.contiguous(), boxes.heading.contiguous(),
                boxes.size.contiguous(), kinds, colour, boxes.present.contiguous().view(torch.uint8), looks,
                placed_view, placed_box, slot_of, placed,
                len(bank.tile_start), worlds, slots, shades, width, height,
                BOXES=BOXES, num_warps=1, enable_fp_fusion=True,
            )  # fmt: skip
            draw[(count * blocks,)](
                bank.cells.contiguous().view(torch.int32), bank.tile.contiguous(),
                bank.tile_start.contiguous(), bank.cell_shape.contiguous(), bank.resolution.contiguous(),
                scene, world, kinds, boxes.instance.contiguous(), colour, looks,
                appearance.colours.float().contiguous(), _decals(device), _noise(device),
                placed_view, placed_box, slot_of, placed, rgb, depth, kind, instance,
                len(bank.tile_start), worlds, slots, shades, width, height, blocks, blocks_across,
                ROWS=block[0], COLS=block[1],
                RGB=outputs.rgb, DEPTH=outputs.depth, KIND=outputs.kind, INSTANCE=outputs.instance,
                num_warps=4, enable_fp_fusion=True,
            )  # fmt: skip
    return Images(
        rgb=rgb if outputs.rgb else None,
        depth=depth if outputs.depth else None,
        kind=kind if outputs.kind else None,
        instance=instance if outputs.instance else None,
    )
