"""Statistics against numbers from paper and by hand."""

import json
import math

import numpy as np
import pytest

from countersteer.errors import UserError
from countersteer.evaluation.records import CaseResult, SuiteResult
from countersteer.evaluation.statistics import CompareRow, paired_permutation_test, wilson_interval


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_gives_the_published_examples(passed, total, low, high):
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
    assert wilson_interval(passed, total) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_at_the_ends_by_hand():
    """With no pass the high end is z^2 / (n + z^2); with all passed the interval is its mirror image."""
    z2 = 1.959963984540054**2
    assert wilson_interval(0, 10) == pytest.approx((0.0, z2 / (10 + z2)), abs=1e-12)
    assert wilson_interval(24, 24) == pytest.approx((24 / (24 + z2), 1.0), abs=1e-12)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_interval_is_symmetric_contains_the_rate_and_widens_with_confidence():
    for passed in range(13):
        low, high = wilson_interval(passed, 12)
        mirrored = wilson_interval(12 - passed, 12)
        assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)
        assert 0.0 <= low <= passed / 12 <= high <= 1.0
        wide = wilson_interval(passed, 12, confidence=0.99)
        assert wide[1] - wide[0] > high - low


@pytest.mark.parametrize(
    ("passed", "total", "confidence"), [(5, 4, 0.95), (-1, 4, 0.95), (1, 4, 1.0), (1, 4, 95.0)]
)
def test_wilson_interval_refuses_impossible_arguments(passed, total, confidence):
    with pytest.raises(UserError, match="out of range"):
        wilson_interval(passed, total, confidence)


@pytest.mark.parametrize(
    ("difference", "two_sided", "greater"),
    [
        ([1, 1, 1, 1, 1], 2 / 32, 1 / 32),  # only the pattern seen and its mirror image are as large
        ([1, 1, -1], 1.0, 4 / 8),  # sums 3, 1, 1, 1, -1, -1, -1, -3
        ([1.0, 0.5, 0.0], 2 / 4, 1 / 4),  # a scenario without difference adds nothing
        ([-1, -1, -1], 2 / 8, 1.0),
        ([0.0, 0.0], 1.0, 1.0),
        ([0.1, 0.2, -0.3], 1.0, 5 / 8),  # the sum is 0 on paper only: 0.6, 0.4, 0.2, 0 and 0 are as large
    ],
)
def test_permutation_test_by_hand(difference, two_sided, greater):
    b = np.full(len(difference), 0.25)
    a = b + np.array(difference, float)
    assert paired_permutation_test(a, b, seed=0) == pytest.approx(two_sided)
    assert paired_permutation_test(a, b, seed=0, alternative="greater") == pytest.approx(greater)


def test_drawn_patterns_agree_with_enumeration():
    """The same data once below and once above the limit of enumeration (a tiny difference is added)."""
    rng = np.random.default_rng(3)
    a, b = rng.random(20), rng.random(20) - 0.12
    exact = paired_permutation_test(a, b, seed=0)
    drawn = paired_permutation_test(np.append(a, 1e-7), np.append(b, 0.0), seed=0)
    assert 0.005 < exact < 0.9
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 100_000) + 1e-4)


def test_drawn_patterns_are_repeatable_and_never_give_zero():
    a, b = np.ones(40), np.zeros(40)
    first = paired_permutation_test(a, b, seed=7)
    assert first == paired_permutation_test(a, b, seed=7) == 1 / 100_001


def test_permutation_test_refuses_what_does_not_pair_up():
    # Lengths that differ never reach the function in tests, where shapes are checked at the call.
    with pytest.raises(UserError, match="finite"):
        paired_permutation_test(np.array([1.0, math.nan]), np.zeros(2), seed=0)
    with pytest.raises(UserError, match="resamples"):
        paired_permutation_test(np.zeros(2), np.zeros(2), seed=0, resamples=100)


def test_compare_row_counts_the_cases_that_count_and_becomes_json():
    cases = tuple(
        CaseResult(f"c{i}", passed, "", None, {}) for i, passed in enumerate([True, False, True, None])
    )
    result = SuiteResult(suite="lanes", driver="clone", protocol="1", cases=cases)
    row = CompareRow.of(result, open_loop_error=math.nan, seconds=12.5)
    values = json.loads(json.dumps(row.to_json()))
    assert list(values) == [
        *("recipe", "suite", "passed", "total", "interval", "open_loop_error", "seconds", "protocol")
    ]
    assert values["protocol"] == "1"
    assert (row.passed, row.total) == (2, 3)
    assert values["open_loop_error"] is None
    assert values["interval"] == list(row.interval) == list(wilson_interval(2, 3))
