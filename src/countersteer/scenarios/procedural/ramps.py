"""A highway ramp: the ego's lane leaves the right lane of a highway, or joins it."""

from __future__ import annotations

import dataclasses

import numpy as np

from countersteer.geometry.polylines import project
from countersteer.scenarios.procedural.curves import Curve, Profile, integrate
from countersteer.scenarios.procedural.layouts import (
    BEHIND,
    STEP,
    Layout,
    draw_section,
    free_speed,
    lane_limit,
    no_signals,
    settled,
)
from countersteer.scenarios.procedural.sections import drivable, lane, parallel, pieces, road
from countersteer.scenarios.procedural.traffic import TrafficLane
from countersteer.scenarios.scenario import MapKind

__all__ = ["ramp"]


def ramp(rng: np.random.Generator, lanes: int, length: float, times: np.ndarray) -> Layout:
    """A one-way highway, straight or in a wide bend, and a ramp on its right that is the ego's route."""
    joins = bool(rng.random() < 0.5)
    section = draw_section(rng, lanes, 0, reference=0)
    section = dataclasses.replace(section, shoulder_right=min(section.shoulder_right, 1.5))
    side = 1.0 if rng.random() < 0.5 else -1.0
    wide = side * rng.uniform(1 / 1500, 1 / 600) if rng.random() < 0.6 else 0.0
    main_profile = Profile().straight(rng.uniform(0.0, 60.0))
    if wide:
        main_profile.bend(wide, rng.uniform(0.15, 0.4))
    along_main = main_profile.sampled(length, STEP)

    # The ramp bends away to the right, and often back a little, beyond the nose at `fork`. A ramp that
    # joins is the mirror image of one that leaves, driven backwards; its curvature is the same, reversed.
    tight = rng.uniform(1 / 150, 1 / 60)
    fork = length - BEHIND - rng.uniform(110.0, 170.0) if joins else BEHIND + rng.uniform(50.0, 110.0)
    away = rng.uniform(0.5, 1.1)
    bends = Profile().straight(fork).bend(-tight, away).straight(rng.uniform(0.0, 40.0))
    if rng.random() < 0.6:
        bends.bend(tight * rng.uniform(0.5, 1.0), away * rng.uniform(0.3, 0.6))
    departing = bends.sampled(length, STEP)
    main = integrate(along_main, STEP)
    route = integrate(along_main + (departing[::-1] if joins else departing), STEP)
    if joins:
        main = _end_to_end(main, route)
    route, main = settled(rng, route, main)

    apart_main = np.abs(_lateral(main, route))
    apart_route = np.abs(_lateral(route, main))
    centres = [main.beside(at) for at in section.own]
    share = rng.uniform(0.75, 1.0)
    limits = (lane_limit(share, *centres), lane_limit(share, route))
    width, half, right, left = section.width, section.width / 2, section.shoulder_right, rng.uniform(0.4, 1.2)
    features = road(main, section, (limits[0], limits[0]), right_side=False)
    inner = main.beside(-half)
    features += [
        lane("ramp", route, width, limits[1]),
        parallel("line_right", MapKind.LINE_SOLID_WHITE, route, -half),
        parallel("edge_right", MapKind.ROAD_EDGE, route, -half - right),
        *pieces("mouth", MapKind.LINE_DASHED_WHITE, inner, (apart_main > 0.3) & (apart_main < width)),
        *pieces("nose_main", MapKind.LINE_SOLID_WHITE, inner, apart_main >= width),
        *pieces("nose_ramp", MapKind.LINE_SOLID_WHITE, route.beside(half), apart_route >= width),
        *pieces(
            "edge_main", MapKind.ROAD_EDGE, main.beside(-half - right), apart_main > width + right + left
        ),
        *pieces(
            "edge_ramp", MapKind.ROAD_EDGE, route.beside(half + left), apart_route > width + right + left
        ),
        drivable("pavement_ramp", route, -half - right, half + left),
    ]
    return Layout(
        features=tuple(features),
        route=route,
        route_offsets=(0.0,),
        width=width,
        speed=free_speed(rng, limits[1], route, times[-1]),
        lanes=(*(TrafficLane(centre, limits[0]) for centre in centres), TrafficLane(route, limits[1])),
        section=None,
        walkways=(),
        signals=no_signals(times),
    )


def _end_to_end(curve: Curve, target: Curve) -> Curve:
    """The curve moved so that it ends where and as the target ends."""
    turned = curve.placed(np.zeros(2), float(target.heading[-1] - curve.heading[-1]))
    return turned.placed(target.points[-1] - turned.points[-1], 0.0)


def _lateral(curve: Curve, base: Curve) -> np.ndarray:
    """Offset of each sample of `curve` from `base` [m, left positive], exact at every eighth sample."""
    every = np.append(np.arange(0, len(curve.points) - 1, 8), len(curve.points) - 1)
    _, lateral = project(base.thinned(4), curve.points[every])
    return np.interp(np.arange(len(curve.points)), every, lateral)
