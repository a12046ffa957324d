"""Real drives replayed: through plan, tracker and vehicle the logged ego arrives where it was recorded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from countersteer.data.readers import read, scan
from countersteer.data.samples import recorded_drive
from countersteer.drivers.drivers import ExpertDriver
from countersteer.experts.log import LogExpert
from countersteer.reporting.drawing import draw_scenario
from countersteer.rollouts.rollouter import Rollouter
from countersteer.scenarios.procedural import road_along
from countersteer.scenarios.scenario import Scenario
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.vehicles.trackers import LQR, PurePursuit, Tracker
from countersteer.worlds.interface import TerminationReason
from worlds import boxworld

EXACT = VehicleSpec((0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0))
SCENES = Path(__file__).parents[2] / "shared" / "data" / "scenarios"
FILES = scan(SCENES) if SCENES.is_dir() else []
# The first of each form is driven in every test run, the others in the slow ones: ten seconds each.
FIRST = {file.relative_to(SCENES).parts[0]: file for file in reversed(FILES)}.values()
CASES = [pytest.param(file, marks=() if file in FIRST else pytest.mark.slow) for file in FILES]

# This log stops amid a turn of 7 m radius, and pure pursuit steers for a point that lies beyond its end.
ENDS_IN_A_TURN: dict[tuple[str, type[Tracker]], float] = {
    ("7fab2350-7eaf-3b7e-a39d-6937a4c1bede", PurePursuit): 0.7
}


def distances_to_log(scenario: Scenario, tracker: Tracker) -> np.ndarray:
    """Distance between the car and the recording at every tick [m]; the last one is at the log's end."""
    if not scenario.road.features:
        scenario = road_along(scenario)
    spec = boxworld(
        duration=scenario.duration + 1.0, vehicle=EXACT, terminate=(TerminationReason.INVALID_STATE,)
    )
    world = spec.build([scenario], 1, 0)
    first = torch.zeros(1, dtype=torch.long)
    driving = Rollouter(world, ExpertDriver(tracker=tracker), None, LogExpert(), 0)
    driving.begin(torch.ones(1, dtype=torch.bool), world.starts_at(first, first, first, jitter=False))
    apart = []
    for _ in range(int(scenario.duration / spec.dt + 1e-6)):
        driving.tick(keep=False)
        log, truth = world.log_at(torch.zeros(1)), world.truth()
        apart.append(float((log.position[0, 0, 0] - truth.position[0, 0]).norm()))
    return np.array(apart)


@pytest.mark.parametrize("tracker", [PurePursuit(), LQR()], ids=["pure pursuit", "LQR"])
def test_the_bundled_minute_is_driven_to_its_end(tracker, record_property):
    apart = distances_to_log(recorded_drive(), tracker)
    record_property("m from the log at its end, and at most", f"{apart[-1]:.3f}, {apart.max():.3f}")
    assert len(apart) >= 590
    assert apart[-1] < 0.5
    assert apart.max() < 1.0


@pytest.mark.skipif(not FILES, reason=f"recorded scenes are not here: {SCENES}")
def test_all_twenty_scenes_are_there():
    """Eight of Waymo in three forms, seven of nuScenes, four of Argoverse 2 in two forms, one of Lyft."""
    assert len(FILES) == 20
    found = Counter(file.relative_to(SCENES).parts[0] for file in FILES)
    assert found == {
        "argoverse2_motion": 1,
        "argoverse2_sensor": 3,
        "lyft_l5_single_scene": 1,
        "nuscenes_scenarionet": 7,
        "womd_json": 5,
        "womd_scenarionet": 1,
        "womd_tfrecord": 2,
    }


@pytest.mark.skipif(not FILES, reason=f"recorded scenes are not here: {SCENES}")
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.name.removesuffix(".gz"))
def test_a_real_scene_is_drawn_and_driven_to_its_end(file, record_property):
    scenario = read(file)
    picture = draw_scenario(scenario)
    assert picture.std() > 5, "an empty picture"
    for tracker in (PurePursuit(), LQR()):
        apart = distances_to_log(scenario, tracker)
        name = f"{type(tracker).__name__}: m from the log at its end, and at most"
        record_property(name, f"{apart[-1]:.3f}, {apart.max():.3f}")
        assert apart[-1] < ENDS_IN_A_TURN.get((scenario.id, type(tracker)), 0.5)
        assert apart.max() < 1.0
