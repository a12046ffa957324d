"""A stand-in for real cameras: pictures that differ from drawn ones as a recording would, by a known amount.

Where recordings are few, what perception adaptation wins can be measured in such a world and nowhere else, because it
can be driven in. The differences are of the kinds that separate simulators from cameras: surfaces with texture, other
light (exposure, tone, tint, haze, vignette), blur and noise. What is drawn underneath, and what is to be done, stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from countersteer import noise
from countersteer.ranges import Range, Ranged, Share
from countersteer.worlds.renderers.boxes import Views

__all__ = ["CameraDomainShift"]

_WAVES = 4
_LENGTHS = (0.15, 3.0)  # of the waves that a texture adds up from [m]
_HAZE = 60.0  # distance that takes away 1 - 1/e of the contrast, at full `light` [m]
_SKY = 150.0  # grey of the haze, and distance at which the sky counts [m]


@dataclass(frozen=True)
class CameraDomainShift(Ranged):
    """How far pictures differ from drawn ones; every drive draws its own differences. All 0 changes nothing.

    Attributes:
        texture: Contrast of a pattern on every surface, fixed to the road.
        light: Strength of exposure, tone, tint, haze and vignette.
        blur: Share of a 3x3 binomial filter, applied twice.
        noise: Largest standard deviation of the sensor's noise [grey levels].

    Raises:
        UserError: A value is outside its range.
    """

    texture: Share = 0.6
    light: Share = 1.0
    blur: Share = 1.0
    noise: Annotated[float, Range("[0, 64]")] = 16.0

    def recorded(
        self,
        rgb: UInt8[Tensor, "image height width 3"],
        depth: Float[Tensor, "image height width"],
        views: Views,
        drive: Int[Tensor, "image"],
        tick: Int[Tensor, "image"],
        seed: int,
    ) -> UInt8[Tensor, "image height width 3"]:
        """The pictures as this camera would have recorded them.

        Args:
            rgb, depth: What was drawn; depth along the optical axis [m], infinite for the sky.
            views: From where.
            drive, tick: Of each picture; differences are those of the drive, noise is new at every tick.
            seed: Of all randomness.
        """
        drawn = noise.uniform(seed, drive, torch.zeros_like(drive), "gap", 8)
        gain, tone, red, blue, haze, vignette, soft, grain = (drawn[:, k, None, None, None] for k in range(8))
        picture = rgb.float()
        if self.texture > 0.0:
            pattern = _pattern(depth, views, drive, seed)
            picture = picture * (1.0 + self.texture * pattern[..., None])
        if self.light > 0.0:
            light = self.light
            veil = light * (0.4 + 0.6 * haze) * -torch.expm1(-depth.clamp(max=_SKY) / _HAZE)[..., None]
            picture = picture + veil * (_SKY - picture)
            tint = torch.cat([0.8 + 0.4 * red, torch.ones_like(red), 0.8 + 0.4 * blue], -1)
            picture = picture * (1.0 + light * (tint * (0.7 + 0.5 * gain) - 1.0))
            across, down = _offsets(views, rgb.device)
            far = (across**2 + (down * views.height / views.width) ** 2)[..., None]
            picture = picture * (1.0 - light * 0.5 * vignette * far)
            # A power of each level, looked up: it is the dearest function of all.
            levels = torch.linspace(0.0, 1.0, 256, device=rgb.device)
            curve = 255.0 * levels ** (1.0 + light * (0.9 * tone[:, 0, 0] - 0.2))
            level = picture.round().clamp(0.0, 255.0).long()
            picture = curve.gather(1, level.flatten(1)).view_as(picture)
        if self.blur > 0.0:
            share = self.blur * (0.5 + 0.5 * soft)
            for _ in range(2):
                picture = torch.lerp(picture, _binomial(picture), share)
        if self.noise > 0.0:
            height, width = rgb.shape[1:3]
            # Of brightness; uniform numbers of unit variance are as good as normal ones here and cost half.
            each = noise.uniform(seed, drive, tick, "gap-noise", height * width)
            each = (each - 0.5) * math.sqrt(12.0)
            picture = picture + self.noise * (0.5 + 0.5 * grain) * each.reshape(-1, height, width, 1)
        return picture.round().clamp(0.0, 255.0).to(torch.uint8)


def _offsets(views: Views, device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns and rows of a picture from its middle, in halves of its width and height."""
    column = (torch.arange(views.width, device=device) + 0.5) * (2.0 / views.width) - 1.0
    row = (torch.arange(views.height, device=device) + 0.5) * (2.0 / views.height) - 1.0
    return column[None, :], row[:, None]


def _pattern(depth: Tensor, views: Views, drive: Tensor, seed: int) -> Float[Tensor, "image height width"]:
    """A pattern in [-1, 1] that is fixed to the world: waves of random direction, without those finer than a pixel."""
    across, down = _offsets(views, depth.device)
    focal = views.focal[:, None, None]
    seen = torch.isfinite(depth)
    z = torch.where(seen, depth, 0.0)
    x = across * (views.width / 2) / focal * z
    y = down * (views.height / 2) / focal * z
    rotation = views.rotation[:, :, :, None, None]
    place = rotation[:, :, 0] * x[:, None] + rotation[:, :, 1] * y[:, None] + rotation[:, :, 2] * z[:, None]
    place = place + views.position[:, :, None, None]

    numbers = noise.uniform(seed, drive, torch.zeros_like(drive), "gap-texture", 4 * _WAVES)
    low, high = (math.log(length) for length in _LENGTHS)
    total = torch.zeros_like(depth)
    for wave in numbers.unflatten(-1, (_WAVES, 4)).unbind(1):
        length = torch.exp(low + (high - low) * wave[:, 0])
        azimuth, climb = 2 * math.pi * wave[:, 1], math.asin(0.7) * (2 * wave[:, 2] - 1)
        direction = torch.stack([azimuth.cos() * climb.cos(), azimuth.sin() * climb.cos(), climb.sin()], -1)
        number = (2 * math.pi / length)[:, None, None]
        phase = number * (direction[..., None, None] * place).sum(1) + 2 * math.pi * wave[:, 3, None, None]
        total = total + phase.sin() * torch.exp(-0.5 * (number * z / focal) ** 2)
    return torch.where(seen, total / math.sqrt(_WAVES / 2), 0.0).clamp(-1.0, 1.0)


def _binomial(picture: Float[Tensor, "image height width 3"]) -> Float[Tensor, "image height width 3"]:
    """The weights 1, 2, 1 along rows and along columns; borders repeat."""
    for axis in (1, 2):
        size = picture.shape[axis]
        at = torch.arange(size, device=picture.device)
        before, after = (at - 1).clamp(min=0), (at + 1).clamp(max=size - 1)
        beside = picture.index_select(axis, before).add_(picture.index_select(axis, after))
        picture = beside.mul_(0.25).add_(picture, alpha=0.5)
    return picture
