"""What a privileged teacher sees: the car, its route and the nearest actors, lights and road points, as floats.

Everything is in the car's own frame (origin on the ground below the rear axle, x forward, y left) and in SI
units; a policy scales it. `VectorSpec.layout` says what each float is.

"Nearest" is by distance from the rear axle to an actor's box centre, a light's stop point or a road point.
Of equally near ones the lower index counts as nearer. The chosen ones stand in the order of their index
(slot of the actor, number of the light, place in the `RoadBank`), not sorted by distance, because sorting
costs more than finding them and a policy over sets does not care. Empty slots come last, all zero.

`observing` has the call; `kernels` computes it on the CPU, `reference` is its specification, and the path on other devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from countersteer.errors import UserError
from countersteer.ranges import Positive, Range, Ranged
from countersteer.tensors import TensorTree

__all__ = ["Ego", "Group", "VectorSpec"]


@dataclass(frozen=True)
class Group:
    """Floats of one kind of thing. They are stored field by field: all x, then all y, and so on.

    Attributes:
        fields: What is said of each thing.
        slots: How many things.
        start: Where the group begins in the vector.
    """

    fields: tuple[str, ...]
    slots: int
    start: int

    @property
    def stop(self) -> int:
        """Where the group ends in the vector."""
        return self.start + len(self.fields) * self.slots


EGO_FIELDS = (
    "speed",
    "curvature",
    "acceleration",
    "asked_curvature",
    "asked_acceleration",
    "length",
    "width",
    "lateral",
    "heading_error",
    "set_speed",
    "remaining",
)
ROUTE_FIELDS = ("x", "y")
ACTOR_FIELDS = ("x", "y", "cos", "sin", "velocity_x", "velocity_y", "length", "width", "kind", "valid")
LIGHT_FIELDS = ("x", "y", "cos", "sin", "stop", "caution", "valid")
ROAD_FIELDS = ("x", "y", "cos", "sin", "valid")


Slots = Annotated[int, Range("[1, 10000]")]


@dataclass(frozen=True)
class VectorSpec(Ranged):
    """How much of each kind is in the vector; 689 floats by default.

    The groups and their fields, in this order (m, m/s, m/s^2, 1/m, rad; `valid` is 0 or 1):

    - ego: see `Ego`; length and width of the car.
    - route: points of the car's path at the distances `route` ahead of it.
    - actors: box centre, heading as cosine and sine, velocity relative to the car's own, length, width,
      `ActorKind` as a number, valid.
    - lights: stop point, driving direction there (0, 0 where unknown), whether it says stop, whether it says caution (neither: go), valid.
    - lanes: middle of a piece of a lane's centre line, driving direction, valid.
    - edges: middle of a piece of the road's border, its direction (the map's; of an area's outline the one
      with the area on its left), valid.

    Attributes:
        cars: Other actors.
        lanes, edges: Road points.
        lights: Traffic lights.
        route: Distances of the route points ahead [m], at least one.
    """

    cars: Slots = 16
    lanes: Slots = 64
    edges: Slots = 32
    lights: Slots = 4
    route: tuple[Positive, ...] = (2.5, 5.0, 10.0, 20.0, 40.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.route:
            raise UserError(
                "VectorSpec.route is empty", got="()", expected="at least one distance", fix="set route"
            )

    @property
    def name(self) -> str:
        """Of the sensor."""
        return "vector"

    @property
    def privileged(self) -> bool:
        """It tells what no car could measure."""
        return True

    @cached_property
    def layout(self) -> dict[str, Group]:
        """The groups by name, in the order of the vector."""
        groups: dict[str, Group] = {}
        start = 0
        for name, fields, slots in (
            ("ego", EGO_FIELDS, 1),
            ("route", ROUTE_FIELDS, len(self.route)),
            ("actors", ACTOR_FIELDS, self.cars),
            ("lights", LIGHT_FIELDS, self.lights),
            ("lanes", ROAD_FIELDS, self.lanes),
            ("edges", ROAD_FIELDS, self.edges),
        ):
            groups[name] = Group(fields, slots, start)
            start = groups[name].stop
        return groups

    @property
    def size(self) -> int:
        """Floats in the vector."""
        return self.layout["edges"].stop

    def names(self) -> list[str]:
        """What each float is, for example "actors.x[3]"."""
        return [
            f"{name}.{field}[{slot}]"
            for name, group in self.layout.items()
            for field in group.fields
            for slot in range(group.slots)
        ]

    def split(self, vector: Float[Tensor, "*batch feature"]) -> dict[str, dict[str, Tensor]]:
        """Views of the vector by group and field, each `[*batch slot]`."""
        return {
            name: dict(
                zip(
                    group.fields,
                    vector[..., group.start : group.stop]
                    .unflatten(-1, (len(group.fields), group.slots))
                    .unbind(-2),
                    strict=True,
                )
            )
            for name, group in self.layout.items()
        }


@dataclass(frozen=True)
class Ego(TensorTree):
    """The controlled cars. A car whose position or heading is not finite gets a vector of zeros.

    Attributes:
        position: Rear axle [m, world].
        heading: [rad].
        speed: [m/s].
        curvature: Being driven [1/m].
        acceleration: Over the last tick [m/s^2].
        asked: The last command: curvature [1/m] and acceleration [m/s^2].
        lateral: Signed distance from the path, left positive [m].
        heading_error: Heading relative to the path's [rad].
        set_speed: Speed the passenger asks for [m/s].
        remaining: Way to the end of the path [m].
        route: Points of the path ahead [m, world], as far ahead as `VectorSpec.route` says.
    """

    position: Float[Tensor, "world agent 2"]
    heading: Float[Tensor, "world agent"]
    speed: Float[Tensor, "world agent"]
    curvature: Float[Tensor, "world agent"]
    acceleration: Float[Tensor, "world agent"]
    asked: Float[Tensor, "world agent 2"]
    lateral: Float[Tensor, "world agent"]
    heading_error: Float[Tensor, "world agent"]
    set_speed: Float[Tensor, "world agent"]
    remaining: Float[Tensor, "world agent"]
    route: Float[Tensor, "world agent point 2"]
