"""Drivers compared in words and tables: the headline of the report, its table, its pairs under a test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from countersteer.evaluation.records import SuiteResult
from countersteer.evaluation.statistics import CompareRow, paired_permutation_test

__all__ = ["headline", "pairs", "protocol_warnings", "table"]


def headline(rows: Sequence[CompareRow], suites: list[str]) -> list[str]:
    """Sentences that the table bears out: who passes most, who least, whom open loop would choose.

    Drivers without an open-loop error were not trained: they are named apart.
    """
    sentences = []
    for suite in suites:
        here = [row for row in rows if row.suite == suite and row.total]
        if not here:
            continue
        trained = [row for row in here if row.open_loop_error is not None]
        apart = [row for row in here if row not in trained] if trained else []
        rate = {row.recipe: row.passed / row.total for row in trained or here}
        best, worst = max(rate.values()), min(rate.values())
        count = {row.recipe: f"{row.passed} of {row.total}" for row in here}
        top = [name for name in rate if rate[name] == best]
        said = f"{suite}: {_listed(top)} {'passes' if len(top) == 1 else 'pass'} {count[top[0]]}"
        if worst < best:
            low = [name for name in rate if rate[name] == worst]
            said += f", {_listed(low)} {count[low[0]]}"
        if apart:
            said += f" ({', '.join(f'{row.recipe} {row.passed}' for row in apart)})"
        errors = {row.recipe: row.open_loop_error for row in trained if row.open_loop_error is not None}
        if len(errors) > 1:
            favourite = min(errors, key=lambda name: errors[name])
            better = [name for name in errors if rate[name] > rate[favourite]]
            if better:
                said += (
                    f". Open loop would have chosen {favourite} ({errors[favourite]:.2f} m), "
                    f"which passes {count[favourite]}"
                )
        sentences.append(said + ".")
    return sentences


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def table(rows: Sequence[CompareRow], drivers: list[str], suites: list[str]) -> list[dict]:
    """One line a driver: a cell for each suite, open-loop error, training time."""
    best = {
        suite: max((row.passed / row.total for row in rows if row.suite == suite and row.total), default=None)
        for suite in suites
    }
    finite = [row.open_loop_error for row in rows if row.open_loop_error is not None]
    lines = []
    for driver in drivers:
        mine = {row.suite: row for row in rows if row.recipe == driver}
        if not mine:
            continue
        errors = list(
            dict.fromkeys(row.open_loop_error for row in mine.values() if row.open_loop_error is not None)
        )
        seconds = list(dict.fromkeys(row.seconds for row in mine.values() if row.seconds is not None))
        cells = []
        for suite in suites:
            row = mine.get(suite)
            if row is None:
                cells.append(None)
                continue
            rate = row.passed / row.total if row.total else math.nan
            cells.append({"row": row, "rate": rate, "best": row.total > 0 and rate == best[suite]})
        lines.append(
            {
                "driver": driver,
                "cells": cells,
                "error": " / ".join(f"{error:.2f} m" for error in errors),
                "lowest": bool(errors) and len(finite) > 1 and min(errors) == min(finite),
                "seconds": " / ".join(_duration(value) for value in seconds),
            }
        )
    return lines


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def protocol_warnings(results: Sequence[SuiteResult]) -> list[str]:
    """A sentence for each suite whose results follow different protocols."""
    protocols: dict[str, dict[str, str]] = {}
    for result in results:
        protocols.setdefault(result.suite, {}).setdefault(result.protocol, result.driver)
    return [
        f"Results on {suite} follow different protocols and must not be compared: "
        + "; ".join(f"{driver}: {protocol}" for protocol, driver in found.items())
        for suite, found in protocols.items()
        if len(found) > 1
    ]


def pairs(results: Sequence[SuiteResult], drivers: list[str], suites: list[str]) -> list[dict]:
    """Every two drivers of a suite under the paired test, where their scenarios and protocols agree."""
    lines = []
    for suite in suites:
        rates: dict[str, dict[str, float]] = {}
        protocols: dict[str, set[str]] = {}
        for driver in drivers:
            verdicts: dict[str, list[bool]] = {}
            for result in results:
                if (result.driver, result.suite) == (driver, suite):
                    protocols.setdefault(driver, set()).add(result.protocol)
                    for case in result.cases:
                        if case.passed is not None:
                            verdicts.setdefault(case.case, []).append(case.passed)
            if verdicts:
                rates[driver] = {case: float(np.mean(passed)) for case, passed in verdicts.items()}
        names = list(rates)
        for index, first in enumerate(names):
            for second in names[index + 1 :]:
                if (
                    rates[first].keys() != rates[second].keys()
                    or len(protocols[first] | protocols[second]) > 1
                ):
                    continue
                a = np.array(list(rates[second].values()))
                b = np.array([rates[first][case] for case in rates[second]])
                lines.append(
                    {
                        "suite": suite,
                        "first": second,
                        "second": first,
                        "difference": float((a - b).mean()),
                        "scenarios": len(a),
                        "differing": int(np.count_nonzero(a - b)),
                        "p": paired_permutation_test(a, b, seed=0),
                    }
                )
    return lines
