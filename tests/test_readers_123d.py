"""123D logs: what the reader asks of `py123d`, played by a small stand-in; where it is installed, its names are checked."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from countersteer.data.readers import log123d, read, scan
from countersteer.errors import MissingExtraError, UserError
from countersteer.geometry.polylines import curvatures
from countersteer.scenarios.scenario import ActorKind, MapKind, SignalState
from recordings import COUNT, ORIGIN, PARKED, ego_heading, ego_path, walker_path

Layer = Enum("Layer", "LANE LANE_GROUP INTERSECTION CROSSWALK ROAD_EDGE ROAD_LINE WALKWAY STOP_ZONE")


def box(where: np.ndarray, yaw: float, size: tuple[float, float, float]) -> SimpleNamespace:
    x, y = where + ORIGIN[:2]
    pose = SimpleNamespace(x=x, y=y, z=9.2 + size[2] / 2, yaw=yaw)
    return SimpleNamespace(center_se3=pose, length=size[0], width=size[1], height=size[2])


def line(*points: tuple[float, float]) -> SimpleNamespace:
    return SimpleNamespace(array=np.array(points) + ORIGIN[:2])


class FakeMap:
    available_map_layers = tuple(Layer)

    def get_map_objects_in_radius(self, point: Any, radius: float, layers: list) -> dict:
        assert Layer.LANE_GROUP not in layers
        assert radius > 100
        assert abs(point.x - ORIGIN[0]) < 50

        def lane(number: int, kind: str) -> SimpleNamespace:
            return SimpleNamespace(
                object_id=number,
                lane_type=SimpleNamespace(name=kind),
                centerline=line((-10, 0), (50, 0)),
                outline=line((-10, -1.6), (50, -1.6), (50, 1.8), (-10, 1.8), (-10, -1.6)),
                speed_limit_mps=13.9,
            )

        def edge(number: int, **kind: object) -> SimpleNamespace:
            return SimpleNamespace(object_id=number, polyline=line((-10, 1.8), (50, 1.8)), **kind)

        square = SimpleNamespace(object_id=1, outline=line((20, -3), (23, -3), (23, 3), (20, 3)))
        style = {name: SimpleNamespace(name=name) for name in ("DASHED_WHITE", "NONE")}
        return {
            Layer.LANE: [lane(2, "BIKE_LANE"), lane(1, "SURFACE_STREET")],
            Layer.CROSSWALK: [square],
            Layer.INTERSECTION: [square],
            Layer.ROAD_EDGE: [edge(1)],
            Layer.ROAD_LINE: [
                edge(1, road_line_type=style["DASHED_WHITE"]),
                edge(2, road_line_type=style["NONE"]),
            ],
        }


class FakeScene:
    """The part of py123d's `SceneAPI` that the reader uses."""

    def __init__(self, log_dir: Path, *, maps_root: Path | None = None):
        self.log_dir, self.maps_root = log_dir, maps_root

    def get_log_metadata(self) -> SimpleNamespace:
        return SimpleNamespace(dataset="nuplan", log_name=self.log_dir.name)

    def get_all_iteration_timestamps(self) -> list:
        return [SimpleNamespace(time_us=1_600_000_000_000_000 + 100_000 * k) for k in range(COUNT)]

    def get_ego_state_se3_at_iteration(self, iteration: int) -> SimpleNamespace:
        bounds = box(ego_path()[iteration], ego_heading()[iteration], (5.2, 2.3, 1.8))
        return SimpleNamespace(bounding_box_se3=bounds)

    def get_box_detections_se3_at_iteration(self, iteration: int) -> list | None:
        def detection(token: str, label: str, bounds: SimpleNamespace) -> SimpleNamespace:
            about = SimpleNamespace(track_token=token, default_label=SimpleNamespace(name=label))
            return SimpleNamespace(attributes=about, bounding_box_se3=bounds)

        if iteration == 3:
            return None
        return [
            detection("a", "VEHICLE", box(PARKED, 0.5, (4.5, 1.9, 1.5))),
            detection("b", "PERSON", box(walker_path()[iteration], np.pi / 2, (0.7, 0.7, 1.7))),
            detection("c", "TRAFFIC_CONE", box(PARKED + 2, 0.0, (0.3, 0.3, 0.7))),
            detection("d", "EGO", box(PARKED, 0.0, (5.2, 2.3, 1.8))),
        ]

    def get_traffic_light_detections_at_iteration(self, iteration: int) -> SimpleNamespace | None:
        status = SimpleNamespace(name="RED" if iteration < 20 else "GREEN")
        lights = [SimpleNamespace(lane_id=1, status=status), SimpleNamespace(lane_id=99, status=status)]
        return SimpleNamespace(detections=lights) if iteration != 5 else None

    def get_map_api(self) -> FakeMap:
        return FakeMap()


class TwiceScene(FakeScene):
    def get_box_detections_se3_at_iteration(self, iteration: int) -> list | None:
        boxes = super().get_box_detections_se3_at_iteration(iteration)
        return boxes and [*boxes, boxes[0]]


class BrokenScene(FakeScene):
    def get_all_iteration_timestamps(self) -> list:
        raise KeyError("sync.timestamp_us")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A folder that looks like a log; only the stand-in reads it."""
    folder = tmp_path / "logs" / "nuplan_val" / "2021.05.12"
    folder.mkdir(parents=True)
    for name in ("sync.arrow", "ego_state_se3.arrow"):
        (folder / name).write_bytes(b"ARROW1")
    return folder


def pretend(monkeypatch: pytest.MonkeyPatch, scene: type) -> None:
    """Put a package `py123d` in place whose scenes are of the given type."""
    modules = {name: ModuleType(name) for name in ("py123d", "py123d.geometry")}
    modules["py123d.geometry"].Point2D = lambda x, y: SimpleNamespace(x=x, y=y)  # pyright: ignore
    path = "py123d"
    for part in ("api", "scene", "arrow", "arrow_scene_api"):
        path = f"{path}.{part}"
        modules[path] = ModuleType(path)
    modules[path].ArrowSceneAPI = scene  # pyright: ignore
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_an_actor_that_is_there_twice_is_refused(log: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, TwiceScene)
    with pytest.raises(UserError, match="track 'a' is there twice at step 0"):
        read(log)


def test_a_log_is_read(log: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, FakeScene)
    assert scan(log.parents[1]) == [log]
    drive = read(log)
    tracks = drive.tracks
    assert drive.id == "2021.05.12"
    assert drive.provenance.licence.startswith("CC BY-NC-SA 4.0 with the nuPlan")
    assert tracks.ids == ("ego", "a", "b", "c")
    assert tracks.kind.tolist() == [
        ActorKind.VEHICLE,
        ActorKind.VEHICLE,
        ActorKind.PEDESTRIAN,
        ActorKind.STATIC,
    ]
    assert tracks.position[0, :, :2] == pytest.approx(ego_path(), abs=1e-6)
    assert tracks.heading[0] == pytest.approx(ego_heading())
    assert tracks.position[1, 0, :2] == pytest.approx(PARKED)
    assert tracks.valid[1].tolist() == [tick != 3 for tick in range(COUNT)]
    assert drive.route is not None
    assert curvatures(drive.route)[5] == pytest.approx(0.2 / 8.0, rel=0.1)
    kinds = [feature.kind for feature in drive.road.features]
    assert kinds == [
        MapKind.LANE,
        MapKind.LANE_AREA,
        MapKind.DRIVABLE_AREA,
        MapKind.CROSSWALK,
        MapKind.ROAD_EDGE,
        MapKind.LINE_DASHED_WHITE,
    ]
    assert drive.road.features[0].width == pytest.approx(3.4)
    assert np.isfinite(drive.road.features[0].points).all(), "a flat map lies on the ground"
    assert drive.signals.lane == ("1",)
    assert drive.signals.state[0, [0, 5, 20]].tolist() == [
        SignalState.STOP,
        SignalState.UNKNOWN,
        SignalState.GO,
    ]
    assert drive.signals.stop_point[0, :2] == pytest.approx([-10.0, 0.0])


def test_a_missing_package_names_its_extra(log: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "py123d", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'countersteer\[data\]'"):
        read(log)


def test_a_damaged_log_is_named(log: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, BrokenScene)
    with pytest.raises(UserError, match=r"2021.05.12 cannot be read by py123d(.|\n)*sync.timestamp_us"):
        read(log)


def test_the_installed_package_has_what_is_used(log: Path):
    """The names the stand-in plays exist in the real package, where it is installed."""
    scenes = pytest.importorskip("py123d.api.scene.arrow.arrow_scene_api")
    from py123d.datatypes import map_objects  # pyright: ignore[reportMissingImports]

    for name in dir(FakeScene):
        if name.startswith("get_"):
            assert hasattr(scenes.ArrowSceneAPI, name), name
    for layer in ("LANE", "LANE_GROUP", "WALKWAY", "ROAD_EDGE", "ROAD_LINE", *log123d._AREAS):
        assert hasattr(map_objects.MapLayer, layer), layer
    with pytest.raises(UserError, match="cannot be read by py123d"):
        read(log)
