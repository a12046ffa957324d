"""A recipe of traffic that trains in a second."""

from __future__ import annotations

import dataclasses

from countersteer.data.sources import ProceduralRoads
from countersteer.models.token_network import TokenNetworkSpec
from countersteer.recipes.traffic import plain_stage
from countersteer.training.recipe import Recipe


def tiny() -> Recipe:
    """Two roads, a small network."""
    stage = plain_stage(ProceduralRoads(count=2, traffic=(3, 4), duration=12.0))
    return Recipe.of(
        dataclasses.replace(stage, model=TokenNetworkSpec(width=8, heads=1, edge=8, blocks=1, capacity=512))
    )
