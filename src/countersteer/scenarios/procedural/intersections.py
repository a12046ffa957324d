"""Crossings of two roads: a four-way intersection with traffic lights, and junctions as towns have them.

Built about its centre: the ego's road along x, the crossing road along y, both two-way with the same
lane width. Arm i points east, north, west, south for i = 0 to 3; the ego comes in on the west arm.
Every kerb is the parallel of the right turn from the outer lane of one arm to that of the next, so
that whoever follows the lane stays on the pavement.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from countersteer.scenarios.procedural.crossing import Crossing, Drawn, strips_of
from countersteer.scenarios.procedural.curves import COMFORT, Curve
from countersteer.scenarios.procedural.layouts import (
    BEHIND,
    BICYCLE,
    VERGE,
    Layout,
    free_speed,
    lane_limit,
    no_signals,
)
from countersteer.scenarios.procedural.sections import PARKING, THIN, feature, lane, worn
from countersteer.scenarios.procedural.traffic import EGO_SIZE, TrafficLane
from countersteer.scenarios.scenario import MapFeature, MapKind, Signals, SignalState

__all__ = ["intersection", "junction"]

_EGO_ARM = 2
_TURN_ARM = {-1: 3, 0: 0, 1: 1}  # arm by which the ego leaves, by turn: right, straight on, left
_NOSE = EGO_SIZE[0] * 0.72  # of the ego before its rear axle [m]
_CAUTION, _ALL_RED = 3.0, 1.5  # [s]


def intersection(rng: np.random.Generator, lanes: int, length: float, times: ndarray) -> Layout:
    """The ego goes straight on, left or right over an intersection some 70-110 m ahead."""
    across = int(rng.integers(1, 3))
    west = BEHIND + rng.uniform(75.0, 110.0)
    sideways = max(120.0, (length - west) / 2)
    crossing = Crossing(
        lanes=(lanes, across, lanes, across),
        reach=(max(length - west, 90.0), sideways, west, sideways),
        width=rng.uniform(3.2, 3.8),
        shoulder=rng.uniform(0.4, 1.2),
    )
    turn = int(rng.integers(-1, 2))
    mine = {-1: lanes - 1, 0: int(rng.integers(lanes)), 1: 0}[turn]
    drawn = Drawn.of(crossing, _route(crossing, turn, mine)).settled(rng)
    route, through = drawn.route, drawn.through

    share = rng.uniform(0.5, 0.8)
    limit = min(lane_limit(share, *through.values()), 17.0)
    mine_limit = lane_limit(0.95, route) if turn else limit
    speed = free_speed(rng, mine_limit, route, times[-1])
    features = [
        lane(f"lane_{arm}_{i}", curve, crossing.width, limit) for (arm, i), curve in through.items()
    ] + ([lane("turn", route, crossing.width, mine_limit)] if turn else [])
    features += [*_outline(crossing, drawn.kerbs), *_painted(drawn.lines), *_walks(drawn.walks)]

    stops = _stops(crossing)
    arrival = (stops[_EGO_ARM] - BEHIND - _NOSE) / speed
    states = _states(rng, times, arrival, protected=turn > 0)
    entries = {(f"lane_{arm}_{i}", arm): curve for (arm, i), curve in through.items()}
    return Layout(
        features=tuple(features),
        route=route,
        route_offsets=(0.0,) if turn else tuple((mine - i) * crossing.width for i in reversed(range(lanes))),
        width=crossing.width,
        speed=speed,
        lanes=tuple(
            TrafficLane(curve, limit, stop=stops[arm], light=row)
            for row, ((arm, _), curve) in enumerate(through.items())
        ),
        section=None,
        walkways=_walkways(crossing, drawn.kerbs),
        signals=_signals(entries, stops, states),
    )


def junction(rng: np.random.Generator, lanes: int, length: float, times: ndarray) -> Layout:
    """A crossing in a town, some 40-80 m ahead: three arms or four, tight turns, cars parked along its arms.

    Half of them have lights, many little paint. Others turn there too.
    """
    lanes, across = min(lanes, 2), int(rng.integers(1, 3))
    west = BEHIND + rng.uniform(40.0, 80.0)
    sideways = max(120.0, (length - west) / 2)
    turn = int(rng.integers(-1, 2))
    spare = [arm for arm in (0, 1, 3) if arm != _TURN_ARM[turn]]
    missing = int(rng.choice(spare)) if rng.random() < 0.4 else None
    parking = rng.random() < 0.7
    width, radius = rng.uniform(2.9, 4.2), rng.uniform(7.0, 13.0)
    crossing = Crossing(
        lanes=(lanes, across, lanes, across),
        reach=(max(length - west, 90.0), sideways, west, sideways),
        width=width,
        shoulder=rng.uniform(*PARKING) if parking else rng.uniform(0.3, 0.8),
        radius=radius,
        # As long as a lateral jerk of 1.5 m/s^3 asks for at the speed of the arc.
        clothoid=max(7.0, COMFORT**1.5 * radius**0.5 / 1.5),
        crosswalk=(1.5, 4.5),
        stop=6.0,
        missing=missing,
    )
    mine = {-1: lanes - 1, 0: int(rng.integers(lanes)), 1: 0}[turn]
    arms = {
        f"{name}_{arm}": (arm, bend)
        for name, bend, to in (("right", crossing.right_turn, 1), ("left", crossing.left_turn, 3))
        for arm in crossing.arms
        if (arm + to) % 4 in crossing.arms
    }
    drawn = Drawn.of(
        crossing,
        _route(crossing, turn, mine),
        turns={name: bend(arm) for name, (arm, bend) in arms.items()},
        crosswalks=rng.random() < 0.6,
        strips=strips_of(crossing) if parking else [],
    ).settled(rng)
    route, through = drawn.route, drawn.through
    turns = {name: (arms[name][0], curve) for name, curve in drawn.turns.items()}

    limit = rng.uniform(8.0, 14.0)
    features = [lane(f"lane_{arm}_{i}", curve, crossing.width, limit) for (arm, i), curve in through.items()]
    features += [
        lane(name, curve, crossing.width, lane_limit(0.95, curve)) for name, (_, curve) in turns.items()
    ]
    features += _outline(crossing, drawn.kerbs)
    features = worn(rng, [*features, *_painted(drawn.lines)]) + _walks(drawn.walks)

    stops = _stops(crossing)
    speed = min(limit * rng.uniform(0.8, 1.0), (route.length - BEHIND - 15.0) / times[-1])
    ways = [(f"lane_{arm}_{i}", arm, curve) for (arm, i), curve in through.items()]
    ways += [(name, arm, curve) for name, (arm, curve) in turns.items()]
    if lit := rng.random() < 0.5:
        arc, _ = route.travel(BEHIND, speed, times)
        arrival = float(np.interp(stops[_EGO_ARM] - _NOSE, arc, times))
        states = _states(rng, times, arrival, protected=turn > 0)
        signals = _signals({(name, arm): curve for name, arm, curve in ways}, stops, states)
    else:
        signals = no_signals(times)
    return Layout(
        features=tuple(features),
        route=route,
        route_offsets=(0.0,) if turn else tuple((mine - i) * crossing.width for i in reversed(range(lanes))),
        width=crossing.width,
        speed=speed,
        lanes=tuple(
            TrafficLane(
                curve,
                limit,
                stop=stops[arm] if lit else None,
                light=row,
                turn=stops[arm] if name in turns else None,
            )
            for row, (name, arm, curve) in enumerate(ways)
        ),
        section=None,
        walkways=_walkways(crossing, drawn.kerbs),
        signals=signals,
        town=True,
        strips=tuple(drawn.strips),
        crossings=tuple(_over(walk) for walk in drawn.walks),
        cycleways=tuple(
            curve.beside(BICYCLE - crossing.width / 2)
            for (arm, i), curve in through.items()
            if i == crossing.lanes[arm] - 1
        ),
    )


def _route(crossing: Crossing, turn: int, index: int) -> Curve:
    """The ego's way from lane `index` of its arm."""
    if not turn:
        return crossing.inbound(_EGO_ARM, index)
    to = _TURN_ARM[turn]
    out = 0 if turn > 0 else crossing.lanes[to] - 1
    return crossing.turn(_EGO_ARM, index, to, out, float(turn))


def _stops(crossing: Crossing) -> dict[int, float]:
    """Stop line of each arm as a distance along its lanes [m]."""
    return {arm: crossing.reach[arm] - crossing.beyond(arm, crossing.stop) for arm in range(4)}


def _signals(
    entries: dict[tuple[str, int], Curve], stops: dict[int, float], states: list[Int[ndarray, "time"]]
) -> Signals:
    """The light of every lane, by its name and its arm."""
    points = np.array([curve.at(np.array([stops[arm]]))[0][0] for (_, arm), curve in entries.items()])
    return Signals(
        lane=tuple(name for name, _ in entries),
        stop_point=np.concatenate([points, np.zeros((len(points), 1))], axis=1),
        heading=(np.array([curve.heading[0] for curve in entries.values()]) + np.pi) % (2 * np.pi) - np.pi,
        state=np.stack([states[arm] for _, arm in entries]),
    )


def _painted(lines: dict[tuple[str, MapKind], Curve]) -> list[MapFeature]:
    return [
        feature(name, kind, curve.points if kind is MapKind.STOP_LINE else curve.thinned(THIN))
        for (name, kind), curve in lines.items()
    ]


def _walks(walks: list[Curve]) -> list[MapFeature]:
    return [feature(f"crosswalk_{i}", MapKind.CROSSWALK, walk.points) for i, walk in enumerate(walks)]


def _walkways(crossing: Crossing, kerbs: list[Curve]) -> tuple[Curve, ...]:
    return tuple(kerb.beside(-crossing.width / 2 - crossing.shoulder - VERGE) for kerb in kerbs)


def _over(walk: Curve) -> Curve:
    """The way over a crosswalk, from where people wait on its right to where they wait on its left."""
    right, left = walk.points[:2].mean(0), walk.points[2:].mean(0)
    beyond = VERGE * (left - right) / np.linalg.norm(left - right)
    return Curve.straight(right - beyond, left + beyond)


def _outline(crossing: Crossing, kerbs: list[Curve]) -> list[MapFeature]:
    """Outer lines, edges and the pavement."""
    half = crossing.width / 2
    features = []
    for i, kerb in enumerate(kerbs):
        line = kerb.beside(-half).thinned(THIN)
        features.append(feature(f"line_{i}", MapKind.LINE_SOLID_WHITE, line))
        edge = kerb.beside(-half - crossing.shoulder).thinned(THIN)
        features.append(feature(f"edge_{i}", MapKind.ROAD_EDGE, edge))
    outline = np.concatenate([kerb.beside(-half - crossing.shoulder).thinned(THIN) for kerb in kerbs])
    features.append(feature("pavement", MapKind.DRIVABLE_AREA, outline))
    return features


def _states(
    rng: np.random.Generator, times: Float[ndarray, "time"], arrival: float, *, protected: bool
) -> list[Int[ndarray, "time"]]:
    """Light of each arm: one group of arms at a time, and the ego's is green when it arrives.

    Args:
        rng: Draws the durations.
        times: [s].
        arrival: When the ego reaches its stop line [s].
        protected: Whether the ego's arm goes alone, as a left turn must.
    """
    groups = [(2,), (1, 3), (0,)] if protected else [(0, 2), (1, 3)]
    greens = rng.uniform(9.0, 15.0, len(groups))
    begins = np.concatenate([[0.0], np.cumsum(greens + _CAUTION + _ALL_RED)])
    phase = (times - arrival + rng.uniform(3.0, greens[0] - 3.0)) % begins[-1]
    states = [np.full(len(times), int(SignalState.STOP)) for _ in range(4)]
    for arms, begin, green in zip(groups, begins[:-1], greens, strict=True):
        since = phase - begin
        for arm in arms:
            states[arm][(since >= 0.0) & (since < green)] = SignalState.GO
            states[arm][(since >= green) & (since < green + _CAUTION)] = SignalState.CAUTION
    return states
