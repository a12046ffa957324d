"""Readers, worlds and scores that other installed packages bring along, found by their entry points.

A package names what it brings in its `pyproject.toml`, one entry point a thing, in one of `GROUPS`:

    [project.entry-points."countersteer.readers"]
    my_format = "my_package.reader:READER"

Nothing is looked for or imported before the first use. What cannot be loaded is left out with a warning that names
it, so that one broken package does not take the others along; `found` lists all with what is wrong.
"""

from __future__ import annotations

import functools
import importlib.metadata
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from countersteer.errors import UserError

__all__ = ["GROUPS", "Extension", "found", "load"]

GROUPS: dict[str, tuple[str, ...]] = {
    "countersteer.readers": ("name", "matches", "read", "drives"),
    "countersteer.camera_readers": ("name", "matches", "read", "drives"),
    "countersteer.worlds": (),
    "countersteer.scores": ("name", "title", "reference", "best", "judge"),
}
"""Groups of entry points and the attributes that each thing in them has (`Reader`, `Benchmark`)."""


@dataclass(frozen=True)
class Extension:
    """One entry point of another package.

    Attributes:
        group: One of `GROUPS`.
        name: The entry point's, which is the thing's name too where it has one.
        package: Distribution and version that bring it.
        value: What was loaded; None where it could not be.
        problem: Why it could not be loaded; empty if it was.
    """

    group: str
    name: str
    package: str
    value: Any
    problem: str = ""

    def to_json(self) -> dict[str, str]:
        """What can be written of it."""
        return {"group": self.group, "name": self.name, "package": self.package, "problem": self.problem}


@functools.cache
def found(group: str) -> tuple[Extension, ...]:
    """All entry points of a group, loaded where possible, by name.

    Raises:
        UserError: Two packages bring things of one name.
    """
    loaded: dict[str, Extension] = {}
    for entry in sorted(importlib.metadata.entry_points(group=group), key=lambda entry: entry.name):
        package = (
            f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unnamed package"
        )
        if entry.name in loaded:
            raise _taken(group, entry.name, package, loaded[entry.name].package)
        value, problem = None, ""
        try:
            value = entry.load()
        except Exception as error:  # a stranger's code may raise anything
            problem = f"{type(error).__name__}: {error}"
        else:
            missing = [name for name in GROUPS[group] if not hasattr(value, name)]
            if missing:
                problem = f"{entry.value} has no {', '.join(missing)}"
            elif "name" in GROUPS[group] and value.name != entry.name:
                problem = f"{entry.value} is named {value.name!r}, its entry point {entry.name!r}"
        loaded[entry.name] = Extension(group, entry.name, package, None if problem else value, problem)
        if problem:
            warnings.warn(f"{group} {entry.name!r} of {package} is left out: {problem}", stacklevel=2)
    return tuple(loaded.values())


def load(group: str, taken: Iterable[str] = ()) -> dict[str, Any]:
    """What other packages bring in a group, by name.

    Args:
        group: One of `GROUPS`.
        taken: Names that countersteer itself uses there.

    Raises:
        UserError: A name is taken, or two packages bring things of one name.
    """
    usable = [extension for extension in found(group) if not extension.problem]
    names = set(taken)
    for extension in usable:
        if extension.name in names:
            raise _taken(group, extension.name, extension.package, "countersteer")
    return {extension.name: extension.value for extension in usable}


def _taken(group: str, name: str, package: str, other: str) -> UserError:
    return UserError(
        f"two packages bring {group} of the name {name!r}",
        got=f"{other} and {package}",
        expected="one name each",
        fix="rename one of the two entry points, or uninstall one of the packages",
    )
