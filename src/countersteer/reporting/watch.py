"""The viewer: one HTML file in which the drives of a suite can be watched, with what happened when and why.

Camera, map, boxes, plans, labels and scores run on one clock; every event, finding and cause of a failure is a
place to jump to. The file needs no network: data, pictures, style and script are inside, and its content policy
forbids loading anything else. Numbers are prepared here; `templates/watch.html` draws them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.failures import Failure, explain_suite
from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.evaluation.scoring import DriveScore, SuiteScore
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.reporting.pages import require_ending, write_page
from countersteer.scenarios.scenario import ActorKind, MapKind
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.observations import Command

__all__ = ["events_of", "write_viewer"]

_NEAR = 90.0
"""Of the map, what lies within this distance of the drive is drawn [m]."""
_WIDEST = 480
"""Camera pictures are made smaller than this [pixels]; smaller ones stay as they are."""
_COLUMNS = 10
_EVENTS = {
    "collision": "touches another box",
    "off_road": "a corner leaves the road",
    "red_light": "crosses a stop line at red",
    "wrong_way": "drives against its lane",
    "uncomfortable": "beyond the comfort bounds",
}
_AREAS = (MapKind.DRIVABLE_AREA, MapKind.LANE_AREA, MapKind.DRIVEWAY, MapKind.CROSSWALK)


def write_viewer(
    path: str | Path,
    result: SuiteResult,
    *,
    scores: Sequence[SuiteScore] = (),
    first: str | None = None,
) -> Path:
    """Write a page that shows the drives of a suite and return its path; an existing file is replaced at once.

    Args:
        path: Where to write (.html); its folder is made if need be.
        result: With its records.
        scores: Of the same result; their findings become events.
        first: The case to begin with; None begins with the first that failed.

    Raises:
        UserError: The result has no records, there is no such case, or the path is not an .html file.
    """
    from markupsafe import Markup

    path = Path(path)
    require_ending(path, "viewer", ".html", ".htm")
    if not result.records:
        raise UserError(
            "there is nothing to watch",
            got="verdicts without drives",
            expected="a replay",
            fix="countersteer evaluate RUN --suite SUITE --keep FILE",
        )
    names = [case.case for case in result.cases]
    if first is not None and first not in names:
        raise UserError(f"there is no case {first!r}", expected=f"one of {', '.join(names)}")
    failures = explain_suite(result)
    cases = [
        _case(case, record, failure, [score.drives[k] for score in scores], scores)
        for k, (case, record, failure) in enumerate(zip(result.cases, result.records, failures, strict=True))
    ]
    failed = [k for k, case in enumerate(result.cases) if case.passed is False]
    start = names.index(first) if first is not None else (failed or [0])[0]
    data = {"cases": cases, "first": start}
    return write_page(
        path,
        "watch.html",
        result=result,
        cases=cases,
        # "</script>" in a name must not end the script.
        data=Markup(json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")),
    )


def events_of(
    record: DriveRecord,
    verdict: CaseResult,
    failure: Failure | None,
    scores: Sequence[tuple[str, DriveScore]],
) -> list[dict[str, Any]]:
    """What happened in a drive, in order of time: tick, kind, text and, where there is one, the actor's slot.

    Kinds are "verdict", "cause", "event", "command", "score" and "end".
    """
    last = record.last
    found: list[dict[str, Any]] = []

    def add(tick: int, kind: str, text: str, actor: int | None = None) -> None:
        found.append({"tick": int(min(max(tick, 0), len(record.times) - 1)), "kind": kind, "text": text, "actor": actor})  # fmt: skip

    for name, text in _EVENTS.items():
        flags = getattr(record, name)[: last + 1]
        for tick in np.flatnonzero(flags & ~np.concatenate([[False], flags[:-1]])):
            other = int(record.collided_with[tick]) if name == "collision" else -1
            add(int(tick), "event", text, other if other >= 0 else None)
    for tick in np.flatnonzero(np.diff(record.command)) + 1:
        name = Command(int(record.command[tick])).name.lower()
        add(int(tick), "command", f"asked for: {'follow the lane' if name == 'follow' else f'lane {name}'}")
    cause = TerminationReason(int(record.cause[-1]))
    if cause is not TerminationReason.NONE:
        add(last, "end", f"the drive ends: {cause.name.lower().replace('_', ' ')}")
    if verdict.fail_time is not None:
        tick = int(np.searchsorted(record.times, verdict.fail_time - 1e-6))
        add(tick, "verdict", f"fails: {verdict.reason}")
    if failure is not None:
        add(failure.tick, "cause", f"cause: {failure.kind.value}. {failure.note}", failure.actor)
    for name, drive in scores:
        seen: set[tuple[str, tuple[int, ...]]] = set()
        for one in drive.findings:
            if one.tick is None or (one.part, one.actors) in seen:
                continue
            seen.add((one.part, one.actors))
            value = "" if one.value is None else f" {one.value:.3g}"
            text = f"{name}, {one.part.replace('_', ' ')}:{value} {one.note}"
            add(one.tick, "score", text, one.actors[0] if one.actors else None)
    return sorted(found, key=lambda event: event["tick"])


def _round(values: ndarray, digits: int = 2) -> list[Any]:
    """Numbers for the page; None where one is not finite, since JSON has no word for it."""
    rounded = np.round(values.astype(float), digits)
    if np.isfinite(rounded).all():
        return rounded.tolist()
    return [None if not np.isfinite(value) else value for value in rounded.ravel().tolist()]


def _case(
    case: CaseResult,
    record: DriveRecord,
    failure: Failure | None,
    drives: Sequence[DriveScore],
    scores: Sequence[SuiteScore],
) -> dict[str, Any]:
    origin = np.round(record.position[0])
    named = [(score.benchmark, drive) for score, drive in zip(scores, drives, strict=True)]
    return {
        "name": case.case,
        "passed": case.passed,
        "reason": case.reason,
        "failed": case.fail_time,
        "cause": None if failure is None else failure.kind.value,
        "measures": {name: f"{value:.3g}" for name, value in case.measures.items()},
        "times": _round(record.times, 3),
        "last": record.last,
        "x": _round(record.position[:, 0] - origin[0]),
        "y": _round(record.position[:, 1] - origin[1]),
        "h": _round(record.heading, 4),
        "speed": _round(record.speed),
        "lateral": _round(record.lateral),
        "steer": _round(record.curvature, 4),
        "accel": _round(record.acceleration),
        "confidence": None if record.confidence is None else _round(record.confidence),
        "size": [*record.size, rear_axle_to_center(record.size[0])],
        "points": record.plan.shape[1],
        "plan": _round((record.plan - origin).reshape(-1)),
        "label": _label(record, origin),
        "actors": _actors(record, origin),
        "path": _round((_near(record.path, record.position) - origin).reshape(-1)),
        "map": _map(record, origin),
        "lights": _lights(record, origin),
        "cameras": [{"name": name} | _sheet(frames) for name, frames in record.views.items()],
        "events": events_of(record, case, failure, named),
        "scores": [
            {
                "name": name,
                "value": drive.value,
                "best": score.best,
                "undefined": drive.undefined,
                "parts": drive.parts,
            }
            for (name, drive), score in zip(named, scores, strict=True)
        ],
    }


def _actors(record: DriveRecord, origin: ndarray) -> list[dict[str, Any]]:
    shown = []
    for slot in record.others.tolist():
        rows = record.actors[:, slot]
        there = (rows[:, 6] >= 0) & np.isfinite(rows[:, :3]).all(1)
        if not there.any():
            continue
        one = rows[there][0]
        place = np.where(there[:, None], rows[:, :2] - origin, np.nan)
        shown.append(
            {
                "slot": slot,
                "kind": ActorKind(int(one[6])).name.lower(),
                "size": _round(one[3:5]),
                "x": _round(place[:, 0]),
                "y": _round(place[:, 1]),
                "h": _round(np.where(there, rows[:, 2], 0.0), 3),
            }
        )
    return shown


def _label(record: DriveRecord, origin: ndarray) -> list[Any] | None:
    if record.label is None:
        return None
    known = record.label - origin
    if record.labelled is not None:
        known = np.where(record.labelled[:, None, None], known, np.nan)
    return _round(known.reshape(-1))


def _near(line: Float[ndarray, "n _"], drive: Float[ndarray, "time 2"]) -> Float[ndarray, "m 2"]:
    """The stretch of a line from its first to its last point near the drive."""
    low, high = drive.min(0) - _NEAR, drive.max(0) + _NEAR
    kept = np.flatnonzero(((line[:, :2] > low) & (line[:, :2] < high)).all(1))
    return line[kept[0] : kept[-1] + 1, :2] if len(kept) else line[:0, :2]


def _map(record: DriveRecord, origin: ndarray) -> list[dict[str, Any]]:
    shown = []
    for feature in record.scenario.road.features:
        near = _near(feature.points, record.position)
        if len(near) < 2:
            continue
        points = feature.points[:, :2] if feature.kind in _AREAS else near
        width = feature.width or record.scenario.lane_width
        shown.append(
            {
                "kind": feature.kind.name.lower(),
                "width": round(float(width), 2),
                "points": _round((points - origin).reshape(-1)),
            }
        )
    return shown


def _lights(record: DriveRecord, origin: ndarray) -> list[dict[str, Any]]:
    signals = record.scenario.signals
    return [
        {
            "x": round(float(signals.stop_point[k, 0] - origin[0]), 2),
            "y": round(float(signals.stop_point[k, 1] - origin[1]), 2),
            "h": None if np.isnan(signals.heading[k]) else round(float(signals.heading[k]), 3),
            "state": state.tolist(),
        }
        for k, state in enumerate(record.lights)
    ]


def _sheet(frames: UInt8[ndarray, "time height width 3"]) -> dict[str, Any]:
    """All pictures on one sheet: a browser shows any of them at once, where a video would have to seek."""
    height, width = frames.shape[1:3]
    if width > _WIDEST:
        height, width = max(round(height * _WIDEST / width), 1), _WIDEST
        frames = np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames])
    rows = -(-len(frames) // _COLUMNS)
    sheet = np.zeros((rows * height, _COLUMNS * width, 3), np.uint8)
    for k, frame in enumerate(frames):
        y, x = k // _COLUMNS * height, k % _COLUMNS * width
        sheet[y : y + height, x : x + width] = frame
    done, encoded = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done
    picture = "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
    return {"width": width, "height": height, "columns": _COLUMNS, "sheet": picture}
