"""Imitation of an expert's plan by a policy that answers with several Laplace hypotheses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from countersteer.errors import UserError
from countersteer.geometry.poses import wrap_angle
from countersteer.objectives.interface import POLICY, Losses, Objective
from countersteer.policies.interface import Hypotheses, PolicyOutput, PolicySpec
from countersteer.ranges import Finite, NonNegative, Positive, Range, Share
from countersteer.rollouts.rollout import Rollout
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Plan
from countersteer.worlds.observations import Command, Observation

__all__ = [
    "ImitationBatch",
    "Imitation",
    "MixtureLoss",
    "SequencePolicy",
    "laplace_mixture_loss",
    "mirror_half",
]

_TURN = math.radians(20.0)  # heading at a plan's end from which on it is a turn [rad]


@runtime_checkable
class SequencePolicy(Protocol):
    """What imitation needs of a policy, such as `CNNPlanner`: its answers along stretches of driving at once."""

    spec: PolicySpec

    def forward_sequence(
        self, observations: Observation, first: Bool[Tensor, "*batch time"], /
    ) -> PolicyOutput: ...


@dataclass(frozen=True)
class ImitationBatch(TensorTree):
    """Stretches of driving with the expert's answers, leading dimensions `[batch time]`.

    Attributes:
        observations: What the policy saw, consecutive frames as its `forward_sequence` wants them.
        first: True where what was seen before this frame does not count.
        label: What the expert would have done there.
        label_valid: Which labels to learn from.
        choice: Number of the discrete action that the expert takes first, of one that chooses among such.
    """

    observations: Observation
    first: Bool[Tensor, "batch time"]
    label: Plan
    label_valid: Bool[Tensor, "batch time"]
    choice: Int[Tensor, "batch time"] | None = None


def mirror_half(batch: ImitationBatch) -> ImitationBatch:
    """The batch with every second sequence seen in a mirror: left and right change places.

    Pictures are flipped; yaw rates, lateral positions and headings change sign; the commands LEFT and
    RIGHT are swapped. A road and its mirror image ask for mirrored driving, so the data count twice.
    """
    observations, label = batch.observations, batch.label
    if batch.choice is not None:
        raise UserError(
            "the choices of an expert cannot be mirrored",
            got="labels with choices",
            expected="labels that are plans",
            fix="Imitation(mirror=False)",
        )

    def turned(values: Tensor, mirror: Callable[[Tensor], Tensor]) -> Tensor:
        values = values.clone()
        values[1::2] = mirror(values[1::2])
        return values

    def negated(values: Tensor) -> Tensor:
        return turned(values, torch.neg)

    def sideways(points: Tensor) -> Tensor:
        return turned(points, lambda odd: odd * points.new_tensor([1.0, -1.0]))

    for name, reading in observations.sensors.items():
        if reading.data.dtype != torch.uint8:
            raise UserError(
                f"sensor {name!r} cannot be mirrored",
                got=f"{reading.data.dtype} {list(reading.data.shape)}",
                expected="pictures, uint8 [*batch height width channel]",
                fix="Imitation(mirror=False)",
            )
    sensors = {
        name: reading.replace(data=turned(reading.data, lambda odd: odd.flip(-2)))
        for name, reading in observations.sensors.items()
    }
    motion = observations.motion.replace(yaw_rate=negated(observations.motion.yaw_rate))
    swap = torch.tensor([Command.FOLLOW, Command.RIGHT, Command.LEFT], device=batch.first.device)
    intent = observations.intent
    intent = intent.replace(
        command=turned(intent.command, lambda odd: swap[odd]),
        target_points=sideways(intent.target_points),
    )
    return batch.replace(
        observations=Observation(sensors, motion, intent),
        label=label.replace(position=sideways(label.position), heading=negated(label.heading)),
    )


@dataclass(frozen=True)
class MixtureLoss(TensorTree):
    """What `laplace_mixture_loss` says of each sample; all 0 where the label is not valid.

    Attributes:
        loss: `likelihood` + mode weight x `classification`.
        likelihood: Negative log-likelihood, up to a constant.
        classification: Cross-entropy of the logits toward the winner.
        winner: Hypothesis closest to the label.
    """

    loss: Float[Tensor, "*batch"]
    likelihood: Float[Tensor, "*batch"]
    classification: Float[Tensor, "*batch"]
    winner: Int[Tensor, "*batch"]


def laplace_mixture_loss(
    hypotheses: Hypotheses,
    plan: Plan,
    valid: Bool[Tensor, "*batch"],
    *,
    time_weight: Float[Tensor, "point"],
    dimension_weight: Float[Tensor, "4"],
    error_scale: Float[Tensor, "4"],
    wta_epsilon: float,
    mode_weight: float,
    scale_floor: float,
) -> MixtureLoss:
    """Relaxed winner-takes-all Laplace likelihood, for each sample.

    With label y, hypotheses k of location mu_k, scale b_k and logit l_k, weights w of times t and quantities
    q, and K hypotheses::

        k* = argmin_k  sum_tq w_t |y_tq - mu_ktq| / scale_q
        n_k = sum_tq w_t w_q (|y_tq - mu_ktq| / b_ktq + log 2 b_ktq) / (sum_t w_t  sum_q w_q)
        L = (1 - r) n_k*  +  r / (K - 1) sum_{k != k*} n_k  -  c log softmax(l)_k*

    The winner by L1 and its likelihood follow comma.ai (arXiv 2504.19077, section 4: r = 0); the share r of
    the others, without which a hypothesis that never wins never learns, follows Rupprecht et al. 2017 (arXiv
    1612.00197, eq. 6). It is differentiable in location, scale and logit; the choice of the winner is not.
    Where a scale is below the floor it counts as the floor and has no gradient, so the likelihood is bounded.

    Args:
        hypotheses: Any leading dimensions.
        plan: The label, same leading dimensions. The heading error is wrapped to [-pi, pi).
        valid: Samples that count; what the label holds elsewhere, not-a-number included, changes nothing.
        time_weight: w_t, >= 0.
        dimension_weight: w_q for x, y, heading, speed, >= 0.
        error_scale: Errors in x [m], y [m], heading [rad] and speed [m/s] that are equally bad when the winner is
            chosen, > 0.
        wta_epsilon: r, in [0, 1); of no effect with one hypothesis.
        mode_weight: c, >= 0.
        scale_floor: Smallest scale that counts, in SI units, > 0.
    """
    label = torch.cat([plan.position, plan.heading[..., None], plan.speed[..., None]], -1)[..., None, :, :]
    error = torch.where(valid[..., None, None, None], label - hypotheses.location, 0.0)
    error = torch.cat([error[..., :2], wrap_angle(error[..., 2:3]), error[..., 3:]], -1).abs()
    over_time = time_weight[:, None] / time_weight.sum()

    winner = (error.detach() * over_time / error_scale).sum((-2, -1)).argmin(-1)
    scale = hypotheses.scale.clamp(min=scale_floor)
    each = (error / scale + torch.log(2.0 * scale)) * over_time * (dimension_weight / dimension_weight.sum())

    count = hypotheses.logit.shape[-1]
    won = functional.one_hot(winner, count).bool()
    share = torch.where(won, 1.0 - wta_epsilon, wta_epsilon / (count - 1)) if count > 1 else won.float()
    likelihood = (share * each.sum((-2, -1))).sum(-1)
    chosen = hypotheses.logit.log_softmax(-1).gather(-1, winner[..., None]).squeeze(-1)

    likelihood, cross_entropy = (torch.where(valid, part, 0.0) for part in (likelihood, -chosen))
    return MixtureLoss(
        loss=likelihood + mode_weight * cross_entropy,
        likelihood=likelihood,
        classification=cross_entropy,
        winner=torch.where(valid, winner, 0),
    )


@dataclass(frozen=True)
class Imitation(Objective):
    """Match the expert's plan (behaviour cloning on recorded states, DAgger on the policy's own).

    `losses` takes a `ImitationBatch` and a `SequencePolicy` as the model "policy". Its diagnostics:

    - "l1_position", "l1_final": |dx| + |dy| of the most probable plan, over its times and at its last [m];
    - "likelihood", "classification": the parts of the loss;
    - "choice": cross-entropy of the odds of the expert's choice [nat], where both have such;
    - "usage_entropy": entropy of how often each hypothesis wins [nat], 0 when one always does;
    - "valid": share of the samples that count.

    Attributes:
        dimension_weight: Weights of x, y, heading and speed in the likelihood, not all 0.
        error_scale: Errors in x [m], y [m], heading [rad] and speed [m/s] that are equally bad when the winner is
            chosen.
        time_power: A point t seconds ahead weighs t to the minus this; 1 keeps metres far ahead from
            dominating, 0 weighs all alike.
        wta_epsilon: Share of the hypotheses that do not win.
        mode_weight: Weight of the cross-entropy of the logits.
        scale_floor: Smallest Laplace scale that counts.
        choice_weight: Weight of the cross-entropy of the odds of the expert's choice.
        turn_weight: What a label counts that turns by more than 20 degrees; the others count 1 (Gigapixel, arXiv
            2606.19641, section 3.2: 5).
        min_confidence: Labels where the world's confidence is less do not count.
        mirror: Whether every second sequence of a batch is learned from as its mirror image; right for
            cameras that look straight ahead from the middle of the car.

    Raises:
        UserError: A value is outside its range.
    """

    dimension_weight: Annotated[tuple[float, float, float, float], Range("[0, inf)")] = (1.0, 1.0, 1.0, 1.0)
    error_scale: Annotated[tuple[float, float, float, float], Range("(0, inf)")] = (1.0, 0.5, 0.05, 1.0)
    time_power: Finite = 1.0
    wta_epsilon: Annotated[float, Range("[0, 1)")] = 0.05
    mode_weight: NonNegative = 0.5
    scale_floor: Positive = 0.005
    choice_weight: NonNegative = field(default=0.5, metadata={"absent": 0.5})
    turn_weight: Positive = field(default=1.0, metadata={"absent": 1.0})
    min_confidence: Share = 0.5
    mirror: bool = True

    uses_expert = True
    policy_protocol = SequencePolicy

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.dimension_weight):
            raise UserError(
                "Imitation.dimension_weight leaves nothing to learn",
                got=self.dimension_weight,
                expected="a weight above 0",
            )

    def prepare(self, rollout: Rollout) -> ImitationBatch:
        """Labels count where the expert has one, the drive goes on and the world can be trusted."""
        if rollout.label is None:
            raise UserError(
                "imitation needs labels, and this rollout has none",
                expected="a rollout that was driven with an expert to ask",
                fix="give the recipe an expert",
            )
        trusted = rollout.alive & (rollout.confidence >= self.min_confidence)
        label = rollout.label
        batch = ImitationBatch(
            rollout.observation, rollout.is_first, label.plan, label.valid & trusted, label.action_index
        )
        return mirror_half(batch) if self.mirror else batch

    def losses(self, models: Mapping[str, nn.Module], batch: ImitationBatch) -> Losses:
        """The weighted mean of `laplace_mixture_loss` over the labels that count, 0 if there is none."""
        policy = cast(SequencePolicy, models[POLICY])
        answer = policy.forward_sequence(batch.observations, batch.first)
        hypotheses = answer.hypotheses
        assert hypotheses is not None
        location = hypotheses.location
        times = policy.spec.plan.times(location.device)
        valid = batch.label_valid
        mixture = laplace_mixture_loss(
            hypotheses,
            batch.label,
            valid,
            time_weight=times**-self.time_power,
            dimension_weight=location.new_tensor(self.dimension_weight),
            error_scale=location.new_tensor(self.error_scale),
            wta_epsilon=self.wta_epsilon,
            mode_weight=self.mode_weight,
            scale_floor=self.scale_floor,
        )
        count = valid.sum().clamp(min=1)
        turns = batch.label.heading[..., -1].abs() > _TURN
        weight = torch.where(valid, torch.where(turns, self.turn_weight, 1.0), 0.0)
        weights = weight.sum().clamp(min=1e-6)
        loss = (weight * mixture.loss).sum() / weights
        choice = torch.zeros_like(loss)
        if answer.logits is not None and batch.choice is not None:
            every = functional.cross_entropy(answer.logits.movedim(-1, 1), batch.choice, reduction="none")
            choice = torch.where(valid, weight * every, 0.0).sum() / weights
            loss = loss + self.choice_weight * choice

        with torch.no_grad():
            miss = (hypotheses.best().position - batch.label.position).abs().sum(-1)
            miss = torch.where(valid[..., None], miss, 0.0)
            wins = functional.one_hot(mixture.winner, hypotheses.logit.shape[-1]) * valid[..., None]
            usage = wins.flatten(0, -2).sum(0) / count
            diagnostics = {
                "l1_position": miss.mean(-1).sum() / count,
                "l1_final": miss[..., -1].sum() / count,
                "likelihood": mixture.likelihood.sum() / count,
                "classification": mixture.classification.sum() / count,
                "choice": choice,
                "usage_entropy": torch.special.entr(usage).sum(),
                "valid": valid.float().mean(),
            }
        return Losses({POLICY: loss}, diagnostics)
