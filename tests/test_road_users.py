"""Annotated road users of camera logs: where they are between annotations, as actors, and in the recorded picture."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from countersteer.commands import cli
from countersteer.data.cameras import AnnotatedBox, CameraLog, RoadUsers, drive_of_log, read
from countersteer.data.cameras.readers.kitti_raw import SCANNER_AHEAD, SCANNER_HEIGHT
from countersteer.errors import UserError
from countersteer.geometry.cameras import ego_from_camera
from countersteer.geometry.rigid import inverse, transform
from countersteer.scenarios.scenario import ActorKind
from countersteer.worlds.interface import Outputs
from countersteer.worlds.renderers.boxes import PixelClass
from countersteer.worlds.renderers.boxes.appearance import AppearanceRandomization
from countersteer.worlds.simulation.logs import camera_of_log
from test_cameras import EVEN, circle, log_of
from worlds import boxworld


def posed(x: float, y: float, z: float = 0.8, heading: float = 0.0) -> np.ndarray:
    cos, sin = math.cos(heading), math.sin(heading)
    return transform(np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]), [x, y, z])


def car(time: float, x: float, y: float, heading: float = 0.0, name: str = "car", **others) -> AnnotatedBox:
    return AnnotatedBox(
        time, name, ActorKind.VEHICLE, posed(x, y, heading=heading), (4.5, 1.8, 1.6), **others
    )


def users(*boxes: AnnotatedBox) -> RoadUsers:
    made = RoadUsers.of(Path("here"), boxes)
    assert made is not None
    return made


# Between annotations.


def test_between_annotations_a_road_user_goes_straight_and_turns_the_short_way():
    found = users(car(1.0, 0.0, 0.0, math.pi - 0.1), car(1.5, 4.0, -2.0, -math.pi + 0.1)).at(
        np.array([1.0, 1.125, 1.5])
    )
    assert found.valid.all()
    assert found.position[0, :, :2].tolist() == pytest.approx(np.array([[0, 0], [1.0, -0.5], [4.0, -2.0]]))
    assert found.heading[0] == pytest.approx([math.pi - 0.1, math.pi - 0.05, -math.pi + 0.1])
    assert found.velocity[0] == pytest.approx(np.tile([8.0, -4.0], (3, 1)))


def test_a_road_user_is_there_only_around_its_annotations():
    moments = np.array([0.0, 0.7, 0.8, 1.0, 1.25, 1.3])
    lone = users(car(1.0, 3.0, 1.0, velocity=(4.0, 0.0))).at(moments)
    assert lone.valid[0].tolist() == [False, False, True, True, True, False]
    assert lone.position[0, lone.valid[0], 0] == pytest.approx([2.2, 3.0, 4.0]), (
        "it moves on as it was said to"
    )
    # Annotations 0.2 s apart carry half as far; in a gap of seconds nobody knows.
    steps = [car(0.2 * k, 0.0, 0.0) for k in (0, 1, 2, 12, 13)]
    often = users(*steps).at(np.array([0.5, 0.55, 1.5, 2.25, 2.31, 2.71]))
    assert often.valid[0].tolist() == [True, False, False, False, True, False]


def test_one_who_is_at_two_places_or_jumps_is_refused():
    with pytest.raises(UserError, match="'car' is annotated twice"):
        users(car(1.0, 0.0, 0.0), car(1.0, 9.0, 0.0))
    with pytest.raises(UserError, match="'car' jumps"):
        users(car(1.0, 0.0, 0.0), car(1.1, 90.0, 0.0))
    assert RoadUsers.of(Path("here"), []) is None


# As actors.


@pytest.fixture
def annotated() -> CameraLog:
    """A drive on a circle, with a car that stands ahead and somebody who walks and is lost sight of."""
    walker = [
        AnnotatedBox(t, "walker", ActorKind.PEDESTRIAN, posed(10.0, 6.0 - t, 0.9), (0.6, 0.6, 1.8))
        for t in (1.0, 1.5, 2.0)
    ]
    made = users(*(car(t, 30.0, 8.0, 0.3) for t in (0.0, 0.5, 5.9)), *walker)
    return dataclasses.replace(log_of(EVEN), road_users=made)


def test_who_is_annotated_is_an_actor_there_and_then(annotated: CameraLog):
    scenario = drive_of_log(annotated)
    tracks, at = scenario.tracks, 13
    assert tracks.ids == ("ego", "car", "walker")
    assert tracks.kind.tolist() == [ActorKind.VEHICLE, ActorKind.VEHICLE, ActorKind.PEDESTRIAN]
    assert tracks.position[2, at] == pytest.approx([10.0, 4.7, 0.9])
    assert tracks.velocity[2, at] == pytest.approx([0.0, -1.0])
    assert tracks.size[2] == pytest.approx([0.6, 0.6, 1.8])
    assert np.flatnonzero(tracks.valid[2])[[0, -1]] == pytest.approx([8, 22], abs=1)
    world = boxworld(cameras=()).build([scenario], 1, seed=0)
    assert world.simulation.bank.pose[0, 1, 0].tolist() == pytest.approx([30.0, 8.0, 0.3], abs=1e-5)
    assert world.simulation.bank.pose[0, 2, at].tolist() == pytest.approx([10.0, 4.7, 0.0], abs=1e-5)
    assert bool(world.simulation.bank.valid[0, 2, at])
    assert not bool(world.simulation.bank.valid[0, 2, 40])


def test_a_part_of_a_log_has_its_road_users_then(annotated: CameraLog):
    whole, part = drive_of_log(annotated), drive_of_log(annotated.cropped(1.0, 4.0))
    assert part.tracks.ids == ("ego", "walker"), "the car was annotated long before and after"
    assert part.tracks.position[1] == pytest.approx(whole.tracks.position[2, 10:41])
    assert (part.tracks.valid[1] == whole.tracks.valid[2, 10:41]).all()


def test_one_sample_of_a_rig_is_a_drive_on_a_straight_road():
    times = np.array([0.0, 0.02])
    log = log_of(times[:1], poses=circle(times), pose_times=times)
    scenario = drive_of_log(dataclasses.replace(log, road_users=users(car(0.01, 20.0, 3.0))))
    assert scenario.times == pytest.approx(times)
    assert scenario.tracks.valid.all()
    assert scenario.route is not None
    assert np.abs(scenario.route[:, 1]).max() < 0.1


# Read from files.

TRACKLETS = """<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>
<!DOCTYPE boost_serialization>
<boost_serialization signature="serialization::archive" version="9">
<tracklets class_id="0" tracking_level="0" version="0"><count>1</count><item_version>1</item_version>
<item class_id="1" tracking_level="0" version="1">
<objectType>{kind}</objectType><h>1.5</h><w>1.7</w><l>4.2</l><first_frame>1</first_frame>
<poses class_id="2" tracking_level="0" version="0"><count>2</count><item_version>2</item_version>
<item><tx>{x}</tx><ty>5.0</ty><tz>-1.73</tz><rx>0</rx><ry>0</ry><rz>0.5</rz><state>2</state></item>
<item><tx>9.0</tx><ty>5.0</ty><tz>-1.73</tz><rx>0</rx><ry>0</ry><rz>0.5</rz><state>2</state></item>
</poses><finished>1</finished></item></tracklets></boost_serialization>
"""


def kitti(folder: Path, tracklets: str) -> Path:
    """A drive straight ahead at 10 m/s."""
    (folder / "image_02").mkdir(parents=True)
    for number in range(4):
        cv2.imwrite(str(folder / "image_02" / f"{number:010d}.png"), np.zeros((8, 16, 3), np.uint8))
    scanner_from_camera = transform(ego_from_camera(0.0, 0.0, 0.0), [0.27, 0.0, -0.08])
    calibration = {
        "P_rect_02": [[10, 0, 8, 0], [0, 10, 4, 0], [0, 0, 1, 0]],
        "R_rect_00": np.eye(3).tolist(),
        "T_cam0_velo": inverse(scanner_from_camera)[:3].tolist(),
    }
    (folder / "calib.json").write_text(json.dumps(calibration))
    rows = [" ".join(map(str, posed(float(k), 0.0, 0.0)[:3].ravel())) for k in range(4)]
    (folder / "poses_velo_icp.txt").write_text("\n".join(rows))
    (folder / "tracklet_labels.xml").write_text(tracklets)
    return folder


def test_tracklets_of_kitti_stand_on_the_road_where_the_scanner_saw_them(tmp_path: Path):
    found = read(kitti(tmp_path / "drive", TRACKLETS.format(kind="Van", x=10.0))).road_users
    assert found is not None
    assert found.times == pytest.approx([0.1, 0.2])
    assert found.tracks.kind.tolist() == [ActorKind.VEHICLE]
    assert found.tracks.size[0] == pytest.approx([4.2, 1.7, 1.5])
    # It comes as much nearer as the car drives on: it stands.
    where = [11.0 + SCANNER_AHEAD, 5.0, SCANNER_HEIGHT - 1.73 + 0.75]
    assert found.tracks.position[0] == pytest.approx(np.array([where, where]))
    assert found.tracks.heading[0] == pytest.approx([0.5, 0.5])


def test_a_camera_log_is_inspected_with_its_road_users(tmp_path: Path, capsys):
    folder = kitti(tmp_path / "drive", TRACKLETS.format(kind="Car", x=10.0))
    assert cli.main(["data", "inspect", str(folder), "--out", str(tmp_path / "drive.png")]) == 0
    assert "actors        2" in capsys.readouterr().out
    assert (tmp_path / "drive.png").is_file()


@pytest.mark.parametrize(
    "text", ["", "<a>", TRACKLETS.format(kind="Car", x="far"), TRACKLETS.format(kind="Car", x="nan")]
)
def test_damaged_tracklets_are_refused_and_named(tmp_path: Path, text: str):
    with pytest.raises(UserError, match="tracklet_labels"):
        read(kitti(tmp_path / "drive", text))


# In the recorded picture.


def rectangles_of_ddad(folder: Path, camera: str, frame: int) -> list[list[float]]:
    """Left, top, right, bottom [px] of the vehicles that the data set's own 2D annotation has in a picture."""
    file = sorted((folder / "bounding_box_2d" / camera).glob("*.json"))[frame]
    boxes = [item["box"] for item in json.loads(file.read_text())["annotations"]]  # all of them vehicles
    return [[box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]] for box in boxes]


def rectangles_of_nuscenes(folder: Path, camera: str, frame: int) -> list[list[float]]:
    sample = json.loads((folder / "infos.json").read_text())["data_list"][frame]
    return [item["bbox"] for item in sample["cam_instances"][camera] if item["bbox_label_3d"] in range(5)]


def drawn_rectangles(
    log: CameraLog, scenario: Scenario, dt: float, name: str, frame: int
) -> list[list[float]]:
    """The same of the vehicles that boxworld draws at the recorded camera, in the recorded camera's pixels."""
    recorded = log.camera(name).calibrated()
    fov = 2 * math.atan(
        0.6 * recorded.width / recorded.fx
    )  # a little wider: its optical axis is in the middle
    camera, zero = camera_of_log(log, 1200, 800, fov, name), torch.zeros(1, dtype=torch.long)
    spec = boxworld(cameras=(camera,), dt=dt, looks=AppearanceRandomization(0.0, 0.0, 0.0))
    world = spec.build([scenario], 1, seed=0)
    tick = (zero + round(float(log.camera(name).times[frame]) / world.dt)).clamp(
        max=int(world.simulation.bank.ticks[0]) - 1
    )
    world.reset(torch.ones(1, dtype=torch.bool), world.starts_at(zero, tick, zero, jitter=False))
    pictures = world.images(camera, Outputs(rgb=False, kind=True, instance=True))
    assert pictures.instance is not None
    assert pictures.kind is not None
    vehicles = np.where(pictures.kind[0] == PixelClass.VEHICLE, pictures.instance[0], -1)
    scale, found = recorded.fx / camera.focal, []
    for number in np.unique(vehicles[vehicles >= 0]):
        rows, columns = np.nonzero(vehicles == number)
        x = np.array([columns.min(), columns.max() + 1]) - camera.width / 2
        y = np.array([rows.min(), rows.max() + 1]) - camera.height / 2
        (left, right), (top, bottom) = scale * x + recorded.cx, scale * y + recorded.cy
        found.append([max(left, 0), max(top, 0), min(right, recorded.width), min(bottom, recorded.height)])
    return found


def overlaps(first: list[float], second: list[float]) -> tuple[float, float]:
    """Intersection over union of the columns of two rectangles, and of all of them."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    both = np.maximum(high - low, 0.0)
    sides = [np.subtract(r[2:], r[:2]) for r in (first, second)]
    area = sum(np.prod(side) for side in sides) - both.prod()
    return float(both[0] / (sides[0][0] + sides[1][0] - both[0])), float(both.prod() / area)


NUSCENES = [("CAM_FRONT", 0), ("CAM_BACK", 0)]
DDAD = [("CAMERA_01", k) for k in range(3)] + [("CAMERA_05", 0), ("CAMERA_09", 1)]


@pytest.mark.parametrize(
    ("folder", "rectangles", "pictures", "columns", "whole"),
    [
        ("nuscenes_sample_scene0061", rectangles_of_nuscenes, NUSCENES, 0.65, 0.5),
        ("ddad_test_scene/scene_02", rectangles_of_ddad, DDAD, 0.75, 0.1),
    ],
)
def test_boxworld_draws_vehicles_where_the_picture_shows_them(
    shared_data: Path, record_property, folder: str, rectangles, pictures, columns: float, whole: float
):
    """Against the data sets' own rectangles. DDAD's road climbs; boxworld is flat, so rows agree less than columns."""
    log, found = read(shared_data / folder), []
    scenario = drive_of_log(log)
    dt = scenario.duration / max(round(scenario.duration / 0.1), 6)
    for name, frame in pictures:
        drawn = drawn_rectangles(log, scenario, dt, name, frame)
        for truth in rectangles(shared_data / folder, name, frame):
            if truth[2] - truth[0] > 40:
                found.append(max(overlaps(truth, box) for box in drawn))
    mean = np.mean(found, axis=0)
    record_property(
        "vehicles, overlap of columns, of rectangles", f"{len(found)}, {mean[0]:.2f}, {mean[1]:.2f}"
    )
    assert len(found) >= 10
    assert mean[0] > columns
    assert mean[1] > whole
