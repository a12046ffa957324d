"""How real the views of a reprojected recording are, measured against what was recorded there.

Two tests in which the truth is known. *Ahead*: a frame is warped to the pose of a later one, and compared with
that one, which neither the picture nor the depth has seen. *Right camera*: the frame of the left camera is
warped to the right one's place, with depth that never saw the right one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray

from countersteer.data.cameras.log import CameraLog, RecordedCamera
from countersteer.errors import UserError
from countersteer.geometry.cameras import Intrinsics
from countersteer.reconstruction.depth import (
    DepthMap,
    DepthSource,
    StereoPair,
    depth_of_frame,
    ground_of_log,
    sources_of,
    stereo_partner,
)
from countersteer.reconstruction.depth.depth_map import grey
from countersteer.worlds.renderers.reprojection.bank import frame_bank
from countersteer.worlds.renderers.reprojection.drawing import DepartedViews, FrameBank, Views, render

__all__ = ["Fill", "Realism", "detail", "measure_realism"]

MOVED = 0.3
"""Pairs between which the camera moved less are left out: they test nothing [m]."""

# Frames of a bank: the first, the one before it, the one beyond the target.
_FILLS = {
    "nothing": [0],
    "painting": [0],
    "the frame before": [0, 1],
    "the frame beyond": [0, 2],
    "both": [0, 2, 1],
}
_FILLED = ("correlation", "detail", "hole_correlation", "hole_detail")

Show = Callable[[str, int, UInt8[ndarray, "height width 3"], UInt8[ndarray, "height width 3"]], None]
"""Gets the name of a test, the frame, the view, and what was recorded there."""


@dataclass(frozen=True)
class Fill:
    """What became of the pixels that the first frame did not see. Correlations with what was recorded there, of luminance
    and of its detail (see `detail`); medians over the pairs.

    Attributes:
        by: What filled them: nothing, painting, or further frames and painting where they saw nothing either.
        correlation, detail: Over the whole picture.
        hole_correlation, hole_detail: Over those pixels alone.
    """

    by: str
    correlation: float
    detail: float
    hole_correlation: float
    hole_detail: float


@dataclass(frozen=True)
class Realism:
    """Results. Correlations are of luminance over the pixels that a frame saw; medians over the pairs.

    Attributes:
        log, camera, depth, width, height: What was measured.
        ahead: Frames between the two of a pair.
        pairs: How many were measured.
        ahead_correlation: Of the view with the frame recorded there.
        ahead_correlation_p10: Its 10th percentile.
        ahead_detail: The same of detail alone.
        static_correlation: Of the unmoved frame with the later one over the same pixels.
        valid_share: Share of the view that the frame saw.
        painted_correlation: Over all pixels, painted ones included.
        history_correlation, history_valid_share: With a second source, the frame `ahead` earlier.
        around_correlation, around_valid_share: With the frame `ahead` beyond the target as second source,
            which a world that replays a recording has too. None where the recording is too short.
        right_camera_correlation: Of the left picture warped to the right camera, with depth by plane sweep, or
            learned where that is measured.
        right_camera_slope: Shift of corners of the road in that view over their shift in the recorded right picture, by
            least squares. None where there is no right camera.
        fills: What painting and further frames win back, over the pairs that have both of those frames.
    """

    log: str
    camera: str
    depth: str
    width: int
    height: int
    ahead: int
    pairs: int
    ahead_correlation: float
    ahead_correlation_p10: float
    ahead_detail: float
    static_correlation: float
    valid_share: float
    painted_correlation: float
    history_correlation: float | None
    history_valid_share: float | None
    around_correlation: float | None
    around_valid_share: float | None
    right_camera_correlation: float | None
    right_camera_slope: float | None
    fills: tuple[Fill, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, absent tests left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def measure_realism(
    log: CameraLog,
    *,
    camera: str | None = None,
    ahead: int = 5,
    pairs: int = 200,
    size: tuple[int, int] | None = None,
    depth: DepthSource | None = None,
    show: Show | None = None,
) -> Realism:
    """Measure a recording.

    Args:
        log: With calibrated cameras and poses.
        camera: Name; None for the first.
        ahead: Frames between the two of a pair, at least 4, so that a plane sweep does not see the target.
        pairs: Measure at most so many, evenly spread.
        size: Width and height of the pictures [px]; None for the recording's own.
        depth: Where depth comes from; None for the best.
        show: Called with every view and what was recorded there.

    Raises:
        UserError: The recording has no poses or calibration, is too short, or the car stands.
    """
    log = log.pinhole()
    camera = camera or log.cameras[0].name
    recorded = log.camera(camera)
    recorded.calibrated()
    if ahead < 4:
        raise UserError(
            "the frames of a pair are too close", got=ahead, expected="at least 4 frames", fix="--ahead 5"
        )
    source = depth or sources_of(log, camera)[0]
    poses = log.world_from_camera(camera)
    count = len(recorded.frames)
    starts = _starts(log, recorded, poses, ahead, pairs)
    depths = _kept(lambda number: depth_of_frame(log, camera, number, source))
    # Depth for the right camera must not have seen it.
    alone = source if source is DepthSource.LEARNED else DepthSource.SWEEP
    right = stereo_partner(log, camera) if alone in sources_of(log, camera) else None
    blind = depths if alone is source else lambda number: depth_of_frame(log, camera, number, alone)
    shifts: list[Float[ndarray, "corner 2"]] = []
    rows: dict[str, list[float]] = {}
    seen_by = None
    for start in starts.tolist():
        frames = [start, start - ahead, start + 2 * ahead]
        there = [number for number in frames if 0 <= number < count]
        bank, seen_by = frame_bank(log, camera, there, depths, size)
        target = _at(recorded.frames[start + ahead], seen_by)
        pose = torch.from_numpy(poses[start + ahead][None])

        drawn = _drawn(bank, seen_by, pose, [0])
        seen, picture = drawn.source[0].numpy() >= 0, drawn.rgb[0].numpy()
        still = bank.rgb[0].numpy()
        values = {
            "ahead": _correlation(picture, target, seen),
            "ahead_detail": _pearson(detail(picture), detail(target), seen),
            "static": _correlation(still, target, seen),
            "valid": seen.mean(),
            "painted": _correlation(picture, target, np.ones_like(seen)),
        }
        if len(there) == len(frames):  # all fills over the same pairs
            values |= _filled(bank, seen_by, pose, target, ~seen)
        for name, second in (("history", start - ahead), ("around", start + 2 * ahead)):
            if second in there:
                both = _drawn(bank, seen_by, pose, [0, there.index(second)])
                filled = both.source[0].numpy() >= 0
                values[name] = _correlation(both.rgb[0].numpy(), target, filled)
                values[name + "_valid"] = filled.mean()
                if show is not None:
                    show(name, start, both.rgb[0].numpy(), target)
        if right is not None:
            values["right_camera"], shift = _right_camera(log, camera, right, start, blind, size, show)
            shifts.append(shift)
        for name, value in values.items():
            rows.setdefault(name, []).append(float(value))
        if show is not None:
            show("ahead", start, picture, target)
    assert seen_by is not None

    def middle(name: str) -> float:
        return float(np.median(rows[name]))

    def optional(name: str) -> float | None:
        return middle(name) if name in rows else None

    return Realism(
        log=log.id,
        camera=camera,
        depth=source.value,
        width=seen_by.width,
        height=seen_by.height,
        ahead=ahead,
        pairs=len(starts),
        ahead_correlation=middle("ahead"),
        ahead_correlation_p10=float(np.percentile(rows["ahead"], 10)),
        ahead_detail=middle("ahead_detail"),
        static_correlation=middle("static"),
        valid_share=middle("valid"),
        painted_correlation=middle("painted"),
        history_correlation=optional("history"),
        history_valid_share=optional("history_valid"),
        around_correlation=optional("around"),
        around_valid_share=optional("around_valid"),
        right_camera_correlation=optional("right_camera"),
        right_camera_slope=_slope(np.concatenate(shifts)) if shifts else None,
        fills=tuple(
            Fill(by, *(middle(f"{by}: {what}") for what in _FILLED))
            for by in _FILLS
            if f"{by}: {_FILLED[0]}" in rows
        ),
    )


def _starts(
    log: CameraLog, recorded: RecordedCamera, poses: Float[ndarray, "frame 4 4"], ahead: int, pairs: int
) -> Int[ndarray, "pair"]:
    """First frames of the pairs to measure, evenly spread over those between which the camera moves."""
    count = len(recorded.frames)
    moved = (
        np.linalg.norm(poses[ahead:, :3, 3] - poses[:-ahead, :3, 3], axis=1) if count > ahead else np.zeros(0)
    )
    starts = np.flatnonzero(moved > MOVED)
    if not len(starts):
        raise UserError(
            f"{log.provenance.path}: the camera does not move enough to measure anything",
            got=f"{count} frames from {recorded.times[0]:.3f} to {recorded.times[-1]:.3f} s, at most "
            f"{moved.max(initial=0.0):.2f} m in {ahead} frames",
            expected=f"more than {ahead} frames and {MOVED:g} m",
            fix="choose another part, or a larger --ahead",
        )
    return starts[np.unique(np.linspace(0, len(starts) - 1, min(pairs, len(starts))).round().astype(int))]


def _drawn(
    bank: FrameBank,
    through: Intrinsics,
    pose: Float[torch.Tensor, "1 4 4"],
    frames: list[int],
    paint: bool = True,
) -> DepartedViews:
    return render(bank, Views.of(through, pose, torch.tensor([frames])), paint=paint)


def _filled(
    bank: FrameBank,
    through: Intrinsics,
    pose: Float[torch.Tensor, "1 4 4"],
    target: UInt8[ndarray, "height width 3"],
    hole: Bool[ndarray, "height width"],
) -> dict[str, float]:
    """By fill and by number of `Fill`, of one pair."""
    values, everywhere = {}, np.ones_like(hole)
    light, fine = grey(target), detail(target)
    for by, frames in _FILLS.items():
        picture = _drawn(bank, through, pose, frames, paint=by != "nothing").rgb[0].numpy()
        numbers = [
            _pearson(mine, theirs, where)
            for where in (everywhere, hole)
            for mine, theirs in ((grey(picture), light), (detail(picture), fine))
        ]
        values |= {f"{by}: {what}": number for what, number in zip(_FILLED, numbers, strict=True)}
    return values


def _kept(depth: Callable[[int], DepthMap], room: int = 24) -> Callable[[int], DepthMap]:
    """The function, keeping its latest answers: neighbouring pairs share frames."""
    found: OrderedDict[int, DepthMap] = OrderedDict()

    def ask(number: int) -> DepthMap:
        if number not in found:
            found[number] = depth(number)
            while len(found) > room:
                found.popitem(last=False)
        found.move_to_end(number)
        return found[number]

    return ask


def _at(picture: UInt8[ndarray, "height width 3"], seen_by: Intrinsics) -> UInt8[ndarray, "h w 3"]:
    import cv2

    if picture.shape[:2] == (seen_by.height, seen_by.width):
        return picture
    return cv2.resize(picture, (seen_by.width, seen_by.height), interpolation=cv2.INTER_AREA)


def detail(picture: UInt8[ndarray, "height width 3"]) -> Float[ndarray, "height width"]:
    """What a blur of two pixels takes away from the luminance."""
    import cv2

    light = grey(np.ascontiguousarray(picture)).astype(np.float32)
    return light - cv2.GaussianBlur(light, (0, 0), 2.0)


def _correlation(
    a: UInt8[ndarray, "height width 3"],
    b: UInt8[ndarray, "height width 3"],
    where: Bool[ndarray, "height width"],
) -> float:
    return _pearson(grey(a), grey(b), where)


def _pearson(a: ndarray, b: ndarray, where: Bool[ndarray, "height width"]) -> float:
    """0 where either does not vary."""
    a, b = a[where], b[where]
    varied = len(a) > 1 and a.std() > 0 and b.std() > 0
    return float(np.corrcoef(a, b)[0, 1]) if varied else 0.0


def _right_camera(
    log: CameraLog,
    camera: str,
    partner: tuple[RecordedCamera, StereoPair],
    start: int,
    depth: Callable[[int], DepthMap],
    size: tuple[int, int] | None,
    show: Show | None,
) -> tuple[float, Float[ndarray, "corner 2"]]:
    """Correlation of the left picture seen from the right camera with the one recorded there, and `_corner_shifts`."""
    right, pair = partner
    bank, seen_by = frame_bank(log, camera, [start], depth, size)
    assert right.intrinsics is not None
    through = right.intrinsics.resized(seen_by.width, seen_by.height)
    pose = torch.from_numpy(log.world_from_camera(right.name, np.array([start])))
    drawn = _drawn(bank, through, pose, [0])
    picture, target = drawn.rgb[0].numpy(), _at(right.frames[start], seen_by)
    if show is not None:
        show("right_camera", start, picture, target)
    ground = ground_of_log(log, camera, start).inverse_depth(seen_by)
    shifts = _corner_shifts(bank.rgb[0].numpy(), target, picture, ground, seen_by, pair.baseline)
    return _correlation(picture, target, drawn.source[0].numpy() >= 0), shifts


def _slope(shifts: Float[ndarray, "corner 2"]) -> float:
    """By least squares through zero; not a number if there are too few corners."""
    if len(shifts) < 10:
        return float("nan")
    return float((shifts[:, 0] @ shifts[:, 1]) / (shifts[:, 0] @ shifts[:, 0]))


def _corner_shifts(
    here: UInt8[ndarray, "height width 3"],
    recorded: UInt8[ndarray, "height width 3"],
    drawn: UInt8[ndarray, "height width 3"],
    ground: Float[ndarray, "height width"],
    seen_by: Intrinsics,
    baseline: float,
) -> Float[ndarray, "corner 2"]:
    """How far corners on the road, 6 to 20 m ahead and within 4 m to either side, move from this picture to the recorded one and to the drawn one [px].

    Lucas and Kanade's tracker, there and back; corners that do not come back are left out.
    """
    import cv2

    first = grey(here)
    across = np.abs(np.arange(ground.shape[1]) + 0.5 - seen_by.cx) / seen_by.fx
    road = (ground > 1 / 20) & (ground < 1 / 6) & (across < 4.0 * ground)
    where = road.astype(np.uint8) * 255
    corners = cv2.goodFeaturesToTrack(first, 150, 0.02, 9, mask=where)
    if corners is None:
        return np.zeros((0, 2))
    column, row = corners[:, 0].astype(int).T
    guess = np.stack([-seen_by.fx * baseline * ground[row, column], np.zeros(len(row))], -1)[:, None].astype(
        np.float32
    )
    found, kept = [], np.ones(len(row), bool)
    for picture in (grey(recorded), grey(drawn)):
        settings: dict[str, Any] = {"winSize": (21, 21), "maxLevel": 1, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
        there, good, _ = cv2.calcOpticalFlowPyrLK(first, picture, corners, corners + guess, **settings)
        back, again, _ = cv2.calcOpticalFlowPyrLK(picture, first, there, corners.copy(), **settings)
        kept &= (
            (good[:, 0] == 1) & (again[:, 0] == 1) & (np.linalg.norm((back - corners)[:, 0], axis=1) < 0.5)
        )
        found.append((there - corners)[:, 0])
    kept &= np.abs(found[0][:, 1]) < 1.5  # the cameras are level
    return np.stack([found[0][kept, 0], found[1][kept, 0]], -1).astype(np.float64)
