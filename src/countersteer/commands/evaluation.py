"""`countersteer evaluate`, `compare` and `report`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from countersteer.commands.flags import (
    Json,
    Run,
    Scenarios,
    Scores,
    Seed,
    UserRecipe,
    keep_numbers,
    modules,
    wanted_scores,
)
from countersteer.errors import UserError

if TYPE_CHECKING:
    from countersteer.evaluation import suites
    from countersteer.evaluation.records import SuiteResult

__all__ = ["SelfPlay", "compare", "evaluate", "report"]

_SUITES = ("lane_keeping", "lane_change", "recorded")
_FOREIGN = ("metadrive_lane_keeping", "metadrive_lane_change")
"""Suites in worlds that others made; they need the extra `bridges`."""


@dataclass(frozen=True)
class SelfPlay:
    """What goes with `--suite self_play`: every car of unseen worlds is a copy of the policy.

    Attributes:
        out: Page to write (.html), with the film and the table (.json) beside it.
        worlds: How many generated roads.
        film_of: Part of the name of the scenario to film.
        domain_shift: Whether cameras show something else than what is drawn.
        conditions: Reward weights of teachers to turn; all that matter where none is named.
        seed: As everywhere.
    """

    out: Path = Path("self_play.html")
    worlds: int = 60
    film_of: str = "intersection"
    domain_shift: bool = False
    conditions: tuple[str, ...] | None = None
    seed: Seed = 0


def evaluate(
    runs: Annotated[Positional[tuple[str, ...]], arg(name="RUN", metavar="[RUN ...]")] = (),
    *,
    suite: Literal[
        "lane_keeping",
        "lane_change",
        "recorded",
        "self_play",
        "metadrive_lane_keeping",
        "metadrive_lane_change",
    ]
    | None = None,
    scenarios: Scenarios = None,
    scores: Scores = None,
    keep: Annotated[Path | None, arg(metavar="FILE")] = None,
    json: Json = None,
    recipe: UserRecipe = None,
    self_play: Annotated[SelfPlay, arg(name="")] = SelfPlay(),
) -> int:
    """Drive a suite of closed-loop tests with a run's policy, or score a replay again.

    Args:
        runs: Run folder, policy file, "expert", or a replay, which is not driven. For self_play several teachers and
            students, of which the first is filmed (default: the shipped ones).
        suite: What to drive; a replay knows. Policies trained with target points, or told where to turn, get them.
        keep: Replay: keep the drives here; of self_play those of the first run.
    """
    if suite == "self_play":
        return _evaluate_self_play(
            [Path(run) for run in runs], scenarios, json, recipe, self_play, scores, keep
        )
    changed = [f.name for f in dataclasses.fields(SelfPlay) if getattr(self_play, f.name) != f.default]
    if changed:
        flag = "--" + changed[0].replace("_", "-")
        raise UserError(
            f"{flag} goes with the suite 'self_play'", got=f"--suite {suite}", fix=f"leave {flag} out"
        )
    if len(runs) != 1:
        raise UserError(
            "evaluate takes one run",
            got=" ".join(runs) or "none",
            fix="countersteer evaluate RUN --suite lane_keeping",
        )
    from countersteer.commands import console
    from countersteer.evaluation.results import write_scores
    from countersteer.evaluation.scoring import score_suite
    from countersteer.evaluation.statistics import CompareRow

    benchmarks = wanted_scores(scores)
    result = _driven(runs[0], suite, scenarios, keep, recipe)
    console.print_cases(result)
    causes = console.print_failures(result)
    found = score_suite(result, benchmarks) if benchmarks else ()
    if found:
        console.print_scores(found)
        write_scores(Path(runs[0]), result, found)
    cases = [
        {
            "case": c.case,
            "passed": c.passed,
            "reason": c.reason,
            "fail_time_s": c.fail_time,
            "cause": causes.get(c.case),
        }
        | c.measures
        for c in result.cases
    ]
    content = {**CompareRow.of(result).to_json(), "cases": cases}
    keep_numbers(json, content | ({"scores": [score.to_json() for score in found]} if found else {}))
    return 0


def _driven(
    run: str, suite: str | None, scenarios: Path | None, keep: Path | None, recipe: str | None
) -> SuiteResult:
    """The drives to look at: those of a replay, or new ones."""
    from countersteer.evaluation.replay import is_replay, load_replay, save_replay
    from countersteer.evaluation.runs import evaluate_run
    from countersteer.evaluation.suites import run_suite

    path = Path(run)
    if is_replay(path):
        for name, value in {"suite": suite, "scenarios": scenarios, "keep": keep, "recipe": recipe}.items():
            if value is not None:
                raise UserError(f"a replay is not driven again, so --{name} has no meaning", got=path)
        return load_replay(path, frames=False)
    if suite is None:
        known = ", ".join((*_SUITES, "self_play"))
        raise UserError(
            f"{path} needs a suite to drive",
            got="no --suite",
            expected=f"--suite with one of {known}, or a replay instead of {path.name}",
        )
    driven = _suite(suite, scenarios)
    if run == "expert":
        result = run_suite(driven, "expert", None, frames=keep is not None)
    else:
        result = evaluate_run(path, driven, frames=keep is not None, modules=modules(recipe))
    if keep is not None:
        print(f"wrote {save_replay(result, keep)}")
    return result


def _suite(name: str, scenarios: Path | None = None) -> suites.Suite:
    from countersteer.data.sources import ScenarioFolder
    from countersteer.evaluation import foreign, suites

    if scenarios is not None and name != "recorded":
        raise UserError(
            f"--scenarios goes with the suites 'recorded' and 'self_play', not with {name!r}",
            fix="leave --scenarios out, or choose --suite recorded",
        )
    if scenarios is not None:
        return suites.recorded(ScenarioFolder(str(scenarios)))
    return getattr(foreign if name in _FOREIGN else suites, name)()


def _evaluate_self_play(
    runs: list[Path],
    scenarios: Path | None,
    json: Path | None,
    recipe: str | None,
    how: SelfPlay,
    scores: Any,
    keep: Path | None,
) -> int:
    from countersteer.commands.cli import check_writable
    from countersteer.reporting.run_report import pretrained_policy
    from countersteer.reporting.self_play import self_play_report

    if scores is not None:
        raise UserError(
            "--scores does not go with the suite 'self_play'",
            fix="--keep FILE, then countersteer evaluate FILE --scores",
        )
    if how.worlds < 1:
        raise UserError("there is nothing to drive in", got=f"--worlds {how.worlds}", expected="at least 1")
    check_writable(how.out, folder=False)
    rows = self_play_report(
        runs or [pretrained_policy("self_play"), pretrained_policy("self_play_teacher")],
        how.out,
        worlds=how.worlds,
        scenes=scenarios,
        film_of=how.film_of,
        gap=how.domain_shift,
        conditions=how.conditions,
        seed=how.seed,
        keep=keep,
        message=print,
        modules=modules(recipe),
    )
    keep_numbers(json, [row.to_json() for row in rows])
    print(f"wrote {how.out}, {how.out.with_suffix('.json')} and {how.out.with_suffix('.mp4')}")
    return 0


def compare(
    runs: Annotated[Positional[tuple[Path, ...]], arg(name="RUN", metavar="RUN [RUN ...]")] = (),
    *,
    suite: str | None = None,
    scores: Scores = None,
    json: Json = None,
    recipe: UserRecipe = None,
) -> int:
    """Compare evaluated runs, or replays, paired on the case.

    Args:
        runs: Run folders, replays, or folders of replays.
        suite: On this suite only; default all.
    """
    from countersteer.commands import console
    from countersteer.evaluation.comparing import compare_runs
    from countersteer.evaluation.results import compare_scores, kept_evaluations

    if not runs:
        raise UserError("compare needs RUN", fix="countersteer compare runs/a runs/b")
    kept = kept_evaluations(runs, wanted_scores(scores), suite)
    found = compare_runs(kept, modules(recipe))
    console.print_rows(found.rows, found.tests)
    console.print_differences(found.differences)
    scored = compare_scores(kept)
    console.print_compared(scored)
    content = [row.to_json() for row in found.rows]
    for row in content:
        name, on = row["recipe"], row["suite"]
        against = {
            b: values for (a, b, where), values in found.differences.items() if (a, where) == (name, on)
        }
        if against:
            row["against"] = against
        if scored:
            row["scores"] = [s.to_json() for s in scored if (s.driver, s.suite) == (name, on)]
    keep_numbers(json, content)
    return 0


def report(run: Run, *, out: Path | None = None, recipe: UserRecipe = None) -> int:
    """Drive the suites with a run's policy and write one HTML page with films.

    Args:
        out: Page to write; default RUN/report.html.
    """
    from countersteer.reporting.run_report import report_run

    page = out or run / "report.html"
    report_run(run, page, [_suite(name) for name in _SUITES], print, modules(recipe))
    print(f"wrote {page}")
    return 0
