"""Boxworld: invariances, events, looks, commands. What every world promises is in `test_world_contract.py`."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from countersteer.errors import UserError
from countersteer.experts.log import LogExpert
from countersteer.experts.recovery import RecoveryExpert
from countersteer.geometry.cameras import Camera
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import RoadMap, Scenario
from countersteer.traffic.idm import IDM
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.vehicles.plans import Action, PlanSpec
from countersteer.vehicles.trackers import PurePursuit
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.observations import Command
from countersteer.worlds.simulation.spec import StartSpec
from countersteer.worlds.simulation.stepping.reference import find_events
from countersteer.worlds.world import World, WorldSpec
from worlds import boxworld, changed

SMALL = Camera(width=32, height=16)
EXACT = VehicleSpec((0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0))
SPEC = boxworld(
    cameras=(SMALL,), traffic=IDM(), start=StartSpec(lateral=0.4, heading=0.04, command_share=0.5)
)


@pytest.fixture(scope="module")
def roads() -> list[Scenario]:
    kinds = (RoadKind.GENTLE, RoadKind.TIGHT, RoadKind.INTERSECTION)
    return [procedural_road(40 + k, kind, lanes=2, traffic=4) for k, kind in enumerate(kinds)]


def begun(spec: WorldSpec, roads: list[Scenario], batch: int, first: int = 0) -> World:
    world = spec.build(roads, batch, seed=5)
    world.reset(torch.ones(batch, dtype=torch.bool), world.draw_starts(torch.arange(first, first + batch)))
    return world


def expert_action(world: World) -> Action:
    motion = world.motion()
    label = RecoveryExpert().label(world)
    return PurePursuit().track(label.plan, PlanSpec(), motion.speed, motion.curvature)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def wobble(world: World, tick: int) -> Action:
    action = expert_action(world)
    return action.replace(curvature=action.curvature + 0.004 * math.sin(0.7 * tick))


def test_looks_are_those_of_the_drive_after_resets_and_in_forks(roads: list[Scenario]):
    world = begun(SPEC, roads, 4)
    for tick in range(3):
        world.step(wobble(world, tick))
        world.observe()
        world.reset(
            torch.tensor([False, tick > 0, False, True]), world.draw_starts(100 * tick + torch.arange(4))
        )
        twin = world.fork(torch.tensor([2, 0]))
        for one in (world, twin, world):
            assert one.renderer is not None
            dressed = one.renderer.begin(one.simulation.scene(one.state.simulation))
            assert same(dressed.flatten(), one.state.renderer.flatten())


def test_moving_and_turning_the_whole_scene_changes_nothing(roads: list[Scenario]):
    """Rigid-motion invariance: arcs, offsets, speeds and events are those of the scene moved."""

    def moved(scenario: Scenario) -> Scenario:
        turn, shift = 0.83, np.array([40.0, -25.0])
        c, s = math.cos(turn), math.sin(turn)
        rotation = np.array([[c, -s], [s, c]])

        def at(points: np.ndarray) -> np.ndarray:
            out = points.copy()
            out[..., :2] = points[..., :2] @ rotation.T + shift
            return out

        tracks = dataclasses.replace(
            scenario.tracks,
            position=at(scenario.tracks.position),
            velocity=scenario.tracks.velocity @ rotation.T,
            heading=(scenario.tracks.heading + turn + math.pi) % (2 * math.pi) - math.pi,
        )
        features = tuple(dataclasses.replace(f, points=at(f.points)) for f in scenario.road.features)
        signals = dataclasses.replace(
            scenario.signals,
            stop_point=at(scenario.signals.stop_point),
            heading=scenario.signals.heading + turn,
        )
        assert scenario.route is not None
        return dataclasses.replace(
            scenario, tracks=tracks, road=RoadMap(features), signals=signals, route=at(scenario.route)
        )

    here, there = begun(SPEC, roads, 3), begun(SPEC, [moved(road) for road in roads], 3)
    for tick in range(60):
        here.step(wobble(here, tick))
        there.step(wobble(there, tick))
    a, b = here.truth(), there.truth()
    for name in ("arc", "lateral", "heading_error", "speed"):
        assert torch.allclose(getattr(a, name), getattr(b, name), atol=0.02), name


def test_the_logged_ego_reaches_its_logged_end_through_the_tracker(roads: list[Scenario]):
    spec = changed(SPEC, vehicle=EXACT, traffic=None, duration=30.0, terminate=())
    world = spec.build(roads, 3, seed=0)
    rows = torch.arange(3)
    world.reset(torch.ones(3, dtype=torch.bool), world.starts_at(rows, rows * 0, rows, jitter=False))
    for _ in range(170):
        label = LogExpert().label(world)
        motion = world.motion()
        world.step(PurePursuit().track(label.plan, PlanSpec(), motion.speed, motion.curvature))
    now = world.log_at(torch.zeros(1)).position[:, :, 0]
    assert float((now - world.truth().position).norm(dim=-1).max()) < 0.5


def test_a_car_that_is_run_into_is_a_collision_with_that_actor(roads: list[Scenario]):
    spec = changed(SPEC, vehicle=EXACT, traffic=None)
    world = begun(spec, roads[:1], 1)
    state = world.state.simulation
    ahead = state.actor.clone()
    course = state.cars.heading[0, 0]
    ahead[0, 1, :2] = state.actor[0, 0, :2] + 3.0 * torch.stack([course.cos(), course.sin()])
    there = state.actor_there.clone()
    there[0, 1] = True
    placed = state.replace(actor=ahead, actor_there=there)
    # Replayed traffic would jump back to its recording; the events are judged on a state placed by hand.
    events = find_events(
        world.spec.simulation,
        world.simulation.bank,
        world.simulation.ground,
        placed,
        placed,
        torch.ones(1, 1, dtype=torch.bool),
    )
    assert bool(events.collision[0, 0])
    assert int(events.collided_with[0, 0]) == 1
    assert int(events.cause[0, 0]) == TerminationReason.COLLISION


def test_leaving_the_road_is_off_road_and_far_from_the_path_is_lost(roads: list[Scenario]):
    world = begun(SPEC, roads[:1], 1)
    off, lost = False, None
    for _ in range(120):
        events = world.step(Action(torch.full((1, 1), 0.02), torch.zeros(1, 1)))
        off |= bool(events.off_road.any())
        if bool(events.terminated.any()):
            lost = int(events.cause[0, 0])
            break
    assert off
    assert lost in (TerminationReason.OFF_ROUTE, TerminationReason.COLLISION)


def test_an_action_that_is_not_a_number_ends_its_drive_and_no_other(roads: list[Scenario]):
    world = begun(SPEC, roads, 3)
    action = expert_action(world)
    action.curvature[1] = math.nan
    events = world.step(action)
    assert events.cause[:, 0].tolist()[1] == TerminationReason.INVALID_STATE
    assert world.state.simulation.alive[:, 0].tolist() == [True, False, True]
    assert bool(torch.isfinite(world.state.simulation.cars.position).all())


def test_a_red_light_that_is_crossed_is_reported():
    road = procedural_road(3, RoadKind.INTERSECTION, lanes=1, duration=60.0)
    red = dataclasses.replace(road.signals, state=np.full_like(road.signals.state, 3))
    road = dataclasses.replace(road, signals=red)
    spec = changed(SPEC, traffic=None, vehicle=EXACT, duration=60.0)
    world = spec.build([road], 1, seed=0)
    row = torch.arange(1)
    world.reset(torch.ones(1, dtype=torch.bool), world.starts_at(row, row * 0, row, jitter=False))
    while not math.isfinite(float(world.truth().stop_gap)):  # until the light is within sight
        world.step(expert_action(world))
        assert int(world.state.simulation.age) < 100
    obeyed = world.fork(row)
    ran = False
    for _ in range(250):
        action = expert_action(world)
        ran |= bool(world.step(action.replace(acceleration=(6.0 - world.motion().speed))).red_light.any())
    assert ran
    for _ in range(250):
        assert not bool(obeyed.step(expert_action(obeyed)).red_light.any())
    assert float(obeyed.motion().speed) < 0.5  # the expert waits


def test_a_lane_change_command_moves_the_path_by_a_lane(roads: list[Scenario]):
    road = next(
        road
        for road in (procedural_road(k, RoadKind.STRAIGHT, lanes=2) for k in range(20))
        if max(road.route_offsets) > 0.5
    )
    world = changed(SPEC, vehicle=EXACT).build([road], 1, seed=0)
    row = torch.arange(1)
    starts = world.starts_at(row, row * 0, row, jitter=False)
    starts = starts.replace(command=torch.tensor([[int(Command.LEFT)]]), command_tick=torch.tensor([[10]]))
    world.reset(torch.ones(1, dtype=torch.bool), starts)
    commands = []
    for _ in range(110):
        commands.append(int(world.observe().intent.command))
        world.step(expert_action(world))
    assert commands[9] == Command.FOLLOW
    assert commands[10] == Command.LEFT
    assert commands[-1] == Command.FOLLOW  # the command ends by itself
    nearest = min(offset for offset in road.route_offsets if offset > 0.5)
    assert float(world.state.simulation.path_offset) == pytest.approx(nearest, abs=1e-4)
    assert abs(float(world.truth().lateral)) < 0.3


def test_the_recovery_label_starts_at_the_car_and_leads_back(roads: list[Scenario]):
    world = begun(changed(SPEC, start=StartSpec(lateral=0.0, heading=0.0)), roads[:2], 2)
    world.perturb(torch.full((2, 1), 1.0), torch.zeros(2, 1), torch.ones(2, 1))
    label = RecoveryExpert(plan=PlanSpec(20, 0.25)).label(world)
    assert bool(label.valid.all())
    first = label.plan.position[..., 0, :]
    assert bool((first[..., 1].abs() < 0.3).all())
    assert float(world.truth().lateral.min()) > 0.9
    path = world.path_at(world.truth().arc[..., None] + world.truth().speed[..., None] * 5.0)
    from countersteer.geometry.poses import local_from_world

    end = local_from_world(path.position[..., 0, :], world.truth().position, world.truth().heading)
    assert bool(((label.plan.position[..., -1, :] - end)[..., 1].abs() < 0.25).all())


def test_a_scenario_without_a_road_is_refused_with_a_remedy(roads: list[Scenario]):
    bare = dataclasses.replace(roads[0], road=RoadMap(()))
    with pytest.raises(UserError, match="road_along"):
        SPEC.build([bare], 1, seed=0)


def test_too_few_cars_are_refused(roads: list[Scenario]):
    with pytest.raises(UserError, match="too few cars"):
        changed(SPEC, agents=40).build(roads[:1], 1, seed=0)


def test_a_car_at_the_origin_is_on_its_own_path_however_long_the_others_are():
    """What pads shorter paths is none of their points."""
    roads = []
    for length in (300.0, 450.0):
        road = procedural_road(61, RoadKind.GENTLE, lanes=2, traffic=0, length=length)
        assert road.route is not None
        start = np.flatnonzero(np.linalg.norm(road.route, axis=1) < 1.0)[0]
        half = 0.5 * (road.route[start + 1] - road.route[start])  # so that no point lies at the origin
        roads.append(dataclasses.replace(road, route=road.route + half))
    world = changed(SPEC, traffic=None).build(roads, 2, seed=0)
    row = torch.arange(2)
    world.reset(torch.ones(2, dtype=torch.bool), world.starts_at(row, row * 0, row, jitter=False))
    assert world.state.simulation.arc[:, 0].tolist() == pytest.approx([60.0, 60.0], abs=3.0)
