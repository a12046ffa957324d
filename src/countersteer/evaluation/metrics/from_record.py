"""Our evaluation's records as drives that scores can read."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics.contacts import boxes_touch
from countersteer.evaluation.metrics.drive import Drive, Lane, Motion, Plans, RedLight, Road
from countersteer.evaluation.records import DriveRecord
from countersteer.geometry import polygons, polylines
from countersteer.scenarios.levels import ground_below, on_level
from countersteer.scenarios.scenario import MapKind, RoadMap, Scenario, SignalState, Tracks
from countersteer.worlds.interface import TerminationReason

__all__ = ["drive_of_record", "road_of_map"]

_SIGNAL_REACH = 2.0  # as far aside as simulations look for a stop point [m]
_SIGNAL_DEPTH = 5.0
"""How much of the lane behind a stop point counts as closed by its light [m]."""
_TOGETHER = 1.0
"""By so much the distance to what hangs on a car may change [m]."""
_STRETCH = 10.0
"""A route that goes along a lane for so long is the lane's, also if it comes back the other way [m]."""
_LONGEST_GAP = 1.0
"""Between two poses of the recorded driver he is taken to have gone straight [s]; what follows a longer gap does not count."""


def road_of_map(
    road: RoadMap, route: Float[ndarray, "n 2"] | None = None, *, lane_width: float = 3.6
) -> Road:
    """A map as scores read it.

    A lane's area is its polygon where the map has one of the same id, else a ribbon of its width; where that would lie
    upon itself, in a circle or a loop, the lane comes in pieces of a quarter turn. The map's drivable areas are
    drivable, or, where it has none, all lanes and driveways. Edges are turned so that the lanes lie on their left. Polygons of fewer than three points have no inside and are left out. Maps say nothing about
    intersections, so there are none.

    Args:
        road: The map.
        route: A lane that it runs through in the lane's direction is on the route, also if it comes back through it the
            other way; None: all are.
        lane_width: For lanes that state none [m].
    """

    def polygons_of(*kinds: MapKind) -> dict[str, ndarray]:
        return {f.id: f.points[:, :2] for f in road.of_kind(*kinds) if len(f.points) > 2}

    areas = polygons_of(MapKind.LANE_AREA)
    lanes = []
    for feature in road.of_kind(MapKind.LANE):
        line = polylines.close(polylines.distinct(feature.points[:, :2]))
        if len(line) < 2:
            continue
        pieces = [areas[feature.id]] if feature.id in areas else _ribbons(line, feature.width or lane_width)
        cuts = [0, *(len(piece) // 2 - 1 for piece in pieces[:-1])]
        for piece, (area, start) in enumerate(zip(pieces, np.cumsum(cuts).tolist(), strict=True)):
            part = line[start : start + len(area) // 2] if len(pieces) > 1 else line
            used = route is None or _runs_through(route, area, part)
            after = (f"{feature.id}.{piece + 1}",) if piece + 1 < len(pieces) else ()
            name = f"{feature.id}.{piece}" if piece else feature.id
            lanes.append(Lane(name, area, part, used, after, speed_limit=feature.speed_limit))
    ground = [*polygons_of(MapKind.DRIVABLE_AREA).values()]
    if not ground:
        ground = [lane.area for lane in lanes] + [*polygons_of(MapKind.DRIVEWAY).values()]
    edges = [f.points[:, :2] for f in road.of_kind(MapKind.ROAD_EDGE) if len(f.points) > 1]
    middles = np.concatenate([lane.center_line for lane in lanes]) if lanes else np.zeros((0, 2))
    return Road(tuple(ground), tuple(lanes), (), tuple(_facing(edge, middles) for edge in edges))


def _ribbons(line: ndarray, width: float) -> list[ndarray]:
    """The ribbon of a width along a line, right side first, cut into pieces where it would lie upon itself."""
    right, left = polylines.offset(line, -width / 2), polylines.offset(line, width / 2)
    cuts, course = [0], polylines.headings(line)
    if np.ptp(course) > 1.05 * np.pi and _meets_itself(line, width):
        for k in range(len(line) - 1):
            if abs(course[k] - course[cuts[-1]]) >= np.pi / 2 and k > cuts[-1]:
                cuts.append(k)
    ends = [*cuts[1:], len(line) - 1]
    return [
        np.concatenate([right[a : b + 1], left[a : b + 1][::-1]]) for a, b in zip(cuts, ends, strict=True)
    ]


def _meets_itself(line: ndarray, width: float) -> bool:
    """Whether a line comes within a width of another part of itself."""
    probes = polylines.resample(line, width / 2)
    apart = np.abs(np.subtract.outer(*(2 * [np.arange(len(probes))]))) * width / 2
    near = np.linalg.norm(probes[:, None] - probes, axis=-1) < width
    return bool((near & (apart > 4 * width)).any())


def _runs_through(route: ndarray, area: ndarray, line: ndarray) -> bool:
    inside = polygons.contains(area, route)
    if not inside.any():
        return False
    s, _ = polylines.follow(line, route[inside])
    ahead = s - np.minimum.accumulate(s)
    return len(s) < 2 or bool(s[-1] > s[0] or ahead.max() > _STRETCH)


def _facing(edge: ndarray, middles: ndarray) -> ndarray:
    if not len(middles):
        return edge
    gaps = np.linalg.norm(middles - edge[len(edge) // 2], axis=-1)
    return edge if polygons.side_distance(edge, middles[gaps.argmin()]) < 0 else edge[::-1].copy()


def _actors(record: DriveRecord, last: int) -> Tracks:
    rows = record.actors[:last, record.others].transpose(1, 0, 2)  # [actor time 7]
    valid = (rows[..., 6] >= 0) & ~_of_its_rig(record, last)[:, None]
    first = valid.argmax(1)
    picked = rows[np.arange(len(rows)), first]
    velocity = np.zeros((*valid.shape, 2))
    for actor, seen in enumerate(valid):
        # Differences only between neighbours that were both seen.
        ticks = np.flatnonzero(seen)
        for run in np.split(ticks, np.flatnonzero(np.diff(ticks) > 1) + 1):
            if len(run) > 1:
                velocity[actor, run] = np.gradient(rows[actor, run, :2], record.times[run], axis=0)
    z = rows[..., 5] / 2 if record.heights is None else record.heights[:last, record.others].T
    return Tracks(
        ids=tuple(f"actor-{slot}" for slot in record.others),
        kind=np.maximum(picked[:, 6], 0).astype(np.int64),
        position=np.concatenate([rows[..., :2], z[..., None]], -1),
        heading=rows[..., 2].copy(),
        velocity=velocity,
        size=picked[:, 3:6].copy(),
        valid=valid,
    )


def _of_its_rig(record: DriveRecord, last: int) -> Bool[ndarray, "actor"]:
    """Whose box was upon the car's when first seen, was no collision to the world and stays with it: a trailer, or itself twice."""
    found = np.zeros(len(record.others), bool)
    for actor, slot in enumerate(record.others.tolist()):
        seen = record.actors[:last, slot, 6] >= 0
        tick = int(seen.argmax())
        own, box = record.actors[tick, [record.slot, slot]].astype(float)
        if not seen.any() or np.hypot(*(own - box)[:2]) > own[3] + box[3]:
            continue
        apart = record.actors[:last, slot, :2] - record.actors[:last, record.slot, :2]
        if np.ptp(np.hypot(*apart[seen].T)) > _TOGETHER:
            continue
        if (
            record.heights is not None
            and np.ptp(record.heights[tick, [record.slot, slot]]) > (own[5] + box[5]) / 2
        ):
            continue
        # Rounding is no contact; what happened on the way to a tick is noted at the one before.
        pair = [(one[None, :2], one[None, 2], 0.999 * one[None, 3:5]) for one in (own, box)]
        found[actor] = (
            boxes_touch(*pair[0], *pair[1])[0] and not record.collision[max(tick - 1, 0) : tick + 2].any()
        )
    return found


def _expert(scenario: Scenario, times: ndarray) -> Motion | None:
    """The recorded driver at those of the times that he was recorded at, from the first on; None without two of them."""
    if scenario.ego is None:
        return None
    tracks = scenario.tracks
    seen = np.flatnonzero(tracks.valid[scenario.ego])
    at = scenario.times[seen]
    # What lies in a longer gap is not known.
    gaps = np.flatnonzero(np.diff(at) > _LONGEST_GAP)
    until = int(gaps[0]) + 1 if len(gaps) else len(at)
    if until < 2 or seen[0] > 0:
        return None
    seen, at = seen[:until], at[:until]
    times = times[times <= at[-1] + 1e-6]
    if len(times) < 2:
        return None
    heading = np.unwrap(tracks.heading[scenario.ego, seen])
    ahead = Drive.usual_ahead(float(tracks.size[scenario.ego, 0]))
    axle = tracks.position[scenario.ego, seen, :2] - ahead * np.stack([np.cos(heading), np.sin(heading)], -1)
    place = np.stack([np.interp(times, at, axle[:, axis]) for axis in (0, 1)], -1)
    return Motion.from_poses(times, place, np.interp(times, at, heading))


def _red_lights(record: DriveRecord, last: int) -> tuple[RedLight, ...]:
    signals = record.scenario.signals
    lights = []
    for k, state in enumerate(record.lights[:, :last]):
        heading, red = signals.heading[k], state == SignalState.STOP
        if np.isnan(heading):
            # Nobody knows whose it is: the car's, if its path passes the stop point.
            at, aside = polylines.project(record.path, signals.stop_point[k : k + 1, :2])
            heading = np.interp(at[0], polylines.arc_length(record.path), polylines.headings(record.path))
            red = red & (np.abs(aside[0]) < _SIGNAL_REACH)
        middle = signals.stop_point[k, :2] + _SIGNAL_DEPTH / 2 * np.array([np.cos(heading), np.sin(heading)])
        size = np.array([_SIGNAL_DEPTH, record.scenario.lane_width])
        lights.append(RedLight(polygons.rectangle(middle, np.array(heading), size), red))
    return tuple(lights)


_SEEN_ENDS = (
    TerminationReason.COLLISION,
    TerminationReason.OFF_ROAD,
    TerminationReason.RED_LIGHT,
    TerminationReason.WRONG_WAY,
)
"""Ends that show in the state that follows the last tick."""


def _plans(record: DriveRecord, last: int) -> Plans | None:
    if record.plan_times is None:
        return None
    planned = record.plan[:last]
    steps = np.diff(planned, axis=1, prepend=record.position[:last, None])
    course = np.arctan2(steps[..., 1], steps[..., 0])
    # A plan that does not move has no course; the car's heading stands in.
    course = np.where(np.linalg.norm(steps, axis=-1) > 1e-3, course, record.heading[:last, None])
    return Plans(np.arange(last), record.plan_times, planned, course)


def drive_of_record(record: DriveRecord) -> Drive:
    """What a record shows, until the drive ended.

    Lateral acceleration is speed squared times curvature; others' velocities are differences of where they were. A
    light closes its lane for 5 m behind its stop point. The expert is the scenario's recorded ego for as long as it was
    recorded, also where the drive ended earlier; what was driven after it was lost from sight is left out. A drive to a
    goal has no expert. Plans are left out where the record does not say when they are meant for.

    Args:
        record: A drive to a goal, or one that began at the start of its scenario.

    Raises:
        UserError: If the drive ended within two ticks.
    """
    last = int(record.alive.sum())
    # The end of a recording shows in it too; what follows the last tick before a goal belongs to another drive.
    ends = _SEEN_ENDS if record.goal is not None else (*_SEEN_ENDS, TerminationReason.TIME)
    if last < len(record.times) and record.cause[-1] in ends:
        last += 1
    expert = _expert(record.scenario, record.times) if record.goal is None else None
    if expert is not None:
        last = min(last, len(expert.heading))
    if last < 2:
        raise UserError(
            "a drive that ended at once cannot be scored",
            got=f"{last} ticks",
            expected="at least two ticks before it ended",
        )
    times = record.times[:last]
    speed, curvature, heading = record.speed[:last], record.curvature[:last], record.heading[:last]
    yaw_rate = speed * curvature
    ego = Motion(
        position=record.position[:last],
        heading=heading,
        velocity=np.stack([speed, np.zeros(last)], -1),
        acceleration=np.stack([record.acceleration[:last], speed * yaw_rate], -1),
        yaw_rate=yaw_rate,
        yaw_acceleration=np.gradient(yaw_rate, times),
    )
    scenario, vertical = record.scenario, None
    if record.heights is not None:
        half = record.actors[0, record.slot, 5] / 2
        vertical = record.heights[:last, record.slot, None] + np.array([-half, half])
    road = scenario.road
    if scenario.ego is not None and record.goal is None:
        road = on_level(road, ground_below(scenario, scenario.ego))
    return Drive(
        times=times,
        ego=ego,
        size=record.size,
        ahead=Drive.usual_ahead(record.size[0]),
        actors=_actors(record, last),
        road=road_of_map(road, record.path, lane_width=scenario.lane_width),
        route=record.path,
        red_lights=_red_lights(record, last),
        plans=_plans(record, last),
        expert=expert,
        vertical=vertical,
    )
