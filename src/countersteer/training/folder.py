"""The folder of a run: what it was made from, on what machine, and its curves."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from countersteer import __version__
from countersteer.errors import UserError, reading, writing
from countersteer.policies.weights import Weights
from countersteer.storage import serialise
from countersteer.storage.files import exists, read_object, write_whole
from countersteer.storage.locks import LOCK
from countersteer.training.recipe import Recipe

__all__ = [
    "Curves",
    "changes",
    "environment",
    "load_recipe",
    "note",
    "open_folder",
    "with_parts",
    "write_json",
]

_CODE = ("countersteer", "commit", "dirty", "code", "python", "torch", "numpy", "numba")
_MACHINE = ("host", "machine", "processor", "threads")
_DRAFTS = (LOCK, ".recipe.json.")  # how the names begin of what a run that was killed as it began may leave


def write_json(path: Path, content: Any) -> None:
    """Write it whole or not at all."""
    with writing(path):
        write_whole(path, json.dumps(content, indent=1).encode())


def environment(recipe: Recipe | None = None) -> dict[str, Any]:
    """What a run is made with: versions, commit, code (that of a recipe's own parts too), machine, command."""

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
        "code": _code(recipe),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "numba": numba.__version__,
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "host": socket.gethostname(),
        "command": " ".join(sys.argv),
        "began": datetime.now(UTC).isoformat(sep=" "),
    }


def _code(recipe: Recipe | None) -> str:
    """Digest of the source files of the package, and of those that define a recipe's own parts."""
    package = Path(__file__).parents[1]
    files = set(package.rglob("*.py"))
    for kind in _types(recipe):
        own = getattr(sys.modules[kind.__module__], "__file__", None)
        files |= {Path(own)} if own is not None else set()
    digest = hashlib.sha256()
    for file in sorted(files):
        with contextlib.suppress(OSError):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def with_parts(out: Path, content: dict[str, Any], step: int = 0) -> dict[str, Any]:
    """What `run.json` is to say, with `parts`: code, machine and first step of this part of a run and of earlier ones."""
    parts, now = _parts(out), _part(content)
    if parts and parts[-1].get("began") == now.get("began"):
        step = parts.pop().get("step", step)  # it is this one
    return content | {"parts": [*parts, now | {"step": step}]}


def _parts(out: Path) -> list[dict[str, Any]]:
    """Parts of a run so far; a run.json of before there were parts is one."""
    file = out / "run.json"
    before = read_object(file) if file.exists() else {}
    return list(before.get("parts") or [_part(before)] * bool(before))


def _part(content: dict[str, Any]) -> dict[str, Any]:
    return {key: content[key] for key in (*_CODE, *_MACHINE, "command", "began") if key in content}


def changes(out: Path, content: dict[str, Any]) -> list[str]:
    """Lines on what has changed since a run was last at work; its numbers may differ for it."""
    last = (_parts(out) or [{}])[-1]
    lines = []
    for what, keys in (("code", _CODE), ("machine", _MACHINE)):
        other = [key for key in keys if key in last and key in content and last[key] != content[key]]
        if other:
            said = ", ".join(f"{key} {_short(last[key])} -> {_short(content[key])}" for key in other)
            lines.append(
                f"the {what} has changed since this run was last at work ({said}); run.json keeps both"
            )
    return lines


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 40 else text


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
        saved = read_object(description)
        if not {"recipe", "seed"} <= saved.keys():
            what = f"{description} is damaged"
            raise UserError(
                what, got=f"only {sorted(saved)}", expected="recipe and seed", fix="restore that file"
            )
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
    if out.exists() and not all(each.name.startswith(_DRAFTS) for each in out.iterdir()):
        raise UserError(
            f"the output folder {out} exists already",
            got="a folder with files in it",
            expected="a folder that does not exist yet",
            fix="choose another --out, or add --resume to continue that run",
        )
    with writing(out):
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


def note(out: Path, content: dict[str, Any], weights: dict[str, Weights], step: int) -> None:
    """Write `run.json`; weights that have changed since the run began are refused.

    Args:
        out: Folder of the run.
        content: What else is to be in it.
        weights: What it uses, by where in the recipe it stands.
        step: Where this part of it begins.
    """
    file = out / "run.json"
    before = read_object(file).get("weights", {}) if file.exists() else {}
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
    write_json(file, with_parts(out, content, step) | {"weights": used})


class Curves:
    """metrics.jsonl and TensorBoard; a resumed run drops lines after its checkpoint, and of rounds to drive again.

    Where TensorBoard's files cannot be written, there are none: nobody goes on from them.
    """

    def __init__(self, out: Path, step: int, frames: int, tell: Callable[[str], None]):
        from torch.utils.tensorboard import SummaryWriter

        self.path, self.tell = out / "metrics.jsonl", tell
        self.board: SummaryWriter | None = None
        with writing(self.path):
            self._cut(step, frames)
            self.file = self.path.open("a")
        with self._aside():
            self.board = SummaryWriter(out / "tensorboard", purge_step=step + 1)

    def _cut(self, step: int, frames: int) -> None:
        path, kept = self.path, []
        if path.exists():
            for line in path.read_text(errors="replace").splitlines():
                try:
                    values = json.loads(line)
                    if values["step"] <= step and values.get("frames", 0) <= frames:
                        kept.append(line)
                except (ValueError, KeyError, TypeError, AttributeError):
                    break
        path.write_text("".join(f"{line}\n" for line in kept))

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """TensorBoard's own writing, which is given up at the first error."""
        try:
            yield
        except OSError as error:
            self.board = None
            self.tell(f"no more curves for TensorBoard, they are in metrics.jsonl: {error}")

    def write(self, step: int, values: dict[str, float], *, whole: bool = False) -> None:
        if step % 10 and step > 1 and not whole:
            return
        with writing(self.path, "make room, then go on with --resume; the checkpoints are whole"):
            self.file.write(json.dumps({"step": step} | {k: round(v, 6) for k, v in values.items()}) + "\n")
            self.file.flush()  # so that a run that is killed has lost no line before its checkpoint
        with self._aside():
            if self.board is not None:
                for name, value in values.items():
                    self.board.add_scalar(name, value, step)

    def close(self) -> None:
        # What matters was flushed; a full disk was told before this.
        with contextlib.suppress(OSError):
            self.file.close()
        with self._aside():
            if self.board is not None:
                self.board.close()


def load_recipe(run: str | Path, modules: tuple[Any, ...] = ()) -> tuple[Recipe, int]:
    """The recipe and seed of a run folder.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    file = Path(run) / "recipe.json"
    if not exists(file):
        raise UserError(
            f"{run} is not a run", got="no recipe.json", expected="a folder made by `countersteer train`",
            fix="check the path",
        )  # fmt: skip
    saved = read_object(file)
    with reading(file):
        recipe, seed = serialise.from_json(saved["recipe"], extra_modules=modules), saved["seed"]
        if not isinstance(recipe, Recipe) or not isinstance(seed, int):
            raise ValueError(f"a {type(recipe).__name__} with the seed {seed!r:.80}")
    return recipe, seed
