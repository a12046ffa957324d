"""Readers of street networks: one junction on paper in every form, and what is wrong with broken maps."""

from __future__ import annotations

import dataclasses
import gzip
import math
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import street_maps
from countersteer.data.roads import packed, read, scan
from countersteer.data.roads.checks import checked, oncoming_sides
from countersteer.data.roads.joints import bridge, turn_of
from countersteer.data.roads.opendrive_lines import Cubics, ReferenceLine
from countersteer.data.roads.usual_rules import usual_program, with_usual_priority
from countersteer.errors import UserError
from countersteer.scenarios.network import Phase, RoadNetwork, SignalProgram, Turn
from countersteer.scenarios.scenario import MapKind, SignalState
from street_maps import straight

GO, CAUTION, STOP = SignalState.GO, SignalState.CAUTION, SignalState.STOP


def noted(network: RoadNetwork, words: str) -> bool:
    return any(words in note for note in network.provenance.notes)


# SUMO


@pytest.mark.parametrize("name", ["small.net.xml", "small.net.xml.gz"])
def test_sumo_right_of_way_turns_and_neighbours_are_those_on_paper(tmp_path: Path, name: str):
    network = read(street_maps.write_sumo(tmp_path / name))
    lanes = network.lanes
    assert network.name == "small"
    assert set(lanes) == set(street_maps.LINES)
    assert not network.left_hand
    assert lanes[":J_1_0"].yields_to == (":J_0_0",)
    assert set(lanes[":J_2_0"].yields_to) == {":J_0_0", ":J_3_0"}
    assert lanes[":J_0_0"].yields_to == lanes[":J_3_0"].yields_to == ()
    assert lanes["S_0"].successors == (":J_1_0", ":J_2_0")
    assert lanes[":J_2_0"].successors == ("outW_0",)
    assert [lanes[f":J_{k}_0"].turn for k in range(4)] == [
        Turn.STRAIGHT,
        Turn.RIGHT,
        Turn.LEFT,
        Turn.STRAIGHT,
    ]
    assert (lanes["W_0"].left_neighbour, lanes["W_0"].right_neighbour) == ("W_1", None)
    assert (lanes["W_1"].left_neighbour, lanes["W_1"].right_neighbour) == (None, "W_0")
    assert lanes[":J_0_0"].junction == "J"
    assert lanes["W_0"].junction is None
    assert lanes["W_1"].speed_limit == pytest.approx(13.89)
    kinds = Counter(feature.kind for feature in network.features)
    assert kinds == {MapKind.CROSSWALK: 1, MapKind.DRIVABLE_AREA: 1}
    assert noted(network, "2 lanes are not for cars") or noted(network, "3 lanes are not for cars")


def test_sumo_moves_the_map_to_its_middle_and_says_so(tmp_path: Path):
    network = read(street_maps.write_sumo(tmp_path / "small.net.xml"))
    assert noted(network, "(0, 0, 0) is the file's (500, 251, 0) m")
    np.testing.assert_allclose(network.lanes["E_0"].centre[0], (100.0, 50.6, 0.0))


def test_sumo_lights_show_their_phases(tmp_path: Path):
    network = read(street_maps.write_sumo(tmp_path / "small.net.xml", lights=True))
    (program,) = network.signals
    assert program.lanes == tuple(f":J_{k}_0" for k in range(4))
    assert program.offset == 5.0
    assert [(phase.duration, phase.states) for phase in program.phases] == [
        (20.0, (GO, STOP, STOP, GO)),
        (3.0, (CAUTION, STOP, STOP, CAUTION)),
        (10.0, (STOP, GO, GO, STOP)),
    ]
    assert network.lanes[":J_2_0"].signal == "J"
    assert network.lanes["S_0"].signal is None


def test_sumo_left_hand_traffic_has_its_first_lane_on_the_left(tmp_path: Path):
    network = read(street_maps.write_sumo(tmp_path / "small.net.xml", left_hand=True))
    assert network.left_hand
    assert (network.lanes["W_0"].left_neighbour, network.lanes["W_0"].right_neighbour) == (None, "W_1")
    left, right = oncoming_sides(network.lanes)
    assert right > 0 == left


def test_sumo_without_ways_through_the_junction_gets_smooth_ones(tmp_path: Path):
    text = street_maps.sumo()
    root = ElementTree.fromstring(text)
    for edge in root.findall("edge"):
        if edge.get("function") == "internal":
            root.remove(edge)
    for link in root.findall("connection"):
        if str(link.get("from")).startswith(":"):
            root.remove(link)
        else:
            link.attrib.pop("via")
    path = tmp_path / "small.net.xml"
    path.write_bytes(ElementTree.tostring(root))
    network = read(path)
    assert noted(network, "4 ways through junctions are not in the file")
    way = network.lanes[":S_0>outW_0"]
    np.testing.assert_allclose(way.centre[0], network.lanes["S_0"].centre[-1])
    np.testing.assert_allclose(way.centre[-1], network.lanes["outW_0"].centre[0])
    assert way.turn is Turn.LEFT


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("<net ", "<!DOCTYPE net [<!ENTITY a 'b'>]><net ", "document type"),
        ('speed="13.89"', 'speed="nan"', "speed"),
        ('shape="', 'shape="1,2,3,4 ', "shape"),
        ("</net>", "", "not valid XML"),
        ('id="W_1"', 'id="W_0"', "twice"),
    ],
)
def test_a_broken_sumo_file_is_refused_by_its_name(tmp_path: Path, old: str, new: str, says: str):
    path = tmp_path / "small.net.xml"
    path.write_text(street_maps.sumo().replace(old, new, 1))
    with pytest.raises(UserError, match=says) as refused:
        read(path)
    assert "small.net.xml" in str(refused.value)


def test_a_file_that_would_take_too_much_memory_is_refused(tmp_path: Path):
    path = tmp_path / "bomb.net.xml.gz"
    head, tail = street_maps.sumo().split("</net>")
    path.write_bytes(gzip.compress((head + "<a/>" * 3_000_000 + "</net>" + tail).encode(), 1))
    with pytest.raises(UserError, match="too large"):
        read(path)


# Apollo


def test_apollo_who_has_a_stop_sign_waits(tmp_path: Path):
    network = read(street_maps.write_apollo(tmp_path / "small.bin.gz"))
    lanes = network.lanes
    assert network.name == "small"
    assert set(lanes) == set(street_maps.LINES)
    assert lanes["W_0"].width == pytest.approx(3.5)
    assert lanes["W_0"].left_neighbour == "W_1"
    assert len(lanes[":J_1_0"].centre) == 3  # segments share their ends
    assert [lanes[f":J_{k}_0"].stops for k in range(4)] == [False, True, True, False]
    assert lanes[":J_1_0"].yields_to == (":J_0_0",)
    assert set(lanes[":J_2_0"].yields_to) == {":J_0_0", ":J_3_0"}
    assert lanes[":J_0_0"].yields_to == ()
    assert lanes["S_0"].junction is None
    assert [len(feature.points) for feature in network.features] == [4]
    assert network.provenance.licence == "unknown"
    np.testing.assert_allclose(np.ptp([lane.centre[:, 2].mean() for lane in lanes.values()]), 0.0)


# OpenDRIVE


def test_opendrive_lanes_lie_on_their_side_and_lead_on(tmp_path: Path):
    network = read(street_maps.write_opendrive(tmp_path / "small.xodr"))
    lanes = network.lanes
    assert set(lanes) == {"1.0.1", "1.0.-1", "1.0.-2", "2.0.-1", "3.0.-1", "4.0.-1", "5.0.-1"}
    assert set(lanes["1.0.-1"].successors) == {"2.0.-1", "3.0.-1"}
    assert lanes["2.0.-1"].successors == ("4.0.-1",)
    assert lanes["3.0.-1"].successors == ("5.0.-1",)
    assert lanes["3.0.-1"].turn is Turn.RIGHT
    assert lanes["1.0.-1"].right_neighbour == "1.0.-2"
    assert lanes["1.0.-1"].left_neighbour is None  # that one is oncoming
    assert lanes["1.0.-1"].speed_limit == pytest.approx(50 / 3.6)
    forth, back = lanes["1.0.-1"].centre, lanes["1.0.1"].centre
    assert forth[0, 0] < forth[-1, 0]
    assert back[0, 0] > back[-1, 0]
    np.testing.assert_allclose(back[::-1, 1] - forth[:, 1], 3.5)
    assert lanes["3.0.-1"].length == pytest.approx((20 - 1.75) * math.pi / 2, abs=0.02)
    left = lanes["1.0.1"].left
    assert left is not None
    assert left[0, 1] < back[0, 1]  # on the left as it drives, westwards


def test_opendrive_left_hand_traffic_runs_the_other_way(tmp_path: Path):
    network = read(street_maps.write_opendrive(tmp_path / "small.xodr", left_hand=True))
    assert network.left_hand
    assert network.lanes["1.0.1"].centre[0, 0] < network.lanes["1.0.1"].centre[-1, 0]
    assert network.lanes["1.0.-1"].right_neighbour is None
    assert network.lanes["1.0.-1"].left_neighbour == "1.0.-2"


def _line(shape: str, length: float) -> ReferenceLine:
    road = ElementTree.fromstring(
        f'<road id="1"><planView><geometry s="0" x="10" y="20" hdg="0" length="{length}">{shape}</geometry></planView></road>'
    )
    return ReferenceLine.of(road)


def test_opendrive_arcs_spirals_and_polynomials_end_where_they_should():
    quarter = 50 * math.pi / 2
    arc = _line('<arc curvature="0.02"/>', quarter)
    np.testing.assert_allclose(arc.points[-1], (60.0, 70.0), atol=1e-6)
    assert arc.heading[-1] == pytest.approx(math.pi / 2)
    # A clothoid of A² = L / curvature: x = L - L⁵ / (40 A⁴), y = L³ / (6 A²) - L⁷ / (336 A⁶), to first terms.
    length, bend = 30.0, 0.01
    a2 = length / bend
    spiral = _line(f'<spiral curvStart="0" curvEnd="{bend}"/>', length)
    x = length - length**5 / (40 * a2**2) + length**9 / (3456 * a2**4)
    y = length**3 / (6 * a2) - length**7 / (336 * a2**3)
    np.testing.assert_allclose(spiral.points[-1], (10 + x, 20 + y), atol=1e-4)
    poly3 = _line('<poly3 a="0" b="0" c="0.01" d="0"/>', 20.0)
    along = np.linalg.norm(np.diff(poly3.points, axis=0), axis=1).sum()
    assert along == pytest.approx(20.0, abs=0.01)
    u = poly3.points[-1, 0] - 10
    assert poly3.points[-1, 1] - 20 == pytest.approx(0.01 * u**2, abs=1e-3)
    for form, end in (("arcLength", 20.0), ("normalized", 1.0)):
        scale = 20.0 / end
        shape = f'<paramPoly3 pRange="{form}" aU="0" bU="{scale}" cU="0" dU="0" aV="0" bV="0" cV="{0.001 * scale**2}" dV="0"/>'
        np.testing.assert_allclose(_line(shape, 20.0).points[-1], (30.0, 20.4), atol=1e-6)


def test_opendrive_cubics_hold_until_the_next_begins():
    element = ElementTree.fromstring('<r><w sOffset="0" a="1" b="0.5"/><w sOffset="10" a="6" b="0"/></r>')
    function = Cubics.of(element.findall("w"), "sOffset", 5.0)
    np.testing.assert_allclose(function.at(np.array([0.0, 5.0, 9.0, 15.0, 99.0])), [0.0, 1.0, 3.0, 6.0, 6.0])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("<line/>", '<clothoid a="1"/>', "unknown shape"),
        ('length="100"', 'length="1e9"', "length"),
        ('curvature="-0.05"', 'curvature="900"', "tight"),
        ("</OpenDRIVE>", "", "not valid XML"),
    ],
)
def test_a_broken_opendrive_file_is_refused(tmp_path: Path, old: str, new: str, says: str):
    path = tmp_path / "small.xodr"
    # The road's own length is not read: the pieces have theirs.
    path.write_text(
        new.join(
            street_maps.opendrive().replace('junction="-1" length="100"', 'junction="-1"', 1).split(old, 1)
        )
    )
    with pytest.raises(UserError, match=says):
        read(path)


# Race tracks, our own form


def test_a_race_track_closes_in_the_middle_between_its_edges(tmp_path: Path):
    network = read(street_maps.write_racetrack(tmp_path / "ring.csv"))
    lanes = list(network.lanes.values())
    assert sum(lane.length for lane in lanes) == pytest.approx(math.tau * 100.5, rel=1e-3)
    assert all(lane.width == pytest.approx(9.0, abs=0.05) for lane in lanes)
    for lane in lanes:
        (after,) = lane.successors
        np.testing.assert_allclose(network.lanes[after].centre[0], lane.centre[-1], atol=1e-9)


def test_a_race_track_with_a_doubled_point_is_refused(tmp_path: Path):
    path = street_maps.write_racetrack(tmp_path / "ring.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], lines[4], *lines[5:]]))
    with pytest.raises(UserError, match="doubled"):
        read(path)


def test_our_own_form_keeps_everything_but_boundaries(tmp_path: Path):
    network = read(street_maps.write_sumo(tmp_path / "small.net.xml", lights=True))
    path = tmp_path / "small.npz"
    packed.save(network, path)
    again = read(path)
    first = path.read_bytes()
    packed.save(again, path)
    assert path.read_bytes() == first
    assert again.signals == network.signals
    assert again.provenance == network.provenance
    for key, lane in network.lanes.items():
        np.testing.assert_allclose(again.lanes[key].centre, lane.centre, atol=0.0051)
        plain = {"centre": lane.centre, "left": None, "right": None, "speed_limit": None}
        assert dataclasses.replace(again.lanes[key], **plain) == dataclasses.replace(lane, **plain)
    assert [feature.id for feature in again.features] == [feature.id for feature in network.features]


def test_what_is_no_street_network_is_refused_and_not_found(tmp_path: Path):
    street_maps.write_sumo(tmp_path / "small.net.xml")
    (tmp_path / "other.xml").write_text("<other/>")
    assert scan(tmp_path) == [tmp_path / "small.net.xml"]
    with pytest.raises(UserError, match="no known form"):
        read(tmp_path / "other.xml")
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "absent.xml")


# What is wrong with networks of any form


def test_doubled_points_are_taken_once():
    lane = straight("a", (0, 0), (100, 0))
    lane = dataclasses.replace(lane, centre=np.repeat(lane.centre, 2, axis=0))
    network = checked(street_maps.network([lane]))
    assert len(network.lanes["a"].centre) == 11
    assert noted(network, "1 lanes have doubled points")


def test_successors_that_begin_elsewhere_or_are_not_there_are_left_out():
    lanes = [
        straight("a", (0, 0), (100, 0), successors=("b", "c", "d", "a?")),
        straight("b", (100, 0), (200, 0)),
        straight("c", (101, 0), (200, 3)),
        straight("d", (140, 0), (200, 5)),
    ]
    network = checked(street_maps.network(lanes))
    assert network.lanes["a"].successors == ("b", "c")
    assert noted(network, "1 successors begin more than 3 m")
    assert noted(network, "1 successors begin 0.3 to 3 m")
    assert noted(network, "1 successors of lanes are not there")


def test_a_lane_without_length_is_bridged():
    lanes = [
        straight("a", (0, 0), (100, 0), successors=("b",)),
        straight("b", (100, 0), (100.01, 0), successors=("c",)),
        straight("c", (100, 0), (200, 0)),
    ]
    network = checked(street_maps.network(lanes))
    assert set(network.lanes) == {"a", "c"}
    assert network.lanes["a"].successors == ("c",)
    assert noted(network, "1 lanes have no length")


@pytest.mark.parametrize(
    "lanes",
    [
        [],
        [straight("a", (0, 0), (0, 0))],
        [dataclasses.replace(straight("a", (0, 0), (1, 0)), centre=np.full((4, 3), np.nan))],
        [straight("a", (0, 0), (1e6, 0))],
    ],
)
def test_a_network_without_lanes_or_not_in_metres_is_refused(lanes: list):
    with pytest.raises(UserError) as refused:
        checked(street_maps.network(lanes))
    assert refused.value.expected


def test_lanes_that_are_short_among_themselves_are_refused():
    lanes = [
        straight("a", (0, 0), (0.01, 0), successors=("b",)),
        straight("b", (0.01, 0), (0.02, 0), successors=("a",)),
    ]
    with pytest.raises(UserError, match="no lane has a length"):
        checked(street_maps.network(lanes))


def test_borders_that_cross_or_are_exchanged_are_left_out():
    lane = straight("a", (0, 0), (100, 0))
    beside = lane.centre + np.array([0.0, 1.6, 0.0])
    crossing = lane.centre + np.linspace(2.0, -2.0, 11)[:, None] * [0.0, 1.0, 0.0]
    network = checked(
        street_maps.network(
            [
                dataclasses.replace(lane, left=beside, right=beside),
                dataclasses.replace(lane, id="b", left=crossing),
            ]
        )
    )
    assert network.lanes["a"].left is not None
    assert network.lanes["a"].right is None
    assert network.lanes["b"].left is None
    assert noted(network, "lie on the wrong side")
    assert noted(network, "cross their centre line")


def test_widths_and_limits_that_cannot_be_are_replaced():
    network = checked(street_maps.network([straight("a", (0, 0), (9, 0), width=0.3, speed_limit=-4.0)]))
    assert network.lanes["a"].width == 3.2
    assert network.lanes["a"].speed_limit is None
    assert noted(network, "width that cannot be")
    assert noted(network, "speed limit that cannot be")


def test_a_loop_that_nothing_leaves_is_noted():
    lanes = [
        straight("a", (0, 0), (50, 0), successors=("b", "x")),
        straight("b", (50, 0), (50, 50), successors=("c",)),
        straight("c", (50, 50), (52, 0), successors=("b",)),
        straight("x", (50, 0), (99, 0)),
    ]
    network = checked(street_maps.network(lanes))
    assert noted(network, "2 lanes lead into a loop")


def test_traffic_on_the_other_side_than_the_map_says_is_noted():
    lanes = []
    for k in range(8):
        lanes += [
            straight(f"forth {k}", (0, 50 * k), (100, 50 * k)),
            straight(f"back {k}", (100, 50 * k - 3.5), (0, 50 * k - 3.5)),
        ]
    assert oncoming_sides({lane.id: lane for lane in lanes}) == (0, 16)
    assert noted(checked(street_maps.network(lanes)), "traffic should keep to the right")
    assert not noted(checked(street_maps.network(lanes, left_hand=True)), "traffic should")


def test_signals_of_lanes_that_are_not_there_lose_them():
    program = SignalProgram("s", ("a", "gone"), (Phase(5.0, (GO, STOP)), Phase(-1.0, (STOP, GO))))
    lanes = [straight("a", (0, 0), (50, 0), signal="s"), straight("b", (0, 9), (50, 9), signal="none")]
    network = checked(street_maps.network(lanes, signals=(program,)))
    (kept,) = network.signals
    assert kept.lanes == ("a",)
    assert [phase.states for phase in kept.phases] == [(GO,)]
    assert network.lanes["b"].signal is None


def test_a_wide_network_has_a_place_for_each_kilometre():
    lanes = [straight(str(k), (500 * k, 0), (500 * k + 400, 0)) for k in range(8)]
    network = checked(street_maps.network(lanes))
    assert 4 <= len(set(network.places.values())) <= 5
    assert set(network.places) == set(network.lanes)
    assert checked(street_maps.network(lanes[:2])).places == {}


# What maps leave out


def test_who_turns_left_waits_for_oncoming_traffic_and_others_for_the_right():
    ways = [
        straight("east", (-10, -2), (10, -2), junction="J"),
        straight("west", (10, 2), (-10, 2), junction="J"),
        straight("left", (-10, -2), (2, 10), junction="J", turn=Turn.LEFT),
        straight("north", (2, -10), (2, 10), junction="J"),
    ]
    lanes = {way.id: way for way in ways}
    lanes["from west"] = straight("from west", (-50, -2), (-10, -2), successors=("east", "left"))
    right = with_usual_priority(lanes, left_hand=False)
    assert "west" in right["left"].yields_to
    assert "left" not in right["west"].yields_to
    assert right["east"].yields_to == ("north",)  # who comes from the south is on its right
    assert "east" not in right["north"].yields_to
    assert "left" not in right["east"].yields_to  # they come from one lane
    left = with_usual_priority(lanes, left_hand=True)
    assert "east" in left["north"].yields_to


def test_usual_lights_are_green_for_opposite_roads_together():
    ways = [
        straight("east", (-10, -2), (10, -2)),
        straight("west", (10, 2), (-10, 2)),
        straight("north", (2, -10), (2, 10)),
    ]
    program = usual_program("s", ways)
    green = [
        {lane for lane, state in zip(program.lanes, phase.states, strict=True) if state is GO}
        for phase in program.phases
    ]
    assert {"east", "west"} in green
    assert {"north"} in green
    assert all(not {"east", "north"} <= lanes for lanes in green)


def test_a_bridge_is_smooth_and_its_turn_is_told():
    before, after = straight("a", (-20, 0), (-10, 0)).centre, straight("b", (0, 10), (0, 20)).centre
    way = bridge(before, after)
    np.testing.assert_allclose(way[[0, -1]], [before[-1], after[0]])
    assert turn_of(way) is Turn.LEFT
    assert turn_of(way[::-1]) is Turn.RIGHT
    assert turn_of(before) is Turn.STRAIGHT


# The catalogue


CATALOGUE = {
    # lanes for cars between junctions, their kilometres
    "sumo/bad_hersfeld.net.xml.gz": (4406, 434),
    "sumo/brunswick.net.xml.gz": (2564, 199),
    "sumo/luebeck_port.net.xml.gz": (1015, 95),
    "sumo/ingolstadt21.net.xml.gz": (1098, 85),
    "sumo/bologna_joined.net.xml.gz": (377, 49),
    "sumo/singapore_onenorth.net.xml.gz": (459, 24),
    "sumo/boston_seaport.net.xml.gz": (312, 21),
    "sumo/berlin_doerpfeldstr.net.xml.gz": (308, 19),
    "sumo/boston_thomaspark.net.xml.gz": (224, 17),
}


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_sumo_counts_are_those_of_the_catalogue(shared_data: Path, name: str):
    path = shared_data / "roads" / name
    if not path.exists():
        pytest.skip(f"this map is not here: {path}")
    network = read(path)
    lanes = [lane for lane in network.lanes.values() if lane.junction is None]
    count, kilometres = CATALOGUE[name]
    assert len(lanes) == count
    assert sum(lane.length for lane in lanes) / 1000 == pytest.approx(kilometres, abs=0.6)
    left, right = oncoming_sides(network.lanes)
    assert (right > 20 * left) if network.left_hand else (left > 20 * right)


@pytest.mark.parametrize(
    ("name", "lanes", "kilometres"),
    [
        ("san_francisco", 1524, 109.5),
        ("go_mentum", 289, 11.0),
        ("borregas_ave", 60, 2.7),
        ("autonomou_stuff", 65, 1.5),
    ],
)
def test_apollo_counts_are_those_of_the_catalogue(
    shared_data: Path, name: str, lanes: int, kilometres: float
):
    path = shared_data / "roads" / "apollo" / f"{name}.bin.gz"
    if not path.exists():
        pytest.skip(f"this map is not here: {path}")
    network = read(path)
    assert len(network.lanes) == lanes
    assert sum(lane.length for lane in network.lanes.values()) / 1000 == pytest.approx(kilometres, abs=0.06)
    assert network.provenance.licence == "Apache-2.0"


def test_opendrive_and_apollo_maps_of_one_place_agree(shared_data: Path):
    folder = shared_data / "roads"
    paths = [folder / "apollo" / "borregas_ave.bin.gz", folder / "opendrive" / "borregas_ave.xodr.gz"]
    if not all(path.exists() for path in paths):
        pytest.skip("these maps are not here")
    lengths = [sum(lane.length for lane in read(path).lanes.values()) for path in paths]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.02)
