"""The built package on each Python it claims to run on, for a user who may write nothing but a temporary folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
# What an extra is for, and the tests that run only where it is installed.
EXTRAS = {
    "data": ["test_readers_123d.py"],
    "ray": ["test_ray_collector.py"],
    "view": ["test_watch.py"],
    "bridges": ["test_metadrive.py", "test_alpasim.py"],
}
IN_DEV = {"lyft", "pettingzoo", "export", "gpu"}
# Root may write everywhere; without these capabilities it may write what its owner may.
UNPRIVILEGED = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner") if os.getuid() == 0 else ()
)


# A copy of the package on the path would count as installed.
BARE = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(*words: str | Path, **named: object) -> subprocess.CompletedProcess[str]:
    named = {"env": BARE} | named
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **named)  # pyright: ignore
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def interpreter(version: str) -> str:
    """Where a Python is, or a skip that says that this machine has none."""
    managed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for found in (shutil.which(f"python{version}"), *map(str, managed)):
        if (
            found
            and subprocess.run([found, "-m", "ensurepip", "--version"], capture_output=True).returncode == 0
        ):
            return found
    pytest.skip(f"no Python {version} on this machine")


def environment(version: str, folder: Path) -> Path:
    """The `bin` of a new environment."""
    run(interpreter(version), "-m", "venv", folder)
    return folder / "bin"


def install(bin_: Path, *what: str | Path) -> None:
    constraints = ("--constraint", ROOT / "constraints.txt")
    run(
        bin_ / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraints, *what
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", built, ROOT)
    return next(built.glob("*.whl"))


def test_every_extra_has_its_tests_named_here():
    assert set(PROJECT["optional-dependencies"]) - {"dev", "docs"} == {*EXTRAS, *IN_DEV}


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_a_user_who_can_write_only_a_temporary_folder_drives(version, wheel, tmp_path):
    bin_ = environment(version, tmp_path / "environment")
    install(bin_, wheel)
    home, places = tmp_path / "home", tmp_path / "temporary"
    for folder in (home, places):
        folder.mkdir()
    for folder in (home, *(each for each in (tmp_path / "environment").rglob("*") if each.is_dir())):
        folder.chmod(0o555)
    bare = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(places), "LANG": "C"}
    command = (*UNPRIVILEGED, bin_ / "countersteer", "evaluate", "expert", "--suite", "lane_keeping")
    first, second = (run(*command, env=bare, cwd=places) for _ in range(2))
    assert "24 of 24" in first.stdout or "24/24" in first.stdout
    assert "kernels are compiled" in first.stderr
    assert "kernels are compiled" not in second.stderr
    for folder in (tmp_path / "environment").rglob("*"):  # so that it can be removed
        if folder.is_dir():
            folder.chmod(0o755)


@pytest.mark.slow
def test_all_extras_install_together_with_the_constraints_and_pass_their_tests(tmp_path):
    bin_ = environment("3.11", tmp_path / "environment")
    install(bin_, "--editable", f"{ROOT}[dev,{','.join(EXTRAS)}]")
    files = [str(ROOT / "tests" / file) for files in EXTRAS.values() for file in files]
    done = run(bin_ / "python", "-m", "pytest", "-n", "0", "-rs", "-m", "not slow", *files, cwd=ROOT)
    assert "could not import" not in done.stdout
    assert "not installed" not in done.stdout
