"""Cost of collisions against the number of actors of a scene: the kernel and the reference.

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

from countersteer.worlds.simulation.stepping import reference
from countersteer.worlds.simulation.stepping.collisions import first_hits


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
    print(f"{'actors':>7} {'kernel':>8} {'reference':>10} {'hit':>6}")
    for actors in known.actors:
        worlds = max(1, 4096 // actors)
        rng = np.random.default_rng(actors)
        xy = rng.uniform(0.0, 10.0 * actors**0.5, (worlds, actors, 2))
        pose = np.concatenate([xy, rng.uniform(-3.0, 3.0, (worlds, actors, 1))], -1).astype(np.float32)
        size = np.broadcast_to(np.array([4.5, 1.9, 1.5], np.float32), (worlds, actors, 3)).copy()
        yes, scene = np.ones((worlds, actors), bool), np.arange(worlds)
        found = np.empty((worlds, actors), np.int64)
        where, big, there = torch.from_numpy(pose), torch.from_numpy(size), torch.from_numpy(yes)
        few = slice(0, max(1, worlds // 8))

        def plain(
            where: torch.Tensor = where[few], big: torch.Tensor = big[few], there: torch.Tensor = there[few]
        ) -> torch.Tensor:
            return reference.collisions(where[..., :2], where[..., 2], big[..., :2], there, where.shape[1])

        cars = worlds * actors
        kernel = cpu_time(lambda: first_hits(pose, yes, size, yes, scene, found), 30) / cars  # noqa: B023
        torch_time = cpu_time(plain, 3) / (cars * len(where[few]) / worlds)
        print(f"{actors:7d} {1e6 * kernel:8.3f} {1e6 * torch_time:10.1f} {(found >= 0).mean():6.2f}")


if __name__ == "__main__":
    main()
