"""How long `countersteer demo` takes in two trees, and where a training's processor time goes.

    python benchmarks/minutes.py demo --old OLD --new NEW [--times 2] [--out FOLDER] [--json FILE]
    python benchmarks/minutes.py studies --old OLD --new NEW [--precision bfloat16] [--share 0.05] [--json FILE]
    python benchmarks/minutes.py memory RECIPE --new TREE [--steps 2000] [--json FILE]
    PYTHONPATH=TREE/src python benchmarks/minutes.py parts RECIPE [--precision bfloat16] [--steps 3200] [--json FILE]

`demo` runs the whole job of each tree in turn (and who begins changes), in a new folder each time, and prints minutes of the
clock, minutes of processor time, the peak memory of all its processes (their shared pages once), and the table of passes.
Only a quiet machine gives figures: the load is printed. `parts` trains one recipe on one thread and drives the suites with
it, as a worker of the demo does, with a clock around each part; parts lie in one another where that is said.
`studies` trains a share of one recipe of each kind in both trees in turn, each in a process with one thread, and says the
processor time of the whole budget: building the world counts once, all else is divided by the share. `precision` holds for
recipes with a camera in the new tree. `memory` samples a training: its peak, and how it grows over the second half.
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


STUDIES = ("clone", "on_policy", "reprojection", "self_play_teacher", "self_play", "self_play_adapted")


def measure_study(name: str, precision: str | None, share: float) -> float:
    """Minutes of processor time of a recipe's whole budget, from a share of it, in this process."""
    import dataclasses

    import numba
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    numba.set_num_threads(1)
    from countersteer.policies.weights import Weights
    from countersteer.recipes import closed_loop, reprojection, self_play
    from countersteer.reporting.run_report import pretrained_policy
    from countersteer.training import collector
    from countersteer.training.run import train

    module = next(each for each in (closed_loop, reprojection, self_play) if hasattr(each, name))
    settings: dict[str, Any] = {}
    if name in ("self_play", "self_play_adapted"):
        settings["teacher"] = Weights(str(pretrained_policy("self_play_teacher")))
    if name == "self_play_adapted":
        settings["student"] = Weights(str(pretrained_policy("self_play")))
    recipe = getattr(module, name)(**settings)
    stage = recipe.stage
    rollouts, steps = stage.rollouts, max(round(stage.optim.steps * share), 1)
    frames = round(rollouts.total_frames * share)
    if rollouts.buffer_iterations == 1:
        iterations = max(round(rollouts.iterations * share), 1)
        rollouts = type(rollouts).even(iterations, frames, rollouts.num_worlds, rollouts.min_active_fraction)
    else:
        # Fewer worlds, so that each is still driven for a few sequences.
        worlds = max(round(3 * share * rollouts.num_worlds), 1)
        rollouts = dataclasses.replace(rollouts, total_frames=frames, num_worlds=worlds)
    changes: dict[str, Any] = {"steps": steps}
    if precision is not None and stage.policy.cameras:
        from countersteer.policies.precision import Precision

        changes["precision"] = Precision(precision)
    recipe = recipe.replace(rollouts=rollouts, optim=dataclasses.replace(stage.optim, **changes))
    built, build = 0.0, collector.InlineCollector.__init__

    def timed(*arguments: Any, **more: Any) -> None:
        nonlocal built
        began = time.process_time()
        build(*arguments, **more)
        built = time.process_time() - began

    collector.InlineCollector.__init__ = timed
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        train(recipe, Path(folder) / name, seed=0)
        rest = time.process_time() - began - built
    return (built + rest / share) / 60


def compare_studies(old: Path, new: Path, precision: str | None, share: float) -> dict[str, Any]:
    """Every study in both trees; a first round of the new one, which compiles, does not count."""
    found: dict[str, Any] = {}
    for name in STUDIES:
        row: dict[str, list[float]] = {"old": [], "new": []}
        for turn in range(3):
            for which, tree in (("old", old), ("new", new)):
                words = ["study", name, "--share", str(share if turn else share / 10)]
                if which == "new" and precision:
                    words += ["--precision", precision]
                done = subprocess.run(
                    [sys.executable, __file__, *words], env=os.environ | {"PYTHONPATH": str(tree.resolve() / "src")},
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                if turn:
                    row[which].append(float(done.stdout.split()[-1]))
        ratio = sum(row["new"]) / sum(row["old"])
        found[name] = row | {"new / old": ratio}
        print(f"{name:20} old {row['old']}, new {row['new']} min: {ratio:.2f}", flush=True)
    return found


def measure_memory(name: str, tree: Path, steps: int) -> dict[str, Any]:
    """Memory of a training, every two seconds."""
    with tempfile.TemporaryDirectory() as folder:
        job = subprocess.Popen(
            [sys.executable, "-m", "countersteer", "train", name, "--out", f"{folder}/run", "--optim.steps", str(steps)],
            env=os.environ | {"PYTHONPATH": str(tree.resolve() / "src")}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        samples: list[tuple[float, float]] = []
        began = time.monotonic()
        while job.poll() is None:
            time.sleep(2.0)
            samples.append((time.monotonic() - began, tree_memory(job.pid) / 1e9))
    later = [gigabytes for _, gigabytes in samples[len(samples) // 2 :] if gigabytes]
    found = {
        "seconds": samples[-1][0],
        "peak_gb": max(gigabytes for _, gigabytes in samples),
        "middle_gb": later[0],
        "end_gb": later[-2] if len(later) > 1 else later[-1],
        "samples": samples,
    }
    print({key: value for key, value in found.items() if key != "samples"})
    return found


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("demo", "parts", "studies", "study", "memory"))
    parser.add_argument("recipe", nargs="?", default="on_policy")
    parser.add_argument("--old", type=Path)
    parser.add_argument("--new", type=Path)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/minutes"))
    parser.add_argument("--precision")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    if known.what == "demo":
        known.out.mkdir(parents=True)
        found = compare_demos(known.old, known.new, known.times, known.out.resolve())
    elif known.what == "study":
        print(measure_study(known.recipe, known.precision, known.share))
        return
    elif known.what == "studies":
        found = compare_studies(known.old, known.new, known.precision, known.share)
    elif known.what == "memory":
        found = measure_memory(known.recipe, known.new, known.steps)
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
