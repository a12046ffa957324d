"""Reward weights: what a car cares for, drawn once a drive and told to its policy."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from countersteer import noise
from countersteer.errors import UserError
from countersteer.ranges import Range, Ranged, check_increasing
from countersteer.tensors import constant

__all__ = ["RewardWeights"]

Bounds = Annotated[tuple[float, float], Range("[0, inf)")]


@dataclass(frozen=True)
class RewardWeights(Ranged):
    """Ranges of the weights that a car's reward is drawn with, once a drive; uniformly but for those `skewed`.

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
        skewed: Names of weights that are drawn, and shown to a policy, as the square of an even share of
            their range. A cost that is larger than anything else there is to win changes nothing any more
            by being larger still, so there is more to learn at its low end.
    """

    collision: Bounds = (0.0, 10.0)
    off_road: Bounds = (0.5, 3.0)
    comfort: Bounds = (0.0, 0.1)
    lane_align: Bounds = (0.0, 0.02)
    lane_center: Bounds = (0.0, 0.2)
    velocity: Bounds = (0.0, 1.0)
    traffic_light: Bounds = (0.2, 2.0)
    timestep: Bounds = (0.0, 0.02)
    reverse: Bounds = (0.05, 0.3)
    goal_radius: Bounds = (1.0, 5.0)
    overspeed: Bounds = (0.0, 3.0)
    goal_speed: Bounds = (5.0, 30.0)
    skewed: tuple[str, ...] = field(default=("collision",), metadata={"absent": ()})

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.skewed) - set(self.names())):
            raise UserError(
                "`skewed` of RewardWeights names none of them",
                got=", ".join(unknown),
                expected=", ".join(self.names()),
                fix="set `skewed` of RewardWeights",
            )
        super().__post_init__()
        check_increasing(self, *self.names())

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The weights, in the order of their columns."""
        return tuple(each.name for each in fields(cls) if each.name != "skewed")

    def _ranges(self) -> list[tuple[str, Bounds]]:
        return [(name, getattr(self, name)) for name in self.names()]

    def draw(self, seed: int, drive: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch weight"]:
        """Weights of the car of each drive."""
        share = noise.uniform(seed, drive, torch.zeros_like(drive), "reward", len(self.names()))
        return self._between(share)

    def middle(self, *batch: int, device: torch.device | str = "cpu") -> Float[Tensor, "*batch weight"]:
        """The middle of what is drawn of each: how a policy drives that is asked for nothing special."""
        return self._between(torch.full((*batch, len(self.names())), 0.5, device=device))

    def _ends(self, device: torch.device) -> tuple[Tensor, Tensor]:
        low, high = constant(tuple(pair for _, pair in self._ranges()), device).unbind(-1)
        return low, high

    def _between(self, share: Tensor) -> Tensor:
        low, high = self._ends(share.device)
        return low + share ** self._power(share.device) * (high - low)

    def _power(self, device: torch.device) -> Tensor:
        return constant(tuple(2.0 if name in self.skewed else 1.0 for name in self.names()), device)

    def normalised(self, weights: Float[Tensor, "*batch weight"]) -> Float[Tensor, "*batch weight"]:
        """Weights as a policy reads them: -1 at the low end of the range, 1 at the high end, 0 for a point."""
        low, high = self._ends(weights.device)
        share = ((weights - low) / (high - low).clamp(min=1e-9)).clamp(0.0, 1.0)
        return torch.where(high > low, 2.0 * share ** (1.0 / self._power(share.device)) - 1.0, 0.0)
