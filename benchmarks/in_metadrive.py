"""Policies in MetaDrive, and what a difference to boxworld comes from.

    python benchmarks/in_metadrive.py runs/study --json results/bridges/metadrive.json

RUNS holds a folder for each run, named RECIPE-SEED. Each policy drives lane keeping and lane change twice: on
MetaDrive's roads with its physics, and on the same roads in our world. Beside the counts on our own roads
(`countersteer evaluate`) this tells what the roads change and what the physics. Nothing is retrained. Pictures are
ours in all of them.

    python benchmarks/in_metadrive.py runs --recipes self_play --seeds 0 --targets --json results/bridges/metadrive_targets.json

is for drivers that read target points: they are given them, and drive our own roads as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from countersteer.evaluation.foreign import metadrive_lane_change, metadrive_lane_keeping, simulated_by
from countersteer.evaluation.statistics import wilson_interval
from countersteer.evaluation.suites import Suite, lane_change, lane_keeping, run_suite, with_target_points
from countersteer.policies.storage import load_policy


def drive(suite: Suite, run: Path | None) -> dict[str, Any]:
    """One policy, or the expert, in one suite."""
    policy, written = load_policy(run) if run is not None else (None, {"recipe": "expert", "seed": 0})
    began = time.monotonic()
    result = run_suite(suite, written["recipe"], policy)
    row = {
        "driver": written["recipe"],
        "seed": written["seed"],
        "suite": suite.name,
        "protocol": result.protocol,
        "passed": result.passed,
        "total": result.total,
        "seconds": round(time.monotonic() - began),
        "failures": {case.case: case.reason for case in result.cases if case.passed is False},
    }
    print(
        f"{row['driver']:10} seed {row['seed']} {suite.name:40} {result.passed:2}/{result.total} ({row['seconds']} s)",
        flush=True,
    )
    return row


def main() -> None:
    """Drive everything; the file is written anew after each suite, and what is in it already is not driven again."""
    parser = argparse.ArgumentParser(description="Policies in MetaDrive.")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--recipes", nargs="+", default=["clone", "perturb", "on_policy"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--traffic", type=float, default=0.0)
    parser.add_argument("--targets", action="store_true", help="give target points, and drive our roads too")
    parser.add_argument("--json", type=Path, required=True)
    known = parser.parse_args()
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    head = {
        "command": f"python benchmarks/in_metadrive.py {known.runs} --traffic {known.traffic:g}"
        + " --targets" * known.targets,
        "commit": git.stdout.strip(),
        "hardware": f"{os.cpu_count()} cores of {platform.processor() or 'an Intel Xeon at 2.50 GHz'}",
        "seeds": known.seeds,
    }
    rows = json.loads(known.json.read_text())["drives"] if known.json.exists() else []
    done = {(row["driver"], row["seed"], row["protocol"]) for row in rows}
    suites = [metadrive_lane_keeping(known.traffic), metadrive_lane_change(known.traffic)]
    if not known.traffic:
        suites += [simulated_by(lane_keeping().world, suite) for suite in suites]
    if known.targets:
        suites = [with_target_points(suite) for suite in (lane_keeping(), lane_change(), *suites)]
    drivers: list[tuple[str, int, Path | None]] = [("expert", 0, None)]
    drivers += [
        (recipe, seed, known.runs / f"{recipe}-{seed}") for seed in known.seeds for recipe in known.recipes
    ]
    for name, seed, run in drivers:
        for suite in suites:
            if (name, seed, suite.protocol) in done:
                continue
            rows.append(drive(suite, run))
            totals: dict[tuple[str, str], list[int]] = {}
            for row in rows:
                total = totals.setdefault((row["driver"], row["suite"]), [0, 0, 0])
                total[0] += row["passed"]
                total[1] += row["total"]
                total[2] += 1
            table = [
                {
                    "driver": driver,
                    "suite": suite_name,
                    "mean_passed": round(passed / seeds, 2),
                    "of": cases // seeds,
                    "seeds": seeds,
                    "wilson_95": [round(x, 3) for x in wilson_interval(passed / seeds, cases // seeds)],
                }
                for (driver, suite_name), (passed, cases, seeds) in totals.items()
            ]
            known.json.parent.mkdir(parents=True, exist_ok=True)
            known.json.write_text(json.dumps({**head, "table": table, "drives": rows}, indent=1))


if __name__ == "__main__":
    main()
