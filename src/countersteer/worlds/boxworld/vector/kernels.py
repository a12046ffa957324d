"""Numba kernels of the vector observation: one car at a time, cars shared out over threads. Imported lazily.

The road points within reach of a car are a few contiguous runs (see `roads`). Their squared distances go
into a buffer; the K-th smallest is found by bisection, counting how many lie below, which takes vector
instructions where sorting does not; one pass then collects those below in their order. Distances
are computed as in `reference`, product by product, so both choose the same points: no `fastmath` here, which
would fuse them.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.worlds.boxworld.vector.roads import RUN

__all__ = ["fill_reach", "observe_cars"]

F = np.float32

FAR = np.int32(0x7F800000)
"""Bits of infinity; bits of floats that are not negative are ordered as the floats are."""


BLOCK = 32
"""Cars that a thread does in one go, with one set of buffers."""


@nb.njit(cache=True, nogil=True, error_model="numpy", inline="always")
@no_type_check
def _bits(x):
    return np.float32(x).view(np.int32)


@nb.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _threshold(distance, count, wanted, low, high):
    """The largest of the `wanted` smallest, and how many places are left for those that equal it.

    Args:
        distance: Bits of squared distances, infinite where there is nothing, also from `count` to the next
            multiple of RUN.
        count: How many there are.
        wanted: At least 1.
        low, high: Bits; fewer than `wanted` distances are <= low, and FAR, or at least `wanted`, are <= high.

    Returns:
        Bits t and a number m: all distances below t are chosen and the first m that equal t.
    """
    stop = (count + RUN - 1) // RUN * RUN
    below = np.int32(0)
    while high - low > 1:
        middle = low + (high - low) // np.int32(2)
        found = np.int32(0)
        for k in range(stop):
            found += np.int32(distance[k] <= middle)
        if found == wanted:
            return middle + np.int32(1), np.int32(0)
        if found < wanted:
            low, below = middle, found
        else:
            high = middle
    # Several at the same distance, or fewer than wanted in all.
    return high, np.int32(0) if high == FAR else np.int32(wanted) - below


@nb.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _collect(distance, count, threshold, ties, place, chosen):
    """Write the entries of `place` whose distance is below the threshold, in their order; how many they are."""
    found = 0
    if ties == 0:
        for k in range(count):
            chosen[found] = place[k]
            found += distance[k] < threshold
    else:
        for k in range(count):
            chosen[found] = place[k]
            if distance[k] < threshold:
                found += 1
            elif distance[k] == threshold and ties > 0:
                found += 1
                ties -= 1
    return found


@nb.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _within(x, y, radius, points, first, rows, cols, side, begin, squared, place):
    """Buffer the squared distances and places of all points within `radius` of a place, and some more.

    Args:
        x, y: The place, from the scene's origin [m].
        radius: [m]; infinite for all points.
        points: Planes of a `PointBank`.
        first: First point of each cell of the scene, counted from `begin`.
        rows, cols, side: The scene's grid.
        begin: First point of the scene.
        squared, place: Buffers, written; they hold RUN more than the scene has points.

    Returns:
        How many there are; the next RUN distances are infinite.
    """
    count = 0
    px, py = F(x), F(y)
    inverse = 1.0 / side
    row0 = int(min(max(np.floor((y - radius) * inverse), 0.0), float(rows)))
    row1 = int(max(min(np.floor((y + radius) * inverse), rows - 1.0), -1.0))
    for row in range(row0, row1 + 1):
        # How far this row of cells is away sets how far the circle reaches along it.
        away = max(max(row * side - y, y - (row + 1) * side), 0.0)
        half = math.sqrt(max(radius * radius - away * away, 0.0)) + 1e-3
        col0 = int(min(max(np.floor((x - half) * inverse), 0.0), float(cols)))
        col1 = int(max(min(np.floor((x + half) * inverse), cols - 1.0), -1.0))
        if col1 < col0:
            continue
        start, end = begin + first[row * cols + col0], begin + first[row * cols + col1 + 1]
        # Whole vectors: what stands past the end is overwritten by the next run.
        for k in range((end - start + RUN - 1) // RUN * RUN):
            dx, dy = points[0, start + k] - px, points[1, start + k] - py
            squared[count + k] = dx * dx + dy * dy
            place[count + k] = start + k
        count += end - start
    for k in range(RUN):
        squared[count + k] = np.inf
    return count


@nb.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _nearest_points(
    x, y, points, first, reach, rows, cols, side, begin, total, wanted, squared, place, chosen
):
    """Write the nearest points of a place, in their order; returns how many."""
    inverse = 1.0 / side
    row = min(max(np.floor(y * inverse), 0.0), rows - 1.0)
    col = min(max(np.floor(x * inverse), 0.0), cols - 1.0)
    off_x, off_y = x - (col + 0.5) * side, y - (row + 0.5) * side
    off = math.sqrt(off_x * off_x + off_y * off_y)
    known = float(reach[int(row) * cols + int(col)])
    # Distances have rounding errors of their own.
    slack = 1e-3 + 1e-5 * (known + off)
    radius = known + off + slack
    count = _within(x, y, radius, points, first, rows, cols, side, begin, squared, place)
    low, high = np.int32(-1), FAR
    if total > wanted:
        nearer = max(known - off - slack, 0.0)
        low = _bits(nearer * nearer) - np.int32(1)
        high = _bits(min(radius * radius, 1e38))
    threshold, ties = _threshold(squared.view(np.int32), count, wanted, low, high)
    return _collect(squared.view(np.int32), count, threshold, ties, place, chosen)


@nb.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def fill_reach(reach, points, first, rows, cols, side, wanted):
    """Write the distance from the centre of each cell to its `wanted`-th nearest point; infinite if there are fewer.

    Args:
        reach: float32 `rows * cols`, written.
        points, first, rows, cols, side: As in `PointBank`, of one scene.
        wanted: At least 1.
    """
    total = points.shape[1]
    if total < wanted:
        reach[:] = np.inf
        return
    padded = np.zeros((2, total + RUN), np.float32)
    padded[:, :total] = points[:2]
    squared = np.empty(total + 2 * RUN, np.float32)
    place = np.empty(total + 2 * RUN, np.int32)
    for row in range(rows):
        for col in range(cols):
            # The neighbour's reach and the way from there are enough.
            if col > 0:
                radius = float(reach[row * cols + col - 1]) + side
            elif row > 0:
                radius = float(reach[(row - 1) * cols]) + side
            else:
                radius = np.inf
            x, y = (col + 0.5) * side, (row + 0.5) * side
            radius += 1e-3 + 1e-5 * radius
            count = _within(x, y, radius, padded, first, rows, cols, side, 0, squared, place)
            threshold, ties = _threshold(squared.view(np.int32), count, wanted, np.int32(-1), FAR)
            # Without ties the threshold lies above the last of them; by how much bisection does not say.
            largest = F(0.0)
            for k in range(count):
                if _bits(squared[k]) < threshold or (ties > 0 and _bits(squared[k]) == threshold):
                    largest = max(largest, squared[k])
            reach[row * cols + col] = math.sqrt(largest)


@nb.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _road(vector, slots, place, cos, sin, points, chosen, found):
    """Write x, y, cosine, sine, valid of the chosen points."""
    x, y = place
    for k in range(found):
        j = chosen[k]
        dx, dy = points[0, j] - x, points[1, j] - y
        ahead, left = points[2, j], points[3, j]
        vector[k] = cos * dx + sin * dy
        vector[slots + k] = cos * dy - sin * dx
        vector[2 * slots + k] = cos * ahead + sin * left
        vector[3 * slots + k] = cos * left - sin * ahead
        vector[4 * slots + k] = F(1.0)
    if found < slots:
        for field in range(5):
            for k in range(found, slots):
                vector[field * slots + k] = F(0.0)


@nb.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _nearest_rows(x, y, rows, own, wanted, squared, place, chosen):
    """Write which columns of `rows` (x, y, ...) are nearest, without column `own`; returns how many."""
    count = rows.shape[1]
    for k in range(count):
        dx, dy = rows[0, k] - x, rows[1, k] - y
        squared[k] = dx * dx + dy * dy
        place[k] = k
    if own >= 0:
        squared[own] = np.inf
    for k in range(count):
        # Not a number: a position far beyond what squares to a float.
        if not squared[k] < np.inf:
            squared[k] = np.inf
    for k in range(RUN):
        squared[count + k] = np.inf
    threshold, ties = _threshold(squared.view(np.int32), count, wanted, np.int32(-1), FAR)
    return _collect(squared.view(np.int32), count, threshold, ties, place, chosen)


@nb.njit(cache=True, nogil=True, parallel=True, error_model="numpy")
@no_type_check
def observe_cars(
    vectors,
    frames,
    owns,
    routes,
    actors,
    lights,
    scene,
    lane_points,
    lane_start,
    lane_cell,
    lane_reach,
    lane_cell_start,
    lane_reach_start,
    lane_shape,
    lane_side,
    most_lanes,
    edge_points,
    edge_start,
    edge_cell,
    edge_reach,
    edge_cell_start,
    edge_reach_start,
    edge_shape,
    edge_side,
    most_edges,
    car_slots,
    light_slots,
    lane_slots,
    edge_slots,
):
    """Write the vectors of all cars.

    Args:
        vectors: float32 `world agent feature`, written.
        frames, owns, routes: As `vector._ego_rows` makes them.
        actors: As `vector._actor_rows` makes them.
        lights: As `vector._light_rows` makes them.
        scene: Of each world.
        lane_points to most_lanes, edge_points to most_edges: `PointBank.arrays` of lanes and edges.
        car_slots, light_slots, lane_slots, edge_slots: Slots of `VectorSpec`.
    """
    agents = frames.shape[1]
    own_count, route_count = owns.shape[2], routes.shape[2]
    longest = max(max(most_lanes, most_edges), max(actors.shape[2], lights.shape[2])) + 2 * RUN
    cars = vectors.shape[0] * agents
    for block in nb.prange((cars + BLOCK - 1) // BLOCK):
        squared = np.empty(longest, np.float32)
        place = np.empty(longest, np.int32)
        chosen = np.empty(longest, np.int32)
        for car in range(block * BLOCK, min((block + 1) * BLOCK, cars)):
            world, agent = car // agents, car % agents
            vector, own, frame = vectors[world, agent], owns[world, agent], frames[world, agent]
            x, y, here_x, here_y, cos, sin = frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]
            if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(cos)):
                vector[:] = F(0.0)
                continue
            for k in range(own_count):
                vector[k] = own[k]
            at = own_count
            for k in range(route_count):
                dx, dy = routes[world, agent, k, 0] - x, routes[world, agent, k, 1] - y
                vector[at + k] = cos * dx + sin * dy
                vector[at + route_count + k] = cos * dy - sin * dx
            at += 2 * route_count

            rows = actors[world]
            found = _nearest_rows(x, y, rows, agent, car_slots, squared, place, chosen)
            part = vector[at : at + 10 * car_slots]
            speed = own[0]
            for k in range(found):
                j = chosen[k]
                dx, dy = rows[0, j] - x, rows[1, j] - y
                ahead, left = cos * rows[2, j] + sin * rows[3, j], cos * rows[3, j] - sin * rows[2, j]
                part[k] = cos * dx + sin * dy
                part[car_slots + k] = cos * dy - sin * dx
                part[2 * car_slots + k] = ahead
                part[3 * car_slots + k] = left
                part[4 * car_slots + k] = rows[4, j] * ahead - speed
                part[5 * car_slots + k] = rows[4, j] * left
                part[6 * car_slots + k] = rows[5, j]
                part[7 * car_slots + k] = rows[6, j]
                part[8 * car_slots + k] = rows[7, j]
                part[9 * car_slots + k] = F(1.0)
            for field in range(10):
                for k in range(found, car_slots):
                    part[field * car_slots + k] = F(0.0)
            at += 10 * car_slots

            rows = lights[world]
            found = _nearest_rows(x, y, rows, -1, light_slots, squared, place, chosen)
            part = vector[at : at + 7 * light_slots]
            for k in range(found):
                j = chosen[k]
                dx, dy = rows[0, j] - x, rows[1, j] - y
                part[k] = cos * dx + sin * dy
                part[light_slots + k] = cos * dy - sin * dx
                part[2 * light_slots + k] = cos * rows[2, j] + sin * rows[3, j]
                part[3 * light_slots + k] = cos * rows[3, j] - sin * rows[2, j]
                part[4 * light_slots + k] = rows[4, j]
                part[5 * light_slots + k] = rows[5, j]
                part[6 * light_slots + k] = F(1.0)
            for field in range(7):
                for k in range(found, light_slots):
                    part[field * light_slots + k] = F(0.0)
            at += 7 * light_slots

            s = scene[world]
            found = _nearest_points(
                float(here_x),
                float(here_y),
                lane_points,
                lane_cell[lane_cell_start[s] :],
                lane_reach[lane_reach_start[s] :],
                lane_shape[s, 0],
                lane_shape[s, 1],
                lane_side[s],
                lane_start[s],
                lane_cell[lane_cell_start[s] + lane_shape[s, 0] * lane_shape[s, 1]],
                lane_slots,
                squared,
                place,
                chosen,
            )
            part = vector[at : at + 5 * lane_slots]
            _road(part, lane_slots, (here_x, here_y), cos, sin, lane_points, chosen, found)
            at += 5 * lane_slots
            found = _nearest_points(
                float(here_x),
                float(here_y),
                edge_points,
                edge_cell[edge_cell_start[s] :],
                edge_reach[edge_reach_start[s] :],
                edge_shape[s, 0],
                edge_shape[s, 1],
                edge_side[s],
                edge_start[s],
                edge_cell[edge_cell_start[s] + edge_shape[s, 0] * edge_shape[s, 1]],
                edge_slots,
                squared,
                place,
                chosen,
            )
            part = vector[at : at + 5 * edge_slots]
            _road(part, edge_slots, (here_x, here_y), cos, sin, edge_points, chosen, found)
