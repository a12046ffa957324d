"""Recipes small enough for a test, as a user's own file: `countersteer train tiny_recipe.py:tiny`."""

import dataclasses

from countersteer.data.sources import ProceduralRoads
from countersteer.geometry.cameras import Camera
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.recipes.closed_loop import on_policy
from countersteer.scenarios.procedural import RoadKind
from countersteer.training.recipe import OptimSpec, Recipe, RolloutSpec

CAMERAS = (Camera(width=32, height=16),)


def tiny() -> Recipe:
    """Three rounds of the policy driving, in seconds."""
    recipe = on_policy()
    return dataclasses.replace(
        recipe,
        name="tiny",
        scenarios=ProceduralRoads(count=2, kinds=(RoadKind.STRAIGHT,), lanes=(1, 2), traffic=(0, 1)),
        world=dataclasses.replace(recipe.world, cameras=CAMERAS),
        policy=CNNPlannerSpec(cameras=CAMERAS, channels=(4, 8), features=8, hidden=16, history=(1,)),
        collection=RolloutSpec(rounds=3, frames=72, drives=3),
        learning=OptimSpec(steps=24, sequences=2, length=4, warmup=2, checkpoint_every=4),
    )


def long() -> Recipe:
    """The same with so many steps that a test can kill it on the way."""
    recipe = tiny()
    return dataclasses.replace(
        recipe, name="long", learning=dataclasses.replace(recipe.learning, steps=3_000, checkpoint_every=20)
    )


def broken() -> Recipe:
    """Fails before there is a recipe."""
    raise ZeroDivisionError("division by zero")


def nothing() -> None:
    """Returns no recipe."""
