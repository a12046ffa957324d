"""Why a drive failed: one cause each, from its record, with the tick and the actor that show it.

The cause is what came first. A car that leaves its lane and then hits somebody drifted; one that hits somebody
while in its lane collided. In order of time, and at one tick in the order of `FailureKind`:

- the world's confidence falls below a half: what follows is not the driver's doing;
- a contact with another box, told apart by whose fault it is (nuPlan's rules, `metrics.contacts`); one with the
  front bumper and somebody going the same way ahead is a late brake;
- a red light; a lane that leads the other way;
- leaving the lane for good: a side of the car beyond its border, not to come back before the drive had failed.
  Done while braking hard for somebody ahead, it is a late brake. A lane that was asked for and never reached is a wrong lane, as is a neighbouring one that is kept; one that leads
  elsewhere is off route; all else is drift.

A drive with none of these that failed with a corner beyond the road's edge is off road: its lane may be narrower than
the car. One that came less far than the recorded one, or had not reached its goal in time, is stuck or too slow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics.areas import ego_areas, lanes_at
from countersteer.evaluation.metrics.contacts import (
    AHEAD,
    ContactKind,
    at_fault,
    bearing,
    first_contacts,
    on_one_level,
    unavoidable,
)
from countersteer.evaluation.metrics.drive import Drive
from countersteer.evaluation.metrics.from_record import drive_of_record
from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.geometry import polygons, polylines
from countersteer.geometry.poses import wrap_angle
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.observations import Command

__all__ = ["Failure", "FailureKind", "count_failures", "explain", "explain_suite"]

_TRUSTED = 0.5
"""Confidence below which a world's answers are not held against the driver."""
_SAME_WAY = np.deg2rad(45.0)
"""Up to this difference of headings two cars go the same way."""
_PARALLEL = np.deg2rad(15.0)
"""Up to this difference a lane runs along the path, beyond it leads elsewhere."""
_SETTLED = 2.0
"""How long a car must have been in another lane to be said to keep it [s]."""
_BESIDE = 0.3
"""A car in its lane that failed farther from its path than this has drifted [m]."""
_HARD = -4.05
"""Braking below the comfort bound [m/s^2] (docs/conventions.md)."""
_PROGRESS = 0.7
"""Share of the recorded way below which a drive is too slow, as in the suite "recorded"."""


class FailureKind(Enum):
    """Causes of failed drives."""

    UNTRUSTED = "world no longer trustworthy"
    NUMERIC = "not a number"
    LATE_BRAKE = "late brake"
    AT_FAULT = "collision at fault"
    NOT_AT_FAULT = "collision, not at fault"
    RED_LIGHT = "red light"
    WRONG_WAY = "wrong way"
    WRONG_LANE = "wrong lane"
    OFF_ROUTE = "off route"
    DRIFT = "drift"
    OFF_ROAD = "off road"
    STUCK = "stuck or too slow"
    OTHER = "other"


@dataclass(frozen=True)
class Failure:
    """Why one drive failed.

    Attributes:
        kind: The cause.
        tick: When it shows.
        actor: Slot of the actor involved, or None.
        note: What was seen, in words with the number.
    """

    kind: FailureKind
    tick: int
    actor: int | None = None
    note: str = ""


def explain(record: DriveRecord, verdict: CaseResult) -> Failure | None:
    """The cause of a failed drive; None for one that passed or does not count.

    Args:
        record: The drive.
        verdict: Its verdict; when it failed decides which departure from the lane is meant.
    """
    if verdict.passed is not False:
        return None
    last = record.last
    failed = last
    if verdict.fail_time is not None:
        failed = min(int(np.searchsorted(record.times, verdict.fail_time - 1e-6)), last)
    found = [*_untrusted(record), *_events(record, last), *_departure(record, failed)]
    try:
        drive = drive_of_record(record)
    except UserError:
        drive = None  # it ended at once, so nobody was touched in it
    if drive is not None:
        found += _contacts(drive, record)
        found = [_lane_taken(drive, record, _swerve(drive, record, failure), failed) for failure in found]
    if found:
        order = list(FailureKind)
        return min(found, key=lambda failure: (failure.tick, order.index(failure.kind)))
    if record.off_road[failed]:
        return Failure(FailureKind.OFF_ROAD, failed, note="a corner beyond the road's edge, but in its lane")
    if record.goal is not None and record.cause[-1] == TerminationReason.TIME:
        note = f"{record.arc[-1]:.0f} m of the {record.goal:.0f} m to its goal"
        return Failure(FailureKind.STUCK, last, note=note)
    if drive is not None and (slow := _slow(drive, last)):
        return slow
    aside = np.abs(polylines.follow(record.path, record.position[: last + 1])[1][failed:])
    if aside[0] > _BESIDE or aside.mean() > _BESIDE:
        return Failure(
            FailureKind.DRIFT,
            failed,
            note=f"{aside[0]:.2f} m beside its path, {aside.mean():.2f} m on average from then on",
        )
    return Failure(FailureKind.OTHER, failed, note=verdict.reason)


def explain_suite(result: SuiteResult) -> tuple[Failure | None, ...]:
    """The cause of each case in suite order; all None without records."""
    if not result.records:
        return (None,) * len(result.cases)
    return tuple(explain(record, case) for case, record in zip(result.cases, result.records, strict=True))


def count_failures(failures: Iterable[Failure | None]) -> dict[FailureKind, int]:
    """How often each cause occurs, the most frequent first."""
    counts = Counter(failure.kind for failure in failures if failure is not None)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], list(FailureKind).index(item[0]))))


def _first(flags: ndarray, last: int) -> int | None:
    ticks = np.flatnonzero(flags[: last + 1])
    return int(ticks[0]) if len(ticks) else None


def _untrusted(record: DriveRecord) -> list[Failure]:
    if record.confidence is None:
        return []
    tick = _first(record.confidence < _TRUSTED, record.last)
    if tick is None:
        return []
    note = f"confidence {record.confidence[tick]:.2f}, below {_TRUSTED:g}"
    return [Failure(FailureKind.UNTRUSTED, tick, note=note)]


def _events(record: DriveRecord, last: int) -> list[Failure]:
    found = []
    for kind, flags, note in (
        (
            FailureKind.NUMERIC,
            record.cause == TerminationReason.INVALID_STATE,
            "state or action is not a finite number",
        ),
        (FailureKind.RED_LIGHT, record.red_light, "crossed a stop line at red"),
        (FailureKind.WRONG_WAY, record.wrong_way, "in a lane that leads the other way"),
    ):
        tick = _first(flags, last)
        if tick is not None:
            found.append(Failure(kind, tick, note=note))
    return found


def _contacts(drive: Drive, record: DriveRecord) -> list[Failure]:
    found = []
    exposed = None
    for contact in first_contacts(drive):
        tick, actor = contact.tick, contact.actor
        if tick == 0:
            continue  # it stood there when the drive began
        if exposed is None:
            exposed = ego_areas(drive).exposed
        if not at_fault(contact.kind, bool(exposed[tick])):
            slot = int(record.others[actor])
            found.append(Failure(FailureKind.NOT_AT_FAULT, tick, slot, contact.kind.value))
            continue
        ego, seen = drive.ego, drive.actors.valid[actor]
        place = drive.actors.position[actor, :, :2]
        if unavoidable(drive.times, ego.position, ego.heading, ego.speed, place, seen, tick):
            slot = int(record.others[actor])
            found.append(Failure(FailureKind.NOT_AT_FAULT, tick, slot, "it appeared too close to stop"))
            continue
        along = abs(float(wrap_angle(drive.actors.heading[actor, tick] - drive.ego.heading[tick])))
        ahead = bearing(drive, tick, drive.actors.position[actor, tick, :2]) < AHEAD
        late = contact.kind in (ContactKind.FRONT, ContactKind.STANDING_ACTOR) and ahead and along < _SAME_WAY
        note = f"{drive.ego.speed[tick]:.1f} m/s, {contact.kind.value}"
        kind = FailureKind.LATE_BRAKE if late else FailureKind.AT_FAULT
        found.append(Failure(kind, tick, int(record.others[actor]), note))
    return found


def _departure(record: DriveRecord, failed: int) -> list[Failure]:
    """Leaving the lane without coming back until the drive had failed, as drift or, after a command, a wrong lane."""
    _, aside = polylines.follow(record.path, record.position[: failed + 1])
    asked = np.flatnonzero(record.command[: failed + 1] != Command.FOLLOW)
    # The path that a record keeps is the one after a lane change; before the command it is not the car's.
    since = int(asked[0]) if len(asked) else 0
    out = np.abs(aside) + record.size[1] / 2 > record.scenario.lane_width / 2
    inside = np.flatnonzero(~out[since:]) + since
    if not out[failed]:
        return []
    if not len(inside):
        note = f"{abs(aside[failed]):.1f} m from the lane that was asked for"
        if len(asked):
            return [Failure(FailureKind.WRONG_LANE, failed, note=note)]
        return [Failure(FailureKind.DRIFT, 0, note="never within its lane")]
    tick = int(inside[-1]) + 1
    return [Failure(FailureKind.DRIFT, tick, note=f"left its lane, {abs(aside[tick]):.2f} m from its middle")]


def _swerve(drive: Drive, record: DriveRecord, failure: Failure) -> Failure:
    """A lane left within a second of hard braking for somebody less than 2 s ahead is a late brake, no drift."""
    if failure.kind is not FailureKind.DRIFT:
        return failure
    at = min(failure.tick, len(drive.times) - 1)
    before = slice(max(0, at - round(1.0 / drive.dt)), at + 1)
    if drive.ego.acceleration[before, 0].min() > _HARD:
        return failure
    for actor in np.flatnonzero(drive.actors.valid[:, at] & on_one_level(drive)[at]):
        place = drive.actors.position[actor, at, :2]
        gap = float(np.linalg.norm(place - drive.ego.position[at]))
        if bearing(drive, at, place) < AHEAD and gap < 2.0 * float(drive.ego.speed[before].max()):
            note = f"left its lane while braking for somebody {gap:.0f} m ahead"
            return Failure(FailureKind.LATE_BRAKE, failure.tick, int(record.others[actor]), note)
    return failure


def _lane_taken(drive: Drive, record: DriveRecord, failure: Failure, failed: int) -> Failure:
    """A drift that ended in another lane, going its way for a while, by its proper name."""
    if failure.kind is not FailureKind.DRIFT:
        return failure
    ticks = round(_SETTLED / drive.dt)
    at = min(max(failed, record.last), len(drive.times) - 1)
    since = max(failure.tick, at - ticks)
    if at - since < ticks:
        return failure
    aside = polylines.follow(record.path, record.position[: at + 1])[1][-1:]
    half = record.scenario.lane_width / 2
    lanes = lanes_at(drive.part(since, at + 1))
    lane = lanes[-1]
    if lane is None or None in [one and one.id for one in lanes] or abs(aside[0]) <= half:
        return failure  # beside all lanes at some time, or back in its own

    def course(line: ndarray) -> float:
        s, _ = polylines.follow(
            line, drive.center[: at + 1] if line is record.path else drive.center[since : at + 1]
        )
        headings = polylines.headings(line)
        return float(np.interp(s[-1], polylines.arc_length(line), headings))

    if abs(float(wrap_angle(course(lane.center_line) - drive.ego.heading[at]))) > _SAME_WAY:
        return failure  # against its direction or across it, which is no way to keep a lane
    apart = abs(float(wrap_angle(course(lane.center_line) - course(record.path))))
    # More than two lanes away the path is not beside this lane, wherever both lead.
    near = apart <= _PARALLEL and abs(aside[0]) <= 5 * half
    kind = FailureKind.WRONG_LANE if near else FailureKind.OFF_ROUTE
    # It shows where the car has come into that lane for good, not where it began to leave its own.
    outside = np.flatnonzero(~polygons.contains(lane.area, drive.center[: at + 1]))
    entered = int(outside[-1]) + 1 if len(outside) else 0
    name = lane.id if lane.id.startswith("lane") else f"lane {lane.id}"
    note = f"keeps {name}, in the end {abs(aside[0]):.1f} m from its path"
    return Failure(kind, max(failure.tick, entered), note=note)


def _slow(drive: Drive, last: int) -> Failure | None:
    route = drive.route
    if drive.expert is None or route is None:
        return None
    ways = (drive.center, drive.expert.center(drive.ahead))
    made, recorded = (float(np.diff(polylines.follow(route, way)[0][[0, -1]])[0]) for way in ways)
    if recorded < 1.0 or made >= _PROGRESS * recorded:
        return None
    moving = np.flatnonzero(drive.ego.speed > 0.5)
    stood = int(moving[-1]) + 1 if len(moving) else 0
    return Failure(FailureKind.STUCK, min(stood, last), note=f"{made:.0f} m of the recorded {recorded:.0f} m")
