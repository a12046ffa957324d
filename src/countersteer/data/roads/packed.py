"""Our own form of a street network: a compressed `.npz`, positions in whole centimetres.

Boundaries of lanes are not kept; they lie half a width beside the centre. A city of a hundred lane kilometres takes some
hundred kilobytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.source import Reader
from countersteer.errors import UserError
from countersteer.scenarios.network import Lane, Phase, RoadNetwork, SignalProgram, Turn
from countersteer.scenarios.scenario import MapFeature, MapKind, Provenance, SignalState
from countersteer.storage.files import parse_json, read_npz, write_whole

__all__ = ["READER", "save"]

_ARRAYS = ("street_network", "counts", "points", "numbers", "ways", "rivals", "states")
_VERSION = 1
_CM = 100.0
_NONE = -1
_MOST = 1 << 26  # bytes


def save(network: RoadNetwork, path: Path) -> None:
    """Write a network; what was written twice is the same, byte for byte."""
    lanes = list(network.lanes.values())
    place = {lane.id: row for row, lane in enumerate(lanes)}
    junctions = sorted({lane.junction for lane in lanes if lane.junction is not None})
    programs = [program.id for program in network.signals]

    def row(name: str | None, names: Sequence[str] | dict[str, int]) -> int:
        if name is None:
            return _NONE
        return names[name] if isinstance(names, dict) else list(names).index(name)

    numbers = [
        (
            round(lane.width * _CM),
            _NONE if lane.speed_limit is None else round(lane.speed_limit * _CM),
            row(lane.left_neighbour, place),
            row(lane.right_neighbour, place),
            row(lane.junction, junctions),
            int(lane.turn),
            row(lane.signal, programs),
            int(lane.stops),
        )
        for lane in lanes
    ]
    lines = [*(lane.centre for lane in lanes), *(each.points for each in network.features)]
    # Of each line the first point, then steps: small numbers, which pack well.
    steps = [np.diff(np.round(line * _CM).astype(np.int32), axis=0, prepend=0) for line in lines]
    header = {
        "version": _VERSION,
        "name": network.name,
        "left_hand": network.left_hand,
        "lanes": [lane.id for lane in lanes],
        "junctions": junctions,
        "programs": [
            {"id": each.id, "lanes": [place[lane] for lane in each.lanes], "offset": each.offset,
             "durations": [phase.duration for phase in each.phases]}
            for each in network.signals
        ],
        "features": [[each.id, int(each.kind)] for each in network.features],
        "places": network.places,
        "provenance": vars(network.provenance),
    }  # fmt: skip
    states = [int(state) for each in network.signals for phase in each.phases for state in phase.states]
    arrays = {
        "street_network": np.frombuffer(json.dumps(header).encode(), np.uint8),
        "counts": np.array([len(line) for line in lines], np.int32),
        "points": np.concatenate([np.zeros((0, 3), np.int32), *steps]),
        "numbers": np.array(numbers, np.int32).reshape(-1, 8),
        "ways": _ragged([[place[each] for each in lane.successors] for lane in lanes]),
        "rivals": _ragged([[place[each] for each in lane.yields_to] for lane in lanes]),
        "states": np.array(states, np.int8),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def _ragged(rows: Iterable[Sequence[int]]) -> ndarray:
    """Lists one after another, each behind its length."""
    return np.array([value for row in rows for value in (len(row), *row)], np.int32)


def _lists(flat: ndarray, count: int) -> list[list[int]]:
    found, at = [], 0
    for _ in range(count):
        end = at + 1 + int(flat[at])
        if not at < end <= len(flat):
            raise ValueError(f"a list of {flat[at]} entries at {at}")
        found.append(flat[at + 1 : end].tolist())
        at = end
    return found


def _matches(path: Path) -> bool:
    if not path.is_file() or path.suffix != ".npz":
        return False
    return "street_network" in read_npz(path, ["street_network"], _MOST)


def _read(path: Path) -> RoadNetwork:
    arrays = read_npz(path, _ARRAYS, _MOST)
    header = parse_json(arrays["street_network"].tobytes(), path)
    if header["version"] != _VERSION:
        raise UserError(
            f"{path} is of another version",
            got=header["version"],
            expected=_VERSION,
            fix="convert the map again",
        )
    names: list[str] = [str(name) for name in header["lanes"]]
    lines = _lines(arrays)
    programs = header["programs"]

    def name(row: int, of: Sequence[Any]) -> Any:
        if not -1 <= row < len(of):
            raise ValueError(f"number {row} of {len(of)}")
        return None if row == _NONE else of[row]

    ways, rivals = (_lists(arrays[key], len(names)) for key in ("ways", "rivals"))
    lanes = {}
    for row, (key, values) in enumerate(zip(names, arrays["numbers"].tolist(), strict=True)):
        width, limit, left, right, junction, turn, signal, stops = values
        lanes[key] = Lane(
            id=key,
            centre=lines[row],
            width=width / _CM,
            speed_limit=None if limit == _NONE else limit / _CM,
            successors=tuple(names[each] for each in ways[row]),
            left_neighbour=name(left, names),
            right_neighbour=name(right, names),
            junction=name(junction, header["junctions"]),
            turn=Turn(turn),
            yields_to=tuple(names[each] for each in rivals[row]),
            signal=name(signal, [each["id"] for each in programs]),
            stops=bool(stops),
        )
    features = tuple(
        MapFeature(str(key), MapKind(kind), line)
        for (key, kind), line in zip(header["features"], lines[len(names) :], strict=True)
    )
    said = header["provenance"]
    provenance = Provenance(
        *(str(said[key]) for key in ("source", "path", "licence", "fingerprint")),
        notes=tuple(str(note) for note in said["notes"]),
    )
    signals = tuple(_signals(programs, names, arrays["states"].tolist()))
    places = {str(key): str(place) for key, place in header["places"].items()}
    return RoadNetwork(
        str(header["name"]), lanes, provenance, signals, features, bool(header["left_hand"]), places
    )


def _lines(arrays: dict[str, ndarray]) -> list[Float[ndarray, "n 3"]]:
    counts, points = arrays["counts"], arrays["points"]
    if (counts < 0).any() or counts.sum() != len(points) or points.shape[1:] != (3,):
        raise ValueError(f"{len(points)} points for lines of {counts.sum()}")
    parts = np.split(points.astype(np.int64), np.cumsum(counts)[:-1])
    return [np.cumsum(part, axis=0) / _CM for part in parts]


def _signals(programs: Iterable[Any], names: Sequence[str], states: list[int]) -> Iterable[SignalProgram]:
    at = 0
    for each in programs:
        lanes = tuple(names[int(row)] for row in each["lanes"])
        phases = []
        for duration in each["durations"]:
            shown = states[at : at + len(lanes)]
            phases.append(Phase(float(duration), tuple(SignalState(state) for state in shown)))
            at += len(lanes)
        yield SignalProgram(str(each["id"]), lanes, tuple(phases), float(each["offset"]))


READER: Reader[RoadNetwork] = Reader(
    "countersteer", "an npz file written by countersteer (with the array street_network)", _matches, _read
)
