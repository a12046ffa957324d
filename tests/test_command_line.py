"""What a user can get wrong answers with what was wrong, what was got, what to do, and exit code 2."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import get_type_hints

import docstring_parser
import pytest

import tiny_recipe
from countersteer.commands import cli, flags, overrides, training
from countersteer.commands.overrides import field_docs
from countersteer.commands.training import Training
from countersteer.data.samples import recorded_drive
from countersteer.drivers.drivers import MixedDriver, PolicyDriver
from countersteer.errors import UserError
from countersteer.evaluation import suites
from countersteer.recipes import closed_loop, self_play
from countersteer.recipes.find import find_recipe, known_recipes
from countersteer.reporting.run_report import pretrained_policy, report_run
from countersteer.scenarios.procedural import RoadKind
from countersteer.training.run import train
from countersteer.vehicles.jerk import JerkSpec

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
    ("import {text}", ["countersteer data import"]),
    ("self-play {run}", ["countersteer evaluate RUN --suite self_play"]),
    ("depart {run}", ["countersteer novel-view"]),
    ("realism {run}", ["countersteer view-metrics"]),
    ("data imprt {text}", ["data import"]),
    ("train on_polcy --out {out}", ["on_polcy", "on_policy"]),
    ("train --out {out} clone", ["recipe first"]),
    ("train clone --out", ["--out", "no value"]),
    ("train clone --out {out} --sead 3", ["--sead", "seed"]),
    ("train clone --out {out} --learning.step 3", ["learning.step", "learning.steps"]),
    ("train clone --out {out} --learning.steps many", ["--learning.steps", "wrong type", "many", "INT"]),
    ("train clone --out {out} --learning.steps", ["--learning.steps", "no value", "INT"]),
    ("train clone --out {out} --learning.steps.more 3", ["unknown argument", "learning.steps"]),
    ("train clone --out {out} --scenarios.sources.0.lanes 1", ["--scenarios.sources.0.lanes", "no value"]),
    ("train clone --out {out} --scenarios.sources.7.count 3", ["scenarios.sources.0.count"]),
    ("train clone --out {out} --world.traffic idn", ["--world.traffic", "IDM"]),
    ("train clone --out {out} --world.engine TORCHES", ["TORCHES", "TORCH"]),
    ("train clone --out {out} --policy.stride 0", ["stride", "at least 1"]),
    ("train clone --out {out} --scenarios {out}", ["no folder"]),
    ("train clone --out {out} --scenarios {empty}", ["empty"]),
    ("train reprojection --out {out} --scenarios {empty}", ["empty"]),
    ("train clone --out {text}/run", ["notes.txt/run", "cannot be written"]),
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
    ("evaluate expert --suite recorded --scenarios {empty}", ["empty"]),
    ("evaluate expert --suite lane_keeping --scenarios {empty}", ["--scenarios", "recorded"]),
    ("evaluate {run} {run} --suite lane_keeping", ["one run"]),
    ("evaluate {run} --suite lane_keeping --worlds 3", ["--worlds", "self_play"]),
    (
        "evaluate expert --suite lane_keeping --json {text}/numbers.json",
        ["numbers.json", "cannot be written"],
    ),
    ("evaluate expert --suite lane_keeping --json {full}", ["full", "cannot be written"]),
    ("evaluate {run} --suite self_play --worlds 0", ["--worlds 0", "at least 1"]),
    ("compare", ["compare needs RUN"]),
    ("compare {run}", ["has not been evaluated", "countersteer evaluate"]),
    ("compare {out}", ["out"]),
    ("report {out}", ["out", "no finished policy"]),
    ("drive --start 1000 --out {out}.mp4", ["1000"]),
    ("drive {text} --out {out}.mp4", ["notes.txt"]),
    ("drive --out {full}/precious.txt/x.mp4", ["cannot be written"]),
    ("demo --seeds 0 --out {out}", ["seed", "at least 1"]),
    ("demo --sead 3", ["--sead", "seeds"]),
    ("serve {run} --port many", ["--port", "many", "INT"]),
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
        "    fields = {f.name: getattr(recipe.policy, f.name) for f in dataclasses.fields(recipe.policy)}\n"
        "    return dataclasses.replace(recipe, policy=MySpec(**fields))\n"
    )
    out = str(tmp_path / "run")
    assert cli.main(["train", f"{file}:mine", "--out", out]) == 0
    assert cli.main(["evaluate", out, "--suite", "recorded"]) == 2
    assert "--recipe FILE.py:FUNCTION" in capsys.readouterr().err
    assert cli.main(["evaluate", out, "--suite", "recorded", "--recipe", f"{file}:mine"]) == 0
    assert cli.main(["compare", out, "--recipe", f"{file}:mine"]) == 0


# One meaning for each flag.

MEANINGS = {
    "json": flags.Json,
    "seed": flags.Seed,
    "device": flags.Device,
    "resume": flags.Resume,
    "scenarios": flags.Scenarios,
    "scores": flags.Scores,
    "recipe": flags.UserRecipe,
}
PATHS = {"out", "keep"}
"""Flags that say where something is written; each command's help says what."""


def flags_of(command: str) -> dict[str, tuple[object, str]]:
    """Type and help of each flag of a command."""

    def hints(of: object, docs: dict[str, str]) -> dict[str, tuple[object, str]]:
        return {
            name: (hint, docs.get(name, "")) for name, hint in get_type_hints(of, include_extras=True).items()
        }

    if command == "train":
        return hints(Training, field_docs(Training))
    run = cli.command(command)
    docs = {
        each.arg_name: each.description or "" for each in docstring_parser.parse(run.__doc__ or "").params
    }
    found = hints(run, docs)
    for name, parameter in inspect.signature(run).parameters.items():
        if dataclasses.is_dataclass(parameter.default):
            found |= hints(type(parameter.default), field_docs(type(parameter.default)))
            del found[name]
    return {name: kind for name, kind in found.items() if name != "return"}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_flag_means_the_same_in_every_command(command):
    for name, (kind, told) in flags_of(command).items():
        if name in MEANINGS:
            assert kind == MEANINGS[name], f"--{name} of {command}"
        else:
            assert told or "help=" in repr(kind), f"--{name} of {command} says nothing of itself"
        if name in PATHS:
            assert "Path" in str(kind), f"--{name} of {command}"
        assert name not in ("scenes", "scene", "gap"), f"--{name} of {command} has another name elsewhere"


def test_every_command_has_help_that_names_its_flags(capsys):
    assert cli.main(["--help"]) == 0
    overview = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert command in overview
        assert cli.main([*command.split(), "--help"]) == 0
        told = capsys.readouterr().out
        for flag in cli.parameters(cli.command(command)) if command != "train" else ["NAME"]:
            assert flag.replace("_", "-") in told, (command, flag)
    assert cli.main(["--version"]) == 0
    assert cli.main([]) == 2


def test_commands_that_texts_name_are_there():
    root = Path(__file__).parents[1]
    files = [
        *root.glob("src/**/*.py"),
        *root.glob("docs/**/*.md"),
        *root.glob("examples/*.py"),
        root / "README.md",
    ]
    groups = {
        name.split()[0]: {n.split()[1] for n in cli.COMMANDS if n.startswith(f"{name.split()[0]} ")}
        for name in cli.COMMANDS
    }
    wrong = []
    for file in files:
        for line in file.read_text("utf-8").splitlines():
            # What stands in code: behind a backtick, a quote, or at the beginning of a line.
            for found in re.finditer(r"(?:^\s*|[`\"'(]|&& )countersteer ([a-z][\w-]*)(?: ([a-z]+))?", line):
                word, part = found[1], found[2]
                if word in ("self-play", "realism", "depart") and file.name == "experiments.md":
                    continue  # a record of what was measured, in the words of its day
                if word not in groups or (groups[word] and part not in {None, *groups[word]}):
                    wrong.append(f"{file.relative_to(root)}: {found[0].strip()}")
    assert not wrong, "\n".join(wrong)


# Fields of a recipe.


@pytest.mark.parametrize("name", known_recipes())
def test_every_field_of_every_recipe_is_a_flag(name, capsys):
    recipe = find_recipe(name)[0]()
    assert cli.main(["train", name, "--help"]) == 0
    told = capsys.readouterr().out
    wanted = list(overrides.flags(recipe))
    assert len(wanted) > 60
    for flag in wanted:
        assert f"--{flag}" in told, flag
    assert "Gradient steps in all" in told
    # Nothing said, nothing changed.
    assert training._read(name, [])[0] == recipe


def test_flags_enter_tuples_unions_and_classes():
    words = (
        "--scenarios.sources.0.count 30 --scenarios.sources.0.kinds RAMP TIGHT --scenarios.sources.1.end None "
        "--world.traffic none --world.jerk JerkSpec --world.start.goal 5 9 --world.navigation --learning.steps 7 "
        "--driver MixedDriver --driver.policy PolicyDriver --driver.hold 3 --learning.learning-rate=1e-3"
    )
    clone = closed_loop.clone()
    recipe, how, _ = training._read("clone", [*words.split(), "--seed", "3"])
    assert how.seed == 3
    first, second = recipe.scenarios.sources
    assert (first.count, first.kinds, second.end) == (30, (RoadKind.RAMP, RoadKind.TIGHT), None)
    assert recipe.world == dataclasses.replace(
        clone.world,
        traffic=None,
        jerk=JerkSpec(),
        navigation=True,
        start=dataclasses.replace(clone.world.start, goal=(5.0, 9.0)),
    )
    assert recipe.driver == MixedDriver(policy=PolicyDriver(), hold=3.0)
    assert recipe.learning == dataclasses.replace(clone.learning, steps=7, learning_rate=1e-3)
    assert recipe.policy is clone.policy or recipe.policy == clone.policy
    taught, _, _ = training._read("self_play", ["--teacher", "runs/other"])
    assert taught == self_play.self_play("runs/other")


def test_a_class_takes_its_own_fields_with_it():
    recipe, _, _ = training._read("clone", ["--world.traffic.headway", "2", "--world.traffic", "IDM"])
    assert recipe.world.traffic.headway == 2.0


@dataclasses.dataclass(frozen=True)
class Staged:
    """A recipe of stages, as far as flags see it."""

    name: str
    stages: tuple[closed_loop.Recipe, ...]


def test_fields_of_several_stages_are_named_by_the_stage():
    clone = closed_loop.clone()
    one = training.override(Staged("x", (clone,)), ["--learning.steps", "7"], "x")
    assert one.stages[0].learning.steps == 7
    two = Staged("x", (clone, closed_loop.on_policy()))
    words = [
        "--clone.learning.steps",
        "7",
        "--on_policy.world.traffic",
        "none",
        "--on_policy.policy.hidden",
        "32",
    ]
    changed = training.override(two, words, "x")
    assert [stage.learning.steps for stage in changed.stages] == [7, two.stages[1].learning.steps]
    assert [stage.world.traffic for stage in changed.stages] == [clone.world.traffic, None]
    assert [stage.policy.hidden for stage in changed.stages] == [clone.policy.hidden, 32]
    with pytest.raises(UserError, match=r"unknown argument '--learning.steps'\n.*learning.steps"):
        training.override(two, ["--learning.steps", "7"], "x")


@dataclasses.dataclass(frozen=True)
class File:
    """As `Weights`: a path makes it, and it carries what was found there."""

    path: str
    digest: str | None = None


@dataclasses.dataclass(frozen=True)
class WithFiles:
    """Has files.

    Attributes:
        teacher, student: Where they lie.
        numbers: Plain.
    """

    teacher: File = File("runs/teacher", "abc")
    student: File | None = None
    numbers: tuple[int, ...] = (1, 2)


def test_what_a_path_makes_is_said_in_one_word(capsys):
    assert list(overrides.flags(WithFiles())) == ["teacher", "student", "numbers"]
    assert training.override(WithFiles(), [], "x") == WithFiles(), "the digest stays"
    changed = training.override(WithFiles(), ["--student", "runs/b", "--numbers", "3", "4", "5"], "x")
    assert changed == WithFiles(student=File("runs/b"), numbers=(3, 4, 5))
    assert training.override(changed, ["--student", "None", "--teacher", "c"], "x").student is None
    with pytest.raises(SystemExit):
        training.override(WithFiles(), ["--help"], "x")
    assert capsys.readouterr().out.count("Where they lie.") == 2


def test_help_is_fast():
    """Nothing heavy is loaded for it: see test_imports. Half a second would be felt."""
    code = "import sys; from countersteer.commands.cli import main; main(['--help']); assert 'torch' not in sys.modules"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert time.perf_counter() - began < 5.0  # on a machine that others use too
