"""A policy in a foreign program is given what it was trained with: pictures, odometry, memory, intent."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from countersteer.worlds.observations import Command

from countersteer.data.cameras.log import Distortion
from countersteer.drivers.policy import PolicyDriver
from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.policies.teacher import SetActorCriticSpec
from countersteer.rollouts.driving import Rollouter
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.serving.agent import Agent, NavigationRequest
from countersteer.serving.views import RigCamera, View
from countersteer.worlds.simulation.spec import AppearanceRandomization, BoxWorldSpec, StartSpec
from test_planner import SPEC, planner

ROAD = procedural_road(5, RoadKind.GENTLE, lanes=3, traffic=3)
STILL = AppearanceRandomization(colours=0.6, camera_angle=0.0, camera_height=0.0)


def driving(policy):
    """A lane change of one car that the policy drives."""
    start = StartSpec(lateral=0.6, heading=0.03, command_share=1.0, command_time=(0.4, 0.4))
    spec = BoxWorldSpec(cameras=policy.spec.cameras, start=start, terminate=())
    world = spec.build([ROAD], 1, seed=1)
    wheel = Rollouter(world, PolicyDriver(plan=policy.spec.plan), policy, None, seed=1)
    wheel.begin(torch.ones(1, dtype=torch.bool), world.draw_starts(torch.tensor([0])))
    return wheel


def ticks(policy, count=12):
    """What each tick of the training's own loop saw and answered."""
    wheel = driving(policy)
    for number in range(count):
        before = wheel.world.motion()
        turn = wheel.tick()
        intent = turn.observation.intent[0, 0]
        wish = NavigationRequest(float(intent.set_speed), Command(int(intent.command)))
        moved = float(before.speed), float(before.speed * before.curvature)
        pictures = {name: reading.data[0, 0].numpy() for name, reading in turn.observation.sensors.items()}
        yield 0.1 * number, pictures, moved, wish, turn


def own(policy):
    return {camera.name: RigCamera.of(camera) for camera in policy.spec.cameras}


def test_the_agent_drives_as_the_training_loop_does():
    policy = planner()
    agent = Agent(policy, own(policy))
    commands = set()
    for time, pictures, moved, wish, turn in ticks(policy):
        for name, picture in pictures.items():
            agent.see(name, picture)
        agent.move(time, *moved)
        action = agent.act(time, wish)
        commands.add(wish.command)
        plan = agent.plan(time, wish)
        torch.testing.assert_close(plan.position, turn.output.plan.position[0, 0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            action.curvature, turn.decision.action.curvature[0, 0], atol=1e-5, rtol=1e-3
        )
    assert len(commands) == 2  # a lane change was asked for on the way


def test_target_points_lie_10_20_and_30_m_on_along_the_route():
    policy = planner(dataclasses.replace(SPEC, target_points=3))
    agent = Agent(policy, own(policy))
    # 2 m to the left of the car, straight on for 15 m and then to the left.
    route = np.array([[-5.0, 2.0], [15.0, 2.0], [15.0, 40.0]])
    intent = agent._intent(0.0, NavigationRequest(10.0, route=route))
    expected = [[10.0, 2.0], [15.0, 7.0], [15.0, 17.0]]
    np.testing.assert_allclose(intent.target_points[0], expected, atol=1e-5)
    assert intent.target_valid.all()
    assert not agent._intent(0.0, NavigationRequest(10.0)).target_valid.any()


def test_a_faster_host_is_held_and_a_slower_one_caught_up_with():
    policy = planner()
    fast, plain = (Agent(policy, own(policy)) for _ in range(2))
    for time, pictures, moved, wish, _ in ticks(policy):
        for agent in (fast, plain):
            agent.see("front", pictures["front"])
            agent.move(time, *moved)
        torch.testing.assert_close(fast.plan(time, wish).position, plain.plan(time, wish).position)
        held = fast.plan(time + 0.05, wish)
        torch.testing.assert_close(held.position, plain.plan(time, wish).position, rtol=0, atol=0)
    # 0.5 s without a call is five ticks, however they are asked for.
    slow, steady = (Agent(policy, own(policy)) for _ in range(2))
    wish = NavigationRequest(10.0)
    picture = pictures["front"]
    for agent in (slow, steady):
        agent.see("front", picture)
        agent.move(0.0, 8.0, 0.1)
        agent.plan(0.0, wish)
        agent.move(0.5, 8.0, 0.1)
    for time in (0.1, 0.2, 0.3, 0.4):
        steady.plan(time, wish)
    torch.testing.assert_close(slow.plan(0.5, wish).position, steady.plan(0.5, wish).position)
    # A gap that long is another drive.
    late = Agent(policy, own(policy))
    for agent in (late, slow):
        agent.see("front", picture)
        agent.move(9.0, 8.0, 0.1)
    assert not slow.plan(9.0, wish).position.equal(steady.plan(0.5, wish).position)


OTHER = Camera("other", 480, 320, math.radians(110), (1.9, 0.3, 1.7), roll=0.04, pitch=0.02, yaw=-0.08)
MINE = Camera(width=128, height=48)


@pytest.fixture(scope="module")
def both():
    """The same moments through two cameras."""
    world = BoxWorldSpec(cameras=(MINE, OTHER), looks=STILL).build([ROAD], 4, seed=3)
    world.reset(torch.ones(4, dtype=torch.bool), world.draw_starts(torch.arange(4)))
    sensors = world.observe().sensors
    return sensors["front"].data[:, 0].numpy(), sensors["other"].data[:, 0].numpy()


def apart(wanted, made):
    """Mean difference below the horizon, in grey levels."""
    return float(np.abs(wanted[:, 20:].astype(int) - made[:, 20:].astype(int)).mean())


def test_another_cameras_picture_becomes_the_trained_cameras(both):
    wanted, given = both
    view = View(RigCamera.of(OTHER), MINE)
    near = apart(wanted, np.stack([view(picture) for picture in given]))
    assert near < 4.0
    # A mistaken sign anywhere in the mounting would show.
    for wrong in (
        {"roll": -OTHER.roll},
        {"pitch": -OTHER.pitch},
        {"yaw": -OTHER.yaw},
        {"position": (1.9, -0.3, 1.7)},
    ):
        view = View(RigCamera.of(dataclasses.replace(OTHER, **wrong)), MINE)
        assert apart(wanted, np.stack([view(picture) for picture in given])) > 1.3 * near


def test_the_own_cameras_picture_is_passed_on(both):
    wanted, _ = both
    picture = wanted[0]
    assert View(RigCamera.of(MINE), MINE)(picture) is picture


def test_lenses_agree_where_they_describe_the_same_one():
    """An f-theta lens r = f tan(angle), as a long polynomial, is a pinhole; so is one without distortion."""
    mounting = RigCamera.of(OTHER).ego_from_camera
    inside = OTHER.intrinsics
    rays = np.array([[0.1, -0.2, 1.0], [-0.4, 0.3, 1.0], [0.0, 0.0, 1.0]])
    plain = RigCamera.pinhole(inside, mounting).project(rays)
    f = inside.fx
    series = (0.0, f, 0.0, f / 3, 0.0, f * 2 / 15, 0.0, f * 17 / 315, 0.0, f * 62 / 2835)
    wide = RigCamera.f_theta(480, 320, (240.0, 160.0), series, 1.2, mounting)
    np.testing.assert_allclose(wide.project(rays), plain, atol=0.05)
    straight = RigCamera.pinhole(inside, mounting, Distortion((0.0, 0.0, 0.0, 0.0)))
    np.testing.assert_allclose(straight.project(rays), plain, atol=1e-9)
    bent = RigCamera.pinhole(inside, mounting, Distortion((-0.2, 0.0, 0.0, 0.0))).project(rays)
    assert np.abs(bent - plain).max() > 1.0
    assert np.isnan(RigCamera.pinhole(inside, mounting).project(-rays)).all()


def test_what_cannot_be_served_is_said():
    policy = planner()
    with pytest.raises(UserError, match="what no car can know"):
        Agent(SetActorCriticSpec().build(), {})
    with pytest.raises(UserError, match="other cameras"):
        Agent(policy, {"back": RigCamera.of(MINE)})
    with pytest.raises(UserError, match="looks elsewhere"):
        Agent(policy, {"front": RigCamera.of(dataclasses.replace(OTHER, yaw=2.0))})
    agent = Agent(policy, own(policy))
    with pytest.raises(UserError, match="not one of its camera"):
        agent.see("front", np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(UserError, match="not seen enough"):
        agent.plan(0.0, NavigationRequest(10.0))
