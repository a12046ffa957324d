"""Dense inverse depth with confidence, and how holes in it are closed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

__all__ = ["MEASURED", "PRIOR", "DepthMap", "close_holes", "grey", "sky"]

MEASURED = 0.5
"""Confidence above which a depth was measured and confirmed; below it was concluded from its neighbours."""

PRIOR = 0.3
"""Confidence of depth that is an assumption: a hole closed, the ground where nothing was seen."""


LOOKS_ALIKE = 20.0
"""Differences of luminance that differ by less than this do not say what a pixel belongs to [of 255]."""


@dataclass(frozen=True)
class DepthMap:
    """Depth of every pixel of a frame.

    Attributes:
        inverse: One over the distance along the optical axis [1/m], at least 0; 0 is infinitely far (sky).
        confidence: How far it can be trusted, in [0, 1]; above `MEASURED` it was measured.
    """

    inverse: Float[ndarray, "height width"]
    confidence: Float[ndarray, "height width"]

    @property
    def measured_share(self) -> float:
        """Share of the pixels whose depth was measured."""
        return float((self.confidence > MEASURED).mean())

    def resized(self, width: int, height: int) -> DepthMap:
        """At another size; no depth between two surfaces is invented."""
        import cv2

        size = (width, height)
        return DepthMap(
            cv2.resize(self.inverse, size, interpolation=cv2.INTER_NEAREST),
            cv2.resize(self.confidence, size, interpolation=cv2.INTER_NEAREST),
        )


def grey(picture: UInt8[ndarray, "height width 3"]) -> UInt8[ndarray, "height width"]:
    """Luminance; exact for a grey picture."""
    import cv2

    if np.array_equal(picture[..., 0], picture[..., 1]) and np.array_equal(picture[..., 0], picture[..., 2]):
        return np.ascontiguousarray(picture[..., 0])
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def close_holes(
    inverse: Float[ndarray, "height width"],
    known: Bool[ndarray, "height width"],
    at_least: Float[ndarray, "height width"],
    picture: UInt8[ndarray, "height width"],
) -> Float[ndarray, "height width"]:
    """Close holes with one of the nearest known depths to the left and right.

    What is hidden from one of two views is background, so the farther one is taken, unless the pixel looks
    much more like the other. What is known to be sky lends its depth to nothing else. Nothing is put below the ground.

    Args:
        inverse: Inverse depth [1/m], meaningless where not known; exactly 0 is sky.
        known: Where it is known.
        at_least: Inverse depth of the ground, 0 above its horizon [1/m].
        picture: Luminance.
    """
    width = inverse.shape[1]
    column = np.arange(width)
    left = np.maximum.accumulate(np.where(known, column, -1), 1)
    right = np.minimum.accumulate(np.where(known, column, width)[:, ::-1], 1)[:, ::-1]
    value = picture.astype(np.float32)
    sides = []
    for index, there in ((np.maximum(left, 0), left >= 0), (np.minimum(right, width - 1), right < width)):
        depth = np.take_along_axis(inverse, index, 1)
        unlike = np.abs(np.take_along_axis(value, index, 1) - value)
        # A side that is not there, or is sky, is out of the question as long as the other one is not.
        sides.append((depth, unlike, there & (depth > 0)))
    (a, unlike_a, fit_a), (b, unlike_b, fit_b) = sides
    take_a = np.where(np.abs(unlike_a - unlike_b) > LOOKS_ALIKE, unlike_a < unlike_b, a < b)
    take_a = np.where(fit_a == fit_b, take_a, fit_a)
    filled = np.where(fit_a | fit_b, np.where(take_a, a, b), 0.0)
    return np.where(known, inverse, np.maximum(filled, at_least)).astype(np.float32)


def sky(
    picture: UInt8[ndarray, "height width"], horizon: Float[ndarray, "height width"]
) -> Bool[ndarray, "height width"]:
    """Bright, smooth regions that reach the top of the picture and lie above the horizon.

    Args:
        picture: Luminance.
        horizon: Inverse depth of the ground [1/m], positive below its horizon.
    """
    import cv2

    value = picture.astype(np.float32)
    mean = cv2.blur(value, (7, 7))
    spread = np.sqrt(np.maximum(cv2.blur(value * value, (7, 7)) - mean**2, 0))
    # Nothing 80 m ahead on the ground or beyond it is called sky, however smooth.
    smooth = ((spread < 4) & (value > 90) & (horizon < -0.002)).astype(np.uint8)
    _, label = cv2.connectedComponents(smooth)
    top = np.unique(label[0])
    return np.isin(label, top[top > 0])
