"""Procedural roads: seeded, unlimited scenarios, and roads drawn along recorded drives without a map."""

from countersteer.scenarios.procedural.along import road_along
from countersteer.scenarios.procedural.layouts import RoadKind
from countersteer.scenarios.procedural.roads import procedural_road

__all__ = ["RoadKind", "procedural_road", "road_along"]
