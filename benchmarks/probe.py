"""How much features give away of where the car is: `python benchmarks/probe.py RUN [RUN ...] [--json FILE]`.

A linear classifier reads from a trained planner's image features of one frame in which of five bands of lateral offset the car
is (edges at 0.25 and 0.75 m to either side). It is asked in two worlds on the same held-out roads and poses: in reprojected
films, where artefacts help, and in the boxworld that they were filmed in, where there are none. What it reads better in the first is what
artefacts give away; and a classifier learned in the first and asked in the second fails by as much as it relied on them. Features are
those of training, noise included, and without it. Chance is 0.2.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from torch import Tensor

from countersteer.data.sources import ProceduralRoads
from countersteer.policies.planner import CNNPlanner
from countersteer.policies.storage import load_policy
from countersteer.recipes.reprojection import reprojection
from countersteer.worlds.observations import Observation
from countersteer.worlds.renderers.boxes.appearance import AppearanceRandomization
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.renderers.films import RenderedLogs
from countersteer.worlds.simulation.recorded import RecordedSimulationSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec

BANDS = (-0.75, -0.25, 0.25, 0.75)  # [m]


def look(roads: int, frames: int) -> tuple[Observation, Observation, Tensor, Tensor]:
    """The same poses beside recorded paths, reprojected and true, in which band they lie, and which are to learn from."""
    recipe = reprojection()
    films = recipe.stage.equipped_world
    assert isinstance(films.simulation, RecordedSimulationSpec)
    logs = films.simulation.logs
    assert isinstance(logs, RenderedLogs)
    assert isinstance(recipe.stage.scenarios, ProceduralRoads)
    scenarios = dataclasses.replace(recipe.stage.scenarios, count=roads, seed=77).load()
    per_road = frames // roads
    scene = torch.arange(roads).repeat_interleave(per_road)
    generator = torch.Generator().manual_seed(0)
    tick = torch.randint(10, 160, (len(scene),), generator=generator)
    lateral = 2.5 * torch.rand(len(scene), 1, generator=generator) - 1.25
    heading = 0.12 * torch.rand(len(scene), 1, generator=generator) - 0.06
    seen = []
    looks = AppearanceRandomization(logs.colours, 0.0, 0.0)
    oracle = WorldSpec(RoadSimulationSpec(), BoxRendererSpec(looks), sensors=films.cameras)
    # A film's looks hang on the identity that it was filmed with.
    identity = torch.tensor([int(scenario.fingerprint()[:12], 16) for scenario in scenarios])[scene]
    for spec in (films, oracle):
        world = spec.build(scenarios, len(scene), logs.seed)
        world.reset(
            torch.ones(len(scene), dtype=torch.bool), world.starts_at(scene, tick, identity, jitter=False)
        )
        world.perturb(lateral, heading, torch.ones_like(lateral))
        seen.append(world.observe())
    band = torch.bucketize(lateral[:, 0], torch.tensor(BANDS))
    return seen[0], seen[1], band, scene < 0.7 * roads


@torch.no_grad()
def features(planner: CNNPlanner, seen: Observation, noisy: bool) -> Tensor:
    """Image features of every car."""
    torch.manual_seed(1)
    parts = [planner.train(noisy).encode(seen[k : k + 256]) for k in range(0, len(seen.intent.command), 256)]
    return torch.cat(parts)[:, 0, : planner.spec.features]


def classify(inputs: Tensor, band: Tensor, learn: Tensor, asked: Tensor) -> float:
    """Share of right answers on the roads that were not learned from; logistic regression, by L-BFGS."""
    mean, scale = inputs[learn].mean(0), inputs[learn].std(0) + 1e-6
    layer = torch.nn.Linear(inputs.shape[1], len(BANDS) + 1)
    torch.nn.init.zeros_(layer.weight)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    known = (inputs[learn] - mean) / scale

    def loss() -> Tensor:
        optimizer.zero_grad()
        miss = torch.nn.functional.cross_entropy(layer(known), band[learn])
        total = miss + 1e-3 * layer.weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)  # type: ignore[arg-type]
    answer = layer((asked[~learn] - mean) / scale).argmax(-1)
    return float((answer == band[~learn]).double().mean())


def main() -> None:
    """Ask every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--roads", type=int, default=20)
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    torch.set_num_threads(1)
    departed, true, band, learn = look(known.roads, known.frames)
    rows = []
    for run in known.runs:
        planner, metadata = load_policy(run)
        assert isinstance(planner, CNNPlanner)
        row: dict[str, object] = {
            "run": run.name,
            "recipe": metadata["recipe"],
            "bottleneck_bits": planner.spec.bottleneck_bits,
        }
        for noisy in (False, True) if planner.spec.bottleneck_bits is not None else (False,):
            here, there = (features(planner, seen, noisy) for seen in (departed, true))
            row["noisy" if noisy else "clear"] = {
                "reprojected": classify(here, band, learn, here),
                "true": classify(there, band, learn, there),
                "learned reprojected, asked true": classify(here, band, learn, there),
            }
        if planner.spec.bottleneck_bits is not None:
            row["bits"] = planner.bits(features(planner, departed, False))
        rows.append(row)
        print(json.dumps(row))
    if known.json is not None:
        known.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
