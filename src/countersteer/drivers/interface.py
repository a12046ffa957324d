"""The seam of drivers: they turn what the policy and the expert say into the action that is taken."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from countersteer.experts.interface import Label
from countersteer.policies.interface import PolicyOutput
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.interface import Capability
from countersteer.worlds.world import World

__all__ = ["Decision", "Perturbation", "Driver"]


@dataclass(frozen=True)
class Perturbation(TensorTree):
    """A disturbance to apply before the action, see `World.perturb`."""

    lateral: Float[Tensor, "*batch"]
    heading: Float[Tensor, "*batch"]
    speed: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class Decision(TensorTree):
    """What is done at this tick.

    Attributes:
        action: What the vehicles are told.
        policy_in_control: Whether the policy, rather than the expert, drove each car.
        perturbation: A disturbance before the next observation, or None.
        choice: The pre-squash action, token or proposal actually taken, where the method needs it.
        log_prob: Its log-probability under the driving policy.
    """

    action: Action | JerkAction
    policy_in_control: Bool[Tensor, "*batch"]
    perturbation: Perturbation | None = None
    choice: Tensor | None = None
    log_prob: Float[Tensor, "*batch"] | None = None


class Driver(abc.ABC):
    """Decides who drives. Concrete drivers are frozen dataclasses; what they remember is memory.

    Attributes:
        needs: Capabilities of the world it relies on.
        uses_policy, uses_expert: Whose answers it needs.
    """

    needs: frozenset[Capability] = frozenset()
    uses_policy: bool
    uses_expert: bool

    def initial_memory(self, world: World) -> Any:
        """Memory at the start of collection."""
        return None

    @abc.abstractmethod
    def act(
        self,
        output: PolicyOutput | None,
        label: Label | None,
        world: World,
        memory: Any,
        tick: Tensor,
        progress: float,
        seed: int,
    ) -> tuple[Decision, Any]:
        """Decide for every controlled car.

        Args:
            output: What the policy says, if `uses_policy`.
            label: What the expert says, if `uses_expert`.
            world: May be forked, is never changed.
            memory: What the last call returned; reset drives get `initial_memory`.
            tick: Ticks since each drive began `[world]`.
            progress: How far training is, in [0, 1]; schedules depend on it.
            seed: Seed of the collection; randomness is counted per drive and tick.
        """
