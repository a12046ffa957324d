"""Errors a user can cause, each saying what was wrong, what was got, what was expected, what to do."""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["UserError", "MissingExtraError", "check_writable", "did_you_mean", "write_results"]


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
        lines = [what]
        if got is not None:
            lines.append(f"  got:      {got}")
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if fix is not None:
            lines.append(f"  fix:      {fix}")
        super().__init__("\n".join(lines))


class MissingExtraError(UserError):
    """An optional part was used without its extra installed."""

    def __init__(self, package: str, extra: str):
        super().__init__(
            f"the optional package {package!r} is not installed",
            fix=f"pip install 'countersteer[{extra}]'",
        )


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
        results: Places, and what writes there; None is not written. One that fails does not keep the others from being written.

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
