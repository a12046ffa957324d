"""What contradicts how actors move is converted, mended, cut or refused, with a note, whatever format states it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from countersteer.data.readers import comma2k19, read
from countersteer.data.readers.physics import key_frame_interval
from countersteer.data.readers.units import Motion
from countersteer.errors import UserError
from countersteer.scenarios.scenario import Scenario
from recordings import (
    COUNT,
    argoverse_motion,
    argoverse_sensor,
    ego_heading,
    ego_path,
    kitti_poses,
    lyft,
    write_feather,
)
from test_readers import SAMPLE, small_json, small_scene, write_comma, write_json, write_pickle

KMH, MPH, FOOT = 3.6, 1 / 0.44704, 1 / 0.3048


def traffic(count: int = 60, dt: float = 0.1) -> dict:
    """A ScenarioNet scene: the ego turns left, five cars drive other ways, one stands, on lanes along them."""
    scene = small_scene()
    scene["metadata"]["ts"] = np.arange(count) * dt
    scene["length"] = count
    scene["dynamic_map_states"] = {}
    t = np.arange(count) * dt
    tracks = {}
    lanes = {}
    for number in range(7):
        speed = 0.0 if number == 6 else 8.0 + 2 * np.sin(t / 3 + number)
        turn = 0.1 * number + (0.15 * t if number == 0 else 0.9 * number + 0.0 * t)
        velocity = np.stack([np.cos(turn), np.sin(turn)], -1) * np.reshape(speed, (-1, 1))
        velocity = np.broadcast_to(velocity, (count, 2))
        where = np.concatenate([np.zeros((1, 2)), np.cumsum((velocity[1:] + velocity[:-1]) / 2 * dt, 0)])
        where = where + np.array([5000.0, -3000.0 + 40 * number])
        heading = np.broadcast_to(turn, (count,))
        tracks[str(number)] = {
            "type": "VEHICLE",
            "state": {
                "position": np.column_stack([where, np.full(count, 10.0)]),
                "heading": heading.astype(float),
                "velocity": velocity.copy(),
                "valid": np.ones(count, bool),
                **{k: np.full(count, v) for k, v in (("length", 4.6), ("width", 1.9), ("height", 1.6))},
            },
        }
        ahead = np.stack([np.cos(heading), np.sin(heading)], -1)
        points = where[0] + np.arange(-20.0, 60.0, 4.0)[:, None] * ahead[0]
        if number == 0:
            beyond = np.arange(4.0, 60.0, 4.0)[:, None]
            points = np.concatenate(
                [where[0] - beyond[::-1] * ahead[0], where[::4], where[-1] + beyond * ahead[-1]]
            )
        lanes[f"lane{number}"] = {
            "type": "LANE_SURFACE_STREET",
            "polyline": np.column_stack([points, np.full(len(points), 9.2)]),
            "width": np.full((len(points), 2), 1.8),
            "speed_limit_kmh": 50.0,
        }
    scene["tracks"], scene["map_features"] = tracks, lanes
    scene["metadata"]["sdc_id"] = "0"
    return scene


def states(scene: dict) -> list[dict]:
    return [track["state"] for track in scene["tracks"].values()]


def scaled(scene: dict, **factors: float) -> dict:
    """A scene with fields of all states multiplied; `map` stands for the map's points and widths."""
    scene = copy.deepcopy(scene)
    for name, factor in factors.items():
        if name == "ts":
            scene["metadata"]["ts"] = scene["metadata"]["ts"] * factor
        elif name == "map":
            for lane in scene["map_features"].values():
                lane["polyline"], lane["width"] = lane["polyline"] * factor, lane["width"] * factor
        else:
            for state in states(scene):
                state[name] = state[name] * factor
    return scene


def reading(tmp_path: Path, scene: dict) -> Scenario:
    return read(write_pickle(tmp_path / "a.pkl", scene))


def said(drive: Scenario, words: str) -> str:
    """The one note that holds these words."""
    found = [note for note in drive.provenance.notes if words in note]
    assert len(found) == 1, drive.provenance.notes
    return found[0]


def same_motion(drive: Scenario, other: Scenario, within: float = 1e-6) -> None:
    assert drive.times == pytest.approx(other.times)
    for name in ("position", "velocity", "heading", "size"):
        mine, theirs = getattr(drive.tracks, name), getattr(other.tracks, name)
        if name == "position":
            mine, theirs = mine - mine[0, 0], theirs - theirs[0, 0]
        assert np.abs(mine - theirs).max() < within, name


def doubts(drive: Scenario) -> list[str]:
    usual = ("moved so", "route", "no times", "bicycle", "no map", "of other types")
    return [note for note in drive.provenance.notes if not any(word in note for word in usual)]


# Units ------------------------------------------------------------------------------------------------


def test_a_sound_scene_has_no_doubts(tmp_path: Path):
    assert doubts(reading(tmp_path, traffic())) == []


@pytest.mark.parametrize(
    ("factor", "unit"), [(1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")]
)
@pytest.mark.parametrize("epoch", [0.0, 1.5e9])
def test_units_of_time(tmp_path: Path, factor: float, unit: str, epoch: float):
    """Times from zero and from 1970, as floats and as whole numbers."""
    scene = traffic()
    stamps = (scene["metadata"]["ts"] + epoch) * factor
    for ts in (stamps, np.round(stamps).astype(np.int64)):
        changed = copy.deepcopy(scene)
        changed["metadata"]["ts"] = ts
        drive = reading(tmp_path, changed)
        said(drive, f"times are in {unit}")
        same_motion(drive, reading(tmp_path, scene), within=1e-4)
    unmoved = scaled(scene, velocity=0.0)
    for state in states(unmoved):
        state["position"][:] = state["position"][0]
    assert reading(tmp_path, scaled(unmoved, ts=1e3)).times[-1] == pytest.approx(5.9), (
        "standing says nothing else"
    )


def test_slow_recordings_are_no_other_unit(tmp_path: Path):
    """Ten seconds a step are not 10 ms when somebody moved 80 m in them."""
    scene = scaled(traffic(), ts=100.0)
    for state in states(scene):
        state["position"] = state["position"][0] + (state["position"] - state["position"][0]) * 100
    assert reading(tmp_path, scene).times[1] == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("factors", "says"),
    [
        ({"velocity": KMH}, "velocities are in km/h"),
        ({"velocity": MPH}, "velocities are in mph"),
        ({"velocity": FOOT}, "velocities are in feet per second"),
        ({"velocity": 100.0}, "velocities are in cm/s"),
        ({"velocity": 1000.0}, "velocities are in mm/s"),
        ({"position": 100.0, "map": 100.0}, "positions are in cm"),
        ({"position": FOOT, "map": FOOT}, "positions are in feet"),
        (
            {"position": 100.0, "map": 100.0, "length": 100, "width": 100, "height": 100},
            "positions and sizes are in cm",
        ),
        (
            {"position": 100.0, "map": 100.0, "length": 100, "width": 100, "height": 100, "velocity": 100.0},
            "lengths and speeds are in cm",
        ),
        ({"length": 100.0, "width": 100.0, "height": 100.0}, "sizes are in cm"),
        ({"velocity": 0.0}, "are zero in the source although they move"),
    ],
)
def test_units_of_length_and_speed(tmp_path: Path, factors: dict, says: str):
    scene = traffic()
    drive = reading(tmp_path, scaled(scene, **factors))
    said(drive, says)
    sound = reading(tmp_path, scene)
    same_motion(drive, sound, within=0.1 if factors.get("velocity") == 0.0 else 1e-6)
    lanes = zip(drive.road.features, sound.road.features, strict=True)
    assert all(mine.points == pytest.approx(theirs.points, abs=0.6) for mine, theirs in lanes)
    assert drive.lane_width == pytest.approx(3.6)


@pytest.mark.parametrize(
    "factors",
    [
        {"ts": 10.0},
        {"ts": 0.5},
        {"velocity": 5.0},
        {"position": 1e-3, "map": 1e-3},
        {"length": FOOT, "width": FOOT, "height": FOOT},
        {"position": FOOT, "map": FOOT, "velocity": FOOT, "length": FOOT, "width": FOOT, "height": FOOT},
    ],
)
def test_units_that_cannot_be_told_are_refused(tmp_path: Path, factors: dict):
    """No known unit; or feet in town, where 8 m/s and 26 feet per second are both a car's speed."""
    with pytest.raises(UserError, match=r"in the same units|look like feet") as caught:
        reading(tmp_path, scaled(traffic(), **factors))
    assert caught.value.got
    assert caught.value.fix


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.degrees, "in degrees in"),
        (lambda h: np.degrees(h) % 360, "in degrees in"),
        (lambda h: np.pi / 2 - h, "clockwise from north"),
        (lambda h: (90 - np.degrees(h)) % 360, "in degrees clockwise from north"),
        (lambda h: -h, "clockwise from +x"),
        (lambda h: h - np.pi / 2, "counter-clockwise from north"),
    ],
)
def test_units_of_angle(tmp_path: Path, given: Callable, says: str):
    scene = traffic()
    changed = copy.deepcopy(scene)
    for state in states(changed):
        state["heading"] = given(state["heading"])
    drive = reading(tmp_path, changed)
    assert says in said(drive, "headings are")
    same_motion(drive, reading(tmp_path, scene))


@pytest.mark.parametrize(
    ("factor", "says"), [(200 / np.pi, "in gradians"), (3200 / np.pi, "in mils"), (0.5 / np.pi, "in turns")]
)
@pytest.mark.parametrize("north", [False, True])
def test_rare_units_of_angle(tmp_path: Path, factor: float, says: str, north: bool):
    """Gradians are a tenth beside degrees, which fit badly then."""
    scene = traffic()
    changed = copy.deepcopy(scene)
    for state in states(changed):
        state["heading"] = (np.pi / 2 - state["heading"] if north else state["heading"]) * factor
    drive = reading(tmp_path, changed)
    assert (says + " clockwise from north" if north else says) in said(drive, "headings are")
    same_motion(drive, reading(tmp_path, scene))


@pytest.mark.parametrize(("unit", "factor"), [("km/h", KMH), ("mph", MPH), ("cm/s", 100.0)])
@pytest.mark.parametrize("whose", [["0"], ["1", "2", "3", "4", "5"]])
def test_one_source_of_two_states_speeds_in_another_unit(
    tmp_path: Path, unit: str, factor: float, whose: list[str]
):
    """An ego's speed from its bus, beside others' from a tracker; whichever of them is right."""
    scene = traffic()
    changed = copy.deepcopy(scene)
    for name in whose:
        changed["tracks"][name]["state"]["velocity"] *= factor
    drive = reading(tmp_path, changed)
    assert f"velocities of {len(whose)} of 7 actors are in {unit}" in said(drive, "unlike")
    same_motion(drive, reading(tmp_path, scene))


@pytest.mark.parametrize(
    ("given", "says"), [(np.degrees, "in degrees"), (lambda h: np.pi / 2 - h, "clockwise from north")]
)
def test_one_source_of_two_states_headings_otherwise(tmp_path: Path, given: Callable, says: str):
    scene = traffic()
    changed = copy.deepcopy(scene)
    changed["tracks"]["0"]["state"]["heading"] = given(scene["tracks"]["0"]["state"]["heading"])
    drive = reading(tmp_path, changed)
    assert f"headings of 1 of 7 actors are {says}" in said(drive, "unlike")
    same_motion(drive, reading(tmp_path, scene))


@pytest.mark.parametrize("factor", [1e-3, 9e-6])
def test_a_standing_scene_in_degrees_or_kilometres_is_told_by_its_map(tmp_path: Path, factor: float):
    scene = scaled(traffic(), position=factor, map=factor, velocity=0.0)
    for state in states(scene):
        state["position"][:] = state["position"][0]
    with pytest.raises(UserError, match="the map is not in metres"):
        reading(tmp_path, scene)


def test_headings_of_one_road_are_told_by_those_who_stand_on_lanes(tmp_path: Path):
    """All drive north-east, where 45 degrees is 45 either way; a car that waits on a lane going east decides."""

    def north_east(stands: float) -> dict:
        scene = traffic()
        for name, track in scene["tracks"].items():
            state, turn = track["state"], 0.0 if name == "6" else np.pi / 4
            speed = np.linalg.norm(state["velocity"], axis=1)[:, None]
            state["velocity"] = speed * np.array([np.cos(turn), np.sin(turn)])
            state["position"][:, :2] = state["position"][0, :2] + np.cumsum(state["velocity"] * 0.1, 0)
            state["heading"][:] = stands if name == "6" else 45.0
            lane = scene["map_features"][f"lane{name}"]
            along = np.arange(-20.0, 60.0, 4.0)[:, None] * np.array([np.cos(turn), np.sin(turn)])
            lane["polyline"] = np.column_stack([state["position"][0, :2] + along, np.full(20, 9.2)])
            lane["width"] = np.full((20, 2), 1.8)
        return scene

    for stands, says in ((0.0, "headings are in degrees in"), (90.0, "degrees clockwise from north")):
        drive = reading(tmp_path, north_east(stands))
        assert said(drive, says)
        assert drive.tracks.heading[6] == pytest.approx(0.0, abs=1e-9)
    scene = north_east(10.0)
    scene["map_features"] = {}
    with pytest.raises(UserError, match="cannot be told how headings are given"):
        reading(tmp_path, scene)


def test_velocities_in_the_actors_own_frames(tmp_path: Path):
    scene = traffic()
    changed = copy.deepcopy(scene)
    for state in states(changed):
        speed = np.linalg.norm(state["velocity"], axis=1)
        state["velocity"] = np.stack([speed, np.zeros(len(speed))], -1)
    drive = reading(tmp_path, changed)
    said(drive, "do not point where the actors go")
    same_motion(drive, reading(tmp_path, scene), within=0.2)


def test_a_car_that_reverses_is_left_alone(tmp_path: Path):
    scene = traffic()
    for name, track in scene["tracks"].items():
        if name == "0":
            track["state"]["heading"] = track["state"]["heading"] + np.pi
    drive = reading(tmp_path, scene)
    assert drive.tracks.heading[1] == pytest.approx(reading(tmp_path, traffic()).tracks.heading[1])


# The same in other formats ----------------------------------------------------------------------------


def edit_feather(path: Path, edit: Callable[[dict], None]) -> None:
    columns = {name: np.array(values) for name, values in feather.read_table(path).to_pydict().items()}
    edit(columns)
    write_feather(path, columns)


def kitti(folder: Path, times: np.ndarray) -> Path:
    (folder / "drive").mkdir(parents=True)
    path = folder / "drive" / "poses.txt"
    path.write_text(kitti_poses(ahead=0.0, height=1.65))
    (path.parent / "times.txt").write_text("".join(f"{time:.9e}\n" for time in times))
    return path


def test_milliseconds_in_every_clock(tmp_path: Path):
    """KITTI's and comma's times in ms, Lyft's microseconds where nanoseconds belong."""
    drives = [read(kitti(tmp_path / unit, np.arange(COUNT) * dt)) for unit, dt in (("s", 0.1), ("ms", 100.0))]
    same_motion(drives[1], drives[0])
    said(drives[1], "milliseconds")
    times = np.load(SAMPLE / "global_pose" / "frame_times.npy")
    drive = read(write_comma(tmp_path / "segment", times=(times - times[0]) * 1000))
    sound = read(write_comma(tmp_path / "sound"))
    said(drive, "milliseconds")
    same_motion(drive, sound)
    folder = lyft(tmp_path / "a.zarr")
    from countersteer.data.readers.zarr_array import ZarrArray
    from recordings import write_zarr

    sound = read(folder)
    frames = ZarrArray(folder / "frames").rows(0, COUNT).copy()
    frames["timestamp"] //= 1000
    write_zarr(folder / "frames", frames, 40)
    drive = read(folder)
    said(drive, "thousands of what the format says")
    same_motion(drive, sound, within=1e-4)


def test_motion_in_compass_headings_and_degrees(tmp_path: Path):
    folder = argoverse_motion(tmp_path / "log", lever=1.4)
    file = folder / "scenario_small.parquet"
    table = pq.read_table(file)
    sound = read(folder)
    for given, says in (
        (lambda h: 90 - np.degrees(h), "clockwise from north"),
        (np.degrees, "in degrees in"),
    ):
        heading = given(table.column("heading").to_numpy())
        at = table.column_names.index("heading")
        pq.write_table(table.set_column(at, "heading", [heading]), file)
        drive = read(folder)
        said(drive, says)
        assert drive.tracks.heading == pytest.approx(sound.tracks.heading)


def test_json_in_km_h(tmp_path: Path):
    content = small_json()
    for item in content["objects"]:
        item["velocity"] = [{"x": 3.6 * v["x"], "y": 3.6 * v["y"]} for v in item["velocity"]]
    drive = read(write_json(tmp_path / "a.json", content))
    said(drive, "velocities are in km/h")
    same_motion(drive, read(write_json(tmp_path / "b.json", small_json())))


def test_argoverse_sweeps_in_microseconds(tmp_path: Path):
    folder = argoverse_sensor(tmp_path / "log", lever=1.4)
    sound = read(folder)
    for name in ("annotations.feather", "city_SE3_egovehicle.feather"):

        def shorter(columns: dict) -> None:
            columns["timestamp_ns"] //= 1000

        edit_feather(folder / name, shorter)
    drive = read(folder)
    said(drive, "thousands of what the format says")
    same_motion(drive, sound, within=1e-3)


# Clocks -----------------------------------------------------------------------------------------------


def jumping(times: np.ndarray, at: int, by: float) -> np.ndarray:
    times = times.copy()
    times[at:] += by
    return times


def test_a_clock_that_jumps_cuts_the_drive(tmp_path: Path):
    """By 5 s in comma2k19, KITTI, ScenarioNet and the sweeps of Argoverse 2: the longest piece is kept."""
    times = np.load(SAMPLE / "global_pose" / "frame_times.npy")
    sound = read(write_comma(tmp_path / "sound"))
    drive = read(write_comma(tmp_path / "segment", times=jumping(times, 400, 5.0)))
    assert "799 from 401 on" in said(drive, "the clock jumps")
    assert np.linalg.norm(drive.tracks.velocity - sound.tracks.velocity[:, 401:], axis=-1).max() < 0.02
    drive = read(kitti(tmp_path, jumping(0.1 * np.arange(COUNT), 20, 5.0)))
    assert "the 19 from 0 on" in said(drive, "the clock jumps")
    assert np.linalg.norm(drive.tracks.velocity[0], axis=-1) == pytest.approx(8.0, abs=0.1)
    drive = reading(
        tmp_path, {**traffic(), "metadata": {"ts": jumping(0.1 * np.arange(60), 50, 5.0), "sdc_id": "0"}}
    )
    assert len(drive.times) == 49
    folder = argoverse_sensor(tmp_path / "log", lever=1.4)
    start = 315_966_253_660_357_000 + 2_000_000_000
    for name in ("annotations.feather", "city_SE3_egovehicle.feather"):

        def later(columns: dict) -> None:
            columns["timestamp_ns"] = (
                np.where(columns["timestamp_ns"] >= start, 5_000_000_000, 0) + columns["timestamp_ns"]
            )

        edit_feather(folder / name, later)
    drive = read(folder)
    said(drive, "the clock jumps")
    assert len(drive.times) == 19
    assert np.linalg.norm(drive.tracks.velocity[0], axis=-1) == pytest.approx(8.0, abs=0.1)


def test_clocks_that_go_back_or_stand_are_refused_and_uneven_ones_noted(tmp_path: Path):
    times = np.load(SAMPLE / "global_pose" / "frame_times.npy")
    for by in (-5.0, times[399] - times[400]):
        with pytest.raises(UserError, match="times do not increase at step 400"):
            read(write_comma(tmp_path / f"segment{by}", times=jumping(times, 400, by)))
    late = 0.1 * np.arange(60)
    late[30] += 0.08
    drive = reading(tmp_path, {**traffic(), "metadata": {"ts": late, "sdc_id": "0"}})
    assert "2 of 59 steps are uneven" in said(drive, "uneven")


# Precision and key frames -----------------------------------------------------------------------------


@pytest.mark.parametrize("east", [388_096.0, 5_448_996.0, -7_654_321.0])
def test_the_origin_is_noted_to_the_metre(tmp_path: Path, east: float):
    scene = traffic()
    for state in states(scene):
        state["position"] = state["position"] + np.array([east - 5000.0, 0.0, 0.0])
    scene["map_features"] = {}
    drive = reading(tmp_path, scene)
    assert f"({east:.0f}, -3000, 9)" in said(drive, "is the origin")


@pytest.mark.parametrize("step", [0.5, 0.25, 0.1])
def test_positions_in_steps_are_noted(tmp_path: Path, step: float):
    scene = traffic()
    for state in states(scene):
        state["position"] = np.round(state["position"] / step) * step
    assert f"up to {step:g} m" in said(reading(tmp_path, scene), "come in steps")


@pytest.mark.parametrize("dataset", ["nuscenes", "kitti", "comma"])
def test_coarse_positions_that_a_reader_moved_are_noted(tmp_path: Path, dataset: str):
    """The box's centre is on no grid where the file's rear axle, camera or device is."""
    if dataset == "nuscenes":
        scene = traffic()
        scene["metadata"]["dataset"] = "nuscenes"
        scene["tracks"] = {"0": scene["tracks"]["0"]}
        state = scene["tracks"]["0"]["state"]
        state["position"] = (state["position"] + np.array([0.0, 5e6, 0.0])).astype(np.float32)
        scene["map_features"] = {}
        drive = reading(tmp_path, scene)
    elif dataset == "kitti":
        path = kitti(tmp_path, 0.1 * np.arange(COUNT))
        rows = np.array([line.split() for line in path.read_text().splitlines()], float)
        rows[:, [3, 7, 11]] = np.round(rows[:, [3, 7, 11]] * 2) / 2
        path.write_text("\n".join(" ".join(f"{value:.9e}" for value in row) for row in rows))
        drive = read(path)
    else:
        ecef = np.load(SAMPLE / "global_pose" / "frame_positions.npy")
        drive = read(write_comma(tmp_path / "segment", positions=ecef.astype(np.float32).astype(np.float64)))
    said(drive, "tremble")


def test_positions_in_large_steps_are_refused(tmp_path: Path):
    scene = traffic()
    for state in states(scene):
        state["position"] = np.round(state["position"] / 4) * 4
    with pytest.raises(UserError, match=r"come in steps of up to 4 m|in the same units"):
        reading(tmp_path, scene)


@pytest.mark.parametrize(
    ("rate", "dt"), [(2.0, 0.1), (1.0, 0.1), (2.5, 0.1), (2.0, 0.05), (4.0, 0.05), (2.0, 1 / 15)]
)
def test_interpolated_key_frames_are_no_jumps(tmp_path: Path, rate: float, dt: float):
    """Any rate, also one that the steps do not meet; the ego of a nuScenes export is not cut."""
    count = round(8 / dt) + 1
    times = np.arange(count) * dt
    scene = traffic(count, dt)
    scene["metadata"] |= {"dataset": "nuscenes"}
    for state in states(scene):
        keys = np.arange(0, 9, 1 / rate)
        kept = np.stack([np.interp(keys, times, state["position"][:, k]) for k in range(2)], -1)
        for k in range(2):
            state["position"][:, k] = np.interp(times, keys, kept[:, k])
    drive = reading(tmp_path, scene)
    assert len(drive.times) == count
    assert f"key frames {1 / rate:.3g} s apart" in said(drive, "interpolated")
    steady = np.stack([10 * times, 0 * times], -1)
    assert key_frame_interval(times, steady) is None
    assert (
        key_frame_interval(times, ego_path()[:1] + 30 * np.stack([np.cos(times), np.sin(times)], -1)) is None
    )


# Values of lanes and actors ---------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1_000_100.0, 0.5, 400.0, -30.0])
def test_impossible_speed_limits_are_left_out(tmp_path: Path, limit: float):
    scene = traffic()
    scene["map_features"]["lane3"]["speed_limit_kmh"] = limit
    drive = reading(tmp_path, scene)
    limits = {lane.id: lane.speed_limit for lane in drive.road.features}
    assert limits.pop("lane3") is None
    assert list(limits.values()) == pytest.approx([50 / 3.6] * 6)
    if limit > 0:
        said(drive, "speed limits of 1 lanes left out")


def test_speed_limits_in_another_unit_are_left_out_together(tmp_path: Path):
    """30, 50 and 80 'm/s' are km/h or mph; 30 alone is a motorway's."""
    scene = traffic()
    for number, lane in enumerate(scene["map_features"].values()):
        lane["speed_limit_kmh"] = 3.6 * (30, 50, 80)[number % 3]
    drive = reading(tmp_path, scene)
    assert {lane.speed_limit for lane in drive.road.features} == {None}
    said(drive, "as if in km/h or mph")


@pytest.mark.parametrize("width", [0.1, 40.0, 1e6])
def test_impossible_widths_of_lanes_are_left_out(tmp_path: Path, width: float):
    scene = traffic()
    scene["map_features"]["lane0"]["width"][:] = width / 2
    drive = reading(tmp_path, scene)
    assert drive.road.features[0].width is None
    assert drive.lane_width == pytest.approx(3.6)
    said(drive, "widths of 1 lanes left out")


@pytest.mark.parametrize("value", [0.0, float("nan"), 500.0, -2.0])
def test_impossible_sizes_become_usual_ones(tmp_path: Path, value: float):
    """In ScenarioNet, JSON and Argoverse's boxes; that all are is another unit, and refused."""
    scene = traffic()
    for name in ("length", "width"):
        scene["tracks"]["2"]["state"][name][:] = value
    drive = reading(tmp_path, scene)
    assert drive.tracks.size[2].tolist() == [4.6, 1.9, 1.6]
    assert any("usual ones are assumed" in note for note in drive.provenance.notes)
    content = small_json()
    content["objects"][2]["length"] = value
    drive = read(write_json(tmp_path / "a.json", content))
    assert drive.tracks.size[2, 0] == pytest.approx(0.6)
    assert any("usual ones are assumed" in note for note in drive.provenance.notes)
    if np.isnan(value):
        return
    folder = argoverse_sensor(tmp_path / "log", lever=1.4)

    def change(columns: dict) -> None:
        columns["length_m"] = np.where(columns["track_uuid"] == "car", value, columns["length_m"])

    edit_feather(folder / "annotations.feather", change)
    drive = read(folder)
    assert drive.tracks.size[drive.tracks.ids.index("car"), 0] == pytest.approx(4.6)
    said(drive, "none of a thing on a road")


def test_lengths_along_widths_are_put_right(tmp_path: Path):
    scene = traffic()
    for state in states(scene):
        state["length"], state["width"] = state["width"], state["length"]
    drive = reading(tmp_path, scene)
    assert drive.tracks.size[:, :2].tolist() == [[4.6, 1.9]] * 7
    said(drive, "lengths and widths are swapped")


def test_an_actor_without_velocities_gets_those_of_its_positions(tmp_path: Path):
    scene = traffic()
    scene["tracks"]["3"]["state"]["velocity"][:] = 0.0
    drive = reading(tmp_path, scene)
    assert np.linalg.norm(drive.tracks.velocity[3], axis=-1).min() > 5.0
    assert "1 of 7 actors" in said(drive, "although they move")
    still = reading(tmp_path, traffic()).tracks.velocity[6]
    assert not still.any(), "one that stands keeps its zero"


def perturbed(name: str, tick: int, by: object) -> dict:
    scene = traffic()
    scene["tracks"]["1"]["state"][name][tick] += by
    return scene


@pytest.mark.parametrize("tick", [0, 1, 30, 59])
@pytest.mark.parametrize(
    ("name", "by", "says"),
    [
        ("position", np.array([0.0, 1.0, 0.0]), "stated velocities differ"),
        ("position", np.array([0.0, 0.0, 2.0]), "heights jump"),
        ("velocity", np.array([7.0, 0.0]), "stated velocities differ"),
        ("heading", 0.6, "headings of vehicles"),
    ],
)
def test_one_odd_state_is_noted(tmp_path: Path, name: str, tick: int, by: object, says: str):
    said(reading(tmp_path, perturbed(name, tick, by)), says)


def test_derived_velocities_hide_no_odd_position(tmp_path: Path):
    scene = perturbed("position", 30, np.array([0.0, 1.0, 0.0]))
    scene["metadata"]["dataset"] = "nuscenes"
    said(reading(tmp_path, scene), "jump off their paths")


def test_motion_of_what_was_not_seen_is_nothing():
    drive = read(SAMPLE)
    tracks = drive.tracks
    motion = Motion.of(drive.times, tracks)
    assert np.median(motion.ratios()) == pytest.approx(1.0, abs=0.01)
    assert motion.both.all()
    assert comma2k19.READER.name == "comma2k19"
    assert json.dumps(ego_heading().tolist())
