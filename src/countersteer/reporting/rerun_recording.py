"""One drive as a recording for the Rerun viewer (rerun.io), for those who want to turn the scene in three dimensions.

The same things on the same clock as the page of `watch`: camera, map, boxes, plan, label, numbers, events, scores.
Needs the extra `view`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from countersteer.errors import MissingExtraError, UserError
from countersteer.evaluation.failures import explain
from countersteer.evaluation.records import DriveRecord, SuiteResult
from countersteer.evaluation.scoring import SuiteScore
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.reporting.birds_eye import ACTOR_COLORS, EGO_COLOR, ROUTE_COLOR
from countersteer.reporting.watch import events_of
from countersteer.scenarios.scenario import ActorKind

__all__ = ["write_recording"]

_PLAN, _LABEL, _MAP = (110, 215, 255), (213, 140, 255), (121, 130, 145)


def write_recording(
    path: str | Path, result: SuiteResult, *, scores: Sequence[SuiteScore] = (), case: str | None = None
) -> Path:
    """Write one drive of a result as an .rrd file and return its path.

    Args:
        path: Where to write (.rrd); an existing file is replaced at once.
        result: With its records.
        scores: Of the same result; their findings become events.
        case: Which drive; None for the first that failed.

    Raises:
        UserError: There is no such case, no drive, the path is not an .rrd file, or the extra is not installed.
    """
    try:
        import rerun as rr  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtraError("rerun-sdk", "view") from None
    path = Path(path)
    names = [one.case for one in result.cases]
    if path.suffix != ".rrd":
        raise UserError(f"cannot write a recording as {path.name!r}", expected="a name that ends in .rrd")
    if not result.records:
        raise UserError("there is nothing to watch", got="verdicts without drives", expected="a replay")
    if case is not None and case not in names:
        raise UserError(f"there is no case {case!r}", expected=f"one of {', '.join(names)}")
    failed = [k for k, one in enumerate(result.cases) if one.passed is False]
    index = names.index(case) if case is not None else (failed or [0])[0]
    record, verdict = result.records[index], result.cases[index]
    found = [(score.benchmark, score.drives[index]) for score in scores]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as draft:
        whole = Path(draft) / "whole.rrd"
        recording = rr.RecordingStream(f"countersteer {result.driver} {result.suite} {verdict.case}")
        recording.save(str(whole))
        recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        lines = [_points(record, f.points) for f in record.scenario.road.features if len(f.points) > 1]
        recording.log("world/map", rr.LineStrips3D(lines, colors=_MAP), static=True)
        way = _points(record, record.path)
        recording.log("world/path", rr.LineStrips3D([way], colors=ROUTE_COLOR), static=True)
        for tick in range(record.last + 1):
            _log_tick(rr, recording, record, tick)
        for event in events_of(record, verdict, explain(record, verdict), found):
            recording.set_time("drive", duration=float(record.times[event["tick"]]))
            level = rr.TextLogLevel.ERROR if event["kind"] in ("verdict", "cause") else rr.TextLogLevel.INFO
            recording.log("events", rr.TextLog(event["text"], level=level))
        told = [
            f"{name}: {'not defined, ' + one.undefined if one.value is None else f'{one.value:.3f}'}"
            for name, one in found
        ]
        recording.log("scores", rr.TextDocument("\n".join(told) or "not scored"), static=True)
        recording.flush()
        recording.disconnect()
        os.replace(whole, path)
    return path


def _points(record: DriveRecord, xy: ndarray) -> ndarray:
    """On the ground, from where the drive began: the viewer counts in single precision."""
    return np.column_stack([xy[:, :2] - np.round(record.position[0]), np.full(len(xy), 0.05)])


def _log_tick(rr: Any, recording: Any, record: DriveRecord, tick: int) -> None:
    """Boxes, plan, label, numbers and pictures of one tick."""
    recording.set_time("drive", duration=float(record.times[tick]))
    rows = record.actors[tick].astype(float)
    course = record.heading[tick]
    ahead = rear_axle_to_center(record.size[0]) * np.array([np.cos(course), np.sin(course)])
    rows[record.slot, :3] = *(record.position[tick] + ahead), course
    there = (rows[:, 6] >= 0) & np.isfinite(rows).all(1)
    there[record.slot] = True
    colors = [ACTOR_COLORS[ActorKind(int(max(kind, 0)))] for kind in rows[:, 6]]
    colors[record.slot] = EGO_COLOR
    boxes = rows[there]
    turns = [rr.RotationAxisAngle(axis=(0, 0, 1), radians=float(h)) for h in boxes[:, 2]]
    recording.log(
        "world/boxes",
        rr.Boxes3D(
            centers=np.column_stack([boxes[:, :2] - np.round(record.position[0]), boxes[:, 5] / 2]),
            half_sizes=boxes[:, 3:6] / 2,
            rotation_axis_angles=turns,
            colors=[color for color, shown in zip(colors, there, strict=True) if shown],
        ),
    )
    recording.log("world/plan", rr.LineStrips3D([_points(record, record.plan[tick])], colors=_PLAN))
    if record.label is not None and record.labelled is not None:
        shown = [_points(record, record.label[tick])] if record.labelled[tick] else []
        recording.log("world/label", rr.LineStrips3D(shown, colors=_LABEL))
    for name in ("speed", "lateral", "acceleration", "curvature"):
        recording.log(f"numbers/{name}", rr.Scalars(float(getattr(record, name)[tick])))
    for name, frames in record.views.items():
        recording.log(f"camera/{name}", rr.Image(frames[tick]))
