"""The kinematic bicycle, its limits and delays, and the trackers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from countersteer.vehicles import bicycle
from countersteer.vehicles.bicycle import Limits, VehicleParams, VehicleSpec, VehicleState
from countersteer.vehicles.plans import Action, Plan, PlanSpec
from countersteer.vehicles.trackers import LQR, PurePursuit, Tracker

FREE = Limits(curvature=10.0, curvature_rate=1e3, lateral_acceleration=1e6, braking=1e3, acceleration=1e3)
DOUBLE = torch.float64


def exact(delay: float = 0.0, gain: float = 1.0, bias: float = 0.0) -> VehicleParams:
    one = torch.ones((), dtype=DOUBLE)
    return VehicleParams(one * delay, one * gain, one * bias, one)


def car(speed: float, curvature: float = 0.0) -> VehicleState:
    zero = torch.zeros((), dtype=DOUBLE)
    return VehicleState.at(torch.zeros(2, dtype=DOUBLE), zero, zero + speed, zero + curvature)


def act(curvature: float, acceleration: float = 0.0) -> Action:
    return Action(torch.tensor(curvature, dtype=DOUBLE), torch.tensor(acceleration, dtype=DOUBLE))


def test_a_full_circle_at_constant_curvature_ends_where_it_began():
    state, radius, steps = car(10.0, 1 / 20), 20.0, 100
    dt = 2 * math.pi * radius / 10.0 / steps
    for _ in range(steps):
        state = bicycle.step(state, exact(), act(1 / 20), dt, FREE)
    assert torch.allclose(state.position, torch.zeros(2, dtype=DOUBLE), atol=1e-9)


def test_positive_curvature_turns_left():
    state = car(10.0)
    for _ in range(20):
        state = bicycle.step(state, exact(), act(0.02), 0.1, FREE)
    assert state.position[1] > 1.0
    assert state.heading > 0.2


def test_the_integrator_is_second_order(record_property):
    """Error against a fine solution falls with the square of the step for smooth commands."""

    def drive(dt: float) -> torch.Tensor:
        state = car(12.0)
        for k in range(round(4.0 / dt)):
            late, middle = (k + 1) * dt, (k + 0.5) * dt
            command = act(0.05 * math.sin(late), math.cos(2 * middle))
            state = bicycle.step(state, exact(), command, dt, FREE)
        return torch.cat([state.position, state.heading[None]])

    fine = drive(0.1 / 256)
    errors = [float((drive(0.1 / 2**k) - fine).norm()) for k in range(4)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    record_property("orders from 0.1 s down to 0.0125 s", ", ".join(f"{order:.3f}" for order in orders))
    assert all(1.8 < order < 2.2 for order in orders), orders


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.25])
def test_a_command_arrives_after_its_delay(delay: float):
    state, reached = car(10.0), []
    for _ in range(6):
        state = bicycle.step(state, exact(delay), act(0.01), 0.1, FREE)
        reached.append(float(state.curvature))
    whole = int(delay / 0.1 + 1e-9)
    part = delay / 0.1 - whole
    assert reached[:whole] == [0.0] * whole
    assert reached[whole] == pytest.approx(0.01 * (1 - part), abs=1e-9)
    assert reached[whole + 1] == pytest.approx(0.01, abs=1e-9)


def test_limits_hold_whatever_is_asked():
    limits = Limits()
    state = car(20.0)
    before = 0.0
    for k in range(50):
        state = bicycle.step(state, exact(), act(1.0 if k % 9 < 5 else -1.0, 50.0 * (-1) ** k), 0.1, limits)
        assert abs(float(state.curvature)) <= limits.curvature + 1e-9
        assert abs(float(state.curvature) - before) <= limits.curvature_rate * 0.1 + 1e-9
        assert -limits.braking - 1e-6 <= float(state.acceleration) <= limits.acceleration + 1e-6
        before = float(state.curvature)


def test_braking_stops_and_never_reverses():
    state = car(1.0)
    for _ in range(10):
        state = bicycle.step(state, exact(), act(0.0, -8.0), 0.1, Limits())
    assert float(state.speed) == 0.0
    assert float(state.position[0]) == pytest.approx(1.0 / 16, abs=1e-9)  # v^2 / 2b


def test_parameters_depend_on_the_drive_and_not_on_its_neighbours():
    spec = VehicleSpec()
    together = spec.draw(3, torch.arange(10))
    alone = spec.draw(3, torch.tensor([7]))
    assert float(together.delay[7]) == float(alone.delay[0])
    assert together.delay.unique().numel() == 10
    assert bool(((together.delay >= spec.delay[0]) & (together.delay <= spec.delay[1])).all())


@pytest.mark.parametrize("tracker", [PurePursuit(), LQR()], ids=["pure pursuit", "lqr"])
@pytest.mark.parametrize("curvature", [-0.02, 0.0, 0.03])
def test_trackers_follow_an_arc(tracker: Tracker, curvature: float):
    """From driving an arc, tracking that arc's plan asks for its curvature and no acceleration."""
    spec, speed = PlanSpec(), torch.tensor(8.0)
    s = speed * spec.times()
    if curvature == 0.0:
        position = torch.stack([s, torch.zeros_like(s)], -1)
    else:
        position = torch.stack([(s * curvature).sin(), 1 - (s * curvature).cos()], -1) / curvature
    plan = Plan(position, s * curvature, speed.expand(spec.points))
    action = tracker.track(plan, spec, speed, torch.tensor(curvature))
    assert float(action.curvature) == pytest.approx(curvature, abs=1.5e-3)
    assert float(action.acceleration) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("tracker", [PurePursuit(), LQR()], ids=["pure pursuit", "lqr"])
def test_trackers_steer_left_for_a_plan_to_the_left_and_brake_for_a_shorter_one(tracker: Tracker):
    spec, times = PlanSpec(), PlanSpec().times()
    slower = 10.0 * times - 0.5 * times**2
    plan = Plan(torch.stack([slower, 0.3 * times**2], -1), 0.06 * times, 10.0 - times)
    action = tracker.track(plan, spec, torch.tensor(10.0), torch.tensor(0.0))
    assert float(action.curvature) > 0.001
    assert float(action.acceleration) == pytest.approx(-1.0, abs=0.2)


def test_trackers_hold_a_standing_car():
    spec = PlanSpec()
    plan = Plan(torch.zeros(spec.points, 2), torch.zeros(spec.points), torch.zeros(spec.points))
    for tracker in (PurePursuit(), LQR()):
        action = tracker.track(plan, spec, torch.tensor(0.0), torch.tensor(0.0))
        assert float(action.curvature) == 0.0
        assert float(action.acceleration) == 0.0
