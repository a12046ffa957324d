"""INTERACTION recordings: who drives, in which frame, on which map, and what is refused."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest

import lanelet_files
from countersteer.data.readers import interaction, read, scan
from countersteer.errors import UserError
from countersteer.geometry.polygons import distance_to_segments
from countersteer.geometry.utm import utm, utm_zone
from countersteer.scenarios.scenario import ActorKind, MapKind, Scenario
from lanelet_files import DT, HEADER, LANE, MIDDLE, SPEED, STEPS, people, recording, rows


def shift_of(scenario: Scenario) -> np.ndarray:
    """Where the scenario's origin is in the source."""
    note = next(note for note in scenario.provenance.notes if note.startswith("moved"))
    return np.array([float(word) for word in note.split("(")[1].split(")")[0].split(",")])


def test_utm_by_known_values():
    # Where the equator meets Greenwich: the textbook's false easting; north of the middle of a zone: the meridian's arc.
    assert utm(np.zeros(1), np.zeros(1), 31)[0] == pytest.approx([166021.4431, 0.0], abs=1e-3)
    assert utm(np.array([45.0]), np.array([3.0]), 31)[0] == pytest.approx(
        [500000.0, 0.9996 * 4984944.378], abs=2e-3
    )
    assert [utm_zone(longitude) for longitude in (-180.0, 0.0, 8.4, 139.9, 179.9)] == [1, 31, 32, 54, 60]
    south, north = utm(np.array([-0.5, 0.5]), np.array([9.0, 9.0]), 32)
    assert south[1] == -north[1] < 0


def test_the_trap_of_the_projection():
    # A metre of longitude at (0, 0) is 3 degrees from the middle of its zone: 1.000975 of the ellipsoid's.
    origin = utm(np.zeros(1), np.zeros(1), 31)
    east, north = (utm(np.array([0.009]), np.array([0.009]), 31) - origin)[0]
    assert east == pytest.approx(0.009 * 111319.491 * 1.000975, abs=0.02)
    assert north == pytest.approx(0.009 * 110574.276 * 1.000975, abs=0.02)


def test_a_recording(tmp_path: Path):
    path = recording(tmp_path)
    found = scan(tmp_path)
    assert [each.name for each in found] == [
        f"{path.name}#0",
        f"{path.name}#1",
    ]  # who stands and who is short drive not
    scenario = read(found[0])
    shift, ego = shift_of(scenario), scenario.ego
    assert ego is not None
    assert scenario.tracks.ids == ("1", "2", "3", "4")
    assert scenario.times == pytest.approx(DT * np.arange(STEPS))
    t = scenario.times
    here = scenario.tracks.position[ego, :, :2] + shift[:2]
    assert here[:, 0] == pytest.approx(905 + SPEED * t - 0.1 * t**2, abs=1e-3)
    assert here[:, 1] == pytest.approx(MIDDLE - 1.75)
    assert scenario.tracks.size[:2] == pytest.approx(np.array([[4.6, 1.8, 1.6], [9.0, 2.5, 3.2]]))
    assert scenario.tracks.velocity[ego, 10] == pytest.approx([SPEED - 0.2, 0.0], abs=1e-3)
    parked = scenario.tracks.position[2, 0, :2] - scenario.tracks.position[ego, 0, :2]
    assert parked == pytest.approx([25.0, 6.75])  # ahead and left
    assert scenario.tracks.valid.sum(1).tolist() == [STEPS, STEPS - 20, STEPS, 20]
    assert scenario.lane_width == pytest.approx(LANE, abs=0.01)
    # The lane that the ego is on lies under it and goes where it goes.
    lanes = {each.id: each for each in scenario.road.of_kind(MapKind.LANE)}
    east = lanes[str(lanelet_files.street()[1]["east0"])]
    assert east.points[0, :2] + shift[:2] == pytest.approx([900.0, MIDDLE - 1.75], abs=1e-3)
    assert east.points[-1, :2] + shift[:2] == pytest.approx([960.0, MIDDLE - 1.75], abs=1e-3)
    assert east.speed_limit == pytest.approx(30 * 0.44704)
    assert scenario.provenance.source == "INTERACTION"
    assert "measuring only" in scenario.provenance.licence
    assert len(scenario.road.of_kind(MapKind.STOP_LINE)) == len(scenario.road.of_kind(MapKind.STOP_SIGN)) == 1
    kinds = {
        kind: len(scenario.road.of_kind(kind)) for kind in (MapKind.LINE_SOLID_YELLOW, MapKind.ROAD_EDGE)
    }
    assert kinds == {MapKind.LINE_SOLID_YELLOW: 3, MapKind.ROAD_EDGE: 9}


def test_a_drive_lasts_as_long_as_its_driver_is_seen(tmp_path: Path):
    path = recording(tmp_path)
    scenario = read(path.with_name(f"{path.name}#1"))
    assert scenario.ego is not None
    assert scenario.tracks.ids[scenario.ego] == "2"
    assert len(scenario.times) == STEPS - 20
    assert scenario.tracks.ids == ("1", "2", "3", "4")
    heading = scenario.tracks.heading[scenario.ego]
    assert np.cos(heading) == pytest.approx(-1.0, abs=1e-3)
    with pytest.raises(UserError, match="there is no drives 7"):
        read(path.with_name(f"{path.name}#7"))


def test_everybody_without_an_ego(tmp_path: Path):
    path = recording(tmp_path)
    people(path)
    whole = interaction.read_everybody(path)
    assert whole.ego is None
    assert whole.route is None
    assert whole.tracks.valid.shape == (6, 130)
    kinds = dict(zip(whole.tracks.ids, whole.tracks.kind.tolist(), strict=True))
    assert kinds["P1"] == ActorKind.PEDESTRIAN
    assert kinds["P2"] == ActorKind.CYCLIST
    walker = whole.tracks.ids.index("P1")
    assert whole.tracks.heading[walker, :STEPS] == pytest.approx(np.pi / 2)
    part = interaction.read_everybody(path, 2.0, 4.0)
    assert part.tracks.valid.shape == (5, 21)  # the last car is not there yet
    with pytest.raises(UserError, match="has nobody between"):
        interaction.read_everybody(path, 100.0)


def test_a_mirrored_table_or_another_map_is_refused(tmp_path: Path):
    mirrored = []
    for line in rows():
        words = line.split(",")
        words[5], words[7], words[8] = (
            str(2000 - float(words[5])),
            str(-float(words[7])),
            str(-float(words[8])),
        )
        mirrored.append(",".join(words))
    with pytest.raises(UserError, match="does not lie under the vehicles"):
        interaction.read_everybody(recording(tmp_path, mirrored))


def _turning(sign: float) -> list[str]:
    """A car on a circle to the left; headings of a sign."""
    lines = []
    for step in range(STEPS):
        turn = 0.01 * step
        x, y = 930 + 60 * np.sin(turn), MIDDLE + 60 * (1 - np.cos(turn))
        state = f"{6 * np.cos(turn):.4f},{6 * np.sin(turn):.4f},{sign * turn:.4f}"
        lines.append(f"1,{step + 1},{100 * (step + 1)},car,{x:.4f},{y:.4f},{state},4.6,1.8")
    return lines


def test_a_flipped_heading_is_found(tmp_path: Path):
    path = recording(tmp_path, _turning(-1.0))
    (tmp_path / "maps" / f"{lanelet_files.SITE}.osm").unlink()
    scenario = read(path)
    assert any("headings are clockwise" in note for note in scenario.provenance.notes)
    assert any("no map" in note for note in scenario.provenance.notes)
    assert scenario.tracks.heading[0, -1] == pytest.approx(0.01 * (STEPS - 1), abs=1e-3)
    upright = recording(tmp_path / "b", _turning(1.0), site="elsewhere")
    (tmp_path / "b" / "maps" / "elsewhere.osm").unlink()
    upright = read(upright)
    assert not any("clockwise" in note for note in upright.provenance.notes)
    assert upright.provenance.licence == "unknown"
    assert "INTERACTION" not in upright.provenance.source


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: [lines[0], *lines], "states a track twice"),
        (lambda lines: [lines[0].replace("905.000", "nan"), *lines[1:]], "not finite in row 1"),
        (lambda lines: [lines[0].replace("905.000", "abc"), *lines[1:]], "cannot be read"),
        (lambda lines: [lines[0].replace("905.000", ""), *lines[1:]], "not finite in row 1"),
        (lambda lines: [lines[0].replace("905.000", "1e9"), *lines[1:]], "out of range"),
        (lambda lines: [lines[0] + ",7", *lines[1:]], "cannot be read"),
        (
            lambda lines: [line for line in lines if line.startswith("3")],
            "no vehicle is seen for long enough",
        ),
        (lambda lines: [line.replace("car,", "car,9", 1) for line in lines[:1]] + lines[1:], "jumps"),
        (lambda lines: [], "is empty"),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, change, says: str):
    path = recording(tmp_path, change(rows()))
    with pytest.raises(UserError, match=says):
        read(path.with_name(f"{path.name}#0") if says not in ("is empty", "no vehicle") else path)


def test_a_table_that_is_cut_short_or_lacks_columns_is_refused(tmp_path: Path):
    path = recording(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert scan(tmp_path) == [path]
    with pytest.raises(UserError, match="cannot be decompressed"):
        read(path)
    short = "\n".join(line.rpartition(",")[0] for line in [HEADER, *rows()])
    path.write_bytes(lzma.compress(short.encode()))
    with pytest.raises(UserError, match="lacks a column"):
        read(path)
    path.write_bytes(lzma.compress(bytes(300_000_000), preset=0))
    with pytest.raises(UserError):
        read(path)


@pytest.fixture(scope="module")
def recordings(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "traffic" / "interaction").glob("DR_*/vehicle_tracks_*.csv.xz"))


def median_aside(scenario: Scenario) -> float:
    """How far the vehicles are from the middle of the nearest lane [m]."""
    lines = [lane.points[:, :2] for lane in scenario.road.of_kind(MapKind.LANE)]
    starts, ends = (np.concatenate([line[part] for line in lines]) for part in (slice(-1), slice(1, None)))
    places = scenario.tracks.position[scenario.tracks.valid][::97, :2]
    return float(np.median(distance_to_segments(starts, ends, places).min(-1)))


@pytest.mark.slow
def test_all_recordings_whole(recordings: list[Path]):
    """All 8,135 vehicles, 0.2 to 1.1 m (median of a recording) from the middle of the nearest lane."""
    assert len(recordings) == 59
    vehicles = minutes = 0.0
    for path in recordings:
        whole = interaction.read_everybody(path)
        vehicles, minutes = vehicles + len(whole.tracks.ids), minutes + whole.duration / 60
        assert median_aside(whole) < 1.1
    assert vehicles == 8135
    assert minutes == pytest.approx(281, abs=1)


def test_a_part_of_some_recordings(recordings: list[Path]):
    for path in recordings[::5]:
        part = interaction.read_everybody(path, 60.0, 65.0)
        assert part.times[-1] == pytest.approx(5.0)
        assert median_aside(part) < 2.5  # few cars


def test_every_site_gives_drives(recordings: list[Path]):
    sites = {path.parent.name: path for path in recordings}
    assert len(sites) == 6
    for path in sites.values():
        drives = scan(path)
        assert len(drives) > 20
        scenario = read(drives[len(drives) // 2])
        assert scenario.ego is not None
        assert scenario.route is not None
        assert scenario.duration >= interaction.LEAST_TIME - 0.01
        assert scenario.tracks.valid[scenario.ego].all()
