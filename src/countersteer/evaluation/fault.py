"""Whose fault the collisions of a record are, for the rules of suites."""

from __future__ import annotations

import numpy as np

from countersteer.evaluation.metrics.contacts import STANDING, boxes_touch, unavoidable
from countersteer.evaluation.records import DriveRecord

__all__ = ["at_fault"]


def at_fault(record: DriveRecord) -> tuple[int, int] | None:
    """Tick and slot of the first collision that is the car's own fault.

    After NAVSIM: the car is not at fault while it stands (<= 0.05 m/s), when it is struck from behind, or with what it
    already overlapped at the start. It is not at fault with an actor that ran into it while it stood, until they have
    parted, nor with one that appeared too late for anybody to stop (`metrics.contacts.unavoidable`).
    """
    ignored = set(_touched(record, 0)) if record.collision.any() else set()
    if record.collision[0]:
        ignored.add(int(record.collided_with[0]))
    struck: set[int] = set()
    for tick in np.flatnonzero(record.collision & record.alive):
        after = min(int(tick) + 1, len(record.times) - 1)  # what happened on the way there
        touched = sorted({int(record.collided_with[tick]), *_touched(record, after)})
        struck &= set(touched)
        if record.speed[tick] <= STANDING:
            struck |= set(touched)
            continue
        for other in touched:
            if other in ignored | struck:
                continue
            x, y = record.actors[tick, other, :2] - record.position[tick]
            along = x * np.cos(record.heading[tick]) + y * np.sin(record.heading[tick])
            seen = record.actors[:, other, 6] >= 0
            driven = (record.times, record.position, record.heading, record.speed)
            # The other is behind the rear axle, or came out of nowhere.
            if along < 0 or unavoidable(*driven, record.actors[:, other, :2], seen, after):
                ignored.add(other)
                continue
            return int(tick), other
    return None


def _touched(record: DriveRecord, tick: int) -> list[int]:
    """Slots of all whose boxes overlap the car's."""
    rows, others = record.actors[tick], record.others
    others = others[rows[others, 6] >= 0]
    if record.heights is not None:
        z = record.heights[tick]
        others = others[np.abs(z[others] - z[record.slot]) <= (rows[others, 5] + rows[record.slot, 5]) / 2]
    own = np.broadcast_to(rows[record.slot], (len(others), 7))
    pairs = [(box[:, :2], box[:, 2], box[:, 3:5]) for box in (own, rows[others])]
    return [int(slot) for slot in others[boxes_touch(*pairs[0], *pairs[1])]]
