"""Rigid transforms in space: matrices, quaternions, and poses between recorded ones (numpy, 64-bit).

A transform is a 4x4 matrix named target-from-source (docs/conventions.md). Quaternions are (w, x, y, z).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

__all__ = [
    "inverse",
    "matrix_from_quaternion",
    "quaternion_from_matrix",
    "rotation_angle",
    "slerp",
    "transform",
    "transform_points",
]


def transform(
    rotation: Float[ndarray, "*batch 3 3"], translation: Float[ndarray, "*batch 3"] | Sequence[float]
) -> Float[ndarray, "*batch 4 4"]:
    """The 4x4 matrix that rotates, then shifts by `translation` [m]."""
    rotation, translation = np.asarray(rotation, np.float64), np.asarray(translation, np.float64)
    made = np.zeros((*np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1]), 4, 4))
    made[..., :3, :3], made[..., :3, 3], made[..., 3, 3] = rotation, translation, 1.0
    return made


def inverse(target_from_source: Float[ndarray, "*batch 4 4"]) -> Float[ndarray, "*batch 4 4"]:
    """The transform the other way round; exact for the identity."""
    back = np.swapaxes(target_from_source[..., :3, :3], -1, -2)
    return transform(back, -(back @ target_from_source[..., :3, 3:])[..., 0])


def transform_points(
    target_from_source: Float[ndarray, "4 4"], points: Float[ndarray, "*n 3"]
) -> Float[ndarray, "*n 3"]:
    """Points [m] of the source frame in the target frame."""
    return points @ target_from_source[:3, :3].T + target_from_source[:3, 3]


def rotation_angle(rotation: Float[ndarray, "*batch 3 3"]) -> Float[ndarray, "*batch"]:
    """How far a rotation turns [rad], in [0, pi]; precise for small angles too."""
    skew = np.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        -1,
    )
    return np.asarray(np.arctan2(np.linalg.norm(skew, axis=-1), np.trace(rotation, axis1=-2, axis2=-1) - 1.0))


def matrix_from_quaternion(quaternion: Float[ndarray, "*batch 4"]) -> Float[ndarray, "*batch 3 3"]:
    """Rotation matrices of quaternions (w, x, y, z) of any length above 0."""
    quaternion = np.asarray(quaternion, np.float64)
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def quaternion_from_matrix(rotation: Float[ndarray, "*batch 3 3"]) -> Float[ndarray, "*batch 4"]:
    """Unit quaternions (w, x, y, z), w >= 0, by Shepperd's choice of the largest component."""
    rotation = np.asarray(rotation, np.float64)
    m = np.moveaxis(rotation, (-2, -1), (0, 1))
    # 4 q_i q_j for all i and j; the row of the largest diagonal entry is the best conditioned.
    products = np.stack(
        [
            np.stack([1 + m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]], -1),
            np.stack([m[2, 1] - m[1, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0]], -1),
            np.stack([m[0, 2] - m[2, 0], m[1, 0] + m[0, 1], 1 - m[0, 0] + m[1, 1] - m[2, 2], m[2, 1] + m[1, 2]], -1),
            np.stack([m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], 1 - m[0, 0] - m[1, 1] + m[2, 2]], -1),
        ],
        -2,
    )  # fmt: skip
    best = np.diagonal(products, axis1=-2, axis2=-1).argmax(-1)
    quaternion = np.take_along_axis(products, best[..., None, None], -2)[..., 0, :]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def slerp(
    first: Float[ndarray, "*batch 4"], second: Float[ndarray, "*batch 4"], share: Float[ndarray, "*batch"]
) -> Float[ndarray, "*batch 4"]:
    """Rotation on the shortest way between two unit quaternions; `share` in [0, 1] from first to second.

    Shoemake, "Animating rotation with quaternion curves", 1985.
    """
    dot = (first * second).sum(-1)
    second = np.where(dot[..., None] < 0, -second, second)
    # The half angle from both lengths, because the arc cosine is coarse near 1.
    angle = 2 * np.arctan2(np.linalg.norm(second - first, axis=-1), np.linalg.norm(second + first, axis=-1))
    sine = np.sin(angle)
    close = sine < 1e-9
    sine = np.where(close, 1.0, sine)
    a = np.where(close, 1 - share, np.sin((1 - share) * angle) / sine)
    b = np.where(close, share, np.sin(share * angle) / sine)
    mixed = a[..., None] * first + b[..., None] * second
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)
