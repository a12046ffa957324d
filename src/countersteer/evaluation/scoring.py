"""Benchmark scores over the drives of a suite: values with intervals, parts, evidence, comparisons.

The scores themselves are in `metrics`; here is what it takes to ask a closed-loop drive for them. Where a
benchmark knows something that a suite does not, its entry in `BENCHMARKS` says what stands in for it, and
docs/scores.md lists it. A score that a drive cannot have (no map, nobody recorded) is not defined, with the
reason; it is never 0 or 1 instead. A part that a drive says nothing about (lights where there are none) is
not defined either, while the score is put together as the benchmark does it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from countersteer.errors import UserError
from countersteer.evaluation.metrics import (
    alpasim,
    bench2drive,
    carla,
    displacement,
    hugsim,
    navsim,
    nuplan,
    rad,
)
from countersteer.evaluation.metrics.carla import CarlaParts, Leaderboard
from countersteer.evaluation.metrics.drive import Drive, Plans
from countersteer.evaluation.metrics.evidence import Finding, Score
from countersteer.evaluation.metrics.from_record import drive_of_record
from countersteer.evaluation.records import DriveRecord, SuiteResult
from countersteer.evaluation.statistics import clustered_interval, paired_permutation_test, wilson_interval
from countersteer.geometry import polylines
from countersteer.scenarios.scenario import Tracks
from countersteer.worlds.interface import TerminationReason

__all__ = ["BENCHMARKS", "Benchmark", "DriveScore", "SuiteScore", "paired_difference", "score_suite"]

Parts = dict[str, float | None]

_WINDOW = 40
"""Ticks of a NAVSIM scene, 4 s at 10 Hz."""
_HISTORY = 15
"""Ticks before a scene that its comfort looks back on, 1.5 s."""
_LATER = 9
"""Ticks after a scene that version 1's time to collision looks ahead to."""
_PLANS_APART = 0.5
"""Time between the plans that HD-Score judges [s]; at every tick it would take minutes a suite."""
_LEAST_WAY = 10.0
"""A recorded driver who comes less far leaves nothing to complete [m], as in the suite "recorded"."""


@dataclass(frozen=True)
class Benchmark:
    """A score that recorded drives can be asked for.

    Attributes:
        name: At the command line and in files.
        title: For people.
        reference: Whose definition, in which version; scores of different ones are not compared.
        best: The best value; 0 where less is better.
        judge: From drive and record to value, parts and findings; raises `UserError` where it is not defined.
    """

    name: str
    title: str
    reference: str
    best: float
    judge: Callable[[Drive, DriveRecord], Score[Parts]]


@dataclass(frozen=True)
class DriveScore:
    """One benchmark's score of one drive.

    Attributes:
        case: Of the suite.
        scenario: Identifier of the scenario; drives of one are not independent.
        counts: Whether the case counts.
        value: The score, None where it is not defined.
        parts: Sub-scores by name, None where one is not defined.
        findings: What lowered it; ticks are the record's, actors its slots.
        undefined: Why there is no value; empty if there is one.
    """

    case: str
    scenario: str
    counts: bool
    value: float | None
    parts: Parts
    findings: tuple[Finding, ...] = ()
    undefined: str = ""


@dataclass(frozen=True)
class SuiteScore:
    """One benchmark's score of a suite.

    Attributes:
        benchmark: Its name.
        reference: Of its definition.
        best: Its best value; 0 where less is better.
        drives: In suite order.
    """

    benchmark: str
    reference: str
    best: float
    drives: tuple[DriveScore, ...]

    @property
    def counted(self) -> list[DriveScore]:
        """Drives that count and have a value."""
        return [drive for drive in self.drives if drive.counts and drive.value is not None]

    @property
    def value(self) -> float | None:
        """Mean over the drives that count and have a value; None without one."""
        values = [drive.value for drive in self.counted if drive.value is not None]
        return float(np.mean(values)) if values else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean, scenarios drawn anew; None where a single one has a value.

        Where every drive has either the best or the worst value, a bootstrap would see too little spread, so
        the interval is Wilson's, a scenario counting once.
        """
        values = np.array([drive.value for drive in self.counted], float)
        if not len(values):
            return None
        names, number = np.unique([drive.scenario for drive in self.counted], return_inverse=True)
        if self.best > 0 and np.isin(values, (0.0, self.best)).all():
            means = np.bincount(number, values / self.best) / np.bincount(number)
            low, high = wilson_interval(min(float(means.sum()), len(names)), len(names))
            return self.best * low, self.best * high
        return clustered_interval(values, number) if len(names) > 1 else None

    @property
    def parts(self) -> dict[str, tuple[float | None, int]]:
        """Mean of each part over the drives that count and define it, and how many do."""
        means: dict[str, tuple[float | None, int]] = {}
        for name in dict.fromkeys(name for drive in self.counted for name in drive.parts):
            found = [value for drive in self.counted if (value := drive.parts.get(name)) is not None]
            means[name] = (float(np.mean(found)) if found else None, len(found))
        return means

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` makes the score of them again."""
        return {
            "benchmark": self.benchmark,
            "reference": self.reference,
            "best": self.best,
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "defined": len(self.counted),
            "parts": {name: mean for name, (mean, _) in self.parts.items()},
            "drives": [dataclasses.asdict(drive) for drive in self.drives],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SuiteScore:
        """The score that `to_json` wrote.

        Raises:
            UserError: If a field is missing or unknown.
        """
        try:
            drives = []
            for entry in values["drives"]:
                found = tuple(
                    Finding(**{**finding, "actors": tuple(finding["actors"])})
                    for finding in entry["findings"]
                )
                drives.append(DriveScore(**{**entry, "findings": found}))
            return cls(
                str(values["benchmark"]), str(values["reference"]), float(values["best"]), tuple(drives)
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                "a stored score does not have the right fields",
                got=f"{type(error).__name__}: {error}",
                expected="benchmark, reference, best, drives",
                fix="score the replay again",
            ) from error


def score_suite(result: SuiteResult, benchmarks: Iterable[Benchmark]) -> tuple[SuiteScore, ...]:
    """Score every drive of a result.

    Raises:
        UserError: The result has no records.
    """
    if len(result.records) != len(result.cases):
        raise UserError(
            "only drives that were kept can be scored",
            got=f"{len(result.records)} records of {len(result.cases)} cases",
            expected="one record a case",
            fix="drive the suite again, or score a replay of it",
        )
    benchmarks = tuple(benchmarks)
    drives: list[list[DriveScore]] = [[] for _ in benchmarks]
    for case, record in zip(result.cases, result.records, strict=True):
        drive, refusal = None, ""
        try:
            drive = drive_of_record(record)
        except UserError as error:
            refusal = _reason(error)
        for benchmark, scores in zip(benchmarks, drives, strict=True):
            value, parts, findings, why = None, {}, (), refusal
            bad = _ended_badly(record)
            if drive is None and bad is not None and benchmark.best > 0:
                note = f"the drive ended at once: {bad.name.lower().replace('_', ' ')}"
                value, findings, why = 0.0, (Finding("driven", record.last, value=0.0, note=note),), ""
            if drive is not None:
                try:
                    score = benchmark.judge(drive, record)
                    value, parts = score.value, score.parts
                    # Actors are counted without the car itself, slots with it.
                    findings = tuple(
                        dataclasses.replace(f, actors=tuple(actor + 1 for actor in f.actors))
                        for f in score.findings
                    )
                except UserError as error:
                    why = _reason(error)
            counts = case.passed is not None
            scores.append(DriveScore(case.case, record.scenario.id, counts, value, parts, findings, why))
    return tuple(
        SuiteScore(one.name, one.reference, one.best, tuple(scores))
        for one, scores in zip(benchmarks, drives, strict=True)
    )


def _reason(error: UserError) -> str:
    return error.what.removeprefix("a drive cannot be scored: ")


@dataclass(frozen=True)
class PairedDifference:
    """How much better one driver scores than another on the scenarios that both have a value of.

    Attributes:
        benchmark: The score.
        mean: Of the differences.
        interval: Its 95 % interval, scenarios drawn anew; None below two of them.
        scenarios: How many.
        p: Of the two-sided sign-flip permutation test; None without a shared scenario.
    """

    benchmark: str
    mean: float | None
    interval: tuple[float, float] | None
    scenarios: int
    p: float | None


def paired_difference(a: Sequence[SuiteScore], b: Sequence[SuiteScore]) -> PairedDifference:
    """Compare two drivers, each with one score a seed, paired on the case, then averaged over a scenario's cases.

    Raises:
        UserError: If the scores are not of one benchmark in one version.
    """
    kinds = {(score.benchmark, score.reference) for score in (*a, *b)}
    if len(kinds) != 1:
        raise UserError(
            "scores of different definitions cannot be compared",
            got=", ".join(sorted(f"{name} ({reference})" for name, reference in kinds)),
            expected="one benchmark in one version",
            fix="score both again with this version",
        )

    def by_case(scores: Sequence[SuiteScore]) -> dict[tuple[str, str], float]:
        values: dict[tuple[str, str], list[float]] = {}
        for score in scores:
            for drive in score.counted:
                assert drive.value is not None
                values.setdefault((drive.scenario, drive.case), []).append(drive.value)
        # With a seed missing, the others would stand for it.
        return {key: float(np.mean(v)) for key, v in values.items() if len(v) == len(scores)}

    first, second = by_case(a), by_case(b)
    differences: dict[str, list[float]] = {}
    for key in first.keys() & second.keys():
        differences.setdefault(key[0], []).append(first[key] - second[key])
    means = np.array([np.mean(differences[name]) for name in sorted(differences)], float)
    name = a[0].benchmark
    if not len(means):
        return PairedDifference(name, None, None, 0, None)
    p = paired_permutation_test(means, np.zeros(len(means)), seed=0)
    interval = clustered_interval(means, np.arange(len(means))) if len(means) > 1 else None
    return PairedDifference(name, float(means.mean()), interval, len(means), p)


# --- what each benchmark asks for ----------------------------------------------------------------


def _needs_map(drive: Drive) -> None:
    drive.needs(lanes=drive.road.lanes, drivable_ground=drive.road.drivable, route=drive.route)


def _plain(parts: object) -> Parts:
    """The numbers among the fields of parts."""
    found: Parts = {}
    for field in dataclasses.fields(parts):  # type: ignore[arg-type]
        value = getattr(parts, field.name)
        if value is None or isinstance(value, bool | int | float):
            found[field.name] = None if value is None else float(value)
    return found


def _between(tracks: Tracks, start: int, stop: int) -> Tracks | None:
    if stop > tracks.valid.shape[1]:
        return None
    series = ("position", "heading", "velocity", "valid")
    return dataclasses.replace(tracks, **{name: getattr(tracks, name)[:, start:stop] for name in series})


def _ended_badly(record: DriveRecord) -> TerminationReason | None:
    cause = TerminationReason(int(record.cause[-1]))
    return (
        None if cause in (TerminationReason.NONE, TerminationReason.TIME, TerminationReason.GOAL) else cause
    )


def _scenes(
    drive: Drive, record: DriveRecord, judge: Callable[[Drive, Drive, Tracks | None], tuple[float, Parts, tuple[Finding, ...]]]
) -> Score[Parts]:  # fmt: skip
    """The mean over whole scenes of 4 s, end to end; scenes that a failed drive did not live to see are 0."""
    _needs_map(drive)
    drive.needs(recorded_driver=drive.expert)
    assert drive.expert is not None
    planned, driven = (len(record.times) - 1) // _WINDOW, (len(drive.times) - 1) // _WINDOW
    if not planned or not (driven or _ended_badly(record)):
        raise UserError("it is shorter than a scene of 4 s", got=f"{len(drive.times)} ticks")
    values, rows, found = [0.0] * planned, [], []
    for k in range(driven):
        start = k * _WINDOW
        stop = start + _WINDOW + 1
        scene = drive.part(start, stop)
        if scene.history is not None:
            scene = dataclasses.replace(scene, history=scene.history.part(slice(-_HISTORY, None)))
        assert scene.expert is not None
        human = dataclasses.replace(scene, ego=scene.expert, history=None)
        values[k], parts, findings = judge(scene, human, _between(drive.actors, stop, stop + _LATER))
        rows.append(parts)
        found += [
            f if f.tick is None else dataclasses.replace(f, tick=max(f.tick + start, 0)) for f in findings
        ]
    bad = _ended_badly(record)
    if bad is None:
        values = values[:driven]
    elif driven < planned:
        note = f"of the scenes were driven: the drive ended, {bad.name.lower().replace('_', ' ')}"
        found.append(Finding("driven", record.last, value=driven / planned, note=note))
    means: Parts = {}
    for name in rows[0] if rows else ():
        defined = [value for row in rows if (value := row[name]) is not None]
        means[name] = float(np.mean(defined)) if defined else None
    means["driven"] = driven / len(values)
    return Score(float(np.mean(values)), means, tuple(found))


def _navsim_v1(drive: Drive, record: DriveRecord) -> Score[Parts]:
    def judge(scene: Drive, human: Drive, later: Tracks | None) -> tuple[float, Parts, tuple[Finding, ...]]:
        score = navsim.score_pdms(scene, human, later=later)
        return score.value, _plain(score.parts), score.findings

    return _scenes(drive, record, judge)


def _navsim_v2(drive: Drive, record: DriveRecord) -> Score[Parts]:
    def judge(scene: Drive, human: Drive, later: Tracks | None) -> tuple[float, Parts, tuple[Finding, ...]]:
        score = navsim.score_epdms(scene, human)
        parts = _plain(score.parts)
        if not scene.red_lights:
            parts["traffic_light"] = None
        return score.value, parts, score.findings

    return _scenes(drive, record, judge)


def _nuplan(drive: Drive, record: DriveRecord) -> Score[Parts]:
    _needs_map(drive)
    drive.needs(recorded_driver=drive.expert)
    score = nuplan.score_closed_loop(drive)
    parts = _plain(score.parts)
    if all(lane.speed_limit is None for lane in drive.road.lanes):
        parts["speed_limit"] = None
    return Score(score.value, parts, score.findings)


def _with_way(drive: Drive) -> Drive:
    """The drive with a route that ends where the recorded driver was at the end of the test."""
    _needs_map(drive)
    drive.needs(recorded_driver=drive.expert)
    assert drive.route is not None
    assert drive.expert is not None
    ends, _ = polylines.project(drive.route, drive.expert.center(drive.ahead)[[0, -1]])
    if ends[1] - ends[0] < _LEAST_WAY:
        raise UserError("its recorded driver hardly moves", got=f"{ends[1] - ends[0]:.1f} m")
    s = polylines.arc_length(drive.route)
    inside = (s > ends[0]) & (s < ends[1])
    tips = np.stack([np.interp(ends, s, drive.route[:, axis]) for axis in (0, 1)], -1)
    return dataclasses.replace(drive, route=np.concatenate([tips[:1], drive.route[inside], tips[1:]]))


def _observed(drive: Drive, edition: Leaderboard) -> tuple[CarlaParts, tuple[Finding, ...]]:
    """Parts of a driving score; a route counts as completed from 99 % and within 10 m of its end on, as there."""
    way = _with_way(drive)
    assert way.route is not None
    score = carla.score_driving(way, edition)
    parts, found = score.parts, score.findings
    left = (1.0 - parts.completion) * float(polylines.arc_length(way.route)[-1])
    if parts.completion > 0.99 and left < 10.0:
        parts = dataclasses.replace(parts, completion=1.0)
        found = tuple(one for one in found if one.part != "completion")
    return parts, found


def _carla_numbers(drive: Drive, parts: CarlaParts) -> Parts:
    numbers: Parts = {"completion": parts.completion, "penalty": parts.penalty}
    for name in ("pedestrian_collisions", "vehicle_collisions", "static_collisions", "outside_lanes"):
        numbers[name] = float(getattr(parts.infractions, name))
    numbers["red_lights"] = float(parts.infractions.red_lights) if drive.red_lights else None
    return numbers


def _carla(edition: Leaderboard) -> Callable[[Drive, DriveRecord], Score[Parts]]:
    def judge(drive: Drive, record: DriveRecord) -> Score[Parts]:
        parts, found = _observed(drive, edition)
        value = carla.driving_score(parts.completion, parts.infractions, edition)
        return Score(value, _carla_numbers(drive, parts), found)

    return judge


def _bench2drive(drive: Drive, record: DriveRecord) -> Score[Parts]:
    if abs(drive.dt - 0.1) > 1e-3:
        raise UserError("comfort is judged at 10 Hz", got=f"{1 / drive.dt:g} Hz")
    parts, found = _observed(drive, Leaderboard.V2_0)
    route = bench2drive.Route(parts.completion, parts.infractions)
    smooth = bench2drive.comfortness(drive.ego)
    numbers = _carla_numbers(drive, parts)
    numbers |= {"success": float(bench2drive.success(route)), "comfortness": smooth.value}
    return Score(bench2drive.driving_score(route), numbers, (*found, *smooth.findings))


def _alpasim(drive: Drive, record: DriveRecord) -> Score[Parts]:
    drive.needs(lanes=drive.road.lanes, recorded_driver=drive.expert)
    score = alpasim.score_scene(drive)
    parts = _plain(score.parts)
    if not drive.road.edges:
        parts["off_road"] = None
    return Score(score.value, parts, score.findings)


def _hugsim(drive: Drive, record: DriveRecord) -> Score[Parts]:
    drive.needs(plans=drive.plans)
    assert drive.plans is not None
    every = max(round(_PLANS_APART / drive.dt), 1)
    rows = slice(None, None, every)
    plans = drive.plans
    some = Plans(plans.tick[rows], plans.ahead, plans.position[rows], plans.heading[rows])
    score = hugsim.score_hd(dataclasses.replace(_with_way(drive), plans=some))
    parts: Parts = {"completion": score.parts.completion}
    for field in dataclasses.fields(hugsim.PlanParts):
        parts[field.name] = float(np.mean([getattr(plan, field.name) for plan in score.parts.plans]))
    return Score(score.value, parts, score.findings)


def _rad(drive: Drive, record: DriveRecord) -> Score[Parts]:
    drive.needs(recorded_driver=drive.expert)
    score = rad.score_clip(drive)
    ends = dataclasses.asdict(rad.ratios([score.parts]))
    # The ratios of one clip are 0 or 1; their means over drives are the benchmark's.
    return Score(score.value, {name: float(value) for name, value in ends.items()}, score.findings)


def _displacement(drive: Drive, record: DriveRecord) -> Score[Parts]:
    score = displacement.score_plans(drive)
    return Score(score.value, _plain(score.parts), score.findings)


BENCHMARKS = (
    Benchmark("navsim_v1", "NAVSIM v1 PDMS", "navsim v1.1", 1.0, _navsim_v1),
    Benchmark("navsim_v2", "NAVSIM v2 EPDMS", "navsim 0a380a9", 1.0, _navsim_v2),
    Benchmark("nuplan", "nuPlan closed loop", "nuplan-devkit e924167", 1.0, _nuplan),
    Benchmark("carla_1_0", "CARLA driving score 1.0", "leaderboard-1.0", 100.0, _carla(Leaderboard.V1_0)),
    Benchmark("carla_2_0", "CARLA driving score 2.0", "leaderboard-2.0", 100.0, _carla(Leaderboard.V2_0)),
    Benchmark("carla_2_1", "CARLA driving score 2.1", "leaderboard-2.1", 100.0, _carla(Leaderboard.V2_1)),
    Benchmark("bench2drive", "Bench2Drive", "Bench2Drive 7ec25d1", 100.0, _bench2drive),
    Benchmark("alpasim", "AlpaSim scene score", "alpasim 3032e0c", 1.0, _alpasim),
    Benchmark("hugsim", "HUGSIM HD-Score", "HUGSIM 62c690d", 1.0, _hugsim),
    Benchmark("rad", "RAD: clips that lasted", "arXiv 2502.13144", 1.0, _rad),
    Benchmark("displacement", "ADE of plans [m]", "by definition", 0.0, _displacement),
)
"""Every score that a drive of a suite can be asked for. Ratings (RFS), 32 rollouts (WOSAC) and plans of 8 s
(nuPlan open loop) it does not have."""
