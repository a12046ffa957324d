"""`countersteer bench` and `countersteer extensions`: how fast an installation is, and what it has."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from countersteer.commands.flags import Device, Json, Scenarios, keep_numbers, size
from countersteer.ranges import Count, Range

__all__ = ["bench", "extensions"]


def bench(
    *,
    stages: tuple[Literal["state", "render", "full"], ...] = ("state", "render", "full"),
    scenarios: Scenarios = None,
    count: Count = 8,
    worlds: Count = 32,
    agents: Annotated[tuple[int, ...], Range("[1, 10000]")] = (8,),
    sizes: tuple[str, ...] = ("128x64",),
    cameras: Annotated[int, Range("[1, 64]")] = 1,
    threads: Annotated[tuple[int, ...], Range("[1, 1024]")] = tuple(sorted({1, os.cpu_count() or 1})),
    device: Device = "cpu",
    seconds: Annotated[float, Range("(0, 3600]")] = 3.0,
    json: Json = None,
) -> None:
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
    from countersteer.data.sources import ScenarioFolder
    from countersteer.evaluation.speed import all_around, crossroads, measure_all, with_cars
    from countersteer.reporting.terminal import print_speed
    from countersteer.training.run import check_device

    check_device(device)
    rigs = [all_around(cameras, *size(each)) for each in sizes]
    if scenarios is not None:
        driven = with_cars(ScenarioFolder(str(scenarios)).load(), max(agents))
    else:
        driven = crossroads(count, max(agents))
    rows = print_speed(
        measure_all(
            driven,
            stages=stages,
            worlds=worlds,
            agents=agents,
            cameras=rigs,
            threads=threads,
            device=device,
            seconds=seconds,
        )
    )
    keep_numbers(json, [row.to_json() for row in rows])


def extensions(*, json: Json = None) -> None:
    """List the readers, worlds and scores that other installed packages bring, and what is wrong with them."""
    import warnings

    from countersteer.extensions import GROUPS, found
    from countersteer.reporting.terminal import print_extensions

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the table says what is left out
        listed = [each for group in GROUPS for each in found(group)]
    print_extensions(listed)
    keep_numbers(json, [each.to_json() for each in listed])
