"""The camera planner: memory and sequences agree, inputs are used as declared, outputs are sane."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.policies.planner import CNNPlanner, CNNPlannerSpec
from countersteer.policies.storage import load_policy
from countersteer.reporting.run_report import pretrained_policy
from countersteer.storage import serialise
from countersteer.vehicles.plans import PlanSpec
from countersteer.worlds.observations import EgoMotion, Intent, Observation, SensorReading

SMALL = (Camera(width=32, height=16),)
SPEC = CNNPlannerSpec(
    cameras=SMALL, history=(1, 2), stride=2, channels=(8, 16), features=12, hidden=32, plan=PlanSpec(6, 0.5)
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny tensors: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def observation(*batch, cameras=SMALL, history=5, seed=0, targets=2):
    """Random observations; nothing in them is constant, so that every input can matter."""
    g = torch.Generator().manual_seed(seed)
    time = torch.zeros(batch)
    sensors = {
        c.name: SensorReading(
            torch.randint(0, 256, (*batch, c.height, c.width, 3), generator=g, dtype=torch.uint8),
            time,
            torch.ones(batch, dtype=torch.bool),
        )
        for c in cameras
    }
    motion = EgoMotion(
        10 + torch.randn(*batch, history, generator=g),
        0.1 * torch.randn(*batch, history, generator=g),
        torch.ones(*batch, history, dtype=torch.bool),
    )
    intent = Intent(
        torch.randint(0, 3, batch, generator=g),
        torch.rand(batch, generator=g),
        10 + torch.randn(batch, generator=g),
        10 * torch.randn(*batch, targets, 2, generator=g),
        torch.ones(batch, dtype=torch.bool),
    )
    return Observation(sensors, motion, intent)


def planner(spec=SPEC, *, seed=0, lively=True) -> Any:
    """An evaluated planner; `lively` undoes the small first output layer, so that differences show."""
    torch.manual_seed(seed)
    built = spec.build().eval()
    if lively:
        with torch.no_grad():
            built.answer.weight.mul_(100.0)
    return built


def assert_equal(a, b, *, exactly=False):
    for name, leaf in a.flatten().items():
        torch.testing.assert_close(
            leaf, b.flatten()[name], rtol=0 if exactly else 1e-4, atol=0 if exactly else 1e-4
        )


def differs(a, b) -> bool:
    return (a.location - b.location).abs().max().item() > 1e-3


def step(policy, seen, memory) -> Any:
    """One tick of driving."""
    return policy.act(policy.encode(seen), memory)


def drive(policy, observations, first):
    """The answers of `act`, tick by tick, with empty memory wherever `first` says; `[batch time ...]`."""
    fresh = policy.initial_memory((len(first),))
    memory, answers = fresh, []
    for tick in range(first.shape[1]):
        output = step(policy, observations[:, tick], fresh.where(first[:, tick], memory))
        memory = output.memory
        answers.append(output.hypotheses)
    return type(answers[0]).stack(answers, 1)


def keep_every(stride, first):
    """`first` of every `stride`-th frame: whether anything began since the last kept one."""
    since = [
        first[:, max(tick - stride + 1, 0) : tick + 1].any(1) for tick in range(0, first.shape[1], stride)
    ]
    return torch.stack(since, 1)


@pytest.mark.parametrize(("history", "stride"), [((1, 2), 2), ((), 1), ((2, 5), 3), ((1, 2, 3), 1)])
@pytest.mark.parametrize("restarts", [(), (4,), (5,), (3, 4, 8)])
def test_sequence_equals_driving(history, stride, restarts):
    """Training sees exactly what driving sees: memory full, filling, emptied on kept or skipped ticks."""
    policy = planner(CNNPlannerSpec(**{**vars(SPEC), "history": history, "stride": stride}))
    seen, first = observation(2, 13), torch.zeros(2, 13, dtype=torch.bool)
    first[:, 0] = True
    first[1, list(restarts)] = True
    with torch.no_grad():
        together = policy.forward_sequence(seen[:, ::stride], keep_every(stride, first))
        assert_equal(drive(policy, seen, first)[:, ::stride], together.hypotheses)


def test_what_came_before_a_start_leaves_no_trace():
    """Pictures of another drive in the same stretch change nothing after `first`, and would without it."""
    policy, seen = planner(), observation(1, 6)
    data = seen.sensors["front"].data.clone()
    data[:, :3] = 255 - data[:, :3]
    other = seen.replace(sensors={"front": seen.sensors["front"].replace(data=data)})
    first = torch.tensor([[True, False, False, True, False, False]])
    with torch.no_grad():
        a, b = (policy.forward_sequence(o, first).hypotheses[:, 3:] for o in (seen, other))
        c, d = (policy.forward_sequence(o, torch.zeros_like(first)).hypotheses[:, 3:] for o in (seen, other))
    assert_equal(a, b)
    assert differs(c, d)


def test_older_frames_are_used_and_only_at_the_stride():
    """The plan depends on the frames at t, t - 2, t - 4 and on no other tick's picture."""
    policy, seen, first = planner(), observation(1, 6), torch.zeros(1, 6, dtype=torch.bool)
    with torch.no_grad():
        before = drive(policy, seen, first)[:, 5]
        changed = []
        for tick in range(6):
            data = seen.sensors["front"].data.clone()
            data[:, tick] = 255 - data[:, tick]
            other = seen.replace(sensors={"front": seen.sensors["front"].replace(data=data)})
            changed.append(differs(drive(policy, other, first)[:, 5], before))
    assert changed == [False, True, False, True, False, True]


def test_memory_is_copied_by_indexing():
    """A fork of memory rows, rows repeating, continues exactly as its originals do."""
    policy, rows = planner(), torch.tensor([2, 0, 2, 1])
    with torch.no_grad():
        memory = policy.initial_memory((3,))
        for tick in range(5):
            memory = step(policy, observation(3, seed=tick), memory).memory
        seen = observation(3, seed=9)
        original = step(policy, seen, memory)
        forked = step(policy, seen[rows], memory[rows])
    assert_equal(forked.hypotheses, original.hypotheses[rows])
    assert_equal(forked.memory, original.memory[rows])


def test_act_leaves_its_memory_alone():
    """`act` returns new memory and does not write into the old."""
    policy = planner()
    memory = policy.initial_memory((2,))
    kept = memory.clone()
    with torch.no_grad():
        step(policy, observation(2), memory)
    assert_equal(memory, kept, exactly=True)


def test_leading_dimensions_are_free():
    """`[world agent]` gives the same plans as the same cars in one row."""
    policy, seen = planner(), observation(2, 3)
    flat = seen.map(lambda leaf: leaf.flatten(0, 1))
    with torch.no_grad():
        grid = step(policy, seen, policy.initial_memory((2, 3)))
        row = step(policy, flat, policy.initial_memory((6,)))
        alone = step(policy, seen[1, 2], policy.initial_memory(()))
    assert grid.plan.position.shape == (2, 3, 6, 2)
    assert_equal(grid.plan.map(lambda leaf: leaf.flatten(0, 1)), row.plan)
    assert_equal(alone.plan, row.plan[5])


def test_untrained_planner_drives_straight_on():
    """Before training the plan is within decimetres of going straight on at the present speed."""
    policy, seen = planner(CNNPlannerSpec(), lively=False), observation(8, cameras=(Camera(),))
    with torch.no_grad():
        output = step(policy, seen, policy.initial_memory((8,)))
    times, speed = PlanSpec().times(), seen.motion.speed[:, -1:]
    torch.testing.assert_close(output.plan.position[..., 0], speed * times, rtol=0, atol=0.7)
    assert output.plan.position[..., 1].abs().max() < 0.7
    assert output.plan.heading.abs().max() < 0.05
    torch.testing.assert_close(output.plan.speed, speed.expand(8, 12), rtol=0, atol=0.3)
    assert output.hypotheses.scale.min() > 0


def test_scale_has_a_floor():
    """However sure the head is, scales stay above the floor."""
    policy = planner()
    with torch.no_grad():
        policy.answer.bias.fill_(-1e4)
        scale = step(policy, observation(2), policy.initial_memory((2,))).hypotheses.scale
    torch.testing.assert_close(scale.amin((0, 1, 2)), torch.tensor([0.05, 0.05, 0.005, 0.05]))


def test_motion_is_dropped_in_training_only():
    """In training about half of the samples answer as if they knew only their speed; in driving none does."""
    policy = planner(CNNPlannerSpec(**{**vars(SPEC), "motion_dropout": 0.5}))
    seen = observation(1, 1).map(lambda leaf: leaf.expand(1, 400, *leaf.shape[2:]))
    first = torch.ones(1, 400, dtype=torch.bool)  # no memory: only the motion can tell samples apart
    unknown = seen.replace(motion=seen.motion.replace(valid=torch.zeros_like(seen.motion.valid)))
    with torch.no_grad():
        full = policy.forward_sequence(seen, first).hypotheses.location[0]
        bare = policy.forward_sequence(unknown, first).hypotheses.location[0]
        torch.manual_seed(1)
        trained = policy.train().forward_sequence(seen, first).hypotheses.location[0]
    is_bare = torch.isclose(trained, bare, rtol=0, atol=1e-4).all(-1).all(-1).all(-1)
    is_full = torch.isclose(trained, full, rtol=0, atol=1e-4).all(-1).all(-1).all(-1)
    assert (is_bare ^ is_full).all()
    assert 150 < is_bare.sum() < 250


def test_dropped_motion_keeps_speed_and_hides_yaw_rate():
    """With dropout at 1 the yaw rate and the past speeds change nothing; the present speed still does."""
    policy = planner(CNNPlannerSpec(**{**vars(SPEC), "motion_dropout": 1.0})).train()
    seen = observation(3)
    motion = seen.motion
    past = motion.speed.clone()
    past[..., :-1] += 5.0
    turned = seen.replace(motion=motion.replace(yaw_rate=motion.yaw_rate + 1.0, speed=past))
    faster = seen.replace(motion=motion.replace(speed=motion.speed + 5.0))
    with torch.no_grad():
        memory = policy.initial_memory((3,))
        answers = [step(policy, o, memory).hypotheses for o in (seen, turned, faster)]
        driving = [policy.eval().act(policy.encode(o), memory).hypotheses for o in (seen, turned)]
    assert_equal(answers[0], answers[1], exactly=True)
    assert differs(answers[0], answers[2])
    assert differs(driving[0], driving[1])


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_blind_ignores_the_picture(mode):
    """A blind planner answers alike to any two pictures; one that sees does not."""
    one, two = observation(2, seed=1), observation(2, seed=2)
    two = two.replace(motion=one.motion, intent=one.intent)
    for blind in (True, False):
        policy = planner(CNNPlannerSpec(**{**vars(SPEC), "blind": blind, "motion_dropout": 0.0}))
        policy.train(mode == "train")
        policy.calibrate(one)
        with torch.no_grad():
            memory = policy.initial_memory((2,))
            first, second = (step(policy, o, memory).hypotheses for o in (one, two))
        assert differs(first, second) is not blind


def test_blind_sees_the_mean_image():
    """Blind equals seeing the mean image: the same weights, shown that picture, answer the same."""
    seen = observation(2)
    policy, blind = planner(), planner(CNNPlannerSpec(**{**vars(SPEC), "blind": True}))
    grey = torch.full_like(seen.sensors["front"].data, 100)
    mean = seen.replace(sensors={"front": seen.sensors["front"].replace(data=grey)})
    policy.calibrate(mean)
    blind.load_state_dict(policy.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(blind.encode(seen), policy.encode(mean))


def test_mean_image_is_the_mean_of_valid_pictures():
    """Invalid readings do not count."""
    seen = observation(4)
    valid = torch.tensor([True, False, True, False])
    seen = seen.replace(sensors={"front": seen.sensors["front"].replace(valid=valid)})
    policy = planner()
    policy.calibrate(seen)
    expected = seen.sensors["front"].data[valid].float().mean(0)
    torch.testing.assert_close(policy.mean_image[0], expected)


def test_several_cameras_each_matter_and_invalid_ones_do_not():
    """Both pictures reach the features; one that is not valid is ignored."""
    cameras = (Camera("left", 32, 16), Camera("right", 32, 16))
    policy = planner(CNNPlannerSpec(**{**vars(SPEC), "cameras": cameras}))
    seen = observation(2, cameras=cameras)
    with torch.no_grad():
        before = policy.encode(seen)
        for name in ("left", "right"):
            reading = seen.sensors[name]
            other = reading.replace(data=255 - reading.data)
            changed = seen.replace(sensors={**seen.sensors, name: other})
            assert (policy.encode(changed) - before).abs().max() > 1e-3
            off = torch.zeros_like(reading.valid)
            a, b = (
                seen.replace(sensors={**seen.sensors, name: r.replace(valid=off)}) for r in (reading, other)
            )
            torch.testing.assert_close(policy.encode(a), policy.encode(b), rtol=0, atol=0)


def test_position_in_the_picture_survives():
    """Moving a stripe sideways changes the features by much: they are not pooled over the image."""
    policy, seen = planner(), observation(2)
    data = torch.zeros(2, 16, 32, 3, dtype=torch.uint8)
    data[0, :, 4:8] = 255
    data[1, :, 20:24] = 255  # the same phase of the patches: pooling could not tell
    with torch.no_grad():
        features = policy.encode(seen.replace(sensors={"front": seen.sensors["front"].replace(data=data)}))
    image = features[:, : SPEC.features]
    assert (image[0] - image[1]).norm() > 0.1 * image.norm()


def test_target_points_are_ignored_unless_asked_for():
    """By default route points cannot leak the offset; asked for, they matter where they are given."""
    seen = observation(2)
    moved = seen.replace(intent=seen.intent.replace(target_points=seen.intent.target_points + 5.0))
    policy, guided = planner(), planner(CNNPlannerSpec(**{**vars(SPEC), "target_points": 2}))
    absent = torch.zeros(2, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(policy.encode(seen), policy.encode(moved), rtol=0, atol=0)
        assert (guided.encode(seen) - guided.encode(moved)).abs().max() > 0.1
        hidden = [
            guided.encode(o.replace(intent=o.intent.replace(target_valid=absent))) for o in (seen, moved)
        ]
        torch.testing.assert_close(hidden[0], hidden[1], rtol=0, atol=0)


def test_longer_motion_is_cut_to_what_it_reads():
    """Only the latest ticks count, so a world may remember more than the planner reads."""
    policy, seen = planner(), observation(2, history=9)
    short = seen.replace(motion=seen.motion.map(lambda leaf: leaf[..., -5:]))
    with torch.no_grad():
        torch.testing.assert_close(policy.encode(seen), policy.encode(short), rtol=0, atol=0)


def test_unknown_motion_may_hold_anything():
    """What odometry holds before the drive began, not-a-number included, does not reach the features."""
    policy, seen = planner(), observation(2)
    valid = seen.motion.valid.clone()
    valid[:, :3] = False
    speed, yaw_rate = seen.motion.speed.clone(), seen.motion.yaw_rate.clone()
    speed[:, :3], yaw_rate[:, :3] = math.nan, math.nan
    clean = seen.replace(motion=seen.motion.replace(valid=valid))
    dirty = seen.replace(motion=EgoMotion(speed, yaw_rate, valid))
    with torch.no_grad():
        torch.testing.assert_close(policy.encode(dirty), policy.encode(clean), rtol=0, atol=0)


def test_state_round_trip():
    """A checkpoint carries everything: another planner with its state answers bitwise alike."""
    policy, other, seen = planner(seed=1), planner(seed=2), observation(2)
    policy.calibrate(seen)
    other.load_state_dict({name: leaf.clone() for name, leaf in policy.state_dict().items()})
    with torch.no_grad():
        memory = policy.initial_memory((2,))
        a, b = (p.act(p.encode(seen), memory) for p in (policy, other))
    assert_equal(a, b, exactly=True)
    assert "mean_image" in policy.state_dict()


def test_same_seed_same_weights():
    """Weights come from torch's global generator and from nothing else."""
    a, b = planner(seed=3).state_dict(), planner(seed=3).state_dict()
    assert all(torch.equal(leaf, b[name]) for name, leaf in a.items())


def test_default_size():
    """The default planner stays compact."""
    assert 0.7e6 < sum(p.numel() for p in CNNPlannerSpec().build().parameters()) < 1.2e6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history": (2, 1)}, "history"),
        ({"motion_dropout": 1.5}, "motion_dropout"),
        ({"cameras": ()}, "no camera"),
        ({"cameras": (Camera("a", 32, 16), Camera("b", 64, 16))}, "32x16, 64x16"),
        ({"cameras": (Camera(width=30, height=16),)}, "multiples of 4"),
    ],
)
def test_impossible_specs_are_refused(changes, message):
    """A spec that cannot be built says which field and why."""
    with pytest.raises(UserError, match=message):
        CNNPlannerSpec(**{**vars(SPEC), **changes})


def test_other_observations_are_refused():
    """A world that differs from the spec is an error that names what differs."""
    policy = planner()
    with pytest.raises(UserError, match="'front'"):
        policy.encode(observation(2, cameras=(Camera("rear", 32, 16),)))
    with pytest.raises(UserError, match="64"):
        policy.encode(observation(2, cameras=(Camera("front", 64, 32),)))
    with pytest.raises(UserError, match="3 ticks"):
        policy.encode(observation(2, history=3))
    with pytest.raises(UserError, match="condition"):
        policy.act(policy.encode(observation(2)), policy.initial_memory((2,)), torch.ones(2))


# The bottleneck.


def test_noise_leaves_the_bits_that_were_asked_for():
    """Features that are always 1 or -1 have all the power there is, and carry the bottleneck_bits; any others less."""
    spec = dataclasses.replace(SPEC, bottleneck_bits=18.0)  # 1.5 bits a feature: a signal-to-noise ratio of 7
    assert spec.noise == pytest.approx(1 / math.sqrt(7))
    signs = torch.tensor([[1.0], [-1.0]]).expand(2, 12)
    built = planner(spec)
    assert built.bits(signs) == pytest.approx(18.0)
    assert built.bits(0.1 * signs) < 1.5
    seen = built.encode(observation(64)).detach()
    assert float(seen[:, :12].abs().max()) <= 1.0
    assert 0.0 < built.bits(seen) < 18.0
    with pytest.raises(UserError, match="any number of bits"):
        planner().bits(signs)
    with pytest.raises(UserError, match=r"CNNPlannerSpec\.bottleneck_bits"):
        dataclasses.replace(SPEC, bottleneck_bits=0.0)


def test_features_are_noisy_in_training_only():
    spec = dataclasses.replace(SPEC, bottleneck_bits=12.0)
    built, seen = planner(spec), observation(2000)
    clear = built.encode(seen).detach()
    assert torch.equal(clear, built.encode(seen))
    noise = built.train().encode(seen).detach() - clear
    assert float(noise[:, :12].std()) == pytest.approx(1 / math.sqrt(3), rel=0.02)
    assert not noise[:, 12:].any(), "what the car's own instruments say is left alone"


def noisy_and_clear(bottleneck_bits: float, samples: int = 4000) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A bounded planner, and what it keeps of the same pictures while training and while driving."""
    built, seen = planner(dataclasses.replace(SPEC, bottleneck_bits=bottleneck_bits)), observation(samples)
    with torch.no_grad():
        clear = built.encode(seen)[:, : SPEC.features]
        noisy = built.train().encode(seen)[:, : SPEC.features]
    return built.eval(), noisy, clear


@pytest.mark.parametrize("bottleneck_bits", [3.0, 12.0, 48.0])
def test_bits_are_what_a_gaussian_channel_carries(bottleneck_bits):
    """-log2(1 - r^2) / 2 a feature, r the correlation of what leaves the channel with what went in."""
    built, noisy, clear = noisy_and_clear(bottleneck_bits)
    both = torch.stack([noisy - noisy.mean(0), clear - clear.mean(0)])
    square = (both[0] * both[1]).mean(0).square() / both.square().mean(1).prod(0)
    assert built.bits(clear) == pytest.approx(float(-(1 - square).log2().sum() / 2), rel=0.1)


@pytest.mark.parametrize("bottleneck_bits", [3.0, 12.0, 48.0])
def test_no_code_of_two_letters_gets_more_through_than_the_setting(bottleneck_bits):
    """1 - E[log2(1 + exp(-2 (1 + n) / s^2))] of signs in the noise that is really drawn; nearly all at few bits."""
    built, noisy, clear = noisy_and_clear(bottleneck_bits)
    drawn, power = noisy - clear, built.spec.noise**2
    letter = bottleneck_bits / SPEC.features
    carried = 1 - float(torch.log1p(torch.exp(-2 * (1 + drawn) / power)).mean()) / math.log(2)
    assert carried <= letter
    if letter <= 0.25:
        assert carried > 0.9 * letter


def test_the_gradient_passes_the_noise():
    """Noise is added, so it leaves every gradient of the features what it was, and every layer learns."""
    built, seen = planner(dataclasses.replace(SPEC, bottleneck_bits=12.0)), observation(8)
    gradients = []
    for training in (False, True):
        built.train(training).zero_grad()
        built.encode(seen)[:, : SPEC.features].sum().backward()
        gradients.append(
            {name: leaf.grad.clone() for name, leaf in built.named_parameters() if leaf.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys() >= {"patches.weight", "image_features.weight"}
    assert all(torch.equal(leaf, gradients[1][name]) and leaf.any() for name, leaf in gradients[0].items())
    built.zero_grad()
    answers = built.forward_sequence(observation(2, 4), torch.zeros(2, 4, dtype=torch.bool))
    answers.hypotheses.location.sum().backward()
    assert all(
        leaf.grad is not None and leaf.grad.any()
        for name, leaf in built.named_parameters()
        if "weight" in name
    )


def test_without_a_bound_nothing_is_drawn_and_no_bit_changes():
    """Rectified features of the same weights, alike in training, and torch's random numbers go on as they were."""
    plain, bounded = planner(), planner(dataclasses.replace(SPEC, bottleneck_bits=12.0))
    assert all(torch.equal(leaf, plain.state_dict()[name]) for name, leaf in bounded.state_dict().items())
    before: list[torch.Tensor] = []
    plain.image_features.register_forward_hook(lambda layer, inputs, output: before.append(output))
    seen, state = observation(64), torch.get_rng_state()
    with torch.no_grad():
        driving, training = plain.encode(seen), plain.train().encode(seen)
    assert torch.equal(driving, training)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(driving[:, : SPEC.features], before[0].relu())


def test_policies_of_before_the_bound_have_none():
    """Settings that were written without a bottleneck_bits, as those of the shipped policy, are read as without a bound."""
    written = serialise.to_json(SPEC)
    del written["bottleneck_bits"]
    assert serialise.from_json(written) == SPEC
    shipped, _ = load_policy(pretrained_policy())
    assert isinstance(shipped, CNNPlanner)
    assert shipped.spec.bottleneck_bits is None
