"""Readers of camera logs: one file a format, found by content.

To add a format, write a module with a `READER` and add it to `READERS`; another package brings one as an entry
point of the group `countersteer.camera_readers` (see `extensions`).
"""

from __future__ import annotations

from pathlib import Path

from countersteer import extensions
from countersteer.data.cameras.log import CameraLog
from countersteer.data.cameras.readers import (
    comma2k19,
    ddad,
    kitti_odometry,
    kitti_raw,
    nuscenes,
    plain,
    radiate,
)
from countersteer.data.readers.source import Reader, matches, read_by, unknown_format
from countersteer.errors import UserError
from countersteer.storage.files import check_readable, exists

__all__ = ["READERS", "available_readers", "is_log", "read"]

READERS: tuple[Reader[CameraLog], ...] = (
    plain.READER,
    kitti_odometry.READER,
    kitti_raw.READER,
    radiate.READER,
    ddad.READER,
    nuscenes.READER,
    comma2k19.READER,
    plain.BARE_VIDEO,
)


def available_readers() -> tuple[Reader[CameraLog], ...]:
    """The readers above, then those of other packages."""
    own = (reader.name for reader in READERS)
    return (*READERS, *extensions.load("countersteer.camera_readers", own).values())


def is_log(path: Path) -> bool:
    """Whether some reader knows what is at a path."""
    return any(matches(reader, path) for reader in available_readers())


def read(path: str | Path) -> CameraLog:
    """The camera log in a file or folder of any known format. No picture but the first is decoded.

    Raises:
        UserError: Nothing is there, no format matches, or what is there is damaged or cannot be true.
    """
    path = Path(path)
    if not exists(path):
        raise UserError(f"{path} does not exist", fix="check the path")
    for reader in available_readers():
        if matches(reader, path):
            return read_by(reader, path)
    check_readable(path)
    raise unknown_format(
        f"{path} holds no camera log of a known format",
        available_readers(),
        "docs/formats.md says what each format looks like",
    )
