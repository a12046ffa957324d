"""Arrays of a zarr v2 group, read without the zarr library: one dimension, records, Blosc chunks.

Only what driving data uses is read: C order, no filters, chunks along one axis, compressed by Blosc with LZ4, zlib or
Zstandard (whose blocks pyarrow decodes) or not at all. So no package is needed that everyone would have
to install, and a damaged file ends in an error that names the chunk.

References: zarr.readthedocs.io (format v2), github.com/Blosc/c-blosc (README_CHUNK_FORMAT).
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy import ndarray

from countersteer.data.readers.source import Field, read_bytes
from countersteer.errors import UserError

__all__ = ["ZarrArray", "blosc_decode"]

_LARGEST_CHUNK = 1 << 30  # [bytes, after decompression]
_MAX_SPLITS, _MIN_SPLIT = 16, 128  # of Blosc: when it compresses each byte of a type on its own
_CODECS = {1: "lz4_raw", 3: "zlib", 4: "zstd"}
_PLAIN_TYPE = re.compile(r"[<|][biufU][0-9]{1,4}")


class ZarrArray:
    """A one-dimensional array of records, read chunk by chunk.

    Args:
        folder: Where its `.zarray` is.

    Raises:
        UserError: There is no such array, or it is of a form that is not read.
    """

    def __init__(self, folder: Path):
        header = Field(folder / ".zarray", "", None)
        try:
            header = Field(header.path, "", json.loads(read_bytes(header.path, 1 << 20)))
        except (ValueError, RecursionError) as error:
            header.fail("is not valid JSON", got=str(error)[:120], expected="the header of a zarr array")
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
        pieces = [np.zeros(0, self.type)]
        for number in range(start // self.chunk, -(-stop // self.chunk) if stop > start else 0):
            first = number * self.chunk
            pieces.append(self._chunk(number)[max(start - first, 0) : stop - first])
        return np.concatenate(pieces)

    def _chunk(self, number: int) -> ndarray:
        if self._latest is None or self._latest[0] != number:
            path = self.folder / str(number)
            data, size = read_bytes(path), self.chunk * self.type.itemsize
            if self._packed:
                try:
                    data = blosc_decode(data, size)
                except (ValueError, OSError, struct.error, zlib.error) as error:
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


def blosc_decode(data: bytes, size: int) -> bytes:
    """What Blosc (version 1) packed into `data`, which has to be `size` bytes.

    Raises:
        ValueError, OSError, struct.error, zlib.error: The data is damaged, or of a form that is not read.
    """
    flags, width = data[2:4] if len(data) >= 16 else (0, 0)
    stated, block, packed = struct.unpack_from("<III", data, 4)
    if stated != size or packed != len(data) or not width:
        raise ValueError(f"{packed} bytes that unpack to {stated}; the file has {len(data)}")
    if flags & 2:  # stored as it was
        return data[16:]
    if flags & 4:
        raise ValueError("its bits are shuffled, which is not read")
    codec = _CODECS.get(flags >> 5)
    if codec is None or not block > 0:
        raise ValueError(f"compressor {flags >> 5} is not read")
    blocks = -(-size // block)
    starts = struct.unpack_from(f"<{blocks}I", data, 16) if 4 * blocks <= len(data) else (0,) * 0
    if len(starts) != blocks:
        raise ValueError(f"{blocks} blocks in {len(data)} bytes")
    whole = bytearray()
    for number, at in enumerate(starts):
        extent = min(block, size - number * block)
        split = not flags & 16 and width <= _MAX_SPLITS and block // width >= _MIN_SPLIT and extent == block
        streams = width if split else 1
        piece = bytearray()
        for _ in range(streams):
            (length,) = struct.unpack_from("<I", data, at)
            piece += _inflate(codec, data[at + 4 : at + 4 + length], length, extent // streams)
            at += 4 + length
        whole += _unshuffle(bytes(piece), width) if flags & 1 and width > 1 else piece
    return bytes(whole)


def _inflate(codec: str, data: bytes, length: int, size: int) -> bytes:
    import pyarrow as pa

    if len(data) != length:
        raise ValueError(f"a block ends {length - len(data)} bytes behind the file")
    if length == size:  # stored as it was
        return data
    if codec == "zlib":
        unpacked = zlib.decompressobj().decompress(data, size)
    else:
        unpacked = pa.Codec(codec).decompress(data, decompressed_size=size, asbytes=True)
    if len(unpacked) != size:
        raise ValueError(f"a block of {len(unpacked)} bytes instead of {size}")
    return unpacked


def _unshuffle(data: bytes, width: int) -> bytes:
    """Bytes in order again: shuffled, the first bytes of all numbers stand first, then the second ones ..."""
    count = len(data) // width
    sorted_by_byte = np.frombuffer(data, np.uint8, count * width).reshape(width, count)
    return sorted_by_byte.T.tobytes() + data[count * width :]
