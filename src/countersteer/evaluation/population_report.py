"""A page about worlds in which one policy drives every car: who arrives, who fails how, and a film of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from countersteer.errors import UserError
from countersteer.evaluation.pages import require_ending, write_page
from countersteer.evaluation.population import FAILURES, Population
from countersteer.worlds.interface import Cause

__all__ = ["PopulationRow", "write_population_report"]


@dataclass(frozen=True)
class PopulationRow:
    """What became of the cars that one driver drove.

    Attributes:
        name: Of the driver.
        cars: How many had begun.
        shares: Means over the cars, as `Population.shares`.
        failed: Share of the cars whose drive ended by a failure.
        goal_interval, failed_interval, score_interval: 95 %, whole scenes drawn anew.
    """

    name: str
    cars: int
    shares: Mapping[str, float]
    failed: float
    goal_interval: tuple[float, float]
    failed_interval: tuple[float, float]
    score_interval: tuple[float, float]

    @classmethod
    def of(cls, name: str, found: Population) -> PopulationRow:
        """The row of a population."""
        failed = found.ended_by(*FAILURES)
        goal = found.ended_by(Cause.GOAL)
        intervals = [found.interval(values.astype(float)) for values in (goal, failed, found.score)]
        return cls(name, len(found.cause), found.shares(), float(failed.mean()), *intervals)

    def __str__(self) -> str:
        (low, high), (worst, best) = self.goal_interval, self.score_interval
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
        for name in ("goal", "failed", "score"):
            flat[f"{name}_interval"] = list(getattr(self, f"{name}_interval"))
        return flat


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
        rows=rows,
        where=where,
        film=base64.b64encode(film.read_bytes()).decode() if film is not None else None,
        filmed=filmed,
        commits=commits or {},
    )
