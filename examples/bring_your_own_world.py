"""Bring your own world: settings are data. Another kind of world is a simulation or a renderer of your own.

countersteer train examples/bring_your_own_world.py:icy --out runs/icy --optim.steps 200
"""

from countersteer.data.sources import ProceduralRoads
from countersteer.recipes.closed_loop import on_policy
from countersteer.scenarios.procedural import RoadKind
from countersteer.training.recipe import Recipe
from countersteer.vehicles.bicycle import Limits, VehicleSpec


def icy() -> Recipe:
    """`on_policy` on winding roads in a car that answers late and cannot turn hard."""
    recipe = on_policy()
    slippery = VehicleSpec(
        delay=(0.2, 0.4), curvature_gain=(0.7, 1.0), limits=Limits(lateral_acceleration=3.0)
    )
    return recipe.replace(
        name="icy",
        scenarios=ProceduralRoads(count=20, kinds=(RoadKind.S_CURVE, RoadKind.TIGHT), traffic=(0, 2)),
        world=recipe.stage.world.simulate(vehicle=slippery),
    )
