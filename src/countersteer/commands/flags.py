"""Flags that several commands have: one name, one type, one meaning."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from countersteer.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from countersteer.evaluation.scoring import Benchmark

__all__ = [
    *("Device", "Json", "Log", "Resume", "Run", "Scenarios", "Scores", "Seed", "Suite", "UserRecipe"),
    *("find_recipe", "keep_numbers", "modules", "recipes", "size", "wanted_scores"),
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
Suite = Annotated[str | None, arg(metavar="SUITE")]
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
    if names is None:
        return []
    from countersteer.evaluation.scoring import BENCHMARKS

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


def recipes() -> dict[str, str]:
    """Modules of `countersteer.recipes` by recipe: every function there that returns one, without importing them."""
    import ast

    from countersteer import recipes as package

    found: dict[str, str] = {}
    for file in sorted(Path(package.__path__[0]).glob("[!_]*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if (
                not isinstance(node, ast.FunctionDef)
                or node.returns is None
                or ast.unparse(node.returns) != "Recipe"
            ):
                continue
            if len(node.args.args) == len(node.args.defaults):  # those with other arguments change a recipe
                found[node.name] = file.stem
    return found


def find_recipe(name: str) -> tuple[Callable[..., Any], str | None, Any]:
    """The function of a recipe's name or of file.py:function, its source if it is the user's, and its module.

    Raises:
        UserError: There is no such recipe, or the file cannot be run.
    """
    if ":" not in name and not name.endswith(".py"):
        known = recipes()
        if name not in known:
            raise UserError(
                f"there is no recipe {name!r}",
                got=name,
                expected=did_you_mean(name, known),
                fix="name a recipe, or a function of your own as my_recipe.py:function",
            )
        module = importlib.import_module(f"countersteer.recipes.{known[name]}")
        return getattr(module, name), None, module
    path, _, function = name.rpartition(":") if ":" in name else (name, "", "")
    file = Path(path)
    if not function or not file.is_file():
        raise UserError(
            f"no recipe at {name!r}",
            got="no such file" if function else "no function",
            expected="file.py:function",
            fix="check the path and name the function that returns the recipe",
        )
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[file.stem] = module
    try:
        specification.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{file} cannot be run",
            got=f"{type(error).__name__}: {error}",
            fix="run the file with python to see where",
        ) from None
    found = getattr(module, function, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if callable(value)]
        raise UserError(
            f"{file} has no function {function!r}", got=function, expected=did_you_mean(function, names)
        )
    return found, f"{file.resolve()}:{function}", module


def modules(recipe: str | None) -> tuple[Any, ...]:
    """The module of a user's recipe, which a run's policy may come from."""
    return () if recipe is None else (find_recipe(recipe)[2],)
