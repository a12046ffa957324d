"""What readers of camera logs share about files: pictures in a folder, packed sweeps, names of files."""

from __future__ import annotations

import os
from pathlib import Path

from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.fields import Field
from countersteer.storage.files import exists, read_npz

__all__ = ["PackedSweeps", "inside", "number_of", "pictures_in"]

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
_MOST_FILES = 300_000  # of a folder: eight hours at 10 Hz


def number_of(name: str) -> int | None:
    """The whole number that a name is, or None."""
    return int(name) if name.isascii() and name.isdigit() and len(name) < 19 else None


def _files(folder: Path, endings: frozenset[str]) -> list[str]:
    """Names in a folder that end so.

    Raises:
        UserError: The folder cannot be listed or holds too much, or such a name is that of no file.
    """
    found = []
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count == _MOST_FILES:
                    Field(folder, "the folder", None).fail(
                        "holds too much", got=f"more than {count} files", expected=f"at most {_MOST_FILES}",
                        fix="cut the recording into shorter ones",
                    )  # fmt: skip
                if os.path.splitext(entry.name)[1].lower() in endings:
                    if not entry.is_file():  # left out, all after it would have another number
                        raise OSError(f"{entry.name!r} is no file")
                    found.append(entry.name)
    except OSError as error:
        Field(folder, "the folder", None).fail("cannot be read", got=error, expected="a folder of files")
    return found


def pictures_in(folder: Path) -> list[Path]:
    """Picture files of a folder in the order of their names, numbers by value.

    Raises:
        UserError: The folder cannot be listed, holds none or too many, or one is no file.
    """
    names = _files(folder, _PICTURES)
    if not names:
        Field(folder, "the folder", None).fail("holds no pictures", got="none", expected="PNG or JPEG files")

    def order(name: str) -> tuple[int, str]:
        digits = "".join(letter for letter in os.path.splitext(name)[0] if letter in "0123456789")
        return (int(digits or 0), name)  # no name has more than 255 letters

    return [folder / name for name in sorted(names, key=order)]


class PackedSweeps:
    """Sweeps of points stored as `NNN.npz` with `xyz_5mm`: int16 in steps of 5 mm, scanner's axes.

    Attributes:
        numbers: Of the sweeps there are, from their names, increasing.
    """

    def __init__(self, folder: Path):
        names = _files(folder, frozenset({".npz"})) if exists(folder) else []
        numbers = ((number_of(name[:-4]), name) for name in names)
        self._files = sorted((number, folder / name) for number, name in numbers if number is not None)
        self.numbers = [number for number, _ in self._files]

    def __call__(self, place: int) -> Float[ndarray, "n 3"]:
        """Points [m] of the sweep at a place in `numbers`."""
        file = self._files[place][1]
        packed = Field(file, "xyz_5mm", read_npz(file, ["xyz_5mm"])["xyz_5mm"]).numbers(None, 3)
        return packed * 0.005


def inside(folder: Path, field: Field, name: str) -> Path:
    """A file or folder that a recording names, which has to lie inside it and exist."""
    try:
        path = (folder / name).resolve()
        there = path.exists()
    except (OSError, ValueError, RuntimeError):  # the last of a link to itself
        field.fail("names no file", got=name[:80], expected="a path inside the recording")
    if not path.is_relative_to(folder.resolve()):
        field.fail("leads out of the recording", got=name[:80], expected="a path inside it")
    if not there:
        field.fail("names a file that is not there", got=str(path), expected="an existing file")
    return path
