"""`TensorTree`: frozen dataclasses of tensors that are indexed, stacked and moved as one value.

Fields may be tensors, other trees, dictionaries of either, or None. Leading batch dimensions are
shared by all fields; trailing ones belong to each. Trees are immutable: every method returns a new
one. `docs/decisions/0002-tensor-trees.md` says why this is ours.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

__all__ = ["TensorTree", "as_array", "constant"]


def as_array(tensor: Tensor, dtype: type | None = None) -> ndarray:
    """A tensor of the CPU as numba kernels take it: contiguous, without gradient; its own memory where it fits so.

    Args:
        tensor: Lies on the CPU.
        dtype: Of the array; None for the tensor's own.
    """
    array = (tensor.detach() if tensor.requires_grad else tensor).numpy()
    if array.flags.c_contiguous and array.ndim and dtype in (None, array.dtype):
        return array  # what a tick asks for a hundred times
    return np.ascontiguousarray(array, dtype)


@functools.cache
def _names(tree: type[TensorTree]) -> tuple[str, ...]:
    """Of the fields, asked for at every leaf of every tick."""
    return tuple(field.name for field in dataclasses.fields(tree))


def constant(values: tuple[Any, ...], device: torch.device | str) -> Tensor:
    """Numbers, or tuples of them, in float32 on a device, copied there once: a copy from the host waits for the device.

    It is shared, so nobody writes into it.
    """
    if torch.compiler.is_compiling():
        return torch.tensor(values, dtype=torch.float32, device=device)
    return _constant(values, torch.device(device))


@functools.lru_cache(maxsize=1024)
def _constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # what is made there can never be learned with
        return torch.tensor(values, dtype=torch.float32, device=device)


def _map(function: Callable[..., Any], *values: Any) -> Any:
    first = values[0]
    if first is None:
        if any(value is not None for value in values):
            raise TypeError("of two tensor trees one has a leaf where the other has None")
        return None
    if isinstance(first, Tensor):
        return function(*values)
    if isinstance(first, TensorTree):
        mapped = {name: _map(function, *(getattr(v, name) for v in values)) for name in _names(type(first))}
        return type(first)(**mapped)
    if isinstance(first, dict):
        return {key: _map(function, *(v[key] for v in values)) for key in first}
    if isinstance(first, tuple):
        return tuple(_map(function, *items) for items in zip(*values, strict=True))
    raise TypeError(f"a tensor tree holds tensors, trees, dicts, tuples or None, not {type(first).__name__}")


@dataclasses.dataclass(frozen=True)
class TensorTree:
    """Base of the frozen dataclasses whose leaves are tensors."""

    def map(self, function: Callable[..., Tensor], *others: Self) -> Self:
        """Apply `function` to each leaf, together with the same leaf of `others`."""
        return _map(function, self, *others)

    def __getitem__(self, index: Any) -> Self:
        """Index the leading dimensions of every leaf."""
        return self.map(lambda leaf: leaf[index])

    def to(self, device: torch.device | str) -> Self:
        """Move every leaf to `device`."""
        return self.map(lambda leaf: leaf.to(device))

    def clone(self) -> Self:
        """A copy that shares no memory with this tree."""
        return self.map(torch.clone)

    def where(self, mask: Tensor, other: Self) -> Self:
        """This tree where `mask` (leading dimensions) is true, `other` elsewhere."""

        def choose(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(mask.reshape(mask.shape + (1,) * (mine.ndim - mask.ndim)), mine, theirs)

        return self.map(choose, other)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields replaced."""
        own = vars(self)
        return type(self)(
            **{name: changes.pop(name) if name in changes else own[name] for name in _names(type(self))},
            **changes,
        )

    @classmethod
    def stack(cls, trees: Sequence[Self], dim: int = 0) -> Self:
        """Stack trees of one shape along a new leading dimension."""
        return trees[0].map(lambda *leaves: torch.stack(leaves, dim), *trees[1:])

    @classmethod
    def cat(cls, trees: Sequence[Self], dim: int = 0) -> Self:
        """Concatenate trees along an existing leading dimension."""
        return trees[0].map(lambda *leaves: torch.cat(leaves, dim), *trees[1:])

    def flatten(self) -> dict[str, Tensor]:
        """Leaves by dotted name, for files."""
        leaves: dict[str, Tensor] = {}

        def visit(prefix: str, value: Any) -> None:
            if isinstance(value, Tensor):
                leaves[prefix] = value
            elif isinstance(value, TensorTree):
                for field in dataclasses.fields(value):
                    visit(f"{prefix}.{field.name}" if prefix else field.name, getattr(value, field.name))
            elif isinstance(value, dict):
                for key, item in value.items():
                    visit(f"{prefix}.{key}", item)
            elif isinstance(value, tuple):
                for position, item in enumerate(value):
                    visit(f"{prefix}.{position}", item)

        visit("", self)
        return leaves

    def unflatten(self, leaves: dict[str, Tensor]) -> Self:
        """A tree of this structure with the leaves of `flatten`."""
        names = iter(self.flatten())
        return self.map(lambda _: leaves[next(names)])
