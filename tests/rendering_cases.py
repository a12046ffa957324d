"""What the tests of the renderer draw: roads, cameras, boxes, and how two pictures are compared."""

from __future__ import annotations

import math

import numpy as np
import torch

from countersteer.geometry.cameras import ego_from_camera
from countersteer.scenarios.scenario import MapFeature, MapKind, Scenario
from countersteer.worlds.interface import Images, Outputs
from countersteer.worlds.renderers.boxes import Boxes, Colour, PixelClass, Views
from countersteer.worlds.simulation.ground import GroundBank
from countersteer.worlds.simulation.ground_baking import bake
from hand_made import scenario

EVERYTHING = Outputs(rgb=True, depth=True, kind=True, instance=True)


def a_road(bend: float, offset: tuple[float, float] = (0.0, 0.0)) -> Scenario:
    """Two lanes of 3.6 m along +x (bending left by `bend` [1/m]) with a dash, edges, a crossing, a stop line."""
    s = np.arange(0.0, 200.1, 2.0)
    course = bend * s
    path = np.stack([np.cumsum(np.cos(course)), np.cumsum(np.sin(course))], -1) * 2.0 + np.array(offset)
    left = np.stack([-np.sin(course), np.cos(course)], -1)

    def line(name: str, kind: MapKind, at: float) -> MapFeature:
        points = path + at * left
        return MapFeature(name, kind, np.concatenate([points, np.zeros((len(points), 1))], 1), 3.6)

    def polygon(name: str, kind: MapKind, rows: slice, right: float, left_: float) -> MapFeature:
        outline = np.concatenate([path[rows] + right * left[rows], (path[rows] + left_ * left[rows])[::-1]])
        return MapFeature(name, kind, np.concatenate([outline, np.zeros((len(outline), 1))], 1))

    features = (
        line("lane", MapKind.LANE, 0.0),
        line("next", MapKind.LANE, 3.6),
        line("right", MapKind.LINE_SOLID_WHITE, -1.8),
        line("middle", MapKind.LINE_DASHED_WHITE, 1.8),
        line("left", MapKind.LINE_SOLID_YELLOW, 5.4),
        line("twin", MapKind.LINE_SOLID_YELLOW, 5.7),
        polygon("area", MapKind.DRIVABLE_AREA, slice(None), -2.6, 6.4),
        polygon("walk", MapKind.CROSSWALK, slice(40, 43), -2.4, 6.2),
        MapFeature(
            "stop",
            MapKind.STOP_LINE,
            line("", MapKind.LANE, 0.0).points[[38, 38]] + np.array([[0, -1.6, 0], [0, 1.6, 0]]),
        ),
    )
    return scenario(*features, route=path)


def three_roads() -> GroundBank:
    """A straight road, a bend to the left, and one to the right far from the origin."""
    scenes = (a_road(0.0), a_road(0.006), a_road(-0.01, offset=(5300.0, -8200.0)))
    return GroundBank.pack([bake(scene) for scene in scenes])


def look_along(
    bank: GroundBank,
    width: int = 96,
    height: int = 48,
    count: int = 1,
    height_m: float = 1.5,
    **mounting: float,
) -> Views:
    """Cameras at the origin of the straight road, looking along +x; `mounting` in radians."""
    angles = {"roll": 0.0, "pitch": 0.0, "yaw": 0.0, **mounting}
    rotation = torch.tensor(ego_from_camera(**angles)).expand(count, 3, 3)
    return Views(
        width=width,
        height=height,
        scene=torch.zeros(count, dtype=torch.long),
        world=torch.arange(count),
        position=torch.tensor([20.0, 0.0, height_m], dtype=torch.float64).expand(count, 3).clone(),
        rotation=rotation.clone(),
        focal=torch.full((count,), 60.0),
        ego_slot=torch.full((count,), -1),
    )


def some_boxes(worlds: int, *rows: tuple[float, ...], kind: PixelClass = PixelClass.VEHICLE) -> Boxes:
    """The same boxes in every world: x, y, z, heading, length, width, height each."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(1, -1, 7).expand(worlds, -1, -1)
    count = table.shape[1]
    return Boxes(
        center=table[..., :3].clone(),
        heading=table[..., 3].clone(),
        size=table[..., 4:].clone(),
        kind=torch.full((worlds, count), int(kind)),
        instance=100 + torch.arange(count).expand(worlds, count),
        colour=torch.full((worlds, count), int(Colour.BODY)),
        present=torch.ones(worlds, count, dtype=torch.bool),
    )


def agreement(fast: Images, plain: Images) -> dict[str, np.ndarray]:
    """Per pixel: whether the two agree in colour, class, instance, depth."""
    depth, other = fast.depth.double(), plain.depth.double()
    close = ((depth - other).abs() <= 1e-3 * other) | (depth == other)
    return {
        "rgb": ((fast.rgb.int() - plain.rgb.int()).abs() <= 1).all(-1).numpy(),
        "kind": (fast.kind == plain.kind).numpy(),
        "instance": (fast.instance == plain.instance).numpy(),
        "depth": close.numpy(),
    }


def a_random_case(bank: GroundBank, seed: int, largest: int = 190) -> tuple[Views, Boxes, int]:
    """Random rig, size, scene, and 0 to 32 boxes of all kinds around the camera, some of them very near.

    Pictures are smaller than `largest` pixels either way.
    """
    rng = np.random.default_rng(seed)
    scene, count = int(rng.integers(len(bank.tile_start))), int(rng.integers(0, 33))
    middle = (bank.origin[scene] + bank.cell_shape[scene].flip(-1) * bank.resolution[scene] / 2).numpy()
    along = float(rng.uniform(-90.0, 90.0))
    eye = np.array([middle[0] + along, middle[1] + rng.uniform(-15, 15), rng.uniform(0.4, 9.0)])
    yaw = rng.uniform(-math.pi, math.pi)
    rotation = ego_from_camera(rng.uniform(-0.5, 0.5), rng.uniform(-0.3, 0.6), yaw)
    width, height = (int(n) for n in rng.integers(1, largest, 2))
    views = Views(
        width=width,
        height=height,
        scene=torch.tensor([scene]),
        world=torch.tensor([0]),
        position=torch.tensor(eye[None]),
        rotation=torch.tensor(rotation[None]),
        focal=torch.tensor([width * rng.uniform(0.4, 1.5)]),
        ego_slot=torch.tensor([int(rng.integers(-1, max(count, 1)))]),
    )
    angle, away = rng.uniform(-math.pi, math.pi, count), rng.uniform(0.5, 60.0, count) * rng.random(count)
    size = rng.uniform(0.3, 6.0, (count, 3))
    z = np.where(rng.random(count) < 0.8, size[:, 2] / 2, rng.uniform(-1.0, 7.0, count))
    center = np.stack([eye[0] + away * np.cos(angle), eye[1] + away * np.sin(angle), z], -1)
    boxes = Boxes(
        center=torch.tensor(center[None], dtype=torch.float64),
        heading=torch.tensor(rng.uniform(-math.pi, math.pi, (1, count)), dtype=torch.float32),
        size=torch.tensor(size[None], dtype=torch.float32),
        kind=torch.tensor(rng.integers(4, 9, (1, count))),
        instance=torch.tensor(rng.permutation(1000)[None, :count]),
        colour=torch.tensor(rng.integers(0, len(Colour) + 7, (1, count))),
        present=torch.tensor(rng.random((1, count)) < 0.9),
    )
    return views, boxes, seed
