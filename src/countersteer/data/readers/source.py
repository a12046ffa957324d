"""What readers share about files: the shape of a reader, bounded reading, and values that know their place.

A file can hold anything. `read_bytes` and `Field` turn whatever is wrong with it into a `UserError`
that names the file and the field, so that a reader states only what it expects.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import numpy as np
from numpy import ndarray

from countersteer.errors import UserError

__all__ = [
    "MAX_BYTES",
    "Field",
    "Reader",
    "choose",
    "exists",
    "fingerprint",
    "head",
    "numbered",
    "origin",
    "read_bytes",
    "split_number",
    "unknown_format",
]

MAX_BYTES = 1 << 30
"""Largest file, after decompression, that is read [bytes]; recorded scenes have a few million."""

_HEAD = 1 << 16
_GZIP = b"\x1f\x8b"
_LARGEST = 1e7  # beyond any coordinate in metres, speed or size that a drive can have


T = TypeVar("T")


@dataclass(frozen=True)
class Reader(Generic[T]):
    """One format of a `T` (a scenario, a camera log).

    Attributes:
        name: Name of the format.
        looks_like: What a file or folder of it looks like, for the message when nothing matches.
        matches: Whether a path holds this format, by its content; never raises.
        read: What is at a path; raises `UserError` and nothing else for whatever is there.
        drives: The path of each drive in a file or folder of this format. A file with one drive is that
            path itself; in a file with many, drive `n` (from 0) has the path `file#n`, which `read` takes.
            Raises `UserError` where the file is too damaged to count.
    """

    name: str
    looks_like: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], T]
    drives: Callable[[Path], list[Path]] = lambda path: [path]


def unknown_format(what: str, readers: Sequence[Reader], fix: str) -> UserError:
    """The error for a path that no reader matches, which tells what each one looks for."""
    return UserError(
        what,
        got="\n            ".join(f"not {reader.name}: that is {reader.looks_like}" for reader in readers),
        expected=f"one of: {', '.join(reader.name for reader in readers)}",
        fix=fix,
    )


def exists(path: Path) -> bool:
    """Whether something is there; a name that no file can have is not."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        return False


def numbered(path: Path, count: int) -> list[Path]:
    """Paths of the drives in a file of `count`: the file itself where there is one, else `file#0`, `file#1` ..."""
    return [path] if count == 1 else [path.with_name(f"{path.name}#{n}") for n in range(count)]


def split_number(path: Path) -> tuple[Path, int | None]:
    """The file of `file#3` and its 3; a path that exists under its whole name has no number."""
    name, mark, number = path.name.rpartition("#")
    if not (mark and name and number.isascii() and number.isdigit() and len(number) < 10) or path.exists():
        return path, None
    return path.with_name(name), int(number)


def choose(path: Path, number: int | None, count: int, unit: str) -> int:
    """Which of the `count` drives of a file to read, where `path` names number `number` or none."""
    if number is None and count == 1:
        return 0
    if number is None or number >= count:
        raise UserError(
            f"{path} holds {count} {unit}" if number is None else f"{path}: there is no {unit} {number}",
            got="no number" if number is None else number,
            expected=f"a number from 0 to {count - 1} behind the name: {split_number(path)[0].name}#0",
            fix="`countersteer data list` names them; `countersteer data import` converts all of a file",
        )
    return number


def _inflate(path: Path, limit: int, *, strict: bool) -> bytes:
    """Up to `limit` bytes of the file, decompressed if it is gzipped.

    A gzip file that ends early or is damaged raises EOFError or zlib.error if `strict`, else gives what
    could be read.
    """
    with path.open("rb") as file:
        if file.read(2) != _GZIP:
            file.seek(0)
            return file.read(limit)
        file.seek(0)
        pieces, left = [], limit
        inflate = zlib.decompressobj(wbits=31)
        while left > 0:
            packed = inflate.unconsumed_tail or file.read(1 << 20)
            try:
                if not packed:
                    raise EOFError
                piece = inflate.decompress(packed, left)
            except (EOFError, zlib.error):
                if strict:
                    raise
                break
            pieces.append(piece)
            left -= len(piece)
            if inflate.eof:
                # A gzip file may hold several members one after the other.
                rest = inflate.unused_data or file.read(1 << 20)
                if not rest.startswith(_GZIP):
                    break
                file.seek(-len(rest), 1)
                inflate = zlib.decompressobj(wbits=31)
        return b"".join(pieces)


def head(path: Path) -> bytes:
    """The first 64 KiB of a file, decompressed if gzipped; empty if it cannot be read."""
    try:
        return _inflate(path, _HEAD, strict=False) if path.is_file() else b""
    except (OSError, ValueError):
        return b""


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """All bytes of a file, decompressed if it is gzipped.

    Raises:
        UserError: The file is missing, cannot be read, is cut short, or holds more than `limit` bytes.
    """
    try:
        data = _inflate(path, limit + 1, strict=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", fix="check the path") from None
    except (EOFError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be decompressed: it is cut short or damaged",
            got=str(error) or "an early end",
            expected="a whole gzip file",
            fix="download it again",
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read", got=error, expected="a readable file", fix="check the path"
        ) from error
    if len(data) > limit:
        raise UserError(
            f"{path} is too large",
            got=f"more than {limit} bytes after decompression",
            expected=f"at most {limit} bytes, one scenario a file",
            fix="split the file; a small file that grows this much is not to be trusted",
        )
    return data


def fingerprint(*parts: bytes) -> str:
    """SHA-256 of the bytes a scenario was read from."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def origin(proof: bool, source: str, licence: str, form: str) -> tuple[str, str]:
    """Source and licence of a file: those of a data set where the content proves that it is of it, else unknown.

    Others write the same forms: simulators, converters, one's own logger.

    Args:
        proof: Whether the content says so itself: a name of the data set's, a calibration of its cars, their places.
        source, licence: Of the data set.
        form: Name of the form, for a source that is unknown.
    """
    return (source, licence) if proof else (f"unknown ({form})", "unknown")


def _brief(value: object) -> str:
    """A value in a few words; containers by size, because a damaged file may hold anything."""
    if isinstance(value, dict | list | tuple | set | bytes | bytearray | ndarray):
        return f"{type(value).__name__} of {value.size if isinstance(value, ndarray) else len(value)}"
    text = value if isinstance(value, str) else repr(value) if isinstance(value, int | float | bool) else ""
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{type(value).__name__} {text}".strip()


@dataclass(frozen=True)
class Field:
    """A value inside a file, with its place, so that whatever is wrong with it can be said clearly."""

    path: Path
    name: str
    value: Any

    def fail(
        self, what: str, *, got: object = None, expected: object = None, fix: str | None = None
    ) -> NoReturn:
        """Raise the `UserError` that names this file and field."""
        raise UserError(
            f"{self.path}: {self.name or 'the file'} {what}",
            got=_brief(self.value) if got is None else got,
            expected=expected,
            fix=fix or "check that the file is whole and was written by the tool its format names",
        )

    def child(self, key: str | int, value: Any) -> Field:
        """A value found inside this one."""
        if isinstance(key, int):
            return Field(self.path, f"{self.name}[{key}]", value)
        return Field(self.path, f"{self.name}.{key}" if self.name else key, value)

    def table(self) -> dict[Any, Any]:
        """This value, which has to be a dictionary."""
        if not isinstance(self.value, dict):
            self.fail("is not a table of fields", expected="a dictionary")
        return self.value

    def __getitem__(self, key: str) -> Field:
        """A field that has to be there."""
        table = self.table()
        if key not in table:
            present = ", ".join(sorted(str(name)[:30] for name in table)[:12]) or "nothing"
            self.fail(f"has no field {key!r}", got=f"fields: {present}", expected=f"a field {key!r}")
        return self.child(key, table[key])

    def get(self, key: str) -> Field | None:
        """A field that may be absent (or None)."""
        value = self.table().get(key)
        return None if value is None else self.child(key, value)

    def items(self) -> Iterator[tuple[str, Field]]:
        """Names and values of a dictionary."""
        for key, value in self.table().items():
            if not isinstance(key, str | int):
                self.fail("has a name that is neither text nor a number", got=_brief(key))
            yield str(key), self.child(str(key), value)

    def is_list(self) -> bool:
        """Whether this value is a list, or an array, which `entries` takes for one."""
        return isinstance(self.value, list | tuple) or hasattr(self.value, "tolist")

    def entries(self) -> list[Field]:
        """The entries of a list or array."""
        values = self.value
        if hasattr(values, "tolist"):
            try:
                values = values.tolist()
            except (ValueError, TypeError, OverflowError, MemoryError) as error:
                self.fail("is not a list", got=str(error)[:120], expected="a list")
        if not isinstance(values, list | tuple):
            self.fail("is not a list", expected="a list")
        return [self.child(index, value) for index, value in enumerate(values)]

    def text(self) -> str:
        """This value as text; numbers are taken too, because identifiers are written either way."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int):
            self.fail("is not text", expected="text")
        try:
            text = str(self.value)
            text.encode()  # half of a surrogate pair cannot be written to any file later
        except ValueError:
            self.fail("is not readable text", got="characters that cannot be written", expected="text")
        return text

    def integer(self) -> int:
        """This value as a whole number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | np.integer):
            self.fail("is not a whole number", expected="a whole number")
        return int(self.value)

    def numbers(self, *shape: int | None) -> ndarray:
        """This value as float64 of a shape; None stands for any length, a last None for 2 or 3 coordinates.

        Entries may be NaN: only the reader knows which of them count. Larger than 1e7 is an error,
        no quantity of a drive in SI units is.
        """
        try:
            raw = np.asarray(self.value)
            if raw.dtype.kind not in "biuf" or raw.dtype.itemsize > 8:
                raw = raw.astype(np.float64) if raw.size == 0 else self._refuse(raw)
            with np.errstate(all="ignore"):
                values = np.asarray(raw.astype(np.float64) + 0.0)  # the sum makes signalling NaN quiet
        except (ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
            self.fail("is not an array of numbers", got=str(error)[:120], expected="numbers")
        if raw.size == 0 and len(shape) > 1 and raw.ndim == 1:
            values = values.reshape(0, *(1 if n is None else n for n in shape[1:]))
        fits = values.ndim == len(shape) and all(
            n in (None, m) for n, m in zip(shape, values.shape, strict=False)
        )
        if not fits:
            wanted = " x ".join("n" if n is None else str(n) for n in shape) or "one number"
            self.fail(
                "has the wrong shape", got=" x ".join(map(str, values.shape)) or "one number", expected=wanted
            )
        if (large := np.abs(values) > _LARGEST).any():  # false for NaN
            got = f"{values[large].flat[0]:.3g}"
            self.fail("has a value out of range", got=got, expected=f"at most {_LARGEST:g}")
        return values

    def _refuse(self, raw: ndarray) -> NoReturn:
        self.fail("is not an array of numbers", got=f"entries of type {raw.dtype}", expected="numbers")

    def shape(self) -> tuple[int, ...]:
        """Shape of this value as an array, whatever its entries are."""
        try:
            return np.asarray(self.value).shape
        except (ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
            self.fail("is not an array", got=str(error)[:120], expected="rows of one length")

    def number(self) -> float:
        """This value as one finite number."""
        value = float(self.numbers())
        if not np.isfinite(value):
            self.fail("is not a finite number", expected="a finite number")
        return value
