"""Truth, with values that can be checked on paper: a straight road of three lanes, four others, two lights."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.policies.teacher import SetActorCriticSpec
from countersteer.scenarios.scenario import (
    ActorKind,
    MapFeature,
    MapKind,
    Provenance,
    RoadMap,
    Scenario,
    Signals,
    SignalState,
    Tracks,
)
from countersteer.serving.agent import Agent, refuse_privileged
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.vehicles.plans import Action
from countersteer.worlds.observations import Features, SensorSpec
from countersteer.worlds.renderers.films import RenderedLogs, pad_fov
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.world import World
from worlds import boxworld, reprojected

SPEED, LENGTH = (
    10.0,
    5.176,
)  # of everybody's speed [m/s], and of the ego [m], whose rear axle is 1.461 m behind its middle
AHEAD, HIDDEN, WALKER, BEHIND = 1, 2, 3, 4  # slots
CAMERA = Camera(width=64, height=32, position=(0.0, 0.0, 1.4), pitch=0.0)
EXACT = VehicleSpec((0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0))


@pytest.fixture(scope="module")
def road() -> Scenario:
    """Ego at x = 0; a lorry 20 m ahead, a car 30 m ahead that it hides, a walker at the side for 1 s, a car behind."""
    times = np.arange(0.0, 10.05, 0.1)
    start = np.array([(0.0, 0.0), (20.0, 0.0), (30.0, 0.0), (12.0, 5.0), (-15.0, 0.0)])
    speed = np.array([SPEED, SPEED, SPEED, 0.0, SPEED])
    position = np.zeros((5, len(times), 3))
    position[..., :2] = start[:, None]
    position[..., 0] += speed[:, None] * times
    velocity = np.zeros((5, len(times), 2))
    velocity[..., 0] = speed[:, None]
    valid = np.ones((5, len(times)), bool)
    valid[WALKER, times > 1.05] = False
    kind = np.full(5, int(ActorKind.VEHICLE))
    kind[WALKER] = int(ActorKind.PEDESTRIAN)
    size = np.array([(LENGTH, 1.9, 1.5), (8.0, 2.4, 3.0), (4.0, 1.6, 1.2), (0.6, 0.6, 1.8), (4.5, 1.8, 1.5)])
    line = np.stack([np.arange(-100.0, 300.0, 2.0), np.zeros(200), np.zeros(200)], -1)
    lanes = tuple(
        MapFeature(f"lane-{k}", MapKind.LANE, line + np.array((0.0, offset, 0.0)), 3.5)
        for k, offset in enumerate((3.5, 0.0, -3.5))
    )
    red_then_green = np.where(times < 2.05, int(SignalState.STOP), int(SignalState.GO))
    unknown = np.full(len(times), int(SignalState.UNKNOWN))
    return Scenario(
        id="straight",
        times=times,
        road=RoadMap(lanes),
        tracks=Tracks(
            ids=("ego", "lorry", "car", "walker", "behind"),
            kind=kind,
            position=position,
            heading=np.zeros((5, len(times))),
            velocity=velocity,
            size=size,
            valid=valid,
        ),
        ego=0,
        route=line[:, :2],
        signals=Signals(
            ("lane-1", "lane-0"),
            np.array([(60.0, 0.0, 0.0), (60.0, 3.5, 0.0)]),
            np.zeros(2),
            np.stack([red_then_green, unknown]),
        ),
        provenance=Provenance("test", "by hand", "none", "none"),
        route_offsets=(0.0, 3.5),
        lane_width=3.5,
    )


def begun(road: Scenario, **settings: object) -> World:
    """One drive from the recording's first tick, in a car that does what it is told."""
    world = boxworld(**{"cameras": (CAMERA,), "vehicle": EXACT, "terminate": ()} | settings).build(
        [road], 1, seed=0
    )
    row = torch.zeros(1, dtype=torch.long)
    world.reset(torch.ones(1, dtype=torch.bool), world.starts_at(row, row, row, jitter=False))
    return world


def drive(world: World, ticks: int) -> None:
    for _ in range(ticks):
        world.step(Action(torch.zeros(1, world.agents), torch.zeros(1, world.agents)))


def test_the_ego_and_its_route(road: Scenario):
    world = begun(road)
    drive(world, 10)  # 10 m on
    truth = world.truth()
    assert truth.position[0, 0].tolist() == pytest.approx([10.0 - 1.461, 0.0], abs=1e-3)
    assert float(truth.speed) == pytest.approx(SPEED, abs=1e-4)
    assert [float(truth.heading), float(truth.lateral), float(truth.heading_error)] == pytest.approx(
        [0.0] * 3, abs=1e-4
    )
    assert float(truth.arc) == pytest.approx(100.0 + 10.0 - 1.461, abs=1e-2)  # the route begins at x = -100
    # From the ego's front bumper to the lorry's rear, and to the stop line.
    assert float(truth.lead_gap) == pytest.approx(20.0 - 4.0 - LENGTH / 2, abs=1e-2)
    assert float(truth.lead_speed) == pytest.approx(SPEED, abs=1e-3)
    assert float(truth.stop_gap) == pytest.approx(50.0 - LENGTH / 2, abs=1e-2)
    points = world.path_at(torch.tensor([[[100.0, 150.0]]]))
    assert points.position[0, 0].tolist() == [
        pytest.approx([0.0, 0.0], abs=1e-3),
        pytest.approx([50.0, 0.0], abs=1e-3),
    ]
    assert bool(truth.alive)
    assert int(truth.cause) == 0


def test_actors_with_a_mask(road: Scenario):
    world = begun(road)
    drive(world, 10)
    actors = world.truth().actors
    assert actors is not None
    assert actors.pose[0, :, 0].tolist() == pytest.approx([10.0, 30.0, 40.0, 12.0, -5.0], abs=1e-3)
    assert actors.pose[0, :, 1].tolist() == pytest.approx([0.0, 0.0, 0.0, 5.0, 0.0], abs=1e-3)
    assert actors.speed[0].tolist() == pytest.approx([SPEED, SPEED, SPEED, 0.0, SPEED], abs=1e-3)
    assert actors.size[0, AHEAD].tolist() == [8.0, 2.4000000953674316, 3.0]
    assert actors.kind[0].tolist() == [0, 0, 0, int(ActorKind.PEDESTRIAN), 0]
    assert actors.present[0].tolist() == [True] * 5
    drive(world, 5)
    actors = world.truth().actors
    assert actors.present[0].tolist() == [True, True, True, False, True]
    boxes = actors.boxes()[0]
    assert boxes.shape == (5, 7)
    assert boxes[:, -1].tolist() == [0, 0, 0, -1, 0]


def test_lights_and_what_says_stop(road: Scenario):
    world = begun(road)
    lights = world.truth().lights
    assert lights is not None
    assert lights.position[0].tolist() == [[60.0, 0.0], [60.0, 3.5]]
    assert lights.state[0].tolist() == [SignalState.STOP, SignalState.UNKNOWN]
    drive(world, 25)
    assert world.truth().lights.state[0].tolist() == [SignalState.GO, SignalState.UNKNOWN]
    assert math.isinf(float(world.truth().stop_gap))


def test_lanes_with_masks(road: Scenario):
    lanes = begun(road).truth().lanes
    assert lanes is not None
    assert [float(lanes.width), float(lanes.left), float(lanes.right)] == [3.5, 3.5, 0.0]
    assert [bool(lanes.left_valid), bool(lanes.right_valid)] == [True, False]


def test_who_is_visible(road: Scenario):
    world = begun(road)
    assert world.truth().visible is None, "it is counted only when it is asked for"
    visible = world.truth(visible=True).visible
    assert visible is not None
    assert bool(visible.valid.all())
    pixels = visible.pixels[0, 0].tolist()
    # The lorry's rear is 16 m + 1.461 m ahead of the camera: 2.4 m of width and 3 m of height there.
    size = CAMERA.focal / (20.0 - 4.0 + 1.461)
    assert pixels[AHEAD] == pytest.approx(2.4 * size * 3.0 * size, rel=0.25)
    assert pixels[WALKER] > 0
    assert [pixels[0], pixels[HIDDEN], pixels[BEHIND]] == [0, 0, 0]
    away = dataclasses.replace(
        road,
        tracks=dataclasses.replace(road.tracks, valid=road.tracks.valid & (np.arange(5) != AHEAD)[:, None]),
    )
    alone = begun(away).truth(visible=True).visible
    assert int(alone.pixels[0, 0, HIDDEN]) > 0, "nobody hides it now"
    assert int(alone.pixels[0, 0, AHEAD]) == 0


def test_what_two_cameras_show_is_added_up(road: Scenario):
    back = dataclasses.replace(CAMERA, name="back", yaw=math.pi)
    both = begun(road, cameras=(CAMERA, back)).truth(visible=True).visible.pixels[0, 0]
    ahead = begun(road).truth(visible=True).visible.pixels[0, 0]
    assert int(both[BEHIND]) > 0
    assert both[[AHEAD, HIDDEN, WALKER]].tolist() == ahead[[AHEAD, HIDDEN, WALKER]].tolist()


def test_each_car_sees_for_itself(road: Scenario):
    pixels = begun(road, agents=2).truth(visible=True).visible.pixels[0]
    assert pixels.shape == (2, 5)
    # The furthest travelled are controlled first: the lorry is car 1, and sees what is hidden from the ego.
    assert [bool(pixels[0, HIDDEN]), bool(pixels[1, HIDDEN])] == [False, True]


def test_nobody_knows_who_is_visible_without_cameras(road: Scenario):
    visible = begun(road, cameras=()).truth(visible=True).visible
    assert not bool(visible.valid.any())
    assert not bool(visible.pixels.any())


def test_nobody_knows_who_is_visible_in_recorded_pictures(road: Scenario):
    logs = RenderedLogs(pad_fov(CAMERA, 8, 2))
    world = reprojected(cameras=(CAMERA,), logs=logs, future=1.0).build([road], 1, seed=0)
    assert not bool(world.truth(visible=True).visible.valid.any())


# --- what no car can know -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ReadingSpec(SetActorCriticSpec):
    """A policy that reads features, which its own spec says are privileged or not."""

    features: Features = Features()

    @property
    def sensor_specs(self) -> tuple[SensorSpec, ...]:
        return (self.features,)


@pytest.mark.parametrize(
    "sensor", [VectorSpec(), Features("state", 3, privileged=True)], ids=lambda s: s.name
)
def test_a_policy_that_reads_a_privileged_sensor_is_refused(sensor: SensorSpec):
    spec = (
        SetActorCriticSpec(vector=sensor) if isinstance(sensor, VectorSpec) else ReadingSpec(features=sensor)
    )
    with pytest.raises(UserError, match=f'privileged sensor "{sensor.name}"'):
        refuse_privileged(spec)
    with pytest.raises(UserError, match="what no car can know"):
        Agent(spec.build(), {})


def test_a_policy_that_reads_what_a_car_has_is_not():
    assert not CAMERA.privileged
    refuse_privileged(ReadingSpec(features=Features("speed", 1)))
