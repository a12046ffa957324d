"""Depth of a log's frames by the best source that the log offers."""

from __future__ import annotations

from enum import Enum

import numpy as np

from countersteer.data.cameras.frames import Frames
from countersteer.data.cameras.log import CameraLog, RecordedCamera
from countersteer.data.cameras.poses import Poses
from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.geometry.rigid import inverse
from countersteer.reconstruction.depth.depth_map import DepthMap
from countersteer.reconstruction.depth.ground import GroundPlane, ground_depth, ground_of_log
from countersteer.reconstruction.depth.learned import LearnedDepth, learn_depth
from countersteer.reconstruction.depth.lidar import lidar_depth
from countersteer.reconstruction.depth.stereo import StereoPair, stereo_depth
from countersteer.reconstruction.depth.sweep import Neighbour, plane_sweep_depth

__all__ = ["DepthSource", "depth_of_frame", "sources_of", "stereo_partner"]


class DepthSource(Enum):
    """Where depth comes from, the most precise first."""

    RECORDED = "recorded"
    STEREO = "stereo"
    LIDAR = "lidar"
    SWEEP = "sweep"
    LEARNED = "learned"
    GROUND = "ground"


def stereo_partner(log: CameraLog, camera: str) -> tuple[RecordedCamera, StereoPair] | None:
    """A camera to the right of this one that is rectified with it, and their geometry; None if there is none."""
    left = log.camera(camera)
    if left.intrinsics is None or left.distortion is not None:
        return None
    for right in log.cameras:
        k = right.intrinsics
        if right is left or k is None or right.distortion is not None or len(right.times) < len(left.times):
            continue
        apart = inverse(left.ego_from_camera) @ right.ego_from_camera
        along = apart[0, 3]
        parallel = np.abs(apart[:3, :3] - np.eye(3)).max() < 1e-3
        beside = np.abs(apart[1:3, 3]).max() < 0.02 * abs(along)
        same = (k.width, k.height, k.fx, k.fy) == (
            left.intrinsics.width, left.intrinsics.height, left.intrinsics.fx, left.intrinsics.fy,
        )  # fmt: skip
        level = abs(k.cy - left.intrinsics.cy) < 0.5
        together = np.abs(right.times[: len(left.times)] - left.times).max() < 1e-3
        if parallel and beside and same and level and together and along > 0:
            return right, StereoPair(left.intrinsics, float(along), left.intrinsics.cx - k.cx)
    return None


def sources_of(log: CameraLog, camera: str) -> tuple[DepthSource, ...]:
    """What a camera's depth can come from, the most precise first."""
    found = []
    if log.camera(camera).depth is not None:
        found.append(DepthSource.RECORDED)
    if stereo_partner(log, camera) is not None:
        found.append(DepthSource.STEREO)
    if log.lidar is not None and log.poses is not None and len(log.lidar.times):
        found.append(DepthSource.LIDAR)
    if log.poses is not None and len(log.camera(camera).times) > 1:
        found += [DepthSource.SWEEP, DepthSource.LEARNED]
    return (*found, DepthSource.GROUND)


def depth_of_frame(
    log: CameraLog, camera: str, frame: int, source: DepthSource | None = None, reach: int = 3
) -> DepthMap:
    """Depth of one frame.

    Args:
        log: The recording; its cameras have to be calibrated.
        camera: Name of one, whose lens has no distortion (`CameraLog.pinhole`).
        frame: Number of the frame.
        source: Where depth comes from; None for the best there is.
        reach: Frames before and after that a plane sweep may look at, at least 1. A network learns from the whole
            recording, which takes minutes, once for a log.

    Raises:
        UserError: The camera has no calibration, or the log does not offer the source.
    """
    recorded = log.camera(camera)
    intrinsics = recorded.calibrated()
    offered = sources_of(log, camera)
    if source is not None and source not in offered:
        raise UserError(
            f"{log.provenance.path} has no depth by {source.value!r}",
            expected="one of: " + ", ".join(kind.value for kind in offered),
            fix="choose another source of depth",
        )
    source = source or offered[0]
    if source is DepthSource.RECORDED:
        assert recorded.depth is not None
        inverse_depth = recorded.depth(frame)
        return DepthMap(inverse_depth, np.ones_like(inverse_depth))
    ground = ground_of_log(log, camera, frame)
    picture = recorded.frames[frame]
    if source is DepthSource.STEREO:
        partner = stereo_partner(log, camera)
        assert partner is not None
        right, pair = partner
        return stereo_depth(picture, right.frames[frame], pair, ground)
    if source is DepthSource.LIDAR:
        return _by_lidar(log, recorded, frame, intrinsics, ground)
    if source is DepthSource.SWEEP:
        near = [frame + k for k in range(-reach, reach + 1) if k]
        near = [number for number in near if 0 <= number < len(recorded.frames)]
        poses = log.world_from_camera(camera, np.array([frame, *near]))
        neighbours = [
            Neighbour(recorded.frames[number], inverse(pose) @ poses[0])
            for number, pose in zip(near, poses[1:], strict=True)
        ]
        return plane_sweep_depth(picture, neighbours, intrinsics, ground)
    if source is DepthSource.LEARNED:
        return _taught_by(log, camera)(picture, intrinsics, ground)
    return ground_depth(intrinsics, ground)


_taught: list[tuple[Frames, Poses, LearnedDepth]] = []


def _taught_by(log: CameraLog, camera: str) -> LearnedDepth:
    """The network of a recording; the last one is kept, since frames are asked for one by one."""
    frames, poses = log.camera(camera).frames, log.poses
    assert poses is not None
    if not _taught or _taught[0][0] is not frames or _taught[0][1] is not poses:
        _taught[:] = [(frames, poses, learn_depth(log, camera))]
    return _taught[0][2]


def _by_lidar(
    log: CameraLog, camera: RecordedCamera, frame: int, intrinsics: Intrinsics, ground: GroundPlane
) -> DepthMap:
    """The sweep nearest in time, carried to the time of the picture by the poses."""
    assert log.lidar is not None
    assert log.poses is not None
    now = camera.times[frame]
    sweep = int(np.abs(log.lidar.times - now).argmin())
    then = np.clip(log.lidar.times[sweep], log.poses.times[0], log.poses.times[-1])
    here, there = log.poses.at(np.array([now, then]))
    camera_from_points = inverse(here @ camera.ego_from_camera) @ there @ log.lidar.ego_from_lidar
    return lidar_depth(camera.frames[frame], log.lidar.read(sweep), camera_from_points, intrinsics, ground)
