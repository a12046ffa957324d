"""Points of paths: the kernel against its specification."""

from __future__ import annotations

import math

import pytest
import torch

from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.worlds.simulation.paths import project_to_route, route_at, route_reference
from countersteer.worlds.simulation.scenes import SceneBank, build_bank


@pytest.fixture(scope="module")
def bank() -> SceneBank:
    kinds = (RoadKind.GENTLE, RoadKind.INTERSECTION)
    return build_bank(
        [procedural_road(40 + k, kind, lanes=2, traffic=6) for k, kind in enumerate(kinds)], 2, 0.1
    )[0]


def test_the_kernel_finds_the_points_of_the_reference(bank: SceneBank):
    """On the path, before its beginning, past its end, beside it, and at what is not a number."""
    generator = torch.Generator().manual_seed(0)
    scene = torch.arange(40) % 2
    arc = 900.0 * torch.rand(40, 2, 5, generator=generator) - 60.0
    offset = torch.where(
        torch.arange(40)[:, None] % 4 < 2, 0.0, 6.0 * torch.randn(40, 2, generator=generator)
    )
    arc[3, 1, 2] = math.nan
    fast, plain = route_at(bank, scene, arc, offset), route_reference(bank, scene, arc, offset)
    turned = (fast.heading - plain.heading).abs()
    assert torch.minimum(turned, 2 * math.pi - turned).nan_to_num().max() < 1e-5
    assert torch.allclose(fast.curvature, plain.curvature, atol=1e-6, equal_nan=True)
    assert torch.allclose(fast.position, plain.position, atol=1e-3, equal_nan=True)
    assert bool(fast.position[3, 1, 2].isnan().all())
    assert bool((fast.heading.nan_to_num().abs() <= math.pi).all())


def test_the_reference_has_a_gradient_where_one_is_wanted(bank: SceneBank):
    arc = torch.full((1, 2, 1), 30.0, requires_grad=True)
    route_at(bank, torch.tensor([0]), arc, torch.zeros(1, 2)).position.sum().backward()
    assert arc.grad is not None
    assert bool((arc.grad != 0).all())


def test_a_point_of_a_path_is_located_where_it_was_taken(bank: SceneBank):
    """A search of the whole path and one around the last arc find the same place, also past the path's end."""
    scene, length = torch.tensor([0, 1]), bank.path_length[:2]
    for arc in (torch.full((2, 2), 25.3), length - 0.4, length + 20.0):
        points = route_at(bank, scene, arc[..., None], torch.zeros(2, 2))
        position, heading = points.position[:, :, 0], points.heading[:, :, 0]
        for near in (None, arc):
            found, lateral, error, _ = project_to_route(
                bank, scene, position, heading, torch.zeros(2, 2), near
            )
            assert torch.allclose(found, arc, atol=0.02)
            assert float(lateral.abs().max()) < 0.01
            assert float(error.abs().max()) < 0.01


def test_a_longer_path_in_the_batch_changes_no_place():
    """Cars begin at the origin of their scenes; nothing of a shorter path may seem to lie there but its own points."""
    roads = [
        procedural_road(7 + k, RoadKind.TIGHT, lanes=1, length=length)
        for k, length in enumerate((300.0, 620.0))
    ]
    position, heading = torch.zeros(1, 1, 2), torch.zeros(1, 1)
    scene, zero = torch.tensor([0]), torch.zeros(1, 1)
    alone = project_to_route(build_bank(roads[:1], 1, 0.1)[0], scene, position, heading, zero, None)
    beside = project_to_route(build_bank(roads, 1, 0.1)[0], scene, position, heading, zero, None)
    assert 55.0 < float(alone[0]) < 65.0
    for mine, theirs in zip(alone, beside, strict=True):
        assert mine.equal(theirs)
