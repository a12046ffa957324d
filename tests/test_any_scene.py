"""Scores and verdicts of scenes of any length and shape: short ones, routes that cross themselves, roads above roads, ghosts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import drives
from countersteer.evaluation.metrics import navsim
from countersteer.evaluation.metrics.from_record import drive_of_record
from countersteer.geometry import polygons
from countersteer.scenarios.scenario import Scenario
from made_scenes import DT, Driven, driven, scene, straight, track


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
