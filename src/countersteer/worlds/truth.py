"""What only an expert, a privileged teacher or an evaluator may know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.tensors import TensorTree

__all__ = ["Actors", "Lanes", "Lights", "LoggedPoses", "Motion", "PathPoints", "Routes", "Truth", "Visible"]


@dataclass(frozen=True)
class Actors(TensorTree):
    """All road users of each drive; the first slots are the controlled cars.

    Attributes:
        pose: Box centre x, y [m, world] and heading [rad].
        speed: [m/s].
        size: Length, width, height [m].
        kind: `ActorKind`.
        present: Whether the slot is used and its actor is there now.
    """

    pose: Float[Tensor, "world actor 3"]
    speed: Float[Tensor, "world actor"]
    size: Float[Tensor, "world actor 3"]
    kind: Int[Tensor, "world actor"]
    present: Bool[Tensor, "world actor"]

    def boxes(self) -> Float[Tensor, "world actor 7"]:
        """Each actor as x, y, heading, length, width, height, kind (-1 where it is not), for records."""
        kind = torch.where(self.present, self.kind, -1)
        return torch.cat([self.pose, self.size, kind[..., None].to(self.pose.dtype)], -1)


@dataclass(frozen=True)
class Lights(TensorTree):
    """All traffic lights of each drive.

    Attributes:
        position: Stop point [m, world].
        heading: Driving direction there [rad]; NaN where nobody knows it.
        state: `SignalState`; UNKNOWN in unused slots.
    """

    position: Float[Tensor, "world light 2"]
    heading: Float[Tensor, "world light"]
    state: Int[Tensor, "world light"]


@dataclass(frozen=True)
class Lanes(TensorTree):
    """The lanes next to the first car's route.

    Attributes:
        width: Of its lane [m].
        left, right: Lateral offset of the neighbouring lane [m, left positive]; 0 where there is none.
        left_valid, right_valid: Whether there is one.
    """

    width: Float[Tensor, "world"]
    left: Float[Tensor, "world"]
    right: Float[Tensor, "world"]
    left_valid: Bool[Tensor, "world"]
    right_valid: Bool[Tensor, "world"]

    @classmethod
    def of(
        cls, width: Float[Tensor, "world"], left: Float[Tensor, "world"], right: Float[Tensor, "world"]
    ) -> Self:
        """From offsets that are NaN where there is no lane."""
        return cls(width, left.nan_to_num(), right.nan_to_num(), ~left.isnan(), ~right.isnan())


@dataclass(frozen=True)
class Visible(TensorTree):
    """What each car's sensors really get of each actor.

    Attributes:
        pixels: Pixels of its cameras that show the actor.
        valid: False where there are no cameras, or the renderer does not know whom its pixels show.
    """

    pixels: Int[Tensor, "world agent actor"]
    valid: Bool[Tensor, "world agent actor"]

    @classmethod
    def count(cls, shown: Sequence[Int[Tensor, "image height width"]], actors: Actors, agents: int) -> Self:
        """From the instance image of every car, for each of its cameras; nobody knows without any."""
        worlds, slots = actors.present.shape
        pixels = torch.zeros(worlds * agents, slots, dtype=torch.long, device=actors.present.device)
        for pictures in shown:
            slot = pictures.flatten(1).long()
            pixels.scatter_add_(1, slot.clamp(0, slots - 1), ((slot >= 0) & (slot < slots)).long())
        counted = pixels.unflatten(0, (worlds, agents))
        return cls(counted, torch.full_like(counted, len(shown) > 0, dtype=torch.bool))


@dataclass(frozen=True)
class Routes(TensorTree):
    """The whole path of each car, without a commanded lane change.

    Attributes:
        points: x, y [m, world], unwrapped heading [rad], curvature [1/m], a metre apart; the last one is repeated.
        length: [m].
    """

    points: Float[Tensor, "world agent point 4"]
    length: Float[Tensor, "world agent"]


@dataclass(frozen=True)
class Truth(TensorTree):
    """What only an expert, a privileged teacher or an evaluator may know.

    Attributes:
        position: Rear axle [m, world].
        heading: [rad].
        speed: [m/s].
        curvature: Curvature being driven [1/m].
        acceleration: Longitudinal [m/s^2].
        arc: Arc length along the path [m].
        lateral: Signed distance from the path, left positive [m]; the path includes a commanded lane change.
        heading_error: Heading relative to the path's [rad].
        set_speed: [m/s].
        lead_gap: Bumper-to-bumper gap to the next actor on the path [m], inf if none.
        lead_speed: Its speed along the path [m/s].
        stop_gap: Distance from the front bumper to the next stop line that says stop [m], inf if none.
        goal_arc: Where along the path the goal lies [m].
        path_offset: Lateral offset of the path from the route that a commanded lane change gave it [m].
        alive: False once the drive has ended.
        cause: `TerminationReason` by which it ended.
        actors, lights, lanes: What else is there; None in worlds that have no roads.
        visible: What of it the car's sensors get; None unless it was asked for.
        heights: Of all actors' box centres [m]; None where all stand on one level, or nobody knows.
    """

    position: Float[Tensor, "*batch 2"]
    heading: Float[Tensor, "*batch"]
    speed: Float[Tensor, "*batch"]
    curvature: Float[Tensor, "*batch"]
    acceleration: Float[Tensor, "*batch"]
    arc: Float[Tensor, "*batch"]
    lateral: Float[Tensor, "*batch"]
    heading_error: Float[Tensor, "*batch"]
    set_speed: Float[Tensor, "*batch"]
    lead_gap: Float[Tensor, "*batch"]
    lead_speed: Float[Tensor, "*batch"]
    stop_gap: Float[Tensor, "*batch"]
    goal_arc: Float[Tensor, "*batch"]
    path_offset: Float[Tensor, "*batch"]
    alive: Bool[Tensor, "*batch"]
    cause: Int[Tensor, "*batch"]
    actors: Actors | None = None
    lights: Lights | None = None
    lanes: Lanes | None = None
    visible: Visible | None = None
    heights: Float[Tensor, "world actor"] | None = None


@dataclass(frozen=True)
class Motion(TensorTree):
    """Odometry: speed [m/s] and the curvature being driven [1/m]."""

    speed: Float[Tensor, "*batch"]
    curvature: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class PathPoints(TensorTree):
    """Points of the cars' paths.

    Attributes:
        position: [m, world].
        heading: Direction of the path [rad].
        curvature: [1/m].
    """

    position: Float[Tensor, "*batch point 2"]
    heading: Float[Tensor, "*batch point"]
    curvature: Float[Tensor, "*batch point"]


@dataclass(frozen=True)
class LoggedPoses(TensorTree):
    """Recorded rear-axle poses.

    Attributes:
        position: [m, world].
        heading: [rad].
        speed: [m/s].
        valid: False where nothing was recorded.
    """

    position: Float[Tensor, "*batch point 2"]
    heading: Float[Tensor, "*batch point"]
    speed: Float[Tensor, "*batch point"]
    valid: Bool[Tensor, "*batch point"]
