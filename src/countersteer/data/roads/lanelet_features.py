"""A Lanelet2 map as features of a scenario: lanes, their areas, lines, edges, crossings, stop lines and signs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.roads.osm_lanelets import Lanelet, LaneletMap, Way, metres_per_second
from countersteer.geometry.polylines import arc_length, halfway
from countersteer.scenarios.scenario import MapFeature, MapKind

__all__ = ["for_cars", "is_crossing", "is_stop_sign", "map_features", "mean_width", "speed_limit", "two_way"]

_FOR_CARS = frozenset({"road", "highway", "play_street", "main_road", "exit", "bus_lane"})
_EDGES = frozenset({"curbstone", "road_border", "guard_rail", "wall", "fence", "jersey_barrier"})
_STOP_SIGNS = ("usr1-1", "de206", "stop_sign")
_NO = frozenset({"no", "false"})


def for_cars(lanelet: Lanelet) -> bool:
    """Whether cars drive on a lanelet: what the map says of vehicles, else by its kind; one of no kind is a road."""
    stated = [
        value not in _NO
        for key, value in lanelet.tags.items()
        if key in ("participant:vehicle", "participant:vehicle:car")
    ]
    if stated or any(key.startswith("participant:") for key in lanelet.tags):
        return any(stated)
    return lanelet.tags.get("subtype", "road") in _FOR_CARS and not is_crossing(lanelet)


def is_crossing(lanelet: Lanelet) -> bool:
    """Whether people cross a street on a lanelet, by its kind or by its name."""
    return lanelet.tags.get("subtype") == "crosswalk" or "crosswalk" in lanelet.tags.get("name", "").lower()


def two_way(lanelet: Lanelet) -> bool:
    """Whether a lanelet is driven both ways."""
    return lanelet.tags.get("one_way", "yes") in _NO


def is_stop_sign(way: Way) -> bool:
    """Whether a line of the map stands for a stop sign."""
    return way.tags.get("type") == "traffic_sign" and way.tags.get("subtype", "").lower() in _STOP_SIGNS


def mean_width(left: Float[ndarray, "n d"], right: Float[ndarray, "m d"], length: float) -> float:
    """Mean width [m] of a lane of a length [m]: the area between its borders over it."""
    x, y = np.concatenate([left, right[::-1]])[:, :2].T
    x, y = x - x[0], y - y[0]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2 / max(length, 1e-9)


def speed_limit(lanelet: Lanelet, whole: LaneletMap) -> float | None:
    """What the lanelet or a rule that it names states [m/s], else None."""
    rules = [whole.rules[name] for name in lanelet.rules if name in whole.rules]
    texts = [lanelet.tags.get("speed_limit", "")]
    texts += [rule.tags.get("sign_type", "") for rule in rules if rule.kind == "speed_limit"]
    limits = [metres_per_second(text) for text in texts]
    return next((limit for limit in limits if limit is not None), None)


def map_features(whole: LaneletMap) -> list[MapFeature]:
    """The features in the map's frame; a lane that is driven both ways is there once more as `ID/back`."""
    found: list[MapFeature] = []
    for name, lanelet in whole.lanelets.items():
        area = np.concatenate([lanelet.left, lanelet.right[::-1]])
        if is_crossing(lanelet):
            found.append(MapFeature(name, MapKind.CROSSWALK, area))
        if not for_cars(lanelet):
            continue
        centre = halfway(lanelet.left, lanelet.right)
        length = float(arc_length(centre)[-1])
        width, limit = mean_width(lanelet.left, lanelet.right, length), speed_limit(lanelet, whole)
        found.append(MapFeature(name, MapKind.LANE, centre, width, limit))
        if two_way(lanelet):
            found.append(MapFeature(f"{name}/back", MapKind.LANE, centre[::-1], width, limit))
        found.append(MapFeature(f"{name}/area", MapKind.LANE_AREA, area))
    return [*found, *line_features(whole)]


def line_features(whole: LaneletMap) -> Iterator[MapFeature]:
    """Painted lines, edges, stop lines and stop signs."""
    for name, way in whole.ways.items():
        kind = _kind(way)
        if kind == MapKind.STOP_SIGN and len(way.points):
            yield MapFeature(f"way/{name}", kind, way.points.mean(0, keepdims=True))
        elif kind is not None and len(way.points) > 1:
            yield MapFeature(f"way/{name}", kind, way.points)


def _kind(way: Way) -> MapKind | None:
    kind = way.tags.get("type", "")
    if kind in _EDGES:
        return MapKind.ROAD_EDGE
    if kind == "stop_line":
        return MapKind.STOP_LINE
    if is_stop_sign(way):
        return MapKind.STOP_SIGN
    if kind not in ("line_thin", "line_thick"):
        return None
    yellow = way.tags.get("color") == "yellow"
    if way.tags.get("subtype", "").startswith("dashed"):
        return MapKind.LINE_DASHED_YELLOW if yellow else MapKind.LINE_DASHED_WHITE
    return MapKind.LINE_SOLID_YELLOW if yellow else MapKind.LINE_SOLID_WHITE
