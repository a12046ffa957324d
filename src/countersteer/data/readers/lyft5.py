"""Lyft Level 5 prediction data (now Woven Planet): a zarr group of scenes, frames and agents; 10 Hz.

A group holds one scene or thousands, which are read one at a time as `folder#0`, `folder#1` ... Positions are metres
in the data set's world, z up, headings counter-clockwise from +x: our frame. Agents are what the car's own
perception saw, with its errors (headings that flip for some frames); what it could not name is left out. The map of the data set is a separate file with no published
schema outside its toolkit and is not read, and traffic lights state which of their faces shine but not
in which colour, which that map says: they are left out too.

Reference: Houston et al., "One Thousand and One Hours: Self-driving Motion Prediction Dataset", CoRL 2020.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy import ndarray

from countersteer.data.readers.assembly import assemble, check_times, heading_of
from countersteer.data.readers.fields import Field, check_counts
from countersteer.data.readers.source import Reader, choose, fingerprint, numbered, origin, split_number
from countersteer.data.readers.units import seconds, velocity_of
from countersteer.data.readers.zarr_array import ZarrArray
from countersteer.scenarios.scenario import ActorKind, Scenario, Signals, Tracks
from countersteer.storage.files import read_json

__all__ = ["CAR_SIZE", "READER"]

LICENCE = "CC BY-NC-SA 4.0"

CAR_SIZE = (4.87, 1.85, 1.8)
"""Length, width and height of the recording car [m], as the data set's toolkit draws it."""

_KINDS = {
    ActorKind.VEHICLE: "CAR VAN TRAM BUS TRUCK EMERGENCY_VEHICLE OTHER_VEHICLE",
    ActorKind.CYCLIST: "BICYCLE MOTORCYCLE CYCLIST MOTORCYCLIST",
    ActorKind.PEDESTRIAN: "PEDESTRIAN ANIMAL",
}
_ACTORS = {f"PERCEPTION_LABEL_{word}": kind for kind, words in _KINDS.items() for word in words.split()}
_MOST_FRAMES = 100_000  # of one scene: three hours


def _matches(path: Path) -> bool:
    return all((path / name / ".zarray").is_file() for name in ("scenes", "frames", "agents"))


def _drives(path: Path) -> list[Path]:
    return numbered(path, len(ZarrArray(path / "scenes")))


def _column(place: Path, table: ndarray, name: str, kind: str, *shape: int) -> ndarray:
    """A column of records, which has to be there and of a kind ("f" or "i") and shape."""
    field = Field(place, f"column {name!r}", None)
    names = table.dtype.names or ()
    if name not in names:
        field.fail("is missing", got=f"columns: {', '.join(names)[:120]}", expected=f"a column {name!r}")
    values = table[name]
    if values.dtype.kind not in {"i": "iu", "f": "f"}[kind] or values.shape[1:] != shape:
        field.fail("is of another type", got=f"{values.dtype} {values.shape[1:]}", expected=f"{kind} {shape}")
    return values.astype(np.int64) if kind == "i" else field.child("values", values).numbers(None, *shape)


def _interval(place: Path, rows: ndarray, what: str, length: int) -> tuple[int, int]:
    """First row and the one behind the last, of intervals that follow each other."""
    start, stop = int(rows[0, 0]), int(rows[-1, 1])
    if not (
        0 <= start <= stop <= length
        and (rows[1:, 0] == rows[:-1, 1]).all()
        and (rows[:, 0] <= rows[:, 1]).all()
    ):
        Field(place, what, None).fail(
            "is out of order",
            got=f"{start} to {stop}",
            expected=f"intervals one after the other in 0 to {length}",
        )
    return start, stop


def _read(path: Path) -> Scenario:
    folder, number = split_number(path)
    scenes, frames, agents = (ZarrArray(folder / name) for name in ("scenes", "frames", "agents"))
    number = choose(path, number, len(scenes), "scenes")
    scene = scenes.rows(number, number + 1)
    first, last = _interval(
        folder / "scenes",
        _column(folder / "scenes", scene, "frame_index_interval", "i", 2),
        "column 'frame_index_interval'",
        len(frames),
    )
    if not 1 < last - first <= _MOST_FRAMES:
        Field(path, "the scene", None).fail(
            "has no usable length", got=f"{last - first} frames", expected="2 or more"
        )
    frame = frames.rows(first, last)
    place = folder / "frames"
    stamps = _column(place, frame, "timestamp", "i")
    times = (stamps - stamps[0]) / 1e9
    check_times(path, times)
    seen = _column(place, frame, "agent_index_interval", "i", 2)
    agent = agents.rows(*_interval(place, seen, "column 'agent_index_interval'", len(agents)))
    tick = np.repeat(np.arange(len(frame)), seen[:, 1] - seen[:, 0])

    notes = [
        "the map of the data set is a separate file that is not read: the scenario has no map",
        "traffic lights are left out: the source states which faces shine, but their colours are in its map",
        f"the ego's box is assumed: {CAR_SIZE[0]:g} x {CAR_SIZE[1]:g} x {CAR_SIZE[2]:g} m around its position",
        "agents state no height: they stand on the ground of the ego",
    ]
    where = _column(place, frame, "ego_translation", "f", 3)
    # Some velocities are stated and some taken from positions: these need the unit of time first.
    times, _ = seconds(times, where[None], np.ones((1, len(times)), bool), notes)
    rotation = _column(place, frame, "ego_rotation", "f", 3, 3)
    if np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max() > 1e-2:
        Field(place, "column 'ego_rotation'", None).fail(
            "holds matrices that are no rotations", got="R R^T far from 1", expected="rotations, ego to world"
        )
    ego = _ego(place, where, rotation, times)
    tracks = _tracks(folder, agent, tick, times, ego, where[:, 2], notes)
    names = scene.dtype.names or ()
    proof = "host" in names and re.fullmatch(r"host-a\d+", str(scene["host"][0])) is not None
    source, licence = origin(proof, "Lyft Level 5 prediction", LICENCE, "zarr as for l5kit")
    return assemble(
        path,
        _name(scene, folder, number, len(scenes)),
        times,
        tracks,
        [],
        Signals.none(len(times)),
        0,
        source=source,
        licence=licence,
        fingerprint=fingerprint(scene.tobytes(), frame.tobytes(), agent.tobytes()),
        notes=notes,
    )


def _name(scene: ndarray, folder: Path, number: int, count: int) -> str:
    """Host and start of a scene, or the folder's name and its number."""
    names = scene.dtype.names or ()
    if "host" in names and "start_time" in names and scene.dtype["host"].kind == "U":
        host = "".join(letter for letter in str(scene["host"][0]) if letter.isalnum() or letter in "-_")
        if host:
            return f"{host}-{int(scene['start_time'][0])}"
    return f"{folder.stem}-{number}" if count > 1 else folder.stem


def _ego(place: Path, where: ndarray, rotation: ndarray, times: ndarray) -> Tracks:
    """The recording car; its position is taken as the middle of its box, as the data set's toolkit does."""
    position = where[None] + np.array([0.0, 0.0, CAR_SIZE[2] / 2])
    valid = np.ones((1, len(times)), bool)
    return Tracks(
        ids=("ego",),
        kind=np.array([int(ActorKind.VEHICLE)]),
        position=position,
        heading=heading_of(place, rotation[:, :, 0])[None],
        velocity=velocity_of(position, valid, times),
        size=np.array([CAR_SIZE]),
        valid=valid,
    )


def _tracks(
    folder: Path,
    agent: ndarray,
    tick: ndarray,
    times: ndarray,
    ego: Tracks,
    ground: ndarray,
    notes: list[str],
) -> Tracks:
    """The ego and every agent whose most probable label over its whole track names what it is."""
    place = folder / "agents"
    labels = _labels(folder)
    share = _column(place, agent, "label_probabilities", "f", len(labels))
    ids, row = np.unique(_column(place, agent, "track_id", "i"), return_inverse=True)
    votes = np.zeros((len(ids), len(labels)))
    np.add.at(votes, row, share)
    kinds = [_ACTORS.get(labels[best]) for best in votes.argmax(1)]
    known = np.array([kind is not None for kind in kinds], bool)
    if left_out := int((~known).sum()):
        notes.append(f"{left_out} of {len(ids)} tracks are of no known kind: left out")
    number = np.cumsum(known) - 1
    kept, actor = known[row], number[row]
    steps, count = len(ground), int(known.sum())
    check_counts(folder, count + 1, steps)
    there, often = np.unique(actor[kept] * steps + tick[kept], return_counts=True)
    if (often > 1).any():
        which, at = divmod(int(there[often.argmax()]), steps)
        Field(place, f"track {ids[known][which]}", None).fail(
            f"is there {often.max()} times in frame {at}", got=often.max(), expected="one state a frame"
        )

    def scattered(values: ndarray) -> ndarray:
        table = np.zeros((count, steps, *values.shape[1:]), values.dtype)
        table[actor[kept], tick[kept]] = values[kept]
        return table

    if not known.any():
        return ego
    valid = scattered(np.ones(len(row), bool))
    extent = scattered(_column(place, agent, "extent", "f", 3))
    size = np.array([np.median(extent[k, valid[k]], axis=0) for k in range(count)]).reshape(-1, 3)
    plane = scattered(_column(place, agent, "centroid", "f", 2))
    height = np.where(valid, ground + size[:, 2:] / 2, 0.0)
    position = np.concatenate([plane, height[..., None]], axis=-1)
    # The source's perception knows no speed yet when it first sees an actor, and states zero.
    velocity = scattered(_column(place, agent, "velocity", "f", 2))
    starts = valid & ~np.pad(valid, ((0, 0), (1, 0)))[:, :-1] & ~velocity.any(-1)
    velocity = np.where(starts[..., None], velocity_of(position, valid, times), velocity)
    notes.append("velocities of zero where an actor is first seen are taken from its positions")
    return Tracks(
        ids=("ego", *(str(name) for name in ids[known])),
        kind=np.concatenate([ego.kind, [int(kind) for kind in kinds if kind is not None]]).astype(int),
        position=np.concatenate([ego.position, position]),
        heading=np.concatenate([ego.heading, scattered(_column(place, agent, "yaw", "f"))]),
        velocity=np.concatenate([ego.velocity, velocity]),
        size=np.concatenate([ego.size, size]),
        valid=np.concatenate([ego.valid, valid]),
    )


def _labels(folder: Path) -> list[str]:
    """Names of the columns of `label_probabilities`."""
    path = folder / ".zattrs"
    header = Field(path, "", read_json(path, 1 << 20, "the attributes of the group"))
    return [entry.text() for entry in header["labels"].entries()]


READER = Reader(
    "lyft5",
    "a zarr v2 folder with scenes, frames and agents (Lyft Level 5 prediction)",
    _matches,
    _read,
    _drives,
)
