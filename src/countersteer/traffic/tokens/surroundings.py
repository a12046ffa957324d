"""What road users see at the times of tokens, as rows of numbers for a `TokenNetwork`.

Everything is relative to the road user that looks: its own last motion, its earlier poses, the nearest pieces of the map
around it and around a point ahead, the nearest lights ahead, the nearest others with what they last did.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.geometry.poses import local_from_world
from countersteer.models.token_network import TokenRows
from countersteer.tensors import TensorTree
from countersteer.traffic.interface import RoadPieces
from countersteer.traffic.tokens.frames import ends_of, relative
from countersteer.traffic.tokens.vocabulary import TOKEN_SECONDS

__all__ = ["PAST", "Looked", "Scene", "look"]

PAST = 6
"""Earlier tokens that are remembered."""
_NEAR, _AHEAD = 10, 20  # pieces of the map around the road user and around a point ahead
_LIGHTS = 2
_OTHERS = 10
_FAR = 60.0  # others further away are not seen [m]
_KINDS = 4
_NOWHERE = 1e6  # [m]


@dataclass(frozen=True)
class Scene(TensorTree):
    """What does not hang on the poses of road users.

    Attributes:
        size, kind: Of every road user, as in `Traffic`.
        place: Row of each world in the `RoadPieces`.
        stop_point, stop_heading: Of lights.
        light: `SignalState` at the time of each token.
    """

    size: Float[Tensor, "world actor 3"]
    kind: Int[Tensor, "world actor"]
    place: Int[Tensor, "world"]
    stop_point: Float[Tensor, "world light 2"]
    stop_heading: Float[Tensor, "world light"]
    light: Int[Tensor, "world light time"]


@dataclass(frozen=True)
class Looked:
    """Rows, and of whom and when they are.

    Attributes:
        rows: For the network.
        world, actor, time: Of each row.
        away: Distance to the nearest piece of a lane [m].
    """

    rows: TokenRows
    world: Int[Tensor, "row"]
    actor: Int[Tensor, "row"]
    time: Int[Tensor, "row"]
    away: Float[Tensor, "row"]


def look(
    pose: Float[Tensor, "world actor time 3"],
    there: Bool[Tensor, "world actor time"],
    scene: Scene,
    roads: RoadPieces,
    times: slice,
) -> Looked:
    """What everybody sees at some times.

    Args:
        pose: Poses at the times of tokens; the one before each token must be there.
        there: Who is there as a token, so with a pose before it.
        scene: Everything else; `light` has as many times as `pose`.
        roads: Maps.
        times: Which times to look at.
    """
    chosen = torch.zeros_like(there)
    chosen[..., times] = there[..., times]
    world, actor, time = chosen.nonzero(as_tuple=True)
    count = len(world)
    index = torch.zeros_like(there, dtype=torch.long)
    index[world, actor, time] = torch.arange(count, device=pose.device)

    here, before = pose[world, actor, time], pose[world, actor, time - 1]
    size, kind = scene.size[world, actor], scene.kind[world, actor]
    last = relative(before, here)
    speed = last[:, :2].norm(dim=-1) / TOKEN_SECONDS
    node = [*(last[:, 0] / 5, last[:, 1], last[:, 2].sin() * 3, 1 - last[:, 2].cos(), speed / 10)]
    node += [*_soft(speed, 1, 4), size[:, 0] / 5 - 1, size[:, 1] / 2 - 1, *_one_hot(kind)]

    back = torch.arange(1, PAST + 1, device=pose.device)
    then = time[:, None] - back
    early, who = then.clamp(min=0), (world[:, None], actor[:, None])
    past = _past_edges(relative(pose[(*who, early)], here[:, None]), back)
    others, others_there = _nearest_others(pose, there, world, actor, time)
    neighbour = (world[:, None], others)
    near = _agent_edges(pose, scene, neighbour, time, here, before, size, speed)
    ground, ground_there, away = _map_edges(roads, scene.place, world, here, speed)
    lights, lights_there = _light_edges(scene, world, time, here)
    rows = TokenRows(
        kind=kind,
        node=torch.stack(node, -1),
        time=past,
        map=ground,
        light=lights,
        agent=near,
        time_row=index[(*who, early)],
        agent_row=index[(*neighbour, time[:, None])],
        time_there=(then >= 1) & there[(*who, early)],
        map_there=ground_there,
        light_there=lights_there,
        agent_there=others_there,
        last=ends_of(relative(here, before), kind),
    )
    return Looked(rows, world, actor, time, away)


def _soft(values: Tensor, *scales: float | int) -> list[Tensor]:
    return [torch.tanh(values / scale) for scale in scales]


def _one_hot(kind: Tensor) -> list[Tensor]:
    return [(kind == each).to(torch.float32) for each in range(_KINDS)]


def _past_edges(then: Tensor, back: Tensor) -> Tensor:
    x, y, turn = then.unbind(-1)
    features = [*(x / 20, y / 10), *_soft(x, 0.5, 3), *_soft(y, 0.3, 2), turn.sin(), turn.cos()]
    features += [(back / PAST).expand(x.shape), then[..., :2].norm(dim=-1) / 5 / back, (3 * turn).sin()]
    return torch.stack(features, -1)


def _nearest_others(
    pose: Tensor, there: Tensor, world: Tensor, actor: Tensor, time: Tensor
) -> tuple[Tensor, Tensor]:
    """The nearest others of each row, and whether there are so many."""
    everybody = pose[world, :, time, :2]
    far = (everybody - pose[world, actor, time][:, None, :2]).norm(dim=-1)
    far = far.masked_fill(~there[world, :, time], _NOWHERE)
    far = far.scatter(1, actor[:, None], _NOWHERE)
    distance, others = far.topk(min(_OTHERS, far.shape[1]), largest=False)
    return others, distance < _FAR


def _agent_edges(
    pose: Tensor,
    scene: Scene,
    neighbour: tuple[Tensor, Tensor],
    time: Tensor,
    here: Tensor,
    before: Tensor,
    size: Tensor,
    speed: Tensor,
) -> Tensor:
    """Where others are, what they last did, and where both will be if they go on so."""
    at = time[:, None]
    now, earlier = pose[(*neighbour, at)], pose[(*neighbour, at - 1)]
    gap, own = relative(now, here[:, None]), relative(now, earlier)[..., 0] / TOKEN_SECONDS
    x, y, turn = gap.unbind(-1)
    closing = speed[:, None] - own * turn.cos()
    distance = gap[..., :2].norm(dim=-1)
    its = scene.size[neighbour]
    features = [*(x / 30, y / 30), *_soft(x, 4, 12), *_soft(y, 1.5, 5), turn.sin(), turn.cos(), own / 10]
    features += [own.tanh(), closing / 10, (closing / 2).tanh(), (-distance / 6).exp()]
    features += [its[..., 0] / 5 - 1, its[..., 1] / 2 - 1, *_one_hot(scene.kind[neighbour])]
    moved = (now - earlier - (here - before)[:, None])[..., :2] / TOKEN_SECONDS
    heading = here[:, None, 2].expand(x.shape)
    drift = local_from_world(moved, torch.zeros_like(moved), heading)
    for seconds in (1.0, 2.0):
        ahead = gap[..., :2] + seconds * drift
        features += [(ahead[..., 0] / 5).tanh(), (ahead[..., 1] / 2).tanh()]
    bumper = x.abs() - (its[..., 0] + size[:, None, 0]) / 2
    beside = y.abs() - (its[..., 1] + size[:, None, 1]) / 2
    features += [(bumper / 3).tanh(), beside.tanh(), (bumper / closing.clamp(min=0.1) / 3).tanh()]
    return torch.stack(features, -1)


def _map_edges(
    roads: RoadPieces, place: Tensor, world: Tensor, here: Tensor, speed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    pieces = roads.pose.shape[1]
    near, ahead = min(_NEAR, pieces), min(_AHEAD, pieces)
    middle = here[:, :2] + torch.stack([here[:, 2].cos(), here[:, 2].sin()], -1) * (10 + 1.2 * speed)[:, None]
    chosen = torch.zeros(len(here), near + ahead, dtype=torch.long, device=here.device)
    away = torch.full((len(here),), _NOWHERE, device=here.device)
    row_place = place[world]
    for each in place.unique().tolist():
        mine = (row_place == each).nonzero().squeeze(1)
        points = roads.pose[each, :, :2].masked_fill(~roads.there[each, :, None], _NOWHERE)
        distance, first = _distance(here[mine, :2], points).topk(near, largest=False)
        chosen[mine, :near], away[mine] = first, distance[:, 0]
        chosen[mine, near:] = _distance(middle[mine], points).topk(ahead, largest=False)[1]
    row = row_place[:, None]
    pose, about = roads.pose[row, chosen], roads.about[row, chosen]
    seen, me = relative(pose, here[:, None]), relative(here[:, None], pose)
    x, y, turn = seen.unbind(-1)
    features = [*(x / 30, y / 30), *_soft(x, 5), *_soft(y, 2, 8), turn.sin(), turn.cos()]
    features += [*_soft(me[..., 0], 3, 15), *_soft(me[..., 1], 0.5, 1.5, 6)]
    features += [about[..., 0] - 1.7, about[..., 1] / 5 - 1, about[..., 2] * 2, *about[..., 3:].unbind(-1)]
    features += [(2 * turn).sin(), seen[..., :2].norm(dim=-1) / 20]
    return torch.stack(features, -1), roads.there[row, chosen], away


def _light_edges(scene: Scene, world: Tensor, time: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
    """The lights nearest to a point 15 m ahead, at most `_LIGHTS`."""
    count = min(_LIGHTS, scene.stop_point.shape[1])
    point, heading = scene.stop_point[world], scene.stop_heading[world]
    # A light of unknown direction is for whoever passes it.
    heading = torch.where(heading.isnan(), here[:, None, 2], heading)
    gap = relative(torch.cat([point, heading[..., None]], -1), here[:, None])
    x, y, turn = gap.unbind(-1)
    distance, chosen = (torch.hypot(x - 15, y) + 10 * (1 - turn.cos())).topk(count, largest=False)
    x, y, turn = (each.gather(1, chosen) for each in (x, y, turn))
    state = scene.light[world, :, time].gather(1, chosen)
    features = [*(x / 30, y / 30), *_soft(x, 5), *_soft(y, 3), turn.sin(), turn.cos(), *_one_hot(state)]
    return torch.stack(features, -1), distance < _FAR


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # Products of coordinates far from the origin would lose decimetres.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
