"""Which code computes a tick and the vector observation; what it computes is the same up to rounding."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import os
import sys
from collections.abc import Callable
from enum import Enum
from typing import Any

import torch

from countersteer.errors import UserError

__all__ = ["Backend", "compiled"]


def _without_threads() -> None:
    """Let a forked process compute, in one thread; a spawned one has all.

    The threads of OpenMP are not forked, but what is forked waits for them: `AsyncVectorEnv` and any pool of processes
    would hang. Numba ends a forked process instead, unless it is told that its threads were begun anew.
    """
    torch.set_num_threads(1)
    if "numba" in sys.modules:
        import numba
        from numba.np.ufunc import parallel

        with contextlib.suppress(ValueError):  # no kernel has run yet
            if parallel.threading_layer() == "omp":
                pool = importlib.import_module("numba.np.ufunc.omppool")
                ctypes.CFUNCTYPE(None, ctypes.c_int)(pool.launch_threads)(1)
        numba.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_without_threads)


class Backend(Enum):
    """Code that runs a world.

    AUTO is KERNEL on a CPU and TORCH elsewhere, and where a gradient is wanted. COMPILED is TORCH by `torch.compile`: the first
    tick takes a minute or so, and so does the first with other shapes (a fork of other size).
    """

    AUTO = "auto"
    KERNEL = "kernel"
    TORCH = "torch"
    COMPILED = "compiled"

    def on(self, device: torch.device, *, learned: bool = False) -> Backend:
        """What to run on this device, never AUTO; `learned` tells whether a gradient is wanted.

        Raises:
            UserError: Kernels are asked for where they cannot run.
        """
        kernel = device.type == "cpu" and not learned
        if self is Backend.AUTO:
            return Backend.KERNEL if kernel else Backend.TORCH
        if self is Backend.KERNEL and not kernel:
            raise UserError(
                "the kernels run on a CPU and have no gradient",
                got=f"device {device}" + (", and an action with a gradient" if learned else ""),
                expected="the CPU",
                fix="set `backend` of the simulation to Backend.AUTO",
            )
        return self


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one graph; once a process."""
    return torch.compile(function, fullgraph=True, dynamic=False)
