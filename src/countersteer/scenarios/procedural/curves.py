"""Plane curves made from their curvature: straights and arcs joined by clothoids.

A car turns its steering wheel at a limited rate, so a road that it can follow has continuous
curvature with a limited slope. Each bend is built as surveyors build it: curvature rises linearly
with distance (a clothoid), stays (an arc), and falls linearly again. The clothoid's length follows
from a bound on lateral jerk at the speed that the arc allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.geometry.polylines import arc_length

__all__ = ["COMFORT", "SPEED_RANGE", "Curve", "Profile", "bend_speed", "integrate"]

COMFORT = 2.5  # lateral acceleration a lane may demand at its limit [m/s^2]
SPEED_RANGE = (6.0, 30.0)  # limits of generated lanes [m/s]
_JERK = 1.0  # lateral jerk in a clothoid at the speed its arc allows [m/s^3]
_SHORTEST_CLOTHOID = 12.0  # [m]
_BRAKE = 1.5  # before a bend and after it [m/s^2]


@dataclass(frozen=True)
class Curve:
    """A directed curve sampled finely enough to interpolate.

    Attributes:
        points: [m].
        heading: Direction at each point, unwrapped [rad].
        curvature: At each point [1/m], positive to the left.
    """

    points: Float[ndarray, "n 2"]
    heading: Float[ndarray, "n"]
    curvature: Float[ndarray, "n"]

    @cached_property
    def s(self) -> Float[ndarray, "n"]:
        """Arc length at each point [m], from 0."""
        return arc_length(self.points)

    @property
    def length(self) -> float:
        """[m]."""
        return float(self.s[-1])

    def at(self, s: Float[ndarray, "q"]) -> tuple[Float[ndarray, "q 2"], Float[ndarray, "q"]]:
        """Points and headings at arc lengths `s` [m]; the curve ends where it ends."""
        points = np.stack([np.interp(s, self.s, self.points[:, k]) for k in range(2)], axis=1)
        return points, np.interp(s, self.s, self.heading)

    def beside(self, left: float | Float[ndarray, "n"]) -> Curve:
        """The parallel curve `left` [m] to the left.

        Inside a bend it goes at most 4/5 of the way to the bend's centre, where it would fold back.
        """
        room = 0.8 / np.maximum(np.abs(self.curvature), 1e-9)
        left = np.where(self.curvature * left > 0.8, np.sign(left) * room, left)
        normal = np.stack([-np.sin(self.heading), np.cos(self.heading)], axis=1)
        points = self.points + left[:, None] * normal
        return Curve(points, self.heading, self.curvature / (1.0 - self.curvature * left))

    def reversed(self) -> Curve:
        """The same curve driven the other way."""
        return Curve(self.points[::-1], self.heading[::-1] + math.pi, -self.curvature[::-1])

    def placed(self, origin: Float[ndarray, 2], heading: float) -> Curve:
        """The curve turned by `heading` [rad] about (0, 0), then moved by `origin` [m]."""
        cos, sin = math.cos(heading), math.sin(heading)
        points = self.points @ np.array([[cos, sin], [-sin, cos]]) + origin
        return Curve(points, self.heading + heading, self.curvature)

    @classmethod
    def straight(cls, start: Float[ndarray, 2], end: Float[ndarray, 2]) -> Curve:
        """The line from one point to another."""
        heading = math.atan2(end[1] - start[1], end[0] - start[0])
        return cls(np.stack([start, end]), np.full(2, heading), np.zeros(2))

    def between(self, start: float, end: float) -> Curve:
        """The samples from one arc length to another [m]; at least two of them."""
        first, last = np.searchsorted(self.s, (start, end))
        first = min(int(first), len(self.s) - 2)
        kept = slice(first, max(int(last), first + 2))
        return Curve(self.points[kept], self.heading[kept], self.curvature[kept])

    def travel(
        self, start: float, cruise: float, times: Float[ndarray, "time"]
    ) -> tuple[Float[ndarray, "time"], Float[ndarray, "time"]]:
        """Arc length [m] and speed [m/s] of who drives along at `cruise`, slower where a bend asks for it.

        Bends are taken within `COMFORT`; before and after them the speed changes by `_BRAKE`. Beyond its end the
        curve is taken to go straight on.
        """
        allowed = COMFORT / np.maximum(np.abs(self.curvature), 1e-9)
        if cruise**2 <= allowed.min() * 1.05:
            return start + cruise * times, np.full(len(times), cruise)
        way = 2.0 * _BRAKE * self.s
        before = np.minimum.accumulate((allowed + way)[::-1])[::-1] - way
        after = np.minimum.accumulate(allowed - way) + way
        speed = np.sqrt(np.minimum(np.minimum(before, after), cruise**2))
        passed = np.concatenate([[0.0], np.cumsum(2.0 * np.diff(self.s) / (speed[1:] + speed[:-1]))])
        at = np.interp(start, self.s, passed) + times
        beyond = np.maximum(at - passed[-1], 0.0) * speed[-1]
        s = np.interp(at, passed, self.s) + beyond
        return s, np.interp(s, self.s, speed)

    def thinned(self, every: int) -> Float[ndarray, "m 2"]:
        """Every so many points, and the last."""
        kept = np.arange(0, len(self.points), every)
        if kept[-1] != len(self.points) - 1:
            kept = np.append(kept, len(self.points) - 1)
        return self.points[kept]


def integrate(curvature: Float[ndarray, "n"], step: float) -> Curve:
    """The curve with this curvature [1/m] every `step` [m], from (0, 0) along +x.

    Positions use the heading half-way between samples: error O(step^2 curvature^2) of the length.
    """
    turned = np.concatenate([[0.0], np.cumsum((curvature[1:] + curvature[:-1]) * (step / 2))])
    middle = (turned[1:] + turned[:-1]) / 2
    steps = np.stack([np.cos(middle), np.sin(middle)], axis=1) * step
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    return Curve(points, turned, curvature)


def bend_speed(curvature: float) -> float:
    """Fastest speed [m/s] at which a bend stays within `COMFORT`, at most the top of `SPEED_RANGE`."""
    return min(SPEED_RANGE[1], math.sqrt(COMFORT / max(abs(curvature), 1e-9)))


class Profile:
    """Curvature over distance, put together piece by piece from 0.

    Attributes:
        s: Length so far [m].
        heading: Angle turned so far [rad].
    """

    def __init__(self) -> None:
        self.s, self.heading = 0.0, 0.0
        self._knots: list[tuple[float, float]] = [(0.0, 0.0)]

    @staticmethod
    def clothoid(curvature: float) -> float:
        """Length of the transition into an arc of this curvature [m]."""
        speed = bend_speed(curvature)
        return max(_SHORTEST_CLOTHOID, speed**3 * abs(curvature) / _JERK)

    def straight(self, length: float) -> Profile:
        """Go straight on for `length` [m]."""
        return self._to(length, 0.0)

    def bend(self, curvature: float, angle: float, clothoid: float | None = None) -> Profile:
        """Clothoid, arc, clothoid; turns by `angle` [rad, positive] or what the clothoids need, if more.

        A clothoid has the length that comfort asks for, or the one that is given [m].
        """
        clothoid = self.clothoid(curvature) if clothoid is None else clothoid
        arc = max(angle / abs(curvature) - clothoid, 0.0)
        self.heading += curvature * (arc + clothoid)
        return self._to(clothoid, curvature)._to(arc, curvature)._to(clothoid, 0.0)

    def sampled(self, length: float, step: float) -> Float[ndarray, "n"]:
        """Curvature every `step` from 0 to `length` [m]; straight beyond the last piece."""
        s, curvature = np.array(self._knots).T
        return np.interp(np.arange(round(length / step) + 1) * step, s, curvature)

    def _to(self, length: float, curvature: float) -> Profile:
        self.s += length
        self._knots.append((self.s, curvature))
        return self
