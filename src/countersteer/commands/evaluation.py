"""`countersteer evaluate`, `compare` and `report`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from tyro.conf import Positional, arg

from countersteer.commands.flags import (
    Json,
    Run,
    Scenarios,
    Scores,
    Seed,
    UserRecipe,
    Written,
    keep_numbers,
    modules,
    wanted_scores,
)
from countersteer.errors import UserError, check_writable, write_results
from countersteer.ranges import Range, Ranged

if TYPE_CHECKING:
    from countersteer.evaluation import suites
    from countersteer.evaluation.records import SuiteResult

__all__ = ["SelfPlay", "compare", "evaluate", "report"]

_Own = Literal["lane_keeping", "lane_change", "recorded"]
_Foreign = Literal["metadrive_lane_keeping", "metadrive_lane_change"]
"""Suites in worlds that others made; they need the extra `bridges`."""


@dataclass(frozen=True)
class SelfPlay(Ranged):
    """What goes with `--suite self_play`: every car of unseen worlds is a copy of the policy.

    Attributes:
        out: Page to write (.html), with the film and the table (.json) beside it.
        worlds: How many generated roads.
        film_of: Part of the name of the scenario to film.
        domain_shift: Whether cameras show something else than what is drawn.
        conditions: Reward weights of teachers to turn; all that matter where none is named.
        seed: As everywhere.
    """

    out: Annotated[Path, Written.FILE] = Path("self_play.html")
    worlds: Annotated[int, Range("[1, 100000]")] = 60
    film_of: str = "intersection"
    domain_shift: bool = False
    conditions: tuple[str, ...] | None = None
    seed: Seed = 0


def evaluate(
    runs: Annotated[Positional[tuple[str, ...]], arg(name="RUN", metavar="[RUN ...]")] = (),
    *,
    suite: _Own | Literal["self_play"] | _Foreign | None = None,
    scenarios: Scenarios = None,
    scores: Scores = None,
    keep: Annotated[Path | None, arg(metavar="FILE"), Written.FILE] = None,
    json: Json = None,
    recipe: UserRecipe = None,
    self_play: Annotated[SelfPlay, arg(name="")] = SelfPlay(),
) -> None:
    """Drive a suite of closed-loop tests with a run's policy, or score a replay again.

    Args:
        runs: Run folder, policy file, "expert", or a replay, which is not driven. For self_play several teachers and
            students, of which the first is filmed (default: the shipped ones).
        suite: What to drive; a replay knows. Policies trained with target points, or told where to turn, get them.
        keep: Replay: keep the drives here; of self_play those of the first run.
    """
    if suite == "self_play":
        _refuse("does not go with the suite 'self_play': --keep FILE, then evaluate FILE", scores=scores)
        _evaluate_self_play([Path(run) for run in runs], scenarios, json, recipe, self_play, keep)
        return
    changed = {name: value for name, value in vars(self_play).items() if value != getattr(SelfPlay, name)}
    _refuse("goes with the suite 'self_play'", **changed)
    if len(runs) != 1:
        got, fix = " ".join(runs) or "none", "countersteer evaluate RUN --suite lane_keeping"
        raise UserError("evaluate takes one run", got=got, fix=fix)
    from countersteer.evaluation.failures import explain_suite
    from countersteer.evaluation.replay import save_replay
    from countersteer.evaluation.results import evaluation_json, write_scores
    from countersteer.evaluation.scoring import score_suite
    from countersteer.reporting import terminal

    benchmarks = wanted_scores(scores)
    result = _driven(runs[0], suite, scenarios, keep, recipe)
    causes, found = explain_suite(result), score_suite(result, benchmarks)
    terminal.print_evaluation(result, causes, found)
    write_scores(Path(runs[0]), result, found)
    write_results(
        (keep, lambda place: print(f"wrote {save_replay(result, place)}")),
        (json, lambda place: place.write_text(dumps(evaluation_json(result, causes, found), indent=1))),
    )


def _refuse(why: str, **flags: object) -> None:
    """Refuse flags that have no meaning here, but were given."""
    for name, value in flags.items():
        if value is not None:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} {why}", got=value, fix=f"leave {flag} out")


def _driven(
    run: str, suite: str | None, scenarios: Path | None, keep: Path | None, recipe: str | None
) -> SuiteResult:
    """The drives to look at: those of a replay, or new ones."""
    from countersteer.evaluation.replay import is_replay, load_replay
    from countersteer.evaluation.runs import evaluate_run
    from countersteer.evaluation.suites import run_suite

    path, frames = Path(run), keep is not None
    if is_replay(path):
        _refuse(
            "has no meaning: a replay is not driven again",
            suite=suite,
            scenarios=scenarios,
            keep=keep,
            recipe=recipe,
        )
        return load_replay(path, frames=False)
    if suite is None:
        known = ", ".join((*get_args(_Own), "self_play"))
        expected = f"--suite with one of {known}, or a replay instead of {path.name}"
        raise UserError(f"{path} needs a suite to drive", got="no --suite", expected=expected)
    driven = _suite(suite, scenarios)
    if run == "expert":
        result = run_suite(driven, "expert", None, frames=frames)
    else:
        result = evaluate_run(path, driven, frames=frames, modules=modules(recipe))
    return result


def _left_out(error: UserError) -> None:
    print(f"left out: {error}", file=sys.stderr, flush=True)


def _suite(name: str, scenarios: Path | None = None) -> suites.Suite:
    from countersteer.data.sources import ScenarioFolder
    from countersteer.evaluation import foreign, suites

    if name == "recorded" and scenarios is not None:
        return suites.recorded(ScenarioFolder(str(scenarios)).load(_left_out))
    _refuse(f"goes with the suites 'recorded' and 'self_play', not with {name!r}", scenarios=scenarios)
    return getattr(foreign if name in get_args(_Foreign) else suites, name)()


def _evaluate_self_play(
    runs: list[Path],
    scenarios: Path | None,
    json: Path | None,
    recipe: str | None,
    how: SelfPlay,
    keep: Path | None,
) -> None:
    from countersteer.reporting.self_play import self_play_report
    from countersteer.reporting.terminal import say

    for ending in (".html", ".json", ".mp4"):
        check_writable(how.out.with_suffix(ending))
    rows = self_play_report(
        runs, scenes=scenarios, keep=keep, message=say, modules=modules(recipe), **vars(how)
    )
    keep_numbers(json, [row.to_json() for row in rows])
    print(f"wrote {how.out}, {how.out.with_suffix('.json')} and {how.out.with_suffix('.mp4')}")


def compare(
    runs: Annotated[Positional[tuple[Path, ...]], arg(name="RUN", metavar="RUN [RUN ...]")] = (),
    *,
    suite: str | None = None,
    scores: Scores = None,
    json: Json = None,
    recipe: UserRecipe = None,
) -> None:
    """Compare evaluated runs, or replays, paired on the case.

    Args:
        runs: Run folders, replays, or folders of replays.
        suite: On this suite only; default all.
    """
    from countersteer.evaluation.comparing import compare_runs
    from countersteer.evaluation.results import kept_evaluations
    from countersteer.reporting.terminal import print_comparison

    if not runs:
        raise UserError("compare needs RUN", fix="countersteer compare runs/a runs/b")
    kept = kept_evaluations(runs, wanted_scores(scores), suite)
    found = compare_runs(kept, modules(recipe))
    print_comparison(found)
    keep_numbers(json, found.to_json())


def report(run: Run, *, out: Annotated[Path | None, Written.FILE] = None, recipe: UserRecipe = None) -> None:
    """Drive the suites with a run's policy and write one HTML page with films.

    Args:
        out: Page to write; default RUN/report.html.
    """
    from countersteer.reporting.run_report import report_run
    from countersteer.reporting.terminal import say

    page = out or run / "report.html"
    check_writable(page)
    report_run(run, page, [_suite(name) for name in get_args(_Own)], say, modules(recipe))
    print(f"wrote {page}")
