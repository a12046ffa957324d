"""AlpaSim's messages in our terms: pictures, poses and cameras; what is wrong with them is a `UserError`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from countersteer.data.cameras.log import Distortion
from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.geometry.rigid import matrix_from_quaternion
from countersteer.serving.views import RigCamera
from countersteer.storage.pictures import MAX_PIXELS, decode

__all__ = [
    "LATEST",
    "MAX_COORDINATE",
    "check_cameras",
    "decoded",
    "pose_of",
    "rig_camera",
    "to_local",
    "to_rig",
]


LATEST = 1 << 62
"""Latest time that is believed [us]: what a plan adds to it can still be written."""
MAX_COORDINATE = 1e7
"""Farthest place in the local frame that is believed [m]."""
_MOST_CAMERAS = 32


def decoded(image: Any, pixels: int) -> UInt8[ndarray, "height width 3"]:
    """The picture of an image message, RGB; one that declares more pixels than its camera has is not decoded."""
    return decode(image.image_bytes, f"the picture of camera {image.logical_id!r}", pixels)


def check_cameras(cameras: Iterable[Any]) -> list[Any]:
    """The cameras that a session declares; none, too many, one twice, without a name or of no size is refused."""
    declared = list(cameras)
    if not 0 < len(declared) <= _MOST_CAMERAS:
        got = f"{len(declared)} cameras" if declared else "no camera"
        raise UserError(f"the session declares {got}", expected=f"1 to {_MOST_CAMERAS}")
    names = [camera.logical_id for camera in declared]
    for camera in declared:
        name, inside = camera.logical_id, camera.intrinsics
        if not 0 < len(name) <= 200:
            raise UserError(f"a camera's name has {len(name)} characters", expected="1 to 200")
        if names.count(name) > 1:
            raise UserError(f"camera {name!r} is declared twice", expected="every camera once")
        if not 0 < inside.resolution_w * inside.resolution_h <= MAX_PIXELS:
            raise UserError(
                f"camera {name!r} has an impossible size",
                got=f"{inside.resolution_w} x {inside.resolution_h} pixels",
                expected=f"at least 1 x 1, at most {MAX_PIXELS} pixels in all",
            )
    return declared


def pose_of(stamped: Any) -> tuple[int, float, float, float, float]:
    """When [us], x, y, z [m], yaw [rad]."""
    vec, quat = stamped.pose.vec, stamped.pose.quat
    place, turn = np.array([vec.x, vec.y, vec.z]), np.array([quat.w, quat.x, quat.y, quat.z])
    good = (np.abs(place) <= MAX_COORDINATE).all() and np.isfinite(turn).all()
    if not good or not 1e-6 < np.linalg.norm(turn) < 1e6:
        raise UserError(
            f"the pose at {stamped.timestamp_us} us is none: finite numbers and a rotation are expected",
        )
    if stamped.timestamp_us > LATEST:
        raise UserError(f"{stamped.timestamp_us} us is no time")
    rotation = matrix_from_quaternion(turn)
    return stamped.timestamp_us, vec.x, vec.y, vec.z, math.atan2(rotation[1, 0], rotation[0, 0])


def _turned(yaw: float) -> ndarray:
    return np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])


def to_local(points: ndarray, pose: tuple[int, float, float, float, float]) -> ndarray:
    """Points [n 2] of the rig frame in the local frame."""
    return points @ _turned(pose[4]).T + np.array(pose[1:3])


def to_rig(points: ndarray, pose: tuple[int, float, float, float, float]) -> ndarray:
    """Points [n 2] of the local frame in the rig frame."""
    return (points - np.array(pose[1:3])) @ _turned(pose[4])


def rig_camera(camera: Any) -> RigCamera:
    """From a declared camera; its pose is that of the optical axes (right, down, forward) in the rig."""
    spec, name = camera.intrinsics, camera.logical_id
    vec, quat = camera.rig_to_camera.vec, camera.rig_to_camera.quat
    rotation = np.array([quat.w, quat.x, quat.y, quat.z])
    if not (np.isfinite(rotation).all() and 1e-6 < np.linalg.norm(rotation) < 1e6):
        raise UserError(f"the mounting of camera {name!r} is no rotation", got=rotation.tolist())
    _check_numbers(name, "mounting", [vec.x, vec.y, vec.z], 100.0)
    mounting = np.eye(4)
    mounting[:3, :3] = matrix_from_quaternion(rotation)
    mounting[:3, 3] = vec.x, vec.y, vec.z
    width, height = spec.resolution_w, spec.resolution_h
    kind = spec.WhichOneof("camera_param")
    if kind == "ftheta_param":
        lens = spec.ftheta_param
        shear = (lens.linear_cde.linear_c, lens.linear_cde.linear_d, lens.linear_cde.linear_e)
        if not 0 < len(lens.angle_to_pixeldist_poly) <= 16:
            raise UserError(
                f"camera {name!r} has no polynomial", expected="angle_to_pixeldist_poly, at most 16 numbers"
            )
        center = (lens.principal_point_x, lens.principal_point_y)
        _check_numbers(name, "lens", [*center, *lens.angle_to_pixeldist_poly, lens.max_angle, *shear])
        return RigCamera.f_theta(
            width,
            height,
            center,
            tuple(lens.angle_to_pixeldist_poly),
            lens.max_angle or math.pi / 2,
            mounting,
            shear if any(shear) else (1.0, 0.0, 0.0),
        )
    if kind not in ("opencv_pinhole_param", "opencv_fisheye_param"):
        raise UserError(f"camera {name!r} has no lens that we know", got=kind)
    lens = getattr(spec, kind)
    pinhole = (lens.focal_length_x, lens.focal_length_y, lens.principal_point_x, lens.principal_point_y)
    radial = list(lens.radial_coeffs)
    if len(radial) > 6:
        raise UserError(f"camera {name!r} has {len(radial)} radial coefficients", expected="at most 6")
    _check_numbers(name, "lens", [*pinhole, *radial])
    inside = Intrinsics(width, height, *pinhole)
    if kind == "opencv_fisheye_param":
        bend = Distortion(tuple(radial + [0.0] * (4 - len(radial))), fisheye=True)
        return RigCamera.pinhole(inside, mounting, bend)
    if any(lens.thin_prism_coeffs):
        raise UserError(f"camera {name!r} has a thin prism, which we do not know")
    radial += [0.0] * (6 - len(radial))
    tangential = [*lens.tangential_coeffs, 0.0, 0.0][:2]
    _check_numbers(name, "lens", tangential)
    bent = any(radial) or any(tangential)
    bend = Distortion((*radial[:2], *tangential, *radial[2:6])) if bent else None
    return RigCamera.pinhole(inside, mounting, bend)


def _check_numbers(camera: str, what: str, numbers: list[float], most: float = 1e6) -> None:
    if not all(abs(number) <= most for number in numbers):
        raise UserError(
            f"the {what} of camera {camera!r} is impossible",
            got=", ".join(f"{number:g}" for number in numbers[:8]),
            expected=f"finite numbers, at most {most:g}",
        )
