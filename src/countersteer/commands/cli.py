"""The command line. Every mistake of the user is answered without a traceback, with exit code 2."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from countersteer import __version__
from countersteer.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from countersteer.evaluation.benchmarks import Benchmark
    from countersteer.evaluation.records import SuiteResult
    from countersteer.evaluation.suites import Suite
    from countersteer.training.recipe import Recipe

__all__ = ["main"]

_DEMO = ("clone", "perturb", "on_policy", "blind")
_RECIPES = (
    dict.fromkeys(_DEMO, "closed_loop")
    | dict.fromkeys(
        (
            "self_play_teacher",
            "self_play",
            "self_play_vit",
            "self_play_single",
            "self_play_clone",
            "self_play_adapted",
        ),
        "self_play",
    )
    | dict.fromkeys(("reprojection_clone", "reprojection_perturb", "reprojection"), "reprojection")
)
"""Modules of `countersteer.recipes` by recipe."""
_SUITES = ("lane_keeping", "lane_change", "recorded")
_FOREIGN = ("metadrive_lane_keeping", "metadrive_lane_change")
"""Suites in worlds that others made; they need the extra `bridges`."""
_SCORES = (
    *("navsim_v1", "navsim_v2", "nuplan", "carla_1_0", "carla_2_0", "carla_2_1", "bench2drive"),
    *("alpasim", "hugsim", "rad", "displacement"),
)
_DATA = ("list", "inspect", "import")
"""Parts of the command `data`."""
_STAGES = ("state", "render", "full")
_DEPTHS = ("recorded", "stereo", "lidar", "sweep", "learned", "ground")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 our fault, 2 the user's, 130 interrupted."""
    # Spinning threads cost more than they win on a machine that somebody else uses too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = _parser()
    try:
        known, rest = parser.parse_known_args(arguments)
        if rest and known.run is not _train:
            raise UserError(
                f"unknown argument {rest[0]!r}",
                fix=f"countersteer {known.command} --help lists the arguments",
            )
        known.overrides = rest
        if known.run not in (_train, _demo):
            return known.run(known) or 0
        import torch

        # Moments of weights that no longer learn decay into denormal numbers, which are slow.
        torch.set_flush_denormal(True)
        try:
            return known.run(known) or 0
        finally:
            torch.set_flush_denormal(False)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        hint = message
        if "invalid choice" in message:
            got = message.split("'")[1]
            choices = [part.strip("' ") for part in message.split("choose from", 1)[1].strip(" )").split(",")]
            meant = f"did you mean data {got}?" if got in _DATA else did_you_mean(got, choices)
            hint = f"{message.split(' (choose')[0]} ({meant})"
        raise UserError(hint, fix=f"{self.prog} --help lists what is accepted")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="countersteer", description="Closed-loop training for driving policies.")
    parser.add_argument("--version", action="version", version=f"countersteer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Callable[[Any], int | None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    demo = command("demo", _demo, "The main job: train four recipes, drive them, compare, report.")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"))
    demo.add_argument("--seeds", type=int, default=1, help="how many seeds (default 1)")
    demo.add_argument(
        "--jobs",
        type=int,
        default=min(2, os.cpu_count() or 1),
        help="runs to train at once, about 2 GB and their share of the cores each (default %(default)s)",
    )
    demo.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the table here (it is in OUT/compare.json anyway)",
    )

    drive = command("drive", _drive, "Film a policy driving the recorded road; nothing is trained.")
    drive.add_argument(
        "policy", nargs="?", type=Path, help="run folder or policy file (default: the shipped one)"
    )
    drive.add_argument("--out", type=Path, default=Path("drive.mp4"))
    drive.add_argument("--start", type=float, default=40.0, help="second of the recording to start at")

    train = command(
        "train", _train, "Train a recipe: a name, or file.py:function. More flags override fields."
    )
    train.add_argument("recipe", help=f"one of {', '.join(_RECIPES)}, or file.py:function")
    train.add_argument("--out", type=Path, required=True)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default="cpu")
    train.add_argument("--resume", action="store_true")
    train.add_argument(
        "--actors", type=int, default=0, help="processes of Ray that drive while others learn (default: none)"
    )

    evaluate = command(
        "evaluate",
        _evaluate,
        "Drive a suite of closed-loop tests with a run's policy, or score a replay again.",
    )
    evaluate.add_argument(
        "run_folder",
        metavar="RUN",
        help="run folder, policy file, 'expert', or a replay, which is not driven",
    )
    evaluate.add_argument(
        "--suite",
        choices=(*_SUITES, *_FOREIGN),
        help="what to drive; a replay knows. Policies trained with target points, or told where to turn, get them",
    )
    evaluate.add_argument("--scenes", type=Path, help="folder of recorded scenes for the suite 'recorded'")
    evaluate.add_argument(
        "--scores",
        nargs="*",
        metavar="SCORE",
        help=f"benchmark scores as well: all, or some of {', '.join(_SCORES)}",
    )
    evaluate.add_argument("--keep", type=Path, metavar="FILE", help="replay: keep the drives here")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")

    watch = command(
        "watch", _watch, "Look at the drives of a replay: cameras, map, boxes, plans, labels, scores."
    )
    watch.add_argument("replay", type=Path, metavar="FILE", help="replay, or run folder that has one")
    watch.add_argument("--out", type=Path, help="page to write (default: FILE with the ending .html)")
    watch.add_argument("--case", help="where to begin (default: the first that failed)")
    watch.add_argument("--scores", nargs="*", metavar="SCORE", help="as in evaluate (default: none)")
    watch.add_argument(
        "--viewer",
        choices=("page", "rerun"),
        default="page",
        help="one page for a browser, or a recording for the Rerun viewer (extra 'view')",
    )

    compare = command("compare", _compare, "Compare evaluated runs, or replays, paired on the case.")
    compare.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run folder, replay, or folder of replays"
    )
    compare.add_argument(
        "--scores", nargs="*", metavar="SCORE", help="score the replays too, as in evaluate (default: none)"
    )
    compare.add_argument("--suite", help="on this suite only (default: on all)")
    compare.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")

    report = command(
        "report", _report, "Drive the suites with a run's policy and write one HTML page with films."
    )
    report.add_argument("run_folder", metavar="RUN", type=Path)
    report.add_argument("--out", type=Path, help="default: RUN/report.html")

    self_play = command(
        "self-play",
        _self_play,
        "Drive every car of unseen worlds with copies of a run's policy; table, film, page.",
    )
    self_play.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="teachers and students, the first is filmed (default: the shipped ones)",
    )
    self_play.add_argument("--out", type=Path, default=Path("self_play.html"))
    self_play.add_argument("--worlds", type=int, default=60, help="generated roads (default %(default)s)")
    self_play.add_argument(
        "--scenes", type=Path, help="folder of recorded scenes, instead of generated roads"
    )
    self_play.add_argument(
        "--scene",
        default="intersection",
        help="part of the name of the one to film (default: an intersection, or where there are lights)",
    )
    self_play.add_argument("--gap", action="store_true", help="cameras do not show what is drawn")
    self_play.add_argument(
        "--conditions",
        nargs="*",
        metavar="COEFFICIENT",
        help="turn these coefficients of teachers, or a few that matter",
    )
    self_play.add_argument("--seed", type=int, default=0)

    export = command("export", _export, "Write a run's policy as an ONNX file, checked against PyTorch.")
    export.add_argument("run_folder", metavar="RUN", type=Path, help="run folder or policy file")
    export.add_argument("--out", type=Path, required=True, help="the file, for example policy.onnx")
    export.add_argument("--json", type=Path, metavar="FILE", help="write what was measured here")

    serve = command("serve", _serve, "Drive AlpaSim's car with a run's policy, over gRPC.")
    serve.add_argument("run_folder", metavar="RUN", type=Path, help="run folder or policy file")
    serve.add_argument("--port", type=int, default=50051, help="0 for a free one (default %(default)s)")
    serve.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for everybody (default %(default)s)")
    serve.add_argument(
        "--set-speed", type=float, default=10.0, help="asked for by the passenger, m/s (default %(default)s)"
    )

    bench = command("bench", _bench, "Time boxworld: a tick with a vector observation, pictures, and both.")
    bench.add_argument("--stages", nargs="+", choices=_STAGES, default=list(_STAGES))
    bench.add_argument("--scenes", type=Path, help="folder of recorded scenes (default: generated junctions)")
    bench.add_argument("--count", type=int, default=8, help="generated junctions (default %(default)s)")
    bench.add_argument("--worlds", type=int, default=32)
    bench.add_argument("--agents", type=int, nargs="+", default=[8], help="controlled cars a world")
    bench.add_argument("--sizes", nargs="+", default=["128x64"], metavar="WIDTHxHEIGHT")
    bench.add_argument("--cameras", type=int, default=1, help="cameras a car, evenly around it")
    bench.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    bench.add_argument("--device", default="cpu")
    bench.add_argument("--seconds", type=float, default=3.0, help="for each row (default %(default)s)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")

    depart = command(
        "depart", _depart, "Film a camera log from beside its recorded path, on the way back to it."
    )
    depart.add_argument("log", type=Path)
    depart.add_argument("--out", type=Path, default=Path("departure.mp4"))
    depart.add_argument(
        "--lateral", type=float, default=1.2, help="how far aside it begins [m], left positive"
    )
    depart.add_argument("--heading", type=float, default=0.0, help="how far it is turned there [degrees]")
    depart.add_argument("--start", type=float, default=0.0, help="second of the recording to begin at")
    depart.add_argument("--seconds", type=float, default=12.0, help="longest film")
    depart.add_argument("--cache", type=Path, help="folder that depth is kept in")

    realism = command(
        "realism", _realism, "Measure how real the views of a recorded drive from other poses are."
    )
    realism.add_argument("log", type=Path, help="camera log: a folder or file that docs/formats.md names")
    realism.add_argument(
        "--ahead", type=int, default=5, help="warp so many frames ahead (default %(default)s)"
    )
    realism.add_argument("--camera", help="default: the first of the rig")
    realism.add_argument("--depth", choices=_DEPTHS, help="default: the most precise that the log offers")
    realism.add_argument("--size", metavar="WIDTHxHEIGHT", help="default: as recorded")
    realism.add_argument(
        "--pairs", type=int, default=200, help="measure at most so many (default %(default)s)"
    )
    realism.add_argument(
        "--pictures", type=Path, help="folder for a few views beside what was recorded there"
    )
    realism.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")

    for reads in (drive, evaluate, compare, report, self_play, export, serve):
        reads.add_argument(
            "--recipe",
            metavar="FILE.py:FUNCTION",
            help="recipe the run was made from, if it is of your own file; the file is executed",
        )

    data = command("data", lambda known: known.data_run(known), "Recorded drives: list, inspect, import.")
    parts = data.add_subparsers(dest="part", required=True, metavar="PART", parser_class=_Parser)
    listed = parts.add_parser("list", help="scenarios under a folder; without one, the bundled drive")
    listed.add_argument("path", nargs="?", type=Path)
    listed.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    listed.set_defaults(data_run=_data_list)
    inspected = parts.add_parser("inspect", help="say what is in a scenario or a camera log and draw it")
    inspected.add_argument("path", type=Path)
    inspected.add_argument("--out", type=Path, help="picture (default: NAME.png here)")
    inspected.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    inspected.set_defaults(data_run=_data_inspect)
    imported = parts.add_parser("import", help="convert scenarios into our own form; repeated, it goes on")
    imported.add_argument("path", type=Path, help="a drive, or a file or folder of many")
    imported.add_argument(
        "--out", type=Path, required=True, help="new folder; for many drives, the folder of their folders"
    )
    imported.set_defaults(data_run=_data_import)
    return parser


# --- recipes ------------------------------------------------------------------------------------


def _load_recipe(name: str) -> tuple[Recipe, str | None, Any]:
    """A recipe by its name or from file.py:function, with its source and its module."""
    from countersteer.training.recipe import Recipe

    if ":" not in name and not name.endswith(".py"):
        if name not in _RECIPES:
            raise UserError(
                f"there is no recipe {name!r}",
                got=name,
                expected=did_you_mean(name, tuple(_RECIPES)),
                fix="name a recipe, or a function of your own as my_recipe.py:function",
            )
        module = importlib.import_module(f"countersteer.recipes.{_RECIPES[name]}")
        return getattr(module, name)(), None, None
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
        built = getattr(module, function)()
    except AttributeError as error:
        names = [key for key, value in vars(module).items() if callable(value)]
        raise UserError(
            f"{file} has no usable function {function!r}", got=error, expected=did_you_mean(function, names)
        ) from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{name} failed", got=f"{type(error).__name__}: {error}", expected="a function that returns a Recipe",
            fix="run the file with python to see where",
        ) from None  # fmt: skip
    if not isinstance(built, Recipe):
        raise UserError(
            f"{name} did not return a recipe", got=type(built).__name__,
            expected="countersteer.training.recipe.Recipe", fix="return a Recipe",
        )  # fmt: skip
    return built, f"{file.resolve()}:{function}", module


def _override(recipe: Recipe, overrides: list[str]) -> Recipe:
    """Apply `--dotted.field value` pairs; types come from the fields' present values."""
    import ast
    import dataclasses
    from enum import Enum

    def apply(node: Any, path: list[str], text: str, whole: str) -> Any:
        if not dataclasses.is_dataclass(type(node)):
            raise UserError(f"override --{whole} goes into {type(node).__name__}, which has no fields")
        names = [field.name for field in dataclasses.fields(node)]
        name = path[0].replace("-", "_")
        if name not in names:
            raise UserError(
                f"unknown override --{whole}",
                got=name,
                expected=did_you_mean(name, names),
                fix=f"fields of {type(node).__name__}: {', '.join(names)}",
            )
        old = getattr(node, name)
        if len(path) > 1:
            return dataclasses.replace(node, **{name: apply(old, path[1:], text, whole)})
        if isinstance(old, str):
            return dataclasses.replace(node, **{name: text})
        if isinstance(old, Enum):
            members = {member.name.lower(): member for member in type(old)}
            if text.lower() not in members:
                raise UserError(f"--{whole} has no value {text!r}", expected=did_you_mean(text, members))
            return dataclasses.replace(node, **{name: members[text.lower()]})
        words = {"true": True, "false": False, "none": None}
        try:
            new = words[text.lower()] if text.lower() in words else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            new = text
        if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
            new = float(new)
        if old is not None and type(new) is not type(old):
            raise UserError(
                f"--{whole} has the wrong type",
                got=f"{text!r} ({type(new).__name__})",
                expected=f"{type(old).__name__}, like {old!r}",
                fix="give a value of that type",
            )
        return dataclasses.replace(node, **{name: new})

    words = list(overrides)
    while words:
        flag = words.pop(0)
        if not flag.startswith("--"):
            raise UserError(f"unexpected argument {flag!r}", expected="--field.name value")
        key, equals, value = flag[2:].partition("=")
        if not equals:
            if not words:
                raise UserError(f"override --{key} has no value", expected=f"--{key} VALUE")
            value = words.pop(0)
        # Of several stages the first word may name one; else the last one is meant.
        path, stages = key.split("."), list(recipe.stages)
        named = [k for k, stage in enumerate(stages) if len(stages) > 1 and stage.name == path[0]]
        at, path = (named[0], path[1:]) if named and path[1:] else (len(stages) - 1, path)
        stages[at] = apply(stages[at], path, value, key)
        recipe = dataclasses.replace(recipe, stages=tuple(stages))
    return recipe


def _train(known: argparse.Namespace) -> int:
    recipe, source, _ = _load_recipe(known.recipe)
    recipe = _override(recipe, known.overrides)
    from countersteer.commands.console import TrainingConsole
    from countersteer.training.collector import InlineCollector
    from countersteer.training.run import train

    collector: Any = InlineCollector
    if known.actors:
        from functools import partial

        from countersteer.training.ray_collector import RayCollector

        collector = partial(RayCollector, actors=known.actors)
    with TrainingConsole() as console:
        finished = train(
            recipe,
            known.out,
            seed=known.seed,
            device=known.device,
            resume=known.resume,
            source=source,
            progress=console.progress(recipe.name),
            collector=collector,
        )
    print(f"wrote {finished}")
    # Whoever learned to drive every car of a world is judged so.
    many = getattr(getattr(recipe.stages[-1], "world", None), "agents", 1) > 1
    judge = f"self-play {known.out}" if many else f"evaluate {known.out} --suite lane_keeping"
    print(f"next: countersteer {judge}")
    return 0


def _modules(name: str | None) -> tuple[Any, ...]:
    """The module of a user's recipe, which a run's policy may come from."""
    module = _load_recipe(name)[2] if name is not None else None
    return () if module is None else (module,)


# --- evaluation ---------------------------------------------------------------------------------


def _suite(name: str, scenes: Path | None = None) -> Suite:
    from countersteer.evaluation import suites

    if name != "recorded" and scenes is not None:
        raise UserError(
            f"--scenes goes with the suite 'recorded', not with {name!r}",
            fix="leave --scenes out, or choose --suite recorded",
        )
    if name == "recorded" and scenes is not None:
        from countersteer.data.sources import ScenarioFolder

        return suites.recorded(ScenarioFolder(str(scenes)))
    if name in _FOREIGN:
        from countersteer.evaluation import foreign

        return getattr(foreign, name)()
    return getattr(suites, name)()


def _write_json(path: Path | None, content: Any) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1))


def _evaluate(known: argparse.Namespace) -> int:
    from countersteer.commands import console
    from countersteer.evaluation.results import write_scores
    from countersteer.evaluation.statistics import CompareRow

    benchmarks = _benchmarks(known.scores)
    result = _driven(known)
    console.print_cases(result)
    causes = console.print_failures(result)
    scores = ()
    if benchmarks:
        from countersteer.evaluation.scoring import score_suite

        scores = score_suite(result, benchmarks)
        console.print_scores(scores)
        write_scores(Path(known.run_folder), result, scores)
    row = CompareRow.of(result)
    cases = [
        {
            "case": c.case,
            "passed": c.passed,
            "reason": c.reason,
            "fail_time_s": c.fail_time,
            "cause": causes.get(c.case),
            **c.measures,
        }
        for c in result.cases
    ]
    content = {**row.to_json(), "cases": cases}
    if scores:
        content["scores"] = [score.to_json() for score in scores]
    _write_json(known.json, content)
    return 0


def _benchmarks(names: list[str] | None) -> list[Benchmark]:
    """The scores that were asked for; none for None, all for no names."""
    if names is None:
        return []
    from countersteer.evaluation.benchmarks import available_benchmarks

    known = {benchmark.name: benchmark for benchmark in available_benchmarks()}
    wanted = [name for name in ",".join(names).split(",") if name] or list(known)
    for name in wanted:
        if name not in known:
            raise UserError(
                f"there is no score {name!r}",
                expected=did_you_mean(name, known),
                fix="docs/scores.md describes the scores",
            )
    return [known[name] for name in dict.fromkeys(wanted)]


def _driven(known: argparse.Namespace) -> SuiteResult:
    """The drives to look at: those of a replay, or new ones."""
    from countersteer.evaluation.replay import is_replay, load_replay, save_replay
    from countersteer.evaluation.suites import run_suite
    from countersteer.reporting.study import evaluate_run

    path = Path(known.run_folder)
    if is_replay(path):
        for name in ("suite", "scenes", "keep", "recipe"):
            if getattr(known, name) is not None:
                raise UserError(f"a replay is not driven again, so --{name} has no meaning", got=path)
        return load_replay(path, frames=False)
    if known.suite is None:
        raise UserError(
            f"{path} needs a suite to drive",
            got="no --suite",
            expected=f"--suite with one of {', '.join(_SUITES)}, or a replay instead of {path.name}",
        )
    suite, frames = _suite(known.suite, known.scenes), known.keep is not None
    if known.keep is not None:
        try:  # before minutes of driving
            known.keep.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{known.keep} cannot be written", got=error, fix="name another place") from None
    if known.run_folder == "expert":
        result = run_suite(suite, "expert", None, frames=frames)
    else:
        result = evaluate_run(path, suite, frames=frames, modules=_modules(known.recipe))
    if known.keep is not None:
        print(f"wrote {save_replay(result, known.keep)}")
    return result


def _watch(known: argparse.Namespace) -> int:
    from countersteer.evaluation.replay import load_replay

    path = known.replay
    if path.is_dir():
        kept = sorted(path.rglob("*.replay"))
        if len(kept) != 1:
            raise UserError(
                f"{path} does not say which drives to watch",
                got=", ".join(map(str, kept)) or "no replay",
                expected="a folder with one replay, or a replay",
                fix=f"countersteer evaluate {path} --suite lane_keeping --keep {path}/lane_keeping.replay",
            )
        path = kept[0]
    benchmarks = _benchmarks(known.scores)
    result = load_replay(path)
    scores = ()
    if benchmarks:
        from countersteer.evaluation.scoring import score_suite

        scores = score_suite(result, benchmarks)
    if known.viewer == "rerun":
        from countersteer.reporting.rerun_recording import write_recording

        out = write_recording(known.out or path.with_suffix(".rrd"), result, scores=scores, case=known.case)
        print(f"wrote {out}; open it with: rerun {out}")
        return 0
    from countersteer.reporting.watch import write_viewer

    out = known.out or path.with_suffix(".html")
    print(f"wrote {write_viewer(out, result, scores=scores, first=known.case)}; open it in a browser")
    return 0


def _compare(known: argparse.Namespace) -> int:
    from countersteer.commands import console
    from countersteer.evaluation.results import compare_scores, kept_evaluations
    from countersteer.reporting.study import compare_runs

    kept = kept_evaluations(known.runs, _benchmarks(known.scores), known.suite)
    found = compare_runs(kept, _modules(known.recipe))
    console.print_rows(found.rows, found.tests)
    console.print_differences(found.differences)
    scores = compare_scores(kept)
    console.print_compared(scores)
    content = [row.to_json() for row in found.rows]
    for row in content:
        name, suite = row["recipe"], row["suite"]
        against = {b: values for (a, b, on), values in found.differences.items() if (a, on) == (name, suite)}
        if against:
            row["against"] = against
        if scores:
            row["scores"] = [s.to_json() for s in scores if (s.driver, s.suite) == (name, suite)]
    _write_json(known.json, content)
    return 0


def _report(known: argparse.Namespace) -> int:
    from countersteer.reporting.study import report_run

    out = known.out or known.run_folder / "report.html"
    report_run(known.run_folder, out, [_suite(name) for name in _SUITES], print, _modules(known.recipe))
    print(f"wrote {out}")
    return 0


def _self_play(known: argparse.Namespace) -> int:
    from countersteer.reporting.self_play import self_play_report
    from countersteer.reporting.study import pretrained_policy

    if known.worlds < 1:
        raise UserError("there is nothing to drive in", got=f"--worlds {known.worlds}", expected="at least 1")
    self_play_report(
        known.runs or [pretrained_policy("self_play"), pretrained_policy("self_play_teacher")],
        known.out,
        worlds=known.worlds,
        scenes=known.scenes,
        film_of=known.scene,
        gap=known.gap,
        conditions=known.conditions,
        seed=known.seed,
        message=print,
        modules=_modules(known.recipe),
    )
    print(f"wrote {known.out}, {known.out.with_suffix('.json')} and {known.out.with_suffix('.mp4')}")
    return 0


def _demo(known: argparse.Namespace) -> int:
    from countersteer.commands import console
    from countersteer.recipes import closed_loop
    from countersteer.reporting.study import demo

    if known.seeds < 1:
        raise UserError("there is nothing to compare without a seed", got=known.seeds, expected="at least 1")
    recipes = [getattr(closed_loop, name)() for name in _DEMO]
    with console.TrainingConsole() as bars:
        job = demo(
            recipes,
            known.out,
            range(known.seeds),
            at_once=known.jobs,
            progress=bars.progress,
            message=console.say,
        )
    console.print_rows(job.rows, job.tests)
    _write_json(known.json, [row.to_json() for row in job.rows])
    print(f"wrote {known.out / 'report.html'} and {known.out / 'compare.json'}")
    return 0


def _drive(known: argparse.Namespace) -> int:
    from countersteer.reporting.study import film_drive

    verdict = film_drive(known.policy, known.out, known.start, _modules(known.recipe))
    print(f"wrote {known.out}: {verdict}")
    return 0


# --- elsewhere ----------------------------------------------------------------------------------


def _export(known: argparse.Namespace) -> int:
    from countersteer.policies.storage import load_policy
    from countersteer.serving.export import export_policy

    policy, written = load_policy(known.run_folder, _modules(known.recipe))
    kept = {name: written[name] for name in ("recipe", "seed", "environment")}
    exported = export_policy(policy, known.out, kept)
    for title, values in (("inputs", exported.inputs), ("outputs", exported.outputs)):
        print(title)
        for name, kind in values.items():
            print(f"  {name:24} {kind}")
    print(
        f"differs from PyTorch by {exported.largest_difference:.1e} at most, over {exported.compared} observations; "
        f"one takes {exported.onnx_ms:.2f} ms, {exported.torch_ms:.2f} ms in PyTorch (one thread)"
    )
    print(f"wrote {known.out}")
    _write_json(known.json, exported.to_json())
    return 0


def _serve(known: argparse.Namespace) -> int:
    import signal
    import threading

    import torch

    from countersteer.policies.storage import load_policy
    from countersteer.serving.alpasim import serving

    if not 0.0 < known.set_speed < 100.0:
        raise UserError(
            "nobody drives at this speed", got=known.set_speed, expected="m/s, above 0, below 100"
        )
    policy, written = load_policy(known.run_folder, _modules(known.recipe))
    torch.set_num_threads(1)  # sessions share the cores
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    name = f"{written['recipe']} seed {written['seed']}"
    with serving(policy, name, set_speed=known.set_speed, host=known.host, port=known.port) as (port, _):
        print(f"{name} drives at {known.host}:{port}; ctrl-c ends it", flush=True)
        stop.wait()
    return 0


# --- speed --------------------------------------------------------------------------------------


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise UserError("a size is not WIDTHxHEIGHT", got=text, expected="for example 128x64")
    return int(width), int(height)


def _bench(known: argparse.Namespace) -> int:
    from countersteer.commands import console
    from countersteer.data.sources import ScenarioFolder
    from countersteer.evaluation.speed import crossroads, measure_all, with_cars
    from countersteer.geometry.cameras import Camera
    from countersteer.training.run import check_device

    check_device(known.device)
    rigs = []
    for size in known.sizes:
        width, height = _size(size)
        around = [2 * math.pi * k / known.cameras for k in range(known.cameras)]
        rigs.append(
            tuple(
                Camera(name=f"camera{k}", width=width, height=height, yaw=yaw) for k, yaw in enumerate(around)
            )
        )
    if known.scenes is not None:
        scenarios = with_cars(ScenarioFolder(str(known.scenes)).load(), max(known.agents))
    else:
        scenarios = crossroads(known.count, max(known.agents))
    rows = []
    for row in measure_all(
        scenarios,
        stages=known.stages,
        worlds=known.worlds,
        agents=known.agents,
        cameras=rigs,
        threads=known.threads,
        device=known.device,
        seconds=known.seconds,
    ):
        rows.append(row)
        console.say(
            f"{row.stage}, {row.agents} cars, {row.threads} threads: {row.agent_steps_per_s:,.0f} car steps/s"
        )
    console.print_speed(rows)
    _write_json(known.json, [row.to_json() for row in rows])
    return 0


# --- recordings ---------------------------------------------------------------------------------


def _realism(known: argparse.Namespace) -> int:
    from countersteer.commands import console
    from countersteer.data.cameras import check, read
    from countersteer.evaluation.realism import measure_realism
    from countersteer.reconstruction.depth import DepthSource

    if known.pairs < 1:
        raise UserError("there is nothing to measure without a pair", got=known.pairs, expected="at least 1")
    log = read(known.log)
    report = check(log)
    report.require_usable()
    for finding in report.findings:
        console.say(f"warning: {known.log}: {finding}")
    measured = measure_realism(
        log,
        camera=known.camera,
        ahead=known.ahead,
        pairs=known.pairs,
        size=None if known.size is None else _size(known.size),
        depth=None if known.depth is None else DepthSource(known.depth),
        show=None if known.pictures is None else _keep_pictures(known.pictures),
    )
    found = measured.to_json()
    fills = found.pop("fills")
    for name, value in found.items():
        print(f"{name:25} {value:.3f}" if isinstance(value, float) else f"{name:25} {value}")
    if fills:
        print("\nholes filled by     all pixels, detail   holes alone, detail")
    for fill in fills:
        by, *numbers = fill.values()
        print("{:20}{:6.3f}{:10.3f}{:15.3f}{:9.3f}".format(by, *numbers))
    _write_json(known.json, measured.to_json())
    return 0


def _depart(known: argparse.Namespace) -> int:
    from countersteer.reporting.departure import film_departure

    film_departure(
        known.log,
        known.out,
        lateral=known.lateral,
        heading=math.radians(known.heading),
        start=known.start,
        seconds=known.seconds,
        cache=known.cache,
    )
    print(f"wrote {known.out}")
    return 0


def _keep_pictures(folder: Path) -> Callable[[str, int, Any, Any], None]:
    """Writes every tenth view above what was recorded there."""
    import cv2
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str, frame: int, view: Any, recorded: Any) -> None:
        if frame % 10 == 0:
            cv2.imwrite(str(folder / f"{name}_{frame:06}.jpg"), np.vstack([view, recorded])[..., ::-1])

    return keep


# --- data ---------------------------------------------------------------------------------------


def _describe(path: str, scenario: Any) -> dict[str, Any]:
    return {
        "path": path,
        "id": scenario.id,
        "source": scenario.provenance.source,
        "licence": scenario.provenance.licence,
        "duration_s": round(scenario.duration, 2),
        "actors": len(scenario.tracks.ids),
        "map_features": len(scenario.road.features),
        "signals": len(scenario.signals.lane),
        "ego": None if scenario.ego is None else scenario.tracks.ids[scenario.ego],
        "notes": list(scenario.provenance.notes),
    }


def _data_list(known: argparse.Namespace) -> int:
    from countersteer.commands import console
    from countersteer.data.readers import read, scan
    from countersteer.data.samples import recorded_drive

    found = [("bundled", recorded_drive())] if known.path is None else []
    rows, failed = [_describe(*item) for item in found], 0
    for path in scan(known.path) if known.path is not None else []:
        try:
            rows.append(_describe(str(path), read(path)))
        except UserError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    if not rows and not failed:
        raise UserError(
            f"no scenario that we can read lies under {known.path}",
            fix="docs/formats.md lists the formats",
        )
    console.print_scenarios(rows)
    _write_json(known.json, rows)
    return 2 if failed else 0


def _data_inspect(known: argparse.Namespace) -> int:
    from countersteer.data import cameras, readers
    from countersteer.reporting.drawing import draw_scenario, save_picture

    drive = any(reader.matches(known.path) for reader in readers.available_readers())
    if not drive and any(reader.matches(known.path) for reader in cameras.available_readers()):
        scenario = cameras.drive_of_log(cameras.read(known.path))
    else:
        scenario = readers.read(known.path)  # a number of many, or nothing that is known, which it says
    described = _describe(str(known.path), scenario)
    for key, value in described.items():
        print(f"{key:13} {value if key != 'notes' else ''}")
    for note in described["notes"]:
        print(f"  - {note}")
    out = known.out or Path(f"{scenario.id}.png")
    save_picture(draw_scenario(scenario), out)
    print(f"wrote {out}")
    _write_json(known.json, described)
    return 0


def _data_import(known: argparse.Namespace) -> int:
    from countersteer.data.importing import Outcome, import_drives
    from countersteer.data.readers import read, scan
    from countersteer.scenarios import storage

    # A single drive goes to the folder that is named, of many each gets a folder below it.
    found = scan(known.path) if known.path.exists() else []
    if found == [known.path] or (not found and not known.path.is_dir()):
        print(f"wrote {storage.save(read(known.path), known.out)}")
        return 0
    failed = written = count = 0
    for drive in import_drives(known.path, known.out):
        count, place = drive.count, f"[{drive.number}/{drive.count}]"
        if drive.outcome is Outcome.FAILED:
            failed += 1
            print(f"{place} error: {drive.error}", file=sys.stderr, flush=True)
        else:
            written += drive.outcome is Outcome.WRITTEN
            print(f"{place} {drive.outcome.value} {drive.folder} ({drive.seconds:.1f} s)", flush=True)
    print(f"{written} written, {count - written - failed} there already, {failed} failed")
    return 2 if failed else 0
