"""One car driven by a policy in somebody else's program: the same preprocessing as in training.

Host programs differ in cameras, rates and frames. An `Agent` takes their pictures through `View`, keeps the
policy's memory and odometry at the policy's own tick, and answers with a plan and the action that follows it.
Everything it is given is in our frames (docs/conventions.md); who adapts a host converts at the door.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.geometry import polylines
from countersteer.policies.interface import Policy, PolicySpec
from countersteer.ranges import Range, Ranged
from countersteer.serving.views import RigCamera, View
from countersteer.vehicles.plans import Action, Plan
from countersteer.vehicles.trackers import PurePursuit, Tracker
from countersteer.worlds.observations import Command, EgoMotion, Intent, Observation, SensorReading
from countersteer.worlds.simulation.road import TARGET_DISTANCES
from countersteer.worlds.simulation.spec import RoadSettings

__all__ = ["Agent", "NavigationRequest", "refuse_privileged"]

_COMMAND_LASTS = RoadSettings.command_duration  # [s], as in training
_LONGEST_GAP = 2.0  # after which the past no longer counts [s]


def refuse_privileged(spec: PolicySpec) -> None:
    """Refuse a policy that reads the truth of a simulated world (`SensorSpec.privileged`), which no host can tell it."""
    told = [sensor.name for sensor in spec.sensor_specs if sensor.privileged]
    if told:
        raise UserError(
            "this policy reads what no car can know, so it cannot drive one",
            got="the privileged sensor " + ", ".join(f'"{name}"' for name in told),
            expected="a policy whose sensors are all cameras",
            fix="train a camera policy from it (recipe `self_play`)",
        )


@dataclass(frozen=True)
class NavigationRequest(Ranged):
    """What the passenger wants now.

    Attributes:
        set_speed: [m/s].
        command: To change a lane, for as long as it is wanted; it counts from when it is first given.
        route: Points of the route in the ego frame [m], or None; read by policies with target points only.
    """

    set_speed: Annotated[float, Range("(0, 100)")]
    command: Command = Command.FOLLOW
    route: Float[ndarray, "n 2"] | None = None


class Agent:
    """A policy at the wheel of one car of another program.

    Args:
        policy: Of which every sensor is a camera.
        rig: The host's camera for each camera of the policy, by the policy's names.
        tracker: From plan to action.

    Raises:
        UserError: The policy reads a privileged sensor, or the rig lacks a camera or sees too little.
    """

    def __init__(self, policy: Policy, rig: Mapping[str, RigCamera], tracker: Tracker = PurePursuit()):
        refuse_privileged(policy.spec)
        names = {camera.name for camera in policy.spec.cameras}
        if set(rig) != names:
            raise UserError(
                "the rig has other cameras than the policy was trained with",
                got=sorted(rig),
                expected=sorted(names),
                fix="name a camera of the host for each of the policy's",
            )
        self.policy, self.tracker = policy.eval(), tracker
        self.views = {camera.name: View(rig[camera.name], camera) for camera in policy.spec.cameras}
        self.reset()

    def reset(self) -> None:
        """A new drive: no past, no command."""
        self._memory = self.policy.initial_memory((1,))
        self._time = -math.inf  # of the policy's last tick
        self._odometry: list[tuple[float, float, float]] = []  # time, speed, yaw rate
        self._command, self._since = Command.FOLLOW, 0.0
        self._pictures: dict[str, UInt8[ndarray, "h w 3"]] = {}
        self._plan: Plan | None = None

    def add_image(self, name: str, picture: UInt8[ndarray, "height width 3"]) -> None:
        """Take a picture of the host's camera for the policy's camera `name`; the newest counts.

        Raises:
            UserError: It has another size than its camera.
        """
        self._pictures[name] = self.views[name](picture)

    def add_odometry(self, time: float, speed: float, yaw_rate: float) -> None:
        """Take an odometry reading: when [s], [m/s], [rad/s, left positive].

        One that is not later than the last is left out; one that is earlier by more than 2 s begins a new past, so that
        a reading with a wrong time cannot shut out all that follow.
        """
        if self._odometry and time <= self._odometry[-1][0]:
            if time >= self._odometry[-1][0] - _LONGEST_GAP:
                return
            self._odometry.clear()
        self._odometry.append((time, speed, yaw_rate))
        oldest = time - 2 * RoadSettings.history * self.policy.spec.dt
        while len(self._odometry) > 2 and self._odometry[1][0] < oldest:
            self._odometry.pop(0)

    @property
    def ready(self) -> bool:
        """Whether there is a picture of every camera and odometry, so that a plan can be asked for."""
        return bool(self._odometry) and set(self._pictures) == set(self.views)

    def plan(self, time: float, wish: NavigationRequest) -> Plan:
        """The plan at a time [s], in the ego frame of then; leading dimensions none.

        The policy runs at its own tick. Asked sooner, it gives its last plan again; after a longer gap it is
        run for each tick that was missed, with the newest pictures; after `2 s` it starts afresh.

        Raises:
            UserError: A picture or odometry is still missing, or the plan is not finite.
        """
        if not self.ready:
            raise UserError(
                "the agent has not seen enough to plan",
                got=f"pictures of {sorted(self._pictures)}, {len(self._odometry)} odometry readings",
                expected=f"a picture of each of {sorted(self.views)}, and odometry",
                fix="give pictures (`add_image`) and odometry (`add_odometry`) before asking for a plan",
            )
        tick = self.policy.spec.dt
        gap = time - self._time
        if self._plan is not None and -1e-6 < gap < tick - 1e-3:
            return self._plan
        if not 0.0 <= gap <= _LONGEST_GAP:
            self._memory = self.policy.initial_memory((1,))
            missed = 1
        else:
            missed = max(round(gap / tick), 1)
        plan = None
        with torch.no_grad():
            for late in range(missed - 1, -1, -1):
                observation = self._observation(time - late * tick, wish)
                output = self.policy.act(self.policy.encode(observation), self._memory)
                self._memory, plan = output.memory, output.plan
        if plan is None:
            raise UserError(
                "the policy answers with choices, not with plans", fix="serve a policy that plans"
            )
        if not all(part.isfinite().all() for part in (plan.position, plan.heading, plan.speed)):
            self._time, self._plan = -math.inf, None  # the next plan begins afresh
            raise UserError("the policy's plan is not finite", fix="check its weights and what it is shown")
        self._time = time
        self._plan = plan[0]
        return self._plan

    def act(self, time: float, wish: NavigationRequest) -> Action:
        """The action that follows the plan: curvature [1/m, left positive] and acceleration [m/s^2]."""
        plan = self.plan(time, wish)
        _, speed, yaw_rate = self._odometry[-1]
        now = torch.tensor(speed)
        curvature = torch.tensor(yaw_rate / max(speed, 0.5))
        return self.tracker.track(plan, self.policy.spec.plan, now, curvature)

    def _observation(self, time: float, wish: NavigationRequest) -> Observation:
        there = torch.ones(1, dtype=torch.bool)
        now = torch.tensor([time])
        sensors = {
            name: SensorReading(torch.from_numpy(picture)[None], now, there)
            for name, picture in self._pictures.items()
        }
        return Observation(sensors, self._motion(time), self._intent(time, wish))

    def _motion(self, time: float) -> EgoMotion:
        times, speed, yaw_rate = (np.array(column) for column in zip(*self._odometry, strict=True))
        at = time - self.policy.spec.dt * np.arange(RoadSettings.history - 1, -1, -1)
        known = at >= times[0] - 1e-6
        known[-1] = True
        past = torch.tensor(np.stack([np.interp(at, times, column) for column in (speed, yaw_rate)])).float()
        return EgoMotion(past[:1], past[1:], torch.from_numpy(known)[None])

    def _intent(self, time: float, wish: NavigationRequest) -> Intent:
        if wish.command is not self._command:
            self._command, self._since = wish.command, time
        age = time - self._since
        active = self._command is not Command.FOLLOW and age < _COMMAND_LASTS - 1e-6
        given = wish.route is not None and len(wish.route) >= 2
        points = np.zeros((len(TARGET_DISTANCES), 2))
        if given:
            points = _ahead(np.asarray(wish.route, np.float64))
        return Intent(
            command=torch.tensor([int(self._command if active else Command.FOLLOW)]),
            command_age=torch.tensor([max(age, 0.0) if active else 0.0]),
            set_speed=torch.tensor([wish.set_speed]),
            target_points=torch.tensor(points, dtype=torch.float32)[None],
            target_valid=torch.tensor([given]),
        )


def _ahead(route: Float[ndarray, "n 2"]) -> Float[ndarray, "target 2"]:
    """Points of a route 10, 20 and 30 m on from where the car is along it; past its end the last one."""
    # A route may come back upon itself: the part that leads where the car is facing counts.
    along = polylines.follow(route, np.array([[-1.0, 0.0], [0.0, 0.0]]))[0][1:]
    arc = polylines.arc_length(route)
    at = along[0] + np.array(TARGET_DISTANCES)
    return np.stack([np.interp(at, arc, route[:, k]) for k in range(2)], -1)
