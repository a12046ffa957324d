"""The next actor and the next red light on a path: the kernel against its reference."""

from __future__ import annotations

import math

import pytest
import torch

from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.traffic.idm import IDM
from countersteer.vehicles.plans import Action
from countersteer.worlds.simulation.lead_vehicle import find_leader, find_leader_reference
from countersteer.worlds.simulation.spec import StartSpec
from worlds import boxworld


@pytest.mark.parametrize("agents", [1, 3])
def test_the_kernel_sees_what_the_reference_sees(agents: int):
    kinds = (RoadKind.INTERSECTION, RoadKind.INTERSECTION, RoadKind.TIGHT, RoadKind.GENTLE)
    roads = [procedural_road(40 + k, kind, lanes=2, traffic=8) for k, kind in enumerate(kinds)]
    wild = StartSpec(lateral=2.0, heading=0.4, command_share=0.8, command_time=(0.2, 1.0))
    world = boxworld(cameras=(), agents=agents, traffic=IDM(), start=wild, terminate=()).build(roads, 32, 1)
    world.reset(torch.ones(32, dtype=torch.bool), world.draw_starts(torch.arange(32)))
    generator = torch.Generator().manual_seed(0)
    differ = leads = lights = total = 0
    for _ in range(40):
        noise = 0.02 * torch.randn(32, agents, generator=generator)
        world.step(Action(noise, 50 * noise))
        fast, plain = (
            find_leader(world.simulation.bank, world.state.simulation),
            find_leader_reference(world.simulation.bank, world.state.simulation),
        )
        for one, other in zip(fast, plain, strict=True):
            close = ((one - other).abs() < 1e-2) | (one == other)
            differ, total = differ + int((~close).sum()), total + close.numel()
        leads += int((plain[0] < math.inf).sum())
        lights += int((plain[2] < math.inf).sum())
    # Something at the edge of what counts may fall to either side by rounding.
    assert differ <= 1e-3 * total, f"{differ} of {total}"
    assert leads > 100
    assert lights > 0


def test_a_car_that_is_nowhere_sees_nothing_and_the_others_see_as_before():
    roads = [procedural_road(40, RoadKind.INTERSECTION, lanes=2, traffic=8)]
    world = boxworld(cameras=()).build(roads, 3, 1)
    world.reset(torch.ones(3, dtype=torch.bool), world.draw_starts(torch.arange(3)))
    state = world.state.simulation
    arc = state.arc.clone()
    arc[1] = math.nan
    sound, broken = (
        find_leader(world.simulation.bank, state),
        find_leader(world.simulation.bank, state.replace(arc=arc)),
    )
    for one, other in zip(sound, broken, strict=True):
        assert torch.equal(one[[0, 2]], other[[0, 2]])
    assert broken[0][1] == math.inf
