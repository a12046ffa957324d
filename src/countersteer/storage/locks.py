"""Folders that one process works in at a time.

The lock is the kernel's (`flock` on a file in the folder): it ends with the process that holds it, however that dies, so a
file that was left behind never blocks anybody. Processes in containers and on other hosts of a shared disk meet it too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from countersteer.errors import UserError, writing

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

__all__ = ["LOCK", "Held", "holding"]

LOCK = ".in_use"
"""Name of the file; it is there as long as the folder is held, and after a kill until the next one holds it."""

_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_descriptors: set[int] = set()


class Held:
    """A folder while it is held."""

    def __init__(self, folder: Path, descriptor: int):
        self.folder, self._descriptor = folder, descriptor

    def check(self) -> None:
        """Refuse to go on in a folder that was removed or replaced meanwhile.

        Raises:
            UserError: It was.
        """
        if not _same(self.folder / LOCK, self._descriptor):
            raise UserError(
                f"the folder {self.folder} was removed or replaced while it was worked in",
                got="another folder of this name" if self.folder.exists() else "no folder of this name",
                expected="to be left alone",
                fix="begin again, in a folder that stays",
            )


@contextlib.contextmanager
def holding(folder: str | Path, tell: Callable[[str], None] = lambda _: None) -> Iterator[Held]:
    """Hold a folder, made if need be, for as long as the block lasts; a folder made here and left empty is removed.

    Args:
        folder: What to hold.
        tell: Told where the disk has no locks; the block runs all the same.

    Raises:
        UserError: Somebody else holds it, or it cannot be written.
    """
    folder = Path(folder)
    made = not folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(folder, tell)
    _descriptors.add(descriptor)
    try:
        with contextlib.suppress(OSError):  # a full disk; it is held all the same
            os.truncate(descriptor, 0)
            os.write(descriptor, json.dumps(_holder()).encode())
        yield Held(folder, descriptor)
    finally:
        with contextlib.suppress(OSError):
            if _same(folder / LOCK, descriptor):
                (folder / LOCK).unlink()
            if made:
                folder.rmdir()  # which only an empty one can be
        _descriptors.discard(descriptor)
        os.close(descriptor)


def _locked(folder: Path, tell: Callable[[str], None]) -> int:
    """A descriptor of the folder's lock file, locked."""
    file = folder / LOCK
    while True:
        # For all users: a file that one of them left behind must not block the others.
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, 0o666)
            _lock(descriptor, folder, tell)
            # One that was held until now may have been removed with the end of its holder.
            if _same(file, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, tell: Callable[[str], None]) -> None:
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "this system has none")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD:
            tell(f"no locks on this disk ({error.strerror}): see to it that nobody else writes into {folder}")
            return
        raise UserError(
            f"{folder} is in use",
            got=_said(os.pread(descriptor, 4096, 0)),
            expected="a folder that nobody else is writing into",
            fix="wait for the other one to end, or choose another folder",
        ) from None


def _same(file: Path, descriptor: int) -> bool:
    """Whether the file is still the one that is open."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _holder() -> dict[str, object]:
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:1000]
    return {"process": os.getpid(), "host": socket.gethostname(), "since": since, "command": command}


def _said(content: bytes) -> str:
    """Who holds it, in words."""
    try:
        who = json.loads(content)
        return f"process {who['process']} on {who['host']} works in it since {who['since']}: {who['command']}"
    except (ValueError, KeyError, TypeError):
        return "another process works in it"


def _let_go() -> None:
    # A forked child shares the lock and could outlive the one that holds it.
    for descriptor in _descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
