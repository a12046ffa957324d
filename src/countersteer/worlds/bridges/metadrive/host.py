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
from multiprocessing.connection import Connection
from typing import Any, ClassVar

from countersteer.errors import MissingExtraError, UserError
from countersteer.geometry.cameras import Camera

__all__ = ["Hosts"]


class Hosts:
    """One MetaDrive for each drive. Building its maps takes seconds a road, so hosts that are done are kept.

    Args:
        roads: Settings of the road of each drive.
        cameras: That MetaDrive itself is to draw.
    """

    _idle: ClassVar[list[Hosts]] = []

    def __init__(self, roads: Sequence[dict[str, Any]], cameras: tuple[Camera, ...] = ()):
        _needed()
        self.key = repr((list(roads), cameras))
        context = multiprocessing.get_context("forkserver")
        # A server that has loaded MetaDrive once forks the others, which share its memory.
        context.set_forkserver_preload([f"{__package__}.process"])
        self._pipes: list[Connection] = []
        processes = []
        for road in roads:
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, road, cameras), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(mine)
            processes.append(process)
        self._end = weakref.finalize(self, _close, self._pipes, processes)
        for pipe in self._pipes:
            _receive(pipe)

    @classmethod
    def take(cls, roads: Sequence[dict[str, Any]], cameras: tuple[Camera, ...] = ()) -> Hosts:
        """Those of these roads that nobody uses, or new ones. `give_back` them."""
        key = repr((list(roads), cameras))
        for hosts in cls._idle:
            if hosts.key == key:
                cls._idle.remove(hosts)
                return hosts
        return cls(roads, cameras)

    def give_back(self) -> None:
        """Keep them for the next who drives on these roads; the oldest of three sets is closed."""
        self._idle.append(self)
        if len(self._idle) > 2:
            self._idle.pop(0).close()

    def close(self) -> None:
        """End the processes."""
        self._end()

    def ask(self, rows: Sequence[int], messages: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Each of the rows its message, all at once; the answers in order."""
        for row, message in zip(rows, messages, strict=True):
            self._pipes[row].send(message)
        return [_receive(self._pipes[row]) for row in rows]


def _needed() -> None:
    if importlib.util.find_spec("metadrive") is None:
        raise MissingExtraError("metadrive-simulator", "bridges")


def _receive(pipe: Connection) -> Any:
    try:
        good, content = pipe.recv()
    except EOFError:
        good, content = False, "its process ended"
    if not good:
        raise UserError(
            "MetaDrive failed",
            got=content,
            expected="an answer",
            fix="see docs/formats.md on MetaDrive's assets",
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


def _serve(pipe: Connection, road: dict[str, Any], cameras: tuple[Camera, ...]) -> None:
    from countersteer.worlds.bridges.metadrive import process

    made: list[Any] = []
    _answer(pipe, lambda: made.append(process.Process(road, cameras)))
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
