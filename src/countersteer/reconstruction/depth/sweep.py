"""Depth from one moving camera: a plane swept through posed neighbouring frames (Collins 1996).

For each of a set of inverse depths the neighbours are warped as if everything lay there, and compared; the
costs are smoothed by semi-global aggregation (Hirschmüller 2008). What moves by itself gets a wrong depth, and
so does what lies where the car drives to, which hardly moves in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from countersteer.geometry.cameras import Intrinsics
from countersteer.ranges import NonNegative, Positive, Range, Ranged
from countersteer.reconstruction.depth import sweep_kernels
from countersteer.reconstruction.depth.depth_map import PRIOR, DepthMap, grey, sky
from countersteer.reconstruction.depth.ground import GroundPlane, pixel_rays

__all__ = ["Neighbour", "SweepSettings", "plane_sweep_depth"]

_WORST = 1.2  # cost of a pixel that nobody can compare
_ROAD_REACH, _ROAD_HALF_WIDTH = 25.0, 2.5  # where the road is looked for [m]
_ROAD_SNAP = 0.03  # so close to the road's an inverse depth is the road's (share); a kerb stands out by 0.07,
_PRECISION = 0.35  # or so close, in how far it moves the pixel in the neighbour that sees it move most [px]
_BURIED = 0.85  # what lies so much deeper than the road there (share of inverse depth) is the road
_USUAL = np.array([0.04, 0.008, 0.006])  # errors of the road's distance [share], pitch and roll [rad]
_PULL = 0.001  # cost of a usual error
_BLUR = 3  # window over which costs are averaged first [px]
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
class SweepSettings(Ranged):
    """How finely to look.

    Attributes:
        planes: Number of inverse depths, evenly spaced.
        nearest, farthest: Limits [m].
        scale: Size at which pictures are compared, as a share of their own.
        shortest: Neighbours nearer than this are not used [m].
    """

    planes: Annotated[int, Range("[2, 4096]")] = 96
    nearest: Positive = 4.0
    farthest: Positive = 500.0
    scale: Annotated[float, Range("(0, 1]")] = 0.5
    shortest: NonNegative = 0.1


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
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # OpenCV's pixel centres lie at whole numbers
    k, k_inverse = small.matrix - half, np.linalg.inv(small.matrix - half)
    used = [n for n in neighbours if np.linalg.norm(n.neighbour_from_here[:3, 3]) >= settings.shortest]
    there = [(n.neighbour_from_here, _normalised(n.picture, width, height)) for n in used]
    if ground is not None and used:
        ground = _refined(ground, small, here, there, k, k_inverse)
    road = ground.inverse_depth(small) if ground is not None else np.full((height, width), -1.0, np.float32)
    cost = np.full((height, width, settings.planes), _WORST, np.float32)
    for plane, inverse in enumerate(levels):
        sides: dict[bool, list[ndarray]] = {}
        for pose, other in there:
            shift = np.outer(pose[:3, 3], [0.0, 0.0, inverse])
            homography = k @ (pose[:3, :3] + shift) @ k_inverse
            warped = cv2.warpPerspective(
                other,
                homography,
                (width, height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderValue=99.0,
            )
            difference = np.minimum(np.abs(warped - here), _WORST)
            difference[warped > 50] = _WORST
            # A camera that stood behind has this one ahead of it.
            sides.setdefault(bool(pose[2, 3] > 0), []).append(difference)
        if sides:
            best = np.minimum.reduce([np.mean(side, axis=0, dtype=np.float32) for side in sides.values()])
            cost[:, :, plane] = cv2.blur(best, (_BLUR, _BLUR))
    seen, above = (road > levels[0] + step)[..., None], levels.astype(np.float32) - road[..., None]
    slack = np.maximum(_ROAD_SNAP * road, _PRECISION / _parallax(small, [pose[:3, 3] for pose, _ in there]))
    cost += np.where(seen & (above < -slack[..., None]), np.float32(0.5), np.float32(0))
    place, margin = sweep_kernels.aggregate(cost, np.float32(_SMALL), np.float32(_LARGE))
    inverse = (levels[0] + np.clip(place, 0, settings.planes - 1) * step).astype(np.float32)
    inverse = cv2.medianBlur(inverse, 5)
    flat = (road > 1 / 40) & (np.abs(inverse - road) < slack)
    inverse[flat] = road[flat]
    # No plane of the sweep is as near as the road just in front of a camera that looks down.
    buried = (road > 1 / _ROAD_REACH) & (inverse < _BURIED * road)
    inverse[buried] = road[buried]
    sure = (margin > 0.05) & bool(used) & ~buried
    confidence = np.where(sure, np.clip(0.5 + margin, 0.0, 1.0), PRIOR).astype(np.float32)
    size = (camera.width, camera.height)
    inverse = cv2.resize(inverse, size, interpolation=cv2.INTER_NEAREST)
    confidence = cv2.resize(confidence, size, interpolation=cv2.INTER_NEAREST)
    inverse[inverse < 1.5 / settings.farthest] = 0.0
    if ground is not None:
        heaven = sky(grey(picture), ground.inverse_depth(camera))
        inverse[heaven], confidence[heaven] = 0.0, 1.0
    return DepthMap(inverse, confidence)


def _parallax(camera: Intrinsics, ways: Sequence[Float[ndarray, "3"]]) -> Float[ndarray, "height width"]:
    """By how much a pixel moves with its inverse depth, in the neighbour where it does most [px m]."""
    x, y = pixel_rays(camera)
    most = np.full((camera.height, camera.width), 1e-3, np.float32)
    for right, down, forward in ways:
        moved = np.hypot(camera.fx * (right - x * forward), camera.fy * (down - y * forward))
        most = np.maximum(most, moved.astype(np.float32))
    return most


def _refined(
    ground: GroundPlane,
    camera: Intrinsics,
    here: Float[ndarray, "height width"],
    there: Sequence[tuple[ndarray, ndarray]],
    k: Float[ndarray, "3 3"],
    k_inverse: Float[ndarray, "3 3"],
) -> GroundPlane:
    """The plane near the expected one by which the neighbours match best in front of the car.

    Cars pitch, cameras are not mounted as drawn, and poses turn a little late: half a degree moves the road
    10 m ahead by 5 %. A pattern search over distance, pitch and roll, with a pull back to what was expected. The road pitches
    about its middle in the picture, since otherwise one could hardly tell pitch from height.
    """
    import cv2

    x, _ = pixel_rays(camera)
    expected = ground.inverse_depth(camera)
    ahead = (expected > 1 / _ROAD_REACH) & (np.abs(x) < _ROAD_HALF_WIDTH * np.maximum(expected, 1e-9))
    rows = np.flatnonzero(ahead.any(1))
    if not len(rows):
        return ground
    # Only the rows with road are warped.
    top = int(rows[0])
    size = (camera.width, camera.height - top)
    down = np.array([[1.0, 0, 0], [0, 1.0, top], [0, 0, 1.0]])
    ahead, here = ahead[top:], here[top:]
    normal = np.array(ground.normal)
    pivot = (float(expected[top:][ahead].mean()) * ground.height - normal[2]) / normal[1]

    def plane(change: ndarray) -> tuple[ndarray, float]:
        farther, pitch, roll = change
        tilted = normal + np.array([roll, -pitch / pivot, pitch])
        length = float(np.linalg.norm(tilted))
        return tilted / length, ground.height * (1 + farther) / length

    def cost(change: ndarray) -> float:
        tilted, height = plane(change)
        total = 0.0
        for pose, other in there:
            homography = k @ (pose[:3, :3] + np.outer(pose[:3, 3], tilted / height)) @ k_inverse @ down
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            warped = cv2.warpPerspective(other, homography, size, flags=flags, borderValue=99.0)
            both = ahead & (warped < 50)
            if both.any():
                total += float(np.minimum(np.abs(warped - here)[both], _WORST).mean())
        return total / len(there) + _PULL * float(((change / _USUAL) ** 2).sum())

    found, step = np.zeros(3), _USUAL.copy()
    lowest = cost(found)
    for _ in range(6):
        for axis in range(3):
            for sign in (1.0, -1.0):
                tried = found.copy()
                tried[axis] += sign * step[axis]
                paid = cost(tried)
                if paid < lowest:
                    found, lowest = tried, paid
        step /= 2
    tilted, height = plane(found)
    return GroundPlane((float(tilted[0]), float(tilted[1]), float(tilted[2])), height)


def _normalised(picture: UInt8[ndarray, "height width 3"], width: int, height: int) -> ndarray:
    """Contrast against the surroundings, so that exposure and shade do not count."""
    import cv2

    value = cv2.resize(grey(picture), (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    value -= cv2.GaussianBlur(value, (0, 0), 8)
    return value / (8 + np.sqrt(cv2.GaussianBlur(value**2, (0, 0), 8)))
