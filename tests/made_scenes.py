"""Small recorded scenes made by hand: roads with edges, cars on them, and what becomes of a drive there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from countersteer.evaluation import scoring, suites
from countersteer.evaluation.benchmarks import BENCHMARKS
from countersteer.evaluation.records import CaseResult, DriveRecord
from countersteer.evaluation.scoring import DriveScore
from countersteer.scenarios.routes import route_of_track
from countersteer.scenarios.scenario import (
    ActorKind,
    MapFeature,
    MapKind,
    Provenance,
    RoadMap,
    Scenario,
    Signals,
    Tracks,
)

DT = 0.1
Track = dict[str, np.ndarray]


def track(
    ticks: int,
    x: object,
    y: object,
    heading: object = 0.0,
    *,
    z: object = 0.8,
    size: tuple[float, float, float] = (4.6, 1.9, 1.6),
    seen: np.ndarray | None = None,
) -> Track:
    """Somebody's boxes at each tick; x, y, z, heading are numbers or arrays."""
    x, y, z, heading = (np.broadcast_to(np.asarray(v, float), ticks) for v in (x, y, z, heading))
    seen = np.ones(ticks, bool) if seen is None else seen
    velocity = np.stack([np.gradient(x, DT), np.gradient(y, DT)], -1)
    return {
        "position": np.stack([x, y, z], -1) * seen[:, None],
        "heading": heading,
        "velocity": velocity,
        "valid": seen,
        "size": np.array(size),
    }


def along(points: np.ndarray, speed: float, ticks: int, **more: object) -> Track:
    """Somebody who goes along points at constant speed, and stands at their end."""
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.minimum(speed * np.arange(ticks) * DT, s[-1])
    course = np.unwrap(np.arctan2(np.gradient(points[:, 1]), np.gradient(points[:, 0])))
    return track(ticks, *(np.interp(at, s, values) for values in (*points.T, course)), **more)  # type: ignore[arg-type]


def lane(name: str, points: np.ndarray, z: float = 0.0, width: float = 3.6) -> MapFeature:
    """A lane through points [m]."""
    return MapFeature(name, MapKind.LANE, _at(points, z), width)


def edge(name: str, points: np.ndarray, z: float = 0.0) -> MapFeature:
    """An edge through points [m]."""
    return MapFeature(name, MapKind.ROAD_EDGE, _at(points, z))


def _at(points: np.ndarray, z: float) -> np.ndarray:
    return np.concatenate([points, np.full((len(points), 1), z)], 1)


def straight(start: float = -60.0, end: float = 400.0) -> list[MapFeature]:
    """A lane along +x, one back 3.6 m to its left, and edges."""
    x = np.arange(start, end + 1e-9, 5.0)

    def line(y: float) -> np.ndarray:
        return np.stack([x, np.full_like(x, y)], -1)

    return [
        lane("out", line(0.0)),
        lane("back", line(3.6)[::-1]),
        edge("right", line(-1.8)),
        edge("left", line(5.4)[::-1]),
    ]


def scene(tracks: Sequence[Track], features: Sequence[MapFeature], name: str = "made") -> Scenario:
    """A recording of the first track, the ego, and others."""
    ticks = len(tracks[0]["heading"])
    lanes = [feature for feature in features if feature.kind is MapKind.LANE]
    ego = tracks[0]
    route, _ = route_of_track(ego["position"][:, :2], ego["heading"], ego["valid"], ego["size"][0], lanes)
    return Scenario(
        id=name,
        times=np.arange(ticks) * DT,
        road=RoadMap(tuple(features)),
        tracks=Tracks(
            ids=tuple(str(k) for k in range(len(tracks))),
            kind=np.full(len(tracks), int(ActorKind.VEHICLE)),
            **{
                n: np.stack([t[n] for t in tracks])
                for n in ("position", "heading", "velocity", "valid", "size")
            },
        ),
        ego=0,
        route=route,
        signals=Signals.none(ticks),
        provenance=Provenance("made", "made", "none", "none"),
    )


@lru_cache
def _suite() -> suites.Suite:
    return suites.recorded()


Driven = tuple[CaseResult, DriveRecord, dict[str, DriveScore]]


def driven(*scenarios: Scenario, scores: Sequence[str] = (), reactive: bool = False) -> list[Driven]:
    """The expert in each scene by the rule of the suite "recorded": verdict, record, scores by name (all for none)."""
    cases = tuple(suites.Case(str(k), each, reactive=reactive) for k, each in enumerate(scenarios))
    result = suites.run_suite(dataclasses.replace(_suite(), cases=cases), "expert", None)
    found = scoring.score_suite(result, [one for one in BENCHMARKS if not scores or one.name in scores])
    return [
        (case, record, {one.benchmark: one.drives[k] for one in found})
        for k, (case, record) in enumerate(zip(result.cases, result.records, strict=True))
    ]
