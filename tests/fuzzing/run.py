"""Runs mutations of a format in a process of its own, under a cap of memory and time.

A mutation is a function of seed, format and number and of nothing else. The process reads many, one after the other; where
one ends or stalls it, another process goes on behind it. What is bad is looked at twice: a slow machine is no hang.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import re
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.answers import SOURCE, Answer, answer
from fuzzing.containers import bomb, mutated
from fuzzing.formats import Format

BATCH = 400
"""Mutations that a process reads before another takes over."""

_ROOMY = 16
_WALL = 10


@dataclass(frozen=True)
class Caps:
    """What a reader may use for a file.

    Attributes:
        seconds: Of processor time; of time on the wall ten times as much, for a busy machine is no hang.
        memory: Beyond what the process had before [bytes].
        reserved: Of addresses, beyond those it had before, in multiples of `memory`: those that are only reserved are none.
    """

    seconds: float = 10.0
    memory: int = 1 << 30
    reserved: int = 2


@dataclass(frozen=True)
class Outcome:
    """What came of a mutation.

    Attributes:
        number: Of the mutation.
        file: Which file of the recording was changed.
        change: How.
        answer: What reading gave.
        seconds: How long that took.
    """

    number: int
    file: str
    change: str
    answer: Answer
    seconds: float


class Mutator:
    """A recording that the fuzz made, and its mutations.

    Args:
        format: Of what.
        folder: New folder for it.
        seed: Of the mutations.
    """

    def __init__(self, format: Format, folder: Path, seed: int):
        self.format, self.seed = format, seed
        self._whole, self._here = folder / "whole", folder / "here"
        self._whole.mkdir(parents=True)
        made = format.make(self._whole)
        self.path = self._here / made.relative_to(self._whole)
        root = made if made.is_dir() else made.parent
        for file in root.rglob("*.safetensors"):
            _in_order(file)
        files = [made] if made.is_file() else [file for file in root.rglob("*") if file.is_file()]
        # What no reader looks into: logs of TensorBoard.
        self.files = sorted(
            file.relative_to(self._whole) for file in files if "tensorboard" not in file.parts
        )
        self.reset()

    def reset(self) -> None:
        """Put everything back as it was made."""
        shutil.rmtree(self._here, ignore_errors=True)
        shutil.copytree(self._whole, self._here)

    def apply(self, number: int) -> tuple[str, str]:
        """Do mutation `number` to the recording; returns the file and what was done."""
        name = self.format.name
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode()), number])
        file = self.files[rng.integers(len(self.files))]
        target, draw = self._here / file, rng.random()
        if draw < 0.015:
            return str(file), _replace(target, rng)
        if draw < 0.0165:
            target.write_bytes(bomb())
            return str(file), "bomb"
        data, kind = mutated(file.name, target.read_bytes(), rng)
        target.write_bytes(data)
        if self.format.seal is not None and rng.random() < 0.7:
            try:
                self.format.seal(self.path)
                kind = f"sealed: {kind}"
            except Exception:
                pass  # what cannot be read is not sealed either
        return str(file), kind


def _in_order(file: Path) -> None:
    """Sort the header of a file of tensors: its library writes it in another order each time."""
    data = file.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.dumps(
        json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    file.write_bytes(data[:8] + header.encode().ljust(size) + data[8 + size :])


def _replace(file: Path, rng: np.random.Generator) -> str:
    """Put something else where a file is."""
    kind = ("missing", "empty", "folder", "FIFO", "link to itself", "link to nothing", "endless")[
        rng.integers(7)
    ]
    file.unlink()
    match kind:
        case "empty":
            file.write_bytes(b"")
        case "folder":
            file.mkdir()
        case "FIFO":
            os.mkfifo(file)
        case "link to itself":
            file.symlink_to(file.name)
        case "link to nothing":
            file.symlink_to("nothing")
        case "endless":
            file.symlink_to("/dev/zero")
    return kind


def fuzz(
    format: Format, numbers: Sequence[int], seed: int, caps: Caps, keep: Path | None = None
) -> Iterator[Outcome]:
    """What comes of mutations of a format.

    Args:
        format: Of what.
        numbers: Which mutations.
        seed: Of them.
        caps: What a reader may use.
        keep: Folder for recordings that gave something bad, the first of each place; None keeps none.

    Raises:
        RuntimeError: The unchanged recording cannot be read.
    """
    kept: set[str] = set()
    stalled: set[tuple[str, str]] = set()
    with tempfile.TemporaryDirectory(prefix="fuzz.") as scratch:
        left, turn = list(numbers), 0
        while left:
            batch, turn = left[:BATCH], turn + 1
            done = 0
            for outcome in _in_process(Mutator(format, Path(scratch) / str(turn), seed), batch, caps):
                done += 1
                fatal = outcome.answer.kind in ("hang", "crash", "memory")
                if fatal and (outcome.file, outcome.change) not in stalled:
                    outcome = _again(format, outcome, seed, caps, Path(scratch) / f"{turn}_again_{done}")
                    if outcome.answer.kind == "hang":
                        stalled.add((outcome.file, outcome.change))
                if keep is not None and outcome.answer.kind not in ("refused", "same", "noted", "changed"):
                    place = f"{outcome.answer.kind} {outcome.answer.where}"
                    if place not in kept:
                        kept.add(place)
                        _keep(format, outcome, seed, keep, Path(scratch) / f"kept_{len(kept)}")
                yield outcome
            left = left[done:]
            shutil.rmtree(Path(scratch) / str(turn), ignore_errors=True)


def _again(format: Format, outcome: Outcome, seed: int, caps: Caps, folder: Path) -> Outcome:
    """The same mutation alone in a fresh process, with addresses for whatever it asks."""
    caps = replace(caps, reserved=_ROOMY)
    (second,) = _in_process(Mutator(format, folder, seed), [outcome.number], caps)
    return second


def _keep(format: Format, outcome: Outcome, seed: int, keep: Path, scratch: Path) -> None:
    mutator = Mutator(format, scratch, seed)
    mutator.apply(outcome.number)
    place = keep / re.sub(r"\W+", "_", format.name) / str(outcome.number)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "finding.json").write_text(
        json.dumps({"seed": seed, "format": format.name, **asdict(outcome)}, indent=1)
    )
    target = mutator.path if mutator.path.is_dir() else mutator.path.parent
    # Special files are told of, not copied: a copy would wait for a FIFO.
    ordinary = {file for file in target.rglob("*") if file.is_file() and not file.is_symlink()}
    for file in ordinary:
        to = place / target.name / file.relative_to(target)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, to)


def _in_process(mutator: Mutator, numbers: Sequence[int], caps: Caps) -> Iterator[Outcome]:
    """Outcomes of mutations, in order, until all are done or one has ended the process."""
    incoming, outgoing = os.pipe()
    errors = tempfile.TemporaryFile()  # noqa: SIM115
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(incoming)
        status = 70
        try:
            _work(mutator, numbers, caps, outgoing, errors.fileno())
            status = 0
        finally:
            os._exit(status)
    os.close(outgoing)
    try:
        lines, begun = _lines(incoming, _WALL * caps.seconds + 60), time.monotonic()
        if (first := next(lines, None)) is None or "base" not in first:
            raise RuntimeError(
                f"the unchanged recording of {mutator.format.name} is not read: {first or _tail(errors)}"
            )
        for number in numbers:
            begun = time.monotonic()
            found = next(lines, None)
            if found is None:
                yield _ended(mutator, number, child, errors, time.monotonic() - begun, caps)
                return
            found["answer"] = Answer(**found["answer"])
            yield Outcome(**found)
    finally:
        os.close(incoming)
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        errors.close()


def _lines(incoming: int, patience: float) -> Iterator[dict[str, Any]]:
    """What the process says, until it says nothing for longer than it may."""
    buffer = b""
    while True:
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            yield json.loads(line)
        if not select.select([incoming], [], [], patience)[0]:
            return
        piece = os.read(incoming, 1 << 16)
        if not piece:
            return
        buffer += piece


def _tail(errors: Any) -> str:
    errors.seek(0)
    return errors.read()[-4000:].decode(errors="replace")


def _ended(mutator: Mutator, number: int, child: int, errors: Any, seconds: float, caps: Caps) -> Outcome:
    """What a mutation did that ended the process, or would not end."""
    done, status = os.waitpid(child, os.WNOHANG)
    for _ in range(20):
        if done:
            break
        time.sleep(0.05)
        done, status = os.waitpid(child, os.WNOHANG)
    said = _tail(errors)
    places = re.findall(rf'File "{re.escape(SOURCE)}/([^"]+)", line (\d+) in (\w+)', said)
    where = "{}:{} {}".format(*places[0]) if places else "?"
    code = os.waitstatus_to_exitcode(status) if done else None
    if not done or code == -signal.SIGPROF or seconds >= _WALL * caps.seconds:
        found = Answer("hang", where, f"not done after {seconds:.1f} s")
    elif "bad_alloc" in said or "MemoryError" in said:
        found = Answer("memory", where, said.strip().splitlines()[0][:200])
    else:
        found = Answer("crash", where, f"the process ended with {code}: {said.strip()[-300:]}")
    mutator.reset()
    file, change = mutator.apply(number)
    return Outcome(number, file, change, found, seconds)


def _work(mutator: Mutator, numbers: Sequence[int], caps: Caps, out: int, errors: int) -> None:
    """Read mutations and say what came of each; in the process of their own."""
    os.dup2(errors, 2)
    os.dup2(errors, 1)
    ctypes.CDLL(None).mallopt(-8, 1)  # one arena: others reserve addresses that nobody uses
    faulthandler.enable(2)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    faulthandler.register(signal.SIGPROF, 2, chain=True)  # says where it is, and ends

    def say(content: dict[str, Any]) -> None:
        os.write(out, json.dumps(content).encode() + b"\n")

    format = mutator.format
    found, base = answer(format.read, mutator.path, None, format.unsound)
    if base is None or found.kind != "same":
        say({"failed": asdict(found)})
        return
    mutator.reset()
    say({"base": base.digest})
    # What was touched is told apart below.
    limit = _pages("VmSize") + caps.reserved * caps.memory
    for number in numbers:
        file, change = mutator.apply(number)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        faulthandler.dump_traceback_later(_WALL * caps.seconds, exit=True, file=2)
        signal.setitimer(signal.ITIMER_PROF, caps.seconds)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of this mutation
        before, begun = _pages("VmRSS"), time.monotonic()
        given = answer(format.read, mutator.path, base, format.unsound, roomy=caps.reserved >= _ROOMY)[0]
        seconds = time.monotonic() - begun
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        faulthandler.cancel_dump_traceback_later()
        grown = _pages("VmHWM") - before
        if grown > caps.memory:
            given = Answer("memory", "grown", f"{grown >> 20} MiB, then {given.kind}: {given.said}")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        say(asdict(Outcome(number, file, change, given, seconds)))
        mutator.reset()
        if number % 50 == 0:
            gc.collect()


def _pages(name: str) -> int:
    """Memory of this process, by its name in `/proc` [bytes]."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10
