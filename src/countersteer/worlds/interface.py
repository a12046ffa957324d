"""The seam between worlds and what they are made of.

A world is a batch of independent drives, `world` of them, each with `agent` controlled cars. A `Simulation` says who is
where; a `Renderer` says what is seen from there. What changes is a tree of tensors of each of them, which every step replaces and nobody
writes into. So `World` (in `world.py`) is written once for every pair: a reset is a masked choice between two trees, a
fork is indexing, and an observation, a saved state or a fork taken earlier stays what it was.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Annotated, Any, ClassVar, Self

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from countersteer.geometry.cameras import Camera
from countersteer.ranges import Range, Ranged, Tick
from countersteer.scenarios.scenario import Scenario
from countersteer.tensors import TensorTree
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.observations import EgoMotion, Intent, SensorReading, SensorSpec
from countersteer.worlds.truth import LoggedPoses, Motion, PathPoints, Routes, Truth

__all__ = [
    "Capability",
    "CapabilityError",
    "DriveState",
    "Events",
    "Images",
    "Outputs",
    "Renderer",
    "RendererSpec",
    "Simulation",
    "SimulationSpec",
    "Starts",
    "TerminationReason",
]


class Capability(Enum):
    """What a world can do beyond answering."""

    TRUTH = "truth"  # ground truth for experts
    FORK = "fork"  # independent copies of drives
    PERTURB = "perturb"  # cars can be moved by hand
    LOG = "log"  # a recorded future to return to
    JERK = "jerk"  # takes jerks as actions
    TWIN = "twin"  # draws beside each camera's picture what another renderer would show (`twin_of`)


class CapabilityError(Exception):
    """A world was asked for something outside its capabilities; `Recipe.check` should have said so."""

    def __init__(self, asked: object, capability: Capability):
        super().__init__(f"{type(asked).__name__} does not offer {capability.value!r}")


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
class Events(TensorTree):
    """What happened in one step, for each controlled car.

    Attributes:
        terminated: The drive ended by its own doing (`cause` says which).
        truncated: The drive ended because its time is over, or its route, in a world where that is no goal.
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

    @classmethod
    def of(cls, cause: Int[Tensor, "*batch"]) -> Self:
        """Drives end by these causes (`TerminationReason`), and nothing else happens."""
        nothing, over = torch.zeros_like(cause, dtype=torch.bool), cause == TerminationReason.TIME
        ended = (cause != TerminationReason.NONE) & ~over
        return cls(ended, over, cause, nothing, torch.full_like(cause, -1), *(nothing,) * 4)


@dataclass(frozen=True)
class Starts(TensorTree):
    """Where each drive begins; simulations add what theirs need.

    Attributes:
        drive: Identity of the drive; all randomness hangs on it.
    """

    drive: Int[Tensor, "world"]


@dataclass(frozen=True)
class DriveState(TensorTree):
    """What changes in every simulation; simulations add what theirs need.

    Attributes:
        drive: Identity of the drive; randomness is counted by it.
        age: Ticks since it began.
        alive: Which cars' drives are going on.
    """

    drive: Int[Tensor, "world"]
    age: Int[Tensor, "world"]
    alive: Bool[Tensor, "world agent"]


@dataclass(frozen=True)
class Outputs:
    """Which pictures to draw."""

    rgb: bool = True
    depth: bool = False
    kind: bool = False
    instance: bool = False


@dataclass(frozen=True)
class Images:
    """Pictures, None where not asked for.

    Attributes:
        rgb: Colours.
        depth: Distance along the optical axis [m], infinite for the sky.
        kind: `PixelClass`.
        instance: Slot of the actor that a pixel shows, -1 where there is none; lights follow the actors.
        confidence: How far each picture can be trusted, in [0, 1]; None for wholly.
    """

    rgb: UInt8[Tensor, "image height width 3"] | None
    depth: Float[Tensor, "image height width"] | None
    kind: UInt8[Tensor, "image height width"] | None
    instance: Int[Tensor, "image height width"] | None
    confidence: Float[Tensor, "image"] | None = None

    @property
    def grey(self) -> UInt8[Tensor, "image height width"] | None:
        """Brightness (ITU-R BT.601 luma) of `rgb`; None without it."""
        if self.rgb is None:
            return None
        red, green, blue = self.rgb.to(torch.int32).unbind(-1)
        # Weights 0.299, 0.587 and 0.114 in 1/256.
        return ((77 * red + 150 * green + 29 * blue + 128) >> 8).to(torch.uint8)


class SimulationSpec(Ranged, abc.ABC):
    """A frozen dataclass of a simulation's settings; `build` makes the simulation.

    Attributes:
        agents: Controlled cars in each drive.
        dt: Length of a tick [s].
        duration: Longest drive [s].
        capabilities: What it will offer.
        jerk: What jerks it takes as actions; None takes none.
        history: Ticks of odometry that its observations hold.
        target_points: Whether its intent gives points of the route ahead.
        navigation: Whether its command says left or right at turns.
    """

    agents: Annotated[int, Range("[1, 10000]")]
    dt: Tick
    duration: Annotated[float, Range("(0, 86400]")]
    jerk: JerkSpec | None = None
    history: ClassVar[int] = 1
    target_points: bool = False
    navigation: bool = False

    @property
    @abc.abstractmethod
    def capabilities(self) -> frozenset[Capability]: ...

    @abc.abstractmethod
    def build(
        self,
        scenarios: Sequence[Scenario],
        sensors: Sequence[SensorSpec],
        seed: int,
        device: torch.device | str = "cpu",
    ) -> Simulation:
        """A simulation of drives in these scenarios that answers those of the sensors which it `senses`."""


class Simulation(abc.ABC):
    """Who is where. Stateless but for its settings: every method takes the state, a tree of tensors on one device.

    States are `DriveState`s with leading dimension `[world]`. Randomness is counted by seed, drive, tick and consumer, so that a drive does
    not depend on its neighbours. What a capability names raises `CapabilityError` unless a simulation has it.

    Attributes:
        spec: Its settings.
        scenarios: What drives happen in; empty where there are none.
        device: Where its tensors lie.
    """

    spec: Any
    scenarios: tuple[Scenario, ...] = ()
    device: torch.device

    def draw_starts(self, drive: Int[Tensor, "world"]) -> Starts:
        """The starts that the settings give to drives of these identities; by default nothing but those."""
        return Starts(drive)

    def starts_at(
        self,
        scene: Int[Tensor, "world"],
        tick: Int[Tensor, "world"],
        drive: Int[Tensor, "world"],
        *,
        jitter: bool,
    ) -> Any:
        """Starts on the recorded poses of given scenarios and ticks, with or without the jitter of the settings."""
        raise CapabilityError(self, Capability.TRUTH)

    @abc.abstractmethod
    def begin(self, starts: Any) -> DriveState:
        """The state of drives that begin at `starts`, in their order."""

    @abc.abstractmethod
    def step(self, state: Any, action: Action | JerkAction) -> tuple[DriveState, Events]:
        """The state one tick later and what happened. Ended drives stay as they are."""

    def motion(self, state: Any) -> Motion:
        """What each car's odometry reads now; by default it stands still."""
        still = torch.zeros_like(state.alive, dtype=torch.float32)
        return Motion(still, still)

    def odometry(self, state: Any) -> EgoMotion:
        """What it has read, over `spec.history` ticks; by default what it reads now."""
        speed, curvature = (leaf[..., None] for leaf in self.motion(state).flatten().values())
        return EgoMotion(speed, speed * curvature, torch.ones_like(speed, dtype=torch.bool))

    def intent(self, state: Any) -> Intent:
        """What each car's passenger wants, as far as the car is told; by default nothing."""
        nothing = torch.zeros_like(state.alive, dtype=torch.float32)
        points = nothing[..., None, None].expand(*nothing.shape, 0, 2)
        return Intent(nothing.long(), nothing, nothing, points, nothing.bool())

    def scene(self, state: Any) -> TensorTree:
        """What a renderer may look at, `[world ...]`; by default everything."""
        return state

    def senses(self, sensor: SensorSpec) -> bool:
        """Whether the simulation itself answers a sensor; a renderer answers the others."""
        return False

    def sense(self, state: Any, sensor: SensorSpec) -> SensorReading:
        """The reading of a sensor that it senses, leading dimensions `[world agent]`."""
        raise NotImplementedError

    def confidence(self, state: Any) -> Float[Tensor, "world agent"]:
        """How far the simulation can be trusted at each car's pose, in [0, 1]."""
        return torch.ones_like(state.alive, dtype=torch.float32)

    def perturb(self, state: Any, lateral: Tensor, heading: Tensor, speed: Tensor) -> Any:
        """The state with cars moved, see `World.perturb`."""
        raise CapabilityError(self, Capability.PERTURB)

    def command(self, state: Any, action: JerkAction) -> Action:
        """What jerks make of the commands given last."""
        raise CapabilityError(self, Capability.JERK)

    def truth(self, state: Any) -> Truth:
        """Ground truth."""
        raise CapabilityError(self, Capability.TRUTH)

    def path_at(self, state: Any, arc: Float[Tensor, "world agent point"]) -> PathPoints:
        """The cars' paths at arc lengths [m]; needs `Capability.TRUTH`."""
        raise CapabilityError(self, Capability.TRUTH)

    def routes(self, state: Any) -> Routes:
        """The cars' whole paths; needs `Capability.TRUTH`."""
        raise CapabilityError(self, Capability.TRUTH)

    def log_at(self, state: Any, ahead: Float[Tensor, "point"]) -> LoggedPoses:
        """What the recorded drivers did at times ahead of now [s]."""
        raise CapabilityError(self, Capability.LOG)


class RendererSpec(Ranged, abc.ABC):
    """A frozen dataclass of a renderer's settings; `build` makes the renderer."""

    @abc.abstractmethod
    def build(self, simulation: Simulation, cameras: Sequence[Camera], seed: int) -> Renderer:
        """A renderer of this simulation for cars with these cameras.

        Raises:
            UserError: The simulation is not of the kind whose scenes it can draw.
        """


class Renderer(abc.ABC):
    """What is seen. Like a simulation it is stateless: what it remembers of drives is a tree of tensors `[world ...]`.

    Attributes:
        trusted: Whether its pictures can be trusted wherever a car goes; else they say how far (`Images.confidence`).
        identifies: Whether it knows which actor a pixel shows (`Images.instance`).
        advances: Whether its state changes from tick to tick (`advance`), as that of a video model.
    """

    trusted: ClassVar[bool] = True
    identifies: ClassVar[bool] = True
    advances: ClassVar[bool] = False

    @abc.abstractmethod
    def begin(self, scene: Any) -> TensorTree:
        """The state of drives that begin with this scene."""

    def advance(self, state: Any, scene: Any) -> Any:
        """The state one tick later, where the scene is now this."""
        return state

    @abc.abstractmethod
    def draw(self, state: Any, scene: Any, camera: Camera, outputs: Outputs = Outputs()) -> Images:
        """Pictures of one camera of every car, `world * agent` of them, cars of a world adjacent.

        Raises:
            UserError: It was asked for an output that it does not know.
        """
