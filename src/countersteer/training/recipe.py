"""A recipe: one value from each axis, and how much of it. A frozen tree that builds everything."""

from __future__ import annotations

from dataclasses import dataclass, field

from countersteer.data.sources import ScenarioSource
from countersteer.drivers.interface import Driver
from countersteer.errors import UserError
from countersteer.experts.interface import Expert
from countersteer.objectives.interface import Objective
from countersteer.policies.interface import PolicySpec
from countersteer.worlds.interface import Capability
from countersteer.worlds.observations import twin_of
from countersteer.worlds.world import WorldSpec

__all__ = ["OptimSpec", "Recipe", "RolloutSpec"]


@dataclass(frozen=True)
class RolloutSpec:
    """How much is driven.

    Attributes:
        rounds: Times that driving and learning alternate.
        frames: Frames kept in all, over the rounds.
        drives: Drives at once.
        first_round_share: Share of the frames that the first round gets; the rest is even.
        last_learning_share: Share of the gradient steps that are taken once everything is collected; the
            rest is even. With one round it is all of them.
        keep: Rounds that are learned from at a time, the latest ones; None keeps all (DAgger), 1 is on-policy.
        min_active_fraction: See `roll_out`.
    """

    rounds: int = 5
    frames: int = 42_000
    drives: int = 192
    first_round_share: float = 0.25
    last_learning_share: float = 0.4
    keep: int | None = None
    min_active_fraction: float = 0.0

    @classmethod
    def even(cls, rounds: int, frames: int, drives: int, min_active_fraction: float = 0.0) -> RolloutSpec:
        """Rounds of one size, each learned from and forgotten, as on-policy methods need them.

        Args:
            rounds, drives: As the attributes.
            frames: StoredEvaluation in all.
            min_active_fraction: As the attribute.
        """
        return cls(rounds, frames, drives, 1.0 / rounds, 1.0 / rounds, 1, min_active_fraction)


@dataclass(frozen=True)
class OptimSpec:
    """How it is learned from.

    Attributes:
        steps: Gradient steps in all, over the rounds.
        sequences: Sequences in a batch.
        length: StoredEvaluation frames in a sequence.
        learning_rate: Peak of AdamW's; linear warm-up over `warmup` steps, then cosine to 2 %.
        warmup: Steps.
        weight_decay: Of AdamW.
        clip: Largest gradient norm.
        checkpoint_every: Steps between checkpoints.
    """

    steps: int = 3_200
    sequences: int = 9
    length: int = 14
    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 1e-2
    clip: float = 1.0
    checkpoint_every: int = 250


@dataclass(frozen=True)
class Recipe:
    """Who drives (`driver`) in which world (`world` in `scenarios`) for which signal (`objective`, `expert`).

    Attributes:
        name: Of the recipe; runs and tables carry it.
        scenarios: What the worlds are built from.
        world, policy, expert, driver, objective: The parts; an expert only where one is asked.
        collection, learning: The budget.
        begin: Run folder or policy file whose weights training begins with, of the same `policy`; None draws them.
    """

    name: str
    scenarios: ScenarioSource
    world: WorldSpec
    policy: PolicySpec
    expert: Expert | None
    driver: Driver
    objective: Objective
    collection: RolloutSpec = RolloutSpec()
    learning: OptimSpec = OptimSpec()
    begin: str | None = field(default=None, metadata={"absent": None})

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of what is observed: what the policy reads, and its cameras' twins if they are compared."""
        read = self.policy.sensors
        if Capability.TWIN in self.objective.needs:
            read += tuple(twin_of(camera.name) for camera in self.policy.cameras)
        return read

    def check(self) -> None:
        """Refuse couplings of the axes that cannot work, naming both sides and what to do."""

        def refuse(what: str, got: object, expected: object, fix: str) -> None:
            raise UserError(f"recipe {self.name!r}: {what}", got=got, expected=expected, fix=fix)

        have = self.world.capabilities
        for part in (self.driver, self.objective):
            if part.uses_expert and self.expert is None:
                refuse(
                    f"{type(part).__name__} needs an expert",
                    "no expert",
                    "an expert",
                    "give the recipe an expert",
                )
        for part in filter(None, (self.expert, self.driver, self.objective)):
            lacking = sorted(c.value for c in part.needs - have)
            if lacking:
                refuse(
                    f"{type(part).__name__} needs what {type(self.world).__name__} does not offer",
                    ", ".join(sorted(c.value for c in have)) or "no capability",
                    ", ".join(lacking),
                    "choose another world, or another expert, driver or objective",
                )
        if self.policy.cameras != self.world.cameras:
            refuse(
                "policy.cameras and world.cameras differ",
                self.world.cameras,
                self.policy.cameras,
                "give both the same cameras",
            )
        if self.policy.vector is not None and self.policy.vector != self.world.vector:
            refuse(
                "policy.vector and world.vector differ",
                self.world.vector,
                self.policy.vector,
                "give both the same vector sensor",
            )
        if abs(self.policy.dt - self.world.dt) > 1e-9:
            refuse("policy.dt and world.dt differ", self.world.dt, self.policy.dt, "give both the same tick")
        if self.expert is not None and self.policy.plan != self.expert.plan:
            refuse(
                "policy.plan and expert.plan differ",
                self.expert.plan,
                self.policy.plan,
                "give both the same plan times",
            )
        for name in ("rounds", "frames", "drives"):
            if getattr(self.collection, name) < 1:
                refuse(f"collection.{name} is too small", getattr(self.collection, name), ">= 1", "raise it")
        for name in ("steps", "sequences", "length", "checkpoint_every"):
            if getattr(self.learning, name) < 1:
                refuse(f"learning.{name} is too small", getattr(self.learning, name), ">= 1", "raise it")
        if self.collection.frames // self.collection.rounds // self.collection.drives < self.learning.length:
            refuse(
                "a round keeps fewer frames of a drive than one sequence holds",
                f"{self.collection.frames // self.collection.rounds // self.collection.drives} frames",
                f"at least learning.length = {self.learning.length}",
                "raise collection.frames, or lower collection.drives, collection.rounds or learning.length",
            )
