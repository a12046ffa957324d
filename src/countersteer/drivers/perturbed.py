"""Perturbations: any driver, thrown off its course now and then (passive perturbation, PilotNet style)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from countersteer import noise
from countersteer.drivers.interface import Decision, Driver, Perturbation
from countersteer.experts.interface import Label
from countersteer.policies.interface import PolicyOutput
from countersteer.worlds.world import World

__all__ = ["PerturbedDriver"]


@dataclass(frozen=True)
class PerturbedDriver(Driver):
    """Every `period` the car is moved sideways, turned and sped up or slowed, uniformly within bounds.

    Attributes:
        driver: Who drives.
        lateral: Bound [m].
        heading: Bound [rad].
        speed: Bound of the relative change.
        period: Time between displacements [s]; the first comes at the drive's first tick.
        once: Only at the first tick.
    """

    driver: Driver
    lateral: float = 1.2
    heading: float = 0.1
    speed: float = 0.1
    period: float = 5.0
    once: bool = False

    @property
    def needs(self) -> frozenset:  # type: ignore[override]
        """What the inner driver needs."""
        return self.driver.needs

    @property
    def uses_policy(self) -> bool:  # type: ignore[override]
        """Whether the inner driver asks the policy."""
        return self.driver.uses_policy

    @property
    def uses_expert(self) -> bool:  # type: ignore[override]
        """Whether the inner driver asks the expert."""
        return self.driver.uses_expert

    def initial_memory(self, world: World) -> Any:
        """Memory of the inner driver."""
        return self.driver.initial_memory(world)

    def act(
        self,
        output: PolicyOutput | None,
        label: Label | None,
        world: World,
        memory: Any,
        tick: Tensor,
        progress: float,
        seed: int,
    ) -> tuple[Decision, Any]:
        """See `Driver.act`."""
        decision, memory = self.driver.act(output, label, world, memory, tick, progress, seed)
        every = max(round(self.period / world.dt), 1)
        due = (tick == 0) if self.once else (tick % every == 0)
        numbers = noise.uniform(seed, world.drives(), tick, "perturbed-driver", 3 * world.agents)
        signed = (2 * numbers - 1).reshape(-1, world.agents, 3) * due[:, None, None]
        perturbation = Perturbation(
            lateral=self.lateral * signed[..., 0],
            heading=self.heading * signed[..., 1],
            speed=torch.ones_like(signed[..., 2]) + self.speed * signed[..., 2],
        )
        return dataclasses.replace(decision, perturbation=perturbation), memory
