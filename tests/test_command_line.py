"""What a user can get wrong answers with what was wrong, what was got, what to do, and exit code 2."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

import tiny_recipe
from countersteer.commands import cli
from countersteer.data.samples import recorded_drive
from countersteer.evaluation import suites
from countersteer.reporting.study import pretrained_policy, report_run
from countersteer.training.run import train

RECIPE = str(Path(__file__).parent / "tiny_recipe.py")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Folder of a finished run of the tiny recipe."""
    folder = tmp_path_factory.mktemp("command-line") / "run"
    train(tiny_recipe.tiny(), folder)
    return folder


@pytest.fixture
def files(tmp_path, run) -> dict[str, Path]:
    """Things to name in a command, most of them not what they should be."""
    made = {
        "text": tmp_path / "notes.txt",
        "cut": tmp_path / "cut.pkl",
        "json": tmp_path / "scene.json",
        "garbage": tmp_path / "garbage.py",
        "policy": tmp_path / "cut.safetensors",
        "full": tmp_path / "full",
        "empty": tmp_path / "empty",
        "run": run,
        "out": tmp_path / "out",
    }
    made["text"].write_text("not a scenario\n")
    made["cut"].write_bytes(pickle.dumps({"id": "x", "tracks": {}, "length": 91})[:-7])
    made["json"].write_text('{"objects": [], "roads": ')
    made["garbage"].write_text("def recipe(:\n")
    made["policy"].write_bytes(pretrained_policy().read_bytes()[:100_000])
    made["full"].mkdir()
    (made["full"] / "precious.txt").write_text("mine")
    made["empty"].mkdir()
    return made


MISTAKES = [
    # command line, words that the answer must hold
    ("trian", ["trian", "train"]),
    ("import {text}", ["did you mean data import?"]),
    ("train on_polcy --out {out}", ["on_polcy", "on_policy"]),
    ("train clone --out {out} --optim.step 3", ["optim.step", "steps"]),
    ("train clone --out {out} --optim.steps many", ["wrong type", "many", "int"]),
    ("train clone --out {out} --optim.steps", ["no value"]),
    ("train clone --out {out} --optim.steps.more 3", ["int", "no fields"]),
    ("train clone --out {out} --policy.stride 0", ["stride", "at least 1"]),
    ("train clone --out {out} --policy.cameras ()", ["cameras"]),
    ("train clone --out {full}", ["exists already", "--resume"]),
    ("train clone --out {out} --device cuda:9", ["cuda:9", "cpu"]),
    ("train clone --out {out} --device tpu", ["tpu", "cpu"]),
    ("train {run}/nowhere.py:recipe --out {out}", ["nowhere.py", "no such file"]),
    ("train {garbage}:recipe --out {out}", ["garbage.py", "SyntaxError"]),
    (f"train {RECIPE} --out {{out}}", ["tiny_recipe.py", "function"]),
    (f"train {RECIPE}:tinny --out {{out}}", ["tinny", "tiny"]),
    (f"train {RECIPE}:broken --out {{out}}", ["ZeroDivisionError"]),
    (f"train {RECIPE}:nothing --out {{out}}", ["did not return a recipe", "NoneType"]),
    (f"train {RECIPE}:tiny --out {{run}} --resume --seed 5", ["another recipe", "seed: 0 -> 5"]),
    (f"train {RECIPE}:long --out {{run}} --resume", ["another recipe", "steps"]),
    ("evaluate {run} --suite lane_keping", ["lane_keping", "lane_keeping"]),
    ("evaluate {out} --suite lane_keeping", ["out", "no finished policy"]),
    ("evaluate {policy} --suite lane_keeping", ["cut.safetensors", "damaged"]),
    ("evaluate {full} --suite lane_keeping", ["full", "policy"]),
    ("evaluate expert --suite recorded --scenes {empty}", ["empty"]),
    ("evaluate expert --suite lane_keeping --scenes {empty}", ["--scenes", "recorded"]),
    ("compare {run}", ["has not been evaluated", "countersteer evaluate"]),
    ("compare {out}", ["out"]),
    ("report {out}", ["out", "no finished policy"]),
    ("drive --start 1000 --out {out}.mp4", ["1000"]),
    ("drive {text} --out {out}.mp4", ["notes.txt"]),
    ("demo --seeds 0 --out {out}", ["seed", "at least 1"]),
    ("demo --sead 3", ["--sead"]),
    ("data list {out}", ["out"]),
    ("data list {empty}", ["empty", "docs/formats.md"]),
    ("data inspect {out}", ["out"]),
    ("data inspect {text}", ["notes.txt"]),
    ("data inspect {cut}", ["cut.pkl"]),
    ("data inspect {json}", ["scene.json"]),
    ("data import {empty} --out {out}", ["empty"]),
    ("data import {text} --out {out}", ["notes.txt"]),
]


@pytest.mark.parametrize(("line", "words"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_answered(line, words, files, capsys):
    assert cli.main(line.format(**files).split()) == 2
    answer = capsys.readouterr().err
    assert answer.startswith("error: ")
    assert "Traceback" not in answer
    for word in words:
        assert word in answer, answer
    assert not files["out"].exists(), "a mistake left something behind"
    assert (files["full"] / "precious.txt").read_text() == "mine"


def test_the_bundled_drive_is_listed_imported_and_inspected(tmp_path, capsys):
    from countersteer.scenarios.storage import save

    save(recorded_drive(), tmp_path / "drive")
    table = tmp_path / "list.json"
    assert cli.main(["data", "list", "--json", str(table)]) == 0
    assert json.loads(table.read_text())[0]["licence"] == "MIT"
    assert cli.main(["data", "import", str(tmp_path / "drive"), "--out", str(tmp_path / "mine")]) == 0
    assert cli.main(["data", "inspect", str(tmp_path / "mine"), "--out", str(tmp_path / "mine.png")]) == 0
    assert (tmp_path / "mine.png").stat().st_size > 10_000
    assert "comma2k19" in capsys.readouterr().out


def test_one_bad_file_does_not_stop_an_import(tmp_path, capsys):
    from countersteer.scenarios.storage import save

    save(recorded_drive(), tmp_path / "in" / "good")
    bad = save(recorded_drive(), tmp_path / "in" / "bad")
    arrays = max(bad.iterdir() if bad.is_dir() else [bad], key=lambda file: file.stat().st_size)
    arrays.write_bytes(arrays.read_bytes()[:-3000])
    assert cli.main(["data", "import", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert str(bad) in told.err
    assert "wrote" in told.out
    assert [path.is_dir() for path in (tmp_path / "out").glob("[!.]*")] == [True]


def test_a_run_is_evaluated_compared_and_its_numbers_written(run, tmp_path, capsys):
    """The tiny policy cannot drive; what counts is that every number of it arrives where it should."""
    table = tmp_path / "keeping.json"
    assert cli.main(["evaluate", str(run), "--suite", "lane_keeping", "--json", str(table)]) == 0
    row = json.loads(table.read_text())
    assert row["recipe"] == "tiny"
    assert (row["suite"], row["total"]) == ("lane_keeping", 24)
    assert sum(bool(case["passed"]) for case in row["cases"]) == row["passed"]
    assert all(case["passed"] or case["reason"] for case in row["cases"])
    assert cli.main(["compare", str(run), "--json", str(tmp_path / "compare.json")]) == 0
    (compared,) = json.loads((tmp_path / "compare.json").read_text())
    assert {key: compared[key] for key in ("recipe", "suite", "passed", "total")} == {
        key: row[key] for key in ("recipe", "suite", "passed", "total")
    }
    assert "lane_keeping" in capsys.readouterr().out


def test_the_report_of_a_run_shows_its_curve_and_its_films(run, tmp_path):
    page = tmp_path / "report.html"
    report_run(run, page, [suites.recorded_from(50.0)], print)
    written = page.read_text()
    assert "<video" in written
    assert "Training loss of tiny" in written


def test_a_run_of_a_users_own_policy_is_evaluated_with_the_recipe_it_was_made_from(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import dataclasses, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import tiny_recipe\n"
        "from countersteer.policies.planner import CNNPlannerSpec\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class MySpec(CNNPlannerSpec):\n"
        "    pass\n"
        "def mine():\n"
        "    recipe = tiny_recipe.tiny()\n"
        "    fields = {f.name: getattr(recipe.stage.policy, f.name) for f in dataclasses.fields(recipe.stage.policy)}\n"
        "    return recipe.replace(policy=MySpec(**fields))\n"
    )
    out = str(tmp_path / "run")
    assert cli.main(["train", f"{file}:mine", "--out", out]) == 0
    assert cli.main(["evaluate", out, "--suite", "recorded"]) == 2
    assert "--recipe FILE.py:FUNCTION" in capsys.readouterr().err
    assert cli.main(["evaluate", out, "--suite", "recorded", "--recipe", f"{file}:mine"]) == 0
    assert cli.main(["compare", out, "--recipe", f"{file}:mine"]) == 0
