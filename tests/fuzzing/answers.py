"""What reading a changed recording gives: one class of answer for each mutation."""

from __future__ import annotations

import dataclasses
import hashlib
import traceback
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import av.error
import numpy as np
import torch

import countersteer
from countersteer.data.cameras.frames import Frames
from countersteer.errors import UserError
from countersteer.scenarios.scenario import Provenance

SOURCE = str(Path(countersteer.__file__).parent)

GOOD = ("refused", "same", "noted", "changed")
"""A `UserError` that names the file; the value of the unchanged file; another value with another note; without one."""

BAD = ("traceback", "hang", "memory", "crash", "wrong error", "unsound")
"""Another exception; longer than the cap; more memory than the cap; a dead process; a `UserError` that does not say which
file or what to do; a value that can never be."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What reading gave.

    Attributes:
        kind: One of `GOOD` or `BAD`.
        where: Of what is bad, where in the package: findings with the same are one.
        said: In words.
    """

    kind: str
    where: str = ""
    said: str = ""


@dataclasses.dataclass(frozen=True)
class Content:
    """A value as far as it is compared: a digest of it, and the notes of its provenance."""

    digest: str
    notes: tuple[str, ...]


def content(value: Any) -> Content:
    """A value with everything that it holds; of provenance the notes alone."""
    digest, notes = hashlib.sha256(), []

    def feed(value: Any) -> None:
        if isinstance(value, Provenance):
            notes.extend(value.notes)
        elif isinstance(value, torch.Tensor):
            feed(
                value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy() if value.numel() else 0
            )
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        elif isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(repr(value.tolist()).encode() if value.dtype == object else value.tobytes())
        elif isinstance(value, Frames):
            digest.update(f"{len(value)} {value.width} {value.height}".encode())
        elif isinstance(value, Enum):
            digest.update(str(value).encode())
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            digest.update(type(value).__name__.encode())
            for field in dataclasses.fields(value):
                feed(getattr(value, field.name))
        elif isinstance(value, dict):
            for key, item in value.items():
                digest.update(repr(key).encode(errors="replace"))
                feed(item)
        elif isinstance(value, list | tuple):
            digest.update(f"[{len(value)}]".encode())
            for item in value:
                feed(item)
        elif callable(value):
            pass
        else:
            digest.update(f"{type(value).__name__} {value!r}".encode(errors="replace"))

    feed(value)
    return Content(digest.hexdigest(), tuple(notes))


def answer(
    reading: Callable[[Path], Any],
    path: Path,
    base: Content | None,
    unsound: Callable[[Any], str | None] = lambda _: None,
    roomy: bool = False,
) -> tuple[Answer, Content | None]:
    """Read a path and say what came of it; nothing propagates but what ends the process.

    Args:
        reading: Reads it.
        path: A recording, changed or not.
        base: What the unchanged one holds; None for the unchanged one itself.
        unsound: What can never be in the value, in words.
        roomy: Whether there are addresses enough for whatever FFmpeg asks for, so that what it refuses for want of memory
            is a number beyond its own limits, and what it takes is seen by its growth.
    """
    try:
        value = reading(path)
        here = content(value)
        wrong = unsound(value)
    except UserError as error:
        return _refused(error, path, roomy), None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        kind = "memory" if _of_memory(error) else "traceback"
        return Answer(kind, _place(error), f"{type(error).__name__}: {str(error)[:200]}"), None
    if wrong is not None:
        return Answer("unsound", wrong, wrong), here
    if base is None or here.digest == base.digest:
        return Answer("same"), here
    return Answer("changed" if here.notes == base.notes else "noted"), here


def _refused(error: UserError, path: Path, roomy: bool) -> Answer:
    said = str(error)
    if _of_memory(error, roomy):
        return Answer("memory", _place(error), f"refused only by a MemoryError: {said[:200]}")
    if path.name not in said:
        return Answer("wrong error", _place(error), f"does not name the file: {said[:300]}")
    if error.fix is None and error.expected is None:
        return Answer(
            "wrong error", _place(error), f"says neither what is expected nor what to do: {said[:300]}"
        )
    return Answer("refused", said=error.what[:200])


def _of_memory(error: BaseException, roomy: bool = False) -> bool:
    """Whether it, or what it came from, is that memory ran out: a size was believed before it was looked at."""
    seen: BaseException | None = error
    while seen is not None:
        ffmpeg = roomy and isinstance(seen, av.error.FFmpegError)
        if not ffmpeg and (
            isinstance(seen, MemoryError)
            or ("allocate" in str(seen) and isinstance(seen, RuntimeError | OSError))
        ):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _place(error: BaseException) -> str:
    """The last line of the package that an exception came through."""
    first = error
    while isinstance(error, UserError) and first.__context__ is not None:
        first = first.__context__
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(SOURCE)
    ]
    if not frames:
        return type(error).__name__
    last = frames[-1]
    return f"{last.filename.removeprefix(SOURCE)[1:]}:{last.lineno} {last.name}, {type(error).__name__}"
