"""CommonRoad files as scenes with tracks and as street networks."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from commonroad_files import DT, SPEED, STEPS, WIDTH, scene
from countersteer.data import roads
from countersteer.data.readers import read, scan
from countersteer.errors import UserError
from countersteer.geometry.polygons import distance_to_segments
from countersteer.geometry.polylines import project
from countersteer.scenarios.network import Turn
from countersteer.scenarios.scenario import ActorKind, MapKind, Scenario, SignalState

VERSIONS = ("2018b", "2020a")


def written(folder: Path, text: str) -> Path:
    path = folder / "small.xml.gz"
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_a_scene(tmp_path: Path, version: str):
    path = written(tmp_path, scene(version))
    assert scan(tmp_path) == [path]
    scenario = read(path)
    ego, tracks = scenario.ego, scenario.tracks
    assert tracks.ids == ("71", "72", "73", "74", "75")
    assert ego == 0  # it gets furthest
    assert scenario.times == pytest.approx(DT * np.arange(STEPS))
    way = tracks.position[0, :, :2] - tracks.position[0, 0, :2]
    assert way[:, 0] == pytest.approx(SPEED * scenario.times, abs=1e-3)
    assert way[:, 1] == pytest.approx(0.0, abs=1e-3)
    assert tracks.velocity[1, 5] == pytest.approx([-8.0, 0.0], abs=1e-3)
    left_of_ego = tracks.position[1, 0, :2] - tracks.position[0, 0, :2]
    assert left_of_ego == pytest.approx([90.0, WIDTH], abs=1e-3)
    truck = 3.2 if version == "2020a" else 1.6
    assert tracks.size == pytest.approx(
        np.array([[4.5, 1.8, 1.6], [9.5, 1.8, truck], [4.5, 1.8, 1.6], [0.7, 0.7, 1.75], [4.5, 1.8, 1.6]])
    )
    kinds = [ActorKind.VEHICLE] * 3 + [ActorKind.PEDESTRIAN, ActorKind.VEHICLE]
    assert tracks.kind.tolist() == kinds
    assert tracks.valid.all()
    assert tracks.heading[4, -1] == pytest.approx(0.05 * (STEPS - 1), abs=1e-3)
    assert scenario.lane_width == pytest.approx(WIDTH, abs=0.01)
    assert scenario.provenance.source == "inD, by CommonRoad"
    assert "measuring only" in scenario.provenance.licence
    assert any("'71', which gets furthest" in note for note in scenario.provenance.notes)


def test_what_only_2020a_says(tmp_path: Path):
    scenario = read(written(tmp_path, scene("2020a")))
    assert [feature.id for feature in scenario.road.of_kind(MapKind.CROSSWALK)] == ["6"]
    assert {feature.id for feature in scenario.road.of_kind(MapKind.LANE)} == {
        *("1", "2", "3", "4", "5"),
        *("1/start", "2/end", "3/end", "4/start", "5/end"),  # where the map is cut off
    }
    lanes = {feature.id: feature for feature in scenario.road.of_kind(MapKind.LANE)}
    assert lanes["1"].speed_limit == pytest.approx(13.89)
    assert lanes["2"].speed_limit is None
    end = lanes["2/end"].points[:, :2] - scenario.tracks.position[0, 0, :2]
    assert end == pytest.approx(np.array([[95.0, 0.0], [135.0, 0.0]]), abs=1e-3)
    start = lanes["1/start"].points[:, :2] - scenario.tracks.position[0, 0, :2]
    assert start == pytest.approx(np.array([[-15.0, 0.0], [-5.0, 0.0]]), abs=1e-3)
    assert scenario.signals.lane == ("1",)
    # The cycle begins at step 10: red 20 steps, redYellow 5, green 30, yellow 5; the drive begins at step 3.
    expected = np.full(STEPS, int(SignalState.STOP))
    expected[:2], expected[2:7] = int(SignalState.GO), int(SignalState.CAUTION)
    expected[32:] = int(SignalState.GO)
    assert scenario.signals.state[0].tolist() == expected.tolist()
    assert scenario.signals.heading[0] == pytest.approx(0.0, abs=1e-6)
    stop = scenario.signals.stop_point[0] - scenario.tracks.position[0, 0]
    assert stop[:2] == pytest.approx([45.0, 0.0], abs=1e-3)


def test_the_step_of_time_is_the_files(tmp_path: Path):
    scenario = read(written(tmp_path, scene("2020a", dt=0.04)))
    assert np.diff(scenario.times) == pytest.approx(0.04)
    assert scenario.signals.state[0, 0] == SignalState.GO  # steps, not seconds


def test_headings_turned_round_are_found(tmp_path: Path):
    scenario = read(written(tmp_path, scene("2018b", sign=-1.0)))
    assert any("clockwise" in note for note in scenario.provenance.notes)
    assert scenario.tracks.heading[4, -1] == pytest.approx(0.05 * (STEPS - 1), abs=1e-3)


def test_simulated_traffic_is_said_to_be(tmp_path: Path):
    scenario = read(written(tmp_path, scene("2018b", source="OpenStreetMaps, SUMO Traffic Simulator")))
    assert any("not a recording" in note for note in scenario.provenance.notes)
    assert "ODbL" in scenario.provenance.licence
    recorded = read(written(tmp_path, scene("2018b")))
    assert not any("not a recording" in note for note in recorded.provenance.notes)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_network_on_paper(tmp_path: Path, version: str):
    network = roads.read(written(tmp_path, scene(version)))
    assert {key: lane.successors for key, lane in network.lanes.items()} == {
        "1": ("2", "5"), "2": (), "3": (), "4": ("3",), "5": (),
    }  # fmt: skip
    assert network.lanes["1"].length == pytest.approx(50.0, abs=1e-3)
    assert network.lanes["5"].length == pytest.approx(10 * np.pi / 2, abs=0.1)
    assert [lane.width for lane in network.lanes.values()] == pytest.approx([WIDTH] * 5, abs=0.02)
    assert network.lanes["5"].turn is Turn.RIGHT
    assert not network.left_hand
    assert network.name == "DEU_Small-1"  # of the map, not of the scene
    east = network.lanes["1"]
    assert project(east.centre, east.left[:, :2])[1] == pytest.approx(WIDTH / 2, abs=1e-3)
    assert project(east.centre, network.lanes["3"].centre[:, :2])[1] == pytest.approx(WIDTH, abs=1e-3)
    if version == "2020a":
        assert {key for key, lane in network.lanes.items() if lane.signal} == {"2", "5"}
        (program,) = network.signals
        assert [phase.duration for phase in program.phases] == pytest.approx([2.0, 0.5, 3.0, 0.5])
        assert program.offset == pytest.approx(1.0)


def test_a_stop_sign_stands_before_the_lanes_behind_it(tmp_path: Path):
    text = re.sub("<trafficLight .*</trafficLight>", "", scene("2020a"))
    network = roads.read(written(tmp_path, text))
    assert {key for key, lane in network.lanes.items() if lane.stops} == {"2", "5"}


def test_narrow_lanes_of_converters_are_widened(tmp_path: Path):
    network = roads.read(
        written(tmp_path, scene("2018b", width=2.5, source="OpenStreetMaps, SUMO Traffic Simulator"))
    )
    assert any("2.5 m wide in the file" in note for note in network.provenance.notes)
    east, west = network.lanes["1"], network.lanes["3"]
    assert (east.width, west.width) == (3.2, 3.2)
    # The line between the oncoming lanes stays where it was: each lane is moved by half of what it is wider.
    assert project(east.centre, west.centre[:, :2])[1] == pytest.approx(3.2, abs=1e-3)
    assert project(east.centre, east.left[:, :2])[1] == pytest.approx(1.6, abs=1e-3)
    assert project(west.centre, east.left[:, :2])[1] == pytest.approx(1.6, abs=1e-3)
    assert network.lanes["2"].centre[0] == pytest.approx(east.centre[-1], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda text: text.replace("<commonRoad ", "<!DOCTYPE a [<!ENTITY b 'c'>]><commonRoad "),
            "document type",
        ),
        (lambda text: text[:-60], "not valid XML"),
        (lambda text: text.replace('timeStepSize="0.1"', 'timeStepSize="0"'), "step of time that cannot be"),
        (lambda text: text.replace("<x>0.0000</x>", "<x>nan</x>", 1), "an x is no number in range"),
        (lambda text: text.replace("<x>5.0000</x>", "<x>1e9</x>", 1), "an x is no number in range"),
        (lambda text: text.replace("<exact>3</exact>", "<exact>3.5</exact>", 1), "is no whole number"),
        (
            lambda text: text.replace("<exact>5</exact>", "<exact>9</exact>", 1),
            "is at two places at one time",
        ),
        (lambda text: text.replace("<exact>62</exact>", "<exact>9000000</exact>", 1), "too large"),
        (lambda text: text.replace("<x>5.0000</x>", "<x>705.0</x>", 1), "jumps"),
        (lambda text: re.sub("<lanelet .*</lanelet>", "", text), "holds no lanelet"),
        (lambda text: text.replace('lanelet id="2"', 'lanelet id="1"'), "two lanelets of one id"),
        (
            lambda text: re.sub("<leftBound>.*?</leftBound>", "<leftBound/>", text, count=1),
            "bound that is no line",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, change, says: str):
    with pytest.raises(UserError, match=says):
        read(written(tmp_path, change(scene())))


def test_a_map_alone_is_no_drive(tmp_path: Path):
    path = written(tmp_path, scene(people=False))
    assert scan(tmp_path) == []
    assert roads.scan(tmp_path) == [path]
    text = scene().replace("<trajectory>", "<occupancySet>").replace("</trajectory>", "</occupancySet>")
    with pytest.raises(UserError, match="nobody who moves"):
        read(written(tmp_path, text))


# What the catalogue says of the shared files.

NETWORKS = {
    "traffic/ngsim_commonroad": (123, 0),
    "traffic/drone_commonroad": (19, 0),
    "roads/commonroad_osm": (77, 60),
    "roads/commonroad_world": (29, 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("folder", NETWORKS)
def test_all_maps_of_the_catalogue(shared_data: Path, folder: str):
    """123 + 8 + 11 + 106 maps; 60 of those from OpenStreetMap have lanes of 2.5 m, which are widened."""
    files = sorted((shared_data / folder).rglob("*.xml.gz"))
    count, narrow = NETWORKS[folder]
    assert len(files) == count
    widened = 0
    for file in files:
        network = roads.read(file)
        # A roundabout with wide lanes and a race track are among them.
        assert 2.9 < np.median([lane.width for lane in network.lanes.values()]) < 13.0
        widened += any("moved apart" in note for note in network.provenance.notes)
    assert widened == narrow


def aside(scenario: Scenario) -> float:
    lines = [lane.points[:, :2] for lane in scenario.road.of_kind(MapKind.LANE)]
    starts, ends = (np.concatenate([each[part] for each in lines]) for part in (slice(-1), slice(1, None)))
    moving = np.linalg.norm(scenario.tracks.velocity, axis=-1) > 1.0
    vehicles = (scenario.tracks.kind == ActorKind.VEHICLE)[:, None] & scenario.tracks.valid & moving
    return float(
        np.median(distance_to_segments(starts, ends, scenario.tracks.position[vehicles][::11, :2]).min(-1))
    )


@pytest.mark.slow
def test_all_ngsim_scenes(shared_data: Path):
    """122 scenes with tracks; the 123rd states sets that a prediction reaches, and no track."""
    read_, refused = [], []
    for file in sorted((shared_data / "traffic" / "ngsim_commonroad").glob("*.xml.gz")):
        try:
            read_.append(read(file))
        except UserError as error:
            refused.append((file.name, error.what))
    assert [name for name, _ in refused] == ["USA_US101-1_1_S-1.xml.gz"]
    assert sum("US101" in each.id for each in read_) == 79
    assert sum("Lanker" in each.id for each in read_) == 43
    assert all(each.provenance.source == "NGSIM, by CommonRoad" for each in read_)
    assert all(aside(each) < 1.0 for each in read_)


def test_some_ngsim_and_all_drone_scenes(shared_data: Path):
    files = sorted((shared_data / "traffic" / "ngsim_commonroad").glob("*.xml.gz"))[::25]
    drone = sorted((shared_data / "traffic" / "drone_commonroad").glob("*.xml.gz"))
    assert len(drone) == 8
    for file in [*files, *(file for file in drone if file.name != "DEU_AachenBendplatz-1.xml.gz")]:
        scenario = read(file)
        assert scenario.route is not None
        assert aside(scenario) < 1.0
        assert "measuring only" in scenario.provenance.licence
    steps = {float(read(file).times[1]) for file in scan(shared_data / "traffic" / "drone_commonroad")}
    assert {round(step, 3) for step in steps} == {0.04, 0.2}


def test_lights_of_a_map_of_the_catalogue(shared_data: Path):
    files = [
        file
        for file in sorted((shared_data / "roads" / "commonroad_world").glob("*.xml.gz"))
        if b"<trafficLight " in gzip.decompress(file.read_bytes())
    ]
    assert files
    programs = [program for file in files for program in roads.read(file).signals]
    assert programs
    for program in programs:
        assert {state for phase in program.phases for state in phase.states} == {
            SignalState.GO, SignalState.CAUTION, SignalState.STOP,
        }  # fmt: skip
