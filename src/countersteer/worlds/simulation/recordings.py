"""What recordings say along their paths, as padded tensors: when the car was where, and which frames show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from countersteer.data.cameras import CameraLog
from countersteer.errors import UserError
from countersteer.geometry import boxes
from countersteer.scenarios.scenario import Scenario
from countersteer.tensors import TensorTree
from countersteer.worlds.simulation.paths import project_to_route
from countersteer.worlds.simulation.scenes import SceneBank

__all__ = ["Recordings", "pack_recordings", "poses_of_rows"]

OFF_THE_LOG = 1.0
"""Scenario and camera log disagree if the ego is further than this from the log's pose [m]."""


@dataclass(frozen=True)
class Recordings(TensorTree):
    """What the recordings say along their paths; frames of a scene in rows, the last one repeated.

    Attributes:
        row: Where a frame lies in the bank.
        frames: How many a scene has.
        arc: Of each frame along the path [m], increasing; infinite past the last.
        pose: x, y, z [m], yaw (unwrapped), pitch, roll [rad] of the car at each frame.
        time: Of each frame [s, scenario time].
        speed: At each frame [m/s].
        tick_arc: Arc at every tick of the scenario, never falling.
        last_tick: Drives end here.
    """

    row: Int[Tensor, "scene frame"]
    frames: Int[Tensor, "scene"]
    arc: Float[Tensor, "scene frame"]
    pose: Float[Tensor, "scene frame 6"]
    time: Float[Tensor, "scene frame"]
    speed: Float[Tensor, "scene frame"]
    tick_arc: Float[Tensor, "scene tick"]
    last_tick: Int[Tensor, "scene"]

    def along(
        self, scene: Int[Tensor, "world"], arc: Float[Tensor, "world"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The frames before and after, as numbers in the scene, and how far the place is from one to the other."""
        arcs, last = self.arc[scene], self.frames[scene] - 1
        after = torch.searchsorted(arcs, arc[:, None].contiguous())[:, 0].clamp(min=1).minimum(last)
        before = after - 1
        at = arcs.gather(1, torch.stack([before, after], 1))
        return before, after, ((arc - at[:, 0]) / (at[:, 1] - at[:, 0])).clamp(0.0, 1.0)

    def between(self, values: Tensor, scene: Int[Tensor, "world"], arc: Float[Tensor, "world"]) -> Tensor:
        """One of the fields with a row a frame, interpolated at places along the path, `[world ...]`."""
        before, after, part = self.along(scene, arc)
        rows = torch.arange(len(arc))
        mine = values[scene]
        low, high = mine[rows, before], mine[rows, after]
        part = part.reshape(-1, *[1] * (low.ndim - 1)).to(low.dtype)
        return low + (high - low) * part


def pack_recordings(
    scenarios: Sequence[Scenario],
    logs: Sequence[CameraLog],
    bank: SceneBank,
    *,
    camera: str | None,
    spacing: float,
    future: float,
    dt: float,
) -> tuple[Recordings, list[list[int]]]:
    """The recordings of scenarios, and the numbers of the frames that are kept of each.

    Args:
        scenarios: What drives happen in.
        logs: The camera log of each.
        bank: Their scenes.
        camera: Name of the recorded camera; None for the first.
        spacing: Frames nearer to the last one than this are left out [m].
        future: So much of the recording is left when a drive ends [s].
        dt: Tick [s].

    Raises:
        UserError: A log has no poses, is not of its scenario, stands, or is too short.
    """
    rows, frames, first = [], [], 0
    for scene, (scenario, log) in enumerate(zip(scenarios, logs, strict=True)):
        recorded = log.cameras[0] if camera is None else log.camera(camera)
        row, kept = _recording(scene, scenario, log, recorded.times, bank, spacing, future, dt)
        row["row"] = first + np.arange(len(kept))
        first += len(kept)
        rows.append(row)
        frames.append(kept.tolist())
    packed = {}
    for name in rows[0]:
        arrays = [np.asarray(row[name]) for row in rows]
        if not arrays[0].ndim:
            packed[name] = torch.from_numpy(np.array(arrays))
            continue
        longest = max(len(array) for array in arrays)
        packed[name] = torch.from_numpy(
            np.stack([_padded(array, longest, name == "arc") for array in arrays])
        )
    return Recordings(**packed), frames


def _padded(array: ndarray, length: int, endless: bool) -> ndarray:
    tail = np.repeat(array[-1:], length - len(array), 0)
    return np.concatenate([array, np.full_like(tail, np.inf) if endless else tail])


def _recording(
    scene: int,
    scenario: Scenario,
    log: CameraLog,
    frame_times: Float[ndarray, "frame"],
    bank: SceneBank,
    spacing: float,
    future: float,
    dt: float,
) -> tuple[dict[str, ndarray], ndarray]:
    """Arrays of `Recordings` of one scene, and the numbers of the frames that are kept."""

    def refuse(what: str, got: object, expected: object, fix: str) -> UserError:
        return UserError(f"recording {log.id!r} {what}", got=got, expected=expected, fix=fix)

    if log.poses is None:
        raise refuse("has no poses", "none", "poses of the car", "docs/formats.md says how to add them")
    covered = np.flatnonzero(log.poses.covers(frame_times))
    poses = log.poses.at(frame_times[covered])
    arc, lateral = _arcs(bank, scene, poses)
    if len(arc) and np.abs(lateral).max() > OFF_THE_LOG:
        raise refuse(
            "is not of this scenario",
            f"its poses are up to {np.abs(lateral).max():.1f} m beside the path of {scenario.id!r}",
            f"at most {OFF_THE_LOG:g} m",
            "give scenario and camera log one world frame; `CameraDrive` does",
        )
    times = frame_times[covered]
    keep, last = [], -np.inf
    for number, where in enumerate(arc):
        if where > last + spacing:
            keep.append(number)
            last = where
    if len(keep) < 2:
        raise UserError(
            f"{log.provenance.path}: the car stands from {times[0]:.3f} to {times[-1]:.3f} s",
            got=f"{len(keep)} of {len(arc)} frames along the path, {spacing:g} m apart",
            expected="at least two frames that are apart",
            fix="choose a part of the drive in which the car moves",
        )
    speed = np.gradient(np.maximum.accumulate(arc), times)
    size = bank.size[scene, 0, 0]
    ticks = int(bank.ticks[scene])
    ego = bank.pose[scene, 0, :ticks].double().numpy()
    back = float(boxes.rear_axle_to_center(size))
    rear = ego[:, :2] - back * np.stack([np.cos(ego[:, 2]), np.sin(ego[:, 2])], 1)
    tick_arc, _ = _arcs(
        bank, scene, poses_of_rows(np.insert(np.column_stack([rear, ego[:, 2]]), 2, 0.0, 1) @ _SIX)
    )
    last_tick = int(times[keep[-1]] / dt + 1e-6) - round(future / dt)
    if last_tick < 2:
        raise refuse(
            "is too short",
            f"{times[keep[-1]]:.1f} s, of which {future:g} s are the future of the last label",
            "a few seconds more",
            "lower `future`, or take a longer recording",
        )
    return {
        "frames": np.array(len(keep)),
        "arc": arc[keep].astype(np.float32),
        "pose": _rows(poses[keep]),
        "time": times[keep].astype(np.float32),
        "speed": speed[keep].astype(np.float32),
        "tick_arc": np.maximum.accumulate(tick_arc).astype(np.float32),
        "last_tick": np.array(last_tick),
    }, covered[keep]


_SIX = np.eye(4, 6)  # x, y, z, yaw of a level car, to a row of six


def _arcs(
    bank: SceneBank, scene: int, poses: Float[ndarray, "pose 4 4"]
) -> tuple[Float[ndarray, "pose"], Float[ndarray, "pose"]]:
    """Arc and lateral offset along the path of poses in order, each looked for near the one before."""
    rows = torch.tensor([scene])
    position = torch.from_numpy(poses[:, :2, 3]).float()
    heading = torch.from_numpy(np.arctan2(poses[:, 1, 0], poses[:, 0, 0])).float()
    known = bank.path_arc[scene, :1, :1]
    near, arcs, aside = None if bool(known.isnan()) else known, [], []
    for number in range(len(poses)):
        near, lateral, _, _ = project_to_route(
            bank,
            rows,
            position[None, number : number + 1],
            heading[None, number : number + 1],
            torch.zeros(1, 1),
            near,
        )
        arcs.append(float(near))
        aside.append(float(lateral))
    return np.array(arcs), np.array(aside)


def poses_of_rows(rows: Float[ndarray, "pose 6"]) -> Float[ndarray, "pose 4 4"]:
    """Transforms of x, y, z, yaw, pitch, roll (turned in the order roll, pitch, yaw; pitch positive is down)."""
    made = np.zeros((len(rows), 4, 4))
    (cy, cp, cr), (sy, sp, sr) = np.cos(rows[:, 3:]).T, np.sin(rows[:, 3:]).T
    made[:, 0, 0], made[:, 0, 1], made[:, 0, 2] = cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr
    made[:, 1, 0], made[:, 1, 1], made[:, 1, 2] = sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr
    made[:, 2, 0], made[:, 2, 1], made[:, 2, 2] = -sp, cp * sr, cp * cr
    made[:, :3, 3], made[:, 3, 3] = rows[:, :3], 1.0
    return made


def _rows(poses: Float[ndarray, "pose 4 4"]) -> Float[ndarray, "pose 6"]:
    """Inverse of `poses_of_rows`, yaw unwrapped."""
    yaw = np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
    pitch = np.arctan2(-poses[:, 2, 0], np.hypot(poses[:, 2, 1], poses[:, 2, 2]))
    roll = np.arctan2(poses[:, 2, 1], poses[:, 2, 2])
    return np.concatenate([poses[:, :3, 3], np.stack([yaw, pitch, roll], 1)], 1)
