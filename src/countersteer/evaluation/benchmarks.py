"""What each benchmark asks a recorded drive for: the scores of `metrics` over the drives of a suite.

Where a benchmark knows something that a suite does not, its entry in `BENCHMARKS` says what stands in for it, and
docs/scores.md lists it. A score that a drive cannot have (no map, nobody recorded) is not defined, with the
reason; it is never 0 or 1 instead. A part that a drive says nothing about (lights where there are none) is
not defined either, while the score is put together as the benchmark does it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from countersteer import extensions
from countersteer.errors import UserError, did_you_mean
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
from countersteer.evaluation.records import DriveRecord
from countersteer.geometry import polylines
from countersteer.scenarios.coverage import MOST_OFF, coverage
from countersteer.scenarios.scenario import Tracks
from countersteer.worlds.interface import TerminationReason

__all__ = ["BENCHMARKS", "Benchmark", "Parts", "available_benchmarks", "find_benchmarks"]

Parts = dict[str, float | None]
"""Sub-scores by name; None where one is not defined."""

_WINDOW = 40
"""Ticks of a NAVSIM scene, 4 s at 10 Hz."""
_SHORTEST = 10
"""Ticks of the shortest scene that its time to collision can look ahead in."""
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


def _needs_map(drive: Drive, record: DriveRecord) -> None:
    if record.goal is None and record.off_road.any():
        found = coverage(record.scenario, float(record.times[-1]))
        if found.elsewhere:
            raise UserError(
                "its map lies elsewhere than the drive",
                got=f"no road for {found.off:.0%} of the recorded driver's own way",
                expected=f"at most {MOST_OFF:.0%}",
            )
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
    return tracks.at(slice(start, stop))


def _scenes(
    drive: Drive, record: DriveRecord, judge: Callable[[Drive, Drive, Tracks | None], tuple[float, Parts, tuple[Finding, ...]]]
) -> Score[Parts]:  # fmt: skip
    """The mean over whole scenes of 4 s, end to end; scenes that a failed drive did not live to see are 0.

    A recording that is shorter than a scene is one short scene.
    """
    _needs_map(drive, record)
    drive.needs(recorded_driver=drive.expert)
    assert drive.expert is not None
    recorded = len(drive.expert.heading) if record.failure else len(drive.times)
    window = min(_WINDOW, recorded - 1)
    if window < _SHORTEST:
        raise UserError(
            "it is too short for a scene of NAVSIM",
            got=f"{window * drive.dt:.1f} s",
            expected=f"{_WINDOW / 10:g} s, at least {_SHORTEST / 10:g} s",
        )
    planned, driven = (len(drive.expert.heading) - 1) // window, (len(drive.times) - 1) // window
    values, rows, found = [0.0] * planned, [], []
    for k in range(driven):
        start = k * window
        stop = start + window + 1
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
    bad = record.failure
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
    _needs_map(drive, record)
    drive.needs(recorded_driver=drive.expert)
    score = nuplan.score_closed_loop(drive)
    parts = _plain(score.parts)
    if all(lane.speed_limit is None for lane in drive.road.lanes):
        parts["speed_limit"] = None
    return Score(score.value, parts, score.findings)


def _with_way(drive: Drive, record: DriveRecord) -> Drive:
    """The drive with a route that ends where its goal is, or where the recorded driver was at the end of the test."""
    _needs_map(drive, record)
    assert drive.route is not None
    if record.goal is not None:
        ends = polylines.follow(drive.route, drive.center)[0][[0, -1]]
        # A goal counts as reached from some metres before it.
        ends[1] = ends[1] if record.cause[-1] == TerminationReason.GOAL else ends[0] + record.goal
    else:
        drive.needs(recorded_driver=drive.expert)
        assert drive.expert is not None
        ends = polylines.follow(drive.route, drive.expert.center(drive.ahead))[0][[0, -1]]
    if ends[1] - ends[0] < _LEAST_WAY:
        raise UserError(
            "its recorded driver hardly moves",
            got=f"{ends[1] - ends[0]:.1f} m",
            expected=f"at least {_LEAST_WAY:g} m",
        )
    s = polylines.arc_length(drive.route)
    inside = (s > ends[0]) & (s < ends[1])
    tips = np.stack([np.interp(ends, s, drive.route[:, axis]) for axis in (0, 1)], -1)
    return dataclasses.replace(drive, route=np.concatenate([tips[:1], drive.route[inside], tips[1:]]))


def _observed(
    drive: Drive, record: DriveRecord, edition: Leaderboard
) -> tuple[CarlaParts, tuple[Finding, ...]]:
    """Parts of a driving score; a route counts as completed from 99 % and within 10 m of its end on, as there."""
    way = _with_way(drive, record)
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
        parts, found = _observed(drive, record, edition)
        value = carla.driving_score(parts.completion, parts.infractions, edition)
        return Score(value, _carla_numbers(drive, parts), found)

    return judge


def _bench2drive(drive: Drive, record: DriveRecord) -> Score[Parts]:
    if abs(drive.dt - 0.1) > 1e-3:
        raise UserError("comfort is judged at 10 Hz", got=f"{1 / drive.dt:g} Hz")
    parts, found = _observed(drive, record, Leaderboard.V2_0)
    route = bench2drive.Route(parts.completion, parts.infractions)
    smooth = bench2drive.comfortness(drive.ego)
    numbers = _carla_numbers(drive, parts)
    numbers |= {"success": float(bench2drive.success(route)), "comfortness": smooth.value}
    return Score(bench2drive.driving_score(route), numbers, (*found, *smooth.findings))


def _alpasim(drive: Drive, record: DriveRecord) -> Score[Parts]:
    _needs_map(drive, record)
    drive.needs(recorded_driver=drive.expert)
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
    score = hugsim.score_hd(dataclasses.replace(_with_way(drive, record), plans=some))
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


def available_benchmarks() -> tuple[Benchmark, ...]:
    """The benchmarks above, then those that other packages bring as entry points of `countersteer.scores`."""
    return (*BENCHMARKS, *extensions.load("countersteer.scores", (one.name for one in BENCHMARKS)).values())


def find_benchmarks(names: Sequence[str] = ()) -> list[Benchmark]:
    """Those of these names, each once; all for no names.

    Raises:
        UserError: There is none of a name.
    """
    known = {benchmark.name: benchmark for benchmark in available_benchmarks()}
    for name in names:
        if name not in known:
            raise UserError(
                f"there is no score {name!r}",
                expected=did_you_mean(name, known),
                fix="docs/scores.md describes the scores",
            )
    return [known[name] for name in dict.fromkeys(names or known)]
