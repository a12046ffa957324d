"""Ours beside its peers, in one run: agent steps and pictures a second of processor time, and the ratios.

    python benchmarks/peers.py --pufferlib SOURCE --metadrive-python PYTHON --gl-python PYTHON \\
        [--cpu-seconds 10] [--rows state lidar camera gl] [--json FILE] [--picture FILE]

Each program runs alone, in a process of its own with its own interpreter and one thread, for the same processor
time after its own warm-up: ours, then its peers, for each row. A peer that is not on the machine is reported with
how to get it. Ratios are per second of processor time, all threads of a process added up, so they hold on a machine
that is not quiet; agent steps of different simulators are not the same work, which the table says.

- state: our world with its vector observation; the C environment of pufferlib; MetaDrive without lidar.
- lidar: MetaDrive as it comes, against the same row of ours.
- camera: MetaDrive's camera with software OpenGL, against ours of the same size; both step the world too.
- gl: our own boxes and ground, drawn by software OpenGL (`peers/gl_renderer.py`) and by our kernel,
  the same views of the same moments. This is the fair peer of the renderer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent / "peers"
ROWS = ("state", "lidar", "camera", "gl")
HOW = {
    "pufferlib": "mkdir puffer; TMPDIR=$PWD/puffer pip download --no-deps --no-clean --no-build-isolation --no-binary :all: "
    "pufferlib==3.0.0 (it may stop at its setup; the source stays), then --pufferlib puffer/pip-download-*/pufferlib_*",
    "metadrive": "in a venv: pip install metadrive-simulator==0.4.3; pip download --no-deps metadrive-simulator==0.2.6.0; "
    "python benchmarks/peers/metadrive_env.py --prepare metadrive_simulator-0.2.6.0-*.whl; then --metadrive-python PYTHON",
    "gl": "in a venv: pip install moderngl numpy (and Mesa: apt install libegl1 libgl1-mesa-dri), then --gl-python PYTHON",
}


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        row: One of `ROWS`.
        who: Which program, and how it was set.
        holds: What an observation holds.
        rate: Agent steps, or pictures, a second of processor time; None if it did not run.
        wall_rate: The same for a second of the clock.
        ratio: Ours to this one by `rate`; None for ours, and if it did not run.
        note: Why it did not run, or its version.
    """

    row: str
    who: str
    holds: str
    rate: float | None
    wall_rate: float | None
    ratio: float | None
    note: str


def environment() -> dict[str, str]:
    """One thread for everything that would take more."""
    names = (
        "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
    )  # fmt: skip
    return {**os.environ, **dict.fromkeys(names, "1"), "LP_NUM_THREADS": "0"}


def run(command: list[str], limit: float) -> tuple[dict[str, Any] | None, str]:
    """The JSON object on the last line of what a program prints; None and why, if there is none."""
    try:
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"gave no result in {limit:.0f} s"
    except OSError as error:
        return None, str(error)
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines and lines[-1].startswith("{"):
        return json.loads(lines[-1]), ""
    said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
    return None, f"ended with {done.returncode}: {said[:200]}"


class Comparison:
    """Runs the programs and keeps the rows."""

    def __init__(self, known: argparse.Namespace, scratch: Path):
        self.known, self.scratch = known, scratch
        self.rows: list[Row] = []

    def ours(self, row: str, who: str, holds: str, *arguments: object) -> float | None:
        """Measure ours, in a process like a peer's; what the peers of the row are divided by."""
        command = [sys.executable, str(FOLDER / "ours.py"), *map(str, arguments)]
        return self._add(row, who, holds, command, None, compiles=True)

    def peer(
        self, row: str, who: str, holds: str, ours: float | None, python: str, script: str, *arguments: object
    ) -> None:
        """Measure one peer."""
        command = [python, str(FOLDER / script), *map(str, arguments)]
        self._add(row, who, holds, command, ours, compiles=False)

    def absent(self, row: str, who: str, name: str) -> None:
        """Say how to get what is not here."""
        self._keep(Row(row, who, "", None, None, None, f"not installed. {HOW[name]}"))

    def _add(
        self, row: str, who: str, holds: str, command: list[str], ours: float | None, compiles: bool
    ) -> float | None:
        seconds = self.known.cpu_seconds
        limit = self.known.limit + (600 if compiles else 0)  # numba compiles once a checkout
        result, why = run([*command, "--cpu-seconds", str(seconds)], limit)
        if result is None:
            self._keep(Row(row, who, holds, None, None, None, why))
            return None
        rate = result["count"] / result["cpu_seconds"]
        wall = result["count"] / result["wall_seconds"]
        self._keep(Row(row, who, holds, rate, wall, None if ours is None else ours / rate, result["version"]))
        return rate

    def _keep(self, row: Row) -> None:
        self.rows.append(row)
        if row.rate is None:
            print(f"{row.row:7} {row.who:46} {row.note}", flush=True)
        else:
            ratio = "" if row.ratio is None else f"{row.ratio:10.3g}"
            print(
                f"{row.row:7} {row.who:46} {row.rate:12,.1f} {row.wall_rate:12,.1f} {ratio:>10}  {row.holds}",
                flush=True,
            )

    def compare(self) -> None:
        """Every row that was asked for."""
        known = self.known
        if {"state", "lidar"} & set(known.rows):
            self._states()
        if "camera" in known.rows:
            self._cameras()
        if "gl" in known.rows:
            self._gl()

    def _states(self) -> None:
        known, vector = self.known, "689 floats: ego, route, 16 actors, 4 lights, 64 lane and 32 edge points"
        ours: dict[int, float | None] = {}
        for worlds in (4, 64):
            agents = 16 * worlds
            ours[agents] = self.ours(
                "state", f"ours, {agents} cars", vector, "state", "--worlds", worlds, "--agents", 16
            )
        if "state" in known.rows:
            for agents in (64, 1024):
                for flags in ("as it comes", "for this CPU"):
                    who = f"pufferlib C, {agents} cars, built {flags}"
                    if known.pufferlib is None:
                        self.absent("state", who, "pufferlib")
                        continue
                    holds = "1847 floats: ego, 63 cars, 200 road segments"
                    self.peer(
                        "state", who, holds, ours[agents], sys.executable, "c_env.py",
                        known.pufferlib, "--agents", agents, "--flags", flags,
                    )  # fmt: skip
        for row, holds in (
            ("state", "19 floats: ego and route"),
            ("lidar", "259 floats: ego and route, 240 beams; no lanes, no other car as such"),
        ):
            if row not in known.rows:
                continue
            if known.metadrive_python is None:
                self.absent(row, "MetaDrive, 1 car", "metadrive")
            else:
                self.peer(
                    row,
                    "MetaDrive, 1 car",
                    holds,
                    ours[1024],
                    known.metadrive_python,
                    "metadrive_env.py",
                    row,
                )

    def _cameras(self) -> None:
        known = self.known
        width, height = known.metadrive_size
        picture = f"one {width}x{height} picture, RGB"
        ours = self.ours(
            "camera", "ours, 64 cars", picture, "full", "--worlds", 4, "--agents", 16, "--size", width, height
        )
        for what, who in (
            ("camera", "MetaDrive, 1 car, as it comes"),
            ("camera-least", "MetaDrive, 1 car, one road, no shadows"),
        ):
            if known.metadrive_python is None:
                self.absent("camera", who, "metadrive")
            else:
                self.peer(
                    "camera", who, picture, ours, known.metadrive_python, "metadrive_env.py",
                    what, "--size", width, height,
                )  # fmt: skip

    def _gl(self) -> None:
        known = self.known
        scenes, picture = self.scratch / "scenes.npz", "one 128x64 picture, RGB"
        shown = self.scratch / "ours.png"
        ours = self.ours("gl", "ours", picture, "views", "--scenes", scenes, "--picture", shown)
        pictures = [shown]
        for filtering in ("fast", "trilinear", "taps", "sharp"):
            who = f"software OpenGL, {filtering} ground"
            if known.gl_python is None:
                self.absent("gl", who, "gl")
                continue
            pictures.append(self.scratch / f"{filtering}.png")
            self.peer(
                "gl", who, picture, ours, known.gl_python, "gl_renderer.py",
                scenes, "--filtering", filtering, "--picture", pictures[-1],
            )  # fmt: skip
        if known.picture is not None:
            side_by_side([path for path in pictures if path.exists()], known.picture)


def side_by_side(paths: list[Path], into: Path) -> None:
    """Ours at the left, three times as large as drawn."""
    import cv2

    whole = np.hstack([np.asarray(cv2.imread(str(path))) for path in paths])
    into.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(into), cv2.resize(whole, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST))
    print(f"wrote {into}: ours, {', '.join(path.stem for path in paths[1:])}")


def processor() -> str:
    """Its name, where Linux tells it."""
    try:
        names = [s for s in Path("/proc/cpuinfo").read_text().splitlines() if s.startswith("model name")]
    except OSError:
        names = []
    return names[0].split(":")[1].strip() if names else platform.processor()


def main() -> None:
    """Print the table; write it as JSON if asked."""
    parser = argparse.ArgumentParser(description="Ours beside its peers.")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--cpu-seconds", type=float, default=10.0, help="for each measurement")
    parser.add_argument("--limit", type=float, default=900.0, help="longest wait for one program [s]")
    parser.add_argument(
        "--pufferlib", type=Path, default=os.environ.get("PEER_PUFFERLIB"), help="its unpacked source"
    )
    parser.add_argument("--metadrive-python", default=os.environ.get("PEER_METADRIVE_PYTHON"))
    parser.add_argument("--metadrive-size", type=int, nargs=2, default=(84, 84), help="of its camera")
    parser.add_argument("--gl-python", default=os.environ.get("PEER_GL_PYTHON"))
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument(
        "--picture", type=Path, help="write the pictures of ours and of OpenGL side by side here"
    )
    known = parser.parse_args()
    load = os.getloadavg()[0]
    print(
        f"{processor()}, {os.cpu_count()} cores, load {load:.1f}; one thread each, {known.cpu_seconds:g} CPU s"
    )
    print(f"{'row':7} {'who':46} {'/ CPU s':>12} {'/ s':>12} {'ours/this':>10}  observation")
    with tempfile.TemporaryDirectory() as scratch:
        comparison = Comparison(known, Path(scratch))
        comparison.compare()
    for note in dict.fromkeys(row.note for row in comparison.rows if row.rate is not None):
        print(f"version: {note}")
    if known.json is not None:
        head = {
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "processor": processor(),
            "load": load,
            "cpu_seconds": known.cpu_seconds,
        }
        known.json.parent.mkdir(parents=True, exist_ok=True)
        known.json.write_text(
            json.dumps({**head, "rows": [asdict(row) for row in comparison.rows]}, indent=1)
        )
        print(f"wrote {known.json}")


if __name__ == "__main__":
    main()
