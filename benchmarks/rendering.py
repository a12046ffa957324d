"""Speed of the renderer beside its plain reference, in one run, and both pictures side by side.

    python benchmarks/rendering.py [--threads 2] [--views 64] [--picture runs/rendering.png]

Views are those of cars on procedural roads with traffic, as in training. The reference is numpy, written to be
read; it draws a few of the views. The picture shows the kernel's frame, the reference's, and where any channel
differs by more than one level (magenta).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from countersteer.data.sources import ProceduralRoads
from countersteer.geometry.cameras import Camera
from countersteer.worlds.interface import Images
from countersteer.worlds.renderers.boxes import reference, render
from countersteer.worlds.renderers.boxes.renderer import BoxRenderer, BoxRendererSpec, BoxRendererState
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec


def best(draw: Callable[[], Images], rounds: int) -> tuple[float, Tensor]:
    """Shortest time of a few, and the colours that came of it."""
    shortest, images = math.inf, draw() if rounds > 1 else None  # the first call compiles
    for _ in range(rounds):
        began = time.perf_counter()
        images = draw()
        shortest = min(shortest, time.perf_counter() - began)
    assert images is not None
    assert images.rgb is not None
    return shortest, images.rgb


def main() -> None:
    """Print the table, write the picture."""
    parser = argparse.ArgumentParser(description="The renderer beside its reference.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--views", type=int, default=64)
    parser.add_argument("--picture", type=Path, help="write the frames side by side here")
    known = parser.parse_args()
    import cv2
    import numba

    numba.set_num_threads(known.threads)
    torch.set_num_threads(known.threads)
    scenarios = ProceduralRoads(count=16, traffic=(2, 6), length=300.0).load()
    print(f"{known.threads} threads; kernel: best of 10 over {known.views} views; reference: 4 views")
    print(
        f"{'camera':>10} {'kernel Mpx/s':>13} {'frames/s':>9} {'reference Mpx/s':>16} {'ratio':>7} {'equal':>9}"
    )
    for camera in (Camera(), Camera(width=256, height=128), Camera(width=640, height=360)):
        spec = WorldSpec(RoadSimulationSpec(), BoxRendererSpec(), sensors=(camera,))
        world = spec.build(scenarios, known.views, 0)
        renderer, state = world.renderer, world.state.renderer
        assert isinstance(renderer, BoxRenderer)
        assert isinstance(state, BoxRendererState)
        scene: Any = world.simulation.scene(world.state.simulation)
        views, boxes = renderer.views(state, scene, camera), renderer.boxes(state, scene)
        looks, ground = state.look, renderer.ground
        seconds, rgb = best(lambda: render(ground, views, boxes, looks), 10)  # noqa: B023
        few = type(views)(
            views.width, views.height,
            *(getattr(views, name)[:4] for name in ("scene", "world", "position", "rotation", "focal", "ego_slot")),
        )  # fmt: skip
        slow, plain = best(lambda: reference.render(ground, few, boxes, looks), 1)  # noqa: B023
        apart = (rgb[:4].int() - plain.int()).abs().amax(-1)
        pixels = camera.width * camera.height
        fast, plainly = known.views * pixels / seconds / 1e6, 4 * pixels / slow / 1e6
        equal = float((apart <= 1).float().mean())
        size = f"{camera.width}x{camera.height}"
        rate = known.views / seconds
        print(f"{size:>10} {fast:13.1f} {rate:9.0f} {plainly:16.2f} {fast / plainly:7.0f} {equal:9.4%}")
    if known.picture is not None:
        rows = []
        for k in range(4):
            both = [np.ascontiguousarray(side[k].numpy()) for side in (rgb, plain)]
            marked = (both[0] // 3).copy()
            marked[(apart[k] > 1).numpy()] = (255, 0, 255)
            rows.append(np.concatenate([*both, marked], 1))
        known.picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(known.picture), np.concatenate(rows)[..., ::-1])
        print(f"wrote {known.picture}: kernel, reference, difference")


if __name__ == "__main__":
    main()
