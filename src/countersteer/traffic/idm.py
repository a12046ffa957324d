"""Intelligent Driver Model (Treiber, Hennecke, Helbing 2000, cond-mat/0002177)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from countersteer.ranges import NonNegative, Positive, Ranged

__all__ = ["IDM"]


@dataclass(frozen=True)
class IDM(Ranged):
    """a = a_max [1 - (v / v0)^4 - (s* / s)^2], s* = s0 + max(0, v T + v (v - v_lead) / (2 sqrt(a_max b))).

    The dynamic part of s* is floored at zero so that a faster leader never pulls. The equilibrium gap at
    speed v behind a leader of the same speed is (s0 + v T) / sqrt(1 - (v / v0)^4).

    Attributes:
        standstill_gap: s0 [m].
        headway: T [s].
        acceleration: a_max [m/s^2].
        braking: Comfortable deceleration b [m/s^2].
        hardest_braking: Bound on the answer [m/s^2].
    """

    standstill_gap: Positive = 2.0
    headway: NonNegative = 1.5
    acceleration: Positive = 1.5
    braking: Positive = 2.0
    hardest_braking: Positive = 6.0

    def answer(
        self,
        speed: Float[Tensor, "*batch"],
        desired: Float[Tensor, "*batch"],
        gap: Float[Tensor, "*batch"],
        lead_speed: Float[Tensor, "*batch"],
    ) -> Float[Tensor, "*batch"]:
        """Acceleration [m/s^2].

        Args:
            speed: v [m/s], >= 0.
            desired: v0 [m/s], > 0.
            gap: Bumper to bumper [m], inf without a leader; clamped to 0.1 from below.
            lead_speed: [m/s]; ignored where the gap is inf.
        """
        closing = speed * (speed - lead_speed) / (2 * (self.acceleration * self.braking) ** 0.5)
        wanted = self.standstill_gap + (speed * self.headway + closing).clamp(min=0.0)
        free = (speed / desired.clamp(min=0.1)) ** 4
        answer = self.acceleration * (1 - free - (wanted / gap.clamp(min=0.1)) ** 2)
        return answer.clamp(-self.hardest_braking, self.acceleration)
