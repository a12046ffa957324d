"""What things look like: palettes, light and texture, for each world, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from countersteer.errors import UserError
from countersteer.ranges import NonNegative, Range, Ranged, Share
from countersteer.tensors import TensorTree, constant

__all__ = [
    "APPEARANCE_NUMBERS",
    "Appearance",
    "AppearanceRandomization",
    "Colour",
    "default_appearance",
    "looks_of",
    "random_appearance",
]


@dataclass(frozen=True)
class AppearanceRandomization(Ranged):
    """How much drives differ in looks; all zero is the same look for every drive.

    Attributes:
        colours: Share of the full range of palettes, light and texture.
        camera_angle: Mounting error of the cameras, uniform in +- [rad].
        camera_height: Mounting error, uniform in +- [m].
    """

    colours: Share = 0.6
    camera_angle: Annotated[float, Range("[0, 1]")] = 0.002
    camera_height: NonNegative = 0.03


class Colour(IntEnum):
    """Rows of `Appearance.colours` that boxes name; 0 to 7 are body paints, clothes included."""

    BODY = 0
    STATIC = 8
    SIGNAL_OFF = 9
    SIGNAL_RED = 10
    SIGNAL_YELLOW = 11
    SIGNAL_GREEN = 12


_COLOURS = (
    (222, 224, 226),  # white
    (42, 45, 50),  # black
    (142, 147, 153),  # silver
    (170, 38, 36),  # red
    (40, 78, 150),  # blue
    (84, 90, 97),  # grey
    (196, 160, 62),  # ochre
    (46, 112, 92),  # green
    (232, 118, 34),  # static: cones and barriers
    (60, 62, 64),  # signal off
    (240, 52, 40),
    (250, 190, 40),
    (50, 215, 110),
)

APPEARANCE_NUMBERS = 48
"""Numbers that `random_appearance` takes for each world."""


@dataclass(frozen=True)
class Appearance(TensorTree):
    """The looks of each world. Colours are red, green, blue in [0, 255].

    Attributes:
        sky, horizon: Colour of the sky at the zenith and at the horizon, where haze ends too.
        terrain, road, white, yellow: Colours of the ground and of its paint.
        light: Unit vector towards the sun, world frame.
        ambient: Share of light that reaches faces turned away from the sun, in [0, 1].
        terrain_texture, road_texture: Relative amplitude of the texture, in [0, 1).
        texture_offset: Shift of the texture, in [0, 1) of its period.
        visibility: Distance at which haze covers half of the contrast [m], above 0.
        paint: Opacity of road paint, in [0, 1].
        colours: Colours of boxes, see `Colour`.
    """

    sky: Float[Tensor, "*world 3"]
    horizon: Float[Tensor, "*world 3"]
    terrain: Float[Tensor, "*world 3"]
    road: Float[Tensor, "*world 3"]
    white: Float[Tensor, "*world 3"]
    yellow: Float[Tensor, "*world 3"]
    light: Float[Tensor, "*world 3"]
    ambient: Float[Tensor, "*world"]
    terrain_texture: Float[Tensor, "*world"]
    road_texture: Float[Tensor, "*world"]
    texture_offset: Float[Tensor, "*world 2"]
    visibility: Float[Tensor, "*world"]
    paint: Float[Tensor, "*world"]
    colours: Float[Tensor, "*world colour 3"]


def looks_of(appearance: Appearance) -> Float[Tensor, "world 28"]:
    """All but the colours of boxes as one row of numbers for each world; `kernels` names the columns."""
    columns = [
        appearance.sky,
        appearance.horizon,
        appearance.terrain,
        appearance.road,
        appearance.white,
        appearance.yellow,
        appearance.light,
        appearance.ambient[:, None],
        appearance.terrain_texture[:, None],
        appearance.road_texture[:, None],
        appearance.texture_offset,
        appearance.visibility[:, None],
        appearance.paint[:, None],
    ]
    return torch.cat(columns, 1).float()


def _direction(azimuth: Tensor, elevation: Tensor) -> Tensor:
    flat = elevation.cos()
    return torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()], -1)


def default_appearance(worlds: int, device: torch.device | str = "cpu") -> Appearance:
    """One clear day for every world.

    Args:
        worlds: How many, at least 0.
        device: Where to.
    """

    def every(*values: float) -> Tensor:
        return constant(values, device).expand(worlds, -1).clone()

    return Appearance(
        sky=every(92.0, 146.0, 208.0),
        horizon=every(206.0, 220.0, 230.0),
        terrain=every(104.0, 128.0, 74.0),
        road=every(94.0, 95.0, 99.0),
        white=every(236.0, 236.0, 232.0),
        yellow=every(238.0, 186.0, 52.0),
        light=_direction(*every(0.9, 0.9).unbind(-1)),
        ambient=every(0.55)[:, 0],
        terrain_texture=every(0.22)[:, 0],
        road_texture=every(0.06)[:, 0],
        texture_offset=every(0.0, 0.0),
        visibility=every(450.0)[:, 0],
        paint=every(0.95)[:, 0],
        colours=constant(_COLOURS, device).expand(worlds, -1, -1).clone(),
    )


def random_appearance(numbers: Float[Tensor, "world k"], strength: float = 1.0) -> Appearance:
    """Looks drawn from numbers that the caller counts, so that this holds no generator.

    Brightness, contrast and colour cast are applied to the colours themselves.

    Args:
        numbers: Uniform in [0, 1), at least `APPEARANCE_NUMBERS` for each world, on the device of the result.
        strength: Share of the full range in [0, 1]; 0 is `default_appearance`.

    Raises:
        UserError: There are too few numbers.
    """
    if numbers.shape[-1] < APPEARANCE_NUMBERS:
        raise UserError(
            "too few numbers to draw an appearance from",
            got=numbers.shape[-1],
            expected=f"at least {APPEARANCE_NUMBERS} for each world",
            fix="draw APPEARANCE_NUMBERS",
        )
    numbers = numbers.float()
    base = default_appearance(len(numbers), numbers.device)
    draws = iter(numbers.unbind(-1))

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * next(draws)

    def mix(*stops: tuple[int, int, int]) -> Tensor:
        """A colour on the way from the first stop to the last."""
        at = next(draws) * (len(stops) - 1)
        table = constant(stops, numbers.device)
        low = at.long().clamp(0, len(stops) - 2)
        return torch.lerp(table[low], table[low + 1], (at - low)[:, None])

    exposure, contrast = between(0.72, 1.22), between(0.8, 1.15)
    cast = torch.stack([between(0.93, 1.07) for _ in range(3)], -1)

    def seen(colour: Tensor) -> Tensor:
        """The colour through this world's exposure, contrast and cast."""
        gain, steep, tint = (
            x.reshape(x.shape[0], *[1] * (colour.ndim - x.ndim), *x.shape[1:])
            for x in (exposure[:, None], contrast[:, None], cast)
        )
        return (((colour - 110.0) * steep + 110.0) * gain * tint).clamp(0.0, 255.0)

    sky = mix((52, 110, 190), (92, 146, 208), (150, 170, 190), (176, 182, 188), (120, 132, 160))
    horizon = torch.lerp(
        sky, mix((240, 214, 180), (214, 224, 232), (196, 204, 212)), between(0.5, 0.95)[:, None]
    )
    terrain = mix(
        (78, 110, 58), (104, 128, 74), (138, 136, 84), (164, 144, 104), (150, 148, 142), (216, 218, 222)
    )
    level = between(58.0, 136.0)
    road = level[:, None] * torch.stack(
        [between(0.96, 1.05), torch.ones_like(level), between(0.96, 1.07)], -1
    )
    white = between(205.0, 250.0)[:, None] * constant((1.0, 1.0, 0.98), numbers.device)
    yellow = mix((222, 160, 30), (244, 196, 64), (236, 206, 110))
    body = base.colours.clone()
    for k in range(Colour.STATIC):
        body[:, k] = (body[:, k] * between(0.75, 1.2)[:, None]).clamp(0.0, 250.0)
    drawn = Appearance(
        sky=seen(sky),
        horizon=seen(horizon),
        terrain=seen(terrain),
        road=seen(road),
        white=seen(white),
        yellow=seen(yellow),
        light=_direction(between(-3.14, 3.14), between(0.35, 1.4)),
        ambient=between(0.4, 0.8),
        terrain_texture=between(0.05, 0.4),
        road_texture=between(0.0, 0.14),
        texture_offset=torch.stack([between(0.0, 1.0), between(0.0, 1.0)], -1),
        visibility=120.0 * (600.0 / 120.0) ** next(draws),
        paint=between(0.6, 1.0),
        colours=seen(body),
    )
    mixed = base.map(lambda a, b: torch.lerp(a, b, strength), drawn)
    return mixed.replace(light=torch.nn.functional.normalize(mixed.light, dim=-1))
