"""MetaDrive as a simulation: it moves the cars, and a simulation of the same road is told where they are.

So our renderer draws its pictures, and how far the car is from its path and what it ran into is said as of any
road; suites and their pass rules hold as they are. What MetaDrive cannot do is not offered: no forks, no recorded future, no
perturbations, nothing to save.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from countersteer.errors import UserError
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.geometry.cameras import Camera
from countersteer.scenarios.scenario import Scenario
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.bridges.metadrive.host import Hosts
from countersteer.worlds.bridges.metadrive.protocol import TICK, Answer
from countersteer.worlds.bridges.metadrive.roads import road_of
from countersteer.worlds.interface import (
    Capability,
    CapabilityError,
    Events,
    Images,
    Outputs,
    Renderer,
    RendererSpec,
    Simulation,
)
from countersteer.worlds.observations import SensorSpec
from countersteer.worlds.simulation.road import RoadSimulation
from countersteer.worlds.simulation.spec import RoadSettings
from countersteer.worlds.simulation.starting import RoadStarts
from countersteer.worlds.simulation.state import RoadScene, RoadState
from countersteer.worlds.simulation.stepping.reference import finish_step

__all__ = ["MetaDriveCameraSpec", "MetaDriveSimulation", "MetaDriveSpec"]


@dataclass(frozen=True)
class MetaDriveSpec(RoadSettings):
    """A MetaDrive before it has roads; what is said of the vehicle in `RoadSettings` is MetaDrive's to decide.

    Attributes:
        own_camera: Whether MetaDrive draws pictures of its own (a few a second, by software); needs its assets. The
            renderer is then a `MetaDriveCameraSpec`.
    """

    own_camera: bool = False

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See `SimulationSpec`."""
        return frozenset({Capability.TRUTH})

    def build(
        self,
        scenarios: Sequence[Scenario],
        sensors: Sequence[SensorSpec],
        seed: int,
        device: torch.device | str = "cpu",
    ) -> MetaDriveSimulation:
        """A simulation of drives on roads of `scenarios_on`, a process each."""
        return MetaDriveSimulation(self, scenarios, sensors, seed, device)


class MetaDriveSimulation(RoadSimulation):
    """See the module's docstring. A scenario has one drive at a time, because it has one process.

    Raises:
        MissingExtraError: MetaDrive is not installed.
        UserError: A scenario is not on one of its roads, or the settings ask for what it does not do.
    """

    spec: MetaDriveSpec  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        spec: MetaDriveSpec,
        scenarios: Sequence[Scenario],
        sensors: Sequence[SensorSpec],
        seed: int,
        device: torch.device | str = "cpu",
    ):
        wrong = {
            "dt": spec.dt != TICK,
            "agents": spec.agents != 1,
            "traffic": spec.traffic is not None,
            "jerk": spec.jerk is not None,
            "device": torch.device(device).type != "cpu",
        }
        if any(wrong.values()):
            raise UserError(
                "MetaDrive cannot be driven like that",
                got=f"other {', '.join(name for name, bad in wrong.items() if bad)}",
                expected=f"ticks of {TICK} s, one car a drive, its own traffic, no jerk, device cpu",
                fix="set these fields of MetaDriveSpec",
            )
        roads = [road_of(scenario).settings() for scenario in scenarios]
        cameras = tuple(sensor for sensor in sensors if isinstance(sensor, Camera))
        self.hosts = Hosts.take(roads, cameras if spec.own_camera else ())
        weakref.finalize(self, self.hosts.give_back)
        self.pictures: list[tuple[np.ndarray, ...]] = [()] * len(scenarios)
        """What the cameras of each scenario's car saw last."""
        super().__init__(spec, scenarios, sensors, seed, device)
        self._begun = False

    def begin(self, starts: RoadStarts) -> RoadState:
        """See `Simulation.begin`."""
        state = super().begin(starts)
        if not self._begun:
            # A world is built before anything drives in it; MetaDrive is asked when a drive really begins.
            self._begun = True
            return state
        scenes = starts.scenario.tolist()
        if len(set(scenes)) < len(scenes):
            raise UserError(
                "each drive of this simulation has a road of its own",
                got=f"scenarios {scenes}",
                expected="scenario k for drive k",
                fix="use `starts_at`",
            )
        poses, speed = state.actor[:, 0].tolist(), state.cars.speed[:, 0].tolist()
        messages = [("place", *pose, v) for pose, v in zip(poses, speed, strict=True)]
        return self._hear(state, list(range(len(scenes))), self.hosts.ask(scenes, messages))

    def step(self, state: RoadState, action: Action | JerkAction) -> tuple[RoadState, Events]:
        """See `Simulation.step`."""
        if isinstance(action, JerkAction):
            raise CapabilityError(self, Capability.JERK)
        before, cars = state, state.cars
        asked = torch.stack([action.curvature, action.acceleration], -1)[:, 0]
        finite = asked.isfinite().all(-1)
        rows = (before.alive[:, 0] & finite).nonzero()[:, 0].tolist()
        scenes = before.scene.tolist()
        answers = self.hosts.ask(
            [scenes[row] for row in rows], [("step", *asked[row].tolist()) for row in rows]
        )
        commands = torch.cat([asked[:, None, None], cars.commands[..., :-1, :]], -2)
        running = before.alive.any(1).long()
        tick = torch.minimum(before.tick + running, self.bank.ticks[before.scene] - 1)
        state = before.replace(cars=cars.replace(commands=commands), tick=tick, age=before.age + running)
        state = self._hear(state, rows, answers)
        return finish_step(self.spec, self.bank, self.ground, before, state, finite[:, None])

    def _hear(self, state: RoadState, rows: list[int], answers: list[Answer]) -> RoadState:
        """The state with cars and traffic of these drives where MetaDrive says they are."""
        if not rows:
            return state
        which = torch.tensor(rows)
        ego = torch.from_numpy(np.stack([answer.ego for answer in answers])).float()
        x, y, heading, speed, yaw_rate = ego.unbind(-1)
        back = rear_axle_to_center(self.bank.size[state.scene[which], 0, 0])
        axle = torch.stack([x - back * heading.cos(), y - back * heading.sin()], -1)
        cars = state.cars

        def put(kept: Tensor, new: Tensor) -> Tensor:
            return kept.index_copy(0, which, new.to(kept.dtype)[:, None])

        moved = dataclasses.replace(
            cars,
            position=put(cars.position, axle),
            heading=put(cars.heading, heading),
            speed=put(cars.speed, speed),
            curvature=put(cars.curvature, yaw_rate / speed.clamp(min=0.5)),
            acceleration=put(cars.acceleration, (speed - cars.speed[which, 0]) / self.spec.dt),
        )
        actor, pace, there = state.actor.clone(), state.actor_speed.clone(), state.actor_there.clone()
        for row, answer in zip(rows, answers, strict=True):
            self.pictures[int(state.scene[row])] = answer.pictures
            count = len(answer.others)
            known = torch.from_numpy(np.isfinite(answer.others).all(-1))
            poses = torch.from_numpy(np.nan_to_num(answer.others)).float()
            actor[row, 1 : 1 + count] = poses[:, :3]
            pace[row, 1 : 1 + count] = poses[:, 3]
            there[row, 1 : 1 + count] = known
        # The car itself stands in the first slot.
        actor[which, 0] = ego[:, :3]
        pace[which, 0] = speed
        return state.replace(cars=moved, actor=actor, actor_speed=pace, actor_there=there)


@dataclass(frozen=True)
class MetaDriveCameraSpec(RendererSpec):
    """MetaDrive's own pictures."""

    def build(self, simulation: Simulation, cameras: Sequence[Camera], seed: int) -> MetaDriveCamera:
        """See `RendererSpec.build`."""
        if not isinstance(simulation, MetaDriveSimulation) or not simulation.spec.own_camera:
            raise UserError(
                "MetaDrive's own pictures are drawn by MetaDrive",
                got=type(simulation).__name__,
                expected="a MetaDriveSpec with own_camera=True",
                fix="give the world one, or another renderer",
            )
        return MetaDriveCamera(simulation, cameras)


class MetaDriveCamera(Renderer):
    """Hands on what MetaDrive drew; it draws once a tick, so nothing else can be asked."""

    identifies = False

    def __init__(self, simulation: MetaDriveSimulation, cameras: Sequence[Camera]):
        self.simulation, self.names = simulation, [camera.name for camera in cameras]

    def begin(self, scene: RoadScene) -> TensorTree:
        """See `Renderer.begin`."""
        return TensorTree()

    def draw(
        self, state: TensorTree, scene: RoadScene, camera: Camera, outputs: Outputs = Outputs()
    ) -> Images:
        """See `Renderer.draw`."""
        if outputs != Outputs():
            raise UserError("MetaDrive's camera knows colours only", got=outputs, fix="draw boxes")
        number, pictures = self.names.index(camera.name), self.simulation.pictures
        frames = np.stack([pictures[row][number] for row in scene.scene.tolist()])
        return Images(torch.from_numpy(frames), None, None, None)
