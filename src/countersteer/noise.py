"""Counted random numbers: a value depends on (seed, drive, tick, consumer) and on nothing else.

A drive's randomness must not depend on its neighbours in the batch, on how many actors share the
job, or on how often anybody else drew. So there is no generator state: numbers are a hash of the
counters (the splitmix64 finaliser, Steele et al. 2014, chained over the counters).
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["reference", "uniform"]

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = x + _GAMMA
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def uniform(
    seed: int, drive: Int[Tensor, "*batch"], tick: Int[Tensor, "*batch"], consumer: str, count: int
) -> Float[Tensor, "*batch count"]:
    """`count` numbers in [0, 1) for each drive.

    Args:
        seed: Seed of the job; its last 64 bits count.
        drive: Identity of each drive, not its row in the batch.
        tick: Tick within the drive, or a reset count.
        consumer: Who draws; two consumers never share numbers.
        count: Numbers for each drive.
    """
    word = (seed ^ (zlib.crc32(consumer.encode()) << 20)) & ((1 << 64) - 1)
    if drive.device.type == "cpu" and not torch.compiler.is_compiling():
        return _by_kernel(word, drive, tick, count)
    return reference(word, drive, tick, count)


def _by_kernel(word: int, drive: Tensor, tick: Tensor, count: int) -> Tensor:
    from countersteer.noise_kernels import fill

    drives, ticks = np.broadcast_arrays(drive.long().numpy(), tick.long().numpy())
    numbers = np.empty((*drives.shape, count), np.float32)
    flat = (np.ascontiguousarray(each).reshape(-1).view(np.uint64) for each in (drives, ticks))
    fill(np.uint64(word), *flat, numbers.reshape(drives.size, count))
    return torch.from_numpy(numbers)


def reference(
    word: int, drive: Int[Tensor, "*batch"], tick: Int[Tensor, "*batch"], count: int
) -> Float[Tensor, "*batch count"]:
    """`uniform` in plain PyTorch: its specification; `word` is of the seed and the consumer, 64 bits."""
    signed = word - (1 << 64) if word >> 63 else word
    # Filled in on the device: a tensor of the host's number would be a copy that waits.
    key = torch.full((), signed, dtype=torch.int64, device=drive.device)
    state = _mix(_mix(_mix(key) ^ drive.long()) ^ tick.long())
    lanes = torch.arange(count, device=drive.device, dtype=torch.int64)
    bits = _mix(state[..., None] ^ _mix(lanes))
    return _shift(bits, 40).to(torch.float32) * (1.0 / (1 << 24))
