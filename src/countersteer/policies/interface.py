"""The seam between policies and everything that trains, drives or exports them."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.ranges import Count, Range, Ranged, Tick
from countersteer.rewards.weights import RewardWeights
from countersteer.tensors import TensorTree
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import Plan, PlanSpec
from countersteer.worlds.observations import Observation, SensorSpec
from countersteer.worlds.sensors.vector import VectorSpec

__all__ = ["Hypotheses", "NoMemory", "Policy", "PolicyOutput", "PolicySpec"]


@dataclass(frozen=True)
class Hypotheses(TensorTree):
    """Several plans with their uncertainty, as Laplace distributions.

    Attributes:
        location: The plans; last axis x [m], y [m], heading [rad], speed [m/s].
        scale: Laplace scales of the same quantities, > 0.
        logit: Unnormalised log-probability of each hypothesis.
    """

    location: Float[Tensor, "*batch hypothesis point 4"]
    scale: Float[Tensor, "*batch hypothesis point 4"]
    logit: Float[Tensor, "*batch hypothesis"]

    def best(self) -> Plan:
        """The most probable hypothesis as a plan."""
        index = self.logit.argmax(-1)[..., None, None, None].expand(
            *self.logit.shape[:-1], 1, *self.location.shape[-2:]
        )
        chosen = self.location.gather(-3, index).squeeze(-3)
        return Plan(chosen[..., :2], chosen[..., 2], chosen[..., 3].clamp(min=0.0))


@dataclass(frozen=True)
class NoMemory(TensorTree):
    """Memory of a policy that has none."""


@dataclass(frozen=True)
class PolicyOutput(TensorTree):
    """A policy's answer.

    Attributes:
        plan: What to drive; None from a policy that answers with choices only.
        memory: What to hand back at the next tick; None with answers along a whole stretch of driving.
        hypotheses: The distribution the plan was taken from, if there is one.
        logits: Unnormalised log-probability of each choice of a discrete set of actions, if it has one.
        value: Expected return, if the policy has a critic.
    """

    plan: Plan | None
    memory: TensorTree | None
    hypotheses: Hypotheses | None = None
    logits: Float[Tensor, "*batch choice"] | None = None
    value: Float[Tensor, "*batch"] | None = None


class PolicySpec(Ranged, abc.ABC):
    """A frozen dataclass that describes a policy and builds it; it travels with every checkpoint.

    Attributes:
        cameras: The cameras it was trained with; a world that differs is an error.
        plan: Times of its plans.
        dt: Tick it is run at [s].
        stride: Ticks between the frames of its history; training keeps every `stride`-th frame.
        vector: What it reads of the privileged sensor "vector"; None for a policy that could drive a car.
        target_points: Target points of the intent that it reads; 0 ignores them, given or not.
        navigation: Whether it was trained to be told left or right at turns (`RoadSettings.navigation`).
        jerk: The discrete jerks that it gives odds of; None of a policy that only plans.
        reward_weights: Ranges of the reward weights that it is conditioned on; None of a policy that is told none.
        motion_ticks: Ticks of ego motion that it reads, the present one included.
    """

    cameras: tuple[Camera, ...]
    plan: PlanSpec
    dt: Tick
    stride: Count
    vector: VectorSpec | None = None
    target_points: Annotated[int, Range("[0, 64]")] = 0
    navigation: bool = False
    jerk: JerkSpec | None = None
    reward_weights: RewardWeights | None = None
    motion_ticks: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.sensors)) < len(self.sensors):
            raise UserError(
                "two sensors of a policy have one name",
                got=", ".join(self.sensors),
                expected="names of their own",
                fix=f"rename one of {type(self).__name__}.cameras",
            )

    @property
    def sensor_specs(self) -> tuple[SensorSpec, ...]:
        """The sensors it reads."""
        return self.cameras + ((self.vector,) if self.vector is not None else ())

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors it reads."""
        return tuple(sensor.name for sensor in self.sensor_specs)

    @abc.abstractmethod
    def build(self) -> Policy:
        """A policy with freshly drawn weights (torch's global generator)."""


class Policy(nn.Module, abc.ABC):
    """From observations to plans. Memory is explicit data, so forks, search and actors can copy it."""

    spec: PolicySpec

    @abc.abstractmethod
    def initial_memory(self, batch: tuple[int, ...], device: torch.device | str = "cpu") -> TensorTree:
        """Memory at the start of a drive, leading dimensions `batch`."""

    def calibrate(self, observation: Observation) -> None:
        """Look once at the first data collected, before learning (for example for a mean image)."""

    @abc.abstractmethod
    def encode(self, observation: Observation) -> Float[Tensor, "*batch feature"]:
        """Features of one observation, without memory."""

    @abc.abstractmethod
    def act(
        self, features: Float[Tensor, "*batch feature"], memory: Any, condition: Tensor | None = None
    ) -> PolicyOutput:
        """The plan, from features and memory; `condition` None is the deployment default."""
