"""`noise.uniform` in numba, to the bit. Imported lazily."""

from __future__ import annotations

from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.kernels import njit

__all__ = ["fill"]

U = np.uint64


@nb.njit(inline="always", error_model="numpy")
@no_type_check
def _mix(x):
    x = x + U(0x9E3779B97F4A7C15)
    x = (x ^ (x >> U(30))) * U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U(27))) * U(0x94D049BB133111EB)
    return x ^ (x >> U(31))


@njit(nogil=True, error_model="numpy")
@no_type_check
def fill(key, drives, ticks, numbers):
    """Write float32 `drive count` numbers of uint64 drives and ticks."""
    first = _mix(key)
    for i in range(len(drives)):
        state = _mix(_mix(first ^ drives[i]) ^ ticks[i])
        for k in range(numbers.shape[1]):
            bits = _mix(state ^ _mix(U(k))) >> U(40)
            numbers[i, k] = np.float32(bits) * np.float32(1.0 / (1 << 24))
