"""A run that was interrupted, killed or damaged ends as the one that never was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import tiny_recipe
from countersteer.commands import cli
from countersteer.errors import UserError
from countersteer.storage import checkpoint
from countersteer.training.run import Progress, train

HERE = Path(__file__).parent


class Stop(Progress):
    """Interrupts a run after a step, as Ctrl-C would, and remembers what it was told."""

    def __init__(self, after: int | None = None):
        self.after = after
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
        if step == self.after:
            raise KeyboardInterrupt


def weights(file: Path) -> dict[str, torch.Tensor]:
    tensors, _ = checkpoint.load(file)
    return tensors


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, torch.Tensor]:
    """Weights of the tiny recipe, trained without a break."""
    return weights(train(tiny_recipe.tiny(), tmp_path_factory.mktemp("whole") / "run", seed=3))


@pytest.mark.parametrize("after", [1, 7, 15, 24])
def test_resumed_equals_uninterrupted(whole, tmp_path, after):
    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe.tiny(), tmp_path / "run", seed=3, progress=Stop(after))
    assert not (tmp_path / "run" / "policy.safetensors").exists()
    told = Stop()
    assert_same(
        whole, weights(train(tiny_recipe.tiny(), tmp_path / "run", seed=3, resume=True, progress=told))
    )
    assert f"resumed at step {after} of 24" in told.messages


def test_another_seed_is_another_policy(whole, tmp_path):
    other = weights(train(tiny_recipe.tiny(), tmp_path / "run", seed=4))
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


def test_a_checkpoint_cut_short_is_said_and_the_one_before_used(whole, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe.tiny(), run, seed=3, progress=Stop(15))
    newest = sorted((run / "checkpoints").glob("step_*"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    told = Stop()
    assert_same(whole, weights(train(tiny_recipe.tiny(), run, seed=3, resume=True, progress=told)))
    assert any("skipped the damaged checkpoint" in text and newest.name in text for text in told.messages)
    assert any("resumed at step 14 of 24" in text for text in told.messages)


def test_with_every_checkpoint_damaged_nothing_is_thrown_away(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe.tiny(), run, seed=3, progress=Stop(9))
    for file in (run / "checkpoints").glob("step_*"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint"):
        train(tiny_recipe.tiny(), run, seed=3, resume=True)
    assert any((run / "rollouts").iterdir())


def test_control_c_saves_and_exits_130(tmp_path, capsys, monkeypatch):
    from countersteer.training import learner

    update = learner.Learner.update

    def interrupted(self, batch):
        if self.step == 9:
            raise KeyboardInterrupt
        return update(self, batch)

    arguments = ["train", f"{HERE / 'tiny_recipe.py'}:tiny", "--out", str(tmp_path / "run"), "--seed", "3"]
    monkeypatch.setattr(learner.Learner, "update", interrupted)
    assert cli.main(arguments) == 130
    assert "interrupted at step 9" in capsys.readouterr().out
    monkeypatch.undo()
    assert cli.main([*arguments, "--resume"]) == 0
    assert "resumed at step 9 of 24" in capsys.readouterr().out


def test_a_kill_at_any_moment_loses_only_the_work_since_the_last_checkpoint(tmp_path):
    """The process is killed twice, wherever it happens to be; what is left can always be resumed."""
    run = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "countersteer", "train", f"{HERE / 'tiny_recipe.py'}:long"),
        *("--out", str(run), "--seed", "3"),
    ]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "src")}

    def steps() -> int:
        found = checkpoint.CheckpointFolder(run / "checkpoints").latest()
        return found.step if found is not None else 0

    reached = 0
    for attempt in range(2):
        process = subprocess.Popen(
            command + ["--resume"] * attempt,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while steps() < reached + 40 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.037)  # somewhere between two checkpoints, or in the middle of one
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert steps() >= reached + 40
        reached = steps()
    told = Stop(after=reached + 1)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe.long(), run, seed=3, resume=True, progress=told)
    assert any(f"resumed at step {reached} of 3000" in text for text in told.messages)
