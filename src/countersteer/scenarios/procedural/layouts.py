"""Laid-out roads: map features, the ego's lane, and where others may drive."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum

import numpy as np

from countersteer.scenarios.procedural.curves import (
    COMFORT,
    SPEED_RANGE,
    Curve,
    Profile,
    bend_speed,
    integrate,
)
from countersteer.scenarios.procedural.sections import PARKED, PARKING, CrossSection, road, worn
from countersteer.scenarios.procedural.traffic import TrafficLane
from countersteer.scenarios.scenario import MapFeature, Signals

__all__ = [
    "BEHIND",
    "BICYCLE",
    "STEP",
    "VERGE",
    "Layout",
    "RoadKind",
    "draw_section",
    "free_speed",
    "lane_limit",
    "no_signals",
    "plain_road",
    "settled",
    "street",
]

STEP = 0.5  # spacing of curve samples [m]
BEHIND = 60.0  # road behind the ego's start [m]
VERGE = 1.2  # from the end of the pavement to where people walk [m]
BICYCLE = 0.6  # from the right side of a lane to a bicycle [m]
_STEEPEST = 1.4  # a road never turns further than this from its first direction, so it cannot meet itself


class RoadKind(Enum):
    """Shapes of generated roads."""

    STRAIGHT = "straight"
    GENTLE = "gentle"  # bends of 200-800 m radius between straights
    TIGHT = "tight"  # bends of 60-200 m radius
    S_CURVE = "s_curve"  # bends left and right in turn, of 80-350 m radius
    RAMP = "ramp"  # the ego's lane leaves a highway or joins one
    INTERSECTION = "intersection"  # four arms with traffic lights; straight on, left or right
    STREET = "street"  # in a town: bends of 40-400 m radius, narrow or wide lanes, parked cars, worn paint
    JUNCTION = "junction"  # in a town: three arms or four, with lights or without, tight turns, queues


@dataclass(frozen=True)
class Layout:
    """A road before anybody drives on it.

    Attributes:
        features: The map.
        route: Centre of the ego's lane over the whole road; the ego starts `BEHIND` metres along it.
        route_offsets: Lanes that can be changed to, relative to the route [m, left positive].
        width: Lane width [m].
        speed: Constant speed of the ego in the log [m/s].
        lanes: Where others drive.
        section: Cross-section about the route, where it is the same all along, else None.
        walkways: Curves beside the pavement on which somebody may stand.
        signals: Traffic lights over the log.
        town: Whether it is in a town: traffic may stand, crawl and follow closely, cars are parked, people are about.
        strips: Where cars are parked, in their direction.
        crossings: Where people cross, from one side to the other.
        cycleways: Where bicycles ride, in their direction.
    """

    features: tuple[MapFeature, ...]
    route: Curve
    route_offsets: tuple[float, ...]
    width: float
    speed: float
    lanes: tuple[TrafficLane, ...]
    section: CrossSection | None
    walkways: tuple[Curve, ...]
    signals: Signals
    town: bool = False
    strips: tuple[Curve, ...] = ()
    crossings: tuple[Curve, ...] = ()
    cycleways: tuple[Curve, ...] = ()


def no_signals(times: np.ndarray) -> Signals:
    """A road without lights."""
    return Signals.none(len(times))


def lane_limit(share: float, *centres: Curve) -> float:
    """Speed limit [m/s] that all these lanes allow: a share of what their tightest bend allows."""
    sharpest = max((float(np.abs(centre.curvature).max()) for centre in centres), default=0.0)
    return min(max(share * bend_speed(sharpest), SPEED_RANGE[0]), (COMFORT / max(sharpest, 1e-9)) ** 0.5)


def free_speed(rng: np.random.Generator, limit: float, route: Curve, duration: float) -> float:
    """A speed near the limit at which the log ends before the road does [m/s]."""
    return min(limit * rng.uniform(0.8, 1.0), (route.length - BEHIND - 15.0) / duration)


def draw_section(
    rng: np.random.Generator, lanes: int, opposite: int, *, reference: int | None
) -> CrossSection:
    """A cross-section with random width, shoulders and paint; one in eight has room to park on the right."""
    wide = rng.random() < 0.125
    return CrossSection(
        lanes=lanes,
        opposite=opposite,
        reference=int(rng.integers(lanes)) if reference is None else reference,
        width=rng.uniform(3.2, 3.8),
        shoulder_left=rng.uniform(0.4, 1.5),
        shoulder_right=rng.uniform(2.3, 2.8) if wide else rng.uniform(0.4, 1.5),
        yellow_left=rng.random() < 0.5,
        passing=lanes == opposite == 1 and rng.random() < 0.5,
    )


def _profile(rng: np.random.Generator, kind: RoadKind, length: float) -> Profile:
    profile = Profile().straight(rng.uniform(0.0, 40.0))
    if kind is RoadKind.STRAIGHT:
        return profile
    side = 1.0 if rng.random() < 0.5 else -1.0
    tightest, widest, turn, between = {
        RoadKind.GENTLE: (200.0, 800.0, (0.15, 0.7), 60.0),
        RoadKind.TIGHT: (60.0, 200.0, (0.4, 1.4), 40.0),
        RoadKind.S_CURVE: (80.0, 350.0, (0.35, 0.9), 0.0),
        RoadKind.STREET: (40.0, 400.0, (0.1, 0.9), 100.0),
    }[kind]
    while profile.s < length:
        curvature = rng.uniform(1.0 / widest, 1.0 / tightest)
        side = -side if kind is RoadKind.S_CURVE or rng.random() < 0.5 else side
        needed = curvature * Profile.clothoid(curvature)
        if _STEEPEST - side * profile.heading < needed:
            side = -side
        room = _STEEPEST - side * profile.heading
        profile.bend(side * curvature, min(rng.uniform(*turn), room))
        profile.straight(rng.uniform(0.0, between))
    return profile


def plain_road(
    rng: np.random.Generator,
    kind: RoadKind,
    lanes: int,
    opposite: int,
    length: float,
    times: np.ndarray,
) -> Layout:
    """A road without forks: the ego in one of its lanes."""
    return _along(rng, kind, draw_section(rng, lanes, opposite, reference=None), length, times)


def _along(
    rng: np.random.Generator,
    kind: RoadKind,
    section: CrossSection,
    length: float,
    times: np.ndarray,
    most: float = SPEED_RANGE[1],
) -> Layout:
    """A road with this section, which bends as its kind does; limits are at most `most` [m/s]."""
    curve = integrate(_profile(rng, kind, length).sampled(length, STEP), STEP)
    curve = settled(rng, curve)[0]
    own = [curve.beside(at) for at in section.own]
    oncoming = [curve.beside(at).reversed() for at in section.oncoming]
    share = rng.uniform(0.75, 1.0)
    limits = (min(lane_limit(share, *own), most), min(lane_limit(share, *oncoming), most))
    return Layout(
        features=tuple(road(curve, section, limits)),
        route=curve,
        route_offsets=section.own,
        width=section.width,
        speed=free_speed(rng, limits[0], curve, times[-1]),
        lanes=(
            *(TrafficLane(centre, limits[0]) for centre in own),
            *(TrafficLane(centre, limits[1]) for centre in oncoming),
        ),
        section=section,
        walkways=(),
        signals=no_signals(times),
    )


def street(rng: np.random.Generator, lanes: int, opposite: int, length: float, times: np.ndarray) -> Layout:
    """A street in a town: cars parked on one side or both, or the kerb close by; little of it may be painted."""

    def shoulder() -> float:
        return rng.uniform(*PARKING) if rng.random() < 0.6 else rng.uniform(0.3, 0.8)

    section = dataclasses.replace(
        draw_section(rng, min(lanes, 2), min(opposite, 2), reference=None),
        width=rng.uniform(2.8, 4.2),
        shoulder_left=shoulder(),
        shoulder_right=shoulder(),
    )
    layout = _along(rng, RoadKind.STREET, section, length, times, most=rng.uniform(8.0, 14.0))
    curve, strips = layout.route, []
    if section.shoulder_right >= PARKING[0]:
        strips.append(curve.beside(section.right_edge + PARKED))
    if section.shoulder_left >= PARKING[0]:
        left = curve.beside(section.left_edge - PARKED)
        strips.append(left.reversed() if section.opposite else left)
    sides = (curve.beside(section.right_edge - VERGE), curve.beside(section.left_edge + VERGE))
    places = rng.uniform(BEHIND, curve.length - BEHIND, 4)
    return dataclasses.replace(
        layout,
        features=tuple(worn(rng, list(layout.features))),
        walkways=sides,
        town=True,
        strips=tuple(strips),
        crossings=tuple(
            Curve.straight(*(side.at(np.array([at * side.length / curve.length]))[0][0] for side in sides))
            for at in places
        ),
        cycleways=tuple(
            outer.centre.beside(BICYCLE - section.width / 2)
            for outer in (layout.lanes[0], *layout.lanes[section.lanes :][-1:])
        ),
    )


def settled(rng: np.random.Generator, route: Curve, *others: Curve) -> tuple[Curve, ...]:
    """All curves moved together: the ego starts at (0, 0), in a random direction."""
    point, heading = route.at(np.array([BEHIND]))
    turn = rng.uniform(-np.pi, np.pi) - float(heading[0])
    cos, sin = np.cos(turn), np.sin(turn)
    origin = -(np.array([[cos, -sin], [sin, cos]]) @ point[0])
    return tuple(curve.placed(origin, turn) for curve in (route, *others))
