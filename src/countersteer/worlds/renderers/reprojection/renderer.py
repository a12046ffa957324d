"""Recorded frames seen from where the car is now.

The frame nearest along the path is looked at first, whatever the speed. A departed camera is the recorded car's pose there, interpolated
in six degrees of freedom, moved by the car's planar offset from it; at the recorded pose the recorded picture comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.geometry.poses import local_from_world, wrap_angle
from countersteer.geometry.rigid import transform
from countersteer.ranges import Finite, Pixels
from countersteer.reconstruction.depth import DepthSource, stored_depths
from countersteer.tensors import TensorTree
from countersteer.worlds.interface import Images, Outputs, Renderer, RendererSpec, Simulation
from countersteer.worlds.renderers.reprojection.bank import frame_bank
from countersteer.worlds.renderers.reprojection.drawing import DepartedViews, FrameBank, Views, render
from countersteer.worlds.simulation.recorded import RecordedSimulation, trust
from countersteer.worlds.simulation.recordings import poses_of_rows
from countersteer.worlds.simulation.state import RoadScene

__all__ = ["ReprojectionRenderer", "ReprojectionRendererSpec"]


@dataclass(frozen=True)
class ReprojectionRendererSpec(RendererSpec):
    """Frames of a `RecordedSimulation`, thrown into the view of where the car is now.

    Cameras are mounted anywhere; what the recorded camera did not see is filled or painted. Without a position
    of its own a camera should have the recorded one's, see `camera_of_log`.

    Attributes:
        size: Width and height that frames are kept at [px]; None for the recorded size.
        depth: Where depth comes from; None for the best that a log offers.
        fill: Where along the path, from the car, frames are that fill what the nearest did not see [m].
        cache: Folder that depth is kept in; None keeps nothing.
    """

    size: tuple[Pixels, Pixels] | None = None
    depth: DepthSource | None = None
    fill: tuple[Finite, ...] = (4.0, -4.0)
    cache: str | None = None

    def build(self, simulation: Simulation, cameras: Sequence[Camera], seed: int) -> ReprojectionRenderer:
        """See `RendererSpec.build`."""
        if not isinstance(simulation, RecordedSimulation):
            raise UserError(
                "frames of recordings are reprojected",
                got=type(simulation).__name__,
                expected="a RecordedSimulation",
                fix="give the world a RecordedSimulationSpec, or another renderer",
            )
        return ReprojectionRenderer(self, simulation)


class ReprojectionRenderer(Renderer):
    """See the module's docstring; trust falls with the share of a picture that no frame saw.

    Attributes:
        frames: The recorded frames with their depths.

    Raises:
        UserError: Recordings differ in size.
    """

    trusted = False
    identifies = False

    def __init__(self, spec: ReprojectionRendererSpec, simulation: RecordedSimulation):
        self.spec, self.recordings, self.unseen = spec, simulation.recordings, simulation.spec.corridor.unseen
        self.frames = _load(spec, simulation)

    def begin(self, scene: RoadScene) -> TensorTree:
        """See `Renderer.begin`; a frame is looked up anew each time."""
        return TensorTree()

    def views(self, scene: RoadScene, camera: Camera) -> Views:
        """Where a camera is now, and which frames it looks at: the nearest, then those that fill holes."""
        recordings, arc = self.recordings, scene.arc[:, 0]
        pose = recordings.between(recordings.pose, scene.scene, arc)
        here = local_from_world(scene.position[:, 0].double(), pose[:, :2], pose[:, 3])
        turned = wrap_angle(scene.heading[:, 0].double() - pose[:, 3])
        world_from_log = poses_of_rows(pose.numpy())
        still = torch.zeros_like(turned)
        log_from_ego = poses_of_rows(
            torch.stack([here[:, 0], here[:, 1], still, turned, still, still], 1).numpy()
        )
        mounting = transform(camera.rotation, np.array(camera.position))
        # At the recorded pose the offset is nothing, and must not round.
        there = torch.from_numpy(world_from_log @ log_from_ego @ mounting)
        sources = []
        for ahead in (0.0, *self.spec.fill):
            before, after, part = recordings.along(scene.scene, arc + ahead)
            number = torch.where(part < 0.5, before, after)
            beyond = (arc + ahead < recordings.arc[scene.scene, 0]) | (
                arc + ahead > recordings.arc[scene.scene, recordings.frames[scene.scene] - 1]
            )
            row = recordings.row[scene.scene, number]
            sources.append(torch.where(beyond & (ahead != 0.0), -1, row))
        return Views.of(camera.intrinsics, there, torch.stack(sources, 1))

    def departed(self, scene: RoadScene, camera: Camera) -> DepartedViews:
        """What a camera sees now, and which frames it was seen by."""
        return render(self.frames, self.views(scene, camera))

    def draw(
        self, state: TensorTree, scene: RoadScene, camera: Camera, outputs: Outputs = Outputs()
    ) -> Images:
        """See `Renderer.draw`; a recording has no classes or instances."""
        if outputs.kind or outputs.instance:
            raise UserError(
                "a recording does not say what its pixels show",
                got="classes or instances asked for",
                expected="colours and depth",
                fix="draw boxes",
            )
        seen = self.departed(scene, camera)
        depth = seen.inverse_depth.clamp(min=0.0).reciprocal() if outputs.depth else None
        confidence = trust(1 - seen.seen_share(), self.unseen)
        return Images(seen.rgb if outputs.rgb else None, depth, None, None, confidence)


def _load(spec: ReprojectionRendererSpec, simulation: RecordedSimulation) -> FrameBank:
    banks = []
    for log, numbers in zip(simulation.logs, simulation.frames, strict=True):
        name = simulation.spec.recorded_camera or log.cameras[0].name
        maps = stored_depths(log, name, numbers, spec.depth, spec.size, spec.cache)
        frames, _ = frame_bank(
            log, name, numbers, dict(zip(numbers, maps, strict=True)).__getitem__, spec.size
        )
        if banks and frames.texels.shape[1:] != banks[0].texels.shape[1:]:
            raise UserError(
                "the recordings of a world differ in size",
                got=f"{log.id} has {frames.texels.shape[2]}x{frames.texels.shape[1]} px",
                expected=f"{banks[0].texels.shape[2]}x{banks[0].texels.shape[1]}, as the first",
                fix="set `size` of the renderer, which all frames are then kept at",
            )
        banks.append(frames)
    return FrameBank(
        *(torch.cat(leaves) for leaves in zip(*(b.flatten().values() for b in banks), strict=True))
    )
