"""Departed views against the truth: `python benchmarks/departures.py [--picture FILE] [--json FILE]`.

Generated roads with traffic are filmed in boxworld, which can also be asked what a camera beside the recorded path would have
seen. Each film is seen from aside, turned and from ahead, with true and with estimated depth, with the nearest frame alone and
with frames some 4 m ahead and behind filling holes, and compared with the true picture. Everything is of luminance at 128x48.
Estimated depth is by plane sweep, once in a film three times as fine, as a recording is finer than what a policy sees.

Rows of the figure: mean error over all pixels, painted ones included; correlation of what is finer than a blur of two pixels.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray

from countersteer.data.sources import ProceduralRoads
from countersteer.evaluation.realism import detail
from countersteer.geometry.cameras import Camera
from countersteer.geometry.rigid import transform
from countersteer.reconstruction.depth import DepthSource, stored_depths
from countersteer.reconstruction.depth.depth_map import grey
from countersteer.worlds.renderers.films import RenderedLogs, Studio, level_poses, pad_fov
from countersteer.worlds.renderers.reprojection.bank import frame_bank
from countersteer.worlds.renderers.reprojection.drawing import Views, render

TICKS = (20, 60, 100, 140)
AROUND = (0, 2, -2)  # frames: at 15 to 20 m/s some 4 m
OFFSETS = {
    "aside [m]": [-4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0],
    "turned [degrees]": [-25.0, -15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 25.0],
    "ahead [m]": [0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0],
}
STYLES = {
    "the recorded picture, unmoved": ("0.55", ":"),
    "ground alone": ("tab:orange", "-"),
    "estimated depth, one frame": ("tab:blue", "--"),
    "estimated depth, three frames": ("tab:blue", "-"),
    "estimated at 192x64, three frames": ("tab:red", "-"),
    "true depth, one frame": ("tab:green", "--"),
    "true depth, three frames": ("tab:green", "-"),
}


def compare(drawn: ndarray, true: ndarray) -> tuple[float, float]:
    """Mean error [of 255] and correlation of the fine structure."""
    error = np.abs(grey(drawn).astype(float) - grey(true)).mean()
    return float(error), float(np.corrcoef(detail(drawn).ravel(), detail(true).ravel())[0, 1])


def measure(roads: int, cache: Path | None) -> dict[str, dict[str, list[list[float]]]]:
    """By axis and style, a row for each offset: mean error, and fine correlation, medians over roads and moments."""
    camera = Camera()
    scenarios = ProceduralRoads(count=roads, seed=31, traffic=(6, 10), lanes=(2, 4), length=620.0).load()
    large = dataclasses.replace(camera, width=3 * camera.width, height=3 * camera.height)
    settings = (pad_fov(camera), pad_fov(large, 96, 24), camera)
    wide, finer, exact = (Studio(RenderedLogs(which), scenarios) for which in settings)
    rows: dict[tuple[str, str, float], list[tuple[float, float]]] = {}
    mounting = transform(camera.rotation, np.array(camera.position))
    for number in range(roads):
        log, fine_log = wide.film(number), finer.film(number)
        frames = sorted({tick + k for tick in TICKS for k in AROUND})
        banks = {}
        for name, of, source in (
            ("true depth", log, DepthSource.RECORDED),
            ("estimated depth", fine_log, DepthSource.SWEEP),
            ("estimated at 192x64", log, DepthSource.SWEEP),
            ("ground alone", log, DepthSource.GROUND),
        ):
            estimated = stored_depths(of, "front", frames, source, (192, 64), cache)
            maps = dict(zip(frames, estimated, strict=True))
            banks[name] = frame_bank(log, "front", frames, maps.__getitem__)[0]
        for tick in TICKS:
            for axis, offsets in OFFSETS.items():
                moves = torch.tensor(offsets)
                still = torch.zeros_like(moves)
                aside, turned, ahead = (
                    moves if axis.startswith(name) else still for name in ("aside", "turned", "ahead")
                )
                ticks = torch.full((len(moves),), tick)
                truth, position, heading = exact.look(number, ticks, ahead, aside, torch.deg2rad(turned))
                assert truth.rgb is not None
                poses = level_poses(position.double().numpy(), heading.double().numpy()) @ mounting
                sources = torch.tensor([[frames.index(tick + k) for k in AROUND]]).expand(len(moves), -1)
                recorded = log.cameras[0].frames[tick][8:-8, 32:-32]
                drawn = {"the recorded picture, unmoved": [recorded] * len(moves)}
                for name, bank in banks.items():
                    for count, words in ((1, "one frame"), (3, "three frames")):
                        views = Views.of(camera.intrinsics, torch.from_numpy(poses), sources[:, :count])
                        label = name if name == "ground alone" else f"{name}, {words}"
                        drawn[label] = list(render(bank, views).rgb.numpy())
                for label, pictures in drawn.items():
                    for k, offset in enumerate(offsets):
                        key = axis, label, offset
                        rows.setdefault(key, []).append(compare(pictures[k], truth.rgb[k].numpy()))
    return {
        axis: {
            label: [np.median(rows[axis, label, offset], 0).round(4).tolist() for offset in offsets]
            for label in STYLES
        }
        for axis, offsets in OFFSETS.items()
    }


def draw(found: dict[str, dict[str, list[list[float]]]], path: Path) -> None:
    """The figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6.4), sharey="row", constrained_layout=True)
    for column, (axis, curves) in enumerate(found.items()):
        for row in range(2):
            plot = axes[row, column]
            for label, values in curves.items():
                color, style = STYLES[label]
                plot.plot(OFFSETS[axis], [pair[row] for pair in values], style, color=color, label=label)
            plot.grid(alpha=0.25)
            plot.spines[["top", "right"]].set_visible(False)
        for start, end in {"aside [m]": (-1, 1), "turned [degrees]": (-7.5, 7.5)}.items():
            if axis == start:
                for row in range(2):
                    axes[row, column].axvspan(*end, color="tab:green", alpha=0.07, lw=0)
        axes[1, column].set_xlabel(axis)
    axes[0, 0].set_ylabel("mean error [levels of 255]")
    axes[1, 0].set_ylabel("correlation of fine structure")
    axes[0, 2].legend(fontsize=8, frameon=False)
    figure.suptitle(
        "Recorded frames seen from elsewhere, against what a camera there would have seen (green: full trust)"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--roads", type=int, default=6)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--cache", type=Path, help="folder that depth is kept in")
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(known.roads, known.cache)
    for axis, curves in found.items():
        print(f"{axis:32}" + "".join(f"{offset:12g}" for offset in OFFSETS[axis]))
        for label, values in curves.items():
            print(f"{label:32}" + "".join(f"{error:6.1f} {high:5.2f}" for error, high in values))
    if known.json is not None:
        known.json.write_text(json.dumps({"offsets": OFFSETS, "median": found}, indent=1))
    if known.picture is not None:
        draw(found, known.picture)


if __name__ == "__main__":
    main()
