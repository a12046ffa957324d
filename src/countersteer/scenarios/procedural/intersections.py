"""Crossings of two roads: a four-way intersection with traffic lights, and junctions as towns have them.

Built about its centre: the ego's road along x, the crossing road along y, both two-way with the same
lane width. Arm i points east, north, west, south for i = 0 to 3; the ego comes in on the west arm.
Every kerb is the parallel of the right turn from the outer lane of one arm to that of the next, so
that whoever follows the lane stays on the pavement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from countersteer.scenarios.procedural.curves import COMFORT, Curve, Profile, integrate
from countersteer.scenarios.procedural.layouts import (
    BEHIND,
    BICYCLE,
    STEP,
    VERGE,
    Layout,
    free_speed,
    lane_limit,
    no_signals,
    settled,
)
from countersteer.scenarios.procedural.sections import PARKED, PARKING, THIN, feature, lane, worn
from countersteer.scenarios.procedural.traffic import EGO_SIZE, TrafficLane
from countersteer.scenarios.scenario import MapFeature, MapKind, Signals, SignalState

__all__ = ["intersection", "junction"]

_EGO_ARM = 2
_TURN_ARM = {-1: 3, 0: 0, 1: 1}  # arm by which the ego leaves, by turn: right, straight on, left
_NOSE = EGO_SIZE[0] * 0.72  # of the ego before its rear axle [m]
_CAUTION, _ALL_RED = 3.0, 1.5  # [s]


@dataclass(frozen=True)
class _Crossing:
    """Sizes of an intersection.

    Attributes:
        lanes: Lanes per direction of each arm.
        reach: Length of each arm from the centre [m].
        width: Lane width [m].
        shoulder: [m].
        radius: Of the arc of a turn [m].
        clothoid: Length of the way into it and out of it [m]; None for what comfort asks for.
        crosswalk: Where crosswalks begin and end beyond the edge of the crossing road [m].
        stop: The same for stop lines [m].
        missing: Arm that is not there, so that three are left, or None.
    """

    lanes: tuple[int, int, int, int]
    reach: tuple[float, float, float, float]
    width: float
    shoulder: float
    radius: float = 15.0  # 6 m/s at 2.4 m/s^2
    clothoid: float | None = None
    crosswalk: tuple[float, float] = (6.0, 9.0)
    stop: float = 10.5
    missing: int | None = None

    @property
    def arms(self) -> tuple[int, ...]:
        """The arms that are there, counter-clockwise."""
        return tuple(arm for arm in range(4) if arm != self.missing)

    def half(self, arm: int) -> float:
        """Half of the pavement of an arm [m]."""
        return self.lanes[arm % 4] * self.width + self.shoulder

    def beyond(self, arm: int, distance: float) -> float:
        """Distance from the centre of a point so far beyond the crossing road's edge [m]."""
        return self.half(arm + 1) + distance

    def inbound(self, arm: int, index: int) -> Curve:
        """Lane `index` from the middle, in by an arm and straight on to the end of the opposite one."""
        left = (index + 0.5) * self.width
        return _line(arm, (self.reach[arm], left), (-self.reach[(arm + 2) % 4], left))

    def turn(self, arm: int, index: int, to: int, to_index: int, side: float) -> Curve:
        """From an inbound lane by a bend to the left (side 1) or right (-1) to an outbound lane."""
        bend = Profile().bend(side / self.radius, math.pi / 2, self.clothoid)
        count = math.ceil(bend.s / STEP)
        arc = integrate(bend.sampled(bend.s, bend.s / count), bend.s / count)
        tangent = float(arc.points[-1, 0])
        left, out = (index + 0.5) * self.width, (to_index + 0.5) * self.width
        # Where the two lane centres cross, seen along the first arm.
        corner = -side * out
        begin = corner + tangent
        arc = arc.placed(_place(arm, (begin, left)), _direction(arm) + math.pi)
        lead = _line(arm, (self.reach[arm], left), (begin, left))
        tail = _line(to, (tangent - side * left, -out), (self.reach[to], -out))
        return _chain(lead, arc, tail)

    def through(self) -> dict[tuple[int, int], Curve]:
        """The lanes that go straight on, by arm and place from the middle."""
        both = [arm for arm in self.arms if (arm + 2) % 4 in self.arms]
        return {(arm, i): self.inbound(arm, i) for arm in both for i in range(self.lanes[arm])}

    def right_turn(self, arm: int) -> Curve:
        """From the outer lane of an arm to that of the next one."""
        to = (arm + 1) % 4
        return self.turn(arm, self.lanes[arm] - 1, to, self.lanes[to] - 1, -1.0)

    def left_turn(self, arm: int) -> Curve:
        """From the inner lane of an arm to that of the one before."""
        return self.turn(arm, 0, (arm + 3) % 4, 0, 1.0)

    def kerbs(self) -> list[Curve]:
        """Counter-clockwise, for each arm the way along its right kerb to the next arm."""
        return [
            self.right_turn(arm) if (arm + 1) % 4 in self.arms else self.inbound(arm, self.lanes[arm] - 1)
            for arm in self.arms
        ]


def _direction(arm: int) -> float:
    return arm * math.pi / 2


def _place(arm: int, at: tuple[float, float]) -> Float[ndarray, 2]:
    """Intersection frame from an arm's frame: x outward along the arm, y to its left."""
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[arm % 4]
    return np.array([cos * at[0] - sin * at[1], sin * at[0] + cos * at[1]], dtype=float)


def _line(arm: int, start: tuple[float, float], end: tuple[float, float]) -> Curve:
    a, b = _place(arm, start), _place(arm, end)
    count = max(math.ceil(float(np.linalg.norm(b - a)) / STEP), 1) + 1
    points = a + np.linspace(0.0, 1.0, count)[:, None] * (b - a)
    heading = math.atan2(b[1] - a[1], b[0] - a[0])
    return Curve(points, np.full(count, heading), np.zeros(count))


def _chain(*curves: Curve) -> Curve:
    """Curves that continue one another, as one."""
    headings = np.unwrap(np.concatenate([curves[0].heading, *(c.heading[1:] for c in curves[1:])]))
    return Curve(
        np.concatenate([curves[0].points, *(c.points[1:] for c in curves[1:])]),
        headings,
        np.concatenate([curves[0].curvature, *(c.curvature[1:] for c in curves[1:])]),
    )


@dataclass(frozen=True)
class _Drawn:
    """Every curve of a crossing.

    Attributes:
        route: The ego's way.
        through: Lanes that go straight on, by arm and place from the middle.
        turns: Lanes that turn, by name.
        kerbs: See `_Crossing.kerbs`.
        lines: Paint, by name and kind.
        walks: Outlines of crosswalks.
        strips: Where cars are parked.
    """

    route: Curve
    through: dict[tuple[int, int], Curve]
    turns: dict[str, Curve]
    kerbs: list[Curve]
    lines: dict[tuple[str, MapKind], Curve]
    walks: list[Curve]
    strips: list[Curve]

    @classmethod
    def of(
        cls,
        crossing: _Crossing,
        route: Curve,
        *,
        turns: dict[str, Curve] | None = None,
        crosswalks: bool = True,
        strips: Sequence[Curve] = (),
    ) -> _Drawn:
        """The curves that a crossing has, about its centre."""
        kerbs = crossing.kerbs()
        return cls(
            route,
            crossing.through(),
            turns or {},
            kerbs,
            {name: curve for arm in crossing.arms for name, curve in _paint(crossing, arm).items()},
            _crosswalks(crossing, kerbs) if crosswalks else [],
            list(strips),
        )

    def settled(self, rng: np.random.Generator) -> _Drawn:
        """All of them moved together, to where the ego's start is the origin."""
        curves = [*self.through.values(), *self.turns.values(), *self.kerbs]
        curves += [*self.lines.values(), *self.walks, *self.strips]
        moved = iter(settled(rng, self.route, *curves))
        return _Drawn(
            route=next(moved),
            through={name: next(moved) for name in self.through},
            turns={name: next(moved) for name in self.turns},
            kerbs=[next(moved) for _ in self.kerbs],
            lines={name: next(moved) for name in self.lines},
            walks=[next(moved) for _ in self.walks],
            strips=[next(moved) for _ in self.strips],
        )


def intersection(rng: np.random.Generator, lanes: int, length: float, times: ndarray) -> Layout:
    """The ego goes straight on, left or right over an intersection some 70-110 m ahead."""
    across = int(rng.integers(1, 3))
    west = BEHIND + rng.uniform(75.0, 110.0)
    sideways = max(120.0, (length - west) / 2)
    crossing = _Crossing(
        lanes=(lanes, across, lanes, across),
        reach=(max(length - west, 90.0), sideways, west, sideways),
        width=rng.uniform(3.2, 3.8),
        shoulder=rng.uniform(0.4, 1.2),
    )
    turn = int(rng.integers(-1, 2))
    mine = {-1: lanes - 1, 0: int(rng.integers(lanes)), 1: 0}[turn]
    drawn = _Drawn.of(crossing, _route(crossing, turn, mine)).settled(rng)
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
    crossing = _Crossing(
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
    drawn = _Drawn.of(
        crossing,
        _route(crossing, turn, mine),
        turns={name: bend(arm) for name, (arm, bend) in arms.items()},
        crosswalks=rng.random() < 0.6,
        strips=_strips(crossing) if parking else [],
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


def _route(crossing: _Crossing, turn: int, index: int) -> Curve:
    """The ego's way from lane `index` of its arm."""
    if not turn:
        return crossing.inbound(_EGO_ARM, index)
    to = _TURN_ARM[turn]
    out = 0 if turn > 0 else crossing.lanes[to] - 1
    return crossing.turn(_EGO_ARM, index, to, out, float(turn))


def _stops(crossing: _Crossing) -> dict[int, float]:
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


def _walkways(crossing: _Crossing, kerbs: list[Curve]) -> tuple[Curve, ...]:
    return tuple(kerb.beside(-crossing.width / 2 - crossing.shoulder - VERGE) for kerb in kerbs)


def _over(walk: Curve) -> Curve:
    """The way over a crosswalk, from where people wait on its right to where they wait on its left."""
    right, left = walk.points[:2].mean(0), walk.points[2:].mean(0)
    beyond = VERGE * (left - right) / np.linalg.norm(left - right)
    return Curve.straight(right - beyond, left + beyond)


def _strips(crossing: _Crossing) -> list[Curve]:
    """Where cars are parked: both sides of every arm, away from its mouth."""
    strips = []
    for arm in crossing.arms:
        side = crossing.half(arm) - PARKED
        near, far = crossing.beyond(arm, crossing.stop + crossing.radius), crossing.reach[arm] - 5.0
        strips += [_line(arm, (far, side), (near, side)), _line(arm, (near, -side), (far, -side))]
    return strips


def _paint(crossing: _Crossing, arm: int) -> dict[tuple[str, MapKind], Curve]:
    """Middle line, lane separators and stop line of one arm."""
    stop, end, count = crossing.beyond(arm, crossing.stop), crossing.reach[arm], crossing.lanes[arm]
    painted = {
        (f"middle_{arm}_{i}", MapKind.LINE_SOLID_YELLOW): _line(arm, (stop, left), (end, left))
        for i, left in enumerate((-0.13, 0.13))
    }
    for i in range(1, count):
        for name, left in (("in", i * crossing.width), ("out", -i * crossing.width)):
            key = (f"dashed_{name}_{arm}_{i}", MapKind.LINE_DASHED_WHITE)
            painted[key] = _line(arm, (stop, left), (end, left))
    across = _line(arm, (stop, 0.2), (stop, count * crossing.width))
    painted[f"stop_{arm}", MapKind.STOP_LINE] = across
    return painted


def _crosswalks(crossing: _Crossing, kerbs: list[Curve]) -> list[Curve]:
    """Of every arm; its own kerb is on its left as one looks outward, the one before on its right."""
    return [_crosswalk(crossing, arm, kerbs[k], kerbs[k - 1]) for k, arm in enumerate(crossing.arms)]


def _crosswalk(crossing: _Crossing, arm: int, left: Curve, right: Curve) -> Curve:
    """Corners of the crossing for pedestrians over one arm, from kerb to kerb."""
    edge = crossing.width / 2 + crossing.shoulder

    def kerb(at: float, curve: Curve, sign: float) -> float:
        points = curve.beside(-edge).points @ np.stack(
            [_place(arm, (1.0, 0.0)), _place(arm, (0.0, 1.0))], axis=1
        )
        # Along the arm the distance of the kerb from the axis shrinks steadily to the straight part.
        order = np.argsort(points[:, 0])
        return float(np.interp(at, points[order, 0], points[order, 1])) - sign * 0.2

    near, far = (crossing.beyond(arm, at) for at in crossing.crosswalk)
    corners = [
        (near, kerb(near, right, -1.0)),
        (far, kerb(far, right, -1.0)),
        (far, kerb(far, left, 1.0)),
        (near, kerb(near, left, 1.0)),
    ]
    points = np.stack([_place(arm, corner) for corner in corners])
    return Curve(points, np.zeros(4), np.zeros(4))


def _outline(crossing: _Crossing, kerbs: list[Curve]) -> list[MapFeature]:
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
