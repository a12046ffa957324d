"""TFRecord files, read without TensorFlow: a row of records, each with its check sums.

A record is its length (8 bytes), the masked CRC of the length (4), the data, and the data's masked CRC (4).

Reference: tensorflow.org/tutorials/load_data/tfrecord.
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy import ndarray

from countersteer.data.readers.source import MAX_DRIVES
from countersteer.errors import UserError, reading
from countersteer.storage.files import open_regular

__all__ = ["crc32c", "is_tfrecord", "masked_crc", "read_record", "record_offsets"]

_HEADER, _FOOTER = 12, 4
_LARGEST_RECORD = 1 << 24  # [bytes]; a scene of 9 s has one to three million
_LANES = 1024  # parts of a record whose CRCs are computed at once


@functools.cache
def _crc_table() -> ndarray:
    """What two bytes do to the CRC: two steps of the byte-wise algorithm at a time halve its time."""
    crc = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        crc = (crc >> np.uint32(1)) ^ np.where(crc & np.uint32(1), np.uint32(0x82F63B78), np.uint32(0))
    return crc


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes; about 0.01 s a megabyte."""
    crc, table = 0xFFFFFFFF, _crc_table()
    length = len(data) // (2 * _LANES)  # of a lane [pairs of bytes]
    if length >= 32:
        # The CRC is linear: each lane begins at zero, and `shift` tells what a lane's length does to each bit of
        # the CRC so far.
        pairs = np.frombuffer(data, "<u2", _LANES * length).reshape(_LANES, length).T.astype(np.uint32)
        lanes, shift = np.zeros(_LANES, np.uint32), np.uint32(1) << np.arange(32, dtype=np.uint32)
        for pair in pairs:
            lanes = table[(lanes ^ pair) & 0xFFFF] ^ (lanes >> 16)
            shift = table[shift & 0xFFFF] ^ (shift >> 16)
        columns = shift.tolist()
        for lane in lanes.tolist():
            before, crc, bit = crc, lane, 0
            while before:
                if before & 1:
                    crc ^= columns[bit]
                before, bit = before >> 1, bit + 1
        data = data[2 * _LANES * length :]
    for pair in np.frombuffer(data, "<u2", len(data) // 2).tolist():
        crc = int(table[(crc ^ pair) & 0xFFFF]) ^ (crc >> 16)
    if len(data) % 2:
        crc ^= data[-1]
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
    """The CRC as TFRecords store it: rotated and moved, so that a CRC of CRCs is not degenerate."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _length(header: bytes) -> int | None:
    """Length of the record behind a header, or None if its check sum is wrong."""
    length, crc = struct.unpack("<QI", header)
    return length if crc == masked_crc(header[:8]) else None


def is_tfrecord(path: Path) -> bool:
    """Whether a file begins with the header of a TFRecord; never raises."""
    try:
        with open_regular(path) as file:
            header = file.read(_HEADER)
        return len(header) == _HEADER and _length(header) is not None
    except (OSError, ValueError):
        return False


def _fail(path: Path, number: int, at: int, what: str, got: object, expected: object) -> UserError:
    return UserError(
        f"{path}: record {number} at byte {at} {what}",
        got=got,
        expected=expected,
        fix="the file is cut short or damaged; download it again",
    )


def _next(path: Path, file: BinaryIO, number: int, at: int, size: int) -> int:
    """Length of the record at byte `at`, its header checked, and that it ends within the file."""
    file.seek(at)
    header = file.read(_HEADER)
    if len(header) < _HEADER:
        raise _fail(path, number, at, "has no whole header", f"{len(header)} bytes", f"{_HEADER} bytes")
    length = _length(header)
    if length is None:
        raise _fail(
            path, number, at, "has a length with a wrong check sum", "another CRC", "a TFRecord header"
        )
    if at + _HEADER + length + _FOOTER > size:
        raise _fail(
            path, number, at, "is cut short", f"{size - at - _HEADER} bytes", f"{length + _FOOTER} bytes"
        )
    return length


def record_offsets(path: Path) -> list[tuple[int, int]]:
    """Byte offset of the header and length of every record of a TFRecord file, headers checked.

    Raises:
        UserError: A header is damaged or a record is cut short; the error names its offset.
    """
    at, found = 0, []
    with (
        reading(path, "cannot be read", expected="a TFRecord", fix="check the path"),
        open_regular(path) as file,
    ):
        size = file.seek(0, 2)
        while at < size:
            if len(found) >= MAX_DRIVES:
                raise _fail(path, len(found), at, "is one too many", f"{size} bytes", f"{MAX_DRIVES} records")
            length = _next(path, file, len(found), at, size)
            found.append((at, length))
            at += _HEADER + length + _FOOTER
    return found


def read_record(path: Path, number: int, at: int, length: int) -> bytes:
    """The record at byte `at`, its check sum verified.

    Raises:
        UserError: The record is too large, cut short or damaged.
    """
    if length > _LARGEST_RECORD:
        raise _fail(path, number, at, "is too large", f"{length} bytes", f"at most {_LARGEST_RECORD} bytes")
    with (
        reading(path, "cannot be read", expected="a TFRecord", fix="check the path"),
        open_regular(path) as file,
    ):
        file.seek(at + _HEADER)
        data, footer = file.read(length), file.read(_FOOTER)
    if len(footer) < _FOOTER:
        raise _fail(path, number, at, "is cut short", f"{len(data)} bytes", f"{length} bytes")
    stated, found = struct.unpack("<I", footer)[0], masked_crc(data)
    if stated != found:
        raise _fail(path, number, at, "is damaged", f"check sum {found:08x}", f"check sum {stated:08x}")
    return data
