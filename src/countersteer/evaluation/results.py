"""Results on disk: a suite's verdicts beside the run they belong to, without the frames."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from countersteer.errors import UserError, reading
from countersteer.evaluation.benchmarks import Benchmark
from countersteer.evaluation.failures import Failure
from countersteer.evaluation.records import CaseResult, SuiteResult
from countersteer.evaluation.replay import is_replay, load_replay
from countersteer.evaluation.scoring import PairedDifference, SuiteScore, paired_difference, score_suite
from countersteer.evaluation.statistics import CompareRow
from countersteer.storage.files import read_object, write_whole
from countersteer.storage.serialise import checked

__all__ = [
    "ComparedScore",
    "StoredEvaluation",
    "compare_scores",
    "evaluation_json",
    "kept_evaluations",
    "read_open_loop",
    "read_result",
    "write_result",
    "write_scores",
]


def write_result(path: Path, result: SuiteResult, **extra: object) -> None:
    """Write the verdicts of a suite as JSON; `extra` (open-loop error, seconds ...) is kept beside them."""
    content = {
        "suite": result.suite,
        "driver": result.driver,
        "protocol": result.protocol,
        "passed": result.passed,
        "total": result.total,
        **extra,
        "cases": [dataclasses.asdict(case) for case in result.cases],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content, indent=1).encode())


def read_result(path: Path) -> tuple[SuiteResult, dict[str, object]]:
    """What `write_result` wrote.

    Raises:
        UserError: It cannot be read, or is something else.
    """
    content = read_object(path)
    with reading(
        path,
        "is not a result of an evaluation",
        expected="a file written by `countersteer evaluate`",
        fix="evaluate the run again",
    ):
        cases = tuple(checked(CaseResult(**case)) for case in content.pop("cases"))
        suite, driver, protocol = (content.pop(name) for name in ("suite", "driver", "protocol"))
        if not all(isinstance(name, str) for name in (suite, driver, protocol)):
            raise ValueError("a name that is no text")
        result = SuiteResult(suite, driver, protocol, cases)
    return result, content


def read_open_loop(path: Path) -> float:
    """The open-loop error that is kept beside a run [m].

    Raises:
        UserError: It cannot be read.
    """
    with reading(path, fix="remove that file; it is measured again"):
        return float(read_object(path)["open_loop_error_m"])


def evaluation_json(
    result: SuiteResult, causes: Sequence[Failure | None], scores: Sequence[SuiteScore] = ()
) -> dict[str, Any]:
    """An evaluation as plain values: its row, every case with the cause of its failure, and its scores if there are any."""
    cases = [
        {
            "case": case.case,
            "passed": case.passed,
            "reason": case.reason,
            "fail_time_s": case.fail_time,
            "cause": None if cause is None else cause.kind.value,
        }
        | case.measures
        for case, cause in zip(result.cases, causes, strict=True)
    ]
    scored = {"scores": [score.to_json() for score in scores]} if scores else {}
    return {**CompareRow.of(result).to_json(), "cases": cases, **scored}


def write_scores(run: Path, result: SuiteResult, scores: Sequence[SuiteScore]) -> None:
    """Keep scores beside the verdicts of the same evaluation, if there are any and `run` is a folder that has them."""
    path = run / "evaluation" / f"{result.suite}.json"
    if not scores or not path.exists():
        return
    stored, extra = read_result(path)
    if (stored.driver, stored.protocol) == (result.driver, result.protocol):
        extra = {name: extra[name] for name in extra if name not in ("passed", "total")}
        write_result(path, result, **extra | {"scores": [score.to_json() for score in scores]})


@dataclass(frozen=True)
class StoredEvaluation:
    """An evaluation that was kept.

    Attributes:
        place: The run folder, folder of replays or replay that it was found by.
        result: Its verdicts; of a replay with the drives, without their pictures.
        scores: Scores that lie beside it.
    """

    place: Path
    result: SuiteResult
    scores: tuple[SuiteScore, ...] = ()


def kept_evaluations(
    places: Sequence[Path], benchmarks: Sequence[Benchmark] = (), suite: str | None = None
) -> list[StoredEvaluation]:
    """Every evaluation that lies at these places, to be compared with each other.

    Args:
        places: Run folders (their `evaluation/`), replays, or folders of replays.
        benchmarks: What to score replays by; scores of runs are those that were kept with them.
        suite: Its evaluations only; None takes those of every suite.

    Raises:
        UserError: A place has no evaluation, or two are of different protocols.
    """
    found: list[StoredEvaluation] = []
    for place in places:
        here = len(found)
        if (place / "evaluation").is_dir():
            for path in sorted((place / "evaluation").glob("*.json")):
                if path.stem == "open_loop" or suite not in (None, path.stem):
                    continue
                result, extra = read_result(path)
                stored: Any = extra.get("scores", [])
                with reading(path, fix="evaluate the run again"):
                    scores = tuple(SuiteScore.from_json(one) for one in stored)
                found.append(StoredEvaluation(place, result, scores))
        for path in sorted(place.rglob("*.replay")) if place.is_dir() and here == len(found) else [place]:
            if is_replay(path):
                result = load_replay(path, frames=False)
                if suite not in (None, result.suite):
                    continue
                found.append(StoredEvaluation(place, result, score_suite(result, benchmarks)))
        if here == len(found):
            raise UserError(
                f"{place} has not been evaluated" + ("" if suite is None else f" on {suite}"),
                got="no results" if place.exists() else "nothing there",
                expected="results in its folder evaluation/, a replay, or a folder of replays",
                fix=f"countersteer evaluate {place} --suite {suite or 'lane_keeping'}",
            )
    firsts: dict[str, StoredEvaluation] = {}
    for one in found:
        first = firsts.setdefault(one.result.suite, one)
        if first.result.protocol != one.result.protocol:
            raise UserError(
                f"{first.place} and {one.place} were evaluated under different protocols",
                got=f"{first.result.protocol} and {one.result.protocol}",
                expected="the same version of the suite, with equal cases, world and seeds",
                fix="evaluate both again with this version (in results from before it fewer settings counted), "
                "or compare on another suite with --suite",
            )
    return found


@dataclass(frozen=True)
class ComparedScore:
    """One benchmark's score of one driver on one suite, over its seeds, beside the drivers named before it.

    Attributes:
        driver, suite, protocol: What drove, on what.
        score: Of all seeds together.
        against: By driver, how much better this one scores, paired on the case.
    """

    driver: str
    suite: str
    protocol: str
    score: SuiteScore
    against: dict[str, PairedDifference]

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the drives."""
        values = {k: v for k, v in self.score.to_json().items() if k != "drives"}
        against = {name: dataclasses.asdict(one) for name, one in self.against.items()}
        return values | {"protocol": self.protocol, "against": against}


def compare_scores(kept: Sequence[StoredEvaluation]) -> list[ComparedScore]:
    """The scores of evaluations; several of one driver on one suite count as its seeds.

    Raises:
        UserError: Two are by different definitions of a score.
    """
    found: dict[tuple[str, str], dict[str, list[SuiteScore]]] = {}
    protocols = {one.result.suite: one.result.protocol for one in kept}
    for one in kept:
        for score in one.scores:
            drivers = found.setdefault((one.result.suite, score.benchmark), {})
            drivers.setdefault(one.result.driver, []).append(score)
    rows = []
    for (suite, _), drivers in found.items():
        earlier: dict[str, list[SuiteScore]] = {}
        for driver, scores in drivers.items():
            against = {name: paired_difference(scores, others) for name, others in earlier.items()}
            pooled = dataclasses.replace(scores[0], drives=tuple(d for score in scores for d in score.drives))
            rows.append(ComparedScore(driver, suite, protocols[suite], pooled, against))
            earlier[driver] = scores
    return rows
