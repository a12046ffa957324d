"""Self-play from pixels, after Gigapixel (arXiv 2606.19641): a teacher that sees everything, a student that sees pictures.

    countersteer train self_play_teacher --out runs/teacher      an hour on two 2.5 GHz cores
    countersteer train self_play --out runs/student --expert.teacher runs/teacher --driver.expert.teacher runs/teacher

Every car of every world is driven by the same network. The teacher reads the vector observation and learns from
rewards whose coefficients differ from car to car and are part of what it reads. The student sees pictures; it
drives more and more of the cars itself, and learns at every state from where the teacher would go from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from countersteer.data.sources import ProceduralRoads
from countersteer.drivers.choice import CategoricalDriver
from countersteer.drivers.mixed import LinearSchedule, MixedDriver
from countersteer.drivers.policy import PolicyDriver
from countersteer.drivers.roles import EgoAndOthersDriver
from countersteer.drivers.teacher import TeacherDriver
from countersteer.experts.teacher import RolloutExpert
from countersteer.geometry.cameras import Camera
from countersteer.objectives.adaptation import Adaptation
from countersteer.objectives.imitation import Imitation
from countersteer.objectives.ppo import PPO
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.policies.teacher import SetActorCriticSpec
from countersteer.policies.vit import ViTPlannerSpec
from countersteer.recipes.recordings import drivable_scenarios
from countersteer.rewards.rewards import RewardWeights, WeightedReward
from countersteer.scenarios.procedural import RoadKind
from countersteer.traffic.idm import IDM
from countersteer.training.recipe import OptimSpec, Recipe, RolloutSpec
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import PlanSpec
from countersteer.vehicles.trackers import LQR
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.renderers.boxes.gap import CameraDomainShift
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.simulation.spec import BoxWorldSpec, StartSpec

__all__ = [
    "on_scenarios",
    "roads",
    "self_play",
    "self_play_adapted",
    "self_play_clone",
    "self_play_single",
    "self_play_teacher",
    "self_play_vit",
    "self_play_world",
    "student_driver",
]

_SEES = VectorSpec(cars=12, lanes=16, edges=16, lights=2, route=(2.5, 5.0, 10.0, 20.0, 40.0))


def roads(count: int = 240, seed: int = 0) -> ProceduralRoads:
    """Roads full of cars, in the country and in towns, every other one a crossing; sets of other seeds share none."""
    return ProceduralRoads(
        count=count,
        seed=seed,
        kinds=(
            RoadKind.GENTLE,
            RoadKind.STREET,
            RoadKind.JUNCTION,
            RoadKind.TIGHT,
            RoadKind.JUNCTION,
            RoadKind.STREET,
            RoadKind.S_CURVE,
            RoadKind.JUNCTION,
            RoadKind.STREET,
            RoadKind.RAMP,
            RoadKind.JUNCTION,
        ),
        lanes=(1, 3),
        traffic=(8, 14),
        intersections=0.2,
    )


def self_play_world(agents: int = 12) -> BoxWorldSpec:
    """A world in which every car is driven; each has a goal ahead on its path and leaves when it is there."""
    return BoxWorldSpec(
        cameras=(),
        agents=agents,
        min_agents=2,
        duration=20.0,
        vehicle=VehicleSpec(
            delay=(0.0, 0.0),
            curvature_gain=(1.0, 1.0),
            curvature_bias=(0.0, 0.0),
            acceleration_gain=(1.0, 1.0),
        ),
        jerk=JerkSpec(),
        start=StartSpec(lateral=0.2, heading=0.03, speed=0.1, set_speed=(0.8, 1.1), goal=(40.0, 110.0)),
        max_route_deviation=6.0,
        terminate=(
            TerminationReason.COLLISION,
            TerminationReason.OFF_ROAD,
            TerminationReason.OFF_ROUTE,
            TerminationReason.INVALID_STATE,
            TerminationReason.GOAL,
        ),
        remove_done_agents=True,
        vector=_SEES,
        vector_dropout=(0.3, 0.3),
    )


def self_play_teacher() -> Recipe:
    """The privileged teacher: PPO in worlds where every car is itself."""
    coefficients = RewardWeights()
    drives, agents, ticks, rounds = 32, 12, 129, 400
    return Recipe(
        name="self_play_teacher",
        scenarios=roads(),
        world=self_play_world(agents),
        policy=SetActorCriticSpec(vector=_SEES, coefficients=coefficients, item=32, hidden=192),
        expert=None,
        driver=CategoricalDriver(),
        objective=PPO(
            reward=WeightedReward(dt=0.1),
            coefficients=coefficients,
            entropy_weight=0.005,
            # Else a collision costs all that was still to come, whatever the car was told that it costs; and a goal too.
            again=(TerminationReason.COLLISION, TerminationReason.GOAL),
        ),
        collection=RolloutSpec.even(
            rounds, rounds * drives * agents * ticks, drives, min_active_fraction=0.3
        ),
        # Three passes over a round, 16 cars at a time.
        learning=OptimSpec(
            steps=rounds * 72,
            sequences=16,
            length=ticks,
            learning_rate=7e-4,
            weight_decay=0.0,
            clip=0.5,
            checkpoint_every=720,
        ),
    )


_PLAN = PlanSpec(points=8, interval=0.5)
_CAMERA = Camera(width=128, height=64)
_JERK = JerkSpec()


def _student_world(agents: int) -> BoxWorldSpec:
    world = self_play_world(agents)
    return dataclasses.replace(world, cameras=(_CAMERA,), navigation=True, vector_dropout=(0.0, 0.0))


def student_driver() -> EgoAndOthersDriver:
    """How students drive a population: the ego tracks its plan, the others take their likeliest jerks."""
    return EgoAndOthersDriver(PolicyDriver(LQR(), _PLAN), CategoricalDriver(_JERK, greedy=True))


def self_play(teacher: str = "runs/teacher") -> Recipe:
    """The student: DAgger in worlds where every car is the student, or the teacher while it is young."""
    return Recipe(
        name="self_play",
        scenarios=roads(),
        world=_student_world(agents=8),
        policy=CNNPlannerSpec(cameras=(_CAMERA,), plan=_PLAN, navigation=True, choices=_JERK.choices),
        expert=RolloutExpert(teacher, _PLAN, hold=2),
        driver=MixedDriver(
            TeacherDriver(teacher),
            student_driver(),
            expert_probability=LinearSchedule(1.0, 0.0, (0.0, 0.8)),
            hold=2.0,
        ),
        objective=Imitation(mirror=False, turn_weight=5.0),
        collection=RolloutSpec(rounds=6, frames=100_000, drives=24, min_active_fraction=0.3),
        learning=OptimSpec(steps=4_000),
    )


def self_play_vit(teacher: str = "runs/teacher") -> Recipe:
    """The student of `self_play` with the planner of Gigapixel and DrivoR: a small vision transformer with registers."""
    recipe = self_play(teacher)
    return dataclasses.replace(
        recipe,
        name="self_play_vit",
        policy=ViTPlannerSpec(
            cameras=(_CAMERA,), plan=_PLAN, target_points=0, navigation=True, choices=_JERK.choices
        ),
    )


def self_play_single(teacher: str = "runs/teacher") -> Recipe:
    """DAgger by one student a world, everybody else replayed or reacting by rule; the labels of `self_play`."""
    recipe = self_play(teacher)
    collection = recipe.collection
    return dataclasses.replace(
        recipe,
        name="self_play_single",
        world=dataclasses.replace(_student_world(agents=1), min_agents=1, traffic=IDM()),
        collection=dataclasses.replace(collection, drives=8 * collection.drives),
    )


def self_play_clone(teacher: str = "runs/teacher") -> Recipe:
    """Behaviour cloning of the teacher on the teacher's own drives, with the budget of `self_play`."""
    recipe = self_play(teacher)
    return dataclasses.replace(
        recipe,
        name="self_play_clone",
        driver=TeacherDriver(teacher),
        collection=dataclasses.replace(recipe.collection, rounds=1),
    )


def self_play_adapted(student: str = "runs/student", teacher: str = "runs/teacher") -> Recipe:
    """The student of `self_play` learns to see what other cameras show; only its perception learns.

    The cameras here are boxworld's own behind a `CameraDomainShift`, so that what it wins can be driven and measured. With a
    `ReprojectionSpec` and a `CameraDrive` instead, it learns from recordings whose road users are annotated. The
    frames come from the teacher's drives, as recordings come from somebody who drives well.
    """
    recipe = self_play(teacher)
    return dataclasses.replace(
        recipe,
        name="self_play_adapted",
        world=dataclasses.replace(_student_world(agents=8), gap=CameraDomainShift()),
        expert=None,
        driver=TeacherDriver(teacher),
        objective=Adaptation(student),
        collection=dataclasses.replace(recipe.collection, rounds=1, frames=20_000),
        learning=OptimSpec(steps=1_000, learning_rate=1e-3, weight_decay=0.0),
        begin=student,
    )


def on_scenarios(recipe: Recipe, folder: Path, message: Callable[[str], None] = print) -> Recipe:
    """A recipe in recorded scenarios: every recorded vehicle that moves is a car to drive, as many as there are.

    Args:
        recipe: Who drives, and how much.
        folder: Scenarios in any format that is read.
        message: Told which of them nobody can drive in.

    Raises:
        UserError: Nothing there can be driven.
    """
    assert isinstance(recipe.world, BoxWorldSpec)
    world = dataclasses.replace(recipe.world, min_agents=1)
    return dataclasses.replace(recipe, world=world, scenarios=drivable_scenarios(folder, world, message))
