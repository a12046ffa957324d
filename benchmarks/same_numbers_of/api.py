"""How a tree of countersteer is asked for what `same_numbers` measures: an `Api`, of which each version has its own.

What the versions have in common is written here. Everything is said by the names of 0.1, so that files can be compared.
"""

from __future__ import annotations

import abc
import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = ["Api", "BoxWorld", "Watch", "leaves_of"]


def leaves_of(**trees: Any) -> dict[str, Any]:
    """Tensors by dotted name, of tensors, dictionaries and trees with a method `flatten`; None is left out."""
    found: dict[str, Any] = {}
    for prefix, tree in trees.items():
        if tree is None:
            continue
        if hasattr(tree, "detach") or isinstance(tree, np.ndarray):
            found[prefix] = tree
        else:
            items = tree if isinstance(tree, dict) else tree.flatten()
            found |= {f"{prefix}.{name}": leaf for name, leaf in items.items()}
    return found


class Watch(Protocol):
    """What is told while a recipe is trained."""

    def scenarios(self, fingerprints: dict[str, str]) -> None:
        """What is driven in."""

    def rollout(self, number: int, leaves: dict[str, Any]) -> None:
        """What was driven in a round."""

    def outcomes(self, number: int, frames: int, outcomes: dict[str, float]) -> None:
        """How its drives ended."""

    def learned(self, step: int, logged: dict[str, float]) -> None:
        """A gradient step."""


class BoxWorld:
    """A world of boxes by its plainest verbs; tensors in, dictionaries of tensors out."""

    def __init__(self, world: Any):
        self.world = world
        self.batch, self.agents = world.batch, world.agents

    def begin(self, mask: Any, drives: Any, *, all_given: bool) -> None:
        """Begin the masked drives with drives of these identities, giving starts for all, or only for those."""
        starts = self.world.draw_starts(drives if all_given else drives[mask])
        self.world.reset(mask, starts)

    def act(self, curvature: Any, acceleration: Any) -> dict[str, Any]:
        """A tick with commands."""
        from countersteer.vehicles.plans import Action

        return leaves_of(events=self.world.step(Action(curvature, acceleration)))

    def jerk(self, longitudinal: Any, lateral: Any) -> dict[str, Any]:
        """A tick with jerks."""
        from countersteer.vehicles.plans import JerkAction

        action = JerkAction(longitudinal, lateral)
        told = leaves_of(command=self.world.command(action))
        return told | leaves_of(events=self.world.step(action))

    def displace(self, lateral: Any, heading: Any, speed: Any) -> None:
        """Move the cars."""
        self.world.displace(lateral, heading, speed)

    def fork(self, rows: Any, *, fresh_noise: bool) -> BoxWorld:
        """A copy of some drives."""
        return type(self)(self.world.fork(rows, fresh_noise=fresh_noise))

    def look(self) -> dict[str, Any]:
        """Everything that can be asked of it."""
        import torch

        world = self.world
        truth = world.truth()
        return leaves_of(
            observation=world.observe(),
            truth=self.truth(truth),
            motion=world.motion(),
            confidence=world.confidence(),
            alive=world.alive(),
            drives=world.drives(),
            boxes=self.boxes(truth),
            path=world.path_at(truth.arc[..., None] + torch.arange(0.0, 60.0, 7.0)),
            log=world.log_at(torch.arange(1, 9) * 0.5),
        )

    def truth(self, truth: Any) -> dict[str, Any]:
        """What of the truth is compared."""
        return truth.flatten()

    def boxes(self, truth: Any) -> Any:
        """Of every actor."""
        return self.world.boxes()

    def state(self) -> dict[str, Any]:
        """What of the state is compared."""
        return self.world.save()

    def save(self) -> dict[str, Any]:
        """The whole state, for `restore`."""
        return self.world.save()

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.world.restore(saved)


class Api(abc.ABC):
    """How a tree is asked. Settings are those of `same_numbers_parts`."""

    @abc.abstractmethod
    def boxworld(self, settings: dict[str, Any]) -> BoxWorld:
        """A world full of cars, cameras and the vector sensor."""

    @abc.abstractmethod
    def reprojection(
        self, settings: dict[str, Any], driver: str
    ) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        """What a world of recordings was loaded with, and an iterator over the leaves of each tick."""

    @abc.abstractmethod
    def train(
        self, name: str, settings: dict[str, Any], out: Path, watch: Watch, seed: int
    ) -> dict[str, Any]:
        """Train a shrunk recipe by the project's own loop; returns the state of the finished policy."""

    @abc.abstractmethod
    def suite(self, suite: str, driver: str, more: dict[str, Any]) -> Any:
        """The result of a suite, with records; `more` are the roads of "recorded_more"."""

    def cases(self, result: Any) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Name, verdict and fields of each drive of a suite's result."""
        for case, record in zip(result.cases, result.records, strict=True):
            fields = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
            fields["scenario"] = record.scenario.fingerprint()
            fields |= {f"views.{name}": pictures for name, pictures in fields.pop("views").items()}
            verdict = {f.name: getattr(case, f.name) for f in dataclasses.fields(case) if f.name != "case"}
            yield case.case, verdict, fields

    @abc.abstractmethod
    def scores(self, result: Any) -> Iterator[tuple[str, str, Any, dict[str, Any], int]]:
        """Benchmark, case, value, parts and number of findings of every score of a suite's result."""

    @abc.abstractmethod
    def held_out_error(self) -> float:
        """Open-loop error of the shipped policy."""

    @abc.abstractmethod
    def population(self, row: str, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
        """Arrays of what became of the cars of a population, and their means."""

    def weights(self, name: str) -> Path:
        """File of a policy that comes with the package."""
        from importlib.resources import files

        return Path(str(files("countersteer.recipes") / "weights" / f"{name}.safetensors"))

    def roads(self, settings: dict[str, Any]) -> list[Any]:
        """Of self-play."""
        make = importlib.import_module("countersteer.recipes.self_play").roads
        return make(settings["roads"], seed=settings["roads_seed"]).load()
