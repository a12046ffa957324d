"""Numbers that the renderer's specification and both of its kernels share."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float
from numpy import ndarray

NEAR_PLANE = 0.1
"""Nothing nearer is drawn [m]."""
FAR_GROUND = 2000.0
"""The ground ends here, along the optical axis [m]."""
SINKS = 1e-4
"""Ground hides a box only if nearer by this share, so that boxes standing on it keep their feet."""
SHADOW_REACH = 0.45
"""How far the contact shadow reaches beyond a box [m]."""
SHADOW_DEPTH = 0.6
"""Share of light that the contact shadow takes."""
NOISE_SIZE = 128
FINE_NOISE, COARSE_NOISE = 16.0, 2.0
"""Texels of the two octaves of texture [1/m]."""

# Columns of the appearance row, see appearance.looks_of.
SKY, HORIZON, TERRAIN, ROAD, WHITE, YELLOW_PAINT, LIGHT = 0, 3, 6, 9, 12, 15, 18
AMBIENT, TERRAIN_TEXTURE, ROAD_TEXTURE, OFFSET, VISIBILITY, PAINT = 21, 22, 23, 24, 26, 27
# Pixel classes, see rendering.PixelClass.
K_SKY, K_TERRAIN, K_ROAD, K_MARKING = 0, 1, 2, 3
K_VEHICLE, K_PEDESTRIAN, K_CYCLIST, K_STATIC, K_SIGNAL = 4, 5, 6, 7, 8


@functools.cache
def noise_table() -> Float[ndarray, "16384"]:
    """Periodic value noise of two octaves, features of 8 and 4 texels, in [-1, 1], row by row."""
    rng = np.random.default_rng(0)
    total = np.zeros((NOISE_SIZE, NOISE_SIZE))
    for texels, weight in ((8, 0.65), (4, 0.35)):
        values = rng.uniform(-1.0, 1.0, (NOISE_SIZE // texels,) * 2)
        at = np.arange(NOISE_SIZE) / texels
        low, share = at.astype(int), at % 1
        share = share * share * (3 - 2 * share)
        for axis in range(2):
            shape = (-1, 1) if axis == 0 else (1, -1)
            here, there = values.take(low, axis), values.take((low + 1) % (NOISE_SIZE // texels), axis)
            values = here + (there - here) * share.reshape(shape)
        total += weight * values
    return total.astype(np.float32).ravel()
