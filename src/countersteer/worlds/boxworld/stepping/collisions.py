"""Who runs into whom, in numba: a hashed grid finds the neighbours, separating axes decide. Imported lazily.

The cells of the grid are as wide as the two largest boxes reach, so a car looks into nine of them at most, however many
actors there are. Cells are hashed into a table of twice as many places as actors; what else a place
holds fails the test of circles. The specification is `boxes.overlap` of every car with every actor, in `reference.collisions`.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.worlds.boxworld.compiled import inner

__all__ = ["fill_grid", "first_hit", "first_hits", "overlap", "table_size"]

F = np.float32
_EAST, _NORTH = 73_856_093, 19_349_663  # large primes, as usual for hashed grids (Teschner et al. 2003)


@nb.njit(inline="always")
@no_type_check
def table_size(actors):
    """Places of the table for so many actors, a power of two."""
    size = 4
    while size < 2 * actors:
        size *= 2
    return size


@inner
@no_type_check
def fill_grid(poses, there, sizes, present, w, scene, first, next_one):
    """Sort the actors of a world into the grid; returns the side of its cells [m].

    Args:
        poses, there: Of `BoxWorldState`: box centres and headings, and whether they are in the world.
        sizes, present: Of `SceneBank`.
        w, scene: Which.
        first: Written: for each place of the table its first actor, -1 if there is none.
        next_one: Written: for each actor the next one of its place, a higher number, or -1.
    """
    actors = poses.shape[1]
    reach = F(0.5)
    for n in range(actors):
        if there[w, n] and present[scene, n]:
            reach = max(reach, (sizes[scene, n, 0] + sizes[scene, n, 1]) / F(2.0))
    side = F(2.0) * reach
    for k in range(len(first)):
        first[k] = -1
    for n in range(actors - 1, -1, -1):
        x, y = poses[w, n, 0], poses[w, n, 1]
        sound = math.isfinite(x) and math.isfinite(y) and math.isfinite(poses[w, n, 2])
        if sound and there[w, n] and present[scene, n]:
            place = _place(int(np.floor(x / side)), int(np.floor(y / side)), len(first))
            next_one[n] = first[place]
            first[place] = n
    return side


@nb.njit(inline="always")
@no_type_check
def _place(col, row, places):
    return ((col * _EAST) ^ (row * _NORTH)) & (places - 1)


@inner
@no_type_check
def first_hit(poses, sizes, w, scene, a, side, first, next_one):
    """The lowest number of an actor whose box overlaps that of car `a`, or -1; touching counts as apart."""
    x, y, heading = poses[w, a, 0], poses[w, a, 1], poses[w, a, 2]
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(heading)):
        return -1
    cos, sin = math.cos(heading), math.sin(heading)
    length, width = sizes[scene, a, 0], sizes[scene, a, 1]
    reach = (length + width) / F(2.0)  # no less than half the diagonal
    far = reach + side / F(2.0)
    west, east = int(np.floor((x - far) / side)), int(np.floor((x + far) / side))
    south, north = int(np.floor((y - far) / side)), int(np.floor((y + far) / side))
    none = poses.shape[1]
    best = none
    for row in range(south, north + 1):
        for col in range(west, east + 1):
            n = first[_place(col, row, len(first))]
            while n >= 0 and n < best:
                if n != a and overlap(poses, sizes, w, scene, n, x, y, heading, cos, sin, length, width):
                    best = n
                n = next_one[n]
    return best if best < none else -1


@inner
@no_type_check
def overlap(poses, sizes, w, scene, n, x, y, heading, cos, sin, length, width):
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


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
@no_type_check
def first_hits(poses, there, sizes, present, scenes, found):
    """Write for each car, the first slots, what `first_hit` says; arguments as in `fill_grid`.

    Args:
        poses, there, sizes, present: See `fill_grid`.
        scenes: Of each world.
        found: int64 `world agent`, written.
    """
    actors = poses.shape[1]
    for w in nb.prange(len(scenes)):
        first, next_one = np.empty(table_size(actors), np.int32), np.empty(actors, np.int32)
        side = fill_grid(poses, there, sizes, present, w, scenes[w], first, next_one)
        for a in range(found.shape[1]):
            found[w, a] = first_hit(poses, sizes, w, scenes[w], a, side, first, next_one)
