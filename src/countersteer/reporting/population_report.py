"""A page about worlds in which one policy drives every car: who arrives, who fails how, and a film of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.population import FAILURES, Population
from countersteer.reporting.pages import require_ending, write_page
from countersteer.worlds.interface import TerminationReason

__all__ = ["PopulationRow", "write_population_report"]


@dataclass(frozen=True)
class PopulationRow:
    """What became of the cars that one driver drove.

    Attributes:
        name: Of the driver.
        cars: How many had begun.
        shares: Means over the cars, as `Population.shares`.
        failed: Share of the cars whose drive ended by a failure.
        intervals: 95 %, whole scenes drawn anew: of goal, failed, collision, off_road, score and speed [m/s].
        asked: RewardWeights that the cars were asked for, where it is not what they are asked for otherwise.
        more: How much more of goal, collision, off_road, score and speed [m/s] there was than in the row called `than`,
            every car compared with itself: mean and 95 % interval.
        than: Name of that row; empty where there is none.
    """

    name: str
    cars: int
    shares: Mapping[str, float]
    failed: float
    intervals: Mapping[str, tuple[float, float]]
    asked: Mapping[str, float] = field(default_factory=dict)
    more: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    than: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        found: Population,
        asked: Mapping[str, float] | None = None,
        base: tuple[str, Population] | None = None,
    ) -> PopulationRow:
        """The row of a population; `base` are the same cars under another driver, and its name."""
        values = _values(found)
        than, more = "", {}
        if base is not None:
            than, before = base[0], _values(base[1])
            for what in ("goal", "collision", "off_road", "score", "speed"):
                apart = values[what] - before[what]
                more[what] = (float(apart.mean()), *found.interval(apart))
        return cls(
            name,
            len(found.cause),
            found.shares(),
            float(values["failed"].mean()),
            {what: found.interval(each) for what, each in values.items()},
            asked or {},
            more,
            than,
        )

    def __str__(self) -> str:
        (low, high), (worst, best) = self.intervals["goal"], self.intervals["score"]
        kinds = ", ".join(f"{cause.replace('_', ' ')} {share:.1%}" for cause, share in self.causes())
        return (
            f"{self.name:28} goals {self.shares['goal']:6.1%} [{low:.1%}, {high:.1%}]  failed {self.failed:6.1%}"
            f"{f' ({kinds})' if kinds else ''}  score {100 * self.shares['score']:.1f} [{100 * worst:.1f}, {100 * best:.1f}]"
            f"  {self.shares['speed']:.1f} m/s"
        )

    def causes(self) -> list[tuple[str, float]]:
        """The failures that there were, the most frequent first."""
        found = [(cause.name.lower(), self.shares[cause.name.lower()]) for cause in FAILURES]
        return sorted(((name, share) for name, share in found if share > 0.0), key=lambda item: -item[1])

    def to_json(self) -> dict[str, object]:
        """Everything, flat."""
        flat: dict[str, object] = {"name": self.name, "cars": self.cars, "failed": self.failed, **self.shares}
        flat |= {f"{what}_interval": list(ends) for what, ends in self.intervals.items()}
        flat |= {"asked": dict(self.asked)} if self.asked else {}
        return flat | ({"more": dict(self.more), "than": self.than} if self.than else {})


def _values(found: Population) -> dict[str, Float[ndarray, "car"]]:
    return {
        "goal": found.ended_by(TerminationReason.GOAL).astype(float),
        "failed": found.ended_by(*FAILURES).astype(float),
        "collision": found.ended_by(TerminationReason.COLLISION).astype(float),
        "off_road": found.ended_by(TerminationReason.OFF_ROAD).astype(float),
        "score": found.score,
        "speed": found.speed,
    }


def write_population_report(
    path: str | Path,
    rows: Sequence[PopulationRow],
    *,
    where: str,
    film: Path | None = None,
    filmed: str = "",
    commits: Mapping[str, str] | None = None,
) -> Path:
    """Write one self-contained HTML page; an existing file is replaced at once.

    Args:
        path: Where to write (.html).
        rows: One a driver, in the order to show them in.
        where: What was driven in, in words.
        film: An .mp4 that goes into the page.
        filmed: Who drives in it where.
        commits: Code that each run was trained with, by its name.

    Raises:
        UserError: There are no rows, or the path is not an .html file.
    """
    path = Path(path)
    require_ending(path, "page", ".html", ".htm")
    if not rows:
        raise UserError("there is nothing to show", got="no rows", expected="at least one driver")
    return write_page(
        path,
        "population.html",
        rows=[row for row in rows if not row.asked],
        asked=[row for row in rows if row.asked],
        where=where,
        film=base64.b64encode(film.read_bytes()).decode() if film is not None else None,
        filmed=filmed,
        commits=commits or {},
    )
