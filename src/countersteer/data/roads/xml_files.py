"""XML of unknown origin: bounded, without entities, and with values that are what they should be."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from countersteer.errors import UserError
from countersteer.storage.files import MAX_MEMORY, check_size, read_bytes

__all__ = ["integer", "number", "parse", "read_root"]


class _WithoutEntities(ElementTree.TreeBuilder):
    """A document type could declare entities, which grow without end or name files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise UserError(
            "the file declares a document type",
            got=f"<!DOCTYPE {str(name)[:40]}",
            expected="plain XML, without entities",
            fix="take the line with <!DOCTYPE out of the file",
        )


def parse(content: bytes, name: str | Path) -> ElementTree.Element:
    """The root of some XML.

    Args:
        content: The XML.
        name: What messages call it.

    Raises:
        UserError: It is no XML, declares a document type, or would take more memory than `MAX_MEMORY`.
    """
    # What CPython takes for an element with its dictionary and for an attribute.
    estimate = len(content) + 150 * content.count(b"<") + 120 * content.count(b"=")
    check_size(name, "bytes of memory for its elements", estimate, MAX_MEMORY)
    parser = ElementTree.XMLParser(target=_WithoutEntities())
    try:
        parser.feed(content)
        return parser.close()
    except ElementTree.ParseError as error:
        raise UserError(
            f"{name} is not valid XML",
            got=error,
            expected="a whole XML file",
            fix="the file is cut short or damaged; download it again",
        ) from error


def read_root(path: Path) -> ElementTree.Element:
    """The root of an XML file, which may be gzipped; raises `UserError` as `read_bytes` and `parse` do."""
    return parse(read_bytes(path), path)


def number(element: ElementTree.Element, name: str, default: float | None = None) -> float:
    """A finite number in an attribute.

    Args:
        element: The element.
        name: Of the attribute.
        default: Taken where the attribute is absent or empty; None where it must be there.

    Raises:
        UserError: It is absent without a default, or no finite number.
    """
    text = element.get(name)
    if not text and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"<{element.tag}> {element.get('id', '')!r} has a wrong {name!r}",
            got=repr(text),
            expected="a finite number",
        )
    return value


def integer(element: ElementTree.Element, name: str, default: int | None = None) -> int:
    """A whole number in an attribute; arguments and errors as of `number`."""
    value = number(element, name, None if default is None else float(default))
    if value != int(value):
        raise UserError(
            f"<{element.tag}> {element.get('id', '')!r} has a wrong {name!r}",
            got=repr(element.get(name)),
            expected="a whole number",
        )
    return int(value)
