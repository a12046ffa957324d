"""A policy as an agent of NAVSIM: what its `AbstractAgent` asks for, to be mixed into it.

    from navsim.agents.abstract_agent import AbstractAgent
    from countersteer.serving.navsim import NavsimAgent

    class Countersteer(NavsimAgent, AbstractAgent):
        def __init__(self, run: str):
            AbstractAgent.__init__(self)
            self.use(run)

NAVSIM gives four moments half a second apart: camera pictures with their calibration, poses relative to the last
one, velocity. Its frames are ours (rear axle, x forward, y left, counter-clockwise). Its driving command speaks of
turns at junctions, ours of lanes, so it is not taken for one. Neither NAVSIM nor its data were at hand: this is
tested against its published interface, not in it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.cameras.log import Distortion
from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.policies.interface import Policy
from countersteer.policies.storage import load_policy
from countersteer.serving.agent import Agent, NavigationRequest
from countersteer.serving.views import RigCamera
from countersteer.vehicles.plans import Plan, PlanSpec

__all__ = ["NavsimAgent", "poses_of"]

_INTERVAL = 0.5  # of history and answers [s]
_SLOWEST = 3.0  # least speed that is asked for, so that a standing car sets off [m/s]


class NavsimAgent:
    """Answers `compute_trajectory`; a drive of its own for each call, as NAVSIM has it.

    Attributes:
        camera: The camera of NAVSIM's that stands for the policy's only one.
        poses: How many the answer has, half a second apart.
        ego_from_lidar: Where the frame of the calibration lies in ours: cameras are given relative to the lidar,
            taken here as the ego frame.
    """

    camera: str = "cam_f0"
    poses: int = 8
    ego_from_lidar: Float[ndarray, "4 4"] = np.eye(4)

    def use(self, policy: Policy | str | Path) -> None:
        """Drive with a policy, or with that of a run folder or policy file.

        Raises:
            UserError: It has more than one camera.
        """
        loaded = policy if isinstance(policy, Policy) else load_policy(policy)[0]
        if len(loaded.spec.cameras) != 1:
            raise UserError(
                "the agent gives the policy one camera",
                got=f"a policy with {len(loaded.spec.cameras)}",
                expected="a policy with one",
                fix="subclass NavsimAgent and give a rig to `Agent`",
            )
        # As a plain attribute: NAVSIM's agents are modules, which keep modules they are given as their own.
        object.__setattr__(self, "_policy", loaded)

    def name(self) -> str:
        """What NAVSIM calls it."""
        return "countersteer"

    def initialize(self) -> None:
        """Nothing is left to be done."""

    def get_sensor_config(self) -> Any:
        """The one camera, at every moment of the history."""
        from navsim.common.dataclasses import SensorConfig  # pyright: ignore[reportMissingImports]

        names = [f"cam_{side}" for side in ("f0", "l0", "l1", "l2", "r0", "r1", "r2", "b0")]
        return SensorConfig(**{name: name == self.camera for name in names}, lidar_pc=False)

    def compute_trajectory(self, agent_input: Any) -> Any:
        """Poses ahead in the ego frame of the last moment: x, y [m], heading [rad]."""
        from navsim.common.dataclasses import (  # pyright: ignore[reportMissingImports]
            Trajectory,
            TrajectorySampling,
        )

        sampling = TrajectorySampling(num_poses=self.poses, interval_length=_INTERVAL)
        return Trajectory(self.plan_poses(agent_input).astype(np.float32), sampling)

    def plan_poses(self, agent_input: Any) -> Float[ndarray, "pose 3"]:
        """The numbers of `compute_trajectory`, without NAVSIM's types."""
        policy: Policy = self._policy  # pyright: ignore[reportAttributeAccessIssue]
        moments = list(zip(agent_input.ego_statuses, agent_input.cameras, strict=True))
        last = getattr(moments[-1][1], self.camera)
        agent = Agent(policy, {policy.spec.cameras[0].name: self._rig(last)})
        plan = None
        before = None
        for number, (status, cameras) in enumerate(moments):
            time = number * _INTERVAL
            speed = float(status.ego_velocity[0])
            heading = float(status.ego_pose[2])
            turn = 0.0 if before is None else (heading - before + math.pi) % (2 * math.pi) - math.pi
            agent.add_odometry(time, speed, turn / _INTERVAL)
            before = heading
            picture = getattr(cameras, self.camera).image
            if picture is None:
                continue  # a moment whose picture was not asked for
            agent.add_image(policy.spec.cameras[0].name, np.ascontiguousarray(picture, np.uint8))
            plan = agent.plan(time, NavigationRequest(max(speed, _SLOWEST)))
        if plan is None or moments[-1] is None:
            raise UserError(
                f"no moment has a picture of {self.camera!r}",
                expected="pictures as `get_sensor_config` asks for them",
                fix="build the agent's input with its own sensor configuration",
            )
        times = _INTERVAL * np.arange(1, self.poses + 1)
        return poses_of(plan, policy.spec.plan, times)

    def _rig(self, camera: Any) -> RigCamera:
        """From NAVSIM's calibration; pixel centres lie at whole numbers there."""
        if camera.image is None or camera.intrinsics is None:
            raise UserError(
                f"the last moment has no picture of {self.camera!r}, or no calibration",
                fix="build the agent's input with its own sensor configuration",
            )
        height, width = camera.image.shape[:2]
        matrix = np.asarray(camera.intrinsics, float)
        inside = Intrinsics(width, height, matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5)
        bend = None
        if camera.distortion is not None and np.any(camera.distortion):
            bend = Distortion(tuple(float(k) for k in np.ravel(camera.distortion)))
        lidar_from_camera = np.eye(4)
        lidar_from_camera[:3, :3] = camera.sensor2lidar_rotation
        lidar_from_camera[:3, 3] = camera.sensor2lidar_translation
        return RigCamera.pinhole(inside, self.ego_from_lidar @ lidar_from_camera, bend)


def poses_of(plan: Plan, spec: PlanSpec, times: Float[ndarray, "time"]) -> Float[ndarray, "time 3"]:
    """A plan at other times [s]: x, y [m], heading [rad]; beyond its end on with its last speed and turn."""
    known = np.concatenate([[0.0], spec.times().numpy()])
    heading = np.concatenate([[0.0], np.unwrap(plan.heading.double().numpy())])
    position = np.concatenate([np.zeros((1, 2)), plan.position.double().numpy()])
    speed = float(plan.speed[-1])
    rate = (heading[-1] - heading[-2]) / spec.interval
    late = np.maximum(times - known[-1], 0.0)
    # The chord of an arc points half its turn ahead.
    course, chord = heading[-1] + rate * late / 2, speed * late * np.sinc(rate * late / (2 * np.pi))
    inside = np.stack([np.interp(times, known, column) for column in (*position.T, heading)], -1)
    beyond = np.stack([chord * np.cos(course), chord * np.sin(course), rate * late], -1)
    return inside + beyond
