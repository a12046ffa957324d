"""Models of traffic in recorded scenes: sampled futures of everybody, and how real they are.

Nobody is controlled; who is there at the start is moved by the model, and nobody else appears. The score is the realism meta-metric
of the Waymo Open Sim Agents Challenge (`metrics/realism.py`); on top come shares that can be read at once: who hits somebody, who
leaves the road, how far the futures are from what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics.drive import Road
from countersteer.evaluation.metrics.from_record import road_of_map
from countersteer.evaluation.metrics.realism import AgentFeatures, agent_features, buckets, score_realism
from countersteer.geometry import polygons
from countersteer.scenarios.road_pieces import pack_pieces
from countersteer.scenarios.scenario import ActorKind, MapKind, RoadMap, Scenario, Tracks
from countersteer.traffic.interface import Past, Traffic, TrafficModel

__all__ = [
    "Futures",
    "OffRoad",
    "TrafficScore",
    "judged_in",
    "recorded_future",
    "sample_futures",
    "score_log",
    "score_traffic",
]

DT = 0.1
"""Tick of futures [s]."""
_LEAST = 20  # ticks of the future in which a judged road user was seen
_SLACK = 0.3  # a corner so far outside the lanes is off the road [m]


@dataclass(frozen=True)
class Futures:
    """Futures of a scene's road users, and what happened.

    Attributes:
        pose: Sampled box centres x, y [m] and headings [rad] at 10 Hz, the first a tick after the start.
        logged, seen: What was recorded, and where.
        begin: Poses at the start.
        size, kind: Of who is there at the start.
        ids: Their names.
    """

    pose: Float[ndarray, "rollout actor time 3"]
    logged: Float[ndarray, "actor time 3"]
    seen: Bool[ndarray, "actor time"]
    begin: Float[ndarray, "actor 3"]
    size: Float[ndarray, "actor 3"]
    kind: Int[ndarray, "actor"]
    ids: tuple[str, ...]


@dataclass(frozen=True)
class TrafficScore:
    """How real futures of a scene are.

    Attributes:
        realism: The meta-metric, in (0, 1].
        kinematic, interactive, map: Its parts.
        collisions: Share of judged road users in the rollouts that touch somebody.
        off_road: Share that leave the lanes; NaN where there are none.
        ade: Mean distance to what happened, over rollouts [m].
        min_ade: Of the nearest rollout [m].
        judged: Road users.
    """

    realism: float
    kinematic: float
    interactive: float
    map: float
    collisions: float
    off_road: float
    ade: float
    min_ade: float
    judged: int

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def recorded_future(scenario: Scenario, start: float, seconds: float = 8.0) -> Futures:
    """What happened after a time of a scenario, as the one rollout.

    Raises:
        UserError: The scenario is shorter, or nobody is there.
    """
    count = round(seconds / DT)
    first = round(start / DT)
    times = (first + np.arange(-1, count + 1)) * DT
    if times[-1] > scenario.duration + 1e-6 or start < 0:
        raise UserError(
            f"scenario {scenario.id!r} is too short",
            got=f"{scenario.duration:.1f} s",
            expected=f"at least {start + seconds:.1f} s",
            fix="begin earlier, or ask for fewer seconds",
        )
    pose, seen = _poses(scenario, times[1:])
    who = np.flatnonzero(seen[:, 0] & (scenario.tracks.kind != ActorKind.STATIC))
    if not len(who):
        raise UserError(f"nobody is there in scenario {scenario.id!r} at {start:.1f} s", got="no road user")
    tracks = scenario.tracks
    return Futures(
        pose[None, who, 1:],
        pose[who, 1:],
        seen[who, 1:],
        pose[who, 0],
        tracks.size[who].astype(float),
        tracks.kind[who],
        tuple(tracks.ids[k] for k in who),
    )


def _poses(scenario: Scenario, times: ndarray) -> tuple[ndarray, ndarray]:
    """Poses at times [actor, time, 3], and where they were seen; held beyond what was."""
    tracks = scenario.tracks
    nearest = np.clip(np.searchsorted(scenario.times, times - DT / 2), 0, len(scenario.times) - 1)
    inside = (times >= -1e-6) & (times <= scenario.duration + 1e-6)
    pose = np.zeros((len(tracks.ids), len(times), 3))
    for k, there in enumerate(tracks.valid):
        known = np.flatnonzero(there)
        if len(known):
            at, heading = scenario.times[known], np.unwrap(tracks.heading[k, known].astype(float))
            columns = (*tracks.position[k, known, :2].astype(float).T, heading)
            pose[k] = np.stack([np.interp(times, at, each) for each in columns], -1)
    return pose, tracks.valid[:, nearest] & inside


def sample_futures(
    model: TrafficModel,
    scenario: Scenario,
    start: float,
    rollouts: int,
    *,
    seconds: float = 8.0,
    seed: int = 0,
    speeds: Float[ndarray, "tick actor"] | None = None,
) -> Futures:
    """Futures of everybody who is there at a time, as a model of traffic has them.

    Args:
        model: Moves all of them.
        scenario: At least `start + seconds` long.
        start: [s].
        rollouts: How many futures.
        seconds: How long they are.
        seed: Of the draws.
        speeds: Who drives as told instead: speeds along their present course [m/s], NaN for everybody else.
    """
    happened = recorded_future(scenario, start, seconds)
    traffic = _traffic(scenario, happened, start, rollouts, model)
    memory = model.begin(traffic)
    poses = []
    for tick in range(happened.logged.shape[1]):
        told = None if speeds is None else torch.from_numpy(speeds[tick]).float()
        if told is not None:
            traffic = replace(traffic, controlled=~told.isnan().expand(rollouts, -1))
        moved, memory = model.step(replace(traffic, past=None), memory, dt=DT, seed=seed)
        pose, speed = moved.pose, moved.speed
        if told is not None:
            course = torch.stack(
                [traffic.pose[..., 2].cos(), traffic.pose[..., 2].sin(), 0 * traffic.speed], -1
            )
            straight = traffic.pose + DT * told.nan_to_num()[:, None] * course
            pose = torch.where(traffic.controlled[..., None], straight, pose)
            speed = torch.where(traffic.controlled, told.nan_to_num(), speed)
        poses.append(pose)
        present = moved.present | traffic.controlled
        light = _lights(scenario, start + (tick + 1) * DT, rollouts)
        traffic = replace(
            traffic,
            age=traffic.age + 1,
            pose=pose,
            speed=speed,
            present=present,
            logged_pose=pose,
            light=light,
        )
    return replace(happened, pose=torch.stack(poses, 2).double().numpy())


def _lights(scenario: Scenario, time: float, rollouts: int) -> torch.Tensor:
    tick = int(np.clip(np.searchsorted(scenario.times, time - DT / 2), 0, len(scenario.times) - 1))
    return torch.from_numpy(scenario.signals.state[:, tick].astype(np.int64)).expand(rollouts, -1)


def _traffic(scenario: Scenario, at: Futures, start: float, rollouts: int, model: TrafficModel) -> Traffic:
    """Everybody at the start, and where they were before."""
    rows = {name: k for k, name in enumerate(scenario.tracks.ids)}
    who = [rows[name] for name in at.ids]
    before = tuple(model.past) or (DT,)
    past, seen = _poses(scenario, start - np.array([0.0, DT, *before]))
    moved = np.linalg.norm(past[who, 0, :2] - past[who, 1, :2], axis=-1) / DT
    # Who has just come is as fast as it will be.
    coming = np.linalg.norm(at.logged[:, 0, :2] - at.begin[:, :2], axis=-1) / DT
    speed = np.where(seen[who, 1], moved, coming)
    count = len(who)

    def each(array: ndarray, kind: Any = np.float32) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, kind)).expand(rollouts, *array.shape)

    signals, flags = scenario.signals, torch.zeros(rollouts, count, dtype=torch.bool)
    pose = each(at.begin)
    return Traffic(
        drive=torch.arange(rollouts),
        age=torch.zeros(rollouts, dtype=torch.long),
        pose=pose,
        speed=each(speed),
        size=each(at.size),
        kind=each(at.kind, np.int64),
        present=~flags,
        movable=~flags,
        controlled=flags,
        tow=torch.arange(count).expand(rollouts, -1),
        logged_pose=pose,
        logged_speed=torch.zeros(rollouts, count),
        logged_present=flags,
        stop_point=each(signals.stop_point[:, :2]),
        stop_heading=each(signals.heading),
        light=_lights(scenario, start, rollouts),
        scene=torch.zeros(rollouts, dtype=torch.long),
        roads=pack_pieces([scenario]) if model.reads_roads else None,
        past=Past(each(past[who, 2:]), each(seen[who, 2:], bool)),
    )


class OffRoad:
    """How far outside a map's lanes places are, by a picture of 0.25 m.

    Args:
        road: With lanes or drivable areas.
    """

    _CELL, _MARGIN, _LARGEST = 0.25, 15.0, 4000.0

    def __init__(self, road: RoadMap):
        drawn = road.of_kind(MapKind.DRIVABLE_AREA) or road.of_kind(MapKind.LANE_AREA)
        areas = [np.asarray(each.points, float)[:, :2] for each in drawn if len(each.points) > 2]
        areas = areas or [np.asarray(area, float) for area in road_of_map(road).drivable]
        self.known = bool(areas)
        if not areas:
            return
        every = np.concatenate(areas)
        self.low = every.min(0) - self._MARGIN
        extent = np.minimum(every.max(0) + self._MARGIN - self.low, self._LARGEST)
        width, height = (int(side) for side in np.ceil(extent / self._CELL))
        inside = np.zeros((height, width), np.uint8)
        for area in areas:
            cv2.fillPoly(inside, [np.round((area - self.low) / self._CELL - 0.5).astype(np.int32)], 1)
        outward = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
        inward = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
        self.distance = (outward - inward) * self._CELL

    def __call__(self, points: Float[ndarray, "*batch 2"]) -> Float[ndarray, "*batch"]:
        """Distance to the edge of the lanes [m], negative on them; NaN where the map has none."""
        if not self.known:
            return np.full(points.shape[:-1], np.nan)
        cell = ((points - self.low) / self._CELL).astype(int)
        column, row = (np.clip(cell[..., k], 0, self.distance.shape[1 - k] - 1) for k in range(2))
        return self.distance[row, column]


def _features(
    futures: Futures, pose: ndarray, seen: ndarray, judged: ndarray, edge: OffRoad
) -> AgentFeatures:
    count, ticks = seen.shape
    flat = np.zeros((count, ticks, 1))
    tracks = Tracks(
        futures.ids, futures.kind, np.concatenate([pose[..., :2], flat], -1), pose[..., 2],
        np.zeros((count, ticks, 2)), futures.size, seen,
    )  # fmt: skip
    found = agent_features(tracks, DT, Road(), judged)
    box = np.broadcast_to(futures.size[judged, None, :2], (len(judged), ticks, 2))
    corners = polygons.rectangle(pose[judged, :, :2], pose[judged, :, 2], box)
    found = replace(found, distance_to_road_edge=edge(corners).max(-1))
    # Only where the recording saw them there is something to compare with.
    there = futures.seen[judged]
    values = {
        name: np.where(there, value, np.nan) for name, value in vars(found).items() if name != "red_light"
    }
    return replace(found, **values)


def judged_in(futures: Futures) -> Int[ndarray, "judged"]:
    """Who was seen for long enough to be judged."""
    return np.flatnonzero(futures.seen.sum(1) >= _LEAST)


def score_traffic(futures: Futures, edge: OffRoad) -> TrafficScore:
    """How real the rollouts of a scene are.

    Args:
        futures: With as many rollouts as were sampled; fewer are judged lower, by the histograms' pseudocounts.
        edge: Of the scene's map.

    Raises:
        UserError: Nobody was seen for two seconds.
    """
    judged = judged_in(futures)
    if not len(judged):
        raise UserError("nobody can be judged", got="no road user that was seen for 2 s")
    logged = _features(futures, futures.logged, futures.seen, judged, edge)
    every = np.ones_like(futures.seen)
    rollouts = [_features(futures, pose, every, judged, edge) for pose in futures.pose]
    return _score(futures, logged, rollouts, judged, edge)


def score_log(futures: Futures, edge: OffRoad, rollouts: int) -> TrafficScore:
    """The recording as its own rollouts: as high as a score can be."""
    judged = judged_in(futures)
    logged = _features(futures, futures.logged, futures.seen, judged, edge)
    same = replace(futures, pose=np.broadcast_to(futures.logged, (rollouts, *futures.logged.shape)))
    return _score(same, logged, [logged] * rollouts, judged, edge)


def _score(
    futures: Futures, logged: AgentFeatures, rollouts: Sequence[AgentFeatures], judged: ndarray, edge: OffRoad
) -> TrafficScore:
    score = score_realism(logged, rollouts)
    parts = buckets(score.parts)
    seen = futures.seen[judged]
    error = np.linalg.norm(futures.pose[:, judged, :, :2] - futures.logged[judged, :, :2], axis=-1)
    ade = (error * seen).sum(-1) / seen.sum(-1)
    with np.errstate(invalid="ignore"):
        hits = [(one.distance_to_nearest_object < 0.0).any(1) for one in rollouts]
        off = [(one.distance_to_road_edge > _SLACK).any(1) for one in rollouts]
    return TrafficScore(
        realism=score.value,
        kinematic=parts["kinematic"],
        interactive=parts["interactive"],
        map=parts["map"],
        collisions=float(np.mean(hits)),
        off_road=float(np.mean(off)) if edge.known else float("nan"),
        ade=float(ade.mean()),
        min_ade=float(ade.mean(1).min()),
        judged=len(judged),
    )
