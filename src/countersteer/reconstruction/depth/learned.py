"""Depth from one picture by a small network that a recording teaches itself.

A depth is right if the frames before and after, looked up through it from where they were taken, look like this one
(Zhou et al. 2017). The poses are recorded, so depth is all there is to learn, and it is in metres. From Godard et al. 2019
(Monodepth2): SSIM and L1 at several sizes, for each pixel the better one of the two frames, nothing learned where a frame that
is not moved at all fits better (the sky, cars that drive along), depth smooth where the picture is.

The network does not begin from nothing: it says by how much the road lies higher or lower than expected, and what stands
on it. It also learns how badly a pixel fits, which is its confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional

from countersteer.data.cameras.log import CameraLog
from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.geometry.rigid import inverse as inverted
from countersteer.ranges import Budget, Count, NonNegative, Pixels, Positive, Ranged, Seed
from countersteer.reconstruction.depth.depth_map import DepthMap, grey, sky
from countersteer.reconstruction.depth.ground import GroundPlane, ground_of_log

__all__ = ["LearnedDepth", "LearningSettings", "learn_depth"]

_HALVINGS, _LEVELS = 4, 3
_ROAD = 0.15  # share by which the road may lie nearer or farther than expected
_LARGE = 10.0  # error of a pixel that was out of sight
_USUAL_ERROR = 0.15  # that halves (nearly) the confidence


@dataclass(frozen=True)
class LearningSettings(Ranged):
    """How depth is learned.

    Attributes:
        height: Of the pictures that the network sees [px], a multiple of 16; the width follows.
        steps: Gradient steps.
        batch: Frames a step.
        reach: Frames before and after that are looked up, at most so many away.
        shortest: Frames nearer than this teach nothing [m].
        nearest: Nothing that stands is nearer [m].
        channels: Width of the layers, the resolution halving at each.
        learning_rate: Peak of Adam's; it falls as a cosine.
        smoothness: Weight of smooth depth.
        seed: Of weights and of the order of frames.
    """

    height: Pixels = 64
    steps: Budget = 300
    batch: Count = 2
    reach: Count = 3
    shortest: NonNegative = 0.3
    nearest: Positive = 3.0
    channels: tuple[Count, ...] = (16, 32, 48, 64)
    learning_rate: Positive = 2e-3
    smoothness: NonNegative = 0.02
    seed: Seed = 0


class _Network(nn.Module):
    """From pictures [0, 1] and inverse depth of the expected road to inverse depth and the logarithm of the error."""

    def __init__(self, channels: tuple[int, ...], nearest: float):
        super().__init__()
        self.nearest = nearest
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        below, width = 4, channels[-1]
        for wide in channels:
            self.down.append(nn.Conv2d(below, wide, 3, 2, 1))
            below = wide
        for beside in (*channels[-2::-1], 4):
            narrow = max(beside, 12)
            self.up.append(nn.Conv2d(width + beside, narrow, 3, 1, 1))
            width = narrow
        self.answer = nn.Conv2d(12, 3, 3, 1, 1)

    def forward(
        self, picture: Float[Tensor, "n 3 height width"], road: Float[Tensor, "n 1 height width"]
    ) -> tuple[Float[Tensor, "n 1 height width"], Float[Tensor, "n 1 height width"]]:
        value = torch.cat([4.0 * (picture - 0.5), 10.0 * road], 1)
        levels = [value]
        for layer in self.down:
            levels.append(functional.elu(layer(levels[-1])))
        value = levels.pop()
        for layer in self.up:
            value = functional.interpolate(value, scale_factor=2.0, mode="nearest")
            value = functional.elu(layer(torch.cat([value, levels.pop()], 1)))
        higher, standing, error = self.answer(value).split(1, 1)
        # At first everything stands some 40 m away.
        inverse = (
            road.clamp(min=0.0) * (1.0 + _ROAD * higher.tanh()) + (standing - 2.5).sigmoid() / self.nearest
        )
        return inverse, 2.0 * error.tanh() - 2.0


@dataclass(frozen=True)
class LearnedDepth:
    """What `learn_depth` made.

    Attributes:
        network: Its weights.
        width, height: What it sees [px].
    """

    network: nn.Module
    width: int
    height: int

    @torch.no_grad()
    def __call__(
        self, picture: UInt8[ndarray, "height width 3"], camera: Intrinsics, ground: GroundPlane
    ) -> DepthMap:
        """Depth of a picture of the recording, or of another by the same camera.

        Args:
            picture: RGB.
            camera: Calibration.
            ground: The expected road.
        """
        road = ground.inverse_depth(camera.resized(self.width, self.height))
        seen = _small(picture, self.width, self.height)[None].float() / 255
        inverse, error = self.network(seen, torch.from_numpy(road)[None, None])
        confidence = torch.exp(-error.exp() / _USUAL_ERROR)
        found = DepthMap(inverse[0, 0].numpy(), confidence[0, 0].numpy()).resized(camera.width, camera.height)
        heaven = sky(grey(picture), ground.inverse_depth(camera))
        found.inverse[heaven], found.confidence[heaven] = 0.0, 1.0
        return found


def learn_depth(log: CameraLog, camera: str, settings: LearningSettings = LearningSettings()) -> LearnedDepth:
    """Teach a network the depth of a recording; minutes on one core, the same for the same seed.

    Args:
        log: With poses, its lenses without distortion (`CameraLog.pinhole`).
        camera: Name of a calibrated camera.
        settings: How.

    Raises:
        UserError: No calibration or poses, or the car never moves far enough from frame to frame.
    """
    recorded = log.camera(camera)
    whole = recorded.calibrated()
    poses = log.world_from_camera(camera)
    height = settings.height
    width = max(round(whole.width * height / whole.height / 2**_HALVINGS), 1) * 2**_HALVINGS
    small = whole.resized(width, height)
    pairs = _neighbours(poses, settings)
    if not pairs:
        raise UserError(
            f"{log.provenance.path}: there is nothing to learn depth from",
            got=f"{len(poses)} frames, none with others more than {settings.shortest:g} m before and behind it",
            expected="a recording of a car that drives",
            fix="choose another source of depth",
        )

    @lru_cache(maxsize=1024)
    def look(number: int) -> Tensor:
        return _small(recorded.frames[number], width, height)

    @lru_cache(maxsize=1024)
    def road(number: int) -> Tensor:
        return torch.from_numpy(ground_of_log(log, camera, number).inverse_depth(small))[None]

    matrix = torch.from_numpy(small.matrix).float()
    # Weights are drawn as everywhere, and the caller's random numbers go on as they were.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = _Network(settings.channels, settings.nearest)
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    drawn = np.random.default_rng(settings.seed)
    frames = sorted(pairs)
    for _ in range(settings.steps):
        here = [frames[k] for k in drawn.integers(len(frames), size=settings.batch)]
        sides = [[int(drawn.choice(side)) for side in pairs[number]] for number in here]
        picture = torch.stack([look(number) for number in here]).float() / 255
        inverse, error = network(picture, torch.stack([road(number) for number in here]))
        others = []
        for which in range(2):
            there = [side[which] for side in sides]
            other = torch.stack([look(number) for number in there]).float() / 255
            others.append((other, torch.from_numpy(inverted(poses[there]) @ poses[here]).float()))
        loss = settings.smoothness * _rough(inverse, picture)
        for level in range(_LEVELS):
            miss, counts = _misfit(picture, inverse, others, matrix, level)
            loss = loss + miss[counts].sum() / counts.numel() / _LEVELS
            if level == 0:
                surprise = (miss.detach() * (-error).exp() + error)[counts]
                loss = loss + 0.05 * surprise.sum() / counts.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return LearnedDepth(network.eval().requires_grad_(False), width, height)


def _neighbours(
    poses: Float[ndarray, "frame 4 4"], settings: LearningSettings
) -> dict[int, tuple[list[int], list[int]]]:
    """For each frame that can teach: frames before, and frames after it."""
    found = {}
    for number in range(len(poses)):
        sides = []
        for sign in (-1, 1):
            near = [number + sign * k for k in range(1, settings.reach + 1)]
            near = [k for k in near if 0 <= k < len(poses)]
            apart = np.linalg.norm(poses[near, :3, 3] - poses[number, :3, 3], axis=1)
            sides.append([k for k, far in zip(near, apart, strict=True) if far >= settings.shortest])
        if all(sides):
            found[number] = (sides[0], sides[1])
    return found


def _small(picture: UInt8[ndarray, "h w 3"], width: int, height: int) -> UInt8[Tensor, "3 height width"]:
    import cv2

    return torch.from_numpy(
        cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).transpose(2, 0, 1).copy()
    )


def _misfit(
    picture: Float[Tensor, "n 3 height width"],
    inverse: Float[Tensor, "n 1 height width"],
    others: Sequence[tuple[Tensor, Tensor]],
    matrix: Float[Tensor, "3 3"],
    level: int,
) -> tuple[Tensor, Tensor]:
    """How unlike the better one of the others looks through a depth, after so many halvings, and where that counts.

    Small pictures show where to go from far off: nearby things move by many pixels from frame to frame.
    """
    share = 2**level
    scaled = matrix / torch.tensor([[share], [share], [1.0]])
    picture, inverse = (functional.avg_pool2d(value, share) for value in (picture, inverse))
    fits, still = [], []
    for other, there_from_here in others:
        other = functional.avg_pool2d(other, share)
        seen, inside = _looked_up(other, inverse, scaled, there_from_here)
        fits.append(torch.where(inside, _unlike(seen, picture), _LARGE))
        still.append(_unlike(other, picture))
    best = torch.minimum(*fits)
    return best, (best < torch.minimum(*still)) & (best < _LARGE)


def _looked_up(
    other: Float[Tensor, "n 3 height width"],
    inverse: Float[Tensor, "n 1 height width"],
    matrix: Float[Tensor, "3 3"],
    there_from_here: Float[Tensor, "n 4 4"],
) -> tuple[Float[Tensor, "n 3 height width"], Tensor]:
    """The other frame as seen from here through a depth, and where it has such a pixel."""
    height, width = inverse.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixel = torch.stack([columns, rows, torch.ones_like(rows)]).reshape(3, -1)
    turned = matrix @ there_from_here[:, :3, :3] @ matrix.inverse() @ pixel
    place = turned + (matrix @ there_from_here[:, :3, 3:]) * inverse.flatten(2)
    ahead = place[:, 2:] > 1e-3
    at = 2.0 * place[:, :2] / place[:, 2:].clamp(min=1e-3) / torch.tensor([[width], [height]]) - 1.0
    inside = (ahead & (at.abs() < 1.0).all(1, keepdim=True)).reshape(inverse.shape)
    grid = at.clamp(-2.0, 2.0).transpose(1, 2).reshape(-1, height, width, 2)
    return functional.grid_sample(other, grid, padding_mode="border", align_corners=False), inside


def _unlike(
    a: Float[Tensor, "n 3 height width"], b: Float[Tensor, "n 3 height width"]
) -> Float[Tensor, "n 1 height width"]:
    """0.85 (1 - SSIM) / 2 + 0.15 L1, over windows of 3 pixels."""

    def mean(value: Tensor) -> Tensor:
        return functional.avg_pool2d(functional.pad(value, (1, 1, 1, 1), mode="reflect"), 3, 1)

    at, bt = mean(a), mean(b)
    spread = mean(a * a) - at**2 + mean(b * b) - bt**2
    shared = mean(a * b) - at * bt
    same = (2 * at * bt + 1e-4) * (2 * shared + 9e-4) / ((at**2 + bt**2 + 1e-4) * (spread + 9e-4))
    return (0.85 * ((1 - same) / 2).clamp(0.0, 1.0) + 0.15 * (a - b).abs()).mean(1, keepdim=True)


def _rough(inverse: Float[Tensor, "n 1 height width"], picture: Float[Tensor, "n 3 height width"]) -> Tensor:
    """How much inverse depth, over its mean, bends where the picture is smooth; planes are affine in it and cost nothing."""
    inverse = inverse / inverse.mean((2, 3), keepdim=True)
    total = inverse.new_zeros(())
    for axis in (2, 3):
        bend = inverse.diff(n=2, dim=axis).abs()
        edge = picture.diff(n=2, dim=axis).abs().mean(1, keepdim=True)
        total = total + (bend * (-10 * edge).exp()).mean()
    return total
