"""The vector of every controlled car, by kernels on the CPU and by their specification elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from countersteer.errors import UserError
from countersteer.tensors import as_array
from countersteer.worlds.backend import Backend, compiled
from countersteer.worlds.sensors.vector import Ego, VectorSpec, reference
from countersteer.worlds.sensors.vector.roads import RoadBank
from countersteer.worlds.truth import Actors, Lights

__all__ = ["course", "light_course", "observe", "observe_arrays"]


def observe(
    spec: VectorSpec,
    roads: RoadBank,
    scene: Int[Tensor, "world"],
    ego: Ego,
    actors: Actors,
    lights: Lights,
    engine: Backend = Backend.AUTO,
) -> Float[Tensor, "world agent feature"]:
    """The vector of every controlled car; no gradient from kernels (`reference.observe` has one).

    Args:
        spec: What is in it.
        roads: Packed for this spec.
        scene: Scene of each world, as numbered in `roads`.
        ego, actors, lights: The state of the worlds.
        engine: What computes it.

    Raises:
        UserError: The parts are of different worlds, or the roads were packed for another spec.
    """
    _check(spec, roads, scene, ego, actors, lights)
    engine = engine.on(ego.position.device)
    if engine is not Backend.KERNEL:
        run = compiled(reference.observe) if engine is Backend.COMPILED else reference.observe
        return run(spec, roads, scene, ego, actors, lights)
    return observe_arrays(
        spec,
        roads,
        as_array(scene, np.int64),
        _array(ego.position),
        *course(ego.heading),
        *map(_array, (ego.speed, ego.curvature, ego.acceleration, ego.asked, ego.lateral)),
        *map(_array, (ego.heading_error, ego.set_speed, ego.remaining, ego.route)),
        _array(actors.pose),
        *course(actors.pose[..., 2]),
        *map(_array, (actors.speed, actors.size)),
        as_array(actors.kind, np.int64),
        as_array(actors.present, np.bool_),
        _array(lights.position),
        *light_course(lights.heading),
        as_array(lights.state, np.int64),
    )


def observe_arrays(
    spec: VectorSpec, roads: RoadBank, scene: ndarray, *parts: ndarray
) -> Float[Tensor, "world agent feature"]:
    """The kernel's vector of every car, nothing checked; `parts` are its arguments from `positions` to `light_states`."""
    from countersteer.worlds.sensors.vector import kernels

    vector = np.empty((*parts[1].shape, spec.size), np.float32)
    slots: tuple[Any, ...] = (spec.cars, spec.lights, spec.lanes, spec.edges)
    kernels.observe_cars(
        vector, *parts, scene, roads.origin.numpy(), *roads.lanes.arrays, *roads.edges.arrays, *slots
    )
    return torch.from_numpy(vector)


def _array(tensor: Tensor) -> ndarray:
    return as_array(tensor, np.float32)


def course(heading: Tensor) -> tuple[ndarray, ndarray]:
    """Cosine and sine; torch's are the ones the reference uses."""
    heading = heading.detach() if heading.requires_grad else heading
    return _array(heading.cos()), _array(heading.sin())


def light_course(heading: Tensor) -> tuple[ndarray, ndarray]:
    """The same of lights; 0, 0 where the direction is unknown."""
    cos, sin = (np.nan_to_num(each) for each in course(heading))
    return cos, sin


def _check(
    spec: VectorSpec, roads: RoadBank, scene: Tensor, ego: Ego, actors: Actors, lights: Lights
) -> None:
    """The kernel reads without bounds checks, so every size is checked here."""
    worlds, agents = ego.heading.shape
    sizes = (len(scene), len(actors.speed), len(lights.state))
    if any(size != worlds for size in sizes) or actors.speed.shape[1] < agents:
        raise UserError(
            "the parts of a vector observation are of different worlds",
            got=f"{worlds} worlds with {agents} cars; {sizes[0]} scenes, {sizes[1]} worlds with "
            f"{actors.speed.shape[1]} actors, {sizes[2]} worlds with lights",
            expected="as many worlds of each, and an actor for each car",
            fix="take all of them from one state",
        )
    if ego.route.shape[2] != len(spec.route):
        raise UserError(
            "the route has other points than the vector",
            got=ego.route.shape[2],
            expected=len(spec.route),
            fix="take the path at the distances of VectorSpec.route",
        )
    if (roads.lanes.nearest, roads.edges.nearest) != (spec.lanes, spec.edges):
        raise UserError(
            "the roads were packed for another vector",
            got=f"{roads.lanes.nearest} lane and {roads.edges.nearest} edge points",
            expected=f"{spec.lanes} and {spec.edges}",
            fix="RoadBank.pack(scenarios, spec.lanes, spec.edges)",
        )
