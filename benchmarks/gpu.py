"""Everything that claims to run on a GPU, run there: is it right, and how fast is it.

    python benchmarks/gpu.py [--json runs/gpu.json] [--parts pictures_parity state ...]
    python benchmarks/gpu.py --device cpu --quick     the same parts, tiny, where there is no GPU; their speeds say nothing

Each part runs in a process of its own with a time cap, all of them within `--minutes`. A part that fails or is too slow is an error
in the file, beside the rows that it had measured by then; the others run all the same. On a CPU the kernels of the GPU run in
Triton's interpreter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import gpu_parity
import gpu_speed
from gpu_parts import SEED, Row, Settings

Part = Callable[[Settings], Iterator[Row]]


def hardware(at: Settings) -> Iterator[Row]:
    """The machine and the versions."""
    import torch

    from countersteer.training.folder import environment

    known = environment()
    private = ("host", "command", "began")  # of this process, and of nobody's concern
    yield {name: value for name, value in known.items() if name not in private}
    yield {"cores": os.cpu_count(), "system": platform.platform()}
    with contextlib.suppress(ImportError):
        import triton

        yield {"triton": triton.__version__}
    yield {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    if at.device != "cpu":
        found = torch.cuda.get_device_properties(at.device)
        yield {
            "gpu": found.name,
            "capability": f"{found.major}.{found.minor}",
            "gpu_gib": round(found.total_memory / 2**30, 1),
            "multiprocessors": found.multi_processor_count,
        }


PARTS: dict[str, tuple[Part, float]] = {
    "hardware": (hardware, 40.0),
    "pictures_parity": (gpu_parity.pictures_parity, 60.0),
    "stepping_parity": (gpu_parity.stepping_parity, 60.0),
    "policies_parity": (gpu_parity.policies_parity, 40.0),
    "state": (gpu_speed.state, 60.0),
    "pictures": (gpu_speed.pictures, 80.0),
    "environment": (gpu_speed.environment_steps, 40.0),
    "training_step": (gpu_speed.training_step, 90.0),
    "teacher": (gpu_speed.teacher, 70.0),
    "student": (gpu_speed.student, 70.0),
    "state_compiled": (gpu_speed.state_compiled, 120.0),
}
"""What is run, in this order, each with its longest time [s]."""
DRAWS_BY_TRITON = ("pictures_parity",)


def run_part(name: str, at: Settings, answer: Path) -> None:
    """In a process of its own: note every row as soon as it is there, and an error as one."""
    found: Row = {"rows": []}

    def note() -> None:
        partial = answer.with_suffix(".partial")
        partial.write_text(json.dumps(found))
        partial.replace(answer)

    try:
        for row in PARTS[name][0](at):
            found["rows"].append(row)
            note()
        if at.device != "cpu":
            import torch

            found["gpu_peak_gib"] = round(torch.cuda.max_memory_allocated(at.device) / 2**30, 3)
    except BaseException as error:
        found |= {"error": f"{type(error).__name__}: {error}"[:2000], "trace": traceback.format_exc()[-4000:]}
    note()


def started(name: str, at: Settings, most: float) -> Row:
    """Run one part in a process of its own; what it found, whatever happens to it."""
    answer = at.work / f"{name}.json"
    command = [sys.executable, __file__, "--part", name, "--work", str(at.work), "--device", at.device]
    surroundings = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    if at.device == "cpu" and name in DRAWS_BY_TRITON:
        surroundings["TRITON_INTERPRET"] = "1"
    began, said = time.monotonic(), at.work / f"{name}.txt"
    with said.open("w") as output:
        child = subprocess.Popen(
            command + ["--quick"] * at.quick,
            env=surroundings, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = child.wait(most)
            error = None if code == 0 else f"the process ended with {code}"
        except BaseException as stopped:
            # With all that it has started, compilers among them.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if not isinstance(stopped, subprocess.TimeoutExpired):
                raise
            error = f"stopped after {most:.3g} s"
    found: Row = {"rows": []}
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(answer.read_text())
    if error is not None and "error" not in found:
        found |= {"error": error, "said": said.read_text(errors="replace")[-2000:]}
    return {"seconds": round(time.monotonic() - began, 2)} | found


def main() -> None:
    """Run the parts, write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of this script")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="of all parts together")
    parser.add_argument("--json", type=Path, default=Path("runs/gpu.json"))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.part is not None:
        run_part(
            known.part, Settings(known.device, known.quick, known.work), known.work / f"{known.part}.json"
        )
        return
    began = time.monotonic()
    written: Row = {
        "benchmark": "gpu",
        "device": known.device,
        "quick": known.quick,
        "seed": SEED,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {},
        "parts": {},
    }
    known.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        at = Settings(known.device, known.quick, Path(work))
        for name in dict.fromkeys(["hardware", *known.parts]):
            left = 60.0 * known.minutes - (time.monotonic() - began)
            if left < 5.0:
                found: Row = {"seconds": 0.0, "rows": [], "error": "no time was left"}
            else:
                found = started(name, at, min(PARTS[name][1], left))
            if name == "hardware":
                for row in found["rows"]:
                    written["hardware"] |= row
                found["rows"] = []
            written["parts"][name] = found
            written["seconds"] = round(time.monotonic() - began, 2)
            known.json.write_text(json.dumps(written, indent=1))
            state_ = found.get("error", f"{len(found['rows'])} rows")
            print(f"{name:16} {found['seconds']:7.1f} s  {state_.splitlines()[0][:120]}", flush=True)
    failed = [name for name, found in written["parts"].items() if "error" in found]
    print(f"wrote {known.json}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
