"""Plans (what a car intends) and actions (what it is told to do)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from countersteer.ranges import Range, Ranged
from countersteer.tensors import TensorTree

__all__ = ["Action", "JerkAction", "Plan", "PlanSpec"]


@dataclass(frozen=True)
class PlanSpec(Ranged):
    """The fixed times of a plan: `points` of them, `interval` [s] apart, the first one interval ahead."""

    points: Annotated[int, Range("[1, 1000]")] = 12
    interval: Annotated[float, Range("[0.001, 60]")] = 0.25

    def times(self, device: torch.device | str = "cpu") -> Float[Tensor, "point"]:
        """Times ahead [s]."""
        return torch.arange(1, self.points + 1, device=device) * self.interval


@dataclass(frozen=True)
class Plan(TensorTree):
    """Where a car wants to be at the times of a `PlanSpec`, in the ego frame of the moment it was made.

    Attributes:
        position: Rear-axle position [m]; x forward, y left.
        heading: [rad], relative to the heading at the time of planning.
        speed: [m/s], >= 0.
    """

    position: Float[Tensor, "*batch point 2"]
    heading: Float[Tensor, "*batch point"]
    speed: Float[Tensor, "*batch point"]


@dataclass(frozen=True)
class Action(TensorTree):
    """What a vehicle is asked to do for one tick.

    Attributes:
        curvature: Desired path curvature of the rear axle [1/m], positive to the left.
        acceleration: Desired longitudinal acceleration [m/s^2].
    """

    curvature: Float[Tensor, "*batch"]
    acceleration: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class JerkAction(TensorTree):
    """How the acceleration of a vehicle is asked to change for one tick; see `countersteer.vehicles.jerk`.

    Attributes:
        longitudinal: [m/s^3].
        lateral: [m/s^3], positive to the left.
    """

    longitudinal: Float[Tensor, "*batch"]
    lateral: Float[Tensor, "*batch"]
