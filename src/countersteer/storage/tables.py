"""Arrow and Parquet tables of unknown origin: what their pages and buffers declare is added up before any is unpacked.

Columns of plain numbers and text are read, and lists of them; columns of other types are left out, because some of them
take no bytes a row and others name one value many times. The headers of Arrow messages (flatbuffers) and of Parquet pages
(Thrift) are parsed here as far as their sizes need it, because pyarrow does not hand them out. So is what a Parquet file
says of its columns: pyarrow hands that out, but ends the process where it is damaged.

References: arrow.apache.org/docs/format/Columnar.html, github.com/apache/parquet-format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from countersteer.errors import reading
from countersteer.storage.files import MAX_BYTES, check_size

__all__ = ["MAX_ROWS", "parse_table"]

MAX_ROWS = 2_000_000
"""Most rows of a table."""

_MOST_COLUMNS = 1000
_MOST_METADATA = 4 << 20  # bytes of what a Parquet file says of itself: it is parsed in Python
_DEEPEST = 8  # structures within structures of it
_DELTA_BYTE_ARRAY = 7  # a Parquet encoding by which a few bytes repeat a long text
_DICTIONARY_BATCH, _RECORD_BATCH = "dictionary", "record batch"


def parse_table(content: bytes, name: str | Path, limit: int = MAX_BYTES) -> Any:
    """The `pyarrow.Table` in the bytes of a Parquet or Arrow IPC (Feather) file, validated in full.

    Args:
        content: The file's bytes.
        name: What messages call it.
        limit: Most bytes that its buffers may take.

    Raises:
        UserError: It is neither, is damaged, or declares more than `limit` bytes or `MAX_ROWS` rows.
    """
    with reading(
        name,
        "is not a whole table",
        expected="a Parquet or Feather file",
        fix="the file is cut short or damaged; download it again",
    ):
        table = _parquet(content, name, limit) if content[:4] == b"PAR1" else _ipc(content, name, limit)
        check_size(name, "bytes of buffers", table.nbytes, limit)  # buffers may lie upon one another
        table.validate(full=True)
        return table


def _plain(kind: Any, lists: bool = True) -> bool:
    """Whether every value of a type takes bytes of its own."""
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or (pa.types.is_fixed_size_list(kind) and kind.list_size > 0)
    if is_list:
        return lists and _plain(kind.value_type)
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type, lists=False)
    kinds = ("integer", "floating", "boolean", "string", "large_string")
    return any(getattr(pa.types, f"is_{each}")(kind) for each in kinds)


def _ipc(content: bytes, name: str | Path, limit: int) -> Any:
    import pyarrow as pa

    whole = pa.py_buffer(content)
    footer = pa.ipc.open_file(pa.BufferReader(whole))
    batches = rows = size = 0
    stream = whole.slice(8)
    messages = pa.BufferReader(stream)
    while True:
        try:
            message = pa.ipc.read_message(messages)
        except EOFError:
            break
        if message.type not in (_DICTIONARY_BATCH, _RECORD_BATCH):
            continue
        length, declared = _declared(message)
        size += declared
        check_size(name, "bytes of buffers", declared, limit)
        check_size(name, "bytes of buffers", size, limit)
        if message.type == _RECORD_BATCH:
            batches, rows = batches + 1, rows + length
    check_size(name, "rows", rows, MAX_ROWS)
    if footer.num_record_batches != batches:
        raise ValueError(f"{footer.num_record_batches} batches are listed, {batches} are there")
    # Read in the order in which it was looked at: the list at the end may name one batch many times.
    kept = [place for place, column in enumerate(footer.schema) if _plain(column.type)]
    check_size(name, "columns", len(footer.schema), _MOST_COLUMNS)
    options = pa.ipc.IpcReadOptions(included_fields=kept, use_threads=False)
    with pa.ipc.open_stream(pa.BufferReader(stream), options=options) as reader:
        return reader.read_all()


def _declared(message: Any) -> tuple[int, int]:
    """Rows of a batch, and the bytes that its buffers take once they are unpacked."""
    header, body = message.metadata.to_pybytes(), message.body

    def number(at: int, kind: str) -> int:
        return struct.unpack_from(f"<{kind}", header, at)[0]

    def field(table: int, index: int) -> int:
        """Where a field of a flatbuffer table lies; 0 if it is absent."""
        vtable = table - number(table, "i")
        at = 4 + 2 * index
        offset = number(vtable + at, "H") if at < number(vtable, "H") else 0
        return table + offset if offset else 0

    def target(at: int) -> int:
        return at + number(at, "I")

    batch = target(field(target(0), 2))
    if message.type == _DICTIONARY_BATCH:
        batch = target(field(batch, 1))
    length, buffers = field(batch, 0), field(batch, 2)
    rows = number(length, "q") if length else 0
    if not buffers or not field(batch, 3):
        return rows, body.size if body is not None else 0
    vector, total = target(buffers), 0
    for entry in range(number(vector, "I")):
        offset, packed = struct.unpack_from("<qq", header, vector + 4 + 16 * entry)
        if packed >= 8:
            (unpacked,) = struct.unpack("<q", body.slice(offset, 8).to_pybytes())
            if unpacked < -1:
                raise ValueError("a buffer of negative length")
            total += packed if unpacked == -1 else unpacked
    return rows, total


def _parquet(content: bytes, name: str | Path, limit: int) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    groups = _row_groups(content, name)
    file = pq.ParquetFile(pa.BufferReader(content))
    about, schema = file.metadata, file.schema_arrow
    check_size(name, "rows", about.num_rows, MAX_ROWS)
    check_size(name, "columns", about.num_columns, _MOST_COLUMNS)
    columns = [
        column.name
        for column in schema
        if _plain(column.type, lists=False) and schema.names.count(column.name) == 1
    ]
    read = [place for place in range(about.num_columns) if file.schema.column(place).path in columns]
    size = about.num_rows * 8 * len(columns)  # runs of one number take no bytes in the file
    check_size(name, "bytes of columns", size, limit)
    for place in read:
        chunks = [group[1][place][3] for group in groups]
        check_size(name, "values of a column", sum(chunk[5] for chunk in chunks), MAX_ROWS)
        for unpacked in (bytes_ for chunk in chunks for bytes_ in _pages(content, chunk)):
            size += unpacked
            check_size(name, "bytes of pages", unpacked, limit)
            check_size(name, "bytes of pages", size, limit)
    text = [each for each in columns if str(schema.field(each).type) in ("string", "large_string")]
    file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=text, pre_buffer=False)
    return file.read(columns=columns, use_threads=False)


def _row_groups(content: bytes, name: str | Path) -> list[dict[int, Any]]:
    """Row groups as the end of the file lists them. pyarrow ends the process where it hands out damaged ones."""
    (length,) = struct.unpack_from("<I", content, len(content) - 8)
    check_size(name, "bytes of metadata", length, _MOST_METADATA)
    start = len(content) - 8 - length
    if start < 4 or content[-4:] != b"PAR1":
        raise ValueError("the end of a Parquet file is missing")
    return _thrift(content, start)[0][4]


def _pages(content: bytes, chunk: dict[int, Any]) -> Iterator[int]:
    """Bytes of each page of a column chunk once it is unpacked, as its header declares them."""
    at = min(chunk[9], chunk.get(11) or chunk[9])  # pages of data, the dictionary before them
    end = at + chunk[7]
    if not 0 < at <= end <= len(content):
        raise ValueError("a column lies outside the file")
    while at < end:
        page, at = _thrift(content, at)
        unpacked, packed = page.get(2, -1), page.get(3, -1)
        if not (isinstance(packed, int) and isinstance(unpacked, int) and packed >= 0):
            raise ValueError("a page without a size")
        if _DELTA_BYTE_ARRAY in (page.get(5, {}).get(2), page.get(8, {}).get(4)):
            raise ValueError("text in an encoding that repeats itself")
        yield unpacked
        at += packed


def _thrift(content: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Fields of a structure in Thrift's compact protocol, by number, and where it ends."""
    fields: dict[int, Any] = {}
    number = 0
    while (byte := content[at]) != 0:
        at, kind = at + 1, byte & 15
        if byte >> 4:
            number += byte >> 4
        else:
            number, at = _varint(content, at)
            number = (number >> 1) ^ -(number & 1)
        if number in fields:
            raise ValueError("a field that is stated twice")
        if kind in (1, 2):
            fields[number] = kind == 1
        else:
            fields[number], at = _thrift_value(content, at, kind, depth)
    return fields, at + 1


def _thrift_value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """A value of a field or a list, and where it ends; text as bytes, floats as None."""
    if kind in (1, 2, 3):
        return content[at], at + 1
    if kind in (4, 5, 6):
        value, at = _varint(content, at)
        return (value >> 1) ^ -(value & 1), at
    if kind == 7:
        return None, at + 8
    if kind == 8:
        size, at = _varint(content, at)
        return content[at : at + size], at + size
    if kind == 9:
        size, kind, at = content[at] >> 4, content[at] & 15, at + 1
        if size == 15:
            size, at = _varint(content, at)
        items = []
        for _ in range(size):
            item, at = _thrift_value(content, at, kind, depth)
            items.append(item)
        return items, at
    if kind == 12 and depth < _DEEPEST:
        return _thrift(content, at, depth + 1)
    raise ValueError("a header of an unknown form")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of variable length, and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number that does not end")
