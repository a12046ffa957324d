"""Peer: MetaDrive 0.4.3, one car in one process, stepped with random actions.

    python metadrive_env.py --prepare metadrive_simulator-0.2.6.0-py3-none-any.whl   # once
    python metadrive_env.py state --cpu-seconds 10

Its wheel has no models or textures and looks for them on the web. `--prepare` takes those of the wheel of
0.2.6.0, which still had them, moves them where 0.4.3 looks, and fills in the ground textures that are new since: noise
of the size their names tell. State and lidar touch none of it; pictures from it show the right geometry
at the right cost, in other colours.

The camera draws through EGL, without a display, with Mesa's software OpenGL. It asks for 16 samples a
pixel, which do not exist there, so it gets 1; its main window is as small as the camera. Both are in its favour.
"camera-least" leaves out all that can be: other cars, junctions, shadows, anisotropic filtering.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import shutil
import time
import types
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

# Of the textures that 0.4.3 expects and 0.2.6.0 lacks: size and colour (blue, green, red).
FLAT = (255, 128, 128)
TEXTURES = {
    "grass1/GroundGrassGreen002_COL_1K.jpg": (1024, (60, 120, 80)),
    "grass1/GroundGrassGreen002_NRM_1K.jpg": (1024, FLAT),
    "grass2/grass_path_2_rough_1k.png": (1024, (200, 200, 200)),
    "rock/brown_mud_leaves_01_diff_1k.png": (1024, (60, 80, 100)),
    "rock/brown_mud_leaves_01_nor_gl_1k.png": (1024, FLAT),
    "rock/brown_mud_leaves_01_rough_1k.png": (1024, (200, 200, 200)),
    "asphalt/diff_2k.png": (2048, (90, 90, 90)),
    "asphalt/normal_2k.png": (2048, FLAT),
    "asphalt/rough_2k.png": (2048, (200, 200, 200)),
}


def prepare(wheel: Path) -> None:
    """Give the installed MetaDrive its assets."""
    import cv2

    found = importlib.util.find_spec("metadrive")
    if found is None or found.origin is None:
        raise SystemExit("MetaDrive is not installed: pip install metadrive-simulator==0.4.3")
    root = Path(found.origin).parent
    with zipfile.ZipFile(wheel) as file:
        file.extractall(root.parent, [n for n in file.namelist() if n.startswith("metadrive/assets/")])
    assets = root / "assets"
    for model in (assets / "models" / "vehicle").iterdir():
        shutil.copytree(model, assets / "models" / model.name, dirs_exist_ok=True)
    rng = np.random.default_rng(0)
    for name, (size, colour) in TEXTURES.items():
        path = assets / "textures" / name
        path.parent.mkdir(exist_ok=True)
        picture = rng.normal(0, 8, (size, size, 1)) + np.array(colour)
        cv2.imwrite(str(path), np.clip(picture, 0, 255).astype(np.uint8))
    (assets / "textures" / "terrain").mkdir(exist_ok=True)
    level = np.full((4096, 4096), 2000, np.uint16)
    cv2.imwrite(str(assets / "textures" / "terrain" / "heightfield.png"), level)
    (assets / "version.txt").write_text(version("metadrive-simulator") + "\n")
    print(f"assets of {wheel.name} are in {assets}")


def settings(what: str, width: int, height: int) -> dict[str, Any]:
    """The environment's configuration; everything that is not here is as MetaDrive has it."""
    chosen: dict[str, Any] = {"log_level": logging.ERROR, "num_scenarios": 20, "start_seed": 0}
    if what == "state":
        none = {"num_lasers": 0, "distance": 0}
        chosen["vehicle_config"] = {
            "lidar": {**none, "num_others": 0},
            "side_detector": none,
            "lane_line_detector": none,
        }
    elif what != "lidar":
        from panda3d.core import loadPrcFileData

        loadPrcFileData("", "load-display p3headlessgl")
        one_sample()
        from metadrive.component.sensors.rgb_camera import RGBCamera

        chosen |= {
            "image_observation": True,
            "norm_pixel": False,
            "stack_size": 1,
            "sensors": {"rgb_camera": (RGBCamera, width, height)},
            "vehicle_config": {"image_source": "rgb_camera"},
            "window_size": (width, height),
            "preload_models": False,  # of pedestrians, which the wheel lacks
            "interface_panel": [],
            "show_interface": False,
        }
        if what == "camera-least":
            chosen |= {
                "num_scenarios": 1, "map": "S", "traffic_density": 0.0,
                "shadow_range": 16, "map_region_size": 512,
            }  # fmt: skip
    return chosen


def one_sample() -> None:
    """Have the camera and its window draw one sample a pixel."""
    import metadrive.component.sensors.rgb_camera as camera
    import metadrive.engine.core.engine_core as core

    begin, panda = core.init, camera.p3d
    core.init = lambda **options: begin(**{**options, "msaa_samples": 0})

    class Properties(panda.FrameBufferProperties):
        def set_multisamples(self, samples: int) -> None:
            super().set_multisamples(0)

    camera.p3d = types.SimpleNamespace(**{**vars(panda), "FrameBufferProperties": Properties})


def lighten(env: Any) -> None:
    """Leave out what costs a software renderer most: 16-fold anisotropic ground textures, and shadow maps."""
    from panda3d.core import Texture

    for part in vars(env.engine.terrain).values():
        if isinstance(part, Texture):
            part.setAnisotropicDegree(1)
    for window in env.engine.graphicsEngine.getWindows():
        if window.getName() == "pssm_buffer":
            window.setActive(False)


def main() -> None:
    """Step for so many seconds of processor time; the last line printed is a JSON object."""
    parser = argparse.ArgumentParser(description="MetaDrive, one car.")
    parser.add_argument("what", nargs="?", choices=("state", "lidar", "camera", "camera-least"))
    parser.add_argument("--prepare", type=Path, metavar="WHEEL", help="take the assets of this wheel")
    parser.add_argument("--cpu-seconds", type=float, default=10.0)
    parser.add_argument("--size", type=int, nargs=2, default=(84, 84), help="of the camera")
    parser.add_argument("--picture", type=Path, help="write the camera's last picture here")
    known = parser.parse_args()
    if known.prepare is not None:
        prepare(known.prepare)
        return
    chosen = settings(known.what, *known.size)
    from metadrive import MetaDriveEnv

    env = MetaDriveEnv(chosen)
    observation, _ = env.reset()
    if known.what == "camera-least":
        lighten(env)
    rng = np.random.default_rng(0)
    actions = np.stack([rng.uniform(-0.2, 0.2, 256), rng.uniform(0.1, 0.5, 256)], -1)
    camera = known.what.startswith("camera")
    for k in range(2 if camera else 50):
        env.step(actions[k])
    steps, resets, began, busy = 0, 0, time.perf_counter(), time.process_time()
    while time.process_time() - busy < known.cpu_seconds:
        observation, _, ended, cut, _ = env.step(actions[steps % 256])
        steps += 1
        if ended or cut:
            env.reset()
            resets += 1
    cpu, wall = time.process_time() - busy, time.perf_counter() - began
    shape = {k: v.shape for k, v in observation.items()} if camera else observation.shape
    if known.picture is not None:
        import cv2

        cv2.imwrite(str(known.picture), observation["image"][..., -1])
    result = {
        "count": steps,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "resets": resets,
        "observation": str(shape),
        "version": f"metadrive-simulator {version('metadrive-simulator')}, panda3d {version('panda3d')}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
