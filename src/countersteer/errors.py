"""Errors a user can cause, each saying what was wrong, what was got, what was expected, what to do."""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

__all__ = [
    "MissingExtraError",
    "UserError",
    "check_writable",
    "did_you_mean",
    "reading",
    "shown",
    "write_results",
    "writing",
]


class UserError(Exception):
    """A mistake in what the user gave; the command line prints it without a traceback and exits with 2.

    Args:
        what: What was wrong, one sentence, naming the file, argument or field.
        got: What was received.
        expected: What would have been accepted.
        fix: What to do about it.
    """

    def __init__(self, what: str, *, got: object = None, expected: object = None, fix: str | None = None):
        self.what, self.got, self.expected, self.fix = shown(what), got, expected, fix
        lines = [self.what]  # what is said of a file may hold anything that the file does
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

    No name out of a file then moves the cursor, colours the terminal, turns the reading direction or begins a new line.
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
def reading(
    file: Path | str,
    what: str = "is damaged",
    *,
    expected: object = "a file as countersteer wrote it",
    fix: str | None = "restore the file from a copy, or train again",
) -> Iterator[None]:
    """Whatever goes wrong in this block is said of a file.

    It is the last resort, behind messages that say which field is wrong. A damaged file makes libraries fail in any way,
    and what is of another kind than it should be shows where it is used; so exceptions of all kinds count.

    Args:
        file: From which everything comes that is looked at in the block.
        what: What is wrong with it, as far as is known.
        expected: As in `UserError`.
        fix: What to do where nothing better is known.

    Raises:
        UserError: The block fails. It is the block's own if that one names the file, or a package that is missing.
    """
    try:
        yield
    except UserError as error:
        if str(file) in error.what or isinstance(error, MissingExtraError):
            raise
        raise UserError(
            f"{file}: {error.what}", got=error.got, expected=error.expected, fix=error.fix or fix
        ) from error
    except Exception as error:
        got = f"{type(error).__name__}: {str(error)[:160]}".rstrip(": ")
        raise UserError(f"{file} {what}", got=got, expected=expected, fix=fix) from error


@contextlib.contextmanager
def writing(
    what: object,
    fix: str = "make room, or choose another place",
    expected: object = "a place that may be written, on a disk with room",
) -> Iterator[None]:
    """Errors of the disk in this block become those of the user, who can make room.

    Args:
        what: What is being written.
        fix, expected: As in `UserError`.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{what} cannot be written", got=error, expected=expected, fix=fix) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known names, or lists all of them when none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"one of: {', '.join(known)}"


def check_writable(path: Path | None, *, folder: bool = False, fix: str = "name another place") -> None:
    """Refuse a place that cannot be written, without making anything there.

    Args:
        path: Place; None is always good.
        folder: Whether it is a folder that is written into, else a file.
        fix: What is said then.

    Raises:
        UserError: It cannot be written.
    """
    if path is None:
        return
    if str(path) == "-":
        raise UserError("'-' is no name of a file here", expected="a file's name", fix=fix)
    try:
        whole = Path(os.path.abspath(path))
        with contextlib.suppress(FileNotFoundError):
            os.stat(f"{whole}{'.' * 16}")  # a name that is too long: those of unfinished files are longer
        there = next(each for each in (whole, *whole.parents) if os.path.lexists(each))
        mode = there.stat().st_mode
        if not stat.S_ISDIR(mode) and (
            folder or there != whole or not (stat.S_ISREG(mode) or stat.S_ISCHR(mode))
        ):
            raise OSError(f"{there} is no {'folder' if folder or there != whole else 'file'}")
        if stat.S_ISDIR(mode) and there == whole and not folder:
            raise OSError(f"{there} is a folder")
        if not os.access(there, os.W_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
            raise OSError(f"{there} may not be written into")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero character
        got = (
            getattr(error, "strerror", None) or error
        )  # without the name, which is long where it is too long
        raise UserError(f"{str(path)!r} cannot be written", got=got, fix=fix) from None


def write_results(*results: tuple[Path | None, Callable[[Path], object]]) -> None:
    """Write what took long to make. What cannot be written where it should goes into the folder for temporary files.

    Args:
        results: Places, and what writes there; None is not written. One that fails does not keep the others back.

    Raises:
        UserError: Something lies elsewhere, or nowhere.
    """
    failed: list[UserError] = []
    for path, write in results:
        if path is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
        except (OSError, UserError) as error:
            fix = "name another place"
            with contextlib.suppress(OSError, UserError):
                rescued = Path(tempfile.mkdtemp(prefix="countersteer-")) / path.name
                write(rescued)
                fix = f"what should be there lies in {rescued}"
            failed.append(UserError(f"{path} cannot be written", got=error, fix=fix))
    for error in failed[:-1]:
        print(f"error: {error}", file=sys.stderr)
    if failed:
        raise failed[-1]
