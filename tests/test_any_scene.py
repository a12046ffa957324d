"""Scores and verdicts of scenes of any length and shape: short ones, routes that cross themselves, roads above roads, ghosts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import drives
from countersteer.evaluation import suites
from countersteer.evaluation.metrics import contacts, navsim
from countersteer.evaluation.metrics.from_record import drive_of_record
from countersteer.evaluation.records import SuiteResult
from countersteer.evaluation.replay import load_replay, save_replay
from countersteer.geometry import polygons, polylines
from countersteer.scenarios.coverage import coverage
from countersteer.scenarios.levels import ground_below, on_level
from countersteer.scenarios.scenario import MapFeature, MapKind, Scenario
from countersteer.traffic.idm import IDM
from countersteer.vehicles.plans import Action
from countersteer.worlds.backend import Backend
from countersteer.worlds.simulation.scenes import build_bank
from made_scenes import DT, Driven, along, driven, edge, lane, scene, straight, track
from worlds import boxworld


def steadily(seconds: float) -> Scenario:
    """10 m/s straight on."""
    ticks = round(seconds / DT) + 1
    return scene([track(ticks, 10 * np.arange(ticks) * DT, 0)], straight())


@pytest.fixture(scope="module")
def short() -> dict[float, Driven]:
    lengths = (0.5, 3.0, 4.0, 9.0, 11.0)
    return dict(zip(lengths, driven(*map(steadily, lengths)), strict=True))


def test_a_short_scene_has_the_scores_of_the_same_drive_15_s_long(short):
    for seconds, (case, _, found) in list(short.items())[1:]:
        assert case.passed
        for name, score in found.items():
            best = (
                100.0 if "carla" in name or name == "bench2drive" else 0.0 if name == "displacement" else 1.0
            )
            assert score.value == pytest.approx(best, abs=0.01), (seconds, name, score.undefined)


def test_what_a_score_needs_and_a_scene_has_not_is_said_in_numbers(short):
    _, _, found = short[0.5]
    assert "0.5 s; expected 4 s, at least 1 s" in found["navsim_v2"].undefined
    assert "5.0 m; expected at least 10 m" in found["carla_2_0"].undefined
    assert "plans of 3 s in a drive of 0.5 s" in found["displacement"].undefined
    assert found["nuplan"].value == pytest.approx(1.0, abs=1e-6)


def test_a_drive_is_judged_for_as_long_as_its_driver_was_recorded(short):
    """Also where single poses are missing in between; behind a long gap nobody knows where he was."""
    record = short[9.0][1]
    made = record.scenario

    def expert(unseen: slice):
        valid = made.tracks.valid.copy()
        valid[0, unseen] = False
        tracks = dataclasses.replace(
            made.tracks, valid=valid, position=made.tracks.position * valid[..., None]
        )
        drive = drive_of_record(
            dataclasses.replace(record, scenario=dataclasses.replace(made, tracks=tracks))
        )
        return drive.times, drive.expert

    for unseen, last in (
        (slice(0, 0), 9.0),
        (slice(40, 45), 9.0),
        (slice(60, None), 5.9),
        (slice(40, 60), 3.9),
    ):
        times, found = expert(unseen)
        assert found is not None
        assert times[-1] == pytest.approx(last)
        assert len(found.heading) == len(times)
        assert found.speed == pytest.approx(np.full(len(times), 10.0), abs=0.01)
    assert expert(slice(0, 5))[1] is None


@pytest.mark.parametrize(("y", "on_it"), [(-1.0, 0.0), (5.0, 0.0), (-0.999, 1.0), (4.999, 1.0)])
def test_a_corner_exactly_on_the_border_is_outside_for_navsim(y: float, on_it: float):
    """As for shapely's `contains`; the road of `drives` reaches from -2 to 6 m, the car is 2 m wide."""
    drive = drives.straight(y=y)
    assert navsim.score_epdms(drive).parts.drivable_area == on_it
    assert navsim.score_pdms(drive).parts.drivable_area == on_it


def test_points_on_edges_and_corners_are_not_within():
    square = drives.box(0, 2, 0, 2)
    points = np.array(
        [[1, 0], [1, 2], [0, 1], [2, 1], [0, 0], [2, 2], [1, 1], [3, 2], [2, 3], [-1, 0]], float
    )
    assert polygons.within(square, points).tolist() == [False] * 6 + [True] + [False] * 3


def arc(x: float, y: float, radius: float, begin: float, end: float, count: int = 400) -> np.ndarray:
    turn = np.linspace(begin, end, count)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], -1)


def eight() -> np.ndarray:
    """A figure eight that crosses itself at the origin, 230 m long."""
    turn = np.linspace(0, 2 * np.pi, 1500)
    return np.stack([40 * np.sin(turn), 20 * np.sin(2 * turn)], -1)


def there_and_back(gap: float) -> np.ndarray:
    """100 m along +x, a loop of 10 m radius, and back `gap` metres to the left."""
    out = np.stack([np.linspace(0, 100, 201), np.zeros(201)], -1)
    height = 10 + gap / 2
    lean = np.arctan2(np.sqrt(400 - height**2), height)
    middle = 100 + np.sqrt(400 - height**2)
    first = arc(100, -10, 10, np.pi / 2, np.pi / 2 - lean, 60)
    around = arc(middle, gap / 2, 10, 1.5 * np.pi - lean, 2.5 * np.pi + lean, 300)
    last = arc(100, gap + 10, 10, -np.pi / 2 + lean, -np.pi / 2, 60)
    return np.concatenate([out, first[1:], around[1:], last[1:], out[-2::-1] + np.array([0, gap])])


SPIRAL = np.linspace(0, 6 * np.pi, 3000)
LOOPS = {
    "two laps": arc(0, 0, 15, 0, 4 * np.pi, 2000),
    "eight": np.concatenate([eight(), eight()[1:]]),
    "spiral": (10 + SPIRAL[:, None] / 2) * np.stack([np.cos(SPIRAL), np.sin(SPIRAL)], -1),
    "three metres apart": there_and_back(3.0),
    "on the same line": there_and_back(0.0),
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.49, 0.6])
def test_whoever_follows_a_line_that_comes_back_upon_itself_is_where_he_has_come_to(name: str, share: float):
    """Along the line with 0.4 m of offset, from any place on; from the second lap on a place is that of the first."""
    line = LOOPS[name]
    s = polylines.arc_length(line)
    at = np.arange(share * s[-1], s[-1], 0.9)
    places = np.stack([np.interp(at, s, offset) for offset in polylines.offset(line, 0.4).T], -1)
    found, aside = polylines.follow(line, places)
    laps = {"two laps": s[-1] / 2, "eight": s[-1] / 2}.get(name, np.inf)
    shift = laps * (found[0] < at[0] - laps / 2) if np.isfinite(laps) else 0.0
    assert np.abs(found + shift - at).max() < 0.7
    assert aside == pytest.approx(np.full(len(at), 0.4), abs=0.02)


def test_a_straight_line_is_followed_as_it_is_projected_upon_to_the_bit():
    rng = np.random.default_rng(3)
    line = np.cumsum(np.stack([np.full(80, 2.0), rng.normal(0, 0.3, 80)], -1), 0)
    places = np.stack([np.linspace(-5, 170, 200), rng.normal(0, 2.0, 200).cumsum() / 5], -1)
    assert np.array_equal(polylines.follow(line, places), polylines.project(line, places))


def around(points: np.ndarray, speed: float, *features: MapFeature) -> Scenario:
    return scene([along(points, speed, 151)], features)


@pytest.fixture(scope="module")
def loops() -> dict[str, Driven]:
    ring, cross, bulb = LOOPS["two laps"], LOOPS["eight"], there_and_back(3.0)
    scenes = {
        "circle": around(ring, 7.0, lane("ring", ring[:1000:10], width=6.0)),
        "eight": around(cross, 7.0, lane("eight", eight()[::10], width=8.0)),
        "back": around(bulb[80:], 6.0, lane("road", bulb[::4], width=3.0), lane("yard", bulb[200:620:4], width=9.0)),
    }  # fmt: skip
    return dict(zip(scenes, driven(*scenes.values()), strict=True))


@pytest.mark.parametrize("name", ["circle", "eight", "back"])
def test_progress_on_a_route_that_comes_back_upon_itself_is_what_was_driven(loops, name: str):
    case, _, found = loops[name]
    share = case.measures["progress_share"]
    assert share > 0.7
    assert found["nuplan"].parts["progress"] == pytest.approx(share, abs=0.05)
    assert found["nuplan"].parts["making_progress"] == 1.0
    assert found["nuplan"].parts["driving_direction"] == 1.0
    assert found["carla_2_0"].parts["completion"] == pytest.approx(share, abs=0.05)
    assert found["navsim_v2"].parts["driving_direction"] == 1.0
    assert found["navsim_v1"].parts["progress"] > 0.7
    assert found["alpasim"].parts["progress"] == pytest.approx(share, abs=0.05)
    if name == "circle":
        assert case.passed
        assert found["nuplan"].value == pytest.approx(0.99, abs=0.01)
        assert found["carla_2_0"].value == pytest.approx(96.0, abs=1.0)


def test_a_drive_begins_on_the_part_of_its_path_where_the_recording_was():
    """On the second lap, at the same place as on the first."""
    bank, _ = build_bank([around(LOOPS["two laps"], 10.0, lane("ring", LOOPS["two laps"][:1000:10]))], 1, 0.1)
    assert float(bank.path_arc[0, 0, 120]) == pytest.approx(120.0, abs=2.0)
    straight_on, _ = build_bank([steadily(3.0)], 1, 0.1)
    assert bool(straight_on.path_arc.isnan().all())


def bridge(y: float, z: float) -> list[MapFeature]:
    """A lane along +y at x = 50 with edges, `z` metres above the ground."""
    across = np.arange(-84.0, 90.0, 5.0)

    def at(x: float) -> np.ndarray:
        return np.stack([np.full_like(across, x), across + y], -1)

    return [lane("above", at(50.0), z), edge("west", at(48.2)[::-1], z), edge("east", at(51.8), z)]


@pytest.fixture(scope="module")
def levels() -> dict[str, Driven]:
    """The ego passes x = 50 at 7 s; so does a car that crosses there, or one that stands there."""
    ticks, time = 151, np.arange(151) * DT
    ego = track(ticks, -20 + 10 * time, 0.0)

    def crossing(z: float, *features: MapFeature) -> Scenario:
        return scene([ego, track(ticks, 50, -84 + 12 * time, np.pi / 2, z=z)], [*straight(), *features])

    up = 0.06 * np.maximum(np.cumsum(np.full(ticks, 1.0)), 0)
    hill = track(ticks, -20 + 10 * time, 0.0, z=0.8 + up)
    ahead = track(ticks, 10 + 10 * time, 0.0, z=0.8 + up + 1.8)
    scenes = {
        "above": crossing(6.8, *bridge(0.0, 6.0)),
        "above an unmapped road": crossing(6.8),
        "below": crossing(-5.2, *bridge(0.0, -6.0)),
        "storey": crossing(3.7, *bridge(0.0, 2.9)),
        "same level": crossing(0.8),
        "standing above": scene([ego, track(ticks, 50, 0, 0, z=6.8)], straight()),
        "standing below": scene([ego, track(ticks, 50, 0, 0, z=-4.2)], straight()),
        "hill": scene([hill, ahead], straight()),
    }
    return dict(zip(scenes, driven(*scenes.values()), strict=True))


@pytest.mark.parametrize("name", ["above", "above an unmapped road", "below", "storey", "standing above", "standing below", "hill"])  # fmt: skip
def test_who_is_above_or_below_is_not_met(levels, name: str):
    case, record, found = levels[name]
    assert case.passed, case.reason
    assert not record.collision.any()
    assert not record.off_road.any()
    assert record.speed.min() > 9.0, "nobody brakes for a car on a bridge"
    assert found["alpasim"].value == found["rad"].value == 1.0
    assert found["carla_2_0"].parts["vehicle_collisions"] == 0.0
    if name != "hill":
        assert found["carla_2_0"].value == pytest.approx(100.0)
        assert found["hugsim"].value == pytest.approx(1.0, abs=0.01)
        assert found["nuplan"].parts["no_collision"] == 0.0, "nuPlan knows no heights"


def test_who_crosses_on_the_same_level_is_met(levels):
    case, record, _ = levels["same level"]
    assert case.passed is False or record.speed.min() < 9.0
    assert record.heights is None


def test_heights_come_back_from_a_replay(levels, tmp_path):
    case, record, _ = levels["above"]
    assert record.heights is not None
    kept = save_replay(SuiteResult("s", "expert", "p", (case,), (record,)), tmp_path / "a.replay")
    (again,) = load_replay(kept, frames=False).records
    assert np.array_equal(again.heights, record.heights)


def test_a_map_that_says_nothing_of_heights_is_kept_whole():
    """Tracks at 100 m above the sea, a map at 0; and a map whose lanes are elsewhere than whoever drives on them."""
    ticks = 41
    high = scene([track(ticks, np.arange(ticks), 0, z=100.0)], straight())
    assert on_level(high.road, ground_below(high, 0)) is high.road
    both = scene([track(ticks, np.arange(ticks), 0, z=100.0)], [*straight(), *bridge(0.0, 6.0)])
    assert on_level(both.road, ground_below(both, 0)) is both.road


def test_reacting_traffic_does_not_wait_for_who_is_above_and_the_kernel_agrees_with_its_specification():
    ticks, time = 101, np.arange(101) * DT
    tracks = [
        track(ticks, -20 + 8 * time, 0.0),
        track(ticks, 8 * time, 0.0),
        track(ticks, 30.0, 0.0, z=6.8),
        track(ticks, 10 + 8 * time, 3.0, z=6.8),
    ]
    made = scene(tracks, straight())
    found = []
    for backend in (Backend.KERNEL, Backend.TORCH):
        spec = boxworld(cameras=(), traffic=IDM(), backend=backend, duration=10.0)
        world = spec.build([made], 1, 0)
        zero = torch.zeros(1, dtype=torch.long)
        world.reset(torch.ones(1, dtype=torch.bool), world.starts_at(zero, zero, zero, jitter=False))
        for _ in range(80):
            world.step(Action(torch.zeros(1, 1), torch.zeros(1, 1)))
        found.append(world.truth())
    assert float(found[0].actors.speed[0, 1]) > 7.0
    assert torch.allclose(found[0].actors.pose, found[1].actors.pose, atol=1e-3)
    assert torch.allclose(found[0].lead_gap, found[1].lead_gap, atol=1e-2)
    assert torch.allclose(found[0].heights, found[1].heights, atol=1e-3)


@pytest.fixture(scope="module")
def ghosts() -> dict[str, Driven]:
    """The logged ego brakes for what is recorded later; a car that does not is there already."""
    ticks, time = 101, np.arange(101) * DT
    x = np.where(time < 2, 10 * time, np.where(time < 6, 20 + 10 * (time - 2) - 1.25 * (time - 2) ** 2, 40))
    braking, steady = track(ticks, x, 0.0), track(ticks, 10 * time, 0.0)

    def appearing(ego: dict, at: float, place: float, y: float = 0.3, width: float = 1.9) -> Scenario:
        late = track(ticks, place, y, size=(4.6, width, 1.6), seen=time >= at - 1e-6)
        return scene([ego, late], straight())

    scenes = {"inside": appearing(braking, 5.0, 51.0), "close": appearing(steady, 5.0, 62.0)}
    return dict(zip(scenes, driven(*scenes.values()), strict=True))


def test_a_collision_that_nobody_could_avoid_is_not_at_fault(ghosts):
    case, record, _ = ghosts["inside"]
    assert record.collision.any()
    assert case.passed, case.reason
    case, record, _ = ghosts["close"]
    assert record.collision.any() or record.speed.min() < 9.0
    assert case.passed or "collision" not in case.reason


def line_of(ticks: int, speed: float) -> dict[str, np.ndarray]:
    time = np.arange(ticks) * DT
    zero = np.zeros(ticks)
    return {
        "times": time,
        "position": np.stack([speed * time, zero], -1),
        "heading": zero,
        "speed": np.full(ticks, speed),
    }


@pytest.mark.parametrize(
    ("since", "speed", "away", "expected"),
    [
        (0, 10.0, 0.0, False),  # there from the start
        (40, 10.0, 0.0, True),  # seen at the contact
        (35, 10.0, 0.0, True),  # 5 m before it; 14.1 m are needed
        (27, 10.0, 0.0, True),  # 13 m before it
        (25, 10.0, 0.0, False),  # 15 m before it
        (30, 20.0, 0.0, True),  # 20 m; 41.3 m are needed
        (35, 10.0, 12.0, False),  # faster than the car, so it braked into it
        (30, 10.0, 8.0, True),  # 2 m/s nearer a second: 2 m; 1.8 m are needed - not enough to spare
    ],
)
def test_what_a_careful_driver_could_still_avoid(since: int, speed: float, away: float, expected: bool):
    """Reaction 0.75 s, then 7.6 m/s^2: on paper d < v t + v^2 / (2 b)."""
    ticks = 41
    other = np.stack([speed * 4.0 - away * (4.0 - np.arange(ticks) * DT), np.zeros(ticks)], -1)
    seen = np.arange(ticks) >= since
    if (since, away) == (30, 8.0):
        expected = 2.0 * contacts.REACTION + 4.0 / (2 * contacts.BRAKING) > 2.0 * 1.0
    assert contacts.unavoidable(**line_of(ticks, speed), other=other, seen=seen, tick=40) is expected


def test_what_was_seen_a_moment_ago_has_not_appeared():
    seen = np.ones(41, bool)
    seen[32:38] = False
    other = np.tile([40.0, 0.0], (41, 1))
    assert not contacts.unavoidable(**line_of(41, 10.0), other=other, seen=seen, tick=40)
    seen[20:38] = False
    assert contacts.unavoidable(**line_of(41, 10.0), other=other, seen=seen, tick=40)


@pytest.mark.parametrize("reactive", [False, True])
def test_a_trailer_follows_its_tractor_and_neither_waits_for_the_other(reactive: bool):
    """Boxes that overlap from the start and move together are one rig, also behind the ego."""
    ticks, time = 101, np.arange(101) * DT
    tracks = [
        track(ticks, 8 * time, 0.0),
        track(ticks, 40 + 8 * time, 0.0),
        track(ticks, 35.8 + 8 * time, 0.0),
        track(ticks, -4.2 + 8 * time, 0.0),
    ]
    ((case, record, _),) = driven(scene(tracks, straight()), scores=("carla_2_0",), reactive=reactive)
    assert case.passed, case.reason
    assert not record.collision.any()
    tractor, trailer = sorted((1, 2, 3), key=lambda slot: -record.actors[0, slot, 0])[:2]
    way = record.actors[99, :, 0] - record.actors[0, :, 0]
    assert way[tractor] > 70.0
    assert record.actors[:100, tractor, 0] - record.actors[:100, trailer, 0] == pytest.approx(4.2, abs=0.1)


def test_the_trailer_of_the_ego_is_nobody_it_could_hit():
    """Nor is the ego itself, recorded a second time as somebody else, who is first seen later."""
    ticks, time = 101, np.arange(101) * DT
    ego = track(ticks, 8 * time, 0.0)
    behind = track(ticks, -6 + 8 * time, 0.0, size=(7.5, 2.2, 2.5))
    twice = track(ticks, 8 * time, 0.0, seen=time >= 3.0)
    for case, record, found in driven(scene([ego, behind], straight()), scene([ego, twice], straight())):
        assert case.passed
        assert not record.collision.any()
        assert found["carla_2_0"].value == pytest.approx(100.0, abs=0.5)
        assert found["nuplan"].parts["no_collision"] == found["navsim_v2"].parts["no_collision"] == 1.0
        assert found["alpasim"].value == found["rad"].value == 1.0


# Maps that do not lie where somebody drove.

COVERED = {
    "whole": straight(),
    "begins at the ego's middle": straight(0.0),
    "ends before it": straight(end=70.0),
    "100 m aside": [
        dataclasses.replace(one, points=one.points + np.array([0.0, 100.0, 0.0])) for one in straight()
    ],
    "too narrow": [lane("thin", straight()[0].points[:, :2], width=0.5)],
}


@pytest.fixture(scope="module")
def covered() -> dict[str, Driven]:
    ticks = 81
    made = [scene([track(ticks, 10 * np.arange(ticks) * DT, 0)], road) for road in COVERED.values()]
    return dict(zip(COVERED, driven(*made), strict=True))


@pytest.mark.parametrize(
    ("name", "passes", "off"),
    [
        ("whole", True, 0.0),
        ("begins at the ego's middle", True, 0.0125),
        ("ends before it", True, 0.1375),
        ("100 m aside", True, 1.0),
        ("too narrow", False, 0.0),
    ],
)
def test_nobody_is_blamed_for_leaving_a_map_that_its_recorded_driver_left(covered, name, passes, off):
    case, record, found = covered[name]
    share = coverage(record.scenario)
    assert case.passed is passes, case.reason
    assert share.off == pytest.approx(off)
    assert ("off_map_share" in case.measures) is share.elsewhere is (off == 1.0)
    for score in ("nuplan", "navsim_v1", "carla_2_0", "alpasim"):
        undefined = found[score].undefined
        assert ("lies elsewhere" in (undefined or "")) is share.elsewhere, (score, undefined)


def test_a_drive_that_leaves_the_road_where_there_is_one_is_judged(covered):
    _, record, _ = covered["begins at the ego's middle"]
    off = np.zeros(len(record.times), bool)
    for tick, passes in ((1, True), (40, False)):
        off[tick] = True
        judged = suites._recorded_rule(
            suites.Case("a", record.scenario), dataclasses.replace(record, off_road=off)
        )
        assert judged.passed is passes, judged.reason


def test_what_a_map_lacks_is_said():
    ticks = 81
    said = {
        name: coverage(scene([track(ticks, 10 * np.arange(ticks) * DT, 0)], road)).note
        for name, road in COVERED.items()
    }
    assert said["whole"] == said["too narrow"] == ""
    assert "for the first 2.0 m" in said["begins at the ego's middle"]
    assert "no road for 100%" in said["100 m aside"]
    assert "beyond 68.0 m" in said["ends before it"]


def test_areas_and_edges_are_road_too():
    ticks, x = 81, np.arange(-20.0, 120.0, 2.0)
    ground = np.array([[-20.0, -6.0, 0.0], [120.0, -6.0, 0.0], [120.0, 6.0, 0.0], [-20.0, 6.0, 0.0]])
    aside = np.stack([x, np.full(len(x), 4.0)], -1)
    for road, off in (
        ([MapFeature("ground", MapKind.DRIVABLE_AREA, ground)], 0.0),
        ([lane("beside", aside), edge("kerb", aside + np.array([0.0, 3.0]))], 0.0),
        ([lane("beside", aside)], 1.0),
        ([edge("kerb", aside)], 0.0),  # no road at all says nothing
    ):
        assert coverage(scene([track(ticks, 10 * np.arange(ticks) * DT, 0)], road)).off == off
