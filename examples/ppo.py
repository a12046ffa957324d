"""PPO through Gymnasium: a small network learns to follow its lane from the state, on a CPU in minutes.

python examples/ppo.py --seed 0

In the manner of CleanRL's ppo_continuous_action.py: one file, top to bottom. The policy sees boxworld's vector
(the car, its route, the nearest lane and edge points) and steers and accelerates. At the end it drives roads
that it has never seen, beside a car that only goes straight on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import NormalizeObservation, RecordEpisodeStatistics
from torch import Tensor, nn
from torch.distributions import Normal

from countersteer.data.sources import ProceduralRoads
from countersteer.environments.vector import DrivingVectorEnv
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec


@dataclass(frozen=True)
class Settings:
    """Settings of the run; the names are CleanRL's."""

    seed: int = 0
    total_timesteps: int = 250_000
    num_envs: int = 128
    num_steps: int = 64
    learning_rate: float = 1e-3
    gamma: float = 0.98
    gae_lambda: float = 0.95
    num_minibatches: int = 8
    update_epochs: int = 5
    clip_coef: float = 0.2
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    test_drives: int = 200


WORLD = WorldSpec(RoadSimulationSpec(), sensors=(VectorSpec(cars=1, lights=1, lanes=8, edges=8),))


def roads(seed: int) -> ProceduralRoads:
    """Empty roads; sets of other seeds share none."""
    return ProceduralRoads(count=50, seed=seed, traffic=(0, 0))


def environment(seed: int, drives: int, mode: AutoresetMode) -> DrivingVectorEnv:
    """Drives on the roads of a seed."""
    return DrivingVectorEnv(WORLD.build(roads(seed).load(), drives, seed), autoreset_mode=mode)


class Agent(nn.Module):
    """Policy and value, of normalised observations."""

    def __init__(self, observations: int, actions: int):
        super().__init__()

        def network(outputs: int, scale: float) -> nn.Sequential:
            last = nn.Linear(128, outputs)
            nn.init.orthogonal_(last.weight, scale)
            nn.init.zeros_(last.bias)
            return nn.Sequential(
                nn.Linear(observations, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), last
            )

        self.mean, self.value = network(actions, 0.01), network(1, 1.0)
        # A standard deviation of 1 would throw the wheel from one stop to the other.
        self.log_std = nn.Parameter(torch.full((actions,), -1.0))

    def forward(self, seen: Tensor) -> tuple[Normal, Tensor]:
        seen = seen.clamp(-10.0, 10.0)
        return Normal(self.mean(seen), self.log_std.exp()), self.value(seen).squeeze(-1)


def drive(name: str, act: Callable[[np.ndarray], np.ndarray], drives: int) -> float:
    """Drive unseen roads once each, print what became of it, return the mean return."""
    envs = environment(seed=1_000_000, drives=drives, mode=AutoresetMode.DISABLED)
    seen, _ = envs.reset()
    total, over, cause = np.zeros(drives), np.zeros(drives, bool), np.zeros(drives, int)
    while not over.all():
        seen, reward, terminated, truncated, infos = envs.step(act(seen))
        total += reward  # 0 once a drive is over
        cause = np.where(infos["_cause"], infos["cause"], cause)
        over = terminated | truncated
    finished = np.isin(cause, (TerminationReason.GOAL, TerminationReason.TIME)).mean()
    lost = (cause == TerminationReason.OFF_ROUTE).mean()
    print(f"{name:14} return {total.mean():6.2f}   to the end {finished:4.0%}   lost {lost:4.0%}")
    return float(total.mean())


def main(args: Settings) -> None:
    """Train, print what came of it, and test."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    began = time.perf_counter()
    # NEXT_STEP: the step after the end of an episode begins the next one, whatever the action; it is left out.
    driving = environment(args.seed, args.num_envs, AutoresetMode.NEXT_STEP)
    envs = NormalizeObservation(RecordEpisodeStatistics(driving))
    agent = Agent(envs.single_observation_space.shape[0], envs.single_action_space.shape[0])
    optimizer = torch.optim.Adam(agent.parameters(), args.learning_rate, eps=1e-5)

    shape = (args.num_steps, args.num_envs)
    obs = torch.zeros(*shape, *envs.single_observation_space.shape)
    actions = torch.zeros(*shape, *envs.single_action_space.shape)
    logprobs, rewards, values = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    terminations, dones, begins = (torch.zeros(shape) for _ in range(3))
    next_obs = torch.as_tensor(envs.reset(seed=args.seed)[0])
    next_done = torch.zeros(args.num_envs)
    iterations = args.total_timesteps // (args.num_steps * args.num_envs)

    for iteration in range(iterations):
        optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - iteration / iterations)
        returns, causes = [], []
        for t in range(args.num_steps):
            obs[t], begins[t] = next_obs, next_done
            with torch.no_grad():
                policy, values[t] = agent(next_obs)
                actions[t] = policy.sample()
            logprobs[t] = policy.log_prob(actions[t]).sum(-1)
            seen, reward, terminated, truncated, infos = envs.step(actions[t].numpy())
            next_obs, next_done = torch.as_tensor(seen), torch.as_tensor(terminated | truncated).float()
            rewards[t], terminations[t] = torch.as_tensor(reward), torch.as_tensor(terminated)
            dones[t] = next_done
            if "episode" in infos:
                returns.extend(infos["episode"]["r"][infos["_episode"]])
                causes.extend(infos["cause"][infos["_episode"]])

        with torch.no_grad():
            last, advantages = agent(next_obs)[1], torch.zeros(shape)
        following, trace = last, torch.zeros(args.num_envs)
        for t in reversed(range(args.num_steps)):
            # Time running out is no failure: the value of what is seen last stands for the rest.
            error = rewards[t] + args.gamma * following * (1 - terminations[t]) - values[t]
            trace = error + args.gamma * args.gae_lambda * (1 - dones[t]) * trace
            advantages[t], following = trace, values[t]

        rows = (begins == 0).flatten().nonzero().squeeze(1)
        batch = [x.flatten(0, 1) for x in (obs, actions, logprobs, advantages, advantages + values)]
        for _ in range(args.update_epochs):
            for chosen in rows[torch.randperm(len(rows))].chunk(args.num_minibatches):
                seen, action, logprob, advantage, target = (x[chosen] for x in batch)
                policy, value = agent(seen)
                ratio = (policy.log_prob(action).sum(-1) - logprob).exp()
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
                loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
                loss = loss + args.vf_coef * (value - target).square().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()

        finished = (
            np.isin(causes, (TerminationReason.GOAL, TerminationReason.TIME)).mean() if causes else np.nan
        )
        lost = np.mean(np.array(causes) == TerminationReason.OFF_ROUTE) if causes else np.nan
        steps = (iteration + 1) * args.num_steps * args.num_envs
        print(
            f"step {steps:7d}   return {np.mean(returns) if returns else np.nan:6.2f}   to the end {finished:4.0%}   "
            f"lost {lost:4.0%}   {time.perf_counter() - began:4.0f} s",
            flush=True,
        )

    mean, spread = envs.obs_rms.mean, np.sqrt(envs.obs_rms.var + envs.epsilon)

    def learned(seen: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return agent(torch.as_tensor((seen - mean) / spread, dtype=torch.float32))[0].mean.numpy()

    print("\nroads never seen, the same for both:")
    straight = drive("straight on", lambda seen: np.zeros((len(seen), 2), np.float32), args.test_drives)
    if drive("learned", learned, args.test_drives) <= straight:
        raise SystemExit("the policy learned nothing: it is no better than going straight on")


if __name__ == "__main__":
    main(tyro.cli(Settings))
