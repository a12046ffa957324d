"""CommonRoad scenes (XML 2018b, 2020a) with tracks: excerpts of NGSIM, inD, highD and others, and simulated traffic.

A scene states its obstacles' tracks and a planning problem: where a car begins and should get to. The recorded car from
which the problem was made is not among the obstacles, so the vehicle that gets furthest is taken for the driver, and the
drive lasts as long as it is seen. The steps of time are those of the file, 0.04 to 0.2 s.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy import ndarray

from countersteer.data.readers.assembly import assemble
from countersteer.data.readers.fields import Field, check_counts, check_lights
from countersteer.data.readers.lights import signals_of
from countersteer.data.readers.physics import USUAL_SIZE
from countersteer.data.readers.source import Reader, fingerprint
from countersteer.data.roads.commonroad_features import map_features
from countersteer.data.roads.commonroad_file import (
    COLOURS,
    CommonRoad,
    Light,
    is_commonroad,
    read_commonroad,
)
from countersteer.data.roads.map_ends import NOTE, beyond_the_map
from countersteer.data.roads.origins import commonroad_origin
from countersteer.errors import UserError
from countersteer.scenarios.scenario import ActorKind, MapFeature, Scenario, Signals, SignalState, Tracks
from countersteer.storage.files import head, read_bytes

__all__ = ["READER"]

_KINDS = {
    **dict.fromkeys(
        ("car", "truck", "bus", "priorityVehicle", "parkedVehicle", "taxi", "train", "van"), ActorKind.VEHICLE
    ),
    **dict.fromkeys(("bicycle", "motorcycle"), ActorKind.CYCLIST),
    "pedestrian": ActorKind.PEDESTRIAN,
}
_SAME = 0.1  # states of one time that are nearer are one [m]
_TALL = {"truck": 3.2, "bus": 3.2, "train": 3.5}  # heights [m]


def _matches(path: Path) -> bool:
    # The obstacles come after the map, which may be long.
    return path.is_file() and is_commonroad(head(path)) and b"bstacle id" in read_bytes(path)


def _tracks(path: Path, scene: CommonRoad) -> tuple[Tracks, ndarray]:
    """Everybody, and the steps of the file, from the first to the last at which somebody moves."""
    moving = [one.states[:, 0] for one in scene.obstacles if one.moves]
    if not moving:
        raise UserError(
            f"{path} holds a map and nobody who moves",
            got=f"{len(scene.obstacles)} obstacles",
            expected="tracks",
            fix="`countersteer.data.roads.read` reads the map",
        )
    stamps = np.concatenate(moving)
    if (stamps != np.rint(stamps)).any():
        Field(path, "a time step", None).fail("is no whole number", got=stamps[stamps != np.rint(stamps)][0])
    first, last = int(stamps.min()), int(stamps.max())
    count, steps = len(scene.obstacles), last - first + 1
    check_counts(path, count, steps)
    states, valid = np.zeros((count, steps, 4)), np.zeros((count, steps), bool)
    for row, one in enumerate(scene.obstacles):
        if not one.moves:
            states[row], valid[row] = one.states[0, 1:], True
            continue
        at = one.states[:, 0].astype(np.int64) - first
        # Some writers state the first state twice.
        twice = np.flatnonzero(np.diff(at) == 0)
        apart = np.abs(one.states[twice + 1, 1:3] - one.states[twice, 1:3])
        if len(np.unique(at)) + len(twice) < len(at) or (apart > _SAME).any():
            Field(path, f"obstacle {one.id}", None).fail(
                "is at two places at one time", got="two states of a step", expected="one state a step"
            )
        states[row, at], valid[row, at] = one.states[:, 1:], True
    kind = np.array([int(_KINDS.get(one.kind, ActorKind.STATIC)) for one in scene.obstacles])
    usual = [USUAL_SIZE[ActorKind(each)][2] for each in kind.tolist()]
    tall = [_TALL.get(one.kind, height) for one, height in zip(scene.obstacles, usual, strict=True)]
    size = np.array([(*one.size, height) for one, height in zip(scene.obstacles, tall, strict=True)])
    heading = np.nan_to_num(states[..., 2])
    ahead = np.stack([np.cos(heading), np.sin(heading)], -1)
    height = np.broadcast_to(size[:, None, 2:] / 2, (count, steps, 1))
    tracks = Tracks(
        tuple(one.id for one in scene.obstacles),
        kind,
        np.concatenate([states[..., :2], height], -1),
        heading,
        states[..., 3:] * ahead,
        size,
        valid,
    )
    return tracks, np.arange(first, last + 1)


def _driver(tracks: Tracks) -> int | None:
    """The vehicle that gets furthest without a break; None if none moves."""
    ways = np.zeros(len(tracks.ids))
    for row in np.flatnonzero(tracks.kind == ActorKind.VEHICLE):
        seen = np.flatnonzero(tracks.valid[row])
        if len(seen) > 1 and len(seen) == seen[-1] - seen[0] + 1:
            ways[row] = np.linalg.norm(np.diff(tracks.position[row, seen, :2], axis=0), axis=1).sum()
    return int(ways.argmax()) if len(ways) and ways.max() > 0 else None


def _shown(light: Light, times: ndarray) -> ndarray:
    """States of a light at times [s]."""
    ends = np.cumsum([duration for duration, _ in light.cycle])
    # A little later, so that a step that is a multiple of a duration counts to the phase that begins.
    phase = np.searchsorted(ends, np.mod(times - light.offset + 1e-6, ends[-1]), side="right")
    states = [int(COLOURS.get(colour, SignalState.UNKNOWN)) for _, colour in light.cycle]
    return np.array(states)[np.minimum(phase, len(states) - 1)]


def _signals(
    path: Path, scene: CommonRoad, times: ndarray, features: list[MapFeature], notes: list[str]
) -> Signals:
    """The lights over time, at the end of the lanes that name them."""
    lights = []
    for name, lanelet in scene.lanelets.items():
        known = [scene.lights[light] for light in lanelet.lights if light in scene.lights]
        if known and lanelet.for_cars:
            stop = (
                lanelet.centre[-1:] if lanelet.stop_line is None else lanelet.stop_line.mean(0, keepdims=True)
            )
            lights.append((name, stop, _shown(known[0], times)))
    check_lights(path, len(lights), len(times))
    return signals_of(lights, len(times), features, notes)


def _read(path: Path) -> Scenario:
    scene = read_commonroad(path)
    notes = list(scene.notes)
    tracks, steps = _tracks(path, scene)
    ego = _driver(tracks)
    source, licence, recorded = commonroad_origin(scene.source)
    recorded &= not scene.simulated
    if ego is not None:
        seen = np.flatnonzero(tracks.valid[ego])
        window = slice(int(seen[0]), int(seen[-1]) + 1)
        notes.append(
            f"the file names no driver: vehicle {tracks.ids[ego]!r}, which gets furthest, is taken for it"
            + (" (the car of the planning problem is not among the obstacles)" if scene.problems else "")
        )
        there = np.asarray(tracks.valid[:, window].any(1))
        notes += [f"{int((~there).sum())} obstacles are not there when the driver is: left out"] * bool(
            (~there).any()
        )
        tracks, steps = _of_actors(tracks.at(window), there), steps[window]
        ego = int(there[:ego].sum())
    if not recorded:
        notes.append("the traffic is simulated or made up: this is not a recording")
    notes.append("the source states no heights: everything stands on level ground and is of usual height")
    features = map_features(scene)
    features += beyond_the_map(features)
    notes.append(NOTE)
    times = steps * scene.step
    return assemble(
        path,
        scene.name,
        times,
        tracks,
        features,
        _signals(path, scene, times, features, notes),
        ego,
        source=source,
        licence=licence,
        fingerprint=fingerprint(scene.data),
        notes=notes,
    )


def _of_actors(tracks: Tracks, kept: ndarray) -> Tracks:
    return Tracks(
        tuple(name for name, keep in zip(tracks.ids, kept, strict=True) if keep),
        *(
            getattr(tracks, name)[kept]
            for name in ("kind", "position", "heading", "velocity", "size", "valid")
        ),
    )


READER = Reader(
    "commonroad",
    "a CommonRoad file with obstacles (XML 2018b or 2020a, .xml, .xml.gz)",
    _matches,
    _read,
)
