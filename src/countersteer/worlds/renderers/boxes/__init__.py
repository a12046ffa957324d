"""Pictures of boxworld: painted ground, sky and boxes through pinhole cameras of any mounting.

`drawing.render` is the functional API; `kernels` draws on the CPU (numba, parallel over images), `triton_kernels` on
a GPU (a program for each block of pixels), `reference` is the specification, pixel by pixel, and tests hold
each of the two to it. A pixel is what lies at its centre:
boxes are point-sampled, while ground paint, the road's border and the marks on boxes are filtered over
the pixel's footprint, so lines fade with distance instead of shimmering. The ground is the plane z = 0
and ends in haze. Boxes seen from inside are not drawn, nor anything nearer than 0.1 m.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.tensors import TensorTree
from countersteer.worlds.interface import Images, Outputs
from countersteer.worlds.renderers.boxes.appearance import (
    APPEARANCE_NUMBERS,
    Appearance,
    AppearanceRandomization,
    Colour,
    default_appearance,
    random_appearance,
)

__all__ = [
    "APPEARANCE_NUMBERS",
    "Appearance",
    "AppearanceRandomization",
    "Boxes",
    "Colour",
    "Images",
    "Outputs",
    "PixelClass",
    "Views",
    "default_appearance",
    "random_appearance",
]


class PixelClass(IntEnum):
    """What a pixel shows; boxes name theirs."""

    SKY = 0
    TERRAIN = 1
    ROAD = 2
    MARKING = 3
    VEHICLE = 4
    PEDESTRIAN = 5
    CYCLIST = 6
    STATIC = 7
    SIGNAL = 8


@dataclass(frozen=True)
class Views:
    """Where each picture is taken from. A rig is a list of these, one for each camera.

    Attributes:
        width, height: Size of the pictures [px].
        scene: Index of the scene in the ground bank.
        world: Row of the boxes and of the appearance.
        position: Optical centre [m, world]. A pose that is not finite gives a black picture of class SKY.
        rotation: `world_from_camera` (camera: x right, y down, z forward).
        focal: Focal length [px], above 0.
        ego_slot: Slot of the box that carries the camera, which is not drawn; -1 for none.
    """

    width: int
    height: int
    scene: Int[Tensor, "image"]
    world: Int[Tensor, "image"]
    position: Float[Tensor, "image 3"]
    rotation: Float[Tensor, "image 3 3"]
    focal: Float[Tensor, "image"]
    ego_slot: Int[Tensor, "image"]


@dataclass(frozen=True)
class Boxes(TensorTree):
    """What stands on the ground of each world.

    Attributes:
        center: [m, world].
        heading: Direction of the length [rad].
        size: Length, width, height [m]. A box whose pose or size is not finite and positive is not drawn.
        kind: `PixelClass`, VEHICLE to SIGNAL. Signals shine and cast no shadow.
        instance: Number in the instance image.
        colour: Row of `Appearance.colours`.
        present: Whether the slot is used.
    """

    center: Float[Tensor, "*world box 3"]
    heading: Float[Tensor, "*world box"]
    size: Float[Tensor, "*world box 3"]
    kind: Int[Tensor, "*world box"]
    instance: Int[Tensor, "*world box"]
    colour: Int[Tensor, "*world box"]
    present: Bool[Tensor, "*world box"]
