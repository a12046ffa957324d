"""Depth from one moving camera: a plane swept through posed neighbouring frames (Collins 1996).

For each of a set of inverse depths the neighbours are warped as if everything lay there, and compared; the
costs are smoothed by semi-global aggregation (Hirschmüller 2008). What moves by itself gets a wrong depth, and
so does what lies where the car drives to, which hardly moves in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.geometry.cameras import Intrinsics
from countersteer.scenarios.depth import sweep_kernels
from countersteer.scenarios.depth.depth_map import PRIOR, DepthMap, grey, sky
from countersteer.scenarios.depth.ground import GroundPlane

__all__ = ["Neighbour", "SweepSettings", "plane_sweep_depth"]

_WORST = 1.2  # cost of a pixel that nobody can compare
_SMALL, _LARGE = 0.08, 0.6  # penalties for a step of one plane, and of more


@dataclass(frozen=True)
class Neighbour:
    """Another frame of the same camera.

    Attributes:
        picture: RGB, of the same size.
        neighbour_from_here: Takes points of the camera now into the camera then.
    """

    picture: UInt8[ndarray, "height width 3"]
    neighbour_from_here: Float[ndarray, "4 4"]


@dataclass(frozen=True)
class SweepSettings:
    """How finely to look.

    Attributes:
        planes: Number of inverse depths, evenly spaced.
        nearest, farthest: Limits [m].
        scale: Size at which pictures are compared, as a share of their own.
        shortest: Neighbours nearer than this are not used [m].
    """

    planes: int = 48
    nearest: float = 4.0
    farthest: float = 120.0
    scale: float = 0.5
    shortest: float = 0.1


def plane_sweep_depth(
    picture: UInt8[ndarray, "height width 3"],
    neighbours: Sequence[Neighbour],
    camera: Intrinsics,
    ground: GroundPlane | None,
    settings: SweepSettings = SweepSettings(),
) -> DepthMap:
    """Depth of a picture from frames before and after it.

    Frames from before and from after are averaged apart and the better side counts, because what is hidden on
    one side is usually seen from the other. Depths below the ground are ruled out; near it they are drawn onto it.

    Args:
        picture: The frame, RGB.
        neighbours: A few others whose cameras stood elsewhere; none that comes later than the caller may know.
        camera: Calibration of the pinhole camera.
        ground: The road below, or None.
        settings: How finely to look.
    """
    import cv2

    width, height = round(camera.width * settings.scale), round(camera.height * settings.scale)
    small = camera.resized(width, height)
    levels = np.linspace(1 / settings.farthest, 1 / settings.nearest, settings.planes)
    step = levels[1] - levels[0]
    here = _normalised(picture, width, height)
    road = ground.inverse_depth(small) if ground is not None else np.full((height, width), -1.0, np.float32)
    used = [n for n in neighbours if np.linalg.norm(n.neighbour_from_here[:3, 3]) >= settings.shortest]
    cost = np.full((height, width, settings.planes), _WORST, np.float32)
    there = [(n.neighbour_from_here, _normalised(n.picture, width, height)) for n in used]
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # OpenCV's pixel centres lie at whole numbers
    k, k_inverse = small.matrix - half, np.linalg.inv(small.matrix - half)
    for plane, inverse in enumerate(levels):
        sides: dict[bool, list[ndarray]] = {}
        for pose, other in there:
            shift = np.outer(pose[:3, 3], [0.0, 0.0, inverse])
            homography = k @ (pose[:3, :3] + shift) @ k_inverse
            warped = cv2.warpPerspective(
                other, homography, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=99.0
            )
            difference = np.minimum(np.abs(warped - here), _WORST)
            difference[warped > 50] = _WORST
            # Driving on, the camera then lies ahead of the camera now, whose points so come nearer.
            sides.setdefault(bool(pose[2, 3] > 0), []).append(difference)
        if sides:
            best = np.minimum.reduce([np.mean(side, axis=0, dtype=np.float32) for side in sides.values()])
            cost[:, :, plane] = cv2.blur(best, (5, 5))
    at = (road - levels[0]) / step  # the road in steps of planes
    seen, plane = at > 1, np.arange(settings.planes, dtype=np.float32)
    cost += np.where(seen[..., None] & (plane < at[..., None] - 1.5), np.float32(0.5), np.float32(0))
    cost -= np.where(seen[..., None] & (np.abs(plane - at[..., None]) < 0.8), np.float32(0.08), np.float32(0))
    place, margin = sweep_kernels.aggregate(cost, np.float32(_SMALL), np.float32(_LARGE))
    inverse = (levels[0] + np.clip(place, 0, settings.planes - 1) * step).astype(np.float32)
    inverse = cv2.medianBlur(inverse, 5)
    flat = (road > 1 / 40) & (np.abs(inverse - road) < 1.5 * step)
    inverse[flat] = road[flat]
    confidence = np.where(used and margin > 0.05, np.clip(0.5 + margin, 0.0, 1.0), PRIOR).astype(np.float32)
    size = (camera.width, camera.height)
    inverse = cv2.resize(inverse, size, interpolation=cv2.INTER_NEAREST)
    confidence = cv2.resize(confidence, size, interpolation=cv2.INTER_NEAREST)
    inverse[inverse < 1 / 100] = 0.0
    if ground is not None:
        heaven = sky(grey(picture), ground.inverse_depth(camera))
        inverse[heaven], confidence[heaven] = 0.0, 1.0
    return DepthMap(inverse, confidence)


def _normalised(picture: UInt8[ndarray, "height width 3"], width: int, height: int) -> ndarray:
    """Contrast against the surroundings, so that exposure and shade do not count."""
    import cv2

    value = cv2.resize(grey(picture), (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    value -= cv2.GaussianBlur(value, (0, 0), 8)
    return value / (8 + np.sqrt(cv2.GaussianBlur(value**2, (0, 0), 8)))
