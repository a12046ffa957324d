"""Depth from a laser scanner: points projected into the picture, and the pixels between them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.geometry.cameras import Intrinsics
from countersteer.geometry.rigid import transform_points
from countersteer.reconstruction.depth.depth_map import PRIOR, DepthMap, close_holes, grey, sky
from countersteer.reconstruction.depth.ground import GroundPlane

__all__ = ["lidar_depth", "project_points"]

NEAREST_POINT = 1.0
"""Points nearer than this to the camera are the car itself [m]."""

REACH = 12
"""How far a point speaks for pixels around it, for a picture of 375 rows [px]."""


def project_points(
    points: Float[ndarray, "n 3"], camera: Intrinsics
) -> tuple[Float[ndarray, "m 2"], Float[ndarray, "m"]]:
    """Pixels (column, row; centres at +0.5) and depths [m] of the points inside the picture.

    Args:
        points: Camera axes (right, down, forward) [m].
        camera: Calibration.
    """
    ahead = points[points[:, 2] > NEAREST_POINT]
    depth = ahead[:, 2]
    pixel = np.stack(
        [camera.fx * ahead[:, 0] / depth + camera.cx, camera.fy * ahead[:, 1] / depth + camera.cy], -1
    )
    inside = (pixel >= 0).all(1) & (pixel[:, 0] < camera.width) & (pixel[:, 1] < camera.height)
    return pixel[inside], depth[inside]


def lidar_depth(
    picture: UInt8[ndarray, "height width 3"],
    points: Float[ndarray, "n 3"],
    camera_from_points: Float[ndarray, "4 4"],
    camera: Intrinsics,
    ground: GroundPlane | None = None,
) -> DepthMap:
    """Depth of a picture from one sweep (or several, put together).

    A pixel between points takes the inverse depth of those nearby, weighted by closeness in the picture and in
    luminance (Kopf et al. 2007, joint bilateral upsampling), so that edges follow the picture. Points that
    another one nearby hides, seen past it from the scanner's own place, are dropped. Above the scanner's field of
    view the sky is found in the picture, and the rest takes the depth below it.

    Args:
        picture: RGB.
        points: Scanner's axes [m].
        camera_from_points: Takes them to the camera at the time of the picture.
        camera: Calibration of the pinhole camera.
        ground: The road, for the sky and for pixels that no point reaches; None for none.
    """
    import cv2

    height, width = camera.height, camera.width
    pixel, depth = project_points(transform_points(camera_from_points, points), camera)
    value = grey(picture).astype(np.float32)
    reach = max(round(REACH * height / 375), 1)
    seen = np.zeros((height, width), np.float32)
    column, row = pixel.astype(int).T
    np.maximum.at(seen, (row, column), (1 / depth).astype(np.float32))
    # A point behind a nearer one that surrounds it is seen only from the scanner.
    around = cv2.dilate(seen, np.ones((reach // 2 * 2 + 1, reach // 4 * 2 + 1), np.uint8))
    seen[(seen > 0) & (seen < 0.7 * around)] = 0.0
    mask = (seen > 0).astype(np.float32)
    # Bilateral weights by slices of luminance: each slice is blurred as a whole.
    levels = np.arange(0, 256, 32, dtype=np.float32)
    total, weight = np.zeros_like(seen), np.full_like(seen, 1e-12)
    for level in levels:
        like = np.exp(-(((value - level) / 24.0) ** 2))
        size = (4 * reach + 1, 4 * reach + 1)
        w = cv2.GaussianBlur(mask * like, size, reach / 2)
        total += like * cv2.GaussianBlur(seen * like, size, reach / 2)
        weight += like * w
    known = weight > 1e-6
    inverse = np.where(known, total / weight, 0.0).astype(np.float32)
    inverse[seen > 0] = seen[seen > 0]
    confidence = np.where(known, np.where(cv2.dilate(mask, np.ones((reach, reach))) > 0, 1.0, 0.6), PRIOR)
    if ground is None:
        floor = np.zeros_like(inverse)
    else:
        road = ground.inverse_depth(camera)
        floor = np.maximum(np.where(road > 1 / 60, road, 0.0), 0.0).astype(np.float32)
        heaven = sky(grey(picture), road) & (seen == 0)
        inverse[heaven], known[heaven], confidence[heaven] = 0.0, True, 1.0
    # What stands above the highest beam goes on upwards.
    top = np.where(known.any(0), known.argmax(0), height)
    above = np.arange(height)[:, None] < top
    upward = np.take_along_axis(inverse, np.minimum(top, height - 1)[None], 0)
    inverse = np.where(above & ~known, upward, inverse).astype(np.float32)
    inverse = close_holes(inverse, known | above, floor, grey(picture))
    return DepthMap(np.maximum(inverse, 0.0), confidence.astype(np.float32))
