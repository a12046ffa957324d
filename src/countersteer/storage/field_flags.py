"""Every field of a frozen tree as a flag: `--optim.steps 500`, `--scenarios.sources.0.count 30`, `--policy ViTPlannerSpec`.

The tree's present values say what there is, because its fields are often typed by an abstract base: the concrete
class that stands there offers its fields, and a flag of the field's own name takes another class.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from countersteer.errors import UserError, did_you_mean
from countersteer.ranges import declared_types, ranges_of
from countersteer.storage.words import read, with_range

__all__ = ["field_docs", "flags", "override", "tree_rules", "word_type"]

_Choice = tuple[type | None, ...]
_Field = tuple[str, Any, Any]
"""Name, type and default."""


def override(
    trees: Mapping[str, Any],
    words: Sequence[str],
    prog: str,
    *,
    shown: Sequence[_Field] = (),
    taken: Collection[str] = (),
    description: str = "",
) -> list[Any]:
    """Trees with the fields that words give.

    Args:
        trees: By name: `--NAME.optim.steps 500`; of a tree without a name `--optim.steps 500`.
        words: Flags and values.
        prog: Command to name in errors.
        shown: Other flags that the help shows. Words do not change them.
        taken: Fields of which no class can be chosen, because a flag of their name means something else.
        description: What the help begins with.

    Raises:
        UserError: There is no such flag, or it does not take such a value.
    """
    fields, changed, known, rest = list(shown), [], [], list(words)
    for name, tree in trees.items():
        prefix = f"{name}." if name else ""
        tree, rest = _take_classes(tree, rest, prefix)
        changed.append(f"tree_{len(changed)}")
        fields.append((changed[-1], Annotated[type(tree), tyro.conf.arg(name=name)], tree))
        known += flags(tree, prefix)
    for name, _, default in shown:
        known += [f.name for f in dataclasses.fields(default)] if _is_node(default) else [name]
    said = read(
        dataclasses.make_dataclass("_Said", fields),
        rest,
        prog=prog,
        known=known,
        hint=f"{prog} --help lists every field",
        registry=tree_rules(taken),
        use_underscores=True,
        config=(),
        description=description,
    )
    return [getattr(said, name) for name in changed]


def tree_rules(taken: Collection[str] = ()) -> ConstructorRegistry:
    """Rules by which tyro reads a frozen tree that is given as the default."""
    rules = ConstructorRegistry()

    @rules.struct_rule
    def tree(info: StructTypeInfo) -> StructConstructorSpec | None:
        value = info.default
        if not _is_node(value) or len(_members(info.type)) > 1:  # a union is of words: `word_type`
            return None
        if isinstance(value, tuple):
            items = (StructFieldSpec(str(k), type(item), item) for k, item in enumerate(value))
            return StructConstructorSpec(lambda **given: tuple(given.values()), tuple(items))
        names = _names(value)
        fields = [spec for name in names for spec in _specs(value, name, name not in taken)]

        def build(**given: Any) -> Any:
            return dataclasses.replace(value, **{name: given[name] for name in names if name in given})

        return StructConstructorSpec(build, tuple(fields))

    return rules


def flags(tree: Any, prefix: str = "") -> Iterator[str]:
    """The names of all flags of a tree, without dashes."""
    for name, value in _children(tree):
        below = _is_below(tree, name, value)
        if not below or (not isinstance(tree, tuple) and len(_choices(tree, name)) > 1):
            yield prefix + name
        if below:
            yield from flags(value, f"{prefix}{name}.")


def _take_classes(tree: Any, words: list[str], prefix: str = "") -> tuple[Any, list[str]]:
    """Carry out the flags that put another class into a field (`--policy ViTPlannerSpec`).

    Returns:
        The tree, and the words that remain.

    Raises:
        UserError: There is no such class.
    """
    changed: dict[str, Any] = {}
    for name, value in _children(tree):
        flag, choices = f"--{prefix}{name}", () if isinstance(tree, tuple) else _choices(tree, name)
        text = None
        if len(choices) > 1:
            text, words = _take(flag, words)
        new = value if text is None else _chosen(flag, text, choices)
        if _is_below(tree, name, new):
            new, words = _take_classes(new, words, f"{prefix}{name}.")
        if new is not value:  # what did not change stays the same object
            changed[name] = new
    if isinstance(tree, tuple):
        return tuple(changed.get(name, value) for name, value in _children(tree)), words
    return dataclasses.replace(tree, **changed) if changed else tree, words


def _path_class(hint: Any) -> Any:
    """The class that a path alone makes a value of, `Weights("runs/teacher")`, if that is what a type asks for."""
    for member in _members(hint):
        if isinstance(member, type) and dataclasses.is_dataclass(member):
            needed = [
                f.name
                for f in dataclasses.fields(member)
                if f.init and f.default is f.default_factory is dataclasses.MISSING
            ]
            if needed == ["path"]:
                return member
    return None


def word_type(hint: Any, default: Any = None) -> Any:
    """The type by which tyro reads what has this annotation: one word for what a path makes; text where it knows no better."""
    kind = _path_class(hint)
    if kind is not None:
        spec = PrimitiveConstructorSpec(
            nargs=1,
            metavar="PATH",
            instance_from_str=lambda words: kind(words[0]),
            is_instance=lambda value: isinstance(value, kind),
            str_from_instance=lambda value: [str(value.path)],
        )
        one: Any = Annotated[kind, spec]
        return one | None if type(None) in _members(hint) else one
    if _plain(hint):
        return hint
    return str | None if default is None else type(default)


def field_docs(kind: type) -> dict[str, str]:
    """What the "Attributes:" sections of a class and its bases say, by field; one line may name several fields."""
    docs: dict[str, str] = {}
    for base in kind.__mro__:
        text = inspect.cleandoc(base.__doc__ or "") if base is not object else ""
        section = re.search(r"^Attributes:\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE)
        for entry in re.split(r"\n(?=    \S)", "\n" + (section[1] if section else ""))[1:]:
            names, _, said = entry.partition(":")
            for name in names.split(","):
                docs.setdefault(name.strip(), " ".join(said.split()))
    return docs


def _is_node(value: Any) -> bool:
    """Whether a value has fields of its own: a dataclass, or a tuple with one in it."""
    if isinstance(value, tuple):
        return any(_is_node(item) for item in value)
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _children(node: Any) -> list[tuple[str, Any]]:
    """Names and values of what lies in a node."""
    if isinstance(node, tuple):
        return [(str(k), item) for k, item in enumerate(node)]
    return [(name, getattr(node, name)) for name in _names(node)]


def _is_below(node: Any, name: str, value: Any) -> bool:
    """Whether a child has flags of its own; one that a path makes is said in one word."""
    return _is_node(value) and (isinstance(node, tuple) or _path_class(_hint(node, name)) is None)


def _names(node: Any) -> list[str]:
    """Fields that can be given: those with a value or a type that a word can say."""
    fields = [field.name for field in dataclasses.fields(node) if field.init]
    return [
        name
        for name in fields
        if _is_node(getattr(node, name))
        or _path_class(_hint(node, name))
        or _choices(node, name)
        or _plain(_hint(node, name))
    ]


def _hint(node: Any, name: str) -> Any:
    """A field's declared type, or that of its value where only type checkers can read it."""
    return declared_types(type(node)).get(name) or type(getattr(node, name))


def _members(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if union else (hint,)


def _plain(hint: Any) -> bool:
    """Whether words can say a value of this type: numbers, text, enums, paths, None, tuples and unions of them."""
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        return issubclass(hint, int | float | str | Path | Enum | types.NoneType)
    if typing.get_origin(hint) is Annotated:
        return _plain(typing.get_args(hint)[0])
    parts = [part for part in typing.get_args(hint) if part is not ...]
    return bool(parts) and (typing.get_origin(hint) is Literal or all(map(_plain, parts)))


def _choices(node: Any, name: str) -> _Choice:
    """Classes that a field may hold an instance of, among them its own; none for a field of plain values."""
    found: list[type | None] = []
    for member in _members(_hint(node, name)):
        if member is type(None):
            found.append(None)
        elif isinstance(member, type) and member is not object:  # of which every class is a kind
            found += [kind for kind in _family(member) if dataclasses.is_dataclass(kind)]
    value = getattr(node, name)
    if _path_class(_hint(node, name)) is not None:
        return ()
    if _is_node(value) and not isinstance(value, tuple) and type(value) not in found:
        found.insert(0, type(value))
    return tuple(dict.fromkeys(found)) if any(found) else ()


def _family(kind: type) -> Iterator[type]:
    """The class and its loaded subclasses, without abstract and private ones."""
    if not inspect.isabstract(kind) and not kind.__name__.startswith("_"):
        yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


def _specs(node: Any, name: str, choose: bool) -> Iterator[StructFieldSpec]:
    """How tyro sees a field: its values below it, the choice of its class, or a plain value."""
    value, help = getattr(node, name), field_docs(type(node)).get(name)
    if _path_class(_hint(node, name)) or not (_is_node(value) or _choices(node, name)):
        kind = with_range(word_type(_hint(node, name), value), ranges_of(type(node)).get(name))
        yield StructFieldSpec(name, kind, value, helptext=help or "")
        return
    choices = _choices(node, name) if choose else ()
    if len(choices) > 1:
        kinds: Any = Literal[tuple("None" if kind is None else kind.__name__ for kind in choices)]  # type: ignore[valid-type]
        own = "None" if value is None else type(value).__name__
        chosen = cast(Any, Annotated[kinds, tyro.conf.arg(name=name)])
        yield StructFieldSpec(f"{name} of", chosen, own, helptext=help or "")
    if _is_node(value):
        yield StructFieldSpec(name, type(value), value, helptext=help if len(choices) < 2 else None)


def _take(flag: str, words: list[str]) -> tuple[str | None, list[str]]:
    """The value of a flag, if it is there, and the words without both."""
    for k, word in enumerate(words):
        name, equals, text = word.partition("=")
        if name.replace("-", "_") != flag.replace("-", "_"):
            continue
        if equals:
            return text, words[:k] + words[k + 1 :]
        if k + 1 == len(words) or words[k + 1].startswith("--"):
            raise UserError(f"{flag} has no value", expected=f"{flag} CLASS")
        return words[k + 1], words[:k] + words[k + 2 :]
    return None, words


def _chosen(flag: str, text: str, choices: _Choice) -> Any:
    """An instance of the class of that name, with its defaults."""
    named = {"None" if kind is None else kind.__name__: kind for kind in choices}
    given = text.lower().replace("_", "").replace("-", "")
    for name, kind in named.items():
        if name.lower() == given:
            try:
                return None if kind is None else kind()
            except TypeError as error:
                raise UserError(
                    f"{flag} {text}: this class has fields without a default",
                    got=error,
                    fix="say it in a recipe of your own: countersteer train my_recipe.py:function",
                ) from None
    raise UserError(f"{flag} has no class {text!r}", got=text, expected=did_you_mean(text, named))
