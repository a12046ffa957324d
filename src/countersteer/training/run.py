"""The training loop, top to bottom: drive, keep, learn, repeat; resumable at any moment."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from countersteer import __version__
from countersteer.errors import UserError
from countersteer.policies.interface import Policy
from countersteer.policies.storage import load_policy, save_policy
from countersteer.rollouts.rollout import Rollout
from countersteer.rollouts.store import RolloutStore
from countersteer.storage import checkpoint, serialise
from countersteer.training.collector import Collector, InlineCollector, RolloutRequest
from countersteer.training.learner import Learner
from countersteer.training.recipe import Recipe

__all__ = ["Progress", "check_device", "load_recipe", "train"]


class Progress:
    """What a training run tells its caller; the default says nothing."""

    def message(self, text: str) -> None:
        """Something worth a line."""

    def collected(
        self, round_number: int, rounds: int, frames: int, seconds: float, outcomes: dict[str, float]
    ) -> None:
        """A round of driving is done; `outcomes` are those of `Rollout.outcomes`."""

    def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
        """A gradient step is done."""


def _environment() -> dict[str, Any]:
    def git(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    import numba
    import numpy

    return {
        "countersteer": __version__,
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain", "-uno")),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "numba": numba.__version__,
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "command": " ".join(sys.argv),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _open(recipe: Recipe, out: Path, seed: int, resume: bool, source: str | None) -> None:
    """Create the run's folder, or check that the one to resume belongs to this recipe."""
    description = out / "recipe.json"
    if resume and description.exists():
        saved = json.loads(description.read_text())
        now = serialise.to_json(recipe)
        changed = serialise.differences(saved["recipe"], now)
        if saved["seed"] != seed:
            changed.append(f"seed: {saved['seed']} -> {seed}")
        if changed:
            raise UserError(
                f"{out} is a run of another recipe",
                got="; ".join(changed[:8]) + (" ..." if len(changed) > 8 else ""),
                expected="the recipe and seed the run was started with",
                fix="resume with the same recipe, overrides and seed, or choose another --out",
            )
        return
    if out.exists() and any(out.iterdir()):
        raise UserError(
            f"the output folder {out} exists already",
            got="a folder with files in it",
            expected="a folder that does not exist yet",
            fix="choose another --out, or add --resume to continue that run",
        )
    out.mkdir(parents=True, exist_ok=True)
    content = {"recipe": serialise.to_json(recipe), "seed": seed, "source": source}
    partial = out / "recipe.json.partial"
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(description)


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    source: str | None = None,
    progress: Progress | None = None,
    collector: Callable[[Recipe, int], Collector] = InlineCollector,
) -> Path:
    """Train a recipe into the folder `out`; returns the file of the finished policy.

    Args:
        recipe: What to do.
        out: New folder of the run, or an interrupted run's with `resume`.
        seed: Of weights, worlds and batches.
        device: Where the learner's tensors live; one that is missing is an error.
        resume: Continue from the last good checkpoint.
        source: "file.py:function" of a user's recipe, kept with the run.
        progress: Told what happens.
        collector: Builds the collector from recipe and seed.

    Raises:
        KeyboardInterrupt: After a checkpoint was written.
    """
    recipe.check()
    out, progress = Path(out), progress or Progress()
    check_device(device)
    _open(recipe, out, seed, resume, source)
    finished = out / "policy.safetensors"
    if resume and finished.exists():
        progress.message(f"{out} is finished already")
        return finished

    torch.manual_seed(seed)
    policy = _begin(recipe)
    actors = collector(recipe, seed)
    learner = Learner({"policy": policy.to(device)}, recipe.objective, recipe.learning)
    store = RolloutStore(out / "rollouts", recipe.collection.keep)
    checkpoints = checkpoint.CheckpointFolder(out / "checkpoints")
    generator = torch.Generator().manual_seed(seed)
    spent = _restore(recipe, learner, store, actors, checkpoints, generator, progress) if resume else 0.0
    environment = _environment() | {"scenarios": actors.fingerprints()}
    (out / "run.json").write_text(json.dumps(environment | {"seed": seed}, indent=1))
    log = _Log(out, learner.step, store.frames)

    collection, learning = recipe.collection, recipe.learning
    started = time.monotonic() - spent
    try:
        for number in range(collection.rounds):
            last = _steps_after(recipe, number)
            if learner.step >= last and number < store.rounds:
                continue
            if number >= store.rounds:
                began = time.monotonic()
                rollout = actors.collect(
                    RolloutRequest.of_round(recipe, number, learner.step, learner.weights())
                )
                if number == 0 and recipe.begin is None:
                    _prepare(policy, rollout)
                store.add(rollout)
                outcomes = rollout.outcomes()
                # Gradient steps since the weights that drove; more than 0 where actors did not wait.
                stale = float(learner.step - int(rollout.policy_version.min()))
                collected = {"frames": float(store.frames), "staleness": stale, **outcomes}
                log.write(learner.step, collected, whole=True)
                seconds = time.monotonic() - began
                progress.collected(number, collection.rounds, store.frames, seconds, outcomes)
                _save(learner, store, checkpoints, generator, time.monotonic() - started)
            while learner.step < last:
                began = time.monotonic()
                sequences = store.sample(generator, learning.sequences, learning.length).to(device)
                logged = learner.update(recipe.objective.prepare(sequences))
                rate = learning.sequences * learning.length / (time.monotonic() - began)
                log.write(learner.step, logged | {"samples_per_s": rate})
                progress.learned(learner.step, learning.steps, logged, rate)
                if learner.step % learning.checkpoint_every == 0:
                    _save(learner, store, checkpoints, generator, time.monotonic() - started)
    except KeyboardInterrupt:
        _save(learner, store, checkpoints, generator, time.monotonic() - started)
        progress.message(f"interrupted at step {learner.step}; continue with --resume")
        raise
    finally:
        log.close()
        actors.close()

    seconds = time.monotonic() - started
    _save(learner, store, checkpoints, generator, seconds)
    save_policy(finished, policy, recipe.name, seed, seconds, environment)
    store.remove()
    return finished


def _steps_after(recipe: Recipe, number: int) -> int:
    """Gradient steps that have been taken when round `number` is over."""
    rounds, steps = recipe.collection.rounds, recipe.learning.steps
    if number == rounds - 1:
        return steps
    return round(steps * (1 - recipe.collection.last_learning_share) * (number + 1) / (rounds - 1))


def _begin(recipe: Recipe) -> Policy:
    """The policy before training, with drawn weights or those that the recipe begins with."""
    policy = recipe.policy.build()
    if recipe.begin is not None:
        begun, _ = load_policy(recipe.begin)
        changed = serialise.differences(serialise.to_json(begun.spec), serialise.to_json(recipe.policy))
        if changed:
            raise UserError(
                f"recipe {recipe.name!r} cannot begin with the weights of {recipe.begin}",
                got="; ".join(changed[:8]),
                expected="a policy of the same description",
                fix="set `policy` to that run's, or choose another `begin`",
            )
        policy.load_state_dict(begun.state_dict())
    return policy


def _prepare(policy: Policy, rollout: Rollout) -> None:
    """Let the policy look at the first data once (for example for its mean image)."""
    policy.calibrate(rollout.observation)


def check_device(device: str) -> None:
    """Refuse a device that is not there, naming those that are."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        known = ["cpu"] + [f"cuda:{k}" for k in range(torch.cuda.device_count())]
        raise UserError(
            f"the device {device!r} is not there",
            got=str(error).splitlines()[0],
            expected=f"one of {', '.join(known)}",
            fix="choose another --device",
        ) from None


def _save(
    learner: Learner,
    store: RolloutStore,
    checkpoints: checkpoint.CheckpointFolder,
    generator: torch.Generator,
    seconds: float,
) -> None:
    state: dict[str, Any] = {
        "models": {name: model.state_dict() for name, model in learner.models.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in learner.optimizers.items()},
        "random": {"torch": torch.get_rng_state(), "batches": generator.get_state()},
    }
    tensors, structure = checkpoint.flatten_state(state)
    metadata = {
        "step": learner.step,
        "rounds": store.sizes,
        "seconds": seconds,
        "structure": structure,
    }
    checkpoints.save(learner.step, tensors, metadata)


def _restore(
    recipe: Recipe,
    learner: Learner,
    store: RolloutStore,
    actors: Collector,
    checkpoints: checkpoint.CheckpointFolder,
    generator: torch.Generator,
    progress: Progress,
) -> float:
    """Bring everything to the last good checkpoint; returns the seconds already spent."""
    found = checkpoints.latest()
    if found is None:
        progress.message("no checkpoint yet: starting from the beginning")
        return 0.0
    for warning in found.warnings:
        progress.message(warning)
    template = actors.collect(RolloutRequest(0, 1, 0.0, 0, learner.weights()))
    sizes = found.metadata["rounds"]
    learned = bool(sizes) and found.metadata["step"] >= _steps_after(recipe, len(sizes) - 1)
    if not store.load(sizes, template, learned=learned):
        progress.message("the rollouts of the run are damaged or gone: starting from the beginning")
        return 0.0
    state = checkpoint.unflatten_state(found.tensors, found.metadata["structure"])
    for name, model in learner.models.items():
        model.load_state_dict(state["models"][name])
    for name, optimizer in learner.optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
        # A checkpoint's tensors are contiguous; the fused step pairs weights and moments in memory order.
        for weight, moments in optimizer.state.items():
            for key, value in moments.items():
                if value.shape == weight.shape:
                    moments[key] = torch.empty_like(weight).copy_(value)
    torch.set_rng_state(state["random"]["torch"])
    generator.set_state(state["random"]["batches"])
    learner.step = found.metadata["step"]
    progress.message(f"resumed at step {learner.step} of {learner.learning.steps}")
    return float(found.metadata["seconds"])


class _Log:
    """metrics.jsonl and TensorBoard; a resumed run drops lines after its checkpoint, and of rounds to drive again."""

    def __init__(self, out: Path, step: int, frames: int):
        from torch.utils.tensorboard import SummaryWriter

        path = out / "metrics.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    values = json.loads(line)
                    if values["step"] <= step and values.get("frames", 0) <= frames:
                        kept.append(line)
                except (ValueError, KeyError):
                    break
        path.write_text("".join(f"{line}\n" for line in kept))
        self.file = path.open("a")
        self.board = SummaryWriter(out / "tensorboard", purge_step=step + 1)

    def write(self, step: int, values: dict[str, float], *, whole: bool = False) -> None:
        if step % 10 and step > 1 and not whole:
            return
        self.file.write(json.dumps({"step": step} | {k: round(v, 6) for k, v in values.items()}) + "\n")
        self.file.flush()  # so that a run that is killed has lost no line before its checkpoint
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        self.board.close()


def load_recipe(run: str | Path, modules: tuple[Any, ...] = ()) -> tuple[Recipe, int]:
    """The recipe and seed of a run folder."""
    file = Path(run) / "recipe.json"
    if not file.exists():
        raise UserError(
            f"{run} is not a run", got="no recipe.json", expected="a folder made by `countersteer train`",
            fix="check the path",
        )  # fmt: skip
    saved = json.loads(file.read_text())
    recipe = serialise.from_json(saved["recipe"], extra_modules=modules)
    assert isinstance(recipe, Recipe)
    return recipe, int(saved["seed"])
