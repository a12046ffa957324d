"""Settings of a reprojection world, as data."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from countersteer.data.cameras.log import CameraLog
from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.reconstruction.depth import DepthSource
from countersteer.scenarios.scenario import Scenario
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.simulation.spec import BoxWorldSpec

if TYPE_CHECKING:
    from countersteer.worlds.renderers.reprojection.world import World

__all__ = ["RenderedLogs", "ValidityCorridor", "LogSource", "RecordedLogs", "ReprojectionSpec", "pad_fov"]


class LogSource(abc.ABC):
    """Where the frames of scenarios come from. A frozen dataclass, so that a recipe can say it."""

    @abc.abstractmethod
    def open(self, scenarios: Sequence[Scenario]) -> list[CameraLog]:
        """The camera log of each scenario: poses in the scenario's world, its times beginning with the scenario.

        Raises:
            UserError: A scenario has none.
        """


@dataclass(frozen=True)
class RecordedLogs(LogSource):
    """Recordings, where `Scenario.cameras` says they lie."""

    def open(self, scenarios: Sequence[Scenario]) -> list[CameraLog]:
        """See `LogSource.open`; a log in which `check` finds something fatal is refused."""
        from countersteer.data.cameras import check, read

        logs, whole = [], {}
        for scenario in scenarios:
            if scenario.cameras is None:
                raise UserError(
                    f"scenario {scenario.id!r} has no recorded frames",
                    expected="a drive with a camera log",
                    fix="take scenarios from `CameraDrive`, or films of a boxworld (`RenderedLogs`)",
                )
            path = scenario.cameras.path
            if path not in whole:
                whole[path] = read(path).pinhole()
                check(whole[path]).require_usable()
            logs.append(
                whole[path].cropped(scenario.cameras.start, scenario.cameras.start + scenario.duration)
            )
        return logs


@dataclass(frozen=True)
class RenderedLogs(LogSource):
    """An oracle: the recorded drive of each scenario, filmed in boxworld, with true depth.

    Of every departed view the true picture can be had too, which no recording offers.

    Attributes:
        camera: What films; wider than what the policy sees with, or its view leaves the film where it turns.
        colours: How much scenarios differ in looks, in [0, 1]. Mountings are exact.
        dt: Time between frames [s].
        seed: Of the looks.
    """

    camera: Camera
    colours: float = 0.6
    dt: float = 0.1
    seed: int = 0

    def open(self, scenarios: Sequence[Scenario]) -> list[CameraLog]:
        """See `LogSource.open`; every film is in memory, some 5 bytes a pixel."""
        from countersteer.worlds.renderers.reprojection.films import Studio

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


@dataclass(frozen=True)
class ValidityCorridor:
    """How far from the recording its frames can be trusted. Three places each: full trust up to the first, half
    at the second, none from the third on, straight lines between; the least of all counts.

    Attributes:
        lateral: Distance from the recorded path [m].
        heading: Turn against it [rad].
        unseen: Share of the picture that no frame saw, so that it is painted in.
        speed: Difference from the recorded speed there, relative to it (to 5 m/s where it was slower). Movers in
            the pictures go as fast as the recording is played.
    """

    lateral: tuple[float, float, float] = (1.0, 2.0, 4.0)
    heading: tuple[float, float, float] = (math.radians(7.5), math.radians(15.0), math.radians(40.0))
    unseen: tuple[float, float, float] = (0.1, 0.3, 0.6)
    speed: tuple[float, float, float] = (0.5, 0.8, 1.5)

    def __post_init__(self) -> None:
        for name in ("lateral", "heading", "unseen", "speed"):
            first, second, third = getattr(self, name)
            if not 0 <= first < second < third:
                raise UserError(
                    f"ValidityCorridor.{name} does not widen",
                    got=getattr(self, name),
                    expected="three increasing numbers from 0 up",
                    fix=f"set {name} of the corridor",
                )


@dataclass(frozen=True)
class ReprojectionSpec(BoxWorldSpec):
    """A boxworld whose cameras show recorded frames, seen from where the car is now.

    Vehicle, starts, paths, odometry, events and experts are boxworld's. Only one car is controlled, and other
    road users are what the pictures show of them; tracks of the scenario, if it has any, count as in boxworld.
    `cameras` are mounted anywhere; what the recorded camera did not see is filled or painted. Without a position
    of its own a camera should have the recorded one's, see `camera_of_log`.

    Attributes:
        logs: Where the frames come from.
        recorded_camera: Name of the camera in the log; None for the first.
        size: Width and height that frames are kept at [px]; None for the recorded size.
        depth: Where depth comes from; None for the best that a log offers.
        spacing: Frames nearer to the last one than this are left out [m]; so a standstill is one frame.
        fill: Where along the path, from the car, frames are that fill what the nearest did not see [m].
        corridor: How far the frames can be trusted. Imitation counts labels of half trust and more.
        future: So much of the recording is left when a drive ends, so that every label lies in it [s].
        cache: Folder that depth is kept in; None keeps nothing.
    """

    logs: LogSource = RecordedLogs()
    recorded_camera: str | None = None
    size: tuple[int, int] | None = None
    depth: DepthSource | None = None
    spacing: float = 0.5
    fill: tuple[float, ...] = (4.0, -4.0)
    corridor: ValidityCorridor = ValidityCorridor()
    future: float = 2.5
    cache: str | None = None
    max_route_deviation: float = 4.0
    max_heading_error: float = math.radians(40.0)
    terminate: tuple[TerminationReason, ...] = (
        TerminationReason.OFF_ROUTE,
        TerminationReason.INVALID_STATE,
        TerminationReason.GOAL,
    )

    def build(
        self, scenarios: Sequence[Scenario], batch: int, seed: int, device: torch.device | str = "cpu"
    ) -> World:
        """A world of `batch` drives in these recordings; nothing has begun before the first `reset`."""
        from countersteer.worlds.renderers.reprojection.world import World

        return World(self, scenarios, batch, seed, device)
