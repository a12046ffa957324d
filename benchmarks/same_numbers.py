"""Same numbers before and after a refactoring: digests of what a tree of countersteer computes, as JSON.

    python benchmarks/same_numbers.py --tree PATH --api 0.1 --out old.json
    python benchmarks/same_numbers.py --tree .    --api 0.2 --out new.json [--only boxworld train/clone]
    python benchmarks/same_numbers.py --compare old.json new.json [--json FILE]

Worlds and their pictures, reprojection, every recipe's training (shrunk), suites, populations and scores, 38 parts; `--list`
names them. All runs on one thread of the CPU, and takes half an hour or so once the kernels are compiled. What is in FILE
already is not measured again. The comparison names what differs, and its exit code is 1 if anything does.

`same_numbers_of/parts.py` says what is measured, `same_numbers_of/api_*.py` how a tree of a version is asked for it; a
later version gets an `Api` of its own there. Each part runs in a process of its own, because what a process has loaded decides how many random numbers were
drawn before. Kernels are compiled into a folder named by the digest of the tree's sources, because numba's own cache
does not notice that an inlined function of another file has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata as metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from same_numbers_of.api import Api
from same_numbers_of.parts import measure, parts

APIS = {"0.1": ("api_0_1", "Api01"), "0.2": ("api_0_2", "Api02")}
"""Modules of `same_numbers_of`, which import the tree, and classes."""
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


# --- measuring a tree -----------------------------------------------------------------------------------------------


def sources_digest(tree: Path) -> str:
    """Of all Python files of the package."""
    digest = hashlib.sha256()
    for file in sorted((tree / "src").rglob("*.py")):
        digest.update(str(file.relative_to(tree)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def one_part(api: Api, tree: Path, part: str, out: Path) -> None:
    """Measure a part in this process, which `measure_tree` began for it."""
    import torch

    import countersteer

    place = Path(countersteer.__file__).resolve()
    if not place.is_relative_to(tree / "src"):
        raise SystemExit(f"{place} is not of {tree}")
    torch.set_num_threads(1)
    began = time.monotonic()
    found = measure(api, part)
    out.write_text(json.dumps({"info seconds": round(time.monotonic() - began, 1), **found}))


def measure_tree(tree: Path, api: str, out: Path, only: list[str] | None, cache: Path, again: bool) -> int:
    """Measure the parts that `out` lacks, each in a process of its own; the number of those that failed."""
    environment = ONE_THREAD | {
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": str(tree / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",  # nothing is left in the tree
        "NUMBA_CACHE_DIR": str(cache / sources_digest(tree)),
        "CUDA_VISIBLE_DEVICES": "",
    }

    def kept() -> dict[str, Any]:
        return json.loads(out.read_text()) if out.exists() else {"info": {}, "parts": {}}

    failed = 0
    for part in parts():
        if only is not None and not any(part.startswith(prefix) for prefix in only):
            continue
        if part in kept()["parts"] and not again:
            continue
        piece, began = out.with_suffix(f".{os.getpid()}.part"), time.monotonic()
        command = [sys.executable, str(Path(__file__).resolve()), "--tree", str(tree), "--api", api]
        done = subprocess.run([*command, "--part", part, "--out", str(piece)], env=os.environ | environment)
        seconds = time.monotonic() - began
        print(f"{part}: {'ok' if done.returncode == 0 else 'FAILED'} in {seconds:.0f} s", flush=True)
        if done.returncode != 0:
            failed += 1
            continue
        whole = kept()  # two may work at one file
        whole["parts"][part] = json.loads(piece.read_text())
        whole["info"] = about(tree, api)
        piece.unlink()
        partial = out.with_suffix(".partial")
        partial.write_text(json.dumps(whole, indent=1))
        partial.replace(out)
    return failed


def about(tree: Path, api: str) -> dict[str, Any]:
    """What was measured, with what, on what."""

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(tree), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = [
        line.split(":", 1)[1].strip() for line in described.splitlines() if line.startswith("model name")
    ]
    return {
        "api": api,
        "commit": git("rev-parse", "HEAD"),
        "dirty": git("status", "--porcelain"),
        "sources": sources_digest(tree),
        "python": platform.python_version(),
        "packages": {
            name: metadata.version(name) for name in ("torch", "numpy", "numba", "llvmlite", "scipy")
        },
        "hardware": f"{os.cpu_count()} cores of {model[0] if model else platform.processor()}, one thread used",
    }


# --- comparing ------------------------------------------------------------------------------------------------------


def informs(name: str) -> bool:
    """Whether an entry is for people only. (A leaf may be called mean_image: that one counts.)"""
    return name in ("info", "mean", "mean of last step") or name.startswith("info ")


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two parts differ. What is called otherwise but is equal, one for one, is said to be renamed."""
    if isinstance(old, dict) and isinstance(new, dict):
        found, gone, come = [], [], []
        for name in [*old, *(n for n in new if n not in old)]:
            if informs(name):
                continue
            if name in old and name in new:
                found += differences(old[name], new[name], f"{path}/{name}")
            else:
                (gone if name in old else come).append(name)
        left = {name: _text(new[name]) for name in come}
        for name in gone:
            match = next((other for other, text in left.items() if text == _text(old[name])), None)
            if match is None:
                found.append(f"{path}/{name}: only in the first")
            else:
                del left[match]
                found.append(f"(renamed) {path}/{name} -> {match}: equal")
        return found + [f"{path}/{name}: only in the second" for name in left]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = [differences(a, b, f"{path}/{k}") for k, (a, b) in enumerate(zip(old, new, strict=True))]
        return [each for part in found for each in part]
    return [] if old == new else [f"{path}: {str(old)[:100]} != {str(new)[:100]}"]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        value = {name: _text(item) for name, item in value.items() if not informs(name)}
    return json.dumps(value, sort_keys=True)


def compare(first: Path, second: Path, into: Path | None, most: int = 12) -> bool:
    """Print what differs, part by part, and write it; whether anything does."""
    wholes = [json.loads(file.read_text()) for file in (first, second)]
    old, new = (whole["parts"] for whole in wholes)
    count: Counter[str] = Counter()
    told: dict[str, str | list[str]] = {}
    for part in [*old, *(name for name in new if name not in old)]:
        if part not in old or part not in new:
            found = [f"only in the {'first' if part in old else 'second'}"]
        else:
            found = differences(old[part], new[part])
        real = [each for each in found if not each.startswith("(renamed)")]
        verdict = "DIFFERENT" if real else "same numbers, other names" if found else "same numbers"
        count[verdict] += 1
        print(f"{part}: {verdict}")
        for each in (real or found)[:most]:
            print(f"    {each}")
        if len(real or found) > most:
            print(f"    ... and {len(real or found) - most} more")
        told[part] = real or verdict
    print(", ".join(f"{number} {what}" for what, number in count.items()))
    if into is not None:
        heads = {name: whole["info"] for name, whole in zip(("first", "second"), wholes, strict=True)}
        into.write_text(json.dumps({**heads, "counts": count, "parts": told}, indent=1))
    return count["DIFFERENT"] > 0


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tree", type=Path, default=Path(__file__).resolve().parents[1], help="default: this one"
    )
    parser.add_argument("--api", choices=APIS, default=list(APIS)[-1], help="how it is called")
    parser.add_argument("--out", type=Path, default=Path("same_numbers.json"), metavar="FILE")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts whose name begins so")
    parser.add_argument("--again", action="store_true", help="also parts that are in FILE")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "countersteer_same_numbers"
    )
    parser.add_argument("--list", action="store_true", help="name the parts")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison here")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.compare:
        first, second = known.compare
        return int(compare(first, second, known.json))
    if known.list:
        print("\n".join(parts()))
        return 0
    tree = known.tree.resolve()
    if known.part:
        module, name = APIS[known.api]
        api = getattr(importlib.import_module(f"same_numbers_of.{module}"), name)()
        one_part(api, tree, known.part, known.out)
        return 0
    return 1 if measure_tree(tree, known.api, known.out, known.only, known.cache, known.again) else 0


if __name__ == "__main__":
    sys.exit(main())
