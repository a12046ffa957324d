"""Small Lanelet2 maps and INTERACTION recordings that tests write themselves.

The place is a street along x with a lane either way, of 3.5 m, between x = 900 and 1040 m, its middle at y = 1010 m; in the
middle, at 970 m, a side street goes off to the right of those who drive along +x, with a stop sign.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np

from countersteer.geometry.utm import utm

SITE = "DR_USA_Intersection_EP0"  # any name of a site of the data set
MIDDLE, LANE = 1010.0, 3.5  # of the street [m]
STEPS, DT = 120, 0.1
SPEED = 9.0  # of the car eastwards [m/s]

Point = tuple[float, float]


def degrees(points: np.ndarray) -> np.ndarray:
    """Latitude and longitude near (0, 0) of places in the plane of the tracks, by Newton's method."""
    origin = utm(np.zeros(1), np.zeros(1), 31)
    found = points[:, ::-1] / 111e3
    for _ in range(6):
        found = found + (points - (utm(found[:, 0], found[:, 1], 31) - origin))[:, ::-1] / 111e3
    return found


class MapFile:
    """A Lanelet2 map as it is being written; points that are equal share a node."""

    def __init__(self) -> None:
        self.nodes: dict[Point, int] = {}
        self.ways: list[tuple[int, list[int], dict[str, str]]] = []
        self.relations: list[tuple[int, list[tuple[str, int, str]], dict[str, str]]] = []

    def way(self, *points: Point, **tags: str) -> int:
        """A line; its id."""
        nodes = [self.nodes.setdefault(point, 1000 + len(self.nodes)) for point in points]
        self.ways.append((10_000 + len(self.ways), nodes, tags))
        return self.ways[-1][0]

    def lanelet(self, left: int, right: int, rules: tuple[int, ...] = (), **tags: str) -> int:
        """The ground between two ways; its id."""
        members = [("way", left, "left"), ("way", right, "right")]
        members += [("relation", rule, "regulatory_element") for rule in rules]
        tags = {"type": "lanelet", "subtype": "road", "one_way": "yes", "location": "urban"} | tags
        self.relations.append((30_000 + len(self.relations), members, tags))
        return self.relations[-1][0]

    def rule(self, kind: str, *members: tuple[str, int, str], **tags: str) -> int:
        """A regulatory element; its id."""
        tags = {"type": "regulatory_element", "subtype": kind} | tags
        self.relations.append((30_000 + len(self.relations), list(members), tags))
        return self.relations[-1][0]

    def name(self, relation: int, rule: int) -> None:
        """Let a lanelet name a rule that was made after it."""
        members = next(members for number, members, _ in self.relations if number == relation)
        members.append(("relation", rule, "regulatory_element"))

    def text(self) -> str:
        """The file."""
        lines = ['<?xml version="1.0"?>', '<osm version="0.6" generator="test">']
        places = degrees(np.array(list(self.nodes)))
        for number, (lat, lon) in zip(self.nodes.values(), places, strict=True):
            lines.append(f'<node id="{number}" lat="{lat:.12f}" lon="{lon:.12f}" />')
        for number, nodes, tags in self.ways:
            lines.append(f'<way id="{number}">')
            lines += [f'<nd ref="{node}" />' for node in nodes]
            lines += [*_tags(tags), "</way>"]
        for number, members, tags in self.relations:
            lines.append(f'<relation id="{number}">')
            lines += [f'<member type="{kind}" ref="{ref}" role="{role}" />' for kind, ref, role in members]
            lines += [*_tags(tags), "</relation>"]
        return "\n".join([*lines, "</osm>"]) + "\n"


def _tags(tags: dict[str, str]) -> list[str]:
    return [f'<tag k="{key}" v="{value}" />' for key, value in tags.items()]


def street() -> tuple[MapFile, dict[str, int]]:
    """The place, and the ids of its lanelets: east, west (three each, one after another), right, out."""
    made, y, w = MapFile(), MIDDLE, LANE
    cuts = (900.0, 960.0, 980.0, 1040.0)
    ids: dict[str, int] = {}
    kerb = {"type": "curbstone", "subtype": "low"}
    for number in range(3):
        a, b = cuts[number], cuts[number + 1]
        between = (
            {"type": "line_thin", "subtype": "solid", "color": "yellow"}
            if number != 1
            else {"type": "virtual"}
        )
        middle = made.way((a, y), (b, y), **between)
        north = made.way((a, y + w), (b, y + w), **kerb)
        # A way may be drawn against its lanelet.
        south = made.way((b, y - w), (a, y - w), **(kerb if number != 1 else {"type": "virtual"}))
        ids[f"east{number}"] = made.lanelet(middle, south)
        ids[f"west{number}"] = made.lanelet(middle, north)
    # From the west to the south, and from the south to the east.
    turn = made.way((960.0, y), (966.0, y - 2), (970.0, y - 10), type="virtual")
    inner = made.way((960.0, y - w), (964.0, y - w - 2), (966.5, y - 10), **kerb)
    ids["right"] = made.lanelet(turn, inner)
    ids["off"] = made.lanelet(
        made.way((970.0, y - 10), (970.0, y - 50), type="line_thin", subtype="solid", color="yellow"),
        made.way((966.5, y - 10), (966.5, y - 50), **kerb),
    )
    ids["on"] = made.lanelet(
        made.way((970.0, y - 50), (970.0, y - 10), type="virtual"),
        made.way((973.5, y - 50), (973.5, y - 10), **kerb),
    )
    ids["join"] = made.lanelet(
        made.way((970.0, y - 10), (974.0, y - 2), (980.0, y), type="virtual"),
        made.way((973.5, y - 10), (975.5, y - w - 2), (980.0, y - w), **kerb),
    )
    stop = made.way((970.0, y - 10.5), (973.5, y - 10.5), type="stop_line")
    sign = made.way((974.0, y - 10), (974.5, y - 10), type="traffic_sign", subtype="usR1-1")
    rule = made.rule(
        "right_of_way",
        ("way", sign, "refers"),
        ("way", stop, "ref_line"),
        ("relation", ids["on"], "yield"),
        ("relation", ids["east0"], "right_of_way"),
        ("relation", ids["west1"], "right_of_way"),
    )
    limit = made.rule("speed_limit", sign_type="30mph")
    for name in ids:
        made.name(ids[name], limit)
    made.name(ids["on"], rule)
    made.name(ids["east0"], rule)
    made.way((958.0, y - w), (958.0, y + w), type="pedestrian_marking")
    return made, ids


HEADER = "track_id,frame_id,timestamp_ms,agent_type,x,y,vx,vy,psi_rad,length,width"


def rows() -> list[str]:
    """A car eastwards that slows down, one westwards, one that stands north of the street, one that is seen too shortly."""
    found = []
    for step in range(STEPS):
        t = DT * step
        x, speed = 905 + SPEED * t - 0.1 * t**2, SPEED - 0.2 * t
        found.append(f"1,{step + 1},{100 * (step + 1)},car,{x:.3f},{MIDDLE - 1.75},{speed:.3f},0,0,4.6,1.8")
    for step in range(10, STEPS - 10):
        x = 1035 - 8 * DT * (step - 10)
        found.append(f"2,{step + 1},{100 * (step + 1)},car,{x:.3f},{MIDDLE + 1.75},-8,0,3.142,9.0,2.5")
    for step in range(STEPS):
        found.append(f"3,{step + 1},{100 * (step + 1)},car,930,{MIDDLE + 5.0},0,0,0.02,4.2,1.7")
    for step in range(30):
        x = 905 + 9 * DT * step
        found.append(f"4,{step + 101},{100 * (step + 101)},car,{x:.3f},{MIDDLE - 1.75},9,0,0,4.6,1.8")
    return found


def recording(
    folder: Path,
    lines: list[str] | None = None,
    *,
    header: str = HEADER,
    site: str = SITE,
    number: str = "000",
) -> Path:
    """A recording of the street with its map, in the folders of the data set; the path of its table."""
    place = folder / "recorded_trackfiles" / site
    place.mkdir(parents=True, exist_ok=True)
    (folder / "maps").mkdir(exist_ok=True)
    (folder / "maps" / f"{site}.osm").write_text(street()[0].text())
    path = place / f"vehicle_tracks_{number}.csv.xz"
    path.write_bytes(
        lzma.compress("\n".join([header, *(rows() if lines is None else lines)]).encode() + b"\n")
    )
    return path


def people(path: Path) -> Path:
    """Somebody who walks north across the street and one who rides along it, beside a recording."""
    lines = ["track_id,frame_id,timestamp_ms,agent_type,x,y,vx,vy"]
    for step in range(STEPS):
        where = f"{step + 1},{100 * (step + 1)},pedestrian/bicycle"
        lines.append(f"P1,{where},958,{1000 + 1.3 * DT * step:.3f},0,1.3")
        lines.append(f"P2,{where},{1030 - 5 * DT * step:.3f},{MIDDLE + 3},-5,0")
    made = path.with_name(path.name.replace("vehicle", "pedestrian"))
    made.write_bytes(lzma.compress("\n".join(lines).encode() + b"\n"))
    return made
