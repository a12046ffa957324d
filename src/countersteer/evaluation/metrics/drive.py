"""What every score reads: one car's drive, the road it was on, and everybody else on it.

A `Drive` is plain arrays, so our evaluation's records, a replay file or another simulator can fill it.
World frame, SI units, headings counter-clockwise from +x (docs/conventions.md); all arrays of a drive
that have a time axis share `Drive.times`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.geometry import polygons
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.scenarios.scenario import Tracks

__all__ = ["Drive", "Lane", "Motion", "Plans", "RedLight", "Road", "no_actors"]


def _refuse(what: str, got: object, expected: object) -> None:
    raise UserError(
        f"a drive cannot be scored: {what}", got=got, expected=expected, fix="check what filled the record"
    )


@dataclass(frozen=True)
class Motion:
    """How a car moved; the reference point is the middle of its rear axle.

    Attributes:
        position: Rear axle [m, world].
        heading: [rad].
        velocity: Forward and to the left, at the rear axle [m/s].
        acceleration: Forward and to the left, at the rear axle [m/s^2].
        yaw_rate: [rad/s].
        yaw_acceleration: [rad/s^2].
    """

    position: Float[ndarray, "time 2"]
    heading: Float[ndarray, "time"]
    velocity: Float[ndarray, "time 2"]
    acceleration: Float[ndarray, "time 2"]
    yaw_rate: Float[ndarray, "time"]
    yaw_acceleration: Float[ndarray, "time"]

    @property
    def speed(self) -> Float[ndarray, "time"]:
        """Magnitude of the velocity [m/s]."""
        return np.hypot(self.velocity[:, 0], self.velocity[:, 1])

    def center(self, ahead: float) -> Float[ndarray, "time 2"]:
        """The point `ahead` [m] of the rear axle [m, world]."""
        return self.position + ahead * np.stack([np.cos(self.heading), np.sin(self.heading)], -1)

    def part(self, rows: slice) -> Motion:
        """The same motion at some of the times."""
        return Motion(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    def then(self, later: Motion) -> Motion:
        """This motion followed by another."""
        return Motion(
            *(
                np.concatenate([getattr(self, f.name), getattr(later, f.name)])
                for f in dataclasses.fields(self)
            )
        )

    @classmethod
    def from_poses(
        cls,
        times: Float[ndarray, "time"],
        position: Float[ndarray, "time 2"],
        heading: Float[ndarray, "time"],
    ) -> Motion:
        """The motion through poses, where nothing else was recorded.

        Velocities and rates are central differences, one-sided at the ends. A source that records
        accelerations should give them: differences of positions amplify their noise.
        """
        turn = np.unwrap(heading)
        course, left = (
            np.stack([np.cos(turn), np.sin(turn)], -1),
            np.stack([-np.sin(turn), np.cos(turn)], -1),
        )

        def in_ego(vector: ndarray) -> ndarray:
            return np.stack([(vector * course).sum(-1), (vector * left).sum(-1)], -1)

        velocity = np.gradient(position, times, axis=0)
        yaw_rate = np.gradient(turn, times)
        return cls(
            position=position,
            heading=heading,
            velocity=in_ego(velocity),
            acceleration=in_ego(np.gradient(velocity, times, axis=0)),
            yaw_rate=yaw_rate,
            yaw_acceleration=np.gradient(yaw_rate, times),
        )


@dataclass(frozen=True)
class Lane:
    """One lane.

    Attributes:
        id: Identifier.
        area: Polygon [m, world].
        center_line: In driving direction [m, world], at least two points.
        on_route: Whether the route uses it.
        successors: Lanes that continue it.
        speed_limit: [m/s], None where unknown.
    """

    id: str
    area: Float[ndarray, "n 2"]
    center_line: Float[ndarray, "m 2"]
    on_route: bool = True
    successors: tuple[str, ...] = ()
    speed_limit: float | None = None


@dataclass(frozen=True)
class Road:
    """The map, as far as scores ask for it.

    Attributes:
        drivable: Polygons that may be driven on; they may overlap [m, world].
        lanes: Lanes, those within intersections among them.
        intersections: Polygons [m, world].
        edges: Where the drivable ground ends: polylines with the road on their left [m, world].
    """

    drivable: tuple[Float[ndarray, "_ 2"], ...] = ()
    lanes: tuple[Lane, ...] = ()
    intersections: tuple[Float[ndarray, "_ 2"], ...] = ()
    edges: tuple[Float[ndarray, "_ 2"], ...] = ()

    def __post_init__(self) -> None:
        for area in (*self.drivable, *(lane.area for lane in self.lanes), *self.intersections):
            if len(area) < 3 or not np.isfinite(area).all():
                _refuse(
                    "an area of the map is no polygon", f"{len(area)} points", "three or more finite points"
                )
        for line in (*self.edges, *(lane.center_line for lane in self.lanes)):
            if len(line) < 2 or not np.isfinite(line).all():
                _refuse(
                    "a line of the map is no polyline", f"{len(line)} points", "two or more finite points"
                )


@dataclass(frozen=True)
class RedLight:
    """The ground that a light governs.

    Attributes:
        area: Polygon that must not be entered while the light is red [m, world].
        red: Whether it is.
    """

    area: Float[ndarray, "n 2"]
    red: Bool[ndarray, "time"]


@dataclass(frozen=True)
class Plans:
    """What the driver meant to do, at some ticks of the drive.

    Attributes:
        tick: When each plan was made.
        ahead: Times of a plan's points after that tick [s], increasing, from the first point on.
        position: Rear axle [m, world].
        heading: [rad].
    """

    tick: Int[ndarray, "plan"]
    ahead: Float[ndarray, "point"]
    position: Float[ndarray, "plan point 2"]
    heading: Float[ndarray, "plan point"]


def no_actors(times: int) -> Tracks:
    """Nobody else on the road."""
    return Tracks(
        ids=(),
        kind=np.zeros(0, np.int64),
        position=np.zeros((0, times, 3)),
        heading=np.zeros((0, times)),
        velocity=np.zeros((0, times, 2)),
        size=np.zeros((0, 3)),
        valid=np.zeros((0, times), bool),
    )


@dataclass(frozen=True)
class Drive:
    """One car's drive.

    Attributes:
        times: [s], increasing.
        ego: How the car moved.
        size: Its length and width [m].
        ahead: Distance from its rear axle forward to its box's centre [m].
        actors: Everybody else's boxes; the ego is not among them.
        road: The map.
        route: Line to follow, in driving direction [m, world], or None.
        red_lights: Lights and the ground behind them.
        plans: What the driver meant to do, or None.
        expert: What a recorded driver did at the same times, or None. It may go on at the same interval after the drive
            has ended: progress is measured against all of it.
        history: How the car moved before `times`, at the same interval, the latest last, or None.
        vertical: Heights of the car's underside and roof [m, world]; None where all are on one level, or nobody knows.

    Raises:
        UserError: If times do not increase, lengths differ, or a number is not finite.
    """

    times: Float[ndarray, "time"]
    ego: Motion
    size: tuple[float, float]
    ahead: float
    actors: Tracks
    road: Road = Road()
    route: Float[ndarray, "n 2"] | None = None
    red_lights: tuple[RedLight, ...] = ()
    plans: Plans | None = None
    expert: Motion | None = None
    history: Motion | None = None
    vertical: Float[ndarray, "time 2"] | None = None

    def __post_init__(self) -> None:
        count = len(self.times)
        if count < 2 or not (np.diff(self.times) > 0).all():
            _refuse("its times do not increase", f"{count} times", "two or more increasing times")
        for name, motion in (("ego", self.ego), ("expert", self.expert)):
            if motion is None:
                continue
            for f in dataclasses.fields(Motion):
                values = getattr(motion, f.name)
                if len(values) != count and not (name == "expert" and len(values) > count):
                    _refuse(f"{name}.{f.name} and the times differ in length", len(values), count)
                if not np.isfinite(values).all():
                    _refuse(f"{name}.{f.name} is not finite", "NaN or infinity", "finite numbers")
        if self.actors.valid.shape[1] != count:
            _refuse("actors and times differ in length", self.actors.valid.shape[1], count)
        if not np.isfinite(self.actors.position[self.actors.valid]).all():
            _refuse("a valid position of an actor is not finite", "NaN or infinity", "finite numbers")
        if not min(self.size) > 0.0:
            _refuse("the car has no size", self.size, "a positive length and width [m]")
        if self.route is not None and len(self.route) < 2:
            _refuse("the route is no line", f"{len(self.route)} points", "two or more points")
        for light in self.red_lights:
            if len(light.red) != count:
                _refuse("a light and the times differ in length", len(light.red), count)

    @property
    def dt(self) -> float:
        """The interval of the times [s].

        Raises:
            UserError: If they are not equally spaced within 1 %: filters would be wrong.
        """
        steps = np.diff(self.times)
        if np.ptp(steps) > 0.01 * steps.mean():
            _refuse(
                "its times are not equally spaced",
                f"steps of {steps.min()} to {steps.max()} s",
                "equal steps",
            )
        return float(steps.mean())

    @property
    def center(self) -> Float[ndarray, "time 2"]:
        """Centre of the car's box [m, world]."""
        return self.ego.center(self.ahead)

    @property
    def corners(self) -> Float[ndarray, "time 4 2"]:
        """Front-left, rear-left, rear-right and front-right corner [m, world]."""
        return polygons.rectangle(self.center, self.ego.heading, np.array([self.size]))

    def part(self, start: int, stop: int) -> Drive:
        """The drive from tick `start` until before `stop`, with what was driven before as history; without plans."""
        rows = slice(start, stop)
        before = self.ego.part(slice(0, start))
        if self.history is not None:
            before = self.history.then(before)
        return dataclasses.replace(
            self,
            times=self.times[rows],
            ego=self.ego.part(rows),
            actors=self.actors.at(rows),
            red_lights=tuple(RedLight(light.area, light.red[rows]) for light in self.red_lights),
            plans=None,
            expert=None if self.expert is None else self.expert.part(rows),
            history=before if len(before.heading) else None,
            vertical=None if self.vertical is None else self.vertical[rows],
        )

    def needs(self, **fields: object) -> None:
        """Refuse a drive that lacks what a score reads.

        Raises:
            UserError: Naming the first that is None or empty.
        """
        for name, value in fields.items():
            if value is None or (isinstance(value, tuple) and not value):
                _refuse(f"it has no {name.replace('_', ' ')}", "nothing", f"a {name.replace('_', ' ')}")

    @staticmethod
    def usual_ahead(length: float) -> float:
        """`geometry.boxes.rear_axle_to_center`, for sources that state no axle [m]."""
        return float(rear_axle_to_center(length))
