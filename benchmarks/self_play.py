"""Roads nobody trained on, every car driven by one policy: goals, failures, scores, beside two rows that cost nothing.

    python benchmarks/self_play.py RUN [RUN ...] [--worlds 100] [--scenes FOLDER] [--gap] [--conditions] [--json FILE]
    python benchmarks/self_play.py RUN --film FILE.mp4 [--scenes FOLDER] [--scene PART_OF_ITS_NAME]

A run is a teacher (drives by its likeliest choice) or a student (drives by tracking its plan). "straight" goes
straight on at its speed; "rules" follows its path behind whoever is ahead, with the truth before its eyes.
`--gap` drives behind cameras that do not show what is drawn (`self_play_adapted`). `--scenes` takes recorded scenes instead of generated ones: cars whose recorded way is at least 10 m and that overlap
nobody at the start. Intervals draw whole scenes anew. `--conditions` asks a teacher for the ends of a few coefficients.
`--film` drives one scene with copies of the run's policy and films it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch

from countersteer.drivers.choice import ChoiceDriver
from countersteer.drivers.expert import ExpertDriver
from countersteer.drivers.interface import Decision, Driver
from countersteer.environments.rewards import Coefficients
from countersteer.errors import UserError
from countersteer.evaluation.population import Population, drive_population
from countersteer.evaluation.population_film import film_population
from countersteer.experts.recovery import RecoveryExpert
from countersteer.policies.interface import Policy
from countersteer.policies.storage import load_policy
from countersteer.policies.teacher import Teacher
from countersteer.recipes.self_play import roads, self_play_world, student_driver
from countersteer.scenarios.scenario import Scenario
from countersteer.scenarios.sources import ScenarioFolder
from countersteer.training.run import load_recipe
from countersteer.vehicles.plans import Action
from countersteer.worlds.boxworld.gap import Gap
from countersteer.worlds.boxworld.spec import BoxWorldSpec, StartSpec
from countersteer.worlds.interface import Cause


class Straight(Driver):
    """Straight on at the present speed."""

    uses_policy = False
    uses_expert = False

    def act(self, output, label, world, memory, tick, progress, seed):
        """See `Driver.act`."""
        speed = world.motion().speed
        zero = torch.zeros_like(speed)
        return Decision(Action(zero, zero), torch.zeros_like(speed, dtype=torch.bool)), memory


def row(name: str, found: Population) -> dict[str, float | str | int]:
    """A line of the table."""
    shares = found.shares()
    failed = ~found.ended_by(Cause.GOAL, Cause.TIME)
    low, high = found.interval(found.score)
    goal_low, goal_high = found.interval(found.ended_by(Cause.GOAL).astype(float))
    print(
        f"{name:24} {shares['goal']:6.1%} [{goal_low:.1%}, {goal_high:.1%}]  failed {failed.mean():6.1%} "
        f"(collision {shares['collision']:.1%}, off road {shares['off_road']:.1%}, lost {shares['lost']:.1%})  "
        f"score {100 * shares['score']:5.1f} [{100 * low:.1f}, {100 * high:.1f}]  {shares['speed']:.1f} m/s",
        flush=True,
    )
    return {"name": name, "cars": len(found.cause), "failed": float(failed.mean())} | shares


def who(base: BoxWorldSpec, run: Path) -> tuple[BoxWorldSpec, Driver, Policy]:
    """The world with what a run's policy sees, and how it drives: a teacher by its choices, a student as it learned to."""
    policy, _ = load_policy(run)
    spec = dataclasses.replace(
        base,
        cameras=policy.spec.cameras,
        vector=policy.spec.vector,
        navigation=not getattr(policy.spec, "target_points", 0),
        target_points=getattr(policy.spec, "target_points", 0) > 0,
    )
    if isinstance(policy, Teacher):
        return spec, ChoiceDriver(policy.spec.jerk, greedy=True), policy
    return spec, student_driver(), policy


def usable(spec: BoxWorldSpec, scenario: Scenario) -> bool:
    """Whether anybody can drive there; says why not."""
    try:
        world = spec.build([scenario], 1, 0)
    except UserError as error:
        print(f"left out: {str(error).splitlines()[0]}")
        return False
    world.reset(torch.ones(1, dtype=torch.bool), world.draw_starts(torch.zeros(1, dtype=torch.long)))
    if not world.alive().any():
        print(f"left out: nobody can begin in {scenario.id}")
    return bool(world.alive().any())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Self-play on roads nobody trained on.")
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--scenes", help="folder of recorded scenes")
    parser.add_argument("--gap", action="store_true")
    parser.add_argument("--conditions", action="store_true")
    parser.add_argument("--film", type=Path, help="film one scene instead")
    parser.add_argument("--scene", default="intersection", help="part of its name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    source = ScenarioFolder(known.scenes) if known.scenes else roads(known.worlds, seed=1_000_000)
    scenarios = source.load()
    gap = Gap() if known.gap else None
    base = dataclasses.replace(self_play_world(), vector_dropout=(0.0, 0.0), gap=gap)
    if known.scenes:
        base = dataclasses.replace(base, agents=32, fewest=1, start=StartSpec(goal=base.start.goal))
        scenarios = [scenario for scenario in scenarios if usable(base, scenario)]
        print(f"{len(scenarios)} scenes", flush=True)

    if known.film:
        [run] = known.runs
        scene = next(scenario for scenario in scenarios if known.scene in scenario.id)
        spec, driver, policy = who(base, run)
        film_population(spec, scene, driver, policy, title=f"{run.name}: {scene.id[:40]}", path=known.film)
        return

    def drive(spec: BoxWorldSpec, *arguments: object, **settings: object) -> Population:
        world = spec.build(scenarios, len(scenarios) if known.scenes else known.worlds, known.seed)
        rows = torch.arange(world.batch)
        # Each recorded scene once, from where it begins.
        starts = world.starts_at(rows, torch.zeros_like(rows), rows, jitter=False) if known.scenes else None
        return drive_population(world, *arguments, starts=starts, **settings)  # type: ignore[arg-type]

    rows = [row("straight", drive(base, Straight()))]
    rows.append(row("rules", drive(base, ExpertDriver(), None, RecoveryExpert())))
    for run in known.runs:
        spec, driver, policy = who(base, run)
        rows.append(row(f"{load_recipe(run)[0].name} {run.name}", drive(spec, driver, policy)))
        if known.conditions and isinstance(policy, Teacher):
            ranges = policy.spec.coefficients
            for field in ("collision", "off_road", "velocity", "overspeed"):
                for end, value in zip(("low", "high"), getattr(ranges, field), strict=True):
                    asked = dataclasses.replace(middle(ranges), **{field: (value, value)})
                    rows.append(
                        row(f"  {field} {end} {value:g}", drive(spec, driver, policy, coefficients=asked))
                    )
    if known.json is not None:
        known.json.write_text(json.dumps(rows, indent=1))


def middle(ranges: Coefficients) -> Coefficients:
    """Every range shrunk to its middle."""
    means = {name: sum(getattr(ranges, name)) / 2 for name in Coefficients.names()}
    return Coefficients(**{name: (mean, mean) for name, mean in means.items()})


if __name__ == "__main__":
    main()
