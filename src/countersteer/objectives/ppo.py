"""Proximal policy optimisation of discrete actions, with generalised advantages (Schulman et al. 2016, 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from countersteer.errors import UserError
from countersteer.objectives.interface import POLICY, Losses, Objective
from countersteer.ranges import NonNegative, Positive, Range, Share
from countersteer.rewards.interface import Reward
from countersteer.rollouts.rollout import Rollout
from countersteer.tensors import TensorTree
from countersteer.worlds.interface import Capability, TerminationReason
from countersteer.worlds.observations import Observation

__all__ = ["PPO", "ActionBatch", "ActorCritic", "Advantages", "generalised_advantages"]


@runtime_checkable
class ActorCritic(Protocol):
    """What PPO needs of a policy, such as `SetActorCritic`: odds of discrete actions and a value."""

    def encode(self, observation: Observation, /) -> Tensor: ...

    def evaluate(self, features: Tensor, reward_weights: Tensor, /) -> tuple[Tensor, Tensor]:
        """Logits and value of cars with these reward weights."""
        ...


@dataclass(frozen=True)
class Advantages(TensorTree):
    """What `generalised_advantages` says of each step.

    Attributes:
        advantage: How much better the action was than expected.
        value_target: What the value should have been.
    """

    advantage: Float[Tensor, "*batch time"]
    value_target: Float[Tensor, "*batch time"]


def generalised_advantages(
    reward: Float[Tensor, "*batch time"],
    value: Float[Tensor, "*batch time"],
    last_value: Float[Tensor, "*batch"],
    terminated: Bool[Tensor, "*batch time"],
    truncated: Bool[Tensor, "*batch time"],
    *,
    discount: float,
    gae_lambda: float,
    truncation_value: Float[Tensor, "*batch time"] | None = None,
) -> Advantages:
    """Generalised advantage estimates (arXiv 1506.02438, eq. 16)::

        delta_t = r_t + gamma V_{t+1} - V_t,    A_t = delta_t + gamma lambda A_{t+1}

    A drive that terminates is worth nothing afterwards. One that is truncated goes on where nobody looks:
    `truncation_value` stands in for the value of its next state.

    Args:
        reward: Of each step.
        value: Of the state before each step.
        last_value: Of the state after the last one.
        terminated, truncated: Whether the drive ended with the step; the next step belongs to another drive.
        discount: gamma, in [0, 1].
        gae_lambda: lambda, in [0, 1].
        truncation_value: What truncated drives are worth afterwards; None for the value of the last observed state.
    """
    following = torch.cat([value[..., 1:], last_value[..., None]], -1)
    following = torch.where(truncated, value if truncation_value is None else truncation_value, following)
    error = reward + discount * following * (~terminated).to(value.dtype) - value
    keep = discount * gae_lambda * (~(terminated | truncated)).to(value.dtype)
    advantage = torch.empty_like(error)
    running = torch.zeros_like(last_value)
    for t in range(error.shape[-1] - 1, -1, -1):
        running = error[..., t] + keep[..., t] * running
        advantage[..., t] = running
    return Advantages(advantage, advantage + value)


@dataclass(frozen=True)
class ActionBatch(TensorTree):
    """Steps to learn from.

    Attributes:
        observation: What was seen.
        reward_weights: Of the car's reward, as `RewardWeights.draw` gives them.
        action_index: The discrete action that was taken.
        log_prob: Its log-probability when it was.
        advantage: Normalised.
        value_target: What the value should have been.
    """

    observation: Observation
    reward_weights: Float[Tensor, "step weight"]
    action_index: Int[Tensor, "step"]
    log_prob: Float[Tensor, "step"]
    advantage: Float[Tensor, "step"]
    value_target: Float[Tensor, "step"]


@dataclass(frozen=True)
class PPO(Objective):
    """The clipped surrogate with a value loss and an entropy bonus.

    `losses` takes an `ActionBatch` and an `ActorCritic` as the model "policy". With r the ratio of the present
    to the former probability of the action, A the advantage and e the clip ratio::

        L = mean(max(-r A, -clip(r, 1 - e, 1 + e) A)) + c_v L_V - c_e H

    A subclass whose `models` name a "critic", a part of the policy that gives its value, splits the loss: L_V is then the
    critic's and the rest the policy's.

    Steps whose advantage is small teach nothing and cost as much as others, so they are left out (advantage
    filtering, Gigaflow arXiv 2502.03349).

    Attributes:
        reward: What each tick is worth.
        discount, gae_lambda: gamma and lambda of the advantages.
        clip_ratio: e.
        value_weight: c_v.
        entropy_weight: c_e.
        advantage_threshold: Steps count whose |advantage| is at least this share of the batch's largest.
        respawn_on: Causes after which a car begins again elsewhere, as Gigaflow's do. What such an end costs or earns is
            then what the reward says, and not also all that was still to come: the mean value of its drive
            stands in for that. Other causes end all.

    Raises:
        UserError: A value is outside its range.
    """

    reward: Reward  # pyright: ignore[reportIncompatibleVariableOverride]
    discount: Share = 0.99
    gae_lambda: Share = 0.95
    clip_ratio: Positive = 0.2
    value_weight: NonNegative = 0.5
    entropy_weight: NonNegative = 0.01
    advantage_threshold: Annotated[float, Range("[0, 1)")] = 0.01
    respawn_on: tuple[TerminationReason, ...] = field(default=(), metadata={"absent": ()})

    needs = frozenset({Capability.TRUTH})
    uses_actions = True
    policy_protocol = ActorCritic
    # A healthy step is near 0.01; beyond 1 the policy has run away from the one that drove, and stays where it ran.
    limits = MappingProxyType({"kl": 1.0})

    def prepare(self, rollout: Rollout) -> ActionBatch:
        """Advantages of whole sequences; the last tick of each only says what the one before led to."""
        reward, choice, value = rollout.reward, rollout.action_index, rollout.value
        log_prob, condition = rollout.log_prob, rollout.reward_weights
        if reward is None or choice is None or value is None or log_prob is None or condition is None:
            raise UserError(
                "PPO needs rewards, actions and values, and this rollout lacks them",
                expected="a rollout driven with a reward by an actor and critic that samples discrete actions",
                fix="use a CategoricalDriver and a policy with a critic",
            )
        steps = (slice(None), slice(0, -1))
        causes = torch.tensor([int(cause) for cause in self.respawn_on], device=value.device)
        begins = rollout.terminated & torch.isin(rollout.cause, causes)
        found = generalised_advantages(
            reward[steps],
            value[steps],
            value[:, -1],
            (rollout.terminated & ~begins)[steps],
            (rollout.truncated | begins)[steps],
            discount=self.discount,
            gae_lambda=self.gae_lambda,
            truncation_value=torch.where(begins, _mean_of_drive(rollout, value), value)[steps],
        )
        size = found.advantage.abs()
        use = rollout.alive[steps] & found.advantage.isfinite()
        # Normalised by all steps, those that are then left out included, so that signs stay what they were.
        counted = found.advantage[use]
        middle, spread = counted.mean(), counted.std(correction=0)
        use = use & (size >= self.advantage_threshold * torch.where(use, size, 0.0).max())
        advantage = (found.advantage[use] - middle) / (spread + 1e-8)
        return ActionBatch(
            observation=rollout.observation[steps][use],
            reward_weights=condition[steps][use],
            action_index=choice[steps][use],
            log_prob=log_prob[steps][use],
            advantage=advantage,
            value_target=found.value_target[use],
        )

    def losses(self, models: Mapping[str, nn.Module], batch: ActionBatch) -> Losses:
        """See the class; diagnostics are "surrogate", "value_loss", "entropy", "kl", "clipped", "explained"."""
        policy = cast(ActorCritic, models[POLICY])
        logits, value = policy.evaluate(policy.encode(batch.observation), batch.reward_weights)
        log_odds = logits.log_softmax(-1)
        log_prob = log_odds.gather(-1, batch.action_index[:, None]).squeeze(-1)
        change = log_prob - batch.log_prob
        ratio = change.exp()
        clipped = ratio.clamp(1.0 - self.clip_ratio, 1.0 + self.clip_ratio)
        surrogate = -torch.minimum(ratio * batch.advantage, clipped * batch.advantage).mean()
        value_loss = 0.5 * (value - batch.value_target).square().mean()
        entropy = -(log_odds.exp() * log_odds).sum(-1).mean()
        if "critic" in models:
            groups = {
                POLICY: surrogate - self.entropy_weight * entropy,
                "critic": self.value_weight * value_loss,
            }
        else:
            groups = {POLICY: surrogate + self.value_weight * value_loss - self.entropy_weight * entropy}
        with torch.no_grad():
            spread = batch.value_target.var(correction=0)
            diagnostics = {
                "surrogate": surrogate,
                "value_loss": value_loss,
                "entropy": entropy,
                "kl": (ratio - 1.0 - change).mean(),
                "clipped": ((ratio - 1.0).abs() > self.clip_ratio).float().mean(),
                "explained": 1.0 - (batch.value_target - value).var(correction=0) / spread.clamp(min=1e-8),
                "steps": torch.tensor(float(len(batch.action_index))),
            }
        return Losses(groups, diagnostics)


def _mean_of_drive(rollout: Rollout, value: Float[Tensor, "sequence time"]) -> Float[Tensor, "sequence time"]:
    """Of each step, the mean of the value over the part of its drive that the sequence holds."""
    sequence = torch.arange(len(value), device=value.device)[:, None]
    _, drive = torch.unique(sequence * (rollout.drive.max() + 1) + rollout.drive, return_inverse=True)
    alive = rollout.alive.flatten()
    total, count = torch.zeros(2, int(drive.max()) + 1, dtype=value.dtype, device=value.device)
    total.index_add_(0, drive.flatten(), torch.where(alive, value.flatten(), 0.0))
    count.index_add_(0, drive.flatten(), alive.to(value.dtype))
    return (total / count.clamp(min=1.0))[drive]
