"""What driving leaves behind: the data that is learned from."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.experts.interface import Label
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.observations import Observation

__all__ = ["Rollout"]


@dataclass(frozen=True)
class Rollout(TensorTree):
    """What driving left behind, `[time drive]`; a drive is one car of one world. It lies where the world does.

    Attributes:
        observation: What was seen.
        label: What the expert would have done; None if nobody was asked.
        action: What was told to the vehicle.
        policy_in_control: Whether the policy drove.
        is_first: The past before this tick does not count.
        alive: The tick belongs to a drive that was still going.
        terminated: The drive ended with this tick, by its own doing.
        truncated: The drive ended with this tick, because its time was over.
        cause: `TerminationReason`.
        confidence: Of the world at this pose, in [0, 1].
        drive: Identity of the drive.
        policy_version: Version of the weights of the policy that drove.
        reward: What the tick was worth; None without a reward.
        reward_weights: Coefficients of that reward, and what the policy was conditioned on; None without.
        action_index: Number of the discrete action that was taken, -1 for drivers that choose none; None if nobody does.
        log_prob: Its log-probability, 0 for drivers that draw none; None if nobody does.
        value: Return that the policy expected; None of policies without a critic.
    """

    observation: Observation
    label: Label | None
    action: Action | JerkAction
    policy_in_control: Bool[Tensor, "time drive"]
    is_first: Bool[Tensor, "time drive"]
    alive: Bool[Tensor, "time drive"]
    terminated: Bool[Tensor, "time drive"]
    truncated: Bool[Tensor, "time drive"]
    cause: Int[Tensor, "time drive"]
    confidence: Float[Tensor, "time drive"]
    drive: Int[Tensor, "time drive"]
    policy_version: Int[Tensor, "time drive"]
    reward: Float[Tensor, "time drive"] | None = None
    reward_weights: Float[Tensor, "time drive weight"] | None = None
    action_index: Int[Tensor, "time drive"] | None = None
    log_prob: Float[Tensor, "time drive"] | None = None
    value: Float[Tensor, "time drive"] | None = None

    def outcomes(self) -> dict[str, float]:
        """Share of the ended drives by cause, in lower case, and the mean reward of a tick, where there is one.

        Drives that were cut short because too few of their world's cars were left do not count as ended.
        """
        ended = self.alive & (self.terminated | (self.cause == TerminationReason.TIME))
        count = max(int(ended.sum()), 1)
        shares = {
            cause.name.lower(): int((ended & (self.cause == cause)).sum()) / count
            for cause in TerminationReason
            if cause is not TerminationReason.NONE
        }
        if self.reward is not None:
            shares["reward"] = float(self.reward[self.alive].mean())
        return {"ended": float(ended.sum()), **shares}
