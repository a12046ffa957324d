"""What cars read of a state, in numba: each the same as the PyTorch beside its call, in its order of operations. Imported lazily."""

from __future__ import annotations

from typing import no_type_check

import numba as nb
import numpy as np

from countersteer.kernels import njit
from countersteer.worlds.simulation.paths_kernels import point_at

__all__ = ["commands_now", "surroundings"]

F = np.float32


@njit(nogil=True, error_model="numpy")
@no_type_check
def commands_now(dt, duration, ages, commands, command_ticks, otherwise, command, since):
    """Write command and command age of `Intent`: `otherwise` and 0 where no command is on."""
    worlds, agents = commands.shape
    for w in range(worlds):
        for a in range(agents):
            age = F(ages[w] - command_ticks[w, a]) * F(dt)
            on = command_ticks[w, a] >= 0 and age >= F(0.0) and age < F(duration)
            command[w, a] = commands[w, a] if on else otherwise[w, a]
            since[w, a] = age if on else F(0.0)


@njit(nogil=True, error_model="numpy", parallel=True)
@no_type_check
def surroundings(
    path,
    path_length,
    light,
    scenes,
    ticks,
    arcs,
    goal_arcs,
    offsets,
    commands,
    there,
    present,
    ahead,
    remaining,
    asked,
    route,
    shown,
    signal,
):
    """Write what the vector sensor needs and no state holds.

    Args:
        path, path_length, light: Of `SceneBank`.
        scenes to there: Of `RoadState` and `VehicleState`.
        present: Of `SceneRows`.
        ahead: Distances of `VectorSpec.route`.
        remaining, asked, route: Of `Ego`, written.
        shown, signal: `Actors.present` and `Lights.state`, written.
    """
    for w in nb.prange(len(scenes)):
        scene = scenes[w]
        for a in range(arcs.shape[1]):
            remaining[w, a] = goal_arcs[w, a] - arcs[w, a]
            asked[w, a, 0], asked[w, a, 1] = commands[w, a, 0, 0], commands[w, a, 0, 1]
            for k in range(len(ahead)):
                x, y, _, _ = point_at(path, path_length, scene, a, arcs[w, a] + ahead[k], offsets[w, a])
                route[w, a, k, 0], route[w, a, k, 1] = x, y
        for n in range(there.shape[1]):
            shown[w, n] = there[w, n] and present[w, n]
        for k in range(light.shape[1]):
            signal[w, k] = light[scene, k, ticks[w]]
