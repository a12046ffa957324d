"""Argoverse 2 logs and scenarios: frames, the map, heights, and damage that is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from countersteer.data.readers import argoverse2_sensor as sensor
from countersteer.data.readers import read, scan
from countersteer.errors import UserError
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.geometry.polylines import arc_length, curvatures
from countersteer.scenarios.scenario import ActorKind, MapKind, Scenario
from fuzzing.mutations import damaged
from recordings import (
    COUNT,
    PARKED,
    argoverse_motion,
    argoverse_sensor,
    ego_heading,
    ego_path,
    ego_velocity,
    walker_path,
    write_feather,
)
from test_readers import course_agreement, oncoming_on_the_left, scene
from test_readers_fuzz import answer

LEVER = rear_axle_to_center(4.877)


def world(drive: Scenario, actor: str) -> np.ndarray:
    """Positions of an actor in the story's frame: the source's, less the story's origin."""
    note = next(note for note in drive.provenance.notes if note.startswith("moved"))
    x, y, z = (float(value) for value in note.split("(")[1].split(")")[0].split(","))
    shift = np.array([x, y, z]) - np.array([5000.0, -3000.0, 0.0])
    return drive.tracks.position[drive.tracks.ids.index(actor)] + shift


def check_map(drive: Scenario) -> None:
    lanes = drive.road.of_kind(MapKind.LANE)
    assert [lane.id for lane in lanes] == ["1", "2"], "bicycle lanes are left out"
    assert [lane.width for lane in lanes] == pytest.approx([3.4, 3.4])
    course = [lane.points[-1, 0] - lane.points[0, 0] for lane in lanes]
    assert course == pytest.approx([60.0, -60.0])
    side = lanes[1].points[:, 1].mean() - lanes[0].points[:, 1].mean()
    assert side == pytest.approx(3.4), "the oncoming lane lies to the left"
    lines = [feature.kind for feature in drive.road.features if feature.kind.name.startswith("LINE")]
    assert sorted(lines) == sorted(
        [MapKind.LINE_SOLID_YELLOW, MapKind.LINE_SOLID_WHITE, MapKind.LINE_DASHED_WHITE]
    ), "the line that two lanes share is there once"
    assert [len(f.points) for f in drive.road.of_kind(MapKind.DRIVABLE_AREA, MapKind.CROSSWALK)] == [4, 4]
    assert arc_length(drive.road.of_kind(MapKind.CROSSWALK)[0].points)[-1] == pytest.approx(80 + 14 + 80)


def test_a_sensor_log_is_read(tmp_path: Path):
    """Boxes in the turning ego frame stand still in the world, on the left where they were left."""
    drive = read(argoverse_sensor(tmp_path / "log", lever=LEVER))
    tracks = drive.tracks
    assert tracks.ids == ("ego", "car", "walker", "cone")
    assert tracks.kind.tolist() == [
        ActorKind.VEHICLE,
        ActorKind.VEHICLE,
        ActorKind.PEDESTRIAN,
        ActorKind.STATIC,
    ]
    assert world(drive, "ego")[:, :2] == pytest.approx(ego_path(), abs=1e-6)
    assert world(drive, "ego")[0, 2] == pytest.approx(9.2 + 1.473 / 2)
    assert world(drive, "car")[:, :2] == pytest.approx(np.tile(PARKED, (COUNT, 1)), abs=1e-6)
    assert world(drive, "car")[0, 2] == pytest.approx(9.2 + 0.75)
    assert tracks.heading[1] == pytest.approx(0.5)
    assert tracks.heading[0] == pytest.approx(ego_heading())
    assert tracks.velocity[0, 5] == pytest.approx(ego_velocity()[5], abs=0.01)
    assert tracks.valid[2].tolist() == [tick != 3 for tick in range(COUNT)]
    assert world(drive, "walker")[10, :2] == pytest.approx(walker_path()[10], abs=1e-6)
    assert drive.route is not None
    assert curvatures(drive.route)[5] == pytest.approx(0.2 / 8.0, rel=0.1)
    assert any("the ego itself" in note for note in drive.provenance.notes)
    check_map(drive)


def test_a_motion_scenario_is_read(tmp_path: Path):
    """Positions, assumed sizes, and heights taken from the map."""
    drive = read(argoverse_motion(tmp_path / "scenario", lever=LEVER))
    assert drive.id == "small"
    assert drive.ego == 1
    assert world(drive, "AV")[:, :2] == pytest.approx(ego_path(), abs=1e-6)
    assert world(drive, "AV")[0, 2] == pytest.approx(9.2 + 1.473 / 2)
    assert world(drive, "8")[0, :2] == pytest.approx(PARKED)
    assert drive.tracks.size[0, 0] == 12.0, "a bus is longer than a car"
    assert drive.tracks.valid[2].tolist() == [tick != 3 for tick in range(COUNT)]
    assert drive.tracks.velocity[1] == pytest.approx(ego_velocity())
    assert drive.route is not None
    assert curvatures(drive.route)[5] == pytest.approx(0.2 / 8.0, rel=0.1)
    check_map(drive)


def test_both_are_found_by_content(tmp_path: Path):
    log = argoverse_sensor(tmp_path / "a", lever=LEVER)
    scenario = argoverse_motion(tmp_path / "b", lever=LEVER)
    (scenario / "scenario_small.parquet").rename(scenario / "x.parquet")
    (tmp_path / "c").mkdir()
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "c" / "other.parquet")
    assert scan(tmp_path) == [log, scenario]


def change(folder: Path, name: str, column: str, edit) -> None:
    with pa.OSFile(str(folder / name), "rb") as file:
        table = pa.ipc.open_file(file).read_all()
    columns = {key: table[key].to_numpy(zero_copy_only=False).copy() for key in table.column_names}
    columns[column] = edit(columns[column])
    if columns[column] is None:
        del columns[column]
    write_feather(folder / name, columns)


POSE, BOXES = "city_SE3_egovehicle.feather", "annotations.feather"


@pytest.mark.parametrize(
    ("name", "column", "edit", "says"),
    [
        (POSE, "qw", lambda values: values * 0.5, "row 0 is not a rotation"),
        (POSE, "timestamp_ns", lambda values: values + 10**10, "do not cover the annotations"),
        (POSE, "tx_m", lambda values: None, "column 'tx_m' is missing"),
        (BOXES, "tx_m", lambda values: values * np.nan, "column 'tx_m' is not finite in row 0"),
        (BOXES, "category", lambda values: np.zeros(len(values)), "'category' is not a column of text"),
        (BOXES, "track_uuid", lambda values: np.array(["a"] * len(values)), "'a' is annotated 4 times"),
        (BOXES, "length_m", lambda values: values * 1000, "size of track 'car' is not that of a thing"),
    ],
)
def test_wrong_tables_are_named(tmp_path: Path, name: str, column: str, edit, says: str):
    folder = argoverse_sensor(tmp_path / "log", lever=LEVER)
    change(folder, name, column, edit)
    with pytest.raises(UserError, match=says) as caught:
        read(folder)
    assert "log" in str(caught.value)


def test_a_turned_over_frame_would_show(tmp_path: Path):
    """Poses with the yaw's sign flipped make the parked car slide: the test above can fail."""
    folder = argoverse_sensor(tmp_path / "log", lever=LEVER)
    change(folder, POSE, "qz", lambda values: -values)
    drive = read(folder)
    assert np.ptp(world(drive, "car")[:, 0]) > 2.0


def test_damaged_files_are_refused_or_read(tmp_path: Path):
    """Cut and flipped tables and maps: a scenario or a `UserError` that names the folder."""
    rng = np.random.default_rng(21)
    folders = [argoverse_sensor(tmp_path / "log", lever=LEVER), argoverse_motion(tmp_path / "b", lever=LEVER)]
    files = [path for folder in folders for path in sorted(folder.rglob("*.*")) if path.is_file()]
    answers = set()
    for turn in range(150):
        path = files[turn % len(files)]
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, rng))
        folder = folders["b" in path.relative_to(tmp_path).parts]
        answers.add(answer(read, folder))
        scan(tmp_path)
        path.write_bytes(whole)
    assert answers == {"read", "refused"}


def test_a_log_without_a_map(tmp_path: Path):
    folder = argoverse_sensor(tmp_path / "log", lever=LEVER)
    (folder / "map" / "log_map_archive_a.json").unlink()
    drive = read(folder)
    assert not drive.road.features
    assert "the log has no map" in drive.provenance.notes


@pytest.mark.parametrize("content", [[], {"lane_segments": {"1": {}}}, {"lane_segments": {"1": 3}}, {}])
def test_wrong_maps_are_named(tmp_path: Path, content: object):
    folder = argoverse_sensor(tmp_path / "log", lever=LEVER)
    (folder / "map" / "log_map_archive_a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"log_map_archive_a.json"):
        sensor.READER.read(folder)


REAL = [
    "argoverse2_motion/0a1e6f0a-1817-4a98-b02e-db8c9327d151",
    "argoverse2_sensor/3bffdcff-c3a7-38b6-a0f2-64196d130958",
    "argoverse2_sensor/7fab2350-7eaf-3b7e-a39d-6937a4c1bede",
    "argoverse2_sensor/adcf7d18-0510-35b0-a2fa-b4cea13a6d76",
]


@pytest.mark.parametrize("name", REAL)
def test_real_scenes_are_not_mirrored(name: str):
    """In America oncoming lanes lie to the left; moving cars point where they go, mirrored ones would not."""
    drive = scene(name)
    assert oncoming_on_the_left(drive.road) > 0.9
    assert course_agreement(drive.tracks) > 0.96
    flip = np.array([1.0, -1.0, 1.0])
    wrong = dataclasses.replace(drive.tracks, position=drive.tracks.position * flip)
    assert course_agreement(wrong) < 0.9
    lanes = np.concatenate([f.points[:, :2] for f in drive.road.of_kind(MapKind.LANE)])
    assert drive.route is not None
    near = np.linalg.norm(drive.route[:, None] - lanes, axis=-1).min(1)
    assert np.median(near) < 1.5, "the route follows a lane"


@pytest.mark.parametrize("name", REAL[1:])
def test_real_parked_cars_stand_still(name: str):
    """Many cars of a log stand, within the noise of far boxes; seen from a car that drives and turns, they do so only in the right frame."""
    drive = scene(name)
    tracks = drive.tracks
    spans = [
        np.ptp(tracks.position[k, tracks.valid[k], :2], axis=0).max()
        for k in np.flatnonzero(tracks.kind == ActorKind.VEHICLE)
        if k != drive.ego and tracks.valid[k].sum() > 50
    ]
    assert np.mean(np.array(spans) < 1.5) > 0.4
    ground = tracks.position[..., 2] - tracks.size[:, None, 2] / 2
    assert np.abs(np.median(ground[tracks.valid])) < 3.0
