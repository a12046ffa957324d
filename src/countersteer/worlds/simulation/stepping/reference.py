"""The specification of a tick: batched PyTorch, without a loop over worlds or cars; also the GPU path."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.geometry import boxes
from countersteer.geometry.poses import local_from_world, world_from_local
from countersteer.scenarios.scenario import SignalState
from countersteer.traffic.idm import IDM
from countersteer.traffic.interface import Moved
from countersteer.vehicles import bicycle, jerk
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.interface import Events, TerminationReason
from countersteer.worlds.simulation.constants import LEAD_RANGE
from countersteer.worlds.simulation.ground import GroundBank
from countersteer.worlds.simulation.paths import project_to_route
from countersteer.worlds.simulation.scenes import SceneBank
from countersteer.worlds.simulation.spec import RoadSettings
from countersteer.worlds.simulation.state import (
    RoadState,
    command_now,
    give_commands,
    heights_now,
    lights_now,
    place_cars,
)

__all__ = ["COMFORT", "advance", "collisions", "find_events", "finish_step"]

COMFORT = {
    "braking": -4.05,
    "acceleration": 2.40,
    "lateral": 4.89,
    "yaw_rate": 0.95,
    "yaw_acceleration": 1.93,
    "jerk": 4.13,
}
"""Bounds of docs/conventions.md in SI units; the first two are one-sided."""


def advance(
    spec: RoadSettings,
    bank: SceneBank,
    ground: GroundBank,
    before: RoadState,
    action: Action | JerkAction,
    moved: Moved | None = None,
) -> tuple[RoadState, Events]:
    """The state one tick later and what happened on the way; see `stepping.advance`."""
    one, other = action.flatten().values()
    finite = one.isfinite() & other.isfinite()
    action = action.map(lambda leaf: torch.where(finite, leaf, torch.zeros_like(leaf)))
    if isinstance(action, JerkAction):
        assert spec.jerk is not None
        action = jerk.command(before.cars, action, spec.dt, spec.jerk, spec.vehicle.limits)
    driven = bicycle.step(before.cars, before.params, action, spec.dt, spec.vehicle.limits)
    cars = driven.where(before.alive, before.cars)

    running = before.alive.any(1)
    end = bank.ticks[before.scene] - 1
    tick = torch.where(running, torch.minimum(before.tick + 1, end), before.tick)
    state = before.replace(cars=cars, tick=tick, age=before.age + running.long())
    state = _move_traffic(spec, bank, before, state, running, moved)
    return finish_step(spec, bank, ground, before, state, finite)


def finish_step(
    spec: RoadSettings,
    bank: SceneBank,
    ground: GroundBank,
    before: RoadState,
    state: RoadState,
    finite: Bool[Tensor, "world agent"],
) -> tuple[RoadState, Events]:
    """What follows once cars and actors have moved, whoever moved them: places on the path, commands, events.

    Args:
        spec: Settings.
        bank, ground: The scenes.
        before: The tick before.
        state: Cars, actors, tick and age of now; all else of before.
        finite: Which actions were finite.
    """
    cars = state.cars
    arc, lateral, error, _ = project_to_route(
        bank, state.scene, cars.position, cars.heading, state.path_offset, before.arc
    )
    state = state.replace(
        arc=arc,
        lateral=lateral,
        heading_error=error,
        speed_history=torch.cat([before.speed_history[..., 1:], cars.speed[..., None]], -1),
        yaw_history=torch.cat([before.yaw_history[..., 1:], (cars.speed * cars.curvature)[..., None]], -1),
    )
    state = place_cars(bank, give_commands(bank, state), remove_done_agents=spec.remove_done_agents)
    events = find_events(spec, bank, ground, before, state, finite)
    state = state.replace(
        alive=before.alive & ~events.terminated & ~events.truncated,
        cause=torch.where(before.alive, events.cause, before.cause),
    )
    return state, events


def _move_traffic(
    spec: RoadSettings,
    bank: SceneBank,
    before: RoadState,
    state: RoadState,
    running: Tensor,
    moved: Moved | None,
) -> RoadState:
    actors = torch.arange(bank.pose.shape[1], device=state.scene.device)[None]
    scene, tick = state.scene[:, None], state.tick[:, None]
    pose, speed = bank.pose[scene, actors, tick], bank.speed[scene, actors, tick]
    arc, there = bank.arc[scene, actors, tick], bank.valid[scene, actors, tick]
    if moved is not None:
        pose, speed, arc, there = moved.pose, moved.speed, before.actor_arc, moved.present
    elif spec.traffic is not None:
        driven = bank.movable[state.scene] & before.actor_there
        own_speed, own_arc, own_pose = _drive_traffic(spec, bank, before)
        pose = torch.where(driven[..., None], own_pose, pose)
        speed = torch.where(driven, own_speed, speed)
        arc = torch.where(driven, own_arc, arc)
        there = there | driven
    hold = ~running[:, None]
    return state.replace(
        actor=torch.where(hold[..., None], before.actor, pose),
        actor_speed=torch.where(hold, before.actor_speed, speed),
        actor_arc=torch.where(hold, before.actor_arc, arc),
        actor_there=torch.where(hold, before.actor_there, there),
    )


def _drive_traffic(spec: RoadSettings, bank: SceneBank, state: RoadState) -> tuple[Tensor, Tensor, Tensor]:
    """One IDM tick: everybody follows the line of their own recording, reacting to what is ahead."""
    assert isinstance(spec.traffic, IDM)
    length, width = bank.size[state.scene][..., 0], bank.size[state.scene][..., 1]
    heading = state.actor[..., 2]
    gap = local_from_world(
        state.actor[:, None, :, :2].expand(-1, heading.shape[1], -1, -1),
        state.actor[:, :, None, :2],
        heading[:, :, None],
    )
    forward, left = gap[..., 0], gap[..., 1]
    near = left.abs() < (width[:, :, None] + width[:, None]) / 2 + 0.2
    tow, agents = bank.tow[state.scene], bank.path.shape[1]
    near &= tow[:, :, None] != tow[:, None]
    z, tall = heights_now(bank, state), bank.size[state.scene][..., 2]
    if z is not None:
        near &= (z[:, :, None] - z[:, None]).abs() <= (tall[:, :, None] + tall[:, None]) / 2
    bumper = forward - (length[:, :, None] + length[:, None]) / 2
    seen = near & (forward > 0.5) & (bumper < LEAD_RANGE) & state.actor_there[:, None]
    bumper = torch.where(seen, bumper, math.inf)
    lead_gap, lead = bumper.min(-1)
    turned = heading.gather(1, lead) - heading
    lead_speed = (state.actor_speed.gather(1, lead) * turned.cos()).clamp(min=0.0)
    lead_speed = torch.where(lead_gap.isinf(), torch.zeros_like(lead_speed), lead_speed)
    if bank.stop_point.shape[1]:
        lead_gap, lead_speed = _stop_at_lights(bank, state, lead_gap, lead_speed)
    desired = bank.top_speed[state.scene].clamp(min=1.0)
    answer = spec.traffic.answer(state.actor_speed, desired, lead_gap, lead_speed)
    speed = (state.actor_speed + answer * spec.dt).clamp(min=0.0)
    arc = state.actor_arc + (state.actor_speed + speed) / 2 * spec.dt

    arcs = bank.arc[state.scene]
    index = torch.searchsorted(arcs, arc[..., None].contiguous()).clamp(1, arcs.shape[-1] - 1)
    low, high = arcs.gather(-1, index - 1), arcs.gather(-1, index)
    part = ((arc[..., None] - low) / (high - low).clamp(min=1e-3)).clamp(0.0, 1.0)
    beyond = (arc - arcs[..., -1]).clamp(min=0.0)[..., None]
    # What is towed is where it was when its tractor was where that is.
    driven = (tow >= agents) & (bank.movable[state.scene] & state.actor_there).gather(1, tow)
    by = torch.where(driven, tow, torch.arange(tow.shape[1], device=tow.device))
    speed, arc = speed.gather(1, by), arc.gather(1, by)
    index, part, beyond = (each.gather(1, by[..., None]) for each in (index, part, beyond))
    rows = bank.pose[state.scene]
    wide = index[..., None].expand(*index.shape, 3)
    pose = (rows.gather(2, wide - 1) * (1 - part[..., None]) + rows.gather(2, wide) * part[..., None])[
        :, :, 0
    ]
    course = torch.stack([pose[..., 2].cos(), pose[..., 2].sin()], -1)
    return speed, arc, torch.cat([pose[..., :2] + beyond * course, pose[..., 2:]], -1)


def _stop_at_lights(bank: SceneBank, state: RoadState, gap: Tensor, speed: Tensor) -> tuple[Tensor, Tensor]:
    """A red light is a standing leader for those who come to it in its direction."""
    stop, course = bank.stop_point[state.scene], bank.stop_heading[state.scene]
    ahead = local_from_world(
        stop[:, None].expand(-1, gap.shape[1], -1, -1), state.actor[:, :, None, :2], state.actor[:, :, 2:]
    )
    # A light of unknown direction (NaN) is nobody's but of those who come to its stop point.
    aligned = ~((course[:, None] - state.actor[..., 2:]).cos() <= 0.7)
    distance = ahead[..., 0] - bank.size[state.scene][..., :1] / 2
    red = (lights_now(bank, state) == int(SignalState.STOP))[:, None] & aligned
    red = red & (ahead[..., 1].abs() < 2.0) & (distance > 0)
    to_light = torch.where(red, distance, math.inf).min(-1).values
    return torch.minimum(gap, to_light), torch.where(to_light < gap, torch.zeros_like(speed), speed)


def find_events(
    spec: RoadSettings,
    bank: SceneBank,
    ground: GroundBank,
    before: RoadState,
    state: RoadState,
    finite: Tensor,
) -> Events:
    """Events of the tick from `before` to `state`; `finite` tells which actions were finite."""
    agents = bank.path.shape[1]
    cars, size = state.cars, bank.size[state.scene]
    center, heading = state.actor[..., :2], state.actor[..., 2]
    collided_with = collisions(
        center,
        heading,
        size,
        state.actor_there & bank.present[state.scene],
        agents,
        heights_now(bank, state),
        bank.tow[state.scene],
    )
    collision = collided_with >= 0

    corner = boxes.corners(center[:, :agents], heading[:, :agents], size[:, :agents, :2])
    scene = state.scene[:, None, None].expand(corner.shape[:-1])
    off_road = (ground.edge_distance(scene, corner) < 0).any(-1)
    allowed = ground.directions(state.scene[:, None].expand(-1, agents), cars.position).long()
    sector = torch.round(cars.heading / (math.pi / 4)).long() % 8
    same_way = sum((allowed >> ((sector + k) % 8)) & 1 for k in (-2, -1, 0, 1, 2))
    wrong_way = (allowed != 0) & (same_way == 0) & (cars.speed > 1.0)

    red_light = torch.zeros_like(collision)
    if bank.stop_point.shape[1]:
        red_light = _ran_light(bank, before, state)
    lateral = cars.speed**2 * cars.curvature
    yaw_rate, earlier = cars.speed * cars.curvature, before.cars.speed * before.cars.curvature
    jerk = (cars.acceleration - before.cars.acceleration) / spec.dt
    yaw_acceleration = (yaw_rate - earlier) / spec.dt
    jerky = (jerk.abs() > COMFORT["jerk"]) | (yaw_acceleration.abs() > COMFORT["yaw_acceleration"])
    uncomfortable = (
        (cars.acceleration < COMFORT["braking"])
        | (cars.acceleration > COMFORT["acceleration"])
        | (lateral.abs() > COMFORT["lateral"])
        | (yaw_rate.abs() > COMFORT["yaw_rate"])
        | (jerky & (state.age[:, None] > 1))
    )
    # A commanded lane change puts the path a lane away at once; until it is due, the way there is not lost.
    origin = torch.where(command_now(spec, state)[0], -state.path_offset, 0.0)
    beyond = torch.maximum(state.lateral - origin.clamp(min=0.0), origin.clamp(max=0.0) - state.lateral)
    lost = (beyond > spec.max_route_deviation) | (state.heading_error.abs() > spec.max_heading_error)
    goal = state.arc > state.goal_arc - 5.0
    numeric = ~finite | ~cars.position.isfinite().all(-1)

    cause = torch.zeros_like(state.cause)
    ranked = (
        (TerminationReason.GOAL, goal),
        (TerminationReason.WRONG_WAY, wrong_way),
        (TerminationReason.OFF_ROUTE, lost),
        (TerminationReason.RED_LIGHT, red_light),
        (TerminationReason.OFF_ROAD, off_road),
        (TerminationReason.COLLISION, collision),
        (TerminationReason.INVALID_STATE, numeric),
    )
    for name, flag in ranked:
        if name in spec.terminate:
            cause = torch.where(flag, int(name), cause)
    alive = before.alive
    terminated = alive & (cause != int(TerminationReason.NONE))
    over = (state.tick >= bank.ticks[state.scene] - 1) | (state.age >= round(spec.duration / spec.dt))
    # Beyond the end of its route nothing was built, so nothing can be judged there.
    beyond_route = state.arc >= bank.path_length[state.scene]
    truncated = alive & ~terminated & (over[:, None] | beyond_route)
    ended = torch.where(over[:, None], int(TerminationReason.TIME), int(TerminationReason.GOAL))
    cause = torch.where(truncated, ended, cause)
    return Events(
        terminated=terminated,
        truncated=truncated,
        cause=torch.where(alive, cause, state.cause),
        collision=collision & alive,
        collided_with=torch.where(alive, collided_with, -1),
        off_road=off_road & alive,
        red_light=red_light & alive,
        wrong_way=wrong_way & alive,
        uncomfortable=uncomfortable & alive,
    )


def collisions(
    center: Float[Tensor, "world actor 2"],
    heading: Float[Tensor, "world actor"],
    size: Float[Tensor, "world actor _"],
    there: Bool[Tensor, "world actor"],
    agents: int,
    z: Float[Tensor, "world actor"] | None = None,
    tow: Int[Tensor, "world actor"] | None = None,
) -> Int[Tensor, "world agent"]:
    """For each car, the first slots, the lowest slot of another actor whose box overlaps its own, or -1.

    Every car is held against every actor; a box that is not at a finite pose overlaps nothing. With the heights `z` of the centres,
    and of the boxes as the third size, boxes that have air between them do not overlap; neither do those of one rig, by `SceneBank.tow`.
    """
    wide = (slice(None), slice(0, agents), None)
    shape = (len(center), agents, center.shape[1])
    hit = boxes.overlap(
        center[wide].expand(*shape, 2),
        heading[wide].expand(shape),
        size[..., :2][wide].expand(*shape, 2),
        center[:, None].expand(*shape, 2),
        heading[:, None].expand(shape),
        size[:, None, :, :2].expand(*shape, 2),
    )
    if z is not None:
        hit &= (z[:, :agents, None] - z[:, None]).abs() <= (
            size[:, :agents, None, 2] + size[:, None, :, 2]
        ) / 2
    if tow is not None:
        hit &= tow[:, :agents, None] != tow[:, None]
    sound = center.isfinite().all(-1) & heading.isfinite()
    slots = torch.arange(shape[2], device=center.device)
    own = slots == slots[:agents, None]
    hit = hit & (there & sound)[:, None] & sound[:, :agents, None] & ~own
    return torch.where(hit.any(-1), hit.float().argmax(-1), -1)


def _ran_light(bank: SceneBank, before: RoadState, state: RoadState) -> Tensor:
    """Whether a front bumper crossed a stop line during this tick while its light said stop."""
    agents = bank.path.shape[1]
    length = bank.size[state.scene, :agents, 0]
    front = torch.stack([boxes.rear_axle_to_center(length) + length / 2, torch.zeros_like(length)], -1)
    stop, course = bank.stop_point[state.scene][:, None], bank.stop_heading[state.scene][:, None]
    course = torch.where(course.isnan(), state.cars.heading[..., None], course)
    stop = stop.expand(*course.shape, 2)

    def past(cars: bicycle.VehicleState) -> Tensor:
        bumper = world_from_local(front, cars.position, cars.heading)[:, :, None]
        return local_from_world(bumper.expand_as(stop), stop, course)

    was, now = past(before.cars), past(state.cars)
    aligned = (state.cars.heading[..., None] - course).cos() > 0.5
    crossed = (was[..., 0] < 0) & (now[..., 0] >= 0) & (now[..., 1].abs() < 2.0) & aligned
    return (crossed & (lights_now(bank, before) == int(SignalState.STOP))[:, None]).any(-1)
