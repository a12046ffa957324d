"""Suites in worlds that others made: the rules of ours, on their roads, with their physics.

After comma.ai's tests in MetaDrive (arXiv 2504.19077, section 5.3): 24 cases of finding back to the lane's centre on
straights and bends, 20 of changing lanes. Their roads, starts and thresholds are not published; ours are those of
`lane_keeping` and `lane_change`, on roads of MetaDrive's blocks.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from countersteer.evaluation.suites import Case, Suite, lane_change, lane_keeping
from countersteer.scenarios.scenario import Scenario
from countersteer.worlds.bridges.metadrive.roads import Bend, Lane, Road, Straight, scenarios_on
from countersteer.worlds.bridges.metadrive.world import MetaDriveSpec
from countersteer.worlds.observations import Command
from countersteer.worlds.simulation.spec import BoxWorldSpec

__all__ = ["metadrive_lane_change", "metadrive_lane_keeping", "simulated_by"]

_RADII = {"gentle": (200.0, 800.0), "tight": (60.0, 200.0)}  # as our own gentle and tight roads [m]
_COMFORT = 2.5  # lateral acceleration that the speed leaves room for, as our own roads' [m/s^2]
_FASTEST = 16.0  # [m/s]


def metadrive_lane_keeping(traffic: float = 0.0, *, own_camera: bool = False) -> Suite:
    """`lane_keeping` in MetaDrive: 8 straights, 8 gentle and 8 tight bends, the same offset starts, the same rule.

    Args:
        traffic: Density of MetaDrive's traffic.
        own_camera: Pictures are MetaDrive's own.
    """
    ours = lane_keeping()
    lanes = [
        _lane(case.id.split("-")[0], k, 1 + k % 3, k % (1 + k % 3), traffic)
        for k, case in enumerate(ours.cases)
    ]
    return _suite(ours, scenarios_on(lanes), ours.cases, traffic, own_camera)


def metadrive_lane_change(traffic: float = 0.0, *, own_camera: bool = False) -> Suite:
    """`lane_change` in MetaDrive: 10 straights and 10 gentle bends, left and right in turn, the same rule."""
    ours = lane_change()
    lanes = []
    for k, case in enumerate(ours.cases):
        count = 2 + k % 3
        # From any lane that has another on that side.
        start = (k // 3) % (count - 1) + (case.command is Command.LEFT)
        lanes.append(_lane(case.id.split("-")[0], 100 + k, count, start, traffic))
    return _suite(ours, scenarios_on(lanes), ours.cases, traffic, own_camera)


def simulated_by(world: BoxWorldSpec, suite: Suite) -> Suite:
    """The same roads, starts and rule in another world, to tell what a difference comes from."""
    return dataclasses.replace(suite, name=f"{suite.name}_in_boxworld", world=world)


def _suite(
    ours: Suite, scenarios: list[Scenario], cases: tuple[Case, ...], traffic: float, own_camera: bool
) -> Suite:
    # What MetaDrive does not take from it (vehicles, their delays) stays as it was.
    fields = {field.name: getattr(ours.world, field.name) for field in dataclasses.fields(ours.world)}
    name = f"metadrive_{ours.name}" + (f"_traffic_{traffic:g}" if traffic else "")
    return dataclasses.replace(
        ours,
        name=name + ("_own_camera" if own_camera else ""),
        world=MetaDriveSpec(**fields, own_camera=own_camera),
        cases=tuple(
            dataclasses.replace(case, scenario=scenario)
            for case, scenario in zip(cases, scenarios, strict=True)
        ),
    )


def _lane(kind: str, seed: int, lanes: int, number: int, traffic: float) -> Lane:
    """A road of a kind; bends of random radius, to either side."""
    rng = np.random.default_rng([20_261_121, seed])
    if kind == "straight":
        return Lane(Road((Straight(560.0),), lanes, traffic=traffic, seed=seed), number, _FASTEST)
    tightest, widest = _RADII[kind]
    radii = [1.0 / rng.uniform(1.0 / widest, 1.0 / tightest) for _ in range(2)]
    first = bool(rng.integers(2))
    turned = 1.2 if kind == "tight" else 0.6
    bends = tuple(
        Bend(float(round(radius, 1)), turned, left, 40.0)
        for radius, left in zip(radii, (first, not first), strict=True)
    )
    speed = min(math.sqrt(_COMFORT * (min(radii) - 3.5 * lanes)), _FASTEST)
    road = Road((Straight(40.0), *bends, Straight(300.0)), lanes, traffic=traffic, seed=seed)
    return Lane(road, number, round(speed, 2))
