"""What a recording states, held against how its actors move: units, clocks, sizes, limits, precision.

All formats pass through here (`assembly.assemble`). A unit that only one reading makes drivable is converted, what
is one value among many is mended or left out, and both are noted; what cannot be told is refused. Sound
recordings pass unchanged: the bounds are twice as wide as what some forty recorded scenes of seven data sets hold.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.angles import radians
from countersteer.data.readers.units import Motion, metres, seconds
from countersteer.errors import UserError
from countersteer.geometry.poses import wrap_angle
from countersteer.scenarios.routes import rear_axle_of
from countersteer.scenarios.scenario import ActorKind, MapFeature, MapKind, Signals, Tracks

__all__ = ["USUAL_SIZE", "key_frame_interval", "plausible"]

USUAL_SIZE = {
    ActorKind.VEHICLE: (4.6, 1.9, 1.6),
    ActorKind.PEDESTRIAN: (0.6, 0.6, 1.75),
    ActorKind.CYCLIST: (1.8, 0.7, 1.75),
    ActorKind.STATIC: (0.5, 0.5, 1.0),
}
"""Length, width and height [m] of actors whose source states none."""

_LARGEST = {
    ActorKind.VEHICLE: (100.0, 15.0, 15.0),  # a tram is 75 m long
    ActorKind.PEDESTRIAN: (10.0, 10.0, 10.0),
    ActorKind.CYCLIST: (10.0, 10.0, 10.0),
    ActorKind.STATIC: (100.0, 100.0, 100.0),
}
_SMALLEST_MAP = 1.0  # [m]
_LANE_WIDTHS = (1.0, 25.0)  # a converter's sum of both sides is 21.7 m where lanes fan out [m]
_SPEED_LIMITS = (1.0, 45.0)  # the highest that any road has is 160 km/h [m/s]
_LONGEST_GAP = 1.0  # between two steps, or five usual ones if they are longer [s]
_UNEVEN = 1.15  # steps longer than this many usual ones, or shorter than 1/1.15, are worth a word
# Steps in which positions may come [m].
_GRIDS = (5.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.2, 0.125, 0.1, 0.0625, 0.05)
_STRAIGHT = 2e-3  # from the middle of its neighbours; float32 of map coordinates is half a millimetre off [m]
# A smooth recording has tight bounds and a rough one wide bounds, between these.
_APART = (1.0, 3.0)  # stated velocities from those of positions [m/s]
_HARDEST = (30.0, 60.0)  # change of velocity of a vehicle between two steps [m/s^2]
_TREMBLING = 25.0  # what a third of a vehicle's changes of velocity exceed [m/s^2]
_CLIMB = (2.5, 8.0)  # [m/s]
_SPIN = (1.4, 3.0)  # of a vehicle or cyclist between two steps [rad/s]
_USUAL = 16.0  # times what nine in ten steps keep to
_UNFOLDED = 1.0  # a lane bends by less than this and back at the next point [rad]


def plausible(
    path: Path,
    times: Float[ndarray, "time"],
    tracks: Tracks,
    features: list[MapFeature],
    signals: Signals,
    ego: int | None,
    notes: list[str],
) -> tuple[Float[ndarray, "kept"], Tracks, list[MapFeature], Signals]:
    """The recording in seconds, metres and radians, whole in time, with sizes and limits that can be.

    Args:
        path: What was read.
        times: Increasing.
        tracks: In the source's frame; may hold NaN where valid, which is not judged here.
        features: In the source's frame.
        signals: In the source's frame.
        ego: Index of the ego.
        notes: What is converted, mended, left out or doubtful is added.

    Raises:
        UserError: Positions, velocities and sizes contradict each other, and no one unit explains it.
    """
    times, factor = seconds(times, tracks.position, tracks.valid, notes)
    if factor != 1:
        ratios = Motion.of(times, tracks).ratios() * factor
        if len(ratios) and 0.9 < np.median(ratios) < 1.1:  # the reader took them from positions
            tracks = dataclasses.replace(tracks, velocity=tracks.velocity / factor)
    times, tracks, signals = _longest_piece(times, tracks, signals, notes)
    if len(times) < 2:
        return times, tracks, features, signals  # refused for that
    tracks, length = metres(path, times, tracks, notes)
    if length != 1:
        features = [
            dataclasses.replace(one, points=one.points * length, width=one.width and one.width * length)
            for one in features
        ]
        signals = dataclasses.replace(signals, stop_point=signals.stop_point * length)
    _check_map(path, features)
    lanes = [one.points for one in features if one.kind == MapKind.LANE]
    tracks = radians(path, times, tracks, lanes, notes)
    tracks = _with_sizes(tracks, notes)
    features = _with_limits(features, notes)
    _say_precision(path, times, tracks, notes)
    _say_key_frames(times, tracks, ego, notes)
    _say_disagreement(times, tracks, notes)
    _say_spikes(features, notes)
    return times, tracks, features, signals


def _check_map(path: Path, features: list[MapFeature]) -> None:
    """Refuse a map whose roads are all within a step: degrees of latitude, or kilometres."""
    points = [one.points[:, :2] for one in features if one.kind in (MapKind.LANE, MapKind.ROAD_EDGE)]
    if not points:
        return
    span = np.ptp(np.concatenate(points), axis=0).max()
    if 0 < span < _SMALLEST_MAP:
        raise UserError(
            f"{path}: the map is not in metres",
            got=f"{len(points)} lanes and edges within {span:.2g} 'm'",
            expected="metres, not degrees of latitude and longitude",
            fix="project positions and map into a plane in metres",
        )


def _longest_piece(
    times: ndarray, tracks: Tracks, signals: Signals, notes: list[str]
) -> tuple[ndarray, Tracks, Signals]:
    """The most steps without a gap in time; the states beside a gap go too, velocities there may span it."""
    step = np.diff(times)
    usual = float(np.median(step))
    gaps = np.flatnonzero(step > max(_LONGEST_GAP, 5 * usual))
    if not len(gaps):
        if (uneven := (step > _UNEVEN * usual) | (step < usual / _UNEVEN)).any():
            notes.append(
                f"{int(uneven.sum())} of {len(step)} steps are uneven: {step.min():.3g} to {step.max():.3g} s, "
                f"the usual one is {usual:.3g} s"
            )
        return times, tracks, signals
    ends = [-1, *gaps.tolist(), len(times) - 1]
    pieces = [
        slice(before + 1 + (before >= 0), after + 1 - (after < len(times) - 1))
        for before, after in itertools.pairwise(ends)
    ]
    kept = max(pieces, key=lambda piece: piece.stop - piece.start)
    if kept.stop - kept.start < 2:
        kept = slice(0, max(kept.stop - kept.start, 0))
    notes.append(
        f"the clock jumps or frames are missing in {len(gaps)} places, by up to {step.max():.3g} s where steps are "
        f"{usual:.3g} s: of {len(times)} steps the {kept.stop - kept.start} from {kept.start} on are kept"
    )
    return times[kept], tracks.at(kept), signals.at(kept)


def _with_sizes(tracks: Tracks, notes: list[str]) -> Tracks:
    """Usual extents where the stated ones are none of a thing on a road; lengths along vehicles."""
    size = tracks.size[tracks.valid.any(1) & (tracks.kind == ActorKind.VEHICLE)]
    across = (size[:, 0] > 0) & (size[:, 0] < 0.8 * size[:, 1])
    if across.sum() > len(size) / 2:
        notes.append("lengths and widths are swapped in the source: put right")
        wheeled = np.isin(tracks.kind, (ActorKind.VEHICLE, ActorKind.CYCLIST))
        swapped = (wheeled & (tracks.size[:, 0] < tracks.size[:, 1]))[:, None]
        tracks = dataclasses.replace(tracks, size=np.where(swapped, tracks.size[:, [1, 0, 2]], tracks.size))
    usual = np.array([USUAL_SIZE[ActorKind(kind)] for kind in tracks.kind.tolist()]).reshape(-1, 3)
    most = np.array([_LARGEST[ActorKind(kind)] for kind in tracks.kind.tolist()]).reshape(-1, 3)
    good = (tracks.size > 0) & (tracks.size <= most)
    bad = tracks.valid.any(axis=1, keepdims=True) & ~good
    if not bad.any() or (bad.sum(0).max() > 1 and (2 * bad.sum(0) > tracks.valid.any(1).sum()).any()):
        return tracks  # if most are, sizes are in another unit, which is refused
    actor, axis = np.argwhere(bad)[0].tolist()
    notes.append(
        f"{int(bad.sum())} lengths, widths or heights are none of a thing on a road "
        f"({tracks.size[actor, axis]:g} m of {tracks.ids[actor]!r}): usual ones are assumed"
    )
    return dataclasses.replace(tracks, size=np.where(bad, usual, tracks.size))


def _with_limits(features: list[MapFeature], notes: list[str]) -> list[MapFeature]:
    """Lanes without the widths and speed limits that no lane has."""

    def bad(value: float | None, bounds: tuple[float, float]) -> bool:
        return value is not None and not bounds[0] <= value <= bounds[1]  # true for NaN

    widths = {one.id: one.width for one in features if bad(one.width, _LANE_WIDTHS)}
    stated = np.array([one.speed_limit for one in features if one.speed_limit is not None], float)
    limits = {one.id: one.speed_limit for one in features if bad(one.speed_limit, _SPEED_LIMITS)}
    other_unit = len(limits) > max(len(stated) / 4, 1) and ((stated >= 5) & (stated <= 200)).all()
    if other_unit:  # 30 is as doubtful as 70 beside it
        limits = {one.id: one.speed_limit for one in features if one.speed_limit is not None}
    for what, found, why in (
        ("widths", widths, f"not {_LANE_WIDTHS[0]:g} to {_LANE_WIDTHS[1]:g} m"),
        ("speed limits", limits, f"not {_SPEED_LIMITS[0]:g} to {_SPEED_LIMITS[1]:g} m/s"),
    ):
        if found:
            name, value = max(found.items(), key=lambda item: abs(item[1] or 0.0))
            unit = ", as if in km/h or mph" if found is limits and other_unit else ""
            notes.append(f"{what} of {len(found)} lanes left out: {why} ({value:g} of {name!r}){unit}")
    if not (widths or limits):
        return features
    return [
        dataclasses.replace(
            one,
            width=None if one.id in widths else one.width,
            speed_limit=None if one.id in limits else one.speed_limit,
        )
        for one in features
    ]


def _grid(points: Float[ndarray, "time"]) -> float:
    """The step [m] of which all coordinates are multiples, 0 if there is none; for a path that moves along them."""
    if np.ptp(points) < 5.0:
        return 0.0
    bend = float(np.sqrt((np.diff(points, n=2) ** 2).mean()))
    for grid in _GRIDS:
        share = points / grid
        if (np.abs(share - np.rint(share)) < 1e-3 + 6e-8 * np.abs(share)).all():
            return grid if bend > 0.3 * grid else 0.0  # a steady 10 m/s is on a grid too
    return 0.0


def _paths(tracks: Tracks) -> list[tuple[int, ndarray]]:
    """Index and times of the longest unbroken observation of each actor that was seen at finite places."""
    seen = tracks.valid & np.isfinite(tracks.position).all(-1)
    found = []
    for actor in np.flatnonzero(seen.sum(1) >= 10).tolist():
        pieces = np.split(
            np.flatnonzero(seen[actor]), np.flatnonzero(np.diff(np.flatnonzero(seen[actor])) > 1) + 1
        )
        if len(longest := max(pieces, key=len)) >= 10:
            found.append((actor, longest))
    return found


def _say_precision(path: Path, times: ndarray, tracks: Tracks, notes: list[str]) -> None:
    grids = {
        tracks.ids[actor]: grid
        for actor, ticks in _paths(tracks)
        if (grid := max(_grid(tracks.position[actor, ticks, axis]) for axis in (0, 1)))
    }
    if not grids:
        return
    name = max(grids, key=lambda name: grids[name])
    step = float(np.median(np.diff(times)))
    said = f"positions of {len(grids)} of {len(tracks.ids)} actors come in steps of up to {grids[name]:g} m"
    if grids[name] > 1.0:
        raise UserError(
            f"{path}: {said}, so nobody's speed is known",
            got=f"track {name!r}",
            expected="steps of at most 1 m",
            fix="store positions as float64, or relative to a place nearby",
        )
    notes.append(
        f"{said} (float32 of large coordinates?): their speeds are {grids[name] / step:.2g} m/s uncertain"
    )


def key_frame_interval(
    times: Float[ndarray, "n"], points: Float[ndarray, "n 2"], least: float = 5.0
) -> float | None:
    """Time between key frames [s] if a path goes straight and steadily between them, else None.

    Args:
        times: Of an unbroken observation.
        points: Where the actor was.
        least: Shorter paths are not judged [m].
    """
    if len(times) < 10 or float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum()) < least:
        return None
    before, after = np.diff(times)[:-1, None], np.diff(times)[1:, None]
    between = (points[:-2] * after + points[2:] * before) / (before + after)
    kinks = np.flatnonzero(np.linalg.norm(points[1:-1] - between, axis=1) > _STRAIGHT) + 1
    if len(kinks) < 3 or len(kinks) > 0.6 * len(times):
        return None
    # A key frame between two steps bends the path at both.
    groups = np.split(kinks, np.flatnonzero(np.diff(kinks) > 1) + 1)
    apart = np.diff([times[group].mean() for group in groups])
    if len(apart) < 4 or max(len(group) for group in groups) > 2:
        return None
    interval, usual = float(apart.min()), float(np.median(np.diff(times)))
    count = np.rint(apart / interval)
    interval = float(apart.sum() / count.sum())
    least = 0.12 if interval > 3.5 * usual else 0.05  # short intervals meet by chance
    uneven = np.abs(apart / interval - count) > least
    return None if interval < 1.9 * usual or uneven.any() else interval


def _say_key_frames(times: ndarray, tracks: Tracks, ego: int | None, notes: list[str]) -> None:
    found: dict[int, float] = {}
    for actor, ticks in _paths(tracks):
        points, turn = tracks.position[actor, ticks, :2], tracks.heading[actor, ticks]
        interval = key_frame_interval(times[ticks], points)
        if interval is None and tracks.kind[actor] == ActorKind.VEHICLE:
            axle = rear_axle_of(points, turn, float(tracks.size[actor, 0]))
            interval = key_frame_interval(times[ticks], axle)
        if interval is not None:
            found[actor] = interval
    if ego in found or len(found) > 2:  # one or two of a crowd bend evenly by chance
        notes.append(
            f"positions of {len(found)} of {len(tracks.ids)} actors are interpolated between key frames "
            f"{np.median(list(found.values())):.3g} s apart"
        )


def _say_disagreement(times: ndarray, tracks: Tracks, notes: list[str]) -> None:
    """Notes on states that do not follow from their neighbours."""
    motion, step = Motion.of(times, tracks), np.diff(times)
    vehicle = (tracks.kind == ActorKind.VEHICLE)[:, None]
    wheeled = vehicle | (tracks.kind == ActorKind.CYCLIST)[:, None]
    apart = np.linalg.norm(motion.moved - motion.stated, axis=-1)
    three = motion.both[:, 1:] & motion.both[:, :-1]
    jolt = np.linalg.norm(np.diff(motion.moved, axis=1), axis=-1) / ((step[1:] + step[:-1]) / 2)
    height = np.abs(np.diff(np.nan_to_num(tracks.position[..., 2]), axis=1)) / step
    turn = np.abs(wrap_angle(np.diff(np.nan_to_num(tracks.heading), axis=1)))
    for values, where, bounds, what, unit in (
        (apart, motion.both, _APART, "stated velocities differ from those of positions", "m/s"),
        (jolt, three & vehicle, _HARDEST, "positions of vehicles jump off their paths", "m/s^2"),
        (height, motion.both, _CLIMB, "heights jump", "m/s"),
        (turn / step, motion.both & wheeled, _SPIN, "headings of vehicles and cyclists jump", "rad/s"),
    ):
        if not where.any():
            continue
        if values is jolt and (tremble := _trembling(jolt, where)):
            notes.append(
                f"positions of {len(tremble)} of {len(jolt)} actors tremble, {tracks.ids[tremble[0]]!r} first: a third of "
                f"their steps imply more than {_TREMBLING:g} m/s^2 (coarse or noisy positions)"
            )
        most = float(np.clip(_USUAL * np.percentile(values[where], 90), *bounds))
        bad = np.asarray(where & (values > most))
        if bad.any():
            worst = np.where(where, values, 0.0)
            actor, tick = np.unravel_index(worst.argmax(), worst.shape)
            notes.append(
                f"{what} at {int(bad.sum())} steps of {int(bad.any(1).sum())} of {len(bad)} actors "
                f"(up to {worst.max():.3g} {unit}, {tracks.ids[int(actor)]!r} at {times[tick] - times[0]:.1f} s)"
            )


def _trembling(jolt: Float[ndarray, "actor step"], where: ndarray) -> list[int]:
    """Actors of whose steps a third change their speed as no vehicle can."""
    judged = np.flatnonzero(where.sum(1) >= 10).tolist()
    return [actor for actor in judged if np.percentile(jolt[actor, where[actor]], 70) > _TREMBLING]


def _say_spikes(features: list[MapFeature], notes: list[str]) -> None:
    """A note on lanes with a point beside them: a sharp bend and one back."""
    found = []
    for lane in features:
        step = np.diff(lane.points[:, :2], axis=0)
        length = np.linalg.norm(step, axis=1)
        if lane.kind != MapKind.LANE or len(step) < 3 or not np.isfinite(length).all():
            continue
        bend = wrap_angle(np.diff(np.arctan2(step[:, 1], step[:, 0])))
        sharp = (np.abs(bend) > _UNFOLDED) & (np.minimum(length[1:], length[:-1]) > 0.5)
        back = bend[1:] * bend[:-1] < -0.4 * np.maximum(np.abs(bend[1:]), np.abs(bend[:-1]))
        if (sharp[1:] & back).any() or (sharp[:-1] & back).any():
            found.append(lane.id)
    if found:
        notes.append(f"{len(found)} lanes have points beside their course, {found[0]!r} first")
