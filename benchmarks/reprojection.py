"""Speed of departed views on one core: `python benchmarks/reprojection.py LOG [--size 256x128] [--json FILE]`.

Frames of a camera log with cached depth are drawn from 1 m to the left and 0.6 m ahead, with and without holes
painted and with one or two more frames that fill holes, and by the plain reference. CPU time, the least of several.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import torch

from countersteer.data.cameras import read
from countersteer.reconstruction.depth import depth_of_frame
from countersteer.worlds.renderers.reprojection.bank import frame_bank
from countersteer.worlds.renderers.reprojection.drawing import Views, reference, render


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--size", default="256x128")
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    width, height = map(int, known.size.split("x"))
    torch.set_num_threads(1)
    log = read(known.log).pinhole()
    camera = log.cameras[0]
    numbers = np.linspace(0, len(camera.frames) - 1, 8).astype(int).tolist()
    bank, seen_by = frame_bank(
        log, camera.name, numbers, lambda number: depth_of_frame(log, camera.name, number), (width, height)
    )
    move = np.eye(4)
    move[:3, 3] = [-1.0, 0.0, 0.6]
    rows = torch.arange(64) % len(numbers)
    poses = torch.from_numpy(bank.world_from_camera.numpy()[rows.numpy()] @ move)
    history = [rows, (rows - 1).clip(0), (rows + 1).clip(max=len(numbers) - 1)]
    found = {}
    for name, sources, paint in (
        ("splat, holes left", 1, False),
        ("holes painted", 1, True),
        ("one more frame", 2, True),
        ("two more frames", 3, True),
    ):
        views = Views.of(seen_by, poses, torch.stack(history[:sources], 1))
        drawn, best = render(bank, views, paint=paint), float("inf")
        for _ in range(15):
            start = time.process_time()
            render(bank, views, paint=paint)
            best = min(best, time.process_time() - start)
        found[name] = {"frames_per_s": len(rows) / best, "seen_share": float(drawn.seen_share().mean())}
        print(
            f"{name:20} {len(rows) / best:8.0f} frames/s a core, {found[name]['seen_share']:.3f} of the pixels seen"
        )
    one = Views.of(seen_by, poses[:1], rows[:1, None])
    start = time.process_time()
    reference.render(bank, one)
    plain = time.process_time() - start
    found["reference"] = {"frames_per_s": 1 / plain}
    print(
        f"{'plain reference':20} {1 / plain:8.2f} frames/s: {found['holes painted']['frames_per_s'] * plain:.0f} times slower"
    )
    if known.json is not None:
        known.json.write_text(json.dumps({"log": log.id, "size": known.size, **found}, indent=1))


if __name__ == "__main__":
    main()
