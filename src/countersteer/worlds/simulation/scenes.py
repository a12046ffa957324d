"""Scenarios as padded tensors, so that any drive of a batch can be in any scene without a Python loop."""

from __future__ import annotations

import dataclasses
import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from countersteer.errors import UserError
from countersteer.geometry import boxes, polylines
from countersteer.geometry.poses import world_from_local
from countersteer.scenarios.levels import ground_below, on_level
from countersteer.scenarios.routes import REVERSING, backed_up, route_of_track
from countersteer.scenarios.scenario import ActorKind, MapKind, Scenario
from countersteer.tensors import TensorTree
from countersteer.worlds.simulation.ground import GroundBank
from countersteer.worlds.simulation.ground_baking import bake
from countersteer.worlds.simulation.of_tracks import (
    PATH_SPACING,
    arcs_along,
    held,
    path_heights,
    towed,
    track_heights,
)
from countersteer.worlds.truth import Lanes

__all__ = ["PATH_SPACING", "SceneBank", "build_bank"]

GROUND_CELL = 0.4
"""Cell of the ground raster [m]; distances are extrapolated within a cell, so lines stay crisp."""

_KEPT = 5  # sets of scenes: one to train in and the suites; 5 to 7 MB a scene

_MOVING = 2.0  # an actor that never gets this far [m] from where it began is scenery


@dataclass(frozen=True)
class SceneBank(TensorTree):
    """What boxworld knows of its scenes. Slots below `agent` are the cars that may be controlled.

    Attributes:
        pose: Box centres x, y [m] and headings [rad] of every actor at every tick; held where not valid.
        speed: [m/s].
        top_speed: Largest `speed` of every actor [m/s].
        valid: Whether the actor is there.
        arc: Distance travelled since the first tick [m].
        z: Height of every box centre [m]; no ticks where all scenes are flat, 0 in those that are.
        size: Length, width, height [m].
        kind: `ActorKind`.
        movable: Actors that IDM may drive: vehicles and cyclists that go somewhere.
        tow: Slot of the vehicle that an actor hangs on, for one whose box was upon it at first and stayed as near while both moved;
            its own slot for all others. Vehicles of one rig neither hit one another nor wait for one another.
        present: Whether the slot is used at all.
        ticks: Length of the scenario.
        path: Paths of the controlled cars, every `PATH_SPACING`: x, y, unwrapped heading, curvature.
        path_z: Height of the controlled car's box centre along its path [m], as `z`.
        path_length: [m].
        path_arc: How far along its path each controlled car was recorded [m], where the path turns so far that it can come back beside
            itself; NaN elsewhere, where the closest place on the path is the right one.
        road_length: How far along its path a car stands on the drivable area with all of its box, from where it
            first is in the log [m]; beyond it the path is only there to plan on. 0 if it does not stand there.
        left_offset, right_offset: Lateral offset of the next lane to each side of the path [m], NaN if none.
        lane_width: [m].
        cruise: Speed a passenger would set [m/s].
        stop_point: Stop points of lights [m].
        stop_heading: [rad]; NaN where unknown.
        light: `SignalState` at every tick; UNKNOWN in unused slots.
    """

    pose: Float[Tensor, "scene actor tick 3"]
    speed: Float[Tensor, "scene actor tick"]
    top_speed: Float[Tensor, "scene actor"]
    valid: Bool[Tensor, "scene actor tick"]
    arc: Float[Tensor, "scene actor tick"]
    z: Float[Tensor, "scene actor level"]
    size: Float[Tensor, "scene actor 3"]
    kind: Int[Tensor, "scene actor"]
    movable: Bool[Tensor, "scene actor"]
    tow: Int[Tensor, "scene actor"]
    present: Bool[Tensor, "scene actor"]
    ticks: Int[Tensor, "scene"]
    path: Float[Tensor, "scene agent point 4"]
    path_z: Float[Tensor, "scene agent height"]
    path_length: Float[Tensor, "scene agent"]
    path_arc: Float[Tensor, "scene agent tick"]
    road_length: Float[Tensor, "scene agent"]
    left_offset: Float[Tensor, "scene"]
    right_offset: Float[Tensor, "scene"]
    lane_width: Float[Tensor, "scene"]
    cruise: Float[Tensor, "scene agent"]
    stop_point: Float[Tensor, "scene light 2"]
    stop_heading: Float[Tensor, "scene light"]
    light: Int[Tensor, "scene light tick"]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The fields as numpy sees them; of a bank on the CPU."""
        return {name: leaf.contiguous().numpy() for name, leaf in self.flatten().items()}

    @cached_property
    def lanes(self) -> Lanes:
        """The lanes beside the first car's route, `[scene]`."""
        return Lanes.of(self.lane_width, self.left_offset, self.right_offset)


def _path(points: np.ndarray) -> np.ndarray:
    dense = polylines.resample(points, PATH_SPACING)
    # Equal spacing exactly, so that arc length is an index: the last piece is cut rather than stretched.
    s = polylines.arc_length(dense)
    at = np.arange(0.0, s[-1] + 1e-6, PATH_SPACING)
    dense = np.stack([np.interp(at, s, dense[:, k]) for k in range(2)], -1)
    course = polylines.headings(dense)
    bend = np.gradient(course, PATH_SPACING) if len(dense) > 2 else np.zeros(len(dense))
    return np.concatenate([dense, course[:, None], bend[:, None]], 1)


def _slots(scenario: Scenario, agents: int, min_agents: int) -> list[int | None]:
    """Track indices in slot order: ego, then vehicles that go furthest (None: an empty slot), then everybody else."""
    tracks = scenario.tracks
    travelled = np.zeros(len(tracks.ids))
    for k in range(len(tracks.ids)):
        there = np.flatnonzero(tracks.valid[k])
        if len(there) > 1:
            travelled[k] = np.linalg.norm(
                tracks.position[k, there[-1], :2] - tracks.position[k, there[0], :2]
            )
    drivable = (tracks.kind == ActorKind.VEHICLE) & tracks.valid[:, 0] & (travelled > _MOVING)
    if scenario.ego is not None:
        drivable[scenario.ego] = True
        travelled[scenario.ego] = np.inf
    for k in np.flatnonzero(drivable):
        # Its path would not be one that can be driven forward.
        path = tracks.position[k, :, :2].astype(np.float64)
        backs = backed_up(
            path, tracks.heading[k].astype(np.float64), tracks.valid[k], float(tracks.size[k, 0])
        )
        drivable[k] = backs <= REVERSING or k == scenario.ego
    chosen = [int(k) for k in np.argsort(-travelled, kind="stable") if drivable[k]][:agents]
    if len(chosen) < min_agents:
        raise UserError(
            f"scenario {scenario.id!r} has too few cars to control",
            got=f"{len(chosen)} vehicles that are there at the start and move"
            + ("" if scenario.ego is not None else " (the source names no ego)"),
            expected=f"at least {min_agents}",
            fix="lower `agents` or `min_agents`, or leave this scenario out",
        )
    empty = [None] * (agents - len(chosen))
    return chosen + empty + [k for k in range(len(tracks.ids)) if k not in chosen]


def build_bank(
    scenarios: Sequence[Scenario], agents: int, dt: float, min_agents: int | None = None
) -> tuple[SceneBank, GroundBank]:
    """Bake scenarios for boxworld.

    Args:
        scenarios: At least one; each needs a road and a route (or `agents` vehicles with logged paths).
        agents: Cars to control in each.
        dt: Tick [s]; tracks are resampled to it.
        min_agents: See `RoadSettings`.
    """
    if not scenarios:
        raise UserError("boxworld was given no scenarios", got=0, expected="at least one scenario")
    rows = [_scene_arrays(scenario, agents, dt, min_agents or agents) for scenario in scenarios]
    ground = _ground_bank(scenarios, rows)
    for scene, row in enumerate(rows):
        row["road_length"] = _road_length(ground, scene, row)
        del row["controlled"]
    names = rows[0].keys()
    packed: dict[str, Tensor] = {}
    for name in names:
        arrays = [row[name] for row in rows]
        shape = tuple(max(a.shape[d] for a in arrays) for d in range(arrays[0].ndim))
        padded = np.zeros((len(arrays), *shape), arrays[0].dtype)
        for k, array in enumerate(arrays):
            padded[(k, *(slice(0, n) for n in array.shape))] = array
            # Past its end everything stays as it was last; a zero would be a place, the origin of the world.
            if name in ("pose", "speed", "arc", "light", "path", "path_arc") and array.shape[1] < shape[1]:
                padded[k, : array.shape[0], array.shape[1] :] = array[:, -1:]
        packed[name] = torch.from_numpy(padded)
    return SceneBank(**packed), ground


_ground_banks: OrderedDict[tuple[object, ...], GroundBank] = OrderedDict()


def _ground_bank(scenarios: Sequence[Scenario], rows: Sequence[dict[str, np.ndarray]]) -> GroundBank:
    """The baked grounds, from the last `_KEPT` sets of scenes if they are among them.

    A comparison builds the same worlds for every recipe and drives the same suites with each; baking
    them anew took a tenth of its time.
    """
    # Ground is needed wherever somebody who is controlled may get to.
    needed = [row["path"][row["path_length"] > 0, :, :2].reshape(-1, 2).astype(np.float64) for row in rows]
    for k, scenario in enumerate(scenarios):
        if scenario.route is not None:
            needed[k] = np.concatenate([needed[k], np.asarray(scenario.route, np.float64)])
    levels = [
        on_level(
            s.road, np.concatenate([np.zeros((0, 3)), *(ground_below(s, int(k)) for k in row["controlled"])])
        )
        for s, row in zip(scenarios, rows, strict=True)
    ]
    key = tuple(
        (scenario.fingerprint(), tuple(around.min(0)), tuple(around.max(0)), len(road.features))
        for scenario, around, road in zip(scenarios, needed, levels, strict=True)
    )
    bank = _ground_banks.get(key)
    if bank is None:
        # Baking is mostly compiled code that lets other threads run.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            bank = GroundBank.pack(
                pool.map(
                    lambda scenario, road, around: bake(
                        dataclasses.replace(scenario, road=road), resolution=GROUND_CELL, around=around
                    ),
                    scenarios,
                    levels,
                    needed,
                )
            )
    _ground_banks[key] = bank
    _ground_banks.move_to_end(key)
    while len(_ground_banks) > _KEPT:
        _ground_banks.popitem(last=False)
    return bank


def _road_length(ground: GroundBank, scene: int, row: dict[str, np.ndarray]) -> np.ndarray:
    """`SceneBank.road_length` of the controlled cars of one scene."""
    path = torch.from_numpy(row["path"])
    size = torch.from_numpy(row["size"][: len(path)])[:, None].expand(-1, path.shape[1], -1)
    ahead = boxes.rear_axle_to_center(size[..., 0])
    center = world_from_local(torch.stack([ahead, torch.zeros_like(ahead)], -1), path[..., :2], path[..., 2])
    corner = boxes.corners(center, path[..., 2], size[..., :2])
    on_road = (ground.edge_distance(torch.full(corner.shape[:-1], scene), corner) >= 0).all(-1)
    arc = torch.arange(path.shape[1]) * PATH_SPACING
    arc = torch.minimum(arc, torch.from_numpy(row["path_length"])[:, None])
    # The path may begin before the car does, and a recorded one may cross what the map calls no road.
    first = torch.from_numpy(row["pose"][: len(path), 0, :2])
    closest = (center - first[:, None]).norm(dim=-1).argmin(1, keepdim=True)
    known = torch.from_numpy(row["path_arc"][:, :1])
    begins = torch.where(known.isnan(), closest, (known.nan_to_num() / PATH_SPACING).round().long())
    ahead_of_it = torch.arange(path.shape[1]) >= begins
    unbroken = (on_road | ~ahead_of_it).long().cumprod(1).bool() & ahead_of_it
    return torch.where(unbroken, arc, 0.0).amax(1).numpy()


def _scene_arrays(scenario: Scenario, agents: int, dt: float, min_agents: int) -> dict[str, np.ndarray]:
    tracks, order = scenario.tracks, _slots(scenario, agents, min_agents)
    ticks = int(scenario.duration / dt + 1e-6) + 1
    times = np.arange(ticks) * dt
    nearest = np.clip(np.searchsorted(scenario.times, times - dt / 2), 0, len(scenario.times) - 1)

    pose = np.zeros((len(order), ticks, 3))
    speed = np.zeros((len(order), ticks))
    valid = np.zeros((len(order), ticks), bool)
    used = [(slot, k) for slot, k in enumerate(order) if k is not None]
    for slot, k in used:
        there = tracks.valid[k]
        position = held(tracks.position[k, :, :2].astype(np.float64), there)
        heading = np.unwrap(held(tracks.heading[k].astype(np.float64), there))
        for axis in range(2):
            pose[slot, :, axis] = np.interp(times, scenario.times, position[:, axis])
        pose[slot, :, 2] = np.interp(times, scenario.times, heading)
        velocity = held(np.linalg.norm(tracks.velocity[k], axis=-1), there)
        speed[slot] = np.interp(times, scenario.times, velocity)
        valid[slot] = there[nearest]
    z = track_heights(scenario, order, times)
    steps = np.linalg.norm(np.diff(pose[..., :2], axis=1), axis=-1)
    arc = np.concatenate([np.zeros((len(order), 1)), np.cumsum(steps, 1)], 1)
    far = np.linalg.norm(pose[..., :2] - pose[:, :1, :2], axis=-1).max(1)
    of_track = [0 if k is None else k for k in order]
    present = np.array([k is not None for k in order])
    kind, size = tracks.kind[of_track], tracks.size[of_track]
    movable = np.isin(kind, [ActorKind.VEHICLE, ActorKind.CYCLIST]) & (far > _MOVING) & present

    paths, arcs, cruise = [], [], []
    lanes = [feature for feature in scenario.road.features if feature.kind == MapKind.LANE]
    for slot, k in enumerate(order[:agents]):
        if k is None:
            paths.append(np.zeros((2, 4)))
            arcs.append(np.full(ticks, np.nan))
            cruise.append(2.0)
            continue
        if k == scenario.ego and scenario.route is not None:
            points = scenario.route
        else:
            points, _ = route_of_track(
                tracks.position[k, :, :2].astype(np.float64),
                tracks.heading[k].astype(np.float64),
                tracks.valid[k],
                float(tracks.size[k, 0]),
                lanes,
            )
        paths.append(_path(np.asarray(points, np.float64)))
        arcs.append(arcs_along(paths[-1], pose[slot], float(size[slot, 0])))
        cruise.append(max(float(speed[slot][valid[slot]].max(initial=0.0)), 2.0))
    longest = max(len(path) for path in paths)
    path = np.zeros((agents, longest, 4))
    for slot, points in enumerate(paths):
        path[slot, : len(points)] = points
        path[slot, len(points) :] = points[-1]
    path_z = np.zeros((agents, longest if z.shape[1] else 0))
    for slot, k in used[: agents if path_z.shape[1] else 0]:
        if slot < agents:
            path_z[slot, : len(paths[slot])] = path_heights(
                paths[slot], pose[slot], z[slot], float(tracks.size[k, 0])
            )
    left = [o for o in scenario.route_offsets if o > 0.5]
    right = [o for o in scenario.route_offsets if o < -0.5]
    signals = scenario.signals
    lights = np.zeros((len(signals.lane), ticks), np.int64)
    if len(signals.lane):
        lights[:] = signals.state[:, nearest]
    f32 = np.float32
    return {
        "pose": pose.astype(f32),
        "speed": speed.astype(f32),
        "top_speed": speed.max(1).astype(f32),
        "valid": valid,
        "arc": arc.astype(f32),
        "z": z.astype(f32),
        "path_z": path_z.astype(f32),
        "controlled": np.array([k for slot, k in used if slot < agents], np.int64),
        "size": size.astype(f32),
        "kind": kind.astype(np.int64),
        "movable": movable,
        "tow": towed(pose, valid, size, movable),
        "present": present,
        "ticks": np.array(ticks, np.int64),
        "path": path.astype(f32),
        "path_length": np.array([(len(p) - 1) * PATH_SPACING for p in paths], f32),
        "path_arc": np.stack(arcs).astype(f32),
        "left_offset": np.array(min(left) if left else np.nan, f32),
        "right_offset": np.array(max(right) if right else np.nan, f32),
        "lane_width": np.array(scenario.lane_width, f32),
        "cruise": np.array(cruise, f32),
        "stop_point": signals.stop_point[:, :2].astype(f32),
        "stop_heading": signals.heading.astype(f32),
        "light": lights,
    }
