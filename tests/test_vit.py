"""The multi-camera planner: registers, proposals, the scorer; numbers and properties, no training to speak of."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from countersteer.worlds.observations import EgoMotion, Intent, Observation, SensorReading
from safetensors.torch import save_file

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.objectives.imitation import Batch, Imitation
from countersteer.policies.vit import ViTPlanner, ViTPlannerSpec
from countersteer.vehicles.plans import Plan

FRONT, REAR = Camera(name="front", width=32, height=16), Camera(name="rear", width=16, height=16)
SPEC = ViTPlannerSpec(
    cameras=(FRONT, REAR),
    width=24,
    depth=2,
    heads=2,
    registers=3,
    decoder=1,
    target_points=0,
    motion_dropout=0.0,
)


def planner(**changes) -> ViTPlanner:
    torch.manual_seed(0)
    return dataclasses.replace(SPEC, **changes).build().eval()


def observation(*batch: int, seed: int = 0) -> Observation:
    g = torch.Generator().manual_seed(seed)
    yes = torch.ones(batch, dtype=torch.bool)

    def reading(camera: Camera) -> SensorReading:
        shape = (*batch, camera.height, camera.width, 3)
        data = torch.randint(0, 256, shape, generator=g).to(torch.uint8)
        return SensorReading(data, torch.zeros(batch), yes)

    speed = 8.0 + torch.rand(*batch, 5, generator=g)
    return Observation(
        {camera.name: reading(camera) for camera in (FRONT, REAR)},
        EgoMotion(speed, torch.zeros_like(speed), torch.ones_like(speed, dtype=torch.bool)),
        Intent(
            torch.zeros(batch, dtype=torch.long), torch.zeros(batch), torch.full(batch, 8.0),
            torch.zeros(*batch, 0, 2), ~yes,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("proposals", [1, 5])
def test_untrained_it_drives_nearly_straight_on(proposals: int):
    policy, seen = planner(proposals=proposals), observation(4)
    with torch.no_grad():
        answer = policy.act(policy.encode(seen), policy.initial_memory((4,)))
    assert answer.plan is not None
    times = policy.spec.plan.times()
    straight = seen.motion.speed[:, -1:] * times
    assert ((answer.plan.position[..., 0] - straight).abs() < 0.2 * straight + 1.0).all()
    assert answer.plan.position[..., 1].abs().max() < 0.5 * float(times[-1]) ** 2
    assert answer.hypotheses is not None
    assert answer.hypotheses.location.shape == (4, proposals, len(times), 4)
    assert answer.hypotheses.location.std(1, unbiased=False).amax() > 0 or proposals == 1


def test_a_stretch_is_answered_as_its_frames_are_one_by_one():
    policy, seen = planner(proposals=3, choices=7), observation(2, 4)
    with torch.no_grad():
        whole = policy.forward_sequence(seen, torch.zeros(2, 4, dtype=torch.bool))
        one = policy.act(policy.encode(seen[:, 2]), policy.initial_memory((2,)))
    assert whole.hypotheses is not None
    assert one.hypotheses is not None
    for name, leaf in one.hypotheses.flatten().items():
        torch.testing.assert_close(whole.hypotheses.flatten()[name][:, 2], leaf)
    torch.testing.assert_close(whole.logits[:, 2], one.logits)
    assert one.logits.shape == (2, 7)


def test_every_camera_is_read_and_one_that_is_not_valid_is_not():
    policy, seen = planner(), observation(3)
    kept = SPEC.registers * SPEC.width
    with torch.no_grad():
        both = policy.encode(seen)
        for number, camera in enumerate((FRONT, REAR)):
            other = observation(3, seed=1).sensors[camera.name]
            changed = policy.encode(seen.replace(sensors=seen.sensors | {camera.name: other}))
            part = slice(number * kept, (number + 1) * kept)
            assert not torch.isclose(changed[:, part], both[:, part]).all()
            gone = dataclasses.replace(other, valid=torch.zeros(3, dtype=torch.bool))
            blank = policy.encode(seen.replace(sensors=seen.sensors | {camera.name: gone}))
            assert (blank[:, part] == 0).all()
            rest = torch.ones(both.shape[1], dtype=torch.bool)
            rest[part] = False
            assert torch.equal(blank[:, rest], both[:, rest])


def labelled(proposals: int) -> tuple[ViTPlanner, Batch]:
    """Left or right, as the left or the right half of the picture is bright."""
    policy, seen = planner(proposals=proposals, depth=1), observation(4, 2)
    turn = torch.tensor([1.0, -1.0]).repeat(2)[:, None].expand(4, 2)
    data = torch.zeros_like(seen.sensors["front"].data)
    data[turn > 0, :, :16] = 255
    data[turn < 0, :, 16:] = 255
    seen = seen.replace(sensors=seen.sensors | {"front": seen.sensors["front"].replace(data=data)})
    times = policy.spec.plan.times()
    speed = seen.motion.speed[..., -1:].expand(4, 2, len(times))
    side = 0.3 * turn[..., None] * times**2
    plan = Plan(torch.stack([speed * times, side], -1), 0.05 * turn[..., None] * times, speed)
    yes = torch.ones(4, 2, dtype=torch.bool)
    return policy, Batch(seen, ~yes, plan, yes)


@pytest.mark.parametrize("proposals", [1, 4])
def test_it_learns_from_pictures_and_the_scorer_finds_the_proposal(proposals: int):
    policy, batch = labelled(proposals)
    objective = Imitation(mirror=False)
    first = objective.losses({"policy": policy}, batch).diagnostics["l1_position"]
    optimizer = torch.optim.AdamW(policy.parameters(), 2e-3)
    for _ in range(100):
        optimizer.zero_grad()
        objective.losses({"policy": policy.train()}, batch).groups["policy"].backward()
        optimizer.step()
    last = objective.losses({"policy": policy.eval()}, batch).diagnostics["l1_position"]
    assert last < 0.3 * first


def test_the_scorer_does_not_bend_the_plans():
    policy, batch = labelled(4)
    answer = policy.forward_sequence(batch.observations, batch.first)
    assert answer.hypotheses is not None
    answer.hypotheses.logit.square().sum().backward()
    assert policy.query.grad is None or (policy.query.grad == 0).all()
    assert all(p.grad is None or (p.grad == 0).all() for p in policy.answer.parameters())
    assert policy.score.weight.grad.abs().sum() > 0


def test_perception_of_a_file_is_taken_over_and_another_one_refused(tmp_path):
    trained = planner()
    save_file(trained.perception.state_dict(), tmp_path / "eyes.safetensors")
    torch.manual_seed(7)
    taken = dataclasses.replace(SPEC, weights=str(tmp_path / "eyes.safetensors")).build()
    for name, leaf in trained.perception.state_dict().items():
        assert torch.equal(taken.perception.state_dict()[name], leaf)
    assert not torch.equal(taken.query, trained.query)
    with pytest.raises(UserError, match="perception"):
        dataclasses.replace(SPEC, depth=1, weights=str(tmp_path / "eyes.safetensors")).build()
    with pytest.raises(UserError, match="perception"):
        dataclasses.replace(SPEC, weights=str(tmp_path / "missing.safetensors")).build()


@pytest.mark.parametrize(
    "changes", [{"width": 25}, {"patch": 5}, {"cameras": ()}, {"registers": 0}, {"proposals": 0}]
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(UserError):
        dataclasses.replace(SPEC, **changes)


def test_a_condition_is_refused():
    policy = planner()
    with pytest.raises(UserError, match="condition"):
        policy.act(policy.encode(observation(1)), policy.initial_memory((1,)), torch.zeros(1, 12))
