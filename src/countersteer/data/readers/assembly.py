"""From what a file says to a `Scenario`: the checks and the finishing that all formats share."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.data.readers.fields import MAX_FEATURES
from countersteer.data.readers.physics import plausible
from countersteer.data.readers.units import FASTEST
from countersteer.errors import UserError
from countersteer.geometry.poses import wrap_angle
from countersteer.scenarios.coverage import coverage
from countersteer.scenarios.routes import forward_stretch, lane_width_along, route_of_track
from countersteer.scenarios.scenario import (
    MapFeature,
    MapKind,
    Provenance,
    RoadMap,
    Scenario,
    Signals,
    Tracks,
)

__all__ = [
    "assemble",
    "check_times",
    "check_tracks",
    "heading_of",
    "lane_width_of_area",
]

_LEVEL = 0.1  # a forward axis that is less than this level points up or down
_SHORTEST_DRIVE = 5.0  # a part that gets less far is no drive; the whole recording is kept then [m]
_LARGEST_BOX = 100.0  # a longer actor is a mistake of units [m]


def check_times(path: Path, times: Float[ndarray, "time"]) -> None:
    """Refuse a time base that is too short or does not increase."""
    if len(times) < 2:
        raise UserError(
            f"{path}: the drive is too short",
            got=f"{len(times)} time steps",
            expected="at least two",
            fix="take a longer recording",
        )
    steps = np.diff(times)
    if not np.all(steps > 0):  # NaN fails this too
        bad = int(np.flatnonzero(~(steps > 0))[0])
        raise UserError(
            f"{path}: times do not increase at step {bad + 1}",
            got=f"{times[bad]:g} s, then {times[bad + 1]:g} s",
            expected="increasing times",
            fix="check that the recording is whole and was not joined from two",
        )


def check_tracks(path: Path, times: Float[ndarray, "time"], tracks: Tracks) -> None:
    """Refuse tracks that cannot have been driven: none at all, not finite, jumping, without a size."""

    def fail(actor: int, field: str, what: str, got: object, expected: object) -> NoReturn:
        raise UserError(
            f"{path}: {field} of track {tracks.ids[actor]!r} {what}",
            got=got,
            expected=expected,
            fix="check that the file is whole; drop this track if the source itself is wrong",
        )

    if not tracks.valid.any():
        raise UserError(
            f"{path}: no track has a valid state",
            got=f"{len(tracks.ids)} tracks, all invalid",
            expected="at least one actor that was seen",
            fix="check that the file is whole",
        )
    if len(set(tracks.ids)) < len(tracks.ids):
        twice = Counter(tracks.ids).most_common(1)[0][0]
        raise UserError(
            f"{path}: two tracks have the identifier {twice!r}",
            got=f"{len(tracks.ids)} tracks, {len(set(tracks.ids))} identifiers",
            expected="one identifier a track",
        )
    for field in ("position", "heading", "velocity"):
        values = getattr(tracks, field)
        finite = np.isfinite(values.reshape(*tracks.valid.shape, -1)).all(axis=-1)
        if (bad := np.argwhere(tracks.valid & ~finite)).size:
            actor, tick = bad[0].tolist()
            fail(actor, field, f"is not finite at valid step {tick}", values[actor, tick], "finite numbers")
    seen = tracks.valid.any(1)
    plausible = ((tracks.size > 0) & (tracks.size <= _LARGEST_BOX)).all(axis=-1)
    if (bad := np.flatnonzero(seen & ~plausible)).size:
        actor = int(bad[0])
        fail(actor, "size", "is not that of a thing on a road", tracks.size[actor], "0 to 100 m")
    both = tracks.valid[:, 1:] & tracks.valid[:, :-1]
    apart = np.linalg.norm(np.diff(tracks.position[..., :2], axis=1), axis=-1)
    speed = np.where(both, apart / np.diff(times), 0.0)
    if (speed > FASTEST).any():
        actor, tick = np.argwhere(speed > FASTEST)[0].tolist()
        fail(
            actor,
            "position",
            f"jumps between steps {tick} and {tick + 1}",
            f"{apart[actor, tick]:.1f} m in {times[tick + 1] - times[tick]:.2f} s",
            f"at most {FASTEST:g} m/s",
        )


def heading_of(path: Path, forward: Float[ndarray, "*batch d"]) -> Float[ndarray, "*batch"]:
    """Headings [rad] of forward axes in the world.

    Raises:
        UserError: One points up or down, so that it has no heading.
    """
    level = np.hypot(forward[..., 0], forward[..., 1])
    if (level < _LEVEL * np.linalg.norm(forward, axis=-1)).any():
        raise UserError(
            f"{path}: an orientation has no heading",
            got="a forward axis that points straight up or down",
            expected="cars on the ground",
            fix="check the axes of the poses: forward, left, up",
        )
    return np.arctan2(forward[..., 1], forward[..., 0])


def lane_width_of_area(area: Float[ndarray, "n d"], length: float) -> float | None:
    """Width [m] of a lane whose outline and length [m] are known: area over length, None if not plausible."""
    if len(area) < 3 or length < 5.0:
        return None
    x, y = area[:, 0] - area[0, 0], area[:, 1] - area[0, 1]
    width = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2 / length
    return width if 1.5 <= width <= 8.0 else None


def _drive_of(tracks: Tracks, ego: int, times: ndarray, notes: list[str]) -> slice:
    """The steps of a recording that are a drive: from when the ego is seen on, and while it drives forward."""
    valid, clock = tracks.valid[ego], times - times[0]
    whole = slice(int(valid.argmax()), len(times))
    if not (0 < whole.start < len(times) - 1):
        whole = slice(0, len(times))
    elif whole.start:
        notes.append(f"the first {clock[whole.start]:.1f} s are left out: the ego is not seen yet")
    path = tracks.position[ego, :, :2]
    first, last = forward_stretch(path, tracks.heading[ego], valid, float(tracks.size[ego, 0]))
    seen = np.flatnonzero(valid)
    if (first, last) == (seen[0], seen[-1]) or np.linalg.norm(path[last] - path[first]) < _SHORTEST_DRIVE:
        return whole
    notes.append(
        f"the ego backs up or turns on the spot: the drive is {clock[first]:.1f} to {clock[last]:.1f} s of the "
        "recording, in which it drives forward the furthest"
    )
    return slice(first, last + 1 if last < seen[-1] else len(times))


def _origin(tracks: Tracks, ego: int | None) -> tuple[ndarray, float]:
    """Whole metres close to where the ego (or the mean of the tracks) starts, and the height of its ground [m]."""
    if ego is None:
        home = tracks.position[tracks.valid].mean(0)
        ground = float((tracks.position[..., 2] - tracks.size[:, None, 2] / 2)[tracks.valid].mean())
    else:
        home = tracks.position[ego, int(tracks.valid[ego].argmax())]
        ground = float(home[2] - tracks.size[ego, 2] / 2)
    return np.round([home[0], home[1], ground]) + 0.0, ground  # no negative zeros in the notes


def _writable(text: str) -> str:
    """A text that any file can hold; the names of files on disk need not be letters."""
    return text.encode("utf-8", "backslashreplace").decode()


def assemble(
    path: Path,
    scenario_id: str,
    times: Float[ndarray, "time"],
    tracks: Tracks,
    features: list[MapFeature],
    signals: Signals,
    ego: int | None,
    *,
    source: str,
    licence: str,
    fingerprint: str,
    notes: list[str],
) -> Scenario:
    """Check what was read (`physics`), move it to the origin, and give it its route.

    Coordinates of data sets are thousands of metres from their origin, where float32 is millimetres
    wrong; everything is moved by whole metres so that the ego (or the mean of the tracks) starts near
    (0, 0, 0), and the notes say by how much. `times` may start anywhere.

    Args:
        path: What was read.
        scenario_id: Identifier of the drive.
        times: Time base [s].
        tracks: In the source's world frame; invalid states may hold anything.
        features: In the source's world frame; heights of NaN mean that the source states none.
        signals: In the source's world frame.
        ego: Index of the ego.
        source: Name of the format or data set.
        licence: Licence of the data.
        fingerprint: SHA-256 of the source bytes.
        notes: Quirks met so far.
    """
    check_times(path, times)
    if len(features) > MAX_FEATURES:
        raise UserError(
            f"{path} holds too many map features",
            got=len(features),
            expected=f"at most {MAX_FEATURES}",
            fix="cut out the part of the map that is near the drive",
        )
    notes = list(notes)
    times, tracks, features, signals = plausible(path, times, tracks, features, signals, ego, notes)
    check_times(path, times)
    check_tracks(path, times, tracks)
    if ego is not None and not tracks.valid[ego].any():
        raise UserError(
            f"{path}: the ego's track {tracks.ids[ego]!r} has no valid state",
            got="an ego that was never seen",
            expected="at least one valid step",
            fix="check that the file is whole",
        )
    if ego is not None:
        kept = _drive_of(tracks, ego, times, notes)
        times, tracks, signals = times[kept], tracks.at(kept), signals.at(kept)
    else:
        notes.append("the source names no ego, so there is no route either")
    shift, ground = _origin(tracks, ego)
    valid = tracks.valid[..., None]
    tracks = dataclasses.replace(
        tracks,
        position=np.where(valid, tracks.position - shift, 0.0),
        heading=wrap_angle(np.where(tracks.valid, tracks.heading, 0.0)),
        velocity=np.where(valid, tracks.velocity, 0.0),
    )

    def moved(points: ndarray, whose: str) -> ndarray:
        points = points - shift
        points[:, 2] = np.where(np.isnan(points[:, 2]), ground - shift[2], points[:, 2])
        if not np.isfinite(points).all():
            raise UserError(
                f"{path}: {whose} not finite",
                got="NaN or infinity",
                expected="finite coordinates",
                fix="check that the file is whole",
            )
        return points

    features = [
        dataclasses.replace(one, points=moved(one.points, f"map feature {one.id!r} has points that are"))
        for one in features
    ]
    stops = moved(signals.stop_point, "a traffic light has a stop point that is")
    signals = dataclasses.replace(signals, stop_point=stops)
    if shift.any():
        x, y, z = (f"{value:.0f}" for value in shift)  # whole metres, all digits
        notes.append(
            f"moved so that the source's ({x}, {y}, {z}) m is the origin; add it for source coordinates"
        )

    route, lane_width = None, 3.6
    if ego is not None:
        lanes = [feature for feature in features if feature.kind == MapKind.LANE]
        route, said = route_of_track(
            tracks.position[ego, :, :2],
            tracks.heading[ego],
            tracks.valid[ego],
            float(tracks.size[ego, 0]),
            lanes,
        )
        notes += said
        lane_width = lane_width_along(route, lanes)
        if not math.isfinite(lane_width):
            lane_width = 3.6
    scenario = Scenario(
        id=_writable(scenario_id),
        times=times - times[0],
        road=RoadMap(tuple(features)),
        tracks=tracks,
        ego=ego,
        route=route,
        signals=signals,
        provenance=Provenance(source, _writable(str(path)), licence, fingerprint, tuple(notes)),
        lane_width=lane_width,
    )
    if lacks := coverage(scenario).note:
        provenance = dataclasses.replace(scenario.provenance, notes=(*notes, lacks))
        scenario = dataclasses.replace(scenario, provenance=provenance)
    return scenario
