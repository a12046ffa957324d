"""Readers, storage, the bundled drive, pictures: what is read is physically true, what is wrong is named."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from countersteer.data.readers import READERS, read, scan
from countersteer.data.readers import comma2k19 as comma
from countersteer.data.samples import recorded_drive
from countersteer.errors import UserError
from countersteer.geometry.polylines import arc_length, curvatures, headings, project, resample
from countersteer.geometry.poses import local_from_world, wrap_angle
from countersteer.reporting.birds_eye import BirdsEye
from countersteer.reporting.drawing import draw_scenario, save_picture
from countersteer.scenarios import storage
from countersteer.scenarios.routes import drop_standing, prolong, rear_axle_of, smooth
from countersteer.scenarios.scenario import (
    ActorKind,
    MapFeature,
    MapKind,
    RoadMap,
    Scenario,
    SignalState,
    Tracks,
)
from countersteer.storage.files import read_bytes
from recordings import SAMPLE, small_json, small_scene, write_comma, write_json, write_pickle

DATA = Path(__file__).parents[2] / "shared" / "data"

WAYMO = ["00000-of-01000_325", "00000-of-01000_4", "00000-of-01000_402", "00002-of-01000_407"]
NUSCENES = ["0061", "0553", "0655", "0757", "0916", "1077", "1094"]
SCENES = [
    *(f"womd_json/tfrecord-{name}.json.gz" for name in [*WAYMO, "00358-of-01000_65"]),
    *(f"nuscenes_scenarionet/sd_nuscenes_v1.0-mini_scene-{name}.pkl.gz" for name in NUSCENES),
    "womd_scenarionet/sd_waymo_v1.2_eb4b91b10ca94ff2.pkl.gz",
]
SINGAPORE = ("0061", "0916", "1077", "1094")  # drives on the left


@functools.cache
def scene(name: str) -> Scenario:
    path = DATA / "scenarios" / name
    if not path.exists():
        pytest.skip(f"the recorded scenes are not there ({path.parent.name})")
    return read(path)


def mirrored(tracks: Tracks) -> Tracks:
    """What a reader with a flipped y axis would give."""
    flip = np.array([1.0, -1.0])
    return dataclasses.replace(
        tracks,
        position=tracks.position * np.array([1.0, -1.0, 1.0]),
        velocity=tracks.velocity * flip,
        heading=wrap_angle(-tracks.heading),
    )


# Physics of the real scenes ---------------------------------------------------------------------------


def velocity_gap(tracks: Tracks, times: np.ndarray) -> float:
    """Mean difference between stated velocities and differences of positions [m/s]."""
    both = tracks.valid[:, 1:] & tracks.valid[:, :-1]
    moved = np.diff(tracks.position[..., :2], axis=1) / np.diff(times)[:, None]
    stated = (tracks.velocity[:, 1:] + tracks.velocity[:, :-1]) / 2
    return float(np.abs(moved - stated)[both].mean())


def course_agreement(tracks: Tracks) -> float:
    """Mean cosine between heading and course of moving vehicles and cyclists, from positions alone."""
    moved = np.diff(tracks.position[..., :2], axis=1)
    wheeled = np.isin(tracks.kind, [ActorKind.VEHICLE, ActorKind.CYCLIST])[:, None]
    moving = tracks.valid[:, 1:] & tracks.valid[:, :-1] & wheeled & (np.linalg.norm(moved, axis=-1) > 0.3)
    course = np.arctan2(moved[..., 1], moved[..., 0])
    return float(np.cos(course - tracks.heading[:, :-1])[moving].mean())


def oncoming_on_the_left(road: RoadMap) -> float:
    """Mean side on which lanes beside each other come the other way: +1 left, -1 right."""
    lanes = [resample(f.points[:, :2].astype(float), 2.0) for f in road.of_kind(MapKind.LANE)]
    points = np.concatenate(lanes)
    course = np.concatenate([headings(lane) for lane in lanes])
    sides = []
    for point, turn in zip(points[::12], course[::12], strict=True):
        local = local_from_world(points, point[None], np.array([turn]))
        beside = (np.abs(local[:, 0]) < 1.5) & (np.abs(local[:, 1]) > 2) & (np.abs(local[:, 1]) < 6)
        sides += list(np.sign(local[beside & (np.cos(course - turn) < -0.98), 1]))
    assert len(sides) > 25
    return float(np.mean(sides))


@pytest.mark.parametrize("name", SCENES)
def test_scenes_obey_physics(name: str) -> None:
    """Positions, velocities and headings of every real scene tell the same story; the origin is near."""
    drive = scene(name)
    assert velocity_gap(drive.tracks, drive.times) < 0.15
    assert course_agreement(drive.tracks) > 0.98
    flipped = dataclasses.replace(drive.tracks, position=drive.tracks.position * np.array([1.0, -1.0, 1.0]))
    assert course_agreement(flipped) < 0.9, "a flipped axis has to fail the check above"
    assert np.abs(drive.tracks.position[drive.tracks.valid]).max() < 600.0
    assert drive.provenance.licence != "unknown"
    if drive.ego is not None:
        first = drive.tracks.position[drive.ego, 0]
        assert np.abs(first[:2]).max() <= 0.5
        assert first[2] - drive.tracks.size[drive.ego, 2] / 2 == pytest.approx(0.0, abs=0.5)


@pytest.mark.parametrize("name", SCENES)
def test_scenes_are_not_mirrored(name: str) -> None:
    """Oncoming lanes lie to the left in America and to the right in Singapore: left is left."""
    road = scene(name).road
    expected = -1.0 if any(f"scene-{number}" in name for number in SINGAPORE) else 1.0
    assert oncoming_on_the_left(road) * expected > 0.9
    flip = np.array([1.0, -1.0, 1.0])
    wrong = RoadMap(tuple(dataclasses.replace(f, points=f.points * flip) for f in road.features))
    assert oncoming_on_the_left(wrong) * expected < -0.9, "a mirrored map has to fail the check above"


@pytest.mark.parametrize("name", [name for name in SCENES if "00358" not in name])
def test_routes_of_scenes_can_be_driven(name: str) -> None:
    """Each route starts at the ego's rear axle, follows its path, goes on beyond it and has no kinks."""
    drive = scene(name)
    assert drive.ego is not None
    assert drive.route is not None
    tracks, ego = drive.tracks, drive.ego
    axle = rear_axle_of(tracks.position[ego, :, :2], tracks.heading[ego], float(tracks.size[ego, 0]))
    assert np.linalg.norm(drive.route[0] - axle[0]) < 0.3
    along, left = project(drive.route, axle)
    assert np.abs(left).max() < 0.3
    assert arc_length(drive.route)[-1] - along.max() > 19.0
    assert np.abs(curvatures(drive.route)).max() < 0.25, "tighter than any car turns"
    driven = np.ptp(np.unwrap(tracks.heading[ego]))
    if driven > 0.5 and np.linalg.norm(axle[-1] - axle[0]) > 5.0:
        part = drive.route[: int(along[-1] / 0.5)]
        course = headings(part)
        turned = np.unwrap(tracks.heading[ego])
        assert course[-1] - course[0] == pytest.approx(turned[-1] - turned[0], abs=0.2)
        bend = float((curvatures(part)[1:] * np.diff(arc_length(part))).sum())
        assert np.sign(bend) == np.sign(turned[-1] - turned[0]), "left turns have positive curvature"


@pytest.mark.parametrize("name", ["0061", "0916", "1077", "1094"])
def test_nuscenes_ego_turns_about_its_rear_axle(name: str) -> None:
    """The rear axle does not slide sideways in a turn, the box centre does: the repair is right."""
    drive = scene(f"nuscenes_scenarionet/sd_nuscenes_v1.0-mini_scene-{name}.pkl.gz")
    assert drive.ego is not None
    length, width = drive.tracks.size[drive.ego, :2]
    assert (length, width) == pytest.approx((4.08, 1.73))
    heading = np.unwrap(drive.tracks.heading[drive.ego])
    center = drive.tracks.position[drive.ego, :, :2]

    def lever(points: np.ndarray) -> float:
        """Distance of a point ahead of the centre of turning, from its sideways speed and the yaw rate."""
        speed, rate = np.gradient(points, drive.times, axis=0), np.gradient(heading, drive.times)
        sideways = speed[:, 1] * np.cos(heading) - speed[:, 0] * np.sin(heading)
        return float((sideways @ rate) / (rate @ rate))

    axle = rear_axle_of(center, heading, float(length))
    assert abs(lever(axle)) < 0.5
    assert lever(center) == pytest.approx(lever(axle) + 1.15, abs=0.15)


def test_waymo_signals_and_map_details() -> None:
    """The overpass scene keeps its 14 lights, lane widths and speed limits."""
    drive = scene(SCENES[-1])
    assert len(drive.signals.lane) == 14
    assert drive.signals.state.shape == (14, len(drive.times))
    assert {SignalState.STOP, SignalState.GO} <= {SignalState(v) for v in np.unique(drive.signals.state)}
    lanes = {feature.id: feature for feature in drive.road.of_kind(MapKind.LANE)}
    known = [n for n, lane in enumerate(drive.signals.lane) if lane in lanes]
    assert len(known) >= 10
    for n in known:
        points = lanes[drive.signals.lane[n]].points.astype(float)
        s, left = project(points, drive.signals.stop_point[n][None, :2])
        assert abs(left[0]) < 1.0, "a light's stop point lies on its lane"
        course = np.interp(s[0], arc_length(points), headings(points))
        assert abs(np.cos(drive.signals.heading[n] - course)) > 0.95
    assert 3.0 < drive.lane_width < 4.0
    limits = {feature.speed_limit for feature in lanes.values()}
    assert any(limit == pytest.approx(40 * 1.609344 / 3.6) for limit in limits if limit)


def test_degrees_are_recognised() -> None:
    """The file with headings in degrees gives radians that agree with the course, and says so."""
    drive = scene("womd_json/tfrecord-00358-of-01000_65.json.gz")
    assert drive.ego is None
    assert drive.route is None
    assert any("degrees" in note for note in drive.provenance.notes)
    assert np.abs(drive.tracks.heading).max() <= np.pi


# The bundled drive ------------------------------------------------------------------------------------


def can(name: str, times: np.ndarray) -> np.ndarray:
    folder = SAMPLE / "processed_log" / "CAN" / name
    stamps = np.load(folder / "t.npy") - np.load(SAMPLE / "global_pose" / "frame_times.npy")[0]
    return np.interp(times, stamps, np.load(folder / "value.npy").ravel())


def slow(values: np.ndarray) -> np.ndarray:
    """Half-second means without the ends."""
    return np.convolve(values, np.ones(11) / 11, "same")[10:-10]


def test_recorded_drive_agrees_with_wheels_and_steering() -> None:
    """Poses agree with wheel speed; the car yaws left when its wheel turns left, a mirrored one would not."""
    drive = recorded_drive()
    assert drive.ego == 0
    assert drive.provenance.licence == "MIT"
    speed = np.linalg.norm(drive.tracks.velocity[0], axis=-1)
    assert np.sqrt(np.mean((speed - can("speed", drive.times)) ** 2)) < 0.2
    assert velocity_gap(drive.tracks, drive.times) < 0.02
    steering = can("steering_angle", drive.times) * can("speed", drive.times)

    def agreement(tracks: Tracks) -> float:
        rate = np.gradient(np.unwrap(tracks.heading[0]), drive.times)
        return float(np.corrcoef(slow(rate), slow(steering))[0, 1])

    assert agreement(drive.tracks) > 0.8
    assert agreement(mirrored(drive.tracks)) < -0.8


def test_recorded_drive_yaws_like_its_gyroscope() -> None:
    """The gyroscope's down axis turns opposite to the yaw rate about up."""
    folder = DATA / "comma2k19_example" / "processed_log" / "IMU" / "gyro"
    if not folder.exists():
        pytest.skip("the whole comma2k19 example is not there")
    drive = recorded_drive()
    stamps = np.load(folder / "t.npy") - np.load(SAMPLE / "global_pose" / "frame_times.npy")[0]
    down = np.interp(drive.times, stamps, np.load(folder / "value.npy")[:, 2])
    rate = np.gradient(np.unwrap(drive.tracks.heading[0]), drive.times)
    assert np.corrcoef(slow(rate), slow(down))[0, 1] < -0.9


def test_recorded_drive_goes_north() -> None:
    """East is x and north is y: the drive ends 1010 m north and 43 m east of its start."""
    drive = recorded_drive()
    moved = drive.tracks.position[0, -1] - drive.tracks.position[0, 0]
    assert moved[:2] == pytest.approx([43.1, 1010.3], abs=1.0)
    up = comma.east_north_up(np.array([6378137.0, 0.0, 0.0]))
    assert up == pytest.approx(np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]), abs=1e-12)
    assert up @ up.T == pytest.approx(np.eye(3), abs=1e-12)


def test_route_of_the_recorded_drive_is_smooth_and_close() -> None:
    """Curvature of the route is that of the road, not of the noise; the route stays within 0.15 m."""
    drive = recorded_drive()
    assert drive.route is not None
    axle = rear_axle_of(drive.tracks.position[0, :, :2], drive.tracks.heading[0], 4.6)
    _, left = project(drive.route, axle)
    assert np.abs(left).max() < 0.15
    raw, smoothed = curvatures(resample(axle, 0.5)), curvatures(drive.route)
    assert np.diff(smoothed).std() < 0.1 * np.diff(raw).std()
    assert np.abs(smoothed).max() < 0.003, "a bend of more than 300 m"
    assert arc_length(drive.route)[-1] > 1012 + 25


def test_comma_axes_are_checked(tmp_path: Path) -> None:
    """Orientations with another axis or quaternion order do not point where the car goes: refused."""
    quaternion = np.load(SAMPLE / "global_pose" / "frame_orientations.npy")
    with pytest.raises(UserError, match="do not point where the car goes"):
        read(write_comma(tmp_path / "xyzw", orientations=np.roll(quaternion, -1, axis=1)))
    flipped = np.load(SAMPLE / "global_pose" / "frame_velocities.npy") * np.array([1.0, -1.0, 1.0])
    with pytest.raises(UserError, match="do not point where the car goes"):
        read(write_comma(tmp_path / "flipped", velocities=flipped))


def test_comma_files_without_endings_are_read(tmp_path: Path) -> None:
    """The upstream layout has no .npy endings; the segment is called by its drive and number."""
    folder = write_comma(tmp_path / "b0c9|2018-08-02" / "40")
    for path in (folder / "global_pose").iterdir():
        path.rename(path.with_suffix(""))
    drive = read(folder)
    assert drive.id == "b0c9|2018-08-02--40"
    assert drive.fingerprint() == dataclasses.replace(recorded_drive(), id=drive.id).fingerprint()


# Synthetic scenes -------------------------------------------------------------------------------------


def test_json_scene(tmp_path: Path) -> None:
    """Every part of a small JSON scene arrives: kinds, colours, lights, origin, route."""
    drive = read(write_json(tmp_path / "small.json", small_json()))
    assert drive.id == "small"
    assert drive.tracks.ids == ("7", "8", "9")
    assert drive.tracks.kind.tolist() == [ActorKind.VEHICLE, ActorKind.VEHICLE, ActorKind.PEDESTRIAN]
    kinds = [feature.kind for feature in drive.road.features]
    assert kinds == [
        MapKind.LANE,
        MapKind.LINE_DASHED_YELLOW,
        MapKind.ROAD_EDGE,
        MapKind.CROSSWALK,
        MapKind.STOP_SIGN,
    ]
    assert any("bicycle" in note for note in drive.provenance.notes)
    assert drive.signals.state[0, [0, 1, 29]].tolist() == [
        SignalState.STOP,
        SignalState.UNKNOWN,
        SignalState.GO,
    ]
    note = next(note for note in drive.provenance.notes if "moved" in note)
    assert "(5001, -3000, 9)" in note
    assert drive.tracks.position[1, 0, :2] == pytest.approx([9.0, 10.0])
    assert drive.route is not None
    assert curvatures(drive.route)[10] > 0.01, "a left turn"


def test_scenarionet_scene_in_every_pickle_protocol(tmp_path: Path) -> None:
    """Pickle protocols 2 to 5 give the same scenario; lists and arrays, 2-D and 3-D are taken."""
    drives = [read(write_pickle(tmp_path / f"{p}.pkl.gz", small_scene(), p)) for p in (2, 3, 4, 5)]
    assert len({drive.fingerprint() for drive in drives}) == 1
    drive = drives[0]
    lane = drive.road.of_kind(MapKind.LANE)[0]
    assert lane.width == pytest.approx(3.4)
    assert lane.speed_limit == pytest.approx(10.0)
    assert drive.lane_width == pytest.approx(3.4)
    dashed = drive.road.of_kind(MapKind.LINE_DASHED_YELLOW)[0]
    assert dashed.points[:, 2] == pytest.approx(0.2, abs=0.3), "a 2-D line lies on the ground"
    assert drive.signals.state[0, [0, 25, 29]].tolist() == [
        SignalState.STOP,
        SignalState.GO,
        SignalState.UNKNOWN,
    ]
    assert drive.signals.heading[0] == pytest.approx(0.0)


class Evil:
    def __reduce__(self) -> tuple:
        return (__import__("os").system, ("touch /tmp/should-never-exist",))


@pytest.mark.parametrize("payload", [Evil(), np.array([Evil()], dtype=object), Path("x"), print])
def test_pickles_cannot_run_code(tmp_path: Path, payload: object) -> None:
    """A pickle that asks for more than numbers, text and containers is refused by name, wherever it asks."""
    content = small_scene() | {"extra": payload}
    with pytest.raises(UserError, match="asks for the global"):
        read(write_pickle(tmp_path / "evil.pkl.gz", content))
    assert not Path("/tmp/should-never-exist").exists()


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    """A file that grows beyond the limit is refused before it fills the memory."""
    bomb = tmp_path / "bomb.pkl.gz"
    bomb.write_bytes(gzip.compress(b"\x80\x04version length" + bytes(10_000_000)))
    assert bomb.stat().st_size < 20_000
    with pytest.raises(UserError, match="too large"):
        read_bytes(bomb, limit=1_000_000)


def jump(content: dict) -> None:
    content["objects"][0]["position"][10]["x"] += 50.0


def nan(content: dict) -> None:
    content["objects"][0]["position"][10]["x"] = float("nan")


def short(content: dict) -> None:
    content["objects"][1]["heading"].pop()


def no_roads(content: dict) -> None:
    del content["roads"]


def empty(content: dict) -> None:
    content["objects"].clear()


def unseen(content: dict) -> None:
    for item in content["objects"]:
        item["valid"] = [False] * 30


def twins(content: dict) -> None:
    content["objects"][1]["id"] = 7


def no_ego(content: dict) -> None:
    content["metadata"]["sdc_track_index"] = 5


@pytest.mark.parametrize(
    ("damage", "field", "says"),
    [
        (jump, "position of track '7'", "jumps between steps 9 and 10"),
        (nan, "position of track '7'", "not finite at valid step 10"),
        (short, r"objects\[1\].heading", "wrong shape"),
        (no_roads, "the file", "no field 'roads'"),
        (empty, "objects", "is empty"),
        (unseen, "no track", "has a valid state"),
        (twins, "two tracks", "the identifier '7'"),
        (no_ego, "metadata.sdc_track_index", "names no object"),
    ],
)
def test_impossible_scenes_are_named(tmp_path: Path, damage, field: str, says: str) -> None:
    """What cannot have been driven is refused: file, field, what was got and what was expected are named."""
    content = small_json()
    damage(content)
    with pytest.raises(UserError, match=f"small.json.*{field}.*{says}") as caught:
        read(write_json(tmp_path / "small.json", content))
    assert caught.value.expected is not None or caught.value.fix is not None


def test_times_have_to_increase(tmp_path: Path) -> None:
    """A scene whose clock stands still is refused."""
    content = small_scene()
    content["metadata"]["ts"][5] = content["metadata"]["ts"][4]
    with pytest.raises(UserError, match="times do not increase at step 5"):
        read(write_pickle(tmp_path / "a.pkl", content))


def test_unknown_files_list_the_formats(tmp_path: Path) -> None:
    """A file of no known format is refused with every format named; so is a path that is not there."""
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(UserError) as caught:
        read(path)
    assert all(reader.name in str(caught.value) for reader in READERS)
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "nothing")
    with pytest.raises(UserError, match="is a folder of no known format"):
        read(tmp_path)


def test_a_number_behind_one_drive_is_refused(tmp_path: Path) -> None:
    """`file#0` names a drive in a file of many; a name that has a # itself is read as it is."""
    path = write_json(tmp_path / "a.json", small_json())
    with pytest.raises(UserError, match=r"a.json is one drive"):
        read(tmp_path / "a.json#0")
    assert read(path.rename(tmp_path / "b#0")).id == "small"


def test_scan_finds_every_drive_by_content(tmp_path: Path) -> None:
    """`scan` finds drives of all formats whatever their names, and nothing else."""
    a = write_json(tmp_path / "a.txt", small_json())
    (tmp_path / "deep").mkdir()
    b = write_pickle(tmp_path / "deep" / "b.bin", small_scene())
    c = storage.save(read(a), tmp_path / "stored")
    d = write_comma(tmp_path / "segment")
    (tmp_path / "other.json").write_text('{"x": 1}')
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"x": 1}))
    assert scan(tmp_path) == sorted([a, b, c, d])
    assert [read(path).id for path in (a, b, c)] == ["small"] * 3


# Routes -----------------------------------------------------------------------------------------------


def test_standing_jitter_and_reversing_leave_no_trace() -> None:
    """A path that waits, trembles and backs up becomes one that only makes way."""
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [np.linspace(0, 10, 50), np.full(100, 10.0), np.linspace(10, 8, 20), np.linspace(8, 20, 60)]
    )
    noisy = np.stack([x, np.zeros_like(x)], -1) + rng.normal(0, 0.02, (len(x), 2))
    path = drop_standing(noisy, np.zeros(len(x)))
    assert np.all(np.diff(path[:, 0]) > 0)
    assert path[-1, 0] > 19.5


def test_smoothing_keeps_the_tolerance_and_the_curvature() -> None:
    """A noisy circle of 20 m gives a curvature near 0.05 everywhere, within the tolerance of the raw path."""
    rng = np.random.default_rng(1)
    angle = np.arange(0, 3, 0.02)
    raw = 20 * np.stack([np.cos(angle), np.sin(angle)], -1) + rng.normal(0, 0.02, (len(angle), 2))
    path = smooth(raw, tolerance=0.1)
    _, left = project(raw, path)
    assert np.abs(left).max() <= 0.1 + 1e-9
    assert curvatures(path)[10:-10] == pytest.approx(0.05, abs=0.02)
    assert curvatures(path[:, [1, 0]])[20] < 0, "mirrored, the same path turns right"


def test_routes_go_on_along_the_lane() -> None:
    """Beyond its end a route joins its lane and keeps to it around the bend; without one it goes straight."""
    angle = np.linspace(0, 1.5, 60)
    bend = np.stack([10 + 30 * np.sin(angle), 30 - 30 * np.cos(angle), 0 * angle], -1)
    straight = np.stack([np.arange(-10.0, 10.0), np.zeros(20), np.zeros(20)], -1)
    lane = MapFeature("a", MapKind.LANE, np.concatenate([straight, bend]))
    route = np.stack([np.arange(-5.0, 5.5, 0.5), np.full(21, 0.8)], -1)
    longer, followed = prolong(route, [lane])
    assert followed
    assert arc_length(longer)[-1] - arc_length(route)[-1] == pytest.approx(30.0, abs=0.6)
    _, left = project(lane.points, longer[-10:])
    assert np.abs(left).max() < 0.05
    ahead, followed = prolong(route, [])
    assert not followed
    assert ahead[-1] == pytest.approx([35.0, 0.8])


# Storage ----------------------------------------------------------------------------------------------


def same(a: Scenario, b: Scenario) -> None:
    """Two scenarios are equal to the bit, in every field."""
    assert a.fingerprint() == b.fingerprint()
    for name in ("id", "ego", "route_offsets", "lane_width", "provenance"):
        assert getattr(a, name) == getattr(b, name)
    assert a.tracks.ids == b.tracks.ids
    assert a.signals.lane == b.signals.lane
    for mine, theirs in ((a.tracks, b.tracks), (a.signals, b.signals)):
        for field in dataclasses.fields(mine):
            left, right = getattr(mine, field.name), getattr(theirs, field.name)
            if isinstance(left, np.ndarray):
                assert left.dtype == right.dtype
                assert left.shape == right.shape
                assert left.tobytes() == right.tobytes()
    assert [(f.id, f.kind, f.width, f.speed_limit) for f in a.road.features] == [
        (f.id, f.kind, f.width, f.speed_limit) for f in b.road.features
    ]
    assert (a.route is None) == (b.route is None)


def test_stored_scenarios_come_back_to_the_bit(tmp_path: Path) -> None:
    """Saving and loading changes nothing: with and without map, lights, route."""
    drives = [
        recorded_drive(),
        read(write_json(tmp_path / "a.json", small_json())),
        read(write_pickle(tmp_path / "b.pkl", small_scene())),
    ]
    drives.append(dataclasses.replace(drives[1], ego=None, route=None, route_offsets=(-3.5, 0.0)))
    for number, drive in enumerate(drives):
        folder = storage.save(drive, tmp_path / f"stored{number}")
        assert sorted(path.name for path in folder.iterdir()) == [
            "map.arrow",
            "route.arrow",
            "scenario.json",
            "signals.arrow",
            "times.arrow",
            "tracks.arrow",
        ]
        same(storage.load(folder), drive)
        same(read(folder), drive)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "no drafts are left"


@pytest.mark.parametrize("name", [SCENES[2], SCENES[5], SCENES[-1]])
def test_real_scenes_are_stored_to_the_bit(tmp_path: Path, name: str) -> None:
    """The same for a large scene of each source."""
    drive = scene(name)
    same(storage.load(storage.save(drive, tmp_path / "scene")), drive)


def test_storage_refuses_what_it_must(tmp_path: Path) -> None:
    """No folder is overwritten; a later version, a changed table and a missing one are refused."""
    drive = recorded_drive()
    folder = storage.save(drive, tmp_path / "drive")
    with pytest.raises(UserError, match="exists already"):
        storage.save(drive, folder)
    header = json.loads((folder / "scenario.json").read_text())
    (folder / "scenario.json").write_text(json.dumps(header | {"version": storage.VERSION + 1}))
    with pytest.raises(UserError, match="another version"):
        storage.load(folder)
    (folder / "scenario.json").write_text(json.dumps(header | {"fingerprint": "0" * 64}))
    with pytest.raises(UserError, match="was changed after it was written"):
        storage.load(folder)
    (folder / "scenario.json").write_text(json.dumps(header))
    (folder / "route.arrow").unlink()
    with pytest.raises(UserError, match=r"route\.arrow does not exist"):
        read(folder)
    with pytest.raises(UserError, match=r"scenario\.json does not exist"):
        storage.load(tmp_path)


# Pictures and imports ---------------------------------------------------------------------------------


def test_birds_eye_puts_north_up() -> None:
    """x goes right and y goes up, half a span is half the picture, and the map is where `pixels_of` says."""
    lane = MapFeature("a", MapKind.LANE, np.array([[10.0, 20.0, 0.0], [10.0, 30.0, 0.0]]), width=4.0)
    view = BirdsEye(RoadMap((lane,)), (0.0, 0.0), 100.0, 200)
    assert view.pixels_of(np.array([[0.0, 0.0], [50.0, 50.0], [10.0, 25.0]])) == pytest.approx(
        np.array([[100.0, 100.0], [200.0, 0.0], [120.0, 50.0]])
    )
    image = view.background()
    paper = image[150, 30]
    column, row = view.pixels_of(np.array([11.2, 25.0])).astype(int)
    assert image[row, column].sum() > paper.sum() + 40
    assert np.array_equal(image[200 - row, column], paper), "nothing where the mirrored lane would be"
    assert image[50, 112].sum() < image[row, column].sum(), "nothing beside the lane"
    image[:] = 0
    assert view.background().any(), "each background is a fresh copy"


def test_scenarios_are_drawn(tmp_path: Path) -> None:
    """The figure shows the ego in its colour at its place, and is saved as RGB."""
    drive = read(write_json(tmp_path / "a.json", small_json()))
    image = draw_scenario(drive, 1.0, span_m=60.0, pixels=400)
    assert image.dtype == np.uint8
    assert image.shape == (434, 400, 3)
    middle = image[34 + 200 - 3 : 34 + 200 + 4, 197:204].reshape(-1, 3).astype(int)
    assert (np.abs(middle - [64, 220, 165]).max(1) < 12).any()
    assert draw_scenario(recorded_drive(), pixels=200).std() > 3
    path = save_picture(image, tmp_path / "new" / "a.png")
    import cv2

    assert np.array_equal(cv2.imread(str(path))[..., ::-1], image)
    with pytest.raises(UserError, match="cannot save a picture"):
        save_picture(image, tmp_path / "a.gif")


def test_importing_readers_loads_nothing_heavy() -> None:
    """Neither pyarrow, matplotlib, OpenCV nor numba is loaded before it is needed."""
    code = (
        "import sys, countersteer.data.readers, countersteer.data.samples\n"
        "print([m for m in ('pyarrow', 'matplotlib', 'cv2', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
