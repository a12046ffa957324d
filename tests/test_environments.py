"""Environments: the checkers of Gymnasium and PettingZoo, when drives begin anew, what is seen, done and earned.

Gymnasium has no checker for vector environments, so its checker is run on the single environment, and the
vector environment must say bit for bit what Gymnasium's own `SyncVectorEnv` says of single ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import (
    DictInfoToList,
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
)
from pettingzoo.test import parallel_api_test, parallel_seed_test
from torch import Tensor

from countersteer.data.sources import ProceduralRoads
from countersteer.environments.parallel import DrivingParallelEnv
from countersteer.environments.single import DrivingEnv
from countersteer.environments.spaces import to_action
from countersteer.environments.vector import DrivingVectorEnv
from countersteer.errors import MissingExtraError, UserError
from countersteer.evaluation.speed import crossroads
from countersteer.geometry.cameras import Camera
from countersteer.rewards.interface import RewardInputs
from countersteer.rewards.progress import ProgressReward
from countersteer.scenarios.scenario import Scenario
from countersteer.vehicles.bicycle import Limits
from countersteer.worlds.interface import Capability, TerminationReason
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.truth import Motion
from countersteer.worlds.world import World
from worlds import boxworld

VECTOR = VectorSpec(cars=2, lanes=4, edges=4, lights=1)
CAMERA = Camera(name="front", width=32, height=16)


@pytest.fixture(scope="module")
def roads() -> list[Scenario]:
    return ProceduralRoads(count=3, traffic=(0, 1)).load()


@pytest.fixture(scope="module")
def junction() -> list[Scenario]:
    return crossroads(1, 4)


FORKED = """
import sys
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from countersteer.data.sources import ProceduralRoads
from countersteer.environments.single import DrivingEnv
from countersteer.geometry.cameras import Camera
from worlds import boxworld

def one():
    world = boxworld(cameras=(Camera(width=32, height=16),)).build(ProceduralRoads(count=1).load(), 1, 0, "cpu")
    return DrivingEnv(world)

if __name__ == "__main__":
    drives = []
    for kind in (SyncVectorEnv, AsyncVectorEnv):  # the first one starts threads, which are not forked
        envs = kind([one] * 2)
        seen = [envs.reset(seed=1)[0]["front"]]
        seen += [envs.step(np.full((2, 2), 0.1, np.float32))[0]["front"] for _ in range(5)]
        drives.append(np.stack(seen))
        envs.close()
    print(np.array_equal(*drives))
"""


def test_gymnasium_starts_our_environment_in_processes_of_its_own():
    """By default it forks them, without the threads that ours has begun in the process that is forked."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    paths = os.pathsep.join((str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED],
        env=os.environ | threads | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.stdout == "True\n", done.stderr


def world(scenarios: list[Scenario], drives: int = 1, seed: int = 0, **settings: Any) -> World:
    """A boxworld with short drives, a narrow path and the vector alone, but for `settings`."""
    spec: dict[str, Any] = {"cameras": (), "vector": VECTOR, "duration": 1.5, "max_route_deviation": 1.0}
    return boxworld(**(spec | settings)).build(scenarios, drives, seed)


def wild(envs: Any, generator: np.random.Generator) -> np.ndarray:
    """Actions that get a car lost in some of the drives."""
    return generator.uniform((-0.6, -1.0), (1.4, 1.0), envs.action_space.shape).astype(np.float32)


def same(one: Any, other: Any) -> bool:
    return data_equivalence(one, other, exact=True)


# --- the libraries' own checkers ------------------------------------------------------------------


@pytest.mark.parametrize("cameras", [(), (CAMERA,)])
def test_the_single_environment_passes_gymnasiums_checker(roads, cameras):
    env = DrivingEnv(world(roads, cameras=cameras), render_mode="rgb_array" if cameras else None)
    with warnings.catch_warnings():
        # The vector has no bounds, and there is no registered spec to make the environment again from.
        warnings.filterwarnings("ignore", ".*infinity.*")
        warnings.filterwarnings("ignore", ".*not having a spec.*")
        check_env(env)


@pytest.mark.parametrize("cars", [1, 4])
@pytest.mark.parametrize("cameras", [(), (CAMERA,)])
def test_the_parallel_environment_passes_pettingzoos_tests(junction, cars, cameras):
    def make() -> DrivingParallelEnv:
        mode = "rgb_array" if cameras else None
        return DrivingParallelEnv(world(junction, agents=cars, cameras=cameras), render_mode=mode)

    parallel_api_test(make(), num_cycles=40)
    parallel_seed_test(make, num_cycles=20)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_vector_environment_does_what_gymnasiums_own_does(roads, mode):
    ours = DrivingVectorEnv(world(roads, cameras=(CAMERA,)), autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: DrivingEnv(world(roads, cameras=(CAMERA,)))], autoreset_mode=mode)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    assert same(ours.reset(seed=6), theirs.reset(seed=6))
    generator = np.random.default_rng(0)
    causes = set()
    for step in range(200):
        actions = wild(ours, generator)
        mine, yours = ours.step(actions), theirs.step(actions)
        for one, other in zip(mine[:4], yours[:4], strict=True):
            assert same(one, other)
        for name, value in yours[4].items():
            if name.startswith("_"):
                assert same(mine[4][name], value)
            elif name == "final_info":
                assert mine[4][name]["cause"][0] == value["cause"][0]
            elif name == "final_obs":
                assert same(mine[4][name][0], value[0])
            else:
                assert same(mine[4][name].tolist(), value.tolist())
        causes |= {bool(mine[2][0]), bool(mine[3][0]) * 2}
        if step >= 40 and causes == {0, 1, 2}:
            break
    assert causes == {0, 1, 2}, "some drives were to end by themselves, some by their time"


# --- spaces ---------------------------------------------------------------------------------------


def test_one_vector_is_a_box_and_everything_else_a_dict(roads):
    flat = DrivingVectorEnv(world(roads, 2))
    assert isinstance(flat.single_observation_space, gymnasium.spaces.Box)
    assert flat.observation_space.shape == (2, VECTOR.size)

    envs = DrivingVectorEnv(world(roads, 2, cameras=(CAMERA,), target_points=True))
    assert isinstance(envs.single_observation_space, gymnasium.spaces.Dict)
    names = ["front", "vector", "speed", "yaw_rate", "command", "command_age", "set_speed", "target_points"]
    assert set(envs.single_observation_space) == set(names)
    seen, _ = envs.reset()
    assert seen in envs.observation_space
    assert list(seen) == list(envs.observation_space)
    assert seen["front"].shape == (2, 16, 32, 3)
    assert seen["target_points"].shape == (2, 3, 2)

    alone = DrivingVectorEnv(world(roads, cameras=(CAMERA,), vector=None))
    assert set(alone.single_observation_space) == {"front", *names[2:-1]}


def test_observations_are_in_the_space_all_the_way(roads):
    envs = DrivingVectorEnv(world(roads, 3, cameras=(CAMERA,)))
    envs.reset(seed=0)
    generator = np.random.default_rng(1)
    for _ in range(40):
        seen, reward, terminated, truncated, _ = envs.step(wild(envs, generator))
        assert seen in envs.observation_space
        assert reward.dtype == np.float64
        assert terminated.dtype == truncated.dtype == np.bool_
        assert reward.shape == terminated.shape == truncated.shape == (3,)


def test_what_users_write_into_observations_does_not_reach_the_world(roads):
    one, other = (DrivingVectorEnv(world(roads, 2, cameras=(CAMERA,))) for _ in range(2))
    seen, _ = one.reset()
    other.reset()
    for array in seen.values():
        array[:] = 1
    still = np.zeros((2, 2), np.float32)
    assert same(one.step(still), other.step(still))


def test_sensors_can_be_left_out(roads):
    envs = DrivingVectorEnv(world(roads, 2, cameras=(CAMERA,)), sensors=("vector",), render_mode="rgb_array")
    seen, _ = envs.reset()
    assert seen.shape == (2, VECTOR.size)
    frames = envs.render()
    assert frames is not None
    assert len(frames) == 2
    assert frames[0].shape == (16, 32, 3)
    assert frames[0].dtype == np.uint8
    with pytest.raises(UserError, match="frnt"):
        DrivingVectorEnv(world(roads, cameras=(CAMERA,)), sensors=("frnt",))
    with pytest.raises(UserError, match="without sensors"):
        DrivingVectorEnv(world(roads, vector=None))
    with pytest.raises(UserError, match="camera"):
        DrivingVectorEnv(world(roads), render_mode="rgb_array")
    clash = Camera(name="speed", width=16, height=8)
    with pytest.raises(UserError, match="name"):
        DrivingVectorEnv(world(roads, cameras=(clash,)))


# --- actions --------------------------------------------------------------------------------------


def test_actions_are_shares_of_what_the_car_can_do():
    limits = Limits(curvature=0.2, lateral_acceleration=6.0, braking=8.0, acceleration=4.0)
    motion = Motion(speed=torch.tensor([[0.0, 20.0], [20.0, 2.0]]), curvature=torch.zeros(2, 2))
    action = to_action([[1, 1], [-1, -1], [0.5, 0], [9, -9]], motion, limits)
    assert torch.allclose(action.curvature, torch.tensor([[0.2, -0.015], [0.0075, 0.2]]))
    assert torch.allclose(action.acceleration, torch.tensor([[4.0, -8.0], [0.0, -8.0]]))


def test_positive_steering_is_to_the_left(roads):
    envs = DrivingVectorEnv(world(roads))
    envs.reset()
    heading = envs.world.truth().heading
    for _ in range(6):
        envs.step(torch.tensor([[1.0, 0.0]]))  # tensors will do
    turned = envs.world.truth().heading - heading
    assert float(torch.atan2(turned.sin(), turned.cos())) > 0.01


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_an_action_that_is_no_number_ends_its_own_drive(roads, wrong):
    envs, untouched = (DrivingVectorEnv(world(roads, 3)) for _ in range(2))
    envs.reset()
    untouched.reset()
    actions = np.zeros((3, 2), np.float32)
    calm = untouched.step(actions)
    actions[1, 0] = wrong
    seen, reward, terminated, _, infos = envs.step(actions)
    assert terminated.tolist() == [False, True, False]
    assert infos["cause"][1] == TerminationReason.INVALID_STATE
    assert infos["cause"].dtype == np.int64
    assert infos["_cause"].all()
    assert np.isfinite(seen).all()
    assert np.isfinite(reward).all()
    assert same(seen[[0, 2]], calm[0][[0, 2]])


@pytest.mark.parametrize(
    "actions", [np.zeros(2), np.zeros((2, 3)), np.zeros((3, 2)), "left", [[0, 0], [0]], None]
)
def test_actions_of_another_shape_are_the_users_mistake(roads, actions):
    envs = DrivingVectorEnv(world(roads, 2))
    envs.reset()
    with pytest.raises(UserError, match=r"expected: an array of shape \(2, 2\)"):
        envs.step(actions)


def test_steps_and_pictures_before_the_first_reset_are_the_users_mistake(roads):
    envs = DrivingVectorEnv(world(roads, cameras=(CAMERA,)), render_mode="rgb_array")
    with pytest.raises(UserError, match="reset"):
        envs.step(np.zeros((1, 2)))
    with pytest.raises(UserError, match="reset"):
        envs.render()


# --- rewards --------------------------------------------------------------------------------------


def test_the_default_reward_is_in_seconds_of_good_driving(roads):
    envs = DrivingVectorEnv(world(roads, 4, duration=5.0))
    envs.reset()
    before = envs.world.truth()
    for _ in range(10):
        _, reward, *_ = envs.step(np.zeros((4, 2)))
    after = envs.world.truth()
    share = (after.arc - before.arc) / before.set_speed
    assert torch.allclose(share, torch.ones_like(share), atol=0.2)  # one second of straight driving
    assert (reward < 0.1 + 1e-6).all()
    assert (reward > 0.0).all()


def test_the_default_reward_charges_what_went_wrong(roads):
    drive = world(roads)
    truth, reward = drive.truth(), ProgressReward()
    calm = drive.step(to_action(np.zeros((1, 2)), drive.motion(), Limits()))
    forth = truth.replace(arc=truth.arc + truth.set_speed * 0.1, lateral=torch.zeros_like(truth.lateral))
    assert float(reward(RewardInputs(calm, truth, forth, 0.1))) == pytest.approx(0.1, abs=1e-5)
    far = forth.replace(arc=truth.arc + 100.0)
    assert float(reward(RewardInputs(calm, truth, far, 0.1))) == pytest.approx(0.1, abs=1e-5)
    aside = forth.replace(lateral=torch.full_like(truth.lateral, -2.0))
    assert float(reward(RewardInputs(calm, truth, aside, 0.1))) == pytest.approx(0.05, abs=1e-5)
    yes = torch.ones_like(calm.terminated)
    lost = calm.replace(terminated=yes, cause=torch.full_like(calm.cause, int(TerminationReason.OFF_ROUTE)))
    assert float(reward(RewardInputs(lost, truth, forth, 0.1))) == pytest.approx(0.1 - 5.0, abs=1e-5)
    goal = lost.replace(cause=torch.full_like(calm.cause, int(TerminationReason.GOAL)))
    assert float(reward(RewardInputs(goal, truth, forth, 0.1))) == pytest.approx(0.1, abs=1e-5)
    assert float(reward(RewardInputs(calm.replace(red_light=yes), truth, forth, 0.1))) == pytest.approx(
        -4.9, abs=1e-5
    )
    assert float(reward(RewardInputs(calm.replace(off_road=yes), truth, forth, 0.1))) == pytest.approx(
        0.0, abs=1e-5
    )


def test_rewards_can_be_the_users_own(roads):
    ways: list[float] = []

    def reward(tick: RewardInputs) -> Tensor:
        events, before, after = tick.events, tick.before, tick.after
        ways.append(float((after.position - before.position).norm(dim=-1).max()))
        return torch.where(events.terminated, -7.0, after.speed)

    envs = DrivingVectorEnv(world(roads, 2), reward=reward)
    envs.reset()
    generator = np.random.default_rng(0)
    failures = 0
    for _ in range(60):
        _, rewards, terminated, _, infos = envs.step(wild(envs, generator))
        assert (rewards[terminated] == -7.0).all()
        assert (rewards[~infos["_cause"]] == 0.0).all()
        failures += int(terminated.sum())
    # Before and after are of one drive, also where a drive has just begun.
    assert failures >= 2
    assert 0.0 < max(ways) < 5.0

    envs = DrivingVectorEnv(world(roads, 2), reward=lambda tick: tick.after.speed[:, 0])
    envs.reset()
    with pytest.raises(UserError, match="reward"):
        envs.step(np.zeros((2, 2)))


def test_a_world_that_does_not_tell_the_truth_is_refused(roads):
    closed = world(roads)
    closed.capabilities = frozenset({Capability.FORK})
    with pytest.raises(UserError, match="TRUTH"):
        DrivingVectorEnv(closed)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_world_without_forks_gives_the_same(roads, mode):
    closed = world(roads, 3)
    closed.capabilities = closed.capabilities - {Capability.FORK}
    one = DrivingVectorEnv(world(roads, 3), autoreset_mode=mode)
    other = DrivingVectorEnv(closed, autoreset_mode=mode)
    assert same(one.reset(), other.reset())
    generator = np.random.default_rng(0)
    for _ in range(40):
        actions = wild(one, generator)
        assert same(one.step(actions), other.step(actions))


# --- seeds ----------------------------------------------------------------------------------------


def history(envs: DrivingVectorEnv, seed: int | None, steps: int = 40) -> list[Any]:
    generator = np.random.default_rng(3)
    return [envs.reset(seed=seed), *(envs.step(wild(envs, generator)) for _ in range(steps))]


def test_a_seed_gives_the_same_drives_bit_for_bit(roads):
    envs = DrivingVectorEnv(world(roads, 3))
    first = history(envs, 11)
    assert same(first, history(envs, 11))
    assert same(first, history(DrivingVectorEnv(world(roads, 3)), 11))
    assert not same(first, history(envs, 12))
    assert not same(first, history(DrivingVectorEnv(world(roads, 3, seed=1)), 11))


def test_without_a_seed_a_new_environment_begins_with_drive_0_and_goes_on(roads):
    envs = DrivingVectorEnv(world(roads, 3))
    assert envs.reset()[1]["drive"].tolist() == [0, 1, 2]
    assert envs.reset()[1]["drive"].tolist() == [3, 4, 5]
    first = history(DrivingVectorEnv(world(roads, 3)), None)
    assert same(first, history(DrivingVectorEnv(world(roads, 3)), None))


def test_drives_do_not_depend_on_their_neighbours(roads):
    one, many = (DrivingVectorEnv(world(roads, drives)) for drives in (1, 4))
    assert same(one.reset(seed=2)[0][0], many.reset(seed=2)[0][0])
    generator = np.random.default_rng(0)
    for _ in range(12):
        actions = wild(many, generator)
        alone, together = one.step(actions[:1]), many.step(actions)
        for mine, theirs in zip(alone[:4], together[:4], strict=True):
            assert same(mine[0], theirs[0])
        if alone[2][0] or alone[3][0]:
            break


# --- when drives begin anew -----------------------------------------------------------------------


def test_next_step_begins_anew_in_the_step_after_the_end(roads):
    envs = DrivingVectorEnv(world(roads, 3))
    envs.reset(seed=0)
    generator = np.random.default_rng(0)
    was_done = np.zeros(3, bool)
    begun, causes = 0, set()
    for _ in range(60):
        _, reward, terminated, truncated, infos = envs.step(wild(envs, generator))
        done = terminated | truncated
        assert (infos["_cause"] == ~was_done).all()
        assert not done[was_done].any()
        assert (reward[was_done] == 0.0).all()
        assert ((infos["cause"] != TerminationReason.NONE) == done)[~was_done].all()
        assert ((infos["cause"] == TerminationReason.TIME) == truncated)[~was_done].all()
        if was_done.any():
            assert (infos["_drive"] == was_done).all()
            begun += int(was_done.sum())
        else:
            assert "drive" not in infos
        causes |= set(infos["cause"][done].tolist())
        was_done = done
    assert begun >= 5
    assert {TerminationReason.OFF_ROUTE, TerminationReason.TIME} <= causes


def test_same_step_gives_the_last_observation_aside(roads):
    ends = {mode: [] for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)}
    for mode, found in ends.items():
        envs = DrivingVectorEnv(world(roads, 2), autoreset_mode=mode)
        envs.reset(seed=0)
        for _ in range(40):
            seen, _, terminated, truncated, infos = envs.step(np.full((2, 2), (0.5, 0.0)))
            for row in np.flatnonzero(terminated | truncated):
                if mode == AutoresetMode.SAME_STEP:
                    assert infos["_final_obs"][row]
                    assert infos["_final_info"][row]
                    assert infos["final_info"]["_cause"][row]
                    assert not infos["_cause"][row]
                    found.append((row, infos["final_obs"][row], infos["final_info"]["cause"][row]))
                    assert not same(seen[row], infos["final_obs"][row])
                else:
                    found.append((row, seen[row], infos["cause"][row]))
    waited, aside = ends.values()
    # The same drives end alike; the rows get out of step by the one step that only NEXT_STEP needs.
    for row in (0, 1):
        pairs = zip([e for e in waited if e[0] == row], [e for e in aside if e[0] == row], strict=False)
        assert all(same(a[1], b[1]) and a[2] == b[2] for a, b in pairs)
    assert len(waited) >= 4


def test_disabled_leaves_drives_where_they_ended_until_they_are_reset(roads):
    envs = DrivingVectorEnv(world(roads, 3), autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    actions = np.zeros((3, 2), np.float32)
    actions[1] = np.nan
    _, _, terminated, _, _ = envs.step(actions)
    assert terminated.tolist() == [False, True, False]
    seen, reward, terminated, _, infos = envs.step(np.ones((3, 2)))
    assert terminated[1]
    assert reward[1] == 0.0
    assert infos["_cause"].tolist() == [True, False, True]
    options = {"reset_mask": np.array([False, True, False])}
    again, infos = envs.reset(options=options)
    assert "reset_mask" in options  # wrappers look for it afterwards
    assert infos["_drive"].tolist() == [False, True, False]
    assert same(again[[0, 2]], seen[[0, 2]])
    assert not same(again[1], seen[1])
    assert not envs.step(np.zeros((3, 2)))[2].any()


def test_a_seed_with_a_mask_seeds_the_masked_drives(roads):
    envs = DrivingVectorEnv(world(roads, 2), autoreset_mode=AutoresetMode.DISABLED)
    first, infos = envs.reset(seed=4)
    envs.step(np.ones((2, 2)))
    again, later = envs.reset(seed=4, options={"reset_mask": np.array([True, False])})
    assert same(again[0], first[0])
    assert not same(again[1], first[1])
    assert same(later["drive"], infos["drive"])


@pytest.mark.parametrize(
    "mask", [np.array([True, False, True, True, True, True, True, True]), np.ones(2, bool), np.ones(8)]
)
def test_a_reset_mask_that_does_not_fit_is_the_users_mistake(junction, mask):
    envs = DrivingVectorEnv(world(junction, 2, agents=4), autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(UserError, match="first reset"):
        envs.reset(options={"reset_mask": np.ones(8, bool)})
    envs.reset()
    with pytest.raises(UserError, match="reset mask"):
        envs.reset(options={"reset_mask": mask})


# --- several cars in a drive ----------------------------------------------------------------------


def test_a_car_that_is_over_waits_until_its_drive_is(junction):
    envs = DrivingVectorEnv(world(junction, 2, agents=4))
    assert envs.num_envs == 8
    envs.reset(seed=0)
    actions = np.zeros((8, 2), np.float32)
    actions[2] = np.nan
    waits, begins = 0, 0
    was_done = np.zeros(8, bool)
    for step in range(40):
        seen, reward, terminated, truncated, infos = envs.step(actions)
        done = terminated | truncated
        if step == 0:
            assert terminated[2]
            assert infos["cause"][2] == TerminationReason.INVALID_STATE
        whole = was_done.reshape(2, 4).all(1).repeat(4)
        waiting = was_done & ~whole
        # Every step of a wait follows one that said "over": who leaves out those leaves out all of the wait.
        assert (done[waiting]).all()
        assert not done[whole].any()
        assert (reward[was_done] == 0.0).all()
        assert (infos["_cause"] == ~was_done).all()
        assert np.isfinite(seen).all()
        waits, begins = waits + int(waiting.sum()), begins + int(whole.sum())
        was_done = done
    assert waits > 5
    assert begins >= 8


def test_same_step_is_refused_for_several_cars(junction):
    with pytest.raises(UserError, match="SAME_STEP"):
        DrivingVectorEnv(world(junction, agents=4), autoreset_mode=AutoresetMode.SAME_STEP)


def test_cars_leave_the_parallel_environment_when_they_are_over(junction):
    env = DrivingParallelEnv(world(junction, agents=4))
    assert env.agents == []
    env.reset(seed=0)
    assert env.agents == env.possible_agents == ["car_0", "car_1", "car_2", "car_3"]
    actions = {name: np.zeros(2, np.float32) for name in env.agents}
    actions["car_2"] = np.full(2, np.nan, np.float32)
    seen, rewards, terminated, truncated, infos = env.step(actions)
    assert set(seen) == set(rewards) == set(terminated) == set(truncated) == set(infos) == set(actions)
    assert terminated["car_2"]
    assert infos["car_2"]["cause"] == TerminationReason.INVALID_STATE
    assert isinstance(rewards["car_0"], float)
    assert isinstance(terminated["car_0"], bool)
    assert "car_2" not in env.agents
    assert "car_0" in env.agents
    seen, *_ = env.step(actions)  # the action of a car that has left is not used
    assert "car_2" not in seen
    while env.agents:
        env.step({name: np.zeros(2) for name in env.agents})
    assert env.step({})[0] == {}


def test_seeds_of_the_parallel_environment_reproduce_whole_drives(junction):
    def drive(seed: int) -> list[Any]:
        env = DrivingParallelEnv(world(junction, agents=4, duration=3.0))
        steps: list[Any] = [env.reset(seed=seed)]
        generator = np.random.default_rng(0)
        while env.agents:
            steps.append(env.step({name: generator.uniform(-1, 1, 2) for name in env.agents}))
        return steps

    assert same(drive(1), drive(1))
    assert not same(drive(1), drive(2))


def test_wrong_actions_for_cars_are_the_users_mistake(junction):
    env = DrivingParallelEnv(world(junction, agents=4))
    env.reset()
    actions = {name: np.zeros(2) for name in env.agents}
    with pytest.raises(UserError, match="car_9"):
        env.step(actions | {"car_9": np.zeros(2)})
    with pytest.raises(UserError, match="car_1, car_3"):
        env.step({name: actions[name] for name in ("car_0", "car_2")})
    with pytest.raises(UserError, match="shape"):
        env.step(actions | {"car_0": np.zeros(3)})
    assert env.agents == env.possible_agents


def test_single_and_parallel_environments_refuse_other_worlds(roads, junction):
    with pytest.raises(UserError, match="2 drives"):
        DrivingEnv(world(roads, 2))
    with pytest.raises(UserError, match="4 cars"):
        DrivingEnv(world(junction, agents=4))
    with pytest.raises(UserError, match="2 drives"):
        DrivingParallelEnv(world(junction, 2))


def test_parallel_pictures_stand_side_by_side(junction):
    env = DrivingParallelEnv(
        world(junction, agents=4, cameras=(CAMERA,)), sensors=("vector",), render_mode="rgb_array"
    )
    env.reset()
    frame = env.render()
    assert frame is not None
    assert frame.shape == (16, 4 * 32, 3)


def test_a_missing_pettingzoo_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "countersteer.environments.parallel")
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'countersteer\[pettingzoo\]'"):
        import countersteer.environments.parallel  # noqa: F401


# --- under the wrappers people use ----------------------------------------------------------------


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_episode_statistics_add_up(roads, mode):
    envs = RecordEpisodeStatistics(DrivingVectorEnv(world(roads, 3), autoreset_mode=mode))
    envs.reset(seed=0)
    generator = np.random.default_rng(0)
    total, length, was_done, episodes = np.zeros(3), np.zeros(3, int), np.zeros(3, bool), 0
    for _ in range(60):
        _, reward, terminated, truncated, infos = envs.step(wild(envs, generator))
        counts = np.ones(3, bool) if mode == AutoresetMode.SAME_STEP else ~was_done
        total, length = total + reward, length + counts
        done = terminated | truncated
        if done.any():
            assert np.allclose(infos["episode"]["r"][done], total[done])
            assert (infos["episode"]["l"][done] == length[done]).all()
            episodes += int(done.sum())
        total[done], length[done], was_done = 0.0, 0, done
    assert episodes >= 5


def test_common_wrappers_fit(roads):
    envs = DrivingVectorEnv(world(roads, 2))
    envs = NormalizeReward(NormalizeObservation(RecordEpisodeStatistics(envs)))
    seen, _ = envs.reset(seed=0)
    assert seen in envs.observation_space
    for _ in range(30):
        seen, reward, *_ = envs.step(np.zeros((2, 2)))
        assert np.isfinite(seen).all()
        assert np.isfinite(reward).all()

    listed = DictInfoToList(DrivingVectorEnv(world(roads, 2), autoreset_mode=AutoresetMode.SAME_STEP))
    listed.reset(seed=0)
    for _ in range(20):
        *_, infos = listed.step(np.zeros((2, 2)))
        assert len(infos) == 2
        assert all(("drive" in info) == ("final_obs" in info) != ("cause" in info) for info in infos)


@pytest.mark.slow
def test_the_ppo_example_learns():
    example = Path(__file__).parents[1] / "examples" / "ppo.py"
    command = [sys.executable, str(example), "--total-timesteps", "120000", "--test-drives", "50"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "learned" in done.stdout
