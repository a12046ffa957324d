"""The part of a film that shows the drive from above, following the car with its direction up."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.evaluation.records import DriveRecord
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.reporting.birds_eye import ACTOR_COLORS, EGO_COLOR, ROUTE_COLOR, SIGNAL_COLORS, BirdsEye
from countersteer.reporting.canvas import INK, Color, disc, fill, line, pill, text_mask, write
from countersteer.scenarios.scenario import ActorKind, RoadMap
from countersteer.worlds.observations import Command

__all__ = ["Above", "CAR_AT", "FAIL", "PANEL", "PLAN", "TRAIL", "view_from_world"]

PANEL: Color = (18, 21, 27)
TRAIL: Color = (255, 190, 80)
PLAN: Color = (110, 215, 255)
FAIL: Color = (240, 80, 80)

_PIXELS_PER_METER = 8.0
CAR_AT = (206.0, 246.0)  # rear axle in the view from above: more road ahead than behind
_TILE = 200.0  # side of the map drawn at once [m]
_TILE_PIXELS_PER_METER = 6.0  # drawing the map is the costly part, and it is antialiased anyway


class Above:
    """The view from above, following the car with its direction up."""

    def __init__(self, record: DriveRecord, failed_at: float | None):
        self.record, self.lights = record, record.lights
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
        view = view_from_world(at, self.facing[tick])
        panel[:] = self._map(at, self.facing[tick], view, panel.shape[:2])

        def to_view(points: ndarray) -> ndarray:
            return points @ view[:, :2].T + view[:, 2]

        near = np.linalg.norm(record.path - at, axis=-1) < 120.0
        path = to_view(_one_stretch(record.path, near))
        glow = panel.copy()
        line(glow, path, ROUTE_COLOR, 12)
        cv2.addWeighted(glow, 0.22, panel, 0.78, 0, dst=panel)
        line(panel, path, ROUTE_COLOR, 1)
        line(panel, to_view(record.position[: tick + 1]), TRAIL, 2)
        self._draw_signals(panel, to_view, tick)
        self._draw_actors(panel, to_view, tick)
        plan = record.plan[tick]
        if record.alive[tick] and len(plan) and np.isfinite(plan).all():
            points = to_view(np.concatenate([at[None], plan]))
            line(panel, points, PLAN, 2)
            for point in points[1:]:
                disc(panel, point, 3.0, PLAN)
        if self.failed is not None and tick >= self.failed:
            where = to_view(record.position[min(self.failed, len(record.times) - 1)][None])[0]
            disc(panel, where, 24.0, FAIL, width=2)
            for slope in (1.0, -1.0):
                line(panel, where + np.array([[-17.0, -17.0 * slope], [17.0, 17.0 * slope]]), FAIL, 2)
        self._draw_command(panel, tick)
        self._draw_legend(panel)

    def _map(self, at: ndarray, facing: float, view: ndarray, size: tuple[int, int]) -> ndarray:
        # A map drawn whole would not fit in memory on a long drive, so tiles are drawn as it goes on.
        across = max(CAR_AT[0], size[1] - CAR_AT[0])
        along = max(CAR_AT[1], size[0] - CAR_AT[1])
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
        return cv2.warpAffine(picture, warp, size[::-1], flags=cv2.INTER_LINEAR, borderValue=PANEL)

    def _draw_signals(self, panel: ndarray, to_view, tick: int) -> None:
        signals = self.record.scenario.signals
        left = np.stack([-np.sin(signals.heading), np.cos(signals.heading)], -1)
        for k, state in enumerate(self.lights[:, tick]):
            if np.isnan(signals.heading[k]):
                disc(panel, to_view(signals.stop_point[k, :2]), 7.0, SIGNAL_COLORS[int(state)])
                continue
            bar = signals.stop_point[k, :2] + 1.7 * left[k] * np.array([[-1.0], [1.0]])
            line(panel, to_view(bar), SIGNAL_COLORS[int(state)], 4)

    def _draw_actors(self, panel: ndarray, to_view, tick: int) -> None:
        record = self.record
        hit = record.collided_with[: tick + 1]
        hit = set(hit[hit >= 0].tolist())
        for slot in record.others.tolist():
            x, y, heading, length, width, _, kind = record.actors[tick, slot].astype(float)
            if kind < 0 or not np.isfinite([x, y, heading]).all():
                continue
            color = FAIL if slot in hit else ACTOR_COLORS[ActorKind(int(kind))]
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
        pill(panel, (left, 10, width, 26), PANEL, filled=True)
        pill(panel, (left, 10, width, 26), TRAIL, filled=False)
        write(panel, label, (left + (32 if side < 0 else 14), 28), 14, TRAIL, bold=True)
        if (self.record.times[tick] % 0.8) < 0.5:  # blinks like the lamp it stands for
            middle = left + 19 if side < 0 else left + width - 19
            arrow = np.array([[7.0, 0.0], [-2.0, -7.0], [-2.0, -2.5], [-8.0, -2.5], [-8.0, 2.5], [-2.0, 2.5]])
            arrow = np.concatenate([arrow, [[-2.0, 7.0]]]) * [side, 1.0] + [middle, 23.0]
            fill(panel, arrow, TRAIL)

    def _draw_legend(self, panel: ndarray) -> None:
        x, y = 12, panel.shape[0] - 13
        pill(panel, (4, y - 17, 220, 26), PANEL, filled=True)
        for label, color in (("path", ROUTE_COLOR), ("driven", TRAIL), ("plan", PLAN)):
            line(panel, np.array([[x, y - 4.0], [x + 16.0, y - 4.0]]), color, 3)
            x = write(panel, label, (x + 22, y), 13, INK) + 16


def view_from_world(at: ndarray, facing: float) -> Float[ndarray, "2 3"]:
    """Affine map from world [m] to pixels of the view from above: `facing` up, `at` at `CAR_AT`."""
    cos, sin = np.cos(facing), np.sin(facing)
    linear = np.array([[sin, -cos], [-cos, -sin]]) * _PIXELS_PER_METER
    return np.column_stack([linear, np.asarray(CAR_AT) - linear @ at])


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
    fill(image, outline, color)
    line(image, np.concatenate([outline, outline[:1]]), dark, 1)
    fill(image, at([[0.3, 0.72], [0.85, 0.0], [0.3, -0.72]]), dark)
