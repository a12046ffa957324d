"""Recordings of the user's own: which of them a recipe can drive in, and why not in the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from countersteer.data import cameras
from countersteer.data.sources import CameraDrive, ScenarioFolder
from countersteer.errors import UserError
from countersteer.scenarios.scenario import Scenario
from countersteer.storage.files import check_readable
from countersteer.worlds.world import WorldSpec

__all__ = ["camera_drives", "drivable_scenarios"]


def drivable_scenarios(folder: Path, world: WorldSpec, message: Callable[[str], None]) -> ScenarioFolder:
    """Scenarios under a folder in which at least one car can begin.

    Args:
        folder: Scenarios in any format that is read, for example what `countersteer data import` wrote.
        world: World to drive in.
        message: Told which are left out, and why.

    Raises:
        UserError: There is no such folder, nothing in it can be read, or nobody can begin anywhere.
    """
    left_out = []
    found = ScenarioFolder(str(folder)).load()
    for scenario in found:
        why = _obstacle(scenario, world)
        if why:
            left_out.append(scenario.id)
            message(f"left out: {why}")
    if len(left_out) == len(found):
        raise UserError(
            f"none of the scenarios in {folder} can be driven",
            got=f"{len(found)} scenarios, all left out",
            expected="a road, and a recorded car that moves along it",
            fix="countersteer data inspect PATH shows what is in one",
        )
    message(f"{len(found) - len(left_out)} of {len(found)} scenarios in {folder} can be driven")
    return ScenarioFolder(str(folder), left_out=tuple(left_out))


def camera_drives(folder: Path, message: Callable[[str], None]) -> list[CameraDrive]:
    """The camera log at a path, or those in a folder, that have a drive in them.

    Args:
        folder: A log, or a folder of logs, in any format that `countersteer.data.cameras` reads.
        message: Told which are left out, and why.

    Raises:
        UserError: There is no log that can be driven; of a single one, what it lacks.
    """
    check_readable(folder)
    inside = sorted(folder.iterdir()) if folder.is_dir() and not cameras.is_log(folder) else []
    logs = [path for path in inside if cameras.is_log(path)]
    drives = []
    for path in logs or [folder]:
        try:
            log = cameras.read(path)
            cameras.check(log).require_usable()
            cameras.drive_of_log(log)
            drives.append(CameraDrive(str(path)))
        except UserError as error:
            if not logs:
                raise
            message(f"left out: {error.what}")
    if not drives:
        raise UserError(
            f"none of the camera logs in {folder} can be driven",
            got=f"{len(logs)} logs, all left out",
            expected="frames, a calibration and poses",
            fix="docs/formats.md says what a log needs",
        )
    return drives


def _obstacle(scenario: Scenario, world: WorldSpec) -> str:
    """Why nobody can begin there, or nothing."""
    try:
        built = world.build([scenario], 1, 0)
        built.reset(torch.ones(1, dtype=torch.bool), built.draw_starts(torch.zeros(1, dtype=torch.long)))
    except UserError as error:
        return error.what
    return "" if bool(built.alive().any()) else f"nobody can begin in {scenario.id}"
