"""Readers of recorded drives: one file a format, found by content.

To add a format, write a module with a `READER` (see `source.Reader`) and add it to `READERS`; another package brings
one as an entry point of the group `countersteer.readers` (see `extensions`).
"""

from __future__ import annotations

from pathlib import Path

from countersteer import extensions
from countersteer.data.readers import (
    argoverse2_motion,
    argoverse2_sensor,
    comma2k19,
    interaction,
    kitti_poses,
    log123d,
    lyft5,
    scenarionet,
    waymo_json,
    waymo_tfrecord,
)
from countersteer.data.readers.source import Reader, drives_by, matches, read_by, split_number, unknown_format
from countersteer.errors import UserError
from countersteer.scenarios import storage
from countersteer.scenarios.scenario import Scenario
from countersteer.storage.files import check_readable, exists

__all__ = ["READERS", "Reader", "available_readers", "matches", "read", "scan"]

READERS: tuple[Reader[Scenario], ...] = (
    Reader(
        "countersteer", "a folder written by countersteer (with scenario.json)", storage.matches, storage.load
    ),
    comma2k19.READER,
    waymo_json.READER,
    waymo_tfrecord.READER,
    scenarionet.READER,
    argoverse2_motion.READER,
    argoverse2_sensor.READER,
    lyft5.READER,
    kitti_poses.READER,
    log123d.READER,
    interaction.READER,
)


def available_readers() -> tuple[Reader[Scenario], ...]:
    """The readers above, then those of other packages."""
    return (*READERS, *extensions.load("countersteer.readers", (reader.name for reader in READERS)).values())


def read(path: str | Path) -> Scenario:
    """The scenario in a file or folder of any known format; `file#3` is drive 3 (from 0) of a file with many.

    Raises:
        UserError: Nothing is there, no format matches, or what is there is damaged or cannot be true.
    """
    path = Path(path)
    file = path if exists(path) else split_number(path)[0]
    if not exists(file):
        raise UserError(f"{path} does not exist", fix="check the path")
    for reader in available_readers():
        if matches(reader, file):
            if file != path and reader.drives is Reader.drives:
                raise UserError(f"{path}: {file.name} is one drive", expected=f"the path {file}")
            return read_by(reader, path)
    check_readable(file)
    kind = "folder" if path.is_dir() else "file"
    raise unknown_format(
        f"{path} is a {kind} of no known format",
        available_readers(),
        "docs/formats.md says what each format looks like; a folder of many drives is read one by one",
    )


def scan(folder: str | Path) -> list[Path]:
    """Paths of all drives at or below `folder`, sorted; each can be given to `read`.

    A match is not searched further. Files and folders whose name begins with a dot are left out, and so are links to
    folders and what is neither file nor folder. What may not be looked at is among the paths: reading it says why.
    """
    folder = Path(folder)
    if not exists(folder):
        raise UserError(f"{folder} does not exist", fix="check the path")
    if not folder.is_dir():
        if (drives := _drives(folder)) is None:
            check_readable(folder)
        return drives or []
    check_readable(folder)
    found: list[Path] = []
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        drives = _drives(path)
        if drives is not None:
            found += drives
            continue
        try:
            inside = sorted(path.iterdir()) if path.is_dir() else []
            # Links to folders are left alone, they may lead back up.
            waiting += [
                each
                for each in reversed(inside)
                if not each.name.startswith(".")
                if each.is_file() or (each.is_dir() and not each.is_symlink())
            ]
        except OSError:
            found.append(path)
    return found


def _drives(path: Path) -> list[Path] | None:
    """The drives in what some reader reads; None for anything else."""
    for reader in available_readers():
        if matches(reader, path):
            try:
                return drives_by(reader, path)
            except UserError:
                return [path]  # reading it says what is wrong
    return None
