"""OpenDRIVE (ASAM, 1.4 to 1.8): `.xodr`.

A road is a reference line with lanes beside it, in sections; roads are tied by links, and in junctions by connecting
roads. Here each lane of each section becomes one lane. Superelevation is left out, the ground is flat across. Signals
have no phases in the file: roads of a junction are green in turn. Who goes first is what the signs and the usual rules say.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy import ndarray

from countersteer.data.readers.source import Reader, fingerprint
from countersteer.data.roads.joints import turn_of
from countersteer.data.roads.opendrive_lines import Cubics, ReferenceLine
from countersteer.data.roads.usual_rules import usual_program, with_usual_priority
from countersteer.data.roads.xml_files import integer, number, parse
from countersteer.errors import UserError
from countersteer.scenarios.network import Lane, RoadNetwork, SignalProgram, Turn
from countersteer.scenarios.scenario import MapFeature, MapKind, Provenance
from countersteer.storage.files import check_size, head, read_bytes

__all__ = ["READER"]

_STEP = 1.0  # between the points of a lane [m]
_MOST_POINTS = 4_000_000
_NARROWEST = 1.5  # a lane that is nowhere wider only begins or ends there [m]
_FOR_CARS = {
    "driving", "entry", "exit", "onRamp", "offRamp", "connectingRamp", "slipLane", "mwyEntry", "mwyExit", "bidirectional",
}  # fmt: skip
_UNITS = {"m/s": 1.0, "km/h": 1 / 3.6, "mph": 0.44704}
_NOT_FOR_CARS = {"1000002", "1000007", "1000013"}  # lights of people and bicycles
_STOP, _GIVE_WAY = {"206", "R1-1", "R1"}, {"205", "R1-2", "R2"}  # signs in Germany, the USA, and elsewhere
_AHEAD = 40.0  # a sign so far before the end of a road stands there for the junction [m]

Place = tuple[str, int, int]
"""A lane: road, section, number."""


@dataclass(frozen=True)
class _Road:
    """One road: its line, its sections (their begin and their lanes), and what it is tied to."""

    element: Element
    line: ReferenceLine
    sections: list[tuple[float, float, dict[int, Element]]]
    left_hand: bool
    junction: str | None

    def onward(self, lane: int) -> bool:
        """Whether cars on a lane drive along the line, not against it."""
        return (lane < 0) != self.left_hand


def _matches(path: Path) -> bool:
    return path.is_file() and b"<OpenDRIVE" in head(path)


def _read(path: Path) -> RoadNetwork:
    content = read_bytes(path)
    root = parse(content, path)
    if root.tag != "OpenDRIVE":
        raise UserError(f"{path} is no OpenDRIVE map", got=f"<{root.tag[:40]}>", expected="<OpenDRIVE>")
    notes: Counter[str] = Counter()
    roads = {road.get("id", ""): _road(road) for road in root.iter("road")}
    total = sum(
        len(lanes) * (end - begin + 2) for road in roads.values() for begin, end, lanes in road.sections
    )
    check_size(path, "points of lanes", int(total / _STEP), _MOST_POINTS)
    places = dict(_lanes(roads, notes))
    after = _successors(root, roads, places)
    lanes = {
        lane.id: dataclasses.replace(lane, successors=tuple(_name(way) for way in after[place]))
        for place, lane in places.items()
    }
    left_hand = 2 * sum(road.left_hand for road in roads.values()) > len(roads)
    signals, lanes, waiting = _signals(roads, places, lanes)
    lanes = with_usual_priority(lanes, left_hand=left_hand, waiting=waiting)
    notes[
        "the map does not say who goes first: signs, oncoming traffic before who turns across, else from the side"
    ] += 1
    if signals:
        notes["{} junctions have signals without a program: roads are green in turn"] += len(signals)
    if (where := root.find("header/geoReference")) is not None and where.text:
        notes[
            f"the file's x, y are those of the projection {' '.join(where.text.split())[:160]!r}".replace(
                "{", "("
            )
        ] += 1
    provenance = Provenance(
        "unknown (OpenDRIVE)", str(path), "unknown", fingerprint(content),
        tuple(text.format(count) for text, count in notes.items()),
    )  # fmt: skip
    features = tuple(feature for road in roads.values() for feature in _crosswalks(road))
    name = path.name.removesuffix(".gz").removesuffix(".xodr")
    return RoadNetwork(name, lanes, provenance, signals, features, left_hand)


def _road(road: Element) -> _Road:
    line = ReferenceLine.of(road)
    elements = sorted(road.iterfind("lanes/laneSection"), key=lambda each: number(each, "s"))
    begins = [number(each, "s") for each in elements]
    sections = []
    for begin, end, section in zip(begins, [*begins[1:], float(line.s[-1])], elements, strict=True):
        numbered = {integer(lane, "id"): lane for side in section for lane in side.iterfind("lane")}
        sections.append((begin, end, numbered))
    junction = road.get("junction", "-1")
    return _Road(
        road, line, sections, road.get("rule") == "LHT", None if junction in ("-1", "") else junction
    )


def _name(place: Place) -> str:
    return f"{place[0]}.{place[1]}.{place[2]}"


def _lanes(roads: dict[str, _Road], notes: Counter[str]) -> Iterator[tuple[Place, Lane]]:
    """Every lane for cars, without what it is tied to beyond its section."""
    for name, road in roads.items():
        offset = Cubics.of(road.element.iterfind("lanes/laneOffset"))
        height = Cubics.of(road.element.iterfind("elevationProfile/elevation"))
        limit = next((_speed(each) for each in road.element.iterfind("type/speed")), None)
        for index, (begin, end, lanes) in enumerate(road.sections):
            if end - begin < 0.01:
                notes["{} sections of roads have no length: left out"] += 1
                continue
            s = np.linspace(begin, end, max(int(np.ceil((end - begin) / _STEP)), 1) + 1)
            inside = np.minimum(s, end - 1e-6)  # the last station belongs to this section
            z = height.at(inside)
            for side in (1, -1):
                border = offset.at(inside)
                numbers = sorted((lane for lane in lanes if lane * side > 0), key=abs)
                kept: dict[int, tuple[ndarray, ndarray, ndarray]] = {}
                for number_ in numbers:
                    inner, border = (
                        border,
                        border + side * _width(lanes[number_], begin, inside, side, border),
                    )
                    wide = np.abs(border - inner)
                    if lanes[number_].get("type") in _FOR_CARS and wide.max() > _NARROWEST:
                        kept[number_] = (inner, border, wide)
                for number_, (inner, outer, wide) in kept.items():
                    lines = [
                        np.column_stack([road.line.beside(s, t), z])
                        for t in ((inner + outer) / 2, inner, outer)
                    ]
                    yield (
                        (name, index, number_),
                        _lane(road, (name, index, number_), lanes, kept, lines, float(wide.mean()), limit),
                    )


def _lane(
    road: _Road,
    place: Place,
    lanes: dict[int, Element],
    kept: Iterable[int],
    lines: list[ndarray],
    width: float,
    limit: float | None,
) -> Lane:
    """A lane from its centre, inner and outer line along the road."""
    number_ = place[2]
    onward = road.onward(number_)
    centre, inner, outer = lines if onward else [line[::-1] for line in lines]
    step = 1 if number_ > 0 else -1
    beside = [
        _name((place[0], place[1], other)) if other in kept and _may_change(lanes[mark]) else None
        for other, mark in ((number_ - step, number_ - step), (number_ + step, number_))
    ]
    # Lanes with numbers below 0 are right of the line as it runs; the inner line is on the left of cars that drive along it.
    inner_left = (number_ < 0) == onward
    (left, right), (near_left, near_right) = (
        ((inner, outer), beside) if inner_left else ((outer, inner), beside[::-1])
    )
    own = next((_speed(each) for each in lanes[number_].iterfind("speed")), None)
    turn = turn_of(centre) if road.junction else Turn.STRAIGHT
    return Lane(
        _name(place), centre, width, own or limit, left, right, (), near_left, near_right, road.junction, turn
    )


def _may_change(lane: Element) -> bool:
    """Whether the outer mark of a lane may be driven over."""
    mark = lane.find("roadMark")
    return mark is None or mark.get("type", "none") not in ("solid", "solid solid", "curb", "grass")


def _speed(speed: Element) -> float | None:
    text = speed.get("max", "")
    if text in ("no limit", "undefined", ""):
        return None
    return number(speed, "max") * _UNITS.get(speed.get("unit", "m/s"), 1.0)


def _width(lane: Element, begin: float, s: ndarray, side: int, inner: ndarray) -> ndarray:
    """Of a lane at stations of its section [m]; some files give the outer border instead."""
    if lane.find("width") is None and lane.find("border") is not None:
        return np.maximum(side * (Cubics.of(lane.iterfind("border"), "sOffset", begin).at(s) - inner), 0.0)
    return np.maximum(Cubics.of(lane.iterfind("width"), "sOffset", begin).at(s), 0.0)


def _linked(element: Element, end: str) -> str | None:
    """The id of a lane's predecessor or successor."""
    link = element.find(f"link/{end}")
    return None if link is None else link.get("id")


def _successors(
    root: Element, roads: dict[str, _Road], places: dict[Place, Lane]
) -> dict[Place, list[Place]]:
    """Where one drives on from the end of every lane."""
    inwards = _connections(root)
    found: dict[Place, list[Place]] = {place: [] for place in places}
    for place, ways in found.items():
        name, index, lane = place
        road = roads[name]
        onward = road.onward(lane)
        end, step = ("successor", 1) if onward else ("predecessor", -1)
        beyond = _linked(road.sections[index][2][lane], end)
        link = road.element.find(f"link/{end}")
        if 0 <= index + step < len(road.sections):
            candidates = [(name, index + step, beyond)]
        elif link is None:
            candidates = []
        elif link.get("elementType") == "junction":
            candidates = [
                (way, 0 if contact == "start" else -1, to)
                for way, contact, to in inwards[link.get("elementId", ""), name, str(lane)]
            ]
        else:
            candidates = [
                (link.get("elementId", ""), 0 if link.get("contactPoint") == "start" else -1, beyond)
            ]
        for way, at, to in candidates:
            if way not in roads or to is None or not to.lstrip("-").isdigit() or len(to) > 6:
                continue
            there = (way, at % max(len(roads[way].sections), 1), int(to))
            if there in places:
                ways.append(there)
    return found


def _connections(root: Element) -> dict[tuple[str, str, str], list[tuple[str, str, str]]]:
    """By junction, incoming road and its lane: connecting road, its end, and the lane there."""
    found: dict[tuple[str, str, str], list[tuple[str, str, str]]] = defaultdict(list)
    for junction in root.iter("junction"):
        for link in junction.iterfind("connection"):
            for pair in link.iterfind("laneLink"):
                key = (junction.get("id", ""), link.get("incomingRoad", ""), str(pair.get("from")))
                found[key].append(
                    (link.get("connectingRoad", ""), link.get("contactPoint", "start"), str(pair.get("to")))
                )
    return found


def _signals(
    roads: dict[str, _Road], places: dict[Place, Lane], lanes: dict[str, Lane]
) -> tuple[tuple[SignalProgram, ...], dict[str, Lane], set[str]]:
    """A program for each junction with lights, the lanes with lights and stop signs, and lanes that give way."""
    known = {
        each.get("id"): each for road in roads.values() for each in road.element.iterfind("signals/signal")
    }
    lit: dict[str, list[str]] = defaultdict(list)
    stops: set[str] = set()
    waiting: set[str] = set()
    for name, road in roads.items():
        signs = [(each, each) for each in road.element.iterfind("signals/signal")]
        signs += [
            (each, known[each.get("id")])
            for each in road.element.iterfind("signals/signalReference")
            if each.get("id") in known
        ]
        for here, sign in signs:
            kind = sign.get("type", "")
            dynamic = sign.get("dynamic") == "yes" and kind.startswith("1000") and kind not in _NOT_FOR_CARS
            if not (dynamic or kind in _STOP or kind in _GIVE_WAY):
                continue
            for way in _governed(name, road, here, places, lanes):
                if not dynamic:
                    (stops if kind in _STOP else waiting).add(way)
                elif way not in lit[lanes[way].junction or ""]:
                    lit[lanes[way].junction or ""].append(way)
    made = dict(lanes)
    programs = []
    for place, (junction, ways) in enumerate(sorted(lit.items())):
        program = usual_program(f"lights of {junction}", [made[way] for way in ways], offset=7.0 * place)
        programs.append(program)
        made |= {way: dataclasses.replace(made[way], signal=program.id) for way in ways}
    for way in stops:
        made[way] = dataclasses.replace(made[way], stops=made[way].signal is None)
    return tuple(programs), made, waiting


def _governed(
    name: str, road: _Road, sign: Element, places: dict[Place, Lane], lanes: dict[str, Lane]
) -> Iterator[str]:
    """The ways through a junction that a sign on a road is for: those of this road, or those that begin where it ends."""
    at, orientation = number(sign, "s", 0.0), sign.get("orientation", "none")
    spans = [
        (integer(each, "fromLane", -99), integer(each, "toLane", 99)) for each in sign.iterfind("validity")
    ]
    for place, lane in places.items():
        if place[0] != name or (spans and not any(min(span) <= place[2] <= max(span) for span in spans)):
            continue
        onward = road.onward(place[2])
        if orientation in "+-" and (orientation == "+") != onward:
            continue
        if road.junction is not None:
            if place[1] == (0 if onward else len(road.sections) - 1):
                yield lane.id
        elif place[1] == (len(road.sections) - 1 if onward else 0):
            left = float(road.line.s[-1]) - at if onward else at
            if left < _AHEAD:
                yield from (way for way in lanes[lane.id].successors if lanes[way].junction is not None)


def _crosswalks(road: _Road) -> Iterator[MapFeature]:
    for each in road.element.iterfind("objects/object"):
        if "cross" not in (each.get("type") or "").lower():
            continue
        at, aside, turn = number(each, "s", 0.0), number(each, "t", 0.0), number(each, "hdg", 0.0)
        corners = list(each.iter("cornerRoad"))
        if corners:
            s, t = (np.array([number(corner, key) for corner in corners]) for key in "st")
            outline = road.line.beside(s, t)
        else:
            local = np.array([[number(corner, key) for key in "uv"] for corner in each.iter("cornerLocal")])
            if len(local) < 3:
                continue
            course = float(road.line.at(np.array([at]))[1][0]) + turn
            cos, sin = np.cos(course), np.sin(course)
            middle = road.line.beside(np.array([at]), np.array([aside]))[0]
            outline = middle + local @ np.array([[cos, sin], [-sin, cos]])
        outline = outline[:-1] if np.allclose(outline[0], outline[-1]) else outline
        if len(outline) > 2:
            points = np.column_stack([outline, np.zeros(len(outline))])
            yield MapFeature(f"crosswalk {each.get('id', '')}", MapKind.CROSSWALK, points)


READER: Reader[RoadNetwork] = Reader(
    "opendrive", "an XML file with <OpenDRIVE> (.xodr, .xodr.gz)", _matches, _read
)
