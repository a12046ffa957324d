"""Flags that several commands have: one name, one type, one meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from countersteer.errors import UserError

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


def size(text: str) -> tuple[int, int]:
    """Width and height from WIDTHxHEIGHT."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise UserError("a size is not WIDTHxHEIGHT", got=text, expected="for example 128x64")
    return int(width), int(height)


def wanted_scores(names: tuple[str, ...] | None) -> list[Benchmark]:
    """The scores that were asked for; none for None, all for no names."""
    from countersteer.evaluation.benchmarks import find_benchmarks

    return [] if names is None else find_benchmarks([name for name in ",".join(names).split(",") if name])


def modules(recipe: str | None) -> tuple[Any, ...]:
    """The module of a user's recipe, which a run's policy may come from."""
    from countersteer.recipes.find import find_recipe

    return () if recipe is None else (find_recipe(recipe).module,)
