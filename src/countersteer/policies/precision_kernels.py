"""Numba kernel of `precision`. Imported lazily."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from countersteer.kernels import njit

__all__ = ["subtract_and_round"]

HALF, ONE, DROPPED = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)


@njit(nogil=True)
@no_type_check
def subtract_and_round(frames, mean, rounded):
    """frames - mean in float32, then the nearest bfloat16, ties to even, as its 16 bits; all finite."""
    row = np.empty(frames.shape[1], np.float32)
    bits = row.view(np.uint32)
    for i in range(frames.shape[0]):
        for k in range(frames.shape[1]):
            row[k] = np.float32(frames[i, k]) - mean[k]
        # bfloat16 is the upper half of float32. What is added carries where the lower half is above a half,
        # or is a half below an odd upper one.
        for k in range(frames.shape[1]):
            rounded[i, k] = np.uint16((bits[k] + HALF + ((bits[k] >> DROPPED) & ONE)) >> DROPPED)
