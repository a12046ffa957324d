"""What runs on a GPU, run on the meta device: no host round trips, no copies between devices, nothing of unknown shape.

A tensor on the meta device has a shape and no values, so whatever asks for one fails: `.item()`, `if tensor`, a boolean
mask as an index. Copies to and from the host, which it would allow, are refused by `Resident`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from countersteer.drivers import drivers
from countersteer.drivers.drivers import (
    CategoricalDriver,
    EgoAndOthersDriver,
    ExpertDriver,
    MixedDriver,
    PerturbedDriver,
    PolicyDriver,
    TeacherDriver,
)
from countersteer.drivers.interface import Driver
from countersteer.experts import teacher as teachers
from countersteer.experts.recovery import RecoveryExpert
from countersteer.experts.teacher import RolloutExpert
from countersteer.geometry.cameras import Camera
from countersteer.policies.interface import Policy, PolicyOutput
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.policies.teacher import SetActorCriticSpec
from countersteer.policies.weights import Weights
from countersteer.recipes.self_play import self_play_teacher
from countersteer.rewards.progress import ProgressReward
from countersteer.rollouts.rollout import Rollout
from countersteer.rollouts.rollouter import Rollouter, roll_out
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.traffic.idm import IDM
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import Action, JerkAction, Plan, PlanSpec
from countersteer.vehicles.trackers import LQR
from countersteer.worlds.observations import Observation, SensorReading
from countersteer.worlds.renderers.boxes import renderer
from countersteer.worlds.renderers.boxes.camera_shift import CameraDomainShift
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.truth import Motion
from countersteer.worlds.world import World
from worlds import boxworld

META = torch.device("meta")
SYNCHRONISING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")
FROM_HOST = (torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.new_tensor)
RANDOM = ("rand", "normal", "uniform_", "bernoulli", "multinomial", "exponential_")


class Resident(TorchDispatchMode):
    """Refuses operations that make the host wait for the device, or whose shapes depend on values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        kwargs = kwargs or {}
        if name in SYNCHRONISING or name.startswith(RANDOM):
            raise AssertionError(f"aten::{name} on the device")
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        if name in ("_to_copy", "copy_"):
            target = kwargs.get("device") or META
            there = {target.type, *(tensor.device.type for tensor in tensors)}
            if there != {"meta"}:
                raise AssertionError(f"aten::{name} between the host and the device")
        if name in ("index", "index_put", "index_put_") and any(
            t.dtype == torch.bool for t in args[1] if t is not None
        ):
            raise AssertionError("a boolean mask as an index")
        return func(*args, **kwargs)


class MadeThere(TorchFunctionMode):
    """Refuses tensors made of the host's values, which the meta device would make without an operation to see."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FROM_HOST:
            raise AssertionError(f"{func.__name__} from the host's values")
        return func(*args, **(kwargs or {}))


@contextmanager
def resident() -> Iterator[None]:
    with MadeThere(), Resident():
        yield


@pytest.fixture(scope="module")
def roads():
    return [procedural_road(70 + k, RoadKind.INTERSECTION, lanes=2, traffic=6) for k in range(2)]


def world_on_meta(roads, **settings: Any) -> World:
    spec = boxworld(cameras=(), agents=2, vector=VectorSpec(), jerk=JerkSpec(), **settings)
    return spec.build(roads, 4, seed=0, device="meta")


HOST, VALUES = torch.zeros(3), torch.zeros(3, device=META)


@pytest.mark.parametrize(
    "act",
    [
        lambda: VALUES.nonzero(),
        lambda: VALUES[VALUES > 0],
        lambda: torch.rand(3, device=META),
        lambda: HOST.to(META),
        lambda: torch.tensor([1.0, 2.0], device=META),
        lambda: VALUES.new_tensor([1.0, 2.0]),
        lambda: VALUES.clone().__setitem__(VALUES > 0, VALUES[0]),
        lambda: VALUES.sum().item(),
        lambda: bool(VALUES.any()),
    ],
    ids=["nonzero", "mask", "random", "copy", "constant", "like", "filled", "item", "bool"],
)
def test_the_guard_refuses_what_it_should(act):
    with resident(), pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        act()


@pytest.mark.parametrize(
    "settings", [{}, {"traffic": IDM(), "target_points": True, "navigation": True}], ids=["replay", "idm"]
)
def test_a_drive_stays_on_the_device(roads, settings):
    world = world_on_meta(roads, **settings)
    rows = torch.arange(4, device=META)
    zero = torch.zeros(4, 2, device=META)
    with resident():
        world.reset(torch.ones(4, dtype=torch.bool, device=META), world.draw_starts(rows))
        for action in (Action(zero, zero), JerkAction(zero, zero)):
            events = world.step(action)
            seen = world.observe()
            told = world.truth()
        over = ~world.state.simulation.alive.any(1)
        world.reset(over, world.draw_starts(rows + 4))
    leaves = [
        *world.state.simulation.flatten().values(),
        *events.flatten().values(),
        *told.flatten().values(),
    ]
    assert all(leaf.device == META for leaf in leaves)
    assert seen.sensors["vector"].data.shape == (4, 2, VectorSpec().size)


class Linear(Policy):
    """One layer on the ego motion; plans, chooses and remembers."""

    def __init__(self, plan: PlanSpec):
        super().__init__()
        self.spec = SimpleNamespace(plan=plan)  # type: ignore[assignment]
        self.layer = nn.Linear(6, 4 * plan.points + JerkSpec().choices + 1)

    def initial_memory(self, batch: tuple[int, ...], device: torch.device | str = "cpu") -> Motion:
        return Motion(torch.zeros(batch, device=device), torch.zeros(batch, device=device))

    def encode(self, observation: Observation) -> Tensor:
        return observation.motion.speed

    def act(self, features: Tensor, memory: Any, condition: Tensor | None = None) -> PolicyOutput:
        answer = self.layer(features + memory.speed[..., None])
        numbers, logits, value = answer.split([answer.shape[-1] - 13, 12, 1], -1)
        points = numbers.unflatten(-1, (-1, 4))
        plan = Plan(points[..., :2], points[..., 2], points[..., 3])
        return PolicyOutput(plan, Motion(value[..., 0], value[..., 0]), None, logits, value[..., 0])


DRIVERS = {
    "expert": ExpertDriver(),
    "categorical": CategoricalDriver(),
    "mixture": PerturbedDriver(
        MixedDriver(
            PerturbedDriver(ExpertDriver(LQR()), once=True),
            EgoAndOthersDriver(PolicyDriver(), CategoricalDriver(greedy=True)),
        )
    ),
}


@pytest.mark.parametrize("driver", DRIVERS.values(), ids=DRIVERS)
def test_rollouts_stay_on_the_device(roads, driver: Driver):
    """World, expert, policy, driver and loop, with perturbations and drives that begin anew."""
    world = world_on_meta(roads, traffic=IDM())
    policy, expert = Linear(PlanSpec()).to(META), RecoveryExpert()
    with resident():
        rollouter = Rollouter(world, driver, policy, expert, 0, 0.5, ProgressReward(world.dt))
        ticks = list(roll_out(rollouter, 3, first_drive=0, policy_version=1, every=2))
    rollout = Rollout.cat(ticks)
    assert all(leaf.device == META for leaf in rollout.flatten().values())
    assert rollout.alive.shape == (2, 8)


def test_a_rollout_with_reward_weights_lies_on_the_device(roads):
    """The recipe of the teacher: its weights are drawn there, its policy conditioned on them."""
    stage = self_play_teacher().stage
    world = world_on_meta(roads)
    spec = dataclasses.replace(stage.policy, vector=VectorSpec())
    policy = spec.build().to(META)
    rollouter = Rollouter(
        world, stage.driver, policy, None, 0, 0.5, stage.objective.reward, spec.reward_weights
    )
    told = spec.reward_weights.middle(1, device=META)
    spec.reward_weights.normalised(told)  # numbers of the settings are copied there once
    with resident():
        ticks = list(roll_out(rollouter, 3, first_drive=0, policy_version=1, min_active_fraction=0.3))
    rollout = Rollout.cat(ticks)
    assert all(leaf.device == META for leaf in rollout.flatten().values())
    assert rollout.reward_weights is not None
    assert rollout.action_index is not None


def test_a_teacher_drives_and_labels_on_the_device(roads, monkeypatch: pytest.MonkeyPatch):
    teacher = SetActorCriticSpec(vector=VectorSpec(), token_dim=8, hidden=8).build().to(META)
    for module in (drivers, teachers):
        monkeypatch.setattr(module, "load_teacher", lambda path: teacher)
    world = world_on_meta(roads)
    expert = RolloutExpert(Weights("teacher"), PlanSpec(points=2, interval=0.1))
    rollouter = Rollouter(world, TeacherDriver(Weights("teacher")), None, expert, 0)
    with Resident():
        tick = next(roll_out(rollouter, 1, first_drive=0, policy_version=1))
    assert all(leaf.device == META for leaf in tick.flatten().values())


class Launched:
    """In the place of a kernel: it is launched, and nothing runs."""

    def __init__(self) -> None:
        self.times = 0

    def __getitem__(self, grid: tuple[int, ...]) -> Launched:
        return self

    def __call__(self, *arguments: Any, **options: Any) -> None:
        assert all(leaf.device == META for leaf in arguments if isinstance(leaf, torch.Tensor))
        self.times += 1


@pytest.mark.parametrize("shift", [None, CameraDomainShift()], ids=["drawn", "shifted"])
def test_pictures_are_drawn_on_the_device(roads, monkeypatch: pytest.MonkeyPatch, shift):
    """Looks, mountings, views, boxes and kernels of every tick, drives that begin anew among them."""
    triton_kernels = pytest.importorskip("countersteer.worlds.renderers.boxes.triton_kernels")
    place, draw = Launched(), Launched()
    monkeypatch.setattr(triton_kernels, "_place", place)
    monkeypatch.setattr(triton_kernels, "_draw_block", draw)
    monkeypatch.setattr(renderer, "render", triton_kernels.draw_images)
    cameras = (Camera(width=32, height=16), Camera(name="left", width=32, height=16, yaw=1.0))
    spec = boxworld(cameras=cameras, agents=2)
    spec = dataclasses.replace(spec, renderer=renderer.BoxRendererSpec(shift=shift))
    world = spec.build(roads, 4, seed=0, device="meta")
    world.observe()  # tables are copied there once
    rows, zero = torch.arange(4, device=META), torch.zeros(4, 2, device=META)
    before = place.times
    with resident():
        world.step(Action(zero, zero))
        world.reset(~world.alive().any(1), world.draw_starts(rows + 4))
        seen = world.observe()
    assert place.times - before == draw.times - before == len(cameras)
    for camera in cameras:
        assert seen.sensors[camera.name].data.device == META
        assert seen.sensors[camera.name].data.shape == (4, 2, 16, 32, 3)


def test_a_camera_planner_is_asked_on_the_device(roads):
    """The real planner with its history, and the driver that tracks it; pictures are drawn elsewhere."""
    camera = Camera(width=32, height=16)
    spec = CNNPlannerSpec(cameras=(camera,), channels=(4, 8), features=8, hidden=16, history=(1,))
    world, planner = world_on_meta(roads), spec.build().eval().to(META)
    seen = SensorReading(
        torch.zeros(4, 2, 16, 32, 3, dtype=torch.uint8, device=META),
        torch.zeros(4, 2, device=META),
        torch.ones(4, 2, dtype=torch.bool, device=META),
    )
    blank = world.observe
    world.observe = lambda sensors=None: blank(()).replace(sensors={camera.name: seen})  # type: ignore[method-assign]
    with Resident():
        rollouter = Rollouter(world, PerturbedDriver(PolicyDriver()), planner, None, 0)
        ticks = list(roll_out(rollouter, 2, first_drive=0, policy_version=1))
    assert all(leaf.device == META for leaf in Rollout.cat(ticks).flatten().values())
