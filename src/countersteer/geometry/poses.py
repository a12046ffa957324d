"""Planar poses and angles. Functions take numpy arrays or torch tensors alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["wrap_angle", "local_from_world", "world_from_local"]

Array = Any
"""A numpy array or a torch tensor; what goes in is what comes out."""


def wrap_angle(angle: Array) -> Array:
    """`angle` [rad] wrapped to [-pi, pi)."""
    wrapped = (angle + math.pi) % (2 * math.pi) - math.pi
    # The remainder of a tiny negative number rounds to the divisor itself.
    xp = torch if isinstance(angle, Tensor) else np
    return xp.where(wrapped < math.pi, wrapped, wrapped - 2 * math.pi)


def _rotate(points: Array, cos: Array, sin: Array) -> Array:
    x, y = points[..., 0], points[..., 1]
    rotated = (cos * x - sin * y, sin * x + cos * y)
    if isinstance(points, Tensor):
        return torch.stack(rotated, -1)
    return np.stack(rotated, -1)


def local_from_world(points: Array, origin: Array, heading: Array) -> Array:
    """World points [m, *batch 2] in the frame at `origin` [*batch 2] turned by `heading` [rad, *batch]."""
    xp = torch if isinstance(points, Tensor) else np
    return _rotate(points - origin, xp.cos(heading), -xp.sin(heading))


def world_from_local(points: Array, origin: Array, heading: Array) -> Array:
    """The inverse of `local_from_world`."""
    xp = torch if isinstance(points, Tensor) else np
    return _rotate(points, xp.cos(heading), xp.sin(heading)) + origin
