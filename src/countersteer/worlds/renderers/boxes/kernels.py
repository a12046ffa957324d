"""Numba kernels of the renderer: one picture a thread. Shadows first, then ground and sky, then boxes.

`ground_kernels` and `box_kernels` draw; here boxes are placed and put in order. `reference` says the same without
any of this.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple, no_type_check

import numba as nb
import numpy as np

from countersteer.kernels import inner, njit
from countersteer.worlds.renderers.boxes.box_kernels import (
    draw_box,
    draw_shadow,
    light_faces,
    place_box,
    project,
)
from countersteer.worlds.renderers.boxes.constants import K_SIGNAL, K_SKY
from countersteer.worlds.renderers.boxes.ground_kernels import draw_ground_and_sky
from countersteer.worlds.renderers.boxes.machine import LANES, widest_vectors

__all__ = ["draw_images"]


@njit(error_model="numpy", parallel=True)
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


class Scratch(NamedTuple):
    """What drawing one picture writes on the way.

    Attributes:
        nearness, shadow: Of each pixel; pieces of a row may reach beyond its end.
        placed, order: Slots of the boxes that may be seen, and the order in which they are drawn.
        center, axes, half, corners, whole: Of these boxes, see `place_box` and `project`; one row more.
        quad, outline, spans, light: Of the face at hand.
        eye: The camera from the raster's corner [m].
    """

    nearness: np.ndarray
    shadow: np.ndarray
    placed: np.ndarray
    order: np.ndarray
    center: np.ndarray
    axes: np.ndarray
    half: np.ndarray
    corners: np.ndarray
    whole: np.ndarray
    quad: np.ndarray
    outline: np.ndarray
    spans: np.ndarray
    light: np.ndarray
    eye: np.ndarray


@njit(nogil=True, error_model="numpy")
@no_type_check
def _draw_image(
    cells, tile, start, rows, cols, origin, resolution, position, rotation, focal, ego_slot, box_center, box_heading, box_size, box_kind, box_instance, box_colour, box_present, look, body_colours, decals, noise, width, height, rgb, depth, kinds, instances,
):  # fmt: skip
    slots = len(box_present)
    # In a function of its own, so that the one that draws can borrow arrays without counting references.
    scratch = Scratch(
        np.zeros((height, width + LANES), np.float32),
        np.zeros((height, width + LANES), np.float32),
        np.empty(slots, np.int64),
        np.empty(slots, np.int64),
        np.empty((slots + 1, 3)),
        np.empty((slots + 1, 3, 3)),
        np.empty((slots + 1, 3)),
        np.empty((slots + 1, 8, 2)),
        np.empty(slots + 1, np.bool_),
        np.empty((4, 3)),
        np.empty((8, 2)),
        np.empty((height, 2)),
        np.empty(6, np.float32),
        np.empty(3),
    )
    _fill_image(
        cells, tile, start, rows, cols, origin, resolution, position, rotation, focal, ego_slot, box_center, box_heading, box_size, box_kind, box_instance, box_colour, box_present, look, body_colours, decals, noise, width, height, rgb, depth, kinds, instances, scratch,
    )  # fmt: skip


@functools.partial(inner, fastmath={"contract", "arcp", "nsz", "reassoc"})
@no_type_check
def _fill_image(
    cells, tile, start, rows, cols, origin, resolution, position, rotation, focal, ego_slot, box_center, box_heading, box_size, box_kind, box_instance, box_colour, box_present, look, body_colours, decals, noise, width, height, rgb, depth, kinds, instances, scratch,
):  # fmt: skip
    nearness, shadow, placed, order, center, axes, half, corners, whole, quad, outline, spans, light, eye = (
        scratch
    )
    widest_vectors()
    finite = math.isfinite(focal)
    for i in range(3):
        finite = finite and math.isfinite(position[i])
        for j in range(3):
            finite = finite and math.isfinite(rotation[i, j])
    for row in range(len(instances)):
        for col in range(width):
            instances[row, col] = -1
    if not finite:
        for row in range(height):
            for k in range(3 * width if len(rgb) else 0):
                rgb[row, k] = 0
            for col in range(width):
                if len(depth):
                    depth[row, col] = np.inf
                if len(kinds):
                    kinds[row, col] = K_SKY
        return
    # What may be seen of the boxes is placed once and drawn twice: shadows before the ground, faces after it.
    slots, seen = len(box_present), 0
    for k in range(slots):
        if box_present[k] and k != ego_slot and place_box(
            box_center[k], box_heading[k], box_size[k], position, rotation, 0.5 * width / focal,
            center[seen], axes[seen], half[seen],
        ):  # fmt: skip
            grounded = abs(box_center[k, 2] - half[seen, 2]) < 0.5 and box_kind[k] != K_SIGNAL
            if len(rgb) and grounded and position[2] > 0.0:
                draw_shadow(
                    center[seen], axes[seen], half[seen], position[2], focal, width, height,
                    center[slots], half[slots], corners[slots], quad, outline, spans, shadow,
                )  # fmt: skip
            placed[seen] = k
            whole[seen], visible = project(
                center[seen], axes[seen], half[seen], focal, width, height, corners[seen]
            )
            seen += int(visible)
    eye[0], eye[1], eye[2] = position[0] - origin[0], position[1] - origin[1], position[2]
    draw_ground_and_sky(
        cells, tile, start, rows, cols, resolution, eye, rotation, focal, look,
        noise, width, height, nearness, shadow, rgb, depth, kinds,
    )  # fmt: skip
    # From the nearest on, so that little is drawn twice.
    for i in range(seen):
        at = i
        while at > 0 and center[order[at - 1], 2] > center[i, 2]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = i
    for at in range(seen):
        i = order[at]
        k = placed[i]
        light_faces(box_heading[k], look, light)
        draw_box(
            center[i], axes[i], half[i], corners[i], whole[i], box_kind[k], box_instance[k],
            body_colours[box_colour[k]], light, look, decals, focal, width, height, quad, outline, spans,
            nearness, rgb, depth, kinds, instances,
        )  # fmt: skip
