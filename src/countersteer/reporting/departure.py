"""A film of a recording from beside its path: the recorded view, the departed one, and the way back from above."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy import ndarray

from countersteer.data.cameras import check, drive_of_log, read
from countersteer.evaluation.driving import drive
from countersteer.evaluation.records import DriveRecord
from countersteer.reporting.film import film
from countersteer.scenarios.scenario import Scenario
from countersteer.vehicles.bicycle import VehicleSpec
from countersteer.worlds.renderers.reprojection.renderer import ReprojectionRendererSpec
from countersteer.worlds.simulation.logs import camera_of_log
from countersteer.worlds.simulation.recorded import RecordedSimulation, RecordedSimulationSpec
from countersteer.worlds.simulation.starting import RoadStarts
from countersteer.worlds.world import WorldSpec

__all__ = ["film_departure", "film_in", "view_keeper"]

_PICTURE = (512, 126)  # as large as a film shows it [px]
_FIELD_OF_VIEW = 0.85  # share of the recorded one's, so that there is something beside the view
_KNOWN_CAR = VehicleSpec((0.1, 0.1), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0))


def film_departure(
    log: str | Path,
    out: str | Path,
    *,
    lateral: float = 1.2,
    heading: float = 0.0,
    start: float = 0.0,
    seconds: float = 12.0,
    cache: str | Path | None = None,
) -> None:
    """Film a camera log as the recovery expert would have seen it, driving back from beside the path.

    Args:
        log: A recording in any format that is read.
        out: The film, .mp4.
        lateral, heading: Where the car begins, beside the recorded pose [m, rad], left positive.
        start: Second of the recording.
        seconds: Longest film; it ends with the recording.
        cache: Folder that depth is kept in.
    """
    recording = read(log).pinhole()
    check(recording).require_usable()
    whole = drive_of_log(recording)
    scenario = whole.crop(start, whole.duration) if start > 0.0 else whole
    recorded = recording.cameras[0].calibrated()
    view = 2 * math.atan(recorded.width / 2 / recorded.fx) * _FIELD_OF_VIEW
    camera = camera_of_log(recording, *_PICTURE, view)
    size = min(camera.focal / recorded.fx, 1.0)
    kept = round(recorded.width * size), round(recorded.height * size)
    spec = WorldSpec(
        RecordedSimulationSpec(vehicle=_KNOWN_CAR, duration=seconds, future=1.0),
        ReprojectionRendererSpec(size=kept, cache=None if cache is None else str(cache)),
        sensors=(camera,),
    )
    film_in(spec, scenario, out, lateral=lateral, heading=heading)


def film_in(spec: WorldSpec, scenario: Scenario, out: str | Path, *, lateral: float, heading: float) -> None:
    """The same in a world and a scenario of one's own; the film shows the first camera."""

    def aside(starts: RoadStarts) -> RoadStarts:
        left = torch.stack([-starts.heading.sin(), starts.heading.cos()], -1)
        return starts.replace(position=starts.position + lateral * left, heading=starts.heading + heading)

    (record,) = drive(spec, [scenario], aside, None, seed=0)
    # What follows the end of the recording shows nothing new.
    record = record.until(int(record.alive.sum()))
    film(
        record,
        title="Left and found again",
        subtitle=f"begun {lateral:+.1f} m aside; the plan is the label",
        path=out,
        recorded=_recorded_views(spec, scenario, record),
    )


def _recorded_views(spec: WorldSpec, scenario: Scenario, record: DriveRecord):
    """What the camera sees from the recorded poses, at the places along the path where the car was."""
    world = spec.build([scenario], len(record.times), 0)
    assert isinstance(world.simulation, RecordedSimulation)
    arcs = world.simulation.recordings.tick_arc[0]
    # The drive began at the scenario's first pose.
    driven = torch.from_numpy(record.arc).float() + arcs[0]
    tick = (arcs[None] - driven[:, None]).abs().argmin(1)
    scene = torch.zeros_like(tick)
    world.reset(torch.ones(len(tick), dtype=torch.bool), world.starts_at(scene, tick, scene, jitter=False))
    return world.observe((spec.cameras[0].name,)).sensors[spec.cameras[0].name].data[:, 0].numpy()


def view_keeper(folder: Path) -> Callable[[str, int, ndarray, ndarray], None]:
    """What writes every tenth view of `measure_realism` above what was recorded there, as JPEG files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str, frame: int, view: ndarray, recorded: ndarray) -> None:
        if frame % 10 == 0:
            cv2.imwrite(str(folder / f"{name}_{frame:06}.jpg"), np.vstack([view, recorded])[..., ::-1])

    return keep
