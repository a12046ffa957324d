"""The command line. Every mistake of the user is answered without a traceback, with exit code 2."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tyro

from countersteer import __version__
from countersteer.errors import UserError, did_you_mean

__all__ = ["COMMANDS", "MOVED", "command", "main", "read"]

COMMANDS = {
    "demo": "training",
    "train": "training",
    "evaluate": "evaluation",
    "compare": "evaluation",
    "report": "evaluation",
    "watch": "films",
    "drive": "films",
    "export": "deployment",
    "serve": "deployment",
    "bench": "bench",
    "novel-view": "recordings",
    "view-metrics": "recordings",
    "data list": "data",
    "data inspect": "data",
    "data import": "data",
}
"""Modules of `countersteer.commands` by command; the function in it is called like the command."""
MOVED = {
    "self-play": "evaluate RUN --suite self_play",
    "depart": "novel-view",
    "realism": "view-metrics",
    "list": "data list",
    "inspect": "data inspect",
    "import": "data import",
}
"""What is said today for words that were commands, or are parts of one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 our fault, 2 the user's, 130 interrupted."""
    # Spinning threads cost more than they win on a machine that somebody else uses too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SystemExit as left:  # tyro has printed its help
        return left.code if isinstance(left.code, int) else 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def command(name: str) -> Callable[..., int]:
    """The function of a command."""
    module = importlib.import_module(f"countersteer.commands.{COMMANDS[name]}")
    return getattr(module, name.replace("-", "_").replace(" ", "_"))


def read(
    target: Callable[..., Any],
    words: Sequence[str],
    *,
    prog: str,
    known: Iterable[str],
    hint: str = "",
    **how: Any,
) -> Any:
    """What `tyro.cli` makes of a command's words; its refusals come as `UserError`.

    Args:
        target: Function or type to fill in.
        words: Of the command line, without the command.
        prog: The command, as it is typed.
        known: Names of its flags, for "did you mean".
        hint: Added to what is said of an unknown flag.
        how: Given to `tyro.cli`.
    """
    flags = {name.lstrip("-") for name in known}

    def refuse(event: Any) -> None:
        fix = f"{prog} --help lists what is accepted"
        # By name: in another version of tyro an event may be gone, and it then says itself what it refuses.
        match type(event).__name__:
            case "UnrecognizedArgs":
                first = event.tokens[0]
                meant = (
                    did_you_mean(first.lstrip("-").partition("=")[0].replace("-", "_"), flags)
                    if first.startswith("-")
                    else None
                )
                raise UserError(f"unknown argument {first!r}", expected=meant, fix=hint or fix)
            case "MissingArgs":
                missing = ", ".join(_shown(each.arg) for each in event.missing_arguments)
                raise UserError(f"{prog} needs {missing}", fix=fix)
            case "BadValue":
                raise UserError(
                    f"{_shown(event.argument)} has no value", expected=_metavar(event.argument), fix=fix
                )
            case "InvalidChoice":
                meant = did_you_mean(event.value, event.choices)
                raise UserError(
                    f"{_shown(event.argument)} has no value {event.value!r}", expected=meant, fix=fix
                )
            case "InstantiationFailure" if event.argument is not None:
                raise UserError(
                    f"{_shown(event.argument)} has the wrong type",
                    got=event.message,
                    expected=_metavar(event.argument),
                    fix=fix,
                )

    how.setdefault("config", (tyro.conf.FlagCreatePairsOff,))
    with _told(refuse):
        return tyro.cli(target, args=list(words), prog=prog, compact_help=False, **how)


def _run(words: list[str]) -> int:
    if words[:1] in (["--help"], ["-h"]):
        print(_overview(COMMANDS))
        return 0
    if words[:1] == ["--version"]:
        print(f"countersteer {__version__}")
        return 0
    if not words:
        raise UserError("no command is given", fix="countersteer --help lists the commands")
    group = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if group and words[1:2] in ([], ["--help"], ["-h"]):
        print(_overview(group))
        return 0 if words[1:] else 2
    name = " ".join(words[:2]) if group else words[0]
    if name in MOVED:
        raise UserError(f"there is no command {name!r}", fix=f"countersteer {MOVED[name]}")
    if name not in COMMANDS:
        known = group or [known.split()[0] for known in COMMANDS]
        meant = did_you_mean(name, dict.fromkeys(known))
        raise UserError(
            f"there is no command {name!r}", expected=meant, fix="countersteer --help lists the commands"
        )
    run, rest, prog = command(name), words[len(name.split()) :], f"countersteer {name}"
    if name == "train":  # its flags depend on the recipe
        return run(rest)
    return read(_checked(run), rest, prog=prog, known=parameters(run))


def parameters(run: Callable[..., Any]) -> list[str]:
    """Names of a command's flags."""
    names = []
    for name, parameter in inspect.signature(run, eval_str=True).parameters.items():
        if hasattr(parameter.default, "__dataclass_fields__"):  # flags that belong together
            names += list(parameter.default.__dataclass_fields__)
        elif parameter.kind is parameter.KEYWORD_ONLY:
            names.append(name)
    return names


def _overview(names: Iterable[str]) -> str:
    lines = ["usage: countersteer COMMAND ...", "", "Closed-loop training for driving policies.", ""]
    lines += [f"  {name:14} {(command(name).__doc__ or '').splitlines()[0]}" for name in names]
    return "\n".join(
        [*lines, "", "countersteer COMMAND --help says more; countersteer --version says which this is."]
    )


def _checked(run: Callable[..., int]) -> Callable[..., int]:
    """The command, refusing at once what it could not write after minutes of work."""

    @functools.wraps(run)
    def checked(*given: Any, **named: Any) -> int:
        for name in ("out", "json", "keep"):
            check_writable(named.get(name), folder=name == "out")
        return run(*given, **named)

    return checked


def check_writable(path: Path | None, *, folder: bool) -> None:
    """Refuse a place that cannot be written, without making anything there.

    Args:
        path: Place; None is always good.
        folder: Whether it may be a folder that exists.
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


def _shown(argument: Any) -> str:
    return argument.lowered.metavar if argument.is_positional() else argument.lowered.name_or_flags[-1]


def _metavar(argument: Any) -> str:
    return argument.lowered.metavar or "a value"


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
