"""nuPlan's closed-loop score (CLS-NR with replayed traffic, CLS-R with IDM) and its open-loop score.

Reference: github.com/motional/nuplan-devkit e924167, `nuplan/planning/metrics` and the shipped
configuration. What kind of traffic there was is not the score's business; both closed-loop challenges use
the same weights.

Ours differs from the reference where it walks its map: progress is measured along one route line rather
than roadblock by roadblock, and the speed limit of a lane inside an intersection is the lane's own rather
than the largest of its neighbours'. Where the two describe the same road, the numbers agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.evaluation.metrics import comfort, contacts, displacement
from countersteer.evaluation.metrics.areas import contained, distance_outside, ego_areas, lanes_at
from countersteer.evaluation.metrics.contacts import Contact
from countersteer.evaluation.metrics.drive import Drive
from countersteer.evaluation.metrics.evidence import Finding, Score
from countersteer.geometry import polylines
from countersteer.geometry.poses import wrap_angle
from countersteer.scenarios.scenario import ActorKind

__all__ = [
    "ClosedLoopParts",
    "OpenLoopParts",
    "closed_loop",
    "collision_score",
    "direction_score",
    "minimum_time_to_collision",
    "open_loop",
    "progress_ratio",
    "score_closed_loop",
    "score_open_loop",
    "speed_limit_score",
]


@dataclass(frozen=True)
class ClosedLoopParts:
    """Sub-scores, in [0, 1].

    Attributes:
        no_collision: At-fault collisions; with one static object 0.5.
        drivable_area: 0 or 1.
        making_progress: 0 or 1.
        driving_direction: 0, 0.5 or 1.
        progress: Share of the expert's.
        time_to_collision: 0 or 1.
        speed_limit: 1 less mean overspeed over 2.23 m/s.
        comfort: 0 or 1.
    """

    no_collision: float
    drivable_area: float
    making_progress: float
    driving_direction: float
    progress: float
    time_to_collision: float
    speed_limit: float
    comfort: float


def closed_loop(parts: ClosedLoopParts) -> float:
    """NC DAC MP DDC (5 EP + 5 TTC + 4 SL + 2 C) / 16."""
    multiplier = parts.no_collision * parts.drivable_area * parts.making_progress * parts.driving_direction
    weighted = 5 * parts.progress + 5 * parts.time_to_collision + 4 * parts.speed_limit + 2 * parts.comfort
    return multiplier * weighted / 16


def collision_score(vulnerable: int, vehicles: int, objects: int) -> float:
    """Product of max(0, 1 - n / (m + 1)) over pedestrians and cyclists, vehicles, objects; m = 0, 0, 1.

    Args:
        vulnerable, vehicles, objects: At-fault collisions with each.
    """
    score = 1.0
    for count, allowed in ((vulnerable, 0), (vehicles, 0), (objects, 1)):
        score *= max(0.0, 1.0 - count / (allowed + 1))
    return score


def progress_ratio(ego: float, expert: float, threshold: float = 2.0) -> float:
    """Progress over the expert's, both at least `threshold` [m]; 0 for driving back by more than that.

    The documentation says 0.1 m, the shipped configuration 2 m.
    """
    if ego < -threshold:
        return 0.0
    return min(1.0, max(ego, threshold) / max(expert, threshold))


def direction_score(backwards: float) -> float:
    """1 for less than 2 m driven against the lane within a second, 0.5 for less than 6 m, else 0."""
    return 1.0 if backwards < 2.0 else 0.5 if backwards < 6.0 else 0.0


def speed_limit_score(overspeed: Float[ndarray, "time"], dt: float) -> float:
    """max(0, 1 - sum(overspeed) dt / (2.23 m/s x duration)).

    Args:
        overspeed: By how much the limit is exceeded, at least 0 [m/s].
        dt: Interval [s].
    """
    duration = dt * (len(overspeed) - 1)
    return max(0.0, 1.0 - float(overspeed.sum()) * dt / (2.23 * duration))


def _exposed(drive: Drive) -> Bool[ndarray, "time"]:
    """Where the corners are not all in one lane or in a lane and its successors."""
    lanes = drive.road.lanes
    corners = contained(tuple(lane.area for lane in lanes), drive.corners, border=False)
    connected = np.array([[one is two or two.id in one.successors for two in lanes] for one in lanes], bool)
    if not lanes:
        return np.ones(len(drive.times), bool)
    # [time corner lane]: whether a corner is in a lane or one of its successors.
    held = (corners[:, :, None, :] & connected).any(axis=-1)
    return np.asarray(~np.all(held, axis=1).any(axis=-1))


def _no_collision(drive: Drive, firsts: list[Contact], exposed: ndarray) -> tuple[float, list[Finding]]:
    found, counts = [], dict.fromkeys(ActorKind, 0)
    for contact in firsts:
        if contacts.at_fault(contact.kind, bool(exposed[contact.tick])):
            counts[ActorKind(int(drive.actors.kind[contact.actor]))] += 1
            found.append(Finding("no_collision", contact.tick, (contact.actor,), note=contact.kind.value))
    value = collision_score(
        counts[ActorKind.PEDESTRIAN] + counts[ActorKind.CYCLIST],
        counts[ActorKind.VEHICLE],
        counts[ActorKind.STATIC],
    )
    return value, found


def _drivable_area(drive: Drive) -> tuple[float, list[Finding]]:
    """0 if a corner was ever 0.3 m or more from the drivable ground."""
    outside = distance_outside(drive.road.drivable, drive.corners).max(1)
    if outside.max() < 0.3:
        return 1.0, []
    tick = int((outside >= 0.3).argmax())
    return 0.0, [Finding("drivable_area", tick, value=float(outside[tick]), note="metres outside")]


def _driving_direction(drive: Drive) -> tuple[float, list[Finding]]:
    """Progress along the centre line of the lane the car is in, summed over a second; entering a lane counts 0."""
    lanes, center = lanes_at(drive), drive.center
    step = np.zeros(len(lanes))
    for tick in range(1, len(lanes)):
        lane = lanes[tick]
        if lane is not None and lane is lanes[tick - 1]:
            s, _ = polylines.follow(lane.center_line, center[tick - 1 : tick + 1])
            step[tick] = s[1] - s[0]
    window = int(round(1.0 / drive.dt, 6))
    within = np.array([step[max(0, tick - window) : tick + 1].sum() for tick in range(len(step))])
    tick = int(within.argmin())
    value = direction_score(abs(float(within[tick])))
    note = "metres against the lane in 1 s"
    return value, [] if value == 1.0 else [
        Finding("driving_direction", tick, value=-float(within[tick]), note=note)
    ]


def minimum_time_to_collision(
    drive: Drive, *, step: float = 0.1, horizon: float = 3.0
) -> Float[ndarray, "time"]:
    """Time until the ego would touch another if all kept speed and heading [s], inf beyond the horizon.

    `compute_time_to_collision`: at each time, of those ahead; also those beside it while it straddles
    lanes or its axle is in an intersection. An actor it has touched no longer counts; at an at-fault
    collision the time is 0; a standing ego has none.
    """
    exposed = _exposed(drive)
    return _time_to_collision(drive, contacts.first_contacts(drive), exposed, step, horizon)


def _time_to_collision(
    drive: Drive, firsts: list[Contact], exposed: ndarray, step: float = 0.1, horizon: float = 3.0
) -> Float[ndarray, "time"]:
    tracks, ego = drive.actors, drive.ego
    beside = exposed | ego_areas(drive).axle_in_intersection
    gone_at = np.full(len(tracks.ids), len(drive.times))
    times = np.full(len(drive.times), np.inf)
    for contact in firsts:
        gone_at[contact.actor] = contact.tick
    looks = np.arange(step, horizon, step)
    speed = np.hypot(*tracks.velocity.transpose(2, 0, 1))
    speed[tracks.kind == ActorKind.STATIC] = 0.0
    for tick in range(len(drive.times)):
        if ego.speed[tick] <= 0.005:
            continue
        relevant = []
        for actor in np.flatnonzero(tracks.valid[:, tick] & (tick < gone_at)):
            angle = contacts.bearing(drive, tick, tracks.position[actor, tick, :2])
            if angle < contacts.AHEAD or (beside[tick] and angle <= contacts.BEHIND):
                relevant.append(actor)
        if not relevant:
            continue

        def carried(place: ndarray, heading: ndarray, pace: ndarray) -> ndarray:
            way = np.stack([np.cos(heading), np.sin(heading)], -1) * pace[..., None]
            return place + way * looks[:, None, None]

        shape = (len(looks), len(relevant))
        heading = tracks.heading[relevant, tick]
        hits = contacts.boxes_touch(
            np.broadcast_to(
                carried(drive.center[tick], ego.heading[tick, None], ego.speed[tick, None]), (*shape, 2)
            ),
            np.full(shape, ego.heading[tick]),
            np.broadcast_to(np.array(drive.size), (*shape, 2)),
            carried(tracks.position[relevant, tick, :2], heading, speed[relevant, tick]),
            np.broadcast_to(heading, shape),
            np.broadcast_to(tracks.size[relevant, :2], (*shape, 2)),
        ).any(1)
        if hits.any():
            times[tick] = looks[hits.argmax()]
    for contact in firsts:
        if contacts.at_fault(contact.kind, bool(exposed[contact.tick])):
            times[contact.tick] = 0.0
    return times


def _speed_limit(drive: Drive) -> tuple[float, list[Finding]]:
    limit = np.array(
        [np.inf if lane is None or lane.speed_limit is None else lane.speed_limit for lane in lanes_at(drive)]
    )
    over = np.maximum(drive.ego.speed - limit, 0.0)
    if not over.any():
        return 1.0, []
    tick = int(over.argmax())
    return speed_limit_score(over, drive.dt), [
        Finding("speed_limit", tick, value=float(over[tick]), note="m/s over the limit at most")
    ]


def _progress(drive: Drive) -> float:
    """Share of the expert's progress along the route; 1 where there is no route to measure it on."""
    if drive.route is None:
        return 1.0
    drive.needs(expert=drive.expert)
    assert drive.expert is not None
    ways = [drive.center, drive.expert.center(drive.ahead)]
    ego, expert = (float(np.diff(polylines.follow(drive.route, way)[0][[0, -1]])[0]) for way in ways)
    return progress_ratio(ego, expert)


def score_closed_loop(drive: Drive) -> Score[ClosedLoopParts]:
    """nuPlan's score of a drive, in [0, 1]; the benchmark's is the mean over scenarios.

    Making progress means a ratio of at least 0.2 (the reference's `>=`).

    Args:
        drive: 15 s at 10 Hz in the benchmark; with map, the other road users, and a route with an expert.

    Raises:
        UserError: If there is a route but no expert, or the times are uneven.
    """
    exposed, firsts = _exposed(drive), contacts.first_contacts(drive, flat=True)
    no_collision, a = _no_collision(drive, firsts, exposed)
    drivable_area, b = _drivable_area(drive)
    direction, c = _driving_direction(drive)
    progress = _progress(drive)
    to_collision = _time_to_collision(drive, firsts, exposed)
    tick = int(to_collision.argmin())
    safe = bool(to_collision[tick] > 0.95)
    limit, e = _speed_limit(drive)
    rough = comfort.violations(comfort.filtered_signals(drive.ego, drive.dt, drive.ahead))
    parts = ClosedLoopParts(
        no_collision=no_collision,
        drivable_area=drivable_area,
        making_progress=float(progress >= 0.2),
        driving_direction=direction,
        progress=progress,
        time_to_collision=float(safe),
        speed_limit=limit,
        comfort=float(not rough),
    )
    slow = (
        []
        if progress == 1.0
        else [Finding("progress", None, value=progress, note="of the expert's progress")]
    )
    d = (
        []
        if safe
        else [Finding("time_to_collision", tick, value=float(to_collision[tick]), note="seconds left")]
    )
    return Score(closed_loop(parts), parts, (*a, *b, *slow, *c, *d, *e, *rough))


_HORIZONS, _MISSES = (3.0, 5.0, 8.0), (6.0, 8.0, 16.0)


@dataclass(frozen=True)
class OpenLoopParts:
    """Sub-scores of the open-loop score, in [0, 1].

    Attributes:
        miss_rate: 1 if at every horizon at most 30 % of the plans miss, else 0.
        average_displacement, final_displacement: 1 less the error over 8 m.
        average_heading, final_heading: 1 less the error over 0.8 rad.
    """

    miss_rate: float
    average_displacement: float
    final_displacement: float
    average_heading: float
    final_heading: float


def open_loop(parts: OpenLoopParts) -> float:
    """Miss rate x (ADE + FDE + 2 AHE + 2 FHE) / 6."""
    displaced = parts.average_displacement + parts.final_displacement
    return parts.miss_rate * (displaced + 2 * parts.average_heading + 2 * parts.final_heading) / 6


def score_open_loop(
    error: Float[ndarray, "plan 8"], heading_error: Float[ndarray, "plan 8"]
) -> Score[OpenLoopParts]:
    """nuPlan's open-loop score (challenge 1) of plans sampled at 1 Hz over 8 s.

    At the horizons 3, 5 and 8 s; an error is its mean over plans, then over horizons. A plan misses a
    horizon if any of its points until then is more than 6, 8 or 16 m away.

    Args:
        error: Distance from the expert at 1 to 8 s [m].
        heading_error: Difference of headings [rad].
    """
    heading_error = np.abs(wrap_angle(heading_error))
    ahead = np.arange(1.0, 9.0)

    def share(limit: float, *errors: ndarray) -> float:
        return max(0.0, 1.0 - float(np.mean([e.mean() for e in errors])) / limit)

    def averages(values: ndarray) -> list[ndarray]:
        return [displacement.error_up_to_horizon(values, ahead, h) for h in _HORIZONS]

    def finals(values: ndarray) -> list[ndarray]:
        return [displacement.error_at_horizon(values, ahead, h) for h in _HORIZONS]

    misses = [
        float((error[:, : int(h)].max(1) > limit).mean()) for h, limit in zip(_HORIZONS, _MISSES, strict=True)
    ]
    parts = OpenLoopParts(
        miss_rate=float(max(misses) <= 0.3),
        average_displacement=share(8.0, *averages(error)),
        final_displacement=share(8.0, *finals(error)),
        average_heading=share(0.8, *averages(heading_error)),
        final_heading=share(0.8, *finals(heading_error)),
    )
    found = tuple(
        Finding("miss_rate", None, value=rate, note=f"of the plans miss {limit:g} m within {h:g} s")
        for rate, h, limit in zip(misses, _HORIZONS, _MISSES, strict=True)
        if rate > 0.3
    )
    return Score(open_loop(parts), parts, found)
