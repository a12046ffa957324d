"""The drive of a camera log as a scenario: its poses become the ego's track, annotated road users the other actors,
and a road is drawn along the poses."""

from __future__ import annotations

import dataclasses

import numpy as np

from countersteer.data.cameras.checks import check
from countersteer.data.cameras.log import CameraLog
from countersteer.errors import UserError
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.scenarios.procedural import road_along
from countersteer.scenarios.scenario import ActorKind, Recording, RoadMap, Scenario, Signals, Tracks

__all__ = ["drive_of_log"]

CAR_SIZE = (4.6, 1.9, 1.6)
"""Length, width and height [m] that are assumed; a camera log does not state the car's."""

_MOVES = 6.0  # the road of a car that gets no further from where it began is straight [m]


def drive_of_log(log: CameraLog, *, lanes_left: int = 0, lanes_right: int = 0) -> Scenario:
    """What was driven while the first camera took pictures, in the log's own world frame.

    If it took only one, the drive is that of the poses, so that a single sample of a rig is a scenario too. The
    road of a car that gets less than 6 m away is straight. Actors keep their heights, which boxworld, whose ground is
    flat, drops: on a hill distant ones are drawn lower or higher than a picture shows them.

    Args:
        log: A recording with poses.
        lanes_left, lanes_right: Neighbour lanes of the road that is drawn.

    Raises:
        UserError: The log has no poses, is a single moment, or `check` finds something fatal in it.
    """
    if log.poses is None:
        raise UserError(
            f"camera log {log.id!r} has no poses, so nobody knows what was driven",
            expected="a recording with poses",
            fix="add poses, for example from visual odometry, as docs/formats.md says",
        )
    check(log).require_usable()
    times = log.cameras[0].times
    if len(times) < 2:
        times = log.poses.times
    times = times[log.poses.covers(times)]
    if len(times) < 2:
        raise UserError(
            f"camera log {log.id!r} has no drive",
            got=f"{len(times)} frames at times with poses",
            expected="at least two",
            fix="check the times of frames and poses",
        )
    poses = log.poses.at(times)
    heading = np.arctan2(poses[:, 1, 0], poses[:, 0, 0])
    length, _, height = CAR_SIZE
    rear = poses[:, :3, 3]
    center = rear + rear_axle_to_center(length) * poses[:, :3, 0] + [0.0, 0.0, height / 2]
    ego = Tracks(
        ids=("ego",),
        kind=np.array([int(ActorKind.VEHICLE)]),
        position=center[None],
        heading=heading[None],
        velocity=np.gradient(center[:, :2], times, axis=0)[None],
        size=np.array([CAR_SIZE]),
        valid=np.ones((1, len(times)), bool),
    )
    route = None
    if np.linalg.norm(rear[:, :2] - rear[0, :2], axis=1).max() < _MOVES:
        ahead = np.array([np.cos(heading[0]), np.sin(heading[0])])
        route = rear[0, :2] + np.arange(2 * _MOVES)[:, None] * ahead
    scenario = Scenario(
        id=log.id,
        times=times - times[0],
        road=RoadMap(),
        tracks=ego if log.road_users is None else _joined(ego, log.road_users.at(times)),
        ego=0,
        route=route,
        signals=Signals.none(len(times)),
        provenance=log.provenance,
        cameras=Recording(log.provenance.path, float(times[0])),
    )
    return road_along(scenario, lanes_left=lanes_left, lanes_right=lanes_right)


def _joined(ego: Tracks, others: Tracks) -> Tracks:
    """One after the other, on one time base; without those who were never there."""
    there = np.flatnonzero(others.valid.any(1)).tolist()
    arrays = {
        field.name: np.concatenate([getattr(ego, field.name), getattr(others, field.name)[there]])
        for field in dataclasses.fields(Tracks)
        if field.name != "ids"
    }
    return Tracks((*ego.ids, *(others.ids[row] for row in there)), **arrays)
