"""The drive of a camera log as a scenario: its poses become the ego's track, and a road is drawn along them."""

from __future__ import annotations

import numpy as np

from countersteer.errors import UserError
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.scenarios.cameras.log import CameraLog
from countersteer.scenarios.procedural import road_along
from countersteer.scenarios.scenario import ActorKind, Recording, RoadMap, Scenario, Signals, Tracks

__all__ = ["drive_of_log"]

CAR_SIZE = (4.6, 1.9, 1.6)
"""Length, width and height [m] that are assumed; a camera log does not state the car's."""

LEAST = 5.0
"""Shortest drive [m] that a road is drawn along."""


def drive_of_log(log: CameraLog, *, lanes_left: int = 0, lanes_right: int = 0) -> Scenario:
    """What was driven while the first camera took pictures, in the log's own world frame.

    Args:
        log: A recording with poses.
        lanes_left, lanes_right: Neighbour lanes of the road that is drawn.

    Raises:
        UserError: The log has no poses, or the car does not move.
    """
    if log.poses is None:
        raise UserError(
            f"camera log {log.id!r} has no poses, so nobody knows what was driven",
            expected="a recording with poses",
            fix="add poses, for example from visual odometry, as docs/formats.md says",
        )
    times = log.cameras[0].times
    times = times[log.poses.covers(times)]
    if len(times) < 2:
        raise UserError(
            f"camera log {log.id!r} has no drive",
            got=f"{len(times)} frames at times with poses",
            expected="at least two",
            fix="check the times of frames and poses",
        )
    poses = log.poses.at(times)
    driven = float(np.linalg.norm(np.diff(poses[:, :2, 3], axis=0), axis=1).sum())
    if driven < LEAST:
        raise UserError(
            f"{log.provenance.path}: the car stands from {times[0]:.3f} to {times[-1]:.3f} s",
            got=f"{driven:.2f} m driven",
            expected=f"at least {LEAST:g} m",
            fix="choose a part of the drive in which the car moves",
        )
    heading = np.arctan2(poses[:, 1, 0], poses[:, 0, 0])
    length, _, height = CAR_SIZE
    center = poses[:, :3, 3] + rear_axle_to_center(length) * poses[:, :3, 0] + [0.0, 0.0, height / 2]
    scenario = Scenario(
        id=log.id,
        times=times - times[0],
        road=RoadMap(),
        tracks=Tracks(
            ids=("ego",),
            kind=np.array([int(ActorKind.VEHICLE)]),
            position=center[None],
            heading=heading[None],
            velocity=np.gradient(center[:, :2], times, axis=0)[None],
            size=np.array([CAR_SIZE]),
            valid=np.ones((1, len(times)), bool),
        ),
        ego=0,
        route=None,
        signals=Signals((), np.zeros((0, 3)), np.zeros(0), np.zeros((0, len(times)), np.int64)),
        provenance=log.provenance,
        cameras=Recording(log.provenance.path, float(times[0])),
    )
    return road_along(scenario, lanes_left=lanes_left, lanes_right=lanes_right)
