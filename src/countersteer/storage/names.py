"""Names from data as names of files: nothing that a file says leads out of a folder or means something to a system."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["file_name", "free_path"]

_LONGEST = 120
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def file_name(name: str, otherwise: str) -> str:
    """A name with what could leave a folder, trouble a shell or mean a device replaced; at most 120 characters.

    Args:
        name: The name, as data states it.
        otherwise: What to take where nothing is left of it.
    """
    clean = re.sub(r"[^A-Za-z0-9._@+=-]+", "_", name).lstrip(".")[:_LONGEST].rstrip(".")
    if clean.startswith("-") or _RESERVED.fullmatch(clean):
        clean = f"_{clean}"[:_LONGEST]
    return clean or otherwise


def free_path(path: Path) -> Path:
    """The path itself where nothing is there, else the first of NAME-2, NAME-3 ... that is free."""
    number, free = 1, path
    while free.exists() or free.is_symlink():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free
