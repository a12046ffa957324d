"""Damage done to bytes and to the values in them: the same for the fuzz and for the tests of readers.

Bytes are cut, flipped, overwritten, repeated, swapped, or get sizes that cannot be. Values are replaced by strange ones or
by plausible ones, and fields are dropped, doubled, renamed and swapped. Everything is drawn from the generator that is given.
"""

from __future__ import annotations

import copy
import io
import math
import pickletools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

STRANGE: list[Any] = [
    None, True, -1, 0, 10**30, 1e308, -1e9, float("nan"), float("inf"), "", "x", "\ud800", "-10000",
    [], [[]], {}, [None], ["a", 1], {"x": 1}, [[1, 2], [3]], [[1.0, 2.0, 3.0]], [1e300] * 30,
]  # fmt: skip
STRANGE_IN_PICKLES: list[Any] = [
    *STRANGE,
    b"bytes",
    1 + 2j,
    {1, 2},
    np.zeros((0, 3)),
    np.full((30, 3), np.nan),
    np.zeros(30, np.complex128),
    np.zeros((30, 2), ">f4"),
    np.array(["a"] * 30),
    np.array([{}, 1], object),
    np.zeros((2, 2, 2), np.int8),
    np.float32(3.5),
    {(1, 2): 3},
]
HUGE = (2**31 - 1, 2**31, 2**32 - 1, 2**33, 10**10, 2**40, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
"""Sizes that fit into a field of a file and into no memory."""

WORDS = (
    "nan", "inf", "-inf", "1e400", "-1", "0", "1e9", "9" * 5000, "", "x", "0x10", "1_000", "\x00", "é", "1e-320", "..", "/",
    "../../x", "\x1b[31m", "[/red]", "<b>", "99999999999999999999",
)  # fmt: skip


class Raw(str):
    """Text that a container of text takes as it is, where values of the container cannot be written."""


RAW = (
    Raw("9" * 5000),
    Raw("-" + "9" * 5000),
    Raw("[" * 100_000 + "]" * 100_000),
    Raw('{"a":' * 50_000 + "1" + "}" * 50_000),
    Raw("[" * 500 + "]" * 500),
    Raw("NaN"),
    Raw("1e400"),
)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes cut short, flipped, overwritten, or with a piece inserted or left out."""
    kind = rng.integers(5)
    at = int(rng.integers(len(data)))
    if kind == 0:
        return data[:at]
    if kind == 1:
        changed = bytearray(data)
        for where in rng.integers(len(data), size=int(rng.integers(1, 6))):
            changed[where] ^= 1 << int(rng.integers(8))
        return bytes(changed)
    if kind == 2:
        return data[:at] + rng.bytes(int(rng.integers(1, 9))) + data[at:]
    if kind == 3:
        return data[:at] + data[at + int(rng.integers(1, 50)) :]
    return data[:at] + rng.bytes(8) + data[at + 8 :]


def moved_blocks(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with a block repeated, set to zero, or exchanged with another one."""
    size = int(rng.integers(1, max(2, min(len(data) // 2, 600))))
    first, second = sorted(int(rng.integers(max(1, len(data) - size))) for _ in range(2))
    kind = rng.integers(3)
    if kind == 0:
        return data[:first] + data[first : first + size] * int(rng.integers(2, 40)) + data[first + size :]
    if kind == 1:
        return data[:first] + bytes(len(data[first : first + size])) + data[first + size :]
    second = max(second, first + size)
    a, b = data[first : first + size], data[second : second + size]
    return data[:first] + b + data[first + size : second] + a + data[second + size :]


def _places_of_sizes(data: bytes) -> list[tuple[int, str]]:
    """Where in a pickle an operation says a size or an index, and how it is written."""
    forms = {"uint4": "<I", "uint8": "<Q", "int4": "<i"}
    named = {
        "string4": "<i", "bytes4": "<I", "bytes8": "<Q", "bytearray8": "<Q", "unicodestring4": "<I", "unicodestring8": "<Q",
        "long4": "<i",
    }  # fmt: skip
    found = []
    try:
        for operation, _, at in pickletools.genops(io.BytesIO(data)):
            if operation.arg is not None and at is not None:
                form = {**forms, **named}.get(operation.arg.name)
                if form is not None:
                    found.append((at + 1, form))
    except Exception:
        pass
    return found


def with_sizes(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes in which a number of 2, 4 or 8 bytes says something huge; in a pickle, one that says a size."""
    changed, size = bytearray(data), HUGE[rng.integers(len(HUGE))]
    places = _places_of_sizes(data) if data[:1] == b"\x80" else []
    if places and rng.random() < 0.8:
        at, form = places[rng.integers(len(places))]
        top = (1 << 8 * struct.calcsize(form) - (form == "<i")) - 1
        changed[at : at + struct.calcsize(form)] = struct.pack(form, min(size, top))
        return bytes(changed)
    # Headers are at the beginning, those of archives and of films at the end too.
    near = min(len(data), 400)
    at = int(
        (rng.integers(near), len(data) - 1 - rng.integers(near), rng.integers(len(data)))[rng.integers(3)]
    )
    width = (2, 4, 8)[rng.integers(3)]
    order = "little" if rng.random() < 0.6 else "big"
    changed[at : at + width] = min(size, (1 << 8 * width) - 1).to_bytes(width, order)
    return bytes(changed)


def with_numbers(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes in which an aligned word is another number: not finite, huge, of the other sign, or a little off."""
    form = ("<f8", "<f4", "<i8", "<i4")[rng.integers(4)]
    width = np.dtype(form).itemsize
    if len(data) < width:
        return damaged(data, rng) if data else b"\0"
    at = int(rng.integers(len(data) // width)) * width
    old = np.frombuffer(data[at : at + width], form)[0]
    with np.errstate(all="ignore"):
        options = (
            (np.nan, np.inf, 1e30, -old, old * 1000, old + 1, 0)
            if form[1] == "f"
            else (-1, 0, 2 ** (8 * width - 1) - 1, 10**6, -int(old) % 1000, int(old) // 2)
        )
        new = np.array(options[rng.integers(len(options))]).astype(form)
    return data[:at] + new.tobytes() + data[at + width :]


_OF_BYTES: tuple[tuple[str, Callable[[bytes, np.random.Generator], bytes]], ...] = (
    ("bytes", damaged),
    ("blocks", moved_blocks),
    ("sizes", with_sizes),
    ("numbers", with_numbers),
)


def of_bytes(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Bytes with damage of one kind, and what kind."""
    if not data:
        return rng.bytes(int(rng.integers(1, 20))), "bytes"
    name, change = _OF_BYTES[rng.choice(len(_OF_BYTES), p=(0.4, 0.15, 0.25, 0.2))]
    return change(data, rng), name


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Where a value can be replaced; of long lists, only the first two entries."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key in value:
            found += places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 2)):
            found += places(value[index], (*path, index))
    return found


def replaced(content: Any, place: tuple, value: Any, *, drop: bool) -> Any:
    """A tree with another value at a place, or with nothing there."""
    content = copy.deepcopy(content)
    inside = content
    for key in place[:-1]:
        inside = inside[key]
    if drop:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return content


def _some_place(tree: Any, rng: np.random.Generator) -> tuple[Any, Any] | None:
    """A container somewhere in a tree, and a key of it."""
    found, here = None, tree
    while isinstance(here, dict | list) and here:
        keys = list(here) if isinstance(here, dict) else range(len(here))
        key = keys[int(rng.integers(len(keys)))]
        found, here = (here, key), here[key]
        if rng.random() < 0.12:
            break
    return found


def _texts(tree: Any, found: list[str]) -> list[str]:
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict | list) and len(found) < 200:
            _texts(value, found)
    return found


def _other_number(value: Any, rng: np.random.Generator) -> Any:
    if rng.random() < 0.3:
        return HUGE[rng.integers(len(HUGE))]
    options = [-value, value * 1000, value / 1000, value + 1, value * 1.1, value - 1, 0, value * 57.3]
    new = options[rng.integers(len(options))]
    whole = isinstance(value, int) and rng.random() < 0.8 and (isinstance(new, int) or math.isfinite(new))
    return int(new) if whole else new


def _other_array(value: np.ndarray, rng: np.random.Generator) -> Any:
    """An array of other values, another shape or another type."""
    kind = rng.integers(9)
    if kind < 4 and value.size and value.dtype.kind in "fiu":
        new = value.copy()
        at = tuple(int(rng.integers(side)) for side in value.shape) if rng.random() < 0.5 else ...
        with np.errstate(all="ignore"):
            options = (
                new[at] * (1000 if value.dtype.itemsize > 1 else np.int16(1000)),
                -new[at],
                new[at] + 1,
                new[at] * 0 + 1e6,
                new[at] * np.nan,
                new[at] * 57.3,
            )
            new[at] = np.asarray(options[rng.integers(len(options))]).astype(value.dtype)
        return new
    if kind == 4:
        types = (np.float32, np.float16, np.int8, np.int64, np.uint8, np.complex64, bool, ">f8", "U3")
        with np.errstate(all="ignore"):
            return np.nan_to_num(value.astype(np.float64, copy=False)).astype(types[rng.integers(len(types))]) \
                if value.dtype.kind in "fiub" else value  # fmt: skip
    if kind == 5:
        return value[: len(value) // 2] if value.ndim else value[None]
    if kind == 6:
        return value.T if value.ndim > 1 else value[:, None] if value.ndim else value
    if kind == 7:
        return np.concatenate([value, value[:1]]) if value.ndim else value
    return value[::-1] if value.ndim else value


def _plausible(tree: Any, value: Any, rng: np.random.Generator) -> Any:
    """A value as it might stand there."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, np.ndarray):
        return _other_array(value, rng)
    if isinstance(value, int | float | np.number):
        return _other_number(value.item() if isinstance(value, np.number) else value, rng)
    if isinstance(value, str):
        others = [*_texts(tree, []), value[:-1], value.upper(), value + "x", *WORDS]
        return others[rng.integers(len(others))]
    if isinstance(value, list):
        return (value * 2, value[: len(value) // 2], value[::-1], [value], value * 40)[rng.integers(5)]
    if isinstance(value, dict):
        return dict(list(value.items())[: len(value) // 2])
    return STRANGE[rng.integers(len(STRANGE))]


def of_tree(
    tree: Any,
    rng: np.random.Generator,
    strange: list[Any] = STRANGE,
    inner: Callable[[str, bytes, np.random.Generator], tuple[bytes, str]] = lambda _, data, rng: of_bytes(
        data, rng
    ),
) -> tuple[Any, str]:
    """A tree with one thing in it changed, and what kind of change that is.

    Args:
        tree: Of dicts and lists; it is not changed itself.
        strange: What may stand in it.
        inner: Changes bytes in it, by the name of the file that they are.
    """
    tree = copy.deepcopy(tree)
    found = _some_place(tree, rng)
    if found is None:
        return strange[rng.integers(len(strange))], "strange value"
    inside, key = found
    value = inside[key]
    if isinstance(value, bytes) and rng.random() < 0.85:
        inside[key], kind = inner(str(key), value, rng)
        return tree, kind
    if isinstance(value, np.ndarray) and rng.random() < 0.6:
        inside[key] = _other_array(value, rng)
        return tree, "other array"
    kind = rng.integers(10)
    if kind < 3:
        inside[key] = strange[rng.integers(len(strange))]
        return tree, "strange value"
    if kind < 6:
        inside[key] = _plausible(tree, value, rng)
        return tree, "other value"
    if kind == 6:
        del inside[key]
        return tree, "dropped"
    if kind == 7:
        if isinstance(inside, list):
            inside.insert(int(rng.integers(len(inside) + 1)), value)
        else:
            inside[f"{key}_2"] = value
        return tree, "doubled"
    if kind == 8 and isinstance(inside, dict):
        names = [f"{key}x", str(key)[:-1], str(key).upper(), "../x", "", str(key) + "\x00"]
        inside[names[rng.integers(len(names))]] = inside.pop(key)
        return tree, "renamed"
    keys = list(inside) if isinstance(inside, dict) else range(len(inside))
    other = keys[int(rng.integers(len(keys)))]
    inside[key], inside[other] = inside[other], inside[key]
    return tree, "swapped"
