"""Cars beside the paths they are to follow: where they are along them, and what lies ahead."""

from __future__ import annotations

import torch
from torch import Tensor

from countersteer.geometry.poses import local_from_world, wrap_angle
from countersteer.tensors import as_array
from countersteer.worlds.simulation.scenes import PATH_SPACING, SceneBank
from countersteer.worlds.truth import PathPoints

__all__ = ["WINDOW", "project_to_route", "route_at", "route_reference"]

WINDOW = (-6, 16)
"""Path points around the last one among which the nearest is looked for, half open."""


def route_at(bank: SceneBank, scene: Tensor, arc: Tensor, offset: Tensor) -> PathPoints:
    """Points at arc lengths [world agent point], moved left by `offset` [world agent].

    On the CPU a numba kernel finds them, elsewhere and where a gradient is wanted `route_reference`.
    """
    learned = torch.is_grad_enabled() and (arc.requires_grad or offset.requires_grad)
    if arc.device.type != "cpu" or learned or arc.dtype != torch.float32:
        return route_reference(bank, scene, arc, offset)
    from countersteer.worlds.simulation import paths_kernels

    points = PathPoints(arc.new_empty(*arc.shape, 2), arc.new_empty(arc.shape), arc.new_empty(arc.shape))
    arrays = (bank.path, bank.path_length, scene, arc, offset)
    outputs = (points.position, points.heading, points.curvature)
    paths_kernels.route_points(*map(as_array, (*arrays, *outputs)))
    return points


def route_reference(bank: SceneBank, scene: Tensor, arc: Tensor, offset: Tensor) -> PathPoints:
    """`route_at` in plain batched PyTorch: its specification."""
    bounded = torch.minimum(arc.clamp(min=0.0), bank.path_length[scene][..., None] - 1e-3)
    base = (bounded / PATH_SPACING).floor()
    part = (bounded / PATH_SPACING - base)[..., None]
    index = base.long()
    row = _path_rows(bank, scene, index) * (1 - part) + _path_rows(bank, scene, index + 1) * part
    heading = row[..., 2]
    beyond = (arc - bounded)[..., None] * torch.stack([heading.cos(), heading.sin()], -1)
    side = offset[..., None, None] * torch.stack([-heading.sin(), heading.cos()], -1)
    bend = row[..., 3] / (1 - offset[..., None] * row[..., 3]).clamp(min=0.2)
    return PathPoints(row[..., :2] + beyond + side, wrap_angle(heading), bend)


def project_to_route(
    bank: SceneBank, scene: Tensor, position: Tensor, heading: Tensor, offset: Tensor, near: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Arc, lateral offset, heading error and path curvature of cars; `near` is the last arc, None to search."""
    last = (bank.path_length[scene] / PATH_SPACING).long()[..., None]
    if near is None:
        # Past its end a stored path repeats its last point.
        rows = bank.path[scene]
        index = torch.arange(rows.shape[2], device=scene.device).expand(*position.shape[:-1], -1)
    else:
        window = torch.arange(*WINDOW, device=scene.device)
        index = (near / PATH_SPACING).long()[..., None] + window
        rows = _path_rows(bank, scene, torch.minimum(index, last))
    nearest = (rows[..., :2] - position[..., None, :]).square().sum(-1).argmin(-1, keepdim=True)
    row = rows.gather(-2, nearest[..., None].expand(*nearest.shape, 4)).squeeze(-2)
    at = torch.minimum(index, last).clamp(min=0).gather(-1, nearest).squeeze(-1) * PATH_SPACING
    course, bend = row[..., 2], row[..., 3]
    # One Newton step along the osculating direction; points are close enough for it to be exact to mm.
    gap = local_from_world(position, row[..., :2], course)
    along = gap[..., 0] / (1 - gap[..., 1] * bend).clamp(min=0.2)
    there = route_reference(bank, scene, (at + along)[..., None], torch.zeros_like(at))
    course = there.heading[..., 0]
    gap = local_from_world(position, there.position[..., 0, :], course)
    return at + along, gap[..., 1] - offset, wrap_angle(heading - course), there.curvature[..., 0]


def _path_rows(bank: SceneBank, scene: Tensor, index: Tensor) -> Tensor:
    """Stored path points [world agent point 4] at integer indices, clamped to the path."""
    agents = torch.arange(bank.path.shape[1], device=scene.device)[None, :, None]
    index = index.clamp(0, bank.path.shape[2] - 1)
    return bank.path[scene[:, None, None], agents, index]
