"""Proximal policy optimisation of choices, with generalised advantages (Schulman et al. 2016, 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from countersteer.errors import UserError
from countersteer.objectives.interface import Losses, Objective
from countersteer.rewards.rewards import Reward, RewardWeights
from countersteer.rollouts.driving import Rollout
from countersteer.tensors import TensorTree
from countersteer.worlds.interface import Capability, TerminationReason
from countersteer.worlds.observations import Observation

__all__ = ["PPO", "Advantages", "ChoicePolicy", "Choices", "generalised_advantages"]


class ChoicePolicy(Protocol):
    """What PPO needs of a policy, such as `SetActorCritic`: odds of choices and a value."""

    def encode(self, observation: Observation, /) -> Tensor: ...

    def __call__(self, features: Tensor, style: Tensor, /) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Advantages(TensorTree):
    """What `generalised_advantages` says of each step.

    Attributes:
        advantage: How much better the choice was than expected.
        target: What the value should have been.
    """

    advantage: Float[Tensor, "*batch time"]
    target: Float[Tensor, "*batch time"]


def generalised_advantages(
    reward: Float[Tensor, "*batch time"],
    value: Float[Tensor, "*batch time"],
    last_value: Float[Tensor, "*batch"],
    terminated: Bool[Tensor, "*batch time"],
    truncated: Bool[Tensor, "*batch time"],
    *,
    discount: float,
    trace: float,
    beyond: Float[Tensor, "*batch time"] | None = None,
) -> Advantages:
    """Generalised advantage estimates (arXiv 1506.02438, eq. 16)::

        delta_t = r_t + gamma V_{t+1} - V_t,    A_t = delta_t + gamma lambda A_{t+1}

    A drive that terminates is worth nothing afterwards. One that is truncated goes on where nobody looks:
    `beyond` stands in for the value of its next state.

    Args:
        reward: Of each step.
        value: Of the state before each step.
        last_value: Of the state after the last one.
        terminated, truncated: Whether the drive ended with the step; the next step belongs to another drive.
        discount: gamma, in [0, 1].
        trace: lambda, in [0, 1].
        beyond: What truncated drives are worth afterwards; None for the value of the last observed state.
    """
    following = torch.cat([value[..., 1:], last_value[..., None]], -1)
    following = torch.where(truncated, value if beyond is None else beyond, following)
    error = reward + discount * following * (~terminated).to(value.dtype) - value
    keep = discount * trace * (~(terminated | truncated)).to(value.dtype)
    advantage = torch.empty_like(error)
    running = torch.zeros_like(last_value)
    for t in range(error.shape[-1] - 1, -1, -1):
        running = error[..., t] + keep[..., t] * running
        advantage[..., t] = running
    return Advantages(advantage, advantage + value)


@dataclass(frozen=True)
class Choices(TensorTree):
    """Steps to learn from.

    Attributes:
        observation: What was seen.
        style: Normalised coefficients of the car's reward.
        choice: What was chosen.
        log_prob: Its log-probability when it was.
        advantage: Normalised.
        target: Of the value.
    """

    observation: Observation
    style: Float[Tensor, "step coefficient"]
    choice: Int[Tensor, "step"]
    log_prob: Float[Tensor, "step"]
    advantage: Float[Tensor, "step"]
    target: Float[Tensor, "step"]


@dataclass(frozen=True)
class PPO(Objective):
    """The clipped surrogate with a value loss and an entropy bonus.

    `losses` takes a `Choices` and a `ChoicePolicy` as the model "policy". With r the ratio of the present
    to the former probability of the choice, A the advantage and e the clip::

        L = mean(max(-r A, -clip(r, 1 - e, 1 + e) A)) + c_v L_V - c_e H

    Steps whose advantage is small teach nothing and cost as much as others, so they are left out (advantage
    filtering, Gigaflow arXiv 2502.03349).

    Attributes:
        reward: What each tick is worth.
        coefficients: What the cars' coefficients are drawn from.
        discount, trace: gamma and lambda of the advantages, in [0, 1].
        clip: e, > 0.
        value_weight: c_v, >= 0.
        entropy_weight: c_e, >= 0.
        filter: Steps count whose |advantage| is at least this share of the batch's largest, in [0, 1).
        again: Causes after which a car begins again elsewhere, as Gigaflow's do. What such an end costs or earns is
            then what the reward says, and not also all that was still to come: the mean value of its drive
            stands in for that. Other causes end all.

    Raises:
        UserError: A value is outside the range above.
    """

    reward: Reward  # pyright: ignore[reportIncompatibleVariableOverride]
    coefficients: RewardWeights = RewardWeights()  # pyright: ignore[reportIncompatibleVariableOverride]
    discount: float = 0.99
    trace: float = 0.95
    clip: float = 0.2
    value_weight: float = 0.5
    entropy_weight: float = 0.01
    filter: float = 0.01
    again: tuple[TerminationReason, ...] = field(default=(), metadata={"absent": ()})

    needs = frozenset({Capability.TRUTH})
    # A healthy step is near 0.01; beyond 1 the policy has run away from the one that drove, and stays where it ran.
    limits = MappingProxyType({"kl": 1.0})

    def __post_init__(self) -> None:
        checks = {
            "discount": (0.0 <= self.discount <= 1.0, "in [0, 1]"),
            "trace": (0.0 <= self.trace <= 1.0, "in [0, 1]"),
            "clip": (0.0 < self.clip < math.inf, "> 0"),
            "value_weight": (self.value_weight >= 0.0, ">= 0"),
            "entropy_weight": (self.entropy_weight >= 0.0, ">= 0"),
            "filter": (0.0 <= self.filter < 1.0, "in [0, 1)"),
        }
        for name, (good, expected) in checks.items():
            if not good:
                raise UserError(
                    f"`{name}` of PPO is out of range",
                    got=getattr(self, name),
                    expected=expected,
                    fix=f"set `{name}` of PPO",
                )

    def prepare(self, rollout: Rollout) -> Choices:
        """Advantages of whole sequences; the last tick of each only says what the one before led to."""
        reward, choice, value = rollout.reward, rollout.choice, rollout.value
        log_prob, condition = rollout.log_prob, rollout.condition
        if reward is None or choice is None or value is None or log_prob is None or condition is None:
            raise UserError(
                "PPO needs rewards, choices and values, and this rollout lacks them",
                expected="a rollout driven with a reward by a policy that chooses and has a value",
                fix="use a CategoricalDriver and a policy with a critic",
            )
        steps = (slice(None), slice(0, -1))
        causes = torch.tensor([int(cause) for cause in self.again], device=value.device)
        begins = rollout.terminated & torch.isin(rollout.cause, causes)
        found = generalised_advantages(
            reward[steps],
            value[steps],
            value[:, -1],
            (rollout.terminated & ~begins)[steps],
            (rollout.truncated | begins)[steps],
            discount=self.discount,
            trace=self.trace,
            beyond=torch.where(begins, _mean_of_drive(rollout, value), value)[steps],
        )
        size = found.advantage.abs()
        use = rollout.alive[steps] & found.advantage.isfinite()
        # Normalised by all steps, those that are then left out included, so that signs stay what they were.
        counted = found.advantage[use]
        middle, spread = counted.mean(), counted.std(correction=0)
        use = use & (size >= self.filter * torch.where(use, size, 0.0).max())
        advantage = (found.advantage[use] - middle) / (spread + 1e-8)
        return Choices(
            observation=rollout.observation[steps][use],
            style=self.coefficients.normalised(condition[steps][use]),
            choice=choice[steps][use],
            log_prob=log_prob[steps][use],
            advantage=advantage,
            target=found.target[use],
        )

    def losses(self, models: Mapping[str, nn.Module], batch: Choices) -> Losses:
        """See the class; diagnostics are "surrogate", "value_loss", "entropy", "kl", "clipped", "explained"."""
        policy = cast(ChoicePolicy, models["policy"])
        logits, value = policy(policy.encode(batch.observation), batch.style)
        log_odds = logits.log_softmax(-1)
        log_prob = log_odds.gather(-1, batch.choice[:, None]).squeeze(-1)
        change = log_prob - batch.log_prob
        ratio = change.exp()
        clipped = ratio.clamp(1.0 - self.clip, 1.0 + self.clip)
        surrogate = -torch.minimum(ratio * batch.advantage, clipped * batch.advantage).mean()
        value_loss = 0.5 * (value - batch.target).square().mean()
        entropy = -(log_odds.exp() * log_odds).sum(-1).mean()
        loss = surrogate + self.value_weight * value_loss - self.entropy_weight * entropy
        with torch.no_grad():
            spread = batch.target.var(correction=0)
            diagnostics = {
                "surrogate": surrogate,
                "value_loss": value_loss,
                "entropy": entropy,
                "kl": (ratio - 1.0 - change).mean(),
                "clipped": ((ratio - 1.0).abs() > self.clip).float().mean(),
                "explained": 1.0 - (batch.target - value).var(correction=0) / spread.clamp(min=1e-8),
                "steps": torch.tensor(float(len(batch.choice))),
            }
        return Losses({"policy": loss}, diagnostics)


def _mean_of_drive(rollout: Rollout, value: Float[Tensor, "sequence time"]) -> Float[Tensor, "sequence time"]:
    """Of each step, the mean of the value over the part of its drive that the sequence holds."""
    sequence = torch.arange(len(value), device=value.device)[:, None]
    _, drive = torch.unique(sequence * (rollout.drive.max() + 1) + rollout.drive, return_inverse=True)
    alive = rollout.alive.flatten()
    total, count = torch.zeros(2, int(drive.max()) + 1, dtype=value.dtype, device=value.device)
    total.index_add_(0, drive.flatten(), torch.where(alive, value.flatten(), 0.0))
    count.index_add_(0, drive.flatten(), alive.to(value.dtype))
    return (total / count.clamp(min=1.0))[drive]
