"""Where scenarios come from: descriptions of sets of scenarios, as data in a recipe, that load them."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from countersteer.errors import UserError
from countersteer.ranges import Count, NonNegative, Positive, Range, Ranged, Seed, Share, check_increasing
from countersteer.scenarios.procedural import RoadKind, procedural_road, road_along
from countersteer.scenarios.scenario import Scenario

__all__ = ["CameraDrive", "Combined", "ProceduralRoads", "RecordedDrive", "ScenarioFolder", "ScenarioSource"]


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
        scenarios: list[Scenario] = []
        seen: dict[str, int] = {}
        for scenario in (scenario for source in self.sources for scenario in source.load()):
            seen[scenario.id] = seen.get(scenario.id, 0) + 1
            again = seen[scenario.id]
            renamed = scenario if again == 1 else dataclasses.replace(scenario, id=f"{scenario.id}#{again}")
            scenarios.append(renamed)
        return scenarios
