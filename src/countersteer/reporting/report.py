"""The report: one HTML file that shows who passed what, why the others failed, and the films of it.

The file needs no network: style, script, drawings and films are inside, and its content policy
forbids loading anything else. Numbers are prepared here; the template in `templates/` lays them out.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from countersteer.errors import UserError
from countersteer.evaluation.failures import FailureKind, count_failures, explain_suite
from countersteer.evaluation.records import CaseResult, SuiteResult
from countersteer.evaluation.statistics import CompareRow
from countersteer.reporting import charts, comparison
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
        headline=comparison.headline(rows, suites),
        table=comparison.table(rows, drivers, suites),
        warnings=comparison.protocol_warnings(results),
        pairs=comparison.pairs(results, drivers, suites),
        curves=[grid for suite in suites if (grid := charts.curve_grid(suite, results, drivers))],
        scatter=charts.scatter(rows, suites),
        losses=charts.losses({run.driver: run.loss for run in runs if len(run.loss) > 1}),
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


# Drawings. Positions are in the units of each drawing's view box; the template adds style and text.


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
