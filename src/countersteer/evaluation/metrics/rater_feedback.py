"""Waymo's rater feedback score (RFS) for end-to-end plans (WOD-E2E, Xu et al. 2025).

Raters scored up to three trajectories from 0 to 10. A plan gets the score of the best trajectory near it: all
of it within a trust region around the trajectory's points at 3 and 5 s, less the farther outside. Definition:
github.com/waymo-research/waymo-open-dataset 99a4cb3, `metrics/python/rater_feedback_utils.py` (Apache-2.0).

The reference matches the two times separately, so a plan may take its 3 s from one trajectory and its 5 s from
another; ours does the same. Its floor of 4 holds for every plan outside all trust regions, so a plan that no rater would accept
still scores 4, and even a trajectory rated below 4 is worth leaving.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics.evidence import Finding, Score

__all__ = ["RaterParts", "TrustRegion", "score_rater_feedback", "trust_region"]

_TIMES = (3, 5)  # [s]
_LATERAL = (1.0, 1.8)  # half widths at these times [m], before scaling
_TRAJECTORIES = 3


@dataclass(frozen=True)
class TrustRegion:
    """Half widths of the trust region at 3 and at 5 s [m]."""

    lateral: Float[ndarray, "2"]
    longitudinal: Float[ndarray, "2"]


def trust_region(speed: float, *, stretch: tuple[float, float] = (1.0, 4.0)) -> TrustRegion:
    """1.0 and 1.8 m to the side and four times that along, halved up to 1.4 m/s and whole from 11 m/s.

    Args:
        speed: At the start of the plan [m/s].
        stretch: Factors of the lateral and longitudinal half width.
    """
    scale = min(max(0.5 + 0.5 * (speed - 1.4) / (11.0 - 1.4), 0.5), 1.0)
    base = scale * np.array(_LATERAL)
    return TrustRegion(base * stretch[0], base * stretch[1])


@dataclass(frozen=True)
class RaterParts:
    """How each plan was scored.

    Attributes:
        scores: Of each plan, 0 to 10.
        matched: Trajectory that gave the score at 3 and at 5 s.
        trusted: Whether the plan lies within the trust region of one trajectory at both times.
    """

    scores: Float[ndarray, "plan"]
    matched: Int[ndarray, "plan 2"]
    trusted: Bool[ndarray, "plan"]


def _directions(trajectory: Float[ndarray, "point 2"]) -> Float[ndarray, "point 2"]:
    """Unit vectors of travel, from the origin on; a standing car keeps its last, at first straight ahead."""
    steps = np.diff(trajectory, axis=0, prepend=np.zeros((1, 2)))
    last = np.array([1.0, 0.0])
    for k, one in enumerate(steps):
        if one.any():
            last = one / np.linalg.norm(one)
        steps[k] = last
    return steps


def score_rater_feedback(
    plans: Float[ndarray, "plan point 2"],
    probabilities: Float[ndarray, "plan"],
    trajectories: list[Float[ndarray, "_ 2"]],
    ratings: Float[ndarray, "trajectory"],
    speed: float,
    *,
    frequency: int = 4,
    decay: float = 0.1,
    floor: float = 4.0,
    stretch: tuple[float, float] = (1.0, 4.0),
) -> Score[RaterParts]:
    """RFS of one scene's plans, weighted by their probabilities.

    At each time, score = max over trajectories of rating x decay^max(d - 1, 0), with d the larger of the
    lateral and longitudinal distance over its half width. A plan's is the mean of both times, at least `floor`
    unless it is trusted.

    Args:
        plans: Points 1 / `frequency` apart until 5 s, in the ego frame at the start [m].
        probabilities: Weight of each plan; they should sum to 1.
        trajectories: Rated trajectories in the same frame [m], of which the first three count; shorter ones stay
            at their last point.
        ratings: 0 to 10.
        speed: At the start [m/s].
        frequency: Points a second [Hz].
        decay, floor, stretch: The benchmark's constants.

    Raises:
        UserError: If plans do not last 5 s, or trajectories and ratings differ in number.
    """
    points = _TIMES[-1] * frequency
    if plans.shape[1] != points:
        raise UserError(
            "rater feedback needs plans of 5 s",
            got=f"{plans.shape[1]} points",
            expected=f"{points} points at {frequency} Hz",
        )
    if len(trajectories) != len(ratings) or not trajectories:
        raise UserError(
            "rated trajectories and ratings must pair up",
            got=f"{len(trajectories)} trajectories, {len(ratings)} ratings",
            expected="as many of one as of the other, at least one",
        )
    region = trust_region(speed, stretch=stretch)
    at = np.array(_TIMES) * frequency - 1
    distance = []
    for trajectory in trajectories[:_TRAJECTORIES]:
        whole = np.concatenate([trajectory, np.repeat(trajectory[-1:], points, axis=0)])[:points]
        way = _directions(whole)[at]
        off = plans[:, at] - whole[at]
        along = np.abs((off * way).sum(-1)) / region.longitudinal
        aside = np.abs(off[..., 1] * way[:, 0] - off[..., 0] * way[:, 1]) / region.lateral
        distance.append(np.maximum(along, aside))
    distances = np.stack(distance, 1)  # [plan trajectory 2]
    rated = np.asarray(ratings, float)[:_TRAJECTORIES, None]
    worth = rated * decay ** np.maximum(distances - 1.0, 0.0)
    scores = worth.max(1).mean(-1)
    trusted = np.asarray((distances <= 1.0).all(-1).any(-1))
    scores = np.where(trusted, scores, np.maximum(scores, floor))
    parts = RaterParts(scores, worth.argmax(1), trusted)
    found = tuple(
        Finding(
            "trusted", None, value=float(distances[k].max(-1).min()), note=f"half widths that plan {k} is off"
        )
        for k in np.flatnonzero(~trusted)
    )
    return Score(float((scores * probabilities).sum()), parts, found)
