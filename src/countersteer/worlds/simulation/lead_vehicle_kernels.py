"""Numba kernel of `lead_vehicle`: cars share nothing, worlds are shared out over threads. Imported lazily."""

from __future__ import annotations

import math
from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.geometry.boxes import REAR_AXLE_SHARE
from countersteer.kernels import inner, njit
from countersteer.scenarios.scenario import SignalState
from countersteer.worlds.simulation.constants import ALONG, BESIDE, LEAD_RANGE, LIGHT_REACH, STEP
from countersteer.worlds.simulation.paths_kernels import point_at
from countersteer.worlds.simulation.scenes import PATH_SPACING

__all__ = ["find_leader"]

F = np.float32
STOP = int(SignalState.STOP)
POINTS = math.ceil(LEAD_RANGE / STEP)


@inner
@no_type_check
def _first_near(points, extent, x, y, reach):
    """Gap from the bumper to a thing at (x, y) [m], infinite if it is not on the path, and the point it is at."""
    best, at = F(np.inf), 0
    # No point lies further than `extent` from the first one, so what is further away is at none of them.
    dx, dy = points[0, 0] - x, points[0, 1] - y
    far = extent + F(ALONG) + reach
    if not dx * dx + dy * dy < far * far:
        return best, at
    for k in range(POINTS):
        dx, dy = points[k, 0] - x, points[k, 1] - y
        along = dx * points[k, 3] + dy * points[k, 4]
        if abs(along) < F(ALONG):
            across = dx * dx + dy * dy - along * along
            gap = F(k) * F(STEP) - along
            if math.sqrt(max(across, F(0.0))) < reach and gap < best:
                best, at = gap, k
    return best, at


@njit(nogil=True, error_model="numpy", parallel=True)
@no_type_check
def find_leader(
    scenes,
    ticks,
    arcs,
    offsets,
    poses,
    speeds,
    there,
    z,
    sizes,
    paths,
    path_z,
    lengths,
    stop_points,
    lights,
    lead_gaps,
    lead_speeds,
    stop_gaps,
):
    """Write what `leads.find_leader` returns into the last three.

    Args:
        scenes to there: Of `BoxWorldState`.
        z: `state.heights_now`, without actors where that says nothing.
        sizes to lights: Of `SceneBank`.
        lead_gaps, lead_speeds, stop_gaps: float32 `world agent`, written.
    """
    worlds, agents = arcs.shape
    for w in nb.prange(worlds):
        points = np.empty((POINTS, 5), np.float32)  # x, y, heading, its cosine and sine
        scene = scenes[w]
        for a in range(agents):
            length, width = sizes[scene, a, 0], sizes[scene, a, 1]
            begin = arcs[w, a] + (length * F(REAR_AXLE_SHARE) + length / F(2.0))
            extent = F(0.0)
            for k in range(POINTS):
                x, y, course, _ = point_at(paths, lengths, scene, a, begin + F(k) * F(STEP), offsets[w, a])
                points[k, 0], points[k, 1], points[k, 2] = x, y, course
                points[k, 3], points[k, 4] = math.cos(course), math.sin(course)
                dx, dy = x - points[0, 0], y - points[0, 1]
                extent = max(extent, math.sqrt(dx * dx + dy * dy))
            best, lead, at = F(np.inf), 0, 0
            for n in range(poses.shape[1]):
                if n == a or not there[w, n]:
                    continue
                reach = (width + sizes[scene, n, 1]) / F(2.0) + F(BESIDE)
                gap, point = _first_near(points, extent, poses[w, n, 0], poses[w, n, 1], reach)
                gap -= sizes[scene, n, 0] / F(2.0)
                if gap < best and z.shape[1] > 0:
                    met = int(np.round((begin + F(point) * F(STEP)) / F(PATH_SPACING)))
                    met = max(min(met, int(lengths[scene, a])), 0)
                    air = abs(path_z[scene, a, met] - z[w, n])
                    if air > (sizes[scene, a, 2] + sizes[scene, n, 2]) / F(2.0):
                        continue  # above or below the path
                if gap < best:
                    best, lead, at = gap, n, point
            lead_gaps[w, a], lead_speeds[w, a] = best, F(0.0)
            if best < F(np.inf):
                along = speeds[w, lead] * math.cos(poses[w, lead, 2] - points[at, 2])
                lead_speeds[w, a] = max(along, F(0.0))
            best = F(np.inf)
            for n in range(stop_points.shape[1]):
                if lights[scene, n, ticks[w]] == STOP:
                    gap, _ = _first_near(
                        points, extent, stop_points[scene, n, 0], stop_points[scene, n, 1], F(LIGHT_REACH)
                    )
                    best = min(best, gap)
            stop_gaps[w, a] = best
