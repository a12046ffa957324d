"""The learner owns the models and their optimisers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from countersteer.errors import UserError
from countersteer.objectives.interface import Objective
from countersteer.training.recipe import OptimSpec

__all__ = ["Learner"]


class Learner:
    """Models, AdamW and its schedule.

    Args:
        models: By parameter group; "policy" is always there.
        objective: The signal.
        learning: Settings.
    """

    def __init__(self, models: dict[str, nn.Module], objective: Objective, learning: OptimSpec):
        self.models, self.objective, self.learning = models, objective, learning
        self.optimizers = {
            name: torch.optim.AdamW(
                model.parameters(),
                lr=learning.learning_rate,
                weight_decay=learning.weight_decay,
                fused=True,
            )
            for name, model in models.items()
        }
        self.step = 0

    def learning_rate(self) -> float:
        """At the present step: linear warm-up, then cosine to 2 % of the peak."""
        settings = self.learning
        warm = min((self.step + 1) / max(settings.warmup, 1), 1.0)
        part = min(self.step / settings.steps, 1.0)
        return settings.learning_rate * warm * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * part)))

    def update(self, batch: Any) -> dict[str, float]:
        """One gradient step; returns what to log. A loss that is not finite, or a limit exceeded, stops the run."""
        for model in self.models.values():
            model.train()
        losses = self.objective.losses(self.models, batch)
        rate = self.learning_rate()
        logged = {name: value.item() for name, value in losses.diagnostics.items()}
        for name, most in self.objective.limits.items():
            if logged[name] > most:
                raise UserError(
                    f"training has come apart at step {self.step}: {name!r} is too large",
                    got=f"{logged[name]:.3g}",
                    expected=f"at most {most:g}",
                    fix="lower learning.learning_rate; the checkpoints before this step are whole",
                )
        for name, loss in losses.groups.items():
            optimizer = self.optimizers[name]
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.models[name].parameters(), self.learning.clip)
            logged |= {f"loss/{name}": loss.item(), f"gradient_norm/{name}": norm.item()}
            if not math.isfinite(logged[f"loss/{name}"] + logged[f"gradient_norm/{name}"]):
                raise UserError(
                    f"the training of {name!r} has diverged at step {self.step}",
                    got=f"loss {logged[f'loss/{name}']}, gradient norm {logged[f'gradient_norm/{name}']}",
                    expected="finite numbers",
                    fix="lower learning.learning_rate; the checkpoints before this step are whole",
                )
            optimizer.step()
        self.step += 1
        return logged | {"learning_rate": rate}

    def weights(self, name: str = "policy") -> dict[str, Tensor]:
        """A copy of one model's state, for a request or a file."""
        return {key: value.detach().cpu().clone() for key, value in self.models[name].state_dict().items()}
