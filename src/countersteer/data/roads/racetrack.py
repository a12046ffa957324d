"""Race tracks: `x_m, y_m, w_tr_right_m, w_tr_left_m` along a closed line, as in TU Munich's racetrack-database.

The track is one lane, in pieces, in the middle between its edges.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.source import Reader, fingerprint
from countersteer.errors import UserError
from countersteer.geometry.polylines import arc_length, offset
from countersteer.scenarios.network import Lane, RoadNetwork
from countersteer.scenarios.scenario import MapFeature, MapKind, Provenance
from countersteer.storage.files import check_size, head, read_bytes

__all__ = ["READER"]

_COLUMNS = b"x_m,y_m,w_tr_right_m,w_tr_left_m"
_MOST_POINTS = 100_000
_PIECE = 400.0  # length of a lane [m]
_LIMIT = 40.0  # of a track, which has none [m/s]


def _matches(path: Path) -> bool:
    return path.is_file() and _COLUMNS in head(path)[:200].replace(b" ", b"")


def _read(path: Path) -> RoadNetwork:
    content = read_bytes(path)
    check_size(path, "lines", content.count(b"\n"), _MOST_POINTS)
    table = _table(content, path)
    centre, right, left = table[:, :2], table[:, 2], table[:, 3]
    closed = np.concatenate([centre, centre[:1]])
    if (np.diff(arc_length(closed)) < 1e-6).any():
        raise UserError(
            f"{path} has doubled points",
            got="a step of no length",
            expected="a line that goes on at every point",
        )
    # Directions from the line run once more around, so that they meet where it closes.
    around = np.concatenate([centre[-3:], closed, centre[1:4]])
    sides = [np.concatenate([side[-3:], side, side[:1], side[1:4]]) for side in (left, -right)]
    edges = [offset(around, side)[3:-3] for side in sides]
    pieces = max(round(arc_length(closed)[-1] / _PIECE), 1)
    cuts = np.unique(np.linspace(0, len(closed) - 1, pieces + 1).round().astype(int))
    names = [f"track {k}" for k in range(len(cuts) - 1)]
    lanes: dict[str, Lane] = {}
    for k, name in enumerate(names):
        part = slice(cuts[k], cuts[k + 1] + 1)
        on_left, on_right = (_solid(edge[part]) for edge in edges)
        width = float(np.mean(left[part][:-1] + right[part][:-1])) if cuts[k + 1] > cuts[k] + 1 else 10.0
        middle = (edges[0][part] + edges[1][part]) / 2
        lanes[name] = Lane(
            name, _solid(middle), width, _LIMIT, on_left, on_right, (names[(k + 1) % len(names)],)
        )
    features = tuple(MapFeature(f"edge {k}", MapKind.ROAD_EDGE, _solid(edge)) for k, edge in enumerate(edges))
    provenance = Provenance(
        source="unknown (race track)",
        path=str(path),
        licence="unknown",
        fingerprint=fingerprint(content),
        notes=(
            f"the track is one lane, in the middle between its edges; the limit of {_LIMIT:g} m/s is an assumption",
        ),
    )
    return RoadNetwork(path.name.removesuffix(".gz").removesuffix(".csv"), lanes, provenance, (), features)


def _solid(points: Float[ndarray, "n 2"]) -> Float[ndarray, "n 3"]:
    return np.concatenate([points, np.zeros((len(points), 1))], axis=1)


def _table(content: bytes, path: Path) -> Float[ndarray, "n 4"]:
    rows = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            row = [float(value) for value in line.split(",")]
        except ValueError:
            row = []
        if len(row) != 4 or not all(map(math.isfinite, row)) or not (0 < row[2] < 50 and 0 < row[3] < 50):
            raise UserError(
                f"{path}: line {number} is no point of a track",
                got=repr(line[:60]),
                expected="x, y, and the widths to the right and left, 0 to 50 m",
            )
        rows.append(row)
    if len(rows) < 8:
        raise UserError(f"{path} is no track", got=f"{len(rows)} points", expected="at least 8, once around")
    return np.array(rows)


READER: Reader[RoadNetwork] = Reader(
    "racetrack", "a CSV file with the columns x_m, y_m, w_tr_right_m, w_tr_left_m", _matches, _read
)
