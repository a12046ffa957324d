"""The curves of a crossing of two roads: lanes, turns, kerbs, paint and crosswalks, built about its centre.

The ego's road lies along x, the crossing road along y, both two-way with the same lane width. Arm i points east,
north, west, south for i = 0 to 3. Every kerb is the parallel of the right turn from the outer lane of one arm to that
of the next, so that whoever follows the lane stays on the pavement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.scenarios.procedural.curves import Curve, Profile, integrate
from countersteer.scenarios.procedural.layouts import STEP, settled
from countersteer.scenarios.procedural.sections import PARKED
from countersteer.scenarios.scenario import MapKind

__all__ = ["Crossing", "Drawn", "strips_of"]


@dataclass(frozen=True)
class Crossing:
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
class Drawn:
    """Every curve of a crossing.

    Attributes:
        route: The ego's way.
        through: Lanes that go straight on, by arm and place from the middle.
        turns: Lanes that turn, by name.
        kerbs: See `Crossing.kerbs`.
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
        crossing: Crossing,
        route: Curve,
        *,
        turns: dict[str, Curve] | None = None,
        crosswalks: bool = True,
        strips: Sequence[Curve] = (),
    ) -> Drawn:
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

    def settled(self, rng: np.random.Generator) -> Drawn:
        """All of them moved together, to where the ego's start is the origin."""
        curves = [*self.through.values(), *self.turns.values(), *self.kerbs]
        curves += [*self.lines.values(), *self.walks, *self.strips]
        moved = iter(settled(rng, self.route, *curves))
        return Drawn(
            route=next(moved),
            through={name: next(moved) for name in self.through},
            turns={name: next(moved) for name in self.turns},
            kerbs=[next(moved) for _ in self.kerbs],
            lines={name: next(moved) for name in self.lines},
            walks=[next(moved) for _ in self.walks],
            strips=[next(moved) for _ in self.strips],
        )


def strips_of(crossing: Crossing) -> list[Curve]:
    """Where cars are parked: both sides of every arm, away from its mouth."""
    strips = []
    for arm in crossing.arms:
        side = crossing.half(arm) - PARKED
        near, far = crossing.beyond(arm, crossing.stop + crossing.radius), crossing.reach[arm] - 5.0
        strips += [_line(arm, (far, side), (near, side)), _line(arm, (near, -side), (far, -side))]
    return strips


def _paint(crossing: Crossing, arm: int) -> dict[tuple[str, MapKind], Curve]:
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


def _crosswalks(crossing: Crossing, kerbs: list[Curve]) -> list[Curve]:
    """Of every arm; its own kerb is on its left as one looks outward, the one before on its right."""
    return [_crosswalk(crossing, arm, kerbs[k], kerbs[k - 1]) for k, arm in enumerate(crossing.arms)]


def _crosswalk(crossing: Crossing, arm: int, left: Curve, right: Curve) -> Curve:
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
