"""Road users who are wrong on purpose, so that nobody learns that others always look and yield."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from countersteer import noise
from countersteer.ranges import NonNegative, Ranged, Share

__all__ = ["Faults"]

_SPELL = 3.0  # for so long somebody does not look [s]


@dataclass(frozen=True)
class Faults(Ranged):
    """Shares of road users who do not drive as they have learned; each kind is drawn for itself.

    Attributes:
        inattentive: Share of the time in which each sees no other road user, in spells of 3 s.
        aggressive: Share of road users who are in a hurry, through the whole drive.
        late: Share of road users who decide once a second instead of twice, so react half a second later at times.
        hurry: How much those in a hurry prefer a motion that goes a metre further: its probability times exp(hurry).
    """

    inattentive: Share = 0.0
    aggressive: Share = 0.0
    late: Share = 0.0
    hurry: NonNegative = 1.0

    def blind(
        self, seed: int, drive: Int[Tensor, "world"], time: Int[Tensor, "world"], dt: float, actors: int
    ) -> Bool[Tensor, "world actor"]:
        """Who does not look at a tick."""
        spell = (time * dt / _SPELL).floor().long()
        return noise.uniform(seed, drive, spell, "inattentive traffic", actors) < self.inattentive

    def hurries(self, seed: int, drive: Int[Tensor, "world"], actors: int) -> Bool[Tensor, "world actor"]:
        """Who is in a hurry."""
        return (
            noise.uniform(seed, drive, torch.zeros_like(drive), "aggressive traffic", actors)
            < self.aggressive
        )

    def waits(
        self, seed: int, drive: Int[Tensor, "world"], decision: Int[Tensor, "world"], actors: int
    ) -> Bool[Tensor, "world actor"]:
        """Who does what it last did once more; `decision` counts the half seconds."""
        number = noise.uniform(seed, drive, torch.zeros_like(drive), "late traffic", actors)
        return (number < self.late) & (decision % 2 == 1)[:, None]
