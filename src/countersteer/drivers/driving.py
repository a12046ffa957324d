"""The loop: world -> observation -> policy -> plan -> driver -> action -> world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.drivers.interface import Decision, Driver
from countersteer.experts.interface import Expert, Label
from countersteer.policies.interface import Policy, PolicyOutput
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Action
from countersteer.worlds.interface import Events, Observation, Starts, World

__all__ = ["Driving", "Rollout", "Tick", "roll_out"]


@dataclass(frozen=True)
class Tick:
    """One turn of the loop, leading dimensions `[world agent]`.

    Attributes:
        observation: What was seen, if anybody looked.
        label: What the expert would do, if it was asked.
        output: What the policy said, if it was asked.
        decision: What was done.
        events: What came of it.
        first: Whether the car's past does not count: its drive began or it was just displaced.
        alive: Whether the drive was still going when it was observed.
    """

    observation: Observation | None
    label: Label | None
    output: PolicyOutput | None
    decision: Decision
    events: Events
    first: Tensor
    alive: Tensor


class Driving:
    """A world with somebody at the wheel; keeps the memories between ticks.

    Args:
        world: To drive in.
        driver: Who drives.
        policy: Asked if the driver needs it.
        expert: Asked at every tick if given; required if the driver needs it.
        seed: Of the driver's randomness.
        progress: Of training, in [0, 1].
    """

    def __init__(
        self,
        world: World,
        driver: Driver,
        policy: Policy | None,
        expert: Expert | None,
        seed: int,
        progress: float = 1.0,
    ):
        if driver.uses_policy and policy is None:
            raise ValueError(f"{type(driver).__name__} needs a policy")
        if driver.uses_expert and expert is None:
            raise ValueError(f"{type(driver).__name__} needs an expert")
        self.world, self.driver, self.expert = world, driver, expert
        self.policy = policy if driver.uses_policy else None
        self.seed, self.progress = seed, progress
        self.driver_memory: Any = driver.initial_memory(world)
        self.policy_memory = self._fresh_memory()
        self.first = torch.ones(world.batch, world.agents, dtype=torch.bool)
        self.alive = torch.zeros(world.batch, world.agents, dtype=torch.bool)
        self.age = torch.zeros(world.batch, dtype=torch.long)

    def _fresh_memory(self) -> TensorTree | None:
        if self.policy is None:
            return None
        return self.policy.initial_memory((self.world.batch, self.world.agents))

    def begin(self, mask: Bool[Tensor, "world"], starts: Starts) -> None:
        """Reset the drives in `mask`, and every memory of them; `starts` as in `World.reset`."""
        self.world.reset(mask, starts)
        fresh = self._fresh_memory()
        if fresh is not None and self.policy_memory is not None:
            self.policy_memory = fresh.where(mask, self.policy_memory)
        initial = self.driver.initial_memory(self.world)
        if isinstance(initial, TensorTree):
            self.driver_memory = initial.where(mask, self.driver_memory)
        self.first = self.first | mask[:, None]
        self.alive = self.alive | mask[:, None]
        self.age = torch.where(mask, 0, self.age)

    @torch.no_grad()
    def tick(self, *, keep: bool = True) -> Tick:
        """Advance every drive by one tick; what nobody needs is left out of a tick that is not to be kept."""
        world = self.world
        observation = world.observe() if keep or self.policy is not None else None
        asked = self.expert is not None and (keep or self.driver.uses_expert)
        label = self.expert.label(world) if asked else None  # pyright: ignore[reportOptionalMemberAccess]
        output = None
        if self.policy is not None:
            assert observation is not None
            output = self.policy.act(self.policy.encode(observation), self.policy_memory)
            self.policy_memory = output.memory
        decision, self.driver_memory = self.driver.act(
            output, label, world, self.driver_memory, self.age, self.progress, self.seed
        )
        events = world.step(decision.action)
        turn = Tick(observation, label, output, decision, events, self.first, self.alive)

        self.alive = self.alive & ~events.terminated & ~events.truncated
        self.age = self.age + 1
        moved = decision.displacement
        self.first = torch.zeros_like(self.first)
        if moved is not None:
            world.displace(moved.lateral, moved.heading, moved.speed)
            self.first = (moved.lateral != 0) | (moved.heading != 0) | (moved.speed != 1)
            fresh = self._fresh_memory()
            if fresh is not None and self.policy_memory is not None:
                # Frames from before a displacement would show a jump that no road has.
                self.policy_memory = fresh.where(self.first, self.policy_memory)
        return turn


@dataclass(frozen=True)
class Rollout(TensorTree):
    """What driving left behind, `[time drive]`; a drive is one car of one world.

    Attributes:
        observation: What was seen.
        label: What the expert would have done; None if nobody was asked.
        action: What was told to the vehicle.
        policy_drove: Whether the policy drove.
        first: The past before this tick does not count.
        alive: The tick belongs to a drive that was still going.
        terminated: The drive ended with this tick, by its own doing.
        cause: Why.
        confidence: Of the world at this pose.
        drive: Identity of the drive.
        version: Weight version of the policy that drove.
    """

    observation: Observation
    label: Label | None
    action: Action
    policy_drove: Bool[Tensor, "time drive"]
    first: Bool[Tensor, "time drive"]
    alive: Bool[Tensor, "time drive"]
    terminated: Bool[Tensor, "time drive"]
    cause: Int[Tensor, "time drive"]
    confidence: Float[Tensor, "time drive"]
    drive: Int[Tensor, "time drive"]
    version: Int[Tensor, "time drive"]


def roll_out(
    driving: Driving, ticks: int, *, first_drive: int, version: int, every: int = 1
) -> Iterator[Rollout]:
    """Drive for `ticks`, beginning a new drive whenever one has ended; yields a tick at a time.

    Args:
        driving: Who drives where.
        ticks: How long.
        first_drive: Row r begins with drive `first_drive + r`; its k-th drive is that plus `k * batch`.
        version: Weight version to record.
        every: Yield every so many ticks only, the first one included; `first` then tells whether anything
            began since the last one that was yielded.
    """
    world = driving.world
    rows = torch.arange(world.batch)
    drive = first_drive + rows
    driving.begin(torch.ones(world.batch, dtype=torch.bool), world.draw_starts(drive))

    def flat(tree: TensorTree) -> Any:
        return tree.map(lambda leaf: leaf.flatten(0, 1)[None])

    began = torch.zeros_like(driving.first)
    for number in range(ticks):
        keep = number % every == 0
        confidence = world.confidence()
        turn = driving.tick(keep=keep)
        began = began | turn.first
        if keep:
            assert turn.observation is not None
            yield Rollout(
                observation=flat(turn.observation),
                label=flat(turn.label) if turn.label is not None else None,
                action=flat(turn.decision.action),
                policy_drove=turn.decision.policy_drove.flatten()[None],
                first=began.flatten()[None],
                alive=turn.alive.flatten()[None],
                terminated=turn.events.terminated.flatten()[None],
                cause=turn.events.cause.flatten()[None],
                confidence=confidence.flatten()[None],
                drive=drive[:, None].expand(-1, world.agents).flatten()[None],
                version=torch.full((1, world.batch * world.agents), version),
            )
            began = torch.zeros_like(began)
        ended = ~driving.alive.any(1)
        if ended.any():
            drive = torch.where(ended, drive + world.batch, drive)
            driving.begin(ended, world.draw_starts(drive[ended]))
