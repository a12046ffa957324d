"""A tick and the vector observation by every `Backend`, in one run.

    python benchmarks/compiled.py [--worlds 64] [--agents 16] [--device cpu]

Times are of the processor where the device is the CPU, one thread, and of the clock elsewhere.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from countersteer.evaluation.speed import crossroads
from countersteer.vehicles.plans import Action
from countersteer.worlds.backend import Backend
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec


def fastest(run: Callable[[], object], device: str, rounds: int) -> float:
    """Time of the fastest of some calls [s]."""
    clock, shortest = time.process_time if device == "cpu" else time.perf_counter, float("inf")
    for _ in range(rounds):
        began = clock()
        run()
        if device != "cpu":
            torch.cuda.synchronize(device)
        shortest = min(shortest, clock() - began)
    return shortest


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="A tick and the vector observation by every backend.")
    parser.add_argument("--worlds", type=int, default=64)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    known = parser.parse_args()
    import numba

    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    scenes = crossroads(4, known.agents)
    base = WorldSpec(RoadSimulationSpec(agents=known.agents), sensors=(VectorSpec(),))
    shape = (known.worlds, known.agents)
    print(f"{known.worlds} worlds of {known.agents} cars on {known.device}; ms, and cars a second for both")
    print(f"{'':9} {'tick':>9} {'vector':>9} {'cars/s':>10} {'first turns, s':>15}")
    backends = [Backend.TORCH, Backend.COMPILED]
    for backend in [Backend.KERNEL, *backends] if known.device == "cpu" else backends:
        world = base.simulate(backend=backend).build(scenes, known.worlds, 0, known.device)
        rows = torch.arange(known.worlds, device=world.device)
        world.reset(torch.ones_like(rows, dtype=torch.bool), world.draw_starts(rows))
        zero = torch.zeros(shape, device=world.device)
        action, began = Action(zero, zero), time.perf_counter()
        for _ in range(3):
            world.step(action)
            world.observe()
        first = time.perf_counter() - began
        tick = fastest(lambda: world.step(action), known.device, known.rounds)  # noqa: B023
        look = fastest(world.observe, known.device, known.rounds)
        rate = known.worlds * known.agents / (tick + look)
        print(
            f"{backend.value:9} {1e3 * tick:9.2f} {1e3 * look:9.2f} {rate:10,.0f} {first:15.1f}", flush=True
        )


if __name__ == "__main__":
    main()
