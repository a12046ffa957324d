"""NAVSIM's sub-scores of one drive, each with what lowered it; `navsim` puts them together.

Reference: github.com/autonomousvision/navsim, `pdm_scorer.py`, tag v1.1 and commit 0a380a9.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics import comfort, contacts
from countersteer.evaluation.metrics.areas import EgoAreas, intrusion
from countersteer.evaluation.metrics.drive import Drive, Motion
from countersteer.evaluation.metrics.evidence import Finding
from countersteer.geometry import polygons, polylines
from countersteer.scenarios.scenario import ActorKind, Tracks

__all__ = [
    "check_rate",
    "drivable_area",
    "driving_direction",
    "extended_comfort",
    "history_comfort",
    "lane_keeping",
    "meters_made",
    "no_collision",
    "time_to_collision",
    "traffic_light",
]


_STEP = 0.1  # [s]; every window below counts in ticks of this length
_TTC_LOOK = (0, 3, 6, 9)  # ticks ahead: a window of 1 s, every third tick
_CREEPING = 5e-3  # [m/s]; slower, and time to collision means nothing


def no_collision(drive: Drive, areas: EgoAreas) -> tuple[float, list[Finding]]:
    """NC: 0 after a collision at fault, 0.5 after one with a static object."""
    appears = drive.actors.valid.argmax(1)
    exposed = areas.exposed
    value, found = 1.0, []
    for contact in contacts.first_contacts(
        drive,
        lambda tick, actor: contacts.classify(drive, tick, actor, actor_tick=int(appears[actor])),
        flat=True,
    ):
        # Once an actor was touched without fault, it is out of the scene; with fault, it stays a fault.
        if not contacts.at_fault(contact.kind, bool(exposed[contact.tick])):
            continue
        cost = 0.5 if drive.actors.kind[contact.actor] == ActorKind.STATIC else 0.0
        value = min(value, cost)
        found.append(Finding("no_collision", contact.tick, (contact.actor,), cost, contact.kind.value))
    return value, found


def drivable_area(areas: EgoAreas) -> tuple[float, list[Finding]]:
    """DAC: whether all corners of the ego stay on drivable ground."""
    off = areas.off_drivable
    if not off.any():
        return 1.0, []
    tick = int(off.argmax())
    return 0.0, [
        Finding("drivable_area", tick, value=float(areas.outside[tick].sum()), note="corners outside")
    ]


def driving_direction(drive: Drive, counts: Bool[ndarray, "time"]) -> tuple[float, list[Finding]]:
    """DDC: distance driven where it counts within 1 s: < 2 m is 1, < 6 m is 0.5."""
    moved = np.concatenate([[0.0], np.linalg.norm(np.diff(drive.center, axis=0), axis=1)])
    moved[~counts] = 0.0
    window = round(1.0 / drive.dt)
    within = np.array([moved[max(0, tick - window) : tick + 1].sum() for tick in range(len(moved))])
    tick = int(within.argmax())
    value = 1.0 if within[tick] < 2.0 else 0.5 if within[tick] < 6.0 else 0.0
    note = "metres off the route's lanes in 1 s"
    return value, [] if value == 1.0 else [
        Finding("driving_direction", tick, value=float(within[tick]), note=note)
    ]


def time_to_collision(
    drive: Drive, areas: EgoAreas, later: Tracks | None = None
) -> tuple[float, list[Finding]]:
    """TTC: would the ego, going straight on for up to 0.9 s, hit where others really will be?"""
    tracks = drive.actors if later is None else _joined(drive.actors, later)
    known = tracks.valid.shape[1]
    valid = tracks.valid.T
    course = np.stack([np.cos(drive.ego.heading), np.sin(drive.ego.heading)], -1)
    speed = drive.ego.speed
    lateral_counts = areas.exposed | areas.axle_in_intersection
    actors = np.arange(len(tracks.ids))
    size, heading = np.array([drive.size]), drive.ego.heading
    gone: set[int] = set()
    for tick in range(min(len(drive.times), known - _TTC_LOOK[-1])) if len(actors) else ():
        if speed[tick] < _CREEPING:
            continue
        for look in _TTC_LOOK:
            then = tick + look
            ahead = drive.center[tick] + course[tick] * speed[tick] * look * drive.dt
            shape = (len(actors), 2)
            hits = valid[then] & contacts.boxes_touch(
                np.broadcast_to(ahead, shape),
                np.full(len(actors), heading[tick]),
                np.broadcast_to(size, shape),
                np.nan_to_num(tracks.position[:, then, :2]),
                np.nan_to_num(tracks.heading[:, then]),
                tracks.size[:, :2],
            )
            for actor in actors[hits]:
                if int(actor) in gone:
                    continue
                bearing = contacts.bearing(drive, tick, tracks.position[actor, then, :2])
                if bearing < contacts.AHEAD or (lateral_counts[tick] and bearing <= contacts.BEHIND):
                    seconds = look * drive.dt
                    return 0.0, [Finding("time_to_collision", tick, (int(actor),), seconds, "seconds left")]
                gone.add(int(actor))
    return 1.0, []


def _joined(tracks: Tracks, later: Tracks) -> Tracks:
    if later.ids != tracks.ids:
        raise UserError(
            "what follows a drive must be about the same actors",
            got=f"{len(later.ids)} actors",
            expected=f"the {len(tracks.ids)} of the drive, in its order",
        )
    series = ("position", "heading", "velocity", "valid")
    whole = {name: np.concatenate([getattr(tracks, name), getattr(later, name)], 1) for name in series}
    return dataclasses.replace(tracks, **whole)


def lane_keeping(drive: Drive, areas: EgoAreas) -> tuple[float, list[Finding]]:
    """LK: more than 0.5 m from the centre line for 20 counted ticks on end; ticks in intersections do not count."""
    drive.needs(route=drive.route)
    assert drive.route is not None
    aside = polygons.distance_to_segments(drive.route[:-1], drive.route[1:], drive.center).min(-1)
    row = 0
    for tick in np.flatnonzero(~areas.center_in_intersection):
        row = row + 1 if aside[tick] > 0.5 else 0
        if row >= 20:
            return 0.0, [
                Finding("lane_keeping", int(tick), value=float(aside[tick]), note="metres aside for 2 s")
            ]
    return 1.0, []


def traffic_light(drive: Drive) -> tuple[float, list[Finding]]:
    """TLC: whether the ego stays off ground behind red lights."""
    inside = intrusion(drive).any(1)
    if not inside.any():
        return 1.0, []
    return 0.0, [Finding("traffic_light", int(inside.argmax()), note="on ground behind a red light")]


def history_comfort(drive: Drive) -> tuple[float, list[Finding]]:
    """HC: comfort of what was driven before and the plan together; 1 without a history. A tick below 0 lies before."""
    if drive.history is None:
        return 1.0, []
    signals = comfort.filtered_signals(drive.history.then(drive.ego), drive.dt, drive.ahead)
    before = len(drive.history.heading)
    found = comfort.violations(signals, part="history_comfort")
    return float(not found), [
        dataclasses.replace(f, tick=f.tick - before) for f in found if f.tick is not None
    ]


def meters_made(drive: Drive) -> float:
    """How far the ego came along its route [m], at least 0."""
    drive.needs(route=drive.route)
    assert drive.route is not None
    s, _ = polylines.follow(drive.route, drive.center)
    return max(float(s[-1] - s[0]), 0.0)


def check_rate(drive: Drive) -> None:
    """Refuse a drive of another rate or shorter than the look-ahead."""
    if abs(drive.dt - _STEP) > 1e-3 or len(drive.times) <= _TTC_LOOK[-1]:
        raise UserError(
            "NAVSIM scores drives at 10 Hz of more than 0.9 s",
            got=f"{len(drive.times)} times, {drive.dt:g} s apart",
            expected="41 times, 0.1 s apart",
            fix="resample the drive",
        )


_EXTENDED = {"acceleration": 0.7, "jerk": 0.5, "yaw rate": 0.1, "yaw acceleration": 0.1}


def extended_comfort(now: Motion, before: Motion, dt: float) -> tuple[float, tuple[Finding, ...]]:
    """EC: whether two plans made 0.5 s apart agree where they overlap (NAVSIM v2).

    The root mean square of their difference must not exceed 0.7 m/s^2 in acceleration, 0.5 m/s^3 in its
    slope, 0.1 rad/s in yaw rate and 0.1 rad/s^2 in yaw acceleration.

    Args:
        now, before: The overlapping 3.5 s of the later and the earlier plan, as simulated.
        dt: Interval [s].

    Raises:
        UserError: If they differ in length.
    """
    if len(now.heading) != len(before.heading):
        raise UserError(
            "extended comfort compares two plans over the same times",
            got=f"{len(now.heading)} and {len(before.heading)} samples",
            expected="equal lengths",
            fix="cut both to where they overlap",
        )

    def features(motion: Motion) -> list[ndarray]:
        magnitude = comfort.acceleration_magnitude(motion)
        heading = comfort.unwrap(motion.heading)
        return [
            magnitude,
            np.round(comfort.savitzky_golay(magnitude, 15, 2, derivative=1, dt=dt), 8),
            np.round(comfort.savitzky_golay(heading, 5, 2, derivative=1, dt=dt), 8),
            np.round(comfort.savitzky_golay(heading, 5, 2, derivative=2, dt=dt), 8),
        ]

    found = []
    for (name, limit), one, other in zip(_EXTENDED.items(), features(now), features(before), strict=True):
        spread = float(np.sqrt(((one - other) ** 2).mean()))
        if not spread <= limit:
            tick = int(np.abs(one - other).argmax())
            found.append(Finding("extended_comfort", tick, value=spread, note=f"rms difference of {name}"))
    return (0.0 if found else 1.0), tuple(found)
