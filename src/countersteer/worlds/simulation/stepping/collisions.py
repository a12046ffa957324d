"""Who runs into whom, in numba: circles first, then separating axes. Imported lazily.

Every car is held against every actor. A hashed grid was tried; it pays above 115 actors only, see docs/log/2026-11-21-speed.md. The
specification is `boxes.overlap` of every car with every actor, in `reference.collisions`.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.kernels import inner, njit

__all__ = ["first_hit", "first_hits"]

F = np.float32


@inner
@no_type_check
def first_hit(poses, there, sizes, present, w, scene, a, begin):
    """The lowest number from `begin` on of an actor whose box overlaps that of car `a` in the plane, or -1; touching counts as apart.

    A box that is not at a finite pose overlaps nothing: no comparison with NaN holds.

    Args:
        poses, there: Of `BoxWorldState`: box centres and headings, and whether they are in the world.
        sizes, present: Of `SceneBank`.
        w, scene, a: Which world, its scene, which car.
    """
    x, y, heading = poses[w, a, 0], poses[w, a, 1], poses[w, a, 2]
    cos, sin = math.cos(heading), math.sin(heading)
    length, width = sizes[scene, a, 0], sizes[scene, a, 1]
    for n in range(begin, poses.shape[1]):
        if (
            n != a
            and there[w, n]
            and present[scene, n]
            and _overlap(poses, sizes, w, scene, n, x, y, heading, cos, sin, length, width)
        ):
            return n
    return -1


@inner
@no_type_check
def _overlap(poses, sizes, w, scene, n, x, y, heading, cos, sin, length, width):
    """`boxes.overlap` of a box with that of actor `n`: circles first, then separating axes."""
    dx, dy = poses[w, n, 0] - x, poses[w, n, 1] - y
    other_length, other_width = sizes[scene, n, 0], sizes[scene, n, 1]
    far = (length + width + other_length + other_width) / F(2.0)
    if dx * dx + dy * dy >= far * far:
        return False
    turn = poses[w, n, 2] - heading
    c, s = abs(math.cos(turn)), abs(math.sin(turn))
    if abs(cos * dx + sin * dy) >= (length + other_length * c + other_width * s) / F(2.0):
        return False
    if abs(cos * dy - sin * dx) >= (width + other_length * s + other_width * c) / F(2.0):
        return False
    cos, sin = math.cos(poses[w, n, 2]), math.sin(poses[w, n, 2])
    if abs(cos * dx + sin * dy) >= (other_length + length * c + width * s) / F(2.0):
        return False
    return abs(cos * dy - sin * dx) < (other_width + length * s + width * c) / F(2.0)


@njit(nogil=True, error_model="numpy", parallel=True)
@no_type_check
def first_hits(poses, there, sizes, present, scenes, found):
    """Write for each car, the first slots, what `first_hit` says; `found` is int64 `world agent`."""
    for w in nb.prange(len(scenes)):
        for a in range(found.shape[1]):
            found[w, a] = first_hit(poses, there, sizes, present, w, scenes[w], a, 0)
