"""The examples run, each by the command that it names, with small budgets; what the tutorial shows of them is in them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from countersteer.data.sources import ProceduralRoads
from countersteer.policies.storage import load_policy
from countersteer.scenarios.procedural import RoadKind
from countersteer.scenarios.storage import load
from countersteer.training.recipe import Recipe
from countersteer.training.run import train
from countersteer.training.stages import OptimSpec, RolloutSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec
from examples_here import EXAMPLES, example

TUTORIAL = EXAMPLES.parent / "docs" / "tutorials" / "your_own_parts.md"
FEW = ProceduralRoads(count=2, kinds=(RoadKind.STRAIGHT,), traffic=(0, 1), length=300.0)


def small(recipe: Recipe) -> Recipe:
    """The recipe with two roads and a handful of steps."""
    return recipe.replace(
        scenarios=FEW,
        rollouts=RolloutSpec(iterations=2, total_frames=48, num_worlds=3),
        optim=OptimSpec(steps=4, batch_size=2, sequence_length=4, warmup=1),
    )


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_says_how_it_is_run(file: Path):
    text = file.read_text()
    assert re.search(
        rf"^(python|countersteer train) examples/{file.name}\b", text.split('"""')[1], re.MULTILINE
    )
    example(file.stem)


def test_a_world_of_your_own_is_learned_in(capsys: pytest.CaptureFixture[str]):
    example("bring_your_own_world").main(updates=60)
    assert "mean size of the features" in capsys.readouterr().out


def test_a_policy_of_your_own_is_trained_and_drives_again(tmp_path: Path):
    mine = example("bring_your_own_policy")
    recipe = small(mine.tiny())
    recipe.check()
    policy, _ = load_policy(train(recipe, tmp_path / "run"), (mine,))
    assert isinstance(policy, mine.Tiny)
    assert policy.spec == recipe.stage.policy
    assert bool((policy.answer.weight != 0).any())


def test_a_driver_of_your_own_makes_training_data(tmp_path: Path):
    recipe = small(example("bring_your_own_driver").cautious())
    recipe.check()
    cameras = (dataclasses.replace(recipe.stage.policy.cameras[0], width=32, height=16),)
    narrow = dataclasses.replace(recipe.stage.policy, cameras=cameras, channels=(4, 8), hidden=16)
    assert train(recipe.replace(policy=narrow), tmp_path / "run").is_file()


def test_a_driver_of_your_own_searches_with_a_trained_policy(capsys: pytest.CaptureFixture[str]):
    example("bring_your_own_driver").main(drives=1, ticks=3)
    assert "SearchDriver" in capsys.readouterr().out


def test_a_log_of_your_own_is_a_road_to_drive(tmp_path: Path):
    run = [sys.executable, str(EXAMPLES / "bring_your_own_log.py")]
    source = os.pathsep.join([str(EXAMPLES.parent / "src"), os.environ.get("PYTHONPATH", "")])
    subprocess.run(run, cwd=tmp_path, env={**os.environ, "PYTHONPATH": source}, check=True)
    world = WorldSpec(RoadSimulationSpec()).build([load(tmp_path / "runs" / "my_log")], 1, seed=0)
    row = torch.zeros(1, dtype=torch.long)
    world.reset(torch.ones(1, dtype=torch.bool), world.starts_at(row, row, row, jitter=False))
    assert abs(float(world.truth().lateral)) < 0.1
    assert float(world.truth().speed) == pytest.approx(12.26, abs=0.1)  # 12 m/s along, 2.5 m/s across


def test_ppo_runs(capsys: pytest.CaptureFixture[str]):
    ppo = example("ppo")
    budget = ppo.Settings(
        total_timesteps=2 * 8 * 8, num_envs=8, num_steps=8, num_minibatches=2, test_drives=2
    )
    with contextlib.suppress(SystemExit):  # so little teaches nothing, and it says so
        ppo.main(budget)
    assert "learned" in capsys.readouterr().out


@pytest.mark.slow
def test_ppo_learns(capsys: pytest.CaptureFixture[str]):
    ppo = example("ppo")
    ppo.main(ppo.Settings())


def test_what_the_tutorial_shows_is_in_the_examples():
    sources = [file.read_text() for file in EXAMPLES.glob("*.py")]
    shown = re.findall(r"^```python\n(.*?)^```", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    assert shown
    for block in shown:
        assert any(block.strip() in source for source in sources), block
