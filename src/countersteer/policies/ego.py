"""What camera planners share: pictures by name, the car's own state as numbers, plans relative to going straight on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.worlds.observations import Command, Observation

__all__ = ["EgoInputs", "constant_velocity_anchor", "pictures"]

# Divisors that bring the inputs to order one.
_SPEED = 16.0  # m/s
_SPEED_CHANGE = 2.0  # m/s
_YAW_RATE = 0.25  # rad/s
_COMMAND_AGE = 5.0  # s
_TARGET = 32.0  # m


def pictures(observation: Observation, camera: Camera) -> UInt8[Tensor, "n height width 3"]:
    """Pictures of one camera, leading dimensions flattened.

    Raises:
        UserError: The camera is missing, or its pictures have another size.
    """
    reading = observation.sensors.get(camera.name)
    expected = (camera.height, camera.width, 3)
    if reading is None or tuple(reading.data.shape[-3:]) != expected:
        raise UserError(
            f"the observation lacks the pictures that the planner expects of camera {camera.name!r}",
            got=f"sensors {sorted(observation.sensors)}"
            if reading is None
            else f"data {list(reading.data.shape)}",
            expected="uint8 [*batch {} {} {}]".format(*expected),
            fix="give the world the cameras of the policy's spec",
        )
    return reading.data.reshape(-1, *expected)


@dataclass(frozen=True)
class EgoInputs:
    """Everything but the pictures, as numbers of order one: present speed, past motion, intent.

    Attributes:
        motion_ticks: Ticks of ego motion, the current one included, >= 1.
        target_points: Target points of the intent that are read; 0 for none.
    """

    motion_ticks: int
    target_points: int

    @property
    def size(self) -> int:
        """How many numbers."""
        targets = 2 * self.target_points + 1 if self.target_points else 0
        return 1 + self._past + 1 + len(Command) + 1 + targets

    @property
    def _past(self) -> int:
        """Past speeds, yaw rates and their validity, after the present speed."""
        return 3 * self.motion_ticks - 1

    def read(self, observation: Observation) -> Float[Tensor, "*batch state"]:
        """The numbers of an observation.

        Raises:
            UserError: The ego motion is too short.
        """
        motion, intent, ticks = observation.motion, observation.intent, self.motion_ticks
        if motion.speed.shape[-1] < ticks:
            raise UserError(
                "the observation's ego motion is shorter than the planner reads",
                got=f"{motion.speed.shape[-1]} ticks",
                expected=f"at least {ticks} ticks",
                fix="raise the world's motion history, or set `motion_ticks` of the planner",
            )
        known = motion.valid[..., -ticks:]
        speed = motion.speed[..., -1:]
        past = motion.speed[..., -ticks:-1] - speed
        yaw_rate = motion.yaw_rate[..., -ticks:]
        parts = [
            speed / _SPEED,
            torch.where(known[..., :-1], past / _SPEED_CHANGE, 0.0),
            torch.where(known, yaw_rate / _YAW_RATE, 0.0),
            known.float(),
            intent.set_speed[..., None] / _SPEED,
            functional.one_hot(intent.command.long(), len(Command)).float(),
            intent.command_age[..., None].clamp(max=2 * _COMMAND_AGE) / _COMMAND_AGE,
        ]
        if self.target_points:
            given = intent.target_valid[..., None]
            points = intent.target_points[..., : self.target_points, :].flatten(-2)
            parts += [torch.where(given, points / _TARGET, 0.0), given.float()]
        return torch.cat(parts, -1)

    def speed(self, state: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch 1"]:
        """The present speed [m/s] of what `read` returned."""
        return state[..., :1] * _SPEED

    def hide_motion(
        self, state: Float[Tensor, "*batch state"], share: float
    ) -> Float[Tensor, "*batch state"]:
        """The state with all motion but the present speed zero for a random share of the samples."""
        past = slice(1, 1 + self._past)
        keep = torch.rand(*state.shape[:-1], 1, device=state.device) >= share
        return torch.cat([state[..., :1], state[..., past] * keep, state[..., past.stop :]], -1)


def constant_velocity_anchor(
    residual: Float[Tensor, "*batch plan point 4"],
    speed: Float[Tensor, "*batch 1"],
    times: Float[Tensor, "point"],
) -> tuple[Float[Tensor, "*batch plan point 4"], Float[Tensor, "*batch 1 point 4"]]:
    """Plans x [m], y [m], heading [rad], speed [m/s] from numbers of order one, 0 being straight on at this speed.

    Returns:
        The plans, and what one stands for: what a firm manoeuvre reaches by each time, 2 m/s^2 along and across, a
        tenth of the way, 0.2 rad/s.
    """
    still = torch.zeros_like(speed * times)
    straight = torch.stack([speed * times, still, still, still + speed], -1)[..., None, :, :]
    reach = torch.stack(
        [
            still + 0.25 * times + times**2,
            0.1 * speed.clamp(min=0.0) * times + times**2,
            still + 0.2 * times,
            still + 2.0 * times,
        ],
        -1,
    )[..., None, :, :]
    return straight + residual * reach, reach
