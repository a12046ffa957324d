"""The main job: train recipes that differ in who drives, drive them all where they never were, compare.

`make demo` is this with one seed; the study in docs/experiments.md is this with five.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from countersteer.evaluation.driving import open_loop_error
from countersteer.evaluation.records import SuiteResult
from countersteer.evaluation.results import read_result, write_result
from countersteer.evaluation.statistics import CompareRow, paired_permutation_test
from countersteer.evaluation.suites import Suite, lane_change, lane_keeping, recorded, run_suite
from countersteer.scenarios.sources import ProceduralRoads
from countersteer.training.recipe import Recipe
from countersteer.training.run import Progress, load_policy, train
from countersteer.worlds.boxworld.spec import BoxWorldSpec

__all__ = ["Job", "evaluate_run", "held_out_error", "main_job", "permutation_tests"]

_HELD_OUT = ProceduralRoads(count=16, seed=1_000_003, traffic=(0, 0), length=620.0)


def held_out_error(run: Path) -> float:
    """Open-loop error of a run's policy on expert frames of roads nobody trained on [m]."""
    policy, _ = load_policy(run)
    spec = BoxWorldSpec(cameras=policy.spec.cameras, dt=policy.spec.dt)
    return open_loop_error(policy, spec, _HELD_OUT.load(), seed=99)


def evaluate_run(
    run: Path,
    suite: Suite,
    *,
    frames: bool = False,
    on_tick: Callable[[int, int], None] | None = None,
) -> SuiteResult:
    """Drive a suite with a run's policy; the verdicts are kept in the run's folder."""
    policy, metadata = load_policy(run)
    result = run_suite(suite, metadata["recipe"], policy, frames=frames, on_tick=on_tick)
    if run.is_dir():
        write_result(
            run / "evaluation" / f"{suite.name}.json", result, seed=metadata["seed"], seconds=metadata["seconds"]
        )
    return result


@dataclass(frozen=True)
class Job:
    """What the main job left behind.

    Attributes:
        rows: One a recipe and suite, summed over the seeds.
        results: Results of the first seed, with their records, for films and plots.
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
                tests[f"{a} > {b} on {suite}"] = paired_permutation_test(*means, seed=0, alternative="greater")
    return tests


def main_job(
    recipes: Sequence[Recipe],
    out: Path,
    seeds: Sequence[int],
    *,
    progress: Callable[[str], Progress],
    message: Callable[[str], None],
    suites: Sequence[Suite] | None = None,
) -> Job:
    """Train every recipe with every seed and drive every suite; finished parts of `out` are reused.

    Args:
        recipes: What to compare.
        out: Folder; a run lies in `out/RECIPE` (one seed) or `out/RECIPE-SEED`.
        seeds: Seeds.
        progress: Makes the progress of one training, by its name.
        message: Told what is being done.
        suites: Tests; by default lane keeping, lane change and the recorded drive.
    """
    suites = suites or (lane_keeping(), lane_change(), recorded())
    verdicts: dict[tuple[str, str], list[np.ndarray]] = {}
    kept: list[SuiteResult] = []
    errors: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for suite in suites:
        result = run_suite(suite, "expert", None, frames=True)
        kept.append(result)
        verdicts["expert", suite.name] = [result.passes]
    for seed in seeds:
        for recipe in recipes:
            name = recipe.name if len(seeds) == 1 else f"{recipe.name}-{seed}"
            run = out / name
            if not (run / "policy.safetensors").exists():
                train(recipe, run, seed=seed, resume=run.exists(), progress=progress(name))
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
                if keep:
                    kept.append(result)
                verdicts.setdefault((recipe.name, suite.name), []).append(result.passes)
            if not error_file.exists():
                error_file.write_text(json.dumps({"open_loop_error_m": held_out_error(run)}))
            errors.setdefault(recipe.name, []).append(
                json.loads(error_file.read_text())["open_loop_error_m"]
            )
            counts = ", ".join(
                f"{suite.name} {int(verdicts[recipe.name, suite.name][-1].sum())}"
                f"/{len(verdicts[recipe.name, suite.name][-1])}"
                for suite in suites
            )
            message(f"{name}: {counts}; driven in {time.monotonic() - began:.0f} s")
    stacked = {key: np.stack(values) for key, values in verdicts.items()}
    rows = []
    for (driver, suite), passes in stacked.items():
        passed, total = int(passes.sum()), passes.size
        rows.append(
            CompareRow(
                recipe=driver,
                suite=suite,
                passed=passed,
                total=total,
                interval=_interval(passed, total),
                open_loop_error=float(np.mean(errors[driver])) if driver in errors else None,
                seconds=float(np.mean(seconds[driver])) if driver in seconds else None,
            )
        )
    pairs = (("on_policy", "clone"), ("perturb", "clone"), ("on_policy", "perturb"), ("on_policy", "blind"))
    return Job(tuple(rows), tuple(kept), stacked, permutation_tests(stacked, pairs))


def _interval(passed: int, total: int) -> tuple[float, float]:
    from countersteer.evaluation.statistics import wilson_interval

    return wilson_interval(passed, total)


