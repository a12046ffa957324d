"""Settings of a boxworld, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from countersteer.geometry.cameras import Camera
from countersteer.scenarios.scenario import Scenario
from countersteer.traffic.idm import IDM
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.vehicles.jerk import JerkSpec
from countersteer.worlds.interface import Capability, TerminationReason
from countersteer.worlds.renderers.boxes.gap import CameraDomainShift
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.simulation.engine import Backend
from countersteer.worlds.world import WorldSpec

if TYPE_CHECKING:
    from countersteer.worlds.world import World

__all__ = ["BoxWorldSpec", "AppearanceRandomization", "StartSpec"]


@dataclass(frozen=True)
class StartSpec:
    """Where drives begin, around the recorded ego at a random time; uniform in +- these bounds.

    Attributes:
        lateral: Offset from the path [m].
        heading: Turn [rad].
        speed: Relative to the recorded speed.
        set_speed: Range of the set speed relative to the recorded cruise; the start speed scales along.
        command_share: Share of drives in which a lane change is asked for, where a lane is there.
        command_time: When, since the start [s].
        goal: How far ahead along its path a car's goal lies [m], least and most, but not beyond where the path
            leaves the road; None: at the path's end.
    """

    lateral: float = 0.05
    heading: float = 0.005
    speed: float = 0.02
    set_speed: tuple[float, float] = (0.8, 1.0)
    command_share: float = 0.0
    command_time: tuple[float, float] = (0.5, 6.0)
    goal: tuple[float, float] | None = None


@dataclass(frozen=True)
class AppearanceRandomization:
    """How much drives differ in looks; all zero is the same look for every drive.

    Attributes:
        colours: Share of the full range of palettes, light and texture, in [0, 1].
        camera_angle: Mounting error of the cameras, uniform in +- [rad].
        camera_height: Mounting error, uniform in +- [m].
    """

    colours: float = 0.6
    camera_angle: float = 0.002
    camera_height: float = 0.03


@dataclass(frozen=True)
class BoxWorldSpec(WorldSpec):
    """A boxworld before it has scenes.

    Attributes:
        cameras: Cameras of every controlled car; may be empty.
        dt: Tick [s].
        agents: Controlled cars in each drive.
        min_agents: Cars that a scene must have to control, at least 1; where there are fewer than `agents`, slots
            stay empty, and such a car has never begun (`alive` is False). Nor has a car that begins off the road,
            upon somebody else, with less than 10 m of recorded way, or less than 15 m before its goal. None: as many as `agents`, and all begin.
        duration: Longest drive [s]; a scenario that ends earlier ends the drive.
        traffic: Model of everybody else; None replays the recording.
        vehicle: What the controlled cars are drawn from.
        jerk: What a `JerkAction` adds up to; None for a world that takes no such actions.
        start: What starts are drawn from.
        looks: What looks are drawn from.
        target_points: Whether the intent gives points of the route ahead.
        navigation: Whether the command says LEFT or RIGHT while the path 30 m ahead runs more than 30 degrees off
            its direction here, as a navigation system would; a lane change that is asked for comes first.
        command_duration: How long a lane-change command stays on [s].
        max_route_deviation, max_heading_error: Beyond this the drive ends as LOST [m, rad].
        terminate: Causes that end a drive; the others are only reported.
        remove_done_agents: Whether cars whose drive has ended are taken off the road; else they stand where it ended.
        vector: What the privileged sensor "vector" says, float32 `[world agent feature]`; None for no such
            sensor.
        vector_dropout: Shares of its lane points and of its edge points that are hidden at random each tick, so
            that nobody learns single points by heart (Gigaflow, arXiv 2502.03349, hides half of each).
        engine: What computes ticks and the vector.
        gap: How what its cameras record differs from what is drawn; None: not at all.
    """

    cameras: tuple[Camera, ...] = (Camera(),)
    dt: float = 0.1
    agents: int = 1
    min_agents: int | None = None
    duration: float = 15.0
    traffic: IDM | None = None
    vehicle: VehicleSpec = VehicleSpec()
    jerk: JerkSpec | None = None
    start: StartSpec = StartSpec()
    looks: AppearanceRandomization = AppearanceRandomization()
    target_points: bool = False
    command_duration: float = 4.0
    max_route_deviation: float = 4.0
    max_heading_error: float = 1.0
    terminate: tuple[TerminationReason, ...] = (
        TerminationReason.COLLISION,
        TerminationReason.OFF_ROUTE,
        TerminationReason.INVALID_STATE,
        TerminationReason.GOAL,
    )
    remove_done_agents: bool = False
    vector: VectorSpec | None = None
    vector_dropout: tuple[float, float] = (0.0, 0.0)
    engine: Backend = Backend.AUTO
    navigation: bool = field(default=False, metadata={"absent": False})
    gap: CameraDomainShift | None = field(default=None, metadata={"absent": None})

    capabilities = frozenset(
        {Capability.TRUTH, Capability.FORK, Capability.LOG, Capability.JERK, Capability.TWIN}
    )

    def build(
        self, scenarios: Sequence[Scenario], batch: int, seed: int, device: torch.device | str = "cpu"
    ) -> World:
        """A world of `batch` drives in these scenarios; nothing has begun before the first `reset`."""
        from countersteer.worlds.world import World

        return World(self, scenarios, batch, seed, device)
