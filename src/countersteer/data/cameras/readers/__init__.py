"""Readers of camera logs: one file a format, found by content.

To add a format, write a module with a `READER` and add it to `READERS`.
"""

from __future__ import annotations

from pathlib import Path

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
from countersteer.data.readers.source import Reader, exists
from countersteer.errors import UserError

__all__ = ["READERS", "read"]

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


def read(path: str | Path) -> CameraLog:
    """The camera log in a file or folder of any known format. No picture but the first is decoded.

    Raises:
        UserError: Nothing is there, no format matches, or what is there is damaged or cannot be true.
    """
    path = Path(path)
    if not exists(path):
        raise UserError(f"{path} does not exist", fix="check the path")
    for reader in READERS:
        if reader.matches(path):
            return reader.read(path)
    raise UserError(
        f"{path} holds no camera log of a known format",
        got="\n            ".join(f"not {reader.name}: that is {reader.looks_like}" for reader in READERS),
        expected=f"one of: {', '.join(reader.name for reader in READERS)}",
        fix="docs/formats.md says what each format looks like",
    )
