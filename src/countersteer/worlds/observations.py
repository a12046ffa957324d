"""What a car may know: named sensors, its own motion, and what its passenger wants."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.ranges import Range, Ranged
from countersteer.tensors import TensorTree

__all__ = [
    "Command",
    "EgoMotion",
    "Features",
    "Intent",
    "Observation",
    "SensorReading",
    "SensorSpec",
    "twin_of",
]


@runtime_checkable
class SensorSpec(Protocol):
    """A frozen dataclass that describes a sensor; `Camera`, `VectorSpec` and `Features` are such.

    Attributes:
        name: What its reading is called in `Observation.sensors`.
        privileged: Whether it tells what no car could measure. A policy that reads one cannot be exported.
    """

    @property
    def name(self) -> str: ...

    @property
    def privileged(self) -> bool: ...


@dataclass(frozen=True)
class Features(Ranged):
    """Numbers that stand for what a car senses, as a latent world has them instead of pictures.

    Attributes:
        name: Of the sensor.
        size: How many numbers.
        privileged: See `SensorSpec`.
    """

    name: str = "features"
    size: Annotated[int, Range("[0, 1e6]")] = 0
    privileged: bool = False


def twin_of(camera: str) -> str:
    """Name of the sensor that shows what a camera would see if the world were drawn by a boxworld."""
    return f"{camera}.twin"


class Command(IntEnum):
    """What the passenger asks for."""

    FOLLOW = 0  # stay in this lane
    LEFT = 1  # change one lane to the left of where the command was given; where a world navigates: turn left
    RIGHT = 2


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
