"""Collectors: make rollouts from weights. The seam that lets actors live elsewhere (`ray_collector`).

A request and a rollout are plain data; a collector is built from a stage and a seed alone. So the same
request gives the same rollout inline, in another process or on another machine.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

from torch import Tensor

from countersteer.rollouts.rollout import Rollout
from countersteer.rollouts.rollouter import Rollouter, roll_out
from countersteer.training.stages import ClosedLoop

__all__ = ["Collector", "InlineCollector", "RolloutRequest"]

_DRIVES_APART = 1_000_000
"""Iterations never share a drive: no drive slot begins more drives than this in one."""


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
    def of_iteration(
        cls, stage: ClosedLoop, number: int, version: int, weights: dict[str, Tensor] | None
    ) -> RolloutRequest:
        """What a stage wants collected in one of its iterations, numbered from 0, with these weights."""
        rollouts = stage.rollouts
        total = rollouts.total_frames // (rollouts.num_worlds * stage.world.agents)
        first = round(total * rollouts.first_iteration_share) if rollouts.iterations > 1 else total
        rest = (total - first) // max(rollouts.iterations - 1, 1)
        return cls(
            first_drive=number * _DRIVES_APART * rollouts.num_worlds,
            frames=max(first if number == 0 else rest, stage.optim.sequence_length),
            progress=number / max(rollouts.iterations - 1, 1),
            version=version,
            weights=weights if stage.driver.uses_policy else None,
        )

    def iteration_in(self, stage: ClosedLoop) -> int:
        """The iteration that it is of."""
        return self.first_drive // (_DRIVES_APART * stage.rollouts.num_worlds)


class Collector(abc.ABC):
    """Answers requests with rollouts."""

    @abc.abstractmethod
    def collect(self, request: RolloutRequest) -> Rollout:
        """A rollout `[request.frames, worlds * agents]`; its `policy_version` says whose weights drove."""

    @abc.abstractmethod
    def fingerprints(self) -> dict[str, str]:
        """Of the scenarios that are driven in, by id."""

    def close(self) -> None:
        """Let go of whatever is held elsewhere; here nothing is."""
        return


class InlineCollector(Collector):
    """Collects in this process.

    Args:
        stage: What to build.
        seed: Of worlds and drivers.
        device: Where world and policy live. Rollouts stay there if they are learned from once, and else are on the CPU.
    """

    def __init__(self, stage: ClosedLoop, seed: int, device: str = "cpu"):
        self.stage, self.seed = stage, seed
        self.world = stage.equipped_world.build(
            stage.scenarios.load(), stage.rollouts.num_worlds, seed, device
        )
        self.policy = stage.policy.build().eval().to(device)
        self.kept_on = device if stage.rollouts.buffer_iterations == 1 else "cpu"

    def fingerprints(self) -> dict[str, str]:
        """See `Collector.fingerprints`."""
        scenarios = getattr(self.world, "scenarios", ())
        return {scenario.id: scenario.fingerprint()[:16] for scenario in scenarios}

    def collect(self, request: RolloutRequest) -> Rollout:
        """See `Collector.collect`."""
        stage = self.stage
        if request.weights is not None:
            self.policy.load_state_dict(request.weights)
        driving = Rollouter(
            self.world,
            stage.driver,
            self.policy,
            stage.expert,
            self.seed,
            request.progress,
            stage.objective.reward,
            stage.policy.reward_weights if stage.objective.reward is not None else None,
            stage.sensors,
            stage.optim.precision,
        )
        stride = stage.policy.stride
        # Only every `stride`-th frame is kept: a policy's history steps over the others too.
        kept = roll_out(
            driving,
            request.frames * stride,
            first_drive=request.first_drive,
            policy_version=request.version,
            every=stride,
            min_active_fraction=stage.rollouts.min_active_fraction,
        )
        rollout: Rollout | None = None
        for number, tick in enumerate(kept):
            if rollout is None:
                # In its place from the start: pictures joined afterwards would be in memory twice.
                rollout = tick.map(
                    lambda leaf: leaf.new_empty((request.frames, *leaf.shape[1:]), device=self.kept_on)
                )
            rollout.map(lambda whole, part, at=number: whole[at : at + 1].copy_(part), tick)
        if rollout is None:
            raise ValueError("a request for no frames")
        return rollout
