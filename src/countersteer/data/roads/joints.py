"""Ways through junctions that a map does not draw."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from countersteer.scenarios.network import Turn

__all__ = ["bridge", "turn_of"]

_SPACING = 1.0  # between the points of a way [m]


def bridge(before: Float[ndarray, "n 3"], after: Float[ndarray, "m 3"]) -> Float[ndarray, "k 3"]:
    """The smooth way from the end of one line to the beginning of another: a cubic Hermite polynomial."""
    start, end = before[-1], after[0]
    way = float(np.linalg.norm((end - start)[:2]))
    leaves, arrives = before[-1] - before[-2], after[1] - after[0]
    leaves, arrives = (way * step / max(float(np.linalg.norm(step[:2])), 1e-9) for step in (leaves, arrives))
    t = np.linspace(0.0, 1.0, max(int(np.ceil(way / _SPACING)), 1) + 1)[:, None]
    return (
        start * (2 * t**3 - 3 * t**2 + 1)
        + leaves * (t**3 - 2 * t**2 + t)
        + end * (3 * t**2 - 2 * t**3)
        + arrives * (t**3 - t**2)
    )


def turn_of(centre: Float[ndarray, "n 3"]) -> Turn:
    """Where a way through a junction leads, by how far it turns: less than 40 degrees is straight on, 150 and more around."""
    steps = np.diff(centre[:, :2], axis=0)
    steps = steps[np.linalg.norm(steps, axis=1) > 1e-6]
    if len(steps) < 2:
        return Turn.STRAIGHT
    turned = np.degrees(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])))
    angle = float(turned[-1] - turned[0])
    if abs(angle) < 40.0:
        return Turn.STRAIGHT
    if abs(angle) > 150.0:
        return Turn.AROUND
    return Turn.LEFT if angle > 0 else Turn.RIGHT
