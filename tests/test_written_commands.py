"""Every command line that a text writes is run as it is written, on small data; a line that cannot be run here says why not."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import tiny_recipe
from countersteer.commands import cli
from countersteer.evaluation import suites
from countersteer.evaluation.replay import save_replay
from countersteer.evaluation.runs import evaluate_run
from countersteer.recipes import closed_loop
from countersteer.training.run import train
from test_command_line import WRITTEN, lines_of
from test_tutorials import BUDGET, camera_log, track_logs

ROOT = Path(__file__).parents[1]
FILES = {
    file.name: file for file in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.py")]
}


@dataclasses.dataclass(frozen=True)
class How:
    """How a line is run.

    Attributes:
        add: Flags that make it small.
        slow: Whether it takes more than a few seconds.
        extra: Module without which it cannot be run.
        instead: What is put in the place of words of the line.
        why: Why it is not run here at all.
    """

    add: str = ""
    slow: bool = False
    extra: str = ""
    instead: tuple[tuple[str, str], ...] = ()
    why: str = ""


HOW = {
    # The first pattern that fits counts.
    r"train \w+ --help": How(),
    r"train self_play$": How(why="a command that a decision names; `--out runs/self_play` below is the line"),
    r"train self_play": How(
        why="ten minutes with the smallest budget: tests/test_self_play.py trains its two stages on small worlds"
    ),
    r"train reprojection": How(BUDGET, slow=True, instead=(("--out", "--scenarios LOG --out"),)),
    r"train on_policy --scenarios FOLDER": How(f"--out runs/new {BUDGET}", slow=True),
    r"train examples/": How(BUDGET, slow=True, instead=((" --optim.steps 200", ""),)),
    r"train traffic": How(why="tests/test_traffic_tokens.py trains it on small windows"),
    r"traffic ": How(why="needs a model of traffic: tests/test_traffic_tokens.py runs it with a small one"),
    r"train ": How(BUDGET, slow=True),
    r"demo --seeds 5": How("--out demo", slow=True, instead=(("--seeds 5", "--seeds 1"),)),
    r"data import$": How(why="names the command only; with its arguments it is run below"),
    r"data ": How(),
    r"evaluate --suite self_play": How("--worlds 1 --film-of x", slow=True),
    r"evaluate --keep$": How(why="names the flag only; with its arguments it is run below"),
    r"evaluate runs/(?!mine)": How(slow=True),
    r"evaluate ": How(),
    r"compare ": How(),
    r"watch .*--scores": How(slow=True),
    r"watch ": How(),
    r"report ": How(slow=True),
    r"drive": How(slow=True),
    r"export ": How(slow=True, extra="onnxruntime"),
    r"novel-view ": How("--seconds 1", slow=True),
    r"view-metrics ": How("--pairs 2 --size 64x32", slow=True),
    r"bench": How("--worlds 2 --count 1 --agents 1 --seconds 0.05 --threads 1 --sizes 32x16", slow=True),
    r"serve ": How(slow=True, extra="grpc"),
}
OUTSIDE = {
    "git clone": "fetches this repository",
    "make demo": "installs an environment; `countersteer demo` is run",
    "make test": "runs this",
    "make check": "CI runs it",
    "pip install eclipse-sumo": "an optional converter of others",
    "make docs": "tests/test_docs.py builds the site",
}
"""Commands of others in blocks of README and docs, and why they are not run."""
SCRIPTS = {
    r"python examples/": "tests/test_examples.py runs every example, with small budgets",
    r"python benchmarks/peers/": "needs the programs of others",
    r"python benchmarks/": "takes minutes to days; its --help is asked",
}
SMALL = ("lane_keeping", "lane_change", "recorded")
"""Suites of which only the first case is driven."""


def how(line: str) -> How:
    command = line.removeprefix("countersteer ")
    return next((each for pattern, each in HOW.items() if re.match(pattern, command)), How(why="?"))


# The same line in two texts is run once, and a page's whole list is run by tests/test_tutorials.py in its order as well.
LINES = sorted({line for line, file in WRITTEN})
RUN = [
    pytest.param(line, marks=[pytest.mark.slow] if how(line).slow else [], id=line)
    for line in LINES
    if not how(line).why
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what lines name: runs, replays, recorded drives, a camera log, a recipe."""
    folder = tmp_path_factory.mktemp("house")
    train(tiny_recipe.tiny(), folder / "runs" / "mine")
    for name in ("lane_keeping", "recorded"):
        result = evaluate_run(folder / "runs" / "mine", first_case(getattr(suites, name)()), frames=True)
        save_replay(result, folder / "mine.replay")
    for name in ("other", "a", "b", "clone", "street", "on_policy", "reprojection"):
        shutil.copytree(folder / "runs" / "mine", folder / "runs" / name)
    for name in ("other", "clone"):
        shutil.copy(folder / "mine.replay", folder / f"{name}.replay")
    track_logs(folder / "recorded")
    shutil.copytree(folder / "recorded", folder / "logs")
    shutil.copytree(folder / "recorded" / "drive-0", folder / "runs" / "my_log")
    (folder / "my_recipe.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'tests')!r})\nfrom tiny_recipe import tiny as function\n"
    )
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A camera log."""
    return camera_log(tmp_path_factory.mktemp("street") / "street")


def first_case(suite: suites.Suite) -> suites.Suite:
    return dataclasses.replace(suite, cases=suite.cases[:1])


@pytest.fixture
def here(house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the house as the present folder, suites of one case, recipes of the demo of a few frames."""
    shutil.copytree(house, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    for name in SMALL:
        whole = getattr(suites, name)
        monkeypatch.setattr(suites, name, lambda *given, whole=whole: first_case(whole(*given)))
    for name in ("clone", "perturb", "on_policy", "blind"):
        small = tiny_recipe.tiny().replace(name=name)
        monkeypatch.setattr(closed_loop, name, lambda *given, small=small, **named: small)
    return tmp_path / "here"


def filled(line: str, log: str) -> list[str]:
    """The words of a line, with something real where it says LOG."""
    for words, other in how(line).instead:
        if not (words == "--out" and "--scenarios" in line):
            line = line.replace(words, other)
    for name, value in {
        "LOG": log,
        "kitti/06": log,
        "inspect PATH": "inspect recorded/drive-0",
        "PATH": "recorded",
        "FOLDER": "new" if "--out FOLDER" in line else "logs",
        "--out logs": "--out new",
        "RUN": "runs/mine",
        "SUITE": "lane_keeping",
        "watch FILE": "watch mine.replay",
        "FILE": "new.replay",
    }.items():
        line = re.sub(rf"(?<!\S){re.escape(name)}(?!\S)", value, line)
    return shlex.split(f"{line} {how(line).add}")[1:]


@pytest.mark.parametrize("line", RUN)
def test_a_line_does_what_it_says(line, here, request, capsys):
    if how(line).extra and find_spec(how(line).extra) is None:
        pytest.skip(f"{how(line).extra} is not installed")
    needs_log = re.search(r"LOG|kitti|reprojection", line) and "runs/reprojection" not in line.removeprefix(
        "countersteer train"
    )
    words = filled(line, str(request.getfixturevalue("street")) if needs_log else "")
    if words[0] == "train" and "--out" in words:
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
    if words[0] == "serve":
        serve(words)
        return
    assert cli.main(words) == 0, capsys.readouterr().err
    told = capsys.readouterr()
    assert "Traceback" not in told.out + told.err
    for written in re.findall(r"^wrote (\S+)$", told.out, re.MULTILINE):
        assert Path(written).exists(), written


def serve(words: list[str]) -> None:
    """It says that it listens, and ends when it is told to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [port if word == "50051" else word for word in words]
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "countersteer", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as server:
        assert server.stdout is not None
        assert any("drives at" in line for line in server.stdout)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) in (0, 143)


def blocks(text: str) -> Iterator[str]:
    """Lines of a page's blocks that are typed into a shell."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in ("", "bash", "sh"):
            yield from (line for line in block.splitlines() if re.match(r"[a-z]+ [\w<./-]", line))


def test_every_line_is_run_or_says_why_not():
    unknown = [line for line in LINES if how(line).why == "?"]
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        if page.parent.name in ("log", "decisions"):
            continue
        for line in blocks(page.read_text("utf-8")):
            first = line.split()[0]
            if (
                first in ("git", "make", "pip", "docker")
                and not any(line.startswith(each) for each in OUTSIDE)
            ) or (first == "countersteer" and not any(line.startswith(each) for each in LINES)):
                unknown.append(line)
    assert not unknown, f"say in HOW, or in OUTSIDE, how these are run: {unknown}"


def scripts() -> list[str]:
    found = set()
    for file in FILES.values():
        for line in lines_of(file) if file.suffix == ".md" else file.read_text("utf-8").splitlines():
            found |= set(re.findall(r"(?:^|`)(python [\w/]+\.py)\b", line))
    results = (ROOT / "docs" / "results.md").read_text("utf-8")
    return sorted(found | set(re.findall(r"`(python [\w/]+\.py)\b", results)))


@pytest.mark.parametrize("line", scripts())
def test_a_script_that_a_text_names_is_there_and_has_a_reason(line):
    assert (ROOT / line.split()[1]).is_file()
    assert any(re.match(pattern, line) for pattern in SCRIPTS), f"say in SCRIPTS how {line} is run"


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [line for line in scripts() if re.match(r"python benchmarks/(?!peers)", line)]
)
def test_a_benchmark_says_how_it_is_called(line):
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / line.split()[1]), "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
