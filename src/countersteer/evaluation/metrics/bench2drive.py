"""Bench2Drive (Jia et al. 2024): 220 short CARLA routes; driving score, success, efficiency, comfortness.

Reference: github.com/Thinklab-SJTU/Bench2Drive 7ec25d1, `tools/merge_route_json.py` and
`tools/efficiency_smoothness_benchmark.py`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from countersteer.errors import UserError
from countersteer.evaluation.metrics import carla, comfort
from countersteer.evaluation.metrics.carla import Infractions, Leaderboard
from countersteer.evaluation.metrics.drive import Motion
from countersteer.evaluation.metrics.evidence import Finding, Score

__all__ = [
    "ROUTES",
    "Route",
    "comfortness",
    "driving_score",
    "efficiency",
    "mean_over_routes",
    "success",
    "success_rate",
]

ROUTES = 220
"""Routes of the benchmark; a missing one counts as a failure."""


@dataclass(frozen=True)
class Route:
    """The result of a route.

    Attributes:
        completion: Share of the route that was driven, in [0, 1].
        infractions: What happened on it. Speed checkpoints do not count, whatever they say.
    """

    completion: float
    infractions: Infractions


def driving_score(route: Route) -> float:
    """Leaderboard 2.0's driving score without its minimum speed (as since August 2024), 0 to 100."""
    unhurried = dataclasses.replace(route.infractions, minimum_speed=())
    return carla.driving_score(route.completion, unhurried, Leaderboard.V2_0)


def success(route: Route) -> bool:
    """Whether the route was completed without any infraction, minimum speed apart."""
    unhurried = dataclasses.replace(route.infractions, minimum_speed=())
    return route.completion >= 1.0 and unhurried == Infractions()


def mean_over_routes(scores: list[float], routes: int = ROUTES) -> float:
    """Driving score of the benchmark: the sum over all `routes`, whether they were driven or not."""
    return sum(scores) / routes


def success_rate(results: list[Route], routes: int = ROUTES) -> float:
    """Share of all `routes` that succeeded."""
    return sum(success(route) for route in results) / routes


def efficiency(checkpoints: list[list[float]]) -> float:
    """Mean speed relative to the traffic around, in percent; above 100 where the car is the faster one.

    Mean over a route's checkpoints, then over routes. Checkpoints above 1000 % and routes without
    checkpoints do not count. The reference divides by zero on a route where all are above; here such a
    route does not count either.

    Args:
        checkpoints: For each route, the car's mean speed over the traffic's at each checkpoint [%].

    Raises:
        UserError: If no route has a checkpoint that counts.
    """
    routes = [[one for one in route if one <= 1000.0] for route in checkpoints]
    means = [sum(route) / len(route) for route in routes if route]
    if not means:
        raise UserError("efficiency needs a speed checkpoint", got=f"{len(checkpoints)} routes without one")
    return sum(means) / len(means)


_CHUNK = 20
"""Steps of a chunk, 2 s at 10 Hz."""


def _signals(motion: Motion) -> comfort.ComfortSignals:
    def smooth(values: np.ndarray) -> np.ndarray:
        return comfort.savitzky_golay(values, 7, 2)

    def slope(values: np.ndarray) -> np.ndarray:
        return comfort.savitzky_golay(values, 7, 2, derivative=1, dt=0.1)

    forward = smooth(motion.acceleration[:, 0])
    turning = smooth(comfort.unwrap(motion.yaw_rate))
    return comfort.ComfortSignals(
        longitudinal_acceleration=forward,
        lateral_acceleration=smooth(motion.acceleration[:, 1]),
        jerk_magnitude=slope(smooth(np.hypot(*motion.acceleration.T))),
        longitudinal_jerk=slope(forward),
        yaw_acceleration=turning,
        yaw_rate=turning,
    )


def comfortness(motion: Motion) -> Score[tuple[float, ...]]:
    """Share of a drive's chunks of 2 s that are comfortable.

    A drive of up to 20 steps is one chunk; of a longer one, what is left after the last whole chunk does
    not count. As in the reference, "yaw acceleration" is the smoothed yaw rate once more, not its
    derivative (so its bound can never bind), and the yaw rate is unwrapped as if it were an angle.

    The reference fills the yaw rate from CARLA's `get_angular_velocity`, which is in degrees a second, and
    holds it against 0.95 all the same. A published number is met by giving degrees a second here; what
    the bound means, by giving radians.

    Args:
        motion: At 10 Hz.
    """
    count = len(motion.heading)
    starts = [0] if count <= _CHUNK else list(range(0, count - _CHUNK + 1, _CHUNK))
    passed, found = [], []
    for start in starts:
        part = motion.part(slice(start, start + _CHUNK))
        rough = comfort.violations(_signals(part))
        passed.append(float(not rough))
        for one in rough:
            assert one.tick is not None
            found.append(Finding(one.part, one.tick + start, value=one.value, note=one.note))
    return Score(sum(passed) / len(passed), tuple(passed), tuple(found))
