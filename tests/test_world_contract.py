"""What every world promises, whatever simulates and draws it: one set of clauses over all of them.

A world of your own is tested by one more entry in `WORLDS`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.rollouts.rollouter import Rollouter, roll_out
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import Scenario
from countersteer.tensors import TensorTree
from countersteer.traffic.idm import IDM
from countersteer.traffic.tokens.model import TokenTraffic
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.bridges.metadrive import roads as metadrive_roads
from countersteer.worlds.bridges.metadrive import simulation as metadrive_simulation
from countersteer.worlds.bridges.metadrive.roads import scenarios_on
from countersteer.worlds.bridges.metadrive.simulation import MetaDriveSpec
from countersteer.worlds.interface import (
    Capability,
    CapabilityError,
    Images,
    Outputs,
    Renderer,
    RendererSpec,
    Simulation,
)
from countersteer.worlds.observations import twin_of
from countersteer.worlds.renderers.boxes.camera_shift import CameraDomainShift
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.renderers.films import RenderedLogs, pad_fov
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.simulation.recorded import RecordedSimulationSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.simulation.spec import StartSpec
from countersteer.worlds.world import World, WorldSpec
from examples_here import example
from test_metadrive import LANE, Fake
from test_traffic import Marching
from token_traffic import Fresh
from worlds import boxworld, reprojected

CAMERA = Camera(width=32, height=16)
VECTOR = VectorSpec(cars=4, lanes=8, edges=8, lights=1)
START = StartSpec(lateral=0.4, heading=0.04, command_share=0.5)
ONE_BY_ONE = {"min_agents": 1, "start": START, "traffic": IDM()}
FILMED = {"logs": RenderedLogs(pad_fov(CAMERA, 8, 2)), "future": 1.0, "duration": 5.0}
latent: ModuleType = example("bring_your_own_world")


# --- the worlds -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrailSpec(RendererSpec):
    """A renderer that remembers: its pictures show how bright the way so far has made them."""

    def build(self, simulation: Simulation, cameras: Sequence[Camera], seed: int) -> Trail:
        return Trail()


@dataclass(frozen=True)
class TrailState(TensorTree):
    """What has been seen so far."""

    brightness: Float[Tensor, "world agent"]


class Trail(Renderer):
    """See `TrailSpec`."""

    identifies: ClassVar[bool] = False
    advances: ClassVar[bool] = True

    def begin(self, scene: Any) -> TrailState:
        return TrailState(torch.zeros_like(scene.heading))

    def advance(self, state: TrailState, scene: Any) -> TrailState:
        return TrailState((0.9 * state.brightness + scene.heading.abs() + 0.01).clamp(max=1.0))

    def draw(self, state: TrailState, scene: Any, camera: Camera, outputs: Outputs = Outputs()) -> Images:
        shade = (255 * state.brightness).to(torch.uint8).flatten()
        return Images(shade[:, None, None, None].expand(-1, camera.height, camera.width, 3), None, None, None)


@functools.cache
def road_scenes() -> tuple[Scenario, ...]:
    kinds = (RoadKind.GENTLE, RoadKind.TIGHT, RoadKind.INTERSECTION)
    return tuple(procedural_road(40 + k, kind, lanes=2, traffic=4) for k, kind in enumerate(kinds))


@functools.cache
def filmed_scenes() -> tuple[Scenario, ...]:
    kinds = (RoadKind.STRAIGHT, RoadKind.GENTLE, RoadKind.TIGHT)
    return tuple(
        procedural_road(60 + k, kind, lanes=2, traffic=0, duration=8.0) for k, kind in enumerate(kinds)
    )


class Fakes(Fake):
    """A stand-in of MetaDrive for each drive."""

    def __init__(self, roads: Sequence[Any], cameras: Sequence[Camera] = ()):
        self.each = [Fake([road], cameras) for road in roads]

    def ask(self, rows: Sequence[int], messages: Sequence[Any]) -> list[Any]:
        return [
            getattr(self.each[row], what)(*given) for row, (what, *given) in zip(rows, messages, strict=True)
        ]


@functools.cache
def metadrive_scenes() -> tuple[Scenario, ...]:
    return tuple(scenarios_on([LANE] * 4))


@dataclass(frozen=True)
class Case:
    """A world to test.

    Attributes:
        spec: Of it.
        scenarios: Makes what it drives in.
        noisy: Whether what is seen has noise of its own at every tick.
        meta: Whether it can be built on the meta device.
    """

    spec: WorldSpec
    scenarios: Callable[[], tuple[Scenario, ...]] = road_scenes
    noisy: bool = False
    meta: bool = False


WORLDS = {
    "roads x boxes": Case(boxworld(cameras=(CAMERA,), traffic=IDM(), start=START)),
    "roads x boxes, 3 cars": Case(
        boxworld(cameras=(CAMERA,), agents=3, remove_done_agents=True, jerk=JerkSpec(), **ONE_BY_ONE)
    ),
    "roads without cameras, 8 cars": Case(
        WorldSpec(
            RoadSimulationSpec(agents=8, vector_dropout=(0.4, 0.4), jerk=JerkSpec(), **ONE_BY_ONE),
            sensors=(VECTOR,),
        ),
        noisy=True,
        meta=True,
    ),
    "roads x boxes, traffic that remembers": Case(boxworld(cameras=(CAMERA,), traffic=Marching())),
    "roads x boxes, traffic of tokens": Case(
        boxworld(cameras=(CAMERA,), agents=2, min_agents=1, traffic=TokenTraffic(Fresh()), start=START)
    ),
    "roads x boxes behind a shift, with a twin": Case(
        boxworld(cameras=(CAMERA,), shift=CameraDomainShift(), twin=BoxRendererSpec()), noisy=True
    ),
    "roads x a renderer that remembers": Case(
        WorldSpec(RoadSimulationSpec(start=START), TrailSpec(), (CAMERA,), twin=TrailSpec())
    ),
    "recorded x reprojection": Case(reprojected(cameras=(CAMERA,), **FILMED), filmed_scenes),
    "recorded x boxes": Case(
        WorldSpec(RecordedSimulationSpec(**FILMED), BoxRendererSpec(), (CAMERA,)), filmed_scenes
    ),
    "MetaDrive x boxes": Case(
        WorldSpec(MetaDriveSpec(start=START), BoxRendererSpec(), (CAMERA,)), metadrive_scenes
    ),
    "latent": Case(
        WorldSpec(latent.LatentSpec(shake=0.1), sensors=(latent.Features(size=2),)),
        tuple,
        noisy=True,
        meta=True,
    ),
}
EVERY = pytest.mark.parametrize("name", list(WORLDS))


# --- driving them ---------------------------------------------------------------------------------


@functools.cache
def built(name: str, batch: int, copy: int = 0) -> World:
    case = WORLDS[name]
    with pytest.MonkeyPatch.context() as patch:
        for module in (metadrive_roads, metadrive_simulation):
            patch.setattr(module, "Hosts", Fakes)
        return case.spec.build(case.scenarios(), batch, seed=5)


def starts(world: World, drive: Tensor, row: Tensor | None = None) -> Any:
    """Starts of these drives; in MetaDrive, where each drive has a road of its own, those of the rows."""
    if isinstance(world.spec.simulation, MetaDriveSpec):
        row = torch.arange(len(drive)) if row is None else row
        return world.starts_at(row, torch.zeros_like(row), drive, jitter=True)
    return world.draw_starts(drive)


def begun(name: str, batch: int, first: int = 0, copy: int = 0) -> World:
    world, drive = built(name, batch, copy), torch.arange(first, first + batch)
    world.reset(torch.ones(batch, dtype=torch.bool), starts(world, drive, drive % 4))
    return world


def act(world: World, tick: int) -> Action:
    """A weaving drive that comes back to its path where there is one; each drive weaves in its own way."""
    weave = [
        (math.sin(0.7 * tick + drive), math.cos(0.4 * tick + drive)) for drive in world.drives().tolist()
    ]
    bend, push = torch.tensor(weave)[:, None].expand(-1, world.agents, 2).unbind(-1)
    back = world.truth().lateral if Capability.TRUTH in world.capabilities else torch.zeros_like(bend)
    return Action(0.004 * bend - 0.01 * back, 0.5 * push)


def advance(world: World, ticks: int, first: int = 0) -> list[dict[str, Tensor]]:
    """Drive, look at every tick, and return what happened."""
    happened = []
    for tick in range(first, first + ticks):
        happened.append(world.step(act(world, tick)).flatten())
        looked(world)
    return happened


def looked(world: World) -> dict[str, Tensor]:
    """Everything that a world tells, by name; the tensors themselves."""
    sensors = [sensor.name for sensor in world.sensors]
    if Capability.TWIN in world.capabilities:
        sensors += [twin_of(camera.name) for camera in world.cameras]
    told = {"observation": world.observe(sensors), "motion": world.motion()}
    if Capability.TRUTH in world.capabilities:
        told["truth"] = world.truth(visible=True)
    leaves = {
        f"{name}.{leaf}": value for name, tree in told.items() for leaf, value in tree.flatten().items()
    }
    return leaves | {"confidence": world.confidence(), "alive": world.alive(), "drives": world.drives()}


def whole(world: World) -> dict[str, Tensor]:
    """The whole state, copied."""
    return {name: leaf.clone() for name, leaf in world.state.flatten().items()}


def differing(a: dict[str, Tensor], b: dict[str, Tensor], here: Any = ..., there: Any = ...) -> list[str]:
    """Names of the leaves whose rows are not bitwise the same."""
    assert a.keys() == b.keys()
    return [
        name for name in a if not torch.equal(a[name][here].nan_to_num(9e9), b[name][there].nan_to_num(9e9))
    ]


def forkable(name: str) -> None:
    if Capability.FORK not in WORLDS[name].spec.capabilities:
        pytest.skip("it cannot be copied, and says so")


# --- the clauses ----------------------------------------------------------------------------------


@EVERY
def test_a_masked_reset_leaves_the_other_drives_bitwise_alone(name: str):
    world = begun(name, 4)
    advance(world, 5)
    before, seen = whole(world), {k: v.clone() for k, v in looked(world).items()}
    mask = torch.tensor([False, True, False, True])
    world.reset(mask, starts(world, torch.arange(100, 104)))
    assert differing(before, whole(world), ~mask, ~mask) == []
    assert differing(seen, looked(world), ~mask, ~mask) == []
    assert world.drives().tolist() == [0, 101, 2, 103]
    assert world.state.simulation.age.tolist() == [5, 0, 5, 0]


@EVERY
def test_starts_of_the_drives_that_begin_are_enough(name: str):
    mask, drive, row = torch.tensor([False, True, False, True]), torch.arange(100, 104), torch.arange(4)
    states = []
    for chosen in (torch.ones_like(mask), mask):
        world = begun(name, 4)
        advance(world, 3)
        world.reset(mask, starts(world, drive[chosen], row[chosen]))
        states.append(whole(world))
        world.reset(torch.zeros_like(mask), starts(world, drive))
        assert differing(states[-1], whole(world)) == []
        with pytest.raises(UserError, match="not of the drives that begin"):
            world.reset(mask, starts(world, drive[:3]))
    assert differing(*states) == []


@EVERY
def test_a_drive_has_the_same_start_in_any_batch(name: str):
    world = built(name, 4)
    row = torch.tensor([2, 3])
    a, b = starts(world, torch.tensor([11, 12]), row), starts(world, torch.tensor([12, 40]), row.flip(0))
    assert differing(a.flatten(), b.flatten(), 1, 0) == []


@EVERY
def test_a_drive_alone_is_the_same_as_in_a_batch(name: str):
    together, alone = begun(name, 3), begun(name, 1, first=1)
    for tick in range(12):
        assert differing(looked(together), looked(alone), slice(1, 2)) == [], tick
        advance(together, 1, tick)
        advance(alone, 1, tick)
    assert differing(whole(together), whole(alone), slice(1, 2)) == []


@EVERY
def test_a_drive_that_has_ended_stays_as_it_is_until_it_begins_anew(name: str):
    world = begun(name, 3)
    advance(world, 3)
    simulation = world.state.simulation
    alive = simulation.alive.clone()
    alive[1] = False
    world.state = world.state.replace(simulation=simulation.replace(alive=alive))
    advance(world, 1, 3)  # it may be taken off the road
    before = whole(world)
    happened = advance(world, 3, 4)
    # The odometry of a car that stands where its drive ended goes on being read.
    history = {f"simulation.{name}" for name in ("speed_history", "yaw_history", "cars.commands")}
    assert set(differing(before, whole(world), 1, 1)) <= history
    assert not any(bool((one["terminated"] | one["truncated"])[1].any()) for one in happened)
    world.reset(~alive.any(1), starts(world, torch.arange(50, 53)))
    assert bool(world.alive()[1].any())


@EVERY
def test_a_fork_continues_bitwise_and_leaves_its_original_alone(name: str):
    forkable(name)
    world, rows = begun(name, 3), torch.tensor([2, 0, 2, 2])
    advance(world, 5)
    untouched, seen = whole(world), {k: v.clone() for k, v in looked(world).items()}
    twin = world.fork(rows)
    there = advance(twin, 8, 5)
    assert differing(untouched, whole(world)) == []
    assert differing(seen, looked(world)) == []
    here = advance(world, 8, 5)
    assert differing(whole(world), whole(twin), rows) == []
    assert differing(looked(world), looked(twin), rows) == []
    for a, b in zip(here, there, strict=True):
        assert differing(a, b, rows) == []


@EVERY
def test_a_fork_shares_its_noise_or_draws_it_anew(name: str):
    forkable(name)
    world = begun(name, 2)
    advance(world, 3)
    rows, seen = torch.tensor([1, 1, 1]), {}
    for fresh in (False, True):
        twin = world.fork(rows, fresh_noise=fresh)
        assert len(set(twin.drives().tolist())) == (3 if fresh else 1)
        still = torch.zeros(3, twin.agents)
        twin.step(Action(still, still))
        first, second, third = (looked(twin) for _ in range(3))
        seen[fresh] = first
        assert differing(first, second) == differing(second, third) == [], "looking draws nothing"
    assert differing(seen[False], seen[False], 0, 1) == []
    sensed = [leaf for leaf in differing(seen[True], seen[True], 0, 1) if "sensors" in leaf]
    if WORLDS[name].noisy:
        assert sensed


@EVERY
def test_save_and_restore_continue_bitwise(name: str):
    forkable(name)
    world, other = begun(name, 3), begun(name, 3, first=50, copy=1)
    advance(world, 5)
    saved = world.save()
    kept = {leaf: value.clone() for leaf, value in saved.items()}
    first = advance(world, 8, 5)
    assert differing(saved, kept) == [], "driving on writes nothing into what was saved"
    advance(other, 2)
    other.restore(saved)
    second = advance(other, 8, 5)
    assert differing(world.save(), other.save()) == []
    assert differing(looked(world), looked(other)) == []
    for a, b in zip(first, second, strict=True):
        assert differing(a, b) == []
    assert differing(saved, kept) == [], "nor does driving on from it"
    with pytest.raises(UserError, match="not of this world"):
        other.restore({leaf: value for leaf, value in saved.items() if leaf != "simulation.age"})


@EVERY
def test_what_was_seen_stays_what_it_was(name: str):
    world = begun(name, 3)
    advance(world, 2)
    seen = looked(world)
    kept = {leaf: value.clone() for leaf, value in seen.items()}
    if Capability.FORK in world.capabilities:
        twin = world.fork(torch.tensor([0, 0, 2]))
        advance(twin, 3, 2)
        assert differing(seen, kept) == []
    if Capability.PERTURB in world.capabilities:
        one = torch.ones(3, world.agents)
        world.perturb(0.3 * one, 0.1 * one, 0.9 * one)
    advance(world, 3, 2)
    assert differing(seen, kept) == []
    world.reset(torch.tensor([True, False, True]), starts(world, torch.arange(70, 73)))
    looked(world)
    assert differing(seen, kept) == []


@EVERY
def test_what_is_not_offered_is_refused_and_the_rest_is_not(name: str):
    world, one = begun(name, 2), torch.ones(2, 1)
    per_car, row = one.expand(2, world.agents), torch.arange(2)
    calls: dict[Capability, list[Callable[[], Any]]] = {
        Capability.TRUTH: [
            world.truth,
            world.routes,
            lambda: world.path_at(10 * per_car[..., None]),
            lambda: world.starts_at(row, 0 * row, row, jitter=False),
        ],
        Capability.FORK: [lambda: world.fork(row), world.save, lambda: world.restore(whole(world))],
        Capability.PERTURB: [lambda: world.perturb(0 * per_car, 0 * per_car, per_car)],
        Capability.LOG: [lambda: world.log_at(torch.tensor([0.0, 1.0]))],
        Capability.JERK: [lambda: world.command(JerkAction(per_car, per_car))],
        Capability.TWIN: [lambda: world.images(CAMERA, twin=True)],
    }
    assert set(calls) == set(Capability)
    for capability, each in calls.items():
        for call in each:
            if capability in world.capabilities:
                call()
            else:
                with pytest.raises(CapabilityError, match=capability.value):
                    call()
    assert world.capabilities == world.spec.capabilities


@EVERY
@pytest.mark.parametrize("device", ["cpu", "meta", "cuda"])
def test_everything_lies_on_the_device_of_the_world(name: str, device: str):
    case = WORLDS[name]
    if device == "meta" and not case.meta:
        pytest.skip("its renderer or its host draws on real devices only")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    if device == "cuda" and name.startswith(("recorded", "MetaDrive")):
        pytest.skip("it is drawn on the CPU")
    world = built(name, 3) if device == "cpu" else case.spec.build(case.scenarios(), 3, seed=5, device=device)
    drive = torch.arange(3, device=device)
    begins = starts(world, drive)
    world.reset(torch.ones(3, dtype=torch.bool, device=device), begins)
    still = torch.zeros(3, world.agents, device=device)
    events = world.step(Action(still, still))
    world.reset(torch.zeros(3, dtype=torch.bool, device=device), begins)
    trees = [begins.flatten(), events.flatten(), looked(world), world.state.flatten()]
    if Capability.FORK in world.capabilities:
        trees.append(world.fork(drive).state.flatten())
    wrong = [leaf for tree in trees for leaf, value in tree.items() if value.device.type != device]
    assert world.device.type == device
    assert wrong == []


@pytest.mark.parametrize("name", ["roads x boxes", "latent"])
def test_a_sensor_that_nobody_answers_is_refused(name: str):
    case = WORLDS[name]
    strange = latent.Features("strange", 3) if name == "roads x boxes" else VECTOR
    with pytest.raises(UserError, match=f"nobody answers the sensor '{strange.name}'"):
        case.spec.carrying(strange).build(case.scenarios(), 2, seed=5)


# --- a world without roads ------------------------------------------------------------------------


def test_the_latent_world_is_small():
    """At most forty lines of code, for settings, state and simulation together; docstrings and blank lines not counted."""
    lines = 0
    for part in (latent.LatentState, latent.LatentSpec, latent.Latent):
        lines += sum(bool(line.strip()) for line in inspect.getsource(part).splitlines())
        lines -= len(inspect.getdoc(part).splitlines())
    assert lines <= 40


def test_gradients_run_through_a_world():
    """d f3 / d u0 = growth^2, d f3 / d u1 = growth, d f3 / d u2 = 1, and d f3 / d f0 = growth^3."""
    growth = torch.tensor((1.1, 0.9))
    world = latent.latent_world(4, growth=tuple(growth.tolist()), shake=0.1)
    begun = world.state.simulation.features.clone().requires_grad_()
    world.state = world.state.replace(simulation=world.state.simulation.replace(features=begun))
    pushes = torch.randn(3, 4, 1, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for push in pushes:
        world.step(Action(push[..., 0], push[..., 1]))
    last = world.observe().sensors["features"].data
    by_push, by_start = torch.autograd.grad(last.sum(), (pushes, begun))
    powers = torch.stack([growth**2, growth, growth**0])
    torch.testing.assert_close(by_push, powers[:, None, None].expand_as(by_push))
    torch.testing.assert_close(by_start, (growth**3).expand_as(by_start))


def test_gradients_run_through_forks_and_masked_resets():
    world = latent.latent_world(3)
    push = torch.zeros(3, 1, requires_grad=True)
    world.step(Action(push, 0 * push))
    world.reset(torch.tensor([False, True, False]), world.draw_starts(torch.arange(7, 10)))
    twin = world.fork(torch.tensor([0, 1, 0]))
    (gradient,) = torch.autograd.grad(twin.observe().sensors["features"].data[..., 0].sum(), push)
    assert gradient[:, 0].tolist() == [2.0, 0.0, 0.0]


def test_a_policy_that_makes_no_plan_drives_a_world_without_roads():
    torch.manual_seed(0)
    world, policy = latent.latent_world(3, duration=0.5), latent.Pusher()
    rollouter = Rollouter(world, latent.PushDriver(), policy, None, seed=0)
    rollouts = list(roll_out(rollouter, 12, first_drive=0, policy_version=1))
    assert [int(part.truncated.sum()) for part in rollouts] == [0, 0, 0, 0, 3] * 2 + [0, 0]
    assert [int(part.drive[0, 0]) for part in rollouts] == [0] * 5 + [3] * 5 + [6] * 2
    assert all(bool(part.policy_in_control.all()) for part in rollouts)
