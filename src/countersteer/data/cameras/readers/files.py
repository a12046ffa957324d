"""What readers of camera logs share about files: tables of numbers in text, pictures in a folder."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.source import Field

__all__ = ["PackedSweeps", "inside", "json_of", "numbers_of_text", "pictures_in"]

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def numbers_of_text(path: Path, name: str, data: bytes, columns: int) -> Float[ndarray, "row column"]:
    """Rows of `columns` finite numbers, separated by white space or commas; empty lines are skipped.

    Raises:
        UserError: A line is something else; it is named.
    """
    rows = []
    for number, line in enumerate(data.decode("ascii", errors="replace").splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != columns or not np.isfinite(row).all():
            Field(path, f"{name}, line {number}", None).fail(
                "is not a row of numbers", got=line.strip()[:80], expected=f"{columns} finite numbers"
            )
        rows.append(row)
    if not rows:
        Field(path, name, None).fail("is empty", got="no rows", expected=f"rows of {columns} numbers")
    return np.array(rows)


def pictures_in(folder: Path) -> list[Path]:
    """Picture files of a folder in the order of their names, numbers by value.

    Raises:
        UserError: The folder cannot be listed or holds none.
    """
    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in _PICTURES and file.is_file()]
    except OSError as error:
        Field(folder, "", None).fail("cannot be listed", got=error, expected="a folder of pictures")
    if not files:
        Field(folder, "", None).fail("holds no pictures", got="none", expected="PNG or JPEG files")

    def order(file: Path) -> tuple[int, str]:
        digits = "".join(letter for letter in file.stem if letter.isdigit())
        return (int(digits) if digits else 0, file.name)

    return sorted(files, key=order)


def json_of(path: Path, data: bytes) -> Any:
    """The value in a JSON file.

    Raises:
        UserError: It is not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        Field(path, "", None).fail("is not JSON", got=str(error)[:120], expected="a whole JSON file")


class PackedSweeps:
    """Sweeps of points stored as `NNN.npz` with `xyz_5mm`: int16 in steps of 5 mm, scanner's axes.

    Attributes:
        numbers: Of the sweeps there are, from their names, increasing.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._files = sorted((int(file.stem), file) for file in folder.glob("*.npz") if file.stem.isdigit())
        self.numbers = [number for number, _ in self._files]

    def __call__(self, place: int) -> Float[ndarray, "n 3"]:
        """Points [m] of the sweep at a place in `numbers`."""
        file = self._files[place][1]
        try:
            with np.load(file, allow_pickle=False) as stored:
                packed = stored["xyz_5mm"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            Field(file, "xyz_5mm", None).fail("cannot be read", got=str(error)[:120], expected="an npz file")
        if packed.ndim != 2 or packed.shape[1] != 3:
            Field(file, "xyz_5mm", packed).fail("has the wrong shape", expected="n x 3")
        return packed.astype(np.float64) * 0.005


def inside(folder: Path, field: Field, name: str) -> Path:
    """A file or folder that a recording names, which has to lie inside it and exist."""
    try:
        path = (folder / name).resolve()
        there = path.exists()
    except (OSError, ValueError):
        field.fail("names no file", got=name[:80], expected="a path inside the recording")
    if not path.is_relative_to(folder.resolve()):
        field.fail("leads out of the recording", got=name[:80], expected="a path inside it")
    if not there:
        field.fail("names a file that is not there", got=str(path), expected="an existing file")
    return path
