"""Cars on roads: state as tensors `[world, agent, ...]`, replaced at every step and never written into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from countersteer import noise
from countersteer.geometry import boxes
from countersteer.geometry.poses import local_from_world, world_from_local, wrap_angle
from countersteer.scenarios.road_pieces import pack_pieces
from countersteer.scenarios.scenario import Scenario
from countersteer.tensors import as_array
from countersteer.traffic.interface import Moved, TrafficModel
from countersteer.vehicles import jerk
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.backend import Backend
from countersteer.worlds.interface import Capability, CapabilityError, Events, Simulation
from countersteer.worlds.observations import Command, EgoMotion, Intent, SensorReading, SensorSpec
from countersteer.worlds.sensors import vector
from countersteer.worlds.sensors.vector import observing
from countersteer.worlds.sensors.vector.roads import RoadBank
from countersteer.worlds.simulation import starting
from countersteer.worlds.simulation.lead_vehicle import find_leader
from countersteer.worlds.simulation.paths import project_to_route, route_at
from countersteer.worlds.simulation.scenes import build_bank
from countersteer.worlds.simulation.spec import RoadSettings
from countersteer.worlds.simulation.state import (
    RoadScene,
    RoadState,
    command_now,
    heights_now,
    lights_now,
    place_cars,
)
from countersteer.worlds.simulation.stepping import Stepper
from countersteer.worlds.simulation.traffic_now import past_of, traffic_now
from countersteer.worlds.truth import Actors, Lights, LoggedPoses, Motion, PathPoints, Routes, Truth

__all__ = ["RoadSimulation", "RoadSimulationSpec"]

TARGET_DISTANCES = (10.0, 20.0, 30.0)  # of target points [m]
TURN = (30.0, math.radians(30.0))
"""How far ahead and how much a path turns that a car is told of [m, rad]."""


@dataclass(frozen=True)
class RoadSimulationSpec(RoadSettings):
    """Cars on roads, moved by their own bicycle model; see `RoadSettings`."""

    def build(
        self,
        scenarios: Sequence[Scenario],
        sensors: Sequence[SensorSpec],
        seed: int,
        device: torch.device | str = "cpu",
    ) -> RoadSimulation:
        """See `SimulationSpec.build`."""
        return RoadSimulation(self, scenarios, sensors, seed, device)


class RoadSimulation(Simulation):
    """See `Simulation` and `RoadSettings`.

    Args:
        spec: Settings.
        scenarios: What drives happen in.
        sensors: What cars carry; the vector sensor among them is answered here.
        seed: Of all randomness.
        device: Where tensors live.

    Attributes:
        bank, ground: The scenes.
        roads: Road points that the vector sensor shows; None without one.
    """

    spec: RoadSettings

    def __init__(
        self,
        spec: RoadSettings,
        scenarios: Sequence[Scenario],
        sensors: Sequence[SensorSpec],
        seed: int,
        device: torch.device | str = "cpu",
    ):
        self.spec, self.seed, self.scenarios = spec, seed, tuple(scenarios)
        self.device = torch.device(device)
        bank, ground = build_bank(scenarios, spec.agents, spec.dt, spec.min_agents)
        self.bank, self.ground = bank.to(self.device), ground.to(self.device)
        reads_roads = isinstance(spec.traffic, TrafficModel) and spec.traffic.reads_roads
        self._pieces = pack_pieces(self.scenarios).to(self.device) if reads_roads else None
        self._by_kernel = spec.backend.on(self.device) is Backend.KERNEL
        self._stepper = Stepper(spec, self.bank, self.ground)
        self.roads = None
        for sensor in sensors:
            if self.senses(sensor):
                assert isinstance(sensor, vector.VectorSpec)
                self.roads = RoadBank.pack(self.scenarios, sensor.lanes, sensor.edges).to(self.device)
                self._route_ahead = torch.tensor(sensor.route, device=self.device)
        self._back = torch.arange(spec.history - 1, -1, -1, device=self.device)
        self._targets_ahead = torch.tensor(TARGET_DISTANCES, device=self.device)

    # --- drives ---------------------------------------------------------------------------------

    def draw_starts(self, drive: Int[Tensor, "world"]) -> starting.RoadStarts:
        """See `Simulation.draw_starts`: a random scenario, a random time in it, and the spec's jitter."""
        return starting.draw_starts(self.spec, self.bank, self.seed, drive)

    def starts_at(
        self,
        scene: Int[Tensor, "world"],
        tick: Int[Tensor, "world"],
        drive: Int[Tensor, "world"],
        *,
        jitter: bool,
    ) -> starting.RoadStarts:
        """Starts on the recorded poses of given scenarios and ticks, with or without the spec's jitter."""
        return starting.starts_at(self.spec, self.bank, self.seed, scene, tick, drive, jitter=jitter)

    def begin(self, starts: starting.RoadStarts) -> RoadState:
        """See `Simulation.begin`."""
        state = starting.begin(self.spec, self.bank, self.ground, self.seed, starts)
        if isinstance(self.spec.traffic, TrafficModel):
            traffic = traffic_now(self.spec, self.bank, state, self._pieces)
            past = past_of(self.spec, self.bank, state, self.spec.traffic.past)
            return state.replace(traffic=self.spec.traffic.begin(traffic.replace(past=past)))
        return state

    def step(self, state: RoadState, action: Action | JerkAction) -> tuple[RoadState, Events]:
        """See `Simulation.step`; with `jerk` in its spec it can be driven by jerk too."""
        moved: Moved | None = None
        if isinstance(self.spec.traffic, TrafficModel):
            traffic = traffic_now(self.spec, self.bank, state, self._pieces)
            moved, memory = self.spec.traffic.step(traffic, state.traffic, dt=self.spec.dt, seed=self.seed)
            running = state.alive.any(1)
            state = state.replace(traffic=memory.where(running, state.traffic))  # pyright: ignore[reportArgumentType]
        return self._stepper.advance(state, action, moved)

    def perturb(
        self,
        state: RoadState,
        lateral: Float[Tensor, "world agent"],
        heading: Float[Tensor, "world agent"],
        speed: Float[Tensor, "world agent"],
    ) -> RoadState:
        """See `World.perturb`."""
        sideways = torch.stack([torch.zeros_like(lateral), lateral], -1)
        cars = state.cars.replace(
            position=world_from_local(sideways, state.cars.position, state.cars.heading),
            heading=wrap_angle(state.cars.heading + heading),
            speed=state.cars.speed * speed,
        )
        arc, offset, error, _ = project_to_route(
            self.bank, state.scene, cars.position, cars.heading, state.path_offset, state.arc
        )
        moved = state.replace(cars=cars, arc=arc, lateral=offset, heading_error=error)
        return place_cars(self.bank, moved, remove_done_agents=self.spec.remove_done_agents)

    def command(self, state: RoadState, action: JerkAction) -> Action:
        """See `World.command`."""
        if self.spec.jerk is None:
            raise CapabilityError(self, Capability.JERK)
        return jerk.command(state.cars, action, self.spec.dt, self.spec.jerk, self.spec.vehicle.limits)

    # --- reading --------------------------------------------------------------------------------

    def motion(self, state: RoadState) -> Motion:
        """See `Simulation.motion`."""
        return Motion(state.cars.speed, state.cars.curvature)

    def odometry(self, state: RoadState) -> EgoMotion:
        """See `Simulation.odometry`."""
        known = (state.age[:, None, None] >= self._back).expand(-1, self.spec.agents, -1)
        return EgoMotion(state.speed_history, state.yaw_history, known)

    def intent(self, state: RoadState) -> Intent:
        """See `Simulation.intent`."""
        points = state.arc.new_zeros(*state.arc.shape, len(TARGET_DISTANCES), 2)
        if self.spec.target_points:
            points = self.path_at(state, state.arc[..., None] + self._targets_ahead).position
            heading = state.cars.heading[..., None].expand(points.shape[:-1])
            points = local_from_world(points, state.cars.position[..., None, :], heading)
        otherwise = torch.full_like(state.command, int(Command.FOLLOW))
        if self.spec.navigation:
            ahead = torch.stack([state.arc, state.arc + TURN[0]], -1)
            direction = self.path_at(state, ahead).heading
            turn = wrap_angle(direction[..., 1] - direction[..., 0])
            otherwise = torch.where(turn > TURN[1], int(Command.LEFT), otherwise)
            otherwise = torch.where(turn < -TURN[1], int(Command.RIGHT), otherwise)
        command, age = self._command_now(state, otherwise)
        return Intent(
            command=command,
            command_age=age,
            set_speed=state.set_speed,
            target_points=points,
            target_valid=torch.full_like(state.alive, self.spec.target_points),
        )

    def _command_now(self, state: RoadState, otherwise: Tensor) -> tuple[Tensor, Tensor]:
        """The command that is on, else `otherwise`, and for how long it has been, else 0."""
        if not self._by_kernel:
            active, age = command_now(self.spec, state)
            return torch.where(active, state.command, otherwise), torch.where(active, age, 0.0)
        from countersteer.worlds.simulation.reading_kernels import commands_now

        own = state.arrays
        command, since = np.empty_like(own["command"]), np.empty(own["command"].shape, np.float32)
        given = own["age"], own["command"], own["command_tick"], as_array(otherwise)
        commands_now(self.spec.dt, self.spec.command_duration, *given, command, since)
        return torch.from_numpy(command), torch.from_numpy(since)

    def scene(self, state: RoadState) -> RoadScene:
        """See `Simulation.scene`."""
        return RoadScene(
            scene=state.scene,
            drive=state.drive,
            tick=state.tick,
            position=state.cars.position,
            heading=state.cars.heading,
            arc=state.arc,
            actors=self._actors(state),
            lights=self._lights(state),
        )

    def _actors(self, state: RoadState) -> Actors:
        rows = state.rows
        return Actors(state.actor, state.actor_speed, rows.size, rows.kind, state.actor_there & rows.present)

    def _lights(self, state: RoadState) -> Lights:
        return Lights(state.rows.stop_point, state.rows.stop_heading, lights_now(self.bank, state))

    # --- the vector sensor ----------------------------------------------------------------------

    def senses(self, sensor: SensorSpec) -> bool:
        """See `Simulation.senses`."""
        return isinstance(sensor, vector.VectorSpec)

    def sense(self, state: RoadState, sensor: SensorSpec) -> SensorReading:
        """See `Simulation.sense`."""
        assert isinstance(sensor, vector.VectorSpec)
        if self._by_kernel and not state.arc.requires_grad:
            seen = self._sense_arrays(state, sensor)
        else:
            seen = self._sense_trees(state, sensor)
        if max(self.spec.vector_dropout) > 0.0:
            seen = self._hide(state, seen, sensor)
        time = (state.age * self.spec.dt)[:, None].expand(-1, self.spec.agents)
        return SensorReading(seen, time, torch.ones_like(state.alive))

    def _sense_trees(self, state: RoadState, sensor: vector.VectorSpec) -> Tensor:
        assert self.roads is not None
        cars = state.cars
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
            route=self.path_at(state, state.arc[..., None] + self._route_ahead).position,
        )
        actors, lights = self._actors(state), self._lights(state)
        return observing.observe(sensor, self.roads, state.scene, ego, actors, lights, self.spec.backend)

    def _sense_arrays(self, state: RoadState, sensor: vector.VectorSpec) -> Tensor:
        """`_sense_trees` by kernels alone, without a tensor for each array they take."""
        from countersteer.worlds.simulation.reading_kernels import surroundings

        assert self.roads is not None
        bank, own, rows = self.bank.arrays, state.arrays, state.rows.arrays
        shape, points = own["arc"].shape, len(sensor.route)
        remaining, asked, route = (np.empty((*shape, *more), np.float32) for more in ((), (2,), (points, 2)))
        shown, signal = np.empty_like(own["actor_there"]), np.empty(rows["light_cos"].shape, np.int64)
        surroundings(
            *(bank[name] for name in ("path", "path_length", "light")),
            *(
                own[name]
                for name in ("scene", "tick", "arc", "goal_arc", "path_offset", "commands", "actor_there")
            ),
            rows["present"],
            as_array(self._route_ahead),
            *(remaining, asked, route, shown, signal),
        )
        return observing.observe_arrays(
            sensor,
            self.roads,
            own["scene"],
            own["position"],
            *observing.course(state.cars.heading),
            *(own[name] for name in ("speed", "curvature", "acceleration")),
            asked,
            *(own[name] for name in ("lateral", "heading_error", "set_speed")),
            remaining,
            route,
            own["actor"],
            *observing.course(state.actor[..., 2]),
            own["actor_speed"],
            *(rows["size"], rows["kind"], shown),
            *(rows[name] for name in ("stop_point", "light_cos", "light_sin")),
            signal,
        )

    def _hide(self, state: RoadState, seen: Tensor, sensor: vector.VectorSpec) -> Tensor:
        """Lane and edge points left out at random, each with all that is said of it."""
        agents = self.spec.agents
        for name, share in zip(("lanes", "edges"), self.spec.vector_dropout, strict=True):
            group = sensor.layout[name]
            draw = noise.uniform(self.seed, state.drive, state.age, f"hide-{name}", agents * group.slots)
            kept = (draw >= share).unflatten(-1, (agents, 1, group.slots))
            items = seen[..., group.start : group.stop].unflatten(-1, (len(group.fields), group.slots))
            seen[..., group.start : group.stop] = (items * kept).flatten(-2)
        return seen

    # --- truth ----------------------------------------------------------------------------------

    def truth(self, state: RoadState) -> Truth:
        """See `World.truth`."""
        cars = state.cars
        lead_gap, lead_speed, stop_gap = find_leader(self.bank, state, self.spec.backend)
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
            goal_arc=state.goal_arc,
            path_offset=state.path_offset,
            alive=state.alive,
            cause=state.cause,
            actors=self._actors(state),
            lights=self._lights(state),
            lanes=state.rows.lanes,
            heights=heights_now(self.bank, state),
        )

    def path_at(self, state: RoadState, arc: Float[Tensor, "world agent point"]) -> PathPoints:
        """See `World.path_at`; the path includes a commanded lane change from the moment it is asked for."""
        return route_at(self.bank, state.scene, arc, state.path_offset)

    def routes(self, state: RoadState) -> Routes:
        """See `World.routes`."""
        return Routes(self.bank.path[state.scene], self.bank.path_length[state.scene])

    def log_at(self, state: RoadState, ahead: Float[Tensor, "point"]) -> LoggedPoses:
        """See `World.log_at`; past its end a recording goes straight on, so that nobody brakes for it."""
        bank, agents = self.bank, self.spec.agents
        steps = (ahead / self.spec.dt).round().long()
        tick = state.tick[:, None, None] + steps
        last = bank.ticks[state.scene][:, None, None] - 1
        slots = torch.arange(agents, device=self.device)[None, :, None]
        scene, inside, beyond = state.scene[:, None, None], tick <= last, (tick - last).clamp(min=0)
        tick = torch.minimum(tick, last)
        pose, speed = bank.pose[scene, slots, tick], bank.speed[scene, slots, tick]
        course = torch.stack([pose[..., 2].cos(), pose[..., 2].sin()], -1)
        further = (beyond * self.spec.dt * speed)[..., None] * course
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
