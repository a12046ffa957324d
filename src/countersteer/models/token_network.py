"""A network that says which motion each road user makes in the next half second, from what all have done so far.

Attention in blocks of three: over an agent's own past, over pieces of the map and lights around it, over the agents
around it (SMART, arXiv 2405.15677, is of this kind). All geometry enters as features of *edges* in the receiver's
frame, so that nothing depends on where in the world it happens. An edge is coded once, for all blocks and heads; a score
is the product of a query and that code, `(W q) . e`, so no edge is projected again. Measured on a small data set this
costs a third of separate keys and values.

The head is free logits plus a bump: minus a weighted squared distance of each motion to the last one, moved and
sharpened by the network. It says "as before, a bit more to the left" in a few numbers (1.60 against 2.17 nats after 400
steps).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from countersteer.ranges import Count, Ranged

__all__ = ["FEATURES", "TokenNetwork", "TokenNetworkSpec", "TokenRows"]

FEATURES = {"node": 13, "time": 11, "map": 20, "light": 10, "agent": 26}
"""Numbers of an agent itself and of each kind of edge to it."""


@dataclass(frozen=True)
class TokenRows:
    """Agents at times as rows, each with its edges; `countersteer.traffic.tokens.surroundings` makes them.

    Attributes:
        kind: Class of the agent, 0 to 2; others are seen and have no next motion.
        node: About the agent itself.
        time: Edges to its own earlier rows, the latest first.
        map, light, agent: Edges to pieces of the map, to lights, to other agents at the same time.
        time_row, agent_row: Rows at the other end.
        time_there, map_there, light_there, agent_there: Whether there is an edge.
        last: End of its last motion, as in `TokenNetwork.ends`.
    """

    kind: Int[Tensor, "row"]
    node: Float[Tensor, "row node"]
    time: Float[Tensor, "row past time"]
    map: Float[Tensor, "row piece map"]
    light: Float[Tensor, "row light_edge light"]
    agent: Float[Tensor, "row neighbour agent"]
    time_row: Int[Tensor, "row past"]
    agent_row: Int[Tensor, "row neighbour"]
    time_there: Bool[Tensor, "row past"]
    map_there: Bool[Tensor, "row piece"]
    light_there: Bool[Tensor, "row light_edge"]
    agent_there: Bool[Tensor, "row neighbour"]
    last: Float[Tensor, "row 4"]


@dataclass(frozen=True)
class TokenNetworkSpec(Ranged):
    """Size of a `TokenNetwork`; 1.1 million parameters as it stands here.

    Attributes:
        width: Numbers that describe an agent.
        heads: Of the attention; at most `width`.
        edge: Numbers of an edge's code.
        blocks: Of time, map and agents.
        capacity: Most motions of all classes together.
        points: Poses of a motion at 10 Hz.
    """

    width: Count = 128
    heads: Count = 4
    edge: Count = 48
    blocks: Count = 3
    capacity: Count = 2048
    points: Count = 5

    def build(self) -> TokenNetwork:
        """See `MainModelSpec`."""
        return TokenNetwork(self)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


class _Attention(nn.Module):
    """Looks at coded edges, and at one empty place so that it may look at none."""

    def __init__(self, spec: TokenNetworkSpec, *, nodes: bool):
        super().__init__()
        self.heads = spec.heads
        self.norm = nn.LayerNorm(spec.width)
        self.query = nn.Linear(spec.width, spec.heads * spec.edge)
        self.out = nn.Linear(spec.heads * spec.edge, spec.width)
        self.code = nn.Linear(spec.width, spec.edge, bias=False) if nodes else None

    def nodes(self, normed: Tensor) -> Tensor:
        """What a row adds to the code of edges that lead to it."""
        assert self.code is not None
        return self.code(normed)

    def forward(self, x: Tensor, normed: Tensor, edges: Tensor, there: Tensor) -> Tensor:
        rows, count, size = edges.shape
        query = self.query(normed).view(rows, self.heads, size)
        score = torch.bmm(query, edges.transpose(1, 2)) / math.sqrt(size)
        score = score.masked_fill(~there[:, None], -1e4)
        share = torch.softmax(torch.cat([score, score.new_zeros(rows, self.heads, 1)], -1), -1)
        return x + self.out(torch.bmm(share[..., :count], edges).flatten(1))


class TokenNetwork(nn.Module):
    """See the module. Its vocabulary is part of its state, so a file of weights is all there is to know.

    Attributes:
        motions: Poses x, y [m], heading [rad] of each motion at 10 Hz in the frame of its beginning.
        ends: Its end as (x, y, r cos, r sin), r half the diagonal of the class's box: squared distances of these are
            mean squared distances of the box's corners.
        kinds: Class of each motion; -1 where there is none.
        digest: SHA-256 of the vocabulary, as bytes.
    """

    motions: Tensor
    ends: Tensor
    kinds: Tensor
    digest: Tensor

    def __init__(self, spec: TokenNetworkSpec):
        super().__init__()
        self.spec = spec
        width, edge = spec.width, spec.edge
        self.register_buffer("motions", torch.zeros(spec.capacity, spec.points, 3))
        self.register_buffer("ends", torch.zeros(spec.capacity, 4))
        self.register_buffer("kinds", torch.full((spec.capacity,), -1))
        self.register_buffer("digest", torch.zeros(32, dtype=torch.uint8))
        self.start = _mlp(FEATURES["node"], width, width)
        self.edges = nn.ModuleDict(
            {name: _mlp(count, 64, edge) for name, count in FEATURES.items() if name != "node"}
        )
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "time": _Attention(spec, nodes=True),
                    "map": _Attention(spec, nodes=False),
                    "agent": _Attention(spec, nodes=True),
                    "feed": nn.Sequential(nn.LayerNorm(width), _mlp(width, 3 * width, width)),
                }
            )
            for _ in range(spec.blocks)
        )
        self.norm, self.free = nn.LayerNorm(width), nn.Linear(width, spec.capacity)
        self.bump = nn.Linear(width, 8)
        for zero in (self.free.weight, self.free.bias, self.bump.weight, self.bump.bias):
            nn.init.zeros_(zero)

    @property
    def used(self) -> int:
        """Motions there are; they come first."""
        return int((self.kinds >= 0).sum())

    def forward(
        self,
        rows: TokenRows,
        past: Float[Tensor, "row block past edge"] | None = None,
        *,
        learn_codes: bool = True,
    ) -> tuple[Float[Tensor, "row motion"], Float[Tensor, "row block edge"]]:
        """Logits of the next motion, -inf for other classes; and what later rows of the same agents will ask of these.

        Args:
            rows: All rows of some times, or of whole sequences.
            past: What earlier calls returned for the earlier rows of each row's agent, the latest first; None where these
                are among `rows` (`time_row`).
            learn_codes: Whether gradients reach what codes agents and edges.
        """
        x = self.start(rows.node)
        code: dict[str, Any] = {name: coder(getattr(rows, name)) for name, coder in self.edges.items()}
        if not learn_codes:
            x, code = x.detach(), {name: value.detach() for name, value in code.items()}
        ground = torch.cat([code["map"], code["light"]], 1)
        ground_there = torch.cat([rows.map_there, rows.light_there], 1)
        kept = []
        for k, block in enumerate(self.blocks):
            assert isinstance(block, nn.ModuleDict)
            parts: Any = dict(block.items())
            time, agent = parts["time"], parts["agent"]
            normed = time.norm(x)
            kept.append(time.nodes(normed))
            before = kept[-1][rows.time_row] if past is None else past[:, k]
            x = time(x, normed, code["time"] + before, rows.time_there)
            x = parts["map"](x, parts["map"].norm(x), ground, ground_there)
            normed = agent.norm(x)
            x = agent(x, normed, code["agent"] + agent.nodes(normed)[rows.agent_row], rows.agent_there)
            x = x + parts["feed"](x)
        return self._head(self.norm(x), rows), torch.stack(kept, 1)

    def _head(self, x: Tensor, rows: TokenRows) -> Tensor:
        used = self.used
        ends, kinds = self.ends[:used], self.kinds[:used]
        shift, sharp = self.bump(x).chunk(2, -1)
        sharp = torch.exp(sharp.clamp(-4.0, 4.0) + 2.0)
        bump = 2 * (sharp * (rows.last + shift)) @ ends.T - sharp @ (ends**2).T
        logits = nn.functional.linear(x, self.free.weight[:used], self.free.bias[:used]) + bump
        return logits.masked_fill(kinds != rows.kind[:, None], -torch.inf)
