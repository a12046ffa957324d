"""Cost of collisions against the number of actors of a scene: the grid, every pair in numba, and the reference.

    python benchmarks/collisions.py [--actors 16 32 64 128 256 512]

All actors are controlled cars on a square of 100 m^2 a car, so that the number of neighbours stays the same. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numba as nb
import numpy as np
import torch

from countersteer.worlds.boxworld.stepping import reference
from countersteer.worlds.boxworld.stepping.collisions import first_hits, overlap


@nb.njit(error_model="numpy")
def every_pair(poses, sizes, scenes, found):
    """What `first_hits` finds, with every car held against every actor."""
    for w in range(len(scenes)):
        scene = scenes[w]
        for a in range(found.shape[1]):
            x, y, heading = poses[w, a, 0], poses[w, a, 1], poses[w, a, 2]
            cos, sin = np.cos(heading), np.sin(heading)
            length, width = sizes[scene, a, 0], sizes[scene, a, 1]
            found[w, a] = -1
            for n in range(poses.shape[1]):
                if n != a and overlap(poses, sizes, w, scene, n, x, y, heading, cos, sin, length, width):
                    found[w, a] = n
                    break


def cpu_time(run: Callable[[], object], rounds: int) -> float:
    """Median processor time of a few calls [s], after one that compiles."""
    run()
    times = []
    for _ in range(rounds):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return statistics.median(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Collisions: cost against the number of actors.")
    parser.add_argument("--actors", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512])
    known = parser.parse_args()
    nb.set_num_threads(1)
    torch.set_num_threads(1)
    print("microseconds of processor time a car and tick, median of several")
    print(f"{'actors':>7} {'grid':>8} {'every pair':>11} {'reference':>10} {'hit':>6} {'differ':>7}")
    for actors in known.actors:
        worlds = max(1, 4096 // actors)
        rng = np.random.default_rng(actors)
        xy = rng.uniform(0.0, 10.0 * actors**0.5, (worlds, actors, 2))
        pose = np.concatenate([xy, rng.uniform(-3.0, 3.0, (worlds, actors, 1))], -1).astype(np.float32)
        size = np.broadcast_to(np.float32([4.5, 1.9, 1.5]), (worlds, actors, 3)).copy()
        yes, scene = np.ones((worlds, actors), bool), np.arange(worlds)
        fast, pairs = np.empty((worlds, actors), np.int64), np.empty((worlds, actors), np.int64)
        where, big, there = torch.from_numpy(pose), torch.from_numpy(size), torch.from_numpy(yes)
        few = slice(0, max(1, worlds // 8))

        def plain(
            where: torch.Tensor = where[few], big: torch.Tensor = big[few], there: torch.Tensor = there[few]
        ) -> torch.Tensor:
            return reference.collisions(where[..., :2], where[..., 2], big[..., :2], there, where.shape[1])

        cars = worlds * actors
        grid = cpu_time(lambda: first_hits(pose, yes, size, yes, scene, fast), 30) / cars  # noqa: B023
        every = cpu_time(lambda: every_pair(pose, size, scene, pairs), 10) / cars  # noqa: B023
        torch_time = cpu_time(plain, 3) / (cars * len(where[few]) / worlds)
        print(
            f"{actors:7d} {1e6 * grid:8.3f} {1e6 * every:11.3f} {1e6 * torch_time:10.1f} "
            f"{(fast >= 0).mean():6.2f} {(fast != pairs).sum():7d}"
        )


if __name__ == "__main__":
    main()
