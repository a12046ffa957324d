"""Cars on the road of a recorded drive, whose time runs with the driven arc length.

The moment "now" is the one at which the recording was where the car is, whatever its speed. So what was recorded there can be shown,
and what came after it can be returned to. Renderers of recorded frames draw such a simulation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from countersteer.errors import UserError
from countersteer.geometry import boxes
from countersteer.geometry.poses import world_from_local, wrap_angle
from countersteer.ranges import NonNegative, Positive, Range, Ranged, Share, check_increasing
from countersteer.scenarios.scenario import Scenario
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.interface import Events, TerminationReason
from countersteer.worlds.observations import SensorSpec
from countersteer.worlds.simulation.logs import LogSource, RecordedLogs
from countersteer.worlds.simulation.recordings import pack_recordings
from countersteer.worlds.simulation.road import RoadSimulation
from countersteer.worlds.simulation.spec import RoadSettings
from countersteer.worlds.simulation.state import RoadState
from countersteer.worlds.truth import LoggedPoses

__all__ = ["RecordedSimulation", "RecordedSimulationSpec", "ValidityCorridor", "trust"]


@dataclass(frozen=True)
class ValidityCorridor(Ranged):
    """How far from the recording its frames can be trusted. Three places each: full trust up to the first, half
    at the second, none from the third on, straight lines between; the least of all counts.

    Attributes:
        lateral: Distance from the recorded path [m].
        heading: Turn against it [rad].
        unseen: Share of the picture that no frame saw, so that it is painted in.
        speed: Difference from the recorded speed there, relative to it (to 5 m/s where it was slower). Movers in
            the pictures go as fast as the recording is played.
    """

    lateral: tuple[NonNegative, NonNegative, NonNegative] = (1.0, 2.0, 4.0)
    heading: Annotated[tuple[float, float, float], Range("[0, pi]")] = (
        math.radians(7.5),
        math.radians(15.0),
        math.radians(40.0),
    )
    unseen: tuple[Share, Share, Share] = (0.1, 0.3, 0.6)
    speed: tuple[NonNegative, NonNegative, NonNegative] = (0.5, 0.8, 1.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_increasing(self, "lateral", "heading", "unseen", "speed", strictly=True)


@dataclass(frozen=True)
class RecordedSimulationSpec(RoadSettings):
    """One car on the road of a recorded drive. Other road users are what the pictures show of them; tracks of the
    scenario, if it has any, count as in other simulations.

    Attributes:
        logs: Where the frames come from.
        recorded_camera: Name of the camera in the log; None for the first.
        spacing: Frames nearer to the last one than this are left out [m]; so a standstill is one frame.
        corridor: How far from the recording a car can be trusted. Imitation counts labels of half trust and more.
        future: So much of the recording is left when a drive ends, so that every label lies in it [s].
    """

    logs: LogSource = RecordedLogs()
    recorded_camera: str | None = None
    spacing: Positive = 0.5
    corridor: ValidityCorridor = ValidityCorridor()
    future: NonNegative = 2.5
    max_route_deviation: float = 4.0
    max_heading_error: float = math.radians(40.0)
    terminate: tuple[TerminationReason, ...] = (
        TerminationReason.OFF_ROUTE,
        TerminationReason.INVALID_STATE,
        TerminationReason.GOAL,
    )

    def build(
        self,
        scenarios: Sequence[Scenario],
        sensors: Sequence[SensorSpec],
        seed: int,
        device: torch.device | str = "cpu",
    ) -> RecordedSimulation:
        """See `SimulationSpec.build`."""
        return RecordedSimulation(self, scenarios, sensors, seed, device)


class RecordedSimulation(RoadSimulation):
    """See the module's docstring.

    Attributes:
        logs: The recordings, one for each scenario.
        recordings: What they say along their paths.
        frames: Numbers of the frames that are kept of each.

    Raises:
        UserError: Several cars are controlled, or a recording cannot be used.
    """

    spec: RecordedSimulationSpec  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        spec: RecordedSimulationSpec,
        scenarios: Sequence[Scenario],
        sensors: Sequence[SensorSpec],
        seed: int,
        device: torch.device | str = "cpu",
    ):
        if spec.agents != 1 or torch.device(device).type != "cpu":
            raise UserError(
                "a recording shows what one recorded car could have seen, drawn on the CPU",
                got=f"{spec.agents} controlled cars, device {device}",
                expected="one car, device cpu",
                fix="set `agents` to 1; leave the learner on the device of your choice",
            )
        super().__init__(spec, scenarios, sensors, seed, device)
        self.logs = spec.logs.open(scenarios)
        self.recordings, self.frames = pack_recordings(
            self.scenarios,
            self.logs,
            self.bank,
            camera=spec.recorded_camera,
            spacing=spec.spacing,
            future=spec.future,
            dt=spec.dt,
        )

    def step(self, state: RoadState, action: Action | JerkAction) -> tuple[RoadState, Events]:
        """See `Simulation.step`; the recording's time is where the car is, and its end ends the drive."""
        before, recordings = state, self.recordings
        state, events = super().step(before, action)
        arcs = recordings.tick_arc[state.scene]
        after = torch.searchsorted(arcs, state.arc.contiguous())[:, 0]
        after = after.clamp(min=1).minimum(self.bank.ticks[state.scene] - 1)
        around = arcs.gather(1, torch.stack([after - 1, after], 1)) - state.arc
        tick = torch.where(around[:, 0].abs() < around[:, 1].abs(), after - 1, after)
        running = before.alive.any(1)
        over = (tick >= recordings.last_tick[state.scene])[:, None] & state.alive
        state = state.replace(
            tick=torch.where(running, tick, before.tick),
            alive=state.alive & ~over,
            cause=torch.where(over, int(TerminationReason.TIME), state.cause),
        )
        return state, events.replace(
            truncated=events.truncated | over,
            cause=torch.where(over, int(TerminationReason.TIME), events.cause),
        )

    def log_at(self, state: RoadState, ahead: Float[Tensor, "point"]) -> LoggedPoses:
        """See `World.log_at`; "now" is the moment at which the recording was where the car is."""
        now = self.recordings.between(self.recordings.time, state.scene, state.arc[:, 0])
        time = (now[:, None] + ahead).contiguous()
        scene, bank = state.scene, self.bank
        ticks = bank.ticks[scene][:, None] - 1
        at = (time / self.spec.dt).clamp(min=0.0)
        low = at.floor().long().minimum(ticks)
        high, part = (low + 1).minimum(ticks), (at - at.floor())[..., None]
        pose = bank.pose[scene, 0]
        rows = torch.arange(len(scene))[:, None]
        first, second = pose[rows, low], pose[rows, high]
        turn = wrap_angle(second[..., 2] - first[..., 2])
        heading = wrap_angle(first[..., 2] + turn * part[..., 0])
        center = first[..., :2] + (second[..., :2] - first[..., :2]) * part
        back = boxes.rear_axle_to_center(bank.size[scene, 0, 0])[:, None].expand(heading.shape)
        position = world_from_local(torch.stack([-back, torch.zeros_like(back)], -1), center, heading)
        speed = bank.speed[scene, 0]
        speed = speed[rows, low] * (1 - part[..., 0]) + speed[rows, high] * part[..., 0]
        inside = at <= ticks
        return LoggedPoses(position[:, None], heading[:, None], speed[:, None], inside[:, None])

    def confidence(self, state: RoadState) -> Float[Tensor, "world agent"]:
        """See `World.confidence` and `ValidityCorridor`."""
        corridor = self.spec.corridor
        recorded = self.recordings.between(self.recordings.speed, state.scene, state.arc[:, 0])[:, None]
        parts = [
            trust(state.lateral.abs(), corridor.lateral),
            trust(state.heading_error.abs(), corridor.heading),
            trust((state.cars.speed - recorded).abs() / recorded.clamp(min=5.0), corridor.speed),
        ]
        return torch.stack(parts).amin(0)


def trust(value: Float[Tensor, "*batch"], places: tuple[float, float, float]) -> Float[Tensor, "*batch"]:
    """1 up to the first place, one half at the second, 0 from the third on, straight lines between."""
    first, second, third = places
    near = 1.0 - 0.5 * (value - first) / (second - first)
    far = 0.5 - 0.5 * (value - second) / (third - second)
    return torch.where(value <= second, near.clamp(max=1.0), far.clamp(min=0.0))
