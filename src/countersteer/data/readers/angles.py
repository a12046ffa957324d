"""Headings in radians, whatever unit and direction a recording states them in, by where its actors go."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.units import EVIDENCE, MOVING, Motion
from countersteer.errors import UserError
from countersteer.geometry.poses import wrap_angle
from countersteer.scenarios.scenario import ActorKind, Tracks

__all__ = ["radians"]

_ANGLES = {"": 1.0, "in degrees": np.pi / 180}
_RARE_ANGLES = {"in gradians": np.pi / 200, "in mils": np.pi / 3200, "in turns": 2 * np.pi}
_DIRECTIONS = {
    "": (0.0, 1.0),
    " clockwise from north": (np.pi / 2, -1.0),
    " clockwise from +x": (0.0, -1.0),
    " counter-clockwise from north": (np.pi / 2, 1.0),
}
_ON_LANE = 3.0  # from a lane's middle [m]


def radians(
    path: Path,
    times: Float[ndarray, "time"],
    tracks: Tracks,
    lanes: Sequence[Float[ndarray, "_ 3"]],
    notes: list[str],
) -> Tracks:
    """Tracks with headings in radians, counter-clockwise from +x, by where wheeled actors go.

    If all go one way and several conventions fit, those who stand have to lie along the lanes. Where nothing
    moves, a heading beyond a full turn means degrees.

    Raises:
        UserError: Several conventions fit, and they disagree about those who stand.
    """
    motion = Motion.of(times, tracks)
    seen = tracks.valid & np.isfinite(tracks.heading)
    heading = np.where(seen, tracks.heading, 0.0)
    moving = motion.both & (motion.moved_speed > MOVING) & seen[:, :-1]
    wheeled = moving & np.isin(tracks.kind, (ActorKind.VEHICLE, ActorKind.CYCLIST))[:, None]
    moving = wheeled if wheeled.any() else moving
    if not moving.any():
        if not (np.abs(heading) > 2.1 * np.pi).any():
            return tracks
        notes.append("headings are in degrees in the source")
        return dataclasses.replace(tracks, heading=np.radians(tracks.heading))
    course, turned = np.arctan2(motion.moved[..., 1], motion.moved[..., 0]), _conventions(heading)
    agreement = {name: float(np.cos(course - angle[:, :-1])[moving].mean()) for name, angle in turned.items()}
    if max(agreement.values()) < 0.9995:  # nothing fits all
        own = _in_one_convention(tracks, turned, course, moving, notes)
        if own is not tracks:
            return own
    usual = {name: value for name, value in agreement.items() if not name.startswith(tuple(_RARE_ANGLES))}
    best = max(usual, key=lambda name: usual[name])
    rare = max(agreement, key=lambda name: agreement[name])
    if agreement[best] < 0.995 and 1 - agreement[rare] < 0.25 * (1 - agreement[best]):
        best, usual = rare, {rare: agreement[rare]}  # a tenth beside degrees: only who turns far tells
    # 45 degrees read as radians is 13 degrees beside the course of 45 degrees: what fits far better is meant.
    if agreement[best] < 0.95 or agreement[""] > 0.99 or 1 - agreement[best] > 0.25 * (1 - agreement[""]):
        said = f"headings agree badly with the course of motion (mean cosine {agreement['']:.2f})"
        if agreement[""] < 0.5 and said not in notes:
            notes.append(said)
        return tracks
    rivals = [name for name in usual if usual[name] > agreement[best] - 0.02]
    if any((np.abs(wrap_angle(turned[name] - turned[best]))[seen] > 0.1).any() for name in rivals):
        along = {name: _along_lanes(tracks, turned[name], lanes) for name in rivals}
        order = sorted(rivals, key=lambda name: along[name], reverse=True)
        best = order[0]
        if not 1 - along[best] < 0.5 * (1 - along[order[1]]):  # NaN without lanes
            raise UserError(
                f"{path}: it cannot be told how headings are given",
                got=" or ".join(rival.strip() for rival in rivals),
                expected="radians, counter-clockwise from +x",
                fix="convert the file's headings",
            )
    notes.append(f"headings are {best.strip()} in the source")
    return dataclasses.replace(tracks, heading=np.where(seen, turned[best], tracks.heading))


def _conventions(heading: ndarray) -> dict[str, ndarray]:
    """Headings [rad, counter-clockwise from +x] by how they may be meant."""
    return {
        f"{unit}{direction}": offset + sign * heading * factor
        for unit, factor in (_ANGLES | _RARE_ANGLES).items()
        for direction, (offset, sign) in _DIRECTIONS.items()
    }


def _in_one_convention(
    tracks: Tracks, turned: dict[str, ndarray], course: ndarray, moving: ndarray, notes: list[str]
) -> Tracks:
    """Headings of those who alone state theirs otherwise than the rest, which is right; the same tracks if nobody does.

    Only who turns by far tells, and only if nothing else fits.
    """
    found: dict[int, str] = {}
    sound = False
    for actor in np.flatnonzero(moving.sum(1) >= EVIDENCE).tolist():
        to = course[actor, moving[actor]]
        fits = {
            name: float(np.cos(to - angle[actor, :-1][moving[actor]]).mean())
            for name, angle in turned.items()
        }
        best = max(fits, key=lambda name: fits[name])
        sound |= fits[""] > 0.99
        if fits[""] < 0.9 and fits[best] > 0.995 and np.ptp(np.unwrap(to)) > 0.5:
            found[actor] = best
    if not found or not sound:
        return tracks
    changed = tracks.heading.copy()
    for actor, name in found.items():
        changed[actor] = turned[name][actor]
    first = next(iter(found))
    notes.append(
        f"headings of {len(found)} of {len(tracks.ids)} actors are {found[first].strip()} in the source, unlike those of "
        f"others ({tracks.ids[first]!r} first)"
    )
    return dataclasses.replace(tracks, heading=changed)


def _along_lanes(tracks: Tracks, heading: ndarray, lanes: Sequence[ndarray]) -> float:
    """How well vehicles lie along the lanes they are on, either way: 1 along, -1 across, NaN if none is on one."""
    points = [lane[:-1, :2] for lane in lanes if len(lane) > 1]
    if not points:
        return float("nan")
    starts = np.concatenate(points)
    step = np.concatenate([np.diff(lane[:, :2], axis=0) for lane in lanes if len(lane) > 1])
    course = np.arctan2(step[:, 1], step[:, 0])
    found = []
    for actor in np.flatnonzero((tracks.kind == ActorKind.VEHICLE) & tracks.valid.any(1)).tolist():
        tick = int(tracks.valid[actor].argmax())
        apart = np.linalg.norm(starts - tracks.position[actor, tick, :2], axis=1)
        if apart.min() < _ON_LANE:
            found.append(np.cos(2 * (heading[actor, tick] - course[apart.argmin()])))
    return float(np.mean(found)) if found else float("nan")
