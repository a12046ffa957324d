"""The learner: several models, their gradients, optimisers, averages and checkpoints; worked out on paper where numbers are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from countersteer.errors import UserError
from countersteer.objectives.interface import Loss, Losses
from countersteer.objectives.models import AdamWSpec, AverageModel, ModelSpec, TrainedModel
from countersteer.objectives.ppo import PPO, ActionBatch
from countersteer.policies.teacher import SetActorCriticSpec
from countersteer.rewards.weighted import WeightedReward
from countersteer.storage import checkpoint
from countersteer.training.learner import Learner
from countersteer.training.stages import OptimSpec
from countersteer.worlds.interface import EgoMotion, Intent, SensorReading
from countersteer.worlds.observations import Observation
from countersteer.worlds.sensors.vector import VectorSpec

OPTIM = OptimSpec(learning_rate=0.1, warmup=0, weight_decay=0.0, max_grad_norm=100.0, steps=1_000)


class Numbers(nn.Module):
    """Two numbers."""

    def __init__(self, *values: float):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))


@dataclass(frozen=True)
class Discriminator:
    """Builds two numbers."""

    def build(self, models: Mapping[str, nn.Module], /) -> nn.Module:
        return Numbers(1.0, -2.0)


@dataclass(frozen=True)
class Gail(Loss):
    """The policy says x = (x0, x1), the discriminator scores d . x: the one wants it large, the other small."""

    optim: AdamWSpec | None = None
    average: float | None = None

    def models(self, spec: object, /) -> Mapping[str, ModelSpec]:
        found: dict[str, ModelSpec] = {"discriminator": TrainedModel(Discriminator(), self.optim)}
        return found | ({"slow": AverageModel("policy", self.average)} if self.average is not None else {})

    def losses(self, models: Mapping[str, nn.Module], batch: Tensor) -> Losses:
        score = (models["policy"].values * models["discriminator"].values).sum()  # type: ignore[operator]
        return Losses({"policy": -score, "discriminator": score}, {})


def gail(objective: Gail = Gail(), optim: OptimSpec = OPTIM) -> Learner:
    return Learner({"policy": Numbers(3.0, 4.0)}, objective.models(None), objective, optim)


def values(learner: Learner, name: str) -> list[float]:
    return learner.models[name].get_parameter("values").tolist()


def test_two_models_with_opposite_losses_take_the_step_worked_out_on_paper():
    """Gradients before the step: -d = (-1, 2) for the policy and x = (3, 4) for the discriminator, and of nothing else.

    Adam's first step is lr x sign(g). Were the policy's step taken first, the discriminator's gradient would be other
    numbers; their norms tell: sqrt(5) and 5.
    """
    learner = gail()
    logged = learner.update(torch.zeros(1))
    assert values(learner, "policy") == pytest.approx([3.1, 3.9], abs=1e-5)
    assert values(learner, "discriminator") == pytest.approx([0.9, -2.1], abs=1e-5)
    assert logged["loss/policy"] == pytest.approx(5.0)
    assert logged["loss/discriminator"] == pytest.approx(-5.0)
    assert logged["gradient_norm/policy"] == pytest.approx(math.sqrt(5.0))
    assert logged["gradient_norm/discriminator"] == pytest.approx(5.0)


def test_each_model_has_its_own_optimiser_and_schedule():
    own = AdamWSpec(learning_rate=0.4, warmup=4, weight_decay=0.0, max_grad_norm=1.0)
    learner = gail(Gail(own))
    logged = learner.update(torch.zeros(1))
    assert logged["learning_rate"] == pytest.approx(0.1)
    assert logged["learning_rate/discriminator"] == pytest.approx(0.1)  # a quarter of the way up to 0.4
    learner.update(torch.zeros(1))
    assert learner.learning_rate("discriminator") == pytest.approx(0.3, rel=1e-4)
    assert learner.learning_rate("policy") == pytest.approx(0.1, rel=1e-4)


def test_an_average_follows_by_the_closed_form():
    """m_n = d^n x_0 + (1 - d) sum_k d^(n - k) x_k."""
    decay, learner, seen = 0.8, gail(Gail(average=0.8)), []
    begun = torch.tensor([3.0, 4.0])
    for _ in range(5):
        learner.update(torch.zeros(1))
        seen.append(learner.models["policy"].get_parameter("values").detach().clone())
    expected = decay**5 * begun + (1 - decay) * sum(decay ** (4 - k) * each for k, each in enumerate(seen))
    torch.testing.assert_close(learner.models["slow"].get_parameter("values").detach(), expected)
    assert not learner.models["slow"].get_parameter("values").requires_grad


def test_a_run_resumed_with_several_models_is_bitwise_the_same():
    """Through the form that checkpoints have."""
    objective = Gail(AdamWSpec(learning_rate=0.3, warmup=3), average=0.9)
    whole, first = gail(objective), gail(objective)
    for _ in range(7):
        whole.update(torch.zeros(1))
    for _ in range(3):
        first.update(torch.zeros(1))
    tensors, structure = checkpoint.flatten_state(first.state())
    resumed = gail(objective)
    resumed.load_state(checkpoint.unflatten_state(tensors, structure), 3)
    for _ in range(4):
        resumed.update(torch.zeros(1))
    for name in ("policy", "discriminator", "slow"):
        assert values(resumed, name) == values(whole, name)


# --- a shared encoder ---------------------------------------------------------------------------

SEES = VectorSpec(cars=1, lanes=2, edges=2, lights=1)


@dataclass(frozen=True)
class CriticOfPolicy:
    """The critic that sits on the policy's own trunk, as a model of its own."""

    def build(self, models: Mapping[str, nn.Module], /) -> nn.Module:
        policy = models["policy"]
        return nn.ModuleDict(
            {name: policy.get_submodule(name) for name in ("ego", "sets", "trunk", "critic")}
        )


@dataclass(frozen=True)
class SharedPPO(PPO):
    """PPO with policy and critic as two models on one encoder."""

    def models(self, spec: object, /) -> Mapping[str, ModelSpec]:
        return {"critic": TrainedModel(CriticOfPolicy())}


def steps_of(teacher: nn.Module) -> ActionBatch:
    generator = torch.Generator().manual_seed(0)
    count = 16
    one = torch.ones(count, 1)
    motion = EgoMotion(speed=one, yaw_rate=one, valid=one.bool())
    intent = Intent(
        set_speed=torch.ones(count),
        command=torch.zeros(count, dtype=torch.long),
        command_age=torch.zeros(count),
        target_points=torch.zeros(count, 1, 2),
        target_valid=torch.zeros(count, dtype=torch.bool),
    )
    data = torch.rand(count, SEES.size, generator=generator)
    reading = SensorReading(data, torch.zeros(count), torch.ones(count, dtype=torch.bool))
    return ActionBatch(
        Observation({"vector": reading}, motion, intent),
        torch.ones(count, 12),
        torch.arange(count) % 12,
        torch.full((count,), -math.log(12.0)),
        torch.randn(count, generator=generator),
        torch.randn(count, generator=generator),
    )


def test_policy_and_critic_on_a_shared_encoder_take_one_step_of_the_sum_of_their_gradients():
    """The sum of the two losses is PPO's one loss, so both are the same training."""
    together: list[dict[str, Tensor]] = []
    for kind in (PPO, SharedPPO):
        torch.manual_seed(0)
        objective = kind(reward=WeightedReward())
        spec = SetActorCriticSpec(vector=SEES, token_dim=8, hidden=16)
        policy = spec.build()
        optim = dataclasses.replace(OPTIM, learning_rate=1e-3, max_grad_norm=1e3)
        learner = Learner({"policy": policy}, objective.models(spec), objective, optim)
        logged = [learner.update(steps_of(policy)) for _ in range(3)]
        assert ("loss/critic" in logged[-1]) == (kind is SharedPPO)
        together.append({name: value.clone() for name, value in policy.state_dict().items()})
    for name, value in together[0].items():
        torch.testing.assert_close(together[1][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"max_grad_norm": -1.0},
        {"steps": 0},
        {"batch_size": 0},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]):
    with pytest.raises(UserError, match=next(iter(settings))):
        OptimSpec(**settings)  # type: ignore[arg-type]
