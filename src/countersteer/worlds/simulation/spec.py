"""Settings of a simulation of roads, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from countersteer.ranges import Count, NonNegative, Positive, Range, Ranged, Share, check_increasing
from countersteer.traffic.idm import IDM
from countersteer.traffic.interface import TrafficModel
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.vehicles.jerk import JerkSpec
from countersteer.worlds.backend import Backend
from countersteer.worlds.interface import Capability, SimulationSpec, TerminationReason

__all__ = ["RoadSettings", "StartSpec"]


@dataclass(frozen=True)
class StartSpec(Ranged):
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

    lateral: NonNegative = 0.05
    heading: Annotated[float, Range("[0, pi]")] = 0.005
    speed: Share = 0.02
    set_speed: tuple[Positive, Positive] = (0.8, 1.0)
    command_share: Share = 0.0
    command_time: tuple[NonNegative, NonNegative] = (0.5, 6.0)
    goal: tuple[Positive, Positive] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_increasing(self, "set_speed", "command_time", "goal")


@dataclass(frozen=True)
class RoadSettings(SimulationSpec):
    """What simulations of cars on roads have in common.

    Attributes:
        dt: Tick [s].
        agents: Controlled cars in each drive.
        min_agents: Cars that a scene must have to control; where there are fewer than `agents`, slots
            stay empty, and such a car has never begun (`alive` is False). Nor has a car that begins off the road,
            upon somebody else, with less than 10 m of recorded way, or less than 15 m before its goal. None: as many as `agents`, and all begin.
        duration: Longest drive [s]; a scenario that ends earlier ends the drive.
        traffic: What moves everybody else: None replays the recording; `IDM` is part of the tick itself; any other model
            moves them before it.
        vehicle: What the controlled cars are drawn from.
        jerk: What a `JerkAction` adds up to; None for a world that takes no such actions.
        start: What starts are drawn from.
        target_points: Whether the intent gives points of the route ahead.
        navigation: Whether the command says LEFT or RIGHT while the path 30 m ahead runs more than 30 degrees off
            its direction here, as a navigation system would; a lane change that is asked for comes first.
        command_duration: How long a lane-change command stays on [s].
        max_route_deviation, max_heading_error: Beyond this the drive ends as OFF_ROUTE [m, rad].
        terminate: Causes that end a drive; the others are only reported.
        remove_done_agents: Whether cars whose drive has ended are taken off the road; else they stand where it ended.
        vector_dropout: Shares of the lane points and of the edge points of the vector sensor that are hidden at random each
            tick, so that nobody learns single points by heart (Gigaflow, arXiv 2502.03349, hides half of each).
        backend: What computes ticks and the vector.
    """

    dt: float = 0.1
    agents: int = 1
    min_agents: Count | None = None
    duration: float = 15.0
    traffic: IDM | TrafficModel | None = None
    vehicle: VehicleSpec = VehicleSpec()
    jerk: JerkSpec | None = None
    start: StartSpec = StartSpec()
    target_points: bool = False
    navigation: bool = False
    command_duration: NonNegative = 4.0
    max_route_deviation: Positive = 4.0
    max_heading_error: Annotated[float, Range("(0, pi]")] = 1.0
    terminate: tuple[TerminationReason, ...] = (
        TerminationReason.COLLISION,
        TerminationReason.OFF_ROUTE,
        TerminationReason.INVALID_STATE,
        TerminationReason.GOAL,
    )
    remove_done_agents: bool = False
    vector_dropout: tuple[Share, Share] = (0.0, 0.0)
    backend: Backend = Backend.AUTO

    history: ClassVar[int] = 6

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See `SimulationSpec`."""
        offered = {Capability.TRUTH, Capability.FORK, Capability.PERTURB, Capability.LOG}
        return frozenset(offered | ({Capability.JERK} if self.jerk is not None else set()))
