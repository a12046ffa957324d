"""What is painted on the streets around a drive, and what stands and walks beside them: lines, crossings, places to park."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from countersteer.geometry.polylines import curvatures, distinct, headings, offset, resample
from countersteer.scenarios.network import Lane, Turn
from countersteer.scenarios.procedural.curves import Curve
from countersteer.scenarios.procedural.layouts import BICYCLE, VERGE
from countersteer.scenarios.procedural.sections import PARKED, PARKING, feature
from countersteer.scenarios.scenario import MapFeature, MapKind
from countersteer.scenarios.streets.surface import Ribbon, Surface
from countersteer.scenarios.streets.ways import Streets

__all__ = ["Paved", "paved"]

_STEP = 2.0  # between samples of lanes [m]
_BESIDE = 0.9  # a border lies on another lane's if it is no further than this beyond it [m]
_TOWN = 15.0  # lanes with a higher limit have no parked cars and no crossings [m/s]
_CORNER = 8.0  # no car is parked so near to the end of its lane [m]
_FLARE = 1.0  # pavement beside a way through a junction, where cars swing out [m]
_MEDIAN = 0.4  # and at the inner side of a road [m]
_APART = 0.13  # of a double line from the border [m]
_WIDEST_CROSSING = 26.0  # [m]
_LINES = (
    MapKind.LINE_SOLID_WHITE,
    MapKind.LINE_DASHED_WHITE,
    MapKind.LINE_SOLID_YELLOW,
    MapKind.LINE_DASHED_YELLOW,
)
_AREAS = (MapKind.DRIVABLE_AREA, MapKind.LANE_AREA)


@dataclass(frozen=True)
class _Style:
    """How the streets of one drive look, drawn at random.

    Attributes:
        middle: Line between the directions; None where there is none.
        outer: Whether the outer line is painted.
        parking: Whether cars may be parked at kerbs.
        shoulder: Pavement beyond the outer line of a lane at the kerb [m], in a town and outside.
        crossings: Share of the arms of junctions with a crosswalk, where the map draws none.
    """

    middle: MapKind | None
    outer: bool
    parking: bool
    shoulder: tuple[float, float]
    crossings: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> _Style:
        middle = (MapKind.LINE_SOLID_YELLOW, MapKind.LINE_DASHED_WHITE, MapKind.LINE_SOLID_WHITE, None)
        parking = rng.random() < 0.6
        return cls(
            middle[int(rng.choice(4, p=(0.4, 0.3, 0.15, 0.15)))],
            rng.random() < 0.6,
            parking,
            (rng.uniform(*PARKING) if parking else rng.uniform(0.4, 1.0), rng.uniform(0.8, 2.0)),
            rng.uniform(0.0, 0.8),
        )


@dataclass
class Paved:
    """The map of a drive, and where others may be beside its lanes.

    Attributes:
        features: The map.
        strips: Where cars are parked, in their direction.
        walkways: Where people walk.
        crossings: Where people cross, from one side to the other.
        cycleways: Where bicycles ride.
    """

    features: list[MapFeature]
    strips: list[Curve] = field(default_factory=list)
    walkways: list[Curve] = field(default_factory=list)
    crossings: list[Curve] = field(default_factory=list)
    cycleways: list[Curve] = field(default_factory=list)


@dataclass(frozen=True)
class _Piece:
    """The part of a lane that lies near the drive, sampled."""

    lane: Lane
    number: int
    line: Float[ndarray, "n 2"]
    first: bool
    last: bool

    @property
    def half(self) -> float:
        return self.lane.width / 2

    @property
    def in_town(self) -> bool:
        return (self.lane.speed_limit or _TOWN) <= _TOWN


def paved(
    streets: Streets,
    names: Sequence[str],
    path: Float[ndarray, "n 2"],
    radius: float,
    rng: np.random.Generator,
) -> Paved:
    """The map within a radius of a path.

    Args:
        streets: The network.
        names: Its lanes there.
        path: What the driver drives along [m].
        radius: [m].
        rng: Draws how the streets look.
    """
    network, style = streets.network, _Style.drawn(rng)
    pieces = _pieces([streets.lanes[name] for name in names], path, radius)
    low, high = path.min(0) - radius - 10.0, path.max(0) + radius + 10.0
    near = [each for each in network.features if _near(each.points[:, :2], path, radius)]
    kerb = 1.0 if network.left_hand else -1.0
    roads = [piece for piece in pieces if piece.lane.junction is None]
    beside = {side: _beside(roads, side) for side in (1.0, -1.0)}
    ribbons = []
    for piece in pieces:
        shoulder = style.shoulder[0 if piece.in_town else 1] if piece.lane.junction is None else _FLARE
        other = _MEDIAN if piece.lane.junction is None else _FLARE
        wide = {kerb: piece.half + shoulder, -kerb: piece.half + other}
        ribbons.append(Ribbon(piece.line, wide[1.0], wide[-1.0]))
    surface = Surface.of(
        low,
        high,
        ribbons,
        [each.points[:, :2] for each in near if each.kind in _AREAS and len(each.points) > 2],
    )
    features = [_lane(piece) for piece in pieces] + surface.features()
    features += [each for each in near if each.kind not in (*_AREAS, MapKind.ROAD_EDGE, MapKind.LANE)]
    if not any(each.kind in _LINES for each in network.features):
        features += _lines(roads, beside, style, kerb)
    made = Paved(features)
    features += _stop_lines(streets, pieces, near)
    _crossings(made, streets, pieces, near, surface, style, rng)
    _roadside(made, roads, beside[kerb], surface, style, kerb)
    return made


def _near(points: ndarray, path: ndarray, radius: float) -> bool:
    low, high = path.min(0) - radius, path.max(0) + radius
    if (points.max(0) < low).any() or (points.min(0) > high).any():
        return False
    return bool(np.linalg.norm(points[:, None] - path[::20], axis=-1).min() < radius + 10.0)


def _pieces(lanes: Sequence[Lane], path: ndarray, radius: float) -> list[_Piece]:
    """The parts of lanes within the radius."""
    found = []
    thin = path[::10]
    for lane in lanes:
        line = resample(distinct(lane.centre[:, :2]), _STEP)
        inside = np.zeros(len(line), bool)
        for start in range(0, len(line), 2000):
            part = line[start : start + 2000]
            inside[start : start + 2000] = np.linalg.norm(part[:, None] - thin, axis=-1).min(1) < radius
        for number, (begin, end) in enumerate(_runs(inside)):
            if end - begin > 1:
                found.append(_Piece(lane, number, line[begin:end], begin == 0, end == len(line)))
    return found


def _runs(flags: ndarray) -> list[tuple[int, int]]:
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(bounds[::2].tolist(), bounds[1::2].tolist(), strict=True))


def _lane(piece: _Piece) -> MapFeature:
    lane = piece.lane
    name = lane.id if piece.number == 0 else f"{lane.id} part {piece.number}"
    ground = np.column_stack([piece.line, np.zeros(len(piece.line))])
    return MapFeature(name, MapKind.LANE, ground, width=lane.width, speed_limit=lane.speed_limit)


def _beside(roads: Sequence[_Piece], side: float) -> list[Int[ndarray, "n"]]:
    """What lies beyond each sample of the border of every piece on a side (1 left, -1 right): the number of the piece
    there, -1 for none."""
    lines = [piece.line for piece in roads]
    if not lines:
        return []
    points = np.concatenate(lines)
    owner = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
    reach = np.concatenate([np.full(len(piece.line), piece.half) for piece in roads]) + _BESIDE
    found = []
    for k, piece in enumerate(roads):
        border = offset(piece.line, side * (piece.half + 0.4))
        box = (points > border.min(0) - 12.0).all(1) & (points < border.max(0) + 12.0).all(1) & (owner != k)
        there = np.flatnonzero(box)
        if not len(there):
            found.append(np.full(len(border), -1))
            continue
        away = np.linalg.norm(border[:, None] - points[there], axis=-1) - reach[there]
        nearest = away.argmin(1)
        found.append(np.where(away.min(1) < 0.0, owner[there[nearest]], -1))
    return found


def _lines(
    roads: Sequence[_Piece], beside: dict[float, list[ndarray]], style: _Style, kerb: float
) -> list[MapFeature]:
    """Lines between lanes, between directions and at the outer sides."""
    found: list[MapFeature] = []
    courses = [headings(piece.line) for piece in roads]

    def paint(piece: _Piece, side: float, kind: MapKind, inward: float, keep: ndarray) -> None:
        line = offset(piece.line, side * (piece.half - inward))
        for begin, end in _runs(keep):
            if end - begin > 2:
                found.append(feature(f"line_{len(found)}", kind, line[begin:end]))

    for k, piece in enumerate(roads):
        for side in (1.0, -1.0):
            other = beside[side][k]
            same = np.zeros(len(other), bool)
            for j in np.unique(other[other >= 0]):
                ahead = math.cos(float(courses[j][len(courses[j]) // 2] - courses[k][len(courses[k]) // 2]))
                same |= (other == j) & (ahead > 0.3)
            neighbour = piece.lane.left_neighbour if side > 0 else piece.lane.right_neighbour
            if side == -kerb:
                # A border belongs to the lane that is nearer to the kerb.
                kind = MapKind.LINE_DASHED_WHITE if neighbour else MapKind.LINE_SOLID_WHITE
                paint(piece, side, kind, 0.0, same)
                double = style.middle is MapKind.LINE_SOLID_YELLOW
                first = other > k
                if style.middle is not None:
                    oncoming = (other >= 0) & ~same & (first | double)
                    paint(piece, side, style.middle, _APART if double else 0.0, oncoming)
            if style.outer:
                paint(piece, side, MapKind.LINE_SOLID_WHITE, 0.15, other < 0)
    return found


def _stop_lines(streets: Streets, pieces: Sequence[_Piece], near: Sequence[MapFeature]) -> list[MapFeature]:
    """Where cars wait at the end of a lane, and the signs that tell them to, as far as the map does not draw them."""
    drawn = [each.points[:, :2].mean(0) for each in near if each.kind is MapKind.STOP_LINE]
    found: list[MapFeature] = []
    for piece in pieces:
        if piece.lane.junction is not None or not piece.last:
            continue
        ways = [streets.lanes[key] for key in piece.lane.successors]
        stops = any(way.stops for way in ways)
        if not stops and not any(way.signal or way.yields_to for way in ways):
            continue
        end, course = piece.line[-1], headings(piece.line)[-1]
        across = np.array([-math.sin(course), math.cos(course)]) * (piece.half - 0.1)
        if stops:
            post = end - across * (1.0 + 1.0 / piece.half)
            found.append(feature(f"stop_sign_{piece.lane.id}", MapKind.STOP_SIGN, post[None]))
        painted = stops or any(way.signal for way in ways)
        if painted and not any(np.linalg.norm(end - at) < 4.0 for at in drawn):
            found.append(
                feature(f"stop_{piece.lane.id}", MapKind.STOP_LINE, np.stack([end - across, end + across]))
            )
    return found


def _crossings(
    made: Paved,
    streets: Streets,
    pieces: Sequence[_Piece],
    near: Sequence[MapFeature],
    surface: Surface,
    style: _Style,
    rng: np.random.Generator,
) -> None:
    """Where people cross: the crosswalks of the map, or some at the arms of junctions where it has none."""
    for each in near:
        if each.kind is MapKind.CROSSWALK and len(each.points) > 2:
            made.crossings.append(_over(each.points[:, :2], pieces))
    if any(each.kind is MapKind.CROSSWALK for each in streets.network.features):
        return
    for piece in pieces:
        lane = piece.lane
        outer = lane.left_neighbour if streets.network.left_hand else lane.right_neighbour
        if lane.junction is not None or not piece.last or not piece.in_town or outer is not None:
            continue
        ways = [streets.lanes[key] for key in lane.successors]
        if (
            not any(way.junction and way.turn is not Turn.AROUND for way in ways)
            or rng.random() > style.crossings
        ):
            continue
        course = headings(piece.line)[-1]
        ahead = np.array([math.cos(course), math.sin(course)])
        left = np.array([-ahead[1], ahead[0]])
        at = piece.line[-1] + 2.5 * ahead
        to_right, to_left = (_kerb(surface, at, sign * left) for sign in (-1.0, 1.0))
        if to_right is None or to_left is None or not 4.0 < to_right + to_left < _WIDEST_CROSSING:
            continue
        right_end, left_end = at - (to_right - 0.2) * left, at + (to_left - 0.2) * left
        corners = np.stack(
            [right_end - 1.5 * ahead, right_end + 1.5 * ahead, left_end + 1.5 * ahead, left_end - 1.5 * ahead]
        )
        made.features.append(feature(f"crosswalk_{lane.id}", MapKind.CROSSWALK, corners))
        made.crossings.append(Curve.straight(right_end - VERGE * left, left_end + VERGE * left))


def _kerb(surface: Surface, start: ndarray, direction: ndarray) -> float | None:
    """How far the pavement goes from a point in a direction [m]; None if not to an end."""
    at = np.arange(0.0, _WIDEST_CROSSING, 0.25)
    inside = surface.inside(start + at[:, None] * direction)
    return float(at[inside.argmin()]) if inside[0] and not inside.all() else None


def _over(outline: ndarray, pieces: Sequence[_Piece]) -> Curve:
    """The way over a crosswalk: across the nearest lane."""
    middle = outline.mean(0)
    gaps = [np.linalg.norm(piece.line - middle, axis=1) for piece in pieces]
    if gaps:
        k = int(np.argmin([gap.min() for gap in gaps]))
        course = float(headings(pieces[k].line)[gaps[k].argmin()])
    else:
        course = 0.0
    across = np.array([-math.sin(course), math.cos(course)])
    reach = (outline - middle) @ across
    return Curve.straight(middle + (reach.min() - VERGE) * across, middle + (reach.max() + VERGE) * across)


def _roadside(
    made: Paved,
    roads: Sequence[_Piece],
    beyond: Sequence[ndarray],
    surface: Surface,
    style: _Style,
    kerb: float,
) -> None:
    """Where cars are parked, people walk and bicycles ride beside the lanes at the kerb."""
    shoulder = style.shoulder[0]
    for piece, other in zip(roads, beyond, strict=True):
        if not piece.in_town:
            continue
        free = other < 0
        for begin, end in _runs(free):
            line = piece.line[begin:end]
            if end - begin < 4:
                continue
            made.cycleways.append(_curve(offset(line, kerb * (piece.half - BICYCLE))))
            walk = offset(line, kerb * (piece.half + shoulder + VERGE))
            made.walkways += [_curve(walk[a:b]) for a, b in _runs(~surface.inside(walk)) if b - a > 5]
            corner = round(_CORNER / _STEP)
            first, last = corner if begin == 0 else 0, corner if end == len(other) else 0
            strip = offset(line, kerb * (piece.half + shoulder - PARKED))[first : len(line) - last]
            if style.parking and len(strip) > 6:
                made.strips += _clear(strip, roads, piece)


def _clear(strip: ndarray, roads: Sequence[_Piece], own: _Piece) -> list[Curve]:
    """The parts of a strip on which a parked car is in nobody's way."""
    free = np.ones(len(strip), bool)
    for piece in roads:
        if (
            piece is own
            or (piece.line.min(0) > strip.max(0) + 6.0).any()
            or (piece.line.max(0) < strip.min(0) - 6.0).any()
        ):
            continue
        gap = np.linalg.norm(strip[:, None] - piece.line, axis=-1).min(1)
        free &= gap > piece.half + 1.3
    return [_curve(strip[a:b]) for a, b in _runs(free) if b - a > 5]


def _curve(line: Float[ndarray, "n 2"]) -> Curve:
    fine = resample(line, 0.5)
    return Curve(fine, headings(fine), curvatures(fine))
