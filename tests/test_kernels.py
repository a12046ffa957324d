"""Compiled kernels are kept where something can be written, are made anew when what they consist of changes, and say so."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from countersteer import kernels

CALLED = "import numba as nb\n@nb.njit(inline='always')\ndef step(x):\n    return x + 1\n"
SCALE = "SCALE = 3\n"
CALLER = """from countersteer.kernels import njit
from constants_of_it import SCALE
from called_by_it import step
@njit()
def kernel(x):
    return SCALE * step(x)
"""


def load(folder: Path) -> ModuleType:
    """The module of the kernel as a new process would see it."""
    for name in ("called_by_it", "constants_of_it", "the_kernel"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module("the_kernel")


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # two versions within one second have one time stamp
    monkeypatch.setattr("numba.core.config.CACHE_DIR", "")
    for name, text in {"called_by_it": CALLED, "constants_of_it": SCALE, "the_kernel": CALLER}.items():
        (tmp_path / f"{name}.py").write_text(text)
    kernels._say_once.cache_clear()
    return tmp_path


def hits(module: ModuleType) -> int:
    return sum(module.kernel.stats.cache_hits.values())


def test_a_kernel_is_kept_and_its_first_compilation_is_said(written, caplog):
    with caplog.at_level(logging.WARNING, "countersteer"):
        assert load(written).kernel(1) == 6
        assert "compiled for this processor" in caplog.text
        caplog.clear()
        again = load(written)
        assert again.kernel(1) == 6
    assert hits(again) == 1
    assert not caplog.records


@pytest.mark.parametrize(
    ("file", "text", "value"),
    [("called_by_it", CALLED.replace("x + 1", "x + 2"), 9), ("constants_of_it", "SCALE = 5\n", 10)],
)
def test_a_change_in_a_file_that_it_calls_or_takes_constants_from_compiles_it_anew(
    written, file, text, value
):
    assert load(written).kernel(1) == 6
    (written / f"{file}.py").write_text(text)
    changed = load(written)
    assert changed.kernel(1) == value
    assert hits(changed) == 0


def test_a_torn_file_of_the_cache_costs_a_compilation(written):
    load(written).kernel(1)
    for file in (written / "__pycache__").glob("*.nbc"):
        file.write_bytes(file.read_bytes()[:50])
    assert load(written).kernel(1) == 6


def test_a_full_disk_costs_the_cache_and_not_the_drive(written, monkeypatch, caplog):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
    assert load(written).kernel(1) == 6
    assert "No space left" in caplog.text


def deny(monkeypatch: pytest.MonkeyPatch, *allowed: Path) -> None:
    """Nothing can be written but below some folders (root may write everywhere, so permissions do not help)."""
    really = os.makedirs

    def makedirs(path: str, *given: object, **named: object) -> None:
        if not any(Path(path).is_relative_to(each) for each in allowed):
            raise PermissionError(13, "Permission denied", str(path))
        really(path, *given, **named)  # pyright: ignore

    monkeypatch.setattr("numba.core.caching.os.makedirs", makedirs)


def test_without_package_and_home_a_temporary_folder_of_this_user_is_taken(written, tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(place))
    deny(monkeypatch, place)
    assert load(written).kernel(1) == 6
    again = load(written)
    assert again.kernel(1) == 6
    assert hits(again) == 1
    own = place / f"countersteer-kernels-{os.getuid()}"
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)  # anybody could have put code there
    open_to_all = load(written)
    assert open_to_all.kernel(1) == 6
    assert hits(open_to_all) == 0


def test_where_nothing_can_be_written_it_runs_and_says_what_that_costs(written, monkeypatch, caplog):
    deny(monkeypatch)
    assert load(written).kernel(1) == 6
    assert "NUMBA_CACHE_DIR=FOLDER" in caplog.text
