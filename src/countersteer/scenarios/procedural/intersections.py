"""A four-way intersection with traffic lights.

Built about its centre: the ego's road along x, the crossing road along y, both two-way with the same
lane width. Arm i points east, north, west, south for i = 0 to 3; the ego comes in on the west arm.
Every kerb is the parallel of the right turn from the outer lane of one arm to that of the next, so
that whoever follows the lane stays on the pavement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from countersteer.scenarios.procedural.curves import Curve, Profile, integrate
from countersteer.scenarios.procedural.layouts import BEHIND, STEP, Layout, free_speed, lane_limit, settled
from countersteer.scenarios.procedural.sections import THIN, feature, lane
from countersteer.scenarios.procedural.traffic import EGO_SIZE, TrafficLane
from countersteer.scenarios.scenario import MapFeature, MapKind, Signals, SignalState

__all__ = ["intersection"]

_TURN_RADIUS = 15.0  # 6 m/s at 2.4 m/s^2 [m]
_EGO_ARM = 2
_TURN_ARM = {-1: 3, 0: 0, 1: 1}  # arm by which the ego leaves, by turn: right, straight on, left
_CROSSWALK = (6.0, 9.0)  # beyond the edge of the crossing road [m]
_STOP = 10.5  # the same for the stop line
_CAUTION, _ALL_RED = 3.0, 1.5  # [s]


@dataclass(frozen=True)
class _Crossing:
    """Sizes of an intersection.

    Attributes:
        lanes: Lanes per direction of each arm.
        reach: Length of each arm from the centre [m].
        width: Lane width [m].
        shoulder: [m].
    """

    lanes: tuple[int, int, int, int]
    reach: tuple[float, float, float, float]
    width: float
    shoulder: float

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
        bend = Profile().bend(side / _TURN_RADIUS, math.pi / 2)
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
    if turn:
        out = 0 if turn > 0 else across - 1
        route = crossing.turn(_EGO_ARM, mine, _TURN_ARM[turn], out, float(turn))
    else:
        route = crossing.inbound(_EGO_ARM, mine)

    through = {(arm, i): crossing.inbound(arm, i) for arm in range(4) for i in range(crossing.lanes[arm])}
    kerbs = [
        crossing.turn(arm, crossing.lanes[arm] - 1, (arm + 1) % 4, crossing.lanes[(arm + 1) % 4] - 1, -1.0)
        for arm in range(4)
    ]
    lines = {name: curve for arm in range(4) for name, curve in _paint(crossing, arm).items()}
    walks = [_crosswalk(crossing, arm, kerbs) for arm in range(4)]

    # Everything moves together to where the ego's start is the origin.
    curves = [route, *through.values(), *kerbs, *lines.values(), *walks]
    moved = iter(settled(rng, *curves))
    route = next(moved)
    through = dict(zip(through, moved, strict=False))
    kerbs = [next(moved) for _ in kerbs]
    lines = dict(zip(lines, moved, strict=False))
    walks = [next(moved) for _ in walks]

    share = rng.uniform(0.5, 0.8)
    limit = min(lane_limit(share, *through.values()), 17.0)
    mine_limit = lane_limit(0.95, route) if turn else limit
    speed = free_speed(rng, mine_limit, route, times[-1])
    features = [
        lane(f"lane_{arm}_{i}", curve, crossing.width, limit) for (arm, i), curve in through.items()
    ] + ([lane("turn", route, crossing.width, mine_limit)] if turn else [])
    features += _outline(crossing, kerbs)
    features += [
        feature(name, kind, curve.points if kind is MapKind.STOP_LINE else curve.thinned(THIN))
        for (name, kind), curve in lines.items()
    ]
    features += [feature(f"crosswalk_{i}", MapKind.CROSSWALK, walk.points) for i, walk in enumerate(walks)]

    stops = {arm: crossing.reach[arm] - crossing.beyond(arm, _STOP) for arm in range(4)}
    nose = EGO_SIZE[0] * 0.72
    arrival = (stops[_EGO_ARM] - BEHIND - nose) / speed
    states = _states(rng, times, arrival, protected=turn > 0)
    stop_points = np.array([curve.at(np.array([stops[arm]]))[0][0] for (arm, _), curve in through.items()])
    signals = Signals(
        lane=tuple(f"lane_{arm}_{i}" for arm, i in through),
        stop_point=np.concatenate([stop_points, np.zeros((len(through), 1))], axis=1),
        heading=(np.array([curve.heading[0] for curve in through.values()]) + np.pi) % (2 * np.pi) - np.pi,
        state=np.stack([states[arm] for arm, _ in through]),
    )
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
        walkways=tuple(kerb.beside(-crossing.width / 2 - crossing.shoulder - 1.2) for kerb in kerbs),
        signals=signals,
    )


def _paint(crossing: _Crossing, arm: int) -> dict[tuple[str, MapKind], Curve]:
    """Middle line, lane separators and stop line of one arm."""
    stop, end, count = crossing.beyond(arm, _STOP), crossing.reach[arm], crossing.lanes[arm]
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


def _crosswalk(crossing: _Crossing, arm: int, kerbs: list[Curve]) -> Curve:
    """Corners of the crossing for pedestrians over one arm, from kerb to kerb."""
    edge = crossing.width / 2 + crossing.shoulder

    def kerb(at: float, curve: Curve, sign: float) -> float:
        points = curve.beside(-edge).points @ np.stack(
            [_place(arm, (1.0, 0.0)), _place(arm, (0.0, 1.0))], axis=1
        )
        # Along the arm the distance of the kerb from the axis shrinks steadily to the straight part.
        order = np.argsort(points[:, 0])
        return float(np.interp(at, points[order, 0], points[order, 1])) - sign * 0.2

    near, far = (crossing.beyond(arm, at) for at in _CROSSWALK)
    left, right = kerbs[arm], kerbs[arm - 1]
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
