"""`countersteer train` and `countersteer demo`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from countersteer.commands.cli import check_writable, read
from countersteer.commands.flags import Device, Json, Resume, Scenarios, Seed, keep_numbers
from countersteer.errors import UserError
from countersteer.recipes.find import find_recipe, known_recipes

if TYPE_CHECKING:
    from countersteer.training.recipe import Recipe

__all__ = ["Training", "demo", "override", "train"]

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


def train(words: list[str]) -> int:
    """Train a recipe: a name, or file.py:function. More flags override its fields.

    Args:
        words: The recipe, and flags: those of `Training`, the parameters of the recipe's function, and every field.
    """
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: countersteer train NAME [--out FOLDER] ...\n\n{str(train.__doc__).splitlines()[0]}\n")
        print(f"NAME is one of {', '.join(known_recipes())}, or file.py:function.")
        print("countersteer train NAME --help lists every field of that recipe, with its default.")
        return 0 if words else 2
    name, *rest = words
    if name.startswith("-"):
        raise UserError(
            "countersteer train needs a recipe first", got=name, expected="countersteer train NAME ..."
        )
    recipe, how, source = _read(name, rest)
    out = how.out or Path("runs") / recipe.name
    check_writable(out, folder=True)
    from countersteer.commands.console import TrainingConsole
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
            source=source,
            progress=console.progress(recipe.name),
            collector=collector,
        )
    print(f"wrote {finished}")
    # A policy that learned to drive every car of a world is judged so.
    world = getattr(getattr(recipe, "stages", (recipe,))[-1], "world", None)
    suite = "self_play" if getattr(world, "agents", 1) > 1 else "lane_keeping"
    print(f"next: countersteer evaluate {out} --suite {suite}")
    return 0


def _read(name: str, words: list[str]) -> tuple[Recipe, Training, str | None]:
    """The recipe with everything that the words say, how to train it, and the user's file it is from."""
    build, source, module = find_recipe(name)
    asked, prog = _parameters(build), f"countersteer train {name}"
    how = ("how", Annotated[Training, tyro.conf.arg(name="")], Training())
    # First what the recipe is built from, then its fields, whose defaults depend on that.
    first = dataclasses.make_dataclass("_First", [how, *asked])
    help = [word for word in words if word in ("-h", "--help")]
    own = [word for word in words if word not in help]
    parsed, rest = read(first, own, prog=prog, known=(), add_help=False, return_unknown_args=True)
    recipe = _build(name, build, _values(build, {field: getattr(parsed, field) for field, *_ in asked}))
    if parsed.how.scenarios is not None:
        recipe = _on_scenarios(module, recipe, parsed.how.scenarios)
    # What was said already is shown by the help too.
    shown = [(field, kind, getattr(parsed, field)) for field, kind, _ in [how, *asked]]
    description = inspect.getdoc(build) or ""
    return override(recipe, rest + help[:1], prog, shown, description=description), parsed.how, source


def override(
    recipe: Any,
    words: list[str],
    prog: str,
    shown: Sequence[tuple[str, Any, Any]] = (),
    description: str = "",
) -> Any:
    """A recipe with the fields that words give: `--optim.steps 500`; of several stages, `--NAME.optim.steps 500`.

    Args:
        recipe: A frozen tree, or one with a tuple `stages` of them, each with a `name`.
        words: Flags and values.
        prog: Command to name in errors.
        shown: Other flags that the help shows: field, type and default.
        description: What the help begins with.
    """
    from countersteer.commands.overrides import flags, registry, take_classes

    stages = getattr(recipe, "stages", None)
    trees = {"recipe": recipe} if stages is None else {f"stage{k}": stage for k, stage in enumerate(stages)}
    # One stage needs no prefix.
    names = {key: tree.name if len(trees) > 1 else "" for key, tree in trees.items()}
    prefixes = {key: f"{name}." if name else "" for key, name in names.items()}
    for key in trees:
        trees[key], words = take_classes(trees[key], words, prefixes[key])
    fields = [
        (key, Annotated[type(tree), tyro.conf.arg(name=names[key])], tree) for key, tree in trees.items()
    ]
    known = [flag for key, tree in trees.items() for flag in flags(tree, prefixes[key])]
    said = read(
        dataclasses.make_dataclass("_Whole", [*shown, *fields]),
        words,
        prog=prog,
        known=[
            *known,
            *(field.name for field in dataclasses.fields(Training)),
            *(name for name, *_ in shown),
        ],
        hint=f"{prog} --help lists every field",
        registry=registry(taken=("scenarios",)),
        use_underscores=True,
        config=(),
        description=description,
    )
    if stages is None:
        return said.recipe
    return dataclasses.replace(recipe, stages=tuple(getattr(said, key) for key in trees))


def _parameters(build: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Parameters of a recipe's function as fields: name, type, default; what is no plain value is said as text."""
    plain = (bool, int, float)
    return [
        (
            name,
            type(parameter.default) if isinstance(parameter.default, plain) else str | None,
            parameter.default,
        )
        for name, parameter in inspect.signature(build).parameters.items()
        if parameter.default is not parameter.empty
    ]


def _values(build: Callable[..., Any], said: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a recipe's function from what was said: text where a class is asked that a path makes."""
    from countersteer.commands.overrides import path_class

    kinds = {
        name: path_class(p.annotation)
        for name, p in inspect.signature(build, eval_str=True).parameters.items()
    }
    return {name: kinds[name](v) if kinds[name] and isinstance(v, str) else v for name, v in said.items()}


def _build(name: str, build: Callable[..., Any], given: dict[str, Any]) -> Recipe:
    from countersteer.training.recipe import Recipe

    try:
        built = build(**given)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{name} failed",
            got=f"{type(error).__name__}: {error}",
            expected="a function that returns a Recipe",
            fix="run the file with python to see where",
        ) from None
    if not isinstance(built, Recipe):
        raise UserError(
            f"{name} did not return a recipe",
            got=type(built).__name__,
            expected="countersteer.training.recipe.Recipe",
            fix="return a Recipe",
        )
    return built


def _on_scenarios(module: Any, recipe: Recipe, folder: Path) -> Recipe:
    """The recipe in the user's recordings: how, its module says; one that says nothing drives in them as `closed_loop`."""
    from countersteer.commands.console import say
    from countersteer.recipes import closed_loop

    return getattr(module, "on_scenarios", closed_loop.on_scenarios)(recipe, folder, say)


def demo(
    *,
    out: Path = Path("runs/demo"),
    seeds: int = 1,
    jobs: int = min(2, os.cpu_count() or 1),
    json: Json = None,
) -> int:
    """The study: train four recipes, drive them, compare, report.

    Args:
        out: Folder of runs and report; the table is in compare.json there.
        seeds: How many seeds each recipe is trained with, from seed 0 on.
        jobs: Runs to train at once, about 2 GB and their share of the cores each.
        json: As everywhere.
    """
    from countersteer.commands import console
    from countersteer.recipes import closed_loop
    from countersteer.reporting import study

    if seeds < 1:
        raise UserError("there is nothing to compare without a seed", got=seeds, expected="at least 1")
    trained = [getattr(closed_loop, name)() for name in _DEMO]
    with _fast(), console.TrainingConsole() as bars:
        found = study.demo(
            trained, out, range(seeds), at_once=jobs, progress=bars.progress, message=console.say
        )
    console.print_rows(found.rows, found.tests)
    keep_numbers(json, [row.to_json() for row in found.rows])
    print(f"wrote {out / 'report.html'} and {out / 'compare.json'}")
    return 0


@contextmanager
def _fast() -> Iterator[None]:
    """Moments of weights that no longer learn decay into denormal numbers, which are slow."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
