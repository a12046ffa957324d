"""Ranges of settings. They stand once, beside the field or the flag; checks and help read them there.

    @dataclass(frozen=True)
    class Perturbations(Ranged):
        share: Share = 0.5
        period: Annotated[float, Range("(0, 60]")] = 5.0

`Perturbations(share=7.0)` is an error that names `Perturbations.share`, and so is NaN.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import numbers
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from countersteer.errors import UserError

__all__ = [
    "Budget",
    "Count",
    "Finite",
    "NonNegative",
    "Pixels",
    "Positive",
    "Range",
    "Ranged",
    "Seed",
    "Share",
    "Tick",
    "check_increasing",
    "check_value",
    "declared_types",
    "parts_of",
    "ranges_of",
]


@dataclass(frozen=True)
class Range:
    """Marks an annotation: every number there lies in an interval, and is whole where it is an `int`. None has no range.

    Attributes:
        interval: Such as `[0, 1)` or `(0, inf)`; NaN lies in none, infinity only in one that is closed there.
    """

    interval: str

    def holds(self, number: float | int) -> bool:
        """Whether a number lies in it."""
        low, high = (float(end.replace("pi", repr(math.pi))) for end in self.interval[1:-1].split(","))
        above = number > low if self.interval[0] == "(" else number >= low
        return bool(above and (number < high if self.interval[-1] == ")" else number <= high))


Budget = Annotated[int, Range("[1, 1e12]")]
"""So many in all, one after another: frames, gradient steps."""
Count = Annotated[int, Range("[1, 1e6]")]
"""So many at once: worlds, cars, channels."""
Finite = Annotated[float, Range("(-inf, inf)")]
NonNegative = Annotated[float, Range("[0, inf)")]
Pixels = Annotated[int, Range("[1, 16384]")]
"""Width or height of a picture."""
Positive = Annotated[float, Range("(0, inf)")]
Seed = Annotated[int, Range("[0, 1e18]")]
Share = Annotated[float, Range("[0, 1]")]
Tick = Annotated[float, Range("[0.001, 1]")]
"""Length of a tick [s]."""


class Ranged:
    """Base of frozen dataclasses whose fields have ranges; a field outside its range is a `UserError`.

    A range that a base declares holds for its subclasses. A class with a `__post_init__` of its own, for what several
    fields say together, calls this one first.
    """

    def __post_init__(self) -> None:
        called = getattr(self, "name", None)
        which = f" of {called!r}" if isinstance(called, str) else ""  # one of several cameras, for example
        for name, allowed in ranges_of(type(self)).items():
            check_value(f"{type(self).__name__}.{name}{which}", getattr(self, name, None), allowed)


@dataclass(frozen=True)
class _Allowed(Range):
    """A range, whether its numbers are whole, and how many there are in a tuple; None for any or no tuple."""

    whole: bool
    length: int | None = None

    def __str__(self) -> str:
        return f"{'a whole number' if self.whole else 'a number'} in {self.interval}"


def check_value(name: str, value: Any, allowed: _Allowed) -> None:
    """Refuse a number, or a tuple of numbers, that does not lie in a range of `ranges_of`.

    Args:
        name: What the error calls it: `Class.field` or `--flag`.

    Raises:
        UserError: It lies outside, or is no number.
    """
    if allowed.length is not None and isinstance(value, tuple | list) and len(value) != allowed.length:
        expected = f"{allowed.length} values, each {allowed}"
        raise UserError(f"{name} has {len(value)} values", got=value, expected=expected, fix=f"set {name}")
    for number in _leaves(value):
        kind: Any = numbers.Integral if allowed.whole else numbers.Real
        if not isinstance(number, kind) or isinstance(number, bool) or not allowed.holds(number):
            raise UserError(f"{name} is out of range", got=value, expected=allowed, fix=f"set {name}")


def check_increasing(spec: object, *fields: str, strictly: bool = False) -> None:
    """Refuse a field whose numbers decrease; `None` has none.

    Raises:
        UserError: They do, or `strictly` two are equal.
    """
    for name in fields:
        value = getattr(spec, name) or ()
        if any(a > b or (strictly and a == b) for a, b in itertools.pairwise(value)):
            expected = "increasing numbers" if strictly else "numbers that do not decrease"
            raise UserError(f"{type(spec).__name__}.{name} goes down", got=value, expected=expected)


@functools.cache
def ranges_of(owner: type | Callable[..., Any]) -> dict[str, _Allowed]:
    """The ranges that the fields of a class, or the parameters of a function, declare."""
    found: dict[str, _Allowed] = {}
    for name, declared in _declared(owner):
        parts = list(parts_of(declared))
        if ranges := [part for part in parts if isinstance(part, Range)]:
            found[name] = _Allowed(ranges[0].interval, whole=float not in parts, length=_length(declared))
    return found


@functools.cache
def declared_types(owner: type | Callable[..., Any]) -> dict[str, Any]:
    """Types of fields or parameters as they are declared, without those that only a type checker can read."""
    return dict(_declared(owner))


def _declared(owner: type | Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Those of bases first."""
    for each in reversed(owner.__mro__) if isinstance(owner, type) else [owner]:
        for name, declared in inspect.get_annotations(each).items():
            if isinstance(declared, str):
                try:
                    declared = eval(declared, vars(sys.modules[each.__module__]))
                except NameError:
                    continue
            yield name, declared


def parts_of(declared: Any) -> Iterator[Any]:
    """Everything that an annotation is made of."""
    yield declared
    for part in typing.get_args(declared):
        yield from parts_of(part)


def _length(declared: Any) -> int | None:
    """How many values a tuple of a type has; None if it has any number of them, or the type is no tuple."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin is tuple:
        return None if Ellipsis in arguments else len(arguments)
    arguments = arguments[:1] if origin is Annotated else arguments
    lengths = {_length(each) for each in arguments if each is not type(None)}
    return lengths.pop() if len(lengths) == 1 and origin is not dict else None


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item)
    elif value is not None:
        yield value
