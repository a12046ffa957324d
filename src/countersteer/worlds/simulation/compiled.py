"""How the functions inside kernels are compiled. Imports numba, so it is imported lazily."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb

__all__ = ["inner"]

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}


def inner(function: Callable[..., Any], *, fastmath: bool | set[str] = False) -> Callable[..., Any]:
    """Compile a function that kernels call and that borrows the arrays it is given.

    Without `_nrt=False` numba counts references to every array of every tuple that is handed on, two atomic
    operations each; with forty arrays in a tuple that was five sixths of a tick. Such a function can
    allocate nothing: no new arrays, and no assignment of one slice to another.
    """
    return nb.njit(fastmath=fastmath, **_OPTIONS)(function)
