"""Recipes small enough for a test, as a user's own file: `countersteer train tiny_recipe.py:tiny`."""

import dataclasses

from countersteer.data.sources import ProceduralRoads
from countersteer.geometry.cameras import Camera
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.recipes.closed_loop import on_policy
from countersteer.scenarios.procedural import RoadKind
from countersteer.training.recipe import Recipe
from countersteer.training.stages import OptimSpec, RolloutSpec

CAMERAS = (Camera(width=32, height=16),)


def tiny() -> Recipe:
    """Three rounds of the policy driving, in seconds."""
    recipe = on_policy()
    return recipe.replace(
        name="tiny",
        scenarios=ProceduralRoads(count=2, kinds=(RoadKind.STRAIGHT,), lanes=(1, 2), traffic=(0, 1)),
        policy=CNNPlannerSpec(cameras=CAMERAS, channels=(4, 8), features=8, hidden=16, history=(1,)),
        rollouts=RolloutSpec(iterations=3, total_frames=72, num_worlds=3),
        optim=OptimSpec(steps=24, batch_size=2, sequence_length=4, warmup=2, checkpoint_every=4),
    )


def long() -> Recipe:
    """The same with so many steps that a test can kill it on the way."""
    recipe = tiny()
    optim = dataclasses.replace(recipe.stage.optim, steps=3_000, checkpoint_every=20)
    return recipe.replace(name="long", optim=optim)


def broken() -> Recipe:
    """Fails before there is a recipe."""
    raise ZeroDivisionError("division by zero")


def nothing() -> None:
    """Returns no recipe."""
