"""Cars on the streets of a drive, as a rule drives them: they keep their distance, stop for lights, signs and people, and give way.

The rule is for logs, which other cars react to and policies are compared with; it knows everything about everybody and looks
only as far ahead as it has to. Cars follow the Intelligent Driver Model (Treiber, Hennecke, Helbing 2000).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.scenarios.procedural.traffic import Mover
from countersteer.scenarios.scenario import ActorKind, SignalState
from countersteer.scenarios.streets.ways import Passage, Way

__all__ = ["Car", "drive_all", "front_of"]

_LOOK = 60.0  # ahead, for somebody in the way [m]
_STEP = 1.5  # between places that are looked at [m]
_ACCELERATION, _BRAKING, _HARDEST = 1.5, 2.0, 7.0  # [m/s^2]
_GAP = 2.0  # behind somebody who stands [m]
_BEFORE_LINE = 1.0  # where cars stop at a line [m]
_AMBER = 3.0  # who would have to brake harder than this for amber goes on [m/s^2]
_SEEN = 45.0  # distance from a junction at which a car looks for others [m]
_STANDS = 0.4  # [m/s]
_PATIENCE = 5.0  # who has waited longer drives before others who wait too [s]
_MARGIN = 1.5  # between my leaving and their arriving [s]


def front_of(length: float) -> float:
    """How far the front of a car lies before its rear axle [m]."""
    return rear_axle_to_center(length) + length / 2


@dataclass
class Car:
    """One car while the log is made.

    Attributes:
        way: What it drives along, with its rear axle.
        size: Length, width, height [m].
        s: Arc length along the way [m].
        speed: [m/s].
        headway: That it keeps [s].
        waited: How long it has stood and had to [s].
        stopped_at: Where the last stop sign was at which it has stopped [m].
        log: Arc length and speed at each tick so far.
    """

    way: Way
    size: tuple[float, float, float]
    s: float
    speed: float
    headway: float = 1.4
    waited: float = 0.0
    stopped_at: float = -math.inf
    log: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.front = front_of(self.size[0])
        self.entries = self.way.entries
        self.next = 0
        self.held = False

    @property
    def present(self) -> bool:
        """Whether it is still on its way."""
        return self.s <= self.way.curve.length

    def ahead(self) -> list[Passage]:
        """The ways through junctions that it has not begun and is near enough to, in order; short ones may follow closely."""
        while self.next < len(self.entries) and self.s + self.front > self.entries[self.next].begin + 1.0:
            self.next += 1
        reach = self.s + self.front + max(_SEEN, self.speed**2 / 2.0)
        found = []
        for entry in self.entries[self.next :]:
            if entry.begin > reach:
                break
            found.append(entry)
        return found

    def mover(self) -> Mover:
        """Its log."""
        s, speed = np.array(self.log).T
        return Mover(ActorKind.VEHICLE, self.size, self.way.curve, s, speed)


def drive_all(
    cars: Sequence[Car],
    people: Sequence[Mover],
    lights: Mapping[str, Int[ndarray, "time"]],
    times: Float[ndarray, "time"],
) -> None:
    """Drive all cars over the times; each keeps its log.

    Args:
        cars: At their beginnings.
        people: Who crosses, whatever the cars do; they are let go.
        lights: What the light of each lane shows.
        times: [s], evenly spaced.
    """
    dt = float(times[1] - times[0])
    walkers = _Walkers(people, times)
    for tick in range(len(times)):
        for car in cars:
            car.log.append((car.s, car.speed))
        here = [car for car in cars if car.present]
        scene = _Scene(here, walkers.at(tick))
        answers = [_answer(car, k, scene, here, lights, tick) for k, car in enumerate(here)]
        for car, answer in zip(here, answers, strict=True):
            speed = max(car.speed + answer * dt, 0.0)
            speed = 0.0 if speed < 0.05 and answer < 0.0 else speed
            car.s += (car.speed + speed) / 2 * dt
            car.speed = speed
            car.waited = car.waited + dt if speed < _STANDS and car.held else 0.0


class _Walkers:
    """Where people are, and will be in a second or two."""

    def __init__(self, people: Sequence[Mover], times: ndarray) -> None:
        dt = float(times[1] - times[0])
        self.ahead = [round(seconds / dt) for seconds in (0.0, 1.0, 2.0)]
        self.place = np.stack([each.pose[0] for each in people]) if people else np.zeros((0, len(times), 2))
        self.moves = (
            np.stack([each.speed > 0 for each in people]) if people else np.zeros((0, len(times)), bool)
        )

    def at(self, tick: int) -> Float[ndarray, "n 2"]:
        """Places that cars keep clear of now; whoever stands at the kerb does not count."""
        last = self.place.shape[1] - 1
        rows = [min(tick + ahead, last) for ahead in self.ahead]
        walking = self.moves[:, rows[0]] | self.moves[:, rows[1]]
        return self.place[walking][:, rows].reshape(-1, 2)


class _Scene:
    """What stands in somebody's way: three points along every car, and people."""

    def __init__(self, cars: Sequence[Car], walkers: Float[ndarray, "n 2"]) -> None:
        along = []
        self.heading = np.zeros(len(cars))
        for k, car in enumerate(cars):
            point, heading = car.way.curve.at(np.array([car.s]))
            self.heading[k] = heading[0]
            direction = np.array([np.cos(heading[0]), np.sin(heading[0])])
            rear = car.front - car.size[0]
            along.append(point[0] + np.linspace(rear + 0.3, car.front - 0.3, 4)[:, None] * direction)
        self.points = np.concatenate([*along, walkers]) if along else walkers
        self.owner = np.concatenate([np.repeat(np.arange(len(cars)), 4), np.full(len(walkers), -1)]).astype(
            int
        )
        self.half = np.array([*(car.size[1] / 2 for car in cars), 0.5])  # the last one is that of people
        self.speed = np.array([*(car.speed for car in cars), 0.0])

    def ahead(self, car: Car, k: int) -> tuple[float, float]:
        """Gap [m] to the first thing in the way of a car and its speed along the way [m/s]; infinite without."""
        reach = min(_LOOK, 15.0 + 4.0 * car.speed)
        at = car.s + car.front + np.arange(0.0, reach, _STEP)
        points, course = car.way.curve.at(at)
        box = (self.points > points.min(0) - 4.0).all(1) & (self.points < points.max(0) + 4.0).all(1)
        others = np.flatnonzero(box & (self.owner != k))
        if not len(others):
            return math.inf, 0.0
        owner = self.owner[others]
        away = np.linalg.norm(points[:, None] - self.points[others], axis=-1)
        blocked = away < self.half[owner] + car.size[1] / 2 + 0.3
        if not blocked.any():
            return math.inf, 0.0
        first = int(blocked.any(1).argmax())
        who = int(owner[blocked[first].argmax()])
        speed = 0.0 if who < 0 else float(self.speed[who] * np.cos(self.heading[who] - course[first]))
        return max(first * _STEP - 0.5, 0.1), max(speed, 0.0)


def _follow(car: Car, gap: float, lead: float, standstill: float = _GAP) -> float:
    """Acceleration behind a leader [m/s^2], by the IDM without its free part."""
    closing = car.speed * (car.speed - lead) / (2 * (_ACCELERATION * _BRAKING) ** 0.5)
    wanted = standstill + max(car.speed * car.headway + closing, 0.0)
    return _ACCELERATION * (1.0 - (wanted / max(gap, 0.1)) ** 2)


def _stop(car: Car, gap: float) -> float:
    """Acceleration to stand still in so many metres [m/s^2]: evenly, and no sooner than comfort asks for."""
    needed = car.speed**2 / (2.0 * max(gap, 0.05))
    if gap < 0.3:
        return -_HARDEST if car.speed > 0.0 else 0.0
    if needed < 0.7 * _BRAKING:
        return _ACCELERATION if car.speed < 1.5 and gap > 2.0 else (0.0 if gap > 3.0 else -needed)
    return -needed


def _answer(
    car: Car,
    k: int,
    scene: _Scene,
    cars: Sequence[Car],
    lights: Mapping[str, ndarray],
    tick: int,
) -> float:
    """Acceleration of one car [m/s^2]."""
    soon = 0.5
    wanted = min(car.way.at(car.s), car.way.at(car.s + soon * car.speed))
    answer = min((wanted - car.speed) / soon, _ACCELERATION)
    gap, lead = scene.ahead(car, k)
    if math.isfinite(gap):
        answer = min(answer, _follow(car, gap, lead))
    car.held = gap < 4.0
    for entry in car.ahead():
        distance = entry.begin - car.s - car.front
        if _waits(car, k, entry, distance, cars, lights, tick):
            answer = min(answer, _stop(car, distance - _BEFORE_LINE))
            car.held = True
            break
    return float(np.clip(answer, -_HARDEST, _ACCELERATION))


def _waits(
    car: Car,
    k: int,
    entry: Passage,
    distance: float,
    cars: Sequence[Car],
    lights: Mapping[str, ndarray],
    tick: int,
) -> bool:
    """Whether a car has to stop before it enters a way through a junction."""
    lane = entry.lane
    light = int(lights[lane.id][tick]) if lane.id in lights else SignalState.UNKNOWN
    room = max(distance - _BEFORE_LINE, 0.05)
    if light == SignalState.STOP:
        # Who is over the line already, or cannot stop before it, goes on.
        return distance > -0.5 and car.speed**2 / (2 * room) < _HARDEST
    if light == SignalState.CAUTION:
        return distance > 0.0 and car.speed**2 / (2 * room) < _AMBER
    if lane.stops and car.stopped_at < entry.begin:
        if car.speed < _STANDS and distance < _BEFORE_LINE + 1.5:
            car.stopped_at = entry.begin
        return car.stopped_at < entry.begin
    if distance > _SEEN or car.speed**2 / (2 * room) > 5.0:
        return False
    return _has_to_give_way(car, k, entry, distance, cars, lights, tick)


def _has_to_give_way(
    car: Car,
    k: int,
    entry: Passage,
    distance: float,
    cars: Sequence[Car],
    lights: Mapping[str, ndarray],
    tick: int,
) -> bool:
    first = set(entry.lane.yields_to)
    if not first:
        return False
    # Half of the way is where the ways cross, as far as is known.
    leaving = (distance + 0.7 * (entry.end - entry.begin) + car.size[0]) / max(car.speed, 4.0) + _MARGIN
    for j, other in enumerate(cars):
        if j == k:
            continue
        for passage in other.way.passages:
            if passage.lane.id not in first or other.s > passage.end + other.size[0]:
                continue
            away = passage.begin - other.s - other.front
            if away < -1.0:
                return True  # it is on it
            if away > 80.0:
                break
            if passage.lane.id in lights and lights[passage.lane.id][tick] in (
                SignalState.STOP,
                SignalState.CAUTION,
            ):
                break
            if other.speed < _STANDS and (away > 6.0 or _may_pass(car, other, k, j)):
                break
            if away / max(other.speed, 3.0) < leaving:
                return True
            break
    return False


def _may_pass(car: Car, other: Car, k: int, j: int) -> bool:
    """Whether a car that has waited long goes before one that has priority but stands."""
    return car.waited > _PATIENCE and (car.waited, -k) > (other.waited, -j)
