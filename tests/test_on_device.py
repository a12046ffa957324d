"""What runs on a GPU, run on the meta device: no host round trips, no copies between devices, nothing of unknown shape.

A tensor on the meta device has a shape and no values, so whatever asks for one fails: `.item()`, `if tensor`, a boolean
mask as an index. Copies to and from the host, which it would allow, are refused by `Resident`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from countersteer.worlds.world import World
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.traffic.idm import IDM
from countersteer.vehicles.jerk import JerkSpec
from countersteer.vehicles.plans import Action, JerkAction
from countersteer.worlds.sensors.vector import VectorSpec
from countersteer.worlds.simulation.spec import BoxWorldSpec

META = torch.device("meta")
SYNCHRONISING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")
FROM_HOST = (torch.tensor, torch.as_tensor, torch.from_numpy)
RANDOM = ("rand", "normal", "uniform_", "bernoulli", "multinomial", "exponential_")


class Resident(TorchDispatchMode):
    """Refuses operations that make the host wait for the device, or whose shapes depend on values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        kwargs = kwargs or {}
        if name in SYNCHRONISING or name.startswith(RANDOM):
            raise AssertionError(f"aten::{name} on the device")
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        if name in ("_to_copy", "copy_"):
            target = kwargs.get("device") or META
            there = {target.type, *(tensor.device.type for tensor in tensors)}
            if there != {"meta"}:
                raise AssertionError(f"aten::{name} between the host and the device")
        if name == "index" and any(t.dtype == torch.bool for t in args[1] if t is not None):
            raise AssertionError("a boolean mask as an index")
        return func(*args, **kwargs)


class MadeThere(TorchFunctionMode):
    """Refuses tensors made of the host's values, which the meta device would make without an operation to see."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FROM_HOST:
            raise AssertionError(f"{func.__name__} from the host's values")
        return func(*args, **(kwargs or {}))


@contextmanager
def resident() -> Iterator[None]:
    with MadeThere(), Resident():
        yield


@pytest.fixture(scope="module")
def roads():
    return [procedural_road(70 + k, RoadKind.INTERSECTION, lanes=2, traffic=6) for k in range(2)]


def world_on_meta(roads, **settings: Any) -> World:
    spec = BoxWorldSpec(cameras=(), agents=2, vector=VectorSpec(), jerk=JerkSpec(), **settings)
    return spec.build(roads, 4, seed=0, device="meta")


HOST, VALUES = torch.zeros(3), torch.zeros(3, device=META)


@pytest.mark.parametrize(
    "act",
    [
        lambda: VALUES.nonzero(),
        lambda: VALUES[VALUES > 0],
        lambda: torch.rand(3, device=META),
        lambda: HOST.to(META),
        lambda: torch.tensor([1.0, 2.0], device=META),
        lambda: VALUES.sum().item(),
        lambda: bool(VALUES.any()),
    ],
    ids=["nonzero", "mask", "random", "copy", "constant", "item", "bool"],
)
def test_the_guard_refuses_what_it_should(act):
    with resident(), pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        act()


@pytest.mark.parametrize("settings", [{}, {"traffic": IDM(), "target_points": True}], ids=["replay", "idm"])
def test_a_drive_stays_on_the_device(roads, settings):
    world = world_on_meta(roads, **settings)
    rows = torch.arange(4, device=META)
    zero = torch.zeros(4, 2, device=META)
    with resident():
        world.reset(torch.ones(4, dtype=torch.bool, device=META), world.draw_starts(rows))
        for action in (Action(zero, zero), JerkAction(zero, zero)):
            events = world.step(action)
            seen = world.observe()
            told = world.truth()
        over = ~world.state.alive.any(1)
        world.reset(over, world.draw_starts(rows + 4))
    leaves = [*world.state.flatten().values(), *events.flatten().values(), *told.flatten().values()]
    assert all(leaf.device == META for leaf in leaves)
    assert seen.sensors["vector"].data.shape == (4, 2, VectorSpec().size)
