"""Rewards of environments: what one tick was worth to each car."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from countersteer.worlds.interface import Cause, Events, Truth

__all__ = ["ProgressReward", "Reward"]


Reward = Callable[[Events, Truth, Truth], Float[Tensor, "world agent"]]
"""What a tick was worth to each car: `reward(events, before, after)`, truth before the tick and after it.

What it says of cars that had ended before the tick (`before.alive` is False) is not used.
"""


@dataclass(frozen=True)
class ProgressReward:
    """A point for each second's way along the path at the set speed, less what went wrong.

    Driving faster than the set speed earns nothing more, and the way back costs what the way forth earned.

    Attributes:
        dt: Length of a tick [s].
        failed: Cost of a drive that ends by anything but its goal or its time.
        red_light: Cost of crossing a stop line at red.
        collision, off_road, wrong_way: Cost of each second of it; it goes on only in worlds where it does
            not end the drive.
        uncomfortable: Cost of each second outside the comfort bounds.
        lateral: Cost of each second and metre beside the path [1/(m s)].
    """

    dt: float
    failed: float = 5.0
    red_light: float = 5.0
    collision: float = 1.0
    off_road: float = 1.0
    wrong_way: float = 1.0
    uncomfortable: float = 0.05
    lateral: float = 0.25

    def __call__(self, events: Events, before: Truth, after: Truth) -> Float[Tensor, "world agent"]:
        """See `Reward`."""
        due = before.set_speed.clamp(min=1.0) * self.dt
        # Bounded, because the nearest point of a path that bends back on itself can jump.
        progress = ((after.arc - before.arc) / due).clamp(-1.0, 1.0)
        failed = events.terminated & (events.cause != Cause.GOAL)
        each_second = (
            self.collision * events.collision.float()
            + self.off_road * events.off_road.float()
            + self.wrong_way * events.wrong_way.float()
            + self.uncomfortable * events.uncomfortable.float()
            + self.lateral * after.lateral.abs()
        )
        once = self.failed * failed.float() + self.red_light * events.red_light.float()
        return (progress - each_second) * self.dt - once
