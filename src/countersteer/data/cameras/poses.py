"""Recorded poses of the car and those between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.geometry.rigid import matrix_from_quaternion, quaternion_from_matrix, slerp, transform

__all__ = ["Poses"]


@dataclass(frozen=True)
class Poses:
    """Where the car was.

    Attributes:
        times: Increasing [s, log time].
        world_from_ego: Pose at each time; world z up, ego axes forward, left, up.
        cubic: Positions between the recorded ones lie on a natural cubic spline, for smooth recordings; else
            on straight lines, which noise does not excite. Rotations turn evenly either way.
    """

    times: Float[ndarray, "pose"]
    world_from_ego: Float[ndarray, "pose 4 4"]
    cubic: bool = False

    def __post_init__(self) -> None:
        rotation = self.world_from_ego[:, :3, :3]
        if not len(self.times) or not np.isfinite(self.times).all() or not (np.diff(self.times) > 0).all():
            self._fail("times do not increase", f"{len(self.times)} times", "at least one, increasing")
        if not np.isfinite(self.world_from_ego).all():
            self._fail("a pose is not finite", "NaN or infinity", "finite numbers")
        off = np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max()
        if off > 1e-3 or not (np.linalg.det(rotation) > 0).all():
            got = f"R R^T differs from 1 by {off:.2g}" if off > 1e-3 else "a mirrored rotation"
            self._fail("a rotation is none", got, "orthonormal, right-handed matrices")

    def _fail(self, what: str, got: object, expected: object) -> None:
        raise UserError(
            f"poses of a camera log: {what}", got=got, expected=expected, fix="check the pose file"
        )

    def covers(self, times: Any) -> Bool[ndarray, "*time"]:
        """Whether times [s] lie within the recording (a microsecond of rounding allowed)."""
        times = np.asarray(times, np.float64)
        return np.asarray((times >= self.times[0] - 1e-6) & (times <= self.times[-1] + 1e-6))

    def at(self, times: Any) -> Float[ndarray, "*time 4 4"]:
        """`world_from_ego` at times [s]; exactly the recorded pose at a recorded time.

        Raises:
            UserError: A time lies outside the recording; `covers` tells beforehand.
        """
        times = np.asarray(times, np.float64)
        bare = np.atleast_1d(times)[~np.atleast_1d(self.covers(times))]
        if len(bare):
            raise UserError(
                "there is no pose at that time",
                got=f"{bare[0]:.3f} s",
                expected=f"{self.times[0]:.3f} to {self.times[-1]:.3f} s",
                fix="ask only for times that `Poses.covers`",
            )
        after = np.clip(np.searchsorted(self.times, times), 1, max(len(self.times) - 1, 1))
        before = after - 1
        if len(self.times) == 1:
            return np.broadcast_to(self.world_from_ego[0], (*times.shape, 4, 4)).copy()
        span = self.times[after] - self.times[before]
        share = np.clip((times - self.times[before]) / span, 0.0, 1.0)
        quaternion = quaternion_from_matrix(self.world_from_ego[:, :3, :3])
        rotation = matrix_from_quaternion(slerp(quaternion[before], quaternion[after], share))
        position = self.world_from_ego[:, :3, 3]
        a, b = 1 - share[..., None], share[..., None]
        between = a * position[before] + b * position[after]
        if self.cubic and len(self.times) > 2:
            bend = _second_derivatives(self.times, position)
            between += ((a**3 - a) * bend[before] + (b**3 - b) * bend[after]) * span[..., None] ** 2 / 6
        found = transform(rotation, between)
        for index in (before, after):  # a recorded time gives the recorded bits
            same = times == self.times[index]
            found = np.where(same[..., None, None], self.world_from_ego[index], found)
        return found

    def speed(self) -> Float[ndarray, "step"]:
        """Mean speed between neighbouring poses [m/s]; empty for a single pose."""
        step = np.diff(self.world_from_ego[:, :3, 3], axis=0)
        return np.linalg.norm(step, axis=1) / np.diff(self.times)


def _second_derivatives(times: ndarray, position: ndarray) -> ndarray:
    """Of the natural cubic spline through the positions: a tridiagonal system, by elimination."""
    step = np.diff(times)
    slope = np.diff(position, axis=0) / step[:, None]
    right = 6 * np.diff(slope, axis=0)
    diagonal = 2 * (step[:-1] + step[1:])
    for i in range(1, len(diagonal)):
        factor = step[i] / diagonal[i - 1]
        diagonal[i] -= factor * step[i]
        right[i] -= factor * right[i - 1]
    bend = np.zeros_like(position)
    for i in range(len(diagonal) - 1, -1, -1):
        bend[i + 1] = (right[i] - step[i + 1] * bend[i + 2]) / diagonal[i]
    return bend
