"""Recorded or generated traffic as batches to learn a token model from."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor, nn

from countersteer.data.sources import ScenarioSource
from countersteer.errors import UserError
from countersteer.models.token_network import TokenNetwork
from countersteer.ranges import Count, Range, Ranged, Share
from countersteer.scenarios.road_pieces import pieces_of
from countersteer.scenarios.scenario import Scenario
from countersteer.storage import serialise
from countersteer.tensors import TensorTree
from countersteer.traffic.interface import RoadPieces
from countersteer.traffic.tokens.frames import CLASS_BOX, ends_of
from countersteer.traffic.tokens.surroundings import Scene
from countersteer.traffic.tokens.vocabulary import (
    TOKEN_SECONDS,
    GridVocabulary,
    Vocabulary,
    VocabularySpec,
    mirrored,
    segments_of,
)

__all__ = ["TrafficBatch", "TrafficWindows", "give_vocabulary"]

_RATE = 10  # poses a second
_STRIDE = round(TOKEN_SECONDS * _RATE)
_SEGMENTS = 400_000  # of a class, at most, make the vocabulary
_TRIES = 200


@dataclass(frozen=True)
class TrafficBatch(TensorTree):
    """Windows of traffic at the times of tokens; before the first is what lay half a second earlier.

    Attributes:
        pose: Box centres x, y [m], heading [rad].
        seen: Whether they were recorded; poses before the first one are extrapolated.
        scene: Sizes, kinds, lights.
        roads: A map for each window.
        number: Uniform random numbers in [0, 1), for objectives that draw.
    """

    pose: Float[Tensor, "window actor time 3"]
    seen: Bool[Tensor, "window actor time"]
    scene: Scene
    roads: RoadPieces
    number: Float[Tensor, "window actor time"]


@dataclass(frozen=True)
class _Recorded:
    """One scenario at 10 Hz; of each actor only the time in which it was seen."""

    first: Int[ndarray, "actor"]
    poses: list[Float[ndarray, "_ 3"]]
    valid: list[Bool[ndarray, "_"]]
    size: Float[ndarray, "actor 3"]
    kind: Int[ndarray, "actor"]
    pieces: Float[ndarray, "piece 9"]
    stop: Float[ndarray, "light 3"]
    light: Int[ndarray, "light time"]
    ticks: int


@dataclass(frozen=True)
class TrafficWindows(Ranged):
    """Windows of 9 s of scenarios; a `DataSpec`. A recording counts by how much was seen in it.

    Attributes:
        scenarios: Where they come from; scenarios shorter than a window are left out.
        windows: In a batch.
        actors: Most in a window; those nearest to one of them at random.
        steps: Tokens of a window.
        mirror: Share of the windows that have left and right exchanged.
        vocabulary: How motions are made of what was recorded.
    """

    scenarios: ScenarioSource
    windows: Count = 6
    actors: Count = 48
    steps: Annotated[int, Range("[2, 200]")] = 16
    mirror: Share = 0.0
    vocabulary: VocabularySpec = GridVocabulary()

    def fingerprint(self) -> str:
        """See `DataSpec`."""
        _, prints = _recorded(self.scenarios)
        return serialise.fingerprint((self, prints))

    def prepare(self, model: nn.Module) -> None:
        """Give a network its vocabulary."""
        assert isinstance(model, TokenNetwork)
        give_vocabulary(model, self.vocabulary.build(self.segments(), model.spec.capacity))

    def segments(self) -> dict[int, Float[Tensor, "segment point 3"]]:
        """Recorded motions by class."""
        found: dict[int, list[Tensor]] = {kind: [] for kind in range(len(CLASS_BOX))}
        recorded, _ = _recorded(self.scenarios)
        steps = sum(len(poses) for one in recorded for poses in one.poses)
        every = max(2, steps // _SEGMENTS)
        for one in recorded:
            for poses, valid, kind in zip(one.poses, one.valid, one.kind.tolist(), strict=True):
                if kind in found:
                    tensors = torch.from_numpy(poses)[None], torch.from_numpy(valid)[None]
                    found[kind].append(segments_of(*tensors, every=every))
        return {kind: torch.cat(each) for kind, each in found.items() if each}

    def batch(self, seed: int, step: int, /) -> TrafficBatch:
        """See `DataSpec`."""
        rng = np.random.default_rng([seed, step, 20])
        recorded, _ = _recorded(self.scenarios)
        long = (self.steps + 1) * _STRIDE + 1
        usable = [one for one in recorded if one.ticks > long]
        if not usable:
            raise UserError(
                "no scenario is long enough to learn traffic from",
                got=f"at most {max(one.ticks for one in recorded) / _RATE:.1f} s",
                expected=f"more than {long / _RATE:.1f} s",
                fix="give longer recordings, or lower `steps`",
            )
        weight = np.array([sum(len(poses) for poses in one.poses) for one in usable], float)
        windows: list[tuple[ndarray, ...]] = []
        chosen: list[tuple[_Recorded, int, bool]] = []
        for _ in range(_TRIES * self.windows):
            if len(windows) == self.windows:
                break
            one = usable[rng.choice(len(usable), p=weight / weight.sum())]
            start = int(rng.integers(0, one.ticks - long))
            window = _window(one, start + _STRIDE * np.arange(self.steps + 2), self.actors, rng)
            if window is not None:
                windows.append(window)
                chosen.append((one, start, bool(rng.random() < self.mirror)))
        if len(windows) < self.windows:
            raise UserError("there is hardly any traffic in the scenarios", got="windows without anybody")
        return self._packed(windows, chosen, rng)

    def _packed(
        self,
        windows: list[tuple[ndarray, ...]],
        chosen: list[tuple[_Recorded, int, bool]],
        rng: np.random.Generator,
    ) -> TrafficBatch:
        most = max(len(poses) for poses, *_ in windows)

        def padded(k: int) -> Tensor:
            return _padded([window[k] for window in windows])

        times = _STRIDE * np.arange(self.steps + 2)
        light = _padded([one.light[:, start + times] for one, start, _ in chosen])
        stop = _padded([one.stop for one, _, _ in chosen], fill=1e6)
        pieces = _padded([one.pieces for one, _, _ in chosen], fill=1e6).float()
        pose, flip = padded(0), torch.tensor([flipped for *_, flipped in chosen])
        place = torch.cat([pieces[..., :3], pieces[..., 5:6]], -1)  # the turn of a piece changes sides too
        flipping = flip[:, None, None]
        place = torch.where(flipping, place * torch.tensor([1.0, -1.0, -1.0, -1.0]), place)
        scene = Scene(
            size=padded(2),
            kind=padded(3).long(),
            place=torch.arange(len(windows)),
            stop_point=torch.where(flipping, mirrored(stop), stop)[..., :2].float(),
            stop_heading=torch.where(flipping, mirrored(stop), stop)[..., 2].float(),
            light=light.long(),
        )
        roads = RoadPieces(
            place[..., :3],
            torch.cat([pieces[..., 3:5], place[..., 3:], pieces[..., 6:]], -1),
            _padded([np.ones(len(one.pieces), bool) for one, _, _ in chosen]),
        )
        number = torch.from_numpy(rng.random((len(windows), most, self.steps + 2), np.float32))
        pose = torch.where(flipping[..., None], mirrored(pose), pose)
        return TrafficBatch(pose, padded(1), scene, roads, number)


def give_vocabulary(network: TokenNetwork, vocabulary: Vocabulary) -> None:
    """Write a vocabulary and its digest into a network."""
    count = len(vocabulary.kind)
    network.motions.zero_()[:count] = vocabulary.motion
    network.ends.zero_()[:count] = ends_of(vocabulary.motion[:, -1], vocabulary.kind)
    network.kinds.fill_(-1)[:count] = vocabulary.kind
    network.digest.copy_(torch.tensor(list(bytes.fromhex(vocabulary.digest())), dtype=torch.uint8))


def _padded(arrays: list[ndarray], fill: float = 0.0) -> Tensor:
    shape = [max(array.shape[d] for array in arrays) for d in range(arrays[0].ndim)]
    out = np.full((len(arrays), *shape), fill, arrays[0].dtype)
    for k, array in enumerate(arrays):
        out[(k, *(slice(0, n) for n in array.shape))] = array
    return torch.from_numpy(out)


def _window(
    one: _Recorded, ticks: Int[ndarray, "time"], most: int, rng: np.random.Generator
) -> tuple[ndarray, ...] | None:
    """Poses, seen, sizes and kinds of who is in a window; None if nobody is at its second time."""
    rows = []
    for k, first in enumerate(one.first.tolist()):
        at = ticks - first
        if at[-1] < 0 or at[0] >= len(one.poses[k]):
            continue
        inside = (at >= 0) & (at < len(one.poses[k]))
        clipped = np.clip(at, 0, len(one.poses[k]) - 1)
        seen = inside & one.valid[k][clipped]
        if not seen[1:].any():
            continue
        pose = one.poses[k][clipped].copy()
        for t in np.flatnonzero(seen[1:] & ~seen[:-1]):  # it came straight on
            following = min(int(clipped[t + 1]) + 1, len(one.poses[k]) - 1)
            step = one.poses[k][following, :2] - one.poses[k][clipped[t + 1], :2]
            pose[t] = pose[t + 1]
            pose[t, :2] -= _STRIDE * step
        rows.append((pose, seen, one.size[k], one.kind[k]))
    if not rows:
        return None
    if len(rows) > most:
        middle = rows[rng.integers(len(rows))]
        gaps = [np.linalg.norm(row[0][:, :2] - middle[0][:, :2], axis=1).min() for row in rows]
        rows = [rows[k] for k in np.sort(np.argsort(gaps, kind="stable")[:most])]
    return tuple(np.stack(each) for each in zip(*rows, strict=True))


@functools.lru_cache(maxsize=4)
def _recorded(source: ScenarioSource) -> tuple[list[_Recorded], tuple[str, ...]]:
    """What is learned from, and what the scenarios are."""
    recorded, prints = [], []
    for scenario in source.load():
        prints.append(scenario.fingerprint())
        recorded.append(_of_scenario(scenario))
    return recorded, tuple(prints)


def _of_scenario(scenario: Scenario) -> _Recorded:
    tracks, times = scenario.tracks, np.arange(int(scenario.duration * _RATE + 1e-6) + 1) / _RATE
    nearest = np.clip(np.searchsorted(scenario.times, times - 0.5 / _RATE), 0, len(scenario.times) - 1)
    first, poses, valid, kept = [], [], [], []
    for k, there in enumerate(tracks.valid):
        known = np.flatnonzero(there)
        if len(known) < 2:
            continue
        position, heading = tracks.position[k, known, :2].astype(float), np.unwrap(tracks.heading[k, known])
        own = np.flatnonzero(
            (times >= scenario.times[known[0]] - 1e-6) & (times <= scenario.times[known[-1]] + 1e-6)
        )
        if len(own) < 2:
            continue
        at = scenario.times[known]
        columns = (position[:, 0], position[:, 1], heading)
        poses.append(np.stack([np.interp(times[own], at, each) for each in columns], -1).astype(np.float32))
        valid.append(there[nearest[own]])
        first.append(own[0])
        kept.append(k)
    signals = scenario.signals
    stop = np.concatenate([signals.stop_point[:, :2], signals.heading[:, None]], 1)
    return _Recorded(
        np.array(first, np.int64),
        poses,
        valid,
        tracks.size[kept].astype(np.float32),
        tracks.kind[kept].astype(np.int64),
        pieces_of(scenario.road).astype(np.float32),
        stop,
        signals.state[:, nearest].astype(np.int64),
        len(times),
    )
