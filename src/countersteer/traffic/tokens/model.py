"""Traffic that answers: every half second each road user draws its next motion from a learned vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from countersteer import noise
from countersteer.errors import UserError
from countersteer.geometry.poses import local_from_world, wrap_angle
from countersteer.models.interface import StoredModel
from countersteer.models.token_network import TokenNetwork
from countersteer.ranges import Count, Positive, Ranged
from countersteer.tensors import TensorTree
from countersteer.traffic.interface import Moved, Traffic, TrafficModel
from countersteer.traffic.tokens.faults import Faults
from countersteer.traffic.tokens.frames import CLASS_BOX, compose
from countersteer.traffic.tokens.memory import TokenMemory, draw, empty, observe
from countersteer.traffic.tokens.surroundings import PAST, Scene
from countersteer.traffic.tokens.vocabulary import POINTS, TOKEN_SECONDS, Vocabulary

__all__ = ["TokenTraffic", "network_of"]

_LEAVES = 10.0  # vehicles and cyclists further from every lane have left [m]
_ROOM = (2.0, 0.5)  # that an actor needs ahead and beside to appear [m]
_PEDESTRIAN = 1  # of `ActorKind`


@dataclass(frozen=True)
class TokenTraffic(Ranged, TrafficModel):
    """Road users that draw their motions one after another, given what all have done (SMART, arXiv 2405.15677).

    Controlled cars have their past like everybody else, and no motion drawn. Cars that stand throughout the recording go on
    standing; all pedestrians may move. Whoever hangs on another follows it. An actor appears where and when the recording
    says, or later if somebody is there; once it is there it stays until it has left all lanes by 10 m, however long the recording saw it. Classes of which the
    vocabulary has no motion move as recorded.

    Attributes:
        weights: A trained `TokenNetwork`; recipe `traffic` makes one.
        faults: Who is wrong on purpose; nobody unless it says so.
        temperature: Of the draw; below 1 the likely becomes likelier.
        top: How many of the likeliest motions are drawn among.
        together: Whether all drives of a batch are one call of the network. It is several times faster, and the last bits of a
            drive then hang on how many there are.
    """

    weights: StoredModel
    faults: Faults = Faults()
    temperature: Positive = 1.0
    top: Count = 64
    together: bool = field(default=False)

    reads_roads: ClassVar[bool] = True
    past: ClassVar[tuple[float, ...]] = tuple(TOKEN_SECONDS * k for k in range(1, PAST + 2))

    def begin(self, traffic: Traffic) -> TokenMemory:
        """See `TrafficModel.begin`: what the recording saw before is remembered as if it had been driven."""
        network = network_of(self.weights)
        memory = empty(network, traffic.present)
        if traffic.past is None:
            return memory
        return self._each(network, traffic, memory, traffic.past.present.any(-1).any(-1), None)

    def step(
        self, traffic: Traffic, memory: TokenMemory, *, dt: float, seed: int
    ) -> tuple[Moved, TensorTree]:
        """See `TrafficModel.step`."""
        network, ticks = network_of(self.weights), _ticks(dt)
        phase = traffic.age % ticks
        memory = self._each(network, traffic, memory, phase == 0, seed, dt)
        return _moved(network, traffic, memory, phase, ticks, dt), memory

    def _each(
        self,
        network: TokenNetwork,
        traffic: Traffic,
        memory: TokenMemory,
        due: Tensor,
        seed: int | None,
        dt: float = 0.1,
    ) -> TokenMemory:
        """Memory after the drives that are due have looked around; `seed` None: after their recorded past."""

        def look_around(part: Traffic, kept: TokenMemory) -> TokenMemory:
            part = part.replace(roads=traffic.roads)
            with torch.no_grad():
                if seed is None:
                    return self._recall(network, part, kept)
                return self._decide(network, part, kept, seed, dt)

        if not bool(due.any()):
            return memory
        alone, now = traffic.replace(roads=None), due.nonzero().squeeze(1)
        if self.together or due.device.type != "cpu":
            parts = look_around(alone[now], memory[now])
        else:
            drives = [slice(drive, drive + 1) for drive in now.tolist()]
            parts = TokenMemory.cat([look_around(alone[drive], memory[drive]) for drive in drives])
        return memory.map(lambda old, new: old.index_copy(0, now, new), parts)

    def _recall(self, network: TokenNetwork, traffic: Traffic, memory: TokenMemory) -> TokenMemory:
        past, roads = traffic.past, traffic.roads
        assert past is not None
        assert roads is not None
        for k in reversed(range(past.present.shape[2])):
            pose, there = past.pose[:, :, k], past.present[:, :, k]
            later = past.pose[:, :, max(k - 1, 0)] if k else traffic.pose
            speed = (later - pose)[..., :2].norm(dim=-1) / TOKEN_SECONDS
            memory = observe(network, memory, pose, speed, there, _scene(traffic), roads)[0]
        return memory

    def _decide(
        self, network: TokenNetwork, traffic: Traffic, memory: TokenMemory, seed: int, dt: float
    ) -> TokenMemory:
        assert traffic.roads is not None
        drive, actors, faults = traffic.drive, traffic.kind.shape[1], self.faults
        blind = faults.blind(seed, drive, traffic.age, dt, actors) if faults.inattentive else None
        before = memory.motion
        memory, looked, logits = observe(
            network,
            memory,
            traffic.pose,
            traffic.speed,
            traffic.present,
            _scene(traffic),
            traffic.roads,
            blind,
        )
        at = looked.world, looked.actor
        number = noise.uniform(seed, drive, traffic.age, "token traffic", actors)
        may = _drives_itself(network, traffic)[at]
        leaves = may & (looked.away > _LEAVES) & (traffic.kind[at] != _PEDESTRIAN)
        if faults.aggressive:
            hurry = faults.hurry * faults.hurries(seed, drive, actors)[at].to(logits.dtype)
            logits = logits + hurry[:, None] * network.ends[: logits.shape[1], 0]
        drawn = draw(torch.where(may[:, None], logits, 0.0), number[at], self.temperature, self.top)
        if faults.late:
            again = faults.waits(seed, drive, traffic.age // _ticks(dt), actors)[at] & (before[at] >= 0)
            drawn = torch.where(again, before[at], drawn)
        motion = torch.full_like(before, -1)
        motion[at] = torch.where(may & ~leaves, drawn, -1)
        gone = memory.gone.clone()
        gone[at] |= leaves
        return memory.replace(motion=motion, gone=gone)


def network_of(weights: StoredModel) -> TokenNetwork:
    """The network of a file, with the vocabulary that it was trained with.

    Raises:
        UserError: It is another model, or its vocabulary is another.
    """
    network = weights.model()
    if not isinstance(network, TokenNetwork):
        raise UserError(
            "the weights of the traffic are not of a TokenNetwork",
            got=type(network).__name__,
            expected="TokenNetwork",
            fix="give what `countersteer train traffic` made",
        )
    if not getattr(network, "checked", False):
        used = network.used
        digest = Vocabulary(network.motions[:used], network.kinds[:used]).digest()
        if used == 0 or digest != bytes(network.digest.tolist()).hex():
            raise UserError(
                "the vocabulary of the traffic's network is not the one that it was trained with",
                got=f"{used} motions, digest {digest[:12]}",
                expected=f"digest {bytes(network.digest.tolist()).hex()[:12]}",
                fix="restore the file, or train again",
            )
        network.checked = True  # pyright: ignore[reportArgumentType]
    return network


def _ticks(dt: float) -> int:
    """Ticks of a motion."""
    ticks = round(TOKEN_SECONDS / dt)
    if ticks < 1 or abs(ticks * dt - TOKEN_SECONDS) > 1e-6:
        raise UserError(
            "this tick does not divide the half second of a motion",
            got=f"dt {dt} s",
            expected="0.5 s divided by a whole number",
            fix="set the simulation's dt to 0.1",
        )
    return ticks


def _scene(traffic: Traffic) -> Scene:
    return Scene(
        traffic.size,
        traffic.kind,
        traffic.scene,
        traffic.stop_point,
        traffic.stop_heading,
        traffic.light[..., None],
    )


def _drives_itself(network: TokenNetwork, traffic: Traffic) -> Bool[Tensor, "world actor"]:
    """Whose motions are drawn."""
    slots = torch.arange(traffic.kind.shape[1], device=traffic.kind.device)
    classes = torch.arange(len(CLASS_BOX), device=traffic.kind.device)
    known = (network.kinds[:, None] == classes).any(0)
    known = known[traffic.kind.clamp(max=len(CLASS_BOX) - 1)] & (traffic.kind < len(CLASS_BOX))
    may = traffic.movable | (traffic.kind == _PEDESTRIAN)
    return may & known & traffic.present & ~traffic.controlled & (traffic.tow == slots)


def _moved(
    network: TokenNetwork, traffic: Traffic, memory: TokenMemory, phase: Tensor, ticks: int, dt: float
) -> Moved:
    """Where everybody is a tick later, on the way of a motion or as recorded."""
    motion, begun = memory.motion, memory.pose[:, :, -1]
    driven = (motion >= 0) & traffic.present
    way = torch.cat([torch.zeros_like(network.motions[:, :1]), network.motions], 1)[motion.clamp(min=0)]
    now, then = (_between(way, (phase + k).to(way.dtype) / ticks) for k in (0, 1))
    pace = (then - now)[..., :2].norm(dim=-1) / dt
    course = torch.stack(
        [traffic.pose[..., 2].cos(), traffic.pose[..., 2].sin(), torch.zeros_like(traffic.speed)], -1
    )
    straight = traffic.pose + dt * traffic.speed[..., None] * course
    logged = ~driven & ~memory.gone
    pose = torch.where(driven[..., None], compose(begun, then), straight)
    pose = torch.where(logged[..., None], traffic.logged_pose, pose)
    speed = torch.where(driven, pace, torch.where(logged, traffic.logged_speed, traffic.speed))
    stays = driven | (logged & traffic.logged_present & traffic.present)
    comes = logged & traffic.logged_present & ~traffic.present
    if pose.device.type != "cpu" or bool(comes.any()):
        comes = comes & _free(pose, traffic, stays | traffic.controlled & traffic.present)
    slots = torch.arange(motion.shape[1], device=motion.device)
    hangs = (traffic.tow != slots) & traffic.present
    pose = torch.where(hangs[..., None], _behind(pose, straight, traffic), pose)
    return Moved(pose, speed, stays | comes | hangs)


def _between(way: Float[Tensor, "world actor 6 3"], share: Float[Tensor, "world"]) -> Tensor:
    """Poses on the way of motions, linear between those at 10 Hz."""
    place = share * POINTS
    low = place.floor().long().clamp(max=POINTS - 1)
    rows = torch.arange(len(way), device=way.device)
    a, b = way[rows, :, low], way[rows, :, low + 1]
    return a + (place - low)[:, None, None] * (b - a)


def _free(pose: Tensor, traffic: Traffic, others: Tensor) -> Bool[Tensor, "world actor"]:
    """Whether nobody is where an actor is to be, with a little room."""
    gap = local_from_world(
        pose[:, None, :, :2].expand(-1, pose.shape[1], -1, -1), pose[:, :, None, :2], pose[:, :, None, 2]
    )
    turn = pose[:, None, :, 2] - pose[:, :, None, 2]
    length, width = traffic.size[..., 0], traffic.size[..., 1]
    cos, sin = turn.cos().abs(), turn.sin().abs()
    along = (length[:, :, None] + length[:, None] * cos + width[:, None] * sin) / 2 + _ROOM[0]
    across = (width[:, :, None] + length[:, None] * sin + width[:, None] * cos) / 2 + _ROOM[1]
    upon = (gap[..., 0].abs() < along) & (gap[..., 1].abs() < across)
    mine = torch.eye(pose.shape[1], dtype=torch.bool, device=pose.device)
    return ~(upon & others[:, None] & ~mine).any(-1)


def _behind(pose: Tensor, straight: Tensor, traffic: Traffic) -> Tensor:
    """What hangs on another is drawn along by that one's rear; who pulls and is controlled is taken to go straight on."""
    world = torch.arange(len(pose), device=pose.device)[:, None]
    ahead = torch.where(traffic.controlled[..., None], straight, pose)[world, traffic.tow]
    before, half = traffic.pose[world, traffic.tow], traffic.size[world, traffic.tow][..., 0] / 2

    def hitch(at: Tensor) -> Tensor:
        return at[..., :2] - half[..., None] * torch.stack([at[..., 2].cos(), at[..., 2].sin()], -1)

    old, new = hitch(before) - traffic.pose[..., :2], hitch(ahead) - traffic.pose[..., :2]
    bearing = torch.atan2(new[..., 1], new[..., 0])
    turn = wrap_angle(bearing - torch.atan2(old[..., 1], old[..., 0]))
    reach = old.norm(dim=-1, keepdim=True)
    place = traffic.pose[..., :2] + new - reach * torch.stack([bearing.cos(), bearing.sin()], -1)
    return torch.cat([place, wrap_angle(traffic.pose[..., 2] + turn)[..., None]], -1)
