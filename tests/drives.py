"""Drives made by hand, for tests of scores: a straight two-lane road along +x, cars as plain boxes."""

from __future__ import annotations

import dataclasses

import numpy as np

from countersteer.evaluation.metrics.drive import Drive, Lane, Motion, Road, no_actors
from countersteer.scenarios.scenario import ActorKind, Tracks


def box(x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
    """A rectangle along the axes as a polygon."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def lane(
    name: str, y: float, *, on_route: bool = True, limit: float | None = None, back: bool = False
) -> Lane:
    """A lane of 4 m around y, from x = -50 to 250."""
    line = np.array([[-50.0, y], [250.0, y]])
    return Lane(name, box(-50, 250, y - 2, y + 2), line[::-1].copy() if back else line, on_route, (), limit)


ROAD = Road(
    drivable=(box(-50, 250, -2, 6),),
    lanes=(lane("right", 0.0), lane("left", 4.0)),
    edges=(np.array([[-50.0, -2.0], [250.0, -2.0]]), np.array([[250.0, 6.0], [-50.0, 6.0]])),
)
ROUTE = np.array([[-50.0, 0.0], [250.0, 0.0]])
SIZE = (4.0, 2.0)
"""Length and width of the car; its box reaches 2 m before and behind the point 1 m ahead of its axle."""
AHEAD = 1.0


def steady(count: int, dt: float, *, x: float = 0.0, y: float = 0.0, speed: float = 10.0) -> Motion:
    """Straight along +x at constant speed."""
    time = np.arange(count) * dt
    zero = np.zeros(count)
    return Motion(
        position=np.stack([x + speed * time, np.full(count, y)], -1),
        heading=zero,
        velocity=np.stack([np.full(count, speed), zero], -1),
        acceleration=np.zeros((count, 2)),
        yaw_rate=zero,
        yaw_acceleration=zero,
    )


def straight(
    *,
    count: int = 41,
    dt: float = 0.1,
    speed: float = 10.0,
    x: float = 0.0,
    y: float = 0.0,
    **changes: object,
) -> Drive:
    """A drive along the right lane with nobody else."""
    drive = Drive(
        times=np.arange(count) * dt,
        ego=steady(count, dt, x=x, y=y, speed=speed),
        size=SIZE,
        ahead=AHEAD,
        actors=no_actors(count),
        road=ROAD,
        route=ROUTE,
    )
    return dataclasses.replace(drive, **changes)


def actor(
    drive: Drive,
    *,
    x: float,
    y: float = 0.0,
    vx: float = 0.0,
    vy: float = 0.0,
    kind: ActorKind = ActorKind.VEHICLE,
    size: tuple[float, float] = (4.0, 2.0),
) -> Drive:
    """The drive with one more box that starts with its centre at (x, y), along +x, and keeps its velocity."""
    old, count = drive.actors, len(drive.times)
    place = np.stack(
        [x + vx * drive.times, y + vy * drive.times, np.full(count, 0.8)],
        -1,
    )
    tracks = Tracks(
        ids=(*old.ids, f"actor-{len(old.ids)}"),
        kind=np.append(old.kind, int(kind)),
        position=np.concatenate([old.position, place[None]]),
        heading=np.concatenate([old.heading, np.zeros((1, count))]),
        velocity=np.concatenate([old.velocity, np.tile([vx, vy], (1, count, 1))]),
        size=np.concatenate([old.size, [[*size, 1.6]]]),
        valid=np.concatenate([old.valid, np.ones((1, count), bool)]),
    )
    return dataclasses.replace(drive, actors=tracks)


def moving(motion: Motion, **changes: np.ndarray) -> Motion:
    """The motion with some of its channels replaced."""
    return dataclasses.replace(motion, **changes)
