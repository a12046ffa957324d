"""The vector of every controlled car, by kernels on the CPU and by their specification elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from countersteer.errors import UserError
from countersteer.tensors import as_array
from countersteer.worlds.backend import Backend, compiled
from countersteer.worlds.sensors.vector import Ego, VectorSpec, reference
from countersteer.worlds.sensors.vector.roads import RoadBank
from countersteer.worlds.truth import Actors, Lights

__all__ = ["observe"]


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
    from countersteer.worlds.sensors.vector import kernels

    worlds, agents = ego.heading.shape
    vector = np.empty((worlds, agents, spec.size), np.float32)
    arguments: list[Any] = [
        vector,
        _array(ego.position),
        *_course(ego.heading),
        *map(_array, (ego.speed, ego.curvature, ego.acceleration, ego.asked, ego.lateral)),
        *map(_array, (ego.heading_error, ego.set_speed, ego.remaining, ego.route)),
        _array(actors.pose),
        *_course(actors.pose[..., 2]),
        *map(_array, (actors.speed, actors.size)),
        as_array(actors.kind, np.int64),
        as_array(actors.present, np.bool_),
        _array(lights.position),
        *(np.where(np.isfinite(each), each, np.float32(0.0)) for each in _course(lights.heading)),
        as_array(lights.state, np.int64),
        as_array(scene, np.int64),
        roads.origin.numpy(),
        *roads.lanes.arrays,
        *roads.edges.arrays,
        spec.cars,
        spec.lights,
        spec.lanes,
        spec.edges,
    ]
    kernels.observe_cars(*arguments)
    return torch.from_numpy(vector)


def _array(tensor: Tensor) -> np.ndarray:
    return as_array(tensor, np.float32)


def _course(heading: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine; torch's are the ones the reference uses."""
    heading = heading.detach()
    return _array(heading.cos()), _array(heading.sin())


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
