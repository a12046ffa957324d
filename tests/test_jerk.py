"""Rollouter by jerk: steps by hand, limits, standstill, and the kernel against its reference."""

from __future__ import annotations

import math

import pytest
import torch
from countersteer.worlds.world import World

from countersteer.errors import UserError
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.vehicles import bicycle, jerk
from countersteer.vehicles.bicycle import Limits, VehicleParams, VehicleSpec, VehicleState
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.simulation.spec import BoxWorldSpec
from countersteer.worlds.simulation.stepping import advance, reference

EXACT = VehicleSpec((0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0))
WIDE = Limits(curvature=10.0, curvature_rate=1e3, lateral_acceleration=1e6, braking=1e3, acceleration=1e3)
DOUBLE = torch.float64


def car(speed: float, curvature: float = 0.0) -> VehicleState:
    zero = torch.zeros((), dtype=DOUBLE)
    return VehicleState.at(torch.zeros(2, dtype=DOUBLE), zero, zero + speed, zero + curvature)


def push(longitudinal: float, lateral: float = 0.0) -> JerkAction:
    return JerkAction(torch.tensor(longitudinal, dtype=DOUBLE), torch.tensor(lateral, dtype=DOUBLE))


def drive(state: VehicleState, *actions: JerkAction, limits: Limits = WIDE) -> list[VehicleState]:
    """States after each of the actions, of a car that does at once what it is told."""
    one = torch.ones((), dtype=DOUBLE)
    params, states = VehicleParams(0 * one, one, 0 * one, one), []
    for action in actions:
        asked = jerk.command(state, action, 0.1, JerkSpec(), limits)
        state = bicycle.step(state, params, asked, 0.1, limits)
        states.append(state)
    return states


def test_jerk_adds_up_to_acceleration_and_that_to_speed():
    states = drive(car(10.0), push(4.0), push(4.0), push(0.0), push(-4.0))
    assert [float(s.acceleration) for s in states] == pytest.approx([0.4, 0.8, 0.8, 0.4])
    assert [float(s.speed) for s in states] == pytest.approx([10.04, 10.12, 10.20, 10.24])


def test_lateral_jerk_adds_up_to_lateral_acceleration():
    first, second, third = drive(car(10.0), push(0.0, 4.0), push(0.0, 4.0), push(0.0, -4.0))
    # 0.4, 0.8, 0.4 m/s^2 at 10 m/s; positive to the left.
    assert float(first.curvature) == pytest.approx(0.004)
    assert float(second.curvature) == pytest.approx(0.008)
    assert float(third.curvature) == pytest.approx(0.004)
    assert float(third.heading) > 0


def test_a_car_that_speeds_up_keeps_its_lateral_acceleration():
    (after,) = drive(car(10.0, 0.01), push(4.0))
    assert float(after.speed) == pytest.approx(10.04)
    assert float(after.curvature) == pytest.approx(1.0 / 10.04**2)


def test_an_acceleration_does_not_change_its_sign_within_a_tick():
    states = drive(car(10.0), push(4.0), push(-15.0), push(-15.0))
    assert [float(s.acceleration) for s in states] == pytest.approx([0.4, 0.0, -1.5])
    states = drive(car(10.0, 0.002), push(0.0, -4.0), push(0.0, -4.0))
    assert [float(s.curvature) for s in states] == pytest.approx([0.0, -0.004])


def test_limits_hold_and_do_not_wind_up():
    states = drive(car(15.0), *[push(4.0, 4.0)] * 30, push(-4.0, -4.0))
    assert float(states[29].acceleration) == pytest.approx(2.5)
    assert float(states[29].speed ** 2 * states[29].curvature) == pytest.approx(4.0)
    # The way back begins at the limit.
    assert float(states[30].acceleration) == pytest.approx(2.1)
    assert float(states[30].speed ** 2 * states[30].curvature) == pytest.approx(3.6)
    assert float(drive(car(30.0), *[push(-15.0)] * 20)[-1].acceleration) == pytest.approx(-5.0)


def test_the_car_is_asked_for_no_more_steering_than_it_has():
    limits = Limits()
    states = drive(car(2.0), *[push(0.0, 4.0)] * 40, limits=limits)
    for state in states:
        assert abs(float(state.commands[0, 0])) <= limits.curvature + 1e-12
        # Without delay and gain the car steers as it is asked.
        assert float(state.curvature) == pytest.approx(float(state.commands[0, 0]), abs=1e-12)
    assert float(states[-1].curvature) == pytest.approx(limits.curvature)


def test_braking_ends_at_a_standstill_and_one_can_leave_it_at_once():
    states = drive(car(1.0), *[push(-15.0)] * 12)
    assert float(states[-1].speed) == 0.0
    assert float(states[-1].position[0]) > 0
    (away,) = drive(states[-1], push(4.0))
    assert float(away.acceleration) == pytest.approx(0.4)
    assert float(away.speed) == pytest.approx(0.04)


def test_every_choice_is_another_pair():
    spec = JerkSpec()
    action = spec.action(torch.arange(spec.choices).reshape(3, 4))
    assert action.longitudinal.shape == (3, 4)
    pairs = list(zip(action.longitudinal.flatten().tolist(), action.lateral.flatten().tolist(), strict=True))
    assert pairs == [(x, y) for x in spec.longitudinal for y in spec.lateral]


def test_it_is_differentiable():
    action = push(1.0, 1.0).map(lambda leaf: leaf.requires_grad_())
    asked = jerk.command(car(10.0), action, 0.1, JerkSpec(), Limits())
    (asked.curvature + asked.acceleration).backward()
    assert action.longitudinal.grad is not None
    assert action.lateral.grad is not None
    assert float(action.longitudinal.grad) == pytest.approx(0.1, rel=1e-4)
    assert float(action.lateral.grad) == pytest.approx(0.001, rel=0.01)


# --- in a world -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def roads():
    return [
        procedural_road(60, RoadKind.INTERSECTION, lanes=2, traffic=6),
        procedural_road(61, RoadKind.TIGHT, lanes=2, traffic=2),
    ]


def begun(spec: BoxWorldSpec, roads, batch: int) -> World:
    world = spec.build(roads, batch, seed=2)
    world.reset(torch.ones(batch, dtype=torch.bool), world.draw_starts(torch.arange(batch)))
    return world


def chosen(batch: int, tick: int) -> JerkAction:
    generator = torch.Generator().manual_seed(tick)
    return JerkSpec().action(torch.randint(JerkSpec().choices, (batch, 1), generator=generator))


@pytest.mark.parametrize("vehicle", [EXACT, VehicleSpec()], ids=["exact", "delayed"])
def test_the_kernel_does_what_the_reference_does(roads, vehicle: VehicleSpec):
    spec = BoxWorldSpec(
        cameras=(), vehicle=vehicle, jerk=JerkSpec(), terminate=(TerminationReason.INVALID_STATE,)
    )
    world = begun(spec, roads, 32)
    for tick in range(60):
        arguments = (spec, world.bank, world.ground, world.state, chosen(32, tick))
        fast, plain = advance(*arguments)[0].cars, reference.advance(*arguments)[0].cars
        for name, leaf in fast.flatten().items():
            gap = (leaf - plain.flatten()[name]).abs()
            if name == "heading":
                gap = torch.minimum(gap, (gap - 2 * math.pi).abs())
            assert float(gap.max()) < 1e-4, (name, tick)
        world.state = reference.advance(*arguments)[0]
    assert float(world.state.cars.curvature.abs().max()) > 0.01


def test_a_jerk_that_is_not_a_number_ends_its_drive_and_touches_no_other(roads):
    spec = BoxWorldSpec(cameras=(), jerk=JerkSpec())
    world, twin = begun(spec, roads, 4), begun(spec, roads, 4)
    sound = chosen(4, 0)
    longitudinal = sound.longitudinal.clone()
    longitudinal[2] = math.nan
    events = world.step(sound.replace(longitudinal=longitudinal))
    twin.step(sound)
    assert events.cause[2, 0] == TerminationReason.INVALID_STATE
    rest = torch.tensor([0, 1, 3])
    for name, leaf in world.state[rest].flatten().items():
        assert torch.equal(leaf, twin.state[rest].flatten()[name]), name


def test_a_world_with_jerk_is_driven_by_curvature_as_before(roads):
    plain, other = (
        begun(BoxWorldSpec(cameras=()), roads, 4),
        begun(BoxWorldSpec(cameras=(), jerk=JerkSpec()), roads, 4),
    )
    action = Action(torch.full((4, 1), 0.01), torch.full((4, 1), 0.5))
    for world in (plain, other):
        world.step(action)
    for name, leaf in plain.state.flatten().items():
        assert torch.equal(leaf, other.state.flatten()[name]), name


def test_a_world_without_jerk_says_so(roads):
    with pytest.raises(UserError, match="not driven by jerk"):
        begun(BoxWorldSpec(cameras=()), roads, 1).step(chosen(1, 0))
