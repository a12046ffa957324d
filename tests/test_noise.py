"""Counted random numbers: well distributed, independent between counters, blind to neighbours."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch
from torch import Tensor

from countersteer import noise

DRIVES = torch.arange(4096)
TICKS = torch.zeros(4096, dtype=torch.int64)


def chi_square(counts: np.ndarray) -> float:
    """Deviation of counts from equal, in standard deviations of its distribution."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


def pair_chi_square(a: Tensor, b: Tensor) -> float:
    """The same for pairs: large when b depends on a in any way that 16 x 16 cells show."""
    cells = (a.flatten() * 16).long() * 16 + (b.flatten() * 16).long()
    return chi_square(np.bincount(cells.numpy(), minlength=256))


def correlation(a: Tensor, b: Tensor) -> float:
    """In standard deviations of what independent numbers would show."""
    a, b = a.flatten().double(), b.flatten().double()
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1]) * math.sqrt(len(a))


def test_the_checks_themselves_see_what_they_should():
    """A generator of torch passes them; a biased and a dependent one do not."""
    good = torch.rand(2, 100_000, generator=torch.Generator().manual_seed(0))
    assert abs(chi_square(np.bincount((good[0] * 256).long().numpy(), minlength=256))) < 5
    assert abs(pair_chi_square(good[0], good[1])) < 5
    assert abs(correlation(good[0], good[1])) < 5
    assert chi_square(np.bincount((good[0] ** 1.1 * 256).long().numpy(), minlength=256)) > 5
    assert pair_chi_square(good[0], (good[0] + 0.2 * good[1]) % 1.0) > 5
    assert correlation(good[0], good[0] + 5 * good[1]) > 5


def test_the_kernel_draws_the_numbers_of_the_reference():
    drives = torch.arange(-50, 50)[:, None].expand(-1, 3) * 123_456_789_012_345_678
    ticks = (torch.arange(3) - 1).expand_as(drives)
    for seed in (0, 5, -1, 2**62):
        word = (seed ^ (zlib.crc32(b"test") << 20)) & ((1 << 64) - 1)
        drawn = noise.uniform(seed, drives, ticks, "test", 5)
        assert torch.equal(drawn, noise.reference(word, drives, ticks, 5))


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**62, -1])
def test_uniform_fills_its_interval_evenly(seed: int):
    numbers = noise.uniform(seed, DRIVES, TICKS, "test", 64)
    assert numbers.dtype == torch.float32
    assert float(numbers.min()) >= 0.0
    assert float(numbers.max()) < 1.0
    assert abs(chi_square(np.bincount((numbers * 256).long().flatten().numpy(), minlength=256))) < 5
    low = (numbers * 2**24).long() & 255  # the last bits are as random as the first
    assert abs(chi_square(np.bincount(low.flatten().numpy(), minlength=256))) < 5


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("next drive", (7, 0, 0, "x"), (7, 1, 0, "x")),
        ("far drive", (7, 0, 0, "x"), (7, 1_000_000, 0, "x")),
        ("next tick", (7, 0, 0, "x"), (7, 0, 1, "x")),
        ("drive and tick swapped", (7, 1, 0, "x"), (7, 0, 1, "x")),
        ("other consumer", (7, 0, 0, "traffic"), (7, 0, 0, "vehicle")),
        ("consumer named alike", (7, 0, 0, "x1"), (7, 0, 0, "x2")),
        ("next seed", (7, 0, 0, "x"), (8, 0, 0, "x")),
        ("seed and drive swapped", (7, 8, 0, "x"), (8, 7, 0, "x")),
    ],
)
def test_numbers_of_other_counters_are_independent(name: str, a: tuple, b: tuple):
    def draw(seed: int, drive: int, tick: int, consumer: str) -> Tensor:
        return noise.uniform(seed, DRIVES + drive, TICKS + tick, consumer, 32)

    first, second = draw(*a), draw(*b)
    assert abs(correlation(first, second)) < 5, name
    assert abs(pair_chi_square(first, second)) < 5, name
    # Number by number: 24 bits agree by chance once in 16 million.
    assert int((first == second).sum()) <= 2, name


def test_lanes_of_one_draw_and_ticks_of_one_drive_are_independent():
    lanes = noise.uniform(1, DRIVES, TICKS, "x", 64)
    assert abs(pair_chi_square(lanes[:, :-1], lanes[:, 1:])) < 5
    ticks = noise.uniform(1, TICKS + 5, DRIVES, "x", 64)
    assert abs(pair_chi_square(ticks[:-1], ticks[1:])) < 5
    assert abs(correlation(ticks[:-1], ticks[1:])) < 5


def test_no_two_drives_or_ticks_share_a_row():
    drive, tick = (
        grid.flatten() for grid in torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    )
    rows = noise.uniform(0, drive, tick, "x", 4)
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_a_drive_does_not_depend_on_its_neighbours():
    together = noise.uniform(5, DRIVES, TICKS, "x", 8)
    order = torch.randperm(4096, generator=torch.Generator().manual_seed(0))
    assert torch.equal(noise.uniform(5, DRIVES[order], TICKS, "x", 8), together[order])
    for drive in (0, 17, 4095):
        alone = noise.uniform(5, DRIVES[drive : drive + 1], TICKS[:1], "x", 8)
        assert torch.equal(alone[0], together[drive])


def test_drawing_more_numbers_keeps_the_first():
    few, many = (noise.uniform(5, DRIVES, TICKS, "x", count) for count in (3, 10))
    assert torch.equal(many[:, :3], few)


def test_leading_dimensions_are_free():
    drive = torch.arange(6).reshape(2, 3)
    tick = torch.full((2, 3), 9)
    square = noise.uniform(0, drive, tick, "x", 4)
    assert square.shape == (2, 3, 4)
    assert torch.equal(square.reshape(6, 4), noise.uniform(0, drive.flatten(), tick.flatten(), "x", 4))
    assert noise.uniform(0, torch.tensor(3), torch.tensor(9), "x", 4).shape == (4,)


def splitmix(x: int) -> int:
    """The splitmix64 step of Steele et al. (2014) in plain integers."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


@pytest.mark.parametrize("seed", [0, 42, 2**62 + 5])
@pytest.mark.parametrize(("drive", "tick"), [(0, 0), (1, 7), (2**40, 123_456)])
def test_numbers_follow_the_hash_in_plain_integers(seed: int, drive: int, tick: int):
    """So a stored run replays on any machine and device."""
    key = seed ^ (zlib.crc32(b"traffic") << 20)
    state = splitmix(splitmix(splitmix(key) ^ drive) ^ tick)
    expected = [(splitmix(state ^ splitmix(lane)) >> 40) / 2**24 for lane in range(5)]
    assert noise.uniform(seed, torch.tensor(drive), torch.tensor(tick), "traffic", 5).tolist() == expected


def test_the_published_sequence_of_splitmix64_is_met():
    """First outputs of the reference implementation for seed 1234567."""
    states = [(1234567 + k * 0x9E3779B97F4A7C15) % 2**64 for k in range(3)]
    assert [splitmix(state) for state in states] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_every_seed_of_64_bits_is_its_own():
    drive = torch.arange(3)
    draws = {
        seed: noise.uniform(seed, drive, drive, "a", 4).sum().item() for seed in (0, 2**63, 2**64 - 1, -5)
    }
    assert len(set(draws.values())) == 4
