"""Self-play: rewards with coefficients, choices, advantages, the teacher, and worlds where every car is driven."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from countersteer.drivers.drivers import CategoricalDriver, EgoAndOthersDriver, ExpertDriver, PolicyDriver
from countersteer.drivers.interface import Decision, Driver, Turn
from countersteer.errors import UserError
from countersteer.evaluation.population import Population, SelfPlaySuite
from countersteer.experts.recovery import RecoveryExpert
from countersteer.experts.teacher import rollout_plans
from countersteer.objectives.ppo import PPO, ActionBatch, generalised_advantages
from countersteer.policies.interface import NoMemory, Policy, PolicyOutput
from countersteer.policies.storage import load_policy
from countersteer.policies.teacher import SetActorCritic, SetActorCriticSpec
from countersteer.recipes.self_play import roads, self_play_teacher, self_play_world
from countersteer.rewards.interface import Reward, RewardInputs
from countersteer.rewards.weighted import MultiplicativeReward, WeightedReward
from countersteer.rewards.weights import RewardWeights
from countersteer.rollouts.rollout import Rollout
from countersteer.rollouts.rollouter import Rollouter, roll_out
from countersteer.tensors import TensorTree
from countersteer.training.recipe import Recipe
from countersteer.training.run import Progress, train
from countersteer.training.stages import OptimSpec, RolloutSpec
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import Action, Plan, PlanSpec
from countersteer.vehicles.trackers import LQR
from countersteer.worlds.interface import Events, TerminationReason
from countersteer.worlds.observations import EgoMotion, Intent, Observation, SensorReading
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.truth import Truth
from countersteer.worlds.world import World
from worlds import changed

SMALL = VectorSpec(cars=4, lanes=6, edges=5, lights=2)


def truth(**values: float) -> Truth:
    """Truth of one car, all zero but what is given; the set speed is 10 m/s."""
    numbers = [field.name for field in dataclasses.fields(Truth) if field.default is not None]
    fields = {name: torch.zeros(1, 1) for name in numbers} | {"cause": torch.zeros(1, 1, dtype=torch.long)}
    fields |= {"position": torch.zeros(1, 1, 2), "alive": torch.ones(1, 1, dtype=torch.bool)}
    fields["set_speed"] = torch.full((1, 1), 10.0)
    return Truth(**(fields | {name: torch.full((1, 1), float(value)) for name, value in values.items()}))


def events(cause: TerminationReason = TerminationReason.NONE, **flags: bool) -> Events:
    """Events of one car."""
    fields = {f.name: torch.zeros(1, 1, dtype=torch.bool) for f in dataclasses.fields(Events)}
    fields |= {"cause": torch.full((1, 1), int(cause)), "collided_with": torch.full((1, 1), -1)}
    fields["terminated"] = torch.full((1, 1), cause not in (TerminationReason.NONE, TerminationReason.TIME))
    return Events(**(fields | {name: torch.full((1, 1), flag) for name, flag in flags.items()}))


def worth(
    reward: Reward, happened: Events, before: Truth, after: Truth, weights: Tensor | None = None
) -> Tensor:
    """What a tick of a tenth of a second is worth."""
    return reward(RewardInputs(happened, before, after, 0.1, weights))


def weights(**values: float) -> Tensor:
    """Reward weights, all zero but what is given."""
    return torch.tensor([[[values.get(name, 0.0) for name in RewardWeights.names()]]])


# --- rewards ------------------------------------------------------------------------------------


def test_each_coefficient_weighs_its_own_term():
    reward = WeightedReward()
    before, after = truth(arc=5.0), truth(arc=5.5, lateral=-0.4, speed=12.0, heading_error=math.pi / 3)
    # Half of what the set speed asks for; 20 % too fast; 60 degrees off; each for a tenth of a second.
    cases = {
        "velocity": 2.0 * 0.5**2 * 0.1,
        "lane_align": 2.0 * 0.5 * 0.1,
        "lane_center": -2.0 * 0.4 * 0.1,
        "timestep": -2.0 * 0.1,
        "overspeed": -2.0 * 0.2 * 0.1,
        "comfort": -2.0 * 0.1,
        "reverse": -2.0 * 0.1,
        "collision": -2.0,
        "off_road": -2.0,
        "traffic_light": -2.0,
    }
    wrong = events(collision=True, off_road=True, red_light=True, wrong_way=True, uncomfortable=True)
    for name, expected in cases.items():
        got = worth(reward, wrong, before, after, weights(**{name: 2.0}))
        assert got.item() == pytest.approx(expected, rel=1e-5), name


def test_the_same_way_is_worth_more_the_faster_it_is_driven():
    reward, c = WeightedReward(), weights(velocity=1.0)

    def way_of_10_m(speed: float) -> float:
        each = worth(reward, events(), truth(), truth(arc=0.1 * speed, speed=speed), c).item()
        return each * 10.0 / (0.1 * speed)

    ways = [way_of_10_m(speed) for speed in (2.0, 5.0, 10.0, 12.5)]
    assert ways == pytest.approx([0.2, 0.5, 1.0, 1.25])
    assert way_of_10_m(20.0) < ways[-1]  # beyond 1.25 times the set speed of 10 m/s nothing more is paid
    assert worth(reward, events(), truth(), truth(arc=-1.0), c).item() == pytest.approx(-0.1)


@pytest.mark.parametrize("reward", [WeightedReward(), MultiplicativeReward()])
def test_a_goal_counts_near_the_path_and_slow_enough(reward: WeightedReward | MultiplicativeReward):
    there, c = events(TerminationReason.GOAL), weights(goal_radius=2.0, goal_speed=8.0)
    assert worth(reward, there, truth(), truth(lateral=1.9, speed=7.9), c).item() == pytest.approx(1.0)
    assert worth(reward, there, truth(), truth(lateral=2.1, speed=7.9), c).item() == 0.0
    assert worth(reward, there, truth(), truth(lateral=1.9, speed=8.1), c).item() == 0.0
    assert worth(reward, events(TerminationReason.TIME), truth(), truth(), c).item() == 0.0


def test_product_multiplies_penalties_and_pays_nothing_for_standing():
    reward = MultiplicativeReward()
    c = weights(velocity=1.0, comfort=0.5, overspeed=0.25, lane_center=0.5)
    clean = worth(reward, events(), truth(), truth(arc=1.0, speed=10.0), c)
    assert clean.item() == pytest.approx(0.1)
    # Discomfort halves, 2 m/s too fast halves, 1 m beyond half a metre aside halves.
    bad = worth(reward, events(uncomfortable=True), truth(), truth(arc=1.0, speed=12.0, lateral=1.5), c)
    assert bad.item() == pytest.approx(0.1 / 8)
    assert worth(reward, events(), truth(), truth(speed=0.0), c).item() == 0.0
    assert worth(reward, events(off_road=True), truth(), truth(arc=1.0), c).item() == 0.0


def test_coefficients_are_drawn_within_their_ranges_and_normalised():
    ranges = RewardWeights(collision=(1.0, 1.0))
    drawn = ranges.draw(3, torch.arange(500))
    style = ranges.normalised(drawn)
    low, high = RewardWeights().collision
    costs = RewardWeights().draw(3, torch.arange(4_000))[:, 0]
    below = float((costs < low + (high - low) / 4).float().mean())
    assert below == pytest.approx(0.5, abs=0.03)  # often low: a uniform share, squared
    evenly = RewardWeights().normalised(RewardWeights().draw(3, torch.arange(4_000)))[:, 0]
    assert float((evenly < 0.0).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert style.shape == (500, 12)
    assert style.abs().max() <= 1.0 + 1e-5
    assert (style[:, 0] == 0.0).all()  # a range that is a point
    assert style[:, 1:].std(0).min() > 0.5
    torch.testing.assert_close(ranges.normalised(ranges.middle(2)), torch.zeros(2, 12), atol=1e-5, rtol=0.0)
    assert torch.equal(drawn[17:18], ranges.draw(3, torch.tensor([17])))


def test_a_reward_without_its_coefficients_and_ranges_that_are_none_are_refused():
    with pytest.raises(UserError, match="weights of every car"):
        worth(WeightedReward(), events(), truth(), truth())
    with pytest.raises(UserError, match=r"RewardWeights\.comfort"):
        RewardWeights(comfort=(0.2, 0.1))
    with pytest.raises(UserError, match="skewed"):
        RewardWeights(skewed=("colision",))
    with pytest.raises(UserError, match=r"RewardWeights\.velocity"):
        RewardWeights(velocity=(math.nan, 1.0))


# --- advantages ---------------------------------------------------------------------------------


def plain_advantages(
    reward: Tensor, value: Tensor, last: Tensor, done: Tensor, cut: Tensor, discount: float, trace: float
) -> Tensor:
    """The sum of eq. 16, term by term."""
    time = len(reward)
    following = [*value[1:].tolist(), last.item()]
    error = [
        float(reward[t]) - float(value[t])
        + discount * (0.0 if done[t] else float(value[t]) if cut[t] else following[t])
        for t in range(time)
    ]  # fmt: skip
    advantages = []
    for t in range(time):
        total, weight = 0.0, 1.0
        for k in range(t, time):
            total += weight * error[k]
            if done[k] or cut[k]:
                break
            weight *= discount * trace
        advantages.append(total)
    return torch.tensor(advantages)


@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_advantages_are_the_discounted_sum_of_errors(seed: int, discount: float, trace: float):
    generator = torch.Generator().manual_seed(seed)
    reward, value = torch.randn(2, 12, generator=generator)
    last = torch.randn((), generator=generator)
    done, cut = torch.rand(2, 12, generator=generator) < 0.15
    cut = cut & ~done
    found = generalised_advantages(reward, value, last, done, cut, discount=discount, gae_lambda=trace)
    expected = plain_advantages(reward, value, last, done, cut, discount, trace)
    torch.testing.assert_close(found.advantage, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.value_target, expected + value, atol=1e-5, rtol=1e-5)


def test_advantages_by_hand():
    # Two steps, gamma 0.5, lambda 1: A_1 = 2 + 0.5 * 4 - 1 = 3; A_0 = 1 + 0.5 * 1 - 3 + 0.5 * 3 = 0.
    off = torch.zeros(2, dtype=torch.bool)
    found = generalised_advantages(
        torch.tensor([1.0, 2.0]),
        torch.tensor([3.0, 1.0]),
        torch.tensor(4.0),
        off,
        off,
        discount=0.5,
        gae_lambda=1.0,
    )
    assert found.advantage.tolist() == [0.0, 3.0]
    assert found.value_target.tolist() == [3.0, 4.0]


def rollout_of(
    reward: list[list[float]],
    value: list[list[float]],
    cause: dict[tuple[int, int], TerminationReason],
    drive: list[list[int]],
) -> Rollout:
    """Cars that drove in a row of `drive`, their drives ended by the causes at (car, tick)."""
    shape = (len(reward), len(reward[0]))
    off = torch.zeros(shape, dtype=torch.bool)
    ended, why, alive = off.clone(), torch.zeros(shape, dtype=torch.long), ~off
    for at, each in cause.items():
        ended[at], why[at] = True, int(each)
    whose = torch.tensor(drive)
    for car, tick in cause:
        gone = (whose[car] == whose[car, tick]) & (torch.arange(shape[1]) > tick)
        alive[car, gone] = False
    return Rollout(
        observation=seen(torch.zeros(*shape, SMALL.size)),
        label=None,
        action=Action(torch.zeros(shape), torch.zeros(shape)),
        policy_in_control=alive, is_first=off, alive=alive, terminated=ended, truncated=off, cause=why,
        confidence=torch.ones(shape), drive=whose, policy_version=torch.zeros_like(whose),
        reward=torch.tensor(reward), value=torch.tensor(value), action_index=torch.zeros(shape, dtype=torch.long),
        log_prob=torch.zeros(shape), reward_weights=RewardWeights().middle(*shape),
    )  # fmt: skip


@pytest.mark.parametrize("again", [(), (TerminationReason.COLLISION,)])
def test_who_begins_again_loses_what_the_collision_cost_and_not_what_was_to_come(
    again: tuple[TerminationReason, ...],
):
    """Three ticks worth 2, 4, 6 by the value, then a collision at a cost of 1; the second car leaves the road."""
    objective = PPO(
        reward=WeightedReward(), discount=0.5, gae_lambda=0.0, advantage_threshold=0.0, respawn_on=again
    )
    rollout = rollout_of(
        reward=[[0.0, 0.0, -1.0, 0.0, 0.0, 0.0]] * 2,
        value=[[2.0, 4.0, 6.0, 99.0, 8.0, 8.0]] * 2,
        cause={(0, 2): TerminationReason.COLLISION, (1, 2): TerminationReason.OFF_ROAD},
        drive=[[7, 7, 7, 7, 9, 9]] * 2,
    )
    target = objective.prepare(rollout).value_target
    # The mean of that drive, 4, stands in; the value of the next drive has no part in it.
    end = -1.0 + 0.5 * 4.0 if again else -1.0
    assert target.tolist() == [2.0, 3.0, end, 4.0, 2.0, 3.0, -1.0, 4.0]


# --- the teacher --------------------------------------------------------------------------------


def seen(vector: Tensor) -> Observation:
    """An observation that says nothing but a vector."""
    batch = vector.shape[:-1]
    nothing, no = torch.zeros(batch), torch.zeros(batch, dtype=torch.bool)
    return Observation(
        {"vector": SensorReading(vector, nothing, ~no)},
        EgoMotion(nothing[..., None], nothing[..., None], no[..., None]),
        Intent(nothing.long(), nothing, nothing, torch.zeros(*batch, 1, 2), no),
    )


def answer(vector: Tensor, condition: Tensor | None = None) -> PolicyOutput:
    torch.manual_seed(0)
    teacher = SetActorCriticSpec(vector=SMALL, token_dim=16, hidden=32).build().eval()
    with torch.no_grad():
        return teacher.act(teacher.encode(seen(vector)), NoMemory(), condition)


def random_vector(count: int) -> Tensor:
    vector = torch.randn(count, SMALL.size)
    for name in ("actors", "lights", "lanes", "edges"):
        group = SMALL.layout[name]
        vector[:, group.stop - group.slots : group.stop] = (torch.rand(count, group.slots) < 0.7).float()
    group = SMALL.layout["actors"]
    kind = group.start + group.fields.index("kind") * group.slots
    vector[:, kind : kind + group.slots] = torch.randint(4, (count, group.slots)).float()
    return vector


@pytest.mark.parametrize("name", ["actors", "lights", "lanes", "edges"])
def test_the_order_of_things_does_not_matter_and_what_is_not_valid_is_not_seen(name: str):
    vector = random_vector(8)
    group = SMALL.layout[name]
    items = vector[:, group.start : group.stop].unflatten(-1, (len(group.fields), group.slots))
    shuffled, garbled = vector.clone(), vector.clone()
    shuffled[:, group.start : group.stop] = items[..., torch.randperm(group.slots)].flatten(1)
    noise = torch.where(items[:, -1:] == 0.0, torch.randn_like(items).round(), 0.0)
    noise[:, -1] = 0.0
    if "kind" in group.fields:
        noise[:, group.fields.index("kind")] = 0.0
    garbled[:, group.start : group.stop] = (items + noise).flatten(1)
    plain = answer(vector)
    for other in (answer(shuffled), answer(garbled)):
        torch.testing.assert_close(other.logits, plain.logits, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(other.value, plain.value, atol=1e-5, rtol=1e-4)


def test_the_style_is_read_and_its_default_is_the_middle():
    vector = random_vector(3)
    ranges = RewardWeights()
    plain, middle = answer(vector), answer(vector, ranges.middle(3))
    assert torch.equal(plain.logits, middle.logits)  # type: ignore[arg-type]
    other = answer(vector, ranges.draw(0, torch.arange(3)))
    assert not torch.allclose(plain.value, other.value)  # type: ignore[arg-type]


def test_a_teacher_without_its_sensor_is_refused():
    teacher = SetActorCriticSpec(vector=SMALL).build()
    with pytest.raises(UserError, match="vector that the teacher was trained with"):
        teacher.encode(seen(torch.zeros(2, 7)))


# --- choices ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> World:
    return self_play_world(6).build(roads(4, seed=5).load(), 8, 0)


class FixedOdds(Policy):
    """A policy with the same odds everywhere."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = logits

    def initial_memory(self, batch: tuple[int, ...], device: torch.device | str = "cpu") -> NoMemory:
        return NoMemory()

    def encode(self, observation: Observation) -> Tensor:
        return observation.sensors["vector"].data

    def act(self, features: Tensor, memory: TensorTree, condition: Tensor | None = None) -> PolicyOutput:
        batch = features.shape[:-1]
        return PolicyOutput(None, memory, logits=self.logits.expand(*batch, -1), value=torch.zeros(batch))


def decided(
    driver: Driver, world: World, output: PolicyOutput, tick: int = 0, policy: Policy | None = None
) -> Decision:
    """What a driver without memory does about an answer."""
    age = torch.full((world.batch,), tick)
    return driver.act(
        Turn(world, None, output, policy, None, None, age, 0.0, 0), driver.initial_memory(world)
    )


def test_choices_follow_the_odds(world: World):
    odds = torch.linspace(0.01, 1.0, 12)
    odds = odds / odds.sum()
    output = PolicyOutput(None, NoMemory(), logits=odds.log().expand(8, 6, -1))
    driver, counts = CategoricalDriver(), torch.zeros(12)
    for tick in range(400):
        decision = decided(driver, world, output, tick)
        assert decision.action_index is not None
        counts += torch.bincount(decision.action_index.flatten(), minlength=12)
        expected = odds.log()[decision.action_index]
        torch.testing.assert_close(decision.log_prob, expected)
    # 19,200 draws: five standard deviations of each share.
    share = counts / counts.sum()
    assert ((share - odds).abs() < 5 * (odds * (1 - odds) / 19_200).sqrt()).all()
    assert (decided(CategoricalDriver(greedy=True), world, output).action_index == 11).all()


def test_a_policy_of_other_choices_is_refused(world: World):
    output = PolicyOutput(None, NoMemory(), logits=torch.zeros(8, 6, 5))
    with pytest.raises(UserError, match="choose among"):
        decided(CategoricalDriver(), world, output)


# --- worlds -------------------------------------------------------------------------------------


def test_scenes_with_fewer_cars_leave_slots_empty():
    scenarios = roads(4, seed=5).load()
    full = self_play_world(30).build(scenarios, 8, 0)
    used = full.simulation.bank.present[:, :30].sum(1)
    assert (used < 30).all()
    assert (used >= 2).all()
    assert (full.alive().sum(1) <= used[full.state.simulation.scene]).all()
    empty = ~full.simulation.bank.present[full.state.simulation.scene, :30]
    assert not (full.state.simulation.actor_there[:, :30] & empty).any()
    with pytest.raises(UserError, match="too few cars"):
        changed(self_play_world(30), min_agents=None).build(scenarios, 8, 0)


def test_empty_slots_are_not_driven_nor_learned_from():
    world = self_play_world(30).build(roads(4, seed=5).load(), 8, 0)
    odds = FixedOdds(torch.zeros(12))
    driving = Rollouter(world, CategoricalDriver(), odds, None, 0, 1.0, WeightedReward(), RewardWeights())
    ticks = list(roll_out(driving, 5, first_drive=0, policy_version=0))
    begun = ticks[0].alive.unflatten(1, (8, 30))
    slots = torch.arange(30)
    starts = world.draw_starts(torch.arange(8))
    there = world.simulation.bank.valid[starts.scenario[:, None], slots, starts.tick[:, None]]
    assert (there | ~begun[0]).all()
    assert begun[0].sum() > 0.8 * there.sum()
    assert not there.all()
    assert all(not (tick.alive & ~ticks[0].alive).any() for tick in ticks)


def test_goals_lie_ahead_and_cars_that_end_leave_the_road(world: World):
    starts = world.draw_starts(torch.arange(8))
    world.reset(torch.ones(8, dtype=torch.bool), starts)
    ahead = (world.state.simulation.goal_arc - world.state.simulation.arc)[world.state.simulation.alive]
    assert (ahead <= 110.0 + 1e-3).all()
    assert (ahead >= 15.0 - 1e-3).all()
    short = (
        world.state.simulation.goal_arc
        >= world.simulation.bank.road_length[world.state.simulation.scene] - 1e-3
    )
    assert ((ahead >= 40.0 - 1e-3) | short[world.state.simulation.alive]).all()
    driving = Rollouter(world, CategoricalDriver(), FixedOdds(torch.zeros(12)), None, 0)
    driving.begin(torch.ones(8, dtype=torch.bool), starts)
    for _ in range(60):
        was = world.state.simulation.alive
        driving.tick()
        there = world.state.simulation.actor_there[:, :6]
        # A car is seen for the last time in the tick in which its drive ends.
        assert torch.equal(there, was)
    assert not world.state.simulation.alive.all()


def test_who_keeps_to_its_path_and_its_distance_reaches_its_goal():
    spec = self_play_world().simulate(vector_dropout=(0.0, 0.0))
    suite = SelfPlaySuite(spec, tuple(roads(4, seed=3).load()))
    found = Population.of(suite, suite.drive("rules", ExpertDriver(), expert=RecoveryExpert()))
    assert len(found.cause) > 25
    assert not found.ended_by(
        TerminationReason.OFF_ROAD,
        TerminationReason.OFF_ROUTE,
        TerminationReason.COLLISION,
        TerminationReason.WRONG_WAY,
    ).any()
    assert found.ended_by(TerminationReason.GOAL).mean() > 0.9


def test_cars_that_stand_in_one_another_or_beside_the_road_never_begin():
    world = self_play_world().build(roads(2, seed=5).load(), 2, 0)
    starts = world.draw_starts(torch.arange(2))
    world.reset(torch.ones(2, dtype=torch.bool), starts)
    first, second = world.state.simulation.alive[0].nonzero()[:2, 0].tolist()
    beside = starts.position.clone()
    beside[0, first] = beside[0, second]
    beside[1] += 300.0
    world.reset(torch.ones(2, dtype=torch.bool), dataclasses.replace(starts, position=beside))
    assert not world.state.simulation.alive[0, [first, second]].any()
    assert world.state.simulation.alive[0].any()
    assert not world.state.simulation.alive[1].any()
    assert not world.state.simulation.actor_there[1, :12].any()


def test_hidden_points_are_hidden_whole_and_about_as_often_as_said(world: World):
    world.reset(torch.ones(8, dtype=torch.bool), world.draw_starts(torch.arange(8)))
    spec = world.sensors[0]
    assert spec is not None
    plain = changed(world.spec, vector_dropout=(0.0, 0.0)).build(world.scenarios, 8, 0)
    plain.restore(world.save())
    some, every = world.observe().sensors["vector"].data, plain.observe().sensors["vector"].data
    for name in ("lanes", "edges"):
        group = spec.layout[name]
        parts = [v[..., group.start : group.stop].unflatten(-1, (-1, group.slots)) for v in (some, every)]
        hidden = (parts[1][..., -1, :] == 1.0) & (parts[0][..., -1, :] == 0.0)
        assert (parts[0].transpose(-1, -2)[hidden] == 0.0).all()
        assert torch.equal(parts[0].transpose(-1, -2)[~hidden], parts[1].transpose(-1, -2)[~hidden])
        assert 0.2 < float(hidden.float().sum() / (parts[1][..., -1, :] == 1.0).sum()) < 0.4


def test_worlds_begin_anew_when_few_are_left_and_their_last_tick_is_truncated(world: World):
    driving = Rollouter(
        world, CategoricalDriver(), FixedOdds(torch.zeros(12)), None, 0, 1.0,
        WeightedReward(), RewardWeights(),
    )  # fmt: skip
    ticks = list(roll_out(driving, 120, first_drive=0, policy_version=0, min_active_fraction=0.5))
    drive = torch.cat([tick.drive for tick in ticks]).unflatten(1, (8, 6))
    alive = torch.cat([tick.alive for tick in ticks]).unflatten(1, (8, 6))
    truncated = torch.cat([tick.truncated for tick in ticks]).unflatten(1, (8, 6))
    terminated = torch.cat([tick.terminated for tick in ticks]).unflatten(1, (8, 6))
    renewed = drive[1:, :, 0] != drive[:-1, :, 0]
    assert renewed.any()
    last = alive[:-1] & ~terminated[:-1]
    assert torch.equal(truncated[:-1] & renewed[..., None], last & renewed[..., None])
    reward = torch.cat([tick.reward for tick in ticks if tick.reward is not None]).unflatten(1, (8, 6))
    assert (reward[~alive] == 0.0).all()
    assert reward.isfinite().all()


# --- the fork and the student -------------------------------------------------------------------


def steady(world: World, choice: int) -> SetActorCritic:
    """A teacher that always takes one choice."""
    torch.manual_seed(0)
    assert VectorSpec in map(type, world.sensors)
    teacher = SetActorCriticSpec(vector=world.sensors[0], token_dim=8, hidden=16).build()
    with torch.no_grad():
        teacher.actor.weight.zero_()
        teacher.actor.bias.zero_()
        teacher.actor.bias[choice] = 5.0
    return teacher.eval()


def test_a_fork_driven_straight_on_is_a_straight_label_and_leaves_the_world_alone(world: World):
    world.reset(torch.ones(8, dtype=torch.bool), world.draw_starts(torch.arange(8)))
    before, truth = world.save(), world.truth()
    jerk = JerkSpec()
    coast = jerk.longitudinal.index(0.0) * len(jerk.lateral) + jerk.lateral.index(0.0)
    label = rollout_plans(steady(world, coast), world, PlanSpec(points=4, interval=0.5))
    assert label.action_index is not None
    assert (label.action_index == coast).all()
    times = torch.tensor([0.5, 1.0, 1.5, 2.0])
    on = label.valid & (truth.curvature.abs() < 1e-4) & (truth.speed > 2.0)
    assert on.any()
    torch.testing.assert_close(
        label.plan.position[on][..., 0], truth.speed[on][:, None] * times, rtol=0.02, atol=0.1
    )
    assert label.plan.position[on][..., 1].abs().max() < 0.3
    # Whoever always takes one choice may as well be asked half as often.
    held = rollout_plans(steady(world, coast), world, PlanSpec(points=4, interval=0.5), hold=2)
    assert torch.equal(held.plan.position, label.plan.position)
    after = world.save()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_labels_that_fail_or_are_of_cars_that_have_ended_do_not_count(world: World):
    world.reset(torch.ones(8, dtype=torch.bool), world.draw_starts(torch.arange(8)))
    hard_left = 2 * len(JerkSpec().lateral) + JerkSpec().lateral.index(4.0)
    label = rollout_plans(steady(world, hard_left), world, PlanSpec(points=8, interval=0.5))
    fast = world.truth().speed > 6.0
    assert fast.any()
    assert not label.valid[fast].any()  # 4 m/s^3 to the left for four seconds: into the field
    assert not label.valid[~world.alive()].any()


def test_the_ego_tracks_its_plan_and_the_others_take_their_choice(world: World):
    world.reset(torch.ones(8, dtype=torch.bool), world.draw_starts(torch.arange(8)))
    spec, jerk = PlanSpec(points=8, interval=0.5), JerkSpec()
    ahead = 5.0 * spec.times().expand(8, 6, -1)
    plan = Plan(torch.stack([ahead, 0.02 * ahead**2], -1), 0.04 * ahead, torch.full_like(ahead, 5.0))
    logits = torch.zeros(8, 6, jerk.choices)
    logits[..., 2] = 1.0
    output = PolicyOutput(plan, None, logits=logits)
    roles = EgoAndOthersDriver(PolicyDriver(LQR()), CategoricalDriver(greedy=True))
    policy = SetActorCriticSpec(token_dim=8, hidden=8, plan=spec).build()
    decision = decided(roles, world, output, policy=policy)
    tracked = decided(PolicyDriver(LQR()), world, output, policy=policy)
    chosen = world.command(jerk.action(torch.full((8, 6), 2)))
    assert isinstance(decision.action, Action)
    assert isinstance(tracked.action, Action)
    for name in ("curvature", "acceleration"):
        got, ego, others = (getattr(a, name) for a in (decision.action, tracked.action, chosen))
        assert torch.equal(got[:, 0], ego[:, 0])
        assert torch.equal(got[:, 1:], others[:, 1:])
    assert decision.policy_in_control.all()


# --- learning -----------------------------------------------------------------------------------


def test_ppo_makes_what_paid_more_likely_and_ignores_drives_that_had_ended(world: World):
    objective = self_play_teacher().stage.objective
    assert isinstance(objective, PPO)
    assert VectorSpec in map(type, world.sensors)
    torch.manual_seed(0)
    teacher = SetActorCriticSpec(vector=world.sensors[0], token_dim=16, hidden=32).build()
    driving = Rollouter(world, CategoricalDriver(), teacher, None, 0, 1.0, objective.reward, RewardWeights())
    rollout = [*roll_out(driving, 30, first_drive=0, policy_version=0)]
    whole = rollout[0].cat(rollout).map(lambda leaf: leaf.transpose(0, 1))
    assert whole.action_index is not None
    # Pay for one choice, and spoil what must not count.
    paid = whole.replace(
        reward=torch.where(whole.alive, (whole.action_index == 4).float(), math.nan),
        value=torch.where(whole.alive, torch.zeros(whole.alive.shape), math.nan),
    )
    objective = dataclasses.replace(objective, discount=0.0)
    batch = objective.prepare(paid)
    assert batch.advantage.isfinite().all()
    assert len(batch.action_index) <= int(whole.alive[:, :-1].sum())
    optimizer = torch.optim.Adam(teacher.parameters(), 3e-3)

    def share() -> float:
        with torch.no_grad():
            logits, _ = teacher.evaluate(teacher.encode(batch.observation), batch.reward_weights)
        return float(logits.softmax(-1)[:, 4].mean())

    before = share()
    for _ in range(20):
        losses = objective.losses({"policy": teacher}, batch)
        optimizer.zero_grad()
        losses.groups["policy"].backward()
        optimizer.step()
    assert share() > before * 1.1


def test_beyond_the_clip_nothing_pulls_any_more():
    """Choices that are already more than the clip likelier (or less likely) than they were, as their advantage asks."""
    objective = PPO(reward=WeightedReward(), value_weight=0.0, entropy_weight=0.0)
    teacher = SetActorCriticSpec(vector=SMALL, token_dim=16, hidden=32).build()
    observation, told = seen(random_vector(8)), teacher.spec.reward_weights.middle(8)
    with torch.no_grad():
        log_odds = teacher.evaluate(teacher.encode(observation), told)[0].log_softmax(-1)
    choice = torch.arange(8)
    now = log_odds.gather(-1, choice[:, None]).squeeze(-1)
    up = torch.arange(8) % 2 == 0
    batch = ActionBatch(
        observation,
        told,
        choice,
        torch.where(up, now - 0.3, now + 0.3),
        torch.where(up, 1.0, -1.0),
        torch.zeros(8),
    )
    losses = objective.losses({"policy": teacher}, batch)
    losses.groups["policy"].backward()
    assert all((p.grad is None) or (p.grad == 0).all() for p in teacher.parameters())
    assert losses.diagnostics["clipped"] == 1.0
    objective.losses({"policy": teacher}, batch.replace(log_prob=now)).groups["policy"].backward()
    assert any((p.grad != 0).any() for p in teacher.parameters() if p.grad is not None)


def test_small_advantages_are_left_out():
    objective = PPO(reward=WeightedReward(), advantage_threshold=0.5, discount=0.0)
    size = [1.0, -0.6, 0.4, -0.1, 0.0, 0.0]
    rollout = rollout_of(reward=[size], value=[[0.0] * 6], cause={}, drive=[[0] * 6])
    rollout = rollout.replace(action_index=torch.arange(6)[None])
    batch = objective.prepare(rollout)
    assert batch.action_index.tolist() == [0, 1]
    # Of 1, -0.6, 0.4, -0.1, 0 (the last tick only says what came after): mean 0.14, standard deviation 0.5352.
    assert batch.advantage.tolist() == pytest.approx([0.86 / 0.5352, -0.74 / 0.5352], rel=1e-3)


# --- runs ---------------------------------------------------------------------------------------


def small_run() -> Recipe:
    recipe = self_play_teacher()
    optim = OptimSpec(
        steps=24,
        batch_size=4,
        sequence_length=12,
        learning_rate=1e-3,
        warmup=2,
        max_grad_norm=0.5,
        checkpoint_every=1_000,
    )
    return recipe.replace(
        scenarios=roads(2, seed=4),
        world=changed(self_play_world(4), vector=SMALL),
        policy=SetActorCriticSpec(vector=SMALL, token_dim=8, hidden=16),
        rollouts=RolloutSpec.even(4, 4 * 3 * 4 * 15, 3, min_active_fraction=0.3),
        optim=optim,
    )


class Killed(Exception):
    """Stands for a process that is gone, without a word to the run."""


class KillAt(Progress):
    """Kills after a step of learning, or when a round has been driven and is in no checkpoint yet."""

    def __init__(self, step: int = -1, driven: int = -1):
        self.step, self.driven = step, driven

    def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
        if step == self.step:
            raise Killed

    def collected(self, number: int, *others) -> None:
        if number == self.driven:
            raise Killed


def test_an_on_policy_run_killed_in_its_rounds_and_resumed_is_the_one_that_never_was(tmp_path):
    """No rollout is on disk: a round is driven again from the weights that it began with, and so is the same.

    One that had been learned from to the end, before the kill, is not driven again.
    """
    recipe = small_run()
    recipe = recipe.replace(optim=dataclasses.replace(recipe.stage.optim, checkpoint_every=6))

    def curve(run: str) -> list[dict[str, float]]:
        lines = [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if key != "samples_per_s"} for line in lines]

    whole = load_policy(train(recipe, tmp_path / "whole", seed=1))[0]
    for resume, kill in ((False, KillAt(step=1)), (True, KillAt(step=11)), (True, KillAt(driven=2))):
        with pytest.raises(Killed):
            train(recipe, tmp_path / "killed", seed=1, resume=resume, progress=kill)
    resumed = load_policy(train(recipe, tmp_path / "killed", seed=1, resume=True))[0]
    for name, leaf in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], leaf), name
    curves = [curve(run) for run in ("whole", "killed")]
    assert curves[0] == curves[1]
    assert sum("goal" in line for line in curves[0]) == 4


def test_the_curve_is_on_disk_while_a_run_goes_on(tmp_path):
    """A process that is killed writes nothing more, so every line must be there at once."""

    class Look(Progress):
        def learned(self, step, steps, logged, samples_per_s) -> None:
            seen.append((tmp_path / "run" / "metrics.jsonl").read_text().count("loss/policy"))

    seen: list[int] = []
    train(small_run(), tmp_path / "run", seed=1, progress=Look())
    assert seen == [1] * 9 + [2] * 10 + [3] * 5


def test_settings_that_come_apart_are_stopped_with_a_reason(tmp_path):
    recipe = small_run()
    wild = dataclasses.replace(recipe.stage.optim, learning_rate=3.0, warmup=1, steps=200)
    with pytest.raises(UserError, match=r"come apart|diverged"):
        train(recipe.replace(optim=wild), tmp_path / "wild", seed=0)


def test_a_car_that_is_not_a_number_ends_alone_is_counted_and_not_learned_from(world: World):
    objective = self_play_teacher().stage.objective
    assert isinstance(objective, PPO)
    outcomes = []
    for broken in (False, True):
        driving = Rollouter(
            world, CategoricalDriver(), FixedOdds(torch.zeros(12)), None, 0, 1.0, objective.reward,
            RewardWeights(),
        )  # fmt: skip
        ticks = []
        for number, tick in enumerate(roll_out(driving, 6, first_drive=0, policy_version=0)):
            ticks.append(tick)
            if number == 2 and broken:
                slot = int(world.alive()[0].nonzero()[0, 0])
                position = world.state.simulation.cars.position.clone()
                position[0, slot] = math.nan
                state = world.state.simulation
                state = state.replace(cars=state.cars.replace(position=position))
                world.state = world.state.replace(simulation=state)
        outcomes.append(Rollout.cat(ticks))
    plain, one_gone = outcomes
    gone = one_gone.cause == TerminationReason.INVALID_STATE
    assert int((gone & one_gone.terminated).sum()) == 1
    assert one_gone.outcomes()["invalid_state"] > 0.0
    assert plain.outcomes()["invalid_state"] == 0.0
    # Cars of the seven other worlds drive on to the bit.
    others = slice(6, None)
    assert torch.equal(plain.reward[:, others], one_gone.reward[:, others])
    steps = objective.prepare(one_gone[:, :].map(lambda leaf: leaf.movedim(0, 1)))
    assert steps.advantage.isfinite().all()
    assert steps.value_target.isfinite().all()
