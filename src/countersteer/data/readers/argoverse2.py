"""What the two Argoverse 2 formats share: the vector map, Arrow tables, the recording car.

A map is a JSON file of lane segments (two boundaries with the marks on them), drivable areas and pedestrian
crossings, in the frame of the city: metres, z up, already ours. Its lanes' centre lines are taken halfway between
the boundaries, as the data set's own library does.

Reference: Wilson et al., "Argoverse 2: Next Generation Datasets for Self-Driving Perception and Forecasting",
NeurIPS Datasets and Benchmarks 2021.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.assembly import lane_width_of_area
from countersteer.data.readers.fields import Field
from countersteer.geometry.polylines import arc_length, halfway
from countersteer.scenarios.scenario import MapFeature, MapKind
from countersteer.storage.files import parse_json, read_bytes
from countersteer.storage.tables import parse_table

__all__ = ["AXLE_HEIGHT", "CAR_SIZE", "CITIES", "LICENCE", "MARKS", "Table", "read_map", "read_table"]

LICENCE = "CC BY-NC-SA 4.0 with the Argoverse terms of use"

CAR_SIZE = (4.877, 2.0, 1.473)
"""Length, width and height of the recording car [m], as the data set's ego annotations state them."""

CITIES = {
    "ATX": "austin",
    "DTW": "dearborn",
    "MIA": "miami",
    "PAO": "palo-alto",
    "PIT": "pittsburgh",
    "WDC": "washington-dc",
}
"""Where the data set was recorded, as its maps' files and its tables name it: what tells it from others of its form."""

AXLE_HEIGHT = 0.33
"""Height of the ego frame's origin, the middle of the rear axle, above the ground [m]; measured on the data
set's ground raster (0.24 to 0.38 m in three logs)."""

MARKS = {
    "DASHED_WHITE": MapKind.LINE_DASHED_WHITE,
    "DOUBLE_DASH_WHITE": MapKind.LINE_DASHED_WHITE,
    "DASH_SOLID_WHITE": MapKind.LINE_DASHED_WHITE,
    "SOLID_DASH_WHITE": MapKind.LINE_DASHED_WHITE,
    "SOLID_WHITE": MapKind.LINE_SOLID_WHITE,
    "DOUBLE_SOLID_WHITE": MapKind.LINE_SOLID_WHITE,
    "SOLID_BLUE": MapKind.LINE_SOLID_WHITE,
    "DASHED_YELLOW": MapKind.LINE_DASHED_YELLOW,
    "DOUBLE_DASH_YELLOW": MapKind.LINE_DASHED_YELLOW,
    "DASH_SOLID_YELLOW": MapKind.LINE_DASHED_YELLOW,
    "SOLID_DASH_YELLOW": MapKind.LINE_DASHED_YELLOW,
    "SOLID_YELLOW": MapKind.LINE_SOLID_YELLOW,
    "DOUBLE_SOLID_YELLOW": MapKind.LINE_SOLID_YELLOW,
}


class Table:
    """A table read from a file; its columns are checked when they are asked for."""

    def __init__(self, path: Path, table: Any, data: bytes):
        self.path, self.data, self._table = path, data, table

    def __len__(self) -> int:
        return self._table.num_rows

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self._table.column_names

    def _column(self, name: str, kind: str) -> tuple[Field, Any]:
        import pyarrow as pa

        field = Field(self.path, f"column {name!r}", None)
        if name not in self._table.column_names:
            present = ", ".join(str(column)[:30] for column in self._table.column_names[:20]) or "none"
            field.fail("is missing", got=f"columns: {present}", expected=f"a column {name!r}")
        if self._table.column_names.count(name) > 1:
            field.fail(
                "is there twice", got=f"{self._table.column_names.count(name)} columns", expected="one"
            )
        column = self._table.column(name)
        if pa.types.is_dictionary(column.type) and kind != "text":
            column = column.cast(column.type.value_type)
        stored = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        good = {
            "text": pa.types.is_string(stored) or pa.types.is_large_string(stored),
            "integers": pa.types.is_integer(stored),
            "numbers": pa.types.is_floating(stored) or pa.types.is_integer(stored),
        }[kind]
        if not good or column.null_count:
            got = f"{column.null_count} empty cells" if good else str(stored)
            field.fail(f"is not a column of {kind}", got=got, expected=f"{kind} in every row")
        return field, column

    def text(self, name: str) -> list[str]:
        """A column of text; rows that share a text of a dictionary share it in memory too."""
        import pyarrow as pa

        field, column = self._column(name, "text")
        texts: list[str] = []
        for piece in column.chunks:
            if pa.types.is_dictionary(piece.type):
                words = piece.dictionary.to_pylist()
                texts += [words[index] for index in piece.indices.to_pylist()]
            else:
                texts += piece.to_pylist()
        if None in texts:
            field.fail("is not a column of text", got="an empty cell", expected="text in every row")
        return texts

    def integers(self, name: str) -> ndarray:
        """A column of whole numbers, as int64."""
        field, column = self._column(name, "integers")
        values = column.to_numpy()
        if len(values) and values.dtype == np.uint64 and values.max() > np.iinfo(np.int64).max:
            field.fail("has a number that is too large", got=int(values.max()), expected="at most 2^63")
        return values.astype(np.int64)

    def numbers(self, *names: str) -> ndarray:
        """Columns of finite numbers, as float64 [row, column]."""
        columns = []
        for name in names:
            field, column = self._column(name, "numbers")
            values = field.child("values", column.to_numpy()).numbers(None)
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values))[0])
                field.fail(f"is not finite in row {row}", got=values[row], expected="finite numbers")
            columns.append(values)
        return np.stack(columns, -1)


def read_table(path: Path) -> Table:
    """The table in a Parquet or Feather (Arrow IPC) file.

    Raises:
        UserError: The file is missing or damaged, or declares more than a drive has.
    """
    data = read_bytes(path)
    return Table(path, parse_table(data, path), data)


def read_map(path: Path, notes: list[str]) -> tuple[list[MapFeature], bytes]:
    """The features of a `log_map_archive` JSON file in the city's frame, and the bytes of the file.

    Raises:
        UserError: The file is damaged.
    """
    data = read_bytes(path)
    whole = Field(path, "", parse_json(data, path, "a JSON object with lane_segments"))
    features: list[MapFeature] = []
    bikes = short = 0
    painted: set[tuple] = set()
    for name, lane in whole["lane_segments"].items():
        left, right = (_points(lane[f"{side}_lane_boundary"]) for side in ("left", "right"))
        for side, line in (("left", left), ("right", right)):
            stated = lane.get(f"{side}_lane_mark_type")
            kind = MARKS.get(stated.text()) if stated else None
            # Neighbours state the line between them twice, oncoming ones in opposite order.
            there = tuple(map(tuple, np.round(line[:, :2], 2).tolist()))
            if kind is None or len(line) < 2 or there in painted or there[::-1] in painted:
                continue
            painted.add(there)
            features.append(MapFeature(f"{name}/{side}", kind, line))
        if lane["lane_type"].text() == "BIKE":
            bikes += 1
            continue
        if len(left) < 2 or len(right) < 2 or not (np.ptp(left, 0).any() and np.ptp(right, 0).any()):
            short += 1
            continue
        center = halfway(left, right)
        area = np.concatenate([left, right[::-1]])
        width = lane_width_of_area(area, float(arc_length(center)[-1]))
        features.append(MapFeature(name, MapKind.LANE, center, width))
        features.append(MapFeature(f"{name}/area", MapKind.LANE_AREA, area))
    for name, area in (whole.get("drivable_areas") or whole.child("drivable_areas", {})).items():
        outline = _points(area["area_boundary"])
        closed = len(outline) > 1 and np.array_equal(outline[0], outline[-1])
        features.append(
            MapFeature(f"area/{name}", MapKind.DRIVABLE_AREA, outline[:-1] if closed else outline)
        )
    for name, crossing in (
        whole.get("pedestrian_crossings") or whole.child("pedestrian_crossings", {})
    ).items():
        one, other = _points(crossing["edge1"]), _points(crossing["edge2"])
        features.append(MapFeature(f"crossing/{name}", MapKind.CROSSWALK, np.concatenate([one, other[::-1]])))
    kept = [
        f for f in features if len(f.points) > 2 or f.kind not in (MapKind.DRIVABLE_AREA, MapKind.CROSSWALK)
    ]
    if bikes:
        notes.append(f"{bikes} bicycle lanes left out, their marks kept")
    if short := short + len(features) - len(kept):
        notes.append(f"{short} map features with too few points left out")
    return kept, data


def _points(field: Field) -> Float[ndarray, "n 3"]:
    rows = [[point["x"].value, point["y"].value, point["z"].value] for point in field.entries()]
    points = field.child("xyz", rows).numbers(None, 3)
    if not np.isfinite(points).all():
        field.fail("has points that are not finite", got="NaN", expected="finite coordinates")
    return points
