"""A film of one drive: what the camera saw beside a view from above, with the verdict.

The film runs in real time, one frame a tick, and stays on the last state after the drive has ended,
so films of one case by several drivers run in step. The view from above follows the car, heading up.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from countersteer.errors import UserError, write_results
from countersteer.evaluation.records import CaseResult, DriveRecord
from countersteer.reporting.above import FAIL, PANEL, TRAIL, Above
from countersteer.reporting.canvas import (
    FAINT,
    INK,
    PAGE,
    Color,
    disc,
    encode,
    line,
    pill,
    shorten,
    text_mask,
    write,
)
from countersteer.reporting.pages import require_ending

__all__ = ["FILM_SIZE", "film", "still"]

FILM_SIZE = (960, 384)  # width, height [pixels]; both even, as 4:2:0 needs

_RULE: Color = (44, 49, 59)
_PASS: Color = (60, 190, 130)

# x, y, width, height [pixels]
_CAMERA = (12, 48, 512, 256)
_UPPER = (12, 48, 512, 126)  # the camera's place in two
_LOWER = (12, 178, 512, 126)
_ABOVE = (536, 48, 412, 324)
_STRIP = (12, 314, 512, 58)

_FLASH = 0.8  # how long the frame glows after a failure [s]


def film(
    record: DriveRecord,
    *,
    title: str,
    subtitle: str = "",
    verdict: CaseResult | None = None,
    path: str | Path | None = None,
    recorded: UInt8[ndarray, "time height width 3"] | None = None,
) -> bytes:
    """Film a drive, 960 x 384 pixels, one frame a tick, in real time.

    Args:
        record: The drive; without camera frames the left half says so.
        title: What drove, for example the recipe.
        subtitle: On what, for example suite and case.
        verdict: Marks the second in which the drive failed and says why; None shows no verdict.
        path: Also write the film there (.mp4).
        recorded: What the recording shows at the place where the car is, to stand above what the car saw.

    Returns:
        The bytes of an mp4 file.

    Raises:
        UserError: If the record is empty or the path is not an .mp4.
    """
    if len(record.times) == 0:
        raise UserError("there is no film of a drive without a tick", got="an empty record")
    if path is not None:
        require_ending(Path(path), "film", ".mp4")
    interval = float(np.median(np.diff(record.times))) if len(record.times) > 1 else 0.1
    encoded = encode(
        _frames(record, title, subtitle, verdict, recorded),
        Fraction(1 / interval).limit_denominator(1000),
        FILM_SIZE,
    )
    if path is not None:
        write_results((Path(path), lambda place: place.write_bytes(encoded)))
    return encoded


def still(
    record: DriveRecord, tick: int, verdict: CaseResult | None = None
) -> UInt8[ndarray, "height width 3"]:
    """One tick of a drive as a small picture: the camera, if it was kept, above the road from above.

    Args:
        record: The drive.
        tick: When.
        verdict: Marks where the drive failed; None marks nothing.
    """
    tick = min(max(tick, 0), len(record.times) - 1)
    width, height = _ABOVE[2], _ABOVE[3]
    above = np.full((height, width, 3), PANEL, np.uint8)
    Above(record, None if verdict is None else verdict.fail_time).draw(above, tick)
    above = above[40:-40]
    if record.frames is None:
        return above
    camera = np.full((width // 2, width, 3), PANEL, np.uint8)
    frame = record.frames[tick]
    camera = camera[: max(round(width * frame.shape[0] / frame.shape[1]), 1)]
    _draw_camera(camera, cv2.resize(frame, camera.shape[1::-1], interpolation=cv2.INTER_AREA), dim=False)
    return np.concatenate([camera, above])


def _frames(
    record: DriveRecord,
    title: str,
    subtitle: str,
    verdict: CaseResult | None,
    recorded: UInt8[ndarray, "time height width 3"] | None,
) -> Iterator[UInt8[ndarray, "height width 3"]]:
    """The pictures of a film in order."""
    failed_at = None if verdict is None else verdict.fail_time
    ended = record.last
    failure = record.failure
    above = Above(record, failed_at)
    trace = _Trace(record, failed_at)
    still = np.full((FILM_SIZE[1], FILM_SIZE[0], 3), PAGE, np.uint8)
    _panel(still, _CAMERA)[:] = PANEL
    after_title = write(still, shorten(title, 20, 300), (14, 30), 20, INK, bold=True)
    write(still, shorten(subtitle, 15, 740 - after_title), (after_title + 14, 30), 15, FAINT)

    for tick, time in enumerate(record.times.tolist()):
        image = still.copy()
        failed = failed_at is not None and time >= failed_at - 1e-6
        over = failure is not None and tick > ended
        _draw_badge(image, verdict, solid=failed or failed_at is None)
        seen = None if record.frames is None else record.frames[tick]
        if recorded is None:
            _draw_camera(_panel(image, _CAMERA), seen, dim=over)
        else:
            for place, picture, words in (
                (_UPPER, recorded[tick], "recorded"),
                (_LOWER, seen, f"seen from here, {record.lateral[tick]:+.2f} m"),
            ):
                _draw_camera(_panel(image, place), picture, dim=over)
                _draw_caption(_panel(image, place), words)
        if failed and verdict is not None:
            _draw_banner(_panel(image, _CAMERA), verdict.reason or "failed")
        elif over and failure is not None:
            _draw_banner(_panel(image, _CAMERA), f"the drive ended: {failure.name.lower().replace('_', ' ')}")
        above.draw(_panel(image, _ABOVE), tick)
        trace.draw(_panel(image, _STRIP), tick)
        if failed and failed_at is not None and time < failed_at + _FLASH:
            strength = 1.0 - (time - failed_at) / _FLASH
            edge = tuple(round(a * strength + b * (1 - strength)) for a, b in zip(FAIL, PAGE, strict=True))
            cv2.rectangle(image, (0, 0), (FILM_SIZE[0] - 1, FILM_SIZE[1] - 1), edge, 8)
        yield image


def _panel(image: ndarray, place: tuple[int, int, int, int]) -> ndarray:
    """The part of the picture that a panel draws into."""
    x, y, width, height = place
    return image[y : y + height, x : x + width]


def _draw_badge(image: ndarray, verdict: CaseResult | None, *, solid: bool) -> None:
    if verdict is None:
        return
    if verdict.passed is None:
        label, color = "NOT COUNTED", FAINT
    elif verdict.passed:
        label, color = "PASS", _PASS
    else:
        when = "" if verdict.fail_time is None else f"  {verdict.fail_time:.1f} s"
        label, color = f"FAIL{when}", FAIL
    width = text_mask(label, 15, True).shape[1] + 24
    right = FILM_SIZE[0] - 12
    pill(image, (right - width, 11, width, 26), color, filled=solid)
    write(image, label, (right - width + 12, 29), 15, PAGE if solid else color, bold=True)


def _draw_camera(panel: ndarray, frame: ndarray | None, *, dim: bool) -> None:
    height, width = panel.shape[:2]
    if frame is None:
        write(panel, "camera frames were not kept", (width // 2 - 112, height // 2), 15, FAINT)
        return
    # Whole pixels stay square and sharp when enlarged: a viewer should see what the policy sees.
    scale = min(width / frame.shape[1], height / frame.shape[0])
    if scale >= 1.0:
        times = int(scale)
        shown = cv2.resize(frame, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST)
    else:
        size = (max(int(frame.shape[1] * scale), 1), max(int(frame.shape[0] * scale), 1))
        shown = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    if dim:
        shown = cv2.convertScaleAbs(shown, alpha=0.55)
    top, left = (height - shown.shape[0]) // 2, (width - shown.shape[1]) // 2
    panel[top : top + shown.shape[0], left : left + shown.shape[1]] = shown


def _draw_caption(panel: ndarray, words: str) -> None:
    width = text_mask(words, 12, True).shape[1] + 18
    pill(panel, (6, 6, width, 20), PANEL, filled=True)
    write(panel, words, (15, 20), 12, INK, bold=True)


def _draw_banner(panel: ndarray, words: str) -> None:
    height, width = panel.shape[:2]
    words = shorten(words, 15, width - 40, bold=True)
    long = text_mask(words, 15, True).shape[1] + 24
    pill(panel, ((width - long) // 2, height - 38, long, 28), FAIL, filled=True)
    write(panel, words, ((width - long) // 2 + 12, height - 19), 15, INK, bold=True)


class _Trace:
    """The strip of numbers and the lateral error over time, with the present marked."""

    LEFT, RIGHT, TOP, BOTTOM = 322, 500, 8, 50

    def __init__(self, record: DriveRecord, failed_at: float | None):
        self.record = record
        lateral = np.nan_to_num(record.lateral.astype(float))
        limit = float(np.clip(np.abs(lateral).max(), 0.5, 4.0))
        span = max(float(record.times[-1] - record.times[0]), 1e-6)
        x = self.LEFT + (record.times - record.times[0]) / span * (self.RIGHT - self.LEFT)
        middle, half = (self.TOP + self.BOTTOM) / 2, (self.BOTTOM - self.TOP) / 2
        self.points = np.stack([x, middle - np.clip(lateral / limit, -1.0, 1.0) * half], -1)

        self.still = np.full((_STRIP[3], _STRIP[2], 3), PANEL, np.uint8)
        for label, x in (("time", 14), ("speed", 96), ("from path", 186)):
            write(self.still, label, (x, 20), 12, FAINT)
        write(self.still, f"±{limit:.1f} m", (self.LEFT - 46, 16), 11, FAINT)
        line(self.still, np.array([[self.LEFT, middle], [self.RIGHT, middle]]), _RULE, 1)
        line(self.still, self.points, (82, 88, 100), 1)
        if failed_at is not None:
            tick = int(np.searchsorted(record.times, failed_at - 1e-6))
            self._draw_mark(self.still, min(tick, len(record.times) - 1), FAIL, 2)

    def draw(self, panel: ndarray, tick: int) -> None:
        record = self.record
        panel[:] = self.still
        for x, value, unit in (
            (14, f"{record.times[tick]:.1f}", "s"),
            (96, f"{record.speed[tick]:.1f}", "m/s"),
            (186, f"{record.lateral[tick]:+.2f}", "m"),
        ):
            end = write(panel, value, (x, 45), 20, INK, bold=True)
            write(panel, unit, (end + 3, 45), 12, FAINT)
        line(panel, self.points[: tick + 1], TRAIL, 2)
        self._draw_mark(panel, tick, INK, 1)
        disc(panel, self.points[tick], 3.5, INK)

    def _draw_mark(self, panel: ndarray, tick: int, color: Color, width: int) -> None:
        x = self.points[tick, 0]
        line(panel, np.array([[x, self.TOP - 2.0], [x, self.BOTTOM + 2.0]]), color, width)
