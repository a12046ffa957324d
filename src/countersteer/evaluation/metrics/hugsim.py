"""HUGSIM's HD-Score (Zhou et al. 2024): the plans of a drive, not the drive itself, times route completion.

Reference: github.com/hyzhou404/HUGSIM 62c690d, `sim/utils/score_calculator.py`. At each tick with a plan

    s = NC DAC (5 TTC + 2 COM) / 7,    HD = min(1, max Rc) mean(s).

Peculiarities that ours shares: lateral acceleration counts as 0; the longitudinal jerk may reach 8.37, not 4.13
m/s^3; bounds include their ends; drivable cover of 4 cells is 0, 0.25, ... 1, so a sub-score of 0.5 between
0.3 and 0.5 never occurs; progress exists in the reference's code but not in its score.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics import comfort
from countersteer.evaluation.metrics.areas import contained
from countersteer.evaluation.metrics.contacts import boxes_touch, on_one_level
from countersteer.evaluation.metrics.drive import Drive
from countersteer.evaluation.metrics.evidence import Finding, Score
from countersteer.geometry import polygons, polylines
from countersteer.geometry.poses import local_from_world, wrap_angle
from countersteer.scenarios.scenario import ActorKind

__all__ = ["Background", "HdParts", "PlanParts", "cover_score", "hd_score", "plan_score", "score_hd"]

HUGSIM_BOUNDS = dataclasses.replace(comfort.NUPLAN_BOUNDS, longitudinal_jerk=comfort.Interval.around(8.37))


@dataclass(frozen=True)
class PlanParts:
    """Sub-scores of one plan.

    Attributes:
        no_collision: 0 or 1.
        drivable_area: 0, 0.5 or 1.
        time_to_collision: 0 or 1.
        comfort: 0 or 1.
    """

    no_collision: float
    drivable_area: float
    time_to_collision: float
    comfort: float


@dataclass(frozen=True)
class HdParts:
    """What an HD-Score is made of.

    Attributes:
        completion: Largest share of the route that was reached, in [0, 1].
        plans: Sub-scores of each plan.
    """

    completion: float
    plans: tuple[PlanParts, ...]


@dataclass(frozen=True)
class Background:
    """The scene as points, where there are no boxes or map polygons.

    Attributes:
        ground: Points of the drivable ground [m, world].
        scene: Points of everything else [m, world].
        floor: Height of the ground below the ego [m, world].
        height: Height of the ego's box [m].
    """

    ground: Float[ndarray, "n 2"]
    scene: Float[ndarray, "m 3"]
    floor: float = 0.0
    height: float = 1.5


def plan_score(parts: PlanParts) -> float:
    """NC DAC (5 TTC + 2 COM) / 7."""
    return parts.no_collision * parts.drivable_area * (5 * parts.time_to_collision + 2 * parts.comfort) / 7


def hd_score(parts: HdParts) -> float:
    """min(1, Rc) times the mean plan score.

    Raises:
        UserError: If there is no plan.
    """
    if not parts.plans:
        raise UserError("an HD-Score needs plans", got="none", expected="at least one plan of two points")
    return min(1.0, parts.completion) * float(np.mean([plan_score(plan) for plan in parts.plans]))


def cover_score(cover: float) -> float:
    """Sub-score of the share of the car's box that lies on drivable ground: 0 below 0.3, 0.5 below 0.5."""
    return 0.0 if cover < 0.3 else 0.5 if cover < 0.5 else 1.0


_QUARTERS = np.array([[along, aside] for along in (-0.25, 0.25) for aside in (-0.25, 0.25)])
"""Middles of the quarters of a box, in lengths and widths."""


def _cover(
    drive: Drive, path: Float[ndarray, "n 2"], heading: Float[ndarray, "n"], background: Background | None
) -> Float[ndarray, "n"]:
    """Share of the box's four quarters that hold drivable ground, at each point of a path."""
    size = np.array(drive.size)
    if background is not None:
        held = np.zeros((len(path), 4), bool)
        for k, place in enumerate(path):
            points = local_from_world(background.ground, place, np.array(heading[k]))
            within = np.abs(points - (_QUARTERS * size)[:, None]) < size / 4
            held[k] = within.all(-1).any(-1)
        return held.mean(-1)
    way = np.stack([np.cos(heading), np.sin(heading)], -1)[:, None]
    left = np.stack([-way[..., 1], way[..., 0]], -1)
    along, aside = np.split(_QUARTERS * size, 2, axis=1)
    middle = path[:, None] + along * way + aside * left
    turned = np.broadcast_to(heading[:, None], middle.shape[:-1])
    cells = polygons.rectangle(middle, turned, np.broadcast_to(size / 2, middle.shape))
    # A corner on the ground is enough, and asked of all at once; the rest may still cross an edge of it.
    held = np.asarray(contained(drive.road.drivable, cells).any((-1, -2)))
    for k, quarter in zip(*np.nonzero(~held), strict=True):
        held[k, quarter] = any(polygons.overlap(area, cells[k, quarter]) for area in drive.road.drivable)
    return held.mean(-1)


def _collides(
    drive: Drive, path: ndarray, headings: ndarray, ticks: ndarray, background: Background | None
) -> tuple[int, tuple[int, ...]] | None:
    """First point of a path at which the box meets a car or the background, and whom."""
    tracks = drive.actors
    cars = np.flatnonzero(tracks.kind == ActorKind.VEHICLE)
    if not len(cars) and background is None:
        return None
    met = on_one_level(drive)
    for k, tick in enumerate(ticks):
        shape = (len(cars), 2)
        hits = (
            tracks.valid[cars, tick]
            & met[tick, cars]
            & boxes_touch(
                np.broadcast_to(path[k], shape),
                np.full(len(cars), headings[k]),
                np.broadcast_to(np.array(drive.size), shape),
                np.nan_to_num(tracks.position[cars, tick, :2]),
                np.nan_to_num(tracks.heading[cars, tick]),
                tracks.size[cars, :2],
            )
        )
        if hits.any():
            return k, tuple(int(car) for car in cars[hits])
        if background is not None:
            flat = np.abs(local_from_world(background.scene[:, :2], path[k], np.array(headings[k])))
            level = background.scene[:, 2] - background.floor
            inside = (flat < np.array(drive.size) / 2).all(1) & (level > 0) & (level < background.height)
            if inside.sum() > 100:
                return k, ()
    return None


def plan_signals(
    path: Float[ndarray, "n 2"], headings: Float[ndarray, "n"], dt: float
) -> comfort.ComfortSignals:
    """Plain differences of a plan, without smoothing."""
    speed = np.linalg.norm(np.diff(path, axis=0), axis=1) / dt
    acceleration = np.diff(speed) / dt
    turning = wrap_angle(np.diff(headings)) / dt
    return comfort.ComfortSignals(
        longitudinal_acceleration=acceleration,
        lateral_acceleration=np.zeros_like(acceleration),
        jerk_magnitude=np.zeros(0),
        longitudinal_jerk=np.diff(acceleration) / dt,
        yaw_acceleration=np.diff(turning) / dt,
        yaw_rate=turning,
    )


def _plan_parts(drive: Drive, row: int, background: Background | None) -> tuple[PlanParts, list[Finding]]:
    plans = drive.plans
    assert plans is not None
    tick, step = int(plans.tick[row]), float(plans.ahead[0])
    headings = np.append(drive.ego.heading[tick], plans.heading[row])
    way = np.stack([np.cos(headings), np.sin(headings)], -1)
    path = np.concatenate([drive.ego.position[tick : tick + 1], plans.position[row]]) + drive.ahead * way
    if np.linalg.norm(path[-1] - path[0]) < 1.0:
        # A standing car's planned headings are noise.
        headings = np.full_like(headings, headings[0])
    # Past the end of the drive, others stay where they were last.
    ticks = np.minimum(
        tick + np.round(np.arange(len(path)) * step / drive.dt).astype(int), len(drive.times) - 1
    )
    found: list[Finding] = []

    hit = _collides(drive, path, headings, ticks, background)
    if hit is not None:
        found.append(Finding("no_collision", tick, hit[1], hit[0] * step, "seconds ahead"))
    covers = [cover_score(float(cover)) for cover in _cover(drive, path, headings, background)]
    if min(covers) < 1.0:
        found.append(
            Finding("drivable_area", tick, value=int(np.argmin(covers)) * step, note="seconds ahead")
        )
    velocity = np.diff(path, axis=0) / step
    velocity = np.concatenate([velocity[:1], velocity])
    safe = True
    for seconds in (0.5, 1.0):
        near = _collides(drive, path + seconds * velocity, headings, ticks, background)
        if near is not None:
            safe = False
            found.append(Finding("time_to_collision", tick, near[1], seconds, "seconds left"))
            break
    rough: tuple[Finding, ...] = ()
    if len(path) >= 4:
        rough = comfort.violations(plan_signals(path, headings, step), HUGSIM_BOUNDS, inclusive=True)
        found += [dataclasses.replace(f, tick=tick) for f in rough]
    parts = PlanParts(float(hit is None), min(covers), float(safe), float(not rough))
    return parts, found


def score_hd(drive: Drive, background: Background | None = None) -> Score[HdParts]:
    """HD-Score of a drive, in [0, 1].

    Args:
        drive: With plans whose points are equally spaced in time, a route, and the other road users. Its route begins
            where the drive does.
        background: Point clouds to collide with and to drive on; None to use boxes and map polygons.

    Raises:
        UserError: If there are no plans of two points or no route.
    """
    plans = drive.plans
    drive.needs(plans=plans, route=drive.route)
    assert plans is not None
    assert drive.route is not None
    if len(plans.ahead) < 2 or np.ptp(np.diff(np.append(0.0, plans.ahead))) > 1e-6:
        raise UserError(
            "an HD-Score needs plans with equal steps",
            got=f"points at {plans.ahead.tolist()} s",
            expected="two or more points, equally spaced from now on",
        )
    s, _ = polylines.follow(drive.route, drive.center)
    completion = min(1.0, float(s.max() / polylines.arc_length(drive.route)[-1]))
    judged = [_plan_parts(drive, row, background) for row in range(len(plans.tick))]
    found = [finding for _, some in judged for finding in some]
    if completion < 1.0:
        found.append(Finding("completion", None, value=completion, note="of the route"))
    parts = HdParts(completion, tuple(one for one, _ in judged))
    return Score(hd_score(parts), parts, tuple(found))
