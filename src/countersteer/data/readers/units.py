"""Units of time, length and speed, recognised by how the actors of a recording move.

Positions over times give speeds; stated velocities and sizes of cars have to go with them. Where they do not,
the one unit under which they do is converted to SI and noted; where several do, or none, the recording is refused.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from countersteer.data.readers.fields import Field
from countersteer.errors import UserError
from countersteer.scenarios.scenario import ActorKind, Tracks

__all__ = ["EVIDENCE", "FASTEST", "MOVING", "Motion", "metres", "seconds", "stamps", "velocity_of"]

FASTEST = 100.0
"""A track whose position moves faster than this is damaged, not driven [m/s]."""

EVIDENCE = 10
"""Steps that move, before a contradiction counts."""

MOVING = 2.0
"""Who is faster than this shows by it how speeds and headings are meant [m/s]."""

_STILL = 0.1  # what the lever of a sensor makes of no speed at all [m/s]
_STEPS = (0.002, 5.0)  # of recordings: 500 Hz to one in five seconds [s]
_CLOCKS = {
    "nanoseconds": 1e-9,
    "microseconds": 1e-6,
    "milliseconds": 1e-3,
    "thousands of what the format says": 1e3,
    "millions of what the format says": 1e6,
}
_SPEEDS = {"km/h": 1 / 3.6, "mph": 0.44704, "feet per second": 0.3048, "cm/s": 0.01, "mm/s": 0.001}
_LENGTHS = {"feet": 0.3048, "cm": 0.01, "mm": 0.001}
_WIDTHS = (1.2, 3.2)  # of the middle one of a scene's vehicles [m]
_ODD_WIDTHS = (0.4, 4.2)  # beyond these it is in another unit [m]
_LIKELY = 70.0  # nearly all traffic is slower [m/s]
_CRAWLING = 0.7  # nobody calls this driving [m/s]


@dataclass(frozen=True)
class Motion:
    """What positions and stated velocities say of each step between two times.

    Attributes:
        both: Whether the actor was seen, at finite numbers, at either end.
        moved: Displacement over time [m/s]; zero elsewhere.
        stated: Mean of the velocities at either end [m/s]; zero elsewhere.
    """

    both: Bool[ndarray, "actor step"]
    moved: Float[ndarray, "actor step 2"]
    stated: Float[ndarray, "actor step 2"]

    @staticmethod
    def of(times: Float[ndarray, "time"], tracks: Tracks) -> Motion:
        """The motion of all actors."""
        position, velocity = tracks.position[..., :2], tracks.velocity
        seen = tracks.valid & np.isfinite(position).all(-1) & np.isfinite(velocity).all(-1)
        both = seen[:, 1:] & seen[:, :-1]
        position, velocity = (np.where(seen[..., None], values, 0.0) for values in (position, velocity))
        moved = np.diff(position, axis=1) / np.diff(times)[:, None]
        stated = (velocity[:, 1:] + velocity[:, :-1]) / 2
        return Motion(both, *(np.where(both[..., None], values, 0.0) for values in (moved, stated)))

    @property
    def moved_speed(self) -> Float[ndarray, "actor step"]:
        """Speed by positions [m/s]."""
        return np.linalg.norm(self.moved, axis=-1)

    @property
    def stated_speed(self) -> Float[ndarray, "actor step"]:
        """Speed as stated [m/s]."""
        return np.linalg.norm(self.stated, axis=-1)

    def ratios(self) -> Float[ndarray, "n"]:
        """Speed by positions over speed as stated, of every step that moves by either."""
        moved, stated = self.moved_speed, self.stated_speed
        moving = self.both & (np.maximum(moved, stated) > MOVING)
        return moved[moving] / np.maximum(stated[moving], 1e-9)


def velocity_of(
    position: Float[ndarray, "actor time 3"], valid: ndarray, times: Float[ndarray, "time"]
) -> Float[ndarray, "actor time 2"]:
    """Velocity [m/s] from positions: central differences where both neighbours are valid, else one-sided."""
    plane = np.where(valid[..., None], position[..., :2], 0.0)
    step = np.diff(plane, axis=1) / np.diff(times)[:, None]
    both = (valid[:, 1:] & valid[:, :-1])[..., None]
    step = np.where(both, step, 0.0)
    before = np.pad(step, ((0, 0), (1, 0), (0, 0)))
    after = np.pad(step, ((0, 0), (0, 1), (0, 0)))
    count = np.pad(both, ((0, 0), (1, 0), (0, 0))).astype(int) + np.pad(both, ((0, 0), (0, 1), (0, 0)))
    return (before + after) / np.maximum(count, 1)


def stamps(stated: Field) -> Float[ndarray, "time"]:
    """Times as a file states them, in its own unit; from their first one where that is an epoch's.

    Raises:
        UserError: They are no numbers.
    """
    values = np.asarray(stated.value) if len(stated.shape()) == 1 else np.zeros(0)
    if (
        values.dtype.kind not in "iuf"
        or not len(values)
        or not np.isfinite(values).all()
        or float(values.max()) < 1e6
    ):
        return stated.numbers(None)
    values = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    return (values - values[0]).astype(np.float64)


def seconds(
    times: Float[ndarray, "time"], position: ndarray, valid: ndarray, notes: list[str]
) -> tuple[Float[ndarray, "time"], float]:
    """Times in seconds, and by what they were multiplied.

    Steps that no recorder makes are of another unit, if in that unit they are usual and everybody's speed can be.

    Args:
        times: Increasing, at least two.
        position: Of each actor at each time [actor time 2 or 3, m].
        valid: Where it was seen [actor time].
        notes: The unit is added.
    """
    step = np.diff(times)
    usual = float(np.median(step))
    if _STEPS[0] <= usual <= _STEPS[1]:
        return times, 1.0
    seen = valid & np.isfinite(position).all(-1)
    apart = np.linalg.norm(np.diff(np.where(seen[..., None], position, 0.0), axis=1), axis=-1)
    speed = (apart / step)[seen[:, 1:] & seen[:, :-1]]
    top = float(np.percentile(speed, 99)) if speed.size else 0.0
    for name, factor in _CLOCKS.items():
        if not (0.005 <= usual * factor <= 2.0) or top / factor > FASTEST or (factor > 1 and top <= FASTEST):
            continue
        notes.append(
            f"times are in {name} in the source: steps of {usual:g} are {usual * factor:g} s, "
            f"and nobody moves faster than {top / factor:.3g} m/s"
        )
        return (times - times[0]) * factor, factor
    return times, 1.0


def metres(
    path: Path, times: Float[ndarray, "time"], tracks: Tracks, notes: list[str]
) -> tuple[Tracks, float]:
    """Tracks in metres and metres per second, and by what positions were multiplied, which the map needs too.

    Raises:
        UserError: Positions, velocities and the widths of vehicles contradict each other.
    """
    tracks = _with_velocities(tracks, times, notes)
    tracks = _in_one_unit(tracks, Motion.of(times, tracks), notes)
    motion = Motion.of(times, tracks)
    moved, stated, ratios = motion.moved_speed, motion.stated_speed, motion.ratios()
    of_sizes, width = _unit_of_sizes(tracks)
    size = _LENGTHS.get(of_sizes, 1.0)
    ratio = float(np.median(ratios)) if len(ratios) >= EVIDENCE else 1.0
    if 0.9 * stated.sum() < moved.sum() < 1.1 * stated.sum():
        ratio = 1.0  # positions in coarse steps stand and leap, and come as far
    top = {"moved": _high(moved[motion.both]), "stated": _high(stated[motion.both])}

    def refuse(what: str, got: str) -> UserError:
        return UserError(
            f"{path}: {what}",
            got=got,
            expected="metres, seconds, metres per second",
            fix="convert the file to SI units; check its times, positions, velocities and sizes",
        )

    if 0.7 < ratio < 1.4:
        if top["moved"] > FASTEST and not of_sizes and (moved[moved > MOVING] > FASTEST).mean() > 0.5:
            raise refuse("positions are not in metres, or times not in seconds", f"{top['moved']:.3g} 'm/s'")
        if not of_sizes:
            return _along_positions(motion, tracks, times, notes), 1.0
        got = f"vehicles {width:.3g} 'm' wide in the middle, speeds up to {top['moved']:.3g} 'm/s'"
        if top["moved"] > _LIKELY and top["moved"] * size <= FASTEST:
            notes.append(f"lengths and speeds are in {of_sizes} in the source ({got}): converted to metres")
            return _scaled(tracks, size, size, size), size
        if top["moved"] > MOVING and top["moved"] * size < _CRAWLING:
            notes.append(f"sizes are in {of_sizes} in the source ({got}): converted to metres")
            return _scaled(tracks, 1.0, 1.0, size), 1.0
        raise refuse(f"sizes look like {of_sizes}, and it cannot be told whether positions are, too", got)
    got = f"positions move {ratio:.3g} times as fast as the velocities say, in {len(ratios)} steps"
    for name, unit in _LENGTHS.items():
        if abs(ratio * unit - 1) < 0.04 and top["stated"] <= FASTEST and of_sizes in ("", name):
            also = " and sizes" if of_sizes else ""
            notes.append(f"positions{also} are in {name} in the source ({got}): converted to metres")
            return _scaled(tracks, unit, 1.0, size), unit
    for name, unit in _SPEEDS.items():
        fast = top["stated"] > (_LIKELY if unit < 0.1 else 0.0)  # else positions may be in hundreds of metres
        if abs(ratio / unit - 1) < 0.04 and top["moved"] <= FASTEST and fast and not of_sizes:
            notes.append(f"velocities are in {name} in the source ({got}): converted to m/s")
            return _scaled(tracks, 1.0, unit, 1.0), 1.0
    middle = np.percentile(ratios, (25, 75))
    if 0.5 < ratio < 2.0 and middle[1] > 1.25 * middle[0]:  # no unit, but noise
        notes.append(f"velocities disagree with positions: {got}")
        return tracks, 1.0
    raise refuse("positions and velocities are not in the same units, or times are not", got)


def _high(speed: ndarray) -> float:
    """The speed that one in twenty of the steps that move at all exceed [m/s]; 0 if none does."""
    moving = speed[speed > 1e-3]
    return float(np.percentile(moving, 95)) if len(moving) else 0.0


def _unit_of_sizes(tracks: Tracks) -> tuple[str, float]:
    """Unit that makes the vehicles as wide as vehicles are, empty for metres, and their middle width as stated."""
    size = tracks.size[tracks.valid.any(1) & (tracks.kind == ActorKind.VEHICLE), :2]
    size = size[(np.isfinite(size) & (size > 0)).all(-1)]
    if not len(size):
        return "", 0.0
    width, length = np.median(np.sort(size, axis=1), axis=0).tolist()  # some sources swap them
    if _ODD_WIDTHS[0] <= width <= _ODD_WIDTHS[1]:
        return "", width
    fits = (n for n, u in _LENGTHS.items() if _WIDTHS[0] <= width * u <= _WIDTHS[1] and length * u < 25.0)
    return next(fits, ""), width


def _scaled(tracks: Tracks, position: float, velocity: float, size: float) -> Tracks:
    return dataclasses.replace(
        tracks,
        position=tracks.position * position,
        velocity=tracks.velocity * velocity,
        size=tracks.size * size,
    )


def _with_velocities(tracks: Tracks, times: ndarray, notes: list[str]) -> Tracks:
    """Velocities of positions for actors that move although theirs are zero all the time."""
    motion = Motion.of(times, tracks)
    moving = motion.moved_speed > MOVING
    all_still = bool((motion.stated_speed[moving] <= _STILL).all())
    still = ~(motion.stated_speed > (_STILL if all_still else 0.0)).any(1) & (moving.sum(1) >= EVIDENCE)
    if not still.any():
        return tracks
    notes.append(
        f"velocities of {int(still.sum())} of {len(still)} actors are zero in the source although they move: "
        "taken from positions"
    )
    taken = velocity_of(tracks.position, tracks.valid, times)
    return dataclasses.replace(tracks, velocity=np.where(still[:, None, None], taken, tracks.velocity))


def _in_one_unit(tracks: Tracks, motion: Motion, notes: list[str]) -> Tracks:
    """Velocities in m/s of those who alone state theirs in another unit, as an ego does whose speed is its bus's."""
    moved, stated = motion.moved_speed, motion.stated_speed
    moving = motion.both & (moved > MOVING) & (moved <= FASTEST) & (stated > 0)
    found: dict[int, str] = {}
    sound = False
    for actor in np.flatnonzero(moving.sum(1) >= EVIDENCE).tolist():
        low, ratio, high = np.percentile(
            moved[actor, moving[actor]] / stated[actor, moving[actor]], (25, 50, 75)
        )
        sound |= bool(0.9 < ratio < 1.1)
        name = next((name for name, unit in _SPEEDS.items() if abs(ratio / unit - 1) < 0.04), "")
        if name and high < 1.1 * low:
            found[actor] = name
    if not found or not sound:  # all are in one unit
        return tracks
    velocity = tracks.velocity.copy()
    for actor, name in found.items():
        velocity[actor] *= _SPEEDS[name]
    first = next(iter(found))
    notes.append(
        f"velocities of {len(found)} of {len(tracks.ids)} actors are in {found[first]} in the source, unlike those of "
        f"others ({tracks.ids[first]!r} first): converted to m/s"
    )
    return dataclasses.replace(tracks, velocity=velocity)


def _along_positions(motion: Motion, tracks: Tracks, times: ndarray, notes: list[str]) -> Tracks:
    """Velocities that point where the actors go: those of positions if the source's are in another frame."""
    moved, stated = motion.moved_speed, motion.stated_speed
    moving = motion.both & (np.minimum(moved, stated) > MOVING)
    along = (motion.moved * motion.stated).sum(-1)[moving] / (moved * stated)[moving]
    if len(along) < EVIDENCE or np.median(along) > 0.7:
        return tracks
    notes.append(
        f"velocities do not point where the actors go (a median cosine of {np.median(along):.2f}; "
        "they may be in the actors' own frames): taken from positions"
    )
    return dataclasses.replace(tracks, velocity=velocity_of(tracks.position, tracks.valid, times))
