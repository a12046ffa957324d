"""One miniature for each sub-score of each benchmark: a drive in which little but it goes wrong, and what that costs.

Every row can be checked on paper. The car's box is 4 x 2 m, its centre 1 m ahead of its axle; it drives 10 m/s along +x
from x = 0 for 4 s, so its centre goes from 1 to 41 m. Lanes are 4 m wide, around y = 0 and 4; the road ends at -2 and 6.
A new sub-score needs a row here: `test_every_sub_score_has_its_miniature`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from countersteer.evaluation.metrics import (
    alpasim,
    bench2drive,
    carla,
    comfort,
    displacement,
    hugsim,
    navsim,
    nuplan,
    rad,
    rater_feedback,
    realism,
)
from countersteer.evaluation.metrics.carla import Infractions, Leaderboard
from countersteer.evaluation.metrics.drive import Drive, Motion, Plans, RedLight, Road
from countersteer.evaluation.metrics.evidence import Score
from countersteer.scenarios.scenario import ActorKind, Tracks
from drives import ROAD, ROUTE, actor, box, lane, moving, steady, straight


@dataclass(frozen=True)
class Row:
    """A drive and its score.

    Attributes:
        part: The sub-score it is about.
        scored: Gives the score.
        parts: Every sub-score that is not the best, by hand.
        value: The score, by hand.
    """

    part: str
    scored: Callable[[], Score[Any]]
    parts: dict[str, float]
    value: float


# --- the drives ----------------------------------------------------------------------------------

OFF_ROUTE = Road(ROAD.drivable, (lane("right", 0.0), lane("left", 4.0, on_route=False)))
AGAINST = Road(ROAD.drivable, (lane("against", 0.0, back=True),))
SLOW_ZONE = Road(ROAD.drivable, (lane("right", 0.0, limit=9.0), lane("left", 4.0)))
LIGHT = RedLight(box(20, 24, -2, 2), np.ones(41, bool))


def accelerating(drive: Drive, forward: float = 0.0, left: float = 0.0) -> Drive:
    """The drive with a recorded acceleration [m/s^2]; it moves as before."""
    values = np.tile([forward, left], (len(drive.times), 1))
    return dataclasses.replace(drive, ego=moving(drive.ego, acceleration=values))


def barrier() -> Drive:
    """A barrier from x = 19.95 on, which the front, at 3 + 10 t, reaches at 1.695 s."""
    return actor(straight(), x=20.2, kind=ActorKind.STATIC, size=(0.5, 0.5))


def stopped_short() -> Drive:
    """At 10 m/s until 0.5 s, then it stands with its front at 8 m; a parked car's rear is at 16.5 m.

    At 0.5 s 8.5 m are left, 0.85 s at 10 m/s; at 0.4 s 9.5 m, so 0.95 s.
    """
    still = np.arange(41) > 5
    ego = straight().ego
    position, velocity = ego.position.copy(), ego.velocity.copy()
    position[still], velocity[still] = position[5], 0.0
    return actor(straight(ego=moving(ego, position=position, velocity=velocity)), x=18.5)


def beside(drive: Drive, expert: Motion | None = None, **steadily: float) -> Drive:
    """The drive beside a recorded one, along the same lane at 10 m/s unless said otherwise."""
    return dataclasses.replace(drive, expert=expert or steady(len(drive.times), drive.dt, **steadily))


def pdms(drive: Drive, reference: Drive | None = None) -> Callable[[], Score[Any]]:
    return lambda: navsim.score_pdms(drive, reference)


def epdms(drive: Drive, reference: Drive | None = None, **more: Any) -> Callable[[], Score[Any]]:
    return lambda: navsim.score_epdms(drive, reference, **more)


def closed(drive: Drive) -> Callable[[], Score[Any]]:
    return lambda: nuplan.score_closed_loop(drive)


def aside(y: float, **more: Any) -> Drive:
    """Along a route at y."""
    return straight(y=y, route=ROUTE + np.array([0.0, y]), **more)


# --- NAVSIM: (5 TTC + 5 EP + 2 C) / 12, and (5 EP + 5 TTC + 2 LK + 2 HC [+ 2 EC]) / 14 [/ 16] ---------------

PDMS = [
    # A barrier costs half; it is ahead of the car, so TTC is lost too: 0.5 x (5 + 2) / 12.
    Row("no_collision", pdms(barrier()), {"no_collision": 0.5, "time_to_collision": 0.0}, 0.5 * 7 / 12),
    # Right corners at -2.5. v1 counts no metres of who scores 0.
    Row("drivable_area", pdms(aside(-1.5)), {"drivable_area": 0.0, "progress": 0.0}, 0.0),
    # At 0.5 s, another 0.9 s reach from 8 to 17 m, 0.5 m into the parked car: (5 EP + 2) / 12.
    Row("time_to_collision", pdms(stopped_short()), {"time_to_collision": 0.0}, 7 / 12),
    # 40 m against 80: (5 + 2.5 + 2) / 12.
    Row("progress", pdms(straight(), straight(speed=20.0)), {"progress": 0.5}, 9.5 / 12),
    # 3 m/s^2 where 2.40 are allowed: (5 + 5) / 12.
    Row("comfort", pdms(accelerating(straight(), 3.0)), {"comfort": 0.0}, 10 / 12),
    # 10 m/s off the route: 11 m in a second, but in v1 that weighs nothing.
    Row("driving_direction", pdms(aside(4.0, road=OFF_ROUTE)), {"driving_direction": 0.0}, 1.0),
]
EPDMS = [
    Row("no_collision", epdms(barrier()), {"no_collision": 0.5, "time_to_collision": 0.0}, 0.5 * 9 / 14),
    Row("drivable_area", epdms(aside(-1.5)), {"drivable_area": 0.0}, 0.0),
    # 3 m/s: eleven steps of 0.3 m within a second, between 2 and 6 m.
    Row(
        "driving_direction",
        epdms(aside(4.0, road=OFF_ROUTE, speed=3.0)),
        {"driving_direction": 0.5},
        0.5,
    ),
    Row("traffic_light", epdms(straight(red_lights=(LIGHT,))), {"traffic_light": 0.0}, 0.0),
    Row("progress", epdms(straight(), straight(speed=20.0)), {"progress": 0.5}, 11.5 / 14),
    Row("time_to_collision", epdms(stopped_short()), {"time_to_collision": 0.0}, 9 / 14),
    # 0.6 m beside the route for 4 s, where 0.5 m may not be left for 2 s.
    Row("lane_keeping", epdms(straight(y=0.6)), {"lane_keeping": 0.0}, 12 / 14),
    # 3 m/s^2 before the plan began.
    Row(
        "history_comfort",
        epdms(straight(history=moving(steady(15, 0.1, x=-15.0), acceleration=np.tile([3.0, 0.0], (15, 1))))),
        {"history_comfort": 0.0},
        12 / 14,
    ),
    # The plan of half a second ago accelerated at 1 m/s^2, this one does not: 1 is more than 0.7.
    Row(
        "extended_comfort",
        epdms(straight(), before=moving(steady(36, 0.1), acceleration=np.tile([1.0, 0.0], (36, 1)))),
        {"extended_comfort": 0.0},
        14 / 16,
    ),
]

# --- nuPlan: (5 EP + 5 TTC + 4 SL + 2 C) / 16, its open loop: (ADE + FDE + 2 AHE + 2 FHE) / 6 -----------------

NUPLAN = [
    Row(
        "no_collision",
        closed(beside(barrier())),
        {"no_collision": 0.5, "time_to_collision": 0.0},
        0.5 * 11 / 16,
    ),
    # Right corners 0.4 m off the road; 0.3 m are forgiven.
    Row("drivable_area", closed(beside(straight(y=-1.4))), {"drivable_area": 0.0}, 0.0),
    # 4 of 40 m are less than a fifth.
    Row(
        "making_progress",
        closed(beside(straight(speed=1.0))),
        {"making_progress": 0.0, "progress": 0.1},
        0.0,
    ),
    # 3 m/s against the lane: 3.3 m within a second, between 2 and 6.
    Row(
        "driving_direction",
        closed(beside(straight(speed=3.0, road=AGAINST), speed=3.0)),
        {"driving_direction": 0.5},
        0.5,
    ),
    # 20 of 40 m: (2.5 + 5 + 4 + 2) / 16.
    Row("progress", closed(beside(straight(speed=5.0))), {"progress": 0.5}, 13.5 / 16),
    # 0.85 s left, seen as 0.9; 0.95 are asked for.
    Row(
        "time_to_collision",
        closed(beside(stopped_short(), stopped_short().ego)),
        {"time_to_collision": 0.0},
        11 / 16,
    ),
    # 1 m/s too fast for 41 samples of 0.1 s, 4.1 m, over 2.23 m/s x 4 s.
    Row(
        "speed_limit",
        closed(beside(straight(road=SLOW_ZONE))),
        {"speed_limit": 1 - 4.1 / 8.92},
        (12 + 4 * (1 - 4.1 / 8.92)) / 16,
    ),
    Row("comfort", closed(beside(accelerating(straight(), 3.0))), {"comfort": 0.0}, 14 / 16),
]


def plans_off(*metres: float, turned: float = 0.0, last: float | None = None) -> Callable[[], Score[Any]]:
    """Ten plans; the first are so far off at all of 1 to 8 s, the others exact. `last` is at 3, 5, and 8 s instead."""
    error = np.zeros((10, 8))
    error[: len(metres)] = np.array(metres)[:, None] if metres else error[:0]
    heading = np.full((10, 8), turned)
    if last is not None:
        heading[:, [2, 4, 7]] = last
    return lambda: nuplan.score_open_loop(error, heading)


OPEN_LOOP = [
    # 40 % of the plans are 20 m away at once. Mean 8 m, so nothing is left of ADE and FDE either: headings alone 4 / 6.
    Row(
        "miss_rate",
        plans_off(20.0, 20.0, 20.0, 20.0),
        {"miss_rate": 0.0, "average_displacement": 0.0, "final_displacement": 0.0},
        0.0,
    ),
    # All 4 m off, all the time: half of ADE and FDE: (0.5 + 0.5 + 4) / 6; 4 m miss nothing.
    *(
        Row(part, plans_off(*[4.0] * 10), {"average_displacement": 0.5, "final_displacement": 0.5}, 5 / 6)
        for part in ("average_displacement", "final_displacement")
    ),
    # 0.2 of 0.8 rad off: (1 + 1 + 2 x 0.75 + 2 x 0.75) / 6.
    Row(
        "average_heading",
        plans_off(turned=0.2),
        {"average_heading": 0.75, "final_heading": 0.75},
        5 / 6,
    ),
    # 0.4 rad off, but right where it is asked: means over 3, 5, 8 s of (2, 3, 5) x 0.4, so 0.4 x (2/3 + 3/5 + 5/8) / 3.
    Row(
        "final_heading",
        plans_off(turned=0.4, last=0.0),
        {"average_heading": 1 - 0.5 * (2 / 3 + 3 / 5 + 5 / 8) / 3},
        (4 + 2 * (1 - 0.5 * (2 / 3 + 3 / 5 + 5 / 8) / 3)) / 6,
    ),
]

# --- CARLA: 100 x completion x penalty ------------------------------------------------------------------------

CARLA = {
    # One infraction on a completed route: 1.0 and 2.0 multiply, 2.1 divides by 1 + the sum.
    "pedestrian_collisions": (1, 50.0, 50.0, 100 / 2.0),
    "vehicle_collisions": (1, 60.0, 60.0, 100 / 1.7),
    "static_collisions": (1, 65.0, 65.0, 100 / 1.6),
    "red_lights": (1, 70.0, 70.0, 100 / 1.4),
    "stop_signs": (1, 80.0, 80.0, 100 / 1.25),
    # Two of a kind: 0.7 x 0.7, and 1 / (1 + 0.4 + 0.4).
    "scenario_timeouts": (2, 100.0, 49.0, 100 / 1.8),
    "unyielded_emergencies": (1, 100.0, 70.0, 100 / 1.4),
    # Half the others' speed costs half of 0.3, and of 0.4.
    "minimum_speed": ((0.5,), 100.0, 85.0, 100 / 1.2),
    # A quarter of the way outside.
    "outside_lanes": (0.25, 75.0, 75.0, 75.0),
    # How the route ended shows in its completion alone.
    "route_deviation": (True, 100.0, 100.0, 100.0),
    "blocked": (True, 100.0, 100.0, 100.0),
    "route_timeout": (True, 100.0, 100.0, 100.0),
}

# --- HUGSIM: NC DAC (5 TTC + 2 COM) / 7 of each plan, times completion -----------------------------------------

WHOLE = np.array([[1.0, 0.0], [41.0, 0.0]])


def planning(
    drive: Drive, speeds: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0), *, y: float = 0.0, turns: tuple[float, ...] = (0.0,) * 4
) -> Drive:  # fmt: skip
    """The drive with one plan at its start: speeds [m/s] and turns [rad] of four half seconds, `y` [m] to the left."""
    along = np.cumsum(np.array(speeds) * 0.5)
    place = np.stack([along, np.full(4, y)], -1)
    plans = Plans(np.array([0]), np.arange(1, 5) * 0.5, place[None], np.cumsum(turns)[None])
    return dataclasses.replace(drive, plans=plans, route=WHOLE)


def hd(drive: Drive) -> Callable[[], Score[Any]]:
    return lambda: hugsim.score_hd(drive)


HUGSIM = [
    # The plan's centre ends at 21 m, a car's is at 21.2 m. Whoever collides now also does within a second.
    Row(
        "no_collision",
        hd(planning(actor(straight(), x=21.2))),
        {"no_collision": 0.0, "time_to_collision": 0.0},
        0.0,
    ),
    # 3.2 m to the right nothing of the box (-4.2 to -2.2 m) is on the road.
    Row("drivable_area", hd(planning(straight(), y=-3.2)), {"drivable_area": 0.0}, 0.0),
    # A car 6 m beyond the plan's end: 2 m between the boxes, which another second at 10 m/s covers: 2 / 7.
    Row("time_to_collision", hd(planning(actor(straight(), x=27.0))), {"time_to_collision": 0.0}, 2 / 7),
    # 5 m/s less in half a second: 5 / 7.
    Row("comfort", hd(planning(straight(), (10.0, 10.0, 10.0, 5.0))), {"comfort": 0.0}, 5 / 7),
]

# --- comfort: each of nuPlan's six bounds alone, which NAVSIM, nuPlan, Bench2Drive and HUGSIM share -------------


def ramp(slope: float, last: float) -> np.ndarray:
    """Six samples, 0.1 s apart, that end at `last`."""
    return last + slope * (np.arange(6) - 5) * 0.1


ZERO = np.zeros(6)
BOUNDS: dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {
    # Just within and just beyond; all else is far from its bound. A parabola passes the smoothing as it is.
    "longitudinal acceleration": ({"forward": ZERO + 2.3}, {"forward": ZERO + 2.5}),
    "lateral acceleration": ({"left": ZERO + 4.8}, {"left": ZERO + 5.0}),
    # To the left 8.3 and 8.5 m/s^3, up to 4.25 m/s^2; the bound is 8.37.
    "jerk magnitude": ({"left": ramp(8.3, 4.15)}, {"left": ramp(8.5, 4.25)}),
    # Forward 4 and 4.3 m/s^3, up to 2.15 m/s^2; the bound is 4.13.
    "longitudinal jerk": ({"forward": ramp(4.0, 2.0)}, {"forward": ramp(4.3, 2.15)}),
    # Turning at 0.9 and at 1.0 rad/s; the bound is 0.95.
    "yaw rate": ({"turn": ramp(0.9, 0.0)}, {"turn": ramp(1.0, 0.0)}),
    # From -0.45 rad/s to 0.45 and from -0.5 to 0.5 in 0.5 s: 1.8 and 2.0 rad/s^2; the bound is 1.93.
    "yaw acceleration": (
        {"turn": 0.9 * ramp(1.0, 0.25) ** 2},
        {"turn": 1.0 * ramp(1.0, 0.25) ** 2},
    ),
}


def shaken(*, forward: np.ndarray = ZERO, left: np.ndarray = ZERO, turn: np.ndarray = ZERO) -> Motion:
    """Six samples of a motion with these accelerations [m/s^2] and this heading [rad]."""
    acceleration = np.stack([forward, left], -1)
    return moving(steady(6, 0.1), acceleration=acceleration, heading=turn, yaw_rate=np.gradient(turn, 0.1))


HUGSIM_BOUNDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # 1.15 and 1.25 m/s more each half second: 2.3 and 2.5 m/s^2, no jerk.
    "longitudinal acceleration": (
        {"speeds": (6.0, 7.15, 8.3, 9.45)},
        {"speeds": (6.0, 7.25, 8.5, 9.75)},
    ),
    # From -2 to 2.1 and to 2.3 m/s^2 in half a second: 8.2 and 8.6 m/s^3, where HUGSIM allows 8.37.
    "longitudinal jerk": ({"speeds": (9.0, 8.0, 9.05, 10.1)}, {"speeds": (9.0, 8.0, 9.15, 10.3)}),
    # 0.45 and 0.5 rad in half a second.
    "yaw rate": ({"turns": (0.45,) * 4}, {"turns": (0.5,) * 4}),
    # From -0.45 to 0.45 rad/s and from -0.5 to 0.5 in half a second: 1.8 and 2.0 rad/s^2.
    "yaw acceleration": (
        {"turns": (-0.225, -0.225, 0.225, 0.225)},
        {"turns": (-0.25, -0.25, 0.25, 0.25)},
    ),
}

# --- AlpaSim, RAD, displacement, ratings -----------------------------------------------------------------------


def scene(drive: Drive) -> Callable[[], Score[Any]]:
    return lambda: alpasim.score_scene(drive)


ALPASIM = [
    # 20 of 40 m, where 0.8 is enough.
    Row("progress", scene(beside(straight(speed=5.0))), {"progress": 0.5}, 0.5 / 0.8),
    # Of a path of 4 m nobody need drive any.
    Row("recorded", scene(beside(straight(speed=0.0), speed=1.0)), {"progress": 0.0, "recorded": 4.0}, 1.0),
    # Boxes of 3.92 m meet at 21 - 1 - 10 t < 3.92, from 1.61 s: 17 m on.
    Row(
        "collision_at_fault",
        scene(beside(actor(straight(), x=21.0))),
        {"collision_at_fault": True, "progress": 17 / 40},
        0.0,
    ),
    # Right corners at -2.5, over the edge at -2, from the first tick on.
    Row("off_road", scene(beside(straight(y=-1.5))), {"off_road": True, "progress": 0.0}, 0.0),
]


def clip(drive: Drive) -> Callable[[], rad.RadParts]:
    """RAD's numbers of four clips: this one and three clean ones."""
    clean = rad.score_clip(beside(straight())).parts
    return lambda: rad.ratios([rad.score_clip(beside(drive)).parts, clean, clean, clean])


def alternating(axis: int) -> Drive:
    """An acceleration that is 0 and 1 m/s^2 in turn: 10 m/s^3 either way."""
    values = np.zeros((41, 2))
    values[:, axis] = np.arange(41) % 2
    return straight(ego=moving(steady(41, 0.1), acceleration=values))


RAD: dict[str, tuple[Callable[[], rad.RadParts], float]] = {
    "dynamic_collision": (clip(actor(straight(), x=21.2)), 0.25),
    "static_collision": (clip(actor(straight(), x=21.2, kind=ActorKind.STATIC)), 0.25),
    # 2.1 m beside the expert's path; 2 are allowed.
    "position_deviation": (clip(straight(y=2.1)), 0.25),
    # 0.7 rad are 40.1 degrees.
    "heading_deviation": (clip(straight(ego=moving(steady(41, 0.1), heading=np.full(41, 0.7)))), 0.25),
    # 1.6 m in one clip of four.
    "deviation": (clip(straight(y=1.6)), 0.4),
    "longitudinal_jerk": (clip(alternating(0)), 2.5),
    "lateral_jerk": (clip(alternating(1)), 2.5),
}

AT_2_MPS = np.stack([np.arange(1, 21) * 0.5, np.zeros(20)], -1)


def rated(along: float, left: float, floor: float = 0.0) -> float:
    """RFS of a plan that is a trajectory rated 10, moved; the start speed is 11 m/s."""
    plan = AT_2_MPS + np.array([along, left])
    return rater_feedback.score_rater_feedback(
        plan[None], np.ones(1), [AT_2_MPS], np.array([10.0]), 11.0, floor=floor
    ).value


RATINGS = [
    # Half widths: to the side 1 and 1.8 m, along 4 and 7.2 m, at 3 and 5 s.
    ("within, to the side", {"along": 0.0, "left": 1.0}, 10.0),
    ("within, along", {"along": 4.0, "left": 0.0}, 10.0),
    # 1.8 m is 1.8 and 1 half widths: 10 x (0.1^0.8 + 1) / 2; the same of 7.2 m along.
    ("beyond, to the side, at 3 s", {"along": 0.0, "left": 1.8}, 5 * (0.1**0.8 + 1)),
    ("beyond, along, at 3 s", {"along": 7.2, "left": 0.0}, 5 * (0.1**0.8 + 1)),
    # 3.6 m: 3.6 and 2 half widths; what counts is the larger of both directions, not their sum.
    ("beyond at both times", {"along": 0.0, "left": 3.6}, 5 * (0.1**2.6 + 0.1)),
    ("beyond both ways", {"along": 7.2, "left": 3.6}, 5 * (0.1**2.6 + 0.1)),
    ("the floor", {"along": 0.0, "left": 9.0, "floor": 4.0}, 4.0),
]


# --- WOSAC: of two rollouts one repeats the log, the other falls into another bin --------------------------------


def one_car(*, speed: float = 11.0, y: float = 0.0, gains: float = 0.0, turn: np.ndarray | None = None, leader: tuple[float, float] = (10.0, 11.0)) -> realism.AgentFeatures:  # fmt: skip
    """Features over 0.8 s of a car along +x that `gains` [m/s^2]; a leader's centre starts at x and keeps its speed."""
    count = 9
    drive = actor(actor(straight(count=count), x=0.0, y=y, vx=speed), x=leader[0], y=y, vx=leader[1])
    tracks: Tracks = drive.actors
    position, heading = tracks.position.copy(), tracks.heading.copy()
    position[0, :, 0] += gains / 2 * drive.times**2
    if turn is not None:
        heading[0] = turn
    tracks = dataclasses.replace(tracks, position=position, heading=heading)
    return realism.agent_features(tracks, 0.1, ROAD, np.array([0]))


SECONDS = np.arange(9) * 0.1
FAR = one_car(leader=(30.0, 11.0))
WOSAC: dict[str, tuple[realism.AgentFeatures, realism.AgentFeatures, float]] = {
    # Of 9 steps 7 have a speed and 5 an acceleration; a bin's share is (7 + 0.1) of 14 + 10 x 0.1, or of 11 bins.
    # 11 m/s are in the bin of 10 to 12.5, 21 m/s are not.
    "linear_speed": (one_car(), one_car(speed=21.0, leader=(10.0, 21.0)), 7.1 / 15.0),
    # 0 and 5 m/s^2; bins are 2.18 wide.
    "linear_acceleration": (one_car(), one_car(gains=5.0), 5.1 / 11.1),
    # 0 and 0.3 rad/s; bins are 0.11 wide.
    "angular_speed": (one_car(), one_car(turn=0.3 * SECONDS), 7.1 / 15.1),
    # 0 and 1 rad/s^2; bins are 0.57 wide.
    "angular_acceleration": (one_car(), one_car(turn=0.5 * SECONDS**2), 5.1 / 11.1),
    # 6 m and 26 m at all 9 steps; bins are 4.5 wide.
    "distance_to_nearest_object": (one_car(), FAR, 9.1 / 19.0),
    # In the second the cars overlap by a metre: (1 + 0.001) of 2 + 0.002.
    "collision_indication": (one_car(), one_car(leader=(3.0, 11.0)), 0.5),
    # At the cap of 5 s, and closing at 4 m/s over 6 m: 1.4 to 0.8 s.
    "time_to_collision": (one_car(), one_car(leader=(10.0, 7.0)), 7.1 / 15.0),
    # A metre on the road, and, 12 m to the left, 7 m off it; bins are 6 wide.
    "distance_to_road_edge": (one_car(), one_car(y=12.0), 9.1 / 19.0),
    "offroad_indication": (one_car(), one_car(y=12.0), 0.5),
    "traffic_light_violation": (
        one_car(),
        dataclasses.replace(one_car(), red_light=np.ones((1, 9), bool)),
        0.5,
    ),
}


# --- what holds of all rows --------------------------------------------------------------------------------------

TABLES: dict[str, tuple[list[Row], Any]] = {
    "PDMS": (PDMS, navsim.PdmsParts(*[1.0] * 5)),
    "EPDMS": (EPDMS, navsim.EpdmsParts(*[1.0] * 8)),
    "nuPlan": (NUPLAN, nuplan.ClosedLoopParts(*[1.0] * 8)),
    "nuPlan open loop": (OPEN_LOOP, nuplan.OpenLoopParts(*[1.0] * 5)),
    "HUGSIM": (HUGSIM, hugsim.PlanParts(*[1.0] * 4)),
    "AlpaSim": (ALPASIM, alpasim.SceneParts(1.0, 40.0, False, False)),
}
ROWS = [
    pytest.param(row, perfect, id=f"{name}: {row.part}")
    for name, (rows, perfect) in TABLES.items()
    for row in rows
]


@pytest.mark.parametrize(("row", "perfect"), ROWS)
def test_what_goes_wrong_costs_what_paper_says(row: Row, perfect: Any):
    score = row.scored()
    parts = score.parts.plans[0] if isinstance(score.parts, hugsim.HdParts) else score.parts
    expected = dataclasses.asdict(perfect) | row.parts
    assert dataclasses.asdict(parts) == {
        name: value if value is None else pytest.approx(value) for name, value in expected.items()
    }
    assert score.value == pytest.approx(row.value)


def test_every_sub_score_has_its_miniature():
    for name, (rows, perfect) in TABLES.items():
        assert {row.part for row in rows} == {f.name for f in fields(perfect)}, name
    assert set(CARLA) == {f.name for f in fields(Infractions)}
    assert set(RAD) == {f.name for f in fields(rad.RadParts)}
    assert set(WOSAC) == {f.name for f in fields(realism.RealismParts)}
    assert {name.replace(" ", "_") for name in BOUNDS} == {f.name for f in fields(comfort.ComfortBounds)}


@pytest.mark.parametrize("name", CARLA)
def test_carla_one_infraction(name: str):
    value, *scores = CARLA[name]
    infractions = dataclasses.replace(Infractions(), **{name: value})
    for edition, expected in zip(Leaderboard, scores, strict=True):
        assert carla.driving_score(1.0, infractions, edition) == pytest.approx(expected), edition
        assert carla.driving_score(0.5, infractions, edition) == pytest.approx(expected / 2), edition
    # Bench2Drive: 2.0 without minimum speed, and no success with any other.
    route = bench2drive.Route(1.0, infractions)
    free = name == "minimum_speed"
    assert bench2drive.driving_score(route) == pytest.approx(100.0 if free else scores[1])
    assert bench2drive.success(route) is free
    assert not bench2drive.success(bench2drive.Route(0.99, infractions))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ActorKind.PEDESTRIAN, 50.0),
        (ActorKind.VEHICLE, 60.0),
        (ActorKind.CYCLIST, 60.0),
        (ActorKind.STATIC, 65.0),
    ],
)
def test_carla_collisions_by_kind(kind: ActorKind, value: float):
    # Somebody in the way; the drive goes on to the end of its route of 40 m.
    drive = actor(straight(route=WHOLE), x=21.2, kind=kind)
    assert carla.score_driving(drive, Leaderboard.V2_0).value == pytest.approx(value)


@pytest.mark.parametrize("name", BOUNDS)
def test_each_bound_of_comfort_binds_alone(name: str):
    within, beyond = (shaken(**channels) for channels in BOUNDS[name])
    for motion, notes in ((within, []), (beyond, [name])):
        signals = comfort.filtered_signals(motion, 0.1, ahead=1.0)
        assert [f.note for f in comfort.violations(signals)] == notes
        # Bench2Drive's "yaw acceleration" is the yaw rate, and within the bound of that.
        theirs = [] if name == "yaw acceleration" else notes
        assert [f.note for f in bench2drive.comfortness(motion).findings] == theirs


@pytest.mark.parametrize("name", HUGSIM_BOUNDS)
def test_each_bound_of_hugsim_binds_alone(name: str):
    for plan, notes in zip(HUGSIM_BOUNDS[name], ([], [name]), strict=True):
        # With the axle in the middle of the car, turning moves nothing.
        drive = dataclasses.replace(planning(straight(), **plan), ahead=0.0)
        found = [f.note for f in hugsim.score_hd(drive).findings if f.part == "comfort"]
        assert found == notes


@pytest.mark.parametrize("name", RAD)
def test_rad_one_of_four_clips(name: str):
    parts, expected = RAD[name]
    assert getattr(parts(), name) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "moved", "expected"), RATINGS, ids=[row[0] for row in RATINGS])
def test_rater_feedback(name: str, moved: dict[str, float], expected: float):
    assert rated(**moved) == pytest.approx(expected)


@pytest.mark.parametrize("name", WOSAC)
def test_wosac_one_of_two_rollouts_differs(name: str):
    log, other, expected = WOSAC[name]
    score = realism.score_realism(log, [log, other])
    assert getattr(score.parts, name) == pytest.approx(expected)


# --- in their stated sense ---------------------------------------------------------------------------------------

METRES = st.floats(0, 30)


@settings(max_examples=20)
@given(st.lists(METRES, min_size=8, max_size=8), st.lists(METRES, min_size=8, max_size=8), st.floats(0, 3))
def test_larger_errors_never_raise_nuplans_open_loop(errors: list[float], more: list[float], turn: float):
    near, far = np.array([errors]), np.array([errors]) + np.array([more])
    still, turned = np.zeros((1, 8)), np.full((1, 8), turn)
    score = nuplan.score_open_loop(near, still).value
    assert nuplan.score_open_loop(far, still).value <= score + 1e-12
    assert nuplan.score_open_loop(near, turned).value <= score + 1e-12


@given(st.floats(0, 20), st.floats(0, 20), st.floats(1, 50))
def test_faster_than_allowed_and_less_far_are_never_better(over: float, more: float, expert: float):
    slow, fast = np.full(41, over), np.full(41, over + more)
    assert nuplan.speed_limit_score(fast, 0.1) <= nuplan.speed_limit_score(slow, 0.1) + 1e-12
    assert nuplan.direction_score(over + more) <= nuplan.direction_score(over)
    assert nuplan.progress_ratio(over, expert) <= nuplan.progress_ratio(over + more, expert) + 1e-12


@settings(max_examples=20)
@given(st.lists(st.floats(-2, 2), min_size=30, max_size=30), st.floats(1, 4))
def test_the_same_motion_only_stronger_is_never_more_comfortable(values: list[float], factor: float):
    """Signals are linear in the motion, and all bounds lie around 0."""
    weak = moving(steady(30, 0.1), acceleration=np.stack([values, values[::-1]], -1))
    strong = moving(weak, acceleration=factor * weak.acceleration)
    for scored in (bench2drive.comfortness, _comfort):
        assert scored(strong).value <= scored(weak).value


def _comfort(motion: Motion) -> Score[None]:
    found = comfort.violations(comfort.filtered_signals(motion, 0.1, ahead=1.0))
    return Score(float(not found), None, found)


@settings(max_examples=8)
@given(st.floats(0, 4), st.floats(0, 4))
def test_farther_from_the_path_is_never_better(y: float, more: float):
    """To the right, where first the path, then the lane and then the road is left."""
    near, far = (beside(straight(y=-d), y=0.0) for d in (y, y + more))
    for scored in (rad.score_clip, navsim.score_pdms, navsim.score_epdms, nuplan.score_closed_loop):
        assert scored(far).value <= scored(near).value
    assert (
        hugsim.score_hd(planning(straight(), y=-y - more)).value
        <= hugsim.score_hd(planning(straight(), y=-y)).value
    )
    ends = [rad.ratios([rad.score_clip(one).parts]) for one in (near, far)]
    assert ends[1].deviating >= ends[0].deviating


def test_alpasim_knows_who_crosses_the_edge_not_who_is_beyond_it():
    """The car's right side is at -y - 1 and its left at -y + 1 m; the road ends at -2."""
    values = [alpasim.score_scene(beside(straight(y=-y))).value for y in (0.0, 0.9, 1.1, 2.9, 3.1)]
    assert values == [1.0, 1.0, 0.0, 0.0, 1.0]


@given(st.tuples(*[st.floats(0, 1)] * 4), st.integers(0, 3), st.floats(0, 1))
def test_no_stage_of_pseudo_simulation_costs_when_it_grows(
    scores: tuple[float, ...], which: int, more: float
):
    """Each of two frames has a first stage and, here, one follow-up."""

    def value(s: list[float]) -> float:
        frames = [navsim.FollowUps(s[k], np.zeros(2), np.zeros((1, 2)), np.array([s[k + 1]])) for k in (0, 2)]
        return navsim.pseudo_simulation(frames[0], frames[1])

    better = list(scores)
    better[which] = max(better[which], more)
    assert value(better) >= value(list(scores)) - 1e-12


@pytest.mark.parametrize("name", WOSAC)
def test_a_rollout_more_like_the_log_is_never_less_realistic(name: str):
    """Of four rollouts none to all repeat the log; the log keeps to one bin."""
    log, other, _ = WOSAC[name]
    scores = [realism.score_realism(log, [log] * k + [other] * (4 - k)).parts for k in range(5)]
    values = [getattr(parts, name) for parts in scores]
    assert values == sorted(values)
    assert values[0] < values[-1]


@given(st.lists(st.floats(0, 9), min_size=6, max_size=6), st.integers(0, 2))
def test_a_further_hypothesis_never_raises_the_least_error(errors: list[float], drop: int):
    three = np.array(errors).reshape(3, 2)
    two = np.delete(three, drop, axis=0)
    least = displacement.minimum_average_displacement
    assert least(three) <= least(two)


def test_a_rating_given_twice_is_the_same_to_the_last_bit():
    assert rated(5.3, 1.7) == rated(5.3, 1.7)
