"""What passes between a world and the processes that MetaDrive runs in."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from numpy import ndarray

__all__ = ["TICK", "Answer"]

TICK = 0.1
"""Of MetaDrive: five steps of its physics, 0.02 s each."""


@dataclass(frozen=True)
class Answer:
    """Where everything is.

    Attributes:
        ego: x, y [m], heading [rad], speed [m/s], yaw rate [rad/s] of the car.
        others: x, y, heading, speed of everybody else; NaN for those who have left.
        pictures: Of MetaDrive's own cameras, if there are any.
    """

    ego: Float[ndarray, "5"]
    others: Float[ndarray, "other 4"]
    pictures: tuple[ndarray, ...] = ()
