"""What a CommonRoad file (XML 2018b or 2020a) says: lanelets, signs, lights, obstacles with their tracks.

Lanelets are between two bounds with as many points each, in driving direction; places are metres in a frame of the file's,
times are steps of `timeStepSize`.

Reference: Althoff, Koschi and Manzinger, "CommonRoad: Composable benchmarks for motion planning on roads", IV 2017;
the documents of the XML formats 2018b and 2020a on commonroad.in.tum.de.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.roads.osm_lanelets import metres_per_second
from countersteer.data.roads.xml_files import parse
from countersteer.errors import UserError
from countersteer.geometry.polylines import halfway
from countersteer.scenarios.scenario import SignalState
from countersteer.storage.files import check_size, read_bytes

__all__ = [
    "COLOURS",
    "CommonRoad",
    "Light",
    "Obstacle",
    "RoadLanelet",
    "is_commonroad",
    "read_commonroad",
]

COLOURS = {
    "green": SignalState.GO,
    "yellow": SignalState.CAUTION,
    "red": SignalState.STOP,
    "redYellow": SignalState.STOP,
}
"""What colours of lights mean; others are unknown."""

_LARGEST = 1e7  # of coordinates, speeds and sizes
_MOST_STATES, _MOST_LANELETS = 1_000_000, 50_000
_STEPS = (1e-3, 10.0)  # of time [s]
_LIMIT_SIGNS = frozenset({"274", "r2-1", "r301", "r15", "3.24", "c43", "b14", "r-32", "b31"})
_STOP_SIGNS = frozenset({"206", "r1-1", "r2", "stop", "b2a", "2.5"})
_YIELD_SIGNS = frozenset({"205", "r1-2", "r1", "yield", "b2b", "2.4"})


@dataclass(frozen=True)
class RoadLanelet:
    """A lanelet.

    Attributes:
        id: As stated.
        left, right: Bounds in driving direction [m].
        successors: Lanelets that go on at its end.
        beside: The lanelet on the left and the one on the right, each with whether it leads the same way; None without.
        markings: What is painted on the left and on the right bound, for example "dashed"; empty where nobody says.
        kinds: Its types, for example "urban" or "sidewalk".
        users: Who may use it one way, and who both ways.
        speed_limit: [m/s], None where none is stated.
        stop_line: [m], None without.
        yields, stops: Whether a sign says to give way, or to stop, at its end.
        lights: Ids of the lights at its end.
    """

    id: str
    left: Float[ndarray, "n 3"]
    right: Float[ndarray, "m 3"]
    successors: tuple[str, ...]
    beside: tuple[tuple[str, bool] | None, tuple[str, bool] | None]
    markings: tuple[str, str]
    kinds: frozenset[str]
    users: tuple[frozenset[str], frozenset[str]]
    speed_limit: float | None
    stop_line: Float[ndarray, "2 3"] | None
    yields: bool
    stops: bool
    lights: tuple[str, ...]

    @property
    def centre(self) -> Float[ndarray, "k 3"]:
        """Means of the bounds' points, which belong together one by one; by length where they are not as many."""
        if len(self.left) == len(self.right):
            return (self.left + self.right) / 2
        return halfway(self.left, self.right)

    @property
    def for_cars(self) -> bool:
        """Whether cars may drive on it: what it says of its users, else of its types."""
        users = self.users[0] | self.users[1]
        if self.kinds & {"sidewalk", "crosswalk", "bicycleLane", "border"}:
            return False
        return not users or bool(users & {"car", "vehicle", "passengerCar"})


@dataclass(frozen=True)
class Light:
    """A traffic light.

    Attributes:
        cycle: Durations [s] and colours, one after another for ever.
        offset: When the cycle begins [s].
    """

    cycle: tuple[tuple[float, str], ...]
    offset: float


@dataclass(frozen=True)
class Obstacle:
    """Somebody or something on the road.

    Attributes:
        id, kind: As stated.
        moves: Whether it has a track; otherwise it stands where it is for all time.
        size: Length and width [m].
        states: Step, x, y [m], heading [rad], speed [m/s] of each time.
    """

    id: str
    kind: str
    moves: bool
    size: tuple[float, float]
    states: Float[ndarray, "time 5"]


@dataclass(frozen=True)
class CommonRoad:
    """All that we read of a file.

    Attributes:
        name: Identifier of the scene.
        version: Of the form.
        source: Where it says that it is from.
        simulated: Whether it says that its traffic is simulated.
        step: [s].
        lanelets, lights: By id.
        obstacles: In the order of the file.
        problems: How many planning problems it states.
        notes: What was left out.
        data: Bytes of the file, decompressed.
    """

    name: str
    version: str
    source: str
    simulated: bool
    step: float
    lanelets: dict[str, RoadLanelet]
    lights: dict[str, Light]
    obstacles: tuple[Obstacle, ...]
    problems: int
    notes: tuple[str, ...]
    data: bytes


def is_commonroad(start: bytes) -> bool:
    """Whether a file that begins so is of this form."""
    return b"<commonRoad" in start


def read_commonroad(path: Path) -> CommonRoad:
    """A file, which may be gzipped.

    Raises:
        UserError: It is no such XML, a number in it is none, or it holds no lanelet.
    """
    data = read_bytes(path)
    root = parse(data, path)
    if root.tag != "commonRoad":
        _fail(path, "is no CommonRoad file", f"<{root.tag[:40]}>", "<commonRoad>")
    step = _value(path, root.get("timeStepSize") or "0.1", "timeStepSize")
    if not _STEPS[0] <= step <= _STEPS[1]:
        _fail(path, "has a step of time that cannot be", f"{step:g} s", f"{_STEPS[0]:g} to {_STEPS[1]:g} s")
    notes: list[str] = []
    signs = {_id(path, sign): sign for sign in root.findall("trafficSign")}
    lights = {_id(path, light): _light(path, light, step) for light in root.findall("trafficLight")}
    elements = root.findall("lanelet")
    check_size(path, "lanelets", len(elements), _MOST_LANELETS)
    lanelets: dict[str, RoadLanelet] = {}
    for element in elements:
        made = _lanelet(path, element, signs, notes)
        if made.id in lanelets:
            _fail(path, "has two lanelets of one id", made.id, "different ids")
        lanelets[made.id] = made
    if not lanelets:
        _fail(path, "holds no lanelet", "none", "lanelets between two bounds")
    source = (root.get("source") or "")[:200]
    tags = {tag.tag for tag in root.iterfind("scenarioTags/*")} | set((root.get("tags") or "").split())
    simulated = "simulated" in tags or any(
        word in source.lower() for word in ("sumo", "scenario factory", "simulator")
    )
    return CommonRoad(
        (root.get("benchmarkID") or path.name.split(".")[0])[:100],
        (root.get("commonRoadVersion") or "")[:20],
        source,
        simulated,
        step,
        lanelets,
        {name: light for name, light in lights.items() if light is not None},
        tuple(_obstacles(path, root, notes)),
        len(root.findall("planningProblem")),
        tuple(dict.fromkeys(notes)),
        data,
    )


def _fail(path: Path, what: str, got: object, expected: object) -> NoReturn:
    raise UserError(f"{path}: {what}", got=got, expected=expected, fix="check that the file is whole")


def _id(path: Path, element: Element) -> str:
    name = element.get("id") or ""
    if not 0 < len(name) <= 100:
        _fail(path, f"a <{element.tag}> has no id", f"{len(name)} letters", "an id")
    return name


def _value(path: Path, text: str | None, what: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:  # NaN too
        _fail(path, f"{what} is no number in range", (text or "nothing")[:60], f"at most {_LARGEST:g}")
    return value


def _exact(path: Path, element: Element | None, what: str) -> float | None:
    """The number of a quantity, the middle of an interval; None where it is not stated."""
    if element is None:
        return None
    if (exact := element.findtext("exact")) is not None:
        return _value(path, exact, what)
    ends = [element.findtext(name) for name in ("intervalStart", "intervalEnd")]
    return None if None in ends else sum(_value(path, end, what) for end in ends) / 2


def _point(path: Path, element: Element) -> tuple[float, float, float]:
    x, y, z = (element.findtext(name) for name in ("x", "y", "z"))
    return _value(path, x, "an x"), _value(path, y, "a y"), _value(path, z or "0", "a z")


def _bound(path: Path, lanelet: str, element: Element | None) -> tuple[ndarray, str]:
    points = [] if element is None else [_point(path, point) for point in element.findall("point")]
    if len(points) < 2 or not np.ptp(np.array(points)[:, :2], axis=0).any():
        _fail(path, f"lanelet {lanelet} has a bound that is no line", f"{len(points)} points", "two or more")
    return np.array(points), (
        (element.findtext("lineMarking") if element is not None else None) or ""
    ).strip()


def _lanelet(path: Path, element: Element, signs: dict[str, Element], notes: list[str]) -> RoadLanelet:
    name = _id(path, element)
    (left, left_mark), (right, right_mark) = (
        _bound(path, name, element.find(side)) for side in ("leftBound", "rightBound")
    )

    def beside(side: str) -> tuple[str, bool] | None:
        found = element.find(side)
        return None if found is None else (found.get("ref") or "", found.get("drivingDir") == "same")

    named = [signs[ref] for sign in element.iter("trafficSignRef") if (ref := sign.get("ref") or "") in signs]
    limit, words = element.findtext("speedLimit"), set()
    speed = None if limit is None else _value(path, limit, f"the speed limit of lanelet {name}")
    for sign in named:
        for each in sign.findall("trafficSignElement"):
            word = (each.findtext("trafficSignID") or "").strip().lower()
            words.add(word)
            if word in _LIMIT_SIGNS and speed is None:
                speed = _limit((each.findtext("additionalValue") or "").strip())
    line = element.find("stopLine")
    ends = [] if line is None else [_point(path, point) for point in line.findall("point")]
    stop_line = None
    if line is not None:
        stop_line = np.array(ends) if len(ends) == 2 else np.stack([left[-1], right[-1]])

    def texts(tag: str) -> frozenset[str]:
        return frozenset((each.text or "").strip() for each in element.findall(tag))

    return RoadLanelet(
        name,
        left,
        right,
        tuple(each.get("ref") or "" for each in element.findall("successor")),
        (beside("adjacentLeft"), beside("adjacentRight")),
        (left_mark, right_mark),
        texts("laneletType"),
        (texts("userOneWay"), texts("userBidirectional")),
        speed,
        stop_line,
        bool(words & _YIELD_SIGNS),
        bool(words & _STOP_SIGNS),
        tuple(each.get("ref") or "" for each in element.findall("trafficLightRef")),
    )


def _limit(text: str) -> float | None:
    """A speed limit on a sign: m/s, or with a unit."""
    try:
        value = float(text)
    except ValueError:
        return metres_per_second(text)
    return value if 0 < value < _LARGEST else None


def _light(path: Path, element: Element, step: float) -> Light | None:
    """A light's cycle; None where it is switched off or has none."""
    what = f"light {_id(path, element)}"
    cycle = element.find("cycle")
    if cycle is None or (element.findtext("active") or "true").strip() == "false":
        return None
    phases = tuple(
        (
            step * _value(path, each.findtext("duration"), f"a duration of {what}"),
            (each.findtext("color") or "").strip(),
        )
        for each in cycle.findall("cycleElement")[:1000]
    )
    if not phases or any(duration <= 0 for duration, _ in phases):
        return None
    return Light(phases, step * _value(path, cycle.findtext("timeOffset") or "0", f"the offset of {what}"))


def _obstacles(path: Path, root: Element, notes: list[str]) -> Iterator[Obstacle]:
    left_out: list[str] = []
    count = 0
    for element in root:
        if element.tag not in ("obstacle", "dynamicObstacle", "staticObstacle"):
            continue
        name = _id(path, element)
        role = (element.findtext("role") or "").strip()
        moves = element.tag == "dynamicObstacle" or (element.tag == "obstacle" and role != "static")
        size, first = _size(path, element), element.find("initialState")
        states = [] if first is None else [first]
        states += element.findall("trajectory/state")
        rows = [row for state in states if (row := _state(path, name, state)) is not None]
        count += len(rows)
        check_size(path, "states of obstacles", count, _MOST_STATES)
        if size is None or not rows or (moves and len(rows) < 2):
            left_out.append(name)
            continue
        yield Obstacle(name, (element.findtext("type") or "").strip(), moves, size, np.array(rows))
    if left_out:
        notes.append(
            f"{len(left_out)} obstacles without a rectangle or circle, or without a track, left out, {left_out[0]!r} first"
        )


def _size(path: Path, obstacle: Element) -> tuple[float, float] | None:
    """Length and width [m]; None for other shapes than one rectangle or circle about the stated place."""
    rectangle, circle = obstacle.find("shape/rectangle"), obstacle.find("shape/circle")
    if rectangle is not None:
        length, width = (
            _value(path, rectangle.findtext(name), f"the {name} of an obstacle")
            for name in ("length", "width")
        )
        return length, width
    if circle is not None:
        across = 2 * _value(path, circle.findtext("radius"), "the radius of an obstacle")
        return across, across
    return None


def _state(path: Path, name: str, state: Element) -> tuple[float, float, float, float, float] | None:
    """Step, place, heading and speed; None where the place or the time is not stated."""
    what = f"a state of obstacle {name}"
    step, place = _exact(path, state.find("time"), what), state.find("position/point")
    if place is None:
        place = next((each for each in state.iterfind("position/*/center")), None)
    if step is None or place is None:
        return None
    x, y, _ = _point(path, place)
    heading, speed = (_exact(path, state.find(tag), what) for tag in ("orientation", "velocity"))
    return step, x, y, heading if heading is not None else math.nan, speed or 0.0
