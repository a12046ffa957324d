"""Dense inverse depth with confidence, and how holes in it are closed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

__all__ = ["MEASURED", "PRIOR", "DepthMap", "fill_from_the_far_side", "grey", "sky"]

MEASURED = 0.5
"""Confidence above which a depth was measured and confirmed; below it was concluded from its neighbours."""

PRIOR = 0.3
"""Confidence of depth that is an assumption: a hole closed, the ground where nothing was seen."""


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


def fill_from_the_far_side(
    inverse: Float[ndarray, "height width"],
    known: Bool[ndarray, "height width"],
    at_least: Float[ndarray, "height width"],
) -> Float[ndarray, "height width"]:
    """Close holes with the farther of the nearest known depths to the left and right.

    What is hidden from one of two views is background. Nothing is put below the ground.

    Args:
        inverse: Inverse depth [1/m], meaningless where not known.
        known: Where it is known.
        at_least: Inverse depth of the ground, 0 above its horizon [1/m].
    """
    width = inverse.shape[1]
    column = np.arange(width)
    left = np.maximum.accumulate(np.where(known, column, -1), 1)
    right = np.minimum.accumulate(np.where(known, column, width)[:, ::-1], 1)[:, ::-1]
    none = np.inf
    from_left = np.where(left >= 0, np.take_along_axis(inverse, np.maximum(left, 0), 1), none)
    from_right = np.where(right < width, np.take_along_axis(inverse, np.minimum(right, width - 1), 1), none)
    far = np.minimum(from_left, from_right)
    far = np.where(np.isfinite(far), far, 0.0)
    return np.where(known, inverse, np.maximum(far, at_least)).astype(np.float32)


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
