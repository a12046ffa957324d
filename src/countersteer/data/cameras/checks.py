"""What is wrong with a camera log: gaps, jumps, standing, wrong units and axes, found before anyone trains on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from countersteer.data.cameras.log import CameraLog, RecordedCamera
from countersteer.data.cameras.poses import Poses
from countersteer.errors import UserError
from countersteer.geometry.rigid import rotation_angle

__all__ = ["Finding", "LogReport", "Problem", "check"]


class Problem(Enum):
    """What can be wrong."""

    TIME_ORDER = "time stamps go back"
    DUPLICATE = "frames come twice"
    DROPPED = "frames are missing"
    GAP = "the recording is interrupted"
    UNITS_TIME = "times are not in seconds"
    UNITS_POSE = "positions are not in metres"
    NO_POSES = "nobody recorded where the car was"
    POSE_COVERAGE = "frames were taken when no pose was recorded"
    POSE_GAP = "poses are interrupted"
    POSE_JUMP = "the car jumps"
    NO_MOTION = "the car stands"
    AXES = "the car does not go where it points"
    UNSYNCHRONISED = "the cameras do not take their pictures together"
    NO_CALIBRATION = "a camera has no calibration"
    CALIBRATION = "a calibration cannot be right"


_FATAL = frozenset(
    {
        Problem.TIME_ORDER,
        Problem.UNITS_TIME,
        Problem.UNITS_POSE,
        Problem.NO_POSES,
        Problem.POSE_JUMP,
        Problem.AXES,
        Problem.NO_CALIBRATION,
        Problem.CALIBRATION,
    }
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        problem: What it is.
        where: Camera, or "poses".
        times: When [s, log time], at most the first ten; empty if it concerns the whole.
        count: How often.
        detail: Measured against expected, one sentence.
    """

    problem: Problem
    where: str
    times: tuple[float, ...]
    count: int
    detail: str

    @property
    def fatal(self) -> bool:
        """Whether rendering from such a log makes no sense until it is mended."""
        return self.problem in _FATAL

    def __str__(self) -> str:
        at = f" at {', '.join(f'{time:.3f}' for time in self.times[:3])} s" if self.times else ""
        return f"{self.where}: {self.problem.value} ({self.count} x{at}): {self.detail}"


@dataclass(frozen=True)
class LogReport:
    """All findings about a log.

    Attributes:
        path: What was checked.
        findings: In the order of the cameras, poses last.
    """

    path: str
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether nothing fatal was found."""
        return not any(finding.fatal for finding in self.findings)

    def require_usable(self) -> None:
        """Refuse a log that cannot be rendered from.

        Raises:
            UserError: Something fatal was found; every such finding is named.
        """
        fatal = [str(finding) for finding in self.findings if finding.fatal]
        if fatal:
            raise UserError(
                f"{self.path} cannot be rendered from yet",
                got="\n            ".join(fatal),
                expected="calibrated cameras, and poses in metres at times in seconds that a car can drive",
                fix="mend the recording, or take a part without that; docs/formats.md says what is needed",
            )

    def of(self, problem: Problem) -> tuple[Finding, ...]:
        """Findings of one kind."""
        return tuple(finding for finding in self.findings if finding.problem is problem)


FASTEST = 90.0  # of a car on a road [m/s]
HARDEST = 30.0  # change of velocity between neighbouring poses, per second, of any real drive [m/s^2]
QUICKEST_TURN = 3.0  # [rad/s]
STANDING = 0.1  # [m/s]
LONGEST_TIME = 1e5  # of one drive: more than a day [s]
LONGEST_WAY = 5e5  # of one drive [m]


def check(log: CameraLog, *, pictures: bool = False) -> LogReport:
    """Look for everything in `Problem`.

    Args:
        log: What to check.
        pictures: Also decode every frame and compare neighbours, which finds pictures that were stored
            twice under new times.
    """
    findings: list[Finding] = []
    for camera in log.cameras:
        findings += _times(camera) + _calibration(camera)
        if pictures:
            findings += _twins(camera)
    findings += _synchrony(log) + _poses(log)
    return LogReport(log.provenance.path, tuple(findings))


def _found(
    problem: Problem, where: str, times: ndarray, at: Bool[ndarray, "n"], detail: str
) -> list[Finding]:
    if not at.any():
        return []
    first = tuple(float(time) for time in times[at][:10])
    return [Finding(problem, where, first, int(at.sum()), detail)]


def _times(camera: RecordedCamera) -> list[Finding]:
    times, name = camera.times, camera.name
    if len(times) < 2:
        return []
    step = np.diff(times)
    usual = float(np.median(step))
    back, same = step < 0, step == 0
    found = _found(Problem.TIME_ORDER, name, times[1:], back, "time stamps have to increase")
    if usual <= 0:
        return found + _found(Problem.DUPLICATE, name, times[1:], same, "most frames share a time")
    found += _time_unit(name, times, usual, "frames", 1 / 500, 5.0)
    # A time that comes (almost) twice: 5 % of the usual step is no camera's jitter.
    found += _found(
        Problem.DUPLICATE, name, times[1:], ~back & (step < 0.05 * usual), f"expected steps of {usual:.4f} s"
    )
    long = (step > 1.6 * usual) & (step <= max(10 * usual, 0.5))
    lost = int(np.round(step[long] / usual - 1).sum())
    found += _found(
        Problem.DROPPED, name, times[:-1], long, f"{lost} frames of steps of {usual:.4f} s are missing"
    )
    gap = step > max(10 * usual, 0.5)
    if gap.any():
        found += _found(Problem.GAP, name, times[:-1], gap, f"the longest lasts {step.max():.2f} s")
    return found


def _time_unit(
    where: str, times: ndarray, usual: float, what: str, least: float, most: float
) -> list[Finding]:
    """Steps that nobody records with, or a drive that lasts too long."""
    if least < usual < most:
        detail = f"{what} last {np.ptp(times):.4g} s, expected at most {LONGEST_TIME:g} s"
        return _found(Problem.UNITS_TIME, where, times[:1], np.array([np.ptp(times) > LONGEST_TIME]), detail)
    units = (("ms", 1e3), ("us", 1e6), ("ns", 1e9))
    guess = next((unit for unit, factor in units if least < usual / factor < most), "?")
    detail = f"{what} are {usual:g} 's' apart, expected {least:g} to {most:g} s; the unit may be {guess}"
    return _found(Problem.UNITS_TIME, where, times[:1], np.ones(1, bool), detail)


def _calibration(camera: RecordedCamera) -> list[Finding]:
    whole, at = np.ones(1, bool), camera.times[:1]
    if camera.intrinsics is None:
        return _found(Problem.NO_CALIBRATION, camera.name, at, whole, "focal lengths and centre are needed")
    k = camera.intrinsics
    angle = math.degrees(2 * math.atan(k.width / 2 / k.fx))
    centred = 0.2 < k.cx / k.width < 0.8 and 0.1 < k.cy / k.height < 0.9
    if not (10 < angle < 170) or not centred or not 0.8 < k.fx / k.fy < 1.25:
        detail = (
            f"field of view {angle:.0f} degrees, optical axis at ({k.cx:.0f}, {k.cy:.0f}) of {k.width}x{k.height} "
            f"px, fx / fy {k.fx / k.fy:.2f}"
        )
        return _found(Problem.CALIBRATION, camera.name, at, whole, detail)
    return []


def _twins(camera: RecordedCamera) -> list[Finding]:
    """Neighbouring pictures that are equal; a standing car's differ by their noise."""
    same, last = np.zeros(len(camera.times), bool), None
    for number in range(len(camera.frames)):
        picture = camera.frames[number]
        same[number] = last is not None and np.array_equal(picture, last)
        last = picture
    return _found(Problem.DUPLICATE, camera.name, camera.times, same, "the picture equals the one before it")


def _synchrony(log: CameraLog) -> list[Finding]:
    found: list[Finding] = []
    first = log.cameras[0]
    if len(first.times) < 2:
        return found
    usual = float(np.median(np.diff(first.times)))
    order = np.sort(first.times)
    for camera in log.cameras[1:]:
        after = np.clip(np.searchsorted(order, camera.times), 1, len(order) - 1)
        apart = np.minimum(np.abs(camera.times - order[after - 1]), np.abs(camera.times - order[after]))
        late = apart > 0.25 * usual
        detail = f"up to {apart.max():.4f} s from the nearest frame of {first.name!r}, whose steps are {usual:.4f} s"
        found += _found(Problem.UNSYNCHRONISED, camera.name, camera.times, late, detail)
    return found


def _poses(log: CameraLog) -> list[Finding]:
    whole = np.ones(1, bool)
    if log.poses is None:
        return _found(Problem.NO_POSES, "poses", log.cameras[0].times[:1], whole, "poses are needed")
    poses, found = log.poses, []
    for camera in log.cameras:
        bare = ~poses.covers(camera.times)
        detail = f"poses run from {poses.times[0]:.3f} to {poses.times[-1]:.3f} s"
        found += _found(Problem.POSE_COVERAGE, camera.name, camera.times, bare, detail)
    if len(poses.times) < 2:
        return found
    return found + _motion(poses)


def _motion(poses: Poses) -> list[Finding]:
    times, position = poses.times, poses.world_from_ego[:, :3, 3]
    step, speed, found = np.diff(times), poses.speed(), []
    usual = float(np.median(step))
    found += _time_unit("poses", times, usual, "poses", 1 / 5000, 20.0)
    gap = step > max(10 * usual, 1.0)
    found += _found(Problem.POSE_GAP, "poses", times[:-1], gap, f"the longest lasts {step.max():.2f} s")
    typical = float(np.median(speed))
    if typical > FASTEST:
        detail = f"half of all speeds exceed {typical:.4g} 'm/s'; the unit may be mm or cm"
        return found + _found(Problem.UNITS_POSE, "poses", times[:1], np.ones(1, bool), detail)
    way = float((speed * step).sum())
    if not way < LONGEST_WAY:
        detail = f"the car drives {way / 1e3:.4g} 'km', expected at most {LONGEST_WAY / 1e3:g} km"
        found += _found(Problem.UNITS_POSE, "poses", times[:1], np.ones(1, bool), detail)
    velocity = np.diff(position, axis=0) / step[:, None]
    change = np.zeros(len(step))
    between = np.maximum((step[1:] + step[:-1]) / 2, 1e-3)
    change[1:] = np.linalg.norm(np.diff(velocity, axis=0), axis=1) / between
    # What a few centimetres of noise make of short steps is no jump.
    beyond = (change > HARDEST) & (change * np.maximum(step, 1e-3) ** 2 > 0.3)
    relative = np.swapaxes(poses.world_from_ego[:-1, :3, :3], 1, 2) @ poses.world_from_ego[1:, :3, :3]
    spin = rotation_angle(relative)
    beyond |= (speed > FASTEST) | ((spin / step > QUICKEST_TURN) & (spin > 0.1))
    found += _found(
        Problem.POSE_JUMP, "poses", times[1:], (beyond & ~gap) | (speed > FASTEST),
        f"up to {speed.max():.1f} m/s, {change.max():.0f} m/s^2 and {(spin / step).max():.1f} rad/s between neighbours",
    )  # fmt: skip
    moving = speed > 1.0
    if not moving.any():
        reach = float(np.linalg.norm(position - position[0], axis=1).max())
        whole, turned = np.ones(1, bool), float(spin.sum())
        if turned > 0.3 and reach < 0.5 * turned:  # no car turns on the spot
            detail = f"the car turns by {turned:.2f} rad within {reach:.3g} 'm'; the unit may be km"
            return found + _found(Problem.UNITS_POSE, "poses", times[:1], whole, detail)
        if float(np.median(speed)) < STANDING and reach < 1.0:
            detail = f"the furthest pose is {reach:.3g} m from the first, or the unit is km"
            found += _found(Problem.NO_MOTION, "poses", times[:1], whole, detail)
        return found
    course = velocity[moving] / speed[moving, None]
    along = (course * poses.world_from_ego[:-1, :3, 0][moving]).sum(1)
    if np.median(along) < 0.9:
        detail = (
            f"the course is {math.degrees(math.acos(float(np.clip(np.median(along), -1, 1)))):.0f} degrees from the "
            "ego's forward axis; axes are swapped or mirrored, or the poses are inverted"
        )
        found += _found(Problem.AXES, "poses", times[:1], np.ones(1, bool), detail)
    return found
