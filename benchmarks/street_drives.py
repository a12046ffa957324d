"""Rules drive from 20 places on every street network below a folder; failures by cause.

    python benchmarks/street_drives.py ../shared/data/roads --out runs/street_drives

The driver is the recovery expert (`RecoveryExpert`): it keeps its lane, follows leaders and stops for lights, and
knows nothing of right of way. The logged ego, which gives way, is checked beside it. What is done is kept in the folder, so
that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np

from countersteer.data.roads import scan
from countersteer.data.sources import StreetDrives
from countersteer.errors import UserError
from countersteer.evaluation.failures import count_failures, explain_suite
from countersteer.evaluation.suites import run_suite, streets
from countersteer.scenarios.scenario import Scenario, SignalState


def main() -> None:
    """Drive, count, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/street_drives"))
    parser.add_argument("--places", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--traffic", type=int, default=10)
    said = parser.parse_args()
    said.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for path in scan(said.folder):
        kept = said.out / f"{path.parent.name}_{path.name}.json"
        if not kept.exists():
            begun = time.perf_counter()
            row = _drive(path, said.places, said.seconds, said.traffic)
            row["took_s"] = round(time.perf_counter() - begun, 1)
            kept.write_text(json.dumps(row, indent=1))
        rows.append({"map": path.name.split(".")[0], **json.loads(kept.read_text())})
        print(_line(rows[-1]), flush=True)
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.get("causes", {}))
    drives, passed = (sum(row.get(key, 0) for row in rows) for key in ("drives", "passed"))
    lines = ["| map | drives | passed | failures | log: stands, passes red |", "|---|---:|---:|---|---|"]
    lines += [_line(row) for row in rows]
    lines.append(f"| all | {drives} | {passed} | {_causes(total)} | |")
    (said.out / "table.md").write_text("\n".join(lines) + "\n")
    print(lines[-1])


def _drive(path: Path, places: int, seconds: float, traffic: int) -> dict:
    source = StreetDrives(
        str(path),
        count=places,
        seed=7,
        length=max(100.0, 12.0 * seconds),
        duration=seconds,
        traffic=(0, traffic),
    )
    try:
        suite = streets(source)
    except UserError as error:
        return {"refused": error.what}
    logs = [_log(case.scenario) for case in suite.cases]
    result = run_suite(suite, "expert", None)
    failures = explain_suite(result)
    passed = sum(case.passed is True for case in result.cases)
    return {
        "drives": len(result.cases),
        "passed": passed,
        "apart": sum(case.passed is None for case in result.cases),
        "causes": {kind.value: count for kind, count in count_failures(failures).items()},
        "reasons": [f"{case.case}: {case.reason}" for case in result.cases if case.passed is False],
        "log": {key: sum(log[key] for log in logs) for key in logs[0]},
    }


def _log(scenario: Scenario) -> dict[str, float]:
    """Of the logged ego: whether it stands nearly always, passes a red light."""
    tracks, ego = scenario.tracks, 0
    speed = np.linalg.norm(tracks.velocity[ego], axis=-1)
    place = tracks.position[ego, :, :2]
    ahead = np.stack([np.cos(tracks.heading[ego]), np.sin(tracks.heading[ego])], -1)
    front = place + ahead * tracks.size[ego, 0] / 2
    red = 0
    for point, heading, states in zip(
        scenario.signals.stop_point, scenario.signals.heading, scenario.signals.state, strict=True
    ):
        along = (front - point[:2]) @ np.array([np.cos(heading), np.sin(heading)])
        aside = np.abs((front - point[:2]) @ np.array([-np.sin(heading), np.cos(heading)]))
        same = np.cos(tracks.heading[ego] - heading) > 0.7
        passes = (along[:-1] < 0) & (along[1:] >= 0) & (aside[1:] < 1.5) & same[1:]
        red += int((states[1:][passes] == SignalState.STOP).sum())
    return {"stands": float(np.median(speed) < 0.3), "red": float(red > 0)}


def _causes(causes: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(causes.items(), key=lambda pair: -pair[1]))


def _line(row: dict) -> str:
    if "refused" in row:
        return f"| {row['map']} | 0 | | refused: {row['refused']} | |"
    log = ", ".join(f"{value:.0f}" for value in row["log"].values())
    return f"| {row['map']} | {row['drives']} | {row['passed']} | {_causes(row['causes'])} | {log} |"


if __name__ == "__main__":
    main()
