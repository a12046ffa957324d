"""`procedural_road`: one seed, one scenario."""

from __future__ import annotations

import hashlib

import numpy as np

from countersteer.errors import UserError
from countersteer.scenarios.procedural.intersections import intersection, junction
from countersteer.scenarios.procedural.layouts import BEHIND, Layout, RoadKind, plain_road, street
from countersteer.scenarios.procedural.ramps import ramp
from countersteer.scenarios.procedural.traffic import (
    EGO_SIZE,
    Mover,
    parked,
    queue,
    roadside,
    start_traffic,
    townspeople,
    tracks,
)
from countersteer.scenarios.scenario import ActorKind, Provenance, RoadMap, Scenario

__all__ = ["procedural_road"]

_VERSION = 1  # to be raised when the same arguments give another road
_RATE = 10  # of the log [Hz]


def procedural_road(
    seed: int,
    kind: RoadKind,
    *,
    lanes: int,
    opposite: int | None = None,
    traffic: int = 0,
    duration: float = 20.0,
    length: float = 450.0,
) -> Scenario:
    """A generated drive: road, lights, and a log of the ego and others at 10 Hz.

    The same arguments give the same scenario, bit for bit; other traffic on the same seed leaves the
    road and the ego as they are. The ego starts at (0, 0), 60 m into the road, in a random direction,
    and its rear axle follows the centre of its lane at a constant speed, at most the limit and at most
    what lets the log end on the road; at junctions cars slow down to turn. Lateral acceleration stays
    within 2.5 m/s^2.

    Args:
        seed: Any number from 0.
        kind: Shape of the road.
        lanes: Lanes in the ego's direction, 1 to 4; the ego gets any of them.
        opposite: Lanes against it, 0 to 4; None draws none or as many as `lanes`. A ramp leaves or joins
            a one-way highway and the roads of a crossing are two-way, whatever is asked for. Towns have
            at most two lanes a direction.
        traffic: Other moving vehicles; fewer where they do not fit, and up to two queues more in a town. With
            any, there may also be parked cars (many in a town), a cyclist or pedestrians at the roadside; in a town
            bicycles ride with the traffic and people cross the road.
        duration: Of the log [s].
        length: Of the road [m], at least 250.

    Raises:
        UserError: An argument is outside its range.
    """

    def check(name: str, value: int | float, least: int | float, most: float | int) -> None:
        if not least <= value <= most:
            raise UserError(
                f"a procedural road cannot have {name}={value}",
                got=value,
                expected=f"{least:g} to {most:g}" if np.isfinite(most) else f"at least {least:g}",
                fix=f"choose another {name}",
            )

    check("seed", seed, 0, np.inf)
    check("lanes", lanes, 1, 4)
    check("opposite", 0 if opposite is None else opposite, 0, 4)
    check("traffic", traffic, 0, 1000)
    check("duration", duration, 0.1, np.inf)
    check("length", length, 250.0, 1e5)

    arguments = f"{_VERSION} seed={seed} kind={kind.value} lanes={lanes} opposite={opposite} "
    arguments += f"traffic={traffic} duration={duration!r} length={length!r}"
    fingerprint = hashlib.sha256(arguments.encode()).hexdigest()
    # Road and traffic draw from generators of their own, so that one does not disturb the other.
    road_rng, traffic_rng = (np.random.default_rng([seed, stream]) for stream in range(2))
    times = np.arange(round(duration * _RATE) + 1) / _RATE
    layout = _layout(road_rng, kind, lanes, opposite, length, times)

    ego = Mover(ActorKind.VEHICLE, EGO_SIZE, layout.route, *layout.route.travel(BEHIND, layout.speed, times))
    movers = [ego]
    if traffic:
        if layout.town:
            for _ in range(int(traffic_rng.integers(3))):
                movers += queue(traffic_rng, layout.lanes, movers, times)
        movers += start_traffic(traffic_rng, traffic, layout.lanes, movers, times, layout.signals)
        if layout.town:
            movers += parked(traffic_rng, layout.strips, movers, times)
            ways = (layout.walkways, layout.crossings, layout.cycleways)
            movers += townspeople(traffic_rng, *ways, movers, times)
        else:
            movers += roadside(traffic_rng, layout.route, layout.section, layout.walkways, movers, times)
    return Scenario(
        id=f"{kind.value}-{seed}-{fingerprint[:8]}",
        times=times,
        road=RoadMap(layout.features),
        tracks=tracks(movers),
        ego=0,
        route=layout.route.thinned(2),
        signals=layout.signals,
        provenance=Provenance("procedural", arguments, "Apache-2.0", fingerprint),
        route_offsets=layout.route_offsets,
        lane_width=layout.width,
    )


def _layout(
    rng: np.random.Generator,
    kind: RoadKind,
    lanes: int,
    opposite: int | None,
    length: float,
    times: np.ndarray,
) -> Layout:
    two_way = rng.random() < 0.5
    if kind is RoadKind.RAMP:
        return ramp(rng, lanes, length, times)
    if kind is RoadKind.INTERSECTION:
        return intersection(rng, lanes, length, times)
    if kind is RoadKind.JUNCTION:
        return junction(rng, lanes, length, times)
    if opposite is None:
        opposite = lanes if two_way else 0
    if kind is RoadKind.STREET:
        return street(rng, lanes, opposite, length, times)
    return plain_road(rng, kind, lanes, opposite, length, times)
