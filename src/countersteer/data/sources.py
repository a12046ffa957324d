"""Where scenarios come from: descriptions of sets of scenarios, as data in a recipe, that load them."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from countersteer.errors import UserError, did_you_mean
from countersteer.ranges import Count, NonNegative, Positive, Range, Ranged, Seed, Share, check_increasing
from countersteer.scenarios.procedural import RoadKind, procedural_road, road_along
from countersteer.scenarios.scenario import Scenario
from countersteer.scenarios.streets import Streets, street_drive

__all__ = [
    "CameraDrive",
    "Combined",
    "Mixture",
    "ProceduralRoads",
    "RecordedDrive",
    "ScenarioFolder",
    "ScenarioSource",
    "StreetDrives",
]


class ScenarioSource(Ranged, abc.ABC):
    """Describes a set of scenarios. Two equal sources load equal scenarios."""

    @abc.abstractmethod
    def load(self) -> list[Scenario]:
        """The scenarios, at least one, in a fixed order."""


@dataclass(frozen=True)
class ProceduralRoads(ScenarioSource):
    """Generated roads (`countersteer.scenarios.procedural`).

    Scenario i depends on the fields and i alone, so a larger `count` extends the set.

    Attributes:
        count: How many.
        seed: Of the set; sets with other seeds share no scenario.
        kinds: Shapes, in turn.
        lanes: Fewest and most lanes in the ego's direction.
        traffic: Fewest and most other moving vehicles.
        duration: Length of each log [s].
        length: Length of each road [m].
        intersections: Share of scenarios that are intersections whatever `kinds` says.
    """

    count: Count = 64
    seed: Seed = 0
    kinds: tuple[RoadKind, ...] = (
        RoadKind.GENTLE,
        RoadKind.TIGHT,
        RoadKind.S_CURVE,
        RoadKind.STRAIGHT,
        RoadKind.RAMP,
    )
    lanes: Annotated[tuple[int, int], Range("[1, 4]")] = (1, 4)
    traffic: Annotated[tuple[int, int], Range("[0, 1000]")] = (0, 6)
    duration: Annotated[float, Range("[1, 3600]")] = 20.0
    length: Annotated[float, Range("[50, 100000]")] = 450.0
    intersections: Share = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_increasing(self, "lanes", "traffic")
        if not self.kinds:
            raise UserError("ProceduralRoads.kinds is empty", got=(), expected="at least one RoadKind")

    def load(self) -> list[Scenario]:
        """Generate them."""
        return [self.scenario(i) for i in range(self.count)]

    def scenario(self, i: int) -> Scenario:
        """Number `i`, from 0; `i` may be beyond `count`."""
        drawn = np.random.default_rng([self.seed, i])
        lanes, traffic = (int(drawn.integers(low, high + 1)) for low, high in (self.lanes, self.traffic))
        # The running total of the share passes a whole number at every scenario that is an intersection.
        crossing = int((i + 1) * self.intersections + 1e-9) > int(i * self.intersections + 1e-9)
        return procedural_road(
            int(drawn.integers(2**48)),
            RoadKind.INTERSECTION if crossing else self.kinds[i % len(self.kinds)],
            lanes=lanes,
            traffic=traffic,
            duration=self.duration,
            length=self.length,
        )


@dataclass(frozen=True)
class RecordedDrive(ScenarioSource):
    """One recorded drive, or a part of it. A drive without a map gets a road drawn along its route.

    Attributes:
        path: File or folder in any format that `countersteer.data.readers` reads, or None for the
            drive bundled with the package.
        start, end: The part to use [s]; no end means to the end of the recording.
        lanes_left, lanes_right: Neighbour lanes of a drawn road.
    """

    path: str | None = None
    start: NonNegative = 0.0
    end: Positive | None = None
    lanes_left: Annotated[int, Range("[0, 8]")] = 1
    lanes_right: Annotated[int, Range("[0, 8]")] = 1

    def load(self) -> list[Scenario]:
        """Read, crop, and draw the road."""
        if self.path is None:
            from countersteer.data.samples import recorded_drive

            scenario = recorded_drive()
        else:
            from countersteer.data.readers import read

            scenario = read(self.path)
        # The road is drawn along the whole drive, so that it goes on where the part ends.
        if not scenario.road.features:
            scenario = road_along(scenario, lanes_left=self.lanes_left, lanes_right=self.lanes_right)
        if self.start > 0.0 or self.end is not None:
            scenario = scenario.crop(self.start, scenario.duration if self.end is None else self.end)
        return [scenario]


@dataclass(frozen=True)
class CameraDrive(ScenarioSource):
    """The drive of a camera log, with a road drawn along it; or parts of it, one after another.

    Attributes:
        path: File or folder in any format that `countersteer.data.cameras` reads.
        parts: Beginning and end of each part [s]; none for the whole.
    """

    path: str
    parts: tuple[tuple[NonNegative, Positive], ...] = ()

    def load(self) -> list[Scenario]:
        """Read the poses and draw the road along the whole drive, so that it goes on where a part ends."""
        from countersteer.data.cameras import drive_of_log, read

        whole = drive_of_log(read(self.path))
        return [whole.crop(start, end) for start, end in self.parts] or [whole]


@dataclass(frozen=True)
class ScenarioFolder(ScenarioSource):
    """Every readable scenario under a folder. Those without a map get a road drawn along their route.

    Attributes:
        path: The folder.
        left_out: Ids of scenarios there that are not used.
    """

    path: str
    left_out: tuple[str, ...] = field(default=(), metadata={"absent": ()})

    def load(self, refused: Callable[[UserError], None] | None = None) -> list[Scenario]:
        """Read all of them.

        Args:
            refused: Told of each that is damaged, which is left out then; None refuses the folder for it.

        Raises:
            UserError: The folder is absent, or holds nothing readable.
        """
        from countersteer.data.readers import read, scan

        folder = Path(self.path)
        if not folder.is_dir():
            raise UserError(
                f"there is no folder {self.path!r}",
                got=self.path,
                expected="an existing folder with recorded scenarios",
                fix="check the path",
            )
        scenarios = []
        for found in scan(folder):
            try:
                each = read(found)
            except UserError as error:
                if refused is None:
                    raise
                refused(error)
                continue
            if each.id not in self.left_out:
                scenarios.append(_with_road(each))
        if not scenarios:
            raise UserError(
                f"no scenario that we can read lies under {self.path!r}",
                got="0 scenarios",
                expected="files of a format that `countersteer data import` reads",
                fix="check the path; docs/formats.md lists the formats",
            )
        return scenarios


@dataclass(frozen=True)
class StreetDrives(ScenarioSource):
    """Drives cut from a street network and filled with traffic (`countersteer.scenarios.streets`).

    Scenario i depends on the fields and i alone, so a larger `count` extends the set. Splits are by place: a route keeps
    to the streets of `places` that are not `left_out`, though what is seen beside it may belong to others.

    Attributes:
        path: File in any format that `countersteer.data.roads` reads, or None for the streets of San Francisco that come
            with the package.
        count: How many.
        seed: Of the set.
        length: Of each route [m].
        duration: Of each log [s]; it ends sooner where its route does.
        traffic: Fewest and most other moving cars.
        town: Share of the drives with parked cars, people and bicycles beside slow lanes.
        radius: Of the map around each route [m].
        places: Names of the parts of the network that routes may lead through; none for all. `RoadNetwork.places` has them.
        left_out: Names of parts that no route leads through.
    """

    path: str | None = None
    count: Count = 64
    seed: Seed = 0
    length: Annotated[float, Range("[100, 5000]")] = 300.0
    duration: Annotated[float, Range("[5, 600]")] = 30.0
    traffic: Annotated[tuple[int, int], Range("[0, 200]")] = (0, 16)
    town: Share = 0.8
    radius: Annotated[float, Range("[40, 500]")] = 80.0
    places: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_increasing(self, "traffic")

    def load(self) -> list[Scenario]:
        """Read the network and cut the drives.

        Raises:
            UserError: A place is not there, or no street of those left leads anywhere.
        """
        streets = self._streets()
        return [self._scenario(streets, i) for i in range(self.count)]

    def _streets(self) -> Streets:
        if self.path is None:
            from countersteer.data.samples import san_francisco

            network = san_francisco()
        else:
            from countersteer.data.roads import read

            network = read(self.path)
        place = {key: network.places.get(key, network.name) for key in network.lanes}
        there = set(place.values())
        for name in (*self.places, *self.left_out):
            if name not in there:
                raise UserError(
                    f"{network.name} has no place {name!r}", got=name, fix=did_you_mean(name, sorted(there))
                )
        wanted = (set(self.places) or there) - set(self.left_out)
        return Streets(network, lambda key: place[key] in wanted)

    def _scenario(self, streets: Streets, i: int) -> Scenario:
        drawn = np.random.default_rng([self.seed, i])
        traffic = int(drawn.integers(self.traffic[0], self.traffic[1] + 1))
        return street_drive(
            streets,
            (self.seed, i),
            length=self.length,
            duration=self.duration,
            traffic=traffic,
            radius=self.radius,
            town=bool(drawn.random() < self.town),
        )


def _with_road(scenario: Scenario) -> Scenario:
    """The scenario, with a road where its source has none; one that gives no path to draw it along stays without."""
    if scenario.road.features:
        return scenario
    try:
        return road_along(scenario)
    except UserError:
        return scenario


@dataclass(frozen=True)
class Combined(ScenarioSource):
    """Several sources, one after another."""

    sources: tuple[ScenarioSource, ...]

    def load(self) -> list[Scenario]:
        """The scenarios of all sources, in order; ids that occur twice get a number."""
        return _numbered(scenario for source in self.sources for scenario in source.load())


def _numbered(scenarios: Iterable[Scenario]) -> list[Scenario]:
    """Scenarios of which those with the id of one before have a number behind it."""
    made: list[Scenario] = []
    seen: dict[str, int] = {}
    for scenario in scenarios:
        seen[scenario.id] = seen.get(scenario.id, 0) + 1
        again = seen[scenario.id]
        made.append(scenario if again == 1 else dataclasses.replace(scenario, id=f"{scenario.id}#{again}"))
    return made


@dataclass(frozen=True)
class Mixture(ScenarioSource):
    """Scenarios of several sources in given shares.

    Attributes:
        sources: At least one.
        weights: Of each source, positive; its share is its weight of all weights.
        count: Scenarios in all. A source with fewer than its share gives all of them several times; of one with more the first
            are taken.
    """

    sources: tuple[ScenarioSource, ...]
    weights: tuple[Positive, ...]
    count: Count = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sources or len(self.sources) != len(self.weights) or self.count < len(self.sources):
            raise UserError(
                "Mixture needs a weight for each source, and room for all",
                got=f"{len(self.sources)} sources, {len(self.weights)} weights, count={self.count}",
                expected="as many weights as sources, and count at least as large",
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Scenarios of each source: its share rounded down, but at least one; the rest to those who lost most by rounding."""
        exact = np.array(self.weights) / sum(self.weights) * self.count
        counts = np.maximum(exact.astype(int), 1)
        while counts.sum() != self.count:
            step = 1 if counts.sum() < self.count else -1
            away = np.where(counts + step >= 1, step * (exact - counts), -np.inf)
            counts[int(away.argmax())] += step
        return tuple(int(count) for count in counts)

    def load(self) -> list[Scenario]:
        """The scenarios, source by source; ids that occur twice get a number."""
        taken = []
        for source, count in zip(self.sources, self.counts, strict=True):
            scenarios = source.load()
            taken += [scenarios[k % len(scenarios)] for k in range(count)]
        return _numbered(taken)
