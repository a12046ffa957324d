"""Command lines that no careful user types: each is answered at once, with what is wrong and what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

import tiny_recipe
from countersteer.commands import cli
from countersteer.errors import UserError, check_writable, write_results
from countersteer.reporting.run_report import pretrained_policy

RECIPE = str(Path(__file__).parent / "tiny_recipe.py")
BIG = "9" * 23
HUGE = "9" * 5_000


@pytest.fixture(scope="module")
def warm() -> None:
    """What commands load is loaded: a second is for answering, not for importing torch."""
    from countersteer.recipes.find import find_recipe

    find_recipe("on_policy").recipe()
    for name in (
        "evaluation.driving",
        "data.importing",
        "data.cameras",
        "reporting.departure",
        "evaluation.realism",
    ):
        __import__(f"countersteer.{name}")
    for name in (
        "reporting.terminal",
        "reporting.study",
        "reporting.self_play",
        "serving.export",
        "evaluation.speed",
    ):
        __import__(f"countersteer.{name}")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Things to name in a command, none of them what it should be."""
    made = {name: tmp_path / name for name in ("full", "empty", "loop", "gone", "fifo", "out", "run")}
    for name in ("full", "empty", "run"):
        made[name].mkdir()
    (made["full"] / "precious.txt").write_text("mine")
    made["precious"] = made["full"] / "precious.txt"
    made["loop"].symlink_to(made["loop"])
    made["gone"].symlink_to(tmp_path / "nowhere" / "x")
    os.mkfifo(made["fifo"])
    (made["run"] / "recipe.json").write_text('{"type": "countersteer.training.recipe:Recipe", "nam')
    (made["run"] / "run.json").write_text("{}")
    for name, content in {
        "nothing.replay": b"",
        "torn.replay": b"PK\x03\x04" + bytes(40),
        "torn.safetensors": pretrained_policy().read_bytes()[:1000],
        "zero.safetensors": b"",
        "words.py": b"recipe = 3\n",
        "exits.py": b"import sys\nsys.exit(3)\n",
        "bytes.py": b"\xff\xfe\x00",
    }.items():
        made[name.replace(".", "_")] = tmp_path / name
        (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "empty.replay", "w"):
        made["empty_replay"] = tmp_path / "empty.replay"
    return made | {"long": tmp_path / ("x" * 300), "deep": tmp_path / "/".join(["y" * 200] * 30)}


LINES: list[tuple[str, list[str]]] = [
    # Numbers that are none, out of range, or too large.
    ("bench --cameras -1", ["--cameras", "[1, 64]"]),
    ("bench --cameras 0", ["--cameras", "[1, 64]"]),
    ("bench --worlds 0", ["--worlds"]),
    ("bench --worlds 1000000000", ["--worlds", "[1, 1e6]"]),
    ("bench --count -3", ["--count"]),
    (f"bench --count {BIG}", ["--count", BIG]),
    (f"bench --count {HUGE}", ["--count"]),
    ("bench --agents 8 0", ["--agents", "(8, 0)"]),
    ("bench --threads -1", ["--threads"]),
    ("bench --seconds nan", ["--seconds", "nan"]),
    ("bench --seconds inf", ["--seconds", "inf"]),
    ("bench --seconds 0", ["--seconds"]),
    ("bench --seconds 1e999", ["--seconds", "inf"]),
    ("bench --sizes 0x48", ["[1, 16384]"]),
    ("bench --sizes 128x999999", ["[1, 16384]"]),
    ("bench --sizes 128", ["WIDTHxHEIGHT"]),
    ("bench --sizes ²x²", ["WIDTHxHEIGHT"]),
    ("bench --sizes -1x-1", ["WIDTHxHEIGHT"]),
    ("bench --stages stat", ["--stages", "state"]),
    ("bench --device meta", ["meta", "cpu"]),
    ("bench --device cuda:99", ["cuda:99", "cpu"]),
    ("drive --start nan --out {out}.mp4", ["--start", "nan"]),
    ("drive --start -1 --out {out}.mp4", ["--start", "[0, inf)"]),
    ("drive --start inf --out {out}.mp4", ["--start"]),
    ("novel-view {empty} --seconds nan", ["--seconds"]),
    ("novel-view {empty} --seconds 0", ["--seconds"]),
    ("novel-view {empty} --lateral inf", ["--lateral"]),
    ("novel-view {empty} --heading 1e9", ["--heading", "[-180, 180]"]),
    ("view-metrics {empty} --pairs 0", ["--pairs"]),
    ("view-metrics {empty} --ahead -5", ["--ahead"]),
    ("view-metrics {empty} --size 0x0", ["empty"]),
    ("evaluate --suite self_play --worlds -1", ["SelfPlay.worlds"]),
    (f"evaluate --suite self_play --seed {BIG}", ["seed", "[0, 1e18]"]),
    ("evaluate --suite self_play --seed -1", ["seed"]),
    ("demo --jobs -1 --out {out}", ["--jobs"]),
    ("demo --jobs 0 --out {out}", ["--jobs"]),
    ("demo --seeds 1000000000 --out {out}", ["--seeds"]),
    ("serve {run} --port 99999", ["--port", "65535"]),
    ("serve {run} --port -1", ["--port"]),
    ("serve {run} --set-speed nan", ["set-speed"]),
    ("train clone --out {out} --actors -1", ["actors"]),
    (f"train clone --out {{out}} --seed {BIG}", ["seed"]),
    ("train clone --out {out} --seed 1.5", ["seed", "INT"]),
    ("train clone --out {out} --rollouts.first_iteration_share 7", ["RolloutSpec.first_iteration_share", "[0, 1]"]),
    ("train clone --out {out} --optim.learning_rate -1", ["OptimSpec.learning_rate", "(0, inf)"]),
    ("train clone --out {out} --optim.learning_rate nan", ["OptimSpec.learning_rate"]),
    ("train clone --out {out} --optim.batch_size 0", ["OptimSpec.batch_size"]),
    ("train clone --out {out} --optim.batch_size 1000000000", ["OptimSpec.batch_size", "1e6"]),
    ("train clone --out {out} --world.simulation.dt 0", [".dt", "[0.001, 1]"]),
    ("train clone --out {out} --world.simulation.duration inf", [".duration"]),
    ("train clone --out {out} --world.simulation.vehicle.delay 0.3 0.1", ["VehicleSpec.delay"]),
    ("train clone --out {out} --policy.cameras.0.width 0", ["Camera.width"]),
    ("train clone --out {out} --policy.cameras.0.fov 3.2", ["Camera.fov"]),
    ("train clone --out {out} --policy.plan.points 0", ["PlanSpec.points"]),
    ("train clone --out {out} --scenarios.sources.0.lanes 4 1", ["ProceduralRoads.lanes"]),
    ("train clone --out {out} --device meta", ["meta", "cpu"]),
    ("train self_play --out {out} --teacher.objective.clip_ratio 0", ["PPO.clip_ratio"]),
    # Files that are missing, torn, empty, or something else.
    ("evaluate {nothing_replay}", ["nothing.replay"]),
    ("evaluate {torn_replay}", ["torn.replay"]),
    ("evaluate {empty_replay}", ["empty.replay"]),
    ("watch {torn_replay}", ["torn.replay"]),
    ("watch {empty}", ["empty"]),
    ("watch {loop}", ["loop"]),
    ("evaluate {torn_safetensors} --suite recorded", ["torn.safetensors"]),
    ("evaluate {zero_safetensors} --suite recorded", ["zero.safetensors"]),
    ("evaluate {loop} --suite recorded", ["loop"]),
    ("compare {run} {run}", ["run"]),
    ("report {run}", ["run"]),
    ("export {zero_safetensors} --out {out}.onnx", ["zero.safetensors"]),
    ("train {words_py}:recipe --out {out}", ["words.py", "function"]),
    ("train {exits_py}:recipe --out {out}", ["exits.py"]),
    ("train {bytes_py}:recipe --out {out}", ["bytes.py"]),
    ("train {words_py}: --out {out}", ["words.py"]),
    ("data list {loop}", ["loop"]),
    ("data list {gone}", ["gone"]),
    ("data inspect {gone}", ["gone"]),
    ("data import {loop} --out {out}", ["loop"]),
    ("novel-view {gone} --out {out}.mp4", ["gone"]),
    # Names that do not exist, flags that do not go together.
    ("train ../clone --out {out}", ["../clone", "recipe"]),
    ("train \x1b[2J --out {out}", ["recipe"]),
    ("\x07", ["no command"]),
    ("data", ["list"]),
    ("evaluate expert --suite lane_keeping --scores navsim_v9", ["navsim_v9", "navsim_v2"]),
    ("evaluate expert --suite lane_keeping --worlds 3 --film-of x", ["self_play"]),
    ("evaluate {torn_replay} --suite recorded", ["torn.replay"]),
    ("evaluate --suite self_play --conditions speed --out {out}.html", ["speed", "velocity"]),
    ("evaluate --suite self_play --scores navsim_v2", ["--scores", "--keep"]),
    ("evaluate --suite self_play --out {out}.txt", ["out.txt", ".html"]),
    ("extensions extra", ["extra"]),
    ("bench --json", ["--json", "no value"]),
    # Places that cannot be written.
    ("bench --json {full}", ["full", "a folder"]),
    ("bench --json {precious}/x.json", ["precious.txt", "cannot be written"]),
    ("bench --json {long}", ["cannot be written", "too long"]),
    ("bench --json {deep}", ["cannot be written", "too long"]),
    ("bench --json {fifo}", ["fifo", "cannot be written"]),
    ("bench --json {loop}", ["loop", "cannot be written"]),
    ("bench --json {loop}/x.json", ["loop", "cannot be written"]),
    ("bench --json {gone}", ["gone", "cannot be written"]),
    ("evaluate expert --suite lane_keeping --keep {full}", ["full", "cannot be written"]),
    ("evaluate expert --suite lane_keeping --keep {long}", ["too long"]),
    ("evaluate --suite self_play --out {long}.html", ["too long"]),
    ("evaluate --suite self_play --out {full}/x.html --json {full}", ["a folder"]),
    ("drive --out {full}", ["a folder"]),
    ("demo --out {precious}", ["precious.txt", "cannot be written"]),
    ("demo --out {fifo}", ["fifo", "cannot be written"]),
    ("train clone --out {precious}", ["precious.txt", "cannot be written"]),
    ("train clone --out {long}", ["too long"]),
    ("view-metrics {empty} --pictures {precious}", ["precious.txt"]),
    ("novel-view {empty} --cache {precious}", ["precious.txt"]),
    ("export {run} --out {full}", ["a folder"]),
    ("data inspect {empty} --out {full}", ["a folder"]),
    ("data import {empty} --out {precious}", ["precious.txt"]),
    ("watch {empty_replay} --out {full}", ["a folder"]),
    ("extensions --json {full}/", ["a folder"]),
    ("data list --json {precious}/x", ["precious.txt"]),
]  # fmt: skip


def test_a_folder_is_evaluated_without_its_damaged_files(tmp_path: Path, capsys):
    from countersteer.commands.evaluation import _suite
    from test_readers import small_scene, write_pickle

    for name in ("a", "b"):
        scene = small_scene()
        scene["id"] = name
        write_pickle(tmp_path / f"{name}.pkl", scene)
    whole = {case.id for case in _suite("recorded", tmp_path).cases}
    assert capsys.readouterr().err == ""
    (tmp_path / "torn.pkl").write_bytes((tmp_path / "a.pkl").read_bytes()[:200])
    assert {case.id for case in _suite("recorded", tmp_path).cases} == whole
    told = capsys.readouterr().err
    assert told.startswith("left out:")
    assert "torn.pkl" in told
    for name in ("a", "b"):
        (tmp_path / f"{name}.pkl").unlink()
    with pytest.raises(UserError, match="no scenario that we can read"):
        _suite("recorded", tmp_path)


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(("line", "words"), LINES, ids=[repr(line)[1:60] for line, _ in LINES])
def test_it_is_answered_at_once(line, words, files, capsys):
    before = set(files["full"].parent.rglob("*"))
    began = time.process_time()
    assert cli.main([word.format(**files) for word in line.split(" ")]) == 2
    took = time.process_time() - began
    said = capsys.readouterr()
    answer = said.err + said.out
    assert "Traceback" not in answer
    for word in words:
        assert word in answer, answer
    assert re.search(r"expected: |fix: |docs/|usage: |--help|: ", answer), answer
    assert len(answer) < 8_000
    assert set(files["full"].parent.rglob("*")) == before, "a mistake left something behind"
    assert (files["full"] / "precious.txt").read_text() == "mine"
    assert took < 2.0, f"{took:.1f} s"


# What was made is not lost where it cannot be written in the end.


def test_what_cannot_be_written_in_the_end_lies_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(UserError) as refused:
        write_results(
            (full, lambda place: place.write_text("first")),
            (None, lambda place: place.write_text("never")),
            (tmp_path / "new" / "second", lambda place: place.write_text("second")),
            (full, lambda place: place.write_text("third")),
        )
    assert (tmp_path / "new" / "second").read_text() == "second"
    told = capsys.readouterr().err + str(refused.value)
    rescued = [Path(found) for found in re.findall(r"lies in (\S+)", told)]
    assert [path.read_text() for path in rescued] == ["first", "third"]
    assert "No space left" in str(refused.value)


def test_numbers_of_a_command_are_kept_where_the_disk_is_full(tmp_path, monkeypatch, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cli.main(["data", "list", "--json", "/dev/full"]) == 2
    told = capsys.readouterr()
    assert "comma2k19" in told.out
    (rescued,) = re.findall(r"lies in (\S+)", told.err)
    assert json.loads(Path(rescued).read_text())[0]["licence"] == "MIT"


class TestCheckWritable:
    def test_it_makes_nothing(self, tmp_path):
        check_writable(tmp_path / "a" / "b" / "c.json")
        check_writable(tmp_path / "a" / "b", folder=True)
        check_writable(tmp_path, folder=True)
        check_writable(Path("/dev/null"))
        check_writable(None)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["x" * 255, "x" * 4000, "a\0b", "file/x"])
    def test_names_that_no_system_takes(self, name, tmp_path):
        (tmp_path / "file").write_text("")
        for folder in (True, False):
            with pytest.raises(UserError, match="cannot be written"):
                check_writable(tmp_path / name, folder=folder)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_may_not_be_written(self, tmp_path):
        (tmp_path / "closed").mkdir(mode=0o555)
        with pytest.raises(UserError, match="may not be written"):
            check_writable(tmp_path / "closed" / "x.json")

    def test_access_is_asked_of_the_nearest_folder_that_is_there(self, tmp_path, monkeypatch):
        """As root everything may be written: the system's answer is given here."""
        monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
        with pytest.raises(UserError, match="may not be written"):
            check_writable(tmp_path / "new" / "x.json")


def test_a_run_folder_that_cannot_be_written_is_refused_before_it_is_driven(tmp_path, monkeypatch):
    from countersteer.evaluation import runs, suites
    from countersteer.training.run import train

    train(tiny_recipe.tiny(), tmp_path / "run")
    monkeypatch.setattr(runs, "run_suite", lambda *given, **named: pytest.fail("it was driven"))
    (tmp_path / "run" / "evaluation").write_text("a file")
    with pytest.raises(UserError, match=r"(?s)cannot be written.*policy file"):
        runs.evaluate_run(tmp_path / "run", suites.recorded_from(50.0))


def test_a_reader_that_stops_ends_a_command_without_a_traceback():
    code = "from countersteer.commands.cli import main; import sys; sys.exit(main(['--help']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141
