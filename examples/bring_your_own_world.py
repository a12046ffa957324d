"""Bring your own world: a latent world without roads, and a policy that learns in it by gradients through `step`.

python examples/bring_your_own_world.py

What changes is a vector of features for each drive. It grows by itself, actions push it, and the policy has to keep it small.
"""

from dataclasses import dataclass

import torch
import tyro
from jaxtyping import Float
from torch import Tensor, nn

from countersteer import noise
from countersteer.drivers.interface import Decision, Driver, Turn
from countersteer.policies.interface import NoMemory, Policy, PolicyOutput
from countersteer.rollouts.rollouter import Rollouter, roll_out
from countersteer.vehicles.plans import Action
from countersteer.worlds.interface import (
    Capability,
    DriveState,
    Events,
    Simulation,
    SimulationSpec,
    TerminationReason,
)
from countersteer.worlds.observations import Features, SensorReading
from countersteer.worlds.world import World, WorldSpec

# --- the world ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LatentState(DriveState):
    """Drives, and their features."""

    features: Float[Tensor, "world agent 2"]


@dataclass(frozen=True)
class LatentSpec(SimulationSpec):
    """Features grow by a factor each tick, are pushed by the action, and shaken at random."""

    growth: tuple[float, float] = (1.1, 0.9)
    shake: float = 0.0
    agents: int = 1
    dt: float = 0.1
    duration: float = 4.0
    capabilities = frozenset({Capability.FORK})

    def build(self, scenarios, sensors, seed, device="cpu"):
        return Latent(self, seed, torch.device(device))


@dataclass(frozen=True)
class Latent(Simulation):
    """f' = growth f + action + shake."""

    spec: LatentSpec
    seed: int
    device: torch.device

    def begin(self, starts):
        age, agents = torch.zeros_like(starts.drive), self.spec.agents
        drawn = noise.uniform(self.seed, starts.drive, age, "start", 2 * agents)
        alive = torch.ones(len(age), agents, dtype=torch.bool, device=self.device)
        return LatentState(starts.drive, age, alive, 2 * drawn.unflatten(-1, (agents, 2)) - 1)

    def step(self, state, action):
        drawn = noise.uniform(self.seed, state.drive, state.age, "shake", 2 * self.spec.agents)
        pushed = torch.stack([action.curvature, action.acceleration], -1)
        shaken = self.spec.shake * (2 * drawn.unflatten(-1, (-1, 2)) - 1)
        growth = torch.stack([torch.full_like(pushed[..., 0], each) for each in self.spec.growth], -1)
        after = torch.where(state.alive[..., None], growth * state.features + pushed + shaken, state.features)
        age = state.age + state.alive.any(1)
        over = state.alive & (age >= round(self.spec.duration / self.spec.dt))[:, None]
        events = Events.of(over * int(TerminationReason.TIME))
        return LatentState(state.drive, age, state.alive & ~over, after), events

    def senses(self, sensor):
        return isinstance(sensor, Features)

    def sense(self, state, sensor):
        time = (state.age * self.spec.dt)[:, None].expand(state.alive.shape)
        return SensorReading(state.features, time, torch.ones_like(state.alive))


# --- a policy that makes no plan, and its driver ------------------------------------------------

PUSHES = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))


class Pusher(Policy):
    """Odds of four pushes."""

    def __init__(self):
        super().__init__()
        self.odds = nn.Linear(2, len(PUSHES))

    def initial_memory(self, batch, device="cpu"):
        return NoMemory()

    def encode(self, observation):
        return observation.sensors["features"].data

    def act(self, features, memory, condition=None):
        return PolicyOutput(None, memory, logits=self.odds(features))


def mean_push(output: PolicyOutput) -> Action:
    """The mean of the pushes that a policy gives odds of."""
    assert output.logits is not None
    push = output.logits.softmax(-1) @ output.logits.new_tensor(PUSHES)
    return Action(push[..., 0], push[..., 1])


@dataclass(frozen=True)
class PushDriver(Driver):
    """Pushes as the policy says."""

    uses_policy = True

    def act(self, turn: Turn, memory: NoMemory) -> Decision:
        assert turn.output is not None
        return Decision(mean_push(turn.output), torch.ones_like(turn.world.alive()))


# --- learning in it -----------------------------------------------------------------------------


def latent_world(drives: int, **settings: float) -> World:
    """Drives that have begun, each with a sensor that reads the features."""
    spec = WorldSpec(LatentSpec(**settings), sensors=(Features(size=2),))
    return spec.build((), drives, seed=0)


def driven(policy: Policy, drives: int = 64, ticks: int = 30) -> float:
    """How large features are when the policy drives, on the average."""
    rollouter = Rollouter(latent_world(drives, shake=0.02), PushDriver(), policy, None, seed=0)
    rollouts = roll_out(rollouter, ticks, first_drive=1000, policy_version=0)
    return sum(float(part.observation.sensors["features"].data.abs().mean()) for part in rollouts) / ticks


def main(updates: int = 100, seed: int = 0) -> None:
    """Train, and compare before with after.

    Args:
        updates: Of the policy.
        seed: Of its weights.
    """
    torch.manual_seed(seed)
    policy, world = Pusher(), latent_world(64, shake=0.02)
    optimizer = torch.optim.Adam(policy.parameters(), 0.03)
    before = driven(policy)
    for update in range(updates):
        drive = 64 * update + torch.arange(64)
        world.reset(torch.ones(64, dtype=torch.bool), world.draw_starts(drive))
        cost = torch.zeros(())
        for _ in range(10):
            seen = world.observe()
            cost = cost + seen.sensors["features"].data.square().mean()
            world.step(mean_push(policy.act(policy.encode(seen), NoMemory())))
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    after = driven(policy)
    print(f"mean size of the features: {before:.2f} before, {after:.2f} after {updates} updates")
    if after > 0.5 * before:
        raise SystemExit("the policy learned nothing")


if __name__ == "__main__":
    tyro.cli(main)
