"""Values inside a file of unknown origin, each with its place, and the limits on what a file may hold.

`Field` turns whatever is wrong with a value into a `UserError` that names the file and the field. What is handed out is
counted, because a small file can name one large list a thousand times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.errors import UserError, shown

__all__ = [
    "ENTRY",
    "MAX_ACTORS",
    "MAX_FEATURES",
    "MAX_LIGHTS",
    "MAX_STATES",
    "MAX_STEPS",
    "Allowance",
    "Field",
    "check_counts",
    "check_lights",
    "numbers_of_text",
]

MAX_STEPS = 100_000
"""Most steps of one drive: nearly three hours at 10 Hz."""

MAX_STATES = 2_500_000
"""Most states, actors times steps, of one drive: 250 actors for a quarter of an hour at 10 Hz; they take 0.5 GiB."""

MAX_ACTORS = 100_000
"""Most actors of one drive."""

MAX_LIGHTS = 1000
"""Most traffic lights of one drive."""

MAX_FEATURES = 100_000
"""Most map features of one drive: ten times as many as the largest recorded scenes have."""

_MOST_VALUES = 1 << 25  # of one file, as float64: 256 MiB
ENTRY = 64  # values that an entry of a list or table counts as, because it becomes an object
_DEEPEST = 5  # lists within each other in an array of numbers
_LONGEST_LINE = 1 << 16  # of a table in text [bytes]
_MOST_ROWS = 500_000  # of a table in text
_LARGEST_WHOLE = 1 << 63  # whole numbers beyond are of no format
_LARGEST = 1e7  # beyond any coordinate in metres, speed or size that a drive can have


def check_counts(path: Path, actors: int, steps: int, most_states: int = MAX_STATES) -> None:
    """Refuse more actors, steps or states than a drive has, before there are arrays for them.

    Raises:
        UserError: There are more than `MAX_ACTORS`, `MAX_STEPS` or `most_states`.
    """
    if actors > MAX_ACTORS or steps > MAX_STEPS or actors * steps > most_states:
        raise UserError(
            f"{path} holds a drive that is too large",
            got=f"{actors} tracks of {steps} steps",
            expected=f"at most {MAX_ACTORS} tracks, {MAX_STEPS} steps, and {most_states} states of tracks",
            fix="cut the recording into shorter drives",
        )


def check_lights(path: Path, lights: int, steps: int) -> None:
    """Refuse more traffic lights than a drive has, before there are arrays for them.

    Raises:
        UserError: There are more than `MAX_LIGHTS`.
    """
    if lights > MAX_LIGHTS or lights * steps > MAX_STATES:
        raise UserError(
            f"{path} holds too many traffic lights",
            got=f"{lights} lights for {steps} steps",
            expected=f"at most {MAX_LIGHTS} lights, and {MAX_STATES} states of them",
            fix="cut the recording into shorter drives",
        )


def _brief(value: object) -> str:
    """A value in a few words; containers by size, because a damaged file may hold anything."""
    if isinstance(value, dict | list | tuple | set | bytes | bytearray | ndarray):
        return f"{type(value).__name__} of {value.size if isinstance(value, ndarray) else len(value)}"
    if isinstance(value, int) and abs(value) > _LARGEST_WHOLE:
        return f"int of {value.bit_length()} bits"  # its digits may be too many to be written
    text = value if isinstance(value, str) else repr(value) if isinstance(value, int | float | bool) else ""
    text = shown(text if len(text) <= 60 else text[:57] + "...")
    return f"{type(value).__name__} {text}".strip()


@dataclass
class Allowance:
    """How many numbers may still be taken out of one file."""

    count: int = _MOST_VALUES


@dataclass(frozen=True)
class Field:
    """A value inside a file, with its place, so that whatever is wrong with it can be said clearly."""

    path: Path
    name: str
    value: Any
    left: Allowance = field(default_factory=Allowance, repr=False, compare=False)

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
            return Field(self.path, f"{self.name}[{key}]", value, self.left)
        return Field(self.path, f"{self.name}.{key}" if self.name else key, value, self.left)

    def spend(self, count: int) -> None:
        """Count values that are about to be taken out of the file.

        Raises:
            UserError: They are more than one file may hold.
        """
        self.left.count -= count
        if self.left.count < 0:
            self.fail(
                "is one value too many", got=f"more than {_MOST_VALUES} numbers", expected="one drive a file"
            )

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
        table = self.table()
        self.spend(ENTRY * len(table))
        for key, value in table.items():
            if not isinstance(key, str | int):
                self.fail("has a name that is neither text nor a number", got=_brief(key))
            name = self.child("a name", key).text()
            yield name, self.child(name, value)

    def is_list(self) -> bool:
        """Whether this value is a list, or an array, which `entries` takes for one."""
        return isinstance(self.value, list | tuple) or hasattr(self.value, "tolist")

    def entries(self) -> list[Field]:
        """The entries of a list or array."""
        values = self.value
        if hasattr(values, "tolist"):
            self.spend(ENTRY * values.size)
            try:
                values = values.tolist()
            except (ValueError, TypeError, OverflowError, MemoryError) as error:
                self.fail("is not a list", got=str(error)[:120], expected="a list")
        if not isinstance(values, list | tuple):
            self.fail("is not a list", expected="a list")
        self.spend(ENTRY * len(values))
        return [self.child(index, value) for index, value in enumerate(values)]

    def text(self) -> str:
        """This value as text; numbers are taken too, because identifiers are written either way."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int):
            self.fail("is not text", expected="text")
        text = self.value if isinstance(self.value, str) else str(self.integer())
        try:
            text.encode()  # half of a surrogate pair cannot be written to any file later
        except ValueError:
            self.fail("is not readable text", got="characters that cannot be written", expected="text")
        return text

    def integer(self) -> int:
        """This value as a whole number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | np.integer):
            self.fail("is not a whole number", expected="a whole number")
        if not -_LARGEST_WHOLE <= self.value < 2 * _LARGEST_WHOLE:
            self.fail("is too large a number", expected="a number of at most 64 bits")
        return int(self.value)

    def numbers(self, *shape: int | None) -> ndarray:
        """This value as float64 of a shape; None stands for any length, a last None for 2 or 3 coordinates.

        Entries may be NaN: only the reader knows which of them count. Larger than 1e7 is an error,
        no quantity of a drive in SI units is.
        """
        try:
            raw = self._array()
            if raw.dtype.kind not in "biuf" or raw.dtype.itemsize > 8:
                raw = raw.astype(np.float64) if raw.size == 0 else self._refuse(raw)
            with np.errstate(all="ignore"):
                values = raw.astype(np.float64)
                values += 0.0  # makes signalling NaN quiet
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
        large = values > _LARGEST  # false for NaN
        large |= values < -_LARGEST
        if large.any():
            got = f"{values[large].flat[0]:.3g}"
            self.fail("has a value out of range", got=got, expected=f"at most {_LARGEST:g}")
        return values

    def flags(self, count: int) -> Bool[ndarray, "count"]:
        """This value as `count` flags, stated as such or as numbers of which 0 is false; NaN is neither."""
        values = self.numbers(count)
        if np.isnan(values).any():
            self.fail(
                "has a flag that is neither true nor false", got="NaN", expected="true and false, or 1 and 0"
            )
        return values != 0

    def _array(self) -> ndarray:
        """This value as an array, once it is sure how many entries it would have."""
        self.spend(_leaves(self.value, self.left.count))
        return np.asarray(self.value)

    def _refuse(self, raw: ndarray) -> NoReturn:
        self.fail("is not an array of numbers", got=f"entries of type {raw.dtype}", expected="numbers")

    def shape(self) -> tuple[int, ...]:
        """Shape of this value as an array, whatever its entries are."""
        try:
            return self._array().shape
        except (ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
            self.fail("is not an array", got=str(error)[:120], expected="rows of one length")

    def number(self) -> float:
        """This value as one finite number."""
        value = float(self.numbers())
        if not np.isfinite(value):
            self.fail("is not a finite number", expected="a finite number")
        return value


def _leaves(value: Any, limit: int, depth: int = 1) -> int:
    """How many entries an array of this value would have; counting stops beyond `limit`.

    Lists that hold one list many times have far more than they take memory.
    """
    if not isinstance(value, list | tuple):
        return getattr(value, "size", 1)
    if depth > _DEEPEST:
        raise ValueError("lists within lists within lists")
    count = len(value)
    for entry in value:
        kind = type(entry)
        if kind is float or kind is int:
            continue
        if kind is str or kind is bytes:
            raise ValueError("entries of text")  # numpy would make all as long as the longest
        if count <= limit:
            count += _leaves(entry, limit - count, depth + 1)
    return count


def numbers_of_text(
    path: Path, name: str, data: bytes, columns: int, *, most_rows: int = _MOST_ROWS
) -> Float[ndarray, "row column"]:
    """Rows of `columns` finite numbers, separated by white space or commas; empty lines are skipped.

    Args:
        path, name: The file and the table, for messages.
        data: Its bytes.
        columns: How many numbers a row has.
        most_rows: Beyond this the file is refused.

    Raises:
        UserError: A line is something else or too long (it is named), there is none, or there are too many.
    """
    whole = Field(path, name, None)
    if data.count(b"\n") + data.count(b"\r") > 2 * most_rows + 2:
        whole.fail("has too many lines", got=f"more than {most_rows}", expected=f"at most {most_rows}")
    rows = []
    for number, line in enumerate(data.splitlines(), 1):
        row = Field(path, f"{name}, line {number}", None)
        if len(line) > _LONGEST_LINE:
            row.fail("is too long", got=f"{len(line)} bytes", expected=f"at most {_LONGEST_LINE}")
        if not (words := line.replace(b",", b" ").split()):
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            row.fail("is not a row of numbers", got=_ascii(line), expected=f"{columns} numbers")
        if len(values) != columns:
            row.fail("has the wrong length", got=f"{len(values)} numbers", expected=f"{columns} numbers")
        if not all(-_LARGEST <= value <= _LARGEST for value in values):  # NaN is not
            what = "has a value out of range" if all(map(np.isfinite, values)) else "is not finite"
            row.fail(what, got=_ascii(line), expected=f"finite numbers of at most {_LARGEST:g}")
        rows.append(values)
    if not 0 < len(rows) <= most_rows:
        what = "has too many rows" if rows else "is empty"
        whole.fail(what, got=f"{len(rows)} rows", expected=f"1 to {most_rows} rows of {columns} numbers")
    return np.array(rows, float)


def _ascii(line: bytes) -> str:
    return line.decode("ascii", "replace").strip()[:80]
