"""How trees of 0.1 are asked."""

# What is imported here is not in this tree.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportArgumentType=false, reportOptionalMemberAccess=false

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from same_numbers_of.api import Api, BoxWorld, Watch, leaves_of

__all__ = ["Api01"]


class Api01(Api):
    """Trees of 0.1, the last of which is 90f09b7."""

    # worlds

    def boxworld(self, settings: dict[str, Any]) -> BoxWorld:
        """See `Api.boxworld`."""
        from countersteer.worlds.boxworld.engine import Engine

        from countersteer.geometry.cameras import Camera
        from countersteer.recipes.self_play import roads, self_play_world
        from countersteer.traffic.idm import IDM
        from countersteer.vehicles.bicycle import VehicleSpec

        spec = self_play_world(settings["agents"])
        spec = dataclasses.replace(
            spec,
            cameras=tuple(Camera(**camera) for camera in settings["cameras"]),
            traffic=IDM(),
            vehicle=VehicleSpec(),
            start=dataclasses.replace(spec.start, command_share=settings["command_share"]),
            duration=settings["duration"],
            navigation=True,
            target_points=True,
            vector_dropout=settings["vector_dropout"],
            engine=Engine[settings.get("engine", "AUTO")],
        )
        scenarios = roads(settings["roads"], seed=settings["roads_seed"]).load()
        return BoxWorld(spec.build(scenarios, settings["drives"], settings["seed"]))

    def reprojection(self, settings: dict[str, Any], driver: str) -> tuple[dict[str, Any], Any]:
        """See `Api.reprojection`."""
        import torch
        from countersteer.drivers.driving import Driving
        from countersteer.drivers.expert import ExpertDriver
        from countersteer.drivers.perturbed import PerturbedDriver

        from countersteer.recipes import reprojection

        recipe = reprojection.reprojection()
        scenarios = dataclasses.replace(recipe.scenarios, count=settings["roads"]).load()
        world = recipe.world.build(scenarios, settings["drives"], settings["seed"])
        who = ExpertDriver()
        if driver == "perturbed":
            who = PerturbedDriver(who, period=settings["period"])
        driving = Driving(world, who, None, recipe.expert, settings["seed"], sensors=("front", "front.twin"))

        def ticks() -> Any:
            rows = torch.arange(settings["drives"])
            driving.begin(torch.ones_like(rows, dtype=torch.bool), world.draw_starts(rows))
            for _ in range(settings["ticks"]):
                before = leaves_of(
                    truth=world.truth(),
                    confidence=world.confidence(),
                    log=world.log_at(torch.arange(1, 5) * 0.5),
                )
                turn = driving.tick()
                yield before | leaves_of(
                    observation=turn.observation,
                    label=turn.label,
                    action=turn.decision.action,
                    displacement=turn.decision.displacement,
                    events=turn.events,
                    first=turn.first,
                    alive=turn.alive,
                    state=world.save(),
                )

        loaded = leaves_of(frames=world.frames, recordings=world.recordings)
        return loaded | {f"scenario.{s.id}": s.fingerprint() for s in world.scenarios}, ticks()

    # training

    def train(
        self, name: str, settings: dict[str, Any], out: Path, watch: Watch, seed: int
    ) -> dict[str, Any]:
        """See `Api.train`."""
        import torch

        from countersteer.policies.storage import load_policy
        from countersteer.training.collector import Collector, InlineCollector
        from countersteer.training.run import Progress, train

        class Told(Progress):
            def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
                watch.learned(step, logged)

            def collected(
                self, round_number: int, rounds: int, frames: int, seconds: float, outcomes: dict[str, float]
            ) -> None:
                watch.outcomes(round_number, frames, outcomes)

        class Watched(Collector):
            def __init__(self, recipe: Any, seed: int):
                self.inner, self.recipe = InlineCollector(recipe, seed), recipe

            def fingerprints(self) -> dict[str, str]:
                watch.scenarios(self.inner.fingerprints())
                return self.inner.fingerprints()

            def collect(self, request: Any) -> Any:
                rollout = self.inner.collect(request)
                watch.rollout(request.round_in(self.recipe), rollout.flatten())
                return rollout

        recipe = self._shrunk(self._recipe(name), settings)
        # As the command line does.
        torch.set_flush_denormal(True)
        try:
            file = train(recipe, out, seed=seed, progress=Told(), collector=Watched)
        finally:
            torch.set_flush_denormal(False)
        return load_policy(file)[0].state_dict()

    def _recipe(self, name: str) -> Any:
        import importlib

        from countersteer.cli import _RECIPES

        make = getattr(importlib.import_module(f"countersteer.recipes.{_RECIPES[name]}"), name)
        teacher = str(self.weights("self_play_teacher"))
        if name == "self_play_adapted":
            return make(str(self.weights("self_play")), teacher)
        return make(teacher) if name.startswith("self_play") and name != "self_play_teacher" else make()

    def _shrunk(self, recipe: Any, settings: dict[str, Any]) -> Any:
        from countersteer.scenarios.sources import Combined, ProceduralRoads

        def fewer(source: Any) -> Any:
            if isinstance(source, Combined):
                return Combined(tuple(fewer(each) for each in source.sources))
            if isinstance(source, ProceduralRoads):
                return dataclasses.replace(source, count=settings["roads"])
            return source

        names = ("rounds", "frames", "drives", "first_round_share", "last_learning_share")
        return dataclasses.replace(
            recipe,
            scenarios=fewer(recipe.scenarios),
            collection=dataclasses.replace(
                recipe.collection, **{n: settings[n] for n in names if n in settings}
            ),
            learning=dataclasses.replace(recipe.learning, steps=settings["steps"]),
        )

    # evaluation

    def suite(self, suite: str, driver: str, more: dict[str, Any]) -> Any:
        """See `Api.suite`."""
        from countersteer.scenarios.sources import ProceduralRoads

        from countersteer.evaluation import suites
        from countersteer.policies.storage import load_policy

        if suite == "recorded_more":
            made = suites.recorded(ProceduralRoads(**more))
        else:
            made = getattr(suites, suite)()
        if driver == "expert":
            return suites.run_suite(made, "expert", None, frames=True)
        policy, _ = load_policy(self.weights(driver))
        return suites.run_suite(suites.suite_for(policy.spec, made), driver, policy, frames=True)

    def scores(self, result: Any) -> Any:
        """See `Api.scores`."""
        from countersteer.evaluation.scoring import BENCHMARKS, score_suite

        for score in score_suite(result, BENCHMARKS):
            for drive in score.drives:
                yield score.benchmark, drive.case, drive.value, dict(drive.parts), len(drive.findings)

    def held_out_error(self) -> float:
        """See `Api.held_out_error`."""
        from countersteer.recipes.main_job import held_out_error

        return held_out_error(self.weights("on_policy"))

    def population(self, row: str, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
        """See `Api.population`; as `self_play_report` drives them."""
        from countersteer.drivers.expert import ExpertDriver
        from countersteer.recipes.self_play_job import Straight, _middle, _seat
        from countersteer.worlds.boxworld.gap import Gap

        from countersteer.evaluation.population import drive_population
        from countersteer.experts.recovery import RecoveryExpert
        from countersteer.policies.storage import load_policy
        from countersteer.recipes.self_play import roads, self_play_world

        scenarios = roads(settings["worlds"], seed=settings["roads_seed"]).load()
        gap = Gap() if row == "student_gap" else None
        spec = dataclasses.replace(self_play_world(), vector_dropout=(0.0, 0.0), gap=gap)
        driver, policy, how = Straight(), None, {}
        if row == "rules":
            driver, how = ExpertDriver(), {"expert": RecoveryExpert()}
        elif row != "straight":
            shipped = "self_play" if row.startswith("student") else "self_play_teacher"
            policy, _ = load_policy(self.weights(shipped))
            spec, driver = _seat(spec, policy)
        if row == "teacher_fast":
            ranges = policy.spec.coefficients
            high = ranges.velocity[1]
            how = {"coefficients": dataclasses.replace(_middle(ranges), velocity=(high, high))}
        world = spec.build(scenarios, len(scenarios), settings["seed"])
        found = drive_population(world, driver, policy, seed=settings["seed"], **how)
        arrays = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
        return arrays | {"score": found.score}, found.shares()
