"""Films of boxworld as camera logs, and the true picture of every view that departs from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from countersteer.data.cameras import CameraLog, PicturesInMemory, Poses, RecordedCamera
from countersteer.geometry.cameras import Camera
from countersteer.geometry.rigid import transform
from countersteer.ranges import Seed, Share, Tick
from countersteer.scenarios.scenario import Scenario
from countersteer.worlds.interface import Images, Outputs
from countersteer.worlds.renderers.boxes.appearance import AppearanceRandomization
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.simulation.logs import LogSource
from countersteer.worlds.simulation.road import RoadSimulation, RoadSimulationSpec
from countersteer.worlds.world import WorldSpec

__all__ = ["RenderedLogs", "Studio", "level_poses", "pad_fov"]


@dataclass(frozen=True)
class RenderedLogs(LogSource):
    """An oracle: the recorded drive of each scenario, filmed in boxworld, with true depth.

    Of every departed view the true picture can be had too, which no recording offers.

    Attributes:
        camera: What films; wider than what the policy sees with, or its view leaves the film where it turns.
        colours: How much scenarios differ in looks. Mountings are exact.
        dt: Time between frames [s].
        seed: Of the looks.
    """

    camera: Camera
    colours: Share = 0.6
    dt: Tick = 0.1
    seed: Seed = 0

    def open(self, scenarios: Sequence[Scenario]) -> list[CameraLog]:
        """See `LogSource.open`; every film is in memory, some 5 bytes a pixel."""
        studio = Studio(self, scenarios)
        return [studio.film(number) for number in range(len(scenarios))]


def pad_fov(camera: Camera, columns: int = 32, rows: int = 8) -> Camera:
    """The camera with so many more pixels on each side, at the same pixels per degree in the middle."""
    width = camera.width + 2 * columns
    return Camera(
        camera.name,
        width,
        camera.height + 2 * rows,
        2 * math.atan(width / 2 / camera.focal),
        camera.position,
        camera.roll,
        camera.pitch,
        camera.yaw,
    )


class Studio:
    """A boxworld to film scenarios in.

    Args:
        settings: How to film.
        scenarios: What.
    """

    def __init__(self, settings: RenderedLogs, scenarios: Sequence[Scenario]):
        self.settings, self.scenarios = settings, tuple(scenarios)
        spec = WorldSpec(
            RoadSimulationSpec(dt=settings.dt),
            BoxRendererSpec(AppearanceRandomization(settings.colours, 0.0, 0.0)),
            sensors=(settings.camera,),
        )
        self.world = spec.build(scenarios, 1, settings.seed)

    def look(
        self,
        number: int,
        tick: Int[Tensor, "view"],
        ahead: Float[Tensor, "view"],
        lateral: Float[Tensor, "view"],
        heading: Float[Tensor, "view"],
    ) -> tuple[Images, Float[Tensor, "view 2"], Float[Tensor, "view"]]:
        """What the camera would have seen beside the recorded poses, and where the rear axle then was.

        Args:
            number: Which scenario.
            tick: When.
            ahead, lateral: How far the car is moved along and to the left of its recorded heading [m].
            heading: How far it is turned, positive to the left [rad].
        """
        world = self.world.fork(torch.zeros(len(tick), dtype=torch.long))
        # One identity for the whole film, so that every frame has the same looks; scenarios differ.
        drive = torch.full_like(tick, int(self.scenarios[number].fingerprint()[:12], 16))
        starts = world.starts_at(torch.full_like(tick, number), tick, drive, jitter=False)
        course = starts.heading[:, 0]
        aside = torch.stack(
            [ahead * course.cos() - lateral * course.sin(), ahead * course.sin() + lateral * course.cos()], -1
        )
        starts = starts.replace(
            position=starts.position + aside[:, None].to(starts.position),
            heading=starts.heading + heading[:, None].to(starts.heading),
        )
        world.reset(torch.ones(len(tick), dtype=torch.bool), starts)
        images = world.images(self.settings.camera, Outputs(rgb=True, depth=True))
        return images, starts.position[:, 0], starts.heading[:, 0]

    def film(self, number: int) -> CameraLog:
        """The recorded drive of a scenario, with true depth."""
        scenario, camera = self.scenarios[number], self.settings.camera
        simulation = self.world.simulation
        assert isinstance(simulation, RoadSimulation)
        tick = torch.arange(int(simulation.bank.ticks[number]))
        still = torch.zeros(len(tick))
        images, position, heading = self.look(number, tick, still, still, still)
        assert images.rgb is not None
        assert images.depth is not None
        times = tick.numpy() * self.settings.dt
        path = f"film of {scenario.id}"
        inverse = (
            images.depth.reciprocal().numpy()
        )  # nothing is nearer than a decimetre; the sky is infinitely far
        return CameraLog(
            id=scenario.id,
            cameras=(
                RecordedCamera(
                    camera.name,
                    PicturesInMemory(images.rgb.numpy(), path),
                    times,
                    camera.intrinsics,
                    transform(camera.rotation, np.array(camera.position)),
                    depth=inverse.__getitem__,
                ),
            ),
            poses=Poses(times, level_poses(position.double().numpy(), heading.double().numpy())),
            provenance=scenario.provenance,
        )


def level_poses(
    position: Float[ndarray, "pose 2"], heading: Float[ndarray, "pose"]
) -> Float[ndarray, "pose 4 4"]:
    """`world_from_ego` on level ground."""
    made = np.tile(np.eye(4), (len(heading), 1, 1))
    cos, sin = np.cos(heading), np.sin(heading)
    made[:, 0, 0], made[:, 0, 1], made[:, 1, 0], made[:, 1, 1] = cos, -sin, sin, cos
    made[:, :2, 3] = position
    return made
