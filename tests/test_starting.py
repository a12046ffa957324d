"""Drives that begin: kernels and PyTorch give the same to the bit."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from countersteer.scenarios.procedural import RoadKind, procedural_road
from countersteer.traffic.idm import IDM
from countersteer.vehicles.plans import Action
from countersteer.worlds.backend import Backend
from countersteer.worlds.simulation.road import RoadSimulation, RoadSimulationSpec
from countersteer.worlds.simulation.spec import StartSpec
from countersteer.worlds.simulation.state import RoadState

ROADS = [procedural_road(seed, RoadKind.INTERSECTION, lanes=2, traffic=8) for seed in range(40, 44)]
WIDE = StartSpec(
    lateral=1.5, heading=0.4, speed=0.1, command_share=0.8, set_speed=(0.8, 1.2), command_time=(0.0, 0.5)
)
STILL = StartSpec(lateral=0.0, heading=0.0, set_speed=(0.7, 1.3))
GOALS = StartSpec(lateral=0.3, heading=0.05, goal=(20.0, 90.0))


def bits(tree: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: leaf.contiguous().view(torch.int32) if leaf.is_floating_point() else leaf
        for name, leaf in tree.items()
    }


def simulation(backend: Backend, known: bool = False, **settings) -> RoadSimulation:
    built = RoadSimulationSpec(agents=2, backend=backend, **settings).build(ROADS, (), seed=7)
    if known:  # as if the paths passed a place twice: where the recording was is known
        built.bank.path_arc.copy_(
            built.bank.path_arc.nan_to_num() + torch.arange(built.bank.path_arc.shape[2])
        )
    return built


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"start": WIDE},
        {"start": STILL, "traffic": IDM()},
        {"start": GOALS, "min_agents": 1, "remove_done_agents": True},
    ],
)
def test_kernel_and_reference_begin_alike(settings: dict, known: bool):
    fast = simulation(Backend.KERNEL, known, **settings)
    plain = simulation(Backend.TORCH, known, **settings)
    drives = torch.arange(-300, 700) * 12_345_678_901
    starts, expected = fast.draw_starts(drives), plain.draw_starts(drives)
    states = [each.begin(expected).flatten() for each in (fast, plain)]
    for mine, theirs in ((starts.flatten(), expected.flatten()), states):
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert mine[name].dtype == theirs[name].dtype, name
            assert torch.equal(bits(mine)[name], bits(theirs)[name]), name


def test_ticks_beyond_the_recording_are_an_error():
    built, one = simulation(Backend.KERNEL), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(IndexError):
        built.starts_at(one, one + 100_000, one, jitter=False)


def test_a_copied_or_stored_state_drives_on_alike():
    """The arrays a state keeps for the kernels are views of its tensors, never a second truth."""
    built = simulation(Backend.KERNEL)
    state: RoadState = built.begin(built.draw_starts(torch.arange(4)))
    action = Action(torch.full((4, 2), 0.01), torch.ones(4, 2))
    for _ in range(3):
        state, _ = built.step(state, action)  # pyright: ignore[reportAssignmentType]
    expected = built.step(state, action)[0].flatten()
    for again in (
        copy.deepcopy(state),
        pickle.loads(pickle.dumps(state)),
        state.clone(),
        state[torch.arange(4)],
    ):
        went = built.step(again, action)[0].flatten()
        assert all(torch.equal(went[name], expected[name]) for name in expected)
