"""`python -m fuzzing`: damage files of every form, read them, and write down what came of it.

What is done is kept, so a run that was stopped goes on where it was (`--fresh` begins again).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

# One thread in each library, and no memory that is only reserved: what a reader takes can be told.
for _name in (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ARROW_IO_THREADS",
):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from fuzzing.answers import BAD, GOOD, Answer  # noqa: E402
from fuzzing.formats import FORMATS, Format  # noqa: E402
from fuzzing.run import Caps, Outcome, fuzz  # noqa: E402


def main(words: list[str] | None = None, formats: tuple[Format, ...] = FORMATS) -> int:
    """Run the fuzz; 1 if anything bad was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="mutations, of all formats together")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations")
    parser.add_argument("--format", default="", help="part of the names of formats; others are left out")
    parser.add_argument("--number", type=int, help="one mutation alone, as a finding names it")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="where tables and findings go")
    parser.add_argument("--seconds", type=float, default=10.0, help="that reading may take")
    parser.add_argument("--memory", type=float, default=1.0, help="that reading may take [GiB]")
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    said = parser.parse_args(words)
    chosen = [each for each in formats if said.format.lower() in each.name.lower()]
    if not chosen:
        parser.error(f"no format has {said.format!r} in its name: {', '.join(each.name for each in formats)}")
    caps = Caps(said.seconds, int(said.memory * (1 << 30)))
    begun, found = time.monotonic(), {}
    for place, format in enumerate(chosen):
        count = said.count // len(chosen) + (place < said.count % len(chosen))
        numbers = list(range(count)) if said.number is None else [said.number]
        found[format.name] = _of_format(
            format, numbers, said.seed, caps, said.out, said.fresh or said.number is not None
        )
    table = _table(found)
    content = {
        "seed": said.seed,
        "seconds": round(time.monotonic() - begun, 1),
        "formats": table,
        "findings": _findings(found),
    }
    said.out.mkdir(parents=True, exist_ok=True)
    (said.out / "table.json").write_text(json.dumps(content, indent=1))
    (said.out / "table.md").write_text(_markdown(table))
    print(_markdown(table))
    for finding in content["findings"]:
        print(
            f"{finding['times']} x {finding['format']}: {finding['kind']} at {finding['where']}: {finding['said']}"
            f"\n    {finding['file']}, {finding['change']}; --seed {said.seed} --format {finding['format']!r} "
            f"--number {finding['number']}"
        )
    bad = sum(row[kind] for row in table.values() for kind in BAD)
    print(f"{sum(row['mutations'] for row in table.values())} mutations, {bad} bad; {said.out}/table.md")
    return 1 if bad else 0


def _of_format(
    format: Format, numbers: list[int], seed: int, caps: Caps, out: Path, fresh: bool
) -> list[Outcome]:
    """Outcomes of mutations, those of before and new ones; each is written down at once."""
    log = out / f"seed_{seed}" / f"{re.sub(r'[^0-9A-Za-z]+', '_', format.name)}.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    if fresh:
        log.unlink(missing_ok=True)
    done: dict[int, Outcome] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        done[values["number"]] = Outcome(**values | {"answer": Answer(**values["answer"])})
    left = [number for number in numbers if number not in done]
    begun = shown = time.monotonic()
    with log.open("a") as file:
        for made, outcome in enumerate(fuzz(format, left, seed, caps, out / "findings"), 1):
            done[outcome.number] = outcome
            file.write(json.dumps(asdict(outcome)) + "\n")
            file.flush()
            if time.monotonic() - shown > 5 or made == len(left):
                shown = time.monotonic()
                kinds = Counter(each.answer.kind for each in done.values())
                counts = ", ".join(f"{kinds[kind]} {kind}" for kind in (*GOOD, *BAD) if kinds[kind])
                print(
                    f"{format.name}: {made} of {len(left)}, {shown - begun:.0f} s: {counts}", file=sys.stderr
                )
    return [done[number] for number in numbers]


def _table(found: dict[str, list[Outcome]]) -> dict[str, dict[str, int]]:
    """How many answers of each kind each format gave."""
    table = {}
    for name, outcomes in found.items():
        kinds = Counter(outcome.answer.kind for outcome in outcomes)
        table[name] = {"mutations": len(outcomes), **{kind: kinds[kind] for kind in (*GOOD, *BAD)}}
    return table


def _markdown(table: dict[str, dict[str, int]]) -> str:
    lines = ["| format | mutations | refused | same | noted | changed | failed |", "|---|" + "---:|" * 6]
    total: Counter[str] = Counter()
    for name, row in table.items():
        total.update(row)
        lines.append(_row(name, row))
    return "\n".join([*lines, _row("all", total)]) + "\n"


def _row(name: str, row: dict[str, int]) -> str:
    failed = sum(row[kind] for kind in BAD)
    return f"| {name} | {row['mutations']} | {' | '.join(str(row[kind]) for kind in GOOD)} | {failed} |"


def _findings(found: dict[str, list[Outcome]]) -> list[dict[str, object]]:
    """What is bad, the first of each place, and how often."""
    places: dict[tuple[str, str, str], list[Outcome]] = {}
    for name, outcomes in found.items():
        for outcome in outcomes:
            if outcome.answer.kind in BAD:
                places.setdefault((name, outcome.answer.kind, outcome.answer.where), []).append(outcome)
    return [
        {
            "format": name, "kind": kind, "where": where, "times": len(outcomes), "said": outcomes[0].answer.said,
            "number": outcomes[0].number, "file": outcomes[0].file, "change": outcomes[0].change,
        }
        for (name, kind, where), outcomes in places.items()
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
