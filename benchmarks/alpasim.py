"""A policy behind AlpaSim's driver contract, driven by the public client over loopback: latency and leaks.

    python benchmarks/alpasim.py runs/on_policy --json results/bridges/alpasim.json

`countersteer serve` runs in a process of its own. The client (carla-driver-interface) renders a straight road for a
640x360 camera, sends it as JPEG with ego motion and a route, and asks where to drive, so many times in a row.
Then sessions are opened, driven and closed or dropped halfway, and the server's memory is read.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import grpc
import numpy as np
from carla_driver_interface import protocol
from carla_driver_interface.testing import FakeCamera, FakeLoop


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return math.nan


def main() -> None:
    """Print and write what was measured."""
    parser = argparse.ArgumentParser(description="AlpaSim's contract over loopback.")
    parser.add_argument("run", type=Path, help="run folder or policy file")
    parser.add_argument("--drives", type=int, default=200)
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    command = [sys.executable, "-m", "countersteer", "serve", str(known.run), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        said = server.stdout.readline()
        address = said.split(" drives at ")[1].split(";")[0]
        camera = FakeCamera(fov_deg=100.0, x=1.5, z=1.4, pitch_down_deg=math.degrees(0.16))
        with FakeLoop(address, [camera], initial_speed_mps=10.0, initial_lateral_offset_m=0.5) as loop:
            loop.run(5)
            calls: dict[str, list[float]] = {"drive": [], "submit_image_observation": []}
            for name, seconds in calls.items():
                call = getattr(loop._stub, name)

                def timed(*given: object, call=call, seconds=seconds, **options: object) -> object:
                    began = time.perf_counter()
                    answer = call(*given, **options)
                    seconds.append(time.perf_counter() - began)
                    return answer

                setattr(loop._stub, name, timed)
            result = loop.run(known.drives)
            before = memory_mb(server.pid)
            for k in range(40):  # short sessions, every second one of which is never driven to its end
                if k % 2:
                    loop.run(3)
                else:
                    request = protocol.DriveSessionRequest(session_uuid=str(uuid.uuid4()))
                    request.rollout_spec.vehicle.available_cameras.append(camera.available_camera())
                    loop._stub.start_session(request)
                    loop._stub.close_session(
                        protocol.DriveSessionCloseRequest(session_uuid=request.session_uuid)
                    )
                    try:
                        loop._stub.drive(protocol.DriveRequest(session_uuid=request.session_uuid))
                    except grpc.RpcError as error:
                        if error.code() is not grpc.StatusCode.NOT_FOUND:
                            raise
            after = memory_mb(server.pid)
        table = {
            "drives": result.steps,
            "metres": round(float(result.ego.positions[-1, 0]), 1),
            "largest_offset_last_100_m": round(float(np.abs(result.lateral_offsets_m[-100:]).max()), 2),
            "ms": {
                name: {f"p{q}": round(1e3 * float(np.percentile(s, q)), 2) for q in (50, 99)}
                for name, s in calls.items()
            },
            "server_mb": {"before_40_sessions": round(before, 1), "after": round(after, 1)},
            "load": round(os.getloadavg()[0], 1),
        }
        print(json.dumps(table, indent=1))
        if known.json is not None:
            known.json.parent.mkdir(parents=True, exist_ok=True)
            known.json.write_text(json.dumps(table, indent=1))
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    main()
