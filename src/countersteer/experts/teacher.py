"""A label by a privileged teacher: what would become of every car if the teacher drove all of them from here on.

The world is forked, the teacher drives the copy for as long as a plan reaches, and where each car comes to is its
plan (forked targets, Gigapixel arXiv 2606.19641, section 3.2). The copy is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from countersteer.errors import UserError
from countersteer.experts.interface import Expert, Label
from countersteer.geometry.poses import local_from_world, wrap_angle
from countersteer.policies.teacher import SetActorCritic
from countersteer.policies.weights import Weights
from countersteer.ranges import Count
from countersteer.vehicles.plans import Plan, PlanSpec
from countersteer.worlds.interface import Capability, TerminationReason
from countersteer.worlds.world import World

__all__ = ["RolloutExpert", "rollout_plans", "load_teacher"]


@dataclass(frozen=True)
class RolloutExpert(Expert):
    """Plans that a teacher would drive, one for each car of a world.

    A label is valid where the car drives to the end of the plan without a failure, its goal reached or not.
    A car that reaches its goal goes straight on from there, at the speed it came with.

    Attributes:
        teacher: The teacher, a `SetActorCritic`.
        plan: Times of the plans, multiples of the world's tick.
        hold: Ticks that each choice is kept in the fork. Asking the teacher is most of what a label costs; at 2 it
            costs 45 % less, and plans end 0.4 m elsewhere after four seconds (docs/log/2026-11-22-self-play.md).
    """

    teacher: Weights
    plan: PlanSpec = PlanSpec()  # pyright: ignore[reportIncompatibleVariableOverride]
    hold: Count = field(default=1, metadata={"absent": 1})
    needs = frozenset({Capability.TRUTH, Capability.FORK})

    def label(self, world: World) -> Label:
        """See `Expert.label`."""
        return rollout_plans(load_teacher(self.teacher).to(world.device), world, self.plan, hold=self.hold)


def load_teacher(weights: Weights) -> SetActorCritic:
    """The teacher of these weights, frozen; read once in a process.

    Raises:
        UserError: There is none, or it is another kind of policy.
    """
    policy = weights.policy()
    if not isinstance(policy, SetActorCritic):
        raise UserError(
            f"{weights.path} is no teacher",
            got=type(policy).__name__,
            expected="a policy trained by a recipe with a SetActorCriticSpec, such as self_play_teacher",
            fix="give the run of a teacher",
        )
    return policy


@torch.no_grad()
def rollout_plans(
    teacher: SetActorCritic,
    world: World,
    spec: PlanSpec,
    condition: Float[Tensor, "world agent k"] | None = None,
    *,
    hold: int = 1,
) -> Label:
    """Let a teacher drive every car of a copy of a world; where they come to are their plans.

    Args:
        teacher: Answers with choices; takes the likeliest.
        world: Is forked, not changed.
        spec: Times of the plans.
        condition: What each car is asked for; None for the teacher's default.
        hold: Ticks that each choice is kept.
    """
    twin = world.fork(torch.arange(world.batch, device=world.device))
    begin = twin.truth()
    if condition is None:
        condition = teacher.spec.reward_weights.middle(*begin.speed.shape, device=begin.speed.device)
    memory = teacher.initial_memory((twin.batch, twin.agents), world.device)
    every = spec.interval / twin.dt
    if abs(every - round(every)) > 1e-6:
        raise UserError(
            "the plan's times do not fall on ticks of the world",
            got=f"every {spec.interval} s in ticks of {twin.dt} s",
            expected="a multiple of the tick",
            fix="choose another interval for the plan",
        )
    failed = ~begin.alive
    arrived = torch.zeros_like(failed)
    since = torch.zeros_like(begin.speed)
    positions, headings, speeds, choices = [], [], [], []
    for tick in range(round(every) * spec.points):
        if tick % hold == 0:
            seen = teacher.encode(twin.observe(("vector",)))
            answer = teacher.act(seen, memory, condition)
            assert answer.logits is not None
            choices.append(answer.logits.argmax(-1))
        events = twin.step(teacher.spec.jerk.action(choices[-1]))
        reached = events.terminated & (events.cause == TerminationReason.GOAL)
        failed = failed | (events.terminated & ~reached)
        # Where the recording is over, so is what is known of the others; the car goes on as it was.
        arrived = arrived | reached | events.truncated
        if (tick + 1) % round(every) == 0:
            now = twin.truth()
            ahead = torch.stack([now.heading.cos(), now.heading.sin()], -1)
            positions.append(now.position + (since * now.speed)[..., None] * ahead)
            headings.append(now.heading)
            speeds.append(now.speed)
        since = torch.where(arrived, since + twin.dt, since)
    position, heading, speed = torch.stack(positions, -2), torch.stack(headings, -1), torch.stack(speeds, -1)
    local = local_from_world(
        position,
        begin.position[..., None, :].expand_as(position),
        begin.heading[..., None].expand_as(heading),
    )
    plan = Plan(local, wrap_angle(heading - begin.heading[..., None]), speed)
    return Label(plan, ~failed, choices[0])
