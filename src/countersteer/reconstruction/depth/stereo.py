"""Depth from two rectified cameras: semi-global matching, confirmed by matching the other way round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.ranges import Finite, Ranged
from countersteer.reconstruction.depth.depth_map import PRIOR, DepthMap, close_holes, grey, sky
from countersteer.reconstruction.depth.ground import GroundPlane, pixel_rays

__all__ = ["StereoPair", "fit_ground", "stereo_depth"]

DISPARITIES = 128  # searched [px]; nearer than focal * baseline / 128 is not found
AGREEMENT = 1.5  # between the two directions of matching [px]
ROAD_HALF_WIDTH = 8.0  # within which the fitted plane is believed [m]


@dataclass(frozen=True)
class StereoPair(Ranged):
    """Geometry of two rectified cameras.

    Attributes:
        camera: Calibration of the left one.
        baseline: Distance from the left to the right one [m].
        offset: Column of a point at infinity in the left picture minus that in the right one [px].
    """

    camera: Intrinsics
    baseline: Finite
    offset: Finite = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.baseline > 0:
            raise UserError(
                "a stereo pair has its cameras the wrong way round",
                got=f"a baseline of {self.baseline} m",
                expected="the right camera to the right of the left one",
                fix="swap the two cameras",
            )


def stereo_depth(
    left: UInt8[ndarray, "height width 3"],
    right: UInt8[ndarray, "height width 3"],
    pair: StereoPair,
    expected_ground: GroundPlane | None = None,
) -> DepthMap:
    """Depth of the left picture.

    Hirschmüller's semi-global matching (2008) in OpenCV, from left to right and from right to left; a
    disparity counts where both agree. The road is a plane fitted to what was found: near it depth is drawn onto
    it, because worn asphalt matches badly and wavy depth makes wavy lines. Holes are closed from the far side.

    Args:
        left, right: Rectified pictures of one moment.
        pair: Their geometry.
        expected_ground: Where the road would be; taken where too little of it is found. None takes none.
    """
    import cv2

    first, second = grey(left), grey(right)
    there = _match(first, second)
    back = _match(np.ascontiguousarray(second[:, ::-1]), np.ascontiguousarray(first[:, ::-1]))[:, ::-1]
    known = _confirmed(there, back)
    scale = pair.camera.fx * pair.baseline  # disparity = scale * inverse depth + offset
    inverse = np.where(known, (there - pair.offset) / scale, 0.0).astype(np.float32)
    known &= inverse >= 0
    plane = fit_ground(inverse, known, pair.camera, 0.6 / scale) or expected_ground
    confidence = np.where(known, 1.0, PRIOR).astype(np.float32)
    if plane is None:
        floor = np.zeros_like(inverse)
    else:
        road = plane.inverse_depth(pair.camera)
        floor = np.where(road > 1.5 / scale, road, 0.0).astype(np.float32)
        x, _ = pixel_rays(pair.camera)
        beside = np.abs(x) < ROAD_HALF_WIDTH * np.maximum(road, 1e-9)
        close = np.abs(inverse - road) < np.maximum(0.7 / scale, 0.05 * road)
        flat = known & (road > 3.0 / scale) & beside & close
        inverse[flat] = road[flat]
        heaven = sky(first, road) & (inverse < 6.0 / scale)
        inverse[heaven], known[heaven], confidence[heaven] = 0.0, True, 1.0
    filled = close_holes(inverse, known, floor, first)
    filled = cv2.medianBlur(filled, 5)
    return DepthMap(np.maximum(filled, 0.0), confidence)


def _match(first: UInt8[ndarray, "height width"], second: UInt8[ndarray, "height width"]) -> ndarray:
    """Disparity of the first picture [px]; negative where none was found."""
    import cv2

    block = 5
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=DISPARITIES,
        blockSize=block,
        P1=8 * block * block,
        P2=32 * block * block,
        disp12MaxDiff=-1,
        preFilterCap=31,
        uniquenessRatio=5,
        speckleWindowSize=100,
        speckleRange=2,
        mode=cv2.StereoSGBM_MODE_SGBM_3WAY,
    )

    def padded(picture: ndarray) -> ndarray:  # so that the first columns are matched too
        return cv2.copyMakeBorder(picture, 0, 0, DISPARITIES, 0, cv2.BORDER_REPLICATE)

    return matcher.compute(padded(first), padded(second))[:, DISPARITIES:].astype(np.float32) / 16.0


def _confirmed(
    there: Float[ndarray, "height width"], back: Float[ndarray, "height width"]
) -> Bool[ndarray, "height width"]:
    """Where the pixel that was found finds the way back."""
    column = np.arange(there.shape[1])[None]
    target = np.rint(column - there).astype(int)
    inside = (there > 0) & (target >= 0)
    found = np.take_along_axis(back, np.clip(target, 0, there.shape[1] - 1), 1)
    return inside & (np.abs(found - there) <= AGREEMENT)


def fit_ground(
    inverse: Float[ndarray, "height width"],
    known: Bool[ndarray, "height width"],
    camera: Intrinsics,
    tolerance: float,
) -> GroundPlane | None:
    """The plane that most of the picture's lower middle lies on; None if there is no such plane.

    A plane is affine in inverse depth over the picture. Random sample consensus (Fischler and Bolles 1981) with
    a fixed seed, then least squares over what agrees.

    Args:
        inverse: Inverse depth [1/m].
        known: Where it was measured.
        camera: Calibration.
        tolerance: Largest distance from the plane of what agrees [1/m].
    """
    height, width = inverse.shape
    top = int(camera.cy + 0.08 * height)
    rows, columns = np.mgrid[top:height:3, int(0.3 * width) : int(0.7 * width) : 3]
    take = known[rows, columns] & (inverse[rows, columns] > 5 * tolerance)
    x = (columns[take] + 0.5 - camera.cx) / camera.fx
    y = (rows[take] + 0.5 - camera.cy) / camera.fy
    value = inverse[rows, columns][take].astype(np.float64)
    if len(value) < 100:
        return None
    places = np.stack([x, y, np.ones_like(x)], -1)
    rng = np.random.default_rng(0)
    choice = rng.integers(0, len(value), (200, 3))
    regular = np.abs(np.linalg.det(places[choice])) > 1e-6
    planes = np.linalg.solve(places[choice[regular]], value[choice[regular]][..., None])[..., 0]
    # Upright within 15 degrees: a wall is no road.
    tilt = planes[:, 1] / np.maximum(np.linalg.norm(planes, axis=1), 1e-12)
    planes = planes[tilt > 0.966]
    if not len(planes):
        return None
    votes = (np.abs(planes @ places.T - value) < tolerance).sum(1)
    best = planes[votes.argmax()]
    for _ in range(2):
        agree = np.abs(places @ best - value) < tolerance
        if agree.sum() < 100:
            return None
        best = np.linalg.lstsq(places[agree], value[agree], rcond=None)[0]
    length = float(np.linalg.norm(best))
    normal = best / length
    if normal[1] < 0.9:
        return None
    return GroundPlane((float(normal[0]), float(normal[1]), float(normal[2])), 1 / length)
