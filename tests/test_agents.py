"""Agents of NAVSIM and of the CARLA leaderboard, against their published interfaces: a flipped sign fails."""

import math
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from countersteer.worlds.observations import Command

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.serving.carla import CarlaAgent, camera_sensor
from countersteer.serving.navsim import NavsimAgent, poses_of
from countersteer.vehicles.plans import Plan, PlanSpec
from test_planner import planner

CAMERA = Camera(width=32, height=16, position=(1.5, 0.2, 1.4), roll=0.02, pitch=0.1, yaw=0.05)
SPEC = CNNPlannerSpec(
    cameras=(CAMERA,), channels=(4, 8), features=8, hidden=16, history=(1,), target_points=3
)


class Told:
    """A policy's answer is set by the test, and what it was shown is kept."""

    def __init__(self, policy, monkeypatch, curve=0.0):
        self.seen, encode = [], policy.encode
        monkeypatch.setattr(policy, "encode", lambda seen: (self.seen.append(seen), encode(seen))[1])
        act, times = policy.act, policy.spec.plan.times()
        turn = 10.0 * times * curve
        line = torch.stack([10.0 * times, 50.0 * times**2 * curve], -1)

        def answer(features, memory, condition=None):
            plan = Plan(line[None], turn[None], torch.full_like(times, 10.0)[None])
            return act(features, memory).replace(plan=plan)

        monkeypatch.setattr(policy, "act", answer)


@pytest.fixture
def policy():
    return planner(SPEC, lively=False)


# --- CARLA ------------------------------------------------------------------------------------------


class Control(SimpleNamespace):
    pass


@pytest.fixture
def carla(monkeypatch):
    monkeypatch.setitem(sys.modules, "carla", types.SimpleNamespace(VehicleControl=Control))


def step(agent, *, gyro=0.0, compass=math.pi / 2, speed=9.0, gps=(0.0, 0.0), time=0.0, picture=None):
    """One step of the leaderboard; the compass says east unless told otherwise."""
    if picture is None:
        picture = np.zeros((16, 32, 4), np.uint8)
    imu = np.array([0.0, 0.0, 9.8, 0.0, 0.0, gyro, compass])
    data = {"front": picture, "speed": {"speed": speed}, "imu": imu, "gps": np.array([*gps, 0.0])}
    return agent.run_step({name: (0, value) for name, value in data.items()}, time)


def test_carlas_cameras_are_left_handed_and_in_degrees():
    agent = CarlaAgent()
    sensor = camera_sensor(CAMERA, agent.vehicle)
    assert sensor["x"] == pytest.approx(1.5 - 1.39)  # from the middle of the car, not from its rear axle
    assert sensor["y"] == -0.2  # right positive
    assert sensor["pitch"] == pytest.approx(-math.degrees(0.1))  # up positive
    assert sensor["yaw"] == pytest.approx(-math.degrees(0.05))  # right positive
    assert sensor["roll"] == pytest.approx(math.degrees(0.02))  # right side down, in both


@pytest.mark.parametrize("curve", [0.02, -0.02])
def test_carla_steers_to_the_right_where_curvature_is_negative(curve, policy, carla, monkeypatch):
    Told(policy, monkeypatch, curve)
    agent = CarlaAgent()
    agent.use(policy)
    control = step(agent)
    assert np.sign(control.steer) == -np.sign(curve)
    assert control.steer == pytest.approx(-math.atan(2.87 * curve) / math.radians(70), rel=0.1)
    assert control.throttle > 0.0
    assert control.brake == 0.0


def test_carlas_picture_and_gyroscope_are_turned(policy, carla, monkeypatch):
    told = Told(policy, monkeypatch)
    agent = CarlaAgent()
    agent.use(policy)
    red = np.zeros((16, 32, 4), np.uint8)
    red[..., 2] = 200
    step(agent, gyro=0.3, picture=red)
    seen = told.seen[-1]
    assert seen.sensors["front"].data[0, 0, 0].tolist() == [200, 0, 0]
    assert float(seen.motion.yaw_rate[0, -1]) == pytest.approx(-0.3)  # their left-handed z, ours


def plan_of(points, options):
    """A leaderboard plan in both its forms; CARLA's y is south."""
    metre = 1 / 111_320.0
    world = [
        (SimpleNamespace(location=SimpleNamespace(x=x, y=y)), SimpleNamespace(value=option))
        for (x, y), option in zip(points, options, strict=True)
    ]
    fixes = [
        ({"lat": -y * metre, "lon": x * metre, "z": 0.0}, option)
        for (x, y), option in zip(points, options, strict=True)
    ]
    return fixes, world


def test_carlas_plan_is_told_in_the_ego_frame(policy, carla, monkeypatch):
    """A car at CARLA's (100, 20) heading south (+y there): the plan bends to its right, towards west."""
    told = Told(policy, monkeypatch)
    agent = CarlaAgent()
    agent.use(policy)
    points = [(100.0, 0.0), (100.0, 20.0), (100.0, 60.0), (40.0, 60.0)]
    agent._global_plan, agent._global_plan_world_coord = plan_of(points, [4, 4, 4, 4])
    metre = 1 / 111_320.0
    step(agent, compass=math.pi, gps=(-20.0 * metre, 100.0 * metre))
    targets = told.seen[-1].intent.target_points[0]
    # The corner is 40 m ahead of the car's middle, so 41.39 m ahead of the rear axle.
    np.testing.assert_allclose(targets, [[10 + 1.39, 0], [20 + 1.39, 0], [30 + 1.39, 0]], atol=0.1)
    step(agent, compass=math.pi, gps=(-40.0 * metre, 100.0 * metre), time=0.1)
    targets = told.seen[-1].intent.target_points[0]
    assert targets[2, 1] < -5.0  # right is negative


@pytest.mark.parametrize(("option", "command"), [(5, Command.LEFT), (6, Command.RIGHT), (1, Command.FOLLOW)])
def test_carlas_lane_changes_are_commands_and_its_turns_are_not(option, command, policy, carla, monkeypatch):
    told = Told(policy, monkeypatch)
    agent = CarlaAgent()
    agent.use(policy)
    points = [(0.0, 0.0), (10.0, 0.0), (100.0, 0.0)]
    agent._global_plan, agent._global_plan_world_coord = plan_of(points, [4, option, 4])
    step(agent)
    assert int(told.seen[-1].intent.command[0]) == int(command)


# --- NAVSIM -----------------------------------------------------------------------------------------


def moments(yaw=(0.0, 0.0, 0.0, 0.0), width=1920, height=1120):
    """What NAVSIM hands to an agent: four moments, the last one's ego frame."""
    cameras, statuses = [], []
    for k in range(4):
        f = width / 2 / math.tan(math.radians(50))
        camera = SimpleNamespace(
            image=np.full((height, width, 3), 60 + k, np.uint8),
            intrinsics=np.array([[f, 0, width / 2 - 0.5], [0, f, height / 2 - 0.5], [0, 0, 1]]),
            distortion=np.array([-0.01, 0.0, 0.0, 0.0, 0.0]),
            sensor2lidar_rotation=CAMERA.rotation,
            sensor2lidar_translation=np.array(CAMERA.position),
        )
        cameras.append(SimpleNamespace(cam_f0=camera))
        pose = np.array([-5.0 * (3 - k), 0.0, yaw[k]])
        statuses.append(
            SimpleNamespace(
                ego_pose=pose, ego_velocity=np.array([10.0, 0.0]), driving_command=np.array([1, 0, 0, 0])
            )
        )
    return SimpleNamespace(ego_statuses=statuses, cameras=cameras, lidars=[])


def test_navsim_gets_poses_in_its_frame(policy, monkeypatch):
    told = Told(policy, monkeypatch, 0.01)
    agent = NavsimAgent()
    agent.use(policy)
    poses = agent.plan_poses(moments(yaw=(-0.3, -0.2, -0.1, 0.0)))
    # To the left, at 10 m/s; beyond the plan's 3 s on along the circle.
    np.testing.assert_allclose(poses[3], [20.0, 2.0, 0.2], atol=0.05)
    np.testing.assert_allclose(poses[7, 2], 0.4, atol=0.01)
    assert poses[7, 0] == pytest.approx(39.5, abs=0.5)
    seen = told.seen[-1]
    assert float(seen.motion.yaw_rate[0, -1]) == pytest.approx(0.2)  # left is positive there too
    assert int(seen.intent.command[0]) == int(Command.FOLLOW)  # a turn at a junction is no lane change
    assert len(told.seen) == 1 + 3 * 5  # the policy's own ticks of 0.1 s
    assert int(seen.sensors["front"].data[0, 8, 16, 0]) == 63


def test_navsims_types_are_filled(policy, monkeypatch):
    names = ("f0", "l0", "l1", "l2", "r0", "r1", "r2", "b0")
    made = types.SimpleNamespace(
        SensorConfig=lambda **given: given,
        Trajectory=lambda poses, sampling: (poses, sampling),
        TrajectorySampling=lambda num_poses, interval_length: (num_poses, interval_length),
    )
    for name, module in (("navsim", None), ("navsim.common", None), ("navsim.common.dataclasses", made)):
        monkeypatch.setitem(sys.modules, name, module or types.SimpleNamespace())
    agent = NavsimAgent()
    agent.use(policy)
    config = agent.get_sensor_config()
    assert config == {f"cam_{name}": name == "f0" for name in names} | {"lidar_pc": False}
    poses, sampling = agent.compute_trajectory(moments())
    assert poses.shape == (8, 3)
    assert poses.dtype == np.float32
    assert sampling == (8, 0.5)


def test_navsim_without_pictures_is_told_so(policy):
    agent = NavsimAgent()
    agent.use(policy)
    given = moments()
    for cameras in given.cameras:
        cameras.cam_f0.image = None
    with pytest.raises(UserError, match="no picture of 'cam_f0'"):
        agent.plan_poses(given)


def test_a_plan_goes_on_along_its_arc():
    spec = PlanSpec(points=4, interval=0.5)
    t, rate, speed = spec.times(), 0.3, 8.0
    arc = torch.stack([speed / rate * torch.sin(rate * t), speed / rate * (1 - torch.cos(rate * t))], -1)
    plan = Plan(arc, rate * t, torch.full_like(t, speed))
    later = np.array([1.0, 2.0, 3.5])
    expected = np.stack(
        [speed / rate * np.sin(rate * later), speed / rate * (1 - np.cos(rate * later)), rate * later], -1
    )
    np.testing.assert_allclose(poses_of(plan, spec, later), expected, atol=1e-4)
