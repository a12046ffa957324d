"""Collectors: make rollouts from weights. The seam that lets actors live elsewhere (`ray_collector`).

A request and a rollout are plain data; a collector is built from a recipe and a seed alone. So the same
request gives the same rollout inline, in another process or on another machine.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

from torch import Tensor

from countersteer.rollouts.rollout import Rollout
from countersteer.rollouts.rollouter import Rollouter, roll_out
from countersteer.training.recipe import Recipe

__all__ = ["Collector", "InlineCollector", "RolloutRequest"]

_DRIVES_APART = 1_000_000
"""Rounds never share a drive: no drive slot begins more drives than this in one."""


@dataclass(frozen=True)
class RolloutRequest:
    """What to collect.

    Attributes:
        first_drive: Identity of the first drive; later ones count on from it.
        frames: Frames to keep of each drive slot.
        progress: Of training, in [0, 1].
        version: Of the weights.
        weights: State of the policy, on the CPU; None where nobody asks it.
    """

    first_drive: int
    frames: int
    progress: float
    version: int
    weights: dict[str, Tensor] | None

    @classmethod
    def of_round(
        cls, recipe: Recipe, number: int, version: int, weights: dict[str, Tensor] | None
    ) -> RolloutRequest:
        """What a recipe wants collected in one of its rounds, numbered from 0, with these weights."""
        collection = recipe.collection
        total = collection.frames // (collection.drives * recipe.world.agents)
        first = round(total * collection.first_round_share) if collection.rounds > 1 else total
        rest = (total - first) // max(collection.rounds - 1, 1)
        return cls(
            first_drive=number * _DRIVES_APART * collection.drives,
            frames=max(first if number == 0 else rest, recipe.learning.length),
            progress=number / max(collection.rounds - 1, 1),
            version=version,
            weights=weights if recipe.driver.uses_policy else None,
        )

    def round_in(self, recipe: Recipe) -> int:
        """The round that it is of."""
        return self.first_drive // (_DRIVES_APART * recipe.collection.drives)


class Collector(abc.ABC):
    """Answers requests with rollouts."""

    @abc.abstractmethod
    def collect(self, request: RolloutRequest) -> Rollout:
        """A rollout `[request.frames, drives * agents]`, on the CPU; its `policy_version` says whose weights drove."""

    @abc.abstractmethod
    def fingerprints(self) -> dict[str, str]:
        """Of the scenarios that are driven in, by id."""

    def close(self) -> None:
        """Let go of whatever is held elsewhere; here nothing is."""
        return


class InlineCollector(Collector):
    """Collects in this process.

    Args:
        recipe: What to build.
        seed: Of worlds and drivers.
    """

    def __init__(self, recipe: Recipe, seed: int):
        self.recipe, self.seed = recipe, seed
        self.world = recipe.world.build(recipe.scenarios.load(), recipe.collection.drives, seed)
        self.policy = recipe.policy.build().eval()

    def fingerprints(self) -> dict[str, str]:
        """See `Collector.fingerprints`."""
        scenarios = getattr(self.world, "scenarios", ())
        return {scenario.id: scenario.fingerprint()[:16] for scenario in scenarios}

    def collect(self, request: RolloutRequest) -> Rollout:
        """See `Collector.collect`."""
        recipe = self.recipe
        if request.weights is not None:
            self.policy.load_state_dict(request.weights)
        driving = Rollouter(
            self.world,
            recipe.driver,
            self.policy,
            recipe.expert,
            self.seed,
            request.progress,
            recipe.objective.reward,
            recipe.objective.coefficients,
            recipe.sensors,
        )
        stride = recipe.policy.stride
        # Only every `stride`-th frame is kept: a policy's history steps over the others too.
        kept = roll_out(
            driving,
            request.frames * stride,
            first_drive=request.first_drive,
            policy_version=request.version,
            every=stride,
            min_active_fraction=recipe.collection.min_active_fraction,
        )
        rollout: Rollout | None = None
        for number, tick in enumerate(kept):
            if rollout is None:
                # In its place from the start: pictures joined afterwards would be in memory twice.
                rollout = tick.map(lambda leaf: leaf.new_empty((request.frames, *leaf.shape[1:])))
            rollout.map(lambda whole, part, at=number: whole[at : at + 1].copy_(part), tick)
        if rollout is None:
            raise ValueError("a request for no frames")
        return rollout
