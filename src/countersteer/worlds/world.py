"""`World`: a simulation seen through a renderer, written once for every pair of them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.scenarios.scenario import Scenario
from countersteer.tensors import TensorTree
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.interface import (
    Capability,
    CapabilityError,
    DriveState,
    Events,
    Images,
    Outputs,
    Renderer,
    RendererSpec,
    Simulation,
    SimulationSpec,
    Starts,
)
from countersteer.worlds.observations import Observation, SensorReading, SensorSpec, twin_of
from countersteer.worlds.truth import LoggedPoses, Motion, PathPoints, Routes, Truth, Visible

__all__ = ["World", "WorldSpec", "WorldState"]

PerDrive = Int[Tensor, "world"]
PerCar = Float[Tensor, "world agent"]


@final
@dataclass(frozen=True)
class WorldSpec:
    """A world before it has scenarios: what is simulated, what draws it, and what its cars carry.

    Attributes:
        simulation: Who is where.
        renderer: What is seen; None for a world without cameras.
        sensors: What every controlled car carries, each with a name of its own. A recipe may leave them out: its policy
            says what it reads.
        twin: What draws each camera's picture a second time, under the name `twin_of` it; None for nothing.
    """

    simulation: SimulationSpec
    renderer: RendererSpec | None = None
    sensors: tuple[SensorSpec, ...] = ()
    twin: RendererSpec | None = None

    def __post_init__(self) -> None:
        names = [sensor.name for sensor in self.sensors]
        if len(set(names)) < len(names):
            raise UserError(
                "two sensors of a world have one name",
                got=", ".join(names),
                expected="names of their own",
                fix="rename one of WorldSpec.sensors",
            )
        if self.renderer is None and self.cameras:
            raise UserError(
                "nobody draws the pictures of a world's cameras",
                got="no renderer",
                expected="one, such as BoxRendererSpec()",
                fix="set WorldSpec.renderer",
            )

    @property
    def dt(self) -> float:
        """Length of a tick [s]."""
        return self.simulation.dt

    @property
    def duration(self) -> float:
        """Longest drive [s]."""
        return self.simulation.duration

    @property
    def agents(self) -> int:
        """Controlled cars in each drive."""
        return self.simulation.agents

    @property
    def jerk(self) -> JerkSpec | None:
        """What jerks it takes as actions; None takes none."""
        return self.simulation.jerk

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Those of the sensors that are cameras."""
        return tuple(sensor for sensor in self.sensors if isinstance(sensor, Camera))

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the world will offer beyond answering."""
        twin = {Capability.TWIN} if self.twin is not None else set()
        return self.simulation.capabilities | twin

    def simulate(self, **settings: Any) -> WorldSpec:
        """This world with some settings of its simulation replaced."""
        return dataclasses.replace(self, simulation=dataclasses.replace(self.simulation, **settings))  # pyright: ignore[reportArgumentType, reportCallIssue]

    def carrying(self, *sensors: SensorSpec) -> WorldSpec:
        """This world with these sensors in place of its own."""
        return dataclasses.replace(self, sensors=sensors)

    def build(
        self, scenarios: Sequence[Scenario], batch: int, seed: int, device: torch.device | str = "cpu"
    ) -> World:
        """A world of `batch` drives in these scenarios; nothing has begun before the first `reset`.

        Args:
            scenarios: What drives happen in.
            batch: Number of drives, at least 1.
            seed: Of all randomness.
            device: Where tensors live and pictures are drawn.
        """
        if batch < 1 or self.agents < 1:
            raise UserError(
                "a world needs at least one drive and one car",
                got=f"batch {batch}, agents {self.agents}",
                expected="both at least 1",
                fix="set `batch` and `agents`",
            )
        simulation = self.simulation.build(scenarios, self.sensors, seed, device)
        for sensor in self.sensors:
            if not (isinstance(sensor, Camera) or simulation.senses(sensor)):
                raise UserError(
                    f"nobody answers the sensor {sensor.name!r} of a world",
                    got=f"a {type(sensor).__name__} in a {type(simulation).__name__}",
                    expected="a camera, or what the simulation senses",
                    fix="leave it out of WorldSpec.sensors",
                )
        renderers = (
            spec.build(simulation, self.cameras, seed) if spec is not None and self.cameras else None
            for spec in (self.renderer, self.twin)
        )
        return World(self, simulation, *renderers, batch=batch)


@dataclass(frozen=True)
class WorldState(TensorTree):
    """Everything that changes in a world, `[world ...]`."""

    simulation: DriveState
    renderer: TensorTree
    twin: TensorTree


@final
class World:
    """A batch of independent drives that answers actions with observations. `WorldSpec.build` makes it.

    Args:
        spec: Its settings.
        simulation: Who is where.
        renderer, twin: What is seen; None without cameras.
        batch: Number of drives.

    Attributes:
        batch: Number of drives.
        agents: Controlled cars in each.
        dt: Length of a tick [s].
        device: Where its tensors lie.
        sensors, cameras: What every controlled car carries.
        capabilities: What it offers beyond answering.
        jerk: What jerks it takes as actions, if any.
        state: What changes; a step replaces it and writes nothing into it.
    """

    def __init__(
        self,
        spec: WorldSpec,
        simulation: Simulation,
        renderer: Renderer | None,
        twin: Renderer | None,
        *,
        batch: int,
    ):
        self.spec, self.simulation, self.renderer, self.twin = spec, simulation, renderer, twin
        self.agents, self.dt, self.jerk = spec.agents, spec.dt, spec.jerk
        self.device, self.scenarios = simulation.device, simulation.scenarios
        self.sensors, self.cameras, self.capabilities = spec.sensors, spec.cameras, spec.capabilities
        self._seen: dict[tuple[bool, Camera], Images] = {}
        self.state = self._begin(self.draw_starts(torch.arange(batch, device=self.device)))

    @property
    def state(self) -> WorldState:
        """Everything that changes."""
        return self._state

    @state.setter
    def state(self, state: WorldState) -> None:
        self._state, self.batch = state, len(state.simulation.drive)
        self._seen = {}  # a picture is drawn once for a state

    def draw_starts(self, drive: PerDrive) -> Any:
        """The `Starts` that this world's own settings give to drives of these identities."""
        return self.simulation.draw_starts(drive)

    def starts_at(self, scene: PerDrive, tick: PerDrive, drive: PerDrive, *, jitter: bool) -> Any:
        """Starts on the recorded poses of given scenarios and ticks, with or without the jitter of the settings."""
        return self.simulation.starts_at(scene, tick, drive, jitter=jitter)

    def reset(self, mask: Bool[Tensor, "world"], starts: Starts) -> None:
        """Begin the drives in `mask` at `starts`; every other drive stays bitwise as it was.

        On the CPU it costs as much as the drives that begin.

        Args:
            mask: Which drives begin.
            starts: One for each drive of the world, or one for each in `mask`, in their order.
        """
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

    def _begin(self, starts: Starts) -> WorldState:
        state = self.simulation.begin(starts)
        scene = self.simulation.scene(state) if self.cameras else None
        drawn = (TensorTree() if each is None else each.begin(scene) for each in (self.renderer, self.twin))
        return WorldState(state, *drawn)

    def step(self, action: Action | JerkAction) -> Events:
        """Advance every drive by one tick. Ended drives stay as they are until they are reset.

        Raises:
            UserError: Jerks, of a world that takes none.
        """
        simulation, events = self.simulation.step(self.state.simulation, action)
        drawn: dict[str, TensorTree] = {}
        for name, renderer in (("renderer", self.renderer), ("twin", self.twin)):
            if renderer is not None and renderer.advances:
                before = getattr(self.state, name)
                after = renderer.advance(before, self.simulation.scene(simulation))
                drawn[name] = after.where(self.alive().any(1), before)  # of drives that had not ended
        self.state = self.state.replace(simulation=simulation, **drawn)
        return events

    def perturb(self, lateral: PerCar, heading: PerCar, speed: PerCar) -> None:
        """Move the cars sideways [m, left positive], turn them [rad], multiply their speed; 0, 0, 1: none."""
        moved = self.simulation.perturb(self._offered(Capability.PERTURB), lateral, heading, speed)
        self.state = self.state.replace(simulation=moved)

    def fork(self, rows: Int[Tensor, "row"], *, fresh_noise: bool = False) -> Self:
        """Independent copies of drives at their present state; rows may repeat. Scenes are shared.

        Args:
            rows: Drives to copy, in the order of the copy's batch.
            fresh_noise: Whether each copy draws noise of its own; else it repeats its original's future.
        """
        self._offered(Capability.FORK)
        twin = copy.copy(self)
        state = self.state[rows]
        if fresh_noise:
            copies = torch.arange(len(rows), device=self.device)
            fresh = state.simulation.replace(drive=state.simulation.drive * 1_000_003 + copies + 1)
            state = state.replace(simulation=fresh)
        twin.state = state
        return twin

    def save(self) -> dict[str, Tensor]:
        """The whole state of the drives, for `restore`."""
        self._offered(Capability.FORK)
        return {name: leaf.clone() for name, leaf in self.state.flatten().items()}

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Continue exactly from what `save` returned, on a world built from the same settings."""
        self._offered(Capability.FORK)
        known = self.state.flatten()
        if known.keys() != saved.keys() or any(known[k].shape[1:] != saved[k].shape[1:] for k in known):
            raise UserError(
                "the saved state is not of this world",
                got=f"{len(saved)} tensors of other names or shapes",
                expected="what `save` returned for the same settings and scenarios",
                fix="build the world from the settings it was saved with",
            )
        self.state = self.state.unflatten({name: leaf.clone() for name, leaf in saved.items()})

    def observe(self, sensors: Collection[str] | None = None) -> Observation:
        """What each controlled car knows now, leading dimensions `[world agent]`.

        Args:
            sensors: Names of those that are read; None reads all but the twins of cameras (`twin_of`).
        """
        simulation, state, readings = self.simulation, self.state.simulation, {}
        for sensor in self.sensors:
            if simulation.senses(sensor):
                if sensors is None or sensor.name in sensors:
                    readings[sensor.name] = simulation.sense(state, sensor)
                continue
            assert isinstance(sensor, Camera)
            if sensors is None or sensor.name in sensors:
                readings[sensor.name] = self._reading(self.images(sensor))
            if sensors is not None and twin_of(sensor.name) in sensors:
                readings[twin_of(sensor.name)] = self._reading(self.images(sensor, twin=True))
        return Observation(readings, simulation.odometry(state), simulation.intent(state))

    def _reading(self, images: Images) -> SensorReading:
        assert images.rgb is not None
        time = (self.state.simulation.age * self.dt)[:, None].expand(-1, self.agents)
        return SensorReading(
            images.rgb.unflatten(0, (self.batch, self.agents)), time, torch.ones_like(self.alive())
        )

    def images(self, camera: Camera, outputs: Outputs = Outputs(), *, twin: bool = False) -> Images:
        """Pictures of one of the cameras of every car, `world * agent` of them; `twin` for those of the twin."""
        if twin:
            self._offered(Capability.TWIN)
        renderer, state = (self.twin, self.state.twin) if twin else (self.renderer, self.state.renderer)
        assert renderer is not None, "a world without cameras draws nothing"
        if outputs == Outputs() and (twin, camera) in self._seen:
            return self._seen[twin, camera]
        images = renderer.draw(state, self.simulation.scene(self.state.simulation), camera, outputs)
        if outputs == Outputs():
            self._seen[twin, camera] = images
        return images

    def confidence(self) -> PerCar:
        """How far the world can be trusted at each car's pose, in [0, 1]."""
        trust = self.simulation.confidence(self.state.simulation)
        if self.renderer is None or self.renderer.trusted:
            return trust
        parts = [self.images(camera).confidence for camera in self.cameras]
        seen = [part.view(trust.shape) for part in parts if part is not None]
        return torch.stack([trust, *seen]).amin(0)

    def drives(self) -> PerDrive:
        """Identity of each drive; randomness is counted by it."""
        return self.state.simulation.drive

    def alive(self) -> Bool[Tensor, "world agent"]:
        """Which cars' drives are going on; False before a drive begins, after it has ended, and in empty slots."""
        return self.state.simulation.alive

    def motion(self) -> Motion:
        """What each car's odometry reads now; trackers run on it."""
        return self.simulation.motion(self.state.simulation)

    def command(self, action: JerkAction) -> Action:
        """What these jerks make of the commands given last; needs `Capability.JERK`."""
        return self.simulation.command(self._offered(Capability.JERK), action)

    def truth(self, *, visible: bool = False) -> Truth:
        """Ground truth; needs `Capability.TRUTH`. `visible` also counts the pixels that show each actor."""
        truth = self.simulation.truth(self._offered(Capability.TRUTH))
        if not visible:
            return truth
        assert truth.actors is not None, "a world without roads has no actors"
        cameras = self.cameras if self.renderer is not None and self.renderer.identifies else ()
        shown = [self.images(camera, Outputs(rgb=False, instance=True)).instance for camera in cameras]
        counted = Visible.count(shown, truth.actors, self.agents)  # pyright: ignore[reportArgumentType]
        return truth.replace(visible=counted)

    def path_at(self, arc: Float[Tensor, "world agent point"]) -> PathPoints:
        """The cars' paths at arc lengths [m]; needs `Capability.TRUTH`."""
        return self.simulation.path_at(self._offered(Capability.TRUTH), arc)

    def routes(self) -> Routes:
        """The cars' whole paths; needs `Capability.TRUTH`."""
        return self.simulation.routes(self._offered(Capability.TRUTH))

    def log_at(self, ahead: Float[Tensor, "point"]) -> LoggedPoses:
        """What the recorded drivers did at times ahead of now [s]; needs `Capability.LOG`."""
        return self.simulation.log_at(self._offered(Capability.LOG), ahead)

    def _offered(self, capability: Capability) -> Any:
        """The state of the simulation, for what needs this capability."""
        if capability not in self.capabilities:
            raise CapabilityError(self.simulation, capability)
        return self.state.simulation
