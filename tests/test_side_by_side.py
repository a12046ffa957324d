"""Runs trained side by side are the runs they would have been alone, and stop together."""

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
from countersteer.errors import UserError
from countersteer.storage import checkpoint
from countersteer.training.run import Progress, train
from countersteer.training.side_by_side import Run, train_side_by_side

SCRIPT = """
import signal
import sys
from pathlib import Path
import tiny_recipe
from countersteer.training.run import Progress
from countersteer.training.side_by_side import Run, train_side_by_side

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background it is ignored
    runs = [Run(tiny_recipe.long(), Path(sys.argv[1]) / f"run-{seed}", seed) for seed in (0, 1, 2)]
    try:
        train_side_by_side(runs, 2, lambda name: Progress())
    except KeyboardInterrupt:
        raise SystemExit(130)
"""


class Told(Progress):
    def __init__(self, name: str, lines: list[tuple[str, int]]):
        self.name, self.lines = name, lines

    def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
        self.lines.append((self.name, step))


def test_every_run_is_what_it_would_be_alone_and_goes_on_where_it_stopped(tmp_path):
    recipe = tiny_recipe.tiny()
    runs = [Run(recipe, tmp_path / f"run-{seed}", seed) for seed in range(3)]
    interrupted = Told("", [])

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    interrupted.learned = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        train(recipe, runs[1].out, seed=1, progress=interrupted)
    lines: list[tuple[str, int]] = []
    finished: list[Run] = []
    train_side_by_side(runs, 2, lambda name: Told(name, lines), finished.append)
    assert sorted(run.seed for run in finished) == [0, 1, 2]
    steps = {name: [step for who, step in lines if who == name] for name, _ in lines}
    assert steps == {
        "run-0": list(range(1, 25)),
        "run-1": list(range(2, 25)),
        "run-2": list(range(1, 25)),
    }
    before = torch.get_num_threads()
    torch.set_num_threads(max((os.cpu_count() or 1) // 2, 1))
    alone, _ = checkpoint.load(train(recipe, tmp_path / "alone", seed=1))
    torch.set_num_threads(before)
    together, _ = checkpoint.load(runs[1].out / "policy.safetensors")
    assert all(torch.equal(alone[name], together[name]) for name in alone)


def test_a_run_that_cannot_be_trained_is_named(tmp_path):
    recipe = tiny_recipe.tiny()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"run: .*exists already"):
        train_side_by_side([Run(recipe, tmp_path / "run", 0)], 1, lambda name: Progress())
    with pytest.raises(UserError, match="at least 1"):
        train_side_by_side([Run(recipe, tmp_path / "other", 0)], 0, lambda name: Progress())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ctrl_c_and_a_kill_leave_checkpoints_and_no_process_behind(tmp_path, how):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=Path(__file__).parent, start_new_session=True
    )
    began = [tmp_path / f"run-{seed}" / "checkpoints" for seed in (0, 1)]
    until = time.monotonic() + 120
    while not all(any(folder.glob("step_*")) for folder in began):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    if how is signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
        assert process.wait(60) == 130
    elif how is signal.SIGTERM:
        process.terminate()  # as a scheduler does, this process alone
        assert process.wait(60) == 130
    else:
        process.kill()
        process.wait(10)
    until = time.monotonic() + 60
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < until, "a worker was left behind"
        time.sleep(0.1)
    assert not (tmp_path / "run-2").exists()
    for folder in began:
        found = checkpoint.CheckpointFolder(folder).latest()
        assert found is not None
        assert not found.warnings
