"""Traffic that answers, learned from recorded or generated traffic: a `TokenNetwork` for the `traffic=` of any world of roads.

    countersteer train traffic --out runs/traffic
    countersteer train traffic --scenarios FOLDER      # from your own recordings
    countersteer train traffic_closed_loop             # and fine-tuned on its own roll-outs (CAT-K)

then `RoadSimulationSpec(traffic=TokenTraffic(Weights("runs/traffic")))`, and `countersteer traffic SCENE --weights runs/traffic`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from countersteer.data.sources import Combined, ProceduralRoads, ScenarioFolder, ScenarioSource
from countersteer.data.traffic_windows import TrafficWindows
from countersteer.models.token_network import TokenNetworkSpec
from countersteer.objectives.next_token import NextToken
from countersteer.policies.weights import Weights
from countersteer.scenarios.procedural import RoadKind
from countersteer.training.recipe import Recipe
from countersteer.training.stages import Fit, OptimSpec

__all__ = ["closed_loop_stage", "plain_stage", "traffic", "traffic_closed_loop"]

_TUNED = OptimSpec(steps=600, learning_rate=5e-5, warmup=20, checkpoint_every=200)


def generated() -> ScenarioSource:
    """Busy generated roads and crossings, in towns and outside, with people and bicycles."""
    towns = ProceduralRoads(
        count=60, seed=2_100_003, kinds=(RoadKind.INTERSECTION,), traffic=(10, 22), duration=30.0
    )
    roads = ProceduralRoads(
        count=60, seed=2_100_004, kinds=tuple(RoadKind), traffic=(8, 20), duration=30.0, length=450.0
    )
    return Combined((towns, roads))


def plain_stage(scenarios: ScenarioSource, steps: int = 6_000) -> Fit:
    """The next motion, from recorded pasts."""
    return Fit(
        "traffic",
        TrafficWindows(scenarios),
        TokenNetworkSpec(),
        NextToken(),
        OptimSpec(steps=steps, learning_rate=1e-3, warmup=100, checkpoint_every=200),
    )


def closed_loop_stage(scenarios: ScenarioSource, weights: Weights, closest: int = 32) -> Fit:
    """CAT-K from weights of `plain_stage`."""
    return Fit(
        "closed_loop",
        TrafficWindows(scenarios),
        TokenNetworkSpec(),
        NextToken(closest=closest, softness=0.0, learn_codes=False),
        _TUNED,
        init_from=weights,
    )


def traffic() -> Recipe:
    """Next motions of generated traffic; about an hour on one core."""
    return Recipe.of(plain_stage(generated()))


def traffic_closed_loop() -> Recipe:
    """`traffic`, then fine-tuned where its own roll-outs get to (CAT-K)."""
    scenarios = generated()
    stages = plain_stage(scenarios), closed_loop_stage(scenarios, Weights("stage:traffic"))
    return Recipe("traffic_closed_loop", stages)


def on_scenarios(recipe: Recipe, folder: Path, message: Callable[[str], None] = print) -> Recipe:
    """The recipe on traffic recorded in a folder of scenarios, instead of generated traffic."""
    source = ScenarioFolder(str(folder))

    def recorded(stage: Fit) -> Fit:
        assert isinstance(stage.data, TrafficWindows)
        return dataclasses.replace(stage, data=dataclasses.replace(stage.data, scenarios=source))

    return dataclasses.replace(recipe, stages=tuple(recorded(s) for s in recipe.stages if isinstance(s, Fit)))
