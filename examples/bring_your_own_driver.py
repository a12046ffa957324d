"""Bring your own driver: who decides what is done. It may ask the policy, the expert, and copies of the world.

python examples/bring_your_own_driver.py
countersteer train examples/bring_your_own_driver.py:cautious --out runs/cautious --optim.steps 200

`Cautious` merges two drivers; `SearchDriver` tries every hypothesis of the policy in a fork and takes the one that ends best.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import countersteer
from countersteer.data.sources import ProceduralRoads
from countersteer.drivers.drivers import ExpertDriver, PolicyDriver
from countersteer.drivers.interface import Decision, Driver, Turn
from countersteer.policies.interface import NoMemory, Policy
from countersteer.policies.storage import load_policy
from countersteer.recipes.closed_loop import on_policy
from countersteer.rollouts.rollouter import Rollouter, roll_out
from countersteer.scenarios.procedural import RoadKind
from countersteer.tensors import TensorTree
from countersteer.training.recipe import Recipe
from countersteer.vehicles.plans import Plan
from countersteer.worlds.interface import Capability
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec


@dataclass(frozen=True)
class Cautious(Driver):
    """The policy drives; where its plan would leave the expert's by more than `limit` [m], the expert drives."""

    limit: float = 1.0
    uses_policy = True
    uses_expert = True

    def act(self, turn: Turn, memory: TensorTree) -> Decision:
        policy = PolicyDriver().act(turn, memory)
        expert = ExpertDriver().act(turn, memory)
        end = turn.output.plan.position[..., -1, :] - turn.label.plan.position[..., -1, :]
        return policy.where(end.norm(dim=-1) < self.limit, expert)


@dataclass(frozen=True)
class SearchDriver(Driver):
    """Drives each hypothesis of the policy for a moment in a fork, then the policy; takes the one that ends best."""

    first: int = 3  # ticks of a hypothesis
    then: int = 7  # ticks of the policy after it
    needs = frozenset({Capability.TRUTH, Capability.FORK})
    uses_policy = True

    def act(self, turn: Turn, memory: NoMemory) -> Decision:
        policy, found = turn.policy, turn.output.hypotheses
        count = found.logit.shape[-1]
        # Every world as often as there are hypotheses; copy k of it drives the k-th.
        rows = torch.arange(turn.world.batch).repeat_interleave(count)
        fork, kept = turn.world.fork(rows), turn.output.memory[rows]
        tried = found.location.movedim(-3, 1).flatten(0, 1)
        plan = Plan(tried[..., :2], tried[..., 2], tried[..., 3])
        for tick in range(self.first + self.then):
            output = turn.output.replace(plan=plan, memory=kept, hypotheses=None, logits=None, value=None)
            if tick >= self.first:
                output = policy.act(policy.encode(fork.observe(policy.spec.sensors)), kept)
                kept = output.memory
            own = dataclasses.replace(turn, world=fork, output=output)
            action = PolicyDriver().act(own, NoMemory()).action
            begun = action if tick == 0 else begun
            fork.step(action)
        truth = fork.truth()
        off = truth.lateral.abs() + 5 * truth.heading_error.abs()
        best = off.unflatten(0, (-1, count)).argmin(1)  # [world agent]
        rows, cars = torch.arange(turn.world.batch)[:, None], torch.arange(turn.world.agents)
        chosen = begun.map(lambda each: each.unflatten(0, (-1, count))[rows, best, cars])
        return Decision(chosen, torch.ones_like(best, dtype=torch.bool), action_index=best)


def cautious() -> Recipe:
    """`on_policy` with a driver of one's own, on a few roads."""
    roads = ProceduralRoads(count=12, traffic=(0, 2), length=400.0)
    return on_policy().replace(name="cautious", scenarios=roads, driver=Cautious())


def offset(driver: Driver, policy: Policy, drives: int, ticks: int) -> float:
    """How far from their paths cars are on the average [m] when this driver drives winding roads."""
    spec = WorldSpec(RoadSimulationSpec(), BoxRendererSpec(), policy.spec.cameras)
    roads = ProceduralRoads(count=2, seed=9, kinds=(RoadKind.S_CURVE,), traffic=(0, 0), length=400.0)
    world = spec.build(roads.load(), drives, seed=0)
    for _ in roll_out(Rollouter(world, driver, policy, None, 0), ticks, first_drive=0, policy_version=0):
        pass
    return float(world.truth().lateral.abs().mean())


def main(drives: int = 8, ticks: int = 60) -> None:
    """Drive the shipped policy, without and with a search among its hypotheses.

    Args:
        drives: At once.
        ticks: How long.
    """
    shipped = Path(countersteer.__file__).parent / "recipes" / "weights" / "on_policy.safetensors"
    policy, _ = load_policy(shipped)
    for driver in (PolicyDriver(), SearchDriver()):
        print(f"{type(driver).__name__:13} {offset(driver, policy.eval(), drives, ticks):.2f} m off the path")


if __name__ == "__main__":
    tyro.cli(main)
