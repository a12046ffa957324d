"""Lanelet2 maps as street networks: what a small map, known on paper, has to become."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

import lanelet_files
from countersteer.data import roads
from countersteer.data.roads.osm_lanelets import metres_per_second, read_lanelets
from countersteer.errors import UserError
from countersteer.geometry.polylines import project
from countersteer.scenarios.network import RoadNetwork, Turn
from countersteer.scenarios.scenario import MapKind, SignalState
from lanelet_files import LANE, MIDDLE, MapFile, street


def written(folder: Path, text: str, name: str = "small.osm") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture
def small(tmp_path: Path) -> tuple[RoadNetwork, dict[str, str]]:
    """The street of `lanelet_files`, and the lanes by the names that file gives them."""
    made, ids = street()
    return roads.read(written(tmp_path, made.text())), {name: str(number) for name, number in ids.items()}


def test_connections_on_paper(small):
    network, ids = small
    names = {number: name for name, number in ids.items()}
    after = {
        names[key]: sorted(names[each] for each in lane.successors) for key, lane in network.lanes.items()
    }
    assert after == {
        "east0": ["east1", "right"], "east1": ["east2"], "east2": [], "west2": ["west1"], "west1": ["west0"],
        "west0": [], "right": ["off"], "off": [], "on": ["join"], "join": ["east2"],
    }  # fmt: skip


def test_lengths_widths_limits_and_frame(small):
    network, ids = small
    east = network.lanes[ids["east0"]]
    assert east.length == pytest.approx(60.0, abs=1e-3)
    assert east.width == pytest.approx(LANE, abs=1e-3)
    assert east.speed_limit == pytest.approx(13.4112)
    moved = next(note for note in network.provenance.notes if note.startswith("(0, 0, 0)"))
    shift = np.array([float(word) for word in re.findall(r"-?\d+", moved)[3:]])
    assert east.centre[0] + shift == pytest.approx([900.0, MIDDLE - LANE / 2, 0.0], abs=1e-3)
    assert east.centre[-1] + shift == pytest.approx([960.0, MIDDLE - LANE / 2, 0.0], abs=1e-3)
    # A border that is drawn against the lane is turned round; left is left.
    assert project(east.centre, east.left[:, :2])[1] == pytest.approx(LANE / 2, abs=1e-3)
    assert project(east.centre, east.right[:, :2])[1] == pytest.approx(-LANE / 2, abs=1e-3)
    west = network.lanes[ids["west0"]]
    assert west.centre[0, 0] > west.centre[-1, 0]


def test_junction_turns_and_rules(small):
    network, ids = small
    junctions = {name: network.lanes[number].junction for name, number in ids.items()}
    assert len({junctions[name] for name in ("right", "join", "east1")}) == 1
    assert all(junctions[name] is None for name in ("east0", "east2", "west0", "west1", "on", "off"))
    assert network.lanes[ids["right"]].turn is Turn.RIGHT
    assert network.lanes[ids["join"]].turn is Turn.RIGHT
    assert network.lanes[ids["east1"]].turn is Turn.STRAIGHT
    # Whoever comes from the side street waits at the sign before the lane that joins, for those straight on.
    join = network.lanes[ids["join"]]
    assert join.stops
    assert join.yields_to == (ids["east1"],)
    assert [name for name in ids if network.lanes[ids[name]].stops] == ["join"]
    assert [name for name in ids if network.lanes[ids[name]].yields_to] == ["join"]
    assert not network.left_hand
    kinds = [feature.kind for feature in network.features]
    assert kinds.count(MapKind.STOP_LINE) == kinds.count(MapKind.STOP_SIGN) == 1


def test_side_of_the_road_is_that_of_the_lanes(tmp_path: Path):
    made, _ = street()
    # The same place seen in a mirror: the lanelets' left ways become their right ones.
    made.nodes = {(x, 2 * MIDDLE - y): number for (x, y), number in made.nodes.items()}
    swap = {"left": "right", "right": "left"}
    for _, members, _ in made.relations:
        members[:] = [(kind, ref, swap.get(role, role)) for kind, ref, role in members]
    network = roads.read(written(tmp_path, made.text()))
    assert network.left_hand
    assert not any("oncoming" in note for note in network.provenance.notes)


def test_borders_that_are_exchanged_change_the_direction(tmp_path: Path):
    """What is called left and lies right: the lanelet leads the other way, as the format's library has it."""
    made, ids = street()
    for number, members, _ in made.relations:
        if number == ids["east0"]:
            members[:2] = [("way", members[0][1], "right"), ("way", members[1][1], "left")]
    network = roads.read(written(tmp_path, made.text()))
    lane = network.lanes[str(ids["east0"])]
    assert lane.centre[0, 0] > lane.centre[-1, 0]
    assert lane.successors == ()


def beside(line: dict[str, str]) -> MapFile:
    """Two lanes to the east, one beside the other, and the line between them."""
    made = MapFile()
    between = made.way((0.0, 0.0), (50.0, 0.0), **line)
    made.lanelet(made.way((0.0, 3.0), (50.0, 3.0)), between)
    made.lanelet(between, made.way((0.0, -3.0), (50.0, -3.0)))
    return made


@pytest.mark.parametrize(
    ("line", "to_left", "to_right"),
    [
        ({"type": "line_thin", "subtype": "dashed"}, True, True),
        ({"type": "line_thin", "subtype": "solid"}, False, False),
        ({"type": "line_thin", "subtype": "dashed_solid"}, False, True),
        ({"type": "line_thin", "subtype": "solid_dashed"}, True, False),
        ({"type": "line_thin", "subtype": "solid", "lane_change": "yes"}, True, True),
        ({"type": "virtual"}, False, False),
    ],
)
def test_neighbours_by_the_line_between(tmp_path: Path, line, to_left: bool, to_right: bool):
    network = roads.read(written(tmp_path, beside(line).text()))
    left, right = network.lanes.values()
    assert (right.left_neighbour == left.id) == to_left
    assert (left.right_neighbour == right.id) == to_right
    assert left.left_neighbour is right.right_neighbour is None


def test_lights_and_both_ways(tmp_path: Path):
    made, ids = street()
    light = made.way((957.0, MIDDLE - 5), (957.5, MIDDLE - 5), type="traffic_light")
    line = made.way((959.0, MIDDLE), (959.0, MIDDLE - LANE), type="stop_line")
    rule = made.rule("traffic_light", ("way", light, "refers"), ("way", line, "ref_line"))
    made.name(ids["east0"], rule)
    next(tags for number, _, tags in made.relations if number == ids["off"])["one_way"] = "no"
    network = roads.read(written(tmp_path, made.text()))
    (program,) = network.signals
    assert set(program.lanes) == {
        str(ids["east1"]),
        str(ids["right"]),
    }  # the line is at the end of what names the light
    assert network.lanes[str(ids["east1"])].signal == program.id
    assert {state for phase in program.phases for state in phase.states} >= {SignalState.GO, SignalState.STOP}
    assert any("no phases" in note for note in network.provenance.notes)
    back = network.lanes[f"{ids['off']}/back"]
    assert back.centre == pytest.approx(network.lanes[str(ids["off"])].centre[::-1])
    assert back.successors == ()


def test_speed_limits():
    assert metres_per_second("50") == metres_per_second("50 km/h") == metres_per_second("50kmh") == 50 / 3.6
    assert metres_per_second("25mph") == pytest.approx(11.176)
    assert metres_per_second("10 m/s") == 10.0
    for text in ("", "fast", "de274", "-5", "50 furlongs", "9" * 5000):
        assert metres_per_second(text) is None


def test_local_coordinates(tmp_path: Path):
    made, ids = street()
    text = made.text()

    def local(match: re.Match) -> str:
        x, y = next(point for point, number in made.nodes.items() if str(number) == match[1])
        tags = f'<tag k="local_x" v="{x - 700}" /><tag k="local_y" v="{y}" />'
        keep = match[0][:-2] if int(match[1]) % 3 else f'<node id="{match[1]}" lat="" lon=""'
        return f"{keep}>{tags}</node>"

    network = roads.read(written(tmp_path, re.sub(r'<node id="(\d+)" [^>]*/>', local, text)))
    assert network.lanes[str(ids["east0"])].length == pytest.approx(60.0, abs=1e-2)
    assert any("placed by local_x" in note for note in network.provenance.notes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("<osm ", "<!DOCTYPE osm [<!ENTITY a 'b'>]><osm "), "document type"),
        (lambda text: text[: len(text) - 200], "not valid XML"),
        (lambda text: re.sub('lat="[^"]*"', 'lat="north"', text, count=1), "is not a number"),
        (lambda text: re.sub('lat="[^"]*"', 'lat="nan"', text, count=1), "out of range"),
        (lambda text: re.sub('lat="[^"]*"', 'lat="89.5"', text), "beyond 84 degrees"),
        (lambda text: re.sub('lat="[^"]*"', 'lat="40"', text, count=1), "spans more than two degrees"),
        (lambda text: text.replace('role="left"', 'role="lift"'), "no lanelet that can be read"),
        (lambda text: text.replace('v="road"', 'v="walkway"'), "no lane that a car can drive on"),
        (lambda text: re.sub("<node[^>]*>", "", text), "holds no nodes"),
        (lambda text: text.replace('<way id="10000">', "<way>"), "has no id"),
    ],
)
def test_damaged_maps_are_refused(tmp_path: Path, change, says: str):
    with pytest.raises(UserError, match=says):
        roads.read(written(tmp_path, change(street()[0].text())))


def test_what_is_missing_is_noted(tmp_path: Path):
    text = street()[0].text()
    text = text.replace('<nd ref="1000" />', '<nd ref="77" />', 1).replace(
        'ref="10003" role="left"', 'ref="9" role="left"'
    )
    network = roads.read(written(tmp_path, text))
    assert any("name nodes that have no place" in note for note in network.provenance.notes)
    assert any("without a left and a right way" in note for note in network.provenance.notes)


def test_a_plain_extract_is_no_lanelet2_map(tmp_path: Path):
    path = written(tmp_path, '<osm version="0.6"><node id="1" lat="0" lon="0"/></osm>')
    with pytest.raises(UserError, match="which has no lanes"):
        roads.read(path)


MAPS = {
    "karlsruhe_mapping_example": (388, 5.2, False),
    "kashiwanoha": (77, 1.7, True),
    "sind_chongqing": (48, 1.1, False),
    "sind_changchun": (37, 1.5, False),
    "sind_tianjin": (62, 1.3, False),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_of_the_catalogue(shared_data: Path, name: str):
    network = roads.read(shared_data / "roads" / "lanelet2" / f"{name}.osm.gz")
    lanes, kilometres, left_hand = MAPS[name]
    assert (len(network.lanes), network.left_hand) == (lanes, left_hand)
    assert sum(lane.length for lane in network.lanes.values()) / 1000 == pytest.approx(kilometres, abs=0.06)
    assert 3.0 < np.median([lane.width for lane in network.lanes.values()]) < 4.6
    connected = {each for lane in network.lanes.values() for each in lane.successors}
    assert len(connected) > 0.7 * len(network.lanes)
    if name == "karlsruhe_mapping_example":
        assert len(set(network.places.values())) == 4  # four pieces
        assert len(network.signals) == 4
    if name == "kashiwanoha":
        assert [len(program.lanes) for program in network.signals] == [3]
        assert sum(lane.stops for lane in network.lanes.values()) == 1


def test_maps_of_interaction_sites(shared_data: Path):
    for path in sorted((shared_data / "traffic" / "interaction" / "maps").glob("*.osm.gz")):
        network = roads.read(path)
        assert "measuring only" in network.provenance.licence
        assert any(lane.yields_to or lane.stops for lane in network.lanes.values())
        assert not network.left_hand


def test_a_gzipped_map_and_its_whole(tmp_path: Path):
    path = tmp_path / f"{lanelet_files.SITE}.osm.gz"
    path.write_bytes(gzip.compress(street()[0].text().encode()))
    assert roads.scan(tmp_path) == [path]
    assert roads.read(path).provenance.source == "INTERACTION"
    assert len(read_lanelets(path).lanelets) == 10
