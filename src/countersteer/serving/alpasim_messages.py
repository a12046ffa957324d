"""AlpaSim's messages in our terms: pictures, poses and cameras; what is wrong with them is a `UserError`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from countersteer.data.cameras.log import Distortion
from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.geometry.rigid import matrix_from_quaternion
from countersteer.serving.views import RigCamera

__all__ = ["decoded", "pose_of", "rig_camera", "to_local", "to_rig"]


def decoded(image: Any) -> UInt8[ndarray, "height width 3"]:
    """The picture of an image message, RGB."""
    import cv2

    content = np.frombuffer(image.image_bytes, np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    if picture is None:
        raise UserError(
            f"the picture of camera {image.logical_id!r} cannot be decoded ({len(content)} bytes); send JPEG or PNG",
        )
    return np.ascontiguousarray(picture[..., ::-1])


def pose_of(stamped: Any) -> tuple[int, float, float, float, float]:
    """When [us], x, y, z [m], yaw [rad]."""
    vec, quat = stamped.pose.vec, stamped.pose.quat
    numbers = np.array([vec.x, vec.y, vec.z, quat.w, quat.x, quat.y, quat.z])
    if not np.isfinite(numbers).all() or np.linalg.norm(numbers[3:]) < 1e-6:
        raise UserError(
            f"the pose at {stamped.timestamp_us} us is none: finite numbers and a rotation are expected",
        )
    rotation = matrix_from_quaternion(numbers[3:])
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
    if not np.isfinite(rotation).all() or np.linalg.norm(rotation) < 1e-6:
        raise UserError(f"the mounting of camera {name!r} is no rotation", got=rotation.tolist())
    mounting = np.eye(4)
    mounting[:3, :3] = matrix_from_quaternion(rotation)
    mounting[:3, 3] = vec.x, vec.y, vec.z
    width, height = spec.resolution_w, spec.resolution_h
    kind = spec.WhichOneof("camera_param")
    if kind == "ftheta_param":
        lens = spec.ftheta_param
        shear = (lens.linear_cde.linear_c, lens.linear_cde.linear_d, lens.linear_cde.linear_e)
        if not lens.angle_to_pixeldist_poly or width < 1 or height < 1:
            raise UserError(
                f"camera {name!r} has no polynomial or no size", expected="angle_to_pixeldist_poly"
            )
        return RigCamera.f_theta(
            width,
            height,
            (lens.principal_point_x, lens.principal_point_y),
            tuple(lens.angle_to_pixeldist_poly),
            lens.max_angle or math.pi / 2,
            mounting,
            shear if any(shear) else (1.0, 0.0, 0.0),
        )
    if kind not in ("opencv_pinhole_param", "opencv_fisheye_param"):
        raise UserError(f"camera {name!r} has no lens that we know", got=kind)
    lens = getattr(spec, kind)
    inside = Intrinsics(
        width,
        height,
        lens.focal_length_x,
        lens.focal_length_y,
        lens.principal_point_x,
        lens.principal_point_y,
    )
    radial = list(lens.radial_coeffs)
    if kind == "opencv_fisheye_param":
        bend = Distortion(tuple(radial + [0.0] * (4 - len(radial))), fisheye=True)
        return RigCamera.pinhole(inside, mounting, bend)
    if any(lens.thin_prism_coeffs):
        raise UserError(f"camera {name!r} has a thin prism, which we do not know")
    radial += [0.0] * (6 - len(radial))
    tangential = [*lens.tangential_coeffs, 0.0, 0.0][:2]
    bent = any(radial) or any(tangential)
    bend = Distortion((*radial[:2], *tangential, *radial[2:6])) if bent else None
    return RigCamera.pinhole(inside, mounting, bend)
