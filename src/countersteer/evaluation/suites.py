"""Closed-loop tests with pass rules that a person can verify on paper."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from countersteer.data.sources import RecordedDrive, ScenarioSource, StreetDrives
from countersteer.errors import UserError
from countersteer.evaluation.driving import drive
from countersteer.evaluation.fault import at_fault
from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.geometry import polylines
from countersteer.geometry.boxes import REAR_AXLE_SHARE
from countersteer.geometry.cameras import Camera
from countersteer.policies.interface import Policy, PolicySpec
from countersteer.ranges import Count, Finite, NonNegative, Ranged, Seed
from countersteer.scenarios.coverage import coverage
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.routes import REVERSING, backed_up
from countersteer.scenarios.scenario import Scenario
from countersteer.storage.serialise import fingerprint
from countersteer.traffic.idm import IDM
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.observations import Command
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.simulation.spec import StartSpec
from countersteer.worlds.simulation.starting import RoadStarts
from countersteer.worlds.world import WorldSpec

__all__ = [
    "Case",
    "Suite",
    "lane_change",
    "lane_keeping",
    "recorded",
    "recorded_from",
    "run_suite",
    "streets",
    "suite_for",
    "with_navigation",
    "with_target_points",
]

_TEST_SEEDS = 7_000_000_000_000_000  # training scenarios draw theirs below 2^48; no test road is among them
_STANDING = 10.0
"""Of a recorded drive, the way below which it does not count [m]."""
_WORLD = WorldSpec(
    RoadSimulationSpec(
        start=StartSpec(lateral=0.0, heading=0.0, speed=0.0, set_speed=(1.0, 1.0)),
        max_route_deviation=6.0,
        terminate=(TerminationReason.OFF_ROUTE, TerminationReason.INVALID_STATE),
    ),
    BoxRendererSpec(),
)


@dataclass(frozen=True)
class Case(Ranged):
    """One drive of a suite.

    Attributes:
        id: Name.
        scenario: Where; the drive begins on its recorded start.
        lateral, heading: Perturbation of the start [m, rad], left positive.
        command, command_time: What is asked for and when [s].
        counts: Whether it counts towards the total.
        reactive: Whether other traffic reacts (IDM) rather than replaying.
    """

    id: str
    scenario: Scenario
    lateral: Finite = 0.0
    heading: Finite = 0.0
    command: Command = Command.FOLLOW
    command_time: NonNegative = 0.0
    counts: bool = True
    reactive: bool = False


@dataclass(frozen=True)
class Suite(Ranged):
    """Cases, the world they are driven in, and the rule that judges a record.

    Attributes:
        name, version: A result names both; a change of the rule, or of the code behind a case, raises the version.
        world: Settings; the tick and cameras are the policy's.
        cases: In order, each of another name.
        rule: From case and record to the verdict.
        seed: Of vehicles and looks, the same for every driver.

    Raises:
        UserError: Two cases have one name.
    """

    name: str
    version: Count
    world: WorldSpec
    cases: tuple[Case, ...]
    rule: Callable[[Case, DriveRecord], CaseResult]
    seed: Seed = 20_261_121

    def __post_init__(self) -> None:
        super().__post_init__()
        ids = [case.id for case in self.cases]
        if twice := [name for name in dict.fromkeys(ids) if ids.count(name) > 1]:
            raise UserError(
                f"cases of the suite {self.name!r} share a name",
                got=", ".join(map(repr, twice[:3])) + (" ..." if len(twice) > 3 else ""),
                expected="a name of its own for each, because results are told apart by it",
                fix="say in the id of a Case what sets it apart",
            )

    @property
    def protocol(self) -> str:
        """What must be equal for two results to be comparable: a digest of all that a suite is.

        Raises:
            UserError: The rule is no function at the top of a module (nor a dataclass), so it has no name of its own.
        """
        digest = fingerprint(self, of={Scenario: Scenario.fingerprint})
        return f"{self.name} v{self.version} {digest[:12]}"


def with_target_points(suite: Suite) -> Suite:
    """The suite for drivers that read points of the route ahead. They tell a car how far it is aside, so it is another suite."""
    if suite.world.simulation.target_points:
        return suite
    world = suite.world.simulate(target_points=True)
    return dataclasses.replace(suite, name=f"{suite.name}_with_targets", world=world)


def with_navigation(suite: Suite) -> Suite:
    """The suite for drivers that are told left or right at turns, as by a navigation system; another suite."""
    if suite.world.simulation.navigation:
        return suite
    world = suite.world.simulate(navigation=True)
    return dataclasses.replace(suite, name=f"{suite.name}_with_navigation", world=world)


def suite_for(spec: PolicySpec, suite: Suite) -> Suite:
    """The suite as a policy can drive it: told of the route what it was trained to be told, and no more.

    Raises:
        UserError: The policy does not drive by pictures.
    """
    if spec.vector is not None:
        raise UserError(
            f"{suite.name} is driven by pictures, and this policy is privileged",
            got="one that reads the vector observation",
            expected="one with cameras",
            fix="countersteer evaluate RUN --suite self_play drives it in worlds that have the vector",
        )
    suite = with_target_points(suite) if spec.target_points else suite
    return with_navigation(suite) if spec.navigation else suite


def run_suite(
    suite: Suite,
    driver: str,
    policy: Policy | None,
    *,
    frames: bool = False,
    on_tick: Callable[[int, int], None] | None = None,
) -> SuiteResult:
    """Drive all cases with a policy, or with the expert if it is None."""
    world = suite.world if suite.world.sensors else suite.world.carrying(Camera())
    if policy is not None:
        world = suite.world.carrying(*policy.spec.cameras).simulate(dt=policy.spec.dt)
    records: dict[str, DriveRecord] = {}
    for reactive in (False, True):
        cases = [case for case in suite.cases if case.reactive is reactive]
        if not cases:
            continue

        def place(starts: RoadStarts, cases: list[Case] = cases) -> RoadStarts:
            def column(values: list[float]) -> torch.Tensor:
                return torch.tensor(values, dtype=starts.speed.dtype)[:, None]

            aside = column([case.lateral for case in cases])
            left = torch.stack([-starts.heading.sin(), starts.heading.cos()], -1)
            when = [
                round(case.command_time / world.dt) if case.command is not Command.FOLLOW else -1
                for case in cases
            ]
            return starts.replace(
                position=starts.position + aside[..., None] * left,
                heading=starts.heading + column([case.heading for case in cases]),
                command=torch.tensor([[int(case.command)] for case in cases]),
                command_tick=torch.tensor(when)[:, None],
            )

        settings = world.simulate(traffic=IDM() if reactive else None)
        scenarios = [case.scenario for case in cases]
        driven = drive(settings, scenarios, place, policy, seed=suite.seed, frames=frames, on_tick=on_tick)
        records |= {case.id: record for case, record in zip(cases, driven, strict=True)}
    ordered = tuple(records[case.id] for case in suite.cases)
    results = tuple(suite.rule(case, record) for case, record in zip(suite.cases, ordered, strict=True))
    return SuiteResult(suite.name, driver, suite.protocol, results, ordered)


def _wheels(record: DriveRecord) -> np.ndarray:
    """Positions of the four wheels [time 4 2]: axles a wheelbase apart, wheels at the body's sides."""
    length, width = record.size
    wheelbase = length * (1 - 2 * (0.5 - REAR_AXLE_SHARE))  # as much overhang before as behind
    course = np.stack([np.cos(record.heading), np.sin(record.heading)], -1)
    left = np.stack([-course[:, 1], course[:, 0]], -1)
    return np.stack(
        [
            record.position + wheelbase * along * course + side * width / 2 * left
            for along in (0, 1)
            for side in (-1, 1)
        ],
        1,
    )


def _ended(record: DriveRecord, *fine: TerminationReason) -> tuple[str, float | None]:
    """In words, and when, a drive ended early; nothing if it did not, or in a way that is fine."""
    cause = TerminationReason(int(record.cause[-1]))
    if cause in (TerminationReason.NONE, TerminationReason.TIME, *fine):
        return "", None
    return f"ended: {cause.name.lower().replace('_', ' ')}", float(record.times[record.last])


def _keeping_rule(case: Case, record: DriveRecord) -> CaseResult:
    """Mean |lateral error| <= 0.30 m over the last 5 of 15 s, and no wheel outside the lane after 6 s."""
    last = record.times >= record.times[-1] - 5.0 + 1e-6
    error = float(np.abs(record.lateral[last]).mean())
    wheels = _wheels(record)
    aside = np.abs([polylines.follow(record.path, wheels[:, k])[1] for k in range(4)]).max(0)
    outside = (aside > record.scenario.lane_width / 2) & (record.times >= 6.0)
    measures = {
        "mean_error_m": error,
        "largest_error_m": float(np.abs(record.lateral).max()),
        "speed_mps": float(record.speed.mean()),
    }
    reason, when = _ended(record)
    if not reason and outside.any():
        when = float(record.times[np.argmax(outside)])
        reason = f"a wheel left the lane at {when:.1f} s"
    elif not reason and error > 0.30:
        reason, when = f"mean error {error:.2f} m over the last 5 s", float(record.times[last][0])
    return CaseResult(case.id, not reason, reason, when, measures)


def _test_seed(roads: int) -> int:
    if not 0 <= roads < 1000:
        raise UserError("there is no such set of test roads", got=roads, expected="0 to 999")
    return _TEST_SEEDS + 1_000_000 * roads


def _named(name: str, roads: int) -> str:
    return f"{name}_{roads}" if roads else name


def lane_keeping(roads: int = 0) -> Suite:
    """24 cases: straights, gentle and tight curves never seen in training, from offset starts.

    Starts are 0.5 to 1.0 m aside and turned by 2 to 4 degrees; the vehicle's delay, gain and pull are
    drawn at random; the road's speed keeps its lateral acceleration under 3 m/s^2. The only command is
    "follow", and no target points are given.

    Args:
        roads: Which set of roads, in [0, 1000); settings were chosen with set 0 in view, others are fresh.
    """
    cases = []
    for number in range(24):
        kind = (RoadKind.STRAIGHT, RoadKind.GENTLE, RoadKind.TIGHT)[number // 8]
        k = number % 8
        scenario = procedural_road(_test_seed(roads) + number, kind, lanes=1 + k % 3, length=620.0)
        cases.append(
            Case(
                f"{kind.value}-{k + 1}",
                scenario,
                lateral=(0.5 + 0.5 * k / 7) * (-1 if k % 2 else 1),
                heading=math.radians(2 + 2 * ((3 * k) % 8) / 7) * (-1 if (k // 2) % 2 else 1),
            )
        )
    return Suite(_named("lane_keeping", roads), 1, _WORLD, tuple(cases), _keeping_rule)


def _change_rule(case: Case, record: DriveRecord) -> CaseResult:
    """Within 0.4 m of the target lane's centre from 8 s on, to the end."""
    late = record.times >= 8.0 - 1e-6
    error = np.abs(record.lateral)
    beyond = late & (error > 0.4)
    measures = {
        "error_at_8s_m": float(error[late][0]),
        "largest_error_after_8s_m": float(error[late].max()),
        "speed_mps": float(record.speed.mean()),
    }
    reason, when = _ended(record)
    if not reason and beyond.any():
        when = float(record.times[np.argmax(beyond)])
        reason = f"{error[beyond][0]:.2f} m from the target lane at {when:.1f} s"
    return CaseResult(case.id, not reason, reason, when, measures)


def lane_change(roads: int = 0) -> Suite:
    """20 cases: at 2 s the command to change one lane, nothing else; in the lane by 8 s and kept to 15 s.

    Args:
        roads: As in `lane_keeping`.
    """
    cases: list[Case] = []
    seed = _test_seed(roads) + 1000
    while len(cases) < 20:
        k = len(cases)
        kind = RoadKind.STRAIGHT if k < 10 else RoadKind.GENTLE
        scenario = procedural_road(seed, kind, lanes=2 + k % 3, length=620.0)
        seed += 1
        wanted = Command.LEFT if k % 2 == 0 else Command.RIGHT
        sign = 1 if wanted is Command.LEFT else -1
        if not any(sign * offset > 0.5 for offset in scenario.route_offsets):
            continue
        side = wanted.name.lower()
        cases.append(Case(f"{kind.value}-{side}-{k + 1}", scenario, command=wanted, command_time=2.0))
    return Suite(_named("lane_change", roads), 1, _WORLD, tuple(cases), _change_rule)


def _recorded_rule(case: Case, record: DriveRecord) -> CaseResult:
    """No at-fault collision, no corner off the road where the log's has road, progress >= 0.7 of the log's."""
    scenario = record.scenario
    assert scenario.ego is not None
    tracks, ego = scenario.tracks, scenario.ego
    log, upto = tracks.position[ego, :, :2], scenario.times <= record.times[-1] + 1e-6
    logged = float(np.linalg.norm(np.diff(log[upto & tracks.valid[ego]], axis=0), axis=1).sum())
    progress = float(record.arc[-1])
    # Every metre would be a thousand times the way of a log that stands.
    share = progress / max(logged, _STANDING)
    measures = {"progress_m": progress, "logged_m": logged, "progress_share": share}
    reason, when = _ended(record, TerminationReason.GOAL)
    fault = at_fault(record)
    off = np.flatnonzero(record.off_road & record.alive)
    if len(off):
        found = coverage(scenario, float(record.times[-1]))
        after = np.minimum(off + 1, len(record.arc) - 1)  # an event is of the state that a tick leads to
        off = off[found.judges(record.arc[after])]
        if found.elsewhere:
            measures["off_map_share"] = found.off
    if fault is not None:
        when = float(record.times[fault[0]])
        reason = f"at-fault collision with actor {fault[1]} at {when:.1f} s"
    elif len(off):
        when = float(record.times[off[0]])
        reason = f"a corner left the road at {when:.1f} s"
    elif not reason and logged >= _STANDING and share < 0.7:
        reason, when = f"progress {share:.2f} of the log's", float(record.times[-1])
    backs = backed_up(log, tracks.heading[ego], upto & tracks.valid[ego], float(tracks.size[ego, 0]))
    counts = case.counts and logged >= _STANDING and backs <= REVERSING
    if not counts and not reason and case.counts:
        what = f"backs up {backs:.0f} m" if backs > REVERSING else f"moves {logged:.1f} m"
        reason = f"does not count: the recorded ego {what}"
    return CaseResult(case.id, (not reason) if counts else None, reason, when, measures)


def recorded(*extra: ScenarioSource | Sequence[Scenario]) -> Suite:
    """Real drives: the bundled drive's last 20 s, and any scenes given, with replayed and IDM traffic.

    Scenes whose recorded ego moves less than 10 m are reported apart. A drive lasts as long as its
    recording, 15 s at most.
    """
    cases = [_bundled(start) for start in (40.0, 42.5, 45.0)]
    for source in extra:
        for scenario in source.load() if isinstance(source, ScenarioSource) else source:
            if scenario.ego is None or scenario.route is None:
                continue
            for reactive in (False, True):
                name = f"{scenario.id} {'idm' if reactive else 'replay'}"
                cases.append(Case(name, scenario, reactive=reactive))
    return Suite("recorded", 1, _WORLD, tuple(cases), _recorded_rule)


def recorded_from(start: float) -> Suite:
    """One case: the bundled drive from a second of the recording on."""
    return Suite("recorded", 1, _WORLD, (_bundled(start),), _recorded_rule)


def streets(source: StreetDrives) -> Suite:
    """Drives on a street network, judged as recorded ones are; other traffic reacts (IDM), people walk as they do."""
    cases = [Case(scenario.id, scenario, reactive=True) for scenario in source.load()]
    return Suite("streets", 1, _WORLD.simulate(duration=source.duration), tuple(cases), _recorded_rule)


def _bundled(start: float) -> Case:
    return Case(f"comma2k19 {start:g} s", RecordedDrive(start=start).load()[0])
