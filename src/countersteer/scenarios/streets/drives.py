"""`street_drive`: one drive cut from a street network, with traffic; a seed gives the same drive always."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.scenarios.procedural.curves import Curve
from countersteer.scenarios.procedural.traffic import EGO_SIZE, Mover, parked, townspeople, tracks
from countersteer.scenarios.scenario import (
    ActorKind,
    MapFeature,
    Provenance,
    RoadMap,
    Scenario,
    Signals,
    SignalState,
    Tracks,
)
from countersteer.scenarios.streets.cars import Car, drive_all, front_of
from countersteer.scenarios.streets.paint import Paved, paved
from countersteer.scenarios.streets.signals import signals_of
from countersteer.scenarios.streets.ways import Streets, Way

__all__ = ["street_drive"]

_VERSION = 1  # to be raised when the same arguments give another drive
_RATE = 10  # of the log [Hz]
_TRIES = 40
_BEHIND = 15.0  # road behind the ego's start [m]
_RESERVE = 30.0  # and before the end of its route when the log ends [m]
_SHORTEST = 60.0  # route [m]
_ROOM = 7.0  # between cars at the start, and a headway of a second [m]
_BRAKING = 2.0  # that the start of a drive may ask for [m/s^2]
_WALKERS = 4


def street_drive(
    streets: Streets,
    seed: Sequence[int],
    *,
    length: float = 300.0,
    duration: float = 30.0,
    traffic: int = 10,
    radius: float = 80.0,
    town: bool = True,
) -> Scenario:
    """A drive along a random route: its map, its lights, and a log of the ego and others at 10 Hz.

    The ego's rear axle follows its lanes' centres, corners rounded, through junctions by random turns. It slows down
    for bends, stops for lights, signs, people and leaders, and gives way; so do the others. The map is that
    within a radius of the route, on flat ground, with its origin where the ego starts.

    Args:
        streets: The network.
        seed: Numbers that say which drive.
        length: Of the route [m], at least 100; routes that end in a dead end are shorter.
        duration: Of the log [s]; it ends sooner where the route does.
        traffic: Other moving cars; fewer where they do not fit.
        radius: Of the map around the route [m].
        town: Whether there are also parked cars, people and bicycles, where lanes are slow enough.

    Raises:
        UserError: No route of 60 m is found.
    """
    arguments = f"{_VERSION} seed={tuple(seed)} length={length!r} duration={duration!r} traffic={traffic} radius={radius!r} town={town}"
    ways_rng, look_rng, traffic_rng, clock_rng = (
        np.random.default_rng([*seed, stream]) for stream in range(4)
    )
    names, way, start = _route(streets, ways_rng, length)
    times = np.arange(round(duration * _RATE) + 1) / _RATE
    path = way.curve.points
    near = streets.near(path, radius)
    over = streets.crossing_over(names, near)
    near = [name for name in near if name not in over]
    pavement = paved(streets, near, path, radius, look_rng)
    signals, lights = signals_of(streets, set(near), names, times, float(clock_rng.uniform(0.0, 1000.0)))
    ego = Car(way, EGO_SIZE, start, 0.0)
    ego.speed = _first_speed(ego, lights, float(traffic_rng.uniform(0.6, 1.0)))
    people = _walkers(traffic_rng, pavement, times) if town and traffic else []
    cars = [ego, *_traffic(streets, traffic_rng, ego, near, traffic, duration, lights, people)]
    drive_all(cars, people, lights, times)
    movers = _logged(cars, people)
    if town and traffic:
        movers += parked(traffic_rng, _some(pavement.strips, look_rng), movers, times)
        cycleways = tuple(curve for curve in pavement.cycleways if curve.length > 30.0)
        movers += townspeople(traffic_rng, pavement.walkways, (), cycleways, movers, times)
    return _scenario(streets, arguments, names, movers, pavement, signals, times, start, len(over))


def _route(streets: Streets, rng: np.random.Generator, length: float) -> tuple[list[str], Way, float]:
    """Lanes of a random route, the way along them, and where on it the drive begins [m]."""
    roads, share = streets.roads
    best: tuple[float, list[str], Way, float] | None = None
    for _ in range(_TRIES if roads else 0):
        first = roads[int(rng.choice(len(roads), p=share))]
        begin = float(rng.uniform(0.0, streets.lanes[first].length))
        names = streets.draw(rng, first, begin + length)
        whole = sum(streets.lanes[name].length for name in names) - begin
        if best is not None and whole <= best[0]:
            continue
        behind = min(begin, _BEHIND)
        way = streets.way(names, begin - behind)
        if way.tight:
            continue
        best = (whole, names, way, behind)
        if whole >= length:
            break
    if best is None or best[0] < _SHORTEST:
        raise UserError(
            f"no route of {_SHORTEST:g} m leads through {streets.network.name}",
            got="no usable lane" if best is None else f"at most {best[0]:.0f} m in {_TRIES} tries",
            expected="lanes that go on",
            fix="choose another map, or other places of it",
        )
    _, names, way, behind = best
    if way.curve.length > length + behind + 1.0:
        kept = way.curve.between(0.0, length + behind)
        way = Way(
            kept, tuple(p for p in way.passages if p.begin < kept.length), way.speed[: len(kept.points)]
        )
    return [passage.lane.id for passage in way.passages], way, behind


def _first_speed(car: Car, lights: dict[str, Int[ndarray, "time"]], share: float) -> float:
    """A share of what its lane allows, and slow enough to stop where it may have to [m/s]."""
    speed = share * car.way.at(car.s)
    for entry in car.ahead():
        lane = entry.lane
        light = int(lights[lane.id][0]) if lane.id in lights else SignalState.UNKNOWN
        if lane.stops or lane.yields_to or light in (SignalState.STOP, SignalState.CAUTION):
            room = max(entry.begin - car.s - car.front - 1.5, 0.0)
            speed = min(speed, (2.0 * _BRAKING * room) ** 0.5)
    return speed


def _walkers(rng: np.random.Generator, pavement: Paved, times: Float[ndarray, "time"]) -> list[Mover]:
    """People who cross at crosswalks; cars let them."""
    found: list[Mover] = []
    for _ in range(int(rng.integers(_WALKERS + 1)) if pavement.crossings else 0):
        curve = pavement.crossings[int(rng.integers(len(pavement.crossings)))]
        curve = curve if rng.random() < 0.5 else curve.reversed()
        begins, pace = rng.uniform(2.0, 0.8 * times[-1]), rng.uniform(0.9, 1.6)
        s = np.clip(pace * (times - begins), 0.0, curve.length)
        moving = np.concatenate([np.diff(s) > 0, [False]])
        size = (0.6, 0.6, rng.uniform(1.5, 1.9))
        walker = Mover(ActorKind.PEDESTRIAN, size, curve, s, np.where(moving, pace, 0.0))
        if walker.clear_of(found):
            found.append(walker)
    return found


def _traffic(
    streets: Streets,
    rng: np.random.Generator,
    ego: Car,
    near: Sequence[str],
    count: int,
    duration: float,
    lights: dict[str, Int[ndarray, "time"]],
    people: Sequence[Mover],
) -> list[Car]:
    """Up to `count` other cars on the lanes near the ego's way, clear of one another."""
    roads = [
        name for name in near if streets.lanes[name].junction is None and streets.lanes[name].length > 8.0
    ]
    if not roads:
        return []
    weights = np.array([min(streets.lanes[name].length, 200.0) for name in roads])
    weights[[name in {passage.lane.id for passage in ego.way.passages} for name in roads]] *= 2.0
    weights /= weights.sum()
    walking = [each.pose[0][0] for each in people]
    found = [ego]
    for _ in range(count):
        for _ in range(10):
            name = roads[int(rng.choice(len(roads), p=weights))]
            lane = streets.lanes[name]
            keen, headway = float(rng.uniform(0.75, 1.05)), float(rng.uniform(1.0, 1.9))
            at = float(rng.uniform(0.0, lane.length))
            size = _size(rng)
            reach = (lane.speed_limit or 14.0) * duration + 40.0
            way = streets.way(streets.draw(rng, name, at + reach), max(at - 5.0, 0.0), keen)
            if way.curve.length < 20.0 or way.tight:
                continue
            car = Car(way, size, min(at, 5.0), 0.0, headway)
            car.speed = _first_speed(car, lights, float(rng.uniform(0.5, 1.0)))
            if _has_room(car, found, walking):
                found.append(car)
                break
    return found[1:]


def _size(rng: np.random.Generator) -> tuple[float, float, float]:
    u, v, w = rng.random(3).tolist()
    if rng.random() < 0.08:
        return (7.0 + 3.0 * u, 2.2 + 0.2 * v, 2.8 + w)
    return (4.1 + u, 1.75 + 0.25 * v, 1.4 + 0.4 * w)


def _has_room(car: Car, others: Sequence[Car], walking: Sequence[ndarray]) -> bool:
    here = _middle(car)
    reach = max(car.size[0] / 2 + _ROOM, 0.0)
    for other in others:
        apart = float(np.linalg.norm(here - _middle(other)))
        if apart < reach + other.size[0] / 2 + 0.5 * max(car.speed, other.speed):
            return False
    return all(np.linalg.norm(here - at) > 8.0 for at in walking)


def _middle(car: Car) -> Float[ndarray, 2]:
    return car.way.curve.at(np.array([car.s + front_of(car.size[0]) - car.size[0] / 2]))[0][0]


def _logged(cars: Sequence[Car], people: Sequence[Mover]) -> list[Mover]:
    """The logs of all who hit nobody: the ego's first, then those clear of all before them."""
    kept: list[Mover] = [cars[0].mover()]
    for mover in (*people, *(car.mover() for car in cars[1:])):
        if mover.clear_of(kept, (0.0, 0.0)):
            kept.append(mover)
    return kept


def _some(strips: Sequence[Curve], rng: np.random.Generator) -> list[Curve]:
    """Part of the strips: not every street is parked full."""
    share = rng.uniform(0.2, 1.0)
    return [strip for strip in strips if rng.random() < share]


def _scenario(
    streets: Streets,
    arguments: str,
    names: Sequence[str],
    movers: Sequence[Mover],
    pavement: Paved,
    signals: Signals,
    times: Float[ndarray, "time"],
    start: float,
    over: int,
) -> Scenario:
    """Everything moved to where the ego starts, and cut to the time in which it is on its route."""
    network = streets.network
    ego = movers[0]
    origin = ego.curve.at(np.array([start]))[0][0]
    left = np.flatnonzero(ego.s > ego.curve.length - _RESERVE)
    last = max(int(left[0]) if len(left) else len(times), 20)
    kept = slice(0, last)
    log = tracks(movers).at(kept)
    log = _only_seen(
        dataclasses.replace(log, position=np.where(log.valid[..., None], log.position - [*origin, 0.0], 0.0))
    )
    features = tuple(_moved(each, origin) for each in pavement.features)
    signals = dataclasses.replace(signals.at(kept), stop_point=signals.stop_point - [*origin, 0.0])
    fingerprint = hashlib.sha256(f"{network.provenance.fingerprint} {arguments}".encode()).hexdigest()
    notes = [
        f"from {network.name}, at ({origin[0]:.0f}, {origin[1]:.0f}) m: what drives, stands and walks there is generated"
    ]
    if over:
        notes.append(f"{over} lanes that cross the route on another level, or on none, are left out")
    widths = [streets.lanes[name].width for name in names]
    return Scenario(
        id=f"{network.name}-{fingerprint[:10]}",
        times=times[kept],
        road=RoadMap(features),
        tracks=log,
        ego=0,
        route=ego.curve.thinned(2) - origin,
        signals=signals,
        provenance=Provenance(
            source=f"street network ({network.provenance.source})",
            path=f"{network.provenance.path} {arguments}",
            licence=network.provenance.licence,
            fingerprint=fingerprint,
            notes=tuple(notes),
        ),
        lane_width=float(np.median(widths)),
    )


def _moved(each: MapFeature, origin: Float[ndarray, 2]) -> MapFeature:
    points = np.column_stack([each.points[:, :2] - origin, np.zeros(len(each.points))])
    return dataclasses.replace(each, points=points)


def _only_seen(log: Tracks) -> Tracks:
    """Without actors that are gone before the log begins."""
    seen = log.valid.any(1)
    rows = np.flatnonzero(seen)
    return dataclasses.replace(
        log,
        ids=tuple(log.ids[row] for row in rows),
        **{
            name: getattr(log, name)[rows]
            for name in ("kind", "position", "heading", "velocity", "size", "valid")
        },
    )
