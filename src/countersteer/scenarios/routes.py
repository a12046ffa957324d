"""Routes from recorded drives: the path of the rear axle, cleaned, smoothed and prolonged.

A recorded path jitters where the car stands, wobbles by the noise of its positions, and stops where the
recording stops. A route has to give a usable curvature everywhere and may never end under a planning car.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.geometry.polylines import arc_length, follow, project, resample
from countersteer.geometry.poses import wrap_angle
from countersteer.scenarios.scenario import MapFeature

__all__ = [
    "EXTENSION",
    "REVERSING",
    "STANDSTILL_ROUTE",
    "backed_up",
    "drop_standing",
    "forward_stretch",
    "lane_width_along",
    "prolong",
    "rear_axle_of",
    "route_of_track",
    "smooth",
]

EXTENSION = 30.0
"""How far a route goes on beyond the end of the recording [m]."""

STANDSTILL_ROUTE = 20.0
"""Length of the straight route of a car that never moves [m]."""

REVERSING = 2.0
"""A recorded car that backs up by more than this does not drive forward there [m]; less is jitter or a hill start."""

SPACING = 0.5  # distance between way points [m]
MERGE = 20.0  # distance over which the path from the recording's end joins its lane [m]
SPOT, TIGHTEST = 2.0, 4.0  # a car that turns further in a spot than this radius allows turns on the spot [m]
STEP = 0.2  # recorded points closer than this to the last one are standing jitter [m]


def rear_axle_of(
    center: Float[ndarray, "*batch 2"], heading: Float[ndarray, "*batch"], length: float
) -> Float[ndarray, "*batch 2"]:
    """Rear-axle position [m] of a car given by its box: centre [m], heading [rad] and length [m]."""
    ahead = np.stack([np.cos(heading), np.sin(heading)], -1)
    return center - rear_axle_to_center(length) * ahead


def drop_standing(
    points: Float[ndarray, "n 2"], heading: Float[ndarray, "n"], step: float = STEP
) -> Float[ndarray, "m 2"]:
    """The points that make way: each at least `step` [m] ahead of the one kept before it.

    Standing jitter and reversing drop out, so the path never doubles back; at least the first point stays.
    """
    kept = [points[0]]
    for point, turn in zip(points[1:], heading[1:], strict=True):
        way = point - kept[-1]
        if np.hypot(*way) >= step and way @ np.array([np.cos(turn), np.sin(turn)]) > 0:
            kept.append(point)
    return np.stack(kept)


def _advanced(axle: ndarray, heading: ndarray) -> Float[ndarray, "n"]:
    """How far forward a car has driven since the first point [m]; what it backed up is taken off."""
    ahead = np.stack([np.cos(heading), np.sin(heading)], -1)
    step = (np.diff(axle, axis=0) * (ahead[1:] + ahead[:-1]) / 2).sum(-1)
    return np.concatenate([[0.0], np.cumsum(step)])


def backed_up(
    center: Float[ndarray, "time 2"],
    heading: Float[ndarray, "time"],
    valid: Bool[ndarray, "time"],
    length: float,
) -> float:
    """The longest way that a recorded car drove backwards at a time [m]; arguments as of `route_of_track`."""
    if not valid.any():
        return 0.0
    advanced = _advanced(rear_axle_of(center[valid], heading[valid], length), heading[valid])
    return float((np.maximum.accumulate(advanced) - advanced).max())


def forward_stretch(
    center: Float[ndarray, "time 2"],
    heading: Float[ndarray, "time"],
    valid: Bool[ndarray, "time"],
    length: float,
) -> tuple[int, int]:
    """First and last step of the stretch in which a recorded car drives forward the furthest.

    A stretch ends where the car backs up by more than `REVERSING`, or turns on the spot; standing belongs to it.
    A car that does neither drives one stretch, from the first to the last step in which it is seen.
    Arguments as of `route_of_track`.
    """
    ticks = np.flatnonzero(valid)
    place, turn = center[valid], heading[valid]
    advanced = _advanced(rear_axle_of(place, turn, length), turn)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(place, axis=0), axis=1))])
    stretches: list[tuple[int, int]] = []
    begin: int | None = 0  # of the stretch; None while the car backs up
    peak = low = 0
    for now in range(len(ticks)):
        if begin is None:
            low = now if advanced[now] <= advanced[low] else low
            if advanced[now] - advanced[low] > REVERSING:
                begin, peak = low, now
            continue
        peak = now if advanced[now] > advanced[peak] else peak
        before = max(int(np.searchsorted(way, way[now] - SPOT)), begin)
        if advanced[peak] - advanced[now] > REVERSING:
            stretches.append((begin, peak))
            begin, low = None, now
        elif (
            (leaves := _leaves(place, before, now))
            and _differ(turn[leaves], turn[before])
            and _differ(turn[now], turn[before])
        ):
            # Headings of a standing car may be noise: what counts is whether it leaves as it came.
            stretches.append((begin, before))
            begin = peak = now
    if begin is not None:
        stretches.append((begin, len(ticks) - 1))
    if len(stretches) == 1 and begin == 0:
        return int(ticks[0]), int(ticks[-1])
    first, last = max(stretches, key=lambda one: advanced[one[1]] - advanced[one[0]])
    # It begins when the car faces where it leaves for.
    leaves = min(_leaves(place, first, first) or last, last)
    away = np.abs(wrap_angle(turn[first:leaves] - turn[leaves])) > math.radians(10.0)
    first += int(np.flatnonzero(away)[-1]) + 1 if away.any() else 0
    return int(ticks[first]), int(ticks[last])


def _differ(one: float, other: float) -> bool:
    """Whether no car turns like this within `SPOT`."""
    return abs(math.remainder(one - other, math.tau)) > math.radians(45.0) + SPOT / TIGHTEST


def _leaves(place: ndarray, of: int, after: int) -> int:
    """The first index after `after` that is `SPOT` away from the place at `of`; 0 if there is none."""
    away = np.linalg.norm(place[after:] - place[of], axis=1) >= SPOT
    return after + int(away.argmax()) if away.any() else 0


def smooth(
    points: Float[ndarray, "n 2"], tolerance: float, reach: float = 15.0, spacing: float = SPACING
) -> Float[ndarray, "m 2"]:
    """The path at equal spacing, each point from a local fit, within `tolerance` of the raw path.

    Each coordinate is fitted by a cubic of the arc length over `reach` metres to either side (a
    Savitzky-Golay filter; Savitzky and Golay 1964). Where such a fit would leave the raw path by more
    than the tolerance, `reach` is halved for the whole path.

    Args:
        points: Raw path [m], neighbours distinct.
        tolerance: Largest distance between the raw and the smoothed path [m].
        reach: Half the length of the local fit [m].
        spacing: Distance between the points of the result [m].
    """
    if len(points) < 2:
        return points.astype(float)
    even = resample(points.astype(float), spacing)
    half = int(reach / spacing)
    while half >= 2:
        fitted = _local_cubics(even, min(half, (len(even) - 1) // 2))
        if np.linalg.norm(fitted - even, axis=1).max() <= tolerance:
            return fitted
        half //= 2
    return even


def _local_cubics(points: ndarray, half: int) -> ndarray:
    """Savitzky-Golay filter of order three; the ends take the fit of the first and last full window."""
    if half < 2:
        return points
    offsets = np.arange(-half, half + 1) / half
    basis = np.vander(offsets, 4)
    fit = np.linalg.pinv(basis)  # 4 x window: coefficients from samples
    windows = np.lib.stride_tricks.sliding_window_view(points, 2 * half + 1, axis=0)
    middle = windows @ fit[3]  # value at the centre
    first = basis[:half] @ fit @ points[: 2 * half + 1]
    last = basis[half + 1 :] @ fit @ points[-(2 * half + 1) :]
    return np.concatenate([first, middle, last])


def prolong(
    route: Float[ndarray, "n 2"], lanes: list[MapFeature], distance: float = EXTENSION
) -> tuple[Float[ndarray, "m 2"], bool]:
    """The route carried on for `distance` [m]: along the lane it ends in, else straight on.

    A lane counts where it passes within 1.5 m of the end and points within 30 degrees of it; the gap to
    its centre line is closed over 20 m. Where the lane ends, one that starts there is taken (the
    straightest), else the rest is straight.

    Returns:
        The longer route, and whether a lane was followed.
    """
    end = route[-1]
    course = _end_course(route)
    path, followed = np.zeros((0, 2)), False
    while (done := _length_from(end, path)) < distance:
        here = path[-1] if len(path) else end
        lane = _lane_ahead(lanes, here, course, distance)
        if lane is None:
            straight = np.arange(1, int(np.ceil((distance - done) / SPACING)) + 1)[:, None] * SPACING
            path = np.concatenate([path, here + straight * np.array([np.cos(course), np.sin(course)])])
            break
        lane = _merge(lane, here, course)
        followed = True
        path = np.concatenate([path, lane[1:]])
        course = _end_course(lane)
    whole = np.concatenate([route, path])
    keep = arc_length(whole) <= arc_length(route)[-1] + distance + 1e-6
    return whole[keep], followed


def _merge(lane: ndarray, start: ndarray, course: float) -> ndarray:
    """The lane, changed over its first 20 m so that it begins at `start` in the direction `course` [rad].

    The difference of position and direction at the start fades as a cubic Hermite polynomial; a plain
    jump would be a kink, a straight blend would keep the kink in the course.
    """
    first = lane[min(len(lane) - 1, 2)] - lane[0]
    turn = np.array([np.cos(course), np.sin(course)]) - first / np.linalg.norm(first)
    t = np.minimum(arc_length(lane) / MERGE, 1.0)[:, None]
    return lane + (start - lane[0]) * (2 * t**3 - 3 * t**2 + 1) + turn * MERGE * (t**3 - 2 * t**2 + t)


def _end_course(path: ndarray) -> float:
    """Course of the last two metres of a path [rad]; one GPS step would be noise."""
    back = np.flatnonzero(np.linalg.norm(path[-1] - path, axis=1) >= 2.0)
    start = path[back[-1]] if len(back) else path[0]
    return float(np.arctan2(*(path[-1] - start)[::-1]))


def _length_from(start: ndarray, path: ndarray) -> float:
    return float(arc_length(np.concatenate([start[None], path]))[-1])


def _nearest(path: ndarray, point: ndarray) -> ndarray:
    s, _ = project(path, point[None])
    along = arc_length(path)
    return np.array([np.interp(s[0], along, path[:, k]) for k in range(2)])


def _lane_ahead(
    lanes: list[MapFeature], point: ndarray, course: float, distance: float, near: float = 1.5
) -> ndarray | None:
    """What is needed for `distance` [m] of the rest of the lane through `point` (within `near` metres) that bends least off `course`, or None."""
    best, least = None, np.inf
    for lane in lanes:
        points = lane.points[:, :2].astype(float)
        # Cheap box test first: maps have hundreds of lanes.
        if np.any(points.min(0) > point + near) or np.any(points.max(0) < point - near):
            continue
        distinct = np.concatenate([[True], np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-6])
        points = points[distinct]
        if len(points) < 2:
            continue
        along = arc_length(points)
        s = follow(points, point - np.array([[1.0], [0.0]]) * np.array([math.cos(course), math.sin(course)]))[
            0
        ][-1]
        if along[-1] - s < 1.0 or np.linalg.norm(_nearest(points, point) - point) > near:
            continue
        until = min(along[-1], s + 2 * distance + MERGE)  # lanes may be as long as their file says
        at = np.concatenate([np.arange(s, until, SPACING), [until]])
        rest = np.stack([np.interp(at, along, points[:, k]) for k in range(2)], -1)
        ahead = rest[min(len(rest) - 1, 10)] - rest[0]
        bend = abs(math.remainder(math.atan2(ahead[1], ahead[0]) - course, math.tau))
        if bend < min(np.radians(30.0), least):
            best, least = rest, bend
    return best


def route_of_track(
    center: Float[ndarray, "time 2"],
    heading: Float[ndarray, "time"],
    valid: Bool[ndarray, "time"],
    length: float,
    lanes: list[MapFeature],
    tolerance: float = 0.1,
) -> tuple[Float[ndarray, "n 2"], tuple[str, ...]]:
    """The route of a recorded car: its rear-axle path, cleaned, smoothed and prolonged.

    Args:
        center: Box centres [m].
        heading: [rad].
        valid: Which times count; at least one.
        length: Length of the box [m].
        lanes: Lanes to go on along after the recording's end.
        tolerance: Largest distance between the driven and the smoothed path [m].

    Returns:
        Way points [m], 0.5 m apart, and notes on what was done.
    """
    axle = rear_axle_of(center[valid], heading[valid], length)
    driven = drop_standing(axle, heading[valid])
    if arc_length(driven)[-1] < 1.0:
        turn = heading[valid][0]
        ahead = np.arange(0.0, STANDSTILL_ROUTE + SPACING / 2, SPACING)[:, None]
        path = axle[0] + ahead * np.array([np.cos(turn), np.sin(turn)])
        stands = np.ptp(center[valid], axis=0).max() <= REVERSING
        what = "stands" if stands else "never drives forward"
        return path, (f"the ego {what}: its route is {STANDSTILL_ROUTE:g} m straight ahead",)
    path, followed = prolong(smooth(driven, tolerance / 2), lanes)
    # Once more over the whole, because the joint to the lane and the vertices of the lane are kinks.
    path = smooth(path, tolerance / 2, reach=8.0)
    way = "along its lane" if followed else "straight on"
    return path, (
        f"route: the ego's rear-axle path, smoothed within {tolerance:g} m, and {EXTENSION:g} m {way} beyond "
        "the end of the recording",
    )


def lane_width_along(route: Float[ndarray, "n 2"], lanes: list[MapFeature], default: float = 3.6) -> float:
    """Median width [m] of the lanes that state one and run within 1.5 m of the route, else `default`."""
    widths = []
    probes = resample(route, 5.0)
    for lane in lanes:
        if lane.width is None or len(lane.points) < 2:
            continue
        points = lane.points[:, :2].astype(float)
        near = np.all((probes > points.min(0) - 2.0) & (probes < points.max(0) + 2.0), axis=1)
        if near.any():
            s, left = project(points, probes[near])
            inside = (np.abs(left) < 1.5) & (s > 0) & (s < arc_length(points)[-1])
            widths += [lane.width] * int(inside.sum())
    return float(np.median(widths)) if widths else default
