"""Numba kernels of the vector observation: one car at a time, cars shared out over threads. Imported lazily.

The road points within reach of a car are a few contiguous runs (see `roads`). Their squared distances go
into a buffer; the K-th smallest is found by bisection, counting how many lie below, which takes vector
instructions where sorting does not; one pass then collects those below in their order. Distances
are computed as in `reference`, product by product, so both choose the same points: no `fastmath` here, which
would fuse them.

Arrays are flat, and functions take them whole with an offset: a slice counts references, atomically.
Offsets are unsigned, which spares the check for negative indices and
leaves loops that take vector instructions; numba makes a float of the sum of a signed and an unsigned number, hence `U`.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.kernels import inner, njit
from countersteer.scenarios.scenario import SignalState

__all__ = ["fill_reach", "observe_cars"]

F, U = np.float32, np.uint64

UNKNOWN, CAUTION, STOP = int(SignalState.UNKNOWN), int(SignalState.CAUTION), int(SignalState.STOP)

RUN = 16
"""Up to this many points past the end of a run are read."""
FAR = np.int32(0x7F800000)
"""Bits of infinity; bits of floats that are not negative are ordered as the floats are."""
BLOCK = 32
"""Most cars, of one world, that a thread does in one go, with one set of buffers."""
EVERYTHING = 1e6
"""From this radius on [m] all points of a scene are within it."""


@njit(nogil=True, error_model="numpy", inline="always")
@no_type_check
def _bits(x):
    return np.float32(x).view(np.int32)


@inner
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
        middle = np.int32(low + (high - low) // 2)
        found = np.int32(0)
        for k in range(stop):
            # Without the casts numba counts in 64 bits, half as many at once.
            found = np.int32(found + np.int32(distance[k] <= middle))
        if found == wanted:
            return np.int32(middle + 1), np.int32(0)
        if found < wanted:
            low, below = middle, found
        else:
            high = middle
    # Several at the same distance, or fewer than wanted in all.
    return high, np.int32(0) if high == FAR else np.int32(wanted - below)


@inner
@no_type_check
def _collect(distance, count, threshold, ties, place, chosen):
    """Write the entries of `place` whose distance is below the threshold, in their order; how many they are."""
    found = np.uint64(0)
    one, none = np.uint64(1), np.uint64(0)
    if ties == 0:
        for k in range(count):
            chosen[found] = place[k]
            found += one if distance[k] < threshold else none
    else:
        for k in range(count):
            chosen[found] = place[k]
            if distance[k] < threshold:
                found += one
            elif distance[k] == threshold and ties > 0:
                found += one
                ties -= 1
    return np.int64(found)


@inner
@no_type_check
def _within(x, y, radius, xs, ys, first, first0, rows, cols, side, begin, squared, place):
    """Buffer the squared distances and places of all points within `radius` of a place, and some more.

    Args:
        x, y: The place, from the scene's origin [m].
        radius: [m]; infinite for all points.
        xs, ys: Planes of a `PointBank`.
        first, first0: First point of each cell, counted from `begin`, and the entry of the scene's first cell.
        rows, cols, side: The scene's grid.
        begin: First point of the scene.
        squared, place: Buffers, written; they hold 2 RUN more than the scene has points.

    Returns:
        How many there are; the next RUN distances are infinite.
    """
    count = U(0)
    px, py = F(x), F(y)
    inverse = 1.0 / side
    row0, row1 = 0, 0
    everything = not radius < EVERYTHING
    if not everything:
        # Truncating rounds down what is not negative.
        row0, row1 = (
            int(max((y - radius) * inverse, 0.0)),
            min(int(max((y + radius) * inverse, -1.0)), rows - 1),
        )
    for row in range(row0, row1 + 1):
        if everything:
            start, end = 0, first[first0 + rows * cols]
        else:
            # How far this row of cells is away sets how far the circle reaches along it.
            away = max(row * side - y, y - (row + 1) * side, 0.0)
            half = math.sqrt(max(radius * radius - away * away, 0.0)) + 1e-3
            if x + half < 0.0:
                continue
            col0, col1 = int(max((x - half) * inverse, 0.0)), min(int((x + half) * inverse), cols - 1)
            if col1 < col0:
                continue
            entry = first0 + row * cols
            start, end = first[entry + col0], first[entry + col1 + 1]
        # Whole vectors: what stands past the end is overwritten by the next run.
        run = U(begin + start)
        for k in range(U((end - start + RUN - 1) // RUN * RUN)):
            dx, dy = xs[run + k] - px, ys[run + k] - py
            squared[count + k] = dx * dx + dy * dy
            place[count + k] = np.uint32(run + k)
        count += U(end - start)
    for k in range(U(RUN)):
        squared[count + k] = np.inf
    return np.int64(count)


@inner
@no_type_check
def _nearest_points(
    x, y, bank, first0, reach0, rows, cols, side, begin, wanted, squared, bits, place, chosen
):
    """Write the nearest points of a place, in their order; returns how many. `bank`: xs, ys, first, reach."""
    xs, ys, first, reach = bank
    inverse = 1.0 / side
    row = min(max(np.floor(y * inverse), 0.0), rows - 1.0)
    col = min(max(np.floor(x * inverse), 0.0), cols - 1.0)
    off_x, off_y = x - (col + 0.5) * side, y - (row + 0.5) * side
    off = math.sqrt(off_x * off_x + off_y * off_y)
    known = float(reach[reach0 + int(row) * cols + int(col)])
    # Distances have rounding errors of their own.
    slack = 1e-3 + 1e-5 * (known + off)
    radius = known + off + slack
    count = _within(x, y, radius, xs, ys, first, first0, rows, cols, side, begin, squared, place)
    low, high = np.int32(-1), FAR
    if radius < EVERYTHING:
        nearer = max(known - off - slack, 0.0)
        low = np.int32(_bits(nearer * nearer) - 1)
        high = _bits(radius * radius)
    threshold, ties = _threshold(bits, count, wanted, low, high)
    return _collect(bits, count, threshold, ties, place, chosen)


@njit(nogil=True, error_model="numpy")
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
    xs, ys = np.zeros(total + RUN, np.float32), np.zeros(total + RUN, np.float32)
    xs[:total], ys[:total] = points[0], points[1]
    squared = np.empty(total + 2 * RUN, np.float32)
    bits = squared.view(np.int32)
    place = np.empty(total + 2 * RUN, np.uint32)
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
            count = _within(x, y, radius, xs, ys, first, 0, rows, cols, side, 0, squared, place)
            threshold, ties = _threshold(bits, count, wanted, np.int32(-1), FAR)
            # Without ties the threshold lies above the last of them; by how much bisection does not say.
            largest = F(0.0)
            for k in range(count):
                if bits[k] < threshold or (ties > 0 and bits[k] == threshold):
                    largest = max(largest, squared[k])
            reach[row * cols + col] = math.sqrt(largest)


@inner
@no_type_check
def _nearest_rows(x, y, planes, stride, count, own, wanted, squared, bits, place, chosen):
    """Write which of `count` things (plane x, plane y) are nearest, without number `own`; returns how many."""
    n = U(count)
    for k in range(n):
        dx, dy = planes[k] - x, planes[stride + k] - y
        squared[k] = dx * dx + dy * dy
        place[k] = np.uint32(k)
    if own >= 0:
        squared[own] = np.inf
    for k in range(U(RUN)):
        squared[n + k] = np.inf
    low, high, there = FAR, np.int32(-1), np.int32(0)
    for k in range(n):
        # Those that are not finite, or too far to square, are not there.
        here = bits[k] < FAR
        there = np.int32(there + np.int32(here))
        low = min(low, bits[k])
        high = max(high, bits[k] if here else np.int32(-1))
    if there <= wanted:
        return _collect(bits, count, FAR, np.int32(0), place, chosen)
    threshold, ties = _threshold(bits, count, wanted, np.int32(low - 1), high)
    return _collect(bits, count, threshold, ties, place, chosen)


@inner
@no_type_check
def _fetch(vector, at, slots, plane, plane0, chosen, found):
    """Write one field of the chosen things, zero in the other slots; returns where the next field begins."""
    for k in range(U(found)):
        vector[at + k] = plane[plane0 + chosen[k]]
    for k in range(U(found), slots):
        vector[at + k] = F(0.0)
    return at + slots


@inner
@no_type_check
def _turn(vector, at, slots, found, x, y, cos, sin):
    """Turn fields x and y, which stand at `at`, minus (x, y), into the frame of a heading."""
    for k in range(U(found)):
        dx, dy = vector[at + k] - x, vector[at + slots + k] - y
        vector[at + k] = cos * dx + sin * dy
        vector[at + slots + k] = cos * dy - sin * dx


@inner
@no_type_check
def _mark(vector, at, slots, found):
    """Write the field `valid`; returns where the next field begins."""
    for k in range(slots):
        vector[at + k] = F(1.0) if k < U(found) else F(0.0)
    return at + slots


@inner
@no_type_check
def _place(vector, at, slots, planes, plane0, stride, chosen, found, x, y, cos, sin):
    """Write x, y, cosine and sine of the chosen things in the frame of a car; returns where the next field begins.

    Args:
        vector, at, slots: Where to.
        planes, plane0, stride: Where from: x at `plane0`, the others `stride` further each.
        chosen, found: Which.
        x, y, cos, sin: The car.
    """
    end = at
    for field in range(4):
        end = _fetch(vector, end, slots, planes, plane0 + U(field) * stride, chosen, found)
    # Fetched first and turned after: turning takes vector instructions, fetching cannot.
    _turn(vector, at, slots, found, x, y, cos, sin)
    _turn(vector, at + slots + slots, slots, found, F(0.0), F(0.0), cos, sin)
    return end


@inner
@no_type_check
def _stand_actors(world, poses, cos, sin, speeds, sizes, kinds, present, planes, seat):
    """Write the actors of a world that are there, in their order; returns how many.

    Args:
        world: Which.
        poses, cos, sin, speeds, sizes, kinds, present: Of `Actors`, headings as cosine and sine.
        planes: x, y, cosine, sine, speed, length, width, kind, one after another, as long as there are actors.
        seat: Written: where each actor stands in the planes, -1 if it is not there.
    """
    slots = present.shape[1]
    n = 0
    for slot in range(slots):
        x, y, speed = poses[world, slot, 0], poses[world, slot, 1], speeds[world, slot]
        here = present[world, slot] and math.isfinite(x) and math.isfinite(y) and math.isfinite(speed)
        # The cosine of what is not finite is not a number.
        here = here and math.isfinite(cos[world, slot])
        seat[slot] = n if here else -1
        if here:
            planes[n], planes[slots + n] = x, y
            planes[2 * slots + n], planes[3 * slots + n] = cos[world, slot], sin[world, slot]
            planes[4 * slots + n] = speed
            planes[5 * slots + n], planes[6 * slots + n] = sizes[world, slot, 0], sizes[world, slot, 1]
            planes[7 * slots + n] = F(kinds[world, slot])
            n += 1
    return n


@inner
@no_type_check
def _stand_lights(world, points, cos, sin, states, planes):
    """Write the lights of a world that are known: x, y, cosine, sine, stop, caution; returns how many."""
    slots = states.shape[1]
    n = 0
    for slot in range(slots):
        state = states[world, slot]
        if state != UNKNOWN:
            planes[n], planes[slots + n] = points[world, slot, 0], points[world, slot, 1]
            planes[2 * slots + n], planes[3 * slots + n] = cos[world, slot], sin[world, slot]
            planes[4 * slots + n] = F(1.0) if state == STOP else F(0.0)
            planes[5 * slots + n] = F(1.0) if state == CAUTION else F(0.0)
            n += 1
    return n


@njit(nogil=True, parallel=True, error_model="numpy")
@no_type_check
def observe_cars(
    vectors,
    positions,
    ego_cos,
    ego_sin,
    speeds,
    curvatures,
    accelerations,
    asked,
    laterals,
    heading_errors,
    set_speeds,
    remainings,
    routes,
    poses,
    actor_cos,
    actor_sin,
    actor_speeds,
    sizes,
    kinds,
    present,
    light_points,
    light_cos,
    light_sin,
    light_states,
    scenes,
    origins,
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
        positions to routes: Of `Ego`, the heading as cosine and sine.
        poses to present: Of `Actors`, headings as cosine and sine too.
        light_points to light_states: Of `Lights`, likewise.
        scenes: Of each world.
        origins: Of `RoadBank`.
        lane_points to most_lanes, edge_points to most_edges: `PointBank.arrays` of lanes and edges.
        car_slots, light_slots, lane_slots, edge_slots: Slots of `VectorSpec`.
    """
    worlds, agents, features = vectors.shape
    actor_count, light_count, route_count = present.shape[1], light_states.shape[1], routes.shape[2]
    longest = max(max(most_lanes, most_edges), max(actor_count, light_count)) + 2 * RUN
    vector = vectors.ravel()
    lane_plane, edge_plane = lane_points.ravel(), edge_points.ravel()
    lane_bank = lane_points[0], lane_points[1], lane_cell, lane_reach
    edge_bank = edge_points[0], edge_points[1], edge_cell, edge_reach
    blocks = (agents + BLOCK - 1) // BLOCK
    for job in nb.prange(worlds * blocks):
        world, block = job // blocks, job % blocks
        scene = scenes[world]
        squared = np.empty(longest, np.float32)
        bits = squared.view(np.int32)
        place = np.empty(longest, np.uint32)
        chosen = np.empty(longest, np.uint32)
        seat = np.empty(actor_count, np.int64)
        actor = np.empty(8 * actor_count, np.float32)
        light = np.empty(6 * light_count, np.float32)
        actors = _stand_actors(
            world, poses, actor_cos, actor_sin, actor_speeds, sizes, kinds, present, actor, seat
        )
        lights = _stand_lights(world, light_points, light_cos, light_sin, light_states, light)
        for agent in range(block * BLOCK, min((block + 1) * BLOCK, agents)):
            x, y = positions[world, agent, 0], positions[world, agent, 1]
            cos, sin = ego_cos[world, agent], ego_sin[world, agent]
            at = U((world * agents + agent) * features)
            if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(cos)):
                for k in range(U(features)):
                    vector[at + k] = F(0.0)
                continue
            speed = speeds[world, agent]
            vector[at] = speed
            vector[at + U(1)] = curvatures[world, agent]
            vector[at + U(2)] = accelerations[world, agent]
            vector[at + U(3)] = asked[world, agent, 0]
            vector[at + U(4)] = asked[world, agent, 1]
            vector[at + U(5)] = sizes[world, agent, 0]
            vector[at + U(6)] = sizes[world, agent, 1]
            vector[at + U(7)] = laterals[world, agent]
            vector[at + U(8)] = heading_errors[world, agent]
            vector[at + U(9)] = set_speeds[world, agent]
            vector[at + U(10)] = remainings[world, agent]
            at += U(11)

            slots = U(route_count)
            for k in range(slots):
                vector[at + k] = routes[world, agent, k, 0]
                vector[at + slots + k] = routes[world, agent, k, 1]
            _turn(vector, at, slots, route_count, x, y, cos, sin)
            at += slots + slots

            slots, stride = U(car_slots), U(actor_count)
            found = _nearest_rows(
                x, y, actor, stride, actors, seat[agent], car_slots, squared, bits, place, chosen
            )
            course = at + slots + slots
            at = _place(vector, at, slots, actor, U(0), stride, chosen, found, x, y, cos, sin)
            plane = U(4) * stride
            for k in range(U(found)):
                theirs = actor[plane + chosen[k]]
                vector[at + k] = theirs * vector[course + k] - speed
                vector[at + slots + k] = theirs * vector[course + slots + k]
            for k in range(U(found), slots):
                vector[at + k] = F(0.0)
                vector[at + slots + k] = F(0.0)
            at += slots + slots
            for field in range(5, 8):
                at = _fetch(vector, at, slots, actor, U(field) * stride, chosen, found)
            at = _mark(vector, at, slots, found)

            slots, stride = U(light_slots), U(light_count)
            found = _nearest_rows(x, y, light, stride, lights, -1, light_slots, squared, bits, place, chosen)
            at = _place(vector, at, slots, light, U(0), stride, chosen, found, x, y, cos, sin)
            for field in range(4, 6):
                at = _fetch(vector, at, slots, light, U(field) * stride, chosen, found)
            at = _mark(vector, at, slots, found)

            # Near the scene's origin 32 bits keep millimetres.
            x, y = F(float(x) - origins[scene, 0]), F(float(y) - origins[scene, 1])
            rows, cols = lane_shape[scene, 0], lane_shape[scene, 1]
            found = _nearest_points(
                float(x),
                float(y),
                lane_bank,
                lane_cell_start[scene],
                lane_reach_start[scene],
                rows,
                cols,
                lane_side[scene],
                lane_start[scene],
                lane_slots,
                squared,
                bits,
                place,
                chosen,
            )
            slots, stride = U(lane_slots), U(lane_points.shape[1])
            at = _place(vector, at, slots, lane_plane, U(0), stride, chosen, found, x, y, cos, sin)
            at = _mark(vector, at, slots, found)

            rows, cols = edge_shape[scene, 0], edge_shape[scene, 1]
            found = _nearest_points(
                float(x),
                float(y),
                edge_bank,
                edge_cell_start[scene],
                edge_reach_start[scene],
                rows,
                cols,
                edge_side[scene],
                edge_start[scene],
                edge_slots,
                squared,
                bits,
                place,
                chosen,
            )
            slots, stride = U(edge_slots), U(edge_points.shape[1])
            at = _place(vector, at, slots, edge_plane, U(0), stride, chosen, found, x, y, cos, sin)
            _mark(vector, at, slots, found)
