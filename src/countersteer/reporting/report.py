"""The report: one HTML file that shows who passed what, why the others failed, and the films of it.

The file needs no network: style, script, drawings and films are inside, and its content policy
forbids loading anything else. Numbers are prepared here; the template in `templates/` lays them out.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.failures import FailureKind, count_failures, explain_suite
from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.evaluation.statistics import CompareRow, paired_permutation_test
from countersteer.reporting.film import still
from countersteer.reporting.pages import require_ending, write_page

__all__ = ["CaseFilm", "RunInfo", "write_report"]


@dataclass(frozen=True)
class CaseFilm:
    """A film of one driver on one case; films of the same case are shown side by side, in step.

    Attributes:
        driver: What drove, as in its `SuiteResult`.
        suite: Name of the suite.
        case: Name of the case.
        mp4: The bytes of `countersteer.reporting.film.film`.
    """

    driver: str
    suite: str
    case: str
    mp4: bytes = field(repr=False)


@dataclass(frozen=True)
class RunInfo:
    """Where the numbers of one driver come from.

    Attributes:
        driver: What drove.
        command: The command that repeats it.
        commit: Revision of the code, "unknown" if not known.
        hardware: Machine, in words.
        seeds: Seeds of the training runs.
        versions: Packages and their versions.
        loss: Training curve as pairs of optimiser step and loss; may be empty.
    """

    driver: str
    command: str
    commit: str
    hardware: str
    seeds: tuple[int, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    loss: tuple[tuple[float, float], ...] = field(default=(), repr=False)


def write_report(
    path: str | Path,
    *,
    title: str,
    rows: Sequence[CompareRow],
    results: Sequence[SuiteResult],
    runs: Sequence[RunInfo] = (),
    films: Sequence[CaseFilm] = (),
    note: str = "",
) -> Path:
    """Write a self-contained HTML report and return its path; an existing file is replaced at once.

    Args:
        path: Where to write (.html); its folder is made if need be.
        title: Headline.
        rows: The comparison, at most one row for each driver and suite, in the order to show drivers in.
        results: Cases with their verdicts; results of one driver on one suite (several seeds) are shown
            together. Those with records also get curves.
        runs: Provenance and training curves.
        films: Chosen cases; each must be a case of `results`.
        note: One paragraph under the headline, for example what differs from an earlier report.

    Raises:
        UserError: If there is nothing to report, two rows compete, a film belongs to no case, or the path is
            not an .html file.
    """
    path = Path(path)
    _check(path, rows, results, films)
    drivers = list(dict.fromkeys([row.recipe for row in rows] + [result.driver for result in results]))
    suites = list(dict.fromkeys([row.suite for row in rows] + [result.suite for result in results]))
    colors = {driver: f"d{index % 8}" for index, driver in enumerate(drivers)}

    return write_page(
        path,
        "report.html",
        title=title,
        note=note,
        drivers=drivers,
        suites=suites,
        colors=colors,
        headline=_headline(rows, suites),
        table=_table(rows, drivers, suites),
        warnings=_warnings(results),
        pairs=_pairs(results, drivers, suites),
        curves=[grid for suite in suites if (grid := _curve_grid(suite, results, drivers))],
        scatter=_scatter(rows, suites),
        losses=_losses(runs),
        cases=_cases(results, films),
        groups=_film_groups(films, results, drivers),
        failures=_failures(results, drivers, suites),
        runs=runs,
    )


def _check(
    path: Path, rows: Sequence[CompareRow], results: Sequence[SuiteResult], films: Sequence[CaseFilm]
) -> None:
    require_ending(path, "report", ".html", ".htm")
    if not rows and not results:
        raise UserError(
            "there is nothing to report", got="no rows and no results", fix="run `countersteer compare`"
        )
    seen = set()
    for row in rows:
        if (row.recipe, row.suite) in seen:
            raise UserError(
                "a report has room for one row for each driver and suite",
                got=f"two rows for {row.recipe!r} on {row.suite!r}",
                fix="add up the seeds first",
            )
        seen.add((row.recipe, row.suite))
    known = {(result.driver, result.suite, case.case) for result in results for case in result.cases}
    for one in films:
        if (one.driver, one.suite, one.case) not in known:
            raise UserError(
                "a film belongs to no case of the report",
                got=f"{one.driver!r} on {one.suite!r}, case {one.case!r}",
                expected="driver, suite and case of one of the results",
            )


def _headline(rows: Sequence[CompareRow], suites: list[str]) -> list[str]:
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


def _table(rows: Sequence[CompareRow], drivers: list[str], suites: list[str]) -> list[dict]:
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


def _warnings(results: Sequence[SuiteResult]) -> list[str]:
    protocols: dict[str, dict[str, str]] = {}
    for result in results:
        protocols.setdefault(result.suite, {}).setdefault(result.protocol, result.driver)
    return [
        f"Results on {suite} follow different protocols and must not be compared: "
        + "; ".join(f"{driver}: {protocol}" for protocol, driver in found.items())
        for suite, found in protocols.items()
        if len(found) > 1
    ]


def _pairs(results: Sequence[SuiteResult], drivers: list[str], suites: list[str]) -> list[dict]:
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


# Drawings. Positions are in the units of each drawing's view box; the template adds style and text.


@dataclass(frozen=True)
class _Axis:
    """Maps values to one side of a drawing and chooses where its ticks go."""

    low: float
    high: float
    start: float  # position of `low` in the drawing
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Position of a value, clamped to the drawing."""
        low, high, value = (math.log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels."""
        if self.logarithmic:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            values = [
                10.0**power * by for power in powers for by in ((1.0,) if len(powers) > 2 else (1.0, 3.0))
            ]
            values = [value for value in values if self.low <= value <= self.high] or [self.low, self.high]
        else:
            step = _round_step((self.high - self.low) / 4)
            first = math.ceil(self.low / step - 1e-9)
            values = [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [(self.at(value), f"{value:.4g}".replace("-", "−")) for value in values]


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return min((by * power for by in (1.0, 2.0, 5.0, 10.0)), key=lambda value: abs(value - step))


def _polyline(x: Iterable[float], y: Iterable[float]) -> str:
    return " ".join(f"{one:g},{other:g}" for one, other in zip(x, y, strict=True))


def _curve_grid(suite: str, results: Sequence[SuiteResult], drivers: list[str]) -> dict | None:
    """Lateral error over time: one drawing a driver, all cases in it, the same axes in all."""
    drives: dict[str, list[tuple[CaseResult, DriveRecord]]] = {}
    for driver in drivers:
        for result in results:
            if (result.driver, result.suite) == (driver, suite) and result.records:
                drives.setdefault(driver, []).extend(zip(result.cases, result.records, strict=True))
    if not drives:
        return None
    everything = [record for pairs in drives.values() for _, record in pairs]
    reach = max(float(np.nanmax(np.abs(_alive(record, record.lateral)))) for record in everything)
    limit = min(max(reach * 1.05, 0.5), 5.0)
    x = _Axis(0.0, max(float(record.times[-1]) for record in everything) or 1.0, 34.0, 292.0)
    y = _Axis(-limit, limit, 148.0, 8.0)
    panels = []
    for driver, pairs in drives.items():
        lines = []
        for case, record in pairs:
            times, lateral = _alive(record, record.times), np.nan_to_num(_alive(record, record.lateral))
            keep = np.unique(np.linspace(0, len(times) - 1, min(len(times), 100)).round().astype(int))
            points = _polyline((x.at(v) for v in times[keep]), (y.at(v) for v in lateral[keep]))
            mark = None
            if case.fail_time is not None:
                mark = (x.at(case.fail_time), y.at(float(np.interp(case.fail_time, times, lateral))))
            lines.append({"case": case, "points": points, "mark": mark})
        # Failures are drawn last, on top.
        lines.sort(key=lambda line: line["case"].passed is False)
        counted = [case for case, _ in pairs if case.passed is not None]
        passed = sum(case.passed is True for case in counted)
        panels.append({"driver": driver, "lines": lines, "passed": passed, "total": len(counted)})
    return {"suite": suite, "x": x, "y": y, "panels": panels, "clipped": reach > limit}


def _alive(record: DriveRecord, values: Float[ndarray, "time"]) -> Float[ndarray, "n"]:
    """Values until the drive ended; its last tick included."""
    return values[: record.last + 1].astype(float)


def _scatter(rows: Sequence[CompareRow], suites: list[str]) -> dict | None:
    """Open-loop error against pass rate: one drawing a suite, the same axes in all."""
    known = [row for row in rows if row.open_loop_error is not None and row.total]
    if len({row.recipe for row in known}) < 2:
        return None
    high = max(row.open_loop_error or 0.0 for row in known) * 1.2 or 1.0
    x, y = _Axis(0.0, high, 44.0, 456.0), _Axis(0.0, 1.0, 208.0, 12.0)
    panels = []
    for suite in suites:
        here = [row for row in known if row.suite == suite]
        if not here:
            continue
        points = []
        for row in sorted(here, key=lambda row: -row.passed / row.total):
            px, py = x.at(row.open_loop_error or 0.0), y.at(row.passed / row.total)
            bar = (y.at(row.interval[0]), y.at(row.interval[1]))
            before = px > 340  # no room on the right
            label = py + 4
            for other in points:
                if abs(other["x"] - px) < 110 and abs(other["label"] - label) < 14:
                    label = other["label"] + 14
            points.append({"row": row, "x": px, "y": py, "bar": bar, "label": label, "before": before})
        panels.append({"suite": suite, "points": points})
    return {"x": x, "y": y, "panels": panels}


def _losses(runs: Sequence[RunInfo]) -> dict | None:
    """Training curves of all runs in one drawing, on a logarithmic scale where that is possible."""
    curves = {run.driver: np.array(run.loss, float).reshape(-1, 2) for run in runs if len(run.loss) > 1}
    curves = {driver: curve[np.isfinite(curve).all(1)] for driver, curve in curves.items()}
    curves = {driver: curve for driver, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    every = np.concatenate(list(curves.values()))
    low, high = float(every[:, 1].min()), float(every[:, 1].max())
    logarithmic = low > 0 and high > 3 * low
    if not logarithmic:
        pad = 0.05 * (high - low) or 1.0
        low, high = low - pad, high + pad
    start, end = float(every[:, 0].min()), float(every[:, 0].max())
    x, y = (
        _Axis(start, end if end > start else start + 1.0, 52.0, 600.0),
        _Axis(low, high, 208.0, 12.0, logarithmic),
    )
    lines = []
    for driver, curve in sorted(curves.items(), key=lambda item: -item[1][-1, 1]):
        keep = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), 300)).round().astype(int))
        points = _polyline((x.at(v) for v in curve[keep, 0]), (y.at(v) for v in curve[keep, 1]))
        label = y.at(float(curve[-1, 1])) + 4
        if lines:
            label = max(label, lines[-1]["label"] + 14)
        lines.append({"driver": driver, "points": points, "label": label, "end": x.at(float(curve[-1, 0]))})
    return {"x": x, "y": y, "lines": lines, "logarithmic": logarithmic}


def _cases(results: Sequence[SuiteResult], films: Sequence[CaseFilm]) -> list[dict]:
    """One line a case and run; runs are numbered where a driver has several on one suite."""
    filmed = {(film.driver, film.suite, film.case) for film in films}
    runs: dict[tuple[str, str], int] = {}
    lines = []
    for result in results:
        key = (result.driver, result.suite)
        several = sum((other.driver, other.suite) == key for other in results) > 1
        runs[key] = runs.get(key, 0) + 1
        for case in result.cases:
            lines.append(
                {
                    "driver": result.driver,
                    "suite": result.suite,
                    "run": f"run {runs[key]}" if several else "",
                    "case": case,
                    "measures": [(name, f"{value:.3g}") for name, value in case.measures.items()],
                    # Only the first run of several is filmed, so only it leads to the film.
                    "film": _anchor(result.suite, case.case)
                    if runs[key] == 1 and (*key, case.case) in filmed
                    else None,
                }
            )
    return lines


_THUMBNAILS = 4
"""Failures of one driver by one cause on one suite that are shown; the rest are counted."""


def _failures(results: Sequence[SuiteResult], drivers: list[str], suites: list[str]) -> list[dict]:
    """For each suite the causes with their counts by driver, and for each cause pictures of the moment."""
    groups = []
    for suite in suites:
        counts: dict[str, dict[FailureKind, int]] = {}
        shown: dict[FailureKind, list[dict]] = {}
        for driver in drivers:
            mine = [one for one in results if (one.driver, one.suite) == (driver, suite) and one.records]
            found = [
                (case, record, failure)
                for one in mine
                for case, record, failure in zip(one.cases, one.records, explain_suite(one), strict=True)
                if failure is not None
            ]
            if mine:
                counts[driver] = count_failures(failure for _, _, failure in found)
            for case, record, failure in found:
                pictures = shown.setdefault(failure.kind, [])
                if sum(one["driver"] == driver for one in pictures) == _THUMBNAILS:
                    continue
                picture = still(record, failure.tick, case)
                done, encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
                assert done
                pictures.append(
                    {
                        "driver": driver,
                        "case": case.case,
                        "note": failure.note,
                        "time": float(record.times[failure.tick]),
                        "data": base64.b64encode(encoded.tobytes()).decode("ascii"),
                    }
                )
        kinds = [kind for kind in FailureKind if any(kind in count for count in counts.values())]
        if kinds:
            table = [(driver, [count.get(kind, 0) for kind in kinds]) for driver, count in counts.items()]
            causes = [
                {
                    "kind": kind.value,
                    "shown": shown[kind],
                    "left_out": sum(count.get(kind, 0) for count in counts.values()) - len(shown[kind]),
                }
                for kind in kinds
            ]
            groups.append({"suite": suite, "table": table, "causes": causes})
    return groups


def _film_groups(films: Sequence[CaseFilm], results: Sequence[SuiteResult], drivers: list[str]) -> list[dict]:
    """Films of one case together, drivers in the order of the table."""
    verdicts: dict[tuple[str, str, str], CaseResult] = {}
    for result in results:
        for case in result.cases:
            verdicts.setdefault((result.driver, result.suite, case.case), case)
    groups: dict[tuple[str, str], list[CaseFilm]] = {}
    for film in films:
        groups.setdefault((film.suite, film.case), []).append(film)
    return [
        {
            "suite": suite,
            "case": case,
            "anchor": _anchor(suite, case),
            "films": [
                {
                    "driver": film.driver,
                    "verdict": verdicts[film.driver, suite, case],
                    "data": base64.b64encode(film.mp4).decode("ascii"),
                }
                for film in sorted(members, key=lambda film: drivers.index(film.driver))
            ],
        }
        for (suite, case), members in groups.items()
    ]


def _anchor(suite: str, case: str) -> str:
    """An identifier for one case that is safe in HTML and in addresses."""
    safe = "".join(
        letter if letter.isalnum() and letter.isascii() else f"-{ord(letter):x}-"
        for letter in f"{suite} {case}"
    )
    return f"film-{safe}"
