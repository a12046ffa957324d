"""Whatever bytes a reader is given, it answers with a scenario or a `UserError`, and nothing else.

Three kinds of damage: bytes (cut, flipped, inserted), values (replaced by what JSON or a pickle can hold)
and structure (fields dropped). Seeds are fixed; each loop also has to meet both answers, so that a fuzz
that has stopped damaging, or that damages everything, fails.
"""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from countersteer.data.readers import comma2k19, read, scenarionet, waymo_json
from countersteer.errors import UserError
from countersteer.scenarios import storage
from countersteer.scenarios.scenario import Scenario
from fuzzing.mutations import STRANGE, STRANGE_IN_PICKLES, damaged, places, replaced
from recordings import SAMPLE, small_json, small_scene, write_comma, write_json


def answer(reading: Callable[[Path], Scenario], path: Path) -> str:
    """What reading gives; anything but a scenario or a `UserError` propagates and fails the test."""
    scenario, refusal = None, None
    try:
        scenario = reading(path)
    except UserError as error:
        refusal = str(error)
    if refusal is not None:
        assert path.name in refusal, "an error names its file"
        return "refused"
    assert isinstance(scenario, Scenario)
    assert np.isfinite(scenario.tracks.position).all()
    assert scenario.route is None or np.isfinite(scenario.route).all()
    return "read"


def test_json_of_damaged_bytes(tmp_path: Path) -> None:
    """Cut and flipped JSON, plain and gzipped."""
    rng = np.random.default_rng(10)
    plain = json.dumps(small_json()).encode()
    packed = gzip.compress(plain, 1)
    answers = set()
    for round in range(250):
        path = tmp_path / "a.json"
        path.write_bytes(damaged(packed if round % 2 else plain, rng))
        answers.add(answer(waymo_json.READER.read, path))
        waymo_json.READER.matches(path)
    assert answers == {"read", "refused"}


def test_json_of_strange_values(tmp_path: Path) -> None:
    """Every field of a JSON scene dropped once and replaced by strange values."""
    rng = np.random.default_rng(11)
    content = small_json()
    answers = set()
    for place in places(content):
        answers.add(
            answer(
                waymo_json.READER.read,
                write_json(tmp_path / "a.json", replaced(content, place, 0, drop=True)),
            )
        )
        for choice in rng.choice(len(STRANGE), 2, replace=False):
            changed = replaced(content, place, STRANGE[choice], drop=False)
            answers.add(answer(waymo_json.READER.read, write_json(tmp_path / "a.json", changed)))
    assert answers == {"read", "refused"}


def test_pickles_of_damaged_bytes(tmp_path: Path) -> None:
    """Cut and flipped pickles of protocols 2, 4 and 5: every failure of the unpickler is the file's."""
    rng = np.random.default_rng(12)
    whole = [pickle.dumps(small_scene(), protocol) for protocol in (2, 4, 5)]
    answers = set()
    for round in range(240):
        path = tmp_path / "a.pkl"
        path.write_bytes(damaged(whole[round % 3], rng))
        answers.add(answer(scenarionet.READER.read, path))
        scenarionet.READER.matches(path)
    assert answers == {"read", "refused"}


def test_pickles_of_strange_values(tmp_path: Path) -> None:
    """Every field of a ScenarioNet scene dropped once and replaced by strange values."""
    rng = np.random.default_rng(13)
    content = small_scene()
    answers = set()
    for dataset in ("waymo", "nuscenes"):
        content["metadata"]["dataset"] = dataset
        for place in places(content):
            path = tmp_path / "a.pkl"
            path.write_bytes(pickle.dumps(replaced(content, place, 0, drop=True)))
            answers.add(answer(scenarionet.READER.read, path))
            for choice in rng.choice(len(STRANGE_IN_PICKLES), 1, replace=False):
                path.write_bytes(
                    pickle.dumps(replaced(content, place, STRANGE_IN_PICKLES[choice], drop=False))
                )
                answers.add(answer(scenarionet.READER.read, path))
    assert answers == {"read", "refused"}


def test_hostile_pickles_cost_nothing(tmp_path: Path) -> None:
    """Short streams that ask for gigabytes, endless recursion or state for a stand-in are refused at once."""
    start = b"\x80\x04version length"  # what the sniffer looks for; the unpickler stops at it
    reconstruct = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n"
    streams = [
        b"\x80\x04r\xff\xff\xff\x7f.",  # memo index of two thousand million
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00.",  # bytes of 2**56
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a frame of 2**63
        b"\x80\x04" + b"(" * 200_000,
        b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",  # a list in a list in a list ...
        reconstruct + b"}b.",  # state for the constructor itself
        reconstruct + b"(NNtRN.",
        b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00f8tR}b.",
        b"\x80\x02cbuiltins\ngetattr\n.",
        b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.",
        start,
    ]
    for number, stream in enumerate(streams):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(stream)
        assert answer(scenarionet.READER.read, path) == "refused"


def test_comma_segments_of_damaged_files(tmp_path: Path) -> None:
    """Cut and flipped arrays of a comma2k19 segment, one file at a time."""
    rng = np.random.default_rng(14)
    folder = write_comma(tmp_path / "segment")
    shutil.copytree(SAMPLE / "processed_log", folder / "processed_log")
    names = [
        *(f"global_pose/frame_{name}.npy" for name in ("times", "positions", "velocities", "orientations")),
        "processed_log/CAN/speed/t.npy",
        "processed_log/CAN/speed/value.npy",
    ]
    answers = set()
    for round in range(180):
        path = folder / names[round % len(names)]
        whole = path.read_bytes()
        # Headers are the first 128 bytes and hold all the structure: half of the damage goes there.
        head = damaged(whole[:128], rng) if round % 2 else whole[:128]
        path.write_bytes(head + whole[128:] if round % 2 else damaged(whole, rng))
        answers.add(answer(comma2k19.READER.read, folder))
        path.write_bytes(whole)
    assert answers == {"read", "refused"}


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((1200, 3)),
        np.full((1200, 3), np.nan),
        np.full((1200, 3), 1e300),
        np.zeros((1200, 4)),
        np.zeros(1200),
        np.array(["a"] * 1200),
        np.zeros((1200, 3), np.complex128),
        np.zeros((1, 3)),
    ],
)
@pytest.mark.parametrize("name", ["times", "positions", "velocities", "orientations"])
def test_comma_segments_of_strange_arrays(tmp_path: Path, name: str, values: np.ndarray) -> None:
    """Arrays of other shapes, types and values."""
    standing = (
        name == "velocities" and values.shape == (1200, 3) and values.dtype == float and not values.any()
    )
    expected = "read" if standing else "refused"
    assert answer(comma2k19.READER.read, write_comma(tmp_path / "segment", **{name: values})) == expected


def test_stored_scenarios_of_damaged_files(tmp_path: Path) -> None:
    """Cut and flipped tables and headers of our own form."""
    rng = np.random.default_rng(15)
    folder = storage.save(read(write_json(tmp_path / "a.json", small_json())), tmp_path / "stored")
    names = sorted(path.name for path in folder.iterdir())
    answers = set()
    for round in range(150):
        path = folder / names[round % len(names)]
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, rng))
        answers.add(answer(storage.load, folder))
        path.write_bytes(whole)
    assert answers == {"read", "refused"}


def test_stored_scenarios_of_strange_headers(tmp_path: Path) -> None:
    """Every field of scenario.json dropped once and replaced by strange values."""
    rng = np.random.default_rng(16)
    folder = storage.save(read(write_json(tmp_path / "a.json", small_json())), tmp_path / "stored")
    path = folder / "scenario.json"
    header = json.loads(path.read_text())
    answers = set()
    for place in places(header):
        path.write_text(json.dumps(replaced(header, place, 0, drop=True)))
        answers.add(answer(storage.load, folder))
        for choice in rng.choice(len(STRANGE), 6, replace=False):
            path.write_text(json.dumps(replaced(header, place, STRANGE[choice], drop=False)))
            answers.add(answer(storage.load, folder))
    assert answers == {"read", "refused"}
