"""Numba kernels of the ground bake: polygon fill and nearest-segment painting. Imported lazily."""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np

from countersteer.kernels import njit
from countersteer.worlds.simulation.ground import (
    CROWDED,
    DASH_PERIOD,
    EDGE_STEP,
    HEADING_STEPS,
    PAINT_RANGE,
    PHASE_STEPS,
)

F = np.float32

_NORTH_EAST = math.pi / 4


@njit(nogil=True)
@no_type_check
def fill_polygon(mask, points):
    """Set the cells of `mask` [rows, cols] whose centres lie inside the polygon (even-odd rule).

    Args:
        mask: uint8, written.
        points: Vertices x, y in cells: the centre of cell [0, 0] is at (0.5, 0.5).
    """
    rows, cols = mask.shape
    count = len(points)
    low, high = points[0, 1], points[0, 1]
    for k in range(count):
        low, high = min(low, points[k, 1]), max(high, points[k, 1])
    crossings = np.empty(count, np.float64)
    for row in range(max(0, math.floor(low - 0.5)), min(rows, math.ceil(high + 0.5))):
        y = row + 0.5
        found = 0
        for k in range(count):
            xa, ya = points[k, 0], points[k, 1]
            xb, yb = points[(k + 1) % count, 0], points[(k + 1) % count, 1]
            if (ya <= y) != (yb <= y):
                crossings[found] = xa + (xb - xa) * (y - ya) / (yb - ya)
                found += 1
        crossings[:found].sort()
        for k in range(0, found - 1, 2):
            first = max(0, math.ceil(crossings[k] - 0.5))
            last = min(cols - 1, math.floor(crossings[k + 1] - 0.5))
            for col in range(first, last + 1):
                mask[row, col] = 1


@njit(nogil=True)
@no_type_check
def fill_quads(mask, quads):
    """`fill_polygon` for every quadrilateral (`n 4 2`)."""
    for k in range(len(quads)):
        fill_polygon(mask, quads[k])


@njit(nogil=True)
@no_type_check
def edge_codes(share, inward, outward, near, reach, resolution, codes):
    """Write the codes of the signed distance to the road's border.

    Args:
        share: Share of each cell that is road after the blur, 0 to 255.
        inward, outward: Distance of road cells to the others and of the others to road cells [cells].
        near: Distance by share [m].
        reach: Up to where `near` is used [m].
        resolution: Size of a cell [m].
        codes: uint8, written.
    """
    rows, cols = share.shape
    for row in range(rows):
        for col in range(cols):
            distance = near[share[row, col]]
            if abs(distance) >= reach:
                cells = inward[row, col] if share[row, col] > 127 else outward[row, col]
                # With no border anywhere the transform is huge; the code is clipped.
                far = max((cells - F(0.5)) * resolution, reach)
                distance = far if share[row, col] > 127 else -far
            codes[row, col] = 128 + min(max(round(distance / EDGE_STEP), -127), 127)


@njit(nogil=True)
@no_type_check
def paint_segments(segments, styles, origin, resolution, paint, phase, kind):
    """Write, for every cell near a marking, where its nearest segment lies.

    Args:
        segments: x, y of both ends [m], arc length of the first end [m], number of the line (`n 6`).
        styles: Half width [m], phase code (0 for dashed lines), colour bit (`n 3`).
        origin, resolution: Of the raster [m].
        paint, phase, kind: Codes of `Ground`, updated.
    """
    rows, cols = paint.shape
    best = np.full((rows, cols), np.inf, np.float32)  # distance to the nearest painted border
    line = np.zeros((rows, cols), np.int32)  # whose border that is
    close = F(0.75 * resolution + 0.05)  # a border this near a cell's centre can reach into the cell
    for n in range(len(segments)):
        xa, ya, xb, yb, arc, number = segments[n]
        half, solid, colour = styles[n]
        along_x, along_y = xb - xa, yb - ya
        length2 = along_x * along_x + along_y * along_y
        length = math.sqrt(length2)
        if length2 < 1e-12:
            continue
        reach = PAINT_RANGE
        col0 = max(0, math.floor((min(xa, xb) - reach - origin[0]) / resolution))
        col1 = min(cols, math.ceil((max(xa, xb) + reach - origin[0]) / resolution))
        row0 = max(0, math.floor((min(ya, yb) - reach - origin[1]) / resolution))
        row1 = min(rows, math.ceil((max(ya, yb) + reach - origin[1]) / resolution))
        for row in range(row0, row1):
            y = origin[1] + (row + 0.5) * resolution
            for col in range(col0, col1):
                x = origin[0] + (col + 0.5) * resolution
                share = ((x - xa) * along_x + (y - ya) * along_y) / length2
                share = min(max(share, 0.0), 1.0)
                gap_x, gap_y = x - xa - share * along_x, y - ya - share * along_y
                distance = math.sqrt(gap_x * gap_x + gap_y * gap_y)
                border = F(distance - half)
                other = line[row, col] != 0 and line[row, col] != number
                crowded = phase[row, col] & CROWDED
                if other and max(border, best[row, col]) < close:
                    crowded = CROWDED
                    phase[row, col] |= crowded
                if distance > reach or border >= best[row, col]:
                    continue
                best[row, col] = border
                line[row, col] = number
                # The normal is the gradient of the distance, so that round caps extrapolate rightly too.
                if distance > 1e-6:
                    normal_x, normal_y = gap_x / distance, gap_y / distance
                else:
                    normal_x, normal_y = -along_y / length, along_x / length
                # The line's heading with this normal on its left, rounded, and kept within half a turn.
                step = round(math.atan2(-normal_x, normal_y) / math.pi * HEADING_STEPS)
                signed = distance
                if step < 0 or step >= HEADING_STEPS:
                    step += HEADING_STEPS if step < 0 else -HEADING_STEPS
                    signed = -distance
                code = round(127.0 * math.sqrt(min(distance / PAINT_RANGE, 1.0)))
                paint[row, col] = 128 + code if signed >= 0.0 else 128 - code
                kind[row, col] = int(colour) | step
                position = int(solid)
                if position == 0:
                    heading = step * math.pi / HEADING_STEPS
                    forward = along_x * math.cos(heading) + along_y * math.sin(heading) >= 0.0
                    s = (arc + share * length) % DASH_PERIOD - DASH_PERIOD / 2
                    position = int(((s if forward else -s) / DASH_PERIOD + 0.5) * PHASE_STEPS)
                    position = min(max(position, 0), PHASE_STEPS - 1)
                phase[row, col] = crowded | position


@njit(nogil=True)
@no_type_check
def mark_directions(lanes, origin, resolution, directions):
    """Set the direction bits of the cells within half a lane's width of its segments.

    Args:
        lanes: x, y of both ends and half width [m] (`n 5`).
        origin, resolution: Of the raster [m].
        directions: uint8 bit masks, updated.
    """
    rows, cols = directions.shape
    for n in range(len(lanes)):
        xa, ya, xb, yb, half = lanes[n]
        along_x, along_y = xb - xa, yb - ya
        length2 = along_x * along_x + along_y * along_y
        if length2 < 1e-12:
            continue
        sector = math.floor(math.atan2(along_y, along_x) / _NORTH_EAST + 0.5) % 8
        bit = np.uint8(1 << sector)
        col0 = max(0, math.floor((min(xa, xb) - half - origin[0]) / resolution))
        col1 = min(cols, math.ceil((max(xa, xb) + half - origin[0]) / resolution))
        row0 = max(0, math.floor((min(ya, yb) - half - origin[1]) / resolution))
        row1 = min(rows, math.ceil((max(ya, yb) + half - origin[1]) / resolution))
        for row in range(row0, row1):
            y = origin[1] + (row + 0.5) * resolution
            for col in range(col0, col1):
                x = origin[0] + (col + 0.5) * resolution
                share = ((x - xa) * along_x + (y - ya) * along_y) / length2
                share = min(max(share, 0.0), 1.0)
                gap_x, gap_y = x - xa - share * along_x, y - ya - share * along_y
                if gap_x * gap_x + gap_y * gap_y <= half * half:
                    directions[row, col] |= bit
