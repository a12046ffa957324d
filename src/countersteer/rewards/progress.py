"""Progress along the path, less what went wrong."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from countersteer.ranges import NonNegative, Ranged
from countersteer.rewards.interface import RewardInputs
from countersteer.worlds.interface import TerminationReason

__all__ = ["ProgressReward", "progress"]


@dataclass(frozen=True)
class ProgressReward(Ranged):
    """A point for each second's way along the path at the set speed, less what went wrong.

    Driving faster than the set speed earns nothing more, and the way back costs what the way forth earned.

    Attributes:
        failed: Cost of a drive that ends by anything but its goal or its time.
        red_light: Cost of crossing a stop line at red.
        collision, off_road, wrong_way: Cost of each second of it; it goes on only in worlds where it does
            not end the drive.
        uncomfortable: Cost of each second outside the comfort bounds.
        lateral: Cost of each second and metre beside the path [1/(m s)].
    """

    failed: NonNegative = 5.0
    red_light: NonNegative = 5.0
    collision: NonNegative = 1.0
    off_road: NonNegative = 1.0
    wrong_way: NonNegative = 1.0
    uncomfortable: NonNegative = 0.05
    lateral: NonNegative = 0.25

    def __call__(self, transition: RewardInputs, /) -> Float[Tensor, "world agent"]:
        """See `Reward`."""
        events, after = transition.events, transition.after
        each_second = (
            self.collision * events.collision.float()
            + self.off_road * events.off_road.float()
            + self.wrong_way * events.wrong_way.float()
            + self.uncomfortable * events.uncomfortable.float()
            + self.lateral * after.lateral.abs()
        )
        failed = events.terminated & (events.cause != TerminationReason.GOAL)
        once = self.failed * failed.float() + self.red_light * events.red_light.float()
        return (progress(transition) - each_second) * transition.dt - once


def progress(transition: RewardInputs, most: float = 1.0) -> Float[Tensor, "world agent"]:
    """Way along the path as a share of what the set speed asks for, in [-1, `most`]."""
    before, after = transition.before, transition.after
    due = before.set_speed.clamp(min=1.0) * transition.dt
    # Bounded, because the nearest point of a path that bends back on itself can jump.
    return ((after.arc - before.arc) / due).clamp(-1.0, most)
