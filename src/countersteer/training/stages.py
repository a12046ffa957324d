"""Stages of a recipe: driving and learning in turns, or fitting a model to data. Frozen trees that build everything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import nn

from countersteer.data.sources import ScenarioSource
from countersteer.drivers.interface import Driver
from countersteer.experts.interface import Expert
from countersteer.objectives.interface import Loss, Objective
from countersteer.objectives.models import AdamWSpec
from countersteer.policies.interface import PolicySpec
from countersteer.policies.precision import Precision
from countersteer.policies.weights import Weights
from countersteer.ranges import Budget, Count, Ranged, Share
from countersteer.worlds.interface import Capability
from countersteer.worlds.observations import twin_of
from countersteer.worlds.world import WorldSpec

__all__ = ["ClosedLoop", "DataSpec", "Fit", "MainModelSpec", "OptimSpec", "Preparing", "RolloutSpec", "Stage"]


@dataclass(frozen=True)
class RolloutSpec(Ranged):
    """How much is driven.

    Attributes:
        num_worlds: Worlds that are driven in at once.
        total_frames: Frames kept in all, over the iterations.
        iterations: Times that driving and learning alternate.
        first_iteration_share: Share of the frames that the first iteration gets; the rest is even.
        final_learning_share: Share of the gradient steps that are taken once everything is collected; the
            rest is even. With one iteration it is all of them.
        buffer_iterations: Iterations that are learned from at a time, the latest ones; None keeps all (DAgger), 1
            is on-policy.
        min_active_fraction: See `roll_out`.

    Raises:
        UserError: A value is outside its range.
    """

    num_worlds: Count = 192
    total_frames: Budget = 42_000
    iterations: Count = 5
    first_iteration_share: Share = 0.25
    final_learning_share: Share = 0.4
    buffer_iterations: Budget | None = None
    min_active_fraction: Share = 0.0

    @classmethod
    def even(
        cls, iterations: int, total_frames: int, num_worlds: int, min_active_fraction: float = 0.0
    ) -> RolloutSpec:
        """Iterations of one size, each learned from and forgotten, as on-policy methods need them."""
        return cls(
            num_worlds, total_frames, iterations, 1.0 / iterations, 1.0 / iterations, 1, min_active_fraction
        )


@dataclass(frozen=True)
class OptimSpec(AdamWSpec):
    """How it is learned from; with what `AdamWSpec` says, which holds for every model that has no other.

    Attributes:
        steps: Gradient steps in all, over the iterations.
        batch_size: Sequences in a batch.
        sequence_length: Kept frames in a sequence.
        checkpoint_every: Steps between checkpoints.
        precision: Of what the models see while they learn (`policies.precision`).

    Raises:
        UserError: A value is outside its range.
    """

    steps: Budget = 3_200
    batch_size: Count = 9
    sequence_length: Count = 14
    checkpoint_every: Budget = 250
    precision: Precision = field(default=Precision.FLOAT32, metadata={"absent": Precision.FLOAT32})


@dataclass(frozen=True)
class ClosedLoop:
    """Who drives (`driver`) in which world (`world` in `scenarios`) for which signal (`objective`, `expert`).

    What it makes is a policy.

    Attributes:
        name: Of the stage: a letter, then letters, digits, - and _.
        scenarios: What the worlds are built from.
        world, policy, expert, driver, objective: The parts; an expert only where one is asked. The world need not say
            the sensors that the policy reads.
        rollouts, optim: The budget.
        init_from: Weights that training begins with, of the same `policy`; None draws them.
    """

    name: str
    scenarios: ScenarioSource
    world: WorldSpec
    policy: PolicySpec
    expert: Expert | None
    driver: Driver
    objective: Objective
    rollouts: RolloutSpec = RolloutSpec()
    optim: OptimSpec = OptimSpec()
    init_from: Weights | None = field(default=None, metadata={"absent": None})

    @property
    def equipped_world(self) -> WorldSpec:
        """The world with all sensors that the policy reads, and those that it says itself."""
        read = self.policy.sensor_specs
        names = {sensor.name for sensor in read}
        return self.world.carrying(*read, *(s for s in self.world.sensors if s.name not in names))

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of what is observed: what the policy reads, and its cameras' twins if they are compared."""
        read = self.policy.sensors
        if Capability.TWIN in self.objective.needs:
            read += tuple(twin_of(camera.name) for camera in self.policy.cameras)
        return read


@runtime_checkable
class DataSpec(Protocol):
    """A frozen dataclass that gives batches: any tensor, or tree of tensors, that has `to(device)`."""

    def fingerprint(self) -> str:
        """Of everything that the batches hang on; a run goes on only with the same data."""
        ...

    def batch(self, seed: int, step: int, /) -> Any:
        """The batch of one step, on the CPU; the same for the same seed and step, in whatever order they are asked."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """A `DataSpec` that gives a new model what lies in the data and is not learned: a vocabulary, means and scales."""

    def prepare(self, model: nn.Module, /) -> None:
        """Write it into the model's buffers; the same for the same data."""
        ...


@runtime_checkable
class MainModelSpec(Protocol):
    """A frozen dataclass that builds a model."""

    def build(self) -> nn.Module:
        """The model with freshly drawn weights (torch's global generator)."""
        ...


@dataclass(frozen=True)
class Fit:
    """A model fitted to data that is there: an autoencoder, a reward model. Nobody drives.

    What it makes is the model's file.

    Attributes:
        name: As of `ClosedLoop`.
        data: What is learned from; it says how large a batch is. It may be `Preparing`.
        model: What learns, as the model "model".
        objective: What is minimised.
        optim: The budget; `batch_size` and `sequence_length` say nothing here.
        init_from: Weights that training begins with, of a model of the same `model`; None draws them.
    """

    name: str
    data: DataSpec
    model: MainModelSpec
    objective: Loss
    optim: OptimSpec = OptimSpec()
    init_from: Weights | None = field(default=None, metadata={"absent": None})


Stage = ClosedLoop | Fit
