"""Self-play as a suite: one driver drives every car, each car is a case, and passes if it reaches its goal without failure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from countersteer.drivers.interface import Driver
from countersteer.errors import UserError
from countersteer.evaluation.driving import record_drives
from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.evaluation.statistics import clustered_interval
from countersteer.experts.interface import Expert
from countersteer.geometry.cameras import Camera
from countersteer.policies.interface import Policy
from countersteer.ranges import Ranged, Seed
from countersteer.rewards.weights import RewardWeights
from countersteer.rollouts.rollouter import Rollouter
from countersteer.scenarios.scenario import Scenario
from countersteer.storage.serialise import fingerprint
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.world import WorldSpec

__all__ = ["FAILURES", "RED_LIGHT", "Population", "SelfPlaySuite"]

RED_LIGHT = 0.7
"""What a red light leaves of a car's score, as in the CARLA leaderboard."""
FAILURES = (
    TerminationReason.COLLISION,
    TerminationReason.OFF_ROAD,
    TerminationReason.OFF_ROUTE,
    TerminationReason.WRONG_WAY,
    TerminationReason.INVALID_STATE,
)
"""Causes that a car is to blame for; TIME and GOAL are none."""
_FIRST_DRIVE = 1_000_000_000  # identity of the first drive; training uses small ones


@dataclass(frozen=True)
class SelfPlaySuite(Ranged):
    """Worlds in which one driver drives every car, as many as there are scenarios.

    Attributes:
        world: Its `terminate` should hold the failures that count. A driver adds what it senses.
        scenarios: Where.
        recorded: Whether each scenario is driven once, from where it begins; else starts are drawn as the world's settings say.
        seed: Of starts, vehicles and looks.
    """

    world: WorldSpec
    scenarios: tuple[Scenario, ...]
    recorded: bool = False
    seed: Seed = 0

    @property
    def protocol(self) -> str:
        """What must be equal for two results to be comparable."""
        return f"self_play v1 {fingerprint(self, of={Scenario: Scenario.fingerprint})[:12]}"

    def drive(
        self,
        name: str,
        driver: Driver,
        policy: Policy | None = None,
        expert: Expert | None = None,
        *,
        coefficients: RewardWeights | None = None,
        cameras: tuple[Camera, ...] = (),
        viewer: int | None = None,
    ) -> SuiteResult:
        """Drive every world until all cars' drives have ended; the cars that could begin are the cases, with their records.

        Args:
            name: Of what drives.
            driver: Who drives all cars.
            policy, expert: Asked if the driver needs them; the cars carry what the policy reads.
            coefficients: What each car is asked for; None for the policy's default.
            cameras: Carried too, and their pictures are kept.
            viewer: Whose pictures, by slot; None for every car's.

        Raises:
            UserError: Drives have no time, or nobody can begin.
        """
        ticks = round(self.world.duration / self.world.dt)
        if ticks < 1:
            raise UserError(
                "drives have no time", got=self.world.duration, fix="set duration to more than 0 s"
            )
        spec, sensors = self._seen_by(policy)
        world = spec.carrying(*spec.sensors, *cameras).build(self.scenarios, len(self.scenarios), self.seed)
        drives = torch.arange(world.batch)
        starts = (
            world.starts_at(drives, 0 * drives, drives, jitter=False)
            if self.recorded
            else world.draw_starts(_FIRST_DRIVE + drives)
        )
        driving = Rollouter(
            world, driver, policy, expert, self.seed, coefficients=coefficients, sensors=sensors
        )
        driving.begin(torch.ones(world.batch, dtype=torch.bool), starts)
        # The tick after the last one shows how the drives ended.
        found = record_drives(driving, starts, ticks + 1, to_goals=True, cameras=cameras, viewer=viewer)
        cases = {
            f"{k // world.agents} {record.scenario.id} car {record.slot}": record
            for k, record in enumerate(found)
            if record.alive[0]
        }
        if not cases:
            raise UserError(
                "nobody can begin",
                got="every car stands off the road, upon another one, or has nowhere to go",
                expected="at least one car with a goal ahead",
                fix="choose other scenarios",
            )
        results = tuple(_judge(case, record) for case, record in cases.items())
        return SuiteResult("self_play", name, self.protocol, results, tuple(cases.values()))

    def _seen_by(self, policy: Policy | None) -> tuple[WorldSpec, tuple[str, ...]]:
        """The world with what a policy reads, and the names of that."""
        if policy is None:
            return self.world, ()
        points = policy.spec.target_points > 0
        seen = (*policy.spec.cameras, *((policy.spec.vector,) if policy.spec.vector is not None else ()))
        spec = self.world.carrying(*seen).simulate(target_points=points, navigation=not points)
        return spec, tuple(sensor.name for sensor in seen)


def _judge(case: str, record: DriveRecord) -> CaseResult:
    """Passed is who reached its goal; the score is the share of the way, times `RED_LIGHT` for each red light, 0 for a failure."""
    assert record.goal is not None
    cause = TerminationReason(int(record.cause[-1]))
    going, reds = record.alive, int(record.red_light.sum())
    ticks = np.float32(going.sum())
    # In single precision, as worlds count.
    way = np.float32(record.arc[-1]) / np.maximum(np.float32(record.goal), np.float32(1.0))
    progress = 1.0 if cause is TerminationReason.GOAL else float(np.clip(way, 0.0, 1.0))
    # Speeds are those that the ticks ended with.
    pace = np.cumsum(record.speed[1:][going[:-1]].astype(np.float32))[-1]
    measures = {
        "progress": progress,
        "score": 0.0 if cause in FAILURES else progress * RED_LIGHT**reds,
        "red_lights": float(reds),
        "uncomfortable": float(np.float32(record.uncomfortable.sum()) / ticks),
        "speed_mps": float(pace / ticks),
    }
    if cause is TerminationReason.GOAL:
        return CaseResult(case, True, "", None, measures)
    reason = f"ended: {cause.name.lower().replace('_', ' ')}"
    if cause is TerminationReason.TIME:
        reason = f"{progress:.0%} of the way when the time was up"
    return CaseResult(case, False, reason, float(record.times[record.last]), measures)


@dataclass(frozen=True)
class Population:
    """What became of the cars of a result, one entry each.

    Attributes:
        scene: Scenario each drove in.
        cause: `TerminationReason` by which its drive ended; TIME where the time ran out.
        progress: Share of the way to its goal that it made, in [0, 1].
        red_lights: Stop lines that it crossed at red.
        uncomfortable: Share of its ticks outside the comfort bounds.
        speed: Mean over its drive [m/s].
        score: Driving score, in [0, 1].
    """

    scene: Int[ndarray, "car"]
    cause: Int[ndarray, "car"]
    progress: Float[ndarray, "car"]
    red_lights: Int[ndarray, "car"]
    uncomfortable: Float[ndarray, "car"]
    speed: Float[ndarray, "car"]
    score: Float[ndarray, "car"]

    @classmethod
    def of(cls, suite: SelfPlaySuite, result: SuiteResult) -> Population:
        """Of a result of this suite, with its records."""
        number = {id(scenario): k for k, scenario in enumerate(suite.scenarios)}

        def measured(name: str) -> ndarray:
            return np.array([case.measures[name] for case in result.cases])

        return cls(
            scene=np.array([number[id(record.scenario)] for record in result.records]),
            cause=np.array([int(record.cause[-1]) for record in result.records]),
            progress=measured("progress"),
            red_lights=measured("red_lights").astype(int),
            uncomfortable=measured("uncomfortable"),
            speed=measured("speed_mps"),
            score=measured("score"),
        )

    def ended_by(self, *causes: TerminationReason) -> Bool[ndarray, "car"]:
        """Which cars ended so."""
        return np.isin(self.cause, [int(cause) for cause in causes])

    def shares(self) -> dict[str, float]:
        """Means over the cars: goals, failures by cause, score, comfort, speed."""
        causes = {
            f"{c.name.lower()}": float(self.ended_by(c).mean()) for c in (TerminationReason.GOAL, *FAILURES)
        }
        means = ("progress", "score", "red_lights", "uncomfortable", "speed")
        return causes | {name: float(getattr(self, name).mean()) for name in means}

    def interval(
        self, values: Float[ndarray, "car"], *, seed: int = 0, draws: int = 2_000
    ) -> tuple[float, float]:
        """95 % interval of a mean, by drawing whole scenes anew: cars of one scene are not independent."""
        return clustered_interval(values, self.scene, seed=seed, draws=draws)
