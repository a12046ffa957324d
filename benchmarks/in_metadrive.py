"""Policies in MetaDrive, and what a difference to boxworld comes from.

    python benchmarks/in_metadrive.py runs/study --json results/bridges/metadrive.json

RUNS holds a folder for each run, named RECIPE-SEED. Each policy drives lane keeping and lane change on MetaDrive's
roads with its physics, on the same roads in our world, in our world with a car as even as MetaDrive's, and on our own
roads. So it can be told what the roads change, what the cars, and what is left. Nothing is retrained. Pictures are
ours in all of them.

    python benchmarks/in_metadrive.py runs --recipes self_play --seeds 0 1 2 --told targets --json results/bridges/metadrive_targets.json

is for drivers that are told points of the route, or where to turn (`--told navigation`).

    python benchmarks/in_metadrive.py runs/study --recipes clone on_policy --seeds 0 --own-camera straight-1 gentle-3 --json FILE

drives those cases of lane keeping alone, in MetaDrive's own pictures; minutes a case.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from countersteer.evaluation.foreign import metadrive_lane_change, metadrive_lane_keeping, simulated_by
from countersteer.evaluation.statistics import clustered_interval, paired_permutation_test, wilson_interval
from countersteer.evaluation.suites import (
    Suite,
    lane_change,
    lane_keeping,
    run_suite,
    with_navigation,
    with_target_points,
)
from countersteer.policies.storage import load_policy
from countersteer.vehicles.bicycle import VehicleSpec

EVEN = VehicleSpec(
    delay=(0.1, 0.1),
    curvature_gain=(0.975, 0.975),
    curvature_bias=(0.0, 0.0),
    acceleration_gain=(1.0, 1.0),
)
"""A car that answers as MetaDrive's does: the same every time, 0.96 to 0.99 of what is asked for, no pull."""
TOLD = {"targets": with_target_points, "navigation": with_navigation}


def even(suite: Suite) -> Suite:
    """The suite with the even car."""
    return dataclasses.replace(suite, name=f"{suite.name}_even_car", world=suite.world.simulate(vehicle=EVEN))


def stages(traffic: float) -> list[list[Suite]]:
    """What is driven, in order: all drivers and seeds go through one stage before the next begins."""
    there = [metadrive_lane_keeping(traffic), metadrive_lane_change(traffic)]
    if traffic:
        return [there]  # our world has not the same traffic
    here = [lane_keeping(), lane_change()]
    ours = [simulated_by(here[0].world, suite) for suite in there]
    return [there, ours, [even(ours[0]), even(here[0])], here]


def in_own_pictures(names: list[str]) -> Suite:
    """Some cases of lane keeping as MetaDrive's own camera shows them."""
    suite = metadrive_lane_keeping(own_camera=True)
    if unknown := set(names) - {case.id for case in suite.cases}:
        raise SystemExit(f"no case of lane keeping is called {', '.join(sorted(unknown))}")
    return dataclasses.replace(suite, cases=tuple(case for case in suite.cases if case.id in names))


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


def summary(rows: list[dict[str, Any]], suites: list[Suite]) -> dict[str, Any]:
    """Mean passes with intervals, by kind of road; differences paired on the case, seeds averaged first, two-sided."""
    cases = {suite.name: [case.id for case in suite.cases] for suite in suites}
    seeds: dict[tuple[str, str], list[np.ndarray]] = {}
    for row in rows:
        passes = np.array([case not in row["failures"] for case in cases[row["suite"]]])
        seeds.setdefault((row["driver"], row["suite"]), []).append(passes)
    verdicts = {key: np.stack(passes) for key, passes in seeds.items()}
    table = []
    for (driver, suite), passes in verdicts.items():
        mean = float(passes.sum(1).mean())
        kinds = np.array([case.split("-")[0] for case in cases[suite]])
        table.append(
            {
                "driver": driver,
                "suite": suite,
                "passed": passes.sum(1).tolist(),
                "mean_passed": round(mean, 2),
                "of": passes.shape[1],
                "wilson_95": [round(x, 3) for x in wilson_interval(mean, passes.shape[1])],
                "kinds": {
                    kind: [
                        round(float(passes[:, kinds == kind].sum(1).mean()), 2),
                        int((kinds == kind).sum()),
                    ]
                    for kind in dict.fromkeys(kinds.tolist())
                },
            }
        )
    # Two drivers on one suite, the later against the earlier; one driver on the same cases of two worlds.
    known = [key for key in verdicts if key[0] != "expert"]
    pairs = [(b, a) for a, b in itertools.combinations(known, 2) if a[1] == b[1]]
    pairs += [
        (a, b) for a, b in itertools.combinations(known, 2) if a[0] == b[0] and cases[a[1]] == cases[b[1]]
    ]
    compared = []
    for a, b in pairs:
        one, other = verdicts[a].mean(0), verdicts[b].mean(0)
        low, high = clustered_interval(one - other, np.arange(len(one)))
        compared.append(
            {
                "first": " on ".join(a),
                "second": " on ".join(b),
                "more_passed": round(float((one - other).sum()), 2),
                "bootstrap_95": [round(low * len(one), 2), round(high * len(one), 2)],
                "p": paired_permutation_test(one, other, seed=0),
            }
        )
    return {"table": table, "compared": compared}


def main() -> None:
    """Drive everything; the file is written anew after each suite, and what is in it already is not driven again."""
    parser = argparse.ArgumentParser(description="Policies in MetaDrive.")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--recipes", nargs="+", default=["clone", "perturb", "on_policy"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--traffic", type=float, default=0.0)
    parser.add_argument(
        "--told", choices=TOLD, help="what the drivers are told of the route (default: nothing)"
    )
    parser.add_argument(
        "--own-camera", nargs="+", metavar="CASE", help="cases to drive in MetaDrive's own pictures"
    )
    parser.add_argument("--json", type=Path, required=True)
    known = parser.parse_args()
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    head = {
        "command": f"python benchmarks/in_metadrive.py {known.runs.name} --recipes {' '.join(known.recipes)} "
        f"--seeds {' '.join(map(str, known.seeds))}"
        + (f" --traffic {known.traffic:g}" if known.traffic else "")
        + (f" --told {known.told}" if known.told else "")
        + (f" --own-camera {' '.join(known.own_camera)}" if known.own_camera else ""),
        "commit": git.stdout.strip(),
        "hardware": f"{os.cpu_count()} cores of {platform.processor() or 'an Intel Xeon at 2.50 GHz'}",
    }
    rows = json.loads(known.json.read_text())["drives"] if known.json.exists() else []
    done = {(row["driver"], row["seed"], row["protocol"]) for row in rows}
    order = [[in_own_pictures(known.own_camera)]] if known.own_camera else stages(known.traffic)
    if known.told:
        order = [[TOLD[known.told](suite) for suite in stage] for stage in order]
    everything = list(itertools.chain(*order))
    drivers: list[tuple[str, int, Path | None]] = [
        (recipe, seed, known.runs / f"{recipe}-{seed}") for seed in known.seeds for recipe in known.recipes
    ]
    for stage, (name, seed, run) in itertools.product(order, [("expert", 0, None), *drivers]):
        for suite in stage:
            if (name, seed, suite.protocol) in done:
                continue
            rows.append(drive(suite, run))
            known.json.parent.mkdir(parents=True, exist_ok=True)
            known.json.write_text(json.dumps({**head, **summary(rows, everything), "drives": rows}, indent=1))


if __name__ == "__main__":
    main()
