"""Who recovers after training in recorded drives: `python benchmarks/reprojection_study.py OUT [--seeds 5] [--json FILE]`.

Trains clone, perturb and on-policy on films of generated roads whose depth is estimated (`recipes/reprojection.py`), and
drives all of them, from offset starts, in

- `oracle`: roads nobody trained on, in the boxworld that films are made in, which shows the true picture everywhere;
- `reprojected`: the same roads and starts, seen through films of them with true depth;
- `lane_keeping`: boxworld's own suite, another set of roads.

Runs that are finished are kept, so it goes on where it was. Passes by case are tested by permutation, paired on the
case, seeds averaged first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch

from countersteer.evaluation.comparing import permutation_tests
from countersteer.evaluation.suites import Suite, lane_keeping, run_suite
from countersteer.policies.storage import load_policy
from countersteer.recipes.reprojection import reprojection, reprojection_clone, reprojection_perturb
from countersteer.training.run import Progress
from countersteer.training.side_by_side import Run, train_side_by_side
from countersteer.worlds.renderers.reprojection.renderer import ReprojectionRendererSpec
from countersteer.worlds.simulation.recorded import RecordedSimulationSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec

HELD_OUT = 11  # set of test roads that no setting was chosen with


def suites() -> list[Suite]:
    """The three tests."""
    oracle = dataclasses.replace(lane_keeping(HELD_OUT), name="oracle")
    settings, films = oracle.world.simulation, reprojection().stage.world.simulation
    assert isinstance(settings, RoadSimulationSpec)
    assert isinstance(films, RecordedSimulationSpec)
    recorded = RecordedSimulationSpec(
        logs=films.logs,
        start=settings.start,
        max_route_deviation=settings.max_route_deviation,
        terminate=settings.terminate,
    )
    through = WorldSpec(recorded, ReprojectionRendererSpec())
    return [oracle, dataclasses.replace(oracle, name="reprojected", world=through), lane_keeping()]


def main() -> None:
    """Train what is missing, drive, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=2, help="trainings at a time, a core each")
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    torch.set_flush_denormal(True)
    tests = suites()
    verdicts: dict[tuple[str, str], list[np.ndarray]] = {}
    found: dict[str, object] = {"expert": {}, "runs": []}
    for suite in tests:
        passes = run_suite(suite, "expert", None).passes
        found["expert"][suite.name] = int(passes.sum())  # type: ignore[index]
        print(f"expert: {suite.name} {int(passes.sum())}/{len(passes)}", flush=True)
    for seed in range(known.seeds):
        recipes = (reprojection(), reprojection_clone(), reprojection_perturb())
        runs = [Run(recipe, known.out / f"{recipe.name}-{seed}", seed) for recipe in recipes]
        train_side_by_side(runs, known.at_once, lambda name: Progress())
        for recipe, out in ((run.recipe, run.out) for run in runs):
            policy, metadata = load_policy(out)
            row: dict[str, object] = {"recipe": recipe.name, "seed": seed, "train_s": metadata["seconds"]}
            for suite in tests:
                began = time.monotonic()
                result = run_suite(suite, recipe.name, policy.eval())
                verdicts.setdefault((recipe.name, suite.name), []).append(result.passes)
                row[suite.name] = [bool(passed) for passed in result.passes]
                print(
                    f"{out.name}: {suite.name} {int(result.passes.sum())}/{len(result.passes)}, "
                    f"trained in {metadata['seconds']:.0f} s, driven in {time.monotonic() - began:.0f} s",
                    flush=True,
                )
            found["runs"].append(row)  # type: ignore[attr-defined]
            if known.json is not None:
                known.json.write_text(json.dumps(found, indent=1))
    pairs = (
        ("reprojection", "reprojection_clone"),
        ("reprojection_perturb", "reprojection_clone"),
        ("reprojection", "reprojection_perturb"),
    )
    found["p"] = permutation_tests({key: np.stack(rows) for key, rows in verdicts.items()}, pairs)
    for name, p in found["p"].items():  # type: ignore[attr-defined]
        print(f"p = {p:.2g}: {name}")
    if known.json is not None:
        known.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
