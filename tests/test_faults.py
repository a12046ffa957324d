"""Faults of training: each ends in a message, leaves whole checkpoints, and the run that goes on is the one that never failed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import test_stages
import tiny_recipe
from countersteer import interrupts
from countersteer.commands import cli
from countersteer.errors import UserError
from countersteer.recipes.closed_loop import on_policy
from countersteer.reporting import run_report
from countersteer.storage import checkpoint, locks
from countersteer.storage.checkpoint import CheckpointFolder
from countersteer.training import folder, session
from countersteer.training.learner import Learner
from countersteer.training.recipe import Recipe
from countersteer.training.run import Progress, train
from countersteer.training.side_by_side import Run, train_side_by_side
from countersteer.training.stages import Fit, OptimSpec, RolloutSpec
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.world import World
from test_stages import Line, LinearSpec, Squares

HERE = Path(__file__).parent
OPTIM = OptimSpec(steps=12, learning_rate=0.05, weight_decay=0.0, checkpoint_every=4)
LINE = Recipe.of(Fit("line", Line(4), LinearSpec(), Squares(), OPTIM))


class Told(Progress):
    """Remembers messages, and does something at a step."""

    def __init__(self, step: int = 0, act: Callable[[], object] = lambda: None):
        self.step, self.act = step, act
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
        if step == self.step:
            self.act()


def weights(file: Path) -> dict[str, Tensor]:
    return checkpoint.load(file)[0]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def go_on(run: Path, recipe: Recipe = LINE) -> tuple[dict[str, Tensor], list[str]]:
    """Weights and messages of a run that is resumed."""
    told = Told()
    return weights(train(recipe, run, seed=1, resume=True, progress=told)), told.messages


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Tensor]:
    return weights(train(LINE, tmp_path_factory.mktemp("whole") / "run", seed=1))


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run with checkpoints of steps 4 and 6."""
    with pytest.raises(KeyboardInterrupt):
        train(LINE, tmp_path / "run", seed=1, progress=Told(6, interrupt))
    return tmp_path / "run"


def interrupt() -> None:
    raise KeyboardInterrupt


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@contextlib.contextmanager
def failing(place: Any, name: str, call: int, fault: Callable[[], object], after: bool = False):
    """One call of a function, counted from 1, meets a fault before it does its work, or after."""
    real, count = getattr(place, name), 0

    def function(*given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == call and not after:
            fault()
        answer = real(*given, **named)
        if count == call and after:
            fault()
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, function)
        yield


# --- faults of what learns, drives and is driven in -----------------------------------------------

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
ALLOCATOR = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
CUDA = "CUDA out of memory. Tried to allocate 9 GiB"
FAULTS: dict[str, tuple[Any, str, int, BaseException, type[BaseException], str]] = {
    "the objective raises": (Squares, "losses", 7, ZeroDivisionError("mine"), ZeroDivisionError, "mine"),
    "the data raise": (Line, "batch", 7, FileNotFoundError("gone"), FileNotFoundError, "gone"),
    "memory of the CPU": (Squares, "losses", 7, RuntimeError(ALLOCATOR), UserError, "not enough memory"),
    "memory of Python": (Line, "batch", 7, MemoryError(), UserError, "not enough memory"),
    "memory of a GPU": (Squares, "losses", 7, torch.OutOfMemoryError(CUDA), UserError, "not enough memory"),
    "disk full, a checkpoint is written": (os, "fsync", 7, FULL, UserError, "goes on at step 4"),
    "disk full, a checkpoint gets its name": (os, "replace", 4, FULL, UserError, "at step 4"),
    "disk full, the first checkpoint": (checkpoint, "save", 1, FULL, UserError, "the run begins anew"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_on_the_way_costs_the_steps_since_the_last_checkpoint(whole, tmp_path, name):
    place, function, call, error, kind, said = FAULTS[name]
    with failing(place, function, call, raising(error)), pytest.raises(kind, match=said):
        train(LINE, tmp_path / "run", seed=1)
    assert not [each for each in (tmp_path / "run").rglob("*") if each.name.startswith(".")]
    assert same(go_on(tmp_path / "run")[0], whole)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(whole, tmp_path, value):
    losses, calls = Squares.losses, []

    def bad(self, models, batch):
        calls.append(1)
        return losses(self, models, batch * (value if len(calls) == 6 else 1.0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Squares, "losses", bad)
        with pytest.raises(UserError, match="has diverged at step 5"):
            train(LINE, tmp_path / "run", seed=1)
    found = CheckpointFolder(tmp_path / "run" / "checkpoints").latest()
    assert found is not None
    assert found.step == 4
    assert all(bool(each.isfinite().all()) for each in found.tensors.values() if each.is_floating_point())
    assert same(go_on(tmp_path / "run")[0], whole)


DRIVEN = tiny_recipe.tiny().replace(
    rollouts=RolloutSpec(iterations=2, total_frames=24, num_worlds=3),
    optim=OptimSpec(steps=4, batch_size=2, sequence_length=4, warmup=1, checkpoint_every=1),
)


@pytest.fixture(scope="module")
def driven(tmp_path_factory) -> dict[str, Tensor]:
    return weights(train(DRIVEN, tmp_path_factory.mktemp("driven") / "run", seed=1))


@pytest.mark.parametrize(("place", "function"), [(World, "step"), (type(on_policy().stage.driver), "act")])
def test_a_world_or_a_driver_that_raises(driven, tmp_path, place, function):
    with (
        failing(place, function, 9, raising(ArithmeticError("mine"))),
        pytest.raises(ArithmeticError, match="mine"),
    ):
        train(DRIVEN, tmp_path / "run", seed=1)
    assert same(go_on(tmp_path / "run", DRIVEN)[0], driven)


def test_a_drive_whose_action_is_not_a_number_is_data_and_the_others_go_on(tmp_path):
    """Its cause is kept with the rollout; no exception ends the batch."""
    step, causes = World.step, []

    def one_fails(self, action):
        nan = torch.full_like(action.curvature, torch.nan)
        bad = (torch.arange(len(nan)) == 1)[:, None] & (len(causes) == 4)
        events = step(self, dataclasses.replace(action, curvature=torch.where(bad, nan, action.curvature)))
        causes.append(events.cause[:, 0].tolist())
        return events

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "step", one_fails)
        found = weights(train(DRIVEN, tmp_path / "run", seed=1))
    assert causes[4] == [0, int(TerminationReason.INVALID_STATE), 0]
    assert all(bool(each.isfinite().all()) for each in found.values() if each.is_floating_point())


def test_observations_that_are_not_numbers_are_named(tmp_path):
    observe = World.observe

    def blind(self, *given: Any) -> Any:
        seen = observe(self, *given)
        return dataclasses.replace(
            seen, motion=dataclasses.replace(seen.motion, speed=seen.motion.speed * torch.nan)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "observe", blind)
        with pytest.raises(UserError, match=r"has diverged at step 0(.|\n)*not finite themselves: .*speed"):
            train(DRIVEN, tmp_path / "run", seed=1)


@pytest.mark.parametrize("function", ["safetensors", "rounds"])
def test_a_disk_that_is_full_when_a_round_is_kept(driven, tmp_path, monkeypatch, function):
    from safetensors import SafetensorError

    from countersteer.rollouts import store

    error = SafetensorError("Error while serializing: I/O error: No space left on device") if function == "safetensors" else FULL  # fmt: skip
    name = "save_file" if function == "safetensors" else "os"
    monkeypatch.setattr(store, name, raising(error) if name == "save_file" else Full())
    with pytest.raises(UserError, match="round 0 cannot be written"):
        train(DRIVEN, tmp_path / "run", seed=1)
    monkeypatch.undo()
    assert same(go_on(tmp_path / "run", DRIVEN)[0], driven)


class Full:
    """An `os` whose disk is full."""

    replace = staticmethod(raising(FULL))


# --- the folder of a run --------------------------------------------------------------------------


def test_a_folder_that_is_removed_meanwhile_is_not_made_anew(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"was removed or replaced .*\n.*no folder of this name"):
        train(LINE, run, seed=1, progress=Told(6, lambda: shutil.rmtree(run)))
    assert not run.exists()


def test_a_folder_that_another_run_got_meanwhile_is_left_to_it(whole, tmp_path):
    run, other = tmp_path / "run", []

    def replace() -> None:
        shutil.rmtree(run)
        other.append(train(LINE, run, seed=1))

    with pytest.raises(UserError, match=r"another folder of this name"):
        train(LINE, run, seed=2, progress=Told(6, replace))
    assert same(weights(other[0]), whole)
    assert {found.name for found in (run / "checkpoints").iterdir()} == {
        f"step_{step:08d}.safetensors" for step in (4, 8, 12)
    }


def test_places_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="cannot be written"):
            train(LINE, place, seed=1)
    (tmp_path / "lock" / locks.LOCK).mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be written"):
        train(LINE, tmp_path / "lock", seed=1)
    monkeypatch.setattr(locks.os, "open", raising(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    with pytest.raises(UserError, match="cannot be written") as told:
        train(LINE, tmp_path / "run", seed=1)
    assert "Read-only" in str(told.value)


def test_a_disk_that_is_full_for_curves(whole, tmp_path, monkeypatch):
    class OnAFullDisk(folder.Curves):
        def __init__(self, *given: Any):
            super().__init__(*given)
            self.file.close()
            self.file = Path("/dev/full").open("w")  # noqa: SIM115

    monkeypatch.setattr(session, "Curves", OnAFullDisk)
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be written"):
        train(LINE, tmp_path / "run", seed=1)
    monkeypatch.undo()
    assert same(go_on(tmp_path / "run")[0], whole)


def test_tensorboard_that_cannot_write_does_not_stop_a_run(whole, tmp_path):
    (tmp_path / "run").mkdir()
    told = Told()
    with failing(session, "Curves", 1, lambda: (tmp_path / "run" / "tensorboard").write_text("a file")):
        file = train(LINE, tmp_path / "run", seed=1, progress=told)
    assert same(weights(file), whole)
    assert any("no more curves for TensorBoard" in text for text in told.messages)
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 2  # of step 1 and of step 10


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"recipe": 1}', "\xff", "[" * 100_000, "null"])
def test_a_torn_recipe_is_refused(begun, content):
    (begun / "recipe.json").write_text(content, "latin-1")
    with pytest.raises(UserError, match="damaged"):
        go_on(begun)


def test_a_torn_run_json_is_refused_and_a_torn_curve_is_not(whole, begun):
    for content in ("", '{"weights": {', "[1]"):
        saved = (begun / "run.json").read_text()
        (begun / "run.json").write_text(content)
        with pytest.raises(UserError, match=r"run\.json is damaged"):
            go_on(begun)
        (begun / "run.json").write_text(saved)
    (begun / "metrics.jsonl").write_bytes(b'{"step": 1}\n[1]\n\xff\n{"st')
    assert same(go_on(begun)[0], whole)
    assert '{"step": 1}\n{"step": 10' in (begun / "metrics.jsonl").read_text()


def changed(run: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], None]) -> None:
    """The newest checkpoint with another content, under a right check sum."""
    file = sorted((run / "checkpoints").iterdir())[-1]
    tensors, metadata = checkpoint.load(file)
    change(tensors, metadata)
    checkpoint.save(file, tensors, metadata)


def to_double(tensors: dict[str, Tensor], _: dict[str, Any]) -> None:
    tensors |= {name: each.double() for name, each in tensors.items() if each.is_floating_point()}


def to_half(tensors: dict[str, Tensor], _: dict[str, Any]) -> None:
    tensors |= {name: each.half() for name, each in tensors.items() if each.is_floating_point()}


def wider(tensors: dict[str, Tensor], _: dict[str, Any]) -> None:
    tensors |= {name: torch.zeros(3, 3) for name, each in tensors.items() if each.shape == (1, 1)}


@pytest.mark.parametrize(
    "change",
    [
        *(to_double, to_half, wider),
        lambda tensors, _: tensors.pop(min(tensors)),
        lambda _, metadata: metadata.pop("structure"),
        lambda _, metadata: metadata.pop("step"),
        lambda _, metadata: metadata.update(structure={"dict": [["models", {"dict": []}]]}),
        lambda _, metadata: metadata.update(recipe="another"),
        lambda _, metadata: metadata.update(seconds="long"),
    ],
)
def test_a_checkpoint_that_is_not_of_this_run_is_refused_and_named(whole, begun, change):
    changed(begun, change)
    with pytest.raises(UserError, match=r"checkpoint of step 6 .* is not of this run") as told:
        go_on(begun)
    assert "one before it" in str(told.value.fix)
    (begun / "checkpoints" / "step_00000006.safetensors").unlink()
    assert same(go_on(begun)[0], whole)


def test_a_checkpoint_of_another_recipe_is_refused(begun, tmp_path):
    other = Recipe.of(dataclasses.replace(LINE.stages[0], data=Line(8)))  # type: ignore[type-var]
    with pytest.raises(KeyboardInterrupt):
        train(other, tmp_path / "other", seed=1, progress=Told(7, interrupt))
    shutil.copy(tmp_path / "other" / "checkpoints" / "step_00000007.safetensors", begun / "checkpoints")
    with pytest.raises(UserError, match=r"step 7 .* is not of this run"):
        go_on(begun)


def test_checkpoints_of_before_they_named_their_recipe_are_read(whole, begun):
    changed(begun, lambda _, metadata: metadata.pop("recipe"))
    found, told = go_on(begun)
    assert same(found, whole)
    assert "resumed at step 6 of 12" in told


def test_weights_that_are_missing_leave_nothing_behind(tmp_path):
    stage = dataclasses.replace(DRIVEN.stage, init_from=test_stages.Weights(str(tmp_path / "gone")))
    with pytest.raises(UserError, match="holds no finished policy"):
        train(DRIVEN.replace(init_from=stage.init_from), tmp_path / "run", seed=1)
    assert not (tmp_path / "run").exists()


# --- two at once ----------------------------------------------------------------------------------


def test_a_second_training_in_a_folder_is_refused_and_the_first_goes_on(whole, tmp_path):
    run, said = tmp_path / "run", []

    def second() -> None:
        with pytest.raises(UserError, match="is in use") as told:
            train(LINE, run, seed=1, resume=True)
        said.append(str(told.value))

    assert same(weights(train(LINE, run, seed=1, progress=Told(6, second))), whole)
    assert f"process {os.getpid()} on " in said[0]
    assert not (run / locks.LOCK).exists()


HOLDER = """
import sys, time
from countersteer.storage.locks import holding
with holding(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(HERE.parent / "src")}


def test_a_lock_ends_with_a_killed_holder(whole, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")], env=environment(), stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"process {other.pid} on ") as told:
            train(LINE, tmp_path / "run", seed=1)
        assert "since 20" in str(told.value)
        other.kill()
    assert (tmp_path / "run" / locks.LOCK).exists()
    assert same(weights(train(LINE, tmp_path / "run", seed=1)), whole)


@pytest.mark.parametrize("content", ["", '{"process": 1, "host": "here", "since": "now"}', "{", "[1]"])
def test_a_file_that_was_left_behind_blocks_nobody_and_a_torn_one_still_does(tmp_path, content):
    (tmp_path / locks.LOCK).write_text(content)
    with locks.holding(tmp_path):
        (tmp_path / locks.LOCK).write_text(content)
        with pytest.raises(UserError, match="another process works in it"), locks.holding(tmp_path):
            pass
    assert not any(tmp_path.iterdir())


def test_a_disk_without_locks_is_told_and_gone_on_with(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(locks.fcntl, "flock", raising(OSError(errno.ENOLCK, "No locks available")))
    told = Told()
    assert same(weights(train(LINE, tmp_path / "run", seed=1, progress=told)), whole)
    assert "no locks on this disk (No locks available)" in told.messages[0]


def test_a_folder_made_for_nothing_is_removed_again(tmp_path):
    with pytest.raises(ZeroDivisionError), locks.holding(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a" / "b").exists()


# --- being stopped --------------------------------------------------------------------------------

POINTS: dict[str, tuple[Any, str, int, bool]] = {
    "before there is a model": (LinearSpec, "build", 1, False),
    "before the first checkpoint": (Line, "batch", 2, False),
    "a batch is made": (Line, "batch", 6, True),
    "the loss is there": (Squares, "losses", 6, True),
    "in the middle of a step": (torch.optim.AdamW, "step", 6, False),
    "weights have changed": (torch.optim.AdamW, "step", 6, True),
    "a step is done": (Learner, "update", 6, True),
    "curves are written": (folder.Curves, "write", 6, False),
    "a checkpoint is written": (checkpoint.os, "fsync", 7, False),
    "a checkpoint is there": (CheckpointFolder, "save", 2, True),
    "the last checkpoint": (CheckpointFolder, "save", 3, False),
    "the file of the model": (checkpoint, "save", 5, False),
}


@pytest.mark.parametrize("how", ["raised", "signal"])
@pytest.mark.parametrize("name", POINTS)
def test_a_run_interrupted_anywhere_goes_on_as_if_it_had_not_been(whole, tmp_path, name, how):
    place, function, call, after = POINTS[name]
    fault = interrupt if how == "raised" else lambda: signal.raise_signal(signal.SIGTERM)
    with failing(place, function, call, fault, after), pytest.raises(KeyboardInterrupt):
        train(LINE, tmp_path / "run", seed=1)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not (tmp_path / "run" / "model.safetensors").exists()
    found, told = go_on(tmp_path / "run")
    assert same(found, whole)
    if how == "signal" and call == 6:  # no step is lost to a signal, wherever it comes
        assert "resumed at step 6 of 12" in told


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_the_command_saves_says_how_to_go_on_and_answers_with_the_signal(tmp_path, capsys, number, code):
    words = ["train", f"{HERE / 'tiny_recipe.py'}:tiny", "--out", str(tmp_path / "run"), "--seed", "3"]
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # where tests run in the background it is ignored
    with failing(Learner, "update", 6, lambda: signal.raise_signal(number)):
        assert cli.main(words) == code
    said = capsys.readouterr().out
    assert "interrupted at step 6; continue with --resume" in said
    assert f"next: countersteer {' '.join(words)} --resume" in said
    assert CheckpointFolder(tmp_path / "run" / "checkpoints").steps()[-1] == 6


STUBBORN = """
import time
from countersteer.interrupts import stoppable
with stoppable():
    for _ in range(2):
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.2)
"""


def test_signals_sent_twice_count_once_and_a_second_one_ends_at_once():
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], env=environment(), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        process.terminate()  # as `timeout` does
        assert process.stdout.readline() == b"ready\n"
        time.sleep(interrupts._APART)
        process.terminate()
        assert process.wait(10) == 143


def test_handlers_of_others_stay(monkeypatch):
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with interrupts.stoppable():
            assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError(errno.ENOSPC, "No space left"), SystemExit(1)],
)
def test_a_closed_or_full_output_ends_a_run_as_an_interrupt_does(whole, tmp_path, error):
    with pytest.raises(type(error)):
        train(LINE, tmp_path / "run", seed=1, progress=Told(6, raising(error)))
    found, told = go_on(tmp_path / "run")
    assert same(found, whole)
    assert "resumed at step 6 of 12" in told


def test_a_command_whose_reader_is_gone_ends_without_a_word():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "countersteer", "extensions"],
        env=environment(), stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=120,
    )  # fmt: skip
    os.close(write)
    assert done.returncode in (1, 141)  # of Rich, or ours
    assert done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_ended_is_named(tmp_path, number):
    """By somebody else than the process that began it, such as the kernel for lack of memory."""

    class Ending(Progress):
        def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
            if step == 2:
                for child in multiprocessing.active_children():
                    assert child.pid is not None
                    os.kill(child.pid, number)

    said = "was killed" if number is signal.SIGKILL else "was stopped"
    with pytest.raises(UserError, match=f"training of run {said}"):
        train_side_by_side([Run(tiny_recipe.long(), tmp_path / "run", 0)], 1, lambda _: Ending())


@pytest.mark.parametrize("clock", ["backwards", "still"])
def test_a_clock_that_goes_backwards_changes_nothing(whole, tmp_path, monkeypatch, clock):
    now = [1e9]

    def tick() -> float:
        now[0] -= 3600.0 if clock == "backwards" else 0.0
        return now[0]

    monkeypatch.setattr(session.time, "monotonic", tick)
    with pytest.raises(KeyboardInterrupt):
        train(LINE, tmp_path / "run", seed=1, progress=Told(6, interrupt))
    assert same(go_on(tmp_path / "run")[0], whole)


# Each child dies, as by a kill, in one call of a function; the parent goes on with its run and compares.
KILLS = """
import json, os, sys, torch
from pathlib import Path
import test_faults as t
torch.set_num_threads(1)
from countersteer.rollouts import store
from countersteer.training import closed_loop, fit, folder
out, recipe = Path(sys.argv[1]), getattr(t, sys.argv[2])
places = {"checkpoint": t.checkpoint, "os": os, "folder": folder, "learner": t.Learner, "store": store.RolloutStore,
          "shutil": store.shutil, "world": t.World, "curves": folder.Curves, "fit": fit, "loop": closed_loop}
children = []
for number, (place, name, call, after) in enumerate(json.loads(sys.argv[3])):
    children.append((number, place, name, call, after))
whole = None
for number, place, name, call, after in children:
    child = os.fork()
    if child == 0:
        with t.failing(places[place], name, call, lambda: os._exit(9), after):
            t.train(recipe, out / str(number), seed=1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    whole = whole or t.weights(t.train(recipe, out / "whole", seed=1))
    found, told = t.go_on(out / str(number), recipe)
    print(place, name, call, after, code, t.same(found, whole), flush=True)
"""
KILLED_FIT = [
    *(("folder", "write_json", 1, False), ("folder", "write_json", 1, True), ("fit", "note", 1, True)),
    *(("learner", "update", 2, True), ("checkpoint", "save", 1, False), ("checkpoint", "save", 1, True)),
    *(("learner", "update", 6, True), ("os", "replace", 4, False), ("os", "replace", 4, True)),
    *(("curves", "write", 7, True), ("fit", "save_model", 1, False)),
]
KILLED_DRIVE = [
    *(("world", "step", 3, False), ("store", "_write", 1, False), ("store", "_write", 1, True)),
    *(("checkpoint", "save", 1, False), ("checkpoint", "save", 1, True), ("learner", "update", 1, True)),
    *(("checkpoint", "save", 2, True), ("learner", "update", 3, True), ("store", "add", 2, True)),
    *(("loop", "save_policy", 1, False), ("loop", "save_policy", 1, True), ("store", "remove", 1, False)),
]


def killed(tmp_path: Path, recipe: str, points: list[tuple[str, str, int, bool]]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path), recipe, json.dumps(points)],
        cwd=HERE, env=environment() | {"PYTHONPATH": f"{HERE.parent / 'src'}{os.pathsep}{HERE}"},
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.endswith(("True", "False"))]
    assert len(lines) == len(points)
    for line in lines:
        assert line[-2:] == ["9", "True"], line


def test_kills_before_and_after_checkpoints_change_nothing(tmp_path):
    killed(tmp_path, "LINE", KILLED_FIT)


@pytest.mark.slow
def test_kills_while_it_drives_change_nothing(tmp_path):
    killed(tmp_path, "DRIVEN", KILLED_DRIVE)


# --- what run.json keeps --------------------------------------------------------------------------


def test_every_part_of_a_run_keeps_its_commit_and_machine(whole, begun):
    content = json.loads((begun / "run.json").read_text())
    assert [part["step"] for part in content["parts"]] == [0]
    content["parts"][0] |= {"commit": "a" * 40, "processor": "another"}
    (begun / "run.json").write_text(json.dumps(content))
    found, told = go_on(begun)
    assert same(found, whole)
    assert any("the code has changed" in text and "commit aaaaaaaaaaaa -> " in text for text in told)
    assert any("the machine has changed" in text and "processor another -> " in text for text in told)
    after = json.loads((begun / "run.json").read_text())
    assert [part["step"] for part in after["parts"]] == [0, 6]
    assert [part["processor"] for part in after["parts"]] == ["another", after["processor"]]
    said = run_report._of_parts(after, lambda part: part["processor"])
    assert said == f"another, then {after['processor']} from step 6"


def test_a_run_json_of_before_there_were_parts_is_one(whole, begun):
    content = json.loads((begun / "run.json").read_text())
    del content["parts"], content["code"], content["began"]
    content["countersteer"] = "0.1"
    (begun / "run.json").write_text(json.dumps(content))
    found, told = go_on(begun)
    assert same(found, whole)
    assert any("countersteer 0.1 -> " in text for text in told)
    parts = json.loads((begun / "run.json").read_text())["parts"]
    assert parts[0]["countersteer"] == "0.1"
    assert len(parts) == 2


def test_nothing_is_said_where_nothing_has_changed(begun):
    assert not [text for text in go_on(begun)[1] if "changed" in text]
