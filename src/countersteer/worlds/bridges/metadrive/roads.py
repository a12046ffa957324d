"""Roads of MetaDrive as scenarios: its map is ours to draw, its traffic stands where it will start."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from countersteer.errors import UserError
from countersteer.geometry.boxes import rear_axle_to_center
from countersteer.ranges import NonNegative, Positive, Range, Ranged
from countersteer.scenarios.scenario import (
    ActorKind,
    MapFeature,
    MapKind,
    Provenance,
    RoadMap,
    Scenario,
    Signals,
    Tracks,
)
from countersteer.storage import serialise
from countersteer.worlds.bridges.metadrive.host import Hosts

__all__ = ["Bend", "Lane", "Road", "Straight", "road_of", "scenarios_on"]

_RATE = 10  # of the log [Hz]
_LINES = {
    "ROAD_LINE_SOLID_SINGLE_WHITE": MapKind.LINE_SOLID_WHITE,
    "ROAD_LINE_BROKEN_SINGLE_WHITE": MapKind.LINE_DASHED_WHITE,
    "ROAD_LINE_SOLID_SINGLE_YELLOW": MapKind.LINE_SOLID_YELLOW,
    "ROAD_LINE_BROKEN_SINGLE_YELLOW": MapKind.LINE_DASHED_YELLOW,
}


@dataclass(frozen=True)
class Straight(Ranged):
    """A straight piece of road; `length` [m]."""

    length: Positive

    def block(self) -> dict[str, Any]:
        """As MetaDrive has it."""
        return {"id": "S", "pre_block_socket_index": 0, "length": self.length}


@dataclass(frozen=True)
class Bend(Ranged):
    """An arc, without transitions, and a straight after it.

    Attributes:
        radius: Of the outermost lane's centre [m].
        angle: Turned by [rad].
        left: To the left, else to the right.
        length: Of the straight [m].
    """

    radius: Positive
    angle: Annotated[float, Range("(0, 6.2832)")]
    left: bool
    length: Positive

    def block(self) -> dict[str, Any]:
        """As MetaDrive has it."""
        return {
            "id": "C",
            "pre_block_socket_index": 0,
            "length": self.length,
            "radius": self.radius,
            "angle": math.degrees(self.angle),
            "dir": int(not self.left),
        }


@dataclass(frozen=True)
class Road(Ranged):
    """A two-way road of MetaDrive's blocks.

    Attributes:
        blocks: In order, after the 50 m that every MetaDrive road begins with.
        lanes: In each direction.
        lane_width: [m].
        traffic: Density, as MetaDrive understands it: vehicles for each 10 m of a lane.
        seed: Of the traffic.
    """

    blocks: tuple[Straight | Bend, ...]
    lanes: Annotated[int, Range("[1, 8]")]
    lane_width: Positive = 3.5
    traffic: NonNegative = 0.0
    seed: Annotated[int, Range("[0, 4294967295]")] = 0

    def settings(self) -> dict[str, Any]:
        """What of it MetaDrive is configured with."""
        return {
            "lane_num": self.lanes,
            "lane_width": self.lane_width,
            "config": [None, *(block.block() for block in self.blocks)],
            "traffic": self.traffic,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Lane:
    """Where a drive goes: the `number`-th lane from the left of a road, from 30 m into it, at a speed [m/s]."""

    road: Road
    number: int
    speed: float


_START = 30.0  # of a drive's box centre along its lane [m]


def scenarios_on(lanes: Sequence[Lane], duration: float = 20.0) -> list[Scenario]:
    """A scenario for each lane; MetaDrive builds the maps, in a process of its own.

    Args:
        lanes: Where drives go.
        duration: Of the scenarios [s]; their log holds the ego at constant speed and everybody else standing.

    Raises:
        MissingExtraError: MetaDrive is not installed.
    """
    hosts = Hosts.take([lane.road.settings() for lane in lanes])
    rows = range(len(lanes))
    described = hosts.ask(rows, [("describe",) for _ in rows])
    hosts.give_back()
    return [_scenario(lane, said, duration) for lane, said in zip(lanes, described, strict=True)]


def road_of(scenario: Scenario) -> Road:
    """The road that a scenario is on.

    Raises:
        UserError: It is not one of `scenarios_on`.
    """
    if scenario.provenance.source != "metadrive":
        raise UserError(
            f"MetaDrive has no road for scenario {scenario.id!r}",
            got=f"a scenario from {scenario.provenance.source!r}",
            expected="one of `scenarios_on`",
            fix="drive scenarios of other sources in boxworld",
        )
    return serialise.from_json(json.loads(scenario.provenance.path)).road


def _scenario(lane: Lane, said: dict[str, Any], duration: float) -> Scenario:
    road = lane.road
    if not 0 <= lane.number < road.lanes:
        raise UserError("there is no such lane", got=lane.number, expected=f"0 to {road.lanes - 1}")
    line = np.asarray(said["lanes"][lane.number])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    times = np.arange(round(duration * _RATE) + 1) / _RATE
    size = np.asarray(said["ego_size"])
    back = rear_axle_to_center(size[0])
    # The rear axle follows the lane; a log that outlasts its road waits at the end.
    at = np.minimum(_START - back + lane.speed * times, arc[-1] - 1.0)
    axle = np.stack([np.interp(at, arc, column) for column in line.T], -1)
    ahead = np.stack([np.interp(at + 0.5, arc, column) for column in line.T], -1) - axle
    heading = np.arctan2(ahead[:, 1], ahead[:, 0])
    course = np.stack([np.cos(heading), np.sin(heading)], -1)
    others = np.asarray(said["others"]).reshape(-1, 6)  # x, y, heading, length, width, height
    count, steps = 1 + len(others), len(times)
    sizes = np.concatenate([size[None], others[:, 3:]])
    position = np.zeros((count, steps, 3))
    position[0, :, :2] = axle + back * course
    position[1:, :, :2] = others[:, None, :2]
    position[..., 2] = sizes[:, None, 2] / 2
    headings = np.concatenate([heading[None], np.repeat(others[:, 2:3], steps, 1)])
    velocity = np.zeros((count, steps, 2))
    velocity[0] = lane.speed * course
    arguments = json.dumps(serialise.to_json(lane))
    return Scenario(
        id=f"metadrive-{hashlib.sha256(arguments.encode()).hexdigest()[:8]}",
        times=times,
        road=RoadMap(tuple(_features(said, road))),
        tracks=Tracks(
            ids=("ego", *(f"traffic-{k}" for k in range(len(others)))),
            kind=np.full(count, int(ActorKind.VEHICLE)),
            position=position,
            heading=(headings + np.pi) % (2 * np.pi) - np.pi,
            velocity=velocity,
            size=sizes,
            valid=np.ones((count, steps), bool),
        ),
        ego=0,
        route=line,
        signals=Signals.none(steps),
        provenance=Provenance(
            "metadrive", arguments, "Apache-2.0", hashlib.sha256(arguments.encode()).hexdigest()
        ),
        route_offsets=tuple((lane.number - k) * road.lane_width for k in range(road.lanes)),
        lane_width=road.lane_width,
    )


def _features(said: dict[str, Any], road: Road) -> list[MapFeature]:
    features = []
    for name, kind, points in said["features"]:
        flat = np.asarray(points, float)
        if len(flat) < 2:
            continue
        solid = np.concatenate([flat[:, :2], np.zeros((len(flat), 1))], 1)
        if kind.startswith("LANE"):
            features.append(MapFeature(name, MapKind.LANE, solid, width=road.lane_width))
        elif kind in _LINES:
            features.append(MapFeature(name, _LINES[kind], solid))
    return features
