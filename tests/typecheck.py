"""The type checker behind the jaxtyping import hook: beartype, made to pass over `typing.Self`."""

from __future__ import annotations

import functools
import operator
import types
import typing
from typing import Any

from beartype import beartype

__all__ = ["check"]


def _without_self(hint: Any) -> Any:
    if hint is typing.Self:
        return object
    arguments = typing.get_args(hint)
    if typing.Self not in arguments:
        return hint
    plain = tuple(_without_self(argument) for argument in arguments)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, plain)
    return typing.get_origin(hint)[plain]


def check(function: Any) -> Any:
    """Check the calls of `function` against its annotations; `Self` stands for any object.

    The hook decorates one method at a time, and beartype refuses `Self` outside a class that it
    decorates as a whole. Shapes and all other types of such a method are checked as everywhere else.
    """
    hints = getattr(function, "__annotations__", {})
    hints.update({name: _without_self(hint) for name, hint in hints.items()})
    return beartype(function)
