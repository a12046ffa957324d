"""One tick of a simulation of roads: vehicles, traffic, commands and events of every drive at once.

On the CPU a numba kernel does it, elsewhere the batched PyTorch of `reference`, which is the specification
and is differentiable; `RoadSettings.backend` can choose otherwise.
"""

from __future__ import annotations

import torch
from numpy import ndarray
from torch import Tensor

from countersteer.errors import UserError
from countersteer.tensors import TensorTree, as_array
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

__all__ = ["advance"]


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
    by_jerk = isinstance(action, JerkAction)
    if by_jerk and spec.jerk is None:
        raise UserError(
            "this simulation is not driven by jerk",
            got="a JerkAction",
            expected="an Action, or a simulation with `jerk`",
            fix="build it with jerk=JerkSpec()",
        )
    # What turns the car and what drives it.
    turn, push = (action.lateral, action.longitudinal) if by_jerk else (action.curvature, action.acceleration)
    learned = torch.is_grad_enabled() and (turn.requires_grad or push.requires_grad)
    engine = spec.backend.on(state.scene.device, learned=learned)
    if engine is not Backend.KERNEL:
        run = compiled(reference.advance) if engine is Backend.COMPILED else reference.advance
        return run(spec, bank, ground, state, action, moved)
    from countersteer.worlds.simulation.stepping import kernels

    cars, shape, actors = state.cars, state.alive.shape, state.actor_there.shape
    # What a tick writes is fresh memory; what it leaves alone is shared with the state before.
    after = state.replace(
        tick=torch.empty_like(state.tick),
        age=torch.empty_like(state.age),
        cars=VehicleState(
            position=cars.position.new_empty(*shape, 2),
            heading=cars.heading.new_empty(shape),
            speed=cars.speed.new_empty(shape),
            curvature=cars.curvature.new_empty(shape),
            acceleration=cars.acceleration.new_empty(shape),
            commands=cars.commands.new_empty(*shape, cars.commands.shape[-2], 2),
        ),
        arc=state.arc.new_empty(shape),
        lateral=state.lateral.new_empty(shape),
        heading_error=state.heading_error.new_empty(shape),
        path_offset=state.path_offset.new_empty(shape),
        speed_history=state.speed_history.new_empty(state.speed_history.shape),
        yaw_history=state.yaw_history.new_empty(state.yaw_history.shape),
        alive=state.alive.new_empty(shape),
        cause=state.cause.new_empty(shape),
        actor=state.actor.new_empty(*actors, 3) if moved is None else moved.pose.clone(),
        actor_speed=state.actor_speed.new_empty(actors) if moved is None else moved.speed.clone(),
        actor_arc=state.actor_arc.new_empty(actors) if moved is None else state.actor_arc.clone(),
        actor_there=state.actor_there.new_empty(actors) if moved is None else moved.present.clone(),
    )
    no, zero = state.alive.new_empty, state.cause.new_empty
    events = Events(
        terminated=no(shape),
        truncated=no(shape),
        cause=zero(shape),
        collision=no(shape),
        collided_with=zero(shape),
        off_road=no(shape),
        red_light=no(shape),
        wrong_way=no(shape),
        uncomfortable=no(shape),
    )
    kernels.advance(
        _settings(spec, by_jerk),
        kernels.Scenes(*(bank.arrays[name] for name in kernels.Scenes._fields)),
        kernels.Ground(*(getattr(ground, name).numpy() for name in kernels.Ground._fields)),
        kernels.State(*_arrays(kernels.State._fields, state, state.cars, state.params)),
        as_array(turn),
        as_array(push),
        kernels.State(*_arrays(kernels.State._fields, after, after.cars, after.params)),
        kernels.Found(*_arrays(kernels.Found._fields, events)),
    )
    return after, events


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


def _arrays(names: tuple[str, ...], *trees: TensorTree) -> list[ndarray]:
    """The leaves of these names as numpy sees them, each from the first tree that has it."""
    leaves: dict[str, Tensor] = {}
    for tree in reversed(trees):
        leaves |= vars(tree)
    return [as_array(leaves[name]) for name in names]
