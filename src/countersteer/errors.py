"""Errors a user can cause, each saying what was wrong, what was got, what was expected, what to do."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["UserError", "MissingExtraError", "check_ranges", "check_writable", "did_you_mean"]


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
