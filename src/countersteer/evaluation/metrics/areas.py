"""Where on the map the ego was: drivable ground, lanes, intersections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.evaluation.metrics.drive import Drive, Lane
from countersteer.geometry import polygons, polylines

__all__ = ["EgoAreas", "contained", "distance_outside", "ego_areas", "intrusion", "lanes_at"]


def contained(
    areas: tuple[Float[ndarray, "_ 2"], ...], points: Float[ndarray, "*batch 2"], *, border: bool = True
) -> Bool[ndarray, "*batch area"]:
    """Which polygons contain which points; without `border` what lies exactly on one's border is outside of it."""
    if not areas:
        return np.zeros((*points.shape[:-1], 0), bool)
    inside = polygons.contains if border else polygons.within
    return np.stack([inside(area, points) for area in areas], -1)


def distance_outside(
    areas: tuple[Float[ndarray, "_ 2"], ...], points: Float[ndarray, "*batch 2"]
) -> Float[ndarray, "*batch"]:
    """Distance from each point to the nearest of the polygons [m], 0 inside one, inf if there are none."""
    if not areas:
        return np.full(points.shape[:-1], np.inf)
    return np.stack([polygons.distance(area, points) for area in areas], -1).min(-1)


def _in_any(
    areas: tuple[Float[ndarray, "_ 2"], ...], points: Float[ndarray, "*batch 2"]
) -> Bool[ndarray, "*batch"]:
    return np.asarray(contained(areas, points, border=False).any(-1))


@dataclass(frozen=True)
class EgoAreas:
    """Where the ego was at each time (NAVSIM's ego areas).

    Attributes:
        outside: Each corner (FL, RL, RR, FR) in no drivable polygon.
        straddling: Corners in more than one lane, and no lane contains all four.
        off_route: The box's centre in no lane of the route.
        center_in_intersection: The box's centre in an intersection.
        axle_in_intersection: The rear axle in an intersection.
    """

    outside: Bool[ndarray, "time 4"]
    straddling: Bool[ndarray, "time"]
    off_route: Bool[ndarray, "time"]
    center_in_intersection: Bool[ndarray, "time"]
    axle_in_intersection: Bool[ndarray, "time"]

    @property
    def off_drivable(self) -> Bool[ndarray, "time"]:
        """Any corner off the drivable ground."""
        return np.asarray(self.outside.any(1))

    @property
    def exposed(self) -> Bool[ndarray, "time"]:
        """Straddling lanes or off the drivable ground: a lateral contact is then the ego's fault."""
        return self.straddling | self.off_drivable


def ego_areas(drive: Drive) -> EgoAreas:
    """Where the ego was.

    NAVSIM `PDMScorer._calculate_ego_area`. Corners in two lanes count as straddling only if no single
    lane holds all four, so a car that passes from a lane into its successor straddles for a moment;
    that is the reference's behaviour too. A corner exactly on a border is outside, as shapely has it.
    """
    corners, road = drive.corners, drive.road
    in_lane = contained(tuple(lane.area for lane in road.lanes), corners, border=False)
    on_route = tuple(lane.area for lane in road.lanes if lane.on_route)
    return EgoAreas(
        outside=~_in_any(road.drivable, corners),
        straddling=(in_lane.any(1).sum(-1) > 1) & ~in_lane.all(1).any(-1),
        off_route=~_in_any(on_route, drive.center),
        center_in_intersection=_in_any(road.intersections, drive.center),
        axle_in_intersection=_in_any(road.intersections, drive.ego.position),
    )


def intrusion(drive: Drive) -> Bool[ndarray, "time light"]:
    """Where the ego's box overlaps ground that a light keeps closed, while it is red."""
    corners = drive.corners
    inside = np.zeros((len(drive.times), len(drive.red_lights)), bool)
    for k, light in enumerate(drive.red_lights):
        for tick in np.flatnonzero(light.red):
            inside[tick, k] = polygons.overlap(light.area, corners[tick])
    return inside


def lanes_at(drive: Drive) -> list[Lane | None]:
    """The lane that the box's centre is in at each time; of several, the one best aligned with the car."""
    inside = contained(tuple(lane.area for lane in drive.road.lanes), drive.center)
    found: list[Lane | None] = []
    course = np.stack([np.cos(drive.ego.heading), np.sin(drive.ego.heading)], -1)
    back = np.array([[1.0], [0.0]])
    for tick, row in enumerate(inside):
        best, least = None, np.inf
        for k in np.flatnonzero(row):
            lane = drive.road.lanes[k]
            line = lane.center_line
            # A lane may cross itself: the part that leads where the car is going counts.
            at = polylines.follow(line, drive.center[tick] - back * course[tick])[0][-1]
            segment = int(
                np.clip(np.searchsorted(polylines.arc_length(line), at, "right") - 1, 0, len(line) - 2)
            )
            along = line[segment + 1] - line[segment]
            turn = drive.ego.heading[tick] - np.arctan2(along[1], along[0])
            misaligned = abs(np.arctan2(np.sin(turn), np.cos(turn)))
            if misaligned < least:
                best, least = lane, misaligned
        found.append(best)
    return found
