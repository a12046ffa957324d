"""What a user can get wrong answers with what was wrong, what was got, what to do, and exit code 2."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import pickle
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import docstring_parser
import pytest

import tiny_recipe
from countersteer.commands import cli, flags
from countersteer.commands.training import Training
from countersteer.data.samples import recorded_drive
from countersteer.drivers.drivers import MixedDriver, PolicyDriver
from countersteer.errors import UserError
from countersteer.evaluation import suites
from countersteer.policies.weights import Weights
from countersteer.recipes import closed_loop, self_play
from countersteer.recipes.find import FoundRecipe, find_recipe, known_recipes
from countersteer.reporting.run_report import pretrained_policy, report_run
from countersteer.scenarios.procedural import RoadKind
from countersteer.storage import field_flags
from countersteer.storage import words as said
from countersteer.storage.field_flags import field_docs
from countersteer.traffic.idm import IDM
from countersteer.training.recipe import Recipe
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
    ("train clone --out {out} --optim.step 3", ["optim.step", "optim.steps"]),
    ("train clone --out {out} --optim.steps many", ["--optim.steps", "wrong type", "many", "INT"]),
    ("train clone --out {out} --optim.steps", ["--optim.steps", "no value", "INT"]),
    ("train clone --out {out} --optim.steps.more 3", ["unknown argument", "optim.steps"]),
    ("train clone --out {out} --scenarios.sources.0.lanes 1", ["--scenarios.sources.0.lanes", "no value"]),
    ("train clone --out {out} --scenarios.sources.7.count 3", ["scenarios.sources.0.count"]),
    ("train clone --out {out} --world.simulation.traffic idn", ["--world.simulation.traffic", "IDM"]),
    ("train clone --out {out} --world.simulation.backend TORCHES", ["TORCHES", "TORCH"]),
    ("train clone --out {out} --policy.stride 0", ["CNNPlannerSpec.stride", "[1, 1e6]"]),
    ("train clone --out {out} --scenarios {out}", ["no folder"]),
    ("train clone --out {out} --scenarios {empty}", ["empty"]),
    ("train reprojection --out {out} --scenarios {empty}", ["empty"]),
    ("train clone --out {text}/run", ["notes.txt/run", "cannot be written"]),
    ("train clone --out {full}", ["exists already", "--resume"]),
    ("train clone --out {out} --device cuda:9", ["cuda:9", "cpu"]),
    ("train clone --out {out} --device tpu", ["tpu", "cpu"]),
    ("train clone --out {out} --actor-device cuda:9", ["cuda:9", "cpu", "another --actor-device"]),
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
    ("evaluate {run} --suite self_play --worlds 0", ["SelfPlay.worlds", "[1, 100000]"]),
    ("compare", ["compare needs RUN"]),
    ("compare {run}", ["has not been evaluated", "countersteer evaluate"]),
    ("compare {out}", ["out"]),
    ("report {out}", ["out", "no finished policy"]),
    ("drive --start 1000 --out {out}.mp4", ["1000"]),
    ("drive {text} --out {out}.mp4", ["notes.txt"]),
    ("drive --out {full}/precious.txt/x.mp4", ["cannot be written"]),
    ("demo --seeds 0 --out {out}", ["--seeds", "[1, 1000]"]),
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
        "    policy = recipe.stage.policy\n"
        "    fields = {f.name: getattr(policy, f.name) for f in dataclasses.fields(policy)}\n"
        "    return recipe.replace(policy=MySpec(**fields))\n"
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
        for flag in said.flag_names(cli.command(command)) if command != "train" else ["NAME"]:
            assert flag.replace("_", "-") in told, (command, flag)
    assert cli.main(["--version"]) == 0
    assert cli.main([]) == 2


ROOT = Path(__file__).parents[1]
TEXTS = [
    *ROOT.glob("src/**/*.py"),
    *(page for page in ROOT.glob("docs/**/*.md") if page.parent.name != "log"),
    *ROOT.glob("examples/*.py"),
    ROOT / "README.md",
]
"""Dated logs are left out: they are in the words of their day."""


def lines_of(file: Path) -> list[str]:
    """Lines of a text, without rows of results: those name the command as it was at their commit."""
    lines = file.read_text("utf-8").splitlines()
    return [line for line in lines if not (file.name == "results.md" and line.startswith("|"))]


def test_commands_that_texts_name_are_there():
    groups = {
        name.split()[0]: {n.split()[1] for n in cli.COMMANDS if n.startswith(f"{name.split()[0]} ")}
        for name in cli.COMMANDS
    }
    wrong = []
    for file in TEXTS:
        for line in lines_of(file):
            # What stands in code: behind a backtick, a quote, or at the beginning of a line.
            for found in re.finditer(r"(?:^\s*|[`\"'(]|&& )countersteer ([a-z][\w-]*)(?: ([a-z]+))?", line):
                word, part = found[1], found[2]
                if word not in groups or (groups[word] and part not in {None, *groups[word]}):
                    wrong.append(f"{file.relative_to(ROOT)}: {found[0].strip()}")
    assert not wrong, "\n".join(wrong)


def command_lines(file: Path) -> list[str]:
    """Whole command lines of a text: those in blocks, without what is said of them, and those between backticks."""
    found = []
    for line in lines_of(file):
        block = re.match(r"\s*(countersteer [a-z].*?)(?: {2,}.*|\s+#.*)?$", line)
        if block:
            found += [each.strip() for each in block[1].split("&&")]
        found += [each for each in re.findall(r"`(countersteer [a-z][^`]*)`", line) if " " in each[13:]]
    return [line for line in found if "{" not in line]


WRITTEN = sorted({(line, file.name) for file in TEXTS for line in command_lines(file)})


@pytest.mark.parametrize(("line", "file"), WRITTEN, ids=[line for line, _ in WRITTEN])
def test_command_lines_in_texts_can_be_read(line, file, monkeypatch, capsys):
    """Every word of them is taken; nothing is run."""
    command = cli.command

    def train(words: list[str]) -> None:
        if words != ["--help"]:
            find_recipe(words[0]).read(words[1:], Training())

    def unrun(name: str) -> Callable[..., None]:
        return train if name == "train" else functools.wraps(command(name))(lambda *given, **named: None)

    monkeypatch.setattr(cli, "command", unrun)
    monkeypatch.setattr(FoundRecipe, "on_scenarios", lambda self, recipe, folder, message: recipe)
    monkeypatch.chdir(ROOT)
    for placeholder, value in {
        "my_recipe.py:function": f"{RECIPE}:tiny",
        "SUITE": "lane_keeping",
        "...": "",
        "train NAME": "train clone",
        "train --resume": "train clone --resume",
    }.items():
        line = line.replace(placeholder, value)
    if cli.main(shlex.split(line)[1:]) != 0:
        told = capsys.readouterr().err
        # Some only name a flag, `countersteer evaluate --keep`.
        assert "has no value" in told or " needs " in told, f"{file}: {told}"


def test_a_line_that_cannot_be_read_is_found(monkeypatch, capsys):
    with pytest.raises(AssertionError, match="--sute"):
        test_command_lines_in_texts_can_be_read(
            "countersteer evaluate RUN --sute x", "x", monkeypatch, capsys
        )


# Fields of a recipe.


@pytest.mark.parametrize("name", known_recipes())
def test_every_field_of_every_recipe_is_a_flag(name, capsys):
    found = find_recipe(name)
    recipe = found.recipe()
    assert cli.main(["train", name, "--help"]) == 0
    told = capsys.readouterr().out
    single = len(recipe.stages) == 1
    for stage in recipe.stages:
        wanted = list(field_flags.flags(stage, "" if single else f"{stage.name}."))
        assert len(wanted) > 40
        for flag in wanted:
            assert f"--{flag}" in told, flag
    assert "Gradient steps in all" in told
    # Nothing said, nothing changed.
    assert found.read([], Training())[0] == recipe


def asked(name: str, line: str) -> tuple[Recipe, Training]:
    return find_recipe(name).read(line.split(), Training())


def test_flags_enter_tuples_unions_and_classes():
    line = (
        "--scenarios.sources.0.count 30 --scenarios.sources.0.kinds RAMP TIGHT --scenarios.sources.1.end None "
        "--world.simulation.traffic none --world.simulation.jerk JerkSpec --world.simulation.start.goal 5 9 "
        "--world.simulation.navigation --optim.steps 7 "
        "--driver MixedDriver --driver.policy PolicyDriver --driver.hold 3 --optim.learning-rate=1e-3"
    )
    clone = closed_loop.clone().stage
    recipe, how = asked("clone", f"{line} --seed 3")
    assert how.seed == 3
    stage = recipe.stage
    first, second = stage.scenarios.sources
    assert (first.count, first.kinds, second.end) == (30, (RoadKind.RAMP, RoadKind.TIGHT), None)
    assert stage.world == clone.world.simulate(
        traffic=None,
        jerk=JerkSpec(),
        navigation=True,
        start=dataclasses.replace(clone.world.simulation.start, goal=(5.0, 9.0)),
    )
    assert stage.driver == MixedDriver(policy=PolicyDriver(), hold=3.0)
    assert stage.optim == dataclasses.replace(clone.optim, steps=7, learning_rate=1e-3)
    assert stage.policy == clone.policy
    assert (recipe.name, stage.name) == ("clone", "clone")
    taught, _ = asked("self_play", "--teacher runs/other")
    assert taught == self_play.self_play(Weights("runs/other"))


def test_a_class_takes_its_own_fields_with_it():
    line = "--world.simulation.traffic.headway 2 --world.simulation.traffic idm --name mine"
    recipe, _ = asked("clone", line)
    assert recipe.stage.world.simulation.traffic == IDM(headway=2.0)
    assert (recipe.name, recipe.stage.name) == ("mine", "mine")


def test_fields_of_several_stages_are_named_by_the_stage():
    two = self_play.self_play()
    line = "--teacher.optim.steps 7 --student.world.simulation.traffic IDM --student.policy.hidden 32"
    changed, _ = asked("self_play", line)
    teacher, student = changed.stages
    assert [stage.optim.steps for stage in changed.stages] == [7, two.stages[1].optim.steps]
    assert [stage.world.simulation.traffic for stage in changed.stages] == [None, IDM()]
    assert (teacher.policy, student.policy.hidden) == (two.stages[0].policy, 32)
    with pytest.raises(UserError, match=r"unknown argument '--optim.steps'\n.*optim.steps"):
        asked("self_play", "--optim.steps 7")
    with pytest.raises(UserError, match=r"unknown argument '--teacher.optim.stepps'\n.*teacher.optim.steps"):
        asked("self_play", "--teacher.optim.stepps 7")


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
    def override(tree: WithFiles, line: str) -> WithFiles:
        return field_flags.override({"": tree}, line.split(), "x")[0]

    assert list(field_flags.flags(WithFiles())) == ["teacher", "student", "numbers"]
    assert override(WithFiles(), "") == WithFiles(), "the digest stays"
    changed = override(WithFiles(), "--student runs/b --numbers 3 4 5")
    assert changed == WithFiles(student=File("runs/b"), numbers=(3, 4, 5))
    assert override(changed, "--student None --teacher c").student is None
    with pytest.raises(SystemExit):
        override(WithFiles(), "--help")
    assert capsys.readouterr().out.count("Where they lie.") == 2


def test_help_is_fast():
    """Nothing heavy is loaded for it: see test_imports. Half a second would be felt."""
    code = "import sys; from countersteer.commands.cli import main; main(['--help']); assert 'torch' not in sys.modules"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert time.perf_counter() - began < 5.0  # on a machine that others use too
