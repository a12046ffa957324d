"""What pass counts allow one to say: intervals, paired tests, and the rows of a comparison.

Pass counts are small numbers (24 cases), so the interval is Wilson's, which stays honest at 0 and at
all, and two drivers are compared on the same scenarios by a permutation test that assumes no
distribution. This module needs numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.records import SuiteResult

__all__ = [
    "CompareRow",
    "clustered_interval",
    "paired_permutation_test",
    "wilson_interval",
]

_EXACT_UP_TO = 20  # 2^20 sign patterns take 8 MB and milliseconds; one more doubles both
_FEWEST_RESAMPLES = 100_000


def wilson_interval(passed: float | int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a pass rate (Wilson 1927, "Probable inference", without continuity correction).

        (p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    It holds for independent cases. Several seeds on one scenario are not: give it the mean count over
    the seeds and the number of scenarios.

    Args:
        passed: Cases passed, 0 to `total`; a mean over seeds need not be whole.
        total: Cases that count; 0 says nothing, so the interval is (0, 1).
        confidence: Coverage, in (0, 1).

    Returns:
        Low and high end, in [0, 1].

    Raises:
        UserError: If the counts or the confidence are out of range.
    """
    if not 0 <= passed <= total:
        raise UserError(
            "a pass count is out of range", got=f"{passed} of {total}", expected="0 <= passed <= total"
        )
    if not 0.0 < confidence < 1.0:
        raise UserError("a confidence is out of range", got=confidence, expected="between 0 and 1, like 0.95")
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    rate, shrink = passed / total, 1.0 + z * z / total
    middle = (rate + z * z / (2 * total)) / shrink
    reach = z / shrink * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    # At the ends the formula gives exactly 0 and 1, but for rounding.
    low = 0.0 if passed == 0 else max(0.0, middle - reach)
    high = 1.0 if passed == total else min(1.0, middle + reach)
    return low, high


def paired_permutation_test(
    a: Float[ndarray, "scenario"],
    b: Float[ndarray, "scenario"],
    *,
    seed: int,
    resamples: int = _FEWEST_RESAMPLES,
    alternative: Literal["two-sided", "greater"] = "two-sided",
) -> float:
    """Probability of a mean difference this large if the labels a and b were exchangeable (Fisher 1935).

    The pair is the scenario, not the drive. Two drives of one scenario share its road, its traffic and
    its difficulty, so one scenario over five seeds is not five cases: counting them as such would make
    p smaller without new evidence. Average over the seeds first; this function sees one number a
    scenario and flips the sign of each scenario's difference.

    With at most 20 scenarios that differ, all sign patterns are counted and the result is exact;
    with more, patterns are drawn and p = (1 + hits) / (1 + resamples), which is never zero
    (Phipson & Smyth 2010).

    Args:
        a: Mean pass rate (or any score) of each scenario for the one driver.
        b: The same scenarios in the same order for the other.
        seed: Seed of the drawn sign patterns; an exact result does not depend on it.
        resamples: Sign patterns to draw where enumeration is too much, at least 100,000.
        alternative: "two-sided", or "greater" for a better than b.

    Returns:
        p, in (0, 1]; 1 where no scenario differs.

    Raises:
        UserError: If the scenarios do not pair up, a score is not finite, or there are too few resamples.
    """
    if a.shape != b.shape:
        raise UserError(
            "a paired test needs the same scenarios on both sides", got=f"{len(a)} and {len(b)} scenarios"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError("a paired test got a score that is not a finite number", expected="finite scores")
    if resamples < _FEWEST_RESAMPLES:
        raise UserError("too few resamples", got=resamples, expected=f"at least {_FEWEST_RESAMPLES}")
    if alternative not in ("two-sided", "greater"):
        raise UserError("unknown alternative", got=repr(alternative), expected="'two-sided' or 'greater'")

    difference = a.astype(float) - b.astype(float)
    difference = difference[difference != 0.0]
    if len(difference) == 0:
        return 1.0
    # Sums that are equal on paper differ in the last bits, and a tie counts as "as large".
    slack = 1e-9 * np.abs(difference).sum()
    observed = difference.sum()

    def hits(sums: ndarray) -> int:
        if alternative == "two-sided":
            return int(np.count_nonzero(np.abs(sums) >= abs(observed) - slack))
        return int(np.count_nonzero(sums >= observed - slack))

    if len(difference) <= _EXACT_UP_TO:
        sums = np.zeros(1)
        for one in difference:
            sums = np.concatenate([sums + one, sums - one])
        return hits(sums) / len(sums)

    rng = np.random.default_rng(seed)
    found, left = 0, resamples
    while left:
        rows = min(left, 10_000)
        found += hits((2.0 * rng.integers(0, 2, (rows, len(difference))) - 1.0) @ difference)
        left -= rows
    return (1 + found) / (1 + resamples)


def clustered_interval(
    values: Shaped[ndarray, "drive"],
    cluster: Shaped[ndarray, "drive"],
    *,
    seed: int = 0,
    draws: int = 2_000,
) -> tuple[float, float]:
    """95 % interval of a mean by the bootstrap, drawing whole clusters anew: drives of one are not independent.

    Args:
        values: One number a drive.
        cluster: What drives share, for example their scenario.
        seed: Of the draws.
        draws: How many.

    Returns:
        Low and high end. Of a single cluster it is the mean itself, twice: nothing is known of the spread.

    Raises:
        UserError: If there is no value.
    """
    if len(values) == 0:
        raise UserError("an interval over no values was asked for", expected="at least one value")
    names, number = np.unique(cluster, return_inverse=True)
    total = np.bincount(number, values.astype(float))
    count = np.bincount(number).astype(float)
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means = total[drawn].sum(1) / count[drawn].sum(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


@dataclass(frozen=True)
class CompareRow:
    """One line of a comparison: one driver on one suite.

    Attributes:
        recipe: What drove.
        suite: On what.
        passed: Cases passed.
        total: Cases that count.
        interval: Wilson interval of the pass rate at 95 %, low and high; a case counts once, however
            many seeds drove it.
        open_loop_error: Mean distance between the driver's plan and the expert's while the expert drives
            [m]; None where it has no meaning.
        seconds: Wall time of training [s]; None if nothing was trained.
        protocol: `SuiteResult.protocol`; None in rows written before it was kept.
    """

    recipe: str
    suite: str
    passed: int
    total: int
    interval: tuple[float, float]
    open_loop_error: float | None = None
    seconds: float | None = None
    protocol: str | None = None

    @classmethod
    def of(
        cls, result: SuiteResult, *, open_loop_error: float | None = None, seconds: float | None = None
    ) -> CompareRow:
        """The row of one result; the rest is known to the caller only."""
        return cls(
            recipe=result.driver,
            suite=result.suite,
            passed=result.passed,
            total=result.total,
            interval=wilson_interval(result.passed, result.total),
            open_loop_error=open_loop_error,
            seconds=seconds,
            protocol=result.protocol,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values under recipe, suite, passed, total, interval, open_loop_error, seconds, protocol.

        Numbers that are not finite become None, since JSON has no word for them.
        """

        def finite(value: float | None) -> float | None:
            return value if value is not None and math.isfinite(value) else None

        return {
            "recipe": self.recipe,
            "suite": self.suite,
            "passed": self.passed,
            "total": self.total,
            "interval": list(self.interval),
            "open_loop_error": finite(self.open_loop_error),
            "seconds": finite(self.seconds),
            "protocol": self.protocol,
        }
