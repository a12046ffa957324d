"""Our own form of a scenario on disk: a folder with `scenario.json` and Arrow tables.

`docs/formats.md` describes every column. A folder is written whole or not at all, and what is loaded is
bit for bit what was saved.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from countersteer.errors import UserError, reading, writing
from countersteer.scenarios.scenario import (
    ActorKind,
    MapFeature,
    MapKind,
    Provenance,
    Recording,
    RoadMap,
    Scenario,
    Signals,
    SignalState,
    Tracks,
)
from countersteer.storage.files import open_regular, read_bytes, read_object
from countersteer.storage.tables import parse_table

__all__ = ["VERSION", "load", "matches", "read_table", "save", "write_table"]

VERSION = 1
"""Version of the format that is written; `load` reads this one and those before it."""

_FORMAT = "countersteer-scenario"
_HEADER = "scenario.json"
_COORDINATES = ("x", "y", "z")
_LARGEST_HEADER = 16 << 20  # a scenario.json is a few kilobytes [bytes]
_LARGEST_TABLE = 1 << 28  # nothing in it is packed, so it takes no more than its file [bytes]


def save(scenario: Scenario, folder: str | Path) -> Path:
    """Write a scenario into a new folder and return it.

    Raises:
        UserError: The folder exists already, or cannot be made.
    """
    folder = Path(folder)
    there = UserError(
        f"{folder} exists already",
        expected="a new folder for each scenario",
        fix="choose another name or remove it first",
    )
    if os.path.lexists(folder):
        raise there
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for name, columns in _tables(scenario).items():
                write_table(draft / f"{name}.arrow", columns)
            (draft / _HEADER).write_text(json.dumps(_header(scenario), indent=2) + "\n", encoding="utf-8")
            draft.chmod(0o755)  # mkdtemp makes private folders
            os.rename(draft, folder)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise there from None  # somebody else made it meanwhile
            raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def matches(path: Path) -> bool:
    """Whether `path` is a folder written by `save`."""
    try:
        with open_regular(path / _HEADER) as file:
            return f'"{_FORMAT}"'.encode() in file.read(4096)
    except (OSError, ValueError):
        return False


def load(folder: str | Path) -> Scenario:
    """The scenario in a folder written by `save`.

    Raises:
        UserError: The folder is not one, is damaged, or was written by a later version.
    """
    folder = Path(folder)
    path = folder / _HEADER
    expected = f"a folder with a {_HEADER} of the format {_FORMAT!r}"
    with reading(folder, "is not a stored scenario", expected=expected, fix="check the path"):
        header = read_object(path, _LARGEST_HEADER)
        if header.get("format") != _FORMAT:
            raise ValueError(f"no format {_FORMAT!r}")
        version = int(header["version"])
    if not 1 <= version <= VERSION:
        raise UserError(
            f"{path}: the format is of another version",
            got=f"version {version}",
            expected=f"version 1 to {VERSION}",
            fix="install a newer countersteer",
        )
    with reading(folder, expected="the tables docs/formats.md describes", fix="import the drive again"):
        scenario = _scenario(header, {name: read_table(folder / f"{name}.arrow") for name in _TABLES})
        fingerprint = scenario.fingerprint()
    if fingerprint != header.get("fingerprint"):
        raise UserError(
            f"{folder} was changed after it was written",
            got=f"content {fingerprint[:12]}",
            expected=f"content {str(header.get('fingerprint'))[:12]}",
            fix="import the drive again",
        )
    return scenario


def _header(scenario: Scenario) -> dict[str, Any]:
    cameras = scenario.cameras
    return {
        "format": _FORMAT,
        "version": VERSION,
        "id": scenario.id,
        "fingerprint": scenario.fingerprint(),
        "ego": scenario.ego,
        "has_route": scenario.route is not None,
        "lane_width_m": scenario.lane_width,
        "route_offsets_m": list(scenario.route_offsets),
        "cameras": None if cameras is None else {"path": cameras.path, "start_s": cameras.start},
        "provenance": dataclasses.asdict(scenario.provenance),
    }


_TABLES = ("times", "tracks", "map", "signals", "route")


def _tables(scenario: Scenario) -> dict[str, dict[str, Any]]:
    """Columns of each table: a list of text, an array [row] or [row, n], or a list of arrays [n, 3]."""
    tracks, signals, features = scenario.tracks, scenario.signals, scenario.road.features
    route = np.zeros((0, 2)) if scenario.route is None else scenario.route
    return {
        "times": {"time": scenario.times},
        "tracks": {
            "id": list(tracks.ids),
            "kind": tracks.kind,
            **{name: tracks.size[:, k] for k, name in enumerate(("length", "width", "height"))},
            **{name: tracks.position[..., k] for k, name in enumerate(_COORDINATES)},
            "heading": tracks.heading,
            **{name: tracks.velocity[..., k] for k, name in enumerate(("velocity_x", "velocity_y"))},
            "valid": tracks.valid,
        },
        "map": {
            "id": [feature.id for feature in features],
            "kind": [feature.kind.name for feature in features],
            "points": [feature.points for feature in features],
            "width": np.array([np.nan if f.width is None else f.width for f in features], float),
            "speed_limit": np.array(
                [np.nan if f.speed_limit is None else f.speed_limit for f in features], float
            ),
        },
        "signals": {
            "lane": list(signals.lane),
            **{f"stop_{name}": signals.stop_point[:, k] for k, name in enumerate(_COORDINATES)},
            "heading": signals.heading,
            "state": signals.state,
        },
        "route": {"x": route[:, 0], "y": route[:, 1]},
    }


def write_table(path: Path, columns: dict[str, Any]) -> None:
    """Write columns as an Arrow file.

    Args:
        path: New file.
        columns: Arrays [row] or [row, n], lists of text, and under "points" a list of arrays [n, 3].
    """
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        if isinstance(values, ndarray) and values.ndim == 1:
            arrays[name] = pa.array(np.ascontiguousarray(values))
        elif isinstance(values, ndarray):
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        elif name == "points":
            kinds = {points.dtype for points in values}
            kind = kinds.pop() if len(kinds) == 1 else np.dtype(np.float64)
            flat = np.concatenate([np.zeros((0, 3), kind), *values]).astype(kind).reshape(-1)
            vertices = pa.FixedSizeListArray.from_arrays(pa.array(flat), 3)
            ends = np.cumsum([0, *(len(points) for points in values)])
            arrays[name] = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), vertices)
        else:
            arrays[name] = pa.array(values, pa.string())
    table = pa.table(arrays)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read_table(path: Path) -> dict[str, Any]:
    """Columns as `write_table` got them, to the bit.

    Raises:
        UserError: The file is damaged or too large.
        ValueError: It holds something else than `write_table` writes; the caller says which file that was.
    """
    import pyarrow as pa

    table = parse_table(read_bytes(path, _LARGEST_TABLE), path, _LARGEST_TABLE)
    columns = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if 8 * table.column(name).nbytes > _LARGEST_TABLE and "bool" in str(column.type):
            raise ValueError(f"{path.name} has too many truth values in {name!r}")  # bits become bytes
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        if column.null_count:
            raise ValueError(f"{path.name} has empty cells in {name!r}")
        if pa.types.is_fixed_size_list(column.type):
            columns[name] = _numpy(column.flatten()).reshape(len(column), column.type.list_size)
        elif pa.types.is_list(column.type):
            vertices = _numpy(column.flatten().flatten()).reshape(-1, 3)
            ends = np.asarray(column.offsets) - column.offsets[0].as_py() if len(column) else np.zeros(1, int)
            columns[name] = [vertices[start:end].copy() for start, end in itertools.pairwise(ends)]
        elif pa.types.is_string(column.type):
            columns[name] = column.to_pylist()
        else:
            columns[name] = _numpy(column)
    return columns


def _numpy(column: Any) -> ndarray:
    if column.null_count:
        raise ValueError("empty cells")
    return column.to_numpy(zero_copy_only=False).copy()


def _scenario(header: dict[str, Any], tables: dict[str, dict[str, Any]]) -> Scenario:
    tracks, lines, signals, route = (tables[name] for name in ("tracks", "map", "signals", "route"))
    times = tables["times"]["time"]
    count = len(times)

    def real(values: Any, *shape: int | None) -> ndarray:
        """A column of real numbers of the right shape."""
        if values.dtype.kind != "f" or not all(
            n in (None, m) for n, m in zip(shape, values.shape, strict=True)
        ):
            raise ValueError(f"a column holds {values.dtype} of shape {values.shape}")
        return values

    def whole(values: Any, kinds: type[ActorKind] | type[SignalState], *shape: int | None) -> ndarray:
        """A column of numbers of an enumeration."""
        if values.dtype.kind not in "iu" or not np.isin(values, [int(kind) for kind in kinds]).all():
            raise ValueError(f"a column does not hold numbers of {kinds.__name__}")
        if not all(n in (None, m) for n, m in zip(shape, values.shape, strict=True)):
            raise ValueError(f"a column of shape {values.shape}")
        return values

    def optional(value: float) -> float | None:
        if not (np.isnan(value) or 0.0 < value < 100.0):
            raise ValueError(f"{value:g} is no width of a lane [m], nor a speed limit [m/s]")
        return None if np.isnan(value) else float(value)

    features = []
    for name, kind, points, width, limit in zip(
        lines["id"], lines["kind"], lines["points"], lines["width"], lines["speed_limit"], strict=True
    ):
        features.append(
            MapFeature(name, MapKind[kind], real(points, None, 3), optional(width), optional(limit))
        )
    actors = len(tracks["id"])
    if tracks["valid"].dtype != bool or tracks["valid"].shape != (actors, count):
        raise ValueError("the column 'valid' of the tracks has another type or shape")
    ego = header["ego"]
    if ego is not None and (isinstance(ego, bool) or not isinstance(ego, int)):
        raise ValueError("the ego is not an index")
    source = header["provenance"]
    cameras = header["cameras"]
    return Scenario(
        id=_text(header["id"]),
        times=real(times, None),
        road=RoadMap(tuple(features)),
        tracks=Tracks(
            ids=tuple(tracks["id"]),
            kind=whole(tracks["kind"], ActorKind, actors),
            position=np.stack([real(tracks[name], actors, count) for name in _COORDINATES], -1),
            heading=real(tracks["heading"], actors, count),
            velocity=np.stack(
                [real(tracks[name], actors, count) for name in ("velocity_x", "velocity_y")], -1
            ),
            size=np.stack([real(tracks[name], actors) for name in ("length", "width", "height")], -1),
            valid=tracks["valid"],
        ),
        ego=ego,
        route=np.stack([real(route["x"], None), real(route["y"], None)], -1) if header["has_route"] else None,
        signals=Signals(
            lane=tuple(signals["lane"]),
            stop_point=np.stack(
                [real(signals[f"stop_{name}"], len(signals["lane"])) for name in _COORDINATES], -1
            ),
            heading=real(signals["heading"], len(signals["lane"])),
            state=whole(signals["state"], SignalState, len(signals["lane"]), count),
        ),
        provenance=Provenance(
            *(_text(source[name]) for name in ("source", "path", "licence", "fingerprint")),
            notes=tuple(_text(note) for note in source["notes"]),
        ),
        route_offsets=tuple(_finite(value) for value in header["route_offsets_m"]),
        lane_width=_finite(header["lane_width_m"]),
        cameras=None if cameras is None else Recording(_text(cameras["path"]), _finite(cameras["start_s"])),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text was expected, not {type(value).__name__}")
    return value


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"a finite number was expected, not {type(value).__name__} {str(value)[:20]}")
    return float(value)
