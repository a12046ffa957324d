"""Numba kernels of the renderer: one picture a thread. Shadows first, then ground and sky, then boxes.

`ground_kernels` and `box_kernels` draw; here boxes are placed and put in order. `reference` says the same without
any of this.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.worlds.boxworld.rendering.box_kernels import (
    draw_box,
    draw_shadow,
    light_faces,
    place_box,
    project,
)
from countersteer.worlds.boxworld.rendering.constants import K_SIGNAL, K_SKY
from countersteer.worlds.boxworld.rendering.ground_kernels import draw_ground_and_sky
from countersteer.worlds.boxworld.rendering.machine import LANES

__all__ = ["draw_images"]

F = np.float32


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
    nearness = np.zeros((height, width + LANES), np.float32)
    shadow = np.zeros((height, width + LANES), np.float32)
    instances[:] = -1
    # What may be seen of the boxes is placed once and drawn twice: shadows before the ground, faces after it.
    slots = len(box_present)
    placed, seen = np.empty(slots, np.int64), 0
    center, axes, half = np.empty((slots, 3)), np.empty((slots, 3, 3)), np.empty((slots, 3))
    corners, whole = np.empty((slots + 1, 8, 2)), np.empty(slots, np.bool_)
    quad, outline, spans, light = np.empty((4, 3)), np.empty((8, 2)), np.empty((height, 2)), np.empty(6, F)
    for k in range(slots):
        if box_present[k] and k != ego_slot and place_box(
            box_center[k], box_heading[k], box_size[k], position, rotation, 0.5 * width / focal,
            center[seen], axes[seen], half[seen],
        ):  # fmt: skip
            grounded = abs(box_center[k, 2] - half[seen, 2]) < 0.5 and box_kind[k] != K_SIGNAL
            if len(rgb) and grounded and position[2] > 0.0:
                draw_shadow(
                    center[seen], axes[seen], half[seen], position[2], focal, width, height,
                    corners[slots], quad, outline, spans, shadow,
                )  # fmt: skip
            placed[seen] = k
            whole[seen], visible = project(
                center[seen], axes[seen], half[seen], focal, width, height, corners[seen]
            )
            seen += int(visible)
    eye = np.empty(3)
    eye[0], eye[1], eye[2] = position[0] - origin[0], position[1] - origin[1], position[2]
    draw_ground_and_sky(
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
        light_faces(box_heading[k], look, light)
        draw_box(
            center[i], axes[i], half[i], corners[i], whole[i], box_kind[k], box_instance[k],
            body_colours[box_colour[k]], light, look, decals, focal, width, height, quad, outline, spans,
            nearness, rgb, depth, kinds, instances,
        )  # fmt: skip
