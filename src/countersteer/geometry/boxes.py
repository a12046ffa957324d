"""Oriented boxes in the plane: corners and overlap (torch, any leading dimensions)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["REAR_AXLE_SHARE", "corners", "overlap", "rear_axle_to_center"]

REAR_AXLE_SHARE = 1.461 / 5.176


def corners(
    center: Float[Tensor, "*batch 2"], heading: Float[Tensor, "*batch"], size: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch 4 2"]:
    """Corners front-left, rear-left, rear-right, front-right [m, world].

    Args:
        center: Centre of each box [m].
        heading: Direction of its length [rad].
        size: Length and width [m].
    """
    forward = torch.stack([heading.cos(), heading.sin()], -1) * size[..., :1] / 2
    left = torch.stack([-heading.sin(), heading.cos()], -1) * size[..., 1:2] / 2
    arms = torch.stack([forward + left, left - forward, -forward - left, forward - left], -2)
    return center[..., None, :] + arms


def overlap(
    center_a: Float[Tensor, "*batch 2"],
    heading_a: Float[Tensor, "*batch"],
    size_a: Float[Tensor, "*batch 2"],
    center_b: Float[Tensor, "*batch 2"],
    heading_b: Float[Tensor, "*batch"],
    size_b: Float[Tensor, "*batch 2"],
) -> Bool[Tensor, "*batch"]:
    """Whether two oriented boxes overlap, by the separating-axis theorem (touching counts as apart)."""
    between = center_b - center_a
    turn = heading_b - heading_a
    cos, sin = turn.cos().abs(), turn.sin().abs()

    def separated(heading: Tensor, mine: Tensor, other: Tensor) -> Tensor:
        forward = (between[..., 0] * heading.cos() + between[..., 1] * heading.sin()).abs()
        left = (between[..., 1] * heading.cos() - between[..., 0] * heading.sin()).abs()
        reach_forward = (mine[..., 0] + other[..., 0] * cos + other[..., 1] * sin) / 2
        reach_left = (mine[..., 1] + other[..., 0] * sin + other[..., 1] * cos) / 2
        return (forward >= reach_forward) | (left >= reach_left)

    return ~(separated(heading_a, size_a, size_b) | separated(heading_b, size_b, size_a))


def rear_axle_to_center(length: Any) -> Any:
    """Distance from the rear axle forward to the box centre [m] of a car of this length.

    Data sets give boxes; cars turn about their rear axle. The share is that of the Pacifica used by
    nuPlan and NAVSIM (1.461 m of 5.176 m); recorded egos state no axle of their own.
    """
    return length * REAR_AXLE_SHARE
