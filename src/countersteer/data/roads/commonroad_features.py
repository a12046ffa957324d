"""A CommonRoad file's lanelets as features of a scenario."""

from __future__ import annotations

import numpy as np

from countersteer.data.roads.commonroad_file import CommonRoad
from countersteer.data.roads.lanelet_features import mean_width
from countersteer.geometry.polylines import arc_length
from countersteer.scenarios.scenario import MapFeature, MapKind

__all__ = ["map_features"]

_MARKINGS = {
    "solid": MapKind.LINE_SOLID_WHITE,
    "broad_solid": MapKind.LINE_SOLID_WHITE,
    "solid_solid": MapKind.LINE_SOLID_WHITE,
    "solid_dashed": MapKind.LINE_SOLID_WHITE,
    "dashed": MapKind.LINE_DASHED_WHITE,
    "broad_dashed": MapKind.LINE_DASHED_WHITE,
    "dashed_dashed": MapKind.LINE_DASHED_WHITE,
    "dashed_solid": MapKind.LINE_DASHED_WHITE,
    "curb": MapKind.ROAD_EDGE,
    "lowered_curb": MapKind.ROAD_EDGE,
}


def map_features(scene: CommonRoad) -> list[MapFeature]:
    """The features in the file's frame."""
    found: list[MapFeature] = []
    painted: set[tuple] = set()
    for name, lanelet in scene.lanelets.items():
        area = np.concatenate([lanelet.left, lanelet.right[::-1]])
        if "crosswalk" in lanelet.kinds:
            found.append(MapFeature(name, MapKind.CROSSWALK, area))
        if lanelet.for_cars:
            centre = lanelet.centre
            width = mean_width(lanelet.left, lanelet.right, float(arc_length(centre)[-1]))
            found.append(MapFeature(name, MapKind.LANE, centre, width, lanelet.speed_limit))
            found.append(MapFeature(f"{name}/area", MapKind.LANE_AREA, area))
        for side, line, marking in zip(
            ("left", "right"), (lanelet.left, lanelet.right), lanelet.markings, strict=True
        ):
            # Neighbours state the line between them twice, oncoming ones in opposite order.
            there = tuple(map(tuple, np.round(line[:, :2], 2).tolist()))
            if marking not in _MARKINGS or there in painted or there[::-1] in painted:
                continue
            painted.add(there)
            found.append(MapFeature(f"{name}/{side}", _MARKINGS[marking], line))
        if lanelet.stop_line is not None:
            found.append(MapFeature(f"{name}/stop", MapKind.STOP_LINE, lanelet.stop_line))
    return found
