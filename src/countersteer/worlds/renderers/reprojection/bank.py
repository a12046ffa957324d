"""Frames of a camera log with their depths, at the size they will be rendered from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from countersteer.data.cameras.log import CameraLog
from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.reconstruction.depth import DepthMap
from countersteer.worlds.renderers.reprojection.drawing import FrameBank

__all__ = ["frame_bank"]


def frame_bank(
    log: CameraLog,
    camera: str,
    frames: Sequence[int],
    depth: Callable[[int], DepthMap],
    size: tuple[int, int] | None = None,
) -> tuple[FrameBank, Intrinsics]:
    """A bank of some frames of one camera, and the camera they then seem to be taken by.

    Args:
        log: The recording, its lenses without distortion (`CameraLog.pinhole`), with poses.
        camera: Name of a calibrated camera.
        frames: Numbers of the frames, in the order of the bank.
        depth: Depth of a frame by its number, at the recording's size or at `size`.
        size: Width and height [px] to store; None for the recording's own.

    Raises:
        UserError: The log has no such camera, calibration, poses or frame, or the depth another size.
    """
    import cv2

    recorded = log.camera(camera)
    taken_by = recorded.calibrated()
    seen_by = taken_by if size is None else taken_by.resized(*size)
    pictures, depths = [], []
    for number in frames:
        picture, found = recorded.frames[number], depth(number)
        sizes = {(taken_by.width, taken_by.height), (seen_by.width, seen_by.height)}
        if found.inverse.shape[::-1] not in sizes:
            raise UserError(
                f"{recorded.frames.path}: depth of another size at frame {number}, {recorded.times[number]:.3f} s",
                got=f"{found.inverse.shape[1]}x{found.inverse.shape[0]}",
                expected=" or ".join(f"{width}x{height}" for width, height in sorted(sizes)),
                fix="give the depth of every pixel of the picture",
            )
        if seen_by is not taken_by:
            picture = cv2.resize(picture, (seen_by.width, seen_by.height), interpolation=cv2.INTER_AREA)
            found = found.resized(seen_by.width, seen_by.height)
        pictures.append(torch.from_numpy(np.array(picture)))
        depths.append(torch.from_numpy(np.ascontiguousarray(found.inverse)))
    poses = torch.from_numpy(log.world_from_camera(camera, np.array(frames)))
    return FrameBank.of(torch.stack(pictures), torch.stack(depths), seen_by, poses), seen_by
