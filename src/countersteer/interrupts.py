"""Being stopped: Ctrl-C, SIGTERM and SIGHUP all raise `KeyboardInterrupt`, and never in the middle of something.

The first signal asks for an end with everything saved, a second one ends the process at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

__all__ = ["deferred", "exit_code", "stoppable"]

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_APART = 1.0
"""Time within which signals are one [s]: `timeout` and terminals send some of them twice."""

_inside = 0  # blocks of `stoppable`
_blocks = 0  # of `deferred`
_got: tuple[int, float] | None = None  # the first signal, and when it came
_due = False  # it came in a block of `deferred`


def _stop(number: int, _: FrameType | None) -> None:
    global _got, _due
    now = time.monotonic()
    if _got is not None:
        if now - _got[1] > _APART:
            os._exit(128 + number)
        return
    _got, _due = (number, now), _blocks > 0
    if not _due:
        raise KeyboardInterrupt


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """In this block signals raise `KeyboardInterrupt`, once.

    Handlers of somebody else stay as they are, and so does a signal that is ignored, as by nohup. Outside of the main
    thread, where no signal arrives, nothing changes. A block in another one changes nothing.
    """
    global _inside, _got, _due
    old = {}
    if threading.current_thread() is threading.main_thread() and not _inside:
        _got, _due = None, False
        for number in _SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                old[number] = signal.signal(number, _stop)
    _inside += 1
    try:
        yield
    finally:
        _inside -= 1
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """What is done in this block is done whole: a signal raises `KeyboardInterrupt` at its end.

    It must be short, and stand within `stoppable`.
    """
    global _blocks, _due
    _blocks += 1
    try:
        yield
    finally:
        _blocks -= 1
    if _due and not _blocks:
        _due = False
        raise KeyboardInterrupt


def exit_code() -> int:
    """Of a process that the last signal stopped: 128 and its number, 130 for Ctrl-C."""
    return 128 + (_got[0] if _got is not None else signal.SIGINT)
