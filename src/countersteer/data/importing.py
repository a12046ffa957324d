"""Importing: many recorded drives into folders of our own form, one at a time, to be gone on with at any moment.

Every drive is written whole or not at all. What is finished stands in a journal beside the folders, so an import that
was interrupted goes on where it was, without reading again what it has.
"""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from countersteer.data.readers import read, scan
from countersteer.data.readers.source import split_number
from countersteer.errors import UserError, reading, writing
from countersteer.scenarios import storage
from countersteer.storage.files import exists, read_bytes
from countersteer.storage.locks import holding
from countersteer.storage.names import file_name

__all__ = ["JOURNAL", "Imported", "Outcome", "import_drives"]

JOURNAL = ".imported.jsonl"
"""File in the destination that lists what was imported: a line of JSON for each drive."""


class Outcome(Enum):
    """What became of a drive."""

    WRITTEN = "wrote"
    THERE = "there already"
    FAILED = "failed"


@dataclass(frozen=True)
class Imported:
    """One drive of an import.

    Attributes:
        source: What was read.
        outcome: What became of it.
        number, count: Which of how many drives, from 1.
        seconds: Time it took [s].
        folder: Where it is now; None if it failed.
        error: Why it failed, else None.
    """

    source: Path
    outcome: Outcome
    number: int
    count: int
    seconds: float
    folder: Path | None = None
    error: UserError | None = None


def import_drives(source: str | Path, destination: str | Path) -> Iterator[Imported]:
    """Import all drives at or below `source`, yielding each when it is done; a failed one does not stop the others.

    Drive by drive a folder is written into `destination`, named by the scenario's id; where two drives have one id, the
    second gets a piece of its fingerprint too. Drives that an earlier call imported are not read again as long as size and
    time of their files are what they were.

    Raises:
        UserError: Nothing that can be read lies there, the destination is a drive, somebody else imports into it, or the
            journal cannot be read or written.
    """
    destination = Path(destination)
    paths = scan(source)
    if not paths:
        raise UserError(
            f"nothing that we can read lies under {source}", fix="docs/formats.md lists the formats"
        )
    if storage.matches(destination):
        raise UserError(
            f"{destination} is a drive itself",
            expected="the folder for the drives' folders",
            fix=f"import into {destination.parent}, or into a new folder",
        )
    with holding(destination):
        journal = _Journal(destination)
        for number, path in enumerate(paths, 1):
            start = time.perf_counter()
            folder, error, outcome = None, None, Outcome.FAILED
            try:
                with reading(path, "cannot be imported", fix="check the free space and the permissions"):
                    outcome, folder = _import(path, destination, journal)
            except UserError as caught:
                error = caught
            yield Imported(path, outcome, number, len(paths), time.perf_counter() - start, folder, error)


def _import(path: Path, destination: Path, journal: _Journal) -> tuple[Outcome, Path]:
    known = journal.folder_of(path)
    if known is not None:
        return Outcome.THERE, known
    scenario = read(path)
    name = file_name(scenario.id, scenario.provenance.fingerprint[:16])
    for folder in (destination / name, destination / f"{name}-{scenario.provenance.fingerprint[:8]}"):
        if not folder.exists():
            for draft in destination.glob(f".{glob.escape(folder.name)}.*"):
                shutil.rmtree(draft, ignore_errors=True)  # left by an import that was killed
            storage.save(scenario, folder)
            journal.add(path, folder)
            return Outcome.WRITTEN, folder
        if storage.matches(folder) and storage.load(folder).fingerprint() == scenario.fingerprint():
            journal.add(path, folder)
            return Outcome.THERE, folder
    raise UserError(
        f"{path}: a different scenario of the name {name!r} is in {destination} already",
        expected="a new name for each scenario",
        fix="remove that folder, or import into another one",
    )


class _Journal:
    """What was imported into a folder: for each source, the state its files were in and the folder's name."""

    def __init__(self, destination: Path):
        self._path = destination / JOURNAL
        self._stamps: dict[Path, str] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        with reading(self._path, "cannot be read", fix="remove it; the import starts over"):
            lines = read_bytes(self._path).decode().splitlines() if exists(self._path) else []
        for line in lines:
            try:
                entry = json.loads(line)
                self._entries[entry["source"]] = {key: str(entry[key]) for key in ("stamp", "folder")}
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # the last line of an import that was killed; its drive is read again

    def folder_of(self, path: Path) -> Path | None:
        """Where a source was imported to, None if it was not or the folder is gone.

        Raises:
            UserError: The source has changed since then.
        """
        entry = self._entries.get(str(path.absolute()))
        if entry is None:
            return None
        folder = self._path.parent / Path(entry["folder"]).name
        if not storage.matches(folder):
            return None
        if entry["stamp"] != self._stamp(path):
            raise UserError(
                f"{path} has changed since it was imported into {folder}",
                got="files of another size or time",
                expected="what was imported",
                fix=f"remove {folder} to import it again",
            )
        return folder

    def add(self, path: Path, folder: Path) -> None:
        entry = {"source": str(path.absolute()), "stamp": self._stamp(path), "folder": folder.name}
        with writing(self._path):
            # A line that was cut short by an earlier kill gets its end first.
            torn = self._path.exists() and self._path.read_bytes()[-1:] not in (b"", b"\n")
            with self._path.open("a", encoding="utf-8") as file:
                file.write(("\n" if torn else "") + json.dumps(entry) + "\n")
        self._entries[entry["source"]] = entry

    def _stamp(self, path: Path) -> str:
        """Names, sizes and times of a source's files in a few letters."""
        file = split_number(path)[0]
        if file not in self._stamps:
            digest = hashlib.sha256()
            for part in sorted(file.rglob("*")) if file.is_dir() else [file]:
                if part.is_file():
                    about = part.stat()
                    digest.update(
                        f"{part.relative_to(file.parent)} {about.st_size} {about.st_mtime_ns}\n".encode(
                            "utf-8", "surrogateescape"
                        )
                    )
            self._stamps[file] = digest.hexdigest()[:16]
        return self._stamps[file]
