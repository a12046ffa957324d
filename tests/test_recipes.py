"""Recipes: contradictions between their parts are refused before anything runs, or cannot be said at all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from countersteer.drivers.drivers import (
    CategoricalDriver,
    EgoAndOthersDriver,
    ExpertDriver,
    MixedDriver,
    PerturbedDriver,
    PolicyDriver,
    TeacherDriver,
)
from countersteer.errors import UserError
from countersteer.experts.recovery import RecoveryExpert
from countersteer.objectives.imitation import Imitation
from countersteer.objectives.ppo import PPO
from countersteer.policies.vit import ViTPlannerSpec
from countersteer.policies.weights import Weights
from countersteer.recipes import closed_loop, reprojection, self_play
from countersteer.reporting.run_report import pretrained_policy
from countersteer.rewards.progress import ProgressReward
from countersteer.rewards.weighted import MultiplicativeReward, WeightedReward
from countersteer.storage.serialise import from_json, to_json
from countersteer.training.recipe import Recipe
from countersteer.training.stages import RolloutSpec
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import PlanSpec
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec

OLD = Path(__file__).parent / "old_recipes.json"
TEACHER = Weights(str(pretrained_policy("self_play_teacher")))
STUDENT = Weights(str(pretrained_policy("self_play")))
OTHER_PLAN = PlanSpec(points=6, interval=0.4)
# As many as JerkSpec() has, and others.
OTHER_JERK = JerkSpec(longitudinal=(-8.0, -2.0, 0.0, 2.0), lateral=(-2.0, 0.0, 2.0))


@pytest.mark.parametrize(
    "recipe",
    [
        closed_loop.clone(),
        closed_loop.perturb(),
        closed_loop.on_policy(),
        closed_loop.blind(),
        reprojection.reprojection_clone(),
        reprojection.reprojection_perturb(),
        reprojection.reprojection(),
        self_play.self_play_teacher(),
        self_play.self_play(),
        self_play.self_play(TEACHER),
        self_play.self_play_vit(TEACHER),
        self_play.self_play_single(TEACHER),
        self_play.self_play_clone(),
        self_play.self_play_adapted(),
        self_play.self_play_adapted(STUDENT, TEACHER),
    ],
    ids=lambda recipe: f"{recipe.name}-{len(recipe.stages)}",
)
def test_every_recipe_of_ours_is_sound_and_comes_back_from_its_file(recipe: Recipe):
    recipe.check()
    assert from_json(json.loads(json.dumps(to_json(recipe)))) == recipe


def test_recipes_of_before_there_were_stages_still_read():
    """As 90f09b7 wrote them: other names, paths where weights stand now, facts said twice, counts instead of jerks."""
    teacher, student = Weights("runs/teacher"), Weights("runs/student")
    now = {
        "self_play_teacher": self_play.self_play_teacher(),
        "self_play": self_play.self_play(teacher),
        "self_play_adapted": self_play.self_play_adapted(student, teacher),
    }
    old = json.loads(OLD.read_text())
    assert {name: from_json(data) for name, data in old.items()} == now
    old["self_play"]["policy"]["choices"] = 9
    with pytest.raises(UserError, match=r"9 choices[\s\S]*replace \"choices\" by \"jerk\""):
        from_json(old["self_play"])
    old["self_play_teacher"]["objective"]["coefficients"]["collision"] = {"tuple": [0.0, 99.0]}
    with pytest.raises(UserError, match="other reward weights than its policy read"):
        from_json(old["self_play_teacher"])


def other_levels() -> Recipe:
    """The policy chooses among as many jerks as the world adds up, and among others."""
    recipe = self_play.self_play_teacher()
    policy = dataclasses.replace(recipe.stage.policy, jerk=OTHER_JERK)  # type: ignore[type-var]
    return recipe.replace(policy=policy)


def other_teacher() -> Recipe:
    """The student is to learn another choice by the numbers of the teacher's."""
    recipe = self_play.self_play(TEACHER)
    policy = dataclasses.replace(recipe.stage.policy, jerk=OTHER_JERK)  # type: ignore[type-var]
    world = recipe.stage.world.simulate(jerk=OTHER_JERK)
    return recipe.replace(policy=policy, world=world, driver=TeacherDriver(TEACHER))


def other_times(which: str) -> Recipe:
    """Somebody's plan has other times."""
    recipe = closed_loop.on_policy()
    policy = dataclasses.replace(recipe.stage.policy, plan=OTHER_PLAN)  # type: ignore[type-var]
    if which == "expert":
        return recipe.replace(policy=policy)
    return recipe.replace(policy=policy, expert=RecoveryExpert(plan=OTHER_PLAN))


def never_chooses() -> Recipe:
    """PPO learns from actions that nobody sampled."""
    return self_play.self_play_teacher().replace(driver=PolicyDriver())


def chooses_in_a_mixture() -> Recipe:
    """Half of the cars are driven by somebody else, whose actions have no odds."""
    driver = MixedDriver(ExpertDriver(), CategoricalDriver())
    return self_play.self_play_teacher().replace(driver=driver, expert=RecoveryExpert())


def chooses_greedily() -> Recipe:
    """The likeliest action is no sample."""
    return self_play.self_play_teacher().replace(driver=CategoricalDriver(greedy=True))


def unseen_targets() -> Recipe:
    """The policy's target points are all zero."""
    return closed_loop.clone().replace(policy=ViTPlannerSpec(target_points=3))


def untold_turns() -> Recipe:
    """The policy is never told to turn."""
    recipe = closed_loop.clone()
    return recipe.replace(policy=dataclasses.replace(recipe.stage.policy, navigation=True))  # type: ignore[type-var]


def unmovable() -> Recipe:
    """MetaDrive's cars are not moved by hand."""
    from countersteer.worlds.bridges.metadrive.simulation import MetaDriveSpec

    recipe = closed_loop.perturb()
    return recipe.replace(
        world=WorldSpec(MetaDriveSpec(), BoxRendererSpec()), driver=PerturbedDriver(ExpertDriver())
    )


def no_critic() -> Recipe:
    """PPO with a policy that has no value."""
    recipe = self_play.self_play(TEACHER)
    return recipe.replace(objective=PPO(reward=WeightedReward()), driver=CategoricalDriver(), expert=None)


def no_plans() -> Recipe:
    """Imitation of plans by a policy that has none."""
    recipe = self_play.self_play_teacher()
    driver = CategoricalDriver()
    expert = RecoveryExpert(plan=recipe.stage.policy.plan)
    return recipe.replace(objective=Imitation(mirror=False), driver=driver, expert=expert)


CONTRADICTIONS: list[tuple[Callable[[], Recipe], list[str]]] = [
    (other_levels, ["policy.jerk", "world.jerk", "same `jerk`"]),
    (other_teacher, ["policy.jerk", "the teacher's jerk", "same `jerk`"]),
    (lambda: other_times("expert"), ["policy.plan", "expert.plan", "same plan times"]),
    (never_chooses, ["PPO", "PolicyDriver", "CategoricalDriver()"]),
    (chooses_in_a_mixture, ["PPO", "ExpertDriver in MixedDriver", "CategoricalDriver()"]),
    (chooses_greedily, ["PPO", "CategoricalDriver", "greedy=False"]),
    (
        unseen_targets,
        [
            "policy.target_points 3",
            "world.simulation.target_points False",
            "set world.simulation.target_points",
        ],
    ),
    (untold_turns, ["policy.navigation", "world.simulation.navigation", "set world.simulation.navigation"]),
    (unmovable, ["PerturbedDriver", "MetaDriveSpec", "choose another world"]),
    (no_critic, ["PPO", "reward_weights", "SetActorCriticSpec"]),
    (no_plans, ["Imitation", "SetActorCritic", "forward_sequence", "choose another policy"]),
]
if "plan" in {field.name for field in dataclasses.fields(PolicyDriver)}:
    CONTRADICTIONS.append((lambda: other_times("driver"), ["expert.plan", "ExpertDriver", "same plan times"]))


@pytest.mark.parametrize(("make", "words"), CONTRADICTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_contradictions_are_refused_with_both_sides_and_a_fix(make: Callable[[], Recipe], words: list[str]):
    with pytest.raises(UserError) as told:
        make().check()
    for word in words:
        assert word in str(told.value)
    assert "fix:" in str(told.value)


def test_what_is_said_once_cannot_be_contradicted():
    """The reward's weights are the policy's, and the tick is the world's."""
    fields = {kind: {f.name for f in dataclasses.fields(kind)} for kind in (PPO, WeightedReward)}
    assert "coefficients" not in fields[PPO]
    for kind in (WeightedReward, MultiplicativeReward, ProgressReward):
        assert "dt" not in {field.name for field in dataclasses.fields(kind)}


def test_a_policy_that_reads_more_motion_than_is_remembered_is_refused():
    @dataclass(frozen=True)
    class Forgetful(RoadSimulationSpec):
        history = 4

    with pytest.raises(UserError, match=r"ego motion[\s\S]*motion_ticks 5[\s\S]*at most 4"):
        closed_loop.clone().replace(world=WorldSpec(Forgetful(), BoxRendererSpec())).check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 0),
        ("num_worlds", 0),
        ("total_frames", 0),
        ("buffer_iterations", 0),
        ("first_iteration_share", 1.5),
        ("final_learning_share", -0.1),
        ("min_active_fraction", 2.0),
    ],
)
def test_budgets_out_of_range_are_refused(name: str, value: float):
    with pytest.raises(UserError, match=f"RolloutSpec.{name}"):
        RolloutSpec(**{name: value})  # type: ignore[arg-type]


def test_roles_with_a_planning_ego_do_not_fit_ppo():
    driver = EgoAndOthersDriver(PolicyDriver(), CategoricalDriver())
    with pytest.raises(UserError, match="PolicyDriver in EgoAndOthersDriver"):
        self_play.self_play_teacher().replace(driver=driver).check()
