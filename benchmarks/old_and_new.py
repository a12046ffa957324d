"""Speed of two trees of countersteer, paired: `countersteer bench`'s stages, and a training of `clone`.

    python benchmarks/old_and_new.py --old OLD --new NEW [--times 5] [--seconds 3] [--steps 60] [--frames 2000] [--threads 1] [--json FILE]

Each measurement runs in a process of its own; old and new take turns (and who begins changes), so that a machine that
slows down meanwhile slows both. A first round of each, which compiles the kernels, does not count. Rates are of processor time, wall
times beside them; medians, and the median of the ratios of neighbours, new / old (above 1: the new one is faster).
Only a quiet machine gives figures: the load is printed.

`state`, `render`, `full` are car steps (64 worlds of 8 cars), `collect` is kept frames while the expert drives, `learn` gradient steps
over the last two thirds of them; a second of processor time, and of the clock where that is said.

The stage `render` draws the same state again and again. A tree whose world keeps the pictures of a state must forget them
in `evaluation/speed.py`, or the figure means nothing: a ratio far above 1 says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()


def measure(api: str, seconds: float, steps: int, frames: int, threads: int) -> dict[str, float]:
    """In a process of its own, whose PYTHONPATH is the tree."""
    import dataclasses

    import torch

    from countersteer.evaluation.speed import crossroads, measure_all
    from countersteer.geometry.cameras import Camera
    from countersteer.recipes.closed_loop import clone
    from countersteer.training.collector import InlineCollector
    from countersteer.training.run import Progress, train

    found: dict[str, float] = {"load before": os.getloadavg()[0]}
    scenes = crossroads(4, 8)
    cameras = (Camera(width=128, height=64),)
    for row in measure_all(
        scenes, worlds=64, agents=(8,), cameras=(cameras,), threads=(threads,), seconds=seconds
    ):
        found[row.stage] = row.agent_steps_per_cpu_s
        found[f"{row.stage}, of the clock"] = row.agent_steps_per_s

    if api == "0.1":
        from countersteer.scenarios.sources import Combined
    else:
        from countersteer.data.sources import Combined

    def fewer(source):
        if isinstance(source, Combined):
            return Combined(tuple(fewer(each) for each in source.sources))
        return dataclasses.replace(source, count=8) if hasattr(source, "count") else source

    recipe = clone()
    if api == "0.1":
        recipe = dataclasses.replace(
            recipe,
            scenarios=fewer(recipe.scenarios),
            collection=dataclasses.replace(recipe.collection, frames=frames, drives=32),
            learning=dataclasses.replace(recipe.learning, steps=steps),
        )
    else:
        stage = recipe.stage
        recipe = recipe.replace(
            scenarios=fewer(stage.scenarios),
            rollouts=dataclasses.replace(stage.rollouts, total_frames=frames, num_worlds=32),
            optim=dataclasses.replace(stage.optim, steps=steps),
        )
    ends: list[tuple[float, float]] = []

    def now() -> tuple[float, float]:
        return time.process_time(), time.perf_counter()

    class Timed(InlineCollector):
        def collect(self, request):
            began, rollout = now(), super().collect(request)
            busy, wall = (b - a for a, b in zip(began, now(), strict=True))
            found["collect"] = rollout.alive.numel() / busy
            found["collect, of the clock"] = rollout.alive.numel() / wall
            return rollout

    class Told(Progress):
        def learned(self, step, steps, logged, samples_per_s):
            ends.append(now())

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, Path(folder) / "run", seed=0, progress=Told(), collector=Timed)
    found["train, whole [s]"] = time.perf_counter() - began
    first = len(ends) // 3
    busy, wall = (b - a for a, b in zip(ends[first], ends[-1], strict=True))
    found["learn"], found["learn, of the clock"] = ((len(ends) - 1 - first) / each for each in (busy, wall))
    return found


def main() -> None:
    """Measure both trees in turn and print their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=Path, required=True)
    parser.add_argument("--new", type=Path, required=True)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each stage")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=HERE.parent / "numba_speed", help="for kernels")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.measure:
        print(json.dumps(measure(known.measure, known.seconds, known.steps, known.frames, known.threads)))
        return

    def run(which: str, seconds: float, steps: int, frames: int) -> dict[str, float]:
        tree = (known.old if which == "old" else known.new).resolve()
        one = dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(known.threads)
        )
        environment = (
            os.environ
            | one
            | {
                "NUMBA_NUM_THREADS": str(max(known.threads, 1)),
                "OMP_WAIT_POLICY": "PASSIVE",
                "PYTHONPATH": str(tree / "src"),
                "PYTHONDONTWRITEBYTECODE": "1",
                "NUMBA_CACHE_DIR": str(known.cache / which),
                "CUDA_VISIBLE_DEVICES": "",
            }
        )
        command = [sys.executable, str(HERE), "--measure", "0.1" if which == "old" else "0.2"]
        command += ["--seconds", str(seconds), "--steps", str(steps), "--frames", str(frames)]
        command += ["--threads", str(known.threads)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{which}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    for which in ("old", "new"):
        began = time.monotonic()
        run(which, 0.2, 3, 500)
        print(f"{which}: warmed up in {time.monotonic() - began:.0f} s", flush=True)
    rows: list[dict[str, dict[str, float]]] = []
    for turn in range(known.times):
        order = ("old", "new") if turn % 2 == 0 else ("new", "old")
        rows.append({which: run(which, known.seconds, known.steps, known.frames) for which in order})
        told = {
            k: round(rows[-1]["new"][k] / rows[-1]["old"][k], 3)
            for k in ("state", "render", "full", "collect", "learn")
        }
        print(f"turn {turn + 1}: new / old {told}, load {rows[-1]['new']['load before']:.1f}", flush=True)
    print(f"\n{'':22} {'old':>12} {'new':>12} {'new / old':>10}   least to most")
    summary = {}
    for name in rows[0]["old"]:
        old, new = ([row[which][name] for row in rows] for which in ("old", "new"))
        ratios = [b / a if a else float("nan") for a, b in zip(old, new, strict=True)]
        summary[name] = {"old": statistics.median(old), "new": statistics.median(new)}
        summary[name] |= {"ratio": statistics.median(ratios), "ratios": ratios}
        print(
            f"{name:22} {statistics.median(old):12,.1f} {statistics.median(new):12,.1f} "
            f"{statistics.median(ratios):10.3f}   {min(ratios):.3f} to {max(ratios):.3f}"
        )
    if known.json is not None:
        known.json.write_text(json.dumps({"rows": rows, "summary": summary}, indent=1))


if __name__ == "__main__":
    main()
