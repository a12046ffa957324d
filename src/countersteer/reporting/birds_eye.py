"""The view from above: a map drawn once into a square picture, boxes and paths drawn on copies of it.

Images are RGB, `uint8 [height width 3]`; north is up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.geometry.polylines import arc_length
from countersteer.ranges import Count, Range, Ranged
from countersteer.reporting.canvas import SHIFT, Color, disc, fill, fixed, line
from countersteer.scenarios.scenario import ActorKind, MapFeature, MapKind, RoadMap

__all__ = [
    "ACTOR_COLORS",
    "ASPHALT",
    "BirdsEye",
    "Canvas",
    "EGO_COLOR",
    "GRID",
    "PAPER",
    "ROUTE_COLOR",
    "SIGNAL_COLORS",
    "mix",
    "round_length",
]


PAPER: Color = (18, 21, 27)
GRID: Color = (27, 31, 38)
ASPHALT: Color = (43, 48, 58)
DRIVEWAY: Color = (35, 39, 47)
CENTER_LINE: Color = (57, 63, 75)
EDGE: Color = (121, 130, 145)
WHITE: Color = (222, 226, 232)
YELLOW: Color = (240, 190, 72)
RED: Color = (235, 87, 87)

EGO_COLOR: Color = (64, 220, 165)
ROUTE_COLOR: Color = (64, 220, 165)
ACTOR_COLORS: dict[ActorKind, Color] = {
    ActorKind.VEHICLE: (118, 164, 224),
    ActorKind.PEDESTRIAN: (247, 150, 96),
    ActorKind.CYCLIST: (199, 140, 240),
    ActorKind.STATIC: (140, 146, 156),
}
SIGNAL_COLORS: dict[int, Color] = {0: (150, 158, 170), 1: (80, 210, 110), 2: (245, 200, 70), 3: RED}

LINE_STYLES: dict[MapKind, tuple[Color, bool]] = {
    MapKind.LINE_SOLID_WHITE: (WHITE, False),
    MapKind.LINE_DASHED_WHITE: (WHITE, True),
    MapKind.LINE_SOLID_YELLOW: (YELLOW, False),
    MapKind.LINE_DASHED_YELLOW: (YELLOW, True),
}
LINE_WIDTH = 0.15  # painted width of a line [m]
DASH, GAP = 3.0, 4.5  # painted and bare length of a dashed line [m]
DEFAULT_LANE_WIDTH = 3.6  # for lanes that state none [m]

# Corners of a box and of the mark that shows its front, in half lengths and half widths.
_BOX = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
_NOSE = np.array([[0.25, 0.75], [0.8, 0.0], [0.25, -0.75]])

_OVERSAMPLING = 2


class Canvas:
    """A picture with antialiased strokes and fills at sub-pixel positions.

    Positions are in pixels with pixel centres at +0.5; OpenCV has them at 0, hence the half.
    """

    def __init__(self, image: ndarray):
        self.image = image

    def stroke(self, points: ndarray, color: Color, width: float | int, *, closed: bool = False) -> None:
        line(self.image, points - 0.5, color, max(round(width), 1), closed=closed)

    def fill(self, points: ndarray, color: Color) -> None:
        fill(self.image, points - 0.5, color)

    def disc(self, point: ndarray, radius: float | int, color: Color, *, width: int = -1) -> None:
        disc(self.image, np.asarray(point) - 0.5, radius, color, width=width)


@dataclass(frozen=True)
class BirdsEye(Ranged):
    """A square view of a map from above, world x to the right and world y up.

    Args:
        road: The map; an empty one gives a bare grid.
        center: World point in the middle of the picture [m].
        span_m: Side of the square that is shown [m].
        pixels: Side of the picture [pixels].
    """

    road: RoadMap
    center: Annotated[tuple[float | int, float | int], Range("(-inf, inf)")]
    span_m: Annotated[float | int, Range("(0, inf)")]
    pixels: Count

    @property
    def pixels_per_meter(self) -> float:
        """Scale of the picture [pixel/m]."""
        return self.pixels / self.span_m

    def pixels_of(self, points: Float[ndarray, "*batch 2"]) -> Float[ndarray, "*batch 2"]:
        """Where world points [m] fall in the picture: column, row [pixels], pixel centres at +0.5."""
        flip = np.array([1.0, -1.0])
        return (points - np.asarray(self.center)) * flip * self.pixels_per_meter + self.pixels / 2

    def background(self) -> UInt8[ndarray, "pixels pixels 3"]:
        """The map, drawn once; every call returns a fresh copy to draw on."""
        return self._background.copy()

    @cached_property
    def _background(self) -> ndarray:
        over = BirdsEye(self.road, self.center, self.span_m, self.pixels * _OVERSAMPLING)
        image = np.full((over.pixels, over.pixels, 3), PAPER, np.uint8)
        canvas = Canvas(image)
        over._draw_grid(canvas)
        over._draw_map(canvas)
        return cv2.resize(image, (self.pixels, self.pixels), interpolation=cv2.INTER_AREA)

    def _draw_grid(self, canvas: Canvas) -> None:
        step = round_length(self.span_m / 6)
        x, y = self.center
        half = self.span_m / 2
        for axis, middle in ((0, x), (1, y)):
            for value in (
                np.arange(np.ceil((middle - half) / step), np.floor((middle + half) / step) + 1) * step
            ):
                ends = np.array([[x - half, y - half], [x + half, y + half]])
                ends[:, axis] = value
                canvas.stroke(self.pixels_of(ends), GRID, _OVERSAMPLING)

    def _draw_map(self, canvas: Canvas) -> None:
        scale = self.pixels_per_meter
        hairline = 1.2 * _OVERSAMPLING
        visible = [feature for feature in self.road.features if self._sees(feature)]

        def each(*kinds: MapKind) -> list[tuple[MapFeature, ndarray]]:
            return [(f, self.pixels_of(f.points[:, :2].astype(float))) for f in visible if f.kind in kinds]

        for _, points in each(MapKind.DRIVEWAY):
            canvas.fill(points, DRIVEWAY)
        for _, points in each(MapKind.DRIVABLE_AREA, MapKind.LANE_AREA):
            canvas.fill(points, ASPHALT)
        for feature, points in each(MapKind.LANE):
            canvas.stroke(points, ASPHALT, (feature.width or DEFAULT_LANE_WIDTH) * scale)
        for feature, points in each(MapKind.CROSSWALK):
            self._draw_crosswalk(canvas, feature, points)
        for _, points in each(MapKind.SPEED_BUMP):
            canvas.fill(points, (92, 82, 58))
        for _, points in each(MapKind.LANE):
            canvas.stroke(points, CENTER_LINE, hairline)
        for _, points in each(MapKind.ROAD_EDGE):
            canvas.stroke(points, EDGE, max(0.2 * scale, hairline))
        for feature, points in each(*LINE_STYLES):
            color, dashed = LINE_STYLES[feature.kind]
            width = max(LINE_WIDTH * scale, hairline)
            # A dash below two pixels turns into noise: such a line is drawn solid and fainter.
            if dashed and DASH * scale >= 2 * _OVERSAMPLING:
                for dash in _dashes(feature.points[:, :2].astype(float)):
                    canvas.stroke(self.pixels_of(dash), color, width)
            else:
                canvas.stroke(points, mix(color, ASPHALT, 0.5) if dashed else color, width)
        for _, points in each(MapKind.STOP_LINE):
            canvas.stroke(points, WHITE, max(0.4 * scale, 1.5 * hairline))
        for _, points in each(MapKind.STOP_SIGN):
            radius = max(1.0 * scale, 3.5 * _OVERSAMPLING)
            turn = np.pi / 8 + np.arange(8) * np.pi / 4
            octagon = np.stack([np.cos(turn), np.sin(turn)], -1) * radius + points[0]
            canvas.fill(octagon, RED)
            canvas.stroke(octagon, WHITE, hairline / 1.5, closed=True)

    def _draw_crosswalk(self, canvas: Canvas, feature: MapFeature, outline: ndarray) -> None:
        corners = feature.points[:, :2].astype(float)
        canvas.fill(outline, mix(WHITE, ASPHALT, 0.16))
        if len(corners) < 3 or self.pixels_per_meter < 1.5:
            return
        # Bars run across the walking direction, which is the long side of the smallest box around it.
        (middle, sides, angle) = cv2.minAreaRect(corners.astype(np.float32))
        along = np.radians(angle + (0 if sides[0] >= sides[1] else 90))
        length, depth = max(sides), min(sides)
        axis = np.array([np.cos(along), np.sin(along)])
        across = np.array([-axis[1], axis[0]])
        mask = np.zeros(canvas.image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [fixed(outline - 0.5)], 255, cv2.LINE_8, SHIFT)
        bars = canvas.image.copy()
        for at in np.arange(-length / 2 + 0.5, length / 2, 1.0):
            bar = np.asarray(middle) + axis * at + across * np.array([[-1.0], [1.0]]) * depth / 2
            Canvas(bars).stroke(self.pixels_of(bar), mix(WHITE, ASPHALT, 0.7), 0.45 * self.pixels_per_meter)
        canvas.image[mask > 0] = bars[mask > 0]

    def _sees(self, feature: MapFeature) -> bool:
        if len(feature.points) == 0:
            return False
        reach = self.span_m / 2 + 10.0
        low, high = feature.points[:, :2].min(0), feature.points[:, :2].max(0)
        return bool(
            np.all(high > np.asarray(self.center) - reach) and np.all(low < np.asarray(self.center) + reach)
        )

    def draw_path(
        self,
        image: UInt8[ndarray, "height width 3"],
        points: Float[ndarray, "n 2"],
        color: Color = ROUTE_COLOR,
        *,
        width: float | int = 2.0,
        opacity: float | int = 1.0,
    ) -> None:
        """Draw a world path [m] on `image` in place; `width` in pixels, `opacity` in [0, 1]."""
        layer = image if opacity >= 1 else image.copy()
        Canvas(layer).stroke(self.pixels_of(points), color, width)
        if opacity < 1:
            cv2.addWeighted(layer, opacity, image, 1 - opacity, 0, dst=image)

    def draw_boxes(
        self,
        image: UInt8[ndarray, "height width 3"],
        center: Float[ndarray, "n 2"],
        heading: Float[ndarray, "n"],
        size: Float[ndarray, "n 2"],
        colors: Sequence[Color],
    ) -> None:
        """Draw oriented boxes on `image` in place, the front marked; too small ones become dots.

        Args:
            image: A copy of the background.
            center: Box centres [m, world].
            heading: Directions of the length [rad].
            size: Length and width [m].
            colors: One RGB colour a box.
        """
        canvas = Canvas(image)
        for where, turn, (length, width), color in zip(center, heading, size, colors, strict=True):
            ahead, left = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])

            arms = np.stack([ahead * length / 2, left * width / 2])
            if max(length, width) * self.pixels_per_meter < 5.0:
                point = self.pixels_of(np.asarray(where, float))
                canvas.disc(point, 3.0, mix(PAPER, color, 0.6))
                canvas.disc(point, 2.2, color)
                continue
            outline = self.pixels_of(where + _BOX @ arms)
            canvas.fill(outline, color)
            canvas.stroke(outline, mix(PAPER, color, 0.65), 1, closed=True)
            if length * self.pixels_per_meter >= 9.0:
                canvas.fill(self.pixels_of(where + _NOSE @ arms), mix(PAPER, color, 0.6))


def mix(color: Color, other: Color, share: float) -> Color:
    """`share` of the first colour over the second."""
    red, green, blue = (round(a * share + b * (1 - share)) for a, b in zip(color, other, strict=True))
    return red, green, blue


def round_length(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `length`."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(step * power for step in (1, 2, 5) if step * power <= length * (1 + 1e-9))


def _dashes(points: Float[ndarray, "n 2"]) -> list[Float[ndarray, "m 2"]]:
    """The painted pieces of a dashed line."""
    s = arc_length(points)
    pieces = []
    for start in np.arange(0.0, s[-1], DASH + GAP):
        end = min(start + DASH, s[-1])
        at = np.concatenate([[start], s[(s > start) & (s < end)], [end]])
        pieces.append(np.stack([np.interp(at, s, points[:, 0]), np.interp(at, s, points[:, 1])], -1))
    return pieces
