"""Evaluations beside each other: a row a driver and suite, and what may be said of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from countersteer.evaluation.results import (
    ComparedScore,
    StoredEvaluation,
    compare_scores,
    read_open_loop,
)
from countersteer.evaluation.statistics import (
    CompareRow,
    clustered_interval,
    paired_permutation_test,
    wilson_interval,
)
from countersteer.policies.storage import load_policy

__all__ = ["Comparison", "compare_runs", "pass_differences", "permutation_tests", "rows_of"]


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


def rows_of(
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
        recipe = metadata.get("recipe", "unknown")
        seconds.setdefault(recipe, []).append(metadata.get("seconds", float("nan")))
        stored = place / "evaluation" / "open_loop.json"
        if stored.exists():
            errors.setdefault(recipe, []).append(read_open_loop(stored))
    stacked = {key: np.stack(values) for key, values in verdicts.items()}
    drivers = list(dict.fromkeys(driver for driver, _ in stacked))
    pairs = [(a, b) for k, b in enumerate(drivers) for a in drivers[k + 1 :]]
    stamps = {one.result.suite: one.result.protocol for one in kept}
    rows = rows_of(stacked, errors, seconds, stamps)
    tests, differences = permutation_tests(stacked, pairs), pass_differences(stacked, pairs)
    return Comparison(tuple(rows), tests, differences, tuple(compare_scores(kept)))
