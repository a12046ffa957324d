"""Bring your own log: poses and times are enough; a road is drawn along the path.

python examples/bring_your_own_log.py
countersteer data inspect runs/my_log
"""

from pathlib import Path

import numpy as np

from countersteer.scenarios import scenario as s
from countersteer.scenarios.procedural import road_along
from countersteer.scenarios.storage import save

times = np.arange(0.0, 20.0, 0.1)
path = np.stack([12.0 * times, 15.0 * np.sin(times / 6.0), np.full_like(times, 0.75)], -1)
velocity = np.gradient(path[:, :2], times, axis=0)
heading = np.arctan2(velocity[:, 1], velocity[:, 0])
tracks = s.Tracks(
    ids=("ego",),
    kind=np.array([int(s.ActorKind.VEHICLE)]),
    position=path[None],
    heading=heading[None],
    velocity=velocity[None],
    size=np.array([[4.6, 1.85, 1.5]]),
    valid=np.ones((1, len(times)), bool),
)
no_lights = s.Signals((), np.zeros((0, 3)), np.zeros(0), np.zeros((0, len(times)), int))
mine = s.Scenario(
    id="my-log",
    times=times,
    road=s.RoadMap(),
    tracks=tracks,
    ego=0,
    route=path[:, :2],
    signals=no_lights,
    provenance=s.Provenance("my fleet", "drive 1", "my own", "none"),
)
if __name__ == "__main__":
    print("wrote", save(road_along(mine), Path("runs/my_log")))
