"""Poses (x, y [m], heading [rad]) as tensors, one in the frame of another; and boxes whose distances are products."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from countersteer.geometry.poses import local_from_world, world_from_local, wrap_angle

__all__ = ["CLASS_BOX", "compose", "ends_of", "relative", "squared_distance"]

CLASS_BOX = ((4.8, 2.0), (1.0, 1.0), (2.0, 1.0))
"""Length and width of the box that stands for a vehicle, a pedestrian, a cyclist (kinds 0, 1, 2 of `ActorKind`) when
motions are compared [m]. Boxes of the agents themselves count for collisions only."""


def relative(pose: Float[Tensor, "*#batch 3"], frame: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "... 3"]:
    """Poses in the frame of others; leading dimensions broadcast."""
    pose, frame = torch.broadcast_tensors(pose, frame)
    place = local_from_world(pose[..., :2], frame[..., :2], frame[..., 2])
    return torch.cat([place, wrap_angle(pose[..., 2:] - frame[..., 2:])], -1)


def compose(frame: Float[Tensor, "*#batch 3"], pose: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "... 3"]:
    """The inverse of `relative`: poses in frames as poses in the world."""
    pose, frame = torch.broadcast_tensors(pose, frame)
    place = world_from_local(pose[..., :2], frame[..., :2], frame[..., 2])
    return torch.cat([place, wrap_angle(pose[..., 2:] + frame[..., 2:])], -1)


def ends_of(pose: Float[Tensor, "*batch 3"], kind: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch 4"]:
    """x, y, r cos, r sin with r half the diagonal of the class's box.

    The squared distance of two of these is the mean squared distance of the four corners, so the nearest of many motions
    is found by one matrix product.
    """
    box = torch.tensor(CLASS_BOX, dtype=pose.dtype, device=pose.device)
    reach = box.norm(dim=-1)[kind.clamp(0, len(CLASS_BOX) - 1)] / 2
    heading = pose[..., 2]
    return torch.stack([pose[..., 0], pose[..., 1], reach * heading.cos(), reach * heading.sin()], -1)


def squared_distance(
    ends: Float[Tensor, "motion 4"],
    kinds: Int[Tensor, "motion"],
    pose: Float[Tensor, "row 3"],
    kind: Int[Tensor, "row"],
) -> Float[Tensor, "row motion"]:
    """Mean squared distance [m^2] of the corners of a class's box at each motion's end to those at a pose in its frame.

    It is infinite for motions of another class.
    """
    here = ends_of(pose, kind)
    squares = (here**2).sum(-1, keepdim=True) - 2 * here @ ends.T + (ends**2).sum(-1)
    return squares.clamp(min=0.0).masked_fill(kinds != kind[:, None], torch.inf)
