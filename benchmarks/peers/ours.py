"""Ours, in a process like that of a peer; the last line printed is a JSON object.

python ours.py state --worlds 64 --agents 16 --cpu-seconds 10
python ours.py views --scenes scenes.npz --picture ours.png
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from scenes import drawings, save

from countersteer.evaluation.speed import crossroads, measure
from countersteer.geometry.cameras import Camera
from countersteer.worlds.renderers.boxes.drawing import render

CARS = 16
VIEWS = 64


def views(known: argparse.Namespace) -> dict[str, float]:
    """Write views for a peer, and draw them with our kernel."""
    torch.set_num_threads(1)
    camera = Camera(width=known.size[0], height=known.size[1])
    bank, moments = drawings(crossroads(4, CARS), VIEWS, CARS, camera, 8)
    save(known.scenes, bank, moments)
    for moment in moments:
        rgb = render(bank, *moment).rgb
    if known.picture is not None:
        import cv2

        rgb = render(bank, *moments[0]).rgb
        assert rgb is not None
        cv2.imwrite(str(known.picture), np.concatenate(list(rgb[:4].numpy()))[..., ::-1])
    batches, began, busy = 0, time.perf_counter(), time.process_time()
    while time.process_time() - busy < known.cpu_seconds:
        render(bank, *moments[batches % len(moments)])
        batches += 1
    return {
        "count": batches * VIEWS,
        "cpu_seconds": time.process_time() - busy,
        "wall_seconds": time.perf_counter() - began,
    }


def stage(known: argparse.Namespace) -> dict[str, float]:
    """One stage of `countersteer bench`; rates for one second each, as if that were what was counted."""
    row = measure(
        known.what,
        crossroads(4, known.agents),
        worlds=known.worlds,
        agents=known.agents,
        cameras=(Camera(width=known.size[0], height=known.size[1]),),
        threads=1,
        seconds=known.cpu_seconds,
    )
    return {
        "count": row.agent_steps_per_cpu_s,
        "cpu_seconds": 1.0,
        "wall_seconds": row.agent_steps_per_cpu_s / row.agent_steps_per_s,
    }


def main() -> None:
    """Measure for so many seconds of processor time."""
    parser = argparse.ArgumentParser(description="Ours.")
    parser.add_argument("what", choices=("state", "full", "views"))
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--agents", type=int, default=CARS)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 64))
    parser.add_argument("--cpu-seconds", type=float, default=10.0)
    parser.add_argument("--scenes", type=Path, help="write the views here")
    parser.add_argument("--picture", type=Path, help="write the first views here, one below the other")
    known = parser.parse_args()
    result = views(known) if known.what == "views" else stage(known)
    try:
        ours = version("countersteer")
    except PackageNotFoundError:
        ours = "not installed"
    print(json.dumps({**result, "version": f"countersteer {ours}, torch {torch.__version__}"}))


if __name__ == "__main__":
    main()
