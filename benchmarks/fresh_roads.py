"""The policies of a study on test roads that nobody looked at while settings were chosen.

    python benchmarks/fresh_roads.py runs/study [--sets 1 2 3] [--json FILE]

Needs the runs of `countersteer demo --seeds N --out runs/study`. Prints mean passes over the seeds and the permutation
tests of on_policy against the others, paired on the case, all sets together.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from countersteer.evaluation.statistics import paired_permutation_test
from countersteer.evaluation.suites import lane_change, lane_keeping, run_suite
from countersteer.policies.storage import load_policy
from countersteer.training.run import load_recipe

RECIPES = ("clone", "perturb", "on_policy")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Policies of a study on fresh roads.")
    parser.add_argument("study", type=Path)
    parser.add_argument("--sets", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    suites = {kind.__name__: [kind(k) for k in known.sets] for kind in (lane_keeping, lane_change)}
    passed: dict[str, dict[str, list[list[int]]]] = {}
    for name in ("expert", *RECIPES):
        runs = sorted(known.study.glob(f"{name}-*")) if name != "expert" else [None]
        for run in runs:
            policy = load_policy(run)[0] if run is not None else None
            seed = load_recipe(run)[1] if run is not None else None
            for kind, sets in suites.items():
                counts = [run_suite(suite, name, policy).passes.astype(int).tolist() for suite in sets]
                passed.setdefault(kind, {}).setdefault(name, []).append([c for part in counts for c in part])
                print(
                    f"{name} {seed if seed is not None else ''} {kind}:", [sum(c) for c in counts], flush=True
                )
    tests = {}
    for kind, drivers in passed.items():
        means = {name: np.array(verdicts).mean(0) for name, verdicts in drivers.items()}
        print(
            kind,
            {name: round(float(mean.sum()) / len(known.sets), 2) for name, mean in means.items()},
            "a set",
        )
        for other in ("clone", "perturb"):
            p = paired_permutation_test(means["on_policy"], means[other], seed=0, alternative="greater")
            tests[f"on_policy > {other} on {kind}"] = p
            print(f"  p(on_policy > {other}) = {p:.2g}")
    if known.json is not None:
        known.json.write_text(json.dumps({"sets": known.sets, "verdicts": passed, "p": tests}))


if __name__ == "__main__":
    main()
