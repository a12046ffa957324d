"""Figures of scenarios: the view from above with title, scale bar and legend, as RGB `uint8 [height width 3]`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from numpy import ndarray

from countersteer.errors import UserError, shown, writing
from countersteer.reporting.birds_eye import (
    ACTOR_COLORS,
    ASPHALT,
    EGO_COLOR,
    GRID,
    PAPER,
    ROUTE_COLOR,
    SIGNAL_COLORS,
    BirdsEye,
    Canvas,
    mix,
    round_length,
)
from countersteer.reporting.canvas import Color
from countersteer.scenarios.scenario import ActorKind, Scenario

__all__ = ["draw_scenario", "save_picture"]

INK: Color = (232, 235, 240)
FAINT_INK: Color = (150, 158, 170)


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
            Canvas(image).stroke(
                view.pixels_of(tracks.position[actor, seen, :2]), mix(color, ASPHALT, 0.55), 1
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
        Canvas(image).disc(view.pixels_of(tracks.position[ego, tick, :2]), 9.0, EGO_COLOR, width=2)
    return _frame(view, image, scenario, tick)


def _draw_signals(view: BirdsEye, image: ndarray, scenario: Scenario, tick: int) -> None:
    canvas, signals = Canvas(image), scenario.signals
    for point, heading, state in zip(
        signals.stop_point, signals.heading, signals.state[:, tick], strict=True
    ):
        if np.isnan(heading):
            canvas.disc(
                view.pixels_of(point[:2]), max(0.8 * view.pixels_per_meter, 3.0), SIGNAL_COLORS[int(state)]
            )
            continue
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
    name = shown(scenario.id)
    name = name if len(name) <= 48 else name[:47] + "…"
    figure.text(
        0.022, head + 0.055 * (side / (side + band)), name, color=rgb(INK), size=21 * unit, weight="bold",
        va="center", parse_math=False,
    )  # fmt: skip
    facts = shown(
        f"{source.source}   ·   {scenario.duration:.1f} s   ·   {len(tracks.ids)} "
        f"{'track' if len(tracks.ids) == 1 else 'tracks'}   ·   {source.licence}"
    )
    line = figure.text(0.022, head + 0.02 * (side / (side + band)), facts, color=rgb(FAINT_INK),
                       size=14.5 * unit, va="center", parse_math=False)  # fmt: skip
    # Names of licences are long: the line shrinks until it fits.
    line.set_fontsize(14.5 * unit * min(1.0, 0.956 * side / line.get_window_extent().width))
    figure.text(0.978, head + 0.055 * (side / (side + band)), f"t = {scenario.times[tick]:.1f} s",
                color=rgb(INK), size=18 * unit, ha="right", va="center")  # fmt: skip

    length = round_length(view.span_m / 5)
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
    with writing(f"the picture {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            raise OSError("the picture was not written")
    return path
