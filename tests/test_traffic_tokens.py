"""Traffic of tokens: vocabularies, tokenising, what is seen, memory, CAT-K, training on a toy, and what it does in a world."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from countersteer.commands import cli
from countersteer.data.sources import ScenarioSource
from countersteer.data.traffic_windows import TrafficBatch, TrafficWindows, give_vocabulary
from countersteer.errors import UserError
from countersteer.evaluation.traffic import OffRoad, recorded_future, sample_futures, score_log, score_traffic
from countersteer.models.token_network import TokenNetwork, TokenNetworkSpec
from countersteer.objectives.next_token import NextToken, closest_among, drawn_near
from countersteer.policies.storage import load_model, save_model
from countersteer.policies.weights import Weights
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.road_pieces import pieces_of
from countersteer.scenarios.scenario import (
    ActorKind,
    MapFeature,
    MapKind,
    Provenance,
    RoadMap,
    Scenario,
    Signals,
    Tracks,
)
from countersteer.scenarios.storage import save as save_scenario
from countersteer.traffic.interface import Traffic
from countersteer.traffic.tokens.faults import Faults
from countersteer.traffic.tokens.frames import CLASS_BOX, compose, ends_of, relative, squared_distance
from countersteer.traffic.tokens.memory import draw, empty, observe
from countersteer.traffic.tokens.model import TokenTraffic, network_of
from countersteer.traffic.tokens.surroundings import look
from countersteer.traffic.tokens.vocabulary import DiskVocabulary, GridVocabulary, mirrored, segments_of
from countersteer.training.recipe import Recipe
from countersteer.training.run import train
from countersteer.training.stages import Fit, OptimSpec
from countersteer.vehicles.plans import Action
from token_traffic import SMALL, Fresh, network, vocabulary
from worlds import boxworld

# --- frames and vocabularies ----------------------------------------------------------------------


def corners(pose: Tensor, kind: int) -> Tensor:
    length, width = CLASS_BOX[kind]
    box = torch.tensor([[length, width], [length, -width], [-length, -width], [-length, width]]) / 2
    ahead = torch.stack([pose[..., 2].cos(), pose[..., 2].sin()], -1)
    left = torch.stack([-ahead[..., 1], ahead[..., 0]], -1)
    return pose[..., None, :2] + box[:, :1] * ahead[..., None, :] + box[:, 1:] * left[..., None, :]


def test_a_pose_in_a_frame_and_back():
    frame, pose = torch.tensor([1.0, 2.0, math.pi / 2]), torch.tensor([1.0, 5.0, math.pi])
    torch.testing.assert_close(
        relative(pose, frame), torch.tensor([3.0, 0.0, math.pi / 2]), atol=1e-5, rtol=0
    )
    back = compose(frame, relative(pose, frame))
    torch.testing.assert_close(back[:2], pose[:2])
    assert math.cos(float(back[2])) == pytest.approx(-1.0)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_squared_distances_are_those_of_the_corners(kind: int):
    generator = torch.Generator().manual_seed(kind)
    motions, poses = (torch.randn(n, 3, generator=generator) for n in (6, 4))
    kinds = torch.full((6,), kind)
    found = squared_distance(ends_of(motions, kinds), kinds, poses, torch.full((4,), kind))
    gaps = corners(poses, kind)[:, None] - corners(motions, kind)[None]
    torch.testing.assert_close(found, gaps.square().sum(-1).mean(-1), atol=1e-4, rtol=1e-4)
    other = torch.full((4,), (kind + 1) % 3)
    assert bool(squared_distance(ends_of(motions, kinds), kinds, poses, other).isinf().all())


def test_classes_are_those_of_scenarios():
    assert list(range(len(CLASS_BOX))) == [ActorKind.VEHICLE, ActorKind.PEDESTRIAN, ActorKind.CYCLIST]


def test_recorded_motions_are_in_the_frame_of_their_beginning_and_seen_throughout():
    at = torch.arange(12.0)
    pose = torch.stack([torch.zeros(12), at, torch.full((12,), math.pi / 2)], -1)[None]
    valid = torch.ones(1, 12, dtype=torch.bool)
    valid[0, 8] = False
    segments = segments_of(pose, valid)
    assert len(segments) == 3  # those that begin at 0, 1 and 2
    torch.testing.assert_close(segments[0, :, 0], torch.arange(1.0, 6.0))
    torch.testing.assert_close(segments[..., 1:], torch.zeros(3, 5, 2), atol=1e-5, rtol=0)


def some_motions(count: int = 4000) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    length = 7.0 * torch.rand(count, 1, generator=generator)
    bend = 0.06 * torch.randn(count, 1, generator=generator) + 0.02  # more to the left
    s = length * torch.linspace(0.2, 1.0, 5)
    turn = bend * s
    return torch.stack([s * torch.sinc(turn / torch.pi), bend * s**2 / 2, turn], -1)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_the_mirror_image_of_every_motion_of_a_grid_is_one_to_the_bit(kind: int):
    found = GridVocabulary().build({kind: some_motions() * (0.2 if kind == 1 else 1.0)}, 4096)
    assert len(found.kind) > 50
    rows = {tuple((row + 0.0).flatten().tolist()) for row in found.motion}
    assert all(tuple((row + 0.0).flatten().tolist()) in rows for row in mirrored(found.motion))
    assert bool((found.motion[0] == 0).all())


def test_cells_of_a_grid_are_means_and_holes_are_filled():
    grid = GridVocabulary(forward=1.0, turn=0.2, least=2, filled=7)
    ends = [(x, turn) for x in (1.0, 2.0, 3.0) for turn in (0.2, 0.4, 0.6) if (x, turn) != (2.0, 0.4)]
    ramp = torch.linspace(0.2, 1.0, 5)
    segments = torch.stack(
        [torch.stack([x * ramp, 0 * ramp, turn * ramp], -1) for x, turn in ends for _ in range(2)]
    )
    found = grid.motions(segments, 0)
    assert len(found) == 2 * 9  # eight cells and the hole among them, left and right
    hole = found[(found[:, -1] - torch.tensor([2.0, 0.0, 0.4])).abs().sum(-1) < 1e-5]
    assert hole.shape[0] == 1
    torch.testing.assert_close(hole[0, :, 0], 2.0 * ramp)


def test_disks_are_further_apart_than_their_radius_and_cover_what_they_removed():
    segments = some_motions(500)
    found = DiskVocabulary(count=500, radius=0.2).build({0: segments}, 1000)
    assert float(found.error(segments, 0).max()) < 0.45
    assert found.digest() == DiskVocabulary(count=500, radius=0.2).build({0: segments}, 1000).digest()
    assert found.digest() != DiskVocabulary(count=500, radius=0.2, seed=1).build({0: segments}, 1000).digest()


def test_too_many_motions_or_none_are_refused():
    with pytest.raises(UserError, match="no vocabulary"):
        GridVocabulary().build({0: some_motions()}, 10)
    with pytest.raises(UserError, match="no vocabulary"):
        GridVocabulary().build({}, 10)


# --- maps -----------------------------------------------------------------------------------------


def straight_road(length: float = 200.0) -> RoadMap:
    line = np.array([[0.0, 0.0, 0.0], [length, 0.0, 0.0]])
    return RoadMap((MapFeature("lane", MapKind.LANE, line, 4.0),))


def test_pieces_of_a_lane():
    rows = pieces_of(straight_road(20.0))
    assert rows[:, 0].tolist() == [2.5, 7.5, 12.5, 17.5]
    np.testing.assert_allclose(rows[:, 1:6], np.tile([0.0, 0.0, 2.0, 5.0, 0.0], (4, 1)), atol=1e-9)
    assert rows[:, 7].tolist() == [0, 0, 0, 1]  # nothing goes on from its end
    assert pieces_of(RoadMap()).shape == (0, 9)


# --- seeing and remembering -----------------------------------------------------------------------


def driving(speeds: tuple[float, ...], seconds: float = 20.0, wave: float = 0.0) -> Scenario:
    """Cars on one straight road, one behind the other 20 m apart, each with its speed, in waves of 3 s."""
    times = np.arange(round(seconds * 10) + 1) / 10
    count = len(speeds)
    position = np.zeros((count, len(times), 3))
    for k, speed in enumerate(speeds):
        position[k, :, 0] = 20.0 * (count - k) + speed * (times + wave * (1 - np.cos(2 * times)))
    velocity = np.gradient(position[..., :2], times, axis=1)
    tracks = Tracks(
        tuple(str(k) for k in range(count)),
        np.zeros(count, np.int64),
        position,
        np.zeros((count, len(times))),
        velocity,
        np.tile([4.5, 1.9, 1.5], (count, 1)),
        np.ones((count, len(times)), bool),
    )
    return Scenario("toy", times, straight_road(400.0), tracks, 0, np.array([[0.0, 0.0], [400.0, 0.0]]),
                    Signals.none(len(times)), Provenance("toy", "toy", "CC0-1.0", f"{speeds}"))  # fmt: skip


@dataclass(frozen=True)
class Toys(ScenarioSource):
    """Columns of cars."""

    def load(self) -> list[Scenario]:
        return [driving((6.0, 6.0), wave=0.4), driving((4.0, 4.0, 4.0), wave=0.4)]


DATA = TrafficWindows(Toys(), windows=4, vocabulary=GridVocabulary(0.25, 0.1))


@dataclass(frozen=True)
class Roads(ScenarioSource):
    """A crossing with lights and a bend."""

    def load(self) -> list[Scenario]:
        kinds = (RoadKind.INTERSECTION, RoadKind.GENTLE)
        return [procedural_road(7 + k, kind, lanes=2, traffic=8) for k, kind in enumerate(kinds)]


ROADS = TrafficWindows(Roads(), windows=3, actors=12)


def batch_of_roads() -> TrafficBatch:
    return ROADS.batch(0, 0)


def in_turn(made: TokenNetwork, batch: TrafficBatch) -> dict[tuple[int, int, int], Tensor]:
    """Logits by window, actor and time, remembered step by step."""
    memory, found = empty(made, batch.seen[..., 0]), {}
    memory.pose[:, :, -1], memory.seen[:, :, -1] = batch.pose[:, :, 0], batch.seen[:, :, 0]
    for time in range(1, batch.pose.shape[2] - 1):
        gone = batch.pose[:, :, time] - batch.pose[:, :, time - 1]
        speed = gone[..., :2].norm(dim=-1) / 0.5
        scene = batch.scene.replace(light=batch.scene.light[..., time : time + 1])
        memory, looked, logits = observe(
            made, memory, batch.pose[:, :, time], speed, batch.seen[:, :, time], scene, batch.roads
        )
        rows = zip(looked.world.tolist(), looked.actor.tolist(), logits, strict=True)
        found |= {(w, a, time): row for w, a, row in rows}
    return found


def test_what_is_remembered_step_by_step_is_what_is_computed_at_once():
    made, batch = network(), batch_of_roads()
    there = batch.seen.clone()
    there[..., 0] = False
    # The first step of each is told how fast it came in `batch`, by a pose; the memory is told by its speed.
    looked = look(batch.pose, there, batch.scene, batch.roads, slice(1, -1))
    logits, _ = made(looked.rows)
    remembered = in_turn(made, batch)
    rows = list(zip(looked.world.tolist(), looked.actor.tolist(), looked.time.tolist(), strict=True))
    assert set(rows) == set(remembered)
    begun_well = {(w, a) for w, a, t in rows if bool(batch.seen[w, a, : t + 1].all())}
    pairs = [(one, remembered[row]) for row, one in zip(rows, logits, strict=True) if row[:2] in begun_well]
    assert len(pairs) > 100
    torch.testing.assert_close(
        torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs]), atol=2e-4, rtol=2e-4
    )


def test_nobody_sees_what_is_yet_to_come():
    made, batch = network(), batch_of_roads()
    there = batch.seen.clone()
    there[..., 0] = False
    later = batch.pose.clone()
    later[:, :, 9:] += torch.tensor([1.0, 2.0, 0.3])
    first, second = (
        made(look(p, there, batch.scene, batch.roads, slice(1, -1)).rows)[0] for p in (batch.pose, later)
    )
    time = look(batch.pose, there, batch.scene, batch.roads, slice(1, -1)).time
    torch.testing.assert_close(first[time < 9], second[time < 9], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(first[time >= 9].nan_to_num(neginf=0), second[time >= 9].nan_to_num(neginf=0))


def test_where_in_the_world_it_happens_does_not_matter():
    made, batch = network(), batch_of_roads()
    there = batch.seen.clone()
    there[..., 0] = False
    frame = torch.tensor([30.0, -20.0, 0.7])
    moved = compose(frame, batch.pose)
    roads = batch.roads.replace(pose=compose(frame, batch.roads.pose))
    lights = torch.cat([batch.scene.stop_point, batch.scene.stop_heading[..., None]], -1)
    lights = compose(frame, lights)
    scene = batch.scene.replace(stop_point=lights[..., :2], stop_heading=lights[..., 2])
    first = made(look(batch.pose, there, batch.scene, batch.roads, slice(1, -1)).rows)[0]
    second = made(look(moved, there, scene, roads, slice(1, -1)).rows)[0]
    # At equal distances, as of the pieces of straight lanes, another neighbour may be the nearest.
    alike = (first - second).abs().nan_to_num(nan=0.0).amax(-1) < 2e-2
    assert float(alike.float().mean()) > 0.95


def test_draws_are_among_the_likeliest_and_as_likely_as_said():
    logits = torch.tensor([0.5, 0.2, 0.2, 0.1]).log().expand(2000, -1)
    number = torch.rand(2000, generator=torch.Generator().manual_seed(0))
    drawn = draw(logits, number, 1.0, 2)
    assert sorted(drawn.unique().tolist()) in ([0, 1], [0, 2])
    assert float((drawn == 0).float().mean()) == pytest.approx(5 / 7, abs=0.03)
    lonely = torch.tensor([[-math.inf, 0.0, -math.inf]])
    assert draw(lonely, torch.tensor([0.999999]), 1.0, 3).tolist() == [1]
    sharp = draw(logits, number, 0.1, 4)
    assert float((sharp == 0).float().mean()) > 0.95


# --- labels, CAT-K --------------------------------------------------------------------------------


def test_the_log_as_nearest_motions_does_not_drift():
    made, batch = network(), DATA.batch(0, 0)
    give_vocabulary(made_here := SMALL.build(), DATA.vocabulary.build(DATA.segments(), SMALL.capacity))
    pose, _ = drawn_near(made_here, batch, 0.0)
    gap = (pose - batch.pose)[..., :2].norm(dim=-1)[batch.seen]
    assert float(gap.max()) < 0.2  # cells of 25 cm
    assert made.used > 0


def test_one_of_one_is_greedy_and_one_of_all_is_the_nearest():
    """K = 1: the likeliest whatever was recorded. K = all: the log as nearest motions. Between, the distance falls with K."""
    made, batch = network(3), batch_of_roads()
    near, _ = drawn_near(made, batch, 0.0)
    gaps = []
    for count in (1, 4, 16, made.used):
        pose, alive = closest_among(made, batch, count, near)
        assert bool((alive >= batch.seen).all())
        gaps.append(float((pose - batch.pose)[..., :2].norm(dim=-1)[batch.seen].mean()))
    assert gaps == sorted(gaps, reverse=True)
    pose, _ = closest_among(made, batch, made.used, near)
    torch.testing.assert_close(pose[batch.seen], near[batch.seen], atol=1e-3, rtol=1e-4)
    other = replace(
        batch, pose=batch.pose + torch.randn(batch.pose.shape[-1]) * torch.tensor([0.0, 0.0, 0.0])
    )
    greedy, _ = closest_among(made, batch, 1, near)
    shifted = batch.replace(pose=torch.where(torch.arange(18)[:, None] > 3, other.pose + 5.0, other.pose))
    same, _ = closest_among(made, shifted, 1, near)
    begun = batch.seen[..., :4].all(-1)
    torch.testing.assert_close(greedy[begun], same[begun], atol=1e-4, rtol=1e-4)


def test_where_the_recording_has_a_gap_the_likeliest_motion_is_taken():
    made, batch = network(3), DATA.batch(0, 1)
    seen = batch.seen.clone()
    seen[:, :, 8] = False
    gap = batch.replace(seen=seen)
    near, _ = drawn_near(made, batch, 0.0)
    pose, alive = closest_among(made, gap, made.used, near)
    assert bool(alive[:, :, 8][batch.seen[:, :, 7]].all())
    at, logits = looked_logits(made, pose, alive, gap, 7)
    motion = logits.argmax(-1)
    torch.testing.assert_close(
        pose[(*at, 8)], compose(pose[(*at, 7)], made.motions[motion, -1]), atol=1e-3, rtol=1e-4
    )


def looked_logits(made: TokenNetwork, pose: Tensor, alive: Tensor, batch: TrafficBatch, time: int):
    there = alive.clone()
    there[..., 0] = False
    looked = look(pose, there, batch.scene, batch.roads, slice(1, time + 1))
    logits, _ = made(looked.rows)
    now = looked.time == time
    return (looked.world[now], looked.actor[now]), logits[now]


def test_a_label_is_the_motion_that_reaches_the_recorded_pose():
    made, batch = network(), DATA.batch(0, 0)
    with torch.no_grad():
        told = NextToken(drift=0.0, softness=0.0).losses({"model": made}, batch)
    assert 0.0 <= float(told.diagnostics["labelled"]) <= 1.0
    far = batch.replace(pose=batch.pose * torch.tensor([50.0, 1.0, 1.0]))
    with torch.no_grad():
        lost = NextToken(drift=0.0).losses({"model": made}, far).diagnostics
    assert float(lost["labelled"]) == 0.0, "nobody can reach it in one step"


def test_closed_loop_tuning_leaves_the_codes_alone():
    made = SMALL.build()
    give_vocabulary(made, vocabulary())
    loss = NextToken(closest=4, learn_codes=False).losses({"model": made}, DATA.batch(0, 0))
    loss.groups["model"].backward()
    learned = {
        name.split(".")[0]
        for name, each in made.named_parameters()
        if each.grad is not None and bool(each.grad.any())
    }
    assert "free" in learned
    assert not learned & {"start", "edges"}


# --- training -------------------------------------------------------------------------------------


def toy_stage(rate: float) -> Fit:
    optim = OptimSpec(steps=60, learning_rate=rate, warmup=5, weight_decay=0.0, checkpoint_every=1000)
    return Fit(
        "toy", DATA, TokenNetworkSpec(width=32, heads=2, edge=16, blocks=1, capacity=256), NextToken(), optim
    )


def nll_on_others(network: TokenNetwork) -> float:
    with torch.no_grad():
        values = [
            NextToken().losses({"model": network}, DATA.batch(99, k)).diagnostics["nll"] for k in range(4)
        ]
    return float(torch.stack(values).mean())


def test_training_learns_that_cars_go_on_as_they_do_and_at_rate_zero_it_does_not(tmp_path: Path):
    learned, _ = load_model(train(Recipe.of(toy_stage(3e-3)), tmp_path / "run", seed=0))
    still, _ = load_model(train(Recipe.of(toy_stage(1e-12)), tmp_path / "still", seed=0))
    assert isinstance(learned, TokenNetwork)
    assert isinstance(still, TokenNetwork)
    assert nll_on_others(still) > 0.5 * math.log(still.used), "it is not easily guessed"
    assert nll_on_others(learned) < 0.6 * nll_on_others(still)

    traffic = TokenTraffic(Weights(str(tmp_path / "run")), together=True)
    scene = driving((6.0, 6.0), wave=0.4)
    futures = sample_futures(traffic, scene, 4.0, 8, seconds=4.0)
    lost = sample_futures(
        TokenTraffic(Weights(str(tmp_path / "still")), together=True), scene, 4.0, 8, seconds=4.0
    )
    errors = [
        np.linalg.norm(each.pose[..., 9, :2] - each.logged[:, 9, :2], axis=-1).mean()
        for each in (futures, lost)
    ]
    assert errors[0] < 0.8 * errors[1]  # after a second


def test_tuning_begins_with_the_weights_it_is_given_and_refuses_others(tmp_path: Path):
    file = train(Recipe.of(replace(toy_stage(1e-3), optim=OptimSpec(steps=2))), tmp_path / "plain", seed=0)
    begun = replace(
        toy_stage(1e-12),
        init_from=Weights(str(file)),
        optim=OptimSpec(steps=1, learning_rate=1e-12, weight_decay=0.0),
    )
    tuned, _ = load_model(train(Recipe.of(begun), tmp_path / "tuned", seed=5))
    plain, _ = load_model(file)
    assert all(
        torch.allclose(a, b, atol=1e-7) for a, b in zip(tuned.parameters(), plain.parameters(), strict=True)
    )
    wrong = replace(begun, model=TokenNetworkSpec(width=16, heads=2, edge=16, blocks=1, capacity=256))
    with pytest.raises(UserError, match="cannot begin with"):
        train(Recipe.of(wrong), tmp_path / "wrong", seed=0)


def test_batches_hang_on_seed_and_step_alone_and_mirrored_ones_are_mirrored():
    first, again = DATA.batch(3, 8), DATA.batch(3, 8)
    assert all(
        torch.equal(a, b) for a, b in zip(first.flatten().values(), again.flatten().values(), strict=True)
    )
    assert not torch.equal(first.pose, DATA.batch(3, 9).pose)
    assert DATA.fingerprint() != replace(DATA, windows=5).fingerprint()
    plain, turned = (replace(ROADS, mirror=share).batch(3, 8) for share in (0.0, 1.0))
    torch.testing.assert_close(turned.pose, mirrored(plain.pose))
    torch.testing.assert_close(turned.roads.pose, mirrored(plain.roads.pose))
    torch.testing.assert_close(turned.roads.about[..., 2], -plain.roads.about[..., 2])
    assert torch.equal(turned.roads.about[..., :2], plain.roads.about[..., :2])


def test_short_scenarios_are_refused():
    @dataclass(frozen=True)
    class Short(ScenarioSource):
        def load(self) -> list[Scenario]:
            return [driving((5.0,), seconds=4.0)]

    with pytest.raises(UserError, match="no scenario is long enough"):
        TrafficWindows(Short()).batch(0, 0)


# --- files ----------------------------------------------------------------------------------------


def test_a_vocabulary_that_is_not_the_trained_one_is_refused(tmp_path: Path):
    made = SMALL.build()
    give_vocabulary(made, vocabulary())
    save_model(tmp_path / "good.safetensors", made, SMALL, {})
    assert network_of(Weights(str(tmp_path / "good.safetensors"))).used == made.used
    made.motions[3] += 0.01
    save_model(tmp_path / "bad.safetensors", made, SMALL, {})
    with pytest.raises(UserError, match="vocabulary"):
        network_of(Weights(str(tmp_path / "bad.safetensors")))
    save_model(tmp_path / "empty.safetensors", SMALL.build(), SMALL, {})
    with pytest.raises(UserError, match="vocabulary"):
        network_of(Weights(str(tmp_path / "empty.safetensors")))


# --- in a world -----------------------------------------------------------------------------------


def traffic_of(**changes: object) -> Traffic:
    """Three cars: one that nobody drives, one that comes at the next tick, and one in whose place that would be or not."""
    world = torch.zeros(1, 3)
    flags = torch.tensor([[False, False, False]])
    values: dict[str, object] = {
        "drive": torch.zeros(1, dtype=torch.long),
        "age": torch.ones(1, dtype=torch.long),
        "pose": torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [60.0, 0.0, 0.0]]]),
        "speed": world,
        "size": torch.tensor([[[4.5, 1.9, 1.5]] * 3]),
        "kind": torch.zeros(1, 3, dtype=torch.long),
        "present": torch.tensor([[True, False, True]]),
        "movable": ~flags,
        "controlled": flags,
        "tow": torch.arange(3)[None],
        "logged_pose": torch.tensor([[[0.0, 0.0, 0.0], [30.0, 0.0, 0.0], [60.0, 0.0, 0.0]]]),
        "logged_speed": world,
        "logged_present": torch.tensor([[True, True, True]]),
        "stop_point": torch.zeros(1, 0, 2),
        "stop_heading": torch.zeros(1, 0),
        "light": torch.zeros(1, 0, dtype=torch.long),
        "scene": torch.zeros(1, dtype=torch.long),
        "roads": None,
    }
    return Traffic(**(values | changes))  # type: ignore[arg-type]


def stepped(traffic: Traffic) -> object:
    from countersteer.scenarios.road_pieces import pack_pieces

    traffic = traffic.replace(roads=pack_pieces([driving((5.0,))]))
    model = TokenTraffic(Fresh())
    moved, _ = model.step(traffic, model.begin(traffic), dt=0.1, seed=0)
    return moved


def test_an_actor_appears_where_nobody_is():
    free = stepped(traffic_of())
    assert free.present.tolist() == [[True, True, True]]  # type: ignore[attr-defined]
    pose = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [32.0, 1.0, 0.0]]])
    logged = torch.tensor([[[0.0, 0.0, 0.0], [30.0, 0.0, 0.0], [32.0, 1.0, 0.0]]])
    taken = stepped(traffic_of(pose=pose, logged_pose=logged))
    assert taken.present.tolist() == [[True, False, True]]  # type: ignore[attr-defined]


def test_a_trailer_follows_who_pulls_it():
    pose = torch.tensor([[[10.0, 0.0, 0.0], [4.0, 0.0, 0.0], [60.0, 0.0, 0.0]]])
    tow, present = torch.tensor([[0, 0, 2]]), torch.ones(1, 3, dtype=torch.bool)
    pulled = pose + torch.tensor([[[0.5, 0.0, 0.1], [9.0, 9.0, 9.0], [0.0, 0.0, 0.0]]])
    moved = stepped(traffic_of(pose=pose, tow=tow, present=present, logged_pose=pulled))
    hitch = pulled[0, 0, :2] - 2.25 * torch.tensor([math.cos(0.1), math.sin(0.1)])
    place = moved.pose[0, 1]  # type: ignore[attr-defined]
    assert float((hitch - place[:2]).norm()) == pytest.approx(6.0 - 2.25, abs=1e-4)
    assert float(place[0]) == pytest.approx(4.5, abs=0.05)
    assert bool(moved.present[0, 1])  # type: ignore[attr-defined]


def test_a_tick_that_does_not_divide_a_motion_is_refused():
    traffic = traffic_of()
    with pytest.raises(UserError, match="half second"):
        TokenTraffic(Fresh()).step(traffic, empty(network(), traffic.present), dt=0.3, seed=0)


def test_cars_move_on_the_way_of_a_motion_and_end_where_it_ends():
    roads = [procedural_road(40, RoadKind.GENTLE, lanes=2, traffic=5)]
    world = boxworld(cameras=(), traffic=TokenTraffic(Fresh()), terminate=()).build(roads, 2, seed=5)
    world.reset(torch.ones(2, dtype=torch.bool), world.draw_starts(torch.arange(2)))
    for _ in range(3):
        begun = world.truth().actors.pose.clone()
        for _ in range(5):
            world.step(Action(torch.zeros(2, 1), torch.zeros(2, 1)))
        memory = world.state.simulation.traffic  # type: ignore[attr-defined]
        driven = (memory.motion >= 0) & world.truth().actors.present
        assert int(driven.sum()) > 3
        ends = compose(begun, network().motions[memory.motion.clamp(min=0), -1])
        torch.testing.assert_close(world.truth().actors.pose[driven], ends[driven], atol=1e-3, rtol=1e-4)
        assert not bool(driven[:, 0].any()), "the controlled car has no motion drawn"


def test_who_is_wrong_on_purpose():
    drive, zero = torch.arange(400), torch.zeros(400, dtype=torch.long)
    faults = Faults(inattentive=0.3, aggressive=0.2, late=0.5)
    assert float(faults.hurries(1, drive, 8).float().mean()) == pytest.approx(0.2, abs=0.03)
    now, then, later = (faults.blind(1, drive, zero + tick, 0.1, 8) for tick in (0, 29, 31))
    assert float(now.float().mean()) == pytest.approx(0.3, abs=0.03)
    assert torch.equal(now, then)
    assert not torch.equal(now, later)
    assert not bool(faults.waits(1, drive, zero, 8).any())
    assert float(faults.waits(1, drive, zero + 1, 8).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_who_is_in_a_hurry_gets_further_and_who_does_not_look_does_not_see():
    scene = driving((6.0, 6.0), seconds=14.0)

    def way(faults: Faults) -> float:
        futures = sample_futures(TokenTraffic(Fresh(), faults, together=True), scene, 2.0, 16, seconds=4.0)
        return float(np.linalg.norm(futures.pose[:, :, -1, :2] - futures.begin[:, :2], axis=-1).mean())

    assert way(Faults(aggressive=1.0, hurry=3.0)) > 1.3 * way(Faults())
    near = driving((6.0, 6.0), seconds=14.0)
    alone = sample_futures(TokenTraffic(Fresh(), Faults(inattentive=1.0)), near, 2.0, 2, seconds=2.0)
    other = near.tracks.position.copy()
    other[0, :, 1] += 3.0  # the leader stands elsewhere
    moved = replace(near, tracks=replace(near.tracks, position=other))
    still = sample_futures(TokenTraffic(Fresh(), Faults(inattentive=1.0)), moved, 2.0, 2, seconds=2.0)
    seeing = [
        sample_futures(TokenTraffic(Fresh(), together=True), each, 2.0, 32, seconds=4.0).pose[:, 1]
        for each in (near, moved)
    ]
    assert np.array_equal(alone.pose[:, 1], still.pose[:, 1])
    assert not np.array_equal(*seeing)


def test_drives_together_are_nearly_those_alone():
    roads = [procedural_road(40, RoadKind.GENTLE, lanes=2, traffic=5)]
    poses = []
    for together in (False, True):
        spec = boxworld(cameras=(), traffic=TokenTraffic(Fresh(), together=together), terminate=())
        world = spec.build(roads, 2, seed=5)
        world.reset(torch.ones(2, dtype=torch.bool), world.draw_starts(torch.arange(2)))
        for _ in range(6):
            world.step(Action(torch.zeros(2, 1), torch.zeros(2, 1)))
        poses.append(world.truth().actors.pose)
    torch.testing.assert_close(*poses, atol=1e-3, rtol=1e-4)


# --- scores ---------------------------------------------------------------------------------------


def test_the_recording_scores_higher_than_who_stands_still():
    scene = driving((6.0, 6.0), seconds=14.0)
    happened, edge = recorded_future(scene, 2.0, 8.0), OffRoad(scene.road)
    log = score_log(happened, edge, 8)
    still = np.broadcast_to(happened.begin[None, :, None], (8, *happened.logged.shape))
    standing = score_traffic(replace(happened, pose=still), edge)
    assert log.realism > 0.8
    assert log.ade == log.collisions == log.off_road == 0.0
    assert standing.realism < log.realism - 0.03
    assert standing.ade == pytest.approx(6.0 * 8.1 / 2, rel=0.01)


def test_distance_off_the_lanes():
    edge = OffRoad(straight_road(50.0))
    found = edge(np.array([[25.0, 0.0], [25.0, 1.0], [25.0, 3.0], [25.0, -6.0]]))
    np.testing.assert_allclose(found, [-2.0, -1.0, 1.0, 4.0], atol=0.3)
    assert np.isnan(OffRoad(RoadMap())(np.zeros((2, 2)))).all()


def test_the_command_films_and_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = TokenNetworkSpec(width=16, heads=2, edge=8, blocks=1, capacity=256)
    net = made.build()
    give_vocabulary(net, vocabulary())
    save_model(tmp_path / "model.safetensors", net, made, {})
    save_scenario(driving((6.0, 6.0), seconds=12.0), tmp_path / "scene")
    words = [
        "traffic",
        str(tmp_path / "scene"),
        "--weights",
        str(tmp_path),
        "--rollouts",
        "3",
        "--seconds",
        "2",
    ]
    out, numbers = tmp_path / "film.mp4", tmp_path / "numbers.json"
    assert cli.main([*words, "--out", str(out), "--json", str(numbers)]) == 0
    assert "realism" in capsys.readouterr().out
    assert out.stat().st_size > 5_000
    found = json.loads(numbers.read_text())
    assert 0.0 < found["futures"]["realism"] <= 1.0
    assert found["recording"]["ade"] == 0.0


def test_the_command_trains_from_a_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = Path(__file__).with_name("tiny_traffic.py")
    assert cli.main(["train", f"{recipe}:tiny", "--out", str(tmp_path / "run"), "--optim.steps", "2"]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    assert network_of(Weights(str(tmp_path / "run"))).used > 3
