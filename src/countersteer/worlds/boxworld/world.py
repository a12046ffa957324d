"""The boxworld: state as tensors `[world, agent, ...]`, replaced at every step and never written into."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer import noise
from countersteer.errors import UserError
from countersteer.geometry import boxes
from countersteer.geometry.cameras import Camera
from countersteer.geometry.poses import local_from_world, world_from_local, wrap_angle
from countersteer.scenarios.scenario import Scenario, SignalState
from countersteer.tensors import TensorTree
from countersteer.vehicles import bicycle
from countersteer.vehicles.plans import Action
from countersteer.worlds.boxworld.rendering import Images, Outputs, render
from countersteer.worlds.boxworld.scenes import PATH_SPACING, build_bank
from countersteer.worlds.boxworld.spec import BoxWorldSpec
from countersteer.worlds.boxworld.views import Painter
from countersteer.worlds.interface import (
    Cause,
    Command,
    EgoMotion,
    Events,
    Intent,
    LoggedPoses,
    Motion,
    Observation,
    PathPoints,
    SensorReading,
    Starts,
    Truth,
    World,
)

__all__ = ["BoxWorld", "BoxWorldState"]

HISTORY = 6  # ticks of odometry a car remembers
TARGET_DISTANCES = (10.0, 20.0, 30.0)  # of target points [m]
LEAD_RANGE = 80.0  # how far ahead traffic matters [m]
COMFORT = {
    "braking": -4.05,
    "acceleration": 2.40,
    "lateral": 4.89,
    "yaw_rate": 0.95,
    "yaw_acceleration": 1.93,
    "jerk": 4.13,
}


@dataclass(frozen=True)
class BoxWorldState(TensorTree):
    """Everything that changes. Times are in ticks; slots below `agent` of actors are the cars themselves.

    Attributes:
        scene: Scene of each drive.
        tick: Tick of the scenario; `age` counts from the drive's start.
        drive: Identity for noise.
        cars, params: Motion and build of the controlled cars.
        arc, lateral, heading_error: Cars relative to their paths.
        start_arc: `arc` at the start [m].
        path_offset: Lateral offset of the path from its route [m]; changed by commands.
        command, command_tick: Command and the age at which it comes, -1 for never.
        set_speed: [m/s].
        speed_history, yaw_history: Odometry, the latest last.
        alive, cause: Whether and why a car's drive ended.
        actor: Box centre and heading of every actor.
        actor_speed: [m/s].
        actor_arc: Distance along its own track [m], where IDM drives.
        actor_there: Whether it is in the world now.
    """

    scene: Int[Tensor, "world"]
    tick: Int[Tensor, "world"]
    age: Int[Tensor, "world"]
    drive: Int[Tensor, "world"]
    cars: bicycle.VehicleState
    params: bicycle.VehicleParams
    arc: Float[Tensor, "world agent"]
    lateral: Float[Tensor, "world agent"]
    heading_error: Float[Tensor, "world agent"]
    start_arc: Float[Tensor, "world agent"]
    path_offset: Float[Tensor, "world agent"]
    command: Int[Tensor, "world agent"]
    command_tick: Int[Tensor, "world agent"]
    set_speed: Float[Tensor, "world agent"]
    speed_history: Float[Tensor, "world agent history"]
    yaw_history: Float[Tensor, "world agent history"]
    alive: Bool[Tensor, "world agent"]
    cause: Int[Tensor, "world agent"]
    actor: Float[Tensor, "world actor 3"]
    actor_speed: Float[Tensor, "world actor"]
    actor_arc: Float[Tensor, "world actor"]
    actor_there: Bool[Tensor, "world actor"]


class BoxWorld(World):
    """See `World`. Built by `BoxWorldSpec.build`.

    Args:
        spec: Settings.
        scenarios: What drives happen in.
        batch: Number of drives.
        seed: Of all randomness.
        device: Where tensors live and pictures are drawn.
    """

    capabilities = BoxWorldSpec.capabilities

    def __init__(
        self,
        spec: BoxWorldSpec,
        scenarios: Sequence[Scenario],
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
    ):
        if batch < 1 or spec.agents < 1:
            raise UserError(
                "boxworld needs at least one drive and one car",
                got=f"batch {batch}, agents {spec.agents}",
                expected="both at least 1",
                fix="set `batch` and `agents`",
            )
        self.spec, self.batch, self.agents, self.dt, self.seed = spec, batch, spec.agents, spec.dt, seed
        self.cameras = spec.cameras
        self.scenarios = tuple(scenarios)
        self.device = torch.device(device)
        bank, ground = build_bank(scenarios, spec.agents, spec.dt)
        self.bank, self.ground = bank.to(self.device), ground.to(self.device)
        self.painter = Painter(spec.looks, self.bank, seed)
        self._noise_salt = 0
        self.state = self._begin(self._rest_starts())

    # --- starting -------------------------------------------------------------------------------

    def _rest_starts(self) -> Starts:
        return self.draw_starts(torch.arange(self.batch, device=self.device))

    def draw_starts(self, drive: Int[Tensor, "world"]) -> Starts:
        """See `World.draw_starts`: a random scenario, a random time in it, and the spec's jitter."""
        spec, bank, zero = self.spec.start, self.bank, torch.zeros_like(drive)
        u = noise.uniform(self.seed, drive, zero, "start", 2)
        scene = (u[:, 0] * len(self.scenarios)).long().clamp(max=len(self.scenarios) - 1)
        spare = bank.ticks[scene] - 1 - round(self.spec.duration / self.dt)
        tick = (u[:, 1] * (spare.clamp(min=0) + 1)).long()
        return self.starts_at(scene, tick, drive, jitter=spec.lateral > 0 or spec.heading > 0)

    def starts_at(
        self,
        scene: Int[Tensor, "world"],
        tick: Int[Tensor, "world"],
        drive: Int[Tensor, "world"],
        *,
        jitter: bool,
    ) -> Starts:
        """Starts on the recorded poses of given scenarios and ticks, with or without the spec's jitter."""
        spec, bank, agents = self.spec.start, self.bank, self.agents
        slots = torch.arange(agents, device=self.device)
        cars = slots[None].expand(len(drive), -1)
        v = noise.uniform(self.seed, drive[:, None].expand_as(cars), cars, "start-car", 7)
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
        first, last = (round(t / self.dt) for t in spec.command_time)
        when = first + (v[..., 5] * (last - first + 1)).long()
        asked = (left | right) & (v[..., 6] < spec.command_share) if jitter else torch.zeros_like(wants_left)
        return Starts(
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

    def reset(self, mask: Bool[Tensor, "world"], starts: Starts) -> None:
        """See `World.reset`."""
        self.state = self._begin(starts).where(mask, self.state)

    def _begin(self, starts: Starts) -> BoxWorldState:
        bank, scene = self.bank, starts.scenario
        zero = torch.zeros_like(starts.speed)
        arc, lateral, error, bend = self._locate(scene, starts.position, starts.heading, zero, None)
        cars = bicycle.VehicleState.at(starts.position, starts.heading, starts.speed, bend)
        slots = torch.arange(self.agents, device=self.device)[None]
        params = self.spec.vehicle.draw(self.seed, starts.drive[:, None] * self.agents + slots)
        actors = torch.arange(bank.pose.shape[1], device=self.device)[None]
        pose = bank.pose[scene[:, None], actors, starts.tick[:, None]]
        state = BoxWorldState(
            scene=scene,
            tick=starts.tick,
            age=torch.zeros_like(scene),
            drive=starts.drive,
            cars=cars,
            params=params,
            arc=arc,
            lateral=lateral,
            heading_error=error,
            start_arc=arc,
            path_offset=zero,
            command=starts.command,
            command_tick=starts.command_tick,
            set_speed=starts.set_speed,
            speed_history=starts.speed[..., None].expand(-1, -1, HISTORY).contiguous(),
            yaw_history=(starts.speed * bend)[..., None].expand(-1, -1, HISTORY).contiguous(),
            alive=torch.ones_like(starts.speed, dtype=torch.bool),
            cause=torch.zeros_like(starts.command),
            actor=pose,
            actor_speed=bank.speed[scene[:, None], actors, starts.tick[:, None]],
            actor_arc=bank.arc[scene[:, None], actors, starts.tick[:, None]],
            actor_there=bank.valid[scene[:, None], actors, starts.tick[:, None]],
        )
        return self._place_cars(self._give_commands(state))

    def _place_cars(self, state: BoxWorldState) -> BoxWorldState:
        """Write the controlled cars into the first actor slots."""
        size = self.bank.size[state.scene, : self.agents]
        ahead = torch.stack([boxes.rear_axle_to_center(size[..., 0]), torch.zeros_like(size[..., 0])], -1)
        center = world_from_local(ahead, state.cars.position, state.cars.heading)
        cars = torch.cat([center, state.cars.heading[..., None]], -1)
        there = torch.ones_like(state.alive)
        return state.replace(
            actor=torch.cat([cars, state.actor[:, self.agents :]], 1),
            actor_speed=torch.cat([state.cars.speed, state.actor_speed[:, self.agents :]], 1),
            actor_there=torch.cat([there, state.actor_there[:, self.agents :]], 1),
        )

    # --- paths ----------------------------------------------------------------------------------

    def _path_rows(self, scene: Tensor, index: Tensor) -> Tensor:
        """Stored path points [world agent point 4] at integer indices, clamped to the path."""
        agents = torch.arange(self.agents, device=self.device)[None, :, None]
        index = index.clamp(0, self.bank.path.shape[2] - 1)
        return self.bank.path[scene[:, None, None], agents, index]

    def _route_at(self, scene: Tensor, arc: Tensor, offset: Tensor) -> PathPoints:
        """Points at arc lengths [world agent point], moved left by `offset` [world agent]."""
        bounded = torch.minimum(arc.clamp(min=0.0), self.bank.path_length[scene][..., None] - 1e-3)
        base = (bounded / PATH_SPACING).floor()
        part = (bounded / PATH_SPACING - base)[..., None]
        index = base.long()
        row = self._path_rows(scene, index) * (1 - part) + self._path_rows(scene, index + 1) * part
        heading = row[..., 2]
        beyond = (arc - bounded)[..., None] * torch.stack([heading.cos(), heading.sin()], -1)
        side = offset[..., None, None] * torch.stack([-heading.sin(), heading.cos()], -1)
        bend = row[..., 3] / (1 - offset[..., None] * row[..., 3]).clamp(min=0.2)
        return PathPoints(row[..., :2] + beyond + side, wrap_angle(heading), bend)

    def _locate(
        self, scene: Tensor, position: Tensor, heading: Tensor, offset: Tensor, near: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Arc, lateral offset, heading error and path curvature of cars; `near` is the last arc, None to search."""
        if near is None:
            index = torch.arange(self.bank.path.shape[2], device=self.device).expand(*position.shape[:-1], -1)
        else:
            window = torch.arange(-6, 16, device=self.device)
            index = (near / PATH_SPACING).long()[..., None] + window
        last = (self.bank.path_length[scene] / PATH_SPACING).long()[..., None]
        rows = self._path_rows(scene, torch.minimum(index, last))
        nearest = (rows[..., :2] - position[..., None, :]).square().sum(-1).argmin(-1, keepdim=True)
        row = rows.gather(-2, nearest[..., None].expand(*nearest.shape, 4)).squeeze(-2)
        at = torch.minimum(index, last).clamp(min=0).gather(-1, nearest).squeeze(-1) * PATH_SPACING
        course, bend = row[..., 2], row[..., 3]
        # One Newton step along the osculating direction; points are close enough for it to be exact to mm.
        gap = local_from_world(position, row[..., :2], course)
        along = gap[..., 0] / (1 - gap[..., 1] * bend).clamp(min=0.2)
        there = self._route_at(scene, (at + along)[..., None], torch.zeros_like(at))
        course = there.heading[..., 0]
        gap = local_from_world(position, there.position[..., 0, :], course)
        return at + along, gap[..., 1] - offset, wrap_angle(heading - course), there.curvature[..., 0]

    def path_at(self, arc: Float[Tensor, "world agent point"]) -> PathPoints:
        """See `World.path_at`; the path includes a commanded lane change from the moment it is asked for."""
        return self._route_at(self.state.scene, arc, self.state.path_offset)

    def log_at(self, ahead: Float[Tensor, "point"]) -> LoggedPoses:
        """See `World.log_at`; past its end a recording goes straight on, so that nobody brakes for it."""
        state, bank, agents = self.state, self.bank, self.agents
        steps = (ahead / self.dt).round().long()
        tick = state.tick[:, None, None] + steps
        last = bank.ticks[state.scene][:, None, None] - 1
        slots = torch.arange(agents, device=self.device)[None, :, None]
        scene, inside, beyond = state.scene[:, None, None], tick <= last, (tick - last).clamp(min=0)
        tick = torch.minimum(tick, last)
        pose, speed = bank.pose[scene, slots, tick], bank.speed[scene, slots, tick]
        course = torch.stack([pose[..., 2].cos(), pose[..., 2].sin()], -1)
        further = (beyond * self.dt * speed)[..., None] * course
        back = boxes.rear_axle_to_center(bank.size[state.scene, :agents, 0])
        rear = torch.stack([-back, torch.zeros_like(back)], -1)[:, :, None]
        return LoggedPoses(
            position=world_from_local(
                rear.expand(*pose.shape[:-1], 2), pose[..., :2] + further, pose[..., 2]
            ),
            heading=wrap_angle(pose[..., 2]),
            speed=speed,
            valid=bank.valid[scene, slots, tick] & inside,
        )

    def _give_commands(self, state: BoxWorldState) -> BoxWorldState:
        """Move the path to the neighbouring lane at the tick the command comes."""
        now = (state.command_tick >= 0) & (state.age[:, None] == state.command_tick)
        left = self.bank.left_offset[state.scene][:, None]
        right = self.bank.right_offset[state.scene][:, None]
        target = torch.where(state.command == Command.LEFT, left, right)
        given = now & (state.command != Command.FOLLOW) & ~target.isnan()
        offset = torch.where(given, target, state.path_offset)
        return state.replace(path_offset=offset, lateral=state.lateral + state.path_offset - offset)

    # --- looking --------------------------------------------------------------------------------

    def observe(self) -> Observation:
        """See `World.observe`."""
        state = self.state
        time = (state.age * self.dt)[:, None].expand(-1, self.agents)
        sensors = {}
        for camera in self.cameras:
            rgb = self.images(camera).rgb
            assert rgb is not None
            frames = rgb.unflatten(0, (self.batch, self.agents))
            sensors[camera.name] = SensorReading(frames, time, torch.ones_like(state.alive))
        back = torch.arange(HISTORY - 1, -1, -1, device=self.device)
        motion = EgoMotion(
            state.speed_history,
            state.yaw_history,
            (state.age[:, None, None] >= back).expand(-1, self.agents, -1),
        )
        return Observation(sensors, motion, self._intent())

    def images(self, camera: Camera, outputs: Outputs = Outputs()) -> Images:
        """RGB, depth, class or instance images of one camera of every car, `world * agent` of them."""
        state = self.state
        views, boxes, looks = self.painter.drawing(
            camera,
            state.scene,
            state.drive,
            state.tick,
            state.actor,
            state.actor_there,
            state.cars.position,
            state.cars.heading,
        )
        return render(self.ground, views, boxes, looks, outputs)

    def _command(self, state: BoxWorldState) -> tuple[Tensor, Tensor]:
        """Whether a command is on, and for how long it has been [s]."""
        age = (state.age[:, None] - state.command_tick) * self.dt
        return (state.command_tick >= 0) & (age >= 0) & (age < self.spec.command_duration), age

    def _intent(self) -> Intent:
        state = self.state
        active, age = self._command(state)
        ahead = torch.tensor(TARGET_DISTANCES, device=self.device)
        points = self.path_at(state.arc[..., None] + ahead).position
        local = local_from_world(
            points, state.cars.position[..., None, :], state.cars.heading[..., None].expand(points.shape[:-1])
        )
        given = torch.full_like(state.alive, self.spec.target_points)
        return Intent(
            command=torch.where(active, state.command, int(Command.FOLLOW)),
            command_age=torch.where(active, age, 0.0),
            set_speed=state.set_speed,
            target_points=local * given[..., None, None],
            target_valid=given,
        )

    def truth(self) -> Truth:
        """See `World.truth`."""
        state, cars = self.state, self.state.cars
        lead_gap, lead_speed, stop_gap = self._ahead(state)
        return Truth(
            position=cars.position,
            heading=cars.heading,
            speed=cars.speed,
            curvature=cars.curvature,
            acceleration=cars.acceleration,
            arc=state.arc,
            lateral=state.lateral,
            heading_error=state.heading_error,
            set_speed=state.set_speed,
            lead_gap=lead_gap,
            lead_speed=lead_speed,
            stop_gap=stop_gap,
            alive=state.alive,
        )

    def _ahead(self, state: BoxWorldState) -> tuple[Tensor, Tensor, Tensor]:
        """Gap and speed of the next actor on each car's path, and the gap to the next red light."""
        bank, agents = self.bank, self.agents
        length, width = (bank.size[state.scene, :agents, k] for k in (0, 1))
        front = boxes.rear_axle_to_center(length) + length / 2
        ahead = torch.arange(0.0, LEAD_RANGE, 2.0, device=self.device)
        points = self.path_at(state.arc[..., None] + front[..., None] + ahead)
        none = torch.full_like(front, math.inf)

        def distance(position: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
            """First path point [m past the bumper] within `reach` of each thing, and where it is."""
            gap = points.position[:, :, :, None] - position[:, None, None]
            along = (gap[..., 0] * points.heading.cos()[..., None]) + (
                gap[..., 1] * points.heading.sin()[..., None]
            )
            across = gap.square().sum(-1) - along.square()
            near = (along.abs() < 1.5) & (across.clamp(min=0).sqrt() < reach)
            found = torch.where(near, ahead[:, None] - along, math.inf)
            return found.min(2)

        size = bank.size[state.scene]
        reach = (width[:, :, None] + size[:, None, :, 1]) / 2 + 0.3
        gaps, where = distance(state.actor[..., :2], reach[:, :, None])
        own = (
            torch.arange(size.shape[1], device=self.device)
            == torch.arange(agents, device=self.device)[:, None]
        )
        gaps = torch.where(state.actor_there[:, None] & ~own, gaps - size[:, None, :, 0] / 2, math.inf)
        lead_gap, lead = gaps.min(-1)
        course = points.heading.gather(-1, where.gather(-1, lead[..., None])).squeeze(-1)
        lead_heading = state.actor[..., 2].gather(1, lead)
        lead_speed = (state.actor_speed.gather(1, lead) * (lead_heading - course).cos()).clamp(min=0.0)
        lead_speed = torch.where(lead_gap.isinf(), torch.zeros_like(none), lead_speed)

        if bank.stop_point.shape[1] == 0:
            return lead_gap, lead_speed, none
        gaps, _ = distance(bank.stop_point[state.scene], torch.tensor(2.0, device=self.device))
        red = self._lights(state) == SignalState.STOP
        return lead_gap, lead_speed, torch.where(red[:, None], gaps, math.inf).min(-1).values

    def _lights(self, state: BoxWorldState) -> Tensor:
        lights = torch.arange(self.bank.light.shape[1], device=self.device)
        return self.bank.light[state.scene[:, None], lights[None], state.tick[:, None]]

    # --- moving ---------------------------------------------------------------------------------

    def step(self, action: Action) -> Events:
        """See `World.step`."""
        before, spec = self.state, self.spec
        finite = action.curvature.isfinite() & action.acceleration.isfinite()
        action = action.map(lambda leaf: torch.where(finite, leaf, torch.zeros_like(leaf)))
        moved = bicycle.step(before.cars, before.params, action, self.dt, spec.vehicle.limits)
        cars = moved.where(before.alive, before.cars)

        running = before.alive.any(1)
        end = self.bank.ticks[before.scene] - 1
        tick = torch.where(running, torch.minimum(before.tick + 1, end), before.tick)
        state = before.replace(cars=cars, tick=tick, age=before.age + running.long())
        state = self._move_traffic(before, state, running)
        arc, lateral, error, _ = self._locate(
            state.scene, cars.position, cars.heading, state.path_offset, before.arc
        )
        state = state.replace(
            arc=arc,
            lateral=lateral,
            heading_error=error,
            speed_history=torch.cat([before.speed_history[..., 1:], cars.speed[..., None]], -1),
            yaw_history=torch.cat(
                [before.yaw_history[..., 1:], (cars.speed * cars.curvature)[..., None]], -1
            ),
        )
        state = self._place_cars(self._give_commands(state))
        events = self._events(before, state, finite)
        self.state = state.replace(
            alive=before.alive & ~events.terminated & ~events.truncated,
            cause=torch.where(before.alive, events.cause, before.cause),
        )
        return events

    def _move_traffic(self, before: BoxWorldState, state: BoxWorldState, running: Tensor) -> BoxWorldState:
        bank, model = self.bank, self.spec.traffic
        actors = torch.arange(bank.pose.shape[1], device=self.device)[None]
        scene, tick = state.scene[:, None], state.tick[:, None]
        pose, speed = bank.pose[scene, actors, tick], bank.speed[scene, actors, tick]
        arc, there = bank.arc[scene, actors, tick], bank.valid[scene, actors, tick]
        if model is not None:
            driven = bank.movable[state.scene] & before.actor_there
            own_speed, own_arc, own_pose = self._drive_traffic(before)
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

    def _drive_traffic(self, state: BoxWorldState) -> tuple[Tensor, Tensor, Tensor]:
        """One IDM tick: everybody follows the line of their own recording, reacting to what is ahead."""
        assert self.spec.traffic is not None
        bank = self.bank
        length, width = bank.size[state.scene][..., 0], bank.size[state.scene][..., 1]
        heading = state.actor[..., 2]
        gap = local_from_world(
            state.actor[:, None, :, :2].expand(-1, heading.shape[1], -1, -1),
            state.actor[:, :, None, :2],
            heading[:, :, None],
        )
        forward, left = gap[..., 0], gap[..., 1]
        near = left.abs() < (width[:, :, None] + width[:, None]) / 2 + 0.2
        bumper = forward - (length[:, :, None] + length[:, None]) / 2
        seen = near & (forward > 0.5) & (bumper < LEAD_RANGE) & state.actor_there[:, None]
        bumper = torch.where(seen, bumper, math.inf)
        lead_gap, lead = bumper.min(-1)
        turned = heading.gather(1, lead) - heading
        lead_speed = (state.actor_speed.gather(1, lead) * turned.cos()).clamp(min=0.0)
        lead_speed = torch.where(lead_gap.isinf(), torch.zeros_like(lead_speed), lead_speed)
        if bank.stop_point.shape[1]:
            lead_gap, lead_speed = self._stop_at_lights(state, lead_gap, lead_speed)
        desired = bank.speed[state.scene].amax(-1).clamp(min=1.0)
        answer = self.spec.traffic.answer(state.actor_speed, desired, lead_gap, lead_speed)
        speed = (state.actor_speed + answer * self.dt).clamp(min=0.0)
        arc = state.actor_arc + (state.actor_speed + speed) / 2 * self.dt

        arcs = bank.arc[state.scene]
        index = torch.searchsorted(arcs, arc[..., None].contiguous()).clamp(1, arcs.shape[-1] - 1)
        low, high = arcs.gather(-1, index - 1), arcs.gather(-1, index)
        part = ((arc[..., None] - low) / (high - low).clamp(min=1e-3)).clamp(0.0, 1.0)
        rows = bank.pose[state.scene]
        wide = index[..., None].expand(*index.shape, 3)
        pose = (rows.gather(2, wide - 1) * (1 - part[..., None]) + rows.gather(2, wide) * part[..., None])[
            :, :, 0
        ]
        beyond = (arc - arcs[..., -1]).clamp(min=0.0)[..., None]
        course = torch.stack([pose[..., 2].cos(), pose[..., 2].sin()], -1)
        return speed, arc, torch.cat([pose[..., :2] + beyond * course, pose[..., 2:]], -1)

    def _stop_at_lights(self, state: BoxWorldState, gap: Tensor, speed: Tensor) -> tuple[Tensor, Tensor]:
        """A red light is a standing leader for those who come to it in its direction."""
        bank = self.bank
        stop, course = bank.stop_point[state.scene], bank.stop_heading[state.scene]
        ahead = local_from_world(
            stop[:, None].expand(-1, gap.shape[1], -1, -1), state.actor[:, :, None, :2], state.actor[:, :, 2:]
        )
        aligned = (course[:, None] - state.actor[..., 2:]).cos() > 0.7
        distance = ahead[..., 0] - bank.size[state.scene][..., :1] / 2
        red = (self._lights(state) == SignalState.STOP)[:, None] & aligned
        red = red & (ahead[..., 1].abs() < 2.0) & (distance > 0)
        to_light = torch.where(red, distance, math.inf).min(-1).values
        return torch.minimum(gap, to_light), torch.where(to_light < gap, torch.zeros_like(speed), speed)

    def _events(self, before: BoxWorldState, state: BoxWorldState, finite: Tensor) -> Events:
        bank, spec, agents = self.bank, self.spec, self.agents
        cars, size = state.cars, bank.size[state.scene]
        center, heading = state.actor[..., :2], state.actor[..., 2]
        wide = (slice(None), slice(0, agents), None)
        shape = (self.batch, agents, center.shape[1])

        hit = boxes.overlap(
            center[wide].expand(*shape, 2),
            heading[wide].expand(shape),
            size[..., :2][wide].expand(*shape, 2),
            center[:, None].expand(*shape, 2),
            heading[:, None].expand(shape),
            size[..., :2][:, None].expand(*shape, 2),
        )
        own = torch.arange(shape[2], device=self.device) == torch.arange(agents, device=self.device)[:, None]
        hit = hit & state.actor_there[:, None] & bank.present[state.scene][:, None] & ~own
        collision = hit.any(-1)
        collided_with = torch.where(collision, hit.float().argmax(-1), -1)

        corner = boxes.corners(center[:, :agents], heading[:, :agents], size[:, :agents, :2])
        scene = state.scene[:, None, None].expand(corner.shape[:-1])
        off_road = (self.ground.edge_distance(scene, corner) < 0).any(-1)
        allowed = self.ground.directions(state.scene[:, None].expand(-1, agents), cars.position).long()
        sector = torch.round(cars.heading / (math.pi / 4)).long() % 8
        same_way = sum((allowed >> ((sector + k) % 8)) & 1 for k in (-2, -1, 0, 1, 2))
        wrong_way = (allowed != 0) & (same_way == 0) & (cars.speed > 1.0)

        red_light = torch.zeros_like(collision)
        if bank.stop_point.shape[1]:
            red_light = self._ran_light(before, state)
        lateral = cars.speed**2 * cars.curvature
        yaw_rate, earlier = cars.speed * cars.curvature, before.cars.speed * before.cars.curvature
        jerk = (cars.acceleration - before.cars.acceleration) / self.dt
        yaw_acceleration = (yaw_rate - earlier) / self.dt
        jerky = (jerk.abs() > COMFORT["jerk"]) | (yaw_acceleration.abs() > COMFORT["yaw_acceleration"])
        uncomfortable = (
            (cars.acceleration < COMFORT["braking"])
            | (cars.acceleration > COMFORT["acceleration"])
            | (lateral.abs() > COMFORT["lateral"])
            | (yaw_rate.abs() > COMFORT["yaw_rate"])
            | (jerky & (state.age[:, None] > 1))
        )
        # A commanded lane change puts the path a lane away at once; until it is due, the way there is not lost.
        origin = torch.where(self._command(state)[0], -state.path_offset, 0.0)
        beyond = torch.maximum(state.lateral - origin.clamp(min=0.0), origin.clamp(max=0.0) - state.lateral)
        lost = (beyond > spec.lost_distance) | (state.heading_error.abs() > spec.lost_heading)
        goal = state.arc > bank.path_length[state.scene] - 5.0
        numeric = ~finite | ~cars.position.isfinite().all(-1)

        cause = torch.zeros_like(state.cause)
        ranked = (
            (Cause.GOAL, goal),
            (Cause.WRONG_WAY, wrong_way),
            (Cause.LOST, lost),
            (Cause.RED_LIGHT, red_light),
            (Cause.OFF_ROAD, off_road),
            (Cause.COLLISION, collision),
            (Cause.NUMERIC, numeric),
        )
        for name, flag in ranked:
            if name in spec.terminate:
                cause = torch.where(flag, int(name), cause)
        alive = before.alive
        terminated = alive & (cause != Cause.NONE)
        over = (state.tick >= bank.ticks[state.scene] - 1) | (state.age >= round(spec.duration / self.dt))
        truncated = alive & ~terminated & over[:, None]
        cause = torch.where(truncated, int(Cause.TIME), cause)
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

    def _ran_light(self, before: BoxWorldState, state: BoxWorldState) -> Tensor:
        """Whether a front bumper crossed a stop line during this tick while its light said stop."""
        bank, agents = self.bank, self.agents
        length = bank.size[state.scene, :agents, 0]
        front = torch.stack([boxes.rear_axle_to_center(length) + length / 2, torch.zeros_like(length)], -1)
        stop, course = bank.stop_point[state.scene][:, None], bank.stop_heading[state.scene][:, None]

        def past(cars: bicycle.VehicleState) -> Tensor:
            bumper = world_from_local(front, cars.position, cars.heading)[:, :, None]
            return local_from_world(bumper.expand(-1, -1, stop.shape[2], -1), stop, course)

        was, now = past(before.cars), past(state.cars)
        aligned = (state.cars.heading[..., None] - course).cos() > 0.5
        crossed = (was[..., 0] < 0) & (now[..., 0] >= 0) & (now[..., 1].abs() < 2.0) & aligned
        return (crossed & (self._lights(before) == SignalState.STOP)[:, None]).any(-1)

    def displace(
        self,
        lateral: Float[Tensor, "world agent"],
        heading: Float[Tensor, "world agent"],
        speed: Float[Tensor, "world agent"],
    ) -> None:
        """See `World.displace`."""
        state = self.state
        aside = torch.stack([torch.zeros_like(lateral), lateral], -1)
        cars = state.cars.replace(
            position=world_from_local(aside, state.cars.position, state.cars.heading),
            heading=wrap_angle(state.cars.heading + heading),
            speed=state.cars.speed * speed,
        )
        arc, offset, error, _ = self._locate(
            state.scene, cars.position, cars.heading, state.path_offset, state.arc
        )
        self.state = self._place_cars(state.replace(cars=cars, arc=arc, lateral=offset, heading_error=error))

    # --- copying --------------------------------------------------------------------------------

    def fork(self, rows: Int[Tensor, "row"], *, fresh_noise: bool = False) -> Self:
        """See `World.fork`. Scenes are shared; only the state is copied."""
        twin = copy.copy(self)
        twin.batch = len(rows)
        state = self.state[rows]
        if fresh_noise:
            copies = torch.arange(len(rows), device=self.device)
            state = state.replace(drive=state.drive * 1_000_003 + copies + 1)
        twin.state = state
        return twin

    def save(self) -> dict[str, Tensor]:
        """See `World.save`."""
        return {name: leaf.clone() for name, leaf in self.state.flatten().items()}

    def restore(self, saved: dict[str, Tensor]) -> None:
        """See `World.restore`."""
        known = self.state.flatten()
        if known.keys() != saved.keys() or any(known[k].shape[1:] != saved[k].shape[1:] for k in known):
            raise UserError(
                "the saved state is not of this world",
                got=f"{len(saved)} tensors of other names or shapes",
                expected="what `save` returned for the same settings and scenarios",
                fix="build the world from the settings it was saved with",
            )
        self.state = self.state.unflatten({name: leaf.clone() for name, leaf in saved.items()})
        self.batch = len(self.state.scene)

    def drives(self) -> Int[Tensor, "world"]:
        """See `World.drives`."""
        return self.state.drive

    def motion(self) -> Motion:
        """See `World.motion`."""
        return Motion(self.state.cars.speed, self.state.cars.curvature)

    def confidence(self) -> Float[Tensor, "world agent"]:
        """See `World.confidence`; a generated world can be trusted everywhere."""
        return torch.ones_like(self.state.cars.speed)

    def boxes(self) -> Float[np.ndarray, "world actor 7"]:
        """Every actor as x, y, heading, length, width, height, kind (-1 where it is not), for records."""
        state, bank = self.state, self.bank
        there = state.actor_there & bank.present[state.scene]
        kind = torch.where(there, bank.kind[state.scene], -1)
        rows = torch.cat([state.actor, bank.size[state.scene], kind[..., None].to(state.actor.dtype)], -1)
        return rows.double().cpu().numpy()
