"""One tick of a simulation of roads: vehicles, traffic, commands and events of every drive at once.

On the CPU a numba kernel does it, elsewhere the batched PyTorch of `reference`, which is the specification
and is differentiable; `RoadSettings.backend` can choose otherwise.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from countersteer.errors import UserError
from countersteer.tensors import as_array
from countersteer.traffic.idm import IDM
from countersteer.traffic.interface import Moved
from countersteer.vehicles.bicycle import VehicleState
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.backend import Backend, compiled
from countersteer.worlds.interface import Events
from countersteer.worlds.simulation.ground import GroundBank
from countersteer.worlds.simulation.scenes import SceneBank
from countersteer.worlds.simulation.spec import RoadSettings
from countersteer.worlds.simulation.state import RoadState
from countersteer.worlds.simulation.stepping import reference

__all__ = ["Stepper", "advance"]

_MOTION = ("position", "heading", "speed", "curvature", "acceleration", "commands")
_MOVED = ("actor", "actor_speed", "actor_there")
_CARS = ("arc", "lateral", "heading_error", "path_offset", "speed_history", "yaw_history", "alive", "cause")
_WRITTEN = ("tick", "age", *_CARS, *_MOVED, "actor_arc")
"""What a tick writes of a `RoadState` beside the cars' motion."""
_NUMBERS = ("cause", "collided_with")
_FLAGS = ("terminated", "truncated", "collision", "off_road", "red_light", "wrong_way", "uncomfortable")
"""The `Events`, by their type."""


def advance(
    spec: RoadSettings,
    bank: SceneBank,
    ground: GroundBank,
    state: RoadState,
    action: Action | JerkAction,
    moved: Moved | None = None,
) -> tuple[RoadState, Events]:
    """The state one tick later and what happened on the way; nothing that is passed is written into.

    Args:
        spec: Settings.
        bank, ground: The scenes.
        state: Of every drive; drives that have ended stay as they are.
        action: Of every controlled car; one that is not finite ends the drive as INVALID_STATE.
        moved: Where a traffic model moves the other road users; None where `spec.traffic` is known to the tick itself.

    Raises:
        UserError: The action is by jerk, and `spec` does not say what that adds up to.
    """
    return Stepper(spec, bank, ground).advance(state, action, moved)


class Stepper:
    """Ticks of one simulation, see `advance`; what the kernel takes of settings and scenes is prepared once.

    Args:
        spec: Settings.
        bank, ground: The scenes.
    """

    def __init__(self, spec: RoadSettings, bank: SceneBank, ground: GroundBank):
        self.spec, self.bank, self.ground = spec, bank, ground

    def advance(
        self, state: RoadState, action: Action | JerkAction, moved: Moved | None = None
    ) -> tuple[RoadState, Events]:
        """See `advance`."""
        spec, by_jerk = self.spec, isinstance(action, JerkAction)
        if by_jerk and spec.jerk is None:
            raise UserError(
                "this simulation is not driven by jerk",
                got="a JerkAction",
                expected="an Action, or a simulation with `jerk`",
                fix="build it with jerk=JerkSpec()",
            )
        # What turns the car and what drives it.
        if isinstance(action, JerkAction):
            turn, push = action.lateral, action.longitudinal
        else:
            turn, push = action.curvature, action.acceleration
        learned = torch.is_grad_enabled() and (turn.requires_grad or push.requires_grad)
        engine = spec.backend.on(state.scene.device, learned=learned)
        if engine is not Backend.KERNEL:
            run = compiled(reference.advance) if engine is Backend.COMPILED else reference.advance
            return run(spec, self.bank, self.ground, state, action, moved)
        from countersteer.worlds.simulation.stepping import kernels

        (driven, jerked), scenes, ground = self._constants
        after, names = _unwritten(state, moved), kernels.State._fields
        shape = state.alive.shape
        flags, numbers = (
            np.empty((len(_FLAGS), *shape), np.bool_),
            np.empty((len(_NUMBERS), *shape), np.int64),
        )
        found = {**dict(zip(_FLAGS, flags, strict=True)), **dict(zip(_NUMBERS, numbers, strict=True))}
        kernels.advance(
            jerked if by_jerk else driven,
            scenes,
            ground,
            kernels.State(*map(state.arrays.__getitem__, names)),
            as_array(turn),
            as_array(push),
            kernels.State(*map(after.arrays.__getitem__, names)),
            kernels.Found(**found),
        )
        events: dict[str, Tensor] = dict(zip(_FLAGS, torch.from_numpy(flags).unbind(), strict=True))
        events.update(zip(_NUMBERS, torch.from_numpy(numbers).unbind(), strict=True))
        return after, Events(**events)

    @cached_property
    def _constants(self) -> tuple[Any, Any, Any]:
        from countersteer.worlds.simulation.stepping import kernels

        return (
            tuple(_settings(self.spec, by_jerk) for by_jerk in (False, True)),
            kernels.Scenes(*(self.bank.arrays[name] for name in kernels.Scenes._fields)),
            kernels.Ground(*(getattr(self.ground, name).numpy() for name in kernels.Ground._fields)),
        )


def _unwritten(state: RoadState, moved: Moved | None) -> RoadState:
    """A state to write a tick into: fresh memory where a tick writes, else shared with the state before.

    Every leaf has memory of its own, so that who keeps one does not keep all of them.
    """
    before = state.arrays
    fresh: dict[str, ndarray] = {name: np.empty_like(before[name]) for name in (*_MOTION, *_WRITTEN)}
    if moved is not None:
        fresh["actor_arc"] = before["actor_arc"].copy()
        for name, leaf in zip(_MOVED, (moved.pose, moved.speed, moved.present), strict=True):
            fresh[name] = as_array(leaf.clone())
    leaves: dict[str, Any] = {name: torch.from_numpy(array) for name, array in fresh.items()}
    cars = VehicleState(**{name: leaves.pop(name) for name in _MOTION})
    after = state.replace(cars=cars, **leaves)
    vars(after)["arrays"] = {**before, **fresh}  # the next tick need not ask torch for them again
    return after


def _settings(spec: RoadSettings, by_jerk: bool):
    from countersteer.worlds.simulation.stepping.kernels import IDM_DRIVES, MOVED, REPLAY, Settings

    idm = spec.traffic if isinstance(spec.traffic, IDM) else IDM()
    limits, jerk = spec.vehicle.limits, spec.jerk or JerkSpec()
    return Settings(
        dt=float(spec.dt),
        most_curvature=float(limits.curvature),
        most_curvature_rate=float(limits.curvature_rate),
        most_lateral=float(limits.lateral_acceleration),
        most_braking=float(limits.braking),
        most_acceleration=float(limits.acceleration),
        by_jerk=int(by_jerk),
        jerk_braking=float(jerk.braking),
        jerk_acceleration=float(jerk.acceleration),
        jerk_lateral=float(jerk.lateral_acceleration),
        traffic=REPLAY if spec.traffic is None else IDM_DRIVES if spec.traffic is idm else MOVED,
        idm_standstill=float(idm.standstill_gap),
        idm_headway=float(idm.headway),
        idm_acceleration=float(idm.acceleration),
        idm_braking=float(idm.braking),
        idm_hardest=float(idm.hardest_braking),
        command_duration=float(spec.command_duration),
        duration_ticks=round(spec.duration / spec.dt),
        max_route_deviation=float(spec.max_route_deviation),
        max_heading_error=float(spec.max_heading_error),
        terminate=sum(1 << int(cause) for cause in set(spec.terminate)),
        remove_done_agents=int(spec.remove_done_agents),
    )
