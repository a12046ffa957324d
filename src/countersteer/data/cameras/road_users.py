"""Road users that somebody annotated with boxes in a camera log, and where they are between annotations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.assembly import check_tracks
from countersteer.data.readers.units import velocity_of
from countersteer.errors import UserError
from countersteer.geometry.poses import wrap_angle
from countersteer.scenarios.scenario import ActorKind, Tracks

__all__ = ["AnnotatedBox", "RoadUsers"]

LONGEST_REACH = 0.25
"""A road user is carried on this long before its first and after its last annotation [s], or half the step
between annotations if that is shorter. Samples come at 2 Hz or more, so nobody blinks who has none but one."""

LONGEST_GAP = 1.6
"""Between annotations further apart than this it is not known where a road user was [s]."""


@dataclass(frozen=True)
class AnnotatedBox:
    """One road user at one moment.

    Attributes:
        time: Of the annotation [s, log time].
        id: Of the road user, the same at all times.
        kind: What it is.
        world_from_box: Pose; the box's axes are forward, left, up, its origin is its centre.
        size: Length, width, height [m].
        velocity: In the plane [m/s, world], or None if nobody stated it.
    """

    time: float
    id: str
    kind: ActorKind
    world_from_box: Float[ndarray, "4 4"]
    size: tuple[float, float, float]
    velocity: tuple[float, float] | None = None


@dataclass(frozen=True)
class RoadUsers:
    """Annotated road users; the recording car is not among them.

    Attributes:
        times: Annotated moments, increasing [s, log time].
        tracks: At these times, in the log's world; `valid` where annotated.
    """

    times: Float[ndarray, "moment"]
    tracks: Tracks

    @staticmethod
    def of(path: Path, boxes: Iterable[AnnotatedBox]) -> RoadUsers | None:
        """Boxes put together; None if there are none. A road user keeps its first kind and its median size.

        Args:
            path: What was read, for messages.
            boxes: In any order.

        Raises:
            UserError: A road user is at two places at once, jumps, or is not finite.
        """
        boxes = list(boxes)
        if not boxes:
            return None
        times, tick = np.unique([box.time for box in boxes], return_inverse=True)
        kinds: dict[str, ActorKind] = {}
        for box in boxes:
            kinds.setdefault(box.id, box.kind)
        ids = tuple(kinds)
        row_of = {name: row for row, name in enumerate(ids)}
        shape = len(ids), len(times)
        position, heading = np.zeros((*shape, 3)), np.zeros(shape)
        velocity, size, valid = np.full((*shape, 2), np.nan), np.zeros((*shape, 3)), np.zeros(shape, bool)
        for at, box in zip(tick.tolist(), boxes, strict=True):
            row = row_of[box.id]
            if valid[row, at]:
                raise UserError(
                    f"{path}: road user {box.id!r} is annotated twice at {box.time:.3f} s",
                    got="two boxes",
                    expected="one box a moment",
                    fix="check that the file is whole and was not joined from two",
                )
            valid[row, at] = True
            position[row, at] = box.world_from_box[:3, 3]
            heading[row, at] = np.arctan2(box.world_from_box[1, 0], box.world_from_box[0, 0])
            size[row, at] = box.size
            if box.velocity is not None:
                velocity[row, at] = box.velocity
        stated = np.isfinite(velocity).all(-1, keepdims=True)
        tracks = Tracks(
            ids=ids,
            kind=np.array([int(kind) for kind in kinds.values()]),
            position=position,
            heading=heading,
            velocity=np.where(stated, velocity, velocity_of(position, valid, times)),
            size=np.array([np.median(size[row, valid[row]], axis=0) for row in range(len(ids))]),
            valid=valid,
        )
        check_tracks(path, times, tracks)
        return RoadUsers(times, tracks)

    def at(self, times: Float[ndarray, "time"]) -> Tracks:
        """Where they are at other times [s, log time].

        Between two annotations a road user goes straight and turns the shorter way; see `LONGEST_REACH` for
        before and after. Elsewhere it is not valid.
        """
        tracks, count = self.tracks, len(times)
        steps = np.diff(self.times)
        reach = min(LONGEST_REACH, float(np.median(steps)) / 2) if len(steps) else LONGEST_REACH
        actors = len(tracks.ids)
        position, heading = np.zeros((actors, count, 3)), np.zeros((actors, count))
        velocity, valid = np.zeros((actors, count, 2)), np.zeros((actors, count), bool)
        for row in range(actors):
            known = np.flatnonzero(tracks.valid[row])
            moments = self.times[known]
            after = np.clip(np.searchsorted(moments, times), 0, len(known) - 1)
            before = np.maximum(np.where(moments[after] <= times, after, after - 1), 0)
            span = moments[after] - moments[before]
            share = np.where(span > 0, (times - moments[before]) / np.where(span > 0, span, 1.0), 0.0)
            first, second = known[before], known[after]
            beyond = np.where(span > 0, 0.0, times - moments[before])
            away = np.minimum(np.abs(times - moments[before]), np.abs(moments[after] - times))
            valid[row] = (away <= reach + 1e-9) | ((span > 0) & (span <= LONGEST_GAP))
            position[row] = _between(tracks.position[row], first, second, share)
            velocity[row] = _between(tracks.velocity[row], first, second, share)
            position[row, :, :2] += velocity[row] * beyond[:, None]
            turn = wrap_angle(tracks.heading[row, second] - tracks.heading[row, first])
            heading[row] = wrap_angle(tracks.heading[row, first] + share * turn)
        there = valid[..., None]
        return dataclasses.replace(
            tracks,
            position=np.where(there, position, 0.0),
            heading=np.where(valid, heading, 0.0),
            velocity=np.where(there, velocity, 0.0),
            valid=valid,
        )


def _between(values: ndarray, first: ndarray, second: ndarray, share: ndarray) -> ndarray:
    return values[first] + share[:, None] * (values[second] - values[first])
