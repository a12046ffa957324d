"""`countersteer data`: recorded drives, listed, inspected and imported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from countersteer.commands.flags import Json, Written, keep_numbers
from countersteer.errors import UserError, shown

__all__ = ["data_import", "data_inspect", "data_list"]


def data_list(
    path: Annotated[Positional[Path | None], arg(metavar="[PATH]")] = None, *, json: Json = None
) -> int:
    """List the scenarios under a folder; without one, the bundled drive.

    Args:
        path: Folder or file.
    """
    from countersteer.data.readers import read, scan
    from countersteer.data.samples import recorded_drive
    from countersteer.reporting.terminal import print_scenarios, scenario_row

    rows, failed = [] if path is not None else [scenario_row("bundled", recorded_drive())], 0
    for drive in scan(path) if path is not None else []:
        try:
            rows.append(scenario_row(str(drive), read(drive)))
        except UserError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    if not rows and not failed:
        what = f"no scenario that we can read lies under {path}"
        raise UserError(what, fix="docs/formats.md lists the formats")
    print_scenarios(rows)
    keep_numbers(json, rows)
    return 2 if failed else 0


def data_inspect(
    path: Annotated[Positional[Path], arg(metavar="PATH")],
    *,
    out: Annotated[Path | None, Written.FILE] = None,
    json: Json = None,
) -> None:
    """Say what is in a scenario or a camera log and draw it.

    Args:
        path: Scenario or camera log.
        out: Picture to write; default NAME.png here, or NAME-2.png where that is there.
    """
    from countersteer.data import cameras, readers
    from countersteer.reporting.drawing import draw_scenario, save_picture
    from countersteer.reporting.terminal import print_scenario, scenario_row
    from countersteer.storage.names import file_name, free_path

    drive = any(readers.matches(reader, path) for reader in readers.available_readers())
    if not drive and cameras.is_log(path):
        scenario = cameras.drive_of_log(cameras.read(path))
    else:
        scenario = readers.read(path)  # a number of many, or nothing that is known, which it says
    row = scenario_row(str(path), scenario)
    print_scenario(row)
    # A name out of a file leads nowhere else and replaces nothing.
    picture = out or free_path(Path(f"{file_name(scenario.id, scenario.provenance.fingerprint[:16])}.png"))
    save_picture(draw_scenario(scenario), picture)
    print(shown(f"wrote {picture}"))
    keep_numbers(json, row)


def data_import(
    path: Annotated[Positional[Path], arg(metavar="PATH")], *, out: Annotated[Path, Written.FOLDER]
) -> int:
    """Convert scenarios into our own form; repeated, it goes on.

    Args:
        path: A drive, or a file or folder of many.
        out: New folder; for many drives, the folder of their folders.
    """
    from countersteer.data.importing import import_drives
    from countersteer.data.readers import read, scan
    from countersteer.reporting.terminal import print_imported
    from countersteer.scenarios import storage
    from countersteer.storage.files import exists

    # A single drive goes to the folder that is named, of many each gets a folder below it.
    found = scan(path) if exists(path) else []
    if found == [path] or (not found and not path.is_dir()):
        print(shown(f"wrote {storage.save(read(path), out)}"))
        return 0
    return 2 if print_imported(import_drives(path, out)) else 0
