"""Closed-loop ratios of RAD (Gao et al. 2025), measured in 3D Gaussian splatting over clips of 8 s.

A clip ends with the first of: a collision with somebody who can move (DCR), with a static object (SCR), more
than 2.0 m from the expert's path (PDR), more than 40 degrees from its heading (HDR). CR = DCR + SCR, DR = PDR + HDR.

No code is published. Where the paper leaves it open, ours reads: in one tick collisions come before deviations,
and position before heading; the heading is compared at the closest point of the path; jerks are mean
absolute values of differences, from the start to the end of the clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from countersteer.errors import UserError
from countersteer.evaluation.metrics.contacts import touching
from countersteer.evaluation.metrics.drive import Drive
from countersteer.evaluation.metrics.evidence import Finding, Score
from countersteer.geometry import polygons, polylines
from countersteer.geometry.poses import wrap_angle
from countersteer.scenarios.scenario import ActorKind

__all__ = ["ClipEnd", "ClipParts", "RadParts", "ratios", "score_clip"]

POSITION_LIMIT = 2.0  # [m]
HEADING_LIMIT = np.deg2rad(40.0)


class ClipEnd(Enum):
    """How a clip ended."""

    DYNAMIC_COLLISION = "collision with an actor"
    STATIC_COLLISION = "collision with a static object"
    POSITION = "too far from the expert's path"
    HEADING = "turned away from the expert's path"
    TIME = "time"


@dataclass(frozen=True)
class ClipParts:
    """One clip.

    Attributes:
        end: How it ended.
        tick: When.
        deviation: Mean distance to the expert's path until then [m] (ADD).
        longitudinal_jerk, lateral_jerk: Mean absolute values until then [m/s^3].
    """

    end: ClipEnd
    tick: int
    deviation: float
    longitudinal_jerk: float
    lateral_jerk: float


@dataclass(frozen=True)
class RadParts:
    """Ratios over clips.

    Attributes:
        dynamic_collision, static_collision, position_deviation, heading_deviation: Share of clips that
            ended so, in [0, 1].
        deviation: Mean ADD [m].
        longitudinal_jerk, lateral_jerk: Means [m/s^3].
    """

    dynamic_collision: float
    static_collision: float
    position_deviation: float
    heading_deviation: float
    deviation: float
    longitudinal_jerk: float
    lateral_jerk: float

    @property
    def collision(self) -> float:
        """CR."""
        return self.dynamic_collision + self.static_collision

    @property
    def deviating(self) -> float:
        """DR."""
        return self.position_deviation + self.heading_deviation


def score_clip(drive: Drive) -> Score[ClipParts]:
    """One clip; its value is 1 if it lasted to its end, else 0.

    Args:
        drive: With an expert and the other road users.

    Raises:
        UserError: If there is no expert.
    """
    drive.needs(expert=drive.expert)
    assert drive.expert is not None
    hits = touching(drive)
    static = drive.actors.kind == ActorKind.STATIC
    path, course = drive.expert.position, drive.expert.heading
    gaps = polygons.distance_to_segments(path[:-1], path[1:], drive.ego.position)
    nearest = polylines.segments_along(path, drive.ego.position)
    aside = gaps[np.arange(len(gaps)), nearest]
    turned = np.abs(wrap_angle(drive.ego.heading - course[nearest]))
    broken = np.stack(
        [hits[:, ~static].any(1), hits[:, static].any(1), aside > POSITION_LIMIT, turned > HEADING_LIMIT], 1
    )
    ticks = np.flatnonzero(broken.any(1))
    found: tuple[Finding, ...] = ()
    end, tick = ClipEnd.TIME, len(drive.times) - 1
    if len(ticks):
        tick = int(ticks[0])
        which = int(broken[tick].argmax())
        end = list(ClipEnd)[which]
        involved = hits[tick] & (static if which == 1 else ~static) if which < 2 else np.zeros_like(static)
        value = (None, None, float(aside[tick]), float(turned[tick]))[which]
        actors = tuple(int(k) for k in np.flatnonzero(involved))
        found = (Finding("end", tick, actors, value, end.value),)
    until = slice(0, tick + 1)
    jerk = np.abs(np.diff(drive.ego.acceleration[until], axis=0)) / drive.dt
    along, left = jerk.mean(0) if len(jerk) else np.zeros(2)
    parts = ClipParts(end, tick, float(aside[until].mean()), float(along), float(left))
    return Score(float(end is ClipEnd.TIME), parts, found)


def ratios(clips: list[ClipParts]) -> RadParts:
    """Ratios and means over clips.

    Raises:
        UserError: If there is no clip.
    """
    if not clips:
        raise UserError("ratios over no clips were asked for", expected="at least one clip")

    def share(end: ClipEnd) -> float:
        return sum(clip.end is end for clip in clips) / len(clips)

    def mean(name: str) -> float:
        return float(np.mean([getattr(clip, name) for clip in clips]))

    return RadParts(
        dynamic_collision=share(ClipEnd.DYNAMIC_COLLISION),
        static_collision=share(ClipEnd.STATIC_COLLISION),
        position_deviation=share(ClipEnd.POSITION),
        heading_deviation=share(ClipEnd.HEADING),
        deviation=mean("deviation"),
        longitudinal_jerk=mean("longitudinal_jerk"),
        lateral_jerk=mean("lateral_jerk"),
    )
