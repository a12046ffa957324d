"""What every stage's training shares: its learner, checkpoints, curves and clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from countersteer.policies.weights import Weights
from countersteer.storage import checkpoint
from countersteer.storage.serialise import said_of
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
        if not ready(found.metadata):
            tell("the rollouts of the run are damaged or gone: starting from the beginning")
            return
        place = f"the checkpoint of step {found.step} in {self.checkpoints.path}"
        with said_of(place, "remove that file to go on at the one before it"):
            state = checkpoint.unflatten_state(found.tensors, found.metadata["structure"])
            self.learner.load_state(state, int(found.metadata["step"]))
            random = state["random"]
            torch.set_rng_state(random["torch"])
            self.generator.set_state(random["batches"])
            if "cuda" in random and self.job.device.startswith("cuda"):
                torch.cuda.set_rng_state(random["cuda"], self.job.device)
            self._began = time.monotonic() - float(found.metadata["seconds"])
        tell(f"resumed at step {self.learner.step} of {self.learner.optim.steps}")

    def save(self) -> None:
        """Write a checkpoint."""
        random = {"torch": torch.get_rng_state(), "batches": self.generator.get_state()}
        if self.job.device.startswith("cuda"):
            random["cuda"] = torch.cuda.get_rng_state(self.job.device)
        tensors, structure = checkpoint.flatten_state(self.learner.state() | {"random": random})
        metadata = {"step": self.learner.step, "seconds": self.seconds, "structure": structure}
        self.checkpoints.save(self.learner.step, tensors, metadata | self.extra())

    def learn(self, batch: Callable[[], Any], samples: int) -> None:
        """A gradient step; logged, told, and saved where it is time.

        Args:
            batch: Makes the batch.
            samples: How many it holds; only their rate is told.
        """
        learner, began = self.learner, time.monotonic()
        logged = learner.update(batch())
        rate = samples / (time.monotonic() - began)
        assert self.curves is not None
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
        self.curves = Curves(self.job.out, self.learner.step, frames)
        try:
            loop()
        except KeyboardInterrupt:
            self.save()
            self.job.progress.message(f"interrupted at step {self.learner.step}; continue with --resume")
            raise
        finally:
            self.curves.close()
        self.save()
