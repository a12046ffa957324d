"""Words of a command line as typed values, by tyro; what it refuses is a `UserError` that says what would be accepted."""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import tyro

from countersteer.errors import UserError, did_you_mean

__all__ = ["flag_names", "read", "with_range"]

_NARROWEST = 40  # help is laid out for a terminal at least so wide [columns]


def read(
    target: Callable[..., Any],
    words: Sequence[str],
    *,
    prog: str,
    known: Sequence[str] | None = None,
    hint: str = "",
    **how: Any,
) -> Any:
    """What `tyro.cli` makes of words.

    Args:
        target: Function or type to fill in.
        words: Of the command line, without the command.
        prog: The command, as it is typed.
        known: Names of its flags, for "did you mean"; None for those of `flag_names`.
        hint: What is said of an unknown flag; by default that `--help` lists them.
        how: Given to `tyro.cli`.

    Raises:
        UserError: Words are missing, unknown or of another type.
    """
    fix = f"{prog} --help lists what is accepted"

    def refuse(event: Any) -> None:
        # By name: in another version of tyro an event may be gone, and it then says itself what it refuses.
        match type(event).__name__:
            case "UnrecognizedArgs":
                first, meant = event.tokens[0], None
                if first.startswith("-"):
                    name = first.lstrip("-").partition("=")[0].replace("-", "_")
                    meant = did_you_mean(name, set(flag_names(target) if known is None else known))
                raise UserError(f"unknown argument {first!r}", expected=meant, fix=hint or fix)
            case "MissingArgs":
                missing = ", ".join(_shown(each.arg) for each in event.missing_arguments)
                raise UserError(f"{prog} needs {missing}", fix=fix)
            case "BadValue":
                what = f"{_shown(event.argument)} has no value"
                raise UserError(what, expected=_metavar(event.argument), fix=fix)
            case "InvalidChoice":
                what = f"{_shown(event.argument)} has no value {event.value!r}"
                raise UserError(what, expected=did_you_mean(event.value, event.choices), fix=fix)
            case "InstantiationFailure" if event.argument is not None:
                what, expected = f"{_shown(event.argument)} has the wrong type", _metavar(event.argument)
                raise UserError(what, got=event.message, expected=expected, fix=fix)

    how.setdefault("config", (tyro.conf.FlagCreatePairsOff,))
    with _told(refuse), _wide_enough():
        return tyro.cli(target, args=list(words), prog=prog, compact_help=False, **how)


def with_range(kind: Any, allowed: object) -> Any:
    """A type of which the help says what is allowed, beside its default; None says nothing."""
    if allowed is None:
        return kind
    return Annotated[
        kind, tyro.conf.arg(help_behavior_hint=lambda default: f"({allowed}; default: {default})")
    ]


def flag_names(target: Callable[..., Any]) -> list[str]:
    """Names of the flags of a function: what follows its `*`, of flags that belong together the fields."""
    names: list[str] = []
    for name, parameter in inspect.signature(target).parameters.items():
        if hasattr(parameter.default, "__dataclass_fields__"):
            names += parameter.default.__dataclass_fields__
        elif parameter.kind is parameter.KEYWORD_ONLY:
            names.append(name)
    return names


def _shown(argument: Any) -> str:
    return argument.lowered.metavar if argument.is_positional() else argument.lowered.name_or_flags[-1]


def _metavar(argument: Any) -> str:
    return argument.lowered.metavar or "a value"


@contextlib.contextmanager
def _wide_enough() -> Iterator[None]:
    """Tyro never ends laying its help out for a terminal of a few columns."""
    if shutil.get_terminal_size().columns >= _NARROWEST:
        yield
        return
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(_NARROWEST)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


@contextlib.contextmanager
def _told(refuse: Callable[[Any], None]) -> Iterator[None]:
    """Tyro's refusals go to `refuse`; where this version of it cannot tell, it prints them itself."""
    try:
        from tyro._errors import on_parse_error
    except ImportError:
        yield
        return
    with on_parse_error(refuse):
        yield
