"""A road drawn along a recorded drive that came without a map."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.geometry.polylines import arc_length, curvatures, headings, resample
from countersteer.scenarios.procedural.curves import Curve
from countersteer.scenarios.procedural.sections import THIN, CrossSection, feature, road
from countersteer.scenarios.scenario import MapFeature, MapKind, RoadMap, Scenario

__all__ = ["road_along"]

_STEP = 0.5  # [m]
_BLUR = 3.0  # standard deviation of the smoothing along the path [m]
_BEYOND = 60.0  # road before the first and after the last logged position [m]
_PATCH = 40  # samples of one drivable polygon


def road_along(scenario: Scenario, *, lanes_left: int = 1, lanes_right: int = 1, seed: int = 0) -> Scenario:
    """The scenario with a synthetic one-way road along its route, in place of its map.

    The ego's lane is centred on the logged path (the rear axle's, lightly smoothed), which also becomes
    the route; the road goes straight on for 60 m before and after it. The ground is flat, z = 0. Lanes,
    lines, edges and pavement are guesses: the recorded road may have had others, and recorded actors
    need not keep to these. The lanes' limit is the fastest logged speed.

    Args:
        scenario: A recorded drive with a route, or an ego that moved.
        lanes_left, lanes_right: Neighbour lanes, each 0 to 3.
        seed: Draws lane width, shoulders and paint.

    Raises:
        UserError: The drive has no path of at least 5 m, or a number of lanes is outside its range.
    """
    if not (0 <= lanes_left <= 3 and 0 <= lanes_right <= 3):
        raise UserError(
            "a road along a drive cannot have that many neighbour lanes",
            got=f"lanes_left={lanes_left}, lanes_right={lanes_right}",
            expected="0 to 3 each",
            fix="choose other numbers of lanes",
        )
    curve = _smooth(_path(scenario))
    rng = np.random.default_rng([seed, 2])
    section = CrossSection(
        lanes=lanes_left + lanes_right + 1,
        opposite=0,
        reference=lanes_right,
        width=rng.uniform(3.4, 3.7),
        shoulder_left=rng.uniform(0.8, 1.5),
        shoulder_right=rng.uniform(1.0, 1.5),
        yellow_left=bool(rng.random() < 0.5),
    )
    speed = 0.0
    if scenario.ego is not None:
        logged = scenario.tracks.velocity[scenario.ego][scenario.tracks.valid[scenario.ego]]
        speed = float(np.linalg.norm(logged, axis=1).max(initial=0.0))
    limit = max(speed, 5.0)
    features = [
        item for item in road(curve, section, (limit, limit)) if item.kind is not MapKind.DRIVABLE_AREA
    ]
    features += _pavement(curve, section)
    note = f"the road is synthesised along the logged path: {section.lanes} lanes of {section.width:.2f} m"
    return dataclasses.replace(
        scenario,
        road=RoadMap(tuple(features)),
        route=curve.thinned(2),
        route_offsets=section.own,
        lane_width=section.width,
        provenance=dataclasses.replace(scenario.provenance, notes=(*scenario.provenance.notes, note)),
    )


def _path(scenario: Scenario) -> Float[ndarray, "n 2"]:
    """The logged rear-axle path without standstills."""
    if scenario.route is not None:
        path = scenario.route
    elif scenario.ego is not None:
        valid = scenario.tracks.valid[scenario.ego]
        heading = scenario.tracks.heading[scenario.ego][valid]
        back = rear_axle_to_center(scenario.tracks.size[scenario.ego, 0])
        direction = np.stack([np.cos(heading), np.sin(heading)], axis=1)
        path = scenario.tracks.position[scenario.ego][valid][:, :2] - back * direction
    else:
        path = np.zeros((1, 2))
    # While a car stands its position only jitters; a new point counts once it is half a metre on.
    kept = [0]
    for i in range(1, len(path)):
        if np.linalg.norm(path[i] - path[kept[-1]]) >= _STEP:
            kept.append(i)
    path = path[kept]
    if len(path) < 3 or arc_length(path)[-1] < 5.0:
        raise UserError(
            f"scenario {scenario.id!r} has no path to draw a road along",
            got=f"{arc_length(path)[-1]:.1f} m",
            expected="a route or an ego that moves at least 5 m",
            fix="choose a part of the drive in which the car moves",
        )
    return path


def _smooth(path: Float[ndarray, "n 2"]) -> Curve:
    """The path at equal spacing, blurred, with a straight run before and after."""
    path = resample(path, _STEP)
    reach = round(3 * _BLUR / _STEP)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _STEP / _BLUR) ** 2)
    before, after = (
        path[end] + sign * np.arange(1, round(_BEYOND / _STEP) + 1)[:, None] * _STEP * _course(path, end)
        for end, sign in ((0, -1.0), (-1, 1.0))
    )
    whole = np.concatenate([before[::-1], path, after])
    padded = np.concatenate(
        [2 * whole[0] - whole[reach:0:-1], whole, 2 * whole[-1] - whole[-2 : -reach - 2 : -1]]
    )
    smooth = np.stack([np.convolve(padded[:, k], taps / taps.sum(), "valid") for k in range(2)], axis=1)
    return Curve(smooth, headings(smooth), curvatures(smooth))


def _course(path: Float[ndarray, "n 2"], end: int) -> Float[ndarray, 2]:
    """Unit direction at the first (0) or last (-1) point, over some 5 m."""
    span = min(round(5.0 / _STEP), len(path) - 1)
    along = path[span] - path[0] if end == 0 else path[-1] - path[-1 - span]
    return along / np.linalg.norm(along)


def _pavement(curve: Curve, section: CrossSection) -> list[MapFeature]:
    """Drivable patches, so that a drive which meets itself (a loop ramp) still has simple polygons."""
    right = curve.beside(section.right_edge).points
    left = curve.beside(section.left_edge).points
    patches = []
    for i, begin in enumerate(range(0, len(right) - 1, _PATCH)):
        part = slice(begin, begin + _PATCH + THIN + 1)
        if len(right[part]) > 1:
            outline = np.concatenate([right[part][::THIN], left[part][::THIN][::-1]])
            patches.append(feature(f"pavement_{i}", MapKind.DRIVABLE_AREA, outline))
    return patches
