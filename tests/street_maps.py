"""Tiny street maps in every form that is read, written here. All show one junction, on paper:

a road from west to east with two lanes, one from east to west with one lane; from the south a road joins whose cars
wait for those on it. Where people drive on the left everything is mirrored, and the side road is in the north.
"""

from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path

import numpy as np

from countersteer.data.roads import packed
from countersteer.data.roads.apollo import _map_class
from countersteer.scenarios.network import Lane, RoadNetwork
from countersteer.scenarios.scenario import Provenance

LINES = {
    # name: points, from the west and south of the junction at (0, 0)
    "W_0": [(-100, -4.8), (-10, -4.8)],
    "W_1": [(-100, -1.6), (-10, -1.6)],
    "outE_0": [(10, -1.6), (100, -1.6)],
    "E_0": [(100, 1.6), (10, 1.6)],
    "outW_0": [(-10, 1.6), (-100, 1.6)],
    "S_0": [(1.6, -100), (1.6, -12)],
    ":J_0_0": [(-10, -1.6), (10, -1.6)],
    ":J_1_0": [(1.6, -12), (3.0, -5.0), (10, -1.6)],
    ":J_2_0": [(1.6, -12), (0.0, 0.0), (-10, 1.6)],
    ":J_3_0": [(10, 1.6), (-10, 1.6)],
}
LINKS = (
    # from, to, way, direction, response: links that go first, the last bit is link 0
    ("W_1", "outE_0", ":J_0_0", "s", "0000"),
    ("S_0", "outE_0", ":J_1_0", "r", "0001"),
    ("S_0", "outW_0", ":J_2_0", "l", "1001"),
    ("E_0", "outW_0", ":J_3_0", "s", "0000"),
)
PHASES = ((20, "GrrG"), (3, "yrry"), (10, "rGgr"))


def sumo(*, left_hand: bool = False, lights: bool = False) -> str:
    """A SUMO network."""
    sign = -1 if left_hand else 1

    def shape(name: str) -> str:
        return " ".join(f"{x + 500:.2f},{sign * y + 300:.2f}" for x, y in LINES[name])

    edges: dict[str, list[str]] = {}
    for name in LINES:
        edges.setdefault(name.rpartition("_")[0], []).append(name)
    rows = []
    for edge, lanes in edges.items():
        function = ' function="internal"' if edge.startswith(":") else ""
        rows.append(f'<edge id="{edge}"{function}>')
        for index, lane in enumerate(lanes):
            only = ' disallow="pedestrian tram"' if edge == "W" else ""
            rows.append(
                f'<lane id="{lane}" index="{index}" speed="13.89" length="1" shape="{shape(lane)}"{only}/>'
            )
        if edge == "W":
            rows.append(
                f'<lane id="W_2" index="2" allow="bicycle" speed="5" length="1" shape="{shape("W_1")}"/>'
            )
        rows.append("</edge>")
    rows.append(
        '<edge id=":J_c0" function="crossing"><lane id=":J_c0_0" index="0" allow="pedestrian" speed="1"'
    )
    rows.append(
        f' length="8" width="4.00" shape="488.00,{300 - 8 * sign:.2f} 488.00,{300 + 4 * sign:.2f}"/></edge>'
    )
    rows.append(
        '<edge id="foot"><lane id="foot_0" index="0" allow="pedestrian" speed="1" length="9" shape="0,0 9,0"/></edge>'
    )
    if lights:
        phases = "".join(f'<phase duration="{duration}" state="{state}"/>' for duration, state in PHASES)
        rows.append(f'<tlLogic id="J" type="static" programID="0" offset="5">{phases}</tlLogic>')
    requests = "".join(
        f'<request index="{k}" response="{link[4]}" foes="1111" cont="0"/>' for k, link in enumerate(LINKS)
    )
    ways = " ".join(link[2] for link in LINKS)
    corners = " ".join(f"{x + 500},{sign * y + 300}" for x, y in ((-10, -7), (10, -7), (10, 4), (-10, 4)))
    rows.append(
        f'<junction id="J" type="priority" x="500" y="300" incLanes="W_0" intLanes="{ways}" shape="{corners}">{requests}</junction>'
    )
    for k, (before, after, way, direction, _) in enumerate(LINKS):
        ends = [name.rpartition("_") for name in (before, after, way)]
        lit = f' tl="J" linkIndex="{k}"' if lights else ""
        rows.append(
            f'<connection from="{ends[0][0]}" to="{ends[1][0]}" fromLane="{ends[0][2]}" toLane="{ends[1][2]}" '
            f'via="{way}" dir="{direction}" state="M"{lit}/>'
        )
        rows.append(
            f'<connection from="{ends[2][0]}" to="{ends[1][0]}" fromLane="0" toLane="{ends[1][2]}" dir="s" state="M"/>'
        )
    location = (
        '<location netOffset="0.00,0.00" convBoundary="0,0,9,9" origBoundary="0,0,9,9" projParameter="!"/>'
    )
    hand = ' lefthand="true"' if left_hand else ""
    body = "\n".join(rows)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<net version="1.16"{hand}>\n{location}\n{body}\n</net>\n'


def write_sumo(path: Path, **options: bool) -> Path:
    content = sumo(**options).encode()
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
    return path


def apollo() -> bytes:
    """An Apollo map; the road from the south has a stop sign, the others nothing."""
    drawn = _map_class()()
    drawn.header.version = b"1"
    drawn.header.projection.proj = b"+proj=utm +zone=10"

    def curve(target, points) -> None:
        for a, b in itertools.pairwise(points):  # one segment a step: ends are there twice
            line = target.segment.add().line_segment
            for x, y in (a, b):
                line.point.add(x=x + 550_000.0, y=y + 4_180_000.0, z=3.0)

    successors = {before: [link[2] for link in LINKS if link[0] == before] for before in LINES}
    successors |= {link[2]: [link[1]] for link in LINKS}
    for name, points in LINES.items():
        lane = drawn.lane.add(length=1.0, speed_limit=11.0, type=2, turn=1)
        lane.id.id = name.encode()
        curve(lane.central_curve, points)
        for side in (lane.left_sample, lane.right_sample):
            side.add(s=0.0, width=1.75)
        for after in successors[name]:
            lane.successor_id.add(id=after.encode())
        lane.turn = {"r": 3, "l": 2}.get(next((link[3] for link in LINKS if link[2] == name), "s"), 1)
    for name, beside in (("W_0", "left_neighbor"), ("W_1", "right_neighbor")):
        lane = next(lane for lane in drawn.lane if lane.id.id == name.encode())
        getattr(lane, beside).add(id=b"W_1" if name == "W_0" else b"W_0")
    area = drawn.junction.add()
    area.id.id = b"J"
    for x, y in ((-10, -12), (10, -12), (10, 5), (-10, 5), (-10, -12)):
        area.polygon.point.add(x=x + 550_000.0, y=y + 4_180_000.0)
    sign = drawn.stop_sign.add()
    sign.id.id = b"stop"

    def overlap(lane: str, other: str) -> None:
        made = drawn.overlap.add()
        made.id.id = f"{lane} {other}".encode()
        first = made.object.add()
        first.id.id = lane.encode()
        first.lane.start_s = 0.0
        made.object.add().id.id = other.encode()

    for link in LINKS:
        overlap(link[2], "J")
        if link[0] == "S_0":
            overlap(link[2], "stop")
    return drawn.SerializeToString()


def write_apollo(path: Path) -> Path:
    path.write_bytes(gzip.compress(apollo(), 1, mtime=0) if path.suffix == ".gz" else apollo())
    return path


def opendrive(*, left_hand: bool = False) -> str:
    """An OpenDRIVE map: a road of a line, an arc and a spiral, a junction with two ways, and two roads behind it."""

    def lane(number: int, before: int | None = None, after: int | None = None) -> str:
        link = "".join(
            f'<{name} id="{to}"/>'
            for name, to in (("predecessor", before), ("successor", after))
            if to is not None
        )
        return (
            f'<lane id="{number}" type="driving" level="false"><link>{link}</link>'
            '<width sOffset="0" a="3.5" b="0" c="0" d="0"/><roadMark sOffset="0" type="broken"/></lane>'
        )

    def road(name: int, junction: int, link: str, pieces: str, length: float, lanes: str) -> str:
        rule = ' rule="LHT"' if left_hand else ""
        return (
            f'<road id="{name}" junction="{junction}" length="{length}"{rule}><link>{link}</link>'
            f'<type s="0" type="town"><speed max="50" unit="km/h"/></type><planView>{pieces}</planView>'
            f'<elevationProfile/><lanes><laneSection s="0">{lanes}</laneSection></lanes></road>'
        )

    def piece(s: float, x: float, y: float, heading: float, length: float, shape: str) -> str:
        return f'<geometry s="{s}" x="{x}" y="{y}" hdg="{heading}" length="{length}">{shape}</geometry>'

    both = f'<left>{lane(1, 1, 1)}</left><center><lane id="0"/></center><right>{lane(-1, -1, -1)}{lane(-2)}</right>'
    one = f'<center><lane id="0"/></center><right>{lane(-1, -1, -1)}</right>'
    to_junction = '<successor elementType="junction" elementId="9"/>'
    roads = [
        road(1, -1, to_junction, piece(0, 0, 0, 0, 100, "<line/>"), 100, both),
        road(
            2, 9,
            '<predecessor elementType="road" elementId="1" contactPoint="end"/><successor elementType="road" elementId="4" contactPoint="start"/>',
            piece(0, 100, 0, 0, 20, "<line/>"), 20, one,
        ),
        road(
            3, 9,
            '<predecessor elementType="road" elementId="1" contactPoint="end"/><successor elementType="road" elementId="5" contactPoint="start"/>',
            piece(0, 100, 0, 0, 20 * math.pi / 2, '<arc curvature="-0.05"/>'), 20 * math.pi / 2, one,
        ),
        road(4, -1, "", piece(0, 120, 0, 0, 60, '<spiral curvStart="0" curvEnd="0.01"/>'), 60, one),
        road(
            5, -1, "",
            piece(0, 120, -20, -math.pi / 2, 40, '<paramPoly3 pRange="normalized" aU="0" bU="40" cU="0" dU="0" aV="0" bV="0" cV="0" dV="0"/>'),
            40, one,
        ),
    ]  # fmt: skip
    links = "".join(
        f'<connection id="{way}" incomingRoad="1" connectingRoad="{way}" contactPoint="start"><laneLink from="-1" to="-1"/></connection>'
        for way in (2, 3)
    )
    return (
        '<?xml version="1.0"?><OpenDRIVE><header revMajor="1" revMinor="6" name="small"/>'
        f'{"".join(roads)}<junction id="9">{links}</junction></OpenDRIVE>'
    )


def write_opendrive(path: Path, **options: bool) -> Path:
    path.write_text(opendrive(**options))
    return path


def write_racetrack(path: Path, radius: float = 100.0) -> Path:
    """A circle, driven to the left, 5 m wide on the right and 4 m on the left."""
    turn = np.linspace(0.0, math.tau, 126, endpoint=False)
    rows = [f"{radius * math.sin(a):.6f},{-radius * math.cos(a):.6f},5.000,4.000" for a in turn]
    path.write_text("\n".join(["# x_m,y_m,w_tr_right_m,w_tr_left_m", *rows]) + "\n")
    return path


def network(lanes: list[Lane], **fields) -> RoadNetwork:
    """A network of some lanes."""
    named = {lane.id: lane for lane in lanes}
    return RoadNetwork("paper", named, Provenance("test", "here", "mine", "0"), **fields)


def straight(name: str, start: tuple[float, float], end: tuple[float, float], **fields) -> Lane:
    """A lane between two points."""
    at = np.linspace(0.0, 1.0, 11)[:, None]
    points = np.array([*start, 0.0]) + at * (np.array([*end, 0.0]) - np.array([*start, 0.0]))
    return Lane(**{"id": name, "centre": points, "width": 3.2} | fields)


def write_packed(path: Path) -> Path:
    from countersteer.data.roads import read

    other = write_sumo(path.with_name("small.net.xml"), lights=True)
    packed.save(read(other), path)
    other.unlink()
    return path
