"""What cars know and do, as Gymnasium spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from numpy import ndarray
from torch import Tensor

from countersteer.errors import UserError, did_you_mean
from countersteer.vehicles.bicycle import Limits
from countersteer.vehicles.plans import Action
from countersteer.worlds.observations import Command, Observation
from countersteer.worlds.truth import Motion

__all__ = ["ACTION_SPACE", "Arrays", "ObservationFormat", "to_action"]

Arrays = ndarray | dict[str, ndarray]
"""An observation of several cars, their number the first dimension of each array."""

ACTION_SPACE = spaces.Box(-1.0, 1.0, (2,), np.float32)
"""Of one car: steering, left positive, and acceleration; `to_action` says what they mean."""


def to_action(actions: Any, motion: Motion, limits: Limits) -> Action:
    """The action that numbers in [-1, 1] stand for.

    Steering 1 is the largest curvature to the left [1/m] that `limits` allow at the car's present speed, so
    that the same number is the same share of the grip at any speed; -1 is the same to the right. Acceleration
    1 is full throttle, -1 full braking [m/s^2], 0 neither. Finite numbers outside of [-1, 1] are clipped. A
    car with a number that is not finite gets an action of nan, at which worlds end its drive as NUMERIC.

    Args:
        actions: `[world * agent 2]`.
        motion: Of the cars now, `[world agent]`.
        limits: Of the vehicles.

    Raises:
        UserError: The array has another shape, or does not hold numbers.
    """
    shape = (motion.speed.numel(), 2)
    try:
        given = np.asarray(actions, np.float32)
    except (TypeError, ValueError):
        given = None
    if given is None or given.shape != shape:
        raise UserError(
            "the actions do not fit the environment",
            got=f"{type(actions).__name__}" if given is None else f"an array of shape {given.shape}",
            expected=f"an array of shape {shape}: steering and acceleration of each car in [-1, 1]",
            fix="give what `action_space.sample()` would give",
        )
    numbers = torch.tensor(given, device=motion.speed.device)
    numbers = torch.where(numbers.isfinite(), numbers.clamp(-1.0, 1.0), torch.nan)
    steering, push = numbers.reshape(*motion.speed.shape, 2).unbind(-1)
    grip = limits.lateral_acceleration / motion.speed.clamp(min=1.0) ** 2
    return Action(
        curvature=steering * grip.clamp(max=limits.curvature),
        acceleration=push * torch.where(push < 0, limits.braking, limits.acceleration),
    )


class ObservationFormat:
    """How observations are said in arrays.

    A single sensor that is a vector is a Box of its own. Everything else is a Dict without nesting, which
    common libraries read as it is: each sensor under its name (a camera as uint8 height, width, channel; zeros
    where it has nothing to say), and

    - "speed" [m/s] and "yaw_rate" [rad/s]: odometry of the last ticks, the latest last;
    - "command": `Command`, Discrete, and "command_age" [s];
    - "set_speed" [m/s];
    - "target_points" [m, ego frame]: only in a world that gives them.

    Args:
        example: An observation of the world.
        sensors: Names of the sensors to tell; None for all. One vector alone is told alone.

    Attributes:
        single_space: Of one car.
        space: Of all cars.
    """

    def __init__(self, example: Observation, sensors: Sequence[str] | None):
        known = example.sensors
        self.sensors = tuple(known if sensors is None else sensors)
        for name in self.sensors:
            if name not in known:
                raise UserError(
                    "the world has no such sensor",
                    got=name,
                    expected=did_you_mean(name, known),
                    fix="rename it",
                )
        if not self.sensors:
            raise UserError(
                "an environment without sensors tells nothing",
                got="no sensor",
                expected="at least one",
                fix="give the world a camera, or `vector=VectorSpec()`",
            )
        self.alone = len(self.sensors) == 1 and known[self.sensors[0]].data.ndim == 3
        self.targets = bool(example.intent.target_valid.any())
        parts = self._parts(example)
        if len(parts) < len(self.sensors) + len(self._own(example)) * (not self.alone):
            raise UserError(
                "a sensor has the name of another part of the observation",
                got=", ".join(self.sensors),
                expected=f"none of {', '.join(self._own(example))}",
                fix="rename the sensor",
            )
        each = {name: _space(name, part) for name, part in parts.items()}
        self.single_space: spaces.Space = each[self.sensors[0]] if self.alone else spaces.Dict(each)
        self.space: spaces.Space = batch_space(self.single_space, example.intent.command.numel())

    def arrays(self, observation: Observation) -> Arrays:
        """An observation `[world agent]` as arrays `[world * agent ...]`."""
        arrays = {name: part.cpu().numpy() for name, part in self._parts(observation).items()}
        # In the order of the space, which Gymnasium sorts by name.
        return arrays[self.sensors[0]] if self.alone else dict(sorted(arrays.items()))

    def _parts(self, observation: Observation) -> dict[str, Tensor]:
        parts = {}
        for name in self.sensors:
            reading = observation.sensors[name]
            data, valid = reading.data.flatten(0, 1), reading.valid.flatten()
            if not bool(valid.all()):
                data = torch.where(valid.reshape(-1, *[1] * (data.ndim - 1)), data, 0)
            parts[name] = data
        if not self.alone:
            # Copies: these are small, and may be the world's own state, which users must not write into.
            parts |= {name: part.flatten(0, 1).clone() for name, part in self._own(observation).items()}
        return parts

    def _own(self, observation: Observation) -> dict[str, Tensor]:
        motion, intent = observation.motion, observation.intent
        own = {
            "speed": motion.speed,
            "yaw_rate": motion.yaw_rate,
            "command": intent.command,
            "command_age": intent.command_age[..., None],
            "set_speed": intent.set_speed[..., None],
        }
        return own | {"target_points": intent.target_points} if self.targets else own


def _space(name: str, part: Tensor) -> spaces.Space:
    if name == "command":
        return spaces.Discrete(len(Command))
    if part.dtype == torch.uint8:
        return spaces.Box(0, 255, tuple(part.shape[1:]), np.uint8)
    return spaces.Box(-np.inf, np.inf, tuple(part.shape[1:]), np.float32)
