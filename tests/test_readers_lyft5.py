"""Lyft Level 5: the zarr and Blosc containers, the scenes in them, and damage that is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from countersteer.data.readers import read, scan
from countersteer.data.readers.zarr_array import ZarrArray
from countersteer.errors import MissingExtraError, UserError
from countersteer.geometry.polylines import curvatures
from countersteer.scenarios.scenario import ActorKind
from fuzzing.mutations import damaged
from recordings import COUNT, PARKED, ego_heading, ego_path, lyft
from test_readers import scene
from test_readers_fuzz import answer


@pytest.mark.parametrize("codec", ["lz4", "zlib", "zstd", "blosclz", None])
def test_a_scene_is_read(tmp_path: Path, codec: str | None):
    """The story arrives across chunks of 40 frames and 50 agents; unknown things are left out, and said so."""
    if codec is not None:
        pytest.importorskip("numcodecs")
    drive = read(lyft(tmp_path / "a.zarr", codec=codec))
    tracks = drive.tracks
    assert drive.id == "host-a0-7"
    assert tracks.ids == ("ego", "1", "2")
    assert tracks.kind.tolist() == [ActorKind.VEHICLE, ActorKind.VEHICLE, ActorKind.PEDESTRIAN]
    assert tracks.position[0, :, :2] == pytest.approx(ego_path(), abs=1e-6)
    assert tracks.heading[0] == pytest.approx(ego_heading())
    assert tracks.position[1, 0] == pytest.approx([*PARKED, 9.2 - 9 + 0.75])
    assert tracks.valid[2].tolist() == [tick != 3 for tick in range(COUNT)]
    assert tracks.velocity[2, 0] == pytest.approx([0.0, 1.2], abs=1e-5), "zero in the source"
    assert drive.route is not None
    assert curvatures(drive.route)[5] == pytest.approx(0.2 / 8.0, rel=0.1)
    said = " ".join(drive.provenance.notes)
    assert "no map" in said
    assert "1 of 3 tracks are of no known kind" in said


def test_a_group_of_many_scenes(tmp_path: Path):
    folder = lyft(tmp_path / "many.zarr", scenes=3)
    found = scan(tmp_path)
    assert [path.name for path in found] == ["many.zarr#0", "many.zarr#1", "many.zarr#2"]
    drives = [read(path) for path in found]
    assert [drive.id for drive in drives] == ["host-a0-7", "host-a1-7", "host-a2-7"]
    for drive in drives:
        assert drive.tracks.position[0, :, :2] == pytest.approx(ego_path(), abs=1e-6)
    with pytest.raises(UserError, match="holds 3 scenes"):
        read(folder)


def test_wrong_arrays_are_named(tmp_path: Path):
    """A missing chunk, a header of another form and rows that are not there each name the array."""
    folder = lyft(tmp_path / "a.zarr")
    (folder / "agents" / "1").unlink()
    with pytest.raises(UserError, match=r"agents/1 does not exist"):
        read(folder)
    with pytest.raises(UserError, match="does not have these rows"):
        ZarrArray(folder / "frames").rows(5, 1000)
    header = json.loads((folder / "frames" / ".zarray").read_text())
    for key, value, says in (
        ("dtype", [["timestamp", "|O"]], "no column of numbers or text"),
        ("compressor", {"id": "zlib"}, "is not read"),
        ("order", "F", "of a form that is not read"),
        ("chunks", [1 << 40], "too large"),
        ("shape", [2, 2], "is not one length"),
    ):
        (folder / "frames" / ".zarray").write_text(json.dumps({**header, key: value}))
        with pytest.raises(UserError, match=says):
            read(folder)


def test_a_packed_file_without_the_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = lyft(tmp_path / "a.zarr")
    header = json.loads((folder / "scenes" / ".zarray").read_text())
    (folder / "scenes" / ".zarray").write_text(json.dumps({**header, "compressor": {"id": "blosc"}}))
    monkeypatch.setitem(sys.modules, "numcodecs", None)
    with pytest.raises(MissingExtraError, match=r"countersteer\[lyft\]"):
        read(folder)


@pytest.mark.parametrize("codec", ["lz4", None])
def test_damaged_files_are_refused_or_read(tmp_path: Path, codec: str | None):
    """Cut and flipped chunks and headers: a scenario or a `UserError` that names the folder."""
    if codec is not None:
        pytest.importorskip("numcodecs")
    rng = np.random.default_rng(23)
    folder = lyft(tmp_path / "a.zarr", codec=codec)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    answers = set()
    for turn in range(120):
        path = files[turn % len(files)]
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, rng))
        answers.add(answer(read, folder))
        scan(tmp_path)
        path.write_bytes(whole)
    assert answers == {"read", "refused"}


def test_a_real_scene_is_not_mirrored():
    """Cars that drive point where they go; the perception's headings flip for some frames, hence the median."""
    pytest.importorskip("numcodecs")
    drive = scene("lyft_l5_single_scene/single_scene.zarr")
    tracks = drive.tracks
    assert drive.times[-1] == pytest.approx(24.7, abs=0.05)
    moved = np.diff(tracks.position[..., :2], axis=1)
    driving = tracks.valid[:, 1:] & tracks.valid[:, :-1] & (np.linalg.norm(moved, axis=-1) > 0.5)
    course = np.arctan2(moved[..., 1], moved[..., 0])
    assert np.median(np.cos(course - tracks.heading[:, :-1])[driving]) > 0.999
    assert np.median(np.cos(-course - tracks.heading[:, :-1])[driving]) < 0.5
    assert drive.ego == 0
    assert (np.cos(course - tracks.heading[:, :-1])[0] > 0.99).all(), "the ego points where it goes"
