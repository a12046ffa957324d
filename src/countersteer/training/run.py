"""Trains a recipe, stage by stage, into a folder; resumable at any moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from countersteer.errors import UserError
from countersteer.interrupts import stoppable
from countersteer.policies.weights import Weights, mapped, resolved
from countersteer.storage import checkpoint
from countersteer.storage.locks import Held, holding
from countersteer.training.closed_loop import train_closed_loop
from countersteer.training.collector import Collector, InlineCollector
from countersteer.training.fit import train_fit
from countersteer.training.folder import (
    changes,
    environment,
    load_recipe,
    open_folder,
    with_parts,
    write_json,
)
from countersteer.training.recipe import Recipe
from countersteer.training.session import Job, Progress
from countersteer.training.stages import ClosedLoop, Stage

__all__ = ["Progress", "check_device", "flushed_denormals", "load_recipe", "train"]


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    actor_device: str = "cpu",
    resume: bool = False,
    source: str | None = None,
    progress: Progress | None = None,
    collector: Callable[[ClosedLoop, int, str], Collector] = InlineCollector,
) -> Path:
    """Train a recipe into the folder `out`; returns the file that its last stage made.

    A recipe of one stage lies in `out` itself. Of several, each has a folder of its own in it, and what an earlier one
    made is handed to later ones with its digest.

    Args:
        recipe: What to do.
        out: New folder of the run, or an interrupted run's with `resume`.
        seed: Of weights, worlds and batches.
        device: Where the learner's tensors live; one that is missing is an error.
        actor_device: Where worlds and the policies that drive in them live, likewise.
        resume: Continue from the last good checkpoint; stages that are finished are kept.
        source: "file.py:function" of a user's recipe, kept with the run.
        progress: Told what happens.
        collector: Builds the collector from stage, seed and device.

    Raises:
        UserError: The recipe cannot work, weights that it names are missing, another process trains into `out`, or the
            disk or the memory is full. Checkpoints that were written are whole.
        KeyboardInterrupt: After a checkpoint was written.
    """
    recipe.check()
    out, progress = Path(out), progress or Progress()
    check_device(device)
    check_device(actor_device, "--actor-device")
    mapped(recipe, lambda weights, _: weights if weights.stage is not None else weights.resolve())

    def job(stage: str, held: Held, about: dict[str, Any]) -> Job:
        place, name = (
            (out, recipe.name) if len(recipe.stages) == 1 else (out / stage, f"{recipe.name}.{stage}")
        )
        return Job(name, place, seed, device, actor_device, resume, progress, collector, about, held)

    with stoppable(), holding(out, progress.message) as held, _memory():
        open_folder(recipe, out, seed, resume, source)
        about = environment(recipe)
        for line in changes(out, about):
            progress.message(line)
        return _train_stages(recipe, out, source, lambda stage: job(stage, held, about))


def _train_stages(recipe: Recipe, out: Path, source: str | None, job_of: Callable[[str], Job]) -> Path:
    """Train the stages in turn, each with what the earlier ones made."""
    single = len(recipe.stages) == 1
    made: dict[str, Weights] = {}
    finished = out
    for stage in recipe.stages:
        job = job_of(stage.name)
        if not single:
            _note_stages(recipe, out, job, made)
            job.progress.message(f"stage {stage.name!r}, {len(made) + 1} of {len(recipe.stages)}")
            open_folder(Recipe(job.name, (stage,)), job.out, job.seed, job.resume, source)
        ready, weights = resolved(stage, made)
        job = dataclasses.replace(job, weights=weights)
        finished = _train_stage(ready, job)
        made[stage.name] = Weights(str(finished)).resolve()
        if not single:
            _note_stages(recipe, out, job, made)
    return finished


@contextmanager
def _memory() -> Iterator[None]:
    """A lack of memory, which torch tells in several ways, as an error of the user."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error)
        full = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not full and "allocate memory" not in said and "out of memory" not in said:
            raise
        raise UserError(
            "there is not enough memory for this training",
            got=said.splitlines()[0] if said else "out of memory",
            expected="room for the rollouts, the models and a batch",
            fix="make room and go on with --resume; or begin anew with fewer rollouts.num_worlds or "
            "rollouts.total_frames, or a smaller optim.batch_size",
        ) from error


def _train_stage(stage: Stage, job: Job) -> Path:
    """Train one stage, or keep what it has made already."""
    kind = "policy" if isinstance(stage, ClosedLoop) else "model"
    finished = job.out / f"{kind}.safetensors"
    if job.resume and finished.exists():
        checkpoint.load(finished)  # a damaged one is refused
        job.progress.message(f"{job.out} is finished already")
        return finished
    return train_closed_loop(stage, job) if isinstance(stage, ClosedLoop) else train_fit(stage, job)


def _note_stages(recipe: Recipe, out: Path, job: Job, made: dict[str, Weights]) -> None:
    """Write the `run.json` of a run of several stages: which there are, and what they have made."""
    digests = {stage.name: None for stage in recipe.stages} | {
        name: each.digest for name, each in made.items()
    }
    stages = {name: {"digest": digest} for name, digest in digests.items()}
    content = with_parts(out, job.environment | {"seed": job.seed})
    write_json(out / "run.json", content | {"stages": stages})


def check_device(device: str, flag: str = "--device") -> None:
    """Refuse a device that is not there, naming those that are."""
    try:
        if torch.empty(1, device=device).device.type not in ("cpu", "cuda"):
            raise RuntimeError("nothing is computed there")
    except (RuntimeError, AssertionError) as error:
        known = ["cpu"] + [f"cuda:{k}" for k in range(torch.cuda.device_count())]
        raise UserError(
            f"the device {device!r} is not there",
            got=str(error).splitlines()[0],
            expected=f"one of {', '.join(known)}",
            fix=f"choose another {flag}",
        ) from None


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Training without denormal numbers: moments of weights that no longer learn decay into them, and they are slow."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
