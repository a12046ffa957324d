"""Contacts between the ego's box and others, and whose fault they are (nuPlan's classification)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.evaluation.metrics.drive import Drive
from countersteer.geometry import boxes, polygons, poses
from countersteer.scenarios.scenario import ActorKind

__all__ = [
    "AHEAD",
    "BEHIND",
    "STANDING",
    "Contact",
    "ContactKind",
    "RoundedGaps",
    "at_fault",
    "bearing",
    "boxes_touch",
    "classify",
    "first_contacts",
    "front_bumper_touches",
    "on_one_level",
    "rounded_gaps",
    "standing",
    "touching",
    "unavoidable",
]

STANDING = 0.05
"""Speed up to which a car or an actor counts as standing [m/s] (nuPlan `stopped_speed_threshold`)."""
AHEAD, BEHIND = np.deg2rad(30.0), np.deg2rad(150.0)
"""Bearings below and above which an actor is ahead and behind [rad] (nuPlan `is_agent_ahead/behind`)."""


class ContactKind(Enum):
    """How two boxes met, in nuPlan's order of precedence."""

    STANDING_EGO = "the ego stood"
    STANDING_ACTOR = "the actor stood"
    REAR = "from behind"
    FRONT = "with the front bumper"
    LATERAL = "sideways"


@dataclass(frozen=True)
class Contact:
    """The first tick at which the ego touched an actor.

    Attributes:
        tick: When.
        actor: Index in `Drive.actors`.
        kind: How.
    """

    tick: int
    actor: int
    kind: ContactKind


def boxes_touch(
    center_a: Float[ndarray, "*batch 2"],
    heading_a: Float[ndarray, "*batch"],
    size_a: Float[ndarray, "*batch 2"],
    center_b: Float[ndarray, "*batch 2"],
    heading_b: Float[ndarray, "*batch"],
    size_b: Float[ndarray, "*batch 2"],
) -> Bool[ndarray, "*batch"]:
    """`geometry.boxes.overlap` for numpy; boxes that only share a border count as apart.

    The references let them touch. No recorded drive has such a pair, up to rounding.
    """
    arrays = (center_a, heading_a, size_a, center_b, heading_b, size_b)
    return boxes.overlap(*(torch.from_numpy(np.array(array)) for array in arrays)).numpy()


def on_one_level(drive: Drive) -> Bool[ndarray, "time actor"]:
    """Whether each actor is neither above nor below the ego with air between them; True where nobody knows."""
    tracks = drive.actors
    if drive.vertical is None:
        return np.ones(tracks.valid.T.shape, bool)
    middle, half = tracks.position[..., 2].T, tracks.size[:, 2] / 2
    low, high = drive.vertical.T[..., None]
    return (middle - half <= high) & (middle + half >= low)


def touching(drive: Drive, *, scale: float = 1.0, flat: bool = False) -> Bool[ndarray, "time actor"]:
    """Whether the ego's box overlaps each actor's, both scaled by `scale`; False where one is not valid.

    Args:
        drive: The drive.
        scale: Of both boxes.
        flat: Whether who is above or below counts as touched, as in benchmarks that know no heights.
    """
    tracks = drive.actors
    shape = tracks.valid.T.shape
    size = np.array(drive.size) * scale
    ego = np.broadcast_to(drive.center[:, None], (*shape, 2))
    there = tracks.valid.T if flat else tracks.valid.T & on_one_level(drive)
    return there & boxes_touch(
        ego,
        np.broadcast_to(drive.ego.heading[:, None], shape),
        np.broadcast_to(size, (*shape, 2)),
        np.nan_to_num(tracks.position[..., :2].transpose(1, 0, 2)),
        np.nan_to_num(tracks.heading.T),
        np.broadcast_to(tracks.size[:, :2] * scale, (*shape, 2)),
    )


def front_bumper_touches(drive: Drive, tick: int, actor: int, *, rear: bool = False) -> bool:
    """Whether the ego's front (or rear) edge crosses an actor's box."""
    length, width = drive.size
    course = np.array([np.cos(drive.ego.heading[tick]), np.sin(drive.ego.heading[tick])])
    middle = drive.center[tick] + (-0.5 if rear else 0.5) * length * course
    tracks = drive.actors
    return bool(
        boxes_touch(
            middle,
            np.array(drive.ego.heading[tick]),
            np.array([0.0, width]),
            tracks.position[actor, tick, :2],
            np.array(tracks.heading[actor, tick]),
            tracks.size[actor, :2],
        )
    )


def bearing(drive: Drive, tick: int, point: Float[ndarray, "2"]) -> float:
    """Angle between the ego's heading and the way from its rear axle to a point [rad, 0 to pi]."""
    x, y = poses.local_from_world(point, drive.ego.position[tick], drive.ego.heading[tick])
    return float(abs(np.arctan2(y, x)))


def standing(drive: Drive, tick: int, actor: int) -> bool:
    """Whether an actor stands; static objects always do."""
    if drive.actors.kind[actor] == ActorKind.STATIC:
        return True
    return bool(np.hypot(*drive.actors.velocity[actor, tick]) <= STANDING)


def classify(drive: Drive, tick: int, actor: int, *, actor_tick: int | None = None) -> ContactKind:
    """How the ego touches an actor at a tick (nuPlan `_get_collision_type`).

    Args:
        drive: The drive.
        tick: When.
        actor: With whom.
        actor_tick: When the actor's speed is read, if not at the same time.
    """
    if drive.ego.speed[tick] <= STANDING:
        return ContactKind.STANDING_EGO
    if standing(drive, tick if actor_tick is None else actor_tick, actor):
        return ContactKind.STANDING_ACTOR
    if bearing(drive, tick, drive.actors.position[actor, tick, :2]) > BEHIND:
        return ContactKind.REAR
    if front_bumper_touches(drive, tick, actor):
        return ContactKind.FRONT
    return ContactKind.LATERAL


def at_fault(kind: ContactKind, exposed: bool) -> bool:
    """Whether a contact is the ego's fault.

    Args:
        kind: How they met.
        exposed: Whether the ego straddled lanes or was off the drivable ground.
    """
    return kind in (ContactKind.STANDING_ACTOR, ContactKind.FRONT) or (
        kind is ContactKind.LATERAL and exposed
    )


def first_contacts(
    drive: Drive, kind_at: Callable[[int, int], ContactKind] | None = None, *, flat: bool = False
) -> list[Contact]:
    """The first contact with each actor, in order of time, then of actor; `flat` as in `touching`."""
    hits = touching(drive, flat=flat)
    kind_at = kind_at or (lambda tick, actor: classify(drive, tick, actor))
    firsts = sorted((int(hits[:, actor].argmax()), int(actor)) for actor in np.flatnonzero(hits.any(0)))
    return [Contact(tick, actor, kind_at(tick, actor)) for tick, actor in firsts]


REACTION, BRAKING = 0.75, 0.774 * 9.81
"""Of a competent and careful driver: time until he brakes [s], and how hard [m/s^2] (UN Regulation 157, annex 3)."""
_OUT_OF_SIGHT = 1.0  # who was seen within this time is still known to be there [s]


def unavoidable(
    times: Float[ndarray, "time"],
    position: Float[ndarray, "time 2"],
    heading: Float[ndarray, "time"],
    speed: Float[ndarray, "time"],
    other: Float[ndarray, "time 2"],
    seen: Bool[ndarray, "time"],
    tick: int,
) -> bool:
    """Whether nobody could have avoided a contact, because the other appeared too late.

    The other appeared too late if it was first seen at the contact, or if the car came nearer after that by less than a
    careful driver needs to react and to brake: d < v t + v^2 / (2 b), where v is the car's speed when the other appeared,
    less the other's along the car's heading. An actor that was there when the drive began has not appeared, nor has one
    that was out of sight for less than a second.

    Args:
        times: [s].
        position, heading, speed: Of the car.
        other: Where the other was [m].
        seen: When it was there.
        tick: Of the contact.
    """
    known = np.flatnonzero(seen[: tick + 1])
    if not len(known):
        return True
    gaps = np.flatnonzero(np.diff(times[known]) > _OUT_OF_SIGHT)
    since = int(known[gaps[-1] + 1] if len(gaps) else known[0])
    if since == 0:
        return False
    if since >= tick:
        return True
    took = float(times[tick] - times[since])
    ahead = np.array([np.cos(heading[since]), np.sin(heading[since])])
    away = float((other[known[-1]] - other[since]) @ ahead)
    closing = float(speed[since]) - away / took
    if closing <= 0.0:
        return False
    driven = float(np.linalg.norm(np.diff(position[since : tick + 1], axis=0), axis=1).sum())
    return driven - away < closing * REACTION + closing**2 / (2 * BRAKING)


@dataclass(frozen=True)
class RoundedGaps:
    """Signed distance to each actor [m], negative where they overlap; inf where the actor is not valid, or on another level.

    Attributes:
        box: Of the ego's box.
        front, rear: Of its front and rear edge.
    """

    box: Float[ndarray, "time actor"]
    front: Float[ndarray, "time actor"]
    rear: Float[ndarray, "time actor"]


def rounded_gaps(drive: Drive, *, scale: float = 1.0, roundness: float = 0.0) -> RoundedGaps:
    """Distances between boxes with rounded corners.

    A box with corners of radius r is its inner rectangle, r smaller on every side, grown by r all round; so
    the gap between two is that of their inner rectangles less both radii.

    Args:
        drive: The drive.
        scale: Factor on the size of every box.
        roundness: Corner radius over half the shorter side, in [0, 1].
    """
    tracks = drive.actors
    shape = tracks.valid.T.shape
    size = np.array(drive.size) * scale
    sizes = tracks.size[:, :2] * scale
    there = tracks.valid.T & on_one_level(drive)
    radius, radii = roundness * size.min() / 2, roundness * sizes.min(-1) / 2
    heading = np.broadcast_to(drive.ego.heading[:, None], shape)
    center = np.broadcast_to(drive.center[:, None], (*shape, 2))
    others = polygons.rectangle(
        np.nan_to_num(tracks.position[..., :2].transpose(1, 0, 2)),
        np.nan_to_num(tracks.heading.T),
        np.broadcast_to(sizes - 2 * radii[:, None], (*shape, 2)),
    )

    def gap(ahead: float, sides: ndarray, own: float) -> ndarray:
        way = np.stack([np.cos(heading), np.sin(heading)], -1)
        mine = polygons.rectangle(center + ahead * way, heading, np.broadcast_to(sides, (*shape, 2)))
        return np.where(there, polygons.rectangle_distance(mine, others) - own - radii, np.inf)

    edge = np.array([0.0, size[1]])
    return RoundedGaps(
        box=gap(0.0, size - 2 * radius, radius),
        front=gap(size[0] / 2, edge, 0.0),
        rear=gap(-size[0] / 2, edge, 0.0),
    )
