"""The loop: world -> observation -> policy -> plan -> driver -> action -> world. Everything lies on the world's device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from countersteer.drivers.interface import Decision, Driver, Perturbation, Turn
from countersteer.experts.interface import Expert, Label
from countersteer.policies.interface import Policy, PolicyOutput
from countersteer.policies.precision import Precision, seen_in
from countersteer.rewards.interface import Reward, RewardInputs
from countersteer.rewards.weights import RewardWeights
from countersteer.rollouts.rollout import Rollout
from countersteer.tensors import TensorTree
from countersteer.worlds.interface import Events, Starts
from countersteer.worlds.observations import Observation
from countersteer.worlds.truth import Truth
from countersteer.worlds.world import World

__all__ = ["Rollouter", "Transition", "roll_out"]


@dataclass(frozen=True)
class Transition:
    """One turn of the loop, leading dimensions `[world agent]`.

    Attributes:
        observation: What was seen, if anybody looked.
        label: What the expert would do, if it was asked.
        output: What the policy said, if it was asked.
        decision: What was done.
        events: What came of it.
        is_first: Whether the car's past does not count: its drive began or it was just perturbed.
        alive: Whether the drive was still going when it was observed.
        reward: What the tick was worth, where there is a reward; 0 for cars whose drive had ended.
        reward_weights: Coefficients of that reward, and what the policy is conditioned on, where there are some.
    """

    observation: Observation | None
    label: Label | None
    output: PolicyOutput | None
    decision: Decision
    events: Events
    is_first: Bool[Tensor, "world agent"]
    alive: Bool[Tensor, "world agent"]
    reward: Tensor | None = None
    reward_weights: Tensor | None = None


class Rollouter:
    """A world with somebody at the wheel; keeps the memories between ticks.

    Args:
        world: To drive in.
        driver: Who drives.
        policy: Asked if the driver needs it; lies on the world's device.
        expert: Asked at every tick if given; required if the driver needs it.
        seed: Of the driver's randomness.
        progress: Of training, in [0, 1].
        reward: What each tick is worth; nobody asks if it is None.
        coefficients: What each car's reward weights are drawn from, once a drive; None asks for the policy's own default.
        sensors: What is observed; None for every sensor of the world.
        precision: Of what the policy sees.

    Raises:
        ValueError: The driver uses a policy or an expert that is not given.
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
        precision: Precision = Precision.FLOAT32,
    ):
        if driver.uses_policy and policy is None:
            raise ValueError(f"{type(driver).__name__} needs a policy")
        if driver.uses_expert and expert is None:
            raise ValueError(f"{type(driver).__name__} needs an expert")
        self.world, self.driver, self.expert = world, driver, expert
        self.policy = policy if driver.uses_policy else None
        self.seed, self.progress = seed, progress
        self.reward, self.coefficients, self.sensors = reward, coefficients, sensors
        self.precision = precision
        self.reward_weights: Tensor | None = None
        self.truth: Truth | None = None
        self.driver_memory = driver.initial_memory(world)
        self.policy_memory = self._fresh_memory()
        cars = torch.zeros(world.batch, world.agents, dtype=torch.bool, device=world.device)
        self.is_first, self.alive = ~cars, cars
        self.age = torch.zeros(world.batch, dtype=torch.long, device=world.device)

    def _fresh_memory(self) -> TensorTree | None:
        if self.policy is None:
            return None
        return self.policy.initial_memory((self.world.batch, self.world.agents), self.world.device)

    def _forget(self, mask: Tensor) -> None:
        """Give the policy fresh memory for worlds, or cars, in `mask`."""
        fresh = self._fresh_memory()
        if fresh is not None and self.policy_memory is not None:
            self.policy_memory = fresh.where(mask, self.policy_memory)

    def begin(self, mask: Bool[Tensor, "world"], starts: Starts) -> None:
        """Reset the drives in `mask`, and every memory of them; `starts` as in `World.reset`."""
        world = self.world
        world.reset(mask, starts)
        self._forget(mask)
        self.driver_memory = self.driver.initial_memory(world).where(mask, self.driver_memory)
        self.is_first = self.is_first | mask[:, None]
        self.alive = torch.where(mask[:, None], world.alive(), self.alive)
        self.age = torch.where(mask, 0, self.age)
        self.truth = None
        if self.coefficients is not None:
            cars = world.drives()[:, None] * world.agents + torch.arange(world.agents, device=world.device)
            self.reward_weights = self.coefficients.draw(self.seed, cars)

    @torch.no_grad()
    def tick(self, *, keep: bool = True) -> Transition:
        """Advance every drive by one tick; what nobody needs is left out of a tick that is not to be kept."""
        turn = self._look(keep)
        if self.reward is not None and self.truth is None:
            self.truth = self.world.truth()
        decision = self.driver.act(turn, self.driver_memory)
        self.driver_memory = decision.memory
        events = self.world.step(decision.action)
        transition = Transition(
            turn.observation,
            turn.label,
            turn.output,
            decision,
            events,
            self.is_first,
            self.alive,
            self._reward(events),
            self.reward_weights,
        )
        self.alive = self.alive & ~events.terminated & ~events.truncated
        self.age = self.age + 1
        self.is_first = torch.zeros_like(self.is_first)
        if decision.perturbation is not None:
            self._perturb(decision.perturbation)
        return transition

    def _look(self, keep: bool) -> Turn:
        """Ask the world, the expert and the policy, as far as they are needed."""
        world, expert = self.world, self.expert
        observation = world.observe(self.sensors) if keep or self.policy is not None else None
        label = expert.label(world) if expert is not None and (keep or self.driver.uses_expert) else None
        output = None
        if self.policy is not None:
            assert observation is not None
            with seen_in(self.precision, world.device):
                features = self.policy.encode(observation)
            output = self.policy.act(features, self.policy_memory, self.reward_weights)
            self.policy_memory = output.memory
        return Turn(
            world=world,
            observation=observation,
            output=output,
            policy=self.policy,
            label=label,
            expert=expert,
            age=self.age,
            progress=self.progress,
            seed=self.seed,
            reward_weights=self.reward_weights,
        )

    def _reward(self, events: Events) -> Tensor | None:
        if self.reward is None:
            return None
        assert self.truth is not None
        before, self.truth = self.truth, self.world.truth()
        reward = self.reward(RewardInputs(events, before, self.truth, self.world.dt, self.reward_weights))
        return torch.where(self.alive, reward, 0.0)

    def _perturb(self, moved: Perturbation) -> None:
        self.world.perturb(moved.lateral, moved.heading, moved.speed)
        self.truth = None
        self.is_first = (moved.lateral != 0) | (moved.heading != 0) | (moved.speed != 1)
        # Frames from before a perturbation would show a jump that no road has.
        self._forget(self.is_first)


def roll_out(
    rollouter: Rollouter,
    ticks: int,
    *,
    first_drive: int,
    policy_version: int,
    every: int = 1,
    min_active_fraction: float = 0.0,
) -> Iterator[Rollout]:
    """Drive for `ticks`, beginning a new drive whenever one has ended; yields a tick at a time.

    Args:
        rollouter: Who drives where.
        ticks: How long.
        first_drive: Row r begins with drive `first_drive + r`; its k-th drive is that plus `k * batch`.
        policy_version: Version of the policy's weights, to record.
        every: Yield every so many ticks only, the first one included; `is_first` then tells whether anything
            began since the last one that was yielded.
        min_active_fraction: A world begins anew once no larger share of its cars is still driving; 0 waits for all.
            The drives of those who were count as truncated.
    """
    world = rollouter.world
    drive = first_drive + torch.arange(world.batch, device=world.device)
    rollouter.begin(torch.ones_like(drive, dtype=torch.bool), world.draw_starts(drive))
    began = torch.zeros_like(rollouter.is_first)
    for number in range(ticks):
        keep = number % every == 0
        confidence = world.confidence()
        transition = rollouter.tick(keep=keep)
        active = rollouter.alive.float().mean(1)
        ended = (active == 0) | (active <= min_active_fraction)
        truncated = transition.events.truncated | (ended[:, None] & rollouter.alive)
        began = began | transition.is_first
        if keep:
            yield _record(transition, began, truncated, confidence, drive, policy_version)
            began = torch.zeros_like(began)
        # On the CPU it is cheap to ask who begins; elsewhere the answer would be waited for.
        if world.device.type != "cpu":
            drive = torch.where(ended, drive + world.batch, drive)
            rollouter.begin(ended, world.draw_starts(drive))
        elif ended.any():
            drive = torch.where(ended, drive + world.batch, drive)
            rollouter.begin(ended, world.draw_starts(drive[ended]))


def _record(
    transition: Transition,
    is_first: Tensor,
    truncated: Tensor,
    confidence: Tensor,
    drive: Int[Tensor, "world"],
    policy_version: int,
) -> Rollout:
    """A tick `[1, world * agent]` of a transition `[world agent]`."""

    def flat(tree: Any) -> Any:
        if tree is None:
            return None
        if isinstance(tree, Tensor):
            return tree.flatten(0, 1)[None]
        return tree.map(lambda leaf: leaf.flatten(0, 1)[None])

    assert transition.observation is not None
    decision, events, output = transition.decision, transition.events, transition.output
    return Rollout(
        observation=flat(transition.observation),
        label=flat(transition.label),
        action=flat(decision.action),
        policy_in_control=flat(decision.policy_in_control),
        is_first=flat(is_first),
        alive=flat(transition.alive),
        terminated=flat(events.terminated),
        truncated=flat(truncated),
        cause=flat(events.cause),
        confidence=flat(confidence),
        drive=flat(drive[:, None].expand_as(is_first)),
        policy_version=torch.full((1, is_first.numel()), policy_version, device=drive.device),
        reward=flat(transition.reward),
        reward_weights=flat(transition.reward_weights),
        action_index=flat(decision.action_index),
        log_prob=flat(decision.log_prob),
        value=flat(output.value if output is not None else None),
    )
