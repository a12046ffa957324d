"""Pictures seen in bfloat16: the kernel against its reference, what stays in float32, what is learned."""

import dataclasses

import pytest
import torch

from countersteer.objectives.imitation import Imitation, ImitationBatch
from countersteer.policies.precision import Precision, centred, centred_reference, fastest_precision, seen_in
from countersteer.policies.vit import ViTPlannerSpec
from countersteer.training.learner import Learner
from countersteer.training.stages import OptimSpec
from countersteer.vehicles.plans import Plan
from test_planner import SPEC, observation, planner

BFLOAT16 = seen_in(Precision.BFLOAT16, "cpu")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny tensors: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_kernel_rounds_as_its_reference_does():
    g = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (5, 16, 32, 3), generator=g, dtype=torch.uint8)
    mean = 255 * torch.rand(16, 32, 3, generator=g)
    # Differences half way between two of bfloat16, which has eight bits: 128.5 to 128, 129.5 to 130, both signs.
    frames[0, 0, :4] = torch.tensor([200, 200, 10, 10], dtype=torch.uint8)[:, None]
    mean[0, :4] = torch.tensor([71.5, 70.5, 138.5, 139.5])[:, None]
    with BFLOAT16:
        got = centred(frames, mean)
    expected = centred_reference(frames, mean, torch.bfloat16)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, expected)
    assert got[0, 0, :4, 0].tolist() == [128.0, 130.0, -128.0, -130.0]
    part = frames[:, :, ::2]  # not in one piece
    with BFLOAT16:
        assert torch.equal(centred(part, mean[:, ::2]), expected[:, :, ::2])
    assert torch.equal(centred(frames, mean), frames.float() - mean)


@pytest.mark.parametrize(
    "spec", [SPEC, ViTPlannerSpec(cameras=SPEC.cameras, width=32, heads=2, target_points=0)]
)
def test_what_is_said_stays_in_float32_and_close(spec):
    torch.manual_seed(0)
    policy, seen = spec.build().eval(), observation(40, 3)
    first = torch.zeros(40, 3, dtype=torch.bool)
    exact = policy.forward_sequence(seen, first)
    with BFLOAT16:
        near = policy.forward_sequence(seen, first)
    for name, leaf in near.flatten().items():
        assert leaf.dtype == exact.flatten()[name].dtype, name
    miss = (near.hypotheses.location - exact.hypotheses.location).abs().max()
    assert 0 < miss < 0.02 * exact.hypotheses.location.abs().max()


def label_of(seen):
    """A plan that can be read off a picture: aside by how bright its left half is."""
    bright = seen.sensors["front"].data[..., :16, :].float().mean((-1, -2, -3)) / 127.5 - 1
    aside = (30 * bright)[..., None] * torch.linspace(0, 1, 6)
    return Plan(torch.stack([aside, aside], -1), torch.zeros_like(aside), torch.zeros_like(aside))


def learner(precision, rate=3e-3, steps=80):
    torch.manual_seed(0)
    return Learner(
        {"policy": dataclasses.replace(SPEC, motion_dropout=0.0).build()},
        {},
        Imitation(mirror=False),
        OptimSpec(learning_rate=rate, steps=steps, warmup=0, precision=precision),
    )


def learned(precision, rate=3e-3):
    """Mean loss of the last steps, and the final weights."""
    learning, losses = learner(precision, rate), []
    for step in range(80):
        seen = observation(16, 4, seed=step)
        shade = torch.rand(16, 4, 1, 1, 1, generator=torch.Generator().manual_seed(step))
        front = seen.sensors["front"]
        front = front.replace(data=(front.data * shade).to(torch.uint8))
        seen = seen.replace(sensors={"front": front})
        no = torch.zeros(16, 4, dtype=torch.bool)
        losses.append(learning.update(ImitationBatch(seen, no, label_of(seen), ~no))["l1_final"])
    return sum(losses[-10:]) / 10, learning.weights()


def test_it_learns_as_well_and_only_with_the_picture():
    """Against float32 and against a learner that does not move; the same twice."""
    (exact, _), (rounded, weights), (still, _) = (
        learned(Precision.FLOAT32),
        learned(Precision.BFLOAT16),
        learned(Precision.BFLOAT16, rate=1e-9),
    )
    assert rounded < 0.5 * still
    assert rounded < 1.2 * exact
    again = learned(Precision.BFLOAT16)[1]
    assert all(torch.equal(leaf, again[name]) for name, leaf in weights.items())
    assert all(leaf.dtype == torch.float32 for leaf in weights.values())


def test_gradients_point_the_same_way():
    def gradient(precision):
        learning = learner(precision)
        seen = observation(16, 4)
        no = torch.zeros(16, 4, dtype=torch.bool)
        learning.update(ImitationBatch(seen, no, label_of(seen), ~no))
        return torch.cat([each.grad.flatten() for each in learning.models["policy"].parameters()])

    exact, rounded = gradient(Precision.FLOAT32), gradient(Precision.BFLOAT16)
    assert torch.nn.functional.cosine_similarity(exact, rounded, 0) > 0.98
    assert not torch.equal(exact, rounded)


def test_a_driven_policy_answers_as_ever_unless_asked():
    policy, seen = planner(), observation(8)
    before = policy.encode(seen)
    with seen_in(Precision.FLOAT32, "cpu"):
        assert torch.equal(policy.encode(seen), before)
    with BFLOAT16:
        assert policy.encode(seen).dtype == torch.float32


def test_the_fastest_is_bfloat16_only_with_its_instructions(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert fastest_precision() is Precision.FLOAT32
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert fastest_precision() is Precision.BFLOAT16
