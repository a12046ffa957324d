"""A trained teacher at the wheel: it sees what no car can, so it only drives while a student is being made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from countersteer.drivers.interface import Decision, Driver
from countersteer.experts.interface import Label
from countersteer.experts.teacher import load_teacher
from countersteer.policies.interface import PolicyOutput
from countersteer.worlds.interface import Capability
from countersteer.worlds.world import World

__all__ = ["TeacherDriver"]


@dataclass(frozen=True)
class TeacherDriver(Driver):
    """Takes the teacher's likeliest choice for every car.

    Asking it costs one look at the world; tracking the plan of a `RolloutExpert` would cost a fork at every tick.

    Attributes:
        teacher: Run folder or policy file of the teacher.
    """

    teacher: str
    needs = frozenset({Capability.TRUTH})
    uses_policy = False
    uses_expert = False

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
        teacher = load_teacher(self.teacher)
        seen = teacher.encode(world.observe(("vector",)))
        answer = teacher.act(seen, teacher.initial_memory((world.batch, world.agents)))
        assert answer.logits is not None
        choice = answer.logits.argmax(-1)
        drove = torch.zeros_like(choice, dtype=torch.bool)
        return Decision(world.command(teacher.spec.jerk.action(choice)), drove, choice=choice), memory
