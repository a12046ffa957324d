"""The seam of objectives: `prepare` what needs time order, then a pure loss."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from countersteer.rewards.rewards import Reward, RewardWeights
from countersteer.rollouts.rollout import Rollout
from countersteer.worlds.interface import Capability

__all__ = ["Losses", "Objective"]


@dataclass(frozen=True)
class Losses:
    """What one batch says.

    Attributes:
        groups: A scalar to minimise for each parameter group (for example "policy", "critic").
        diagnostics: Detached scalars to log.
    """

    groups: dict[str, Tensor]
    diagnostics: dict[str, Tensor]


class Objective(abc.ABC):
    """The learning signal. Concrete objectives are frozen dataclasses without state.

    Attributes:
        needs: Capabilities of the world it relies on.
        uses_expert: Whether frames need an expert's label.
        reward: What each tick is worth, of objectives that learn from it.
        coefficients: What the coefficients of each car's reward are drawn from, where it has some.
        limits: Largest values of diagnostics; beyond one of them training has come apart and is stopped.
    """

    needs: frozenset[Capability] = frozenset()
    uses_expert: bool = False
    reward: Reward | None = None
    coefficients: RewardWeights | None = None
    limits: Mapping[str, float] = MappingProxyType({})

    @abc.abstractmethod
    def prepare(self, rollout: Rollout) -> Any:
        """What needs time order, from sequences `[batch time]` of kept frames: masks, returns, pairs."""

    @abc.abstractmethod
    def losses(self, models: Mapping[str, nn.Module], batch: Any) -> Losses:
        """Losses of a batch; pure in models and batch, masks explicit."""
