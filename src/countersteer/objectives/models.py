"""The models that are learned beside the policy, or compared with it: critics, discriminators, references, averages."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

from torch import nn

from countersteer.policies.weights import Weights
from countersteer.ranges import NonNegative, Positive, Range, Ranged, Share

__all__ = [
    "AdamWSpec",
    "AverageModel",
    "FrozenModel",
    "ModelBuilder",
    "ModelSpec",
    "TrainedModel",
    "build_model",
]


@dataclass(frozen=True)
class AdamWSpec(Ranged):
    """How one group of parameters is optimised: AdamW, a linear warm-up, then a cosine to 2 % of the peak.

    Attributes:
        learning_rate: Its peak.
        warmup: Steps of the warm-up.
        weight_decay: Of AdamW.
        max_grad_norm: Largest norm of the group's gradient.

    Raises:
        UserError: A value is outside its range.
    """

    learning_rate: Positive = 2e-3
    warmup: Annotated[int, Range("[0, 1e12]")] = 50
    weight_decay: NonNegative = 1e-2
    max_grad_norm: Positive = 1.0


@runtime_checkable
class ModelBuilder(Protocol):
    """A frozen dataclass that builds a model."""

    def build(self, models: Mapping[str, nn.Module], /) -> nn.Module:
        """The model; it may share modules with `models`, those built before it, the policy first."""
        ...


@dataclass(frozen=True)
class TrainedModel:
    """A model with a loss of its own name in `Losses.groups`.

    Attributes:
        builder: What builds it.
        optim: Its optimiser; None for the policy's.
    """

    builder: ModelBuilder
    optim: AdamWSpec | None = None


@dataclass(frozen=True)
class FrozenModel:
    """A trained model that is only asked."""

    weights: Weights


@dataclass(frozen=True)
class AverageModel(Ranged):
    """An exponential moving average of another: m <- decay m + (1 - decay) x after each step; buffers are copied.

    Attributes:
        of: Name of the other model.
        decay: Of the formula.
    """

    of: str = "policy"
    decay: Share = 0.999


ModelSpec = TrainedModel | FrozenModel | AverageModel


def build_model(spec: ModelSpec, models: Mapping[str, nn.Module]) -> nn.Module:
    """A model by its spec; one that does not learn requires no gradient and is in evaluation mode."""
    if isinstance(spec, TrainedModel):
        return spec.builder.build(models)
    if isinstance(spec, FrozenModel):
        # A copy, because a device may be given to it that is not everybody's.
        return copy.deepcopy(spec.weights.model())
    return copy.deepcopy(models[spec.of]).eval().requires_grad_(False)
