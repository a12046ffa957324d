"""Speed of the vector observation beside its plain reference, in one run, and the memory of the road bank.

    python benchmarks/vector.py [--scenario FILE] [--threads 1 2] [--worlds 32] [--agents 32]

Cars stand on random lane points of a generated intersection, or of a recorded scene, half a metre off at most.
The reference looks at every point of the map.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from countersteer.data.readers import read
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import Scenario
from countersteer.worlds.sensors.vector import Ego, VectorSpec, reference
from countersteer.worlds.sensors.vector.observing import observe
from countersteer.worlds.sensors.vector.roads import RoadBank
from countersteer.worlds.truth import Actors, Lights


def standing(
    spec: VectorSpec, roads: RoadBank, worlds: int, agents: int
) -> tuple[torch.Tensor, Ego, Actors, Lights]:
    """Cars on random lane points of the first scene, some of them absent, and eight lights."""
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(worlds, agents, *shape, generator=rng)

    which = (draw() * int(roads.lanes.count[0])).long()
    x, y, cos, sin = roads.lanes.planes[:, which]
    position = torch.stack([x, y], -1) + roads.origin[0].float() + draw(2) - 0.5
    heading, speed = torch.atan2(sin, cos), 10 * draw()
    ahead = torch.tensor(spec.route)[:, None] * torch.stack([cos, sin], -1)[:, :, None]
    ego = Ego(
        position, heading, speed, 0.1 * draw(), draw(), draw(2), draw(), 0.1 * draw(), speed, 20 * speed,
        position[:, :, None] + ahead,
    )  # fmt: skip
    actors = Actors(
        pose=torch.cat([position, heading[..., None]], -1),
        speed=speed,
        size=torch.tensor([4.5, 1.9, 1.5]).expand(worlds, agents, 3),
        kind=torch.zeros(worlds, agents, dtype=torch.long),
        present=draw() > 0.05,
    )
    lights = Lights(position[:, :8], heading[:, :8], (4 * draw()).long()[:, :8])
    return torch.zeros(worlds, dtype=torch.long), ego, actors, lights


def best(run: Callable[[], torch.Tensor], rounds: int) -> float:
    """Shortest time of a few [s]; the first call, which compiles, does not count."""
    run()
    shortest = math.inf
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        shortest = min(shortest, time.perf_counter() - began)
    return shortest


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The vector observation beside its reference.")
    parser.add_argument("--scenario", type=Path, help="a recorded scene instead of a generated one")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--worlds", type=int, default=32)
    parser.add_argument("--agents", type=int, default=32)
    known = parser.parse_args()
    import numba

    spec = VectorSpec()
    scenario: Scenario = (
        procedural_road(40, RoadKind.INTERSECTION, lanes=3)
        if known.scenario is None
        else read(known.scenario)
    )
    RoadBank.pack([scenario], spec.lanes, spec.edges)  # compiles
    began = time.perf_counter()
    roads = RoadBank.pack([scenario], spec.lanes, spec.edges)
    seconds = time.perf_counter() - began
    print(
        f"{scenario.id}: {roads.lanes.longest} lane and {roads.edges.longest} edge points, "
        f"{roads.nbytes / 1000:.0f} kB, packed in {1000 * seconds:.0f} ms"
    )
    state = standing(spec, roads, known.worlds, known.agents)
    cars = known.worlds * known.agents
    print(f"{cars} cars, {spec.size} floats each; kernel: best of 200; reference: best of 3")
    print(f"{'threads':>8} {'kernel cars/s':>14} {'reference cars/s':>17} {'ratio':>7}")
    for threads in known.threads:
        numba.set_num_threads(threads)
        torch.set_num_threads(threads)
        fast = cars / best(lambda: observe(spec, roads, *state), 200)
        plain = cars / best(lambda: reference.observe(spec, roads, *state), 3)
        print(f"{threads:8d} {fast:14,.0f} {plain:17,.0f} {fast / plain:7.0f}")
    apart = (observe(spec, roads, *state) - reference.observe(spec, roads, *state)).abs().max()
    print(f"largest difference {float(apart):g}")


if __name__ == "__main__":
    main()
