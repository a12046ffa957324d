"""CommonRoad files (XML 2018b, 2020a) as street networks: the lanelets, without the traffic.

Connections and neighbours are stated. Junctions are the lanes that share ground; signs say who gives way and stops, the
rest is usual (`usual_rules`). A light's cycle is the program of the lanes behind it. Converters of OpenStreetMap to 2018b
drew lanes of 2.5 m: they are widened, and moved apart where they lie beside each other.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.source import Reader, fingerprint
from countersteer.data.roads.checks import USUAL_WIDTH, oncoming_sides
from countersteer.data.roads.commonroad_features import map_features
from countersteer.data.roads.commonroad_file import (
    COLOURS,
    CommonRoad,
    RoadLanelet,
    is_commonroad,
    read_commonroad,
)
from countersteer.data.roads.lanelet_features import mean_width
from countersteer.data.roads.origins import commonroad_origin
from countersteer.data.roads.overlaps import with_junctions
from countersteer.data.roads.usual_rules import with_usual_priority
from countersteer.geometry.polylines import arc_length, offset
from countersteer.scenarios.network import Lane, Phase, RoadNetwork, SignalProgram
from countersteer.scenarios.scenario import MapKind, Provenance, SignalState
from countersteer.storage.files import head

__all__ = ["READER"]

_MAP = re.compile(r"(?:C-)?([A-Z]{3}_[A-Za-z0-9]{1,40}-[0-9]{1,6})(?:_|$)")
_NARROW = 2.8  # half of a file's lanes are narrower: nobody measured them [m]
_SOLID = frozenset({"solid", "broad_solid", "solid_solid", "curb"})
_MOST_BESIDE = 12  # lanes beside each other


def _matches(path: Path) -> bool:
    return path.is_file() and is_commonroad(head(path))


def _read(path: Path) -> RoadNetwork:
    scene = read_commonroad(path)
    notes = list(scene.notes)
    lanes = _lanes(scene)
    widths = [lane.width for lane in lanes.values()]
    features = map_features(scene)
    if widths and float(np.median(widths)) < _NARROW:
        lanes = _widened(lanes, scene)
        notes.append(
            f"lanes are {np.median(widths):.1f} m wide in the file, a converter's default: taken as {USUAL_WIDTH:g} m and "
            "moved apart where they lie beside each other"
        )
        features = []  # lines and areas of the narrow lanes
    lanes = with_junctions(lanes)
    lanes, waiting = _with_signs(lanes, scene)
    lanes, programs = _with_lights(lanes, scene)
    left, right = oncoming_sides(lanes)
    left_hand = right > left
    lanes = with_usual_priority(lanes, left_hand=left_hand, waiting=waiting)
    source, licence, recorded = commonroad_origin(scene.source)
    recorded &= not scene.simulated
    if scene.obstacles:
        notes.append(
            f"{len(scene.obstacles)} {'recorded' if recorded else 'simulated or made-up'} obstacles are not read here"
        )
    kinds = (MapKind.LANE, MapKind.LANE_AREA)
    return RoadNetwork(
        _map_name(scene, path),
        lanes,
        Provenance(source, str(path), licence, fingerprint(scene.data), tuple(notes)),
        programs,
        tuple(each for each in features if each.kind not in kinds),
        left_hand,
    )


def _map_name(scene: CommonRoad, path: Path) -> str:
    """The map's part of a scene's identifier, which scenes of one map share (DEU_Muc-4 of DEU_Muc-4_1_T-1), else the file's name."""
    found = _MAP.match(scene.name)
    return found[1] if found else path.name.split(".")[0]


def _lanes(scene: CommonRoad) -> dict[str, Lane]:
    lanes = {}
    for name, lanelet in scene.lanelets.items():
        if not lanelet.for_cars:
            continue
        centre = lanelet.centre
        width = mean_width(lanelet.left, lanelet.right, float(arc_length(centre)[-1]))
        lanes[name] = Lane(
            name,
            centre,
            width,
            lanelet.speed_limit,
            lanelet.left,
            lanelet.right,
            lanelet.successors,
            left_neighbour=_neighbour(lanelet, 0),
            right_neighbour=_neighbour(lanelet, 1),
        )
    return lanes


def _neighbour(lanelet: RoadLanelet, side: int) -> str | None:
    """The lane on the left (0) or right (1) that leads the same way, unless a solid line is between."""
    beside = lanelet.beside[side]
    return beside[0] if beside is not None and beside[1] and lanelet.markings[side] not in _SOLID else None


def _shifts(lanes: dict[str, Lane], scene: CommonRoad) -> dict[str, float]:
    """How far each lane has to move to its right [m] so that lanes beside each other have room for `USUAL_WIDTH`.

    The line between oncoming lanes stays, or else the middle of the lanes that lead one way. Only lanes that have one beside them.
    """

    def beside(name: str, side: int) -> tuple[str, bool] | None:
        found = scene.lanelets[name].beside[side]
        return found if found is not None and found[0] in lanes else None

    def count(name: str, side: int) -> tuple[int, bool]:
        """Lanes of the same direction on a side, and whether an oncoming one follows."""
        number, here = 0, name
        while number < _MOST_BESIDE and (found := beside(here, side)) is not None:
            if not found[1]:
                return number, True
            number, here = number + 1, found[0]
        return number, False

    shifts = {}
    for name, lane in lanes.items():
        (on_left, oncoming_left), (on_right, oncoming_right) = count(name, 0), count(name, 1)
        extra = USUAL_WIDTH - lane.width
        if oncoming_left:
            shifts[name] = (on_left + 0.5) * extra
        elif oncoming_right:
            shifts[name] = -(on_right + 0.5) * extra
        elif on_left or on_right:
            shifts[name] = (on_left - on_right) / 2 * extra
    return shifts


def _widened(lanes: dict[str, Lane], scene: CommonRoad) -> dict[str, Lane]:
    """Lanes of `USUAL_WIDTH`; one that connects lanes which are moved begins and ends where they do."""
    shifts = _shifts(lanes, scene)
    at_end: dict[str, list[float]] = defaultdict(list)
    at_start: dict[str, list[float]] = defaultdict(list)
    for name, lane in lanes.items():
        for after in lane.successors:
            if after in shifts:
                at_end[name].append(shifts[after])
            if name in shifts:
                at_start[after].append(shifts[name])

    def end(name: str, others: dict[str, list[float]]) -> float:
        mine = [shifts[name]] if name in shifts else []
        return float(np.mean(mine or others[name] or [0.0]))

    made = {}
    for name, lane in lanes.items():
        share = arc_length(lane.centre)
        share = share / max(share[-1], 1e-9)
        first, last = end(name, at_start), end(name, at_end)
        centre = _beside(lane.centre, -(first + share * (last - first)))
        half = USUAL_WIDTH / 2
        made[name] = dataclasses.replace(
            lane, centre=centre, width=USUAL_WIDTH, left=_beside(centre, half), right=_beside(centre, -half)
        )
    return made


def _beside(line: Float[ndarray, "n 3"], left: float | Float[ndarray, "n"]) -> Float[ndarray, "n 3"]:
    moved = offset(line, left)
    return np.where(np.isfinite(moved), moved, line)


def _with_signs(lanes: dict[str, Lane], scene: CommonRoad) -> tuple[dict[str, Lane], set[str]]:
    """Lanes with stop signs at their beginning, and those at whose beginning a sign says to give way."""
    made, waiting = dict(lanes), set()
    for name, lane in lanes.items():
        lanelet = scene.lanelets[name]
        ways = [each for each in lane.successors if each in lanes]
        if lanelet.yields or lanelet.stops:
            waiting |= set(ways)
        for each in ways if lanelet.stops else ():
            made[each] = dataclasses.replace(made[each], stops=True)
    return made, waiting


def _with_lights(
    lanes: dict[str, Lane], scene: CommonRoad
) -> tuple[dict[str, Lane], tuple[SignalProgram, ...]]:
    """A program for each light, which governs the lanes that go on from those that name it."""
    governed: dict[str, dict[str, None]] = defaultdict(dict)
    for name, lane in lanes.items():
        for light in scene.lanelets[name].lights:
            if light in scene.lights:
                governed[light] |= {each: None for each in lane.successors if each in lanes}
    made, programs = dict(lanes), []
    for name, ways in governed.items():
        light = scene.lights[name]
        mine = tuple(each for each in ways if made[each].signal is None)
        if not mine:
            continue
        phases = tuple(
            Phase(duration, (COLOURS.get(colour, SignalState.UNKNOWN),) * len(mine))
            for duration, colour in light.cycle
        )
        programs.append(SignalProgram(f"light {name}", mine, phases, light.offset))
        for each in mine:
            made[each] = dataclasses.replace(made[each], signal=f"light {name}", stops=False)
    return made, tuple(programs)


READER: Reader[RoadNetwork] = Reader(
    "commonroad", "a CommonRoad file (XML 2018b or 2020a, .xml, .xml.gz)", _matches, _read
)
