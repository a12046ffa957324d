"""What nobody knows of a recording stays unknown: directions without geometry, drives that are none, places without a road."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from countersteer.data.cameras.log import LidarSweeps
from countersteer.data.readers import comma2k19, log123d, read
from countersteer.data.readers.assembly import heading_of
from countersteer.data.readers.lights import course_at
from countersteer.data.samples import recorded_drive
from countersteer.errors import UserError
from countersteer.evaluation import suites
from countersteer.evaluation.metrics.from_record import road_of_map
from countersteer.evaluation.metrics.navsim import score_epdms
from countersteer.geometry import polylines
from countersteer.geometry.cameras import Camera
from countersteer.reporting.drawing import draw_scenario
from countersteer.scenarios.routes import backed_up, forward_stretch, route_of_track
from countersteer.scenarios.scenario import MapFeature, MapKind, RoadMap, SignalState
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.vehicles.plans import Action
from countersteer.worlds.backend import Backend
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.simulation.spec import StartSpec
from recordings import kitti_poses
from test_scores_from_record import record, straight_road
from worlds import boxworld

COUNT, DT = 151, 0.1
TIME = np.arange(COUNT) * DT
EXACT = VehicleSpec((0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0))


def straight(x0: float = -60.0, x1: float = 400.0, y: float = 0.0) -> np.ndarray:
    return np.array([[x, y, 0.0] for x in np.arange(x0, x1, 5.0)])


def track(x: Any, y: Any, heading: Any, valid: Any = True) -> dict[str, Any]:
    x, y, heading = (np.broadcast_to(np.asarray(v, float), COUNT).copy() for v in (x, y, heading))
    state = {
        "position": np.stack([x, y, np.full(COUNT, 0.8)], 1),
        "heading": heading,
        "velocity": np.stack([np.gradient(x, DT), np.gradient(y, DT)], 1),
        "valid": np.broadcast_to(valid, COUNT).copy(),
        **{key: np.full(COUNT, value) for key, value in (("length", 4.6), ("width", 1.9), ("height", 1.6))},
    }
    return {"type": "VEHICLE", "state": state}


def scene(
    ego: dict[str, Any] | None = None, *, lane: Any = None, dataset: str = "made", **light: Any
) -> dict[str, Any]:
    """A ScenarioNet scene: a lane eastwards, an ego at 10 m/s, and a light at x = 50 if any of it is stated."""
    features = {
        "other": {"type": "LANE_SURFACE_STREET", "polyline": straight(y=0.0), "width": np.full((92, 2), 1.8)}
    }
    if lane is not None:
        features["L"] = {"type": "LANE_SURFACE_STREET", "polyline": np.asarray(lane, float)}
    state = light.pop("state", ["LANE_STATE_STOP"] * COUNT)
    lights = {"s": {"lane": "L", **light, "state": {"object_state": state}}} if light else {}
    return {
        "id": "scene",
        "version": "made",
        "length": COUNT,
        "metadata": {"sdc_id": "ego", "ts": TIME, "dataset": dataset},
        "tracks": {"ego": track(10 * TIME, 0, 0) if ego is None else ego},
        "map_features": features,
        "dynamic_map_states": lights,
    }


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    def from_file(content: dict[str, Any]) -> Any:
        path = tmp_path / "scene.pkl.gz"
        path.write_bytes(gzip.compress(pickle.dumps(content, protocol=4), 1))
        return read(path)

    return from_file


def said(scenario: Any, words: str) -> bool:
    return any(words in note for note in scenario.provenance.notes)


# Directions -------------------------------------------------------------------------------------------

STOP = (50.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "lane",
    [
        None,
        [STOP],
        [STOP, STOP],
        [STOP, STOP, STOP],
        [(40.0, 0.0, 0.0), STOP, (40.0, 0.0, 0.0)],
        [(0.0, 500.0, 0.0), (10.0, 500.0, 0.0)],
    ],
    ids=["none", "one point", "two equal", "three equal", "there and back", "elsewhere"],
)
def test_the_direction_of_a_light_without_a_lane_there_is_unknown(load: Any, lane: Any):
    scenario = load(scene(lane=lane, stop_point=np.array(STOP)))
    assert np.isnan(scenario.signals.heading).tolist() == [True]
    assert said(scenario, "1 traffic lights are of unknown direction")
    assert scenario.signals.stop_point[0, :2].tolist() == [50.0, 0.0]


def test_points_that_repeat_do_not_hide_a_direction(load: Any):
    lane = [(50.0, y, 0.0) for y in (-20.0, -10.0, 0.0, 0.0, 0.0, 0.0, 10.0)]
    scenario = load(scene(lane=lane, stop_point=np.array(STOP)))
    assert scenario.signals.heading.tolist() == pytest.approx([math.pi / 2])
    assert not said(scenario, "unknown direction")


@pytest.mark.parametrize(
    "stop",
    [None, np.full(3, np.nan), np.array([50.0, np.nan, 0.0]), np.zeros((COUNT, 3)), [None] * COUNT, []],
    ids=["none", "NaN", "half of it", "zeros", "list of nothing", "empty"],
)
def test_a_light_without_a_place_is_left_out(load: Any, stop: Any):
    lane = straight(y=40.0)  # none passes the origin
    content = scene(lane=lane, stop_point=stop)
    content["map_features"]["other"]["polyline"] = straight(y=80.0)
    scenario = load(content)
    assert scenario.signals.lane == ()
    assert said(scenario, "1 traffic lights state no place")


def test_a_stop_point_at_the_origin_of_a_lane_through_it_is_one(load: Any):
    scenario = load(scene(lane=straight(), stop_point=np.zeros(3)))
    assert scenario.signals.heading.tolist() == [0.0]


def test_lights_in_json_are_known_as_far_as_their_geometry(tmp_path: Path):
    point = [{"x": 10.0 * t, "y": 0.0} for t in TIME]
    car = {"position": point, "velocity": [{"x": 10.0, "y": 0.0}] * COUNT, "heading": [0.0] * COUNT}
    car |= {"type": "vehicle", "width": 2.0, "length": 4.5, "valid": [True] * COUNT}
    lane = {"id": 1, "type": "lane", "geometry": [{"x": float(x), "y": 0.0} for x in range(0, 200, 5)]}
    light = {"state": ["stop"], "x": [50.0], "y": [0.0], "time_index": [0]}
    lights = {
        "1": light,
        "2": light,
        "3": {**light, "x": [float("nan")]},
        "4": {**light, "x": [0.0], "y": [0.0]},
    }
    content = {"name": "made", "objects": [car], "roads": [lane], "tl_states": lights}
    path = tmp_path / "scene.json"
    path.write_text(json.dumps(content))
    scenario = read(path)
    assert scenario.signals.lane == ("1", "2", "4")  # the lane passes the origin, so 4 may be there
    assert np.isnan(scenario.signals.heading).tolist() == [False, True, True]
    assert said(scenario, "1 traffic lights state no place")


def test_lights_of_bicycle_lanes_are_not_for_cars(load: Any, tmp_path: Path):
    """The lane is left out of the map; its light, of unknown direction then, must not stop who passes its place."""
    made = scene(stop_point=STOP)
    made["map_features"]["L"] = {"type": "LANE_BIKE_LANE", "polyline": straight(y=1.5)}
    point = [{"x": 10.0 * t, "y": 0.0} for t in TIME]
    car = {"position": point, "velocity": [{"x": 10.0, "y": 0.0}] * COUNT, "heading": [0.0] * COUNT}
    car |= {"type": "vehicle", "width": 2.0, "length": 4.5, "valid": [True] * COUNT}
    lane = {"id": 1, "type": "lane", "geometry": [{"x": float(x), "y": 0.0} for x in range(0, 200, 5)]}
    light = {"state": ["stop"], "x": [50.0], "y": [0.0], "time_index": [0]}
    content = {"name": "made", "objects": [car], "roads": [lane, {**lane, "id": 2, "map_element_id": 3}]}
    path = tmp_path / "scene.json"
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps({**content, "tl_states": {"1": light, "2": light}}).encode()
    )
    for drive, lanes in ((load(made), ()), (read(path), ("1",))):
        assert drive.signals.lane == lanes
        assert said(drive, "1 traffic lights of bicycle lanes left out")


def test_flags_that_are_neither_true_nor_false_are_refused(load: Any):
    made = scene()
    made["tracks"]["ego"]["state"]["valid"] = np.where(TIME > 1, 1.0, np.nan)
    with pytest.raises(UserError, match="valid has a flag that is neither"):
        load(made)


def test_a_lane_may_be_as_long_as_its_file_says(load: Any):
    """Two points 18,000 km apart take no more time than a lane of the town."""
    near, far = scene(), scene()
    x = np.array([[-9e6, 0.0, 0.0], [9e6, 0.0, 0.0]])
    far["map_features"]["other"] = {"type": "LANE_SURFACE_STREET", "polyline": x}
    assert np.abs(load(near).route - load(far).route).max() < 1e-6


def test_headings_go_on_where_points_repeat_and_are_unknown_without_length():
    line = np.array([[0, 0], [0, 0], [0, 0], [0, 5], [0, 5], [0, 5], [0, 9], [0, 9], [0, 9]], float)
    assert polylines.headings(line) == pytest.approx(np.full(9, math.pi / 2))
    assert np.isnan(polylines.headings(np.zeros((3, 2)))).all()
    assert polylines.offset(line, 1.0)[:, 0] == pytest.approx(np.full(9, -1.0))
    assert len(polylines.distinct(line)) == 3
    assert len(polylines.distinct(np.zeros((0, 2)))) == 0


def test_an_axis_that_points_up_has_no_heading():
    assert heading_of(Path("here"), np.array([[0.0, 2.0, 0.3]])).tolist() == pytest.approx([math.pi / 2])
    for axis in ((0.0, 0.0, 1.0), (0.05, 0.0, -1.0)):
        with pytest.raises(UserError, match="has no heading"):
            heading_of(Path("here"), np.array([axis]))


def test_lanes_without_length_are_no_lanes_to_scores_and_worlds():
    dot = MapFeature("dot", MapKind.LANE, np.array([[5.0, 0.0, 0.0]] * 3), width=4.0)
    ends = MapFeature("ends", MapKind.LANE, np.array([[0, 0, 0], [50, 0, 0], [50, 0, 0], [50, 0, 0]], float))
    road = road_of_map(RoadMap((dot, ends)))
    assert [lane.id for lane in road.lanes] == ["ends"]
    assert road.lanes[0].area[:, 1] == pytest.approx([-1.8, -1.8, 1.8, 1.8])
    assert math.isnan(course_at([dot], "dot", np.array([5.0, 0.0])))


@pytest.mark.parametrize("backend", [Backend.KERNEL, Backend.TORCH])
def test_a_light_of_unknown_direction_is_judged_by_its_place(load: Any, backend: Backend):
    ran = []
    for lane, aside in ((straight(), 0.0), (None, 0.0), (None, 3.0)):
        one = load(scene(lane=lane, stop_point=np.array([25.0, aside, 0.0])))
        start = StartSpec(lateral=0.0, heading=0.0, speed=0.0)
        spec = boxworld(vehicle=EXACT, start=start, backend=backend, cameras=(Camera(width=32, height=16),))
        spec = dataclasses.replace(spec, sensors=(*spec.sensors, VectorSpec()))
        world = spec.build([one], 1, seed=0)
        row = torch.arange(1)
        world.reset(torch.ones(1, dtype=torch.bool), world.starts_at(row, row * 0, row, jitter=False))
        seen = world.observe()
        assert all(bool(torch.isfinite(reading.data.float()).all()) for reading in seen.sensors.values())
        gap = float(world.truth().stop_gap)
        events = []
        for _ in range(40):
            motion = world.motion()
            events.append(bool(world.step(Action(motion.curvature, 8.0 - motion.speed)).red_light.any()))
        ran.append((gap, events))
    assert ran[0] == ran[1]
    assert sum(ran[0][1]) == 1
    assert not any(ran[2][1])


def test_a_light_of_unknown_direction_closes_the_lane_that_passes_it():
    driven = record(straight_road())
    course = driven.heading[0]
    left = np.array([-np.sin(course), np.cos(course)])
    state = np.full((1, len(driven.scenario.times)), int(SignalState.STOP))

    def lit(aside: float) -> Any:
        stop = np.append(driven.position[20] + aside * left, 0.0)[None]
        signals = dataclasses.replace(
            driven.scenario.signals, lane=("x",), stop_point=stop, heading=np.array([np.nan]), state=state
        )
        scenario = dataclasses.replace(driven.scenario, signals=signals)
        draw_scenario(scenario, 0.5, pixels=200)
        return dataclasses.replace(driven, scenario=scenario)

    from countersteer.evaluation.metrics.from_record import drive_of_record

    assert score_epdms(drive_of_record(lit(0.0))).parts.traffic_light == 0.0
    assert score_epdms(drive_of_record(lit(3.6))).parts.traffic_light == 1.0


# Egos that do not drive forward -----------------------------------------------------------------------


def arc(
    x: float, y: float, heading: float, way: float, radius: float, count: int
) -> list[tuple[float, float, float]]:
    """Rear axles of a car that drives (or backs, `way` < 0) along a circle."""
    found = []
    for _ in range(count):
        heading += way / count / radius
        x, y = x + way / count * math.cos(heading), y + way / count * math.sin(heading)
        found.append((x, y, heading))
    return found


def backing_out() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Back out of a bay, nose north and swinging east, then east."""
    states = [(0.0, -0.2 * k, math.pi / 2) for k in range(30)]
    states += arc(*states[-1], -6 * math.pi / 2, 6.0, 50)
    x, y, heading = states[-1]
    states += [(x + 0.6 * k, y, heading) for k in range(1, COUNT - len(states) + 1)]
    x, y, turn = np.array(states).T
    lever = 0.2823 * 4.6
    return x + lever * np.cos(turn), y + lever * np.sin(turn), turn


NOISE = np.random.default_rng(0)
BACK_THEN_ON = np.where(TIME < 5, -4 * TIME, np.where(TIME < 6, -20.0, -20 + 10 * (TIME - 6)))
FORTH_BACK_FORTH = np.where(
    TIME < 5, 10 * TIME, np.where(TIME < 8, 50 - 4 * (TIME - 5), 38 + 10 * (TIME - 8))
)
SPOT = np.where(TIME < 5, math.pi / 2 * (1 - TIME / 5), 0.0)


@pytest.mark.parametrize(
    ("x", "y", "heading", "begins", "ends"),
    [
        (*backing_out(), 7.9, 15.0),
        (BACK_THEN_ON, 0, 0, 5.9, 15.0),
        (FORTH_BACK_FORTH, 0, 0, 8.0, 15.0),
        (np.where(TIME < 10, 10 * TIME, 100 - 3 * (TIME - 10)), 0, 0, 0.0, 10.0),
        (np.where(TIME < 5, 0, 8 * (TIME - 5)), 0, SPOT, 4.4, 15.0),
        (
            np.where(TIME < 3, 0, 8 * (TIME - 3)) + NOISE.normal(0, 0.03, COUNT),
            NOISE.normal(0, 0.03, COUNT),
            0,
            0,
            15.0,
        ),
        (np.where(TIME < 5, -1.5 * np.sin(TIME * math.pi / 5), 8 * (TIME - 5)), 0, 0, 0.0, 15.0),
    ],
    ids=[
        "backs out",
        "backs first",
        "backs between",
        "backs last",
        "turns on the spot",
        "waits",
        "rolls back",
    ],
)
def test_a_drive_is_the_part_of_a_recording_that_is_driven_forward(
    load: Any, x: Any, y: Any, heading: Any, begins: float, ends: float
):
    scenario = load(scene(track(x, y, heading)))
    assert scenario.duration == pytest.approx(ends - begins, abs=0.25)
    assert said(scenario, "backs up or turns on the spot") == (begins > 0 or ends < 15)
    step = scenario.route[1] - scenario.route[0]
    course = math.atan2(step[1], step[0])
    assert abs(course) < math.radians(12)
    assert abs(scenario.tracks.heading[0, 0] - course) < math.radians(12)
    assert np.hypot(*(scenario.tracks.position[0, 0, :2] - scenario.route[0])) < 1.8


def test_headings_of_a_standing_car_may_be_noise(load: Any):
    x = np.where(TIME < 5, 8 * TIME, np.where(TIME < 9, 40, 40 + 8 * (TIME - 9)))
    noise = np.where((TIME > 5.3) & (TIME < 8.7), NOISE.uniform(-3, 3, COUNT), 0.0)
    assert load(scene(track(x, 0, noise))).duration == pytest.approx(15.0)
    still = NOISE.normal(0, 0.05, (2, COUNT))
    scenario = load(scene(track(*still, NOISE.uniform(-3, 3, COUNT))))
    assert scenario.duration == pytest.approx(15.0)
    assert said(scenario, "the ego stands")


def test_an_ego_that_only_backs_up_has_a_route_ahead_and_says_so(load: Any):
    scenario = load(scene(track(-5 * TIME, 0, 0)))
    assert said(scenario, "the ego never drives forward")
    assert scenario.route[-1, 0] - scenario.route[0, 0] == pytest.approx(20.0)
    tracks = scenario.tracks
    whole = (tracks.position[0, :, :2], tracks.heading[0], tracks.valid[0], 4.6)
    assert backed_up(*whole) == pytest.approx(75.0)
    assert forward_stretch(*whole) == (0, 0) or forward_stretch(*whole)[0] == 0
    assert route_of_track(*whole, [])[1] == tuple(n for n in scenario.provenance.notes if "never" in n)


def test_a_drive_begins_when_its_ego_is_first_seen(load: Any):
    scenario = load(scene(track(10 * TIME, 0, 0, valid=TIME > 4.95)))
    assert scenario.duration == pytest.approx(10.0)
    assert said(scenario, "the first 5.0 s are left out: the ego is not seen yet")
    assert bool(scenario.tracks.valid[0].all())
    assert scenario.tracks.velocity[0, 0].tolist() == pytest.approx([10.0, 0.0])
    last = load(scene(track(10 * TIME, 0, 0, valid=TIME > 14.95)))
    assert last.duration == pytest.approx(15.0)  # a single moment is no drive: kept as it is


@pytest.mark.parametrize(
    ("x", "counts", "reason"),
    [(10 * TIME, True, ""), (0 * TIME, None, "moves 0.0 m"), (-5 * TIME, None, "backs up 75 m")],
    ids=["drives", "stands", "backs up"],
)
def test_a_recording_that_is_not_driven_forward_does_not_count(load: Any, x: Any, counts: Any, reason: str):
    scenario = load(scene(track(x, 0, 0)))
    driven = record(straight_road(), ticks=COUNT)
    driven = dataclasses.replace(driven, scenario=scenario, arc=10 * TIME)
    result = suites._recorded_rule(suites.Case("a", scenario), driven)
    assert result.passed is counts
    assert (reason in result.reason) if reason else result.reason == ""


def test_a_route_has_to_have_a_length():
    road = straight_road()
    with pytest.raises(UserError, match="the route has no length"):
        dataclasses.replace(road, route=np.zeros((3, 2)))


# Where nothing was built ------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [Backend.KERNEL, Backend.TORCH])
def test_a_drive_ends_where_its_route_ends(load: Any, backend: Backend):
    """The log stops at 40 m, the mapped road goes on: no corner leaves the road 80 m behind the route."""
    x = np.where(TIME < 2, 10 * TIME, np.where(TIME < 6, 20 + 10 * (TIME - 2) - 1.25 * (TIME - 2) ** 2, 40))
    scenario = load(scene(track(x, 0, 0)))
    spec = boxworld(
        vehicle=EXACT,
        start=StartSpec(lateral=0.0, heading=0.0, speed=0.0),
        terminate=(TerminationReason.OFF_ROUTE, TerminationReason.INVALID_STATE),
        backend=backend,
    )
    world = spec.build([scenario], 1, seed=0)
    row = torch.arange(1)
    world.reset(torch.ones(1, dtype=torch.bool), world.starts_at(row, row * 0, row, jitter=False))
    off = False
    for _ in range(150):
        events = world.step(Action(torch.zeros(1, 1), 20.0 - world.motion().speed))
        off |= bool(events.off_road.any())
        if bool(events.truncated.any()):
            break
    assert int(world.state.simulation.age) < 100
    assert int(events.cause) == int(TerminationReason.GOAL)
    assert float(world.truth().arc) == pytest.approx(float(world.routes().length), abs=2.0)
    assert not off


# What a file is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({}, False),
        ({"name": "Town01"}, False),
        ({"scenario_id": "waymo"}, False),
        ({"scenario_id": "1a146468873b7871"}, False),
        ({"name": "tfrecord-00012-of-00150_4.json"}, True),
    ],
)
def test_json_is_of_waymo_only_if_it_says_of_which_file(tmp_path: Path, change: dict[str, str], known: bool):
    point = [{"x": 10.0 * t, "y": 0.0} for t in TIME]
    car = {"position": point, "velocity": [{"x": 10.0, "y": 0.0}] * COUNT, "heading": [0.0] * COUNT}
    car |= {"type": "vehicle", "width": 2.0, "length": 4.5, "valid": [True] * COUNT}
    path = tmp_path / "tfrecord-00000-of-01000_1.json"  # a name that anybody may give
    path.write_text(json.dumps({"name": "made", "objects": [car], "roads": [], **change}))
    about = read(path).provenance
    assert ("Waymo" in about.source) is known
    assert (about.licence == "unknown") is not known


@pytest.mark.parametrize(
    ("stated", "licence"),
    [
        ({"dataset": "waymo"}, "Waymo Dataset License Agreement for Non-Commercial Use"),
        ({"dataset": "made"}, "unknown"),
        ({"dataset": "waymo-like"}, "unknown"),
        ({"coordinate": "waymo"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_system_of_coordinates_is_no_data_set(load: Any, stated: dict[str, str], licence: str):
    content = scene()
    del content["metadata"]["dataset"]
    content["metadata"] |= stated
    about = load(content).provenance
    assert about.licence == licence
    assert ("waymo" in about.source) is (stated.get("dataset", "").startswith("waymo"))


def test_forms_that_others_write_are_of_nobody_known(tmp_path: Path):
    path = tmp_path / "poses.txt"
    path.write_text(kitti_poses(ahead=0.95, height=1.65))
    assert read(path).provenance.licence == "unknown"
    sample = recorded_drive()
    assert (sample.provenance.source, sample.provenance.licence) == ("comma2k19", "MIT")
    assert not comma2k19.of_data_set(np.array([[4_075_000.0, 931_000.0, 4_801_000.0]]))  # Munich
    assert log123d.LICENCES.keys() == {name.split("-")[0] for name in log123d.LICENCES}


# Lights as ScenarioNet's converters write them --------------------------------------------------------

WORDS = ["LANE_STATE_STOP"] * 100 + ["LANE_STATE_GO"] * 51
NUMBERS = [4] * 100 + [6] * 51


@pytest.mark.parametrize(
    ("state", "dataset"),
    [
        (WORDS, "made"),
        (tuple(WORDS), "made"),
        (np.array(WORDS), "made"),
        (np.array(WORDS, object), "made"),
        (np.array([word.encode() for word in WORDS]), "made"),
        (["TRAFFIC_LIGHT_RED"] * 100 + ["TRAFFIC_LIGHT_GREEN"] * 51, "nuplan"),
        (NUMBERS, "waymo"),
        (np.array(NUMBERS, np.int32), "waymo"),
        (np.array(NUMBERS, float), "waymo"),
    ],
    ids=["list", "tuple", "array", "objects", "bytes", "MetaDrive's", "numbers", "int32", "floats"],
)
def test_states_of_lights_are_read_in_every_shape(load: Any, state: Any, dataset: str):
    scenario = load(scene(lane=straight(), stop_point=np.array(STOP), state=state, dataset=dataset))
    assert scenario.signals.state[0].tolist() == [int(SignalState.STOP)] * 100 + [int(SignalState.GO)] * 51
    assert not said(scenario, "no known meaning")


def test_what_is_stated_for_every_step_and_not_at_some_is_read(load: Any):
    stops, lanes = np.zeros((COUNT, 3), np.float32), np.zeros(COUNT, np.int32)
    stops[20:], lanes[20:] = STOP, 7
    content = scene(dataset="waymo", stop_point=stops, state=np.array([0] * 20 + [4] * 131, np.int32))
    light = content["dynamic_map_states"]["s"]
    light["state"] |= {"stop_point": light.pop("stop_point"), "lane": lanes}
    del light["lane"]
    content["map_features"]["7"] = {"type": "LANE_SURFACE_STREET", "polyline": straight()}
    scenario = load(content)
    assert scenario.signals.lane == ("7",)
    assert scenario.signals.heading.tolist() == [0.0]
    assert scenario.signals.stop_point[0, :2].tolist() == [50.0, 0.0]
    assert scenario.signals.state[0].tolist() == [0] * 20 + [3] * 131


def test_numbers_of_no_known_meaning_are_unknown_states(load: Any):
    for state in ([4] * COUNT, ["PURPLE"] * COUNT):
        scenario = load(scene(lane=straight(), stop_point=np.array(STOP), state=state))
        assert not scenario.signals.state.any()
        assert said(scenario, "states of 1 traffic lights have no known meaning")


@pytest.mark.parametrize(
    "state", [np.zeros((COUNT, 2)), np.float64(4.0), ["LANE_STATE_STOP"], [{}] * COUNT, "STOP"]
)
def test_states_that_are_none_are_refused(load: Any, state: Any):
    with pytest.raises(UserError):
        load(scene(lane=straight(), stop_point=np.array(STOP), state=state, dataset="waymo"))


# Laser points -----------------------------------------------------------------------------------------


def test_rays_that_did_not_come_back_are_no_points():
    stored = np.array(
        [[1.0, 2.0, 3.0], [np.nan] * 3, [4.0, np.nan, 0.0], [np.inf, 0.0, 0.0], [5.0, 6.0, 7.0]]
    )
    sweeps = LidarSweeps(np.zeros(1), np.eye(4), lambda number: stored)
    assert sweeps.read(0).tolist() == [[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]]
    again = dataclasses.replace(sweeps, times=np.ones(1))
    assert again.read is sweeps.read
