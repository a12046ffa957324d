"""Lanelet2 maps as street networks: connections by shared ends, neighbours by shared ways, rules by what the map says.

What Lanelet2 leaves to its library is worked out here: a lanelet goes on to those that begin with the two points at which
it ends; it may change to one beside it where the line between them is dashed; lanelets that share ground are a junction.
Who goes first is what `right_of_way` and `all_way_stop` rules say, else what is usual (`usual_rules`). Lights have no
phases in this form: usual ones are taken.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.source import Reader, fingerprint, origin
from countersteer.data.roads.checks import oncoming_sides
from countersteer.data.roads.lanelet_features import (
    for_cars,
    is_stop_sign,
    map_features,
    mean_width,
    speed_limit,
    two_way,
)
from countersteer.data.roads.origins import INTERACTION_LICENCE, INTERACTION_SITES
from countersteer.data.roads.osm_lanelets import LaneletMap, Rule, read_lanelets
from countersteer.data.roads.overlaps import pieces, with_junctions
from countersteer.data.roads.usual_rules import conflicting, usual_program, with_usual_priority
from countersteer.geometry.polygons import distance_to_segments
from countersteer.geometry.polylines import arc_length, halfway
from countersteer.scenarios.network import Lane, RoadNetwork, SignalProgram
from countersteer.scenarios.scenario import MapKind, Provenance
from countersteer.storage.files import head, read_bytes

__all__ = ["READER"]

_GAP = 0.5  # ends that are nearer are taken for one where nothing else goes on [m]
_AT_LINE = 1.5  # a lane that ends within this of a stop line ends there [m]
_BEFORE = 40.0  # lights stand at most so far before their junction [m]
_LEFT_HAND = frozenset({"jp", "gb", "uk", "au", "nz", "in", "sg", "th", "hk", "ie", "za"})
_LANELET = re.compile(rb"""v=["']lanelet["']""")


def _matches(path: Path) -> bool:
    # Relations come last in a file, and plain OpenStreetMap looks the same at its beginning.
    return path.is_file() and b"<osm" in head(path) and _LANELET.search(read_bytes(path)) is not None


def _read(path: Path) -> RoadNetwork:
    whole = read_lanelets(path)
    notes = list(whole.notes)
    lanes = with_junctions(_connected(_lanes(whole), notes))
    lanes = _with_neighbours(lanes, whole)
    lanes, programs = _with_rules(lanes, whole, notes)
    left_hand = _left_hand(lanes, whole)
    lanes = with_usual_priority(lanes, left_hand=left_hand)
    name = path.name.removesuffix(".gz").removesuffix(".osm").removesuffix(".osm_xy")
    source, licence = origin(name in INTERACTION_SITES, "INTERACTION", INTERACTION_LICENCE, "Lanelet2")
    parts = pieces(lanes)
    features = (
        dataclasses.replace(each, points=np.nan_to_num(each.points))
        for each in map_features(whole)
        if each.kind not in (MapKind.LANE, MapKind.LANE_AREA)
    )
    return RoadNetwork(
        name,
        lanes,
        Provenance(source, str(path), licence, fingerprint(whole.data), tuple(notes)),
        programs,
        tuple(features),
        left_hand,
        {key: f"{name}, part {part}" for key, part in parts.items()} if any(parts.values()) else {},
    )


def _lanes(whole: LaneletMap) -> dict[str, Lane]:
    """Lanes for cars, without connections; one that is driven both ways is there once more as `ID/back`."""
    lanes = {}
    for name, lanelet in whole.lanelets.items():
        if not for_cars(lanelet):
            continue
        left, right = np.nan_to_num(lanelet.left), np.nan_to_num(lanelet.right)
        centre = halfway(left, right)
        width = mean_width(left, right, float(arc_length(centre)[-1]))
        lanes[name] = Lane(name, centre, width, speed_limit(lanelet, whole), left, right)
        if two_way(lanelet):
            lanes[f"{name}/back"] = dataclasses.replace(
                lanes[name], id=f"{name}/back", centre=centre[::-1], left=right[::-1], right=left[::-1]
            )
    return lanes


def _ends(lane: Lane, place: int) -> Float[ndarray, "2 2"]:
    """Where the left and the right border begin (0) or end (-1) [m]."""
    assert lane.left is not None
    assert lane.right is not None
    return np.stack([lane.left[place, :2], lane.right[place, :2]])


def _connected(lanes: dict[str, Lane], notes: list[str]) -> dict[str, Lane]:
    """Lanes with their successors: those of which both borders begin where the lane's end."""
    begin: dict[tuple, list[str]] = defaultdict(list)
    for key, lane in lanes.items():
        begin[tuple(np.round(_ends(lane, 0), 2).ravel().tolist())].append(key)
    keys = list(lanes)
    starts = np.array([_ends(lane, 0) for lane in lanes.values()]).reshape(-1, 2, 2)
    gaps, made = 0, {}
    for key, lane in lanes.items():
        end = _ends(lane, -1)
        after = begin.get(tuple(np.round(end, 2).ravel().tolist()), [])
        if not after:
            apart = np.linalg.norm(starts - end, axis=-1).max(1)
            after = [keys[index] for index in np.flatnonzero(apart < _GAP)]
            gaps += len(after)
        after = tuple(each for each in after if each != key)
        made[key] = dataclasses.replace(lane, successors=after)
    if gaps:
        notes.append(f"{gaps} connections lead over gaps of up to {_GAP:g} m between the points of the map")
    return made


def _with_neighbours(lanes: dict[str, Lane], whole: LaneletMap) -> dict[str, Lane]:
    """Lanes with those beside them that may be changed to: over dashed lines, or where the map says so."""
    left_of: dict[tuple[str, bool], str] = {}
    right_of: dict[tuple[str, bool], str] = {}
    for key in lanes:
        if not key.endswith("/back"):
            lanelet = whole.lanelets[key]
            right_of[lanelet.ways[0], lanelet.turned[0]] = key  # it lies to the right of its left way
            left_of[lanelet.ways[1], lanelet.turned[1]] = key
    made = dict(lanes)
    for key in set(left_of.values()) | set(right_of.values()):
        lanelet = whole.lanelets[key]
        (left, right), (left_turned, right_turned) = lanelet.ways, lanelet.turned
        made[key] = dataclasses.replace(
            lanes[key],
            left_neighbour=left_of.get((left, left_turned))
            if _may_cross(whole.ways[left].tags, from_left=left_turned)
            else None,
            right_neighbour=right_of.get((right, right_turned))
            if _may_cross(whole.ways[right].tags, from_left=not right_turned)
            else None,
        )
    return made


def _may_cross(tags: dict[str, str], *, from_left: bool) -> bool:
    """Whether a line may be crossed by somebody on its left (or right), seen in the direction in which it is drawn."""
    stated = tags.get("lane_change", tags.get("lane_change:right" if from_left else "lane_change:left"))
    if stated is not None:
        return stated in ("yes", "true")
    if not tags.get("type", "").startswith("line_"):
        return False
    kind = tags.get("subtype", "")
    return kind == "dashed" or kind == ("dashed_solid" if from_left else "solid_dashed")


def _ways_after(names: Iterable[str], lanes: dict[str, Lane], stops: Sequence[ndarray]) -> list[str]:
    """The lanes at whose beginning somebody waits who has to wait on lanelets.

    That is before the lanelet, or at its end where the stop line lies there; without a line at the end of a lanelet that leads to a junction.
    """
    found: dict[str, None] = {}
    for name in names:
        for key in (name, f"{name}/back"):
            if key not in lanes:
                continue
            lane = lanes[key]
            at_end = lane.junction is None
            if stops:
                to_start, to_end = (
                    min(float(np.linalg.norm(stop - lane.centre[end, :2])) for stop in stops)
                    for end in (0, -1)
                )
                at_end = to_end < to_start
            found |= dict.fromkeys(lane.successors if at_end and lane.successors else (key,))
    return list(found)


def _with_rules(
    lanes: dict[str, Lane], whole: LaneletMap, notes: list[str]
) -> tuple[dict[str, Lane], tuple[SignalProgram, ...]]:
    """Lanes with right of way, stop signs and lights as the map states them, and the programs of the lights."""
    naming: dict[str, list[str]] = defaultdict(list)
    for name, lanelet in whole.lanelets.items():
        for rule in lanelet.rules:
            naming[rule].append(name)
    before: dict[str, set[str]] = defaultdict(set)
    for key, lane in lanes.items():
        for after in lane.successors:
            before[after].add(key)
    sizes = Counter(lane.junction for lane in lanes.values() if lane.junction is not None)
    yields: dict[str, set[str]] = defaultdict(set)
    stops: set[str] = set()
    lit: dict[str, dict[str, None]] = defaultdict(dict)
    for name, rule in whole.rules.items():
        lines = [
            whole.ways[line].points[:, :2].mean(0)
            for line in rule.members.get("ref_line", ())
            if line in whole.ways and len(whole.ways[line].points)
        ]
        waiting = _ways_after(rule.members.get("yield", ()), lanes, lines)
        if rule.kind == "right_of_way":
            first = _ways_after(rule.members.get("right_of_way", ()), lanes, ())
            rivals = conflicting([lanes[key] for key in dict.fromkeys((*waiting, *first))], before)
            for key in waiting:
                yields[key] |= {rival.id for rival in rivals[key] if rival.id in first}
        if rule.kind == "all_way_stop" or (rule.kind == "right_of_way" and _has_stop_sign(rule, whole)):
            stops |= set(waiting)
        elif rule.kind == "traffic_sign" and _has_stop_sign(rule, whole):
            stops |= set(_ways_after(naming[name], lanes, lines))
        elif rule.kind == "traffic_light":
            governed = (
                _ways_after(naming[name], lanes, lines) if naming[name] else _behind(rule, whole, lanes)
            )
            for key in governed:
                lit[_junction_ahead(key, lanes, sizes) or f"rule {name}"][key] = None
    made = {
        key: dataclasses.replace(lane, yields_to=tuple(sorted(yields[key])), stops=key in stops)
        for key, lane in lanes.items()
    }
    programs = []
    for place, (junction, keys) in enumerate(sorted(lit.items())):
        program = usual_program(f"lights of {junction}", [made[key] for key in keys], offset=7.0 * place)
        programs.append(program)
        for key in keys:
            made[key] = dataclasses.replace(made[key], signal=program.id, stops=False)
    if programs:
        notes.append(
            f"the map states no phases of its lights: usual ones are taken for {len(programs)} junctions"
        )
    return made, tuple(programs)


def _junction_ahead(key: str, lanes: dict[str, Lane], sizes: Counter[str]) -> str | None:
    """The largest junction that begins within `_BEFORE` of a light, which may stand before a crossing or a split of lanes."""
    near, waiting = {key: 0.0}, [key]
    while waiting:
        here = waiting.pop()
        for after in lanes[here].successors if near[here] + lanes[here].length < _BEFORE else ():
            if after not in near:
                near[after] = near[here] + lanes[here].length
                waiting.append(after)
    junctions = {at for each in near if (at := lanes[each].junction) is not None}
    return max(sorted(junctions), key=lambda at: sizes[at], default=None)


def _behind(rule: Rule, whole: LaneletMap, lanes: dict[str, Lane]) -> list[str]:
    """The lanes that go on from those which end at the stop lines of a rule, where no lanelet names it."""
    found: dict[str, None] = {}
    for name in rule.members.get("ref_line", ()):
        line = whole.ways[name].points[:, :2] if name in whole.ways else np.zeros((0, 2))
        if len(line) < 2:
            continue
        across = line[-1] - line[0]
        for lane in lanes.values():
            ahead = lane.centre[-1, :2] - lane.centre[-2, :2]
            aside = abs(ahead @ across) < 0.5 * np.linalg.norm(ahead) * np.linalg.norm(across)
            apart = distance_to_segments(line[:-1], line[1:], lane.centre[-1:, :2]).min()
            if aside and apart < _AT_LINE:
                found |= dict.fromkeys(lane.successors)
    return list(found)


def _has_stop_sign(rule: Rule, whole: LaneletMap) -> bool:
    return any(
        name in whole.ways and is_stop_sign(whole.ways[name]) for name in rule.members.get("refers", ())
    )


def _left_hand(lanes: dict[str, Lane], whole: LaneletMap) -> bool:
    """Whether people drive on the left: by where oncoming lanes are, else by the country that the map names."""
    left, right = oncoming_sides(lanes)
    if left != right:
        return right > left
    regions = Counter(lanelet.tags.get("region", "")[:2].lower() for lanelet in whole.lanelets.values())
    return regions.most_common(1)[0][0] in _LEFT_HAND


READER: Reader[RoadNetwork] = Reader(
    "lanelet2",
    "a Lanelet2 map: OpenStreetMap XML (.osm, .osm.gz) with relations of type lanelet",
    _matches,
    _read,
)
