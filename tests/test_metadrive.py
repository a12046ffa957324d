"""MetaDrive as a world: its car goes where it is told, and our rules see where it is.

Without MetaDrive installed, a stand-in answers in its place: what is tested then is everything but its physics.
"""

import importlib.util
import math

import numpy as np
import pytest
import torch

from countersteer.errors import MissingExtraError, UserError
from countersteer.evaluation.driving import drive
from countersteer.geometry.cameras import Camera
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import MapKind
from countersteer.vehicles.plans import Action
from countersteer.worlds.bridges.metadrive import roads, simulation
from countersteer.worlds.bridges.metadrive.host import Hosts
from countersteer.worlds.bridges.metadrive.protocol import Answer
from countersteer.worlds.bridges.metadrive.roads import Bend, Lane, Road, Straight, road_of, scenarios_on
from countersteer.worlds.interface import CapabilityError
from worlds import in_metadrive

LANE = Lane(Road((Straight(200.0),), lanes=3, traffic=0.1, seed=3), number=1, speed=10.0)


class Fake:
    """Three straight lanes along +x with a car that obeys at once, and one other that leaves after a second."""

    def __init__(self, roads, cameras=()):
        self.count, self.tick = len(roads), 0

    take = classmethod(lambda cls, roads, cameras=(): cls(roads, cameras))

    def give_back(self):
        pass

    def ask(self, rows, messages):
        return [getattr(self, what)(*given) for what, *given in messages]

    def describe(self):
        line = np.stack([np.arange(0.0, 251.0), np.zeros(251)], -1)
        lanes = [np.add(line, (0.0, 3.5 - 3.5 * k)) for k in range(3)]
        edges = [("left", "ROAD_LINE_SOLID_SINGLE_YELLOW", np.add(lanes[0], (0.0, 1.75)))]
        edges += [(f"l{k}", "LANE_SURFACE_STREET", lane) for k, lane in enumerate(lanes)]
        others = [(80.0, 3.5, 0.0, 5.0, 2.0, 1.8)]
        return {"lanes": lanes, "features": edges, "others": others, "ego_size": (4.5, 1.85, 1.2)}

    def place(self, x, y, heading, speed):
        self.tick, self.car = 0, np.array([x, y, heading, speed])
        return self._answer(0.0)

    def step(self, curvature, acceleration):
        x, y, heading, speed = self.car
        speed += 0.1 * acceleration
        heading += 0.1 * speed * curvature
        self.car = np.array(
            [x + 0.1 * speed * math.cos(heading), y + 0.1 * speed * math.sin(heading), heading, speed]
        )
        self.tick += 1
        return self._answer(speed * curvature)

    def _answer(self, yaw_rate):
        other = [80.0, 3.5, 0.0, 0.0] if self.tick < 10 else [math.nan] * 4
        return Answer(np.array([*self.car, yaw_rate]), np.array([other]))


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(roads, "Hosts", Fake)
    monkeypatch.setattr(simulation, "Hosts", Fake)


CAMERA = Camera(width=32, height=16)


def test_a_road_becomes_a_scenario(fake):
    (scenario,) = scenarios_on([LANE])
    assert scenario.route_offsets == (3.5, 0.0, -3.5)
    assert scenario.lane_width == 3.5
    assert len(scenario.road.of_kind(MapKind.LANE)) == 3
    assert len(scenario.road.of_kind(MapKind.LINE_SOLID_YELLOW)) == 1
    assert len(scenario.tracks.ids) == 2
    np.testing.assert_allclose(scenario.tracks.position[0, :, 1], 0.0, atol=1e-9)
    np.testing.assert_allclose(np.diff(scenario.tracks.position[0, :5, 0]), 1.0, atol=1e-6)
    assert road_of(scenario) == LANE.road


def test_the_car_is_where_the_other_simulator_says(fake):
    """The middle of its box there, the rear axle here; left is left."""
    (scenario,) = scenarios_on([LANE])
    made = in_metadrive(cameras=(CAMERA,), terminate=()).build([scenario], 1, seed=0)
    rows = torch.zeros(1, dtype=torch.long)
    start = made.starts_at(rows, rows, rows, jitter=False)
    made.reset(
        torch.ones(1, dtype=torch.bool), start.replace(position=start.position + torch.tensor([0.0, 0.5]))
    )
    truth = made.truth()
    assert float(truth.lateral) == pytest.approx(0.5, abs=1e-3)
    before = float(truth.position[0, 0, 0])
    for _ in range(10):
        made.step(Action(torch.full((1, 1), 0.02), torch.zeros(1, 1)))
    truth = made.truth()
    assert float(truth.heading) == pytest.approx(0.2, abs=1e-3)  # 1 s at 10 m/s
    assert float(truth.lateral) > 0.9
    assert float(truth.curvature) == pytest.approx(0.02, abs=1e-4)
    assert float(truth.position[0, 0, 0]) - before == pytest.approx(10.0, abs=0.2)
    boxes = made.truth().actors.boxes()[0]
    assert boxes[1, -1] == -1  # the other has left by now
    seen = made.observe()
    assert seen.sensors["front"].data.shape == (1, 1, 16, 32, 3)
    assert float(seen.motion.speed[0, 0, -1]) == pytest.approx(10.0)


def test_traffic_is_drawn_and_run_into(fake):
    (scenario,) = scenarios_on([LANE])
    spec = in_metadrive(cameras=(CAMERA,), duration=1.0)
    made = spec.build([scenario], 1, seed=0)
    rows = torch.zeros(1, dtype=torch.long)
    start = made.starts_at(rows, rows, rows, jitter=False)
    made.reset(torch.ones(1, dtype=torch.bool), start.replace(position=torch.tensor([[[78.0, 3.5]]])))
    events = made.step(Action(torch.zeros(1, 1), torch.zeros(1, 1)))
    assert bool(events.collision)
    assert int(events.collided_with) == 1


def test_the_expert_drives_it_through_the_evaluation_as_it_is(fake):
    (scenario,) = scenarios_on([LANE])
    spec = in_metadrive(cameras=(CAMERA,), duration=3.0, terminate=())
    (record,) = drive(
        spec, [scenario], lambda s: s.replace(position=s.position + torch.tensor([0.0, -0.6])), None, seed=0
    )
    assert record.lateral[0] == pytest.approx(-0.6, abs=1e-3)
    assert abs(record.lateral[-1]) < 0.2


def test_what_it_cannot_do_is_said(fake, monkeypatch):
    (scenario,) = scenarios_on([LANE])
    made = in_metadrive(cameras=()).build([scenario], 1, seed=0)
    with pytest.raises(CapabilityError):
        made.fork(torch.tensor([0]))
    with pytest.raises(CapabilityError):
        made.save()
    with pytest.raises(UserError, match="cannot be driven like that"):
        in_metadrive(cameras=(), dt=0.05).build([scenario], 1, seed=0)
    with pytest.raises(UserError, match="cannot be driven like that"):
        in_metadrive(cameras=()).build([scenario], 1, seed=0, device="meta")
    other = procedural_road(1, RoadKind.STRAIGHT, lanes=1)
    with pytest.raises(UserError, match="MetaDrive has no road"):
        in_metadrive(cameras=()).build([other], 1, seed=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"countersteer\[bridges\]"):
        Hosts([LANE.road.settings()])


@pytest.mark.slow
def test_metadrives_own_car_obeys():
    """Its physics: a curvature is reached within a tenth, left is left, a speed is held, and a start is repeated."""
    pytest.importorskip("metadrive", reason="the extra `bridges` is not installed")
    lane = Lane(Road((Straight(100.0), Bend(150.0, 0.6, True, 100.0)), lanes=2), number=1, speed=10.0)
    hosts = Hosts([lane.road.settings()])
    try:
        (said,) = hosts.ask([0], [("describe",)])
        assert said["lanes"][0][0][1] - said["lanes"][1][0][1] == pytest.approx(
            3.5
        )  # the first is the left one
        assert said["lanes"][1][-1][1] > 20.0  # a bend to the left leads to +y
        x, y = said["lanes"][1][40]
        drives = []
        for _ in range(2):
            hosts.ask([0], [("place", float(x), float(y), 0.0, 10.0)])
            drives.append([hosts.ask([0], [("step", 0.02, 0.0)])[0].ego for _ in range(15)])
        last = drives[0][-1]
        assert last[3] == pytest.approx(10.0, abs=0.2)
        assert last[4] / last[3] == pytest.approx(0.02, rel=0.1)
        np.testing.assert_allclose(drives[0], drives[1], atol=1e-6)
    finally:
        hosts.close()
