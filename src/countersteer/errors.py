"""Errors a user can cause, each saying what was wrong, what was got, what was expected, what to do."""

from __future__ import annotations

import contextlib
import difflib
import os
import pickle
import struct
import sys
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = [
    "FAULTS",
    "MissingExtraError",
    "UserError",
    "check_ranges",
    "check_writable",
    "did_you_mean",
    "faults_of_files",
    "shown",
]

FAULTS: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    pickle.PickleError,
)
"""What reading a damaged file ends in, in Python and in libraries whose exceptions are kinds of these."""

_LIBRARIES = {"pyarrow": ("lib", "ArrowException"), "av": ("error", "FFmpegError"), "cv2": ("", "error")}


class UserError(Exception):
    """A mistake in what the user gave; the command line prints it without a traceback and exits with 2.

    Args:
        what: What was wrong, one sentence, naming the file, argument or field.
        got: What was received.
        expected: What would have been accepted.
        fix: What to do about it.
    """

    def __init__(self, what: str, *, got: object = None, expected: object = None, fix: str | None = None):
        self.what, self.got, self.expected, self.fix = what, got, expected, fix
        lines = [shown(what)]  # what is said of a file may hold anything that the file does
        if got is not None:
            lines.append(f"  got:      {got}")
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if fix is not None:
            lines.append(f"  fix:      {fix}")
        super().__init__("\n".join(shown(line) for line in "\n".join(lines).split("\n")))


class MissingExtraError(UserError):
    """An optional part was used without its extra installed."""

    def __init__(self, package: str, extra: str):
        super().__init__(
            f"the optional package {package!r} is not installed",
            fix=f"pip install 'countersteer[{extra}]'",
        )


def shown(text: object) -> str:
    """A text as it may be printed in a line: control, format and other invisible characters are written as escapes.

    So no name out of a file moves the cursor, colours the terminal, turns the reading direction or begins a new line.
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
        for letter in text
    )


@contextlib.contextmanager
def faults_of_files(what: str, *, expected: object = None, fix: str | None = None) -> Iterator[None]:
    """Turn what a damaged or unreadable file ends in, here and in libraries, into a `UserError`.

    This is the last resort, behind messages that say which field is wrong.

    Args:
        what: What cannot be done, naming the file.
        expected, fix: As in `UserError`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        loaded = (
            getattr(sys.modules.get(f"{library}.{module}" if module else library), name, None)
            for library, (module, name) in _LIBRARIES.items()
        )
        if not isinstance(error, (*FAULTS, *(kind for kind in loaded if kind is not None))):
            raise
        got = f"{type(error).__name__}: {str(error)[:160]}".rstrip(": ")
        raise UserError(what, got=got, expected=expected, fix=fix) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known names, or lists all of them when none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"one of: {', '.join(known)}"


def check_ranges(spec: object, **ranges: str) -> None:
    """Refuse fields of a spec that lie outside their ranges; a field that is None has none.

    Args:
        spec: What has the fields.
        ranges: By field, an interval such as `[0, 1)` or `(0, inf)`.

    Raises:
        UserError: A field lies outside, or is not a number.
    """
    for name, interval in ranges.items():
        value = getattr(spec, name)
        low, high = (float(end) for end in interval[1:-1].split(","))
        if value is None:
            continue
        above = value > low if interval[0] == "(" else value >= low
        below = value < high if interval[-1] == ")" else value <= high
        if not (above and below):
            raise UserError(
                f"`{name}` of {type(spec).__name__} is out of range",
                got=value,
                expected=f"a number in {interval}",
                fix=f"set `{name}` of {type(spec).__name__}",
            )


def check_writable(path: Path | None, *, folder: bool) -> None:
    """Refuse a place that cannot be written, without making anything there.

    Args:
        path: Place; None is always good.
        folder: Whether it may be a folder that exists.

    Raises:
        UserError: It cannot be written.
    """
    if path is None:
        return
    whole = Path(os.path.abspath(path))
    there = next(each for each in (whole, *whole.parents) if each.exists())
    if there == whole and not folder and there.is_dir():
        raise UserError(f"{path} cannot be written", got="a folder", fix="name a file")
    if (there != whole and not there.is_dir()) or not os.access(there, os.W_OK):
        got = f"{there} is no folder that may be written into"
        raise UserError(f"{path} cannot be written", got=got, fix="name another place")
