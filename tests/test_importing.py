"""Importing many drives: gone on with after any interruption, nothing half done, no name leaves the folder."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from countersteer.commands import cli
from countersteer.data import importing
from countersteer.data.importing import JOURNAL, Outcome, import_drives
from countersteer.data.readers import read, scan
from countersteer.data.samples import recorded_drive
from countersteer.errors import UserError
from countersteer.scenarios import storage
from countersteer.storage.names import file_name
from recordings import argoverse_sensor, lyft, tfrecord, waymo_message


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Eight drives in four formats."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.tfrecord").write_bytes(tfrecord(*(waymo_message(f"w{k}") for k in range(3))))
    lyft(folder / "b.zarr", scenes=2)
    argoverse_sensor(folder / "log", lever=1.4)
    storage.save(recorded_drive(), folder / "stored")
    (folder / "c.tfrecord").write_bytes(tfrecord(waymo_message("w1", ego=1)))
    return folder


def outcomes(source: Path, out: Path) -> list[str]:
    return [drive.outcome.name for drive in import_drives(source, out)]


def test_everything_is_imported_once(source: Path, tmp_path: Path):
    """What comes out is what reading the source gives; two drives of one name get two folders."""
    out = tmp_path / "out"
    done = list(import_drives(source, out))
    assert [drive.outcome for drive in done] == [Outcome.WRITTEN] * 8
    assert [drive.number for drive in done] == list(range(1, 9))
    for drive in done:
        assert drive.folder is not None
        assert storage.load(drive.folder).fingerprint() == read(drive.source).fingerprint()
    names = {path.name for path in out.iterdir() if path.is_dir()}
    assert {"w0", "w1", "w2", "host-a0-7", "host-a1-7", "log"} <= names
    assert sum(name.startswith("w1-") for name in names) == 1
    assert scan(out) == sorted(out / name for name in names)
    assert outcomes(source, out) == ["THERE"] * 8


def test_a_drive_is_no_folder_to_import_into(source: Path):
    before = sorted((source / "stored").iterdir())
    with pytest.raises(UserError, match="is a drive itself"):
        list(import_drives(source, source / "stored"))
    assert sorted((source / "stored").iterdir()) == before


def test_an_interrupted_import_goes_on(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after three drives, in the middle of the fourth: the rest is read, the three are not, no draft stays."""
    out = tmp_path / "out"
    assert [drive.outcome for drive in itertools.islice(import_drives(source, out), 3)] == [
        Outcome.WRITTEN
    ] * 3
    (out / ".host-a0-7.x1y2z3").mkdir()  # a draft
    with (out / JOURNAL).open("a") as file:
        file.write('{"source": "/some')  # a torn line
    seen = []
    monkeypatch.setattr(importing, "read", lambda path: seen.append(path) or read(path))
    assert outcomes(source, out) == ["THERE"] * 3 + ["WRITTEN"] * 5
    assert len(seen) == 5
    assert outcomes(source, out) == ["THERE"] * 8
    assert len(seen) == 5, "the second time, nothing is read"
    assert not [path for path in out.iterdir() if path.name.startswith(".host")]


def test_a_lost_journal_costs_only_time(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    outcomes(source, out)
    (out / JOURNAL).unlink()
    assert outcomes(source, out) == ["THERE"] * 8


def test_a_removed_folder_is_imported_again_and_a_changed_source_is_named(tmp_path: Path):
    path, out = tmp_path / "a.tfrecord", tmp_path / "out"
    path.write_bytes(tfrecord(waymo_message("a"), waymo_message("b")))
    assert outcomes(path, out) == ["WRITTEN"] * 2
    (out / "a").rename(tmp_path / "elsewhere")
    assert outcomes(path, out) == ["WRITTEN", "THERE"]
    path.write_bytes(tfrecord(waymo_message("a", ego=1), waymo_message("b")))
    first, second = import_drives(path, out)
    assert first.outcome is second.outcome is Outcome.FAILED
    assert "has changed since it was imported" in str(first.error)


def test_names_stay_in_the_folder():
    """An identifier out of a file never becomes a path to somewhere else."""
    for name in (
        "../../etc/x",
        "/etc/x",
        "..",
        ".",
        "",
        "a\\b|c",
        "x" * 500,
        ".hidden",
        "\n",
        "CON",
        "nul.x",
        "-rf",
    ):
        folder = file_name(name, "f00d")
        assert folder not in ("", ".", "..")
        assert "/" not in folder
        assert not folder.startswith((".", "-"))
        assert folder.lower() not in ("con", "nul.x")
        assert len(folder) <= 120


def test_nothing_to_import_leaves_nothing(tmp_path: Path):
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="nothing that we can read"):
        list(import_drives(tmp_path / "in", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_command_counts(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Progress a drive, a sum at the end, and 2 as its answer when a drive failed."""
    line = ["data", "import", str(source), "--out", str(tmp_path / "out")]
    assert cli.main(line) == 0
    told = capsys.readouterr().out
    assert f"[1/8] wrote {tmp_path / 'out' / 'w0'} (" in told
    assert "8 written, 0 there already, 0 failed" in told
    (source / "bad.tfrecord").write_bytes((source / "c.tfrecord").read_bytes()[:-9])
    assert cli.main(line) == 2
    told = capsys.readouterr()
    assert "0 written, 8 there already, 1 failed" in told.out
    assert "bad.tfrecord: record 0 at byte 0 is cut short" in told.err
    single = ["data", "import", str(source / "a.tfrecord#1"), "--out", str(tmp_path / "one")]
    assert cli.main(single) == 0
    assert storage.load(tmp_path / "one").id == "w1"
