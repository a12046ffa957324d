"""The collision kernel against its reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from countersteer.worlds.simulation.stepping import reference
from countersteer.worlds.simulation.stepping.collisions import first_hits


def crowd(seed: int, worlds: int, actors: int, extent: float) -> tuple[np.ndarray, ...]:
    """Poses, presence, sizes (of one scene a world) and used slots of boxes from pedestrians to lorries."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-extent, extent, (worlds, actors, 2)) + rng.uniform(-1e4, 1e4, (worlds, 1, 2))
    pose = np.concatenate([xy, rng.uniform(-4.0, 4.0, (worlds, actors, 1))], -1)
    length = rng.choice([0.6, 1.8, 4.5, 12.0], (worlds, actors, 1), p=[0.3, 0.2, 0.45, 0.05])
    size = np.concatenate([length, 0.4 * length + 0.3, length], -1)
    there, used = rng.random((worlds, actors)) < 0.9, rng.random((worlds, actors)) < 0.95
    return pose.astype(np.float32), there, size.astype(np.float32), used


def both(pose: np.ndarray, there: np.ndarray, size: np.ndarray, used: np.ndarray, agents: int):
    found = np.empty((len(pose), agents), np.int64)
    first_hits(pose, there, size, used, np.arange(len(pose)), found)
    where, big = torch.from_numpy(pose), torch.from_numpy(size)
    plain = reference.collisions(
        where[..., :2], where[..., 2], big[..., :2], torch.from_numpy(there & used), agents
    )
    return torch.from_numpy(found), plain


@given(st.integers(0, 10_000), st.integers(1, 90), st.floats(3.0, 120.0))
@settings(max_examples=60, deadline=None)
def test_the_kernel_finds_what_the_reference_finds(seed: int, actors: int, extent: float):
    fast, plain = both(*crowd(seed, 8, actors, extent), agents=min(actors, 7))
    # Boxes that touch to a rounding error may fall to either side.
    assert int((fast != plain).sum()) <= 1, (fast[fast != plain], plain[fast != plain])


@pytest.mark.parametrize("extent", [20.0, 300.0])
def test_many_cars_in_one_world(extent: float):
    fast, plain = both(*crowd(3, 2, 512, extent), agents=512)
    assert float((fast != plain).float().mean()) < 1e-3
    assert bool((plain >= 0).any())
    assert bool((plain < 0).any())


def test_a_box_that_is_nowhere_hits_nobody():
    pose, there, size, used = crowd(0, 1, 3, 0.5)
    there[:], used[:] = True, True
    for broken in (math.nan, math.inf):
        for field in range(3):
            pose[0, 1] = (pose[0, 0, 0], pose[0, 0, 1], 0.0)
            pose[0, 1, field] = broken
            fast, plain = both(pose, there, size, used, 3)
            assert torch.equal(fast, plain)
            assert fast[0, 1] == -1
            assert (fast[0] != 1).all()


def test_far_from_the_origin_it_is_as_good():
    pose, there, size, used = crowd(0, 4, 30, 10.0)
    pose[..., :2] *= np.float32(1e30)
    fast, plain = both(pose, there, size, used, 5)
    assert torch.equal(fast, plain)
