"""MetaDrive in processes of its own: it runs one simulation in each, and this is how they are spoken to.

A process is asked over a pipe, in tuples, and answers with plain arrays. World frame and angles are MetaDrive's,
which are ours (right-handed, counter-clockwise); a vehicle's position is the middle of its box.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.errors import MissingExtraError, UserError
from countersteer.geometry.cameras import Camera

__all__ = ["TICK", "Answer", "Hosts", "describe"]

TICK = 0.1
"""Of MetaDrive: five steps of its physics, 0.02 s each."""


@dataclass(frozen=True)
class Answer:
    """Where everything is.

    Attributes:
        ego: x, y [m], heading [rad], speed [m/s], yaw rate [rad/s] of the car.
        others: x, y, heading, speed of everybody else; NaN for those who have left.
        pictures: Of MetaDrive's own cameras, if there are any.
    """

    ego: Float[ndarray, "5"]
    others: Float[ndarray, "other 4"]
    pictures: tuple[ndarray, ...] = ()


class Hosts:
    """One MetaDrive for each drive.

    Args:
        roads: Settings of the road of each drive.
        cameras: That MetaDrive itself is to draw.
    """

    def __init__(self, roads: Sequence[dict[str, Any]], cameras: tuple[Camera, ...] = ()):
        _needed()
        context = _context()
        self._pipes: list[Connection] = []
        processes = []
        for road in roads:
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, road, cameras), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(mine)
            processes.append(process)
        self._end = weakref.finalize(self, _close, list(self._pipes), processes)
        for pipe in self._pipes:
            _receive(pipe)

    def close(self) -> None:
        """End the processes."""
        self._end()

    def ask(self, rows: Sequence[int], messages: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Each of the rows its message, all at once; the answers in order."""
        for row, message in zip(rows, messages, strict=True):
            self._pipes[row].send(message)
        return [_receive(self._pipes[row]) for row in rows]


def describe(roads: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Maps of roads: features (name, kind, points), centre lines of the lanes from the left, sizes, traffic."""
    _needed()
    context = _context()
    mine, theirs = context.Pipe()
    process = context.Process(target=_describe, args=(theirs, list(roads)), daemon=True)
    process.start()
    theirs.close()
    try:
        return _receive(mine)
    finally:
        _close([mine], [process])


def _needed() -> None:
    if importlib.util.find_spec("metadrive") is None:
        raise MissingExtraError("metadrive-simulator", "bridges")


def _context() -> Any:
    # A server that has loaded MetaDrive once forks the others, which share its memory.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.simulation"])
    return context


def _receive(pipe: Connection) -> Any:
    try:
        good, content = pipe.recv()
    except EOFError:
        good, content = False, "its process ended"
    if not good:
        raise UserError(
            "MetaDrive failed", got=content, expected="an answer", fix="see docs/formats.md on MetaDrive's assets"
        )
    return content


def _close(pipes: list[Connection], processes: list[Any]) -> None:
    for pipe in pipes:
        with contextlib.suppress(OSError):
            pipe.close()  # they end when nobody is at the other end
    for process in processes:
        process.join(5)
        if process.is_alive():
            process.kill()


# --- in the other process ---------------------------------------------------------------------------


def _describe(pipe: Connection, roads: list[dict[str, Any]]) -> None:
    from countersteer.worlds.bridges.metadrive import simulation

    _answer(pipe, lambda: [simulation.described(road) for road in roads])


def _serve(pipe: Connection, road: dict[str, Any], cameras: tuple[Camera, ...]) -> None:
    from countersteer.worlds.bridges.metadrive import simulation

    made: list[Any] = []
    _answer(pipe, lambda: made.append(simulation.Simulation(road, cameras)))
    while made:
        try:
            what, *given = pipe.recv()
        except EOFError:
            return
        _answer(pipe, lambda what=what, given=given: getattr(made[0], what)(*given))


def _answer(pipe: Connection, work: Any) -> None:
    try:
        content = True, work()
    except Exception as error:
        content = False, f"{type(error).__name__}: {error}"
    pipe.send(content)
