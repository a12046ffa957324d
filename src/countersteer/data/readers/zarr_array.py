"""Arrays of a zarr v2 group: one dimension, records, chunks that Blosc packed or nothing did.

The zarr library itself does not read them: version 3 refuses records with columns of several numbers, which this
data has, version 2 is no longer kept and unpickles what a damaged header asks it to. The package `numcodecs` of the
same project unpacks the chunks.

Reference: zarr.readthedocs.io (format v2).
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
from numpy import ndarray

from countersteer.data.readers.fields import Field
from countersteer.errors import MissingExtraError, UserError
from countersteer.storage.files import read_bytes, read_json

__all__ = ["ZarrArray"]

_LARGEST_CHUNK = 1 << 26  # [bytes, after decompression]; the data set's have 3 MB
_LARGEST_PART = 1 << 28  # of an array that is read for one drive [bytes]
_PLAIN_TYPE = re.compile(r"[<|][biufU][0-9]{1,4}")


class ZarrArray:
    """A one-dimensional array of records, read chunk by chunk.

    Args:
        folder: Where its `.zarray` is.

    Raises:
        UserError: There is no such array, or it is of a form that is not read.
    """

    def __init__(self, folder: Path):
        path = folder / ".zarray"
        header = Field(path, "", read_json(path, 1 << 20, "the header of a zarr array"))
        self.folder, self.type = folder, _type(header["dtype"])
        self.length = _one(header["shape"], 0)
        self.chunk = _one(header["chunks"], 1)
        if header["zarr_format"].integer() != 2 or header["order"].text() != "C" or header.get("filters"):
            header.fail("is of a form that is not read", expected="zarr format 2, order C, no filters")
        packer = header.get("compressor")
        self._packed = packer is not None
        if packer is not None and packer["id"].text() != "blosc":
            packer.fail("is not read", got=packer["id"].text(), expected="blosc or none")
        if self.chunk * self.type.itemsize > _LARGEST_CHUNK:
            header["chunks"].fail("are too large", got=self.chunk, expected=f"at most {_LARGEST_CHUNK} bytes")
        self._latest: tuple[int, ndarray] | None = None

    def __len__(self) -> int:
        return self.length

    def rows(self, start: int, stop: int) -> ndarray:
        """Records from `start` to before `stop`.

        Raises:
            UserError: They are not within the array, or a chunk is missing or damaged.
        """
        if not 0 <= start <= stop <= self.length:
            Field(self.folder, "the array", None).fail(
                "does not have these rows", got=f"{start} to {stop}", expected=f"within 0 to {self.length}"
            )
        if (stop - start) * self.type.itemsize > _LARGEST_PART:
            Field(self.folder, "the array", None).fail(
                "has too many rows for one drive", got=stop - start, expected=f"at most {_LARGEST_PART} bytes"
            )
        pieces = [np.zeros(0, self.type)]
        for number in range(start // self.chunk, -(-stop // self.chunk) if stop > start else 0):
            first = number * self.chunk
            pieces.append(self._chunk(number)[max(start - first, 0) : stop - first])
        return np.concatenate(pieces)

    def _chunk(self, number: int) -> ndarray:
        if self._latest is None or self._latest[0] != number:
            path = self.folder / str(number)
            data, size = read_bytes(path, 2 * _LARGEST_CHUNK), self.chunk * self.type.itemsize
            if self._packed:
                try:
                    data = _unpack(data, size)
                except (ValueError, RuntimeError, struct.error) as error:
                    raise UserError(
                        f"{path} cannot be decompressed",
                        got=str(error)[:120],
                        expected=f"{size} bytes packed by Blosc",
                        fix="the file is cut short or damaged; download it again",
                    ) from error
            if len(data) != size:
                Field(path, "the chunk", data).fail(
                    "has the wrong length", got=f"{len(data)} bytes", expected=f"{size} bytes"
                )
            self._latest = number, np.frombuffer(data, self.type)
        return self._latest[1]


def _one(field: Field, least: int) -> int:
    """The only entry of a list of whole numbers, at least `least`."""
    entries = field.entries()
    if len(entries) != 1 or not least <= entries[0].integer() <= 1 << 48:
        field.fail("is not one length", expected="one dimension")
    return entries[0].integer()


def _type(field: Field) -> np.dtype:
    """The record type that a header states; objects and other types that are no plain numbers are refused."""
    columns = []
    for entry in field.entries():
        parts = entry.entries()
        if len(parts) not in (2, 3) or not _PLAIN_TYPE.fullmatch(parts[1].text()):
            entry.fail("is no column of numbers or text", expected="a name, a type such as <f8, and a shape")
        shape = tuple(size.integer() for size in parts[2].entries()) if len(parts) == 3 else ()
        if not all(0 < size <= 10_000 for size in shape) or len(shape) > 3:
            entry.fail("has a shape that is not read", got=shape, expected="up to three small sizes")
        columns.append((parts[0].text(), parts[1].text(), shape))
    try:
        return np.dtype(columns)
    except (TypeError, ValueError) as error:
        field.fail("is no record type", got=str(error)[:120], expected="named columns of plain types")


def _unpack(data: bytes, size: int) -> bytes:
    """What Blosc packed into `data`; sizes are checked first, because the decoder trusts those in the data."""
    try:
        from numcodecs import blosc  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError:
        raise MissingExtraError("numcodecs", "lyft") from None
    stated, _, packed = struct.unpack_from("<III", data, 4)
    if stated != size or packed != len(data):
        raise ValueError(f"{packed} bytes that unpack to {stated}; the file has {len(data)}")
    return blosc.decompress(data)
