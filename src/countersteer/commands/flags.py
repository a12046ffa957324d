"""Flags that several commands have: one name, one type, one meaning."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from countersteer.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from countersteer.evaluation.scoring import Benchmark

__all__ = [
    "Device",
    "Json",
    "Log",
    "Resume",
    "Run",
    "Scenarios",
    "Scores",
    "Seed",
    "UserRecipe",
    "check_writable",
    "keep_numbers",
    "modules",
    "size",
    "wanted_scores",
]

Run = Annotated[Positional[Path], arg(metavar="RUN", help="Run folder, or policy file.")]
Log = Annotated[
    Positional[Path], arg(metavar="LOG", help="Camera log: a folder or file that docs/formats.md names.")
]
Json = Annotated[Path | None, arg(metavar="FILE", help="Write the numbers here too.")]
Seed = Annotated[int, arg(help="Of everything that is drawn at random.")]
Device = Annotated[str, arg(help="Where tensors live: cpu, cuda, cuda:0.")]
Resume = Annotated[bool, arg(help="Continue an interrupted run.")]
Scenarios = Annotated[
    Path | None,
    arg(
        metavar="FOLDER",
        help="Recorded scenarios or camera logs of yours to drive in (`countersteer data import` makes some).",
    ),
]
Scores = Annotated[
    tuple[str, ...] | None,
    arg(
        metavar="[SCORE ...]",
        help="Benchmark scores as well: these, or all where none is named. docs/scores.md describes them.",
    ),
]
UserRecipe = Annotated[
    str | None,
    arg(
        metavar="FILE.py:FUNCTION",
        help="Recipe the run was made from, if it is of your own file; the file is executed.",
    ),
]


def keep_numbers(path: Path | None, content: Any) -> None:
    """Write what `--json` asks for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1))


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


def size(text: str) -> tuple[int, int]:
    """Width and height from WIDTHxHEIGHT."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise UserError("a size is not WIDTHxHEIGHT", got=text, expected="for example 128x64")
    return int(width), int(height)


def wanted_scores(names: tuple[str, ...] | None) -> list[Benchmark]:
    """The scores that were asked for; none for None, all for no names."""
    if names is None:
        return []
    from countersteer.evaluation.benchmarks import BENCHMARKS

    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    wanted = [name for name in ",".join(names).split(",") if name] or list(known)
    for name in wanted:
        if name not in known:
            raise UserError(
                f"there is no score {name!r}",
                expected=did_you_mean(name, known),
                fix="docs/scores.md describes the scores",
            )
    return [known[name] for name in dict.fromkeys(wanted)]


def modules(recipe: str | None) -> tuple[Any, ...]:
    """The module of a user's recipe, which a run's policy may come from."""
    from countersteer.recipes.find import find_recipe

    return () if recipe is None else (find_recipe(recipe).module,)
