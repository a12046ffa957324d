"""The imitation objective: numbers to check by hand, masks, symmetry, gradients, a planner that learns."""

import math

import pytest
import torch
from countersteer.worlds.observations import EgoMotion, Intent, Observation, SensorReading

from countersteer.errors import UserError
from countersteer.experts.interface import Label
from countersteer.geometry.cameras import Camera
from countersteer.objectives.imitation import Batch, Imitation, laplace_mixture_loss, mirror_half
from countersteer.policies.interface import Hypotheses, PolicyOutput
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.rollouts.driving import Rollout
from countersteer.vehicles.plans import Action, Plan

EQUAL = torch.ones(4)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny tensors: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loss(hypotheses, plan, valid=None, **changes):
    settings = {
        "time_weight": torch.ones(plan.heading.shape[-1]),
        "quantity_weight": EQUAL,
        "unit": EQUAL,
        "relaxation": 0.0,
        "classification": 1.0,
        "scale_floor": 1e-3,
    }
    if valid is None:
        valid = torch.ones(plan.heading.shape[:-1], dtype=torch.bool)
    return laplace_mixture_loss(hypotheses, plan, valid, **{**settings, **changes})


def label(x, y, heading, speed):
    """A plan of one point for one sample."""
    return Plan(torch.tensor([[[x, y]]]), torch.tensor([[heading]]), torch.tensor([[speed]]))


def random_case(batch=6, count=3, points=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    hypotheses = Hypotheses(
        torch.randn(batch, count, points, 4, generator=g),
        0.1 + torch.rand(batch, count, points, 4, generator=g),
        torch.randn(batch, count, generator=g),
    )
    plan = Plan(
        torch.randn(batch, points, 2, generator=g),
        torch.randn(batch, points, generator=g),
        torch.randn(batch, points, generator=g),
    )
    return hypotheses.map(lambda leaf: leaf.requires_grad_()), plan


def gradients(hypotheses, value):
    return torch.autograd.grad(value, [hypotheses.location, hypotheses.scale, hypotheses.logit])


def test_one_hypothesis_by_hand():
    """Errors 1, 2, 0, 4 at scale 2: mean of (1/2, 1, 0, 2) = 0.875, plus log 4; no cross-entropy."""
    hypotheses = Hypotheses(torch.zeros(1, 1, 1, 4), torch.full((1, 1, 1, 4), 2.0), torch.zeros(1, 1))
    got = loss(hypotheses, label(1.0, -2.0, 0.0, 4.0), relaxation=0.3)
    assert got.likelihood.item() == pytest.approx(0.875 + math.log(4))
    assert got.classification.item() == pytest.approx(0.0, abs=1e-6)
    assert got.loss.item() == pytest.approx(0.875 + math.log(4))


def test_two_hypotheses_by_hand():
    """Hypotheses 3 and 1 m from the label in x, scale 1/2 (log 2b = 0), logits log 3 and 0, 10 % shared.

    The second wins: 0.9 (1 / 0.5) / 4 + 0.1 (3 / 0.5) / 4 = 0.45 + 0.15; its probability is 1/4.
    """
    location = torch.zeros(1, 2, 1, 4)
    location[0, :, 0, 0] = torch.tensor([3.0, 1.0])
    hypotheses = Hypotheses(location, torch.full((1, 2, 1, 4), 0.5), torch.tensor([[math.log(3.0), 0.0]]))
    got = loss(hypotheses, label(0.0, 0.0, 0.0, 0.0), relaxation=0.1, classification=2.0)
    assert got.winner.item() == 1
    assert got.likelihood.item() == pytest.approx(0.6)
    assert got.classification.item() == pytest.approx(math.log(4))
    assert got.loss.item() == pytest.approx(0.6 + 2 * math.log(4))


def test_weights_by_hand():
    """Two points with errors 1 m and 4 m in y at weights 2 and 1, y alone counting: (2 * 1 + 1 * 4) / 3."""
    location = torch.zeros(1, 1, 2, 4)
    location[0, 0, :, 1] = torch.tensor([1.0, 4.0])
    location[0, 0, :, 0] = 100.0
    hypotheses = Hypotheses(location, torch.full((1, 1, 2, 4), 0.5), torch.zeros(1, 1))
    still = Plan(torch.zeros(1, 2, 2), torch.zeros(1, 2), torch.zeros(1, 2))
    got = loss(
        hypotheses,
        still,
        time_weight=torch.tensor([2.0, 1.0]),
        quantity_weight=torch.tensor([0.0, 3.0, 0.0, 0.0]),
    )
    assert got.likelihood.item() == pytest.approx(2 * 6 / 3)


def test_unit_decides_who_wins():
    """1 m in x against 0.5 rad in heading: the unit of heading says which is worse."""
    location = torch.zeros(1, 2, 1, 4)
    location[0, 0, 0, 0], location[0, 1, 0, 2] = 1.0, 0.5
    hypotheses = Hypotheses(location, torch.ones(1, 2, 1, 4), torch.zeros(1, 2))
    plan = label(0.0, 0.0, 0.0, 0.0)
    assert loss(hypotheses, plan).winner.item() == 1
    assert loss(hypotheses, plan, unit=torch.tensor([1.0, 1.0, 0.1, 1.0])).winner.item() == 0


def test_heading_wraps():
    """3.1 and -3.1 rad are 0.083 rad apart, not 6.2."""
    location = torch.zeros(1, 1, 1, 4)
    location[..., 2] = 3.1
    hypotheses = Hypotheses(location, torch.full((1, 1, 1, 4), 0.5), torch.zeros(1, 1))
    got = loss(hypotheses, label(0.0, 0.0, -3.1, 0.0))
    assert got.likelihood.item() == pytest.approx((2 * math.pi - 6.2) / 0.5 / 4, abs=1e-5)


def test_invalid_rows_change_nothing():
    """Whatever an invalid label holds, others keep their loss, its own is 0 and has no gradient."""
    hypotheses, plan = random_case()
    valid = torch.tensor([True, False, True, True, False, True])
    rotten = plan.map(lambda leaf: torch.where(valid.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, math.nan))
    got, clean = loss(hypotheses, rotten, valid), loss(hypotheses[valid], plan[valid])
    torch.testing.assert_close(got.loss[valid], clean.loss)
    assert (got.loss[~valid] == 0).all()
    for gradient in gradients(hypotheses, got.loss.sum()):
        assert gradient.isfinite().all()
        assert (gradient[~valid] == 0).all()
        assert (gradient[valid] != 0).any()


def test_order_of_hypotheses_does_not_matter():
    """Permuting the hypotheses permutes the winner and changes no loss."""
    hypotheses, plan = random_case()
    order = torch.tensor([2, 0, 1])
    permuted = Hypotheses(
        *(leaf[:, order] for leaf in (hypotheses.location, hypotheses.scale, hypotheses.logit))
    )
    a, b = loss(hypotheses, plan, relaxation=0.1), loss(permuted, plan, relaxation=0.1)
    torch.testing.assert_close(a.loss, b.loss)
    assert torch.equal(order[b.winner], a.winner)
    assert len(a.winner.unique()) > 1  # or the case would prove nothing


def test_relaxation_reaches_every_hypothesis():
    """Without relaxation only the winner's plan learns; with it all do, the winner most."""
    hypotheses, plan = random_case(batch=1)
    winner = loss(hypotheses, plan).winner.item()
    strict = gradients(hypotheses, loss(hypotheses, plan).loss.sum())
    relaxed = gradients(hypotheses, loss(hypotheses, plan, relaxation=0.1).loss.sum())
    for of_strict, of_relaxed in zip(strict[:2], relaxed[:2], strict=True):  # location, scale
        reached = of_strict.abs().sum((0, 2, 3)) > 0
        assert reached.nonzero().flatten().tolist() == [winner]
        assert (of_relaxed.abs().sum((0, 2, 3)) > 0).all()
    assert (strict[2] != 0).all()  # the cross-entropy moves every logit


def test_gradient_matches_finite_differences():
    """In float64 the gradients of location, scale and logit are those of the stated function."""
    hypotheses, plan = random_case(batch=2, count=2, points=2, seed=3)
    plan = plan.map(lambda leaf: leaf.double())
    settings = {
        "time_weight": torch.ones(2).double(),
        "quantity_weight": EQUAL.double(),
        "unit": EQUAL.double(),
    }

    def function(location, scale, logit):
        return loss(Hypotheses(location, scale, logit), plan, relaxation=0.1, **settings).loss

    leaves = hypotheses.map(lambda leaf: leaf.detach().double().requires_grad_())
    assert torch.autograd.gradcheck(function, (leaves.location, leaves.scale, leaves.logit))


def test_scale_floor_bounds_the_loss():
    """A perfect hypothesis with vanishing scale gets log(2 floor), not minus infinity."""
    hypotheses = Hypotheses(torch.zeros(1, 1, 1, 4), torch.full((1, 1, 1, 4), 1e-30), torch.zeros(1, 1))
    got = loss(hypotheses, label(0.0, 0.0, 0.0, 0.0), scale_floor=0.01)
    assert got.loss.item() == pytest.approx(math.log(0.02))


def batch_of(stretches=4, ticks=4, seed=0, motion_ticks=5):
    """A stripe in the picture says where the road goes: something that only the images tell."""
    g = torch.Generator().manual_seed(seed)
    shape = (stretches, ticks)
    bend = torch.rand(shape, generator=g) * 2 - 1
    columns = torch.arange(32) - 16 + 0.5
    stripe = 255 * torch.exp(-(((columns + 12 * bend[..., None]) / 3) ** 2))
    data = stripe[..., None, :, None].expand(*shape, 16, 32, 3).to(torch.uint8).contiguous()
    yes = torch.ones(shape, dtype=torch.bool)
    speed = torch.full((*shape, motion_ticks), 8.0)
    observations = Observation(
        {"front": SensorReading(data, torch.zeros(shape), yes)},
        EgoMotion(speed, torch.zeros_like(speed), torch.ones_like(speed, dtype=torch.bool)),
        Intent(
            torch.zeros(shape, dtype=torch.long),
            torch.zeros(shape),
            torch.full(shape, 8.0),
            torch.zeros(*shape, 0, 2),
            ~yes,
        ),
    )
    times = PLANNER.plan.times()
    curvature = 0.05 * bend[..., None]
    plan = Plan(
        torch.stack([8.0 * times.expand(*shape, -1), curvature * (8.0 * times) ** 2 / 2], -1),
        curvature * 8.0 * times,
        torch.full((*shape, len(times)), 8.0),
    )
    return Batch(observations, ~yes, plan, yes)


PLANNER = CNNPlannerSpec(cameras=(Camera(width=32, height=16),), channels=(8, 16), features=32, hidden=64)


def test_planner_fits_a_few_samples():
    """Sixteen fixed samples are learnt: the loss falls and the plan comes within a decimetre or two."""
    torch.manual_seed(0)
    policy, batch, objective = PLANNER.build(), batch_of(), Imitation()
    optimizer = torch.optim.AdamW(policy.parameters(), 3e-3)
    first = objective.losses({"policy": policy}, batch)
    for _ in range(150):
        optimizer.zero_grad()
        objective.losses({"policy": policy}, batch).groups["policy"].backward()
        optimizer.step()
    last = objective.losses({"policy": policy.eval()}, batch)
    assert last.groups["policy"] < first.groups["policy"] - 1.0
    assert last.diagnostics["l1_position"] < 0.2 * first.diagnostics["l1_position"]
    assert last.diagnostics["l1_position"] < 0.2


def test_choices_are_learned_beside_plans():
    """Odds of the expert's choice: uniform at first, then its own where labels count; no mirror, no say without."""
    torch.manual_seed(0)
    policy = CNNPlannerSpec(**{**vars(PLANNER), "choices": 5}).build()
    batch = batch_of()
    left = (batch.label.position[..., -1, 1] > 0).long()
    taught = batch.replace(choice=1 + 2 * left)
    objective = Imitation(mirror=False)
    optimizer = torch.optim.AdamW(policy.parameters(), 3e-3)
    first = objective.losses({"policy": policy}, taught)
    assert first.diagnostics["choice"].item() == pytest.approx(math.log(5), abs=0.05)
    plain = objective.losses({"policy": policy.eval()}, batch).groups["policy"]
    both = objective.losses({"policy": policy}, taught)
    torch.testing.assert_close(both.groups["policy"], plain + 0.5 * both.diagnostics["choice"])
    for _ in range(150):
        optimizer.zero_grad()
        objective.losses({"policy": policy.train()}, taught).groups["policy"].backward()
        optimizer.step()
    assert objective.losses({"policy": policy.eval()}, taught).diagnostics["choice"] < 0.1
    with pytest.raises(UserError, match="mirrored"):
        mirror_half(taught)


def test_losses_average_over_what_counts():
    """Masked frames leave the loss and the diagnostics as without them, whatever their label holds."""
    torch.manual_seed(0)
    policy, batch, objective = PLANNER.build().eval(), batch_of(ticks=6), Imitation()
    whole = objective.losses({"policy": policy}, batch[:, :4])
    label_valid = batch.label_valid.clone()
    label_valid[:, 4:] = False
    spoilt = batch.label.clone()
    spoilt.position[:, 4:] = math.nan
    masked = objective.losses({"policy": policy}, batch.replace(label_valid=label_valid, label=spoilt))
    torch.testing.assert_close(masked.groups["policy"], whole.groups["policy"])
    for name in ("l1_position", "l1_final", "usage_entropy", "likelihood", "classification"):
        torch.testing.assert_close(masked.diagnostics[name], whole.diagnostics[name])
    assert masked.diagnostics["valid"].item() == pytest.approx(4 / 6)


def rollout_of(batch, label_valid, alive, confidence):
    shape = label_valid.shape
    no, number = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.long)
    return Rollout(
        observation=batch.observations,
        label=Label(batch.label, label_valid),
        action=Action(torch.zeros(shape), torch.zeros(shape)),
        policy_in_control=no,
        first=batch.first,
        alive=alive,
        terminated=no,
        truncated=no,
        cause=number,
        confidence=confidence,
        drive=number,
        version=number,
    )


def test_prepare_masks_what_cannot_be_learned_from():
    """No label, a drive that is over, or a world that cannot be trusted: each alone is reason enough."""
    batch = batch_of(stretches=1, ticks=4)
    label_valid = torch.tensor([[True, False, True, True]])
    alive = torch.tensor([[True, True, False, True]])
    confidence = torch.tensor([[0.5, 1.0, 1.0, 0.49]])
    rollout = rollout_of(batch, label_valid, alive, confidence)
    got = Imitation(min_confidence=0.5).prepare(rollout)
    assert got.label_valid.tolist() == [[True, False, False, False]]
    assert torch.equal(got.first, rollout.first)
    with pytest.raises(UserError, match="labels"):
        Imitation().prepare(rollout.replace(label=None))


def test_nothing_valid_is_zero_loss_and_zero_gradient():
    """A batch without a label is no error and teaches nothing."""
    policy, batch = PLANNER.build(), batch_of()
    losses = Imitation().losses(
        {"policy": policy}, batch.replace(label_valid=torch.zeros(4, 4, dtype=torch.bool))
    )
    losses.groups["policy"].backward()
    assert losses.groups["policy"].item() == 0.0
    assert all(p.grad is None or (p.grad == 0).all() for p in policy.parameters())


class Fixed(torch.nn.Module):
    """A policy that answers with what it was given."""

    def __init__(self, hypotheses):
        super().__init__()
        self.spec, self.hypotheses = PLANNER, hypotheses

    def forward_sequence(self, observations, first):
        return PolicyOutput(self.hypotheses.best(), None, hypotheses=self.hypotheses)


def test_diagnostics_by_hand():
    """One hypothesis off by 0.3 m in x and 0.1 m in y, and by 1 m more at the end; usage half and half."""
    batch = batch_of(stretches=1, ticks=2)
    truth = torch.cat(
        [batch.label.position, batch.label.heading[..., None], batch.label.speed[..., None]], -1
    )
    off = truth + torch.tensor([0.3, 0.1, 0.0, 0.0])
    off[..., -1, 1] += 1.0
    far = truth + 50.0
    location = torch.stack(
        [torch.stack([off[:, 0], far[:, 0]], 1), torch.stack([far[:, 1], off[:, 1]], 1)], 1
    )
    hypotheses = Hypotheses(location, torch.ones_like(location), torch.tensor([[[9.0, 0.0], [0.0, 9.0]]]))
    got = Imitation().losses({"policy": Fixed(hypotheses)}, batch).diagnostics
    assert got["l1_position"].item() == pytest.approx(0.4 + 1 / 12, abs=1e-4)
    assert got["l1_final"].item() == pytest.approx(1.4, abs=1e-4)
    assert got["usage_entropy"].item() == pytest.approx(math.log(2))


def test_later_points_weigh_less():
    """An error at 1 s costs three times one at 3 s where time_power is 1, as much where it is 0."""
    batch = batch_of(stretches=1, ticks=1)
    truth = torch.cat(
        [batch.label.position, batch.label.heading[..., None], batch.label.speed[..., None]], -1
    )

    def cost(point, power):
        location = truth[:, :, None].clone()
        location[..., point, 1] += 1.0
        hypotheses = Hypotheses(location, torch.full_like(location, 0.5), torch.zeros(1, 1, 1))
        objective = Imitation(time_power=power)
        return objective.losses({"policy": Fixed(hypotheses)}, batch).groups["policy"].item()

    assert cost(3, 1.0) == pytest.approx(3 * cost(11, 1.0), rel=1e-4)
    assert cost(3, 0.0) == pytest.approx(cost(11, 0.0), rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"relaxation": 1.0},
        {"scale_floor": 0.0},
        {"unit": (1.0, 0.0, 1.0, 1.0)},
        {"quantity_weight": (0.0, 0.0, 0.0, 0.0)},
        {"classification": -1.0},
        {"time_power": math.nan},
        {"min_confidence": 1.5},
    ],
)
def test_impossible_settings_are_refused(changes):
    """A setting outside its range says which."""
    with pytest.raises(UserError, match=next(iter(changes))):
        Imitation(**changes)
