"""Checkpoints: safetensors files that are written whole or not at all, and known to be good when read.

The header of a file carries the metadata as JSON and a SHA-256 over names, types, shapes, values and
metadata. Nothing is pickled, so reading a file runs no code of its author.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as serialise_tensors
from torch import Tensor

from countersteer.errors import UserError, reading
from countersteer.storage.files import exists, open_regular, parse_json, write_whole

__all__ = ["CheckpointFolder", "Found", "flatten_state", "load", "save", "unflatten_state"]

_FORMAT = "countersteer-1"
_NUMBERED = re.compile(r"step_(\d+)\.safetensors")
_PARTIAL = re.compile(r"\.step_\d+\.safetensors\.(\d+)\..*")  # the process that writes it


def _digest(tensors: dict[str, Tensor], metadata: str) -> str:
    digest = hashlib.sha256(metadata.encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()


def save(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and metadata to one file, atomically: a kill leaves the old file or the new one.

    Args:
        path: The file; its folder is made if need be.
        tensors: On any device and of any layout; they come back on the CPU, contiguous.
        metadata: What JSON can hold; tuples come back as lists.
    """
    path = Path(path)
    text = json.dumps(metadata, sort_keys=True)
    content: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        # Tied weights and views share memory, which a file cannot: each name gets its own values.
        if value.untyped_storage().data_ptr() in storages:
            value = value.clone()
        storages.add(value.untyped_storage().data_ptr())
        content[name] = value
    header = {"format": _FORMAT, "metadata": text, "sha256": _digest(content, text)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, serialise_tensors(content, metadata=header))


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file written by `save`.

    Raises:
        UserError: The file is missing, cut short, changed, or not one of ours.
    """
    path = Path(path)

    whole, another = "a complete file written by countersteer", "use another checkpoint, or train again"

    def refuse(what: str, got: object) -> UserError:
        return UserError(f"{path} {what}", got=got, expected=whole, fix=another)

    if not exists(path):
        raise refuse("does not exist", "no file")
    with reading(path, "cannot be read", expected=whole, fix=another), open_regular(path) as opened:
        size = os.fstat(opened.fileno()).st_size
    with reading(path, f"is damaged: {size} bytes", expected=whole, fix=another):
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                raise refuse("is not a countersteer file", f"format {header.get('format')!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        good = _digest(tensors, header["metadata"]) == header["sha256"]
        metadata = parse_json(header["metadata"].encode(), f"the metadata of {path}")
    if not good:
        raise refuse("is damaged", "content that does not match its checksum")
    if not isinstance(metadata, dict):
        raise refuse("has no metadata", type(metadata).__name__)
    return tensors, metadata


@dataclass(frozen=True)
class Found:
    """The last good checkpoint of a folder.

    Attributes:
        step: Its number.
        tensors, metadata: Its content.
        warnings: Which newer ones were skipped, and why.
    """

    step: int
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    warnings: tuple[str, ...]


class CheckpointFolder:
    """Numbered checkpoints of one run, `step_00001500.safetensors`; the newest few are kept.

    Args:
        path: The folder; made at the first `save`.
        keep: How many, at least 1.
    """

    def __init__(self, path: str | Path, keep: int = 3):
        self.path, self.keep = Path(path), keep

    def _files(self) -> dict[int, Path]:
        """Checkpoints by step, in rising order."""
        if not self.path.is_dir():
            return {}
        found = {int(m[1]): file for file in self.path.iterdir() if (m := _NUMBERED.fullmatch(file.name))}
        return dict(sorted(found.items()))

    def steps(self) -> list[int]:
        """Numbers of the checkpoints, rising; whether they are whole is not looked at."""
        return list(self._files())

    def save(self, step: int, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Write number `step`, then drop the oldest beyond `keep`."""
        save(self.path / f"step_{step:08d}.safetensors", tensors, metadata)
        # Files of later steps are damaged ones that `latest` skipped: they must not push out good ones,
        # and the run replaces them when it gets there.
        earlier = [file for number, file in self._files().items() if number <= step]
        for old in earlier[: -self.keep]:
            old.unlink(missing_ok=True)
        # What a kill left half-written has no name that `latest` reads; it only takes room.
        for file in self.path.iterdir():
            if (match := _PARTIAL.fullmatch(file.name)) and not _alive(int(match[1])):
                file.unlink(missing_ok=True)

    def latest(self) -> Found | None:
        """The newest checkpoint that is whole, or None where none was ever written.

        Raises:
            UserError: There are checkpoints and all are damaged. Starting over is for the user to say.
        """
        files = self._files()
        damaged: list[str] = []
        for step, file in reversed(files.items()):
            try:
                tensors, metadata = load(file)
            except UserError as error:
                damaged.append(f"{file.name}: {error.what.removeprefix(f'{file} ')} ({error.got})")
                continue
            warnings = tuple(f"skipped the damaged checkpoint {reason}" for reason in damaged)
            return Found(step, tensors, metadata, warnings)
        if damaged:
            raise UserError(
                f"no checkpoint in {self.path} can be read",
                got="; ".join(damaged),
                expected="at least one complete checkpoint",
                fix="remove that folder to start the run from its beginning",
            )
        return None


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def flatten_state(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Split nested dicts, lists and tuples into tensors by number and a JSON structure that points at them.

    For states of optimisers and random generators, which mix tensors with plain values. The tensors are
    copies on the CPU, so training may go on. `unflatten_state` puts them together again, bit for bit.

    Raises:
        TypeError: It holds something that a checkpoint cannot, for example an array.
    """
    tensors: dict[str, Tensor] = {}

    def visit(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = f"t{len(tensors):05d}"
            tensors[name] = value.detach().cpu().clone()
            return {"tensor": name}
        if isinstance(value, dict):
            return {"dict": [[key, visit(item)] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            return {"tuple" if isinstance(value, tuple) else "list": [visit(item) for item in value]}
        if value is None or isinstance(value, bool | int | float | str):
            return {"value": value}
        raise TypeError(f"a checkpoint holds tensors and plain values, not {type(value).__name__}")

    return tensors, visit(state)


def unflatten_state(tensors: dict[str, Tensor], structure: Any) -> Any:
    """What `flatten_state` took apart.

    Raises:
        Exception: The structure is not one, or names tensors that are not there; the caller says of which file.
    """
    ((kind, content),) = structure.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unflatten_state(tensors, item) for key, item in content}
    if kind in ("list", "tuple"):
        items = [unflatten_state(tensors, item) for item in content]
        return tuple(items) if kind == "tuple" else items
    return content
