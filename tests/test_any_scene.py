"""Scores and verdicts of scenes of any length and shape: short ones, routes that cross themselves, roads above roads, ghosts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import drives
from countersteer.evaluation.metrics import navsim
from countersteer.evaluation.metrics.from_record import drive_of_record
from countersteer.geometry import polygons, polylines
from countersteer.scenarios.scenario import MapFeature, Scenario
from countersteer.worlds.simulation.scenes import build_bank
from made_scenes import DT, Driven, along, driven, lane, scene, straight, track


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
    return np.concatenate([out, first[1:], around[1:], last[1:], out[-2::-1] + [0, gap]])


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
