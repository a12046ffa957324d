"""Surroundings that a command does not expect: closed streams, a full output, a narrow terminal, no working folder, inputs named as outputs."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_recipe
from countersteer.commands import cli
from countersteer.errors import UserError
from countersteer.recipes import find
from countersteer.training.recipe import Recipe

COMMAND = f"exec {sys.executable} -m countersteer"


def shell(line: str, **how) -> subprocess.CompletedProcess:
    where = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=120, env=where, check=False, **how
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--version >&-", 0),
        ("--version >&- 2>&- <&-", 0),
        ("nothing 2>&-", 2),
        ("nothing >&-", 2),
        ("nothing 2>/dev/full", 2),
    ],
)
def test_closed_streams_are_no_fault(line, code):
    done = shell(f"{COMMAND} {line}")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("word", ["--version", "--help"])
def test_an_output_that_is_full_is_told(word):
    done = shell(f"{COMMAND} {word} > /dev/full")
    assert done.returncode == 2
    assert "output cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_working_folder_that_is_gone_is_told(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli.main(["data", "list"]) == 2
    assert "working folder is gone" in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["1", "0", "7"])
def test_help_ends_in_a_narrow_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    assert cli.main(["data", "list", "--help"]) == 0
    assert "--json" in capsys.readouterr().out
    assert os.environ["COLUMNS"] == columns


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("recipe.json", "run.json", "policy.safetensors"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "export {run} --out {run}/policy.safetensors",
        "export {run} --out {run}/checkpoints/x.onnx",
        "export {run}/policy.safetensors --out {copy}",
        "compare {run} --json {run}/run.json",
        "evaluate {run} --keep {run}/recipe.json",
        "data list {copy} --json {copy}",
    ],
)
def test_what_is_read_is_not_written_over(line, run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copy(run / "policy.safetensors", copy)
    if "safetensors --out" in line:
        copy.unlink()
        copy.symlink_to(run / "policy.safetensors")
    assert cli.main(line.format(run=run, copy=copy).split()) == 2
    assert "would be lost" in capsys.readouterr().err
    assert (run / "policy.safetensors").read_text() == copy.read_text() == "{}"


def test_a_dash_is_no_file(capsys):
    assert cli.main(["data", "list", "--json", "-"]) == 2
    assert "'-'" in capsys.readouterr().err
    assert not Path("-").exists()


def of(recipe: object) -> find.FoundRecipe:
    def build() -> Recipe:
        if isinstance(recipe, BaseException):
            raise recipe
        return recipe  # pyright: ignore[reportReturnType]

    return find.FoundRecipe("mine.py:own", build, tiny_recipe)


@pytest.mark.parametrize("left", [SystemExit(), SystemExit(0), SystemExit("bye")])
def test_a_recipe_that_exits_has_failed(left):
    with pytest.raises(UserError, match="failed"):
        of(left).recipe()


@pytest.mark.parametrize(
    "change",
    [
        {"policy": None},
        {"policy": "cnn"},
        {"driver": lambda: None},
        {"optim": {"steps": 3}},
        {"rollouts": None},
        {"scenarios": []},
        {"world": dataclasses.dataclass},
        {"name": 3},
        {"name": "../../x"},
        {"name": ".."},
        {"name": " "},
        {"name": "a\nb"},
    ],
    ids=lambda change: f"{next(iter(change))} {next(iter(change.values()))!r:.12}",
)
def test_parts_of_another_kind_are_refused_by_name(change):
    recipe = tiny_recipe.tiny()
    stage = dataclasses.replace(recipe.stage)
    for name, value in change.items():
        object.__setattr__(stage, name, value)  # in tests constructors look at types themselves
    with pytest.raises(UserError, match=next(iter(change))):
        of(Recipe("odd", (stage,))).recipe()


@pytest.mark.parametrize("name", ["../../x", "", "a/b", "."])
def test_a_name_that_leaves_the_folder_is_refused_as_a_flag_too(name):
    from countersteer.commands.training import Training

    with pytest.raises(UserError, match="name"):
        of(tiny_recipe.tiny()).read([f"--name={name}"], Training())
