"""Readers of street networks: one file a format, found by content.

To add a format, write a module with a `READER` whose `read` gives a `RoadNetwork`, and add it to `READERS`. What every
form may have wrong (gaps, doubled points, connections that lead nowhere) is found and mended in `checks`.
"""

from __future__ import annotations

from pathlib import Path

from countersteer.data.readers.source import Reader, matches, read_by, unknown_format
from countersteer.data.roads import apollo, commonroad, lanelet2, opendrive, packed, racetrack, sumo
from countersteer.data.roads.checks import checked
from countersteer.errors import UserError, reading
from countersteer.scenarios.network import RoadNetwork
from countersteer.storage.files import check_readable, exists, head

__all__ = ["READERS", "read", "scan"]

READERS: tuple[Reader[RoadNetwork], ...] = (
    packed.READER,
    sumo.READER,
    apollo.READER,
    opendrive.READER,
    lanelet2.READER,
    commonroad.READER,
    racetrack.READER,
)


def read(path: str | Path) -> RoadNetwork:
    """The street network in a file of any known format, checked; `provenance.notes` says what was wrong with it.

    Raises:
        UserError: Nothing is there, no format matches, or what is there is damaged or has no lane that can be driven.
    """
    path = Path(path)
    if not exists(path):
        raise UserError(f"{path} does not exist", fix="check the path")
    for reader in READERS:
        if matches(reader, path):
            with reading(path, "holds no streets", expected="lanes that can be driven", fix=None):
                return checked(read_by(reader, path))
    check_readable(path)
    if path.is_file() and b"<osm" in head(path)[:2000]:
        raise UserError(
            f"{path} is an OpenStreetMap extract, which has no lanes",
            got="ways with tags",
            expected="lanes with connections",
            fix="let SUMO derive them: netconvert --osm-files FILE -o FILE.net.xml (docs/roads.md)",
        )
    raise unknown_format(
        f"{path} is a {'folder' if path.is_dir() else 'file'} of no known form of street network",
        READERS,
        "docs/formats.md says what each form looks like; the maps of a folder are read one by one",
    )


def scan(folder: str | Path) -> list[Path]:
    """Paths of all street networks at or below `folder`, sorted; links to folders and hidden files are left out."""
    folder = Path(folder)
    check_readable(folder)
    files = (
        sorted(each for each in folder.rglob("*") if each.is_file() and not _hidden(each.relative_to(folder)))
        if folder.is_dir()
        else [folder]
    )
    return [file for file in files if any(matches(reader, file) for reader in READERS)]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
