"""What recorded tracks say of a scene beyond their poses: heights, places along paths, and who tows whom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from countersteer.geometry import boxes, polylines
from countersteer.scenarios.levels import APART
from countersteer.scenarios.scenario import Scenario

__all__ = ["PATH_SPACING", "arcs_along", "held", "path_heights", "towed", "track_heights"]

PATH_SPACING = 1.0
"""Arc length between stored points of a path [m]."""
_HITCH = 1.0  # by how much the distance between a vehicle and its trailer changes at most [m]
_RETURNS = 2.6  # a path that turns less than this [rad] leads away from where it was all along


def towed(pose: np.ndarray, valid: np.ndarray, size: np.ndarray, movable: np.ndarray) -> np.ndarray:
    """`SceneBank.tow` of the slots of one scene."""
    tow = np.arange(len(pose))
    moving = np.flatnonzero(movable)
    for number, one in enumerate(moving[:-1]):
        others = moving[number + 1 :]
        gaps = np.linalg.norm(pose[others, :, :2] - pose[one, :, :2], axis=-1)
        both = valid[others] & valid[one]
        low, high = np.where(both, gaps, np.inf).min(1), np.where(both, gaps, -np.inf).max(1)
        close = low < (size[one, 0] + size[others, 0] + size[one, 1] + size[others, 1]) / 2
        for row in np.flatnonzero(close & (high - low < _HITCH) & (both.sum(1) > 1)):
            other, tick = int(others[row]), int(both[row].argmax())
            boxes_of = [
                (
                    torch.from_numpy(pose[k, tick, :2]),
                    torch.tensor(pose[k, tick, 2]),
                    torch.from_numpy(size[k, :2]),
                )
                for k in (one, other)
            ]
            if bool(boxes.overlap(*boxes_of[0], *boxes_of[1])):
                heading = pose[one, tick, 2]
                ahead = (pose[other, tick, :2] - pose[one, tick, :2]) @ np.array(
                    [np.cos(heading), np.sin(heading)]
                )
                first, last = (other, int(one)) if ahead > 0 else (int(one), other)
                tow[last] = first
    for _ in range(3):  # a train of several hangs on its first
        tow = tow[tow]
    return tow.astype(np.int64)


def track_heights(scenario: Scenario, order: Sequence[int | None], times: np.ndarray) -> np.ndarray:
    """`SceneBank.z` of the slots of one scene, above its lowest box."""
    tracks = scenario.tracks
    seen = tracks.position[..., 2][tracks.valid]
    z = np.zeros((len(order), len(times) if len(seen) and np.ptp(seen) > APART else 0))
    for slot, k in enumerate(order if z.shape[1] else ()):
        if k is not None:
            kept = held(tracks.position[k, :, 2].astype(np.float64), tracks.valid[k])
            z[slot] = np.interp(times, scenario.times, kept - seen.min())
    return z


def path_heights(path: np.ndarray, pose: np.ndarray, z: np.ndarray, length: float) -> np.ndarray:
    """Heights along a path of a car that was recorded along it; past its end with the slope that it ends with."""
    course = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], -1)
    arc, _ = polylines.follow(path, pose[:, :2] - boxes.rear_axle_to_center(length) * course)
    arc = np.maximum.accumulate(arc)
    before = float(np.interp(arc[-1] - 10.0, arc, z))
    slope = (z[-1] - before) / min(10.0, arc[-1] - arc[0]) if arc[-1] > arc[0] else 0.0
    at = np.arange(len(path)) * PATH_SPACING
    return np.interp(at, arc, z) + slope * np.maximum(at - arc[-1], 0.0)


def arcs_along(path: np.ndarray, pose: np.ndarray, length: float) -> np.ndarray:
    """`SceneBank.path_arc` of one car."""
    if np.ptp(path[:, 2]) < _RETURNS:
        return np.full(len(pose), np.nan)
    course = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], -1)
    return polylines.follow(path, pose[:, :2] - boxes.rear_axle_to_center(length) * course)[0]


def held(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Values [time ...] with each gap holding the last valid entry (the first one before it)."""
    index = np.where(valid, np.arange(len(valid)), -1)
    index = np.maximum.accumulate(index)
    index[index < 0] = int(np.argmax(valid)) if valid.any() else 0
    return values[index]
