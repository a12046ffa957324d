"""HD maps of Apollo (Baidu), as protobuf: `apollo.hdmap.Map` in a `.bin` file.

Points are metres of the projection that the header names. Lanes have a centre line, boundaries and widths; signals, stop
signs and junctions are tied to lanes by overlaps. The map says neither when lights are green nor who goes first where
no sign stands. Format: `modules/map/proto` of Apollo 5.0.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.protobuf_tables import message_class, parse_message
from countersteer.data.readers.source import Reader, fingerprint
from countersteer.data.roads.checks import USUAL_WIDTH
from countersteer.data.roads.joints import turn_of
from countersteer.data.roads.usual_rules import usual_program, with_usual_priority
from countersteer.errors import UserError
from countersteer.scenarios.network import Lane, RoadNetwork, SignalProgram, Turn
from countersteer.scenarios.scenario import MapFeature, MapKind, Provenance
from countersteer.storage.files import head, read_bytes

__all__ = ["READER"]

_SCHEMA = {
    "Map": "Header header 1, Area* crosswalk 2, Area* junction 3, Lane* lane 4, Sign* stop_sign 5, Signal* signal 6, "
    "Sign* yield_sign 7, Overlap* overlap 8",
    "Header": "bytes version 1, bytes date 2, Projection projection 3, bytes vendor 12",
    "Projection": "bytes proj 1",
    "Id": "bytes id 1",
    "Point": "double x 1, double y 2, double z 3",
    "Polygon": "Point* point 1",
    "LineSegment": "Point* point 1",
    "CurveSegment": "LineSegment line_segment 1",
    "Curve": "CurveSegment* segment 1",
    "Area": "Id id 1, Polygon polygon 2",  # Crosswalk and Junction are alike
    "Boundary": "Curve curve 1",
    "Sample": "double s 1, double width 2",
    "Lane": "Id id 1, Curve central_curve 2, Boundary left_boundary 3, Boundary right_boundary 4, double length 5, "
    "double speed_limit 6, Id* predecessor_id 8, Id* successor_id 9, Id* left_neighbor 10, Id* right_neighbor 11, "
    "int64 type 12, int64 turn 13, Id junction_id 16, Sample* left_sample 17, Sample* right_sample 18",
    "Sign": "Id id 1, Curve* stop_line 2",  # StopSign and YieldSign
    "Signal": "Id id 1, Curve* stop_line 6",
    "LaneOverlap": "double start_s 1, double end_s 2",
    "OverlapObject": "Id id 1, LaneOverlap lane 3",
    "Overlap": "Id id 1, OverlapObject* object 2",
}
_MOST = 1 << 25  # bytes of a file: a city has two million, and messages take many times their bytes
_CITY_DRIVING = (0, 1, 2)  # types of lanes for cars: not stated, NONE, CITY_DRIVING
_TURNS = {1: Turn.STRAIGHT, 2: Turn.LEFT, 3: Turn.RIGHT, 4: Turn.AROUND}


@functools.cache
def _map_class() -> Any:
    return message_class("apollo", _SCHEMA, "Map")


def _matches(path: Path) -> bool:
    # A message begins with its header, field 1; the projection is written in it.
    return path.is_file() and (start := head(path))[:1] == b"\x0a" and b"+proj" in start[:400]


def _name(message: Any) -> str:
    return message.id.id.decode("utf-8", "replace")


def _names(ids: Iterable[Any]) -> tuple[str, ...]:
    return tuple(each.id.decode("utf-8", "replace") for each in ids)


def _points(points: Iterable[Any]) -> Float[ndarray, "n 3"]:
    return np.array([(point.x, point.y, point.z) for point in points], float).reshape(-1, 3)


def _curve(curve: Any) -> Float[ndarray, "n 3"]:
    """The points of a curve; segments begin where the one before ends."""
    points = np.concatenate(
        [np.zeros((0, 3)), *(_points(segment.line_segment.point) for segment in curve.segment)]
    )
    again = np.concatenate([[False], (np.diff(points, axis=0) == 0.0).all(1)]) if len(points) else []
    return points[~np.asarray(again, bool)]


def _outline(polygon: Any) -> Float[ndarray, "n 3"]:
    """A polygon once around: some are written several times over."""
    points = _points(polygon.point)
    again = np.flatnonzero((points[1:] == points[:1]).all(1)) if len(points) else []
    return points[: again[0] + 1] if len(again) else points


def _read(path: Path) -> RoadNetwork:
    content = read_bytes(path, _MOST)
    try:
        drawn = parse_message(_map_class(), content)
    except ValueError as error:
        raise UserError(
            f"{path} is no HD map of Apollo",
            got=str(error)[:80],
            expected="a message apollo.hdmap.Map",
            fix="download it again",
        ) from error
    tied = _overlaps(drawn)
    lanes = _lanes(drawn, tied)
    signals, lanes = _signals(drawn, tied, lanes)
    lanes = with_usual_priority(lanes, left_hand=False)
    notes = [
        f"the file's x, y are those of the projection {drawn.header.projection.proj.decode('utf-8', 'replace')[:120]!r}",
        "the map does not say who goes first: oncoming traffic before who turns left, stop signs, right before left",
    ]
    if signals:
        notes.append(f"{len(signals)} junctions have signals without a program: roads are green in turn")
    vendor = drawn.header.vendor.decode("utf-8", "replace")
    provenance = Provenance(
        source=f"Apollo HD map ({vendor})" if vendor == "LGSVL" else "unknown (Apollo HD map)",
        path=str(path),
        licence="Apache-2.0" if vendor == "LGSVL" else "unknown",
        fingerprint=fingerprint(content),
        notes=tuple(notes),
    )
    name = path.name.removesuffix(".gz").removesuffix(".bin")
    return RoadNetwork(name, lanes, provenance, signals, tuple(_features(drawn)), False)


def _overlaps(drawn: Any) -> dict[str, list[tuple[str, float]]]:
    """Of every other thing the lanes that it overlaps, and from where along them [m]."""
    tied: dict[str, list[tuple[str, float]]] = defaultdict(list)
    lanes = {_name(lane) for lane in drawn.lane}
    for overlap in drawn.overlap:
        parts = [(_name(each), each.lane.start_s) for each in overlap.object]
        for name, at in parts:
            if name in lanes:
                for other, _ in parts:
                    if other not in lanes:
                        tied[other].append((name, at))
    return tied


def _lanes(drawn: Any, tied: dict[str, list[tuple[str, float]]]) -> dict[str, Lane]:
    junctions = {lane: _name(area) for area in drawn.junction for lane, _ in tied[_name(area)]}
    made: dict[str, Lane] = {}
    for lane in drawn.lane:
        if lane.type not in _CITY_DRIVING:
            continue
        key = _name(lane)
        if key in made:
            raise UserError(f"lane {key!r} is there twice", expected="lanes with different ids")
        centre = _curve(lane.central_curve)
        samples = [[each.width for each in side] for side in (lane.left_sample, lane.right_sample)]
        width = sum(float(np.mean(side)) for side in samples) if all(samples) else USUAL_WIDTH
        junction = junctions.get(key) or lane.junction_id.id.decode("utf-8", "replace") or None
        left, right = (
            _curve(side.curve) if len(side.curve.segment) else None
            for side in (lane.left_boundary, lane.right_boundary)
        )
        made[key] = Lane(
            key,
            centre,
            width,
            lane.speed_limit or None,
            left,
            right,
            _names(lane.successor_id),
            next(iter(_names(lane.left_neighbor)), None),
            next(iter(_names(lane.right_neighbor)), None),
            junction,
            (_TURNS.get(lane.turn) or turn_of(centre)) if junction and len(centre) > 1 else Turn.STRAIGHT,
        )
    return made


def _ways(governed: list[tuple[str, float]], lanes: dict[str, Lane]) -> Iterator[str]:
    """The ways through a junction that something on lanes governs: at its beginning, or at the end of the lane before."""
    for key, at in governed:
        if key not in lanes:
            continue
        lane = lanes[key]
        if lane.junction is not None or at < lane.length / 2:
            yield key
        else:
            yield from (each for each in lane.successors if each in lanes)


def _signals(
    drawn: Any, tied: dict[str, list[tuple[str, float]]], lanes: dict[str, Lane]
) -> tuple[tuple[SignalProgram, ...], dict[str, Lane]]:
    """A program for each junction with signals, and the lanes with what governs them."""
    made = dict(lanes)
    for sign in drawn.stop_sign:
        for key in _ways(tied[_name(sign)], lanes):
            made[key] = dataclasses.replace(made[key], stops=True)
    lit: dict[str, list[str]] = defaultdict(list)
    for signal in drawn.signal:
        for key in _ways(tied[_name(signal)], lanes):
            where = made[key].junction or key
            if key not in lit[where]:
                lit[where].append(key)
    programs = []
    for place, (junction, keys) in enumerate(sorted(lit.items())):
        program = usual_program(f"lights of {junction}", [made[key] for key in keys], offset=7.0 * place)
        programs.append(program)
        for key in keys:
            made[key] = dataclasses.replace(made[key], signal=program.id, stops=False)
    return tuple(programs), made


def _features(drawn: Any) -> Iterator[MapFeature]:
    for kind, areas in ((MapKind.CROSSWALK, drawn.crosswalk), (MapKind.DRIVABLE_AREA, drawn.junction)):
        for area in areas:
            if len(outline := _outline(area.polygon)) > 2:
                yield MapFeature(_name(area), kind, outline)
    for sign in (*drawn.signal, *drawn.stop_sign, *drawn.yield_sign):
        for k, line in enumerate(sign.stop_line):
            if len(points := _curve(line)) > 1:
                yield MapFeature(f"{_name(sign)} {k}", MapKind.STOP_LINE, points)


READER: Reader[RoadNetwork] = Reader(
    "apollo",
    "a protobuf file apollo.hdmap.Map (.bin, .bin.gz) whose header names a projection",
    _matches,
    _read,
)
