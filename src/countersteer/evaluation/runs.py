"""A trained run judged: on a suite, and by its error on frames that an expert drove."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from countersteer.data.sources import ProceduralRoads
from countersteer.errors import check_writable, write_results
from countersteer.evaluation.driving import open_loop_error
from countersteer.evaluation.records import SuiteResult
from countersteer.evaluation.results import write_result
from countersteer.evaluation.suites import Suite, run_suite, suite_for
from countersteer.policies.storage import load_policy
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.simulation.road import RoadSimulationSpec
from countersteer.worlds.world import WorldSpec

__all__ = ["evaluate_run", "held_out_error"]

_HELD_OUT = ProceduralRoads(count=16, seed=1_000_003, traffic=(0, 0), length=620.0)


def held_out_error(run: Path, modules: Sequence[ModuleType] = ()) -> float:
    """Open-loop error of a run's policy on expert frames of roads nobody trained on [m]."""
    policy, _ = load_policy(run, tuple(modules))
    simulation = RoadSimulationSpec(
        dt=policy.spec.dt, target_points=policy.spec.target_points > 0, navigation=policy.spec.navigation
    )
    spec = WorldSpec(simulation, BoxRendererSpec(), sensors=policy.spec.cameras)
    return open_loop_error(policy, spec, _HELD_OUT.load(), seed=99)


def evaluate_run(
    run: Path,
    suite: Suite,
    *,
    frames: bool = False,
    on_tick: Callable[[int, int], None] | None = None,
    modules: Sequence[ModuleType] = (),
) -> SuiteResult:
    """Drive a suite (`suite_for` its policy) with a run; the verdicts are kept in the run's folder.

    `modules` are those of the user that the run's policy comes from, if it is not one of ours.
    """
    policy, metadata = load_policy(run, tuple(modules))
    suite = suite_for(policy.spec, suite)
    kept = run / "evaluation" / f"{suite.name}.json" if run.is_dir() else None
    check_writable(
        kept, fix="name the run's policy file instead of its folder, so that no verdicts are kept there"
    )
    result = run_suite(suite, metadata["recipe"], policy, frames=frames, on_tick=on_tick)
    extra = {"seed": metadata["seed"], "seconds": metadata["seconds"]}
    write_results((kept, lambda place: write_result(place, result, **extra)))
    return result
