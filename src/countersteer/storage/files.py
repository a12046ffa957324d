"""Files: those of unknown origin are looked at before anything is allocated, our own are written whole or not at all.

A small file can ask for a lot: by compression, by a length in its header, by values that take a hundred times their bytes.
So everything here is bounded by what it becomes in memory, not by the size of the file alone. Nothing but regular files is
opened: a pipe would never end.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy import ndarray

from countersteer.errors import UserError, reading

__all__ = [
    "MAX_BYTES",
    "MAX_MEMORY",
    "check_readable",
    "check_size",
    "exists",
    "head",
    "open_regular",
    "parse_json",
    "parse_npy",
    "read_bytes",
    "read_json",
    "read_npz",
    "read_object",
    "write_whole",
]

MAX_BYTES = 1 << 28
"""Largest file, after decompression, that is read whole [bytes]: 256 MiB; recorded scenes have a few million."""

MAX_MEMORY = 3 << 27
"""Most memory that the values of one file may take [bytes], by an estimate that is at most twice too low: 384 MiB."""

_HEAD = 1 << 16
_PIECE = 1 << 16
_MOST_MEMBERS = 100_000  # of a gzip file; packed block by block, 256 MiB have 4,096
_LARGEST_DIRECTORY = 1 << 20  # of a zip archive [bytes]; ten thousand members
_GZIP = b"\x1f\x8b"
_XZ = b"\xfd7zXZ\x00"
_LARGEST_DICTIONARY = 1 << 27  # of an xz file [bytes]; the highest usual preset takes 65 MiB

_AGAIN = "the file is cut short or damaged; write or download it again"
_RESTORE = "restore the file from a copy, or train again"


def exists(path: str | Path) -> bool:
    """Whether something is there, even if it may not be looked at; a name that no file can have is not."""
    try:
        os.lstat(path)
    except PermissionError:
        return True
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        return False
    return True


def check_readable(path: Path) -> None:
    """Refuse what cannot be opened or listed, what is neither a file nor a folder, and links that lead nowhere.

    Raises:
        UserError: With what the system says.
    """
    what = f"cannot be {'listed' if path.is_dir() else 'read'}"
    with reading(path, what, expected="a file or folder that may be read", fix="check its permissions"):
        if path.is_dir():
            os.scandir(path).close()
        else:
            open_regular(path).close()


def check_size(name: str | Path, what: str, got: int, most: int) -> None:
    """Refuse a file that holds, or declares, more of something than it may.

    Args:
        name: What messages call the file.
        what: Of which there is too much, in the plural.
        got, most: How much there is, and may be.

    Raises:
        UserError: It is more, or below zero.
    """
    if not 0 <= got <= most:
        raise UserError(
            f"{name} is too large",
            got=f"more than {most} {what}" if got > most else f"{got} {what}",
            expected=f"at most {most}",
            fix="split the file; a small file that grows this much is not to be trusted",
        )


def open_regular(path: str | Path) -> BinaryIO:
    """A file opened to be read, if it is a regular one; pipes, sockets and devices are refused without waiting.

    Raises:
        OSError: It is none, does not exist, or may not be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _inflate(path: Path, limit: int, *, strict: bool) -> bytes:
    """Up to `limit` bytes of the file, decompressed if it is gzipped or an xz file.

    A compressed file that ends early or is damaged raises EOFError or zlib.error if `strict`, else gives what
    could be read.
    """
    with open_regular(path) as file:
        begin = file.read(len(_XZ))
        if begin == _XZ:
            return _inflate_xz(file, limit, strict=strict)
        if not begin.startswith(_GZIP):
            file.seek(0)
            return file.read(min(limit, os.fstat(file.fileno()).st_size))
        file.seek(0)
        data, rest = bytearray(), b""
        for _ in range(_MOST_MEMBERS):
            inflate = zlib.decompressobj(wbits=31)
            while not inflate.eof and len(data) < limit:
                packed = inflate.unconsumed_tail or rest or file.read(_PIECE)
                rest = b""
                try:
                    if not packed:
                        raise EOFError
                    data += inflate.decompress(packed, limit - len(data))
                except (EOFError, zlib.error):
                    if strict:
                        raise
                    return bytes(data)
            # A gzip file may hold several members one after the other.
            rest = inflate.unused_data or file.read(_PIECE)
            if len(data) >= limit or not rest.startswith(_GZIP):
                return bytes(data)
        raise zlib.error(f"more than {_MOST_MEMBERS} gzip members")


def _inflate_xz(file: BinaryIO, limit: int, *, strict: bool) -> bytes:
    """The same of an xz file of one stream."""
    import lzma  # some builds of Python have none

    file.seek(0)
    inflate = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LARGEST_DICTIONARY)
    data = bytearray()
    try:
        while not inflate.eof and len(data) < limit:
            packed = file.read(_PIECE) if inflate.needs_input else b""
            if inflate.needs_input and not packed:
                raise EOFError
            data += inflate.decompress(packed, limit - len(data))
    except (EOFError, lzma.LZMAError) as error:
        if strict:
            raise EOFError(*error.args) from error
    return bytes(data)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a kill or a full disk leaves the old file or the new one.

    A kill also leaves what was written, as `.NAME.PROCESS.*` in the same folder.

    Raises:
        OSError: It cannot be written.
    """
    # In the same folder, because only there is the replacement atomic; the random part of the name
    # keeps two writers of one file apart.
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.{os.getpid()}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def head(path: Path) -> bytes:
    """The first 64 KiB of a file, decompressed if it is gzipped or an xz file; empty if it cannot be read."""
    try:
        return _inflate(path, _HEAD, strict=False)
    except (OSError, ValueError, zlib.error, ImportError):
        return b""


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """All bytes of a file, decompressed if it is gzipped or an xz file.

    Raises:
        UserError: The file is missing, cannot be read, is cut short, or holds more than `limit` bytes.
    """
    with reading(path, "cannot be read", expected="a readable file", fix="check the path"):
        try:
            data = _inflate(path, limit + 1, strict=True)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist", fix="check the path") from None
        except (EOFError, zlib.error) as error:
            raise UserError(
                f"{path} cannot be decompressed: it is cut short or damaged",
                got=str(error) or "an early end",
                expected="a whole gzip or xz file",
                fix="download it again",
            ) from error
    check_size(path, "bytes after decompression", len(data), limit)
    return data


def parse_json(
    content: bytes,
    name: str | Path,
    expected: str = "a whole JSON file",
    *,
    what: str = "is not valid JSON",
    fix: str = _AGAIN,
) -> Any:
    """The value in some JSON.

    Args:
        content: The JSON text.
        name: What messages call it.
        expected, what, fix: What it should have been, what is wrong with it, and what to do, for the message.

    Raises:
        UserError: It is not JSON, or its values would take more than `MAX_MEMORY`.
    """
    # What CPython takes for a table, a list, a field and an entry; texts can only raise the estimate.
    costs = ((b"{", 184), (b"[", 88), (b":", 64), (b",", 40))
    estimate = len(content) * (1 if content.isascii() else 4)
    estimate += sum(content.count(mark) * cost for mark, cost in costs)
    check_size(name, "bytes of memory for its values", estimate, MAX_MEMORY)
    with reading(name, what, expected=expected, fix=fix):
        return json.loads(content)


def read_json(path: Path, limit: int = MAX_BYTES, expected: str = "a whole JSON file") -> Any:
    """The value in a JSON file, which may be gzipped.

    Raises:
        UserError: It cannot be read, is not JSON, or is too large.
    """
    return parse_json(read_bytes(path, limit), path, expected)


def read_object(
    path: Path, limit: int = MAX_BYTES, expected: str = "a file as countersteer wrote it"
) -> dict[str, Any]:
    """The fields of a JSON file that countersteer wrote.

    Raises:
        UserError: It cannot be read, is not JSON, is no object, or is too large.
    """
    content = parse_json(read_bytes(path, limit), path, expected, what="is damaged", fix=_RESTORE)
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is damaged", got=f"a {type(content).__name__}", expected=expected, fix=_RESTORE
        )
    return content


def parse_npy(content: bytes, name: str | Path) -> ndarray:
    """The array in an .npy file; it is a view of `content`.

    The header is read by numpy, which parses it as a literal; the numbers are those that are there, not those declared.

    Raises:
        UserError: It is no such file, holds objects, or is cut short.
    """
    stream = io.BytesIO(content)
    with reading(name, "is not a numpy array", expected="a whole .npy file", fix=_AGAIN):
        version = np.lib.format.read_magic(stream)
        header = (
            np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        )
        extent, fortran, kind = header(stream)
        if kind.hasobject:
            raise ValueError("an array of objects")
        flat = np.frombuffer(content, kind, offset=stream.tell())
        return flat.reshape(extent, order="F" if fortran else "C")


def read_npz(path: Path, names: Sequence[str], limit: int = MAX_BYTES) -> dict[str, ndarray]:
    """Named arrays of an .npz file; others in it are not unpacked.

    Raises:
        UserError: The file or an array is missing or damaged, a name is there twice, or there are more than `limit` bytes.
    """
    arrays = {}
    expected = f"an npz file with {', '.join(names)}"
    with reading(path, "cannot be read", expected=expected, fix=_AGAIN), open_regular(path) as file:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
            for name in names:
                member = f"{name}.npy"
                if members.count(member) != 1:
                    raise KeyError(f"{name!r} is there {members.count(member)} times")
                with archive.open(member) as packed:
                    content = packed.read(limit + 1)  # the size that it declares may be wrong
                check_size(path, "bytes after decompression", len(content), limit)
                limit -= len(content)
                arrays[name] = parse_npy(content, f"{path}: {name}")
    return arrays


def _check_directory(file: BinaryIO) -> None:
    """Refuse a zip archive whose list of members is large, because all of it is read at once."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - (1 << 16) - 22, 0))
    end = file.read()
    at = end.rfind(b"PK\x05\x06")
    if at >= 0 and int.from_bytes(end[at + 12 : at + 16], "little") > _LARGEST_DIRECTORY:
        raise ValueError(f"a list of members of more than {_LARGEST_DIRECTORY} bytes")
    file.seek(0)
