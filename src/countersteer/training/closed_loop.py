"""The training loop, top to bottom: drive, keep, learn, repeat; resumable at any moment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from countersteer.errors import UserError, writing
from countersteer.objectives.interface import POLICY
from countersteer.policies.interface import Policy
from countersteer.policies.storage import save_policy
from countersteer.rollouts.rollout import Rollout
from countersteer.rollouts.store import RolloutStore
from countersteer.storage import serialise
from countersteer.training.collector import Collector, RolloutRequest
from countersteer.training.folder import note
from countersteer.training.learner import Learner
from countersteer.training.session import Job, Session
from countersteer.training.stages import ClosedLoop

__all__ = ["train_closed_loop"]


def train_closed_loop(stage: ClosedLoop, job: Job) -> Path:
    """Train the policy of a stage whose weights are resolved; returns its file."""
    torch.manual_seed(job.seed)
    policy = _begin(stage, job.name)
    actors = job.collector(stage, job.seed, job.actor_device)
    try:
        _draw_as_before(job)
        beside = stage.objective.models(stage.policy)
        learner = Learner({POLICY: policy}, beside, stage.objective, stage.optim, job.device)
        loop = _Loop(stage, job, policy, actors, learner)
        if job.resume:
            loop.session.restore(loop.load)
        environment = job.environment | {"scenarios": actors.fingerprints()}
        note(job.out, environment | {"seed": job.seed}, job.weights, learner.step)
        loop.session.run(loop.run, loop.store.frames)
    finally:
        actors.close()
    finished = job.out / "policy.safetensors"
    with writing(finished, "make room, then go on with --resume; the last checkpoint is whole"):
        save_policy(finished, policy, job.name, job.seed, loop.session.seconds, environment)
    loop.store.remove()
    return finished


def _draw_as_before(job: Job) -> None:
    """Draw what reading the weights of drivers and experts once drew, so that runs keep their numbers."""
    used = {each.digest: each for place, each in job.weights.items() if place != "init_from"}
    for each in used.values():
        each.policy().spec.build()


class _Loop:
    def __init__(self, stage: ClosedLoop, job: Job, policy: Policy, actors: Collector, learner: Learner):
        self.stage, self.job, self.policy, self.actors, self.learner = stage, job, policy, actors, learner
        self.store = RolloutStore(job.out / "rollouts", stage.rollouts.buffer_iterations)
        self.session = Session(job, learner, lambda: {"rounds": self.store.sizes})

    def load(self, metadata: dict[str, Any]) -> bool:
        """Read the rollouts of a checkpoint; False where they are gone."""
        sizes = metadata.get("rounds")
        if not isinstance(sizes, list):
            return False
        template = self.actors.collect(RolloutRequest(0, 1, 0.0, 0, self.learner.weights()))
        learned = bool(sizes) and metadata["step"] >= self._steps_after(len(sizes) - 1)
        return self.store.load(sizes, template, learned=learned)

    def run(self) -> None:
        """All iterations that are left."""
        stage, store, learner = self.stage, self.store, self.learner
        size, length = stage.optim.batch_size, stage.optim.sequence_length

        def batch() -> Any:
            sequences = store.sample(self.session.generator, size, length).to(self.job.device)
            return stage.objective.prepare(sequences)

        for number in range(stage.rollouts.iterations):
            last = self._steps_after(number)
            if learner.step >= last and number < store.rounds:
                continue
            if number >= store.rounds:
                self._collect(number)
            while learner.step < last:
                self.session.learn(batch, size * length)

    def _collect(self, number: int) -> None:
        stage, store, learner = self.stage, self.store, self.learner
        began = time.monotonic()
        request = RolloutRequest.of_iteration(stage, number, learner.step, learner.weights())
        rollout = self.actors.collect(request)
        outcomes = rollout.outcomes()
        # Gradient steps since the weights that drove; more than 0 where actors did not wait.
        stale = float(learner.step - int(rollout.policy_version.min()))
        assert self.session.curves is not None
        with self.session.at_once():
            if number == 0 and stage.init_from is None:
                self._calibrate(rollout)
            with writing(f"round {number}", "make room, then go on with --resume; the checkpoints are whole"):
                store.add(rollout)
            collected = {"frames": float(store.frames), "staleness": stale, **outcomes}
            self.session.curves.write(learner.step, collected, whole=True)
        seconds = time.monotonic() - began
        self.job.progress.collected(number, stage.rollouts.iterations, store.frames, seconds, outcomes)
        self.session.save()

    def _calibrate(self, rollout: Rollout) -> None:
        """Let the policy look at the first data once (for example for its mean image), where the data are."""
        self.policy.to(rollout.alive.device).calibrate(rollout.observation)
        self.policy.to(self.job.device)

    def _steps_after(self, number: int) -> int:
        """Gradient steps that have been taken when iteration `number` is over."""
        rollouts, steps = self.stage.rollouts, self.stage.optim.steps
        if number == rollouts.iterations - 1:
            return steps
        return round(steps * (1 - rollouts.final_learning_share) * (number + 1) / (rollouts.iterations - 1))


def _begin(stage: ClosedLoop, name: str) -> Policy:
    """The policy before training, with drawn weights or those that the stage begins with."""
    policy = stage.policy.build()
    if stage.init_from is not None:
        begun = stage.init_from.policy()
        changed = serialise.differences(serialise.to_json(begun.spec), serialise.to_json(stage.policy))
        if changed:
            raise UserError(
                f"recipe {name!r} cannot begin with the weights of {stage.init_from.path}",
                got="; ".join(changed[:8]),
                expected="a policy of the same description",
                fix="set `policy` to that run's, or choose another `init_from`",
            )
        policy.load_state_dict(begun.state_dict())
    return policy
