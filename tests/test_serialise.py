"""Frozen trees come back from JSON exactly, and nothing else can be built from a file."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import sys
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from countersteer.drivers.drivers import (
    CategoricalDriver,
    EgoAndOthersDriver,
    ExpertDriver,
    LinearSchedule,
    MixedDriver,
    PolicyDriver,
)
from countersteer.errors import UserError
from countersteer.geometry.cameras import Camera
from countersteer.objectives.ppo import PPO
from countersteer.policies.planner import CNNPlannerSpec
from countersteer.rewards.weighted import WeightedReward
from countersteer.rewards.weights import RewardWeights
from countersteer.storage.moved import present
from countersteer.storage.serialise import differences, fingerprint, from_json, to_json
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import PlanSpec
from countersteer.vehicles.trackers import PurePursuit
from countersteer.worlds.interface import Capability
from countersteer.worlds.observations import Command

HERE = sys.modules[__name__]


class Colour(Enum):
    RED = (1, 0, 0)


@dataclass(frozen=True)
class Leaf:
    value: Any = 0


@dataclass(frozen=True)
class Tree:
    name: str = "a tree"
    ratio: float = 0.1
    count: int = 3
    on: bool = True
    nothing: None = None
    where: Path = Path("runs/first")
    colour: Colour = Colour.RED
    command: Command = Command.LEFT
    leaves: tuple[Any, ...] = (Leaf(1), Leaf((2.5, "x")))
    empty: tuple[Leaf, ...] = ()
    derived: int = field(default=7, init=False)


@dataclass(frozen=True)
class Enumish:
    """Fields that are called like the marks of other values."""

    enum: str = "e"
    tuple: str = "t"
    name: str = "n"
    path: str = "p"


def round_trip(tree: Any) -> Any:
    text = json.dumps(to_json(tree), allow_nan=False)
    return from_json(json.loads(text), extra_modules=[HERE])


@pytest.mark.parametrize("tree", [Tree(), Enumish(), Camera(position=(1.7, -0.2, 1.3)), PlanSpec(points=7)])
def test_a_tree_comes_back_equal(tree: Any):
    assert round_trip(tree) == tree


def test_kinds_of_values_survive():
    back = round_trip(Tree())
    assert isinstance(back.where, Path)
    assert back.colour is Colour.RED
    assert back.command is Command.LEFT
    assert back.on is True
    assert type(back.count) is int
    assert type(back.leaves) is tuple


@given(st.floats(allow_nan=True, allow_infinity=True, width=64))
def test_floats_come_back_bit_for_bit(value: float):
    back = round_trip(Leaf(value)).value
    if math.isnan(value):
        assert math.isnan(back)
    else:
        assert struct.pack("<d", back) == struct.pack("<d", value)


@pytest.mark.parametrize(
    "value",
    [lambda: 0, print, Leaf, torch.zeros(2), object(), [1, 2], {"a": 1}, {1}, b"bytes", 1j],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_refused_with_its_place(value: Any):
    with pytest.raises(UserError, match=r"leaves\.1\.value"):
        to_json(Tree(leaves=(Leaf(1), Leaf(value))))


def test_a_class_inside_a_function_is_refused():
    @dataclass(frozen=True)
    class Inner:
        x: int = 1

    with pytest.raises(UserError, match="value"):
        to_json(Leaf(Inner()))


@pytest.mark.parametrize(
    "name",
    [
        "subprocess:Popen",
        "os:system",
        f"{__name__}:Leaf",  # this module, when nobody passed it
        "countersteerfake:Camera",
        "countersteer.storage.serialise:importlib.machinery.ModuleSpec",  # led out through an import
        "countersteer.storage.serialise:Path",
        "countersteer.storage.serialise:to_json",
        "countersteer.worlds.interface:Camera",  # defined elsewhere: one name for each type
        "countersteer.errors:UserError",  # neither dataclass nor enum
        "countersteer.no_such_module:Camera",
        "countersteer.geometry.cameras:NoSuchCamera",
        "countersteer.geometry.cameras",
        "countersteer..geometry:Camera",
        "",
    ],
)
@pytest.mark.parametrize("kind", ["type", "enum"])
def test_only_our_own_types_are_built(name: str, kind: str):
    with pytest.raises(UserError, match=r"asks for .*(outside countersteer|does not have)"):
        from_json({kind: name, "name": "RED"})


def test_a_module_is_trusted_only_when_passed():
    data = to_json(Leaf(1))
    with pytest.raises(UserError, match="outside countersteer"):
        from_json(data)
    assert from_json(data, extra_modules=[HERE]) == Leaf(1)


def test_an_unknown_field_is_named_with_the_nearest_known():
    data = to_json(Camera()) | {"widht": 3}
    with pytest.raises(UserError, match=r"'widht'[\s\S]*did you mean width"):
        from_json(data)


def test_a_missing_field_is_named_although_it_has_a_default():
    data = to_json(Camera())
    del data["fov"]
    with pytest.raises(UserError, match="lacks its field 'fov'"):
        from_json(data)


def test_a_field_that_was_added_later_means_what_its_author_said():
    spec = CNNPlannerSpec()
    data = to_json(spec)
    for name in ("jerk", "bottleneck_bits"):
        del data[name]
    assert from_json(data) == spec


def grown(*fields: Any) -> type:
    """A class called Grown of this module with these fields."""
    return dataclasses.make_dataclass("Grown", fields, frozen=True, namespace={"__module__": __name__})


def test_a_field_that_was_added_later_leaves_older_fingerprints_alone():
    """Where it holds what older trees stand for; any other value is another tree."""
    old = fingerprint(grown(("x", int))(1))
    later = grown(("x", int), ("y", int, dataclasses.field(default=5, metadata={"absent": 0})))
    assert fingerprint(later(1, 0)) == old
    assert len({old, fingerprint(later(1, 1)), fingerprint(later(1)), fingerprint(later(2, 0))}) == 4


def test_a_field_that_was_added_later_may_stand_for_a_tuple():
    for added, kind in (("respawn_on", PPO(reward=WeightedReward())), ("skewed", RewardWeights())):
        data = to_json(kind)
        del data[added]
        assert getattr(from_json(data), added) == ()


def test_a_field_that_is_no_longer_said_is_left_out():
    """Drivers take plan times from policy and expert, jerks from the world; recipes of earlier versions say them."""
    where = "countersteer.drivers"
    tracker, spec = to_json(PurePursuit()), to_json(PlanSpec(points=8, interval=0.5))
    policy = {"type": f"{where}.policy:PolicyDriver", "tracker": tracker, "plan": spec}
    choice = {"type": f"{where}.choice:ChoiceDriver", "jerk": to_json(JerkSpec()), "greedy": True}
    stored = {
        "type": f"{where}.mixed:MixedDriver",
        "expert": {"type": f"{where}.expert:ExpertDriver", "tracker": tracker, "plan": spec},
        "policy": {"type": f"{where}.roles:RolesDriver", "ego": policy, "others": choice},
        "expert_share": to_json(LinearSchedule()) | {"type": f"{where}.mixed:Linear"},
        "hold": 2.0,
    }
    roles = EgoAndOthersDriver(PolicyDriver(), CategoricalDriver(greedy=True))
    assert from_json(stored) == MixedDriver(ExpertDriver(), roles, hold=2.0)
    with pytest.raises(UserError, match="no field 'plan'"):
        from_json(to_json(MixedDriver()) | {"plan": None})


def test_a_users_class_of_the_same_name_keeps_its_fields():
    stored = {"type": f"{__name__}:PolicyDriver", "plan": 3}
    with pytest.raises(UserError, match="does not have"):  # and no field of it was left out to find it
        from_json(stored, extra_modules=[HERE])
    assert present(stored) == stored


def test_an_unknown_enum_member_is_named():
    data = to_json(Capability.FORK) | {"name": "FORKS"}
    with pytest.raises(UserError, match=r"'FORKS'[\s\S]*did you mean FORK"):
        from_json(data)


@pytest.mark.parametrize(
    "data",
    [[], [1], {}, {"x": 1}, {"tuple": 3}, {"type": 3}, {"enum": None, "name": "x"}, {"float": "1.5"}],
    ids=json.dumps,
)
def test_malformed_files_are_refused(data: Any):
    with pytest.raises(UserError):
        from_json(data)


def test_a_value_that_its_class_refuses_stays_a_user_error():
    with pytest.raises(UserError, match=r"Camera\.width"):
        from_json(to_json(Camera()) | {"width": 0})


def test_equal_trees_have_no_differences():
    assert differences(to_json(Tree()), to_json(Tree())) == []
    assert differences(to_json(Leaf(math.nan)), to_json(Leaf(math.nan))) == []


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (Tree(ratio=0.2), ["ratio: 0.1 -> 0.2"]),
        (Tree(on=False, count=4), ["count: 3 -> 4", "on: True -> False"]),
        (Tree(count=True), ["count: 3 -> True"]),
        (Tree(command=Command.RIGHT), ["command: LEFT -> RIGHT"]),
        (Tree(where=Path("b")), ["where: runs/first -> b"]),
        (Tree(leaves=(Leaf(1), Leaf((2.5, "y")))), ["leaves.1.value.1: 'x' -> 'y'"]),
        (Tree(leaves=(Leaf(1),)), ["leaves.1: Leaf -> (absent)"]),
        (Tree(leaves=(Leaf(1), Leaf((2.5, "x")), Leaf())), ["leaves.2: (absent) -> Leaf"]),
        (Tree(leaves=(Leaf(1), Enumish())), ["leaves.1: Leaf -> Enumish"]),
    ],
)
def test_differences_name_the_dotted_place_and_both_values(new: Tree, expected: list[str]):
    assert differences(to_json(Tree()), to_json(new)) == expected


def test_differences_work_on_a_file_of_another_version():
    old = to_json(Camera())
    del old["yaw"]
    old["zoom"] = 2
    assert differences(old, to_json(Camera())) == ["zoom: 2 -> (absent)", "yaw: (absent) -> 0.0"]


def test_true_and_one_are_different_settings():
    assert differences(to_json(Leaf(1)), to_json(Leaf(True))) == ["value: 1 -> True"]
    assert differences(to_json(Leaf(1)), to_json(replace(Leaf(), value=1.0))) == []


class Grade(IntEnum):
    A = 1


def test_an_integer_enum_stays_an_enum():
    assert round_trip(Leaf(Grade.A)).value is Grade.A
