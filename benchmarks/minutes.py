"""How long `countersteer demo` takes in two trees, and where a training's processor time goes.

    python benchmarks/minutes.py demo --old OLD --new NEW [--times 2] [--out FOLDER] [--json FILE]
    PYTHONPATH=TREE/src python benchmarks/minutes.py parts RECIPE [--precision bfloat16] [--steps 3200] [--json FILE]

`demo` runs the whole job of each tree in turn (and who begins changes), in a new folder each time, and prints minutes of the
clock, minutes of processor time, the peak memory of all its processes (their shared pages once), and the table of passes.
Only a quiet machine gives figures: the load is printed. `parts` trains one recipe on one thread and drives the suites with
it, as a worker of the demo does, with a clock around each part; parts lie in one another where that is said.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any


def tree_memory(root: int) -> int:
    """Memory of a process and all that it began, shared pages counted once [bytes]; Linux only."""
    children: dict[int, list[int]] = collections.defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children[int(fields[1])].append(int(stat.parent.name))
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += children[process]
        try:
            rows = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(row.split()[1]) for row in rows if row.startswith("Pss:")) * 1024
    return total


def run_demo(tree: Path, out: Path) -> dict[str, Any]:
    """One whole demo of a tree, in processes of its own."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src")}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    load, peak = os.getloadavg()[0], 0
    with (out.parent / f"{out.name}.log").open("w") as log:
        job = subprocess.Popen(
            [sys.executable, "-m", "countersteer", "demo", "--out", str(out)],
            env=environment, stdout=log, stderr=log, cwd=tree,
        )  # fmt: skip
        ended = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not ended.wait(2.0):
                peak = max(peak, tree_memory(job.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = job.wait()
        ended.set()
        watcher.join()
    if code:
        raise SystemExit(f"the demo of {tree} ended with {code}: see {out.parent / f'{out.name}.log'}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    rows = json.loads((out / "compare.json").read_text())
    return {
        "minutes": (time.monotonic() - began) / 60,
        "processor_minutes": used / 60,
        "peak_gb": peak / 1e9,
        "load_before": load,
        "passed": {f"{row['recipe']} {row['suite']}": row["passed"] for row in rows},
    }


def compare_demos(old: Path, new: Path, times: int, folder: Path) -> dict[str, Any]:
    """Both, in turn."""
    found: dict[str, Any] = {"old": [], "new": []}
    for turn in range(times):
        order = (("old", old), ("new", new)) if turn % 2 == 0 else (("new", new), ("old", old))
        for name, tree in order:
            row = run_demo(tree.resolve(), folder / f"{name}-{turn}")
            found[name].append(row)
            print(
                f"{name}: {row['minutes']:.1f} min, {row['processor_minutes']:.1f} of processor time, "
                f"{row['peak_gb']:.2f} GB, load before {row['load_before']:.1f}; {row['passed']}",
                flush=True,
            )
    pairs = list(zip(found["old"], found["new"], strict=True))
    for what in ("minutes", "processor_minutes", "peak_gb"):
        ratios = [b[what] / a[what] for a, b in pairs]
        found[f"{what}, new / old"] = ratios
        print(f"{what}, new / old: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    return found


def measure_parts(name: str, precision: str | None, steps: int) -> dict[str, float]:
    """Processor time of each part of one training and of its evaluation [s]."""
    import dataclasses

    import numba
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    numba.set_num_threads(1)

    from countersteer.evaluation.runs import evaluate_run, held_out_error
    from countersteer.evaluation.suites import lane_change, lane_keeping, recorded
    from countersteer.experts.recovery import RecoveryExpert
    from countersteer.policies.planner import CNNPlanner
    from countersteer.recipes import closed_loop
    from countersteer.rollouts.store import RolloutStore
    from countersteer.training import collector, learner, session
    from countersteer.training.run import train
    from countersteer.worlds.world import World

    spent: dict[str, float] = collections.defaultdict(float)

    def timed(owner: type, method: str, part: str) -> None:
        inner = getattr(owner, method)

        def wrapper(*arguments: Any, **settings: Any) -> Any:
            began = time.process_time()
            try:
                return inner(*arguments, **settings)
            finally:
                spent[part] += time.process_time() - began

        setattr(owner, method, wrapper)

    recipe = getattr(closed_loop, name)()
    changes: dict[str, Any] = {"steps": steps}
    if precision is not None:
        from countersteer.policies.precision import Precision

        changes["precision"] = Precision(precision)
    recipe = recipe.replace(optim=dataclasses.replace(recipe.stage.optim, **changes))
    timed(collector.InlineCollector, "__init__", "build the world")
    timed(collector.InlineCollector, "collect", "drive")
    timed(World, "observe", "drive: observe (draw)")
    timed(World, "step", "drive: step")
    timed(RecoveryExpert, "label", "drive: label")
    timed(CNNPlanner, "encode", "encode (driving and learning)")
    timed(RolloutStore, "add", "write rollouts")
    timed(session.Session, "learn", "learn")
    timed(learner.Learner, "update", "learn: gradient step")
    timed(session.Session, "save", "checkpoints")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / name
        began = time.process_time()
        train(recipe, run, seed=0)
        spent["training in all"] = time.process_time() - began
        kept = dict(spent)
        began = time.process_time()
        for suite in (lane_keeping(), lane_change(), recorded()):
            evaluate_run(run, suite, frames=True)
        held_out_error(run)
        kept["evaluation"] = time.process_time() - began
    return kept


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("demo", "parts"))
    parser.add_argument("recipe", nargs="?", default="on_policy")
    parser.add_argument("--old", type=Path)
    parser.add_argument("--new", type=Path)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/minutes"))
    parser.add_argument("--precision")
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    if known.what == "demo":
        known.out.mkdir(parents=True)
        found = compare_demos(known.old, known.new, known.times, known.out.resolve())
    else:
        found = measure_parts(known.recipe, known.precision, known.steps)
        for part, seconds in found.items():
            print(f"{part:32} {seconds:7.1f} s")
    if known.json:
        known.json.write_text(
            json.dumps({"command": sys.argv, "load": os.getloadavg()[0], "found": found}, indent=1)
        )


if __name__ == "__main__":
    main()
