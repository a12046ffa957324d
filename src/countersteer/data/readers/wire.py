"""Containers of Google's formats, read without their libraries: TFRecord files and protobuf messages.

A TFRecord is a length (8 bytes), the masked CRC of the length (4), the record, and its masked CRC (4). A
protobuf message is a row of fields, each a number, a wire type and a value; what a number means is in the
schema, which the reader of a format knows. Only the few wire types in use are read, so this page takes the
place of two packages, one of them large.

References: tensorflow.org/tutorials/load_data/tfrecord, protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy import ndarray

from countersteer.errors import UserError

__all__ = ["Message", "WireError", "crc32c", "is_tfrecord", "masked_crc", "record_offsets", "tfrecord"]

_HEADER, _FOOTER = 12, 4
_LARGEST_RECORD = 1 << 30  # [bytes]
_DOUBLE, _FLOAT = struct.Struct("<d").unpack, struct.Struct("<f").unpack


@functools.cache
def _crc_table() -> list[int]:
    """What two bytes do to the CRC: two steps of the byte-wise algorithm at a time halve its time."""
    crc = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        crc = (crc >> np.uint32(1)) ^ np.where(crc & np.uint32(1), np.uint32(0x82F63B78), np.uint32(0))
    return crc.tolist()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes; about 0.05 s a megabyte."""
    crc, table = 0xFFFFFFFF, _crc_table()
    for pair in np.frombuffer(data, "<u2", len(data) // 2).tolist():
        crc = table[(crc ^ pair) & 0xFFFF] ^ (crc >> 16)
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
        if not path.is_file():
            return False
        with path.open("rb") as file:
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
    try:
        size, at, found = path.stat().st_size, 0, []
        with path.open("rb") as file:
            while at < size:
                length = _next(path, file, len(found), at, size)
                found.append((at, length))
                at += _HEADER + length + _FOOTER
    except OSError as error:
        raise UserError(f"{path} cannot be read", got=error, fix="check the path") from error
    return found


def tfrecord(path: Path, number: int, at: int, length: int) -> bytes:
    """The record at byte `at`, its check sum verified.

    Raises:
        UserError: The record is too large, cut short or damaged.
    """
    if length > _LARGEST_RECORD:
        raise _fail(path, number, at, "is too large", f"{length} bytes", f"at most {_LARGEST_RECORD} bytes")
    try:
        with path.open("rb") as file:
            file.seek(at + _HEADER)
            data, footer = file.read(length), file.read(_FOOTER)
    except OSError as error:
        raise UserError(f"{path} cannot be read", got=error, fix="check the path") from error
    if len(footer) < _FOOTER:
        raise _fail(path, number, at, "is cut short", f"{len(data)} bytes", f"{length} bytes")
    stated, found = struct.unpack("<I", footer)[0], masked_crc(data)
    if stated != found:
        raise _fail(path, number, at, "is damaged", f"check sum {found:08x}", f"check sum {stated:08x}")
    return data


class WireError(ValueError):
    """Bytes that are no protobuf message, or not the one that was expected."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise WireError(f"a number does not end at byte {at}")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


class Message:
    """A protobuf message: its fields by number, each read as what the schema says.

    Fields that are absent give their default (0, empty). A field that comes several times counts with its
    last value where one is asked for, as the format says.

    Raises:
        WireError: The bytes are no message, or a field has another wire type than is asked for.
    """

    __slots__ = ("_fields",)

    def __init__(self, data: bytes):
        fields: dict[int, list[int | bytes]] = {}
        at, size = 0, len(data)
        while at < size:
            key = data[at]
            if key < 0x80:
                at += 1
            else:
                key, at = _varint(data, at)
            kind = key & 7
            value: int | bytes
            if kind == 0:
                value, at = _varint(data, at)
            elif kind in (1, 2, 5):
                length = 8
                if kind == 2:
                    length, at = _varint(data, at)
                elif kind == 5:
                    length = 4
                value = data[at : at + length]
                at += length
                if at > size:
                    raise WireError(f"field {key >> 3} ends {at - size} bytes behind the end of its message")
            else:
                raise WireError(f"byte {at - 1} begins a field of the unknown wire type {kind}")
            fields.setdefault(key >> 3, []).append(value)
        self._fields = fields

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def _bytes(self, number: int) -> list[bytes]:
        values = self._fields.get(number, [])
        found = [value for value in values if isinstance(value, bytes)]
        if len(found) < len(values):
            raise WireError(f"field {number} is a number, not a text, message or float")
        return found

    def message(self, number: int) -> Message:
        """A message inside this one; an empty one where it is absent."""
        found = self._bytes(number)
        return Message(found[-1] if found else b"")

    def messages(self, number: int) -> list[Message]:
        """All messages of a repeated field."""
        return [Message(value) for value in self._bytes(number)]

    def integer(self, number: int, default: int = 0) -> int:
        """A (signed) whole number."""
        values = self._fields.get(number)
        if not values:
            return default
        value = values[-1]
        if not isinstance(value, int):
            raise WireError(f"field {number} is not a whole number")
        return value - (1 << 64) if value >= 1 << 63 else value

    def text(self, number: int) -> str:
        """A text."""
        found = self._bytes(number)
        try:
            return found[-1].decode() if found else ""
        except UnicodeDecodeError:
            raise WireError(f"field {number} is not readable text") from None

    def real(self, number: int) -> float:
        """A float or double."""
        values = self._fields.get(number)
        if not values:
            return 0.0
        data = values[-1]
        if isinstance(data, int) or len(data) not in (4, 8):
            raise WireError(f"field {number} is not a float or double")
        return (_DOUBLE if len(data) == 8 else _FLOAT)(data)[0]

    def reals(self, number: int) -> ndarray:
        """A repeated double, packed or not, as float64 [n]."""
        data = b"".join(self._bytes(number))
        if len(data) % 8:
            raise WireError(f"field {number} is not a list of doubles")
        return np.frombuffer(data, "<f8").astype(np.float64)
