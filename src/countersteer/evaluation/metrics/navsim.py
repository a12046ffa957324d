"""NAVSIM's PDM scores: PDMS (v1, Dauner et al. 2024) and EPDMS with pseudo-simulation (v2, Cao et al. 2025).

Reference: github.com/autonomousvision/navsim, `pdm_scorer.py`, tag v1.1 and commit 0a380a9. A drive
here is what the reference scores: 4 s at 10 Hz, of the plan as tracked by its LQR and kinematic bicycle
(`navsim_vehicle`), with the other road users' boxes at those times.

Peculiarities of the reference that scores under its name share:

- An actor that overlaps the ego at the first tick counts; nothing is forgiven at the start.
- Whether an actor stands is read from its speed where it first appears, not where it is touched.
- v2 shifts the longitudinal acceleration to the box's centre wrongly (`comfort.center_acceleration`); v1 does
  not shift it, but fits one
  parabola to the whole plan, which smooths nearly every acceleration and jerk away.
- The human filter makes a sub-score 1 where the human scores exactly 0, never where he scores 0.5.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics import comfort, contacts
from countersteer.evaluation.metrics.areas import EgoAreas, ego_areas, intrusion
from countersteer.evaluation.metrics.drive import Drive, Motion
from countersteer.evaluation.metrics.evidence import Finding, Score
from countersteer.geometry import polygons, polylines
from countersteer.scenarios.scenario import ActorKind, Tracks

__all__ = [
    "EpdmsParts",
    "FollowUps",
    "PdmsParts",
    "Progress",
    "epdms",
    "extended_comfort",
    "follow_up_weights",
    "human_filter",
    "pdms",
    "progress_share",
    "progress_share_v1",
    "pseudo_simulation",
    "score_epdms",
    "score_pdms",
]

_STEP = 0.1  # [s]; every window below counts in ticks of this length
_TTC_LOOK = (0, 3, 6, 9)  # ticks ahead: a window of 1 s, every third tick
_CREEPING = 5e-3  # [m/s]; slower, and time to collision means nothing


@dataclass(frozen=True)
class PdmsParts:
    """Sub-scores of PDMS, in [0, 1].

    Attributes:
        no_collision: NC, at-fault collisions: 0, 0.5 (with a static object) or 1.
        drivable_area: DAC, 0 or 1.
        time_to_collision: TTC, 0 or 1.
        progress: EP.
        comfort: C, 0 or 1.
        driving_direction: DDC, 0, 0.5 or 1; reported, but of weight 0.
    """

    no_collision: float
    drivable_area: float
    time_to_collision: float
    progress: float
    comfort: float
    driving_direction: float = 1.0


@dataclass(frozen=True)
class EpdmsParts:
    """Sub-scores of EPDMS, in [0, 1].

    Attributes:
        no_collision: NC, at-fault collisions: 0, 0.5 (with a static object) or 1.
        drivable_area: DAC, 0 or 1.
        driving_direction: DDC, 0, 0.5 or 1.
        traffic_light: TLC, 0 or 1.
        progress: EP.
        time_to_collision: TTC, 0 or 1.
        lane_keeping: LK, 0 or 1.
        history_comfort: HC, 0 or 1.
        extended_comfort: EC, 0 or 1; None before the second frame is known, and then left out.
    """

    no_collision: float
    drivable_area: float
    driving_direction: float
    traffic_light: float
    progress: float
    time_to_collision: float
    lane_keeping: float
    history_comfort: float
    extended_comfort: float | None = None


def pdms(parts: PdmsParts) -> float:
    """NC DAC (5 TTC + 5 EP + 2 C) / 12 (Dauner et al. 2024, eq. 1; v1.1)."""
    weighted = 5 * parts.time_to_collision + 5 * parts.progress + 2 * parts.comfort
    return parts.no_collision * parts.drivable_area * weighted / 12


def epdms(parts: EpdmsParts) -> float:
    """NC DAC DDC TLC (5 EP + 5 TTC + 2 LK + 2 HC + 2 EC) / 16; over 14 without EC.

    Of parts to which the human filter was applied, if it is to be.
    """
    multiplier = parts.no_collision * parts.drivable_area * parts.driving_direction * parts.traffic_light
    weighted = 5 * parts.progress + 5 * parts.time_to_collision + 2 * parts.lane_keeping
    weighted += 2 * parts.history_comfort
    if parts.extended_comfort is None:
        return multiplier * weighted / 14
    return multiplier * (weighted + 2 * parts.extended_comfort) / 16


def human_filter(parts: EpdmsParts, human: EpdmsParts) -> EpdmsParts:
    """The parts, 1 wherever the recorded human's are exactly 0; extended comfort is never filtered.

    Only for recorded (first-stage) scenes. Older releases than 2025-09-29 changed the columns but not
    the score, so their EPDMS is another.
    """
    forgiven = {
        f.name: 1.0
        for f in dataclasses.fields(EpdmsParts)
        if f.name != "extended_comfort" and getattr(human, f.name) == 0.0
    }
    return dataclasses.replace(parts, **forgiven)


@dataclass(frozen=True)
class Progress:
    """How far a proposal came.

    Attributes:
        meters: Along the centre line, at least 0.
        multiplier: Product of the sub-scores that multiply its score.
    """

    meters: float
    multiplier: float


def progress_share_v1(agent: Progress, reference: Progress | None = None) -> float:
    """EP of v1: q / max(q) with q = meters x multiplier, if max(q) > 5 m; else 1, or 0 where q's multiplier is.

    Args:
        agent: Who is scored.
        reference: PDM-Closed in the same scene; None to compare the agent with itself only.
    """
    q = agent.meters * agent.multiplier
    largest = max(q, reference.meters * reference.multiplier) if reference else q
    if largest > 5.0:
        return q / largest
    return 0.0 if agent.multiplier == 0.0 else 1.0


def progress_share(agent: Progress, reference: Progress | None = None) -> float:
    """EP of v2: the agent's metres / max(q), at most 1, if max(q) > 5 m; else 1."""
    q = agent.meters * agent.multiplier
    largest = max(q, reference.meters * reference.multiplier) if reference else q
    return min(max(agent.meters / largest, 0.0), 1.0) if largest > 5.0 else 1.0


def _no_collision(drive: Drive, areas: EgoAreas) -> tuple[float, list[Finding]]:
    appears = drive.actors.valid.argmax(1)
    exposed = areas.exposed
    value, found = 1.0, []
    for contact in contacts.first_contacts(
        drive, lambda tick, actor: contacts.classify(drive, tick, actor, actor_tick=int(appears[actor]))
    ):
        # Once an actor was touched without fault, it is out of the scene; with fault, it stays a fault.
        if not contacts.at_fault(contact.kind, bool(exposed[contact.tick])):
            continue
        cost = 0.5 if drive.actors.kind[contact.actor] == ActorKind.STATIC else 0.0
        value = min(value, cost)
        found.append(Finding("no_collision", contact.tick, (contact.actor,), cost, contact.kind.value))
    return value, found


def _drivable_area(areas: EgoAreas) -> tuple[float, list[Finding]]:
    off = areas.off_drivable
    if not off.any():
        return 1.0, []
    tick = int(off.argmax())
    return 0.0, [
        Finding("drivable_area", tick, value=float(areas.outside[tick].sum()), note="corners outside")
    ]


def _driving_direction(drive: Drive, counts: Bool[ndarray, "time"]) -> tuple[float, list[Finding]]:
    """Distance driven where it counts within 1 s: < 2 m is 1, < 6 m is 0.5."""
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


def _time_to_collision(
    drive: Drive, areas: EgoAreas, later: Tracks | None = None
) -> tuple[float, list[Finding]]:
    """Would the ego, going straight on for up to 0.9 s, hit where others really will be?"""
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


def _lane_keeping(drive: Drive, areas: EgoAreas) -> tuple[float, list[Finding]]:
    """More than 0.5 m from the centre line for 20 counted ticks on end; ticks in intersections do not count."""
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


def _traffic_light(drive: Drive) -> tuple[float, list[Finding]]:
    inside = intrusion(drive).any(1)
    if not inside.any():
        return 1.0, []
    return 0.0, [Finding("traffic_light", int(inside.argmax()), note="on ground behind a red light")]


def _history_comfort(drive: Drive) -> tuple[float, list[Finding]]:
    """Comfort of what was driven before and the plan together; 1 without a history. A tick below 0 lies before."""
    if drive.history is None:
        return 1.0, []
    signals = comfort.filtered_signals(drive.history.then(drive.ego), drive.dt, drive.ahead)
    before = len(drive.history.heading)
    found = comfort.violations(signals, part="history_comfort")
    return float(not found), [
        dataclasses.replace(f, tick=f.tick - before) for f in found if f.tick is not None
    ]


def _meters(drive: Drive) -> float:
    drive.needs(route=drive.route)
    assert drive.route is not None
    s, _ = polylines.project(drive.route, drive.center[[0, -1]])
    return max(float(s[1] - s[0]), 0.0)


def _check(drive: Drive) -> None:
    if abs(drive.dt - _STEP) > 1e-3 or len(drive.times) <= _TTC_LOOK[-1]:
        raise UserError(
            "NAVSIM scores drives at 10 Hz of more than 0.9 s",
            got=f"{len(drive.times)} times, {drive.dt:g} s apart",
            expected="41 times, 0.1 s apart",
            fix="resample the drive",
        )


def _progress_v1(drive: Drive) -> Progress:
    areas = ego_areas(drive)
    return Progress(_meters(drive), _no_collision(drive, areas)[0] * _drivable_area(areas)[0])


def _progress(drive: Drive) -> Progress:
    areas = ego_areas(drive)
    multiplier = _no_collision(drive, areas)[0] * _drivable_area(areas)[0] * _traffic_light(drive)[0]
    direction, _ = _driving_direction(drive, areas.off_route & ~areas.center_in_intersection)
    return Progress(_meters(drive), multiplier * direction)


def score_pdms(
    drive: Drive, reference: Drive | None = None, *, later: Tracks | None = None
) -> Score[PdmsParts]:
    """PDMS of a drive.

    v1 asks for the time to collision at every tick, and knows where others are up to a second after the
    drive; v2 asks only where the look-ahead fits into the drive. Without `later` this does as v2.

    Args:
        drive: 4 s at 10 Hz, with map, route and the other road users.
        reference: PDM-Closed in the same scene, for progress; None to compare the drive with itself.
        later: Where the same actors are at the nine or more ticks after the drive.

    Raises:
        UserError: If the drive has no route or another rate, or `later` is about others.
    """
    _check(drive)
    areas = ego_areas(drive)
    no_collision, a = _no_collision(drive, areas)
    drivable_area, b = _drivable_area(areas)
    time_to_collision, c = _time_to_collision(drive, areas, later)
    # v1 looks at the rear axle, and fits one parabola to the whole plan.
    signals = comfort.filtered_signals(drive.ego, drive.dt, ahead=0.0, whole=True)
    d = comfort.violations(signals)
    # v1 counts intersections too; its weight is 0, so nobody noticed.
    direction, e = _driving_direction(drive, areas.off_route)
    agent = Progress(_meters(drive), no_collision * drivable_area)
    parts = PdmsParts(
        no_collision=no_collision,
        drivable_area=drivable_area,
        time_to_collision=time_to_collision,
        progress=progress_share_v1(agent, None if reference is None else _progress_v1(reference)),
        comfort=float(not d),
        driving_direction=direction,
    )
    f = [] if parts.progress == 1.0 else [Finding("progress", None, value=agent.meters, note="metres made")]
    return Score(pdms(parts), parts, (*a, *b, *c, *f, *d, *e))


def score_epdms(
    drive: Drive,
    reference: Drive | None = None,
    *,
    human: Drive | None = None,
    before: Motion | None = None,
) -> Score[EpdmsParts]:
    """EPDMS of a drive in one scene.

    Args:
        drive: 4 s at 10 Hz, with map, route, lights, history and the other road users.
        reference: PDM-Closed in the same scene, for progress; None to compare the drive with itself.
        human: The recorded human in the same scene, whose own faults are forgiven (recorded scenes only).
        before: What the drive of the frame 0.5 s earlier did from 0.5 s on, for extended comfort;
            it is compared with as much of this drive.

    Raises:
        UserError: If the drive has no route or another rate.
    """
    parts, findings = _epdms_parts(drive, reference)
    if human is not None:
        # The human is scored alone and without what came before, so his progress and history are 1.
        judged, _ = _epdms_parts(dataclasses.replace(human, history=None), None)
        parts = human_filter(parts, judged)
        findings = tuple(f for f in findings if getattr(parts, f.part) != 1.0)
    if before is not None:
        together = len(before.heading)
        value, found = extended_comfort(drive.ego.part(slice(0, together)), before, drive.dt)
        parts, findings = dataclasses.replace(parts, extended_comfort=value), (*findings, *found)
    return Score(epdms(parts), parts, findings)


def _epdms_parts(drive: Drive, reference: Drive | None) -> tuple[EpdmsParts, tuple[Finding, ...]]:
    _check(drive)
    areas = ego_areas(drive)
    no_collision, a = _no_collision(drive, areas)
    drivable_area, b = _drivable_area(areas)
    direction, c = _driving_direction(drive, areas.off_route & ~areas.center_in_intersection)
    light, d = _traffic_light(drive)
    time_to_collision, e = _time_to_collision(drive, areas)
    keeping, f = _lane_keeping(drive, areas)
    comfortable, g = _history_comfort(drive)
    agent = Progress(_meters(drive), no_collision * drivable_area * direction * light)
    parts = EpdmsParts(
        no_collision=no_collision,
        drivable_area=drivable_area,
        driving_direction=direction,
        traffic_light=light,
        progress=progress_share(agent, None if reference is None else _progress(reference)),
        time_to_collision=time_to_collision,
        lane_keeping=keeping,
        history_comfort=comfortable,
    )
    h = [] if parts.progress == 1.0 else [Finding("progress", None, value=agent.meters, note="metres made")]
    return parts, (*a, *b, *c, *d, *h, *e, *f, *g)


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


def follow_up_weights(
    endpoint: Float[ndarray, "2"], starts: Float[ndarray, "scene 2"]
) -> Float[ndarray, "scene"]:
    """Weights of the second stage's scenes: exp(-d^2 / (2 * 0.1 m^2)), normalised.

    Uniform where no scene starts anywhere near: with a standard deviation of 0.32 m, a plan that ends a
    few metres from all of them is scored as if it had ended nowhere in particular.

    Args:
        endpoint: Last pose of the raw plan of the first stage [m, world].
        starts: Where each scene starts [m, world].
    """
    if len(starts) == 0:
        raise UserError("a second stage without scenes cannot be weighted", expected="at least one scene")
    weights = np.exp(-((endpoint - starts) ** 2).sum(-1) / (2 * 0.1))
    total = weights.sum()
    # The reference's np.isclose: below 1e-8 the sum counts as nothing.
    if np.isclose(total, 0.0):
        return np.full(len(starts), 1.0 / len(starts))
    return weights / total


@dataclass(frozen=True)
class FollowUps:
    """One frame's first stage with the second stage that continues it.

    Attributes:
        score: EPDMS of the recorded scene.
        endpoint: Where its raw plan ends [m, world].
        starts: Where each follow-up starts [m, world].
        scores: EPDMS of each follow-up.
    """

    score: float
    endpoint: Float[ndarray, "2"]
    starts: Float[ndarray, "scene 2"]
    scores: Float[ndarray, "scene"]


def pseudo_simulation(now: FollowUps, earlier: FollowUps) -> float:
    """Two-stage EPDMS of one pair of frames; the benchmark's score is the mean over pairs.

    Mean over the two frames of S1 * sum_i w_i S2_i, `w` from `follow_up_weights`.

    Args:
        now: The frame itself.
        earlier: The frame 0.5 s before.
    """
    return float(
        np.mean(
            [
                frame.score * follow_up_weights(frame.endpoint, frame.starts) @ frame.scores
                for frame in (now, earlier)
            ]
        )
    )
