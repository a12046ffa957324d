"""`countersteer train` and `countersteer demo`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from countersteer.commands.flags import Device, Json, Resume, Scenarios, Seed, check_writable, keep_numbers
from countersteer.errors import UserError
from countersteer.recipes.find import FoundRecipe, find_recipe, known_recipes
from countersteer.storage.field_flags import override, word_type
from countersteer.storage.words import read

if TYPE_CHECKING:
    from countersteer.training.recipe import Recipe

__all__ = ["Training", "asked_recipe", "demo", "train", "with_fields"]

_DEMO = ("clone", "perturb", "on_policy", "blind")


@dataclasses.dataclass(frozen=True)
class Training:
    """How a recipe is trained.

    Attributes:
        out: New folder of the run, or an interrupted one's with --resume; default runs/NAME.
        actors: Processes of Ray that drive while others learn; 0 for none.
    """

    out: Path | None = None
    seed: Seed = 0
    device: Device = "cpu"
    resume: Resume = False
    scenarios: Scenarios = None
    actors: int = 0


def train(words: Sequence[str]) -> None:
    """Train a recipe: a name, or file.py:function. More flags override its fields.

    Args:
        words: The recipe, and flags: those of `Training`, the parameters of the recipe's function, and every field.
    """
    if words[:1] in (["-h"], ["--help"]):
        print(f"usage: countersteer train NAME [--out FOLDER] ...\n\n{str(train.__doc__).splitlines()[0]}\n")
        print(f"NAME is one of {', '.join(known_recipes())}, or file.py:function.")
        print("countersteer train NAME --help lists every field of that recipe, with its default.")
        return
    if not words or words[0].startswith("-"):
        got = words[0] if words else "nothing"
        raise UserError(
            "countersteer train needs a recipe first", got=got, expected="countersteer train NAME ..."
        )
    found = find_recipe(words[0])
    recipe, how = asked_recipe(found, words[1:])
    out = how.out or Path("runs") / recipe.name
    check_writable(out, folder=True)
    from countersteer.reporting.terminal import TrainingConsole
    from countersteer.training import run
    from countersteer.training.collector import InlineCollector

    collector: Any = InlineCollector
    if how.actors:
        from countersteer.training.ray_collector import RayCollector

        collector = functools.partial(RayCollector, actors=how.actors)
    with _fast(), TrainingConsole() as console:
        finished = run.train(
            recipe,
            out,
            seed=how.seed,
            device=how.device,
            resume=how.resume,
            source=found.source,
            progress=console.progress(recipe.name),
            collector=collector,
        )
    print(f"wrote {finished}")
    # A policy that learned to drive every car of a world is judged so.
    world = getattr(recipe.stages[-1], "world", None)
    suite = "self_play" if world is not None and world.agents > 1 else "lane_keeping"
    print(f"next: countersteer evaluate {out} --suite {suite}")


def asked_recipe(found: FoundRecipe, words: Sequence[str]) -> tuple[Recipe, Training]:
    """The recipe with everything that the words say, and how to train it."""
    prog = f"countersteer train {found.name}"
    asked = [
        (name, word_type(parameter.annotation, parameter.default), parameter.default)
        for name, parameter in inspect.signature(found.build, eval_str=True).parameters.items()
        if parameter.default is not parameter.empty
    ]
    how = ("how", Annotated[Training, tyro.conf.arg(name="")], Training())
    # First what the recipe is built from, then its fields, whose defaults depend on that.
    first = dataclasses.make_dataclass("_First", [how, *asked])
    help = [word for word in words if word in ("-h", "--help")]
    own = [word for word in words if word not in help]
    said, rest = read(first, own, prog=prog, add_help=False, return_unknown_args=True)
    recipe = found.recipe(**{name: getattr(said, name) for name, *_ in asked})
    if said.how.scenarios is not None:
        from countersteer.reporting.terminal import say

        recipe = found.on_scenarios(recipe, said.how.scenarios, say)
    # What was said already is shown by the help too.
    shown = [(name, kind, getattr(said, name)) for name, kind, _ in (how, *asked)]
    return with_fields(recipe, rest + help[:1], prog, shown, inspect.getdoc(found.build) or ""), said.how


def with_fields(
    recipe: Recipe,
    words: Sequence[str],
    prog: str,
    shown: Sequence[tuple[str, Any, Any]] = (),
    description: str = "",
) -> Recipe:
    """A recipe with the fields that words give; those of one of several stages begin with its name. See `override`."""
    single = len(recipe.stages) == 1
    trees = {"" if single else stage.name: stage for stage in recipe.stages}
    stages = override(trees, words, prog, shown=shown, taken=("scenarios",), description=description)
    # The only stage and its recipe have one name.
    return dataclasses.replace(recipe, name=stages[0].name if single else recipe.name, stages=tuple(stages))


def demo(
    *,
    out: Path = Path("runs/demo"),
    seeds: int = 1,
    jobs: int = min(2, os.cpu_count() or 1),
    json: Json = None,
) -> None:
    """The study: train four recipes, drive them, compare, report.

    Args:
        out: Folder of runs and report; the table is in compare.json there.
        seeds: How many seeds each recipe is trained with, from seed 0 on.
        jobs: Runs to train at once, about 2 GB and their share of the cores each.
    """
    from countersteer.recipes import closed_loop
    from countersteer.reporting import study, terminal

    if seeds < 1:
        raise UserError("there is nothing to compare without a seed", got=seeds, expected="at least 1")
    trained = [getattr(closed_loop, name)() for name in _DEMO]
    with _fast(), terminal.TrainingConsole() as bars:
        found = study.demo(
            trained, out, range(seeds), at_once=jobs, progress=bars.progress, message=terminal.say
        )
    terminal.print_rows(found.rows, found.tests)
    keep_numbers(json, [row.to_json() for row in found.rows])
    print(f"wrote {out / 'report.html'} and {out / 'compare.json'}")


@contextmanager
def _fast() -> Iterator[None]:
    """Moments of weights that no longer learn decay into denormal numbers, which are slow."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
