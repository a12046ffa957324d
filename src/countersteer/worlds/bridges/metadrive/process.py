"""One MetaDrive simulation, in the process that this module is imported in; nothing else imports it.

Its car takes steering and pedals, ours are told a curvature and an acceleration. Between them stands what every
maker of a car has: the steering angle of a bicycle of its wheelbase, and pedals that make good a speed.
"""

from __future__ import annotations

import itertools
import logging
import math
from typing import Any

import numpy as np
from metadrive.component.map.pg_map import MapGenerateMethod  # pyright: ignore[reportMissingImports]
from metadrive.engine.base_engine import BaseEngine  # pyright: ignore[reportMissingImports]
from metadrive.envs.metadrive_env import MetaDriveEnv  # pyright: ignore[reportMissingImports]
from numpy import ndarray
from panda3d.core import Texture, loadPrcFileData  # pyright: ignore[reportMissingImports]

from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.geometry.cameras import Camera
from countersteer.worlds.bridges.metadrive.protocol import TICK, Answer

__all__ = ["Process"]

# Measured at 5 to 15 m/s: acceleration at full throttle, deceleration with no pedal, and what the brake adds to that
# for each tenth of it, tenfold [m/s^2].
_FORCE, _ROLLING, _BRAKE = 2.76, 0.36, 15.0
_HOLD = 1.5  # acceleration for each m/s that speed lags behind [1/s]
_BEHIND = 1.0  # what it may lag by before that stops to grow [m/s]
_FINER = 2  # MetaDrive's camera draws so many times finer, since it does not smooth edges
_NOTHING = {"num_lasers": 0, "distance": 0}


def _environment(road: dict[str, Any], cameras: tuple[Camera, ...] = ()) -> Any:
    chosen: dict[str, Any] = {
        "log_level": logging.ERROR,
        "num_scenarios": 1,
        "start_seed": road["seed"],
        "traffic_density": road["traffic"],
        "random_spawn_lane_index": False,
        "horizon": None,
        "map_config": {
            "type": MapGenerateMethod.PG_MAP_FILE,
            "lane_num": road["lane_num"],
            "lane_width": road["lane_width"],
            # MetaDrive takes the blocks apart while it builds them.
            "config": [None if block is None else dict(block) for block in road["config"]],
        },
        "vehicle_config": {
            "lidar": {**_NOTHING, "num_others": 0},
            "side_detector": _NOTHING,
            "lane_line_detector": _NOTHING,
        },
        # Whether a drive is over is for us to say.
        **dict.fromkeys(
            (
                "on_continuous_line_done", "out_of_road_done", "out_of_route_done",
                "crash_vehicle_done", "crash_object_done", "crash_human_done",
            ),
            False,
        ),
    }  # fmt: skip
    if cameras:
        chosen |= _camera_settings(cameras)
    else:
        # Models and textures are for drawing; without them nothing is looked for on the web.
        BaseEngine.try_pull_asset = staticmethod(lambda: None)
    return MetaDriveEnv(chosen)


def _camera_settings(cameras: tuple[Camera, ...]) -> dict[str, Any]:
    """Drawing off the screen by software."""
    import types

    import metadrive.component.sensors.rgb_camera as drawing  # pyright: ignore[reportMissingImports]
    import metadrive.engine.core.engine_core as core  # pyright: ignore[reportMissingImports]

    loadPrcFileData("", "load-display p3headlessgl")
    # Sixteen samples a pixel, which it asks for, do not exist there.
    begin, panda = core.init, drawing.p3d
    core.init = lambda **options: begin(**{**options, "msaa_samples": 0})

    class Properties(panda.FrameBufferProperties):
        def set_multisamples(self, samples: int) -> None:
            super().set_multisamples(0)

    drawing.p3d = types.SimpleNamespace(**{**vars(panda), "FrameBufferProperties": Properties})
    sensors = {
        camera.name: (drawing.RGBCamera, camera.width * _FINER, camera.height * _FINER) for camera in cameras
    }
    first = cameras[0]
    return {
        "image_observation": True,
        "norm_pixel": False,
        "stack_size": 1,
        "sensors": sensors,
        "window_size": (first.width * _FINER, first.height * _FINER),
        "preload_models": False,  # of pedestrians, which no wheel brings
        "shadow_range": 16,
        "map_region_size": 512,
        "interface_panel": [],
        "show_interface": False,
        "show_logo": False,
        "vehicle_config": {
            "image_source": first.name,
            "lidar": {**_NOTHING, "num_others": 0},
            "side_detector": _NOTHING,
            "lane_line_detector": _NOTHING,
        },
    }


def _lighten(engine: Any) -> None:
    """Leave out what costs a software renderer most: 16-fold anisotropic ground textures, and shadow maps."""
    for part in vars(engine.terrain).values():
        if isinstance(part, Texture):
            part.setAnisotropicDegree(1)
    engine.pssm.use_pssm = False
    engine.render.set_shader_inputs(use_pssm=False)
    for window in engine.graphicsEngine.getWindows():
        if window.getName() == "pssm_buffer":
            window.setActive(False)


def _others(environment: Any) -> list[Any]:
    """Traffic in the order it was made in, which its seed decides."""
    return [car for car in environment.engine.traffic_manager.vehicles if car is not environment.agent]


class Process:
    """A road with a car to be driven.

    Args:
        road: Settings of `Road`.
        cameras: To be drawn by MetaDrive.
    """

    def __init__(self, road: dict[str, Any], cameras: tuple[Camera, ...]):
        self.environment, self.cameras = _environment(road, cameras), cameras
        self.seed, self.lanes = road["seed"], road["lane_num"]

    def describe(self) -> dict[str, Any]:
        """Features of the map (name, kind, points), the lanes' centre lines from the left, traffic, sizes."""
        environment = self.environment
        environment.reset(seed=self.seed)
        network, stops = environment.current_map.road_network, environment.agent.navigation.checkpoints
        lanes = []
        for number in range(self.lanes):
            pieces = [network.graph[a][b][number].get_polyline(1.0) for a, b in itertools.pairwise(stops)]
            line = np.concatenate(pieces)
            apart = np.hypot(*np.diff(line, axis=0).T)
            lanes.append(line[np.concatenate([[True], apart > 1e-3])])
        features = [
            (str(name), str(feature["type"]), np.asarray(feature["polyline"], float))
            for name, feature in environment.current_map.get_map_features(1.0).items()
            if "polyline" in feature
        ]
        others = [
            (*other.position, other.heading_theta, other.LENGTH, other.WIDTH, other.HEIGHT)
            for other in _others(environment)
        ]
        car = environment.agent
        size = (car.LENGTH, car.WIDTH, car.HEIGHT)
        return {"lanes": lanes, "features": features, "others": others, "ego_size": size}

    def place(self, x: float, y: float, heading: float, speed: float) -> Answer:
        """Begin anew, with the car's middle here, rolling."""
        self.environment.reset(seed=self.seed)
        car = self.environment.agent
        car.set_position((x, y))
        car.set_heading_theta(heading)
        course = (math.cos(heading), math.sin(heading))
        car.set_velocity(course, speed)
        self.others, self.speed, self.heading = _others(self.environment), speed, heading
        if self.cameras:
            _lighten(self.environment.engine)
        return self._answer(0.0)

    def step(self, curvature: float, acceleration: float) -> Answer:
        """A tick with this curvature [1/m] of the rear axle's path and this acceleration [m/s^2] asked for."""
        car = self.environment.agent
        wheelbase = car.FRONT_WHEELBASE + car.REAR_WHEELBASE
        steering = math.degrees(math.atan(curvature * wheelbase)) / car.max_steering
        self.speed = min(max(self.speed + acceleration * TICK, car.speed - _BEHIND, 0.0), car.speed + _BEHIND)
        push = acceleration + _HOLD * (self.speed - car.speed)
        pedal = push / _FORCE if push > 0 else min(push + _ROLLING, 0.0) / _BRAKE
        self.environment.step([float(np.clip(steering, -1, 1)), float(np.clip(pedal, -1, 1))])
        turn = (car.heading_theta - self.heading + math.pi) % (2 * math.pi) - math.pi
        self.heading = car.heading_theta
        return self._answer(turn / TICK)

    def _answer(self, yaw_rate: float) -> Answer:
        car = self.environment.agent
        ego = np.array([*car.position, car.heading_theta, car.speed, yaw_rate])
        there = set(self.environment.engine.traffic_manager.vehicles)
        others = np.array(
            [
                (*other.position, other.heading_theta, other.speed) if other in there else [np.nan] * 4
                for other in self.others
            ]
        ).reshape(-1, 4)
        return Answer(ego, others, tuple(self._picture(camera) for camera in self.cameras))

    def _picture(self, camera: Camera) -> ndarray:
        """RGB of MetaDrive's own renderer from the place of our camera."""
        import cv2

        car, sensor = self.environment.agent, self.environment.engine.get_sensor(camera.name)
        sensor.lens.setFov(
            math.degrees(camera.fov), math.degrees(2 * math.atan(camera.height / 2 / camera.focal))
        )
        ahead = camera.position[0] - rear_axle_to_center(car.LENGTH)
        # Panda's axes: right, forward, up; heading counter-clockwise, pitch up.
        place = (-camera.position[1], ahead, camera.position[2])
        turned = (math.degrees(camera.yaw), -math.degrees(camera.pitch), math.degrees(camera.roll))
        drawn = sensor.perceive(False, car.origin, place, turned)
        picture = np.ascontiguousarray(np.asarray(drawn)[..., ::-1])
        return cv2.resize(picture, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
