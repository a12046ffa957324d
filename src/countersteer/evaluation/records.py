"""What an evaluation keeps: one record a drive, one result a case, with the evidence."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray

from countersteer.scenarios.scenario import Scenario
from countersteer.worlds.interface import TerminationReason

__all__ = ["CaseResult", "DriveRecord", "SuiteResult"]


@dataclass(frozen=True)
class DriveRecord:
    """One car's drive, sampled every tick; all arrays share their first axis, time.

    Cars that were driven in one world have a record each, and share `actors` and `scenario`.

    Attributes:
        times: [s], from 0.
        position: Rear axle [m, world].
        heading: [rad].
        speed: [m/s].
        curvature: [1/m].
        acceleration: [m/s^2].
        lateral: Signed distance from the path, left positive [m].
        heading_error: Relative to the path [rad].
        arc: Progress along the path since the start [m].
        command: `Command` in force.
        alive: False after the drive has ended; what follows repeats the last state.
        cause: `TerminationReason`, NONE until the end.
        collision, off_road, red_light, wrong_way, uncomfortable: Events at each tick.
        collided_with: Actor slot, -1 if none.
        plan: The driven plan in the world frame [m].
        actors: Boxes of every actor: x, y, heading, length, width, height, kind (`ActorKind`; -1 where
            absent). The car itself is actor `slot`.
        path: The path to follow, as way points [m, world].
        size: Length and width of the car [m].
        scenario: Where.
        plan_times: When the points of `plan` are meant for, after the plan was made [s]; None where not known.
        label: What the expert would have planned, as `plan`, or None when it was not asked.
        labelled: Where the expert is defined; None without `label`.
        confidence: How far the world could be trusted at the car's pose, in [0, 1], or None where not known.
        views: What each camera saw, by its name, the first one first; empty where that was not kept.
        slot: Which of the actors the car is.
        start: When in the scenario the drive began [s].
        goal: Where its goal lies, as `arc` [m]; None for a drive that follows the recorded one.
        heights: Of every actor's box centre [m]; None where all stand on one level, or nobody knows.
    """

    times: Float[ndarray, "time"]
    position: Float[ndarray, "time 2"]
    heading: Float[ndarray, "time"]
    speed: Float[ndarray, "time"]
    curvature: Float[ndarray, "time"]
    acceleration: Float[ndarray, "time"]
    lateral: Float[ndarray, "time"]
    heading_error: Float[ndarray, "time"]
    arc: Float[ndarray, "time"]
    command: Int[ndarray, "time"]
    alive: Bool[ndarray, "time"]
    cause: Int[ndarray, "time"]
    collision: Bool[ndarray, "time"]
    off_road: Bool[ndarray, "time"]
    red_light: Bool[ndarray, "time"]
    wrong_way: Bool[ndarray, "time"]
    uncomfortable: Bool[ndarray, "time"]
    collided_with: Int[ndarray, "time"]
    plan: Float[ndarray, "time point 2"]
    actors: Float[ndarray, "time actor 7"]
    path: Float[ndarray, "n 2"]
    size: tuple[float, float]
    scenario: Scenario
    plan_times: Float[ndarray, "point"] | None = None
    label: Float[ndarray, "time point 2"] | None = None
    labelled: Bool[ndarray, "time"] | None = None
    confidence: Float[ndarray, "time"] | None = None
    views: dict[str, UInt8[ndarray, "time _ _ 3"]] = field(default_factory=dict)
    slot: int = 0
    start: float = 0.0
    goal: float | None = None
    heights: Float[ndarray, "time actor"] | None = None

    @property
    def others(self) -> Int[ndarray, "actor"]:
        """Slots of all actors but the car itself."""
        return np.delete(np.arange(self.actors.shape[1]), self.slot)

    @property
    def lights(self) -> Int[ndarray, "light time"]:
        """`SignalState` of the scenario's lights at each tick."""
        at = np.searchsorted(self.scenario.times, self.start + self.times + 1e-6, side="right") - 1
        return self.scenario.signals.state[:, np.clip(at, 0, len(self.scenario.times) - 1)]

    def until(self, tick: int) -> DriveRecord:
        """The record without this tick and those after it."""
        whole = ("path", "size", "scenario", "plan_times", "slot", "start", "goal")

        def cut(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: part[:tick] for name, part in value.items()}
            return None if value is None else value[:tick]

        parts = {name: cut(value) for name, value in vars(self).items() if name not in whole}
        return dataclasses.replace(self, **parts)

    @property
    def frames(self) -> UInt8[ndarray, "time height width 3"] | None:
        """What the first camera saw, or None when it was not kept."""
        return next(iter(self.views.values()), None)

    @property
    def last(self) -> int:
        """The last tick of the drive; what follows repeats it."""
        return int(np.flatnonzero(self.alive)[-1]) if self.alive.any() else 0

    @property
    def failure(self) -> TerminationReason | None:
        """Why the drive ended before its time and its goal; None where it did not."""
        cause = TerminationReason(int(self.cause[-1]))
        fine = (TerminationReason.NONE, TerminationReason.TIME, TerminationReason.GOAL)
        return None if cause in fine else cause


@dataclass(frozen=True)
class CaseResult:
    """Verdict on one case.

    Attributes:
        case: Identifier, for example "gentle-03".
        passed: The verdict; None for cases reported apart from the count.
        reason: Why it failed, in words, with the number that broke the rule; empty if passed.
        fail_time: When it failed [s], None if it passed.
        measures: Named numbers behind the verdict (SI units in the name where not obvious).
    """

    case: str
    passed: bool | None
    reason: str
    fail_time: float | None
    measures: dict[str, float]


@dataclass(frozen=True)
class SuiteResult:
    """Results of a suite for one driver.

    Attributes:
        suite: Name of the suite.
        driver: What drove: a recipe's name, "expert", ...
        protocol: What must be equal for two results to be comparable (suite version, seeds, world, vehicle).
        cases: One a case, in suite order.
        records: Drives behind the cases, in the same order; empty when loaded from a file.
    """

    suite: str
    driver: str
    protocol: str
    cases: tuple[CaseResult, ...]
    records: tuple[DriveRecord, ...] = field(default=(), repr=False)

    @property
    def passed(self) -> int:
        """Cases passed."""
        return sum(case.passed is True for case in self.cases)

    @property
    def total(self) -> int:
        """Cases that count."""
        return sum(case.passed is not None for case in self.cases)

    @property
    def passes(self) -> Bool[ndarray, "case"]:
        """Verdicts of the cases that count."""
        return np.array([case.passed for case in self.cases if case.passed is not None], bool)
