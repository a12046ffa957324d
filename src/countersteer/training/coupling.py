"""What the parts of a closed loop must agree on; a recipe is refused before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch

from countersteer.drivers.drivers import CategoricalDriver, PerturbedDriver
from countersteer.drivers.interface import Driver
from countersteer.errors import UserError
from countersteer.policies.interface import PolicySpec
from countersteer.policies.weights import Weights
from countersteer.training.stages import ClosedLoop
from countersteer.worlds.interface import Capability

__all__ = ["check_closed_loop"]


def check_closed_loop(
    stage: ClosedLoop, recipe: str, spec_of: Callable[[Weights], PolicySpec | None] = lambda _: None
) -> None:
    """Refuse couplings that cannot work, naming both sides and what to do.

    Args:
        stage: What is checked.
        recipe: Its name, for messages.
        spec_of: What describes the policy of some weights, as far as it is known.

    Raises:
        UserError: Two parts do not go together.
    """
    where = recipe if recipe == stage.name else f"{recipe}.{stage.name}"
    check = _Check(stage, where, spec_of)
    check.expert()
    check.capabilities()
    check.sensors()
    check.intent()
    check.plans()
    check.jerk()
    check.actions()
    check.budget()
    check.protocol()


def drivers(driver: Driver) -> Iterator[Driver]:
    """A driver and all that it is put together from."""
    yield driver
    for field in dataclasses.fields(driver):  # pyright: ignore[reportArgumentType]
        inner = getattr(driver, field.name)
        if isinstance(inner, Driver):
            yield from drivers(inner)


class _Check:
    def __init__(self, stage: ClosedLoop, where: str, spec_of: Callable[[Weights], PolicySpec | None]):
        self.stage, self.where, self.spec_of = stage, where, spec_of
        self.all = list(drivers(stage.driver))
        self.leaves = [driver for driver in self.all if len(list(drivers(driver))) == 1]
        self.choosing = [driver for driver in self.all if isinstance(driver, CategoricalDriver)]

    def refuse(self, what: str, got: object, expected: object, fix: str) -> NoReturn:
        raise UserError(f"recipe {self.where!r}: {what}", got=got, expected=expected, fix=fix)

    def same(self, one: str, a: object, other: str, b: object, fix: str) -> None:
        """Refuse unless a and b, which are called so, are equal."""
        if a != b:
            self.refuse(f"{one} and {other} differ", f"{other} {b}", f"{one} {a}", fix)

    def expert(self) -> None:
        for part in (self.stage.driver, self.stage.objective):
            if part.uses_expert and self.stage.expert is None:
                self.refuse(
                    f"{type(part).__name__} needs an expert",
                    "no expert",
                    "an expert",
                    "give the recipe an expert",
                )

    def capabilities(self) -> None:
        stage, have = self.stage, self.stage.world.capabilities
        parts: list[tuple[Any, frozenset[Capability]]] = [
            (part, part.needs) for part in (stage.expert, stage.driver, stage.objective) if part is not None
        ]
        parts += [
            (driver, frozenset({Capability.PERTURB}))
            for driver in self.all
            if isinstance(driver, PerturbedDriver)
        ]
        for part, needs in parts:
            lacking = sorted(capability.value for capability in needs - have)
            if lacking:
                self.refuse(
                    f"{type(part).__name__} needs what {type(stage.world.simulation).__name__} does not offer",
                    ", ".join(sorted(c.value for c in have)) or "no capability",
                    ", ".join(lacking),
                    "choose another world, or another expert, driver or objective",
                )

    def sensors(self) -> None:
        policy, world = self.stage.policy, self.stage.world
        named = {sensor.name: sensor for sensor in world.sensors}
        for sensor in policy.sensor_specs:
            its = named.get(sensor.name, sensor)
            fix = "leave it out of world.sensors: the policy says what it reads"
            self.same(f"policy's sensor {sensor.name!r}", sensor, f"world's sensor {sensor.name!r}", its, fix)
        if abs(policy.dt - world.dt) > 1e-9:
            self.same("policy.dt", policy.dt, "world.dt", world.dt, "give both the same tick")
        known = world.simulation.history
        if policy.motion_ticks > known:
            self.refuse(
                "the policy reads more ego motion than the world remembers",
                f"policy.motion_ticks {policy.motion_ticks}",
                f"at most {known}",
                "lower policy.motion_ticks, or choose a world that remembers more",
            )

    def intent(self) -> None:
        policy, world = self.stage.policy, self.stage.world
        if policy.target_points and not world.simulation.target_points:
            self.refuse(
                "the policy reads target points and the world gives none",
                f"policy.target_points {policy.target_points}, world.simulation.target_points False",
                "both or neither",
                "set world.simulation.target_points True, or policy.target_points 0",
            )
        if policy.navigation and not world.simulation.navigation:
            self.refuse(
                "the policy is to be told left or right at turns and the world does not tell",
                "policy.navigation True, world.simulation.navigation False",
                "both or neither",
                "set world.simulation.navigation True, or policy.navigation False",
            )

    def plans(self) -> None:
        policy, expert = self.stage.policy, self.stage.expert
        fix = "give both the same plan times"
        if expert is not None:
            self.same("policy.plan", policy.plan, "expert.plan", expert.plan, fix)

    def jerk(self) -> None:
        policy, world = self.stage.policy, self.stage.world
        fix = "give both the same `jerk`"
        if self.choosing and policy.jerk is None:
            self.refuse(
                "CategoricalDriver needs a policy that chooses among jerks",
                "policy.jerk None",
                "a JerkSpec",
                "set policy.jerk, or choose another driver",
            )
        if self.choosing:
            self.same("policy.jerk", policy.jerk, "world.jerk", world.jerk, fix)
        teachers = [getattr(part, "teacher", None) for part in (self.stage.expert, *self.leaves)]
        for weights in teachers:
            teacher = self.spec_of(weights) if isinstance(weights, Weights) else None
            if teacher is None:
                continue
            seen = self.stage.equipped_world.sensors
            if teacher.vector not in seen:
                its = tuple(sensor for sensor in seen if sensor.privileged)
                self.same("the teacher's vector", teacher.vector, "world.sensors", its, "give both the same")
            if policy.jerk is not None:
                self.same("policy.jerk", policy.jerk, "the teacher's jerk", teacher.jerk, fix)

    def actions(self) -> None:
        """What learns from sampled actions needs every car driven by samples."""
        objective, policy = self.stage.objective, self.stage.policy
        if not objective.uses_actions:
            return
        name = type(objective).__name__
        others = [driver for driver in self.leaves if getattr(driver, "greedy", driver not in self.choosing)]
        if others:
            inside = [driver for driver in self.leaves if driver not in others]
            self.refuse(
                f"{name} learns from actions that the policy sampled, and {type(others[0]).__name__} samples none",
                f"{type(others[0]).__name__} in {type(self.stage.driver).__name__}"
                if inside or others[0] is not self.stage.driver
                else type(others[0]).__name__,
                "CategoricalDriver with greedy=False for every car",
                "drive with CategoricalDriver() alone, or learn with another objective",
            )
        if objective.reward is not None and policy.reward_weights is None:
            self.refuse(
                f"{name} needs a policy that is told its reward weights",
                "policy.reward_weights None",
                "RewardWeights",
                "choose a policy with `reward_weights`, such as SetActorCriticSpec",
            )

    def budget(self) -> None:
        rollouts, optim = self.stage.rollouts, self.stage.optim
        frames = rollouts.total_frames // rollouts.iterations // rollouts.num_worlds
        if frames < optim.sequence_length:
            self.refuse(
                "an iteration keeps fewer frames of a drive than one sequence holds",
                f"{frames} frames",
                f"at least optim.sequence_length = {optim.sequence_length}",
                "raise rollouts.total_frames, or lower rollouts.num_worlds, rollouts.iterations or optim.sequence_length",
            )

    def protocol(self) -> None:
        protocol = self.stage.objective.policy_protocol
        if protocol is None:
            return
        with torch.random.fork_rng(devices=[]):  # what is drawn here must not change what training draws
            policy = self.stage.policy.build()
        if not isinstance(policy, protocol):
            methods = [name for name in vars(protocol) if not name.startswith("_")]
            lacking = [name for name in methods if not hasattr(policy, name)]
            self.refuse(
                f"{type(self.stage.objective).__name__} needs a policy that is a {protocol.__name__}",
                f"{type(policy).__name__}, which lacks {', '.join(lacking)}",
                ", ".join(methods),
                "choose another policy or objective, or write these methods",
            )
