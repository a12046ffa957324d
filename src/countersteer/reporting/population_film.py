"""A film of a world in which every car is driven by copies of one policy, from its records: from above, beside four cameras of one car."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.errors import write_results
from countersteer.evaluation.population import FAILURES
from countersteer.evaluation.records import DriveRecord
from countersteer.geometry import polylines
from countersteer.geometry.cameras import Camera
from countersteer.reporting.birds_eye import SIGNAL_COLORS, BirdsEye
from countersteer.reporting.canvas import FAINT, INK, PAGE, Color, encode, shorten, write
from countersteer.reporting.pages import require_ending
from countersteer.scenarios.scenario import ActorKind
from countersteer.worlds.interface import TerminationReason

__all__ = ["FILM_CAMERAS", "ego_of", "film_population"]

_SIZE = (1280, 720)
_ABOVE = 720  # side of the view from above [px]
_TRAIL = 40  # ticks
_LINGER = 20  # ticks that a car is still shown after its drive has ended
_FIRST = (255, 190, 80)
_COPY = (92, 180, 255)
_OTHER = (140, 146, 158)
_ENDS = {TerminationReason.GOAL: (60, 190, 130), TerminationReason.TIME: _OTHER}
_FAILED = (240, 80, 80)
_VIEWS = (
    ("front", 0.0, (732, 52, 536, 268)),
    ("left", math.pi / 2, (732, 352, 262, 131)),
    ("right", -math.pi / 2, (1006, 352, 262, 131)),
    ("rear", math.pi, (732, 515, 262, 131)),
)

FILM_CAMERAS = tuple(
    Camera(
        f"film {name}",
        place[2],
        place[3],
        math.radians(80),
        (1.5 if yaw == 0 else 0.8, 0.0, 1.5),
        yaw=yaw,
        pitch=0.08,
    )
    for name, yaw, place in _VIEWS
)
"""What a car of a film carries."""


def ego_of(records: Sequence[DriveRecord]) -> int:
    """Which of the cars of one world passes near the point where most ways meet, coming from some way off."""
    ways = [_way(record) for record in records]
    middle = _meeting(ways)

    def fit(number: int) -> float:
        gap = np.linalg.norm(ways[number] - middle, axis=1)
        return gap.min() + abs(gap[0] - 40.0) / 4

    return min(range(len(records)), key=fit)


def _meeting(ways: Sequence[Float[ndarray, "_ 2"]]) -> Float[ndarray, "2"]:
    """The point of a way that has most ways within 20 m."""
    points = np.concatenate(ways)
    near = sum((np.linalg.norm(points[:, None] - way[None], axis=-1).min(1) < 20.0) for way in ways)
    return points[np.argmax(near)]


def _way(record: DriveRecord) -> Float[ndarray, "n 2"]:
    """Points a metre apart, from where the car begins to its goal."""
    assert record.goal is not None
    begun = polylines.follow(record.path, record.position)[0][0]
    return record.path[round(begun) : round(begun + record.goal) + 1]


def film_population(
    records: Sequence[DriveRecord], ego: int, *, title: str, path: str | Path, span: float = 110.0
) -> Path:
    """Film the cars of one world, 1280 x 720 pixels, one frame a tick, in real time.

    Args:
        records: Of all cars that began there.
        ego: Which of them is in the middle; its views of `FILM_CAMERAS` are shown, if they were kept.
        title: What drives.
        path: The film (.mp4).
        span: Side of the view from above [m]; it stays where most ways meet.

    Raises:
        UserError: The path is not an .mp4.
    """
    path = Path(path)
    require_ending(path, "film", ".mp4")
    record = records[ego]
    middle = _meeting([_way(each) for each in records])
    above = BirdsEye(record.scenario.road, (float(middle[0]), float(middle[1])), span, _ABOVE)
    last = max(each.last for each in records) + _LINGER // 2
    frames = (_frame(records, ego, above, tick, title) for tick in range(min(last + 1, len(record.times))))
    interval = float(record.times[1] - record.times[0])
    encoded = encode(frames, round(1 / interval), _SIZE)
    write_results((path, lambda place: place.write_bytes(encoded)))
    return path


def _color(record: DriveRecord, tick: int, first: bool) -> Color:
    if tick > record.last:
        return _ENDS.get(TerminationReason(int(record.cause[-1])), _FAILED)
    return _FIRST if first else _COPY


def _draw_above(
    records: Sequence[DriveRecord], ego: int, above: BirdsEye, tick: int
) -> UInt8[ndarray, "720 720 3"]:
    view = above.background()
    record = records[ego]
    shown = [each for each in records if tick <= each.last + _LINGER]
    trail = slice(max(tick + 1 - _TRAIL, 0), tick + 1)
    for each in shown:
        if tick > 0:
            color = _FIRST if each is record else _COPY
            above.draw_path(view, each.position[trail], color, width=2, opacity=0.5)
    stops = record.scenario.signals.stop_point[:, :2].astype(float)
    for (column, row), light in zip(above.pixels_of(stops).astype(int), record.lights[:, tick], strict=True):
        if 0 <= column < _ABOVE and 0 <= row < _ABOVE and int(light) in SIGNAL_COLORS:
            view[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = SIGNAL_COLORS[int(light)]
    others = _recorded(records, tick)
    boxes = record.actors[tick, [*others, *(each.slot for each in shown)]]
    colors = [_OTHER] * len(others) + [_color(each, tick, each is record) for each in shown]
    above.draw_boxes(view, boxes[:, :2], boxes[:, 2], boxes[:, 3:5], colors)
    return view


def _recorded(records: Sequence[DriveRecord], tick: int) -> list[int]:
    """Slots of those who are there and whom nobody drives."""
    driven = {record.slot for record in records}
    kinds = records[0].actors[tick, :, 6]
    return [slot for slot in range(len(kinds)) if slot not in driven and kinds[slot] >= 0]


def _frame(
    records: Sequence[DriveRecord], ego: int, above: BirdsEye, tick: int, title: str
) -> UInt8[ndarray, "720 1280 3"]:
    image = np.full((_SIZE[1], _SIZE[0], 3), PAGE, np.uint8)
    image[:, :_ABOVE] = _draw_above(records, ego, above, tick)
    write(image, shorten(title, 17, _SIZE[0] - 732 - 12, bold=True), (732, 34), 17, INK, bold=True)
    record = records[ego]
    for camera, (name, _, (x, y, width, height)) in zip(FILM_CAMERAS, _VIEWS, strict=True):
        if camera.name in record.views:
            picture = record.views[camera.name][tick]
            image[y : y + height, x : x + width] = picture if tick <= record.last else picture // 3
            write(image, name, (x, y + height + 18), 13, FAINT)
    ended = [TerminationReason(int(each.cause[-1])) for each in records if tick > each.last]
    reached = ended.count(TerminationReason.GOAL)
    failed = sum(cause in FAILURES for cause in ended)
    legend = (
        (f"{record.times[tick]:4.1f} s", INK),
        (f"{len(records) - len(ended)} copies driving", _COPY),
        (f"{reached} at their goal", _ENDS[TerminationReason.GOAL]),
        (f"{failed} failed", _FAILED if failed else FAINT),
    )
    for line, (words, ink) in enumerate(legend):
        write(image, words, (1010, 540 + 26 * line), 15, ink)
    write(image, "amber: the car whose cameras are shown; blue: other copies", (732, 706), 12, FAINT)
    kinds = {ActorKind(int(record.actors[tick, k, 6])).name.lower() for k in _recorded(records, tick)}
    if kinds:
        write(image, f"grey: as recorded ({', '.join(sorted(kinds))})", (732, 688), 12, FAINT)
    return image
