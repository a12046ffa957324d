"""Files made to break their reader: refused or read within bounds of memory and time, and their names stay names."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from countersteer.commands import cli
from countersteer.data.readers import read, scan
from countersteer.data.readers.fields import Allowance, Field, numbers_of_text
from countersteer.data.readers.plain_pickle import load_plain
from countersteer.errors import UserError, reading, shown
from countersteer.storage.files import parse_json, parse_npy, read_bytes, read_npz
from countersteer.storage.names import file_name, free_path
from countersteer.storage.tables import parse_table
from test_readers import small_json, small_scene, write_json

PROTO = b"\x80\x04"
BIG = (1 << 40).to_bytes(8, "little")


def peak_of(work: Callable[[], Any]) -> int:
    """Most memory [bytes] that Python allocates while `work` is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        PROTO + b"\x96" + BIG + b".",  # BYTEARRAY8
        PROTO + b"\x8e" + BIG + b".",  # BINBYTES8
        PROTO + b"\x8d" + BIG + b".",  # BINUNICODE8
        PROTO + b"\x95" + BIG + b".",  # FRAME
        PROTO + b"\x8b\xff\xff\xff\x7f",  # LONG4
        PROTO + b"cbuiltins\nstr\n]\x85R.",  # the text of a list, which may hold itself
        PROTO + b"cnumpy\ndtype\n(N}\x8c\x07resolveK\x05s\x86tb.",  # a stand-in changed for all later files
        PROTO + b"}N" + b"\x85" * 50_000 + b"Ns.",  # a key that is too deep to be hashed
        PROTO + b"cos\nsystem\n.",
    ],
)
def test_pickles_that_declare_or_do_too_much(content: bytes):
    assert peak_of(lambda: load_plain(Path("x.pkl"), content)) < 20 << 20


@pytest.mark.parametrize("operation", [b"]", b"}", b"\x8f", b"(", b"\x94", b"2", b"N"])
def test_every_operation_of_a_pickle_is_paid_for(operation: bytes, monkeypatch: pytest.MonkeyPatch):
    """No byte takes more memory than it is charged with."""
    monkeypatch.setattr("countersteer.data.readers.plain_pickle.MAX_MEMORY", 4 << 20)
    content = PROTO + b"N" + operation * 200_000
    assert peak_of(lambda: load_plain(Path("x.pkl"), content)) < 12 << 20


def test_lists_that_hold_one_list_many_times():
    """Ten lists that double are small in the file and enormous as an array."""
    value: Any = [0.0] * 1000
    for _ in range(4):
        value = [value] * 1000
    for ask in (lambda field: field.numbers(None, None), lambda field: field.shape()):
        with pytest.raises(UserError):
            ask(Field(Path("x"), "state", value, Allowance(100_000)))
    shared = Field(Path("x"), "tracks", [np.zeros(1000)] * 100, Allowance(50_000))
    entries = shared.entries()
    with pytest.raises(UserError, match="one value too many"):
        [entry.numbers(None) for entry in entries]


def test_whole_numbers_with_too_many_digits(tmp_path: Path):
    for place in ("length", "id"):
        scene = small_scene()
        scene[place] = 10**5000
        path = tmp_path / "huge.pkl"
        path.write_bytes(pickle.dumps(scene))
        with pytest.raises(UserError, match=f"{place} is too large a number"):
            read(path)
    with pytest.raises(UserError, match="not valid JSON"):
        parse_json(b"[" + b"9" * 5000 + b"]", "x")


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"[" + b"{}," * 4_000_000 + b"{}]", b'{"a":' * 50_000, b"\xff\xfe[", b""]
)
def test_json_that_is_deep_or_holds_too_much(content: bytes):
    assert peak_of(lambda: parse_json(content, "x.json")) < 40 << 20


def test_text_of_too_many_or_too_long_lines():
    for data in (b"1 2\n" * 300_000, b"1 " * 100_000, b"\n" * 300_000):
        assert (
            peak_of(lambda data=data: numbers_of_text(Path("poses.txt"), "poses", data, 2, most_rows=100_000))
            < 5 << 20
        )


def test_npy_and_npz_that_lie(tmp_path: Path):
    def header(text: str) -> bytes:
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()

    for shape, kind in (("(10**12,)", "<f8"), ("(1000000000000,)", "<f8"), ("(2,)", "|O")):
        content = header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}\n") + bytes(16)
        assert peak_of(lambda content=content: parse_npy(content, "x.npy")) < 5 << 20
    stored, packed = io.BytesIO(), tmp_path / "x.npz"
    np.save(stored, np.zeros(200_000))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", stored.getvalue())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", stored.getvalue())
        archive.writestr("b.npy", stored.getvalue())
    assert read_npz(packed, ["b"])["b"].shape == (200_000,)
    with pytest.raises(UserError, match="2 times"):
        read_npz(packed, ["a"])
    with pytest.raises(UserError, match="more than 1000000 bytes"):
        read_npz(packed, ["b"], limit=1_000_000)


def test_tables_that_grow():
    """Compressed zeros, one long text in every row, runs and empty types: refused by what they declare."""
    zeros, texts = pa.table({"a": np.zeros(1_000_000)}), pa.table({"a": ["x" * 10_000] * 2000})
    for table, how in (
        (zeros, {"compression": "zstd"}),
        (zeros, {"compression": "lz4", "chunksize": 1_000_000}),
    ):
        stream = io.BytesIO()
        feather.write_feather(table, stream, **how)
        assert parse_table(stream.getvalue(), "x").equals(table)
        with pytest.raises(UserError, match="too large"):
            parse_table(stream.getvalue(), "x", limit=4_000_000)
    for table, how, says in (
        (zeros, {"compression": "zstd"}, "too large"),
        (texts, {"use_dictionary": False, "compression": "gzip"}, "too large"),
        (texts, {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}, "repeats itself"),
    ):
        stream = io.BytesIO()
        pq.write_table(table, stream, **how)
        with pytest.raises(UserError, match=says):
            parse_table(stream.getvalue(), "x", limit=4_000_000)
    stream = io.BytesIO()
    feather.write_feather(pa.table({"a": [1], "n": pa.nulls(1)}), stream)
    assert parse_table(stream.getvalue(), "x").column_names == ["a"]
    with pytest.raises(UserError, match="not a whole table"):
        parse_table(stream.getvalue()[:-20], "x")


def test_damaged_metadata_of_parquet_ends_no_process():
    """Any byte of it may be wrong: for the first three pyarrow aborts where it hands out what they say of columns."""
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": ["x", None]}), stream)
    whole = stream.getvalue()
    start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    rng = np.random.default_rng(0)
    draws = zip(rng.integers(len(whole) - start, size=200), rng.integers(256, size=200), strict=True)
    refused = 0
    for at, value in [(20, 41), (28, 12), (137, 69), *draws]:
        content = bytearray(whole)
        content[start + at] = value
        try:
            parse_table(bytes(content), "x")
        except UserError:
            refused += 1
    assert refused > 60


def test_columns_are_measured_whatever_name_they_state():
    """The place of a column counts, not the path that it gives itself."""
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": np.zeros(1_000_000)}), stream, compression="zstd", use_dictionary=False)
    whole = stream.getvalue()
    start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    at = whole.index(b"\x19\x18\x01a", start)  # path_in_schema
    content = whole[: at + 3] + b"b" + whole[at + 4 :]
    with pytest.raises(UserError, match="too large"):
        parse_table(content, "x", limit=8_100_000)


@pytest.mark.parametrize("what", ["times", "float16"])
def test_numbers_that_cannot_be_are_told_without_warnings_of_numpy(tmp_path: Path, what: str):
    scene = small_scene()
    if what == "times":
        scene["metadata"]["ts"] = np.arange(len(scene["metadata"]["ts"])) * 5e-324
    else:
        for track in scene["tracks"].values():
            track["state"] = {
                name: np.asarray(value, np.float64).clip(-6e4, 6e4).astype(np.float16)
                if name != "valid"
                else value
                for name, value in track["state"].items()
            }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(scene))
    with warnings.catch_warnings(record=True) as caught, contextlib.suppress(UserError):
        warnings.simplefilter("always")
        read(path)
    assert not [str(each.message) for each in caught]


def test_gzip_of_many_members_and_of_zeros(tmp_path: Path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"ab") * 3)
    assert read_bytes(path) == b"ababab"
    path.write_bytes(gzip.compress(b"") * 101_000)
    with pytest.raises(UserError, match="gzip members"):
        read_bytes(path)


def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pipes do not hang, loops end, and what may not be listed hides nothing else."""
    good = write_json(tmp_path / "a.json", small_json())
    os.mkfifo(tmp_path / "b.json")
    (tmp_path / "loop").symlink_to("loop")
    closed = tmp_path / "closed"
    closed.mkdir()
    listed = Path.iterdir

    def refusing(path: Path) -> Any:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    assert scan(tmp_path) == [good, closed]
    for path in (
        tmp_path / "b.json",
        tmp_path / "loop",
        tmp_path / "nothing",
        Path("a\0b"),
        Path("x" * 5000),
    ):
        for ask in (read, scan):
            with pytest.raises(UserError, match=r"cannot be read|does not exist"):
                ask(path)


def test_faults_of_others_become_ours():
    for error in (
        OSError(28, "No space left"),
        KeyError("x"),
        MemoryError(),
        RecursionError(),
        pa.ArrowException("x"),
    ):
        with (
            pytest.raises(UserError, match="a file cannot be read"),
            reading("a file", "cannot be read"),
        ):
            raise error
    with pytest.raises(KeyboardInterrupt), reading("a file", "cannot be read"):
        raise KeyboardInterrupt


NAMES = (
    "../../x", "/etc/x", "[/foo]", "[bold]x", ":bomb:", "\x1b[2J\x1b]0;owned\x07", "a\nb", "x" * 10_000, "con",
    "a\u202eb", r"$\frac$", "nul\0", "ü",
)  # fmt: skip


def test_names_from_data_are_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """They are listed and imported as they are; nothing lands elsewhere, nothing invisible is printed."""
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / "in"
    inside.mkdir()
    for number, name in enumerate(NAMES):
        write_json(inside / f"{number}.json", {**small_json(), "scenario_id": name})
    for words in (["list", "in"], ["import", "in", "--out", "out"]):
        assert cli.main(["data", *words]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert all(letter.isprintable() for letter in told.out.replace("\n", ""))
    assert "[/foo]" in told.out
    assert ":bomb:" in told.out
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert len([path for path in (tmp_path / "out").iterdir() if path.is_dir()]) == len(NAMES)


@pytest.mark.parametrize("name", ["../x", r"$\frac$ [/b]"])
def test_pictures_of_names_stay_here(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    write_json(tmp_path / "a.json", {**small_json(), "scenario_id": name})
    for _ in range(2):
        assert cli.main(["data", "inspect", str(tmp_path / "a.json")]) == 0
    assert len(list(here.glob("*.png"))) == 2, "a second picture replaces none"
    assert len(list(tmp_path.rglob("*.png"))) == 2


def test_names_of_files():
    assert file_name("../a b", "x") == "_a_b"
    assert file_name("...", "x") == "x"
    assert shown("\ud800\x9b") == "\\ud800\\x9b"


def test_a_picture_finds_a_free_name(tmp_path: Path):
    (tmp_path / "a.png").touch()
    assert free_path(tmp_path / "a.png") == tmp_path / "a-2.png"


def test_output_that_is_not_unicode(tmp_path: Path):
    write_json(tmp_path / "a.json", {**small_json(), "scenario_id": "straße"})
    words = [sys.executable, "-m", "countersteer", "data", "list", str(tmp_path)]
    done = subprocess.run(
        words,
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"stra\\xdfe" in done.stdout


def test_json_of_names_can_be_written(tmp_path: Path):
    write_json(tmp_path / "a.json", {**small_json(), "scenario_id": "\x1b[31m"})
    assert cli.main(["data", "list", str(tmp_path), "--json", str(tmp_path / "rows.txt")]) == 0
    assert json.loads((tmp_path / "rows.txt").read_text())[0]["id"] == "\x1b[31m"
