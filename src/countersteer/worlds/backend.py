"""Which code computes a tick and the vector observation; what it computes is the same up to rounding."""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import Enum
from typing import Any

import torch

from countersteer.errors import UserError

__all__ = ["Backend", "compiled"]


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
