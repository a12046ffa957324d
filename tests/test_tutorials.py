"""The tutorials' commands run as they are written, on small logs and with small budgets."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from countersteer.data.sources import ProceduralRoads
from countersteer.geometry.cameras import Camera
from countersteer.geometry.rigid import quaternion_from_matrix
from countersteer.scenarios.procedural import RoadKind
from countersteer.scenarios.storage import save

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorials" / "your_logs.md"

BUDGET = "--rollouts.num_worlds 8 --rollouts.total_frames 400 --rollouts.iterations 2 --optim.steps 4 --optim.batch_size 2"
EXTRA = {"train": BUDGET}  # flags that are added to a command, by its name


def commands(page: Path) -> list[str]:
    """Every command line of a page's ```bash blocks, in order."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith("#")]


def track_logs(folder: Path) -> Path:
    """Two short drives on generated roads, as somebody's logs."""
    source = ProceduralRoads(2, seed=91, kinds=(RoadKind.GENTLE,), traffic=(1, 2), duration=12.0)
    for number, scenario in enumerate(source.load()):
        save(scenario, folder / f"drive-{number}")
    return folder


def camera_log(folder: Path) -> Path:
    """A rig with one camera on a generated road: pictures, calibration, poses."""
    from countersteer.worlds.renderers.films import RenderedLogs, Studio, pad_fov

    camera = pad_fov(Camera())
    source = ProceduralRoads(1, seed=92, kinds=(RoadKind.GENTLE,), traffic=(0, 0), duration=12.0)
    film = Studio(RenderedLogs(camera), source.load()).film(0)
    assert film.poses is not None
    pictures = folder / "front"
    pictures.mkdir(parents=True)
    frames = film.cameras[0].frames
    for number in range(len(frames)):
        cv2.imwrite(str(pictures / f"{number:05d}.png"), frames[number][..., ::-1])
    rig = {
        "name": "front",
        "pictures": "front",
        "times_s": film.cameras[0].times.tolist(),
        "fx_px": camera.focal,
        "fy_px": camera.focal,
        "cx_px": camera.width / 2,
        "cy_px": camera.height / 2,
        "position_m": list(camera.position),
        "pitch_rad": camera.pitch,
    }
    (folder / "rig.json").write_text(json.dumps({"cameras": [rig], "licence": "mine"}))
    ego = film.poses.world_from_ego
    rows = np.concatenate(
        [film.poses.times[:, None], ego[:, :3, 3], quaternion_from_matrix(ego[:, :3, :3])], 1
    )
    lines = [",".join(f"{value:.9f}" for value in row) for row in rows]
    (folder / "poses.csv").write_text("\n".join(["time_s,x_m,y_m,z_m,qw,qx,qy,qz", *lines]) + "\n")
    return folder


def run(line: str, folder: Path) -> str:
    """Run one command of a page in `folder`; fails with what it printed."""
    words = shlex.split(line)
    assert words[0] == "countersteer", f"{line!r}: a page's bash blocks hold our own commands"
    added = shlex.split(EXTRA.get(words[1], ""))
    search = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "countersteer", *words[1:], *added],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def in_place(line: str, logs: Path, log: Path) -> str:
    """A command with the page's PATH and LOG replaced by real ones."""
    return re.sub(r"\bLOG\b", str(log), re.sub(r"\bPATH\b", str(logs), line))


def test_the_page_goes_from_logs_to_a_report():
    names = [shlex.split(line)[1] for line in commands(PAGE)]
    assert names == [
        "data",
        "data",
        "train",
        "evaluate",
        "evaluate",
        "report",
        "data",
        "train",
        "evaluate",
        "report",
    ]


@pytest.mark.slow
def test_the_data_commands_of_your_logs_run_as_written(tmp_path: Path):
    logs, log = track_logs(tmp_path / "recorded"), camera_log(tmp_path / "street")
    for line in commands(PAGE):
        if shlex.split(line)[1] == "data":
            run(in_place(line, logs, log), tmp_path)
    assert len(list((tmp_path / "logs").glob("*/scenario.json"))) == 2


@pytest.mark.slow
def test_your_logs_runs_as_written(tmp_path: Path):
    logs, log = track_logs(tmp_path / "recorded"), camera_log(tmp_path / "street")
    for line in commands(PAGE):
        run(in_place(line, logs, log), tmp_path)
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    assert (tmp_path / "runs" / "street" / "report.html").is_file()
