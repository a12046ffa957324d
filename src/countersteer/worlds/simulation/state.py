"""What changes in a simulation of roads, and the parts of it that follow from others."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from countersteer.geometry import boxes
from countersteer.geometry.poses import world_from_local
from countersteer.tensors import TensorTree, as_array
from countersteer.vehicles import bicycle
from countersteer.worlds.interface import DriveState
from countersteer.worlds.observations import Command
from countersteer.worlds.sensors.vector.observing import light_course
from countersteer.worlds.simulation.scenes import PATH_SPACING, SceneBank
from countersteer.worlds.simulation.spec import RoadSettings
from countersteer.worlds.truth import Actors, Lanes, Lights

__all__ = [
    "RoadScene",
    "RoadState",
    "SceneRows",
    "command_now",
    "give_commands",
    "heights_now",
    "lights_now",
    "place_cars",
]


@dataclass(frozen=True)
class SceneRows(TensorTree):
    """Rows of `SceneBank` that hold for a whole drive, one a drive.

    Attributes:
        size, kind, present: Of every actor.
        stop_point, stop_heading: Of every light.
        lanes: Beside the first car's route.
    """

    size: Float[Tensor, "world actor 3"]
    kind: Int[Tensor, "world actor"]
    present: Bool[Tensor, "world actor"]
    stop_point: Float[Tensor, "world light 2"]
    stop_heading: Float[Tensor, "world light"]
    lanes: Lanes

    @classmethod
    def of(cls, bank: SceneBank, scene: Int[Tensor, "world"]) -> Self:
        """The rows of these scenes."""
        names = [field.name for field in fields(cls) if field.name != "lanes"]
        return cls(**{name: getattr(bank, name)[scene] for name in names}, lanes=bank.lanes[scene])

    @cached_property
    def arrays(self) -> dict[str, ndarray]:
        """As numpy sees them, and the lights' directions as cosine and sine; of rows on the CPU."""
        cos, sin = light_course(self.stop_heading)
        own = {name: as_array(leaf) for name, leaf in vars(self).items() if isinstance(leaf, Tensor)}
        return {**own, "light_cos": cos, "light_sin": sin}

    def __getstate__(self) -> dict[str, object]:
        """All but the arrays, which are the same memory."""
        return {name: value for name, value in vars(self).items() if name != "arrays"}


@dataclass(frozen=True)
class RoadState(DriveState):
    """Everything that changes. Times are in ticks; slots below `agent` of actors are the cars themselves.

    Attributes:
        scene: Scene of each drive.
        tick: Tick of the scenario; `age` counts from the drive's start.
        cars, params: Motion and build of the controlled cars.
        arc, lateral, heading_error: Cars relative to their paths.
        goal_arc: Where along its path each car's goal lies [m].
        path_offset: Lateral offset of the path from its route [m]; changed by commands.
        command, command_tick: Command and the age at which it comes, -1 for never.
        set_speed: [m/s].
        speed_history, yaw_history: Odometry, the latest last.
        cause: Why a car's drive ended.
        rows: What the scenes say that no tick changes.
        actor: Box centre and heading of every actor.
        actor_speed: [m/s].
        actor_arc: Distance along its own track [m], where IDM drives.
        actor_there: Whether it is in the world now.
        traffic: Memory of the model that moves the actors, if it is one that remembers.
    """

    scene: Int[Tensor, "world"]
    tick: Int[Tensor, "world"]
    cars: bicycle.VehicleState
    params: bicycle.VehicleParams
    arc: Float[Tensor, "world agent"]
    lateral: Float[Tensor, "world agent"]
    heading_error: Float[Tensor, "world agent"]
    goal_arc: Float[Tensor, "world agent"]
    path_offset: Float[Tensor, "world agent"]
    command: Int[Tensor, "world agent"]
    command_tick: Int[Tensor, "world agent"]
    set_speed: Float[Tensor, "world agent"]
    speed_history: Float[Tensor, "world agent history"]
    yaw_history: Float[Tensor, "world agent history"]
    cause: Int[Tensor, "world agent"]
    rows: SceneRows
    actor: Float[Tensor, "world actor 3"]
    actor_speed: Float[Tensor, "world actor"]
    actor_arc: Float[Tensor, "world actor"]
    actor_there: Bool[Tensor, "world actor"]
    traffic: TensorTree | None = None

    @cached_property
    def arrays(self) -> dict[str, ndarray]:
        """What changes from tick to tick, the cars' motion and build included, as numpy sees it; of a state on the CPU."""
        leaves = {**vars(self.params), **vars(self.cars), **vars(self)}
        return {name: as_array(leaf) for name, leaf in leaves.items() if isinstance(leaf, Tensor)}

    def __getstate__(self) -> dict[str, object]:
        """All but the arrays, which are the same memory."""
        return {name: value for name, value in vars(self).items() if name != "arrays"}


@dataclass(frozen=True)
class RoadScene(TensorTree):
    """What a renderer may look at.

    Attributes:
        scene, drive, tick: Scenario, identity and tick within the scenario, of each drive.
        position, heading: Rear axles of the controlled cars [m, rad].
        arc: How far along their paths they are [m].
        actors, lights: Everybody and everything that stands there.
    """

    scene: Int[Tensor, "world"]
    drive: Int[Tensor, "world"]
    tick: Int[Tensor, "world"]
    position: Float[Tensor, "world agent 2"]
    heading: Float[Tensor, "world agent"]
    arc: Float[Tensor, "world agent"]
    actors: Actors
    lights: Lights


def place_cars(bank: SceneBank, state: RoadState, *, remove_done_agents: bool) -> RoadState:
    """Write the controlled cars into the first actor slots; with `remove_done_agents` only those still driving are there."""
    agents = bank.path.shape[1]
    size = bank.size[state.scene, :agents]
    ahead = torch.stack([boxes.rear_axle_to_center(size[..., 0]), torch.zeros_like(size[..., 0])], -1)
    center = world_from_local(ahead, state.cars.position, state.cars.heading)
    cars = torch.cat([center, state.cars.heading[..., None]], -1)
    there = state.alive if remove_done_agents else torch.ones_like(state.alive)
    return state.replace(
        actor=torch.cat([cars, state.actor[:, agents:]], 1),
        actor_speed=torch.cat([state.cars.speed, state.actor_speed[:, agents:]], 1),
        actor_there=torch.cat([there, state.actor_there[:, agents:]], 1),
    )


def give_commands(bank: SceneBank, state: RoadState) -> RoadState:
    """Move the path to the neighbouring lane at the tick the command comes."""
    now = (state.command_tick >= 0) & (state.age[:, None] == state.command_tick)
    left = bank.left_offset[state.scene][:, None]
    right = bank.right_offset[state.scene][:, None]
    target = torch.where(state.command == int(Command.LEFT), left, right)
    given = now & (state.command != int(Command.FOLLOW)) & ~target.isnan()
    offset = torch.where(given, target, state.path_offset)
    return state.replace(path_offset=offset, lateral=state.lateral + state.path_offset - offset)


def command_now(spec: RoadSettings, state: RoadState) -> tuple[Tensor, Tensor]:
    """Whether a command is on, and for how long it has been [s]."""
    age = (state.age[:, None] - state.command_tick) * spec.dt
    return (state.command_tick >= 0) & (age >= 0) & (age < spec.command_duration), age


def lights_now(bank: SceneBank, state: RoadState) -> Int[Tensor, "world light"]:
    """`SignalState` of every light."""
    return bank.light[state.scene, :, state.tick]


def heights_now(bank: SceneBank, state: RoadState) -> Float[Tensor, "world actor"] | None:
    """Height of every actor's box centre [m]: as recorded where it is along its way.

    None where all scenes are flat, or somebody else moves the traffic, of which no recording tells.
    """
    if bank.z.shape[2] == 0 or state.traffic is not None:
        return None
    scene, arcs = state.scene[:, None], bank.arc[state.scene]
    index = torch.searchsorted(arcs, state.actor_arc[..., None].contiguous()).clamp(max=arcs.shape[-1] - 1)
    others = bank.z[state.scene].gather(2, index).squeeze(-1)
    last = (bank.path_length[state.scene] / PATH_SPACING).long()
    at = torch.minimum((state.arc / PATH_SPACING).round().long(), last).clamp(min=0)
    slots = torch.arange(at.shape[1], device=at.device)[None]
    return torch.cat([bank.path_z[scene, slots, at], others[:, at.shape[1] :]], 1)
