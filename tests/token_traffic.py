"""An untrained token network with a vocabulary of arcs, for tests of what holds whatever it has learned."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from countersteer.data.traffic_windows import give_vocabulary
from countersteer.models.interface import StoredModel
from countersteer.models.token_network import TokenNetwork, TokenNetworkSpec
from countersteer.traffic.tokens.vocabulary import POINTS, Vocabulary

SMALL = TokenNetworkSpec(width=16, heads=2, edge=8, blocks=2, capacity=256)


def arcs(speeds: int = 8, bends: int = 5, fastest: float = 8.0) -> torch.Tensor:
    """Motions along circles: `speeds` from 0 to `fastest` m in half a second, `bends` from right to left."""
    length = torch.linspace(0.0, fastest, speeds)[:, None, None]
    bend = torch.linspace(-0.08, 0.08, bends)[None, :, None]
    s = length * torch.linspace(1 / POINTS, 1.0, POINTS)
    turn = bend * s
    x, y = s * torch.sinc(turn / torch.pi), s * (1 - turn.cos()) / turn.masked_fill(turn == 0, 1.0)
    return torch.stack([x.expand_as(turn), y, turn], -1).reshape(-1, POINTS, 3)


def vocabulary() -> Vocabulary:
    """Arcs for vehicles, pedestrians and cyclists."""
    parts = [arcs(), arcs(fastest=1.0), arcs(fastest=4.0)]
    return Vocabulary(torch.cat(parts), torch.cat([torch.full((len(p),), k) for k, p in enumerate(parts)]))


@functools.cache
def network(seed: int = 0, spec: TokenNetworkSpec = SMALL) -> TokenNetwork:
    """With weights drawn, all of them: a new network's head says nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = spec.build()
        for weight in (made.free.weight, made.bump.weight):
            torch.nn.init.normal_(weight, std=0.3)
    give_vocabulary(made, vocabulary())
    return made.eval().requires_grad_(False)


@dataclass(frozen=True)
class Fresh(StoredModel):
    """Weights that no file holds."""

    seed: int = 0

    def model(self) -> TokenNetwork:
        return network(self.seed)
