"""Scores of a suite: values with intervals, parts, evidence and comparisons of drivers.

`benchmarks` says which scores there are and what each asks a drive for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from countersteer.errors import UserError
from countersteer.evaluation.benchmarks import Benchmark, Parts
from countersteer.evaluation.metrics.evidence import Finding
from countersteer.evaluation.metrics.from_record import drive_of_record
from countersteer.evaluation.records import SuiteResult
from countersteer.evaluation.statistics import clustered_interval, paired_permutation_test, wilson_interval
from countersteer.storage.serialise import checked

__all__ = ["DriveScore", "SuiteScore", "paired_difference", "score_suite"]


@dataclass(frozen=True)
class DriveScore:
    """One benchmark's score of one drive.

    Attributes:
        case: Of the suite.
        scenario: Identifier of the scenario; drives of one are not independent.
        counts: Whether the case counts.
        value: The score, None where it is not defined.
        parts: Sub-scores by name, None where one is not defined.
        findings: What lowered it; ticks are the record's, actors its slots.
        undefined: Why there is no value; empty if there is one.
    """

    case: str
    scenario: str
    counts: bool
    value: float | None
    parts: Parts
    findings: tuple[Finding, ...] = ()
    undefined: str = ""


@dataclass(frozen=True)
class SuiteScore:
    """One benchmark's score of a suite.

    Attributes:
        benchmark: Its name.
        reference: Of its definition.
        best: Its best value; 0 where less is better.
        drives: In suite order.
    """

    benchmark: str
    reference: str
    best: float
    drives: tuple[DriveScore, ...]

    @property
    def counted(self) -> list[DriveScore]:
        """Drives that count and have a value."""
        return [drive for drive in self.drives if drive.counts and drive.value is not None]

    @property
    def value(self) -> float | None:
        """Mean over the drives that count and have a value; None without one."""
        values = [drive.value for drive in self.counted if drive.value is not None]
        return float(np.mean(values)) if values else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean, scenarios drawn anew; None where a single one has a value.

        Where every drive has either the best or the worst value, a bootstrap would see too little spread, so
        the interval is Wilson's, a scenario counting once.
        """
        values = np.array([drive.value for drive in self.counted], float)
        if not len(values):
            return None
        names, number = np.unique([drive.scenario for drive in self.counted], return_inverse=True)
        if self.best > 0 and np.isin(values, (0.0, self.best)).all():
            means = np.bincount(number, values / self.best) / np.bincount(number)
            low, high = wilson_interval(min(float(means.sum()), len(names)), len(names))
            return self.best * low, self.best * high
        return clustered_interval(values, number) if len(names) > 1 else None

    @property
    def parts(self) -> dict[str, tuple[float | None, int]]:
        """Mean of each part over the drives that count and define it, and how many do."""
        means: dict[str, tuple[float | None, int]] = {}
        for name in dict.fromkeys(name for drive in self.counted for name in drive.parts):
            found = [value for drive in self.counted if (value := drive.parts.get(name)) is not None]
            means[name] = (float(np.mean(found)) if found else None, len(found))
        return means

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` makes the score of them again."""
        return {
            "benchmark": self.benchmark,
            "reference": self.reference,
            "best": self.best,
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "defined": len(self.counted),
            "parts": {name: mean for name, (mean, _) in self.parts.items()},
            "drives": [dataclasses.asdict(drive) for drive in self.drives],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SuiteScore:
        """The score that `to_json` wrote.

        Raises:
            UserError: If a field is missing or unknown.
        """
        try:
            drives = []
            for entry in values["drives"]:
                found = tuple(
                    Finding(**{**finding, "actors": tuple(finding["actors"])})
                    for finding in entry["findings"]
                )
                drives.append(checked(DriveScore(**{**entry, "findings": tuple(map(checked, found))})))
            return cls(
                str(values["benchmark"]), str(values["reference"]), float(values["best"]), tuple(drives)
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                "a stored score does not have the right fields",
                got=f"{type(error).__name__}: {error}",
                expected="benchmark, reference, best, drives",
                fix="score the replay again",
            ) from error


def score_suite(result: SuiteResult, benchmarks: Iterable[Benchmark]) -> tuple[SuiteScore, ...]:
    """Score every drive of a result; by no benchmark there is no score.

    Raises:
        UserError: The result has no records.
    """
    benchmarks = tuple(benchmarks)
    if not benchmarks:
        return ()
    if len(result.records) != len(result.cases):
        raise UserError(
            "only drives that were kept can be scored",
            got=f"{len(result.records)} records of {len(result.cases)} cases",
            expected="one record a case",
            fix="drive the suite again, or score a replay of it",
        )
    drives: list[list[DriveScore]] = [[] for _ in benchmarks]
    for case, record in zip(result.cases, result.records, strict=True):
        drive, refusal = None, ""
        try:
            drive = drive_of_record(record)
        except UserError as error:
            refusal = _reason(error)
        for benchmark, scores in zip(benchmarks, drives, strict=True):
            value, parts, findings, why = None, {}, (), refusal
            bad = record.failure
            if drive is None and bad is not None and benchmark.best > 0:
                note = f"the drive ended at once: {bad.name.lower().replace('_', ' ')}"
                value, findings, why = 0.0, (Finding("driven", record.last, value=0.0, note=note),), ""
            if drive is not None:
                try:
                    score = benchmark.judge(drive, record)
                    value, parts = score.value, score.parts
                    # Actors are counted without the car itself, slots with it.
                    findings = tuple(
                        dataclasses.replace(f, actors=tuple(int(record.others[actor]) for actor in f.actors))
                        for f in score.findings
                    )
                except UserError as error:
                    why = _reason(error)
            counts = case.passed is not None
            scores.append(DriveScore(case.case, record.scenario.id, counts, value, parts, findings, why))
    return tuple(
        SuiteScore(one.name, one.reference, one.best, tuple(scores))
        for one, scores in zip(benchmarks, drives, strict=True)
    )


def _reason(error: UserError) -> str:
    """What is missing, and how much of it where that is a number."""
    what = error.what.removeprefix("a drive cannot be scored: ")
    if error.expected is not None and any(sign.isdigit() for sign in str(error.got)):
        what += f" ({error.got}; expected {error.expected})"
    return what


@dataclass(frozen=True)
class PairedDifference:
    """How much better one driver scores than another on the scenarios that both have a value of.

    Attributes:
        benchmark: The score.
        mean: Of the differences.
        interval: Its 95 % interval, scenarios drawn anew; None below two of them.
        scenarios: How many.
        p: Of the two-sided sign-flip permutation test; None without a shared scenario.
    """

    benchmark: str
    mean: float | None
    interval: tuple[float, float] | None
    scenarios: int
    p: float | None


def paired_difference(a: Sequence[SuiteScore], b: Sequence[SuiteScore]) -> PairedDifference:
    """Compare two drivers, each with one score a seed, paired on the case, then averaged over a scenario's cases.

    Raises:
        UserError: If the scores are not of one benchmark in one version.
    """
    kinds = {(score.benchmark, score.reference) for score in (*a, *b)}
    if len(kinds) != 1:
        raise UserError(
            "scores of different definitions cannot be compared",
            got=", ".join(sorted(f"{name} ({reference})" for name, reference in kinds)),
            expected="one benchmark in one version",
            fix="score both again with this version",
        )

    def by_case(scores: Sequence[SuiteScore]) -> dict[tuple[str, str], float]:
        values: dict[tuple[str, str], list[float]] = {}
        for score in scores:
            for drive in score.counted:
                assert drive.value is not None
                values.setdefault((drive.scenario, drive.case), []).append(drive.value)
        # With a seed missing, the others would stand for it.
        return {key: float(np.mean(v)) for key, v in values.items() if len(v) == len(scores)}

    first, second = by_case(a), by_case(b)
    differences: dict[str, list[float]] = {}
    for key in first.keys() & second.keys():
        differences.setdefault(key[0], []).append(first[key] - second[key])
    means = np.array([np.mean(differences[name]) for name in sorted(differences)], float)
    name = a[0].benchmark
    if not len(means):
        return PairedDifference(name, None, None, 0, None)
    p = paired_permutation_test(means, np.zeros(len(means)), seed=0)
    interval = clustered_interval(means, np.arange(len(means))) if len(means) > 1 else None
    return PairedDifference(name, float(means.mean()), interval, len(means), p)
