"""Bring your own policy: a spec that says what a car must provide, and a module that answers with a plan.

countersteer train examples/bring_your_own_policy.py:tiny --out runs/tiny --optim.steps 200

This one sees a picture once, remembers nothing, and proposes one plan with its uncertainty.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from countersteer.data.sources import ProceduralRoads
from countersteer.geometry.cameras import Camera
from countersteer.policies.ego import EgoInputs, constant_velocity_anchor, pictures
from countersteer.policies.interface import Hypotheses, NoMemory, Policy, PolicyOutput, PolicySpec
from countersteer.recipes.closed_loop import on_policy
from countersteer.training.recipe import Recipe
from countersteer.vehicles.plans import PlanSpec


@dataclass(frozen=True)
class TinySpec(PolicySpec):
    """What the car must have: one camera, half a second of odometry. It goes with every file of weights."""

    cameras: tuple[Camera, ...] = (Camera(width=64, height=24),)
    plan: PlanSpec = PlanSpec()
    dt: float = 0.1
    stride: int = 3
    motion_ticks: int = 5
    hidden: int = 64

    def build(self) -> "Tiny":
        return Tiny(self)


class Tiny(Policy):
    """Two linear layers."""

    def __init__(self, spec: TinySpec):
        super().__init__()
        self.spec = spec
        (camera,) = spec.cameras
        self.ego = EgoInputs(spec.motion_ticks, spec.target_points)
        self.see = nn.Linear(3 * camera.width * camera.height, spec.hidden)
        self.answer = nn.Linear(spec.hidden + self.ego.size, spec.plan.points * 8)
        nn.init.zeros_(self.answer.weight)  # straight on at first

    def initial_memory(self, batch, device="cpu"):
        return NoMemory()

    def encode(self, observation):
        state = self.ego.read(observation)
        picture = pictures(observation, self.spec.cameras[0]).flatten(1) / 128.0 - 1.0
        return torch.cat([self.see(picture).relu().reshape(*state.shape[:-1], -1), state], -1)

    def act(self, features, memory, condition=None):
        state = features[..., self.spec.hidden :]
        residual, spread = self.answer(features).unflatten(-1, (1, -1, 8)).split(4, -1)
        times = self.spec.plan.times(features.device)
        # The numbers are relative to going straight on, in units of what a car can reach by each time.
        location, reach = constant_velocity_anchor(residual, self.ego.speed(state), times)
        scale = 0.05 + functional.softplus(spread - 1.5) * reach
        found = Hypotheses(location, scale, torch.zeros_like(location[..., 0, 0]))
        return PolicyOutput(found.best(), memory, hypotheses=found)

    def forward_sequence(self, observations, first):
        """What imitation asks: the answers along stretches of driving, here one by one."""
        return self.act(self.encode(observations), NoMemory())


def tiny() -> Recipe:
    """`on_policy` with this policy, on a few roads."""
    roads = ProceduralRoads(count=12, traffic=(0, 2), length=400.0)
    return on_policy().replace(name="tiny", scenarios=roads, policy=TinySpec())
