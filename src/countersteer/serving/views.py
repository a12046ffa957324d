"""The picture that the trained camera would have taken, from that of another car's camera.

A pixel of the trained camera looks along a ray. Below the horizon the ray meets the road, a plane at height 0
of the ego frame, and the other camera saw that point somewhere: exact for the road, whatever the two
mountings. Above it only the direction counts, exact for what is far. What stands up near the car is
displaced by as much as the two mountings differ. Where one pixel covers many of the other picture it is
their mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.data.cameras.log import Distortion
from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera, Intrinsics

__all__ = ["RigCamera", "View"]

_FAR = 1e4  # where the road ends for a ray that hardly points down [m]
_LEAST_SEEN = 0.75  # share of the trained picture that the other camera must see
_FINEST = 12  # samples along a side of a pixel


@dataclass(frozen=True)
class RigCamera:
    """A camera of another car: any lens, any mounting.

    Attributes:
        width, height: Size of its pictures [px].
        ego_from_camera: Mounting: camera axes (right, down, forward) in the ego frame (forward, left, up; origin
            on the ground below the rear axle).
        project: From rays `[n 3]` in camera axes to pixels `[n 2]`, pixel centres at +0.5; NaN where the lens
            does not look.
    """

    width: int
    height: int
    ego_from_camera: Float[ndarray, "4 4"]
    project: Callable[[Float[ndarray, "n 3"]], Float[ndarray, "n 2"]]

    @classmethod
    def of(cls, camera: Camera) -> RigCamera:
        """One of ours."""
        mounting = np.eye(4)
        mounting[:3, :3], mounting[:3, 3] = camera.rotation, camera.position
        return cls.pinhole(camera.intrinsics, mounting)

    @classmethod
    def pinhole(
        cls,
        intrinsics: Intrinsics,
        ego_from_camera: Float[ndarray, "4 4"],
        distortion: Distortion | None = None,
    ) -> RigCamera:
        """A pinhole camera, with the distortion of its lens if it has one."""
        project = partial(_pinhole, intrinsics, distortion)
        return cls(intrinsics.width, intrinsics.height, ego_from_camera, project)

    @classmethod
    def f_theta(
        cls,
        width: int,
        height: int,
        center: tuple[float, float],
        pixels_of_angle: tuple[float, ...],
        largest_angle: float,
        ego_from_camera: Float[ndarray, "4 4"],
        shear: tuple[float, float, float] = (1.0, 0.0, 0.0),
    ) -> RigCamera:
        """A wide camera whose distance from the centre [px] is a polynomial of the angle from its axis [rad].

        Args:
            width, height: Size of its pictures [px].
            center: Where the axis meets the picture [px].
            pixels_of_angle: RewardWeights, the constant first.
            largest_angle: Up to which the lens looks [rad].
            ego_from_camera: As in the class.
            shear: c, d, e of the matrix [[c, d], [e, 1]] that offsets from the centre pass.
        """
        lens = partial(_f_theta, center, pixels_of_angle, largest_angle, shear)
        return cls(width, height, ego_from_camera, lens)


def _pinhole(intrinsics: Intrinsics, distortion: Distortion | None, rays: ndarray) -> ndarray:
    import cv2

    ahead = rays[:, 2] > 1e-6
    points = np.where(ahead[:, None], rays, (0.0, 0.0, 1.0))
    flat = points / points[:, 2:]
    if distortion is None:
        pixels = flat @ intrinsics.matrix.T
    else:
        # The model is fitted within the picture; far outside its polynomial may fold back into it.
        reach = 1.5 * np.hypot(intrinsics.width / intrinsics.fx, intrinsics.height / intrinsics.fy)
        ahead &= distortion.fisheye | (np.hypot(flat[:, 0], flat[:, 1]) < reach)
        project = cv2.fisheye.projectPoints if distortion.fisheye else cv2.projectPoints
        still, coefficients = np.zeros(3), np.array(distortion.coefficients)
        pixels = project(flat[:, None], still, still, intrinsics.matrix, coefficients)[0][:, 0]
    return np.where(ahead[:, None], pixels[:, :2], np.nan)


def _f_theta(
    center: tuple[float, float],
    pixels_of_angle: tuple[float, ...],
    largest_angle: float,
    shear: tuple[float, float, float],
    rays: ndarray,
) -> ndarray:
    aside = np.linalg.norm(rays[:, :2], axis=1)
    angle = np.arctan2(aside, rays[:, 2])
    radius = np.polynomial.polynomial.polyval(angle, pixels_of_angle)
    c, d, e = shear
    offset = rays[:, :2] / np.maximum(aside, 1e-12)[:, None] * radius[:, None]
    pixels = np.array(center) + offset @ np.array([[c, d], [e, 1.0]]).T
    return np.where((angle <= largest_angle)[:, None], pixels, np.nan)


class View:
    """Makes pictures of one camera into those of another; see the module's docstring.

    Args:
        rig: Who takes the pictures.
        trained: Whose pictures the policy was trained with.

    Raises:
        UserError: `rig` sees too little of what `trained` saw.
    """

    def __init__(self, rig: RigCamera, trained: Camera):
        self.rig, self.trained = rig, trained
        place, inside = self._where(1)
        self.seen = float(inside.mean())
        """Share of the trained picture that there is."""
        if self.seen < _LEAST_SEEN:
            raise UserError(
                f"the camera given as {trained.name!r} looks elsewhere than the one the policy was trained with",
                got=f"{self.seen:.0%} of the trained picture lies in its own",
                expected=f"at least {_LEAST_SEEN:.0%} of {np.degrees(trained.fov):.0f} degrees across, "
                f"pitched down by {np.degrees(trained.pitch):.0f} degrees",
                fix="check its calibration and mounting, or take a wider camera",
            )
        centers = np.indices((trained.height, trained.width))[::-1].transpose(1, 2, 0) + 0.5
        same_size = (rig.width, rig.height) == (trained.width, trained.height)
        self._same = same_size and bool(inside.all() and np.abs(place - centers).max() < 1e-3)
        across = np.abs(np.diff(place[..., 0], axis=1))
        along = np.abs(np.diff(place[..., 1], axis=0))
        scale = max(float(np.nanmedian(across)), float(np.nanmedian(along)))
        self._finer = int(np.clip(round(scale), 1, _FINEST))
        place, _ = self._where(self._finer)
        # OpenCV's pixel centres lie at whole numbers; what is not seen repeats the border.
        place = np.nan_to_num(place, nan=-1.0) - 0.5
        self._x, self._y = (place[..., k].astype(np.float32) for k in range(2))

    def __call__(self, picture: UInt8[ndarray, "height width 3"]) -> UInt8[ndarray, "h w 3"]:
        """The trained camera's picture, RGB as the one that is given.

        Raises:
            UserError: The picture has another size than the camera.
        """
        import cv2

        expected = (self.rig.height, self.rig.width, 3)
        if picture.shape != expected or picture.dtype != np.uint8:
            raise UserError(
                f"a picture for {self.trained.name!r} is not one of its camera",
                got=f"{picture.dtype} {list(picture.shape)}",
                expected=f"uint8 {list(expected)}, RGB",
                fix="send pictures of the size that the camera was declared with",
            )
        if self._same:
            return picture
        fine = cv2.remap(picture, self._x, self._y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        size = (self.trained.width, self.trained.height)
        return cv2.resize(fine, size, interpolation=cv2.INTER_AREA) if self._finer > 1 else fine

    def _where(self, finer: int) -> tuple[Float[ndarray, "h w 2"], ndarray]:
        """Pixels of the rig's camera for those of the trained one, `finer` samples along a side, and whether seen."""
        trained, rig = self.trained, self.rig
        width, height = trained.width * finer, trained.height * finer
        x, y = np.meshgrid((np.arange(width) + 0.5) / finer, (np.arange(height) + 0.5) / finer)
        rays = np.stack([x - trained.width / 2, y - trained.height / 2, np.full_like(x, trained.focal)], -1)
        rays = rays.reshape(-1, 3) @ trained.rotation.T  # ego frame
        down = -rays[:, 2:]
        reach = np.where(down > 0.0, trained.position[2] / np.maximum(down, 1e-12), np.inf)
        road = (reach > 0.0) & (np.linalg.norm(rays[:, :2], axis=1, keepdims=True) * reach < _FAR)
        points = np.array(trained.position) + rays * np.where(road, reach, _FAR)
        relative = points - rig.ego_from_camera[:3, 3]
        # Beyond the road's end both cameras look from one place.
        relative = np.where(road, relative, rays)
        pixels = rig.project(relative @ rig.ego_from_camera[:3, :3]).reshape(height, width, 2)
        with np.errstate(invalid="ignore"):
            inside = (pixels >= 0.0) & (pixels <= (rig.width, rig.height))
        return pixels, inside[..., 0] & inside[..., 1]
