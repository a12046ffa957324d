"""A film of a world in which every car is driven by copies of one policy: from above, beside four cameras of one car."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray

from countersteer.drivers.interface import Driver
from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.policies.interface import Policy
from countersteer.reporting.canvas import FAINT, INK, PAGE, encode, shorten, write
from countersteer.reporting.drawing import SIGNAL_COLORS, BirdsEye
from countersteer.reporting.pages import require_ending
from countersteer.rollouts.driving import Rollouter
from countersteer.scenarios.scenario import ActorKind, Scenario
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.simulation.spec import BoxWorldSpec
from countersteer.worlds.world import World

__all__ = ["film_population"]

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


def film_population(
    spec: BoxWorldSpec,
    scenario: Scenario,
    driver: Driver,
    policy: Policy | None,
    *,
    title: str,
    path: str | Path,
    seed: int = 0,
    span: float = 110.0,
) -> Path:
    """Drive one world and film it, 1280 x 720 pixels, one frame a tick, in real time.

    Args:
        spec: Of the world; gets the cameras of the policy.
        scenario: Where.
        driver, policy: Who drives all cars.
        title: What drives.
        path: The film (.mp4).
        seed: Of the start.
        span: Side of the view from above [m]; it stays where the cars begin.

    Raises:
        UserError: No car can begin, or the path is not an .mp4.
    """
    path = Path(path)
    require_ending(path, "film", ".mp4")
    world = spec.build([scenario], 1, seed)
    driving = Rollouter(world, driver, policy, None, seed)
    driving.begin(torch.ones(1, dtype=torch.bool), world.draw_starts(torch.tensor([seed])))
    begun = world.alive()[0].nonzero()[:, 0].tolist()
    if not begun:
        raise UserError(
            f"nobody can begin in scenario {scenario.id!r}",
            got="every car stands off the road, upon another one, or has nowhere to go",
            expected="at least one car with a goal ahead",
            fix="film another scenario",
        )
    frames = list(_frames(world, driving, scenario, begun, title, span))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(frames, round(1 / world.dt), _SIZE))
    return path


def _frames(world: World, driving: Rollouter, scenario: Scenario, begun: list[int], title: str, span: float):
    middle, ego = _middle(world, begun)
    above = BirdsEye(scenario.road, (float(middle[0]), float(middle[1])), span, _ABOVE)
    cameras = [
        (Camera(name, place[2], place[3], math.radians(80), (1.5 if yaw == 0 else 0.8, 0.0, 1.5), yaw=yaw, pitch=0.08),
         name, place)
        for name, yaw, place in _VIEWS
    ]  # fmt: skip
    trails: list[ndarray] = []
    ended = dict.fromkeys(begun, None)
    for tick in range(round(world.spec.duration / world.dt)):
        boxes = world.boxes()[0]
        alive = world.alive()[0]
        for slot in begun:
            if not alive[slot] and ended[slot] is None:
                ended[slot] = tick
        trails = [*trails, boxes[begun, :2]][-_TRAIL:]
        causes = {slot: TerminationReason(int(world.state.cause[0, slot])) for slot in begun}
        yield _frame(world, scenario, above, cameras, boxes, trails, begun, ego, causes, ended, tick, title)
        last = [at for at in ended.values() if at is not None]
        if len(last) == len(begun) and tick > max(last) + _LINGER // 2:
            return
        driving.tick()


def _middle(world: World, begun: list[int]) -> tuple[ndarray, int]:
    """Where most ways meet, and the car that drives there from some way off."""
    state, paths = world.state, world.bank.path[0].double().numpy()
    ways = {}
    for slot in begun:
        arc, goal = (float(value[0, slot]) for value in (state.arc, state.goal_arc))
        ways[slot] = paths[slot, round(arc) : round(goal) + 1, :2]
    points = np.concatenate(list(ways.values()))
    # The point of a way that has most ways within 20 m.
    meeting = sum(
        (np.linalg.norm(points[:, None] - way[None], axis=-1).min(1) < 20.0) for way in ways.values()
    )
    middle = points[np.argmax(meeting)]

    def fit(slot: int) -> float:
        gap = np.linalg.norm(ways[slot] - middle, axis=1)
        return gap.min() + abs(gap[0] - 40.0) / 4

    return middle, min(ways, key=fit)


def _frame(
    world: World, scenario: Scenario, above: BirdsEye, cameras, boxes: ndarray, trails: list[ndarray],
    begun: list[int], ego: int, causes: dict[int, TerminationReason], ended: dict, tick: int, title: str,
) -> UInt8[ndarray, "720 1280 3"]:  # fmt: skip
    image = np.full((_SIZE[1], _SIZE[0], 3), PAGE, np.uint8)
    view = above.background()
    shown = [s for s in begun if ended[s] is None or tick < ended[s] + _LINGER]
    for number, slot in enumerate(begun):
        if slot in shown and len(trails) > 1:
            points = np.stack([trail[number] for trail in trails])
            above.draw_path(view, points, _FIRST if slot == ego else _COPY, width=2, opacity=0.5)
    lights = world.bank.light[0, :, int(world.state.tick[0])]
    for stop, light in zip(world.bank.stop_point[0].numpy(), lights.tolist(), strict=True):
        column, row = above.pixels_of(stop.astype(float)).astype(int)
        if 0 <= column < _ABOVE and 0 <= row < _ABOVE and light in SIGNAL_COLORS:
            view[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = SIGNAL_COLORS[light]
    others = [k for k in range(len(boxes)) if k not in begun and boxes[k, 6] >= 0 and k >= world.agents]
    rows = others + shown

    def color(slot: int) -> tuple[int, int, int]:
        if slot in others:
            return _OTHER
        if ended[slot] is not None:
            return _ENDS.get(causes[slot], _FAILED)
        return _FIRST if slot == ego else _COPY

    above.draw_boxes(view, boxes[rows, :2], boxes[rows, 2], boxes[rows, 3:5], [color(k) for k in rows])
    image[:, :_ABOVE] = view
    write(image, shorten(title, 17, _SIZE[0] - 732 - 12, bold=True), (732, 34), 17, INK, bold=True)
    for camera, name, (x, y, width, height) in cameras:
        rgb = world.images(camera).rgb
        assert rgb is not None
        picture = rgb[ego].numpy()
        image[y : y + height, x : x + width] = picture if ended[ego] is None else picture // 3
        write(image, name, (x, y + height + 18), 13, FAINT)
    reached = sum(causes[s] == TerminationReason.GOAL for s in begun)
    failed = sum(
        ended[s] is not None and causes[s] not in (TerminationReason.GOAL, TerminationReason.TIME)
        for s in begun
    )
    legend = (
        (f"{tick * world.dt:4.1f} s", INK),
        (f"{sum(e is None for e in ended.values())} copies driving", _COPY),
        (f"{reached} at their goal", _ENDS[TerminationReason.GOAL]),
        (f"{failed} failed", _FAILED if failed else FAINT),
    )
    for line, (words, ink) in enumerate(legend):
        write(image, words, (1010, 540 + 26 * line), 15, ink)
    write(image, "amber: the car whose cameras are shown; blue: other copies", (732, 706), 12, FAINT)
    kinds = {ActorKind(int(boxes[k, 6])).name.lower() for k in others}
    if kinds:
        write(image, f"grey: as recorded ({', '.join(sorted(kinds))})", (732, 688), 12, FAINT)
    return image
