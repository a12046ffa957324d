"""The command line. Every mistake of the user is answered without a traceback, with exit code 2."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import inspect
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from countersteer import __version__
from countersteer.errors import UserError, check_writable, did_you_mean
from countersteer.interrupts import exit_code, stoppable

__all__ = ["COMMANDS", "MOVED", "command", "main"]

COMMANDS = {
    "demo": "training",
    "train": "training",
    "evaluate": "evaluation",
    "compare": "evaluation",
    "report": "evaluation",
    "watch": "films",
    "drive": "films",
    "novel-view": "films",
    "view-metrics": "films",
    "traffic": "films",
    "export": "deployment",
    "serve": "deployment",
    "bench": "installation",
    "extensions": "installation",
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
_OF_A_RUN = (
    "recipe.json",
    "run.json",
    "metrics.jsonl",
    "policy.safetensors",
    "model.safetensors",
    "checkpoints",
    "rollouts",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 our fault, 2 the user's, 130 Ctrl-C, 143 SIGTERM, 141 no reader."""
    # Spinning threads cost more than they win on a machine that somebody else uses too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _open_streams()
    try:
        with stoppable():
            code = _run(list(sys.argv[1:] if arguments is None else arguments))
            sys.stdout.flush()
            return code
    except UserError as error:
        _say(f"error: {error}")
        return 2
    except SystemExit as left:  # tyro has printed its help
        if isinstance(left.code, str):
            _say(left.code)
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except KeyboardInterrupt:
        _say("interrupted")
        return exit_code()
    except BrokenPipeError:  # nobody reads any more, as in `| head`
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        # Of a stream: errors of files that are opened name them.
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            _drop_output()
            _say(f"error: the output cannot be written\n  got:      {error}\n  fix:      send it elsewhere")
            return 2
        raise


def _open_streams() -> None:
    """Streams that are closed lead nowhere, and no file that is opened later gets their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w" if number else "r")  # noqa: SIM115 (open for as long as the process is)
            try:
                os.fstat(number)
            except OSError:
                os.dup2(stream.fileno(), number)
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know every letter of a name


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _drop_output() -> None:
    """What is left in the buffer has nowhere to go at the exit either."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command(name: str) -> Callable[..., int | None]:
    """The function of a command; it returns the exit code if that is not 0."""
    module = importlib.import_module(f"countersteer.commands.{COMMANDS[name]}")
    return getattr(module, name.replace("-", "_").replace(" ", "_"))


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
        meant = did_you_mean(name, {known if group else known.split()[0] for known in group or COMMANDS})
        fix = "countersteer --help lists the commands"
        raise UserError(f"there is no command {name!r}", expected=meant, fix=fix)
    try:
        os.getcwd()
    except OSError as error:  # libraries end the process where they ask for it
        raise UserError(
            "the working folder is gone", got=error.strerror, fix="change into another one"
        ) from None
    run, rest = command(name), words[len(name.split()) :]
    if name == "train":  # its flags depend on the recipe
        return run(rest) or 0
    from countersteer.storage.field_flags import tree_rules
    from countersteer.storage.words import read

    return read(_checked(run), rest, prog=f"countersteer {name}", registry=tree_rules()) or 0


def _overview(names: Iterable[str]) -> str:
    lines = ["usage: countersteer COMMAND ...", "", "Closed-loop training for driving policies.", ""]
    lines += [f"  {name:14} {(command(name).__doc__ or '').splitlines()[0]}" for name in names]
    last = "countersteer COMMAND --help says more; countersteer --version says which this is."
    return "\n".join([*lines, "", last])


def _check_keeps(path: Path | None, inputs: Iterable[Any]) -> None:
    """Refuse to write over what the command reads, and over what makes a folder a run."""
    if path is None:
        return
    read = [
        Path(each)
        for given in inputs
        for each in (given if isinstance(given, (list, tuple)) else [given])
        if isinstance(each, (str, Path))
    ]
    with contextlib.suppress(OSError, ValueError):  # there is no such file yet
        whole = path.resolve()
        runs = [
            each
            for each in whole.parents[:2]
            if (each / "recipe.json").is_file() and (each / "run.json").is_file()
        ]
        own = any(whole.relative_to(each).parts[0] in _OF_A_RUN for each in runs)
        if own or any(each.is_file() and each.samefile(whole) for each in read if os.path.lexists(each)):
            raise UserError(
                f"{str(path)!r} would be lost",
                got="what the command reads, or a run is made of",
                fix="name another place",
            )


def _checked(run: Callable[..., Any]) -> Callable[..., Any]:
    """The command, refusing at once what lies outside its range and what it could not write after minutes of work.

    Its annotations say the ranges in the help too.
    """
    from countersteer.commands.flags import Written
    from countersteer.ranges import check_value, declared_types, parts_of, ranges_of
    from countersteer.storage.words import with_range

    allowed, types = ranges_of(run), declared_types(run)
    written = {
        name: part for name, kind in types.items() for part in parts_of(kind) if isinstance(part, Written)
    }

    @functools.wraps(run)
    def checked(*given: Any, **named: Any) -> Any:
        for name, value in named.items():
            if name in allowed:
                check_value(f"--{name.replace('_', '-')}", value, allowed[name])
            if name in written:
                check_writable(value, folder=written[name] is Written.FOLDER)
                inputs = [*given, *(each for other, each in named.items() if other not in written)]
                _check_keeps(value, inputs)
        return run(*given, **named)

    checked.__annotations__ = {name: with_range(kind, allowed.get(name)) for name, kind in types.items()}
    checked.__signature__ = inspect.signature(run)  # pyright: ignore[reportAttributeAccessIssue]
    del checked.__wrapped__  # pyright: ignore[reportAttributeAccessIssue]
    return checked
