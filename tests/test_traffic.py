"""The Intelligent Driver Model."""

from __future__ import annotations

import math

import pytest
import torch

from countersteer.traffic.idm import IDM


def test_equilibrium_gap_is_the_formula():
    model, speed, desired = IDM(), torch.tensor(10.0), torch.tensor(15.0)
    gap = (model.standstill_gap + 10.0 * model.headway) / math.sqrt(1 - (10 / 15) ** 4)
    answer = model.answer(speed, desired, torch.tensor(gap), speed)
    assert float(answer) == pytest.approx(0.0, abs=1e-5)


def test_free_road_reaches_the_desired_speed():
    model, speed = IDM(), torch.tensor(0.0)
    for _ in range(600):
        speed = speed + 0.1 * model.answer(
            speed, torch.tensor(12.0), torch.tensor(math.inf), torch.tensor(0.0)
        )
    assert float(speed) == pytest.approx(12.0, abs=0.05)


def test_a_platoon_never_collides_when_its_leader_stops():
    model = IDM()
    position = -torch.arange(10.0) * 25.0
    speed = torch.full((10,), 12.0)
    for _ in range(600):
        gap = torch.cat([torch.tensor([math.inf]), position[:-1] - position[1:] - 5.0])
        lead = torch.cat([torch.zeros(1), speed[:-1]])
        answer = model.answer(speed, torch.full((10,), 15.0), gap, lead)
        answer[0] = -3.0
        speed = (speed + 0.1 * answer).clamp(min=0.0)
        position = position + 0.1 * speed
        assert bool((gap[1:] > 0.0).all())
    assert float(speed.max()) < 0.1
    assert float(gap[1:].min()) == pytest.approx(model.standstill_gap, abs=0.5)


def test_a_faster_leader_never_pulls():
    model = IDM()
    near = model.answer(torch.tensor(10.0), torch.tensor(12.0), torch.tensor(30.0), torch.tensor(30.0))
    free = model.answer(torch.tensor(10.0), torch.tensor(12.0), torch.tensor(math.inf), torch.tensor(0.0))
    assert float(near) <= float(free)


def test_without_a_leader_the_leader_speed_is_ignored():
    answer = IDM().answer(torch.tensor(0.0), torch.tensor(10.0), torch.tensor(math.inf), torch.tensor(0.0))
    assert float(answer) == pytest.approx(IDM().acceleration)
