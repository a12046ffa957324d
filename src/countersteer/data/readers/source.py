"""What readers of recordings share: the shape of a reader, numbered drives, where a recording is from.

A file can hold anything. `storage.files` and `Field` turn whatever is wrong with it into a `UserError`
that names the file and the field, so that a reader states only what it expects.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from countersteer.errors import UserError, reading
from countersteer.storage.files import exists, open_regular

__all__ = [
    "MAX_DRIVES",
    "Reader",
    "choose",
    "drives_by",
    "fingerprint",
    "fingerprint_of_files",
    "matches",
    "numbered",
    "origin",
    "read_by",
    "split_number",
    "unknown_format",
]

MAX_DRIVES = 100_000
"""Most drives in one file; the largest published ones have 16,000."""

T = TypeVar("T")


@dataclass(frozen=True)
class Reader(Generic[T]):
    """One format of a `T` (a scenario, a camera log).

    Attributes:
        name: Name of the format.
        looks_like: What a file or folder of it looks like, for the message when nothing matches.
        matches: Whether a path holds this format, by its content; what fails says no.
        read: What is at a path; raises a `UserError` that names the field where it knows it.
        drives: The path of each drive in a file or folder of this format. A file with one drive is that
            path itself; in a file with many, drive `n` (from 0) has the path `file#n`, which `read` takes.
            Raises `UserError` where the file is too damaged to count.
    """

    name: str
    looks_like: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], T]
    drives: Callable[[Path], list[Path]] = lambda path: [path]


def unknown_format(what: str, readers: Sequence[Reader], fix: str) -> UserError:
    """The error for a path that no reader matches, which tells what each one looks for."""
    return UserError(
        what,
        got="\n            ".join(f"not {reader.name}: that is {reader.looks_like}" for reader in readers),
        expected=f"one of: {', '.join(reader.name for reader in readers)}",
        fix=fix,
    )


def matches(reader: Reader, path: Path) -> bool:
    """Whether a path holds a reader's format; a fault while looking says no."""
    with contextlib.suppress(Exception):
        return bool(reader.matches(path))
    return False


def read_by(reader: Reader[T], path: Path) -> T:
    """What a reader reads at a path; whatever goes wrong with the file becomes a `UserError` that names it."""
    told = reading(
        split_number(path)[0],
        f"cannot be read as {reader.name}",
        expected=reader.looks_like,
        fix="the file is damaged or may not be read; download it again or check its permissions",
    )
    # What cannot be is told by checks; numpy's warnings of it would name lines of ours.
    with told, np.errstate(all="ignore"):
        return reader.read(path)


def drives_by(reader: Reader, path: Path) -> list[Path]:
    """The drives in a file or folder that matches a reader; faults of the file become a `UserError`."""
    with reading(
        path, f"holds drives that cannot be counted as {reader.name}", expected=reader.looks_like, fix=None
    ):
        return reader.drives(path)


def numbered(path: Path, count: int) -> list[Path]:
    """Paths of the drives in a file of `count`: the file itself where there is one, else `file#0`, `file#1` ..."""
    if count > MAX_DRIVES:
        raise UserError(
            f"{path} declares too many drives",
            got=count,
            expected=f"at most {MAX_DRIVES}",
            fix="split the file",
        )
    return [path] if count == 1 else [path.with_name(f"{path.name}#{n}") for n in range(count)]


def split_number(path: Path) -> tuple[Path, int | None]:
    """The file of `file#3` and its 3; a path that exists under its whole name has no number."""
    name, mark, number = path.name.rpartition("#")
    if not (mark and name and number.isascii() and number.isdigit() and len(number) < 10) or exists(path):
        return path, None
    return path.with_name(name), int(number)


def choose(path: Path, number: int | None, count: int, unit: str) -> int:
    """Which of the `count` drives of a file to read, where `path` names number `number` or none."""
    if number is None and count == 1:
        return 0
    if number is None or number >= count:
        raise UserError(
            f"{path} holds {count} {unit}" if number is None else f"{path}: there is no {unit} {number}",
            got="no number" if number is None else number,
            expected=f"a number from 0 to {count - 1} behind the name: {split_number(path)[0].name}#0",
            fix="`countersteer data list` names them; `countersteer data import` converts all of a file",
        )
    return number


def fingerprint_of_files(paths: Iterable[Path]) -> str:
    """SHA-256 of the files that a scenario was read from, one after another in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        with open_regular(path) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def fingerprint(*parts: bytes) -> str:
    """SHA-256 of the bytes a scenario was read from."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def origin(proof: bool, source: str, licence: str, form: str) -> tuple[str, str]:
    """Source and licence of a file: those of a data set where the content proves that it is of it, else unknown.

    Others write the same forms: simulators, converters, one's own logger.

    Args:
        proof: Whether the content says so itself: a name of the data set's, a calibration of its cars, their places.
        source, licence: Of the data set.
        form: Name of the form, for a source that is unknown.
    """
    return (source, licence) if proof else (f"unknown ({form})", "unknown")
