"""What the fuzz reads: of every form of file a small recording that it makes itself, and how it is read."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import torch

import commonroad_files
import lanelet_files
import recordings
import street_maps
from countersteer.data import cameras, roads
from countersteer.data.cameras.log import CameraLog
from countersteer.data.readers import interaction, read, scan
from countersteer.evaluation.metrics.evidence import Finding
from countersteer.evaluation.records import CaseResult, DriveRecord, SuiteResult
from countersteer.evaluation.replay import is_replay, load_replay, save_replay
from countersteer.evaluation.results import kept_evaluations, write_result
from countersteer.evaluation.scoring import DriveScore, SuiteScore
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.policies.storage import load_model, load_policy, save_policy
from countersteer.policies.teacher import SetActorCriticSpec
from countersteer.policies.vit import ViTPlannerSpec
from countersteer.recipes.self_play import self_play
from countersteer.scenarios import storage
from countersteer.scenarios.network import RoadNetwork
from countersteer.scenarios.scenario import Scenario
from countersteer.storage import serialise
from countersteer.storage.files import read_json
from countersteer.training.folder import environment, load_recipe, note, open_folder, write_json
from countersteer.training.learner import Learner
from countersteer.training.session import Job, Progress, Session
from tiny_recipe import CAMERAS, tiny


@dataclass(frozen=True)
class Format:
    """One form of file.

    Attributes:
        name: What the table calls it.
        make: Makes the recording below a new folder and returns its path.
        read: All that can be read of it; what it returns is compared.
        seal: Makes a changed recording agree with its own check sums again, where files do so for each other.
        unsound: What is wrong with what was read, if anything is that can never be.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    seal: Callable[[Path], None] | None = None
    unsound: Callable[[Any], str | None] = lambda _: None


# Scenarios.


def _scenario(path: Path) -> Scenario:
    scan(path.parent)
    return read(path)


def _unsound_scenario(scenario: Scenario) -> str | None:
    tracks = scenario.tracks
    for name in ("position", "heading", "velocity"):
        if not np.isfinite(getattr(tracks, name)).all():
            return f"{name} of tracks is not finite"
    if not np.isfinite(tracks.size).all() or (tracks.size < 0).any():
        return "sizes of tracks are not lengths"
    if scenario.route is not None and not np.isfinite(scenario.route).all():
        return "the route is not finite"
    if not np.isfinite(scenario.times).all() or (np.diff(scenario.times) <= 0).any():
        return "times do not increase"
    if any(f.speed_limit is not None and not 0 < f.speed_limit < 100 for f in scenario.road.features):
        return "a speed limit is none"
    return None


def _of_scenarios(
    name: str, make: Callable[[Path], Path], seal: Callable[[Path], None] | None = None
) -> Format:
    return Format(name, make, _scenario, seal, _unsound_scenario)


def _pickled(folder: Path, *, packed: bool) -> Path:
    path = folder / ("small.pkl.gz" if packed else "small.pkl")
    data = pickle.dumps(recordings.small_scene(), 4)
    path.write_bytes(gzip.compress(data, 1, mtime=0) if packed else data)
    return path


def _json(folder: Path) -> Path:
    return recordings.write_json(folder / "small.json", recordings.small_json())


def _tfrecord(folder: Path) -> Path:
    path = folder / "small.tfrecord"
    path.write_bytes(recordings.tfrecord(recordings.waymo_message()))
    return path


def _kitti(folder: Path) -> Path:
    path = folder / "00.txt"
    path.write_text(recordings.kitti_poses(ahead=1.0, height=1.65))
    return path


def _comma(folder: Path) -> Path:
    """Ten seconds of the segment that comes with the package."""
    made = recordings.write_comma(folder / "segment", rows=200)
    for name in ("t", "value"):
        target = made / "processed_log" / "CAN" / "speed" / f"{name}.npy"
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, np.load(recordings.SAMPLE / "processed_log" / "CAN" / "speed" / f"{name}.npy")[:1000])
    return made


def _own(folder: Path) -> Path:
    place = folder / "from"
    place.mkdir()
    return storage.save(read(_json(place)), folder / "stored")


def _seal_own(folder: Path) -> None:
    """The fingerprint of what is in the tables now."""
    header = json.loads((folder / "scenario.json").read_text())
    tables = {name: storage.read_table(folder / f"{name}.arrow") for name in storage._TABLES}
    header["fingerprint"] = storage._scenario(header, tables).fingerprint()
    (folder / "scenario.json").write_text(json.dumps(header, indent=2))


def _interaction(folder: Path) -> Path:
    """A table of vehicles, one of people, and the map."""
    table = lanelet_files.recording(folder / "set")
    lanelet_files.people(table)
    return folder / "set"


def _read_interaction(folder: Path) -> list[Scenario]:
    """A drive, and everybody without an ego; a table that is gone is refused by either."""
    table = folder / "recorded_trackfiles" / lanelet_files.SITE / "vehicle_tracks_000.csv.xz"
    scan(folder)
    return [interaction.read_everybody(table), read(table.with_name(f"{table.name}#0"))]


def _commonroad(folder: Path, version: str) -> Path:
    path = folder / "small.xml"
    path.write_text(commonroad_files.scene(version))
    return path


# Camera logs.


def _pictures(folder: Path, count: int, form: str = "{:06d}.png") -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        picture = np.full((16, 32, 3), 20 * number, np.uint8)
        picture[:, number : number + 9] = 200
        cv2.imwrite(str(folder / form.format(number)), picture)


def _sweeps(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    points = np.random.default_rng(0).integers(-2000, 2000, (30, 3)).astype(np.int16)
    for number in range(count):
        np.savez(folder / f"{number:06d}.npz", xyz_5mm=points)


def _rows(count: int, axes: np.ndarray) -> str:
    """Poses of a drive straight ahead at 10 m/s and 10 Hz, along a column of `axes`."""
    lines = []
    for number in range(count):
        pose = np.concatenate([np.eye(3), (axes * number)[:, None]], 1)
        lines.append(" ".join(f"{value:.6f}" for value in pose.ravel()))
    return "\n".join(lines) + "\n"


_FORWARD = {"x": np.array([1.0, 0, 0]), "y": np.array([0, 1.0, 0]), "z": np.array([0, 0, 1.0])}


def _rig(folder: Path) -> Path:
    return recordings.camera_log(folder / "mine", seconds=1.2)


def _rig_of_pictures(folder: Path) -> Path:
    made = folder / "mine"
    _pictures(made / "front", 4)
    camera = {
        "name": "front", "pictures": "front", "rate_hz": 10, "fx_px": 30, "fy_px": 30, "cx_px": 16, "cy_px": 8,
        "position_m": [1.5, 0, 1.4], "distortion": [0.1, 0.0, 0.0, 0.0],
    }  # fmt: skip
    (made / "rig.json").write_text(json.dumps({"cameras": [camera], "licence": "mine"}))
    lines = [f"{k / 10},{k},0,0,1,0,0,0" for k in range(4)]
    (made / "poses.csv").write_text("\n".join(["time_s,x_m,y_m,z_m,qw,qx,qy,qz", *lines]) + "\n")
    return made


def _video(folder: Path) -> Path:
    made = _rig(folder)
    path = folder / "drive.mp4"
    (made / "drive.mp4").rename(path)
    shutil.rmtree(made)
    return path


def _kitti_odometry(folder: Path) -> Path:
    made = folder / "06"
    _pictures(made / "image_0", 5)
    _pictures(made / "image_1", 5)
    rows = [f"P{k}: 30 0 16 {-15.0 * k} 0 30 8 0 0 0 1 0" for k in range(2)]
    (made / "calib.txt").write_text("\n".join(rows) + "\n")
    (made / "poses.txt").write_text(_rows(5, _FORWARD["z"]))
    (made / "times.txt").write_text("".join(f"{k / 10:e}\n" for k in range(5)))
    return made


_TRACKLETS = """<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>
<boost_serialization><tracklets><count>1</count>
<item><objectType>Van</objectType><h>1.5</h><w>1.7</w><l>4.2</l><first_frame>1</first_frame>
<poses><count>2</count>
<item><tx>10.0</tx><ty>5.0</ty><tz>-1.73</tz><rx>0</rx><ry>0</ry><rz>0.5</rz></item>
<item><tx>9.0</tx><ty>5.0</ty><tz>-1.73</tz><rx>0</rx><ry>0</ry><rz>0.5</rz></item>
</poses></item></tracklets></boost_serialization>
"""


def _kitti_raw(folder: Path) -> Path:
    made = folder / "drive"
    _pictures(made / "image_02", 4, "{:010d}.png")
    _sweeps(made / "velodyne_full", 4)
    calibration = {
        "P_rect_02": [[30, 0, 16, 0], [0, 30, 8, 0], [0, 0, 1, 0]],
        "R_rect_00": np.eye(3).tolist(),
        "T_cam0_velo": [[0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27]],
    }
    (made / "calib.json").write_text(json.dumps(calibration))
    (made / "poses_velo_icp.txt").write_text(_rows(4, _FORWARD["x"]))
    (made / "tracklet_labels.xml").write_text(_TRACKLETS)
    return made


def _radiate(folder: Path) -> Path:
    made = folder / "foggy"
    for name in ("zed_left", "zed_right"):
        _pictures(made / name, 4)
        (made / f"{name}.txt").write_text(
            "".join(f"Frame: {k:06d} Time: {1e9 + k / 10:.6f}\n" for k in range(4))
        )
    _sweeps(made / "velo_lidar", 4)
    (made / "velo_lidar.txt").write_text(
        "".join(f"Frame: {k:06d} Time: {1e9 + k / 10:.6f}\n" for k in range(4))
    )
    (made / "poses_velo_icp.txt").write_text(_rows(4, _FORWARD["y"]))
    camera = "\n".join(f"    {name}: {value}" for name, value in (
        ("fx", 30.0), ("fy", 30.0), ("cx", 16.0), ("cy", 8.0), ("k1", -0.1), ("k2", 0.0), ("k3", 0), ("p1", 0), ("p2", 0),
        ("res", [32, 16]),
    ))  # fmt: skip
    lines = ["lidar_calib:", "    T: [0.6, -0.12, 0.25]"]
    for name, side in (("left", 0.34), ("right", 0.46)):
        lines += [f"{name}_cam_calib:", f"    T: [{side}, -0.07, 0.28]", camera]
    (made / "default-calib.yaml").write_text("\n".join(lines) + "\n")
    return made


def _nuscenes(folder: Path) -> Path:
    made = folder / "scene"
    _pictures(made, 3, "front_{:03d}.png")
    camera_from_ego = np.array([[0.0, -1, 0, 0], [0, 0, -1, 1.5], [1, 0, 0, -1.7], [0, 0, 0, 1]])
    samples = []
    for number in range(3):
        pose, lidar = np.eye(4), np.eye(4)
        pose[:2, 3], lidar[2, 3] = (1000.0 + number, 500.0), 1.8
        now = 1.5e9 + number / 10
        cloud = np.random.default_rng(number).normal(size=(20, 5)).astype(np.float32)
        (made / f"cloud_{number}.bin").write_bytes(cloud.tobytes())
        samples.append(
            {
                "timestamp": now,
                "ego2global": pose.tolist(),
                "lidar_points": {
                    "num_pts_feats": 5,
                    "lidar_path": f"cloud_{number}.bin",
                    "lidar2ego": lidar.tolist(),
                },
                "images": {
                    "CAM_FRONT": {
                        "img_path": f"front_{number:03d}.png",
                        "cam2img": [[30.0, 0, 16], [0, 30, 8], [0, 0, 1]],
                        "cam2ego": np.linalg.inv(camera_from_ego).tolist(),
                        "timestamp": now,
                        "lidar2cam": (camera_from_ego @ lidar).tolist(),
                    }
                },
                "instances": [
                    {
                        "bbox_3d": [10.0 - number, 3, -1, 4.5, 1.9, 1.6, 0.1],
                        "bbox_3d_isvalid": True,
                        "bbox_label_3d": 0,
                        "velocity": [0.0, 0.0],
                    }
                ],
            }
        )
    content = {"metainfo": {"categories": {"car": 0, "pedestrian": 7}}, "data_list": samples}
    (made / "infos.json").write_text(json.dumps(content))
    return made


def _ddad(folder: Path) -> Path:
    made = folder / "scene_02"
    _pictures(made / "rgb" / "CAMERA_01", 3)
    for name in ("point_cloud/LIDAR", "bounding_box_3d/LIDAR", "calibration", "ontology"):
        (made / name).mkdir(parents=True)

    def pose(x: float, y: float, z: float, q: tuple[float, ...]) -> dict[str, Any]:
        rotation = dict(zip(("qw", "qx", "qy", "qz"), q, strict=True))
        return {"rotation": rotation, "translation": {"x": x, "y": y, "z": z}}

    ahead, level = (0.5, -0.5, 0.5, -0.5), (1.0, 0.0, 0.0, 0.0)
    data, samples = [], []
    for number in range(3):
        np.savez(
            made / f"point_cloud/LIDAR/{number}.npz", data=np.random.default_rng(number).normal(size=(20, 4))
        )
        box = {"width": 1.9, "length": 4.5, "height": 1.6, "pose": pose(10 - number, 3, -1, level)}
        annotated = {"annotations": [{"class_id": 1, "instance_id": "7", "box": box}]}
        (made / f"bounding_box_3d/LIDAR/{number}.json").write_text(json.dumps(annotated))
        stamp = f"2024-11-12T01:04:10.{number}00000Z"
        cloud = {
            "filename": f"point_cloud/LIDAR/{number}.npz",
            "pose": pose(number, 0, 1.8, level),
            "annotations": {"1": f"bounding_box_3d/LIDAR/{number}.json"},
        }
        image = {"filename": f"rgb/CAMERA_01/{number:06d}.png", "pose": pose(number + 1.7, 0, 1.5, ahead)}
        for name, datum in (("LIDAR", {"point_cloud": cloud}), ("CAMERA_01", {"image": image})):
            data.append({"id": {"name": name, "timestamp": stamp}, "key": f"{name}{number}", "datum": datum})
        samples.append({"calibration_key": "c", "datum_keys": [f"LIDAR{number}", f"CAMERA_01{number}"]})
    zero = dict.fromkeys(("fx", "fy", "cx", "cy"), 0.0)
    calibration = {
        "names": ["LIDAR", "CAMERA_01"],
        "intrinsics": [zero, {"fx": 30.0, "fy": 30.0, "cx": 16.0, "cy": 8.0}],
        "extrinsics": [pose(0, 0, 1.8, level), pose(1.7, 0, 1.5, ahead)],
    }
    (made / "calibration" / "c.json").write_text(json.dumps(calibration))
    (made / "ontology" / "o.json").write_text(json.dumps({"items": [{"id": 1, "name": "Car"}]}))
    (made / "scene_a.json").write_text(
        json.dumps({"data": data, "samples": samples, "ontologies": {"1": "o"}})
    )
    return made


def _comma_video(folder: Path) -> Path:
    made = recordings.write_comma(folder / "segment", rows=24)
    with av.open(str(made / "video.hevc"), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.options = {"x264-params": "bframes=0:threads=1"}
        for number in range(24):
            picture = np.full((64, 96, 3), 9 * number, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return made


def _camera_log(path: Path) -> dict[str, Any]:
    """A log with some of its pictures and all of its sweeps."""
    log = cameras.read(path)
    cameras.check(log)
    pictures = [
        camera.frames[number] for camera in log.cameras for number in range(min(len(camera.frames), 12))
    ]
    sweeps = [] if log.lidar is None else [log.lidar.read(k) for k in range(min(len(log.lidar.times), 4))]
    return {"log": log, "pictures": pictures, "sweeps": sweeps}


def _unsound_log(found: dict[str, Any]) -> str | None:
    log: CameraLog = found["log"]
    if any(not np.isfinite(sweep).all() for sweep in found["sweeps"]):
        return "points of a sweep are not finite"
    if log.poses is not None and not np.isfinite(log.poses.world_from_ego).all():
        return "poses are not finite"
    if any(camera.intrinsics is not None and not camera.intrinsics.fx > 0 for camera in log.cameras):
        return "a focal length is none"
    return None


def _of_cameras(name: str, make: Callable[[Path], Path]) -> Format:
    return Format(f"cameras: {name}", make, _camera_log, None, _unsound_log)


# Street networks.


def _roads(path: Path) -> RoadNetwork:
    roads.scan(path.parent)
    return roads.read(path)


def _unsound_roads(network: RoadNetwork) -> str | None:
    lanes = network.lanes
    for key, lane in lanes.items():
        sides = [points for points in (lane.left, lane.right) if points is not None]
        if any(not np.isfinite(points).all() for points in (lane.centre, *sides)):
            return "points of a lane are not finite"
        if not 0.0 < lane.length < 1e6 or not 0.0 < lane.width < 100.0:
            return "a lane has no size"
        if lane.speed_limit is not None and not 0.0 < lane.speed_limit < 200.0:
            return "a speed limit is none"
        if {*lane.successors, *lane.yields_to} - set(lanes) or lane.id != key:
            return "a lane leads to one that is not there"
    if any(not phase.duration > 0.0 for program in network.signals for phase in program.phases):
        return "a phase has no length"
    if any(not np.isfinite(feature.points).all() for feature in network.features):
        return "a feature is not finite"
    return None


def _of_roads(name: str, make: Callable[[Path], Path]) -> Format:
    return Format(f"roads: {name}", make, _roads, None, _unsound_roads)


def _lanelet2(folder: Path) -> Path:
    path = folder / "small.osm"
    path.write_text(lanelet_files.street()[0].text())
    return path


# What we write ourselves.


def _record(scenario: Scenario, ticks: int = 6) -> DriveRecord:
    """A drive of 10 m/s along +x with a picture a tick."""
    times, zero, no = np.arange(ticks) * 0.1, np.zeros(ticks), np.zeros(ticks, bool)
    position = np.stack([10 * times, zero], -1)
    actors = np.zeros((ticks, 2, 7))
    actors[..., 3:6], actors[:, 1, 0] = (4.5, 2.0, 1.5), 30.0
    return DriveRecord(
        times=times, position=position, heading=zero, speed=zero + 10, curvature=zero, acceleration=zero, lateral=zero,
        heading_error=zero, arc=10 * times, command=np.zeros(ticks, np.int64), alive=~no, cause=np.zeros(ticks, np.int64),
        collision=no, off_road=no, red_light=no, wrong_way=no, uncomfortable=no, collided_with=np.full(ticks, -1),
        plan=position[:, None] + np.array([[5.0, 0.0], [10.0, 0.0]]), actors=actors,
        path=np.stack([np.arange(40.0), np.zeros(40)], -1), size=(4.5, 2.0), scenario=scenario,
        plan_times=np.array([0.5, 1.0]), label=None, labelled=None, confidence=None,
        views={"front": np.full((ticks, 16, 24, 3), 90, np.uint8)},
    )  # fmt: skip


def _result(folder: Path) -> SuiteResult:
    (folder / "from").mkdir(exist_ok=True)
    record = _record(read(_json(folder / "from")))
    cases = (CaseResult("one", True, "", None, {"m": 1.0}), CaseResult("two", False, "off road", 0.3, {}))
    return SuiteResult(
        "lanes", "clone", "lanes v1 0123", cases, (record, dataclasses.replace(record, views={}))
    )


def _replay(folder: Path) -> Path:
    return save_replay(_result(folder), folder / "lanes.replay")


def _load_replay(path: Path) -> SuiteResult:
    is_replay(path)
    load_replay(path, frames=False)
    return load_replay(path)


_SPECS: dict[str, Any] = {
    "planner": tiny().stage.policy,
    "vit": ViTPlannerSpec(cameras=CAMERAS, patch=8, width=16, depth=1, heads=2),
    "teacher": SetActorCriticSpec(token_dim=8, hidden=16),
}


def _policy(folder: Path, kind: str) -> Path:
    path = folder / "policy.safetensors"
    torch.manual_seed(0)
    save_policy(path, _SPECS[kind].build(), "tiny", 0, 1.0, {"commit": None})
    return path


def _load_policy(path: Path) -> Any:
    model, metadata = load_model(path)
    load_policy(path)
    return {"state": model.state_dict(), "metadata": metadata}


def _unsound_policy(found: dict[str, Any]) -> str | None:
    bad = [
        name for name, value in found["state"].items() if value.is_floating_point() and value.isnan().any()
    ]
    return f"{bad[0]} is not finite" if bad else None


def _recipe(folder: Path) -> Path:
    write_json(folder / "recipe.json", {"recipe": serialise.to_json(self_play()), "seed": 3, "source": None})
    return folder


def _load_recipe(path: Path) -> Any:
    recipe, seed = load_recipe(path)
    open_folder(recipe, path, seed, True, None)
    return {"recipe": recipe, "seed": seed}


def _session(folder: Path) -> Session:
    """A learner that is to go on in a folder."""
    torch.manual_seed(0)
    stage = tiny().stage
    learner = Learner({"policy": stage.policy.build()}, {}, stage.objective, stage.optim, "cpu")
    job = Job(
        "tiny", folder, 0, "cpu", "cpu", True, Progress(), None, {}, SimpleNamespace(check=lambda: None)
    )  # type: ignore[arg-type]
    return Session(job, learner, lambda: {"rounds": []})


def _run(folder: Path) -> Path:
    """A run that was stopped: recipe, notes, curves, a checkpoint, a policy and an evaluation."""
    run = folder / "run"
    open_folder(tiny(), run, 0, False, None)
    note(run, environment() | {"seed": 0}, {}, 0)
    session = _session(run)
    for step in (1, 2):
        session.learner.step = step
        session.save()
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": k, "loss/policy": 1 / k}) + "\n" for k in (1, 2))
    )
    shutil.move(_policy(folder, "planner"), run / "policy.safetensors")
    found = Finding("collision", 3, (1,), 0.5, "hits a car")
    score = SuiteScore(
        "nuplan", "here", 1.0, (DriveScore("one", "small", True, 0.5, {"comfort": None}, (found,)),)
    )
    place = run / "evaluation" / "lanes.json"
    write_result(place, dataclasses.replace(_result(folder), records=()), seed=0, scores=[score.to_json()])
    (place.parent / "open_loop.json").write_text(json.dumps({"open_loop_error_m": 0.5}))
    return run


def _load_run(path: Path) -> Any:
    """What resuming, reporting and comparing read of a run."""
    from countersteer.evaluation.comparing import compare_runs
    from countersteer.reporting.run_report import _run_info

    recipe, seed = load_recipe(path)
    open_folder(tiny(), path, 0, True, None)
    note(path, read_json(path / "run.json"), {}, 0)
    session = _session(path)
    session.restore()
    kept = kept_evaluations([path])
    compared = compare_runs(kept)
    return {
        "recipe": recipe, "seed": seed, "step": session.learner.step, "state": {name: model.state_dict() for name, model in session.learner.models.items()},
        "kept": [(one.result, one.scores) for one in kept], "info": _run_info(path, ()), "compared": compared,
    }  # fmt: skip


FORMATS: tuple[Format, ...] = (
    _of_scenarios("ScenarioNet", lambda folder: _pickled(folder, packed=False)),
    _of_scenarios("ScenarioNet, gzipped", lambda folder: _pickled(folder, packed=True)),
    _of_scenarios("Waymo JSON", _json),
    _of_scenarios("Waymo TFRecord", _tfrecord),
    _of_scenarios(
        "Argoverse 2 sensor",
        lambda folder: recordings.argoverse_sensor(folder / "log", lever=rear_axle_to_center(4.877)),
    ),
    _of_scenarios(
        "Argoverse 2 motion",
        lambda folder: recordings.argoverse_motion(folder / "small", lever=rear_axle_to_center(4.877)),
    ),
    _of_scenarios("KITTI poses", _kitti),
    _of_scenarios("comma2k19", _comma),
    _of_scenarios("Lyft Level 5", lambda folder: recordings.lyft(folder / "a.zarr")),
    _of_scenarios("Lyft Level 5, packed", lambda folder: recordings.lyft(folder / "a.zarr", codec="lz4")),
    _of_scenarios("our scenarios", _own, _seal_own),
    Format(
        "INTERACTION",
        _interaction,
        _read_interaction,
        None,
        lambda found: next((bad for each in found if (bad := _unsound_scenario(each))), None),
    ),
    *(
        _of_scenarios(f"CommonRoad {version}", functools.partial(_commonroad, version=version))
        for version in ("2018b", "2020a")
    ),
    _of_roads("Lanelet2", _lanelet2),
    *(
        _of_roads(f"CommonRoad {version}", functools.partial(_commonroad, version=version))
        for version in ("2018b", "2020a")
    ),
    _of_cameras("rig with a video", _rig),
    _of_cameras("rig with pictures", _rig_of_pictures),
    _of_cameras("bare video", _video),
    _of_cameras("KITTI odometry", _kitti_odometry),
    _of_cameras("KITTI raw", _kitti_raw),
    _of_cameras("RADIATE", _radiate),
    _of_cameras("nuScenes", _nuscenes),
    _of_cameras("DDAD", _ddad),
    _of_cameras("comma2k19", _comma_video),
    _of_roads("SUMO", lambda folder: street_maps.write_sumo(folder / "small.net.xml", lights=True)),
    _of_roads("SUMO, gzipped", lambda folder: street_maps.write_sumo(folder / "small.net.xml.gz")),
    _of_roads("Apollo", lambda folder: street_maps.write_apollo(folder / "small.bin.gz")),
    _of_roads("Apollo, plain", lambda folder: street_maps.write_apollo(folder / "small.bin")),
    _of_roads("OpenDRIVE", lambda folder: street_maps.write_opendrive(folder / "small.xodr")),
    _of_roads("race track", lambda folder: street_maps.write_racetrack(folder / "ring.csv")),
    _of_roads("our street networks", lambda folder: street_maps.write_packed(folder / "small.npz")),
    Format("replays", _replay, _load_replay),
    *(
        Format(
            f"policies: {kind}", functools.partial(_policy, kind=kind), _load_policy, None, _unsound_policy
        )
        for kind in _SPECS
    ),
    Format("recipes", _recipe, _load_recipe),
    Format("run folders", _run, _load_run),
)
