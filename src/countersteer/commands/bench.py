"""`countersteer bench`."""

from __future__ import annotations

import math
import os
from typing import Literal

from countersteer.commands.flags import Device, Json, Scenarios, keep_numbers, size

__all__ = ["bench"]


def bench(
    *,
    stages: tuple[Literal["state", "render", "full"], ...] = ("state", "render", "full"),
    scenarios: Scenarios = None,
    count: int = 8,
    worlds: int = 32,
    agents: tuple[int, ...] = (8,),
    sizes: tuple[str, ...] = ("128x64",),
    cameras: int = 1,
    threads: tuple[int, ...] = tuple(sorted({1, os.cpu_count() or 1})),
    device: Device = "cpu",
    seconds: float = 3.0,
    json: Json = None,
) -> int:
    """Time boxworld: a tick with a vector observation, pictures, and both.

    Args:
        stages: What to time.
        count: How many generated junctions, where no scenarios are given.
        worlds: How many at once.
        agents: Controlled cars in a world, one or several numbers.
        sizes: Of the pictures, WIDTHxHEIGHT, one or several.
        cameras: How many a car has, evenly around it.
        threads: How many, one or several numbers.
        seconds: For each row.
    """
    from countersteer.commands import console
    from countersteer.data.sources import ScenarioFolder
    from countersteer.evaluation.speed import crossroads, measure_all, with_cars
    from countersteer.geometry.cameras import Camera
    from countersteer.training.run import check_device

    check_device(device)
    around = [2 * math.pi * k / cameras for k in range(cameras)]
    rigs = [
        tuple(Camera(name=f"camera{k}", width=width, height=height, yaw=yaw) for k, yaw in enumerate(around))
        for width, height in map(size, sizes)
    ]
    if scenarios is not None:
        driven = with_cars(ScenarioFolder(str(scenarios)).load(), max(agents))
    else:
        driven = crossroads(count, max(agents))
    rows = []
    for row in measure_all(
        driven,
        stages=stages,
        worlds=worlds,
        agents=agents,
        cameras=rigs,
        threads=threads,
        device=device,
        seconds=seconds,
    ):
        rows.append(row)
        rate = f"{row.agent_steps_per_s:,.0f} car steps/s"
        console.say(f"{row.stage}, {row.agents} cars, {row.threads} threads: {rate}")
    console.print_speed(rows)
    keep_numbers(json, [row.to_json() for row in rows])
    return 0
