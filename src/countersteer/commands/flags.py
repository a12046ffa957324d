"""Flags that several commands have: one name, one type, one meaning."""

from __future__ import annotations

import json
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from countersteer import ranges
from countersteer.errors import UserError, write_results

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
    "Written",
    "keep_numbers",
    "modules",
    "size",
    "wanted_scores",
]


class Written(Enum):
    """Marks a flag that names what a command writes: it is tried before anything else is done."""

    FILE = "file"
    FOLDER = "folder"


Run = Annotated[Positional[Path], arg(metavar="RUN", help="Run folder, or policy file.")]
Log = Annotated[
    Positional[Path], arg(metavar="LOG", help="Camera log: a folder or file that docs/formats.md names.")
]
Json = Annotated[Path | None, arg(metavar="FILE", help="Write the numbers here too."), Written.FILE]
Seed = Annotated[ranges.Seed, arg(help="Of everything that is drawn at random.")]
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
    write_results((path, lambda place: place.write_text(json.dumps(content, indent=1))))


def size(text: str) -> tuple[int, int]:
    """Width and height from WIDTHxHEIGHT."""
    from countersteer.geometry.cameras import Camera

    found = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    if found is None:
        raise UserError("a size is not WIDTHxHEIGHT", got=repr(text), expected="for example 128x64")
    given = int(found[1]), int(found[2])
    ranges.check_value("a width or height [px]", given, ranges.ranges_of(Camera)["width"])
    return given


def wanted_scores(names: tuple[str, ...] | None) -> list[Benchmark]:
    """The scores that were asked for; none for None, all for no names."""
    from countersteer.evaluation.benchmarks import find_benchmarks

    return [] if names is None else find_benchmarks([name for name in ",".join(names).split(",") if name])


def modules(recipe: str | None) -> tuple[Any, ...]:
    """The module of a user's recipe, which a run's policy may come from."""
    from countersteer.recipes.find import find_recipe

    return () if recipe is None else (find_recipe(recipe).module,)
