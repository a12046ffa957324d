"""The common baseline: clone, perturb, on_policy, blind. Same roads, network, budget, seeds; who drives differs.

    countersteer train on_policy --out runs/on_policy      about 5 minutes and 3 GB on two 2.5 GHz cores
    countersteer evaluate runs/on_policy --suite lane_keeping

Expected (docs/results.md has the seeds measured so far): the clone has the smaller open-loop error and
fails cases of the closed loop; the policy trained in its own states passes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from countersteer.data.sources import Combined, ProceduralRoads, RecordedDrive
from countersteer.drivers.drivers import ExpertDriver, LinearSchedule, MixedDriver, PerturbedDriver
from countersteer.experts.recovery import RecoveryExpert
from countersteer.objectives.imitation import Imitation
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.recipes.recordings import drivable_scenarios
from countersteer.scenarios.procedural import RoadKind
from countersteer.traffic.idm import IDM
from countersteer.training.recipe import Recipe
from countersteer.training.stages import ClosedLoop, RolloutSpec
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.simulation.spec import StartSpec
from countersteer.worlds.world import WorldSpec

__all__ = ["blind", "clone", "on_policy", "on_scenarios", "perturb"]


def clone() -> Recipe:
    """Behaviour cloning: the expert drives."""
    stage = ClosedLoop(
        name="clone",
        scenarios=Combined(
            (
                ProceduralRoads(
                    count=140,
                    kinds=(RoadKind.GENTLE, RoadKind.TIGHT, RoadKind.STRAIGHT, RoadKind.S_CURVE),
                    lanes=(1, 4),
                    traffic=(0, 4),
                    length=620.0,
                ),
                RecordedDrive(end=40.0),
            )
        ),
        # Further aside than this, which lane is meant can no longer be seen.
        world=WorldSpec(
            RoadSimulationSpec(start=StartSpec(command_share=0.7), traffic=IDM(), max_route_deviation=2.5),
            BoxRendererSpec(),
        ),
        policy=CNNPlannerSpec(),
        expert=RecoveryExpert(),
        driver=ExpertDriver(),
        objective=Imitation(),
        rollouts=RolloutSpec(iterations=1),
    )
    return Recipe.of(stage)


def perturb() -> Recipe:
    """The expert drives and is thrown off its course every few seconds; it recovers, and that is recorded."""
    return clone().replace(name="perturb", driver=PerturbedDriver(ExpertDriver()))


def on_policy() -> Recipe:
    """The policy drives, thrown off its course as in `perturb`; the expert labels (DAgger)."""
    driver = PerturbedDriver(
        MixedDriver(expert_probability=LinearSchedule(1.0, 0.0, (0.0, 0.34))), period=10.0
    )
    return clone().replace(name="on_policy", driver=driver, rollouts=RolloutSpec(num_worlds=128))


def blind() -> Recipe:
    """`on_policy` with its image replaced by the mean image: what the test gives away for nothing."""
    recipe = on_policy()
    policy = dataclasses.replace(recipe.stage.policy, blind=True)  # type: ignore[type-var]
    return recipe.replace(name="blind", policy=policy)


def on_scenarios(recipe: Recipe, folder: Path, message: Callable[[str], None] = print) -> Recipe:
    """A recipe in recorded scenarios instead of its own roads: `countersteer train on_policy --scenarios FOLDER`.

    Args:
        recipe: Who drives, and how much.
        folder: Scenarios in any format that is read.
        message: Told which of them nobody can drive in.

    Raises:
        UserError: Nothing there can be driven.
    """

    def driven(stage: ClosedLoop) -> ClosedLoop:
        return dataclasses.replace(stage, scenarios=drivable_scenarios(folder, stage.world, message))

    return dataclasses.replace(
        recipe, stages=tuple(driven(s) if isinstance(s, ClosedLoop) else s for s in recipe.stages)
    )
