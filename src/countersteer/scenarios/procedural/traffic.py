"""Other road users of a generated road: where they start and how they move in the log.

Everybody follows a curve at a planned distance over time. A candidate joins only if it stays clear of
everybody who joined before it over the whole log, so the log can be replayed as it is; it also is the
initial condition of reactive traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.geometry.boxes import overlap, rear_axle_to_center
from countersteer.geometry.poses import wrap_angle
from countersteer.scenarios.procedural.curves import Curve
from countersteer.scenarios.procedural.sections import CrossSection
from countersteer.scenarios.scenario import ActorKind, Signals, SignalState, Tracks

__all__ = [
    "EGO_SIZE",
    "Mover",
    "TrafficLane",
    "parked",
    "queue",
    "roadside",
    "start_traffic",
    "townspeople",
    "tracks",
]

EGO_SIZE = (4.8, 1.9, 1.5)
_START_GAP = 12.0  # free road before and behind a car at the start [m]
_LOG_GAP = 3.0  # and for the rest of the log
_TRIES = 25
_PLACE = 6.0  # length of a place to park [m]
_PARKED_MOST = 30  # cars parked in a town


@dataclass(frozen=True)
class Mover:
    """An actor on a curve.

    Attributes:
        kind: What it is.
        size: Length, width, height [m].
        curve: What it follows: a vehicle with its rear axle, anyone else with the centre.
        s: Distance along the curve at each time [m]; it is there only while on the curve.
        speed: At each time [m/s].
    """

    kind: ActorKind
    size: tuple[float, float, float]
    curve: Curve
    s: Float[ndarray, "time"]
    speed: Float[ndarray, "time"]

    @cached_property
    def valid(self) -> Bool[ndarray, "time"]:
        """Whether it is on the road."""
        return (self.s >= 0.0) & (self.s <= self.curve.length)

    @cached_property
    def pose(self) -> tuple[Float[ndarray, "time 2"], Float[ndarray, "time"]]:
        """Box centre [m] and heading [rad] at each time."""
        points, heading = self.curve.at(self.s)
        if self.kind == ActorKind.VEHICLE:
            direction = np.stack([np.cos(heading), np.sin(heading)], axis=1)
            points = points + rear_axle_to_center(self.size[0]) * direction
        return points, heading

    def clear_of(self, others: Sequence[Mover], gap: tuple[float, float] | None = None) -> bool:
        """Whether it keeps its gap [m] from all others, at the start and later; None for what its kind keeps."""
        if not others:
            return True
        every = slice(None, None, 2)
        points, heading = (array[every] for array in self.pose)
        if gap is None:
            gap = (_START_GAP, _LOG_GAP) if self.kind == ActorKind.VEHICLE else (0.5, 0.5)
        gaps = np.full(len(points), gap[1])
        gaps[0] = gap[0]
        mine = np.stack([self.size[0] + 2 * gaps, np.full(len(gaps), self.size[1] + 0.2)], axis=1)
        their_points = np.stack([other.pose[0][every] for other in others])
        their_heading = np.stack([other.pose[1][every] for other in others])
        their_size = np.array([other.size[:2] for other in others])
        # Only who comes as near as the sum of the half diagonals is worth the exact test.
        reach = (np.linalg.norm(mine, axis=1) + np.linalg.norm(their_size, axis=1)[:, None]) / 2
        near = np.linalg.norm(their_points - points, axis=2) < reach
        near &= np.stack([(other.valid & self.valid)[every] for other in others])
        who, when = np.nonzero(near)
        if not len(who):
            return True
        boxes = (
            *(points[when], heading[when], mine[when]),
            *(their_points[who, when], their_heading[who, when], their_size[who]),
        )
        return not bool(overlap(*(torch.from_numpy(array) for array in boxes)).any())


@dataclass(frozen=True)
class TrafficLane:
    """A lane that others may drive on.

    Attributes:
        centre: Its centre line.
        limit: Its speed limit [m/s].
        stop: Distance along it of a stop line governed by a light [m], or None.
        light: Row of that light in the signals.
        turn: Distance along it at which it turns off at a crossing [m], or None where it goes on.
    """

    centre: Curve
    limit: float
    stop: float | None = None
    light: int = 0
    turn: float | None = None


def start_traffic(
    rng: np.random.Generator,
    count: int,
    lanes: Sequence[TrafficLane],
    present: Sequence[Mover],
    times: Float[ndarray, "time"],
    signals: Signals,
) -> list[Mover]:
    """Up to `count` vehicles on the lanes, clear of those `present`; fewer where the road is full."""
    ego_speed = float(present[0].speed[0])
    vehicles: list[Mover] = []
    for _ in range(count):
        for _ in range(_TRIES):
            lane = lanes[int(rng.integers(len(lanes)))]
            candidate = _vehicle(rng, lane, ego_speed, times, signals)
            if candidate is not None and _join(candidate, present, vehicles):
                break
    return vehicles


def queue(
    rng: np.random.Generator,
    lanes: Sequence[TrafficLane],
    present: Sequence[Mover],
    times: Float[ndarray, "time"],
) -> list[Mover]:
    """Vehicles close behind one another in one lane: they stand and then drive off, crawl, or follow at speed."""
    lane = lanes[int(rng.integers(len(lanes)))]
    most = lane.centre.length - 40.0 if lane.stop is None else lane.stop - 2.0
    if most <= 60.0:
        return []
    nose, speed = rng.uniform(60.0, most), lane.limit * rng.uniform(0.5, 0.9)
    how = int(rng.integers(3))
    wait = rng.uniform(0.0, 10.0)
    found: list[Mover] = []
    for place in range(int(rng.integers(2, 7))):
        size = _vehicle_size(rng)
        rear = nose - size[0] / 2 - rear_axle_to_center(size[0])
        if how == 0:
            pace = np.clip(1.2 * (times - wait - 0.9 * place), 0.0, speed)
        else:
            pace = np.full(len(times), 0.2 * speed if how == 1 else speed)
        mover = Mover(ActorKind.VEHICLE, size, lane.centre, rear + _way(pace, times), pace)
        if rear < 0.0 or not mover.clear_of([*present, *found], (0.5, 0.5)):
            break
        found.append(mover)
        nose -= size[0] + rng.uniform(1.5, 3.5) + (rng.uniform(0.3, 0.8) * speed if how == 2 else 0.0)
    return found


def _join(
    mover: Mover, present: Sequence[Mover], found: list[Mover], gap: tuple[float, float] | None = None
) -> bool:
    """Add the mover to those found if it is clear of them and of those present; whether it was."""
    clear = mover.clear_of([*present, *found], gap)
    if clear:
        found.append(mover)
    return clear


def _way(speed: Float[ndarray, "time"], times: Float[ndarray, "time"]) -> Float[ndarray, "time"]:
    """Distance driven since the first time [m]."""
    return np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * np.diff(times))])


def _vehicle_size(rng: np.random.Generator) -> tuple[float, float, float]:
    u = rng.random(3)
    if rng.random() < 0.12:
        return (8.0 + 4.0 * u[0], 2.3 + 0.2 * u[1], 2.8 + u[2])
    return (4.2 + u[0], 1.75 + 0.25 * u[1], 1.4 + 0.4 * u[2])


def _vehicle(
    rng: np.random.Generator,
    lane: TrafficLane,
    ego_speed: float,
    times: Float[ndarray, "time"],
    signals: Signals,
) -> Mover | None:
    """A car at constant speed, or one that waits for its light and then drives off."""
    size = _vehicle_size(rng)
    # Half of the traffic flows with the ego; the rest drives as it likes.
    speed = lane.limit * rng.uniform(0.65, 1.0)
    if rng.random() < 0.5:
        speed = min(ego_speed, lane.limit)
    span = (5.0, lane.centre.length - 15.0) if lane.turn is None else (max(5.0, lane.turn - 100.0), lane.turn)
    start = rng.uniform(*span)
    s, speeds = lane.centre.travel(start, speed, times)
    if lane.stop is not None:
        states = signals.state[lane.light]
        if states[0] == SignalState.STOP and rng.random() < 0.6 and lane.turn is None:
            place = int(rng.integers(3))
            nose = size[0] - (size[0] / 2 - rear_axle_to_center(size[0]))
            start = lane.stop - nose - 1.0 - place * 9.0
            go = np.flatnonzero(states == SignalState.GO)
            moving = np.zeros(len(times)) if not len(go) else times - times[go[0]] - 1.0 - 0.8 * place
            speeds = np.clip(1.5 * moving, 0.0, lane.limit)
            s = start + _way(speeds, times)
        elif start < lane.stop and s[-1] > lane.stop - size[0]:
            crossing = (s > lane.stop - size[0]) & (s < lane.stop + size[0])
            if (states[crossing] != SignalState.GO).any():
                return None  # it would have to run the light, or stop for it
    return Mover(ActorKind.VEHICLE, size, lane.centre, s, speeds) if s[0] >= 0.0 else None


def roadside(
    rng: np.random.Generator,
    curve: Curve,
    section: CrossSection | None,
    walkways: Sequence[Curve],
    present: Sequence[Mover],
    times: Float[ndarray, "time"],
) -> list[Mover]:
    """Now and then parked cars and a cyclist on the right shoulder, and somebody on foot beside the road.

    Args:
        rng: Draws who is there.
        curve: Reference of the cross-section.
        section: The cross-section, or None where it changes along the road: then nobody is on it.
        walkways: Curves on which somebody may stand and wait.
        present: Everybody so far.
        times: [s].
    """
    found: list[Mover] = []

    def add(
        kind: ActorKind, size: tuple[float, float, float], path: Curve, start: float, speed: float
    ) -> None:
        _join(Mover(kind, size, path, start + speed * times, np.full(len(times), speed)), present, found)

    for path in walkways:
        if rng.random() < 0.15:
            size = (0.6, 0.6, rng.uniform(1.55, 1.9))
            add(ActorKind.PEDESTRIAN, size, path, path.length / 2 + rng.uniform(-5.0, 5.0), 0.0)
    if section is None:
        return found
    wide = section.shoulder_right >= 2.3
    parked = int(rng.integers(1, 4)) if wide and rng.random() < 0.7 else 0
    somewhere = (20.0, curve.length - 40.0)
    for _ in range(parked):
        length, width = rng.uniform(4.2, 4.9), rng.uniform(1.75, 1.9)
        beside = curve.beside(section.right_edge + 0.2 + width / 2)
        size = (length, width, rng.uniform(1.4, 1.8))
        add(ActorKind.VEHICLE, size, beside, rng.uniform(*somewhere), 0.0)
    if not parked and section.shoulder_right >= 0.9 and rng.random() < 0.15:
        beside = curve.beside(section.right_line - 0.55)
        add(ActorKind.CYCLIST, (1.8, 0.6, 1.7), beside, rng.uniform(*somewhere), rng.uniform(3.5, 6.0))
    if rng.random() < 0.2:
        beside = curve.beside(section.right_edge - rng.uniform(0.7, 2.0))
        path = beside if rng.random() < 0.5 else beside.reversed()
        size = (0.6, 0.6, rng.uniform(1.55, 1.9))
        add(ActorKind.PEDESTRIAN, size, path, rng.uniform(*somewhere), rng.uniform(0.8, 1.6))
    return found


def parked(
    rng: np.random.Generator, strips: Sequence[Curve], present: Sequence[Mover], times: Float[ndarray, "time"]
) -> list[Mover]:
    """Cars parked along strips, few or many of the places there are.

    Args:
        rng: Draws who is there.
        strips: Where the middle of a parked car stands, in its direction.
        present: Everybody so far.
        times: [s].
    """
    # Cars stand with their rear axle in their place, so the road must go on behind the first one.
    places = [(strip, at) for strip in strips for at in np.arange(2.0, strip.length - _PLACE, _PLACE)]
    found: list[Mover] = []
    if not places:
        return found
    for k in rng.permutation(len(places))[: int(rng.integers(_PARKED_MOST + 1))]:
        strip, at = places[k]
        size = (rng.uniform(4.0, 5.2), rng.uniform(1.7, 2.0), rng.uniform(1.4, 2.1))
        s = np.full(len(times), at + rng.uniform(0.0, _PLACE - size[0]))
        car = Mover(ActorKind.VEHICLE, size, strip.beside(rng.uniform(-0.15, 0.1)), s, np.zeros(len(times)))
        _join(car, present, found, (0.3, 0.3))
    return found


def townspeople(
    rng: np.random.Generator,
    walkways: Sequence[Curve],
    crossings: Sequence[Curve],
    cycleways: Sequence[Curve],
    present: Sequence[Mover],
    times: Float[ndarray, "time"],
) -> list[Mover]:
    """People on bicycles and on foot: some ride beside the traffic, some walk, some cross the road ahead of it.

    Args:
        rng: Draws who is there.
        walkways: Curves beside the pavement on which people walk, either way.
        crossings: Ways over the road, which people cross either way.
        cycleways: Where bicycles ride.
        present: Everybody so far.
        times: [s].
    """
    found: list[Mover] = []

    def add(
        kind: ActorKind, size: tuple[float, float, float], path: Curve, start: float, pace: ndarray
    ) -> bool:
        s = start + _way(pace, times)
        if kind is ActorKind.PEDESTRIAN:
            s = np.minimum(s, path.length)  # whoever has crossed stays there
        mover = Mover(kind, size, path, s, np.where(s < path.length, pace, 0.0))
        return _join(mover, present, found)

    def somebody() -> tuple[float, float, float]:
        return (0.6, 0.6, rng.uniform(1.5, 1.9))

    for _ in range(int(rng.integers(4)) if cycleways else 0):
        path = cycleways[int(rng.integers(len(cycleways)))]
        pace = np.full(len(times), rng.uniform(2.5, 6.5))
        add(ActorKind.CYCLIST, (1.8, 0.6, 1.7), path, rng.uniform(5.0, 0.7 * path.length), pace)
    for _ in range(int(rng.integers(5)) if crossings else 0):
        for _ in range(_TRIES):
            path = crossings[int(rng.integers(len(crossings)))]
            path = path if rng.random() < 0.5 else path.reversed()
            begins, pace = rng.uniform(-3.0, 0.8 * times[-1]), rng.uniform(0.9, 1.8)
            if add(ActorKind.PEDESTRIAN, somebody(), path, 0.0, np.where(times >= begins, pace, 0.0)):
                break
    for _ in range(int(rng.integers(6)) if walkways else 0):
        path = walkways[int(rng.integers(len(walkways)))]
        path = path if rng.random() < 0.5 else path.reversed()
        pace = np.full(len(times), rng.uniform(0.8, 1.8))
        add(ActorKind.PEDESTRIAN, somebody(), path, rng.uniform(0.0, 0.8 * path.length), pace)
    return found


def tracks(movers: Sequence[Mover]) -> Tracks:
    """The log of all movers; the first is the ego."""
    position, heading, velocity = [], [], []
    for mover in movers:
        points, course = mover.pose
        seen = mover.valid[:, None]
        height = np.full((len(points), 1), mover.size[2] / 2)
        direction = np.stack([np.cos(course), np.sin(course)], axis=1)
        position.append(np.where(seen, np.concatenate([points, height], axis=1), 0.0))
        heading.append(np.where(mover.valid, wrap_angle(course), 0.0))
        velocity.append(np.where(seen, direction * mover.speed[:, None], 0.0))
    return Tracks(
        ids=("ego", *(f"{mover.kind.name.lower()}_{i}" for i, mover in enumerate(movers[1:]))),
        kind=np.array([int(mover.kind) for mover in movers]),
        position=np.stack(position),
        heading=np.stack(heading),
        velocity=np.stack(velocity),
        size=np.array([mover.size for mover in movers]),
        valid=np.stack([mover.valid for mover in movers]),
    )
