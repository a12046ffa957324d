"""Those who drive: the policy, the expert, a teacher, nobody; and drivers made of them, which keep all that was decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from countersteer import noise
from countersteer.drivers.interface import Decision, Driver, Perturbation, Turn, TwoMemories
from countersteer.errors import UserError
from countersteer.experts.teacher import load_teacher
from countersteer.policies.weights import Weights
from countersteer.ranges import NonNegative, Positive, Range, Ranged, Share
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.vehicles.trackers import PurePursuit, Tracker
from countersteer.worlds.interface import Capability
from countersteer.worlds.world import World

__all__ = [
    "PolicyDriver", "ExpertDriver", "ConstantVelocityDriver", "CategoricalDriver", "TeacherDriver",
    "WrappingDriver", "PerturbedDriver", "LinearSchedule", "MixedDriver", "EgoAndOthersDriver",
]  # fmt: skip


@dataclass(frozen=True)
class PolicyDriver(Driver):
    """Tracks the policy's plan: the states are its own, mistakes included."""

    tracker: Tracker = PurePursuit()
    uses_policy = True

    def act(self, turn: Turn, memory: Any) -> Decision:
        plan, motion = turn.output and turn.output.plan, turn.world.motion()
        if turn.policy is None or plan is None:
            raise UserError("the policy has no plan to track", fix="drive it with a CategoricalDriver")
        action = self.tracker.track(plan, turn.policy.spec.plan, motion.speed, motion.curvature)
        return Decision(action, torch.ones_like(motion.speed, dtype=torch.bool))


@dataclass(frozen=True)
class ExpertDriver(Driver):
    """Tracks the expert's plan."""

    tracker: Tracker = PurePursuit()
    needs = frozenset({Capability.TRUTH})
    uses_expert = True

    def act(self, turn: Turn, memory: Any) -> Decision:
        assert turn.label is not None
        assert turn.expert is not None
        motion = turn.world.motion()
        action = self.tracker.track(turn.label.plan, turn.expert.plan, motion.speed, motion.curvature)
        return Decision(action, torch.zeros_like(motion.speed, dtype=torch.bool))


@dataclass(frozen=True)
class ConstantVelocityDriver(Driver):
    """Goes straight on at the present speed."""

    def act(self, turn: Turn, memory: Any) -> Decision:
        zero = torch.zeros_like(turn.world.motion().speed)
        return Decision(Action(zero, zero), torch.zeros_like(zero, dtype=torch.bool))


@dataclass(frozen=True)
class CategoricalDriver(Driver):
    """The policy chooses among the world's jerks, the same policy for every car (self-play)."""

    greedy: bool = False  # take the likeliest choice instead of drawing one
    needs = frozenset({Capability.JERK})
    uses_policy = True

    def act(self, turn: Turn, memory: Any) -> Decision:
        world, jerk, logits = turn.world, turn.world.jerk, turn.output and turn.output.logits
        if jerk is None or logits is None or logits.shape[-1] != jerk.choices:
            raise UserError(
                "the policy does not choose among the world's actions",
                got="no choices" if logits is None else f"{logits.shape[-1]} choices",
                expected="a world with `jerk`" if jerk is None else f"{jerk.choices} choices",
                fix="give policy and world the same `jerk`",
            )
        log_odds = logits.log_softmax(-1)
        index = log_odds.argmax(-1)
        if not self.greedy:
            draw = noise.uniform(turn.seed, world.drives(), turn.age, "choice", world.agents)[..., None]
            below = log_odds.exp().cumsum(-1)
            # Rounding may leave the last sum below 1.
            index = (draw * below[..., -1:] >= below).sum(-1).clamp(max=jerk.choices - 1)
        log_prob = log_odds.gather(-1, index[..., None]).squeeze(-1)
        drove = torch.ones_like(index, dtype=torch.bool)
        return Decision(jerk.action(index), drove, action_index=index, log_prob=log_prob)


@dataclass(frozen=True)
class TeacherDriver(Driver):
    """Takes a trained teacher's likeliest choice: one look at the world, where a `RolloutExpert`'s plan costs a fork."""

    teacher: Weights  # of a `SetActorCritic`
    needs = frozenset({Capability.TRUTH, Capability.JERK})

    def act(self, turn: Turn, memory: Any) -> Decision:
        world, teacher = turn.world, load_teacher(self.teacher).to(turn.world.device)
        memory = teacher.initial_memory((world.batch, world.agents), world.device)
        answer = teacher.act(teacher.encode(world.observe(("vector",))), memory)
        assert answer.logits is not None
        index = answer.logits.argmax(-1)
        action = world.command(teacher.spec.jerk.action(index))
        return Decision(action, torch.zeros_like(index, dtype=torch.bool), action_index=index)


class WrappingDriver(Driver):
    """A driver that asks one or two others, its fields, and relies on what they rely on and on `own_needs`."""

    own_needs: frozenset[Capability] = frozenset()
    inner = property(lambda self: tuple(value for value in vars(self).values() if isinstance(value, Driver)))
    needs = property(lambda self: self.own_needs.union(*(driver.needs for driver in self.inner)))  # pyright: ignore
    uses_policy = property(lambda self: any(driver.uses_policy for driver in self.inner))  # pyright: ignore
    uses_expert = property(lambda self: any(driver.uses_expert for driver in self.inner))  # pyright: ignore

    def initial_memory(self, world: World) -> TensorTree:
        memories = [driver.initial_memory(world) for driver in self.inner]
        return memories[0] if len(memories) == 1 else TwoMemories(*memories)

    def choose(self, mask: Tensor, turn: Turn, memory: TwoMemories) -> Decision:
        """What the first inner driver decides for cars in `mask`, the second for the rest; both are asked for all."""
        first, second = self.inner
        one, two = first.act(turn, memory.first), second.act(turn, memory.second)
        if isinstance(one.action, JerkAction) and isinstance(two.action, Action):
            one = one.replace(action=turn.world.command(one.action))
        elif isinstance(one.action, Action) and isinstance(two.action, JerkAction):
            two = two.replace(action=turn.world.command(two.action))
        return one.where(mask, two)


@dataclass(frozen=True)
class PerturbedDriver(WrappingDriver):
    """Every `period` the car is moved sideways, turned and sped up or slowed, uniformly within bounds (PilotNet)."""

    driver: Driver  # who drives; its own perturbations add up with these
    lateral: NonNegative = 1.2  # bound [m]
    heading: Annotated[float, Range("[0, pi]")] = 0.1  # bound [rad]
    speed: Share = 0.1  # bound of the relative change
    period: Positive = 5.0  # time between perturbations [s]; the first comes at the drive's first tick
    once: bool = False  # only at the first tick
    own_needs = frozenset({Capability.PERTURB})

    def act(self, turn: Turn, memory: Any) -> Decision:
        decision, world, age = self.driver.act(turn, memory), turn.world, turn.age
        due = (age == 0) if self.once else (age % max(round(self.period / world.dt), 1) == 0)
        numbers = noise.uniform(turn.seed, world.drives(), age, "perturbed-driver", 3 * world.agents)
        signed = (2 * numbers - 1).reshape(-1, world.agents, 3) * due[:, None, None]
        lateral, heading = self.lateral * signed[..., 0], self.heading * signed[..., 1]
        speed = 1.0 + self.speed * signed[..., 2]
        if (own := decision.perturbation) is not None:
            lateral, heading, speed = own.lateral + lateral, own.heading + heading, own.speed * speed
        return decision.replace(perturbation=Perturbation(lateral, heading, speed))


@dataclass(frozen=True)
class LinearSchedule(Ranged):
    """A schedule of shares: from `start` to `end` over the progress span `over`, constant outside it."""

    start: Share = 1.0
    end: Share = 0.0
    over: tuple[Share, Share] = (0.0, 1.0)

    def at(self, progress: float) -> float:
        """Value at a training progress in [0, 1]."""
        low, high = self.over
        part = min(max((progress - low) / max(high - low, 1e-9), 0.0), 1.0)
        return self.start + part * (self.end - self.start)


@dataclass(frozen=True)
class MixedDriver(WrappingDriver):
    """Each car is driven by the expert or the policy, drawn anew every `hold` seconds (DAgger, 1011.0686)."""

    expert: Driver = ExpertDriver()  # in the expert's place: its plan is tracked, or a teacher drives itself
    policy: Driver = PolicyDriver()
    expert_probability: LinearSchedule = LinearSchedule()  # over training
    hold: Positive = 4.0  # how long a draw lasts [s]; switching at every tick would hide the policy's drift

    def act(self, turn: Turn, memory: Any) -> Decision:
        draws = turn.age // max(round(self.hold / turn.world.dt), 1)
        share = noise.uniform(turn.seed, turn.world.drives(), draws, "mixed-driver", turn.world.agents)
        return self.choose(share < self.expert_probability.at(turn.progress), turn, memory)


@dataclass(frozen=True)
class EgoAndOthersDriver(WrappingDriver):
    """The first car of every world is driven by `ego`, the others by `others` (Gigapixel, arXiv 2606.19641, App. B.2)."""

    ego: Driver
    others: Driver

    def act(self, turn: Turn, memory: Any) -> Decision:
        slots = torch.arange(turn.world.agents, device=turn.world.device)
        return self.choose((slots == 0).expand(turn.world.batch, -1), turn, memory)
