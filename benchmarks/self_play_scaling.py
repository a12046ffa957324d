"""How a student's driving score grows with its size and with what it drives.

    python benchmarks/self_play_scaling.py OUT --teacher runs/teacher [--sizes 0.25 0.5 1 2] [--budgets 0.25 0.5 1] [--json FILE]

Every run is the recipe `self_play` with one dial turned: `size` scales the widths of all layers at the middle budget,
`budget` scales frames and steps together at size 1. Runs that are finished are kept, so it goes on where it was. All are
driven in the same unseen worlds (`countersteer evaluate --suite self_play`), whose page and film are written to OUT too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch

from countersteer.drivers.drivers import MixedDriver
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.policies.storage import load_policy
from countersteer.policies.weights import Weights
from countersteer.recipes.self_play import self_play
from countersteer.reporting.self_play import self_play_report
from countersteer.training.recipe import Recipe
from countersteer.training.run import train

FRAMES, STEPS = 50_000, 2_000  # at budget 1, half of the recipe's
MIDDLE = 0.5  # budget at which sizes are compared


def turned(teacher: str, size: float, budget: float) -> Recipe:
    """The student's recipe with its dials turned."""
    recipe = self_play(Weights(teacher))
    spec, driver = recipe.stage.policy, recipe.stage.driver
    assert isinstance(spec, CNNPlannerSpec)
    assert isinstance(driver, MixedDriver)
    return recipe.replace(
        policy=dataclasses.replace(
            spec,
            channels=tuple(round(size * width) for width in spec.channels),
            features=round(size * spec.features),
            hidden=round(size * spec.hidden),
        ),
        rollouts=dataclasses.replace(recipe.stage.rollouts, total_frames=round(FRAMES * budget)),
        optim=dataclasses.replace(recipe.stage.optim, steps=round(STEPS * budget)),
    )


def main() -> None:
    """Train what is missing, drive, write."""
    parser = argparse.ArgumentParser(description="Scaling of self-play students.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--sizes", nargs="*", type=float, default=[0.25, 0.5, 1.0, 2.0])
    parser.add_argument("--budgets", nargs="*", type=float, default=[0.25, 0.5, 1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--worlds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    torch.set_flush_denormal(True)
    dials = dict.fromkeys([(size, MIDDLE) for size in known.sizes] + [(1.0, each) for each in known.budgets])
    runs = {}
    for seed in known.seeds:
        for size, budget in dials:
            out = known.out / f"size{size:g}-budget{budget:g}-{seed}"
            if not (out / "policy.safetensors").exists():
                print(f"training {out.name}", flush=True)
                train(turned(known.teacher, size, budget), out, seed=seed, resume=out.exists())
            runs[out] = (size, budget, seed)
    rows = self_play_report(
        list(runs),
        known.out / "report.html",
        worlds=known.worlds,
        message=lambda line: print(line, flush=True),
    )
    found = []
    for (run, (size, budget, seed)), row in zip(runs.items(), rows[2:], strict=True):
        policy, _ = load_policy(run)
        weights = sum(each.numel() for each in policy.parameters())
        dial = {"size": size, "weights": weights, "frames": round(FRAMES * budget), "seed": seed}
        found.append(dial | row.to_json())
    for path in filter(None, [known.json, known.out / "scaling.json"]):
        path.write_text(
            json.dumps({"teacher": known.teacher, "worlds": known.worlds, "rows": found}, indent=1)
        )


if __name__ == "__main__":
    main()
