"""Open-loop displacement of plans from what an expert did: ADE, FDE, minADE, miss rate.

The benchmarks that compare plans with a recording do not agree on what "L2 at 3 s" is: nuScenes results
exist at the horizon (the error of the point at 3 s) and as the mean of all points up to it, and the two
differ by up to a factor of two. Both are here under their own names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics.drive import Drive
from countersteer.evaluation.metrics.evidence import Finding, Score

__all__ = [
    "DisplacementParts",
    "average_displacement",
    "displacements",
    "error_at_horizon",
    "error_up_to_horizon",
    "final_displacement",
    "minimum_average_displacement",
    "miss_rate",
    "score_plans",
]


def displacements(
    plan: Float[ndarray, "*batch point axis"], truth: Float[ndarray, "*#batch point axis"]
) -> Float[ndarray, "*batch point"]:
    """Euclidean distance between planned and true points [m]; in 2 or 3 dimensions, as given."""
    return np.linalg.norm(plan - truth, axis=-1)


def average_displacement(error: Float[ndarray, "*batch point"]) -> Float[ndarray, "*batch"]:
    """ADE: mean over a plan's points [m]."""
    return np.asarray(error.mean(-1))


def final_displacement(error: Float[ndarray, "*batch point"]) -> Float[ndarray, "*batch"]:
    """FDE: of a plan's last point [m]."""
    return np.asarray(error[..., -1])


def minimum_average_displacement(error: Float[ndarray, "*batch plan point"]) -> Float[ndarray, "*batch"]:
    """minADE_K: the smallest ADE of K hypotheses [m]."""
    return np.asarray(error.mean(-1).min(-1))


def miss_rate(error: Float[ndarray, "plan point"], threshold: float = 2.0) -> float:
    """Share of plans whose last point is more than `threshold` [m] away (2 m in Argoverse)."""
    return float((error[:, -1] > threshold).mean())


def _index(ahead: ndarray, horizon: float) -> int:
    at = np.flatnonzero(np.isclose(ahead, horizon, atol=1e-6))
    if len(at) != 1:
        raise UserError(
            "a plan has no point at the horizon asked for",
            got=f"{horizon} s",
            expected=f"one of {np.round(ahead, 3).tolist()} s",
        )
    return int(at[0])


def error_at_horizon(
    error: Float[ndarray, "*batch point"], ahead: Float[ndarray, "point"], horizon: float
) -> Float[ndarray, "*batch"]:
    """L2 "at horizon" [m]: of the point at `horizon` [s] (UniAD's convention on nuScenes)."""
    return error[..., _index(ahead, horizon)]


def error_up_to_horizon(
    error: Float[ndarray, "*batch point"], ahead: Float[ndarray, "point"], horizon: float
) -> Float[ndarray, "*batch"]:
    """L2 "average up to horizon" [m]: mean of all points until `horizon` [s] (ST-P3's and VAD's)."""
    return error[..., : _index(ahead, horizon) + 1].mean(-1)


@dataclass(frozen=True)
class DisplacementParts:
    """Open-loop errors of a drive's plans against its expert.

    Attributes:
        average: ADE, mean over plans [m].
        final: FDE, mean over plans [m].
        missed: Miss rate, in [0, 1].
        plans: How many plans lie within the recording and count.
    """

    average: float
    final: float
    missed: float
    plans: int


def score_plans(drive: Drive, *, threshold: float = 2.0) -> Score[DisplacementParts]:
    """ADE [m] of the plans whose whole horizon was recorded, against the expert at the same times.

    The expert is interpolated linearly to a plan's times. The findings are the plans that miss.

    Args:
        drive: With plans and an expert.
        threshold: Final distance from which a plan counts as missed [m].

    Raises:
        UserError: If there is no plan, no expert, or no plan ends within the recording.
    """
    plans, expert = drive.plans, drive.expert
    drive.needs(plans=plans, expert=expert)
    assert plans is not None
    assert expert is not None
    at = drive.times[plans.tick][:, None] + plans.ahead
    recorded: Bool[ndarray, "plan"] = at[:, -1] <= drive.times[-1] + 1e-9
    if not recorded.any():
        raise UserError(
            "no plan can be compared with the recording",
            got=f"plans of {plans.ahead[-1]:g} s in a drive of {drive.times[-1] - drive.times[0]:g} s",
            expected="at least one plan that ends before the drive does",
        )
    track = expert.position[: len(drive.times)]
    truth = np.stack([np.interp(at[recorded], drive.times, track[:, axis]) for axis in (0, 1)], -1)
    error = displacements(plans.position[recorded], truth)
    ticks = plans.tick[recorded]
    findings = tuple(
        Finding("missed", int(ticks[k]), value=float(error[k, -1]), note="final displacement")
        for k in np.flatnonzero(error[:, -1] > threshold)
    )
    parts = DisplacementParts(
        average=float(average_displacement(error).mean()),
        final=float(final_displacement(error).mean()),
        missed=miss_rate(error, threshold),
        plans=int(recorded.sum()),
    )
    return Score(parts.average, parts, findings)
