"""The boxworld: state as tensors `[world, agent, ...]`, replaced at every step and never written into."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Collection, Sequence
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
from countersteer.scenarios.routes import EXTENSION
from countersteer.scenarios.scenario import Scenario
from countersteer.vehicles import bicycle, jerk
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.interface import Capability, CapabilityError, Events, Images, Outputs, Starts
from countersteer.worlds.observations import Command, EgoMotion, Intent, Observation, SensorReading, twin_of
from countersteer.worlds.renderers.boxes import Views, render
from countersteer.worlds.renderers.boxes.views import Painter
from countersteer.worlds.sensors import vector
from countersteer.worlds.simulation.lead_vehicle import find_leader
from countersteer.worlds.simulation.paths import project_to_route, route_at
from countersteer.worlds.simulation.scenes import build_bank
from countersteer.worlds.simulation.spec import BoxWorldSpec
from countersteer.worlds.simulation.state import (
    BoxWorldState,
    SceneRows,
    command_now,
    give_commands,
    lights_now,
    place_cars,
)
from countersteer.worlds.simulation.stepping import advance
from countersteer.worlds.simulation.stepping.reference import collisions
from countersteer.worlds.truth import LoggedPoses, Motion, PathPoints, Truth
from countersteer.worlds.world import World

__all__ = ["World"]

HISTORY = 6  # ticks of odometry a car remembers
SHORTEST_WAY = 15.0  # to a goal [m]; it counts as reached from 5 m before it
SHORTEST_ROUTE = 10.0  # recorded of a car that is to have a goal [m]
TARGET_DISTANCES = (10.0, 20.0, 30.0)  # of target points [m]
TURN = (
    30.0,
    math.radians(30.0),
)  # how far ahead and how much off a path turns that a car is told of [m, rad]


class World(World):
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
        if spec.vector is not None and any(camera.name == "vector" for camera in spec.cameras):
            raise UserError(
                "two sensors have one name",
                got='a camera named "vector" beside the vector sensor',
                expected="names of their own",
                fix="rename the camera",
            )
        self.spec, self.batch, self.agents, self.dt, self.seed = spec, batch, spec.agents, spec.dt, seed
        self.cameras = spec.cameras
        self.scenarios = tuple(scenarios)
        self.device = torch.device(device)
        bank, ground = build_bank(scenarios, spec.agents, spec.dt, spec.min_agents)
        self.bank, self.ground = bank.to(self.device), ground.to(self.device)
        self.painter = Painter(spec.looks, self.bank, seed)
        self.roads = None
        if spec.vector is not None:
            roads = vector.RoadBank.pack(self.scenarios, spec.vector.lanes, spec.vector.edges)
            self.roads = roads.to(self.device)
        ahead = spec.vector.route if spec.vector is not None else ()
        self._route_ahead = torch.tensor(ahead, device=self.device)
        self._targets_ahead = torch.tensor(TARGET_DISTANCES, device=self.device)
        self._rows: tuple[Tensor, SceneRows] | None = None
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
        """See `World.reset`. On the CPU it costs as much as the drives that begin."""
        few = len(starts.drive) != self.batch
        if not few and self.device.type != "cpu":
            # Which rows begin stays on the device; asking for them would wait for it.
            self.state = self._begin(starts).where(mask, self.state)
            return
        rows = mask.nonzero()[:, 0]
        if few and len(rows) != len(starts.drive):
            raise UserError(
                "the starts are not of the drives that begin",
                got=f"{len(starts.drive)} starts, {len(rows)} drives that begin, of {self.batch}",
                expected="a start for each drive of the world, or for each that begins",
                fix="draw_starts(drives) or draw_starts(drives[mask])",
            )
        if len(rows) == 0:
            return
        begun = self._begin(starts if few or len(rows) == self.batch else starts[rows])
        if len(rows) < self.batch:
            begun = self.state.map(lambda kept, new: kept.index_copy(0, rows, new), begun)
        self.state = begun

    def _begin(self, starts: Starts) -> BoxWorldState:
        bank, scene = self.bank, starts.scenario
        zero = torch.zeros_like(starts.speed)
        arc, lateral, error, bend = project_to_route(
            self.bank, scene, starts.position, starts.heading, zero, None
        )
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
            goal_arc=self._goals(starts.drive, scene, arc),
            path_offset=zero,
            command=starts.command,
            command_tick=starts.command_tick,
            set_speed=starts.set_speed,
            speed_history=starts.speed[..., None].expand(-1, -1, HISTORY).contiguous(),
            yaw_history=(starts.speed * bend)[..., None].expand(-1, -1, HISTORY).contiguous(),
            alive=self._there(scene, starts.tick),
            cause=torch.zeros_like(starts.command),
            actor=pose,
            actor_speed=bank.speed[scene[:, None], actors, starts.tick[:, None]],
            actor_arc=bank.arc[scene[:, None], actors, starts.tick[:, None]],
            actor_there=bank.valid[scene[:, None], actors, starts.tick[:, None]],
        )
        state = place_cars(
            self.bank, give_commands(self.bank, state), remove_done_agents=self.spec.remove_done_agents
        )
        if self.spec.min_agents is None:
            return state
        state = state.replace(alive=state.alive & self._can_begin(state))
        return place_cars(self.bank, state, remove_done_agents=self.spec.remove_done_agents)

    def _there(self, scene: Tensor, tick: Tensor) -> Tensor:
        slots = torch.arange(self.agents, device=self.device)[None]
        if self.spec.min_agents is None:
            return self.bank.present[scene[:, None], slots]
        return self.bank.valid[scene[:, None], slots, tick[:, None]]

    def _can_begin(self, state: BoxWorldState) -> Tensor:
        """Whether each car stands on the road, clear of everybody, with a goal some way ahead."""
        size, agents = self.bank.size[state.scene], self.agents
        there = state.actor_there & self.bank.present[state.scene]
        hit = collisions(state.actor[..., :2], state.actor[..., 2], size[..., :2], there, agents)
        corner = boxes.corners(state.actor[:, :agents, :2], state.actor[:, :agents, 2], size[:, :agents, :2])
        scene = state.scene[:, None, None].expand(corner.shape[:-1])
        on_road = (self.ground.edge_distance(scene, corner) >= 0).all(-1)
        goes = self.bank.path_length[state.scene] >= EXTENSION + SHORTEST_ROUTE
        return (hit < 0) & on_road & goes & (state.goal_arc - state.arc >= SHORTEST_WAY)

    def _goals(self, drive: Tensor, scene: Tensor, arc: Tensor) -> Tensor:
        if self.spec.start.goal is None:
            return self.bank.path_length[scene]
        low, high = self.spec.start.goal
        share = noise.uniform(self.seed, drive, torch.zeros_like(drive), "goal", self.agents)
        return torch.minimum(arc + low + (high - low) * share, self.bank.road_length[scene])

    # --- paths ----------------------------------------------------------------------------------

    def path_at(self, arc: Float[Tensor, "world agent point"]) -> PathPoints:
        """See `World.path_at`; the path includes a commanded lane change from the moment it is asked for."""
        return route_at(self.bank, self.state.scene, arc, self.state.path_offset)

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

    # --- looking --------------------------------------------------------------------------------

    def observe(self, sensors: Collection[str] | None = None) -> Observation:
        """See `World.observe`."""
        state = self.state
        time = (state.age * self.dt)[:, None].expand(-1, self.agents)
        readings = {}
        for camera in self.cameras:
            shown = {camera.name: self.images, twin_of(camera.name): self.drawn}
            for name, images in shown.items():
                if name not in (sensors if sensors is not None else [camera.name]):
                    continue
                rgb = images(camera).rgb
                assert rgb is not None
                frames = rgb.unflatten(0, (self.batch, self.agents))
                readings[name] = SensorReading(frames, time, torch.ones_like(state.alive))
        if self.spec.vector is not None and (sensors is None or "vector" in sensors):
            seen = self._vector(self.spec.vector)
            readings["vector"] = SensorReading(seen, time, torch.ones_like(state.alive))
        back = torch.arange(HISTORY - 1, -1, -1, device=self.device)
        motion = EgoMotion(
            state.speed_history,
            state.yaw_history,
            (state.age[:, None, None] >= back).expand(-1, self.agents, -1),
        )
        return Observation(readings, motion, self._intent())

    def images(self, camera: Camera, outputs: Outputs = Outputs()) -> Images:
        """RGB, depth, class or instance images of one camera of every car, `world * agent` of them."""
        gap, state = self.spec.gap, self.state
        if gap is None or not outputs.rgb:
            return self.drawn(camera, outputs)
        images, views = self._draw(camera, dataclasses.replace(outputs, depth=True))
        assert images.rgb is not None
        assert images.depth is not None
        # Cars of one drive carry different cameras.
        cars = (state.drive[:, None] * self.agents + torch.arange(self.agents, device=self.device)).flatten()
        tick = state.tick.repeat_interleave(self.agents)
        rgb = gap.recorded(images.rgb, images.depth, views, cars, tick, self.seed)
        return dataclasses.replace(images, rgb=rgb, depth=images.depth if outputs.depth else None)

    def drawn(self, camera: Camera, outputs: Outputs = Outputs()) -> Images:
        """`images` without the spec's gap: what a boxworld draws, whatever the cameras record."""
        return self._draw(camera, outputs)[0]

    def _draw(self, camera: Camera, outputs: Outputs) -> tuple[Images, Views]:
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
        return render(self.ground, views, boxes, looks, outputs), views

    def _vector(self, spec: vector.VectorSpec) -> Float[Tensor, "world agent feature"]:
        state, bank, cars = self.state, self.bank, self.state.cars
        assert self.roads is not None
        still = self._still()
        ego = vector.Ego(
            position=cars.position,
            heading=cars.heading,
            speed=cars.speed,
            curvature=cars.curvature,
            acceleration=cars.acceleration,
            asked=cars.commands[..., 0, :],
            lateral=state.lateral,
            heading_error=state.heading_error,
            set_speed=state.set_speed,
            remaining=state.goal_arc - state.arc,
            route=self.path_at(state.arc[..., None] + self._route_ahead).position,
        )
        actors = vector.Actors(
            pose=state.actor,
            speed=state.actor_speed,
            size=still.size,
            kind=still.kind,
            present=state.actor_there & still.present,
        )
        lights = vector.Lights(still.stop_point, still.stop_heading, lights_now(bank, state))
        seen = vector.observe(spec, self.roads, state.scene, ego, actors, lights, self.spec.engine)
        return self._hide(seen, spec) if max(self.spec.vector_dropout) > 0.0 else seen

    def _hide(self, seen: Tensor, spec: vector.VectorSpec) -> Tensor:
        """Lane and edge points left out at random, each with all that is said of it."""
        state = self.state
        for name, share in zip(("lanes", "edges"), self.spec.vector_dropout, strict=True):
            group = spec.layout[name]
            draw = noise.uniform(self.seed, state.drive, state.age, f"hide-{name}", self.agents * group.slots)
            kept = (draw >= share).unflatten(-1, (self.agents, 1, group.slots))
            items = seen[..., group.start : group.stop].unflatten(-1, (len(group.fields), group.slots))
            seen[..., group.start : group.stop] = (items * kept).flatten(-2)
        return seen

    def _still(self) -> SceneRows:
        """What the scenes of the drives say that no tick changes; gathered anew where drives have begun."""
        if self._rows is None or self._rows[0] is not self.state.scene:
            self._rows = self.state.scene, SceneRows.of(self.bank, self.state.scene)
        return self._rows[1]

    def _intent(self) -> Intent:
        state = self.state
        active, age = command_now(self.spec, state)
        points = state.arc.new_zeros(*state.arc.shape, len(TARGET_DISTANCES), 2)
        if self.spec.target_points:
            points = self.path_at(state.arc[..., None] + self._targets_ahead).position
            heading = state.cars.heading[..., None].expand(points.shape[:-1])
            points = local_from_world(points, state.cars.position[..., None, :], heading)
        otherwise = torch.full_like(state.command, int(Command.FOLLOW))
        if self.spec.navigation:
            ahead = state.arc[..., None] + state.arc.new_tensor([0.0, TURN[0]])
            direction = self.path_at(ahead).heading
            turn = wrap_angle(direction[..., 1] - direction[..., 0])
            otherwise[turn > TURN[1]] = int(Command.LEFT)
            otherwise[turn < -TURN[1]] = int(Command.RIGHT)
        return Intent(
            command=torch.where(active, state.command, otherwise),
            command_age=torch.where(active, age, 0.0),
            set_speed=state.set_speed,
            target_points=points,
            target_valid=torch.full_like(state.alive, self.spec.target_points),
        )

    def truth(self) -> Truth:
        """See `World.truth`."""
        state, cars = self.state, self.state.cars
        lead_gap, lead_speed, stop_gap = find_leader(self.bank, state, self.spec.engine)
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

    # --- moving ---------------------------------------------------------------------------------

    def command(self, action: JerkAction) -> Action:
        """See `World.command`."""
        if self.spec.jerk is None:
            raise CapabilityError(self, Capability.JERK)
        return jerk.command(self.state.cars, action, self.dt, self.spec.jerk, self.spec.vehicle.limits)

    def step(self, action: Action | JerkAction) -> Events:
        """See `World.step`; a world with `BoxWorldSpec.jerk` can be driven by jerk too."""
        self.state, events = advance(self.spec, self.bank, self.ground, self.state, action)
        return events

    def perturb(
        self,
        lateral: Float[Tensor, "world agent"],
        heading: Float[Tensor, "world agent"],
        speed: Float[Tensor, "world agent"],
    ) -> None:
        """See `World.perturb`."""
        state = self.state
        aside = torch.stack([torch.zeros_like(lateral), lateral], -1)
        cars = state.cars.replace(
            position=world_from_local(aside, state.cars.position, state.cars.heading),
            heading=wrap_angle(state.cars.heading + heading),
            speed=state.cars.speed * speed,
        )
        arc, offset, error, _ = project_to_route(
            self.bank, state.scene, cars.position, cars.heading, state.path_offset, state.arc
        )
        moved = state.replace(cars=cars, arc=arc, lateral=offset, heading_error=error)
        self.state = place_cars(self.bank, moved, remove_done_agents=self.spec.remove_done_agents)

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

    def alive(self) -> Bool[Tensor, "world agent"]:
        """See `World.alive`."""
        return self.state.alive

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
