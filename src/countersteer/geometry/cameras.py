"""Pinhole cameras as data: any number, size and mounting (frames: docs/conventions.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.ranges import Finite, Pixels, Positive, Range, Ranged

__all__ = ["Camera", "Intrinsics", "ego_from_camera"]


def ego_from_camera(roll: float, pitch: float, yaw: float) -> Float[ndarray, "3 3"]:
    """Rotation that takes camera axes (x right, y down, z forward) to ego axes (x forward, y left, z up).

    Args:
        roll: Rotation about the viewing axis [rad]; positive lowers the right side.
        pitch: Rotation about the left axis [rad]; positive looks down.
        yaw: Rotation about the up axis [rad]; positive looks left.
    """
    axes = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x @ axes


@dataclass(frozen=True)
class Camera(Ranged):
    """A pinhole camera fixed to the car.

    Attributes:
        name: Name of its sensor in an observation.
        width, height: Image size [px].
        fov: Horizontal field of view [rad]; `math.radians(80)` is 80 degrees.
        position: Optical centre in the ego frame [m].
        roll, pitch, yaw: Mounting angles [rad], see `ego_from_camera`.
    """

    name: str = "front"
    width: Pixels = 128
    height: Pixels = 48
    fov: Annotated[float, Range("(0, pi)")] = math.radians(80.0)
    position: tuple[Finite, Finite, Finite] = (1.5, 0.0, 1.4)
    roll: Finite = 0.0
    pitch: Finite = 0.16
    yaw: Finite = 0.0

    @property
    def privileged(self) -> bool:
        """A car can have one."""
        return False

    @property
    def focal(self) -> float:
        """Focal length [px], the same in both directions."""
        return self.width / 2 / math.tan(self.fov / 2)

    @property
    def rotation(self) -> Float[ndarray, "3 3"]:
        """`ego_from_camera` of the mounting."""
        return ego_from_camera(self.roll, self.pitch, self.yaw)

    @property
    def intrinsics(self) -> Intrinsics:
        """The same camera as a pinhole model: square pixels, the optical axis through the middle."""
        return Intrinsics(self.width, self.height, self.focal, self.focal, self.width / 2, self.height / 2)


@dataclass(frozen=True)
class Intrinsics(Ranged):
    """The pinhole model of a calibrated camera.

    Attributes:
        width, height: Image size [px].
        fx, fy: Focal lengths [px].
        cx, cy: Where the optical axis meets the picture [px], pixel centres at +0.5. Most calibrations put
            pixel centres at whole numbers; their readers add the half.
    """

    width: Pixels
    height: Pixels
    fx: Positive
    fy: Positive
    cx: Finite
    cy: Finite

    @property
    def matrix(self) -> Float[ndarray, "3 3"]:
        """K: takes a point in camera axes to homogeneous pixels."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, width: int, height: int) -> Intrinsics:
        """The camera of the same picture at another size."""
        x, y = width / self.width, height / self.height
        return Intrinsics(width, height, self.fx * x, self.fy * y, self.cx * x, self.cy * y)

    def cropped(self, left: int, top: int, width: int, height: int) -> Intrinsics:
        """The camera of a part of the picture, from column `left` and row `top` on."""
        return Intrinsics(width, height, self.fx, self.fy, self.cx - left, self.cy - top)
