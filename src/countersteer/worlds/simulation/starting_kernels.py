"""Drives that begin, in numba: to the bit the same as the PyTorch of `starting`, in its order of operations. Imported lazily.

Cosines and sines come from outside: PyTorch's own differ from those of a kernel in the last bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple, no_type_check

import numba as nb
import numpy as np
from numpy import ndarray

from countersteer.geometry.boxes import REAR_AXLE_SHARE
from countersteer.kernels import inner, njit
from countersteer.worlds.observations import Command
from countersteer.worlds.simulation.paths import WINDOW
from countersteer.worlds.simulation.scenes import PATH_SPACING

__all__ = ["Begun", "Drawn", "Jitter", "draw_scenes", "finish", "look_ahead", "nearest", "place_starts"]

F = np.float32
PI = F(math.pi)
TURN = F(2 * math.pi)
LEFT, RIGHT, FOLLOW = int(Command.LEFT), int(Command.RIGHT), int(Command.FOLLOW)
FIRST, LAST = WINDOW


class Jitter(NamedTuple):
    """Numbers of `StartSpec`; `on` is 0 for starts as recorded."""

    on: int
    lateral: float
    heading: float
    speed: float
    slowest: float
    span: float
    first_tick: int
    ticks: int
    share: float


class Drawn(NamedTuple):
    """Fields of `RoadStarts` that `place_starts` writes."""

    position: ndarray
    heading: ndarray
    speed: ndarray
    set_speed: ndarray
    command: ndarray
    command_tick: ndarray


class Begun(NamedTuple):
    """Fields of `RoadState` that `finish` writes; the actors hold what was recorded of them."""

    curvature: ndarray
    commands: ndarray
    delay: ndarray
    curvature_gain: ndarray
    curvature_bias: ndarray
    acceleration_gain: ndarray
    lateral: ndarray
    heading_error: ndarray
    path_offset: ndarray
    speed_history: ndarray
    yaw_history: ndarray
    actor: ndarray
    actor_speed: ndarray
    actor_there: ndarray


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _wrap(angle):
    """`wrap_angle` with the remainder as PyTorch takes it."""
    left = np.fmod(angle + PI, TURN)
    if left < F(0.0):
        left += TURN
    wrapped = left - PI
    return wrapped if wrapped < PI else wrapped - TURN


@njit(nogil=True, error_model="numpy")
@no_type_check
def draw_scenes(numbers, ticks, duration, scene, tick):
    """Write a random scene and a random tick in it, `duration` ticks before its end where it is that long."""
    for w in range(len(scene)):
        scene[w] = min(int(numbers[w, 0] * F(len(ticks))), len(ticks) - 1)
        spare = max(ticks[scene[w]] - 1 - duration, 0)
        tick[w] = int(numbers[w, 1] * F(spare + 1))


@njit(nogil=True, error_model="numpy")
@no_type_check
def place_starts(jitter, numbers, scenes, poses, cos, sin, logged, size, left, right, cruise, drawn):
    """Write `drawn` from the recorded poses and speeds of the cars, and 7 numbers of each."""
    worlds, agents = logged.shape
    for w in range(worlds):
        scene = scenes[w]
        to_left, to_right = not math.isnan(left[scene]), not math.isnan(right[scene])
        for a in range(agents):
            sideways = F(2.0) * numbers[w, a, 0] - F(1.0)
            turned = F(2.0) * numbers[w, a, 1] - F(1.0)
            faster = F(2.0) * numbers[w, a, 3] - F(1.0)
            x, y = -(size[scene, a, 0] * F(REAR_AXLE_SHARE)), F(jitter.lateral) * sideways
            c, s = cos[w, a], sin[w, a]
            drawn.position[w, a, 0] = (c * x - s * y) + poses[w, a, 0]
            drawn.position[w, a, 1] = (s * x + c * y) + poses[w, a, 1]
            drawn.heading[w, a] = _wrap(poses[w, a, 2] + F(jitter.heading) * turned)
            factor = F(jitter.slowest)
            if jitter.on:
                factor = F(jitter.slowest) + F(jitter.span) * numbers[w, a, 2]
            drawn.speed[w, a] = logged[w, a] * factor * (F(1.0) + F(jitter.speed) * faster)
            drawn.set_speed[w, a] = cruise[scene, a] * factor
            drawn.command[w, a], drawn.command_tick[w, a] = FOLLOW, -1
            if jitter.on and (to_left or to_right) and numbers[w, a, 6] < F(jitter.share):
                leftward = numbers[w, a, 4] < F(0.5) if to_left and to_right else to_left
                drawn.command[w, a] = LEFT if leftward else RIGHT
                drawn.command_tick[w, a] = jitter.first_tick + int(numbers[w, a, 5] * F(jitter.ticks))


@inner
@no_type_check
def _distance(path, scene, a, index, x, y):
    dx, dy = path[scene, a, index, 0] - x, path[scene, a, index, 1] - y
    return dx * dx + dy * dy


@njit(nogil=True, error_model="numpy")
@no_type_check
def nearest(path, path_length, path_arc, scenes, ticks, position, arc, row):
    """Write the path point nearest each car: its arc, and what is stored of it (`world agent 4`).

    A path may pass a place more than once; where the recording knows which time it is, it is looked for around there.
    """
    points = path.shape[2]
    for w in range(len(scenes)):
        scene = scenes[w]
        for a in range(position.shape[1]):
            x, y = position[w, a, 0], position[w, a, 1]
            last = int(path_length[scene, a] / F(PATH_SPACING))
            known = path_arc[scene, a, ticks[w]]
            begin, count = 0, points
            if not math.isnan(known):
                begin, count = int(known / F(PATH_SPACING)) + FIRST, LAST - FIRST
            best, at = F(np.inf), 0
            for k in range(count):
                index = k
                if not math.isnan(known):
                    index = min(max(min(begin + k, last), 0), points - 1)
                distance = _distance(path, scene, a, index, x, y)
                if distance < best:
                    best, at = distance, k
            index = max(min(begin + at, last), 0)
            arc[w, a] = F(index) * F(PATH_SPACING)
            stored = at if math.isnan(known) else min(index, points - 1)
            for k in range(4):
                row[w, a, k] = path[scene, a, stored, k]


@njit(nogil=True, error_model="numpy")
@no_type_check
def look_ahead(path, path_length, scenes, position, cos, sin, arc, row):
    """Move `arc` and `row` on from the nearest point, whose direction is given, to the place beside the car.

    Then `row` holds place, unwrapped and wrapped heading, curvature, and how far beyond the path's ends it is (`world agent 6`).
    """
    points = path.shape[2]
    for w in range(len(scenes)):
        scene = scenes[w]
        for a in range(arc.shape[1]):
            dx, dy = position[w, a, 0] - row[w, a, 0], position[w, a, 1] - row[w, a, 1]
            c, s = cos[w, a], -sin[w, a]
            along = (c * dx - s * dy) / max(F(1.0) - (s * dx + c * dy) * row[w, a, 3], F(0.2))
            there = arc[w, a] + along
            bounded = min(max(there, F(0.0)), path_length[scene, a] - F(1e-3))
            base = np.floor(bounded / F(PATH_SPACING))
            part = bounded / F(PATH_SPACING) - base
            low = min(max(int(base), 0), points - 1)
            high = min(max(int(base) + 1, 0), points - 1)
            arc[w, a] = there
            for k in range(4):
                here, next_ = path[scene, a, low, k], path[scene, a, high, k]
                row[w, a, k] = here * (F(1.0) - part) + next_ * part
            row[w, a, 5], row[w, a, 4] = there - bounded, row[w, a, 3]
            row[w, a, 3] = _wrap(row[w, a, 2])


@inner
@no_type_check
def _finish_car(
    size, left, right, scene, position, heading, speed, command, command_tick, row, cos, sin, b, w, a
):
    x, y = position[w, a, 0], position[w, a, 1]
    beyond, bend = row[w, a, 5], row[w, a, 4]
    dx = x - (row[w, a, 0] + beyond * cos[w, a, 0])
    dy = y - (row[w, a, 1] + beyond * sin[w, a, 0])
    lateral = -sin[w, a, 1] * dx + cos[w, a, 1] * dy
    offset = F(0.0)
    if command_tick[w, a] == 0 and command[w, a] != FOLLOW:
        target = left[scene] if command[w, a] == LEFT else right[scene]
        if not math.isnan(target):
            offset = target
    b.lateral[w, a], b.path_offset[w, a] = lateral + F(0.0) - offset, offset
    b.heading_error[w, a] = _wrap(heading[w, a] - row[w, a, 3])
    b.curvature[w, a] = bend
    for k in range(b.commands.shape[2]):
        b.commands[w, a, k, 0], b.commands[w, a, k, 1] = bend, F(0.0)
    for k in range(b.speed_history.shape[2]):
        b.speed_history[w, a, k], b.yaw_history[w, a, k] = speed[w, a], speed[w, a] * bend
    ahead = size[scene, a, 0] * F(REAR_AXLE_SHARE)
    c, s = cos[w, a, 2], sin[w, a, 2]
    b.actor[w, a, 0] = (c * ahead - s * F(0.0)) + x
    b.actor[w, a, 1] = (s * ahead + c * F(0.0)) + y
    b.actor[w, a, 2] = heading[w, a]
    b.actor_speed[w, a] = speed[w, a]


@njit(nogil=True, error_model="numpy")
@no_type_check
def finish(
    vehicle,
    numbers,
    size,
    left,
    right,
    scenes,
    position,
    heading,
    speed,
    command,
    command_tick,
    alive,
    remove_done_agents,
    row,
    cos,
    sin,
    begun,
):
    """Write `begun`.

    Args:
        vehicle: Lower ends and spans of what `VehicleSpec` draws.
        numbers: To draw it by, `world agent 4`.
        size, left, right: Of `SceneBank`.
        scenes to command_tick: Of `RoadStarts`.
        alive: Which cars begin.
        remove_done_agents: Whether only they are there.
        row: Of `look_ahead`.
        cos, sin: Of the path's unwrapped and wrapped heading and of the car's, `world agent 3`.
    """
    for w in range(len(scenes)):
        scene = scenes[w]
        for a in range(heading.shape[1]):
            begun.delay[w, a] = F(vehicle[0][0]) + numbers[w, a, 0] * F(vehicle[0][1])
            begun.curvature_gain[w, a] = F(vehicle[1][0]) + numbers[w, a, 1] * F(vehicle[1][1])
            begun.curvature_bias[w, a] = F(vehicle[2][0]) + numbers[w, a, 2] * F(vehicle[2][1])
            begun.acceleration_gain[w, a] = F(vehicle[3][0]) + numbers[w, a, 3] * F(vehicle[3][1])
            begun.actor_there[w, a] = alive[w, a] or not remove_done_agents
            _finish_car(
                size,
                left,
                right,
                scene,
                position,
                heading,
                speed,
                command,
                command_tick,
                row,
                cos,
                sin,
                begun,
                w,
                a,
            )
