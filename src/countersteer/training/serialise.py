"""Frozen dataclass trees as JSON: recipes and policy specs travel with their runs in it."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from countersteer.errors import UserError, did_you_mean

__all__ = ["differences", "from_json", "to_json"]


def to_json(tree: Any) -> Any:
    """A tree of dataclasses, enums, tuples, paths and plain values as JSON.

    A dataclass becomes {"type": "module:Class", field: ...}, an enum {"enum": "module:Class", "name": ...},
    a tuple {"tuple": [...]}.

    Raises:
        UserError: The tree holds something else, for example a function.
    """
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {field.name: to_json(getattr(tree, field.name)) for field in dataclasses.fields(tree)}
        return {"type": _name(type(tree))} | fields
    if isinstance(tree, Enum):
        return {"enum": _name(type(tree)), "name": tree.name}
    if isinstance(tree, tuple):
        return {"tuple": [to_json(item) for item in tree]}
    if isinstance(tree, Path):
        return str(tree)
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise UserError(
        "a recipe holds a value that cannot be written down",
        got=f"{type(tree).__name__}: {tree!r}",
        expected="frozen dataclasses, enums, tuples, numbers, text, or None",
        fix="put what it does into a frozen dataclass",
    )


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _find(name: str, extra_modules: Sequence[ModuleType]) -> type:
    module_name, _, qualified = name.partition(":")
    known = {module.__name__: module for module in extra_modules}
    if module_name in known:
        module = known[module_name]
    elif module_name.split(".")[0] == "countersteer":
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            module = None
    else:
        raise UserError(
            f"a file asks for {name}, which lies outside countersteer",
            got=module_name,
            expected="a module of countersteer, or of the recipe file that you name",
            fix="give the recipe file the run was made from",
        )
    found: Any = module
    for part in qualified.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not (dataclasses.is_dataclass(found) or issubclass(found, Enum)):
        raise UserError(
            f"a file asks for {name}, which this version does not have",
            got=name,
            expected="a dataclass or an enum of this version",
            fix="use the version of countersteer that wrote the file",
        )
    return found


def from_json(data: Any, *, extra_modules: Sequence[ModuleType] = ()) -> Any:
    """The tree that `to_json` wrote. Nothing but dataclasses and enums is built.

    Args:
        data: Parsed JSON.
        extra_modules: Modules besides countersteer whose types may be built (a user's recipe file).

    Raises:
        UserError: A type or a field is unknown or missing.
    """
    if not isinstance(data, dict):
        return data
    if "tuple" in data:
        return tuple(from_json(item, extra_modules=extra_modules) for item in data["tuple"])
    if "enum" in data:
        kind: Any = _find(data["enum"], extra_modules)
        if data["name"] not in kind.__members__:
            raise UserError(
                f"{data['enum']} has no member {data['name']}", expected=did_you_mean(data["name"], kind.__members__)
            )
        return kind[data["name"]]
    if "type" not in data:
        raise UserError("a stored tree has an object without a type", got=sorted(data), expected='a field "type"')
    kind = _find(data["type"], extra_modules)
    names = [field.name for field in dataclasses.fields(kind)]
    given = {name: value for name, value in data.items() if name != "type"}
    for name in given:
        if name not in names:
            raise UserError(
                f"{data['type']} has no field {name!r}", got=name, expected=did_you_mean(name, names),
                fix="use the version of countersteer that wrote the file",
            )  # fmt: skip
    for name in names:
        if name not in given:
            raise UserError(
                f"{data['type']} lacks its field {name!r}", got=sorted(given), expected=name,
                fix="use the version of countersteer that wrote the file",
            )  # fmt: skip
    return kind(**{name: from_json(value, extra_modules=extra_modules) for name, value in given.items()})


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two stored trees differ, as "dotted.path: old -> new"."""
    if isinstance(a, dict) and isinstance(b, dict) and a.get("type") == b.get("type"):
        if "tuple" in a and "tuple" in b and len(a["tuple"]) == len(b["tuple"]):
            pairs = [(str(k), x, y) for k, (x, y) in enumerate(zip(a["tuple"], b["tuple"], strict=True))]
        elif a.keys() == b.keys() and "tuple" not in a:
            pairs = [(key, a[key], b[key]) for key in a]
        else:
            return [f"{path}: {_short(a)} -> {_short(b)}"]
        return [line for key, x, y in pairs for line in differences(x, y, f"{path}.{key}" if path else key)]
    return [] if a == b else [f"{path}: {_short(a)} -> {_short(b)}"]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("type") or value.get("name") or "...").split(":")[-1]
    return repr(value)
