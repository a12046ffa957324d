"""INTERACTION recordings: a table of vehicles seen from a drone, and the Lanelet2 map of the place.

`vehicle_tracks_NNN.csv` (or `.csv.xz`, `.csv.gz`) has a row for each vehicle and frame: time [ms], box centre [m], velocity
[m/s], heading [rad], length and width [m]; 10 Hz, about five minutes. `pedestrian_tracks_NNN.csv` beside it, if there, has
people and bicycles without heading and size. The map is `SITE.osm` beside them, in `../maps` or in `../../maps`, where
SITE is the name of the folder.

Nobody drives the camera, so a vehicle that is seen for long becomes the ego. Drive `file#n` is that of the n-th driver,
from 0: vehicles in the order of the table that are seen without a break for at least `LEAST_TIME` and get at least
`LEAST_WAY` ahead. A drive lasts as long as its driver is seen, and holds whoever is seen then. `read_everybody` gives
the recording as it is, without an ego.

Reference: Zhan et al., "INTERACTION Dataset: An INTERnational, Adversarial and Cooperative moTION Dataset in Interactive
Driving Scenarios with Semantic Maps", arXiv:1910.03088, 2019.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from countersteer.data.readers.assembly import assemble
from countersteer.data.readers.fields import MAX_STEPS, Field, check_counts
from countersteer.data.readers.physics import USUAL_SIZE
from countersteer.data.readers.source import Reader, choose, fingerprint, numbered, origin, split_number
from countersteer.data.roads.lanelet_features import map_features
from countersteer.data.roads.map_ends import NOTE, beyond_the_map
from countersteer.data.roads.origins import INTERACTION_LICENCE, INTERACTION_SITES
from countersteer.data.roads.osm_lanelets import read_lanelets
from countersteer.errors import UserError, reading
from countersteer.geometry.polygons import distance_to_segments
from countersteer.scenarios.scenario import ActorKind, MapFeature, MapKind, Scenario, Signals, Tracks
from countersteer.storage.files import head, read_bytes
from countersteer.storage.tables import MAX_ROWS

__all__ = ["LEAST_TIME", "LEAST_WAY", "READER", "read_everybody"]

LEAST_TIME = 8.0
"""A driver is seen for at least this long [s]."""

LEAST_WAY = 40.0
"""A driver gets at least this far [m]."""

_HEADER = b"track_id,frame_id,timestamp_ms,agent_type,x,y,vx,vy"
_NUMBERS = ("x", "y", "vx", "vy", "psi_rad", "length", "width")
_INTERVAL = 0.1  # [s]
_TALL, _LORRY = 3.2, 7.5  # height and least length of lorries and buses [m]
_RIDES = 2.5  # whoever among people and bicycles is usually faster rides [m/s]
_COURSE = 0.3  # of people who are slower, nobody knows where they face [m/s]
_OFF_THE_MAP = (
    4.0  # half of the vehicles are further from any lane's middle than this: it is another place's map [m]
)
_LOOKS_LIKE = (
    "vehicle_tracks_NNN.csv, .csv.gz or .csv.xz with the columns track_id, frame_id, timestamp_ms, agent_type, x, y, vx, vy, "
    "psi_rad, length, width (an INTERACTION recording)"
)
_FIX = "the file is damaged or may not be read; download it again or check its permissions"
_KINDS = {"pedestrian": ActorKind.PEDESTRIAN, "bicycle": ActorKind.CYCLIST, "motorcycle": ActorKind.CYCLIST}


@dataclass(frozen=True)
class _Rows:
    """The table: rows of all actors, sorted by nothing.

    Attributes:
        names: Of the actors, in the order in which they first occur.
        actor, step: Which actor and step each row is of.
        time: Of each step [s].
        values: x, y, vx, vy, heading, length, width of each row; NaN where the table has no such column.
        kind: Of each actor.
        data: Bytes of the files.
    """

    names: tuple[str, ...]
    actor: Int[ndarray, "row"]
    step: Int[ndarray, "row"]
    time: Float[ndarray, "step"]
    values: Float[ndarray, "row 7"]
    kind: Int[ndarray, "actor"]
    data: tuple[bytes, ...]


def _matches(path: Path) -> bool:
    line = head(path).split(b"\n", 1)[0]
    return line.startswith(_HEADER) and b"psi_rad" in line


def _table(path: Path, data: bytes) -> dict[str, ndarray]:
    """Columns of a file."""
    import pyarrow as pa
    import pyarrow.csv as csv

    whole = Field(path, "the table", None)
    if data.count(b"\n") + data.count(b"\r") > MAX_ROWS:
        whole.fail("has too many rows", got=f"more than {MAX_ROWS}", expected=f"at most {MAX_ROWS}")
    present = data[:1000].partition(b"\n")[0].decode("utf-8", "replace").strip().split(",")
    texts = {name: pa.string() for name in ("track_id", "agent_type")}
    numbers = {name: pa.float64() for name in ("timestamp_ms", *_NUMBERS) if name in present}
    wanted = {**texts, **numbers}
    if missing := [
        name for name in ("track_id", "agent_type", "timestamp_ms", *_NUMBERS[:4]) if name not in present
    ]:
        whole.fail("lacks a column", got=f"columns: {', '.join(present)[:80]}", expected=", ".join(missing))
    if len(set(present)) < len(present):
        whole.fail("has two columns of one name", got=", ".join(present)[:80], expected="one of each")
    try:
        table = csv.read_csv(
            io.BytesIO(data),
            read_options=csv.ReadOptions(use_threads=False),
            convert_options=csv.ConvertOptions(
                column_types=wanted, include_columns=list(wanted), strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, ValueError) as error:
        whole.fail(
            "cannot be read", got=str(error)[:120], expected="a row of a vehicle at a time in each line"
        )
    columns: dict[str, ndarray] = {}
    for name in texts:
        coded = table[name].combine_chunks().dictionary_encode()
        columns[name] = np.array(coded.dictionary.to_pylist(), object)[coded.indices.to_numpy(False)]
    for name in numbers:
        column = whole.child(name, table[name].to_numpy())
        columns[name] = column.numbers(None)
        if (bad := ~np.isfinite(columns[name])).any():
            row = int(bad.argmax())
            column.fail(f"is not finite in row {row + 1}", got=columns[name][row], expected="finite numbers")
    if not len(columns["timestamp_ms"]):
        whole.fail("is empty", got="no rows", expected="rows of vehicles")
    return columns


def _rows(path: Path, notes: list[str]) -> _Rows:
    """The rows of the vehicles and, where there is such a file, of the people beside them."""
    data = [read_bytes(path)]
    tables = [_table(path, data[0])]
    for name in ("psi_rad", "length", "width"):
        if name not in tables[0]:
            Field(path, "the table", None).fail("lacks a column", got="none", expected=name)
    people = path.with_name(path.name.replace("vehicle_tracks", "pedestrian_tracks"))
    if people != path and people.is_file():
        data.append(read_bytes(people))
        tables.append(_table(people, data[1]))
        notes.append("headings of people and bicycles are those of their velocities; sizes are usual ones")
    names = np.concatenate([table["track_id"] for table in tables])
    known, first, actor = np.unique(names.astype(str), return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    stamp = np.concatenate([table["timestamp_ms"] for table in tables]) / 1000
    values = np.concatenate(
        [
            np.stack([table.get(name, np.full(len(table["x"]), np.nan)) for name in _NUMBERS], -1)
            for table in tables
        ]
    )
    step, time = _steps(path, stamp)
    actor = rank[actor]
    check_counts(path, len(known), 1)
    if (different := len(np.unique(actor * len(time) + step))) < len(step):
        Field(path, "the table", None).fail(
            "states a track twice at one time",
            got=f"{len(step)} rows, {different} of them different",
            expected="one row a track and time",
        )
    words = np.concatenate([table["agent_type"] for table in tables])[first[order]]
    kind = np.array([_kind(str(word).lower(), values[actor == row]) for row, word in enumerate(words)])
    return _Rows(tuple(known[order].tolist()), actor, step, time, values, kind, tuple(data))


def _kind(word: str, values: Float[ndarray, "row 7"]) -> int:
    """What an actor is, by its name and, of those who may be either, by how fast it goes."""
    if word in _KINDS:
        return int(_KINDS[word])
    if "pedestrian" in word or "bicycle" in word:
        rides = np.median(np.hypot(values[:, 2], values[:, 3])) > _RIDES
        return int(ActorKind.CYCLIST if rides else ActorKind.PEDESTRIAN)
    return int(ActorKind.VEHICLE)


def _steps(path: Path, stamp: Float[ndarray, "row"]) -> tuple[Int[ndarray, "row"], Float[ndarray, "step"]]:
    """The step of each row and the times of the steps [s]: every tenth of a second, where all rows are at such."""
    span = float(np.ptp(stamp)) / _INTERVAL
    if span < MAX_STEPS:
        even = (stamp - stamp.min()) / _INTERVAL
        step = np.rint(even).astype(np.int64)
        if np.abs(even - step).max() < 0.01 and step.max() > 0:
            return step, stamp.min() + _INTERVAL * np.arange(step.max() + 1)
    time, step = np.unique(stamp, return_inverse=True)
    check_counts(path, 1, len(time))
    return step, time


def _drivers(rows: _Rows) -> list[int]:
    """The actors that become drivers, by the rule of this module."""
    found = []
    order = np.lexsort((rows.step, rows.actor))
    for mine in np.split(order, np.flatnonzero(np.diff(rows.actor[order])) + 1):
        actor, steps = int(rows.actor[mine[0]]), rows.step[mine]
        if rows.kind[actor] != ActorKind.VEHICLE or len(mine) < 2 or (np.diff(steps) != 1).any():
            continue
        way = float(np.linalg.norm(np.diff(rows.values[mine, :2], axis=0), axis=1).sum())
        if way >= LEAST_WAY and rows.time[steps[-1]] - rows.time[steps[0]] >= LEAST_TIME - 1e-6:
            found.append(actor)
    return found


def _drives(path: Path) -> list[Path]:
    return numbered(path, len(_drivers(_rows(path, []))))


def _tracks(path: Path, rows: _Rows, begin: int, end: int) -> tuple[Tracks, tuple[int, ...]]:
    """Whoever is seen from step `begin` up to `end`, and which actors these are."""
    here = (rows.step >= begin) & (rows.step < end)
    actors, row = np.unique(rows.actor[here], return_inverse=True)
    count, steps = len(actors), end - begin
    check_counts(path, count, steps)
    step = rows.step[here] - begin
    valid = np.zeros((count, steps), bool)
    valid[row, step] = True
    states = np.zeros((count, steps, 5))
    states[row, step] = rows.values[here, :5]
    kind = rows.kind[actors]
    heading = np.where(np.isnan(states[..., 4]), _courses(states[..., 2:4], valid), states[..., 4])
    size = np.array([USUAL_SIZE[ActorKind(each)] for each in kind.tolist()]).reshape(-1, 3)
    for index, actor in enumerate(actors):
        stated = rows.values[rows.actor == actor, 5:]
        if not np.isnan(stated).any():
            size[index, :2] = np.median(stated, axis=0)
    size[(kind == ActorKind.VEHICLE) & (size[:, 0] > _LORRY), 2] = _TALL
    height = np.broadcast_to(size[:, None, 2:] / 2, (count, steps, 1))
    return Tracks(
        tuple(rows.names[actor] for actor in actors),
        kind,
        np.concatenate([states[..., :2], height], -1),
        heading,
        states[..., 2:4],
        size,
        valid,
    ), tuple(actors.tolist())


def _courses(
    velocity: Float[ndarray, "actor time 2"], valid: Bool[ndarray, "actor time"]
) -> Float[ndarray, "actor time"]:
    """Directions of motion [rad]; those of the time before (else of the next) where somebody stands."""
    course = np.arctan2(velocity[..., 1], velocity[..., 0])
    known = valid & (np.hypot(velocity[..., 0], velocity[..., 1]) > _COURSE)
    ticks = np.where(known, np.arange(valid.shape[1]), -1)
    last = np.maximum.accumulate(ticks, axis=1)
    last = np.where(last < 0, known.argmax(1)[:, None], last)
    return np.take_along_axis(course, last, 1)


def _site(path: Path) -> str:
    return path.parent.name


def _map(path: Path, notes: list[str]) -> tuple[list[MapFeature], bytes]:
    """Features of the map of the place and the bytes of its file; none where there is no such file."""
    folders = (path.parent, path.parent.parent / "maps", path.parent.parent.parent / "maps")
    for folder in folders:
        for ending in (".osm", ".osm.gz", ".osm_xy"):
            file = folder / f"{_site(path)}{ending}"
            if file.is_file():
                whole = read_lanelets(file)
                notes += [*whole.notes, NOTE]
                features = map_features(whole)
                return [*features, *beyond_the_map(features)], whole.data
    notes.append(
        f"there is no map: neither {_site(path)}.osm nor {_site(path)}.osm.gz lies beside the table or in maps/"
    )
    return [], b""


def _check_place(path: Path, tracks: Tracks, features: list[MapFeature]) -> None:
    """Refuse a map that does not lie under the vehicles: it is another place's, or one of them is mirrored or shifted."""
    lines = [one.points[:, :2] for one in features if one.kind == MapKind.LANE]
    places = tracks.position[(tracks.kind == ActorKind.VEHICLE)[:, None] & tracks.valid][:, :2]
    if not lines or not len(places):
        return
    starts, ends = (
        np.concatenate([line[part] for line in lines]) for part in (slice(None, -1), slice(1, None))
    )
    some = places[np.linspace(0, len(places) - 1, min(len(places), 200)).astype(int)]
    aside = float(np.median(distance_to_segments(starts, ends, some).min(-1)))
    if not aside <= _OFF_THE_MAP:
        raise UserError(
            f"{path}: the map does not lie under the vehicles",
            got=f"half of the places are more than {aside:.1f} m from the middle of any lane",
            expected=f"at most {_OFF_THE_MAP:g} m",
            fix="take the map of this place; or rename the folder to use the tracks without a map",
        )


def _scenario(path: Path, rows: _Rows, begin: int, end: int, ego: int | None, notes: list[str]) -> Scenario:
    tracks, actors = _tracks(path, rows, begin, end)
    features, map_data = _map(path, notes)
    _check_place(path, tracks, features)
    notes.append(
        "the source states no heights: everything stands on level ground, vehicles are of usual height"
    )
    name = f"{_site(path)}_{path.name.split('.')[0].removeprefix('vehicle_tracks_')}"
    if ego is not None:
        name = f"{name}_{rows.names[ego]}"
        notes.append(f"nobody drives the camera: vehicle {rows.names[ego]!r} is taken for the driver")
    source, licence = origin(
        _site(path) in INTERACTION_SITES, "INTERACTION", INTERACTION_LICENCE, "vehicle_tracks.csv"
    )
    return assemble(
        path,
        name,
        rows.time[begin:end],
        tracks,
        features,
        Signals.none(end - begin),
        None if ego is None else actors.index(ego),
        source=source,
        licence=licence,
        fingerprint=fingerprint(*rows.data, map_data),
        notes=notes,
    )


def _read(path: Path) -> Scenario:
    file, number = split_number(path)
    notes: list[str] = []
    rows = _rows(file, notes)
    drivers = _drivers(rows)
    if not drivers:
        raise UserError(
            f"{file}: no vehicle is seen for long enough to be the driver",
            got=f"{len(rows.names)} actors",
            expected=f"one that is seen for {LEAST_TIME:g} s without a break and gets {LEAST_WAY:g} m ahead",
            fix="`interaction.read_everybody` reads the recording without a driver",
        )
    ego = drivers[choose(path, number, len(drivers), "drives")]
    seen = rows.step[rows.actor == ego]
    return _scenario(file, rows, int(seen.min()), int(seen.max()) + 1, ego, notes)


def read_everybody(path: str | Path, start: float = 0.0, end: float | None = None) -> Scenario:
    """Everybody in a recording, or in a part of it, without an ego: the traffic itself.

    Args:
        path: The table of the vehicles.
        start, end: The part [s from the first row]; no end means to the end of the recording.

    Raises:
        UserError: The file is damaged, or nobody is seen in that part.
    """
    path = Path(path)
    with reading(path, "cannot be read as an INTERACTION recording", expected=_LOOKS_LIKE, fix=_FIX):
        return _everybody(path, start, end)


def _everybody(path: Path, start: float, end: float | None) -> Scenario:
    notes: list[str] = []
    rows = _rows(path, notes)
    clock = rows.time - rows.time[0]
    begin = int(np.searchsorted(clock, start - 1e-6))
    stop = len(clock) if end is None else int(np.searchsorted(clock, end + 1e-6))
    if stop - begin < 2 or not ((rows.step >= begin) & (rows.step < stop)).any():
        raise UserError(
            f"{path} has nobody between {start:g} and {clock[-1] if end is None else end:g} s",
            got=f"a recording of {clock[-1]:.1f} s",
            expected="a part of it",
        )
    return _scenario(path, rows, begin, stop, None, notes)


READER = Reader(
    "interaction",
    _LOOKS_LIKE,
    _matches,
    _read,
    _drives,
)
