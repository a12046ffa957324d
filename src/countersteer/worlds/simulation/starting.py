"""Where drives begin: starts that settings give, and the state of drives that begin there."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from countersteer import noise
from countersteer.geometry import boxes
from countersteer.geometry.poses import world_from_local, wrap_angle
from countersteer.scenarios.routes import EXTENSION
from countersteer.tensors import as_array
from countersteer.vehicles import bicycle
from countersteer.worlds.backend import Backend
from countersteer.worlds.interface import Starts
from countersteer.worlds.observations import Command
from countersteer.worlds.sensors.vector.observing import course
from countersteer.worlds.simulation.ground import GroundBank
from countersteer.worlds.simulation.paths import project_to_route
from countersteer.worlds.simulation.scenes import SceneBank
from countersteer.worlds.simulation.spec import RoadSettings
from countersteer.worlds.simulation.state import RoadState, SceneRows, give_commands, heights_now, place_cars
from countersteer.worlds.simulation.stepping.reference import collisions

__all__ = ["RoadStarts", "begin", "draw_starts", "starts_at"]

SHORTEST_WAY = 15.0  # to a goal [m]; it counts as reached from 5 m before it
SHORTEST_ROUTE = 10.0  # recorded of a car that is to have a goal [m]

_PARAMS = tuple(field.name for field in fields(bicycle.VehicleParams))


@dataclass(frozen=True)
class RoadStarts(Starts):
    """Where drives on roads begin; leading dimensions `[world]`, or `[world agent]` for what a car has.

    Attributes:
        scenario: Index of the scenario.
        tick: First tick within the scenario.
        position: Rear axle [m, world].
        heading: [rad].
        speed: [m/s].
        set_speed: What the intent will say [m/s].
        command: Command that will be given at `command_tick`.
        command_tick: Tick of the drive, -1 for never.
    """

    scenario: Int[Tensor, "world"]
    tick: Int[Tensor, "world"]
    position: Float[Tensor, "world agent 2"]
    heading: Float[Tensor, "world agent"]
    speed: Float[Tensor, "world agent"]
    set_speed: Float[Tensor, "world agent"]
    command: Int[Tensor, "world agent"]
    command_tick: Int[Tensor, "world agent"]


def draw_starts(
    settings: RoadSettings, bank: SceneBank, seed: int, drive: Int[Tensor, "world"]
) -> RoadStarts:
    """A random scenario, a random time in it, and the jitter of the settings, for drives of these identities."""
    spec, zero, scenes = settings.start, torch.zeros_like(drive), len(bank.ticks)
    u = noise.uniform(seed, drive, zero, "start", 2)
    jitter = spec.lateral > 0 or spec.heading > 0
    if settings.backend.on(drive.device) is Backend.KERNEL:
        from countersteer.worlds.simulation.starting_kernels import draw_scenes

        scene, tick = torch.empty_like(drive), torch.empty_like(drive)
        ticks, length = bank.arrays["ticks"], round(settings.duration / settings.dt)
        draw_scenes(as_array(u), ticks, length, scene.numpy(), tick.numpy())
        return starts_at(settings, bank, seed, scene, tick, drive, jitter=jitter)
    scene = (u[:, 0] * scenes).long().clamp(max=scenes - 1)
    spare = bank.ticks[scene] - 1 - round(settings.duration / settings.dt)
    tick = (u[:, 1] * (spare.clamp(min=0) + 1)).long()
    return starts_at(settings, bank, seed, scene, tick, drive, jitter=jitter)


def starts_at(
    settings: RoadSettings,
    bank: SceneBank,
    seed: int,
    scene: Int[Tensor, "world"],
    tick: Int[Tensor, "world"],
    drive: Int[Tensor, "world"],
    *,
    jitter: bool,
) -> RoadStarts:
    """Starts on the recorded poses of given scenarios and ticks, with or without the jitter of the settings."""
    if settings.backend.on(drive.device) is Backend.KERNEL:
        return _starts_by_kernel(settings, bank, seed, scene, tick, drive, jitter=jitter)
    spec, dt, agents = settings.start, settings.dt, settings.agents
    slots = torch.arange(agents, device=drive.device)
    cars = slots[None].expand(len(drive), -1)
    v = noise.uniform(seed, drive[:, None].expand_as(cars), cars, "start-car", 7)
    if not jitter:
        v = torch.full_like(v, 0.5)
    signed = 2 * v - 1
    pose = bank.pose[scene[:, None], slots[None], tick[:, None]]
    logged = bank.speed[scene[:, None], slots[None], tick[:, None]]
    back = boxes.rear_axle_to_center(bank.size[scene, :agents, 0])
    rear = torch.stack([-back, spec.lateral * signed[..., 0]], -1)
    low, high = spec.set_speed
    factor = low + (high - low) * v[..., 2] if jitter else torch.full_like(logged, high)
    left = ~bank.left_offset[scene].isnan()[:, None]
    right = ~bank.right_offset[scene].isnan()[:, None]
    wants_left = torch.where(left & right, v[..., 4] < 0.5, left)
    command = torch.where(wants_left, int(Command.LEFT), int(Command.RIGHT))
    first, last = (round(t / dt) for t in spec.command_time)
    when = first + (v[..., 5] * (last - first + 1)).long()
    asked = (left | right) & (v[..., 6] < spec.command_share) if jitter else torch.zeros_like(wants_left)
    return RoadStarts(
        scenario=scene,
        tick=tick,
        drive=drive,
        position=world_from_local(rear, pose[..., :2], pose[..., 2]),
        heading=wrap_angle(pose[..., 2] + spec.heading * signed[..., 1]),
        speed=logged * factor * (1 + spec.speed * signed[..., 3]),
        set_speed=bank.cruise[scene] * factor,
        command=torch.where(asked, command, int(Command.FOLLOW)),
        command_tick=torch.where(asked, when, -1),
    )


def _starts_by_kernel(
    settings: RoadSettings,
    bank: SceneBank,
    seed: int,
    scene: Tensor,
    tick: Tensor,
    drive: Tensor,
    *,
    jitter: bool,
) -> RoadStarts:
    from countersteer.worlds.simulation.starting_kernels import Drawn, Jitter, place_starts

    spec, shape, known = settings.start, (len(drive), settings.agents), bank.arrays
    cars = torch.arange(settings.agents).expand(shape)
    here = as_array(scene)[:, None], cars.numpy(), as_array(tick)[:, None]
    poses = known["pose"][here]
    numbers = np.full((*shape, 7), 0.5, np.float32)
    if jitter:
        numbers = as_array(noise.uniform(seed, drive[:, None].expand(shape), cars, "start-car", 7))
    first, last = (round(t / settings.dt) for t in spec.command_time)
    low, high = (float(end) for end in spec.set_speed)
    drawn = Drawn(
        position=np.empty((*shape, 2), np.float32),
        **{name: np.empty(shape, np.float32) for name in ("heading", "speed", "set_speed")},
        **{name: np.empty(shape, np.int64) for name in ("command", "command_tick")},
    )
    place_starts(
        Jitter(
            int(jitter),
            *(float(each) for each in (spec.lateral, spec.heading, spec.speed)),
            slowest=low if jitter else high,
            span=high - low,
            first_tick=first,
            ticks=last - first + 1,
            share=float(spec.command_share),
        ),
        numbers,
        here[0][:, 0],
        poses,
        *course(torch.from_numpy(poses)[..., 2]),
        known["speed"][here],
        *(known[name] for name in ("size", "left_offset", "right_offset", "cruise")),
        drawn,
    )
    leaves = {name: torch.from_numpy(each) for name, each in drawn._asdict().items()}
    return RoadStarts(scenario=scene, tick=tick, drive=drive, **leaves)


def begin(
    settings: RoadSettings, bank: SceneBank, ground: GroundBank, seed: int, starts: RoadStarts
) -> RoadState:
    """The state of drives that begin at `starts`."""
    learned = any(leaf.requires_grad for leaf in starts.flatten().values())
    kernel = settings.backend.on(starts.drive.device) is Backend.KERNEL and not learned
    run = _begin_by_kernel if kernel else begin_reference
    state = run(settings, bank, seed, starts)
    if settings.min_agents is None:
        return state
    state = state.replace(alive=state.alive & _can_begin(bank, ground, state))
    return place_cars(bank, state, remove_done_agents=settings.remove_done_agents)


def _begin_by_kernel(settings: RoadSettings, bank: SceneBank, seed: int, starts: RoadStarts) -> RoadState:
    from countersteer.worlds.simulation import starting_kernels as kernels

    known = bank.arrays
    scenes, ticks, position, heading, speed, command, command_tick = (
        as_array(getattr(starts, name))
        for name in ("scenario", "tick", "position", "heading", "speed", "command", "command_tick")
    )
    shape = heading.shape
    slots = np.arange(known["pose"].shape[1])
    here = scenes[:, None], slots, ticks[:, None]
    actor, actor_speed, actor_arc, actor_there = (
        known[name][here] for name in ("pose", "speed", "arc", "valid")
    )
    alive = actor_there[:, : shape[1]].copy()
    if settings.min_agents is None:
        alive = known["present"][scenes, : shape[1]]

    arc, row, directions = _beside_paths(bank, scenes, ticks, position, heading)
    queue, history = (*shape, bicycle.DELAY_TICKS, 2), (*shape, settings.history)
    special = {"commands": queue, "speed_history": history, "yaw_history": history}
    moving = {"actor": actor, "actor_speed": actor_speed, "actor_there": actor_there}
    fresh = {
        name: moving[name] if name in moving else np.empty(special.get(name, shape), np.float32)
        for name in kernels.Begun._fields
    }
    agents = torch.arange(shape[1])
    params = settings.vehicle.numbers(seed, starts.drive[:, None] * shape[1] + agents)
    kernels.finish(
        settings.vehicle.spans,
        as_array(params),
        *(known[name] for name in ("size", "left_offset", "right_offset")),
        scenes,
        position,
        heading,
        speed,
        command,
        command_tick,
        alive,
        settings.remove_done_agents,
        row,
        *course(torch.from_numpy(directions)),
        kernels.Begun(**fresh),
    )
    fresh |= {"arc": arc, "alive": alive, "actor_arc": actor_arc}
    return _begun(
        settings, bank, seed, starts, {name: torch.from_numpy(each) for name, each in fresh.items()}
    )


def _beside_paths(
    bank: SceneBank, scenes: ndarray, ticks: ndarray, position: ndarray, heading: ndarray
) -> tuple[ndarray, ndarray, ndarray]:
    """Arc, row of `look_ahead`, and the directions whose cosine and sine `finish` needs."""
    from countersteer.worlds.simulation import starting_kernels as kernels

    known, shape = bank.arrays, heading.shape
    path = known["path"], known["path_length"]
    arc, row = np.empty(shape, np.float32), np.empty((*shape, 6), np.float32)
    kernels.nearest(*path, known["path_arc"], scenes, ticks, position, arc, row)
    kernels.look_ahead(*path, scenes, position, *course(torch.from_numpy(row)[..., 2]), arc, row)
    return arc, row, np.concatenate([row[..., 2:4], heading[..., None]], -1)


def _begun(
    settings: RoadSettings, bank: SceneBank, seed: int, starts: RoadStarts, leaves: dict[str, Any]
) -> RoadState:
    """The state of what kernels wrote and what is as the starts say."""
    scene, arc = starts.scenario, leaves["arc"]
    cars = bicycle.VehicleState(
        position=starts.position,
        heading=starts.heading,
        speed=starts.speed,
        acceleration=torch.zeros_like(arc),
        **{name: leaves.pop(name) for name in ("curvature", "commands")},
    )
    return RoadState(
        scene=scene,
        tick=starts.tick,
        age=torch.zeros_like(scene),
        drive=starts.drive,
        cars=cars,
        params=bicycle.VehicleParams(**{name: leaves.pop(name) for name in _PARAMS}),
        goal_arc=_goals(settings, bank, seed, starts.drive, scene, arc),
        command=starts.command,
        command_tick=starts.command_tick,
        set_speed=starts.set_speed,
        cause=torch.zeros_like(starts.command),
        rows=SceneRows.of(bank, scene),
        **leaves,
    )


def begin_reference(settings: RoadSettings, bank: SceneBank, seed: int, starts: RoadStarts) -> RoadState:
    """`begin` in plain batched PyTorch, its specification, but for cars that cannot begin."""
    agents, scene = settings.agents, starts.scenario
    zero = torch.zeros_like(starts.speed)
    slots = torch.arange(agents, device=scene.device)[None]
    # A path may pass this place more than once; the recording knows which time it is.
    known = bank.path_arc[scene[:, None], slots, starts.tick[:, None]]
    wide, close = (
        project_to_route(bank, scene, starts.position, starts.heading, zero, near)
        for near in (None, known.nan_to_num())
    )
    arc, lateral, error, bend = (torch.where(known.isnan(), *pair) for pair in zip(wide, close, strict=True))
    cars = bicycle.VehicleState.at(starts.position, starts.heading, starts.speed, bend)
    params = settings.vehicle.draw(seed, starts.drive[:, None] * agents + slots)
    actors = torch.arange(bank.pose.shape[1], device=scene.device)[None]
    pose = bank.pose[scene[:, None], actors, starts.tick[:, None]]
    state = RoadState(
        scene=scene,
        tick=starts.tick,
        age=torch.zeros_like(scene),
        drive=starts.drive,
        cars=cars,
        params=params,
        arc=arc,
        lateral=lateral,
        heading_error=error,
        goal_arc=_goals(settings, bank, seed, starts.drive, scene, arc),
        path_offset=zero,
        command=starts.command,
        command_tick=starts.command_tick,
        set_speed=starts.set_speed,
        speed_history=starts.speed[..., None].expand(-1, -1, settings.history).contiguous(),
        yaw_history=(starts.speed * bend)[..., None].expand(-1, -1, settings.history).contiguous(),
        alive=_there(settings, bank, scene, starts.tick),
        cause=torch.zeros_like(starts.command),
        rows=SceneRows.of(bank, scene),
        actor=pose,
        actor_speed=bank.speed[scene[:, None], actors, starts.tick[:, None]],
        actor_arc=bank.arc[scene[:, None], actors, starts.tick[:, None]],
        actor_there=bank.valid[scene[:, None], actors, starts.tick[:, None]],
    )
    return place_cars(bank, give_commands(bank, state), remove_done_agents=settings.remove_done_agents)


def _there(
    settings: RoadSettings, bank: SceneBank, scene: Tensor, tick: Tensor
) -> Bool[Tensor, "world agent"]:
    slots = torch.arange(settings.agents, device=scene.device)[None]
    if settings.min_agents is None:
        return bank.present[scene[:, None], slots]
    return bank.valid[scene[:, None], slots, tick[:, None]]


def _can_begin(bank: SceneBank, ground: GroundBank, state: RoadState) -> Bool[Tensor, "world agent"]:
    """Whether each car stands on the road, clear of everybody, with a goal some way ahead."""
    size, agents = bank.size[state.scene], state.arc.shape[1]
    there = state.actor_there & bank.present[state.scene]
    rigs = heights_now(bank, state), bank.tow[state.scene]
    hit = collisions(state.actor[..., :2], state.actor[..., 2], size, there, agents, *rigs)
    corner = boxes.corners(state.actor[:, :agents, :2], state.actor[:, :agents, 2], size[:, :agents, :2])
    scene = state.scene[:, None, None].expand(corner.shape[:-1])
    on_road = (ground.edge_distance(scene, corner) >= 0).all(-1)
    goes = bank.path_length[state.scene] >= EXTENSION + SHORTEST_ROUTE
    return (hit < 0) & on_road & goes & (state.goal_arc - state.arc >= SHORTEST_WAY)


def _goals(
    settings: RoadSettings, bank: SceneBank, seed: int, drive: Tensor, scene: Tensor, arc: Tensor
) -> Float[Tensor, "world agent"]:
    if settings.start.goal is None:
        return bank.path_length[scene]
    low, high = settings.start.goal
    share = noise.uniform(seed, drive, torch.zeros_like(drive), "goal", settings.agents)
    return torch.minimum(arc + low + (high - low) * share, bank.road_length[scene])
