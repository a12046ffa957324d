"""The models that are learned beside the policy, or compared with it: critics, discriminators, references, averages."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from countersteer.errors import check_ranges
from countersteer.policies.weights import Weights

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
class AdamWSpec:
    """How one group of parameters is optimised: AdamW, a linear warm-up, then a cosine to 2 % of the peak.

    Attributes:
        learning_rate: Its peak, > 0.
        warmup: Steps of the warm-up, >= 0.
        weight_decay: Of AdamW, >= 0.
        max_grad_norm: Largest norm of the group's gradient, > 0.

    Raises:
        UserError: A value is outside its range.
    """

    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            learning_rate="(0, inf)",
            warmup="[0, inf)",
            weight_decay="[0, inf)",
            max_grad_norm="(0, inf)",
        )


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
class AverageModel:
    """An exponential moving average of another: m <- decay m + (1 - decay) x after each step; buffers are copied.

    Attributes:
        of: Name of the other model.
        decay: In [0, 1].
    """

    of: str = "policy"
    decay: float = 0.999

    def __post_init__(self) -> None:
        check_ranges(self, decay="[0, 1]")


ModelSpec = TrainedModel | FrozenModel | AverageModel


def build_model(spec: ModelSpec, models: Mapping[str, nn.Module]) -> nn.Module:
    """A model by its spec; one that does not learn requires no gradient and is in evaluation mode."""
    if isinstance(spec, TrainedModel):
        return spec.builder.build(models)
    if isinstance(spec, FrozenModel):
        # A copy, because a device may be given to it that is not everybody's.
        return copy.deepcopy(spec.weights.model())
    return copy.deepcopy(models[spec.of]).eval().requires_grad_(False)
