"""Fits a model to data: the loop of training without driving, resumable at any moment."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from countersteer.errors import UserError, writing
from countersteer.policies.storage import save_model
from countersteer.training.folder import note
from countersteer.training.learner import Learner
from countersteer.training.session import Job, Session
from countersteer.training.stages import Fit, Preparing

__all__ = ["train_fit"]


def train_fit(stage: Fit, job: Job) -> Path:
    """Train the model of a stage whose weights are resolved; returns its file."""
    torch.manual_seed(job.seed)
    model = stage.model.build()
    _begin(stage, model)
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


def _begin(stage: Fit, model: nn.Module) -> None:
    """Put into a new model what it begins with: weights, or what the data give it."""
    if stage.init_from is None:
        if isinstance(stage.data, Preparing):
            stage.data.prepare(model)
        return
    begun = stage.init_from.model().state_dict()
    own = {name: value.shape for name, value in model.state_dict().items()}
    if {name: value.shape for name, value in begun.items()} != own:
        raise UserError(
            f"the stage {stage.name!r} cannot begin with {stage.init_from.path}",
            got="weights of another model",
            expected=f"those of {stage.model}",
            fix="give weights of the same model, or leave `init_from` out",
        )
    model.load_state_dict(begun)
