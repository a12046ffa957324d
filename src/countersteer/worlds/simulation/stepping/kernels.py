"""A tick of the boxworld in numba: one fused function a world, worlds in parallel.

The same as `reference`, in single precision and in its order of operations, without its temporaries: what
costs there is memory, a dozen passes over `[world, car, actor]`. Imported lazily.
"""

from __future__ import annotations

import math
from typing import NamedTuple, no_type_check

import numba as nb
import numpy as np
from numpy import ndarray

from countersteer.geometry.boxes import REAR_AXLE_SHARE
from countersteer.kernels import inner, njit
from countersteer.scenarios.scenario import SignalState
from countersteer.vehicles.jerk import SLOW
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.observations import Command
from countersteer.worlds.simulation.constants import LEAD_RANGE
from countersteer.worlds.simulation.ground import DIRECTION_RESOLUTION, EDGE_STEP, TILE, TILE_SIDE
from countersteer.worlds.simulation.paths import WINDOW
from countersteer.worlds.simulation.paths_kernels import point_at, wrap
from countersteer.worlds.simulation.scenes import PATH_SPACING
from countersteer.worlds.simulation.stepping.collisions import first_hit
from countersteer.worlds.simulation.stepping.reference import COMFORT

__all__ = ["Found", "Ground", "Scenes", "Settings", "State", "advance"]

F = np.float32
STOP = int(SignalState.STOP)
LEFT, FOLLOW = int(Command.LEFT), int(Command.FOLLOW)
NONE, TIME = int(TerminationReason.NONE), int(TerminationReason.TIME)
GOAL, WRONG_WAY, LOST, RED_LIGHT = (
    int(c)
    for c in (
        TerminationReason.GOAL,
        TerminationReason.WRONG_WAY,
        TerminationReason.OFF_ROUTE,
        TerminationReason.RED_LIGHT,
    )
)
OFF_ROAD, COLLISION, NUMERIC = (
    int(TerminationReason.OFF_ROAD),
    int(TerminationReason.COLLISION),
    int(TerminationReason.INVALID_STATE),
)
BRAKING, ACCELERATION, LATERAL, YAW_RATE, YAW_ACCELERATION, JERK = (F(value) for value in COMFORT.values())
FIRST, LAST = WINDOW
REPLAY, IDM_DRIVES, MOVED = 0, 1, 2


class Settings(NamedTuple):
    """Numbers of `RoadSettings`.

    `by_jerk` is 1 where actions are jerks, `traffic` is REPLAY, IDM_DRIVES or MOVED (`after` already holds where), `terminate` has bit c for cause c.
    """

    dt: float
    most_curvature: float
    most_curvature_rate: float
    most_lateral: float
    most_braking: float
    most_acceleration: float
    by_jerk: int
    jerk_braking: float
    jerk_acceleration: float
    jerk_lateral: float
    traffic: int
    idm_standstill: float
    idm_headway: float
    idm_acceleration: float
    idm_braking: float
    idm_hardest: float
    command_duration: float
    duration_ticks: int
    max_route_deviation: float
    max_heading_error: float
    terminate: int
    remove_done_agents: int


class Scenes(NamedTuple):
    """Fields of `SceneBank`."""

    pose: ndarray
    speed: ndarray
    top_speed: ndarray
    valid: ndarray
    arc: ndarray
    z: ndarray
    size: ndarray
    movable: ndarray
    tow: ndarray
    present: ndarray
    ticks: ndarray
    path: ndarray
    path_z: ndarray
    path_length: ndarray
    left_offset: ndarray
    right_offset: ndarray
    stop_point: ndarray
    stop_heading: ndarray
    light: ndarray


class Ground(NamedTuple):
    """Fields of `GroundBank`."""

    cells: ndarray
    tile: ndarray
    tile_start: ndarray
    cell_shape: ndarray
    origin: ndarray
    resolution: ndarray
    direction_bits: ndarray
    direction_start: ndarray
    direction_shape: ndarray


class State(NamedTuple):
    """Fields of `BoxWorldState` that a tick reads or writes."""

    scene: ndarray
    tick: ndarray
    age: ndarray
    position: ndarray
    heading: ndarray
    speed: ndarray
    curvature: ndarray
    acceleration: ndarray
    commands: ndarray
    delay: ndarray
    curvature_gain: ndarray
    curvature_bias: ndarray
    acceleration_gain: ndarray
    arc: ndarray
    lateral: ndarray
    heading_error: ndarray
    goal_arc: ndarray
    path_offset: ndarray
    command: ndarray
    command_tick: ndarray
    speed_history: ndarray
    yaw_history: ndarray
    alive: ndarray
    cause: ndarray
    actor: ndarray
    actor_speed: ndarray
    actor_arc: ndarray
    actor_there: ndarray


class Found(NamedTuple):
    """Fields of `Events`."""

    terminated: ndarray
    truncated: ndarray
    cause: ndarray
    collision: ndarray
    collided_with: ndarray
    off_road: ndarray
    red_light: ndarray
    wrong_way: ndarray
    uncomfortable: ndarray


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _clip(x, low, high):
    return min(max(x, low), high)


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _add(before, change, low, high):
    after = _clip(before + change, low, high)
    return F(0.0) if before * after < F(0.0) else after


@inner
@no_type_check
def _jerk_command(settings, before, w, a, lateral, longitudinal):
    """`jerk.command` for one car: curvature and acceleration."""
    dt, speed = F(settings.dt), before.speed[w, a]
    bend, push = before.commands[w, a, 0, 0], before.commands[w, a, 0, 1]
    if speed <= F(0.0):
        push = max(push, F(0.0))
    push = _add(push, longitudinal * dt, F(-settings.jerk_braking), F(settings.jerk_acceleration))
    now, soon = max(speed, F(SLOW)), max(speed + push * dt, F(SLOW))
    most = F(settings.jerk_lateral)
    wanted = _add(bend * (now * now), lateral * dt, -most, most) / (soon * soon)
    wanted = _clip(wanted, F(-settings.most_curvature), F(settings.most_curvature))
    most = F(settings.most_curvature_rate * settings.dt)
    return bend + _clip(wanted - bend, -most, most), push


@inner
@no_type_check
def _move_car(settings, before, after, w, a, curvature, acceleration):
    """`bicycle.step` for one car."""
    dt = F(settings.dt)
    queue = before.commands.shape[2]
    for k in range(queue - 1, 0, -1):
        after.commands[w, a, k, 0] = before.commands[w, a, k - 1, 0]
        after.commands[w, a, k, 1] = before.commands[w, a, k - 1, 1]
    after.commands[w, a, 0, 0], after.commands[w, a, 0, 1] = curvature, acceleration
    late = _clip(before.delay[w, a] / dt, F(0.0), F(queue - 1.001))
    whole = int(late)
    part = late - F(whole)
    commands = after.commands[w, a]
    wanted = commands[whole, 0] * (F(1.0) - part) + commands[whole + 1, 0] * part
    push = commands[whole, 1] * (F(1.0) - part) + commands[whole + 1, 1] * part

    push = _clip(
        push * before.acceleration_gain[w, a], F(-settings.most_braking), F(settings.most_acceleration)
    )
    was = before.speed[w, a]
    speed = max(was + push * dt, F(0.0))
    moving = dt
    if push < F(0.0):
        moving = min(was / max(-push, F(1e-6)), dt)
    distance = (was + speed) / F(2.0) * moving

    bound = min(
        F(settings.most_lateral) / (max(speed, F(1.0)) * max(speed, F(1.0))), F(settings.most_curvature)
    )
    wanted = _clip(wanted * before.curvature_gain[w, a] + before.curvature_bias[w, a], -bound, bound)
    old = before.curvature[w, a]
    most = F(settings.most_curvature_rate * settings.dt)
    bend = old + _clip(wanted - old, -most, most)

    half = (old + bend) / F(4.0) * distance
    middle = before.heading[w, a] + half
    chord = distance * (math.sin(half) / half if half != F(0.0) else F(1.0))
    after.position[w, a, 0] = before.position[w, a, 0] + chord * math.cos(middle)
    after.position[w, a, 1] = before.position[w, a, 1] + chord * math.sin(middle)
    after.heading[w, a] = wrap(before.heading[w, a] + F(2.0) * half)
    after.speed[w, a] = speed
    after.curvature[w, a] = bend
    after.acceleration[w, a] = (speed - was) / dt


@inner
@no_type_check
def _hold_car(before, after, w, a):
    for k in range(2):
        after.position[w, a, k] = before.position[w, a, k]
    after.heading[w, a] = before.heading[w, a]
    after.speed[w, a] = before.speed[w, a]
    after.curvature[w, a] = before.curvature[w, a]
    after.acceleration[w, a] = before.acceleration[w, a]
    for k in range(before.commands.shape[2]):
        after.commands[w, a, k, 0] = before.commands[w, a, k, 0]
        after.commands[w, a, k, 1] = before.commands[w, a, k, 1]


@inner
@no_type_check
def _height(scenes, state, w, scene, n):
    """`state.heights_now` of one actor."""
    if n < state.arc.shape[1]:
        last = int(scenes.path_length[scene, n] / F(PATH_SPACING))
        at = int(np.round(state.arc[w, n] / F(PATH_SPACING)))
        return scenes.path_z[scene, n, max(min(at, last), 0)]
    arcs, arc = scenes.arc[scene, n], state.actor_arc[w, n]
    low, high = 0, len(arcs)
    while low < high:
        middle = (low + high) // 2
        if arcs[middle] < arc:
            low = middle + 1
        else:
            high = middle
    return scenes.z[scene, n, min(low, len(arcs) - 1)]


@inner
@no_type_check
def _above(settings, scenes, state, w, scene, n, m):
    """Whether there is air between two boxes, one above the other."""
    if scenes.z.shape[2] == 0 or settings.traffic == MOVED:
        return False
    gap = abs(_height(scenes, state, w, scene, n) - _height(scenes, state, w, scene, m))
    return gap > (scenes.size[scene, n, 2] + scenes.size[scene, m, 2]) / F(2.0)


@inner
@no_type_check
def _lead(settings, scenes, before, w, scene, n):
    """Gap to the next actor ahead of one that traffic drives, and its speed along the same way."""
    actors = before.actor.shape[1]
    heading = before.actor[w, n, 2]
    cos, sin = math.cos(heading), math.sin(heading)
    x, y = before.actor[w, n, 0], before.actor[w, n, 1]
    length, width = scenes.size[scene, n, 0], scenes.size[scene, n, 1]
    gap, lead = F(np.inf), 0
    for m in range(actors):
        dx, dy = before.actor[w, m, 0] - x, before.actor[w, m, 1] - y
        forward, left = cos * dx + sin * dy, cos * dy - sin * dx
        bumper = forward - (length + scenes.size[scene, m, 0]) / F(2.0)
        near = abs(left) < (width + scenes.size[scene, m, 1]) / F(2.0) + F(0.2)
        ahead = near and forward > F(0.5) and bumper < F(LEAD_RANGE) and before.actor_there[w, m]
        ahead = ahead and scenes.tow[scene, m] != scenes.tow[scene, n]
        if ahead and bumper < gap and not _above(settings, scenes, before, w, scene, n, m):
            gap, lead = bumper, m
    speed = F(0.0)
    if gap < F(np.inf):
        speed = max(before.actor_speed[w, lead] * math.cos(before.actor[w, lead, 2] - heading), F(0.0))
    for k in range(scenes.stop_point.shape[1]):
        if scenes.light[scene, k, before.tick[w]] != STOP:
            continue
        dx, dy = scenes.stop_point[scene, k, 0] - x, scenes.stop_point[scene, k, 1] - y
        distance = cos * dx + sin * dy - length / F(2.0)
        # A light of unknown direction (NaN) is nobody's but of those who come to its stop point.
        turned = math.cos(scenes.stop_heading[scene, k] - heading) <= F(0.7)
        if not turned and abs(cos * dy - sin * dx) < F(2.0) and distance > F(0.0) and distance < gap:
            gap, speed = distance, F(0.0)
    return gap, speed


@inner
@no_type_check
def _drives(scenes, before, w, scene, n):
    """Who decides where an actor goes that IDM drives: its tractor, if IDM drives that too."""
    m = scenes.tow[scene, n]
    driven = m >= before.arc.shape[1] and scenes.movable[scene, m] and before.actor_there[w, m]
    return m if driven else n


@inner
@no_type_check
def _drive_actor(settings, scenes, before, after, w, scene, n):
    """One IDM tick along the line of the actor's own recording; what is towed is where it was when its tractor was where that is."""
    m = _drives(scenes, before, w, scene, n)
    gap, lead_speed = _lead(settings, scenes, before, w, scene, m)
    most, hardest = F(settings.idm_acceleration), F(settings.idm_hardest)
    comfortable = F(2.0 * math.sqrt(settings.idm_acceleration * settings.idm_braking))
    was = before.actor_speed[w, m]
    desired = max(scenes.top_speed[scene, m], F(1.0))
    closing = was * (was - lead_speed) / comfortable if gap < F(np.inf) else F(0.0)
    wanted = F(settings.idm_standstill) + max(was * F(settings.idm_headway) + closing, F(0.0))
    free = was / desired
    free = free * free * free * free
    press = wanted / max(gap, F(0.1))
    answer = _clip(most * (F(1.0) - free - press * press), -hardest, most)
    speed = max(was + answer * F(settings.dt), F(0.0))
    arc = before.actor_arc[w, m] + (was + speed) / F(2.0) * F(settings.dt)

    arcs = scenes.arc[scene, m]
    low, high = 0, len(arcs)
    while low < high:  # the first entry that is not below `arc`
        middle = (low + high) // 2
        if arcs[middle] < arc:
            low = middle + 1
        else:
            high = middle
    index = min(max(low, 1), len(arcs) - 1)
    span = max(arcs[index] - arcs[index - 1], F(1e-3))
    part = _clip((arc - arcs[index - 1]) / span, F(0.0), F(1.0))
    for k in range(3):
        here, there = scenes.pose[scene, n, index - 1, k], scenes.pose[scene, n, index, k]
        after.actor[w, n, k] = here * (F(1.0) - part) + there * part
    beyond = max(arc - arcs[-1], F(0.0))
    after.actor[w, n, 0] += beyond * math.cos(after.actor[w, n, 2])
    after.actor[w, n, 1] += beyond * math.sin(after.actor[w, n, 2])
    after.actor_speed[w, n] = speed
    after.actor_arc[w, n] = arc


@inner
@no_type_check
def _move_traffic(settings, scenes, before, after, w, scene, running):
    tick = after.tick[w]
    for n in range(before.actor.shape[1]):
        if not running:
            for k in range(3):
                after.actor[w, n, k] = before.actor[w, n, k]
            after.actor_speed[w, n] = before.actor_speed[w, n]
            after.actor_arc[w, n] = before.actor_arc[w, n]
            after.actor_there[w, n] = before.actor_there[w, n]
        elif settings.traffic == MOVED:
            continue
        elif settings.traffic == IDM_DRIVES and scenes.movable[scene, n] and before.actor_there[w, n]:
            _drive_actor(settings, scenes, before, after, w, scene, n)
            after.actor_there[w, n] = True
        else:
            for k in range(3):
                after.actor[w, n, k] = scenes.pose[scene, n, tick, k]
            after.actor_speed[w, n] = scenes.speed[scene, n, tick]
            after.actor_arc[w, n] = scenes.arc[scene, n, tick]
            after.actor_there[w, n] = scenes.valid[scene, n, tick]


@inner
@no_type_check
def _locate(scenes, before, after, w, scene, a):
    """`paths.project_to_route` near the last arc; the command of this tick moves the path afterwards."""
    path, points = scenes.path, scenes.path.shape[2]
    last = int(scenes.path_length[scene, a] / F(PATH_SPACING))
    begin = int(before.arc[w, a] / F(PATH_SPACING))
    x, y = after.position[w, a, 0], after.position[w, a, 1]
    best, at = F(np.inf), max(min(begin + FIRST, last), 0)
    for k in range(FIRST, LAST):
        index = min(max(min(begin + k, last), 0), points - 1)
        dx, dy = path[scene, a, index, 0] - x, path[scene, a, index, 1] - y
        distance = dx * dx + dy * dy
        if distance < best:
            best, at = distance, max(min(begin + k, last), 0)
    row = min(at, points - 1)
    cos, sin = math.cos(path[scene, a, row, 2]), math.sin(path[scene, a, row, 2])
    dx, dy = x - path[scene, a, row, 0], y - path[scene, a, row, 1]
    along = (cos * dx + sin * dy) / max(F(1.0) - (cos * dy - sin * dx) * path[scene, a, row, 3], F(0.2))
    arc = F(at) * F(PATH_SPACING) + along

    there_x, there_y, course, _ = point_at(path, scenes.path_length, scene, a, arc, F(0.0))
    cos, sin = math.cos(course), math.sin(course)
    after.arc[w, a] = arc
    after.lateral[w, a] = cos * (y - there_y) - sin * (x - there_x) - before.path_offset[w, a]
    after.heading_error[w, a] = wrap(after.heading[w, a] - course)


@inner
@no_type_check
def _give_command(scenes, before, after, w, scene, a):
    offset = before.path_offset[w, a]
    now = before.command_tick[w, a] >= 0 and after.age[w] == before.command_tick[w, a]
    if now and before.command[w, a] != FOLLOW:
        left = before.command[w, a] == LEFT
        target = scenes.left_offset[scene] if left else scenes.right_offset[scene]
        if not math.isnan(target):
            offset = target
    after.path_offset[w, a] = offset
    after.lateral[w, a] += before.path_offset[w, a] - offset


@inner
@no_type_check
def _place_car(scenes, after, w, scene, a, there):
    ahead = scenes.size[scene, a, 0] * F(REAR_AXLE_SHARE)
    heading = after.heading[w, a]
    after.actor[w, a, 0] = after.position[w, a, 0] + ahead * math.cos(heading)
    after.actor[w, a, 1] = after.position[w, a, 1] + ahead * math.sin(heading)
    after.actor[w, a, 2] = heading
    after.actor_speed[w, a] = after.speed[w, a]
    after.actor_there[w, a] = there


@inner
@no_type_check
def _edge_distance(ground, scene, x, y):
    """`GroundBank.edge_distance` of one point."""
    rows, cols = ground.cell_shape[scene, 0], ground.cell_shape[scene, 1]
    u = (x - ground.origin[scene, 0]) / ground.resolution[scene]
    v = (y - ground.origin[scene, 1]) / ground.resolution[scene]
    if not (u >= 0.0 and v >= 0.0 and u < cols and v < rows):
        return F(-1.0)
    u, v = _clip(u - 0.5, 0.0, cols - 1.0), _clip(v - 0.5, 0.0, rows - 1.0)
    col, row = min(int(u), cols - 2), min(int(v), rows - 2)
    share_x, share_y = F(u - col), F(v - row)
    tile_cols = (cols - 1) // TILE + 1
    tile = ground.tile[ground.tile_start[scene] + row // TILE * tile_cols + col // TILE]
    first = row % TILE * TILE_SIDE + col % TILE
    cells = ground.cells[tile]
    e00, e01 = F(cells[first, 3]), F(cells[first + 1, 3])
    e10, e11 = F(cells[first + TILE_SIDE, 3]), F(cells[first + TILE_SIDE + 1, 3])
    low, high = e00 + share_x * (e01 - e00), e10 + share_x * (e11 - e10)
    return (low + share_y * (high - low) - F(128.0)) * F(EDGE_STEP)


@inner
@no_type_check
def _off_road(scenes, ground, after, w, scene, a):
    heading = after.actor[w, a, 2]
    cos, sin = math.cos(heading), math.sin(heading)
    half_length, half_width = scenes.size[scene, a, 0] / F(2.0), scenes.size[scene, a, 1] / F(2.0)
    for forward in (-half_length, half_length):
        for left in (-half_width, half_width):
            x = after.actor[w, a, 0] + (cos * forward - sin * left)
            y = after.actor[w, a, 1] + (sin * forward + cos * left)
            if _edge_distance(ground, scene, np.float64(x), np.float64(y)) < F(0.0):
                return True
    return False


@inner
@no_type_check
def _wrong_way(ground, after, w, scene, a):
    rows, cols = ground.direction_shape[scene, 0], ground.direction_shape[scene, 1]
    u = (np.float64(after.position[w, a, 0]) - ground.origin[scene, 0]) / DIRECTION_RESOLUTION
    v = (np.float64(after.position[w, a, 1]) - ground.origin[scene, 1]) / DIRECTION_RESOLUTION
    if not (u >= 0.0 and v >= 0.0 and u < cols and v < rows):
        return False
    allowed = np.int64(ground.direction_bits[ground.direction_start[scene] + int(v) * cols + int(u)])
    sector = int(np.round(after.heading[w, a] / F(math.pi / 4)))
    same = 0
    for k in range(-2, 3):
        same += (allowed >> ((sector + k) % 8)) & 1
    return allowed != 0 and same == 0 and after.speed[w, a] > F(1.0)


@inner
@no_type_check
def _ran_light(scenes, before, after, w, scene, a):
    front = scenes.size[scene, a, 0] * F(REAR_AXLE_SHARE) + scenes.size[scene, a, 0] / F(2.0)
    for k in range(scenes.stop_point.shape[1]):
        if scenes.light[scene, k, before.tick[w]] != STOP:
            continue
        course = scenes.stop_heading[scene, k]
        if math.isnan(course):
            course = after.heading[w, a]
        if not math.cos(after.heading[w, a] - course) > F(0.5):
            continue
        cos, sin = math.cos(course), math.sin(course)
        stop_x, stop_y = scenes.stop_point[scene, k, 0], scenes.stop_point[scene, k, 1]
        was_x = before.position[w, a, 0] + front * math.cos(before.heading[w, a]) - stop_x
        was_y = before.position[w, a, 1] + front * math.sin(before.heading[w, a]) - stop_y
        now_x = after.position[w, a, 0] + front * math.cos(after.heading[w, a]) - stop_x
        now_y = after.position[w, a, 1] + front * math.sin(after.heading[w, a]) - stop_y
        ahead = cos * now_x + sin * now_y
        aside = cos * now_y - sin * now_x
        if cos * was_x + sin * was_y < F(0.0) and ahead >= F(0.0) and abs(aside) < F(2.0):
            return True
    return False


@inner
@no_type_check
def _uncomfortable(settings, before, after, w, a):
    dt = F(settings.dt)
    speed, acceleration = after.speed[w, a], after.acceleration[w, a]
    yaw_rate = speed * after.curvature[w, a]
    jerk = (acceleration - before.acceleration[w, a]) / dt
    yaw_acceleration = (yaw_rate - before.speed[w, a] * before.curvature[w, a]) / dt
    jerky = abs(jerk) > JERK or abs(yaw_acceleration) > YAW_ACCELERATION
    return (
        acceleration < BRAKING
        or acceleration > ACCELERATION
        or abs(speed * speed * after.curvature[w, a]) > LATERAL
        or abs(yaw_rate) > YAW_RATE
        or (jerky and after.age[w] > 1)
    )


@inner
@no_type_check
def _find_events(settings, scenes, ground, before, after, found, w, scene, a, finite, collided_with):
    """Events of one car that was still driving."""
    off_road = _off_road(scenes, ground, after, w, scene, a)
    wrong_way = _wrong_way(ground, after, w, scene, a)
    red_light = _ran_light(scenes, before, after, w, scene, a)

    lateral = after.lateral[w, a]
    origin = F(0.0)
    since = F(after.age[w] - before.command_tick[w, a]) * F(settings.dt)
    if before.command_tick[w, a] >= 0 and since >= F(0.0) and since < F(settings.command_duration):
        origin = -after.path_offset[w, a]
    beyond = max(lateral - max(origin, F(0.0)), min(origin, F(0.0)) - lateral)
    lost = beyond > F(settings.max_route_deviation) or abs(after.heading_error[w, a]) > F(
        settings.max_heading_error
    )
    goal = after.arc[w, a] > before.goal_arc[w, a] - F(5.0)
    there = math.isfinite(after.position[w, a, 0]) and math.isfinite(after.position[w, a, 1])
    numeric = not (finite and there)

    cause = NONE
    # The later ones outrank the earlier ones.
    for name, flag in (
        (GOAL, goal),
        (WRONG_WAY, wrong_way),
        (LOST, lost),
        (RED_LIGHT, red_light),
        (OFF_ROAD, off_road),
        (COLLISION, collided_with >= 0),
        (NUMERIC, numeric),
    ):
        if flag and (settings.terminate >> name) & 1:
            cause = name
    terminated = cause != NONE
    over = after.tick[w] >= scenes.ticks[scene] - 1 or after.age[w] >= settings.duration_ticks
    # Beyond the end of its route nothing was built, so nothing can be judged there.
    beyond_route = after.arc[w, a] >= scenes.path_length[scene, a]
    truncated = (over or beyond_route) and not terminated
    if truncated:
        cause = TIME if over else GOAL
    found.terminated[w, a], found.truncated[w, a] = terminated, truncated
    found.cause[w, a], found.collided_with[w, a] = cause, collided_with
    found.collision[w, a], found.off_road[w, a] = collided_with >= 0, off_road
    found.red_light[w, a], found.wrong_way[w, a] = red_light, wrong_way
    found.uncomfortable[w, a] = _uncomfortable(settings, before, after, w, a)
    after.alive[w, a] = not (terminated or truncated)
    after.cause[w, a] = cause


@inner
@no_type_check
def _no_events(before, after, found, w, a):
    found.terminated[w, a], found.truncated[w, a] = False, False
    found.collision[w, a], found.off_road[w, a], found.red_light[w, a] = False, False, False
    found.wrong_way[w, a], found.uncomfortable[w, a] = False, False
    found.cause[w, a], found.collided_with[w, a] = before.cause[w, a], -1
    after.alive[w, a], after.cause[w, a] = False, before.cause[w, a]


@inner
@no_type_check
def _advance_world(settings, scenes, ground, before, turns, pushes, after, found, w):
    scene, agents = before.scene[w], before.speed.shape[1]
    running = False
    for a in range(agents):
        running = running or before.alive[w, a]
    after.tick[w], after.age[w] = before.tick[w], before.age[w]
    if running:
        after.tick[w] = min(before.tick[w] + 1, scenes.ticks[scene] - 1)
        after.age[w] += 1
    _move_traffic(settings, scenes, before, after, w, scene, running)
    history = before.speed_history.shape[2]
    for a in range(agents):
        if before.alive[w, a]:
            turn, push = turns[w, a], pushes[w, a]
            if not (math.isfinite(turn) and math.isfinite(push)):
                turn, push = F(0.0), F(0.0)
            if settings.by_jerk:
                turn, push = _jerk_command(settings, before, w, a, turn, push)
            _move_car(settings, before, after, w, a, turn, push)
        else:
            _hold_car(before, after, w, a)
        _locate(scenes, before, after, w, scene, a)
        for k in range(history - 1):
            after.speed_history[w, a, k] = before.speed_history[w, a, k + 1]
            after.yaw_history[w, a, k] = before.yaw_history[w, a, k + 1]
        after.speed_history[w, a, history - 1] = after.speed[w, a]
        after.yaw_history[w, a, history - 1] = after.speed[w, a] * after.curvature[w, a]
        _give_command(scenes, before, after, w, scene, a)
        _place_car(scenes, after, w, scene, a, before.alive[w, a] or not settings.remove_done_agents)
    for a in range(agents):
        if before.alive[w, a]:
            finite = math.isfinite(turns[w, a]) and math.isfinite(pushes[w, a])
            hit = first_hit(after.actor, after.actor_there, scenes.size, scenes.present, w, scene, a, 0)
            while hit >= 0 and (
                scenes.tow[scene, hit] == scenes.tow[scene, a]
                or _above(settings, scenes, after, w, scene, a, hit)
            ):
                hit = first_hit(
                    after.actor, after.actor_there, scenes.size, scenes.present, w, scene, a, hit + 1
                )
            _find_events(settings, scenes, ground, before, after, found, w, scene, a, finite, hit)
        else:
            _no_events(before, after, found, w, a)


@njit(error_model="numpy", parallel=True)
@no_type_check
def advance(settings, scenes, ground, before, turns, pushes, after, found):
    """Write `after` and `found` from `before`; arguments as prepared by `stepping.advance`.

    `turns` and `pushes` are curvatures and accelerations, or lateral and longitudinal jerks.
    """
    for w in nb.prange(len(before.scene)):
        _advance_world(settings, scenes, ground, before, turns, pushes, after, found, w)
