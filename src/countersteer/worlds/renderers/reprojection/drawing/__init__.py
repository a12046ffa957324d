"""Departed views of recorded frames: what a camera would have seen from another pose nearby.

Every pixel of a frame is a point in space: the depths are thrown forward into the departed view, the nearest
surface wins, and the view's pixels then look up their colours in the frame, between its pixels. What the frame
did not see is taken from other frames of the drive (`Views.frames`), and what none of them saw is painted in
from the background beside it. Points at infinity, the sky, only turn. From the recorded pose itself the
recorded picture comes out bit by bit.

`render` is the functional API; `kernels` draws on the CPU (numba, a view a thread), `reference` is the
specification in plain Python, and tests hold one to the other. The scene is taken to stand still.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.tensors import TensorTree

__all__ = ["NOTHING", "PAINTED", "DepartedViews", "FrameBank", "Views", "pixel_transforms", "render"]

PAINTED = -1
"""In `DepartedViews.source`: no frame saw this; painted in from beside it."""
NOTHING = -2
"""In `DepartedViews.source`: no frame saw this, and nothing was painted."""


@dataclass(frozen=True)
class FrameBank(TensorTree):
    """Recorded frames of one size with their depths, ready to be looked at from elsewhere: 8 bytes a pixel.

    Attributes:
        texels: The pictures of pinhole cameras, red + 256 green + 65536 blue.
        inverse_depth: One over the distance along the optical axis [1/m]; 0 is infinitely far, and what is
            negative or NaN is not known and is not drawn.
        pinhole: fx, fy, cx, cy of each frame's camera [px], pixel centres at +0.5.
        world_from_camera: Where it was taken.
    """

    texels: Int[Tensor, "frame height width"]
    inverse_depth: Float[Tensor, "frame height width"]
    pinhole: Float[Tensor, "frame 4"]
    world_from_camera: Float[Tensor, "frame 4 4"]

    @staticmethod
    def of(
        rgb: UInt8[Tensor, "frame height width 3"],
        inverse_depth: Float[Tensor, "frame height width"],
        camera: Intrinsics,
        world_from_camera: Float[Tensor, "frame 4 4"],
    ) -> FrameBank:
        """Frames of one camera."""
        channels = rgb.to(torch.int32)
        texels = channels[..., 0] + (channels[..., 1] << 8) + (channels[..., 2] << 16)
        numbers = torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], dtype=torch.float64)
        pinhole = numbers.expand(len(rgb), 4)
        return FrameBank(texels, inverse_depth.float().contiguous(), pinhole, world_from_camera)

    @property
    def rgb(self) -> UInt8[Tensor, "frame height width 3"]:
        """The pictures."""
        return torch.stack([(self.texels >> shift) & 255 for shift in (0, 8, 16)], -1).to(torch.uint8)


@dataclass(frozen=True)
class Views:
    """Departed cameras, one for each row (a drive, or a camera of a drive).

    Attributes:
        width, height: Size of the pictures [px].
        frames: Frames of the bank to look at, the most trusted first; -1 for none. Later ones fill what the
            earlier ones did not see.
        pinhole: fx, fy, cx, cy of each view [px].
        world_from_camera: Poses.
    """

    width: int
    height: int
    frames: Int[Tensor, "view source"]
    pinhole: Float[Tensor, "view 4"]
    world_from_camera: Float[Tensor, "view 4 4"]

    @staticmethod
    def of(
        camera: Intrinsics,
        world_from_camera: Float[Tensor, "view 4 4"],
        frames: Int[Tensor, "view source"],
    ) -> Views:
        """Views through one and the same camera."""
        numbers = torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], dtype=torch.float64)
        pinhole = numbers.expand(len(frames), 4)
        return Views(camera.width, camera.height, frames, pinhole, world_from_camera)


@dataclass(frozen=True)
class DepartedViews(TensorTree):
    """What the departed cameras see.

    Attributes:
        rgb: Pictures.
        inverse_depth: Of what is shown [1/m]; -1 where no frame saw anything.
        source: Which column of `Views.frames` each pixel comes from, else `PAINTED` or `NOTHING`.
    """

    rgb: UInt8[Tensor, "view height width 3"]
    inverse_depth: Float[Tensor, "view height width"]
    source: Int[Tensor, "view height width"]

    def seen_share(self) -> Float[Tensor, "view"]:
        """Share of each picture that some frame saw."""
        return (self.source >= 0).float().mean((1, 2))


def pixel_transforms(bank: FrameBank, views: Views) -> tuple[ndarray, ndarray]:
    """How pixels of frames go to pixels of views, and back, `[view source 3 4]` each, float64.

    A pixel (x, y) of inverse depth q goes to p = M (x, y, 1, q): to the pixel p[:2] / p[2], with the inverse
    depth q / p[2]. Rows of frame -1 are zero. Equal poses give exactly no shift.
    """
    count, sources = views.frames.shape
    there, back = np.zeros((2, count, sources, 3, 4))
    recorded, departed = bank.world_from_camera.numpy().astype(np.float64), views.world_from_camera.numpy()
    k_recorded, k_departed = _matrices(bank.pinhole), _matrices(views.pinhole)
    for source in range(sources):
        rows = np.flatnonzero(views.frames[:, source].numpy() >= 0)
        frame = views.frames[:, source].numpy()[rows]
        a, b = recorded[frame], departed[rows].astype(np.float64)
        turn = np.swapaxes(b[:, :3, :3], 1, 2) @ a[:, :3, :3]
        # The difference first: far from the origin the poses themselves are coarse.
        shift = np.swapaxes(b[:, :3, :3], 1, 2) @ (a[:, :3, 3:] - b[:, :3, 3:])
        ka, kb = k_recorded[frame], k_departed[rows]
        there[rows, source] = np.concatenate([kb @ turn @ np.linalg.inv(ka), kb @ shift], 2)
        turn = np.swapaxes(turn, 1, 2)
        back[rows, source] = np.concatenate([ka @ turn @ np.linalg.inv(kb), -ka @ turn @ shift], 2)
    return there, back


def _matrices(pinhole: Tensor) -> ndarray:
    numbers = pinhole.numpy().astype(np.float64)
    made = np.zeros((len(numbers), 3, 3))
    made[:, 0, 0], made[:, 1, 1], made[:, 0, 2], made[:, 1, 2] = numbers.T
    made[:, 2, 2] = 1.0
    return made


def render(bank: FrameBank, views: Views, *, paint: bool = True) -> DepartedViews:
    """Draw every view, on the CPU.

    Args:
        bank: Recorded frames.
        views: Departed cameras.
        paint: Whether to paint in what no frame saw; black otherwise.

    Raises:
        UserError: An index names no frame, a focal length is not positive, a pose is not finite, or sizes
            do not fit.
    """
    from countersteer.worlds.renderers.reprojection.drawing import kernels

    _check(bank, views)
    there, back = pixel_transforms(bank, views)
    count, (height, width) = len(views.frames), (views.height, views.width)
    frames = np.ascontiguousarray(views.frames.numpy(), np.int64)
    magnified = views.pinhole.numpy()[:, None, :2] / bank.pinhole.numpy()[np.maximum(frames, 0), :2]
    rgb = np.empty((count, height, width, 3), np.uint8)
    inverse = np.empty((count, height, width), np.float32)
    source = np.empty((count, height, width), np.int8)
    kernels.draw_views(
        bank.texels.numpy(),
        bank.inverse_depth.numpy(),
        frames,
        there.astype(np.float32),
        back.astype(np.float32),
        magnified.astype(np.float32),
        paint,
        rgb,
        inverse,
        source,
    )
    return DepartedViews(torch.from_numpy(rgb), torch.from_numpy(inverse), torch.from_numpy(source))


def _check(bank: FrameBank, views: Views) -> None:
    """The kernel reads without bounds checks, so every index is checked here."""

    def fail(what: str, got: object, expected: object, fix: str) -> None:
        raise UserError(f"a departed view cannot be drawn: {what}", got=got, expected=expected, fix=fix)

    frames = views.frames
    if views.width < 1 or views.height < 1:
        fail("it has no pixels", f"{views.width}x{views.height}", "positive sizes", "check the camera")
    if len(bank.texels) and min(bank.texels.shape[1:]) < 2:
        got = f"{bank.texels.shape[2]}x{bank.texels.shape[1]}"
        fail("the frames are too small", got, "at least 2x2", "store larger frames")
    if frames.numel() and (int(frames.min()) < -1 or int(frames.max()) >= len(bank.texels)):
        got = f"{int(frames.min())} to {int(frames.max())}"
        fail("a frame is not in the bank", got, f"-1 to {len(bank.texels) - 1}", "name frames of the bank")
    if frames.shape[1] > 127:
        fail("too many frames for one view", frames.shape[1], "at most 127", "choose the nearest")
    for name, pinhole in (("frame", bank.pinhole), ("view", views.pinhole)):
        if not bool((pinhole[:, :2] > 0).all()) or not bool(pinhole.isfinite().all()):
            fail(
                f"a {name} has no focal length", "0, negative or NaN", "positive numbers", "check its camera"
            )
    for name, pose in (("frame", bank.world_from_camera), ("view", views.world_from_camera)):
        if not bool(pose.isfinite().all()):
            fail(f"the pose of a {name} is not finite", "NaN or infinity", "finite numbers", "check the pose")
    if bank.texels.device.type != "cpu" or views.frames.device.type != "cpu":
        fail("its tensors do not lie on the CPU", bank.texels.device, "cpu", "move them with .to('cpu')")
