"""Numba kernels of `paths`, in single precision and in its order of operations. Imported lazily."""

from __future__ import annotations

import math
from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.kernels import inner, njit
from countersteer.worlds.simulation.scenes import PATH_SPACING

__all__ = ["point_at", "route_points", "wrap"]

F = np.float32
PI = F(math.pi)


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def wrap(angle):
    """`wrap_angle` of a float32."""
    return angle - F(2.0) * PI * np.floor((angle + PI) / (F(2.0) * PI))


@inner
@no_type_check
def point_at(path, length, scene, agent, arc, offset):
    """Point x, y [m], heading [rad] and curvature [1/m] of one path.

    Args:
        path, length: Of `SceneBank`, whole: a slice counts references, atomically.
        scene, agent: Whose path.
        arc: Where; before its ends the path goes straight on.
        offset: How far to the left [m].
    """
    points = path.shape[2]
    bounded = min(max(arc, F(0.0)), length[scene, agent] - F(1e-3))
    base = np.floor(bounded / F(PATH_SPACING))
    part = bounded / F(PATH_SPACING) - base
    at = int(base)
    low, high = min(max(at, 0), points - 1), min(max(at + 1, 0), points - 1)
    x = path[scene, agent, low, 0] * (F(1.0) - part) + path[scene, agent, high, 0] * part
    y = path[scene, agent, low, 1] * (F(1.0) - part) + path[scene, agent, high, 1] * part
    heading = path[scene, agent, low, 2] * (F(1.0) - part) + path[scene, agent, high, 2] * part
    bend = path[scene, agent, low, 3] * (F(1.0) - part) + path[scene, agent, high, 3] * part
    beyond = arc - bounded
    # Most points lie on the path itself, where no direction is needed. NaN is not zero.
    if beyond != F(0.0) or offset != F(0.0):
        cos, sin = math.cos(heading), math.sin(heading)
        x += beyond * cos
        y += beyond * sin
        x -= offset * sin
        y += offset * cos
        bend = bend / max(F(1.0) - offset * bend, F(0.2))
    return x, y, wrap(heading), bend


@njit(nogil=True, error_model="numpy", parallel=True)
@no_type_check
def route_points(paths, lengths, scenes, arcs, offsets, position, heading, curvature):
    """Write what `paths.route_at` returns; arguments as there, as arrays."""
    worlds, agents, points = arcs.shape
    for world in nb.prange(worlds):
        scene = scenes[world]
        for agent in range(agents):
            offset = offsets[world, agent]
            for k in range(points):
                x, y, course, bend = point_at(paths, lengths, scene, agent, arcs[world, agent, k], offset)
                position[world, agent, k, 0], position[world, agent, k, 1] = x, y
                heading[world, agent, k], curvature[world, agent, k] = course, bend
