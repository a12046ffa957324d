"""What the renderer draws: a sheet of scenes and cameras, and how steady a picture is while its car creeps.

    python benchmarks/pictures.py [--sheet runs/sheet.png] [FILE ...]

The sheet shows four cameras of cars in generated scenes (and in recorded ones, if their files are given): colour,
depth and instances. The table compares frames of a car that creeps forward with the same frames drawn at
eight times the width and height and averaged, which is what a perfect camera would see: the mean difference
between the two, and how much each changes from frame to frame. A picture that shimmers or pops changes more.
"""

from __future__ import annotations

import argparse
import colorsys
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from countersteer.data.readers import read
from countersteer.data.sources import ProceduralRoads
from countersteer.geometry.cameras import Camera
from countersteer.scenarios.procedural import RoadKind
from countersteer.worlds.interface import Outputs
from countersteer.worlds.renderers.boxes.appearance import AppearanceRandomization
from countersteer.worlds.renderers.boxes.renderer import BoxRenderer, BoxRendererSpec, BoxRendererState
from countersteer.worlds.simulation.road import RoadSimulation, RoadSimulationSpec
from countersteer.worlds.world import World, WorldSpec

RIG = tuple(
    Camera(name, 320, 180, math.radians(90.0), position, pitch=0.1, yaw=math.radians(yaw))
    for name, position, yaw in (
        ("left", (1.2, 0.6, 1.5), 90.0),
        ("front", (1.5, 0.0, 1.5), 0.0),
        ("right", (1.2, -0.6, 1.5), -90.0),
        ("rear", (-0.8, 0.0, 1.5), 180.0),
    )
)
GAP = 4


def near_and_far(depth: np.ndarray) -> np.ndarray:
    """Depth as colour: near warm, far cold, the sky black."""
    import cv2

    share = np.clip(np.log(np.maximum(depth, 1.0)) / math.log(150.0), 0.0, 1.0)
    colour = cv2.applyColorMap((255 * (1.0 - share)).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(np.isfinite(depth)[..., None], colour, 0).astype(np.uint8)


def distinct(instance: np.ndarray) -> np.ndarray:
    """A colour for each instance, by the golden ratio; grey where there is none."""
    colours = [
        colorsys.hsv_to_rgb(k * 0.618 % 1.0, 0.75, 1.0) for k in range(max(int(instance.max()), 0) + 1)
    ]
    table = np.array([(0.16, 0.17, 0.18), *colours])
    return (255 * table[instance + 1]).astype(np.uint8)


def begin(world: World) -> None:
    """Begin each drive at the moment of its recording at which most is to be seen."""
    rows = torch.arange(world.batch)
    every = torch.ones_like(rows, dtype=torch.bool)
    assert isinstance(world.simulation, RoadSimulation)
    ticks = [(world.simulation.bank.ticks - 1) * k // 12 for k in range(12)]
    seen = []
    for tick in ticks:
        world.reset(every, world.starts_at(rows, tick, rows, jitter=False))
        shown = [world.images(camera, Outputs(rgb=False, instance=True)).instance for camera in world.cameras]
        seen.append(sum((image >= 0).sum((1, 2)) for image in shown if image is not None))
    best = torch.stack(seen).argmax(0)
    world.reset(every, world.starts_at(rows, torch.stack(ticks)[best, rows], rows, jitter=False))


def sheet(world: World) -> np.ndarray:
    """Three rows for each drive: colour, depth, instances; a column for each camera."""
    columns = []
    for camera in world.cameras:
        images = world.images(camera, Outputs(rgb=True, depth=True, instance=True))
        assert images.rgb is not None
        assert images.depth is not None
        assert images.instance is not None
        rows = []
        for rgb, depth, instance in zip(images.rgb, images.depth, images.instance, strict=True):
            rows += [rgb.numpy(), near_and_far(depth.numpy()), distinct(instance.numpy())]
        framed = [np.pad(row, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for row in rows]
        columns.append(np.concatenate(framed))
    return np.concatenate(columns, 1)


def creep(world: World, camera: Camera, step: float, frames: int) -> Tensor:
    """Frames `[frame drive height width 3]` of cars moved on by `step` [m] each."""
    renderer, state, seen = world.renderer, world.state.renderer, []
    assert isinstance(renderer, BoxRenderer)
    assert isinstance(state, BoxRendererState)
    scene: Any = world.simulation.scene(world.state.simulation)
    ahead = torch.stack([scene.heading.cos(), scene.heading.sin()], -1)
    for k in range(frames):
        moved = scene.replace(position=scene.position + k * step * ahead)
        rgb = renderer.draw(state, moved, camera).rgb
        assert rgb is not None
        seen.append(rgb.float())
    return torch.stack(seen)


def steadiness(world: World, camera: Camera, times: int = 8) -> tuple[float, float, float]:
    """Mean difference from a perfect camera [levels], and changes a frame of it and of ours [levels]."""
    fine = replace(camera, width=camera.width * times, height=camera.height * times)
    ours, large = creep(world, camera, 0.03, 24), creep(world, fine, 0.03, 24)
    perfect = large.unflatten(2, (camera.height, times)).unflatten(4, (camera.width, times)).mean((3, 5))

    def change(frames: Tensor) -> float:
        return float((frames[1:] - frames[:-1]).abs().mean())

    return float((ours - perfect).abs().mean()), change(perfect), change(ours)


def main() -> None:
    """Write the sheet, print the table."""
    import cv2

    parser = argparse.ArgumentParser(description="Pictures of the renderer.")
    parser.add_argument("--sheet", type=Path, help="write the sheet here")
    parser.add_argument("files", nargs="*", help="recorded scenarios to show too")
    known = parser.parse_args()
    kinds = (RoadKind.INTERSECTION, RoadKind.S_CURVE, RoadKind.RAMP)
    scenarios = ProceduralRoads(count=3, seed=12, kinds=kinds, lanes=(2, 3), traffic=(8, 10)).load()
    scenarios += [read(file) for file in known.files]
    looks = AppearanceRandomization(camera_angle=0.0, camera_height=0.0)
    spec = WorldSpec(RoadSimulationSpec(), BoxRendererSpec(looks), sensors=RIG)
    world = spec.build(scenarios, len(scenarios), 0)
    begin(world)
    if known.sheet is not None:
        known.sheet.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(known.sheet), sheet(world)[..., ::-1])
        print(f"wrote {known.sheet}")
    print("a car that creeps 3 cm a frame, beside the mean of 8 x 8 finer pixels; levels of 255")
    print(f"{'camera':>12} {'difference':>11} {'its change':>11} {'our change':>11} {'ratio':>6}")
    for width, height in ((128, 64), (256, 128)):
        camera = replace(RIG[1], width=width, height=height)
        apart, perfect, ours = steadiness(world, camera)
        print(
            f"{width:>7} x {height:<3} {apart:>10.2f} {perfect:>11.3f} {ours:>11.3f} {ours / perfect:>6.2f}"
        )


if __name__ == "__main__":
    main()
