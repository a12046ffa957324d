"""MetaDrive as a world: it moves the cars, and a boxworld of the same road is told where they are.

The boxworld draws our camera's pictures, and says how far the car is from its path and what it ran into, so suites
and their pass rules hold as they are. What MetaDrive cannot do is not offered: no forks, no recorded future, no
displacements, nothing to save.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.errors import UserError
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.scenarios.scenario import Scenario
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.bridges.metadrive.host import TICK, Answer, Hosts
from countersteer.worlds.bridges.metadrive.roads import road_of
from countersteer.worlds.interface import Capability, CapabilityError, Events, Starts
from countersteer.worlds.observations import Observation, SensorReading
from countersteer.worlds.simulation.spec import BoxWorldSpec
from countersteer.worlds.simulation.stepping.reference import finish_step
from countersteer.worlds.truth import LoggedPoses
from countersteer.worlds.world import World

__all__ = ["MetaDriveSpec", "MetaDriveWorld"]


@dataclass(frozen=True)
class MetaDriveSpec(BoxWorldSpec):
    """A MetaDrive before it has roads; what is said of the vehicle in `BoxWorldSpec` is MetaDrive's to decide.

    Attributes:
        own_camera: Pictures are MetaDrive's own (a few a second, by software); needs its assets.
    """

    own_camera: bool = False

    capabilities = frozenset({Capability.TRUTH})

    def build(
        self, scenarios: Sequence[Scenario], batch: int, seed: int, device: torch.device | str = "cpu"
    ) -> MetaDriveWorld:
        """A world of drives on roads of `scenarios_on`, a process each."""
        return MetaDriveWorld(self, scenarios, batch, seed, device)


class MetaDriveWorld(World):
    """See the module's docstring. Drive k is in scenario k.

    Raises:
        MissingExtraError: MetaDrive is not installed.
        UserError: A scenario is not on one of its roads, or the settings ask for what it does not do.
    """

    capabilities = MetaDriveSpec.capabilities

    def __init__(
        self,
        spec: MetaDriveSpec,
        scenarios: Sequence[Scenario],
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
    ):
        wrong = {
            "dt": spec.dt != TICK,
            "agents": spec.agents != 1,
            "traffic": spec.traffic is not None,
            "jerk": spec.jerk is not None,
            "batch": batch != len(scenarios),
        }
        if any(wrong.values()):
            raise UserError(
                "MetaDrive cannot be driven like that",
                got=f"other {', '.join(name for name, bad in wrong.items() if bad)}",
                expected=f"ticks of {TICK} s, one car a drive, its own traffic, no jerk, a drive for each scenario",
                fix="set these fields of MetaDriveSpec",
            )
        roads = [road_of(scenario).settings() for scenario in scenarios]
        self.hosts = Hosts.take(roads, spec.cameras if spec.own_camera else ())
        weakref.finalize(self, self.hosts.give_back)
        self._own_camera = spec.own_camera
        self._pictures: list[tuple[np.ndarray, ...]] = [()] * batch
        super().__init__(spec, scenarios, batch, seed, device)

    def reset(self, mask: Bool[Tensor, "world"], starts: Starts) -> None:
        """See `World.reset`."""
        rows = mask.nonzero()[:, 0].tolist()
        given = starts if len(starts.drive) == len(rows) else starts[mask]
        if given.scenario.tolist() != rows:
            raise UserError(
                "each drive of this world has a road of its own",
                got=f"scenarios {given.scenario.tolist()} for drives {rows}",
                expected="scenario k for drive k",
                fix="use `starts_at`",
            )
        super().reset(mask, starts)
        middle = self.state.actor[rows, 0]
        speed = self.state.cars.speed[rows, 0]
        messages = [("place", *pose, v) for pose, v in zip(middle.tolist(), speed.tolist(), strict=True)]
        self._hear(rows, self.hosts.ask(rows, messages))

    def step(self, action: Action | JerkAction) -> Events:
        """See `World.step`."""
        if isinstance(action, JerkAction):
            raise CapabilityError(self, Capability.JERK)
        before, cars = self.state, self.state.cars
        asked = torch.stack([action.curvature, action.acceleration], -1)[:, 0]
        finite = asked.isfinite().all(-1)
        rows = (before.alive[:, 0] & finite).nonzero()[:, 0].tolist()
        answers = self.hosts.ask(rows, [("step", *asked[row].tolist()) for row in rows])
        commands = torch.cat([asked[:, None, None], cars.commands[..., :-1, :]], -2)
        running = before.alive.any(1).long()
        tick = torch.minimum(before.tick + running, self.bank.ticks[before.scene] - 1)
        self.state = before.replace(cars=cars.replace(commands=commands), tick=tick, age=before.age + running)
        self._hear(rows, answers)
        self.state, events = finish_step(
            self.spec, self.bank, self.ground, before, self.state, finite[:, None]
        )
        return events

    def observe(self, sensors: Collection[str] | None = None) -> Observation:
        """See `World.observe`."""
        if not self._own_camera:
            return super().observe(sensors)
        seen = super().observe(())
        readings = {}
        for number, camera in enumerate(self.cameras):
            if sensors is None or camera.name in sensors:
                frames = torch.from_numpy(np.stack([pictures[number] for pictures in self._pictures]))
                time = (self.state.age * self.dt)[:, None]
                readings[camera.name] = SensorReading(
                    frames[:, None], time, torch.ones_like(self.state.alive)
                )
        return seen.replace(sensors=readings)

    def _hear(self, rows: list[int], answers: list[Answer]) -> None:
        """Put cars and traffic of these drives where MetaDrive says they are."""
        if not rows:
            return
        state, which = self.state, torch.tensor(rows)
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
            acceleration=put(cars.acceleration, (speed - cars.speed[which, 0]) / self.dt),
        )
        actor, pace, there = state.actor.clone(), state.actor_speed.clone(), state.actor_there.clone()
        for row, answer in zip(rows, answers, strict=True):
            self._pictures[row] = answer.pictures
            count = len(answer.others)
            known = torch.from_numpy(np.isfinite(answer.others).all(-1))
            poses = torch.from_numpy(np.nan_to_num(answer.others)).float()
            actor[row, 1 : 1 + count] = poses[:, :3]
            pace[row, 1 : 1 + count] = poses[:, 3]
            there[row, 1 : 1 + count] = known
        # The car itself stands in the first slot.
        actor[which, 0] = ego[:, :3]
        pace[which, 0] = speed
        self.state = state.replace(cars=moved, actor=actor, actor_speed=pace, actor_there=there)

    # --- not offered ----------------------------------------------------------------------------

    def fork(self, rows: Int[Tensor, "row"], *, fresh_noise: bool = False) -> Self:
        """A simulation in another process cannot be copied."""
        raise CapabilityError(self, Capability.FORK)

    def log_at(self, ahead: Float[Tensor, "point"]) -> LoggedPoses:
        """Nothing was recorded."""
        raise CapabilityError(self, Capability.LOG)

    def perturb(
        self,
        lateral: Float[Tensor, "world agent"],
        heading: Float[Tensor, "world agent"],
        speed: Float[Tensor, "world agent"],
    ) -> None:
        """Cars are not moved by hand while they drive; begin a drive elsewhere instead."""
        raise CapabilityError(self, Capability.FORK)

    def save(self) -> dict[str, Tensor]:
        """MetaDrive's physics cannot be written down."""
        raise CapabilityError(self, Capability.FORK)

    def restore(self, saved: dict[str, Tensor]) -> None:
        """See `save`."""
        raise CapabilityError(self, Capability.FORK)
