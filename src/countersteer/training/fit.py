"""Fits a model to data: the loop of training without driving, resumable at any moment."""

from __future__ import annotations

from pathlib import Path

import torch

from countersteer.errors import writing
from countersteer.policies.storage import save_model
from countersteer.training.folder import note
from countersteer.training.learner import Learner
from countersteer.training.session import Job, Session
from countersteer.training.stages import Fit

__all__ = ["train_fit"]


def train_fit(stage: Fit, job: Job) -> Path:
    """Train the model of a stage whose weights are resolved; returns its file."""
    torch.manual_seed(job.seed)
    model = stage.model.build()
    beside = stage.objective.models(stage.model)
    learner = Learner({"model": model}, beside, stage.objective, stage.optim, job.device)
    session = Session(job, learner)
    if job.resume:
        session.restore()
    environment = job.environment | {"data": stage.data.fingerprint()}
    note(job.out, environment | {"seed": job.seed}, job.weights, learner.step)

    def loop() -> None:
        while learner.step < stage.optim.steps:
            session.learn(lambda: stage.data.batch(job.seed, learner.step).to(job.device), 1)

    session.run(loop)
    finished = job.out / "model.safetensors"
    about = {"recipe": job.name, "seed": job.seed, "seconds": session.seconds, "environment": environment}
    with writing(finished, "make room, then go on with --resume; the last checkpoint is whole"):
        save_model(finished, model, stage.model, about)
    return finished
