"""Actors of Ray: the rollouts of inline ones, weights of when they began, and the loss of an actor."""

from __future__ import annotations

import json
import signal
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

import tiny_recipe
from countersteer.errors import MissingExtraError, UserError
from countersteer.training import ray_collector
from countersteer.training.collector import InlineCollector, RolloutRequest
from countersteer.training.run import train
from countersteer.training.stages import RolloutSpec


def assert_same(a, b) -> None:
    a, b = a.flatten(), b.flatten()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"countersteer\[ray\]"):
        ray_collector.RayCollector(tiny_recipe.tiny().stage, 0)


class HasGPUs:
    """As much of Ray as is asked where there are GPUs."""

    def __init__(self, count: float):
        self.count = count

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0, "GPU": self.count} if self.count else {"CPU": 4.0}


@pytest.mark.parametrize(
    ("device", "gpus", "actors", "each"),
    [("cpu", 0, 3, 0.0), ("cuda", 1, 1, 1.0), ("cuda", 1, 3, 0.3333), ("cuda", 8, 2, 1.0)],
)
def test_actors_share_the_gpus_that_ray_has(device, gpus, actors, each):
    assert ray_collector._gpus_each(HasGPUs(gpus), device, actors) == each


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0), ("cuda:1", 2)])
def test_actors_are_refused_a_gpu_that_ray_does_not_give(device, gpus):
    with pytest.raises(UserError, match="actors of Ray"):
        ray_collector._gpus_each(HasGPUs(gpus), device, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_actors_drive_ahead_with_the_weights_they_began_with_and_one_may_die(tmp_path: Path):
    """Rollouts are those of the inline collector with the logged weights, also of the round whose actor was killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = pytest.importorskip("ray", reason="Ray is not installed")
    # Long enough that an actor can be killed on the way.
    recipe = tiny_recipe.tiny().replace(rollouts=RolloutSpec(iterations=3, total_frames=720, num_worlds=3))
    stage = recipe.stage
    inline = InlineCollector(stage, 3)
    torch.manual_seed(1)
    old, new = (stage.policy.build().state_dict() for _ in range(2))
    before = signal.getsignal(signal.SIGTERM)
    actors = ray_collector.RayCollector(stage, 3, actors=2)
    assert signal.getsignal(signal.SIGTERM) is before, "Ray puts its own"
    try:
        first = actors.collect(RolloutRequest.of_iteration(stage, 0, 10, old))
        assert_same(first, inline.collect(RolloutRequest.of_iteration(stage, 0, 10, old)))
        # Round 1 was handed out with round 0, so newer weights come too late for it.
        second = actors.collect(RolloutRequest.of_iteration(stage, 1, 20, new))
        # Round 2 is being driven with the weights of 20. Its actor dies: only that rollout is driven again.
        ray.kill(actors._actors[actors._driving[2][0]])
        assert int(second.policy_version.max()) == 10
        assert_same(second, inline.collect(RolloutRequest.of_iteration(stage, 1, 10, old)))
        third = actors.collect(RolloutRequest.of_iteration(stage, 2, 30, old))
        assert actors.lost == [2]
        assert_same(third, inline.collect(RolloutRequest.of_iteration(stage, 2, 30, old)))
        assert actors.fingerprints() == inline.fingerprints()
    finally:
        actors.close()
    run = tmp_path / "run"
    train(recipe, run, seed=3, collector=partial(ray_collector.RayCollector, actors=2))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    stale = [line["staleness"] for line in lines if "staleness" in line]
    assert len(stale) == 3
    assert stale[0] == 0.0
    assert stale[1] > 0.0, "rounds after the first were begun while older weights were learned with"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_actors_killed_as_they_start_are_replaced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = pytest.importorskip("ray", reason="Ray is not installed")
    stage = tiny_recipe.tiny().stage
    inline = InlineCollector(stage, 3)
    state = stage.policy.build().state_dict()
    actors = ray_collector.RayCollector(stage, 3, actors=2)
    try:
        for each in actors._actors:
            ray.kill(each)
        assert actors.fingerprints() == inline.fingerprints()
        for number in range(3):
            request = RolloutRequest.of_iteration(stage, number, 0, state)
            assert_same(actors.collect(request), inline.collect(request))
        assert actors.lost == [1]
        for each in actors._actors:
            ray.kill(each)
        once = RolloutRequest(0, 1, 0.0, 0, state)  # of no round, as a resumed run asks for
        assert_same(actors.collect(once), inline.collect(once))
    finally:
        actors.close()


class _Dying:
    """A Ray whose actors die when they are asked."""

    class exceptions:
        class RayActorError(Exception):
            pass

    def get(self, _: object) -> None:
        raise self.exceptions.RayActorError("The actor died: out of memory")

    def kill(self, actor: object) -> None: ...


def test_actors_that_die_every_time_end_in_an_error(monkeypatch):
    actors = object.__new__(ray_collector.RayCollector)
    actors.stage, actors._actors = tiny_recipe.tiny().stage, [None]
    monkeypatch.setattr(actors, "_ray", _Dying(), raising=False)
    asked: list[object] = []
    monkeypatch.setattr(actors, "_actor", lambda: None)
    with pytest.raises(UserError, match=r"died 3 times: The actor died: out of memory"):
        actors._ask(0, asked.append)
    assert len(asked) == 3
