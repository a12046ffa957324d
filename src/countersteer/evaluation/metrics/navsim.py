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
from jaxtyping import Float
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics import comfort, navsim_parts
from countersteer.evaluation.metrics.areas import ego_areas
from countersteer.evaluation.metrics.drive import Drive, Motion
from countersteer.evaluation.metrics.evidence import Finding, Score
from countersteer.scenarios.scenario import Tracks

__all__ = [
    "EpdmsParts",
    "FollowUps",
    "PdmsParts",
    "Progress",
    "epdms",
    "follow_up_weights",
    "human_filter",
    "pdms",
    "progress_share",
    "progress_share_v1",
    "pseudo_simulation",
    "score_epdms",
    "score_pdms",
]


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


def _progress_v1(drive: Drive) -> Progress:
    areas = ego_areas(drive)
    return Progress(
        navsim_parts.meters_made(drive),
        navsim_parts.no_collision(drive, areas)[0] * navsim_parts.drivable_area(areas)[0],
    )


def _progress(drive: Drive) -> Progress:
    areas = ego_areas(drive)
    multiplier = (
        navsim_parts.no_collision(drive, areas)[0]
        * navsim_parts.drivable_area(areas)[0]
        * navsim_parts.traffic_light(drive)[0]
    )
    direction, _ = navsim_parts.driving_direction(drive, areas.off_route & ~areas.center_in_intersection)
    return Progress(navsim_parts.meters_made(drive), multiplier * direction)


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
    navsim_parts.check_rate(drive)
    areas = ego_areas(drive)
    no_collision, a = navsim_parts.no_collision(drive, areas)
    drivable_area, b = navsim_parts.drivable_area(areas)
    time_to_collision, c = navsim_parts.time_to_collision(drive, areas, later)
    # v1 looks at the rear axle, and fits one parabola to the whole plan.
    signals = comfort.filtered_signals(drive.ego, drive.dt, ahead=0.0, whole=True)
    d = comfort.violations(signals)
    # v1 counts intersections too; its weight is 0, so nobody noticed.
    direction, e = navsim_parts.driving_direction(drive, areas.off_route)
    agent = Progress(navsim_parts.meters_made(drive), no_collision * drivable_area)
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
        value, found = navsim_parts.extended_comfort(drive.ego.part(slice(0, together)), before, drive.dt)
        parts, findings = dataclasses.replace(parts, extended_comfort=value), (*findings, *found)
    return Score(epdms(parts), parts, findings)


def _epdms_parts(drive: Drive, reference: Drive | None) -> tuple[EpdmsParts, tuple[Finding, ...]]:
    navsim_parts.check_rate(drive)
    areas = ego_areas(drive)
    no_collision, a = navsim_parts.no_collision(drive, areas)
    drivable_area, b = navsim_parts.drivable_area(areas)
    direction, c = navsim_parts.driving_direction(drive, areas.off_route & ~areas.center_in_intersection)
    light, d = navsim_parts.traffic_light(drive)
    time_to_collision, e = navsim_parts.time_to_collision(drive, areas)
    keeping, f = navsim_parts.lane_keeping(drive, areas)
    comfortable, g = navsim_parts.history_comfort(drive)
    agent = Progress(navsim_parts.meters_made(drive), no_collision * drivable_area * direction * light)
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
