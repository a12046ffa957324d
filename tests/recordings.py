"""Small recordings in the forms of published data sets, for the tests of their readers.

Every one tells the same story in its own format and frame: the ego drives a left turn, a parked car stands
to the left of its start, a pedestrian walks towards +y. What a reader gives is compared with that story, so a
flipped sign anywhere shows.
"""

from __future__ import annotations

import gzip
import json
import math
import pickle
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from countersteer.data.readers import comma2k19
from countersteer.data.readers.tfrecord import masked_crc

SAMPLE = Path(comma2k19.__file__).parents[1] / "samples" / "comma2k19"

COUNT, DT = 30, 0.1
YAW_RATE = 0.2  # of the ego, to the left [rad/s]
SPEED = 8.0  # of the ego [m/s]
ORIGIN = np.array([5000.0, -3000.0, 10.0])  # of the story, in the source's frame [m]
PARKED = np.array([5.0, 10.0])  # seen from the ego's start: ahead and left [m]


def ego_heading() -> np.ndarray:
    """Headings of the ego [rad]."""
    return YAW_RATE * DT * np.arange(COUNT)


def ego_path() -> np.ndarray:
    """Positions of the ego [count 2], an exact circle from (0, 0) eastwards, around (0, radius)."""
    turn, radius = ego_heading(), SPEED / YAW_RATE
    return radius * np.stack([np.sin(turn), 1 - np.cos(turn)], -1)


def ego_velocity() -> np.ndarray:
    turn = ego_heading()
    return SPEED * np.stack([np.cos(turn), np.sin(turn)], -1)


def walker_path() -> np.ndarray:
    return np.array([8.0, 3.0]) + 1.2 * DT * np.arange(COUNT)[:, None] * np.array([0.0, 1.0])


# Scenes of Waymo as JSON, and of ScenarioNet -----------------------------------------------------------


def small_json() -> dict:
    """A scene of three objects in the GPUDrive flavour: a car that turns left, one that stands, a walker."""
    count, dt = 30, 0.1
    turn = 0.02 * np.arange(count)
    x, y = 5000 + np.cumsum(np.cos(turn)) * 0.8, -3000 + np.cumsum(np.sin(turn)) * 0.8

    def item(number: int, kind: str, where: np.ndarray, heading: np.ndarray, size: tuple) -> dict:
        velocity = np.gradient(where, dt, axis=0)
        return {
            "id": number,
            "type": kind,
            "length": size[0],
            "width": size[1],
            "height": size[2],
            "position": [{"x": float(a), "y": float(b), "z": 10.0} for a, b in where],
            "velocity": [{"x": float(a), "y": float(b)} for a, b in velocity],
            "heading": heading.tolist(),
            "valid": [True] * count,
        }

    ego = np.stack([x, y], -1)
    still = np.tile([5010.0, -2990.0], (count, 1))
    walk = still + 3 + 0.12 * np.arange(count)[:, None] * np.array([0.0, 1.0])
    lane = [{"x": 4990.0 + k, "y": -3000.0, "z": 9.2} for k in range(60)]
    zebra = [{"x": 5020.0 + a, "y": -3003.0 + b, "z": 9.2} for a, b in ((0, 0), (3, 0), (3, 6), (0, 6))]
    return {
        "name": "small.json",
        "scenario_id": "small",
        "objects": [
            item(7, "vehicle", ego, turn, (4.8, 2.0, 1.6)),
            item(8, "vehicle", still, np.zeros(count), (4.5, 1.9, 1.5)),
            item(9, "pedestrian", walk, np.full(count, np.pi / 2), (0.7, 0.7, 1.7)),
        ],
        "roads": [
            {"id": 1, "type": "lane", "map_element_id": 2, "geometry": lane},
            {"id": 2, "type": "lane", "map_element_id": 3, "geometry": lane},
            {"id": 3, "type": "road_line", "map_element_id": 9, "geometry": lane},
            {"id": 4, "type": "road_edge", "map_element_id": 15, "geometry": lane},
            {"id": 5, "type": "crosswalk", "map_element_id": 18, "geometry": zebra},
            {"id": 6, "type": "stop_sign", "map_element_id": 17, "geometry": lane[:1]},
        ],
        "tl_states": {
            "1": {
                "state": ["stop", "arrow_go"],
                "x": [5030.0, 5030.0],
                "y": [-3000.0, -3000.0],
                "z": [9.2, 9.2],
                "time_index": [0, 29],
                "lane_id": [1, 1],
            }
        },
        "metadata": {"sdc_track_index": 0},
    }


def small_scene() -> dict:
    """The same scene as a ScenarioNet dictionary."""
    source = small_json()
    count = 30
    tracks = {}
    for item in source["objects"]:
        position = np.array([[p["x"], p["y"], p["z"]] for p in item["position"]], np.float32)
        tracks[str(item["id"])] = {
            "type": item["type"].upper(),
            "state": {
                "position": position,
                "heading": np.array(item["heading"], np.float32),
                "velocity": np.array([[v["x"], v["y"]] for v in item["velocity"]], np.float32),
                "valid": np.ones(count, bool),
                **{key: np.full(count, item[key], np.float32) for key in ("length", "width", "height")},
            },
            "metadata": {"object_id": str(item["id"])},
        }
    lane = np.array([[p["x"], p["y"], p["z"]] for p in source["roads"][0]["geometry"]])
    return {
        "id": "small",
        "version": "test",
        "length": count,
        "metadata": {"dataset": "waymo", "sdc_id": "7", "ts": np.arange(count) * 0.1},
        "tracks": tracks,
        "dynamic_map_states": {
            "1": {
                "lane": 1,
                "stop_point": np.array([5030.0, -3000.0, 9.2], np.float32),
                "state": {"object_state": ["LANE_STATE_ARROW_STOP"] * 20 + ["LANE_STATE_GO"] * 9 + [None]},
            }
        },
        "map_features": {
            "1": {
                "type": "LANE_SURFACE_STREET",
                "polyline": lane,
                "width": np.array([[1.6, 1.8]] * 60),
                "speed_limit_kmh": 36.0,
            },
            "2": {"type": "ROAD_LINE_BROKEN_SINGLE_YELLOW", "polyline": lane[:, :2].tolist()},
            "3": {"type": "ROAD_EDGE_MEDIAN", "polyline": [tuple(p) for p in lane.tolist()]},
            "4": {
                "type": "CROSSWALK",
                "polygon": lane[[0, 9, 10]] + np.array([[0, 0, 0], [0, 5, 0], [0, 5, 0]]),
            },
            "5": {"type": "STOP_SIGN", "position": lane[3], "lane": [1]},
        },
    }


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def write_pickle(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(gzip.compress(pickle.dumps(content, protocol), 1))
    return path


# comma2k19 --------------------------------------------------------------------------------------------


def write_comma(folder: Path, rows: int | None = None, **changes: np.ndarray) -> Path:
    """The first rows of the bundled segment, by default all, with some arrays replaced."""
    for name in ("times", "positions", "velocities", "orientations"):
        values = changes.get(name)
        values = np.load(SAMPLE / "global_pose" / f"frame_{name}.npy")[:rows] if values is None else values
        (folder / "global_pose").mkdir(parents=True, exist_ok=True)
        np.save(folder / "global_pose" / f"frame_{name}.npy", values)
    return folder


# Waymo ------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | float | bytes | str) -> bytes:
    """One protobuf field: whole numbers as varint, floats as double, the rest with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def single(number: int, value: float) -> bytes:
    """A float of four bytes."""
    return varint(number << 3 | 5) + struct.pack("<f", value)


def point(x: float, y: float, z: float = 9.2) -> bytes:
    return field(1, float(x)) + field(2, float(y)) + field(3, float(z))


def waymo_message(name: str = "small", *, ego: int = 0) -> bytes:
    """A `Scenario` message with the story, a light, and one map feature of every kind."""

    def track(number: int, kind: int, where: np.ndarray, turn: np.ndarray, speed: np.ndarray, size) -> bytes:
        states = b""
        for tick in range(COUNT):
            x, y = where[tick] + ORIGIN[:2]
            state = field(2, float(x)) + field(3, float(y)) + field(4, 10.0)
            for key, value in zip(range(5, 11), [*size, turn[tick], *speed[tick]], strict=True):
                state += single(key, value)
            states += field(3, state + field(11, 1)) if tick != 7 or number != 8 else field(3, field(11, 0))
        return field(2, field(1, number) + field(2, kind) + states)

    still = np.tile(PARKED, (COUNT, 1))
    zero, none = np.zeros(COUNT), np.zeros((COUNT, 2))
    walk = np.tile([0.0, 1.2], (COUNT, 1))
    message = b"".join(field(1, DT * tick) for tick in range(COUNT)) + field(5, name) + field(6, ego)
    message += track(7, 1, ego_path(), ego_heading(), ego_velocity(), (4.8, 2.0, 1.6))
    message += track(8, 1, still, zero, none, (4.5, 1.9, 1.5))
    message += track(9, 2, walker_path(), np.full(COUNT, np.pi / 2), walk, (0.7, 0.7, 1.7))
    for tick in range(COUNT):
        light = field(1, 1) + field(2, 4 if tick < 20 else 6) + field(3, point(5030, -3000))
        message += field(7, field(1, light) if tick != 5 else b"")
    east = b"".join(field(8, point(4990 + k, -3000)) for k in range(60))
    left = b"".join(field(2, point(4990 + k, -2998.2)) for k in range(60))
    right = b"".join(field(2, point(4990 + k, -3001.6)) for k in range(60))
    edges = field(13, field(1, 0) + field(2, 59) + field(3, 3)) + field(
        14, field(1, 0) + field(2, 59) + field(3, 4)
    )
    square = b"".join(
        field(1, point(5020 + a, -3003 + b)) for a, b in ((0, 0), (3, 0), (3, 6), (0, 6), (0, 0))
    )
    features = [
        (1, 3, field(1, 25.0) + field(2, 2) + east + edges),
        (2, 3, field(2, 3) + east),  # a bicycle lane
        (3, 4, field(1, 6) + left),  # single solid yellow
        (4, 5, right),
        (5, 7, field(1, 1) + field(2, point(5003, -3000))),
        (6, 8, square),
        (7, 9, square),
        (8, 10, square),
        (9, 4, field(1, 1) + left),  # broken single white
    ]
    for number, kind, body in features:
        message += field(8, field(1, number) + field(kind, body))
    return message + field(10, 10)


def tfrecord(*messages: bytes) -> bytes:
    """TFRecord of some messages."""
    data = b""
    for message in messages:
        length = struct.pack("<Q", len(message))
        data += length + struct.pack("<I", masked_crc(length))
        data += message + struct.pack("<I", masked_crc(message))
    return data


# Argoverse 2 ------------------------------------------------------------------------------------------


def argoverse_map() -> dict:
    """One lane eastwards between y = -1.6 and 1.8 m, one back beside it, an area, a crossing."""

    def line(y: float) -> list[dict]:
        return [{"x": ORIGIN[0] - 10 + 20 * k, "y": ORIGIN[1] + y, "z": 9.2} for k in range(4)]

    def lane(left: list[dict], right: list[dict], kind: str, marks: tuple[str, str]) -> dict:
        return {
            "lane_type": kind,
            "left_lane_boundary": left,
            "right_lane_boundary": right,
            "left_lane_mark_type": marks[0],
            "right_lane_mark_type": marks[1],
        }

    square = [
        {"x": ORIGIN[0] + a, "y": ORIGIN[1] + b, "z": 9.2}
        for a, b in ((-20, -5), (60, -5), (60, 9), (-20, 9), (-20, -5))
    ]
    return {
        "lane_segments": {
            "1": lane(line(1.8), line(-1.6), "VEHICLE", ("DOUBLE_SOLID_YELLOW", "SOLID_WHITE")),
            "2": lane(line(1.8)[::-1], line(5.2)[::-1], "VEHICLE", ("DOUBLE_SOLID_YELLOW", "DASHED_WHITE")),
            "3": lane(line(-1.6), line(-3.0), "BIKE", ("SOLID_WHITE", "NONE")),
        },
        "drivable_areas": {"1": {"area_boundary": square}},
        "pedestrian_crossings": {"1": {"edge1": square[:2], "edge2": [square[3], square[2]]}},
    }


def argoverse_sensor(folder: Path, *, lever: float) -> Path:
    """The story as a sensor log: boxes in the ego frame, whose origin is `lever` [m] behind the box centre."""
    turn = ego_heading()
    ahead = np.stack([np.cos(turn), np.sin(turn)], -1)
    origin = ego_path() - lever * ahead + ORIGIN[:2]
    stamps = 315_966_253_660_357_000 + (1e8 * np.arange(COUNT)).astype(np.int64)
    # Twice as many poses as sweeps, unsorted, and the quaternion of either sign.
    order = np.random.default_rng(0).permutation(2 * COUNT)
    sign = np.where(np.arange(2 * COUNT) % 3 == 0, -1.0, 1.0)
    poses = {
        "timestamp_ns": np.concatenate([stamps, stamps + 49_000_000]),
        "qw": sign * np.tile(np.cos(turn / 2), 2),
        "qx": np.zeros(2 * COUNT),
        "qy": np.zeros(2 * COUNT),
        "qz": sign * np.tile(np.sin(turn / 2), 2),
        "tx_m": np.tile(origin[:, 0], 2),
        "ty_m": np.tile(origin[:, 1], 2),
        "tz_m": np.full(2 * COUNT, 9.2 + 0.33),
    }
    rows: dict[str, list] = {"timestamp_ns": [], "track_uuid": [], "category": []}
    numbers = []
    still = np.tile(PARKED, (COUNT, 1))
    actors = (
        ("car", "REGULAR_VEHICLE", still, np.full(COUNT, 0.5), (4.5, 1.9, 1.5)),
        ("walker", "PEDESTRIAN", walker_path(), np.full(COUNT, np.pi / 2), (0.7, 0.7, 1.7)),
        ("cone", "CONSTRUCTION_CONE", still - 2.0, np.zeros(COUNT), (0.3, 0.3, 0.7)),
        ("me", "EGO_VEHICLE", origin - ORIGIN[:2], turn, (4.877, 2.0, 1.473)),
    )
    for tick in range(COUNT):
        for name, category, where, heading, size in actors:
            if (name, tick) == ("walker", 3):
                continue
            apart = where[tick] + ORIGIN[:2] - origin[tick]
            left = np.array([-ahead[tick, 1], ahead[tick, 0]])
            relative = heading[tick] - turn[tick]
            rows["timestamp_ns"].append(stamps[tick])
            rows["track_uuid"].append(name)
            rows["category"].append(category)
            quaternion = (np.cos(relative / 2), 0.0, 0.0, np.sin(relative / 2))
            numbers.append([*size, *quaternion, apart @ ahead[tick], apart @ left, size[2] / 2 - 0.33])
    names = ("length_m", "width_m", "height_m", "qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
    columns = dict(zip(names, np.array(numbers).T, strict=True))
    (folder / "map").mkdir(parents=True, exist_ok=True)
    write_feather(folder / "annotations.feather", {**rows, **columns})
    write_feather(folder / "city_SE3_egovehicle.feather", {k: v[order] for k, v in poses.items()})
    (folder / "map" / "log_map_archive_a.json").write_text(json.dumps(argoverse_map()))
    return folder


def argoverse_motion(folder: Path, *, lever: float) -> Path:
    """The story as a motion scenario; the position of `AV` is `lever` [m] behind its box centre."""
    turn = ego_heading()
    axle = ego_path() - lever * np.stack([np.cos(turn), np.sin(turn)], -1)
    none = np.zeros((COUNT, 2))
    walk = np.tile([0.0, 1.2], (COUNT, 1))
    actors = (
        ("8", "bus", np.tile(PARKED, (COUNT, 1)), np.zeros(COUNT), none),
        ("AV", "vehicle", axle, turn, ego_velocity()),
        ("9", "pedestrian", walker_path(), np.full(COUNT, np.pi / 2), walk),
    )
    rows: dict[str, list] = {"track_id": [], "object_type": [], "timestep": []}
    numbers = []
    for name, kind, where, heading, speed in actors:
        for tick in range(COUNT):
            if (name, tick) != ("9", 3):
                rows["track_id"].append(name)
                rows["object_type"].append(kind)
                rows["timestep"].append(tick)
                numbers.append([*(where[tick] + ORIGIN[:2]), heading[tick], *speed[tick]])
    names = ("position_x", "position_y", "heading", "velocity_x", "velocity_y")
    size = len(numbers)
    columns = {
        **rows,
        **dict(zip(names, np.array(numbers).T, strict=True)),
        "scenario_id": ["small"] * size,
        "focal_track_id": ["9"] * size,
    }
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "scenario_small.parquet")
    (folder / "log_map_archive_small.json").write_text(json.dumps(argoverse_map()))
    return folder


def write_feather(path: Path, columns: dict) -> None:
    table = pa.table(columns)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)


# Lyft Level 5 -----------------------------------------------------------------------------------------


def write_zarr(folder: Path, values: np.ndarray, chunk: int, codec: str | None = None) -> None:
    """A zarr v2 array of records, packed by a codec of Blosc or not."""
    folder.mkdir(parents=True, exist_ok=True)
    names = values.dtype.names or ()
    header = {
        "zarr_format": 2,
        "shape": [len(values)],
        "chunks": [chunk],
        "dtype": [[n, values.dtype[n].base.str, list(values.dtype[n].shape)] for n in names],
        "compressor": None if codec is None else {"id": "blosc", "cname": codec, "shuffle": 1},
        "order": "C",
        "filters": None,
        "fill_value": None,
    }
    (folder / ".zarray").write_text(json.dumps(header))
    for number in range(-(-len(values) // chunk)):
        piece = np.zeros(chunk, values.dtype)
        part = values[number * chunk : (number + 1) * chunk]
        piece[: len(part)] = part
        data = piece.tobytes()
        if codec is not None:
            from numcodecs import blosc

            data = blosc.compress(data, codec.encode(), 5, blosc.SHUFFLE)
        (folder / str(number)).write_bytes(data)


def lyft(folder: Path, *, scenes: int = 1, codec: str | None = None) -> Path:
    """The story as a zarr group, once a scene; what nobody knows stands beside it."""
    labels = ["PERCEPTION_LABEL_NOT_SET", "PERCEPTION_LABEL_UNKNOWN", "PERCEPTION_LABEL_CAR"]
    labels.append("PERCEPTION_LABEL_PEDESTRIAN")
    two = ("<i8", (2,))
    poses = [("ego_translation", "<f8", (3,)), ("ego_rotation", "<f8", (3, 3))]
    frame = np.zeros(scenes * COUNT, [("timestamp", "<i8"), ("agent_index_interval", *two), *poses])
    scene = np.zeros(scenes, [("frame_index_interval", *two), ("host", "<U16"), ("start_time", "<i8")])
    columns = [("centroid", "<f8", (2,)), ("extent", "<f4", (3,)), ("yaw", "<f4"), ("velocity", "<f4", (2,))]
    columns += [("track_id", "<u8"), ("label_probabilities", "<f4", (len(labels),))]
    turn, agents = ego_heading(), []
    for number in range(scenes):
        scene[number] = ((number * COUNT, (number + 1) * COUNT), f"host-a{number}", 7)
        for tick in range(COUNT):
            start = len(agents)
            where: list[tuple] = [(1, PARKED, 0.5, (0, 0), 2), (3, PARKED + 3, 0.0, (0, 0), 1)]
            if tick != 3:
                speed = (0, 1.2 if tick else 0)
                where.append((2, walker_path()[tick], np.pi / 2, speed, 3))
            for name, point, yaw, speed, label in where:
                share = np.eye(len(labels))[label]
                size = (4.5, 1.9, 1.5) if name == 1 else (0.7, 0.7, 1.7)
                agents.append((point + ORIGIN[:2], size, yaw, speed, name, share))
            c, s = np.cos(turn[tick]), np.sin(turn[tick])
            rotation = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
            place = [*(ego_path()[tick] + ORIGIN[:2]), 9.2]
            stamp = 1_571_846_881_502_692_276 + int(1e8) * tick
            frame[number * COUNT + tick] = (stamp, (start, len(agents)), place, rotation)
    write_zarr(folder / "scenes", scene, 1000, codec)
    write_zarr(folder / "frames", frame, 40, codec)
    write_zarr(folder / "agents", np.array(agents, columns), 50, codec)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zattrs").write_text(json.dumps({"labels": labels}))
    return folder


# KITTI ------------------------------------------------------------------------------------------------


def kitti_poses(*, ahead: float, height: float) -> str:
    """The story's ego as poses of a camera `ahead` [m] of the box centre and `height` [m] above the ground."""
    lines = []
    first = None
    for turn, where in zip(ego_heading(), ego_path(), strict=True):
        forward = np.array([np.cos(turn), np.sin(turn), 0.0])
        right = np.array([np.sin(turn), -np.cos(turn), 0.0])
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, [0.0, 0.0, -1.0], forward], -1)
        pose[:3, 3] = [*where, height] + ahead * forward
        first = np.linalg.inv(pose) if first is None else first
        lines.append(" ".join(f"{value:.9e}" for value in (first @ pose)[:3].ravel()))
    return "\n".join(lines) + "\n"


def camera_log(folder: Path, *, seconds: float = 6.0, speed: float = 10.0, radius: float = 80.0) -> Path:
    """A recording of one's own: a rig of one camera, 10 pictures a second of a pattern, and poses on a circle."""
    import av

    folder.mkdir(parents=True)
    count, width, height = round(10 * seconds), 96, 64
    with av.open(str(folder / "drive.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            rows, columns = np.mgrid[:height, :width]
            picture = np.stack([2 * columns, 3 * rows, np.full_like(rows, 2 * number)], -1).astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    camera = {
        "name": "front", "video": "drive.mp4", "fx_px": 70, "fy_px": 70, "cx_px": 48, "cy_px": 32,
        "position_m": [1.5, 0, 1.4], "pitch_rad": 0.1,
    }  # fmt: skip
    (folder / "rig.json").write_text(json.dumps({"cameras": [camera], "licence": "mine"}))
    lines = ["time_s,x_m,y_m,z_m,qw,qx,qy,qz"]
    for number in range(count):
        yaw = speed * number / 10 / radius
        x, y = radius * math.sin(yaw), radius * (1 - math.cos(yaw))
        lines.append(
            f"{number / 10:.9f},{x:.9f},{y:.9f},0,{math.cos(yaw / 2):.9f},0,0,{math.sin(yaw / 2):.9f}"
        )
    (folder / "poses.csv").write_text("\n".join(lines) + "\n")
    return folder
