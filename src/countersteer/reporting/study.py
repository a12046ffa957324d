"""The main job: train recipes that differ in who drives, drive them all where they never were, compare.

`make demo` is this with one seed; the study in docs/results.md is this with five.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from countersteer.data.sources import ProceduralRoads
from countersteer.errors import UserError
from countersteer.evaluation.driving import open_loop_error
from countersteer.evaluation.records import SuiteResult
from countersteer.evaluation.results import (
    ComparedScore,
    StoredEvaluation,
    compare_scores,
    read_result,
    write_result,
)
from countersteer.evaluation.statistics import (
    CompareRow,
    clustered_interval,
    paired_permutation_test,
    wilson_interval,
)
from countersteer.evaluation.suites import (
    Suite,
    lane_change,
    lane_keeping,
    recorded,
    recorded_from,
    run_suite,
    suite_for,
)
from countersteer.policies.storage import load_policy
from countersteer.reporting.film import film
from countersteer.reporting.report import CaseFilm, RunInfo, write_report
from countersteer.training.recipe import Recipe
from countersteer.training.run import Progress, load_recipe
from countersteer.training.side_by_side import Run, train_side_by_side
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec

__all__ = [
    "Comparison",
    "Study",
    "compare_runs",
    "demo",
    "evaluate_run",
    "film_drive",
    "held_out_error",
    "run_study",
    "pass_differences",
    "permutation_tests",
    "report_run",
    "pretrained_policy",
]

_HELD_OUT = ProceduralRoads(count=16, seed=1_000_003, traffic=(0, 0), length=620.0)


def held_out_error(run: Path, modules: Sequence[ModuleType] = ()) -> float:
    """Open-loop error of a run's policy on expert frames of roads nobody trained on [m]."""
    policy, _ = load_policy(run, tuple(modules))
    simulation = RoadSimulationSpec(
        dt=policy.spec.dt, target_points=policy.spec.target_points > 0, navigation=policy.spec.navigation
    )
    spec = WorldSpec(simulation, BoxRendererSpec(), sensors=policy.spec.cameras)
    return open_loop_error(policy, spec, _HELD_OUT.load(), seed=99)


def evaluate_run(
    run: Path,
    suite: Suite,
    *,
    frames: bool = False,
    on_tick: Callable[[int, int], None] | None = None,
    modules: Sequence[ModuleType] = (),
) -> SuiteResult:
    """Drive a suite (`suite_for` its policy) with a run; the verdicts are kept in the run's folder.

    `modules` are those of the user that the run's policy comes from, if it is not one of ours.
    """
    policy, metadata = load_policy(run, tuple(modules))
    suite = suite_for(policy.spec, suite)
    result = run_suite(suite, metadata["recipe"], policy, frames=frames, on_tick=on_tick)
    if run.is_dir():
        write_result(
            run / "evaluation" / f"{suite.name}.json",
            result,
            seed=metadata["seed"],
            seconds=metadata["seconds"],
        )
    return result


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


def permutation_tests(
    verdicts: dict[tuple[str, str], np.ndarray], pairs: Sequence[tuple[str, str]]
) -> dict[str, float]:
    """p of "a passes more than b", paired on the scenario, for each pair (a, b) and suite they share."""
    tests = {}
    for a, b in pairs:
        for suite in sorted({suite for _, suite in verdicts}):
            if (a, suite) in verdicts and (b, suite) in verdicts:
                means = [verdicts[name, suite].mean(0) for name in (a, b)]
                tests[f"{a} > {b} on {suite}"] = paired_permutation_test(
                    *means, seed=0, alternative="greater"
                )
    return tests


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
    # A finished run is kept as it is, one of another recipe is refused.
    train_side_by_side(list(runs.values()), at_once, progress)
    for suite in suites:
        result = run_suite(suite, "expert", None, frames=True)
        kept.append(result)
        verdicts["expert", suite.name] = [result.passes]
    for seed in seeds:
        for recipe in recipes:
            run = runs[recipe.name, seed].out
            began = time.monotonic()
            _, metadata = load_policy(run)
            seconds.setdefault(recipe.name, []).append(metadata["seconds"])
            error_file = run / "evaluation" / "open_loop.json"
            for suite in suites:
                stored = run / "evaluation" / f"{suite.name}.json"
                keep = seed == seeds[0]
                result = None
                if stored.exists() and not keep:
                    result, _ = read_result(stored)
                    if result.protocol != suite.protocol:
                        result = None
                if result is None:
                    result = evaluate_run(run, suite, frames=keep)
                kept.append(result if keep else dataclasses.replace(result, records=()))
                verdicts.setdefault((recipe.name, suite.name), []).append(result.passes)
            if not error_file.exists():
                error_file.write_text(json.dumps({"open_loop_error_m": held_out_error(run)}))
            errors.setdefault(recipe.name, []).append(json.loads(error_file.read_text())["open_loop_error_m"])
            counts = ", ".join(
                f"{suite.name} {int(verdicts[recipe.name, suite.name][-1].sum())}"
                f"/{len(verdicts[recipe.name, suite.name][-1])}"
                for suite in suites
            )
            message(f"{run.name}: {counts}; driven in {time.monotonic() - began:.0f} s")
    stacked = {key: np.stack(values) for key, values in verdicts.items()}
    pairs = (("on_policy", "clone"), ("perturb", "clone"), ("on_policy", "perturb"), ("on_policy", "blind"))
    rows = _rows(stacked, errors, seconds, {suite.name: suite.protocol for suite in suites})
    return Study(tuple(rows), tuple(kept), stacked, permutation_tests(stacked, pairs))


def _rows(
    verdicts: dict[tuple[str, str], np.ndarray],
    errors: dict[str, list[float]],
    seconds: dict[str, list[float]],
    protocols: dict[str, str],
) -> list[CompareRow]:
    """One row a driver and suite, counts summed over the seeds, errors and seconds averaged."""
    return [
        CompareRow(
            recipe=driver,
            suite=suite,
            passed=int(passes.sum()),
            total=passes.size,
            interval=wilson_interval(float(passes.mean(0).sum()), passes.shape[1]),
            open_loop_error=float(np.mean(errors[driver])) if driver in errors else None,
            seconds=float(np.mean(seconds[driver])) if driver in seconds else None,
            protocol=protocols[suite],
        )
        for (driver, suite), passes in verdicts.items()
    ]


def pass_differences(
    verdicts: dict[tuple[str, str], np.ndarray], pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str, str], tuple[float, float, float]]:
    """By (a, b, suite): how far the pass rate of a is above that of b, paired on the case, and the ends of its 95 % interval.

    Seeds are averaged first; the interval comes from drawing cases anew.
    """
    found = {}
    for a, b in pairs:
        for suite in sorted({suite for _, suite in verdicts}):
            if (a, suite) in verdicts and (b, suite) in verdicts:
                more = verdicts[a, suite].mean(0) - verdicts[b, suite].mean(0)
                if len(more):
                    interval = clustered_interval(more, np.arange(len(more)))
                    found[a, b, suite] = (float(more.mean()), *interval)
    return found


@dataclass(frozen=True)
class Comparison:
    """Evaluations beside each other.

    Attributes:
        rows: One a driver and suite.
        tests: See `permutation_tests`; each driver against those named before it.
        differences: See `pass_differences`, of the same pairs.
        scores: Benchmark scores that the evaluations were kept with.
    """

    rows: tuple[CompareRow, ...]
    tests: dict[str, float]
    differences: dict[tuple[str, str, str], tuple[float, float, float]]
    scores: tuple[ComparedScore, ...] = ()

    def to_json(self) -> list[dict[str, Any]]:
        """A row for each driver and suite, with its differences from others and its scores."""
        content = [row.to_json() for row in self.rows]
        for row in content:
            here = row["recipe"], row["suite"]
            against = {b: values for (a, b, suite), values in self.differences.items() if (a, suite) == here}
            if against:
                row["against"] = against
            if self.scores:
                row["scores"] = [one.to_json() for one in self.scores if (one.driver, one.suite) == here]
        return content


def compare_runs(kept: Sequence[StoredEvaluation], modules: Sequence[ModuleType] = ()) -> Comparison:
    """Compare evaluations; several of one driver on one suite count as its seeds."""
    verdicts: dict[tuple[str, str], list[np.ndarray]] = {}
    seconds: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    for one in kept:
        verdicts.setdefault((one.result.driver, one.result.suite), []).append(one.result.passes)
    for place in dict.fromkeys(one.place for one in kept):
        if not (place / "evaluation").is_dir():
            continue  # a replay does not know how its driver was trained
        _, metadata = load_policy(place, tuple(modules))
        seconds.setdefault(metadata["recipe"], []).append(metadata["seconds"])
        stored = place / "evaluation" / "open_loop.json"
        if stored.exists():
            errors.setdefault(metadata["recipe"], []).append(
                json.loads(stored.read_text())["open_loop_error_m"]
            )
    stacked = {key: np.stack(values) for key, values in verdicts.items()}
    drivers = list(dict.fromkeys(driver for driver, _ in stacked))
    pairs = [(a, b) for k, b in enumerate(drivers) for a in drivers[k + 1 :]]
    stamps = {one.result.suite: one.result.protocol for one in kept}
    rows = _rows(stacked, errors, seconds, stamps)
    tests, differences = permutation_tests(stacked, pairs), pass_differences(stacked, pairs)
    return Comparison(tuple(rows), tests, differences, tuple(compare_scores(kept)))


def film_drive(policy: Path | None, out: Path, start: float, modules: Sequence[ModuleType] = ()) -> str:
    """Film a policy on the recorded road from a second of the recording on; returns the verdict in words."""
    driver, metadata = load_policy(policy if policy is not None else pretrained_policy(), tuple(modules))
    suite = suite_for(driver.spec, recorded_from(start))
    result = run_suite(suite, metadata["recipe"], driver, frames=True)
    case = result.cases[0]
    film(
        result.records[0],
        title=f"{metadata['recipe']} on a recorded road",
        subtitle=f"comma2k19, from second {start:g}",
        verdict=case,
        path=out,
    )
    return "passed" if case.passed else case.reason


def pretrained_policy(recipe: str = "on_policy") -> Path:
    """A trained policy that comes with the package: of `on_policy`, `self_play` or `self_play_teacher`."""
    path = Path(str(files("countersteer.recipes") / "weights" / f"{recipe}.safetensors"))
    if not path.exists():
        raise UserError(
            "this installation has no trained policy", got=f"nothing at {path}", expected="a policy file",
            fix=f"train one: countersteer train {recipe} --out runs/{recipe}",
        )  # fmt: skip
    return path


def report_run(
    run: Path,
    out: Path,
    suites: Sequence[Suite],
    message: Callable[[str], None],
    modules: Sequence[ModuleType] = (),
) -> None:
    """Drive the suites with one run's policy and the expert, and write a page with tables and films."""
    results, rows = [], []
    policy, metadata = load_policy(run, tuple(modules))
    for suite in (suite_for(policy.spec, suite) for suite in suites):
        message(f"driving {suite.name}")
        results.append(run_suite(suite, "expert", None, frames=True))
        results.append(evaluate_run(run, suite, frames=True, modules=modules))
    error = held_out_error(run, modules)
    for result in results:
        mine = result.driver != "expert"
        rows.append(
            CompareRow.of(
                result,
                open_loop_error=error if mine else None,
                seconds=metadata["seconds"] if mine else None,
            )
        )
    _page(out, f"{metadata['recipe']}: closed-loop report", rows, results, [run], "", modules)


def demo(
    recipes: Sequence[Recipe],
    out: Path,
    seeds: Sequence[int],
    *,
    at_once: int,
    progress: Callable[[str], Progress],
    message: Callable[[str], None],
) -> Study:
    """The main job with a film first, and its report; `out` may hold an interrupted demo, which goes on."""
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
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
    _page(out / "report.html", title, job.rows, job.results, first_seed, note)
    message(f"the whole job took {(time.monotonic() - began) / 60:.1f} minutes")
    return job


def _page(
    out: Path,
    title: str,
    rows: Sequence[CompareRow],
    results: Sequence[SuiteResult],
    runs: Sequence[Path],
    note: str,
    modules: Sequence[ModuleType] = (),
) -> None:
    """The report: films of a few telling cases of each suite, side by side."""
    films = []
    for suite in dict.fromkeys(result.suite for result in results):
        shared = [result for result in results if result.suite == suite and result.records]
        for case in _telling_cases(shared):
            for result in shared:
                index = [c.case for c in result.cases].index(case)
                verdict = result.cases[index]
                encoded = film(
                    result.records[index],
                    title=result.driver,
                    subtitle=f"{suite}, {case}",
                    verdict=verdict,
                )
                films.append(CaseFilm(result.driver, suite, case, encoded))
    write_report(
        out,
        title=title,
        rows=rows,
        results=results,
        runs=[_run_info(run, modules) for run in runs],
        films=films,
        note=note,
    )


def _telling_cases(results: Sequence[SuiteResult], count: int = 1) -> list[str]:
    """Cases on which the drivers differ most, the earlier first."""
    names = [case.case for case in results[0].cases]
    verdicts = np.array([[case.passed is True for case in result.cases] for result in results])
    split = verdicts.mean(0) * (1 - verdicts.mean(0))
    return [names[k] for k in np.argsort(-split, kind="stable")[:count]]


def _run_info(run: Path, modules: Sequence[ModuleType]) -> RunInfo:
    recipe, seed = load_recipe(run, tuple(modules))
    environment = json.loads((run / "run.json").read_text())
    curve = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return RunInfo(
        driver=recipe.name,
        command=f"countersteer train {recipe.name} --out {run} --seed {seed}",
        commit=environment["commit"] or "unknown",
        hardware=f"{environment['processor']}, {environment['threads']} threads",
        seeds=(seed,),
        versions={name: environment[name] for name in ("countersteer", "python", "torch", "numba", "numpy")},
        # Lines of rounds say what was driven, and have no loss.
        loss=tuple((float(line["step"]), line["loss/policy"]) for line in curve if "loss/policy" in line),
    )
