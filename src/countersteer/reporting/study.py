"""The main job: train recipes that differ in who drives, drive them all where they never were, compare.

`make demo` is this with one seed; the study in docs/results.md is this with five.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from countersteer.errors import UserError, writing
from countersteer.evaluation.comparing import permutation_tests, rows_of
from countersteer.evaluation.records import SuiteResult
from countersteer.evaluation.results import (
    read_open_loop,
    read_result,
)
from countersteer.evaluation.runs import evaluate_run, held_out_error
from countersteer.evaluation.statistics import (
    CompareRow,
)
from countersteer.evaluation.suites import (
    Suite,
    lane_change,
    lane_keeping,
    recorded,
    run_suite,
)
from countersteer.interrupts import stoppable
from countersteer.policies.storage import load_policy
from countersteer.reporting.run_report import film_drive, write_run_report
from countersteer.storage.locks import holding
from countersteer.training.recipe import Recipe
from countersteer.training.run import Progress
from countersteer.training.side_by_side import Run, train_side_by_side
from countersteer.training.stages import ClosedLoop

__all__ = ["Study", "demo", "run_study"]


@dataclass(frozen=True)
class Study:
    """What the main job left behind.

    Attributes:
        rows: One a recipe and suite, summed over the seeds.
        results: Results of every seed; those of the first with their records, for films and plots.
        verdicts: Passes by recipe and suite, `[seed case]`.
        tests: p-values by comparison.
    """

    rows: tuple[CompareRow, ...]
    results: tuple[SuiteResult, ...]
    verdicts: dict[tuple[str, str], np.ndarray]
    tests: dict[str, float]


def run_study(
    recipes: Sequence[Recipe],
    out: Path,
    seeds: Sequence[int],
    *,
    at_once: int,
    progress: Callable[[str], Progress],
    message: Callable[[str], None],
    suites: Sequence[Suite] | None = None,
) -> Study:
    """Train every recipe with every seed and drive every suite; finished parts of `out` are reused.

    Args:
        recipes: What to compare.
        out: Folder; a run lies in `out/RECIPE` (one seed) or `out/RECIPE-SEED`.
        seeds: Seeds.
        at_once: How many runs are trained at the same time.
        progress: Makes the progress of one training, by its name.
        message: Told what is being done.
        suites: Tests; by default lane keeping, lane change and the recorded drive.
    """
    suites = suites or (lane_keeping(), lane_change(), recorded())
    verdicts: dict[tuple[str, str], list[np.ndarray]] = {}
    kept: list[SuiteResult] = []
    errors: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    runs = {
        (recipe.name, seed): Run(
            recipe, out / (recipe.name if len(seeds) == 1 else f"{recipe.name}-{seed}"), seed
        )
        for seed in seeds
        for recipe in recipes
    }
    # What is trained is driven while the others train: a thread's work is mostly compiled code that lets others run.
    # The pictures wait on the disk meanwhile.
    with (
        tempfile.TemporaryDirectory(dir=out, prefix=".pictures-") as pictures,
        ThreadPoolExecutor(1) as beside,
    ):
        judging: dict[Path, Future[_Judged]] = {}

        def judge(run: Run) -> None:
            folder = Path(pictures) / run.out.name
            judging[run.out] = beside.submit(_judge, run.out, suites, folder, again=run.seed == seeds[0])

        def drive_expert() -> list[SuiteResult]:
            driven = (run_suite(suite, "expert", None, frames=True) for suite in suites)
            return [_laid_down(result, Path(pictures) / "expert") for result in driven]

        expert = beside.submit(drive_expert)
        try:
            # A finished run is kept as it is, one of another recipe is refused.
            train_side_by_side(sorted(runs.values(), key=_work, reverse=True), at_once, progress, judge)
            for result in expert.result():
                kept.append(result)
                verdicts["expert", result.suite] = [result.passes]
            for (name, _), run in runs.items():
                judged = judging[run.out].result()
                kept += judged.results
                counts = []
                for result in judged.results:
                    verdicts.setdefault((name, result.suite), []).append(result.passes)
                    counts.append(f"{result.suite} {int(result.passes.sum())}/{len(result.passes)}")
                errors.setdefault(name, []).append(judged.open_loop_error)
                seconds.setdefault(name, []).append(judged.seconds)
                message(f"{run.out.name}: {', '.join(counts)}")
        finally:
            beside.shutdown(cancel_futures=True)
    stacked = {key: np.stack(values) for key, values in verdicts.items()}
    pairs = (("on_policy", "clone"), ("perturb", "clone"), ("on_policy", "perturb"), ("on_policy", "blind"))
    rows = rows_of(stacked, errors, seconds, {suite.name: suite.protocol for suite in suites})
    return Study(tuple(rows), tuple(kept), stacked, permutation_tests(stacked, pairs))


@dataclass(frozen=True)
class _Judged:
    """What is found of a trained run: results by suite, open-loop error [m], and how long it was trained [s]."""

    results: list[SuiteResult]
    open_loop_error: float
    seconds: float


def _judge(run: Path, suites: Sequence[Suite], pictures: Path, *, again: bool) -> _Judged:
    results = [_laid_down(_evaluation(run, suite, again=again), pictures) for suite in suites]
    return _Judged(results, _open_loop_error(run), load_policy(run)[1]["seconds"])


def _laid_down(result: SuiteResult, folder: Path) -> SuiteResult:
    """The result with its pictures in files of a folder, of which only what is looked at is in memory."""
    records = []
    for number, record in enumerate(result.records):
        views = {}
        for name, pictures in record.views.items():
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{result.suite}-{number}-{len(views)}.npy"
            with writing(file, "make room, then start the command again; it goes on where it was"):
                np.save(file, pictures)
            views[name] = np.load(file, mmap_mode="r")
        records.append(dataclasses.replace(record, views=views))
    return dataclasses.replace(result, records=tuple(records))


def _work(run: Run) -> int:
    """Pictures that a run looks at, about: the longest is begun first, so that the last ones end together."""
    looks = 0
    for stage in run.recipe.stages:
        if isinstance(stage, ClosedLoop) and not getattr(stage.policy, "blind", False):
            looks += stage.optim.steps * stage.optim.batch_size * stage.optim.sequence_length
            looks += stage.rollouts.total_frames * stage.policy.stride * stage.driver.uses_policy
    return looks


def _evaluation(run: Path, suite: Suite, *, again: bool) -> SuiteResult:
    """The verdicts that were kept, if they are of this suite; driven `again` for the sake of the records."""
    stored = run / "evaluation" / f"{suite.name}.json"
    if again:
        return evaluate_run(run, suite, frames=True)
    if stored.exists():
        result, _ = read_result(stored)
        if result.protocol == suite.protocol:
            return result
    return dataclasses.replace(evaluate_run(run, suite), records=())


def _open_loop_error(run: Path) -> float:
    kept = run / "evaluation" / "open_loop.json"
    if not kept.exists():
        kept.write_text(json.dumps({"open_loop_error_m": held_out_error(run)}))
    return read_open_loop(kept)


def demo(
    recipes: Sequence[Recipe],
    out: Path,
    seeds: Sequence[int],
    *,
    at_once: int,
    progress: Callable[[str], Progress],
    message: Callable[[str], None],
) -> Study:
    """The main job with a film first, and its report; `out` may hold an interrupted demo, which goes on.

    Raises:
        UserError: As of `train`; or another demo is at work in `out`.
    """
    with stoppable(), holding(out, message):
        return _demo(recipes, out, seeds, at_once, progress, message)


def _demo(
    recipes: Sequence[Recipe],
    out: Path,
    seeds: Sequence[int],
    at_once: int,
    progress: Callable[[str], Progress],
    message: Callable[[str], None],
) -> Study:
    began = time.monotonic()
    first = out / "first_drive.mp4"
    if not first.exists():
        try:
            verdict = film_drive(None, first, 40.0)
            message(f"the shipped policy on a road recorded in 2018: {first} ({verdict})")
        except UserError as error:
            message(str(error).splitlines()[0])
    job = run_study(recipes, out, seeds, at_once=at_once, progress=progress, message=message)
    content = [row.to_json() for row in job.rows]
    (out / "compare.json").write_text(json.dumps(content, indent=1))
    (out / "seeds.json").write_text(
        json.dumps(
            {
                "seeds": list(seeds),
                "passed": {
                    f"{driver} {suite}": passes.sum(1).tolist()
                    for (driver, suite), passes in job.verdicts.items()
                },
                "p": job.tests,
            },
            indent=1,
        )
    )
    message("writing the report and its films")
    first_seed = [out / (r.name if len(seeds) == 1 else f"{r.name}-{seeds[0]}") for r in recipes]
    note = ""
    if len(seeds) > 1:
        note = f"Counts are sums over {len(seeds)} seeds; films and curves are of seed {seeds[0]}."
    title = "Clone, perturb, on-policy: who recovers?"
    write_run_report(out / "report.html", title, job.rows, job.results, first_seed, note)
    message(f"the whole job took {(time.monotonic() - began) / 60:.1f} minutes")
    return job
