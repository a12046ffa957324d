"""The kernel of a tick against its specification, from the same states, in scenes that show everything."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from countersteer.worlds.world import World

from countersteer.errors import UserError
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import Scenario
from countersteer.traffic.idm import IDM
from countersteer.vehicles.plans import Action
from countersteer.worlds.interface import Events, TerminationReason
from countersteer.worlds.simulation.spec import BoxWorldSpec, StartSpec
from countersteer.worlds.simulation.state import BoxWorldState
from countersteer.worlds.simulation.stepping import advance, reference

WILD = StartSpec(lateral=3.0, heading=0.6, command_share=0.8, command_time=(0.2, 2.0))


@pytest.fixture(scope="module")
def roads() -> list[Scenario]:
    kinds = (RoadKind.GENTLE, RoadKind.TIGHT, RoadKind.INTERSECTION, RoadKind.INTERSECTION)
    return [procedural_road(40 + k, kind, lanes=2, traffic=6) for k, kind in enumerate(kinds)]


def begun(spec: BoxWorldSpec, roads: list[Scenario], batch: int) -> World:
    world = spec.build(roads, batch, seed=5)
    world.reset(torch.ones(batch, dtype=torch.bool), world.draw_starts(torch.arange(batch)))
    return world


def actions(batch: int, agents: int, tick: int) -> Action:
    """Anything, a few of them not finite."""
    generator = torch.Generator().manual_seed(tick)
    curvature = 0.08 * torch.randn(batch, agents, generator=generator)
    acceleration = 4.0 * torch.randn(batch, agents, generator=generator)
    broken = torch.rand(batch, agents, generator=generator) < 0.003
    return Action(torch.where(broken, math.nan, curvature), acceleration)


def compare(
    a: tuple[BoxWorldState, Events], b: tuple[BoxWorldState, Events], tolerance: float
) -> tuple[int, int]:
    """How many of how many entries differ by more than rounding."""
    differ = total = 0
    for one, other in zip(a, b, strict=True):
        others = other.flatten()
        for name, leaf in one.flatten().items():
            if leaf.dtype.is_floating_point:
                gap = (leaf.double() - others[name].double()).abs()
                if "heading" in name:
                    gap = torch.minimum(gap, (gap - 2 * math.pi).abs())
                wrong = ~(gap <= tolerance) & ~(leaf.isnan() & others[name].isnan())
            else:
                wrong = leaf != others[name]
            differ, total = differ + int(wrong.sum()), total + leaf.numel()
    return differ, total


@pytest.mark.parametrize("traffic", [None, IDM()], ids=["replay", "idm"])
@pytest.mark.parametrize("agents", [1, 3, 9])
def test_the_kernel_does_what_the_reference_does(roads, traffic, agents, record_property):
    everything = tuple(
        cause for cause in TerminationReason if cause not in (TerminationReason.NONE, TerminationReason.TIME)
    )
    spec = BoxWorldSpec(
        traffic=traffic,
        agents=agents,
        start=WILD,
        duration=6.0,
        terminate=everything,
        max_route_deviation=6.0,
    )
    if agents == 9:  # more than some scenes have cars; goals near by; who has ended leaves
        start = dataclasses.replace(WILD, goal=(10.0, 40.0))
        spec = dataclasses.replace(spec, start=start, min_agents=1, remove_done_agents=True)
    world = begun(spec, roads, 48)
    ends: set[int] = set()
    flags = dict.fromkeys(("collision", "off_road", "red_light", "wrong_way", "uncomfortable"), False)
    differ = total = 0
    for tick in range(90):
        action = actions(48, agents, tick)
        arguments = (spec, world.bank, world.ground, world.state, action)
        fast, plain = advance(*arguments), reference.advance(*arguments)
        wrong, count = compare(fast, plain, 1e-3)
        differ, total = differ + wrong, total + count
        world.state, events = plain
        ends |= set(events.cause.unique().tolist())
        flags = {name: seen or bool(getattr(events, name).any()) for name, seen in flags.items()}
        if tick % 15 == 14:  # new drives in place of those that have ended
            over = ~world.state.alive.any(1)
            world.reset(over, world.draw_starts(1000 * tick + torch.arange(48)))
    record_property("entries that differ, of all", f"{differ}, {total}")
    # A corner on a border, or two path points equally near, may fall to either side by rounding.
    assert differ <= 1e-5 * total, f"{differ} of {total} differ"
    assert ends >= {
        int(TerminationReason.NONE),
        int(TerminationReason.TIME),
        int(TerminationReason.INVALID_STATE),
        int(TerminationReason.OFF_ROAD),
    }
    assert all(flags[name] for name in ("collision", "off_road", "wrong_way", "uncomfortable")), flags


def test_both_write_nothing_that_was_given(roads):
    world = begun(BoxWorldSpec(traffic=IDM(), start=WILD), roads, 6)
    for run in (advance, reference.advance):
        before = world.state
        kept = before.clone()
        run(world.spec, world.bank, world.ground, before, actions(6, 1, 0))
        assert all(
            torch.equal(a, b) for a, b in zip(before.flatten().values(), kept.flatten().values(), strict=True)
        )


def test_a_state_that_is_not_finite_ends_its_drive_and_touches_no_other(roads):
    spec = BoxWorldSpec(traffic=IDM(), start=WILD)
    world = begun(spec, roads, 4)
    cars = world.state.cars
    position, arc = cars.position.clone(), world.state.arc.clone()
    position[1], arc[1] = math.nan, math.nan
    broken = world.state.replace(cars=cars.replace(position=position), arc=arc)
    action = actions(4, 1, 0)
    after, events = advance(spec, world.bank, world.ground, broken, action)
    sound, _ = advance(spec, world.bank, world.ground, world.state, action)
    assert events.cause[1] == TerminationReason.INVALID_STATE
    assert not after.alive[1]
    rest = torch.tensor([0, 2, 3])
    for name, leaf in after[rest].flatten().items():
        assert torch.equal(leaf, sound[rest].flatten()[name]), name


def test_the_reference_is_differentiable(roads):
    world = begun(BoxWorldSpec(traffic=IDM()), roads, 2)
    state, push = world.state, torch.full((2, 1), 0.5, requires_grad=True)
    for _ in range(5):
        state, _ = advance(world.spec, world.bank, world.ground, state, Action(torch.zeros(2, 1), push))
    state.arc.sum().backward()
    assert push.grad is not None
    assert (push.grad > 0).all()


def test_a_limit_of_cars_is_said(roads):
    with pytest.raises(UserError, match="too few cars"):
        begun(dataclasses.replace(BoxWorldSpec(), agents=40), roads[:1], 1)
