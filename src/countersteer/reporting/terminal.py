"""Results on a terminal: progress bars, tables, and lines between them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from countersteer.data.importing import Imported, Outcome
from countersteer.errors import shown
from countersteer.evaluation.comparing import Comparison
from countersteer.evaluation.failures import Failure, count_failures
from countersteer.evaluation.realism import Realism
from countersteer.evaluation.records import SuiteResult
from countersteer.evaluation.results import ComparedScore
from countersteer.evaluation.scoring import SuiteScore
from countersteer.evaluation.speed import SpeedRow
from countersteer.evaluation.statistics import CompareRow, wilson_interval
from countersteer.extensions import Extension
from countersteer.scenarios.scenario import Scenario
from countersteer.training import run

__all__ = [
    "TrainingConsole",
    "print_cases",
    "print_compared",
    "print_comparison",
    "print_evaluation",
    "print_extensions",
    "print_imported",
    "print_realism",
    "print_rows",
    "print_scenario",
    "print_scenarios",
    "print_scores",
    "print_speed",
    "say",
    "scenario_row",
]


class _PlainConsole(Console):
    """A console for which text is text: names from data are no markup, no emoji codes and no control characters."""

    def render_str(self, text: str, **how: Any) -> Text:
        how.update(markup=False, emoji=False, highlight=False)
        return super().render_str(shown(text), **how)


# A log file has no edge to wrap at.
_console = _PlainConsole(width=None if sys.stdout.isatty() else 140)


def say(text: str) -> None:
    """One line."""
    _console.print(text)


class TrainingConsole:
    """A progress bar for each run that is training: steps, samples a second, loss, time left."""

    def __init__(self) -> None:
        self.bars: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def progress(self, name: str) -> run.Progress:
        """What shows the progress of one run."""
        return _RunConsole(self, name)

    def start(self) -> Progress:
        """The bars, on the screen."""
        if self.bars is None:
            self.bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:.0f} samples/s  loss {task.fields[loss]:.3f}"),
                TimeRemainingColumn(),
                console=_console,
            )
            self.bars.start()
        return self.bars

    def stop(self) -> None:
        """Leave the bars as they are and go on below."""
        if self.bars is not None:
            self.bars.stop()
            self.bars = None


class _RunConsole(run.Progress):
    def __init__(self, console: TrainingConsole, name: str):
        self.console, self.name = console, name
        self.bar: TaskID | None = None

    def message(self, text: str) -> None:
        say(f"{self.name}: {text}")

    def collected(
        self, round_number: int, rounds: int, frames: int, seconds: float, outcomes: dict[str, float]
    ) -> None:
        line = f"{self.name}: round {round_number + 1}/{rounds} driven, {frames} frames, {seconds:.0f} s"
        if "reward" in outcomes:
            ends = (f"{name} {outcomes[name]:.1%}" for name in ("goal", "collision", "off_road", "time"))
            line += f", reward {outcomes['reward']:.3f} a tick, of ended drives " + ", ".join(ends)
        say(line)

    def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
        bars = self.console.start()
        if self.bar is None or self.bar not in bars.task_ids:  # of a stage before this one
            self.bar = bars.add_task(shown(self.name), total=steps, rate=0.0, loss=0.0)
        loss = next(value for name, value in logged.items() if name.startswith("loss/"))
        bars.update(self.bar, completed=step, rate=samples_per_s, loss=loss)
        if not _console.is_terminal and step % 500 == 0:  # bars are for screens, not for log files
            say(f"{self.name}: step {step}/{steps}, loss {loss:.3f}")
        if bars.finished:
            self.console.stop()


def print_evaluation(
    result: SuiteResult, causes: Sequence[Failure | None], scores: Sequence[SuiteScore]
) -> None:
    """Verdicts of one suite, how often each cause of failure occurs, and benchmark scores if there are any."""
    print_cases(result)
    counts = count_failures(causes)
    if counts:
        say("causes: " + ", ".join(f"{kind.value} {count}" for kind, count in counts.items()))
    if scores:
        print_scores(scores)


def print_cases(result: SuiteResult) -> None:
    """Verdicts of one suite."""
    table = Table(title=f"{result.driver} on {result.suite}")
    measures = list(result.cases[0].measures) if result.cases else []
    for name in ("case", "verdict", *measures, "why"):
        table.add_column(name, justify="left" if name in ("case", "verdict", "why") else "right")
    for case in result.cases:
        word, style = {True: ("pass", "green"), False: ("fail", "red"), None: ("apart", "dim")}[case.passed]
        numbers = [f"{case.measures[name]:.2f}" for name in measures]
        table.add_row(case.case, Text(word, style), *numbers, case.reason)
    _console.print(table)
    if result.total:
        low, high = wilson_interval(result.passed, result.total)
        say(
            f"{result.passed} of {result.total} passed (95 % interval {low:.0%} to {high:.0%}); {result.protocol}"
        )


def _figures(score: SuiteScore) -> tuple[str, str, str]:
    """Value, interval and how many drives have one."""
    value = "not defined" if score.value is None else f"{score.value:.3f}"
    interval = "" if score.interval is None else f"{score.interval[0]:.3f} to {score.interval[1]:.3f}"
    return value, interval, f"{len(score.counted)} of {sum(drive.counts for drive in score.drives)}"


def print_scores(scores: Sequence[SuiteScore]) -> None:
    """Benchmark scores of a suite: means with their parts, every drive, and what cost most."""
    table = Table(title="scores")
    for name in ("score", "value", "95 % interval", "defined for", "parts"):
        table.add_column(name, justify="left" if name in ("score", "parts") else "right")
    for score in scores:
        parts = (
            f"{name} {'not defined' if mean is None else f'{mean:.3g}'}"
            for name, (mean, _) in score.parts.items()
        )
        table.add_row(score.benchmark, *_figures(score), ", ".join(parts))
    _console.print(table)
    table = Table(title="scores of each drive")
    table.add_column("case")
    for score in scores:
        table.add_column(score.benchmark, justify="right")
    for row in zip(*(score.drives for score in scores), strict=True):
        table.add_row(row[0].case, *("-" if d.value is None else f"{d.value:.3g}" for d in row))
    _console.print(table)
    for score in scores:
        reasons: dict[str, list[str]] = {}
        for drive in score.drives:
            if drive.undefined:
                reasons.setdefault(drive.undefined, []).append(drive.case)
        for reason, cases in reasons.items():
            say(f"{score.benchmark} is not defined for {', '.join(cases)}: {reason}")
        worst = min(
            score.counted,
            key=lambda d: (d.value or 0.0) if score.best else -(d.value or 0.0),
            default=None,
        )
        if worst is not None and worst.findings:
            one = worst.findings[0]
            numbers = "" if one.value is None else f" {one.value:.3g}"
            say(
                f"{score.benchmark} is worst in {worst.case}: {one.part}"
                + ("" if one.tick is None else f" at tick {one.tick}")
                + f":{numbers} {one.note}"
            )


def print_compared(scores: Sequence[ComparedScore]) -> None:
    """Scores of several drivers beside each other, with paired differences."""
    if not scores:
        return
    table = Table(title="scores")
    for name in ("driver", "suite", "score", "value", "95 % interval", "defined for"):
        table.add_column(name, justify="left" if name in ("driver", "suite", "score") else "right")
    for one in scores:
        table.add_row(one.driver, one.suite, one.score.benchmark, *_figures(one.score))
    _console.print(table)
    for one in scores:
        for other, paired in one.against.items():
            if paired.mean is not None:
                interval = "" if paired.interval is None else "[{:+.3f}, {:+.3f}] ".format(*paired.interval)
                say(
                    f"{one.score.benchmark} on {one.suite}: {one.driver} - {other} = {paired.mean:+.3f} {interval}over "
                    f"{paired.scenarios} scenarios, p = {paired.p:.2g} (two-sided, paired on the case)"
                )


def print_rows(rows: Sequence[CompareRow], tests: dict[str, float]) -> None:
    """A comparison."""
    table = Table()
    for name in ("recipe", "suite", "passed", "95 % interval", "open-loop error", "training"):
        table.add_column(name, justify="left" if name in ("recipe", "suite") else "right")
    for row in rows:
        low, high = row.interval
        table.add_row(
            row.recipe,
            row.suite,
            f"{row.passed}/{row.total}",
            f"{low:.0%} to {high:.0%}",
            "" if row.open_loop_error is None else f"{row.open_loop_error:.3f} m",
            "" if row.seconds is None else f"{row.seconds:.0f} s",
        )
    _console.print(table)
    for name, p in tests.items():
        say(f"p({name}) = {p:.2g}, permutation test paired on the case")


def print_comparison(found: Comparison) -> None:
    """Evaluated runs beside each other: rows, by how much they differ in what they pass, scores."""
    print_rows(found.rows, found.tests)
    for (a, b, suite), (mean, low, high) in found.differences.items():
        interval = f"95 % interval {low:+.0%} to {high:+.0%}"
        say(f"{a} - {b} on {suite}: {mean:+.0%} of the cases, {interval}, paired on the case")
    print_compared(found.scores)


def print_speed(measured: Iterable[SpeedRow]) -> list[SpeedRow]:
    """Rows of a measurement, a line each as they come and then their table; returns them."""
    rows = []
    for row in measured:
        rows.append(row)
        rate = f"{row.agent_steps_per_s:,.0f} car steps/s"
        say(f"{row.stage}, {row.agents} cars, {row.threads} threads: {rate}")
    table = Table()
    for name in ("stage", "cars", "pictures", "actors", "scenes", "threads", "device", "car steps/s", "a CPU second", "load"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("stage", "device") else "right")
    for row in rows:
        table.add_row(
            row.stage,
            f"{row.worlds} x {row.agents}",
            f"{row.cameras} of {row.width}x{row.height}" if row.cameras else "",
            f"{row.boxes:g}",
            str(row.scenes),
            str(row.threads),
            row.device,
            f"{row.agent_steps_per_s:,.0f}",
            f"{row.agent_steps_per_cpu_s:,.0f}",
            f"{row.load:.1f}",
        )
    _console.print(table)
    return rows


def print_realism(found: Realism) -> None:
    """How real views from other poses are, and what fills their holes."""
    values = found.to_json()
    fills = values.pop("fills")
    for name, value in values.items():
        print(f"{name:25} {value:.3f}" if isinstance(value, float) else f"{name:25} {value}")
    if fills:
        print("\nholes filled by     all pixels, detail   holes alone, detail")
    for fill in fills:
        by, *numbers = fill.values()
        print("{:20}{:6.3f}{:10.3f}{:15.3f}{:9.3f}".format(by, *numbers))


def print_imported(drives: Iterable[Imported]) -> int:
    """A line for each drive as it is done, and their count; returns how many failed."""
    counts = Counter[Outcome]()
    for drive in drives:
        counts[drive.outcome] += 1
        place, failed = f"[{drive.number}/{drive.count}]", drive.outcome is Outcome.FAILED
        said = (
            f"error: {drive.error}"
            if failed
            else shown(f"{drive.outcome.value} {drive.folder} ({drive.seconds:.1f} s)")
        )
        print(f"{place} {said}", file=sys.stderr if failed else sys.stdout, flush=True)
    written, there, failed = (counts[each] for each in (Outcome.WRITTEN, Outcome.THERE, Outcome.FAILED))
    print(f"{written} written, {there} there already, {failed} failed")
    return failed


def scenario_row(path: str, scenario: Scenario) -> dict[str, Any]:
    """What is said of a scenario that lies at a path."""
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


def print_scenario(row: dict[str, Any]) -> None:
    """One scenario, a line for each thing that is said of it."""
    for key, value in row.items():
        print(f"{key:13} {shown(value) if key != 'notes' else ''}")
    for note in row["notes"]:
        print(f"  - {shown(note)}")


def print_scenarios(rows: Sequence[dict[str, Any]]) -> None:
    """A list of scenarios."""
    table, shown = Table(), ("id", "source", "duration_s", "actors", "map_features", "licence", "path")
    for name in shown:
        table.add_column(name.removesuffix("_s"), overflow="fold")
    for row in rows:
        table.add_row(*(str(row[name]) for name in shown))
    _console.print(table)


def print_extensions(extensions: Sequence[Extension]) -> None:
    """What other packages bring, and what is wrong with what could not be loaded."""
    if not extensions:
        say("no installed package brings readers, worlds or scores: docs/architecture.md says how one would")
        return
    table = Table()
    for name in ("group", "name", "package", "state"):
        table.add_column(name, overflow="fold")
    for each in extensions:
        table.add_row(each.group, each.name, each.package, each.problem or "loaded")
    _console.print(table)
