"""Frozen dataclass trees as JSON: recipes and policy specs travel with their runs in it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import json
import math
import types
import typing
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, cast

from countersteer.errors import UserError, did_you_mean
from countersteer.storage.moved import present

__all__ = ["checked", "differences", "fingerprint", "from_json", "to_json"]

_NEWER = "use the version of countersteer that wrote the file"


def to_json(tree: Any) -> Any:
    """A tree of dataclasses, enums, tuples, paths and plain values as JSON.

    A dataclass becomes {"type": "module:Class", field: ...}, an enum {"enum": "module:Class", "name": ...},
    a tuple {"tuple": [...]}, a path {"path": ...}. Floats come back bit for bit; those that JSON cannot
    write become {"float": "nan" | "inf" | "-inf"}.

    Raises:
        UserError: The tree holds something else, for example a function; the message says where.
    """
    return _to_json(tree, "")


def fingerprint(tree: Any, *, of: dict[type, Callable[[Any], str]] | None = None) -> str:
    """SHA-256 of everything that a tree holds; two trees share it only if no field of them differs.

    A function at the top of its module counts by its name. A field that was added later, and holds what its `absent`
    says, is left out: trees from before it keep their fingerprint.

    Args:
        tree: As for `to_json`.
        of: What stands for values of these types, which `to_json` cannot write or should not look into.

    Raises:
        UserError: The tree holds something else; the message says where.
    """
    return hashlib.sha256(json.dumps(_to_json(tree, "", of or {}), sort_keys=True).encode()).hexdigest()


def _to_json(value: Any, path: str, of: dict[type, Callable[[Any], str]] | None = None) -> Any:
    """See `to_json`; with `of`, see `fingerprint`."""
    if of is not None:
        if type(value) in of:
            return of[type(value)](value)
        if isinstance(value, FunctionType):
            return {"function": _name(value, path)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        if "type" in names:
            raise _refused(path, value, "dataclasses without a field called `type`", "rename the field")
        if of is not None:
            later = {
                f.name: f.metadata["absent"] for f in dataclasses.fields(value) if "absent" in f.metadata
            }
            names = [n for n in names if n not in later or not _same(later[n], getattr(value, n))]
        return {"type": _name(type(value), path)} | {
            name: _to_json(getattr(value, name), _join(path, name), of) for name in names
        }
    if isinstance(value, Enum):
        return {"enum": _name(type(value), path), "name": value.name}
    if isinstance(value, tuple):
        return {"tuple": [_to_json(item, _join(path, k), of) for k, item in enumerate(value)]}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(float(value))}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise _refused(
        path,
        value,
        "frozen dataclasses, enums, tuples, paths, numbers, text, or None",
        "put what it does into a frozen dataclass",
    )


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _refused(path: str, value: Any, expected: str, fix: str) -> UserError:
    return UserError(
        f"the value at {path!r} cannot be written down" if path else "the value cannot be written down",
        got=f"{type(value).__name__}: {value!r}",
        expected=expected,
        fix=fix,
    )


def _name(named: type | FunctionType, path: str) -> str:
    kind = "class" if isinstance(named, type) else "function"
    if "<" in named.__qualname__:  # "<locals>", "<lambda>": others go by the same name
        expected = f"a {kind} at the top of its module"
        raise _refused(path, named, expected, f"define the {kind} there, with a name")
    return f"{named.__module__}:{named.__qualname__}"


def from_json(data: Any, *, extra_modules: Sequence[ModuleType] = ()) -> Any:
    """The tree that `to_json` wrote. Nothing but dataclasses and enums is built.

    A field that was added later, as `field(default=..., metadata={"absent": value})`, may be missing: files from before
    it stand for that value, whatever the default has become.

    Args:
        data: Parsed JSON.
        extra_modules: Modules besides countersteer whose types may be built (a user's recipe file).

    Raises:
        UserError: A type lies outside those modules, a type or field is unknown or missing, or a value is not of the
            field's type or range.
    """
    try:
        return _from_json(data, extra_modules)
    except RecursionError as error:
        got = "values within values within values"
        raise UserError("a stored tree is nested too deeply", got=got, fix="restore the file") from error


def _from_json(data: Any, extra_modules: Sequence[ModuleType]) -> Any:
    if data is None or isinstance(data, bool | int | float | str):
        return data
    if isinstance(data, dict):
        try:
            data = present(data)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"a stored {str(data.get('type'))[:80]} is not as any version wrote it",
                got=f"{type(error).__name__}: {str(error)[:80]}",
                expected="the fields of that version",
                fix="restore the file as it was written",
            ) from error
    match data:
        case {"type": str(name), **given}:
            kind = _find(name, extra_modules)
            if not dataclasses.is_dataclass(kind):
                raise UserError(f"{name} is not a dataclass", got=name, fix=_NEWER)
            fields = [field for field in dataclasses.fields(kind) if field.init]
            # What a field meant in files from before it existed, where its author has said so.
            later = {f.name: f.metadata["absent"] for f in fields if "absent" in f.metadata}
            _check_fields(name, [field.name for field in fields], later | given)
            read = {key: _from_json(item, extra_modules) for key, item in given.items()}
            return _built(kind, name, later | read)
        case {"enum": str(name), "name": str(member)}:
            kind = _find(name, extra_modules)
            members = getattr(kind, "__members__", {})
            if member not in members:
                raise UserError(
                    f"{name} has no member {member!r}",
                    got=member,
                    expected=did_you_mean(member, members),
                    fix=_NEWER,
                )
            return members[member]
        case {"tuple": list(items)}:
            return tuple(_from_json(item, extra_modules) for item in items)
        case {"path": str(path)}:
            return Path(path)
        case {"float": "nan" | "inf" | "-inf" as number}:
            return float(number)
    raise UserError(
        "a stored tree holds something that `to_json` does not write",
        got=repr(data)[:120],
        expected='a plain value, or an object with "type", "enum", "tuple", "path" or "float"',
        fix="restore the file as it was written",
    )


def _built(kind: type, name: str, values: dict[str, Any]) -> Any:
    """A dataclass of values whose types are those of its fields, or that are their defaults."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    for field, hint in _hints(kind).items():
        value = values.get(field, _ABSENT)
        if value is not _ABSENT and value is not defaults.get(field, _ABSENT) and not _fits(value, hint):
            raise UserError(
                f"`{field}` of {name} is of another type",
                got=repr(values[field])[:120],
                expected=hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", ""),
                fix=f"set `{field}` as it was written, or {_NEWER}",
            )
    try:
        return kind(**values)
    except UserError:
        raise
    except Exception as error:
        # Fields whose types say less than their class asks of them.
        raise UserError(
            f"{name} cannot have such values",
            got=f"{type(error).__name__}: {str(error)[:160]}",
            expected="values as they were written",
            fix=f"restore the file, or {_NEWER}",
        ) from error


Record = typing.TypeVar("Record")


def checked(record: Record) -> Record:
    """A dataclass that was filled from a file, if its values are of the types of its fields.

    Raises:
        ValueError: One is not; the caller says of which file.
    """
    for field, hint in _hints(type(record)).items():
        if not _fits(value := getattr(record, field), hint):
            raise ValueError(f"{field!r} of a {type(record).__name__} is {value!r:.80}")
    return record


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Types of the fields of a dataclass; none where they cannot be told, as of names that only a type checker sees."""
    try:
        return typing.get_type_hints(kind)
    except Exception:
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a stored value may be of a type; what is no plain type fits always."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple or hint is tuple:
        if not isinstance(value, tuple):
            return False
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            each: Any = {type(item): item for item in value}  # one of each type tells of plain ones
            plain = each.keys() <= {int, bool, str, type(None)} or arguments[0] in (float, str, bool)
            return all(_fits(item, arguments[0]) for item in (each.values() if plain else value))
        return not arguments or (
            len(value) == len(arguments)
            and all(_fits(item, each) for item, each in zip(value, arguments, strict=True))
        )
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, arguments[0]) and _fits(item, arguments[1]) for key, item in value.items()
        )
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float)
    if hint is int:  # some write 2.0 for a count
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if hint is bool:
        return isinstance(value, bool | int)
    ours = isinstance(hint, type) and not getattr(hint, "_is_protocol", False)
    ours = ours and hint.__module__.split(".")[0] not in ("jaxtyping", "typing", "builtins")
    return isinstance(value, hint) if ours or hint is str else True


def _find(name: str, extra_modules: Sequence[ModuleType]) -> type:
    """The dataclass or enum of that name, if it was defined in a module that files may build from."""
    module_name, _, qualified = name.partition(":")
    module = {module.__name__: module for module in extra_modules}.get(module_name)
    if module is None:
        if module_name.split(".")[0] != "countersteer":
            raise UserError(
                f"a file asks for {name}, which lies outside countersteer",
                got=module_name,
                expected="a module of countersteer, or of the recipe file that you name",
                fix="give the recipe that the run was made from: --recipe FILE.py:FUNCTION",
            )
        try:
            module = importlib.import_module(module_name)
        except (ImportError, ValueError):  # there is none, or no module can have such a name
            module = None
    found: Any = module
    for part in qualified.split("."):
        found = getattr(found, part, None)
    # A module also holds what it imports: a name must not lead through it to a type defined elsewhere.
    own = isinstance(found, type) and (found.__module__, found.__qualname__) == (module_name, qualified)
    if not own or not (dataclasses.is_dataclass(found) or issubclass(found, Enum)):
        raise UserError(
            f"a file asks for {name}, which this version does not have",
            got=name,
            expected="a dataclass or an enum of this version",
            fix=_NEWER,
        )
    return cast(type, found)


def _check_fields(name: str, known: list[str], given: dict[str, Any]) -> None:
    for field in given:
        if field not in known:
            raise UserError(
                f"{name} has no field {field!r}", got=field, expected=did_you_mean(field, known), fix=_NEWER
            )
    # Defaults do not stand in: they may have changed since, and the run would silently be another.
    for field in known:
        if field not in given:
            raise UserError(
                f"{name} lacks its field {field!r}", got=sorted(given), expected=field, fix=_NEWER
            )


_ABSENT = object()


def differences(a: Any, b: Any) -> list[str]:
    """Where two stored trees differ, as "dotted.path: old -> new", in the order of the fields.

    Args:
        a: The old tree, as `to_json` wrote it. A file of another version will do: no type is built.
        b: The new one.
    """
    return _differences(a, b, "")


def _differences(a: Any, b: Any, path: str) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.get("type") == b.get("type"):
        if "tuple" in a and "tuple" in b:
            a, b = ({str(k): item for k, item in enumerate(tree["tuple"])} for tree in (a, b))
        elif "type" not in a:
            return [] if _same(a, b) else [f"{path}: {_short(a)} -> {_short(b)}"]
        return [
            line
            for key in dict.fromkeys([*a, *b])
            for line in _differences(a.get(key, _ABSENT), b.get(key, _ABSENT), _join(path, key))
        ]
    return [] if _same(a, b) else [f"{path}: {_short(a)} -> {_short(b)}"]


def _same(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)  # True == 1, and is another setting


def _short(value: Any) -> str:
    match value:
        case {"type": name}:
            return str(name).split(":")[-1]
        case {"enum": _, "name": member}:
            return str(member)
        case {"tuple": items}:
            return "(" + ", ".join(_short(item) for item in items) + ")"
        case {"path": text} | {"float": text}:
            return str(text)
    return "(absent)" if value is _ABSENT else repr(value)
