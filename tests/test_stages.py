"""Stages: weights as values, fitting without driving, and recipes of several stages that go on where they were."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from countersteer.errors import UserError
from countersteer.objectives.interface import Loss, Losses
from countersteer.policies.storage import load_model, load_policy, save_policy
from countersteer.policies.teacher import SetActorCriticSpec
from countersteer.policies.weights import Weights
from countersteer.recipes.self_play import roads, self_play, self_play_adapted, self_play_world
from countersteer.reporting.terminal import TrainingConsole
from countersteer.storage import checkpoint, serialise
from countersteer.training.recipe import Recipe
from countersteer.training.run import Progress, load_recipe, train
from countersteer.training.stages import Fit, OptimSpec, RolloutSpec
from countersteer.worlds.sensors.vector import VectorSpec
from worlds import changed

# --- weights ------------------------------------------------------------------------------------

TINY = SetActorCriticSpec(vector=VectorSpec(cars=1, lanes=2, edges=2, lights=1), token_dim=4, hidden=4)


def a_policy(file: Path, seed: int) -> Weights:
    torch.manual_seed(seed)
    save_policy(file, TINY.build(), "none", seed, 0.0, {})
    return Weights(str(file))


def test_a_file_trained_anew_answers_with_its_new_weights(tmp_path: Path):
    file = tmp_path / "policy.safetensors"
    weights = a_policy(file, 0)
    first, resolved = weights.policy(), weights.resolve()
    assert resolved.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights.policy() is first  # read once
    a_policy(file, 1)
    second = weights.policy()
    assert not torch.equal(first.get_parameter("actor.weight"), second.get_parameter("actor.weight"))
    assert resolved.policy() is first, "a digest names its content for good"
    with pytest.raises(UserError, match="not those that are meant"):
        resolved.resolve()


def test_reading_weights_draws_nothing(tmp_path: Path):
    weights = a_policy(tmp_path / "policy.safetensors", 2)
    before = torch.get_rng_state()
    assert not any(each.requires_grad for each in weights.policy().parameters())
    assert torch.equal(before, torch.get_rng_state())


# --- fitting ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """Points of y = 2 x + 1."""

    count: int = 32

    def fingerprint(self) -> str:
        return serialise.fingerprint(self)

    def batch(self, seed: int, step: int, /) -> Tensor:
        generator = torch.Generator().manual_seed(1_000_003 * seed + step)
        x = torch.rand(self.count, 1, generator=generator)
        return torch.cat([x, 2.0 * x + 1.0], -1)


@dataclass(frozen=True)
class LinearSpec:
    """One linear layer."""

    def build(self) -> nn.Module:
        return nn.Linear(1, 1)


@dataclass(frozen=True)
class Squares(Loss):
    """Mean squared error, with noise so that the random state counts."""

    def losses(self, models: Mapping[str, nn.Module], batch: Tensor) -> Losses:
        x, y = batch.split(1, -1)
        error = (models["model"](x + 0.01 * torch.randn_like(x)) - y).square().mean()
        return Losses({"model": error}, {"error": error.detach()})


OPTIM = OptimSpec(steps=300, learning_rate=0.05, weight_decay=0.0, checkpoint_every=50)
LINE = Recipe.of(Fit("line", Line(), LinearSpec(), Squares(), OPTIM))


class StopAt(Progress):
    """Ends a run without a word, as a kill would."""

    def __init__(self, step: int):
        self.step = step

    def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
        if step == self.step:
            raise RuntimeError("killed")


def test_a_line_is_fitted_and_a_killed_run_resumed_is_the_one_that_never_was(tmp_path: Path):
    whole, _ = checkpoint.load(train(LINE, tmp_path / "whole", seed=1))
    assert whole["weight"].item() == pytest.approx(2.0, abs=0.1)
    assert whole["bias"].item() == pytest.approx(1.0, abs=0.1)
    with pytest.raises(RuntimeError, match="killed"):
        train(LINE, tmp_path / "killed", seed=1, progress=StopAt(130))
    file = train(LINE, tmp_path / "killed", seed=1, resume=True)
    assert all(torch.equal(whole[name], value) for name, value in checkpoint.load(file)[0].items())
    model, metadata = load_model(tmp_path / "killed", (sys.modules[__name__],))
    assert isinstance(model, nn.Linear)
    assert metadata["environment"]["data"] == Line().fingerprint()
    other = LINE.stages[0]
    assert isinstance(other, Fit)
    with pytest.raises(UserError, match="count"):
        train(Recipe.of(dataclasses.replace(other, data=Line(8))), tmp_path / "killed", seed=1, resume=True)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="is damaged"):
        train(LINE, tmp_path / "killed", seed=1, resume=True)


# --- several stages -----------------------------------------------------------------------------

SMALL = VectorSpec(cars=3, lanes=4, edges=4, lights=1)


def shrunk(recipe: Recipe) -> Recipe:
    """The recipe in seconds."""
    stages = []
    for stage in recipe.stages:
        assert not isinstance(stage, Fit)
        world = changed(self_play_world(2), vector=SMALL)
        changes: dict[str, object] = {
            "scenarios": roads(2, seed=4),
            "rollouts": RolloutSpec(num_worlds=2, total_frames=64, iterations=2),
            "optim": OptimSpec(steps=4, batch_size=2, sequence_length=4, warmup=1, checkpoint_every=2),
            "world": changed(stage.world, vector=SMALL, agents=2, min_agents=1),
        }
        if stage.name == "teacher":
            changes |= {"world": world, "policy": SetActorCriticSpec(vector=SMALL, token_dim=4, hidden=8)}
        else:
            small = {"channels": (4, 8), "features": 8, "hidden": 16, "history": (1,)}
            changes["policy"] = dataclasses.replace(stage.policy, **small)  # type: ignore[type-var]
        stages.append(dataclasses.replace(stage, **changes))
    return dataclasses.replace(recipe, stages=tuple(stages))


class Told(Progress):
    """Remembers messages; may interrupt in one stage."""

    def __init__(self, stage: str = "", step: int = 0):
        self.stage, self.step, self.now = stage, step, ""
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)
        if text.startswith("stage "):
            self.now = text.split("'")[1]

    def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
        if (self.now, step) == (self.stage, self.step):
            raise KeyboardInterrupt


def test_from_nothing_to_an_adapted_student_in_one_recipe_that_goes_on_by_stage(tmp_path: Path):
    recipe, out = shrunk(self_play_adapted()), tmp_path / "run"
    assert [stage.name for stage in recipe.stages] == ["teacher", "student", "adaptation"]
    assert [stage.name for stage in self_play().stages] == ["teacher", "student"]
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out, seed=1, progress=Told("student", 3))
    assert (out / "teacher" / "policy.safetensors").exists()
    began = (out / "teacher" / "policy.safetensors").stat().st_mtime_ns
    told = Told()
    file = train(recipe, out, seed=1, resume=True, progress=told)
    assert file == out / "adaptation" / "policy.safetensors"
    assert any("teacher is finished already" in text for text in told.messages)
    assert "resumed at step 3 of 4" in told.messages
    assert (out / "teacher" / "policy.safetensors").stat().st_mtime_ns == began
    # What was handed on is recorded, and the run as a whole answers with what it made last.
    digests = {
        name: hashlib.sha256((out / name / "policy.safetensors").read_bytes()).hexdigest()
        for name in ("teacher", "student", "adaptation")
    }
    whole = json.loads((out / "run.json").read_text())["stages"]
    assert {name: each["digest"] for name, each in whole.items()} == digests
    used = json.loads((out / "adaptation" / "run.json").read_text())["weights"]
    assert used["init_from"]["digest"] == used["objective.student"]["digest"] == digests["student"]
    assert used["driver.teacher"]["digest"] == digests["teacher"]
    assert load_recipe(out)[0] == recipe
    assert load_policy(out)[1]["recipe"] == "self_play_adapted.adaptation"
    # A teacher that is another one now is not taken for the one that the student began with.
    (out / "student" / "policy.safetensors").unlink()
    torch.manual_seed(9)
    teacher = recipe.stages[0]
    assert not isinstance(teacher, Fit)
    save_policy(out / "teacher" / "policy.safetensors", teacher.policy.build(), "other", 0, 0.0, {})
    with pytest.raises(UserError, match="have changed since"):
        train(recipe, out, seed=1, resume=True)


def test_a_stage_that_does_not_come_before_is_refused():
    recipe = self_play()
    with pytest.raises(UserError, match="does not come before") as told:
        Recipe("turned", recipe.stages[::-1]).check()
    assert "stage:teacher" in str(told.value)
    with pytest.raises(UserError, match="twice"):
        Recipe("twice", (recipe.stages[0], recipe.stages[0])).check()


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 101])
def test_names_of_stages_are_short(name: str):
    stage = dataclasses.replace(self_play().stages[0], name=name)
    for stages in ((stage,), (stage, self_play().stages[1])):
        with pytest.raises(UserError, match="at most 100"):
            Recipe("long", stages).check()


def test_a_bar_of_one_stage_is_followed_by_that_of_the_next():
    with TrainingConsole() as console:
        progress = console.progress("two")
        for steps in (2, 3):
            for step in range(1, steps + 1):
                progress.learned(step, steps, {"loss/model": 1.0}, 10.0)
