"""What lies ahead of cars on their paths: the next actor, and the next red light."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from countersteer.geometry import boxes
from countersteer.scenarios.scenario import SignalState
from countersteer.tensors import as_array
from countersteer.worlds.backend import Backend
from countersteer.worlds.simulation.constants import ALONG, BESIDE, LEAD_RANGE, LIGHT_REACH, STEP
from countersteer.worlds.simulation.paths import route_reference
from countersteer.worlds.simulation.scenes import PATH_SPACING, SceneBank
from countersteer.worlds.simulation.state import RoadState, heights_now, lights_now

__all__ = ["find_leader", "find_leader_reference"]

Ahead = tuple[Float[Tensor, "world agent"], Float[Tensor, "world agent"], Float[Tensor, "world agent"]]


def find_leader(bank: SceneBank, state: RoadState, engine: Backend = Backend.AUTO) -> Ahead:
    """Gap to the next actor on each car's path [m] and its speed along the path [m/s]; gap to the next red light [m].

    Gaps begin at the front bumper; they are infinite where there is nothing within LEAD_RANGE.
    """
    if engine.on(state.scene.device) is not Backend.KERNEL:
        return find_leader_reference(bank, state)
    from countersteer.worlds.simulation import lead_vehicle_kernels

    own, scenes, z = state.arrays, bank.arrays, heights_now(bank, state)
    heights = np.zeros((len(own["arc"]), 0), np.float32) if z is None else as_array(z)
    outputs = tuple(np.empty_like(own["arc"]) for _ in range(3))
    lead_vehicle_kernels.find_leader(
        *(
            own[name]
            for name in ("scene", "tick", "arc", "path_offset", "actor", "actor_speed", "actor_there")
        ),
        heights,
        *(scenes[name] for name in ("size", "path", "path_z", "path_length", "stop_point", "light")),
        *outputs,
    )
    gap, speed, stop = map(torch.from_numpy, outputs)
    return gap, speed, stop


def find_leader_reference(bank: SceneBank, state: RoadState) -> Ahead:
    """`find_leader` in plain batched PyTorch: its specification."""
    agents = bank.path.shape[1]
    length, width = (bank.size[state.scene, :agents, k] for k in (0, 1))
    front = boxes.rear_axle_to_center(length) + length / 2
    ahead = torch.arange(0.0, LEAD_RANGE, STEP, device=state.arc.device)
    points = route_reference(
        bank, state.scene, state.arc[..., None] + front[..., None] + ahead, state.path_offset
    )
    none = torch.full_like(front, math.inf)

    def distance(position: Tensor, reach: Tensor | float) -> tuple[Tensor, Tensor]:
        """First path point [m past the bumper] within `reach` of each thing, and where it is."""
        gap = points.position[:, :, :, None] - position[:, None, None]
        along = (gap[..., 0] * points.heading.cos()[..., None]) + (
            gap[..., 1] * points.heading.sin()[..., None]
        )
        across = gap.square().sum(-1) - along.square()
        near = (along.abs() < ALONG) & (across.clamp(min=0).sqrt() < reach)
        found = torch.where(near, ahead[:, None] - along, math.inf)
        return found.min(2)

    size = bank.size[state.scene]
    reach = (width[:, :, None] + size[:, None, :, 1]) / 2 + BESIDE
    gaps, where = distance(state.actor[..., :2], reach[:, :, None])
    slots = torch.arange(size.shape[1], device=state.arc.device)
    own = slots == slots[:agents, None]
    there = state.actor_there[:, None] & ~own
    z = heights_now(bank, state)
    if z is not None:
        met = state.arc[..., None] + front[..., None] + where * STEP
        at = (
            torch.minimum((met / PATH_SPACING).round(), bank.path_length[state.scene][..., None])
            .long()
            .clamp(min=0)
        )
        own_z = bank.path_z[state.scene].gather(2, at)
        tall = (size[:, :agents, None, 2] + size[:, None, :, 2]) / 2
        there &= (own_z - z[:, None]).abs() <= tall
    gaps = torch.where(there, gaps - size[:, None, :, 0] / 2, math.inf)
    lead_gap, lead = gaps.min(-1)
    course = points.heading.gather(-1, where.gather(-1, lead[..., None])).squeeze(-1)
    lead_heading = state.actor[..., 2].gather(1, lead)
    lead_speed = (state.actor_speed.gather(1, lead) * (lead_heading - course).cos()).clamp(min=0.0)
    lead_speed = torch.where(lead_gap.isinf(), torch.zeros_like(none), lead_speed)

    if bank.stop_point.shape[1] == 0:
        return lead_gap, lead_speed, none
    gaps, _ = distance(bank.stop_point[state.scene], LIGHT_REACH)
    red = lights_now(bank, state) == int(SignalState.STOP)
    return lead_gap, lead_speed, torch.where(red[:, None], gaps, math.inf).min(-1).values
