"""Checkpoints: safetensors files that are written whole or not at all, and known to be good when read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as serialise_tensors
from torch import Tensor

from countersteer.errors import UserError

__all__ = ["CheckpointFolder", "Found", "flatten_state", "load", "save", "unflatten_state"]

_FORMAT = "countersteer-1"


def _digest(tensors: dict[str, Tensor], metadata: str) -> str:
    digest = hashlib.sha256(metadata.encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


def save(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata to one file, atomically: a kill leaves the old file or the new one."""
    path = Path(path)
    text = json.dumps(metadata, sort_keys=True)
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = {"format": _FORMAT, "metadata": text, "sha256": _digest(content, text)}
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(serialise_tensors(content, metadata=header))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file written by `save`.

    Raises:
        UserError: The file is missing, cut short, changed, or not one of ours.
    """
    path = Path(path)

    def refuse(what: str, got: object) -> UserError:
        return UserError(
            f"{path} {what}",
            got=got,
            expected="a complete file written by countersteer",
            fix="use another checkpoint, or train again",
        )

    if not path.is_file():
        raise refuse("does not exist", "no file")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                raise refuse("is not a countersteer file", f"format {header.get('format')!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        good = _digest(tensors, header["metadata"]) == header["sha256"]
        metadata = json.loads(header["metadata"])
    except UserError:
        raise
    except (Exception, struct.error) as error:
        raise refuse("is damaged", f"{path.stat().st_size} bytes, {type(error).__name__}: {error}") from None
    if not good:
        raise refuse("is damaged", "content that does not match its checksum")
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
    """Numbered checkpoints; the newest few are kept.

    Args:
        path: The folder; made at the first `save`.
        keep: How many.
    """

    def __init__(self, path: str | Path, keep: int = 3):
        self.path, self.keep = Path(path), keep

    def _files(self) -> list[Path]:
        return sorted(self.path.glob("step_*.safetensors"))

    def save(self, step: int, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Write number `step`, then drop the oldest beyond `keep`."""
        save(self.path / f"step_{step:08d}.safetensors", tensors, metadata)
        for old in self._files()[: -self.keep]:
            old.unlink(missing_ok=True)
        # What a kill left half-written has no name that `latest` reads; it only takes room.
        for partial in self.path.glob(".step_*"):
            partial.unlink(missing_ok=True)

    def latest(self) -> Found | None:
        """The newest checkpoint that is whole, or None."""
        warnings = []
        for file in reversed(self._files()):
            try:
                tensors, metadata = load(file)
            except UserError as error:
                warnings.append(f"skipped {file.name}: {error.what}, {error.got}; using the one before it")
                continue
            return Found(int(file.stem.split("_")[1]), tensors, metadata, tuple(warnings))
        return None


def flatten_state(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Split nested dicts and lists into tensors by number and a JSON structure that points at them."""
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
    """What `flatten_state` took apart."""
    ((kind, content),) = structure.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unflatten_state(tensors, item) for key, item in content}
    if kind in ("list", "tuple"):
        items = [unflatten_state(tensors, item) for item in content]
        return tuple(items) if kind == "tuple" else items
    return content
