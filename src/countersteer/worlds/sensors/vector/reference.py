"""The vector observation in plain batched PyTorch: the specification of `kernels`, and the path on other devices.

Every car looks at every actor, light and road point. Gradients run through positions, headings and speeds;
which things are nearest has none.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from countersteer.scenarios.scenario import SignalState
from countersteer.worlds.sensors.vector import Ego, VectorSpec
from countersteer.worlds.sensors.vector.roads import PointBank, RoadBank
from countersteer.worlds.truth import Actors, Lights

__all__ = ["observe"]


def observe(
    spec: VectorSpec, roads: RoadBank, scene: Int[Tensor, "world"], ego: Ego, actors: Actors, lights: Lights
) -> Float[Tensor, "world agent feature"]:
    """See `observing.observe`."""
    agents = ego.heading.shape[1]
    cos, sin = ego.heading.cos(), ego.heading.sin()
    size = actors.size[:, :agents]
    own = [ego.speed, ego.curvature, ego.acceleration, *ego.asked.unbind(-1), size[..., 0], size[..., 1]]
    own += [ego.lateral, ego.heading_error, ego.set_speed, ego.remaining]
    route = _turn(ego.route - ego.position[..., None, :], cos, sin)
    place = roads.local(scene, ego.position)
    groups = [
        torch.stack(own, -1),
        route.transpose(-1, -2).flatten(-2),
        _actors(ego, actors, spec.cars, cos, sin),
        _lights(ego, lights, spec.lights, cos, sin),
        _road(roads.lanes, scene, place, cos, sin),
        _road(roads.edges, scene, place, cos, sin),
    ]
    seen = ego.position.isfinite().all(-1) & ego.heading.isfinite()
    return torch.where(seen[..., None], torch.cat(groups, -1), 0.0)


def _turn(
    gap: Float[Tensor, "world agent slot 2"],
    cos: Float[Tensor, "world agent"],
    sin: Float[Tensor, "world agent"],
) -> Float[Tensor, "world agent slot 2"]:
    """World vectors in the frames of cars whose headings have these cosines and sines."""
    x, y = gap.unbind(-1)
    cos, sin = cos[..., None], sin[..., None]
    return torch.stack([cos * x + sin * y, cos * y - sin * x], -1)


def _nearest(
    place: Float[Tensor, "world agent 2"],
    points: Float[Tensor, "world point 2"],
    present: Bool[Tensor, "world #agent point"],
    wanted: int,
) -> tuple[Int[Tensor, "world agent slot"], Bool[Tensor, "world agent slot"]]:
    """Indices of the nearest points in index order, and whether there is one; of equals the first counts."""
    gap = points[:, None] - place[:, :, None]
    distance = gap[..., 0] * gap[..., 0] + gap[..., 1] * gap[..., 1]
    distance = torch.where(present & distance.isfinite(), distance, torch.inf)
    # Points that are never there fill the slots of those that are missing.
    ranked = functional.pad(distance, (0, wanted), value=torch.inf).sort(dim=-1, stable=True)
    last = points.shape[1]
    found = torch.where(ranked.values.isfinite(), ranked.indices, last)[..., :wanted].sort(-1).values
    return found, found < last


def _gather(
    rows: Float[Tensor, "world point field"],
    index: Int[Tensor, "world agent slot"],
) -> Float[Tensor, "world agent slot field"]:
    """Rows of each world at these indices; index `point` gives zeros."""
    padded = functional.pad(rows, (0, 0, 0, 1))
    worlds = torch.arange(len(rows), device=rows.device)[:, None, None]
    return padded[worlds, index]


def _fields(
    columns: list[Float[Tensor, "world agent slot"]], valid: Bool[Tensor, "world agent slot"]
) -> Float[Tensor, "world agent feature"]:
    """Field by field, zero where there is nothing."""
    rows = torch.stack([*columns, torch.ones_like(columns[0])], -2)
    return torch.where(valid[..., None, :], rows, 0.0).flatten(-2)


def _actors(ego: Ego, actors: Actors, wanted: int, cos: Tensor, sin: Tensor) -> Tensor:
    agents, slots = ego.heading.shape[1], actors.speed.shape[1]
    here = actors.present & actors.pose.isfinite().all(-1) & actors.speed.isfinite()
    own = torch.eye(agents, slots, dtype=torch.bool, device=here.device)
    index, valid = _nearest(ego.position, actors.pose[..., :2], here[:, None] & ~own, wanted)
    heading = actors.pose[..., 2]
    course = torch.stack([heading.cos(), heading.sin()], -1)
    center, course = _gather(actors.pose[..., :2], index), _gather(course, index)
    rest = torch.stack([actors.speed, actors.size[..., 0], actors.size[..., 1], actors.kind.float()], -1)
    speed, length, width, kind = _gather(rest, index).unbind(-1)
    x, y = _turn(center - ego.position[..., None, :], cos, sin).unbind(-1)
    ahead, left = _turn(course, cos, sin).unbind(-1)
    velocity = [speed * ahead - ego.speed[..., None], speed * left]
    return _fields([x, y, ahead, left, *velocity, length, width, kind], valid)


def _lights(ego: Ego, lights: Lights, wanted: int, cos: Tensor, sin: Tensor) -> Tensor:
    known = lights.state != int(SignalState.UNKNOWN)
    index, valid = _nearest(ego.position, lights.position, known[:, None], wanted)
    course = torch.stack([lights.heading.cos(), lights.heading.sin()], -1).nan_to_num()
    state = torch.stack([lights.state == int(SignalState.STOP), lights.state == int(SignalState.CAUTION)], -1)
    gap = _gather(lights.position, index) - ego.position[..., None, :]
    columns = torch.cat(
        [
            _turn(gap, cos, sin),
            _turn(_gather(course, index), cos, sin),
            _gather(state.to(gap.dtype), index),
        ],
        -1,
    )
    return _fields(list(columns.unbind(-1)), valid)


def _road(bank: PointBank, scene: Tensor, place: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    number = torch.arange(bank.longest, device=scene.device)
    present = number < bank.count[scene][:, None]
    rows = bank.planes[:, torch.where(present, bank.start[scene][:, None] + number, 0)].permute(1, 2, 0)
    index, valid = _nearest(place, rows[..., :2], present[:, None], bank.nearest)
    points = _gather(rows, index)
    gap, course = points[..., :2] - place[..., None, :], points[..., 2:]
    columns = torch.cat([_turn(gap, cos, sin), _turn(course, cos, sin)], -1)
    return _fields(list(columns.unbind(-1)), valid)
