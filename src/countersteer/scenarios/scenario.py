"""The immutable scenario: road map, tracks of all actors, signals, route, ego, provenance.

Everything is in one right-handed world frame, z up, SI units, headings in radians counter-clockwise
from +x, times in seconds from the start of the scenario. Readers convert foreign frames at the door.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from countersteer.errors import UserError

__all__ = [
    "ActorKind",
    "MapFeature",
    "MapKind",
    "Provenance",
    "Recording",
    "RoadMap",
    "Scenario",
    "SignalState",
    "Signals",
    "Tracks",
]


class MapKind(IntEnum):
    """What a map feature is. Lanes and lines are polylines; areas are closed polygons."""

    LANE = 0  # centre line, in driving direction
    LINE_SOLID_WHITE = 1
    LINE_DASHED_WHITE = 2
    LINE_SOLID_YELLOW = 3
    LINE_DASHED_YELLOW = 4
    ROAD_EDGE = 5  # kerb or end of the pavement
    DRIVABLE_AREA = 6  # polygon
    LANE_AREA = 7  # polygon of one lane
    CROSSWALK = 8  # polygon
    SPEED_BUMP = 9  # polygon
    DRIVEWAY = 10  # polygon
    STOP_SIGN = 11  # one point
    STOP_LINE = 12


class ActorKind(IntEnum):
    """What an actor is."""

    VEHICLE = 0
    PEDESTRIAN = 1
    CYCLIST = 2
    STATIC = 3  # cones, barriers, debris


class SignalState(IntEnum):
    """State of a traffic light for one lane."""

    UNKNOWN = 0
    GO = 1
    CAUTION = 2
    STOP = 3


@dataclass(frozen=True)
class MapFeature:
    """One element of the map.

    Attributes:
        id: Identifier within the map.
        kind: What it is.
        points: Vertices [m, world]; polygons are not closed by a repeated vertex.
        width: Full width of a lane [m], where the source states or implies it, else None.
        speed_limit: Limit of a lane [m/s], else None.
    """

    id: str
    kind: MapKind
    points: Float[ndarray, "n 3"]
    width: float | None = None
    speed_limit: float | None = None


@dataclass(frozen=True)
class RoadMap:
    """All features of the map. An empty map is legal here; worlds that need a road refuse it."""

    features: tuple[MapFeature, ...] = ()

    def of_kind(self, *kinds: MapKind) -> list[MapFeature]:
        """Features of the given kinds, in map order."""
        return [feature for feature in self.features if feature.kind in kinds]


@dataclass(frozen=True)
class Tracks:
    """Recorded (or generated) motion of all actors on one time base.

    Attributes:
        ids: Identifier of each actor, unique.
        kind: `ActorKind` of each actor.
        position: Box centre [m, world]; z is the centre's height. Zero where not valid.
        heading: Direction of the length [rad, in [-pi, pi)].
        velocity: [m/s, world].
        size: Length, width, height [m].
        valid: Whether the actor was observed at that time.
    """

    ids: tuple[str, ...]
    kind: Int[ndarray, "actor"]
    position: Float[ndarray, "actor time 3"]
    heading: Float[ndarray, "actor time"]
    velocity: Float[ndarray, "actor time 2"]
    size: Float[ndarray, "actor 3"]
    valid: Bool[ndarray, "actor time"]

    def at(self, times: slice | Bool[ndarray, "time"]) -> Tracks:
        """The motion at some of the times."""
        series = ("position", "heading", "velocity", "valid")
        return dataclasses.replace(self, **{name: getattr(self, name)[:, times] for name in series})


@dataclass(frozen=True)
class Signals:
    """Traffic lights.

    Attributes:
        lane: Id of the lane each light governs.
        stop_point: Where to stop [m, world].
        heading: Driving direction at the stop point [rad]; NaN where nobody knows it: the light then counts for
            whoever passes its stop point.
        state: `SignalState` at each time.
    """

    lane: tuple[str, ...]
    stop_point: Float[ndarray, "signal 3"]
    heading: Float[ndarray, "signal"]
    state: Int[ndarray, "signal time"]

    @staticmethod
    def none(count: int) -> Signals:
        """No traffic lights, at so many times."""
        return Signals((), np.zeros((0, 3)), np.zeros(0), np.zeros((0, count), np.int64))

    def at(self, times: slice | Bool[ndarray, "time"]) -> Signals:
        """The lights at some of the times."""
        return dataclasses.replace(self, state=self.state[:, times])


@dataclass(frozen=True)
class Provenance:
    """Where a scenario came from.

    Attributes:
        source: Format or generator, for example "comma2k19".
        path: File or folder it was read from, or the generator's arguments.
        licence: Licence of the data (not of the repository that hosted it); "unknown" if not known.
        fingerprint: SHA-256 of the source bytes or of the generator's arguments.
        notes: Quirks met and what was done about them, one sentence each.
    """

    source: str
    path: str
    licence: str
    fingerprint: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recording:
    """Where the frames of a drive lie; `countersteer.data.cameras.read` opens them.

    Attributes:
        path: Of the camera log.
        start: Time in the log at which the scenario begins [s].
    """

    path: str
    start: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """What a drive is.

    Attributes:
        id: Identifier, unique within a data set.
        times: Time base of the tracks [s], from 0, increasing.
        road: The map.
        tracks: Motion of all actors, the ego among them.
        ego: Index of the ego in `tracks`, or None if the source names none.
        route: Path the ego should follow: rear-axle way points [m, world], at least two, or None.
        route_offsets: Lateral offsets from the route of the lanes that can be changed to, left
            positive [m]; 0 (the route's own lane) is always among them.
        lane_width: Width of the route's lane [m].
        signals: Traffic lights.
        provenance: Where it came from.
        cameras: Recorded frames, if any.
    """

    id: str
    times: Float[ndarray, "time"]
    road: RoadMap
    tracks: Tracks
    ego: int | None
    route: Float[ndarray, "n 2"] | None
    signals: Signals
    provenance: Provenance
    route_offsets: tuple[float, ...] = (0.0,)
    lane_width: float = 3.6
    cameras: Recording | None = field(default=None)

    def __post_init__(self) -> None:
        def fail(what: str, got: object, expected: object) -> None:
            raise UserError(
                f"scenario {self.id!r}: {what}",
                got=got,
                expected=expected,
                fix=f"check {self.provenance.path}",
            )

        if len(self.times) < 2 or not np.all(np.diff(self.times) > 0):
            fail("times do not increase", f"{len(self.times)} times", "at least two increasing times")
        if self.tracks.position.shape[1] != len(self.times):
            fail("tracks and times differ in length", self.tracks.position.shape[1], len(self.times))
        if self.ego is not None and not 0 <= self.ego < len(self.tracks.ids):
            fail("the ego index names no track", self.ego, f"0 to {len(self.tracks.ids) - 1}")
        for name in ("position", "heading", "velocity"):
            values = getattr(self.tracks, name)[self.tracks.valid]
            if not np.isfinite(values).all():
                fail(f"a valid {name} of a track is not a finite number", "NaN or infinity", "finite numbers")
        if not np.isfinite(self.tracks.size).all():
            fail("a size of a track is not a finite number", "NaN or infinity", "finite numbers")
        for feature in self.road.features:
            if not np.isfinite(feature.points).all():
                fail(f"map feature {feature.id!r} has points that are not finite", "NaN", "finite numbers")
        if self.route is not None and (len(self.route) < 2 or not np.isfinite(self.route).all()):
            fail("the route is not a path", f"{len(self.route)} points", "at least two finite points")
        if self.route is not None and not np.ptp(self.route, axis=0).any():
            fail("the route has no length", f"{len(self.route)} times the same point", "two different points")

    @property
    def duration(self) -> float:
        """Length of the time base [s]."""
        return float(self.times[-1] - self.times[0])

    def crop(self, start: float, end: float) -> Scenario:
        """The part between two times [s]; its own time base starts at 0 again, the route is kept whole."""
        keep = (self.times >= start - 1e-9) & (self.times <= end + 1e-9)
        if keep.sum() < 2:
            raise UserError(
                f"scenario {self.id!r} has nothing between {start} s and {end} s",
                got=f"{int(keep.sum())} times",
                expected=f"a span inside 0 to {self.duration:.1f} s",
                fix="choose other times",
            )
        begin = float(self.times[keep][0])
        cameras = self.cameras and Recording(self.cameras.path, self.cameras.start + begin)
        return dataclasses.replace(
            self,
            id=f"{self.id}@{start:g}-{end:g}",
            times=self.times[keep] - begin,
            tracks=self.tracks.at(keep),
            signals=self.signals.at(keep),
            cameras=cameras,
        )

    def fingerprint(self) -> str:
        """SHA-256 of everything that shapes a drive: all but provenance and recorded frames."""
        tracks, signals = self.tracks, self.signals
        features = [(f.id, int(f.kind), f.width, f.speed_limit) for f in self.road.features]
        numbers = (self.id, self.ego, self.route_offsets, self.lane_width, tracks.ids, signals.lane, features)
        digest = hashlib.sha256(repr(numbers).encode())
        for array in (
            self.times,
            *(getattr(tracks, f.name) for f in dataclasses.fields(tracks) if f.name != "ids"),
            *(getattr(signals, f.name) for f in dataclasses.fields(signals) if f.name != "lane"),
            *(feature.points for feature in self.road.features),
            np.zeros((0, 2)) if self.route is None else self.route,
        ):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()
