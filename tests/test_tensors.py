"""Tensor trees: indexed, stacked, chosen and moved as one value, and never changed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from countersteer.tensors import TensorTree


@dataclass(frozen=True)
class Point(TensorTree):
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Nested(TensorTree):
    point: Point
    named: dict[str, Point]
    pair: tuple[Tensor, Tensor]
    nothing: Tensor | None = None


def point(batch: int, offset: float = 0.0) -> Point:
    rows = torch.arange(batch, dtype=torch.float32) + offset
    return Point(rows, torch.stack([rows, -rows], -1))


def nested(batch: int, offset: float = 0.0) -> Nested:
    return Nested(
        point(batch, offset),
        {"a": point(batch, offset + 100), "b": point(batch, offset + 200)},
        (torch.arange(batch) + int(offset), torch.zeros(batch, 2, 3) + offset),
    )


def same(a: TensorTree, b: TensorTree) -> bool:
    mine, theirs = a.flatten(), b.flatten()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_tree_cannot_be_assigned_to():
    with pytest.raises(dataclasses.FrozenInstanceError):
        point(3).x = torch.zeros(3)  # type: ignore[misc]


@pytest.mark.parametrize(
    "index", [1, slice(1, 4), torch.tensor([3, 3, 0]), torch.tensor([True, False, True, False, True])]
)
def test_indexing_takes_the_leading_dimension_of_every_leaf(index: object):
    tree = nested(5)
    part = tree[index]
    for name, leaf in tree.flatten().items():
        assert torch.equal(part.flatten()[name], leaf[index]), name  # type: ignore[index]
    assert part.nothing is None
    assert type(part) is Nested


def test_flatten_names_leaves_by_dotted_path():
    assert list(nested(2).flatten()) == [
        "point.x",
        "point.y",
        "named.a.x",
        "named.a.y",
        "named.b.x",
        "named.b.y",
        "pair.0",
        "pair.1",
    ]


def test_unflatten_restores_by_name_whatever_the_order():
    tree, other = nested(3), nested(3, 5.0)
    leaves = dict(reversed(list(other.flatten().items())))
    assert same(tree.unflatten(leaves), other)
    assert not same(tree, other)


def test_unflatten_refuses_a_missing_leaf():
    leaves = nested(3).flatten()
    del leaves["named.b.x"]
    with pytest.raises(KeyError, match=r"named\.b\.x"):
        nested(3).unflatten(leaves)


def test_where_chooses_whole_rows_of_every_leaf():
    mine, theirs = nested(4), nested(4, 50.0)
    mask = torch.tensor([True, False, False, True])
    chosen = mine.where(mask, theirs)
    assert same(chosen[mask], mine[mask])
    assert same(chosen[~mask], theirs[~mask])


def test_where_leaves_both_trees_alone():
    mine, theirs = point(3), point(3, 9.0)
    mine.where(torch.tensor([True, False, True]), theirs)
    assert same(mine, point(3))
    assert same(theirs, point(3, 9.0))


@pytest.mark.parametrize("dim", [0, 1])
def test_stack_is_undone_by_indexing(dim: int):
    trees = [nested(4, offset) for offset in (0.0, 10.0, 20.0)]
    stacked = Nested.stack(trees, dim)
    for k, tree in enumerate(trees):
        assert same(stacked[k] if dim == 0 else stacked[:, k], tree)


def test_cat_is_undone_by_slicing():
    first, second = nested(2), nested(3, 10.0)
    joined = Nested.cat([first, second])
    assert same(joined[:2], first)
    assert same(joined[2:], second)


def test_a_clone_shares_no_memory():
    tree = nested(3)
    copy = tree.clone()
    for leaf in tree.flatten().values():
        leaf.add_(1)
    assert same(copy, nested(3))
    assert not same(tree, copy)


def test_replace_changes_the_named_field_only():
    tree = nested(3)
    changed = tree.replace(point=point(3, 7.0))
    assert torch.equal(changed.point.x, point(3, 7.0).x)
    assert changed.named is tree.named
    assert same(tree, nested(3))


def test_to_moves_every_leaf():
    assert {leaf.device.type for leaf in nested(2).to("meta").flatten().values()} == {"meta"}


def test_map_passes_matching_leaves_together():
    total = nested(3).map(torch.add, nested(3, 4.0))
    for name, leaf in total.flatten().items():
        assert torch.equal(leaf, nested(3).flatten()[name] + nested(3, 4.0).flatten()[name])


def test_what_is_not_a_tensor_is_refused():
    with pytest.raises(TypeError, match="float"):
        Point(torch.zeros(2), 1.0).clone()  # type: ignore[arg-type]


def test_a_leaf_beside_nothing_is_refused():
    whole = Nested(Point(torch.ones(2), torch.ones(2)), {}, (torch.ones(2), torch.ones(2)))
    lacking = dataclasses.replace(whole, point=None)
    assert lacking.clone().point is None
    for pair in ((whole, lacking), (lacking, whole)):
        with pytest.raises((TypeError, AttributeError)):
            Nested.cat(pair)
