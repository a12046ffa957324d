"""A camera log: what the cameras of a car recorded on a drive, and where the car was."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.cameras.frames import Frames, SomeFrames, UndistortedFrames
from countersteer.data.cameras.poses import Poses
from countersteer.data.cameras.road_users import RoadUsers
from countersteer.errors import UserError, did_you_mean
from countersteer.geometry.cameras import Intrinsics
from countersteer.scenarios.scenario import Provenance

__all__ = ["CameraLog", "Distortion", "LidarSweeps", "RecordedCamera"]


@dataclass(frozen=True)
class Distortion:
    """How a lens bends the picture, in OpenCV's models.

    Attributes:
        coefficients: Brown-Conrady k1, k2, p1, p2[, k3[, k4, k5, k6]]; of a fisheye (Kannala and Brandt
            2006) k1 to k4.
        fisheye: Which of the two.
    """

    coefficients: tuple[float, ...]
    fisheye: bool = False

    def __post_init__(self) -> None:
        allowed = (4,) if self.fisheye else (4, 5, 8)
        if len(self.coefficients) not in allowed or not np.isfinite(self.coefficients).all():
            raise UserError(
                "the distortion of a camera is not one that OpenCV knows",
                got=f"{len(self.coefficients)} coefficients {self.coefficients}",
                expected=" or ".join(map(str, allowed)) + " finite numbers",
                fix="give k1, k2, p1, p2[, k3[, k4, k5, k6]], or k1 to k4 of a fisheye",
            )


@dataclass(frozen=True)
class RecordedCamera:
    """One camera of the rig and its frames.

    Attributes:
        name: Unique in the rig.
        frames: The pictures.
        times: When each was taken [s, log time].
        intrinsics: Calibration, or None if nobody measured it.
        distortion: Of the lens, or None if the pictures follow the pinhole model (are rectified).
        depth: Inverse depth of a frame by its number [1/m], where it was recorded with the pictures: along the
            optical axis, 0 infinitely far, of the pinhole model.
        ego_from_camera: Mounting: camera axes (right, down, forward) in ego axes (forward, left, up).
    """

    name: str
    frames: Frames
    times: Float[ndarray, "frame"]
    intrinsics: Intrinsics | None
    ego_from_camera: Float[ndarray, "4 4"]
    distortion: Distortion | None = None
    depth: Callable[[int], Float[ndarray, "height width"]] | None = None

    def __post_init__(self) -> None:
        def fail(what: str, got: object, expected: object) -> None:
            raise UserError(
                f"camera {self.name!r} of {self.frames.path}: {what}",
                got=got,
                expected=expected,
                fix="check the recording's calibration and list of times",
            )

        if len(self.times) != len(self.frames):
            fail("frames and times differ in number", f"{len(self.times)} times", f"{len(self.frames)}")
        if not np.isfinite(self.times).all():
            fail("a time is not finite", "NaN or infinity", "seconds")
        calibrated = self.intrinsics
        if calibrated is not None and (calibrated.width, calibrated.height) != (
            self.frames.width,
            self.frames.height,
        ):
            fail(
                "the calibration is for pictures of another size",
                f"{calibrated.width}x{calibrated.height}",
                f"{self.frames.width}x{self.frames.height}, as the pictures are",
            )
        rotation = self.ego_from_camera[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            fail("the mounting is no rotation", "a matrix that stretches or mirrors", "a rotation")

    def calibrated(self) -> Intrinsics:
        """The intrinsics of a camera without distortion.

        Raises:
            UserError: Nobody calibrated it, or its lens still has distortion.
        """
        if self.intrinsics is None or self.distortion is not None:
            raise UserError(
                f"camera {self.name!r} of {self.frames.path} cannot be rendered from yet",
                got="no calibration" if self.intrinsics is None else "pictures that a lens has bent",
                expected="a calibrated pinhole camera",
                fix="give its calibration" if self.intrinsics is None else "take `CameraLog.pinhole`",
            )
        return self.intrinsics

    def cropped(self, start: float, end: float) -> RecordedCamera:
        """The frames between two times [s]; their times count from `start`.

        Raises:
            UserError: There is none.
        """
        inside = np.flatnonzero((self.times >= start - 1e-6) & (self.times <= end + 1e-6))
        if not len(inside):
            raise UserError(
                f"camera {self.name!r} of {self.frames.path} took no frame in that time",
                got=f"{start:g} to {end:g} s",
                expected=f"a span within {self.times[0]:g} to {self.times[-1]:g} s",
                fix="choose other times",
            )
        first, depth = int(inside[0]), self.depth
        return dataclasses.replace(
            self,
            frames=SomeFrames(self.frames, first, len(inside)),
            times=self.times[inside] - start,
            depth=None if depth is None else lambda number: depth(first + number),
        )

    def pinhole(self) -> RecordedCamera:
        """The same camera with the distortion of its lens taken out of every frame as it is read."""
        if self.distortion is None:
            return self
        import cv2

        assert self.intrinsics is not None
        old = self.intrinsics
        # OpenCV's pixel centres lie at whole numbers.
        matrix = old.matrix - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        coefficients, size = np.array(self.distortion.coefficients), (old.width, old.height)
        undistort = (
            cv2.fisheye.initUndistortRectifyMap if self.distortion.fisheye else cv2.initUndistortRectifyMap
        )
        map_x, map_y = undistort(matrix, coefficients, np.eye(3), matrix, size, cv2.CV_32FC1)
        return dataclasses.replace(self, frames=UndistortedFrames(self.frames, map_x, map_y), distortion=None)


@dataclass(frozen=True)
class LidarSweeps:
    """Sweeps of a laser scanner; each is a file of its own, read when asked for.

    Attributes:
        times: Of each sweep [s, log time].
        ego_from_lidar: Mounting.
        read: Points [m, lidar frame] of a sweep by number, `[n, 3]`, all finite.
    """

    times: Float[ndarray, "sweep"]
    ego_from_lidar: Float[ndarray, "4 4"]
    read: Callable[[int], Float[ndarray, "n 3"]]

    def __post_init__(self) -> None:
        if not isinstance(self.read, _Returns):
            object.__setattr__(self, "read", _Returns(self.read))


@dataclass(frozen=True)
class _Returns:
    """The points of sweeps that came back; scanners write NaN for rays that did not."""

    stored: Callable[[int], Float[ndarray, "n 3"]]

    def __call__(self, number: int) -> Float[ndarray, "n 3"]:
        points = self.stored(number)
        return points[np.isfinite(points).all(axis=1)]


@dataclass(frozen=True)
class CameraLog:
    """What the cameras of a car recorded on one drive. Log time starts at the first frame.

    Attributes:
        id: Name of the drive.
        cameras: The rig, at least one camera.
        poses: Where the car was, or None if nobody knows.
        provenance: Where it came from, its licence, what was assumed.
        lidar: Sweeps of a laser scanner, if any.
        road_users: Who else was there, if somebody annotated it.
    """

    id: str
    cameras: tuple[RecordedCamera, ...]
    poses: Poses | None
    provenance: Provenance
    lidar: LidarSweeps | None = None
    road_users: RoadUsers | None = None

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.cameras]
        if not names or len(set(names)) < len(names):
            raise UserError(
                f"camera log {self.id!r}: the rig is not one",
                got=f"cameras {names}",
                expected="at least one camera, names unique",
                fix=f"check {self.provenance.path}",
            )

    def camera(self, name: str) -> RecordedCamera:
        """The camera of that name."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise UserError(
            f"camera log {self.id!r} has no camera {name!r}",
            got=name,
            expected=did_you_mean(name, [camera.name for camera in self.cameras]),
            fix="name a camera of the rig",
        )

    def cropped(self, start: float, end: float) -> CameraLog:
        """The frames between two times [s]; times, also of poses, sweeps and road users, then count from `start`.

        Raises:
            UserError: A camera has no frame there.
        """
        cameras = tuple(camera.cropped(start, end) for camera in self.cameras)
        poses = (
            None if self.poses is None else dataclasses.replace(self.poses, times=self.poses.times - start)
        )
        lidar = (
            None if self.lidar is None else dataclasses.replace(self.lidar, times=self.lidar.times - start)
        )
        users = self.road_users
        users = None if users is None else dataclasses.replace(users, times=users.times - start)
        return dataclasses.replace(self, cameras=cameras, poses=poses, lidar=lidar, road_users=users)

    def pinhole(self) -> CameraLog:
        """The same log with the distortion of every lens taken out as frames are read."""
        return dataclasses.replace(self, cameras=tuple(camera.pinhole() for camera in self.cameras))

    def world_from_camera(self, name: str, frames: object = None) -> Float[ndarray, "frame 4 4"]:
        """Pose of a camera at each of its frames, or at those of these numbers.

        Raises:
            UserError: The log has no poses, or none at such a time.
        """
        camera = self.camera(name)
        if self.poses is None:
            raise UserError(
                f"camera log {self.id!r} has no poses",
                expected="a recording with poses",
                fix="add poses, for example from visual odometry, as docs/formats.md says",
            )
        times = camera.times if frames is None else camera.times[frames]  # type: ignore[index]
        return self.poses.at(times) @ camera.ego_from_camera
