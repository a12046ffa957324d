"""CARLA leaderboard: driving score = route completion x infraction penalty, in three editions.

Reference: github.com/carla-simulator/leaderboard, `leaderboard/utils/statistics_manager.py`, branches
leaderboard-1.0, -2.0 and -2.1. The benchmark's score is the mean over its routes; a route that failed or never
began counts 0. The reference rounds each route's score to six digits; ours does not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum

import numpy as np

from countersteer.errors import UserError
from countersteer.evaluation.metrics import contacts
from countersteer.evaluation.metrics.areas import ego_areas, intrusion
from countersteer.evaluation.metrics.drive import Drive
from countersteer.evaluation.metrics.evidence import Finding, Score
from countersteer.geometry import polylines
from countersteer.scenarios.scenario import ActorKind

__all__ = [
    "CarlaParts",
    "Infractions",
    "Leaderboard",
    "driving_score",
    "infractions_per_km",
    "penalty",
    "score_driving",
]


class Leaderboard(Enum):
    """Edition of the rules."""

    V1_0 = "1.0"
    V2_0 = "2.0"
    V2_1 = "2.1"


@dataclass(frozen=True)
class Infractions:
    """What happened on a route.

    Attributes:
        pedestrian_collisions, vehicle_collisions, static_collisions: How many.
        red_lights, stop_signs: How many were run.
        scenario_timeouts, unyielded_emergencies: How many (2.x).
        minimum_speed: At each checkpoint where the car was slower than the traffic around it, its mean
            speed over theirs, in [0, 1] (2.x).
        outside_lanes: Share of the driven route that lay outside the route's lanes, in [0, 1].
        route_deviation, blocked, route_timeout: Whether the route ended so; without a factor of its own.
    """

    pedestrian_collisions: int = 0
    vehicle_collisions: int = 0
    static_collisions: int = 0
    red_lights: int = 0
    stop_signs: int = 0
    scenario_timeouts: int = 0
    unyielded_emergencies: int = 0
    minimum_speed: tuple[float, ...] = ()
    outside_lanes: float = 0.0
    route_deviation: bool = False
    blocked: bool = False
    route_timeout: bool = False

    def __post_init__(self) -> None:
        for share in (*self.minimum_speed, self.outside_lanes):
            if not 0.0 <= share <= 1.0:
                raise UserError(
                    "a share of an infraction is out of range",
                    got=share,
                    expected="0 to 1",
                    fix="divide the leaderboard's percentages by 100",
                )


_FACTORS = {
    "pedestrian_collisions": (0.50, 1.0),
    "vehicle_collisions": (0.60, 0.70),
    "static_collisions": (0.65, 0.60),
    "red_lights": (0.70, 0.40),
    "stop_signs": (0.80, 0.25),
    "scenario_timeouts": (0.70, 0.40),
    "unyielded_emergencies": (0.70, 0.40),
}
"""Factor of each event in 1.0 and 2.0, summand in 2.1."""
_SINCE_2 = ("scenario_timeouts", "unyielded_emergencies")


def penalty(infractions: Infractions, edition: Leaderboard) -> float:
    """Infraction penalty, in [0, 1].

    Up to 2.0 the product of a factor for each event; in 2.1 1 / (1 + the sum of a summand for each). Either is
    multiplied with the share of the route driven within its lanes.
    """
    product, total = 1.0, 0.0
    for name, (factor, summand) in _FACTORS.items():
        if edition is Leaderboard.V1_0 and name in _SINCE_2:
            continue
        count = getattr(infractions, name)
        product *= factor**count
        total += summand * count
    if edition is not Leaderboard.V1_0:
        for share in infractions.minimum_speed:
            product *= 1.0 - 0.3 * (1.0 - share)
            total += 0.4 * (1.0 - share)
    within = 1.0 - infractions.outside_lanes
    return within / (1.0 + total) if edition is Leaderboard.V2_1 else within * product


@dataclass(frozen=True)
class CarlaParts:
    """What a driving score is made of.

    Attributes:
        completion: Share of the route that was driven, in [0, 1].
        infractions: What happened on it.
        penalty: Its penalty, in [0, 1].
    """

    completion: float
    infractions: Infractions
    penalty: float

    @property
    def status(self) -> str:
        """The leaderboard's word for the route: Perfect, Completed or Failed."""
        if self.completion < 1.0:
            return "Failed"
        clean = all(not getattr(self.infractions, f.name) for f in fields(Infractions))
        return "Perfect" if clean else "Completed"


def driving_score(completion: float, infractions: Infractions, edition: Leaderboard) -> float:
    """Driving score of a route, 0 to 100.

    Args:
        completion: Share of the route that was driven, in [0, 1].
        infractions: What happened on it.
        edition: Whose rules.
    """
    return 100.0 * completion * penalty(infractions, edition)


def infractions_per_km(count: int, lengths: list[float], completions: list[float]) -> float:
    """Events of a kind over the kilometres driven on all routes (at least 1 m).

    Args:
        count: Events.
        lengths: Length of each route [m].
        completions: Share of each that was driven.
    """
    driven = sum(length / 1000 * share for length, share in zip(lengths, completions, strict=True))
    return count / max(0.001, driven)


def _observed(drive: Drive) -> tuple[float, Infractions, list[Finding]]:
    drive.needs(route=drive.route)
    assert drive.route is not None
    kinds = {ActorKind.PEDESTRIAN: "pedestrian", ActorKind.STATIC: "static"}
    hit = {"pedestrian": 0, "vehicle": 0, "static": 0}
    found: list[Finding] = []
    for contact in contacts.first_contacts(drive):
        name = kinds.get(ActorKind(int(drive.actors.kind[contact.actor])), "vehicle")
        hit[name] += 1
        found.append(Finding(f"{name}_collisions", contact.tick, (contact.actor,), note=contact.kind.value))
    red = intrusion(drive)
    for light in np.flatnonzero(red.any(0)):
        found.append(Finding("red_lights", int(red[:, light].argmax()), note=f"light {light}"))
    s, _ = polylines.follow(drive.route, drive.center)
    length = float(polylines.arc_length(drive.route)[-1])
    completion = min(max(float(s.max()) / length, 0.0), 1.0)
    if completion > 1.0 - 1e-9:
        completion = 1.0
    moved = np.linalg.norm(np.diff(drive.center, axis=0), axis=1)
    off = ego_areas(drive).off_route[1:]
    outside = float(moved[off].sum() / moved.sum()) if drive.road.lanes and moved.sum() > 0 else 0.0
    if outside > 0:
        found.append(
            Finding(
                "outside_lanes", int(off.argmax()) + 1, value=outside, note="of the way outside the lanes"
            )
        )
    infractions = Infractions(
        pedestrian_collisions=hit["pedestrian"],
        vehicle_collisions=hit["vehicle"],
        static_collisions=hit["static"],
        red_lights=int(red.any(0).sum()),
        outside_lanes=outside,
    )
    return completion, infractions, found


def score_driving(drive: Drive, edition: Leaderboard) -> Score[CarlaParts]:
    """Driving score of a drive, 0 to 100, from what its record shows.

    The record shows collisions (one an actor), red lights (one a light), completion (the farthest point along
    the route, from its first point to its last) and the share outside the route's lanes. What only the simulator knows (stop signs,
    emergency vehicles, timeouts, speed checkpoints) is not in it: with those, call `driving_score`.

    Args:
        drive: With route and lanes.
        edition: Whose rules.

    Raises:
        UserError: If there is no route.
    """
    completion, infractions, found = _observed(drive)
    if completion < 1.0:
        found.append(Finding("completion", None, value=completion, note="of the route"))
    parts = CarlaParts(completion, infractions, penalty(infractions, edition))
    return Score(driving_score(completion, infractions, edition), parts, tuple(found))
