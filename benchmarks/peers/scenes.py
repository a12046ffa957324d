"""Views of our cars as plain arrays, for a renderer that knows nothing of countersteer, and ours on the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from countersteer.geometry.cameras import Camera
from countersteer.scenarios.scenario import Scenario
from countersteer.vehicles.plans import Action
from countersteer.worlds.renderers.boxes import Appearance, Boxes, Views, default_appearance
from countersteer.worlds.renderers.boxes.appearance import looks_of
from countersteer.worlds.renderers.boxes.constants import NOISE_SIZE, noise_table
from countersteer.worlds.renderers.boxes.drawing import render
from countersteer.worlds.renderers.boxes.renderer import BoxRenderer, BoxRendererSpec, BoxRendererState
from countersteer.worlds.simulation.ground import GroundBank
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec

TEXEL = 0.125
"""Of the baked ground [m]; coarser for a scene that would need more than `LARGEST` texels along a side."""
LARGEST = 4096
BORDER = 2.0
"""Bare terrain around it, which is what a texture that is clamped to its edge repeats [m]."""

Drawing = tuple[Views, Boxes, Appearance]


def drawings(
    scenarios: Sequence[Scenario], views: int, agents: int, camera: Camera, frames: int
) -> tuple[GroundBank, list[Drawing]]:
    """What so many cars see at a few moments half a second apart, as `render` takes it.

    Only cars that stand on the road at first: from elsewhere there is little to draw.
    """
    worlds = 2 * math.ceil(views / agents)
    spec = WorldSpec(RoadSimulationSpec(agents=agents), BoxRendererSpec(), sensors=(camera,))
    world = spec.build(scenarios, worlds, 0)
    renderer, state = world.renderer, world.state.renderer
    assert isinstance(renderer, BoxRenderer)
    assert isinstance(state, BoxRendererState)
    ground = renderer.ground
    first: Any = world.simulation.scene(world.state.simulation)
    on_road = ground.edge_distance(first.scene.repeat_interleave(agents), first.position.flatten(0, 1))
    kept = torch.nonzero(on_road > 0)[:views, 0]
    assert len(kept) == views, "too few cars are on the road"
    straight = Action(torch.zeros(worlds, agents), torch.zeros(worlds, agents))
    moments = []
    for _ in range(frames):
        scene: Any = world.simulation.scene(world.state.simulation)
        seen, boxes = renderer.views(state, scene, camera), renderer.boxes(state, scene)
        names = ("scene", "world", "position", "rotation", "focal", "ego_slot")
        seen = Views(seen.width, seen.height, *(getattr(seen, name)[kept] for name in names))
        moments.append((seen, boxes, state.look))
        for _ in range(5):
            world.step(straight)
    return ground, moments


def bake(bank: GroundBank) -> dict[str, ndarray]:
    """Each ground from straight above, as shares of road (red), white (green) and yellow (blue) paint.

    Our own renderer takes the picture, with these as the colours: what is compared is drawing the ground
    in perspective, not how its texture was made.
    """
    size = (bank.cell_shape.flip(-1) * bank.resolution[:, None]).max(-1).values + 2 * BORDER
    origin = bank.origin - BORDER
    side = min(LARGEST, 2 ** math.ceil(math.log2(float(size.max()) / TEXEL)))
    above = 1500.0
    colour = {"terrain": (0, 0, 0), "road": (255, 0, 0), "white": (0, 255, 0), "yellow": (0, 0, 255)}
    plain = default_appearance(1)
    look = replace(
        plain,
        **{name: torch.tensor([value], dtype=torch.float32) for name, value in colour.items()},
        terrain_texture=torch.zeros(1),
        road_texture=torch.zeros(1),
        visibility=torch.full((1,), 1e9),
        paint=torch.ones(1),
    )
    nothing = Boxes(
        center=torch.zeros(1, 0, 3), heading=torch.zeros(1, 0), size=torch.zeros(1, 0, 3),
        kind=torch.zeros(1, 0, dtype=torch.long), instance=torch.zeros(1, 0, dtype=torch.long),
        colour=torch.zeros(1, 0, dtype=torch.long), present=torch.zeros(1, 0, dtype=torch.bool),
    )  # fmt: skip
    pictures = []
    for scene in range(len(size)):
        middle = origin[scene] + size[scene] / 2
        views = Views(
            width=side,
            height=side,
            scene=torch.tensor([scene]),
            world=torch.zeros(1, dtype=torch.long),
            position=torch.cat([middle, middle.new_tensor([above])])[None].float(),
            # Right is +x and down is +y, so that rows run along +y; the camera looks down, in a mirror.
            rotation=torch.diag(torch.tensor([1.0, 1.0, -1.0]))[None],
            focal=(above * side / size[scene])[None].float(),
            ego_slot=torch.tensor([-1]),
        )
        rgb = render(bank, views, nothing, look).rgb
        assert rgb is not None
        pictures.append(rgb[0].numpy())
    return {
        "ground": np.stack(pictures),
        "ground_origin": origin.numpy(),
        "ground_size": size.numpy(),
        "noise": noise_table().reshape(NOISE_SIZE, NOISE_SIZE),
    }


def save(path: Path, bank: GroundBank, moments: Sequence[Drawing]) -> None:
    """Everything the peer needs, in one file."""

    def stacked(arrays: list[torch.Tensor], dtype: str = "f4") -> ndarray:
        return torch.stack(arrays).numpy().astype(dtype)

    views = moments[0][0]
    paints = [look.colours.gather(1, boxes.colour[..., None].expand(-1, -1, 3)) for _, boxes, look in moments]
    arrays: dict[str, Any] = dict(
        width=views.width,
        height=views.height,
        scene=views.scene.numpy(),
        world=views.world.numpy(),
        focal=views.focal.numpy(),
        ego_slot=views.ego_slot.numpy(),
        position=stacked([v.position for v, _, _ in moments]),
        rotation=stacked([v.rotation for v, _, _ in moments]),
        looks=stacked([looks_of(look) for _, _, look in moments]),
        center=stacked([b.center for _, b, _ in moments]),
        heading=stacked([b.heading for _, b, _ in moments]),
        size=stacked([b.size for _, b, _ in moments]),
        present=stacked([b.present for _, b, _ in moments], "bool"),
        colour=stacked(paints) / 255,
        **bake(bank),
    )
    np.savez(path, **arrays)
