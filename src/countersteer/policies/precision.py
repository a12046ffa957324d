"""Pictures in half the bits: what a policy sees is computed in bfloat16 where training asks for it, what it says never.

Training asks by `torch.autocast`. Convolutions and the other large products of an encoder then take bfloat16 factors and
add up in float32, which is half the time on a processor that has such instructions. Small differences decide a plan, so a
policy's head and every loss stay in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

__all__ = ["Precision", "centred", "centred_reference", "fastest_precision", "in_float32", "seen_in"]


class Precision(StrEnum):
    """What the factors of an encoder's large products are rounded to while training; weights are float32 in both."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def fastest_precision(device: torch.device | str = "cpu") -> Precision:
    """BFLOAT16 where a device computes in it sooner than in float32."""
    if torch.device(device).type == "cuda":
        quick = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Without these instructions a processor converts by itself and is slower than in float32.
        quick = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return Precision.BFLOAT16 if quick else Precision.FLOAT32


def seen_in(precision: Precision, device: torch.device | str) -> AbstractContextManager[Any]:
    """A context in which encoders compute in this precision."""
    if precision is Precision.FLOAT32:
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def in_float32(head: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a method compute in float32 within `torch.autocast` too; its tensors must be float32."""

    @functools.wraps(head)
    def whole(self: Any, first: Tensor, *others: Any) -> Any:
        if not _rounding(first.device):
            return head(self, first, *others)
        with torch.autocast(first.device.type, enabled=False):
            return head(self, first, *others)

    return whole


def _rounding(device: torch.device) -> bool:
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def centred(
    frames: UInt8[Tensor, "n height width 3"], mean: Float[Tensor, "height width 3"]
) -> Float[Tensor, "n height width 3"]:
    """Pictures less their mean [grey levels], a copy; in the type that `torch.autocast` asks for, else float32."""
    kind = frames.device.type
    if not _rounding(frames.device):
        # One converting copy, then in place: pictures are the largest tensors there are.
        return frames.to(torch.float32, copy=True).sub_(mean)
    if kind != "cpu" or torch.get_autocast_dtype(kind) != torch.bfloat16:
        return centred_reference(frames, mean, torch.get_autocast_dtype(kind))
    from countersteer.policies.precision_kernels import subtract_and_round

    rounded = torch.empty(frames.shape, dtype=torch.int16)
    rows = frames.shape[0], mean.numel()
    subtract_and_round(
        frames.reshape(rows).numpy(), mean.reshape(-1).numpy(), rounded.reshape(rows).numpy().view("uint16")
    )
    return rounded.view(torch.bfloat16)


def centred_reference(frames: Tensor, mean: Tensor, dtype: torch.dtype) -> Tensor:
    """`centred` in plain PyTorch: its specification; the difference is rounded once."""
    return (frames.float() - mean).to(dtype)
