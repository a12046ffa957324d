"""Rewards that each car weighs by its own weights: added up, or as progress times penalties."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from countersteer.errors import UserError
from countersteer.ranges import NonNegative, Ranged
from countersteer.rewards.interface import RewardInputs
from countersteer.rewards.progress import progress
from countersteer.rewards.weights import RewardWeights
from countersteer.worlds.interface import Events, TerminationReason, Truth

__all__ = ["MultiplicativeReward", "WeightedReward"]

_FASTEST = 1.25  # times the set speed, above which speed earns nothing more


@dataclass(frozen=True)
class WeightedReward(Ranged):
    """Rewards and costs added up, each weighted by the car's own weight; a goal is worth 1.

    Attributes:
        goal: Worth of the goal.
    """

    goal: NonNegative = 1.0

    def __call__(self, transition: RewardInputs, /) -> Float[Tensor, "world agent"]:
        """See `Reward`."""
        events, after = transition.events, transition.after
        c = _columns(transition.weights)
        way = progress(transition, most=_FASTEST)
        each_second = (
            # Squared: the sum over a way would else be the same at any speed, and slow cars would collect it too.
            c["velocity"] * way * way.abs()
            + c["lane_align"] * after.heading_error.cos()
            - c["comfort"] * events.uncomfortable.float()
            - c["lane_center"] * after.lateral.abs()
            - c["timestep"]
            - c["reverse"] * (events.wrong_way | (way < 0.0)).float()
            - c["overspeed"] * _excess(after)
        )
        return each_second * transition.dt + self.goal * _reached(events, after, c) - _failures(events, c)


@dataclass(frozen=True)
class MultiplicativeReward(Ranged):
    """Progress times penalties, after CaRL (Jaeger et al. 2025): breaking a rule makes the way worth less, never negative.

    A tick is worth its way along the path at the set speed times a factor for each rule, `1 - weight x
    violation` from 0 up; violations are 1 for discomfort, the speed above the set speed [m/s], the distance
    from the path beyond half a metre [m], and 1 / weight for being off the road or against the
    traffic. What ends a drive costs its weight once. So there is nothing to gain by standing still,
    which sums of rewards and costs tempt to.

    Attributes:
        goal: Worth of the goal.
    """

    goal: NonNegative = 1.0

    def __call__(self, transition: RewardInputs, /) -> Float[Tensor, "world agent"]:
        """See `Reward`."""
        events, after = transition.events, transition.after
        c = _columns(transition.weights)
        factors = (
            1.0 - c["comfort"] * events.uncomfortable.float(),
            1.0 - c["overspeed"] * (after.speed - after.set_speed).clamp(min=0.0),
            1.0 - c["lane_center"] * (after.lateral.abs() - 0.5).clamp(min=0.0),
            (~(events.wrong_way | events.off_road)).float(),
        )
        kept = math.prod(factor.clamp(min=0.0) for factor in factors)
        way = progress(transition).clamp(min=0.0) * transition.dt
        return c["velocity"] * way * kept + self.goal * _reached(events, after, c) - _failures(events, c)


def _columns(weights: Tensor | None) -> dict[str, Tensor]:
    if weights is None:
        raise UserError(
            "this reward needs the weights of every car",
            got="no weights",
            expected="what `RewardWeights.draw` or `RewardWeights.middle` gives",
            fix="hand on the reward weights of the drive",
        )
    return dict(zip(RewardWeights.names(), weights.unbind(-1), strict=True))


def _excess(after: Truth) -> Tensor:
    """Speed above the set speed, as a share of it."""
    return (after.speed / after.set_speed.clamp(min=1.0) - 1.0).clamp(min=0.0)


def _reached(events: Events, after: Truth, c: dict[str, Tensor]) -> Tensor:
    near = (after.lateral.abs() <= c["goal_radius"]) & (after.speed <= c["goal_speed"])
    return (events.terminated & (events.cause == TerminationReason.GOAL) & near).float()


def _failures(events: Events, c: dict[str, Tensor]) -> Tensor:
    lost = events.terminated & (
        (events.cause == TerminationReason.OFF_ROUTE) | (events.cause == TerminationReason.INVALID_STATE)
    )
    return (
        c["collision"] * events.collision.float()
        + c["off_road"] * (events.off_road | lost).float()
        + c["traffic_light"] * events.red_light.float()
    )
