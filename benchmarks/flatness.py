"""State-only speed and memory against the number of scenes: one to as many as asked for, in one run.

    python benchmarks/flatness.py [--scenes 1 200] [--worlds 128] [--agents 8]

One thread; processor time, the fastest of some rounds that alternate between the numbers of scenes. Building 200
generated junctions takes a few minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import torch

from countersteer.evaluation.speed import crossroads
from countersteer.tensors import TensorTree
from countersteer.vehicles.plans import Action
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.simulation.road import RoadSimulation, RoadSimulationSpec
from countersteer.worlds.world import WorldSpec


def size(tree: TensorTree) -> int:
    """Bytes of the leaves."""
    return sum(leaf.numel() * leaf.element_size() for leaf in tree.flatten().values())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Speed and memory against the number of scenes.")
    parser.add_argument("--scenes", type=int, nargs="+", default=[1, 200])
    parser.add_argument("--worlds", type=int, default=128)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=60)
    known = parser.parse_args()
    import numba

    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    roads = crossroads(max(known.scenes), known.agents)
    spec = WorldSpec(RoadSimulationSpec(agents=known.agents), sensors=(VectorSpec(),))
    rows, shape = torch.arange(known.worlds), (known.worlds, known.agents)
    generator = torch.Generator().manual_seed(0)
    worlds = {count: spec.build(roads[:count], known.worlds, 0) for count in known.scenes}
    for world in worlds.values():
        world.reset(torch.ones_like(rows, dtype=torch.bool), world.draw_starts(rows))
    best = dict.fromkeys(worlds, float("inf"))
    for turn in range(known.rounds):
        action = Action(
            0.01 * torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
        )
        for count, world in worlds.items():
            began = time.process_time()
            world.step(action)
            world.observe()
            took = time.process_time() - began
            best[count] = min(best[count], took) if turn > 4 else best[count]
    print(f"{known.worlds} worlds of {known.agents} cars")
    print("scenes  cars/s of a processor  kB a scene: tracks and paths, ground, road points   kB a world")
    for count, world in worlds.items():
        simulation = world.simulation
        assert isinstance(simulation, RoadSimulation)
        assert simulation.roads is not None
        ground = sum(getattr(simulation.ground, f.name).nbytes for f in dataclasses.fields(simulation.ground))
        parts = [part / count / 1e3 for part in (size(simulation.bank), ground, simulation.roads.nbytes)]
        print(
            f"{count:6d} {known.worlds * known.agents / best[count]:22,.0f} "
            f"{parts[0]:28.0f} {parts[1]:15.0f} {parts[2]:13.0f} {size(world.state) / known.worlds / 1e3:16.1f}"
        )


if __name__ == "__main__":
    main()
