"""`countersteer data`: recorded drives, listed, inspected and imported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from countersteer.commands.flags import Json, keep_numbers
from countersteer.errors import UserError

__all__ = ["data_import", "data_inspect", "data_list"]


def _describe(path: str, scenario: Any) -> dict[str, Any]:
    return {
        "path": path,
        "id": scenario.id,
        "source": scenario.provenance.source,
        "licence": scenario.provenance.licence,
        "duration_s": round(scenario.duration, 2),
        "actors": len(scenario.tracks.ids),
        "map_features": len(scenario.road.features),
        "signals": len(scenario.signals.lane),
        "ego": None if scenario.ego is None else scenario.tracks.ids[scenario.ego],
        "notes": list(scenario.provenance.notes),
    }


def data_list(
    path: Annotated[Positional[Path | None], arg(metavar="[PATH]")] = None, *, json: Json = None
) -> int:
    """List the scenarios under a folder; without one, the bundled drive.

    Args:
        path: Folder or file.
    """
    from countersteer.commands import console
    from countersteer.data.readers import read, scan
    from countersteer.data.samples import recorded_drive

    rows, failed = [] if path is not None else [_describe("bundled", recorded_drive())], 0
    for drive in scan(path) if path is not None else []:
        try:
            rows.append(_describe(str(drive), read(drive)))
        except UserError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    if not rows and not failed:
        raise UserError(
            f"no scenario that we can read lies under {path}", fix="docs/formats.md lists the formats"
        )
    console.print_scenarios(rows)
    keep_numbers(json, rows)
    return 2 if failed else 0


def data_inspect(
    path: Annotated[Positional[Path], arg(metavar="PATH")], *, out: Path | None = None, json: Json = None
) -> int:
    """Say what is in a scenario or a camera log and draw it.

    Args:
        path: Scenario or camera log.
        out: Picture to write; default NAME.png here.
    """
    from countersteer.data import cameras, readers
    from countersteer.reporting.drawing import draw_scenario, save_picture

    drive = any(reader.matches(path) for reader in readers.READERS)
    if not drive and any(reader.matches(path) for reader in cameras.READERS):
        scenario = cameras.drive_of_log(cameras.read(path))
    else:
        scenario = readers.read(path)  # a number of many, or nothing that is known, which it says
    described = _describe(str(path), scenario)
    for key, value in described.items():
        print(f"{key:13} {value if key != 'notes' else ''}")
    for note in described["notes"]:
        print(f"  - {note}")
    picture = out or Path(f"{scenario.id}.png")
    save_picture(draw_scenario(scenario), picture)
    print(f"wrote {picture}")
    keep_numbers(json, described)
    return 0


def data_import(path: Annotated[Positional[Path], arg(metavar="PATH")], *, out: Path) -> int:
    """Convert scenarios into our own form; repeated, it goes on.

    Args:
        path: A drive, or a file or folder of many.
        out: New folder; for many drives, the folder of their folders.
    """
    from countersteer.data.importing import Outcome, import_drives
    from countersteer.data.readers import read, scan
    from countersteer.scenarios import storage

    # A single drive goes to the folder that is named, of many each gets a folder below it.
    found = scan(path) if path.exists() else []
    if found == [path] or (not found and not path.is_dir()):
        print(f"wrote {storage.save(read(path), out)}")
        return 0
    failed = written = count = 0
    for drive in import_drives(path, out):
        count, place = drive.count, f"[{drive.number}/{drive.count}]"
        if drive.outcome is Outcome.FAILED:
            failed += 1
            print(f"{place} error: {drive.error}", file=sys.stderr, flush=True)
        else:
            written += drive.outcome is Outcome.WRITTEN
            print(f"{place} {drive.outcome.value} {drive.folder} ({drive.seconds:.1f} s)", flush=True)
    print(f"{written} written, {count - written - failed} there already, {failed} failed")
    return 2 if failed else 0
