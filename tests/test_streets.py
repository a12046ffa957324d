"""Drives cut from street networks: what their map shows, and that their traffic keeps the rules."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

import street_maps
from countersteer.data.roads import read
from countersteer.data.roads.checks import checked
from countersteer.data.samples import san_francisco
from countersteer.data.sources import Combined, Mixture, ProceduralRoads, StreetDrives
from countersteer.errors import UserError
from countersteer.geometry.polygons import contains
from countersteer.geometry.polylines import arc_length, project
from countersteer.scenarios.network import Phase, SignalProgram
from countersteer.scenarios.procedural.curves import Curve
from countersteer.scenarios.procedural.traffic import EGO_SIZE, Mover
from countersteer.scenarios.scenario import ActorKind, MapKind, Scenario, SignalState
from countersteer.scenarios.streets import Streets, street_drive
from countersteer.scenarios.streets.cars import Car, drive_all, front_of
from countersteer.scenarios.streets.signals import shown
from countersteer.scenarios.streets.surface import Ribbon, Surface
from countersteer.storage import serialise
from street_maps import straight

TIMES = np.arange(301) / 10


@pytest.fixture(scope="module")
def city() -> Streets:
    return Streets(san_francisco())


@pytest.fixture(scope="module")
def drives(city: Streets) -> list[Scenario]:
    return [street_drive(city, (5, k), length=200.0, duration=20.0, traffic=10) for k in range(4)]


def crossing() -> Streets:
    """A road from west to east, one that joins it from the south and waits, 100 m long each."""
    lanes = [
        straight("W", (-100, 0), (-10, 0), successors=("through",)),
        straight("through", (-10, 0), (10, 0), successors=("E",), junction="J"),
        straight("E", (10, 0), (150, 0)),
        straight("S", (0, -100), (0, -10), successors=("join",)),
        dataclasses.replace(
            straight("join", (0, -10), (10, 0), successors=("E",), junction="J", yields_to=("through",)),
            centre=np.array(
                [[10 - 10 * math.cos(a), -10 + 10 * math.sin(a), 0.0] for a in np.linspace(0, math.pi / 2, 9)]
            ),
        ),
    ]
    return Streets(checked(street_maps.network(lanes)))


def car(streets: Streets, names: list[str], s: float, speed: float) -> Car:
    return Car(streets.way(names), EGO_SIZE, s, speed)


def driven(
    cars: list[Car], people: list[Mover] | None = None, lights: dict | None = None
) -> list[np.ndarray]:
    drive_all(cars, people or [], lights or {}, TIMES)
    return [np.array(each.log) for each in cars]


# The map


def test_the_same_seed_gives_the_same_drive_and_another_another(city: Streets, drives: list[Scenario]):
    again = street_drive(city, (5, 1), length=200.0, duration=20.0, traffic=10)
    assert again.fingerprint() == drives[1].fingerprint()
    assert len({drive.fingerprint() for drive in drives}) == len(drives)


def test_a_drive_begins_at_the_origin_on_its_route_and_on_the_road(drives: list[Scenario]):
    for drive in drives:
        tracks = drive.tracks
        assert drive.route is not None
        assert np.linalg.norm(tracks.position[0, 0, :2]) < 3.0
        axle = tracks.position[0, :, :2] - 0.2177 * tracks.size[0, 0] * np.stack(
            [np.cos(tracks.heading[0]), np.sin(tracks.heading[0])], -1
        )
        assert np.abs(project(drive.route, axle)[1]).max() < 0.4
        areas = [area.points[:, :2] for area in drive.road.of_kind(MapKind.DRIVABLE_AREA)]
        inside = np.any([contains(area, tracks.position[0, :, :2]) for area in areas], axis=0)
        assert inside.all()
        assert all(np.abs(feature.points[:, 2]).max() == 0.0 for feature in drive.road.features)


def test_the_route_keeps_to_the_middle_of_lanes(city: Streets):
    names = ["W", "through", "E"]
    way = crossing().way(names)
    assert way.curve.length == pytest.approx(250.0, abs=0.1)
    assert np.abs(way.curve.points[:, 1] - way.curve.points[0, 1]).max() < 1e-6
    assert [passage.lane.id for passage in way.passages] == names
    assert [round(passage.begin) for passage in way.passages] == [0, 90, 110]
    (entry,) = way.entries
    assert entry.lane.id == "through"


def test_the_speed_of_a_way_brakes_before_a_bend():
    way = crossing().way(["S", "join", "E"])
    before, inside = way.at(50.0), way.at(98.0)
    assert inside < 6.0 < before
    bend = np.abs(way.curve.curvature).max()
    assert inside**2 * bend < 2.6
    assert np.diff(way.speed**2).min() / (2 * 0.5) > -1.6


def test_pavement_covers_lanes_without_holes_and_ends_in_edges():
    line = np.array([[0.0, 0.0], [100.0, 0.0]])
    ring = np.stack(
        [50 + 20 * np.cos(np.linspace(0, math.tau, 60)), 40 + 20 * np.sin(np.linspace(0, math.tau, 60))], -1
    )
    surface = Surface.of(
        np.array([-10.0, -10.0]),
        np.array([110.0, 80.0]),
        [Ribbon(line, 3.0, 2.0), Ribbon(ring, 2.0, 2.0)],
        [],
    )
    inside = surface.inside(
        np.array([[50.0, 2.8], [50.0, 3.4], [50.0, -1.8], [50.0, -2.4], [50.0, 40.0], [70.0, 40.0]])
    )
    assert inside.tolist() == [True, False, True, False, False, True]
    features = surface.features()
    areas = [each.points[:, :2] for each in features if each.kind is MapKind.DRIVABLE_AREA]
    places = np.random.default_rng(0).uniform((0, -5), (100, 65), (2000, 2))
    covered = np.any([contains(area, places) for area in areas], axis=0)
    assert (covered != surface.inside(places)).mean() < 0.02
    edges = [each for each in features if each.kind is MapKind.ROAD_EDGE]
    assert len(edges) == 3  # around the road, around the ring, and inside it
    assert all((edge.points[0] == edge.points[-1]).all() for edge in edges)


def test_lines_stand_between_lanes_and_directions(tmp_path: Path):
    streets = Streets(read(street_maps.write_sumo(tmp_path / "small.net.xml", lights=True)))
    kinds: set[MapKind] = set()
    dashed = []
    for k in range(6):
        drive = street_drive(streets, (k,), length=150.0, duration=10.0, traffic=0)
        kinds |= {feature.kind for feature in drive.road.features}
        dashed += drive.road.of_kind(MapKind.LINE_DASHED_WHITE)
    assert {
        MapKind.LANE,
        MapKind.LINE_DASHED_WHITE,
        MapKind.ROAD_EDGE,
        MapKind.STOP_LINE,
        MapKind.CROSSWALK,
    } <= kinds
    assert dashed


# Traffic


def test_a_car_stops_for_red_and_goes_on_at_green():
    streets = crossing()
    states = np.full(len(TIMES), int(SignalState.STOP))
    states[150:] = SignalState.GO
    (log,) = driven([car(streets, ["W", "through", "E"], 5.0, 10.0)], lights={"through": states})
    front = log[:, 0] + front_of(EGO_SIZE[0])
    assert 85.0 < front[149] < 90.0
    assert log[140, 1] < 0.1
    assert front[-1] > 110.0


def test_a_car_that_cannot_stop_for_amber_goes_on():
    streets = crossing()
    states = np.full(len(TIMES), int(SignalState.CAUTION))
    states[30:] = SignalState.STOP
    (log,) = driven([car(streets, ["W", "through", "E"], 75.0, 13.0)], lights={"through": states})
    assert log[:30, 1].min() > 8.0


def test_who_has_to_give_way_waits():
    streets = crossing()
    through = car(streets, ["W", "through", "E"], 20.0, 12.0)
    joining = car(streets, ["S", "join", "E"], 55.0, 8.0)
    first, second = driven([through, joining])
    passed = int((first[:, 0] > 110.0).argmax())
    assert second[passed, 0] + front_of(EGO_SIZE[0]) < 91.0
    assert second[-1, 0] > 110.0
    assert first[:passed, 1].min() > 9.0  # who has priority does not brake


def test_a_stop_sign_makes_everybody_stop_once():
    streets = crossing()
    lanes = {key: dataclasses.replace(lane, stops=key == "join") for key, lane in streets.lanes.items()}
    streets = Streets(dataclasses.replace(streets.network, lanes=lanes))
    (log,) = driven([car(streets, ["S", "join", "E"], 30.0, 9.0)])
    assert log[:, 1].min() < 0.5
    assert log[-1, 0] > 110.0


def test_a_car_keeps_its_distance_and_stops_for_people():
    streets = crossing()
    # The network was moved to its middle: where the lane lies now.
    lane = streets.lanes["W"].centre
    walk = Curve.straight(lane[6, :2] + (0.0, 4.5), lane[6, :2] - (0.0, 4.5))
    s = np.clip(1.2 * (TIMES - 1.5), 0.0, walk.length)
    walker = Mover(
        ActorKind.PEDESTRIAN, (0.6, 0.6, 1.7), walk, s, np.where((s > 0) & (s < walk.length), 1.2, 0.0)
    )
    front, back = (car(streets, ["W", "through", "E"], at, 9.0) for at in (15.0, 0.0))
    logs = driven([front, back], [walker])
    assert logs[0][:, 1].min() < 1.0
    there = logs[0][:, 0] < 245.0  # its way is 250 m long
    assert (logs[0][:, 0] - logs[1][:, 0])[there].min() > EGO_SIZE[0]
    assert all(each.mover().clear_of([walker], (0.0, 0.0)) for each in (front, back))


def test_logged_cars_move_and_brake_no_harder_than_they_can(drives: list[Scenario]):
    moving = 0
    for drive in drives:
        tracks = drive.tracks
        speed = np.linalg.norm(tracks.velocity, axis=-1)
        moving += int((speed.max(1) > 2.0).sum())
        assert speed.max() < 40.0
        cars = (tracks.kind == ActorKind.VEHICLE)[:, None]
        hard = np.diff(speed, axis=1)[tracks.valid[:, 1:] & tracks.valid[:, :-1] & cars]
        assert hard.min() > -0.8  # -8 m/s^2
    assert moving > 16


def test_programs_repeat_their_phases():
    go, stop = SignalState.GO, SignalState.STOP
    program = SignalProgram("s", ("a", "b"), (Phase(4.0, (go, stop)), Phase(6.0, (stop, go))), offset=1.0)
    states = shown(program, np.array([0.0, 3.9, 4.1, 9.0, 10.1]), begin=1.0)
    assert states.tolist() == [[1, 1, 3, 3, 1], [3, 3, 1, 1, 3]]


# Sources


def test_street_drives_depend_on_their_number_alone_and_are_kept_with_the_run():
    few, many = (StreetDrives(count=count, length=120.0, duration=8.0, traffic=(0, 4)) for count in (1, 2))
    assert [drive.id for drive in few.load()] == [drive.id for drive in many.load()][:1]
    source = StreetDrives(places=("san_francisco +0 +0",), left_out=("san_francisco +0 +1",))
    assert serialise.from_json(serialise.to_json(source)) == source


def test_a_split_by_place_keeps_routes_apart():
    network = san_francisco()
    lanes = {
        name: StreetDrives(places=(name,))._streets()
        for name in ("san_francisco +0 +0", "san_francisco +0 +1")
    }
    for name, streets in lanes.items():
        for k in range(5):
            rng = np.random.default_rng([k])
            roads, share = streets.roads
            way = streets.draw(rng, roads[int(rng.choice(len(roads), p=share))], 200.0)
            assert {network.places[lane] for lane in way} == {name}
    with pytest.raises(UserError, match="no place"):
        StreetDrives(places=("san_fransisco +0 +0",)).load()
    with pytest.raises(UserError, match="no route"):
        StreetDrives(left_out=tuple(set(network.places.values()))).load()


def test_a_mixture_has_its_shares():
    roads = ProceduralRoads(count=2, traffic=(0, 0), duration=5.0)
    other = ProceduralRoads(count=9, seed=1, traffic=(0, 0), duration=5.0)
    mixture = Mixture((roads, other), (1.0, 3.0), 10)
    assert sum(mixture.counts) == 10
    assert mixture.counts in ((2, 8), (3, 7))
    drives = mixture.load()
    assert len({drive.id for drive in drives}) == 10
    assert Mixture((roads, other), (1e-6, 1.0), 4).counts == (1, 3)
    with pytest.raises(UserError, match="weight"):
        Mixture((roads,), (1.0, 2.0), 4)
    assert [drive.id for drive in Combined((roads, roads)).load()][2].endswith("#2")


def test_lengths_along_a_route_grow(drives: list[Scenario]):
    for drive in drives:
        assert drive.route is not None
        assert arc_length(drive.route)[-1] > 60.0
