"""Pickles of plain data, read without running code of theirs.

A pickle can run code. This one is read by an unpickler that knows the handful of names that numbers, text,
containers and numpy arrays need, each replaced by a harmless stand-in: no code of numpy, or of anything else, runs on
bytes of the file before they are plain arrays. Any other name is refused.
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from countersteer.errors import UserError

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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        shape, kind, fortran, data = self.content
        if not isinstance(kind, _Type) or not isinstance(data, bytes | bytearray):
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
        array.content = (shape, kind, order == "F", bytes(data) if isinstance(data, bytearray) else data)
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


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "defaultdict"): defaultdict,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _Encode,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Dropped,
    **{("builtins", kind.__name__): kind for kind in (int, float, bool, str, list, dict, set, tuple)},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FromBuffer for core in ("core", "_core")},
}


# The unpickler in Python, not the one in C: a damaged memo index makes the latter allocate gigabytes.
# A scene takes 0.1 to 0.2 s.
class _Unpickler(pickle._Unpickler):  # pyright: ignore[reportAttributeAccessIssue]
    def __init__(self, path: Path, data: bytes):
        super().__init__(io.BytesIO(data))
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (found := _ALLOWED.get((module, name))) is None:
            raise UserError(
                f"{self._path}: the pickle asks for the global {module[:60]}.{name[:60]}",
                got=f"{module[:60]}.{name[:60]}",
                expected="numbers, text, lists, dictionaries and numpy arrays only",
                fix="do not load this file with pickle; it could run code. Export the scene again",
            )
        return found


def load_plain(path: Path, data: bytes) -> Any:
    """What is pickled in some bytes; arrays are stand-ins that numpy turns into arrays when they are asked for.

    Args:
        path: Where the bytes are from, for errors.
        data: The pickle.

    Raises:
        UserError: The pickle asks for anything else than data, or is damaged.
    """
    try:
        return _Unpickler(path, data).load()
    except UserError:
        raise
    except Exception as error:
        # A damaged stream makes the unpickler fail in any of its operations, with whatever that one raises.
        raise UserError(
            f"{path} is not a whole pickle",
            got=f"{type(error).__name__}: {str(error)[:100]}",
            expected="a pickle of plain data",
            fix="the file is cut short or damaged; write or download it again",
        ) from error
