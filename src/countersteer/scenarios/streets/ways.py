"""Ways through a street network: which lanes follow one another, and the curve that a car drives along them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.geometry.polylines import arc_length, curvatures, distinct, headings, resample
from countersteer.scenarios.network import Lane, RoadNetwork, Turn
from countersteer.scenarios.procedural.curves import COMFORT, Curve

__all__ = ["Passage", "Streets", "Way"]

_STEP = 0.5  # between samples of a way [m]
_BLUR = 2.0  # standard deviation of the smoothing of its corners [m]
_BEND = 0.15  # where it still bends more, it is blurred again [1/m]
_AGAIN = 16  # so many times at most
_TIGHTEST = 0.24  # a lane that bends more even so is no way for a car [1/m]
_BRAKE = 1.5  # before a bend [m/s^2]
_AROUND = 0.05  # how much less likely a turn back is than another
_FASTEST = 35.0  # where a map states no limit between junctions [m/s]
_UNSTATED = 13.9


@dataclass(frozen=True)
class Passage:
    """A lane of a way, from one arc length along it to another [m]."""

    lane: Lane
    begin: float
    end: float


@dataclass(frozen=True)
class Way:
    """What one car drives along.

    Attributes:
        curve: Centre of its lanes, with corners rounded.
        passages: The lanes in order.
        speed: Fastest at each sample of the curve [m/s]: limits, bends within `COMFORT`, and braking before them.
    """

    curve: Curve
    passages: tuple[Passage, ...]
    speed: Float[ndarray, "n"]

    def at(self, s: float) -> float:
        """Fastest speed at an arc length [m/s]."""
        return float(np.interp(s, self.curve.s, self.speed))

    @property
    def tight(self) -> bool:
        """Whether it bends more than a car can somewhere."""
        return bool(np.abs(self.curve.curvature).max() > _TIGHTEST)

    @cached_property
    def entries(self) -> tuple[Passage, ...]:
        """Its lanes that begin a way through a junction, where a car may have to wait."""
        return tuple(
            here
            for before, here in zip((None, *self.passages), self.passages, strict=False)
            if here.lane.junction is not None
            and (before is None or before.lane.junction is None or here.lane.yields_to or here.lane.signal)
        )


class Streets:
    """A street network, made ready to cut drives from it.

    Args:
        network: The network.
        usable: Which lanes ways may lead along, by id; None for all.
    """

    def __init__(self, network: RoadNetwork, usable: Callable[[str], bool] | None = None) -> None:
        self.network = network
        self.lanes = network.lanes
        self._usable = usable or (lambda _: True)
        self.before: dict[str, list[str]] = defaultdict(list)
        for key, lane in self.lanes.items():
            for after in lane.successors:
                self.before[after].append(key)
        self.names = tuple(self.lanes)
        self._tight: dict[tuple[str, str], bool] = {}
        self.boxes = np.array(
            [(*lane.centre[:, :2].min(0), *lane.centre[:, :2].max(0)) for lane in self.lanes.values()]
        )

    @cached_property
    def roads(self) -> tuple[list[str], Float[ndarray, "n"]]:
        """Usable lanes between junctions, and their share of the length: where drives begin."""
        names = [
            key
            for key, lane in self.lanes.items()
            if lane.junction is None and lane.successors and self._usable(key) and lane.length > 4.0
        ] or [key for key in self.lanes if self._usable(key)]
        lengths = np.array([self.lanes[key].length for key in names])
        return names, lengths / max(lengths.sum(), 1e-9)

    def near(self, points: Float[ndarray, "n 2"], radius: float) -> list[str]:
        """Lanes of which some part may lie within a radius of one of the points [m]."""
        low, high = points.min(0) - radius, points.max(0) + radius
        inside = (self.boxes[:, :2] <= high).all(1) & (self.boxes[:, 2:] >= low).all(1)
        found = []
        thin = points[:: max(len(points) // 200, 1)]
        for k in np.flatnonzero(inside):
            line = resample(self.lanes[self.names[k]].centre[:, :2], 10.0)
            if np.linalg.norm(line[:, None] - thin, axis=-1).min() < radius + 5.0:
                found.append(self.names[k])
        return found

    def draw(self, rng: np.random.Generator, start: str, length: float) -> list[str]:
        """Lanes from `start` on, at each fork one at random, until they are `length` [m] long or lead nowhere."""
        names, done = [start], self.lanes[start].length
        while done < length and len(names) < 500:
            ways = [
                key
                for key in self.lanes[names[-1]].successors
                if self._usable(key) and self._drivable(names[-1], key)
            ]
            if not ways:
                break
            odds = np.array([_AROUND if self.lanes[key].turn is Turn.AROUND else 1.0 for key in ways])
            odds[[key in names for key in ways]] *= 0.3  # rather new streets than the same round
            names.append(ways[int(rng.choice(len(ways), p=odds / odds.sum()))])
            done += self.lanes[names[-1]].length
        return names

    def _drivable(self, before: str, key: str) -> bool:
        """Whether a car can follow a lane, coming from the one before."""
        lane = self.lanes[key]
        if (before, key) not in self._tight:
            lines = [self.lanes[before].centre[:, :2], lane.centre[:, :2]]
            lines += [self.lanes[each].centre[:, :2] for each in lane.successors[:1]]
            line = _joined(lines)
            s, begin = arc_length(line), self.lanes[before].length
            near = (s > begin - 15.0) & (s < begin + lane.length + 15.0)
            bends = np.abs(_rounded(line[near]).curvature) if near.sum() > 1 else np.zeros(1)
            self._tight[before, key] = bool(bends.max() > _TIGHTEST)
        return not self._tight[before, key]

    def way(self, names: Sequence[str], begin: float = 0.0, keenness: float = 1.0) -> Way:
        """The way along some lanes that follow one another.

        Args:
            names: Of the lanes.
            begin: Where along the first one it begins [m].
            keenness: Share of the limits that the driver drives.
        """
        lines = [self.lanes[name].centre[:, :2] for name in names]
        reach = np.concatenate([[0.0], np.cumsum([self.lanes[name].length for name in names])])
        whole = _joined(lines)
        s = arc_length(whole)
        # Ends may lie a little apart, so that the whole is longer than its parts.
        reach = np.interp(reach, [0.0, reach[-1]], [0.0, s[-1]]) - begin
        kept = np.concatenate([[np.interp(begin, s, whole[:, k]) for k in range(2)], *whole[s > begin + 0.1]])
        curve = _rounded(kept.reshape(-1, 2))
        scale = curve.length / max(reach[-1], 1e-9)
        passages = tuple(
            Passage(self.lanes[name], float(a * scale), float(b * scale))
            for name, a, b in zip(names, reach[:-1], reach[1:], strict=True)
        )
        return Way(curve, passages, _speed(curve, passages, keenness))

    def crossing_over(self, names: Sequence[str], others: Sequence[str]) -> set[str]:
        """Which of the other lanes cross one of a way outside junctions: they lie on another level, or the map is wrong."""
        found = set()
        mine = [self.lanes[name] for name in names if self.lanes[name].junction is None]
        for key in others:
            other = self.lanes[key]
            if other.junction is None and key not in names and any(_cross(lane, other) for lane in mine):
                found.add(key)
        return found


def _cross(one: Lane, other: Lane) -> bool:
    """Whether two lanes cross at more than 20 degrees, away from where either begins or ends."""
    a, b = one.centre[:, :2], other.centre[:, :2]
    if (a.min(0) > b.max(0)).any() or (b.min(0) > a.max(0)).any():
        return False
    p, r = a[:-1, None], np.diff(a, axis=0)[:, None]
    q, s = b[None, :-1], np.diff(b, axis=0)[None]
    turn = _cross2(r, s)
    size = np.linalg.norm(r, axis=-1) * np.linalg.norm(s, axis=-1)
    steep = np.abs(turn) > 0.34 * size
    with np.errstate(divide="ignore", invalid="ignore"):
        t, u = _cross2(q - p, s) / turn, _cross2(q - p, r) / turn
    meets = steep & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
    if not meets.any():
        return False
    i, j = (int(index[0]) for index in np.nonzero(meets))
    at = a[i] + t[i, j] * (a[i + 1] - a[i])
    ends = np.stack([a[0], a[-1], b[0], b[-1]])
    return bool(np.linalg.norm(ends - at, axis=1).min() > 6.0)


def _cross2(a: ndarray, b: ndarray) -> ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _joined(lines: Sequence[Float[ndarray, "_ 2"]]) -> Float[ndarray, "n 2"]:
    """Lines one after another; where one begins a little behind the end of the one before, nobody turns back to it."""
    whole = distinct(lines[0])
    for line in lines[1:]:
        course = whole[-1] - whole[-2]
        behind = ((line - whole[-1]) @ course <= 0.0) & (np.linalg.norm(line - whole[-1], axis=1) < 3.0)
        first = int(behind.argmin()) if not behind.all() else len(line) - 1
        whole = distinct(np.concatenate([whole, line[first:]]))
    return whole


def _rounded(points: Float[ndarray, "n 2"]) -> Curve:
    """The line at equal spacing, blurred, so that a car can follow its corners; its ends stay."""
    raw = resample(points, _STEP) if len(points) > 1 else np.repeat(points, 2, 0)
    line = _blurred(raw, _BLUR)
    for _ in range(_AGAIN):
        tight = np.abs(curvatures(line)) > _BEND
        if not tight.any():
            break
        # Small steps, wider than the bend, so that what is blurred joins the rest without a kink.
        share = np.clip(2.0 * _blurred(tight[:, None].astype(float), 3.0), 0.0, 1.0)
        line = (1.0 - share) * line + share * _blurred(line, 1.0)
    return Curve(line, headings(line), curvatures(line))


def _blurred(line: Float[ndarray, "n d"], sigma: float) -> Float[ndarray, "n d"]:
    reach = min(round(3 * sigma / _STEP), len(line) - 1)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _STEP / sigma) ** 2)
    taps /= taps.sum()
    padded = np.concatenate([2 * line[0] - line[reach:0:-1], line, 2 * line[-1] - line[-2 : -reach - 2 : -1]])
    return np.stack([np.convolve(padded[:, k], taps, "valid") for k in range(line.shape[1])], axis=1)


def _speed(curve: Curve, passages: Sequence[Passage], keenness: float) -> Float[ndarray, "n"]:
    s = curve.s
    limits = np.full(len(s), _FASTEST)
    last = _UNSTATED
    for passage in passages:
        lane = passage.lane
        # A way through a junction without a limit has that of the lane before.
        last = lane.speed_limit or (last if lane.junction is not None else _UNSTATED)
        inside = (s >= passage.begin) & (s <= passage.end)
        limits[inside] = np.minimum(limits[inside], last * keenness)
    allowed = np.minimum(limits**2, COMFORT / np.maximum(np.abs(curve.curvature), 1e-9))
    way = 2.0 * _BRAKE * s
    return np.sqrt(np.minimum.accumulate((allowed + way)[::-1])[::-1] - way)
