"""AlpaSim's scene score: progress along the recorded path, nothing for a collision of one's own or leaving the road.

Reference: github.com/NVlabs/alpasim 3032e0c, `src/eval`. A contact is at fault if the ego's front or
side takes part; boxes are shrunk by 2 % and their corners rounded by half of half their shorter side.

Peculiarities: of several actors touched in one step the reference keeps the kind of contact of the last it
looks at; ours keeps the worst. Whether lanes together cover the car is decided on points 0.1 m apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics.areas import contained
from countersteer.evaluation.metrics.contacts import rounded_gaps
from countersteer.evaluation.metrics.drive import Drive
from countersteer.evaluation.metrics.evidence import Finding, Score
from countersteer.geometry import polygons, polylines

__all__ = ["SceneParts", "metres_per_incident", "off_road", "scene_score", "score_scene"]

_SHRUNK, _ROUNDNESS = 0.98, 0.5


@dataclass(frozen=True)
class SceneParts:
    """What a scene score is made of.

    Attributes:
        progress: Share of the recorded path that was reached.
        recorded: Length of the recorded path [m].
        collision_at_fault: A front or side contact.
        off_road: Left the road.
    """

    progress: float
    recorded: float
    collision_at_fault: bool
    off_road: bool


def scene_score(parts: SceneParts) -> float:
    """0 for a collision at fault or for leaving the road, else min(progress / 0.8, 1); 1 for paths below 5 m.

    Raises:
        UserError: If a number is not finite.
    """
    for name in ("progress", "recorded"):
        if not math.isfinite(getattr(parts, name)):
            raise UserError(
                f"a scene without a finite {name} cannot be scored",
                got=getattr(parts, name),
                expected="a finite number",
                fix="leave the rollout out, as AlpaSim does",
            )
    if parts.collision_at_fault or parts.off_road:
        return 0.0
    if parts.recorded < 5.0:
        return 1.0
    return min(min(max(parts.progress, 0.0), 1.0) / 0.8, 1.0)


def metres_per_incident(distances: list[float], incidents: list[bool]) -> float:
    """Distance driven over all rollouts for each that had an incident [m]; inf without one."""
    count = sum(incidents)
    return sum(distances) / count if count else math.inf


def off_road(drive: Drive) -> Bool[ndarray, "time"]:
    """Where the box is in no lane, nor covered by several, and touches an edge of the road."""
    corners = drive.corners
    share = np.stack(
        np.meshgrid(*(np.linspace(0, 1, round(side / 0.1) + 1) for side in drive.size), indexing="ij"), -1
    ).reshape(-1, 2)
    lanes = tuple(lane.area for lane in drive.road.lanes)
    off = np.zeros(len(drive.times), bool)
    for tick, box in enumerate(corners):
        # The cheaper question first: most boxes touch no edge.
        if not any(polygons.line_distance(box, edge) < 1e-3 for edge in drive.road.edges):
            continue
        grid = box[1] + share[:, :1] * (box[0] - box[1]) + share[:, 1:] * (box[2] - box[1])
        off[tick] = not contained(lanes, grid).any(1).all()
    return off


def score_scene(drive: Drive, *, start: int = 0) -> Score[SceneParts]:
    """AlpaSim's score of a rollout, in [0, 1]; the benchmark's is the mean over scenes.

    Nothing counts after the first contact of any kind or after leaving the road.

    Args:
        drive: With the other road users, lanes and road edges, and the recorded ego as expert.
        start: First tick at which the policy drove.

    Raises:
        UserError: If there is no recorded ego.
    """
    drive.needs(expert=drive.expert)
    assert drive.expert is not None
    gaps = rounded_gaps(drive, scale=_SHRUNK, roundness=_ROUNDNESS)
    hits, off = gaps.box < 0.0, off_road(drive)
    hits[:start], off[:start] = False, False
    ends = np.flatnonzero(hits.any(1) | off)
    last = int(ends[0]) if len(ends) else len(drive.times) - 1
    found = []
    # The rear edge alone is forgiven; a box that reaches both ends is a front contact.
    for actor in np.flatnonzero(hits[last]):
        front, rear = bool(gaps.front[last, actor] < 0.0), bool(gaps.rear[last, actor] < 0.0)
        if front or not rear:
            note = "with the front" if front else "sideways"
            found.append(Finding("collision_at_fault", last, (int(actor),), note=note))
    at_fault = bool(found)
    if off[last]:
        found.append(Finding("off_road", last))
    path = drive.expert.center(drive.ahead)
    recorded = float(polylines.arc_length(path)[-1])
    reached, _ = polylines.follow(path, drive.center[: last + 1])
    progress = float(reached[-1]) / recorded if recorded > 0.0 else 0.0
    if progress < 0.8 and recorded >= 5.0:
        found.append(Finding("progress", last, value=progress, note="of the recorded path"))
    parts = SceneParts(progress, recorded, at_fault, bool(off[last]))
    return Score(scene_score(parts), parts, tuple(found))
