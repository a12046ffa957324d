"""A policy as an agent of the CARLA leaderboard: what its `AutonomousAgent` asks for, to be mixed into it.

    # countersteer_agent.py, given to the leaderboard as --agent, with a run folder as --agent-config
    from leaderboard.autoagents.autonomous_agent import AutonomousAgent
    from countersteer.serving.carla import CarlaAgent

    class Countersteer(CarlaAgent, AutonomousAgent):
        pass

    def get_entry_point():
        return "Countersteer"

CARLA is left-handed: x forward, y to the right, z up; yaw and steering are positive to the right, pitch looks up.
Its vehicles' origin is the middle of the car. All of that is turned here, and nowhere else. Sensors are asked for
as the policy was trained with them, so pictures need no warping. No server was at hand: this is tested against the
published interface, not in it, and the gains of the pedals are not tuned.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from countersteer.geometry.cameras import Camera
from countersteer.policies.interface import Policy
from countersteer.policies.storage import load_policy
from countersteer.ranges import Finite, Positive, Range, Ranged, Share
from countersteer.serving.agent import Agent, NavigationRequest
from countersteer.serving.views import RigCamera
from countersteer.worlds.observations import Command

__all__ = ["CarlaAgent", "CarlaVehicle", "camera_sensor"]

_LANE_CHANGES = {5: Command.LEFT, 6: Command.RIGHT}  # of CARLA's RoadOption
_PLAN_AHEAD = 15.0  # a lane change of the plan is begun so far before it [m]


@dataclass(frozen=True)
class CarlaVehicle(Ranged):
    """The leaderboard's car (a Lincoln MKZ), and how its pedals answer.

    Attributes:
        rear_axle: Where the rear axle lies, ahead of the vehicle's origin [m].
        wheelbase: [m].
        largest_steering: Angle of the front wheels at full lock [rad].
        throttle, brake: Pedal for 1 m/s^2.
        rolling: Throttle that holds a speed of 10 m/s.
    """

    rear_axle: Finite = -1.39
    wheelbase: Positive = 2.87
    largest_steering: Annotated[float, Range("(0, pi)")] = math.radians(70.0)
    throttle: Positive = 0.2
    brake: Positive = 0.13
    rolling: Share = 0.25


def camera_sensor(camera: Camera, vehicle: CarlaVehicle) -> dict[str, Any]:
    """Our camera as the leaderboard asks for one: left-handed, in degrees, from the vehicle's origin."""
    x, y, z = camera.position
    return {
        "type": "sensor.camera.rgb",
        "id": camera.name,
        "x": x + vehicle.rear_axle,
        "y": -y,
        "z": z,
        "roll": math.degrees(camera.roll),
        "pitch": -math.degrees(camera.pitch),
        "yaw": -math.degrees(camera.yaw),
        "width": camera.width,
        "height": camera.height,
        "fov": math.degrees(camera.fov),
    }


class CarlaAgent:
    """Answers `setup`, `sensors`, `run_step` and `destroy`.

    Attributes:
        vehicle: What it drives.
        set_speed: Speed the passenger asks for [m/s].
    """

    vehicle: CarlaVehicle = CarlaVehicle()
    set_speed: float = 8.0

    def setup(self, path_to_conf_file: str) -> None:
        """Load the policy of a run folder or policy file."""
        self.use(load_policy(path_to_conf_file)[0])

    def use(self, policy: Policy) -> None:
        """Drive with this policy."""
        self.policy = policy
        self.agent = Agent(policy, {camera.name: RigCamera.of(camera) for camera in policy.spec.cameras})
        self._world_of_gps: tuple[np.ndarray, np.ndarray] | None = None

    def sensors(self) -> list[dict[str, Any]]:
        """The policy's cameras, speedometer, inertial unit and satellites."""
        middle = {"x": 0.0, "y": 0.0, "z": 0.0, "roll": 0.0, "pitch": 0.0, "yaw": 0.0}
        return [
            *(camera_sensor(camera, self.vehicle) for camera in self.policy.spec.cameras),
            {"type": "sensor.speedometer", "id": "speed", "reading_frequency": 20},
            {"type": "sensor.other.imu", "id": "imu", **middle},
            {"type": "sensor.other.gnss", "id": "gps", **middle},
        ]

    def run_step(self, input_data: dict[str, tuple[int, Any]], timestamp: float) -> Any:
        """Pedals and steering for this step, as a `carla.VehicleControl`."""
        control = importlib.import_module("carla").VehicleControl  # CARLA's own package, not this module
        for camera in self.policy.spec.cameras:
            picture = np.asarray(input_data[camera.name][1])  # blue, green, red, alpha
            self.agent.add_image(camera.name, np.ascontiguousarray(picture[..., 2::-1], np.uint8))
        speed = float(input_data["speed"][1]["speed"])
        inertial = np.asarray(input_data["imu"][1], float)  # acceleration, gyroscope, compass
        # The compass is 0 to the north and grows clockwise; north is -y of CARLA's world, so +y of ours.
        heading = math.pi / 2 - inertial[6]
        self.agent.add_odometry(timestamp, max(speed, 0.0), -inertial[5])
        command, route = self._asked(np.asarray(input_data["gps"][1], float), heading)
        action = self.agent.act(timestamp, NavigationRequest(self.set_speed, command, route))
        throttle, steer, brake = self.pedals(float(action.curvature), float(action.acceleration), speed)
        return control(throttle=throttle, steer=steer, brake=brake)

    def pedals(self, curvature: float, acceleration: float, speed: float) -> tuple[float, float, float]:
        """Throttle, steering (right positive) and brake for a curvature [1/m, left positive] and an acceleration."""
        vehicle = self.vehicle
        steer = -math.atan(curvature * vehicle.wheelbase) / vehicle.largest_steering
        forward = acceleration * vehicle.throttle + vehicle.rolling * min(speed / 10.0, 1.5)
        throttle = min(max(forward, 0.0), 0.75) if acceleration > -0.5 else 0.0
        brake = min(-acceleration * vehicle.brake, 1.0) if acceleration <= -0.5 else 0.0
        return throttle, min(max(steer, -1.0), 1.0), brake

    def destroy(self) -> None:
        """Forget the drive."""
        self.agent.reset()
        self._world_of_gps = None

    def _asked(self, gps: np.ndarray, heading: float) -> tuple[Command, np.ndarray | None]:
        """Whether the plan changes lanes nearby, and the plan's points in the ego frame."""
        plan = getattr(self, "_global_plan_world_coord", None)
        if not plan or len(plan) < 2:
            return Command.FOLLOW, None
        points = np.array([[step[0].location.x, -step[0].location.y] for step in plan])
        position = self._position(gps, points)
        turned = np.array([[math.cos(heading), -math.sin(heading)], [math.sin(heading), math.cos(heading)]])
        route = (points - position) @ turned  # of the vehicle's origin
        route[:, 0] -= self.vehicle.rear_axle
        nearest = int(np.hypot(route[:, 0], route[:, 1]).argmin())
        for place, step in zip(route[nearest : nearest + 3], plan[nearest : nearest + 3], strict=False):
            option = int(getattr(step[1], "value", step[1]))
            if option in _LANE_CHANGES and -5.0 < place[0] < _PLAN_AHEAD:
                return _LANE_CHANGES[option], route[nearest:]
        return Command.FOLLOW, route[nearest:]

    def _position(self, gps: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Of the vehicle in our world [m]; how degrees and metres go together is told by the plan, given in both."""
        if self._world_of_gps is None:
            fixes = np.array([[fix[0]["lat"], fix[0]["lon"]] for fix in self._global_plan])  # pyright: ignore
            middle, spread = fixes.mean(0), np.ptp(fixes, axis=0)
            metre = 1 / 111_320.0  # degrees of latitude
            # Latitude is y and longitude x; where a plan does not extend along one, a metre is a metre.
            scale = np.array([1 / metre, math.cos(math.radians(middle[0])) / metre])
            for k, axis in enumerate((1, 0)):
                if spread[k] > 50 * metre:
                    scale[k] = np.polyfit(fixes[:, k] - middle[k], points[:, axis], 1)[0]
            self._world_of_gps = middle, scale
            self._middle = points.mean(0)
        middle, scale = self._world_of_gps
        north, east = (gps[:2] - middle) * scale
        return self._middle + np.array([east, north])
