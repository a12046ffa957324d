"""Vocabularies of motions of half a second: by cells of a mirrored grid, and by disks.

*Grid* (TrajTok, arXiv 2506.21618): recorded motions and their mirror images are sorted into cells over where they end;
each cell's mean is a motion. With little data this is better than disks, which leave holes: empty cells among full ones
are filled. *Disks* (k-disks of SMART and Trajeglish, arXiv 2312.04535): pick a recorded motion at random, take the mean of
all within 5 cm, remove them, repeat.
"""

from __future__ import annotations

import abc
import hashlib
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from countersteer.errors import UserError
from countersteer.ranges import Count, Positive, Range, Ranged, Seed
from countersteer.tensors import TensorTree
from countersteer.traffic.tokens.frames import CLASS_BOX, ends_of, relative, squared_distance

__all__ = [
    "DiskVocabulary",
    "GridVocabulary",
    "POINTS",
    "TOKEN_SECONDS",
    "Vocabulary",
    "VocabularySpec",
    "mirrored",
    "segments_of",
]

TOKEN_SECONDS = 0.5
"""Length of a motion [s]."""
POINTS = 5
"""Poses of a motion, at 10 Hz; the last is its end."""
_FASTEST = 40.0  # of a recorded motion that counts [m/s]
_SHARPEST = 1.5  # turn within it; more is a heading that flipped [rad]


@dataclass(frozen=True)
class Vocabulary(TensorTree):
    """Motions, those of vehicles first, then of pedestrians, then of cyclists; a class's first one is to stay.

    Attributes:
        motion: Poses at 10 Hz in the frame of the beginning [m, rad].
        kind: Class, `ActorKind` 0 to 2.
    """

    motion: Float[Tensor, "motion point 3"]
    kind: Int[Tensor, "motion"]

    def digest(self) -> str:
        """SHA-256 of all motions and classes."""
        content = self.motion.cpu().to(torch.float32).contiguous().numpy().tobytes()
        return hashlib.sha256(content + self.kind.cpu().to(torch.uint8).numpy().tobytes()).hexdigest()

    def error(self, segments: Float[Tensor, "segment point 3"], kind: int) -> Float[Tensor, "segment"]:
        """Distance of each recorded motion to the nearest of its class: root mean square over the box's corners [m]."""
        ends = ends_of(self.motion[:, -1], self.kind)
        parts = [
            squared_distance(ends, self.kind, part[:, -1], torch.full((len(part),), kind)).min(-1).values
            for part in segments.split(4000)
        ]
        return torch.cat(parts).sqrt() if parts else segments.new_zeros(0)


def mirrored(motion: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Motions with left and right exchanged."""
    return motion * motion.new_tensor([1.0, -1.0, -1.0])


def segments_of(
    pose: Float[Tensor, "actor time 3"], valid: Tensor, every: int = 1
) -> Float[Tensor, "segment point 3"]:
    """Recorded motions of half a second at 10 Hz that were seen throughout, in the frame of their beginning.

    Args:
        pose: Recorded at 10 Hz.
        valid: Whether it was.
        every: Take one in so many.
    """
    if pose.shape[1] <= POINTS:
        return pose.new_zeros(0, POINTS, 3)
    whole, seen = pose.unfold(1, POINTS + 1, 1).transpose(-1, -2), valid.unfold(1, POINTS + 1, 1).all(-1)
    chosen = whole[seen][::every]
    motion = relative(chosen[:, 1:], chosen[:, :1])
    far = motion[..., :2].norm(dim=-1).amax(-1) > _FASTEST * TOKEN_SECONDS
    return motion[~far & (motion[..., 2].abs().amax(-1) < _SHARPEST)]


class VocabularySpec(Ranged, abc.ABC):
    """How a vocabulary is made of recorded motions."""

    @abc.abstractmethod
    def motions(
        self, segments: Float[Tensor, "segment point 3"], kind: int
    ) -> Float[Tensor, "motion point 3"]:
        """Of one class of road users, without the one to stay."""

    def build(self, segments: dict[int, Float[Tensor, "segment point 3"]], capacity: int) -> Vocabulary:
        """The vocabulary of recorded motions by class.

        Raises:
            UserError: There is no motion, or there are more than `capacity`.
        """
        motion, kind = [], []
        for each in range(len(CLASS_BOX)):
            if not len(segments.get(each, ())):
                continue
            found = self.motions(segments[each], each)
            motion += [found.new_zeros(1, POINTS, 3), found]
            kind += [each] * (1 + len(found))
        if not motion or len(kind) > capacity:
            raise UserError(
                "the recorded motions make no vocabulary",
                got=f"{len(kind)} motions",
                expected=f"1 to {capacity}, the capacity of the network",
                fix="give more recordings; or larger cells, or a network of a larger `capacity`",
            )
        return Vocabulary(torch.cat(motion), torch.tensor(kind))


@dataclass(frozen=True)
class GridVocabulary(VocabularySpec):
    """Means of the cells of a grid over where recorded motions and their mirror images end.

    Cells are over the distance forward and, for vehicles and cyclists, the turn; for pedestrians, who walk sideways too,
    over the distance forward and to the left.

    Attributes:
        forward: Size of a cell forward [m].
        turn: Size of a cell of turn [rad].
        walk: Size of both sides of a pedestrian's cell [m].
        least: Recorded motions, mirrored ones among them, that a cell must have.
        filled: A cell with fewer is filled if at least so many of its 8 neighbours have enough.
    """

    forward: Positive = 0.15
    turn: Positive = 0.03
    walk: Positive = 0.08
    least: Count = 2
    filled: Annotated[int, Range("[1, 8]")] = 6

    def motions(
        self, segments: Float[Tensor, "segment point 3"], kind: int
    ) -> Float[Tensor, "motion point 3"]:
        """See `VocabularySpec`. Exactly symmetric: the mirror image of every motion is one."""
        axis, size = (1, (self.walk, self.walk)) if kind == 1 else (2, (self.forward, self.turn))
        ends = segments[:, -1][:, [0, axis]] / torch.tensor(size)
        # All to the left: the mirror images then make the right half, to the bit.
        left = torch.where((ends[:, 1] < 0)[:, None, None], mirrored(segments), segments)
        cell = torch.stack([ends[:, 0].round(), ends[:, 1].abs().round()], -1).long()
        low, high = cell.amin(0), cell.amax(0)
        low = torch.tensor([int(low[0]), 0])
        shape = (high - low + 1).tolist()
        flat = (cell[:, 0] - low[0]) * shape[1] + cell[:, 1]
        count = torch.zeros(shape[0] * shape[1]).index_add_(0, flat, torch.ones(len(flat)))
        total = torch.zeros(len(count), POINTS, 3).index_add_(0, flat, left)
        mean = (total / count.clamp(min=1)[:, None, None]).view(*shape, POINTS, 3)
        full = count.view(*shape) * torch.where(torch.arange(shape[1]) == 0, 2, 1) >= self.least
        mean, full = self._fill(mean, full, low, torch.tensor(size), axis)
        straight = (mean[:, 0] + mirrored(mean[:, 0])) / 2  # a cell across the axis is its own mirror image
        sides = mean[:, 1:][full[:, 1:]]
        return torch.cat([straight[full[:, 0]], sides, mirrored(sides)])

    def _fill(
        self, mean: Tensor, full: Tensor, low: Tensor, size: Tensor, axis: int
    ) -> tuple[Tensor, Tensor]:
        """Cells among full ones get the mean of their neighbours, bent to end in their own middle."""
        # One row beyond the axis is the mirror image of the first beside it.
        wide = torch.cat([mirrored(mean[:, 1:2]), mean], 1)
        known = torch.cat([full[:, 1:2], full], 1)

        def around(values: Tensor) -> Tensor:
            padded = torch.nn.functional.pad(values.movedim((0, 1), (-2, -1)), (1, 1, 1, 1))
            rows, columns = values.shape[:2]
            shifts = [(a, b) for a in range(3) for b in range(3) if (a, b) != (1, 1)]
            summed = sum(padded[..., a : a + rows, b : b + columns] for a, b in shifts)
            assert isinstance(summed, Tensor)
            return summed.movedim((-2, -1), (0, 1))[:, wide.shape[1] - mean.shape[1] :]

        near = around(known.float())
        there = known[..., None, None].float()
        filling = around(wide * there) / near.clamp(min=1)[..., None, None]
        row, column = torch.meshgrid(*(torch.arange(n) for n in mean.shape[:2]), indexing="ij")
        middle = torch.stack([row + low[0], column], -1) * size
        bend = (
            torch.linspace(1 / POINTS, 1, POINTS)[:, None]
            * (middle - filling[..., -1, [0, axis]])[..., None, :]
        )
        filling = filling.clone()
        filling[..., [0, axis]] += bend
        added = ~full & (near >= self.filled)
        return torch.where(added[..., None, None], filling, mean), full | added


@dataclass(frozen=True)
class DiskVocabulary(VocabularySpec):
    """k-disks: the mean of all recorded motions within a distance of one picked at random, again and again.

    Attributes:
        count: Motions of each class, fewer where recorded ones run out.
        radius: Largest distance of the box's corners at the end [m], root mean square.
        seed: Of the picks; it matters.
    """

    count: Count = 512
    radius: Positive = 0.05
    seed: Seed = 0

    def motions(
        self, segments: Float[Tensor, "segment point 3"], kind: int
    ) -> Float[Tensor, "motion point 3"]:
        """See `VocabularySpec`."""
        generator = torch.Generator().manual_seed(self.seed)
        left, found = segments, []
        place = ends_of(left[:, -1], torch.full((len(left),), kind))
        zero = ends_of(torch.zeros(1, 3), torch.tensor([kind]))
        keep = (place - zero).norm(dim=-1) > self.radius  # the motion to stay is there already
        for _ in range(self.count):
            left, place = left[keep], place[keep]
            if not len(left):
                break
            pick = int(torch.randint(len(left), (1,), generator=generator))
            keep = (place - place[pick]).norm(dim=-1) > self.radius
            found.append(left[~keep].mean(0))
        return torch.stack(found) if found else segments[:0]
