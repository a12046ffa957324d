"""What is shown of trained runs: a film of a shipped or a trained policy, and the report with the films that tell most."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from countersteer.data.sources import StreetDrives
from countersteer.errors import UserError, reading
from countersteer.evaluation.records import SuiteResult
from countersteer.evaluation.runs import evaluate_run, held_out_error
from countersteer.evaluation.statistics import CompareRow
from countersteer.evaluation.suites import Suite, recorded_from, run_suite, streets, suite_for
from countersteer.policies.storage import load_policy
from countersteer.reporting.film import film
from countersteer.reporting.report import CaseFilm, RunInfo, write_report
from countersteer.storage.files import parse_json, read_bytes, read_object
from countersteer.training.run import load_recipe

__all__ = ["film_drive", "pretrained_policy", "report_run", "write_run_report"]


def film_drive(
    policy: Path | None,
    out: Path,
    road: float | StreetDrives,
    modules: Sequence[ModuleType] = (),
) -> str:
    """Film a policy on a road; returns the verdict in words.

    Args:
        policy: Run folder or policy file; None for the shipped one.
        out: Film to write.
        road: The recorded road from a second of the recording on, or the first drive on a street network.
        modules: That the policy's recipe needs.
    """
    driver, metadata = load_policy(policy if policy is not None else pretrained_policy(), tuple(modules))
    on_streets = isinstance(road, StreetDrives)
    suite = suite_for(driver.spec, streets(road) if on_streets else recorded_from(road))
    result = run_suite(suite, metadata["recipe"], driver, frames=True)
    case = result.cases[0]
    film(
        result.records[0],
        title=f"{metadata['recipe']} on {'real streets' if on_streets else 'a recorded road'}",
        subtitle=case.case if on_streets else f"comma2k19, from second {road:g}",
        verdict=case,
        path=out,
    )
    return "passed" if case.passed else case.reason


def pretrained_policy(recipe: str = "on_policy") -> Path:
    """A trained policy that comes with the package: of `on_policy`, `self_play` or `self_play_teacher`."""
    path = Path(str(files("countersteer.recipes") / "weights" / f"{recipe}.safetensors"))
    if not path.exists():
        raise UserError(
            "this installation has no trained policy", got=f"nothing at {path}", expected="a policy file",
            fix=f"train one: countersteer train {recipe} --out runs/{recipe}",
        )  # fmt: skip
    return path


def report_run(
    run: Path,
    out: Path,
    suites: Sequence[Suite],
    message: Callable[[str], None],
    modules: Sequence[ModuleType] = (),
) -> None:
    """Drive the suites with one run's policy and the expert, and write a page with tables and films."""
    results, rows = [], []
    policy, metadata = load_policy(run, tuple(modules))
    for suite in (suite_for(policy.spec, suite) for suite in suites):
        message(f"driving {suite.name}")
        results.append(run_suite(suite, "expert", None, frames=True))
        results.append(evaluate_run(run, suite, frames=True, modules=modules))
    error = held_out_error(run, modules)
    for result in results:
        mine = result.driver != "expert"
        rows.append(
            CompareRow.of(
                result,
                open_loop_error=error if mine else None,
                seconds=metadata["seconds"] if mine else None,
            )
        )
    write_run_report(out, f"{metadata['recipe']}: closed-loop report", rows, results, [run], "", modules)


def write_run_report(
    out: Path,
    title: str,
    rows: Sequence[CompareRow],
    results: Sequence[SuiteResult],
    runs: Sequence[Path],
    note: str,
    modules: Sequence[ModuleType] = (),
) -> None:
    """The report: films of a few telling cases of each suite, side by side."""
    films = []
    for suite in dict.fromkeys(result.suite for result in results):
        shared = [result for result in results if result.suite == suite and result.records]
        for case in _telling_cases(shared):
            for result in shared:
                index = [c.case for c in result.cases].index(case)
                verdict = result.cases[index]
                encoded = film(
                    result.records[index],
                    title=result.driver,
                    subtitle=f"{suite}, {case}",
                    verdict=verdict,
                )
                films.append(CaseFilm(result.driver, suite, case, encoded))
    write_report(
        out,
        title=title,
        rows=rows,
        results=results,
        runs=[_run_info(run, modules) for run in runs],
        films=films,
        note=note,
    )


def _telling_cases(results: Sequence[SuiteResult], count: int = 1) -> list[str]:
    """Cases on which the drivers differ most, the earlier first."""
    names = [case.case for case in results[0].cases]
    verdicts = np.array([[case.passed is True for case in result.cases] for result in results])
    split = verdicts.mean(0) * (1 - verdicts.mean(0))
    return [names[k] for k in np.argsort(-split, kind="stable")[:count]]


def _of_parts(environment: dict[str, Any], say: Callable[[dict[str, Any]], str]) -> str:
    """What is said of a run's code or machine; of a resumed one, of each part that differs from the one before."""
    parts = environment.get("parts") or [environment]
    told = [(say(part), part.get("step", 0)) for part in parts]
    changed = [
        f"{now} from step {step}" for (before, _), (now, step) in itertools.pairwise(told) if now != before
    ]
    return ", then ".join([told[0][0], *changed])


def _run_info(run: Path, modules: Sequence[ModuleType]) -> RunInfo:
    """What a report says of a run.

    Raises:
        UserError: A file of its folder is missing or damaged.
    """
    with reading(run, fix="restore its run.json and metrics.jsonl, or train again"):
        recipe, seed = load_recipe(run, tuple(modules))
        environment = read_object(run / "run.json")
        lines = read_bytes(run / "metrics.jsonl").splitlines()
        curve = [parse_json(line, f"{run / 'metrics.jsonl'}, line {k},") for k, line in enumerate(lines, 1)]
        return RunInfo(
            driver=recipe.name,
            command=f"countersteer train {recipe.name} --out {run} --seed {seed}",
            commit=_of_parts(environment, lambda part: part["commit"] or "unknown"),
            hardware=_of_parts(environment, lambda part: f"{part['processor']}, {part['threads']} threads"),
            seeds=(seed,),
            versions={
                name: environment[name] for name in ("countersteer", "python", "torch", "numba", "numpy")
            },
            # Lines of rounds say what was driven, and have no loss.
            loss=tuple((float(line["step"]), line["loss/policy"]) for line in curve if "loss/policy" in line),
        )
