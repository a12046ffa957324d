"""Results on disk: a suite's verdicts beside the run they belong to, without the frames."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from countersteer.errors import UserError
from countersteer.evaluation.records import CaseResult, SuiteResult
from countersteer.evaluation.scoring import PairedDifference, SuiteScore, paired_difference

__all__ = ["ComparedScore", "compare_scores", "read_result", "write_result", "write_scores"]


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
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(path)


def read_result(path: Path) -> tuple[SuiteResult, dict[str, object]]:
    """What `write_result` wrote."""
    try:
        content = json.loads(path.read_text())
        cases = tuple(CaseResult(**case) for case in content.pop("cases"))
        result = SuiteResult(content.pop("suite"), content.pop("driver"), content.pop("protocol"), cases)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a result of an evaluation",
            got=error,
            expected="a file written by `countersteer evaluate`",
            fix="evaluate the run again",
        ) from None
    return result, content


def write_scores(run: Path, result: SuiteResult, scores: Sequence[SuiteScore]) -> None:
    """Keep scores beside the verdicts of the same evaluation, if `run` is a folder that has them."""
    path = run / "evaluation" / f"{result.suite}.json"
    if not path.exists():
        return
    stored, extra = read_result(path)
    if (stored.driver, stored.protocol) == (result.driver, result.protocol):
        extra = {name: extra[name] for name in extra if name not in ("passed", "total")}
        write_result(path, result, **extra | {"scores": [score.to_json() for score in scores]})


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


def compare_scores(runs: Sequence[Path]) -> list[ComparedScore]:
    """Scores that were kept with the evaluations of runs; runs of one driver count as its seeds.

    Raises:
        UserError: Two were evaluated under different protocols, or by different definitions of a score.
    """
    found: dict[tuple[str, str], dict[str, list[SuiteScore]]] = {}
    protocols: dict[str, str] = {}
    for run in runs:
        for path in sorted((run / "evaluation").glob("*.json")):
            if path.stem == "open_loop":
                continue
            result, extra = read_result(path)
            if protocols.setdefault(result.suite, result.protocol) != result.protocol:
                raise UserError(
                    f"{path} was evaluated under another protocol",
                    got=result.protocol,
                    expected=protocols[result.suite],
                    fix="evaluate it again with this version",
                )
            for values in extra.get("scores", []):  # type: ignore[attr-defined]
                score = SuiteScore.from_json(values)
                drivers = found.setdefault((result.suite, score.benchmark), {})
                drivers.setdefault(result.driver, []).append(score)
    rows = []
    for (suite, _), drivers in found.items():
        earlier: dict[str, list[SuiteScore]] = {}
        for driver, scores in drivers.items():
            against = {name: paired_difference(scores, others) for name, others in earlier.items()}
            pooled = dataclasses.replace(scores[0], drives=tuple(d for score in scores for d in score.drives))
            rows.append(ComparedScore(driver, suite, protocols[suite], pooled, against))
            earlier[driver] = scores
    return rows
