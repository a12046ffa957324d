"""`benchmarks/gpu.py` at sizes that need no GPU: every part runs, and what fails is told beside what does not."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu")


def run(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--quick", "--json", str(folder / "gpu.json"), *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert (folder / "gpu.json").is_file(), done.stderr
    return done.returncode, json.loads((folder / "gpu.json").read_text())


def test_two_parts_run_without_a_gpu(tmp_path):
    pytest.importorskip("triton")
    code, found = run(tmp_path, "--device", "cpu", "--parts", "pictures_parity", "training_step")
    assert code == 0, found
    assert found["hardware"]["torch"] == torch.__version__
    assert {"commit", "processor", "cores"} <= found["hardware"].keys()
    (drawn,) = found["parts"]["pictures_parity"]["rows"]
    for beside in ("with_kernel", "with_reference"):
        assert all(share > 0.99 for share in drawn[beside].values())
    steps = found["parts"]["training_step"]["rows"]
    assert {(row["precision"], row["compiled"]) for row in steps} == {
        (precision, compiled) for precision in ("float32", "bf16") for compiled in (False, True)
    }


def test_a_part_that_fails_keeps_its_rows_and_says_why(gpu, tmp_path, monkeypatch):
    def failing(at):
        yield {"first": 1}
        raise RuntimeError("out of luck")

    monkeypatch.setitem(gpu.PARTS, "state", (failing, 1.0))
    gpu.run_part("state", gpu.Settings("cpu", True, tmp_path), tmp_path / "state.json")
    found = json.loads((tmp_path / "state.json").read_text())
    assert found["rows"] == [{"first": 1}]
    assert found["error"] == "RuntimeError: out of luck"


def test_a_part_that_takes_too_long_is_stopped(gpu, tmp_path):
    found = gpu.started("state", gpu.Settings("cpu", True, tmp_path), 0.2)
    assert found["error"] == "stopped after 0.2 s"
    assert found["seconds"] < 10
    assert found["rows"] == []


@pytest.mark.slow
def test_every_part_runs_without_a_gpu(tmp_path):
    pytest.importorskip("triton")
    code, found = run(tmp_path, "--device", "cpu")
    assert code == 0, {name: part["error"] for name, part in found["parts"].items() if "error" in part}
    assert all(part["rows"] for name, part in found["parts"].items() if name != "hardware")
    stepped = found["parts"]["stepping_parity"]["rows"]
    assert all(max(row["largest_differences"].values()) < 1e-3 for row in stepped)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_its_device_every_part_says_so(tmp_path):
    code, found = run(tmp_path, "--parts", "state", "teacher")
    assert code == 1
    assert all("error" in found["parts"][name] for name in ("hardware", "state", "teacher"))
    assert "torch" in found["hardware"]
