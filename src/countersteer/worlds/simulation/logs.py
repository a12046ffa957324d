"""Where the frames of recorded drives come from."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from countersteer.data.cameras import CameraLog, check, read
from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera, ego_from_camera
from countersteer.ranges import Ranged
from countersteer.scenarios.scenario import Scenario

__all__ = ["LogSource", "RecordedLogs", "camera_of_log"]


class LogSource(Ranged, abc.ABC):
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


def camera_of_log(log: CameraLog, width: int, height: int, fov: float, camera: str | None = None) -> Camera:
    """A camera for a policy that looks from where a recorded one is, in the same direction.

    Args:
        log: The recording.
        width, height: Size of its pictures [px].
        fov: Horizontal field of view [rad]; what lies outside the recorded one's has to be painted.
        camera: Name of the recorded camera; None for the first.
    """
    recorded = log.cameras[0] if camera is None else log.camera(camera)
    # Inverse of `ego_from_camera`: the axes are columns right, down, forward.
    right, _, ahead = recorded.ego_from_camera[:3, :3].T
    yaw, pitch = np.arctan2(ahead[1], ahead[0]), np.arcsin(np.clip(-ahead[2], -1.0, 1.0))
    level = ego_from_camera(0.0, float(pitch), float(yaw))
    roll = np.arctan2(right @ level[:, 1], right @ level[:, 0])
    x, y, z = recorded.ego_from_camera[:3, 3].tolist()
    return Camera("front", width, height, fov, (x, y, z), float(roll), float(pitch), float(yaw))
