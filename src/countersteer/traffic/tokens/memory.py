"""What a token model remembers of a drive, and the one way it grows: a look at everybody every half second."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.models.token_network import TokenNetwork
from countersteer.tensors import TensorTree
from countersteer.traffic.interface import RoadPieces
from countersteer.traffic.tokens.surroundings import PAST, Looked, Scene, look
from countersteer.traffic.tokens.vocabulary import TOKEN_SECONDS

__all__ = ["TokenMemory", "draw", "empty", "observe"]


@dataclass(frozen=True)
class TokenMemory(TensorTree):
    """Of each drive.

    Attributes:
        pose: Poses at the times of tokens, the latest last.
        seen: Whether the pose is known.
        codes: What the network keeps of earlier tokens, the latest first.
        motion: The motion that is carried out; -1 for none.
        gone: Whether the actor has left for good.
    """

    pose: Float[Tensor, "world actor time 3"]
    seen: Bool[Tensor, "world actor time"]
    codes: Float[Tensor, "world actor block past edge"]
    motion: Int[Tensor, "world actor"]
    gone: Bool[Tensor, "world actor"]


def empty(network: TokenNetwork, present: Bool[Tensor, "world actor"]) -> TokenMemory:
    """Of drives of which nothing is known yet."""
    spec, device = network.spec, present.device
    return TokenMemory(
        pose=torch.zeros(*present.shape, PAST + 2, 3, device=device),
        seen=torch.zeros(*present.shape, PAST + 2, dtype=torch.bool, device=device),
        codes=torch.zeros(*present.shape, spec.blocks, PAST, spec.edge, device=device),
        motion=torch.full(present.shape, -1, device=device),
        gone=torch.zeros_like(present),
    )


def observe(
    network: TokenNetwork,
    memory: TokenMemory,
    pose: Float[Tensor, "world actor 3"],
    speed: Float[Tensor, "world actor"],
    present: Bool[Tensor, "world actor"],
    scene: Scene,
    roads: RoadPieces,
    blind: Bool[Tensor, "world actor"] | None = None,
) -> tuple[TokenMemory, Looked, Float[Tensor, "row motion"]]:
    """Remember where everybody is now, half a second after the last time, and say what each may do next.

    Who was not seen half a second ago is taken to have come straight on.

    Args:
        network: With its vocabulary.
        memory: Until now.
        pose, speed, present: Of everybody now.
        scene: Everything else; `light` at one time.
        roads: Maps.
        blind: Who sees no other road user.

    Returns:
        The memory, of whom the rows are, and logits for each row.
    """
    poses = torch.cat([memory.pose[:, :, 1:], pose[:, :, None]], 2)
    seen = torch.cat([memory.seen[:, :, 1:], present[:, :, None]], 2)
    course = torch.stack([pose[..., 2].cos(), pose[..., 2].sin(), torch.zeros_like(speed)], -1)
    came = pose - TOKEN_SECONDS * speed[..., None] * course
    new = present & ~seen[:, :, -2]
    poses[:, :, -2] = torch.where(new[..., None], came, poses[:, :, -2])
    seen[:, :, -2] |= new
    there = torch.cat([torch.zeros_like(seen[:, :, :1]), seen[:, :, 1:] & seen[:, :, :-1]], 2)
    lights = scene.replace(light=scene.light.expand(-1, -1, there.shape[2]))
    looked = look(poses, there, lights, roads, slice(-1, None))
    rows = looked.rows
    if blind is not None:
        sees = ~blind[looked.world, looked.actor]
        rows = replace(rows, agent_there=rows.agent_there & sees[:, None])
    logits, codes = network(rows, memory.codes[looked.world, looked.actor])
    latest = torch.zeros_like(memory.codes[:, :, :, 0])
    latest[looked.world, looked.actor] = codes
    kept = torch.cat([latest[:, :, :, None], memory.codes[:, :, :, :-1]], 3)
    return memory.replace(pose=poses, seen=seen, codes=kept), looked, logits


def draw(
    logits: Float[Tensor, "row motion"], number: Float[Tensor, "row"], temperature: float, top: int
) -> Int[Tensor, "row"]:
    """One motion for each row among the `top` likeliest, by a number in [0, 1).

    Args:
        logits: At least one is finite.
        number: Random, uniform.
        temperature: Divides the logits.
        top: How many are chosen among.
    """
    best, motion = logits.topk(min(top, logits.shape[1]))
    share = torch.softmax(best / temperature, -1).cumsum(-1)
    picked = (share < number[:, None] * share[:, -1:]).sum(-1, keepdim=True)
    likely = best.isfinite().sum(-1, keepdim=True) - 1
    return motion.gather(1, torch.minimum(picked, likely)).squeeze(1)
