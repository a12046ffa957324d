"""What is painted on boxes: windows, lamps, wheels, heads, stripes, as a table that every renderer reads.

A decal is a rectangle on a face, given in shares of the face's half sizes, so that it fits boxes of any size.
Decals are painted in their order over the colour of the body in the light that falls on the face.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

__all__ = ["COLUMNS", "DECALS", "Decal", "decal_table", "decals_on"]

VEHICLE, PEDESTRIAN, CYCLIST, STATIC, SIGNAL = 4, 5, 6, 7, 8  # rendering.PixelClass
EVERYWHERE = (0.0, 1e6)
DECALS = 3
"""Most decals on a face."""
COLUMNS = 11
"""Numbers of a decal in `decal_table`: red, green, blue, lit, body, opacity, a: middle, half, mirrored, b: middle, half."""


@dataclass(frozen=True)
class Decal:
    """A rectangle of paint.

    Attributes:
        tint: Red, green, blue; times the light on the face if `lit`.
        lit: Whether it needs light to be seen; lamps do not.
        body: Whether it has the colour of the body instead, unlit.
        opacity: In (0, 1].
        a: Middle and half of its extent along the face's first axis, in half sizes of the face.
        b: The same along the second axis.
        mirrored: Whether there is another one at minus `a`.
    """

    tint: tuple[float, float, float]
    lit: bool = True
    body: bool = False
    opacity: float = 1.0
    a: tuple[float, float] = EVERYWHERE
    b: tuple[float, float] = EVERYWHERE
    mirrored: bool = False


_GLASS, _RUBBER, _SKIN = (40.0, 50.0, 60.0), (30.0, 30.0, 33.0), (196.0, 150.0, 122.0)
_BRIGHT_GLASS = (76.0, 95.0, 114.0)  # a windscreen mirrors the sky
_PANE = (0.40, 0.28)
_LAMPS = {"lit": False, "a": (0.74, 0.18), "b": (-0.14, 0.12), "mirrored": True}
_VEHICLE = {
    0: (
        Decal(_BRIGHT_GLASS, a=(0.0, 0.82), b=_PANE),
        Decal(_RUBBER, b=(-1.0, 0.3)),
        Decal((250.0, 244.0, 220.0), **_LAMPS),
    ),
    1: (
        Decal(_GLASS, a=(0.0, 0.82), b=_PANE),
        Decal(_RUBBER, b=(-1.0, 0.3)),
        Decal((205.0, 28.0, 30.0), **_LAMPS),
    ),
    2: (
        Decal(_GLASS, a=(-0.12, 0.62), b=_PANE),
        Decal(_RUBBER, a=(0.62, 0.17), b=(-1.0, 0.42), mirrored=True),
        Decal(_RUBBER, b=(-1.0, 0.14)),
    ),
    4: (Decal(_GLASS, a=(0.30, 0.11), b=(0.0, 0.82)), Decal(_GLASS, a=(-0.72, 0.07), b=(0.0, 0.82))),
    5: (Decal(_RUBBER),),
}
_PERSON = {
    0: (Decal((0.0, 0.0, 0.0), opacity=0.55, b=(-1.0, 0.95)), Decal(_SKIN, b=(1.0, 0.28))),
    4: (Decal(_SKIN),),
}
_STRIPE = Decal((238.0, 238.0, 236.0), b=(0.15, 0.2))
_LIGHT = (
    Decal((28.0, 30.0, 32.0), lit=False),
    Decal((0.0, 0.0, 0.0), lit=False, body=True, a=(0.0, 0.8), b=(0.0, 0.8)),
)


def decals_on(kind: int, face: int) -> tuple[Decal, ...]:
    """The decals of a face, at most `DECALS`, in the order in which they are painted.

    Args:
        kind: `rendering.PixelClass` of the box.
        face: 0 front, 1 rear (a to the left, b up), 2 left, 3 right (a forward, b up), 4 top, 5 bottom
            (a forward, b left).
    """
    if kind == VEHICLE:
        return _VEHICLE[2 if face == 3 else face]
    if kind in (PEDESTRIAN, CYCLIST):
        return _PERSON[0 if face < 4 else 4]
    if kind == STATIC:
        return (_STRIPE,) if face < 4 else ()
    return _LIGHT


@functools.cache
def decal_table() -> Float[ndarray, "5 6 3 11"]:
    """All decals as numbers, by kind (from VEHICLE on), face and order; unused ones have no opacity."""
    table = np.zeros((SIGNAL - VEHICLE + 1, 6, DECALS, COLUMNS), np.float32)
    table[..., [7, 10]] = 1.0
    for kind in range(VEHICLE, SIGNAL + 1):
        for face in range(6):
            for k, decal in enumerate(decals_on(kind, face)):
                table[kind - VEHICLE, face, k] = (
                    *decal.tint, decal.lit, decal.body, decal.opacity, *decal.a, decal.mirrored, *decal.b,
                )  # fmt: skip
    return table
