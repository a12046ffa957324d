"""How trees of 0.2 are asked, and by which names 0.1 called what they answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from same_numbers_of.api import Api, BoxWorld, Watch, leaves_of

from countersteer.data.sources import Combined, ProceduralRoads
from countersteer.drivers.drivers import (
    CategoricalDriver,
    ConstantVelocityDriver,
    ExpertDriver,
    PerturbedDriver,
)
from countersteer.evaluation import suites
from countersteer.evaluation.benchmarks import BENCHMARKS
from countersteer.evaluation.population import Population, SelfPlaySuite
from countersteer.evaluation.scoring import score_suite
from countersteer.experts.recovery import RecoveryExpert
from countersteer.geometry.cameras import Camera
from countersteer.policies.storage import load_policy
from countersteer.policies.teacher import SetActorCriticSpec
from countersteer.policies.weights import Weights
from countersteer.recipes.find import find_recipe
from countersteer.recipes.reprojection import reprojection
from countersteer.recipes.self_play import self_play_world, student_driver
from countersteer.reporting.study import held_out_error
from countersteer.rewards.weights import RewardWeights
from countersteer.rollouts.rollouter import Rollouter
from countersteer.traffic.idm import IDM
from countersteer.training.collector import Collector, InlineCollector, RolloutRequest
from countersteer.training.recipe import Recipe
from countersteer.training.run import Progress, train
from countersteer.training.stages import ClosedLoop
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.worlds.backend import Backend
from countersteer.worlds.renderers.boxes.camera_shift import CameraDomainShift
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec

__all__ = ["Api02"]

FORMER_NAMES = {
    # of rollouts
    "action_index": "choice",
    "is_first": "first",
    "policy_in_control": "policy_drove",
    "policy_version": "version",
    "reward_weights": "condition",
    "label.action_index": "label.choice",
    # of outcomes, and of the shares of a population
    "invalid_state": "numeric",
    "off_route": "lost",
}
"""What 0.1 called what only its name has changed of."""

NEW_IN_TRUTH = {"goal_arc", "path_offset", "cause", "actors", "lights", "lanes"}
"""What 0.1 had too, in the state or as boxes, and is compared there."""

NEW_IN_STATE = ("renderer.", "twin.", "simulation.rows.", "simulation.traffic.")
"""What 0.1 computed anew each time, from what is in the state: pictures tell whether it is the same."""

BUDGET = {
    "drives": "num_worlds",
    "first_round_share": "first_iteration_share",
    "frames": "total_frames",
    "last_learning_share": "final_learning_share",
    "rounds": "iterations",
}
"""Settings of a training by what a `RolloutSpec` calls them."""


def formerly(named: dict[str, Any]) -> dict[str, Any]:
    """What is named, by its names in 0.1."""
    return {FORMER_NAMES.get(name, name): value for name, value in named.items()}


def state_of(world: Any) -> dict[str, Any]:
    """What of a world's state 0.1 had, by its names there."""
    leaves = world.save().items()
    return {n.removeprefix("simulation."): leaf for n, leaf in leaves if not n.startswith(NEW_IN_STATE)}


def truth_of(truth: Any) -> dict[str, Any]:
    """What of the truth 0.1 had."""
    return {name: leaf for name, leaf in truth.flatten().items() if name.split(".")[0] not in NEW_IN_TRUTH}


class BoxWorld02(BoxWorld):
    """See `BoxWorld`."""

    def displace(self, lateral: Any, heading: Any, speed: Any) -> None:
        """See `BoxWorld.displace`."""
        self.world.perturb(lateral, heading, speed)

    def truth(self, truth: Any) -> dict[str, Any]:
        """See `BoxWorld.truth`."""
        return truth_of(truth)

    def boxes(self, truth: Any) -> Any:
        """See `BoxWorld.boxes`, which were of double precision."""
        return truth.actors.boxes().double()

    def state(self) -> dict[str, Any]:
        """See `BoxWorld.state`."""
        return state_of(self.world)


class Api02(Api):
    """Trees of 0.2."""

    # worlds

    def boxworld(self, settings: dict[str, Any]) -> BoxWorld:
        """See `Api.boxworld`."""
        spec: Any = self_play_world(settings["agents"])
        cameras = tuple(Camera(**camera) for camera in settings["cameras"])
        spec = spec.carrying(*cameras, *spec.sensors).simulate(
            traffic=IDM(),
            vehicle=VehicleSpec(),
            start=dataclasses.replace(spec.simulation.start, command_share=settings["command_share"]),
            duration=settings["duration"],
            navigation=True,
            target_points=True,
            vector_dropout=settings["vector_dropout"],
            backend=Backend[settings.get("engine", "AUTO")],
        )
        return BoxWorld02(spec.build(self.roads(settings), settings["drives"], settings["seed"]))

    def reprojection(
        self, settings: dict[str, Any], driver: str
    ) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        """See `Api.reprojection`."""
        stage: Any = reprojection().stage
        scenarios = dataclasses.replace(stage.scenarios, count=settings["roads"]).load()
        spec = dataclasses.replace(stage.equipped_world, twin=BoxRendererSpec())
        world: Any = spec.build(scenarios, settings["drives"], settings["seed"])
        who = ExpertDriver()
        if driver == "perturbed":
            who = PerturbedDriver(who, period=settings["period"])
        driving = Rollouter(world, who, None, stage.expert, settings["seed"], sensors=("front", "front.twin"))

        def ticks() -> Iterator[dict[str, Any]]:
            rows = torch.arange(settings["drives"])
            driving.begin(torch.ones_like(rows, dtype=torch.bool), world.draw_starts(rows))
            for _ in range(settings["ticks"]):
                before = leaves_of(
                    truth=truth_of(world.truth()),
                    confidence=world.confidence(),
                    log=world.log_at(torch.arange(1, 5) * 0.5),
                )
                tick = driving.tick()
                yield before | leaves_of(
                    observation=tick.observation,
                    label=tick.label,
                    action=tick.decision.action,
                    displacement=tick.decision.perturbation,
                    events=tick.events,
                    first=tick.is_first,
                    alive=tick.alive,
                    state=state_of(world),
                )

        loaded = leaves_of(frames=world.renderer.frames, recordings=world.simulation.recordings)
        return loaded | {f"scenario.{s.id}": s.fingerprint() for s in world.scenarios}, ticks()

    # training

    def train(
        self, name: str, settings: dict[str, Any], out: Path, watch: Watch, seed: int
    ) -> dict[str, Any]:
        """See `Api.train`."""

        class Told(Progress):
            def learned(self, step: int, steps: int, logged: dict[str, float], samples_per_s: float) -> None:
                watch.learned(step, logged)

            def collected(
                self, round_number: int, rounds: int, frames: int, seconds: float, outcomes: dict[str, float]
            ) -> None:
                watch.outcomes(round_number, frames, formerly(outcomes))

        class Watched(Collector):
            def __init__(self, stage: ClosedLoop, seed: int, device: str):
                self.inner, self.stage = InlineCollector(stage, seed, device), stage

            def fingerprints(self) -> dict[str, str]:
                watch.scenarios(self.inner.fingerprints())
                return self.inner.fingerprints()

            def collect(self, request: RolloutRequest) -> Any:
                rollout = self.inner.collect(request)
                watch.rollout(request.iteration_in(self.stage), formerly(rollout.flatten()))
                return rollout

        recipe = self._shrunk(self._recipe(name), settings)
        # As the command line does.
        torch.set_flush_denormal(True)
        try:
            file = train(recipe, out, seed=seed, progress=Told(), collector=Watched)
        finally:
            torch.set_flush_denormal(False)
        return load_policy(file)[0].state_dict()

    def _recipe(self, name: str) -> Recipe:
        make = find_recipe(name).build
        student, teacher = (Weights(str(self.weights(n))) for n in ("self_play", "self_play_teacher"))
        if name == "self_play_adapted":
            return make(student, teacher)
        return make(teacher) if name.startswith("self_play") and name != "self_play_teacher" else make()

    def _shrunk(self, recipe: Recipe, settings: dict[str, Any]) -> Recipe:
        def fewer(source: Any) -> Any:
            if isinstance(source, Combined):
                return Combined(tuple(fewer(each) for each in source.sources))
            if isinstance(source, ProceduralRoads):
                return dataclasses.replace(source, count=settings["roads"])
            return source

        stage = recipe.stage
        budget: Any = {now: settings[then] for then, now in BUDGET.items() if then in settings}
        return recipe.replace(
            scenarios=fewer(stage.scenarios),
            rollouts=dataclasses.replace(stage.rollouts, **budget),
            optim=dataclasses.replace(stage.optim, steps=settings["steps"]),
        )

    # evaluation

    def suite(self, suite: str, driver: str, more: dict[str, Any]) -> Any:
        """See `Api.suite`."""
        if suite == "recorded_more":
            made = suites.recorded(ProceduralRoads(**more))
        else:
            made = getattr(suites, suite)()
        if driver == "expert":
            return suites.run_suite(made, "expert", None, frames=True)
        policy, _ = load_policy(self.weights(driver))
        return suites.run_suite(suites.suite_for(policy.spec, made), driver, policy, frames=True)

    def cases(self, result: Any) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """See `Api.cases`; reasons name causes."""
        for name, verdict, fields in super().cases(result):
            cause = verdict["reason"].removeprefix("ended: ")
            if cause != verdict["reason"]:
                former = FORMER_NAMES.get(cause.replace(" ", "_"), cause)
                verdict["reason"] = f"ended: {former}"
            # Whose record it is, and how high all are: 0.1 kept those of the first car only, and no heights.
            yield (
                name,
                verdict,
                {k: v for k, v in fields.items() if k not in ("slot", "start", "goal", "heights")},
            )

    def scores(self, result: Any) -> Iterator[tuple[str, str, Any, dict[str, Any], int]]:
        """See `Api.scores`."""
        for score in score_suite(result, BENCHMARKS):
            for drive in score.drives:
                yield score.benchmark, drive.case, drive.value, dict(drive.parts), len(drive.findings)

    def held_out_error(self) -> float:
        """See `Api.held_out_error`."""
        return held_out_error(self.weights("on_policy"))

    def population(self, row: str, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
        """See `Api.population`; as `self_play_report` drives them."""
        scenarios = self.roads({"roads": settings["worlds"], "roads_seed": settings["roads_seed"]})
        shift = CameraDomainShift() if row == "student_gap" else None
        spec = dataclasses.replace(
            self_play_world().simulate(vector_dropout=(0.0, 0.0)), renderer=BoxRendererSpec(shift=shift)
        )
        driver, policy, how = ConstantVelocityDriver(), None, {}
        if row == "rules":
            driver, how = ExpertDriver(), {"expert": RecoveryExpert()}
        elif row != "straight":
            student = row.startswith("student")
            policy, _ = load_policy(self.weights("self_play" if student else "self_play_teacher"))
            driver = student_driver() if student else CategoricalDriver(greedy=True)
        if row == "teacher_fast":
            assert policy is not None
            assert isinstance(policy.spec, SetActorCriticSpec)
            ranges = policy.spec.reward_weights
            middle = zip(RewardWeights.names(), ranges.middle().tolist(), strict=True)
            asked: Any = {name: (amount, amount) for name, amount in middle}
            high = ranges.velocity[1]
            how = {"coefficients": RewardWeights(**(asked | {"velocity": (high, high)}))}
        suite = SelfPlaySuite(spec, tuple(scenarios), seed=settings["seed"])
        found = Population.of(suite, suite.drive(row, driver, policy, **how))
        return {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}, formerly(found.shares())
