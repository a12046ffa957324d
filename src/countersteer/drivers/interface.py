"""The seam of drivers: they turn what the policy and the expert say into the action that is taken."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.experts.interface import Expert, Label
from countersteer.policies.interface import NoMemory, Policy, PolicyOutput
from countersteer.ranges import Ranged
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.interface import Capability
from countersteer.worlds.observations import Observation
from countersteer.worlds.world import World

__all__ = ["Decision", "Driver", "Perturbation", "Turn", "TwoMemories"]


@dataclass(frozen=True)
class Turn:
    """One tick of every car, as far as a driver may know it."""

    world: World  # may be forked, is never changed
    observation: Observation | None  # None where nobody looked
    output: PolicyOutput | None  # what the policy says, if the driver `uses_policy`
    policy: Policy | None  # who says it; may be asked again, in a fork for example, and is not trained here
    label: Label | None  # what the expert says, if the driver `uses_expert`
    expert: Expert | None  # who says it; its `plan` holds the label's times
    age: Int[Tensor, "world"]  # ticks since each drive began
    progress: float  # of training, in [0, 1]; schedules depend on it
    seed: int  # of the collection; randomness is counted per drive and tick
    reward_weights: Tensor | None = None  # what the policy is conditioned on; None for its own default


@dataclass(frozen=True)
class Perturbation(TensorTree):
    """A disturbance to apply after the action, see `World.perturb`."""

    lateral: Float[Tensor, "*batch"]
    heading: Float[Tensor, "*batch"]
    speed: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class TwoMemories(TensorTree):
    """Memories of two drivers that are both asked at every tick, whoever of them drives."""

    first: TensorTree
    second: TensorTree


@dataclass(frozen=True)
class Decision(TensorTree):
    """What is done at this tick; the dimensions of a car's fields are `[world agent]`."""

    action: Action | JerkAction  # what the vehicles are told
    policy_in_control: Bool[Tensor, "*batch"]  # whether the policy, rather than the expert, drives each car
    perturbation: Perturbation | None = None  # before the next observation; None for nobody
    action_index: Int[Tensor, "*batch"] | None = None  # of a discrete action; -1: this driver has none
    log_prob: Float[Tensor, "*batch"] | None = None  # of a drawn action; 0: this driver drew none
    memory: TensorTree = NoMemory()  # what the driver is handed back at the next tick, `[world ...]`

    def where(self, mask: Tensor, other: Self) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """This decision for cars in `mask` `[world agent]`, `other` for the rest; both memories are kept.

        Actions must be of one kind. What only one of the two has is neutral in the other: 0, 0, 1; -1; 0.
        """
        zero = torch.zeros(mask.shape, device=mask.device)
        perturbation = Perturbation(zero, zero, zero + 1)
        neutral = {"perturbation": perturbation, "action_index": zero.long() - 1, "log_prob": zero}

        def whole(one: Self, two: Self) -> Self:
            lacks = [
                name for name in neutral if getattr(one, name) is None and getattr(two, name) is not None
            ]
            return one.replace(memory=NoMemory(), **{name: neutral[name] for name in lacks})

        merged = super(Decision, whole(self, other)).where(mask, whole(other, self))
        return merged.replace(memory=TwoMemories(self.memory, other.memory))


class Driver(Ranged, abc.ABC):
    """Decides who drives. Concrete drivers are frozen dataclasses; what they remember is memory."""

    needs: frozenset[Capability] = frozenset()  # of the world
    uses_policy: bool = False  # whether it needs the policy's output
    uses_expert: bool = False  # whether it needs the expert's label

    def initial_memory(self, world: World) -> TensorTree:
        """Memory at the start of a drive, leading dimension `[world]`."""
        return NoMemory()

    @abc.abstractmethod
    def act(self, turn: Turn, memory: Any) -> Decision:
        """Decide for every car; `memory` is the last decision's, and `initial_memory` where a drive has just begun."""
