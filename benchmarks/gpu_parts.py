"""What the parts of `gpu.py` share: sizes, a clock that waits for the device, worlds to drive in."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
SEED = 0


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the parts run.

    Attributes:
        device: Where.
        quick: Whether everything is tiny.
        work: Folder that the parts share; the teacher of one is asked by another.
    """

    device: str
    quick: bool
    work: Path

    def pick(self, small: Any, large: Any) -> Any:
        """One of two sizes."""
        return small if self.quick else large

    def wait(self) -> None:
        """Until the device has done what it was asked."""
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize(self.device)

    def rate(self, turn: Callable[[], object], warm_up: int = 3) -> float:
        """Turns in a second of the clock."""
        for _ in range(warm_up):
            turn()
        self.wait()
        count, began, seconds = 0, time.perf_counter(), self.pick(0.1, 2.0)
        while count == 0 or time.perf_counter() - began < seconds:
            turn()
            count += 1
        self.wait()
        return count / (time.perf_counter() - began)


def driven(worlds: int, agents: int, sensors: tuple[Any, ...], device: str = "cpu", **settings: Any) -> Any:
    """A world whose drives have begun."""
    import torch

    from countersteer.evaluation.speed import crossroads
    from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
    from countersteer.worlds.simulation.road import RoadSimulationSpec
    from countersteer.worlds.world import WorldSpec

    spec = WorldSpec(RoadSimulationSpec(agents=agents, **settings), BoxRendererSpec(), sensors=sensors)
    world = spec.build(crossroads(2, agents), worlds, SEED, device)
    rows = torch.arange(worlds, device=world.device)
    world.reset(torch.ones_like(rows, dtype=torch.bool), world.draw_starts(rows))
    return world


def actions_of(world: Any, count: int) -> list[Any]:
    """Steering and acceleration at random, the same for every device."""
    import torch

    from countersteer.vehicles.plans import Action

    generator, shape = torch.Generator().manual_seed(SEED), (world.batch, world.agents)
    drawn = [
        (0.01 * torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))
        for _ in range(count)
    ]
    return [Action(turn.to(world.device), push.to(world.device)) for turn, push in drawn]
