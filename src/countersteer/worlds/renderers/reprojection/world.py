"""The reprojection world: a boxworld whose cameras show recorded frames from where the car is now.

Time runs with the driven arc length: the frame nearest along the path is the one that is looked at, whatever
the speed. A departed camera is the recorded car's pose there, interpolated in six degrees of freedom, moved by
the car's planar offset from it; at the recorded pose the recorded picture comes out.
"""

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
from countersteer.geometry.cameras import Camera, Intrinsics, ego_from_camera
from countersteer.geometry.poses import local_from_world, world_from_local, wrap_angle
from countersteer.geometry.rigid import transform
from countersteer.reconstruction.depth import stored_depths
from countersteer.scenarios.scenario import Scenario
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.interface import Events, Images, Outputs, TerminationReason
from countersteer.worlds.renderers.reprojection.bank import frame_bank
from countersteer.worlds.renderers.reprojection.drawing import DepartedViews, FrameBank, Views, render
from countersteer.worlds.renderers.reprojection.spec import ReprojectionSpec
from countersteer.worlds.simulation.paths import project_to_route
from countersteer.worlds.simulation.scenes import SceneBank
from countersteer.worlds.simulation.state import BoxWorldState
from countersteer.worlds.truth import LoggedPoses
from countersteer.worlds.world import World

__all__ = ["World", "camera_of_log"]

OFF_THE_LOG = 1.0
"""Scenario and camera log disagree if the ego is further than this from the log's pose [m]."""


def camera_of_log(log: CameraLog, width: int, height: int, fov: float, camera: str | None = None) -> Camera:
    """A camera for a policy that looks from where a recorded one is, in the same direction.

    Args:
        log: The recording.
        width, height: Size of its pictures [px].
        fov: Horizontal field of view [rad]; what lies outside the recorded one's has to be painted.
        camera: Name of the recorded camera; None for the first.
    """
    recorded = log.cameras[0] if camera is None else log.camera(camera)
    # Inverse of `ego_from_camera`: the axes are columns right, down, forward.
    right, _, ahead = recorded.ego_from_camera[:3, :3].T
    yaw, pitch = np.arctan2(ahead[1], ahead[0]), np.arcsin(np.clip(-ahead[2], -1.0, 1.0))
    level = ego_from_camera(0.0, float(pitch), float(yaw))
    roll = np.arctan2(right @ level[:, 1], right @ level[:, 0])
    x, y, z = recorded.ego_from_camera[:3, 3].tolist()
    return Camera("front", width, height, fov, (x, y, z), float(roll), float(pitch), float(yaw))


@dataclass(frozen=True)
class _Recordings(TensorTree):
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


class World(World):
    """See `World` and `ReprojectionSpec`, which builds it.

    Attributes:
        frames: The recorded frames with their depths.
        logs: The recordings, one for each scenario.
    """

    spec: ReprojectionSpec

    def __init__(
        self,
        spec: ReprojectionSpec,
        scenarios: Sequence[Scenario],
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
    ):
        if spec.agents != 1 or torch.device(device).type != "cpu":
            raise UserError(
                "a reprojection world shows what one recorded car could have seen, drawn on the CPU",
                got=f"{spec.agents} controlled cars, device {device}",
                expected="one car, device cpu",
                fix="set `agents` to 1; leave the learner on the device of your choice",
            )
        if spec.gap is not None:
            raise UserError(
                "a reprojection world shows what was recorded, and no gap is put in between",
                got="a gap",
                expected="None",
                fix="leave `gap` out, or take a boxworld",
            )
        super().__init__(spec, scenarios, batch, seed, device)
        self.logs = spec.logs.open(scenarios)
        self.recordings, self.frames = _load(spec, self.scenarios, self.logs, self.bank)
        self._drawn: tuple[BoxWorldState, dict[Camera, DepartedViews]] | None = None

    # --- where the recording is -----------------------------------------------------------------

    def _along(self, arc: Float[Tensor, "world"]) -> tuple[Tensor, Tensor, Tensor]:
        """The frames before and after, as numbers in the scene, and how far the place is from one to the other."""
        arcs, last = self.recordings.arc[self.state.scene], self.recordings.frames[self.state.scene] - 1
        after = torch.searchsorted(arcs, arc[:, None].contiguous())[:, 0].clamp(min=1).minimum(last)
        before = after - 1
        at = arcs.gather(1, torch.stack([before, after], 1))
        return before, after, ((arc - at[:, 0]) / (at[:, 1] - at[:, 0])).clamp(0.0, 1.0)

    def _between(self, values: Tensor, arc: Tensor) -> Tensor:
        """Of the car's recording, `[world ...]`."""
        before, after, part = self._along(arc)
        rows = torch.arange(len(arc))
        mine = values[self.state.scene]
        low, high = mine[rows, before], mine[rows, after]
        part = part.reshape(-1, *[1] * (low.ndim - 1)).to(low.dtype)
        return low + (high - low) * part

    def log_at(self, ahead: Float[Tensor, "point"]) -> LoggedPoses:
        """See `World.log_at`; "now" is the moment at which the recording was where the car is."""
        now = self._between(self.recordings.time, self.state.arc[:, 0])
        time = (now[:, None] + ahead).contiguous()
        scene, bank = self.state.scene, self.bank
        ticks = bank.ticks[scene][:, None] - 1
        at = (time / self.dt).clamp(min=0.0)
        low = at.floor().long().minimum(ticks)
        high, part = (low + 1).minimum(ticks), (at - at.floor())[..., None]
        pose = bank.pose[scene, 0]
        rows = torch.arange(len(scene))[:, None]
        first, second = pose[rows, low], pose[rows, high]
        turn = wrap_angle(second[..., 2] - first[..., 2])
        heading = wrap_angle(first[..., 2] + turn * part[..., 0])
        center = first[..., :2] + (second[..., :2] - first[..., :2]) * part
        back = boxes.rear_axle_to_center(bank.size[scene, 0, 0])[:, None].expand(heading.shape)
        position = world_from_local(torch.stack([-back, torch.zeros_like(back)], -1), center, heading)
        speed = bank.speed[scene, 0]
        speed = speed[rows, low] * (1 - part[..., 0]) + speed[rows, high] * part[..., 0]
        inside = at <= ticks
        return LoggedPoses(position[:, None], heading[:, None], speed[:, None], inside[:, None])

    # --- looking --------------------------------------------------------------------------------

    def views(self, camera: Camera) -> Views:
        """Where a camera is now, and which frames it looks at: the nearest, then those that fill holes."""
        state, recordings = self.state, self.recordings
        arc = state.arc[:, 0]
        pose = self._between(recordings.pose, arc)
        here = local_from_world(state.cars.position[:, 0].double(), pose[:, :2], pose[:, 3])
        turned = wrap_angle(state.cars.heading[:, 0].double() - pose[:, 3])
        world_from_log = _poses(pose.numpy())
        still = torch.zeros_like(turned)
        log_from_ego = _poses(torch.stack([here[:, 0], here[:, 1], still, turned, still, still], 1).numpy())
        mounting = transform(camera.rotation, np.array(camera.position))
        # At the recorded pose the offset is nothing, and must not round.
        there = torch.from_numpy(world_from_log @ log_from_ego @ mounting)
        sources = []
        for ahead in (0.0, *self.spec.fill):
            before, after, part = self._along(arc + ahead)
            number = torch.where(part < 0.5, before, after)
            beyond = (arc + ahead < recordings.arc[state.scene, 0]) | (
                arc + ahead > recordings.arc[state.scene, recordings.frames[state.scene] - 1]
            )
            row = recordings.row[state.scene, number]
            sources.append(torch.where(beyond & (ahead != 0.0), -1, row))
        return Views.of(camera.intrinsics, there, torch.stack(sources, 1))

    def departed(self, camera: Camera) -> DepartedViews:
        """What a camera sees now, and which frames it was seen by; drawn once for a state."""
        if self._drawn is None or self._drawn[0] is not self.state:
            self._drawn = self.state, {}
        kept = self._drawn[1]
        if camera not in kept:
            kept[camera] = render(self.frames, self.views(camera))
        return kept[camera]

    def images(self, camera: Camera, outputs: Outputs = Outputs()) -> Images:
        """Pictures of one camera of every car; a recording has no classes or instances.

        Raises:
            UserError: It was asked for those.
        """
        if outputs.kind or outputs.instance:
            raise UserError(
                "a recording does not say what its pixels show",
                got="classes or instances asked for",
                expected="colours and depth",
                fix="ask a boxworld",
            )
        seen = self.departed(camera)
        depth = seen.inverse_depth.clamp(min=0.0).reciprocal() if outputs.depth else None
        return Images(seen.rgb if outputs.rgb else None, depth, None, None)

    def confidence(self) -> Float[Tensor, "world agent"]:
        """See `World.confidence` and `ValidityCorridor`."""
        state, corridor = self.state, self.spec.corridor
        recorded = self._between(self.recordings.speed, state.arc[:, 0])[:, None]
        parts = [
            _trust(state.lateral.abs(), corridor.lateral),
            _trust(state.heading_error.abs(), corridor.heading),
            _trust((state.cars.speed - recorded).abs() / recorded.clamp(min=5.0), corridor.speed),
        ]
        for camera in self.cameras:
            parts.append(_trust(1 - self.departed(camera).seen_share()[:, None], corridor.unseen))
        return torch.stack(parts).amin(0)

    # --- moving ---------------------------------------------------------------------------------

    def step(self, action: Action | JerkAction) -> Events:
        """See `World.step`; the recording's time is where the car is, and its end ends the drive."""
        before = self.state
        events = super().step(action)
        state, recordings = self.state, self.recordings
        arcs = recordings.tick_arc[state.scene]
        after = torch.searchsorted(arcs, state.arc.contiguous())[:, 0]
        after = after.clamp(min=1).minimum(self.bank.ticks[state.scene] - 1)
        around = arcs.gather(1, torch.stack([after - 1, after], 1)) - state.arc
        tick = torch.where(around[:, 0].abs() < around[:, 1].abs(), after - 1, after)
        running = before.alive.any(1)
        over = (tick >= recordings.last_tick[state.scene])[:, None] & state.alive
        self.state = state.replace(
            tick=torch.where(running, tick, before.tick),
            alive=state.alive & ~over,
            cause=torch.where(over, int(TerminationReason.TIME), state.cause),
        )
        return events.replace(
            truncated=events.truncated | over,
            cause=torch.where(over, int(TerminationReason.TIME), events.cause),
        )


def _trust(value: Tensor, places: tuple[float, float, float]) -> Tensor:
    first, second, third = places
    near = 1.0 - 0.5 * (value - first) / (second - first)
    far = 0.5 - 0.5 * (value - second) / (third - second)
    return torch.where(value <= second, near.clamp(max=1.0), far.clamp(min=0.0))


def _poses(rows: Float[ndarray, "pose 6"]) -> Float[ndarray, "pose 4 4"]:
    """Transforms of x, y, z, yaw, pitch, roll (turned in the order roll, pitch, yaw; pitch positive is down)."""
    made = np.zeros((len(rows), 4, 4))
    (cy, cp, cr), (sy, sp, sr) = np.cos(rows[:, 3:]).T, np.sin(rows[:, 3:]).T
    made[:, 0, 0], made[:, 0, 1], made[:, 0, 2] = cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr
    made[:, 1, 0], made[:, 1, 1], made[:, 1, 2] = sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr
    made[:, 2, 0], made[:, 2, 1], made[:, 2, 2] = -sp, cp * sr, cp * cr
    made[:, :3, 3], made[:, 3, 3] = rows[:, :3], 1.0
    return made


def _rows(poses: Float[ndarray, "pose 4 4"]) -> Float[ndarray, "pose 6"]:
    """Inverse of `_poses`, yaw unwrapped."""
    yaw = np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
    pitch = np.arctan2(-poses[:, 2, 0], np.hypot(poses[:, 2, 1], poses[:, 2, 2]))
    roll = np.arctan2(poses[:, 2, 1], poses[:, 2, 2])
    return np.concatenate([poses[:, :3, 3], np.stack([yaw, pitch, roll], 1)], 1)


# --- loading ------------------------------------------------------------------------------------


def _load(
    spec: ReprojectionSpec, scenarios: Sequence[Scenario], logs: Sequence[CameraLog], bank: SceneBank
) -> tuple[_Recordings, FrameBank]:
    rows, banks, first = [], [], 0
    for scene, (scenario, log) in enumerate(zip(scenarios, logs, strict=True)):
        row, kept = _recording(spec, scene, scenario, log, bank)
        frames, _ = _frames(spec, log, kept)
        if banks and frames.texels.shape[1:] != banks[0].texels.shape[1:]:
            raise UserError(
                "the recordings of a reprojection world differ in size",
                got=f"{log.id} has {frames.texels.shape[2]}x{frames.texels.shape[1]} px",
                expected=f"{banks[0].texels.shape[2]}x{banks[0].texels.shape[1]}, as the first",
                fix="set `size`, which all frames are then kept at",
            )
        row["row"] = first + np.arange(len(kept))
        first += len(kept)
        rows.append(row)
        banks.append(frames)
    frames = FrameBank(
        *(torch.cat(leaves) for leaves in zip(*(b.flatten().values() for b in banks), strict=True))
    )
    packed = {}
    for name in rows[0]:
        arrays = [np.asarray(row[name]) for row in rows]
        longest = max(len(array) for array in arrays) if arrays[0].ndim else 0
        if not arrays[0].ndim:
            packed[name] = torch.from_numpy(np.array(arrays))
            continue
        padded = np.stack([_padded(array, longest, name == "arc") for array in arrays])
        packed[name] = torch.from_numpy(padded)
    return _Recordings(**packed), frames


def _padded(array: ndarray, length: int, endless: bool) -> ndarray:
    tail = np.repeat(array[-1:], length - len(array), 0)
    return np.concatenate([array, np.full_like(tail, np.inf) if endless else tail])


def _frames(spec: ReprojectionSpec, log: CameraLog, kept: ndarray) -> tuple[FrameBank, Intrinsics]:
    name = spec.recorded_camera or log.cameras[0].name
    numbers = kept.tolist()
    maps = stored_depths(log, name, numbers, spec.depth, spec.size, spec.cache)
    return frame_bank(log, name, numbers, dict(zip(numbers, maps, strict=True)).__getitem__, spec.size)


def _recording(
    spec: ReprojectionSpec, scene: int, scenario: Scenario, log: CameraLog, bank: SceneBank
) -> tuple[dict[str, ndarray], ndarray]:
    """Arrays of `_Recordings` of one scene, and the numbers of the frames that are kept."""
    camera = log.cameras[0] if spec.recorded_camera is None else log.camera(spec.recorded_camera)

    def refuse(what: str, got: object, expected: object, fix: str) -> UserError:
        return UserError(f"recording {log.id!r} {what}", got=got, expected=expected, fix=fix)

    if log.poses is None:
        raise refuse("has no poses", "none", "poses of the car", "docs/formats.md says how to add them")
    covered = np.flatnonzero(log.poses.covers(camera.times))
    poses = log.poses.at(camera.times[covered])
    arc, lateral = _arcs(bank, scene, poses)
    if len(arc) and np.abs(lateral).max() > OFF_THE_LOG:
        raise refuse(
            "is not of this scenario",
            f"its poses are up to {np.abs(lateral).max():.1f} m beside the path of {scenario.id!r}",
            f"at most {OFF_THE_LOG:g} m",
            "give scenario and camera log one world frame; `CameraDrive` does",
        )
    times = camera.times[covered]
    keep, last = [], -np.inf
    for number, where in enumerate(arc):
        if where > last + spec.spacing:
            keep.append(number)
            last = where
    if len(keep) < 2:
        raise UserError(
            f"{log.provenance.path}: the car stands from {times[0]:.3f} to {times[-1]:.3f} s",
            got=f"{len(keep)} of {len(arc)} frames along the path, {spec.spacing:g} m apart",
            expected="at least two frames that are apart",
            fix="choose a part of the drive in which the car moves",
        )
    speed = np.gradient(np.maximum.accumulate(arc), times)
    size = bank.size[scene, 0, 0]
    ticks = int(bank.ticks[scene])
    ego = bank.pose[scene, 0, :ticks].double().numpy()
    back = float(boxes.rear_axle_to_center(size))
    rear = ego[:, :2] - back * np.stack([np.cos(ego[:, 2]), np.sin(ego[:, 2])], 1)
    tick_arc, _ = _arcs(bank, scene, _poses(np.insert(np.column_stack([rear, ego[:, 2]]), 2, 0.0, 1) @ _SIX))
    last_tick = int(times[keep[-1]] / spec.dt + 1e-6) - round(spec.future / spec.dt)
    if last_tick < 2:
        raise refuse(
            "is too short",
            f"{times[keep[-1]]:.1f} s, of which {spec.future:g} s are the future of the last label",
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
    near, arcs, aside = None, [], []
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
