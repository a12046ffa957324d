"""The policy chooses among discrete actions: by its odds while it learns, the likeliest one when it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from countersteer import noise
from countersteer.drivers.interface import Decision, Driver
from countersteer.errors import UserError
from countersteer.experts.interface import Label
from countersteer.policies.interface import PolicyOutput
from countersteer.vehicles.jerk import JerkSpec
from countersteer.worlds.world import World

__all__ = ["CategoricalDriver"]


@dataclass(frozen=True)
class CategoricalDriver(Driver):
    """Every car is driven by the policy's choices, all by the same policy: self-play.

    Attributes:
        jerk: What a choice stands for.
        greedy: Take the likeliest choice instead of drawing one.
    """

    jerk: JerkSpec = JerkSpec()
    greedy: bool = False
    uses_policy = True
    uses_expert = False

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
        """See `Driver.act`."""
        assert output is not None
        if output.logits is None or output.logits.shape[-1] != self.jerk.choices:
            raise UserError(
                "the policy does not choose among the driver's actions",
                got="no choices" if output.logits is None else f"{output.logits.shape[-1]} choices",
                expected=f"{self.jerk.choices} choices",
                fix="give policy and driver the same `jerk`",
            )
        log_odds = output.logits.log_softmax(-1)
        if self.greedy:
            choice = log_odds.argmax(-1)
        else:
            draw = noise.uniform(seed, world.drives(), tick, "choice", world.agents)[..., None]
            below = log_odds.exp().cumsum(-1)
            # Rounding may leave the last sum below 1.
            choice = (draw * below[..., -1:] >= below).sum(-1).clamp(max=self.jerk.choices - 1)
        return Decision(
            self.jerk.action(choice),
            torch.ones_like(choice, dtype=torch.bool),
            choice=choice,
            log_prob=log_odds.gather(-1, choice[..., None]).squeeze(-1),
        ), memory
