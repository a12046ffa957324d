"""What every stage's training shares: its learner, checkpoints, curves and clock."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from countersteer.errors import UserError, writing
from countersteer.interrupts import deferred
from countersteer.policies.weights import Weights
from countersteer.storage import checkpoint
from countersteer.storage.files import read_object
from countersteer.storage.locks import Held
from countersteer.training.collector import Collector
from countersteer.training.folder import Curves
from countersteer.training.learner import Learner
from countersteer.training.stages import ClosedLoop

__all__ = ["Job", "Progress", "Session"]


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


@dataclass(frozen=True)
class Job:
    """How a stage is to be trained.

    Attributes:
        name: What its file is to carry, of the recipe.
        out: Its folder.
        seed: Of weights, worlds and batches.
        device: Where the learner's tensors live.
        actor_device: Where worlds and the policies that drive in them live.
        resume: Whether to go on from the last checkpoint.
        progress: Told what happens.
        collector: Builds the collector from stage, seed and device.
        environment: What `run.json` says.
        held: The folder of the whole run.
        weights: What the stage uses, by where in it it stands.
    """

    name: str
    out: Path
    seed: int
    device: str
    actor_device: str
    resume: bool
    progress: Progress
    collector: Callable[[ClosedLoop, int, str], Collector]
    environment: dict[str, Any]
    held: Held
    weights: dict[str, Weights] = field(default_factory=dict)


class Session:
    """A learner at work.

    Args:
        job: How.
        learner: What learns.
        extra: What else a checkpoint's metadata say, when it is written.
    """

    def __init__(self, job: Job, learner: Learner, extra: Callable[[], dict[str, Any]] = dict):
        self.job, self.learner, self.extra = job, learner, extra
        self.checkpoints = checkpoint.CheckpointFolder(job.out / "checkpoints")
        self.generator = torch.Generator().manual_seed(job.seed)
        self.curves: Curves | None = None
        self._began = time.monotonic()
        self._whole = True
        self._random: tuple[int, dict[str, torch.Tensor]] | None = None  # before the last step that was begun

    @property
    def seconds(self) -> float:
        """Spent on this run, before interruptions too."""
        return time.monotonic() - self._began

    def restore(self, ready: Callable[[dict[str, Any]], bool] = lambda _: True) -> None:
        """Bring everything to the last good checkpoint, if there is one.

        Args:
            ready: Reads what else belongs to a checkpoint, by its metadata; False to begin from the beginning.
        """
        tell = self.job.progress.message
        found = self.checkpoints.latest()
        if found is None:
            tell("no checkpoint yet: starting from the beginning")
            return
        for warning in found.warnings:
            tell(warning)

        def refusal(got: str) -> UserError:
            return UserError(
                f"the checkpoint of step {found.step} in {self.checkpoints.path} is not of this run",
                got=got,
                expected="what this recipe saved, with the same models and types",
                fix="remove that file to go on at the one before it, or train into a new --out",
            )

        if found.metadata.get("recipe", self._recipe()) != self._recipe():
            raise refusal("one of another recipe or seed")
        if not ready(found.metadata):
            tell("the rollouts of the run are damaged or gone: starting from the beginning")
            return
        try:
            self._load(found.tensors, found.metadata)
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise refusal(f"{type(error).__name__}: {str(error)[:400]}") from error
        tell(f"resumed at step {self.learner.step} of {self.learner.optim.steps}")

    def _load(self, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
        state = checkpoint.unflatten_state(tensors, metadata["structure"])
        self.learner.load_state(state, metadata["step"])
        random = state["random"]
        torch.set_rng_state(random["torch"])
        self.generator.set_state(random["batches"])
        if "cuda" in random and self.job.device.startswith("cuda"):
            torch.cuda.set_rng_state(random["cuda"], self.job.device)
        self._began = time.monotonic() - float(metadata["seconds"])

    def _recipe(self) -> str:
        """Digest of the recipe and seed in the folder, which its checkpoints carry."""
        content = json.dumps(read_object(self.job.out / "recipe.json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _random_state(self) -> dict[str, torch.Tensor]:
        random = {"torch": torch.get_rng_state(), "batches": self.generator.get_state()}
        if self.job.device.startswith("cuda"):
            random["cuda"] = torch.cuda.get_rng_state(self.job.device)
        return random

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """What is done in this block counts as one: a signal waits for its end, and nothing is saved if it fails."""
        self._whole = False
        with deferred():
            yield
            self._whole = True

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            UserError: The disk is full, or the folder is gone.
        """
        self.job.held.check()
        step, earlier = self.learner.step, self.checkpoints.steps()
        random = self._random_state()
        if self._random is not None and self._random[0] == step:
            random = self._random[1]  # a step that was broken off is taken again, with the same batch
        tensors, structure = checkpoint.flatten_state(self.learner.state() | {"random": random})
        metadata = {
            "step": step,
            "seconds": self.seconds,
            "structure": structure,
            "recipe": self._recipe(),
        }
        goes_on = f"goes on at step {earlier[-1]}, whose checkpoint is whole" if earlier else "begins anew"
        with writing(f"the checkpoint of step {step}", f"make room; with --resume the run {goes_on}"):
            self.checkpoints.save(step, tensors, metadata | self.extra())

    def learn(self, batch: Callable[[], Any], samples: int) -> None:
        """A gradient step; logged, told, and saved where it is time.

        Args:
            batch: Makes the batch.
            samples: How many it holds; only their rate is told.
        """
        learner, began = self.learner, time.monotonic()
        assert self.curves is not None
        self._random = learner.step, self._random_state()
        with deferred():
            logged = learner.update(batch())
            rate = samples / max(time.monotonic() - began, 1e-9)
            self.curves.write(learner.step, logged | {"samples_per_s": rate})
        self.job.progress.learned(learner.step, learner.optim.steps, logged, rate)
        if learner.step % learner.optim.checkpoint_every == 0:
            self.save()

    def run(self, loop: Callable[[], None], frames: int = 0) -> None:
        """The training; curves go on from the present step, and an interrupt leaves a checkpoint.

        Args:
            loop: All that is left to do.
            frames: Kept before it.

        Raises:
            KeyboardInterrupt: After a checkpoint was written.
        """
        self.curves = Curves(self.job.out, self.learner.step, frames, self.job.progress.message)
        try:
            loop()
            self.save()
        except (
            KeyboardInterrupt,
            SystemExit,
            OSError,
        ):  # of what is told and drawn; a checkpoint's are a UserError
            self._interrupted()
            raise
        finally:
            self.curves.close()

    def _interrupted(self) -> None:
        text = f"interrupted at step {self.learner.step}; continue with --resume"
        if self._whole and self.learner.whole:
            self.save()
        else:
            text = f"{text}, which goes on at step {(self.checkpoints.steps() or [0])[-1]}"
        with contextlib.suppress(OSError, SystemExit):
            self.job.progress.message(text)
