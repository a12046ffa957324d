"""The vector observation: what it says in scenes made by hand, exactness of the grid, parity with the reference."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hand_made
from countersteer.data.readers import read, scan
from countersteer.drivers.drivers import ExpertDriver
from countersteer.errors import UserError
from countersteer.experts.recovery import RecoveryExpert
from countersteer.geometry.cameras import Camera
from countersteer.geometry.poses import world_from_local
from countersteer.objectives.imitation import ImitationBatch, mirror_half
from countersteer.rollouts.rollout import Rollout
from countersteer.rollouts.rollouter import Rollouter, roll_out
from countersteer.rollouts.store import RolloutStore
from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.scenarios.scenario import ActorKind, MapFeature, MapKind, Scenario, SignalState
from countersteer.storage.serialise import from_json, to_json
from countersteer.vehicles.plans import Plan
from countersteer.worlds.sensors.vector import Ego, VectorSpec, reference
from countersteer.worlds.sensors.vector.observing import observe
from countersteer.worlds.sensors.vector.roads import PointBank, RoadBank, edge_points
from countersteer.worlds.simulation.state import lights_now
from countersteer.worlds.truth import Actors, Lights
from countersteer.worlds.world import World, WorldSpec
from worlds import boxworld, changed

SPEC = VectorSpec(cars=4, lanes=8, edges=6, lights=2, route=(5.0, 10.0))
SCENES = Path(__file__).parents[2] / "shared" / "data" / "scenarios"


def line(name: str, kind: MapKind, *points: tuple[float, float]) -> MapFeature:
    return MapFeature(name, kind, np.array([(x, y, 0.0) for x, y in points]))


STRAIGHT = hand_made.scenario(
    line("lane", MapKind.LANE, (-20.0, 0.0), (20.0, 0.0)),
    line("right", MapKind.ROAD_EDGE, (-20.0, -3.0), (20.0, -3.0)),
)
EMPTY = hand_made.scenario()


def ego(*poses: tuple[float, float, float], speed: float = 0.0, spec: VectorSpec = SPEC) -> Ego:
    """Cars of one world at x, y, heading; the route leads along +x of the world."""
    pose = torch.tensor([poses], dtype=torch.float32)
    zero = torch.zeros(pose.shape[:2])
    ahead = torch.tensor(spec.route)[:, None] * torch.tensor([1.0, 0.0])
    return Ego(
        position=pose[..., :2],
        heading=pose[..., 2],
        speed=zero + speed,
        curvature=zero + 0.01,
        acceleration=zero + 0.5,
        asked=torch.stack([zero + 0.02, zero - 0.5], -1),
        lateral=zero + 0.3,
        heading_error=zero - 0.1,
        set_speed=zero + 9.0,
        remaining=zero + 80.0,
        route=pose[:, :, None, :2] + ahead,
    )


def actors(*poses: tuple[float, float, float], speed: float = 0.0) -> Actors:
    pose = torch.tensor([poses], dtype=torch.float32)
    count = len(poses)
    size = torch.tensor([4.0, 2.0, 1.5]).expand(1, count, 3) + torch.arange(count)[:, None]
    kind = torch.arange(count)[None] % 4
    return Actors(pose, torch.full((1, count), speed), size, kind, torch.ones(1, count, dtype=torch.bool))


def lights(*stops: tuple[float, float, float, SignalState]) -> Lights:
    rows = torch.tensor([[stop[:3] for stop in stops]]) if stops else torch.zeros(1, 0, 3)
    return Lights(rows[..., :2], rows[..., 2], torch.tensor([[int(stop[3]) for stop in stops]]).long())


def both(spec: VectorSpec, roads: RoadBank, scene: Tensor, *state) -> Tensor:
    """What the kernel says, which the reference must say too."""
    fast, plain = observe(spec, roads, scene, *state), reference.observe(spec, roads, scene, *state)
    assert torch.allclose(fast, plain, atol=1e-5, rtol=0.0)
    return fast


def seen(scenario: Scenario, *state, spec: VectorSpec = SPEC) -> dict[str, dict[str, Tensor]]:
    """Groups of the first car of one world."""
    roads = RoadBank.pack([scenario], spec.lanes, spec.edges)
    vector = both(spec, roads, torch.tensor([0]), *state)
    return {
        name: {field: values[0, 0] for field, values in group.items()}
        for name, group in spec.split(vector).items()
    }


def close(values: Tensor, expected: list[float]) -> None:
    assert values.tolist() == pytest.approx(expected, abs=2e-5)


# --- scenes made by hand ------------------------------------------------------------------------


def test_the_layout_names_every_float():
    names = VectorSpec().names()
    assert len(names) == len(set(names)) == VectorSpec().size == 689
    spec = VectorSpec()
    number = torch.arange(float(spec.size))
    split = spec.split(number)
    assert names[int(split["actors"]["x"][3])] == "actors.x[3]"
    assert names[int(split["edges"]["valid"][-1])] == names[-1] == "edges.valid[31]"
    assert [group.start for group in spec.layout.values()] == [0, 11, 21, 181, 209, 529]


def test_the_car_itself():
    out = seen(STRAIGHT, ego((0, 0, math.pi / 2), speed=6.0), actors((1.3, 0, 0), speed=6.0), lights())
    values = [float(value) for value in out["ego"].values()]
    expected = [6.0, 0.01, 0.5, 0.02, -0.5, 4.0, 2.0, 0.3, -0.1, 9.0, 80.0]
    assert values == pytest.approx(expected)
    close(out["route"]["x"], [0, 0])  # the route leads to the right of a car that looks along +y
    close(out["route"]["y"], [-5, -10])


def test_a_car_ahead_to_the_left_that_crosses():
    """Seen from (3, 1) looking along +y, 10 m ahead is y = 11 and 2 m left is x = 1."""
    other = (1.0, 11.0, math.pi)
    out = seen(
        STRAIGHT,
        ego((3, 1, math.pi / 2), speed=4.0),
        actors((3, 2.3, math.pi / 2), other, speed=5.0),
        lights(),
    )["actors"]
    first = [float(values[0]) for values in out.values()]
    assert first == pytest.approx([10, 2, 0, 1, -4, 5, 5, 3, int(ActorKind.PEDESTRIAN), 1], abs=1e-5)
    for values in out.values():
        assert not bool(values[1:].any())


def test_who_is_absent_or_nowhere_is_not_seen():
    poses = ((0, 0, 0), (5, 0, 0), (6, 0, 0), (math.nan, 0, 0), (7, 0, math.inf), (8, 0, 0), (1e30, 0, 0))
    others = actors(*poses)
    gone = others.present.clone()
    gone[0, 2] = False
    speed = others.speed.clone()
    speed[0, 5] = math.nan
    out = seen(STRAIGHT, ego((0, 0, 0)), others.replace(present=gone, speed=speed), lights())["actors"]
    close(out["valid"], [1, 0, 0, 0])
    close(out["x"], [5, 0, 0, 0])


def test_the_nearest_are_seen_in_the_order_of_their_slots():
    poses = ((0, 0, 0), (40, 0, 0), (9, 0, 0), (30, 0, 0), (-8, 0, 0), (7, 0, 0), (0, 9, 0))
    close(seen(STRAIGHT, ego((0, 0, 0)), actors(*poses), lights())["actors"]["x"], [9, -8, 7, 0])


def test_of_equally_near_ones_the_lower_slots_are_seen():
    poses = ((0, 0, 0), (5, 0, 0), (0, 5, 0), (1, 0, 0), (-5, 0, 0), (0, -5, 0), (3, 4, 0))
    out = seen(STRAIGHT, ego((0, 0, 0)), actors(*poses), lights())["actors"]
    close(out["x"], [5, 0, 1, -5])
    close(out["y"], [0, 5, 0, 0])


def test_lights():
    stops = (
        (10.0, 0.0, 0.0, SignalState.STOP),
        (5.0, 0.0, 0.0, SignalState.UNKNOWN),
        (12.0, 3.0, math.pi / 2, SignalState.CAUTION),
        (50.0, 0.0, 0.0, SignalState.GO),
    )
    out = seen(STRAIGHT, ego((0, 0, 0)), actors((1, 0, 0)), lights(*stops))["lights"]
    close(out["x"], [10, 12])
    close(out["cos"], [1, 0])
    close(out["sin"], [0, 1])
    close(out["stop"], [1, 0])
    close(out["caution"], [0, 1])
    close(out["valid"], [1, 1])


def test_the_points_of_a_straight_road():
    """Pieces of 2 m have their middles at odd x; the eight nearest of x = 2.2 lie from -5 to 9."""
    out = seen(STRAIGHT, ego((2.2, 1, 0)), actors((3.5, 1, 0)), lights())
    close(out["lanes"]["x"].sort().values, [x - 2.2 for x in (-5, -3, -1, 1, 3, 5, 7, 9)])
    close(out["lanes"]["y"], [-1] * 8)
    close(out["lanes"]["cos"], [1] * 8)
    close(out["lanes"]["sin"], [0] * 8)
    close(out["lanes"]["valid"], [1] * 8)
    close(out["edges"]["x"].sort().values, [x - 2.2 for x in (-3, -1, 1, 3, 5, 7)])
    close(out["edges"]["y"], [-4] * 6)


def test_a_map_with_fewer_points_than_slots_and_one_with_none():
    short = hand_made.scenario(line("lane", MapKind.LANE, (0.0, 0.0), (0.0, 6.0)))
    out = seen(short, ego((0, 0, 0)), actors((1, 0, 0)), lights())
    close(out["lanes"]["valid"], [1, 1, 1, 0, 0, 0, 0, 0])
    close(out["lanes"]["y"], [1, 3, 5, 0, 0, 0, 0, 0])
    close(out["lanes"]["sin"], [1, 1, 1, 0, 0, 0, 0, 0])
    close(out["edges"]["valid"][:5], [1] * 5)  # half a metre beside the lane
    out = seen(EMPTY, ego((4, 0, 0)), actors((1, 0, 0)), lights())
    for group in ("actors", "lights", "lanes", "edges"):
        assert all(not bool(values.any()) for values in out[group].values()), group


def test_a_car_that_is_nowhere_gets_zeros_and_disturbs_nobody():
    roads = RoadBank.pack([STRAIGHT], SPEC.lanes, SPEC.edges)
    others = actors((1, 0, 0), (9, 0, 0))
    whole = both(SPEC, roads, torch.tensor([0]), ego((0, 0, 0), (8, 0, 0)), others, lights())
    lost = both(SPEC, roads, torch.tensor([0]), ego((math.nan, 0, 0), (8, 0, 0)), others, lights())
    assert not bool(lost[0, 0].any())
    assert torch.equal(lost[0, 1], whole[0, 1])


def test_millimetres_are_kept_far_from_the_origin_of_the_world():
    """At 4 km a 32-bit number is good to a quarter of a millimetre, at 400 km to 3 cm."""
    moved = np.array([400_000.3, -4_000.7, 0.0])
    features = [dataclasses.replace(f, points=f.points + moved) for f in STRAIGHT.road.features]
    bank = RoadBank.pack([STRAIGHT, hand_made.scenario(*features)], SPEC.lanes, SPEC.edges)
    for part in (bank.lanes, bank.edges):
        here, there = (
            part.planes[:2, begin : begin + count].double()
            for begin, count in zip(part.start.tolist(), part.count.tolist(), strict=True)
        )
        expected = here + bank.origin[0][:, None] + torch.tensor(moved[:2])[:, None]
        assert float((there + bank.origin[1][:, None] - expected).abs().max()) < 1e-4


def test_the_outline_of_areas_leaves_out_what_lies_within_others():
    """Two squares that adjoin, and one across the border: the outline of their union."""
    squares = [
        line("a", MapKind.DRIVABLE_AREA, (0, 0), (10, 0), (10, 10), (0, 10)),
        line("b", MapKind.DRIVABLE_AREA, (10, 10), (20, 10), (20, 0), (10, 0)),  # clockwise
        line("c", MapKind.LANE_AREA, (5, 2), (15, 2), (15, 8), (5, 8)),
    ]
    points = edge_points(hand_made.scenario(*squares))
    x, y, cos, sin = points.T
    assert len(points) == 30
    assert np.all((x == 0) | (x == 20) | (y == 0) | (y == 10))
    # The area lies on the left of its outline.
    left = np.stack([x - sin, y + cos], -1)
    assert np.all((left > 0).all(1) & (left[:, 0] < 20) & (left[:, 1] < 10))


def test_parts_that_do_not_fit_are_refused():
    roads = RoadBank.pack([STRAIGHT], SPEC.lanes, SPEC.edges)
    one = torch.tensor([0])
    with pytest.raises(UserError, match="different worlds"):
        observe(SPEC, roads, torch.tensor([0, 0]), ego((0, 0, 0)), actors((0, 0, 0)), lights())
    with pytest.raises(UserError, match="different worlds"):
        observe(SPEC, roads, one, ego((0, 0, 0), (1, 0, 0)), actors((0, 0, 0)), lights())
    with pytest.raises(UserError, match="packed for another"):
        observe(VectorSpec(route=(5.0, 10.0)), roads, one, ego((0, 0, 0)), actors((0, 0, 0)), lights())
    with pytest.raises(UserError, match="other points"):
        observe(
            dataclasses.replace(SPEC, route=(1.0,)), roads, one, ego((0, 0, 0)), actors((0, 0, 0)), lights()
        )
    with pytest.raises(UserError, match=r"VectorSpec.cars"):
        VectorSpec(cars=0)


# --- properties ---------------------------------------------------------------------------------

coordinates = st.floats(-60.0, 60.0, width=32)


def crowd(seed: int, agents: int, count: int, extent: float) -> tuple[Ego, Actors, Lights]:
    rng = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.tensor(rng.uniform(-scale, scale, (1, *shape)), dtype=torch.float32)

    pose = torch.cat([draw(count, 2, scale=extent), draw(count, 1, scale=math.pi)], -1)
    cars = ego(*((0.0, 0.0, 0.0),) * agents)
    others = Actors(
        pose,
        draw(count, scale=9.0).abs(),
        draw(count, 3).abs() + 1.0,
        torch.tensor(rng.integers(0, 4, (1, count))),
        draw(count) > -0.8,
    )
    cars = cars.replace(
        position=pose[:, :agents, :2] + draw(agents, 2),
        heading=pose[:, :agents, 2],
        route=pose[:, :agents, None, :2] + draw(agents, 2, 2, scale=20.0),
    )
    stops = draw(5, 3, scale=extent)
    return cars, others, Lights(stops[..., :2], stops[..., 2], torch.tensor(rng.integers(0, 4, (1, 5))))


def random_map(seed: int, lines: int, extent: float) -> Scenario:
    """Crooked lanes and edges anywhere, dense in places."""
    rng = np.random.default_rng(seed)
    features = []
    for k in range(lines):
        course = rng.uniform(-math.pi, math.pi) + np.cumsum(rng.normal(0, 0.2, 12))
        steps = rng.uniform(0.2, 9.0) * np.stack([np.cos(course), np.sin(course)], -1)
        points = rng.uniform(-extent, extent, 2) + np.cumsum(steps, 0)
        kind = MapKind.LANE if k % 2 else MapKind.ROAD_EDGE
        features.append(MapFeature(str(k), kind, np.column_stack([points, np.zeros(12)])))
    return hand_made.scenario(*features)


def moved(scenario: Scenario, shift: np.ndarray, turn: float) -> Scenario:
    cos, sin = math.cos(turn), math.sin(turn)
    rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    features = [
        dataclasses.replace(f, points=f.points @ rotation.T + np.append(shift, 0.0))
        for f in scenario.road.features
    ]
    return hand_made.scenario(*features)


@given(st.integers(0, 10_000), coordinates, coordinates, st.floats(-3.0, 3.0))
@settings(max_examples=25)
def test_moving_and_turning_everything_changes_nothing(seed: int, x: float, y: float, turn: float):
    shift, spec = np.array([x, y]), dataclasses.replace(SPEC, lanes=20, edges=20)
    scenario = random_map(seed, 12, 40.0)
    state = crowd(seed, 3, 8, 40.0)
    there = torch.tensor(shift, dtype=torch.float32).expand(1, 1, 2)

    def placed(points: Tensor) -> Tensor:
        return world_from_local(points, there, torch.tensor(turn).expand(points.shape[:-1]))

    cars, others, stops = state
    pose = torch.cat([placed(others.pose[..., :2]), others.pose[..., 2:] + turn], -1)
    other_state = (
        cars.replace(
            position=placed(cars.position),
            heading=cars.heading + turn,
            route=placed(cars.route.flatten(1, 2)).unflatten(1, (-1, 2)),
        ),
        others.replace(pose=pose),
        Lights(placed(stops.position), stops.heading + turn, stops.state),
    )
    both_maps = RoadBank.pack([scenario, moved(scenario, shift, turn)], spec.lanes, spec.edges)
    a = spec.split(both(spec, both_maps, torch.tensor([0]), *state))
    b = spec.split(both(spec, both_maps, torch.tensor([1]), *other_state))
    for group in ("ego", "route", "actors", "lights"):
        for field in a[group]:
            assert torch.allclose(a[group][field], b[group][field], atol=1e-4), (group, field)
    for group in ("lanes", "edges"):
        # Road points are numbered by the grid, which does not turn; those as near as the last may change.
        here, moved_ = (torch.hypot(part[group]["x"], part[group]["y"])[0].sort(-1).values for part in (a, b))
        assert torch.allclose(here, moved_, atol=1e-3)
        rows, other_rows = (torch.stack(list(part[group].values()), -1)[0] for part in (a, b))
        nearest = torch.hypot(rows[..., 0], rows[..., 1]).amax(-1)
        for car in range(3):
            gap = torch.cdist(rows[car].double(), other_rows[car].double()).amin(-1)
            inner = torch.hypot(rows[car, :, 0], rows[car, :, 1]) < nearest[car] - 1e-3
            assert bool((gap[inner] < 2e-3).all())


@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(1, 70), st.floats(0.5, 3.0))
@settings(max_examples=40)
def test_the_grid_finds_the_nearest_points_exactly(seed: int, count: int, nearest: int, spread: float):
    """Against every point, on clustered maps, from places in the grid, far outside and on its lines."""
    rng = np.random.default_rng(seed)
    clusters = rng.uniform(0.0, 300.0, (4, 2))
    xy = np.abs(clusters[rng.integers(4, size=count)] + rng.normal(0.0, 10.0**spread / 10, (count, 2)))
    turn = rng.uniform(-math.pi, math.pi, count)
    points = np.column_stack([xy, np.cos(turn), np.sin(turn)]).astype(np.float32)
    # The second scene sees to it that offsets of scenes are used.
    bank = PointBank.pack([points[: count // 2], points], nearest)
    none = PointBank.pack([np.zeros((0, 4)), np.zeros((0, 4))], 1)
    roads = RoadBank(torch.zeros(2, 2, dtype=torch.float64), bank, none)
    spec = VectorSpec(cars=1, lanes=nearest, edges=1, lights=1, route=(1.0,))
    places = np.concatenate(
        [
            rng.uniform(-50.0, 350.0, (20, 2)),
            5.0 * rng.integers(-2, 70, (20, 2)),
            xy[rng.integers(count, size=10)] + rng.normal(0.0, 1.0, (10, 2)),
            rng.uniform(-1.0, 1.0, (4, 2)) * np.array([[1e4], [1e5], [1e6], [1e9]]),
        ]
    )
    cars = ego(*((float(x), float(y), 0.0) for x, y in places), spec=spec)
    others = actors(*((0.0, 0.0, 0.0),) * len(places))
    for scene, total in enumerate((count // 2, count)):
        state = (torch.tensor([scene]), cars, others, lights())
        fast, plain = observe(spec, roads, *state), reference.observe(spec, roads, *state)
        assert torch.equal(fast, plain)
        found = spec.split(fast)["lanes"]["valid"].sum(-1)
        assert bool((found == min(nearest, total)).all())


def test_points_at_one_distance_are_taken_in_order():
    """64 points on a circle around the car, of which it sees 20, whatever rounding makes of them."""
    angle = np.linspace(0.0, 2 * math.pi, 64, endpoint=False)
    ring = np.stack([50 + 32 * np.cos(angle), 50 + 32 * np.sin(angle), np.ones(64), np.zeros(64)], -1)
    square = np.array([(50 + x, 50 + y, 1.0, 0.0) for x in (-16, 16) for y in (-16, 16)] * 8)
    none = PointBank.pack([np.zeros((0, 4))] * 2, 1)
    roads = RoadBank(torch.zeros(2, 2, dtype=torch.float64), PointBank.pack([ring, square], 20), none)
    spec = VectorSpec(cars=1, lanes=20, edges=1, lights=1, route=(1.0,))
    for scene in range(2):
        state = (torch.tensor([scene]), ego((50, 50, 0), spec=spec), actors((0, 0, 0)), lights())
        fast, plain = observe(spec, roads, *state), reference.observe(spec, roads, *state)
        assert torch.equal(fast, plain)
        assert float(spec.split(fast)["lanes"]["valid"].sum()) == 20


# --- in the world -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def roads() -> list[Scenario]:
    return [procedural_road(40 + k, RoadKind.INTERSECTION, lanes=2, traffic=6) for k in range(3)]


WORLD = boxworld(cameras=(), vector=VectorSpec(), agents=3)


def begun(roads: list[Scenario], batch: int, first: int = 0, spec: WorldSpec = WORLD) -> World:
    world = spec.build(roads, batch, seed=5)
    world.reset(torch.ones(batch, dtype=torch.bool), world.draw_starts(torch.arange(first, first + batch)))
    return world


def parts(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple:
    """What the world hands to the observation, but the engine."""
    from countersteer.worlds.sensors.vector import observing

    caught = []
    original = observing.observe
    monkeypatch.setattr(world.simulation, "_by_kernel", False)  # else it hands over no trees
    monkeypatch.setattr(observing, "observe", lambda *state: caught.append(state[:6]) or original(*state))
    world.observe()
    monkeypatch.undo()
    return caught[0]


def agree(state: tuple) -> None:
    fast, plain = observe(*state), reference.observe(*state)
    assert torch.allclose(fast, plain, atol=1e-5, rtol=0.0)
    assert bool(fast.isfinite().all())
    split = state[0].split(fast)
    assert float(split["lanes"]["valid"].mean()) > 0.9
    assert float(split["actors"]["valid"].mean()) > 0.05


def test_a_world_hands_the_kernel_the_same_with_and_without_trees(roads: list[Scenario], monkeypatch):
    world = begun(roads, 6)
    for _ in range(3):
        seen = world.observe().sensors["vector"].data
        assert torch.equal(seen, observe(*parts(world, monkeypatch)))
        world.perturb(torch.randn(6, 3), torch.randn(6, 3), torch.ones(6, 3))


def test_kernel_and_reference_agree_in_generated_worlds(roads: list[Scenario], monkeypatch):
    world = begun(roads, 6)
    for _ in range(3):
        agree(parts(world, monkeypatch))
        world.perturb(torch.randn(6, 3), torch.randn(6, 3), torch.ones(6, 3))


@pytest.mark.skipif(not SCENES.is_dir(), reason=f"recorded scenes are not here: {SCENES}")
@pytest.mark.parametrize("folder", ["womd_json", "nuscenes_scenarionet"])
def test_kernel_and_reference_agree_in_recorded_worlds(folder: str, monkeypatch):
    scenarios = [read(file) for file in scan(SCENES / folder)[:2]]
    agree(parts(begun(scenarios, 4), monkeypatch))


def test_the_world_fills_the_vector_with_its_state(roads: list[Scenario]):
    world = begun(roads, 4)
    reading = world.observe().sensors["vector"]
    assert bool(reading.valid.all())
    assert reading.data.shape == (4, 3, VectorSpec().size)
    split, truth = VectorSpec().split(reading.data), world.truth()
    for field in ("speed", "curvature", "lateral", "heading_error", "set_speed"):
        assert torch.allclose(split["ego"][field][..., 0], getattr(truth, field)), field
    length = world.simulation.bank.path_length[world.state.simulation.scene]
    assert torch.allclose(split["ego"]["remaining"][..., 0], length - truth.arc)
    # A car on its path has the path ahead of it.
    assert float((split["route"]["x"][..., 0] - 2.5).abs().max()) < 0.2
    known = (lights_now(world.simulation.bank, world.state.simulation) != SignalState.UNKNOWN).sum(-1)
    assert torch.equal(split["lights"]["valid"].sum(-1)[:, 0].long(), known.clamp(max=4))


def test_the_sensor_goes_with_cameras_and_is_named_apart(roads: list[Scenario]):
    small = Camera(width=32, height=16)
    seeing = begun(roads[:1], 1, spec=changed(WORLD, cameras=(small,)))
    assert set(seeing.observe().sensors) == {"front", "vector"}
    assert set(begun(roads[:1], 1, spec=changed(WORLD, vector=None)).observe().sensors) == set()
    with pytest.raises(UserError, match="one name"):
        changed(WORLD, cameras=(dataclasses.replace(small, name="vector"),))


def test_the_settings_survive_json():
    assert from_json(to_json(WORLD)) == WORLD


def test_rollouts_with_a_vector_and_no_camera_are_stored(roads: list[Scenario], tmp_path: Path):
    driving = Rollouter(begun(roads[:1], 2), ExpertDriver(), None, RecoveryExpert(), 0)
    rollout = Rollout.cat(list(roll_out(driving, 3, first_drive=0, policy_version=0)))
    store, again = RolloutStore(tmp_path), RolloutStore(tmp_path)
    store.add(rollout)
    assert again.load(store.sizes, rollout, learned=False)
    kept = again.rollouts[0].observation.sensors["vector"].data
    assert torch.equal(kept, rollout.observation.sensors["vector"].data)
    assert kept.shape == (3, 6, VectorSpec().size)


def test_a_vector_is_not_mirrored_by_mistake(roads: list[Scenario]):
    observation = begun(roads[:1], 2).observe()
    plan = Plan(torch.zeros(2, 3, 4, 2), torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
    flags = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(UserError, match="mirror"):
        mirror_half(ImitationBatch(observation, flags, plan, flags))
