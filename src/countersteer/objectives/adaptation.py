"""Perception adaptation: a policy that learned in a drawn world learns to see a recorded one.

Every frame comes twice, recorded and as its drawn twin. The student that drives in the drawn world says what to make of the twin;
the policy is to make the same of the recording (Gigapixel, arXiv 2606.19641, appendix B.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from countersteer.errors import UserError
from countersteer.objectives.interface import POLICY, Losses, Objective
from countersteer.objectives.models import FrozenModel, ModelSpec
from countersteer.policies.interface import PolicyOutput, PolicySpec
from countersteer.policies.weights import Weights
from countersteer.ranges import NonNegative, Share
from countersteer.rollouts.rollout import Rollout
from countersteer.tensors import TensorTree
from countersteer.worlds.interface import Capability
from countersteer.worlds.observations import Observation, twin_of

__all__ = ["PairedFrames", "PerceptionAdaptation", "TwoPartPolicy"]


@runtime_checkable
class TwoPartPolicy(Protocol):
    """What adaptation needs of a policy, such as `CNNPlanner`: perception and planner that can be asked one by one."""

    spec: PolicySpec

    def encode(self, observation: Observation, /) -> Float[Tensor, "*batch time feature"]: ...

    def plan_sequence(
        self, features: Float[Tensor, "*batch time feature"], first: Bool[Tensor, "*batch time"], /
    ) -> PolicyOutput: ...


@dataclass(frozen=True)
class PairedFrames(TensorTree):
    """Stretches of driving, seen twice, leading dimensions `[batch time]`.

    Attributes:
        recorded: With the pictures that the cameras took.
        twin: With drawn ones, otherwise the same.
        first: True where what was seen before this frame does not count.
        valid: Which frames to learn from.
    """

    recorded: Observation
    twin: Observation
    first: Bool[Tensor, "batch time"]
    valid: Bool[Tensor, "batch time"]


@dataclass(frozen=True)
class PerceptionAdaptation(Objective):
    """Match the features and plans that a frozen student makes of the twins.

    With perception E' of the policy, perception E and planner P of the student, recording x and twin y::

        L = w_f |E'(x) - E(y)|^2 / var E(y)  +  w_p (|P(E'(x)) - P(E(y))|_1 + KL(odds of P(E(y)), odds of P(E'(x))))

    The variance is that of the batch, summed over the features that differ at all (the car's own state is in both), so 1 is what a
    perception would lose that always says the mean. The L1 is over x and y [m], heading [rad] and speed [m/s] of all proposals, matched one by one, as a
    mean over their times; the odds are those of the proposals and, where the policy chooses among actions, of those. The planner is
    the student's, so it does not learn, unless `planner` says so.

    Diagnostics: "features" and "plan" (the two losses before their weights), "l1_position": |dx| + |dy| of the likeliest plan [m],
    "valid": share of frames that count.

    Attributes:
        student: The student, which is the model "reference".
        feature_weight: w_f.
        plan_weight: w_p; not both 0.
        planner: Whether the planner learns too.
        min_confidence: Frames where the world's confidence is less do not count.

    Raises:
        UserError: A value is outside its range.
    """

    student: Weights
    feature_weight: NonNegative = 1.0
    plan_weight: NonNegative = 1.0
    planner: bool = False
    min_confidence: Share = 0.5

    needs = frozenset({Capability.TWIN})
    policy_protocol = TwoPartPolicy

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feature_weight == self.plan_weight == 0.0:
            raise UserError(
                "the weights of PerceptionAdaptation leave nothing to learn",
                got="feature_weight 0, plan_weight 0",
                expected="one above 0",
                fix="set feature_weight or plan_weight",
            )

    def models(self, spec: PolicySpec, /) -> Mapping[str, ModelSpec]:
        """The frozen student."""
        return {"reference": FrozenModel(self.student)}

    def prepare(self, rollout: Rollout) -> PairedFrames:
        """Frames count while the drive goes on and the world can be trusted."""
        sensors = rollout.observation.sensors
        cameras = [name for name in sensors if twin_of(name) in sensors]
        if not cameras:
            raise UserError(
                "adaptation needs every picture twice, and this rollout has no twins",
                got=f"sensors {sorted(sensors)}",
                expected="a camera and its twin, such as 'front' and 'front.twin'",
                fix="collect with `ClosedLoop.sensors`",
            )
        twins = rollout.observation.replace(
            sensors=sensors | {name: sensors[twin_of(name)] for name in cameras}
        )
        trusted = rollout.alive & (rollout.confidence >= self.min_confidence)
        return PairedFrames(rollout.observation, twins, rollout.is_first, trusted)

    def losses(self, models: Mapping[str, nn.Module], batch: PairedFrames) -> Losses:
        """The mean over the frames that count, 0 if there is none."""
        # Nothing is dropped at random, so both are asked the same.
        policy = cast(TwoPartPolicy, models[POLICY].eval())
        student = cast(TwoPartPolicy, models["reference"])
        planner = policy if self.planner else student
        with torch.no_grad():
            wanted = student.encode(batch.twin)
            target = student.plan_sequence(wanted, batch.first)
        features = policy.encode(batch.recorded)
        answer = planner.plan_sequence(features, batch.first)
        assert answer.hypotheses is not None
        assert target.hypotheses is not None

        count = batch.valid.sum().clamp(min=1)

        def mean(each: Float[Tensor, "batch time"]) -> Tensor:
            return torch.where(batch.valid, each, 0.0).sum() / count

        differ = (features - wanted).square()
        counted = wanted[batch.valid]
        around = (counted - counted.sum(0) / count).square().sum(0) / count
        spread = around[differ.detach()[batch.valid].sum(0) > 0.0].sum()
        feature_loss = mean(differ.sum(-1)) / spread.clamp(min=1e-6)
        apart = (answer.hypotheses.location - target.hypotheses.location).abs().sum(-1)
        plan_loss = mean(apart.mean((-2, -1)) + _divergence(target.hypotheses.logit, answer.hypotheses.logit))
        if answer.logits is not None and target.logits is not None:
            plan_loss = plan_loss + mean(_divergence(target.logits, answer.logits))
        loss = self.feature_weight * feature_loss + self.plan_weight * plan_loss
        with torch.no_grad():
            miss = answer.hypotheses.best().position - target.hypotheses.best().position
            diagnostics = {
                "features": feature_loss,
                "plan": plan_loss,
                "l1_position": mean(miss.abs().sum(-1).mean(-1)),
                "valid": batch.valid.float().mean(),
            }
        return Losses({POLICY: loss}, diagnostics)


def _divergence(
    wanted: Float[Tensor, "*batch k"], logit: Float[Tensor, "*batch k"]
) -> Float[Tensor, "*batch"]:
    """Kullback-Leibler divergence from one set of odds to the other [nat]."""
    wanted, got = wanted.log_softmax(-1), logit.log_softmax(-1)
    return functional.kl_div(got, wanted, reduction="none", log_target=True).sum(-1)
