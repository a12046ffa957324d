"""Replays: what is loaded is what was saved, to the bit, and whatever is damaged says so."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from countersteer.errors import UserError
from countersteer.evaluation.driving import drive
from countersteer.evaluation.metrics import nuplan
from countersteer.evaluation.metrics.from_record import drive_of_record
from countersteer.evaluation.records import CaseResult, SuiteResult
from countersteer.evaluation.replay import VERSION, is_replay, load_replay, save_replay
from countersteer.geometry.cameras import Camera
from fuzzing.mutations import STRANGE, damaged, places, replaced
from test_report import a_drive, a_verdict
from test_scores_from_record import record, straight_road
from worlds import boxworld


def a_result(ticks: int = 12) -> SuiteResult:
    """Drives with pictures of two cameras and without, labels and confidence, of two scenarios, one of them twice."""
    rng = np.random.default_rng(0)
    seen = a_drive(ticks=ticks, drift=0.5)
    assert seen.frames is not None
    seen.frames[:] = rng.integers(0, 256, seen.frames.shape, np.uint8)  # the hardest pictures to keep
    left = rng.integers(0, 256, (ticks, 24, 40, 3), np.uint8)
    seen = dataclasses.replace(seen, views=seen.views | {"left <2>": left})
    labelled = dataclasses.replace(
        a_drive(ticks=ticks, frames=None),
        scenario=seen.scenario,
        plan_times=np.arange(1, 13) * 0.25,
        label=rng.normal(size=(ticks, 12, 2)),
        labelled=np.arange(ticks) > 3,
        confidence=rng.random(ticks),
        speed=np.full(ticks, np.nan),
    )
    other = record(straight_road(), ticks=ticks)
    records = (seen, labelled, other)
    cases = (
        a_verdict("bend <1>", seen),
        CaseResult("not counted", None, "", None, {"distance_m": float("nan")}),
        CaseResult("straight", True, "", None, {}),
    )
    return SuiteResult("lanes & co", "clone", "lanes v1 0123", cases, records)


def assert_same(one: Any, two: Any, where: str = "") -> None:
    """Equal to the bit, however deep."""
    assert type(one) is type(two), where
    if isinstance(one, np.ndarray):
        assert one.dtype == two.dtype, where
        assert one.shape == two.shape, where
        assert one.tobytes() == two.tobytes(), where
    elif dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(two, field.name), f"{where}.{field.name}")
    elif isinstance(one, dict):
        assert_same(tuple(one), tuple(two), f"{where} keys")
        assert_same(tuple(one.values()), tuple(two.values()), where)
    elif isinstance(one, tuple):
        assert len(one) == len(two), where
        for k, (first, second) in enumerate(zip(one, two, strict=True)):
            assert_same(first, second, f"{where}[{k}]")
    else:
        assert repr(one) == repr(two), where


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_replay(a_result(), tmp_path_factory.mktemp("replay") / "new" / "lanes.replay")


def test_a_replay_comes_back_to_the_bit_pictures_included(saved: Path):
    result = a_result()
    assert is_replay(saved)
    assert_same(load_replay(saved), result)
    assert [path.name for path in saved.parent.iterdir()] == ["lanes.replay"], "no draft is left"
    with zipfile.ZipFile(saved) as archive:
        scenarios = {name.split("/")[1] for name in archive.namelist() if name.startswith("scenarios/")}
    assert scenarios == {"0", "1"}, "a scenario of two drives is stored once"


def test_a_replay_of_version_1_has_the_first_camera(saved: Path, tmp_path: Path):
    """It kept that one alone, as frames.mkv, and did not say its name."""
    old = tmp_path / "old.replay"
    with zipfile.ZipFile(saved) as new, zipfile.ZipFile(old, "w") as archive:
        header = json.loads(new.read("replay.json"))
        header["version"] = 1
        for case in header["cases"]:
            cameras = case.pop("cameras")
            case["camera"] = cameras[0]["shape"] if cameras else None
        sums = header["sha256"]
        sums["drives/0/frames.mkv"] = sums.pop("drives/0/camera_0.mkv")
        del sums["drives/0/camera_1.mkv"]
        archive.writestr("replay.json", json.dumps(header))
        for name in sums:
            archive.writestr(name, new.read(name.replace("frames.mkv", "camera_0.mkv")))
    kept, result = load_replay(old), a_result()
    first = dataclasses.replace(result.records[0], views={"front": result.records[0].views["front"]})
    assert_same(kept, dataclasses.replace(result, records=(first, *result.records[1:])))


def test_every_camera_of_a_drive_is_kept():
    """Each as the policy saw it, in the order of the rig."""
    left = Camera(name="left", width=40, height=24, yaw=1.5)
    spec = boxworld(cameras=(Camera(), left), duration=0.3)
    (driven,) = drive(spec, [straight_road()], lambda starts: starts, None, seed=0)
    assert {name: frames.shape for name, frames in driven.views.items()} == {
        "front": (3, 48, 128, 3),
        "left": (3, 24, 40, 3),
    }
    assert driven.frames is driven.views["front"]
    (without,) = drive(spec, [straight_road()], lambda starts: starts, None, seed=0, frames=False)
    assert without.views == {}


def test_the_same_drives_give_the_same_file(saved: Path, tmp_path: Path):
    assert save_replay(load_replay(saved), tmp_path / "again").read_bytes() == saved.read_bytes()


def test_without_pictures_everything_else_is_there(saved: Path):
    without = load_replay(saved, frames=False)
    assert all(one.frames is None and one.views == {} for one in without.records)
    kept = a_result()
    bare = tuple(dataclasses.replace(one, views={}) for one in kept.records)
    assert_same(without, dataclasses.replace(kept, records=bare))


def test_a_score_of_a_replay_is_the_score_before_it_was_written(saved: Path):
    def scores(result: SuiteResult) -> list[str]:
        return [repr(nuplan.score_closed_loop(drive_of_record(one))) for one in result.records[2:]]

    assert scores(load_replay(saved)) == scores(load_replay(saved)) == scores(a_result())


def test_results_without_drives_and_folders_without_room_are_refused(tmp_path: Path):
    result = a_result(ticks=3)
    with pytest.raises(UserError, match="were kept"):
        save_replay(dataclasses.replace(result, records=()), tmp_path / "a.replay")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_replay(result, tmp_path / "file" / "a.replay")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def rewritten(path: Path, to: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """A replay with another header, its members untouched."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "replay.json":
                content = json.dumps(change(json.loads(content))).encode()
            new.writestr(name, content)
    return to


def test_other_versions_other_files_and_changed_members_are_refused(saved: Path, tmp_path: Path):
    later = rewritten(saved, tmp_path / "later.replay", lambda header: header | {"version": VERSION + 1})
    with pytest.raises(UserError, match="another version"):
        load_replay(later)
    with pytest.raises(UserError, match="does not exist"):
        load_replay(tmp_path / "nothing")
    (tmp_path / "text").write_text("no replay")
    assert not is_replay(tmp_path / "text")
    with pytest.raises(UserError, match="is not a replay"):
        load_replay(tmp_path / "text")

    def forge(header: dict[str, Any]) -> dict[str, Any]:
        header["sha256"]["drives/0/ticks.arrow"] = "0" * 64
        return header

    with pytest.raises(UserError, match="was changed after it was written"):
        load_replay(rewritten(saved, tmp_path / "forged", forge))


def test_a_member_cannot_leave_the_folder_it_is_unpacked_into(saved: Path, tmp_path: Path):
    bad = tmp_path / "deep" / "bad.replay"
    bad.parent.mkdir()
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(bad, "w") as new:
        header = json.loads(old.read("replay.json"))
        header["sha256"] = {"../escaped.arrow": "0"}
        new.writestr("replay.json", json.dumps(header))
        new.writestr("../escaped.arrow", b"x")
    with pytest.raises(UserError, match="damaged"):
        load_replay(bad)
    assert not list(tmp_path.rglob("escaped*"))


def test_whatever_the_damage_the_answer_is_the_result_or_a_user_error(tmp_path: Path):
    """Bytes cut, flipped and inserted; header fields replaced and dropped."""
    small = a_result(ticks=3)
    small = dataclasses.replace(small, cases=small.cases[2:], records=small.records[2:])
    whole = save_replay(small, tmp_path / "whole.replay")
    data, rng = whole.read_bytes(), np.random.default_rng(3)
    path, answers = tmp_path / "damaged.replay", set()

    def answer() -> str:
        loaded, refusal = None, ""
        try:
            loaded = load_replay(path)
        except UserError as error:
            refusal = str(error)
        assert isinstance(loaded, SuiteResult) or str(path) in refusal, "an error names its file"
        return "refused" if loaded is None else "read"

    for _ in range(100):
        path.write_bytes(damaged(data, rng))
        answers.add(answer())
        is_replay(path)
    assert "refused" in answers
    with zipfile.ZipFile(whole) as archive:
        header = json.loads(archive.read("replay.json"))
    spots = [place for place in places(header) if place[0] != "sha256"]
    kept = set()
    for number, place in enumerate(spots):
        for strange in (STRANGE[number % len(STRANGE)], STRANGE[(7 * number + 3) % len(STRANGE)]):
            for drop in (False, True):
                changed = replaced(header, place, strange, drop=drop)
                rewritten(whole, path, lambda _, changed=changed: changed)
                kept.add(answer())
    assert kept == {"read", "refused"}
