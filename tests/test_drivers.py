"""Drivers: a mixture keeps all it is given, memories stay with their owners, and a search can be written."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from jaxtyping import Int
from torch import Tensor

from countersteer.drivers.drivers import (
    CategoricalDriver,
    ConstantVelocityDriver,
    EgoAndOthersDriver,
    ExpertDriver,
    LinearSchedule,
    MixedDriver,
    PerturbedDriver,
    PolicyDriver,
    TeacherDriver,
)
from countersteer.drivers.interface import Decision, Driver, Perturbation, Turn, TwoMemories
from countersteer.errors import UserError
from countersteer.experts.recovery import RecoveryExpert
from countersteer.policies.interface import Hypotheses, NoMemory, Policy, PolicyOutput, PolicySpec
from countersteer.policies.weights import Weights
from countersteer.rollouts.rollouter import Rollouter, roll_out
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.tensors import TensorTree
from countersteer.traffic.idm import IDM
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import Action, JerkAction, PlanSpec
from countersteer.worlds.bridges.metadrive.simulation import MetaDriveSpec
from countersteer.worlds.interface import Capability
from countersteer.worlds.observations import Observation
from countersteer.worlds.world import World
from examples_here import example
from worlds import boxworld, changed

SHAPE = (4, 2)  # worlds, cars
JERK = JerkSpec()
SPEC = boxworld(cameras=(), agents=2, jerk=JERK, terminate=())
ALL = torch.ones(4, dtype=torch.bool)
SearchDriver = example("bring_your_own_driver").SearchDriver


@pytest.fixture(scope="module")
def roads():
    return [procedural_road(70 + k, RoadKind.INTERSECTION, lanes=2, traffic=6) for k in range(2)]


@pytest.fixture
def world(roads) -> World:
    world = SPEC.build(roads, 4, 0)
    world.reset(ALL, world.draw_starts(torch.arange(4)))
    return world


# --- parts --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StubSpec(PolicySpec):
    """Describes a `StubPolicy`."""

    cameras: tuple = ()
    plan: PlanSpec = PlanSpec(points=8, interval=0.25)
    dt: float = 0.1
    stride: int = 1

    def build(self) -> StubPolicy:
        return StubPolicy(self)


class StubPolicy(Policy):
    """Hypotheses that bend ever more to the left, and odds of jerks; remembers how often it was asked."""

    BENDS = (-0.03, 0.0, 0.03)

    def __init__(self, spec: StubSpec):
        super().__init__()
        self.spec = spec
        self.odds = torch.nn.Linear(1, JERK.choices)

    def initial_memory(self, batch: tuple[int, ...], device: torch.device | str = "cpu") -> Calls:
        return Calls(torch.zeros(batch, dtype=torch.long, device=device))

    def encode(self, observation: Observation) -> Tensor:
        return observation.motion.speed[..., -1:]

    def act(self, features: Tensor, memory: Any, condition: Tensor | None = None) -> PolicyOutput:
        plans = torch.stack([arc(features, bend, self.spec.plan) for bend in self.BENDS], -3)
        found = Hypotheses(plans, torch.ones_like(plans), plans[..., 0, 0] * 0)
        return PolicyOutput(
            found.best(), Calls(memory.count + 1), found, self.odds(features), features[..., 0]
        )


@dataclass(frozen=True)
class Calls(TensorTree):
    """How often somebody was asked in a drive."""

    count: Int[Tensor, "*batch"]


def arc(speed: Tensor, bend: float, spec: PlanSpec) -> Tensor:
    """A plan of constant curvature [1/m] and speed `[... 1]` [m/s], as `Hypotheses` hold it."""
    ahead = speed * spec.times()
    return torch.stack([ahead, bend * ahead**2 / 2, bend * ahead, speed.expand_as(ahead)], -1)


@dataclass(frozen=True)
class CountingDriver(Driver):
    """Counts its ticks in its memory, and decides all that can be decided."""

    number: int

    def initial_memory(self, world: World) -> Calls:
        return Calls(torch.full((world.batch,), 100 * self.number, device=world.device))

    def act(self, turn: Turn, memory: Calls) -> Decision:
        return dataclasses.replace(decision(self.number), memory=Calls(memory.count + 1))


def decision(number: float, *names: str) -> Decision:
    """A decision full of one number, without the fields of these names."""
    full = torch.full(SHAPE, float(number))
    index = torch.full(SHAPE, int(number))
    made = Decision(Action(full, full), full > 5, Perturbation(full, full, full), index, full)
    return dataclasses.replace(made, **dict.fromkeys(names))


def turn_in(world: World, policy: StubPolicy | None = None, **changes: Any) -> Turn:
    """A turn in which everybody was asked."""
    policy, expert = policy or StubSpec().build(), RecoveryExpert()
    observation = world.observe()
    with torch.no_grad():
        output = policy.act(policy.encode(observation), policy.initial_memory((world.batch, world.agents)))
    age = torch.zeros(world.batch, dtype=torch.long)
    made = Turn(world, observation, output, policy, expert.label(world), expert, age, 0.5, 0)
    return dataclasses.replace(made, **changes)


# --- a decision is merged field by field ----------------------------------------------------------

OPTIONAL = {"perturbation": (0.0, 0.0, 1.0), "action_index": (-1.0,), "log_prob": (0.0,)}


@pytest.mark.parametrize("here", [*itertools.product((True, False), repeat=3)])
@pytest.mark.parametrize("there", [*itertools.product((True, False), repeat=3)])
def test_a_field_is_merged_whoever_has_it(here: tuple[bool, ...], there: tuple[bool, ...]):
    mask = torch.tensor([[True, False], [False, True], [True, True], [False, False]])
    sides = [
        decision(number, *(name for name, has in zip(OPTIONAL, given, strict=True) if not has))
        for number, given in ((7, here), (3, there))
    ]
    merged = sides[0].where(mask, sides[1])
    assert torch.equal(merged.action.curvature, torch.where(mask, 7.0, 3.0))
    assert torch.equal(merged.policy_in_control, mask)
    for name, ours, theirs in zip(OPTIONAL, here, there, strict=True):
        found = getattr(merged, name)
        if not (ours or theirs):
            assert found is None
            continue
        leaves = found.flatten().values() if isinstance(found, TensorTree) else (found,)
        for leaf, neutral in zip(leaves, OPTIONAL[name], strict=True):
            mine, other = 7.0 if ours else neutral, 3.0 if theirs else neutral
            assert torch.equal(leaf.float(), torch.where(mask, mine, other))


def test_both_memories_are_kept_whoever_drives():
    mine, other = (dataclasses.replace(decision(k), memory=Calls(torch.tensor([k] * 4))) for k in (1, 2))
    for mask in (torch.ones(SHAPE, dtype=torch.bool), torch.zeros(SHAPE, dtype=torch.bool)):
        assert mine.where(mask, other).memory == TwoMemories(mine.memory, other.memory)


def test_a_field_that_nobody_said_how_to_merge_is_not_dropped():
    """Every field takes part, those of later versions too: a field without a neutral value is refused."""

    @dataclass(frozen=True)
    class Later(Decision):
        more: Tensor | None = None

    first = Later(**vars(decision(1)), more=torch.ones(SHAPE))
    with pytest.raises(TypeError, match="None"):
        first.where(torch.ones(SHAPE, dtype=torch.bool), Later(**vars(decision(2))))
    assert (
        first.where(torch.zeros(SHAPE, dtype=torch.bool), first.replace(more=first.more * 2)).more.sum() == 16
    )


# --- mixtures -------------------------------------------------------------------------------------


def test_a_mixture_keeps_all_it_is_given(world: World):
    """A perturbed expert goes on perturbing its own cars, and choices keep their odds."""
    expert = PerturbedDriver(ExpertDriver(), period=0.1)
    mixed = MixedDriver(expert, CategoricalDriver(), expert_probability=LinearSchedule(0.5, 0.5), hold=1.0)
    turn = turn_in(world, age=torch.tensor([0, 7, 13, 45]))
    found = mixed.act(turn, mixed.initial_memory(world))
    ours, theirs = expert.act(turn, NoMemory()), CategoricalDriver().act(turn, NoMemory())
    policy = found.policy_in_control
    assert policy.any()
    assert not policy.all()
    command = world.command(theirs.action)
    assert isinstance(found.action, Action)
    assert torch.equal(found.action.curvature, torch.where(policy, command.curvature, ours.action.curvature))
    assert torch.equal(found.action_index, torch.where(policy, theirs.action_index, -1))
    assert torch.equal(found.log_prob, torch.where(policy, theirs.log_prob, 0.0))
    for name, neutral in (("lateral", 0.0), ("heading", 0.0), ("speed", 1.0)):
        moved = getattr(found.perturbation, name)
        assert torch.equal(moved, torch.where(policy, neutral, getattr(ours.perturbation, name)))
        assert (moved[~policy] != neutral).all()


def test_actions_of_one_kind_stay_what_they_are(world: World):
    """Jerks are recorded as jerks where all take jerks; commands are made of them only where kinds meet."""
    turn = turn_in(world)
    both = EgoAndOthersDriver(CategoricalDriver(), CategoricalDriver(greedy=True))
    assert isinstance(both.act(turn, both.initial_memory(world)).action, JerkAction)
    for driver in (
        EgoAndOthersDriver(PolicyDriver(), CategoricalDriver()),
        EgoAndOthersDriver(CategoricalDriver(), PolicyDriver()),
    ):
        assert isinstance(driver.act(turn, driver.initial_memory(world)).action, Action)


def test_perturbations_add_up(world: World):
    turn = turn_in(world)
    once = PerturbedDriver(ConstantVelocityDriver())
    one, two = (d.act(turn, NoMemory()).perturbation for d in (once, PerturbedDriver(once)))
    assert one is not None
    assert two is not None
    assert torch.equal(two.lateral, 2 * one.lateral)
    assert torch.equal(two.heading, 2 * one.heading)
    assert torch.equal(two.speed, one.speed * one.speed)


def test_memories_of_both_drivers_survive_and_are_reset_with_their_drives(world: World):
    """Through a mixture of a mixture, and whoever of them drives."""
    inner = EgoAndOthersDriver(CountingDriver(2), CountingDriver(3))
    driver = PerturbedDriver(MixedDriver(CountingDriver(1), inner))
    rollouter = Rollouter(world, driver, None, None, 0)
    starts = world.draw_starts(torch.arange(4))
    rollouter.begin(ALL, starts)
    for _ in range(3):
        rollouter.tick()
    mask = torch.tensor([False, True, False, True])
    rollouter.begin(mask, starts)
    rollouter.tick()
    memory = rollouter.driver_memory
    assert isinstance(memory, TwoMemories)
    assert isinstance(memory.second, TwoMemories)
    counts = [memory.first, memory.second.first, memory.second.second]
    for number, each in enumerate(counts, 1):
        assert (each.count - 100 * number).tolist() == [4, 1, 4, 1]


def test_a_driver_relies_on_what_its_drivers_rely_on():
    mixed = MixedDriver(
        TeacherDriver(Weights("nowhere")), EgoAndOthersDriver(PolicyDriver(), CategoricalDriver())
    )
    assert mixed.needs == {Capability.TRUTH, Capability.JERK}
    assert mixed.uses_policy
    assert not mixed.uses_expert
    perturbed = PerturbedDriver(MixedDriver())
    assert perturbed.needs == {Capability.TRUTH, Capability.PERTURB}
    assert perturbed.uses_policy
    assert perturbed.uses_expert
    assert not PerturbedDriver(ConstantVelocityDriver()).uses_policy
    assert perturbed.needs <= SPEC.capabilities
    assert not perturbed.needs <= MetaDriveSpec().capabilities


# --- single drivers -------------------------------------------------------------------------------


def test_plans_are_tracked_at_the_times_of_whoever_made_them(world: World):
    """The same points an interval twice as long apart are a car half as fast."""
    policy, motion = StubSpec().build(), world.motion()
    turn = turn_in(world, policy)
    found = PolicyDriver().act(turn, NoMemory())
    track = PolicyDriver().tracker.track
    assert turn.output is not None
    for spec in (policy.spec.plan, PlanSpec(points=8, interval=0.5)):
        policy.spec = StubSpec(plan=spec)
        expected = track(turn.output.plan, spec, motion.speed, motion.curvature)
        assert torch.equal(PolicyDriver().act(turn, NoMemory()).action.curvature, expected.curvature)
    assert not torch.equal(found.action.curvature, expected.curvature)
    assert turn.label is not None
    for spec in (PlanSpec(), PlanSpec(points=12, interval=0.5)):
        moved = dataclasses.replace(turn, expert=RecoveryExpert(plan=spec))
        expected = track(turn.label.plan, spec, motion.speed, motion.curvature)
        assert torch.equal(ExpertDriver().act(moved, NoMemory()).action.curvature, expected.curvature)


def test_jerks_are_the_worlds(world: World, roads):
    """The same number stands for another jerk where the world says so; no jerk, no choice."""
    index = CategoricalDriver(greedy=True).act(turn_in(world), NoMemory())
    assert torch.equal(index.action.lateral, JERK.action(index.action_index).lateral)
    other = dataclasses.replace(JERK, lateral=(-1.0, 0.5, 2.0))
    for jerk in (other, None):
        elsewhere = changed(SPEC, jerk=jerk).build(roads, 4, 0)
        turn = turn_in(elsewhere)
        if jerk is None:
            with pytest.raises(UserError, match="jerk"):
                CategoricalDriver().act(turn, NoMemory())
        else:
            found = CategoricalDriver(greedy=True).act(turn, NoMemory())
            assert torch.equal(found.action.lateral, other.action(found.action_index).lateral)


def test_a_policy_without_a_plan_is_not_tracked(world: World):
    turn = turn_in(world)
    assert turn.output is not None
    with pytest.raises(UserError, match="CategoricalDriver"):
        PolicyDriver().act(dataclasses.replace(turn, output=turn.output.replace(plan=None)), NoMemory())


# --- search ---------------------------------------------------------------------------------------


def test_a_search_drives_better_than_the_policy_it_asks_and_leaves_the_world_alone(roads):
    """The policy's own first plan bends to the right; which of its hypotheses is right only a fork tells."""
    offsets, agreed = {}, {}
    spec = changed(SPEC, agents=1)
    for driver in (PolicyDriver(), SearchDriver()):
        torch.manual_seed(0)
        world = spec.build(roads, 4, 0)
        rollouter = Rollouter(world, driver, StubSpec().build(), None, 0)
        rollouter.begin(ALL, world.draw_starts(torch.arange(4)))
        turn = rollouter._look(True)
        before = world.save()
        driver.act(turn, NoMemory())
        agreed[type(driver)] = all(torch.equal(leaf, before[name]) for name, leaf in world.save().items())
        for _ in range(40):
            rollouter.tick()
        offsets[type(driver)] = float(world.truth().lateral.abs().mean())
    assert all(agreed.values())
    assert offsets[SearchDriver] < 0.3
    assert offsets[PolicyDriver] > 5 * offsets[SearchDriver]


# --- through the loop -----------------------------------------------------------------------------


def test_a_rollout_records_what_a_mixture_decided(roads):
    """A perturbed expert in a mixture begins the past of its own cars anew, and choices lie in the rollout."""
    world = changed(SPEC, traffic=IDM()).build(roads, 4, 0)
    expert = PerturbedDriver(ExpertDriver(), period=0.5)
    driver = MixedDriver(expert, CategoricalDriver(), LinearSchedule(0.5, 0.5), hold=1.0)
    rollouter = Rollouter(world, driver, StubSpec().build(), RecoveryExpert(), 0, 0.5)
    ticks = list(roll_out(rollouter, 20, first_drive=0, policy_version=7))
    rollout = ticks[0].cat(ticks)
    assert (rollout.policy_version == 7).all()
    assert rollout.action_index is not None
    assert rollout.log_prob is not None
    policy = rollout.policy_in_control
    assert torch.equal(rollout.action_index >= 0, policy)
    assert torch.equal(rollout.log_prob < 0, policy)
    # The tick after a perturbation is a first one, of the cars that the expert drove.
    assert torch.equal(rollout.is_first[6], ~policy[5])
    assert rollout.is_first[6].any()
    assert not rollout.is_first[6].all()
