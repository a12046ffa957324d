"""Results on disk: a suite's verdicts beside the run they belong to, without the frames."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from countersteer.errors import UserError
from countersteer.evaluation.records import CaseResult, SuiteResult

__all__ = ["read_result", "write_result"]


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
