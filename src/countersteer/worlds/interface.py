"""The seam between worlds and everything that acts in them.

A world is a batch of independent drives, `world` of them, each with `agent` controlled cars. It
replaces its tensors at every step and never writes into them, so an observation, a saved state or a
fork taken earlier stays what it was.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.geometry.cameras import Camera
from countersteer.scenarios.scenario import Scenario
from countersteer.tensors import TensorTree
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import Action, JerkAction

if TYPE_CHECKING:
    from countersteer.worlds.sensors.vector import VectorSpec

__all__ = [
    "Capability",
    "CapabilityError",
    "TerminationReason",
    "Command",
    "EgoMotion",
    "Events",
    "Intent",
    "LoggedPoses",
    "Motion",
    "Observation",
    "PathPoints",
    "SensorReading",
    "Starts",
    "Truth",
    "World",
    "WorldSpec",
    "twin_of",
]


class Capability(Enum):
    """What a world can do beyond answering."""

    TRUTH = "truth"  # ground truth for experts
    FORK = "fork"  # independent copies of drives
    LOG = "log"  # a recorded future to return to
    PLAN_LABEL = "plan_label"  # the world itself labels with a plan
    GRADIENT = "gradient"  # answers are differentiable in the action
    JERK = "jerk"  # takes jerks as actions
    PERTURB = "perturb"  # cars can be thrown off their course
    TWIN = "twin"  # draws beside each camera's picture what a boxworld would show (`twin_of`)


class CapabilityError(Exception):
    """A world was asked for something outside its capabilities; `Recipe.check` should have said so."""

    def __init__(self, world: World, capability: Capability):
        super().__init__(f"{type(world).__name__} does not offer {capability.value!r}")


def twin_of(camera: str) -> str:
    """Name of the sensor that shows what a camera would see if the world were drawn by a boxworld."""
    return f"{camera}.twin"


class Command(IntEnum):
    """What the passenger asks for."""

    FOLLOW = 0  # stay in this lane
    LEFT = 1  # change one lane to the left of where the command was given; where a world navigates: turn left
    RIGHT = 2


class TerminationReason(IntEnum):
    """Why a drive ended."""

    NONE = 0  # it goes on
    COLLISION = 1
    OFF_ROAD = 2
    RED_LIGHT = 3
    WRONG_WAY = 4
    OFF_ROUTE = 5  # too far from its path for the world or its labels to mean anything
    INVALID_STATE = 6  # the state or the action was not a finite number
    GOAL = 7  # reached the end of its route
    TIME = 8  # the scenario's time is over


@dataclass(frozen=True)
class SensorReading(TensorTree):
    """One sensor's answer.

    Attributes:
        data: Of a camera `uint8 [*batch height width channel]`, of a vector `float32 [*batch feature]`.
        time: When it was taken [s, drive time].
        valid: False where the sensor has nothing to say.
    """

    data: Tensor
    time: Float[Tensor, "*batch"]
    valid: Bool[Tensor, "*batch"]


@dataclass(frozen=True)
class EgoMotion(TensorTree):
    """What the car's own odometry says, the latest last, one entry a tick.

    Attributes:
        speed: [m/s].
        yaw_rate: [rad/s], positive to the left.
        valid: False before the drive began.
    """

    speed: Float[Tensor, "*batch history"]
    yaw_rate: Float[Tensor, "*batch history"]
    valid: Bool[Tensor, "*batch history"]


@dataclass(frozen=True)
class Intent(TensorTree):
    """What the passenger wants, as far as the car is told.

    Attributes:
        command: `Command`.
        command_age: Time since the command was given [s]; 0 while following.
        set_speed: Speed the passenger asks for, as a cruise control is set [m/s].
        target_points: Points of the route ahead in the ego frame [m]. They tell a car its offset from
            its path, so tests of lane keeping do not give them.
        target_valid: Whether target points are given.
    """

    command: Int[Tensor, "*batch"]
    command_age: Float[Tensor, "*batch"]
    set_speed: Float[Tensor, "*batch"]
    target_points: Float[Tensor, "*batch target 2"]
    target_valid: Bool[Tensor, "*batch"]


@dataclass(frozen=True)
class Observation(TensorTree):
    """Everything a car may know at one moment."""

    sensors: dict[str, SensorReading]
    motion: EgoMotion
    intent: Intent


@dataclass(frozen=True)
class Events(TensorTree):
    """What happened in one step, for each controlled car.

    Attributes:
        terminated: The drive ended by its own doing (`cause` says which).
        truncated: The drive ended because its time is over.
        cause: `TerminationReason`.
        collision: Overlaps another actor's box.
        collided_with: Slot of that actor, -1 if none.
        off_road: A corner of the box lies off the drivable area.
        red_light: Crossed a stop line while its light said stop.
        wrong_way: Where every lane leads the other way.
        uncomfortable: Outside the comfort bounds of docs/conventions.md.
    """

    terminated: Bool[Tensor, "*batch"]
    truncated: Bool[Tensor, "*batch"]
    cause: Int[Tensor, "*batch"]
    collision: Bool[Tensor, "*batch"]
    collided_with: Int[Tensor, "*batch"]
    off_road: Bool[Tensor, "*batch"]
    red_light: Bool[Tensor, "*batch"]
    wrong_way: Bool[Tensor, "*batch"]
    uncomfortable: Bool[Tensor, "*batch"]


@dataclass(frozen=True)
class Starts(TensorTree):
    """Where each drive begins; leading dimensions `[world]`, or `[world agent]` for what a car has.

    Attributes:
        scenario: Index of the scenario.
        tick: First tick within the scenario.
        drive: Identity of the drive; all randomness hangs on it.
        position: Rear axle [m, world].
        heading: [rad].
        speed: [m/s].
        set_speed: What the intent will say [m/s].
        command: Command that will be given at `command_tick`.
        command_tick: Tick of the drive, -1 for never.
    """

    scenario: Int[Tensor, "world"]
    tick: Int[Tensor, "world"]
    drive: Int[Tensor, "world"]
    position: Float[Tensor, "world agent 2"]
    heading: Float[Tensor, "world agent"]
    speed: Float[Tensor, "world agent"]
    set_speed: Float[Tensor, "world agent"]
    command: Int[Tensor, "world agent"]
    command_tick: Int[Tensor, "world agent"]


@dataclass(frozen=True)
class Truth(TensorTree):
    """What only an expert, a privileged teacher or an evaluator may know.

    Attributes:
        position: Rear axle [m, world].
        heading: [rad].
        speed: [m/s].
        curvature: Curvature being driven [1/m].
        acceleration: Longitudinal [m/s^2].
        arc: Arc length along the path [m].
        lateral: Signed distance from the path, left positive [m]; the path includes a commanded lane change.
        heading_error: Heading relative to the path's [rad].
        set_speed: [m/s].
        lead_gap: Bumper-to-bumper gap to the next actor on the path [m], inf if none.
        lead_speed: Its speed along the path [m/s].
        stop_gap: Distance from the front bumper to the next stop line that says stop [m], inf if none.
        alive: False once the drive has ended.
    """

    position: Float[Tensor, "*batch 2"]
    heading: Float[Tensor, "*batch"]
    speed: Float[Tensor, "*batch"]
    curvature: Float[Tensor, "*batch"]
    acceleration: Float[Tensor, "*batch"]
    arc: Float[Tensor, "*batch"]
    lateral: Float[Tensor, "*batch"]
    heading_error: Float[Tensor, "*batch"]
    set_speed: Float[Tensor, "*batch"]
    lead_gap: Float[Tensor, "*batch"]
    lead_speed: Float[Tensor, "*batch"]
    stop_gap: Float[Tensor, "*batch"]
    alive: Bool[Tensor, "*batch"]


@dataclass(frozen=True)
class Motion(TensorTree):
    """Odometry: speed [m/s] and the curvature being driven [1/m]."""

    speed: Float[Tensor, "*batch"]
    curvature: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class PathPoints(TensorTree):
    """Points of the cars' paths.

    Attributes:
        position: [m, world].
        heading: Direction of the path [rad].
        curvature: [1/m].
    """

    position: Float[Tensor, "*batch point 2"]
    heading: Float[Tensor, "*batch point"]
    curvature: Float[Tensor, "*batch point"]


@dataclass(frozen=True)
class LoggedPoses(TensorTree):
    """Recorded rear-axle poses.

    Attributes:
        position: [m, world].
        heading: [rad].
        speed: [m/s].
        valid: False where nothing was recorded.
    """

    position: Float[Tensor, "*batch point 2"]
    heading: Float[Tensor, "*batch point"]
    speed: Float[Tensor, "*batch point"]
    valid: Bool[Tensor, "*batch point"]


class WorldSpec(abc.ABC):
    """A frozen dataclass of a world's settings; `build` makes the world.

    Attributes:
        cameras: The cameras of every controlled car.
        agents: Controlled cars in each drive.
        dt: Length of a tick [s].
        capabilities: What the world will offer beyond answering.
        vector: What the privileged sensor "vector" says; None where there is no such sensor.
    """

    cameras: tuple[Camera, ...]
    agents: int
    dt: float
    capabilities: frozenset[Capability]
    vector: VectorSpec | None = None

    @abc.abstractmethod
    def build(
        self, scenarios: Sequence[Scenario], batch: int, seed: int, device: torch.device | str = "cpu"
    ) -> World:
        """A world of `batch` drives in these scenarios; nothing has begun before the first `reset`."""


class World(abc.ABC):
    """A batch of independent drives that answers actions with observations.

    Attributes:
        batch: Number of drives.
        agents: Controlled cars in each.
        dt: Length of a tick [s].
        cameras: The cameras of every controlled car.
        capabilities: What this world offers beyond answering.
        device: Where its tensors lie.
    """

    batch: int
    agents: int
    dt: float
    cameras: tuple[Camera, ...]
    capabilities: frozenset[Capability]
    device: torch.device = torch.device("cpu")

    @property
    def jerk(self) -> JerkSpec | None:
        """What a `JerkAction` adds up to, and what is chosen from; None of a world that takes none."""
        return None

    @abc.abstractmethod
    def reset(self, mask: Bool[Tensor, "world"], starts: Starts) -> None:
        """Begin the drives in `mask` at `starts`; every other drive stays bitwise as it was.

        Args:
            mask: Which drives begin.
            starts: One for each drive of the world, or one for each in `mask`, in their order.
        """

    @abc.abstractmethod
    def draw_starts(self, drive: Int[Tensor, "world"]) -> Starts:
        """The starts that this world's own settings give to drives of these identities."""

    @abc.abstractmethod
    def observe(self, sensors: Collection[str] | None = None) -> Observation:
        """What each controlled car knows now, leading dimensions `[world agent]`.

        Args:
            sensors: Names of those that are read; None reads all but the twins of cameras (`twin_of`).
        """

    @abc.abstractmethod
    def step(self, action: Action | JerkAction) -> Events:
        """Advance every drive by one tick. Ended drives stay as they are until they are reset.

        A world may take actions only, and refuse jerks.
        """

    def command(self, action: JerkAction) -> Action:
        """What these jerks make of the commands given last, of worlds that can be driven by jerk."""
        raise CapabilityError(self, Capability.JERK)

    @abc.abstractmethod
    def fork(self, rows: Int[Tensor, "row"], *, fresh_noise: bool = False) -> Self:
        """Independent copies of drives at their present state; rows may repeat.

        Args:
            rows: Drives to copy, in the order of the copy's batch.
            fresh_noise: Whether each copy draws noise of its own; else it repeats its original's future.
        """

    @abc.abstractmethod
    def perturb(
        self,
        lateral: Float[Tensor, "world agent"],
        heading: Float[Tensor, "world agent"],
        speed: Float[Tensor, "world agent"],
    ) -> None:
        """Move the cars sideways [m, left positive], turn them [rad], multiply their speed; 0, 0, 1: none.

        Needs `Capability.PERTURB`.
        """

    @abc.abstractmethod
    def save(self) -> dict[str, Tensor]:
        """The whole state of the drives, for `restore`."""

    @abc.abstractmethod
    def restore(self, saved: dict[str, Tensor]) -> None:
        """Continue exactly from what `save` returned, on a world built from the same settings."""

    @abc.abstractmethod
    def drives(self) -> Int[Tensor, "world"]:
        """Identity of each drive; randomness is counted by it."""

    @abc.abstractmethod
    def alive(self) -> Bool[Tensor, "world agent"]:
        """Which cars' drives are going on; False before a drive begins, after it has ended, and in empty slots."""

    @abc.abstractmethod
    def motion(self) -> Motion:
        """What each car's odometry reads now; trackers run on it."""

    @abc.abstractmethod
    def confidence(self) -> Float[Tensor, "world agent"]:
        """How far the world can be trusted at each car's pose, in [0, 1]."""

    def truth(self) -> Truth:
        """Ground truth; needs `Capability.TRUTH`."""
        raise CapabilityError(self, Capability.TRUTH)

    def path_at(self, arc: Float[Tensor, "world agent point"]) -> PathPoints:
        """The cars' paths at arc lengths [m]; needs `Capability.TRUTH`."""
        raise CapabilityError(self, Capability.TRUTH)

    def log_at(self, ahead: Float[Tensor, "point"]) -> LoggedPoses:
        """What the recorded drivers did at times ahead of now [s]; needs `Capability.LOG`."""
        raise CapabilityError(self, Capability.LOG)
