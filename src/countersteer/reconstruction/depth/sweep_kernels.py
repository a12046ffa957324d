"""Semi-global aggregation of a cost volume (Hirschmüller 2008) over four directions, in numba and plainly."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.kernels import njit

__all__ = ["aggregate", "aggregate_reference"]


@njit(error_model="numpy")
@no_type_check
def aggregate(cost, small, large):
    """As `aggregate_reference`, one pixel after the other."""
    height, width, planes = cost.shape
    total = np.zeros((height, width, planes), np.float32)
    last, here = np.empty(planes + 2, np.float32), np.empty(planes + 2, np.float32)
    for direction in range(4):
        lines, length = (height, width) if direction < 2 else (width, height)
        for line in range(lines):
            last[:] = 0.0
            last[0] = last[planes + 1] = np.inf
            lowest = np.float32(0.0)
            for step in range(length):
                along = step if direction % 2 == 0 else length - 1 - step
                row, column = (line, along) if direction < 2 else (along, line)
                paid, summed = cost[row, column], total[row, column]
                jump = lowest + large
                for p in range(planes):
                    beside = min(last[p], last[p + 2]) + small
                    here[p + 1] = paid[p] + (min(min(last[p + 1], beside), jump) - lowest)
                found = np.float32(np.inf)
                for p in range(planes):
                    summed[p] += here[p + 1]
                    found = min(found, here[p + 1])
                    last[p + 1] = here[p + 1]
                lowest = found
    place = np.empty((height, width), np.float32)
    margin = np.empty((height, width), np.float32)
    for row in range(height):
        for column in range(width):
            values = total[row, column]
            best = 0
            for p in range(planes):
                if values[p] < values[best]:
                    best = p
            # Beyond the neighbours of the best one: how much worse is the next choice?
            second = np.float32(np.inf)
            for p in range(planes):
                if abs(p - best) > 2:
                    second = min(second, values[p])
            margin[row, column] = (second - values[best]) / np.float32(4)
            at = np.float32(best)
            if 0 < best < planes - 1:
                bend = values[best - 1] - 2 * values[best] + values[best + 1]
                if bend > 1e-6:
                    at += np.float32(0.5) * (values[best - 1] - values[best + 1]) / bend
            place[row, column] = at
    return place, margin


def aggregate_reference(
    cost: Float[ndarray, "height width plane"], small: float, large: float
) -> tuple[Float[ndarray, "height width"], Float[ndarray, "height width"]]:
    """The best plane of each pixel, with fractions, and by how much it beats those further off.

    Along each of four directions a pixel pays its cost plus the cheapest way there from the pixel before:
    the same plane for nothing, the next one for `small`, any other for `large`.
    """
    cost = cost.astype(np.float64)
    total = np.zeros_like(cost)
    for axis in (0, 1):
        for turn in (1, -1):
            volume = np.moveaxis(cost, axis, 0)[::turn]
            paths = np.zeros_like(volume)
            last = np.zeros_like(volume[0])
            for step in range(len(volume)):
                wide = np.pad(last, ((0, 0), (1, 1)), constant_values=np.inf)
                lowest = last.min(-1, keepdims=True)
                ways = [
                    last,
                    wide[:, :-2] + small,
                    wide[:, 2:] + small,
                    np.broadcast_to(lowest + large, last.shape),
                ]
                last = volume[step] + np.min(ways, axis=0) - lowest
                paths[step] = last
            total += np.moveaxis(paths[::turn], 0, axis)
    best = total.argmin(-1)
    planes = np.arange(cost.shape[-1])
    lowest = total.min(-1)
    margin = np.where(np.abs(planes - best[..., None]) > 2, total, np.inf).min(-1) - lowest
    inner = (best > 0) & (best < len(planes) - 1)
    middle = np.clip(best, 1, len(planes) - 2)[..., None]
    before, after = (np.take_along_axis(total, middle + k, -1)[..., 0] for k in (-1, 1))
    bend = before - 2 * lowest + after
    shift = np.where(inner & (bend > 1e-6), 0.5 * (before - after) / np.where(bend > 1e-6, bend, 1.0), 0.0)
    return (best + shift).astype(np.float32), (margin / 4).astype(np.float32)
