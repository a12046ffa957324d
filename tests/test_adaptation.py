"""Perception adaptation: cameras that do not show what is drawn, twins, and a policy that learns to see anew."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from countersteer.data.sources import ProceduralRoads
from countersteer.drivers.drivers import ExpertDriver
from countersteer.errors import UserError
from countersteer.experts.recovery import RecoveryExpert
from countersteer.geometry.cameras import Camera
from countersteer.objectives.adaptation import PerceptionAdaptation
from countersteer.objectives.imitation import Imitation
from countersteer.policies.planner import CNNPlanner, CNNPlannerSpec
from countersteer.policies.storage import load_policy, save_policy
from countersteer.policies.vit import ViTPlanner, ViTPlannerSpec
from countersteer.policies.weights import Weights
from countersteer.scenarios.procedural import RoadKind
from countersteer.training.collector import InlineCollector, RolloutRequest
from countersteer.training.learner import Learner
from countersteer.training.recipe import Recipe
from countersteer.training.run import train
from countersteer.training.stages import ClosedLoop, OptimSpec, RolloutSpec
from countersteer.vehicles.jerk import JerkSpec
from countersteer.worlds.observations import Command, twin_of
from countersteer.worlds.renderers.boxes import Views
from countersteer.worlds.renderers.boxes.appearance import AppearanceRandomization
from countersteer.worlds.renderers.boxes.camera_shift import CameraDomainShift
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.simulation.spec import StartSpec
from countersteer.worlds.world import World
from worlds import boxworld

CAMERA = Camera(width=32, height=16)
FIVE = JerkSpec(longitudinal=(0.0,), lateral=(-4.0, -1.0, 0.0, 1.0, 4.0))
SMALL = CNNPlannerSpec(cameras=(CAMERA,), channels=(8, 16), features=16, hidden=32, history=(1,), jerk=FIVE)
VIT = ViTPlannerSpec(cameras=(CAMERA,), width=16, depth=1, heads=2, registers=2, decoder=1, jerk=FIVE)
NONE = CameraDomainShift(texture=0.0, light=0.0, blur=0.0, noise=0.0)
ROADS = ProceduralRoads(count=2, seed=3, kinds=(RoadKind.GENTLE,), lanes=(2, 2), traffic=(2, 2), length=300.0)


def views(count: int, position: tuple[float, float, float] = (0.0, 0.0, 1.5)) -> Views:
    """Cameras at one place that look along x, 33x17 pixels, 11 degrees wide."""
    right_down_ahead = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    zero = torch.zeros(count, dtype=torch.long)
    return Views(
        33,
        17,
        zero,
        zero,
        torch.tensor(position).repeat(count, 1),
        right_down_ahead.repeat(count, 1, 1),
        torch.full((count,), 165.0),
        zero,
    )


def shot(
    gap: CameraDomainShift,
    drive: int = 0,
    tick: int = 0,
    depth: float = 10.0,
    **where: tuple[float, float, float],
):
    """A grey wall, recorded."""
    wall = torch.full((1, 17, 33, 3), 100, dtype=torch.uint8)
    return gap.recorded(
        wall,
        torch.full((1, 17, 33), depth),
        views(1, **where),
        torch.tensor([drive]),
        torch.tensor([tick]),
        5,
    )[0]


# --- the gap ------------------------------------------------------------------------------------


def test_no_gap_changes_no_bit():
    picture = torch.randint(0, 256, (3, 17, 33, 3), dtype=torch.uint8)
    drive = torch.arange(3)
    recorded = NONE.recorded(picture, torch.rand(3, 17, 33) * 50, views(3), drive, drive, 0)
    assert torch.equal(recorded, picture)


def test_texture_stays_where_it_is_in_the_world():
    gap = dataclasses.replace(NONE, texture=1.0)
    # A camera 0.2 m to the right sees every point of a wall 10 m away 3.3 columns further left.
    straight, aside = (shot(gap, position=(0.0, y, 1.5))[..., 0].float() for y in (0.0, -0.2))
    moved = 0.7 * straight[:, 3:32] + 0.3 * straight[:, 4:33]
    assert (straight - 100.0).abs().max() > 20.0
    assert torch.corrcoef(torch.stack([moved.flatten(), aside[:, :29].flatten()]))[0, 1] > 0.98
    assert torch.corrcoef(torch.stack([straight.flatten(), aside.flatten()]))[0, 1] < 0.9


def test_texture_finer_than_a_pixel_vanishes():
    gap = dataclasses.replace(NONE, texture=1.0)
    near, far = (float((shot(gap, depth=depth).float() - 100.0).std()) for depth in (5.0, 1000.0))
    assert near > 10.0 * far
    sky = shot(gap, depth=math.inf)
    assert (sky == 100).all()


def test_light_is_of_the_drive_and_noise_of_the_tick():
    light = dataclasses.replace(NONE, light=1.0)
    assert torch.equal(shot(light, tick=0), shot(light, tick=1))
    assert not torch.equal(shot(light, drive=0), shot(light, drive=1))
    noisy = dataclasses.replace(NONE, noise=12.0)
    assert not torch.equal(shot(noisy, tick=0), shot(noisy, tick=1))
    spread = torch.cat([shot(noisy, drive=k).float().flatten() for k in range(20)]).sub(100.0)
    # Uniform between half of 12 and 12 levels from drive to drive.
    assert 6.0 < spread.std() < 12.0
    assert spread.mean().abs() < 0.5


def test_blur_keeps_the_mean_and_takes_contrast():
    picture = torch.zeros(1, 17, 33, 3, dtype=torch.uint8)
    picture[:, :, ::2] = 200
    blurred = (
        dataclasses.replace(NONE, blur=1.0)
        .recorded(picture, torch.full((1, 17, 33), 10.0), views(1), torch.tensor([0]), torch.tensor([0]), 0)
        .float()
    )
    assert blurred[..., 1:-1, :].std() < 0.3 * picture.float().std()
    assert blurred.mean() == pytest.approx(float(picture.float().mean()), abs=3.0)


@pytest.mark.parametrize(("name", "value"), [("texture", 1.5), ("noise", -1.0), ("blur", math.nan)])
def test_a_gap_out_of_range_says_which_number(name: str, value: float):
    with pytest.raises(UserError, match=name):
        dataclasses.replace(NONE, **{name: value})


# --- twins --------------------------------------------------------------------------------------


def world(**settings: object) -> World:
    """Two drives with cars, begun."""
    spec = boxworld(
        cameras=(CAMERA,),
        agents=2,
        duration=5.0,
        looks=AppearanceRandomization(),
        twin=BoxRendererSpec(),
        **settings,
    )  # type: ignore[arg-type]
    made = spec.build(ROADS.load(), 2, 0)
    made.reset(torch.ones(2, dtype=torch.bool), made.draw_starts(torch.arange(2)))
    return made


def test_a_twin_is_what_is_drawn_and_comes_when_it_is_asked_for():
    behind, plain = world(shift=CameraDomainShift()), world()
    both = behind.observe(("front", "front.twin")).sensors
    assert torch.equal(both[twin_of("front")].data, plain.observe().sensors["front"].data)
    assert not torch.equal(both["front"].data, both[twin_of("front")].data)
    assert set(behind.observe().sensors) == {"front"}
    assert set(plain.observe(("front.twin",)).sensors) == {"front.twin"}


def test_navigation_says_where_the_path_turns():
    left = ProceduralRoads(
        count=12, seed=4, kinds=(RoadKind.TIGHT,), lanes=(1, 1), traffic=(0, 0), intersections=1.0
    )
    spec = boxworld(cameras=(), navigation=True, duration=40.0, start=StartSpec(0.0, 0.0, 0.0, (1.0, 1.0)))
    made = spec.build(left.load(), 4, 0)
    zero = torch.zeros(4, dtype=torch.long)
    made.reset(torch.ones(4, dtype=torch.bool), made.starts_at(torch.arange(4), zero, zero, jitter=False))
    told = set()
    for arc in torch.arange(0.0, 150.0, 3.0):
        moved = made.state.simulation.replace(arc=torch.full((4, 1), float(arc)))
        made.state = made.state.replace(simulation=moved)
        command = made.observe().intent.command[:, 0]
        heading = made.path_at(torch.tensor([0.0, 30.0]).expand(4, 1, 2) + arc).heading[:, 0]
        turn = torch.remainder(heading[:, 1] - heading[:, 0] + math.pi, 2 * math.pi) - math.pi
        expected = torch.zeros_like(command)
        expected[turn > math.radians(30.0)] = int(Command.LEFT)
        expected[turn < -math.radians(30.0)] = int(Command.RIGHT)
        assert torch.equal(command, expected)
        told |= set(command.tolist())
    assert told == {0, 1, 2}


# --- the objective ------------------------------------------------------------------------------


@pytest.fixture
def student(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A student with drawn weights, as a file."""
    torch.manual_seed(0)
    spec = getattr(request, "param", SMALL)
    save_policy(tmp_path / "student.safetensors", spec.build(), "none", 0, 0.0, {})
    return str(tmp_path / "student.safetensors")


def recipe(student: str, **settings: object) -> ClosedLoop:
    """Adaptation at the smallest size."""
    made = ClosedLoop(
        name="adapted",
        scenarios=ROADS,
        world=boxworld(
            cameras=(CAMERA,), agents=2, duration=5.0, shift=CameraDomainShift(), twin=BoxRendererSpec()
        ),
        policy=load_policy(student)[0].spec,
        expert=None,
        driver=ExpertDriver(),
        objective=PerceptionAdaptation(Weights(student)),
        rollouts=RolloutSpec(iterations=1, total_frames=48, num_worlds=4),
        optim=OptimSpec(steps=4, batch_size=2, sequence_length=4, warmup=1, weight_decay=0.1),
        init_from=Weights(student),
    )
    return dataclasses.replace(made, expert=RecoveryExpert(), **settings)  # type: ignore[arg-type]


def pairs(made: ClosedLoop):
    """A batch of it."""
    collector = InlineCollector(made, 0)
    rollout = collector.collect(RolloutRequest.of_iteration(made, 0, 0, None))
    return made.objective.prepare(rollout.map(lambda leaf: leaf.transpose(0, 1)))


@pytest.mark.parametrize("student", [SMALL, VIT], indirect=True)
def test_the_same_pictures_and_weights_lose_nothing(student: str):
    made = recipe(student, world=boxworld(cameras=(CAMERA,), agents=2, duration=5.0, twin=BoxRendererSpec()))
    policy = load_policy(student)[0]
    assert isinstance(policy, CNNPlanner | ViTPlanner)
    losses = made.objective.losses({"policy": policy, "reference": Weights(student).policy()}, pairs(made))
    assert losses.groups["policy"].item() == pytest.approx(0.0, abs=1e-6)


def test_each_part_of_the_loss_in_closed_form(student: str):
    made = recipe(student)
    batch = pairs(made)
    policy, twin = load_policy(student)[0], Weights(student).policy()
    assert isinstance(policy, CNNPlanner)
    assert isinstance(twin, CNNPlanner)
    recorded, drawn = policy.encode(batch.recorded), twin.encode(batch.twin)
    assert torch.equal(batch.recorded.motion.speed, batch.twin.motion.speed)
    image = slice(0, SMALL.features)
    assert torch.equal(recorded[..., SMALL.features :], drawn[..., SMALL.features :])
    apart = ((recorded - drawn) ** 2)[batch.valid][:, image]
    seen = apart.sum(0) > 0.0
    spread = drawn[batch.valid][:, image][:, seen].var(0, correction=0).sum()
    features = apart.sum(-1).mean() / spread
    a, b = policy.plan_sequence(recorded, batch.first), twin.plan_sequence(drawn, batch.first)
    plan = (a.hypotheses.location - b.hypotheses.location).abs().sum(-1).mean((-2, -1))
    for x, y in ((a.hypotheses.logit, b.hypotheses.logit), (a.logits, b.logits)):
        p, q = y.softmax(-1), x.softmax(-1)
        plan = plan + (p * (p / q).log()).sum(-1)
    objective = PerceptionAdaptation(Weights(student), feature_weight=3.0, plan_weight=0.5)
    losses = objective.losses({"policy": policy, "reference": twin}, batch)
    assert losses.diagnostics["features"].item() == pytest.approx(features.item(), rel=1e-4)
    assert losses.diagnostics["plan"].item() == pytest.approx(plan[batch.valid].mean().item(), rel=1e-4)
    expected = 3.0 * features + 0.5 * plan[batch.valid].mean()
    assert losses.groups["policy"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("student", [SMALL, VIT], indirect=True)
@pytest.mark.parametrize("planner", [False, True])
def test_only_what_sees_learns_unless_asked(student: str, planner: bool):
    made = recipe(student, objective=PerceptionAdaptation(Weights(student), planner=planner))
    policy = load_policy(student)[0].requires_grad_(True)
    before = {name: value.clone() for name, value in policy.named_parameters()}
    learner = Learner({"policy": policy}, made.objective.models(made.policy), made.objective, made.optim)
    batch = pairs(made)
    first = learner.update(batch)["loss/policy"]
    for _ in range(30):
        last = learner.update(batch)["loss/policy"]
    assert last < first
    changed = {n.split(".")[0] for n, value in policy.named_parameters() if not torch.equal(value, before[n])}
    seeing = {"patches", "stages", "image_features"} if isinstance(policy, CNNPlanner) else {"perception"}
    assert changed == seeing if not planner else changed > seeing


def test_it_trains_from_the_student_and_says_what_it_began_with(student: str, tmp_path: Path):
    made = recipe(student)
    adapted, _ = load_policy(train(Recipe.of(made), tmp_path / "run"))
    begun = load_policy(student)[0]
    torch.testing.assert_close(adapted.get_parameter("head.0.weight"), begun.get_parameter("head.0.weight"))
    assert not torch.equal(adapted.get_parameter("patches.weight"), begun.get_parameter("patches.weight"))
    assert torch.equal(adapted.get_buffer("mean_image"), begun.get_buffer("mean_image"))


def test_begin_refuses_another_policy(student: str, tmp_path: Path):
    other = dataclasses.replace(SMALL, hidden=64)
    with pytest.raises(UserError, match="cannot begin with") as told:
        train(Recipe.of(recipe(student, policy=other)), tmp_path / "run")
    assert "hidden" in str(told.value)


def test_twins_are_collected_where_the_objective_compares_them(student: str):
    made = recipe(student)
    assert made.sensors == ("front", "front.twin")
    assert dataclasses.replace(made, objective=Imitation()).sensors == ("front",)
    without = InlineCollector(dataclasses.replace(made, objective=Imitation()), 0)
    rollout = without.collect(RolloutRequest.of_iteration(made, 0, 0, None))
    with pytest.raises(UserError, match="twice"):
        made.objective.prepare(rollout)


def test_adaptation_refuses_weights_that_teach_nothing(student: str):
    with pytest.raises(UserError, match="feature_weight"):
        PerceptionAdaptation(Weights(student), feature_weight=0.0, plan_weight=0.0)
    with pytest.raises(UserError, match="min_confidence"):
        PerceptionAdaptation(Weights(student), min_confidence=1.5)
