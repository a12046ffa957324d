"""Our scores beside their references, on scenes drawn at random: the references' own code is run, none of it is here.

    python benchmarks/score_parity.py --references FOLDER [--scenes 200] [--json results/score_parity.json]

FOLDER holds clones (or unpacked archives) of what is to be compared: navsim, navsim-v1.1, nuplan-devkit, Bench2Drive,
HUGSIM, alpasim, waymo-open-dataset, each under that name; what is absent is skipped. They need scipy, shapely and pandas, and
omegaconf for alpasim, in the environment; of what else they import, parts that no score reaches are replaced by
empty stand-ins, so nuPlan's maps and databases need not be installed. navsim-v1.1 is compared in a process of its own,
since its modules have the names of navsim's.

A row says in how many of the cases any sub-score differs by more than 1e-6, and by how much at most.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import math
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from countersteer.evaluation.metrics import (
    alpasim,
    bench2drive,
    comfort,
    hugsim,
    navsim,
    navsim_parts,
    nuplan,
)
from countersteer.evaluation.metrics.drive import Drive, Lane, Motion, Plans, RedLight, Road
from countersteer.evaluation.metrics.rater_feedback import score_rater_feedback
from countersteer.geometry.poses import world_from_local
from countersteer.scenarios.scenario import ActorKind, Tracks

ABSENT = (
    *(
        "aioboto3",
        "aiofiles",
        "boto3",
        "botocore",
        "cachetools",
        "fiona",
        "geopandas",
        "hydra",
        "joblib",
        "open3d",
    ),
    *(
        "pandas.plotting",
        "pyogrio",
        "pyquaternion",
        "rasterio",
        "ray",
        "requests",
        "retry",
        "sqlalchemy",
        "tqdm",
    ),
    *(
        "ujson",
        "urllib3",
        "matplotlib",
        "pytorch_lightning",
        "nuplan.database",
        "nuplan.common.maps.nuplan_map",
    ),
    *("nuplan.common.utils.io_utils", "nuplan.common.utils.s3_utils"),
)
"""Modules that the references import and no score reaches."""


class _StandIn(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012 (what makes a module a package)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__class_getitem__": classmethod(lambda cls, _: cls)})


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if any(fullname == name or fullname.startswith(name + ".") for name in ABSENT):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


@dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        score: What was compared.
        reference: With what.
        cases: On how many scenes.
        differing: In how many any number differs by more than 1e-6.
        largest: Largest difference.
        below_one: In how many our score is below its best, so that there was something to compare.
    """

    score: str
    reference: str
    cases: int
    differing: int
    largest: float
    below_one: int


def compared(score: str, reference: str, pairs: list[tuple[list[float], list[float]]]) -> Row:
    """The row of pairs (ours, theirs)."""
    gaps = [float(np.abs(np.array(a, float) - np.array(b, float)).max()) for a, b in pairs]
    return Row(
        score,
        reference,
        len(pairs),
        sum(gap > 1e-6 for gap in gaps),
        max(gaps),
        int(sum(min(a) < 1.0 for a, _ in pairs)),
    )


PACIFICA = (5.176, 2.297)
AXLE = 1.461


def scene(rng: np.random.Generator, *, count: int = 41, dt: float = 0.1) -> Drive:
    """A road of three lanes turned at random, an intersection, a car that drifts, up to eight others, a light."""
    turn, shift = rng.uniform(-np.pi, np.pi), rng.uniform(-1000, 1000, 2)

    def placed(points: Any) -> np.ndarray:
        points = np.asarray(points, float)
        return world_from_local(points, shift, np.full(points.shape[:-1], turn))

    def band(x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
        return placed([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])

    lanes = []
    for k, y in enumerate((-3.6, 0.0, 3.6)):
        split = rng.uniform(5, 40)
        for name, x0, x1 in (("a", -40.0, split), ("b", split, 160.0)):
            line = placed([[x0, y], [(x0 + x1) / 2, y], [x1, y]])
            back = k == 2
            lanes.append(
                Lane(
                    f"{k}{name}",
                    band(x0, x1, y - 1.8, y + 1.8),
                    line[::-1].copy() if back else line,
                    on_route=k == 1 or (k == 0 and rng.random() < 0.5),
                    successors=(f"{k}a",)
                    if back and name == "b"
                    else (f"{k}b",)
                    if not back and name == "a"
                    else (),
                )
            )
    start = rng.uniform(0, 60)
    crossing = (band(start, start + rng.uniform(4, 25), -5.4, 5.4),) if rng.random() < 0.5 else ()
    time = np.arange(count) * dt
    speed = np.maximum(rng.uniform(0, 15) + rng.uniform(-2.5, 2.5) * time, 0.0) * (rng.random() > 0.08)
    sway = rng.uniform(-0.12, 0.12) * np.sin(rng.uniform(0.2, 2.0) * time) + rng.uniform(-0.06, 0.06)
    heading = turn + sway
    y0 = rng.choice([0.0, 0.0, -3.6, 1.8]) + rng.uniform(-0.8, 0.8)
    way = np.stack([np.cos(heading), np.sin(heading)], -1)
    steps = (speed[:-1, None] * way[:-1]) * dt
    position = placed([0.0, y0]) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    yaw_rate = np.gradient(sway, dt)
    ego = Motion(
        position=position,
        heading=heading,
        velocity=np.stack([speed, np.zeros(count)], -1),
        acceleration=np.stack(
            [np.gradient(speed, dt) + rng.normal(0, rng.choice([0, 0.6]), count), np.zeros(count)], -1
        ),
        yaw_rate=yaw_rate,
        yaw_acceleration=np.gradient(yaw_rate, dt),
    )
    others = int(rng.integers(0, 9))
    kinds = rng.choice([0, 0, 0, 1, 2, 3], others)
    spot = np.stack([rng.uniform(-25, 70, others), rng.uniform(-6, 6, others)], -1)
    facing = rng.normal(0, 0.4, others) + rng.choice([0, 0, np.pi, np.pi / 2], others)
    pace = np.where((kinds == 3) | (rng.random(others) < 0.3), 0.0, rng.uniform(0, 14, others))
    course = np.stack([np.cos(facing), np.sin(facing)], -1)
    local = spot[:, None] + pace[:, None, None] * time[:, None] * course[:, None]
    world_heading = facing + turn
    velocity = pace[:, None] * np.stack([np.cos(world_heading), np.sin(world_heading)], -1)
    size = np.stack([rng.uniform(0.5, 5.5, others), rng.uniform(0.5, 2.2, others), np.full(others, 1.6)], -1)
    tracks = Tracks(
        ids=tuple(f"t{k}" for k in range(others)),
        kind=kinds.astype(np.int64),
        position=np.concatenate([placed(local), np.zeros((others, count, 1))], -1),
        heading=np.repeat(world_heading[:, None], count, 1),
        velocity=np.repeat(velocity[:, None], count, 1),
        size=size,
        valid=np.ones((others, count), bool),
    )
    ground = (band(-40, 160, -5.4 + rng.uniform(-0.3, 0.6), 5.4),)
    x = rng.uniform(0, 60)
    lights = (RedLight(band(x, x + 8, -1.8, 1.8), rng.random(count) < 0.5),) if rng.random() < 0.3 else ()
    return Drive(
        times=time,
        ego=ego,
        size=PACIFICA,
        ahead=AXLE,
        actors=tracks,
        road=Road((*ground, *crossing), tuple(lanes), crossing),
        route=placed([[-40.0, 0.0], [60.0, 0.0], [160.0, 0.0]]),
        red_lights=lights,
    )


def faster(drive: Drive) -> Drive:
    """The same scene, driven straight along the middle lane at 12 m/s, as a reference for progress."""
    assert drive.route is not None
    way = (drive.route[1] - drive.route[0]) / np.linalg.norm(drive.route[1] - drive.route[0])
    count = len(drive.times)
    speed = np.full(count, 12.0)
    zero = np.zeros(count)
    ego = Motion(
        position=drive.route[0] + 40.0 * way + 12.0 * drive.times[:, None] * way,
        heading=np.full(count, math.atan2(way[1], way[0])),
        velocity=np.stack([speed, zero], -1),
        acceleration=np.zeros((count, 2)),
        yaw_rate=zero,
        yaw_acceleration=zero,
    )
    return dataclasses.replace(drive, ego=ego)


def _cut(drive: Drive, count: int) -> tuple[Drive, Tracks]:
    """The first ticks of a drive, and where the others are afterwards."""
    series = ("position", "heading", "velocity", "valid")

    def part(rows: slice) -> Tracks:
        return dataclasses.replace(
            drive.actors, **{name: getattr(drive.actors, name)[:, rows] for name in series}
        )

    rows = slice(0, count)
    first = dataclasses.replace(drive, times=drive.times[rows], ego=drive.ego.part(rows), actors=part(rows))
    return first, part(slice(count, None))


def _navsim_states(motion: Motion) -> np.ndarray:
    zero = np.zeros(len(motion.heading))
    return np.stack(
        [
            *(motion.position[:, 0], motion.position[:, 1], motion.heading),
            *(
                motion.velocity[:, 0],
                motion.velocity[:, 1],
                motion.acceleration[:, 0],
                motion.acceleration[:, 1],
            ),
            *(zero, zero, motion.yaw_rate, motion.yaw_acceleration),
        ],
        -1,
    )


def _nuplan_tracks(drive: Drive, tick: int) -> list[Any]:
    from nuplan.common.actor_state.agent import Agent
    from nuplan.common.actor_state.oriented_box import OrientedBox
    from nuplan.common.actor_state.scene_object import SceneObjectMetadata
    from nuplan.common.actor_state.state_representation import StateSE2, StateVector2D
    from nuplan.common.actor_state.static_object import StaticObject
    from nuplan.common.actor_state.tracked_objects_types import TrackedObjectType

    kinds = {
        ActorKind.VEHICLE: TrackedObjectType.VEHICLE,
        ActorKind.PEDESTRIAN: TrackedObjectType.PEDESTRIAN,
        ActorKind.CYCLIST: TrackedObjectType.BICYCLE,
        ActorKind.STATIC: TrackedObjectType.TRAFFIC_CONE,
    }
    tracks, found = drive.actors, []
    for k, name in enumerate(tracks.ids):
        x, y, _ = tracks.position[k, tick]
        box = OrientedBox(StateSE2(x, y, tracks.heading[k, tick]), *tracks.size[k])
        about = SceneObjectMetadata(round(drive.times[tick] * 1e6), name, k, name)
        kind = ActorKind(int(tracks.kind[k]))
        if kind is ActorKind.STATIC:
            found.append(StaticObject(kinds[kind], box, about))
        else:
            found.append(Agent(kinds[kind], box, StateVector2D(*tracks.velocity[k, tick]), about))
    return found


def _navsim_scorer(drive: Drive, states: np.ndarray, *, lights: bool) -> tuple[Any, tuple[Any, ...]]:
    """The reference's scorer and what it takes."""
    import shapely
    from nuplan.common.actor_state.state_representation import StateSE2
    from nuplan.common.actor_state.tracked_objects import TrackedObjects
    from nuplan.common.maps.maps_datatypes import SemanticMapLayer
    from nuplan.planning.simulation.observation.observation_type import DetectionsTracks
    from nuplan.planning.simulation.trajectory.trajectory_sampling import TrajectorySampling

    planner = "navsim.planning.simulation.planner.pdm_planner"
    scoring = importlib.import_module(f"{planner}.scoring.pdm_scorer")
    observations = importlib.import_module(f"{planner}.observation.pdm_observation")
    maps = importlib.import_module(f"{planner}.observation.pdm_occupancy_map")
    paths = importlib.import_module(f"{planner}.utils.pdm_path")

    sampling = TrajectorySampling(num_poses=40, interval_length=0.1)
    boxes = [
        DetectionsTracks(TrackedObjects(_nuplan_tracks(drive, tick))) for tick in range(len(drive.times))
    ]
    # Version 1.1 has no fifth argument: it always observes a second more.
    observation = observations.PDMObservation(sampling, sampling, 100.0, 1, *([False] if lights else []))
    red = [
        (["red_light_0"] * bool(light.red[tick]), [shapely.Polygon(light.area)] * bool(light.red[tick]))
        for tick in range(len(drive.times))
        for light in drive.red_lights
    ]
    empty = [([], np.array([], object))] * len(drive.times)
    if lights:
        observation._occupancy_maps_tl = [(t, np.array(g, object)) for t, g in red] or empty
        observation.update_detections_tracks(boxes)
    else:  # v1.1 fills its maps from a scenario
        observation._occupancy_maps = [
            maps.PDMOccupancyMap(
                [t.track_token for t in one.tracked_objects],
                np.array([t.box.geometry for t in one.tracked_objects], object),
            )
            for one in boxes
        ]
        observation._unique_objects = {t.track_token: t for t in boxes[0].tracked_objects}
        observation._collided_track_ids = []
        observation._initialized = True
    road = drive.road
    areas = [("g", SemanticMapLayer.DRIVABLE_AREA, area) for area in road.drivable]
    areas += [(lane.id, SemanticMapLayer.LANE, lane.area) for lane in road.lanes]
    areas += [("i", SemanticMapLayer.INTERSECTION, area) for area in road.intersections]
    shapes = np.array([shapely.Polygon(area) for _, _, area in areas], object)
    ground = maps.PDMDrivableMap([a for a, _, _ in areas], [b for _, b, _ in areas], shapes)
    assert drive.route is not None
    along = np.diff(drive.route, axis=0, append=2 * drive.route[-1:] - drive.route[-2:-1])
    line = [StateSE2(*p, math.atan2(d[1], d[0])) for p, d in zip(drive.route, along, strict=True)]
    on_route = [lane.id for lane in road.lanes if lane.on_route]
    scorer = scoring.PDMScorer(sampling)
    return scorer, (states, observation, paths.PDMPath(line), on_route, ground)


def navsim_v2(folder: Path, scenes: int) -> Iterator[Row]:
    """EPDMS, all sub-scores but the two-frame one, with progress against a second proposal."""
    sys.path[:0] = [str(folder / "navsim"), str(folder / "nuplan-devkit")]
    pairs, weights = [], []
    rng = np.random.default_rng(0)
    for _ in range(scenes):
        drive = scene(rng)
        rival = faster(drive)
        states = np.stack([_navsim_states(rival.ego), _navsim_states(drive.ego)])
        scorer, given = _navsim_scorer(drive, states, lights=True)
        theirs = scorer.score_proposals(*given)[1].iloc[0]
        ours = navsim.score_epdms(drive, rival)
        p = ours.parts
        pairs.append(
            (
                [
                    *(p.no_collision, p.drivable_area, p.driving_direction, p.traffic_light, p.progress),
                    *(p.time_to_collision, p.lane_keeping, ours.value),
                ],
                [
                    *(theirs["no_at_fault_collisions"], theirs["drivable_area_compliance"]),
                    *(theirs["driving_direction_compliance"], theirs["traffic_light_compliance"]),
                    *(
                        theirs["ego_progress"],
                        theirs["time_to_collision_within_bound"],
                        theirs["lane_keeping"],
                    ),
                    theirs["pdm_score"],
                ],
            )
        )
    yield compared("EPDMS", "navsim 0a380a9, PDMScorer", pairs)

    rough = importlib.import_module(
        "navsim.planning.simulation.planner.pdm_planner.scoring.pdm_comfort_metrics"
    )
    names = [f.name.replace("_", " ") for f in dataclasses.fields(comfort.ComfortBounds)]
    bounds, extended = [], []
    for _ in range(scenes):
        one, other = scene(rng).ego, scene(rng).ego
        broken = {f.note for f in comfort.violations(comfort.filtered_signals(one, 0.1, AXLE))}
        ours = [float(name not in broken) for name in names]
        # The reference's order: lon acc, lat acc, jerk, lon jerk, yaw acc, yaw rate.
        theirs = rough.ego_is_comfortable(_navsim_states(one)[None], np.arange(41) * 0.1)[0]
        bounds.append((ours, [float(v) for v in theirs]))
        mixed = dataclasses.replace(one, acceleration=one.acceleration + 0.3 * rng.normal(size=2))
        late = mixed if rng.random() < 0.7 else other
        mine, _ = navsim_parts.extended_comfort(one, late, 0.1)
        states = (_navsim_states(one)[None], _navsim_states(late)[None])
        extended.append(
            ([mine], [float(rough.ego_is_two_frame_extended_comfort(*states, np.arange(41) * 0.1)[0])])
        )
        weights.append(one)
    yield compared("Comfort", "navsim 0a380a9, ego_is_comfortable", bounds)
    yield compared("EPDMS extended comfort", "navsim 0a380a9, ego_is_two_frame_extended_comfort", extended)


def navsim_v1(folder: Path, scenes: int) -> Iterator[Row]:
    """PDMS, with progress against a second proposal."""
    sys.path[:0] = [str(folder / "navsim-v1.1"), str(folder / "nuplan-devkit")]
    pairs = []
    rng = np.random.default_rng(1)
    for _ in range(scenes):
        # This version knows where others are for a second more.
        whole = dataclasses.replace(scene(rng, count=51), red_lights=())
        drive, later = _cut(whole, 41)
        rival = faster(drive)
        states = np.stack([_navsim_states(rival.ego), _navsim_states(drive.ego)])
        scorer, given = _navsim_scorer(whole, states, lights=False)
        value = scorer.score_proposals(*given)[1]
        ours = navsim.score_pdms(drive, rival, later=later)
        p = ours.parts
        multi, weighted = scorer._multi_metrics[:, 1], scorer._weighted_metrics[:, 1]
        # (NC, DAC) and (EP, TTC, C, DDC) in the reference's order.
        pairs.append(
            (
                [
                    *(p.no_collision, p.drivable_area, p.progress, p.time_to_collision, p.comfort),
                    *(p.driving_direction, ours.value),
                ],
                [*multi, *weighted, float(value)],
            )
        )
    yield compared("PDMS", "navsim v1.1, PDMScorer", pairs)


def nuplan_scenes(folder: Path, scenes: int) -> Iterator[Row]:
    """nuPlan's own test scenes for collisions and time to collision: one moment each, read from its JSON files."""
    tests = folder / "nuplan-devkit/nuplan/planning/metrics/evaluation_metrics/common/test/json"

    def drive_of(content: dict[str, Any]) -> Drive:
        ego, world = content["ego"], content["world"]
        kinds = {"vehicles": 0, "pedestrians": 1, "bicycles": 2, "genericobjects": 3}
        # An object's speed lies along its heading.
        found = [(kind, one) for name, kind in kinds.items() for one in world.get(name, [])]
        pose = np.array([one["box"]["pose"] for _, one in found], float).reshape(-1, 3)
        size = np.array([[*one["box"]["size"][::-1], 1.6] for _, one in found], float).reshape(-1, 3)
        pace = np.array([one.get("speed", 0.0) for _, one in found], float)
        count = len(found)
        velocity = pace[:, None] * np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], -1)
        tracks = Tracks(
            ids=tuple(str(k) for k in range(count)),
            kind=np.array([kind for kind, _ in found], np.int64),
            position=np.repeat(np.concatenate([pose[:, :2], np.zeros((count, 1))], -1)[:, None], 2, 1),
            heading=np.repeat(pose[:, 2:], 2, 1),
            velocity=np.repeat(velocity[:, None], 2, 1),
            size=size,
            valid=np.ones((count, 2), bool),
        )
        x, y, heading = ego["pose"]
        motion = Motion(
            position=np.array([[x, y]] * 2),
            heading=np.full(2, heading),
            velocity=np.array([ego["velocity"]] * 2, float),
            acceleration=np.zeros((2, 2)),
            yaw_rate=np.zeros(2),
            yaw_acceleration=np.zeros(2),
        )
        # One lane all round, so that nobody straddles.
        around = np.array([x, y]) + 500.0 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        lane = Lane("all", around, around[:2])
        return Drive(np.array([0.0, 0.1]), motion, PACIFICA, AXLE, tracks, Road((around,), (lane,)))

    pairs = []
    for file in sorted((tests / "time_to_collision_within_bound").glob("*.json")):
        content = json.loads(file.read_text())
        expected = [v for k, v in content["expected"]["statistics"] if k == "MIN"]
        if not expected or "ego_future_states" in content["ego"]:
            continue
        ours = float(nuplan.minimum_time_to_collision(drive_of(content))[0])
        pairs.append(([min(ours, 99.0)], [min(float(expected[0]), 99.0)]))
    if pairs:
        yield compared("nuPlan time to collision", "nuplan-devkit e924167, its JSON scenes", pairs)


def bench2drive_comfort(folder: Path, scenes: int) -> Iterator[Row]:
    """Comfortness of 5 s drives."""
    sys.path.insert(0, str(folder / "Bench2Drive" / "tools"))
    theirs = importlib.import_module("efficiency_smoothness_benchmark")
    rng, pairs = np.random.default_rng(2), []
    for _ in range(scenes):
        ego = scene(rng, count=int(rng.integers(8, 120))).ego
        ego = dataclasses.replace(
            ego, acceleration=rng.uniform(0, 3) * rng.normal(size=ego.acceleration.shape)
        )
        way = np.stack([np.cos(ego.heading), np.sin(ego.heading), 0 * ego.heading], -1)
        left = np.stack([-way[:, 1], way[:, 0], way[:, 2]], -1)
        world = ego.acceleration[:, :1] * way + ego.acceleration[:, 1:] * left
        spin = np.stack([0 * ego.heading, 0 * ego.heading, ego.yaw_rate], -1)
        value = theirs.seg_compute_comfort_metric(world, spin, way, -left, way, way)
        pairs.append(([bench2drive.comfortness(ego).value], [value]))
    yield compared("Bench2Drive comfortness", "Bench2Drive 7ec25d1, seg_compute_comfort_metric", pairs)


def hugsim_score(folder: Path, scenes: int) -> Iterator[Row]:
    """HD-Score with point clouds, on the CPU."""
    import torch

    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    sys.path.insert(0, str(folder / "HUGSIM" / "sim" / "utils"))
    theirs = importlib.import_module("score_calculator")
    rng, pairs = np.random.default_rng(3), []
    for _ in range(scenes):
        drive = scene(rng, count=21, dt=0.25)
        ticks = np.arange(0, 16, 5)
        steps = np.arange(1, 7)
        slip = rng.normal(0, 0.05, (len(ticks), len(steps), 2)).cumsum(1)
        at = np.minimum(ticks[:, None] + steps, 20)
        plans = Plans(ticks, steps * 0.25, drive.ego.position[at] + slip, drive.ego.heading[at])
        drive = dataclasses.replace(drive, plans=plans)
        assert drive.route is not None
        # Points 0.4 m apart over the road, and a wall now and then; the box is 1.5 m high.
        grid = np.stack(np.meshgrid(np.arange(-20, 90, 0.4), np.arange(-5.4, 5.4, 0.4)), -1).reshape(-1, 2)
        turn = math.atan2(*(drive.route[1] - drive.route[0])[::-1])
        origin = drive.route[0] + 40 * np.array([np.cos(turn), np.sin(turn)])
        ground = world_from_local(grid, origin, np.full(len(grid), turn))
        wall = rng.uniform([-0.5, -0.5, 0.1], [0.5, 0.5, 1.4], (150, 3))
        wall[:, :2] += rng.uniform([10, -6], [300, 6])
        wall[:, :2] = world_from_local(wall[:, :2], origin, np.full(150, turn))
        completion = hugsim.score_hd(drive, hugsim.Background(ground, wall)).parts.completion
        centers = drive.center
        way = np.stack([np.cos(plans.heading), np.sin(plans.heading)], -1)
        placed = plans.position + AXLE * way
        cars = np.flatnonzero(drive.actors.kind == ActorKind.VEHICLE)
        frames = []
        for tick, time in enumerate(drive.times):
            length, width = drive.size
            row = np.flatnonzero(ticks == tick)
            planned = (
                np.concatenate([placed[row[0]], plans.heading[row[0], :, None]], -1) if len(row) else None
            )
            frames.append(
                {
                    "is_key_frame": bool(len(row)),
                    "time_stamp": time,
                    "rc": completion,
                    "ego_box": (*centers[tick], 0.0, width, length, 1.5, drive.ego.heading[tick]),
                    "planned_traj": {"traj": planned, "timestep": 0.25},
                    "obj_names": ["car"] * len(cars),
                    "obj_boxes": [
                        (
                            *drive.actors.position[k, tick],
                            *drive.actors.size[k, [1, 0, 2]],
                            drive.actors.heading[k, tick],
                        )
                        for k in cars
                    ],
                }
            )
        cloud = torch.from_numpy(wall).float()
        data = {"frames": frames, "ground_xy": ground, "scene_xyz": cloud}
        with contextlib.redirect_stdout(io.StringIO()):
            _, _, value, means, _ = theirs.ScoreCalculator(data).calculate()
        score = hugsim.score_hd(drive, hugsim.Background(ground, wall))
        names = ("no_collision", "drivable_area", "time_to_collision", "comfort")
        ours = [float(np.mean([getattr(p, name) for p in score.parts.plans])) for name in names]
        pairs.append(([*ours, score.value], [*(means[k] for k in ("nc", "dac", "ttc", "c")), value]))
    yield compared("HD-Score", "HUGSIM 62c690d, ScoreCalculator", pairs)


def alpasim_score(folder: Path, scenes: int) -> Iterator[Row]:
    """The scene score from its four numbers."""
    source = folder / "alpasim" / "src" / "eval" / "src" / "eval" / "aggregation" / "scene_score.py"
    schema = types.ModuleType("eval.schema")
    schema.SceneScoreConfig = object  # type: ignore[attr-defined]  # only annotations name it
    sys.modules.setdefault("eval", types.ModuleType("eval"))
    sys.modules["eval.schema"] = schema
    spec = importlib.util.spec_from_file_location("alpasim_scene_score", source)  # type: ignore[attr-defined]
    theirs = importlib.util.module_from_spec(spec)  # type: ignore[attr-defined]
    sys.modules["alpasim_scene_score"] = theirs
    spec.loader.exec_module(theirs)
    settings = types.SimpleNamespace(progress_saturation_threshold=0.8, min_gt_distance_for_full_score_m=5.0)
    rng, pairs = np.random.default_rng(4), []
    for _ in range(scenes):
        progress, recorded = rng.uniform(-0.2, 1.3), rng.uniform(0, 20)
        crash, off = rng.random() < 0.15, rng.random() < 0.15
        row = {
            "progress_clipped_rel": progress,
            "gt_dist_traveled_m": recorded,
            "collision_at_fault": float(crash),
            "offroad": float(off),
        }
        value = theirs.score_rollout(row, settings).score
        parts = alpasim.SceneParts(progress, recorded, bool(crash), bool(off))
        pairs.append(([alpasim.scene_score(parts)], [value]))
    yield compared("AlpaSim scene score", "alpasim 3032e0c, score_rollout", pairs)


def rater_feedback(folder: Path, scenes: int) -> Iterator[Row]:
    """RFS at 4 Hz, one to four trajectories of different lengths, two plans."""
    sys.path.insert(
        0, str(folder / "waymo-open-dataset" / "src" / "waymo_open_dataset" / "metrics" / "python")
    )
    theirs = importlib.import_module("rater_feedback_utils")
    rng, pairs = np.random.default_rng(5), []

    def drawn(count: int) -> np.ndarray:
        speed = np.maximum(rng.uniform(0, 12) + rng.uniform(-3, 3) * np.arange(count) / 4, 0) * (
            rng.random() > 0.1
        )
        turn = np.cumsum(rng.normal(0, 0.04, count))
        return np.cumsum(speed[:, None] / 4 * np.stack([np.cos(turn), np.sin(turn)], -1), 0)

    for _ in range(scenes):
        rated = [drawn(int(rng.integers(8, 25))) for _ in range(rng.integers(1, 5))]
        labels = rng.integers(0, 11, len(rated)).astype(float)
        plans = np.stack(
            [drawn(20), rated[0][-1] * np.linspace(0.05, 1, 20)[:, None] + rng.normal(0, 0.5, 2)]
        )
        odds, speed = rng.dirichlet([1, 1]), rng.uniform(0, 14)
        out = theirs.get_rater_feedback_score(plans[None], odds[None], [rated], [labels], np.array([speed]))
        score = score_rater_feedback(plans, odds, rated, labels, speed)
        value = float(out["rater_feedback_score"][0])
        inside = out["is_fully_within_trust_region"][0].astype(float)
        pairs.append(([score.value / 10, *score.parts.trusted.astype(float)], [value / 10, *inside]))
    yield compared("Rater feedback score", "waymo-open-dataset 99a4cb3, get_rater_feedback_score", pairs)


COMPARISONS: dict[str, tuple[str, Callable[[Path, int], Iterator[Row]]]] = {
    "navsim": ("navsim", navsim_v2),
    "navsim-v1.1": ("navsim-v1.1", navsim_v1),
    "nuplan": ("nuplan-devkit", nuplan_scenes),
    "bench2drive": ("Bench2Drive", bench2drive_comfort),
    "hugsim": ("HUGSIM", hugsim_score),
    "alpasim": ("alpasim", alpasim_score),
    "rater-feedback": ("waymo-open-dataset", rater_feedback),
}


def main() -> None:
    """Compare, each reference in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--references", type=Path, required=True, help="folder with the clones")
    parser.add_argument("--scenes", type=int, default=200, help="random scenes a comparison")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--only", choices=COMPARISONS, help="one comparison, in this process")
    options = parser.parse_args()
    if options.only is not None:
        sys.meta_path.insert(0, _StandIns())
        import shapely

        # Removed from shapely 2.1; the references still ask for it.
        shapely.vectorized = types.SimpleNamespace(contains=shapely.contains_xy)  # type: ignore[attr-defined]
        sys.modules["shapely.vectorized"] = shapely.vectorized  # type: ignore[assignment]
        rows = list(COMPARISONS[options.only][1](options.references, options.scenes))
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    rows = []
    for name, (clone, _) in COMPARISONS.items():
        if not (options.references / clone).is_dir():
            print(f"{name}: skipped, there is no {options.references / clone}")
            continue
        command = [sys.executable, __file__, "--only", name]
        command += ["--references", str(options.references), "--scenes", str(options.scenes)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: failed\n{done.stderr[-2000:]}")
            continue
        for row in json.loads(done.stdout.splitlines()[-1]):
            rows.append(row)
            print(
                f"{row['score']:26} {row['cases']:5} cases, {row['differing']:4} differ, at most {row['largest']:.1e}"
            )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
