"""The learner owns every model, its optimiser and its schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from countersteer.errors import UserError
from countersteer.objectives.interface import Loss
from countersteer.objectives.models import (
    AdamWSpec,
    AverageModel,
    FrozenModel,
    ModelSpec,
    TrainedModel,
    build_model,
)
from countersteer.policies.precision import seen_in
from countersteer.tensors import TensorTree
from countersteer.training.stages import OptimSpec

__all__ = ["Learner"]


class Learner:
    """Models, and one AdamW with its schedule for each that learns.

    A step takes the gradients of all losses first, so every loss is that of the models before the step. The gradient of
    a loss goes into the parameters of its own model only. A parameter that several models share gets the sum of their
    gradients and one step, by the optimiser of the first of them.

    Args:
        main: The main model, by its name; "policy" where a policy learns.
        beside: Models beside it, as `Loss.models` says, in the order in which they are built.
        loss: What is minimised.
        optim: Settings; those of the main model and of every other that has none of its own.
        device: Where the models are put.

    Attributes:
        models: Every model by its name, the main one first.
        optimizers: Of each model that learns and owns parameters.
        step: Steps taken.
        whole: False within a step, when models may be of neither side of it.
    """

    def __init__(
        self,
        main: Mapping[str, nn.Module],
        beside: Mapping[str, ModelSpec],
        loss: Loss,
        optim: OptimSpec,
        device: torch.device | str = "cpu",
    ):
        self.models = {name: model.to(device) for name, model in main.items()}
        self.loss, self.optim = loss, optim
        self._device = device
        self.averages = {name: spec for name, spec in beside.items() if isinstance(spec, AverageModel)}
        self.settings: dict[str, AdamWSpec] = dict.fromkeys(main, optim)
        for name, spec in beside.items():
            self.models[name] = build_model(spec, self.models).to(device)
            if isinstance(spec, TrainedModel):
                self.settings[name] = spec.optim or optim
        self._frozen = {name for name, spec in beside.items() if isinstance(spec, FrozenModel)}
        self.optimizers: dict[str, torch.optim.AdamW] = {}
        self._owned: dict[str, list[nn.Parameter]] = {}
        taken: set[int] = set()
        for name, settings in self.settings.items():
            parameters = [each for each in self.models[name].parameters() if id(each) not in taken]
            taken |= {id(each) for each in parameters}
            self._owned[name] = parameters
            if parameters:
                self.optimizers[name] = torch.optim.AdamW(
                    parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
                )
        self.step, self.whole = 0, True

    def learning_rate(self, name: str) -> float:
        """Of one model at the present step: linear warm-up, then cosine to 2 % of the peak."""
        settings = self.settings[name]
        warm = min((self.step + 1) / max(settings.warmup, 1), 1.0)
        part = min(self.step / self.optim.steps, 1.0)
        return settings.learning_rate * warm * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * part)))

    def update(self, batch: Any) -> dict[str, float]:
        """One gradient step; returns what to log. A loss that is not finite, or a limit exceeded, stops the run."""
        self.whole = False
        for name in self.settings:
            self.models[name].train()
        with seen_in(self.optim.precision, self._device):
            losses = self.loss.losses(self.models, batch)
        logged = {name: value.item() for name, value in losses.diagnostics.items()}
        for name, most in self.loss.limits.items():
            if logged[name] > most:
                raise UserError(
                    f"training has come apart at step {self.step}: {name!r} is too large",
                    got=f"{logged[name]:.3g}",
                    expected=f"at most {most:g}",
                    fix="lower optim.learning_rate; the checkpoints before this step are whole",
                )
        self._gradients(losses.groups)
        rates = {name: self.learning_rate(name) for name in self.settings}
        stepping = [name for name in self.optimizers if self._has_gradient(name)]
        for name in stepping:
            norm = nn.utils.clip_grad_norm_(self._owned[name], self.settings[name].max_grad_norm)
            logged[f"gradient_norm/{name}"] = norm.item()
        for name, loss in losses.groups.items():
            logged[f"loss/{name}"] = loss.item()
            self._check_finite(name, logged, batch)
        for name in stepping:
            for group in self.optimizers[name].param_groups:
                group["lr"] = rates[name]
            self.optimizers[name].step()
        self._follow()
        self.step, self.whole = self.step + 1, True
        main, *others = self.settings
        logged |= {f"learning_rate/{name}": rates[name] for name in others}
        return logged | {"learning_rate": rates[main]}

    def _gradients(self, groups: Mapping[str, Tensor]) -> None:
        """Add up the gradients of every group, each in its own model's parameters."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        last = list(groups)[-1]
        for name, loss in groups.items():
            mine = [each for each in self.models[name].parameters() if each.requires_grad]
            # Kept, because groups may share what was computed on the way to their losses.
            loss.backward(inputs=mine, retain_graph=name != last)

    def _has_gradient(self, name: str) -> bool:
        return any(each.grad is not None for each in self._owned[name])

    def _check_finite(self, name: str, logged: Mapping[str, float], batch: Any) -> None:
        norm = logged.get(f"gradient_norm/{name}", 0.0)
        if not math.isfinite(logged[f"loss/{name}"] + norm):
            leaves = {"batch": batch} if isinstance(batch, Tensor) else batch.flatten() if isinstance(batch, TensorTree) else {}  # fmt: skip
            bad = [key for key, leaf in leaves.items() if not bool(leaf.isfinite().all())]
            raise UserError(
                f"the training of {name!r} has diverged at step {self.step}",
                got=f"loss {logged[f'loss/{name}']}, gradient norm {norm}"
                + (f"; the data are not finite themselves: {', '.join(bad)}" if bad else ""),
                expected="finite numbers",
                fix="lower optim.learning_rate; the checkpoints before this step are whole",
            )

    @torch.no_grad()
    def _follow(self) -> None:
        """Move every average towards its model."""
        for name, spec in self.averages.items():
            mine, other = self.models[name], self.models[spec.of]
            for average, value in zip(mine.parameters(), other.parameters(), strict=True):
                average.lerp_(value, 1.0 - spec.decay)
            for average, value in zip(mine.buffers(), other.buffers(), strict=True):
                average.copy_(value)

    def weights(self, name: str = "policy") -> dict[str, Tensor]:
        """A copy of one model's state, for a request or a file."""
        return {key: value.detach().cpu().clone() for key, value in self.models[name].state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Everything that learning goes on from; models that never change are left out."""
        return {
            "models": {
                name: model.state_dict() for name, model in self.models.items() if name not in self._frozen
            },
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def load_state(self, state: Mapping[str, Any], step: int) -> None:
        """Go on from what `state` returned when `step` steps were taken.

        Raises:
            ValueError: It is the state of other models.
        """
        own = self.state()["models"]
        if own.keys() != state["models"].keys():
            raise ValueError(f"models {sorted(state['models'])} instead of {sorted(own)}")
        for name, saved in state["models"].items():
            for key, value in own[name].items():
                if key in saved and (saved[key].dtype, saved[key].shape) != (value.dtype, value.shape):
                    got = f"{saved[key].dtype} {tuple(saved[key].shape)}"
                    raise ValueError(f"{name}.{key} is {got} instead of {value.dtype} {tuple(value.shape)}")
        for name, saved in state["models"].items():
            self.models[name].load_state_dict(saved)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            # A checkpoint's tensors are contiguous; the fused step pairs weights and moments in memory order.
            for weight, moments in optimizer.state.items():
                for key, value in moments.items():
                    if value.shape == weight.shape:
                        moments[key] = torch.empty_like(weight).copy_(value)
        self.step = step
