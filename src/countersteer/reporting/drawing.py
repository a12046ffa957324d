"""Bird's-eye pictures of scenarios: north up, the map drawn once, boxes and paths on top of it.

`BirdsEye` is the reusable part: it draws a map into a square picture, says where world points fall in
it, and draws boxes and paths on copies, so that a film draws its map once. `draw_scenario` makes a
whole figure with title, scale bar and legend. Images are RGB, `uint8 [height width 3]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.geometry.polylines import arc_length
from countersteer.scenarios.scenario import ActorKind, MapFeature, MapKind, RoadMap, Scenario

__all__ = ["ACTOR_COLORS", "EGO_COLOR", "ROUTE_COLOR", "BirdsEye", "draw_scenario", "save_picture"]

Color = tuple[int, int, int]

PAPER: Color = (18, 21, 27)
GRID: Color = (27, 31, 38)
ASPHALT: Color = (43, 48, 58)
DRIVEWAY: Color = (35, 39, 47)
CENTER_LINE: Color = (57, 63, 75)
EDGE: Color = (121, 130, 145)
WHITE: Color = (222, 226, 232)
YELLOW: Color = (240, 190, 72)
RED: Color = (235, 87, 87)
INK: Color = (232, 235, 240)
FAINT_INK: Color = (150, 158, 170)

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

_SHIFT = 4  # fractional bits of the positions given to OpenCV
_OVERSAMPLING = 2


class _Canvas:
    """A picture with antialiased strokes and fills at sub-pixel positions.

    Positions are in pixels with pixel centres at +0.5; OpenCV has them at 0, hence the half.
    """

    def __init__(self, image: ndarray):
        self.image = image

    @staticmethod
    def _fixed(points: ndarray) -> ndarray:
        # Points far outside would overflow OpenCV's fixed-point arithmetic; they are invisible anyway.
        return np.round((np.clip(points, -3e4, 3e4) - 0.5) * (1 << _SHIFT)).astype(np.int32)

    def stroke(self, points: ndarray, color: Color, width: float | int, *, closed: bool = False) -> None:
        if len(points) > 1:
            width = max(round(width), 1)
            cv2.polylines(self.image, [self._fixed(points)], closed, color, width, cv2.LINE_AA, _SHIFT)

    def fill(self, points: ndarray, color: Color) -> None:
        if len(points) > 2:
            cv2.fillPoly(self.image, [self._fixed(points)], color, cv2.LINE_AA, _SHIFT)

    def disc(self, point: ndarray, radius: float | int, color: Color, *, width: int = -1) -> None:
        x, y = self._fixed(np.asarray(point))
        size = round(radius * (1 << _SHIFT))
        cv2.circle(self.image, (int(x), int(y)), size, color, width, cv2.LINE_AA, _SHIFT)


@dataclass(frozen=True)
class BirdsEye:
    """A square view of a map from above, world x to the right and world y up.

    Args:
        road: The map; an empty one gives a bare grid.
        center: World point in the middle of the picture [m].
        span_m: Side of the square that is shown [m], > 0.
        pixels: Side of the picture [pixels].
    """

    road: RoadMap
    center: tuple[float | int, float | int]
    span_m: float | int
    pixels: int

    def __post_init__(self) -> None:
        if not (self.span_m > 0 and math.isfinite(self.span_m) and self.pixels > 0):
            raise UserError(
                "a bird's-eye view needs an extent",
                got=f"span_m={self.span_m}, pixels={self.pixels}",
                expected="both greater than 0",
            )

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
        canvas = _Canvas(image)
        over._draw_grid(canvas)
        over._draw_map(canvas)
        return cv2.resize(image, (self.pixels, self.pixels), interpolation=cv2.INTER_AREA)

    def _draw_grid(self, canvas: _Canvas) -> None:
        step = _round_length(self.span_m / 6)
        x, y = self.center
        half = self.span_m / 2
        for axis, middle in ((0, x), (1, y)):
            for value in (
                np.arange(np.ceil((middle - half) / step), np.floor((middle + half) / step) + 1) * step
            ):
                ends = np.array([[x - half, y - half], [x + half, y + half]])
                ends[:, axis] = value
                canvas.stroke(self.pixels_of(ends), GRID, _OVERSAMPLING)

    def _draw_map(self, canvas: _Canvas) -> None:
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
                canvas.stroke(points, _mix(color, ASPHALT, 0.5) if dashed else color, width)
        for _, points in each(MapKind.STOP_LINE):
            canvas.stroke(points, WHITE, max(0.4 * scale, 1.5 * hairline))
        for _, points in each(MapKind.STOP_SIGN):
            radius = max(1.0 * scale, 3.5 * _OVERSAMPLING)
            turn = np.pi / 8 + np.arange(8) * np.pi / 4
            octagon = np.stack([np.cos(turn), np.sin(turn)], -1) * radius + points[0]
            canvas.fill(octagon, RED)
            canvas.stroke(octagon, WHITE, hairline / 1.5, closed=True)

    def _draw_crosswalk(self, canvas: _Canvas, feature: MapFeature, outline: ndarray) -> None:
        corners = feature.points[:, :2].astype(float)
        canvas.fill(outline, _mix(WHITE, ASPHALT, 0.16))
        if len(corners) < 3 or self.pixels_per_meter < 1.5:
            return
        # Bars run across the walking direction, which is the long side of the smallest box around it.
        (middle, sides, angle) = cv2.minAreaRect(corners.astype(np.float32))
        along = np.radians(angle + (0 if sides[0] >= sides[1] else 90))
        length, depth = max(sides), min(sides)
        axis = np.array([np.cos(along), np.sin(along)])
        across = np.array([-axis[1], axis[0]])
        mask = np.zeros(canvas.image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [_Canvas._fixed(outline)], 255, cv2.LINE_8, _SHIFT)
        bars = canvas.image.copy()
        for at in np.arange(-length / 2 + 0.5, length / 2, 1.0):
            bar = np.asarray(middle) + axis * at + across * np.array([[-1.0], [1.0]]) * depth / 2
            _Canvas(bars).stroke(self.pixels_of(bar), _mix(WHITE, ASPHALT, 0.7), 0.45 * self.pixels_per_meter)
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
        _Canvas(layer).stroke(self.pixels_of(points), color, width)
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
        canvas = _Canvas(image)
        for where, turn, (length, width), color in zip(center, heading, size, colors, strict=True):
            ahead, left = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])

            arms = np.stack([ahead * length / 2, left * width / 2])
            if max(length, width) * self.pixels_per_meter < 5.0:
                point = self.pixels_of(np.asarray(where, float))
                canvas.disc(point, 3.0, _mix(PAPER, color, 0.6))
                canvas.disc(point, 2.2, color)
                continue
            outline = self.pixels_of(where + _BOX @ arms)
            canvas.fill(outline, color)
            canvas.stroke(outline, _mix(PAPER, color, 0.65), 1, closed=True)
            if length * self.pixels_per_meter >= 9.0:
                canvas.fill(self.pixels_of(where + _NOSE @ arms), _mix(PAPER, color, 0.6))


def _mix(color: Color, other: Color, share: float) -> Color:
    """`share` of the first colour over the second."""
    red, green, blue = (round(a * share + b * (1 - share)) for a, b in zip(color, other, strict=True))
    return red, green, blue


def _round_length(length: float) -> float:
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


def _extent(scenario: Scenario) -> tuple[tuple[float, float], float]:
    """Centre and side of the square that holds the route, or all tracks where there is none."""
    tracks = scenario.tracks
    if scenario.route is not None:
        points = scenario.route
    elif tracks.valid.any():
        points = tracks.position[tracks.valid][:, :2]
    else:
        points = np.concatenate([np.zeros((1, 2)), *(f.points[:, :2] for f in scenario.road.features)])
    low, high = points.min(0), points.max(0)
    middle = (low + high) / 2
    return (float(middle[0]), float(middle[1])), float(max((high - low).max() * 1.25, 80.0))


def draw_scenario(
    scenario: Scenario,
    time: float | int | None = None,
    *,
    span_m: float | int | None = None,
    pixels: int = 900,
) -> UInt8[ndarray, "height width 3"]:
    """A figure of a scenario at one time: map, signals, actors, ego, route, title, scale bar, legend.

    Args:
        scenario: What to draw.
        time: When [s, scenario time]; None for the start.
        span_m: Side of the square shown [m]; None shows the whole route.
        pixels: Width of the figure [pixels]; the title makes it a little higher than wide.
    """
    center, whole = _extent(scenario)
    view = BirdsEye(scenario.road, center, whole if span_m is None else span_m, pixels)
    tracks = scenario.tracks
    tick = 0 if time is None else int(np.abs(scenario.times - time).argmin())
    if span_m is not None and scenario.ego is not None:
        x, y = tracks.position[scenario.ego, tick, :2]
        view = BirdsEye(scenario.road, (float(x), float(y)), span_m, pixels)

    image = view.background()
    ego = scenario.ego
    if scenario.route is not None:
        lane = scenario.lane_width * view.pixels_per_meter
        view.draw_path(image, scenario.route, width=max(lane * 0.5, 5.0), opacity=0.22)
        view.draw_path(image, scenario.route, width=2.0, opacity=0.9)
    _draw_signals(view, image, scenario, tick)
    ahead = (scenario.times >= scenario.times[tick]) & (scenario.times <= scenario.times[tick] + 3.0)
    shown = np.flatnonzero(tracks.valid[:, tick])
    for actor in shown:
        seen = ahead & tracks.valid[actor]
        if actor != ego and seen.sum() > 1:
            color = ACTOR_COLORS[ActorKind(tracks.kind[actor])]
            _Canvas(image).stroke(
                view.pixels_of(tracks.position[actor, seen, :2]), _mix(color, ASPHALT, 0.55), 1
            )
    # The ego last, so that it lies on top.
    order = np.array(sorted(shown, key=lambda actor: actor == ego), int)
    view.draw_boxes(
        image,
        tracks.position[order, tick, :2],
        tracks.heading[order, tick],
        tracks.size[order, :2],
        [EGO_COLOR if actor == ego else ACTOR_COLORS[ActorKind(tracks.kind[actor])] for actor in order],
    )
    if ego is not None and ego in shown and 4.6 * view.pixels_per_meter < 14.0:
        _Canvas(image).disc(view.pixels_of(tracks.position[ego, tick, :2]), 9.0, EGO_COLOR, width=2)
    return _frame(view, image, scenario, tick)


def _draw_signals(view: BirdsEye, image: ndarray, scenario: Scenario, tick: int) -> None:
    canvas, signals = _Canvas(image), scenario.signals
    for point, heading, state in zip(
        signals.stop_point, signals.heading, signals.state[:, tick], strict=True
    ):
        left = np.array([-np.sin(heading), np.cos(heading)]) * 1.6
        bar = view.pixels_of(point[:2] + np.array([[-1.0], [1.0]]) * left)
        color = SIGNAL_COLORS[int(state)]
        canvas.stroke(bar, color, max(0.5 * view.pixels_per_meter, 2.0))


def _frame(
    view: BirdsEye, image: ndarray, scenario: Scenario, tick: int
) -> Shaped[ndarray, "height width 3"]:
    """The picture with its title above and scale bar and legend inside."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def rgb(color: Color) -> tuple[float, float, float]:
        return color[0] / 255, color[1] / 255, color[2] / 255

    side, band, dpi = view.pixels, round(view.pixels * 0.085), 100
    unit = side / 900 * 72 / dpi  # one pixel of a 900-pixel figure, in points
    figure = Figure(figsize=(side / dpi, (side + band) / dpi), dpi=dpi, facecolor=rgb(PAPER))
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, side / (side + band)))
    axes.imshow(image, extent=(0, side, side, 0), interpolation="nearest")
    axes.set_axis_off()

    tracks = scenario.tracks
    source = scenario.provenance
    head = 1 - band / (side + band)
    name = scenario.id if len(scenario.id) <= 48 else scenario.id[:47] + "…"
    figure.text(
        0.022, head + 0.055 * (side / (side + band)), name, color=rgb(INK), size=21 * unit, weight="bold",
        va="center",
    )  # fmt: skip
    facts = (
        f"{source.source}   ·   {scenario.duration:.1f} s   ·   {len(tracks.ids)} "
        f"{'track' if len(tracks.ids) == 1 else 'tracks'}   ·   {source.licence}"
    )
    line = figure.text(0.022, head + 0.02 * (side / (side + band)), facts, color=rgb(FAINT_INK),
                       size=14.5 * unit, va="center")  # fmt: skip
    # Names of licences are long: the line shrinks until it fits.
    line.set_fontsize(14.5 * unit * min(1.0, 0.956 * side / line.get_window_extent().width))
    figure.text(0.978, head + 0.055 * (side / (side + band)), f"t = {scenario.times[tick]:.1f} s",
                color=rgb(INK), size=18 * unit, ha="right", va="center")  # fmt: skip

    length = _round_length(view.span_m / 5)
    left, bottom = 0.025 * side, 0.972 * side
    right = left + length * view.pixels_per_meter
    axes.add_line(
        Line2D([left, right], [bottom, bottom], color=rgb(INK), lw=2.2 * unit, solid_capstyle="butt")
    )
    for x in (left, right):
        axes.add_line(Line2D([x, x], [bottom - 5, bottom + 5], color=rgb(INK), lw=2.2 * unit))
    axes.text((left + right) / 2, bottom - 10, f"{length:g} m", color=rgb(INK), size=14 * unit, ha="center",
              va="bottom")  # fmt: skip

    present = {ActorKind(kind) for kind in tracks.kind[tracks.valid[:, tick]]}
    handles: list[Patch | Line2D] = []
    if scenario.ego is not None:
        handles.append(Patch(color=rgb(EGO_COLOR), label="ego"))
        others = np.delete(tracks.kind, scenario.ego)[np.delete(tracks.valid[:, tick], scenario.ego)]
        present = {ActorKind(kind) for kind in others}
    if scenario.route is not None:
        handles.append(Line2D([], [], color=rgb(ROUTE_COLOR), lw=2 * unit, label="route"))
    handles += [Patch(color=rgb(ACTOR_COLORS[kind]), label=kind.name.lower()) for kind in sorted(present)]
    if handles:
        axes.legend(
            handles=handles, loc="lower right", fontsize=13.5 * unit, labelcolor=rgb(INK),
            facecolor=rgb(PAPER),
            edgecolor=rgb(GRID), framealpha=0.9, borderpad=0.7, handlelength=1.2, ncols=len(handles),
            columnspacing=1.2,
        )  # fmt: skip
    axes.set_xlim(0, side)
    axes.set_ylim(side, 0)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_picture(image: UInt8[ndarray, "height width 3"], path: str | Path) -> Path:
    """Write an RGB image to `path` (.png or .jpg) and return it; the folder is made if need be."""
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(
            f"cannot save a picture as {path.name!r}",
            got=path.suffix or "no ending",
            expected=".png or .jpg",
            fix="choose another name",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
        raise UserError(f"cannot write the picture {path}", fix="check that the folder can be written to")
    return path
