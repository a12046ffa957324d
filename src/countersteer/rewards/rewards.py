"""Rewards: what one tick was worth to each car."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from countersteer import noise
from countersteer.errors import UserError
from countersteer.worlds.interface import Events, TerminationReason
from countersteer.worlds.truth import Truth

__all__ = ["RewardWeights", "MultiplicativeReward", "ProgressReward", "Reward", "WeightedReward"]


@runtime_checkable
class Reward(Protocol):
    """What a tick was worth to each car."""

    def __call__(
        self,
        events: Events,
        before: Truth,
        after: Truth,
        condition: Float[Tensor, "world agent coefficient"] | None = None,
        /,
    ) -> Float[Tensor, "world agent"]:
        """The reward of a tick.

        Args:
            events: What happened in it.
            before, after: Truth before the tick and after it. What is said of cars that had ended before
                it (`before.alive` is False) is not used.
            condition: The cars' coefficients, of rewards that have some.
        """
        ...


@dataclass(frozen=True)
class ProgressReward:
    """A point for each second's way along the path at the set speed, less what went wrong.

    Rollouter faster than the set speed earns nothing more, and the way back costs what the way forth earned.

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

    def __call__(
        self, events: Events, before: Truth, after: Truth, condition: Tensor | None = None, /
    ) -> Float[Tensor, "world agent"]:
        """See `Reward`."""
        each_second = (
            self.collision * events.collision.float()
            + self.off_road * events.off_road.float()
            + self.wrong_way * events.wrong_way.float()
            + self.uncomfortable * events.uncomfortable.float()
            + self.lateral * after.lateral.abs()
        )
        failed = events.terminated & (events.cause != TerminationReason.GOAL)
        once = self.failed * failed.float() + self.red_light * events.red_light.float()
        return (_progress(before, after, self.dt) - each_second) * self.dt - once


def _progress(before: Truth, after: Truth, dt: float, most: float = 1.0) -> Float[Tensor, "world agent"]:
    """Way along the path as a share of what the set speed asks for, in [-1, `most`]."""
    due = before.set_speed.clamp(min=1.0) * dt
    # Bounded, because the nearest point of a path that bends back on itself can jump.
    return ((after.arc - before.arc) / due).clamp(-1.0, most)


_FASTEST = 1.25  # times the set speed, above which speed earns nothing more
Range = tuple[float, float]


@dataclass(frozen=True)
class RewardWeights:
    """Ranges of the coefficients that a car's reward is drawn with, once a drive; uniformly but for those `skewed`.

    A policy that is told them learns many styles of driving at once; which one is asked for is then a choice
    at deployment (Gigaflow, arXiv 2502.03349; the twelve of Gigapixel, arXiv 2606.19641). Each is the
    weight of what its name says in `WeightedReward`, except that a goal counts only within `goal_radius` of the
    path [m] and not faster than `goal_speed` [m/s].

    Attributes:
        collision, off_road, traffic_light: Cost of each time it happens.
        comfort: Cost of each second outside the comfort bounds.
        lane_align: Worth of each second in the path's direction.
        lane_center: Cost of each second and metre beside the path.
        velocity: Worth of each second at the set speed; it goes with the square of the speed, up to a quarter more.
        timestep: Cost of each second.
        reverse: Cost of each second against the traffic, or away from the goal.
        overspeed: Cost of each second at twice the set speed, in proportion to the excess.
        goal_radius, goal_speed: Bounds within which a goal counts.
        skewed: Names of coefficients that are drawn, and shown to a policy, as the square of an even share of
            their range. A cost that is larger than anything else there is to win changes nothing any more
            by being larger still, so there is more to learn at its low end.
    """

    collision: Range = (0.0, 10.0)
    off_road: Range = (0.5, 3.0)
    comfort: Range = (0.0, 0.1)
    lane_align: Range = (0.0, 0.02)
    lane_center: Range = (0.0, 0.2)
    velocity: Range = (0.0, 1.0)
    traffic_light: Range = (0.2, 2.0)
    timestep: Range = (0.0, 0.02)
    reverse: Range = (0.05, 0.3)
    goal_radius: Range = (1.0, 5.0)
    overspeed: Range = (0.0, 3.0)
    goal_speed: Range = (5.0, 30.0)
    skewed: tuple[str, ...] = field(default=("collision",), metadata={"absent": ()})

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.skewed) - set(self.names())):
            raise UserError(
                "`skewed` of RewardWeights names none of them",
                got=", ".join(unknown),
                expected=", ".join(self.names()),
                fix="set `skewed` of RewardWeights",
            )
        for name, (low, high) in self._ranges():
            if not (0.0 <= low <= high < math.inf):
                raise UserError(
                    f"the range of the coefficient {name!r} is none",
                    got=(low, high),
                    expected="two numbers from 0, the smaller one first",
                    fix=f"set `{name}` of RewardWeights",
                )

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The coefficients, in the order of a condition's columns."""
        return tuple(each.name for each in fields(cls) if each.name != "skewed")

    def _ranges(self) -> list[tuple[str, Range]]:
        return [(name, getattr(self, name)) for name in self.names()]

    def draw(self, seed: int, drive: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch coefficient"]:
        """RewardWeights of the car of each drive."""
        share = noise.uniform(seed, drive, torch.zeros_like(drive), "reward", len(self.names()))
        return self._between(share)

    def middle(self, *batch: int, device: torch.device | str = "cpu") -> Float[Tensor, "*batch coefficient"]:
        """The middle of what is drawn of each: how a policy drives that is asked for nothing special."""
        return self._between(torch.full((*batch, len(self.names())), 0.5, device=device))

    def _ends(self, device: torch.device) -> tuple[Tensor, Tensor]:
        low, high = torch.tensor([pair for _, pair in self._ranges()], device=device).unbind(-1)
        return low, high

    def _between(self, share: Tensor) -> Tensor:
        low, high = self._ends(share.device)
        return low + share ** self._power(share.device) * (high - low)

    def _power(self, device: torch.device) -> Tensor:
        return torch.tensor([2.0 if name in self.skewed else 1.0 for name in self.names()], device=device)

    def normalised(
        self, condition: Float[Tensor, "*batch coefficient"]
    ) -> Float[Tensor, "*batch coefficient"]:
        """RewardWeights as a policy reads them: -1 at the low end of the range, 1 at the high end, 0 for a point."""
        low, high = self._ends(condition.device)
        share = ((condition - low) / (high - low).clamp(min=1e-9)).clamp(0.0, 1.0)
        return torch.where(high > low, 2.0 * share ** (1.0 / self._power(share.device)) - 1.0, 0.0)


@dataclass(frozen=True)
class WeightedReward:
    """Rewards and costs added up, each weighted by the car's own coefficient; a goal is worth 1.

    Attributes:
        dt: Length of a tick [s].
        goal: Worth of the goal.
    """

    dt: float
    goal: float = 1.0

    def __call__(
        self, events: Events, before: Truth, after: Truth, condition: Tensor | None = None, /
    ) -> Float[Tensor, "world agent"]:
        """See `Reward`."""
        c = _columns(condition)
        progress = _progress(before, after, self.dt, most=_FASTEST)
        each_second = (
            # Squared: the sum over a way would else be the same at any speed, and slow cars would collect it too.
            c["velocity"] * progress * progress.abs()
            + c["lane_align"] * after.heading_error.cos()
            - c["comfort"] * events.uncomfortable.float()
            - c["lane_center"] * after.lateral.abs()
            - c["timestep"]
            - c["reverse"] * (events.wrong_way | (progress < 0.0)).float()
            - c["overspeed"] * _excess(after)
        )
        return each_second * self.dt + self.goal * _reached(events, after, c) - _failures(events, c)


@dataclass(frozen=True)
class MultiplicativeReward:
    """Progress times penalties, after CaRL (Jaeger et al. 2025): breaking a rule makes the way worth less, never negative.

    A tick is worth its way along the path at the set speed times a factor for each rule, `1 - coefficient x
    violation` from 0 up; violations are 1 for discomfort, the speed above the set speed [m/s], the distance
    from the path beyond half a metre [m], and 1 / coefficient for being off the road or against the
    traffic. What ends a drive costs its coefficient once. So there is nothing to gain by standing still,
    which sums of rewards and costs tempt to.

    Attributes:
        dt: Length of a tick [s].
        goal: Worth of the goal.
    """

    dt: float
    goal: float = 1.0

    def __call__(
        self, events: Events, before: Truth, after: Truth, condition: Tensor | None = None, /
    ) -> Float[Tensor, "world agent"]:
        """See `Reward`."""
        c = _columns(condition)
        factors = (
            1.0 - c["comfort"] * events.uncomfortable.float(),
            1.0 - c["overspeed"] * (after.speed - after.set_speed).clamp(min=0.0),
            1.0 - c["lane_center"] * (after.lateral.abs() - 0.5).clamp(min=0.0),
            (~(events.wrong_way | events.off_road)).float(),
        )
        kept = math.prod(factor.clamp(min=0.0) for factor in factors)
        way = _progress(before, after, self.dt).clamp(min=0.0) * self.dt
        return c["velocity"] * way * kept + self.goal * _reached(events, after, c) - _failures(events, c)


def _columns(condition: Tensor | None) -> dict[str, Tensor]:
    if condition is None:
        raise UserError(
            "this reward needs the coefficients of every car",
            got="no condition",
            expected="what `RewardWeights.draw` or `RewardWeights.middle` gives",
            fix="hand on the condition of the drive",
        )
    return dict(zip(RewardWeights.names(), condition.unbind(-1), strict=True))


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
