"""`countersteer train` and `countersteer demo`."""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from countersteer.commands.flags import Device, Json, Resume, Scenarios, Seed, Written, keep_numbers
from countersteer.errors import UserError, check_writable
from countersteer.ranges import Range, Ranged
from countersteer.recipes.find import find_recipe, known_recipes

__all__ = ["Training", "demo", "train"]

_DEMO = ("clone", "perturb", "on_policy", "blind")


@dataclasses.dataclass(frozen=True)
class Training(Ranged):
    """How a recipe is trained.

    Attributes:
        out: New folder of the run, or an interrupted one's with --resume; default runs/NAME.
        actor_device: Where worlds and the policies that drive in them live: cpu, cuda, cuda:0.
        actors: Processes of Ray that drive while others learn; 0 for none.
    """

    out: Annotated[Path | None, Written.FOLDER] = None
    seed: Seed = 0
    device: Device = "cpu"
    actor_device: str = "cpu"
    resume: Resume = False
    scenarios: Scenarios = None
    actors: Annotated[int, Range("[0, 1000]")] = 0


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
    from countersteer.reporting.terminal import TrainingConsole, say

    found = find_recipe(words[0])
    recipe, how = found.read(words[1:], Training(), say)
    out = how.out or Path("runs") / recipe.name
    check_writable(out, folder=True)
    from countersteer.training import run
    from countersteer.training.collector import InlineCollector

    collector: Any = InlineCollector
    if how.actors:
        from countersteer.training.ray_collector import RayCollector

        collector = functools.partial(RayCollector, actors=how.actors)
    try:
        with run.flushed_denormals(), TrainingConsole() as console:
            finished = run.train(
                recipe,
                out,
                seed=how.seed,
                device=how.device,
                actor_device=how.actor_device,
                resume=how.resume,
                source=found.source,
                progress=console.progress(recipe.name),
                collector=collector,
            )
    except KeyboardInterrupt:
        print(
            f"next: countersteer train {shlex.join([word for word in words if word != '--resume'])} --resume"
        )
        raise
    print(f"wrote {finished}")
    world = getattr(recipe.stages[-1], "world", None)
    if world is None:  # a model that drives nobody
        return
    # A policy that learned to drive every car of a world is judged so.
    suite = "self_play" if world.agents > 1 else "lane_keeping"
    print(f"next: countersteer evaluate {out} --suite {suite}")


def demo(
    *,
    out: Annotated[Path, Written.FOLDER] = Path("runs/demo"),
    seeds: Annotated[int, Range("[1, 1000]")] = 1,
    jobs: Annotated[int, Range("[1, 1000]")] = min(2, os.cpu_count() or 1),
    precision: Literal["fastest", "float32", "bfloat16"] = "fastest",
    json: Json = None,
) -> None:
    """The study: train four recipes, drive them, compare, report.

    Args:
        out: Folder of runs and report; the table is in compare.json there.
        seeds: How many seeds each recipe is trained with, from seed 0 on.
        jobs: Runs to train at once, about 2 GB and their share of the cores each.
        precision: Of what policies see while they learn; the fastest is bfloat16 where the processor has it.
    """
    from countersteer.policies.precision import Precision, fastest_precision
    from countersteer.recipes import closed_loop
    from countersteer.reporting import study, terminal
    from countersteer.training.run import flushed_denormals

    chosen = fastest_precision() if precision == "fastest" else Precision(precision)
    terminal.say(f"policies see in {chosen} while they learn")
    recipes = [getattr(closed_loop, name)() for name in _DEMO]
    trained = [
        recipe.replace(optim=dataclasses.replace(recipe.stage.optim, precision=chosen)) for recipe in recipes
    ]
    try:
        with flushed_denormals(), terminal.TrainingConsole() as bars:
            found = study.demo(
                trained, out, range(seeds), at_once=jobs, progress=bars.progress, message=terminal.say
            )
    except KeyboardInterrupt:
        print("next: the same command goes on where this one stopped")
        raise
    terminal.print_rows(found.rows, found.tests)
    keep_numbers(json, [row.to_json() for row in found.rows])
    print(f"wrote {out / 'report.html'} and {out / 'compare.json'}")
