"""Things that other packages bring: found at first use, failures named, names that are taken refused."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from countersteer import extensions
from countersteer.data import cameras, readers
from countersteer.data.readers.source import Reader
from countersteer.errors import UserError
from countersteer.evaluation.benchmarks import BENCHMARKS, Benchmark, available_benchmarks
from countersteer.evaluation.metrics.evidence import Score
from countersteer.scenarios.procedural import RoadKind, procedural_road

SCENARIO = procedural_road(1, RoadKind.GENTLE, lanes=1)
MINE = Reader("mine", "a file .mine", lambda path: path.suffix == ".mine", lambda path: SCENARIO)
SCORE = Benchmark("kindness", "Kindness", "by definition", 1.0, lambda drive, record: Score(1.0, {}))


class FakeDistribution(importlib.metadata.Distribution):
    """An installed package that is not there."""

    def __init__(self, name: str):
        self._name = name

    def read_text(self, filename: str) -> str | None:
        return (
            f"Metadata-Version: 2.1\nName: {self._name}\nVersion: 1.2\n" if filename == "METADATA" else None
        )

    def locate_file(self, path):
        raise NotImplementedError


@pytest.fixture
def bring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs entry points, each (group, name, value) or (group, name, value, package)."""
    module = ModuleType("my_plugin")
    module.MINE, module.SCORE, module.NOTHING = MINE, SCORE, object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_plugin", module)

    def install(*rows: tuple[str, ...]) -> None:
        made = []
        for group, name, value, *package in rows:
            entry = importlib.metadata.EntryPoint(name, value, group)
            distribution = FakeDistribution(package[0] if package else "my-plugin")
            made.append(entry._for(distribution))  # type: ignore[attr-defined]
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda *, group: [one for one in made if one.group == group]
        )
        extensions.found.cache_clear()

    yield install
    extensions.found.cache_clear()


def test_nothing_is_loaded_before_it_is_used():
    code = (
        "import countersteer.data.readers, countersteer.data.cameras, countersteer.evaluation.benchmarks\n"
        "from countersteer import extensions\n"
        "assert extensions.found.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_readers_and_scores_of_other_packages(bring: Callable[..., None], tmp_path: Path):
    bring(
        ("countersteer.readers", "mine", "my_plugin:MINE"),
        ("countersteer.camera_readers", "mine", "my_plugin:MINE"),
        ("countersteer.scores", "kindness", "my_plugin:SCORE"),
    )
    path = tmp_path / "a.mine"
    path.touch()
    assert readers.read(path).fingerprint() == SCENARIO.fingerprint()
    assert readers.scan(tmp_path) == [path]
    assert cameras.available_readers() == (*cameras.READERS, MINE)
    assert available_benchmarks() == (*BENCHMARKS, SCORE)
    with pytest.raises(UserError, match=r"not mine: that is a file \.mine"):
        readers.read(tmp_path)
    (one,) = extensions.found("countersteer.scores")
    assert (one.name, one.package, one.problem) == ("kindness", "my-plugin 1.2", "")


def test_a_broken_package_is_named_and_left_out(bring: Callable[..., None], tmp_path: Path):
    bring(
        ("countersteer.readers", "absent", "no_such_module:READER", "broken"),
        ("countersteer.readers", "empty", "my_plugin:NOTHING"),
        ("countersteer.readers", "misnamed", "my_plugin:MINE"),
        ("countersteer.readers", "mine", "my_plugin:MINE"),
    )
    with pytest.warns(UserWarning, match="is left out") as said:
        assert [reader.name for reader in readers.available_readers()][-1] == "mine"
    texts = [str(one.message) for one in said]
    assert len(texts) == 3
    assert "'absent' of broken 1.2 is left out: ModuleNotFoundError" in texts[0]
    problems = {one.name: one.problem for one in extensions.found("countersteer.readers")}
    assert "has no name, matches, read, drives" in problems["empty"]
    assert "is named 'mine', its entry point 'misnamed'" in problems["misnamed"]
    assert problems["mine"] == ""


def test_names_are_used_once(bring: Callable[..., None]):
    bring(
        ("countersteer.readers", "mine", "my_plugin:MINE", "one"),
        ("countersteer.readers", "mine", "my_plugin:MINE", "two"),
    )
    with pytest.raises(UserError, match=r"one 1\.2 and two 1\.2"):
        readers.available_readers()
    taken = Reader("scenarionet", "", MINE.matches, MINE.read)
    sys.modules["my_plugin"].MINE = taken  # type: ignore[attr-defined]
    bring(("countersteer.readers", "scenarionet", "my_plugin:MINE"))
    with pytest.raises(UserError, match=r"countersteer and my-plugin 1\.2"):
        readers.available_readers()
