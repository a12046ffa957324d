"""The specification of the renderer: plain numpy, one ray a pixel, 64-bit, slow.

A ray p + t d leaves every pixel centre, d having length one along the optical axis, so that t is the depth.
Boxes are hit by the slab method where the ray enters them (Kay and Kajiya 1986); the ground is z = 0. Nothing
here shares code with the kernels but the constants and the noise.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy import ndarray

from countersteer.worlds.interface import Images
from countersteer.worlds.renderers.boxes import Appearance, Boxes, PixelClass, Views
from countersteer.worlds.renderers.boxes.constants import (
    COARSE_NOISE,
    FAR_GROUND,
    FINE_NOISE,
    NEAR_PLANE,
    NOISE_SIZE,
    SHADOW_DEPTH,
    SHADOW_REACH,
    SINKS,
    noise_table,
)
from countersteer.worlds.renderers.boxes.decals import decals_on
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
    WIDE,
    WIDE_HALF_WIDTH,
    YELLOW,
    GroundBank,
)

__all__ = ["render"]

MIN_FOOTPRINT = 1e-3


def render(bank: GroundBank, views: Views, boxes: Boxes, appearance: Appearance) -> Images:
    """All pictures of every view; arguments as in `rendering.render`."""
    pictures = [_picture(bank, views, boxes, appearance, n) for n in range(len(views.scene))]
    rgb, depth, kind, instance = (torch.from_numpy(np.stack(part)) for part in zip(*pictures, strict=True))
    return Images(rgb=rgb, depth=depth, kind=kind, instance=instance)


def _picture(
    bank: GroundBank, views: Views, boxes: Boxes, appearance: Appearance, n: int
) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    height, width = views.height, views.width
    kind = np.full((height, width), PixelClass.SKY, np.uint8)
    instance = np.full((height, width), -1, np.int32)
    depth = np.full((height, width), np.inf)
    position, rotation, focal = (_64(x[n]) for x in (views.position, views.rotation, views.focal))
    if not (np.isfinite(position).all() and np.isfinite(rotation).all() and np.isfinite(focal)):
        return np.zeros((height, width, 3), np.uint8), depth.astype(np.float32), kind, instance
    world = int(views.world[n])
    look = {name: _64(value[world]) for name, value in appearance.flatten().items()}
    bodies = boxes[world]

    u, v = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    ray = np.stack([u / focal, v / focal, np.ones_like(u)], -1) @ rotation.T

    # Sky, by elevation.
    rise = np.maximum(ray[..., 2], 0.0) / np.linalg.norm(ray, axis=-1)
    rgb = look["sky"] + (1 - rise[..., None]) ** 4 * (look["horizon"] - look["sky"])

    # Ground.
    if position[2] > 0:
        with np.errstate(divide="ignore"):
            away = np.where(ray[..., 2] < 0, position[2] / -np.minimum(ray[..., 2], -1e-300), np.inf)
        hit = away < FAR_GROUND
        depth[hit] = away[hit]
        colour, kind[hit] = _ground(
            bank, int(views.scene[n]), position, rotation, focal, away[hit], ray[hit], look
        )
        lit = 1 - _shadow(bodies, int(views.ego_slot[n]), position[:2] + away[hit, None] * ray[hit][:, :2])
        rgb[hit] = _hazy(colour * lit[:, None], away[hit], look)

    # Boxes.
    behind = depth * (1 + SINKS)
    for slot in _drawn(bodies, int(views.ego_slot[n])):
        center, size = _64(bodies.center[slot]), _64(bodies.size[slot])
        axes = _axes(float(bodies.heading[slot]))
        away, face, a, b = _enter(axes @ (position - center), ray @ axes.T, size / 2)
        hit = (away >= NEAR_PLANE) & (away < behind)
        behind[hit], depth[hit] = away[hit], away[hit]
        kind[hit] = int(bodies.kind[slot])
        instance[hit] = int(bodies.instance[slot])
        camera = axes @ rotation
        for side in range(6):
            on = hit & (face == side)
            body = look["colours"][int(bodies.colour[slot])]
            e1, e2 = ((1, 2), (0, 2), (0, 1))[side // 2]
            wide = _footprint(camera, side // 2, e1, ray @ axes.T, away, focal)[on]
            high = _footprint(camera, side // 2, e2, ray @ axes.T, away, focal)[on]
            facing = (1 if side % 2 == 0 else -1) * (axes[side // 2] @ look["light"])
            light = look["ambient"] + (1 - look["ambient"]) * max(facing, 0.0)
            colour = _box_paint(
                int(bodies.kind[slot]),
                side,
                a[on],
                b[on],
                size[e1] / 2,
                size[e2] / 2,
                wide,
                high,
                body,
                light,
            )
            rgb[on] = _hazy(colour, away[on], look)
    return np.floor(np.clip(rgb, 0, 255) + 0.5).astype(np.uint8), depth.astype(np.float32), kind, instance


def _64(tensor: torch.Tensor) -> ndarray:
    return tensor.numpy().astype(np.float64)


def _axes(heading: float) -> ndarray:
    """Rows: forward, left and up of a box in the world."""
    cos, sin = math.cos(heading), math.sin(heading)
    return np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _drawn(bodies: Boxes, ego_slot: int) -> list[int]:
    pose = torch.cat([bodies.center, bodies.heading[:, None], bodies.size], -1)
    good = bodies.present & pose.isfinite().all(-1) & (bodies.size > 0).all(-1)
    return [slot for slot in torch.nonzero(good)[:, 0].tolist() if slot != ego_slot]


def _hazy(colour: ndarray, away: ndarray, look: dict[str, ndarray]) -> ndarray:
    share = 1 / (1 + (look["visibility"] / away) ** 2)
    return colour + share[:, None] * (look["horizon"] - colour)


def _coverage(distance: ndarray, half: float | ndarray, footprint: ndarray) -> ndarray:
    """Share of a footprint, `distance` from the middle of a band of half width `half`, that it covers."""
    share = (half + footprint / 2 - distance) / footprint
    return np.clip(share, 0, np.minimum(1, 2 * half / footprint))


def _enter(eye: ndarray, ray: ndarray, half: ndarray) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Where rays (box frame) enter a box: depth (infinite if they do not), face, coordinates on it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = (-half - eye) / ray, (half - eye) / ray
    enter = np.fmin(low, high)
    leave = np.fmax(low, high)
    axis = enter.argmax(-1)
    away = enter.max(-1)
    away = np.where(away <= leave.min(-1), away, np.inf)
    direction = np.take_along_axis(ray, axis[..., None], -1)[..., 0]
    face = 2 * axis + (direction > 0)
    point = eye + np.where(np.isfinite(away), away, 0.0)[..., None] * ray
    a = np.where(axis == 0, point[..., 1], point[..., 0])
    b = np.where(axis == 2, point[..., 1], point[..., 2])
    return away, face, a, b


def _footprint(
    camera: ndarray, normal: int, along: int, ray: ndarray, away: ndarray, focal: ndarray
) -> ndarray:
    """How far the point on a face moves along one of its axes for a pixel to the right plus one down [m]."""
    moved = np.zeros_like(away)
    for pixel in range(2):
        with np.errstate(divide="ignore", invalid="ignore"):
            sideways = camera[along, pixel] - ray[..., along] * camera[normal, pixel] / ray[..., normal]
            moved = moved + np.abs(sideways * away / focal)
    return np.maximum(moved, MIN_FOOTPRINT)


def _shadow(bodies: Boxes, ego_slot: int, points: ndarray) -> ndarray:
    """Share of light taken from ground points by the boxes that stand there."""
    dark = np.zeros(len(points))
    for slot in _drawn(bodies, ego_slot):
        center, half = _64(bodies.center[slot]), _64(bodies.size[slot]) / 2
        if abs(center[2] - half[2]) >= 0.5 or int(bodies.kind[slot]) == PixelClass.SIGNAL:
            continue
        local = (points - center[:2]) @ _axes(float(bodies.heading[slot]))[:2, :2].T
        outside = np.maximum((np.abs(local) - half[:2]).max(-1), 0)
        dark = np.maximum(dark, SHADOW_DEPTH * np.clip(1 - outside / SHADOW_REACH, 0, 1))
    return dark


def _ground(
    bank: GroundBank,
    scene: int,
    position: ndarray,
    rotation: ndarray,
    focal: ndarray,
    away: ndarray,
    ray: ndarray,
    look: dict[str, ndarray],
) -> tuple[ndarray, ndarray]:
    """Colour before light and haze, and class, of ground points."""
    rows, cols = bank.cell_shape[scene].tolist()
    cell = float(bank.resolution[scene])
    point = position[:2] + away[:, None] * ray[:, :2] - _64(bank.origin[scene])
    at = point / cell
    inside = ((at >= 0) & (at < (cols, rows))).all(-1)
    # How the point moves for one pixel to the right and one down.
    moves = [
        (away / focal)[:, None]
        * (rotation[:2, k] + rotation[2, k] * away[:, None] * ray[:, :2] / position[2])
        for k in range(2)
    ]

    corner = np.clip(np.floor(at - 0.5), 0, (cols - 2, rows - 2)).astype(int)
    share = at - 0.5 - corner
    col, row = torch.from_numpy(corner).unbind(-1)
    quad = bank.corners(torch.full_like(row, scene), row, col).numpy().astype(np.int64).swapaxes(0, 1)

    # Road: bilinear distance from its border, and its gradient.
    e00, e01, e10, e11 = (q[:, 3] for q in quad)
    s, t = np.clip(share, 0, 1).T
    edge = ((1 - t) * ((1 - s) * e00 + s * e01) + t * ((1 - s) * e10 + s * e11) - 128) * EDGE_STEP
    slope = np.stack([(1 - t) * (e01 - e00) + t * (e11 - e10), (1 - s) * (e10 - e00) + s * (e11 - e01)], -1)
    slope = slope * EDGE_STEP / cell
    footprint = sum(np.abs((slope * move).sum(-1)) for move in moves)
    own = (share[:, 1] >= 0.5) * 2 + (share[:, 0] >= 0.5)
    own_edge = np.choose(own, [e00, e01, e10, e11]) - 128
    # A saturated code says only that the border is not near, however large the footprint.
    covered = np.clip(0.5 + edge / np.maximum(footprint, MIN_FOOTPRINT), 0, 1)
    road = np.where(inside, np.where(np.abs(own_edge) < 127, covered, own_edge > 0), 0.0)

    # Paint: of the point's own cell; where markings crowd, the most of the four around.
    crowded = np.choose(own, [q[:, 1] for q in quad]) & CROWDED > 0
    white, yellow = np.zeros(len(at)), np.zeros(len(at))
    for k, code in enumerate(quad):
        offset = (share - (k & 1, k >> 1)) * cell
        paint = np.where(inside & (crowded | (own == k)), _paint_share(code, offset, moves), 0.0)
        is_yellow = code[:, 2] & YELLOW > 0
        yellow = np.maximum(yellow, np.where(is_yellow, paint, 0.0))
        white = np.maximum(white, np.where(is_yellow, 0.0, paint))

    # Texture in two octaves, each fading before its features get smaller than a pixel.
    extent = away / focal * (1 + away / position[2])
    noise = noise_table().reshape(NOISE_SIZE, NOISE_SIZE)
    texture = np.zeros(len(at))
    for density, weight, fade in ((FINE_NOISE, 0.4, 1.0), (COARSE_NOISE, 0.6, 0.125)):
        texel = np.floor(point * density + look["texture_offset"] * NOISE_SIZE).astype(int) % NOISE_SIZE
        texture += weight * np.clip(1.5 - fade * extent, 0, 1) * noise[texel[:, 1], texel[:, 0]]

    def blend(under: ndarray, over: ndarray, opacity: ndarray) -> ndarray:
        return under + opacity[:, None] * (over - under)

    terrain = look["terrain"] * (1 + look["terrain_texture"] * texture)[:, None]
    colour = blend(terrain, look["road"] * (1 + look["road_texture"] * texture)[:, None], road)
    colour = blend(colour, look["white"], look["paint"] * white)
    colour = blend(colour, look["yellow"], look["paint"] * yellow)
    kind = np.where(road >= 0.5, PixelClass.ROAD, PixelClass.TERRAIN)
    return colour, np.where(np.maximum(white, yellow) >= 0.5, PixelClass.MARKING, kind)


def _paint_share(code: ndarray, offset: ndarray, moves: list[ndarray]) -> ndarray:
    """Covered share of a cell's marking, `offset` [m] from the cell's centre."""
    heading = (code[:, 2] & (HEADING_STEPS - 1)) / HEADING_STEPS * math.pi
    along = np.stack([np.cos(heading), np.sin(heading)], -1)
    across = np.stack([-along[:, 1], along[:, 0]], -1)

    def extent(direction: ndarray) -> ndarray:
        return np.maximum(sum(np.abs((direction * move).sum(-1)) for move in moves), MIN_FOOTPRINT)

    c = (code[:, 0] - 128) / 127
    distance = PAINT_RANGE * c * np.abs(c) + (across * offset).sum(-1)
    phase = code[:, 1] & SOLID
    half = np.where(phase == WIDE, WIDE_HALF_WIDTH, LINE_HALF_WIDTH)
    share = np.where(np.abs(c) < 1, _coverage(np.abs(distance), half, extent(across)), 0.0)
    s = ((phase + 0.5) / PHASE_STEPS - 0.5) * DASH_PERIOD + (along * offset).sum(-1)
    dash = _coverage(np.abs(s), DASH_LENGTH / 2, extent(along))
    merged = np.clip((extent(along) - DASH_LENGTH) / (DASH_PERIOD - DASH_LENGTH), 0, 1)
    dash = dash + merged * (DASH_LENGTH / DASH_PERIOD - dash)
    return np.where(phase >= WIDE, share, share * dash)


def _box_paint(
    kind: int,
    face: int,
    a: ndarray,
    b: ndarray,
    half_a: float,
    half_b: float,
    wide: ndarray,
    high: ndarray,
    body: ndarray,
    light: float,
) -> ndarray:
    """Colours on a face: front, rear (a to the left, b up), left, right (a forward, b up), top, bottom.

    `wide` and `high` are the pixel's footprint along a and b [m].
    """

    colour = np.tile(body * light, (len(a), 1))
    for decal in decals_on(kind, face):
        tint = body if decal.body else np.array(decal.tint) * (light if decal.lit else 1.0)
        at = np.abs(a) if decal.mirrored else a
        share = decal.opacity * _coverage(np.abs(at - decal.a[0] * half_a), decal.a[1] * half_a, wide)
        share = share * _coverage(np.abs(b - decal.b[0] * half_b), decal.b[1] * half_b, high)
        colour = colour + share[:, None] * (tint - colour)
    return colour
