"""Trains several runs at the same time, each in a process of its own that uses its share of the cores.

A learner of this size does not keep two cores busy: two runs side by side, a core each, are done sooner
than one after the other with both (docs/decisions/0006 has the measurement).
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from countersteer.errors import UserError
from countersteer.interrupts import stoppable
from countersteer.training.recipe import Recipe
from countersteer.training.run import Progress, train

__all__ = ["Run", "train_side_by_side"]


@dataclass(frozen=True)
class Run:
    """What to train: a recipe with a seed, into a folder. The folder's name is the run's."""

    recipe: Recipe
    out: Path
    seed: int


@dataclass
class _Worker:
    process: BaseProcess
    run: Run
    progress: Progress


def train_side_by_side(
    runs: Sequence[Run],
    at_once: int,
    progress: Callable[[str], Progress],
    finished: Callable[[Run], None] = lambda run: None,
) -> None:
    """Train every run, `at_once` at a time; one that was interrupted goes on, a finished one is kept.

    A script that calls this keeps its own work under `if __name__ == "__main__"`, because the processes
    import it.

    Args:
        runs: In the order they are begun.
        at_once: How many processes, >= 1; each gets the cores divided by it.
        progress: Makes the progress of one run, by its name.
        finished: Told of every run as soon as it is trained; the others wait for it, so it does not take long.

    Raises:
        UserError: A run failed; the others have saved a checkpoint.
        KeyboardInterrupt: After every run has saved a checkpoint.
    """
    if at_once < 1:
        raise UserError("no run can be trained", got=f"{at_once} at once", expected="at least 1")
    context = multiprocessing.get_context("spawn")
    threads = max((os.cpu_count() or 1) // at_once, 1)
    waiting = list(runs)
    workers: dict[Connection, _Worker] = {}

    def give(connection: Connection, process: BaseProcess) -> None:
        run = waiting.pop(0)
        workers[connection] = _Worker(process, run, progress(run.out.name))
        connection.send(run)

    def work() -> None:
        for _ in range(min(at_once, len(waiting))):
            mine, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, threads), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is the end of the pipe
            give(mine, process)
        while workers:
            for ready in multiprocessing.connection.wait(list(workers)):
                assert isinstance(ready, Connection)
                worker = workers[ready]
                try:
                    what, arguments = ready.recv()
                except (EOFError, OSError):
                    _died(worker)
                if what == "failed":
                    raise UserError(f"{worker.run.out.name}: {arguments[0]}")
                if what != "finished":
                    getattr(worker.progress, what)(*arguments)
                    continue
                del workers[ready]
                if waiting:
                    give(ready, worker.process)
                else:
                    ready.close()
                    worker.process.join()
                finished(worker.run)

    with stoppable():
        try:
            work()
        finally:
            for connection, worker in workers.items():
                worker.process.terminate()
                connection.close()  # the end, for one that waits for its next run
            for worker in workers.values():
                worker.process.join()


def _died(worker: _Worker) -> NoReturn:
    worker.process.join()
    code, name = worker.process.exitcode or 0, worker.run.out.name
    if code == 0:
        raise UserError(
            f"the training of {name} was stopped",
            got="a signal to its process, after which it saved a checkpoint",
            expected="to be left alone",
            fix="start it again; it goes on where it was",
        )
    if code > 0:
        raise RuntimeError(f"the training of {name} ended with exit code {code}")
    raise UserError(
        f"the training of {name} was killed",
        got=f"signal {signal.Signals(-code).name}" + (", often a lack of memory" if code == -9 else ""),
        expected="to be left alone, with about 2 GB for each run",
        fix="start it again, with fewer runs at once; it goes on at its last checkpoint",
    )


class _Told(Progress):
    """Passes what happens on to the process that began this one."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.stopped = False

    def stop(self, *_: object) -> None:
        """What a signal calls: end the training after its present step, or round of driving."""
        # Raised wherever the signal finds it, an interrupt could leave a lock of TensorBoard's queue held.
        self.stopped = True

    def _go_on(self) -> None:
        if self.stopped:
            raise KeyboardInterrupt

    def _tell(self, what: str, *arguments: Any) -> None:
        try:
            self.connection.send((what, arguments))
        except OSError:  # nobody is there any more
            raise KeyboardInterrupt from None

    def message(self, text: str) -> None:
        self._tell("message", text)

    def collected(
        self, round_number: int, rounds: int, frames: int, seconds: float, outcomes: dict[str, float]
    ) -> None:
        self._go_on()
        self._tell("collected", round_number, rounds, frames, seconds, outcomes)

    def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
        self._go_on()
        self._tell("learned", step, steps, logged, samples_per_s)


def _work(connection: Connection, threads: int) -> None:
    """Train what comes through the pipe, until it is closed."""
    # Ctrl-C reaches every process of a terminal; only the first one decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = _Told(connection)
    signal.signal(signal.SIGTERM, told.stop)
    import numba
    import torch

    numba.set_num_threads(min(threads, numba.get_num_threads()))
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        while True:
            run = connection.recv()
            try:
                train(run.recipe, run.out, seed=run.seed, resume=run.out.exists(), progress=told)
            except UserError as error:
                told._tell("failed", str(error))
            else:
                told._tell("finished")
    except (EOFError, KeyboardInterrupt):
        return
