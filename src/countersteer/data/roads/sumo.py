"""Networks of SUMO (Eclipse Simulation of Urban Mobility): `.net.xml`, as netconvert and netedit write them.

Lanes that passenger cars may not use are left out. A way through a junction is one internal lane or two (a left turn
that waits inside the junction). Who goes first is in the bits of a junction's `request` elements. Format:
https://sumo.dlr.de/docs/Networks/SUMO_Road_Networks.html
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.source import Reader, fingerprint
from countersteer.data.roads.checks import USUAL_WIDTH
from countersteer.data.roads.joints import bridge
from countersteer.data.roads.xml_files import integer, number, parse
from countersteer.errors import UserError
from countersteer.geometry.polylines import offset
from countersteer.scenarios.network import Lane, Phase, RoadNetwork, SignalProgram, Turn
from countersteer.scenarios.scenario import MapFeature, MapKind, Provenance, SignalState
from countersteer.storage.files import head, read_bytes

__all__ = ["READER"]

_TURNS = {
    "s": Turn.STRAIGHT,
    "l": Turn.LEFT,
    "L": Turn.LEFT,
    "r": Turn.RIGHT,
    "R": Turn.RIGHT,
    "t": Turn.AROUND,
}
_LIGHTS = dict.fromkeys("gG", SignalState.GO) | dict.fromkeys("yY", SignalState.CAUTION)
_LIGHTS |= dict.fromkeys("rus", SignalState.STOP) | dict.fromkeys("oO", SignalState.UNKNOWN)
_CROSSWALK = 4.0  # width of a crossing that states none [m]


@dataclass
class _Draft:
    """A lane while it is put together."""

    centre: Float[ndarray, "n 3"]
    width: float
    limit: float
    junction: str | None
    left: str | None = None
    right: str | None = None
    turn: Turn = Turn.STRAIGHT
    after: list[str] = field(default_factory=list)
    yields: list[str] = field(default_factory=list)
    signal: str | None = None
    stops: bool = False


def _matches(path: Path) -> bool:
    return path.is_file() and b"<net" in (start := head(path)) and b"<location" in start


def _read(path: Path) -> RoadNetwork:
    content = read_bytes(path)
    root = parse(content, path)
    if root.tag != "net":
        raise UserError(f"{path} is no SUMO network", got=f"<{root.tag[:40]}>", expected="<net>")
    left_hand = (root.get("lefthand") or "").lower() in ("true", "1", "yes")
    drafts, features, notes = _lanes(root, left_hand)
    lights = _connect(root, drafts, notes)
    _give_way(root, drafts)
    signals = tuple(_programs(root, lights, notes))
    governed = {lane: program.id for program in signals for lane in program.lanes}
    lanes = {
        key: Lane(
            key, draft.centre, draft.width, draft.limit, None, None, tuple(draft.after), draft.left, draft.right,
            draft.junction, draft.turn, tuple(draft.yields), governed.get(key), draft.stops,
        )
        for key, draft in drafts.items()
    }  # fmt: skip
    features += _junctions(root, drafts)
    mapped = b"highway." in content or b"osm-files" in content
    provenance = Provenance(
        source="SUMO, from OpenStreetMap" if mapped else "SUMO",
        path=str(path),
        licence="ODbL 1.0 (© OpenStreetMap contributors)" if mapped else "unknown",
        fingerprint=fingerprint(content),
        notes=(*_frame(root), *(text.format(count) for text, count in notes.items())),
    )
    name = path.name.removesuffix(".gz").removesuffix(".xml").removesuffix(".net")
    return RoadNetwork(name, lanes, provenance, signals, tuple(features), left_hand)


def _frame(root: Element) -> tuple[str, ...]:
    place = root.find("location")
    if place is None:
        return ()
    words = [str(place.get(name, ""))[:120] for name in ("projParameter", "netOffset")]
    return (f"the file's x, y are those of the projection {words[0]!r} moved by {words[1]} m",)


def _shape(element: Element) -> Float[ndarray, "n 3"]:
    """The `shape` of an element: `x,y x,y` or `x,y,z x,y,z` [m]."""
    try:
        rows = [
            [float(value) for value in point.split(",")] for point in (element.get("shape") or "").split()
        ]
        points = np.array([(*row, 0.0)[:3] if len(row) in (2, 3) else [np.nan] * 3 for row in rows])
    except ValueError:
        points = np.full((1, 3), np.nan)
    if len(points) and not np.isfinite(points).all():
        raise UserError(
            f"<{element.tag}> {element.get('id', '')!r} has a wrong shape",
            got=repr((element.get("shape") or "")[:60]),
            expected="pairs of finite numbers, x,y x,y",
        )
    return points.reshape(-1, 3)


def _for_cars(lane: Element) -> bool:
    allow, disallow = lane.get("allow"), lane.get("disallow")
    if allow:
        return bool({"passenger", "all"} & set(allow.split()))
    return not ({"passenger", "all"} & set((disallow or "").split()))


def _lanes(root: Element, left_hand: bool) -> tuple[dict[str, _Draft], list[MapFeature], Counter[str]]:
    """Lanes for cars, crossings of people, and what was left out."""
    drafts: dict[str, _Draft] = {}
    features: list[MapFeature] = []
    notes: Counter[str] = Counter()
    for edge in root.iter("edge"):
        function, name = edge.get("function", "normal"), edge.get("id", "")
        if function == "crossing":
            features += [_crosswalk(lane) for lane in edge.iter("lane") if len(_shape(lane)) > 1]
        if function not in ("normal", "internal", "connector"):
            continue
        beside: dict[int, str] = {}
        for lane in edge.iter("lane"):
            if not _for_cars(lane):
                notes["{} lanes are not for cars: left out"] += 1
                continue
            key = lane.get("id", "")
            if key in drafts:
                raise UserError(f"lane {key!r} is there twice", expected="lanes with different ids")
            width = number(lane, "width", USUAL_WIDTH)
            drafts[key] = _Draft(
                _shape(lane),
                width if width > 0.0 else USUAL_WIDTH,
                number(lane, "speed", 13.89),
                name[1:].rpartition("_")[0] or name if function == "internal" else None,
            )
            if function != "internal":
                beside[integer(lane, "index", 0)] = key
        # Lane 0 is the outer one: on the right, or on the left where people drive on the left.
        for index, key in beside.items():
            inner, outer = beside.get(index + 1), beside.get(index - 1)
            drafts[key].left, drafts[key].right = (outer, inner) if left_hand else (inner, outer)
    return drafts, features, notes


def _crosswalk(lane: Element) -> MapFeature:
    way = _shape(lane)
    half = max(number(lane, "width", _CROSSWALK), 1.0) / 2
    outline = np.concatenate([offset(way, half), offset(way, -half)[::-1]])
    return MapFeature(lane.get("id", ""), MapKind.CROSSWALK, outline)


def _connect(root: Element, drafts: dict[str, _Draft], notes: Counter[str]) -> dict[str, dict[str, int]]:
    """Enter the successors of every lane.

    Returns:
        Of each signal the ways that it governs, with their place in its states.
    """
    lights: dict[str, dict[str, int]] = defaultdict(dict)
    for link in root.iter("connection"):
        before = f"{link.get('from')}_{link.get('fromLane')}"
        after, via = f"{link.get('to')}_{link.get('toLane')}", link.get("via")
        if before not in drafts or after not in drafts or (via and via not in drafts):
            continue
        way = via or after
        inside = before.startswith(":")
        if not via and not inside:
            ends = drafts[before].centre, drafts[after].centre
            if min(len(line) for line in ends) > 1 and np.linalg.norm(ends[1][0] - ends[0][-1]) > 1.0:
                way = f":{before}>{after}"
                half = (drafts[before].width + drafts[after].width) / 2
                drafts[way] = _Draft(bridge(*ends), half, drafts[before].limit, f"{before}>", after=[after])
                notes["{} ways through junctions are not in the file: drawn as smooth curves"] += 1
        drafts[before].after.append(way)
        if inside:
            continue
        if way != after:
            drafts[way].turn = _TURNS.get(link.get("dir", "s"), Turn.STRAIGHT)
            drafts[way].stops = link.get("state") in ("s", "w")
        if link.get("tl") and way != after:
            lights[str(link.get("tl"))[:200]][way] = integer(link, "linkIndex", 0)
    return lights


def _give_way(root: Element, drafts: dict[str, _Draft]) -> None:
    """Enter who goes first: bit j (from the right) of `response` of link i says that i waits for j."""
    before = {way: key for key, draft in drafts.items() if draft.junction for way in draft.after}
    for junction in root.iter("junction"):
        ways = []
        for way in (junction.get("intLanes") or "").split():
            # A link whose way has two parts is named by the second; cars wait before the first.
            ways.append(before.get(way, way) if way in drafts and drafts[way].junction else None)
        for request in junction.iter("request"):
            index, response = integer(request, "index"), request.get("response") or ""
            if not 0 <= index < len(ways) or (way := ways[index]) is None:
                continue
            drafts[way].yields += [
                other
                for other, bit in zip(ways, reversed(response), strict=False)
                if bit == "1" and other is not None and other != way
            ]


def _programs(root: Element, lights: dict[str, dict[str, int]], notes: Counter[str]) -> list[SignalProgram]:
    """The first program of each signal; lights that only blink or are off govern nothing."""
    made: dict[str, SignalProgram] = {}
    for logic in root.iter("tlLogic"):
        name = logic.get("id", "")[:200]
        if name not in lights:
            continue
        if name in made:
            notes["{} further programs of signals: left out"] += 1
            continue
        rows = lights[name]
        phases = [(number(phase, "duration"), phase.get("state") or "") for phase in logic.iter("phase")]
        shown = {
            lane: [
                _LIGHTS.get(state[row], SignalState.UNKNOWN) if 0 <= row < len(state) else None
                for _, state in phases
            ]
            for lane, row in rows.items()
        }
        if any(None in states for states in shown.values()):
            raise UserError(
                f"signal {name!r} has too few states for its lanes",
                got=f"{min((len(state) for _, state in phases), default=0)} states",
                expected=f"at least {max(rows.values()) + 1}",
            )
        kept = [lane for lane, states in shown.items() if set(states) - {SignalState.UNKNOWN}]
        if not kept:
            continue
        if logic.get("type", "static") != "static":
            notes["{} signals react to traffic: they run their phases as written"] += 1
        made[name] = SignalProgram(
            name,
            tuple(kept),
            tuple(
                Phase(duration, tuple(shown[lane][k] or SignalState.UNKNOWN for lane in kept))
                for k, (duration, _) in enumerate(phases)
            ),
            number(logic, "offset", 0.0),
        )
    return list(made.values())


def _junctions(root: Element, drafts: dict[str, _Draft]) -> list[MapFeature]:
    """The pavement of junctions that cars drive through."""
    used = {draft.junction for draft in drafts.values() if draft.junction}
    return [
        MapFeature(f"junction {name}", MapKind.DRIVABLE_AREA, points)
        for junction in root.iter("junction")
        if (name := junction.get("id", "")) in used and len(points := _shape(junction)) > 2
    ]


READER: Reader[RoadNetwork] = Reader(
    "sumo", "an XML file with <net> and <location> (.net.xml, .net.xml.gz)", _matches, _read
)
