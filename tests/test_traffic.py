"""Traffic: the Intelligent Driver Model, and models in plain torch before the tick."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Int
from torch import Tensor

from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import Scenario
from countersteer.tensors import TensorTree
from countersteer.traffic.idm import IDM
from countersteer.traffic.interface import Moved, Traffic, TrafficModel
from countersteer.vehicles.plans import Action
from countersteer.worlds.backend import Backend
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.world import World
from worlds import boxworld


def test_equilibrium_gap_is_the_formula():
    model, speed, desired = IDM(), torch.tensor(10.0), torch.tensor(15.0)
    gap = (model.standstill_gap + 10.0 * model.headway) / math.sqrt(1 - (10 / 15) ** 4)
    answer = model.answer(speed, desired, torch.tensor(gap), speed)
    assert float(answer) == pytest.approx(0.0, abs=1e-5)


def test_free_road_reaches_the_desired_speed():
    model, speed = IDM(), torch.tensor(0.0)
    for _ in range(600):
        speed = speed + 0.1 * model.answer(
            speed, torch.tensor(12.0), torch.tensor(math.inf), torch.tensor(0.0)
        )
    assert float(speed) == pytest.approx(12.0, abs=0.05)


def test_a_platoon_never_collides_when_its_leader_stops():
    model = IDM()
    position = -torch.arange(10.0) * 25.0
    speed = torch.full((10,), 12.0)
    for _ in range(600):
        gap = torch.cat([torch.tensor([math.inf]), position[:-1] - position[1:] - 5.0])
        lead = torch.cat([torch.zeros(1), speed[:-1]])
        answer = model.answer(speed, torch.full((10,), 15.0), gap, lead)
        answer[0] = -3.0
        speed = (speed + 0.1 * answer).clamp(min=0.0)
        position = position + 0.1 * speed
        assert bool((gap[1:] > 0.0).all())
    assert float(speed.max()) < 0.1
    assert float(gap[1:].min()) == pytest.approx(model.standstill_gap, abs=0.5)


def test_a_faster_leader_never_pulls():
    model = IDM()
    near = model.answer(torch.tensor(10.0), torch.tensor(12.0), torch.tensor(30.0), torch.tensor(30.0))
    free = model.answer(torch.tensor(10.0), torch.tensor(12.0), torch.tensor(math.inf), torch.tensor(0.0))
    assert float(near) <= float(free)


def test_without_a_leader_the_leader_speed_is_ignored():
    answer = IDM().answer(torch.tensor(0.0), torch.tensor(10.0), torch.tensor(math.inf), torch.tensor(0.0))
    assert float(answer) == pytest.approx(IDM().acceleration)


# --- models in plain torch ------------------------------------------------------------------------


@dataclass(frozen=True)
class Replayed(TrafficModel):
    """What the recording says."""

    def step(self, traffic: Traffic, memory: TensorTree, *, dt: float, seed: int) -> tuple[Moved, TensorTree]:
        return Moved(traffic.logged_pose, traffic.logged_speed, traffic.logged_present), memory


@dataclass(frozen=True)
class Ticks(TensorTree):
    """How often a model was asked in each drive."""

    count: Int[Tensor, "world"]


@dataclass(frozen=True)
class Marching(TrafficModel):
    """Everybody goes straight on, by so many centimetres a tick as there have been ticks."""

    def begin(self, traffic: Traffic) -> Ticks:
        return Ticks(torch.zeros_like(traffic.drive))

    def step(self, traffic: Traffic, memory: Ticks, *, dt: float, seed: int) -> tuple[Moved, Ticks]:
        count = memory.count + 1
        heading = traffic.pose[..., 2]
        course = torch.stack([heading.cos(), heading.sin(), torch.zeros_like(heading)], -1)
        step = 0.01 * count[:, None].to(heading.dtype) * traffic.movable
        return Moved(traffic.pose + step[..., None] * course, step / dt, traffic.present), Ticks(count)


@pytest.fixture(scope="module")
def roads() -> list[Scenario]:
    return [procedural_road(40 + k, RoadKind.GENTLE, lanes=2, traffic=5) for k in range(2)]


def begun(roads: list[Scenario], traffic: TrafficModel | None, backend: Backend) -> World:
    spec = boxworld(
        cameras=(), traffic=traffic, backend=backend, terminate=(TerminationReason.INVALID_STATE,)
    )
    world, drive = spec.build(roads, 3, seed=5), torch.arange(3)
    world.reset(torch.ones(3, dtype=torch.bool), world.draw_starts(drive))
    return world


def still(world: World) -> Action:
    return Action(torch.zeros(world.batch, 1), torch.zeros(world.batch, 1))


@pytest.mark.parametrize("backend", [Backend.KERNEL, Backend.TORCH])
def test_a_replay_in_plain_torch_is_the_fused_one_bitwise(roads: list[Scenario], backend: Backend):
    fused, plain = begun(roads, None, backend), begun(roads, Replayed(), backend)
    for _ in range(30):
        events = [world.step(still(world)).flatten() for world in (fused, plain)]
        assert all(torch.equal(events[0][name], events[1][name]) for name in events[0])
    one, two = fused.save(), plain.save()
    # How far along its own track an actor is, is kept for IDM alone.
    names = one.keys() - {"simulation.actor_arc"}
    assert names == two.keys() - {"simulation.actor_arc"}
    assert [name for name in names if not torch.equal(one[name], two[name])] == []
    assert not torch.equal(
        one["simulation.actor"][:, 1:], begun(roads, None, backend).save()["simulation.actor"][:, 1:]
    )


@pytest.mark.parametrize("backend", [Backend.KERNEL, Backend.TORCH])
def test_what_a_model_remembers_goes_with_the_drive(roads: list[Scenario], backend: Backend):
    world = begun(roads, Marching(), backend)
    start = world.truth().actors.pose.clone()
    for _ in range(4):
        world.step(still(world))
    moved = (world.truth().actors.pose - start)[..., :2].norm(dim=-1)
    movable = world.simulation.bank.movable[world.state.simulation.scene]
    movable[:, 0] = False  # the controlled car
    assert bool(movable.any())
    torch.testing.assert_close(
        moved[movable], torch.full_like(moved[movable], 0.01 + 0.02 + 0.03 + 0.04), atol=1e-4, rtol=0.0
    )
    saved, twin = world.save(), world.fork(torch.tensor([1, 1]))
    world.reset(torch.tensor([True, False, False]), world.draw_starts(torch.arange(9, 12)))
    assert world.state.simulation.traffic.count.tolist() == [0, 4, 4]
    twin.step(still(twin))
    assert twin.state.simulation.traffic.count.tolist() == [5, 5]
    assert world.state.simulation.traffic.count.tolist() == [0, 4, 4]
    world.restore(saved)
    assert world.state.simulation.traffic.count.tolist() == [4, 4, 4]


def test_a_model_is_not_asked_once_a_drive_has_ended(roads: list[Scenario]):
    world = begun(roads, Marching(), Backend.AUTO)
    world.step(Action(torch.tensor([[0.0], [math.nan], [0.0]]), torch.zeros(3, 1)))
    world.step(still(world))
    assert world.state.simulation.traffic.count.tolist() == [2, 1, 2]
