"""What readers of camera logs share about files: tables of numbers in text, pictures in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.scenarios.readers.source import Field

__all__ = ["numbers_of_text", "pictures_in"]

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
