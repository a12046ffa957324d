"""Depth from one picture by a network of the user's: an interface, and how its answer gets metres."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.reconstruction.depth.depth_map import DepthMap, grey, sky
from countersteer.reconstruction.depth.ground import GroundPlane, pixel_rays

__all__ = ["DepthNetwork", "network_depth"]


@runtime_checkable
class DepthNetwork(Protocol):
    """A network for depth from one picture; no weights come with this package."""

    def __call__(self, picture: UInt8[ndarray, "height width 3"]) -> Float[ndarray, "height width"]:
        """Inverse depth of every pixel, in any unit and with any offset, larger is nearer."""
        ...


def network_depth(
    picture: UInt8[ndarray, "height width 3"],
    network: DepthNetwork,
    camera: Intrinsics,
    ground: GroundPlane,
    confidence: float = 0.6,
) -> DepthMap:
    """Depth of a picture, scaled so that the road lies where it is.

    Such networks answer up to a scale and an offset, which the road ahead determines: least squares, twice, the
    second time over what agreed.

    Args:
        picture: RGB.
        network: The user's.
        camera: Calibration.
        ground: The road.
        confidence: Given to every pixel; a network does not say how sure it is.

    Raises:
        UserError: The answer has another size, is not finite, or grows away from the camera.
    """
    answer = np.asarray(network(picture), np.float64)
    if answer.shape != picture.shape[:2] or not np.isfinite(answer).all():
        raise UserError(
            "a depth network gave no depth for each pixel",
            got=f"shape {answer.shape}" + ("" if np.isfinite(answer).all() else ", not finite"),
            expected=f"finite inverse depths of shape {picture.shape[:2]}",
            fix="resize its answer to the picture",
        )
    road = ground.inverse_depth(camera)
    x, _ = pixel_rays(camera)
    ahead = (road > 1 / 30) & (np.abs(x) < 1.5 * np.maximum(road, 1e-9))
    if ahead.sum() < 50:
        raise UserError(
            "a depth network's answer cannot be scaled: the camera sees too little road",
            got=f"{int(ahead.sum())} pixels of road within 30 m",
            expected="at least 50",
            fix="use a camera that looks at the road",
        )
    places = np.stack([answer[ahead], np.ones(int(ahead.sum()))], -1)
    target, agree = road[ahead].astype(np.float64), np.ones(int(ahead.sum()), bool)
    scale, offset = 0.0, 0.0
    for _ in range(3):
        scale, offset = np.linalg.lstsq(places[agree], target[agree], rcond=None)[0]
        error = np.abs(places @ [scale, offset] - target)
        agree = error <= max(2 * float(np.median(error)), 1e-6)
    if not scale > 0:
        raise UserError(
            "a depth network's answer falls towards the camera on the road",
            got=f"a slope of {scale:.3g}",
            expected="inverse depth: larger is nearer",
            fix="return one over the depth",
        )
    inverse = np.maximum(scale * answer + offset, 0.0).astype(np.float32)
    inverse[sky(grey(picture), road)] = 0.0
    return DepthMap(inverse, np.full(inverse.shape, confidence, np.float32))
