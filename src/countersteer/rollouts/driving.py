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
from countersteer.rewards.rewards import Reward, RewardWeights
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.interface import Events, Starts, TerminationReason
from countersteer.worlds.observations import Observation
from countersteer.worlds.truth import Truth
from countersteer.worlds.world import World

__all__ = ["Rollouter", "Rollout", "Transition", "roll_out"]


@dataclass(frozen=True)
class Transition:
    """One turn of the loop, leading dimensions `[world agent]`.

    Attributes:
        observation: What was seen, if anybody looked.
        label: What the expert would do, if it was asked.
        output: What the policy said, if it was asked.
        decision: What was done.
        events: What came of it.
        first: Whether the car's past does not count: its drive began or it was just displaced.
        alive: Whether the drive was still going when it was observed.
        reward: What it was worth, where there is a reward; 0 for cars whose drive had ended.
        condition: What the policy was asked for, where it is asked for something.
    """

    observation: Observation | None
    label: Label | None
    output: PolicyOutput | None
    decision: Decision
    events: Events
    first: Tensor
    alive: Tensor
    reward: Tensor | None = None
    condition: Tensor | None = None


class Rollouter:
    """A world with somebody at the wheel; keeps the memories between ticks.

    Args:
        world: To drive in.
        driver: Who drives.
        policy: Asked if the driver needs it.
        expert: Asked at every tick if given; required if the driver needs it.
        seed: Of the driver's randomness.
        progress: Of training, in [0, 1].
        reward: What each tick is worth; nobody asks if it is None.
        coefficients: What each car is asked for, once a drive; None asks for the policy's own default.
        sensors: What is observed; None for every sensor of the world.
    """

    def __init__(
        self,
        world: World,
        driver: Driver,
        policy: Policy | None,
        expert: Expert | None,
        seed: int,
        progress: float = 1.0,
        reward: Reward | None = None,
        coefficients: RewardWeights | None = None,
        sensors: tuple[str, ...] | None = None,
    ):
        if driver.uses_policy and policy is None:
            raise ValueError(f"{type(driver).__name__} needs a policy")
        if driver.uses_expert and expert is None:
            raise ValueError(f"{type(driver).__name__} needs an expert")
        self.world, self.driver, self.expert = world, driver, expert
        self.policy = policy if driver.uses_policy else None
        self.seed, self.progress = seed, progress
        self.reward, self.coefficients, self.sensors = reward, coefficients, sensors
        self.condition: Tensor | None = None
        self.truth: Truth | None = None
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
        self.alive = torch.where(mask[:, None], self.world.alive(), self.alive)
        self.age = torch.where(mask, 0, self.age)
        self.truth = None
        if self.coefficients is not None:
            cars = self.world.drives()[:, None] * self.world.agents + torch.arange(self.world.agents)
            self.condition = self.coefficients.draw(self.seed, cars)

    @torch.no_grad()
    def tick(self, *, keep: bool = True) -> Transition:
        """Advance every drive by one tick; what nobody needs is left out of a tick that is not to be kept."""
        world = self.world
        observation = world.observe(self.sensors) if keep or self.policy is not None else None
        asked = self.expert is not None and (keep or self.driver.uses_expert)
        label = self.expert.label(world) if asked else None  # pyright: ignore[reportOptionalMemberAccess]
        output = None
        if self.policy is not None:
            assert observation is not None
            output = self.policy.act(self.policy.encode(observation), self.policy_memory, self.condition)
            self.policy_memory = output.memory
        if self.reward is not None and self.truth is None:
            self.truth = world.truth()
        decision, self.driver_memory = self.driver.act(
            output, label, world, self.driver_memory, self.age, self.progress, self.seed
        )
        events = world.step(decision.action)
        worth = None
        if self.reward is not None:
            assert self.truth is not None
            before, self.truth = self.truth, world.truth()
            worth = self.reward(events, before, self.truth, self.condition)
            worth = torch.where(self.alive, worth, 0.0)
        turn = Transition(
            observation, label, output, decision, events, self.first, self.alive, worth, self.condition
        )

        self.alive = self.alive & ~events.terminated & ~events.truncated
        self.age = self.age + 1
        moved = decision.perturbation
        self.first = torch.zeros_like(self.first)
        if moved is not None:
            world.perturb(moved.lateral, moved.heading, moved.speed)
            self.truth = None
            self.first = (moved.lateral != 0) | (moved.heading != 0) | (moved.speed != 1)
            fresh = self._fresh_memory()
            if fresh is not None and self.policy_memory is not None:
                # Frames from before a perturbation would show a jump that no road has.
                self.policy_memory = fresh.where(self.first, self.policy_memory)
        return turn


@dataclass(frozen=True)
class Rollout(TensorTree):
    """What driving left behind, `[time drive]`; a drive is one car of one world.

    Attributes:
        observation: What was seen.
        label: What the expert would have done; None if nobody was asked.
        action: What was told to the vehicle.
        policy_in_control: Whether the policy drove.
        first: The past before this tick does not count.
        alive: The tick belongs to a drive that was still going.
        terminated: The drive ended with this tick, by its own doing.
        cause: Why.
        confidence: Of the world at this pose.
        drive: Identity of the drive.
        version: Weight version of the policy that drove.
        truncated: The drive ended with this tick, because its time was over.
        reward, condition: What the tick was worth, and with what coefficients; None without a reward.
        choice, log_prob, value: What the policy chose, how likely that was, and what it expected; None of
            policies that do not choose.
    """

    observation: Observation
    label: Label | None
    action: Action | JerkAction
    policy_in_control: Bool[Tensor, "time drive"]
    first: Bool[Tensor, "time drive"]
    alive: Bool[Tensor, "time drive"]
    terminated: Bool[Tensor, "time drive"]
    truncated: Bool[Tensor, "time drive"]
    cause: Int[Tensor, "time drive"]
    confidence: Float[Tensor, "time drive"]
    drive: Int[Tensor, "time drive"]
    version: Int[Tensor, "time drive"]
    reward: Float[Tensor, "time drive"] | None = None
    condition: Float[Tensor, "time drive coefficient"] | None = None
    choice: Int[Tensor, "time drive"] | None = None
    log_prob: Float[Tensor, "time drive"] | None = None
    value: Float[Tensor, "time drive"] | None = None

    def outcomes(self) -> dict[str, float]:
        """Share of the ended drives by cause, in lower case, and the mean reward of a tick, where there is one.

        Drives that were cut short because too few of their world's cars were left do not count as ended.
        """
        ended = self.alive & (self.terminated | (self.cause == TerminationReason.TIME))
        count = max(int(ended.sum()), 1)
        shares = {
            cause.name.lower(): int((ended & (self.cause == cause)).sum()) / count
            for cause in TerminationReason
            if cause is not TerminationReason.NONE
        }
        if self.reward is not None:
            shares["reward"] = float(self.reward[self.alive].mean())
        return {"ended": float(ended.sum()), **shares}


def roll_out(
    driving: Rollouter,
    ticks: int,
    *,
    first_drive: int,
    version: int,
    every: int = 1,
    min_active_fraction: float = 0.0,
) -> Iterator[Rollout]:
    """Drive for `ticks`, beginning a new drive whenever one has ended; yields a tick at a time.

    Args:
        driving: Who drives where.
        ticks: How long.
        first_drive: Row r begins with drive `first_drive + r`; its k-th drive is that plus `k * batch`.
        version: Weight version to record.
        every: Yield every so many ticks only, the first one included; `first` then tells whether anything
            began since the last one that was yielded.
        min_active_fraction: A world begins anew once no larger share of its cars is still driving; 0 waits for all.
            The drives of those who were count as truncated.
    """
    world = driving.world
    rows = torch.arange(world.batch)
    drive = first_drive + rows
    driving.begin(torch.ones(world.batch, dtype=torch.bool), world.draw_starts(drive))

    def flat(tree: TensorTree | Tensor | None) -> Any:
        if tree is None:
            return None
        if isinstance(tree, Tensor):
            return tree.flatten(0, 1)[None]
        return tree.map(lambda leaf: leaf.flatten(0, 1)[None])

    began = torch.zeros_like(driving.first)
    for number in range(ticks):
        keep = number % every == 0
        confidence = world.confidence()
        turn = driving.tick(keep=keep)
        driving_on = driving.alive.float().mean(1)
        ended = (driving_on == 0) | (driving_on <= min_active_fraction)
        truncated = turn.events.truncated | (ended[:, None] & driving.alive)
        began = began | turn.first
        if keep:
            assert turn.observation is not None
            yield Rollout(
                observation=flat(turn.observation),
                label=flat(turn.label),
                action=flat(turn.decision.action),
                policy_in_control=flat(turn.decision.policy_in_control),
                first=flat(began),
                alive=flat(turn.alive),
                terminated=flat(turn.events.terminated),
                truncated=flat(truncated),
                cause=flat(turn.events.cause),
                confidence=flat(confidence),
                drive=flat(drive[:, None].expand(-1, world.agents)),
                version=torch.full((1, world.batch * world.agents), version),
                reward=flat(turn.reward),
                condition=flat(turn.condition),
                choice=flat(turn.decision.choice),
                log_prob=flat(turn.decision.log_prob),
                value=flat(turn.output.value if turn.output is not None else None),
            )
            began = torch.zeros_like(began)
        if ended.any():
            drive = torch.where(ended, drive + world.batch, drive)
            driving.begin(ended, world.draw_starts(drive[ended]))
