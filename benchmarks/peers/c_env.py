"""Peer: the driving environment in C that comes with pufferlib 3.0.0 (`ocean/gpudrive`), state only.

    python c_env.py pufferlib-3.0.0/ --agents 1024 --cpu-seconds 10

Compiles it from the unpacked source distribution, with the headers and library of raylib that lie in it (its
drawing is never called), and steps it as its Python class does. Left out, in its favour: loading other maps after
91 steps. The distribution has one map, so all worlds are the same scene.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from types import ModuleType

import numpy as np

FLOATS = 6 + 63 * 7 + 200 * 7
"""Ego, other cars, road segments."""
FLAGS = {"as it comes": ["-O2", "-flto"], "for this CPU": ["-O3", "-march=native", "-flto"]}


def compiled(source: Path, flags: list[str], folder: Path) -> ModuleType:
    """The extension module, built into a folder."""
    raylib = source / "raylib-5.5_linux_amd64"
    library = folder / "binding.so"
    command = [
        "gcc", "-shared", "-fPIC", "-w", "-fwrapv", "-DPLATFORM_DESKTOP", *flags,
        f"-I{raylib / 'include'}", f"-I{np.get_include()}", f"-I{sysconfig.get_paths()['include']}",
        str(source / "pufferlib/ocean/gpudrive/binding.c"), "-o", str(library),
        str(raylib / "lib/libraylib.a"), "-lm", "-lpthread", "-ldl",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location("binding", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Step for so many seconds of processor time; the last line printed is a JSON object."""
    parser = argparse.ArgumentParser(description="The C environment of pufferlib 3.0.0.")
    parser.add_argument("source", type=Path, help="folder of the unpacked source distribution")
    parser.add_argument("--agents", type=int, default=1024)
    parser.add_argument("--flags", choices=FLAGS, default="as it comes", help="of the compiler")
    parser.add_argument("--cpu-seconds", type=float, default=10.0)
    known = parser.parse_args()
    source, agents = known.source.resolve(), known.agents
    with tempfile.TemporaryDirectory() as name:
        binding = compiled(source, FLAGS[known.flags], Path(name))
        os.chdir(name)
        maps = Path("resources/gpudrive/binaries")
        maps.mkdir(parents=True)
        (maps / "map_000.bin").symlink_to(source / "pufferlib/resources/gpudrive/map_942.bin")

        observations = np.zeros((agents, FLOATS), np.float32)
        actions, rewards = np.zeros((agents, 2), np.int32), np.zeros(agents, np.float32)
        terminals, truncations = np.zeros(agents, bool), np.zeros(agents, bool)
        offsets, maps_of, worlds = binding.shared(num_agents=agents, num_maps=1)
        envs = [
            binding.env_init(
                observations[a:b], actions[a:b], rewards[a:b], terminals[a:b], truncations[a:b], 1,
                human_agent_idx=0, reward_vehicle_collision=-0.1, reward_offroad_collision=-0.1,
                reward_goal_post_respawn=0.5, reward_vehicle_collision_post_respawn=-0.25,
                spawn_immunity_timer=30, map_id=number, max_agents=b - a,
            )
            for a, b, number in zip(offsets, offsets[1:], maps_of, strict=False)
        ]  # fmt: skip
        many = binding.vectorize(*envs)
        binding.vec_reset(many, 1)
        rng = np.random.default_rng(0)
        chosen = np.stack([rng.integers(0, 7, (256, agents)), rng.integers(0, 13, (256, agents))], -1)
        chosen = chosen.astype(np.int32)

        def step(k: int) -> None:
            terminals[:] = 0
            actions[:] = chosen[k % 256]
            binding.vec_step(many)
            binding.vec_log(many)

        for k in range(20):
            step(k)
        steps, began, busy = 0, time.perf_counter(), time.process_time()
        while time.process_time() - busy < known.cpu_seconds:
            step(steps)
            steps += 1
        cpu, wall = time.process_time() - busy, time.perf_counter() - began
    assert (observations != 0).mean() > 0.1, "the observations are empty"
    result = {
        "count": steps * agents,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "worlds": worlds,
        "version": "pufferlib 3.0.0 ocean/gpudrive, gcc " + " ".join(FLAGS[known.flags]),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
