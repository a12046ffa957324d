"""How fast a boxworld is: cars stepped a second, by stage, with what was measured beside it."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import Scenario
from countersteer.vehicles.plans import Action
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import World, WorldSpec

__all__ = ["STAGES", "SpeedRow", "all_around", "crossroads", "measure", "measure_all", "with_cars"]

STAGES = ("state", "render", "full")
"""state: a tick and the vector observation; render: one picture a camera; full: a tick and the pictures."""


@dataclass(frozen=True)
class SpeedRow:
    """One measurement.

    Attributes:
        stage: One of `STAGES`.
        worlds, agents: Worlds, and controlled cars in each.
        cameras, width, height: Of each car; 0 where none is drawn.
        boxes: Actors of the scenes, mean.
        scenes: Scenes loaded.
        threads: Threads of the kernels.
        device: Where the tensors lie.
        agent_steps_per_s: Cars stepped, drawn or both in a second of the clock.
        agent_steps_per_cpu_s: The same for a second of processor time, of all threads.
        load: Load of the machine when the measurement began, over the last minute.
    """

    stage: str
    worlds: int
    agents: int
    cameras: int
    width: int
    height: int
    boxes: float
    scenes: int
    threads: int
    device: str
    agent_steps_per_s: float
    agent_steps_per_cpu_s: float
    load: float

    def to_json(self) -> dict[str, Any]:
        """The row as plain data."""
        return dataclasses.asdict(self)


def all_around(count: int, width: int, height: int) -> tuple[Camera, ...]:
    """So many cameras, evenly around a car."""
    yaws = (2 * math.pi * k / count for k in range(count))
    return tuple(Camera(name=f"camera{k}", width=width, height=height, yaw=yaw) for k, yaw in enumerate(yaws))


def with_cars(scenarios: Iterable[Scenario], cars: int, most: int | None = None) -> list[Scenario]:
    """Those of the scenarios in which so many cars can be controlled, the first `most` of them."""
    fit: list[Scenario] = []
    tried = 0
    for scenario in scenarios:
        tried += 1
        try:
            WorldSpec(RoadSimulationSpec(agents=cars)).build([scenario], 1, 0)
        except UserError:
            continue
        fit.append(scenario)
        if len(fit) == most:
            break
    if not fit:
        raise UserError(
            f"no scene has {cars} cars to control",
            got=f"{tried} scenes",
            fix="ask for fewer cars, or give other scenes",
        )
    return fit


def crossroads(count: int, cars: int) -> list[Scenario]:
    """Generated junctions with traffic in which `cars` can be controlled, at most `count`, always the same."""
    tries = (
        procedural_road(9_000_000 + seed, RoadKind.INTERSECTION, lanes=2, traffic=2 * cars + 8)
        for seed in range(3 * count)
    )
    return with_cars(tries, cars, count)


def measure(
    stage: str,
    scenarios: Sequence[Scenario],
    *,
    worlds: int,
    agents: int,
    cameras: tuple[Camera, ...] = (Camera(width=128, height=64),),
    threads: int = 1,
    device: str = "cpu",
    seconds: float = 3.0,
) -> SpeedRow:
    """Time one stage.

    Every tick steers a little at random, and drives that have ended begin anew, as in training.

    Args:
        stage: One of `STAGES`.
        scenarios: To drive in.
        worlds, agents: Worlds, and controlled cars in each.
        cameras: Of each car; the stage "state" draws none.
        threads: Of the kernels, at most as many as numba was started with.
        device: "cpu" or a GPU.
        seconds: How long to measure, after a warm-up.
    """
    if stage not in STAGES:
        raise UserError("there is no such stage", got=stage, expected=" or ".join(STAGES))
    import numba

    most = numba.config.NUMBA_NUM_THREADS  # pyright: ignore
    if not 1 <= threads <= most:
        raise UserError("the kernels cannot use so many threads", got=threads, expected=f"1 to {most}")
    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    cameras = () if stage == "state" else cameras
    sensors = (*cameras, VectorSpec()) if stage == "state" else cameras
    spec = WorldSpec(RoadSimulationSpec(agents=agents), BoxRendererSpec(), sensors=sensors)
    world = spec.build(scenarios, worlds, 0, device)
    turn = _turns(world, stage)
    for _ in range(3):
        turn()
    _wait(device)
    load = os.getloadavg()[0]
    count, began, busy = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        turn()
        count += 1
    _wait(device)
    wall, cpu = time.perf_counter() - began, time.process_time() - busy
    steps = count * worlds * agents
    return SpeedRow(
        stage=stage,
        worlds=worlds,
        agents=agents,
        cameras=len(cameras),
        width=cameras[0].width if cameras else 0,
        height=cameras[0].height if cameras else 0,
        boxes=round(sum(len(s.tracks.ids) for s in scenarios) / len(scenarios), 1),
        scenes=len(scenarios),
        threads=threads,
        device=device,
        agent_steps_per_s=round(steps / wall, 1),
        agent_steps_per_cpu_s=round(steps / cpu, 1),
        load=round(load, 2),
    )


def _turns(world: World, stage: str) -> Callable[[], None]:
    """What one turn of a stage does."""
    shape, ticks = (world.batch, world.agents), iter(range(10**12))
    generator = torch.Generator().manual_seed(0)
    # A few of them in turn, so that drawing random numbers is not what is timed.
    actions = [
        Action(
            (0.01 * torch.randn(shape, generator=generator)).to(world.device),
            torch.randn(shape, generator=generator).to(world.device),
        )
        for _ in range(16)
    ]

    rows = torch.arange(world.batch, device=world.device)

    def render() -> None:
        world.state = world.state  # or the pictures that it keeps of a state would be handed out
        for camera in world.cameras:
            world.images(camera)

    def step() -> None:
        tick = next(ticks)
        world.step(actions[tick % len(actions)])
        over = ~world.alive().any(1)
        if world.device.type != "cpu":
            world.reset(over, world.draw_starts(tick * world.batch + rows))
        elif bool(over.any()):
            world.reset(over, world.draw_starts((tick * world.batch + rows)[over]))
        world.observe()

    return render if stage == "render" else step


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def measure_all(
    scenarios: Sequence[Scenario],
    *,
    stages: Sequence[str] = STAGES,
    worlds: int,
    agents: Sequence[int],
    cameras: Sequence[tuple[Camera, ...]],
    threads: Sequence[int],
    device: str = "cpu",
    seconds: float = 3.0,
) -> Iterator[SpeedRow]:
    """Every combination, one after the other; "state" has no cameras to vary."""
    for stage in stages:
        for count in agents:
            for rig in cameras if stage != "state" else cameras[:1]:
                for number in threads:
                    yield measure(
                        stage,
                        scenarios,
                        worlds=worlds,
                        agents=count,
                        cameras=rig,
                        threads=number,
                        device=device,
                        seconds=seconds,
                    )
