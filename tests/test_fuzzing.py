"""The fuzz itself: it finds a planted fault of each kind, says which mutation did it, and finds none in what we read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from fuzzing.containers import CONTAINERS, mutated

HERE = Path(__file__).parent

# A toy format of one word, whose reader fails in the way that the word says.
PLANTED = """
import json, os, sys, time
import av
import numpy as np
from countersteer.errors import UserError
from fuzzing import __main__, run
from fuzzing.formats import Format

FAULTS = ("none", "traceback", "hang", "memory", "lost memory", "crash", "wrong error", "unsound", "refused", "limit", "wait")


def make(folder):
    path = folder / "toy.json"
    path.write_text(json.dumps("none"))
    return path


def read(path):
    fault = json.loads(path.read_text())
    match fault:
        case "traceback":
            return {}["missing"]
        case "hang":
            while True:
                pass
        case "wait":
            time.sleep(60)
        case "memory":
            np.ones(200 << 20, np.uint8).sum()
        case "lost memory":
            try:
                np.ones(1 << 40, np.uint8)
            except MemoryError:
                raise UserError(f"{path} is too large", fix="split it")
        case "crash":
            os.abort()
        case "wrong error":
            raise UserError("something is wrong", fix="look")
        case "refused":
            raise UserError(f"{path} is wrong", fix="look")
        case "limit":  # a number that FFmpeg refuses without asking for memory
            try:
                raise av.error.MemoryError(12, "Cannot allocate memory")
            except MemoryError as error:
                raise UserError(f"{path} is wrong", fix="look") from error
    return fault


run.Mutator.apply = lambda self, number: (
    self.path.write_text(json.dumps(FAULTS[number % len(FAULTS)])), ("toy.json", FAULTS[number % len(FAULTS)])
)[1]
toy = Format("toy", make, read, None, lambda value: "it is unsound" if value == "unsound" else None)
sys.exit(__main__.main(sys.argv[1:], (toy,)))
"""


def run(*words: str, script: str | None = None, timeout: float = 400.0) -> subprocess.CompletedProcess[str]:
    """The fuzz in a process of its own: it forks, which a process with threads should not."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    how = ["-m", "fuzzing"] if script is None else ["-c", script]
    return subprocess.run(
        [sys.executable, *how, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def test_a_planted_fault_of_each_kind_is_found(tmp_path: Path):
    words = ["--count", "13", "--out", str(tmp_path), "--seconds", "0.5", "--memory", "0.1"]
    done = run(*words, script=PLANTED)
    assert done.returncode == 1, done.stderr
    table = json.loads((tmp_path / "table.json").read_text())
    row = table["formats"]["toy"]
    expected = dict.fromkeys(("crash", "wrong error", "unsound"), 1)
    expected |= {"mutations": 13, "same": 2, "traceback": 2, "memory": 2, "refused": 2, "hang": 2}
    assert {kind: count for kind, count in row.items() if count} == expected
    found = {each["change"]: each for each in table["findings"]}
    assert found["traceback"]["said"] == "KeyError: 'missing'"
    assert (found["traceback"]["number"], found["traceback"]["times"]) == (1, 2)
    assert (tmp_path / "findings" / "toy" / "1" / "finding.json").exists(), "what did it is kept"
    assert "| toy | 13 | 2 | 2 | 0 | 0 | 9 |" in (tmp_path / "table.md").read_text()
    # What was done is not done again.
    (log,) = (tmp_path / "seed_0").glob("*.jsonl")
    written = log.read_text().splitlines()
    log.write_text("\n".join([*written[:8], *written[9:]]) + '\n{"torn')
    again = run(*words, script=PLANTED)
    assert again.returncode == 1
    assert "toy: 1 of 1" in again.stderr
    assert json.loads((tmp_path / "table.json").read_text())["formats"] == table["formats"]


def test_a_little_fuzz_of_everything_finds_nothing(tmp_path: Path):
    done = run("--count", "52", "--seed", "5", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout
    rows = json.loads((tmp_path / "table.json").read_text())["formats"]
    assert sum(row["refused"] for row in rows.values()) > 20
    assert sum(row["same"] + row["noted"] + row["changed"] for row in rows.values()) > 10


def test_a_mutation_is_a_function_of_the_generator(tmp_path: Path):
    data = json.dumps({"a": [1, 2.5, "x"], "b": {"c": None}}).encode()
    made = [[mutated("a.json", data, np.random.default_rng(k)) for k in range(60)] for _ in range(2)]
    assert made[0] == made[1]
    assert len({kind for _, kind in made[0]}) > 6, "of many kinds"
    assert sum(changed != data for changed, _ in made[0]) > 50


def test_containers_are_closed_as_they_were_opened(tmp_path: Path):
    """So a file whose check sums are made anew differs in what was changed and in nothing else."""
    import torch

    from countersteer.data.readers import read
    from countersteer.evaluation.replay import load_replay
    from countersteer.storage import checkpoint
    from fuzzing import formats

    form = {each.name: each for each in CONTAINERS}

    def reclosed(name: str, path: Path) -> None:
        container, data = form[name], path.read_bytes()
        assert container.fits(path.name, data), name
        path.write_bytes(container.close(container.open(data), container.open(data)))

    checkpoint.save(tmp_path / "a.safetensors", {"w": torch.arange(3.0)}, {"kind": "test"})
    reclosed("sealed policy", tmp_path / "a.safetensors")
    reclosed("safetensors", tmp_path / "a.safetensors")
    assert checkpoint.load(tmp_path / "a.safetensors")[1] == {"kind": "test"}
    record = formats._tfrecord(tmp_path)
    before = read(record).fingerprint()
    reclosed("sealed record", record)
    assert read(record).fingerprint() == before
    replay = formats._replay(tmp_path)
    reclosed("sealed replay", replay)
    assert len(load_replay(replay).records) == 2
