"""Every street network below a folder: how much there is of it, and a contact sheet to look at.

    python benchmarks/road_maps.py ../shared/data/roads --sheet sheet.png --table table.md

Lanes are drawn with their colour by direction, so that a lane on the wrong side of its road is seen; ways through
junctions are orange, beginnings that a signal governs red dots, ends that lead nowhere black crosses.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection

from countersteer.data.roads import read, scan
from countersteer.data.roads.checks import oncoming_sides
from countersteer.errors import UserError
from countersteer.scenarios.network import RoadNetwork

_COLUMNS = 4


def main() -> None:
    """Read, count and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sheet", type=Path, help="the pictures, 16 a sheet: NAME_0.png, NAME_1.png ...")
    parser.add_argument("--table", type=Path, help="the counts, as Markdown")
    parser.add_argument("--around", type=float, help="only so many metres around the middle of each map")
    said = parser.parse_args()
    rows, networks = [], []
    for path in scan(said.folder):
        begun = time.perf_counter()
        try:
            network = read(path)
        except UserError as error:
            rows.append(f"| {path.name} | refused: {error.what} |")
            continue
        networks.append(network)
        rows.append(_row(network, time.perf_counter() - begun))
    total = sum(_kilometres(network, outside=False) for network in networks)
    outside = sum(_kilometres(network, outside=True) for network in networks)
    head = "| map | lanes | lane km | of it in junctions | junctions | signals | oncoming left, right | side | s |"
    lines = [head, "|---|" + "---:|" * 6 + "---|---:|", *rows]
    lines.append(f"| {len(networks)} maps | | {total:.0f} | {total - outside:.0f} | | | | | |")
    text = "\n".join(lines) + "\n"
    print(text)
    if said.table:
        said.table.write_text(text)
    for start in range(0, len(networks) if said.sheet else 0, _COLUMNS**2):
        part = networks[start : start + _COLUMNS**2]
        _sheet(part, said.sheet.with_stem(f"{said.sheet.stem}_{start // _COLUMNS**2}"), said.around)


def _kilometres(network: RoadNetwork, *, outside: bool) -> float:
    lanes = network.lanes.values()
    return sum(lane.length for lane in lanes if not outside or lane.junction is None) / 1000


def _row(network: RoadNetwork, seconds: float) -> str:
    whole, outside = (_kilometres(network, outside=flag) for flag in (False, True))
    junctions = {lane.junction for lane in network.lanes.values()} - {None}
    left, right = oncoming_sides(network.lanes)
    side = "left" if network.left_hand else "right"
    return (
        f"| {network.name} | {len(network.lanes)} | {whole:.1f} | {whole - outside:.1f} | {len(junctions)} | "
        f"{len(network.signals)} | {left}, {right} | {side} | {seconds:.1f} |"
    )


def _sheet(networks: list[RoadNetwork], path: Path, around: float | None) -> None:
    rows = math.ceil(len(networks) / _COLUMNS)
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=(5 * _COLUMNS, 5 * rows), squeeze=False)
    for axis, network in zip(axes.flat, networks, strict=False):
        _draw(axis, network, around)
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)


def _draw(axis: plt.Axes, network: RoadNetwork, around: float | None) -> None:
    lanes = list(network.lanes.values())
    middle = np.median([lane.centre[0, :2] for lane in lanes], axis=0)
    ways = [lane.centre[:, :2] for lane in lanes if lane.junction is not None]
    axis.add_collection(LineCollection(ways, colors="orange", linewidths=0.5))
    roads = [lane.centre[:, :2] for lane in lanes if lane.junction is None]
    pieces = [np.stack([line[:-1], line[1:]], axis=1) for line in roads]
    if pieces:
        segments = np.concatenate(pieces)
        course = np.arctan2(*(segments[:, 1] - segments[:, 0]).T[::-1])
        axis.add_collection(
            LineCollection(list(segments), colors=plt.cm.hsv((course / math.tau) % 1.0), linewidths=0.8)
        )
    for each in network.features:
        axis.plot(*each.points[:, :2].T, color="0.8", lw=0.4, zorder=0)
    lit = np.array([lane.centre[0, :2] for lane in lanes if lane.signal]).reshape(-1, 2)
    axis.plot(*lit.T, "r.", ms=2)
    ends = np.array([lane.centre[-1, :2] for lane in lanes if not lane.successors]).reshape(-1, 2)
    axis.plot(*ends.T, "kx", ms=2)
    axis.set_aspect("equal")
    if around:
        axis.set_xlim(middle[0] - around, middle[0] + around)
        axis.set_ylim(middle[1] - around, middle[1] + around)
    axis.set_title(
        f"{network.name}: {len(lanes)} lanes, {_kilometres(network, outside=False):.1f} km", fontsize=9
    )


if __name__ == "__main__":
    main()
