"""Self-play from pixels, after Gigapixel (arXiv 2606.19641): a teacher that sees everything, a student that sees pictures.

    countersteer train self_play --out runs/self_play      teacher, then student: hours on two 2.5 GHz cores

The stages lie in `runs/self_play/teacher` and `runs/self_play/student`. With a teacher that is there already,
`self_play(Weights("runs/teacher"))` is the student alone.

Every car of every world is driven by the same network. The teacher reads the vector observation and learns from
rewards whose coefficients differ from car to car and are part of what it reads. The student sees pictures; it
drives more and more of the cars itself, and learns at every state from where the teacher would go from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from countersteer.data.sources import ProceduralRoads
from countersteer.drivers.drivers import (
    CategoricalDriver,
    EgoAndOthersDriver,
    LinearSchedule,
    MixedDriver,
    PolicyDriver,
    TeacherDriver,
)
from countersteer.experts.teacher import RolloutExpert
from countersteer.geometry.cameras import Camera
from countersteer.objectives.adaptation import PerceptionAdaptation
from countersteer.objectives.imitation import Imitation
from countersteer.objectives.ppo import PPO
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.policies.teacher import SetActorCriticSpec
from countersteer.policies.vit import ViTPlannerSpec
from countersteer.policies.weights import Weights
from countersteer.recipes.recordings import drivable_scenarios
from countersteer.rewards.weighted import WeightedReward
from countersteer.scenarios.procedural import RoadKind
from countersteer.traffic.idm import IDM
from countersteer.training.recipe import Recipe
from countersteer.training.stages import ClosedLoop, OptimSpec, RolloutSpec
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import PlanSpec
from countersteer.vehicles.trackers import LQR
from countersteer.worlds.interface import TerminationReason
from countersteer.worlds.renderers.boxes.camera_shift import CameraDomainShift
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.simulation.spec import StartSpec
from countersteer.worlds.world import WorldSpec

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


def self_play_world(agents: int = 12) -> WorldSpec:
    """A world in which every car is driven; each has a goal ahead on its path and leaves when it is there."""
    simulation = RoadSimulationSpec(
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
        vector_dropout=(0.3, 0.3),
    )
    return WorldSpec(simulation, BoxRendererSpec(), sensors=(_SEES,))


def self_play_teacher() -> Recipe:
    """The privileged teacher: PPO in worlds where every car is itself."""
    num_worlds, agents, ticks, iterations = 32, 12, 129, 400
    stage = ClosedLoop(
        name="self_play_teacher",
        scenarios=roads(),
        world=self_play_world(agents),
        policy=SetActorCriticSpec(vector=_SEES, token_dim=32, hidden=192),
        expert=None,
        driver=CategoricalDriver(),
        objective=PPO(
            reward=WeightedReward(),
            entropy_weight=0.005,
            # Else a collision costs all that was still to come, whatever the car was told that it costs; and a goal too.
            respawn_on=(TerminationReason.COLLISION, TerminationReason.GOAL),
        ),
        rollouts=RolloutSpec.even(
            iterations, iterations * num_worlds * agents * ticks, num_worlds, min_active_fraction=0.3
        ),
        # Three passes over an iteration, 16 cars at a time.
        optim=OptimSpec(
            steps=iterations * 72,
            batch_size=16,
            sequence_length=ticks,
            learning_rate=7e-4,
            weight_decay=0.0,
            max_grad_norm=0.5,
            checkpoint_every=720,
        ),
    )
    return Recipe.of(stage)


_PLAN = PlanSpec(points=8, interval=0.5)
_CAMERA = Camera(width=128, height=64)
_JERK = JerkSpec()


def _student_world(agents: int) -> WorldSpec:
    world = self_play_world(agents)
    return world.simulate(navigation=True, vector_dropout=(0.0, 0.0))


def student_driver() -> EgoAndOthersDriver:
    """How students drive a population: the ego tracks its plan, the others take their likeliest jerks."""
    return EgoAndOthersDriver(PolicyDriver(LQR()), CategoricalDriver(greedy=True))


def _after_teacher(name: str, student: ClosedLoop, teacher: Weights | None) -> Recipe:
    """The student alone, or where there is no teacher yet, after the stage that makes it."""
    if teacher is not None:
        return Recipe.of(dataclasses.replace(student, name=name))
    return Recipe(name, (dataclasses.replace(self_play_teacher().stage, name="teacher"), student))


_TEACHER = Weights("stage:teacher")


def self_play(teacher: Weights | None = None) -> Recipe:
    """The student: DAgger in worlds where every car is the student, or the teacher while it is young.

    Args:
        teacher: Who is asked; None trains one first, in the stage "teacher".
    """
    weights = teacher or _TEACHER
    student = ClosedLoop(
        name="student",
        scenarios=roads(),
        world=_student_world(agents=8),
        policy=CNNPlannerSpec(cameras=(_CAMERA,), plan=_PLAN, navigation=True, jerk=_JERK),
        expert=RolloutExpert(weights, _PLAN, hold=2),
        driver=MixedDriver(
            TeacherDriver(weights),
            student_driver(),
            expert_probability=LinearSchedule(1.0, 0.0, (0.0, 0.8)),
            hold=2.0,
        ),
        objective=Imitation(mirror=False, turn_weight=5.0),
        rollouts=RolloutSpec(iterations=6, total_frames=100_000, num_worlds=24, min_active_fraction=0.3),
        optim=OptimSpec(steps=4_000),
    )
    return _after_teacher("self_play", student, teacher)


def self_play_vit(teacher: Weights | None = None) -> Recipe:
    """The student of `self_play` with the planner of Gigapixel and DrivoR: a small vision transformer with registers."""
    policy = ViTPlannerSpec(cameras=(_CAMERA,), plan=_PLAN, target_points=0, navigation=True, jerk=_JERK)
    return self_play(teacher).replace(name="self_play_vit", policy=policy)


def self_play_single(teacher: Weights | None = None) -> Recipe:
    """DAgger by one student a world, everybody else replayed or reacting by rule; the labels of `self_play`."""
    recipe = self_play(teacher)
    rollouts = recipe.stage.rollouts
    return recipe.replace(
        name="self_play_single",
        world=_student_world(agents=1).simulate(min_agents=1, traffic=IDM()),
        rollouts=dataclasses.replace(rollouts, num_worlds=8 * rollouts.num_worlds),
    )


def self_play_clone(teacher: Weights | None = None) -> Recipe:
    """Behaviour cloning of the teacher on the teacher's own drives, with the budget of `self_play`."""
    recipe = self_play(teacher)
    return recipe.replace(
        name="self_play_clone",
        driver=TeacherDriver(teacher or _TEACHER),
        rollouts=dataclasses.replace(recipe.stage.rollouts, iterations=1),
    )


def self_play_adapted(student: Weights | None = None, teacher: Weights | None = None) -> Recipe:
    """The student of `self_play` learns to see what other cameras show; only its perception learns.

    The cameras here are boxworld's own behind a `CameraDomainShift`, so that what it wins can be driven and measured. With a
    `ReprojectionSpec` and a `CameraDrive` instead, it learns from recordings whose road users are annotated. The
    frames come from the teacher's drives, as recordings come from somebody who drives well.

    Args:
        student: What begins; None trains one first, in the stage "student".
        teacher: Who drives; None trains one first, in the stage "teacher".
    """
    recipe = self_play(teacher)
    begun = student or Weights("stage:student")
    adaptation = dataclasses.replace(
        recipe.stage,
        name="adaptation",
        world=dataclasses.replace(
            _student_world(agents=8),
            renderer=BoxRendererSpec(shift=CameraDomainShift()),
            twin=BoxRendererSpec(),
        ),
        expert=None,
        driver=TeacherDriver(teacher or _TEACHER),
        objective=PerceptionAdaptation(begun),
        rollouts=dataclasses.replace(recipe.stage.rollouts, iterations=1, total_frames=20_000),
        optim=OptimSpec(steps=1_000, learning_rate=1e-3, weight_decay=0.0),
        init_from=begun,
    )
    before = [
        dataclasses.replace(stage, name=name)
        for stage, name in zip(recipe.stages[::-1], ("student", "teacher"), strict=False)
    ][::-1]
    if student is not None:
        before = before[:-1]
    if not before:
        adaptation = dataclasses.replace(adaptation, name="self_play_adapted")
    return Recipe("self_play_adapted", (*before, adaptation))


def on_scenarios(recipe: Recipe, folder: Path, message: Callable[[str], None] = print) -> Recipe:
    """A recipe in recorded scenarios: every recorded vehicle that moves is a car to drive, as many as there are.

    Args:
        recipe: Who drives, and how much.
        folder: Scenarios in any format that is read.
        message: Told which of them nobody can drive in.

    Raises:
        UserError: Nothing there can be driven.
    """
    stages = []
    for stage in recipe.stages:
        if isinstance(stage, ClosedLoop):
            world = stage.world.simulate(min_agents=1)
            source = drivable_scenarios(folder, world, message)
            stage = dataclasses.replace(stage, world=world, scenarios=source)
        stages.append(stage)
    return dataclasses.replace(recipe, stages=tuple(stages))
