"""A score and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Finding", "Score"]

Parts = TypeVar("Parts")


@dataclass(frozen=True)
class Finding:
    """One thing that lowered a score, for a viewer to jump to.

    Attributes:
        part: The sub-score it belongs to, by its field's name.
        tick: When, or None if it belongs to the drive as a whole.
        actors: Indices of those involved, in `Drive.actors`.
        value: The number that broke the rule (SI), or None where there is none.
        note: In words.
    """

    part: str
    tick: int | None
    actors: tuple[int, ...] = ()
    value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Score(Generic[Parts]):
    """A benchmark's score of one drive.

    Attributes:
        value: The score, in the benchmark's own range.
        parts: The sub-scores it was put together from.
        findings: Why it is not perfect, in order of sub-score, then time.
    """

    value: float
    parts: Parts
    findings: tuple[Finding, ...] = ()
