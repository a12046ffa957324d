"""A film of sampled futures of a scene beside what was recorded, both from above."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.errors import write_results
from countersteer.evaluation.traffic import DT, Futures, TrafficScore
from countersteer.reporting.birds_eye import SIGNAL_COLORS, BirdsEye
from countersteer.reporting.canvas import FAINT, INK, PAGE, Color, encode, line, shorten, write
from countersteer.reporting.pages import require_ending
from countersteer.scenarios.scenario import Scenario

__all__ = ["film_futures"]

_SIZE = (1280, 720)
_SIDE = 600  # of a view [px]
_LEFT, _RIGHT, _TOP = 26, 654, 62
_RULE: Color = (38, 43, 52)
_GONE: Color = (70, 76, 86)
_SPAN = (50.0, 170.0)  # least and most that a view shows [m]
_LINGER = 15  # frames at the end


def film_futures(
    scenario: Scenario,
    futures: Futures,
    start: float,
    *,
    title: str,
    path: str | Path,
    score: TrafficScore | None = None,
    log: TrafficScore | None = None,
) -> Path:
    """Film the futures, 1280 x 720 pixels, in real time: on the left what was recorded; on the right one future as boxes and all as trails.

    Args:
        scenario: The scene.
        futures: Of it.
        start: When they begin [s].
        title: What moves them.
        path: The film (.mp4).
        score: Of the futures.
        log: Of the recording as its own futures.

    Raises:
        UserError: The path is not an .mp4.
    """
    path = Path(path)
    require_ending(path, "film", ".mp4")
    encoded = encode(
        _frames(scenario, futures, start, title, score, log), Fraction(1 / DT).limit_denominator(100), _SIZE
    )
    write_results((path, lambda place: place.write_bytes(encoded)))
    return path


def _frames(
    scenario: Scenario,
    futures: Futures,
    start: float,
    title: str,
    score: TrafficScore | None,
    log: TrafficScore | None,
) -> Iterator[UInt8[ndarray, "720 1280 3"]]:
    above = _view(scenario, futures)
    colors = _colors(len(futures.ids))
    recorded, sampled = above.background(), above.background()
    still = np.full((_SIZE[1], _SIZE[0], 3), PAGE, np.uint8)
    _captions(still, futures, title, score, log)
    chosen = _typical(futures)
    for tick in range(-1, futures.logged.shape[1] + _LINGER):
        last = min(tick, futures.logged.shape[1] - 1)
        frame = still.copy()
        if 0 <= tick == last:
            _trails(above, recorded, futures, futures.logged[None], last, colors, 0.6)
            _trails(above, sampled, futures, futures.pose, last, colors, _opacity(len(futures.pose)))
        seen = futures.seen[:, last] if last >= 0 else np.ones(len(futures.ids), bool)
        left, right = recorded.copy(), sampled.copy()
        for view in (left, right):
            _lights(above, view, scenario, start + (last + 1) * DT)
        there = futures.logged[:, last] if last >= 0 else futures.begin
        drawn = futures.pose[chosen, :, last] if last >= 0 else futures.begin
        _boxes(
            above, left, there[seen], futures.size[seen], [c for c, s in zip(colors, seen, strict=True) if s]
        )
        _boxes(above, right, drawn, futures.size, colors)
        for view, x in ((left, _LEFT), (right, _RIGHT)):
            frame[_TOP : _TOP + _SIDE, x : x + _SIDE] = view
        write(frame, f"{(last + 1) * DT:.1f} s", (_SIZE[0] - 78, _SIZE[1] - 24), 17, INK, bold=True)
        yield frame


def _view(scenario: Scenario, futures: Futures) -> BirdsEye:
    """Around where road users are for most of the time."""
    points = np.concatenate([futures.begin[:, :2], futures.logged[futures.seen][:, :2]])
    low, high = np.percentile(points, 3, axis=0), np.percentile(points, 97, axis=0)
    middle = (low + high) / 2
    span = float(np.clip((high - low).max() + 14.0, *_SPAN))
    return BirdsEye(scenario.road, (float(middle[0]), float(middle[1])), span, _SIDE)


def _colors(count: int) -> list[Color]:
    """Hues far apart for neighbours in the list, of one lightness."""
    found = []
    for k in range(count):
        red, green, blue = colorsys.hls_to_rgb((0.58 + k * 0.381966) % 1.0, 0.66, 0.72)
        found.append((round(255 * red), round(255 * green), round(255 * blue)))
    return found


def _opacity(rollouts: int) -> float:
    return float(np.clip(3.0 / rollouts, 0.1, 0.6))


def _trails(
    above: BirdsEye,
    view: ndarray,
    futures: Futures,
    poses: Float[ndarray, "rollout actor time 3"],
    tick: int,
    colors: list[Color],
    opacity: float,
) -> None:
    """Draw the last tick of every trail into a view; where many went it gets brighter."""
    before = (
        poses[:, :, tick - 1] if tick else np.broadcast_to(futures.begin, (len(poses), *futures.begin.shape))
    )
    moves = np.linalg.norm((poses[:, :, tick] - before)[..., :2], axis=-1) > 0.01
    for rollout in range(len(poses)):
        layer = view.copy()
        for actor in np.flatnonzero(moves[rollout]).tolist():
            ends = np.stack([before[rollout, actor, :2], poses[rollout, actor, tick, :2]])
            line(layer, above.pixels_of(ends) - 0.5, colors[actor], 2)
        cv2.addWeighted(layer, opacity, view, 1 - opacity, 0, dst=view)


def _boxes(above: BirdsEye, view: ndarray, pose: ndarray, size: ndarray, colors: list[Color]) -> None:
    above.draw_boxes(view, pose[:, :2], pose[:, 2], size[:, :2], colors)


def _lights(above: BirdsEye, view: ndarray, scenario: Scenario, time: float) -> None:
    signals = scenario.signals
    tick = int(np.clip(np.searchsorted(scenario.times, time - DT / 2), 0, len(scenario.times) - 1))
    stops = above.pixels_of(signals.stop_point[:, :2].astype(float)).astype(int)
    for (column, row), state in zip(stops, signals.state[:, tick].tolist(), strict=True):
        if 4 <= column < _SIDE - 4 and 4 <= row < _SIDE - 4:
            cv2.circle(view, (int(column), int(row)), 4, SIGNAL_COLORS[state], -1, cv2.LINE_AA)


def _typical(futures: Futures) -> int:
    """The rollout whose distance to the recording is the middle one."""
    error = np.linalg.norm(futures.pose[..., :2] - futures.logged[..., :2], axis=-1)
    return int(np.argsort((error * futures.seen).sum((1, 2)))[len(error) // 2])


def _captions(
    image: ndarray, futures: Futures, title: str, score: TrafficScore | None, log: TrafficScore | None
) -> None:
    end = write(image, "recorded", (_LEFT, 38), 20, INK, bold=True)
    write(image, "trails: where they have been", (end + 14, 38), 15, FAINT)
    end = write(image, shorten(title, 20, 300, bold=True), (_RIGHT, 38), 20, INK, bold=True)
    words = f"{len(futures.pose)} sampled futures as trails, one as boxes"
    write(image, shorten(words, 15, _SIZE[0] - end - 40), (end + 14, 38), 15, FAINT)
    for x in (_LEFT, _RIGHT):
        cv2.rectangle(image, (x - 1, _TOP - 1), (x + _SIDE, _TOP + _SIDE), _RULE, 1)
    place = _LEFT
    said = [] if score is None else [("realism", f"{score.realism:.3f}")]
    said += [] if log is None else [("of the recording", f"{log.realism:.3f}")]
    if score is not None:
        said += [("touch somebody", f"{100 * score.collisions:.0f} %")]
        if np.isfinite(score.off_road):
            said += [("leave the lanes", f"{100 * score.off_road:.0f} %")]
        said += [("mean distance to the recording", f"{score.ade:.1f} m")]
    for name, value in said:
        place = write(image, name, (place, _SIZE[1] - 24), 15, FAINT) + 8
        place = write(image, value, (place, _SIZE[1] - 24), 17, INK, bold=True) + 26
