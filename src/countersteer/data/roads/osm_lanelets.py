"""What a Lanelet2 map says: OpenStreetMap's XML of nodes, ways and relations, of which some are lanelets and rules.

A lanelet is the ground between a left and a right way, in whose direction people go. Places are latitude and longitude,
`x` and `y` attributes, or `local_x` and `local_y` tags; `LaneletMap` has metres.

Reference: Poggenhans et al., "Lanelet2: A high-definition map framework for the future of automated driving", ITSC 2018;
github.com/fzi-forschungszentrum-informatik/Lanelet2, lanelet2_core/doc.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.roads.xml_files import parse
from countersteer.errors import UserError
from countersteer.geometry.polygons import side_distance
from countersteer.geometry.utm import utm, utm_zone
from countersteer.storage.files import read_bytes

__all__ = ["Lanelet", "LaneletMap", "Rule", "Way", "metres_per_second", "read_lanelets"]

_LARGEST = 1e7  # coordinate [m]
_MOST_POINTS = 1_000_000  # of all ways; points that several ways share count several times
_MOST_LANELETS = 50_000
_FICTITIOUS = (
    0.1  # a map this close to latitude and longitude 0 is one of a plane: there is only sea [degrees]
)
_SPEED = re.compile(r"\s*([0-9]{1,4}(?:\.[0-9]{1,6})?)\s*(km/?h|kph|mph|m/?s|mps)?\s*", re.IGNORECASE)
_UNITS = {"km/h": 1 / 3.6, "kmh": 1 / 3.6, "kph": 1 / 3.6, "mph": 0.44704, "m/s": 1.0, "ms": 1.0, "mps": 1.0}


@dataclass(frozen=True)
class Way:
    """A line of the map.

    Attributes:
        points: In the order of the file [m]; heights of NaN where the map states none.
        tags: As stated.
    """

    points: Float[ndarray, "n 3"]
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lanelet:
    """The ground between two ways.

    Attributes:
        id: As stated.
        left, right: Its borders in its direction, of two points or more [m].
        ways: Ids of the ways that are its left and its right border.
        turned: Whether the left and the right way are drawn against its direction.
        tags: As stated.
        rules: Ids of the rules that it names.
    """

    id: str
    left: Float[ndarray, "n 3"]
    right: Float[ndarray, "m 3"]
    ways: tuple[str, str]
    turned: tuple[bool, bool]
    tags: dict[str, str]
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """A regulatory element: a light, a right of way, a speed limit.

    Attributes:
        kind: Its subtype, for example "right_of_way".
        tags: As stated.
        members: Ids of ways and lanelets by the role that they have, for example "yield".
    """

    kind: str
    tags: dict[str, str]
    members: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class LaneletMap:
    """All that we read of a map.

    Attributes:
        lanelets, rules, ways: By id.
        notes: How places were projected, and what was left out.
        data: The bytes of the file, decompressed.
    """

    lanelets: dict[str, Lanelet]
    rules: dict[str, Rule]
    ways: dict[str, Way]
    notes: tuple[str, ...]
    data: bytes


def metres_per_second(text: str) -> float | None:
    """A speed limit such as "30 mph", "50 km/h" or "50" (km/h, as Lanelet2 has it) in m/s; None for anything else."""
    found = _SPEED.fullmatch(text)
    return float(found[1]) * _UNITS[(found[2] or "km/h").lower()] if found else None


def read_lanelets(path: Path) -> LaneletMap:
    """The lanelets of a file, which may be gzipped.

    Raises:
        UserError: It is no such XML, a number in it is none, or it holds no lanelet.
    """
    data = read_bytes(path)
    root = parse(data, path)
    notes: list[str] = []
    places = _places(path, root, notes)
    ways = _ways(path, root, places, notes)
    lanelets: dict[str, Lanelet] = {}
    rules: dict[str, Rule] = {}
    broken: list[str] = []
    for relation in root.iter("relation"):
        name, tags = _name(path, relation), _tags(relation)
        if tags.get("type") == "regulatory_element":
            rules[name] = Rule(tags.get("subtype", ""), tags, _members(relation))
        elif tags.get("type") == "lanelet":
            made = _lanelet(name, tags, _members(relation), ways)
            if made is None:
                broken.append(name)
            else:
                lanelets[name] = made
    if len(lanelets) > _MOST_LANELETS:
        _fail(path, "holds too many lanelets", len(lanelets), f"at most {_MOST_LANELETS}")
    if not lanelets:
        _fail(path, "holds no lanelet that can be read", f"{len(broken)} broken ones", "a Lanelet2 map")
    if broken:
        notes.append(
            f"{len(broken)} lanelets without a left and a right way of two points left out, {broken[0]!r} first"
        )
    return LaneletMap(lanelets, rules, ways, tuple(notes), data)


def _fail(path: Path, what: str, got: object, expected: object) -> NoReturn:
    raise UserError(f"{path}: {what}", got=got, expected=expected, fix="check that the file is whole")


def _name(path: Path, element: Element) -> str:
    name = element.get("id")
    if not name or len(name) > 100:
        _fail(path, f"a {element.tag} has no id", name and f"{len(name)} letters", "an id")
    return name


def _tags(element: Element) -> dict[str, str]:
    return {tag.get("k", ""): tag.get("v", "") for tag in element.iter("tag")}


def _members(relation: Element) -> dict[str, tuple[str, ...]]:
    members: dict[str, tuple[str, ...]] = {}
    for member in relation.iter("member"):
        role = member.get("role", "")
        members[role] = (*members.get(role, ()), member.get("ref", ""))
    return members


def _number(path: Path, text: str | None, what: str) -> float:
    """A coordinate; NaN where none is stated."""
    if text is None or not text.strip():
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        _fail(path, f"{what} is not a number", text[:60], "a number")
    if not abs(value) <= _LARGEST:  # NaN too
        _fail(path, f"{what} is out of range", text[:60], f"at most {_LARGEST:g}")
    return value


def _places(path: Path, root: Element, notes: list[str]) -> dict[str, ndarray]:
    """Where every node is [m]; NaN where nobody says."""
    names, rows = [], []
    for node in root.iter("node"):
        name, tags = _name(path, node), _tags(node)
        stated = (
            node.get("lat"), node.get("lon"), node.get("x"), node.get("y"),
            tags.get("local_x"), tags.get("local_y"), tags.get("ele", node.get("ele")),
        )  # fmt: skip
        names.append(name)
        rows.append([_number(path, text, f"a coordinate of node {name}") for text in stated])
    if not rows:
        _fail(path, "holds no nodes", "none", "nodes with places")
    table = np.array(rows)
    flat, plane = _projected(path, table[:, :2], notes), table[:, 2:4]
    local = table[:, 4:6]
    plane = np.where(np.isnan(plane).any(1, keepdims=True), flat, plane)
    missing = np.asarray(np.isnan(plane).any(1) & ~np.isnan(local).any(1))
    if missing.any():
        both = ~np.isnan(plane).any(1) & ~np.isnan(local).any(1)
        if both.any():
            shift = np.median(plane[both] - local[both], axis=0)
        elif np.isnan(plane).all():
            shift = np.zeros(2)
        else:
            _fail(
                path, "has nodes in two frames", "local_x and lat without a node that has both", "one frame"
            )
        plane = np.where(missing[:, None], local + shift, plane)
        notes.append(f"{int(missing.sum())} nodes are placed by local_x and local_y")
    points = np.concatenate([plane, table[:, 6:]], 1)
    return dict(zip(names, points, strict=True))


def _projected(path: Path, degrees: Float[ndarray, "n 2"], notes: list[str]) -> Float[ndarray, "n 2"]:
    """Latitudes and longitudes in a plane [m]; NaN stays."""
    known = ~np.isnan(degrees).any(1)
    if not known.any():
        return np.full_like(degrees, np.nan)
    if (np.abs(degrees[known]) > (84.0, 180.0)).any():
        _fail(path, "holds places that are none", "beyond 84 degrees north or south", "latitude, longitude")
    middle = np.median(degrees[known], axis=0)
    if (np.ptp(degrees[known], axis=0) > 2.0).any():
        _fail(path, "spans more than two degrees", np.ptp(degrees[known], axis=0), "a map of one place")
    fictitious = (np.abs(degrees[known]) < _FICTITIOUS).all()
    zone = utm_zone(0.0 if fictitious else float(middle[1]))
    origin = utm(np.zeros(1), np.zeros(1), zone)[0] if fictitious else np.zeros(2)
    flat = np.full_like(degrees, np.nan)
    flat[known] = utm(degrees[known, 0], degrees[known, 1], zone) - origin
    notes.append(
        f"latitude and longitude are projected into UTM zone {zone}"
        + (", from where both are 0: there they stand for a plane" if fictitious else "")
    )
    return flat


def _ways(path: Path, root: Element, places: dict[str, ndarray], notes: list[str]) -> dict[str, Way]:
    ways: dict[str, Way] = {}
    count = lost = 0
    for way in root.iter("way"):
        stated = [places.get(node.get("ref", "")) for node in way.iter("nd")]
        known = [point for point in stated if point is not None and not np.isnan(point[:2]).any()]
        count += len(known)
        lost += len(stated) - len(known)
        if count > _MOST_POINTS:
            _fail(path, "holds too many points", f"more than {count}", f"at most {_MOST_POINTS}")
        points = np.array(known, float).reshape(-1, 3)
        apart = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
        ways[_name(path, way)] = Way(points[np.insert(apart, 0, 1.0)[: len(points)] > 1e-3], _tags(way))
    if lost:
        notes.append(f"{lost} points of ways name nodes that have no place: left out")
    return ways


def _lanelet(
    name: str, tags: dict[str, str], members: dict[str, tuple[str, ...]], ways: dict[str, Way]
) -> Lanelet | None:
    """A lanelet with both borders in its direction, as the library of the format turns them; None if it has not two."""
    sides = [members.get(side, ()) for side in ("left", "right")]
    if any(len(side) != 1 or side[0] not in ways for side in sides):
        return None
    left, right = (ways[side[0]].points for side in sides)
    if len(left) < 2 or len(right) < 2 or sides[0] == sides[1]:
        return None
    left_turned = _middle_side(left, right) < 0  # the right border lies on its left
    left = left[::-1] if left_turned else left
    right_turned = _middle_side(right, left) > 0
    right = right[::-1] if right_turned else right
    return Lanelet(
        name,
        left,
        right,
        (sides[0][0], sides[1][0]),
        (left_turned, right_turned),
        tags,
        members.get("regulatory_element", ()),
    )


def _middle_side(line: ndarray, other: ndarray) -> float:
    """How far the middle of the other line is to the right of a line [m]."""
    at = other[len(other) // 2, :2] if len(other) > 2 else other[:, :2].mean(0)
    return float(side_distance(line[:, :2], at[None])[0])
