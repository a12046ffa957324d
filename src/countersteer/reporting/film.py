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
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.records import CaseResult, DriveRecord
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.reporting.canvas import FAINT, INK, PAGE, Color, encode, shorten, text_mask, write
from countersteer.reporting.drawing import ACTOR_COLORS, EGO_COLOR, ROUTE_COLOR, SIGNAL_COLORS, BirdsEye
from countersteer.reporting.pages import require_ending
from countersteer.scenarios.scenario import ActorKind, RoadMap
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.observations import Command

__all__ = ["FILM_SIZE", "film", "still"]

FILM_SIZE = (960, 384)  # width, height [pixels]; both even, as 4:2:0 needs

_PANEL: Color = (18, 21, 27)
_RULE: Color = (44, 49, 59)
_TRAIL: Color = (255, 190, 80)
_PLAN: Color = (110, 215, 255)
_PASS: Color = (60, 190, 130)
_FAIL: Color = (240, 80, 80)

# x, y, width, height [pixels]
_CAMERA = (12, 48, 512, 256)
_UPPER = (12, 48, 512, 126)  # the camera's place in two
_LOWER = (12, 178, 512, 126)
_ABOVE = (536, 48, 412, 324)
_STRIP = (12, 314, 512, 58)

_PIXELS_PER_METER = 8.0
_CAR_AT = (206.0, 246.0)  # rear axle in the view from above: more road ahead than behind
_TILE = 200.0  # side of the map drawn at once [m]
_TILE_PIXELS_PER_METER = 6.0  # drawing the map is the costly part, and it is antialiased anyway
_FLASH = 0.8  # how long the frame glows after a failure [s]
_SHIFT = 4  # fractional bits of the positions given to OpenCV


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
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(encoded)
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
    above = np.full((height, width, 3), _PANEL, np.uint8)
    _Above(record, None if verdict is None else verdict.fail_time).draw(above, tick)
    above = above[40:-40]
    if record.frames is None:
        return above
    camera = np.full((width // 2, width, 3), _PANEL, np.uint8)
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
    cause = TerminationReason(int(record.cause[-1]))
    above = _Above(record, failed_at)
    trace = _Trace(record, failed_at)
    still = np.full((FILM_SIZE[1], FILM_SIZE[0], 3), PAGE, np.uint8)
    _panel(still, _CAMERA)[:] = _PANEL
    after_title = write(still, shorten(title, 20, 300), (14, 30), 20, INK, bold=True)
    write(still, shorten(subtitle, 15, 740 - after_title), (after_title + 14, 30), 15, FAINT)

    for tick, time in enumerate(record.times.tolist()):
        image = still.copy()
        failed = failed_at is not None and time >= failed_at - 1e-6
        over = tick > ended and cause not in (
            TerminationReason.NONE,
            TerminationReason.TIME,
            TerminationReason.GOAL,
        )
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
        elif over:
            _draw_banner(_panel(image, _CAMERA), f"the drive ended: {cause.name.lower().replace('_', ' ')}")
        above.draw(_panel(image, _ABOVE), tick)
        trace.draw(_panel(image, _STRIP), tick)
        if failed and failed_at is not None and time < failed_at + _FLASH:
            strength = 1.0 - (time - failed_at) / _FLASH
            edge = tuple(round(a * strength + b * (1 - strength)) for a, b in zip(_FAIL, PAGE, strict=True))
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
        label, color = f"FAIL{when}", _FAIL
    width = text_mask(label, 15, True).shape[1] + 24
    right = FILM_SIZE[0] - 12
    _pill(image, (right - width, 11, width, 26), color, filled=solid)
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
    _pill(panel, (6, 6, width, 20), _PANEL, filled=True)
    write(panel, words, (15, 20), 12, INK, bold=True)


def _draw_banner(panel: ndarray, words: str) -> None:
    height, width = panel.shape[:2]
    words = shorten(words, 15, width - 40, bold=True)
    long = text_mask(words, 15, True).shape[1] + 24
    _pill(panel, ((width - long) // 2, height - 38, long, 28), _FAIL, filled=True)
    write(panel, words, ((width - long) // 2 + 12, height - 19), 15, INK, bold=True)


class _Above:
    """The view from above, following the car with its direction up."""

    def __init__(self, record: DriveRecord, failed_at: float | None):
        self.record = record
        # The view turns with the road rather than with the car, so that weaving shows as weaving.
        turn = np.unwrap(record.heading.astype(float))
        window = min(15, len(turn))
        padded = np.pad(turn, (window // 2, window - 1 - window // 2), mode="edge")
        self.facing = np.convolve(padded, np.full(window, 1 / window), mode="valid")
        self.failed = None if failed_at is None else int(np.searchsorted(record.times, failed_at - 1e-6))
        self.tile: tuple[ndarray, ndarray] | None = None  # map picture, its affine pixel_from_world
        self.tile_center = np.full(2, np.inf)
        forward = rear_axle_to_center(record.size[0])
        ahead = np.stack([np.cos(record.heading), np.sin(record.heading)], -1)
        self.center = record.position + forward * ahead

    def draw(self, panel: ndarray, tick: int) -> None:
        record = self.record
        at = record.position[tick].astype(float)
        view = _view_from_world(at, self.facing[tick])
        panel[:] = self._map(at, self.facing[tick], view, panel.shape[:2])

        def to_view(points: ndarray) -> ndarray:
            return points @ view[:, :2].T + view[:, 2]

        near = np.linalg.norm(record.path - at, axis=-1) < 120.0
        path = to_view(_one_stretch(record.path, near))
        glow = panel.copy()
        _line(glow, path, ROUTE_COLOR, 12)
        cv2.addWeighted(glow, 0.22, panel, 0.78, 0, dst=panel)
        _line(panel, path, ROUTE_COLOR, 1)
        _line(panel, to_view(record.position[: tick + 1]), _TRAIL, 2)
        self._draw_signals(panel, to_view, tick)
        self._draw_actors(panel, to_view, tick)
        plan = record.plan[tick]
        if record.alive[tick] and len(plan) and np.isfinite(plan).all():
            points = to_view(np.concatenate([at[None], plan]))
            _line(panel, points, _PLAN, 2)
            for point in points[1:]:
                _disc(panel, point, 3.0, _PLAN)
        if self.failed is not None and tick >= self.failed:
            where = to_view(record.position[min(self.failed, len(record.times) - 1)][None])[0]
            _disc(panel, where, 24.0, _FAIL, width=2)
            for slope in (1.0, -1.0):
                _line(panel, where + np.array([[-17.0, -17.0 * slope], [17.0, 17.0 * slope]]), _FAIL, 2)
        self._draw_command(panel, tick)
        self._draw_legend(panel)

    def _map(self, at: ndarray, facing: float, view: ndarray, size: tuple[int, int]) -> ndarray:
        # A map drawn whole would not fit in memory on a long drive, so tiles are drawn as it goes on.
        across = max(_CAR_AT[0], size[1] - _CAR_AT[0])
        along = max(_CAR_AT[1], size[0] - _CAR_AT[1])
        slack = (
            _TILE / 2 - np.hypot(across, along) / _PIXELS_PER_METER
        )  # how far the car may be from the middle
        if self.tile is None or np.abs(at - self.tile_center).max() > slack:
            # Most of the tile lies ahead, for that is where the car goes.
            self.tile_center = at + 0.8 * slack * np.array([np.cos(facing), np.sin(facing)])
            eye = _tile(self.record.scenario.road, self.tile_center)
            corners = at + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
            origin, x, y = eye.pixels_of(corners) - 0.5  # OpenCV has pixel centres at whole numbers
            linear = np.stack([x - origin, y - origin], -1)
            self.tile = eye.background(), np.column_stack([linear, origin - linear @ at])
        picture, tile = self.tile
        linear = view[:, :2] @ np.linalg.inv(tile[:, :2])
        warp = np.column_stack([linear, view[:, 2] - linear @ tile[:, 2]])
        return cv2.warpAffine(picture, warp, size[::-1], flags=cv2.INTER_LINEAR, borderValue=_PANEL)

    def _draw_signals(self, panel: ndarray, to_view, tick: int) -> None:
        scenario = self.record.scenario
        signals = scenario.signals
        now = (
            min(int(np.searchsorted(scenario.times, self.record.times[tick] + 1e-6)), len(scenario.times)) - 1
        )
        left = np.stack([-np.sin(signals.heading), np.cos(signals.heading)], -1)
        for k, state in enumerate(signals.state[:, now]):
            bar = signals.stop_point[k, :2] + 1.7 * left[k] * np.array([[-1.0], [1.0]])
            _line(panel, to_view(bar), SIGNAL_COLORS[int(state)], 4)

    def _draw_actors(self, panel: ndarray, to_view, tick: int) -> None:
        record = self.record
        hit = record.collided_with[: tick + 1]
        hit = set(hit[hit >= 0].tolist())
        for slot in range(1, record.actors.shape[1]):
            x, y, heading, length, width, _, kind = record.actors[tick, slot].astype(float)
            if kind < 0 or not np.isfinite([x, y, heading]).all():
                continue
            color = _FAIL if slot in hit else ACTOR_COLORS[ActorKind(int(kind))]
            _box(panel, to_view, np.array([x, y]), heading, (length, width), color)
        _box(panel, to_view, self.center[tick], float(record.heading[tick]), record.size, EGO_COLOR)

    def _draw_command(self, panel: ndarray, tick: int) -> None:
        command = Command(int(self.record.command[tick]))
        if command == Command.FOLLOW:
            return
        side = -1.0 if command == Command.LEFT else 1.0
        label = f"lane change {command.name.lower()}"
        width = text_mask(label, 14, True).shape[1] + 46
        left = (panel.shape[1] - width) // 2
        _pill(panel, (left, 10, width, 26), _PANEL, filled=True)
        _pill(panel, (left, 10, width, 26), _TRAIL, filled=False)
        write(panel, label, (left + (32 if side < 0 else 14), 28), 14, _TRAIL, bold=True)
        if (self.record.times[tick] % 0.8) < 0.5:  # blinks like the lamp it stands for
            middle = left + 19 if side < 0 else left + width - 19
            arrow = np.array([[7.0, 0.0], [-2.0, -7.0], [-2.0, -2.5], [-8.0, -2.5], [-8.0, 2.5], [-2.0, 2.5]])
            arrow = np.concatenate([arrow, [[-2.0, 7.0]]]) * [side, 1.0] + [middle, 23.0]
            _fill(panel, arrow, _TRAIL)

    def _draw_legend(self, panel: ndarray) -> None:
        x, y = 12, panel.shape[0] - 13
        _pill(panel, (4, y - 17, 220, 26), _PANEL, filled=True)
        for label, color in (("path", ROUTE_COLOR), ("driven", _TRAIL), ("plan", _PLAN)):
            _line(panel, np.array([[x, y - 4.0], [x + 16.0, y - 4.0]]), color, 3)
            x = write(panel, label, (x + 22, y), 13, INK) + 16


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

        self.still = np.full((_STRIP[3], _STRIP[2], 3), _PANEL, np.uint8)
        for label, x in (("time", 14), ("speed", 96), ("from path", 186)):
            write(self.still, label, (x, 20), 12, FAINT)
        write(self.still, f"±{limit:.1f} m", (self.LEFT - 46, 16), 11, FAINT)
        _line(self.still, np.array([[self.LEFT, middle], [self.RIGHT, middle]]), _RULE, 1)
        _line(self.still, self.points, (82, 88, 100), 1)
        if failed_at is not None:
            tick = int(np.searchsorted(record.times, failed_at - 1e-6))
            self._draw_mark(self.still, min(tick, len(record.times) - 1), _FAIL, 2)

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
        _line(panel, self.points[: tick + 1], _TRAIL, 2)
        self._draw_mark(panel, tick, INK, 1)
        _disc(panel, self.points[tick], 3.5, INK)

    def _draw_mark(self, panel: ndarray, tick: int, color: Color, width: int) -> None:
        x = self.points[tick, 0]
        _line(panel, np.array([[x, self.TOP - 2.0], [x, self.BOTTOM + 2.0]]), color, width)


def _view_from_world(at: ndarray, facing: float) -> Float[ndarray, "2 3"]:
    """Affine map from world [m] to pixels of the view from above: `facing` up, `at` at `_CAR_AT`."""
    cos, sin = np.cos(facing), np.sin(facing)
    linear = np.array([[sin, -cos], [-cos, -sin]]) * _PIXELS_PER_METER
    return np.column_stack([linear, np.asarray(_CAR_AT) - linear @ at])


def _tile(road: RoadMap, at: ndarray) -> BirdsEye:
    return BirdsEye(road, (float(at[0]), float(at[1])), _TILE, round(_TILE * _TILE_PIXELS_PER_METER))


def _one_stretch(points: ndarray, keep: ndarray) -> ndarray:
    """From the first to the last point that is kept; a line must not jump over a gap."""
    kept = np.flatnonzero(keep)
    return points[kept[0] : kept[-1] + 1] if len(kept) else points[:0]


def _box(
    image: ndarray, to_view, center: ndarray, heading: float, size: tuple[float, float], color: Color
) -> None:
    ahead, left = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])

    axes = np.stack([ahead * size[0] / 2, left * size[1] / 2])

    def at(corners: list[list[float]]) -> ndarray:
        return to_view(center + np.array(corners) @ axes)

    dark: Color = (round(color[0] * 0.45), round(color[1] * 0.45), round(color[2] * 0.45))
    outline = at([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    _fill(image, outline, color)
    _line(image, np.concatenate([outline, outline[:1]]), dark, 1)
    _fill(image, at([[0.3, 0.72], [0.85, 0.0], [0.3, -0.72]]), dark)


def _fixed(points: ndarray) -> ndarray:
    # OpenCV takes whole numbers; far outside the picture they would overflow.
    return np.round(np.clip(points, -2e4, 2e4) * (1 << _SHIFT)).astype(np.int32)


def _line(image: ndarray, points: ndarray, color: Color, width: int) -> None:
    if len(points) > 1:
        cv2.polylines(image, [_fixed(points)], False, color, width, cv2.LINE_AA, _SHIFT)


def _fill(image: ndarray, points: ndarray, color: Color) -> None:
    cv2.fillPoly(image, [_fixed(points)], color, cv2.LINE_AA, _SHIFT)


def _disc(image: ndarray, point: ndarray, radius: float, color: Color, *, width: int = -1) -> None:
    x, y = _fixed(point)
    cv2.circle(image, (int(x), int(y)), round(radius * (1 << _SHIFT)), color, width, cv2.LINE_AA, _SHIFT)


def _pill(image: ndarray, place: tuple[int, int, int, int], color: Color, *, filled: bool) -> None:
    x, y, width, height = place
    radius = height / 2
    turn = np.linspace(np.pi / 2, 3 * np.pi / 2, 16)
    arc = np.stack([np.cos(turn), np.sin(turn)], -1) * radius
    left, right = np.array([x + radius, y + radius]), np.array([x + width - radius, y + radius])
    outline = np.concatenate([arc + left, right - arc])
    if filled:
        _fill(image, outline, color)
    else:
        _line(image, np.concatenate([outline, outline[:1]]), color, 2)
