"""The recipes on recordings, tested within the same drives: `python benchmarks/within_drive.py OUT LOG [LOG ...] [--json FILE]`.

Each recording is cut into stretches of a few seconds. Odd ones are held out from a policy that is trained on the even ones, and the
other way round, so every stretch is driven once by a policy that has seen no frame of it, from starts aside of the recorded
path. What it sees there is reprojected, as in training: there is no other picture. Depth of a stretch is computed from its own frames.

A drive passes if it is within 0.4 m of the recorded path over its last 0.7 s. Intervals are by the bootstrap over stretches, since
drives of one stretch share its road. Two short drives are no road network: nothing here says how a policy would do elsewhere.
`straight on` is the untrained planner, which goes on as it is placed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path

import numpy as np
import torch

from countersteer.data.cameras import drive_of_log, read
from countersteer.data.sources import CameraDrive, Combined
from countersteer.evaluation.driving import open_loop_error
from countersteer.evaluation.records import CaseResult, DriveRecord
from countersteer.evaluation.statistics import clustered_interval
from countersteer.evaluation.suites import Case, Suite, run_suite
from countersteer.policies.interface import Policy
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.policies.storage import load_policy
from countersteer.recipes.reprojection import (
    on_recordings,
    reprojection,
    reprojection_clone,
    reprojection_perturb,
)
from countersteer.training.recipe import Recipe
from countersteer.training.run import train
from countersteer.training.stages import OptimSpec, RolloutSpec
from countersteer.worlds.renderers.reprojection.renderer import ReprojectionRendererSpec
from countersteer.worlds.simulation.logs import camera_of_log
from countersteer.worlds.simulation.spec import StartSpec

STARTS = ((-0.7, 0.0), (-0.4, -1.5), (0.0, -2.5), (0.0, 2.5), (0.4, 1.5), (0.7, 0.0))  # left [m], [degrees]
WITHIN, LAST = 0.4, 0.7  # [m], [s]


def folds(logs: list[str], stretch: float) -> list[tuple[list[CameraDrive], list[CameraDrive]]]:
    """What to train on and what to drive, twice."""
    parts: list[list[CameraDrive]] = [[], []]
    for log in logs:
        whole = drive_of_log(read(log)).duration
        count = max(round(whole / stretch), 2)
        edges = np.linspace(0.0, whole, count + 1).round(3).tolist()
        for k in range(2):
            mine = tuple(zip(edges[k:-1:2], edges[k + 1 :: 2], strict=True))
            parts[k].append(CameraDrive(log, mine))
    return [(parts[0], parts[1]), (parts[1], parts[0])]


def rule(case: Case, record: DriveRecord) -> CaseResult:
    """Within 0.4 m of the recorded path over the last 0.7 s."""
    last = max(int(record.alive.sum()), 1)  # a drive ends where its stretch does
    error = float(np.abs(record.lateral[max(last - round(LAST / 0.1), 0) : last]).mean())
    reason = "" if error <= WITHIN else f"{error:.2f} m aside"
    return CaseResult(case.id, not reason, reason, None, {"error_m": error})


def suite_of(recipe: Recipe, held_out: list[CameraDrive], duration: float) -> Suite:
    """Every held-out stretch from every start."""
    cases = tuple(
        Case(
            f"{scenario.id}@{scenario.cameras.start:g}/{lateral:+g} {turn:+g}",
            scenario,
            lateral,
            math.radians(turn),
        )
        for scenario in Combined(tuple(held_out)).load()
        if scenario.cameras is not None
        for lateral, turn in STARTS
    )
    start = StartSpec(lateral=0.0, heading=0.0, speed=0.0, set_speed=(1.0, 1.0))
    world = recipe.stage.world.simulate(start=start, duration=duration, future=0.0)
    return Suite("within drive", 1, world, cases, rule)


def main() -> None:
    """Train what is missing, drive, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("logs", nargs="+")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--stretch", type=float, default=2.5, help="[s]")
    parser.add_argument("--frames", type=int, default=6_000)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    camera = camera_of_log(read(known.logs[0]), 128, 48, math.radians(62.0))
    rows: dict[str, dict[str, list[float]]] = {}
    cases: list[str] = []
    runs: list[dict[str, object]] = []
    for fold, (seen, held_out) in enumerate(folds(known.logs, known.stretch)):
        recipes = []
        for made in (reprojection_clone(), reprojection_perturb(), reprojection()):
            recipe = on_recordings(made, seen, camera)
            # Half a second of future: the expert's labels need the path and no frame.
            world = recipe.stage.world.simulate(duration=2.0, future=0.5)
            assert isinstance(world.renderer, ReprojectionRendererSpec)
            drawn = dataclasses.replace(world.renderer, cache=str(known.out / "depth"))
            world = dataclasses.replace(world, renderer=drawn)
            budget = RolloutSpec(
                iterations=made.stage.rollouts.iterations, total_frames=known.frames, num_worlds=48
            )
            optim = OptimSpec(steps=known.steps)
            recipes.append(recipe.replace(world=world, rollouts=budget, optim=optim))
        suite = suite_of(recipes[0], held_out, known.stretch - 0.1)
        names = [case.id.split("/")[0] for case in suite.cases]
        cases += names

        def keep(name: str, policy: Policy | None, suite: Suite = suite, fold: int = fold) -> list[float]:
            result = run_suite(suite, name, policy)
            errors = [case.measures["error_m"] for case in result.cases]
            row = rows.setdefault(name, {"error": [], "passed": []})
            row["error"] += errors
            row["passed"] += [float(case.passed) for case in result.cases if case.passed is not None]
            print(f"fold {fold}, {name}: {int(result.passes.sum())}/{len(result.passes)}", flush=True)
            return errors

        keep("expert", None)
        torch.manual_seed(0)
        assert isinstance(recipes[0].stage.policy, CNNPlannerSpec)
        keep("straight on", recipes[0].stage.policy.build().eval())
        for seed in range(known.seeds):
            for recipe in recipes:
                out = known.out / f"{recipe.name}-{fold}-{seed}"
                began = time.monotonic()
                train(recipe, out, seed=seed, resume=True)
                policy, metadata = load_policy(out)
                print(f"{out.name}: {time.monotonic() - began:.0f} s", flush=True)
                errors = keep(f"{recipe.name}, seed {seed}", policy.eval())
                scenarios = Combined(tuple(held_out)).load()
                ahead = open_loop_error(policy, suite.world, scenarios, seed=99, ticks=20)
                runs.append(
                    {
                        "recipe": recipe.name,
                        "fold": fold,
                        "seed": seed,
                        "train_s": metadata["seconds"],
                        "open_loop_error_m": ahead,
                        "errors_m": errors,
                    }
                )
    found: dict[str, object] = {"stretches": cases, "runs": runs}
    stretch, ends = np.array(cases), {}
    for name in ("expert", "straight on", "reprojection_clone", "reprojection_perturb", "reprojection"):
        alike = [row for key, row in rows.items() if key.split(",")[0] == name]
        ahead = [run["open_loop_error_m"] for run in runs if run["recipe"] == name]
        summary: dict[str, object] = {"open_loop_error_m": ahead}
        for what in ("error", "passed"):
            value = np.array([row[what] for row in alike]).mean(0)  # seeds first
            summary[what] = [float(value.mean()), *clustered_interval(value, stretch)]
            ends[name, what] = value
        found[name] = summary
        print(name, json.dumps(summary))
    for other in ("reprojection_clone", "reprojection_perturb"):
        apart = ends["reprojection", "error"] - ends[other, "error"]
        found[f"error less that of {other}"] = [float(apart.mean()), *clustered_interval(apart, stretch)]
        print(f"error less that of {other}: {found[f'error less that of {other}']}")
    if known.json is not None:
        known.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
