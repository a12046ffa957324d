"""Learning which motion comes next: from recorded traffic as it was, or from where the model's own roll-out has got to.

*Plain.* Every half second the label is the recorded next pose, seen from where the road user is; the target is soft,
`p_k ~ exp(-d_k^2 / 2 s^2)` with d_k the distance of the box's corners after motion k to the recorded ones. The past that the
network sees is not the recorded one: it is made of motions drawn near it, step by step, as a roll-out would make it. With the recorded
past the network reads the future off its last decimals, and roll-outs are bad (measured: realism .58 against .75).

*Closest among top K* (CAT-K, Zhang et al., arXiv 2412.05334). The model rolls out; at each step every road user takes, of the
K motions that the model finds likeliest, the one that ends nearest to the recorded next pose. The label is the motion that would
best reach the recorded pose from there. As in the paper's code, not its text: where the recording has a gap the likeliest motion is taken;
and the codes of map, agents and edges stay as they were trained, only attention and head learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from countersteer.data.traffic_windows import TrafficBatch
from countersteer.models.token_network import TokenNetwork
from countersteer.objectives.interface import Loss, Losses
from countersteer.ranges import Count, NonNegative, Positive
from countersteer.traffic.tokens.frames import compose, relative, squared_distance
from countersteer.traffic.tokens.surroundings import PAST, look

__all__ = ["NextToken", "closest_among", "drawn_near"]

_HISTORY = 2
"""Tokens of a window that are always drawn near the recording; roll-outs begin after them."""


@dataclass(frozen=True)
class NextToken(Loss):
    """See the module.

    Attributes:
        closest: K of CAT-K; None for the recorded past.
        drift: How far from the recorded poses the past is drawn, s of exp(-d^2 / 2 s^2) [m].
        softness: s of the target [m]; 0: only the nearest motion counts.
        reach: There is no label where no motion ends so near to the recorded pose [m]: nobody could get back in one step.
        learn_codes: Whether the codes of agents and edges learn too; CAT-K keeps them.
    """

    closest: Count | None = None
    drift: NonNegative = 0.05
    softness: NonNegative = 0.04
    reach: Positive = 0.3
    learn_codes: bool = True

    def losses(self, models: Mapping[str, nn.Module], batch: TrafficBatch) -> Losses:
        """Cross entropy, mean over road users and times that have a label."""
        network = models["model"]
        assert isinstance(network, TokenNetwork)
        with torch.no_grad():
            pose, alive = drawn_near(network, batch, self.drift)
            if self.closest is not None:
                pose, alive = closest_among(network, batch, self.closest, pose)
        looked = look(pose, _tokens(alive), batch.scene, batch.roads, slice(1, -1))
        at, after = (looked.world, looked.actor), looked.time + 1
        squared = _squared(network, batch.pose[(*at, after)], pose[(*at, looked.time)], looked.rows.kind)
        best, label = squared.min(-1)
        counts = batch.seen[(*at, after)] & (best < self.reach**2)
        logits, _ = network(looked.rows, learn_codes=self.learn_codes)
        logits, squared, label = logits[counts], squared[counts], label[counts]
        logs = torch.log_softmax(logits, -1)
        named = logs.gather(1, label[:, None]).squeeze(1)
        if self.softness > 0.0:
            target = torch.softmax(-squared / (2 * self.softness**2), -1)
            loss = -(target * logs.masked_fill(target == 0.0, 0.0)).sum(-1)
        else:
            loss = -named
        moving = (relative(batch.pose[(*at, after)], pose[(*at, looked.time)])[:, 0] > 0.25)[counts]
        told = {
            "nll": -named.mean(),
            "nll_moving": -named[moving].mean() if bool(moving.any()) else named.new_zeros(()),
            "labels": counts.sum().float(),
            "labelled": counts.float().sum() / batch.seen[(*at, after)].sum().clamp(min=1),
            "distance": (pose - batch.pose)[batch.seen][:, :2].norm(dim=-1).mean(),
        }
        return Losses({"model": loss.mean()}, {name: value.detach() for name, value in told.items()})


def _tokens(alive: Bool[Tensor, "window actor time"]) -> Bool[Tensor, "window actor time"]:
    """Who is a token: who is there; what lies before the first time is only looked back at."""
    there = alive.clone()
    there[..., 0] = False
    return there


def _squared(
    network: TokenNetwork, logged: Tensor, pose: Tensor, kind: Tensor
) -> Float[Tensor, "row motion"]:
    used = network.used
    ends, kinds = network.ends[:used], network.kinds[:used]
    return squared_distance(ends, kinds, relative(logged, pose), kind.clamp(max=2))


def drawn_near(
    network: TokenNetwork, batch: TrafficBatch, drift: float
) -> tuple[Float[Tensor, "window actor time 3"], Bool[Tensor, "window actor time"]]:
    """The recorded poses as motions drawn near them would have it, one after another; and who is there.

    Args:
        network: With the vocabulary.
        batch: What was recorded.
        drift: See `NextToken`; 0 takes the nearest motion.
    """
    pose, seen, kind = batch.pose.clone(), batch.seen, batch.scene.kind
    moves = (kind < 3) & (network.kinds == kind[..., None]).any(-1)
    for time in range(1, pose.shape[2] - 1):
        go = seen[:, :, time] & seen[:, :, time + 1] & moves
        squared = _squared(network, pose[:, :, time + 1][go], pose[:, :, time][go], kind[go])
        share = torch.softmax(-squared / (2 * max(drift, 1e-4) ** 2), -1).cumsum(-1)
        motion = (share < (batch.number[:, :, time][go] * share[:, -1])[:, None]).sum(-1)
        motion = motion.clamp(max=squared.shape[1] - 1)
        pose[:, :, time + 1][go] = compose(pose[:, :, time][go], network.motions[motion, -1])
    return pose, seen


def closest_among(
    network: TokenNetwork, batch: TrafficBatch, count: int, past: Float[Tensor, "window actor time 3"]
) -> tuple[Float[Tensor, "window actor time 3"], Bool[Tensor, "window actor time"]]:
    """CAT-K: the roll-out that takes of the `count` likeliest motions the one that ends nearest to the recording.

    Args:
        network: That rolls out.
        batch: What was recorded.
        count: K.
        past: Poses whose first times the roll-out goes on from; those who come later begin as recorded.

    Returns:
        Poses, and who is there: who was recorded, or is so later again.
    """
    pose, kind = past.clone(), batch.scene.kind
    later = batch.seen.flip(-1).cumsum(-1).flip(-1) > 0
    alive = batch.seen.clone()
    windows, actors, times = batch.seen.shape
    spec = network.spec
    codes = pose.new_zeros(windows, actors, times, spec.blocks, spec.edge)
    back = torch.arange(1, PAST + 1, device=pose.device)
    for time in range(1, times - 1):
        looked = look(pose, _tokens(alive), batch.scene, batch.roads, slice(time, time + 1))
        at = looked.world, looked.actor
        before = codes[looked.world[:, None], looked.actor[:, None], (time - back).clamp(min=0)].transpose(
            1, 2
        )
        logits, codes[(*at, looked.time)] = network(looked.rows, before)
        alive[(*at, looked.time + 1)] |= later[(*at, looked.time + 1)] & (kind[at] < 3)
        go = alive[(*at, looked.time + 1)] & logits.isfinite().any(-1)
        if time < 1 + _HISTORY:
            go &= ~batch.seen[(*at, looked.time + 1)]  # the past lies near the recording
        row = tuple(each[go] for each in at)
        top = logits[go].topk(min(count, logits.shape[1])).indices
        squared = _squared(network, batch.pose[(*row, time + 1)], pose[(*row, time)], kind[row]).gather(
            1, top
        )
        squared = torch.where(logits[go].gather(1, top).isfinite(), squared, torch.inf)
        nearest = torch.where(batch.seen[(*row, time + 1)], squared.argmin(-1), 0)
        motion = top.gather(1, nearest[:, None]).squeeze(1)
        pose[(*row, time + 1)] = compose(pose[(*row, time)], network.motions[motion, -1])
    return pose, alive
