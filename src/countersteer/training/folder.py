"""The folder of a run: what it was made from, on what machine, and its curves."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from countersteer import __version__
from countersteer.errors import UserError
from countersteer.policies.weights import Weights
from countersteer.storage import files, serialise
from countersteer.training.recipe import Recipe

__all__ = ["Curves", "environment", "load_recipe", "note", "open_folder", "write_json"]


def write_json(path: Path, content: Any) -> None:
    """Write it whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(path)


def environment() -> dict[str, Any]:
    """What a run is made with: versions, commit, machine, command."""

    def git(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    import numba
    import numpy

    return {
        "countersteer": __version__,
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain", "-uno")),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "numba": numba.__version__,
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "command": " ".join(sys.argv),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def open_folder(recipe: Recipe, out: Path, seed: int, resume: bool, source: str | None) -> None:
    """Create the run's folder, or check that the one to resume belongs to this recipe."""
    description = out / "recipe.json"
    if resume and description.exists():
        saved = files.read_json(description)
        changed = serialise.differences(_as_now(saved["recipe"], recipe), serialise.to_json(recipe))
        if saved["seed"] != seed:
            changed.append(f"seed: {saved['seed']} -> {seed}")
        if changed:
            raise UserError(
                f"{out} is a run of another recipe",
                got="; ".join(changed[:8]) + (" ..." if len(changed) > 8 else ""),
                expected="the recipe and seed the run was started with",
                fix="resume with the same recipe, overrides and seed, or choose another --out",
            )
        return
    if out.exists() and any(out.iterdir()):
        raise UserError(
            f"the output folder {out} exists already",
            got="a folder with files in it",
            expected="a folder that does not exist yet",
            fix="choose another --out, or add --resume to continue that run",
        )
    out.mkdir(parents=True, exist_ok=True)
    content = {"recipe": serialise.to_json(recipe), "seed": seed, "source": source}
    write_json(description, content)


def _as_now(saved: Any, recipe: Recipe) -> Any:
    """A stored recipe as this version would have written it."""
    modules = tuple({sys.modules[kind.__module__] for kind in _types(recipe)})
    try:
        return serialise.to_json(serialise.from_json(saved, extra_modules=modules))
    except UserError:  # of another recipe altogether; the differences will tell
        return saved


def _types(tree: Any) -> set[type]:
    """The dataclasses of a tree."""
    if type(tree) is tuple:
        return set[type]().union(*(_types(item) for item in tree))
    if not dataclasses.is_dataclass(tree):
        return set()
    inner = (_types(getattr(tree, field.name)) for field in dataclasses.fields(tree))
    return {type(tree)}.union(*inner)


def note(out: Path, content: dict[str, Any], weights: dict[str, Weights]) -> None:
    """Write `run.json`; weights that have changed since the run began are refused.

    Args:
        out: Folder of the run.
        content: What else is to be in it.
        weights: What it uses, by where in the recipe it stands.
    """
    file = out / "run.json"
    before = files.read_json(file).get("weights", {}) if file.exists() else {}
    for place, each in weights.items():
        digest = before.get(place, {}).get("digest", each.digest)
        if digest != each.digest:
            raise UserError(
                f"the weights that the run in {out} uses as {place} have changed since it began",
                got=f"{each.path} with digest {str(each.digest)[:12]}",
                expected=f"digest {str(digest)[:12]}",
                fix="restore that file, or train into a new --out",
            )
    used = {place: {"path": each.path, "digest": each.digest} for place, each in weights.items()}
    write_json(file, content | {"weights": used})


class Curves:
    """metrics.jsonl and TensorBoard; a resumed run drops lines after its checkpoint, and of rounds to drive again."""

    def __init__(self, out: Path, step: int, frames: int):
        from torch.utils.tensorboard import SummaryWriter

        path = out / "metrics.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    values = json.loads(line)
                    if values["step"] <= step and values.get("frames", 0) <= frames:
                        kept.append(line)
                except (ValueError, KeyError):
                    break
        path.write_text("".join(f"{line}\n" for line in kept))
        self.file = path.open("a")
        self.board = SummaryWriter(out / "tensorboard", purge_step=step + 1)

    def write(self, step: int, values: dict[str, float], *, whole: bool = False) -> None:
        if step % 10 and step > 1 and not whole:
            return
        self.file.write(json.dumps({"step": step} | {k: round(v, 6) for k, v in values.items()}) + "\n")
        self.file.flush()  # so that a run that is killed has lost no line before its checkpoint
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        self.board.close()


def load_recipe(run: str | Path, modules: tuple[Any, ...] = ()) -> tuple[Recipe, int]:
    """The recipe and seed of a run folder.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    file = Path(run) / "recipe.json"
    try:
        there = file.exists()
    except (OSError, ValueError):  # a name that no file can have
        there = False
    if not there:
        raise UserError(
            f"{run} is not a run", got="no recipe.json", expected="a folder made by `countersteer train`",
            fix="check the path",
        )  # fmt: skip
    saved = files.read_json(file)
    with serialise.said_of(file):
        recipe, seed = serialise.from_json(saved["recipe"], extra_modules=modules), saved["seed"]
        if not isinstance(recipe, Recipe) or not isinstance(seed, int):
            raise ValueError(f"a {type(recipe).__name__} with the seed {seed!r:.80}")
    return recipe, seed
