"""Driving by jerk: the car is told how its acceleration changes, as in PufferDrive and Gigapixel.

A longitudinal and a lateral jerk integrate to accelerations, within limits; these are the command, a curvature and an
acceleration, that the car carries out with the delay, gains and limits of `bicycle`. What is integrated is the
command given last, which the car remembers anyway, so driving by jerk needs no state of its own, and
the cars of a batch may be driven either way: `command` makes an `Action` of a `JerkAction`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from countersteer.ranges import Finite, Positive, Ranged
from countersteer.vehicles.bicycle import Limits, VehicleState
from countersteer.vehicles.plans import Action, JerkAction

__all__ = ["SLOW", "JerkSpec", "command"]

SLOW = 1.0
"""Lateral acceleration says nothing about the steering of a car that stands; below this speed [m/s] it is as at it."""


@dataclass(frozen=True)
class JerkSpec(Ranged):
    """What a policy chooses from, and what it adds up to; the defaults are PufferDrive's.

    Attributes:
        longitudinal: [m/s^3].
        lateral: [m/s^3], positive to the left.
        braking, acceleration: Longitudinal bounds [m/s^2].
        lateral_acceleration: Largest either way [m/s^2].
    """

    longitudinal: tuple[Finite, ...] = (-15.0, -4.0, 0.0, 4.0)
    lateral: tuple[Finite, ...] = (-4.0, 0.0, 4.0)
    braking: Positive = 5.0
    acceleration: Positive = 2.5
    lateral_acceleration: Positive = 4.0

    @property
    def choices(self) -> int:
        """How many pairs there are."""
        return len(self.longitudinal) * len(self.lateral)

    def action(self, choice: Int[Tensor, "*batch"]) -> JerkAction:
        """The pair with this number, in [0, choices); the lateral jerk counts up first."""
        lateral = len(self.lateral)
        return JerkAction(_pick(self.longitudinal, choice // lateral), _pick(self.lateral, choice % lateral))


def command(state: VehicleState, action: JerkAction, dt: float, jerk: JerkSpec, limits: Limits) -> Action:
    """The command that these jerks make of the command before.

    An acceleration that would change its sign is zero for a tick, so that coasting and going straight can be met
    exactly. Lateral acceleration is kept, not curvature: a car that speeds up opens its turn. A car that stands does not
    go on braking.

    Args:
        state: Of the cars.
        action: Any jerks, chosen from `jerk` or not.
        dt: Tick [s].
        jerk: Bounds on what the jerks add up to.
        limits: Bounds on curvature and its rate; those of the car, which would not follow beyond them.
    """
    bend, push = state.commands[..., 0, :].unbind(-1)
    push = torch.where(state.speed > 0, push, push.clamp(min=0.0))
    acceleration = _add(push, action.longitudinal * dt, -jerk.braking, jerk.acceleration)
    now = state.speed.clamp(min=SLOW)
    soon = (state.speed + acceleration * dt).clamp(min=SLOW)
    most = jerk.lateral_acceleration
    lateral = _add(bend * (now * now), action.lateral * dt, -most, most)
    wanted = (lateral / (soon * soon)).clamp(-limits.curvature, limits.curvature)
    most = limits.curvature_rate * dt
    return Action(bend + (wanted - bend).clamp(-most, most), acceleration)


def _pick(values: tuple[float, ...], index: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Entries of a short list, without a copy of the list from the host."""
    picked = torch.full(index.shape, values[0], device=index.device)
    for number, value in enumerate(values[1:], 1):
        picked = torch.where(index == number, value, picked)
    return picked


def _add(
    before: Float[Tensor, "*batch"], change: Float[Tensor, "*batch"], low: float, high: float
) -> Float[Tensor, "*batch"]:
    after = (before + change).clamp(low, high)
    return torch.where(before * after < 0, 0.0, after)
