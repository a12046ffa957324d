"""The cross-section of a road, and the map features of a road with that section along a curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.scenarios.procedural.curves import Curve
from countersteer.scenarios.scenario import MapFeature, MapKind

__all__ = [
    "PARKED",
    "PARKING",
    "CrossSection",
    "drivable",
    "feature",
    "lane",
    "parallel",
    "pieces",
    "road",
    "worn",
]


@dataclass(frozen=True)
class CrossSection:
    """Lanes, lines and edges as offsets [m, left positive] from the centre of one lane, the reference.

    Attributes:
        lanes: Lanes in the reference's direction.
        opposite: Lanes against it, to its left.
        reference: Which lane the offsets are counted from, 0 the rightmost.
        width: Width of every lane [m].
        shoulder_left, shoulder_right: Pavement beyond the outer lines [m].
        yellow_left: Whether the left line of a one-way road is yellow, as in the United States.
        passing: Whether the line between the directions is dashed.
    """

    lanes: int
    opposite: int
    reference: int
    width: float
    shoulder_left: float
    shoulder_right: float
    yellow_left: bool = False
    passing: bool = False

    @property
    def own(self) -> tuple[float, ...]:
        """Centres of the lanes in the reference's direction, from the right."""
        return tuple((i - self.reference) * self.width for i in range(self.lanes))

    @property
    def oncoming(self) -> tuple[float, ...]:
        """Centres of the lanes against it, from the middle outward."""
        return tuple((self.lanes - self.reference + i) * self.width for i in range(self.opposite))

    @property
    def right_line(self) -> float:
        """The outer line on the right."""
        return -(self.reference + 0.5) * self.width

    @property
    def middle(self) -> float:
        """Left boundary of the reference's direction."""
        return self.right_line + self.lanes * self.width

    @property
    def left_line(self) -> float:
        """The outer line on the left."""
        return self.middle + self.opposite * self.width

    @property
    def right_edge(self) -> float:
        """End of the pavement on the right."""
        return self.right_line - self.shoulder_right

    @property
    def left_edge(self) -> float:
        """End of the pavement on the left."""
        return self.left_line + self.shoulder_left


PARKING = (2.3, 2.8)
"""Width of a shoulder on which cars can be parked [m]."""
PARKED = 1.15
"""Distance of a parked car's middle from the kerb [m]."""
THIN = 4  # features keep every fourth sample of a curve


def feature(name: str, kind: MapKind, points: Float[ndarray, "n 2"]) -> MapFeature:
    """A feature on the ground, z = 0."""
    return MapFeature(name, kind, np.concatenate([points, np.zeros((len(points), 1))], axis=1))


def lane(name: str, centre: Curve, width: float, limit: float) -> MapFeature:
    """A lane along its centre."""
    points = centre.thinned(THIN)
    ground = np.concatenate([points, np.zeros((len(points), 1))], axis=1)
    return MapFeature(name, MapKind.LANE, ground, width=width, speed_limit=limit)


def parallel(name: str, kind: MapKind, curve: Curve, left: float) -> MapFeature:
    """A line `left` [m] of the curve."""
    return feature(name, kind, curve.beside(left).thinned(THIN))


def pieces(name: str, kind: MapKind, curve: Curve, keep: Bool[ndarray, "n"]) -> list[MapFeature]:
    """The stretches of a curve where `keep` holds, each of at least two samples."""
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]]).astype(np.int8)))
    return [
        feature(f"{name}_{i}", kind, Curve(*(a[b:e] for a in _arrays(curve))).thinned(THIN))
        for i, (b, e) in enumerate(zip(bounds[::2], bounds[1::2], strict=True))
        if e - b > 1
    ]


def _arrays(curve: Curve) -> tuple[ndarray, ndarray, ndarray]:
    return curve.points, curve.heading, curve.curvature


def drivable(name: str, curve: Curve, right: float, left: float) -> MapFeature:
    """The band between two offsets [m] of the curve, as one counter-clockwise polygon."""
    outline = [curve.beside(right).thinned(THIN), curve.beside(left).thinned(THIN)[::-1]]
    return feature(name, MapKind.DRIVABLE_AREA, np.concatenate(outline))


def road(
    curve: Curve, section: CrossSection, limits: tuple[float, float], *, right_side: bool = True
) -> list[MapFeature]:
    """All features of a road along its reference lane's centre.

    Args:
        curve: Centre of the reference lane.
        section: The cross-section.
        limits: Speed limits along and against the reference [m/s].
        right_side: Whether to draw the outer line and the edge on the right.
    """
    features = [
        lane(f"lane_{i}", curve.beside(at), section.width, limits[0]) for i, at in enumerate(section.own)
    ] + [
        lane(f"oncoming_{i}", curve.beside(at).reversed(), section.width, limits[1])
        for i, at in enumerate(section.oncoming)
    ]
    half = section.width / 2
    dashed = [at - half for at in section.own[1:]] + [at - half for at in section.oncoming[1:]]
    features += [parallel(f"dashed_{i}", MapKind.LINE_DASHED_WHITE, curve, at) for i, at in enumerate(dashed)]
    if section.opposite and section.passing:
        features.append(parallel("middle", MapKind.LINE_DASHED_YELLOW, curve, section.middle))
    elif section.opposite:
        features += [
            parallel(f"middle_{i}", MapKind.LINE_SOLID_YELLOW, curve, section.middle + at)
            for i, at in enumerate((-0.13, 0.13))
        ]
    yellow = section.yellow_left and not section.opposite
    left = MapKind.LINE_SOLID_YELLOW if yellow else MapKind.LINE_SOLID_WHITE
    features.append(parallel("line_left", left, curve, section.left_line))
    features.append(parallel("edge_left", MapKind.ROAD_EDGE, curve, section.left_edge))
    if right_side:
        features.append(parallel("line_right", MapKind.LINE_SOLID_WHITE, curve, section.right_line))
        features.append(parallel("edge_right", MapKind.ROAD_EDGE, curve, section.right_edge))
    features.append(drivable("pavement", curve, section.right_edge, section.left_edge))
    return features


_WORN = (
    (0.3, (MapKind.LINE_SOLID_YELLOW, MapKind.LINE_DASHED_YELLOW)),
    (0.6, (MapKind.LINE_SOLID_WHITE,)),
    (0.2, (MapKind.LINE_DASHED_WHITE,)),
    (0.4, (MapKind.STOP_LINE,)),
)


def worn(rng: np.random.Generator, features: list[MapFeature]) -> list[MapFeature]:
    """The features of a street in a town, where middle, outer lines, separators or stop lines may not be painted."""
    gone = [kind for share, kinds in _WORN if rng.random() < share for kind in kinds]
    return [each for each in features if each.kind not in gone]
