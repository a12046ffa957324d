"""Protobuf messages from a table of their fields.

Names and numbers of the fields that are read stand in a table; others are skipped. The classes are built from it when the
first file is read, so that there is no generated code that has to fit the installed protobuf.
"""

from __future__ import annotations

from typing import Any

__all__ = ["message_class", "parse_message"]


def message_class(package: str, schema: dict[str, str], root: str) -> Any:
    """The class of a message.

    Args:
        package: Name of the form, unique in the process.
        schema: Of every message its fields: `kind name number`, separated by `, `; a kind is another message or a
            scalar type of protobuf, with `*` where the field repeats. Enumerations are read as numbers.
        root: The message.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    package = f"countersteer.{package}"
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}.proto", package=package, syntax="proto2"
    )
    for message, fields in schema.items():
        described = file.message_type.add(name=message)
        for entry in fields.split(", "):
            kind, name, number = entry.split()
            field = described.field.add(name=name, number=int(number))
            field.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind in schema:
                field.type, field.type_name = field.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{root}"))


def parse_message(kind: Any, data: bytes) -> Any:
    """The message of a class in some bytes; absent fields have their defaults (0, empty).

    Raises:
        ValueError: The bytes are no such message.
    """
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ValueError(str(error)) from error
