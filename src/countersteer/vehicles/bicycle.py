"""Kinematic bicycle in curvature form, with limits, actuation delay, gain and bias.

State of the rear axle: x' = v cos(psi), y' = v sin(psi), psi' = v kappa, v' = a. The command passes a
transport delay, a gain and a bias, then limits on curvature, its rate, lateral and longitudinal
acceleration. One step moves along the arc of the mean curvature and is second order in dt
(`tests/test_vehicles.py` measures it).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from countersteer import noise
from countersteer.ranges import Finite, NonNegative, Positive, Ranged, check_increasing
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Action

__all__ = ["Limits", "VehicleParams", "VehicleSpec", "VehicleState", "step"]

DELAY_TICKS = 8  # commands remembered; bounds the delay to DELAY_TICKS - 2 ticks


@dataclass(frozen=True)
class Limits(Ranged):
    """What the car can do.

    Attributes:
        curvature: Largest |curvature| [1/m]; 0.2 is a turning radius of 5 m.
        curvature_rate: Largest |d curvature / dt| [1/(m s)].
        lateral_acceleration: Largest v^2 |curvature| [m/s^2].
        braking, acceleration: Longitudinal bounds [m/s^2].
    """

    curvature: Positive = 0.2
    curvature_rate: Positive = 0.1
    lateral_acceleration: Positive = 6.0
    braking: Positive = 8.0
    acceleration: Positive = 4.0


@dataclass(frozen=True)
class VehicleParams(TensorTree):
    """How one car answers its commands.

    Attributes:
        delay: Transport delay [s].
        curvature_gain: Share of the desired curvature that is reached.
        curvature_bias: Constant pull [1/m].
        acceleration_gain: Share of the desired acceleration that is reached.
    """

    delay: Float[Tensor, "*batch"]
    curvature_gain: Float[Tensor, "*batch"]
    curvature_bias: Float[Tensor, "*batch"]
    acceleration_gain: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class VehicleSpec(Ranged):
    """Ranges that a drive's car is drawn from, uniformly; equal ends mean a fixed value.

    Attributes:
        delay: [s].
        curvature_gain, acceleration_gain: Around 1.
        curvature_bias: [1/m].
        limits: Shared by all cars.
    """

    delay: tuple[NonNegative, NonNegative] = (0.1, 0.3)
    curvature_gain: tuple[Positive, Positive] = (0.9, 1.1)
    curvature_bias: tuple[Finite, Finite] = (-0.0004, 0.0004)
    acceleration_gain: tuple[Positive, Positive] = (0.9, 1.1)
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_increasing(self, "delay", "curvature_gain", "curvature_bias", "acceleration_gain")

    def draw(self, seed: int, drive: Int[Tensor, "*batch"]) -> VehicleParams:
        """Parameters of the car of each drive."""
        numbers = self.numbers(seed, drive)
        return VehicleParams(*(low + numbers[..., k] * span for k, (low, span) in enumerate(self.spans)))

    def numbers(self, seed: int, drive: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch 4"]:
        """What they are drawn by, in [0, 1): one for each field of `VehicleParams`."""
        return noise.uniform(seed, drive, torch.zeros_like(drive), "vehicle", 4)

    @property
    def spans(self) -> tuple[tuple[float, float], ...]:
        """Lower end and width of the range of each field of `VehicleParams`."""
        ranges = (self.delay, self.curvature_gain, self.curvature_bias, self.acceleration_gain)
        return tuple((float(low), float(high - low)) for low, high in ranges)


@dataclass(frozen=True)
class VehicleState(TensorTree):
    """Motion of one car.

    Attributes:
        position: Rear axle [m, world].
        heading: [rad, in [-pi, pi)].
        speed: [m/s], >= 0.
        curvature: Being driven [1/m].
        acceleration: Longitudinal, over the last tick [m/s^2].
        commands: Last commands, newest first: desired curvature and acceleration.
    """

    position: Float[Tensor, "*batch 2"]
    heading: Float[Tensor, "*batch"]
    speed: Float[Tensor, "*batch"]
    curvature: Float[Tensor, "*batch"]
    acceleration: Float[Tensor, "*batch"]
    commands: Float[Tensor, "*batch queue 2"]

    @classmethod
    def at(
        cls,
        position: Float[Tensor, "*batch 2"],
        heading: Float[Tensor, "*batch"],
        speed: Float[Tensor, "*batch"],
        curvature: Float[Tensor, "*batch"],
    ) -> VehicleState:
        """A car that has been driving with this curvature at constant speed."""
        command = torch.stack([curvature, torch.zeros_like(curvature)], -1)
        commands = command[..., None, :].expand(*command.shape[:-1], DELAY_TICKS, 2).contiguous()
        return cls(position, heading, speed, curvature, torch.zeros_like(speed), commands)


def step(
    state: VehicleState, params: VehicleParams, action: Action, dt: float, limits: Limits
) -> VehicleState:
    """The state one tick later; `dt` [s] in (0, inf)."""
    newest = torch.stack([action.curvature, action.acceleration], -1)[..., None, :]
    commands = torch.cat([newest, state.commands[..., :-1, :]], -2)

    late = (params.delay / dt).clamp(0.0, commands.shape[-2] - 1.001)
    whole = late.floor()
    part = (late - whole)[..., None]
    index = whole.long()[..., None, None].expand(*whole.shape, 1, 2)
    command = commands.gather(-2, index).squeeze(-2) * (1 - part)
    command = command + commands.gather(-2, index + 1).squeeze(-2) * part

    acceleration = (command[..., 1] * params.acceleration_gain).clamp(-limits.braking, limits.acceleration)
    speed = (state.speed + acceleration * dt).clamp(min=0.0)
    # A car that stops within the tick stands still for the rest of it instead of reversing.
    until_stop = state.speed / (-acceleration).clamp(min=1e-6)
    moving = torch.where(acceleration < 0, until_stop.clamp(max=dt), torch.full_like(speed, dt))
    distance = (state.speed + speed) / 2 * moving

    bound = (limits.lateral_acceleration / speed.clamp(min=1.0) ** 2).clamp(max=limits.curvature)
    wanted = command[..., 0] * params.curvature_gain + params.curvature_bias
    wanted = torch.minimum(torch.maximum(wanted, -bound), bound)
    change = (wanted - state.curvature).clamp(-limits.curvature_rate * dt, limits.curvature_rate * dt)
    curvature = state.curvature + change

    turn = (state.curvature + curvature) / 2 * distance
    middle = state.heading + turn / 2
    chord = distance * torch.sinc(turn / (2 * torch.pi))
    position = state.position + chord[..., None] * torch.stack([middle.cos(), middle.sin()], -1)
    heading = (state.heading + turn + torch.pi) % (2 * torch.pi) - torch.pi
    return VehicleState(position, heading, speed, curvature, (speed - state.speed) / dt, commands)
