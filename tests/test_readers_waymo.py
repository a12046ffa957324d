"""Waymo Motion TFRecords: check sums, messages, every kind of map feature, lights, and damage by its offset."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import numpy as np
import pytest

from countersteer.data.readers import read, scan
from countersteer.data.readers.tfrecord import crc32c, is_tfrecord
from countersteer.errors import UserError
from countersteer.geometry.polylines import curvatures
from countersteer.scenarios.scenario import ActorKind, MapKind, SignalState
from fuzzing.mutations import damaged
from recordings import COUNT, PARKED, ego_path, field, tfrecord, waymo_message
from test_readers import course_agreement, oncoming_on_the_left, scene, velocity_gap
from test_readers_fuzz import answer


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_crc32c_is_the_published_one():
    """Vectors of RFC 3720, appendix B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("length", [65_535, 65_536, 70_001, 300_000])
def test_crc32c_of_lanes_is_that_of_the_whole(length: int):
    """Long data are taken in lanes; the CRC of their pieces, none long enough for lanes, tells the same."""
    data = np.random.default_rng(length).integers(0, 256, length, np.uint8).tobytes()
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF


def test_an_identifier_that_is_no_text_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="scenario_id is not readable text"):
        read(write(tmp_path / "a.tfrecord", tfrecord(waymo_message() + field(5, b"\xff\xfe"))))


def test_a_record_is_read(tmp_path: Path):
    """Tracks, lights and map of the story arrive where they were; left stays left."""
    drive = read(write(tmp_path / "a.tfrecord", tfrecord(waymo_message())))
    assert drive.id == "small"
    assert drive.tracks.ids == ("7", "8", "9")
    assert drive.tracks.kind.tolist() == [ActorKind.VEHICLE, ActorKind.VEHICLE, ActorKind.PEDESTRIAN]
    assert drive.tracks.position[0, :, :2] == pytest.approx(ego_path(), abs=1e-6)
    assert drive.tracks.position[1, 0, :2] == pytest.approx(PARKED)
    assert drive.tracks.valid.sum(1).tolist() == [COUNT, COUNT - 1, COUNT]
    assert drive.tracks.size[0] == pytest.approx([4.8, 2.0, 1.6])
    assert drive.route is not None
    assert curvatures(drive.route)[5] == pytest.approx(0.2 / 8.0, rel=0.1)
    kinds = [feature.kind for feature in drive.road.features]
    assert kinds == [
        MapKind.LANE,
        MapKind.LINE_SOLID_YELLOW,
        MapKind.ROAD_EDGE,
        MapKind.STOP_SIGN,
        MapKind.CROSSWALK,
        MapKind.SPEED_BUMP,
        MapKind.DRIVEWAY,
        MapKind.LINE_DASHED_WHITE,
    ]
    lane = drive.road.features[0]
    assert lane.width == pytest.approx(3.4)
    assert lane.speed_limit == pytest.approx(11.176)
    assert len(drive.road.features[4].points) == 4, "polygons are not closed by a repeated vertex"
    assert drive.signals.lane == ("1",)
    assert drive.signals.heading[0] == pytest.approx(0.0)
    assert drive.signals.stop_point[0, :2] == pytest.approx([30.0, 0.0])
    assert drive.signals.state[0, [0, 5, 19, 20]].tolist() == [
        SignalState.STOP,
        SignalState.UNKNOWN,
        SignalState.STOP,
        SignalState.GO,
    ]
    assert any("bicycle" in note for note in drive.provenance.notes)


def test_a_file_of_many_records(tmp_path: Path):
    """Records are named file#0, file#1 ...; each is read alone, and a number too high is refused."""
    data = tfrecord(waymo_message("a"), waymo_message("b"), waymo_message("c"))
    path = write(tmp_path / "many.tfrecord", data)
    found = scan(tmp_path)
    assert [p.name for p in found] == ["many.tfrecord#0", "many.tfrecord#1", "many.tfrecord#2"]
    assert [read(p).id for p in found] == ["a", "b", "c"]
    assert read(found[1]).provenance.path == str(found[1])
    with pytest.raises(UserError, match="holds 3 records"):
        read(path)
    with pytest.raises(UserError, match="no records 3"):
        read(tmp_path / "many.tfrecord#3")


def test_damage_is_named_by_record_and_offset(tmp_path: Path):
    """A flipped byte, a cut file and a wrong header each name the record and its byte offset."""
    data = tfrecord(waymo_message("a"), waymo_message("b"))
    second = len(data) // 2
    flipped = bytearray(data)
    flipped[second + 500] ^= 1
    path = write(tmp_path / "flipped.tfrecord", bytes(flipped))
    assert read(tmp_path / "flipped.tfrecord#0").id == "a", "the whole record before it can be read"
    with pytest.raises(UserError, match=f"flipped.tfrecord: record 1 at byte {second} is damaged"):
        read(tmp_path / "flipped.tfrecord#1")
    path = write(tmp_path / "cut.tfrecord", data[:-100])
    with pytest.raises(UserError, match=f"record 1 at byte {second} is cut short"):
        read(path)
    assert scan(path) == [path], "a damaged file is listed, so that reading it says what is wrong"
    flipped = bytearray(data)
    flipped[second] ^= 1
    with pytest.raises(UserError, match=f"record 1 at byte {second} has a length with a wrong check sum"):
        read(write(tmp_path / "header.tfrecord", bytes(flipped)))
    with pytest.raises(UserError, match=f"record 1 at byte {second} has no whole header"):
        read(write(tmp_path / "stub.tfrecord", data[: second + 5]))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (field(1, b"\n\x05hello"), "is no Scenario message"),  # a tf.Example
        (waymo_message(ego=3), "sdc_track_index names no track"),
        (field(1, 0.0) + field(1, 0.1) + field(2, field(1, 1)), r"tracks\[0\].states has the wrong shape"),
        (b"", "tracks is empty"),
        (b"\xff" * 12, "is no Scenario message"),
        (struct.pack("<I", 7), "is no Scenario message"),
    ],
)
def test_other_messages_are_refused(tmp_path: Path, message: bytes, says: str):
    with pytest.raises(UserError, match=f"a.tfrecord: record 0 at byte 0.*{says}"):
        read(write(tmp_path / "a.tfrecord", tfrecord(message)))


def test_damaged_messages_are_refused_or_read(tmp_path: Path):
    """Flips inside a message whose check sum is right: a scenario or a `UserError`, nothing else."""
    rng = np.random.default_rng(20)
    whole, answers = waymo_message(), set()
    path = tmp_path / "a.tfrecord"
    for _ in range(80):
        path.write_bytes(tfrecord(damaged(whole, rng)))
        answers.add(answer(read, path))
    assert answers == {"read", "refused"}


def test_damaged_files_are_refused_or_read(tmp_path: Path):
    """Flips anywhere in a file: the check sums find every one that matters."""
    rng = np.random.default_rng(22)
    whole = tfrecord(waymo_message())
    path = tmp_path / "a.tfrecord"
    for _ in range(60):
        data = damaged(whole, rng)
        path.write_bytes(data)
        if data != whole and is_tfrecord(path):
            assert answer(read, path) == "refused"


NAMES = ["motion_data_one_scenario", "womd_scenario_input"]


@pytest.mark.parametrize("name", NAMES)
def test_real_scenes_are_not_mirrored(name: str):
    """In America oncoming lanes lie to the left; moving cars point where they go, mirrored ones would not."""
    drive = scene(f"womd_tfrecord/{name}.tfrecord")
    assert oncoming_on_the_left(drive.road) > 0.9
    assert course_agreement(drive.tracks) > 0.97
    assert velocity_gap(drive.tracks, drive.times) < 0.1
    flip = np.array([1.0, -1.0, 1.0])
    wrong = dataclasses.replace(drive.tracks, position=drive.tracks.position * flip)
    assert course_agreement(wrong) < 0.9
    assert 3.0 < drive.lane_width < 5.0


def test_real_lights_hold_the_ego():
    """Twelve lights; the ego, which stands, waits at a red one of its lane."""
    drive = scene("womd_tfrecord/motion_data_one_scenario.tfrecord")
    assert len(drive.signals.lane) == 12
    assert drive.ego is not None
    assert drive.route is not None
    lanes = {feature.id: feature for feature in drive.road.of_kind(MapKind.LANE)}
    assert set(drive.signals.lane) <= set(lanes)
    front = drive.tracks.position[drive.ego, 0, :2]
    ahead = drive.signals.stop_point[:, :2] - front
    turn = drive.tracks.heading[drive.ego, 0]
    forward = ahead @ np.array([np.cos(turn), np.sin(turn)])
    left = ahead @ np.array([-np.sin(turn), np.cos(turn)])
    mine = (forward > 0) & (forward < 10) & (np.abs(left) < 1.8)
    assert mine.any()
    assert (drive.signals.state[mine, 0] == SignalState.STOP).all()
    assert np.cos(drive.signals.heading[mine] - turn) == pytest.approx(1.0, abs=0.02)
