"""Comfort: the bounds that nuPlan set, and the ways in which benchmarks derive what they bound.

| benchmark | smoothing | derivative |
|---|---|---|
| nuPlan, NAVSIM v2 | Savitzky-Golay over 8 samples, order 2 | over 15 samples (jerk), 5 (yaw) |
| NAVSIM v1 | one parabola through the whole plan | the same (jerk), 5 samples (yaw) |
| Bench2Drive | over 7 samples, order 2 | over 7 samples |
| HUGSIM | none | plain differences |

"Jerk magnitude" is everywhere the derivative of the acceleration's magnitude, not the magnitude of its
derivative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.errors import UserError
from countersteer.evaluation.metrics.drive import Motion
from countersteer.evaluation.metrics.evidence import Finding

__all__ = [
    "NUPLAN_BOUNDS",
    "ComfortBounds",
    "ComfortSignals",
    "Interval",
    "acceleration_magnitude",
    "center_acceleration",
    "filtered_signals",
    "savitzky_golay",
    "unwrap",
    "violations",
]


@dataclass(frozen=True)
class Interval:
    """What a quantity may be, from `low` to `high`."""

    low: float
    high: float

    @classmethod
    def around(cls, limit: float) -> Interval:
        """Up to `limit` either way."""
        return cls(-limit, limit)


@dataclass(frozen=True)
class ComfortBounds:
    """Bounds of nuPlan's `ego_is_comfortable`.

    Attributes:
        longitudinal_acceleration, lateral_acceleration: [m/s^2].
        jerk_magnitude: Derivative of the acceleration's magnitude [m/s^3].
        longitudinal_jerk: [m/s^3].
        yaw_acceleration: [rad/s^2].
        yaw_rate: [rad/s].
    """

    longitudinal_acceleration: Interval = Interval(-4.05, 2.40)
    lateral_acceleration: Interval = Interval.around(4.89)
    jerk_magnitude: Interval = Interval.around(8.37)
    longitudinal_jerk: Interval = Interval.around(4.13)
    yaw_acceleration: Interval = Interval.around(1.93)
    yaw_rate: Interval = Interval.around(0.95)


NUPLAN_BOUNDS = ComfortBounds()


@dataclass(frozen=True)
class ComfortSignals:
    """What is bounded, over time; fields as in `ComfortBounds`."""

    longitudinal_acceleration: Float[ndarray, "_"]
    lateral_acceleration: Float[ndarray, "_"]
    jerk_magnitude: Float[ndarray, "_"]
    longitudinal_jerk: Float[ndarray, "_"]
    yaw_acceleration: Float[ndarray, "_"]
    yaw_rate: Float[ndarray, "_"]


def violations(
    signals: ComfortSignals,
    bounds: ComfortBounds = NUPLAN_BOUNDS,
    *,
    part: str = "comfort",
    inclusive: bool = False,
) -> tuple[Finding, ...]:
    """The worst sample of each quantity that leaves its bounds; none means comfortable.

    Args:
        signals: What is bounded.
        bounds: The bounds.
        part: The sub-score that findings name.
        inclusive: Whether a value on the bound passes (HUGSIM) or fails (all others).
    """
    found = []
    for name in (f.name for f in fields(ComfortBounds)):
        values, bound = getattr(signals, name), getattr(bounds, name)
        beyond = np.maximum(values - bound.high, bound.low - values)
        if len(beyond) and (beyond > 0.0 if inclusive else beyond >= 0.0).any():
            tick = int(beyond.argmax())
            found.append(Finding(part, tick, value=float(values[tick]), note=name.replace("_", " ")))
    return tuple(found)


@lru_cache(maxsize=4096)
def _window_weights(window: int, order: int, derivative: int, where: float) -> ndarray:
    """Linear map from a window's samples to the term of their polynomial about `where`."""
    at = np.arange(window, dtype=float) - where
    return np.linalg.pinv(np.vander(at, order + 1, increasing=True))[derivative]


def savitzky_golay(
    values: Float[ndarray, "n"], window: int, order: int, *, derivative: int = 0, dt: float = 1.0
) -> Float[ndarray, "n"]:
    """Least-squares polynomials through a sliding window (Savitzky & Golay 1964), ends by the end windows.

    The conventions are those of scipy's `savgol_filter`, which the references call: an even window
    of w samples gives the value at its middle, half a sample after the sample it is filed under; the
    first and last w // 2 values come from the first and last window's polynomial.

    Args:
        values: Samples.
        window: Samples in a window; shortened to the series.
        order: Degree of the polynomial, below the window.
        derivative: Which derivative to take.
        dt: Interval of the samples [s].

    Raises:
        UserError: If the series is too short for the degree.
    """
    window = min(window, len(values))
    if order >= window:
        raise UserError(
            "a series is too short to be smoothed",
            got=f"{len(values)} samples",
            expected=f"at least {order + 1}",
            fix="score a longer drive",
        )
    half = window // 2

    def weights(where: float) -> ndarray:
        return _window_weights(window, order, derivative, where) * (
            math.factorial(derivative) / dt**derivative
        )

    smooth = np.empty(len(values))
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    before = (window - 1) // 2
    smooth[before : before + len(windows)] = windows @ weights((window - 1) / 2)
    for k in range(half):
        smooth[k] = windows[0] @ weights(float(k))
        smooth[-1 - k] = windows[-1] @ weights(window - 1.0 - k)
    return smooth


def unwrap(heading: Float[ndarray, "n"]) -> Float[ndarray, "n"]:
    """Headings [rad] without jumps by whole turns."""
    # As nuPlan's `phase_unwrap` rounds; numpy's treats a step of exactly pi otherwise.
    turns = np.concatenate([[0.0], np.cumsum(np.round(np.diff(heading) / (2 * np.pi)))])
    return heading - 2 * np.pi * turns


def center_acceleration(motion: Motion, ahead: float) -> Float[ndarray, "time 2"]:
    """Acceleration at the box's centre [m/s^2], forward and left, as nuPlan and NAVSIM compute it.

    Physics says (a_x - r w^2, a_y + r w'); the references add r w^2 + r w' to a_x and leave a_y alone
    (`get_acceleration_shifted`). Scores under their names follow them. At 0.3 rad/s and
    r = 1.461 m the difference is 0.26 m/s^2.
    """
    shift = ahead * (motion.yaw_rate**2 + motion.yaw_acceleration)
    return motion.acceleration + np.stack([shift, np.zeros_like(shift)], -1)


def filtered_signals(motion: Motion, dt: float, ahead: float, *, whole: bool = False) -> ComfortSignals:
    """What nuPlan and NAVSIM bound.

    `nuplan/planning/metrics/utils/state_extractors.py` and NAVSIM's `pdm_comfort_metrics.py`; the yaw
    filters have windows of 5, since the reference ignores the 15 that it is asked for.

    Args:
        motion: How the car moved.
        dt: Interval [s]; the windows are meant for 0.1.
        ahead: Rear axle to the box's centre [m].
        whole: As NAVSIM v1 does: accelerations and jerks from one parabola through the whole series.
    """
    forward, left = center_acceleration(motion, ahead).T
    heading = unwrap(motion.heading)
    short, long = (len(heading), len(heading)) if whole else (8, 15)

    def smooth(values: ndarray, window: int) -> ndarray:
        return np.round(savitzky_golay(values, window, 2), 8)

    def slope(values: ndarray) -> ndarray:
        return np.round(savitzky_golay(values, long, 2, derivative=1, dt=dt), 8)

    return ComfortSignals(
        longitudinal_acceleration=smooth(forward, short),
        lateral_acceleration=smooth(left, short),
        jerk_magnitude=slope(acceleration_magnitude(motion)),
        longitudinal_jerk=slope(smooth(forward, 8)),
        yaw_acceleration=np.round(savitzky_golay(heading, 5, 3, derivative=2, dt=dt), 8),
        yaw_rate=np.round(savitzky_golay(heading, 5, 2, derivative=1, dt=dt), 8),
    )


def acceleration_magnitude(motion: Motion) -> Float[ndarray, "time"]:
    """Smoothed magnitude of the acceleration [m/s^2]; at the rear axle, where nuPlan and NAVSIM take it."""
    return np.round(savitzky_golay(np.hypot(*motion.acceleration.T), 8, 2), 8)
