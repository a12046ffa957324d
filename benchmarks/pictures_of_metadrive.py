"""One drive on a road of MetaDrive through our renderer and through its own, side by side.

    python benchmarks/pictures_of_metadrive.py docs/pictures/metadrive.png

Its own pictures are drawn by software where there is no GPU: minutes for four of them. They need its assets
(docs/formats.md).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from countersteer.geometry.cameras import Camera
from countersteer.worlds.bridges.metadrive import roads, simulation
from countersteer.worlds.bridges.metadrive.roads import Bend, Lane, Road, Straight
from countersteer.worlds.renderers.boxes.renderer import BoxRendererSpec
from countersteer.worlds.world import WorldSpec

CAMERA = Camera(width=192, height=72)
ROAD = Road((Straight(30.0), Bend(90.0, 1.0, True, 40.0)), lanes=3, traffic=0.2, seed=4)
LANE = Lane(ROAD, number=1, speed=10.0)
ALONG = (25.0, 60.0, 95.0, 140.0)  # of the car's middle [m]


class Told:
    """Stands for the processes: what is drawn is told by hand."""

    take = classmethod(lambda cls, roads, cameras=(): cls())

    def give_back(self) -> None:
        """Nothing was taken."""


def main() -> None:
    """Write the sheet: our pictures above, MetaDrive's below."""
    parser = argparse.ArgumentParser(description="MetaDrive through two renderers.")
    parser.add_argument("out", type=Path)
    known = parser.parse_args()
    from countersteer.worlds.bridges.metadrive import process

    made = process.Process(ROAD.settings(), (CAMERA,))
    scenario = roads._scenario(LANE, made.describe(), 20.0)
    simulation.Hosts = Told  # type: ignore[misc, assignment]
    spec = WorldSpec(simulation.MetaDriveSpec(terminate=()), BoxRendererSpec(), sensors=(CAMERA,))
    ours = spec.build([scenario], 1, seed=3)
    told: Any = ours.simulation
    line = scenario.route
    assert line is not None
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    columns = []
    for number, along in enumerate(ALONG):
        (x, y), ahead = (
            np.array([np.interp(s, arc, column) for column in line.T]) for s in (along, along + 1.0)
        )
        heading = math.atan2(ahead[1] - y, ahead[0] - x)
        if number == 0:
            made.place(x, y, heading, 8.0)
        car = made.environment.agent
        car.set_position((x, y))
        car.set_heading_theta(heading)
        car.set_velocity((math.cos(heading), math.sin(heading)), 8.0)
        answer = made.step(0.0, 0.0)
        ours.state = ours.state.replace(simulation=told._hear(ours.state.simulation, [0], [answer]))
        picture = ours.observe().sensors[CAMERA.name].data[0, 0].numpy()
        columns.append(np.vstack([picture, np.full((3, CAMERA.width, 3), 255, np.uint8), answer.pictures[0]]))
        print(f"{along:g} m", flush=True)
    gap = np.full((len(columns[0]), 3, 3), 255, np.uint8)
    sheet = np.hstack([part for column in columns for part in (column, gap)][:-1])
    known.out.parent.mkdir(parents=True, exist_ok=True)
    large = cv2.resize(sheet[..., ::-1], None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(known.out), large)
    print(f"wrote {known.out}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
