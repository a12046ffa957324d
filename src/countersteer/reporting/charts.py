"""Drawings of the report: error over time, open-loop error against pass rate, training curves.

Positions are in the units of each drawing's view box; the template adds style and text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.evaluation.statistics import CompareRow

__all__ = ["curve_grid", "losses", "scatter"]


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


def curve_grid(suite: str, results: Sequence[SuiteResult], drivers: list[str]) -> dict | None:
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


def scatter(rows: Sequence[CompareRow], suites: list[str]) -> dict | None:
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


def losses(runs: Mapping[str, Sequence[tuple[float, float]]]) -> dict | None:
    """Training curves of all drivers in one drawing, on a logarithmic scale where that is possible.

    Args:
        runs: Pairs of optimiser step and loss, by driver.
    """
    curves = {driver: np.array(run, float).reshape(-1, 2) for driver, run in runs.items()}
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
