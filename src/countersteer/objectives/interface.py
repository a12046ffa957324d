"""The seam of objectives: the models that learn, `prepare` what needs time order, then a pure loss."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from countersteer.objectives.models import ModelSpec
from countersteer.policies.interface import PolicySpec
from countersteer.ranges import Ranged
from countersteer.rewards.interface import Reward
from countersteer.rollouts.rollout import Rollout
from countersteer.worlds.interface import Capability

__all__ = ["POLICY", "Loss", "Losses", "Objective"]

POLICY = "policy"
"""Name of the model that drives."""


@dataclass(frozen=True)
class Losses:
    """What one batch says.

    Attributes:
        groups: A scalar to minimise for each model that learns, by its name ("policy", "critic"). Its gradient goes
            into the parameters of that model only.
        diagnostics: Detached scalars to log.
    """

    groups: dict[str, Tensor]
    diagnostics: dict[str, Tensor]


class Loss(Ranged, abc.ABC):
    """What is minimised, and with which models. Concrete losses are frozen dataclasses without state.

    Attributes:
        limits: Largest values of diagnostics; beyond one of them training has come apart and is stopped.
    """

    limits: Mapping[str, float] = MappingProxyType({})

    def models(self, spec: Any, /) -> Mapping[str, ModelSpec]:
        """Models beside the main one, by name, in the order in which they are built.

        Args:
            spec: What describes the main model: the policy's spec where a policy learns.
        """
        return {}

    @abc.abstractmethod
    def losses(self, models: Mapping[str, nn.Module], batch: Any) -> Losses:
        """Losses of a batch; pure in models and batch, masks explicit."""


class Objective(Loss):
    """The learning signal of a policy, which is the model "policy".

    Attributes:
        needs: Capabilities of the world it relies on.
        uses_expert: Whether frames need an expert's label.
        uses_actions: Whether it learns from the actions that the policy sampled while it drove.
        policy_protocol: What the policy must offer, as a protocol that can be checked at run time; None asks nothing.
        reward: What each tick is worth, of objectives that learn from it.
    """

    needs: frozenset[Capability] = frozenset()
    uses_expert: bool = False
    uses_actions: bool = False
    policy_protocol: type | None = None
    reward: Reward | None = None

    def models(self, spec: PolicySpec, /) -> Mapping[str, ModelSpec]:
        """Models beside the policy, by name: a critic, a discriminator, a reference."""
        return {}

    @abc.abstractmethod
    def prepare(self, rollout: Rollout) -> Any:
        """What needs time order, from sequences `[batch time]` of kept frames: masks, returns, pairs."""
