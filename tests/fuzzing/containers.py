"""Files taken apart and put together again with other content: what is sealed by a check sum is sealed anew.

So damage reaches what lies behind the check sums, compression and headers of a format.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import lzma
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from countersteer.data.readers.tfrecord import masked_crc
from countersteer.storage import checkpoint
from fuzzing.mutations import RAW, STRANGE, STRANGE_IN_PICKLES, WORDS, Raw, of_bytes, of_tree
from recordings import varint


@dataclass(frozen=True)
class Container:
    """A form of files.

    Attributes:
        name: What the table calls it.
        fits: Whether bytes, with the name of their file, have it.
        open: Its content as a tree of dicts and lists.
        close: The file of a tree, and of the tree that was opened, which says what is left as it was.
        strange: What may stand in the tree.
    """

    name: str
    fits: Callable[[str, bytes], bool]
    open: Callable[[bytes], Any]
    close: Callable[[Any, Any], bytes]
    strange: list[Any] = field(default_factory=lambda: STRANGE)


def written_json(tree: Any) -> bytes:
    """JSON of a tree, in which `Raw` stands as it is, and half of a surrogate pair too."""
    found: list[str] = []

    def plain(value: Any) -> Any:
        if isinstance(value, Raw):
            found.append(str(value))
            return f"\x01{len(found) - 1}\x01"
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, int | float | str) or value is None:
            return value
        return str(value)

    text = json.dumps(plain(tree))
    for number, raw in enumerate(found):
        text = text.replace(f'"\\u0001{number}\\u0001"', raw)
    return text.encode(errors="replace")


def _is_json(name: str, data: bytes) -> bool:
    return data[:1] in (b"{", b"[") and data.rstrip()[-1:] in (b"}", b"]") and _opens(json.loads, data)


def _opens(open: Callable[[bytes], Any], data: bytes) -> bool:
    try:
        open(data)
    except Exception:
        return False
    return True


# Arrays and tables.


def _open_npy(data: bytes) -> dict[str, Any]:
    values = np.load(io.BytesIO(data), allow_pickle=False)
    return {"values": values, "shape": list(values.shape), "descr": values.dtype.str, "fortran_order": False}


def _close_npy(tree: dict[str, Any], old: dict[str, Any]) -> bytes:
    values = tree.get("values")
    values = np.ascontiguousarray(np.asarray(values if values is not None else []))
    header = {"shape": list(values.shape), "descr": values.dtype.str, "fortran_order": False}
    said = {
        name: value for name, value in tree.items() if name != "values" and repr(value) != repr(old.get(name))
    }
    header = {name: value for name, value in (header | said).items() if name in tree}
    shape = header.get("shape")
    if isinstance(shape, list):
        header["shape"] = tuple(shape)
    text = repr(header).replace("nan", "0").encode(errors="replace")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    body = values.tobytes() if values.dtype != object else b"\0" * 64
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(text), 65535)) + text + body


def _open_table(read: Callable[[pa.BufferReader], pa.Table]) -> Callable[[bytes], dict[str, Any]]:
    return lambda data: {name: column.to_pylist() for name, column in _columns(read, data).items()}


def _columns(read: Callable[[pa.BufferReader], pa.Table], data: bytes) -> dict[str, pa.Array]:
    table = read(pa.BufferReader(data))
    return {name: table.column(name).combine_chunks() for name in table.column_names}


def _array(values: Any, old: list[Any] | None) -> pa.Array:
    values = values if isinstance(values, list) else [values]
    for form in (values, [str(value) for value in values]):
        try:
            array = pa.array(form)
        except Exception:
            continue
        return array.cast(pa.float32()) if old is None and pa.types.is_float64(array.type) else array
    return pa.array([None] * len(values))


def _close_table(tree: Any, old: Any, write: Callable[[pa.Table, pa.BufferOutputStream], None]) -> bytes:
    tree = tree if isinstance(tree, dict) else {"x": [tree]}
    arrays = [_array(values, old.get(name)) for name, values in tree.items()]
    rows = max(map(len, arrays), default=0)
    # A table has columns of one length; those of another are filled with nothing.
    arrays = [pa.concat_arrays([a, pa.nulls(rows - len(a), a.type)]) if len(a) < rows else a for a in arrays]
    out = pa.BufferOutputStream()
    write(pa.table(dict(zip(map(str, tree), arrays, strict=True))), out)
    return out.getvalue().to_pybytes()


def _write_arrow(table: pa.Table, out: pa.BufferOutputStream) -> None:
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)


def _read_arrow(source: pa.BufferReader) -> pa.Table:
    return pa.ipc.open_file(source).read_all()


# Archives.


def _open_zip(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _close_zip(tree: Any, old: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in tree.items() if isinstance(tree, dict) else ():
            content = content if isinstance(content, bytes) else str(content).encode(errors="replace")
            archive.writestr(zipfile.ZipInfo(str(name).replace("\x00", "") or "_"), content)
    return out.getvalue()


def _open_replay(data: bytes) -> dict[str, Any]:
    members = _open_zip(data)
    return {"header": json.loads(members.pop("replay.json")), "members": members}


def _close_replay(tree: Any, old: Any) -> bytes:
    header, members = tree.get("header", {}), tree.get("members", {})
    members = (
        {n: m if isinstance(m, bytes) else b"" for n, m in members.items()}
        if isinstance(members, dict)
        else {}
    )
    if isinstance(header, dict) and header.get("sha256") == old["header"]["sha256"]:
        header = header | {"sha256": {n: hashlib.sha256(m).hexdigest() for n, m in members.items()}}
    return _close_zip({"replay.json": written_json(header)} | members, old)


# Records of Waymo: check sums around messages of protobuf.


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("too long")


def _message(data: bytes, depth: int = 0) -> list[Any]:
    """Fields [number, wire type, value] of a message; a value that is itself one is a list."""
    found: list[Any] = []
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value = struct.unpack("<d" if wire == 1 else "<f", data[at : at + size])[0]
            at += size
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
            if len(value) != size:
                raise ValueError("cut short")
            with contextlib.suppress(ValueError, IndexError, struct.error):
                value = _message(value, depth + 1) if value and depth < 6 else value
        else:
            raise ValueError("no wire type")
        if not 0 < number < 200:
            raise ValueError("no field")
        found.append([number, wire, value])
    return found


def _of_message(tree: Any) -> bytes:
    out = b""
    for each in tree if isinstance(tree, list) else ():
        number, _, value = each if isinstance(each, list) and len(each) == 3 else (1, 0, each)
        number = number if isinstance(number, int) and 0 < number < 2**29 else 1
        if isinstance(value, bool | int):
            out += varint(number << 3) + varint(value)
        elif isinstance(value, float):
            wide = each[1] == 1 or abs(value) > 3e38 if isinstance(each, list) and len(each) == 3 else True
            out += varint(number << 3 | (1 if wide else 5)) + struct.pack("<d" if wide else "<f", value)
        elif value is not None:
            body = value if isinstance(value, bytes) else _of_message(value)
            body = value.encode(errors="replace") if isinstance(value, str) else body
            out += varint(number << 3 | 2) + varint(len(body)) + body
    return out


def _open_tfrecord(data: bytes) -> list[Any]:
    found, at = [], 0
    while at < len(data):
        size = struct.unpack("<Q", data[at : at + 8])[0]
        found.append(_message(data[at + 12 : at + 12 + size]))
        at += 16 + size
    return found


def _close_tfrecord(tree: Any, old: Any) -> bytes:
    out = b""
    for each in tree if isinstance(tree, list) else ():
        message = _of_message(each)
        length = struct.pack("<Q", len(message))
        out += (
            length + struct.pack("<I", masked_crc(length)) + message + struct.pack("<I", masked_crc(message))
        )
    return out


# Policies and checkpoints.


def _open_sealed(data: bytes) -> dict[str, Any]:
    """Metadata and tensors of a file of ours."""
    size = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + size])["__metadata__"]
    from safetensors.torch import load

    tensors = {name: value.numpy() for name, value in sorted(load(data).items())}
    return {"metadata": json.loads(about["metadata"]), "tensors": tensors, "format": about["format"]}


def _close_sealed(tree: Any, old: Any) -> bytes:
    from safetensors.torch import save

    tensors = {}
    for name, values in tree.get("tensors", {}).items() if isinstance(tree.get("tensors"), dict) else ():
        try:
            tensors[str(name)] = torch.from_numpy(np.array(values)).contiguous()
        except (TypeError, ValueError, RuntimeError):
            tensors[str(name)] = torch.zeros(1)
    text = written_json(tree.get("metadata")).decode(errors="replace")
    header = {"metadata": text, "sha256": checkpoint._digest(tensors, text)}
    return save(tensors, metadata=header | ({"format": str(tree["format"])} if "format" in tree else {}))


def _open_safetensors(data: bytes) -> dict[str, Any]:
    size = int.from_bytes(data[:8], "little")
    return {"header": json.loads(data[8 : 8 + size]), "size": size, "data": data[8 + size :]}


def _close_safetensors(tree: Any, old: Any) -> bytes:
    header = written_json(tree.get("header"))
    said = tree.get("size")
    size = said if isinstance(said, int) and said != old["size"] else len(header)
    body = tree.get("data")
    return (size % 2**64).to_bytes(8, "little") + header + (body if isinstance(body, bytes) else b"")


# Pictures and text.


def _open_png(data: bytes) -> list[Any]:
    found, at = [], 8
    while at < len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        found.append([data[at + 4 : at + 8].decode("latin-1"), data[at + 8 : at + 8 + size]])
        at += 12 + size
    return found


def _close_png(tree: Any, old: Any) -> bytes:
    out = b"\x89PNG\r\n\x1a\n"
    for each in tree if isinstance(tree, list) else ():
        kind, body = each if isinstance(each, list) and len(each) == 2 else ("tEXt", b"")
        kind = str(kind).encode("latin-1", "replace")[:4].ljust(4, b"x")
        body = body if isinstance(body, bytes) else b""
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return out


_BETWEEN = re.compile(r"([\s,:;<>=\[\]\"]+)")


def _open_text(data: bytes) -> list[Any]:
    return [_BETWEEN.split(line) for line in data.decode().splitlines(keepends=True)]


def _close_text(tree: Any, old: Any) -> bytes:
    lines = (
        line if isinstance(line, list) else [line] for line in (tree if isinstance(tree, list) else [tree])
    )
    return "".join(str(word) for line in lines for word in line).encode(errors="replace")


def _open_xml(data: bytes) -> dict[str, Any]:
    def tree(element: ElementTree.Element) -> dict[str, Any]:
        children = [tree(each) for each in element]
        return {
            "tag": element.tag,
            "attributes": dict(element.attrib),
            "text": element.text or "",
            "children": children,
        }

    return tree(ElementTree.fromstring(data))


def _close_xml(tree: Any, old: Any) -> bytes:
    def element(tree: Any, depth: int = 0) -> ElementTree.Element:
        tree = tree if isinstance(tree, dict) else {"tag": str(tree)}
        made = ElementTree.Element(str(tree.get("tag", "x")) or "x")
        attributes = tree.get("attributes")
        for key, value in attributes.items() if isinstance(attributes, dict) else ():
            made.set(str(key) or "x", str(value))
        made.text = str(tree.get("text", ""))
        children = tree.get("children")
        for each in children if isinstance(children, list) and depth < 30 else ():
            made.append(element(each, depth + 1))
        return made

    return ElementTree.tostring(element(tree))


CONTAINERS = (
    Container(
        "xml",
        lambda name, data: data.lstrip()[:1] == b"<" and _opens(_open_xml, data),
        _open_xml,
        _close_xml,
        [*STRANGE, *WORDS],
    ),
    Container("json", _is_json, json.loads, lambda tree, _: written_json(tree), [*STRANGE, *RAW, *WORDS]),
    Container(
        "pickle",
        lambda name, data: data[:1] == b"\x80" and data[-1:] == b"." and _opens(pickle.loads, data),
        pickle.loads,
        lambda tree, _: pickle.dumps(tree, 4),
        [*STRANGE_IN_PICKLES, 10**5000, *WORDS],
    ),
    Container(
        "gzip",
        lambda name, data: data[:2] == b"\x1f\x8b",
        lambda data: {"content": gzip.decompress(data)},
        lambda tree, _: gzip.compress(c if isinstance(c := tree.get("content"), bytes) else b"", 1, mtime=0),
    ),
    Container(
        "xz",
        lambda name, data: data[:6] == b"\xfd7zXZ\0",
        lambda data: {"content": lzma.decompress(data)},
        lambda tree, _: lzma.compress(c if isinstance(c := tree.get("content"), bytes) else b"", preset=0),
    ),
    Container(
        "npy", lambda name, data: data[:6] == b"\x93NUMPY", _open_npy, _close_npy, [*STRANGE_IN_PICKLES]
    ),
    Container("zip", lambda name, data: data[:4] == b"PK\x03\x04", _open_zip, _close_zip),
    Container(
        "sealed replay",
        lambda name, data: data[:4] == b"PK\x03\x04" and b"replay.json" in data[:200],
        _open_replay,
        _close_replay,
        [*STRANGE, *RAW, *WORDS],
    ),
    Container(
        "arrow",
        lambda name, data: data[:6] == b"ARROW1" and _opens(_open_table(_read_arrow), data),
        _open_table(_read_arrow),
        lambda tree, old: _close_table(tree, old, _write_arrow),
        [s for s in STRANGE if s != "\ud800"],
    ),
    Container(
        "parquet",
        lambda name, data: data[:4] == b"PAR1" and _opens(_open_table(pq.read_table), data),
        _open_table(pq.read_table),
        lambda tree, old: _close_table(tree, old, lambda table, out: pq.write_table(table, out)),
        [s for s in STRANGE if s != "\ud800"],
    ),
    Container(
        "sealed record",
        lambda name, data: (
            data[8:12] == struct.pack("<I", masked_crc(data[:8])) and _opens(_open_tfrecord, data)
        ),
        _open_tfrecord,
        _close_tfrecord,
        [
            None,
            True,
            -1,
            0,
            2**63,
            1e308,
            float("nan"),
            float("inf"),
            "",
            "x",
            "\ud800",
            [],
            [[]],
            b"\xff" * 12,
        ],
    ),
    Container(
        "sealed policy",
        lambda name, data: name.endswith(".safetensors") and _opens(_open_sealed, data),
        _open_sealed,
        _close_sealed,
        [*STRANGE, *RAW, *WORDS],
    ),
    Container(
        "safetensors",
        lambda name, data: name.endswith(".safetensors") and _opens(_open_safetensors, data),
        _open_safetensors,
        _close_safetensors,
        [*STRANGE, *RAW, *HUGE] if (HUGE := (2**31, 2**40, 2**63)) else [],
    ),
    Container("png", lambda name, data: data[:8] == b"\x89PNG\r\n\x1a\n", _open_png, _close_png),
    Container(
        "text",
        lambda name, data: (
            not name.endswith((".json", ".zarray")) and b"\0" not in data and _opens(_open_text, data)
        ),
        _open_text,
        _close_text,
        [*WORDS],
    ),
)


def mutated(name: str, data: bytes, rng: np.random.Generator, depth: int = 0) -> tuple[bytes, str]:
    """A file with something in it changed, and what was done: `bytes`, or `gzip: pickle: other value`."""
    fitting = [each for each in CONTAINERS if each.fits(name, data)]
    if not fitting or rng.random() < (0.3 if depth == 0 else 0.15):
        return of_bytes(data, rng)
    container = fitting[rng.integers(len(fitting))]
    old = container.open(data)
    tree, kind = of_tree(
        old, rng, container.strange, lambda inner, part, rng: mutated(inner, part, rng, depth + 1)
    )
    try:
        return container.close(tree, old), f"{container.name}: {kind}"
    except Exception:  # a value that this container cannot hold
        return of_bytes(data, rng)


_BLOCK = 16 << 20


def bomb() -> bytes:
    """A gzip file of 1.5 MB that holds 1.5 GiB."""
    return gzip.compress(bytes(_BLOCK), 9, mtime=0) * 96
