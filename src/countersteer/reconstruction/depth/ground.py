"""The road as a plane: a prior for every other source of depth, and the whole of it where there is no other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.cameras.log import CameraLog
from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.reconstruction.depth.depth_map import PRIOR, DepthMap

__all__ = ["GroundPlane", "ground_depth", "ground_of_log", "pixel_rays"]


def pixel_rays(camera: Intrinsics) -> tuple[Float[ndarray, "1 width"], Float[ndarray, "height 1"]]:
    """x and y of the rays (x, y, 1) through the pixel centres, camera axes."""
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    return x[None], y[:, None]


@dataclass(frozen=True)
class GroundPlane:
    """The road, seen from a camera: points p [m, camera axes] with `normal @ p == height`.

    Attributes:
        normal: Unit vector down to the road, camera axes (right, down, forward).
        height: Of the camera above it [m], above 0.
    """

    normal: tuple[float, float, float]
    height: float

    def __post_init__(self) -> None:
        if not self.height > 0 or abs(np.linalg.norm(self.normal) - 1) > 1e-6:
            raise UserError(
                "a ground plane is none",
                got=f"height {self.height} m, normal {self.normal}",
                expected="a camera above the ground, a unit normal",
                fix="check the mounting of the camera",
            )

    def inverse_depth(self, camera: Intrinsics) -> Float[ndarray, "height width"]:
        """Of the plane at every pixel [1/m]; negative above its horizon."""
        x, y = pixel_rays(camera)
        a, b, c = self.normal
        return ((a * x + b * y + c) / self.height).astype(np.float32)


def ground_of_log(log: CameraLog, camera: str, frame: int, reach: float = 0.35) -> GroundPlane:
    """The plane below a camera: its height by the mounting, its tilt by the way the car travels.

    A car travels along its road, so the normal is the mounting's, made orthogonal to the course over `reach`
    seconds before and after. That follows the slope of the road; the pitching of the car on its springs is
    in the recorded poses. A car that stands gives the mounting's normal.
    """
    recorded = log.camera(camera)
    down = recorded.ego_from_camera[:3, :3].T @ np.array([0.0, 0.0, -1.0])
    if log.poses is not None:
        now = recorded.times[frame]
        ends = np.clip([now - reach, now + reach], log.poses.times[0], log.poses.times[-1])
        ego = log.poses.at(np.array([ends[0], now, ends[1]]))
        course = ego[1, :3, :3].T @ (ego[2, :3, 3] - ego[0, :3, 3])
        length = float(np.linalg.norm(course))
        if length > 0.3:
            course = recorded.ego_from_camera[:3, :3].T @ course / length
            down = down - (down @ course) * course
            down /= np.linalg.norm(down)
    height = float(recorded.ego_from_camera[2, 3])
    return GroundPlane((float(down[0]), float(down[1]), float(down[2])), height)


def ground_depth(camera: Intrinsics, ground: GroundPlane, reach: float = 60.0) -> DepthMap:
    """The ground up to `reach` metres ahead, and everything else infinitely far.

    What stands on the road lies flat in it; good enough for markings, and for nothing that stands.
    """
    inverse = ground.inverse_depth(camera)
    near = inverse > 1 / reach
    return DepthMap(
        np.where(near, inverse, 0.0).astype(np.float32), np.where(near, PRIOR, 0.0).astype(np.float32)
    )
