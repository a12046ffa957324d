"""`render`: pictures of grounds and boxes, by numba on the CPU and by Triton on a GPU."""

from __future__ import annotations

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from countersteer.errors import MissingExtraError, UserError
from countersteer.tensors import as_array
from countersteer.worlds.interface import Images, Outputs
from countersteer.worlds.renderers.boxes import Boxes, Views
from countersteer.worlds.renderers.boxes.appearance import Appearance, looks_of
from countersteer.worlds.renderers.boxes.constants import noise_table
from countersteer.worlds.renderers.boxes.decals import decal_table
from countersteer.worlds.simulation.ground import GroundBank

__all__ = ["render"]


def render(
    bank: GroundBank, views: Views, boxes: Boxes, appearance: Appearance, outputs: Outputs = Outputs()
) -> Images:
    """Draw every view, where the tensors lie: on the CPU, or on a GPU without a copy through the host.

    On a GPU no value is read back to be checked, because the host would wait for it. There a view that names
    no scene or world, or has no positive focal length, is drawn as one whose pose is not finite, a box that
    names no colour is not drawn, and an `ego_slot` that names no box stands for none.

    Args:
        bank: Grounds of the scenes.
        views: Cameras.
        boxes: At most 32,767 in each world; none is fine.
        appearance: Looks, one row for each row of `boxes`.
        outputs: Which pictures to draw.

    Raises:
        UserError: Sizes are not positive or do not fit, the tensors lie on several devices or on one that
            is neither a CPU nor a CUDA GPU, or (on the CPU alone) an index names nothing or a focal length
            is not positive.
        MissingExtraError: Triton, which GPUs need, is not installed.
    """
    device = _check_sizes(bank, views, boxes, appearance)
    if device.type == "cuda":
        try:
            from countersteer.worlds.renderers.boxes import triton_kernels
        except ModuleNotFoundError as error:
            if error.name != "triton":
                raise
            raise MissingExtraError("triton", "gpu") from error
        return triton_kernels.draw_images(bank, views, boxes, appearance, outputs)

    from countersteer.worlds.renderers.boxes import kernels

    _check_values(bank, views, boxes, appearance)
    count, height, width = len(views.scene), views.height, views.width

    def picture(wanted: bool, dtype: type, *channels: int) -> ndarray:
        return np.empty((count, height, width, *channels) if wanted else (1, 0, width, *channels), dtype)

    rgb = picture(outputs.rgb, np.uint8, 3)
    depth = picture(outputs.depth, np.float32)
    kind = picture(outputs.kind, np.uint8)
    instance = picture(outputs.instance, np.int32)
    kernels.draw_images(
        as_array(bank.cells, np.uint8).view(np.int32).reshape(-1),
        as_array(bank.tile, np.int32),
        as_array(bank.tile_start, np.int64),
        as_array(bank.cell_shape, np.int64),
        as_array(bank.origin, np.float64),
        as_array(bank.resolution, np.float64),
        as_array(views.scene, np.int64),
        as_array(views.world, np.int64),
        as_array(views.position, np.float64),
        as_array(views.rotation, np.float64),
        as_array(views.focal, np.float64),
        as_array(views.ego_slot, np.int64),
        as_array(boxes.center, np.float64),
        as_array(boxes.heading, np.float64),
        as_array(boxes.size, np.float32),
        as_array(boxes.kind, np.int64),
        as_array(boxes.instance, np.int64),
        as_array(boxes.colour, np.int64),
        as_array(boxes.present, np.bool_),
        as_array(looks_of(appearance), np.float32),
        as_array(appearance.colours, np.float32),
        decal_table(),
        noise_table(),
        width,
        height,
        rgb.reshape(len(rgb), rgb.shape[1], 3 * rgb.shape[2]),
        depth,
        kind,
        instance,
    )
    return Images(
        rgb=torch.from_numpy(rgb) if outputs.rgb else None,
        depth=torch.from_numpy(depth) if outputs.depth else None,
        kind=torch.from_numpy(kind) if outputs.kind else None,
        instance=torch.from_numpy(instance) if outputs.instance else None,
    )


def _check_sizes(bank: GroundBank, views: Views, boxes: Boxes, appearance: Appearance) -> torch.device:
    """What can be checked without reading a value; returns where the tensors lie."""
    worlds = len(boxes.present)
    if len(appearance.ambient) != worlds:
        raise UserError(
            "the appearance and the boxes are of different worlds",
            got=f"{len(appearance.ambient)} looks",
            expected=f"{worlds}, one for each row of boxes",
            fix="build the appearance for as many worlds",
        )
    if len(views.scene) and not worlds:
        raise UserError(
            "`views.world` of a rendering is out of range",
            got=f"{len(views.scene)} views of no worlds",
            expected="boxes, if only empty slots, for every world that is viewed",
            fix="give the boxes a row for each world",
        )
    if views.width < 1 or views.height < 1:
        raise UserError(
            "a view has no picture",
            got=f"{views.width}x{views.height}",
            expected="positive sizes",
            fix="check the camera",
        )
    parts = [*vars(bank).values(), *vars(views).values(), *vars(boxes).values(), *vars(appearance).values()]
    devices = {part.device for part in parts if isinstance(part, Tensor)}
    if len(devices) > 1 or not {device.type for device in devices} <= {"cpu", "cuda"}:
        raise UserError(
            "a rendering cannot be drawn where its tensors lie",
            got=", ".join(sorted(map(str, devices))),
            expected="bank, views, boxes and appearance together on the CPU or on one CUDA GPU",
            fix="move them with .to(device)",
        )
    return devices.pop()


def _check_values(bank: GroundBank, views: Views, boxes: Boxes, appearance: Appearance) -> None:
    """The CPU kernel reads without bounds checks, so every index is checked here."""

    def within(name: str, index: Tensor, low: int, high: int, fix: str) -> None:
        if index.numel() and (int(index.min()) < low or int(index.max()) >= high):
            raise UserError(
                f"`{name}` of a rendering is out of range",
                got=f"{int(index.min())} to {int(index.max())}",
                expected=f"{low} to {high - 1}",
                fix=fix,
            )

    worlds, slots = boxes.present.shape
    within("views.scene", views.scene, 0, len(bank.tile_start), "name a scene of the ground bank")
    within("views.world", views.world, 0, worlds, "name a row of the boxes")
    within("views.ego_slot", views.ego_slot, -1, max(slots, 1), "name a box, or -1 for none")
    within("boxes.colour", boxes.colour, 0, appearance.colours.shape[1], "name a row of appearance.colours")
    if not bool((views.focal > 0).all()):
        raise UserError(
            "a view has no picture",
            got=f"focal length {float(views.focal.min())}",
            expected="positive focal lengths",
            fix="check the camera",
        )
