"""Pickles of plain data, read without running code of theirs.

A pickle can run code. This one is read by an unpickler that knows the handful of names that numbers, text,
containers and numpy arrays need, each replaced by a harmless stand-in: no code of numpy, or of anything else, runs on
bytes of the file before they are plain arrays. Any other name is refused.

A pickle can also ask for memory: a byte for a new set, five for the copy of a list that is there already. So every
operation is charged with the most that it takes, and stand-ins are made, called and given their state in no other ways
than numpy's own pickles do it.
"""

from __future__ import annotations

import gc
import io
import pickle
import re
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from countersteer.errors import UserError, reading
from countersteer.storage.files import MAX_MEMORY, check_size

__all__ = ["load_plain"]


class _Type:
    """Stand-in for `numpy.dtype`: remembers the code and byte order of a plain number type."""

    __slots__ = ("code", "order")

    def __init__(self, code: object = None, align: object = None, copy: object = None):
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("a byte order is unknown")
        self.order = order

    def resolve(self, text: bool = False) -> np.dtype[Any]:
        code = self.code.strip("<>|=") if isinstance(self.code, str) else ""
        if code not in _NUMBER_CODES and not (text and _TEXT_CODE.fullmatch(code)):
            raise ValueError(f"arrays of type {str(self.code)[:20]!r} are not read")
        return np.dtype((">" if self.order == ">" else "<") + code)


_TEXT_CODE = re.compile("[US][1-9][0-9]{0,3}")
_NUMBER_CODES = {"b1", "?", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8"}


class _Array:
    """Stand-in for an array under construction; becomes one only when numbers are asked for."""

    __slots__ = ("content",)

    def __init__(self) -> None:
        self.content: tuple[Any, ...] = ((0,), None, False, b"")

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self.content = (shape, kind, fortran, data)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        _, kind, _, data = self.content
        return (
            len(data) // kind.resolve(text=True).itemsize
            if isinstance(kind, _Type) and isinstance(data, bytes)
            else 1
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        shape, kind, fortran, data = self.content
        if not isinstance(kind, _Type) or not isinstance(data, bytes):
            raise ValueError("an array of objects, not of numbers")
        flat = np.frombuffer(data, kind.resolve())
        return flat.reshape(shape, order="F" if fortran else "C").astype(
            dtype or flat.dtype.newbyteorder("=")
        )

    def tolist(self) -> Any:
        """The entries as plain values, of numbers, of text, or of a row of objects."""
        shape, kind, fortran, data = self.content
        if isinstance(data, list) and shape == (len(data),):
            return data
        if not isinstance(kind, _Type) or not isinstance(data, bytes | bytearray):
            raise ValueError("an array of objects, not in one row")
        values = np.frombuffer(data, kind.resolve(text=True)).reshape(shape, order="F" if fortran else "C")
        return (np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values).tolist()


class _Reconstruct:
    """Stand-in for `numpy.core.multiarray._reconstruct`."""

    __slots__ = ()

    def __new__(cls, subtype: object, shape: object, kind: object) -> Any:
        return _Array()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a constructor has no state")


class _FromBuffer(_Reconstruct):
    """Stand-in for `numpy.core.numeric._frombuffer`, used by pickle protocol 5."""

    def __new__(cls, data: object, kind: object, shape: object, order: object) -> Any:
        array = _Array()
        array.content = (shape, kind, order == "F", data)
        return array


class _Scalar(_Reconstruct):
    """Stand-in for `numpy.core.multiarray.scalar`: one number, as a Python number."""

    def __new__(cls, kind: object, data: object = b"") -> Any:
        array = _Array()
        array.content = ((), kind, False, data)
        return array.__array__().item()


class _Encode(_Reconstruct):
    """Stand-in for `_codecs.encode`, by which old protocols carry bytes."""

    def __new__(cls, text: object, encoding: object = "latin1") -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("text in an encoding that arrays do not use")
        return text.encode("latin1")


class _Dropped(_Reconstruct):
    """Stand-in for the class `numpy.ndarray`, which is only ever named."""

    def __new__(cls, *arguments: object) -> Any:
        raise pickle.UnpicklingError("an array was made in a way that is not read")


_BUILTINS: tuple[Any, ...] = (int, float, bool, str, list, dict, set, tuple)
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "defaultdict"): defaultdict,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _Encode,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Dropped,
    **{("builtins", kind.__name__): kind for kind in _BUILTINS},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FromBuffer for core in ("core", "_core")},
}


def _costs() -> list[int]:
    """The most memory that each operation takes in CPython, with its place on the stack [bytes]."""
    costs = [40] * 256
    for operations, cost in (
        ((pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3), 72),
        ((pickle.MARK, pickle.EMPTY_LIST, pickle.LIST), 96),
        ((pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.SETITEM), 110),
        ((pickle.EMPTY_SET, pickle.FROZENSET, pickle.EMPTY_DICT, pickle.DICT), 250),
        (
            (
                pickle.REDUCE,
                pickle.NEWOBJ,
                pickle.NEWOBJ_EX,
                pickle.BUILD,
                pickle.GLOBAL,
                pickle.STACK_GLOBAL,
            ),
            400,
        ),
    ):
        for operation in operations:
            costs[operation[0]] = cost
    return costs


_COSTS = _costs()
_SIZED = frozenset(
    operation[0]
    for operation in (
        pickle.UNICODE, pickle.BINUNICODE, pickle.BINUNICODE8, pickle.SHORT_BINUNICODE, pickle.STRING,
        pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINBYTES, pickle.BINBYTES8, pickle.SHORT_BINBYTES,
        pickle.LONG, pickle.LONG1, pickle.LONG4,
    )
)  # fmt: skip
_STRANGE_KEY = 100_000  # keys whose hashes can be made equal: a table of many of them takes forever


# The unpickler in Python, not the one in C: a damaged memo index makes the latter allocate gigabytes.
# A scene takes 0.1 to 0.2 s.
_Base, _Unframer, _Stop = (getattr(pickle, name) for name in ("_Unpickler", "_Unframer", "_Stop"))


class _Unpickler(_Base):
    def __init__(self, path: Path, data: bytes):
        super().__init__(io.BytesIO(data))
        self._path, self._length, self._left = path, len(data), MAX_MEMORY

    def load(self) -> Any:
        """As the base class does it, with what each operation takes charged before or right after it."""
        self._unframer = _Unframer(self._file_read, self._file_readline)
        self.read, self.readinto = self._unframer.read, self._unframer.readinto
        self.readline = self._unframer.readline
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        read, dispatch = self.read, self.dispatch
        try:
            while True:
                key = read(1)
                if not key:
                    raise EOFError
                operation = key[0]
                self._left -= _COSTS[operation]
                if self._left < 0:
                    self.charge(0)
                dispatch[operation](self)
                if operation in _SIZED:
                    self.charge(sys.getsizeof(self.stack[-1]))
        except _Stop as stop:
            return stop.value

    def charge(self, size: int) -> None:
        """Count memory that the pickle takes; too much is an error."""
        self._left -= size
        check_size(self._path, "bytes of memory for its values", MAX_MEMORY - self._left, MAX_MEMORY)

    def find_class(self, module: str, name: str) -> Any:
        if (found := _ALLOWED.get((module, name))) is None:
            raise UserError(
                f"{self._path}: the pickle asks for the global {module[:60]}.{name[:60]}",
                got=f"{module[:60]}.{name[:60]}",
                expected="numbers, text, lists, dictionaries and numpy arrays only",
                fix="do not load this file with pickle; it could run code. Export the scene again",
            )
        return found

    def keys(self, keys: Any) -> None:
        """Refuse keys that tables of data do not have, before they are hashed."""
        for key in keys:
            kind = type(key)
            if kind is str or kind is bytes or (kind is int and -(1 << 60) < key < 1 << 60):
                continue
            self.charge(_STRANGE_KEY)
            parts = key if kind is tuple else (key,)
            if not all(type(part) in (str, bytes, int, float, bool, type(None)) for part in parts):
                raise pickle.UnpicklingError("a key of a table is neither text nor a number")

    def made(self, kind: Any, arguments: Any) -> Any:
        """One of the allowed things, made of its arguments."""
        if type(arguments) is not tuple:
            raise pickle.UnpicklingError("arguments that are no tuple")
        self.charge(sum(len(value) for value in arguments if isinstance(value, str | bytes | bytearray)))
        if kind is set and len(arguments) == 1 and type(arguments[0]) is list:
            self.charge(80 * len(arguments[0]))
            self.keys(arguments[0])
            return set(arguments[0])
        if kind is defaultdict and (not arguments or arguments[0] in _BUILTINS) and len(arguments) < 2:
            return defaultdict()  # nothing here asks for a key that is not there
        if kind is OrderedDict and len(arguments) == 1 and type(arguments[0]) is list:  # as Python 2 wrote it
            pairs = [pair for pair in arguments[0] if type(pair) in (list, tuple) and len(pair) == 2]
            self.charge(300 * len(pairs))
            self.keys(key for key, _ in pairs)
            return OrderedDict(pairs)
        if kind in (OrderedDict, set, dict, list, tuple) and not arguments:
            return kind()
        if isinstance(kind, type) and (kind is _Type or issubclass(kind, _Reconstruct)):
            return kind(*arguments)
        raise pickle.UnpicklingError("something is made in a way that is not read")

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.made(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:
        if self.stack.pop() != {}:
            raise pickle.UnpicklingError("something is made in a way that is not read")
        self.load_reduce()

    def load_build(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) not in (_Type, _Array):
            raise pickle.UnpicklingError("a state for something that has none")
        self.stack[-1].__setstate__(state)

    def hashed(self, step: int) -> list[Any]:
        """What was put on the stack since the last mark, of which every `step`-th is a key."""
        items = self.pop_mark()
        self.charge(70 * (len(items) // step))
        self.keys(items[::step])
        return items

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """Keys and values since the last mark."""
        items = self.hashed(2)
        return zip(items[::2], items[1::2], strict=True)

    def top(self, kind: type) -> Any:
        """The container on top of the stack."""
        if not isinstance(self.stack[-1], kind):
            raise pickle.UnpicklingError(f"entries for something that is no {kind.__name__}")
        return self.stack[-1]

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.keys((key,))
        self.top(dict)[key] = value

    def load_setitems(self) -> None:
        pairs = self.pairs()
        self.top(dict).update(pairs)

    def load_dict(self) -> None:
        self.append(dict(self.pairs()))

    def load_additems(self) -> None:
        items = self.hashed(1)
        self.top(set).update(items)

    def load_frozenset(self) -> None:
        self.append(frozenset(self.hashed(1)))

    def load_appends(self) -> None:
        items = self.pop_mark()
        self.top(list).extend(items)

    def load_append(self) -> None:
        value = self.stack.pop()
        self.top(list).append(value)

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        self.charge(size)
        content = self.read(size) if size <= self._length else b""
        if len(content) != size:
            raise EOFError(f"{size} bytes are declared, which is more than are left")
        self.append(content)  # bytes: nothing here writes into them

    def load_refused(self) -> None:
        raise pickle.UnpicklingError("an operation that plain data does not need")


_Unpickler.dispatch = {
    **_Base.dispatch,
    pickle.REDUCE[0]: _Unpickler.load_reduce,
    pickle.NEWOBJ[0]: _Unpickler.load_reduce,
    pickle.NEWOBJ_EX[0]: _Unpickler.load_newobj_ex,
    pickle.BUILD[0]: _Unpickler.load_build,
    pickle.SETITEM[0]: _Unpickler.load_setitem,
    pickle.SETITEMS[0]: _Unpickler.load_setitems,
    pickle.DICT[0]: _Unpickler.load_dict,
    pickle.ADDITEMS[0]: _Unpickler.load_additems,
    pickle.FROZENSET[0]: _Unpickler.load_frozenset,
    pickle.APPEND[0]: _Unpickler.load_append,
    pickle.APPENDS[0]: _Unpickler.load_appends,
    pickle.BYTEARRAY8[0]: _Unpickler.load_bytearray8,
    **{
        operation[0]: _Unpickler.load_refused
        for operation in (
            pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID,
            pickle.BINPERSID, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
        )
    },
}  # fmt: skip


def load_plain(path: Path, data: bytes) -> Any:
    """What is pickled in some bytes; arrays are stand-ins that numpy turns into arrays when they are asked for.

    Args:
        path: Where the bytes are from, for errors.
        data: The pickle.

    Raises:
        UserError: The pickle asks for anything else than data, or is damaged.
    """
    collecting = gc.isenabled()
    gc.disable()  # it would look through millions of new lists again and again
    try:
        with reading(
            path, "is not a whole pickle", expected="a pickle of plain data", fix="write or download it again"
        ):
            return _Unpickler(path, data).load()
    finally:
        if collecting:
            gc.enable()
