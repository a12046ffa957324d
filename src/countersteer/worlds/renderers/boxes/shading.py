"""Small steps that the numba kernels of the ground and of boxes share."""

from __future__ import annotations

from typing import no_type_check

import numba as nb
import numpy as np

__all__ = ["as_byte", "coverage", "unit"]

F = np.float32


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def coverage(distance, half, density):
    """Share of a footprint, `distance` from the middle of a band of half width `half`, that it covers.

    `density` is one over the footprint.
    """
    share = (half - distance) * density + F(0.5)
    return max(F(0.0), min(share, F(1.0), F(2.0) * half * density))


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def unit(x):
    """A number clipped to [0, 1]."""
    return max(F(0.0), min(x, F(1.0)))


@nb.njit(inline="always", error_model="numpy", fastmath=True)
@no_type_check
def as_byte(x):
    """A colour from 0 to 255, rounded."""
    return np.uint8(np.int32(max(F(0.0), min(x, F(255.0))) + F(0.5)))
